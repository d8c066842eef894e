"""Objectives over a rolling window, from counts: good and total first, ratios last. Definitions: contract, SLO."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd

from pipeline import schemas
from pipeline.model import NS, Window
from pipeline.rules import Objective
from pipeline.signals.burn import burn_rates
from pipeline.signals.intervals import Flags, nanoseconds

MAINTENANCE, OUTAGE = "maintenance", "outage"


@dataclass(frozen=True)
class Exclusion:
    """A maintenance window, or an outage of an external registry: it leaves something out once somebody confirmed it."""

    kind: str  # maintenance | outage
    window: Window
    who: str = ""
    why: str = ""
    confirmed_by: str = ""

    @property
    def holds(self) -> bool:
        """Tell whether it leaves anything out."""
        return self.kind == MAINTENANCE or bool(self.confirmed_by)

    def __str__(self) -> str:
        said = ", ".join(
            text for text in (self.who, self.why, self.confirmed_by and f"confirmed by {self.confirmed_by}") if text
        )
        return f"{self.kind} {self.window}" + (f": {said}" if said else "")


@dataclass(frozen=True)
class LeftOut:
    """What one entry left out: how many attempts, and which incidents by their ids."""

    by: Exclusion
    attempts: int
    incidents: Sequence[str]


@dataclass(frozen=True)
class Objectives:
    """The table, and how many attempts and incidents of the windows were left out of it, in all and by which entry.

    Entries that touch no objective's window are not listed.
    """

    table: pd.DataFrame
    left_out_attempts: int
    left_out_incidents: int
    left_out: Sequence[LeftOut]


def excluded_by(began: pd.Series, entries: Sequence[Exclusion]) -> pd.Series:
    """Say of incidents, by when they began, which entries leave them out; null where none does."""
    at = nanoseconds(began, -1)
    named = ["; ".join(str(e) for e in entries if e.holds and t in e.window) or None for t in at]
    return pd.Series(named, index=began.index, dtype="str")


def objectives(
    attempts: pd.DataFrame,
    incidents: pd.DataFrame,
    rules: Sequence[Objective],
    day: Window,
    pulled: Collection[dt.date],
    entries: Sequence[Exclusion],
    now: int,
) -> Objectives:
    """Return `slo` for a day. `attempts` and `incidents` reach over every objective's window, `now` is in ns.

    Unknown (null) while a day of the window was never pulled (`pulled`): a young lake has no seven days, and
    `missing_days` names those that it lacks. An attempt is left out when it ended inside a maintenance, an incident when
    it began inside one or inside a confirmed outage. `command` is left unknown.
    """
    holding = [e for e in entries if e.holds]
    maintenance = [e for e in holding if e.kind == MAINTENANCE]
    skipped: dict[Exclusion, tuple[set[Any], set[Any]]] = {e: (set(), set()) for e in entries}
    rows = []
    for rule in rules:
        window = Window(day.end - round(rule.window_s * NS), day.end)
        missing = [str(d) for d, _ in window.days() if d not in pulled]
        row: dict[str, Any] = dict.fromkeys(schemas.TABLES["slo"].columns)
        row |= {"slo": rule.name, "window": rule.window, "day": pd.Timestamp(day.start, tz="UTC")}
        row |= {"objective_ratio": rule.target, "missing_days": missing}
        if rule.limit_s is None:
            ended = attempts[attempts["kind"].isin(rule.kinds) & attempts["outcome"].isin(["succeeded", "failed"])]
            kept = _kept(ended, "ended_at", maintenance, window, {e: s for e, (s, _) in skipped.items()})
            inside = kept[_inside(kept["ended_at"], [window])]
            row |= _availability(rule, inside, window) if not missing else {}
            row |= burn_rates(rule, float(_exact(1) - _exact(rule.target)), kept, day, pulled)
        else:
            kept = _kept(incidents, "started_at", holding, window, {e: s for e, (_, s) in skipped.items()})
            inside = kept[_inside(kept["started_at"], [window])]
            row |= _recovery(rule.limit_s, inside, min(now, window.end)) if not missing else {}
        rows.append(row)
    table = schemas.tidy("slo", pd.DataFrame(rows)) if rows else schemas.empty_frame("slo")
    reach = Window(day.end - max((round(r.window_s * NS) for r in rules), default=0), day.end)
    left_out = [
        LeftOut(e, len(runs), sorted(incidents.loc[list(cases), "incident_id"]))
        for e, (runs, cases) in skipped.items()
        if e.window.intersect(reach)
    ]
    every = [set().union(*(found[i] for found in skipped.values())) for i in (0, 1)]
    return Objectives(table, len(every[0]), len(every[1]), left_out)


def _kept(
    rows: pd.DataFrame,
    column: str,
    entries: Sequence[Exclusion],
    window: Window,
    skipped: Mapping[Exclusion, set[Any]],
) -> pd.DataFrame:
    """Return the rows that no entry leaves out; those of the window that one does are remembered."""
    inside, hidden = _inside(rows[column], [window]), _inside(rows[column], [e.window for e in entries])
    for e in entries:
        skipped[e].update(rows.index[inside & _inside(rows[column], [e.window])])
    return rows[~hidden]


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
    # how many more of these very attempts may fail; below nothing: so many too many did
    row["failures_left"] = math.floor(budget * total) - bad
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
