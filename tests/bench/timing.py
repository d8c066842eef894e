"""What a command takes: wall time, CPU and peak memory of its process and its children."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MEASURES = ("wall_s", "cpu_s", "rss_mb")


@dataclass(frozen=True)
class Run:
    """One run of one process and its children."""

    wall_s: float
    cpu_s: float
    rss_mb: float

    def __str__(self) -> str:
        return f"{self.wall_s:6.1f} s wall  {self.cpu_s:6.1f} s CPU  {self.rss_mb:5.0f} MB"


def timed(command: Sequence[str], cwd: Path, env: Mapping[str, str]) -> Run:
    """Run a command to its end and say what it took."""
    began = time.monotonic()
    with (cwd / "said").open("wb") as said:
        child = subprocess.Popen(command, cwd=cwd, env=env, stdout=said, stderr=said)
        _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    wall = time.monotonic() - began
    if child.returncode:
        raise SystemExit(f"{command[0]} ended with {child.returncode}: {(cwd / 'said').read_text()[-2000:]}")
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def median(runs: Sequence[Run], measure: str) -> float:
    """Return the median of one measure of several runs."""
    return float(statistics.median(getattr(r, measure) for r in runs))
