"""The tree is held to its shape: layers, one HTTP door, no clock below the command, every command and table documented."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pipeline
from pipeline import schemas
from pipeline.cli import app

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
_TOP = {"pyproject.toml", "pipeline", "queries", "reports", "tests", "notebooks", "README.md"}
_FOR_TOOLS = {".ci", ".github", ".gitignore", "Makefile", "CHANGELOG.md", "LICENSE", "constraints.txt"}


def tracked() -> list[str]:
    out = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return out.splitlines()


def copy(folder: Path) -> Path:
    """Copy what the layer contract reads, to break it on purpose."""
    shutil.copytree(ROOT / "pipeline", folder / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    args = [sys.executable, "-c", code, "--no-cache"]
    return subprocess.run(
        args, cwd=folder, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(folder)}
    )


def ruff(path: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    args = [sys.executable, "-m", "ruff", "check", "--no-cache", "--config", "pyproject.toml", str(path)]
    return subprocess.run(args, cwd=folder, capture_output=True, text=True, check=False)


def test_the_tree_keeps_its_layers(tmp_path: Path) -> None:
    done = lint_imports(copy(tmp_path))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("signals/golden.py", "from pipeline.sources import loki"),
        ("sources/loki.py", "from pipeline.lake import store"),
        ("rules.py", "from pipeline import catalog"),
        ("lake/store.py", "import requests"),
        ("steps/pull.py", "import urllib3"),
        ("correlate.py", "import time"),
        ("report/view.py", "import os"),
        ("newcomer.py", "import json"),
    ],
)
def test_breaking_the_layers_on_purpose_is_found(tmp_path: Path, file: str, line: str) -> None:
    path = copy(tmp_path) / "pipeline" / file
    before = path.read_text(encoding="utf-8") if path.exists() else '"""A module without a tier."""\n'
    path.write_text(f"{before}\n{line}\n", encoding="utf-8")
    assert lint_imports(tmp_path).returncode != 0


@pytest.mark.parametrize(
    "line", ["time.time()", "time.time_ns()", "dt.datetime.now(dt.UTC)", "dt.date.today()", "pd.Timestamp.now()"]
)
def test_reading_the_clock_below_the_command_is_found(tmp_path: Path, line: str) -> None:
    path = copy(tmp_path) / "pipeline" / "signals" / "late.py"
    imports = "import datetime as dt\nimport time\n\nimport pandas as pd\n"
    source = f'"""Read the clock."""\n\n{imports}\nNOW = ({line}, dt, pd, time)\n'
    path.write_text(source, encoding="utf-8")
    assert "TID251" in ruff(path, tmp_path).stdout


def test_the_top_level_is_the_one_on_the_card() -> None:
    found = {name.split("/")[0] for name in tracked()}
    assert found >= _TOP
    assert found <= _TOP | _FOR_TOOLS


def test_no_module_is_longer_than_400_lines() -> None:
    ours = [n for n in tracked() if n.startswith("pipeline/") and n.endswith(".py")]
    assert [n for n in ours if len((ROOT / n).read_text("utf-8").splitlines()) > 400] == []


def test_the_public_names_are_pinned() -> None:
    assert pipeline.__all__ == ["Lake", "__version__", "golden_signals", "open_lake"]
    assert all(hasattr(pipeline, name) for name in pipeline.__all__)


def test_every_command_stands_in_the_readme() -> None:
    single = [c.name or (c.callback.__name__ if c.callback else "") for c in app.registered_commands]
    grouped = [
        f"{g.name} {c.name}"
        for g in app.registered_groups
        if g.typer_instance
        for c in g.typer_instance.registered_commands
    ]
    assert [c for c in single + grouped if f"aislot {c}" not in README and f"make {c}" not in README] == []


def test_every_table_and_column_of_people_stands_in_the_readme() -> None:
    for name, table in schemas.TABLES.items():
        if table.internal:
            continue
        row = re.search(rf"^\| `{name}` \|.*$", README, re.MULTILINE)
        assert row, name
        missing = [c for c in table.columns if c not in row[0]]
        assert missing == [], name


def test_help_does_not_load_pandas() -> None:
    heavy = ("pandas", "pyarrow", "numpy", "requests", "jinja2")
    code = f"""
import sys
from pipeline.cli import main
sys.argv = ["aislot", "--help"]
try:
    main()
except SystemExit:
    print([m for m in {heavy} if m in sys.modules])
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"
