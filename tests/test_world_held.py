"""Every table held to the truth of crippled worlds: what their sources can tell is there and right, the rest is unknown."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

from pipeline import schemas
from tests.world import held as tables
from tests.world.held import ALIKE, ENDED, QUIET, UNKNOWN, WORLDS, Held, Holder
from tests.world.truth import instant

SEEDS = (1, 3, 23)
QUICK = ("gaps", "no events", "no Prometheus", "Prometheus alone, gaps, 60 s", "logs alone")
COUNTS = ["started", "finished", "failed"]
LINES = ["manifest_unknown_lines", "cache_retrieval_lines", "build_ref_lines"]


def _worlds() -> Iterator[tuple[str, int]]:
    """Yield every world with two seeds: 7, and one of some others that worlds of the same options have in common."""
    others = dict(zip(dict.fromkeys(str(WORLDS[n].options) for n in ALIKE), itertools.cycle(SEEDS), strict=False))
    yield from ((name, 7) for name in ALIKE)
    yield from ((name, others[str(WORLDS[name].options)]) for name in ALIKE)


def _marked(name: str, seed: int) -> Any:
    marks = () if name in QUICK and seed == 7 else pytest.mark.slow
    return pytest.param((name, seed), id=f"{name}, seed {seed}", marks=marks)


@pytest.fixture(scope="module")
def holder(tmp_path_factory: pytest.TempPathFactory) -> Holder:
    """Give who makes what worlds share once."""
    return Holder(tmp_path_factory.mktemp("worlds"))


@pytest.fixture(scope="module", params=[_marked(*w) for w in _worlds()])
def held(request: pytest.FixtureRequest, holder: Holder) -> Held:
    """Pull and compute the day of a crippled world."""
    name, seed = request.param
    return holder.hold(WORLDS[name], seed, **QUIET)


def test_every_attempt_that_a_source_shows_is_there_once_and_no_other(held: Held) -> None:
    assert [r for r, t in held.pairs if t is None] == []
    today = {t["uid"] for t in held.truth}
    assert held.known.keys() & today == {t["uid"] for t in held.truth if held.seen(t)}


def test_an_outcome_is_the_true_one_where_a_source_tells_it_and_openly_unknown_elsewhere(held: Held) -> None:
    for t in (t for t in held.truth if t["uid"] in held.known):
        ours, told = held.known[t["uid"]], held.told(t)
        assert ours["kind"] == t["kind"]
        if told:
            assert ours["outcome"] == t["outcome"], (t, ours)
            if t["outcome"] == "failed":
                assert ours["outcome_source"] == told
                assert pd.isna(ours["reason"]) if told == "line" else ours["reason"] == t["reason"]
        elif t["ended_at"] < instant(held.window.end):
            assert ours["outcome"] in UNKNOWN, (t, ours)
            assert pd.isna(ours["ended_at"])


def test_no_end_lies_further_from_the_true_one_than_it_says(held: Held) -> None:
    assert len(held.late())
    assert [x for x in held.late() if not abs(x.off_s) <= x.within_s + 1e-6] == []
    exact = [x for x in held.late() if x.source in {"event", "condition"} and x.outcome == "failed"]
    assert {x.off_s for x in exact} <= {0.0}


def test_no_attempt_is_linked_to_a_run_that_is_not_its_own(held: Held) -> None:
    assert held.links()["wrong"] == 0
    if held.crippled.has("logs"):
        named = {t["uid"] for t in held.truth if "field" in t["links"]} & held.known.keys()
        assert [held.known[u]["job_name"] for u in named if not isinstance(held.known[u]["run_id"], str)] == []


def test_golden_has_the_true_counts_where_it_says_complete_and_none_elsewhere(held: Held) -> None:
    ours, true = held.golden()
    whole = ours["complete"].astype(bool)
    assert len(ours) == 480
    assert (
        ours.loc[~whole, [*COUNTS, "failure_ratio", "duration_p95_s", "backlog_max", "pending_max"]]
        .isna()
        .all(axis=None)
    )
    if held.crippled.has("prometheus"):
        assert whole.tolist() == true["complete"].astype(bool).tolist()
    elif not held.crippled.has("snapshots"):
        assert whole.all() if held.crippled.has("events") else not whole.any()
    if held.crippled.has("events"):
        pd.testing.assert_frame_equal(ours.loc[whole, COUNTS], true.loc[whole, COUNTS], check_dtype=False)
    else:
        assert (ours.loc[whole, COUNTS].sum() <= true.loc[whole, COUNTS].sum()).all()
    if held.crippled.has("logs"):
        pd.testing.assert_frame_equal(ours[LINES], true[LINES], check_dtype=False)
    else:
        assert ours[LINES].isna().all(axis=None)


def test_the_counts_of_golden_add_up(held: Held) -> None:
    ours, _ = held.golden()
    ours = ours.reset_index()
    whole = ours[ours["complete"].astype(bool)]
    of_all = whole[whole["kind"] == "all"].set_index(["window_start", "window"])[COUNTS]
    kinds = whole[whole["kind"] != "all"].groupby(["window_start", "window"])[COUNTS].sum()
    pd.testing.assert_frame_equal(of_all.sort_index(), kinds.sort_index(), check_dtype=False)
    quarters = ours[ours["window"] == "15m"].groupby([ours["window_start"].dt.floor("h"), "kind"])[COUNTS].sum()
    hours = whole[whole["window"] == "1h"].set_index(["window_start", "kind"])[COUNTS]
    pd.testing.assert_frame_equal(quarters.loc[hours.index], hours, check_dtype=False)


def test_incidents_are_the_true_ones_where_lines_tell_their_class_and_else_there_are_none(held: Held) -> None:
    true, ours = held.incidents()
    if not held.crippled.has("logs"):
        assert ours == []
        assert next(c.complete for c in held.day.coverage if c.what == "logs") is None
        return
    assert [(i["class"], i["failures"]) for i in ours] == [(i["class"], i["failures"]) for i in true]
    for mine, was in zip(ours, true, strict=True):
        late = (mine["started_at"] - was["started_at"]).total_seconds()
        assert 0 <= late <= (0 if held.crippled.has("events") else 60)
        if not held.crippled.has("prometheus", "events"):
            assert pd.isna(mine["ended_at"])  # who sees no success knows of no recovery
            assert pd.isna(mine["mttr_s"])
            continue
        for column in ("ended_at", "first_success_at"):
            off = (mine[column] - was[column]).total_seconds()
            assert 0 <= off <= (0 if held.crippled.has("prometheus") else 1), column


def test_availability_is_the_true_one_where_events_tell_every_end_and_unknown_where_nobody_shows_jobs(
    held: Held,
) -> None:
    true, ours = held.availability()
    if held.crippled.has("events"):
        assert ours == true
    elif held.crippled.has("prometheus", "snapshots"):
        assert ours is not None
        assert ours[0] <= true[0]
        assert ours[1] <= true[1]
    else:
        assert ours is None


def test_no_alert_is_called_matched_missed_or_unexpected_that_was_not(held: Held) -> None:
    true, ours = held.audit()
    if not held.crippled.has("prometheus"):
        assert ours == []  # nobody was asked what fired
    elif held.crippled.has("events"):
        assert [row for row in ours if row not in true] == []
        if held.crippled.has("logs") and not held.world.truth.scrape_holes:
            assert ours == true
    elif held.crippled.has("logs"):
        assert Counter(row[:2] for row in ours) == Counter(row[:2] for row in true)
    else:
        known = {row[:2] for row in true} | {("AI_SLOT_BUILD_FAILURE_RATE_ELEVATED", "missed")}
        assert {row[:2] for row in ours} <= known


def test_failures_are_of_their_true_class_or_of_none(held: Held) -> None:
    true = {(r["job_name"], r["attempt"]): r for r in schemas.rows_of(held.world.truth.failures)}
    by_row = {(r["job_name"], r["attempt"]): t for r, t in held.pairs if t}
    for f in schemas.rows_of(held.table("failures")):
        t = by_row.get((f["job_name"], f["attempt"]))
        if t is not None:
            was = true[t["job_name"], t["attempt"]]
            assert f["class"] == (was["class"] if held.crippled.has("logs") else "other"), (f, was)


def test_the_table_of_truth_against_ours_has_a_row_for_every_world(holder: Holder) -> None:
    found = holder.hold(WORLDS["snapshots alone"], **QUIET)
    head, _, row = tables.markdown({"snapshots alone": found}).splitlines()
    assert len(head.split("|")) == len(row.split("|"))
    assert f"| {len(found.truth)} / " in row
    assert {r["outcome"] for r, _ in found.pairs} <= {*ENDED, *UNKNOWN}
