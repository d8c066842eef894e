"""Commands that fill and read the lake: pull, compute, daily, status."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import Annotated

import typer

from pipeline.cli.shared import (
    AsJson,
    Day,
    FailOn,
    Formats,
    LakeUri,
    Lang,
    MaxRuntime,
    MaybeDay,
    Options,
    Out,
    app,
    check_level,
    end,
    print_json,
    print_results,
    say_run,
    to_date,
    to_window,
)
from pipeline.errors import DONE, INCOMPLETE, worst
from pipeline.terminal import shown


def _for_bulk() -> None:
    """Suit a command through which millions of rows go: what it was started with is never garbage, rows seldom are.

    Measured: a ninth of the CPU less. Arrow's own threads would only take turns with those that wait for the server.
    """
    import gc

    import pyarrow as pa

    gc.freeze()
    gc.set_threshold(200_000, 20, 100)
    pa.set_cpu_count(1)


@app.command()
def pull(
    ctx: typer.Context,
    what: Annotated[
        list[str] | None,
        typer.Argument(metavar="[logs|jobs|alerts|events|issues]...", help="What to pull; nothing: all."),
    ] = None,
    date: MaybeDay = None,
    since: Annotated[str | None, typer.Option(help="Start, RFC 3339; without a zone it is UTC.")] = None,
    until: Annotated[str | None, typer.Option(help="End, not included; default: now.")] = None,
    lake: LakeUri = None,
    max_runtime: MaxRuntime = None,
    as_json: AsJson = False,
) -> None:
    """Pull sources into the lake: idempotent, resumable, verified. Without dates: the last two hours."""
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # Arrow's own keeps what it once had: 40 MB more
    from pipeline.steps import pull as step

    options: Options = ctx.obj
    context = options.context({"lake.uri": lake}, max_runtime)
    window = to_window(context, date, since, until)
    _for_bulk()
    with context.lock():
        # the lock may have been waited for, and what a server shows of the past moves on
        results = step.pull(replace(context, now=time.time_ns()), window, what or step.WHAT)
    for failed in (r.error for r in results if r.error):
        options.terminal.error(failed)
    if as_json:
        print_json([{"what": r.what, "source": r.source, "complete": r.complete, "rows": r.rows} for r in results])
    end(worst(step.exit_code(results), DONE if step.any_source(context) else INCOMPLETE))


@app.command()
def compute(ctx: typer.Context, date: Day, lake: LakeUri = None, as_json: AsJson = False) -> None:
    """Make a day's derived tables from the lake. A day that is pulled in part, or not over: exit 4."""
    from pipeline.schemas import DERIVED
    from pipeline.steps import compute as step

    options: Options = ctx.obj
    context = options.context({"lake.uri": lake})
    with context.lock():
        day = step.compute(context, to_date(date))
    rows = {name: len(getattr(day, name)) for name in DERIVED}
    context.say(f"✓ compute {', '.join(f'{n} {k}' for k, n in rows.items())}; {day.verdict.verdict}")
    if as_json:
        print_json({"date": date, "rows": rows, "complete": day.complete, "verdict": day.verdict.verdict})
    end(DONE if day.complete and day.window.end <= context.now else INCOMPLETE)


@app.command()
def daily(
    ctx: typer.Context,
    date: MaybeDay = None,
    catch_up: Annotated[
        int | None, typer.Option("--catch-up", min=0, max=366, help="How many missed days to do first (default 7).")
    ] = None,
    formats: Formats = "md,html,json",
    lang: Lang = None,
    out: Out = None,
    lake: LakeUri = None,
    fail_on: FailOn = None,
    max_runtime: MaxRuntime = None,
    as_json: AsJson = False,
) -> None:
    """Pull, compute and report a day (default: yesterday). Days that were missed come before it."""
    from pipeline.steps import daily as step

    options: Options = ctx.obj
    check_level(fail_on)
    context = options.context({"lake.uri": lake, "report.out": out, "report.lang": lang}, max_runtime)
    wanted = [f.strip() for f in formats.split(",") if f.strip()]
    with context.lock():
        days = step.days_to_do(context, None if date is None else to_date(date), catch_up)
        runs = step.daily(context, days, wanted, fail_on)
    for run in runs:
        say_run(options, run)
    print_results(as_json, [r.report for r in runs])
    end(step.exit_code(runs))


@app.command()
def status(
    ctx: typer.Context,
    days: Annotated[int, typer.Option("--days", min=1, max=3660, help="How many days, the newest first.")] = 7,
    lake: LakeUri = None,
    as_json: AsJson = False,
) -> None:
    """Show what the lake holds. Of each day: how each source is known to be complete."""
    from pipeline.steps import status as step

    options: Options = ctx.obj
    context = options.context({"lake.uri": lake})
    found = step.status(context, days)
    if as_json:
        print_json({"lake": context.store.uri, "days": [d.to_json() for d in found]})
        return
    for line in (line for d in found for line in d.lines()):
        typer.echo(shown(line))
