"""Golden signals: the contract's sentences on days made by hand, and what must hold of any day."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import schemas
from pipeline.model import DAY_NS, NS, Window
from pipeline.rules import AlertRule
from pipeline.signals.alerts import Expected
from pipeline.signals.golden import (
    day_totals,
    golden_signals,
    medians,
    previous_days,
    touching,
    worst_windows,
)
from tests.tables import DAY, KINDS, WHOLE, at, attempt, attempts, line, lines, ns, span, table

ONE = ("build",)
COUNTS = ["started", "finished", "failed"]
LINE_COUNTS = ["manifest_unknown_lines", "cache_retrieval_lines", "build_ref_lines"]


def _golden(
    ran: pd.DataFrame, told: pd.DataFrame | None = None, gaps: Any = WHOLE, kinds: Sequence[str] = ONE
) -> pd.DataFrame:
    return golden_signals(ran, lines() if told is None else told, DAY, gaps, kinds)


def _row(table: pd.DataFrame, start: str, window: str = "15m", kind: str = "build") -> dict[str, Any]:
    found = table[(table["window_start"] == at(start)) & (table["window"] == window) & (table["kind"] == kind)]
    assert len(found) == 1
    return schemas.rows_of(found)[0]


def test_every_window_of_every_kind_has_a_row_and_an_empty_day_counts_nothing() -> None:
    empty = _golden(attempts(), kinds=KINDS)
    assert empty.columns.tolist() == schemas.TABLES["golden"].columns
    assert (empty.dtypes == schemas.empty_frame("golden").dtypes).all()
    assert empty.groupby(["window", "kind"]).size().to_dict() == {
        (w, k): n for w, n in (("15m", 96), ("1h", 24)) for k in ("all", *KINDS)
    }
    assert (empty[[*COUNTS, *LINE_COUNTS, "backlog_max", "pending_max"]] == 0).all(axis=None)
    assert empty[["failure_ratio", "duration_p50_s", "duration_p95_s", "duration_max_s"]].isna().all(axis=None)
    assert empty["complete"].all()


def test_traffic_is_counted_where_it_starts_and_outcomes_where_they_end() -> None:
    got = _golden(
        attempts(
            attempt("09:14", "09:16", "failed"),
            attempt("09:14:30", "09:29:59.999999999"),
            attempt("09:15", None, "superseded"),
            attempt("09:16", None, "vanished"),
            attempt("09:20", None, "running"),
        )
    )
    assert [_row(got, "09:00")[c] for c in COUNTS] == [2, 0, 0]
    assert [_row(got, "09:15")[c] for c in COUNTS] == [3, 2, 1]
    assert _row(got, "09:15")["failure_ratio"] == 0.5
    assert [_row(got, "09:00", "1h")[c] for c in COUNTS] == [5, 2, 1]


def test_windows_are_half_open() -> None:
    got = _golden(attempts(attempt("09:15", "09:30")))
    assert (_row(got, "09:15")["started"], _row(got, "09:15")["finished"], _row(got, "09:30")["finished"]) == (1, 0, 1)


def test_an_attempt_across_midnight_starts_on_one_day_and_ends_on_the_other() -> None:
    ran = attempts(
        attempt(at("23:55", -1), "00:05"),
        attempt("23:58", at("00:03", 1), "failed", created="23:50"),
    )
    got = _golden(ran)[lambda g: (g["window"] == "1h") & (g["kind"] == "build")]
    assert [int(got[c].sum()) for c in COUNTS] == [1, 1, 0]
    assert _row(_golden(ran), "00:00", "1h")["duration_max_s"] == 600


def test_a_ratio_is_unknown_where_nothing_finished() -> None:
    got = _golden(attempts(attempt("09:14", "09:16")))
    assert pd.isna(_row(got, "09:00")["failure_ratio"])
    assert _row(got, "09:15")["failure_ratio"] == 0


def test_percentiles_are_exact_and_only_of_successes() -> None:
    seconds = [60, 90, 100, 250]
    ran = [attempt("09:00", at("09:00") + pd.Timedelta(seconds=s)) for s in seconds]
    row = _row(_golden(attempts(*ran, attempt("08:00", "09:10", "failed"))), "09:00")
    assert row["duration_p50_s"] == 95
    assert row["duration_p95_s"] == np.percentile(seconds, 95)
    assert row["duration_max_s"] == 250


def test_all_is_build_mirror_and_codegen_check_and_no_other_kind() -> None:
    ran = [attempt("09:00", "09:01", "failed", kind=k) for k in (*KINDS, "run")]
    got = _golden(attempts(*ran), kinds=KINDS)
    assert _row(got, "09:00", kind="all")["failed"] == 3
    assert [_row(got, "09:00", kind=k)["failed"] for k in KINDS] == [1, 1, 1]


def test_lines_count_for_all_whatever_their_job_and_for_a_kind_when_their_job_is_of_it() -> None:
    told = lines(
        line("09:00", "manifest-unknown", "cache-retrieval", kind="build"),
        line("09:01", "manifest-unknown"),
        line("09:02", "build-ref", kind="codegen-check"),
        line("09:03", "manifest-unknown", kind="run"),
        line("09:04", "of-a-user", kind="build"),
        line("09:05", kind="build"),
    )
    got = _golden(attempts(), told, kinds=KINDS)
    assert [_row(got, "09:00", kind="all")[c] for c in LINE_COUNTS] == [3, 1, 1]
    assert [_row(got, "09:00", kind="build")[c] for c in LINE_COUNTS] == [1, 1, 0]
    assert [_row(got, "09:00", kind="codegen-check")[c] for c in LINE_COUNTS] == [0, 0, 1]
    assert [_row(got, "09:00", kind="mirror")[c] for c in LINE_COUNTS] == [0, 0, 0]


def test_a_hole_between_scrapes_hides_the_jobs_of_each_window_it_touches_and_no_lines() -> None:
    told = lines(line("09:20", "manifest-unknown"))
    got = _golden(attempts(attempt("09:20", "09:21")), told, {"jobs": [span("09:29:59", "10:00")], "logs": []})
    job_columns = [c for c in got.columns if c not in {"window_start", "window", "kind", "complete", *LINE_COUNTS}]
    touched = got[~got["complete"]]
    assert touched[job_columns].isna().all(axis=None)
    assert not touched[LINE_COUNTS].isna().any(axis=None)
    assert sorted(touched[touched["window"] == "15m"]["window_start"].unique()) == [
        at("09:15"),
        at("09:30"),
        at("09:45"),
    ]
    assert touched[touched["window"] == "1h"]["window_start"].unique().tolist() == [at("09:00")]
    assert _row(got, "09:15", kind="all")["manifest_unknown_lines"] == 1


def test_a_hole_of_the_logs_hides_line_counts_only() -> None:
    got = _golden(attempts(attempt("09:20", "09:21")), lines(), {"jobs": [], "logs": [span("09:20", "09:21")]})
    row = _row(got, "09:15")
    assert row["complete"]
    assert (row["started"], row["finished"]) == (1, 1)
    assert all(pd.isna(row[c]) for c in LINE_COUNTS)
    assert _row(got, "09:00")["manifest_unknown_lines"] == 0


@pytest.mark.parametrize(("known", "hidden"), [("jobs", LINE_COUNTS), ("logs", [*COUNTS, "backlog_max"])])
def test_what_was_not_configured_is_unknown_and_never_zero(known: str, hidden: list[str]) -> None:
    got = _golden(attempts(attempt("09:20", "09:21")), lines(line("09:20", "build-ref")), {known: []})
    assert got[hidden].isna().all(axis=None)
    assert got["complete"].all() == (known == "jobs")


def test_the_backlog_is_created_and_not_finished_and_pending_created_and_not_started() -> None:
    got = _golden(
        attempts(
            attempt("09:05", "09:20", created="09:02"),
            attempt("09:10", "09:31", created="09:04"),
            attempt("09:16", "09:18", created="09:10", kind="mirror"),
        ),
        kinds=KINDS,
    )

    def depth(start: str, kind: str) -> tuple[int, int]:
        row = _row(got, start, kind=kind)
        return row["backlog_max"], row["pending_max"]

    assert [depth(t, "build") for t in ("08:45", "09:00", "09:15", "09:30", "09:45")] == [
        (0, 0),
        (2, 2),
        (2, 0),
        (1, 0),
        (0, 0),
    ]
    assert depth("09:00", "all") == (3, 2)
    assert depth("09:15", "mirror") == (1, 1)


def test_what_ends_as_another_begins_is_not_alive_with_it() -> None:
    got = _golden(attempts(attempt("09:00", "09:05"), attempt("09:05", "09:10", created="09:05")))
    assert _row(got, "09:00")["backlog_max"] == 1


def test_an_attempt_without_an_end_is_in_the_backlog_for_as_long_as_it_was_seen() -> None:
    got = _golden(
        attempts(
            attempt("09:01", None, "vanished", last_seen_at=at("09:16")),
            attempt("09:02", None, "superseded", last_seen_at=at("09:03")),
            attempt("22:00", None, "running", last_seen_at=at("23:59:45")),
            attempt(at("10:00", -3), None, "running", last_seen_at=at("23:00", -3)),
        )
    )
    assert [_row(got, t)["backlog_max"] for t in ("00:00", "09:00", "09:15", "09:30", "22:00", "23:45")] == [
        0,
        2,
        1,
        0,
        1,
        1,
    ]


def test_where_nobody_told_the_start_an_attempt_is_not_called_pending() -> None:
    unknown = attempt(None, "09:10", "failed", created="09:00", source="logs")
    waiting = attempt(None, "09:40", "failed", created="09:30", source="prometheus")
    got = _golden(attempts(unknown, waiting))
    assert (_row(got, "09:00")["pending_max"], _row(got, "09:30")["pending_max"]) == (0, 1)
    assert _row(got, "09:00")["backlog_max"] == 1


def test_totals_sum_build_and_mirror_and_carry_counts_ratio_and_interval() -> None:
    ran = [attempt("09:00", f"09:{m:02d}", "succeeded" if m < 9 else "failed") for m in range(1, 11)]
    ran += [
        attempt("10:00", "10:01", "failed", kind="mirror"),
        attempt("10:00", "10:02", "failed", kind="codegen-check"),
    ]
    got = day_totals(attempts(*ran), lines(line("09:00", "build-ref", kind="codegen-check")), DAY, WHOLE, KINDS)
    assert list(got) == ["build+mirror", "all", *KINDS]
    both = got["build+mirror"]
    assert [both[c] for c in ("started", "finished", "failed", "succeeded", "durations")] == [11, 11, 3, 8, 8]
    assert both["failure_ratio"] == 3 / 11
    assert both["failure_low_ratio"] < 3 / 11 < both["failure_high_ratio"]
    assert both["duration_p50_s"] == 270
    assert (got["all"]["failed"], got["codegen-check"]["failed"]) == (4, 1)
    assert (got["all"]["build_ref_lines"], both["build_ref_lines"], got["codegen-check"]["build_ref_lines"]) == (
        1,
        0,
        1,
    )
    assert all(row["complete"] and row["lines_complete"] for row in got.values())
    assert got["mirror"]["duration_p95_s"] is None


def test_totals_of_a_day_with_holes_count_what_was_seen_and_say_so() -> None:
    ran, told = attempts(attempt("09:00", "09:01", "failed")), lines(line("09:00", "build-ref"))
    got = day_totals(ran, told, DAY, {"jobs": [span("09:00", "10:00")], "logs": [span("09:00", "10:00")]}, KINDS)
    assert (got["all"]["failed"], got["all"]["complete"]) == (1, False)
    assert (got["all"]["build_ref_lines"], got["all"]["lines_complete"]) == (1, False)
    without = day_totals(ran, told, DAY, {"jobs": []}, KINDS)
    assert (without["all"]["build_ref_lines"], without["all"]["lines_complete"]) == (None, False)
    assert without["all"]["failure_ratio"] == 1


def test_totals_are_plain_values() -> None:
    got = day_totals(attempts(), lines(), DAY, WHOLE, KINDS)
    assert {type(v) for row in got.values() for v in row.values()} == {int, bool, type(None)}


def test_history_has_the_median_of_each_number_over_the_days_that_were_pulled() -> None:
    def totals(failed: int, p50: float | None) -> dict[str, dict[str, Any]]:
        return {"build": {"failed": failed, "duration_p50_s": p50, "complete": True, "lines_complete": True}}

    days = [totals(0, None), None, totals(4, 60.0), totals(1, 90.0), totals(3, None)]
    assert medians(days) == {"build": {"failed": 2.0, "duration_p50_s": 75.0}}
    assert medians([totals(1, None)]) == {"build": {"failed": 1.0}}
    assert medians([None, None]) == medians([]) == {}


def test_the_worst_window_of_a_rule_says_when_its_threshold_was_first_reached() -> None:
    rule = AlertRule("BURST", "page", "failed_attempts", 900, ">=", 3, ("build",), summary="failed builds in 15 min")
    yesterday = (ns("23:50", -1), ns("00:05"))
    today = [(ns("09:14"), ns("09:20")), (ns("11:00"), None)]
    tomorrow = (ns("00:01", 1), None)
    found = Expected(rule, [yesterday, *today, tomorrow], 5.0, ns("09:16"))
    (row,) = worst_windows([found], DAY)
    assert row["intervals"] == today
    assert (row["reached_at"], row["held_before"]) == (ns("09:14"), ns("23:50", -1))
    assert (row["worst"], row["worst_at"], row["worst_of"]) == (5.0, ns("09:16"), None)
    assert (row["alert"], row["severity"], row["op"], row["threshold"], row["window_s"]) == (
        "BURST",
        "page",
        ">=",
        3,
        900,
    )
    (quiet,) = worst_windows([Expected(rule, [], 0.0)], DAY)
    assert (quiet["reached_at"], quiet["held_before"], quiet["intervals"], quiet["worst"]) == (None, None, [], 0.0)


def test_the_days_before_come_latest_first() -> None:
    assert [d.start for d in previous_days(DAY, 3)] == [DAY.start - i * DAY_NS for i in (1, 2, 3)]


def test_an_attempt_touches_the_days_it_was_created_alive_or_ended_in() -> None:
    ran = attempts(
        attempt(at("23:00", -1), "00:00"),
        attempt(at("22:00", -1), at("23:00", -1)),
        attempt("23:59", at("00:01", 1)),
        attempt(at("00:00", 1), at("00:01", 1)),
        attempt(at("20:00", -1), at("20:00", 1), "failed"),
        attempt(at("21:00", -1), None, "running", last_seen_at=at("00:00:15")),
        attempt(at("21:30", -1), None, "vanished", last_seen_at=at("23:59", -1)),
    )
    kept = touching(ran, DAY)["created_at"].tolist()
    assert kept == [at("20:00", -1), at("21:00", -1), at("23:00", -1), at("23:59")]


# what must hold of any day

minutes = st.integers(-120, 1560)


@st.composite
def some_attempts(draw: st.DrawFn) -> pd.DataFrame:
    """Make a day of attempts, some of them across its edges."""
    rows = []
    for i in range(draw(st.integers(0, 12))):
        created = draw(minutes)
        begun = created + draw(st.integers(0, 30))
        outcome = draw(st.sampled_from(["succeeded", "failed", "running", "superseded", "vanished"]))
        last = begun + draw(st.integers(0, 90))
        ended = _at(last) if outcome in {"succeeded", "failed"} else None
        kind = draw(st.sampled_from([*KINDS, "run"]))
        started = _at(begun) if draw(st.integers(0, 5)) else None
        row = attempt(started, ended, outcome, kind, _at(created), last_seen_at=_at(last), attempt=i + 1)
        rows.append(row)
    return attempts(*rows)


@st.composite
def some_lines(draw: st.DrawFn) -> pd.DataFrame:
    """Make lines with signatures, of jobs of all kinds and of none."""
    ids = st.lists(st.sampled_from(["manifest-unknown", "cache-retrieval", "build-ref"]), unique=True)
    kinds = st.sampled_from([*KINDS, "run", None])
    made = draw(st.lists(st.tuples(minutes, ids, kinds), max_size=10))
    return lines(*(line(_at(m), *sorted(s), kind=k) for m, s, k in made))


def _at(minute: int) -> pd.Timestamp:
    return at("00:00") + pd.Timedelta(minutes=minute)


few = settings(max_examples=4, deadline=None)  # a table of one kind takes a tenth of a second, of all a fifth


@few
@given(some_attempts(), some_lines())
def test_counts_add_up_over_windows_and_kinds(ran: pd.DataFrame, told: pd.DataFrame) -> None:
    got = _golden(ran, told, kinds=KINDS)

    def total(kind: str, window: str, column: str) -> int:
        return int(got.loc[(got["window"] == window) & (got["kind"] == kind), column].sum())

    totals = day_totals(ran, told, DAY, WHOLE, KINDS)
    for column in (*COUNTS, *LINE_COUNTS):
        for kind in ("all", *KINDS):
            assert total(kind, "15m", column) == total(kind, "1h", column) == totals[kind][column]
    for column in COUNTS:
        by_window = got.groupby(["window", "window_start", "kind"])[column].sum().to_numpy(int).reshape(120, 4)
        assert (by_window[:, 0] == by_window[:, 1:].sum(axis=1)).all()  # "all" sorts first
    mine = ran[ran["kind"].isin(KINDS)]
    inside = (mine["started_at"] >= at("00:00")) & (mine["started_at"] < at("24:00"))
    assert total("all", "1h", "started") == inside.sum()


@few
@given(some_attempts(), some_lines(), st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(ran: pd.DataFrame, told: pd.DataFrame, random: Any) -> None:
    seed = random.randrange(1000)
    mixed = _golden(ran.sample(frac=1, random_state=seed), told.sample(frac=1, random_state=seed))
    pd.testing.assert_frame_equal(mixed, _golden(ran, told))


@few
@given(some_attempts(), some_lines())
def test_what_is_given_is_not_changed(ran: pd.DataFrame, told: pd.DataFrame) -> None:
    before = ran.copy(deep=True), told.copy(deep=True)
    _golden(ran, told)
    day_totals(ran, told, DAY, WHOLE, KINDS)
    pd.testing.assert_frame_equal(ran, before[0])
    pd.testing.assert_frame_equal(told, before[1])


@few
@given(some_attempts())
def test_what_does_not_touch_the_day_changes_nothing_of_it(ran: pd.DataFrame) -> None:
    kept = touching(ran, DAY)
    pd.testing.assert_frame_equal(_golden(kept), _golden(ran))
    assert day_totals(kept, lines(), DAY, WHOLE, KINDS) == day_totals(ran, lines(), DAY, WHOLE, KINDS)


@few
@given(some_attempts())
def test_backlog_and_pending_are_what_looking_at_every_minute_finds(ran: pd.DataFrame) -> None:
    got = _golden(ran, kinds=KINDS)
    lives = [_life(r) for r in schemas.rows_of(ran[ran["kind"].isin(KINDS)])]
    for row in schemas.rows_of(got[(got["kind"] == "all")]):
        start = row["window_start"].value
        window = range(start, start + (900 if row["window"] == "15m" else 3600) * NS, 60 * NS)
        assert row["backlog_max"] == max(sum(a <= t < end for a, _, end in lives) for t in window)
        assert row["pending_max"] == max(sum(a <= t < begun for a, begun, _ in lives) for t in window)


def _life(r: dict[str, Any]) -> tuple[int, int, int]:
    """Return when an attempt was created, no longer pending and no longer in the backlog."""
    last: int = r["last_seen_at"].value
    if r["outcome"] == "running" and last >= DAY.start:
        last = 2 * DAY.end
    end: int = r["ended_at"].value if pd.notna(r["ended_at"]) else last
    begun: int = r["started_at"].value if pd.notna(r["started_at"]) else end
    return r["created_at"].value, min(begun, end), end


@few
@given(some_attempts(), st.integers(0, 1400), st.integers(1, 200))
def test_a_hole_hides_exactly_the_windows_that_it_overlaps(ran: pd.DataFrame, start: int, length: int) -> None:
    hole = Window(_at(start).value, _at(min(start + length, 1440)).value)
    whole, holed = _golden(ran), _golden(ran, gaps={"jobs": [hole], "logs": []})
    steps = holed["window"].map({"15m": 900 * NS, "1h": 3600 * NS})
    begins = holed["window_start"].astype("int64")
    assert (holed["complete"] == ~((begins < hole.end) & (begins + steps > hole.start))).all()
    seen = holed["complete"].to_numpy(bool)
    pd.testing.assert_frame_equal(holed[seen], whole[seen])


def test_the_queue_is_the_most_of_each_window_and_unknown_without_a_sample() -> None:
    asked = [("08:59:59", 9.0), ("09:00", 1.0), ("09:07", 4.5), ("09:14:59", 2.0), ("09:15", 3.0), ("10:00", 0.0)]
    queue = table("queue_samples", *({"ts": at(t), "value": v, "query": "q"} for t, v in asked))
    got = golden_signals(attempts(), lines(), DAY, {}, KINDS, queue)
    assert [_row(got, t, kind="all")["queue_max"] for t in ("08:45", "09:00", "09:15", "10:00")] == [9.0, 4.5, 3.0, 0.0]
    assert [_row(got, t, "1h", "all")["queue_max"] for t in ("08:00", "09:00")] == [9.0, 4.5]
    assert pd.isna(_row(got, "09:30", kind="all")["queue_max"])
    assert got.loc[got["kind"] != "all", "queue_max"].isna().all()
    assert got["queue_max"].notna().sum() == 7
    assert golden_signals(attempts(), lines(), DAY, {}, KINDS)["queue_max"].isna().all()


@settings(max_examples=10, deadline=None)
@given(st.dictionaries(st.integers(-60, 1500), st.integers(0, 99), max_size=20))
def test_an_hours_queue_is_the_most_of_its_quarters(minutes: dict[int, int]) -> None:
    rows = [{"ts": pd.Timestamp(DAY.start + m * 60 * NS, tz="UTC"), "value": float(v)} for m, v in minutes.items()]
    queue = table("queue_samples", *rows)
    got = golden_signals(attempts(), lines(), DAY, {}, ONE, queue)
    found = got[got["kind"] == "all"].assign(hour=got["window_start"].dt.floor("h"))
    quarters = found[found["window"] == "15m"].groupby("hour")["queue_max"].max()
    hours = found[found["window"] == "1h"].set_index("hour")["queue_max"]
    pd.testing.assert_series_equal(quarters, hours)
    total = day_totals(attempts(), lines(), DAY, {}, ONE, queue)["all"]
    assert total["queue_max"] == max((v for m, v in minutes.items() if 0 <= m < 1440), default=None)
    assert total["queue_complete"] == bool(found["queue_max"].notna().all())


def test_a_queue_that_nobody_asked_for_is_in_no_total() -> None:
    assert "queue_max" not in day_totals(attempts(), lines(), DAY, {}, ONE)["all"]
