"""What the daily report says, as plain values: the templates lay it out, `summary.json` holds it unrounded."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline.model import NS, Coverage, Window, instant_text, merge
from pipeline.report import charts
from pipeline.report.charts import Band
from pipeline.report.text import (
    MIN_P95,
    clock,
    count,
    duration,
    instant,
    minute,
    percent,
    share,
    signed,
    unknown,
    visible,
    wilson,
)
from pipeline.rules import Signature

CLASS_COLOUR = {"cache": "var(--mark-cache)", "build-ref": "var(--mark-ref)", "other": "var(--mark-other)"}
SOURCES = {
    "logs": {"loki": "Loki logs", "kubernetes": "kubectl logs"},
    "jobs": {"prometheus": "Prometheus jobs", "kubernetes": "kubectl jobs"},
    "alerts": {"prometheus": "Prometheus ALERTS"},
    "events": {"kubernetes": "Kubernetes events"},
    "issues": {"github": "GitHub comments"},
}
_UNITS = {"logs": "lines", "jobs": "samples", "alerts": "intervals", "events": "events", "issues": "links"}
_SHOWN_FAILURES, _SHOWN_TODO = 20, 3


@dataclass(frozen=True)
class ReportData:
    """Everything a daily report rests on, from the lake.

    `expected`: one mapping a rule with `alert, severity, summary, threshold, op, measure, intervals, worst, worst_at,
    worst_of`; `history`: of the days before, latest first, `date`, `totals` (as `totals`, or None: never pulled) and
    `worst` (alert -> value).
    """

    date: dt.date
    window: Window
    made_at: int
    attempts: pd.DataFrame
    lines: pd.DataFrame
    golden: pd.DataFrame
    totals: Mapping[str, Mapping[str, Any]]
    history: Sequence[Mapping[str, Any]]
    failures: pd.DataFrame
    incidents: pd.DataFrame
    alerts: pd.DataFrame
    alert_audit: pd.DataFrame
    expected: Sequence[Mapping[str, Any]]
    slo: pd.DataFrame
    coverage: Sequence[Coverage]
    verdict: str
    reasons: Sequence[Mapping[str, Any]]
    signatures: Sequence[Signature]
    ambiguous: int
    left_out: tuple[int, int]
    namespaces: Sequence[str]
    docs_url: str
    max_gap_s: float
    inputs: Mapping[str, Any]
    versions: Mapping[str, str]
    changed_settings: Sequence[str]


def summary(data: ReportData) -> dict[str, Any]:
    """Return `summary.json`: every figure that people are shown, unrounded."""
    names = ("loki", "prometheus", "kubernetes", "github")
    sources = {n: _sources([c for c in data.coverage if c.source == n], data.max_gap_s) for n in names}
    return {
        "report": "daily",
        "date": str(data.date),
        "verdict": data.verdict,
        "reasons": [dict(r) for r in data.reasons],
        "data": sources,
        "golden": {k: dict(v) for k, v in data.totals.items()},
        "thresholds": [_plain(dict(e)) for e in data.expected],
        "history": [_plain(dict(h) | {"date": str(h["date"])}) for h in data.history],
        "failures": _records(data.failures),
        "incidents": _records(data.incidents),
        "alert_audit": _records(data.alert_audit),
        "slo": {str(r["slo"]): r for r in _records(data.slo)},
        "ambiguous_links": data.ambiguous,
        "unknown_outcomes": _unknown_outcomes(data.attempts),
        "inputs": dict(data.inputs),
        "versions": dict(data.versions),
    }


def _sources(known: Sequence[Coverage], max_gap_s: float) -> dict[str, Any]:
    """Join what was asked of one source: complete when no configured part has a hole longer than overlooked."""
    parts = {c.what: _source(c, max_gap_s) for c in known}
    sure = [p["complete"] for p in parts.values() if p["complete"] is not None]
    gaps = merge(Window(g.start, g.end) for c in known if c.configured for g in c.gaps)
    return {
        "configured": any(c.configured for c in known),
        "complete": all(sure) if sure else None,
        "rows": sum(p["rows"] for p in parts.values()),
        "gaps": [[instant_text(g.start), instant_text(g.end)] for g in gaps],
        "proof": {k: p["proof"] for k, p in parts.items()},
        "parts": parts,
    }


def _source(c: Coverage, max_gap_s: float) -> dict[str, Any]:
    longest = max((g.seconds for g in c.gaps), default=0.0)
    return {
        "configured": c.configured,
        "complete": longest <= max_gap_s if c.complete is False else c.complete,
        "rows": c.rows,
        "gaps": [[instant_text(g.start), instant_text(g.end)] for g in c.gaps],
        "proof": _plain(dict(c.proof)),
    }


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [_plain({str(k): v for k, v in r.items()}) for r in frame.to_dict("records")]


def _plain(value: Any) -> Any:
    """Return a value as JSON knows it: instants as RFC 3339, unknown as null."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, pd.Timestamp):
        return instant_text(value.value)
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value):  # noqa: PLR0124
        return None
    return value.item() if hasattr(value, "item") else value


