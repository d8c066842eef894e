"""Objectives over a rolling window, from counts: good and total first, ratios last. Definitions: contract, SLO."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd

from pipeline import schemas
from pipeline.model import DAY_NS, NS, Window, day_of
from pipeline.rules import Objective
from pipeline.signals.intervals import Flags, nanoseconds


@dataclass(frozen=True)
class Excluded:
    """What the objectives leave out, and how much that was."""

    maintenance: Sequence[Window] = ()
    outages: Sequence[Window] = ()


@dataclass(frozen=True)
class Objectives:
    """The table, and how many attempts and incidents of the windows were left out of it."""

    table: pd.DataFrame
    left_out_attempts: int
    left_out_incidents: int


def objectives(
    attempts: pd.DataFrame,
    incidents: pd.DataFrame,
    rules: Sequence[Objective],
    day: Window,
    pulled: Collection[dt.date],
    excluded: Excluded,
    now: int,
) -> Objectives:
    """Return `slo` for a day. `attempts` and `incidents` reach over every objective's window, `now` is in ns.

    Unknown (null) while a day of the window was never pulled (`pulled`): a young lake has no seven days. An attempt is
    left out when it ended inside a maintenance, an incident when it began inside one or inside an outage.
    """
    quiet = [*excluded.maintenance, *excluded.outages]
    skipped: dict[str, set[Any]] = {"attempts": set(), "incidents": set()}
    rows = []
    for rule in rules:
        window = Window(day.end - round(rule.window_s * NS), day.end)
        whole = all(day_of(t) in pulled for t in range(window.start, window.end, DAY_NS))
        row: dict[str, Any] = {"slo": rule.name, "window": rule.window, "day": pd.Timestamp(day.start, tz="UTC")}
        row |= dict.fromkeys(["good", "total", "ratio", "budget_spent_ratio", "policy"])
        row["objective_ratio"] = rule.target
        if rule.limit_s is None:
            ended = attempts[attempts["kind"].isin(rule.kinds) & attempts["outcome"].isin(["succeeded", "failed"])]
            kept = _kept(ended, "ended_at", window, excluded.maintenance, skipped["attempts"])
            row |= _availability(rule, kept, window) if whole else {}
        else:
            kept = _kept(incidents, "started_at", window, quiet, skipped["incidents"])
            row |= _recovery(rule.limit_s, kept, min(now, window.end)) if whole else {}
        rows.append(row)
    table = schemas.tidy("slo", pd.DataFrame(rows)) if rows else schemas.empty_frame("slo")
    return Objectives(table, len(skipped["attempts"]), len(skipped["incidents"]))


def _kept(
    rows: pd.DataFrame, column: str, window: Window, left_out: Sequence[Window], skipped: set[Any]
) -> pd.DataFrame:
    """Return the rows of a window but those that are left out, which are remembered."""
    inside = rows[_inside(rows[column], [window])]
    hidden = _inside(inside[column], left_out)
    skipped.update(inside.index[hidden])
    return inside[~hidden]


def _availability(rule: Objective, ended: pd.DataFrame, window: Window) -> dict[str, Any]:
    total, good = len(ended), int((ended["outcome"] == "succeeded").sum())
    if not total:
        return {"good": 0, "total": 0}
    budget = _exact(1) - _exact(rule.target)  # as a share; (1 - ratio) / (1 - objective), thresholds unrounded
    recent = Window(window.end - round((rule.freeze_within_s or 0) * NS), window.end)
    failed = ended["outcome"] == "failed"
    bad, lately = int(failed.sum()), int((failed & _inside(ended["ended_at"], [recent])).sum())
    row: dict[str, Any] = {"good": good, "total": total, "ratio": good / total}
    if not budget:
        return row
    spent, spent_lately = Fraction(bad, total) / budget, Fraction(lately, total) / budget
    return row | {"budget_spent_ratio": float(spent), "policy": _policy(rule, spent, spent_lately)}


def _policy(rule: Objective, spent: Fraction, lately: Fraction) -> str:
    """More than `stabilise_at` of the budget spent: stabilise; more than `freeze_at` of it in the last days: freeze."""
    if rule.stabilise_at is not None and spent > _exact(rule.stabilise_at):
        return "stabilise"
    return "freeze" if rule.freeze_at is not None and lately > _exact(rule.freeze_at) else "ok"


def _exact(share: float) -> Fraction:
    """Return a share as it is written: 0.99 in binary is a little less, and so would be the budget."""
    return Fraction(str(share))


def _recovery(limit_s: float, began: pd.DataFrame, now: int) -> dict[str, Any]:
    """Count incidents: good with a recovery in time; one without is bad once it is too old, before that not counted."""
    age_s = (now - nanoseconds(began["started_at"])) / NS
    total = int((began["mttr_s"].notna().to_numpy() | (age_s >= limit_s)).sum())
    good = int((began["mttr_s"] <= limit_s).sum())
    return {"good": good, "total": total, "ratio": good / total if total else None}


def _inside(instants: pd.Series, windows: Sequence[Window]) -> Flags:
    at = nanoseconds(instants, -1)
    out = np.zeros(len(at), bool)
    for w in windows:
        out |= (at >= w.start) & (at < w.end)
    return out
