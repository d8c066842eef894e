"""Derived tables -> `OUT/daily/D/`: report.md, report.html and summary.json, from the lake alone."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import catalog
from pipeline.errors import LakeError, UsageError
from pipeline.model import Coverage, Window, instant_text
from pipeline.report import render
from pipeline.report.view import ReportData, daily_view, summary
from pipeline.settings import without_user_info
from pipeline.signals.alerts import Expected
from pipeline.signals.slo import LeftOut
from pipeline.steps import files
from pipeline.steps.compute import Day, derive
from pipeline.steps.context import Context
from pipeline.steps.vocabulary import words

FORMATS = ("md", "html", "json")
FILES = {"md": "report.md", "html": "report.html", "json": "summary.json"}
_HISTORY_DAYS = 7


@dataclass(frozen=True)
class Report:
    """A report that was written, and what people who see only the terminal are told of it."""

    date: dt.date
    folder: Path
    files: tuple[Path, ...]
    verdict: str
    sentence: str
    todo: tuple[str, ...]
    summary: Mapping[str, Any]
    complete: bool


def report_daily(ctx: Context, date: dt.date, formats: Collection[str] = FORMATS) -> Report:
    """Write a day's report from the lake. Raises UsageError, LakeError where the day was never computed."""
    ctx.check_day(date)
    if date not in ctx.tables.days("golden"):
        pulled = date in ctx.records.days()
        command = "compute" if pulled else "daily"
        raise LakeError(
            f"{date} was never {'computed' if pulled else 'pulled'}", f"run: aislot {command} --date {date}"
        )
    return write_daily(ctx, derive(ctx, date), formats)


def check_wishes(ctx: Context, formats: Collection[str]) -> None:
    """Refuse a format or a language that no report has, before anything is done. Raises UsageError."""
    unknown = sorted(set(formats) - set(FORMATS))
    if unknown or not formats:
        raise UsageError(f"no report is made as {unknown[0] if unknown else ''!r}", f"choose from {', '.join(FORMATS)}")
    words(ctx.settings.report.lang)


def write_daily(ctx: Context, day: Day, formats: Collection[str] = FORMATS) -> Report:
    """Write the report of a day that was just computed. Raises UsageError, LakeError."""
    check_wishes(ctx, formats)
    data = report_data(ctx, day)
    view, numbers, templates = daily_view(data), summary(data), catalog.data_dir("reports")
    makers = {
        "md": lambda: render.render_markdown(view, templates),
        "html": lambda: render.render_html(view, templates),
        "json": lambda: render.render_summary(numbers),
    }
    folder = folder_of(ctx, day.date)
    paths = [folder / FILES[f] for f in FORMATS if f in formats]
    with files.told(ctx.settings.report.out):
        files.put({folder / FILES[f]: makers[f]() for f in FORMATS if f in formats})
        files.link_latest(folder.parent.parent)
    todo = tuple(str(t["what"]) for t in view["todo"])
    return Report(day.date, folder, tuple(paths), data.verdict, view["sentence"], todo, numbers, day.complete)


def folder_of(ctx: Context, date: dt.date) -> Path:
    """Return where the report of a day goes."""
    return Path(ctx.settings.report.out) / "daily" / str(date)


def report_data(ctx: Context, day: Day) -> ReportData:
    """Gather what a day's report rests on: the day, the seven before it, and how it was made."""
    settings = ctx.settings
    return ReportData(
        date=day.date,
        window=day.window,
        made_at=ctx.now,
        attempts=day.attempts,
        lines=day.lines,
        golden=day.golden,
        totals=day.totals,
        history=[_earlier(ctx, day.date - dt.timedelta(days=n)) for n in range(1, _HISTORY_DAYS + 1)],
        failures=day.failures,
        earlier=day.earlier,
        objectives=ctx.catalogue.objectives,
        incidents=day.incidents,
        alerts=day.alerts,
        alert_audit=day.alert_audit,
        expected=[rule_facts(e, day.window) for e in day.expected],
        slo=day.slo,
        shares=day.shares,
        ledger=day.ledger,
        level_breaches=day.level_breaches,
        coverage=day.coverage,
        verdict=day.verdict.verdict,
        reasons=day.verdict.reasons,
        signatures=ctx.catalogue.signatures,
        ambiguous=day.ambiguous,
        left_out=day.left_out,
        exclusions=[_exclusion(x) for x in day.exclusions],
        namespaces=settings.kubernetes.namespaces,
        docs_url=without_user_info(settings.report.docs_url),
        max_gap_s=settings.verdict.max_gap,
        inputs=inputs(ctx, day.coverage),
        versions=versions(ctx, day.coverage),
        words=words(settings.report.lang),
        changed_settings=[f"{k} = {v}" for k, v, where in settings.flat() if where != "default"],
    )


def _earlier(ctx: Context, date: dt.date) -> dict[str, Any]:
    known = ctx.records.day(date)
    return {"date": date, "totals": known and known["totals"], "worst": known["worst"] if known else {}}


def _exclusion(x: LeftOut) -> dict[str, Any]:
    ends = {"start": instant_text(x.by.window.start), "end": instant_text(x.by.window.end)}
    said = {"who": x.by.who, "why": x.by.why, "confirmed_by": x.by.confirmed_by, "holds": x.by.holds}
    return {"kind": x.by.kind} | ends | said | {"attempts": x.attempts, "incidents": list(x.incidents)}


def rule_facts(expected: Expected, day: Window) -> dict[str, Any]:
    """Return an alert's rule and when its condition held in a window, as reports take it."""
    rule = expected.rule
    touching = [(a, b) for a, b in expected.intervals if a < day.end and (b is None or b > day.start)]
    return {
        "alert": rule.name,
        "severity": rule.severity,
        "summary": rule.summary,
        "measure": rule.measure,
        "kinds": list(rule.kinds),
        "signatures": list(rule.signatures),
        "op": rule.op,
        "threshold": rule.threshold,
        "window_s": rule.window_s,
        "apps": list(rule.apps),
        "minimum": rule.minimum,
        "runbook": rule.runbook,
        "intervals": touching,
        "worst": expected.worst,
        "worst_at": expected.worst_at,
        "worst_of": expected.worst_of,
    }


def inputs(ctx: Context, coverage: Sequence[Coverage]) -> dict[str, Any]:
    """Return what the numbers were made from, so that they can be made again: the lake, its rows, settings and own rules."""
    rules = [{"name": Path(f).name, "text": Path(f).read_text("utf-8")} for f in ctx.settings.catalogue.files]
    stated = {k: v for k, v in ctx.settings.stated().items() if not k.startswith(("lake.", "report.out"))}
    return {
        "lake": ctx.store.uri,
        "rows": {c.what: c.rows for c in coverage},
        "settings": stated,
        "catalogue": rules,
    }


def versions(ctx: Context, coverage: Sequence[Coverage]) -> dict[str, str]:
    """Return what made the numbers: this program, its queries, the servers."""
    servers = {c.source: str(c.proof["version"]) for c in coverage if c.proof.get("version")}
    return {"aislot": ctx.written_by, "queries": ctx.catalogue.version} | servers
