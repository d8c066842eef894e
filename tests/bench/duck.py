"""Runs `golden.sql` on a lake in DuckDB: `python -m tests.bench.duck LAKE DATE OUT`."""

from __future__ import annotations

import sys
from pathlib import Path

import duckdb


def main(lake: str, date: str, out: str) -> None:
    """Write `golden` of a day to a Parquet file."""
    with duckdb.connect() as db:
        for name, value in (("lake", lake), ("date", date)):
            db.execute(f"set variable {name} = ?", [value])
        db.execute((Path(__file__).parent / "golden.sql").read_text())
        db.table("golden").write_parquet(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
