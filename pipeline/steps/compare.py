"""What a day's failures are compared with: successes of the same kind, by what lines of either tell and say."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import correlate, schemas
from pipeline.model import DAY_NS, NS, Window, merge
from pipeline.signals import facts, shared, templates
from pipeline.signals.intervals import nanoseconds
from pipeline.steps.context import Context, ns
from pipeline.steps.told import WHENCE, Told, by_hour

_HOUR_NS = DAY_NS // 24
_BEFORE_NS = _HOUR_NS  # how long before an attempt its run may say what it will use
_AFTER_NS = 60 * NS  # how long after its end lines still are about it (contract, Failures)
_SAID = ["ts", "namespace", "msg", "run_id", "job_name", "err", "line", "format"]
_CODED = ("namespace", "run_id", "job_name", "format")
_ONE = ["namespace", "job_name", "attempt"]


@dataclass(frozen=True)
class Compared:
    """`shares`, `ledger` and `success_templates` of a day."""

    shares: pd.DataFrame
    ledger: pd.DataFrame
    success_templates: pd.DataFrame


@dataclass(frozen=True)
class _Read:
    """What was read of some attempts: their `lines`, and of each of their pods the first in `pods`."""

    attempts: pd.DataFrame
    lines: pd.DataFrame
    pods: pd.DataFrame

    def kinds(self, outcome: str) -> Mapping[int, str]:
        """Return the kind of each attempt that ended so, by its index."""
        kinds = self.attempts.loc[self.attempts["outcome"] == outcome, "kind"]
        return dict(zip(kinds.index.tolist(), kinds.tolist(), strict=True))


def compare(
    ctx: Context,
    told: Told,
    day: Window,
    attempts: pd.DataFrame,
    lines: pd.DataFrame,
    failures: pd.DataFrame,
    incidents: pd.DataFrame,
) -> Compared:
    """Compare a day's failures with its successes, and what they wrote with what successes of the last days wrote.

    `lines` are those that tell something (`telling`), with which of `attempts` they are about. An attempt's own
    lines are read of some attempts a kind only (`compare.attempts`); of the others it is not known what they say.
    """
    ended = _ended(ctx, day, attempts)
    read = _read(ctx, told, day, attempts, lines)
    pieces = templates.of_lines(read.lines)
    written = templates.of_successes(pieces, read.kinds("succeeded"), day)
    signed = templates.of_signatures(lines[_inside(lines["ts"], day)], failures)
    ledger = _ledger(ctx, day, read.kinds("failed"), pieces, written, signed)
    return Compared(_shares(ctx, day, ended, read, failures, incidents), ledger, written)


def _shares(
    ctx: Context, day: Window, ended: pd.DataFrame, read: _Read, failures: pd.DataFrame, incidents: pd.DataFrame
) -> pd.DataFrame:
    attributes = ctx.catalogue.attributes
    said = facts.told(read.lines, read.pods, attributes)
    heard = set(read.lines["attempt_index"].dropna().astype(int))
    known = facts.values(ended, said, heard, attributes)
    which = failures.assign(incident_id=shared.incident_of(failures, incidents)).dropna(subset=["job_name"])
    known["incident_id"] = ended[_ONE].merge(which[[*_ONE, "incident_id"]], on=_ONE, how="left")["incident_id"].array
    failed = ended["outcome"] == "failed"
    starts = [a.id for a in attributes if a.starts]
    return shared.shares(known[failed], known[~failed], facts.names(attributes), starts, day)


def _ledger(
    ctx: Context,
    day: Window,
    failed: Mapping[int, str],
    pieces: pd.DataFrame,
    written: pd.DataFrame,
    signed: pd.DataFrame,
) -> pd.DataFrame:
    settings, tables = ctx.settings.compare, ctx.tables
    last = Window(min(day.start, day.end - ns(settings.days)), day.start)
    earlier = schemas.to_frame(tables.read("success_templates", last))
    new = templates.of_failures(pieces, failed, pd.concat([earlier, written], ignore_index=True))
    before = None
    if any(Window.of_day(d).start < day.start for d in tables.days("ledger")):
        before = schemas.to_frame(tables.read("ledger", Window(day.start - ns(settings.remember), day.start)))
    return templates.ledger([new, signed], before, day, settings.returning)


def _inside(instants: pd.Series, day: Window) -> pd.Series:
    return (instants >= pd.Timestamp(day.start, tz="UTC")) & (instants < pd.Timestamp(day.end, tz="UTC"))


def _ended(ctx: Context, day: Window, attempts: pd.DataFrame) -> pd.DataFrame:
    ended = attempts[_inside(attempts["ended_at"], day) & attempts["outcome"].isin(["failed", "succeeded"])]
    return ended[ended["kind"].isin(ctx.catalogue.golden_kinds())]


def _some(attempts: pd.DataFrame, most: int) -> pd.DataFrame:
    """Return at most so many attempts of each kind and outcome, drawn by what they are: the same ones each time."""
    keys = zip(attempts["namespace"], attempts["job_name"], nanoseconds(attempts["created_at"]), strict=True)
    drawn = [hashlib.sha256("\0".join(map(str, k)).encode()).hexdigest() for k in keys]
    order = pd.Series(drawn, attempts.index, dtype="str").sort_values().index
    return attempts.loc[order].groupby(["kind", "outcome"]).head(most)


def compared(ctx: Context, day: Window, attempts: pd.DataFrame) -> tuple[pd.DataFrame, pa.Array, pa.Array]:
    """Return the attempts of a day whose own lines are read, their jobs and their runs."""
    ended = _ended(ctx, day, attempts)
    some = _some(ended, ctx.settings.compare.attempts)
    jobs, runs = (pa.array(some[c].dropna().unique(), pa.string()) for c in ("job_name", "run_id"))
    return some, jobs, runs


def _read(ctx: Context, told: Told, day: Window, attempts: pd.DataFrame, lines: pd.DataFrame) -> _Read:
    """Read the lines of some attempts' jobs and runs; those of `lines` that only name a job in their text stand beside."""
    some, jobs, runs = compared(ctx, day, attempts)
    by = ("job_name", "run_id")
    hint = facts.field_hint(ctx.catalogue.attributes)

    def own_lines(logs: pa.Table) -> pa.Array:
        job, run = (logs[c] for c in by)
        return pc.indices_nonzero(pc.or_(_among(job, jobs), pc.and_(pc.is_null(job), _among(run, runs))))

    def of_hour(hour: Window) -> pa.Table:
        rows = ctx.tables.chosen("logs", hour, by, own_lines, _SAID, coded=_CODED)
        named = pc.is_valid(rows["job_name"])  # what only names a run tells nothing but by fields
        return rows.filter(pc.or_(named, pc.match_substring_regex(rows["line"], hint)) if hint else named)

    alive = _alive(some)
    found = by_hour([hour for window in alive for hour in window.cells(_HOUR_NS)], of_hour)
    own = schemas.to_frame(pa.concat_tables([schemas.empty("logs").select(_SAID), *found]))
    begun = attempts[attempts["created_at"].notna()]
    own["attempt_index"] = correlate.attempt_of_line(own.assign(job=own["job_name"]), begun)
    named = lines[lines["job_name"].isna() & lines["attempt_index"].isin(some.index)]
    apps = [a for kind in ctx.catalogue.job_kinds for a in kind.apps]
    pods = _pods(pa.concat_tables([schemas.empty("logs").select(WHENCE), *map(told.pods, alive)]), jobs, apps)
    pods["attempt_index"] = correlate.attempt_of_line(pods.assign(job=pods["job_name"]), begun)
    return _Read(some, pd.concat([own, named[own.columns]], ignore_index=True), pods)


