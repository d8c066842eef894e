"""GitHub -> `issue_runs`: which run belongs to which issue."""

from __future__ import annotations

from pipeline.model import PullRecord, Window, instant_text
from pipeline.sources.github import GitHub, issue_runs
from pipeline.steps.context import Context
from pipeline.steps.pull_dump import keep_links


def issues(ctx: Context, window: Window) -> list[PullRecord]:
    """Pull the comments that changed since the window's start, however much later they did."""
    settings = ctx.settings.github
    server = GitHub(ctx.github(), settings.repository)
    found = server.comments(instant_text(window.start))
    table, counts = issue_runs(found.found, settings.repository, settings.login or server.login())
    return keep_links(ctx, window, found.found, table, dict(counts) | {"method": "comments", "pages": found.pages})
