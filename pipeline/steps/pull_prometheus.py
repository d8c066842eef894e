"""Prometheus -> raw job samples and scrapes (kept below `_aislot/`), and `alerts`."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import catalog, schemas
from pipeline.errors import SourceError
from pipeline.lake.tables import in_window, union
from pipeline.model import DAY_NS, NS, PullRecord, Window, merge, subtract
from pipeline.signals import alerts as firing
from pipeline.signals import coverage
from pipeline.sources import pods, prometheus
from pipeline.sources.prometheus import Prometheus, Question, Series
from pipeline.steps.context import Context, ns

_USUAL_NS = 60 * NS
_RANGE = catalog.Raw("${range}")


@dataclass(frozen=True)
class Target:
    """The scrape job that shows the Kubernetes jobs, and what it calls their namespace."""

    jobs: str
    namespace_label: str


def jobs(ctx: Context, window: Window) -> list[PullRecord]:
    """Pull raw samples of `window`, of the look-back before it, and of two scrapes after it; and of the queue.

    Raises SourceError; what is known of the jobs is kept where only the queue's query fails.
    """
    server, failure, queued = _server(ctx), None, None
    try:
        queued = _queue(ctx, server, window) if ctx.settings.prometheus.queue_query else None
    except SourceError as e:
        failure = e
    records = _jobs(ctx, server, window, queued)
    if failure is not None:
        raise failure
    return records


def _queue(ctx: Context, server: Prometheus, window: Window) -> pa.Table:
    """Pull what the install's own query says of its queue; what an earlier pull got of the same query stays."""
    settings = ctx.settings.prometheus
    asked, of = _until(window, ctx.now), catalog.fingerprint(settings.queue_query)
    step = catalog.Raw(f"{round(settings.queue_step * 1000)}ms")
    question = _samples(ctx, "queue_samples", query=catalog.Raw(settings.queue_query), step=step)
    # of several replicas one is meant
    plain = {k: v for k, v in settings.parameters.items() if k != "dedup"}
    found = prometheus.queue_samples(replace(server, parameters=plain, export=False).series(question, asked), of)

    def newer(old: pa.Table, new: pa.Table) -> pa.Table:
        return union(schemas.TABLES["queue_samples"].key)(old.filter(pc.equal(old["query"], of)), new)

    ctx.tables.replace("queue_samples", asked, found, merge=newer)
    return found


def _jobs(ctx: Context, server: Prometheus, window: Window, queued: pa.Table | None) -> list[PullRecord]:
    version = server.version()
    wide = _until(window.widen(ns(ctx.settings.prometheus.lookback), 5 * _USUAL_NS), ctx.now)
    target = _target(ctx, server, wide)
    if target is None:
        none = {"scrapes": 0, "version": version}
        return [_record(ctx, "jobs", p, 0, [p], none | _queue_proof(queued, p)) for _, p in window.days()]
    scrapes = prometheus.scrapes(server.series(_samples(ctx, "scrapes", jobs=target.jobs), wide))
    interval = coverage.usual_interval(_up(scrapes)) or _USUAL_NS
    asked = _until(Window(wide.start, window.end + 3 * interval), ctx.now - 2 * interval)
    namespaces = catalog.Raw(catalog.quoted("|".join(ctx.settings.kubernetes.namespaces)))
    label = catalog.Raw(target.namespace_label)
    values = {"namespace_label": label, "namespaces": namespaces}
    question = Question(_query(ctx, "job_samples", **values), _query(ctx, "job_samples_counted", **values))
    samples = prometheus.job_samples(server.series(question, asked), ctx.settings.kubernetes.namespaces)
    samples = ctx.redactor().table(samples, ("labels",))
    ctx.tables.replace("scrapes", asked, scrapes, merge=union(schemas.TABLES["scrapes"].key))
    ctx.tables.replace("job_samples", asked, samples, merge=union(schemas.TABLES["job_samples"].key))
    ends = server.last(_vector(ctx, _query(ctx, "pod_ends", **values)), asked)
    ended = pods.pod_ends(ends, ctx.settings.kubernetes.namespaces)
    # one that ended long before is shown for as long as it is not deleted
    ended = in_window(ended, "pod_ends", asked)
    ctx.tables.replace("pod_ends", asked, ended, merge=union(schemas.TABLES["pod_ends"].key))
    known = schemas.to_frame(in_window(scrapes, "scrapes", asked))
    records = []
    for _, part in window.days():
        gaps, proof = coverage.of_jobs(known, part)
        gaps = merge([*gaps, *subtract(part, [asked])])
        rows = in_window(samples, "job_samples", part).num_rows
        proof |= {"asked": [asked.start, asked.end], "version": version} | _queue_proof(queued, part)
        records.append(_record(ctx, "jobs", part, rows, gaps, proof))
    return records


def _queue_proof(queued: pa.Table | None, part: Window) -> dict[str, Any]:
    return {} if queued is None else {"queue": in_window(queued, "queue_samples", part).num_rows}


def _server(ctx: Context) -> Prometheus:
    settings = ctx.settings.prometheus
    return Prometheus(ctx.prometheus(), settings.parameters, export=settings.export)


