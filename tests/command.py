"""Runs `aislot` as a user does: a process of its own, in a folder of its own, with an environment of its own."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

_KEPT = ("PATH", "HOME", "TMPDIR", "LANG", "SYSTEMROOT")


def aislot(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, timeout: float = 240
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end; nothing of this process's settings reaches it."""
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments],
        cwd=cwd,
        env=environment(env),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the little that a scheduler gives, and what a test adds."""
    return {k: os.environ[k] for k in _KEPT if k in os.environ} | dict(more or {})


def digests(folder: Path, pattern: str = "*/date=*/*.parquet") -> dict[str, str]:
    """Return the hash of every data file of a lake, by its relative name."""
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.glob(pattern))
    }
