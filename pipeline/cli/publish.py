"""The command that writes a report's comment on an issue."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.shared import AsJson, Options, app, print_json


@app.command()
def publish(
    ctx: typer.Context,
    issue: Annotated[int, typer.Option("--issue", metavar="N", min=1, help="The issue to comment on.")],
    report: Annotated[
        Path | None, typer.Option("--report", metavar="DIR", help="The report's folder (OUT/postmortem/N).")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would change, and write nothing.")] = False,
    allow_public: Annotated[
        bool, typer.Option("--allow-public", help="Write in a repository that everyone can read.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Create or update one comment on an issue from a report."""
    from pipeline.steps import publish as step

    options: Options = ctx.obj
    context = options.context({})
    folder = report or Path(context.settings.report.out) / "postmortem" / str(issue)
    done = step.publish(
        context,
        issue,
        folder,
        dry_run=dry_run,
        allow_public=allow_public,
        clock=time.monotonic,
        sleep=time.sleep,
    )
    for name in done.dropped:
        options.terminal.say(f"left out for its size: {name}")
    if as_json:
        answer = {"action": done.action, "url": done.url, "bytes": done.size, "dropped": list(done.dropped)}
        print_json(answer | {"deleted": done.deleted} | ({"diff": done.diff} if dry_run else {}))
    else:
        for text in (done.diff, " ".join(t for t in (done.action, done.url) if t)):
            if text:
                typer.echo(text)
    if done.refused:
        raise done.refused
