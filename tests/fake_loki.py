"""A Loki in memory that answers as the real one does, with its limits and its known faults switched on by a test.

It understands the LogQL that the client writes and no more: any other question fails the test that asked it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeAlias

import numpy as np

from pipeline import catalog
from pipeline.model import NS, Entry, Pairs, Window
from pipeline.sources.http import Reply
from pipeline.sources.loki import plan
from pipeline.sources.loki.client import STEP_NS, Loki, Texts
from pipeline.sources.loki.reading import Part, Reader, Tally
from pipeline.sources.loki.streams import Streams
from tests.fake_logql import Held, Question, parsed
from tests.faults import Answers, Form

MINUTE = 60 * NS
START = 1_772_096_400 * NS  # 2026-02-26T09:00:00Z, 19 digits of nanoseconds
NAMESPACE = "prod"
SELECTOR = f'{{namespace="{NAMESPACE}"}}'
RANGE, INSTANT, SERIES = (f"/loki/api/v1/{name}" for name in ("query_range", "query", "series"))
_LIMITS, _BUILD = "/loki/api/v1/drilldown-limits", "/loki/api/v1/status/buildinfo"
_FLAG = "X-Loki-Response-Encoding-Flags"
_LONGEST = 131_072  # bytes of a query
_MS = 10**6
Before: TypeAlias = Callable[[str, Form], Any]
Identity: TypeAlias = tuple[int, str, Pairs, Pairs]


@dataclass
class FakeLoki:
    """Holds entries, each once, and answers what the client asks.

    `server_limit` is its `max_entries_limit_per_query`; `repeats`: how often it gives each entry, `counts` how often it
    counts it, which is as often unless said; with `counts_lines` it counts entries that differ in metadata alone as one;
    with `loses_at_start` no log query gives an entry that lies at its `start`, nor ever one at an instant of `hidden`.
    An answer with more than `largest` characters is refused, or empty where metadata is kept apart. `before` may answer,
    or change what is held, before a question is looked at.
    """

    entries: Iterable[Entry] = ()
    server_limit: int = 5000
    repeats: int = 1
    counts: int | None = None
    counts_lines: bool = False
    loses_at_start: bool = False
    hidden: frozenset[int] = frozenset()
    largest: int = 1 << 40
    most_series: int = 500
    before: Before = lambda _path, _form: None
    fetched: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.door = Answers(self.answer)

    def loki(self, limit: int = 5000, selector: str = SELECTOR) -> Loki:
        """Return a client of this server; what it asks, `door` remembers."""
        return Loki(self.door, texts(), selector, "app", limit)

    def answer(self, path: str, form: Form) -> Any:
        """Answer a question as Loki would."""
        said = self.before(path, form)
        if said is not None:
            return said
        answers: Mapping[str, Callable[[Form], Any]] = {
            RANGE: self._range,
            INSTANT: self._instant,
            SERIES: self._series,
            _LIMITS: lambda _: {"limits": {"max_entries_limit_per_query": self.server_limit}, "version": "3.7.8"},
            _BUILD: lambda _: {"version": "3.7.8"},
        }
        if len(form.get("query", "").encode()) > _LONGEST:
            return Reply(400, {}, b"parse error : input size too long")
        return answers[path](form)

    def chosen(self, asked: Question, start: int, end: int) -> list[Held]:
        """Return what lies in `[start, end)` and is asked for, in Loki's order."""
        inside = {identity(e): e for e in self.entries if start <= e.ts < end}
        found = [h for h in map(held, inside.values()) if asked.holds(h)]
        return sorted(found, key=lambda h: (h.entry.ts, sorted(h.entry.labels.items())))

    def _series(self, form: Form) -> Any:
        start, end = int(form["start"]), int(form["end"])
        # the index knows milliseconds, and its end is inclusive
        inside = self.chosen(parsed(form["match[]"]), start // _MS * _MS, (end // _MS + 1) * _MS)
        return {"status": "success", "data": [dict(s) for s in sorted({identity(h.entry)[2] for h in inside})]}

    def _counted(self, found: Iterable[Held]) -> int:
        each = {identity(h.entry)[: 3 if self.counts_lines else 4] for h in found}
        return len(each) * (self.repeats if self.counts is None else self.counts)

    def _range(self, form: Form) -> Any:
        asked = parsed(form["query"])
        if not asked.width:
            return self._lines(asked, form)
        assert (asked.width, form["step"]) == (STEP_NS, "10s")
        start, end = int(form["start"]), int(form["end"])
        assert start % STEP_NS == end % STEP_NS == 0
        series: dict[str, dict[int, list[Held]]] = {}
        for h in self.chosen(asked, start - STEP_NS + 1, end + 1):
            name = h.merged.get(asked.by or "", "")
            series.setdefault(name, {}).setdefault(-(-h.entry.ts // STEP_NS) * 10, []).append(h)
        if asked.by and len(series) > self.most_series:
            return too_many_series(self.most_series)
        result = [
            {
                "metric": {asked.by: name} if asked.by and name else {},
                "values": [[t, str(self._counted(s))] for t, s in steps.items()],
            }
            for name, steps in sorted(series.items())
        ]
        return success("matrix", result)

    def _instant(self, form: Form) -> Any:
        asked, at = parsed(form["query"]), int(form["time"])
        assert asked.width
        assert asked.by is None
        found = self.chosen(asked, at - asked.width + 1, at + 1)
        if asked.summed:
            n = self._counted(found)
            return success("vector", [{"metric": {}, "value": [at / NS, str(n)]}] if n else [])
        if (size := _size(found)) > self.largest:
            return too_large(size, self.largest)
        shown: dict[Pairs, list[Held]] = {}
        for h in found:
            shown.setdefault(tuple(sorted((k, v) for k, v in asked.seen(h).items() if v)), []).append(h)
        if len(shown) > self.most_series:
            return too_many_series(self.most_series)
        result = [{"metric": dict(s), "value": [at / NS, str(self._counted(of))]} for s, of in sorted(shown.items())]
        return success("vector", result)

    def _lines(self, asked: Question, form: Form) -> Any:
        start, end, limit = int(form["start"]), int(form["end"]), int(form["limit"])
        assert form["direction"] == "forward"
        assert set(form) == {"query", "start", "end", "limit", "direction"}
        assert start < end
        self.fetched.append((start, end))
        if limit > self.server_limit:
            said = "max entries limit per query exceeded, limit > max_entries_limit_per_query"
            return Reply(400, {}, f"{said} ({limit} > {self.server_limit})".encode())
        found = [h for h in self.chosen(asked, start, end) if h.entry.ts not in self.hidden]
        found = [h for h in found if not (self.loses_at_start and h.entry.ts == start)]
        given = [h for h in found for _ in range(self.repeats)][:limit]
        apart = _FLAG in self.door.asked[-1].headers
        size = _size(given)
        if size > self.largest and not apart:
            return too_large(size, self.largest)
        return lines([] if size > self.largest else taken(given), apart=apart)


def entry(
    offset: int, line: str = "x", labels: Mapping[str, str] | None = None, metadata: Mapping[str, str] | None = None
) -> Entry:
    """Return an entry, `offset` nanoseconds after START."""
    return Entry(START + offset, line, {"namespace": NAMESPACE, **(labels or {"app": "a"})}, metadata or {})


def held(e: Entry) -> Held:
    """Return an entry as Loki shows it: metadata named like a label of its stream has another name."""
    metadata = {f"{k}_extracted" if k in e.labels else k: v for k, v in e.metadata.items()}
    return Held(e._replace(metadata=metadata), {**e.labels, **metadata})


def taken(found: Sequence[Held]) -> list[Entry]:
    """Return entries as an answer has them: what has the same labels and metadata together is taken for one stream's."""
    largest: dict[Pairs, Entry] = {}
    for h in found:
        one = largest.setdefault(tuple(sorted(h.merged.items())), h.entry)
        if len(h.entry.labels) > len(one.labels):
            largest[tuple(sorted(h.merged.items()))] = h.entry
    whose = (largest[tuple(sorted(h.merged.items()))] for h in found)
    return [h.entry._replace(labels=e.labels, metadata=e.metadata) for h, e in zip(found, whose, strict=True)]


def identity(e: Entry) -> Identity:
    """Return what makes an entry the one it is."""
    return e.ts, e.line, tuple(sorted(e.labels.items())), tuple(sorted(e.metadata.items()))


def each(entries: Iterable[Entry]) -> Counter[Identity]:
    """Count entries by identity, as Loki shows them."""
    return Counter(identity(held(e).entry) for e in entries)


def success(kind: str, result: Sequence[Any], **more: Any) -> dict[str, Any]:
    """Return an answer of Loki."""
    return {"status": "success", "data": {"resultType": kind, "result": result}, **more}


def lines(entries: Iterable[Entry], *, apart: bool = False, **more: Any) -> dict[str, Any]:
    """Return entries as Loki gives them: by label set, which holds the metadata too unless that is kept `apart`."""
    streams: dict[Pairs, list[Any]] = {}
    for e in entries:
        labels = e.labels if apart else {**e.labels, **e.metadata}
        third = [{"structuredMetadata": dict(e.metadata)} if e.metadata else {}] if apart else []
        streams.setdefault(tuple(sorted(labels.items())), []).append([str(e.ts), e.line, *third])
    result = [{"stream": dict(k), "values": v} for k, v in sorted(streams.items())]
    return success("streams", result, **more)


def too_large(size: int, most: int) -> Reply:
    """Return how Loki refuses an answer of too many bytes."""
    said = f"rpc error: code = ResourceExhausted desc = trying to send message larger than max ({size} vs {most})"
    return Reply(500, {}, said.encode())


def _size(found: Iterable[Held]) -> int:
    return sum(len(h.entry.line) for h in found)


def too_many_series(most: int) -> Reply:
    """Return how Loki refuses to count too many apart."""
    said = f"maximum number of series ({most}) reached for a single query; consider reducing query cardinality"
    return Reply(400, {}, said.encode())


@cache
def texts() -> Texts:
    """Return the texts of queries/ as the pull gives them to the client."""
    blank = {name: catalog.Raw(f"${{{name}}}") for name in ("selector", "range", "label", "at")}
    queries = catalog.load().queries

    def text(query: str, *names: str) -> str:
        return catalog.render(queries[query], **{n: blank[n] for n in names})

    return Texts(
        fetch=text("fetch_lines", "selector"),
        count=text("count_lines", "selector", "range"),
        count_by_app=text("count_by_app", "selector", "range", "label"),
        count_instant=text("count_instant", "selector", "at"),
        lines_counted=text("lines_counted", "selector", "range", "at"),
    )


@dataclass
class Whole:
    """What was read of a window `(start, end]`, and of the instant at which it starts where that was asked for.

    `short`: by step how many rows came and how many were counted; -1 is the edge. `parts`: what was read of which slice.
    """

    entries: list[Entry] = field(default_factory=list)
    short: dict[int, tuple[int, int]] = field(default_factory=dict)
    counted: int = 0
    explained: int = 0
    parts: list[tuple[plan.Slice, Part]] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)

    def add(self, part: Part, first: int) -> None:
        """Take what was read from the step `first` on."""
        self.entries += part.block.entries()
        self.counted += int(part.counted.sum())
        self.explained += part.explained
        for i in part.short:
            rows, counted = self.short.get(first + i, (0, 0))
            self.short[first + i] = rows + int(part.rows[i]), counted + int(part.counted[i])


def streams_of(loki: Loki, window: Window, others: Sequence[Streams] = ()) -> Streams:
    """Return the streams of a client's selector, as the pull has them."""
    return Streams(lambda: loki.series(window.widen(NS, 0), 1), others)


def read_window(
    loki: Loki, window: Window, largest: int = 5000, *, edge: bool = False, others: Sequence[Streams] = ()
) -> Whole:
    """Read a window as the pull does: count it by app, plan, and read slice by slice."""
    counts = loki.counts(window)
    reader = Reader(loki, streams_of(loki, window, others), loki.limit, largest)
    wanted = np.ones(window.length // STEP_NS, np.bool_)
    groups = plan.groups(counts, loki.selector, loki.app, loki.limit)
    slices = plan.slices(counts, groups, window, wanted, loki.limit)
    whole = Whole(tally=reader.tally)
    if edge:
        whole.add(reader.read_instant(window.start), -1)
    for s in slices:
        whole.parts.append((s, reader.read(s)))
        whole.add(whole.parts[-1][1], (s.window.start - window.start) // STEP_NS)
    return whole
