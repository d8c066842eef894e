"""Promises in a lake: recovery is confirmed by the next day, settings leave out, missing days come with their command."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from pipeline.settings import Exclusion, Settings
from pipeline.steps.compute import compute
from pipeline.steps.report import report_data
from tests.lives import JOB, Life, interval, said
from tests.small_lake import MANIFEST, SIGNED, day, lake, pulled, rows
from tests.tables import DATE, at, ns

LIVES = [Life("09:00:30", "09:05:10", "failed", gone="09:10:00"), Life("09:10:05", "09:20:30")]
TOLD = [said("09:05:11", MANIFEST) | SIGNED]
AGAIN = Life(at("08:00", 1), at("08:05", 1), job=JOB.replace("web-console", "worker"))


def test_recovery_is_provisional_until_the_next_day_has_shown_no_failure_of_its_class(tmp_path: Path) -> None:
    compute(pulled(lake(tmp_path), LIVES, TOLD), DATE)
    (first,) = rows(lake(tmp_path), "incidents")
    assert (first["state"], first["successes_in_a_row"], first["recovered_by"]) == ("provisional", 1, JOB)
    assert first["quiet_for_s"] == (at("24:00") - first["started_at"]).total_seconds()

    made = compute(pulled(lake(tmp_path, ns("00:20", 2)), [*LIVES, AGAIN], day=day(1)), DATE + dt.timedelta(days=1))
    (then,) = rows(lake(tmp_path), "incidents")
    assert (then["state"], then["successes_in_a_row"]) == ("confirmed", 2)
    assert then["quiet_for_s"] == (then["ended_at"] + pd.Timedelta(days=1) - then["started_at"]).total_seconds()
    assert [d.date for d in made.restated] == [DATE]  # its report said that it was provisional


@pytest.mark.parametrize(("kind", "attempts"), [("maintenance", 2), ("outage", 0)])
def test_what_the_settings_leave_out_is_named_by_entry(tmp_path: Path, kind: str, attempts: int) -> None:
    entry = Exclusion("2026-02-26T09:00:00Z", "2026-02-26T10:00:00Z", "anna", "release", "bob")
    ctx = replace(
        pulled(lake(tmp_path), LIVES, TOLD),
        settings=Settings(
            maintenance=(entry,) if kind == "maintenance" else (), outage=(entry,) if kind == "outage" else ()
        ),
    )
    made = compute(ctx, DATE)
    (incident,) = rows(ctx, "incidents")
    assert incident["excluded_by"].startswith(f"{kind} 2026-02-26T09:00:00Z..2026-02-26T10:00:00Z: anna, release")
    assert made.left_out == (attempts, 1)
    (said_,) = report_data(ctx, made).exclusions
    assert (said_["kind"], said_["who"], said_["why"]) == (kind, "anna", "release")
    assert (said_["attempts"], said_["incidents"]) == (attempts, [incident["incident_id"]])


def test_a_page_expected_in_a_maintenance_is_silenced_and_not_one_to_look_after(tmp_path: Path) -> None:
    lives = [Life(f"09:0{n}:00", f"09:0{n}:40", "failed", job=f"{JOB[:-1]}{n}") for n in (0, 2, 5)]
    entry = Exclusion("2026-02-26T09:00:00Z", "2026-02-26T10:00:00Z", "anna", "release")
    ctx = replace(pulled(lake(tmp_path), lives), settings=Settings(maintenance=(entry,)))
    compute(ctx, DATE)
    (page,) = [r for r in rows(ctx, "alert_audit") if r["alert"] == interval("09:00", None)["alert"]]
    assert (page["verdict"], page["dedup_key"]) == ("missed", "codex-k8s-prod/-/build")
    assert "anna, release" in page["silenced"]


def test_days_that_lack_come_with_the_command_that_brings_them(tmp_path: Path) -> None:
    compute(pulled(lake(tmp_path), LIVES, day=day(-3)), DATE - dt.timedelta(days=3))
    made = compute(pulled(lake(tmp_path), LIVES), DATE)
    assert made.slo["missing_days"][0] == [f"2026-02-{n}" for n in (20, 21, 22, 24, 25)]
    assert made.slo["command"][0] == (
        "aislot pull --since 2026-02-20 --until 2026-02-23 && aislot pull --since 2026-02-24 --until 2026-02-26"
        " && aislot compute --date 2026-02-26 && aislot report daily --date 2026-02-26"
    )


@pytest.mark.parametrize(("pulled_before", "verdicts"), [(False, []), (True, ["unexpected"])])
def test_what_looks_back_on_a_day_that_nobody_pulled_is_not_called_unexpected(
    tmp_path: Path, pulled_before: bool, verdicts: list[str]
) -> None:
    ctx = lake(tmp_path)
    if pulled_before:
        pulled(ctx, [], day=day(-1))
    compute(pulled(ctx, [], fired=[interval("00:02", "00:12")]), DATE)
    assert [r["verdict"] for r in rows(ctx, "alert_audit")] == verdicts
