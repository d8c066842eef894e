"""Commands that write reports from the lake."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline import __version__
from pipeline.cli.shared import (
    NAME,
    AsJson,
    Bundle,
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
    print_json,
    print_results,
    report_app,
    say_report,
    to_date,
    to_window,
)
from pipeline.errors import DONE, INCOMPLETE, TROUBLE, UsageError, worst
from pipeline.terminal import shown

if TYPE_CHECKING:
    from pipeline.steps.context import Context


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


def _wanted(formats: str, *, bundle: bool) -> list[str]:
    wanted = [f.strip() for f in formats.split(",") if f.strip()]
    if bundle and set(wanted) != {"md", "html", "json"}:
        raise UsageError("a bundle holds all three files of a report", "leave out --format, or --bundle")
    return wanted


def _bundled(context: Context, folder: Path) -> None:
    from pipeline.steps import bundle as step

    path = step.write(context, folder)
    context.say(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


@report_app.command("daily")
def report_daily(
    ctx: typer.Context,
    date: Day,
    lang: Lang = None,
    formats: Formats = "md,html,json",
    out: Out = None,
    lake: LakeUri = None,
    bundle: Bundle = False,
    fail_on: FailOn = None,
    as_json: AsJson = False,
) -> None:
    """Write a day's report. It goes to OUT/daily/DATE: report.md, report.html, summary.json."""
    from pipeline.steps import report as step
    from pipeline.steps.daily import fails

    options: Options = ctx.obj
    check_level(fail_on)
    context = options.context({"lake.uri": lake, "report.out": out, "report.lang": lang})
    wanted = _wanted(formats, bundle=bundle)
    report = step.report_daily(context, to_date(date), wanted)
    if bundle:
        _bundled(context, report.folder)
    say_report(options, report)
    print_results(as_json, [report])
    end(worst(DONE if report.complete else INCOMPLETE, TROUBLE if fails(report.verdict, fail_on) else DONE))


@report_app.command("postmortem")
def report_postmortem(
    ctx: typer.Context,
    issue: Annotated[int, typer.Option("--issue", min=1, metavar="N", help="The issue, by its number.")],
    since: Annotated[str | None, typer.Option(help="Start, RFC 3339; default: what its incidents reach.")] = None,
    until: Annotated[str | None, typer.Option(help="End, not included.")] = None,
    lang: Lang = None,
    formats: Formats = "md,html,json",
    out: Out = None,
    lake: LakeUri = None,
    bundle: Bundle = False,
    as_json: AsJson = False,
) -> None:
    """Write the evidence on an issue, below OUT/postmortem/N."""
    from pipeline.steps import postmortem as step

    options: Options = ctx.obj
    context = options.context({"lake.uri": lake, "report.out": out, "report.lang": lang})
    if bool(since) != bool(until):
        raise UsageError("--since and --until come together", "give both of them, or neither")
    window = to_window(context, None, since, until) if since else None
    made = step.report_postmortem(context, issue, window, _wanted(formats, bundle=bundle))
    if bundle:
        _bundled(context, made.folder)
    context.say(f"{made.state}, revision {made.revision}: {made.sentence}")
    if as_json:
        print_json({"issue": made.issue, "state": made.state, "revision": made.revision, "dir": str(made.folder)})
    else:
        for path in made.files:
            typer.echo(str(path))
    end(DONE if made.complete else INCOMPLETE)


@app.command()
def verify(
    ctx: typer.Context,
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="The folder of a report, or an evidence.zip.")],
    lake: LakeUri = None,
    as_json: AsJson = False,
) -> None:
    """Count a report's numbers again; exit 10 if any differs."""
    from pipeline.steps import verify as step

    options: Options = ctx.obj
    found = step.verify(target, lake, options.terminal.say)
    if as_json:
        print_json({"equal": not found, "differences": [asdict(d) for d in found]})
    else:
        for d in found:
            typer.echo(shown(f"{d.file}: {d.key or 'the file'}: reported {d.reported!r}, counted {d.counted!r}"))
        if not found:
            typer.echo(f"{target}: every number and every page is what its lake gives")
    end(TROUBLE if found else DONE)


@app.command()
def explain(
    ctx: typer.Context,
    figure: Annotated[str, typer.Argument(metavar="ID", help="A figure's id: the anchor of its row in the page.")],
    date: Day,
    lake: LakeUri = None,
    as_json: AsJson = False,
) -> None:
    """Say what a figure of a day's page is and show its rows."""
    from pipeline.steps import explain as step

    options: Options = ctx.obj
    found = step.explain(options.context({"lake.uri": lake}), to_date(date), figure)
    if as_json:
        print_json(step.as_json(found))
        return
    for line in step.lines(found):
        typer.echo(shown(line))
