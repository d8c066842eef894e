"""The command as people use it: what it writes, what it says, and how it ends."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pytest

from pipeline import schemas
from tests.command import aislot, digests, environment

DATE = "2026-02-26"
PUBLIC = [n for n, t in schemas.TABLES.items() if not t.internal]


@pytest.fixture
def site(demo: Path, tmp_path: Path) -> Path:
    """Make a folder of its own with the demo's dump and an aislot.toml."""
    shutil.copytree(demo / "dump", tmp_path / "dump")
    (tmp_path / "aislot.toml").write_text('[kubernetes]\ndump = "dump"\n', encoding="utf-8")
    return tmp_path


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


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["daily", "--date", "2999-01-01"], 2, "is in the future"),
        (["daily", "--date", "yesterday"], 2, "is no day"),
        (["daily", "--fail-on", "purple"], 2, "is no verdict"),
        (["daily", "--max-runtime", "soon"], 2, "is not a duration"),
        (["daily", "--date", DATE, "--format", "pdf"], 2, "no report is made as 'pdf'"),
        (["daily", "--date", DATE, "--lang", "xx"], 2, "report.lang"),
        (["pull", "everything"], 2, "'everything' cannot be pulled"),
        (["pull", "--date", DATE, "--since", "2026-02-26"], 2, "exclude each other"),
        (["pull", "--since", "2026-02-27", "--until", "2026-02-26"], 2, "must lie before"),
        (["pull", "--since", "2026-02-26T25:00:00Z"], 2, "--since/--until"),
        (["compute", "--date", "2020-01-01"], 5, "aislot pull --date 2020-01-01"),
        (["report", "daily", "--date", "2020-01-01"], 5, "aislot daily --date 2020-01-01"),
        (["--config", "missing.toml", "config", "show"], 2, "missing.toml cannot be read"),
        (["daily", "--nonsense"], 2, "No such option"),
        (["nonsense"], 2, "No such command"),
    ],
)
def test_a_wrong_command_says_what_to_do(tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    done = aislot(*arguments, cwd=tmp_path)
    assert (done.returncode, said in done.stderr, done.stdout) == (code, True, ""), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("toml", "code", "said"),
    [
        ("[loky]\nurl = 'x'", 2, "did you mean loki"),
        ("[loki]\nulr = 'x'", 2, "did you mean loki.url"),
        ("[loki", 2, "is not TOML"),
        ("[incident]\nquiet = '30 minutes'", 2, "is not a duration"),
        ("[loki]\nurl = 'loki:3100'", 2, "is no http(s) address"),
        ("[engine]\nkind = 'abacus'\n[loki]\nurl = 'http://127.0.0.1:9'", 2, "engine.kind"),
        ("[catalogue]\nfiles = ['none.toml']", 2, "none.toml cannot be read"),
        ("[kubernetes]\ndump = 'none'", 3, "none"),
        ("[lake]\nuri = 'file'", 5, "is a file"),
    ],
)
def test_wrong_settings_say_what_to_do(tmp_path: Path, toml: str, code: int, said: str) -> None:
    (tmp_path / "aislot.toml").write_text(toml, encoding="utf-8")
    (tmp_path / "file").write_text("", encoding="utf-8")
    done = aislot("daily", "--date", DATE, cwd=tmp_path)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr


