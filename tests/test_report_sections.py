"""Runs that failed more than once, what was slow or stuck, and what was restated: rows that agree with the day's figures."""

from __future__ import annotations

import dataclasses

import pandas as pd

from pipeline.report.data import HEADLINE
from pipeline.report.sections import recovery, restated, slow
from tests.report_data import empty, green, grey, red


def test_runs_that_failed_more_than_once_are_told_by_how_often() -> None:
    data = red()
    counts = data.failures["run_id"].value_counts()
    found = recovery.runs(data)
    assert {r.id: len(r.failures) for r in found} == counts[counts > 1].to_dict()
    assert [len(r.failures) for r in found] == sorted((len(r.failures) for r in found), reverse=True)
    worst = found[0]
    mine = data.attempts[data.attempts["run_id"] == worst.id]
    assert len(worst.attempts) == len(mine)
    assert worst.recovered == data.failures.loc[data.failures["run_id"] == worst.id, "recovered_at"].max().value


def test_a_run_with_a_failure_that_nothing_mended_has_not_recovered() -> None:
    data = red()
    run = recovery.runs(data)[0].id
    mine = data.failures["run_id"] == run
    first = mine & (data.failures["failed_at"] == data.failures.loc[mine, "failed_at"].min())
    lost = data.failures.assign(recovered_at=data.failures["recovered_at"].mask(first))
    assert next(r for r in recovery.runs(dataclasses.replace(data, failures=lost)) if r.id == run).recovered is None
    shown = recovery.section(dataclasses.replace(data, failures=lost))["rows"]
    assert next(r for r in shown if r["run"] == run[:8])["recovered"] is None


def test_none_is_said_as_far_as_it_is_known() -> None:
    assert str(recovery.section(green())["nothing"]) == "No run failed more than once."
    assert str(recovery.section(grey())["nothing"]) == "No run was seen to fail more than once."
    assert str(slow.section(empty())["nothing"]) == "Nothing was seen that was slow or did not end."
    assert str(restated.section(green())["nothing"]) == "No earlier day was restated."


def test_what_took_longest_is_held_against_its_own_kind() -> None:
    data = red()
    done = data.attempts[(data.attempts["outcome"] == "succeeded") & data.attempts["duration_s"].notna()]
    medians = done.groupby("kind")["duration_s"].median()
    found = slow.slowest(data)
    assert len(found) == 5
    assert [r["times"] for r in found] == sorted((r["times"] for r in found), reverse=True)
    for r in found:
        assert r["times"] == r["duration_s"] / medians[r["kind"]]
    most = (done["duration_s"] / done["kind"].map(medians)).max()
    assert found[0]["times"] == most


def test_of_few_attempts_no_median_is_made() -> None:
    data = red()
    few = data.attempts[data.attempts["kind"] == "build"].head(4)
    assert slow.slowest(dataclasses.replace(data, attempts=few)) == []


def test_what_never_ended_is_listed_with_how_long_it_was_seen() -> None:
    rows = slow.section(grey())["rows"]
    gone = [r for r in rows if r["state"] == "vanished, end not known"]
    lost = grey().attempts[grey().attempts["outcome"] == "vanished"]
    assert len(gone) == min(5, len(lost))
    longest = (lost["last_seen_at"] - lost["created_at"]).max()
    assert gone[0]["for"] is not None
    assert pd.Timedelta(longest) > pd.Timedelta(0)


def test_each_figure_that_changed_is_named_with_what_it_was() -> None:
    was = {HEADLINE: {"started": 10, "finished": 9, "failed": 1}, "codegen-check": {"started": 4, "failed": 0}}
    now = {HEADLINE: {"started": 10, "finished": 10, "failed": 2}, "codegen-check": {"started": 4, "failed": 0}}
    told = {"date": "2026-02-25", "at": "2026-02-27T00:40:00Z", "was": was, "is": now}
    data = dataclasses.replace(red(), restatements=[told | {"late": 0}])
    rows = restated.section(data)["rows"]
    assert [(str(r["what"]), r["was"], r["is"]) for r in rows] == [
        ("build+mirror finished", "9", "10"),
        ("build+mirror failed", "1", "2"),
    ]
    assert rows[0]["why"] == "what ran or was open over midnight ended"
    late = restated.section(dataclasses.replace(red(), restatements=[told | {"late": 3}]))["rows"]
    assert late[0]["why"] == "late lines: 3"
