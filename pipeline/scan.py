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
# RE2's spaces: to Hyperscan and `re` a vertical tab is one more
_ALONE = {r"\s": r"[ \t\n\f\r]", r"\S": r"[\S\x0b]"}
_IN_CLASS = {r"\s": r" \t\n\f\r", r"\S": r"\S\x0b"}
# a match costs half a microsecond to be told of: for what is found this often in each text RE2 is the cheaper one
_FLOOD, _FLOOD_AT_LEAST = 2, 10_000
_TOKEN = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_ESCAPE = re.compile(r"\\.", re.DOTALL)
_VERBOSE = re.compile(r"\(\?[a-z]*x")
_NO_PLACE = re.compile(r"\\[^bB]|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_PLACE = re.compile(r"[\^$]|\\[bB]")
_UP_TO = re.compile(rf"({_TOKEN.pattern})|\{{0,\d+\}}", re.DOTALL)
_WHOLE = re.compile(r"(?<!\\)(?:\\\\)*(\\[AzZ]|\(\?[a-z]*-[a-z]*m)")


class Pattern(NamedTuple):
    """A regular expression that RE2 or `re` has the last word on; `once`: it is enough to know one text that has it."""

    text: str
    any_case: bool = False
    once: bool = False


class Scanner:
    """Finds which of many texts may match which patterns; none that does is missed. For one thread at a time."""

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        self._patterns = patterns
        self._joined = any(by_place(p.text) for p in patterns)
        self._apart: set[int] = set()
        self._everywhere: set[int] = set()
        # Hyperscan has no match of nothing, and of all texts together none but the first begins where they do
        self._set_apart(*(i for i, p in enumerate(patterns) if re.search(p.text, "") or _WHOLE.search(p.text)))

    def _set_apart(self, *patterns: int) -> None:
        """Look for patterns text by text."""
        for i in patterns:
            try:
                matches(pa.array([""]), self._patterns[i])
                self._apart.add(i)
            except pa.ArrowInvalid:  # none of RE2's
                self._everywhere.add(i)
        alone = self._everywhere | self._apart
        together = tuple((i, p) for i, p in enumerate(self._patterns) if i not in alone)
        self._database = _database(together) if together else None
        self._scratch = hyperscan.Scratch(self._database) if together else None

    def hits(self, texts: pa.Array) -> list[Rows]:
        """Return of each pattern the positions, in order, of the texts (strings, no nulls) that may match it."""
        if not len(texts):
            return [_NONE] * len(self._patterns)
        every = np.arange(len(texts), dtype=np.int64)
        found = self._scan(texts)
        out = [every if i in self._everywhere else found.get(i, _NONE) for i in range(len(self._patterns))]
        for i in self._apart:
            out[i] = np.flatnonzero(matches(texts, self._patterns[i]))
        return out

    def _scan(self, texts: pa.Array) -> dict[int, Rows]:
        if self._database is None:
            return {}
        ids: list[int] = []
        ends: list[int] = []
        room = _FLOOD * len(texts) + _FLOOD_AT_LEAST

        def found(pattern: int, _start: int, end: int, _flags: int, _context: Any) -> bool:
            ids.append(pattern)
            ends.append(end)
            return len(ids) > room

        whole, offsets = _whole(texts, joined=self._joined)
        try:
            self._database.scan(whole, found, scratch=self._scratch)
        except hyperscan.ScanTerminated:
            self._set_apart(max(set(ids), key=ids.count))
            return self._scan(texts)
        if not ids:
            return {}
        numbers = np.array(ids)
        if self._joined:
            rows = np.searchsorted(offsets, ends, side="right") - 1
            own = rows < len(texts)  # and not in the line ends behind the last one
            numbers, rows = numbers[own], rows[own]
        else:
            rows = np.searchsorted(offsets[1:], ends, side="left")
        return {i: np.unique(rows[numbers == i]) for i in set(ids)}


def _whole(texts: pa.Array, *, joined: bool) -> tuple[memoryview, Rows]:
    """Return all texts as one, and where in it each begins and the last one ends.

    For patterns about places they are joined by line ends, so that anchors hold at theirs. Others find what is in a text
    wherever that lies, and what they find across two is not confirmed. Two more line ends close the last one: Hyperscan
    misses an end of line that lies one byte before the end of more than 16.
    """
    offsets = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    if not joined:
        data = texts.buffers()[2]
        return memoryview(data)[offsets[0] : offsets[-1]] if data else memoryview(b""), offsets - offsets[0]
    closed = pa.concat_arrays([texts, pa.array(["", ""], texts.type)])
    whole = pc.binary_join(pa.ListArray.from_arrays(pa.array([0, len(closed)], pa.int32()), closed), "\n")
    return memoryview(whole.buffers()[2] or b""), offsets - offsets[0] + np.arange(len(offsets))


def matches(texts: pa.Array, pattern: Pattern) -> npt.NDArray[np.bool_]:
    """Tell which texts RE2 finds a pattern in. Raises pa.ArrowInvalid where that is none of RE2's."""
    found = pc.match_substring_regex(texts, f"(?i){pattern.text}" if pattern.any_case else pattern.text)
    out: npt.NDArray[np.bool_] = found.to_numpy(zero_copy_only=False)
    return out


def as_re2(pattern: str) -> str:
    """Write out what spaces are to RE2, where it has the last word."""

    def written(m: re.Match[str]) -> str:
        token = m[0]
        if token.startswith("\\"):
            return _ALONE.get(token, token)
        if token.startswith("[^") and r"\S" in token:
            return token  # the spaces, and a vertical tab more
        return _ESCAPE.sub(lambda m: _IN_CLASS.get(m[0], m[0]), token)

    return _TOKEN.sub(written, pattern)


@lru_cache(maxsize=8)
def _database(patterns: tuple[tuple[int, Pattern], ...]) -> Any:
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    database.compile(
        expressions=[_wide(p.text).replace("\0", r"\x00").encode() for _, p in patterns],
        ids=[i for i, _ in patterns],
        flags=[
            hyperscan.HS_FLAG_MULTILINE
            | hyperscan.HS_FLAG_UTF8
            | (hyperscan.HS_FLAG_CASELESS if p.any_case else 0)
            | (hyperscan.HS_FLAG_SINGLEMATCH if p.once else 0)
            for _, p in patterns
        ],
    )
    return database


def _wide(pattern: str) -> str:
    """Let what may come up to so many times come any often: counting takes four times as long, and others confirm."""
    return _UP_TO.sub(lambda m: m[1] or "*", pattern)


def by_place(pattern: str) -> bool:
    """Tell whether a pattern may be about where a text or a word begins or ends: then a part of a text is another text."""
    return bool(_VERBOSE.search(pattern) or _PLACE.search(_NO_PLACE.sub("", pattern)))


def refusal(pattern: str) -> str | None:
    """Say why a scanner cannot look for a pattern, None where it can."""
    if found := _WHOLE.search(pattern):
        return f"{found[1]} is about the whole of a text: use ^ or $"
    try:
        if not re.search(pattern, ""):
            _database(((0, Pattern(as_re2(pattern))),))
    except hyperscan.error as e:
        return str(e)
    return None
