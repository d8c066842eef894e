"""Lake -> derived tables. Everything is read from the lake, so that a day can be made again without any source."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import correlate, schemas
from pipeline.errors import LakeError
from pipeline.model import DAY_NS, Coverage, Window, day_of, instant_of, merge
from pipeline.rules import Catalogue, kind_of
from pipeline.settings import Exclusion
from pipeline.signals import alerts as alert_audit
from pipeline.signals import attempts as lives
from pipeline.signals import coverage, failures, golden, incidents, slo
from pipeline.signals.alerts import Expected
from pipeline.signals.verdict import Verdict, verdict
from pipeline.steps.context import Context

WHAT = ("logs", "jobs", "alerts", "events", "issues")
_BACK_DAYS = 8  # the longest objective's window and the day before it, whose incidents may reach in
_LOG_COLUMNS = ["ts", "namespace", "app", "level", "msg", "run_id", "job_name", "issue", "err", "signatures", "line"]


@dataclass(frozen=True)
class Day:
    """Everything known about a day: derived tables, what they rest on, and the verdict."""

    date: dt.date
    window: Window
    attempts: pd.DataFrame
    lines: pd.DataFrame
    golden: pd.DataFrame
    totals: Mapping[str, Mapping[str, Any]]
    failures: pd.DataFrame
    incidents: pd.DataFrame
    alerts: pd.DataFrame
    expected: Sequence[Expected]
    alert_audit: pd.DataFrame
    slo: pd.DataFrame
    left_out: tuple[int, int]
    coverage: Sequence[Coverage]
    verdict: Verdict
    ambiguous: int

    @property
    def complete(self) -> bool:
        """Tell whether every configured source is."""
        return all(c.complete is not False for c in self.coverage)


def day_coverage(ctx: Context, day: Window) -> list[Coverage]:
    """Return how well each kind of question is answered for a day, by the records of its pulls."""
    return coverage.of_day({w: ctx.records.of(w, day) for w in WHAT}, day)


def compute(ctx: Context, date: dt.date) -> Day:
    """Make a day's derived tables and write them. Raises UsageError, LakeError where the day was never pulled."""
    day = ctx.check_day(date)
    if not any(ctx.records.of(w, day) for w in WHAT):
        raise LakeError(f"nothing of {date} was ever pulled", f"run: aislot pull --date {date}")
    _write_attempts(ctx, day, _attempts(ctx, day))
    made = derive(ctx, date)
    for name in ("golden", "failures", "alert_audit", "slo"):
        _write(ctx, name, day, getattr(made, name))
    _write(ctx, "incidents", day, _of_day(made.incidents, "started_at", day))
    for name in schemas.TABLES:
        if not schemas.TABLES[name].internal:
            ctx.tables.ensure(name, date)
    ctx.records.put_day(date, {"totals": made.totals, "worst": {e.rule.name: e.worst for e in made.expected}})
    return made


