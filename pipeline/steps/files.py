"""Files of reports: put in place together, or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.errors import LakeError


def put(texts: Mapping[Path, str | bytes]) -> None:
    """Replace files once all of them are written: a reader meets one report, not parts of two."""
    mark = secrets.token_hex(4)
    temporary = {path: path.with_name(f".{path.name}.{mark}") for path in texts}
    try:
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary[path].write_bytes(text.encode() if isinstance(text, str) else text)
        for path, made in temporary.items():
            made.replace(path)
    finally:
        for made in temporary.values():
            made.unlink(missing_ok=True)


def link_latest(out: Path) -> None:
    """Let `latest` point at the newest day, by a relative link so that the folder can be moved."""
    newest = max(p.name for p in (out / "daily").iterdir() if p.is_dir())
    link, made = out / "latest", out / f".latest.{secrets.token_hex(4)}"
    made.symlink_to(Path("daily") / newest, target_is_directory=True)
    made.replace(link)


@contextlib.contextmanager
def told(out: str) -> Iterator[None]:
    """Say in a LakeError what became of a report that could not be written."""
    try:
        yield
    except OSError as e:
        why = os.strerror(e.errno) if e.errno else str(e)
        raise LakeError(
            f"the report cannot be written below {out}: {why}",
            "free some space, or set report.out (or --out) to a folder that can be written",
            "the lake is whole; earlier reports stand",
        ) from e
