"""The comment on an issue: its marker, whether people changed it, and what is left out so that it is not too large.

The first line names what the comment is of and digests what follows, so that an equal comment is not written again, and
one that people edited, of which the digest no longer holds, is known and left alone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import RefusedError

LIMIT = 60_000  # UTF-8 bytes; GitHub refuses more than 65,536 characters
LEAST_USEFUL_FIRST = ("people", "sources", "alerts", "timeline", "attempts", "logs")
_MARKER = re.compile(r"<!-- aislot:(\w+) ([\w.:-]+) ([0-9a-f]{16}) -->[ \t\r]*")


@dataclass(frozen=True)
class Comment:
    """A comment that may be written; `dropped` names the parts that were left out for its size."""

    kind: str
    key: str
    body: str
    dropped: tuple[str, ...]

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return len(self.body.encode())


def compose(
    kind: str, key: str, view: Mapping[str, Any], render: Callable[[Mapping[str, Any]], str], limit: int = LIMIT
) -> Comment:
    """Render a comment, without as many of the least useful parts as it takes. Raises RefusedError.

    A part is dropped whole, so that no fence and no folded block is cut; the comment says which ones.
    """
    there = [name for name in LEAST_USEFUL_FIRST if view[name] is not None]
    size = 0
    for n in range(len(there) + 1):
        dropped = there[:n]
        titles = [view[name]["title"] for name in dropped]
        text = render({**view, **dict.fromkeys(dropped), "left_out": titles})
        made = Comment(kind, key, f"{marker(kind, key, text)}\n\n{text}", tuple(dropped))
        size = made.size
        if size <= limit:
            return made
    raise RefusedError(
        f"the comment is too large in its smallest form: {size:,} bytes, {limit:,} may be written",
        "publish a shorter window: aislot report postmortem with --since and --until",
    )


def marker(kind: str, key: str, text: str) -> str:
    """Return the first line of a comment with this text after it."""
    return f"<!-- aislot:{kind} {key} {_digest(text)} -->"


def is_of(body: str, kind: str, key: str) -> bool:
    """Tell by its first line whether a text is a comment of this kind and key."""
    found = _MARKER.fullmatch(body.split("\n", 1)[0])
    return found is not None and found.group(1, 2) == (kind, key)


def is_untouched(body: str) -> bool:
    """Tell whether a comment still says what its first line was made for, line ends and blanks apart."""
    first, _, rest = body.partition("\n")
    found = _MARKER.fullmatch(first)
    return found is not None and found[3] == _digest(rest)


def same(one: str, other: str) -> bool:
    """Tell whether two comments say the same."""
    return _words(one) == _words(other)


def _digest(text: str) -> str:
    return hashlib.sha256(" ".join(_words(text)).encode()).hexdigest()[:16]


def _words(text: str) -> Sequence[str]:
    return text.split()
