"""The lines of a lake's `logs` that matter to a computation; each hour is read once, hours side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.correlate import Spans, joined
from pipeline.lake.tables import cell_ns
from pipeline.model import Window
from pipeline.steps.context import Context
from pipeline.telling import BY, Telling

SAID = ["ts", "namespace", "app", "level", "msg", "run_id", "job_name", "issue", "err", "signatures", "line", "format"]
_T = TypeVar("_T")
_READERS = 2  # hours that are read side by side


@dataclass(frozen=True)
class Told:
    """The lines of `logs` that tell something, and the runs that lines name.

    Only these leave their files: a day has up to millions of lines, a few thousand of which matter here.
    """

    ctx: Context
    hours: dict[Window, tuple[pa.Table, Spans]] = field(default_factory=dict)

    def lines(self, window: Window) -> pa.Table:
        """Return the lines of a window of whole hours, with the columns `SAID`."""
        return pa.concat_tables([rows for rows, _ in self._read(window)])

    def runs(self, window: Window) -> Spans:
        """Return the runs that any line of a window of whole hours names in its field, from the first line to the last."""
        return joined(*(runs for _, runs in self._read(window)))

    def _read(self, window: Window) -> list[tuple[pa.Table, Spans]]:
        cells = list(window.cells(cell_ns("logs")))
        new = [c for c in cells if c not in self.hours]
        self.hours.update(zip(new, by_hour(new, self._hour), strict=True))
        return [self.hours[c] for c in cells]

    def _hour(self, cell: Window) -> tuple[pa.Table, Spans]:
        rules, tables = self.ctx.catalogue, self.ctx.tables
        telling = Telling(rules.job_kinds, rules.phrases)
        runs: list[Spans] = []

        def choose(logs: pa.Table) -> pa.Array:
            runs.append(_runs(logs))
            return pa.array(telling.rows(logs))

        rows = tables.chosen("logs", cell, BY, choose, SAID)
        return rows.take(pa.array(telling.rows(rows))), joined(*runs)


def _runs(logs: pa.Table) -> Spans:
    said = logs.select(["run_id", "ts"]).filter(pc.is_valid(logs["run_id"]))
    of = said.group_by("run_id").aggregate([("ts", "min"), ("ts", "max")])
    first, last = (of[f"ts_{end}"].cast(pa.int64()).to_pylist() for end in ("min", "max"))
    return dict(zip(of["run_id"].to_pylist(), zip(first, last, strict=True), strict=True))


def by_hour(hours: Iterable[Window], read: Callable[[Window], _T]) -> list[_T]:
    """Return what is read of each hour, in their order."""
    with ThreadPoolExecutor(_READERS) as readers:
        return list(readers.map(read, hours))
