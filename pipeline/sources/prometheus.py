"""Prometheus: raw samples by instant queries with a range selector. No step and no look-back, so no ghosts.

Range selectors are closed at the start up to 2.x and left-open from 3.0: each slice is asked for one millisecond more,
and what lies outside of it is dropped, which is right on both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa

from pipeline import schemas
from pipeline.errors import SourceError, TooLarge, Transient
from pipeline.model import NS, Window
from pipeline.sources.http import Door, Reply, TooSlow
from pipeline.sources.wire import retry_after_s

T = TypeVar("T")
_MS = 1_000_000
SLICE_NS = 6 * 3600 * NS
_SMALLEST_NS = 60 * NS
_SMALLEST_IF_SLOW_NS = 2700 * NS  # what takes longer for so little is the server's trouble, not the question's size
_RAW = {400, 422, 503}  # what Prometheus says in JSON with these tells whether a smaller question would do
_TOO_LARGE = re.compile("too many samples|exceed|cannot select more than|not enough memory")
_METRICS = {"kube_job_failed": "failed_condition", "kube_job_status_failed": "failed_pods"}
_ROUNDS = (
    3  # that a question is asked: an answer which lacks something twice in a row is the most that is reckoned with
)
_ANSWER_EARLIER_S = 5.0  # the server gives up before we do, so that it can say so


@dataclass(frozen=True)
class Series:
    """One series of one answer: labels, instants in ms, values; how many samples are histograms, which have no value.

    `unnumbered` samples are no numbers and left out. VictoriaMetrics shows its stale markers so, and does not count them.
    """

    labels: Mapping[str, str]
    at: np.ndarray[Any, np.dtype[np.int64]]
    values: np.ndarray[Any, np.dtype[np.float64]]
    histograms: int = 0
    unnumbered: int = 0


class Question(NamedTuple):
    """A query, and the one that counts what it gives: an answer that was cut on its way says 200 too."""

    text: str
    counted: str


class _Form(NamedTuple):
    """What an answer is called that gives series, and how it is read."""

    kind: str
    read: Callable[[list[Any]], list[Series]]


@dataclass(frozen=True)
class Prometheus:
    """One Prometheus, or what speaks its HTTP API; `parameters` go with every query.

    `export`: raw samples come by VictoriaMetrics' own export, and only what counts them is a query.
    """

    door: Door
    parameters: Mapping[str, str] = field(default_factory=dict)
    export: bool = False

    def series(self, question: Question, window: Window) -> Iterator[Series]:
        """Return the raw samples of `[start, end)`, each once; the queries hold `${range}`. Raises SourceError.

        A series comes once for each slice that it was asked in.
        """
        for part in window.cells(SLICE_NS):
            yield from self._slice(question, part, _SAMPLES)

    def last(self, question: Question, window: Window) -> Iterator[Series]:
        """Return the one sample that a query of a vector gives for each slice of a window. Raises SourceError."""
        for part in window.cells(SLICE_NS):
            yield from self._slice(question, part, _LAST)

    def _slice(self, question: Question, window: Window, form: _Form) -> Iterator[Series]:
        first, last = -(-window.start // _MS), (window.end - 1) // _MS
        if last < first:
            return  # nothing lies between two milliseconds
        try:
            # one millisecond more than the slice, for the servers that leave the first instant out
            text, counted = (q.replace("${range}", f"{last - first + 1}ms") for q in question)
            exported = self.export and form is _SAMPLES
            found = self._vouched(
                lambda: self._exported(question, first, last) if exported else self._ask(text, last, *form),
                _sizes,
                lambda: self._ask(counted, last, "vector", _total),
            )
        except TooLarge as e:
            if window.length <= (_SMALLEST_IF_SLOW_NS if isinstance(e, TooSlow) else _SMALLEST_NS):
                raise
            middle = (window.start + window.length // 2) // _MS * _MS
            yield from self._slice(question, Window(window.start, middle), form)
            yield from self._slice(question, Window(middle, window.end), form)
            return
        for s in found:
            inside = (s.at >= first) & (s.at <= last)
            yield replace(s, at=s.at[inside], values=s.values[inside])

    def instant(self, question: Question, at: int) -> list[Mapping[str, str]]:
        """Return the label sets that an instant query gives. Raises SourceError."""
        return self._vouched(
            lambda: self._ask(question.text, at // _MS, "vector", lambda result: [dict(s["metric"]) for s in result]),
            lambda found: (len(found),),
            lambda: self._ask(question.counted, at // _MS, "vector", _total),
        )

    def _vouched(
        self, ask: Callable[[], list[T]], sizes: Callable[[list[T]], tuple[int, ...]], count: Callable[[], int]
    ) -> list[T]:
        """Ask until an answer holds as much as is counted. Of two answers the fuller one is nearer to the truth.

        `sizes` are what an answer's count may be, the largest first.
        """
        found: list[T] = []
        counted = 0
        for _ in range(_ROUNDS):
            found, counted = max(found, ask(), key=sizes), max(counted, count())
            if counted in sizes(found):
                return found
        size = sizes(found)[0]
        if size < counted:
            raise SourceError(
                f"Prometheus gives {size} of the {counted} that it counts",
                "ask its operator what stands between us and it; the next run asks again",
            )
        return found

    def _ask(self, query: str, at_ms: int, kind: str, read: Callable[[list[Any]], T]) -> T:
        """Ask an instant query; the instant is written in whole milliseconds, which is what Prometheus knows."""
        timeout = max(1.0, self.door.policy.timeout_s - _ANSWER_EARLIER_S)
        form = {"query": query, "time": f"{at_ms // 1000}.{at_ms % 1000:03d}", "timeout": f"{timeout:.0f}s"}
        form |= self.parameters
        return self.door.post("/api/v1/query", form, check=lambda reply: _read(reply, kind, read), raw_status=_RAW)

    def _exported(self, question: Question, first_ms: int, last_ms: int) -> list[Series]:
        """Read a selector's raw samples of `[first, last]` as JSON lines, one a series and block of it."""
        selector = question.text.strip().removesuffix("[${range}]")
        ends = {k: f"{ms // 1000}.{ms % 1000:03d}" for k, ms in (("start", first_ms), ("end", last_ms))}
        form = {"match[]": selector, **ends, **self.parameters}
        return self.door.post("/api/v1/export", form, check=_export, raw_status=_RAW)

    def version(self) -> str:
        """Return the server's version, empty where it does not tell. Raises SourceError where nobody answers."""

        def check(reply: Reply) -> str:
            try:
                answer = reply.json()
            except Transient:
                return ""  # a gateway's page: whether Prometheus is behind it, the first question tells
            data = answer.get("data") if isinstance(answer, dict) and reply.status == 200 else None  # noqa: PLR2004
            return str(data.get("version", "")) if isinstance(data, dict) else ""

        return self.door.get("/api/v1/status/buildinfo", check=check, raw_status={401, 403, 404, 405})


