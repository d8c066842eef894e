"""What Loki counts of a day, step by step, beside what the lake knows of each hour: which steps are to be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np

from pipeline.model import PullRecord, Window
from pipeline.sources.loki.answers import Int64s
from pipeline.sources.loki.client import ROUNDS, STEP_NS, Loki
from pipeline.steps.context import Context
from pipeline.steps.log_cells import Bools, LogCell

Counts = Mapping[str, Int64s]


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


class DayCounts:
    """The counts of a day by selector (`of`) and in all (`counted`), and the steps to read (`wanted`)."""

    def __init__(self, ctx: Context, lokis: Sequence[Loki], window: Window, hours: Sequence[Hour]) -> None:
        self._ctx = ctx
        self._lokis = lokis
        self._window = window
        self._hours = hours
        self._redactor = ctx.redactor()
        for h in hours:
            h.steps = slice((h.window.start - window.start) // STEP_NS, (h.window.end - window.start) // STEP_NS)
        self.of: list[Counts] = [_counts(loki, window) for loki in lokis]
        self.counted = self._sum()
        self.wanted: Bools = np.zeros(len(self.counted), np.bool_)
        self._choose()

    def _choose(self) -> None:
        """Choose the steps to read: hours that are not known, not settled or not complete, and steps that have changed."""
        for _ in range(ROUNDS - 1):
            if all(self.total(h) >= self.then(h) for h in self._hours):
                break
            # fewer than there were is retention, or a count that came short: the higher of two is nearer to the truth
            again = [loki.counts(self._window) for loki in self._lokis]
            self.of = [_highest(a, b) for a, b in zip(self.of, again, strict=True)]
            self.counted = self._sum()
        for h in self._hours:
            changed = self._changed(h)
            self.wanted[h.steps] = True if changed is None else changed
            h.whole = changed is None
        for h, following in pairwise(self._hours):
            # that instant is counted in the hour before, whose record may be the newer one
            if h.before and following.before and h.before.proof["at_end"] > following.before.proof["at_start"]:
                self.wanted[h.steps.stop - 1] = True
        # a key or a trace may begin a step before; and the instant after an hour's last step lies in the next hour's file
        late = self.wanted.copy()
        for h in (h for h in self._hours if h.whole):
            late[h.steps] = False
        self.wanted[:-1] |= late[1:]
        self.wanted[1:] |= late[:-1]
        self._keep_spread_secrets_whole()
        for h, following in pairwise(self._hours):
            self.wanted[following.steps.start] |= h.whole
            following.edge = following.whole and not h.whole and not self.wanted[h.steps][-1]
        self._hours[0].edge = self._hours[0].whole

    def _keep_spread_secrets_whole(self) -> None:
        """Read all of an hour in which parts of a key are redacted: of some of its lines alone they could not be told."""
        spread = [f"redacted:{rule}" for rule in self._redactor.spread]
        before: Hour | None = None
        for h in self._hours:
            reading = self.wanted[h.steps].copy()
            if before and before.whole:
                reading[0] = False  # what goes on there is known from the hour before
            keyed = h.before is not None and any(h.before.proof["found"].get(rule) for rule in spread)
            if keyed and reading.any():
                h.whole = True
                self.wanted[h.steps] = True
            before = h

    def _changed(self, h: Hour) -> Bools | None:
        """Tell in which steps the server counts other than when they were read; None: all must be read.

        Fewer may be what is no longer there and, beside it, what came late; where there are none left there is nothing to
        read.
        """
        before = h.before
        # the record speaks of the rows it was written with: where the lake has lost some, they are read again
        if before is None or before.provisional or not before.complete:
            return None
        if self._ctx.tables.count("logs", h.window) != before.rows or self._at(h) > before.proof["at_start"]:
            return None
        then = before.proof["steps"]
        changed = np.zeros(h.steps.stop - h.steps.start, np.bool_)
        for name, steps in self.named_steps(h).items():
            changed |= (steps > 0) & (steps != np.array(then.get(name, np.zeros(len(steps))), np.int64))
        return changed

    def named_steps(self, h: Hour) -> dict[str, Int64s]:
        """Return the counts of an hour by app; those of a second selector under names of their own."""
        named: dict[str, Int64s] = {}
        for i, counts in enumerate(self.of):
            for app, steps in sorted(counts.items()):
                name = self._redactor.text(app)[0]
                name = f"{i}/{name}" if i else name
                named[name] = named.get(name, 0) + steps[h.steps]
        return named

    def _at(self, h: Hour) -> int:
        """Count what lies at the first instant of all, which no step of this day holds; an hour's is in the step before."""
        return self.at_start if h is self._hours[0] else 0

    @cached_property
    def at_start(self) -> int:
        """The number of entries at the first instant."""
        return sum(loki.count_instant(self._window.start) for loki in self._lokis)

    def total(self, h: Hour) -> int:
        """Count the steps of an hour, and of the first hour its first instant."""
        return int(self.counted[h.steps].sum()) + self._at(h)

    def then(self, h: Hour) -> int:
        """Return what the same came to when the hour was read; 0 where it never was."""
        if h.before is None:
            return 0
        proof = h.before.proof
        return sum(sum(n) for n in proof["steps"].values()) + (proof["at_start"] if h is self._hours[0] else 0)

    def _sum(self) -> Int64s:
        steps = np.zeros(self._window.length // STEP_NS, np.int64)
        return sum((s for counts in self.of for s in counts.values()), steps)


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
