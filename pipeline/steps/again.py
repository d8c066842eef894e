"""A report made again from what its `summary.json` says of itself: its lake, its settings, its own rules, its time."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline import catalog
from pipeline import settings as config
from pipeline.model import Window, instant_of
from pipeline.report import render
from pipeline.report.data import ReportData
from pipeline.report.postmortem.summary import postmortem_summary
from pipeline.report.postmortem.view import postmortem_view
from pipeline.report.view import daily_view, summary
from pipeline.steps.compute import Day, derive
from pipeline.steps.context import Context, open_context
from pipeline.steps.postmortem import postmortem_data
from pipeline.steps.report import report_data


def context(reported: Mapping[str, Any], lake: str | None, scratch: Path, say: Callable[[str], None]) -> Context:
    """Make the world again in which the report was made, but for its secrets. Raises UsageError, LakeError."""
    inputs = reported["inputs"]
    flags = dict(inputs["settings"])
    own = []
    for i, rules in enumerate(inputs["catalogue"]):
        path = scratch / f"{i}.toml"
        path.write_text(rules["text"], encoding="utf-8")
        own.append(str(path))
    flags |= {"catalogue.files": own, "lake.uri": lake or inputs["lake"], "report.lang": reported["lang"]}
    settings = config.load(None, "", {}, flags)
    return open_context(settings, instant_of(reported["made_at"]), say, written_by=reported["versions"]["aislot"])


@dataclass(frozen=True)
class Again:
    """A report made again: what it rests on, its figures, its pages by format, and the day of a daily one."""

    data: ReportData
    figures: dict[str, Any]
    pages: dict[str, str]
    day: Day | None


def again(ctx: Context, reported: Mapping[str, Any]) -> Again:
    """Count a report's figures and render its pages from the lake. Raises UsageError, LakeError."""
    templates = catalog.data_dir("reports")
    if reported["report"] == "daily":
        day = derive(ctx, dt.date.fromisoformat(reported["date"]))
        data = _as_reported(report_data(ctx, day), reported)
        return Again(data, summary(data), _pages(daily_view(data), templates, "daily"), day)
    window = Window(*(instant_of(t) for t in reported["window"]))
    found = postmortem_data(ctx, int(reported["issue"]), window if reported["by_window"] else None)
    told = replace(found, base=_as_reported(found.base, reported), revision=int(reported["revision"]))
    pages = _pages(postmortem_view(told), templates, "postmortem")
    return Again(told.base, postmortem_summary(told), pages, None)


def _as_reported(data: ReportData, reported: Mapping[str, Any]) -> ReportData:
    """Take from the report what is no number: where its lake was, what its settings said and which rules were its own."""
    told = {k: reported["inputs"][k] for k in ("lake", "settings", "catalogue")}
    return replace(data, inputs={**data.inputs, **told}, changed_settings=list(reported["settings"]))


def _pages(view: Mapping[str, Any], templates: Path, report: str) -> dict[str, str]:
    return {
        "md": render.render_markdown(view, templates, report),
        "html": render.render_html(view, templates, report),
    }
