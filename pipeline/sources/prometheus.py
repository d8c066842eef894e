"""Prometheus: raw samples by instant queries with a range selector. No step and no look-back, so no ghosts.

Range selectors are closed at the start up to 2.x and left-open from 3.0: slices overlap by one millisecond and samples
are made one by what identifies them, which is right on both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import schemas
from pipeline.errors import SourceError, TooLarge
from pipeline.model import NS, Window
from pipeline.sources.http import Door, Reply

_MS = 1_000_000
SLICE_NS = 6 * 3600 * NS
_SMALLEST_NS = 60 * NS
_OURS = {"reason", "condition", "namespace", "job_name", "exported_namespace", "exported_job", "exported_job_name"}


@dataclass(frozen=True)
class Series:
    """One series of one answer: labels, instants in ms, values."""

    labels: Mapping[str, str]
    at: np.ndarray[Any, np.dtype[np.int64]]
    values: np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Prometheus:
    """One Prometheus, or what speaks its HTTP API."""

    door: Door

    def series(self, query: str, window: Window) -> Iterator[Series]:
        """Return the raw samples of `[start, end)`; `query` holds `${range}`, filled for each slice. Raises SourceError.

        One series comes once a slice that holds samples of it; a sample may come twice, at the edge of two slices.
        """
        for part in window.cells(SLICE_NS):
            yield from self._slice(query, part)

    def _slice(self, query: str, window: Window) -> Iterator[Series]:
        first, last = window.start // _MS, (window.end - 1) // _MS
        # one millisecond more than the slice, for the servers that leave the first instant out
        form = {
            "query": query.replace("${range}", f"{last - first + 1}ms"),
            "time": f"{last // 1000}.{last % 1000:03d}",
        }
        try:
            found = self.door.post("/api/v1/query", form, check=_matrix, raw_status={400, 422})
        except TooLarge:
            if window.length <= _SMALLEST_NS:
                raise
            middle = (window.start + window.length // 2) // _MS * _MS
            yield from self._slice(query, Window(window.start, middle))
            yield from self._slice(query, Window(middle, window.end))
            return
        for s in found:
            inside = (s.at >= first) & (s.at <= last)
            yield replace(s, at=s.at[inside], values=s.values[inside])

    def instant(self, query: str, at: int) -> list[Mapping[str, str]]:
        """Return the label sets that an instant query gives. Raises SourceError."""
        form = {"query": query, "time": f"{at / NS:.3f}"}
        return [s["metric"] for s in self.door.post("/api/v1/query", form, check=_vector, raw_status={400, 422})]

    def version(self) -> str:
        """Return the server's version, empty where it does not tell."""

        def check(reply: Reply) -> str:
            if reply.status != 200:  # noqa: PLR2004 - HTTP's OK
                return ""
            return str(reply.json().get("data", {}).get("version", ""))

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
        metric = labels["__name__"].removeprefix("kube_job_").removeprefix("status_")
        name = {"failed": "failed_condition" if "condition" in labels else "failed_pods"}.get(metric, metric)
        namespace = labels.get("exported_namespace", labels.get("namespace", ""))
        job = labels.get("job_name") or labels.get("exported_job_name") or labels.get("exported_job")
        if not job:
            raise SourceError(
                f"{labels['__name__']} of Prometheus names no job", "kube-state-metrics must be 1.5 or newer"
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


def instants(found: Iterator[Series]) -> list[int]:
    """Return every instant at which any of the series has a sample, sorted, in ns."""
    at = [s.at for s in found]
    return (np.unique(np.concatenate(at)) * _MS).tolist() if at else []


def values(found: Iterator[Series]) -> list[float]:
    """Return every distinct value of the series, sorted."""
    got = [s.values for s in found]
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


def _matrix(reply: Reply) -> list[Series]:
    out = []
    for s in _result(reply, "matrix"):
        pairs = s["values"]
        # instants are floats with three decimals: whole milliseconds first, or they are off by nanoseconds
        at = np.rint(np.array([p[0] for p in pairs], dtype=np.float64) * 1000).astype(np.int64)
        out.append(Series(s["metric"], at, np.array([p[1] for p in pairs], dtype=np.float64)))
    return out


def _vector(reply: Reply) -> list[Any]:
    return _result(reply, "vector")


def _result(reply: Reply, kind: str) -> list[Any]:
    answer = reply.json() if reply.body.lstrip()[:1] == b"{" else {}
    if not isinstance(answer, dict) or "status" not in answer:
        raise SourceError(
            f"what answers is not Prometheus (HTTP {reply.status})", "check prometheus.url: Prometheus's own address"
        )
    if answer["status"] != "success":
        said = str(answer.get("error", ""))[:300]
        if "too many samples" in said or "exceed" in said:
            raise TooLarge(said)
        raise SourceError(f"Prometheus refused the query: {said}", "check kubernetes.namespaces and catalogue.files")
    if answer.get("warnings"):
        raise SourceError(
            f"Prometheus warns that its answer may not be whole: {answer['warnings'][0]}",
            "ask the operator of this Prometheus; for Thanos set partial_response off",
        )
    if answer["data"]["resultType"] != kind:
        raise SourceError(
            f"Prometheus answered with a {answer['data']['resultType']}, not a {kind}", "check its version"
        )
    return list(answer["data"]["result"])
