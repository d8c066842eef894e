"""Failures: one a failed attempt, whatever was logged about it, and one a run that failed before it had any."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import catalog, schemas
from pipeline.correlate import attempt_of_line
from pipeline.model import DAY_NS, Window
from pipeline.rules import Signature
from pipeline.signals.failures import failures
from tests.tables import DAY, KINDS, at, attempt, attempts, line, lines

RULES = catalog.load()
JOB = "codex-k8s-kaniko-web-console-3f2a9c1e-7b4"
RUN = "3f2a9c1e-7b41-4c1d-9a60-52e1c07d8b14"
MANIFEST = f"wait kaniko job {JOB}: job failed; logs: error while retrieving image from cache: MANIFEST_UNKNOWN"


def _failures(ran: pd.DataFrame, told: pd.DataFrame | None = None, day: Window = DAY, **more: Any) -> pd.DataFrame:
    return failures(ran, lines() if told is None else told, day, RULES.signatures, RULES.phrases, KINDS, **more)


def _one(ran: pd.DataFrame, told: pd.DataFrame | None = None, **more: Any) -> dict[str, Any]:
    (row,) = schemas.rows_of(_failures(ran, told, **more))
    return row


def test_nothing_failed_is_a_table_without_rows() -> None:
    for ran in (attempts(), attempts(attempt("09:00", "09:10"))):
        empty = _failures(ran, lines(line("09:00", "manifest-unknown")))
        assert empty.empty
        assert (empty.dtypes == schemas.empty_frame("failures").dtypes).all()


def test_a_failed_attempt_is_a_failure_with_all_that_identifies_it() -> None:
    got = _one(
        attempts(attempt("09:00", "09:14:05", "failed", attempt=2, run_id=RUN, issue=205, linked_by="job_token"))
    )
    assert {k: got[k] for k in ("namespace", "job_name", "kind", "attempt", "run_id", "issue", "linked_by")} == {
        "namespace": "codex-k8s-prod",
        "job_name": JOB,
        "kind": "build",
        "attempt": 2,
        "run_id": RUN,
        "issue": 205,
        "linked_by": "job_token",
    }
    assert got["failed_at"] == at("09:14:05")
    assert (got["class"], got["signatures"], got["lines"]) == ("other", [], 0)
    assert all(
        pd.isna(got[c])
        for c in ("first_line_at", "last_line_at", "example", "recovered_at", "recovered_job", "recovered_attempt")
    )


@pytest.mark.parametrize("kind", KINDS)
def test_failures_are_of_builds_mirrors_and_codegen_checks(kind: str) -> None:
    assert len(_failures(attempts(attempt("09:00", "09:10", "failed", kind)))) == 1


def test_failures_are_of_no_other_kind_and_of_no_other_outcome() -> None:
    others = [attempt("09:00", None, o) for o in ("running", "superseded", "vanished")]
    assert _failures(attempts(attempt("09:00", "09:10", "failed", "run"), *others)).empty


def test_a_failure_is_of_the_day_its_attempt_ended_in() -> None:
    ran = attempts(
        attempt(at("23:50", -1), "00:00", "failed"),
        attempt("23:50", at("00:00", 1), "failed"),
    )
    assert _failures(ran)["failed_at"].tolist() == [at("00:00")]
    tomorrow = Window(DAY.end, DAY.end + DAY_NS)
    assert _failures(ran, day=tomorrow)["failed_at"].tolist() == [at("00:00", 1)]


def test_the_lines_of_pod_control_plane_and_worker_are_one_failure() -> None:
    told = lines(
        line("09:09:58", "manifest-unknown", "cache-retrieval", attempt_index=0, app=None, line="pod"),
        line("09:10:01", "manifest-unknown", attempt_index=0, line="control-plane"),
        line("09:10:02", "cache-retrieval", attempt_index=0, app="codex-k8s-worker", line="worker"),
        line("09:09:00", attempt_index=0, level="INFO", line="still building"),
        line("09:10:01", "build-ref", attempt_index=1, line="of another"),
    )
    got = _one(attempts(attempt("09:00", "09:10", "failed")), told)
    assert (got["signatures"], got["class"], got["lines"]) == (["cache-retrieval", "manifest-unknown"], "cache", 3)
    assert (got["first_line_at"], got["last_line_at"]) == (at("09:09:58"), at("09:10:02"))


def test_the_class_comes_from_lines_of_the_job_and_not_from_others_of_its_run() -> None:
    ran = attempts(attempt("09:00", "09:10", "failed", run_id=RUN))
    assert _one(ran, lines(line("09:05", "manifest-unknown", run_id=RUN)))["class"] == "other"


@pytest.mark.parametrize(
    ("when", "belongs"),
    [
        ("08:59:59.9", None),
        ("09:00", 1),  # creation times are cut to the second
        ("09:05", 1),
        ("09:10:01", 1),
        ("09:10:02.9", 1),  # the line that announces the retry
        ("09:10:03", 2),
        ("09:12", 2),
        ("09:17", 2),
        ("09:17:00.1", None),
    ],
)
def test_a_jobs_lines_belong_to_an_attempt_until_a_second_after_the_next_and_a_minute_after_its_end(
    when: str, belongs: int | None
) -> None:
    ran = attempts(
        attempt("09:00", "09:10", "failed", attempt=1),
        attempt("09:10:02", "09:16", "failed", attempt=2),
    )
    told = lines(line(when, "manifest-unknown", job=JOB))
    got = _failures(ran, told.assign(attempt_index=attempt_of_line(told, ran)))
    assert got.loc[got["lines"] == 1, "attempt"].tolist() == ([belongs] if belongs else [])


@pytest.mark.parametrize(("first", "second", "expected"), [(0, 1, "cache"), (1, 0, "build-ref")])
def test_of_two_classes_the_first_lines_counts(first: int, second: int, expected: str) -> None:
    told = lines(
        line(f"09:0{first}", "cache-retrieval", attempt_index=0),
        line(f"09:0{second}", "build-ref", attempt_index=0),
    )
    assert _one(attempts(attempt("09:00", "09:10", "failed")), told)["class"] == expected


def test_a_users_signature_without_one_of_the_two_classes_makes_the_class_other() -> None:
    mine = Signature("oom", "memory", ["OOMKilled"], "", "")
    ran, told = attempts(attempt("09:00", "09:10", "failed")), lines(line("09:05", "oom", attempt_index=0))
    (got,) = schemas.rows_of(failures(ran, told, DAY, [*RULES.signatures, mine], RULES.phrases, KINDS))
    assert (got["signatures"], got["class"]) == (["oom"], "other")


def test_without_a_signature_what_was_logged_as_bad_tells_of_the_failure() -> None:
    told = lines(
        line("09:01", attempt_index=0, level="INFO", line="INFO[0003] Retrieving image manifest"),
        line("09:05", attempt_index=0, level="WARN", line="push slow"),
        line("09:06", attempt_index=0, level="ERROR", line="push denied"),
    )
    got = _one(attempts(attempt("09:00", "09:10", "failed")), told)
    assert (got["lines"], got["first_line_at"], got["example"], got["class"]) == (2, at("09:05"), "push slow", "other")


def test_plain_text_without_a_level_tells_by_its_words() -> None:
    told = lines(
        line("09:01", attempt_index=0, level=None, line="INFO[0003] Retrieving image manifest"),
        line("09:05", attempt_index=0, level=None, line="error building image: no space left"),
    )
    got = _one(attempts(attempt("09:00", "09:10", "failed")), told)
    assert (got["lines"], got["example"]) == (1, "error building image: no space left")


def test_the_example_is_the_error_text_before_the_whole_line() -> None:
    told = lines(
        line("09:05", "manifest-unknown", attempt_index=0, line="MANIFEST_UNKNOWN of the pod"),
        line("09:06", "manifest-unknown", attempt_index=0, line='{"err": …}', err=MANIFEST),
    )
    assert _one(attempts(attempt("09:00", "09:10", "failed")), told)["example"] == MANIFEST


def test_a_long_error_is_cut_around_what_it_is_shown_for() -> None:
    err = "log " * 500 + "MANIFEST_UNKNOWN: manifest unknown " + "more " * 500
    told = lines(line("09:05", "manifest-unknown", attempt_index=0, err=err))
    example = _one(attempts(attempt("09:00", "09:10", "failed")), told)["example"]
    assert len(example) == 300
    assert "MANIFEST_UNKNOWN: manifest unknown" in example
    assert (example[0], example[-1]) == ("…", "…")


def test_of_an_error_with_many_lines_the_example_is_the_one_that_says_it() -> None:
    err = (
        "wait kaniko job: job failed; logs: INFO[0000] Resolved base\nerror: MANIFEST_UNKNOWN: manifest unknown\nexit 1"
    )
    told = lines(line("09:05", "manifest-unknown", attempt_index=0, err=err))
    got = _one(attempts(attempt("09:00", "09:10", "failed")), told)
    assert got["example"] == "error: MANIFEST_UNKNOWN: manifest unknown"


@given(st.text(max_size=700), st.text(max_size=700))
@settings(max_examples=15, deadline=None)
def test_an_example_is_one_short_line_whatever_was_logged(before: str, after: str) -> None:
    told = lines(line("09:05", "manifest-unknown", attempt_index=0, err=f"{before}MANIFEST_UNKNOWN{after}"))
    example = _one(attempts(attempt("09:00", "09:10", "failed")), told)["example"]
    assert len(example) <= 300
    assert "\n" not in example
    assert "MANIFEST_UNKNOWN" in example


def test_recovery_is_the_first_later_success_of_the_same_job() -> None:
    ran = attempts(
        attempt("08:00", "08:10"),
        attempt("09:00", "09:10", "failed", attempt=1),
        attempt("09:20", "09:30", "failed", attempt=2),
        attempt("09:40", "09:50", attempt=3),
        attempt("10:00", "10:10", attempt=4),
        attempt("09:11", "09:12", namespace="another"),
    )
    found = _failures(ran)
    assert found["recovered_at"].tolist() == [at("09:50"), at("09:50")]
    assert found["recovered_job"].tolist() == found["job_name"].tolist()
    assert found["recovered_attempt"].tolist() == [3, 3]


def test_else_recovery_is_the_first_later_success_of_the_same_run_and_kind() -> None:
    ran = attempts(
        attempt("09:00", "09:10", "failed", run_id=RUN),
        attempt("09:20", "09:30", run_id=RUN, kind="mirror"),
        attempt("09:20", "09:40", run_id=RUN, job_name="codex-k8s-kaniko-worker-3f2a9c1e-7b4"),
        attempt("09:20", "09:35", run_id="another", job_name="codex-k8s-kaniko-worker-aaaaaaaa-aaa"),
    )
    got = _one(ran)
    assert (got["recovered_at"], got["recovered_attempt"]) == (at("09:40"), 1)
    assert got["recovered_job"] == "codex-k8s-kaniko-worker-3f2a9c1e-7b4"


def test_without_a_run_no_other_job_recovers_a_failure() -> None:
    ran = attempts(attempt("09:00", "09:10", "failed"), attempt("09:20", "09:40", job_name="codex-k8s-kaniko-worker-x"))
    assert pd.isna(_one(ran)["recovered_at"])


def test_a_success_on_the_next_day_recovers_too() -> None:
    assert _one(attempts(attempt("23:00", "23:50", "failed"), attempt("23:55", at("00:05", 1))))["recovered_at"] == at(
        "00:05", 1
    )


SAID = "run failed before agent start: build failed"


def test_a_run_that_failed_before_its_agent_started_is_a_failure_of_its_own() -> None:
    told = lines(
        line("09:20", "build-ref", run_id=RUN, line="git checkout --detach -b x: '-b x' is not a commit"),
        line("09:21", run_id=RUN, line=SAID),
        line("09:22", run_id=RUN, line=SAID),
        line("09:22", "manifest-unknown", run_id="another"),
    )
    got = _one(attempts(), told, issues={RUN: 205})
    assert (got["failed_at"], got["run_id"], got["issue"], got["linked_by"]) == (at("09:21"), RUN, 205, "field")
    assert (got["class"], got["signatures"], got["lines"], got["kind"]) == ("build-ref", ["build-ref"], 1, "run")
    assert all(pd.isna(got[c]) for c in ("namespace", "job_name", "attempt", "recovered_at"))


def test_a_failed_run_takes_the_issue_of_its_line_where_no_comment_has_it() -> None:
    assert _one(attempts(), lines(line("09:21", run_id=RUN, issue=7, line=SAID)))["issue"] == 7


def test_a_run_that_only_the_text_names_is_linked_by_text() -> None:
    phrase = RULES.phrases[0].__class__("run_failed", "run (?P<run>[a-z0-9-]+) failed early")
    told = lines(line("09:21", line=f"run {RUN} failed early: MANIFEST_UNKNOWN"))
    (got,) = schemas.rows_of(failures(attempts(), told, DAY, RULES.signatures, [phrase], KINDS))
    assert (got["run_id"], got["linked_by"]) == (RUN, "text")


def test_a_line_that_names_no_run_makes_no_failure() -> None:
    assert _failures(attempts(), lines(line("09:21", line=SAID))).empty


def test_a_failed_run_is_dated_by_the_first_line_that_says_so() -> None:
    told = lines(line(at("23:59", -1), run_id=RUN, line=SAID), line("00:01", run_id=RUN, line=SAID))
    assert _failures(attempts(), told).empty
    yesterday = Window(DAY.start - DAY_NS, DAY.start)
    assert _failures(attempts(), told, yesterday)["failed_at"].tolist() == [at("23:59", -1)]


@pytest.mark.parametrize("how", ["run", "job"])
def test_a_failed_run_with_a_failed_attempt_is_that_failure_and_no_second_one(how: str) -> None:
    ran = attempts(attempt("09:00", "09:10", "failed", run_id=RUN if how == "run" else None))
    told = lines(line("09:11", run_id=RUN, line=SAID, job=JOB if how == "job" else None))
    assert _failures(ran, told)["kind"].tolist() == ["build"]


def test_a_run_whose_attempt_was_only_superseded_has_no_failed_attempt_seen() -> None:
    ran = attempts(
        attempt("09:00", None, "superseded", run_id=RUN), attempt("09:05", "09:09", "failed", "run", run_id=RUN)
    )
    assert _one(ran, lines(line("09:11", run_id=RUN, line=SAID)))["kind"] == "run"


def test_the_id_is_made_from_what_identifies_the_attempt_alone() -> None:
    ran = attempts(attempt("09:00", "09:10", "failed"))
    later = attempts(
        attempt("09:00", "09:10:07", "failed", run_id=RUN, issue=205, linked_by="field", outcome_source="event"),
        attempt("09:10:02", "09:20"),
        attempt("09:30", "09:40", "failed"),
    )
    told = lines(line("09:05", "manifest-unknown", attempt_index=0))
    ids = _failures(later, told)["failure_id"].tolist()
    assert _one(ran)["failure_id"] == ids[0]
    assert len(set(ids)) == 2
    assert ids[0] != _one(attempts(attempt("09:00", "09:10", "failed", namespace="slot-1")))["failure_id"]


@st.composite
def some_day(draw: st.DrawFn) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Make attempts of a few jobs and runs, and lines about them."""
    minute = st.integers(0, 1439)
    names, runs = (
        st.sampled_from([JOB, "codex-k8s-kaniko-worker-aaaaaaaa-aaa"]),
        st.sampled_from([RUN, "another", None]),
    )
    made = draw(
        st.lists(st.tuples(minute, st.integers(1, 60), names, runs), max_size=8, unique_by=lambda t: (t[0], t[2]))
    )
    outcomes = [draw(st.sampled_from(["failed", "succeeded"])) for _ in made]
    ran = attempts(
        *(attempt(_at(m), _at(m + n), o, job_name=j, run_id=r) for (m, n, j, r), o in zip(made, outcomes, strict=True))
    )
    about = st.none() if ran.empty else st.none() | st.integers(0, len(ran) - 1)
    said = st.tuples(
        minute, st.sampled_from([(), ("build-ref",), ("manifest-unknown",)]), about, runs, st.sampled_from([SAID, "a"])
    )
    told = draw(st.lists(said, max_size=8))
    return ran, lines(*(line(_at(m), *s, attempt_index=i, run_id=r, line=t) for m, s, i, r, t in told))


