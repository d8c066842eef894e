"""Whole reports of invented days, held against files. `AISLOT_UPDATE_GOLDEN=1` writes the files anew; read the diff then."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.postmortem_data import files as postmortem
from tests.report_data import DAYS, files

GOLDEN = Path(__file__).parent / "golden" / "report"
_UPDATE = "AISLOT_UPDATE_GOLDEN"
_SHOWN = 60  # lines of a difference; a page has long ones


@pytest.mark.parametrize(("day", "lang"), [*((day, "en") for day in DAYS), ("red", "ru"), ("grey", "ru")])
def test_a_whole_report_is_as_it_was(day: str, lang: str) -> None:
    _held(day if lang == "en" else f"{day}-{lang}", files(day, lang))


@pytest.mark.parametrize("lang", ["en", "ru"])
def test_the_evidence_for_a_postmortem_is_as_it_was(lang: str) -> None:
    _held("postmortem" if lang == "en" else f"postmortem-{lang}", postmortem(lang))


def _held(folder: str, made: Mapping[str, str]) -> None:
    wrong = []
    for name, text in made.items():
        path = GOLDEN / folder / name
        if os.environ.get(_UPDATE):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        if before != text:
            wrong += _difference(path, before, text)
    assert not wrong, f"set {_UPDATE}=1 to accept:\n" + "\n".join(wrong)


def _difference(path: Path, before: str, after: str) -> list[str]:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), str(path), "now", lineterm="", n=1)
    return [line if len(line) <= 400 else line[:400] + "…" for line in lines][:_SHOWN]