def alerts(ctx: Context, window: Window) -> list[PullRecord]:
    """Pull the firing intervals of the catalogue's alerts that touch `window`."""
    server = _server(ctx)
    rules = ctx.catalogue.alerts
    # an interval's start may lie before the window: a day of look-back, and what the lake already knows joins on
    asked = _until(window.widen(DAY_NS, 5 * _USUAL_NS), ctx.now)
    names = "|".join(re.escape(r.name) for r in rules)
    found = list(server.series(_samples(ctx, "alert_samples", alerts=names), asked))
    evaluations = prometheus.instants(server.series(_samples(ctx, "rule_evaluations"), asked))
    method = "rule evaluations"
    if not evaluations:
        evaluations, method = (
            prometheus.instants(server.series(_samples(ctx, "server_scrapes"), asked)),
            "server scrapes",
        )
    starts = [round(v * NS) for v in prometheus.values(server.series(_samples(ctx, "server_starts"), asked))]
    table = firing.firing(_by_series(found), evaluations, starts, asked.end, rules)
    labels = ctx.redactor().table(schemas.from_frame("alerts", table), ("labels",))
    table = schemas.to_frame(labels)
    _join_alerts(ctx, asked, table)
    usual, version = coverage.usual_interval(evaluations), server.version()
    records = []
    for _, part in window.days():
        gaps = coverage.holes(evaluations, part, usual)
        inside = [t for t in evaluations if t in part]
        ends = {"first": inside[0], "last": inside[-1]} if inside else {}
        proof = {"method": method, "evaluations": len(inside), "version": version, **ends}
        proof["samples"] = sum(
            int(((s.at * 1_000_000 >= part.start) & (s.at * 1_000_000 < part.end)).sum()) for s in found
        )
        began = table[(table["started_at"] >= _at(part.start)) & (table["started_at"] < _at(part.end))]
        records.append(_record(ctx, "alerts", part, len(began), gaps, proof))
    return records


def _join_alerts(ctx: Context, asked: Window, table: Any) -> None:
    """Write intervals, joined with what the lake knew: one that began before the look-back keeps its start.

    What Alertmanager listed stands beside them as it is.
    """
    before = asked.widen(7 * DAY_NS, 0)
    known = schemas.to_frame(ctx.tables.read("alerts", before))
    reaches = known["ended_at"].isna() | (known["ended_at"] >= _at(asked.start))
    open_ended = reaches & (known["source"] == "prometheus")
    joined = firing.join_intervals(known[open_ended], table)
    rest = known[~open_ended]
    rows = schemas.from_frame("alerts", joined)
    everything = pa.concat_tables([rows, schemas.from_frame("alerts", rest)]) if len(rest) else rows
    touched = [t.value for t in joined["started_at"]]
    ctx.tables.replace("alerts", Window(min([asked.start, *touched]), asked.end), everything)


def _by_series(found: list[Series]) -> list[tuple[Any, list[int]]]:
    return [(s.labels, (s.at * 1_000_000).tolist()) for s in found]


def _target(ctx: Context, server: Prometheus, window: Window) -> Target | None:
    """Find which scrape job shows the Kubernetes jobs, looking back from the end of each day."""
    found: list[Any] = []
    text = ctx.catalogue.queries["scrape_targets"]
    for part in window.cells(DAY_NS):
        query = catalog.render(text, range=catalog.Raw(f"{max(1, part.length // NS)}s"))
        found += server.instant(_vector(ctx, query), part.end - 1)
    jobs = sorted({str(t["job"]) for t in found if t.get("job")})
    if not jobs:
        return None
    exported = any(t.get("exported_namespace") for t in found)
    return Target("|".join(map(re.escape, jobs)), "exported_namespace" if exported else "namespace")


def _query(ctx: Context, name: str, **values: str) -> str:
    return catalog.render(ctx.catalogue.queries[name], range=_RANGE, **values)


def _vector(ctx: Context, text: str) -> Question:
    """Return a query for a vector and what counts its series."""
    return Question(text, catalog.render(ctx.catalogue.queries["series_counted"], series=catalog.Raw(text)))


def _samples(ctx: Context, name: str, **values: str) -> Question:
    """Return a query for samples and what counts them."""
    text = _query(ctx, name, **values)
    return Question(text, catalog.render(ctx.catalogue.queries["samples_counted"], samples=catalog.Raw(text)))


def _until(window: Window, latest: int) -> Window:
    """Cut a window at an instant after which answers are not yet whole."""
    end = min(window.end, latest)
    if end <= window.start:
        raise SourceError("that window has not happened yet", "ask again later")
    return Window(window.start, end)


def _up(scrapes: pa.Table) -> list[int]:
    return list(scrapes.filter(scrapes["up"])["ts"].cast(pa.int64()).to_pylist())


def _at(instant: int) -> Any:
    import pandas as pd  # noqa: PLC0415 - only the alerts need it here

    return pd.Timestamp(instant, tz="UTC")


def _record(ctx: Context, what: str, part: Window, rows: int, gaps: list[Window], proof: dict[str, Any]) -> PullRecord:
    provisional = part.end > ctx.now
    record = PullRecord(
        what, "prometheus", part, not gaps, rows, tuple(gaps), provisional=provisional, asked_at=ctx.now, proof=proof
    )
    return ctx.records.put(record)
