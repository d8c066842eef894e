"""What Loki answers -> counts and blocks of entries; an answer that is none, or not whole, is told by its error."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from pipeline.errors import SourceError, TooLarge, Transient
from pipeline.model import NS, Block, Pairs, Run, Window, seconds_of
from pipeline.sources.http import Late, Reply, TooSlow
from pipeline.sources.loki.streams import Origin, Streams, Unclear, pairs

T = TypeVar("T")
Int64s = npt.NDArray[np.int64]
RAW_STATUS = {400, 413, 500, 504}  # what Loki says in plain text with these tells whether a smaller question would do
_TOO_LARGE = re.compile(
    r"larger than (?:the )?max|query would read too many bytes|query (?:is )?too large|time range exceeds|"
    r"decrease the duration|maximum (?:number )?of series"
)
_MAX_ENTRIES = re.compile(r"max_entries_limit_per_query \(\d+ > (\d+)\)")
_DIGITS = 19  # of nanoseconds since 2001
_POWERS = 10 ** np.arange(_DIGITS - 1, -1, -1, dtype=np.int64)
_ZERO = ord("0")
_MOST_COUNTED = 10**15
_AT, _LINE = "aislot_at", "aislot_line"  # labels that queries/ has Loki make


@dataclass(frozen=True)
class Answer:
    """Entries, each once; `given`: all that Loki gave; `doubles`: instants of entries that it counts once more than it has.

    `streams` is how many label sets came; `full`: as much came as was asked for, so that there may be more; `unread`:
    stored chunks that Loki looked for and says nothing of having got, which is all that tells of a chunk it cannot read.
    """

    block: Block
    doubles: Int64s
    given: int
    streams: int = 0
    full: bool = False
    unread: int = 0

    def outside(self, window: Window) -> Answer:
        """Return what does not lie in `(start, end]`."""
        return self._where(lambda ts: (ts <= window.start) | (ts > window.end))

    def within(self, window: Window) -> Answer:
        """Return what lies in `(start, end]`."""
        ts = self.block.ts
        if not len(ts) or (int(ts.min()) > window.start and int(ts.max()) <= window.end):
            return self
        return self._where(lambda ts: (ts > window.start) & (ts <= window.end))

    def _where(self, inside: Callable[[Int64s], npt.NDArray[np.bool_]]) -> Answer:
        block = chosen(self.block, inside(self.block.ts))
        return replace(self, block=block, doubles=self.doubles[inside(self.doubles)])


class FailingEntryError(SourceError):
    """Loki cannot count entries whose metadata says `__error__`, unless it is told to drop that."""


class Shown(NamedTuple):
    """An entry as a metric query shows it: stream labels and metadata in one set, and how often it is counted."""

    at: int
    line: str
    merged: dict[str, str]
    counted: int


@dataclass(frozen=True)
class Limits:
    """What a Loki tells of itself: most entries of an answer (0: no limit), how far back lines are shown; None: unknown."""

    entries: int | None = None
    shown_s: float | None = None
    version: str = ""


NOTHING = Answer(Block(np.empty(0, np.int64), [], ()), np.empty(0, np.int64), 0)


def chosen(block: Block, mask: npt.NDArray[np.bool_]) -> Block:
    """Return the rows of a block where `mask` holds."""
    kept = np.flatnonzero(mask).tolist()
    runs, at = [], 0
    for run in block.runs:
        rows = int(np.count_nonzero(mask[at : at + run.rows]))
        at += run.rows
        if rows:
            runs.append(run._replace(rows=rows))
    return Block(block.ts[mask], [block.lines[i] for i in kept], runs)


def joined(answers: Sequence[Answer]) -> Answer:
    """Return several answers about windows that do not overlap as one."""
    unread = sum(a.unread for a in answers)
    parts = [a for a in answers if len(a.block) or len(a.doubles)]
    if len(parts) < 2:  # noqa: PLR2004 - nothing to join
        return replace(parts[0] if parts else NOTHING, unread=unread)
    block = Block(
        np.concatenate([a.block.ts for a in parts]),
        [line for a in parts for line in a.block.lines],
        [run for a in parts for run in a.block.runs],
    )
    doubles = np.concatenate([a.doubles for a in parts])
    return Answer(block, doubles, sum(a.given for a in parts), sum(a.streams for a in parts), unread=unread)


def matrix(reply: Reply) -> list[tuple[dict[str, str], list[tuple[int, int]]]]:
    """Return the series of a range of counts: labels, and the count at each instant (ns)."""

    def read(result: list[Any]) -> list[tuple[dict[str, str], list[tuple[int, int]]]]:
        return [
            (_texts(series["metric"]), [(round(float(at)) * NS, _number(n)) for at, n in series["values"]])
            for series in result
        ]

    return _read(reply, "matrix", read)


def total(reply: Reply) -> int:
    """Return the one number of a count."""
    return _read(reply, "vector", lambda result: sum(_number(sample["value"][1]) for sample in result))


def shown(reply: Reply) -> list[Shown]:
    """Return the entries that a count by instant and line shows."""

    def read(result: list[Any]) -> list[Shown]:
        found = [(_texts(sample["metric"]), _number(sample["value"][1])) for sample in result]
        return [Shown(int(labels.pop(_AT)), labels.pop(_LINE, ""), labels, n) for labels, n in found]

    return _read(reply, "vector", read)


def series(reply: Reply) -> list[dict[str, str]]:
    """Return the label sets of `/series`."""
    answer = _whole(reply)
    try:
        return [_texts(labels) for labels in answer["data"]]
    except (KeyError, TypeError, ValueError) as e:
        raise Transient("the answer is no list of streams", _FIX) from e


def limits(reply: Reply) -> Limits:
    """Return the limits that Loki tells its users; a server or gateway that does not tell leaves them unknown."""
    try:
        told = reply.json() if reply.status == 200 else {}  # noqa: PLR2004 - HTTP's OK
        found = told["limits"]
        most = _number(found["max_entries_limit_per_query"])
        spans = [_span(found.get(key)) for key in ("max_query_lookback", "retention_period")]
        return Limits(most, min((s for s in spans if s), default=None), str(told.get("version", "")))
    except (Transient, KeyError, TypeError, ValueError, OverflowError, AttributeError):
        return Limits()


def _span(text: Any) -> float:
    """Read Loki's durations, which know years; 0 where there is none, or one that cannot be read or is past all use."""
    years = re.sub(r"([0-9]+)y", lambda m: f"{int(m[1]) * 365}d", str(text or "0s"))
    try:
        return seconds_of(years)
    except ValueError:
        return 0.0


