"""The dump that `aislot demo` carries: one recorded day with an incident like issue #205's, packed.

`python -m tests.world.demo FILE.zip` writes it; the same bytes each time.
"""

from __future__ import annotations

import sys
import tempfile
import zipfile
from pathlib import Path

from tests.world.world import World

_DATE = (1980, 1, 1, 0, 0, 0)  # the oldest that a zip can hold
_TROUBLES = (
    ("-00:03:20", "slow-build"),
    ("04:40", "build-deadline"),
    ("07:41", "build"),
    ("16:18", "codegen"),
    ("19:21", "mirror"),
    ("23:57:10", "slow-build"),
)


def world() -> World:
    """Make the demo's world: a small one, its cache and build-ref incidents and a few failures without a signature."""
    return World.make(
        seed=DEMO_SEED,
        runs=10,
        images=(4, 5, 2, 0),
        before_h=2,
        after_h=1.5,
        cache=("09:06", "09:42"),
        build_ref=("13:41", "14:01"),
        gaps=(),
        hostile=False,
        idle_s=300,
        incident_run_s=(440, 600),
        troubles=_TROUBLES,
    )


DEMO_SEED = 234


def pack(folder: Path, target: Path) -> None:
    """Pack a folder into a zip that depends on nothing but its files: sorted names, one date, one way of compression."""
    with zipfile.ZipFile(target, "w") as packed:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _DATE)
            entry.compress_type, entry.create_system, entry.external_attr = zipfile.ZIP_DEFLATED, 3, 0o644 << 16
            packed.writestr(entry, path.read_bytes(), compresslevel=9)


def main(target: Path) -> None:
    """Write the demo's dump."""
    with tempfile.TemporaryDirectory() as folder:
        pack(world().dump(Path(folder)), target)
    sys.stdout.write(f"{target}: {target.stat().st_size:,} bytes\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
