"""Incidents: which failures belong together, when it was over, and who noticed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import catalog, schemas
from pipeline.signals.incidents import Watch, incidents
from tests.tables import DAY, at, attempt, attempts, span, table

RULES = catalog.load().alerts
BURST, BUILD_REF = "AI_SLOT_BUILD_FAILURE_BURST", "AI_SLOT_CODEGEN_CHECK_BUILD_REF_INVALID"
QUIET, TOLERANCE = 1800.0, 300.0
WATCH = Watch(86400.0)


def _failure(when: str | pd.Timestamp, name: str = "cache", **more: Any) -> dict[str, Any]:
    failed = at(when) if isinstance(when, str) else when
    signatures = {"cache": ["manifest-unknown"], "build-ref": ["build-ref"]}.get(name, [])
    row = {"failed_at": failed, "class": name, "failure_id": f"f-{failed.value}", "signatures": signatures}
    return row | {"run_id": "r1"} | more


def _incidents(
    failed: Sequence[Mapping[str, Any]],
    ran: Sequence[Mapping[str, Any]] = (),
    fired: Sequence[Mapping[str, Any]] = (),
    said: Sequence[Mapping[str, Any]] = (),
    quiet_s: float = QUIET,
    watch: Watch = WATCH,
) -> pd.DataFrame:
    alerts, links = table("alerts", *fired), table("issue_runs", *said)
    return incidents(table("failures", *failed), attempts(*ran), alerts, links, RULES, quiet_s, TOLERANCE, watch)


def _one(*args: Any, **more: Any) -> dict[str, Any]:
    (row,) = schemas.rows_of(_incidents(*args, **more))
    return row


def _alert(when: str, name: str = BURST) -> dict[str, Any]:
    return {"alert": name, "started_at": at(when), "source": "prometheus", "severity": "page"}


def _comment(when: str, run: str = "r1", author: str = "person") -> dict[str, Any]:
    return {"ts": at(when), "run_id": run, "issue": 205, "author_kind": author, "found_by": "text"}


def test_without_failures_there_is_a_table_without_rows() -> None:
    for failed in ([], [_failure("09:00", "other")]):
        empty = _incidents(failed, [attempt("09:00", "09:10")], [_alert("09:00")])
        assert empty.empty
        assert (empty.dtypes == schemas.empty_frame("incidents").dtypes).all()


def test_failures_belong_together_while_each_follows_the_one_before_within_quiet() -> None:
    got = _incidents([_failure(t) for t in ("09:00", "09:30", "10:00", "10:30:00.000000001", "10:31")])
    assert got["started_at"].tolist() == [at("09:00"), at("10:30:00.000000001")]
    assert got["failures"].tolist() == [3, 2]


def test_how_long_quiet_is_may_be_set() -> None:
    failed = [_failure("09:00"), _failure("09:20")]
    assert [len(_incidents(failed, quiet_s=s)) for s in (1199, 1200)] == [2, 1]


def test_classes_make_incidents_of_their_own_and_other_makes_none() -> None:
    got = _incidents([_failure("09:00"), _failure("09:01", "build-ref"), _failure("09:02", "other"), _failure("09:03")])
    assert got[["class", "failures"]].to_numpy().tolist() == [["cache", 2], ["build-ref", 1]]


def test_an_incident_ends_with_the_first_success_after_its_last_failure() -> None:
    ran = [attempt("08:00", "08:59"), attempt("09:02", "09:05"), attempt("09:11", "09:20"), attempt("09:12", "09:18")]
    got = _one([_failure("09:00"), _failure("09:10")], ran)
    assert (got["started_at"], got["ended_at"], got["first_success_at"]) == (at("09:00"), at("09:18"), at("09:05"))
    assert got["mttr_s"] == 18 * 60


def test_a_success_at_the_instant_of_the_last_failure_is_not_after_it() -> None:
    assert pd.isna(_one([_failure("09:10")], [attempt("09:00", "09:10")])["ended_at"])


@pytest.mark.parametrize(("name", "breaks"), [("cache", "build"), ("build-ref", "codegen-check")])
def test_only_a_success_of_the_kind_that_the_class_breaks_ends_it(name: str, breaks: str) -> None:
    ran = [
        attempt("09:00", f"09:{m}", kind=k)
        for m, k in (("11", "mirror"), ("12", "codegen-check"), ("13", "build"), ("14", "run"))
    ]
    got = _one([_failure("09:10", name)], ran)
    assert got["ended_at"] == got["first_success_at"] == {"codegen-check": at("09:12"), "build": at("09:13")}[breaks]


def test_while_nothing_succeeds_an_incident_has_no_end_and_no_recovery_time() -> None:
    got = _one([_failure("09:00")], [attempt("09:01", "09:10", "failed"), attempt("09:02", None, "running")])
    assert all(pd.isna(got[c]) for c in ("ended_at", "first_success_at", "mttr_s"))


def test_an_incident_lists_its_runs_issues_and_signatures_once() -> None:
    got = _one(
        [
            _failure("09:00", run_id="r2", issue=205),
            _failure("09:01", run_id="r1", issue=7, signatures=["cache-retrieval", "manifest-unknown"]),
            _failure("09:02", run_id="r2", issue=205),
            _failure("09:03", run_id=None),
        ]
    )
    assert (got["runs"], got["issues"]) == (["r1", "r2"], [7, 205])
    assert (got["signatures"], got["failures"]) == (["cache-retrieval", "manifest-unknown"], 4)


def test_the_id_is_made_from_the_first_failure_alone() -> None:
    first = _one([_failure("09:00")])["incident_id"]
    assert _one([_failure("09:00"), _failure("09:10")], [attempt("09:20", "09:30")])["incident_id"] == first
    assert _one([_failure("09:00", failure_id="f-another")])["incident_id"] != first


def test_the_first_alert_about_the_class_detects_it() -> None:
    fired = [_alert("09:07"), _alert("09:04"), _alert("09:03", BUILD_REF), _alert("09:01", "SomethingElse")]
    got = _one([_failure("09:00")], [attempt("09:10", "09:30")], fired)
    assert (got["detected_by"], got["detection_delay_s"]) == (BURST, 240)
    assert _one([_failure("09:00", "build-ref")], [], fired)["detected_by"] == BUILD_REF


@pytest.mark.parametrize(
    ("when", "counts"), [("08:54:59", False), ("08:55", True), ("09:30", True), ("09:30:01", False)]
)
def test_what_detects_lies_between_the_start_less_the_tolerance_and_the_end(when: str, *, counts: bool) -> None:
    ran = [attempt("09:10", "09:30")]
    for fired, said in (([_alert(when)], []), ([], [_comment(when)])):
        got = _one([_failure("09:00")], ran, fired, said)
        assert pd.notna(got["detected_by"]) == counts
        assert pd.notna(got["detection_delay_s"]) == counts


def test_a_delay_is_never_below_zero() -> None:
    assert _one([_failure("09:00")], [], [_alert("08:56")])["detection_delay_s"] == 0


@pytest.mark.parametrize(("said", "by"), [("09:03", "issue"), ("09:04", BURST), ("09:05", BURST)])
def test_a_person_detects_only_before_an_alert_did(said: str, by: str) -> None:
    assert _one([_failure("09:00")], [], [_alert("09:04")], [_comment(said)])["detected_by"] == by


def test_only_a_person_who_names_one_of_its_runs_detects() -> None:
    said = [_comment("09:02", author="platform"), _comment("09:03", run="another"), _comment("09:06", run="r2")]
    got = _one([_failure("09:00"), _failure("09:05", run_id="r2")], [], [], said)
    assert (got["detected_by"], got["detection_delay_s"]) == ("issue", 360)


def test_when_nobody_noticed_both_are_unknown() -> None:
    got = _one([_failure("09:00")])
    assert pd.isna(got["detected_by"])
    assert pd.isna(got["detection_delay_s"])


# the proof that it is over


RAN = [attempt("09:01", f"09:{m}", o) for m, o in ((11, "succeeded"), (12, "succeeded"), (20, "failed"))]
RAN += [attempt("09:01", "09:40", job_name="another"), attempt("09:02", "09:15", "failed", "mirror")]


@pytest.mark.parametrize(
    ("known", "proof"),
    [
        ([], (None, None, "provisional")),
        ([("09:00", "09:10")], (None, None, "provisional")),
        ([("09:00", "09:11:30")], (1, 90, "provisional")),
        ([("09:00", "10:00")], (2, 3000, "provisional")),  # a failure of whatever breaks the row
        ([("09:00", "09:11"), ("09:12", "12:00")], (1, 60, "provisional")),
        ([("09:00", "10:10"), ("10:10", "12:00")], (2, 3660, "confirmed")),  # watched for an hour after its end
        ([("09:05", "10:11")], (2, 3660, "confirmed")),
        ([("09:05", "10:10:59")], (2, 3659, "provisional")),
    ],
)
def test_recovery_is_proven_as_far_as_everything_is_known(
    known: list[tuple[str, str]], proof: tuple[int | None, float | None, str]
) -> None:
    watch = Watch(3600.0, [span(*k) for k in known])
    got = _one([_failure("09:00"), _failure("09:10")], RAN, watch=watch)
    found = [None if pd.isna(got[c]) else got[c] for c in ("successes_in_a_row", "quiet_for_s", "state")]
    assert tuple(found) == proof
    assert got["recovered_by"] == RAN[0]["job_name"]


def test_what_came_back_within_the_watch_is_never_confirmed_and_tells_for_how_long_it_was_quiet() -> None:
    watch = Watch(3600.0, [DAY])
    got = _incidents([_failure("09:10"), _failure("10:00"), _failure("12:00", "build-ref")], RAN, watch=watch)
    assert got["state"].tolist() == ["provisional", "open", "open"]
    assert got["quiet_for_s"].tolist()[:2] == [3000.0, 14 * 3600.0]
    assert got["successes_in_a_row"].tolist() == [2, 0, 0]
    assert pd.isna(got["recovered_by"][1])


minutes = st.integers(0, 2000)
some_failures = st.lists(st.tuples(minutes, st.sampled_from(["cache", "build-ref", "other"])), max_size=12, unique=True)
some_ends = st.lists(
    st.tuples(minutes, st.sampled_from(["build", "codegen-check"]), st.sampled_from(["succeeded", "failed"])),
    max_size=8,
)


def _at(minute: int) -> pd.Timestamp:
    return at("00:00") + pd.Timedelta(minutes=minute)


def _rows(failed: list[tuple[int, str]]) -> list[dict[str, Any]]:
    return [_failure(_at(m), c, failure_id=f"f-{m}-{c}") for m, c in failed]


few = settings(max_examples=12, deadline=None)


@few
@given(some_failures, some_ends)
def test_incidents_are_what_walking_through_the_failures_one_by_one_finds(
    failed: list[tuple[int, str]], ends: list[tuple[int, str, str]]
) -> None:
    ran = [attempt(_at(m - 1), _at(m), o, k) for m, k, o in ends]
    naive: list[tuple[str, int, int, int, int | None]] = []
    for name, kind in (("cache", "build"), ("build-ref", "codegen-check")):
        groups: list[list[int]] = []
        for m in sorted(m for m, c in failed if c == name):
            if groups and m - groups[-1][-1] <= 30:
                groups[-1].append(m)
            else:
                groups.append([m])
        for g in groups:
            end = min((m for m, k, o in ends if k == kind and o == "succeeded" and m > g[-1]), default=None)
            naive.append((name, g[0], g[-1], len(g), end))
    got = [
        (r["class"], r["started_at"], r["failures"], r["ended_at"] if pd.notna(r["ended_at"]) else None)
        for r in schemas.rows_of(_incidents(_rows(failed), ran))
    ]
    expected = [(c, _at(a), n, None if e is None else _at(e)) for c, a, _, n, e in naive]
    assert sorted(got, key=str) == sorted(expected, key=str)


@few
@given(some_failures, some_ends, st.integers(0, 99))
def test_the_order_of_rows_changes_nothing(
    failed: list[tuple[int, str]], ends: list[tuple[int, str, str]], seed: int
) -> None:
    rows, ran = table("failures", *_rows(failed)), attempts(*(attempt(_at(m - 1), _at(m), o, k) for m, k, o in ends))
    none = table("alerts"), table("issue_runs")
    mixed = incidents(
        rows.sample(frac=1, random_state=seed),
        ran.sample(frac=1, random_state=seed),
        *none,
        RULES,
        QUIET,
        TOLERANCE,
        WATCH,
    )
    pd.testing.assert_frame_equal(mixed, incidents(rows, ran, *none, RULES, QUIET, TOLERANCE, WATCH))
