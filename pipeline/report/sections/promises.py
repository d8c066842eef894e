"""Objectives with their budgets, and the alerts that should have fired against those that did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.model import merge
from pipeline.report.data import ReportData, coverage_of, records, severity_of
from pipeline.report.figures import budget
from pipeline.report.rich import Rich, Span, code, joined, say
from pipeline.report.sections.common import alert, doc, holes, lake_option, shown_share
from pipeline.report.text import duration, number, percent, percent_beside, signed_time, when
from pipeline.report.words import Words
from pipeline.rules import Objective


def objectives(data: ReportData) -> dict[str, Any]:
    """Return the section on objectives: `note` and `rows`."""
    rows = [_objective(data, r) for r in records(data.slo)]
    known = [r for r in rows if r["ratio"] is not None]
    note = (
        data.words("young")
        if not known
        else data.words("below")
        if any(r["missed"] for r in rows)
        else data.words("meets")
    )
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
    most, lake = max(lacking, key=lambda r: len(r["missing_days"])), lake_option(data)
    return say(
        data.words("slo_missing"),
        days=data.words.counted(len(most["missing_days"]), "day"),
        command=code(" && ".join(f"{c}{lake}" for c in most["command"].split(" && "))),
    )


def _burn(data: ReportData, w: Mapping[str, Any]) -> dict[str, Any]:
    """Write one window of a pair: how fast the budget goes at the day's end, and at its worst."""
    return {
        "name": f"{w['window']}, {data.words.of('pairs').get(w['pair'], w['pair'])}",
        "burn": _rate(data.words, w["burn"], w["failed"], w["total"]),
        "worst": _rate(data.words, w["worst"], w["worst_failed"], w["worst_total"]),
        "at": when(w["worst_at"], data.window),
    }


def _rate(words: Words, rate: float | None, failed: int | None, total: int | None) -> str | None:
    if total is None:
        return None
    share = shown_share(words, failed, total)
    return (
        words("too_few_of").format(share=share)
        if rate is None
        else words("burn").format(rate=number(rate), share=share)
    )


def _incident(data: ReportData, i: Mapping[str, Any]) -> dict[str, Any]:
    """Write an incident and what proves that it is over."""
    row, days = i["successes_in_a_row"], data.window
    return {
        "id": i["incident_id"],
        "class": i["class"],
        "start": when(i["started_at"], days),
        "recovered": duration(i["mttr_s"]),
        "by": i["recovered_by"],
        "row": None if row is None else f"{row:,}",
        "quiet": duration(i["quiet_for_s"]),
        "state": data.words.of("proven").get(i["state"], i["state"]),
        "excluded": i["excluded_by"] is not None,
    }


def _left_out(data: ReportData, x: Mapping[str, Any]) -> Rich:
    """Say what one entry of the settings left out of the objectives, who wrote it and why."""
    start, end = (when(x[k], data.window) for k in ("start", "end"))
    words = [str(x[k]) for k in ("who", "why", "confirmed_by") if x[k]]
    facts: dict[str, object] = {"kind": data.words.of("exclusions")[x["kind"]], "start": start, "end": end}
    facts["said"] = say(" ({words})", words=joined([code(w) for w in words], ", ")) if words else say("")
    facts["attempts"] = data.words.counted(x["attempts"], "attempt")
    facts["incidents"] = data.words.counted(len(x["incidents"]), "incident")
    return say(data.words("left_out") if x["holds"] else data.words("left_out_not"), **facts)


def _seen(data: ReportData) -> Rich | None:
    """Say that some days of the window count only what was seen."""
    jobs = coverage_of(data, "jobs")
    days = sum(1 for h in data.history if h["totals"] and not h["totals"]["all"]["complete"])
    days += bool(jobs.configured and jobs.gaps)
    return say(data.words("slo_seen"), days=data.words.counted(days, "day")) if days else None


