"""Labels and structured metadata, which Loki gives merged: what `/series` lists are labels, the rest is metadata.

Asking Loki to keep them apart doubles its work, so that is done only where the merged set can be read in two ways.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from pipeline.model import Pairs

_MOST_KNOWN = 50_000
_numbers = itertools.count()  # tell which of two lists, of whatever selectors, is the older


class Origin(NamedTuple):
    """What a merged label set is: the stream's own labels and the metadata."""

    labels: Pairs
    metadata: Pairs


class Unclear(Exception):  # noqa: N818 - a question to the caller
    """A merged label set that could be two streams; `name` is a label that one of them has and the other has not.

    Loki itself takes the lines of both for those of one, and lines of equal text for the same: asked for by `name=""` and
    `name!=""`, each comes as it is. Without a name: a set that holds no known stream, which Loki must tell apart.
    """

    def __init__(self, name: str = "") -> None:
        super().__init__(name)
        self.name = name


def pairs(labels: Mapping[str, str]) -> Pairs:
    """Return labels in the order of their names."""
    return tuple(sorted(labels.items()))


class _Listed(NamedTuple):
    """One answer of `/series`, numbered in the order of all, and what was made of merged label sets by it."""

    number: int
    streams: frozenset[Pairs]
    keys: tuple[tuple[str, ...], ...]
    origins: dict[Pairs, Origin]

    def candidates(self, merged: Mapping[str, str]) -> list[Pairs]:
        """Return the streams whose labels are all among `merged`."""
        fitting = (keys for keys in self.keys if all(name in merged for name in keys))
        return [stream for keys in fitting if (stream := tuple((k, merged[k]) for k in keys)) in self.streams]


class Streams:
    """The streams of one selector, as `/series` lists them; thread-safe. Those of `others` are another selector's."""

    def __init__(self, ask: Callable[[], Iterable[Mapping[str, str]]], others: Iterable[Streams] = ()) -> None:
        self._ask = ask
        self._others = tuple(others)
        self._listed: _Listed | None = None
        self._asking = threading.Lock()
        self.reading = (
            threading.Lock()
        )  # answers are read one at a time: only one interpreter runs, and each takes memory
        self._sought: set[Pairs] = set()

    def listed(self) -> frozenset[Pairs]:
        """Return the streams. Raises SourceError."""
        return (self._listed or self._newer(None)).streams

    def origin(self, merged: Mapping[str, str]) -> Origin:
        """Tell labels from metadata. Raises Unclear; SourceError where the streams cannot be listed."""
        whole = pairs(merged)
        listed = self._listed or self._newer(None)
        found = listed.origins.get(whole)
        if found is not None:
            return found
        candidates = listed.candidates(merged)
        if not candidates:  # a stream that began after the list was made
            listed = self._newer(listed)
            candidates = listed.candidates(merged)
        if not candidates:
            raise Unclear
        _check_clear(candidates)
        own = {name for name, _ in candidates[0]}
        found = Origin(candidates[0], tuple(p for p in whole if p[0] not in own))
        if len(listed.origins) >= _MOST_KNOWN:  # metadata such as trace ids makes a set of nearly every line
            listed.origins.clear()
        listed.origins[whole] = found
        return found

    def apart(self, labels: Mapping[str, str]) -> Pairs:
        """Return the stream that Loki says it is. Raises Unclear where it may be two; SourceError."""
        _check_clear((self._listed or self._newer(None)).candidates(labels))
        return pairs(labels)

    def having(self, name: str, *, has: bool) -> Streams:
        """Return those streams that have a label, or those that have not."""
        part = Streams(lambda: (labels for labels in self._ask() if bool(labels.get(name)) == has), self._others)
        part.reading = self.reading
        return part

    def is_ours(self, stream: Pairs) -> bool:
        """Tell whether no other selector reads that stream. Raises SourceError."""
        if not self._others:
            return True
        listed = self._listed or self._newer(None)
        if stream not in listed.streams and stream not in self._sought:
            self._sought.add(stream)  # it began since, and another selector may have it by now
            listed = self._newer(listed)
        return not any(other.has(stream, listed.number) for other in self._others)

    def has(self, stream: Pairs, since: int) -> bool:
        """Tell whether a stream is listed, by a list that is no older than that number. Raises SourceError."""
        listed = self._listed or self._newer(None)
        if stream not in listed.streams and listed.number < since:
            listed = self._newer(listed)
        return stream in listed.streams

    def _newer(self, than: _Listed | None) -> _Listed:
        """List the streams, unless another thread has done so since the caller saw `than`."""
        with self._asking:
            if self._listed is None or self._listed is than:
                number = next(_numbers)  # of when it was asked for
                streams = frozenset(pairs(labels) for labels in self._ask())
                self._listed = _Listed(number, streams, tuple({tuple(name for name, _ in s) for s in streams}), {})
            return self._listed


def _check_clear(candidates: list[Pairs]) -> None:
    if len(candidates) > 1:
        fewest, *_, most = sorted(candidates, key=len)
        raise Unclear(next(name for name, _ in most if name not in dict(fewest)))
