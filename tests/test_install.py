"""A newcomer's two ways in: a clone with `make demo`, and a built wheel; what they depend on is installed once."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.command import environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
ROOT = Path(__file__).resolve().parent.parent
_MAY_BE_SET = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CERT", "PIP_CONFIG_FILE", "SSL_CERT_FILE", "PIP_CACHE_DIR")


def run(*command: str, cwd: Path, seconds: float = 900) -> str:
    """Run a command as someone without our environment would; return what it printed."""
    env = environment({k: os.environ[k] for k in _MAY_BE_SET if k in os.environ})
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clone what is committed."""
    folder = tmp_path_factory.mktemp("clone") / "aislot"
    run("git", "clone", "--quiet", str(ROOT), str(folder), cwd=folder.parent)
    return folder


@pytest.fixture(scope="module")
def wheel(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel of the clone."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), cwd=clone)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def demo_said(clone: Path) -> str:
    """Run `make demo` in the clone, which installs into its `.venv`."""
    return run("make", "demo", f"PYTHON={sys.executable}", cwd=clone)


def test_make_demo_works_in_a_fresh_clone(clone: Path, demo_said: str) -> None:
    assert Path(demo_said.splitlines()[-1]) == (clone / "aislot-demo/out/daily/2026-02-26/report.html").resolve()
    assert Path(demo_said.splitlines()[-1]).is_file()
    assert run("git", "status", "--porcelain", cwd=clone) == ""


def test_the_wheel_carries_its_queries_reports_and_demo(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        sizes = {i.filename: i.file_size for i in packed.infolist()}
    for folder, name in (("queries", "pipeline/_data/queries"), ("reports", "pipeline/_data/reports")):
        ours = {f"{name}/{p.name}" for p in (ROOT / folder).iterdir() if p.is_file()}
        assert ours <= set(sizes)
    assert sizes["pipeline/_demo/dump.zip"] <= 400_000


def test_the_wheel_works_offline_in_an_empty_folder(wheel: Path, clone: Path, demo_said: str, tmp_path: Path) -> None:
    installed = clone / ".venv/bin"
    python = str(installed / "python")
    # in place of the clone's own code; whether what it depends on is there, pip checks by the wheel's own word
    run(python, "-m", "pip", "install", "-q", "--no-deps", "--force-reinstall", str(wheel), cwd=tmp_path)
    run(python, "-m", "pip", "check", cwd=tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    where = run(python, "-c", "import pipeline; print(pipeline.__file__)", cwd=empty)
    assert "site-packages" in where
    # root may take the network away altogether; elsewhere the demo's own test refuses connections
    offline = ["unshare", "-n"] if os.geteuid() == 0 and shutil.which("unshare") else []
    said = run(*offline, str(installed / "aislot"), "demo", cwd=empty)
    page = Path(said.splitlines()[-1])
    assert re.search(r"<h1", page.read_text(encoding="utf-8"))
    assert [p.name for p in empty.iterdir()] == ["aislot-demo"]
    assert run(python, "-m", "pipeline", "--version", cwd=empty).startswith("aislot ")


def test_python_without_venv_is_told_in_one_line(clone: Path, tmp_path: Path) -> None:
    fake = tmp_path / "python3"
    fake.write_text('#!/bin/sh\ncase "$2" in *ensurepip*) exit 1;; esac\nexit 0\n', encoding="utf-8")
    fake.chmod(0o755)
    done = subprocess.run(
        ["make", "demo", f"PYTHON={fake}", "VENV=.none"], cwd=clone, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "apt-get install python3-venv" in done.stderr
