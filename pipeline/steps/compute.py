"""Lake -> derived tables. Everything is read from the lake, so that a day can be made again without any source."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import correlate, schemas
from pipeline.errors import LakeError
from pipeline.lake.tables import union
from pipeline.model import DAY_NS, Coverage, PullRecord, Window, day_of, merge
from pipeline.rules import kind_of
from pipeline.schemas import plain
from pipeline.signals import alerts as alert_audit
from pipeline.signals import attempts as lives
from pipeline.signals import coverage, failures, golden, incidents, levels, listings, pages, scraped, slo
from pipeline.signals.alerts import Expected
from pipeline.signals.slo import LeftOut
from pipeline.signals.verdict import Verdict, verdict
from pipeline.steps import promises
from pipeline.steps.compare import compare
from pipeline.steps.context import Context, ns
from pipeline.steps.told import Told

WHAT = ("logs", "jobs", "alerts", "events", "issues")
_WINDOW_DAYS = 7  # the longest objective's window
_REACH_DAYS = 8  # how far incidents and recoveries may reach into, and out of, a day
_HOUR_NS = DAY_NS // 24
_AFTER_NS = _HOUR_NS  # lines and samples after a day's end that tell how what began in it went on
_ROWS = {"logs": "logs", "jobs": "job_samples", "alerts": "alerts", "events": "events", "issues": "issue_runs"}


@dataclass(frozen=True)
class Day:
    """Everything known about a day: derived tables, what they rest on, and the verdict.

    `incidents` are those that were open at an instant of it, `watched` also those whose recovery it may prove.
    `exclusions` tell by which entry of the settings what was left out of the objectives. `restated` are days before it
    whose own tables changed with it, as what had begun in them went on.
    """

    date: dt.date
    window: Window
    attempts: pd.DataFrame
    lines: pd.DataFrame
    golden: pd.DataFrame
    totals: Mapping[str, Mapping[str, Any]]
    failures: pd.DataFrame
    earlier: pd.DataFrame
    incidents: pd.DataFrame
    alerts: pd.DataFrame
    expected: Sequence[Expected]
    alert_audit: pd.DataFrame
    slo: pd.DataFrame
    shares: pd.DataFrame
    ledger: pd.DataFrame
    success_templates: pd.DataFrame
    level_breaches: pd.DataFrame
    left_out: tuple[int, int]
    exclusions: Sequence[LeftOut]
    watched: pd.DataFrame
    coverage: Sequence[Coverage]
    verdict: Verdict
    ambiguous: int
    restated: Sequence[Day] = ()

    @property
    def complete(self) -> bool:
        """Tell whether every configured source is."""
        return all(c.complete is not False for c in self.coverage)


def day_coverage(ctx: Context, day: Window) -> list[Coverage]:
    """Return how well each kind of question is answered for a day, by the records of its pulls; rows as the lake has."""
    known = coverage.of_day({w: ctx.records.of(w, day) for w in WHAT}, day)
    return [replace(c, rows=_rows(ctx, c, day)) if c.configured else c for c in known]


def _rows(ctx: Context, c: Coverage, day: Window) -> int:
    """Count what the lake has of a day: records of pulls that overlap count rows twice."""
    if c.what == "jobs" and c.source == "kubernetes":
        shown = ctx.tables.read("job_snapshots", day, ["uid"])["uid"]
        return int(pc.count_distinct(shown).as_py())
    table = _ROWS[c.what]
    return ctx.tables.count(table, day) + ctx.records.left_out(table, day)


def compute(ctx: Context, date: dt.date) -> Day:
    """Make a day's derived tables and write them. Raises UsageError, LakeError where the day was never pulled.

    Days of the objectives' window that were pulled and never computed are made first: a sum over seven days needs seven.
    The day before is made again where it was computed: what ran, or was open, over midnight has ended by now.
    """
    day = ctx.check_day(date)
    if not any(ctx.records.of(w, day) for w in WHAT):
        raise LakeError(f"nothing of {date} was ever pulled", f"run: aislot pull --date {date}")
    told = Told(ctx, keep=True)
    computed = set(ctx.tables.days("golden"))
    window = Window(day.start - (_WINDOW_DAYS - 1) * DAY_NS, day.end)
    for earlier in sorted(_pulled_days(ctx, window) - computed - {date}):
        _make(ctx, told, earlier)
        computed.add(earlier)
    made, touched = _make(ctx, told, date)
    ctx.records.clear_restated(date)
    before = date - dt.timedelta(days=1)
    if before not in computed:
        return made
    again, changed = _make(ctx, told, before, attempts=False)
    return replace(made, restated=(again,)) if before in touched | changed else made


def _make(ctx: Context, told: Told, date: dt.date, *, attempts: bool = True) -> tuple[Day, set[dt.date]]:
    """Make one day's tables, and what it tells of earlier days; returns the days that changed, its own attempts aside."""
    ctx.check_time()
    day = Window.of_day(date)
    settled = _write_attempts(ctx, day, _attempts(ctx, told, day)) if attempts else set()
    made = _derive(ctx, told, date)
    files = sum(_write(ctx, n, day, getattr(made, n)) for n in (*schemas.DERIVED_OF_DAY, "success_templates"))
    began = _mask(made.watched["started_at"], day)
    files += _write(ctx, "incidents", day, made.watched[began])
    changed = settled | ({date} if files else set())
    for at, earlier in made.watched[~began].groupby(made.watched["started_at"].dt.floor("D")):
        rows = schemas.from_frame("incidents", earlier)
        if ctx.tables.replace("incidents", Window.of_day(_date(at)), rows, merge=union(("incident_id",))):
            changed.add(_date(at))
    for name in (n for n, t in schemas.TABLES.items() if not t.internal):
        ctx.tables.ensure(name, date)
    ctx.records.put_day(date, {"totals": made.totals, "worst": {e.rule.name: e.worst for e in made.expected}})
    return made, changed


