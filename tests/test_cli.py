"""The command as people use it: what it writes, what it says, and how it ends."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pytest

from pipeline import schemas
from tests.command import aislot, digests, environment

pytestmark = pytest.mark.command

DATE = "2026-02-26"
PUBLIC = [n for n, t in schemas.TABLES.items() if not t.internal]


def test_the_demo_leaves_dump_lake_and_report(demo: Path) -> None:
    assert sorted(p.name for p in demo.iterdir()) == ["dump", "lake", "out"]
    report = demo / "out/daily" / DATE
    assert sorted(p.name for p in report.iterdir()) == ["report.html", "report.md", "summary.json"]
    latest = demo / "out/latest"
    assert str(latest.readlink()) == f"daily/{DATE}"
    summary = json.loads((report / "summary.json").read_text("utf-8"))
    assert summary["verdict"] == "red"
    assert {i["class"] for i in summary["incidents"]} == {"cache", "build-ref"}
    assert 205 in {n for i in summary["incidents"] for n in i["issues"]}


def test_the_demo_again_changes_no_data_file(demo: Path, tmp_path: Path) -> None:
    shutil.copytree(demo, tmp_path / "demo", symlinks=True)
    before = digests(tmp_path / "demo/lake")
    assert aislot("demo", "--dir", "demo", cwd=tmp_path).returncode == 0
    assert digests(tmp_path / "demo/lake") == before


def test_the_demo_needs_no_network_and_no_settings(tmp_path: Path) -> None:
    (tmp_path / "aislot.toml").write_text("not toml at all", encoding="utf-8")
    guard = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise AssertionError('the demo touched the network')\n"
        "socket.socket.connect = refuse\n"
        "sys.argv = ['aislot', 'demo', '--dir', 'x']\n"
        "from pipeline.cli import main\nmain()\n"
    )
    env = environment({"AISLOT_LOKI__URL": "http://127.0.0.1:9", "AISLOT_LAKE__URI": "elsewhere"})
    done = subprocess.run(
        [sys.executable, "-c", guard], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["aislot.toml", "x"]


@pytest.mark.parametrize("table", PUBLIC)
def test_every_reader_takes_a_table_by_its_folder(demo: Path, table: str) -> None:
    folder = demo / "lake" / table
    by_pandas = pd.read_parquet(folder)
    query = f"SELECT * FROM read_parquet('{folder}/*/*.parquet', hive_partitioning=true)"
    by_duckdb = duckdb.connect().execute(query).fetchall()
    by_polars = pl.scan_parquet(folder, hive_partitioning=True).collect()
    assert len(by_pandas) == len(by_duckdb) == by_polars.height
    assert set(schemas.TABLES[table].columns) <= set(by_pandas.columns)
    assert set(schemas.TABLES[table].columns) <= set(by_polars.columns)


@pytest.mark.parametrize("group", [[], ["report"], ["config"]])
def test_every_command_is_told_whole_in_a_line_of_help(group: list[str], tmp_path: Path) -> None:
    done = aislot(*group, "--help", cwd=tmp_path, env={"COLUMNS": "80"})
    lines = done.stdout.partition("Commands:\n")[2].splitlines()
    assert lines
    assert [x for x in lines if len(x) > 80 or x.endswith("...") or not x.endswith(".")] == []


def test_the_parts_make_what_daily_makes(site: Path) -> None:
    key = {"AISLOT_REDACTION__KEY": "one key, so that placeholders agree"}
    assert aislot("daily", "--date", DATE, "--lake", "whole", cwd=site, env=key).returncode == 0
    assert aislot("pull", "--date", DATE, cwd=site, env=key).returncode == 0
    assert aislot("compute", "--date", DATE, cwd=site).returncode == 0
    done = aislot("report", "daily", "--date", DATE, "--out", "parts", cwd=site)
    assert done.returncode == 0, done.stderr
    assert digests(site / "lake") == digests(site / "whole")
    parts, whole = ((site / d / "daily" / DATE / "summary.json").read_text("utf-8") for d in ("parts", "out"))
    assert json.loads(parts)["golden"] == json.loads(whole)["golden"]
    commands = [json.loads(text)["slo"]["build_availability"]["command"] for text in (parts, whole)]
    assert commands[0] == commands[1]
    shown = " && ".join(f"{c} --lake whole" for c in commands[0].split(" && "))
    assert shown in (site / "out/daily" / DATE / "report.md").read_text("utf-8")


def test_a_report_needs_only_the_lake(site: Path) -> None:
    assert aislot("daily", "--date", DATE, cwd=site).returncode == 0
    shutil.rmtree(site / "dump")
    (site / "aislot.toml").unlink()
    done = aislot("report", "daily", "--date", DATE, "--out", "again", "--format", "md,json", cwd=site)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in (site / "again/daily" / DATE).iterdir()) == ["report.md", "summary.json"]


def test_results_as_json_stand_alone_on_stdout(site: Path) -> None:
    done = aislot("daily", "--date", DATE, "--json", cwd=site)
    assert json.loads(done.stdout) == [
        {"date": DATE, "verdict": "red", "complete": True, "dir": f"out/daily/{DATE}"},
    ]
    assert aislot("-q", "daily", "--date", DATE, "--json", cwd=site).stderr == ""


@pytest.mark.parametrize(("level", "code"), [("red", 10), ("grey", 10), ("amber", 10)])
def test_fail_on_ends_with_10_for_that_verdict_or_a_worse_one(site: Path, level: str, code: int) -> None:
    assert aislot("daily", "--date", DATE, "--fail-on", level, cwd=site).returncode == code


def test_a_day_that_is_not_over_is_incomplete(site: Path) -> None:
    today = dt.datetime.now(dt.UTC).date().isoformat()
    assert aislot("pull", "logs", "--date", today, cwd=site).returncode == 4
    assert aislot("compute", "--date", today, cwd=site).returncode == 4


def test_missed_days_are_caught_up_oldest_first(site: Path) -> None:
    def done_days() -> list[str]:
        return sorted(p.name for p in (site / "out/daily").iterdir())

    assert aislot("daily", "--date", "2026-02-23", cwd=site).returncode in {0, 4}
    assert done_days() == ["2026-02-23"]
    aislot("daily", "--date", DATE, cwd=site)
    assert done_days() == ["2026-02-23", "2026-02-24", "2026-02-25", "2026-02-26"]
    aislot("daily", "--date", "2026-03-10", "--catch-up", "1", cwd=site)
    assert done_days()[4:] == ["2026-03-09", "2026-03-10"]


def test_kubectl_itself_is_asked_where_nothing_else_is_configured(site: Path) -> None:
    program = site / "bin/kubectl"
    program.parent.mkdir()
    log = 'for w in "$@"; do case $w in deploy/*) cat "$D/logs/${w#deploy/}.log";; esac; done'
    program.write_text(
        f"#!/bin/sh\nD={site}/dump\n"
        'case "$*" in\n'
        '  *"get jobs"*) cat "$(ls $D/jobs*.json | tail -1)";;\n'
        '  *"get events"*) cat "$(ls $D/events*.json | sed -n 9p)";;\n'
        f'  *"logs deploy/"*) {log};;\n'
        "  *) echo unknown >&2; exit 1;;\n"
        "esac\n",
        encoding="utf-8",
    )
    program.chmod(0o755)
    (site / "aislot.toml").write_text("[kubernetes]\nlive = true\n", encoding="utf-8")
    env = {"PATH": f"{program.parent}:{os.environ['PATH']}"}
    rows: dict[str, int] = {}
    for asked in (["jobs"], ["logs", "events", "--date", DATE]):
        done = aislot("pull", *asked, "--json", cwd=site, env=env)
        assert done.returncode in {0, 4}, done.stderr
        rows |= {r["what"]: r["rows"] for r in json.loads(done.stdout)}
    assert min(rows[w] for w in ("jobs", "logs", "events")) > 0, rows
    program.write_text("#!/bin/sh\necho 'error: You must be logged in to the server (Unauthorized)' >&2\nexit 1\n")
    refused = aislot("pull", "jobs", "--date", DATE, cwd=site, env=env)
    assert refused.returncode == 3
    assert "You must be logged in" in refused.stderr
