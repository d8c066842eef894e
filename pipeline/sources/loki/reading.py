"""Brings each slice to agree with its count, step by step, and says exactly where and by how much that failed.

What does not agree is counted and read once more, with labels and metadata kept apart by Loki; what still comes short
is looked at line by line as a metric query shows it, in parts that are small enough for that.
"""

from __future__ import annotations

import functools
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from pipeline.errors import TooLarge
from pipeline.model import NS, Block, Window
from pipeline.sources.http import TooSlow
from pipeline.sources.loki.answers import NOTHING, Answer, Int64s, chosen, joined
from pipeline.sources.loki.busy import BusyInstant
from pipeline.sources.loki.client import ROUNDS, STEP_NS, Loki, narrowed
from pipeline.sources.loki.plan import Slice, room
from pipeline.sources.loki.shown import MOST, with_shown
from pipeline.sources.loki.streams import Streams, Unclear

_MS = 1_000_000
_MOST_IN_VAIN = 20
_CONTEXT_NS = 60 * NS
_FEW = 100
_FEW_SHORT = 3  # steps: where more are short they are counted together
_TRACES = 2  # rows per label set, below which metadata such as trace ids makes merged sets dearer than kept apart


@dataclass(frozen=True)
class Part:
    """What was read of a slice: entries, and by step what was counted and how many rows came.

    `short` are the steps that do not agree; `explained` by how many rows a count is off for a known reason: it takes
    entries that differ in metadata alone for one, or counts what the server gives twice. `unread`: chunks that Loki did
    not read, so that lines may be missing of which no count knows. `context` is what lies before an edge: what begins there
    may go on.
    """

    block: Block
    counted: Int64s
    rows: Int64s
    short: Sequence[int] = ()
    explained: int = 0
    unread: int = 0
    context: Block = NOTHING.block


@dataclass
class Tally:
    """What reading took; threads add to it."""

    requests: int = 0
    recounted: int = 0
    causes: Counter[str] = field(default_factory=Counter)
    _adding: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def spent(self) -> Tally:
        """Return the counts and begin again at nothing."""
        with self._adding:
            so_far = Tally(self.requests, self.recounted, self.causes)
            self.requests, self.recounted, self.causes = 0, 0, Counter()
        return so_far

    def add(self, requests: int = 0, recounted: int = 0, cause: str = "") -> None:
        """Add to the counts."""
        with self._adding:
            self.requests += requests
            self.recounted += recounted
            if cause:
                self.causes[cause] += 1


