"""The level policy: errors that are too quiet, retries and recoveries that are too loud."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from pipeline import catalog, schemas
from pipeline.signals.levels import breaches
from tests.tables import DAY, at, line, lines

RULES = catalog.load()
RETRY = "kaniko job codex-k8s-kaniko-worker-d23f0824-128 failed due stale kaniko cache, retrying without cache"
RECOVERED = "build recovered after 2 attempts"


def found(*rows: dict[str, Any]) -> list[dict[str, Any]]:
    return schemas.rows_of(breaches(lines(*rows), RULES.signatures, RULES.phrases, DAY))


@pytest.mark.parametrize(
    ("level", "signatures", "text", "rule"),
    [
        ("INFO", ["manifest-unknown"], "cache probe failed", "too-quiet"),
        ("DEBUG", ["build-ref"], "checkout failed", "too-quiet"),
        ("INFO", ["manifest-unknown"], RETRY, None),
        ("INFO", ["cache-retrieval"], RECOVERED, None),
        ("WARN", ["manifest-unknown"], "cache probe failed", None),
        (None, ["manifest-unknown"], "cache probe failed", None),
        ("WARN", [], RETRY, "too-loud"),
        ("ERROR", ["manifest-unknown"], RETRY, "too-loud"),
        ("ERROR", [], RECOVERED, "too-loud"),
        ("ERROR", [], "run requeued after failed runtime", "too-loud"),
        ("ERROR", [], "run failed before agent start: build failed; cache recovered", None),
        ("WARN", [], "slot lease renewal took long", None),
        ("INFO", [], RETRY, None),
    ],
)
def test_a_line_breaks_the_policy_or_does_not(
    level: str | None, signatures: list[str], text: str, rule: str | None
) -> None:
    assert [r["rule"] for r in found(line("10:00", *signatures, level=level, line=text))] == ([rule] if rule else [])


def test_breaches_are_counted_by_app_and_level_with_the_first_and_the_last() -> None:
    quiet = {"level": "INFO", "signatures": ["manifest-unknown"]}
    rows = [line(f"10:0{m}", **(quiet | {"line": f"probe {m} {'x' * 400}"})) for m in (2, 0, 1)]
    rows += [line("11:00", **(quiet | {"app": "codex-k8s-worker", "line": "probe"}))]
    first, second = found(*rows)
    assert (first["app"], first["lines"], first["first_at"], first["last_at"]) == (
        "codex-k8s-control-plane",
        3,
        at("10:00"),
        at("10:02"),
    )
    assert first["example"] == f"probe 0 {'x' * 400}"[:300]
    assert (second["app"], second["lines"], second["day"]) == ("codex-k8s-worker", 1, at("00:00"))


def test_without_a_breach_the_table_has_its_columns() -> None:
    pd.testing.assert_frame_equal(
        breaches(lines(), RULES.signatures, RULES.phrases, DAY), schemas.empty_frame("level_breaches")
    )
