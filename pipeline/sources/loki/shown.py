"""Where rows and count disagree: what only a metric query shows is added, what it counts more than once is told.

A log query does not give an entry on the edge of the server's own split that ends its chunk, and takes an error on its
way for the end; a count takes for two what an agent sent twice. The same query as the count, line by line, shows both.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from pipeline.errors import TooLarge
from pipeline.model import Block, Pairs, Run, Window
from pipeline.sources.loki.answers import Answer, joined
from pipeline.sources.loki.client import Loki
from pipeline.sources.loki.streams import Streams, Unclear, pairs

MOST = 400  # entries that are asked for so: Loki counts 500 apart unless told otherwise


def with_shown(answer: Answer, loki: Loki, streams: Streams, window: Window, where: str) -> Answer | None:
    """Return a window's answer with what was not in it; None where that is more than Loki shows.

    Raises Unclear where it cannot be told which of two streams an entry is of, SourceError.
    """
    have = Counter(_merged(answer.block))
    found: Counter[tuple[int, str, Pairs]] = Counter()
    try:
        for entry in loki.shown(window, where):
            found[entry.at, entry.line, pairs(entry.merged)] += entry.counted
    except TooLarge:
        return None
    new: list[tuple[int, str, Run]] = []
    doubles: list[int] = []
    for key, n in found.items():
        at, line, labels = key
        if n <= have[key]:
            continue
        try:
            origin = streams.origin(dict(labels))
        except Unclear as e:
            if e.name:
                raise  # may be two entries of two streams
            continue  # of a stream that nobody lists: the count goes on saying so
        if not have[key]:
            new.append((at, line, Run(origin.labels, origin.metadata, 1)))
        doubles += [at] * (n - max(1, have[key]))
    block = Block(np.array([at for at, _, _ in new], np.int64), [t for _, t, _ in new], [run for _, _, run in new])
    told = replace(answer, doubles=np.array(doubles, np.int64))
    return joined([told, Answer(block, told.doubles[:0], len(new))])


def _merged(block: Block) -> list[tuple[int, str, Pairs]]:
    sets = [tuple(sorted((*run.labels, *run.metadata))) for run in block.runs]
    whose = (labels for labels, run in zip(sets, block.runs, strict=True) for _ in range(run.rows))
    return list(zip(block.ts.tolist(), block.lines, whose, strict=True))