def entries(streams: Streams, *, apart: bool) -> Callable[[Reply], Answer | None]:
    """Return what reads log lines; `apart`: Loki was asked to keep metadata apart.

    What it returns is None where a merged label set holds no stream that is known: ask again, apart. Raises Unclear where
    one holds two.
    """

    def check(reply: Reply) -> Answer | None:
        try:
            with streams.reading:
                whole = _whole(reply)
                answer = _of_kind(whole, "streams", lambda result: _answer(result, streams, apart=apart))
            return replace(answer, unread=_unread(whole))
        except Unclear as e:
            if e.name:
                raise
            return None

    return check


_FIX = "check loki.url (Loki's own address) and loki.selectors (streams, no more)"


def _whole(reply: Reply) -> Any:
    if reply.status != 200:  # noqa: PLR2004 - HTTP's OK
        raise _refused(reply)
    answer = reply.json()
    if not isinstance(answer, Mapping) or answer.get("status") != "success":
        raise Transient("the answer is none of Loki", _FIX)
    if answer.get("warnings"):
        said = str(answer["warnings"])[:300]
        raise Transient(f"Loki warns that its answer may not be whole: {said}", "ask the operator of this Loki")
    return answer


def _read(reply: Reply, kind: str, read: Callable[[list[Any]], T]) -> T:
    """Read a whole answer of one kind."""
    return _of_kind(_whole(reply), kind, read)


def _of_kind(answer: Any, kind: str, read: Callable[[list[Any]], T]) -> T:
    """Read what an answer holds; one that is none may be another server's, or damaged on its way."""
    try:
        if answer["data"]["resultType"] != kind:
            raise Transient(f"the answer is no {kind}", _FIX)
        return read(answer["data"]["result"] or [])
    except (KeyError, IndexError, TypeError, ValueError, OverflowError, AttributeError) as e:
        raise Transient(f"the answer is no {kind} of Loki", _FIX) from e


def _unread(answer: Any) -> int:
    """Count the chunks that were not in Loki's cache and that it did not put there: it could not read them.

    A Loki without statistics, or without that cache, does not tell.
    """
    with contextlib.suppress(KeyError, TypeError, ValueError):
        chunks = answer["data"]["stats"]["cache"]["chunk"]
        looked_for, found, stored = (int(chunks[f"entries{what}"]) for what in ("Requested", "Found", "Stored"))
        return max(0, looked_for - found - stored)
    return 0


