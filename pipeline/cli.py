"""The command `aislot`: parse, call one step, print, exit code. The only place that reads clock and environment."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from pipeline import __version__
from pipeline.errors import BUG, DONE, INCOMPLETE, INTERRUPTED, TERMINATED, TROUBLE, AislotError, UsageError, worst
from pipeline.terminal import NORMAL, QUIET, Terminal, shown

if TYPE_CHECKING:
    from pipeline.settings import Settings
    from pipeline.steps.context import Context
    from pipeline.steps.daily import DayRun
    from pipeline.steps.report import Report

NAME = "aislot"
_SETTINGS_FILE = "aislot.toml"
_DEBUG = 3
_FIRST_YEAR = 2014

app = typer.Typer(
    name=NAME,
    help="What really happened in the AI-slot build pipeline: pull logs and job history, compute, report.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
reports = typer.Typer(help="Write a report from the lake alone.", no_args_is_help=True, rich_markup_mode=None)
configs = typer.Typer(help="Show the settings.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(reports, name="report")
app.add_typer(configs, name="config")

Day = Annotated[str, typer.Option("--date", metavar="DATE", help="The UTC day, YYYY-MM-DD.")]
MaybeDay = Annotated[str | None, typer.Option("--date", metavar="DATE", help="The UTC day, YYYY-MM-DD.")]
Formats = Annotated[str, typer.Option("--format", help="Which files to write: md, html, json, comma-separated.")]
Lang = Annotated[str | None, typer.Option("--lang", help="Language of the report: en.")]
Out = Annotated[str | None, typer.Option("--out", metavar="DIR", help="Where reports go (report.out).")]
LakeUri = Annotated[str | None, typer.Option("--lake", metavar="URI", help="The lake (lake.uri).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
FailOn = Annotated[
    str | None, typer.Option("--fail-on", help="Exit 10 for this verdict or a worse one: amber, grey or red.")
]
MaxRuntime = Annotated[
    str | None,
    typer.Option("--max-runtime", metavar="TIME", help="Stop in a resumable state after, e.g., 45m (exit 4)."),
]


@dataclass(frozen=True)
class Options:
    """What stands before the command."""

    config: str | None
    level: int
    terminal: Terminal

    def settings(self, flags: dict[str, Any]) -> Settings:
        """Read the settings: file, environment, flags. Raises UsageError."""
        from pipeline import settings as config

        path = Path(self.config or _SETTINGS_FILE)
        try:
            text = path.read_text(encoding="utf-8") if self.config or path.exists() else None
        except (OSError, UnicodeDecodeError) as e:
            raise UsageError(f"{path} cannot be read: {type(e).__name__}", "correct --config") from e
        return config.load(text, str(path), os.environ, flags)

    def context(self, flags: dict[str, Any], max_runtime: str | None = None) -> Context:
        """Open the lake and everything that a step needs. Raises UsageError, LakeError."""
        from pipeline.steps.context import open_context

        return open_context(
            self.settings(flags), time.time_ns(), self.terminal.say, _remaining(max_runtime), f"{NAME} {__version__}"
        )


def _for_bulk() -> None:
    """Suit a command through which millions of rows go: what it was started with is never garbage, rows seldom are.

    Measured: a ninth of the CPU less. Arrow's own threads would only take turns with those that wait for the server.
    """
    import gc

    import pyarrow as pa

    gc.freeze()
    gc.set_threshold(200_000, 20, 100)
    pa.set_cpu_count(1)


def _remaining(max_runtime: str | None) -> Callable[[], float] | None:
    if max_runtime is None:
        return None
    from pipeline.settings import parse_duration

    try:
        end = time.monotonic() + parse_duration(max_runtime)
    except ValueError as e:
        raise UsageError(f"--max-runtime: {e}", "correct it") from e
    return lambda: end - time.monotonic()


def _version(value: bool) -> None:
    if value:
        typer.echo(f"{NAME} {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    ctx: typer.Context,
    config: Annotated[
        str | None,
        typer.Option("--config", metavar="FILE", help=f"Settings (default: {_SETTINGS_FILE} if it is there)."),
    ] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only errors and results.")] = False,
    verbose: Annotated[int, typer.Option("-v", "--verbose", count=True, help="Tell more; twice: still more.")] = 0,
    debug: Annotated[bool, typer.Option("--debug", help="Tell everything, with tracebacks.")] = False,
    _shown: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    level = _DEBUG if debug else QUIET if quiet else verbose or NORMAL
    ctx.obj = Options(config, level, _terminal(level))


def _terminal(level: int) -> Terminal:
    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return Terminal(sys.stderr, level, colour=colour)


@app.command()
def demo(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Option("--dir", metavar="DIR", help="Where everything goes.")] = Path("aislot-demo"),
) -> None:
    """Show a recorded incident, offline. kubectl's output, the lake and the report made of it go to DIR."""
    from pipeline.steps import demo as step

    options: Options = ctx.obj
    run = step.demo(folder.resolve(), time.time_ns(), options.terminal.say, f"{NAME} {__version__}")
    _told(options, run.report)
    typer.echo(str((run.report.folder / "report.html").resolve()))


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
    window = _window(context, date, since, until)
    _for_bulk()
    with context.lock():
        # the lock may have been waited for, and what a server shows of the past moves on
        results = step.pull(replace(context, now=time.time_ns()), window, what or step.WHAT)
    for failed in (r.error for r in results if r.error):
        options.terminal.error(failed)
    if as_json:
        _print([{"what": r.what, "source": r.source, "complete": r.complete, "rows": r.rows} for r in results])
    _exit(worst(step.exit_code(results), DONE if step.any_source(context) else INCOMPLETE))