def test_a_source_that_cannot_be_reached_makes_the_day_grey_and_ends_with_3(tmp_path: Path) -> None:
    (tmp_path / "aislot.toml").write_text("[loki]\nurl = 'http://127.0.0.1:9'\n", encoding="utf-8")
    done = aislot("daily", "--date", DATE, "--max-runtime", "90s", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert "127.0.0.1:9" in done.stderr
    summary = json.loads((tmp_path / "out/daily" / DATE / "summary.json").read_text("utf-8"))
    assert summary["verdict"] == "grey"
    assert summary["data"]["loki"]["complete"] is False
    assert "loki" in (tmp_path / "out/daily" / DATE / "report.md").read_text("utf-8").lower()


def test_a_dump_that_is_not_json_names_the_file(site: Path) -> None:
    (site / "dump/jobs-bad.json").write_text("<html>", encoding="utf-8")
    done = aislot("daily", "--date", DATE, cwd=site)
    assert done.returncode == 3
    assert "jobs-bad.json" in done.stderr


def test_a_lake_of_a_newer_version_is_left_alone(site: Path) -> None:
    (site / "lake/_aislot").mkdir(parents=True)
    (site / "lake/_aislot/lake.json").write_text('{"format": 99}', encoding="utf-8")
    done = aislot("daily", "--date", DATE, cwd=site)
    assert done.returncode == 5
    assert "format is 99" in done.stderr
    assert [p.name for p in (site / "lake").iterdir()] == ["_aislot"]


def test_a_report_folder_that_cannot_be_written_is_said(site: Path) -> None:
    (site / "out").write_text("a file", encoding="utf-8")
    done = aislot("daily", "--date", DATE, cwd=site)
    assert done.returncode == 5
    assert "report.out" in done.stderr


def test_nothing_configured_is_grey_never_no_failures(tmp_path: Path) -> None:
    done = aislot("daily", "--date", DATE, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "out/daily" / DATE / "report.md").read_text("utf-8")
    assert "GREY" in text
    assert "Nothing failed" not in text
    assert text.count("not configured") >= 4


def test_secrets_are_never_shown(tmp_path: Path) -> None:
    env = {"AISLOT_LOKI__PASSWORD": "hunter2hunter2", "AISLOT_GITHUB__TOKEN": "tok_tok_tok"}
    env |= {"AISLOT_PROMETHEUS__URL": "http://user:hunter3@127.0.0.1:9", "AISLOT_LOKI__URL": "http://127.0.0.1:9"}
    shown = [
        aislot(*a, cwd=tmp_path, env=env)
        for a in (["config", "show"], ["config", "show", "--json"], ["--debug", "-vv", "daily", "--max-runtime", "1s"])
    ]
    for text in [t for d in shown for t in (d.stdout, d.stderr)]:
        assert not any(s in text for s in ("hunter2", "hunter3", "tok_tok"))
    written = [p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()]
    assert not any(s in data for data in written for s in (b"hunter2", b"hunter3", b"tok_tok"))


def test_missed_days_are_caught_up_oldest_first(site: Path) -> None:
    def done_days() -> list[str]:
        return sorted(p.name for p in (site / "out/daily").iterdir())

    assert aislot("daily", "--date", "2026-02-23", cwd=site).returncode in {0, 4}
    assert done_days() == ["2026-02-23"]
    aislot("daily", "--date", DATE, cwd=site)
    assert done_days() == ["2026-02-23", "2026-02-24", "2026-02-25", "2026-02-26"]
    aislot("daily", "--date", "2026-03-10", "--catch-up", "1", cwd=site)
    assert done_days()[4:] == ["2026-03-09", "2026-03-10"]


def test_a_second_aislot_waits_for_the_first(site: Path) -> None:
    (site / "lake/_aislot").mkdir(parents=True)
    holder = (
        "import fcntl, sys, time\nf = open('lake/_aislot/lock', 'a+b')\nfcntl.flock(f, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\nsys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder], cwd=site, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        assert first.stdin is not None
        assert first.stdout.readline() == "held\n"
        second = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "daily", "--date", DATE],
            cwd=site,
            env=environment(),
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        assert second.stderr is not None
        assert "in use" in second.stderr.readline()
        first.stdin.close()
        said = second.communicate(timeout=120)[1]
    assert second.returncode == 0, said


def test_interrupted_ends_with_130_and_terminated_with_143(site: Path) -> None:
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        child = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "daily", "--date", DATE],
            cwd=site,
            env=environment(),
            stderr=subprocess.PIPE,
            text=True,
        )
        assert child.stderr is not None
        child.stderr.readline()
        child.send_signal(number)
        child.communicate(timeout=60)
        assert child.returncode == code
