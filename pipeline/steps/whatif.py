"""An alert of the catalogue with another threshold or window, replayed over days of the lake."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import replace

from pipeline import schemas
from pipeline.errors import UsageError
from pipeline.model import DAY_NS, Window
from pipeline.signals.slo import MAINTENANCE
from pipeline.signals.whatif import WhatIf, what_if
from pipeline.steps import promises
from pipeline.steps.compute import day_coverage, log_lines
from pipeline.steps.context import Context, ns

_BEFORE_NS = 8 * DAY_NS  # how far before the window what ended in it may have been created


def alert_what_if(
    ctx: Context, name: str, window: Window, threshold: float | None = None, window_s: float | None = None
) -> WhatIf:
    """Hold an alert against itself with another threshold or window. Raises UsageError for what cannot be replayed."""
    rule = next((r for r in ctx.catalogue.alerts if r.name == name), None)
    if rule is None:
        known = ", ".join(r.name for r in ctx.catalogue.alerts)
        raise UsageError(f"no alert is called {name!r}", f"name one of {known}")
    other = replace(
        rule,
        threshold=rule.threshold if threshold is None else threshold,
        window_s=rule.window_s if window_s is None else window_s,
    )
    if not (math.isfinite(other.threshold) and other.threshold > 0 and other.window_s > 0):
        raise UsageError("a threshold and a window are above 0", "write threshold=2 or window='30m'")
    back = ns(max(rule.window_s, other.window_s))
    attempts = schemas.to_frame(ctx.tables.read("attempts", window.widen(back + _BEFORE_NS, 0)))
    incidents = schemas.to_frame(ctx.tables.read("incidents", window.widen(back + _BEFORE_NS, 0)))
    lines = schemas.empty_frame("logs")
    if rule.measure == "signature_lines":  # the only rules that count lines, of which there are many
        lines = log_lines(ctx, window.widen(back, 0), attempts)
    entries = [e for e in promises.exclusions(ctx) if e.kind == MAINTENANCE]
    unknown = _unknown(ctx, "logs" if rule.measure == "signature_lines" else "jobs", window, back // DAY_NS)
    return what_if(rule, other, attempts, lines, incidents, window, ctx.settings.alerts.tolerance, unknown, entries)


def _unknown(ctx: Context, what: str, window: Window, back: int) -> list[dt.date]:
    """Return the days of which it is not known all what a rule counts: never computed, with holes, or some day before.

    `back` is how many whole days a rule looks back.
    """
    computed = set(ctx.tables.days("golden"))
    wide = list(window.widen(back * DAY_NS, 0).days())
    bad = [d not in computed or not any(c.what == what and c.complete for c in day_coverage(ctx, w)) for d, w in wide]
    return [d for i, (d, _) in enumerate(wide) if i >= back and any(bad[i - back : i + 1])]
