"""The embedded example: a recorded incident like issue #205's, from kubectl dumps to the report, offline."""

from __future__ import annotations

import datetime as dt
import io
import os
import zipfile
from importlib import resources
from pathlib import Path

from pipeline import settings as config
from pipeline.errors import LakeError, UsageError
from pipeline.steps.context import Context, Say, open_context
from pipeline.steps.daily import DayRun, daily

DATE = dt.date(2026, 2, 26)


def settings(folder: Path) -> config.Settings:
    """Return the demo's settings: the dump stands in for every server, and nothing outside `folder` is used."""
    flags = {
        "kubernetes.dump": str(folder / "dump"),
        "lake.uri": str(folder / "lake"),
        "report.out": str(folder / "out"),
    }
    return config.load(None, "the demo", {}, flags)


def unpack(folder: Path) -> list[Path]:
    """Write the embedded dump to `folder/dump`. Raises UsageError beside a lake of somebody else's, LakeError."""
    if (folder / "lake").exists() and not (folder / "dump").exists():
        raise UsageError(f"{folder} holds a lake that is not the demo's", "name another folder with --dir")
    data = resources.files("pipeline").joinpath("_demo/dump.zip").read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            packed.extractall(folder / "dump")
            return [folder / "dump" / n for n in packed.namelist()]
    except OSError as e:
        why = os.strerror(e.errno) if e.errno else str(e)
        raise LakeError(f"{folder} cannot be written: {why}", "name another folder with --dir") from e


def demo(folder: Path, now: int, say: Say, written_by: str) -> DayRun:
    """Unpack the dump, pull, compute and report its day. Raises LakeError."""
    files = unpack(folder)
    say(f"✓ dump    {len(files)} files of kubectl output in {folder / 'dump'}")
    ctx: Context = open_context(settings(folder), now, say, written_by=written_by)
    with ctx.store.lock(10.0, say):
        return daily(ctx, [DATE])[0]
