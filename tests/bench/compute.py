"""`aislot compute` beside a DuckDB script that makes the same `golden` from the same Parquet, in alternating runs.

`python -m tests.bench.compute`: a synthetic day (or a week of it) is written as pulls leave it; both tables must be equal,
and computing twice must leave every file as it was.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import schemas
from pipeline.lake.store import Store
from pipeline.lake.tables import Tables
from pipeline.model import Window
from tests.bench.lines import DATE
from tests.bench.timing import MEASURES, Run, median, timed
from tests.command import digests, environment

_ROOT = Path(__file__).parents[2]
_KEY = ["window_start", "window", "kind"]
_EQUAL = 1e-12  # relative: two ways to interpolate differ in the last bit


def aislot(lake: Path) -> Run:
    """Compute the day."""
    return _timed(lake, "pipeline", "--debug", "compute", "--date", str(DATE), "--lake", str(lake))


def duckdb(lake: Path) -> Run:
    """Make `golden` of the day by SQL, into a file beside the lake."""
    return _timed(lake, "tests.bench.duck", str(lake), str(DATE), str(_theirs(lake)))


def _timed(lake: Path, module: str, *arguments: str) -> Run:
    command = [sys.executable, "-m", module, *arguments]
    return timed(command, lake.parent, environment({"PYTHONPATH": str(_ROOT)}))


def _theirs(lake: Path) -> Path:
    return lake.parent / "golden.parquet"


def differences(ours: pa.Table, theirs: pa.Table) -> Iterator[str]:
    """Say where two tables of `golden` differ, row by row and column by column."""
    rows = [{tuple(map(r.get, _KEY)): r for r in t.to_pylist()} for t in (ours, theirs)]
    for key in sorted(rows[0].keys() | rows[1].keys()):
        a, b = (r.get(key) for r in rows)
        if a is None or b is None:
            yield f"{key}: only {'DuckDB' if a is None else 'aislot'} has it"
            continue
        yield from (f"{key}: {c}: aislot {a[c]}, DuckDB {b[c]}" for c in ours.schema.names if not _equal(a[c], b[c]))


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=_EQUAL)
    return bool(a == b)


def compare(lake: Path) -> list[str]:
    """Return where the lake's `golden` and DuckDB's differ."""
    ours = Tables(Store(str(lake))).read("golden", Window.of_day(DATE))
    theirs = pq.read_table(_theirs(lake))
    at = theirs.schema.get_field_index("window_start")
    instants = theirs["window_start"].cast(ours.schema.field("window_start").type)
    return list(differences(ours, theirs.set_column(at, "window_start", instants)))


def prepare(lake: Path, days: int, lines: int, attempts: int) -> set[Path]:
    """Make the lake, in a process of its own as memory is measured; of a week compute the days before. Returns its files."""
    print(
        "lake   ",
        _timed(lake, "tests.bench.lake", str(lake), str(DATE), *map(str, (days, lines, attempts))),
        flush=True,
    )
    if days > 1:
        print("week   ", aislot(lake), flush=True)
        for file in lake.glob(f"[!_]*/date={DATE}/*.parquet"):
            if file.parent.parent.name in schemas.DERIVED:
                file.unlink()
    return set(lake.rglob("*"))


def main() -> None:
    """Make a lake, run both in turn, compare what they made, print each run and the ratios of the medians."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.compute", description=__doc__)
    parser.add_argument("--lines", type=int, default=10_000_000, help="of a day")
    parser.add_argument("--attempts", type=int, default=10_000, help="of a day")
    parser.add_argument("--days", type=int, default=1)
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aislot-bench-") as name:
        lake = Path(name) / "lake"
        pulled = prepare(lake, asked.days, asked.lines, asked.attempts)
        ours, theirs = [], []
        for _ in range(asked.runs):
            for file in (f for f in set(lake.rglob("*")) - pulled if f.is_file()):
                file.unlink()
            ours.append(aislot(lake))
            print("aislot ", ours[-1], flush=True)
            theirs.append(duckdb(lake))
            print("DuckDB ", theirs[-1], flush=True)
            if different := compare(lake):
                raise SystemExit("\n".join([f"{len(different)} figures differ", *different[:20]]))
        before = digests(lake, "**/*.*")
        print("again  ", aislot(lake), flush=True)
        if changed := sorted(set(before.items()) ^ set(digests(lake, "**/*.*").items())):
            raise SystemExit("computing again changed " + ", ".join(sorted({n for n, _ in changed})))
    for measure in MEASURES:
        print(f"{measure:<7} aislot / DuckDB {median(ours, measure) / median(theirs, measure):.2f}")


if __name__ == "__main__":
    main()
