"""What failures share: exact chances, correction, and values that failures have more often than successes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from random import Random

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import schemas
from pipeline.signals.shared import ALL, DAY, IS, STARTS, corrected, fisher, incident_of, shares
from tests.tables import DAY as WINDOW
from tests.tables import at, table

NAMES = ["ref", "image", "node"]
SMALL = st.integers(0, 4)


@pytest.mark.parametrize(
    ("k", "n", "s", "m", "chance"),
    [
        (3, 4, 1, 4, 17 / 70),  # Fisher's tea-tasting lady, three of four cups right
        (4, 4, 0, 4, 1 / 70),
        (9, 12, 1, 12, 0.001379728),
        (0, 4, 4, 4, 1.0),
        (0, 0, 0, 3, 1.0),
        (2, 2, 0, 0, 1.0),  # nothing to compare with
        (300, 300, 0, 9_700, 0.0),  # smaller than a float can be
    ],
)
def test_fishers_chance_is_the_known_one(k: int, n: int, s: int, m: int, chance: float) -> None:
    assert fisher(k, n, s, m) == pytest.approx(chance, rel=1e-3)


@settings(max_examples=60, deadline=None)
@given(SMALL, SMALL, SMALL, SMALL)
def test_fishers_chance_is_that_of_all_ways_to_deal(k: int, lost: int, s: int, rest: int) -> None:
    n, m = k + lost, s + rest
    everyone = [True] * (k + s) + [False] * (lost + rest)
    hands = [sum(everyone[i] for i in hand) for hand in combinations(range(n + m), n)]
    assert fisher(k, n, s, m) == pytest.approx(sum(have >= k for have in hands) / len(hands))


@given(SMALL, SMALL, SMALL, SMALL)
def test_one_more_among_the_failures_is_no_likelier(k: int, lost: int, s: int, rest: int) -> None:
    assert 0 <= fisher(k + 1, k + lost + 1, s, s + rest) <= fisher(k, k + lost + 1, s + 1, s + 1 + rest) <= 1


def test_corrected_values_are_those_of_the_paper() -> None:
    # Benjamini and Hochberg 1995, section 3.2: fifteen comparisons, four of them kept at 0.05
    raw = [
        0.0001,
        0.0004,
        0.0019,
        0.0095,
        0.0201,
        0.0278,
        0.0298,
        0.0344,
        0.0459,
        0.3240,
        0.4262,
        0.5719,
        0.6528,
        0.759,
        1,
    ]
    found = corrected(raw)
    assert [q <= 0.05 for q in found] == [True] * 4 + [False] * 11
    assert found[:4] == pytest.approx([0.0015, 0.003, 0.0095, 0.035625])


@given(st.lists(st.floats(0, 1), max_size=20))
def test_correction_keeps_the_order_and_makes_nothing_surer(raw: list[float]) -> None:
    found = corrected(raw)
    assert all(p <= q <= 1 for p, q in zip(raw, found, strict=True))
    in_order = [q for _, q in sorted(zip(raw, found, strict=True))]
    assert in_order == sorted(in_order)


def known(rows: Sequence[tuple[str | None, ...]], incident: str | None = None) -> pd.DataFrame:
    """Return attempts' values: `kind`, then those of NAMES."""
    frame = pd.DataFrame(list(rows), columns=["kind", *NAMES]).astype("str")
    return frame.assign(incident_id=pd.Series([incident] * len(frame), dtype="str"))


def told(failed: pd.DataFrame, succeeded: pd.DataFrame) -> pd.DataFrame:
    return shares(failed, succeeded, NAMES, ["ref"], WINDOW)


def test_what_all_failures_and_no_success_has_leads_with_what_it_starts_with() -> None:
    failed = known([("check", "-b feature/x", None, n) for n in ("a", "b", "a", "b")], "i-1")
    fine = known([("check", f"{i:040x}", None, "ab"[i % 2]) for i in range(20)])
    first = schemas.rows_of(told(failed, fine))[0]
    assert (first["scope"], first["attribute"], first["match"], first["value"]) == ("i-1", "ref", STARTS, "-b")
    assert (first["failed"], first["failed_of"], first["succeeded"], first["succeeded_of"]) == (4, 4, 0, 20)
    assert first["p_value"] == pytest.approx(1 / 10_626)
    assert (first["rank"], first["day"]) == (1, at("00:00"))
    assert first["failed_low_ratio"] == pytest.approx(0.5101, abs=1e-4)
    assert first["succeeded_high_ratio"] == pytest.approx(0.1611, abs=1e-4)


