"""The story of an issue's incidents: each key time from its source, unknown with its reason, a timeline, what it cost."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.cases import Case, Entry
from pipeline.report.postmortem.data import CONFIRMED, MOST, PROVISIONAL
from pipeline.report.postmortem.summary import figures, postmortem_summary
from pipeline.signals import story
from pipeline.signals.impact import impact
from tests.postmortem_data import ISSUE, WINDOW, evidence, told
from tests.report_data import RULES, red
from tests.tables import ns, table

NOTHING: dict[str, Any] = {
    "alerts": table("alerts"),
    "alert_audit": table("alert_audit"),
    "issue_runs": table("issue_runs"),
    "events": table("events"),
}


def _unknown(column: pd.Series) -> pd.Series:
    return column.where(np.zeros(len(column), bool))


def cases(**more: Any) -> dict[str, Case]:
    return {str(c.incident["class"]): c for c in story.cases(evidence(red(), **more))}


@pytest.mark.parametrize(
    ("key", "when", "source", "of"),
    [
        ("first_error", "10:52:06", "line", "codex-k8s-codegen-check-bc8b2761-83e"),
        ("threshold_crossed", "10:52:07", "replay", "AI_SLOT_CODEGEN_CHECK_BUILD_REF_INVALID"),
        ("alert_firing", "10:54:13", "alert", "AI_SLOT_CODEGEN_CHECK_BUILD_REF_INVALID"),
        ("first_mention", "11:02:15", "comment", "https://github.com/codex-k8s/codex-k8s/issues/205#issuecomment-11"),
        ("mitigation", "12:01:30", "rollout", "codex-k8s-control-plane"),
        ("last_error", "11:58:40", "line", "codex-k8s-worker"),
        ("first_success", "12:05:31", "success", "codex-k8s-codegen-check-bc8b2761-83e"),
    ],
)
def test_each_key_time_is_told_by_its_source(key: str, when: str, source: str, of: str) -> None:
    moment = cases()["build-ref"].times[key]
    assert moment.at is not None
    assert (moment.at // 10**9, moment.source, moment.of) == (ns(when) // 10**9, source, of)


def test_a_comment_of_the_platform_is_no_mention_and_one_of_another_issue_neither() -> None:
    links = evidence(red()).issue_runs
    assert cases()["cache"].times["first_mention"].at == ns("09:21:40")  # the platform's came before
    elsewhere = links.assign(issue=ISSUE + 1)
    assert cases(issue_runs=elsewhere)["cache"].times["first_mention"].at is None


@pytest.mark.parametrize("why", ["", "gap", "off"])
def test_what_nothing_tells_is_unknown_with_its_reason(why: str) -> None:
    known = dict.fromkeys(("logs", "jobs", "alerts", "events", "issues"), why)
    found = cases(**NOTHING, known=known, expected=())["cache"]
    for key in ("threshold_crossed", "alert_firing", "first_mention", "mitigation"):
        assert found.times[key].at is None
        assert found.times[key].source == (why or "none")
    assert found.detected.at is None


def test_without_lines_an_attempt_tells_the_first_and_the_last_error() -> None:
    known = evidence(red()).failures
    failures = known.assign(
        first_line_at=_unknown(known["first_line_at"]), last_line_at=_unknown(known["last_line_at"])
    )
    found = cases(failures=failures)["cache"]
    assert [found.times[k].source for k in ("first_error", "last_error")] == ["attempt", "attempt"]
    assert found.times["first_error"].at == found.incident["started_at"].value
    assert found.times["last_error"].at == failures.loc[failures["class"] == "cache", "failed_at"].max().value


def test_a_page_that_was_due_was_missed_or_came_or_nobody_can_tell() -> None:
    assert {k: c.page for k, c in cases().items()} == {"cache": "missed", "build-ref": "matched"}
    assert {k: c.page for k, c in cases(expected=()).items()} == {"cache": "none", "build-ref": "none"}
    assert {k: c.page for k, c in cases(alert_audit=table("alert_audit")).items()} == {"cache": None, "build-ref": None}


def test_what_is_stable_is_proven_only_once_its_watch_is_over() -> None:
    rows = red().incidents
    sure = cases(incidents=rows.assign(state="confirmed"))["cache"].times["stable_since"]
    assert (sure.at, sure.source) == (ns("09:33:53"), "success")
    assert cases(incidents=rows.assign(state="provisional"))["cache"].times["stable_since"].source == "watched"
    still = rows.assign(state="open", ended_at=_unknown(rows["ended_at"]), mttr_s=float("nan"), recovered_by=None)
    found = cases(incidents=still)["cache"]
    assert [found.times[k].source for k in ("first_success", "stable_since")] == ["open", "open"]


def test_the_evidence_is_confirmed_once_every_incident_is() -> None:
    data = told()
    assert data.state == PROVISIONAL
    sure = [dataclasses.replace(c, incident={**c.incident, "state": "confirmed"}) for c in data.cases]
    assert dataclasses.replace(data, cases=sure).state == CONFIRMED
    assert dataclasses.replace(data, cases=[sure[0], data.cases[1]]).state == PROVISIONAL
    assert dataclasses.replace(data, cases=[]).state == PROVISIONAL


def test_the_timeline_is_in_order_and_repeats_are_folded() -> None:
    rows = told().timeline
    assert [r.at for r in rows] == sorted(r.at for r in rows)
    by_class = {
        c: sum(r.times for r in rows if r.failure_class == c and "failure" in r.what) for c in ("cache", "build-ref")
    }
    assert by_class == {"cache": 14, "build-ref": 9}
    assert [r.what for r in rows if r.what == "rollout"] == ["rollout", "rollout"]  # three events, two rollouts


def test_a_long_timeline_is_cut_where_it_says_least() -> None:
    data = told()
    many = [Entry(ns("09:10") + i, "cache", "comments", {}, 1, "comment") for i in range(40)]
    cut = dataclasses.replace(data, timeline=sorted([*data.timeline, *many], key=lambda e: e.at)).entries
    assert len(cut) == MOST
    kept = {e.what for e in cut}
    assert {"first_failure", "last_failure", "recovered", "threshold_missed", "mention"} <= kept


def test_an_impact_counts_what_it_cost() -> None:
    i = told().impact
    assert (i.runs_hit, i.unlinked, i.failed_attempts, len(i.issues)) == (11, 0, 23, 8)
    assert i.untimed == 0
    assert i.lost_s > 0
    assert i.budget_used_ratio == pytest.approx(23 / (1316 * 0.01))


def test_an_impact_that_is_not_wholly_known_says_so() -> None:
    e = evidence(red())
    lost = e.failures.assign(run_id=_unknown(e.failures["run_id"]), issue=_unknown(e.failures["issue"]))
    untimed = e.attempts.assign(duration_s=float("nan"))
    unpromised = red().slo.assign(ratio=float("nan"))
    found = impact(lost, untimed, WINDOW, unpromised, RULES.objectives[0])
    assert (found.runs_hit, found.unlinked, found.untimed, found.lost_s) == (0, 23, 23, 0.0)
    assert found.budget_used_ratio is None


def test_a_revision_is_about_figures_not_about_renderings() -> None:
    data = told()
    again = dataclasses.replace(
        data, base=dataclasses.replace(data.base, made_at=data.base.made_at + 10**12), revision=9
    )
    assert figures(postmortem_summary(data)) == figures(postmortem_summary(again))
    other = dataclasses.replace(data, issue_failures=1)
    assert figures(postmortem_summary(data)) != figures(postmortem_summary(other))
