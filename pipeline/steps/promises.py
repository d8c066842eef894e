"""What the settings and the records say of promises: what is left out, how long recovery is watched, what days lack."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence

import pandas as pd

from pipeline.model import Window, day_of, instant_of, merge, subtract
from pipeline.signals import coverage, incidents, slo
from pipeline.steps.context import Context


def watch(ctx: Context, date: dt.date, failed: pd.DataFrame, until: int) -> incidents.Watch:
    """Return of which time since the first failure of a class everything is known: days computed, jobs and logs whole."""
    length_s = ctx.settings.incident.watch
    of_class = failed.loc[failed["class"].isin(list(incidents.BREAKS)), "failed_at"]
    if of_class.empty:
        return incidents.Watch(length_s)
    around = Window(Window.of_day(day_of(of_class.min().value)).start, until)
    known = coverage.of_day({w: ctx.records.of(w, around) for w in ("jobs", "logs")}, around)
    gaps = [g for c in known if c.what in {"jobs", "logs"} and c.configured for g in c.gaps]
    days = [w for d, w in around.days() if d == date or d in set(ctx.tables.days("golden"))]
    return incidents.Watch(length_s, merge(p for w in days for p in subtract(w, gaps)))


def exclusions(ctx: Context) -> list[slo.Exclusion]:
    """Return what the settings leave out of the objectives."""
    return [
        slo.Exclusion(kind, Window(instant_of(e.start), instant_of(e.end)), e.who, e.why, e.confirmed_by)
        for kind, of in ((slo.MAINTENANCE, ctx.settings.maintenance), (slo.OUTAGE, ctx.settings.outage))
        for e in of
    ]


def with_commands(ctx: Context, promises: pd.DataFrame, date: dt.date) -> pd.DataFrame:
    """Name what pulls and computes the days that an objective lacks: those computed already without jobs each by itself."""
    computed = set(ctx.tables.days("golden")) - {date}
    lacking = [[dt.date.fromisoformat(d) for d in missing] for missing in promises["missing_days"]]
    commands = [_command(days, computed, date) if days else None for days in lacking]
    return promises.assign(command=pd.Series(commands, index=promises.index, dtype="str"))


def _command(missing: Sequence[dt.date], computed: Collection[dt.date], date: dt.date) -> str:
    spans = merge(Window.of_day(d) for d in missing)
    pulls = [f"aislot pull --since {day_of(w.start)} --until {day_of(w.end)}" for w in spans]
    made = [f"aislot compute --date {d}" for d in [*(d for d in missing if d in computed), date]]
    return " && ".join([*pulls, *made, f"aislot report daily --date {date}"])
