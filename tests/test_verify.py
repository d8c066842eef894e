"""A report is verified by counting again: what was tampered with is found, what was not is equal."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import UsageError
from pipeline.steps.verify import Difference, verify
from tests.command import aislot

DAY = "2026-02-26"


@pytest.fixture(scope="module")
def made(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the demo's reports: of the day, and of two issues."""
    folder = tmp_path_factory.mktemp("made")
    shutil.copytree(demo / "lake", folder / "lake")
    lang = {205: "en", 211: "ru"}
    assert aislot("report", "daily", "--date", DAY, cwd=folder).returncode == 0
    for issue, name in lang.items():
        done = aislot("report", "postmortem", "--issue", str(issue), "--lang", name, cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "made")
    return tmp_path / "made"


REPORTS = [f"daily/{DAY}", "postmortem/205", "postmortem/211"]


def again(folder: Path, report: str) -> list[Difference]:
    return verify(folder / "out" / report, str(folder / "lake"), print)


@pytest.mark.parametrize("report", REPORTS)
def test_a_report_is_what_its_lake_gives(made: Path, report: str) -> None:
    assert again(made, report) == []


@pytest.mark.parametrize("report", REPORTS)
def test_it_is_so_wherever_the_report_lies_and_whatever_the_settings_are(
    made: Path, report: str, tmp_path: Path
) -> None:
    (tmp_path / "aislot.toml").write_text("[incident]\nquiet = '1s'\n", encoding="utf-8")
    done = aislot("verify", str(made / "out" / report), "--lake", str(made / "lake"), "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout) == {"equal": True, "differences": []}


def _number(folder: Path, report: str) -> None:
    path = folder / "out" / report / "summary.json"
    found = json.loads(path.read_text("utf-8"))
    found["golden"]["build"]["failed"] += 1
    path.write_text(json.dumps(found, indent=1), encoding="utf-8")


def _page(name: str) -> Callable[[Path, str], None]:
    def tamper(folder: Path, report: str) -> None:
        path = folder / "out" / report / name
        path.write_text(
            path.read_text("utf-8").replace("not known", "0", 1).replace("неизвестно", "0", 1), encoding="utf-8"
        )

    return tamper


def _attempt(folder: Path, _report: str) -> None:
    _changed(folder / f"lake/attempts/date={DAY}/day.parquet", "outcome", lambda v: "succeeded" if v == "failed" else v)


def _changed(path: Path, column: str, change: Callable[[Any], Any]) -> None:
    table = pq.read_table(path, partitioning=None)
    values = [change(v) for v in table[column].to_pylist()]
    i = table.schema.get_field_index(column)
    pq.write_table(table.set_column(i, table.schema.field(i), pa.array(values, table.schema.field(i).type)), path)


@pytest.mark.parametrize("report", REPORTS)
@pytest.mark.parametrize(
    ("tamper", "file", "key"),
    [
        (_number, "summary.json", "golden.build.failed"),
        (_page("report.md"), "report.md", "line "),
        (_page("report.html"), "report.html", "line "),
        (_attempt, "summary.json", "golden."),
    ],
    ids=["number", "md", "html", "attempts"],
)
def test_tampering_is_found(here: Path, report: str, tamper: Callable[[Path, str], None], file: str, key: str) -> None:
    tamper(here, report)
    found = again(here, report)
    assert any(d.file == file and d.key.startswith(key) and d.reported != d.counted for d in found), found


@pytest.mark.parametrize("table", ["golden", "failures", "slo", "shares", "ledger"])
def test_a_row_that_was_changed_in_the_lake_is_found(here: Path, table: str) -> None:
    column = {
        "golden": "started",
        "failures": "lines",
        "slo": "objective_ratio",
        "shares": "failed",
        "ledger": "lines",
    }[table]
    _changed(here / f"lake/{table}/date={DAY}/day.parquet", column, lambda v: None if v is None else v + 1)
    found = again(here, REPORTS[0])
    assert {d.file for d in found} >= {f"table {table}"}


def test_a_row_that_was_taken_away_is_found(here: Path) -> None:
    path = here / f"lake/failures/date={DAY}/day.parquet"
    pq.write_table(pq.read_table(path, partitioning=None).slice(1), path)
    assert any(d.file == "table failures" and d.reported is None for d in again(here, REPORTS[0]))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"report": "daily"}'])
def test_a_summary_that_is_none_is_a_difference(here: Path, text: str) -> None:
    path = here / "out" / REPORTS[0] / "summary.json"
    path.write_text(text, encoding="utf-8")
    (found,) = again(here, REPORTS[0])
    assert found.file == "summary.json"
    done = aislot("verify", str(path.parent), cwd=here)
    assert done.returncode == 10
    assert "summary.json" in done.stdout


def test_a_folder_without_a_report_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no report"):
        verify(tmp_path, None, print)


def test_a_difference_names_the_file_the_key_and_both_values(here: Path) -> None:
    _number(here, REPORTS[0])
    done = aislot("verify", f"out/{REPORTS[0]}", "--lake", "lake", "--json", cwd=here)
    assert done.returncode == 10
    found = json.loads(done.stdout)
    assert not found["equal"]
    (difference,) = [d for d in found["differences"] if d["key"] == "golden.build.failed"]
    assert difference == {
        "file": "summary.json",
        "key": "golden.build.failed",
        "reported": difference["counted"] + 1,
        "counted": difference["counted"],
    }
