"""Loki: count first, fetch windows that fit one answer, reconcile every minute, record the proof.

Why not pages: a full page can have holes and a short one need not be the last, so a cursor loses lines silently. Here
no request ever matches more entries than its limit, and each count that the server gives is held against the rows.

Windows and Loki's counts do not agree by themselves: `count_over_time(…[60s])` at t covers `(t - 60 s, t]`, a query
covers `[start, end)` and loses an entry that lies exactly at `start` as the last of its chunk. So a slice `(a, b]` is
asked as `[a, b + 1 ns)`, one nanosecond early, what lies at `a` is dropped, and the stored cell is cut to `[start, end)`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.errors import SourceError, TooLarge, Transient
from pipeline.model import NS, Entry, Window
from pipeline.sources.http import Door, Reply

STEP_NS = 60 * NS
_MS = 1_000_000
_QUIET = {"Cache-Control": "no-cache"}  # an empty answer may be cached; ours must be today's
_APART = {**_QUIET, "X-Loki-Response-Encoding-Flags": "categorize-labels"}
_TOO_LARGE = re.compile(
    r"larger than (?:the )?max|query would read too many bytes|query too large|too large to execute|time range exceeds|"
    r"decrease the duration"
)
_MAX_ENTRIES = re.compile(r"max_entries_limit_per_query \(\d+ > (\d+)\)")
DEFAULT_LIMIT = 5000


@dataclass(frozen=True)
class Cell:
    """The entries of `[start, end)` and the proof: per minute what the server counted and how many rows came.

    `counted[i]` and `rows[i]` are of minute `(start + i*60 s, start + (i+1)*60 s]`; `short` are the minutes that did
    not reconcile; `explained` is how many rows more than counted are the server's duplicates with other metadata.
    """

    window: Window
    entries: Sequence[Entry]
    counted: Sequence[int]
    rows: Sequence[int]
    short: Sequence[int] = ()
    explained: int = 0
    requests: int = 0
    recounted: int = 0
    causes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Loki:
    """One Loki as one tenant sees it.

    `fetch_query` chooses streams and never filters content; `count_query` counts the same over `${range}`.
    """

    door: Door
    fetch_query: str
    count_query: str
    limit: int = DEFAULT_LIMIT

    def counts(self, window: Window) -> list[int]:
        """Count every minute `(t - 60 s, t]` of a window on the minute grid, in one call. Raises SourceError."""
        query = self.count_query.replace("${range}", "60s")
        form = {"query": query, "start": str(window.start + STEP_NS), "end": str(window.end), "step": "60s"}
        found: dict[int, int] = {}
        for series in self.door.post("/loki/api/v1/query_range", form, headers=_QUIET, check=_matrix):
            for at, value in series["values"]:
                found[round(float(at)) * NS] = int(float(value))
        return [found.get(t, 0) for t in range(window.start + STEP_NS, window.end + 1, STEP_NS)]

    def count(self, window: Window) -> int:
        """Count entries of `(start, end]`, which must be whole milliseconds long. Raises SourceError."""
        query = self.count_query.replace("${range}", f"{window.length // _MS}ms")
        form = {"query": query, "time": str(window.end)}
        answer = self.door.post("/loki/api/v1/query", form, headers=_QUIET, check=_vector)
        return sum(int(float(sample["value"][1])) for sample in answer)

    def fetch(self, window: Window, *, short: bool = False) -> list[Entry]:
        """Fetch the entries of `(start, end]` in one request; at `limit` rows, which may be short, TooLarge.

        `short=True` takes what came, for where nothing smaller can be asked.
        """
        form = {
            "query": self.fetch_query,
            "start": str(window.start),
            "end": str(window.end + 1),
            "limit": str(self.limit),
            "direction": "forward",
        }
        entries = self.door.post(
            "/loki/api/v1/query_range", form, headers=_APART, check=_streams, raw_status={400, 413, 500, 504}
        )
        if len(entries) >= self.limit and not short:
            raise TooLarge(f"{len(entries)} entries came where fewer were counted")
        return [e for e in entries if e.ts > window.start]

    def version(self) -> str:
        """Return the server's version, empty where it does not tell."""

        def check(reply: Reply) -> str:
            return str(reply.json().get("version", "")) if reply.status == 200 else ""  # noqa: PLR2004

        return self.door.get("/loki/api/v1/status/buildinfo", check=check, raw_status={401, 403, 404, 405})


def read_cell(loki: Loki, window: Window, counted: Sequence[int]) -> Cell:
    """Fetch and reconcile the entries of `[start, end)`, on the minute grid, `counted` by minute. Raises SourceError."""
    work = _Work(loki)
    counted = list(counted)
    entries = [e for part, expected in _plan(window, counted, loki.limit) for e in work.fetch(part, expected)]
    rows, short, explained = _reconcile(entries, window, counted)
    for minute in short:
        # lines still arriving, or the server's own trouble: count and read that minute once more, then believe the count
        part = _minute(window, minute)
        counted[minute] = work.count(part)
        entries = [e for e in entries if not part.start < e.ts <= part.end] + work.fetch(part, counted[minute])
    if short:
        rows, short, explained = _reconcile(entries, window, counted)
    first, agrees = _at_start(work, window)
    inside = sorted(first + [e for e in entries if e.ts < window.end], key=lambda e: e.ts)
    if not agrees:
        short = sorted({0, *short})
    return Cell(window, inside, counted, rows, short, explained, work.requests, work.counts, dict(work.causes))