class Reader:
    """Reads slices of one selector; thread-safe. It learns how much one answer of this server holds."""

    def __init__(self, loki: Loki, streams: Streams, limit: int, largest: int) -> None:
        self.tally = Tally()
        self._loki = loki
        self._streams = streams
        self._limit = limit  # what is asked for
        self._largest = largest  # what the server would give at most
        self._most: dict[str, int] = {}  # of a group's entries what one answer was seen to hold
        self._views: dict[str, Streams] = {}  # by selector: the streams of one that chooses only a part
        self._in_vain = 0  # steps that stayed short
        self._apart: set[str] = set()  # groups whose metadata differs from line to line

    def read(self, s: Slice) -> Part:
        """Read a slice and hold every step of it against its count. Raises SourceError."""
        where = s.group.where
        answer = self._fetch(s.window, s.expected, where, s.group.name)
        counted = s.counted.copy()
        part = _reconciled(answer, s.window, counted)
        if len(part.short) > _FEW_SHORT:
            counted = self._recounted(lambda: self._loki.steps(s.window, where), counted)
            answer = _fuller(self._fetch(s.window, int(counted.sum()), where, "", apart=True), answer)
            part = _reconciled(answer, s.window, counted)
        for i in part.short:
            again = Window(s.window.start + i * STEP_NS, s.window.start + (i + 1) * STEP_NS)
            mended, counted[i] = self._agreed(answer.within(again), again, int(counted[i]), where)
            answer = joined([answer.outside(again), mended])
        return self._ours(_reconciled(answer, s.window, counted) if part.short else part)

    def read_instant(self, at: int) -> Part:
        """Read one nanosecond of all streams: where a wanted part begins, which is counted in the step before.

        The minute before comes as context.
        """
        window = Window(at - _MS, at)
        where = self._loki.selector
        expected = self._count(window, where)
        answer = self._fetch(window, expected, where, "")
        if not _agrees(answer, expected):
            answer, expected = self._agreed(answer, window, expected, where)
        inside = chosen(answer.block, answer.block.ts == at)
        rows = np.array([len(inside)], np.int64)
        missing = max(0, expected - len(answer.block))
        short = () if _agrees(answer, expected) else (0,)
        before = self._fetch(Window(at - _CONTEXT_NS, at - _MS), 0, where, "").block
        return self._ours(Part(inside, rows + missing, rows, short, unread=answer.unread, context=before))

    def _agreed(self, answer: Answer, window: Window, expected: int, where: str) -> tuple[Answer, int]:
        """Count and read again until both agree: lines still arriving, or trouble of the server or on the way.

        Where that helped too rarely it is tried once: what is wrong is then no moment's trouble.
        """
        for _ in range(ROUNDS + 1 if self._in_vain < _MOST_IN_VAIN else 1):
            expected = int(
                self._recounted(lambda: np.array([self._loki.count(window, where)]), np.array([expected]))[0]
            )
            answer = self._mended(window, expected, where, answer)
            if _agrees(answer, expected):
                return answer, expected
        self._in_vain += 1
        return answer, expected

    def _recounted(self, ask: Callable[[], Int64s], before: Int64s) -> Int64s:
        """Count again; fewer than before is believed when it was said each time: a count may lack some, never have more."""
        found = np.zeros_like(before)
        for _ in range(ROUNDS):
            self.tally.add(recounted=1)
            found = np.maximum(found, ask())
            if (found >= before).all():
                break
        return found

    def _count(self, window: Window, where: str) -> int:
        self.tally.add(recounted=1)
        return self._loki.count(window, where)

    def _fetch(self, window: Window, expected: int, where: str, group: str, *, apart: bool = False) -> Answer:
        """Fetch `(start, end]`; what cannot be asked for as a whole comes in parts."""
        most = min(room(self._limit), self._most.get(group, self._limit))
        answer = None if expected > most else self._asked(window, expected, where, group, apart=apart)
        if answer is not None and not answer.full:
            return answer
        if window.length == 1:
            return self._instant(window.end, where)
        parts = _halves(window) if answer is None else _around(answer, window)
        return joined([self._fetch(w, self._expected(w, where), where, group, apart=apart) for w in parts])

    def _asked(self, window: Window, expected: int, where: str, group: str, *, apart: bool) -> Answer | None:
        """Ask once for `(start, end]`; None where that is too much for the server."""
        together = not apart and group not in self._apart
        for early in (True, False):
            self.tally.add(requests=1)
            try:
                answer = self._read_twice(window, where, together=together, early=early)
            except Unclear as e:
                return joined([self._side(window, w, apart=apart) for w in self._split(where, e.name)])
            except TooLarge as e:
                self._learn(e, window, expected, group)
                return None
            self._fits(group, len(answer.block))
            if together and answer.streams * _TRACES > answer.given > _FEW:
                self._apart.add(group)
            if not answer.full:
                return answer
            # what lies at the very start, to be dropped, may have taken the room: once more without it
        self.tally.add(cause="a full answer")
        return answer

    def _read_twice(self, window: Window, where: str, *, together: bool, early: bool) -> Answer:
        """Fetch, and where Loki did not read all its chunks once more: what is missing a moment may be there the next."""
        ask = functools.partial(self._loki.fetch, apart=not together, early=early, limit=self._limit)
        answer = ask(window, self._streams_of(where), where)
        if answer.unread:
            self.tally.add(requests=1, cause="chunks that Loki did not read")
            answer = ask(window, self._streams_of(where), where)
        return answer

    def _side(self, window: Window, where: str, *, apart: bool) -> Answer:
        """Fetch one side of a split, which is held against its own count: as a whole it cannot be asked for again."""
        expected = self._expected(window, where)
        answer = self._fetch(window, expected, where, "", apart=apart)
        if window.length % _MS or len(answer.block) + len(answer.doubles) >= expected:
            return answer
        return self._agreed(answer, window, expected, where)[0]

    def _streams_of(self, where: str) -> Streams:
        return self._views.get(where, self._streams)

    def _split(self, where: str, name: str) -> list[str]:
        """Return a selector for the streams that have not that label, and one for those that have."""
        self.tally.add(cause="metadata that could be labels")
        parts = {narrowed(where, f'{name}{op}""'): has for op, has in (("=", False), ("!=", True))}
        self._views |= {part: self._streams_of(where).having(name, has=has) for part, has in parts.items()}
        return list(parts)

    def _learn(self, e: TooLarge, window: Window, expected: int, group: str) -> None:
        """Ask for less from now on. Raises TooLarge where less would not help."""
        self.tally.add(cause=e.what.split(":")[0])
        if e.limit is not None:
            self._limit = min(self._limit, e.limit)
        elif isinstance(e, TooSlow) and window.length <= NS:
            raise e  # a second's lines are few: what is slow is the server, and smaller questions are more of them
        elif expected > 1:
            self._most[group] = min(self._most.get(group, expected), expected // 2)  # bytes: others will not fit either

    def _fits(self, group: str, rows: int) -> None:
        """Ask for more again: what was too large may have been a few lines."""
        most = self._most.get(group)
        if most is not None and rows * 2 > most:
            self._most[group] = most + 1 + most // 8

    def _expected(self, window: Window, where: str) -> int:
        """Count, or where Loki cannot count so finely ask at once: the limit tells when that was too much."""
        if window.length == 1:
            self.tally.add(recounted=1)
            return self._loki.count_instant(window.end, where)
        return 0 if window.length % _MS else self._count(window, where)

    def _mended(self, window: Window, expected: int, where: str, known: Answer) -> Answer:
        """Read once more what did not agree with its count; then as a metric query shows it, in halves that it can show.

        Where metadata is kept apart, Loki takes an error on its way (a message too large, a chunk not found) for the end
        of the lines and says 200: a smaller window then shows what a larger one did not.
        """
        answer = _fuller(self._fetch(window, expected, where, "", apart=True), known)
        if _agrees(answer, expected) or len(answer.block) > expected:
            return answer
        if expected <= MOST:
            self.tally.add(requests=1, cause="what only a metric query shows")
            try:
                told = with_shown(answer, self._loki, self._streams_of(where), window, where)
            except Unclear as e:
                return joined([self._side(window, w, apart=True) for w in self._split(where, e.name)])
            if told is not None:
                return told
        if window.length <= _MS:
            return answer
        self.tally.add(cause="a short answer")
        parts = []
        for half in _halves(window):
            n, rows = self._count(half, where), answer.within(half)
            parts.append(rows if _agrees(rows, n) else self._mended(half, n, where, rows))
        return joined(parts)

    def _instant(self, at: int, where: str) -> Answer:
        self.tally.add(cause="a busy nanosecond")
        try:
            return BusyInstant(self._loki, self._streams_of(where), at, self._largest, self.tally.add).read(where)
        except Unclear as e:
            return joined([self._instant(at, part) for part in self._split(where, e.name)])

    def _ours(self, part: Part) -> Part:
        """Leave out what another selector reads: it is counted here too, and reconciled, but stored once."""
        ours = [self._streams.is_ours(run.labels) for run in part.block.runs]
        if all(ours):
            return part
        mask = np.repeat(np.array(ours), [run.rows for run in part.block.runs])
        return replace(part, block=chosen(part.block, mask))


def _halves(window: Window) -> list[Window]:
    """Halve on whole milliseconds while there are any, because counts need them."""
    half = window.length // 2
    middle = window.start + (half // _MS * _MS or half)
    return [Window(window.start, middle), Window(middle, window.end)]


def _around(full: Answer, window: Window) -> list[Window]:
    """Cut a window of which too much came: at the instant that has most of it, if one has, so that it is asked alone."""
    instants, counts = np.unique(full.block.ts, return_counts=True)
    if not len(instants) or counts.max() * 2 < len(full.block):
        return _halves(window)
    at = int(instants[counts.argmax()])
    return [w for w in (Window(window.start, at - 1), Window(at - 1, at), Window(at, window.end)) if w]


def _fuller(later: Answer, before: Answer) -> Answer:
    """Return the answer with more entries, else the later one, which knows of streams that have begun meanwhile."""
    return max(later, before, key=lambda answer: (len(answer.block), len(answer.doubles)))


def _agrees(answer: Answer, expected: int) -> bool:
    """Tell whether as many rows came as were counted, or the difference is known.

    Entries equal in stream, instant and line with other metadata are two rows, which Loki may count as one; and an entry
    that was sent twice it may count twice, which is believed where the entries were counted one by one.
    """
    n = len(answer.block)
    return n == expected or n < expected <= n + len(answer.doubles) or _lines(answer.block) <= expected < n


def _lines(block: Block) -> int:
    """Count entries without regard to their metadata."""
    whose = (run.labels for run in block.runs for _ in range(run.rows))
    return len(set(zip(block.ts.tolist(), block.lines, whose, strict=True)))


def _reconciled(answer: Answer, window: Window, counted: Int64s) -> Part:
    """Hold rows against counts, step by step."""
    rows = np.bincount((answer.block.ts - window.start - 1) // STEP_NS, minlength=len(counted))
    short, explained = [], 0
    for i in np.flatnonzero(rows != counted).tolist():
        step = answer.within(Window(window.start + i * STEP_NS, window.start + (i + 1) * STEP_NS))
        if _agrees(step, int(counted[i])):
            explained += abs(int(rows[i]) - int(counted[i]))
        else:
            short.append(i)
    return Part(answer.block, counted, rows, short, explained, answer.unread)
