"""Alertmanager -> `alerts`: what fires as it is asked, beside what Prometheus's samples tell of any time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import schemas
from pipeline.errors import SourceError
from pipeline.lake.tables import union
from pipeline.model import DAY_NS, PullRecord, Window, day_of
from pipeline.signals import listings
from pipeline.sources import alertmanager
from pipeline.sources.alertmanager import Listed
from pipeline.steps import pull_prometheus
from pipeline.steps.context import Context

_BACK_NS = 30 * DAY_NS  # how long an alert may have fired already where no listing before tells since when


def alerts(ctx: Context, window: Window) -> list[PullRecord]:
    """Keep what fires now, and pull what Prometheus has of `window` where that is configured.

    Raises SourceError; what the other of the two told is kept.
    """
    found, failure = None, None
    try:
        found = _listed(ctx)
    except SourceError as e:
        failure = e
    told = [] if found is None else [{"listed": found.rows.num_rows, "suppressed": found.suppressed}]
    if ctx.settings.prometheus.url:
        records = [
            replace(r, proof={**r.proof, **t}) for r in pull_prometheus.alerts(ctx, window) for t in told or [{}]
        ]
    else:
        records = [_alone(ctx, part, t) for _, part in window.days() for t in told]
    for r in records:
        ctx.records.put(r)
    if failure is not None:
        raise failure
    return records


def _alone(ctx: Context, part: Window, told: dict[str, int]) -> PullRecord:
    """Return the record of a part of which only listings tell: it has their rows, and nobody knows what else fired."""
    rows = ctx.tables.read("alerts", part, ["started_at"]).num_rows
    proof = {"method": "Alertmanager", **told}
    provisional = part.end > ctx.now
    return PullRecord("alerts", alertmanager.SOURCE, part, None, rows, (part,), provisional, ctx.now, proof=proof)


def _listed(ctx: Context) -> Listed:
    """Ask what fires and write it: intervals that go on stay open, what is gone ends where it was last listed."""
    severities = {r.name: r.severity for r in ctx.catalogue.alerts}
    found = alertmanager.listed(ctx.alertmanager(), severities, ctx.now)
    found = replace(found, rows=ctx.redactor().table(found.rows, ("labels",)))
    before = _last_before(ctx, ctx.now)
    since = ctx.now - _BACK_NS if before is None or pd.isna(before["since"]) else before["since"].value
    known = schemas.to_frame(ctx.tables.read("alerts", Window(min(since, ctx.now), ctx.now + 1)))
    ours = known[known["source"] == alertmanager.SOURCE]
    changed = listings.joined(ours, schemas.to_frame(found.rows), None if before is None else before["ts"])
    for day in sorted({day_of(t.value) for t in changed["started_at"]}):
        ctx.tables.replace("alerts", Window.of_day(day), schemas.from_frame("alerts", changed), merge=_over)
    firing = {"alerts": [found.rows.num_rows], "since": [pc.min(found.rows["started_at"]).as_py()]}
    listing = pd.DataFrame({"ts": [pd.Timestamp(ctx.now, tz="UTC")], **firing})
    rows, key = schemas.from_frame("alert_listings", listing), schemas.TABLES["alert_listings"].key
    ctx.tables.replace("alert_listings", Window.of_day(day_of(ctx.now)), rows, merge=union(key))
    return found


def _last_before(ctx: Context, instant: int) -> dict[str, Any] | None:
    """Return the last listing before an instant, as a row of `alert_listings`."""
    for day in reversed([d for d in ctx.tables.days("alert_listings") if d <= day_of(instant)]):
        rows = schemas.rows_of(schemas.to_frame(ctx.tables.read("alert_listings", Window.of_day(day))))
        earlier = [r for r in rows if r["ts"].value < instant]
        if earlier:
            return earlier[-1]
    return None


def _over(old: pa.Table, new: pa.Table) -> pa.Table:
    """Put what a listing changed in the place of what the lake had of the same alerts."""
    kept = listings.without(schemas.to_frame(old), schemas.to_frame(new))
    return pa.concat_tables([schemas.from_frame("alerts", kept), new])