def job_samples(found: Iterator[Series], namespaces: Sequence[str]) -> pa.Table:
    """Turn series of `kube_job_*` into `job_samples`, each sample once; what only tells the scrape apart is dropped.

    Several instances and replicas become one. Where `honor_labels` is off, `namespace` is kube-state-metrics' own and the
    job's is `exported_namespace`. Raises SourceError where a series names no job.
    """
    whole = re.compile("|".join(f"(?:{n})" for n in namespaces))
    parts: dict[str, list[Any]] = {c: [] for c in schemas.TABLES["job_samples"].columns}
    for s in found:
        labels = s.labels
        metric = labels.get("__name__", "")
        name = _METRICS.get(metric) or metric.removeprefix("kube_job_").removeprefix("status_")
        # what kube-state-metrics says is renamed to exported_… where the target has a label of that name itself
        namespace = labels.get("exported_namespace", labels.get("namespace", ""))
        job = labels.get("exported_job_name") or labels.get("job_name") or labels.get("exported_job")
        if not job:
            raise SourceError(
                f"{metric or 'a metric'} of Prometheus names no job", "kube-state-metrics must be 1.5 or newer"
            )
        if not whole.fullmatch(namespace):
            continue
        own = sorted((k, v) for k, v in labels.items() if k.startswith("label_")) if name == "labels" else []
        n = len(s.at)
        parts["ts"].append(s.at * _MS)
        parts["value"].append(s.values)
        for column, value in (("metric", name), ("namespace", namespace), ("job_name", job)):
            parts[column] += [value] * n
        parts["reason"] += [labels.get("reason")] * n
        parts["labels"] += [own] * n
    return _once("job_samples", parts)


