"""Invented days whose numbers agree, for the report: a red, a green, a grey, an amber and an empty one.

Attempts and lines are invented, everything else is what the pipeline's own pure functions make of them.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import pandas as pd

from pipeline import catalog
from pipeline.model import Coverage, Window
from pipeline.report import render
from pipeline.report.view import ReportData, daily_view, summary
from pipeline.signals import alerts, facts, failures, golden, incidents, levels, shared, templates
from pipeline.signals.alerts import Expected
from pipeline.signals.intervals import wilson
from pipeline.signals.verdict import verdict
from pipeline.steps.vocabulary import words
from tests.report_jobs import Row, bad_jobs, grumbles, job, lines_of, numbered, quiet_jobs
from tests.tables import DATE, DAY, KINDS, at, line, lines, ns, span, table

RULES = catalog.load()
SOURCES = (
    ("logs", "loki"),
    ("jobs", "prometheus"),
    ("alerts", "prometheus"),
    ("events", "kubernetes"),
    ("issues", "github"),
)
DOCS = "https://example.com/codex-k8s/blob/main"
MADE_AT = ns("00:20", 1)
WATCH = incidents.Watch(86400.0, [DAY])


def complete(
    rows: Mapping[str, int], gaps: Mapping[str, Sequence[Window]] | None = None, **proofs: Mapping[str, Any]
) -> list[Coverage]:
    """Return coverage of a day: whole, but for the holes that are named."""
    holes = gaps or {}
    usual: dict[str, dict[str, Any]] = {
        "logs": {
            "counted": rows["logs"],
            "reconciled": rows["logs"],
            "found": {"not_parsed": 2, "redactions": 3},
            "windows": 24,
        },
        "jobs": {"scrapes": 2880, "expected": 2880},
        "alerts": {"method": "rule evaluations", "evaluations": 5760, "samples": 0},
        "events": {"method": "kubectl", "lists": 24},
        "issues": {"method": "comments", "comments": rows["issues"], "pages": 3},
    }
    ends = {"first": ns("00:00:00.1"), "last": ns("23:59:59.8")}
    return [
        Coverage(
            *(what, source, True, not holes.get(what), rows[what], list(holes.get(what, ()))),
            usual[what] | (ends if rows[what] else {}) | dict(proofs.get(what, {})),
        )
        for what, source in SOURCES
    ]


def rule(e: Expected) -> Row:
    """Return a rule's facts as the steps gather them."""
    r = e.rule
    facts: Row = {
        "alert": r.name,
        "severity": r.severity,
        "summary": r.summary,
        "measure": r.measure,
        "kinds": list(r.kinds),
    }
    facts |= {"signatures": list(r.signatures), "apps": list(r.apps), "op": r.op, "threshold": r.threshold}
    facts |= {"window_s": r.window_s, "minimum": r.minimum, "runbook": r.runbook, "intervals": list(e.intervals)}
    return facts | {"worst": e.worst, "worst_at": e.worst_at, "worst_of": e.worst_of}


def totals_of(builds: int, mirrors: int, checks: int, failed: int = 0, p95: float = 441.0, backlog: int = 10) -> Row:
    """Return an earlier day's totals."""

    def one(finished: int, bad: int) -> Row:
        between = wilson(bad, finished) or (None, None)
        facts: Row = {"started": finished, "finished": finished, "failed": bad, "succeeded": finished - bad}
        facts |= {"failure_ratio": bad / finished if finished else None, "durations": finished - bad}
        facts |= {"failure_low_ratio": between[0], "failure_high_ratio": between[1], "duration_p50_s": 226.0}
        facts |= {"duration_p95_s": p95, "duration_max_s": 533.0, "backlog_max": backlog, "pending_max": 2}
        return facts | {"manifest_unknown_lines": 0, "complete": True, "lines_complete": True}

    groups = {"build+mirror": one(builds + mirrors, failed), "all": one(builds + mirrors + checks, failed)}
    return groups | {"build": one(builds, failed), "mirror": one(mirrors, 0), "codegen-check": one(checks, 0)}


def past(n: int = 7) -> list[Row]:
    """Return the days before, latest first; what is older than `n` days was never pulled."""
    sizes = [(172, 22, 42), (160, 20, 40), (155, 26, 38), (149, 22, 41), (171, 24, 40), (168, 24, 39), (101, 12, 22)]
    worst = {r.name: 0.0 for r in RULES.alerts if r.measure != "recovery"}
    out = []
    for i, size in enumerate(sizes):
        date = DATE - dt.timedelta(days=i + 1)
        known: Row = {"totals": totals_of(*size, p95=441.0 + 7 * (i % 3), backlog=9 + i % 3), "worst": worst}
        out.append({"date": date} | (known if i < n else {"totals": None, "worst": {}}))
    return out


