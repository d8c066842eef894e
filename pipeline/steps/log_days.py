"""A day of logs: counted once, what differs from the lake is read in slices and written hour by hour."""

from __future__ import annotations

import contextlib
import functools
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import loglines
from pipeline.model import DAY_NS, NS, PullRecord, Window, day_of, instant_text, merge
from pipeline.sources.loki import plan
from pipeline.sources.loki.answers import Int64s, Limits
from pipeline.sources.loki.client import STEP_NS, Loki
from pipeline.sources.loki.reading import Part, Reader
from pipeline.sources.loki.streams import Streams
from pipeline.steps.context import Context, ns
from pipeline.steps.log_cells import Asked, LogCell, instants
from pipeline.steps.log_counts import DayCounts, Hour

_AHEAD = 1  # answers that wait for their turn: more is memory, fewer is workers that wait
_EDGE = -1  # a task about an edge comes before the slices that begin there
_METHOD = "count, fetch, reconcile"


@dataclass(frozen=True)
class CellResult:
    """What one hour came to; `late` lines are those that came after it was known as complete."""

    record: PullRecord
    read_again: bool
    late: int = 0


@dataclass(frozen=True)
class LogSource:
    """One Loki, asked by each selector, and what it tells of itself."""

    lokis: Sequence[Loki]
    limits: Limits
    version: str
    fingerprint: str


@dataclass(frozen=True)
class _Task:
    """A question to read: a slice from the day's step `first_step` on, with its counts, or the instant of an edge."""

    start: int
    read: Callable[[], Part]
    first_step: int
    counted: Int64s | None


