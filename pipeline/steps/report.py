"""Derived tables -> `OUT/daily/D/`: report.md, report.html and summary.json, from the lake alone."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import secrets
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline import catalog
from pipeline.errors import LakeError, UsageError
from pipeline.model import Window, instant_text
from pipeline.report import render
from pipeline.report.view import ReportData, daily_view, summary
from pipeline.settings import without_user_info
from pipeline.signals.slo import LeftOut
from pipeline.steps.compute import Day, derive
from pipeline.steps.context import Context
from pipeline.steps.vocabulary import words

FORMATS = ("md", "html", "json")
_FILES = {"md": "report.md", "html": "report.html", "json": "summary.json"}
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
    files = [folder / _FILES[f] for f in FORMATS if f in formats]
    with _told(ctx.settings.report.out):
        _put({folder / _FILES[f]: makers[f]() for f in FORMATS if f in formats})
        _link_latest(folder.parent.parent)
    todo = tuple(str(t["what"]) for t in view["todo"])
    return Report(day.date, folder, tuple(files), data.verdict, view["sentence"], todo, numbers, day.complete)


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
        expected=[_rule(e, day.window) for e in day.expected],
        slo=_of_this_lake(ctx, day.slo),
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
        inputs={"lake": ctx.store.uri, "rows": {c.what: c.rows for c in day.coverage}},
        versions=_versions(ctx, day),
        words=words(settings.report.lang),
        changed_settings=[f"{k} = {v}" for k, v, where in settings.flat() if where != "default"],
    )


def _of_this_lake(ctx: Context, promises: pd.DataFrame) -> pd.DataFrame:
    """Let the commands that would pull what lacks name the lake, where it was given with this command alone."""
    if ctx.settings.origins.get("lake.uri") != "flag":
        return promises
    lake = f" --lake {shlex.quote(ctx.store.uri)}"
    named = [c if pd.isna(c) else " && ".join(f"{one}{lake}" for one in c.split(" && ")) for c in promises["command"]]
    return promises.assign(command=pd.Series(named, index=promises.index, dtype="str"))


def _earlier(ctx: Context, date: dt.date) -> dict[str, Any]:
    known = ctx.records.day(date)
    return {"date": date, "totals": known and known["totals"], "worst": known["worst"] if known else {}}


def _exclusion(x: LeftOut) -> dict[str, Any]:
    ends = {"start": instant_text(x.by.window.start), "end": instant_text(x.by.window.end)}
    said = {"who": x.by.who, "why": x.by.why, "confirmed_by": x.by.confirmed_by, "holds": x.by.holds}
    return {"kind": x.by.kind} | ends | said | {"attempts": x.attempts, "incidents": list(x.incidents)}


def _rule(expected: Any, day: Window) -> dict[str, Any]:
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


def _versions(ctx: Context, day: Day) -> dict[str, str]:
    servers = {c.source: str(c.proof["version"]) for c in day.coverage if c.proof.get("version")}
    return {"aislot": ctx.written_by, "queries": ctx.catalogue.version} | servers


def _put(texts: Mapping[Path, str]) -> None:
    """Replace files once all of them are written: a reader meets one report, not parts of two."""
    mark = secrets.token_hex(4)
    temporary = {path: path.with_name(f".{path.name}.{mark}") for path in texts}
    try:
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary[path].write_text(text, encoding="utf-8", newline="\n")
        for path, made in temporary.items():
            made.replace(path)
    finally:
        for made in temporary.values():
            made.unlink(missing_ok=True)


def _link_latest(out: Path) -> None:
    """Let `latest` point at the newest day, by a relative link so that the folder can be moved."""
    newest = max(p.name for p in (out / "daily").iterdir() if p.is_dir())
    link, made = out / "latest", out / f".latest.{secrets.token_hex(4)}"
    made.symlink_to(Path("daily") / newest, target_is_directory=True)
    made.replace(link)


@contextlib.contextmanager
def _told(out: str) -> Any:
    try:
        yield
    except OSError as e:
        why = os.strerror(e.errno) if e.errno else str(e)
        raise LakeError(
            f"the report cannot be written below {out}: {why}",
            "free some space, or set report.out (or --out) to a folder that can be written",
            "the lake is whole; earlier reports stand",
        ) from e
