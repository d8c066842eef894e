"""`aislot publish` as people use it: what it prints, how it ends, and that it needs a folder and no lake."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command import aislot
from tests.comment_data import comment, daily, postmortem
from tests.faults import Say
from tests.github_server import REPOSITORY, Hub

pytestmark = pytest.mark.command

SECRET = "gh" + "p_" + "EXAMPLE" + "a1B2" * 7 + "x"
TOKEN = "gh" + "p_" + "EXAMPLE" * 5


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[tuple[Hub, dict[str, str]]]:
    """Serve a GitHub, and give the environment that names it; a postmortem lies where it is looked for."""
    there = Hub()
    folder = tmp_path / "out/postmortem/205"
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps(postmortem()), encoding="utf-8")
    with there.serving() as url:
        env = {"AISLOT_GITHUB__API_URL": url, "AISLOT_GITHUB__REPOSITORY": REPOSITORY, "GITHUB_TOKEN": TOKEN}
        yield there, env


def test_it_shows_creates_and_leaves_alone(hub: tuple[Hub, dict[str, str]], tmp_path: Path) -> None:
    there, env = hub
    shown = aislot("publish", "--issue", "205", "--dry-run", cwd=tmp_path, env=env)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("--- issue 205\n+++ this report\n")
    assert shown.stdout.endswith("would create\n")
    assert there.writes == []
    done = aislot("publish", "--issue", "205", cwd=tmp_path, env=env)
    assert (done.returncode, done.stdout.split()[0]) == (0, "created")
    again = aislot("publish", "--issue", "205", "--json", cwd=tmp_path, env=env)
    assert json.loads(again.stdout) == {
        "action": "unchanged",
        "url": f"https://github.com/{REPOSITORY}/issues/205#issuecomment-1",
        "bytes": comment(postmortem()).size,
        "dropped": [],
        "deleted": 0,
    }
    assert there.writes == ["POST"]
    assert there.faults is not None
    assert {a.headers.get("Authorization") for a in there.faults.asked} == {f"Bearer {TOKEN}"}
    assert not (tmp_path / "lake").exists()


def test_a_report_elsewhere_can_be_named(hub: tuple[Hub, dict[str, str]], tmp_path: Path) -> None:
    there, env = hub
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/summary.json").write_text(json.dumps(daily()), encoding="utf-8")
    assert aislot("publish", "--issue", "205", "--report", "mine", cwd=tmp_path, env=env).returncode == 0
    assert there.bodies == [comment(daily()).body]


@pytest.mark.parametrize(
    ("trouble", "code", "words"),
    [
        ("public", 6, "--allow-public"),
        ("locked", 6, "is locked"),
        ("read-only", 6, "read, not write"),
        ("issue", 6, "no issue 205"),
        ("secret", 6, "rule github-token, byte "),
        ("down", 3, "github"),
        ("repository", 2, "github.repository"),
        ("report", 2, "--report"),
    ],
)
def test_each_trouble_has_its_code_and_says_what_to_do(
    hub: tuple[Hub, dict[str, str]], tmp_path: Path, trouble: str, code: int, words: str
) -> None:
    there, env = hub
    report = tmp_path / "out/postmortem/205/summary.json"
    if trouble == "public":
        there.private = False
    elif trouble == "locked":
        there.locked = True
    elif trouble == "read-only":
        there.may_write = False
    elif trouble == "issue":
        there.issues = {7}
    elif trouble == "secret":
        bad = postmortem(todo=[f"clone with {SECRET}"])
        report.write_text(json.dumps(bad), encoding="utf-8")
    elif trouble == "down":
        there.hook = lambda _: Say("not implemented", 501)
    elif trouble == "repository":
        env = {k: v for k, v in env.items() if k != "AISLOT_GITHUB__REPOSITORY"}
    elif trouble == "report":
        report.unlink()
    done = aislot("publish", "--issue", "205", cwd=tmp_path, env=env)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert SECRET not in done.stderr + done.stdout
    assert TOKEN not in done.stderr + done.stdout
    assert there.bodies == []


def test_a_dry_run_ends_as_the_real_one_would(hub: tuple[Hub, dict[str, str]], tmp_path: Path) -> None:
    there, env = hub
    there.private = False
    done = aislot("publish", "--issue", "205", "--dry-run", "--json", cwd=tmp_path, env=env)
    assert done.returncode == 6
    assert json.loads(done.stdout)["action"] == "would create"
    assert "+## Postmortem evidence, issue 205" in json.loads(done.stdout)["diff"]
    assert "--allow-public" in done.stderr
    assert aislot("publish", "--issue", "205", "--dry-run", "--allow-public", cwd=tmp_path, env=env).returncode == 0
