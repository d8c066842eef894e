"""A Loki in memory that answers as the real one does, with its limits and its known faults switched on by a test."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from pipeline.model import Entry
from pipeline.sources.http import Reply
from pipeline.sources.loki import Loki
from tests.faults import Answers, Form

MINUTE = 60 * 10**9
START = 1_772_096_400 * 10**9  # 2026-02-26T09:00:00Z, 19 digits of nanoseconds
SELECTOR = '{namespace="codex-k8s-prod"}'
_COUNT = re.compile(r"sum\(count_over_time\(.*\[(\d+)(ms|s)\]\)\)")
_UNIT = {"ms": 10**6, "s": 10**9}
Before: TypeAlias = Callable[[str, Form], Any]


@dataclass
class FakeLoki:
    """Holds entries, each once, and answers `query_range` and `query`.

    `server_limit` is its `max_entries_limit_per_query`; `repeats`: how often it gives and counts each entry; with
    `loses_at_start` it never gives an entry that lies at `start`; with `counts_lines` it counts entries that differ in
    metadata alone as one. `before` may answer, or change what is held, before a question is looked at.
    """

    entries: Iterable[Entry] = ()
    server_limit: int = 5000
    repeats: int = 1
    loses_at_start: bool = False
    counts_lines: bool = False
    before: Before = lambda _path, _form: None
    fetched: list[tuple[int, int]] = field(default_factory=list)

    def loki(self, limit: int = 5000) -> tuple[Loki, Answers]:
        """Return a client of this server and its door."""
        door = Answers(self.answer)
        return Loki(door, SELECTOR, f"sum(count_over_time({SELECTOR}[${{range}}]))", limit), door

    def answer(self, path: str, form: Form) -> Any:
        """Answer a question as Loki would."""
        said = self.before(path, form)
        if said is not None:
            return said
        counting = _COUNT.fullmatch(form["query"])
        if not counting:
            return self._lines(form)
        width = int(counting[1]) * _UNIT[counting[2]]
        assert width > 0
        if path == "/loki/api/v1/query":
            value = self._count(int(form["time"]) - width, int(form["time"]))
            return success("vector", [{"metric": {}, "value": [0, str(value)]}] if value else [])
        assert form["step"] == "60s"
        steps = range(int(form["start"]), int(form["end"]) + 1, 60 * 10**9)
        values = [[t // 10**9, str(n)] for t in steps if (n := self._count(t - width, t))]
        return success("matrix", [{"metric": {}, "values": values}] if values else [])

    def _count(self, after: int, until: int) -> int:
        inside = [e for e in self.entries if after < e.ts <= until]
        each = [identity(e)[:3] if self.counts_lines else identity(e) for e in inside]
        return self.repeats * len(set(each))

    def _lines(self, form: Form) -> Any:
        start, end, limit = int(form["start"]), int(form["end"]), int(form["limit"])
        assert form["direction"] == "forward"
        self.fetched.append((start, end))
        if limit > self.server_limit:
            said = "max entries limit per query exceeded, limit > max_entries_limit_per_query"
            return Reply(400, {}, f"{said} ({limit} > {self.server_limit})".encode())
        found = sorted((e for e in self.entries if start <= e.ts < end), key=lambda e: (e.ts, sorted(e.labels.items())))
        found = [e for e in found if not (self.loses_at_start and e.ts == start)]
        return lines([e for e in found for _ in range(self.repeats)][:limit])


def entry(
    offset: int, line: str = "x", labels: Mapping[str, str] | None = None, metadata: Mapping[str, str] | None = None
) -> Entry:
    """Return an entry, `offset` nanoseconds after START."""
    return Entry(START + offset, line, labels or {"app": "a"}, metadata or {})


def identity(e: Entry) -> tuple[Any, ...]:
    """Return what makes an entry the one it is."""
    return e.ts, e.line, tuple(sorted(e.labels.items())), tuple(sorted(e.metadata.items()))


def success(kind: str, result: Sequence[Any], **more: Any) -> dict[str, Any]:
    """Return an answer of Loki."""
    return {"status": "success", "data": {"resultType": kind, "result": result}, **more}


def lines(entries: Iterable[Entry], **more: Any) -> dict[str, Any]:
    """Return entries as Loki gives them: grouped by stream, metadata apart."""
    streams: dict[tuple[tuple[str, str], ...], list[Any]] = {}
    for e in entries:
        apart = {"structuredMetadata": dict(e.metadata)} if e.metadata else {}
        streams.setdefault(tuple(sorted(e.labels.items())), []).append([str(e.ts), e.line, apart])
    return success("streams", [{"stream": dict(k), "values": v} for k, v in sorted(streams.items())], **more)