def burning(*, known: bool) -> list[Row]:
    """Return burn rates: of a young lake only what looks back on the day alone."""
    rows: list[Row] = [
        {"pair": "fast", "window": "15m", "failed": 0, "total": 2, "burn": None}
        | {"worst_failed": 3, "worst_total": 5, "worst": 60.0, "worst_at": at("09:14:31")},
        {"pair": "fast", "window": "6h", "failed": 0, "total": 44, "burn": 0.0}
        | {"worst_failed": 12, "worst_total": 60, "worst": 20.0, "worst_at": at("09:30")},
    ]
    return rows if known else [r | dict.fromkeys(["worst_failed", "worst_total", "worst", "worst_at"]) for r in rows]


def objectives(good: int | None, total: int | None, recovered: tuple[int, int] | None) -> pd.DataFrame:
    """Return `slo`: build availability of good of total, and incidents that recovered in time."""
    ratio = good / total if good is not None and total else None
    spent = None if ratio is None else (1 - ratio) / 0.01
    policy = None if spent is None else "stabilise" if spent > 0.8 else "ok"
    row = {"day": at("00:00"), "window": "7d"}
    in_time, cases = recovered or (None, None)
    lacking: Row = {"missing_days": [], "failures_left": None}
    if total is None:
        lacking["missing_days"] = [str(DATE - dt.timedelta(days=n)) for n in range(6, 2, -1)]
        lacking["command"] = f"aislot pull --since 2026-02-20 --until 2026-02-24 && aislot compute --date {DATE}"
    row |= lacking
    return table(
        "slo",
        row
        | {"slo": "build_availability", "good": good, "total": total, "ratio": ratio, "objective_ratio": 0.99}
        | {"budget_spent_ratio": spent, "policy": policy, "burn": burning(known=total is not None)},
        row
        | {"slo": "recovery", "good": in_time, "total": cases, "objective_ratio": 1.0}
        | {"ratio": in_time / cases if cases and in_time is not None else None},
    )


