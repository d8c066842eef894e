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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from pipeline.errors import SourceError, TooLarge, Transient
from pipeline.model import NS, Entry, Window
from pipeline.sources.http import Door, Reply, TooSlow

T = TypeVar("T")
STEP_NS = 60 * NS
_MS = 1_000_000
_QUIET = {"Cache-Control": "no-cache"}  # an empty answer may be cached; ours must be today's
_APART = {**_QUIET, "X-Loki-Response-Encoding-Flags": "categorize-labels"}
_RAW = {400, 413, 500, 504}  # what Loki says in plain text with these tells whether a smaller question would do
_TOO_LARGE = re.compile(
    r"larger than (?:the )?max|query would read too many bytes|query (?:is )?too large|time range exceeds|"
    r"decrease the duration"
)
_MAX_ENTRIES = re.compile(r"max_entries_limit_per_query \(\d+ > (\d+)\)")
_LEAST_MINUTES = 60  # counting fewer is never too much to ask of a server that is well
DEFAULT_LIMIT = 5000


@dataclass(frozen=True)
class Cell:
    """The entries of `[start, end)` and the proof: per minute what the server counted and how many rows came.

    `counted[i]` and `rows[i]` are of minute `(start + i*60 s, start + (i+1)*60 s]`; `short` are the minutes that did
    not reconcile (the first one too where the instant `start` did not); `explained` is by how many rows a count is off
    for a known reason: it takes entries that differ in metadata alone for one, or counts what the server gives twice.
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
class Answer:
    """Entries, each once, in no order; `doubles` are the instants of those that the server gave once more."""

    entries: list[Entry]
    doubles: list[int]

    def within(self, window: Window) -> Answer:
        """Return what lies in `(start, end]`."""
        inside = [e for e in self.entries if window.start < e.ts <= window.end]
        return Answer(inside, [t for t in self.doubles if window.start < t <= window.end])


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
        """Count every minute `(t - 60 s, t]` of a window on the minute grid: one call where Loki can. Raises SourceError."""
        query = self.count_query.replace("${range}", "60s")
        form = {"query": query, "start": str(window.start + STEP_NS), "end": str(window.end), "step": "60s"}
        try:
            found = self.door.post("/loki/api/v1/query_range", form, headers=_QUIET, check=_matrix, raw_status=_RAW)
        except TooLarge:
            minutes = window.length // STEP_NS
            if minutes <= _LEAST_MINUTES:
                raise
            middle = window.start + minutes // 2 * STEP_NS
            return self.counts(Window(window.start, middle)) + self.counts(Window(middle, window.end))
        return [found[t] for t in range(window.start + STEP_NS, window.end + 1, STEP_NS)]

    def count(self, window: Window) -> int:
        """Count entries of `(start, end]`, which must be whole milliseconds long. Raises SourceError."""
        query = self.count_query.replace("${range}", f"{window.length // _MS}ms")
        form = {"query": query, "time": str(window.end)}
        return self.door.post("/loki/api/v1/query", form, headers=_QUIET, check=_vector, raw_status=_RAW)

    def fetch(self, window: Window) -> Answer:
        """Fetch the entries of `(start, end]` in one request. Raises SourceError; TooLarge where some may be missing."""
        answer, rows = self._range(window.start, window.end + 1)
        if rows >= self.limit:
            raise TooLarge("a full answer")
        return answer.within(window)

    def fetch_instant(self, at: int) -> tuple[Answer, bool]:
        """Fetch what lies at one instant, as much of it as answers hold; and tell whether that is all. Raises SourceError.

        Asked with and without the nanosecond before: with it the limit holds less, without it an entry may be lost.
        """
        apart, rows = self._range(at, at + 1)
        early, _ = self._range(at - 1, at + 1)
        have = {_identity(e) for e in apart.entries}
        more = [e for e in early.entries if e.ts == at and _identity(e) not in have]
        return Answer(apart.entries + more, apart.doubles), rows < self.limit

    def _range(self, start: int, end: int) -> tuple[Answer, int]:
        form = {
            "query": self.fetch_query,
            "start": str(start),
            "end": str(end),
            "limit": str(self.limit),
            "direction": "forward",
        }
        return self.door.post("/loki/api/v1/query_range", form, headers=_APART, check=_streams, raw_status=_RAW)

    def version(self) -> str:
        """Return the server's version, empty where it does not tell. Raises SourceError where nobody answers."""

        def check(reply: Reply) -> str:
            try:
                answer = reply.json()
            except Transient:
                return ""  # a gateway's page: whether Loki is behind it, the first question tells
            return str(answer.get("version", "")) if isinstance(answer, dict) and reply.status == 200 else ""  # noqa: PLR2004

        return self.door.get("/loki/api/v1/status/buildinfo", check=check, raw_status={401, 403, 404, 405})


