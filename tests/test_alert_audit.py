"""The alert audit: when the catalogue's conditions held over our own data, and how that agrees with what fired."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import catalog, schemas
from pipeline.model import NS, Window
from pipeline.rules import AlertRule
from pipeline.signals.alerts import Expected, audit, expected
from tests.lives import interval
from tests.tables import DAY, at, attempt, attempts, line, lines, ns, span, table

RULES = {r.name: r for r in catalog.load().alerts}
BURST = RULES["AI_SLOT_BUILD_FAILURE_BURST"]
MANIFEST = RULES["AI_SLOT_BUILD_MANIFEST_UNKNOWN_PERSISTENT"]
BUILD_REF = RULES["AI_SLOT_CODEGEN_CHECK_BUILD_REF_INVALID"]
RATE = RULES["AI_SLOT_BUILD_FAILURE_RATE_ELEVATED"]
RISK = RULES["AI_SLOT_BUILD_MTTR_SLO_RISK"]
WHOLE: Mapping[str, Sequence[Window]] = {"logs": (), "jobs": (), "alerts": ()}
Clock = str | pd.Timestamp


# when they should have fired


def _failed(*when: Clock, kind: str = "build") -> list[dict[str, Any]]:
    return [_ended(t, "failed", kind) for t in when]


def _ended(when: Clock, outcome: str = "succeeded", kind: str = "build") -> dict[str, Any]:
    end = at(when) if isinstance(when, str) else when
    return attempt(end - pd.Timedelta(seconds=60), end, outcome, kind)


def _case(start: Clock, end: Clock | None) -> dict[str, Any]:
    times = [t if t is None or isinstance(t, pd.Timestamp) else at(t) for t in (start, end)]
    return {"started_at": times[0], "ended_at": times[1], "class": "cache", "incident_id": f"i-{start}"} | {
        "failures": 1, "runs": [], "issues": [], "signatures": [],
    }  # fmt: skip


def _expected(
    rule: AlertRule,
    ran: Sequence[dict[str, Any]] = (),
    told: Sequence[dict[str, Any]] = (),
    cases: Sequence[dict[str, Any]] = (),
    until: int | None = None,
) -> Expected:
    (found,) = expected([rule], attempts(*ran), lines(*told), table("incidents", *cases), DAY, until)
    return found


def _clocks(found: Expected) -> list[tuple[str, str | None]]:
    def clock(t: int | None) -> str | None:
        return None if t is None else f"{pd.Timestamp(t, tz='UTC'):%H:%M:%S}"

    return [(str(clock(a)), clock(b)) for a, b in found.intervals]


def test_nothing_happened_and_nothing_should_have_fired() -> None:
    for rule in RULES.values():
        found = _expected(rule)
        assert list(found.intervals) == []
        assert found.worst == (0 if rule.measure in {"failed_attempts", "signature_lines"} else None)


def test_a_burst_is_three_failed_builds_or_mirrors_in_a_quarter_of_an_hour_by_when_they_ended() -> None:
    ran = [*_failed("09:00", "09:10"), *_failed("09:14:59", kind="mirror")]
    found = _expected(BURST, ran)
    assert _clocks(found) == [("09:14:59", "09:15:00")]
    assert (found.worst, found.worst_at) == (3, ns("09:14:59"))
    assert _clocks(_expected(BURST, [*_failed("09:00", "09:10", "09:15")])) == []
    assert _clocks(_expected(BURST, [*ran[:2], *_failed("09:14:59", kind="codegen-check")])) == []
    assert _clocks(_expected(BURST, [*ran[:2], _ended("09:14:59")])) == []


def test_an_attempt_without_a_known_end_is_no_failure() -> None:
    lost = [attempt("09:12", None, o) for o in ("superseded", "vanished", "running")]
    assert _clocks(_expected(BURST, [*_failed("09:00", "09:10"), *lost])) == []


def test_lines_count_in_the_app_that_the_rule_names() -> None:
    told = [line("09:00", "manifest-unknown"), line("09:14", "manifest-unknown", "cache-retrieval")]
    assert _clocks(_expected(MANIFEST, told=told)) == [("09:14:00", "09:15:00")]
    for other in (line("09:14", "cache-retrieval"), line("09:14", "manifest-unknown", app="codex-k8s-worker")):
        assert _clocks(_expected(MANIFEST, told=[told[0], other])) == []


def test_build_ref_lines_count_in_any_app_when_their_job_is_a_codegen_check() -> None:
    told = [
        line("09:00", "build-ref", kind="codegen-check"),
        line("09:14", "build-ref", kind="codegen-check", app=None),
        line("09:14:30", "build-ref", kind="build"),
        line("09:14:40", "build-ref"),
    ]
    assert _clocks(_expected(BUILD_REF, told=told)) == [("09:14:00", "09:15:00")]
    assert _clocks(_expected(BUILD_REF, told=told[1:])) == []


def test_the_failure_rate_is_judged_from_five_finished_builds_on() -> None:
    ran = [_ended("09:00", "failed"), *(_ended(f"09:0{m}") for m in (1, 2, 3))]
    found = _expected(RATE, ran)
    assert (_clocks(found), found.worst, found.worst_of) == ([], None, (1, 1))
    found = _expected(RATE, [*ran, _ended("09:04"), *_failed("09:05", kind="mirror")])
    assert _clocks(found) == [("09:04:00", "10:00:00")]
    assert (found.worst, found.worst_at, found.worst_of) == (0.2, ns("09:04"), (1, 5))


def test_the_rate_must_be_above_its_threshold_and_not_on_it() -> None:
    many = [_ended(at("09:00") + pd.Timedelta(seconds=s)) for s in range(19)]
    assert _clocks(_expected(RATE, [*many[1:], *_failed("09:30")]))[0][0] == "09:30:00"
    # one of twenty is none too many, and too many once the first of them is an hour old, while five are left
    assert _clocks(_expected(RATE, [*many, *_failed("09:30")])) == [("10:00:00", "10:00:15")]


def test_recovery_is_at_risk_from_half_an_hour_until_a_day_after_its_end() -> None:
    found = _expected(RISK, cases=[_case("09:00", "09:40")])
    assert list(found.intervals) == [(ns("09:30"), ns("09:40", 1))]
    assert (found.worst, found.worst_at) == (2400, ns("09:30"))
    assert _clocks(_expected(RISK, cases=[_case("09:00", "09:30")])) == []
    still = _expected(RISK, cases=[_case("23:00", None)])
    assert list(still.intervals) == [(ns("23:30"), None)]
    assert still.worst == 3600
    assert _clocks(_expected(RISK, cases=[_case("23:30", None)])) == []


def test_overlapping_risks_are_one() -> None:
    cases = [_case("09:00", "10:00"), _case("12:00", "13:00"), _case(at("09:00", -3), at("10:00", -3))]
    assert list(_expected(RISK, cases=cases).intervals) == [
        (ns("09:30", -3), ns("10:00", -2)),
        (ns("09:30"), ns("13:00", 1)),
    ]


def test_what_still_holds_when_nothing_more_is_known_has_no_end() -> None:
    ran = _failed("23:50", "23:51", "23:52")
    assert _clocks(_expected(BURST, ran)) == [("23:52:00", None)]
    assert _clocks(_expected(BURST, ran, until=ns("01:00", 1))) == [("23:52:00", "00:05:00")]
    later = [*ran, *_failed(at("00:04", 1))]
    assert _clocks(_expected(BURST, later, until=ns("01:00", 1))) == [("23:52:00", "00:06:00")]


def test_what_began_before_the_day_is_replayed_but_not_reached_in_it() -> None:
    ran = _failed(at("23:50", -1), at("23:51", -1), at("23:52", -1), "00:03")
    found = _expected(BURST, ran)
    assert list(found.intervals) == [(ns("23:52", -1), ns("00:06"))]
    assert found.reached_in(DAY) == []
    assert (found.worst, found.worst_at) == (4, ns("00:03"))


minutes = st.lists(st.tuples(st.integers(0, 120), st.booleans()), max_size=14)


@given(minutes, st.sampled_from([BURST, RATE, replace(RATE, window_s=600, minimum=2)]))
@settings(max_examples=25, deadline=None)
def test_the_replay_is_what_looking_at_every_second_finds(made: list[tuple[int, bool]], rule: AlertRule) -> None:
    ran = [_ended(at("09:00") + pd.Timedelta(minutes=m), "failed" if bad else "succeeded") for m, bad in made]
    found = _expected(rule, ran)

    def holds(minute: int) -> bool:
        inside = [bad for m, bad in made if minute - rule.window_s / 60 < m <= minute]
        if rule.measure == "failed_attempts":
            return sum(inside) >= 3
        return len(inside) >= max(rule.minimum, 1) and sum(inside) / len(inside) > 0.05

    def said(minute: int) -> bool:
        t = ns("09:00") + minute * 60 * NS
        return any(a <= t and (b is None or t < b) for a, b in found.intervals)

    assert [said(m) for m in range(-5, 200)] == [holds(m) for m in range(-5, 200)]
    assert all(b is not None and b < c for (_, b), (c, _) in itertools.pairwise(found.intervals))


# how the two agree


def _audit(
    should: Sequence[tuple[str, str | None]],
    did: Sequence[dict[str, Any]],
    rule: AlertRule = BURST,
    gaps: Mapping[str, Sequence[Window]] = WHOLE,
) -> list[dict[str, Any]]:
    found = Expected(rule, [(ns(a), None if b is None else ns(b)) for a, b in should])
    return schemas.rows_of(audit([found], table("alerts", *did), DAY, 300, gaps))


def test_an_expected_interval_that_an_actual_one_overlaps_is_matched() -> None:
    (row,) = _audit([("09:00", "09:30")], [interval("09:05", "09:40")])
    assert (row["verdict"], row["delay_s"], row["alert"]) == ("matched", 300, BURST.name)
    assert [row[c] for c in ("expected_start", "expected_end", "actual_start", "actual_end")] == [
        at("09:00"),
        at("09:30"),
        at("09:05"),
        at("09:40"),
    ]


@pytest.mark.parametrize(
    ("actual", "verdicts"),
    [
        (("09:34:59", "09:40"), ["matched"]),
        (("09:35", "09:40"), ["missed", "unexpected"]),
        (("08:50", "08:55:01"), ["matched"]),
        (("08:50", "08:55"), ["missed", "unexpected"]),
        (("08:00", None), ["matched"]),
        (("10:00", None), ["missed", "unexpected"]),
    ],
)
def test_intervals_less_than_the_tolerance_apart_overlap(actual: tuple[str, str | None], verdicts: list[str]) -> None:
    assert sorted(r["verdict"] for r in _audit([("09:00", "09:30")], [interval(*actual)])) == verdicts


def test_a_missed_one_has_nothing_actual_and_an_unexpected_one_nothing_expected() -> None:
    missed, unexpected = _audit([("09:00", "09:30")], [interval("12:00", None)])
    assert (missed["verdict"], unexpected["verdict"]) == ("missed", "unexpected")
    assert all(pd.isna(missed[c]) for c in ("actual_start", "actual_end", "delay_s"))
    assert all(pd.isna(unexpected[c]) for c in ("expected_start", "expected_end", "actual_end", "delay_s"))
    assert unexpected["actual_start"] == at("12:00")


def test_what_still_holds_matches_what_fires_up_to_the_days_end() -> None:
    (row,) = _audit([("23:50", None)], [interval("23:55", None)])
    assert row["verdict"] == "matched"
    assert pd.isna(row["expected_end"])
    assert pd.isna(row["actual_end"])


def test_several_actual_intervals_of_one_expected_are_one_row() -> None:
    (row,) = _audit([("09:00", "10:00")], [interval("09:10", "09:20"), interval("08:59", "09:02", namespace="b")])
    assert (row["actual_start"], row["actual_end"], row["delay_s"]) == (at("08:59"), at("09:20"), -60)


def test_only_what_begins_in_the_day_is_a_row_of_it() -> None:
    yesterday, tomorrow = (at("23:00", -1), at("23:10", -1)), (at("00:10", 1), None)
    assert _audit([], [interval(*yesterday), interval(*tomorrow)]) == []
    found = Expected(BURST, [(ns("23:00", -1), ns("00:20")), (ns("00:30", 1), None)])
    assert audit([found], table("alerts", interval("00:05", "00:10")), DAY, 300).empty


def test_an_alert_of_another_rule_matches_nothing() -> None:
    assert [r["verdict"] for r in _audit([("09:00", "09:30")], [interval("09:00", "09:30", "Another")])] == ["missed"]


def test_what_lies_in_a_hole_of_the_alerts_is_not_called_missed() -> None:
    holed = {**WHOLE, "alerts": [span("09:34", "10:00")]}
    assert _audit([("09:00", "09:30")], [], gaps=holed) == []
    assert len(_audit([("09:00", "09:28")], [], gaps=holed)) == 1
    assert _audit([("09:00", "09:30")], [], gaps={"jobs": (), "logs": ()}) == []
    (row,) = _audit([("09:00", "09:30")], [interval("09:00", "09:30")], gaps=holed)
    assert row["verdict"] == "matched"


@pytest.mark.parametrize(("rule", "what", "other"), [(BURST, "jobs", "logs"), (MANIFEST, "logs", "jobs")])
def test_what_looks_back_on_a_hole_of_ours_is_not_called_unexpected(rule: AlertRule, what: str, other: str) -> None:
    fired = [interval("09:30", "09:40", rule.name)]
    hole = [span("09:00", "09:15")]  # a quarter of an hour and the tolerance before it began
    assert _audit([], fired, rule, {**WHOLE, what: hole}) == []
    assert len(_audit([], fired, rule, {**WHOLE, other: hole})) == 1
    assert len(_audit([], fired, rule, {**WHOLE, what: [span("08:00", "09:10")]})) == 1
    assert _audit([], fired, rule, {other: (), "alerts": ()}) == []


def test_nothing_expected_and_nothing_fired_is_a_table_without_rows() -> None:
    found = audit([Expected(BURST, [])], table("alerts"), DAY, 300)
    assert found.empty
    assert (found.dtypes == schemas.empty_frame("alert_audit").dtypes).all()
