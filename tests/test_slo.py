"""Objectives: what is counted in their window, what is left out, and what the budget allows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import catalog, schemas
from pipeline.model import Window
from pipeline.signals.slo import Exclusion, LeftOut, Objectives, excluded_by, objectives
from tests.tables import DATE, DAY, at, attempt, attempts, ns, span, table

RULES = catalog.load().objectives
AVAILABILITY = next(r for r in RULES if r.name == "build_availability")
WEEK = {DATE - dt.timedelta(days=i) for i in range(7)}
LATER = ns("12:00", 1)
RELEASE = Exclusion("maintenance", span("09:00", "10:00"), "anna", "release")
OUTAGE = Exclusion("outage", span("09:00", "10:00"), "anna", "quay.io", "their status page")


def _objectives(ran: pd.DataFrame, cases: pd.DataFrame | None = None, **more: Any) -> Objectives:
    what: dict[str, Any] = {"rules": RULES, "pulled": WEEK, "entries": (), "now": LATER} | more
    cases = table("incidents") if cases is None else cases
    return objectives(ran, cases, day=DAY, **what)


def _row(found: Objectives, name: str) -> dict[str, Any]:
    (row,) = [r for r in schemas.rows_of(found.table) if r["slo"] == name]
    return row


def _available(ran: pd.DataFrame, **more: Any) -> dict[str, Any]:
    return _row(_objectives(ran, **more), "build_availability")


def _recovery(*cases: dict[str, Any], **more: Any) -> dict[str, Any]:
    return _row(_objectives(attempts(), table("incidents", *cases), **more), "recovery")


def _many(good: int, bad: int, days: int = 0, kind: str = "build") -> list[dict[str, Any]]:
    outcomes = ["succeeded"] * good + ["failed"] * bad
    return [
        attempt(at("09:00", days), at("09:10", days), o, kind, at("09:00", days), job_name=f"j-{days}-{kind}-{i}")
        for i, o in enumerate(outcomes)
    ]


def _incident(started: str | pd.Timestamp, mttr_s: float | None, **more: Any) -> dict[str, Any]:
    begun = at(started) if isinstance(started, str) else started
    ended = None if mttr_s is None else begun + pd.Timedelta(seconds=mttr_s)
    row = {
        "started_at": begun,
        "ended_at": ended,
        "mttr_s": mttr_s,
        "class": "cache",
        "incident_id": f"i-{begun.value}",
    }
    return row | {"failures": 1, "runs": [], "issues": [], "signatures": []} | more


def test_each_objective_has_a_row_of_the_tables_shape_also_when_nothing_happened() -> None:
    found = _objectives(attempts())
    assert found.table.columns.tolist() == schemas.TABLES["slo"].columns
    assert (found.table.dtypes == schemas.empty_frame("slo").dtypes).all()
    for row in schemas.rows_of(found.table):
        assert (row["good"], row["total"], row["window"], row["day"]) == (0, 0, "7d", at("00:00"))
        assert all(pd.isna(row[c]) for c in ("ratio", "budget_spent_ratio", "policy"))
    assert found.table["objective_ratio"].tolist() == [0.99, 1.0]
    assert _objectives(attempts(), rules=()).table.empty


def test_availability_is_of_finished_builds_and_codegen_checks() -> None:
    ran = [*_many(3, 1), *_many(2, 2, kind="codegen-check"), *_many(5, 5, kind="mirror"), *_many(5, 5, kind="run")]
    ran += [attempt("10:00", None, o) for o in ("running", "superseded", "vanished")]
    row = _available(attempts(*ran))
    assert (row["good"], row["total"], row["ratio"]) == (5, 8, 0.625)


def test_the_window_is_seven_utc_days_up_to_the_days_end_by_when_attempts_ended() -> None:
    ran = [
        attempt(at("23:00", -7), at("23:59:59", -7)),
        attempt(at("23:30", -7), at("00:00", -6), "failed"),
        attempt("23:30", "23:59:59"),
        attempt("23:40", at("00:00", 1)),
    ]
    row = _available(attempts(*ran))
    assert (row["good"], row["total"]) == (1, 2)


def test_the_budget_is_spent_by_the_share_of_failures_the_objective_allows() -> None:
    assert _available(attempts(*_many(99, 1)))["budget_spent_ratio"] == 1.0
    assert _available(attempts(*_many(98, 2)))["budget_spent_ratio"] == 2.0
    assert _available(attempts(*_many(10, 0)))["budget_spent_ratio"] == 0.0


@given(st.integers(0, 40), st.integers(0, 10))
@settings(max_examples=10, deadline=None)
def test_the_budget_spent_is_one_less_the_ratio_over_one_less_the_objective(good: int, bad: int) -> None:
    row = _available(attempts(*_many(good, bad)))
    assert (row["good"], row["total"]) == (good, good + bad)
    if good + bad:
        assert row["ratio"] == good / (good + bad)
        assert row["budget_spent_ratio"] == pytest.approx((1 - row["ratio"]) / (1 - 0.99))


@pytest.mark.parametrize(
    ("good", "bad", "days", "policy"),
    [
        (100, 0, 0, "ok"),
        (199, 1, 0, "ok"),  # 50 % is not more than 50 %
        (198, 1, 0, "freeze"),
        (198, 1, -2, "freeze"),
        (198, 1, -3, "ok"),  # more than half of the budget, but not within three days
        (496, 4, 0, "freeze"),  # 80 % is not more than 80 %
        (495, 4, 0, "stabilise"),
        (495, 4, -6, "stabilise"),
        (496, 4, -6, "ok"),
    ],
)
def test_the_policy_freezes_above_half_the_budget_in_three_days_and_stabilises_above_four_fifths(
    good: int, bad: int, days: int, policy: str
) -> None:
    assert _available(attempts(*_many(good, 0), *_many(0, bad, days)))["policy"] == policy


def test_thresholds_are_compared_exactly_whatever_the_objective_is_in_binary() -> None:
    rule = replace(AVAILABILITY, target=0.9)
    row = _available(attempts(*_many(46, 0), *_many(0, 4, -6)), rules=[rule])
    assert (row["budget_spent_ratio"], row["policy"]) == (0.8, "ok")


def test_an_objective_of_everything_has_no_budget() -> None:
    row = _available(attempts(*_many(1, 1)), rules=[replace(AVAILABILITY, target=1.0)])
    assert row["ratio"] == 0.5
    assert pd.isna(row["budget_spent_ratio"])
    assert pd.isna(row["policy"])


@pytest.mark.parametrize("missing", [0, 3, 6])
def test_while_a_day_of_the_window_was_not_pulled_everything_is_unknown(missing: int) -> None:
    pulled = WEEK - {DATE - dt.timedelta(days=missing)}
    found = _objectives(attempts(*_many(3, 1)), table("incidents", _incident("09:00", 60)), pulled=pulled)
    for row in schemas.rows_of(found.table):
        assert all(pd.isna(row[c]) for c in ("good", "total", "ratio", "budget_spent_ratio", "policy"))
        assert row["objective_ratio"] > 0


def test_recovery_counts_the_windows_incidents_and_those_recovered_in_half_an_hour_are_good() -> None:
    row = _recovery(
        _incident("09:00", 1800),
        _incident("10:00", 1800.000001),
        _incident(at("00:00", -6), 60),
        _incident(at("23:59:59", -7), 60),
        _incident(at("00:00", 1), 60),
    )
    assert (row["good"], row["total"], row["ratio"], row["objective_ratio"]) == (2, 3, 2 / 3, 1.0)
    assert pd.isna(row["budget_spent_ratio"])
    assert pd.isna(row["policy"])


@pytest.mark.parametrize(("started", "total"), [("23:30", 1), ("23:30:01", 0), ("09:00", 1)])
def test_an_incident_without_recovery_is_bad_once_it_is_half_an_hour_old_by_the_days_end(
    started: str, total: int
) -> None:
    row = _recovery(_incident(started, None))
    assert (row["good"], row["total"]) == (0, total)
    assert pd.isna(row["ratio"]) == (total == 0)


@pytest.mark.parametrize(("now", "total"), [("09:29:59", 0), ("09:30", 1)])
def test_during_the_day_it_is_as_old_as_it_is_now(now: str, total: int) -> None:
    assert _recovery(_incident("09:00", None), now=ns(now))["total"] == total


def test_a_recovery_after_midnight_counts_by_how_long_it_took() -> None:
    row = _recovery(_incident("23:50", 1200), _incident("23:55", 3600))
    assert (row["good"], row["total"]) == (1, 2)


def _left_out(found: Objectives) -> Sequence[int]:
    return found.left_out_attempts, found.left_out_incidents


def test_what_lies_in_a_maintenance_is_left_out_and_counted() -> None:
    ran = attempts(
        attempt("08:50", "09:00", "failed"),
        attempt("09:00", "09:59:59", "failed"),
        attempt("09:30", "10:00", "failed"),
        attempt("09:10", "09:20", "failed", kind="mirror"),
        attempt("09:10", None, "superseded"),
    )
    cases = table("incidents", _incident("09:30", 60), _incident("11:00", 60))
    found = _objectives(ran, cases, entries=[RELEASE])
    row = _row(found, "build_availability")
    assert (row["good"], row["total"]) == (0, 1)
    assert _row(found, "recovery")["total"] == 1
    assert _left_out(found) == (2, 1)


def test_an_outage_of_a_registry_leaves_out_incidents_and_no_attempts() -> None:
    cases = table("incidents", _incident("09:30", None))
    found = _objectives(attempts(*_many(0, 1)), cases, entries=[OUTAGE])
    assert _row(found, "build_availability")["total"] == 1
    assert _row(found, "recovery")["total"] == 0
    assert _left_out(found) == (0, 1)


def test_what_is_outside_every_window_is_not_counted_as_left_out() -> None:
    ran = attempts(*_many(0, 1, -8))
    assert _left_out(_objectives(ran, entries=[Exclusion("maintenance", Window(0, DAY.end))])) == (0, 0)


@given(st.permutations(range(8)))
@settings(max_examples=5, deadline=None)
def test_the_order_of_rows_changes_nothing(order: list[int]) -> None:
    ran = attempts(*_many(5, 3))
    for left_out in ([], [Exclusion("maintenance", span("09:10", "09:11"))]):
        mixed, plain = (_objectives(r, entries=left_out) for r in (ran.iloc[order], ran))
        pd.testing.assert_frame_equal(mixed.table, plain.table)
        assert _left_out(mixed) == _left_out(plain)


# what was left out, by which entry


def test_each_entry_says_what_it_left_out_and_what_two_leave_out_counts_once() -> None:
    ran = attempts(attempt("09:10", "09:20", "failed"), attempt("09:30", "09:50", "failed"))
    cases = table("incidents", _incident("09:20", 60), _incident("11:00", 60))
    later = Exclusion("maintenance", span("09:40", "10:00"))
    old = Exclusion("maintenance", Window(0, DAY.start - 30 * DAY.length))
    found = _objectives(ran, cases, entries=[RELEASE, OUTAGE, later, old])
    case = cases["incident_id"][0]
    assert found.left_out == [LeftOut(RELEASE, 2, [case]), LeftOut(OUTAGE, 0, [case]), LeftOut(later, 1, [])]
    assert _left_out(found) == (2, 1)


def test_an_outage_that_nobody_confirmed_leaves_nothing_out_and_is_named() -> None:
    rumour = replace(OUTAGE, confirmed_by="")
    found = _objectives(attempts(), table("incidents", _incident("09:20", 60)), entries=[rumour])
    assert (_row(found, "recovery")["total"], _left_out(found)) == (1, (0, 0))
    assert found.left_out == [LeftOut(rumour, 0, [])]


def test_an_incident_names_the_entries_that_leave_it_out() -> None:
    began = pd.Series([at("08:59"), at("09:00"), at("10:00")])
    found = excluded_by(began, [RELEASE, OUTAGE, replace(OUTAGE, confirmed_by="")])
    span_ = "2026-02-26T09:00:00Z..2026-02-26T10:00:00Z"
    said = f"maintenance {span_}: anna, release; outage {span_}: anna, quay.io, confirmed by their status page"
    assert [None if pd.isna(t) else t for t in found] == [None, said, None]


# what is left, and what is missing


@pytest.mark.parametrize(
    ("good", "bad", "left"), [(100, 0, 1), (99, 1, 0), (98, 2, -1), (250, 0, 2), (50, 0, 0), (50, 1, -1)]
)
def test_failures_left_are_how_many_more_of_these_attempts_may_fail(good: int, bad: int, left: int) -> None:
    assert _available(attempts(*_many(good, bad)))["failures_left"] == left


def test_days_that_lack_are_named() -> None:
    found = _objectives(attempts(), pulled=WEEK - {DATE - dt.timedelta(days=n) for n in (2, 5)})
    assert found.table["missing_days"].tolist() == [["2026-02-21", "2026-02-24"]] * 2
    assert found.table["failures_left"].isna().all()
    assert _objectives(attempts()).table["missing_days"].tolist() == [[], []]
