"""Makes a lake for a benchmark without any server: what pulls of a synthetic platform's days would have left.

`python -m tests.bench.lake FOLDER DATE DAYS LINES ATTEMPTS`
"""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from pipeline import catalog, loglines, schemas
from pipeline.lake.store import Store
from pipeline.lake.tables import union
from pipeline.model import DAY_NS, NS, Block, PullRecord, Run, Window
from pipeline.settings import Settings
from pipeline.steps.context import Context
from pipeline.steps.told import Listener
from tests.bench import speech
from tests.bench.platform import Job, jobs
from tests.bench.speech import NAMESPACE, SHARES, Said

_HOUR_NS = 3600 * NS
_SCRAPE_NS = 30 * NS
_PHASE_NS = 3_412_000_000  # scrapes come at their own offset within the interval
_BLOCK = 20_000
_REASONS = ("BackoffLimitExceeded", "DeadlineExceeded", "Evicted")
_REPOSITORY = "codex-k8s/codex-k8s"
Ints = npt.NDArray[np.int64]


def make(folder: str, date: dt.date, days: int, lines: int, attempts: int) -> int:
    """Write a lake whose last day is `date`; `lines` and `attempts` are of each day. Returns how many lines it has."""
    span = Window(Window.of_day(date).start - (days - 1) * DAY_NS, Window.of_day(date).end)
    ctx = Context(Settings(), catalog.load(), Store(folder), span.end + _HOUR_NS, print)
    history = jobs(span, attempts)
    rows = loglines.LogRows(ctx.settings.loki.labels, ctx.redactor(), ctx.catalogue.signatures)
    ctx.records.stamp("bench")
    written = sum(_logs(ctx, rows, history, cell, lines // 24, n) for n, cell in enumerate(span.cells(_HOUR_NS)))
    for _, day in span.days():
        _history(ctx, history, day)
        _links(ctx, history, day)
    return written


def _logs(ctx: Context, rows: loglines.LogRows, history: Sequence[Job], hour: Window, lines: int, seed: int) -> int:
    """Write an hour of `logs` and its record; block by block, as a pull does."""
    part, told = ctx.tables.part("logs", hour), Listener(ctx.store, ctx.catalogue, hour)
    count, first, last = 0, hour.end, hour.start
    for some in _batches(_said(history, hour, lines, seed)):
        some.sort(key=itemgetter(2, 3, 0))
        runs = [Run(whose, more, len(list(same))) for (whose, more), same in groupby(some, key=itemgetter(2, 3))]
        at = np.array([s.at for s in some], np.int64)
        table = rows.rows(Block(at, [s.text for s in some], runs))
        part.add(table)
        told.add(table)
        count, first, last = count + len(some), min(first, int(at.min())), max(last, int(at.max()))
    told.close(part.close())
    proof = {"counted": count, "reconciled": count, "first": first, "last": last}
    _record(ctx, "logs", "loki", hour, count, proof)
    return count


def _batches(said: Iterator[list[Said]]) -> Iterator[list[Said]]:
    held: list[Said] = []
    for some in said:
        held += some
        if len(held) >= _BLOCK:
            yield held
            held = []
    if held:
        yield held


def _said(history: Sequence[Job], hour: Window, lines: int, seed: int) -> Iterator[list[Said]]:
    """Yield an hour's lines minute by minute: what is said of jobs' lives, and around it what says little."""
    there = [j for j in history if j.made < hour.end + NS and j.stopped > hour.start - 60 * NS]
    told = sorted(speech.about(there, hour, seed), key=itemgetter(0))
    rng = np.random.default_rng(seed)
    rest = max(0, lines - len(told))
    n = 0
    for i, minute in enumerate(hour.cells(60 * NS)):
        alive = [j for j in there if j.begun < minute.end and j.stopped > minute.start]
        some: list[Said] = []
        while n < len(told) and told[n].at < minute.end:
            some.append(told[n])
            n += 1
        left = of_minute = rest * (i + 1) // 60 - rest * i // 60
        for what, share in SHARES.items() if alive else ():
            whose = [alive[k] for k in rng.integers(0, len(alive), round(of_minute * share)).tolist()]
            at = _instants(rng, minute, whose)
            some += speech.quiet(_texts(at), at.tolist(), what, whose)
            left -= len(whose)
        at = rng.integers(minute.start, minute.end, left)
        some += speech.services(_texts(at), at.tolist())
        yield some


def _instants(rng: np.random.Generator, minute: Window, whose: Sequence[Job]) -> Ints:
    """Draw an instant of a minute for each job, in which that job runs."""
    starts = np.array([max(minute.start, j.begun) for j in whose], np.int64)
    ends = np.array([min(minute.end, j.stopped) for j in whose], np.int64)
    return starts + (rng.random(len(whose)) * (ends - starts)).astype(np.int64)


def _texts(at: Ints) -> list[str]:
    return list(np.datetime_as_string(at.astype("datetime64[ns]"), unit="ns").tolist())


def _history(ctx: Context, history: Sequence[Job], day: Window) -> None:
    """Write what a pull of a day's jobs keeps: samples of every scrape from its look-back to three scrapes after it."""
    lookback = round(ctx.settings.prometheus.lookback * NS)
    asked = Window(day.start - lookback, day.end + 3 * _SCRAPE_NS)
    scrapes = np.arange(asked.start + _PHASE_NS, asked.end, _SCRAPE_NS, dtype=np.int64)
    times = pa.array(scrapes).cast(schemas.TS)
    ups = pa.table([times, pa.array(np.ones(len(scrapes), bool))], schema=schemas.TABLES["scrapes"].schema)
    samples = _samples(history, scrapes)
    for name, rows in (("scrapes", ups), ("job_samples", samples)):
        ctx.tables.replace(name, asked, rows, merge=union(schemas.TABLES[name].key))
    inside = scrapes[(scrapes >= day.start) & (scrapes < day.end)]
    proof: dict[str, object] = {"scrapes": len(inside), "expected": len(inside), "interval_s": _SCRAPE_NS / NS}
    proof |= {"first": int(inside[0]), "last": int(inside[-1]), "asked": [asked.start, asked.end]}
    _record(ctx, "jobs", "prometheus", day, samples.num_rows, proof)


def _samples(history: Sequence[Job], scrapes: Ints) -> pa.Table:
    """Return what kube-state-metrics shows of the jobs at every scrape: of each metric its samples, job by job."""
    whole = (np.array([[j.made, j.begun, j.stopped, j.gone] for j in history], np.int64) // NS).T
    made, begun, stopped, gone = np.searchsorted(
        scrapes, np.array([[j.made, j.begun, j.stopped, j.gone] for j in history], np.int64).T
    )
    done = np.array([not j.cause for j in history])
    ended, ones = np.minimum(stopped, gone), np.ones(len(history))
    shown = [
        ("created", None, made, gone, whole[0]),
        ("start_time", None, begun, gone, whole[1]),
        ("labels", None, made, gone, ones),
        ("failed_pods", None, made, np.where(done, gone, ended), 0 * ones),
        ("completion_time", None, np.where(done, ended, gone), gone, whole[2]),
        ("complete", None, np.where(done, ended, gone), gone, ones),
        ("failed_condition", None, np.where(done, gone, ended), gone, ones),
        *(("failed_pods", r, np.where(done, gone, ended), gone, (r == _REASONS[0]) * ones) for r in _REASONS),
    ]
    parts = [_shown(history, scrapes, metric, reason, *where) for metric, reason, *where in shown]
    return schemas.in_order("job_samples", pa.concat_tables(parts).combine_chunks())


def _shown(
    history: Sequence[Job],
    scrapes: Ints,
    metric: str,
    reason: str | None,
    start: Ints,
    end: Ints,
    values: npt.NDArray[np.float64],
) -> pa.Table:
    """Return the samples of one metric: of each job those of the scrapes `[start, end)`."""
    length = np.maximum(end - start, 0)
    job = np.repeat(np.arange(len(history)), length)
    within = np.arange(len(job)) - np.repeat(np.cumsum(length) - length, length)
    own = [_labels(j) if metric == "labels" else [] for j in history]
    columns = {
        "ts": pa.array(scrapes[np.repeat(start, length) + within]).cast(schemas.TS),
        "metric": pa.repeat(pa.scalar(metric), len(job)),
        "namespace": pa.repeat(pa.scalar(NAMESPACE), len(job)),
        "job_name": pa.array([j.name for j in history]).take(pa.array(job)),
        "reason": pa.repeat(pa.scalar(reason, pa.string()), len(job)),
        "value": pa.array(np.asarray(values, np.float64)[job]),
        "labels": pa.array(own, schemas.MAP).take(pa.array(job)),
    }
    schema = schemas.TABLES["job_samples"].schema
    return pa.Table.from_arrays([columns[c] for c in schema.names], schema=schema)


def _labels(job: Job) -> list[tuple[str, str]]:
    own = [("label_app_kubernetes_io_name", dict(speech.pod(job))["app"])]
    return [("label_app_kubernetes_io_component", job.image), *own] if job.image else own


def _links(ctx: Context, history: Sequence[Job], day: Window) -> None:
    """Write a day's comments that tie runs to issues, an alert that fired, and the records of what was asked."""
    firsts = {j.run: j for j in reversed(history) if j.issue is not None and j.made in day}
    rows = [
        {"ts": pd.Timestamp(j.made, tz="UTC"), "run_id": run, "issue": j.issue, "repository": _REPOSITORY}
        | {"job_namespace": NAMESPACE, "job_name": j.name, "phase": "started", "run_status": None}
        | {"found_by": "marker", "author_kind": "platform", "comment_url": f"https://github.com/{_REPOSITORY}/{run}"}
        for run, j in firsts.items()
    ]
    columns = schemas.TABLES["issue_runs"].columns
    ctx.tables.replace("issue_runs", day, schemas.from_frame("issue_runs", pd.DataFrame(rows, columns=columns)))
    fired = [day.start + round(h * _HOUR_NS) for h in (9.2, 10.1)]
    alert: dict[str, object] = {
        "alert": "AI_SLOT_BUILD_FAILURE_BURST",
        "severity": "page",
        "labels": {},
        "source": "prometheus",
    }
    alert |= {c: pd.Timestamp(t, tz="UTC") for c, t in zip(("started_at", "ended_at"), fired, strict=True)}
    ctx.tables.replace("alerts", day, schemas.from_frame("alerts", pd.DataFrame([alert])))
    _record(ctx, "alerts", "prometheus", day, 1, {"method": "rule evaluations"})
    _record(ctx, "issues", "github", day, len(rows), {})
    ctx.records.put(PullRecord("events", "kubernetes", day, None, asked_at=ctx.now, proof={"configured": False}))


def _record(ctx: Context, what: str, source: str, window: Window, rows: int, proof: Mapping[str, object]) -> None:
    ctx.records.put(PullRecord(what, source, window, complete=True, rows=rows, asked_at=ctx.now, proof=proof))


def main(folder: str, date: str, days: str, lines: str, attempts: str) -> None:
    """Make a lake and say how large it is."""
    print(make(folder, dt.date.fromisoformat(date), int(days), int(lines), int(attempts)))


if __name__ == "__main__":
    main(*sys.argv[1:])