def _at_start(work: _Work, window: Window) -> tuple[list[Entry], bool]:
    """Read what lies exactly at the start, which belongs to the window but is counted in the minute before.

    The millisecond that ends there is counted and read, so that this instant is proven like all others.
    """
    edge = Window(window.start - _MS, window.start)
    expected = work.count(edge)
    entries = work.fetch(edge, expected) if expected else []
    return [e for e in entries if e.ts == window.start], len(entries) >= expected


@dataclass
class _Work:
    """Fetches windows, halving those that turn out too large, and keeps count of what that took."""

    loki: Loki
    requests: int = 0
    counts: int = 0
    causes: Counter[str] = field(default_factory=Counter)

    def count(self, window: Window) -> int:
        self.counts += 1
        return self.loki.count(window)

    def fetch(self, window: Window, expected: int) -> list[Entry]:
        """Fetch `(start, end]`; what cannot be asked for as a whole comes in halves."""
        if expected <= _room(self.loki.limit):
            self.requests += 1
            try:
                return self.loki.fetch(window)
            except TooLarge as e:
                self.causes[e.what[:60]] += 1
                if e.limit and e.limit < self.loki.limit:
                    self.loki = replace(self.loki, limit=e.limit)
                    return self.fetch(window, expected)
        if window.length == 1:
            # more entries at one nanosecond than one answer may hold: what came is kept, the counts tell the rest
            self.causes["busy nanosecond"] += 1
            return self.loki.fetch(window, short=True)
        middle = _middle(window)
        left, right = Window(window.start, middle), Window(middle, window.end)
        return self.fetch(left, self._expected(left)) + self.fetch(right, self._expected(right))

    def _expected(self, window: Window) -> int:
        """Count, or where Loki cannot count so finely ask at once: the limit tells when that was too much."""
        return 0 if window.length % _MS else self.count(window)


def _middle(window: Window) -> int:
    """Halve on whole milliseconds while there are any, because counts need them."""
    half = window.length // 2
    return window.start + (half // _MS * _MS or half)


def _room(limit: int) -> int:
    """Leave room for the entries at the slice's own start, which come too and are dropped."""
    return max(1, limit - max(1, limit // 100))


def _plan(window: Window, counted: Sequence[int], limit: int) -> list[tuple[Window, int]]:
    """Join minutes to slices that fit one answer; one that does not fit stands alone; an empty one is not asked."""
    plan: list[tuple[Window, int]] = []
    for i, n in enumerate(counted):
        minute = _minute(window, i)
        if plan and plan[-1][1] + n <= _room(limit):
            plan[-1] = (Window(plan[-1][0].start, minute.end), plan[-1][1] + n)
        else:
            plan.append((minute, n))
    return [(w, n) for w, n in plan if n]


def _minute(window: Window, i: int) -> Window:
    return Window(window.start + i * STEP_NS, window.start + (i + 1) * STEP_NS)


def _reconcile(entries: Sequence[Entry], window: Window, counted: Sequence[int]) -> tuple[list[int], list[int], int]:
    """Hold rows against counts, minute by minute: rows, minutes that do not agree, rows explained as duplicates.

    Entries equal in stream, instant and line with other metadata are two rows, which the server may count as one.
    """
    rows = [0] * len(counted)
    by_minute: dict[int, list[Entry]] = {}
    for e in entries:
        minute = (e.ts - window.start - 1) // STEP_NS
        rows[minute] += 1
        by_minute.setdefault(minute, []).append(e)
    short, explained = [], 0
    for i, (n, c) in enumerate(zip(rows, counted, strict=True)):
        if n == c:
            continue
        distinct = len({(e.ts, e.line, tuple(sorted(e.labels.items()))) for e in by_minute.get(i, [])})
        if distinct <= c < n:
            explained += n - c
        else:
            short.append(i)
    return rows, short, explained


def _data(reply: Reply, kind: str) -> list[Any]:
    answer = reply.json()
    try:
        if answer["status"] != "success" or answer["data"]["resultType"] != kind:
            raise Transient(f"the answer is no {kind}")
        if answer.get("warnings"):
            raise SourceError(
                f"Loki warns that its answer may not be whole: {answer['warnings'][0]}", "ask the operator of this Loki"
            )
        return list(answer["data"]["result"])
    except (KeyError, TypeError) as e:
        raise SourceError("what answers is not Loki", "check loki.url: it must be Loki's own address") from e


def _matrix(reply: Reply) -> list[Any]:
    return _data(reply, "matrix")


def _vector(reply: Reply) -> list[Any]:
    return _data(reply, "vector")


def _streams(reply: Reply) -> list[Entry]:
    """Decode whole streams, structured metadata apart; equal entries (one identity) are one."""
    if reply.status != 200:  # noqa: PLR2004 - HTTP's OK
        text = reply.text()
        over = _MAX_ENTRIES.search(text)
        if reply.status == 413 or over or _TOO_LARGE.search(text):  # noqa: PLR2004 - HTTP's Content Too Large
            raise TooLarge(text, limit=int(over[1]) if over else None)
        if reply.status >= 500:  # noqa: PLR2004 - HTTP's server errors
            raise Transient(f"HTTP {reply.status}: {text}")
        raise SourceError(f"Loki refused the query: HTTP {reply.status}: {text}", "check loki.selectors")
    seen: dict[tuple[int, str, int, tuple[tuple[str, str], ...]], Entry] = {}
    for i, stream in enumerate(_data(reply, "streams")):
        labels: Mapping[str, str] = stream["stream"]
        for value in stream["values"]:
            apart = value[2] if len(value) > 2 else {}  # noqa: PLR2004 - instant, line, what is apart
            metadata = apart.get("structuredMetadata", {})
            ts = int(value[0])
            seen.setdefault((ts, value[1], i, tuple(sorted(metadata.items()))), Entry(ts, value[1], labels, metadata))
    return list(seen.values())
