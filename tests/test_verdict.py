"""The verdict: the worst rule that held says the word, and every rule that held is named."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import catalog
from pipeline.model import Coverage, Window, instant_of
from pipeline.signals.alerts import Expected
from pipeline.signals.verdict import LEVELS, Verdict, verdict
from tests.tables import DAY, at, ns, span, table

CATALOGUE = catalog.load()
PAGE = next(r for r in CATALOGUE.alerts if r.severity == "page")
TICKET = next(r for r in CATALOGUE.alerts if r.severity == "ticket")
FULL = [Coverage(w, s, True, True, 1, (), {}) for w, s in (("logs", "loki"), ("jobs", "prometheus"))]
OFF = [Coverage(w, s, False, None, 0, (), {}) for w, s in (("alerts", "prometheus"), ("issues", "github"))]


def _judged(
    reached: Sequence[Expected] = (),
    cases: Sequence[dict[str, Any]] = (),
    failed: int = 0,
    slo: Sequence[dict[str, Any]] = (),
    known: Sequence[Coverage] = (*FULL, *OFF),
    max_gap_s: float = 0,
) -> Verdict:
    objectives = CATALOGUE.objectives
    return verdict(DAY, reached, table("incidents", *cases), failed, table("slo", *slo), known, objectives, max_gap_s)


def _rules(got: Verdict) -> list[tuple[str, str]]:
    return [(r["rule"], r["level"]) for r in got.reasons]


def _case(start: str | pd.Timestamp, end: str | pd.Timestamp | None, mttr_s: float | None = None) -> dict[str, Any]:
    begun = at(start) if isinstance(start, str) else start
    over = at(end) if isinstance(end, str) else end
    took = mttr_s if mttr_s is not None else (over - begun).total_seconds() if over else None
    row = {"started_at": begun, "ended_at": over, "mttr_s": took, "class": "cache", "incident_id": "i-1"}
    return row | {"failures": 1, "runs": [], "issues": [], "signatures": []}


def _holed(*gaps: Window, what: str = "jobs", complete: bool | None = False, **proof: Any) -> list[Coverage]:
    return [*(c for c in FULL if c.what != what), Coverage(what, "prometheus", True, complete, 1, gaps, proof)]


def _slo(ratio: float | None, policy: str | None = "ok", spent: float | None = 0.1) -> dict[str, Any]:
    row = {"day": at("00:00"), "slo": "build_availability", "window": "7d", "ratio": ratio, "objective_ratio": 0.99}
    return row | {"policy": policy, "budget_spent_ratio": spent}


def test_a_day_on_which_no_rule_held_is_green_without_a_reason() -> None:
    got = _judged([Expected(PAGE, [])], slo=[_slo(1.0)])
    assert (got.verdict, list(got.reasons)) == ("green", [])


def test_a_pages_threshold_makes_the_day_red() -> None:
    got = _judged([Expected(PAGE, [(ns("09:14"), ns("09:20")), (ns("11:00"), None)])])
    assert (got.verdict, _rules(got)) == ("red", [("page-threshold", "red")])
    (reason,) = got.reasons
    assert (reason["at"], reason["alert"], reason["times"]) == ("2026-02-26T09:14:00Z", PAGE.name, 2)
    assert reason["text"] == f"{PAGE.name} reached its page's threshold at 2026-02-26T09:14:00Z, 2 times in all"


def test_a_tickets_threshold_makes_it_amber() -> None:
    assert _rules(_judged([Expected(TICKET, [(ns("09:14"), None)])])) == [("ticket-threshold", "amber")]


def test_only_a_threshold_reached_in_the_day_counts() -> None:
    for edge in ((ns("23:59", -1), ns("00:10")), (ns("00:00", 1), None)):
        assert _judged([Expected(PAGE, [edge])]).verdict == "green"
    assert _judged([Expected(PAGE, [(ns("00:00"), None)])]).verdict == "red"


@pytest.mark.parametrize(
    ("case", "rules"),
    [
        (_case("09:00", "09:30"), []),
        (_case("09:00", "09:30:01"), [("incident-too-long", "red")]),
        (_case("23:50", None), [("incident-not-recovered", "red")]),
        (_case("23:50", at("00:00", 1)), []),
        (_case("23:50", at("00:00:01", 1)), [("incident-not-recovered", "red")]),
        (_case(at("23:50", -1), "00:10"), []),
        (_case(at("23:00", -1), "00:10"), [("incident-too-long", "red")]),
        (_case(at("22:00", -1), "00:00"), []),  # it was over as the day began
        (_case(at("09:00", -3), None), [("incident-not-recovered", "red")]),
        (_case(at("00:00", 1), None), []),
    ],
)
def test_an_incident_open_in_the_day_must_recover_by_its_end_and_in_time(
    case: dict[str, Any], rules: list[tuple[str, str]]
) -> None:
    assert _rules(_judged(cases=[case])) == rules


def test_the_reason_of_an_incident_names_it() -> None:
    (reason,) = _judged(cases=[_case("09:00", "10:00")]).reasons
    assert {k: reason[k] for k in ("incident_id", "class", "mttr_s", "limit_s", "at")} == {
        "incident_id": "i-1",
        "class": "cache",
        "mttr_s": 3600,
        "limit_s": 1800,
        "at": "2026-02-26T09:00:00Z",
    }
    assert (
        reason["text"] == "the cache incident of 2026-02-26T09:00:00Z took 3600 s to recover, the objective is 1800 s"
    )


def test_without_an_objective_of_recovery_no_incident_takes_too_long() -> None:
    only = [o for o in CATALOGUE.objectives if o.limit_s is None]
    cases = table("incidents", _case("09:00", "12:00"))
    assert verdict(DAY, [], cases, 0, table("slo"), FULL, only, 0).verdict == "green"


def test_a_hole_makes_the_day_grey_and_says_where() -> None:
    got = _judged(known=_holed(span("10:00", "10:14"), span("12:00", "12:02")))
    assert (got.verdict, _rules(got)) == ("grey", [("hole", "grey")])
    (reason,) = got.reasons
    assert {k: reason[k] for k in ("what", "source", "longest_s", "holes", "at")} == {
        "what": "jobs",
        "source": "prometheus",
        "longest_s": 840,
        "holes": 2,
        "at": "2026-02-26T10:00:00Z",
    }
    assert "error" not in reason


def test_a_hole_that_an_install_overlooks_makes_nothing_grey() -> None:
    holes = _holed(span("10:00", "10:14"), span("12:00", "12:14"))
    assert _judged(known=holes, max_gap_s=840).verdict == "green"
    assert _judged(known=holes, max_gap_s=839.9).verdict == "grey"


def test_a_source_that_failed_is_named_with_its_error() -> None:
    (reason,) = _judged(known=_holed(DAY, error="connection refused")).reasons
    assert (reason["error"], reason["longest_s"]) == ("connection refused", 86_400)


def test_where_nobody_can_tell_no_verdict_hangs_on_it() -> None:
    events = Coverage("events", "kubernetes", True, None, 1, (span("08:00", "10:00"),), {})
    assert _judged(known=[*FULL, *OFF, events]).verdict == "green"


def test_with_neither_jobs_nor_logs_there_is_nothing_to_judge() -> None:
    off = [Coverage(w, "", False, None, 0, (), {}) for w in ("logs", "jobs")]
    assert _rules(_judged(known=[*off, *OFF])) == [("no-source", "grey")]
    assert _judged(known=[FULL[0], off[1]]).verdict == "green"


@pytest.mark.parametrize(("failed", "text"), [(1, "1 failed attempt"), (3, "3 failed attempts")])
def test_a_failed_attempt_makes_the_day_amber(failed: int, text: str) -> None:
    got = _judged(failed=failed)
    assert (got.verdict, [(r["text"], r["failures"], r["at"]) for r in got.reasons]) == (
        "amber",
        [(text, failed, None)],
    )


@pytest.mark.parametrize(
    ("row", "rules"),
    [
        (_slo(0.99), []),
        (_slo(0.9899999), [("objective-missed", "amber")]),
        (_slo(0.995, "freeze", 0.6), [("budget-policy", "amber")]),
        (_slo(0.98, "stabilise", 2.0), [("budget-policy", "amber"), ("objective-missed", "amber")]),
        (_slo(None, None, None), []),  # the lake is young
    ],
)
def test_a_missed_objective_or_a_policy_in_force_makes_it_amber(
    row: dict[str, Any], rules: list[tuple[str, str]]
) -> None:
    assert _rules(_judged(slo=[row])) == rules


def test_an_objective_that_is_unknown_because_the_lake_is_young_makes_nothing_grey() -> None:
    assert _judged(slo=[_slo(None, None, None)]).verdict == "green"


EVERYTHING: dict[str, dict[str, Any]] = {
    "red": {"reached": [Expected(PAGE, [(ns("09:14"), None)])], "cases": [_case("08:00", None)]},
    "grey": {"known": _holed(span("10:00", "10:14"))},
    "amber": {"failed": 1, "slo": [_slo(0.5, "freeze", 0.7)]},
}


@pytest.mark.parametrize("held", [c for n in range(4) for c in itertools.combinations(EVERYTHING, n)])
def test_the_worst_rule_gives_the_word_and_red_stays_red_with_holes(held: tuple[str, ...]) -> None:
    what: dict[str, Any] = {k: v for level in held for k, v in EVERYTHING[level].items()}
    got = _judged(**what)
    assert got.verdict == next((w for w in LEVELS if w in held), "green")
    assert {level for _, level in _rules(got)} == set(held)


def test_reasons_come_worst_first_then_by_time_then_by_name() -> None:
    got = _judged(**{k: v for part in EVERYTHING.values() for k, v in part.items()})
    assert _rules(got) == [
        ("incident-not-recovered", "red"),
        ("page-threshold", "red"),
        ("hole", "grey"),
        ("budget-policy", "amber"),
        ("failed-attempt", "amber"),
        ("objective-missed", "amber"),
    ]


gaps_ = st.lists(st.tuples(st.integers(0, 23), st.integers(1, 59)), max_size=3)


@given(gaps_, st.integers(0, 3600), st.integers(0, 2), st.booleans())
@settings(max_examples=30, deadline=None)
def test_a_day_with_a_hole_longer_than_overlooked_is_never_green(
    gaps: list[tuple[int, int]], max_gap_s: int, failed: int, page: bool
) -> None:
    holes = [Window(ns(f"{h:02d}:00"), ns(f"{h:02d}:{m:02d}")) for h, m in gaps]
    reached = [Expected(PAGE, [(ns("09:00"), None)] if page else [])]
    got = _judged(reached, failed=failed, known=_holed(*holes, complete=not holes), max_gap_s=max_gap_s)
    too_long = any(w.seconds > max_gap_s for w in holes)
    assert got.verdict == ("red" if page else "grey" if too_long else "amber" if failed else "green")
    assert all(r["at"] is None or instant_of(r["at"]) in DAY for r in got.reasons)