def read_cell(loki: Loki, window: Window, counted: Sequence[int]) -> Cell:
    """Fetch and reconcile the entries of `[start, end)`, on the minute grid, `counted` by minute. Raises SourceError.

    What lies exactly at the start belongs to the window but is counted in the minute before: the millisecond that ends
    there is counted and read, so that this instant is proven like all others.
    """
    work = _Work(loki)
    minutes = work.reconciled(window, counted, STEP_NS)
    edge = Window(window.start - _MS, window.start)
    first = work.reconciled(edge, [work.count(edge)], _MS)
    inside = sorted((e for part in (first, minutes) for e in part.entries if e.ts in window), key=lambda e: e.ts)
    short = sorted({*minutes.short, *([0] if first.short else [])})
    explained = minutes.explained + first.explained
    return Cell(
        window, inside, minutes.counted, minutes.rows, short, explained, work.requests, work.counts, dict(work.causes)
    )


@dataclass(frozen=True)
class _Part:
    """What was read of a window and how it agrees with the counts, step by step."""

    entries: Sequence[Entry]
    counted: Sequence[int]
    rows: Sequence[int]
    short: Sequence[int]
    explained: int


@dataclass
class _Work:
    """Fetches windows, halving those that turn out too large, and keeps count of what that took."""

    loki: Loki
    requests: int = 0
    counts: int = 0
    causes: Counter[str] = field(default_factory=Counter)
    busy: set[int] = field(default_factory=set)

    def reconciled(self, window: Window, counted: Sequence[int], step: int) -> _Part:
        """Read a window of which every step is counted; what does not agree is counted and read once more."""
        counted = list(counted)
        answer = self._slices(window, counted, step)
        part = _reconcile(answer, window, counted, step)
        for i in part.short:
            # lines still arriving, or the server's own trouble: after this the count is believed
            again = Window(window.start + i * step, window.start + (i + 1) * step)
            counted[i] = self.count(again)
            kept = [e for e in answer.entries if not again.start < e.ts <= again.end]
            doubles = [t for t in answer.doubles if not again.start < t <= again.end]
            fresh = self._again(again, counted[i])
            answer = Answer(kept + fresh.entries, doubles + fresh.doubles)
        return _reconcile(answer, window, counted, step) if part.short else part

    def _again(self, window: Window, expected: int) -> Answer:
        """Read once more what came short, and in halves where it does so again.

        Where metadata is asked for apart, Loki takes an error on its way (a message too large, a chunk not found) for
        the end of the lines and says 200: a smaller window then shows what a larger one did not.
        """
        answer = self.fetch(window, expected)
        whole = len(answer.entries) + len(answer.doubles) >= expected
        if whole or window.length <= NS or any(window.start < at <= window.end for at in self.busy):
            return answer
        self.causes["a short answer"] += 1
        middle = _middle(window)
        halves = [(w, self.count(w)) for w in (Window(window.start, middle), Window(middle, window.end))]
        return _joined(self._again(half, n) for half, n in halves if n)

    def _slices(self, window: Window, counted: Sequence[int], step: int) -> Answer:
        """Fetch steps joined to slices that fit one answer; one that does not fit stands alone; none are not asked."""
        got: list[Answer] = []
        at = 0
        while at < len(counted):
            to, expected = at + 1, counted[at]
            while to < len(counted) and expected + counted[to] <= _room(self.loki.limit):
                expected += counted[to]
                to += 1
            if expected:
                got.append(self.fetch(Window(window.start + at * step, window.start + to * step), expected))
            at = to
        return _joined(got)

    def count(self, window: Window) -> int:
        self.counts += 1
        return self.loki.count(window)

    def fetch(self, window: Window, expected: int) -> Answer:
        """Fetch `(start, end]`; what cannot be asked for as a whole comes in halves."""
        if expected <= _room(self.loki.limit):
            self.requests += 1
            try:
                return self.loki.fetch(window)
            except TooLarge as e:
                self.causes[e.what[:60]] += 1
                if e.limit is not None:
                    return self._under(e, window, expected)
                if isinstance(e, TooSlow) and window.length <= NS:
                    raise  # a second's lines are few: what is slow is the server, and smaller questions are more of them
        if window.length == 1:
            return self._instant(window.end)
        middle = _middle(window)
        left, right = Window(window.start, middle), Window(middle, window.end)
        return _joined([self.fetch(left, self._expected(left)), self.fetch(right, self._expected(right))])

    def _under(self, e: TooLarge, window: Window, expected: int) -> Answer:
        """Go on under the limit that the server named."""
        if e.limit is None or not 0 < e.limit < self.loki.limit:
            raise e
        self.loki = replace(self.loki, limit=e.limit)
        return self.fetch(window, expected)

    def _instant(self, at: int) -> Answer:
        """Take what can be had of an instant that does not fit one answer: the counts tell the rest."""
        self.requests += 2
        try:
            answer, whole = self.loki.fetch_instant(at)
        except TooLarge as e:
            self.causes[e.what[:60]] += 1
            answer, whole = Answer([], []), False
        if not whole:
            self.causes["busy nanosecond"] += 1
            self.busy.add(at)
        return answer

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


