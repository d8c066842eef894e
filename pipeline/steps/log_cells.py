"""One hour of `logs`: what the server gave goes to its file as it comes, what the lake had and must keep goes with it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.lake.parts import PartWriter
from pipeline.lake.tables import cell_of
from pipeline.model import Window
from pipeline.redact import Redactor
from pipeline.sources.loki.answers import Int64s
from pipeline.sources.loki.client import STEP_NS
from pipeline.steps.context import Context
from pipeline.steps.told import Listener

Bools = npt.NDArray[np.bool_]
_TEXTS = ("line", "msg", "err", "labels", "metadata", "namespace", "app", "pod", "container", "run_id", "job_name")
_PLACEHOLDER = re.compile(r"\[REDACTED:([\w.-]+):[0-9a-f]{4}\]")


@dataclass(frozen=True)
class Asked:
    """Which 10 s steps `(start + i*10 s, start + (i+1)*10 s]` of a day are read."""

    start: int
    wanted: Bools

    def holds(self, ts: Int64s) -> Bools:
        """Tell which instants lie in a step that is read."""
        at = (ts - self.start - 1) // STEP_NS
        inside = (at >= 0) & (at < len(self.wanted))
        held: Bools = inside & self.wanted[np.clip(at, 0, len(self.wanted) - 1)]
        return held


class LogCell:
    """Collects the rows of one hour; `window` is the part of it that was asked about.

    Rows of the steps that are read take the place of those that the lake has. At an instant of which the lake has more
    rows than the server gave, both are merged: what was once there is never lost. `edge`: the instant at which the window
    starts is read too, though it is counted in the step before. `redactor`: what is kept of the lake's rows passes
    through it, where they were written under other rules.
    """

    def __init__(self, ctx: Context, window: Window, asked: Asked, redactor: Redactor | None, *, edge: bool) -> None:
        self.window = window
        self.hour = cell_of("logs", window.start)
        self.rows = 0
        self.first: int | None = None
        self.last: int | None = None
        self.replaced: Counter[str] = Counter()  # what `found_in` finds in the rows that others took the place of
        self._tables = ctx.tables
        self._told = Listener(ctx.store, ctx.catalogue, self.hour)
        self._asked = asked
        self._edge = edge
        self._redactor = redactor
        self._writer: PartWriter | None = None
        self._held: list[pa.Table] = []
        self._stored = self._tables.count("logs", self.hour) > 0

    def add(self, rows: pa.Table) -> None:
        """Take rows of this hour; where the lake has some already they wait, because only all of them tell what to keep."""
        if self._stored:
            self._held.append(rows)
        else:
            self._write(rows)

    def close(self) -> None:
        """Write what is left and publish the hour's file, then what its lines tell. Raises LakeError."""
        if self._stored:
            self._replace()
        self._told.close(self._open().close())

    def abort(self) -> None:
        """Leave what was there."""
        if self._writer is not None:
            self._writer.abort()

    def _replace(self) -> None:
        new = pa.concat_tables(self._held) if self._held else None
        over: list[pa.Table] = []
        for old in self._tables.stored("logs", self.hour):
            ts = instants(old)
            inside = (ts >= self.window.start) & (ts < self.window.end)
            fresh = inside & (self._asked.holds(ts) | (self._edge & (ts == self.window.start)))
            self._write(old.filter(pa.array(~fresh)))
            over.append(old.filter(pa.array(fresh)))
        replaced = pa.concat_tables(over)
        if self._redactor:
            replaced = self._redactor.table(replaced, _TEXTS)
        self.replaced = found_in(replaced)
        if new is None:
            self._write(replaced)
            return
        more = _with_more(replaced, new)
        mask = _among(instants(new), more)
        self._write(new.filter(pa.array(~mask)))
        self._write(keep_all(replaced.filter(pa.array(_among(instants(replaced), more))), new.filter(pa.array(mask))))

    def _write(self, rows: pa.Table) -> None:
        if not rows.num_rows:
            return
        self._open().add(rows)
        self._told.add(rows)
        ts = instants(rows)
        inside = ts[(ts >= self.window.start) & (ts < self.window.end)]
        if len(inside):
            self.rows += len(inside)
            low, high = int(inside.min()), int(inside.max())
            self.first = low if self.first is None else min(self.first, low)
            self.last = high if self.last is None else max(self.last, high)

    def _open(self) -> PartWriter:
        if self._writer is None:
            self._writer = self._tables.part("logs", self.hour)
        return self._writer