def derive(ctx: Context, date: dt.date) -> Day:
    """Compute a day from the lake's `attempts`, `logs`, `alerts` and `issue_runs`; writes nothing."""
    return _derive(ctx, Told(ctx), date)


def _derive(ctx: Context, told: Told, date: dt.date) -> Day:
    day, rules, settings = Window.of_day(date), ctx.catalogue, ctx.settings
    kinds = rules.golden_kinds()
    known = day_coverage(ctx, day)
    gaps = {c.what: list(c.gaps) for c in known if c.configured}
    past, ahead = Window(day.start - _REACH_DAYS * DAY_NS, day.end), Window(day.end, day.end + _REACH_DAYS * DAY_NS)

    def read(name: str, window: Window) -> pd.DataFrame:
        return schemas.to_frame(ctx.tables.read(name, window))

    every = read("attempts", Window(past.start - DAY_NS, ahead.end))
    lines = _lines(ctx, told, _around(ctx, day), every)
    touching = golden.touching(every, day)
    in_day = lines[_mask(lines["ts"], day)]
    signed = lines[np.fromiter(map(len, lines["signatures"]), np.int64, len(lines)) > 0]
    signed_in_day = signed[_mask(signed["ts"], day)]
    links = read("issue_runs", past.widen(0, DAY_NS))
    issues = correlate.issue_of_run(links, lines)
    earlier, later = read("failures", Window(past.start, day.start)), read("failures", ahead)
    found = failures.failures(every, lines, day, rules.signatures, rules.phrases, kinds, issues)
    spoken_of_again = (found["kind"] == "run") & found["failure_id"].isin(earlier["failure_id"])
    found = found[~spoken_of_again].reset_index(drop=True)
    others = [f[~f["failure_id"].isin(found["failure_id"])] for f in (earlier, later)]
    tolerance = settings.alerts.tolerance
    fired = listings.each_once(read("alerts", past.widen(0, ns(tolerance))), tolerance)
    failed = schemas.tidy("failures", pd.concat([found, *others]))
    entries = promises.exclusions(ctx)
    watch = promises.watch(ctx, date, failed, ahead.end)
    cases = incidents.incidents(failed, every, fired, links, rules.alerts, settings.incident.quiet, tolerance, watch)
    cases["excluded_by"] = slo.excluded_by(cases["started_at"], entries)
    expected = alert_audit.expected(rules.alerts, every, signed, cases, day, _known_until(ctx, day))
    before = Window(day.start - DAY_NS, day.start)
    looked = {w: [*_holes(ctx, w, before), *g] if w in {"logs", "jobs"} else g for w, g in gaps.items()}
    audited = alert_audit.audit(expected, fired, day, tolerance, looked)
    if "alerts" not in gaps:
        audited = schemas.empty_frame("alert_audit")  # nobody was asked what fired, so nothing can be called missed
    audited = pages.annotated(audited, rules.alerts, failed, signed, entries)
    pulled = _pulled_days(ctx, past)
    objectives = slo.objectives(every, cases, rules.objectives, day, pulled, entries, ctx.now)
    promised = promises.with_commands(ctx, objectives.table, date)
    begun = cases[cases["started_at"] < _at(day.end)]
    touched = begun[~(begun["ended_at"] <= _at(day.start))]
    compared = compare(ctx, told, day, every, lines, found, cases)
    over = begun["ended_at"] + pd.Timedelta(seconds=watch.length_s)
    queue = read("queue_samples", day) if any("queue" in c.proof for c in known) else None
    return Day(
        date=date,
        window=day,
        attempts=touching,
        lines=in_day,
        golden=golden.golden_signals(touching, signed_in_day, day, gaps, kinds, queue),
        totals=golden.day_totals(touching, signed_in_day, day, gaps, kinds, queue),
        failures=found,
        earlier=earlier,
        incidents=touched,
        alerts=fired[(fired["started_at"] < _at(day.end)) & ~(fired["ended_at"] <= _at(day.start))],
        expected=expected,
        alert_audit=audited,
        slo=promised,
        shares=compared.shares,
        ledger=compared.ledger,
        success_templates=compared.success_templates,
        level_breaches=levels.breaches(in_day, rules.signatures, rules.phrases, day),
        left_out=(objectives.left_out_attempts, objectives.left_out_incidents),
        exclusions=objectives.left_out,
        watched=begun[~(over < _at(day.start))],
        coverage=known,
        verdict=verdict(
            day, expected, touched, len(found), promised, known, rules.objectives, settings.verdict.max_gap
        ),
        ambiguous=correlate.ambiguous(touching, {*told.runs(day), *links["run_id"].dropna()}, rules.job_kinds),
    )