class DayOfLogs:
    """A day, or hours of it that follow each other, pulled."""

    def __init__(
        self,
        ctx: Context,
        source: LogSource,
        window: Window,
        hours: Sequence[Hour],
        workers: Executor,
        rows: loglines.LogRows,
    ) -> None:
        self._ctx = ctx
        self._source = source
        self._window = window
        self._workers = workers
        self._rows = rows
        self._counts = DayCounts(ctx, source.lokis, window, hours)
        self._wanted = self._counts.wanted
        self._explained: Int64s = np.zeros(len(self._wanted), np.int64)
        self._short: defaultdict[int, Int64s] = defaultdict(lambda: np.zeros(2, np.int64))  # step: rows, counted
        self._edges: Int64s = np.array([*(h.window.start for h in hours), window.end], np.int64)
        self._on_edge: Counter[int] = Counter()  # edge of hours: rows read there
        self._unread: list[tuple[Window, int]] = []  # where Loki did not read how many chunks
        self._hours = hours
        # complete as it is, but selectors that choose nothing look the same: it is said
        nothing = not self._counts.counted.any() and not any(h.before and h.before.rows for h in hours)
        self._silent = nothing and window.length == DAY_NS and not self._counts.at_start

    def pull(self) -> Iterator[CellResult]:
        """Bring each hour of the lake up to what the server counts, and record how it is known."""
        late = gone = 0
        for result in self._read() if self._wanted.any() else map(self._unchanged, self._hours):
            late += result.late
            gone += result.record.proof["gone_from_server"]
            yield result
        self._conclude(late, gone)

    def _read(self) -> Iterator[CellResult]:
        limit, largest = self._source.lokis[0].sizes(self._source.limits)
        readers = self._readers(limit, largest)
        waiting = deque(self._hours)
        with contextlib.ExitStack() as undo:
            for task, part in self._parts(self._tasks(readers, limit)):
                while waiting[0].window.end <= task.start:
                    yield self._done(waiting.popleft(), readers)
                self._note(task, part)
                self._store(part, undo)
            while waiting:
                yield self._done(waiting.popleft(), readers)

    def _conclude(self, late: int, gone: int) -> None:
        """Keep what this recount of known hours showed; late lines mark a computed day as one to compute again."""
        records, date = self._ctx.records, day_of(self._window.start)
        if not any(h.before for h in self._hours):
            return
        records.put_recount("logs", date, {"at": instant_text(self._ctx.now), "late": late, "gone": gone})
        if late and records.day(date) is not None:
            records.put_restated(date, {"at": instant_text(self._ctx.now), "late": late})

    def _readers(self, limit: int, largest: int) -> list[Reader]:
        readers: list[Reader] = []
        known: list[Streams] = []
        around = self._window.widen(NS, 0)
        for loki in self._source.lokis:
            ask = functools.partial(loki.series, around, self._ctx.now)
            known.append(Streams(ask, known))
            readers.append(Reader(loki, known[-1], limit, largest))
        return readers

    def _tasks(self, readers: Sequence[Reader], limit: int) -> list[_Task]:
        tasks = []
        label = self._ctx.settings.loki.labels.app
        for reader, loki, counts in zip(readers, self._source.lokis, self._counts.of, strict=True):
            found = plan.groups(counts, loki.selector, label, limit)
            for s in plan.slices(counts, found, self._window, self._wanted, limit):
                first = (s.window.start - self._window.start) // STEP_NS
                tasks.append(_Task(s.window.start, functools.partial(reader.read, s), first, s.counted))
            for h in (h for h in self._hours if h.edge):
                read = functools.partial(reader.read_instant, h.window.start)
                tasks.append(_Task(h.window.start, read, _EDGE, None))
        return sorted(tasks, key=lambda t: (t.start, t.first_step))

    def _parts(self, tasks: Sequence[_Task]) -> Iterator[tuple[_Task, Part]]:
        """Run the tasks side by side, and give what they read in their order."""
        to_do = iter(tasks)
        running: deque[tuple[_Task, Future[Part]]] = deque()
        try:
            for task in islice(to_do, self._ctx.settings.loki.workers + _AHEAD):
                running.append((task, self._workers.submit(task.read)))
            while running:
                task, future = running.popleft()
                part = future.result()
                running += [(t, self._workers.submit(t.read)) for t in islice(to_do, 1)]
                self._ctx.check_time()
                yield task, part
        finally:
            for _, future in running:
                future.cancel()

    def _note(self, task: _Task, part: Part) -> None:
        """Keep how rows agree with counts: what was counted again has the last word."""
        if part.unread:
            first = (task.start - self._window.start) // STEP_NS
            self._unread.append((self._at_steps(slice(first, first + len(part.counted))), part.unread))
        if task.counted is None:
            if part.short:
                first = (task.start - self._window.start) // STEP_NS
                self._short[first] += np.array([part.rows[0], part.counted[0]])
            return
        steps = slice(task.first_step, task.first_step + len(part.counted))
        self._counts.counted[steps] += part.counted - task.counted
        self._explained[task.first_step] += part.explained
        for i in part.short:
            self._short[task.first_step + i] += np.array([part.rows[i], part.counted[i]])

    def _store(self, part: Part, undo: contextlib.ExitStack) -> None:
        rows = self._rows
        rows.rows(part.context)
        if not len(part.block):
            return
        before = Counter(rows.counts)
        table = rows.rows(part.block)
        ts = instants(table)
        low, high = int(ts.min()), int(ts.max())
        for edge in self._edges[(self._edges >= low) & (self._edges <= high)].tolist():
            self._on_edge[edge] += int((ts == edge).sum())
        for h in self._hours:
            if h.window.start > high or h.window.end <= low or not self._wanted[h.steps].any():
                continue
            if h.cell is None:
                h.cell = self._cell(h)
                undo.callback(h.cell.abort)
            inside = low >= h.window.start and high < h.window.end
            h.cell.add(table if inside else table.filter(pa.array((ts >= h.window.start) & (ts < h.window.end))))
            h.found += rows.counts - before
            before = Counter(rows.counts)

    def _done(self, h: Hour, readers: Sequence[Reader]) -> CellResult:
        """Publish an hour and record how it is known: the record comes last, so that it never speaks of what is not."""
        if not self._wanted[h.steps].any():
            return self._unchanged(h)
        cell = h.cell or self._cell(h)
        cell.close()
        record = self._record(h, cell, readers)
        self._ctx.records.put(record)
        return CellResult(record, read_again=True, late=_late(h, cell))

    def _cell(self, h: Hour) -> LogCell:
        """Return what takes the rows of an hour; what the lake has under other rules is redacted again by today's."""
        redactor = None if h.before else self._ctx.redactor()
        return LogCell(self._ctx, h.window, Asked(self._window.start, self._wanted), redactor, edge=h.edge)

    def _at_steps(self, steps: slice) -> Window:
        return Window(self._window.start + steps.start * STEP_NS, self._window.start + steps.stop * STEP_NS)

    def _hidden(self, h: Hour) -> Window:
        """Return what of an hour the server does not show any more, by its own clock, which has gone on meanwhile."""
        shown = self._source.limits.shown_s
        latest = ns(max(loki.door.server_s for loki in self._source.lokis)) + NS  # it tells whole seconds
        now = max(self._ctx.now, latest)
        end = h.window.start if shown is None else min(h.window.end, now - ns(shown))
        return Window(h.window.start, max(h.window.start, end))

    def _at_edges(self, h: Hour, before: Mapping[str, Any]) -> tuple[int, int]:
        """Return what lies at the first instant of an hour, and at that of the next."""
        first, last = h.steps.start, h.steps.stop - 1
        start, end = self._on_edge[h.window.start], self._on_edge[h.window.end]
        read = h.edge or (first > 0 and self._wanted[first - 1])
        if h is self._hours[0]:
            start = max(start, self._counts.at_start)
        elif not read:
            start = before.get("at_start", 0)
        return start, end if self._wanted[last] else before.get("at_end", 0)

    def _unchanged(self, h: Hour) -> CellResult:
        """Return the hour's record, to which is added what the server does not have any more."""
        before = h.before
        assert before is not None  # noqa: S101 - an hour that is not known is read
        now = before.proof["counted"] + self._counts.total(h) - self._counts.then(h)
        gone = max(0, before.rows - now - before.proof["explained"] - before.proof["others"])
        if gone != before.proof["gone_from_server"]:
            before = replace(before, proof={**before.proof, "gone_from_server": gone}, asked_at=self._ctx.now)
            self._ctx.records.put(before)
        return CellResult(before, read_again=False)

    def _record(self, h: Hour, cell: LogCell, readers: Sequence[Reader]) -> PullRecord:
        ctx, window = self._ctx, h.window
        spent = [reader.tally.spent() for reader in readers]
        steps = range(*h.steps.indices(len(self._wanted)))
        short = {i: self._short[i] for i in steps if i in self._short}
        hidden = self._hidden(h)
        unread = [(part, n) for w, n in self._unread if (part := w.intersect(window))]
        gaps = [
            *(self._at_steps(slice(i, i + 1)) for i in short),
            *(w for w, _ in unread),
            *([hidden] if hidden else []),
        ]
        before = {} if h.whole or h.before is None else h.before.proof
        found = Counter(before.get("found", {})) + h.found
        found.subtract(cell.replaced if before else {})
        at_start, at_end = self._at_edges(h, before)
        # a step holds the instant at which it ends, an hour the one at which it starts
        counted = int(self._counts.counted[h.steps].sum()) + at_start - at_end
        explained = int(self._explained[h.steps].sum()) + before.get("explained", 0)
        more = max(0, cell.rows - counted - explained)
        others = h.before.proof["others"] if h.before else more  # of other selectors: they are not gone
        proof: dict[str, Any] = {
            "method": _METHOD,
            "counted": counted,
            "reconciled": counted - int(sum(self._counts.counted[i] for i in short)),
            "at_start": at_start,
            "at_end": at_end,
            "steps": {name: n.tolist() for name, n in self._counts.named_steps(h).items()},
            "short": {instant_text(self._at_steps(slice(i, i)).start): s.tolist() for i, s in short.items()},
            "unread": sum(n for _, n in unread),
            "silent": int(self._silent),
            "explained": explained,
            "others": others,
            "gone_from_server": max(0, more - others),
            "requests": sum(t.requests for t in spent) + before.get("requests", 0),
            "recounted": sum(t.recounted for t in spent) + before.get("recounted", 0),
            "causes": dict(sum((t.causes for t in spent), Counter(before.get("causes", {})))),
            "found": {k: n for k, n in found.items() if n > 0},
            "late": _late(h, cell) + (h.before.proof["late"] if h.before else 0),
            "first": cell.first,
            "last": cell.last,
            "version": self._source.version,
        }
        if hidden:
            proof["hidden_s"] = hidden.seconds
        return PullRecord(
            "logs",
            "loki",
            window,
            complete=not gaps,
            rows=cell.rows,
            gaps=merge(gaps),
            provisional=window.end > ctx.now - ns(ctx.settings.loki.settle),
            asked_at=ctx.now,
            fingerprint=self._source.fingerprint,
            proof=proof,
        )


def _late(h: Hour, cell: LogCell) -> int:
    """Return how many lines came since the hour was known as complete."""
    known = h.before is not None and h.before.complete and not h.before.provisional
    return max(0, cell.rows - h.before.rows) if known and h.before else 0