def _joined(answers: Iterable[Answer]) -> Answer:
    parts = list(answers)
    return Answer([e for a in parts for e in a.entries], [t for a in parts for t in a.doubles])


def _reconcile(answer: Answer, window: Window, counted: Sequence[int], step: int) -> _Part:
    """Hold rows against counts, step by step.

    Entries equal in stream, instant and line with other metadata are two rows, which the server may count as one; and
    what it gives twice it may count twice.
    """
    rows, doubles = [0] * len(counted), [0] * len(counted)
    for e in answer.entries:
        rows[(e.ts - window.start - 1) // step] += 1
    for t in answer.doubles:
        doubles[(t - window.start - 1) // step] += 1
    short, explained = [], 0
    for i, (n, c) in enumerate(zip(rows, counted, strict=True)):
        if n == c:
            continue
        inside = (e for e in answer.entries if (e.ts - window.start - 1) // step == i)
        if n < c <= n + doubles[i] or len({_identity(e)[:3] for e in inside}) <= c < n:
            explained += abs(n - c)
        else:
            short.append(i)
    return _Part(answer.entries, counted, rows, short, explained)


def _identity(e: Entry) -> tuple[int, str, frozenset[tuple[str, str]], frozenset[tuple[str, str]]]:
    return e.ts, e.line, frozenset(e.labels.items()), frozenset(e.metadata.items())


def _read(reply: Reply, kind: str, read: Callable[[list[Any]], T]) -> T:
    """Read a whole answer of one kind; one that is none may be another server's, or damaged on its way."""
    if reply.status != 200:  # noqa: PLR2004 - HTTP's OK
        raise _refused(reply)
    answer = reply.json()
    fix = "check loki.url (Loki's own address) and loki.selectors (streams, no more)"
    try:
        if answer["status"] != "success" or answer["data"]["resultType"] != kind:
            raise Transient(f"the answer is no {kind}", fix)
        if answer.get("warnings"):
            said = str(answer["warnings"][0])[:300]
            raise Transient(f"Loki warns that its answer may not be whole: {said}", "ask the operator of this Loki")
        return read(answer["data"]["result"])
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as e:
        raise Transient(f"the answer is no {kind} of Loki", fix) from e


def _refused(reply: Reply) -> SourceError:
    """Tell a question that is too large from one that is wrong and from a server in trouble."""
    text = reply.text()
    over = _MAX_ENTRIES.search(text)
    if over:
        return TooLarge("a limit above the server's", "check loki.selectors", limit=int(over[1]))
    if reply.status == 504:  # noqa: PLR2004 - HTTP's Gateway Timeout
        return TooSlow(f"HTTP {reply.status}: {text}", "ask the operator of this Loki for a longer query_timeout")
    if reply.status == 413 or _TOO_LARGE.search(text):  # noqa: PLR2004 - HTTP's Content Too Large
        return TooLarge(f"HTTP {reply.status}: {text}", "ask the operator of this Loki for larger messages")
    if reply.status >= 500:  # noqa: PLR2004 - HTTP's server errors
        return Transient(f"HTTP {reply.status}: {text}")
    return SourceError(f"Loki refused the query: HTTP {reply.status}: {text}", "check loki.selectors")


def _matrix(reply: Reply) -> Counter[int]:
    def read(result: list[Any]) -> Counter[int]:
        counted: Counter[int] = Counter()
        for at, value in (v for series in result for v in series["values"]):
            counted[round(float(at)) * NS] += int(float(value))
        return counted

    return _read(reply, "matrix", read)


def _vector(reply: Reply) -> int:
    return _read(reply, "vector", lambda result: sum(int(float(sample["value"][1])) for sample in result))


def _streams(reply: Reply) -> tuple[Answer, int]:
    """Decode whole streams, structured metadata apart, each entry once; and the number of rows before that."""
    return _read(reply, "streams", _entries)


def _entries(result: list[Any]) -> tuple[Answer, int]:
    seen: dict[tuple[int, str, int, tuple[tuple[str, str], ...]], Entry] = {}
    doubles: list[int] = []
    numbers: dict[frozenset[tuple[str, str]], int] = {}  # a number for each stream makes a smaller key than its labels
    for stream in result:
        labels: Mapping[str, str] = stream["stream"]
        number = numbers.setdefault(frozenset(labels.items()), len(numbers))
        for at, line, *apart in stream["values"]:
            metadata = apart[0].get("structuredMetadata", {}) if apart else {}
            ts = int(at)
            key = (ts, line, number, tuple(sorted(metadata.items())))
            if key in seen:
                doubles.append(ts)
            else:
                seen[key] = Entry(ts, line, labels, metadata)
    return Answer(list(seen.values()), doubles), len(seen) + len(doubles)
