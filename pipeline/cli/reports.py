"""Commands that write reports from the lake."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from pipeline import __version__
from pipeline.cli.shared import (
    NAME,
    AsJson,
    Day,
    FailOn,
    Formats,
    LakeUri,
    Lang,
    Options,
    Out,
    app,
    check_level,
    end,
    print_results,
    report_app,
    say_report,
    to_date,
)
from pipeline.errors import DONE, INCOMPLETE, TROUBLE, worst


@app.command()
def demo(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Option("--dir", metavar="DIR", help="Where everything goes.")] = Path("aislot-demo"),
) -> None:
    """Show a recorded incident, offline. kubectl's output, the lake and the report made of it go to DIR."""
    from pipeline.steps import demo as step

    options: Options = ctx.obj
    run = step.demo(folder.resolve(), time.time_ns(), options.terminal.say, f"{NAME} {__version__}")
    say_report(options, run.report)
    typer.echo(str((run.report.folder / "report.html").resolve()))


@report_app.command("daily")
def report_daily(
    ctx: typer.Context,
    date: Day,
    lang: Lang = None,
    formats: Formats = "md,html,json",
    out: Out = None,
    lake: LakeUri = None,
    fail_on: FailOn = None,
    as_json: AsJson = False,
) -> None:
    """Write a day's report. It goes to OUT/daily/DATE: report.md, report.html, summary.json."""
    from pipeline.steps import report as step
    from pipeline.steps.daily import fails

    options: Options = ctx.obj
    check_level(fail_on)
    context = options.context({"lake.uri": lake, "report.out": out, "report.lang": lang})
    report = step.report_daily(context, to_date(date), [f.strip() for f in formats.split(",") if f.strip()])
    say_report(options, report)
    print_results(as_json, [report])
    end(worst(DONE if report.complete else INCOMPLETE, TROUBLE if fails(report.verdict, fail_on) else DONE))
