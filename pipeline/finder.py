"""Looks through log lines once, for everything that their rows are about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, MutableMapping, Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa

from pipeline.logfields import MAY_NAME_ISSUE, MAY_PANIC, NO_TEXT
from pipeline.rules import Signature
from pipeline.scan import Pattern, Rows, Scanner, as_re2, by_place

_NO_TEXT, _HIDING, _ESCAPED, _PANIC, _ISSUE, _HINTS = range(6)


class Redacts(Protocol):
    """What takes secrets out of text."""

    @property
    def hints(self) -> Sequence[str]:
        """Loose patterns that are found wherever a secret is."""

    @property
    def bounds(self) -> Sequence[str]:
        """What secrets over several lines begin and end with."""

    @property
    def may_hide(self) -> str:
        """What is found wherever `unescaped` changes a text."""

    def text(self, text: str) -> tuple[str, Counter[str]]:
        """Return the text without secrets, and how many of which rule."""

    def finds(self, text: str, hinted: Collection[int]) -> bool:
        """Tell whether `text()` may change a text in which only the hints of these numbers are found."""

    def across(
        self,
        texts: Sequence[str],
        unfinished: MutableMapping[str, int] | None = None,
        at: Sequence[int] | None = None,
    ) -> dict[int, tuple[str, str]]:
        """Return what becomes of texts of one stream inside a secret that spreads over them: position -> rule, text."""

    def unescaped(self, text: str) -> str:
        """Write out what JSON may spell as escapes."""


class Found:
    """Which texts may hold what, also behind JSON's escapes."""

    def __init__(self, hits: Sequence[Rows], hints: int, bounds: int, signatures: Sequence[Signature]) -> None:
        self._hits = hits
        self._hints = slice(_HINTS, _HINTS + hints)
        self._bounds = slice(self._hints.stop, self._hints.stop + bounds)
        self._signatures = signatures

    def no_text(self) -> list[int]:
        """Return the texts that may hold what stands for bytes that are no text."""
        return list(self._hits[_NO_TEXT].tolist())

    def escaped(self) -> bool:
        """Tell whether any text may hold a backslash."""
        return bool(len(self._hits[_ESCAPED]))

    def issue(self) -> list[int]:
        """Return the texts that may name an issue in a field of their own."""
        return list(self._hits[_ISSUE].tolist())

    def panic(self) -> list[int]:
        """Return the texts that may begin a panic's trace."""
        return list(self._hits[_PANIC].tolist())

    def hinted(self) -> dict[int, set[int]]:
        """Return the numbers of the hints that are found in each text that has any."""
        out: dict[int, set[int]] = {}
        for number, rows in enumerate(self._hits[self._hints]):
            for i in rows.tolist():
                out.setdefault(i, set()).add(number)
        return out

    def bounds(self) -> set[int]:
        """Return the texts in which a secret over several lines may begin or end."""
        return {i for rows in self._hits[self._bounds] for i in rows.tolist()}

    def signed(self) -> list[Rows]:
        """Return of each signature the texts that may have it."""
        out, at = [], self._bounds.stop
        for s in self._signatures:
            first, *others = self._hits[at : at + len(s.all_of)]
            for rows in others:
                first = np.intersect1d(first, rows, assume_unique=True)
            out.append(first)
            at += len(s.all_of)
        return out


class Finder:
    """Finds, in one pass over many texts, the few that rules, signatures and states are about."""

    def __init__(self, redactor: Redacts, signatures: Sequence[Signature]) -> None:
        self._redactor = redactor
        self._signatures = signatures
        secrets = [*redactor.hints, *redactor.bounds]
        self._scanner = Scanner(
            [
                Pattern(NO_TEXT),
                Pattern(redactor.may_hide),
                Pattern(r"\\", once=True),
                Pattern(MAY_PANIC),
                Pattern(MAY_NAME_ISSUE),
                *(Pattern(p) for p in secrets),
                *(Pattern(as_re2(p), any_case=True) for s in signatures for p in s.all_of),
            ]
        )
        # whether a part of a text can match where the whole does not, as what begins it
        self.by_place = any(by_place(p) for p in secrets)

    def find(self, texts: Sequence[str], array: pa.Array | None = None) -> Found:
        """Look through texts, of which `array` is what Arrow has."""
        hits = self._scanner.hits(pa.array(texts, pa.string()) if array is None else array)
        hiding = hits[_HIDING]
        if len(hiding):
            plain = pa.array([self._redactor.unescaped(texts[i]) for i in hiding.tolist()], pa.string())
            hits = [np.union1d(rows, hiding[more]) for rows, more in zip(hits, self._scanner.hits(plain), strict=True)]
        return Found(hits, len(self._redactor.hints), len(self._redactor.bounds), self._signatures)
