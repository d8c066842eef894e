"""Attempts: one row a life of a job, whatever shows it; what nothing shows is said to be unknown, never guessed."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from pipeline import schemas
from pipeline.signals.attempts import better, upsert
from pipeline.signals.scraped import from_samples
from tests.lives import (
    FAILED,
    HOUR,
    JOB,
    RETRY,
    Life,
    event,
    events,
    every,
    one,
    outcomes,
    pod_ends,
    put_together,
    rows,
    said,
    samples,
    scraped,
    scrapes,
    snapshots,
)
from tests.tables import DAY, at, attempt, attempts, lines, span, table

OTHER = "codex-k8s-mirror-node-22-5be0c1d4"
EMPTY = schemas.empty_frame("attempts")


def test_nothing_shown_is_a_table_without_rows() -> None:
    for found in (put_together(), scraped(), scraped(told=events([]))):
        assert found.empty
        assert (found.dtypes == EMPTY.dtypes).all()


def test_a_success_has_the_instants_that_the_job_itself_shows() -> None:
    got = one(scraped(Life("09:10:03", "09:14:58")))
    assert {k: got[k] for k in ("namespace", "job_name", "kind", "image", "attempt", "source")} == {
        "namespace": "codex-k8s-prod",
        "job_name": JOB,
        "kind": "build",
        "image": "web-console",
        "attempt": 1,
        "source": "prometheus",
    }
    assert (got["created_at"], got["started_at"], got["ended_at"]) == (at("09:10:03"), at("09:10:03"), at("09:14:58"))
    assert (got["outcome"], got["outcome_source"], got["end_uncertainty_s"]) == ("succeeded", "sample", 0)
    assert got["duration_s"] == 295
    assert pd.isna(got["reason"])


def test_what_is_said_of_an_end_holds_for_the_second_to_which_the_api_server_cuts_it() -> None:
    when = every(30, "09:00:10.600", "10:00")
    got = one(scraped(Life("09:10:03", "09:14:40.900", "failed"), when=when))
    told = at("09:14:40")  # before the last scrape that shows it without an end
    assert got["ended_at"] == at("09:15:10.600")
    assert (got["ended_at"] - told).total_seconds() == got["end_uncertainty_s"] == 30.6


def test_a_failure_is_dated_by_the_first_scrape_that_shows_it_and_says_how_late_that_may_be() -> None:
    got = one(scraped(Life("09:10:03", "09:14:58", "failed", reason="DeadlineExceeded")))
    assert (got["ended_at"], got["end_uncertainty_s"]) == (at("09:15:10"), 30)
    assert (got["outcome"], got["outcome_source"], got["reason"]) == ("failed", "sample", "DeadlineExceeded")


def test_a_failure_that_the_first_scrape_already_shows_is_uncertain_back_to_its_start() -> None:
    got = one(scraped(Life("09:14:44", "09:14:58", "failed")))
    assert (got["ended_at"], got["end_uncertainty_s"]) == (at("09:15:10"), 26)


def test_a_success_without_its_time_is_as_uncertain_as_a_failure() -> None:
    shown = samples([Life("09:10:03", "09:14:58")], HOUR)
    got = one(put_together(shown[shown["metric"] != "completion_time"], HOUR))
    assert (got["outcome"], got["ended_at"], got["end_uncertainty_s"]) == ("succeeded", at("09:15:10"), 30)


def test_a_pods_completion_is_nearer_to_a_failures_end_than_the_scrape() -> None:
    shown = samples([Life("09:10:03", "09:14:58", "failed")], HOUR)
    for ended in (["09:14:57"], ["09:09:00", "09:14:57"]):  # the first is of an attempt before
        got = one(put_together(shown, HOUR, ended=pod_ends(*ended)))
        assert (got["ended_at"], got["end_uncertainty_s"], got["outcome_source"]) == (at("09:14:57"), 2, "pod")
    for other in ("09:09:00", "09:15:11", "09:12:00"):  # before it, after its end was seen, long before it ended
        got = one(put_together(shown, HOUR, ended=pod_ends(other)))
        assert (got["ended_at"], got["outcome_source"]) == (at("09:15:10"), "sample")


def test_a_pods_completion_tells_no_outcome() -> None:
    shown = samples([Life("09:10:03", "09:14:58", "failed", gone="09:14:59")], HOUR)
    got = one(put_together(shown, HOUR, ended=pod_ends("09:14:57")))
    assert (got["outcome"], pd.isna(got["ended_at"])) == ("vanished", True)
    done = samples([Life("09:10:03", "09:14:58")], HOUR)
    got = one(put_together(done, HOUR, ended=pod_ends("09:14:57")))
    assert (got["ended_at"], got["outcome_source"]) == (at("09:14:58"), "sample")


def test_a_retry_under_one_name_is_an_attempt_of_its_own() -> None:
    found = scraped(
        Life("09:10:00", "09:14:58", "failed", gone="09:20:00"),
        Life("09:20:02", "09:25:00", gone="09:35:00"),
        Life("09:20:02", "09:21:00", job=OTHER),
    ).sort_values(["job_name", "created_at"])
    assert found["attempt"].tolist() == [1, 2, 1]
    assert outcomes(found) == ["failed", "succeeded", "succeeded"]
    assert found["ended_at"].tolist() == [at("09:15:10"), at("09:25:00"), at("09:21:00")]


def test_the_old_attempts_state_is_never_read_under_the_new_one() -> None:
    """Two kube-state-metrics: one still shows the failed job while the other shows the one made again."""
    old, new = Life("09:10:00", "09:14:58", "failed", gone="09:16:00"), Life("09:15:01", "09:25:00")
    late = every(30, "09:15:25", "09:16:00")
    found = put_together(
        pd.concat([samples([old], [*HOUR, *late]), samples([new], HOUR[11:])], ignore_index=True), HOUR
    )
    assert outcomes(found) == ["failed", "succeeded"]


def test_an_attempt_replaced_before_its_end_was_seen_is_superseded() -> None:
    found = scraped(Life("09:10:00", "09:14:58", "failed", gone="09:15:00"), Life("09:15:02", "09:25:00"))
    assert outcomes(found) == ["superseded", "succeeded"]
    lost = rows(found)[0]
    assert all(pd.isna(lost[c]) for c in ("ended_at", "end_uncertainty_s", "outcome_source", "duration_s"))
    assert lost["last_seen_at"] == at("09:14:40")


def test_an_attempt_that_a_later_scrape_no_longer_shows_has_vanished() -> None:
    assert outcomes(scraped(Life("09:10:00", gone="09:30:00"))) == ["vanished"]


def test_an_attempt_that_the_last_scrapes_show_is_running() -> None:
    assert outcomes(scraped(Life("09:10:00"))) == ["running"]
    assert outcomes(scraped(Life("09:10:00", gone="09:59:20"))) == ["running"]  # one scrape may be late


def test_what_a_hole_between_scrapes_hid_is_not_called_gone_while_the_hole_lasts() -> None:
    before, after = every(30, "09:00:10", "09:20"), every(30, "09:40:10", "10:00")
    life = Life("09:10:00", "09:25:00", gone="09:35:00")
    assert outcomes(scraped(life, when=before)) == ["running"]
    assert outcomes(scraped(life, when=[*before, *after])) == ["vanished"]


def test_scrapes_while_the_target_was_down_tell_nothing() -> None:
    up = every(30, "09:00:10", "09:20")
    down = scrapes(every(30, "09:20:10", "10:00")).assign(up=False)
    both = pd.concat([scrapes(up), down], ignore_index=True)
    shown = schemas.from_frame("job_samples", samples([Life("09:10:00", gone="09:30:00")], up))
    found = from_samples(shown, both, [span("09:00", "10:00")])
    assert found["outcome"].tolist() == ["running"]


def test_a_restarted_kube_state_metrics_goes_on_with_the_same_attempts() -> None:
    life = Life("09:10:00", "09:40:00", "failed", gone="09:50:00")
    first, second = every(30, "09:00:10", "09:20"), every(30, "09:21:03", "10:00")
    got = one(scraped(life, when=[*first, *second]))
    assert (got["outcome"], got["ended_at"], got["end_uncertainty_s"]) == ("failed", at("09:40:03"), 30)


def test_a_success_is_never_contradicted() -> None:
    life = Life("09:10:00", "09:14:58", uid="u1")
    shown = samples([life], HOUR)
    failed = shown[shown["metric"] == "complete"].assign(metric="failed_condition")
    found = put_together(
        pd.concat([shown, failed], ignore_index=True),
        HOUR,
        snapshots([life], "09:20:00"),
        events([replace(life, outcome="failed")]),
        lines(said("09:12:00", FAILED), said("09:14:59", RETRY)),
    )
    assert outcomes(found) == ["succeeded"]
    assert one(found)["ended_at"] == at("09:14:58")


# snapshots


def test_a_snapshot_dates_both_ends_exactly() -> None:
    lives = [Life("09:10:00", "09:14:58", "failed"), Life("09:10:00", "09:12:00", job=OTHER)]
    found = put_together(listed=snapshots(lives, "09:20:00"))
    assert found["ended_at"].tolist() == [at("09:14:58"), at("09:12:00")]
    assert found["reason"].tolist()[0] == "BackoffLimitExceeded"
    assert set(found["outcome_source"]) == {"condition"}
    assert set(found["end_uncertainty_s"]) == {0}
    assert found["uid"].notna().all()


def test_several_snapshots_show_more_attempts_and_what_has_gone() -> None:
    lives = [
        Life("09:10:00", gone="09:14:00", uid="u1"),
        Life("09:14:02", gone="09:18:00", uid="u2"),
        Life("09:10:00", gone="09:12:00", job=OTHER, uid="u3"),
    ]
    found = put_together(listed=snapshots(lives, "09:11:00", "09:15:00"))
    assert outcomes(found.sort_values("uid")) == ["superseded", "running", "vanished"]


def test_a_snapshot_of_another_namespace_lets_nothing_vanish() -> None:
    mine = snapshots([Life("09:10:00")], "09:11:00")
    theirs = snapshots([Life("09:10:00")], "09:15:00").assign(namespace="codex-issue-7")
    assert outcomes(put_together(listed=pd.concat([mine, theirs], ignore_index=True))) == ["running", "running"]


def test_a_condition_is_more_exact_than_a_scrape() -> None:
    life = Life("09:10:03", "09:14:58", "failed")
    got = one(scraped(life, listed=snapshots([life], "09:16:00")))
    assert (got["ended_at"], got["end_uncertainty_s"], got["outcome_source"]) == (at("09:14:58"), 0, "condition")
    assert got["last_seen_at"] == at("09:24:40")


# labels and kinds


@pytest.mark.parametrize("prefix", ["label_codex_k8s_dev_", "codex-k8s.dev/"])
def test_run_and_issue_come_from_the_jobs_own_labels(prefix: str) -> None:
    word = "_" if prefix.startswith("label") else "-"
    labels = ((f"{prefix}run{word}id", "run-1"), (f"{prefix}issue{word}number", "205"))
    life = Life("09:10:00", "09:14:58", job="codex-k8s-run-run-1", labels=labels)
    for got in (one(scraped(life)), one(put_together(listed=snapshots([life], "09:20:00")))):
        assert (got["run_id"], got["issue"], got["linked_by"], got["kind"]) == ("run-1", 205, "label", "run")


def test_a_label_that_is_no_number_is_no_issue() -> None:
    life = Life("09:10:00", labels=(("label_codex_k8s_dev_issue_number", "none"),))
    assert pd.isna(one(scraped(life))["issue"])


def test_a_name_of_no_kind_has_none() -> None:
    got = one(scraped(Life("09:10:00", job="some-other-job")))
    assert pd.isna(got["kind"])
    assert pd.isna(got["image"])


# what the lake had and what is known now


def test_neither_running_nor_vanished_takes_an_end_back() -> None:
    ended = attempts(attempt("09:00", "09:10", "failed", outcome_source="event", end_uncertainty_s=0, reason="x"))
    for outcome in ("running", "vanished", "superseded"):
        got = one(upsert(ended, attempts(attempt("09:00", None, outcome, last_seen_at=at("09:05")))))
        assert (got["outcome"], got["ended_at"], got["reason"]) == ("failed", at("09:10"), "x")


def test_an_end_replaces_what_was_running() -> None:
    was = attempts(attempt("23:50", None, "running", last_seen_at=at("23:59:40")))
    got = one(upsert(was, attempts(attempt("23:50", at("00:10", 1), outcome_source="sample", end_uncertainty_s=0))))
    assert (got["outcome"], got["ended_at"], got["duration_s"]) == ("succeeded", at("00:10", 1), 1200)


@pytest.mark.parametrize(
    ("old", "new", "kept"),
    [
        ("event", "sample", "event"),
        ("sample", "event", "event"),
        ("pod", "sample", "pod"),
        ("line", "sample", "sample"),
    ],
)
def test_of_two_ends_the_more_exact_one_stands(old: str, new: str, kept: str) -> None:
    ends = {"event": "09:14:58", "pod": "09:14:57", "sample": "09:15:10", "line": "09:15:20"}
    was, now = (attempts(attempt("09:10", ends[s], "failed", outcome_source=s)) for s in (old, new))
    got = one(upsert(was, now))
    assert (got["outcome_source"], got["ended_at"]) == (kept, at(ends[kept]))


def test_of_two_scrapes_that_show_a_failure_the_earlier_one_stands() -> None:
    first = attempts(attempt("09:10", "09:15", "failed", outcome_source="sample", end_uncertainty_s=30))
    again = attempts(attempt("09:10", "18:00", "failed", outcome_source="sample", end_uncertainty_s=30000))
    for got in (one(upsert(first, again)), one(upsert(again, first))):
        assert (got["ended_at"], got["end_uncertainty_s"]) == (at("09:15"), 30)


def test_a_success_that_the_job_showed_stands_against_a_more_exact_failure() -> None:
    wrong = attempts(attempt("09:10", "09:14", "failed", outcome_source="event"))
    right = attempts(attempt("09:10", "09:15", outcome_source="sample"))
    assert outcomes(upsert(wrong, right)) == outcomes(upsert(right, wrong)) == ["succeeded"]


def test_a_link_is_not_lost_but_for_a_token_that_fits_two_runs_by_now() -> None:
    unlinked = attempts(attempt("09:00", "09:10"))
    for how in ("field", "label", "issue_marker", "text"):
        linked = attempts(attempt("09:00", "09:10", run_id="r", issue=205, linked_by=how))
        got = one(upsert(linked, unlinked))
        assert (got["run_id"], got["issue"], got["linked_by"]) == ("r", 205, how)
    by_token = attempts(attempt("09:00", "09:10", run_id="r", issue=205, linked_by="job_token"))
    assert all(pd.isna(one(upsert(by_token, unlinked))[c]) for c in ("run_id", "issue", "linked_by"))
    assert one(upsert(unlinked, by_token))["run_id"] == "r"


def test_a_new_link_is_taken_as_a_whole() -> None:
    was = attempts(attempt("09:00", "09:10", run_id="r", issue=205, linked_by="text"))
    got = one(upsert(was, attempts(attempt("09:00", "09:10", run_id="s", linked_by="field"))))
    assert (got["run_id"], got["linked_by"]) == ("s", "field")
    assert pd.isna(got["issue"])


def test_attempts_of_a_name_are_numbered_again_and_replaced_ones_are_superseded() -> None:
    was = attempts(attempt("09:00", None, "vanished", attempt=1), attempt("09:30", "09:40", attempt=2))
    found = upsert(was, attempts(attempt("09:10", "09:20", "failed", attempt=1, outcome_source="event")))
    assert found["attempt"].tolist() == [1, 2, 3]
    assert outcomes(found) == ["superseded", "failed", "succeeded"]


@pytest.mark.parametrize("source", ["events", "logs"])
def test_a_guessed_creation_gives_way_once_the_real_one_is_known(source: str) -> None:
    guess = attempts(attempt("09:10:03", "09:15", "failed", source=source, outcome_source="line"))
    real = attempts(attempt("09:10:01", "09:15:20", "failed", outcome_source="sample", end_uncertainty_s=30))
    assert upsert(guess, real)["created_at"].tolist() == [at("09:10:01")]


def test_a_guessed_creation_stays_beside_attempts_before_and_after_it() -> None:
    guess = attempts(attempt("09:10:03", "09:15:00.4", "failed", source="logs", outcome_source="line"))
    around = attempts(attempt("09:00", "09:08"), attempt("09:15:00", "09:20"))
    assert len(upsert(guess, around)) == 3


def test_by_its_uid_a_guessed_attempt_is_the_one_that_has_it_and_no_other() -> None:
    guess = attempts(attempt("09:10:03", "09:15", "failed", source="events", outcome_source="event", uid="u1"))
    same, other = (attempt("09:10:01", "09:15", "failed", outcome_source="event", uid=u) for u in ("u1", "u2"))
    assert len(upsert(guess, attempts(same))) == 1
    assert len(upsert(guess, attempts(other))) == 2


def test_an_empty_side_changes_nothing() -> None:
    some = attempts(attempt("09:00", "09:10"))
    pd.testing.assert_frame_equal(upsert(EMPTY, some), some)
    pd.testing.assert_frame_equal(upsert(some, EMPTY), some)
    assert upsert(EMPTY, EMPTY).empty


def test_what_one_description_lacks_the_other_fills() -> None:
    (short,), (long,) = (
        rows(attempts(attempt("09:00", None, "running", **more)))
        for more in ({"started_at": None}, {"uid": "u1", "last_seen_at": at("09:30")})
    )
    got = better(short, long)
    assert (got["uid"], got["started_at"], got["last_seen_at"]) == ("u1", at("09:00"), at("09:30"))


def test_a_day_is_dated_by_creation_and_an_end_after_midnight_is_kept() -> None:
    when = every(30, "23:40:10", at("00:20", 1))
    got = one(scraped(Life("23:50:00", at("00:10", 1)), when=when))
    assert DAY.start <= got["created_at"].value < DAY.end < got["ended_at"].value
    assert (got["started_at"], got["ended_at"]) == (at("23:50"), at("00:10", 1))


@pytest.mark.parametrize("number", ["9" * 20, "\u00b2", "-5", ""])
def test_a_label_that_is_no_issues_number_is_none(number: str) -> None:
    assert pd.isna(one(scraped(Life("09:10:00", labels=(("label_codex_k8s_dev_issue_number", number),))))["issue"])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, -1.0, 1e12])
@pytest.mark.parametrize("metric", ["completion_time", "created", "start_time"])
def test_a_sample_of_which_no_instant_can_be_made_is_none(metric: str, value: float) -> None:
    shown = samples([Life("09:10:00")], HOUR)
    odd = shown[shown["metric"] == "start_time"].assign(metric=metric, value=value, job_name="odd")
    mine = shown[shown["metric"] == "start_time"].assign(metric=metric, value=value)
    both = pd.concat([shown, odd, mine[mine["metric"] == "completion_time"]], ignore_index=True)
    got = one(put_together(both, HOUR))
    assert (got["job_name"], got["outcome"]) == (JOB, "running")


def test_an_end_before_its_start_is_no_duration() -> None:
    got = one(put_together(listed=snapshots([Life("09:10:00", "09:05:00", gone="10:00")], "09:30")))
    assert got["outcome"] == "succeeded"
    assert pd.isna(got["duration_s"])


def test_a_pod_that_was_made_long_after_an_attempt_began_is_of_another() -> None:
    life = Life("09:10:00", gone="09:11:31")
    told = table(
        "events", event("09:11:34", "SuccessfulCreate", JOB, "u1"), event("09:11:37", "BackoffLimitExceeded", JOB, "u1")
    )
    first, second = rows(scraped(life, when=every(15, "09:00:10", "10:00"), told=told))
    assert (first["outcome"], second["outcome"], second["created_at"]) == ("superseded", "failed", at("09:11:34"))