def daily_view(data: ReportData) -> dict[str, Any]:
    """Return what the templates lay out; every text of a log or comment is still raw and must be shown as such."""
    return {
        "date": str(data.date),
        "weekday": data.date.strftime("%A"),
        "namespaces": ", ".join(data.namespaces),
        "made_at": instant_text(data.made_at // NS * NS).replace("T", " ")[:16],
        "verdict": data.verdict,
        "sentence": _sentence(data),
        "because": _because(data),
        "todo": _todo(data)[:_SHOWN_TODO],
        "sources": [_source_row(c) for c in data.coverage],
        "notes": _data_notes(data),
        "signals": _signals(data),
        "reached": sum(1 for s in _signals(data) if s["reached"]),
        "short_days": (f"{data.date.day} {data.date:%b}", f"{data.date - dt.timedelta(days=1):%-d %b}"),
        "health": _health(data),
        "kinds": _failed_by_signature(data),
        "failed": _failed_rows(data),
        "shown_failures": _SHOWN_FAILURES,
        "finished": data.totals["all"]["finished"],
        "failed_count": data.totals["all"]["failed"],
        "complete": bool(data.totals["all"]["complete"]),
        "objectives": _objectives(data),
        "audit": _audit(data),
        "audit_known": any(c.what == "alerts" and c.configured for c in data.coverage),
        "method": {
            "versions": dict(data.versions),
            "settings": list(data.changed_settings),
            "lake": data.inputs.get("lake"),
            "command": f"aislot report daily --date {data.date}",
        },
    }


def _sentence(data: ReportData) -> str:
    t, parts = data.totals["build+mirror"], []
    if data.verdict == "grey":
        parts.append(
            "The data does not allow a verdict: " + "; ".join(_reason(r) for r in data.reasons if r["level"] == "grey")
        )
    seen = "" if t["complete"] else "at least "
    ok = t["finished"] - t["failed"]
    text = f"{seen}{count(ok)} of {count(t['finished'])} builds and mirrors ok"
    interval = wilson(int(ok), int(t["finished"]))
    if interval and t["finished"] >= 5:
        text += f" ({percent(ok / t['finished'])}, 95 % CI {interval[0] * 100:.1f}–{interval[1] * 100:.1f})"
    check = data.totals.get("codegen-check", {"finished": 0, "failed": 0})
    parts.append(f"{text}, codegen-check {count(check['finished'] - check['failed'])} of {count(check['finished'])}")
    parts.append(_incident_text(data))
    for r in _records(data.slo):
        if r["slo"] == "build_availability":
            known = r["ratio"] is not None
            sign = "<" if known and r["ratio"] < r["objective_ratio"] else "≥"
            parts.append(
                f"{r['window']} SLO {percent(r['ratio'])} {sign} {percent(r['objective_ratio'], 0)}, budget {percent(r['budget_spent_ratio'], 0)} spent"
                if known
                else f"{r['window']} SLO not known yet"
            )
    incomplete = [c for c in data.coverage if c.complete is False]
    parts.append("data incomplete" if incomplete else "data complete")
    return " · ".join(parts)


def _incident_text(data: ReportData) -> str:
    n, open_ended = len(data.incidents), int(data.incidents["ended_at"].isna().sum())
    if not n:
        return "no incident" if data.totals["all"]["complete"] else "no incident seen"
    words = f"{n} incident{'s' if n > 1 else ''}"
    return (
        f"{words}, {open_ended} not recovered"
        if open_ended
        else f"{words}, {'all ' if n > 2 else 'both ' if n == 2 else ''}recovered"
    )


def _reason(r: Mapping[str, Any]) -> str:
    """Say a reason's facts as a sentence."""
    at = clock(r["at"])
    if r["rule"] == "hole":
        error = f" ({r['error']})" if r.get("error") else ""
        return f"{SOURCES[r['what']].get(r['source'], r['source'])}: {r['holes']} hole{'s' if r['holes'] > 1 else ''}, the longest {duration(r['longest_s'])} from {at}{error}"
    texts = {
        "page-threshold": "{alert} reached its page threshold at {at_}",
        "ticket-threshold": "{alert} reached its ticket threshold at {at_}",
        "incident-not-recovered": "the {class} incident of {at_} had not recovered by the day's end",
        "incident-too-long": "the {class} incident of {at_} took {mttr} to recover, over {limit}",
        "failed-attempt": "{failures} failed",
        "no-source": "neither logs nor jobs were configured",
        "objective-missed": "{slo} {ratio_} is below {objective_}",
        "budget-policy": "error budget {spent} spent: {policy}",
    }
    facts = {
        "at_": at,
        "mttr": duration(r.get("mttr_s")),
        "limit": duration(r.get("limit_s")),
        "ratio_": percent(r["ratio"]) if r.get("ratio") is not None else "",
        "objective_": percent(r["objective_ratio"]) if r.get("objective_ratio") is not None else "",
        "spent": percent(r["budget_spent_ratio"], 0) if r.get("budget_spent_ratio") is not None else "",
    }
    return texts[r["rule"]].format(**(dict(r) | facts))


def _because(data: ReportData) -> dict[str, Any]:
    held = [r for r in data.reasons if r["level"] == data.verdict]
    if not held:
        return {
            "lead": "Green because",
            "text": "no rule for red, grey or amber held; every configured source is complete.",
        }
    rules = len({r["rule"] for r in held})
    lead = f"{data.verdict.capitalize()} by {'one rule' if rules == 1 else f'{rules} rules'}:"
    return {"lead": lead, "text": "; ".join(_reason(r) for r in held) + "."}


def _todo(data: ReportData) -> list[dict[str, Any]]:
    """Return what to do: holes in the data first when they hide the verdict, then incidents by how bad they are."""
    out: list[dict[str, Any]] = []
    missed = {str(r["alert"]) for _, r in data.alert_audit.iterrows() if r["verdict"] == "missed"}
    by_id = {s.id: s for s in data.signatures}
    for _, i in data.incidents.iterrows():
        found = [by_id[s] for s in i["signatures"] if s in by_id]
        state = f"Recovered {clock(i['ended_at'])}." if pd.notna(i["ended_at"]) else "Not recovered yet."
        issues = ", ".join(f"#{n}" for n in i["issues"]) or "no issue yet"
        what = f"{' and '.join(s.title or s.id for s in found) or i['class']}: {i['failures']} failed attempts of {len(i['runs'])} runs from {clock(i['started_at'])} ({issues})."
        out.append(
            {
                "what": what,
                "how": f"{found[0].first_action if found else ''} {state}".strip(),
                "link": _doc(data, found[0].runbook) if found else None,
                "rank": 1 if pd.notna(i["ended_at"]) else 0,
            }
        )
    for r in data.reasons:
        if r["rule"] == "hole":
            out.append(
                {
                    "what": f"Close the hole in {SOURCES[r['what']].get(r['source'], r['source'])}: {duration(r['longest_s'])} from {clock(r['at'])}.",
                    "how": f"{r.get('error', 'The source has no data there.')} Then: aislot daily --date {data.date}",
                    "link": None,
                    "rank": 0,
                }
            )
        if r["rule"] == "page-threshold" and r["alert"] in missed:
            out.append(
                {
                    "what": f"{r['alert']} reached its threshold at {clock(r['at'])} and nothing fired.",
                    "how": "Check that the alert is loaded and routed.",
                    "link": None,
                    "rank": 0,
                }
            )
        if r["rule"] == "budget-policy":
            out.append(
                {
                    "what": f"Error budget {percent(r['budget_spent_ratio'], 0)} spent: {'stabilisation work only' if r['policy'] == 'stabilise' else 'freeze risky runtime changes'}.",
                    "how": "",
                    "link": None,
                    "rank": 2,
                }
            )
    if not data.incidents.shape[0] and data.totals["all"]["failed"]:
        out.append(
            {
                "what": f"{data.totals['all']['failed']} failed without a known signature: look at section 6.",
                "how": "",
                "link": None,
                "rank": 2,
            }
        )
    return sorted(out, key=lambda t: t["rank"])


def _doc(data: ReportData, path: str) -> dict[str, str | None]:
    return {
        "text": "Runbook",
        "path": path,
        "url": f"{data.docs_url.rstrip('/')}/{path}" if data.docs_url.startswith("https://") else None,
    }


def _source_row(c: Coverage) -> dict[str, Any]:
    p = c.proof
    name = SOURCES[c.what].get(c.source, c.source)
    if not c.configured:
        return {
            "name": name,
            "rows": None,
            "first": None,
            "last": None,
            "gaps": "",
            "sign": "–",
            "state": "off",
            "proof": "not configured",
        }
    sign, state = ("✓", "ok") if c.complete else ("?", "bad") if c.complete is False else ("·", "off")
    gaps = "; ".join(f"{minute_or_day(g)}" for g in list(c.gaps)[:2]) + (
        f" and {len(c.gaps) - 2} more" if len(c.gaps) > 2 else ""
    )
    return {
        "name": name,
        "rows": f"{count(c.rows)} {'jobs' if c.source == 'kubernetes' and c.what == 'jobs' else _UNITS[c.what]}",
        "first": clock(p.get("first")),
        "last": clock(p.get("last")),
        "gaps": f"{len(c.gaps)}: {gaps}" if c.gaps else "0",
        "sign": sign,
        "state": state,
        "proof": _proof(c),
    }


def minute_or_day(g: Window) -> str:
    """Write a gap as `10:14:12–12:51:12`."""
    end = clock(g.end)
    return f"{clock(g.start)}–{'24:00:00' if end == '00:00:00' else end}"


def _proof(c: Coverage) -> str:
    p = c.proof
    if p.get("error"):
        return f"incomplete: {visible(p['error'])}"
    said = {
        (
            "logs",
            "loki",
        ): f"{count(p.get('reconciled', 0))} of {count(p.get('counted', 0))} counted by Loki, minute by minute",
        ("jobs", "prometheus"): f"{count(p.get('scrapes', 0))} of {count(p.get('expected')) or '?'} scrapes",
        ("alerts", "prometheus"): f"{count(p.get('evaluations', 0))} {p.get('method', 'evaluations')}",
        ("issues", "github"): f"{count(p.get('comments', 0))} comments, {count(p.get('pages')) or 'saved'} pages",
    }.get((c.what, c.source), f"from {p.get('method', 'kubectl')}, which shows what it was there to see")
    return ("" if c.complete is not False else "incomplete: ") + said


def _data_notes(data: ReportData) -> list[str]:
    logs = next(c for c in data.coverage if c.what == "logs")
    found = logs.proof.get("found", {})
    unknown_ends = _unknown_outcomes(data.attempts)
    notes = [
        f"Lines not parsed {count(found.get('not_parsed', 0)) if logs.configured else 'not known'}",
        f"redactions {count(found.get('redactions', 0)) if logs.configured else 'not known'}",
        "attempts with no known outcome: " + (", ".join(f"{v} {k}" for k, v in unknown_ends.items()) or "none"),
        f"ambiguous run links {data.ambiguous}",
    ]
    if logs.proof.get("gone_from_server"):
        notes.append(f"{count(logs.proof['gone_from_server'])} lines are in the lake and no longer on the server")
    return notes + (
        [f"left out of the objectives: {data.left_out[0]} attempts, {data.left_out[1]} incidents"]
        if any(data.left_out)
        else []
    )


def _unknown_outcomes(attempts: pd.DataFrame) -> dict[str, int]:
    counts = attempts.loc[attempts["kind"].isin(["build", "mirror", "codegen-check"]), "outcome"].value_counts()
    return {str(k): int(v) for k, v in counts.items() if k in {"superseded", "vanished", "running"}}


def _signals(data: ReportData) -> list[dict[str, Any]]:
    """Return the golden signals, a row each: the day, the day before, the median of seven, change, threshold, by 15 min."""
    t, check = data.totals["build+mirror"], data.totals.get("codegen-check", {})
    build = data.totals["build"]
    least = "" if t["complete"] else "at least "
    bm = _by_quarter(data, ("build", "mirror"))
    rows = [
        _signal(
            data,
            "Traffic",
            "build, mirror attempts started",
            f"{least}{count(t['started'])}",
            "build+mirror",
            "started",
            bm["started"],
            "relative",
        ),
        _signal(
            data,
            "Errors",
            "build, mirror, failed of finished",
            share(t["failed"], t["finished"]),
            "build+mirror",
            "failed",
            bm["failed"],
            "ratio",
        ),
        _signal(
            data,
            "Codegen-check",
            "failed of finished",
            share(check.get("failed"), check.get("finished")),
            "codegen-check",
            "failed",
            _by_quarter(data, ("codegen-check",))["failed"],
            "ratio",
        ),
    ]
    rows += [_threshold(data, e) for e in data.expected if e["measure"] != "recovery"]
    enough = build["durations"] >= MIN_P95
    latency = duration(build["duration_p95_s"]) if enough else _median_text(build)
    rows.append(
        _signal(
            data,
            "Latency",
            f"{'p95' if enough else 'median to maximum'} of builds, n = {build['durations']}",
            latency,
            "build",
            "duration_p95_s",
            _by_quarter(data, ("build",))["duration_max_s"],
            "relative",
            duration,
        )
    )
    rows.append(
        _signal(
            data,
            "Backlog",
            "not finished, most at once",
            count(data.totals["all"]["backlog_max"]),
            "all",
            "backlog_max",
            _by_quarter(data, ("all",))["backlog_max"],
            "absolute",
        )
    )
    return rows


def _median_text(build: Mapping[str, Any]) -> str | None:
    if unknown(build["duration_p50_s"]):
        return None
    return f"{duration(build['duration_p50_s'])} to {duration(build['duration_max_s'])}"


def _by_quarter(data: ReportData, kinds: Sequence[str]) -> dict[str, list[float | None]]:
    """Return columns of the 15 min windows, summed over kinds; unknown where any is."""
    quarters = data.golden[(data.golden["window"] == "15m") & data.golden["kind"].isin(list(kinds))]
    out: dict[str, list[float | None]] = {}
    for column in (
        "started",
        "finished",
        "failed",
        "backlog_max",
        "duration_max_s",
        "manifest_unknown_lines",
        "build_ref_lines",
    ):
        sums = quarters.groupby("window_start")[column].agg(
            lambda s: s.sum(min_count=1 if s.name == "duration_max_s" else len(s))
        )
        out[column] = [None if pd.isna(v) else float(v) for v in sums]
    return out


def _signal(
    data: ReportData,
    name: str,
    what: str,
    now: str | None,
    group: str,
    key: str,
    values: Sequence[float | None],
    change: str,
    form: Any = count,
) -> dict[str, Any]:
    before = [h["totals"][group] if h["totals"] else None for h in data.history]
    known = sorted(float(b[key]) for b in before if b and not unknown(b.get(key)))
    of = [b for b in before if b]
    if change == "ratio":
        yesterday = share(before[0]["failed"], before[0]["finished"]) if before and before[0] else None
        mid = sorted(of, key=lambda b: b["failed"])[len(of) // 2] if of else None
        usual = f"{count(mid['failed'])} of {count(mid['finished'])}" if mid else None
        yesterday = yesterday and yesterday.split(" · ")[0]
    else:
        yesterday = form(before[0].get(key)) if before and before[0] else None
        usual = form(_middle(known)) if known else None
    return {
        "name": name,
        "what": what,
        "now": now,
        "before": yesterday,
        "usual": usual,
        "change": _change(data, group, key, before, change),
        "threshold": "none",
        "reached": False,
        "spark": charts.spark(
            list(values),
            None,
            "var(--mark-latency)"
            if key.startswith("duration")
            else "var(--bad)"
            if key == "failed"
            else "var(--mark-ok)",
        ),
    }


def _middle(values: Sequence[float]) -> float:
    n = len(values)
    return (values[(n - 1) // 2] + values[n // 2]) / 2


def _change(data: ReportData, group: str, key: str, before: Sequence[Any], how: str) -> str | None:
    now, then = data.totals[group], before[0] if before else None
    if then is None or not now["complete"] or unknown(now[key]) or unknown(then.get(key)):
        return None
    if how == "ratio":
        rates = [r["failed"] / r["finished"] if r["finished"] else None for r in (now, then)]
        return signed((rates[0] - rates[1]) * 100, "pt") if None not in rates else None  # type: ignore[operator]
    if how == "relative":
        return signed(round((now[key] / then[key] - 1) * 100), "%") if then[key] else None
    return signed(now[key] - then[key])


def _threshold(data: ReportData, e: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of a rule: its worst value at any instant of the day, and when the threshold was first reached."""
    ratio = e["measure"] == "failure_ratio"
    source = "logs" if e["measure"] == "signature_lines" else "jobs"
    known = next(c for c in data.coverage if c.what == source)
    starts = [s for s, _ in e["intervals"]]
    now = (
        f"{e['worst_of'][0]} of {e['worst_of'][1]}"
        if ratio and e["worst_of"]
        else (count(e["worst"]) if e["worst"] is not None else ("0 of 0" if ratio else "0"))
    )
    if not known.configured:
        now = None
    limit = percent(e["threshold"], 0) if ratio else count(e["threshold"])
    sign = "≥" if e["op"] == ">=" else ">"
    hidden = known.complete is False or not known.configured
    state = (
        f"▲ {sign} {limit}, {clock(max(min(starts), data.window.start))}"
        if starts
        else f"{sign} {limit}, {'not known' if hidden else 'not reached'}"
    )
    before = [h["worst"].get(e["alert"]) if h["totals"] else None for h in data.history]
    seen = sorted(b for b in before if b is not None)

    def form(v: Any) -> str | None:
        return None if v is None else percent(v) if ratio else count(v)

    column = {"failed_attempts": "failed", "failure_ratio": "failed"}.get(str(e["measure"])) or (
        "build_ref_lines" if "build-ref" in e["signatures"] else "manifest_unknown_lines"
    )
    kinds = ("all",) if source == "logs" else tuple(e["kinds"])
    at = f", worst at {minute(e['worst_at'])}" if e["worst"] and e["worst_at"] else ""
    return {
        "name": str(e["alert"]).removeprefix("AI_SLOT_"),
        "what": f"{e['summary']}{at}",
        "now": now,
        "before": form(before[0]) if before else None,
        "usual": form(_middle(seen)) if seen else None,
        "change": None,
        "threshold": state,
        "reached": bool(starts),
        "spark": charts.spark(
            _by_quarter(data, kinds)[column],
            None if ratio else e["threshold"],
            "var(--bad)" if starts else "var(--mark-ok)",
        ),
    }


def _health(data: ReportData) -> dict[str, Any]:
    """Return the charts of build health, wide and narrow, and their numbers."""
    day = data.window
    cases = [
        Band(
            i["started_at"].value,
            min(instant(i["ended_at"]) or day.end, day.end),
            f"{i['class']}: {i['failures']} failed, {'recovered in ' + str(duration(i['mttr_s'])) if pd.notna(i['ended_at']) else 'not recovered'}",
            CLASS_COLOUR[str(i["class"])],
        )
        for _, i in data.incidents.iterrows()
    ]
    fired = [
        Band(
            a["started_at"].value,
            instant(a["ended_at"]) or day.end,
            f"{str(a['alert']).removeprefix('AI_SLOT_')} fired",
            "var(--ink)",
        )
        for _, a in data.alerts.iterrows()
    ]
    missed = [
        Band(
            r["expected_start"].value,
            instant(r["expected_end"]) or day.end,
            f"{str(r['alert']).removeprefix('AI_SLOT_')}: nothing fired",
            "var(--bad)",
            "dashed",
        )
        for _, r in data.alert_audit.iterrows()
        if r["verdict"] == "missed"
    ]
    shown = [b for b in [*cases, *fired, *missed] if b.start < day.end and b.end > day.start]
    gaps = next(c for c in data.coverage if c.what == "jobs").gaps
    tables = {k: _quarters(data, kinds) for k, kinds in (("bm", ("build", "mirror")), ("check", ("codegen-check",)))}
    builds = data.attempts[
        (data.attempts["kind"] == "build")
        & (data.attempts["outcome"] == "succeeded")
        & data.attempts["duration_s"].notna()
    ]
    dots = [
        {"at": t.value, "minutes": float(s) / 60}
        for t, s in zip(builds["ended_at"], builds["duration_s"], strict=True)
        if t.value in day
    ]
    build = data.totals["build"]
    p95 = build["duration_p95_s"] if build["durations"] >= MIN_P95 else None
    t, check = data.totals["build+mirror"], data.totals.get("codegen-check", {"finished": 0, "failed": 0})
    names = {
        "bm": f"Build and mirror attempts finished per 15 min: {t['finished']}, of which {t['failed']} failed",
        "check": f"Codegen-check attempts finished per 15 min: {check['finished']}, of which {check['failed']} failed",
        "duration": f"Duration of {len(dots)} builds in minutes, longest {duration(build['duration_max_s']) or 'not known'}",
    }
    made = []
    for width in (charts.WIDE, charts.NARROW):
        drawn = (
            [charts.lanes(shown, day, width=width, label=f"{len(cases)} incidents and {len(fired)} alerts of the day")]
            if shown
            else []
        )
        drawn.append(
            charts.bars(
                "Build and mirror attempts finished per 15 min",
                tables["bm"],
                day,
                cases,
                gaps,
                height=96,
                width=width,
                label=names["bm"],
            )
        )
        drawn.append(
            charts.bars(
                "Codegen-check attempts finished per 15 min",
                tables["check"],
                day,
                cases,
                gaps,
                height=36,
                width=width,
                label=names["check"],
            )
        )
        drawn.append(
            charts.durations(
                "Build duration, minutes: each build, and median to maximum per hour",
                dots,
                day,
                cases,
                gaps,
                p95,
                width=width,
                label=names["duration"],
            )
        )
        made.append(drawn)
    numbers = [
        {
            "at": minute(b["start"]),
            "bm_ok": b["succeeded"],
            "bm_failed": b["failed"],
            "check_ok": c["succeeded"],
            "check_failed": c["failed"],
        }
        for b, c in zip(tables["bm"], tables["check"], strict=True)
        if any(x is None or x for x in (b["succeeded"], b["failed"], c["succeeded"], c["failed"]))
    ]
    return {
        "wide": made[0],
        "narrow": made[1],
        "numbers": numbers,
        "p95": duration(p95),
        "failed": t["failed"] + check["failed"],
        "ok": t["finished"] + check["finished"] - t["failed"] - check["failed"],
    }


def _quarters(data: ReportData, kinds: Sequence[str]) -> list[dict[str, Any]]:
    q = _by_quarter(data, kinds)
    rows = []
    for i, (n, bad) in enumerate(zip(q["finished"], q["failed"], strict=True)):
        known = n is not None and bad is not None
        rows.append(
            {
                "start": data.window.start + i * 900 * NS,
                "failed": int(bad) if known and bad is not None else None,
                "succeeded": int(n - bad) if n is not None and bad is not None else None,
            }
        )
    return rows


def _failed_by_signature(data: ReportData) -> list[dict[str, Any]]:
    """Return what failed by class and signatures, the largest first."""
    by_id = {s.id: s for s in data.signatures}
    if data.failures.empty:
        return []
    rows = []
    keyed = data.failures.assign(key=[", ".join(s) or "none" for s in data.failures["signatures"]])
    for (name, key), g in keyed.groupby(["class", "key"], sort=False):
        first = next((by_id[s] for s in g["signatures"].iloc[0] if s in by_id), None)
        open_ended = int(g["recovered_at"].isna().sum())
        examples = [x for x in g["example"] if isinstance(x, str)]
        rows.append(
            {
                "class": name,
                "key": key,
                "attempts": len(g),
                "runs": int(g["run_id"].nunique()),
                "first": clock(g["failed_at"].min()),
                "last": clock(g["failed_at"].max()),
                "issues": sorted({int(i) for i in g["issue"].dropna()}),
                "action": first.first_action if first else "Look at the lines of these jobs: no known signature.",
                "link": _doc(data, first.runbook) if first else None,
                "example": examples[0] if examples else None,
                "state": f"{open_ended} of {len(g)} not recovered"
                if open_ended
                else f"resolved {clock(g['recovered_at'].max())}",
            }
        )
    return sorted(rows, key=lambda r: -int(r["attempts"]))


def _failed_rows(data: ReportData) -> list[dict[str, Any]]:
    ran = {(a["namespace"], a["job_name"], a["attempt"]): a for a in _records(data.attempts)}
    out = []
    for f in _records(data.failures):
        a = ran.get((f["namespace"], f["job_name"], f["attempt"]), {})
        after = (instant(f["recovered_at"]) or 0) - (instant(f["failed_at"]) or 0)
        out.append(
            f
            | {
                "ended": clock(f["failed_at"]),
                "uncertainty": a.get("end_uncertainty_s"),
                "run": (f["run_id"] or "")[:8] or None,
                "ran_for": duration(a.get("duration_s")),
                "recovered_after": duration(after / NS) if f["recovered_at"] else None,
                "outcome_source": a.get("outcome_source"),
            }
        )
    return out


def _objectives(data: ReportData) -> list[dict[str, Any]]:
    names = {"build_availability": "build availability", "recovery": "recovery within 30 min"}
    out = []
    for r in _records(data.slo):
        known = r["ratio"] is not None
        out.append(
            {
                "name": names.get(r["slo"], r["slo"]),
                "target": percent(r["objective_ratio"], 0),
                "window": r["window"],
                "ratio": percent(r["ratio"]) if known else None,
                "of": f"{count(r['good'])} of {count(r['total'])}" if r["total"] is not None else None,
                "missed": known and r["ratio"] < r["objective_ratio"],
                "spent": percent(r["budget_spent_ratio"], 0) if r["budget_spent_ratio"] is not None else None,
                "policy": r["policy"],
                "why": "no incident in the window" if r["total"] == 0 else "not every day of the window was pulled",
            }
        )
    return out


def _audit(data: ReportData) -> list[dict[str, Any]]:
    return [
        {
            "alert": r["alert"],
            "expected": clock(r["expected_start"]),
            "until": clock(r["expected_end"]),
            "fired": clock(r["actual_start"]),
            "fired_until": clock(r["actual_end"]),
            "verdict": r["verdict"],
            "delay": (signed(r["delay_s"], "s") if r["delay_s"] is not None else None),
        }
        for r in _records(data.alert_audit)
    ]