def test_different_values_that_start_alike_are_found_together() -> None:
    failed = known([("check", f"-b feature/{i}", None, None) for i in range(4)])
    fine = known([("check", f"release/{i % 2}", None, None) for i in range(12)])
    found = told(failed, fine)
    assert found[["attribute", "match", "value"]].to_numpy().tolist() == [["ref", STARTS, "-b"]]
    paths = told(fine.assign(incident_id=None), failed.drop(columns="incident_id"))
    assert ["ref", STARTS, "release/"] in paths[["attribute", "match", "value"]].to_numpy().tolist()


def test_unknown_takes_no_part_and_is_counted() -> None:
    failed = known([("build", None, "web", "a")] * 3 + [("build", None, None, "a")] * 2)
    fine = known([("build", None, "api", "b")] * 6 + [("build", None, None, "b")])
    found = told(failed, fine)
    image = schemas.rows_of(found[found["attribute"] == "image"])[0]
    assert (image["failed"], image["failed_of"], image["failed_unknown"]) == (3, 3, 2)
    assert (image["succeeded"], image["succeeded_of"], image["succeeded_unknown"]) == (0, 6, 1)
    assert "ref" not in set(found["attribute"])


def test_kinds_are_compared_with_their_own_and_with_each_other() -> None:
    failed = known([("build", None, "web", None)] * 5)
    fine = known([("build", None, "web", None)] * 5 + [("mirror", None, "web", None)] * 20)
    found = told(failed, fine)
    assert found[["scope", "kind", "attribute", "match", "value"]].to_numpy().tolist() == [
        [DAY, ALL, "kind", IS, "build"]
    ]


@pytest.mark.parametrize(
    ("failed", "succeeded"),
    [
        ([], []),
        ([("build", "a", "a", "a")] * 3, []),
        ([], [("build", "a", "a", "a")]),
        ([("build", "a", "a", "a")], []),
    ],
)
def test_where_one_side_is_missing_nothing_is_said(
    failed: list[tuple[str, ...]], succeeded: list[tuple[str, ...]]
) -> None:
    found = told(known(failed), known(succeeded))
    pd.testing.assert_frame_equal(found, schemas.empty_frame("shares"))


VALUES = st.none() | st.sampled_from(["-b x", "-b y", "main", "rel/1", "rel/2"])
ROWS = st.lists(st.tuples(st.sampled_from(["build", "check"]), VALUES, VALUES, VALUES), max_size=12)


@settings(max_examples=60, deadline=None)
@given(ROWS, ROWS, st.integers(0, 2**16))
def test_the_order_of_rows_changes_nothing_and_counts_fit(
    bad: list[tuple[str | None, ...]], good: list[tuple[str | None, ...]], seed: int
) -> None:
    found = told(known(bad, "i-1"), known(good))
    mixed_bad, mixed_good = Random(seed).sample(bad, len(bad)), Random(seed).sample(good, len(good))
    pd.testing.assert_frame_equal(told(known(mixed_bad, "i-1"), known(mixed_good)), found)
    assert found["p_value"].between(0, 1).all()
    assert (found["q_value"] >= found["p_value"]).all()
    assert found["p_value"].is_monotonic_increasing
    for r in schemas.rows_of(found):
        of_kind = [v for v in bad if r["kind"] in {ALL, v[0]}]
        assert r["failed_of"] + r["failed_unknown"] == len(of_kind)
        assert r["failed"] * r["succeeded_of"] > r["succeeded"] * r["failed_of"]


def test_a_failure_belongs_to_the_last_incident_of_its_class_that_began_by_then() -> None:
    cases = table(
        "incidents",
        {"incident_id": "i-1", "class": "cache", "started_at": at("09:00")},
        {"incident_id": "i-2", "class": "cache", "started_at": at("12:00")},
        {"incident_id": "i-3", "class": "build-ref", "started_at": at("11:00")},
    )
    when = [("09:00", "cache"), ("11:59", "cache"), ("12:00", "cache"), ("10:00", "build-ref"), ("12:00", "other")]
    found = table(
        "failures", *({"failed_at": at(t), "class": c, "failure_id": f"{i}"} for i, (t, c) in enumerate(when))
    )
    of = dict(zip(found["failure_id"], incident_of(found, cases).fillna(""), strict=True))
    assert [of[str(i)] for i in range(5)] == ["i-1", "i-1", "i-2", "", ""]