def scrapes(found: Iterator[Series]) -> pa.Table:
    """Turn `up` of the jobs' target into `scrapes`: one row an instant, up where any instance was."""
    seen: dict[int, bool] = {}
    for s in found:
        for at, value in zip(s.at.tolist(), s.values.tolist(), strict=True):
            seen[at] = seen.get(at, False) or value == 1
    at = sorted(seen)
    rows = {"ts": np.array(at, dtype=np.int64) * _MS, "up": [seen[t] for t in at]}
    return pa.table({c: pa.array(v, schemas.TABLES["scrapes"].schema.field(c).type) for c, v in rows.items()})


def queue_samples(found: Iterator[Series], query: str) -> pa.Table:
    """Turn the one series of a queue's query into `queue_samples`; what is no number is no sample.

    Raises SourceError where there are several series: which one is meant, or whether they add up, nobody can tell.
    """
    series = list(found)
    if len({tuple(sorted(s.labels.items())) for s in series}) > 1:
        raise SourceError(
            "prometheus.queue_query gives several series", "write it so that it gives one: sum(…), max(…)"
        )
    at = np.concatenate([s.at for s in series]) if series else np.array([], np.int64)
    value = np.concatenate([s.values for s in series]) if series else np.array([], np.float64)
    known = np.isfinite(value)
    rows = {"ts": at[known] * _MS, "value": value[known], "query": [query] * int(known.sum())}
    return pa.table({c: pa.array(v, schemas.TABLES["queue_samples"].schema.field(c).type) for c, v in rows.items()})


def instants(found: Iterator[Series]) -> list[int]:
    """Return every instant at which any of the series has a sample, sorted, in ns."""
    at = [s.at for s in found]
    return (np.unique(np.concatenate(at)) * _MS).tolist() if at else []


def values(found: Iterator[Series]) -> list[float]:
    """Return every distinct value of the series that is a number, sorted."""
    got = [s.values[np.isfinite(s.values)] for s in found]
    return [float(v) for v in np.unique(np.concatenate(got))] if got else []


def _once(table: str, parts: dict[str, list[Any]]) -> pa.Table:
    spec = schemas.TABLES[table]
    ts = np.concatenate(parts["ts"]) if parts["ts"] else np.array([], dtype=np.int64)
    value = np.concatenate(parts["value"]) if parts["value"] else np.array([], dtype=np.float64)
    columns = {**parts, "ts": ts, "value": value}
    rows = pa.table({c: pa.array(columns[c], spec.schema.field(c).type) for c in spec.columns})
    numbered = rows.select(list(spec.key)).append_column("i", pa.array(range(rows.num_rows), pa.int64()))
    first = numbered.group_by(list(spec.key)).aggregate([("i", "min")])["i_min"]
    return schemas.in_order(table, rows.take(first))


def _matrix(result: list[Any]) -> list[Series]:
    out = []
    for s in result:
        pairs = s.get("values", [])  # a native histogram has none
        # instants are floats with three decimals: whole milliseconds first, or they are off by nanoseconds
        at = np.rint(np.array([p[0] for p in pairs], dtype=np.float64) * 1000).astype(np.int64)
        values = np.array([p[1] for p in pairs], dtype=np.float64)
        known = ~np.isnan(values)
        unnumbered = len(values) - int(known.sum())
        out.append(Series(dict(s["metric"]), at[known], values[known], len(s.get("histograms", [])), unnumbered))
    return out


