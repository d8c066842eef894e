"""Templates of lines: what is masked, what a template is known by, and which are new."""

from __future__ import annotations

import time
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import schemas
from pipeline.signals.templates import (
    MOST,
    ledger,
    masked,
    of_failures,
    of_lines,
    of_signatures,
    of_successes,
    template_id,
)
from tests.tables import DAY, at, line, lines, table


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("took 12.5s for 3 files", "took 7ms for 1,200 files"),
        ("2026-02-26T09:15:00.5Z started", "2026-02-27T10:15:00Z started"),
        (
            "2026/02/26 09:15:00 pushed blob: sha256:" + "a1" * 32,
            "2026/02/27 23:59:59 pushed blob: sha256:" + "0f" * 32,
        ),
        ("run 3f2a9c1e-7b41-4c1d-9a60-52e1c07d8b14 failed", "run 00000000-0000-4000-8000-000000000000 failed"),
        ("job codex-k8s-kaniko-web-console-3f2a9c1e-7b4 failed", "job codex-k8s-kaniko-worker-d23f0824-128 failed"),
        ("HEAD is now at abcdefa Update", "HEAD is now at deadbeef Update"),
        ("Pushing image registry.svc:5000/codex-k8s/worker:1.2", "Pushing image registry.svc:5000/codex-k8s/web:v9"),
        ("Copying hub.example.org/library/node-22 now", "Copying hub.example.org/library/go-1.24 now"),
        ("open /workspace/src/a.go: no such file", "open /workspace/lib/b.ts: no such file"),
        ("INFO[0003] Unpacking", "INFO[0017] Unpacking"),
    ],
)
def test_what_varies_makes_no_other_template(one: str, other: str) -> None:
    first, second = masked([one, other]).to_pylist()
    assert first == second
    assert first != one


@pytest.mark.parametrize(
    "text", ["fatal: bad ref", "error: unknown switch `b'", "+ git checkout --detach -b feature/x", "a and/or b"]
)
def test_words_stay(text: str) -> None:
    assert masked([text]).to_pylist() == [text]


def test_different_words_make_different_templates_and_ids_are_stable() -> None:
    assert template_id("fatal: bad ref") == "t-df38fa32e8"
    assert len({template_id(t) for t in ("a", "b", "a ", "A")}) == 4


@given(st.lists(st.none() | st.text(max_size=60), max_size=8))
def test_any_text_is_masked_without_growing_past_its_length_and_unknown_stays(texts: list[str | None]) -> None:
    found = masked(texts).to_pylist()
    assert [t is None for t in found] == [t is None for t in texts]
    assert all(len(t) <= 600 for t in found if t is not None)
    assert masked(texts).to_pylist() == found


@pytest.mark.parametrize("hostile", ["/" * 2**20, "1:" * 2**19, "a/" * 2**19, "<*>" * 2**18, "-" * 2**20, "a" * 2**20])
def test_a_hostile_line_of_a_megabyte_takes_no_time(hostile: str) -> None:
    began = time.perf_counter()
    (found,) = masked([hostile]).to_pylist()
    assert time.perf_counter() - began < 0.5
    assert len(found) <= 600


def said(index: int | None, text: str, when: str = "10:00", **more: Any) -> dict[str, Any]:
    return line(when, line=text, attempt_index=index, **more)


def test_lines_of_an_attempt_are_counted_with_first_last_and_an_example() -> None:
    found = of_lines(
        lines(said(1, "took 2s", "10:01"), said(1, "took 1s"), said(2, "took 1s"), said(None, "took 9s"), said(2, " "))
    )
    assert found[["attempt_index", "text", "lines"]].to_numpy().tolist() == [[1, "took <*>", 2], [2, "took <*>", 1]]
    first = schemas.rows_of(found)[0]
    assert [first[c] for c in ("first_at", "last_at", "example")] == [at("10:00"), at("10:01"), "took 1s"]


def test_of_a_structured_line_its_message_and_error_count() -> None:
    one = said(1, '{"level":"ERROR"}', msg="build failed", err="exit status 1", format="json")
    other = said(1, '{"level":"INFO"}', msg="job created", format="json")
    none = said(1, '{"level":"x"}', format="json")
    assert set(of_lines(lines(one, other, none))["text"]) == {
        "build failed: exit status <*>",
        "job created",
        '{"level":"x"}',
    }


KINDS = {1: "build", 2: "build", 3: "mirror"}