def _texts(labels: Any) -> dict[str, str]:
    """Return labels, which are texts."""
    found = dict(labels)
    if not all(isinstance(text, str) for pair in found.items() for text in pair):
        raise TypeError("a label is no text")
    return found


def _number(count: Any) -> int:
    """Return a count of entries; what no server can hold is none."""
    n = float(count)
    if not 0 <= n <= _MOST_COUNTED:
        raise ValueError(f"{n} is no count")
    return int(n)


def _refused(reply: Reply) -> SourceError:
    """Tell a question that is too large from one that is wrong and from a server in trouble."""
    text = reply.text()
    over = _MAX_ENTRIES.search(text)
    if over:
        return TooLarge("a limit above the server's", "check loki.selectors", limit=int(over[1]))
    if reply.status == 504:  # noqa: PLR2004 - HTTP's Gateway Timeout
        # Loki's own word that it took too long will be the same again; a gateway's may be a moment's trouble
        kind = TooSlow if _TOO_LARGE.search(text) else Late
        return kind(f"HTTP {reply.status}: {text}", "ask the operator of this Loki for a longer query_timeout")
    if reply.status == 413 or _TOO_LARGE.search(text):  # noqa: PLR2004 - HTTP's Content Too Large
        return TooLarge(f"HTTP {reply.status}: {text}", "ask the operator of this Loki for larger messages")
    if reply.status >= 500:  # noqa: PLR2004 - HTTP's server errors
        return Transient(f"HTTP {reply.status}: {text}")
    refusal = FailingEntryError if "pipeline error" in text else SourceError
    return refusal(f"Loki refused the query: HTTP {reply.status}: {text}", "check loki.selectors")


def _answer(result: list[Any], streams: Streams, *, apart: bool) -> Answer:
    at: list[str] = []
    lines: list[str] = []
    runs: list[tuple[Origin, int]] = []
    for stream in result:
        _texts(stream["stream"])
        values = stream["values"]
        if values == []:  # would be a run of no rows
            continue
        at += [v[0] for v in values]
        lines += [v[1] for v in values]
        runs += (
            _runs(streams.apart(stream["stream"]), values)
            if apart
            else [(streams.origin(stream["stream"]), len(values))]
        )
    if not {*map(type, lines)} <= {str}:
        raise TypeError("a line is no text")
    return _once(_instants(at), lines, runs, len(result))


def _runs(stream: Pairs, values: list[Any]) -> list[tuple[Origin, int]]:
    out: list[tuple[Origin, int]] = []
    last: Any = None
    for _, _, *third in values:
        metadata = third[0].get("structuredMetadata", {}) if third else {}
        if out and metadata == last:
            out[-1] = (out[-1][0], out[-1][1] + 1)
        else:
            out.append((Origin(stream, pairs(metadata)), 1))
        last = metadata
    return out


def _instants(at: list[str]) -> Int64s:
    digits = "".join(at)
    if len(digits) == _DIGITS * len(at) and digits.isascii() and digits.isdigit():
        numbers = np.frombuffer(digits.encode(), np.uint8).reshape(-1, _DIGITS).astype(np.int64) - _ZERO
        return numbers @ _POWERS
    return np.array([int(t) for t in at], dtype=np.int64)


def _once(ts: Int64s, lines: list[str], runs: list[tuple[Origin, int]], streams: int) -> Answer:
    """Take each entry once. Where time rises within every run and no run comes twice, none is there twice."""
    block = Block(ts, lines, [Run(origin.labels, origin.metadata, rows) for origin, rows in runs])
    starts = np.cumsum([rows for _, rows in runs], dtype=np.int64)[:-1]
    rises = np.diff(ts) > 0
    rises[starts - 1] = True
    if bool(rises.all()) and len({origin for origin, _ in runs}) == len(runs):
        return Answer(block, ts[:0], len(lines), streams)
    first = np.zeros(len(lines), dtype=np.bool_)
    seen: set[tuple[int, str, Origin]] = set()
    whose = (origin for origin, rows in runs for _ in range(rows))
    for i, entry in enumerate(zip(ts.tolist(), lines, whose, strict=True)):
        first[i] = entry not in seen
        seen.add(entry)
    return Answer(block if first.all() else chosen(block, first), ts[:0], len(lines), streams)
