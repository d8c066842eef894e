"""Section 13: what later data changed of earlier days, after their reports were made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.report.data import HEADLINE, ReportData
from pipeline.report.rich import code, say
from pipeline.report.text import count

_FIGURES = ("started", "finished", "failed", "manifest_unknown_lines", "cache_retrieval_lines", "build_ref_lines")


def section(data: ReportData) -> dict[str, Any]:
    """Return the section: `note`, `nothing`, `rows`."""
    rows = [row for r in data.restatements for row in _rows(data, r)]
    form = data.words.of("restated")
    return {"note": "", "nothing": None if rows else say(form["nothing"]), "rows": rows}


def _rows(data: ReportData, r: Mapping[str, Any]) -> list[dict[str, Any]]:
    form = data.words.of("restated")
    why = form["late"].format(n=count(r["late"])) if r["late"] else form["ended"]
    groups = [HEADLINE, *(g for g in r["is"] if g not in {HEADLINE, "all", "build", "mirror"})]
    return [
        {
            "date": r["date"],
            "what": say("{group} {figure}", group=group, figure=code(figure)),
            "was": count(r["was"].get(group, {}).get(figure)),
            "is": count(r["is"].get(group, {}).get(figure)),
            "why": why,
        }
        for group in groups
        for figure in _FIGURES
        if r["was"].get(group, {}).get(figure) != r["is"].get(group, {}).get(figure)
    ]
