"""What the commands share: settings and lake behind the options before a command, its flags, how it prints and ends.

The only place that reads clock and environment.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline import __version__
from pipeline.errors import UsageError
from pipeline.terminal import Terminal

if TYPE_CHECKING:
    from pipeline.settings import Settings
    from pipeline.steps.context import Context
    from pipeline.steps.daily import DayRun
    from pipeline.steps.report import Report

NAME = "aislot"
SETTINGS_FILE = "aislot.toml"
_FIRST_YEAR = 2014

app = typer.Typer(
    name=NAME,
    help="What really happened in the AI-slot build pipeline: pull logs and job history, compute, report.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
report_app = typer.Typer(help="Write a report from the lake alone.", no_args_is_help=True, rich_markup_mode=None)
config_app = typer.Typer(help="Show the settings.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(report_app, name="report")
app.add_typer(config_app, name="config")

Day = Annotated[str, typer.Option("--date", metavar="DATE", help="The UTC day, YYYY-MM-DD.")]
MaybeDay = Annotated[str | None, typer.Option("--date", metavar="DATE", help="The UTC day, YYYY-MM-DD.")]
Formats = Annotated[str, typer.Option("--format", help="Which files to write: md, html, json, comma-separated.")]
Lang = Annotated[str | None, typer.Option("--lang", help="Language of the report: en or ru.")]
Out = Annotated[str | None, typer.Option("--out", metavar="DIR", help="Where reports go (report.out).")]
LakeUri = Annotated[str | None, typer.Option("--lake", metavar="URI", help="The lake (lake.uri).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
FailOn = Annotated[
    str | None, typer.Option("--fail-on", help="Exit 10 for this verdict or a worse one: amber, grey or red.")
]
Bundle = Annotated[bool, typer.Option("--bundle", help="Also write evidence.zip: all that the report rests on.")]
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

        path = Path(self.config or SETTINGS_FILE)
        try:
            text = path.read_text(encoding="utf-8") if self.config or path.exists() else None
        except (OSError, UnicodeDecodeError) as e:
            raise UsageError(f"{path} cannot be read: {type(e).__name__}", "correct --config") from e
        return config.load(text, str(path), os.environ, flags)

    def context(self, flags: dict[str, Any], max_runtime: str | None = None) -> Context:
        """Open the lake and everything that a step needs. Raises UsageError, LakeError."""
        from pipeline.steps.context import open_context

        return open_context(
            self.settings(flags), time.time_ns(), self.terminal.say, remaining(max_runtime), f"{NAME} {__version__}"
        )


def remaining(max_runtime: str | None) -> Callable[[], float] | None:
    """Return how many seconds are left of `--max-runtime`. Raises UsageError."""
    if max_runtime is None:
        return None
    from pipeline.settings import parse_duration

    try:
        end = time.monotonic() + parse_duration(max_runtime)
    except ValueError as e:
        raise UsageError(f"--max-runtime: {e}", "correct it") from e
    return lambda: end - time.monotonic()


def terminal(level: int) -> Terminal:
    """Return what talks to people on stderr."""
    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return Terminal(sys.stderr, level, colour=colour)


def say_run(options: Options, run: DayRun) -> None:
    """Tell how a day of the scheduled job went."""
    for error in run.errors:
        options.terminal.error(error)
    say_report(options, run.report)


def say_report(options: Options, report: Report) -> None:
    """Tell the verdict of a report and what is to be done."""
    options.terminal.verdict(report.verdict, f"{report.date} UTC · {report.sentence}", report.todo)


def print_results(as_json: bool, found: list[Report]) -> None:
    """Print where reports were written."""
    if as_json:
        print_json(
            [{"date": str(r.date), "verdict": r.verdict, "complete": r.complete, "dir": str(r.folder)} for r in found]
        )
        return
    for report in found:
        for path in report.files:
            typer.echo(str(path))


def to_window(context: Context, date: str | None, since: str | None, until: str | None) -> Any:
    """Return the window that was asked for. Raises UsageError."""
    from pipeline.model import NS, Window, instant_of

    if date is not None:
        if since is not None or until is not None:
            raise UsageError("--date and --since/--until exclude each other", "give one of them")
        day = context.check_day(to_date(date))
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


def to_date(text: str) -> dt.date:
    """Read a day. Raises UsageError."""
    try:
        day = dt.date.fromisoformat(text)
    except ValueError as e:
        raise UsageError(f"--date {text!r} is not a day", "write it as 2026-02-26") from e
    if day.year < _FIRST_YEAR:
        raise UsageError(f"--date {text} is before there was any Kubernetes", "write it as 2026-02-26")
    return day


def check_level(fail_on: str | None) -> None:
    """Refuse a verdict that there is none of. Raises UsageError."""
    if fail_on not in {None, "amber", "grey", "red"}:
        raise UsageError(f"--fail-on {fail_on!r} is no verdict", "choose amber, grey or red")


def print_json(value: Any) -> None:
    """Print a result as JSON."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=1))


def end(code: int) -> None:
    """End with an exit code."""
    if code:
        raise typer.Exit(code)
