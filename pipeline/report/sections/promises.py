"""Objectives with their budgets, and the alerts that should have fired against those that did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.model import merge
from pipeline.report import english as en
from pipeline.report.data import ReportData, coverage_of, records, severity_of
from pipeline.report.figures import budget
from pipeline.report.rich import Rich, Span, joined, say
from pipeline.report.sections.common import alert, doc, holes, shown_share
from pipeline.report.text import duration, number, percent, percent_beside, signed_time, when
from pipeline.rules import Objective


def objectives(data: ReportData) -> dict[str, Any]:
    """Return the section on objectives: `note` and `rows`."""
    rows = [_objective(data, r) for r in records(data.slo)]
    known = [r for r in rows if r["ratio"] is not None]
    note = en.YOUNG if not known else en.BELOW if any(r["missed"] for r in rows) else en.MEETS
    return {"note": note if rows else "", "rows": rows, "seen": _seen(data) if known else None}


def _seen(data: ReportData) -> Rich | None:
    """Say that some days of the window count only what was seen."""
    jobs = coverage_of(data, "jobs")
    days = sum(1 for h in data.history if h["totals"] and not h["totals"]["all"]["complete"])
    days += bool(jobs.configured and jobs.gaps)
    return say(en.SLO_SEEN, days=en.counted(days, "day")) if days else None


def _objective(data: ReportData, r: Mapping[str, Any]) -> dict[str, Any]:
    promised = next((o for o in data.objectives if o.name == r["slo"]), None)
    ratio, target, left = r["ratio"], r["objective_ratio"], budget(r)
    limit = promised.limit_s if promised else None
    name = en.OBJECTIVES.get(r["slo"], r["slo"])
    timed = limit is not None or r["slo"] == "recovery"
    return {
        "name": _named(data, en.RECOVERY_WITHIN.format(limit=duration(limit)) if limit else name, promised),
        "target": en.EACH if timed else f"≥ {percent(target, 3)}",
        "window": en.WINDOW_WORDS.get(r["window"], r["window"]),
        "ratio": _reached(r, timed=timed),
        "unknown": en.WHY_EMPTY if r["total"] == 0 else en.WHY_YOUNG,
        "of": None if r["total"] is None else shown_share(r["good"], r["total"]),
        "missed": ratio is not None and ratio < target,
        "spent": None if r["budget_spent_ratio"] is None else percent(r["budget_spent_ratio"]),
        "over": left is not None and left.left < 0,
        "left": None if left is None else _left(left.left),
        "budgeted": not timed,
        "policy": en.POLICIES.get(r["policy"], r["policy"]) if r["policy"] else None,
        "bound": r["policy"] not in {None, "ok"},
    }


def _named(data: ReportData, name: str, promised: Objective | None) -> Rich:
    """Let an objective's name lead to its document, where that has an address."""
    to = doc(data, promised.runbook, name) if promised else None
    return Rich([to if to and to.kind == "link" else Span(name)])


def _reached(r: Mapping[str, Any], *, timed: bool) -> str | None:
    if r["ratio"] is None:
        return None
    return shown_share(r["good"], r["total"]) if timed else percent_beside(r["ratio"], r["objective_ratio"])


def _left(value: float) -> str:
    return f"−{number(-value)}" if value < 0 else number(value)


def audit(data: ReportData) -> dict[str, Any]:
    """Return the section on alerts: `note`, `nothing` (a sentence where there is no row), `gap`, `rows`."""
    source = coverage_of(data, "alerts")
    rows = [_audited(data, r) for r in records(data.alert_audit)]
    gap = say(en.AUDIT_GAP, span=holes(merge(source.gaps), data.window)) if source.configured and source.gaps else None
    return {
        "note": _counts(data),
        "nothing": None if rows else _quiet(data),
        "gap": gap,
        "rows": rows,
    }


def _counts(data: ReportData) -> str:
    found = list(data.alert_audit["verdict"])
    return ", ".join(en.COUNTS[v].format(n=found.count(v)) for v in en.COUNTS if v in found)


def _quiet(data: ReportData) -> Rich:
    source = coverage_of(data, "alerts")
    should = [
        say(en.AUDIT_SHOULD_ONE, alert=alert(data, e["alert"]), at=when(start, data.window))
        for e in data.expected
        for start, end in e["intervals"]
        if start < data.window.end and (end is None or end > data.window.start)
    ]
    if not source.configured:
        said = say(en.AUDIT_SHOULD, alerts=joined(should, ", ")) if should else say("")
        return joined([say(en.AUDIT_OFF), said] if should else [say(en.AUDIT_OFF)], " ")
    if should:
        return say(en.AUDIT_SHOULD, alerts=joined(should, ", "))
    whole = not any(coverage_of(data, what).gaps for what in ("alerts", "jobs", "logs"))
    return say(en.AUDIT_QUIET if whole else en.AUDIT_QUIET_SEEN)


def _audited(data: ReportData, r: Mapping[str, Any]) -> dict[str, Any]:
    expected, fired = r["expected_start"] is not None, r["actual_start"] is not None
    day = data.window
    return {
        "alert": alert(data, r["alert"]),
        "type": severity_of(data, r["alert"]),
        "expected": when(r["expected_start"], day) or en.NO,
        "until": when(r["expected_end"], day) or (en.STILL if expected else en.NO),
        "fired": when(r["actual_start"], day) or en.NO,
        "fired_until": when(r["actual_end"], day) or (en.STILL if fired else en.NO),
        "verdict": r["verdict"],
        "said": en.VERDICTS.get(r["verdict"], r["verdict"]),
        "delay": _delay(r),
    }


def _delay(r: Mapping[str, Any]) -> str:
    if r["delay_s"] is None:
        return en.NEVER_FIRED if r["verdict"] == "missed" else "–"
    return signed_time(r["delay_s"], en.LATE, en.EARLY, en.AT_ONCE)
