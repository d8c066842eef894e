"""Many patterns over many texts in one pass: which texts may match which pattern, for an exact engine to confirm."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import hyperscan
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Rows = npt.NDArray[np.int64]

_NONE: Rows = np.empty(0, np.int64)
# texts are joined by line ends: `^` and `$` hold at theirs, no word goes on over them
_FLAGS = hyperscan.HS_FLAG_MULTILINE | hyperscan.HS_FLAG_UTF8
# engines differ on whether a vertical tab is a space: a text that holds one may match anything
_STRANGE = r"\x0b"
_WHOLE_BUFFER = re.compile(r"(?<!\\)(?:\\\\)*(\\[AzZ]|\(\?[a-z]*-[a-z]*m)")
_FLOOD = 20  # matches a text, on the average of a scan, from which on looking at every text is cheaper


class Pattern(NamedTuple):
    """A regular expression that RE2 or `re` has the last word on."""

    text: str
    any_case: bool = False


class Scanner:
    """Finds which of many texts may match which patterns; none that does is missed. For one thread at a time."""

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        self._count = len(patterns)
        # what matches nothing at all, such as `x*`, is found in every text
        self._everywhere = {i for i, p in enumerate(patterns) if re.search(p.text, "")}
        self._patterns = patterns
        self._open()

    def _open(self) -> None:
        looked_for = {i: p for i, p in enumerate(self._patterns) if i not in self._everywhere}
        self._database = _database(tuple(looked_for.items()), self._count)
        self._scratch = hyperscan.Scratch(self._database)

    def hits(self, texts: pa.Array) -> list[Rows]:
        """Return of each pattern the positions, in order, of the texts (strings, no nulls) that may match it."""
        every = np.arange(len(texts), dtype=np.int64)
        if not len(texts):
            return [every] * self._count
        found = self._scan(texts)
        strange = found.pop(self._count, _NONE)
        out = [every if i in self._everywhere else found.get(i, _NONE) for i in range(self._count)]
        return [np.union1d(rows, strange) for rows in out] if len(strange) else out

    def _scan(self, texts: pa.Array) -> dict[int, Rows]:
        ids: list[int] = []
        ends: list[int] = []
        room = _FLOOD * len(texts) + 1000

        def found(pattern: int, _start: int, end: int, _flags: int, _context: Any) -> bool:
            ids.append(pattern)
            ends.append(end)
            return len(ids) > room

        try:
            self._database.scan(_joined(texts), found, scratch=self._scratch)
        except hyperscan.ScanTerminated:
            self._everywhere.add(max(set(ids), key=ids.count))
            self._open()
            return self._scan(texts)
        if not ids:
            return {}
        rows = np.searchsorted(_starts(texts), np.array(ends, np.int64), side="right") - 1
        numbers = np.array(ids)
        return {int(i): np.unique(rows[numbers == i]) for i in np.unique(numbers)}


def _joined(texts: pa.Array) -> memoryview:
    whole = pc.binary_join(pa.ListArray.from_arrays(pa.array([0, len(texts)], pa.int32()), texts), "\n")
    return memoryview(whole.buffers()[2])


def _starts(texts: pa.Array) -> Rows:
    """Return where each text begins in what is joined."""
    offsets = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts)]
    return offsets.astype(np.int64) - offsets[0] + np.arange(len(texts), dtype=np.int64)


@lru_cache(maxsize=8)
def _database(patterns: tuple[tuple[int, Pattern], ...], strange: int) -> Any:
    every = [*patterns, (strange, Pattern(_STRANGE))]
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    database.compile(
        expressions=[p.text.replace("\0", r"\x00").encode() for _, p in every],
        ids=[i for i, _ in every],
        flags=[_FLAGS | (hyperscan.HS_FLAG_CASELESS if p.any_case else 0) for _, p in every],
    )
    return database


def refusal(pattern: str) -> str | None:
    """Say why a scanner cannot look for a pattern, None where it can."""
    if found := _WHOLE_BUFFER.search(pattern):
        return f"{found[1]} is about the whole of a text: use ^ or $"
    if re.search(pattern, ""):
        return None
    try:
        _database(((0, Pattern(pattern)),), 1)
    except hyperscan.error as e:
        return str(e)
    return None
