"""The lake -> `OUT/postmortem/N/`: the evidence for the postmortem of an issue, from the lake alone."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import catalog, correlate, schemas
from pipeline.cases import Case
from pipeline.errors import LakeError, UsageError
from pipeline.model import DAY_NS, NS, Window, merge
from pipeline.report import render
from pipeline.report.data import ReportData
from pipeline.report.postmortem.data import Excerpt, PostmortemData, Shown
from pipeline.report.postmortem.summary import figures, postmortem_summary
from pipeline.report.postmortem.view import postmortem_view
from pipeline.settings import without_user_info
from pipeline.signals import golden, listings, story
from pipeline.signals.alerts import expected
from pipeline.signals.impact import impact
from pipeline.signals.shared import incident_of
from pipeline.signals.story import Evidence
from pipeline.steps import files
from pipeline.steps.compute import day_coverage, log_lines
from pipeline.steps.context import Context, ns
from pipeline.steps.report import FILES, FORMATS, check_wishes, inputs, rule_facts, versions
from pipeline.steps.vocabulary import words

_AROUND_NS = 1800 * NS  # what is added on each side of the incidents
_HOUR_NS = DAY_NS // 24
_LOOK_BACK_NS = 2 * _HOUR_NS  # so far conditions look back from an instant
_REACH_DAYS = 8  # how long before the window an attempt may have begun
_CONTEXT_NS = 300 * NS  # how far from a line those around it may lie
_ROUND = 1  # lines before and after one that is shown
_STREAM = ["namespace", "app", "pod", "container"]


@dataclass(frozen=True)
class Postmortem:
    """Evidence that was written."""

    issue: int
    folder: Path
    files: tuple[Path, ...]
    state: str
    sentence: str
    revision: int
    complete: bool


def report_postmortem(
    ctx: Context, issue: int, window: Window | None = None, formats: Collection[str] = FORMATS
) -> Postmortem:
    """Write the evidence on an issue, over a window or what its incidents reach. Raises UsageError, LakeError."""
    check_wishes(ctx, formats)
    folder = Path(ctx.settings.report.out) / "postmortem" / str(issue)
    data = postmortem_data(ctx, issue, window)
    numbers, revision = _revised(folder / FILES["json"], data)
    view, templates = postmortem_view(_with(data, revision)), catalog.data_dir("reports")
    makers = {
        "md": lambda: render.render_markdown(view, templates, "postmortem"),
        "html": lambda: render.render_html(view, templates, "postmortem"),
        "json": lambda: render.render_summary(numbers),
    }
    paths = [folder / FILES[f] for f in FORMATS if f in formats]
    with files.told(ctx.settings.report.out):
        files.put({folder / FILES[f]: makers[f]() for f in FORMATS if f in formats})
    whole = all(c.complete is not False for c in data.base.coverage) and not data.missing_days
    return Postmortem(issue, folder, tuple(paths), data.state, str(view["sentence"]), revision, whole)


def _with(data: PostmortemData, revision: int) -> PostmortemData:
    return replace(data, revision=revision)


def _revised(path: Path, data: PostmortemData) -> tuple[dict[str, Any], int]:
    """Return the figures with their revision: one more than what stands there, where they differ from it."""
    numbers = postmortem_summary(data)
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        last = int(before["revision"])
    except (OSError, ValueError, KeyError, TypeError):
        return numbers, 1
    same = figures(before) == json.loads(json.dumps(figures(numbers)))
    revision = last if same else last + 1
    return numbers | {"revision": revision}, revision


def postmortem_data(ctx: Context, issue: int, window: Window | None) -> PostmortemData:
    """Gather what the evidence rests on. Raises UsageError where nothing in the lake is about the issue."""
    days = ctx.tables.days("golden")
    if not days:
        raise LakeError(f"the lake {ctx.store.uri} holds no computed day", "run: aislot daily")
    reach = Window(Window.of_day(days[0]).start, Window.of_day(days[-1]).end)
    every = _Every(ctx, reach)
    chosen, mine = _chosen(every, issue, window)
    span = window or _span(ctx, chosen, mine)
    missing = [str(d) for d, _ in span.days() if d not in set(days)]
    return _gathered(ctx, every, issue, span, chosen, mine, missing, by_window=window is not None)


class _Every:
    """The tables that an issue is looked up in, over all days of the lake."""

    def __init__(self, ctx: Context, reach: Window) -> None:
        self.incidents = schemas.to_frame(ctx.tables.read("incidents", reach))
        self.failures = schemas.to_frame(ctx.tables.read("failures", reach))
        self.links = schemas.to_frame(ctx.tables.read("issue_runs", reach.widen(0, DAY_NS)))


def _chosen(every: _Every, issue: int, window: Window | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the incidents that touch the issue's runs (of a window: all in it), and the issue's own failures.

    Raises UsageError where there is neither.
    """
    runs = set(every.links.loc[every.links["issue"] == issue, "run_id"].dropna())
    of_issue = every.failures[(every.failures["issue"] == issue) | every.failures["run_id"].isin(runs)]
    if window is not None:
        start, end = (pd.Timestamp(t, tz="UTC") for t in (window.start, window.end))
        i = every.incidents
        over = i["ended_at"].fillna(i["started_at"])
        inside = of_issue[(of_issue["failed_at"] >= start) & (of_issue["failed_at"] < end)]
        return i[(i["started_at"] < end) & (over >= start)], inside
    known = runs | set(of_issue["run_id"].dropna())
    touched = [issue in row["issues"] or not known.isdisjoint(row["runs"]) for row in schemas.rows_of(every.incidents)]
    cases = every.incidents[pd.Series(touched, every.incidents.index, dtype=bool)]
    if cases.empty and of_issue.empty:
        raise UsageError(
            f"nothing that failed in this lake is tied to issue {issue}",
            "pull its comments (aislot pull issues), or name a window with --since and --until",
        )
    return cases, of_issue


