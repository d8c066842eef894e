"""The day in one word, and every rule that held. Definitions: contract, Verdict; worst first: red, grey, amber, green."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline import schemas
from pipeline.model import Coverage, Window, instant_of, instant_text
from pipeline.rules import Objective
from pipeline.signals.alerts import Expected
from pipeline.signals.coverage import longest_s

LEVELS = ("red", "grey", "amber", "green")
_NEVER = "1970-01-01"


@dataclass(frozen=True)
class Verdict:
    """One word and why: each reason has `rule`, `level`, `text`, `at` (RFC 3339 or null) and the facts of its text."""

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
    """Judge a day; `failed` counts its failures of the pipeline's kinds. Green has no reason: no rule held.

    Of `expected` and `incidents` only what was reached in the day, or was open at an instant of it, counts.
    """
    limit_s = min((o.limit_s for o in rules if o.limit_s is not None), default=None)
    reasons = [
        *_thresholds(expected, day),
        *_open_incidents(incidents, day, limit_s),
        *_holes(coverage, max_gap_s),
        *_failed(failed),
        *_objectives(slo),
    ]
    return _judged(reasons)


def with_failed_sources(judged: Verdict, failed: Sequence[tuple[str, str, str]]) -> Verdict:
    """Add the sources (what, source, error) that failed in this very run, though an earlier one may have had all of them.

    Those that a hole with an error names already are not said twice.
    """
    named = {(r["what"], r["source"]) for r in judged.reasons if r["rule"] == "hole" and r.get("error")}
    more = [
        _reason("source-failed", "grey", None, f"{what} of {source}: {error}", what=what, source=source, error=error)
        for what, source, error in failed
        if (what, source) not in named
    ]
    return _judged([*judged.reasons, *more]) if more else judged


def _judged(reasons: Sequence[dict[str, Any]]) -> Verdict:
    key = [(LEVELS.index(r["level"]), r["at"] is None, instant_of(r["at"] or _NEVER), r["rule"]) for r in reasons]
    ordered = [r for _, r in sorted(zip(key, reasons, strict=True), key=lambda pair: pair[0])]
    return Verdict(ordered[0]["level"] if ordered else "green", ordered)


def _reason(rule: str, level: str, at: int | None, text: str, **facts: Any) -> dict[str, Any]:
    return {"rule": rule, "level": level, "at": instant_text(at) if at is not None else None, "text": text} | facts


def _thresholds(expected: Sequence[Expected], day: Window) -> list[dict[str, Any]]:
    out = []
    for e in expected:
        reached = e.reached_in(day)
        if reached:
            kind, name, at, times = e.rule.severity, e.rule.name, reached[0][0], len(reached)
            level = "red" if kind == "page" else "amber"
            often = f", {times} times in all" if times > 1 else ""
            text = f"{name} reached its {kind}'s threshold at {instant_text(at)}{often}"
            out.append(_reason(f"{kind}-threshold", level, at, text, alert=name, times=times))
    return out


def _open_incidents(incidents: pd.DataFrame, day: Window, limit_s: float | None) -> list[dict[str, Any]]:
    out = []
    for i in schemas.rows_of(incidents):
        at, end = i["started_at"].value, i["ended_at"].value if pd.notna(i["ended_at"]) else None
        if at >= day.end or (end is not None and end <= day.start):
            continue
        facts = {"incident_id": i["incident_id"], "class": i["class"]}
        name = f"the {i['class']} incident of {instant_text(at)}"
        if end is None or end > day.end:
            text = f"{name} was not recovered by the day's end"
            out.append(_reason("incident-not-recovered", "red", at, text, **facts))
        elif limit_s is not None and i["mttr_s"] > limit_s:
            mttr_s = float(i["mttr_s"])
            text = f"{name} took {mttr_s:.0f} s to recover, the objective is {limit_s:.0f} s"
            out.append(_reason("incident-too-long", "red", at, text, mttr_s=mttr_s, limit_s=limit_s, **facts))
    return out


def _holes(coverage: Sequence[Coverage], max_gap_s: float) -> list[dict[str, Any]]:
    """Name each configured source with a hole longer than the install overlooks; `complete` None never counts."""
    out = []
    for c in coverage:
        longest, holes = longest_s(c.gaps), len(c.gaps)
        if c.complete is False and longest > max_gap_s:
            facts: dict[str, Any] = {"what": c.what, "source": c.source, "longest_s": longest, "holes": holes}
            facts |= {"error": c.proof["error"]} if c.proof.get("error") else {}
            text = f"{c.what} of {c.source}: {holes} hole{'s' if holes > 1 else ''}, the longest of {longest:.0f} s"
            out.append(_reason("hole", "grey", min(g.start for g in c.gaps), text, **facts))
    if not any(c.configured and c.what in {"jobs", "logs"} for c in coverage):
        out.append(_reason("no-source", "grey", None, "neither jobs nor logs were configured"))
    return out


def _failed(failed: int) -> list[dict[str, Any]]:
    text = f"{failed} failed attempt{'s' if failed > 1 else ''}"
    return [_reason("failed-attempt", "amber", None, text, failures=failed)] if failed else []


def _objectives(slo: pd.DataFrame) -> list[dict[str, Any]]:
    out = []
    for o in schemas.rows_of(slo):
        facts = {"slo": o["slo"], "window": o["window"]}
        if pd.notna(o["ratio"]) and o["ratio"] < o["objective_ratio"]:
            ratio, target = float(o["ratio"]), float(o["objective_ratio"])
            text = f"{o['slo']} over {o['window']} is {ratio:.3%}, the objective {target:.3%}"
            out.append(_reason("objective-missed", "amber", None, text, ratio=ratio, objective_ratio=target, **facts))
        if isinstance(o["policy"], str) and o["policy"] != "ok":
            spent = float(o["budget_spent_ratio"])
            text = f"{spent:.0%} of the error budget of {o['slo']} is spent: {o['policy']}"
            out.append(
                _reason("budget-policy", "amber", None, text, policy=o["policy"], budget_spent_ratio=spent, **facts)
            )
    return out
