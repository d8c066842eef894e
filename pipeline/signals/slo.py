"""Objectives over a rolling window, from counts: good and total first, ratios last. Definitions: contract, SLO."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline import schemas
from pipeline.model import DAY_NS, NS, Window, day_of
from pipeline.rules import Objective


@dataclass(frozen=True)
class Excluded:
    """What the objectives leave out, and how much that was."""

    maintenance: Sequence[Window] = ()
    outages: Sequence[Window] = ()


@dataclass(frozen=True)
class Objectives:
    """The table and what was left out of it."""

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
    """Return `slo` for a day. `attempts` and `incidents` reach over every objective's window.

    Unknown (null) while a day of the window was never pulled (`pulled`): a young lake has no seven days.
    """
    kept = attempts[~_inside(attempts["ended_at"], excluded.maintenance)]
    counted = incidents[~_inside(incidents["started_at"], [*excluded.maintenance, *excluded.outages])]
    rows = []
    for rule in rules:
        window = Window(day.end - round(rule.window_s * NS), day.end)
        whole = all(day_of(t) in pulled for t in range(window.start, window.end, DAY_NS))
        row: dict[str, Any] = {"slo": rule.name, "window": rule.window, "day": pd.Timestamp(day.start, tz="UTC")}
        row |= dict.fromkeys(["good", "total", "ratio", "budget_spent_ratio", "policy"])
        row["objective_ratio"] = rule.target
        if whole:
            recovery = rule.limit_s is not None
            row |= _recovery(rule, counted, window, now) if recovery else _availability(rule, kept, window)
        rows.append(row)
    return Objectives(
        schemas.tidy("slo", pd.DataFrame(rows)) if rows else schemas.empty_frame("slo"),
        len(attempts) - len(kept),
        len(incidents) - len(counted),
    )


def _availability(rule: Objective, attempts: pd.DataFrame, window: Window) -> dict[str, Any]:
    ended = attempts[attempts["kind"].isin(rule.kinds) & attempts["outcome"].isin(["succeeded", "failed"])]
    ended = ended[_inside(ended["ended_at"], [window])]
    total, good = len(ended), int((ended["outcome"] == "succeeded").sum())
    if not total:
        return {"good": 0, "total": 0}
    budget = (1 - rule.target) * total  # in failures
    spent = (total - good) / budget if budget else None
    return {
        "good": good,
        "total": total,
        "ratio": good / total,
        "budget_spent_ratio": spent,
        "policy": _policy(rule, ended, window, budget, spent),
    }


def _policy(rule: Objective, ended: pd.DataFrame, window: Window, budget: float, spent: float | None) -> str | None:
    """More than `stabilise_at` of the budget spent: stabilise; more than `freeze_at` of it within 3 days: freeze."""
    if spent is None:
        return None
    if rule.stabilise_at is not None and spent > rule.stabilise_at:
        return "stabilise"
    recent = Window(window.end - round((rule.freeze_within_s or 0) * NS), window.end)
    bad = int((_inside(ended["ended_at"], [recent]) & (ended["outcome"] == "failed")).sum())
    return "freeze" if rule.freeze_at is not None and bad / budget > rule.freeze_at else "ok"


def _recovery(rule: Objective, incidents: pd.DataFrame, window: Window, now: int) -> dict[str, Any]:
    """Count incidents that began in the window: good with a recovery in time; without one bad once they are too old."""
    limit = rule.limit_s or 0.0
    began = incidents[_inside(incidents["started_at"], [window])]
    age = [(min(now, window.end) - t.value) / NS for t in began["started_at"]]
    known = [pd.notna(m) or a >= limit for m, a in zip(began["mttr_s"], age, strict=True)]
    good = int((began["mttr_s"] <= limit).sum())
    total = sum(known)
    return {"good": good, "total": total, "ratio": good / total if total else None}


def _inside(instants: pd.Series, windows: Sequence[Window]) -> pd.Series:
    at = pd.to_datetime(instants, utc=True)
    out = pd.Series(data=False, index=instants.index)
    for w in windows:
        out |= (at >= pd.Timestamp(w.start, tz="UTC")) & (at < pd.Timestamp(w.end, tz="UTC"))
    return out