def test_successes_are_kept_by_kind_with_how_many_have_a_template() -> None:
    pieces = of_lines(lines(said(1, "a"), said(1, "a"), said(2, "a"), said(2, "b"), said(3, "a"), said(4, "a")))
    found = of_successes(pieces, KINDS, DAY)
    assert found[["kind", "id", "attempts", "of"]].to_numpy().tolist() == sorted(
        [["build", template_id("a"), 2, 2], ["build", template_id("b"), 1, 2], ["mirror", template_id("a"), 1, 1]]
    )
    assert set(found["day"]) == {at("00:00")}


def fine(*rows: tuple[str, str, int, int]) -> pd.DataFrame:
    keys = ("kind", "id", "attempts", "of")
    return table("success_templates", *(dict(zip(keys, r, strict=True)) | {"day": at("00:00")} for r in rows))


def test_what_a_success_of_the_same_kind_has_is_left_out() -> None:
    pieces = of_lines(lines(said(1, "a"), said(1, "b"), said(2, "b"), said(3, "a")))
    found = of_failures(pieces, KINDS, fine(("build", template_id("a"), 1, 5)))
    assert found[["kind", "text", "failed", "failed_of"]].to_numpy().tolist() == [
        ["build", "b", 2, 2],
        ["mirror", "a", 1, 1],
    ]
    assert found["succeeded"].fillna(-1).tolist() == [0, -1]  # of mirrors no success was read
    assert found["succeeded_of"].fillna(-1).tolist() == [5, -1]


def test_one_job_that_writes_anything_does_not_fill_the_ledger() -> None:
    words = ["".join(chr(ord("g") + int(d)) for d in f"{n:04d}") for n in range(MOST + 50)]
    pieces = of_lines(lines(*(said(1, w) for w in words), said(1, "shared"), said(2, "shared")))
    found = of_failures(pieces, KINDS, fine())
    assert len(found) == MOST
    assert found["text"].iloc[0] == "shared"


def test_signatures_are_in_the_ledger_with_the_failures_that_have_them() -> None:
    told = lines(line("10:01", "build-ref"), line("10:00", "build-ref", "manifest-unknown"), line("10:02"))
    found = of_signatures(told, table("failures", {"failed_at": at("10:00"), "signatures": ["build-ref"]}))
    assert found[["id", "lines", "failed", "failed_of"]].to_numpy().tolist() == [
        ["build-ref", 2, 1, 1],
        ["manifest-unknown", 1, 0, 1],
    ]


def entry(when: str, days: int = 0, **more: Any) -> dict[str, Any]:
    seen = {"first_at": at(when, days), "last_at": at(when, days), "first_seen_at": at(when, days), "lines": 1}
    return {"day": at("00:00", days), "what": "template", "kind": "build", "id": "t-1"} | seen | more


@pytest.mark.parametrize(
    ("before", "state"),
    [
        (None, None),
        ([], "new"),
        ([entry("12:00", -1)], "known"),
        ([entry("12:00", -9), entry("12:00", -1)], "known"),
        ([entry("10:00", -7)], "returning"),
        ([entry("10:01", -7)], "known"),
        ([entry("12:00", -1, kind="mirror")], "new"),
        ([entry("12:00", -1, what="signature")], "new"),
    ],
)
def test_a_template_is_new_known_or_back(before: list[dict[str, Any]] | None, state: str | None) -> None:
    past = None if before is None else table("ledger", *before)
    found = schemas.rows_of(ledger([table("ledger", entry("10:00"))], past, DAY, 7 * 86_400.0))
    assert [None if pd.isna(r["state"]) else r["state"] for r in found] == [state]
    first = before[0]["first_at"] if state in {"known", "returning"} and before else at("10:00")
    assert found[0]["first_seen_at"] == first


def test_a_signature_has_no_kind_and_is_known_all_the_same() -> None:
    one = entry("10:00", what="signature", kind=None, id="build-ref")
    past = table("ledger", one | {"day": at("00:00", -1), "last_at": at("10:00", -1), "first_seen_at": at("10:00", -3)})
    (found,) = schemas.rows_of(ledger([table("ledger", one)], past, DAY, 7 * 86_400.0))
    assert (found["state"], found["first_seen_at"], found["seen_before_at"]) == (
        "known",
        at("10:00", -3),
        at("10:00", -1),
    )


def test_nothing_found_is_an_empty_table() -> None:
    pd.testing.assert_frame_equal(ledger([], None, DAY, 1.0), schemas.empty_frame("ledger"))
    assert of_lines(lines()).empty
    assert of_successes(of_lines(lines()), {}, DAY).empty
    assert of_failures(of_lines(lines()), {}, fine()).empty
