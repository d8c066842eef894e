"""Reads a window as a whole: for streams of which a day fits in memory, with the same counts as for all others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.model import NS, Entry, Window
from pipeline.sources.loki import plan
from pipeline.sources.loki.answers import Int64s
from pipeline.sources.loki.client import ROUNDS, STEP_NS, Loki
from pipeline.sources.loki.reading import Reader
from pipeline.sources.loki.streams import Streams


@dataclass(frozen=True)
class Whole:
    """The entries of `[start, end]`, how many were counted, and where fewer came than were counted or chunks not read."""

    entries: Sequence[Entry]
    counted: int
    short: Sequence[Window]


def read(loki: Loki, window: Window, nonce: int) -> Whole:
    """Read a window of whole 10 s, a day at most, both of its ends included. Raises SourceError.

    `nonce` makes the list of streams a question that Loki has not cached.
    """
    limit, largest = loki.sizes(loki.limits())
    counts: dict[str, Int64s] = {}
    for _ in range(ROUNDS):  # that there is nothing is believed when it was said each time
        counts = counts or loki.counts(window)
    reader = Reader(loki, Streams(lambda: loki.series(window.widen(NS, 0), nonce)), limit, largest)
    wanted = np.ones(window.length // STEP_NS, np.bool_)
    groups = plan.groups(counts, loki.selector, loki.app, limit)
    parts = [(window.start - STEP_NS, reader.read_instant(window.start))]
    parts += [(s.window.start, reader.read(s)) for s in plan.slices(counts, groups, window, wanted, limit)]
    short = [Window(at + i * STEP_NS, at + (i + 1) * STEP_NS) for at, p in parts for i in p.short]
    short += [Window(at, at + len(p.counted) * STEP_NS) for at, p in parts if p.unread]
    return Whole([e for _, p in parts for e in p.block.entries()], sum(int(p.counted.sum()) for _, p in parts), short)
