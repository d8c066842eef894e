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
from pipeline.lake.tables import Tables, cell_of
from pipeline.model import Window
from pipeline.sources.loki.answers import Int64s
from pipeline.sources.loki.client import STEP_NS

Bools = npt.NDArray[np.bool_]
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
    starts is read too, though it is counted in the step before.
    """

    def __init__(self, tables: Tables, window: Window, asked: Asked, *, edge: bool) -> None:
        self.window = window
        self.hour = cell_of("logs", window.start)
        self.rows = 0
        self.first: int | None = None
        self.last: int | None = None
        self.replaced: Counter[str] = Counter()  # what `found_in` finds in the rows that others took the place of
        self._tables = tables
        self._asked = asked
        self._edge = edge
        self._writer: PartWriter | None = None
        self._held: list[pa.Table] = []
        self._stored = tables.count("logs", self.hour) > 0

    def add(self, rows: pa.Table) -> None:
        """Take rows of this hour; where the lake has some already they wait, because only all of them tell what to keep."""
        if self._stored:
            self._held.append(rows)
        else:
            self._write(rows)

    def close(self) -> None:
        """Write what is left and publish the hour's file. Raises LakeError."""
        if self._stored:
            self._replace()
        self._open().close()

    def abort(self) -> None:
        """Leave what was there."""
        if self._writer is not None:
            self._writer.abort()

    def _replace(self) -> None:
        new = pa.concat_tables(self._held) if self._held else None
        given = _times(instants(new)) if new is not None else {}
        old_over: list[pa.Table] = []
        over: set[int] = set()
        for old in self._tables.stored("logs", self.hour):
            ts = instants(old)
            inside = (ts >= self.window.start) & (ts < self.window.end)
            fresh = inside & (self._asked.holds(ts) | (self._edge & (ts == self.window.start)))
            self._write(old.filter(pa.array(~fresh)))
            old_over.append(old.filter(pa.array(fresh)))
        replaced = pa.concat_tables(old_over)
        at = instants(replaced)
        over = {t for t, n in _times(at).items() if n > given.get(t, 0)}
        old_more = replaced.filter(pa.array(_among(at, over)))
        self.replaced = found_in(replaced)
        if new is not None:
            mask = _among(instants(new), over)
            self._write(new.filter(pa.array(~mask)))
            old_more = keep_all(old_more, new.filter(pa.array(mask)))
        self._write(old_more)

    def _write(self, rows: pa.Table) -> None:
        if not rows.num_rows:
            return
        self._open().add(rows)
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
    Grouped so, because a new redaction rule or signature changes the text of a row that is the same entry.
    """
    fresh, kept = _groups(new), _groups(old)
    take_old = [i for k, rows in kept.items() if len(rows) > len(fresh.get(k, ())) for i in rows]
    take_new = [i for k, rows in fresh.items() if len(rows) >= len(kept.get(k, ())) for i in rows]
    return pa.concat_tables([old.take(pa.array(take_old, pa.int64())), new.take(pa.array(take_new, pa.int64()))])


def _groups(rows: pa.Table) -> Mapping[Any, Sequence[int]]:
    groups: dict[Any, list[int]] = {}
    columns = (rows["ts"].cast(pa.int64()).to_pylist(), rows["labels"].to_pylist(), rows["metadata"].to_pylist())
    for i, (ts, labels, metadata) in enumerate(zip(*columns, strict=True)):
        groups.setdefault((ts, tuple(labels or ()), tuple(metadata or ())), []).append(i)
    return groups


def _times(ts: Int64s) -> dict[int, int]:
    """Return how often each instant occurs."""
    values, counts = np.unique(ts, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def _among(ts: Int64s, some: set[int]) -> Bools:
    return np.isin(ts, np.array(sorted(some), np.int64))