def derive(ctx: Context, date: dt.date) -> Day:
    """Compute a day from the lake's `attempts`, `logs`, `alerts` and `issue_runs`; writes nothing."""
    day, rules = Window.of_day(date), ctx.catalogue
    kinds = rules.golden_kinds()
    known = day_coverage(ctx, day)
    gaps = {c.what: list(c.gaps) for c in known if c.configured}
    past = Window(day.start - _BACK_DAYS * DAY_NS, day.end)
    every = schemas.to_frame(ctx.tables.read("attempts", past.widen(DAY_NS, DAY_NS)))
    lines = log_lines(ctx, Window(day.start - DAY_NS, day.end + DAY_NS // 24), every)
    touching = golden.touching(every, day)
    in_day = lines[_mask(lines["ts"], day)]
    found = failures.failures(every, lines, day, rules.signatures, rules.phrases, kinds)
    earlier = schemas.to_frame(ctx.tables.read("failures", Window(past.start, day.start)))
    alerts = schemas.to_frame(ctx.tables.read("alerts", past))
    links = schemas.to_frame(ctx.tables.read("issue_runs", past.widen(0, DAY_NS)))
    settings = ctx.settings
    cases = incidents.incidents(
        pd.concat([earlier, found], ignore_index=True) if len(earlier) else found,
        every[every["created_at"] < pd.Timestamp(min(day.end + DAY_NS, ctx.now), tz="UTC")],
        alerts,
        links,
        rules.alerts,
        settings.incident.quiet,
        settings.alerts.tolerance,
    )
    expected = alert_audit.expected(rules.alerts, every, lines, cases, day)
    audited = alert_audit.audit(expected, alerts, day, settings.alerts.tolerance)
    if not next(c for c in known if c.what == "alerts").configured:
        audited = schemas.empty_frame("alert_audit")  # nobody was asked what fired, so nothing can be called missed
    excluded = slo.Excluded(_windows(settings.maintenance), _windows(settings.outage))
    objectives = slo.objectives(every, cases, rules.objectives, day, _pulled_days(ctx, past), excluded, ctx.now)
    open_today = cases[(cases["started_at"] < _at(day.end)) & ~(cases["ended_at"] < _at(day.start))]
    totals = golden.day_totals(touching, in_day, day, gaps, kinds)
    judged = verdict(
        day,
        expected,
        open_today,
        len(found),
        objectives.table,
        known,
        rules.objectives,
        settings.verdict.max_gap,
    )
    return Day(
        date=date,
        window=day,
        attempts=touching,
        lines=in_day,
        golden=golden.golden_signals(touching, in_day, day, gaps, kinds),
        totals=totals,
        failures=found,
        incidents=open_today,
        alerts=alerts[(alerts["started_at"] < _at(day.end)) & ~(alerts["ended_at"] < _at(day.start))],
        expected=expected,
        alert_audit=audited,
        slo=objectives.table,
        left_out=(objectives.left_out_attempts, objectives.left_out_incidents),
        coverage=known,
        verdict=judged,
        ambiguous=correlate.ambiguous(touching, {*_runs(ctx, day), *links["run_id"].dropna()}, rules.job_kinds),
    )


def log_lines(ctx: Context, window: Window, attempts: pd.DataFrame) -> pd.DataFrame:
    """Return the lines that tell something: a signature, a phrase, a job or a bad level; with `job`, `kind`, `attempt_index`.

    Only these leave Arrow: a day has up to millions of lines, a few thousand of which matter here.
    """
    rules = ctx.catalogue
    parts = []
    for _, part in window.days():
        table = ctx.tables.read("logs", part, _LOG_COLUMNS)
        parts.append(table.filter(_telling(table, rules)) if table.num_rows else table)
    spec = schemas.TABLES["logs"].schema
    lines = schemas.to_frame(pa.concat_tables(parts).cast(pa.schema([spec.field(c) for c in _LOG_COLUMNS])))
    names = attempts["job_name"].dropna().unique().tolist()
    lines["job"] = correlate.job_of_line(lines, names, rules.job_kinds) if len(lines) else pd.Series(dtype=object)
    kinds = {j: k[0].kind for j in lines["job"].dropna().unique() if (k := kind_of(j, rules.job_kinds))}
    lines["kind"] = lines["job"].map(kinds)
    lines["attempt_index"] = correlate.attempt_of_line(lines, attempts)
    return lines


def _telling(table: pa.Table, rules: Catalogue) -> pa.ChunkedArray:
    words = [correlate.job_hint(rules.job_kinds), *(p.pattern for p in rules.phrases)]
    named = pc.match_substring_regex(table["line"], "|".join(f"(?:{w})" for w in words))
    signed = pc.greater(pc.list_value_length(table["signatures"]), 0)
    bad = pc.is_in(table["level"], pa.array(["WARN", "ERROR", "FATAL"]))
    masks = [named, signed, bad, pc.is_valid(table["job_name"])]
    total = masks[0]
    for m in masks[1:]:
        total = pc.or_(total, pc.fill_null(m, fill_value=False))
    return total


def _attempts(ctx: Context, day: Window) -> pd.DataFrame:
    """Put the attempts together from what the lake holds around a day, and link them."""
    around = day.widen(DAY_NS, DAY_NS)

    def read(name: str) -> pd.DataFrame:
        return schemas.to_frame(ctx.tables.read(name, around))

    asked = [
        Window(*r.proof["asked"]) for r in ctx.records.of("jobs", around) if isinstance(r.proof.get("asked"), list)
    ]
    samples, snapshots = read("job_samples"), read("job_snapshots")
    names = sorted({*samples["job_name"].dropna(), *snapshots["job_name"].dropna()})
    lines = log_lines(ctx, day.widen(DAY_NS, DAY_NS // 24), _names_only(names))
    evidence = lives.Evidence(samples, read("scrapes"), snapshots, read("events"), lines, merge(asked))
    found = lives.reconstruct(evidence, ctx.catalogue.job_kinds, ctx.catalogue.phrases)
    links = schemas.to_frame(ctx.tables.read("issue_runs", around.widen(7 * DAY_NS, DAY_NS)))
    return correlate.link_runs(found, lines, links, ctx.catalogue.job_kinds, _runs(ctx, around))


def _names_only(names: Sequence[str]) -> pd.DataFrame:
    """Return attempts of which only the job's name is known yet."""
    return schemas.empty_frame("attempts").reindex(range(len(names))).assign(job_name=names)


def _runs(ctx: Context, window: Window) -> set[str]:
    """Return every run id that a line names in a field of its own."""
    found: set[str] = set()
    for _, part in window.days():
        found.update(r for r in pc.unique(ctx.tables.read("logs", part, ["run_id"])["run_id"]).to_pylist() if r)
    return found


def _write_attempts(ctx: Context, day: Window, found: pd.DataFrame) -> None:
    """Write attempts of the day and of the day before, which may have ended today; an end is never taken back."""
    around = day.widen(DAY_NS, 0)
    mine = found[_mask(found["created_at"], around)]
    before = around.widen(6 * DAY_NS, 0)
    known = schemas.to_frame(ctx.tables.read("attempts", before))
    joined = lives.upsert(known, mine)
    ctx.tables.replace("attempts", around, schemas.from_frame("attempts", joined[_mask(joined["created_at"], around)]))


def _write(ctx: Context, name: str, day: Window, frame: pd.DataFrame) -> None:
    ctx.tables.replace(name, day, schemas.from_frame(name, frame))


def _pulled_days(ctx: Context, window: Window) -> set[dt.date]:
    """List the days whose jobs were asked for."""
    return {
        day_of(r.window.start) for r in ctx.records.of("jobs", window) if r.proof.get("configured", True) and r.rows
    }


def _windows(entries: Sequence[Exclusion]) -> list[Window]:
    return [Window(instant_of(e.start), instant_of(e.end)) for e in entries]


def _mask(instants: pd.Series, window: Window) -> pd.Series:
    return (instants >= _at(window.start)) & (instants < _at(window.end))


def _of_day(frame: pd.DataFrame, column: str, day: Window) -> pd.DataFrame:
    return frame[_mask(frame[column], day)]


def _at(instant: int) -> pd.Timestamp:
    return pd.Timestamp(instant, tz="UTC")
