"""What was pushed to a real Loki, what the usual clients make of it, and what `aislot pull logs` brings into the lake."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq
import requests

from pipeline.model import Window, instant_text
from tests.command import aislot
from tests.servers.run import LokiServer

MS = 10**6
SECOND = 10**9
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
START = 1_772_096_400 * SECOND  # 2026-02-26T09:00:00Z
END = START + HOUR

Pairs: TypeAlias = tuple[tuple[str, str], ...]
Identity: TypeAlias = Callable[["Line"], Hashable]
APART = {"X-Loki-Response-Encoding-Flags": "categorize-labels"}
# what Loki adds to the metadata by itself
_ADDED = {"detected_level"}


class Line(NamedTuple):
    """One log entry, with all that makes it another one than its neighbour."""

    ts: int
    text: str
    labels: Pairs = ()
    metadata: Pairs = ()


def pairs(labels: Mapping[str, str] | Iterable[tuple[str, str]]) -> Pairs:
    """Return labels in the order of their names."""
    return tuple(sorted(dict(labels).items()))


def app(name: str) -> Pairs:
    """Return the labels of an app's stream."""
    return (("app", name),)


def trace(name: str | int) -> Pairs:
    """Return structured metadata that is another one for each name."""
    return (("trace_id", f"t{name}"),)


def push(server: LokiServer, namespace: str, lines: Iterable[Line], tenant: str | None = None) -> Counter[Line]:
    """Push lines, stream by stream, under a namespace of their own and return them as they should come back."""
    streams: dict[Pairs, list[Any]] = {}
    held: Counter[Line] = Counter()
    for line in lines:
        # a service name of ours: else Loki makes one
        labels = pairs({"service_name": "s", **dict(line.labels), "namespace": namespace})
        streams.setdefault(labels, []).append((line.ts, line.text, dict(line.metadata)))
        held[line._replace(labels=labels)] = 1  # what is equal in everything is one entry
    server.push([(dict(labels), entries) for labels, entries in streams.items()], tenant)
    return held


@dataclass(frozen=True)
class Client:
    """A plain client: one question, one answer, nothing checked. What it returns is what the server said."""

    server: LokiServer
    namespace: str
    tenant: str = ""
    more: str = ""  # behind the selector

    @property
    def query(self) -> str:
        """The lines of the namespace, and what else stands behind."""
        return f'{{namespace="{self.namespace}"}}{self.more}'

    def ask(self, path: str, headers: Mapping[str, str] | None = None, **form: str | int) -> requests.Response:
        """Ask without looking at the status."""
        with requests.Session() as session:
            session.trust_env = False
            session.headers.update({"X-Scope-OrgID": self.tenant} if self.tenant else {})
            return session.get(f"{self.server.url}/loki/api/v1/{path}", params=form, headers=headers, timeout=60)

    def page(
        self, start: int | str, end: int | str, limit: int = 5000, headers: Mapping[str, str] | None = None
    ) -> requests.Response:
        """Ask for lines, whatever comes."""
        form = {"direction": "forward", "query": self.query, "start": start, "end": end, "limit": limit}
        return self.ask("query_range", headers, **form)

    def lines(
        self, start: int | str, end: int | str, limit: int = 5000, headers: Mapping[str, str] | None = None
    ) -> list[Line]:
        """Return the lines of one answer in order of time; only with APART is metadata no label."""
        reply = self.page(start, end, limit, headers)
        reply.raise_for_status()
        return sorted(_lines(reply.json()["data"]["result"]), key=lambda line: line.ts)

    def count(self, end: int, length: str, headers: Mapping[str, str] | None = None) -> int:
        """Return what an instant count at `end` over a range says."""
        query = f"sum(count_over_time({self.query}[{length}]))"
        reply = self.ask("query", headers, query=query, time=end)
        reply.raise_for_status()
        return sum(int(float(sample["value"][1])) for sample in reply.json()["data"]["result"])

    def counts(self, start: int, end: int, headers: Mapping[str, str] | None = None) -> int:
        """Return the sum of the counts of every 10 s."""
        query = f"sum(count_over_time({self.query}[10s]))"
        reply = self.ask("query_range", headers, query=query, start=start + 10 * SECOND, end=end, step="10s")
        reply.raise_for_status()
        return sum(int(value) for series in reply.json()["data"]["result"] for _, value in series["values"])


def _lines(result: Sequence[Mapping[str, Any]]) -> Iterator[Line]:
    for stream in result:
        labels = pairs({k: v for k, v in stream["stream"].items() if k not in _ADDED})
        for ts, text, *third in stream["values"]:
            metadata = third[0].get("structuredMetadata", {}) if third else {}
            yield Line(int(ts), text, labels, pairs({k: v for k, v in metadata.items() if k not in _ADDED}))


