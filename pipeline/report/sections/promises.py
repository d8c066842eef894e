"""Objectives with their budgets, and the alerts that should have fired against those that did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.model import merge
from pipeline.report import english as en
from pipeline.report.data import ReportData, coverage_of, records, severity_of
from pipeline.report.figures import budget
from pipeline.report.rich import Rich, Span, code, joined, say
from pipeline.report.sections.common import alert, doc, holes, shown_share
from pipeline.report.text import duration, number, percent, percent_beside, signed_time, when
from pipeline.rules import Objective


def objectives(data: ReportData) -> dict[str, Any]:
    """Return the section on objectives: `note` and `rows`."""
    rows = [_objective(data, r) for r in records(data.slo)]
    known = [r for r in rows if r["ratio"] is not None]
    note = en.YOUNG if not known else en.BELOW if any(r["missed"] for r in rows) else en.MEETS
    return {
        "note": note if rows else "",
        "rows": rows,
        "seen": _seen(data) if known else None,
        "missing": _missing(data),
        "burn": [_burn(data, w) for r in records(data.slo) for w in r["burn"] or ()],
        "incidents": [_incident(data, i) for i in records(data.incidents)],
        "left_out": [_left_out(data, x) for x in data.exclusions],
    }


def _missing(data: ReportData) -> Rich | None:
    """Name the command that would make known what days lack."""
    lacking = [r for r in records(data.slo) if r["command"]]
    if not lacking:
        return None
    most = max(lacking, key=lambda r: len(r["missing_days"]))
    return say(en.SLO_MISSING, days=en.counted(len(most["missing_days"]), "day"), command=code(most["command"]))


def _burn(data: ReportData, w: Mapping[str, Any]) -> dict[str, Any]:
    """Write one window of a pair: how fast the budget goes at the day's end, and at its worst."""
    return {
        "name": f"{w['window']}, {en.PAIRS.get(w['pair'], w['pair'])}",
        "burn": _rate(w["burn"], w["failed"], w["total"]),
        "worst": _rate(w["worst"], w["worst_failed"], w["worst_total"]),
        "at": when(w["worst_at"], data.window),
    }


def _rate(rate: float | None, failed: int | None, total: int | None) -> str | None:
    if total is None:
        return None
    share = shown_share(failed, total)
    return en.TOO_FEW_OF.format(share=share) if rate is None else en.BURN.format(rate=number(rate), share=share)


def _incident(data: ReportData, i: Mapping[str, Any]) -> dict[str, Any]:
    """Write an incident and what proves that it is over."""
    row, days = i["successes_in_a_row"], data.window
    return {
        "class": i["class"],
        "start": when(i["started_at"], days),
        "recovered": duration(i["mttr_s"]),
        "by": i["recovered_by"],
        "row": None if row is None else f"{row:,}",
        "quiet": duration(i["quiet_for_s"]),
        "state": en.PROVEN.get(i["state"], i["state"]),
        "excluded": i["excluded_by"] is not None,
    }


def _left_out(data: ReportData, x: Mapping[str, Any]) -> Rich:
    """Say what one entry of the settings left out of the objectives, who wrote it and why."""
    start, end = (when(x[k], data.window) for k in ("start", "end"))
    words = [str(x[k]) for k in ("who", "why", "confirmed_by") if x[k]]
    facts: dict[str, object] = {"kind": en.EXCLUSIONS[x["kind"]], "start": start, "end": end}
    facts["said"] = say(" ({words})", words=joined([code(w) for w in words], ", ")) if words else say("")
    facts["attempts"] = en.counted(x["attempts"], "attempt")
    facts["incidents"] = en.counted(len(x["incidents"]), "incident")
    return say(en.LEFT_OUT if x["holds"] else en.LEFT_OUT_NOT, **facts)


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
    found = [_verdict(r) for r in records(data.alert_audit)]
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


def _verdict(r: Mapping[str, Any]) -> str:
    """Return an alert's verdict; a page that a maintenance silenced was not missed."""
    return "silenced" if r["verdict"] == "missed" and r["silenced"] is not None else str(r["verdict"])


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
        "verdict": _verdict(r),
        "said": en.VERDICTS.get(_verdict(r), r["verdict"]),
        "delay": _delay(r),
    }


def _delay(r: Mapping[str, Any]) -> str:
    if r["delay_s"] is None:
        return en.NEVER_FIRED if _verdict(r) == "missed" else "–"
    return signed_time(r["delay_s"], en.LATE, en.EARLY, en.AT_ONCE)
