"""A day of logs: counted once, what differs from the lake is read in slices and written hour by hour."""

from __future__ import annotations

import contextlib
import functools
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice, pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import loglines
from pipeline.model import NS, PullRecord, Window, day_of, instant_text, merge
from pipeline.sources.loki import plan
from pipeline.sources.loki.answers import Int64s, Limits
from pipeline.sources.loki.client import DEFAULT_LIMIT, ROUNDS, STEP_NS, Loki
from pipeline.sources.loki.reading import Part, Reader
from pipeline.sources.loki.streams import Streams
from pipeline.steps.context import Context, ns
from pipeline.steps.log_cells import Asked, Bools, LogCell, instants

_AHEAD = 1  # answers that wait for their turn: more is memory, fewer is workers that wait
_EDGE = -1  # a task about an edge comes before the slices that begin there
_LARGEST = 50_000  # entries of an answer, however many more the server would give
_METHOD = "count, fetch, reconcile"
Counts = Mapping[str, Int64s]


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


@dataclass
class Hour:
    """An hour of a day that is pulled: what the lake knows of it, which steps of the day are its own, what is read.

    `whole`: all of it is read; `edge`: the instant at which it starts too, which the step before counts.
    """

    window: Window
    before: PullRecord | None
    steps: slice = field(default_factory=lambda: slice(0))
    whole: bool = False
    edge: bool = False
    cell: LogCell | None = None
    found: Counter[str] = field(default_factory=Counter)


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
        self, ctx: Context, source: LogSource, window: Window, hours: Sequence[Hour], workers: Executor
    ) -> None:
        self._ctx = ctx
        self._source = source
        self._window = window
        self._workers = workers
        self._counts: list[Counts] = [_counts(loki, window) for loki in source.lokis]
        self._counted = self._sum()
        self._wanted: Bools = np.zeros(len(self._counted), np.bool_)
        self._explained: Int64s = np.zeros(len(self._counted), np.int64)
        self._short: defaultdict[int, Int64s] = defaultdict(lambda: np.zeros(2, np.int64))  # step: rows, counted
        self._edges: Int64s = np.array([*(h.window.start for h in hours), window.end], np.int64)
        self._on_edge: Counter[int] = Counter()  # edge of hours: rows read there
        self._unread: list[tuple[Window, int]] = []  # where Loki did not read how many chunks
        self._hours = hours
        for h in hours:
            h.steps = slice((h.window.start - window.start) // STEP_NS, (h.window.end - window.start) // STEP_NS)

    def pull(self) -> Iterator[CellResult]:
        """Bring each hour of the lake up to what the server counts, and record how it is known."""
        self._choose()
        late = 0
        for result in self._read() if self._wanted.any() else map(self._unchanged, self._hours):
            late += result.late
            yield result
        self._conclude(late)

    def _read(self) -> Iterator[CellResult]:
        limit, largest = self._limit()
        readers = self._readers(limit, largest)
        rows = loglines.LogRows(self._ctx.settings.loki.labels, self._ctx.redactor(), self._ctx.catalogue.signatures)
        waiting = deque(self._hours)
        with contextlib.ExitStack() as undo:
            for task, part in self._parts(self._tasks(readers, limit)):
                while waiting[0].window.end <= task.start:
                    yield self._done(waiting.popleft(), readers)
                self._note(task, part)
                self._store(part, rows, undo)
            while waiting:
                yield self._done(waiting.popleft(), readers)

    def _conclude(self, late: int) -> None:
        """Keep what this recount of known hours showed; late lines mark a computed day as one to compute again."""
        records, date = self._ctx.records, day_of(self._window.start)
        known = [h for h in self._hours if h.before]
        if not known:
            return
        gone = max(0, sum(self._then(h) for h in known) - sum(self._total(h) for h in known))
        records.put_recount("logs", date, {"at": instant_text(self._ctx.now), "late": late, "gone": gone})
        if late and records.day(date) is not None:
            records.put_restated(date, {"at": instant_text(self._ctx.now), "late": late})

    def _choose(self) -> None:
        """Choose the steps to read: hours that are not known, not settled or not complete, and steps that have grown."""
        for _ in range(ROUNDS - 1):
            if all(self._total(h) >= self._then(h) for h in self._hours):
                break
            # fewer than there were is retention, or a count that came short: the higher of two is nearer to the truth
            again = [loki.counts(self._window) for loki in self._source.lokis]
            self._counts = [_highest(a, b) for a, b in zip(self._counts, again, strict=True)]
            self._counted = self._sum()
        for h in self._hours:
            grown = self._grown(h)
            self._wanted[h.steps] = True if grown is None else grown
            h.whole = grown is None
        # a key or a trace may begin a step before; and the instant after an hour's last step lies in the next hour's file
        late = self._wanted.copy()
        for h in (h for h in self._hours if h.whole):
            late[h.steps] = False
        self._wanted[:-1] |= late[1:]
        self._wanted[1:] |= late[:-1]
        for h, following in pairwise(self._hours):
            self._wanted[following.steps.start] |= h.whole
            following.edge = following.whole and not h.whole and not self._wanted[h.steps][-1]
        self._hours[0].edge = self._hours[0].whole

    def _grown(self, h: Hour) -> Bools | None:
        """Tell which steps the server counts more lines in than when they were read; None: all must be read."""
        before = h.before
        # the record speaks of the rows it was written with: where the lake has lost some, they are read again
        if before is None or before.provisional or not before.complete:
            return None
        if self._ctx.tables.count("logs", h.window) < before.rows or self._at(h) > before.proof["at_start"]:
            return None
        then = before.proof["steps"]
        grown = np.zeros(h.steps.stop - h.steps.start, np.bool_)
        for name, steps in self._named_steps(h).items():
            grown |= steps > np.array(then.get(name, np.zeros(len(steps))), np.int64)
        return grown

    def _named_steps(self, h: Hour) -> dict[str, Int64s]:
        """Return the counts of an hour by app; those of a second selector under names of their own."""
        return {
            f"{i}/{app}" if i else app: steps[h.steps]
            for i, counts in enumerate(self._counts)
            for app, steps in sorted(counts.items())
        }

    def _at(self, h: Hour) -> int:
        """Count what lies at the first instant of all, which no step of this day holds; an hour's is in the step before."""
        return self._at_start if h is self._hours[0] else 0

    @cached_property
    def _at_start(self) -> int:
        return sum(loki.count_instant(self._window.start) for loki in self._source.lokis)

    def _total(self, h: Hour) -> int:
        """Count the steps of an hour, and of the first hour its first instant."""
        return int(self._counted[h.steps].sum()) + self._at(h)

    def _then(self, h: Hour) -> int:
        """Return what the same came to when the hour was read; 0 where it never was."""
        if h.before is None:
            return 0
        proof = h.before.proof
        return sum(sum(n) for n in proof["steps"].values()) + (proof["at_start"] if h is self._hours[0] else 0)

    def _sum(self) -> Int64s:
        steps = np.zeros(self._window.length // STEP_NS, np.int64)
        return sum((s for counts in self._counts for s in counts.values()), steps)

    def _limit(self) -> tuple[int, int]:
        """Return how many entries to ask for at once, and the most that the server gives."""
        told = self._source.limits.entries
        most = (self._source.lokis[0].largest() if told is None else told) or _LARGEST
        return min(DEFAULT_LIMIT, most), min(_LARGEST, most)

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
        for reader, loki, counts in zip(readers, self._source.lokis, self._counts, strict=True):
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
        self._counted[steps] += part.counted - task.counted
        self._explained[task.first_step] += part.explained
        for i in part.short:
            self._short[task.first_step + i] += np.array([part.rows[i], part.counted[i]])

    def _store(self, part: Part, rows: loglines.LogRows, undo: contextlib.ExitStack) -> None:
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
                h.cell = LogCell(self._ctx.tables, h.window, Asked(self._window.start, self._wanted), edge=h.edge)
                undo.callback(h.cell.abort)
            inside = low >= h.window.start and high < h.window.end
            h.cell.add(table if inside else table.filter(pa.array((ts >= h.window.start) & (ts < h.window.end))))
            h.found += rows.counts - before
            before = Counter(rows.counts)

    def _done(self, h: Hour, readers: Sequence[Reader]) -> CellResult:
        """Publish an hour and record how it is known: the record comes last, so that it never speaks of what is not."""
        if not self._wanted[h.steps].any():
            return self._unchanged(h)
        cell = h.cell or LogCell(self._ctx.tables, h.window, Asked(self._window.start, self._wanted), edge=h.edge)
        cell.close()
        record = self._record(h, cell, readers)
        self._ctx.records.put(record)
        late = self._late(h)
        return CellResult(record, read_again=True, late=late)

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
            start = max(start, self._at_start)
        elif not read:
            start = before.get("at_start", 0)
        return start, end if self._wanted[last] else before.get("at_end", 0)

    def _late(self, h: Hour) -> int:
        """Return how many lines came since the hour was known as complete."""
        known = h.before is not None and h.before.complete and not h.before.provisional
        return max(0, self._total(h) - self._then(h)) if known else 0

    def _unchanged(self, h: Hour) -> CellResult:
        """Return the hour's record, to which is added what the server does not have any more."""
        before = h.before
        assert before is not None  # noqa: S101 - an hour that is not known is read
        gone = max(0, self._then(h) - self._total(h))
        if gone != before.proof.get("gone_from_server", 0):
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
        counted = int(self._counted[h.steps].sum()) + at_start - at_end
        proof: dict[str, Any] = {
            "method": _METHOD,
            "counted": counted,
            "reconciled": counted - int(sum(self._counted[i] for i in short)),
            "at_start": at_start,
            "at_end": at_end,
            "steps": {name: n.tolist() for name, n in self._named_steps(h).items()},
            "short": {instant_text(self._at_steps(slice(i, i)).start): s.tolist() for i, s in short.items()},
            "unread": sum(n for _, n in unread),
            "explained": int(self._explained[h.steps].sum()) + before.get("explained", 0),
            "requests": sum(t.requests for t in spent) + before.get("requests", 0),
            "recounted": sum(t.recounted for t in spent) + before.get("recounted", 0),
            "causes": dict(sum((t.causes for t in spent), Counter(before.get("causes", {})))),
            "found": {k: n for k, n in found.items() if n > 0},
            "late": self._late(h) + (h.before.proof.get("late", 0) if h.before else 0),
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


def _counts(loki: Loki, window: Window) -> Counts:
    """Count a window; that there is nothing in it is believed when it was said each time."""
    counts: Counts = {}
    for _ in range(ROUNDS):
        counts = counts or loki.counts(window)
    return counts


def _highest(a: Counts, b: Counts) -> Counts:
    """Return the higher of two counts of the same window, app by app and step by step."""
    both = {**a, **b}
    return {app: np.maximum(a.get(app, steps), steps) for app, steps in both.items()}
