"""More lines at one nanosecond than one answer may hold: split by what differs, counted on both sides of every split.

First by stream labels, then by the text, then by metadata, until no answer is full. Each split is a condition and its exact
opposite, so the two sides can neither overlap nor miss anything, and their counts must add up to the whole. What to split
by is learned from the lines that an answer does hold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.errors import TooLarge
from pipeline.model import Block, Pairs, Window
from pipeline.sources.http import TooSlow
from pipeline.sources.loki.answers import NOTHING, Answer, joined
from pipeline.sources.loki.client import Loki, narrowed, quoted
from pipeline.sources.loki.shown import MOST, with_shown
from pipeline.sources.loki.streams import Streams

_PLACES = 400  # characters, from the first that differs, that are looked at for an even split
_TRIES = 8  # splits that are tried before it is said that there is none
_FEWEST = 2  # entries from which it can be learned what differs
_MOST_LINES = 2000  # lines that are looked at
_MOST_LETTERS = 200  # in one condition: Loki reads no query of more than 128 KiB


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
        """Return its entries; fewer than counted where nothing tells them apart. Raises Unclear, SourceError."""
        everything = Chosen(selector)
        return self._whole(everything, self._count(everything))

    def _whole(self, part: Chosen, n: int) -> Answer:
        answer = self._fetched(part, n)
        rows = len(answer.block) + len(answer.doubles)
        if rows >= n and not answer.full:
            return answer
        if answer.full or n > MOST:
            for yes, no in _splits(part, answer.block):
                counts = [self._count(yes), self._count(no)]
                # more than the whole where that took entries that differ in metadata alone for one
                if min(counts) > 0 and sum(counts) >= n:
                    return joined([self._whole(side, k) for side, k in zip((yes, no), counts, strict=True)])
        return answer if rows >= n else self._shown(part, n, answer)

    def _count(self, part: Chosen) -> int:
        self.tell(recounted=1)
        return self.loki.count_instant(self.at, str(part))

    def _shown(self, part: Chosen, n: int, answer: Answer) -> Answer:
        told = None
        if n <= MOST:
            self.tell(requests=1, cause="what only a metric query shows")
            told = with_shown(answer, self.loki, self.streams, Window(self.at - 1, self.at), str(part))
        if told is None or len(told.block) + len(told.doubles) < n:
            self.tell(cause="lines that nothing tells apart")
        return told or answer

    def _fetched(self, part: Chosen, n: int) -> Answer:
        """Return all, or as much as an answer can hold: whether it is all, the count tells.

        Too many bytes are refused, or answered with nothing where metadata is kept apart: fewer lines show what differs.
        """
        most = self.limit
        while True:
            try:
                answer = self._asked(part, most, early=True)
                if answer.full and (n <= most or len(answer.block) < max(_FEWEST, most // 2)):
                    # what lies at the nanosecond before may have taken the room
                    later = self._asked(part, most, early=False)
                    answer = later if len(later.block) >= len(answer.block) else answer
            except TooLarge as e:
                self.tell(cause=e.what.split(":")[0])
                if most == 1 and (n == 0 or e.limit is not None or isinstance(e, TooSlow)):
                    raise
                if most == 1:
                    return NOTHING  # a line that no answer holds: the count says that it is missing
            else:
                if len(answer.block) or most == 1 or n == 0:
                    return answer
            most = most // 10 or most // 2

    def _asked(self, part: Chosen, most: int, *, early: bool) -> Answer:
        self.tell(requests=1)
        window = Window(self.at - 1, self.at)
        return self.loki.fetch(window, self.streams, str(part), apart=True, early=early, limit=most)


def _splits(part: Chosen, block: Block) -> Iterator[tuple[Chosen, Chosen]]:
    """Yield the most even splits by labels, then by text, then by metadata: each by the character at one place."""
    for name, place, letters in _by_name([(run.labels, run.rows) for run in block.runs]):
        text = quoted(f"{_until(place)}{letters}(?s:.*)")
        yield part.labelled(f"{name}=~{text}"), part.labelled(f"{name}!~{text}")
    for place, letters in _by_place(Counter(block.lines[:: 1 + len(block) // _MOST_LINES])):
        text = quoted(f"^{_until(place)}{letters}")
        yield part.filtered(f"|~ {text}"), part.filtered(f"!~ {text}")
    for name, place, letters in _by_name([(run.metadata, run.rows) for run in block.runs]):
        text = quoted(f"{_until(place)}{letters}(?s:.*)")
        yield part.filtered(f"| {name}=~{text}"), part.filtered(f"| {name}!~{text}")


def _by_name(sets: Iterable[tuple[Pairs, int]]) -> list[tuple[str, int, str]]:
    """Return by which place and letters to split the values of which labels, the most even first."""
    found: dict[str, Counter[str]] = {}
    whole = 0
    for pairs, rows in sets:
        whole += rows
        for name, value in pairs:
            found.setdefault(name, Counter())[value] += rows
    for values in found.values():
        values[""] += whole - values.total()
    best = [(place, name) for name, values in found.items() for place in _places(values)[:1]]
    return [(name, place, letters) for (_, place, letters), name in sorted(best)[:_TRIES]]


def _by_place(lines: Counter[str]) -> list[tuple[int, str]]:
    return [(place, letters) for _, place, letters in _places(lines)[:_TRIES]]


def _places(values: Counter[str]) -> list[tuple[int, int, str]]:
    """Return where texts differ: how many rows are alike there at most, the place, and letters that half of them have."""
    values = +values
    low, high = min(values, default=""), max(values, default="")
    first = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), len(low))
    places = []
    for i in range(first, min(first + _PLACES, max(map(len, values), default=0))):
        letters: Counter[str] = Counter()
        for value, rows in values.items():
            letters[value[i : i + 1]] += rows
        if some := _half(letters):
            codes = "".join(f"\\x{{{ord(c):x}}}" for c in sorted(some))
            places.append((max(letters.values()), i, f"[{codes}]"))
    return sorted(places)


def _half(letters: Counter[str]) -> list[str]:
    """Return letters that about half of the rows have; nothing where all have the same. Where there is none is the rest."""
    some: list[str] = []
    rows = 0
    for letter, n in sorted(letters.items(), key=lambda item: (-item[1], item[0])):
        if letter and (not some or rows + n <= letters.total() // 2) and len(some) < _MOST_LETTERS:
            some.append(letter)
            rows += n
    return some if rows < letters.total() else []


def _until(place: int) -> str:
    """Return what stands for so many characters: Loki repeats nothing more often than a thousand times."""
    return f"(?s:{'.{1000}' * (place // 1000)}.{{{place % 1000}}})"
