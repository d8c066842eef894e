"""The evidence on an invented issue: the red day's incidents, told by the pipeline's own functions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import pandas as pd

from pipeline import catalog
from pipeline.model import Window
from pipeline.report import render
from pipeline.report.data import ReportData
from pipeline.report.postmortem.data import Excerpt, PostmortemData, Shown
from pipeline.report.postmortem.summary import postmortem_summary
from pipeline.report.postmortem.view import postmortem_view
from pipeline.signals import alerts, golden, story
from pipeline.signals.impact import impact
from pipeline.signals.shared import incident_of
from pipeline.signals.story import Evidence
from pipeline.steps.vocabulary import words
from tests.report_data import RULES, red, rule
from tests.tables import KINDS, at, ns, table

ISSUE = 205
WINDOW = Window(ns("08:36"), ns("12:36"))
URL = "https://github.com/codex-k8s/codex-k8s/issues/205#issuecomment-{}"


def evidence(data: ReportData, **more: Any) -> Evidence:
    """Return what the story of a day's incidents is told from: two people comment, two rollouts are seen."""
    links = [
        {"issue": ISSUE, "run_id": i["runs"][0], "ts": at(when), "author_kind": who, "comment_url": URL.format(n)}
        for i, said in zip(
            data.incidents.to_dict("records"),
            (
                (("09:20:10", "platform", 7), ("09:21:40", "person", 8)),
                (("11:02:15", "person", 11), ("11:20", "person", 12)),
            ),
            strict=True,
        )
        for when, who, n in said
    ]
    rollout = {"object_kind": "Deployment", "reason": "ScalingReplicaSet", "object_name": "codex-k8s-control-plane"}
    events = [rollout | {"ts": at(t)} for t in ("09:29:00", "09:29:31", "12:01:30")]
    signed = data.lines[data.lines["signatures"].map(len) > 0]
    whose = incident_of(data.failures, data.incidents)
    usual: dict[str, Any] = {
        "window": WINDOW,
        "incidents": data.incidents,
        "failures": data.failures[whose.notna()],
        "attempts": data.attempts,
        "lines": signed,
        "alerts": data.alerts,
        "alert_audit": data.alert_audit,
        "issue_runs": table("issue_runs", *links),
        "events": table("events", *events),
        "expected": alerts.expected(RULES.alerts, data.attempts, signed, data.incidents, WINDOW),
        "known": dict.fromkeys(("logs", "jobs", "alerts", "events", "issues"), ""),
        "issue": ISSUE,
        "tolerance_s": 300.0,
    }
    return Evidence(**usual | more)


def excerpt(signature: str, failure_class: str, lines: pd.DataFrame) -> Excerpt:
    """Return an invented excerpt of a signature's lines: one before the first, one after the last."""
    mine = lines[[signature in s for s in lines["signatures"]]]
    first, *_, last = mine.to_dict("records")

    def shown(row: Mapping[Any, Any]) -> Shown:
        level = row["level"] if isinstance(row["level"], str) else ""
        return Shown(row["ts"].value, level, str(row["line"]), hit=True)

    before = Shown(first["ts"].value - 202_000_000, "INFO", "wait for the job", hit=False)
    blocks: Sequence[Sequence[Shown]] = [[before, shown(first)], [shown(last)]]
    app = first["app"] if isinstance(first["app"], str) else ""
    return Excerpt(signature, failure_class, app, len(mine), first["ts"].value, last["ts"].value, blocks)


def told(data: ReportData | None = None, lang: str = "en", **more: Any) -> PostmortemData:
    """Return the evidence on the red day's issue."""
    day = red() if data is None else data
    e = evidence(day, **more)
    cases = story.cases(e)
    touching = golden.touching(day.attempts, WINDOW)
    whole: dict[str, list[Window]] = {c.what: [] for c in day.coverage}
    base = dataclasses.replace(
        day,
        window=WINDOW,
        words=words(lang),
        failures=e.failures,
        attempts=touching,
        lines=e.lines,
        history=[],
        totals=golden.day_totals(touching, e.lines, WINDOW, whole, KINDS),
        shares=day.shares[day.shares["scope"] != "day"],
        expected=[rule(x) for x in e.expected],
        inputs={"lake": "lake", "rows": {}, "settings": {}, "catalogue": []},
    )
    before = {"class": "build-ref", "started_at": at("14:02:11", -6), "mttr_s": 1270.0}
    classes = {s: str(c.incident["class"]) for c in cases for s in c.incident["signatures"]}
    return PostmortemData(
        base=base,
        issue=ISSUE,
        cases=cases,
        timeline=story.timeline(e, cases),
        impact=impact(e.failures, day.attempts, WINDOW, day.slo, RULES.objectives[0]),
        excerpts=[excerpt(s, c, e.lines) for s, c in classes.items()],
        similar=[before],
        issue_failures=0,
        confirmed_at=ns("12:05:31", 1),
        revision=3,
        mttr_limit_s=1800.0,
        missing_days=(),
    )


def rendered(data: PostmortemData) -> dict[str, str]:
    """Return its three files."""
    templates, view = catalog.data_dir("reports"), postmortem_view(data)
    return {
        "report.md": render.render_markdown(view, templates, "postmortem"),
        "report.html": render.render_html(view, templates, "postmortem"),
        "summary.json": render.render_summary(postmortem_summary(data)),
    }


@cache
def files(lang: str = "en") -> dict[str, str]:
    """Return the three files in a language."""
    return rendered(told(lang=lang))