def _among(texts: pa.ChunkedArray, some: pa.Array) -> pa.ChunkedArray:
    """Tell which of some texts, as dictionaries, are among others."""
    found = (pc.fill_null(pc.is_in(c.dictionary, some).take(c.indices), fill_value=False) for c in texts.chunks)
    return pa.chunked_array(found, pa.bool_())


def _pods(first: pa.Table, jobs: pa.Array, apps: list[str]) -> pd.DataFrame:
    """Return of the first lines of each hour the first that a job's own container wrote."""
    own = first.filter(pc.and_(pc.is_in(first["job_name"], jobs), pc.is_in(first["app"], pa.array(apps, pa.string()))))
    pods = schemas.to_frame(own)
    least = pods.groupby(["job_name", "pod", "container"], dropna=False)["ts"].transform("min")
    return pods[pods["ts"] == least].reset_index(drop=True)


def _alive(attempts: pd.DataFrame) -> list[Window]:
    """Return the hours in which lines about attempts can have been written, or about what their runs will use."""
    made, over = (nanoseconds(attempts[c]) for c in ("created_at", "ended_at"))
    spans = zip(made - _BEFORE_NS, over + _AFTER_NS, strict=True)
    return merge(Window(int(a) // _HOUR_NS * _HOUR_NS, -(-int(b) // _HOUR_NS) * _HOUR_NS) for a, b in spans)