def instants(rows: pa.Table) -> Int64s:
    """Return `ts` as nanoseconds."""
    return np.asarray(rows["ts"].cast(pa.int64()))


def found_in(rows: pa.Table) -> Counter[str]:
    """Count lines that could not be parsed, and placeholders of secrets by rule."""
    counts = Counter({"not_parsed": pc.sum(pc.equal(rows["format"], "broken")).as_py() or 0})
    for line in rows["line"].filter(pc.match_substring(rows["line"], "[REDACTED:")).to_pylist():
        for rule in _PLACEHOLDER.findall(line):
            counts["redactions"] += 1
            counts[f"redacted:{rule}"] += 1
    return counts


def keep_all(old: pa.Table, new: pa.Table) -> pa.Table:
    """Merge what the lake has with what the server gave now, losing neither.

    Rows of one instant, stream and metadata are replaced as a group by the server's, unless the server has fewer.
    Grouped so, because a new redaction rule or signature changes the text of a row that is the same entry; and a new key
    changes the marks of secrets.
    """
    fresh, kept = _groups(new), _groups(old)
    take_old = [i for k, rows in kept.items() if len(rows) > len(fresh.get(k, ())) for i in rows]
    take_new = [i for k, rows in fresh.items() if len(rows) >= len(kept.get(k, ())) for i in rows]
    return pa.concat_tables([old.take(pa.array(take_old, pa.int64())), new.take(pa.array(take_new, pa.int64()))])


def _groups(rows: pa.Table) -> Mapping[Any, Sequence[int]]:
    groups: dict[Any, list[int]] = {}
    columns = (rows["ts"].cast(pa.int64()).to_pylist(), rows["labels"].to_pylist(), rows["metadata"].to_pylist())
    for i, (ts, labels, metadata) in enumerate(zip(*columns, strict=True)):
        groups.setdefault((ts, _unmarked(labels), _unmarked(metadata)), []).append(i)
    return groups


def _unmarked(pairs: Sequence[tuple[str, str]] | None) -> Sequence[tuple[str, str]]:
    """Return pairs without what tells one secret from another, which follows from the key."""
    return tuple((name, _PLACEHOLDER.sub(r"[REDACTED:\1]", value)) for name, value in pairs or ())


def _with_more(old: pa.Table, new: pa.Table) -> list[int]:
    """Return the instants at which the old rows of one stream and metadata are more than the new ones."""
    keys = ["ts", "labels", "metadata"]

    def counted(rows: pa.Table, name: str) -> pa.Table:
        texts = [rows["ts"], _as_text(rows["labels"]), _as_text(rows["metadata"])]
        return pa.table(texts, keys).group_by(keys).aggregate([([], "count_all")]).rename_columns([*keys, name])

    both = counted(old, "old").join(counted(new, "new"), keys, join_type="left outer")
    more = pc.greater(both["old"], pc.coalesce(both["new"], pa.scalar(0, pa.int64())))
    return list(pc.unique(both["ts"].filter(more)).cast(pa.int64()).to_pylist())


def _as_text(maps: pa.ChunkedArray) -> pa.Array:
    """Write each map as one text, by which rows can be grouped; none as the empty one."""
    column = maps.combine_chunks()
    column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    column = pa.concat_arrays([column]) if column.offset else column
    parts = [pc.binary_join(pa.ListArray.from_arrays(column.offsets, a), "\0") for a in (column.keys, column.items)]
    texts = pc.coalesce(pc.binary_join_element_wise(*parts, "\n"), "")
    return pc.replace_substring_regex(texts, _PLACEHOLDER.pattern, r"[REDACTED:\1]")


def _among(ts: Int64s, some: Sequence[int]) -> Bools:
    return np.isin(ts, np.array(some, np.int64))
