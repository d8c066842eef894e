"""What events and log lines tell of attempts whose end no scrape saw, and of those that no scrape saw at all."""

from __future__ import annotations

import itertools

import pandas as pd
import pytest

from pipeline import schemas
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
    put_together,
    rows,
    said,
    samples,
    scraped,
)
from tests.tables import at, line, lines, table

OTHER = "codex-k8s-mirror-node-22-5be0c1d4"


def test_an_event_dates_a_failure_exactly_and_settles_what_no_scrape_saw() -> None:
    lives = [Life("09:10:00", "09:14:58", "failed", gone="09:15:00"), Life("09:15:02", "09:30:00", "failed")]
    found = scraped(*lives, told=events(lives))
    assert outcomes(found) == ["failed", "failed"]
    assert found["ended_at"].tolist() == [at("09:14:58"), at("09:30:00")]
    assert set(found["outcome_source"]) == {"event"}
    assert set(found["end_uncertainty_s"]) == {0}


def test_an_attempt_that_only_events_show_has_a_row_too() -> None:
    lives = [Life("09:10:12", "09:10:31", "failed", gone="09:10:33"), Life("09:10:35", "09:30:00")]
    found = scraped(*lives, when=every(60, "09:00:10", "10:00"), told=events(lives))
    first, second = rows(found)
    assert (first["source"], first["created_at"], first["ended_at"]) == ("events", at("09:10:12"), at("09:10:31"))
    assert (first["outcome"], first["attempt"], second["outcome"], second["attempt"]) == ("failed", 1, "succeeded", 2)


def test_events_of_a_slow_controller_are_about_the_attempt_that_was_there() -> None:
    told = schemas.tidy("events", pd.DataFrame([event("09:11:30", "SuccessfulCreate", uid="u1")]))
    got = one(scraped(Life("09:10:00", "09:30:00"), told=told))
    assert (got["uid"], got["outcome"]) == ("u1", "succeeded")


def test_an_event_without_its_beginning_is_about_what_was_there_as_it_ended() -> None:
    told = schemas.tidy("events", pd.DataFrame([event("09:15:00", "BackoffLimitExceeded", uid="u1")]))
    lives = [Life("09:10:00", "09:15:00", "failed", gone="09:15:00"), Life("09:15:00", "09:30:00")]
    assert outcomes(scraped(*lives, told=told)) == ["failed", "succeeded"]


def test_an_end_that_no_known_attempt_can_have_is_of_another_one() -> None:
    told = schemas.tidy("events", pd.DataFrame([event("09:40:00", "BackoffLimitExceeded", uid="u1")]))
    found = scraped(Life("09:10:00", "09:30:00", gone="09:35:00"), told=told)
    assert outcomes(found) == ["succeeded", "failed"]
    assert rows(found)[1]["created_at"] == at("09:40:00")


def test_events_without_uids_are_cut_at_each_end() -> None:
    lives = [Life("09:10:00", "09:14:58", "failed", gone="09:15:00"), Life("09:15:02", "09:16:00", "failed")]
    told = events(lives).assign(object_uid=None)
    assert put_together(told=schemas.tidy("events", told))["ended_at"].tolist() == [at("09:14:58"), at("09:16:00")]


def test_further_pods_of_a_job_that_is_still_there_are_no_jobs_of_their_own() -> None:
    # a job with a backoffLimit above 0 makes a pod after each that fails; these events tell no uid
    made = [event(time, "SuccessfulCreate", uid=None) for time in ("09:10:01", "09:12:00", "09:13:00")]
    told = schemas.tidy("events", pd.DataFrame([*made, event("09:14:58", "BackoffLimitExceeded", uid=None)]))
    got = one(scraped(Life("09:10:00", "09:14:58", "failed", gone="09:15:00"), told=told))
    assert (got["outcome"], got["ended_at"], got["started_at"]) == ("failed", at("09:14:58"), at("09:10:00"))


RETRIED = [Life("09:10:00", "09:14:58", "failed", gone="09:15:00"), Life("09:15:02", "09:16:00", "failed")]


@pytest.mark.parametrize("uids", list(itertools.product([True, False, None], repeat=4)))
def test_one_life_is_told_once_whichever_of_its_events_come_with_its_uid(uids: tuple[bool | None, ...]) -> None:
    # True: by one agent with the uid, False: by one without, None: by both
    told = schemas.rows_of(events(RETRIED))
    with_uid = [e for e, known in zip(told, uids, strict=True) if known is not False]
    without = [e | {"object_uid": None, "uid": None} for e, known in zip(told, uids, strict=True) if not known]
    found = put_together(told=table("events", *with_uid, *without))
    assert found["ended_at"].tolist() == [at("09:14:58"), at("09:16:00")]
    assert found["created_at"].tolist() == [at("09:10:00"), at("09:15:02")]
    expected = [f"uid-{n}" if any(k is not False for k in uids[2 * n : 2 * n + 2]) else None for n in (0, 1)]
    assert [u if isinstance(u, str) else None for u in found["uid"]] == expected


def test_a_life_without_an_end_is_over_where_the_next_begins() -> None:
    made = [event("09:10:00", "SuccessfulCreate"), event("09:20:00", "SuccessfulCreate")]
    found = put_together(told=table("events", *made, event("09:25:00", "BackoffLimitExceeded")))
    assert outcomes(found) == ["superseded", "failed"]


def test_a_success_that_only_an_event_tells_may_have_been_a_second_earlier() -> None:
    got = one(put_together(told=events([Life("09:10:00", "09:14:58")])))
    assert (got["outcome"], got["ended_at"], got["end_uncertainty_s"]) == ("succeeded", at("09:14:58"), 1)