def _span(ctx: Context, cases: pd.DataFrame, failures: pd.DataFrame) -> Window:
    """Return from half an hour before the first failure to half an hour after the last recovery; up to now if none."""
    starts = [*cases["started_at"], *failures["failed_at"]] if cases.empty else list(cases["started_at"])
    ends = list(cases["ended_at"]) if len(cases) else list(failures["failed_at"])
    last = ctx.now if any(pd.isna(e) for e in ends) else max(e.value for e in ends) + _AROUND_NS
    first = min(s.value for s in starts) - _AROUND_NS
    return Window(first // NS * NS, max(first + NS, min(last, ctx.now)) // NS * NS)


def _gathered(
    ctx: Context,
    every: _Every,
    issue: int,
    window: Window,
    chosen: pd.DataFrame,
    mine: pd.DataFrame,
    missing: Sequence[str],
    *,
    by_window: bool,
) -> PostmortemData:
    settings, rules = ctx.settings, ctx.catalogue
    whole = Window(window.start // DAY_NS * DAY_NS, -(-window.end // DAY_NS) * DAY_NS)

    def read(name: str, span: Window = whole) -> pd.DataFrame:
        return schemas.to_frame(ctx.tables.read(name, span))

    attempts = read("attempts", whole.widen(_REACH_DAYS * DAY_NS, 0))
    hours = Window(window.start // _HOUR_NS * _HOUR_NS, -(-window.end // _HOUR_NS) * _HOUR_NS)
    told_lines = log_lines(ctx, hours.widen(_LOOK_BACK_NS, 0), attempts)
    signed_before = told_lines[told_lines["signatures"].map(len) > 0]
    lines = told_lines[_inside(told_lines["ts"], window)]
    signed = signed_before[_inside(signed_before["ts"], window)]
    coverage = day_coverage(ctx, window)
    gaps = {c.what: list(c.gaps) for c in coverage if c.configured}
    whose = incident_of(every.failures, every.incidents)
    of_cases = whose.isin(set(chosen["incident_id"]))
    failures = every.failures[of_cases | every.failures["failure_id"].isin(set(mine["failure_id"]))]
    failures = failures[_inside(failures["failed_at"], window)].sort_values("failed_at")
    conditions = expected(rules.alerts, attempts, signed_before, chosen, window, window.end)
    alone = int((~of_cases[failures.index]).sum())
    evidence = Evidence(
        window=window,
        incidents=chosen,
        failures=failures[of_cases[failures.index]],
        attempts=attempts,
        lines=signed,
        alerts=listings.each_once(read("alerts", whole.widen(DAY_NS, 0)), settings.alerts.tolerance),
        alert_audit=read("alert_audit"),
        issue_runs=every.links,
        events=read("events"),
        expected=conditions,
        known={c.what: "off" if not c.configured else "gap" if c.gaps else "" for c in coverage},
        issue=issue,
        tolerance_s=settings.alerts.tolerance,
    )
    told = story.cases(evidence)
    touching = golden.touching(attempts, window)
    slo = _latest(read("slo"))
    shares, ledger = read("shares"), read("ledger")
    base = ReportData(
        date=dt.date.fromisoformat(str(pd.Timestamp(window.start).date())),
        window=window,
        made_at=ctx.now,
        attempts=touching,
        lines=lines,
        golden=schemas.empty_frame("golden"),
        totals=golden.day_totals(touching, signed, window, gaps, rules.golden_kinds()),
        history=[],
        failures=failures,
        incidents=chosen,
        alerts=evidence.alerts,
        alert_audit=evidence.alert_audit,
        expected=[rule_facts(x, window) for x in conditions],
        slo=slo,
        shares=shares[shares["scope"].isin(set(chosen["incident_id"]))],
        ledger=ledger[_of_kinds(ledger, failures)],
        level_breaches=schemas.empty_frame("level_breaches"),
        coverage=coverage,
        verdict="",
        reasons=(),
        signatures=rules.signatures,
        ambiguous=correlate.ambiguous(touching, set(every.links["run_id"].dropna()), rules.job_kinds),
        left_out=(0, 0),
        namespaces=settings.kubernetes.namespaces,
        docs_url=without_user_info(settings.report.docs_url),
        max_gap_s=settings.verdict.max_gap,
        inputs=inputs(ctx, coverage),
        versions=versions(ctx, coverage),
        words=words(settings.report.lang),
        changed_settings=[f"{k} = {v}" for k, v, where in settings.flat() if where != "default"],
        objectives=rules.objectives,
    )
    before = every.incidents[every.incidents["started_at"] < pd.Timestamp(window.start, tz="UTC")]
    similar = before[before["class"].isin(set(chosen["class"]))].sort_values("started_at", ascending=False)
    budgeted = next((o for o in rules.objectives if o.target < 1 and o.limit_s is None), rules.objectives[0])
    return PostmortemData(
        base=base,
        issue=issue,
        cases=told,
        timeline=story.timeline(evidence, told),
        impact=impact(failures, attempts, window, slo, budgeted),
        excerpts=_excerpts(ctx, told, signed),
        similar=schemas.rows_of(similar),
        issue_failures=alone,
        confirmed_at=_confirmed(ctx, chosen),
        revision=1,
        by_window=by_window,
        mttr_limit_s=next((o.limit_s for o in rules.objectives if o.limit_s is not None), None),
        missing_days=missing,
    )


def _latest(slo: pd.DataFrame) -> pd.DataFrame:
    """Return the objectives as of the window's last day."""
    newest: pd.DataFrame = slo[slo["day"] == slo["day"].max()]
    return newest


def _of_kinds(ledger: pd.DataFrame, failures: pd.DataFrame) -> pd.Series:
    return ledger["kind"].isin(set(failures["kind"].dropna()))


def _confirmed(ctx: Context, cases: pd.DataFrame) -> int | None:
    """Return when the watch over the last recovery ends, None while one has none."""
    if cases.empty or cases["ended_at"].isna().any():
        return None
    return int(cases["ended_at"].max().value) + ns(ctx.settings.incident.watch)


def _inside(instants: pd.Series, window: Window) -> pd.Series:
    return (instants >= pd.Timestamp(window.start, tz="UTC")) & (instants < pd.Timestamp(window.end, tz="UTC"))


def _excerpts(ctx: Context, told: Sequence[Case], signed: pd.DataFrame) -> list[Excerpt]:
    """Return for each signature of the incidents its first and last line, with the lines around them."""
    classes: dict[str, str] = {}
    for c in told:
        for s in c.incident["signatures"]:
            classes.setdefault(str(s), str(c.incident["class"]))
    out = []
    for signature, failure_class in classes.items():
        mine = signed[[signature in s for s in signed["signatures"]]]
        if mine.empty:
            continue
        first, *_, last = [*schemas.rows_of(mine.iloc[[0]]), *schemas.rows_of(mine.iloc[[-1]])]
        ends = [first, last] if last["ts"] != first["ts"] else [first]
        shown = [_around(ctx, row) for row in ends]
        app = str(first["app"]) if isinstance(first["app"], str) else ""
        out.append(Excerpt(signature, failure_class, app, len(mine), first["ts"].value, last["ts"].value, shown))
    return out


def _around(ctx: Context, row: Mapping[str, Any]) -> list[Shown]:
    """Return a line with those that its own stream has right before and after it."""
    at = int(row["ts"].value)
    near = Window(at - _CONTEXT_NS, at + _CONTEXT_NS)
    cells = merge(
        Window(t // _HOUR_NS * _HOUR_NS, t // _HOUR_NS * _HOUR_NS + _HOUR_NS) for t in (near.start, at, near.end)
    )

    def there(logs: pa.Table) -> pa.Array:
        ts = logs["ts"].cast(pa.int64())
        return pc.indices_nonzero(pc.and_(pc.greater_equal(ts, near.start), pc.less(ts, near.end)))

    columns = ["ts", "level", "msg", "err", "line", *_STREAM]
    parts = [ctx.tables.chosen("logs", c, ["ts"], there, columns) for w in cells for c in w.cells(_HOUR_NS)]
    found = schemas.to_frame(pa.concat_tables(parts)).sort_values(["ts", "line"], kind="stable", ignore_index=True)
    itself = found[(found["ts"] == row["ts"]) & (found["line"] == row["line"])]
    if itself.empty:
        return [Shown(at, _text(row["level"]), _said(row), hit=True)]
    pod = itself.iloc[0]
    same = found
    for c in _STREAM:
        same = same[same[c].isna()] if pd.isna(pod[c]) else same[same[c] == pod[c]]
    same = same.reset_index(drop=True)
    place = int(same.index[(same["ts"] == row["ts"]) & (same["line"] == row["line"])][0])
    few = same.iloc[max(0, place - _ROUND) : place + _ROUND + 1]
    return [
        Shown(int(r["ts"].value), _text(r["level"]), _said(r), hit=i == place)
        for i, r in zip(few.index, schemas.rows_of(few), strict=True)
    ]


def _said(row: Mapping[str, Any]) -> str:
    """Return what a line says: of a structured one its message and error, else all of it."""
    parts = [_text(row[c]) for c in ("msg", "err") if _text(row[c])]
    return ": ".join(parts) or _text(row["line"])


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