@app.command()
def compute(ctx: typer.Context, date: Day, lake: LakeUri = None, as_json: AsJson = False) -> None:
    """Make a day's derived tables from the lake. A day that is pulled in part, or not over: exit 4."""
    from pipeline.schemas import DERIVED
    from pipeline.steps import compute as step

    options: Options = ctx.obj
    context = options.context({"lake.uri": lake})
    with context.lock():
        day = step.compute(context, _date(date))
    rows = {name: len(getattr(day, name)) for name in DERIVED}
    context.say(f"✓ compute {', '.join(f'{n} {k}' for k, n in rows.items())}; {day.verdict.verdict}")
    if as_json:
        _print({"date": date, "rows": rows, "complete": day.complete, "verdict": day.verdict.verdict})
    _exit(DONE if day.complete and day.window.end <= context.now else INCOMPLETE)


@reports.command("daily")
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
    _check_level(fail_on)
    context = options.context({"lake.uri": lake, "report.out": out, "report.lang": lang})
    report = step.report_daily(context, _date(date), [f.strip() for f in formats.split(",") if f.strip()])
    _told(options, report)
    _results(as_json, [report])
    _exit(worst(DONE if report.complete else INCOMPLETE, TROUBLE if fails(report.verdict, fail_on) else DONE))


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
    _check_level(fail_on)
    context = options.context({"lake.uri": lake, "report.out": out, "report.lang": lang}, max_runtime)
    wanted = [f.strip() for f in formats.split(",") if f.strip()]
    with context.lock():
        days = step.days_to_do(context, None if date is None else _date(date), catch_up)
        runs = step.daily(context, days, wanted, fail_on)
    for run in runs:
        _told_run(options, run)
    _results(as_json, [r.report for r in runs])
    _exit(step.exit_code(runs))


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
        _print({"lake": context.store.uri, "days": [d.to_json() for d in found]})
        return
    for line in (line for d in found for line in d.lines()):
        typer.echo(shown(line))


@configs.command("show")
def config_show(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Print every setting, its value and where it comes from. Secrets are masked."""
    options: Options = ctx.obj
    flat = options.settings({}).flat()
    if as_json:
        _print([{"key": k, "value": v, "from": where} for k, v, where in flat])
        return
    for key, value, where in flat:
        typer.echo(f"{key:<32} {json.dumps(value, ensure_ascii=False, default=str)}   # {where}")


def _told_run(options: Options, run: DayRun) -> None:
    for error in run.errors:
        options.terminal.error(error)
    _told(options, run.report)


def _told(options: Options, report: Report) -> None:
    options.terminal.verdict(report.verdict, f"{report.date} UTC · {report.sentence}", report.todo)


def _results(as_json: bool, found: list[Report]) -> None:
    if as_json:
        _print(
            [{"date": str(r.date), "verdict": r.verdict, "complete": r.complete, "dir": str(r.folder)} for r in found]
        )
        return
    for report in found:
        for path in report.files:
            typer.echo(str(path))


def _window(context: Context, date: str | None, since: str | None, until: str | None) -> Any:
    from pipeline.model import NS, Window, instant_of

    if date is not None:
        if since is not None or until is not None:
            raise UsageError("--date and --since/--until exclude each other", "give one of them")
        day = context.check_day(_date(date))
        return Window(day.start, min(day.end, context.now))
    try:
        end = context.now if until is None else instant_of(until)
        start = end - 2 * 3600 * NS if since is None else instant_of(since)
    except ValueError as e:
        raise UsageError(f"--since/--until: {e}", "write an instant as 2026-02-26T09:00:00Z") from e
    if start >= end:
        raise UsageError("--since must lie before --until", "swap them")
    if start >= context.now:
        raise UsageError("that window is in the future", "name one that has begun")
    return Window(start, min(end, context.now))


def _date(text: str) -> dt.date:
    try:
        day = dt.date.fromisoformat(text)
    except ValueError as e:
        raise UsageError(f"--date {text!r} is not a day", "write it as 2026-02-26") from e
    if day.year < _FIRST_YEAR:
        raise UsageError(f"--date {text} is before there was any Kubernetes", "write it as 2026-02-26")
    return day


def _check_level(fail_on: str | None) -> None:
    if fail_on not in {None, "amber", "grey", "red"}:
        raise UsageError(f"--fail-on {fail_on!r} is no verdict", "choose amber, grey or red")


def _print(value: Any) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False, indent=1))


def _exit(code: int) -> None:
    if code:
        raise typer.Exit(code)


def main() -> NoReturn:
    """Run `aislot`; every error ends with its exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stopped)
    debug = "--debug" in sys.argv
    try:
        app()
    except AislotError as e:
        if debug:
            traceback.print_exc()
        _terminal(NORMAL).error(e)
        sys.exit(e.exit_code)
    except Exception as e:  # noqa: BLE001 - the last resort: a bug, said in one line
        if debug:
            traceback.print_exc()
        said = "" if debug else " (run it with --debug before the command to see where)"
        print(f"error: this is a bug in {NAME}: {type(e).__name__}{said}", file=sys.stderr)
        sys.exit(BUG)
    sys.exit(DONE)


def _stopped(number: int, _frame: object) -> NoReturn:
    """End at once: an exception could be swallowed where it is raised, and the lake is safe even from a kill."""
    word, code = ("interrupted", INTERRUPTED) if number == signal.SIGINT else ("terminated", TERMINATED)
    os.write(2, f"\n{word}: what was written is whole; run the same command again and it goes on\n".encode())
    os._exit(code)
