"""What runs over midnight, and what sums over days: each attempt once, and every day told again once more is known."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline import schemas
from pipeline.model import NS, Window
from pipeline.steps.compute import compute, derive
from pipeline.steps.context import Context
from tests.lives import JOB, RETRY, Life, interval, said
from tests.small_lake import MANIFEST, RUN, SIGNED, day, files, lake, pulled, record, rows
from tests.tables import DATE, at, line, ns, span

NEXT = DATE + dt.timedelta(days=1)


def test_an_attempt_across_midnight_is_one_and_counts_where_it_starts_and_where_it_ends(tmp_path: Path) -> None:
    life = Life("23:50:00", at("00:10", 1))
    ctx = pulled(lake(tmp_path), [life])
    first = compute(ctx, DATE)
    assert [r["outcome"] for r in rows(ctx, "attempts")] == ["running"]
    assert (first.totals["build"]["started"], first.totals["build"]["finished"]) == (1, 0)

    ctx = pulled(lake(tmp_path, ns("00:20", 2)), [life], day=day(1))
    second = compute(ctx, NEXT)
    assert [(r["outcome"], r["ended_at"]) for r in rows(ctx, "attempts")] == [("succeeded", at("00:10", 1))]
    assert rows(ctx, "attempts", day(1)) == []
    assert (second.totals["build"]["started"], second.totals["build"]["finished"]) == (0, 1)
    again = derive(ctx, DATE)
    assert (again.totals["build"]["started"], again.totals["build"]["finished"]) == (1, 0)


def test_an_attempt_that_ran_for_days_gets_its_end(tmp_path: Path) -> None:
    life = Life("09:00:00", at("10:00", 2), job=f"codex-k8s-run-{RUN}")
    for n in (0, 2):
        compute(pulled(lake(tmp_path, ns("00:20", n + 1)), [life], day=day(n)), DATE + dt.timedelta(days=n))
    (got,) = [r for n in (0, 1, 2) for r in rows(lake(tmp_path), "attempts", day(n))]
    assert (got["created_at"], got["ended_at"], got["outcome"]) == (at("09:00"), at("10:00", 2), "succeeded")


def _over_midnight(folder: Path, *order: int) -> Context:
    """Compute two days in an order; an incident of the first recovers on the second, where its alert fires."""
    lives = [
        Life("23:54:30", "23:56:10", "failed", gone="23:56:12", uid="a"),
        Life("23:56:14", "23:57:50", "failed", gone="23:57:52", uid="b"),
        Life("23:57:54", "23:59:10", "failed", gone=at("00:08", 1), uid="c"),
        Life(at("00:08:02", 1), at("00:20", 1), uid="d"),
    ]
    told = [said("23:56:11", RETRY), said("23:57:51", RETRY)]
    told += [said(t, MANIFEST) | SIGNED for t in ("23:56:11", "23:57:51", "23:59:11")]
    fired = [interval(at("00:01", 1), at("00:12", 1))]
    for n in (0, 1):
        pulled(lake(folder, ns("00:20", n + 1)), lives, told if not n else (), fired if n else (), day(n))
    ctx = lake(folder, ns("00:20", 2))
    for n in order:
        compute(ctx, DATE + dt.timedelta(days=n))
    return ctx


def test_what_was_open_over_midnight_is_told_whole_once_the_next_day_is_computed(tmp_path: Path) -> None:
    ctx = _over_midnight(tmp_path, 0, 1)
    (incident,) = rows(ctx, "incidents")
    assert (incident["ended_at"], incident["failures"]) == (at("00:20", 1), 3)
    assert {r["recovered_at"] for r in rows(ctx, "failures")} == {at("00:20", 1)}
    (audited,) = [r for r in rows(ctx, "alert_audit") if r["alert"] == "AI_SLOT_BUILD_FAILURE_BURST"]
    assert (audited["verdict"], audited["actual_start"]) == ("matched", at("00:01", 1))
    assert (audited["expected_start"], audited["expected_end"]) == (at("23:59:11"), at("00:11:11", 1))


def test_the_day_before_is_made_again_and_said_to_have_changed(tmp_path: Path) -> None:
    lives = [Life("23:40:30", "23:50:30", "failed", gone="23:53:00"), Life("23:53:02", at("00:10", 1))]
    told = [said("23:50:31", MANIFEST) | SIGNED]
    ctx = pulled(lake(tmp_path), lives, told)
    compute(ctx, DATE)
    assert pd.isna(rows(ctx, "incidents")[0]["ended_at"])
    assert pd.isna(rows(ctx, "failures")[0]["recovered_at"])

    ctx = pulled(lake(tmp_path, ns("00:20", 2)), lives, day=day(1))
    got = compute(ctx, NEXT)
    assert [d.date for d in got.restated] == [DATE]
    assert rows(ctx, "incidents")[0]["mttr_s"] == 19 * 60 + 29
    assert rows(ctx, "failures")[0]["recovered_at"] == at("00:10", 1)
    assert rows(ctx, "incidents", day(1)) == []
    assert got.incidents["started_at"].tolist() == [at("23:50:31")]
    assert compute(ctx, NEXT).restated == ()


def test_the_order_in_which_days_are_computed_changes_no_table(tmp_path: Path) -> None:
    trees = [files(_over_midnight(tmp_path / str(order), *order)) for order in ((0, 1), (1,))]
    tables = [{n: data for n, data in tree.items() if n.endswith(".parquet")} for tree in trees]
    assert tables[0] == tables[1]


def test_an_incident_that_stays_open_for_days_is_closed_where_it_began(tmp_path: Path) -> None:
    lives = [
        Life("09:00:30", "09:05:10", "failed", gone="10:00:00"),
        Life(at("09:00", 3), at("09:20", 3), job=JOB.replace("web-console", "worker")),
    ]
    told = [said("09:05:11", MANIFEST) | SIGNED]
    for n in (0, 3):
        ctx = pulled(lake(tmp_path, ns("00:20", n + 1)), lives, told if not n else (), day=day(n))
        compute(ctx, DATE + dt.timedelta(days=n))
    (got,) = [r for n in range(4) for r in rows(ctx, "incidents", day(n))]
    assert (got["started_at"], got["ended_at"]) == (at("09:05:11"), at("09:20", 3))


def test_a_run_spoken_of_again_on_the_next_day_failed_once(tmp_path: Path) -> None:
    text = "run failed before agent start: build failed"
    for n, when in ((0, at("10:00")), (1, at("03:00", 1))):
        ctx = pulled(lake(tmp_path, ns("00:20", n + 1)), told=[line(when, run_id=RUN, line=text)], day=day(n))
        compute(ctx, DATE + dt.timedelta(days=n))
    assert [len(rows(ctx, "failures", day(n))) for n in (0, 1)] == [1, 0]


# across days


def test_attempts_of_a_name_are_numbered_over_the_whole_lake(tmp_path: Path) -> None:
    name = "codex-k8s-codegen-check"
    lives = [Life(at("09:00", n), at("09:05", n), job=name) for n in (-40, -20, 0)]
    for n in (-40, 0, -20):
        ctx = pulled(lake(tmp_path), [lives[(n + 40) // 20]], day=day(n))
        compute(ctx, DATE + dt.timedelta(days=n))
    assert [rows(ctx, "attempts", day(n))[0]["attempt"] for n in (-40, -20, 0)] == [1, 2, 3]


def test_pulled_days_of_the_objectives_window_are_computed_first(tmp_path: Path) -> None:
    for n in range(-6, 1):
        life = Life(
            at("09:00", n), at("09:05", n), "failed" if n == -3 else "succeeded", job=f"{JOB[:-3]}{n + 100:03d}"
        )
        pulled(lake(tmp_path), [life] if n != -5 else [], day=day(n))
    ctx = lake(tmp_path)
    compute(ctx, DATE)
    available = rows(ctx, "slo")[0]
    assert (available["good"], available["total"]) == (5, 6)  # a day without any job was pulled too
    assert ctx.tables.days("golden") == [DATE + dt.timedelta(days=n) for n in range(-6, 1)]


@pytest.mark.parametrize("missing", ["never", "error", "part", "empty"])
def test_a_day_of_the_window_that_was_not_pulled_leaves_the_objectives_unknown(tmp_path: Path, missing: str) -> None:
    ctx = lake(tmp_path)
    for n in range(-6, 1):
        proof: dict[str, Any] = {"asked": [day(n).start, day(n).end]}
        if n != -3:
            record(
                ctx,
                "jobs",
                day(n),
                span("09:00", "09:10") if not n else Window(day(n).start, day(n).start + NS),
                proof=proof,
            )
        elif missing == "error":
            record(ctx, "jobs", day(n), day(n), proof={"error": "down"})
        elif missing == "part":
            record(ctx, "jobs", Window(day(n).start, day(n).start + 3600 * NS), proof=proof)
        elif missing == "empty":
            record(ctx, "jobs", day(n), day(n), proof={"scrapes": 0})
    (row, _) = schemas.rows_of(derive(ctx, DATE).slo)
    assert pd.isna(row["total"])


def test_a_link_never_rests_on_what_an_earlier_computation_linked(tmp_path: Path) -> None:
    first, other = "codex-k8s-kaniko-web-console-3f2a9c1e-7b4", "codex-k8s-kaniko-worker-3f2a9c1e-7b4"
    run, twin = "3f2a9c1e-7b41-4c1d-9a60-52e1c07d8b14", "3f2a9c1e-7b42-4c1d-9a60-52e1c07d8b15"
    told = [
        line("10:00:05", run_id=run, job_name=first, line=f"created {first}", level="INFO"),
        line("02:00:00", run_id=twin, line="another run", level="INFO"),
    ]
    lives = [Life("10:00:00", "12:00:00", job=first), Life("11:50:00", "11:58:00", job=other)]
    ctx = pulled(lake(tmp_path), lives, told)
    compute(ctx, DATE)
    runs = {r["job_name"]: r["run_id"] for r in rows(ctx, "attempts")}
    assert (runs[first], pd.isna(runs[other])) == (run, True)  # no line spoke of the run as the other job was made
    before = files(ctx)
    compute(ctx, DATE)
    assert files(ctx) == before


def test_a_day_whose_figures_change_after_its_report_keeps_what_was_and_what_is(tmp_path: Path) -> None:
    first = Life("09:00:00", "09:10:00")
    ctx = pulled(lake(tmp_path), [first])
    compute(ctx, DATE)
    assert ctx.records.restatements(DATE) == []
    later = pulled(lake(tmp_path, ns("00:30", 2)), [first, Life("10:00:00", "10:10:00", job=f"{JOB}-2")])
    compute(later, DATE)
    assert later.records.restatements(DATE) == []  # nobody had a report of it yet

    later.records.put_run({"date": str(DATE), "exit_code": 0, "verdict": "green", "started_at": "", "ended_at": ""})
    compute(later, DATE)
    assert later.records.restatements(DATE) == []  # nothing changed
    more = [first, Life("10:00:00", "10:10:00", job=f"{JOB}-2"), Life("11:00:00", "11:10:00", job=f"{JOB}-3")]
    last = pulled(lake(tmp_path, ns("00:40", 2)), more)
    compute(last, DATE)
    (found,) = last.records.restatements(DATE)
    assert [found[k]["build"]["finished"] for k in ("was", "is")] == [2, 3]
    assert found["at"].startswith(str(DATE + dt.timedelta(days=2)))
    before = files(last)
    compute(last, DATE)
    assert files(last) == before
