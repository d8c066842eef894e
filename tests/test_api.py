"""A lake in Python: its tables by day; a day that it does not have is an error, not a day without rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import open_lake
from pipeline.errors import LakeError, UsageError
from pipeline.steps.compute import compute
from tests.lives import JOB, Life, said
from tests.small_lake import MANIFEST, SIGNED, lake, pulled
from tests.tables import DATE


@pytest.fixture
def held(tmp_path: Path) -> Path:
    """Compute a lake of one day with one failure."""
    told = [said("09:10:01", MANIFEST, JOB) | SIGNED]
    compute(pulled(lake(tmp_path), [Life("09:00:00", "09:10:00", "failed")], told), DATE)
    return tmp_path


def test_tables_are_read_by_day(held: Path) -> None:
    mine = open_lake(str(held))
    assert mine.days() == [DATE]
    assert mine.failures(DATE)["class"].tolist() == ["cache"]
    assert mine.failures("2026-02-20", DATE)["job_name"].tolist() == [JOB]
    assert len(mine.logs(DATE, signature="manifest-unknown")) == 1
    assert set(mine.golden(DATE, window="1h")["window"]) == {"1h"}


def test_a_day_that_the_lake_does_not_have_is_not_one_without_failures(held: Path, tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="has no failures of 2026-02-20") as told:
        open_lake(str(held)).failures("2026-02-20")
    assert "aislot daily --date 2026-02-20" in str(told.value.fix)
    with pytest.raises(LakeError, match="has no logs of 2026-02-20 to 2026-02-21"):
        open_lake(str(tmp_path / "nowhere")).logs("2026-02-20", "2026-02-21")
    with pytest.raises(UsageError, match="lies before"):
        open_lake(str(held)).failures(DATE, "2026-02-20")
