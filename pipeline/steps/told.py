"""The lines of a lake's `logs` that matter to a computation: taken out as an hour is written, else read once for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import schemas
from pipeline.correlate import Spans, joined
from pipeline.lake.extracts import Extract, Extracts
from pipeline.lake.store import Store
from pipeline.lake.tables import Tables, cell_ns
from pipeline.model import Window
from pipeline.rules import Catalogue
from pipeline.steps.context import Context
from pipeline.telling import BY, OF_POD, Telling, first_of_pods, rules_of

SAID = ["ts", "namespace", "app", "level", "msg", "run_id", "job_name", "issue", "err", "signatures", "line", "format"]
WHENCE = ["ts", "namespace", "app", "pod", "container", "job_name", "labels", "metadata"]
_HEARD = list(dict.fromkeys([*SAID, *WHENCE]))
_AT_ONCE = 30_000  # rows that are looked through together
_T = TypeVar("_T")
_READERS = 2  # hours that are read side by side


class Listener:
    """Hears the rows of an hour as they are written, and keeps what they tell beside them. For one thread at a time."""

    def __init__(self, store: Store, rules: Catalogue, hour: Window) -> None:
        self._hour = hour
        self._kept = extracts(store)
        self._telling = Telling(rules.job_kinds, rules.phrases)
        self._rules = rules_of(rules.job_kinds, rules.phrases)
        self._waiting: list[pa.Table] = []
        self._rows = 0
        self._lines: list[pa.Table] = []
        self._pods: list[pa.Table] = []
        self._runs: list[Spans] = []

    def add(self, rows: pa.Table) -> None:
        """Take rows of `logs` in the order in which they go to the hour's file."""
        self._waiting.append(rows.select(_HEARD))
        self._rows += rows.num_rows
        if self._rows >= _AT_ONCE:
            self._listen()

    def close(self, content: str) -> None:
        """Keep what was told by rows that came to a file with this digest. Raises LakeError."""
        self._listen()
        made = _extract(self._telling, self._lines, self._pods, self._runs)
        self._kept.write(self._hour, content, self._rules, made)

    def _listen(self) -> None:
        if self._waiting:
            rows = pa.concat_tables(self._waiting).combine_chunks()
            self._waiting, self._rows = [], 0
            self._runs.append(_runs(rows))
            self._lines.append(rows.select(SAID).take(pa.array(self._telling.rows(rows))))
            self._pods.append(rows.select(WHENCE).take(pa.array(first_of_pods(rows))))


@dataclass(frozen=True)
class Hour:
    """What the lines of an hour tell: those that do, of each pod of a job the first, and the runs that any of them names."""

    lines: pa.Table
    pods: pa.Table
    runs: Spans


@dataclass(frozen=True)
class Told:
    """The lines of `logs` that tell something, the first of jobs' pods, and the runs that lines name.

    Only these leave their files: a day has up to millions of lines, a few thousand of which matter here. What no pull has
    kept of an hour is taken out of it, and kept where `keep` says so.
    """

    ctx: Context
    keep: bool = False
    hours: dict[Window, Hour] = field(default_factory=dict)

    def lines(self, window: Window) -> pa.Table:
        """Return the lines of a window of whole hours, with the columns `SAID`."""
        return pa.concat_tables([h.lines for h in self._read(window)])

    def pods(self, window: Window) -> pa.Table:
        """Return the first lines of each hour's pods of a window of whole hours, with the columns `WHENCE`."""
        return pa.concat_tables([h.pods for h in self._read(window)])

    def runs(self, window: Window) -> Spans:
        """Return the runs that any line of a window of whole hours names in its field, from the first line to the last."""
        return joined(*(h.runs for h in self._read(window)))

    def _read(self, window: Window) -> list[Hour]:
        cells = list(window.cells(cell_ns("logs")))
        new = [c for c in cells if c not in self.hours]
        self.hours.update(zip(new, by_hour(new, self._hour), strict=True))
        return [self.hours[c] for c in cells]

    def _hour(self, cell: Window) -> Hour:
        kept = extracts(self.ctx.store)
        content = kept.content(cell)
        if content is None:
            return Hour(_none(SAID), _none(WHENCE), {})
        by = self.ctx.catalogue.job_kinds, self.ctx.catalogue.phrases
        found = kept.read(cell, content, rules_of(*by))
        if found is None:
            found = _taken_out(self.ctx.tables, Telling(*by), cell)
            if self.keep:
                kept.write(cell, content, rules_of(*by), found)
        runs = {run: (first, last) for run, (first, last) in found.facts["runs"].items()}
        return Hour(found.rows["lines"], found.rows["pods"], runs)


def extracts(store: Store) -> Extracts:
    """Return the doors to what was taken out of `logs`."""
    return Extracts(store, "logs", "told_lines", {"lines": SAID, "pods": WHENCE})


def _taken_out(tables: Tables, telling: Telling, cell: Window) -> Extract:
    runs: list[Spans] = []

    def choose(logs: pa.Table) -> pa.Array:
        runs.append(_runs(logs))
        return pa.array(telling.rows(logs))

    lines = tables.chosen("logs", cell, BY, choose, SAID, coded=("namespace", "app", "format"))
    pods = tables.chosen("logs", cell, OF_POD, lambda logs: pa.array(first_of_pods(logs)), WHENCE)
    return _extract(telling, [lines], [pods], runs)


def _extract(telling: Telling, lines: list[pa.Table], pods: list[pa.Table], runs: list[Spans]) -> Extract:
    """Join what parts of an hour told: what is chosen of them once more is what is chosen of the whole."""
    said, first = pa.concat_tables([_none(SAID), *lines]), pa.concat_tables([_none(WHENCE), *pods])
    rows = {
        "lines": said.take(pa.array(telling.rows(said))).combine_chunks(),
        "pods": first.take(pa.array(first_of_pods(first))).combine_chunks(),
    }
    return Extract(rows, {"runs": joined(*runs)})


def _none(columns: list[str]) -> pa.Table:
    return schemas.chosen("logs", columns).empty_table()


def _runs(logs: pa.Table) -> Spans:
    said = logs.select(["run_id", "ts"]).filter(pc.is_valid(logs["run_id"]))
    of = said.group_by("run_id").aggregate([("ts", "min"), ("ts", "max")])
    first, last = (of[f"ts_{end}"].cast(pa.int64()).to_pylist() for end in ("min", "max"))
    return dict(zip(of["run_id"].to_pylist(), zip(first, last, strict=True), strict=True))


def by_hour(hours: Iterable[Window], read: Callable[[Window], _T]) -> list[_T]:
    """Return what is read of each hour, in their order."""
    with ThreadPoolExecutor(_READERS) as readers:
        return list(readers.map(read, hours))