def text_and_time(line: Line) -> Hashable:
    """Return what logcli takes for a line's identity."""
    return line.ts, line.text


def paged(
    ask: Callable[[int], list[Line]],
    limit: int,
    *,
    after: int = 0,
    identity: Identity = lambda line: line,
    short_is_last: bool = False,
) -> list[Line]:
    """Page from START as the usual clients do: the next page begins at the last instant, or `after` it.

    What the page before had at that instant is left out, by its `identity`. The end is a page without a new line, or,
    where `short_is_last`, one that is not full.
    """
    found: list[Line] = []
    known: set[Hashable] = set()
    start = START
    while True:
        page = ask(start)
        new = [line for line in page if identity(line) not in known]
        found += new
        if not new or (short_is_last and len(page) < limit):
            return found
        last = page[-1].ts
        known = {identity(line) for line in page if line.ts == last}
        start = last + after


@dataclass(frozen=True)
class Pulled:
    """What a pull came to: how the command ended, and what is in the lake."""

    exit_code: int
    said: str
    lake: Path

    @cached_property
    def lines(self) -> Counter[Line]:
        """Every line of the lake and how often it is there."""
        found: Counter[Line] = Counter()
        for path in sorted(self.lake.glob("logs/date=*/*.parquet")):
            rows = pq.ParquetFile(path).read(["ts", "line", "labels", "metadata"])
            columns = (rows["ts"].cast(pa.int64()), rows["line"], rows["labels"], rows["metadata"])
            for ts, text, labels, metadata in zip(*(c.to_pylist() for c in columns), strict=True):
                kept = [(k, v) for k, v in metadata if k not in _ADDED]
                found[Line(ts, text, pairs(labels), pairs(kept))] += 1
        return found

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """What is recorded of the logs, hour by hour."""
        paths = sorted(self.lake.glob("_aislot/pulls/logs/date=*/*.json"))
        return [json.loads(path.read_text("utf-8")) for path in paths]

    @property
    def gaps(self) -> list[Window]:
        """What is said to be missing."""
        return [Window(*gap) for record in self.records for gap in record["gaps"]]

    @property
    def missing(self) -> int:
        """How many lines are said to be missing of those that the server counted."""
        short = [pair for record in self.records for pair in record["proof"]["short"].values()]
        return sum(counted - rows for rows, counted in short)

    @property
    def causes(self) -> Counter[str]:
        """What made the reader ask again, and how often."""
        return sum((Counter(record["proof"].get("causes", {})) for record in self.records), Counter())

    def proof(self, name: str) -> int:
        """Return the sum of one number over the records."""
        return sum(record["proof"].get(name, 0) for record in self.records)

    def check_all(self, pushed: Mapping[Line, int]) -> None:
        """Assert that the command says that all is there, and that it is: each line once and no other."""
        assert self.exit_code == 0, self.said
        assert all(record["complete"] for record in self.records)
        self.check_lines(pushed)

    def check_lines(self, pushed: Mapping[Line, int]) -> None:
        """Assert that each line is there once and no other; a few of the wrong ones say more than all."""
        lost, more = Counter(pushed) - self.lines, self.lines - Counter(pushed)
        assert (sum(lost.values()), list(lost)[:3], sum(more.values()), list(more)[:3]) == (0, [], 0, [])


@dataclass(frozen=True)
class Puller:
    """`aislot pull logs` of one namespace into one lake."""

    folder: Path
    url: str
    namespace: str
    tenant: str = ""
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """The settings, as the environment says them."""
        selector = f'{{namespace="{self.namespace}"}}'
        asked = {"AISLOT_LOKI__URL": self.url, "AISLOT_LOKI__SELECTORS": json.dumps([selector])}
        return {**asked, "AISLOT_LOKI__TENANT": self.tenant, **self.env}

    def arguments(self, start: int, end: int) -> list[str]:
        """Return the command's arguments for a window."""
        return ["-v", "pull", "logs", "--since", instant_text(start), "--until", instant_text(end)]

    def pull(self, start: int = START, end: int = END) -> Pulled:
        """Pull a window, in a process of its own."""
        done = aislot(*self.arguments(start, end), cwd=self.folder, env=self.environment)
        return self.pulled(done.returncode, done.stderr)

    def pulled(self, exit_code: int, said: str) -> Pulled:
        """Return what the lake holds now, after a command that ended so."""
        return Pulled(exit_code, said, self.folder / "lake")
