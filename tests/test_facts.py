"""What is known of attempts beside how they ended: fields, labels, text, what their runs said before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import pandas as pd
import pytest

from pipeline import catalog
from pipeline.rules import Attribute
from pipeline.signals.facts import Told, told, values
from tests.tables import at, attempt, attempts, line, lines

RULES = catalog.load().attributes
RUN = "3f2a9c1e-7b41-4c1d-9a60-52e1c07d8b14"
Row = Mapping[str, Any]


def said(when: str, index: int | None = 0, **fields: Any) -> dict[str, Any]:
    """Return a JSON line."""
    return line(
        when, line=orjson.dumps(fields).decode(), format="json", attempt_index=index, run_id=fields.get("run_id")
    )


def known(rows: Sequence[Row], pods: Sequence[Mapping[str, str]] = (), **more: Any) -> dict[str, Any]:
    """Return what is known of one attempt that was created at 10:00."""
    frame = attempts(attempt("10:00", "10:05", run_id=RUN, image="web-console", attempt=2) | more)
    whence = {"labels": [{}] * len(pods), "metadata": list(pods), "attempt_index": [0] * len(pods)}
    first = pd.DataFrame({"ts": [at("10:00")] * len(pods)} | whence)
    heard = {0} if any(r.get("attempt_index") is not None for r in rows) else set()
    found = values(frame, told(lines(*rows), first, RULES), heard, RULES)
    return {str(c): None if pd.isna(v) else v for c, v in found.iloc[0].items()}


def test_an_attempts_own_columns_are_known_without_a_line() -> None:
    found = known([])
    assert {c: found[c] for c in ("image", "attempt", "namespace", "hour")} == {
        "image": "web-console",
        "attempt": "2",
        "namespace": "codex-k8s-prod",
        "hour": "10",
    }
    assert [found[a.id] for a in RULES] == [None] * len(RULES)


@pytest.mark.parametrize(
    ("rows", "ref"),
    [
        ([said("10:00", ref="main")], "main"),
        ([said("10:00", build_ref="v1", ref="main")], "v1"),
        ([said("10:01", ref="later"), said("10:00", ref="first")], "first"),
        ([line("10:00", line="+ git checkout --detach -b feature/x", attempt_index=0)], "-b feature/x"),
        ([line("10:00", line="x", err="git checkout --detach v2: fatal: no", attempt_index=0)], "v2"),
        ([said("10:01", ref="field"), line("10:00", line="git checkout --detach text", attempt_index=0)], "field"),
        ([said("09:59", None, run_id=RUN, build_ref="-b x")], "-b x"),
        ([said("09:58", None, run_id=RUN, ref="a"), said("09:59", None, run_id=RUN, ref="b")], "b"),
        ([said("10:01", None, run_id=RUN, ref="too late")], None),
        ([said("09:59", None, run_id="another", ref="a")], None),
        ([said("10:00", ref={"no": "text"})], None),
        ([line("10:00", line='{"ref":"cut', format="json", attempt_index=0)], None),
        ([said("10:00", ref="r" * 999)], "r" * 200),
    ],
)
def test_the_ref_is_what_the_surest_source_says(rows: list[Row], ref: str | None) -> None:
    assert known(rows)["ref"] == ref


def test_whether_the_cache_was_on_and_the_node_are_told_by_fields_and_by_the_pod() -> None:
    found = known([said("10:00", cache_enabled=False)], [{"node_name": "node-2"}])
    assert (found["cache"], found["node"]) == ("false", "node-2")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("fatal: 'x' is not a commit", "fatal"),
        ("INFO[0003] ok\nerror building image", "error"),
        ("job failed; logs: Error: copying image", "Error"),
        ("generated code is up to date", "none"),
        ("0 errors", "none"),
    ],
)
def test_the_first_word_of_the_error(text: str, word: str) -> None:
    assert known([line("10:00", line=text, attempt_index=0)])["error"] == word


def test_of_an_attempt_without_lines_nobody_knows_that_it_had_no_error() -> None:
    assert known([line("10:00", line="fatal: no", attempt_index=None)])["error"] is None


def test_a_pattern_with_groups_of_its_own_and_a_hostile_line_are_read_in_one_pass() -> None:
    rule = Attribute("tag", pattern=r"tag (v|release-)*(?P<value>[0-9.]+)")
    hostile = line("10:00", line="tag " + "v" * 1_000_000 + " tag release-v1.2", attempt_index=0)
    assert told(lines(hostile), lines().assign(labels=None, metadata=None), [rule]) == [
        Told("tag", 1, at("10:00").value, "1.2", 0)
    ]
