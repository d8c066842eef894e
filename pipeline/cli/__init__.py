"""The command `aislot`: parse, call one step, print, exit code."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from typing import Annotated, NoReturn

import typer

from pipeline import __version__
from pipeline.cli import lake, publish, reports
from pipeline.cli.shared import NAME, SETTINGS_FILE, AsJson, Options, app, config_app, print_json, terminal
from pipeline.errors import BUG, DONE, INTERRUPTED, TERMINATED, AislotError
from pipeline.terminal import NORMAL, QUIET

__all__ = ["app", "lake", "main", "publish", "reports"]  # the commands register themselves

_DEBUG = 3


def _version(value: bool) -> None:
    if value:
        typer.echo(f"{NAME} {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    ctx: typer.Context,
    config: Annotated[
        str | None,
        typer.Option("--config", metavar="FILE", help=f"Settings (default: {SETTINGS_FILE} if it is there)."),
    ] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only errors and results.")] = False,
    verbose: Annotated[int, typer.Option("-v", "--verbose", count=True, help="Tell more; twice: still more.")] = 0,
    debug: Annotated[bool, typer.Option("--debug", help="Tell everything, with tracebacks.")] = False,
    _shown: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    level = _DEBUG if debug else QUIET if quiet else verbose or NORMAL
    ctx.obj = Options(config, level, terminal(level))


@config_app.command("show")
def config_show(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Print every setting, its value and where it comes from. Secrets are masked."""
    options: Options = ctx.obj
    flat = options.settings({}).flat()
    if as_json:
        print_json([{"key": k, "value": v, "from": where} for k, v, where in flat])
        return
    for key, value, where in flat:
        typer.echo(f"{key:<32} {json.dumps(value, ensure_ascii=False, default=str)}   # {where}")


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
        terminal(NORMAL).error(e)
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