def test_events_of_pods_and_unknown_reasons_settle_nothing() -> None:
    told = pd.DataFrame([event("09:15:00", "BackoffLimitExceeded", kind="Pod"), event("09:15:00", "Suspended")])
    assert put_together(told=schemas.tidy("events", told)).empty


# lines


def test_the_line_that_announces_a_retry_settles_the_attempt_before() -> None:
    lives = [Life("09:10:00", "09:14:58", "failed", gone="09:15:00"), Life("09:15:02", "09:25:00")]
    first, second = rows(scraped(*lives, logged=lines(said("09:14:59.5", RETRY))))
    assert (first["outcome"], first["outcome_source"], first["source"]) == ("failed", "line", "prometheus")
    assert (first["ended_at"], first["end_uncertainty_s"]) == (at("09:14:59.5"), 19.5)
    assert (second["outcome"], second["attempt"]) == ("succeeded", 2)


def test_a_failure_that_only_lines_know_is_an_attempt() -> None:
    told = lines(line("09:12:00", line=f"started {JOB}", job=JOB), said("09:14:59", FAILED), said("09:15:01", FAILED))
    got = one(put_together(logged=told))
    assert (got["source"], got["outcome"], got["outcome_source"]) == ("logs", "failed", "line")
    assert (got["created_at"], got["ended_at"], got["end_uncertainty_s"]) == (at("09:12:00"), at("09:14:59"), 179)
    assert pd.isna(got["started_at"])
    assert pd.isna(got["duration_s"])


def test_how_long_before_a_line_a_failure_may_lie_is_from_the_whole_second_of_the_line_before() -> None:
    told = lines(line("09:12:00.9", line=f"started {JOB}", job=JOB), said("09:12:01.2", FAILED))
    assert one(put_together(logged=told))["end_uncertainty_s"] == pytest.approx(1.2)  # the cluster may call it 09:12:00
    alone = one(put_together(logged=lines(said("09:12:01.2", FAILED), said("09:12:02", FAILED))))
    assert alone["ended_at"] == at("09:12:01.2")
    assert pd.isna(alone["end_uncertainty_s"])


def test_a_retry_that_no_scrape_saw_is_found_by_its_lines() -> None:
    later = Life("09:15:02", "09:25:00")
    found = scraped(later, logged=lines(said("09:14:59.5", RETRY)))
    assert outcomes(found) == ["failed", "succeeded"]
    assert found["attempt"].tolist() == [1, 2]


def test_a_second_failure_soon_after_an_announced_retry_is_another_attempt() -> None:
    told = lines(said("09:14:59", RETRY), said("09:15:20", FAILED), said("09:15:21", FAILED))
    assert put_together(logged=told)["ended_at"].tolist() == [at("09:14:59"), at("09:15:20")]


def test_lines_up_to_a_minute_after_an_end_are_about_it_and_later_ones_are_not() -> None:
    ended = Life("09:10:00", "09:14:58", "failed")
    assert len(scraped(ended, told=events([ended]), logged=lines(said("09:15:58", FAILED)))) == 1
    found = scraped(ended, told=events([ended]), logged=lines(said("09:15:58.1", FAILED)))
    assert found["source"].tolist() == ["prometheus", "logs"]


def test_a_line_narrows_an_end_that_only_a_scrape_gave() -> None:
    got = one(scraped(Life("09:10:00", "09:14:58", "failed"), logged=lines(said("09:14:59", FAILED))))
    assert (got["ended_at"], got["end_uncertainty_s"], got["outcome_source"]) == (at("09:14:59"), 19, "sample")


def test_a_late_line_about_the_attempt_before_does_not_end_the_one_that_runs() -> None:
    assert outcomes(scraped(Life("09:15:02"), logged=lines(said("09:15:05", FAILED)))) == ["running"]
    found = scraped(Life("09:15:02", "09:25:00", "failed"), logged=lines(said("09:15:05", FAILED)))
    assert found["ended_at"].tolist() == [at("09:25:10")]


def test_lines_of_hours_before_are_about_another_life_of_that_name() -> None:
    told = lines(line("00:30:00", line=JOB, job=JOB), line("09:12:00", line=JOB, job=JOB), said("09:14:59", FAILED))
    assert one(put_together(logged=told))["created_at"] == at("09:12:00")


def test_a_phrase_that_names_no_job_is_about_the_job_of_its_line() -> None:
    told = lines(line("09:14:59", line="build image failed", err=FAILED.format(JOB), job=OTHER))
    assert one(put_together(logged=told))["job_name"] == JOB


def test_comments_of_failure_without_a_job_make_nothing() -> None:
    assert put_together(
        logged=lines(line("09:14:59", line="failed due stale kaniko cache, retrying without cache"))
    ).empty


def test_of_a_name_that_two_namespaces_have_a_line_settles_the_job_of_its_own() -> None:
    here, there = Life("09:10:00", gone="09:20:05"), Life("09:12:00", "09:30:00", gone="09:40:00")
    shown = pd.concat([samples([here], HOUR), samples([there], HOUR).assign(namespace="issue-7")], ignore_index=True)
    told = lines(said("09:20:04", "wait kaniko job {}: job failed"))
    by_namespace = {
        r["namespace"]: (r["outcome"], r["outcome_source"]) for r in rows(put_together(shown, HOUR, logged=told))
    }
    assert by_namespace == {"codex-k8s-prod": ("failed", "line"), "issue-7": ("succeeded", "sample")}
