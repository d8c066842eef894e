"""Small values that every tier speaks: windows, log entries, pull records, coverage."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

NS = 1_000_000_000
DAY_NS = 86_400 * NS
_EPOCH = dt.date(1970, 1, 1)
_LATEST = 2**63 - 1
_SECONDS_IN = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|[smhdw])")


@dataclass(frozen=True, order=True, slots=True)
class Window:
    """A half-open interval `[start, end)` in nanoseconds since the epoch, UTC."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if self.end < self.start:
            raise ValueError(f"a window must not end before it starts: {self.start}..{self.end}")

    @classmethod
    def of_day(cls, day: dt.date) -> Window:
        """Return the UTC day as a window."""
        start = (day - _EPOCH).days * DAY_NS
        return cls(start, start + DAY_NS)

    @property
    def length(self) -> int:
        """Length in nanoseconds."""
        return self.end - self.start

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.length / NS

    def __bool__(self) -> bool:
        return self.end > self.start

    def __contains__(self, instant: int) -> bool:
        return self.start <= instant < self.end

    def covers(self, other: Window) -> bool:
        """Tell whether `other` lies wholly inside."""
        return self.start <= other.start and other.end <= self.end

    def intersect(self, other: Window) -> Window | None:
        """Return what both share, None where that is nothing."""
        start, end = max(self.start, other.start), min(self.end, other.end)
        return Window(start, end) if start < end else None

    def widen(self, before: int, after: int) -> Window:
        """Return the window grown by nanoseconds at both ends."""
        return Window(self.start - before, self.end + after)

    def cells(self, step: int) -> Iterator[Window]:
        """Cut along the grid of multiples of `step` ns; the first and last cell may be partial."""
        at = self.start
        while at < self.end:
            end = min(self.end, (at // step + 1) * step)
            yield Window(at, end)
            at = end

    def days(self) -> Iterator[tuple[dt.date, Window]]:
        """Cut at UTC midnights: each day with its part of the window."""
        for cell in self.cells(DAY_NS):
            yield day_of(cell.start), cell

    def __str__(self) -> str:
        return f"{instant_text(self.start)}..{instant_text(self.end)}"


def day_of(instant: int) -> dt.date:
    """Return the UTC day an instant lies in."""
    return _EPOCH + dt.timedelta(days=instant // DAY_NS)


def instant_text(instant: int) -> str:
    """Write an instant as RFC 3339 UTC, with as many of its nine decimals as it needs."""
    seconds, nanos = divmod(instant, NS)
    text = dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return text + (f".{nanos:09d}".rstrip("0") if nanos else "") + "Z"


def instant_of(text: str) -> int:
    """Parse RFC 3339 with up to nine decimals (more are cut); no zone means UTC. Raises ValueError."""
    body, _, rest = text.strip().partition(".")
    digits = ""
    if rest:
        digits = rest[: next((i for i, c in enumerate(rest) if not c.isdigit()), len(rest))]
        body += rest[len(digits) :]
    moment = dt.datetime.fromisoformat(body)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    whole = (moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(seconds=1)
    instant = whole * NS + int(digits[:9].ljust(9, "0"))
    if abs(instant) > _LATEST:
        raise ValueError(f"{text!r} lies outside of 1678 to 2262")
    return instant


_LONGEST_S = 3653 * 86400.0  # instants that far from today's can still be told in ns


def seconds_of(text: str) -> float:
    """Parse a duration: `90s`, `30m`, `1h30m`, `7d`. Raises ValueError."""
    parts = _DURATION.findall(text)
    if not parts or "".join(n + u for n, u in parts) != text:
        raise ValueError(f"{text!r} is not a duration: write 90s, 30m, 1h30m or 7d")
    seconds = sum(float(n) * _SECONDS_IN[u] for n, u in parts)
    if seconds > _LONGEST_S:
        raise ValueError(f"{text!r} is longer than ten years")
    return seconds


def merge(windows: Iterable[Window]) -> list[Window]:
    """Join windows that touch or overlap; sorted."""
    out: list[Window] = []
    for w in sorted(w for w in windows if w):
        if out and w.start <= out[-1].end:
            out[-1] = Window(out[-1].start, max(out[-1].end, w.end))
        else:
            out.append(w)
    return out


def subtract(window: Window, covered: Iterable[Window]) -> list[Window]:
    """Return the parts of `window` that no `covered` window holds; sorted."""
    out, at = [], window.start
    for w in merge(covered):
        if w.start > at:
            out.append(Window(at, min(w.start, window.end)))
        at = max(at, w.end)
        if at >= window.end:
            break
    else:
        out.append(Window(min(at, window.end), window.end))
    return [w for w in out if w and w.intersect(window)]


class Entry(NamedTuple):
    """One log entry as its source gave it: identity is all four of them and the tenant."""

    ts: int
    line: str
    labels: Mapping[str, str]
    metadata: Mapping[str, str]


Pairs = tuple[tuple[str, str], ...]


class Run(NamedTuple):
    """How many rows that follow each other have the same stream labels and structured metadata, each sorted by name."""

    labels: Pairs
    metadata: Pairs
    rows: int


@dataclass(frozen=True, slots=True)
class Block:
    """Log entries as columns: `ts` (int64, ns) and `lines` by row, and the runs that the rows belong to, in their order.

    Rows of a run need not be in time order.
    """

    ts: npt.NDArray[np.int64]
    lines: list[str]
    runs: Sequence[Run]

    def __len__(self) -> int:
        return len(self.lines)

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Block:
        """Return entries as columns, those of one stream and metadata together."""
        groups: dict[tuple[Pairs, Pairs], list[Entry]] = {}
        for e in entries:
            groups.setdefault((tuple(sorted(e.labels.items())), tuple(sorted(e.metadata.items()))), []).append(e)
        rows = [e for group in groups.values() for e in group]
        ts = np.array([e.ts for e in rows], dtype=np.int64)
        return cls(ts, [e.line for e in rows], [Run(*key, len(group)) for key, group in groups.items()])

    def identities(self) -> list[tuple[int, str, Pairs, Pairs]]:
        """Return what makes each row the entry that it is."""
        whose = ((run.labels, run.metadata) for run in self.runs for _ in range(run.rows))
        return [(ts, line, *origin) for ts, line, origin in zip(self.ts.tolist(), self.lines, whose, strict=True)]

    def entries(self) -> list[Entry]:
        """Return the rows as entries, in their order."""
        origins = [(dict(run.labels), dict(run.metadata)) for run in self.runs for _ in range(run.rows)]
        columns = zip(self.ts.tolist(), self.lines, origins, strict=True)
        return [Entry(ts, line, labels, metadata) for ts, line, (labels, metadata) in columns]


@dataclass(frozen=True, slots=True)
class PullRecord:
    """What one question to one source came to: no record means that it was not asked.

    `what` is logs|jobs|alerts|events|issues, `source` loki|prometheus|kubernetes|github. `complete` is None where the
    source is not configured or cannot tell; `gaps` are the parts of `window` that are not known to be complete.
    `proof` holds what the claim rests on: counts by name, method, server version.
    """

    what: str
    source: str
    window: Window
    complete: bool | None
    rows: int = 0
    gaps: Sequence[Window] = ()
    provisional: bool = False
    asked_at: int = 0
    fingerprint: str = ""
    proof: Mapping[str, Any] = field(default_factory=dict)

    @property
    def known(self) -> list[Window]:
        """The parts of the window that are known whole; what was not over when it was asked about is none."""
        end = min(self.window.end, max(self.window.start, self.asked_at)) if self.provisional else self.window.end
        return subtract(Window(self.window.start, end), self.gaps)

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON, instants as nanoseconds."""
        return {
            "what": self.what,
            "source": self.source,
            "window": [self.window.start, self.window.end],
            "complete": self.complete,
            "rows": self.rows,
            "gaps": [[g.start, g.end] for g in self.gaps],
            "provisional": self.provisional,
            "asked_at": self.asked_at,
            "fingerprint": self.fingerprint,
            "proof": dict(self.proof),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PullRecord:
        """Read what `to_json` wrote. Raises KeyError, TypeError, ValueError for anything else."""
        if not isinstance(data["proof"], dict) or not isinstance(data["rows"], int):
            raise TypeError("proof or rows are damaged")
        return cls(
            what=data["what"],
            source=data["source"],
            window=Window(*data["window"]),
            complete=data["complete"],
            rows=data["rows"],
            gaps=tuple(Window(*g) for g in data["gaps"]),
            provisional=data["provisional"],
            asked_at=data["asked_at"],
            fingerprint=data["fingerprint"],
            proof=data["proof"],
        )


@dataclass(frozen=True, slots=True)
class Coverage:
    """How well one window (a day) is known from one source, made from its pull records.

    `complete` is None where the source is not configured (then `configured` is False), was never asked, or cannot tell.
    """

    what: str
    source: str
    configured: bool
    complete: bool | None
    rows: int
    gaps: Sequence[Window]
    proof: Mapping[str, Any]
    asked: Sequence[Window] = ()
