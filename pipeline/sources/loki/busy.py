"""More lines at one nanosecond than one answer may hold: split by what differs, counted on both sides of every split.

First by stream labels, then by the text, then by metadata. Each split is a condition and its exact opposite, so the two
sides can neither overlap nor miss anything, and their counts must add up to the whole. What to split by is learned from
the lines that an answer does hold.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.errors import TooLarge
from pipeline.model import Block, Window
from pipeline.sources.loki.answers import Answer, joined
from pipeline.sources.loki.client import Loki, narrowed, quoted
from pipeline.sources.loki.streams import Streams

_PLACES = 400  # characters of a line that are looked at for a difference
_TRIES = 8  # splits that are tried before it is said that there is none
_MOST_TEXT = 60_000  # bytes of values in one query: Loki reads no query of more than 128 KiB


class Chosen(NamedTuple):
    """Entries by stream and by what their lines or metadata hold: a selector, and predicates behind it."""

    selector: str
    predicates: str = ""

    def __str__(self) -> str:
        return self.selector + self.predicates

    def labelled(self, matcher: str) -> Chosen:
        """Return those of streams with that label."""
        return self._replace(selector=narrowed(self.selector, matcher))

    def filtered(self, predicate: str) -> Chosen:
        """Return those for which a predicate holds."""
        return self._replace(predicates=f"{self.predicates} {predicate}")


@dataclass(frozen=True)
class BusyInstant:
    """Reads one nanosecond. `limit`: the most that the server gives; `tell(requests=, recounted=, cause=)` counts."""

    loki: Loki
    streams: Streams
    at: int
    limit: int
    tell: Callable[..., None]

    def read(self, selector: str) -> Answer:
        """Return its entries; fewer than counted where nothing tells them apart. Raises SourceError."""
        everything = Chosen(selector)
        return self._whole(everything, self._count(everything))

    def _whole(self, part: Chosen, n: int) -> Answer:
        answer = self._fetched(part)
        if len(answer.block) >= n:
            return answer
        for yes, no in _splits(part, answer.block):
            counts = [self._count(yes), self._count(no)]
            if min(counts) > 0 and sum(counts) == n:
                return joined([self._whole(side, k) for side, k in zip((yes, no), counts, strict=True)])
        self.tell(cause="lines that nothing tells apart")
        return answer

    def _count(self, part: Chosen) -> int:
        self.tell(recounted=1)
        return self.loki.count_instant(self.at, str(part))

    def _fetched(self, part: Chosen) -> Answer:
        """Return all, or as much as an answer can hold: whether it is all, the count tells.

        Too many bytes are refused, or answered with nothing where metadata is kept apart: fewer lines show what differs.
        """
        window, most = Window(self.at - 1, self.at), self.limit
        while True:
            self.tell(requests=1)
            try:
                # without the nanosecond before, which would take room: what Loki then loses, the count shows
                answer = self.loki.fetch(window, self.streams, str(part), apart=True, early=False, limit=most)
            except TooLarge as e:
                if most == 1:
                    raise
                self.tell(cause=e.what)
            else:
                if len(answer.block) or most == 1:
                    return answer
            most = max(1, most // 10)


def _splits(part: Chosen, block: Block) -> Iterator[tuple[Chosen, Chosen]]:
    """Yield the most even splits by labels, then by text, then by metadata."""
    for name, values in _by_name([(run.labels, run.rows) for run in block.runs]):
        if some := _half(values):
            text = _any_of(some)
            yield part.labelled(f"{name}=~{text}"), part.labelled(f"{name}!~{text}")
    for place, letters in _by_place(block.lines)[:_TRIES]:
        if some := _half(letters):
            codes = "".join(f"\\x{{{ord(c):x}}}" for c in sorted(some))
            text = quoted(f"^(?s:.{{{place}}})[{codes}]")
            yield part.filtered(f"|~ {text}"), part.filtered(f"!~ {text}")
    for name, values in _by_name([(run.metadata, run.rows) for run in block.runs]):
        if some := _half(values):
            text = _any_of(some)
            yield part.filtered(f"| {name}=~{text}"), part.filtered(f"| {name}!~{text}")


def _any_of(values: Iterable[str]) -> str:
    return quoted("|".join(re.escape(v) for v in values))


def _by_name(sets: Iterable[tuple[Sequence[tuple[str, str]], int]]) -> list[tuple[str, Counter[str]]]:
    """Return how many rows have which value of a label, the labels first that tell most rows apart."""
    found: dict[str, Counter[str]] = {}
    whole = 0
    for pairs, rows in sets:
        whole += rows
        for name, value in pairs:
            found.setdefault(name, Counter())[value] += rows
    for values in found.values():
        values[""] += whole - values.total()
    return sorted(found.items(), key=lambda item: (max(item[1].values()), item[0]))


def _by_place(lines: Sequence[str]) -> list[tuple[int, Counter[str]]]:
    """Return how many lines have which character at a place, the places first that tell most lines apart."""
    longest = min(_PLACES, max(map(len, lines), default=0))
    places = []
    for i in range(longest):
        letters = Counter(line[i] for line in lines if len(line) > i)
        letters[""] += len(lines) - letters.total()
        places.append((i, letters))
    return sorted(places, key=lambda p: (max(p[1].values()), p[0]))


def _half(values: Counter[str]) -> list[str]:
    """Return values that about half of the rows have; nothing where all have the same. Absent ones are the other half."""
    some: list[str] = []
    rows = size = 0
    for value, n in sorted(values.items(), key=lambda item: (-item[1], item[0])):
        if value and (not some or rows + n <= values.total() // 2) and size + len(value) < _MOST_TEXT:
            some.append(value)
            rows, size = rows + n, size + len(value) + 2
    return some if rows < values.total() else []