def _at(minute: int) -> pd.Timestamp:
    return at("00:00") + pd.Timedelta(minutes=minute)


few = settings(max_examples=10, deadline=None)


@few
@given(some_day())
def test_every_failed_attempt_is_one_failure_and_every_class_has_its_signature(
    made: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    ran, told = made
    got = _failures(ran, told)
    assert got.columns.tolist() == schemas.TABLES["failures"].columns
    assert got["failure_id"].is_unique
    ended = ran[(ran["outcome"] == "failed") & (ran["ended_at"] < at("24:00"))]
    assert (got["kind"] != "run").sum() == len(ended)
    assert not set(got.loc[got["kind"] == "run", "run_id"]) & set(ended["run_id"].dropna())
    for r in schemas.rows_of(got):
        assert (r["class"] == "other") == (not r["signatures"])
        assert pd.isna(r["recovered_at"]) or r["recovered_at"] > r["failed_at"]


@few
@given(some_day(), st.integers(0, 99))
def test_the_order_of_rows_changes_nothing(made: tuple[pd.DataFrame, pd.DataFrame], seed: int) -> None:
    ran, told = made
    mixed = _failures(ran.sample(frac=1, random_state=seed), told.sample(frac=1, random_state=seed))
    pd.testing.assert_frame_equal(mixed, _failures(ran, told))


@few
@given(some_day())
def test_lines_about_nothing_change_nothing(made: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    ran, told = made
    strange = lines(line("09:00", "manifest-unknown", line="of an unrelated stream", app="another"))
    pd.testing.assert_frame_equal(_failures(ran, pd.concat([told, strange], ignore_index=True)), _failures(ran, told))
