"""How a source's completeness is said: in the report's data section and by `aislot status`, in the same words."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.model import Coverage, Window
from pipeline.report.sections.sources import proof_of
from pipeline.report.text import NBSP
from pipeline.steps.vocabulary import words as words_of

DAY = Window(1_772_064_000_000_000_000, 1_772_150_400_000_000_000)
COUNTED = "{0} of {1} counted by Loki, every 10 s of every app"


def said(proof: dict[str, Any], *, complete: bool | None = True) -> str:
    found = Coverage("logs", "loki", configured=True, complete=complete, rows=10, gaps=(), asked=(DAY,), proof=proof)
    return str(proof_of(words_of("en"), found)).replace(NBSP, " ")


@pytest.mark.parametrize(
    ("proof", "words"),
    [
        ({"counted": 1000, "reconciled": 1000}, COUNTED.format("1,000", "1,000")),
        ({"counted": 0, "reconciled": 0, "unread": 0, "explained": 0}, COUNTED.format(0, 0)),
        (
            {"counted": 9, "reconciled": 9, "explained": 2},
            COUNTED.format(9, 9)
            + "; 2 counted otherwise for a known reason (equal lines with other metadata, or given twice)",
        ),
    ],
)
def test_what_was_counted_and_what_came_stand_side_by_side(proof: dict[str, Any], words: str) -> None:
    assert said(proof) == words


def test_a_day_without_a_line_names_the_selectors() -> None:
    proof = {"counted": 0, "reconciled": 0, "silent": 24}
    found = Coverage("logs", "loki", configured=True, complete=True, rows=0, gaps=(), asked=(DAY,), proof=proof)
    assert "check them" in str(proof_of(words_of("en"), found))
    assert "check them" not in said({**proof, "counted": 10, "reconciled": 10})  # lines came later


@pytest.mark.parametrize(
    ("proof", "words"),
    [
        ({"short": {"a": [4, 5], "b": [0, 7]}}, "in 2 steps 4 rows came of 12 counted"),
        ({"unread": 3}, "Loki did not read 3 chunks of its store: lines may be missing that no count knows of"),
        ({"hidden_s": 60.0}, "a part is older than Loki shows or keeps"),
    ],
)
def test_what_is_missing_is_said_with_its_reason(proof: dict[str, Any], words: str) -> None:
    text = said({"counted": 20, "reconciled": 8, **proof}, complete=False)
    assert text == f"incomplete: {COUNTED.format(8, 20)}; {words}"