def _export(reply: Reply) -> list[Series]:
    if reply.status != 200:  # noqa: PLR2004 - HTTP's OK
        raise _refused(reply)
    try:
        rows = [json.loads(line) for line in reply.body.splitlines() if line.strip()]
        return [_exported_series(r["metric"], r["timestamps"], r["values"]) for r in rows]
    except (KeyError, TypeError, ValueError) as e:
        raise Transient(
            "the answer is no export of VictoriaMetrics", "check prometheus.url and prometheus.export"
        ) from e


def _exported_series(labels: Mapping[str, str], at: Sequence[int], values: Sequence[Any]) -> Series:
    there = [(t, v) for t, v in zip(at, values, strict=True) if v is not None]  # null: a stale marker
    return Series(dict(labels), np.array([t for t, _ in there], np.int64), np.array([v for _, v in there], np.float64))


def _vector(result: list[Any]) -> list[Series]:
    return _matrix([{"metric": s["metric"], "values": [s["value"]]} for s in result])


_SAMPLES, _LAST = _Form("matrix", _matrix), _Form("vector", _vector)


def _sizes(found: list[Series]) -> tuple[int, int]:
    """Return how many samples an answer holds, and how many where those that are no numbers are not counted."""
    numbers = sum(len(s.at) + s.histograms for s in found)
    return numbers + sum(s.unnumbered for s in found), numbers


def _total(result: list[Any]) -> int:
    return sum(int(float(sample["value"][1])) for sample in result)


def _read(reply: Reply, kind: str, read: Callable[[list[Any]], T]) -> T:
    """Read a whole answer of one kind; one that is none may be another server's, or damaged on its way."""
    if reply.status != 200:  # noqa: PLR2004 - HTTP's OK
        raise _refused(reply)
    answer = reply.json()
    fix = "check prometheus.url: Prometheus's own address"
    try:
        if answer["status"] != "success":
            raise _refused(reply)
        if answer.get("warnings"):
            said = str(answer["warnings"][0])[:300]
            raise Transient(
                f"Prometheus warns that its answer may not be whole: {said}",
                "ask the operator of this Prometheus; for Thanos set partial_response off",
            )
        if answer.get("isPartial"):
            raise Transient(
                "VictoriaMetrics says that its answer is not whole", "ask its operator which vmstorage is away"
            )
        if answer["data"]["resultType"] != kind:
            raise Transient(f"the answer is no {kind}", fix)
        return read(answer["data"]["result"])
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as e:
        raise Transient(f"the answer is no {kind} of Prometheus", fix) from e


def _refused(reply: Reply) -> SourceError:
    """Tell a question that is too large from one that is wrong and from a server in trouble."""
    try:
        answer = reply.json()
    except Transient:
        answer = None  # while it starts, Prometheus says so in plain text
    answer = answer if isinstance(answer, dict) else {}
    whole = " ".join(str(answer.get("error", "")).split())
    said = whole[:300] or reply.text()
    if answer.get("errorType") == "timeout":
        fix = "ask its operator for a longer query.timeout"
        return TooSlow(f"Prometheus did not answer in its own time: {said}", fix)
    # VictoriaMetrics repeats the whole selector first, and says it of an export in plain text
    if _TOO_LARGE.search(whole or reply.body.decode("utf-8", "replace")):
        return TooLarge(f"Prometheus refused the query: {said}", "ask its operator for a larger query.max-samples")
    if reply.status == 503:  # noqa: PLR2004 - HTTP's Service Unavailable
        return Transient(f"HTTP {reply.status}: {said}", retry_after_s=retry_after_s(reply.headers))
    return SourceError(
        f"Prometheus refused the query: HTTP {reply.status}: {said}",
        "check kubernetes.namespaces, catalogue.files and prometheus.queue_query",
    )
