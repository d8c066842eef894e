"""The benchmark of `compute` measures what it says: its lake is a platform's, and DuckDB's golden is ours."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline import schemas
from pipeline.model import Window
from pipeline.steps import compute as step
from tests import small_lake
from tests.bench import compute, duck
from tests.bench import lake as synthetic
from tests.bench.compute import differences
from tests.bench.lines import DATE
from tests.bench.platform import jobs

DAY = Window.of_day(DATE)
ATTEMPTS = 500


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a lake of a day, computed, with DuckDB's table beside it."""
    lake = tmp_path_factory.mktemp("bench") / "lake"
    assert synthetic.make(str(lake), DATE, 1, 24_000, ATTEMPTS) == 24_000
    step.compute(small_lake.lake(lake), DATE)
    duck.main(str(lake), str(DATE), str(lake.parent / "golden.parquet"))
    return lake


def test_duckdb_and_compute_make_the_same_golden(made: Path) -> None:
    assert compute.compare(made) == []


def test_its_attempts_end_in_every_way_that_a_platform_s_do(made: Path) -> None:
    rows = small_lake.rows(small_lake.lake(made), "attempts")
    told = Counter((r["kind"], r["outcome"]) for r in rows)
    assert {(k, o) for k in ("build", "mirror", "codegen-check") for o in ("succeeded", "failed")} <= told.keys()
    assert {r["outcome_source"] for r in rows if r["outcome"] == "failed"} == {"sample", "line"}
    assert {r["source"] for r in rows} == {"prometheus", "logs"}
    assert max(r["attempt"] for r in rows) > 1
    failed = sum(r["outcome"] == "failed" for r in rows)
    assert 0.05 < failed / len(rows) < 0.2
    assert len(rows) == pytest.approx(ATTEMPTS, rel=0.2)


def test_every_failure_of_the_day_is_found(made: Path) -> None:
    truth = Counter(j.name for j in jobs(DAY, ATTEMPTS) if j.cause and j.stopped in DAY)
    rows = small_lake.rows(small_lake.lake(made), "failures")
    assert Counter(r["job_name"] for r in rows) == truth
    assert truth.total() > 20


def test_incidents_of_both_classes_and_other_failures(made: Path) -> None:
    rows = small_lake.rows(small_lake.lake(made), "failures")
    assert {"cache", "build-ref", "other"} == {r["class"] for r in rows}
    assert {"cache", "build-ref"} == {r["class"] for r in small_lake.rows(small_lake.lake(made), "incidents")}


def test_differences_are_named() -> None:
    spec = schemas.TABLES["golden"]
    row = dict.fromkeys(spec.columns) | {"window": "1h", "kind": "build", "started": 3, "duration_p50_s": 0.1 + 0.2}
    row["window_start"] = DAY.start

    def table(*rows: dict[str, object]) -> pa.Table:
        return pa.Table.from_pylist(list(rows), schema=spec.schema)

    key = (table(row)["window_start"][0].as_py(), "1h", "build")
    cases = [
        ([row], [row], []),
        ([row], [row | {"duration_p50_s": 0.3}], []),
        ([row], [row | {"started": 4}], [f"{key}: started: aislot 3, DuckDB 4"]),
        ([row], [row | {"started": None}], [f"{key}: started: aislot 3, DuckDB None"]),
        ([row], [row | {"duration_p50_s": 0.31}], [f"{key}: duration_p50_s: aislot {0.1 + 0.2}, DuckDB 0.31"]),
        ([row], [], [f"{key}: only aislot has it"]),
        ([], [row], [f"{key}: only DuckDB has it"]),
    ]
    for ours, theirs, expected in cases:
        assert list(differences(table(*ours), table(*theirs))) == expected
