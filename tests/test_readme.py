"""Everything that the README shows is run: its commands, its Python, its settings."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import catalog, settings
from tests.command import aislot, environment
from tests.github_server import REPOSITORY, Hub

pytestmark = pytest.mark.command

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
ELSEWHERE = {
    "make demo",
    "make test",
    "pip install .",
    "python3 -m venv .venv",
    ". .venv/bin/activate",
}  # test_install.py runs them; .ci/run is `make test`


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


COMMANDS = [c for block in blocks("sh") for c in block.splitlines() if c not in ELSEWHERE]


@pytest.fixture(scope="module")
def folder(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder as a reader has it: the demo's output, and settings that name its dump."""
    made = tmp_path_factory.mktemp("reader")
    shutil.copytree(demo, made / "aislot-demo", symlinks=True)
    (made / "aislot.toml").write_text('[kubernetes]\ndump = "aislot-demo/dump"\n', encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def github() -> Iterator[dict[str, str]]:
    """Give the environment that names a GitHub, for what is published."""
    with Hub().serving() as url:
        yield {"AISLOT_GITHUB__API_URL": url, "AISLOT_GITHUB__REPOSITORY": REPOSITORY}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_works(folder: Path, github: dict[str, str], command: str) -> None:
    name, *arguments = shlex.split(command)
    assert name == "aislot"
    done = aislot(*arguments, cwd=folder, env=github if arguments[0] == "publish" else None)
    assert done.returncode == 0, done.stderr


def test_the_readme_shows_what_a_newcomer_needs() -> None:
    shown = {c for block in blocks("sh") for c in block.splitlines()}
    assert shown >= ELSEWHERE
    assert "make test" in (ROOT / ".ci/run").read_text(encoding="utf-8")
    for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README):
        assert (ROOT / picture).is_file()


@pytest.mark.parametrize("source", blocks("python"))
def test_a_piece_of_python_of_the_readme_works(folder: Path, source: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", source], cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_the_settings_of_the_readme_are_settings_and_its_rules_rules(tmp_path: Path) -> None:
    rules = tmp_path / "my-rules.toml"
    for block in blocks("toml"):
        if "[[signature]]" in block:
            rules.write_text(block, encoding="utf-8")
        else:
            settings.load(block, "README.md", {})
    assert "registry-quota" in {s.id for s in catalog.load([str(rules)]).signatures}


def test_the_crontab_line_of_the_readme_runs_after_logs_have_settled() -> None:
    line = next(b for b in blocks("text") if "aislot daily" in b)
    minute, hour, *_ = line.split()
    assert int(hour) * 60 + int(minute) > settings.Settings().loki.settle / 60
