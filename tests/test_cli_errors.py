"""The command when something is wrong: a sentence that says what to do, the right exit code, nothing lost or half-written."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import aislot, environment

pytestmark = pytest.mark.command
DATE = "2026-02-26"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["daily", "--date", "2999-01-01"], 2, "is in the future"),
        (["daily", "--date", "yesterday"], 2, "is not a day"),
        (["daily", "--fail-on", "purple"], 2, "is no verdict"),
        (["daily", "--max-runtime", "soon"], 2, "is not a duration"),
        (["daily", "--date", DATE, "--format", "pdf"], 2, "no report is made as 'pdf'"),
        (["daily", "--date", DATE, "--lang", "xx"], 2, "report.lang"),
        (["pull", "everything"], 2, "'everything' cannot be pulled"),
        (["pull", "--date", DATE, "--since", "2026-02-26"], 2, "exclude each other"),
        (["pull", "--since", "2026-02-27", "--until", "2026-02-26"], 2, "must lie before"),
        (["pull", "--since", "2026-02-26T25:00:00Z"], 2, "--since/--until"),
        (["pull", "--date", ""], 2, "--date '' is not a day"),
        (["daily", "--date", ""], 2, "--date '' is not a day"),
        (["pull", "--since", ""], 2, "--since/--until"),
        (["pull", "--until", ""], 2, "--since/--until"),
        (["pull", "--date", DATE, "--since", ""], 2, "exclude each other"),
        (["status", "--lake", ""], 2, "lake (from flag): uri must name a directory"),
        (["daily", "--out", ""], 2, "report (from flag): out must name a directory"),
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
        (
            "[alertmanager]\nurl = 'alertmanager:9093'",
            2,
            "alertmanager (from aislot.toml): url 'alertmanager:9093' is no",
        ),
        ("[github]\napi_url = 'github.example'", 2, "api_url 'github.example' is no http(s) address"),
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
    assert done.returncode == 4, done.stderr
    text = (tmp_path / "out/daily" / DATE / "report.md").read_text("utf-8")
    assert "GREY" in text
    assert "Nothing failed" not in text
    assert text.count("not configured") >= 4


def test_a_pull_with_nobody_to_ask_says_so_and_is_incomplete(tmp_path: Path) -> None:
    for asked in ([], ["logs"]):
        done = aislot("pull", *asked, "--date", DATE, cwd=tmp_path)
        assert done.returncode == 4, done.stderr
        assert "no source is configured: set loki.url" in done.stderr
    (tmp_path / "aislot.toml").write_text("[kubernetes]\ndump = '.'\n", encoding="utf-8")
    done = aislot("pull", "issues", "--date", DATE, cwd=tmp_path)  # of several sources this one is none
    assert (done.returncode, "no source" in done.stderr) == (0, False), done.stderr


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
        said = child.communicate(timeout=60)[1]
        assert child.returncode == code
        assert "run the same command again" in said
