"""A small lake -> derived tables: every one of them, and the same again."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pandas as pd
import pytest

from pipeline import schemas
from pipeline.errors import LakeError, StoppedError, UsageError
from pipeline.lake.records import Records
from pipeline.lake.tables import Tables
from pipeline.steps.compute import Day, compute, day_coverage, derive, log_lines
from pipeline.steps.context import Context
from tests.lives import FAILED, JOB, RETRY, Life, events, interval, said, snapshots
from tests.small_lake import MANIFEST, MIRROR, RUN, SIGNED, files, lake, pulled, put, record, rows
from tests.tables import DATE, DAY, at, line, lines, ns, span

INCIDENT = [
    Life("09:00:30", "09:05:10", "failed", gone="09:05:12", uid="a"),
    Life("09:05:14", "09:14:10", "failed", gone="09:30:00", uid="b"),
    Life("09:30:05", "09:40:30", uid="c"),
    Life("09:06:10", "09:07:10", "failed", job=MIRROR),
]
TOLD = [
    said("09:05:11", RETRY),
    said("09:05:11", MANIFEST) | SIGNED,
    said("09:14:11", MANIFEST) | SIGNED,
    line("10:00", level="INFO", line="request served"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, Day]:
    """Compute a day with an incident: two failed builds, a failed mirror, and a recovery."""
    ctx = pulled(lake(tmp_path_factory.mktemp("lake")), INCIDENT, TOLD, [interval("09:16", "09:25")])
    return ctx, compute(ctx, DATE)


def test_every_derived_table_is_written_and_every_table_can_be_read(made: tuple[Context, Day]) -> None:
    ctx, _ = made
    assert [(r["outcome"], r["attempt"]) for r in rows(ctx, "attempts") if r["job_name"] == JOB] == [
        ("failed", 1),
        ("failed", 2),
        ("succeeded", 3),
    ]
    assert [(r["class"], r["signatures"]) for r in rows(ctx, "failures")] == [
        ("cache", ["cache-retrieval", "manifest-unknown"]),
        ("other", []),
        ("cache", ["cache-retrieval", "manifest-unknown"]),
    ]
    (incident,) = rows(ctx, "incidents")
    assert (incident["started_at"], incident["ended_at"], incident["failures"]) == (at("09:05:11"), at("09:40:30"), 2)
    verdicts = {r["alert"]: r["verdict"] for r in rows(ctx, "alert_audit")}
    assert verdicts["AI_SLOT_BUILD_FAILURE_BURST"] == "matched"
    assert verdicts["AI_SLOT_BUILD_MTTR_SLO_RISK"] == "missed"
    assert [r["slo"] for r in rows(ctx, "slo")] == ["build_availability", "recovery"]
    for name, spec in schemas.TABLES.items():
        if not spec.internal:
            assert ctx.tables.days(name) == [DATE]


def test_attempts_are_linked_to_the_run_that_lines_name(made: tuple[Context, Day]) -> None:
    ctx, _ = made
    links = [(r["job_name"], r["run_id"], r["linked_by"]) for r in rows(ctx, "attempts")]
    assert links[0] == (JOB, RUN, "job_token")
    assert pd.isna([r for n, r, _ in links if n == MIRROR]).all()


def test_a_day_says_what_it_rests_on(made: tuple[Context, Day]) -> None:
    ctx, computed = made
    assert computed.complete
    assert computed.verdict.verdict == "red"
    assert {c.what: c.rows for c in computed.coverage if c.configured} == {
        "logs": 4,
        "jobs": len(ctx.tables.read("job_samples", DAY)),
        "alerts": 1,
    }
    assert computed.restated == ()
    assert (computed.ambiguous, computed.left_out) == (0, (0, 0))
    kept = ctx.records.day(DATE) or {}
    assert kept["totals"]["all"]["failed"] == 3
    assert kept["worst"]["AI_SLOT_BUILD_FAILURE_BURST"] == 3


def test_golden_has_a_row_for_every_window_and_kind(made: tuple[Context, Day]) -> None:
    ctx, _ = made
    golden = schemas.to_frame(ctx.tables.read("golden", DAY))
    assert len(golden) == 480
    assert golden["complete"].all()
    hour = golden[(golden["window"] == "1h") & (golden["window_start"] == at("09:00"))].set_index("kind")
    assert hour["failed"].to_dict() == {"all": 3, "build": 2, "codegen-check": 0, "mirror": 1}
    assert hour["manifest_unknown_lines"].to_dict() == {"all": 2, "build": 2, "codegen-check": 0, "mirror": 0}


def test_computing_again_changes_no_byte_and_deriving_writes_nothing(made: tuple[Context, Day]) -> None:
    ctx, first = made
    before = files(ctx)
    again = compute(ctx, DATE)
    assert derive(ctx, DATE).totals == again.totals == first.totals
    assert files(ctx) == before


def test_a_day_that_was_never_pulled_is_an_error_that_names_the_command(made: tuple[Context, Day]) -> None:
    ctx, _ = made
    with pytest.raises(LakeError, match="nothing of 2026-02-20 was ever pulled") as told:
        compute(ctx, dt.date(2026, 2, 20))
    assert told.value.fix == "run: aislot pull --date 2026-02-20"


def test_a_day_in_the_future_is_refused(made: tuple[Context, Day]) -> None:
    with pytest.raises(UsageError, match="in the future"):
        compute(made[0], DATE + dt.timedelta(days=2))


def test_a_command_whose_time_is_over_stops_before_it_writes(tmp_path: Path) -> None:
    ctx = pulled(lake(tmp_path, remaining_s=lambda: 0))
    before = files(ctx)
    with pytest.raises(StoppedError):
        compute(ctx, DATE)
    assert files(ctx) == before


def test_lines_come_with_job_kind_and_attempt_and_only_those_that_tell(made: tuple[Context, Day]) -> None:
    ctx, _ = made
    ran = schemas.to_frame(ctx.tables.read("attempts", DAY))
    told = log_lines(ctx, DAY, ran)
    assert told["ts"].tolist() == [at("09:05:11"), at("09:05:11"), at("09:14:11")]
    assert set(told["job"]) == {JOB}
    assert set(told["kind"]) == {"build"}
    assert ran.loc[told["attempt_index"].tolist(), "attempt"].tolist() == [1, 1, 2]


def test_sources_without_anything_give_zeros_and_those_not_configured_nulls(tmp_path: Path) -> None:
    quiet = compute(pulled(lake(tmp_path / "quiet")), DATE)
    assert len(quiet.golden) == 480
    counts = ["started", "finished", "failed", "manifest_unknown_lines", "backlog_max", "pending_max"]
    assert (quiet.golden[counts] == 0).all(axis=None)
    assert quiet.golden[["failure_ratio", "duration_p50_s"]].isna().all(axis=None)
    assert quiet.golden["complete"].all()
    assert quiet.verdict.verdict == "green"

    ctx = lake(tmp_path / "off")
    for what in ("jobs", "logs", "alerts", "events", "issues"):
        record(ctx, what, complete=None, rows=0, proof={"configured": False})
    off = compute(ctx, DATE)
    assert len(off.golden) == 480
    assert off.golden[counts].isna().all(axis=None)
    assert not off.golden["complete"].any()
    assert off.verdict.verdict == "grey"
    assert off.complete
    assert all(ctx.tables.days(n) == [DATE] for n in schemas.DERIVED)


def test_a_hole_hides_the_windows_that_it_touches_and_a_failed_source_the_day(tmp_path: Path) -> None:
    ctx = pulled(lake(tmp_path), INCIDENT)
    for name in ctx.store.names("_aislot/pulls/jobs"):
        ctx.store.remove(name)
    record(ctx, "jobs", DAY, span("09:10", "09:20"), proof={"asked": [DAY.start, DAY.end]})
    record(ctx, "logs", DAY, DAY, rows=0, proof={"error": "connection refused"})
    got = compute(ctx, DATE)
    hidden = got.golden[~got.golden["complete"]]
    assert sorted(hidden["window_start"].unique()) == [at("09:00"), at("09:15")]
    assert hidden["finished"].isna().all()
    assert got.golden["manifest_unknown_lines"].isna().all()
    assert not got.complete
    assert got.totals["all"]["complete"] is False
    assert {r["what"] for r in got.verdict.reasons if r["level"] == "grey"} == {"jobs", "logs"}


def test_a_day_that_is_not_over_is_incomplete_and_what_was_not_asked_too(tmp_path: Path) -> None:
    ctx = lake(tmp_path, now=ns("15:00"))
    record(ctx, "jobs", provisional=True, proof={"asked": [DAY.start, ns("14:59")]})
    got = compute(ctx, DATE)
    assert not got.complete
    by_what = {c.what: c for c in got.coverage}
    assert list(by_what["jobs"].gaps) == [span("15:00", "24:00")]
    assert by_what["logs"].proof["error"] == "not asked about this day"


def test_rows_are_what_the_lake_has_however_often_it_was_asked(tmp_path: Path) -> None:
    ctx = pulled(lake(tmp_path), told=TOLD)
    for hours in (span("08:00", "10:00"), span("09:00", "11:00")):
        record(ctx, "logs", hours, rows=99)
    assert next(c.rows for c in day_coverage(ctx, DAY) if c.what == "logs") == 4


def test_an_attempt_that_events_showed_first_is_not_counted_again_once_scrapes_show_it(tmp_path: Path) -> None:
    life = Life("09:00:00", "09:05:00", "failed", gone="09:20:00")
    late = events([life])
    late["ts"] += pd.Timedelta(seconds=1)
    ctx = lake(tmp_path)
    put(ctx, "events", late)
    record(ctx, "events")
    assert compute(ctx, DATE).attempts["created_at"].tolist() == [at("09:00:01")]
    got = compute(pulled(ctx, [life]), DATE).attempts
    assert got["created_at"].tolist() == [at("09:00:00")]
    assert got["ended_at"].tolist() == [at("09:05:01")]


def test_what_the_lake_lost_takes_no_end_away(tmp_path: Path) -> None:
    ctx = pulled(lake(tmp_path), INCIDENT, TOLD)
    before = compute(ctx, DATE)
    for name in ("job_samples", "logs"):
        for file in ctx.store.names(f"_aislot/{name}" if schemas.TABLES[name].internal else name):
            ctx.store.remove(file)
    after = compute(ctx, DATE)
    columns = ["job_name", "created_at", "outcome", "ended_at", "run_id"]
    pd.testing.assert_frame_equal(after.attempts[columns], before.attempts[columns])


def test_a_lake_that_is_no_directory_serves_as_well() -> None:
    ctx = pulled(lake("memory://compute"), INCIDENT, TOLD)
    assert compute(ctx, DATE).totals["all"]["failed"] == 3
    assert Tables(ctx.store).days("golden") == [DATE]
    assert Records(ctx.store).day(DATE) is not None


def test_a_failure_that_only_lines_know_is_in_every_table(tmp_path: Path) -> None:
    ctx = lake(tmp_path)
    put(ctx, "logs", lines(said("09:05:00", FAILED)).reindex(columns=schemas.TABLES["logs"].columns))
    record(ctx, "logs")
    got = compute(ctx, DATE)
    assert [(r["source"], r["outcome"]) for r in rows(ctx, "attempts")] == [("logs", "failed")]
    assert got.failures["failed_at"].tolist() == [at("09:05:00")]
    assert got.totals["build"]["failed"] == 1
    assert got.golden["failed"].isna().all()


def test_of_a_dump_the_windows_that_snapshots_cover_are_complete_and_elsewhere_there_are_things_seen(
    tmp_path: Path,
) -> None:
    ctx = lake(tmp_path)
    put(ctx, "job_snapshots", snapshots([INCIDENT[1], INCIDENT[3]], "09:14:30", "09:16:00"))
    gaps = (span("00:00", "09:00"), span("10:00", "24:00"))
    record(ctx, "jobs", DAY, *gaps, source="kubernetes", proof={"method": "kubectl dump"})
    got = compute(ctx, DATE)
    complete = got.golden[got.golden["complete"]]
    assert sorted(complete["window_start"].unique()) == [at(t) for t in ("09:00", "09:15", "09:30", "09:45")]
    assert complete.loc[(complete["window"] == "1h") & (complete["kind"] == "all"), "failed"].tolist() == [2]
    jobs = next(c for c in got.coverage if c.what == "jobs")
    assert (jobs.source, jobs.rows, jobs.complete) == ("kubernetes", 2, False)
    assert set(got.attempts["source"]) == {"kubectl"}
    assert (got.totals["all"]["failed"], got.totals["all"]["complete"]) == (2, False)