def compared(
    jobs: pd.DataFrame, told: pd.DataFrame, found: pd.DataFrame, cases: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return `shares` and `ledger`: a codegen-check's lines tell its ref, and successes have lines of their own alone."""
    ended = jobs[jobs["outcome"].isin(["failed", "succeeded"])]
    failed = ended["outcome"] == "failed"
    checks = failed[ended["kind"] == "codegen-check"]
    refs = [
        facts.Told("ref", 0, 0, "-b feature/x" if bad else f"{i:040x}", i)
        for i, bad in zip(checks.index.tolist(), checks.tolist(), strict=True)
    ]
    known = facts.values(ended, refs, checks.index.tolist(), RULES.attributes)
    which = found.assign(incident_id=shared.incident_of(found, cases)).set_index(["job_name", "attempt"])["incident_id"]
    known["incident_id"] = [which.get((n, a)) for n, a in zip(ended["job_name"], ended["attempt"], strict=True)]
    shares = shared.shares(known[failed], known[~failed], facts.names(RULES.attributes), ["ref"], DAY)
    kinds = dict(zip(ended.index[failed].tolist(), ended.loc[failed, "kind"].tolist(), strict=True))
    fine = table(
        "success_templates",
        *({"day": at("00:00"), "kind": k, "id": "t-0000000000", "attempts": 50, "of": 50} for k in KINDS),
    )
    said = templates.of_lines(told)
    rows = [templates.of_failures(said, kinds, fine), templates.of_signatures(told, found)]
    return shares, templates.ledger(rows, table("ledger"), DAY, 7 * 86_400)


def day(
    jobs: pd.DataFrame,
    told: pd.DataFrame,
    coverage: Sequence[Coverage],
    fired: pd.DataFrame,
    promised: pd.DataFrame,
    **more: Any,
) -> ReportData:
    """Return a day's report data: what the pipeline's own functions make of attempts and lines."""
    gaps = {c.what: list(c.gaps) for c in coverage if c.configured}
    found = failures.failures(jobs, told, DAY, RULES.signatures, RULES.phrases, KINDS)
    cases = incidents.incidents(found, jobs, fired, table("issue_runs"), RULES.alerts, 1800.0, 300.0, WATCH)
    expected = alerts.expected(RULES.alerts, jobs, told, cases, DAY)
    audited = alerts.audit(expected, fired, DAY, 300.0, gaps)
    if "alerts" not in gaps:
        audited = table("alert_audit")
    shares, ledger = compared(jobs, told, found, cases)
    judged = verdict(DAY, expected, cases, len(found), promised, coverage, RULES.objectives, 0.0)
    data = ReportData(
        date=DATE,
        window=DAY,
        made_at=MADE_AT,
        attempts=golden.touching(jobs, DAY),
        lines=told,
        golden=golden.golden_signals(jobs, told, DAY, gaps, KINDS),
        totals=golden.day_totals(jobs, told, DAY, gaps, KINDS),
        history=past(),
        failures=found,
        incidents=cases,
        alerts=fired,
        alert_audit=audited,
        expected=[rule(e) for e in expected],
        slo=promised,
        shares=shares,
        ledger=ledger,
        level_breaches=levels.breaches(told, RULES.signatures, RULES.phrases, DAY),
        coverage=coverage,
        verdict=judged.verdict,
        reasons=judged.reasons,
        signatures=RULES.signatures,
        ambiguous=0,
        left_out=(0, 0),
        namespaces=["codex-k8s-prod"],
        docs_url=DOCS,
        max_gap_s=0.0,
        inputs={"lake": "lake", "rows": {c.what: c.rows for c in coverage}},
        words=words("en"),
        versions={"aislot": "aislot 0.4.0", "queries": "3f81c2d07a11", "loki": "3.7.8", "prometheus": "3.7.0"},
        changed_settings=["loki.url = http://loki:3100", "github.repository = codex-k8s/codex-k8s"],
        earlier=table("failures"),
        objectives=RULES.objectives,
    )
    return dataclasses.replace(data, **more)


@cache
def red() -> ReportData:
    """Return a day with two incidents, one of them too long, a page that never came and one that nobody expected."""
    broken = {
        "build": span("08:58", "09:34"),
        "codegen-check": span("10:50", "12:06"),
    }  # nothing of the kind succeeds then
    usual = [
        r
        for r in quiet_jobs(32, mirrors=22)
        if r["ended_at"].value not in broken.get(r["kind"], span("00:00", "00:00"))
    ]
    jobs = numbered([*usual, *bad_jobs()])
    told = lines_of(jobs, grumbles(31))
    rows = {"logs": 48_213, "jobs": 31_604, "alerts": 5, "events": 412, "issues": 66}
    fired = [
        ("AI_SLOT_BUILD_FAILURE_BURST", "page", "09:16:30", "09:43:30"),
        ("AI_SLOT_BUILD_FAILURE_RATE_ELEVATED", "ticket", "09:08:30", "10:30:30"),
        ("AI_SLOT_CODEGEN_CHECK_BUILD_REF_INVALID", "page", "10:54:13", "12:14:30"),
        ("AI_SLOT_BUILD_MTTR_SLO_RISK", "ticket", "11:24:30", None),
        ("AI_SLOT_BUILD_FAILURE_BURST", "page", "17:55:00", "18:02:00"),
    ]
    history = table(
        "alerts",
        *(
            {
                "alert": a,
                "severity": s,
                "started_at": at(b),
                "ended_at": e and at(e),
                "labels": {},
                "source": "prometheus",
            }
            for a, s, b, e in fired
        ),
    )
    before = {"failure_id": "f-0000000000", "class": "build-ref", "signatures": ["build-ref"], "kind": "codegen-check"}
    earlier = table("failures", before | {"failed_at": at("14:02:11", -6), "job_name": "codex-k8s-codegen-check-1"})
    coverage = complete(rows, alerts={"samples": 1166})
    probe = line(
        "09:15", "manifest-unknown", level="INFO", line="cache probe failed: MANIFEST_UNKNOWN for `cache/9c41`"
    )
    quiet = levels.breaches(lines(probe), RULES.signatures, RULES.phrases, DAY)
    release: Row = {"kind": "maintenance", "start": "2026-02-26T02:00:00Z", "end": "2026-02-26T03:00:00Z"}
    release |= {"who": "sre-anna", "why": "release 1.42.0", "confirmed_by": "", "holds": True}
    release |= {"attempts": 2, "incidents": ["i-0123456789"]}
    rumour = release | {"kind": "outage", "why": "quay.io", "holds": False, "attempts": 0, "incidents": []}
    more: Row = {"earlier": earlier, "exclusions": [release, rumour], "left_out": (2, 1), "level_breaches": quiet}
    return day(jobs, told, coverage, history, objectives(1291, 1316, (2, 3)), **more)


@cache
def green() -> ReportData:
    """Return a day on which nothing failed and nothing is missing."""
    jobs = numbered(quiet_jobs(41, mirrors=30))
    rows = {"logs": 51_077, "jobs": 33_918, "alerts": 0, "events": 388, "issues": 58}
    return day(jobs, lines_of(jobs, grumbles(12)), complete(rows), table("alerts"), objectives(1799, 1806, (1, 1)))


@cache
def grey() -> ReportData:
    """Return a day with a hole in the scrapes, on which nothing that was seen failed."""
    hole = span("10:14:12", "12:51:12")
    seen = [
        r for r in quiet_jobs(38, mirrors=20) if not hole.intersect(Window(r["started_at"].value, r["ended_at"].value))
    ]
    gone = {
        "outcome": "vanished",
        "ended_at": None,
        "duration_s": None,
        "outcome_source": None,
        "end_uncertainty_s": None,
    }
    lost = [job("build", 36_500 + 60 * n, 300, run=800 + n) | gone | {"last_seen_at": at("10:14")} for n in range(4)]
    rows = {"logs": 44_902, "jobs": 27_455, "alerts": 0, "events": 351, "issues": 49}
    coverage = complete(rows, {"jobs": [hole], "alerts": [hole]}, jobs={"scrapes": 2566}, alerts={"evaluations": 5130})
    jobs = numbered([*seen, *lost])
    return day(jobs, lines_of(jobs), coverage, table("alerts"), objectives(1799, 1806, (0, 0)))


@cache
def amber() -> ReportData:
    """Return a small day from a kubectl dump on a young lake: one failed mirror, so few builds that no ratio is judged."""
    jobs = numbered(
        [
            job("build", 32_000, 251, run=1, issue=207),
            job("build", 36_100, 318, run=2, issue=208),
            job("codegen-check", 32_020, 22, run=1, issue=207),
            job("mirror", 40_000, 61, "failed", end_uncertainty_s=2.0),
            job("mirror", 41_000, 44),
        ]
    )
    proofs: dict[str, Row] = {
        "logs": {"method": "kubectl dump", "logs": 2, "found": {"not_parsed": 0, "redactions": 1}},
        "jobs": {"method": "kubectl dump", "snapshots": 96, "first": ns("00:07:30"), "last": ns("23:52:30")},
        "events": {"method": "kubectl dump", "lists": 1, "first": ns("23:01:00"), "last": ns("23:55:00")},
        "issues": {"method": "dump", "comments": 7, "first": ns("09:01:00"), "last": ns("11:30:00")},
    }
    ends = {"first": ns("00:00:03"), "last": ns("23:59:58")}
    quiet = [span("00:00", "22:55")]
    coverage = [
        Coverage("logs", "kubernetes", True, True, 2274, (), ends | proofs["logs"]),
        Coverage("jobs", "kubernetes", True, True, 6, (), proofs["jobs"]),
        Coverage("alerts", "prometheus", False, None, 0, (), {}),
        Coverage("events", "kubernetes", True, None, 14, quiet, proofs["events"]),
        Coverage("issues", "github", True, True, 7, (), proofs["issues"]),
    ]
    return day(
        jobs,
        lines_of(jobs),
        coverage,
        table("alerts"),
        objectives(None, None, None),
        history=past(2),
        docs_url="",
        ambiguous=1,
        words=words("en"),
        versions={"aislot": "aislot 0.4.0", "queries": "3f81c2d07a11"},
        changed_settings=[],
    )


@cache
def empty() -> ReportData:
    """Return a day of a lake that nobody ever filled, with nothing configured."""
    coverage = [Coverage(what, source, False, None, 0, (), {}) for what, source in SOURCES]
    jobs = numbered([])
    more: Row = {"history": past(0), "docs_url": "", "versions": {"aislot": "aislot 0.4.0", "queries": "3f81c2d07a11"}}
    more |= {"changed_settings": [], "earlier": None}
    return day(jobs, lines(), coverage, table("alerts"), objectives(None, None, None), **more)


def rendered(data: ReportData) -> dict[str, str]:
    """Return a report's three files."""
    templates, view = catalog.data_dir("reports"), daily_view(data)
    return {
        "report.md": render.render_markdown(view, templates),
        "report.html": render.render_html(view, templates),
        "summary.json": render.render_summary(summary(data)),
    }


DAYS = {"red": red, "green": green, "grey": grey, "amber": amber, "empty": empty}


@cache
def files(day: str, lang: str = "en") -> dict[str, str]:
    """Return the three files of one of these days in a language."""
    return rendered(dataclasses.replace(DAYS[day](), words=words(lang)))
