"""Summaries of the invented days and of the invented postmortem, as they are read from a folder; comments made of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache, partial
from typing import Any

from pipeline import catalog
from pipeline.report.comment import LIMIT, Comment, compose
from pipeline.report.comment_view import comment_view
from pipeline.report.postmortem.summary import postmortem_summary
from pipeline.report.render import render_markdown, render_summary
from pipeline.report.view import summary
from pipeline.steps.vocabulary import words
from tests.postmortem_data import told
from tests.report_data import DAYS

Summary = dict[str, Any]
_RENDER = partial(render_markdown, templates=catalog.data_dir("reports"), report="comment")


def comment(of: Mapping[str, Any], limit: int = LIMIT) -> Comment:
    """Make the comment of a summary."""
    said = comment_view(of, words(of.get("lang") or "en"))
    return compose(said.kind, said.key, said.view, _RENDER, limit)


def daily(day: str = "red") -> Summary:
    """Return the summary of one of the invented days."""
    return dict(json.loads(_daily(day)))


def postmortem(lang: str = "en", **more: Any) -> Summary:
    """Return the summary of the invented postmortem, with some of it replaced."""
    return {**json.loads(_postmortem(lang)), **more}


@cache
def _daily(day: str) -> str:
    return render_summary(summary(DAYS[day]()))


@cache
def _postmortem(lang: str) -> str:
    return render_summary(postmortem_summary(told(lang=lang)))
