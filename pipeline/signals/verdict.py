"""The day in one word, and every rule that held. Definitions: contract, Verdict; worst first: red, grey, amber, green."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline.model import Coverage, Window, instant_text
from pipeline.rules import Objective
from pipeline.signals.alerts import Expected
from pipeline.signals.coverage import longest_s

LEVELS = ("red", "grey", "amber", "green")


@dataclass(frozen=True)
class Verdict:
    """One word and why: each reason has `rule`, `level`, `at` (RFC 3339 or null) and the facts of its sentence."""

    verdict: str
    reasons: Sequence[dict[str, Any]]


def verdict(
    day: Window,
    expected: Sequence[Expected],
    incidents: pd.DataFrame,
    failed: int,
    slo: pd.DataFrame,
    coverage: Sequence[Coverage],
    rules: Sequence[Objective],
    max_gap_s: float,
) -> Verdict:
    """Judge a day. `incidents` are those open at any instant of it, `failed` its failures of the pipeline's kinds."""
    limits = [o.limit_s for o in rules if o.limit_s is not None]
    reasons = [
        *_thresholds(expected, day),
        *_open_incidents(incidents, day, min(limits, default=None)),
        *_holes(coverage, max_gap_s),
        *([_reason("failed-attempt", "amber", None, failures=failed)] if failed else []),
        *_objectives(slo),
    ]
    reasons.sort(key=lambda r: (LEVELS.index(r["level"]), r["at"] or "~", r["rule"]))
    return Verdict(reasons[0]["level"] if reasons else "green", reasons)


def _reason(rule: str, level: str, at: int | None, **facts: Any) -> dict[str, Any]:
    return {"rule": rule, "level": level, "at": instant_text(at) if at is not None else None} | facts


def _thresholds(expected: Sequence[Expected], day: Window) -> list[dict[str, Any]]:
    out = []
    for e in expected:
        reached = [s for s, end in e.intervals if s < day.end and (end is None or end > day.start)]
        if reached:
            level = "red" if e.rule.severity == "page" else "amber"
            at = min(reached)
            out.append(_reason(f"{e.rule.severity}-threshold", level, at, alert=e.rule.name, times=len(reached)))
    return out


def _open_incidents(incidents: pd.DataFrame, day: Window, limit_s: float | None) -> list[dict[str, Any]]:
    out = []
    for _, i in incidents.iterrows():
        unrecovered = pd.isna(i["ended_at"]) or i["ended_at"].value > day.end
        facts = {"incident_id": i["incident_id"], "class": i["class"]}
        at = i["started_at"].value
        if unrecovered:
            out.append(_reason("incident-not-recovered", "red", at, **facts))
        elif limit_s is not None and i["mttr_s"] > limit_s:
            out.append(_reason("incident-too-long", "red", at, mttr_s=float(i["mttr_s"]), limit_s=limit_s, **facts))
    return out


def _holes(coverage: Sequence[Coverage], max_gap_s: float) -> list[dict[str, Any]]:
    """Name each configured source with a hole longer than the install overlooks; `complete` None never counts."""
    out = []
    for c in coverage:
        longest = longest_s(c.gaps)
        if c.complete is False and longest > max_gap_s:
            facts: dict[str, Any] = {"what": c.what, "source": c.source, "longest_s": longest, "holes": len(c.gaps)}
            facts |= {"error": c.proof["error"]} if c.proof.get("error") else {}
            out.append(_reason("hole", "grey", c.gaps[0].start, **facts))
    if not any(c.configured and c.what in {"jobs", "logs"} for c in coverage):
        out.append(_reason("no-source", "grey", None))
    return out


def _objectives(slo: pd.DataFrame) -> list[dict[str, Any]]:
    out = []
    for _, o in slo.iterrows():
        facts = {"slo": o["slo"], "window": o["window"]}
        if pd.notna(o["ratio"]) and o["ratio"] < o["objective_ratio"]:
            ratios = {"ratio": float(o["ratio"]), "objective_ratio": float(o["objective_ratio"])}
            out.append(_reason("objective-missed", "amber", None, **facts, **ratios))
        if isinstance(o["policy"], str) and o["policy"] != "ok":
            spent = float(o["budget_spent_ratio"])
            out.append(_reason("budget-policy", "amber", None, policy=o["policy"], budget_spent_ratio=spent, **facts))
    return out