def _around(ctx: Context, day: Window) -> Window:
    """Return a day with so much before it that what was alive at its start is known, and a little after it."""
    before = -(-ns(ctx.settings.prometheus.lookback) // _HOUR_NS) * _HOUR_NS
    return day.widen(before, _AFTER_NS)


def _known_until(ctx: Context, day: Window) -> int:
    """Return until when what happened is known: past the day's end where that was pulled too, else no further."""
    after = Window(day.end, day.end + _AFTER_NS)
    known = coverage.of_day({w: ctx.records.of(w, after) for w in ("jobs", "logs")}, after)
    asked = [c for c in known if c.what in {"jobs", "logs"}]
    whole = all(c.complete is not False for c in asked) and any(c.configured for c in asked)
    return after.end if whole else day.end


def log_lines(ctx: Context, window: Window, attempts: pd.DataFrame) -> pd.DataFrame:
    """Return the lines that tell something (`telling`); with `job`, `kind`, `attempt_index`."""
    return _lines(ctx, Told(ctx), window, attempts)


def _lines(ctx: Context, told: Told, window: Window, attempts: pd.DataFrame) -> pd.DataFrame:
    rules = ctx.catalogue
    lines = schemas.to_frame(told.lines(window))
    lines["job"] = correlate.job_of_line(lines, plain(attempts["job_name"].dropna().drop_duplicates()), rules.job_kinds)
    jobs = plain(lines["job"].dropna().drop_duplicates())
    kinds = {j: k[0].kind for j in jobs if (k := kind_of(j, rules.job_kinds))}
    lines["kind"] = lines["job"].map(kinds).astype("str")
    lines["attempt_index"] = correlate.attempt_of_line(lines, attempts[attempts["created_at"].notna()])
    return lines


def _attempts(ctx: Context, told: Told, day: Window) -> pd.DataFrame:
    """Put the attempts together from what the lake holds around a day, and link them."""
    around = _around(ctx, day)
    wide = Window(around.start, day.end + DAY_NS)

    def read(name: str, window: Window = wide) -> pd.DataFrame:
        return schemas.to_frame(ctx.tables.read(name, window))

    asked = [Window(*r.proof["asked"]) for r in ctx.records.of("jobs", wide) if isinstance(r.proof.get("asked"), list)]
    samples = ctx.tables.read("job_samples", wide, scraped.READ, coded=scraped.CODED)
    snapshots, events = read("job_snapshots"), read("events")
    sampled = pd.Series(pc.unique(samples["job_name"]).to_pylist(), dtype="str")
    names = pd.concat([sampled, snapshots["job_name"], events["object_name"]]).dropna().unique()
    known = schemas.empty_frame("attempts").reindex(range(len(names))).assign(job_name=names)
    lines = _lines(ctx, told, around, known)
    evidence = lives.Evidence(samples, read("scrapes"), snapshots, events, lines, merge(asked), read("pod_ends"))
    found = lives.reconstruct(evidence, ctx.catalogue.job_kinds, ctx.catalogue.phrases)
    links = read("issue_runs", wide.widen(_WINDOW_DAYS * DAY_NS, 0))
    runs = set(read("attempts")["run_id"].dropna())
    holes = _holes(ctx, "logs", around)
    return correlate.link_runs(found, lines, links, ctx.catalogue.job_kinds, runs, told.runs(around), holes)


def _holes(ctx: Context, what: str, window: Window) -> list[Window]:
    """Return what of a window is not known, all of it where nobody asked."""
    known = coverage.of_day({w: ctx.records.of(w, window) for w in WHAT}, window)
    of = [c for c in known if c.what == what and c.configured]
    return merge(g for c in of for g in c.gaps) if of else [window]


def _write_attempts(ctx: Context, day: Window, found: pd.DataFrame) -> set[dt.date]:
    """Write the attempts created in a day, and what the day tells of those that came into it; an end is never taken back.

    What was over an hour before the day began is left as its own day knew it: what comes later tells no more of it.
    Attempts are numbered among all of their name. Returns the other days whose attempts changed.
    """
    reaches = found["ended_at"].fillna(found["last_seen_at"]) >= _at(day.start - _AFTER_NS)
    mine = found[_mask(found["created_at"], day) | ((found["created_at"] < _at(day.start)) & reaches)]
    days = sorted({day_of(day.start), *(_date(t) for t in mine["created_at"])})
    others = _same_names(ctx, mine["job_name"].unique(), days)
    known = pa.concat_tables([*(ctx.tables.read("attempts", Window.of_day(d)) for d in days), *others])
    joined = lives.upsert(schemas.to_frame(known), mine)
    by_day = {_date(at): rows for at, rows in joined.groupby(joined["created_at"].dt.floor("D"))}
    key, changed = union(schemas.TABLES["attempts"].key), set()
    for date in sorted({*days, *by_day}):
        rows = schemas.from_frame("attempts", by_day.get(date, joined.iloc[:0]))
        if ctx.tables.replace("attempts", Window.of_day(date), rows, merge=None if date in days else key):
            changed.add(date)
    return changed - {day_of(day.start)}


def _same_names(ctx: Context, names: Collection[str], but: Collection[dt.date]) -> list[pa.Table]:
    """Return the attempts of these names that the lake has of all other days."""
    wanted, found = pa.array(names, pa.string()), []
    for date in (d for d in ctx.tables.days("attempts") if len(wanted) and d not in but):
        if pc.any(pc.is_in(ctx.tables.read("attempts", Window.of_day(date), ["job_name"])["job_name"], wanted)).as_py():
            rows = ctx.tables.read("attempts", Window.of_day(date))
            found.append(rows.filter(pc.is_in(rows["job_name"], wanted)))
    return found


def _write(ctx: Context, name: str, day: Window, frame: pd.DataFrame) -> int:
    return ctx.tables.replace(name, day, schemas.from_frame(name, frame))


def _pulled_days(ctx: Context, window: Window) -> set[dt.date]:
    """List the days whose jobs were asked for as a whole (today: up to now), and of which at least something is known."""
    records = [
        r for r in ctx.records.of("jobs", window) if r.proof.get("configured", True) and not r.proof.get("error")
    ]
    return {
        d for d, part in window.days() if _asked_whole([r for r in records if r.window.intersect(part)], part, ctx.now)
    }


def _asked_whole(records: Sequence[PullRecord], day: Window, now: int) -> bool:
    over = Window(day.start, max(day.start, min(day.end, now)))
    asked = any(w.covers(over) for w in merge(r.window for r in records))
    return asked and any(merge(r.gaps) != [r.window] for r in records)


def _mask(instants: pd.Series, window: Window) -> pd.Series:
    return (instants >= _at(window.start)) & (instants < _at(window.end))


def _at(instant: int) -> pd.Timestamp:
    return pd.Timestamp(instant, tz="UTC")


def _date(at: Any) -> dt.date:
    return day_of(at.value)