def _objective(data: ReportData, r: Mapping[str, Any]) -> dict[str, Any]:
    promised = next((o for o in data.objectives if o.name == r["slo"]), None)
    ratio, target, left = r["ratio"], r["objective_ratio"], budget(r)
    limit = promised.limit_s if promised else None
    name = data.words.of("objectives").get(r["slo"], r["slo"])
    timed = limit is not None or r["slo"] == "recovery"
    return {
        "id": f"slo-{r['slo']}",
        "name": _named(data, data.words("recovery_within").format(limit=duration(limit)) if limit else name, promised),
        "target": data.words("each") if timed else f"≥ {percent(target, 3)}",
        "window": data.words.of("window_words").get(r["window"], r["window"]),
        "ratio": _reached(data.words, r, timed=timed),
        "unknown": data.words("why_empty") if r["total"] == 0 else data.words("why_young"),
        "of": None if r["total"] is None else shown_share(data.words, r["good"], r["total"]),
        "missed": ratio is not None and ratio < target,
        "spent": None if r["budget_spent_ratio"] is None else percent(r["budget_spent_ratio"]),
        "over": left is not None and left.left < 0,
        "left": None if left is None else _left(left.left),
        "budgeted": not timed,
        "policy": data.words.of("policies").get(r["policy"], r["policy"]) if r["policy"] else None,
        "bound": r["policy"] not in {None, "ok"},
    }


def _named(data: ReportData, name: str, promised: Objective | None) -> Rich:
    """Let an objective's name lead to its document, where that has an address."""
    to = doc(data, promised.runbook, name) if promised else None
    return Rich([to if to and to.kind == "link" else Span(name)])


def _reached(words: Words, r: Mapping[str, Any], *, timed: bool) -> str | None:
    if r["ratio"] is None:
        return None
    return shown_share(words, r["good"], r["total"]) if timed else percent_beside(r["ratio"], r["objective_ratio"])


def _left(value: float) -> str:
    return f"−{number(-value)}" if value < 0 else number(value)


def audit(data: ReportData) -> dict[str, Any]:
    """Return the section on alerts: `note`, `nothing` (a sentence where there is no row), `gap`, `rows`."""
    source = coverage_of(data, "alerts")
    rows = [_audited(data, r) | {"id": f"alert-{n}"} for n, r in enumerate(records(data.alert_audit), 1)]
    gap = (
        say(data.words("audit_gap"), span=holes(data.words, merge(source.gaps), data.window))
        if source.configured and source.gaps
        else None
    )
    return {
        "note": _counts(data),
        "nothing": None if rows else _quiet(data),
        "gap": gap,
        "rows": rows,
    }


def _counts(data: ReportData) -> str:
    found = [_verdict(r) for r in records(data.alert_audit)]
    return ", ".join(data.words.of("counts")[v].format(n=found.count(v)) for v in data.words.of("counts") if v in found)


def _quiet(data: ReportData) -> Rich:
    source = coverage_of(data, "alerts")
    should = [
        say(data.words("audit_should_one"), alert=alert(data, e["alert"]), at=when(start, data.window))
        for e in data.expected
        for start, end in e["intervals"]
        if start < data.window.end and (end is None or end > data.window.start)
    ]
    if not source.configured:
        said = say(data.words("audit_should"), alerts=joined(should, ", ")) if should else say("")
        return joined([say(data.words("audit_off")), said] if should else [say(data.words("audit_off"))], " ")
    if should:
        return say(data.words("audit_should"), alerts=joined(should, ", "))
    whole = not any(coverage_of(data, what).gaps for what in ("alerts", "jobs", "logs"))
    return say(data.words("audit_quiet") if whole else data.words("audit_quiet_seen"))


def _verdict(r: Mapping[str, Any]) -> str:
    """Return an alert's verdict; a page that a maintenance silenced was not missed."""
    return "silenced" if r["verdict"] == "missed" and r["silenced"] is not None else str(r["verdict"])


def _audited(data: ReportData, r: Mapping[str, Any]) -> dict[str, Any]:
    expected, fired = r["expected_start"] is not None, r["actual_start"] is not None
    day = data.window
    return {
        "alert": alert(data, r["alert"]),
        "type": severity_of(data, r["alert"]),
        "expected": when(r["expected_start"], day) or data.words("no"),
        "until": when(r["expected_end"], day) or (data.words("still") if expected else data.words("no")),
        "fired": when(r["actual_start"], day) or data.words("no"),
        "fired_until": when(r["actual_end"], day) or (data.words("still") if fired else data.words("no")),
        "verdict": _verdict(r),
        "said": data.words.of("verdicts").get(_verdict(r), r["verdict"]),
        "delay": _delay(data.words, r),
    }


def _delay(words: Words, r: Mapping[str, Any]) -> str:
    if r["delay_s"] is None:
        return words("never_fired") if _verdict(r) == "missed" else "–"
    return signed_time(r["delay_s"], words("late"), words("early"), words("at_once"))
