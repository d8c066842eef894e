"""One Loki as one tenant sees it: one question at a time, each answer read whole before anything of it counts."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from pipeline.errors import TooLarge, Transient
from pipeline.model import NS, Window
from pipeline.sources.http import Door, Reply
from pipeline.sources.loki import answers
from pipeline.sources.loki.answers import RAW_STATUS, Answer, Int64s, Limits, Shown
from pipeline.sources.loki.streams import Streams

T = TypeVar("T")
STEP_NS = 10 * NS
DEFAULT_LIMIT = 5000
_MS = 1_000_000
_QUIET = {"Cache-Control": "no-cache"}  # an empty answer may be cached; ours must be today's
_APART = {**_QUIET, "X-Loki-Response-Encoding-Flags": "categorize-labels"}
_LEAST_COUNTED = 3600 * NS  # counting less at once is never too much to ask of a server that is well
_RANGE, _INSTANT = "/loki/api/v1/query_range", "/loki/api/v1/query"
_NO_ERRORS = "| drop __error__, __error_details__"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ONLY_TENANT = "fake"  # what a Loki without tenants calls its one
ROUNDS = 3  # that a question is asked: an answer which lacks something twice in a row is the most that is reckoned with
_BEYOND_ANY_LIMIT = 10_000_000
_LARGEST = 50_000  # entries of an answer, however many more the server would give


@dataclass(frozen=True)
class Texts:
    """The LogQL of queries/, with `${selector}`, `${range}`, `${label}` and `${at}` to be filled in here."""

    fetch: str
    count: str
    count_by_app: str
    count_instant: str
    lines_counted: str


@dataclass(frozen=True)
class Loki:
    """What `selector` chooses of one Loki; `app` is the label that says which app writes a stream.

    Every question may be about less: `where` is that selector with more matchers, or with predicates behind it.
    """

    door: Door
    texts: Texts
    selector: str
    app: str = "app"
    limit: int = DEFAULT_LIMIT

    def counts(self, window: Window) -> dict[str, Int64s]:
        """Count by app every step `(t - 10 s, t]` of a window on that grid: one call where Loki can. Raises SourceError.

        Where there are more apps than Loki counts apart, the whole is counted, under the name "".
        """
        try:
            query = self.texts.count_by_app.replace("${label}", self.app)
            return self._counts(query, window, self.selector)
        except TooLarge as e:
            if "series" not in e.what:
                raise
            return self._counts(self.texts.count, window, self.selector)

    def steps(self, window: Window, where: str) -> Int64s:
        """Count every step of a window, all apps together. Raises SourceError."""
        found = self._counts(self.texts.count, window, where).values()
        return sum(found, np.zeros(window.length // STEP_NS, np.int64))

    def _counts(self, query: str, window: Window, where: str) -> dict[str, Int64s]:
        form = {"start": str(window.start + STEP_NS), "end": str(window.end), "step": "10s"}
        try:
            found = self._metric(_RANGE, query.replace("${range}", "10s"), where, form, answers.matrix)
        except TooLarge as e:
            if window.length <= _LEAST_COUNTED or "series" in e.what:
                raise
            middle = window.start + window.length // 2 // STEP_NS * STEP_NS
            halves = [self._counts(query, w, where) for w in (Window(window.start, middle), Window(middle, window.end))]
            lengths = [(middle - window.start) // STEP_NS, (window.end - middle) // STEP_NS]
            apps = sorted({app for half in halves for app in half})
            none = [np.zeros(n, np.int64) for n in lengths]
            return {app: np.concatenate([half.get(app, none[i]) for i, half in enumerate(halves)]) for app in apps}
        counted: dict[str, Int64s] = {}
        for labels, values in found:
            steps = counted.setdefault(labels.get(self.app, ""), np.zeros(window.length // STEP_NS, np.int64))
            for at, n in values:
                i = (at - window.start) // STEP_NS - 1
                if 0 <= i < len(steps):
                    steps[i] += n
        return counted

    def count(self, window: Window, where: str | None = None) -> int:
        """Count entries of `(start, end]`, which must be whole milliseconds long. Raises SourceError."""
        text = self.texts.count.replace("${range}", f"{window.length // _MS}ms")
        return self._metric(_INSTANT, text, where, {"time": str(window.end)}, answers.total)

    def count_instant(self, at: int, where: str | None = None) -> int:
        """Count the entries of one nanosecond. Raises SourceError."""
        text = self.texts.count_instant.replace("${at}", f'"{at}"')
        return self._metric(_INSTANT, text, where, {"time": str(at)}, answers.total)

    def _metric(
        self, path: str, text: str, where: str | None, form: Mapping[str, str], read: Callable[[Reply], T]
    ) -> T:
        """Ask a metric query; entries that Loki calls failing count like all others."""
        chosen = where or self.selector
        for selector in (chosen, f"{chosen} {_NO_ERRORS}"):
            query = {"query": text.replace("${selector}", selector), **form}
            try:
                return self.door.post(path, query, headers=_QUIET, check=read, raw_status=RAW_STATUS)
            except answers.FailingEntryError:
                if selector != chosen:
                    raise
        raise AssertionError

    def fetch(
        self,
        window: Window,
        streams: Streams,
        where: str | None = None,
        *,
        apart: bool = False,
        early: bool = True,
        limit: int = 0,
    ) -> Answer:
        """Fetch the entries of `(start, end]` in one request; some may be missing where it is `full`. Raises SourceError.

        `apart`: let Loki tell labels from metadata. `early`: ask from `start` itself, because Loki may lose an entry at the
        very start of what it is asked for; what lies there is dropped.
        """
        most = limit or self.limit
        start = window.start if early else window.start + 1
        answer = self._lines(start, window.end + 1, streams, where, most, apart=apart)
        return replace(answer.within(window), full=answer.given >= most)

    def _lines(self, start: int, end: int, streams: Streams, where: str | None, limit: int, *, apart: bool) -> Answer:
        form = {
            "query": self.texts.fetch.replace("${selector}", where or self.selector),
            "start": str(start),
            "end": str(end),
            "limit": str(limit),
            "direction": "forward",
        }
        for together in [False] if apart else [True, False]:
            check = answers.entries(streams, apart=not together)
            headers = _QUIET if together else _APART
            answer = self.door.post(_RANGE, form, headers=headers, check=check, raw_status=RAW_STATUS)
            if answer is not None:
                return answer
        raise Transient("Loki did not keep labels and metadata apart", "check loki.url (Loki's own address)")

    def shown(self, window: Window, where: str | None = None) -> Sequence[Shown]:
        """Return what lies in `(start, end]` as a metric query shows it, each distinct entry. Raises SourceError.

        Of a window of one nanosecond, or of whole milliseconds; TooLarge where there are more than Loki counts apart.
        """
        one = window.length == 1
        text = self.texts.lines_counted.replace("${at}", f'"{window.end}"' if one else '".+"')
        text = text.replace("${range}", f"{1 if one else window.length // _MS}ms")
        return self._metric(_INSTANT, text, where, {"time": str(window.end)}, answers.shown)

    def series(self, window: Window, nonce: int, selector: str | None = None) -> Sequence[Mapping[str, str]]:
        """List the streams that may have lines in a window. Raises SourceError.

        A matcher that is always true makes each question a new one: Loki caches these answers, and has no way to say no.
        Asked until two answers agree: a stream that one leaves out could make labels pass for metadata.
        """
        known: dict[frozenset[tuple[str, str]], Mapping[str, str]] = {}
        for i in range(ROUNDS):
            match = narrowed(selector or self.selector, f'__aislot__!="{nonce + i}"')
            form = {"match[]": match, "start": str(window.start), "end": str(window.end)}
            found = self.door.post(
                "/loki/api/v1/series", form, headers=_QUIET, check=answers.series, raw_status=RAW_STATUS
            )
            listed = {frozenset(labels.items()): labels for labels in found}
            if i and listed.keys() == known.keys():
                break
            known |= listed
        return list(known.values())

    def limits(self) -> Limits:
        """Return what Loki tells its users of its limits. Raises SourceError where nobody answers."""
        headers = {} if "X-Scope-OrgID" in self.door.endpoint.headers else {"X-Scope-OrgID": _ONLY_TENANT}
        unknown = {400, 401, 403, 404, 405, 501}
        return self.door.get("/loki/api/v1/drilldown-limits", check=answers.limits, headers=headers, raw_status=unknown)

    def largest(self) -> int:
        """Return the most entries that Loki gives at once, by its own refusal of more. Raises SourceError."""
        try:
            self._lines(1, 2, Streams(list), None, _BEYOND_ANY_LIMIT, apart=True)
        except TooLarge as e:
            if e.limit is None:
                raise
            return e.limit
        return _BEYOND_ANY_LIMIT

    def sizes(self, limits: Limits) -> tuple[int, int]:
        """Return how many entries to ask for at once, and the most that the server gives. Raises SourceError."""
        most = (self.largest() if limits.entries is None else limits.entries) or _LARGEST
        return min(DEFAULT_LIMIT, most), min(_LARGEST, most)

    def version(self) -> str:
        """Return the server's version, empty where it does not tell. Raises SourceError where nobody answers."""

        def check(reply: Reply) -> str:
            try:
                answer = reply.json()
            except Transient:
                return ""  # a gateway's page: whether Loki is behind it, the first question tells
            return str(answer.get("version", "")) if isinstance(answer, dict) and reply.status == 200 else ""  # noqa: PLR2004

        return self.door.get("/loki/api/v1/status/buildinfo", check=check, raw_status={401, 403, 404, 405})


def narrowed(selector: str, matchers: str) -> str:
    """Return a selector with more matchers."""
    body = re.sub(r",?\s*\}\s*$", "", selector)
    return f"{body}{'' if body.rstrip().endswith('{') else ', '}{matchers}}}"


def quoted(text: str) -> str:
    """Write a text as a LogQL string, in which Loki takes no NUL and no end of line as it is."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + _CONTROL.sub(lambda c: f"\\u{ord(c[0]):04x}", escaped) + '"'
