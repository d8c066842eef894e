"""Every error that a user can meet, each with the exit code of the contract.

AislotError
├── UsageError        2    settings, arguments, a day in the future
├── SourceError       3    a source could not be reached, refused us, or is not what it should be
│   ├── Transient          may work if tried again: the HTTP door retries it
│   └── TooLarge           the question was too large: ask for a smaller window
├── RefusedError      6    publishing refused: a secret found, no permission, too large in its smallest form
├── LakeError         5    the lake cannot be read or written, or that day was never pulled
└── StoppedError      4    out of time, in a state that the next run resumes
"""

from __future__ import annotations

DONE, BUG, USAGE, SOURCE, INCOMPLETE, LAKE, REFUSED = 0, 1, 2, 3, 4, 5, 6
TROUBLE, INTERRUPTED, TERMINATED = 10, 130, 143

# the contract's order for when several apply; the user's own signal before all
_WORST_FIRST = (INTERRUPTED, TERMINATED, BUG, USAGE, LAKE, SOURCE, REFUSED, TROUBLE, INCOMPLETE, DONE)


class AislotError(Exception):
    """Something a user can act on: `what` happened and what to do (`fix`)."""

    exit_code = BUG

    def __init__(self, what: str, fix: str = "", kept: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix
        self.kept = kept


class UsageError(AislotError):
    """The command or the settings cannot be carried out as they stand."""

    exit_code = USAGE


class SourceError(AislotError):
    """A source could not be reached, refused us, or is not what it should be."""

    exit_code = SOURCE


class Transient(SourceError):  # noqa: N818 - a kind of SourceError, named for what the HTTP door does with it
    """A failure that may pass; `retry_after_s` is what the server asked for, if it did."""

    def __init__(self, what: str, fix: str = "", kept: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(what, fix, kept)
        self.retry_after_s = retry_after_s


class TooLarge(SourceError):  # noqa: N818 - as above
    """The answer would be too large: the same question about a smaller window may work; `limit` if the server named it."""

    def __init__(self, what: str, fix: str = "", kept: str = "", limit: int | None = None) -> None:
        super().__init__(what, fix, kept)
        self.limit = limit


class LakeError(AislotError):
    """The lake cannot be read or written, or nothing of that day was ever pulled."""

    exit_code = LAKE


class RefusedError(AislotError):
    """Nothing was published: a secret was found, it is not allowed, or it is too large in its smallest form."""

    exit_code = REFUSED


class StoppedError(AislotError):
    """Out of time; what is done is kept and the next run goes on from there."""

    exit_code = INCOMPLETE


def worst(*codes: int) -> int:
    """Return the exit code that wins when several apply."""
    return min(codes, key=_WORST_FIRST.index, default=DONE)
