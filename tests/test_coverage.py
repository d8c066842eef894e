"""Coverage: what counts as a hole, and what the records of pulls add up to; what was not asked is never called known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.model import NS, Coverage, PullRecord, Window, merge, subtract
from pipeline.signals.coverage import holes, instants, longest_s, of_day, of_jobs, usual_interval
from tests.lives import every, scrapes
from tests.tables import DAY, at, ns, span, table

WHOLE = every(30, "00:00:10", "24:00")


def _seconds(*at: float) -> list[int]:
    return [round(t * NS) for t in at]


# holes


def test_the_usual_interval_is_the_longer_of_two_that_take_turns() -> None:
    assert usual_interval(_seconds(0, 30, 60, 90, 600, 630)) == 30 * NS
    assert usual_interval(_seconds(0, 2, 30, 32, 60, 62, 90, 92)) == 28 * NS  # two instances, two seconds apart
    assert usual_interval(_seconds(0, 1, 2, 15, 16, 17, 30, 31, 32, 45)) == 13 * NS
    assert usual_interval(_seconds(5)) is None
    assert usual_interval([]) is None


@pytest.mark.parametrize(
    ("seen", "found"),
    [
        ([5, 35, 65, 95], []),
        ([5, 35, 110], []),  # two and a half intervals
        ([5, 35, 110.1], [(35, 110.1)]),
        ([-25, 95], [(0, 95)]),
        ([-10, 20, 50, 80, 110, 140, 170], []),
        ([76, 106], [(0, 76)]),  # nothing is known from before
        ([5, 35], [(35, 120)]),  # nor from after
        ([-60, 200], [(0, 120)]),
        ([], [(0, 120)]),
    ],
)
def test_a_hole_is_a_distance_of_more_than_two_and_a_half_intervals_also_at_the_edges(
    seen: list[float], found: list[tuple[float, float]]
) -> None:
    window = Window(0, 120 * NS)
    assert holes(_seconds(*seen), window, 30 * NS) == [Window(*_seconds(*h)) for h in found]


def test_without_two_instants_the_whole_window_is_a_hole() -> None:
    assert holes([], DAY) == holes([ns("12:00")], DAY) == [DAY]
    assert holes([], Window(5, 5)) == []
    assert holes([], Window(0, NS), 30 * NS) == [Window(0, NS)]


@given(st.sets(st.integers(-300, 900), max_size=40).map(sorted), st.integers(0, 300), st.integers(1, 300))
def test_holes_are_what_looking_at_every_second_finds(seen: list[int], start: int, length: int) -> None:
    window, usual = Window(start * NS, (start + length) * NS), 20
    found = holes(_seconds(*seen), window, usual * NS)
    if not seen:
        return
    known = set(seen)
    if not any(s < start for s in seen):
        known.add(start)
    if not any(s >= start + length for s in seen):
        known.add(start + length)
    ordered = sorted(known)

    def hidden(second: int) -> bool:
        before = max(s for s in ordered if s <= second)
        after = min(s for s in ordered if s > second)
        return after - before > 2.5 * usual

    assert [any(s * NS in w for w in found) for s in range(start, start + length)] == [
        hidden(s) for s in range(start, start + length)
    ]


@given(st.lists(st.integers(0, 86_400), max_size=30, unique=True).map(sorted))
def test_the_holes_of_two_halves_are_the_holes_of_the_whole_cut_in_two(seen: list[int]) -> None:
    known = _seconds(*seen)
    whole, middle = Window(0, 86_400 * NS), 43_200 * NS
    if not any(s < 43_200 for s in seen) or not any(s >= 43_200 for s in seen):
        return
    halves = [h for w in (Window(0, middle), Window(middle, whole.end)) for h in holes(known, w, 60 * NS)]
    assert merge(halves) == merge(holes(known, whole, 60 * NS))


# scrapes of the jobs' target


def test_scrapes_all_day_are_complete_whether_or_not_there_was_a_job() -> None:
    gaps, proof = of_jobs(scrapes(WHOLE), DAY)
    assert gaps == []
    assert proof == {
        "scrapes": 2880,
        "expected": 2880,
        "interval_s": 30,
        "first": ns("00:00:10"),
        "last": ns("23:59:40"),
    }


def test_a_scrape_that_found_the_target_down_counts_for_nothing() -> None:
    down = scrapes(WHOLE)
    down["up"] = ~down["ts"].between(at("10:00"), at("10:10"))
    gaps, proof = of_jobs(down, DAY)
    assert gaps == [span("09:59:40", "10:10:10")]
    assert proof["scrapes"] == 2860


def test_a_target_that_was_never_up_or_never_there_leaves_the_day_unknown() -> None:
    for frame in (scrapes(WHOLE).assign(up=False), scrapes([])):
        gaps, proof = of_jobs(frame, DAY)
        assert gaps == [DAY]
        assert (proof["scrapes"], proof["expected"], proof["first"]) == (0, None, None)


def test_scrapes_before_and_after_the_day_tell_about_its_edges() -> None:
    late = every(30, "00:01:30", "23:58:40")
    edges = [span("00:00", "00:01:30"), span("23:58:30", "24:00")]
    assert of_jobs(scrapes(late), DAY)[0] == edges
    assert of_jobs(scrapes([at("23:59:55", -1), *late, at("00:00:05", 1)]), DAY)[0] == edges
    assert of_jobs(scrapes([at("00:00:20"), *late, at("23:59:40")]), DAY)[0] == []
    near = [at("23:59:50", -1), *every(30, "00:00:50", "23:59:00"), at("23:59:40"), at("00:00:40", 1)]
    assert of_jobs(scrapes(near), DAY)[0] == []


def test_two_instances_scraped_one_after_the_other_make_no_holes() -> None:
    both = sorted([*WHOLE, *(t + pd.Timedelta(seconds=2) for t in WHOLE)])
    assert of_jobs(scrapes(both), DAY)[0] == []


def test_instants_come_sorted_in_nanoseconds_without_unknown_ones() -> None:
    frame = table("scrapes", {"ts": at("10:00")}, {"ts": None}, {"ts": at("09:00")})
    assert instants(frame).tolist() == [ns("09:00"), ns("10:00")]


def test_the_longest_gap_of_none_is_none() -> None:
    assert longest_s([]) == 0
    assert longest_s([span("09:00", "09:01"), span("10:00", "10:00:30.5")]) == 60


# records of pulls


def _record(what: str = "logs", window: Window = DAY, *gaps: Window, **more: Any) -> PullRecord:
    source = {"logs": "loki", "events": "kubernetes", "issues": "github"}.get(what, "prometheus")
    base: dict[str, Any] = {"source": source, "complete": not gaps, "rows": 10, "asked_at": ns("00:20", 1)}
    return PullRecord(**base | {"what": what, "window": window, "gaps": gaps} | more)


def _not_configured(what: str) -> PullRecord:
    return _record(what, complete=None, rows=0, proof={"configured": False})


def _of(*records: PullRecord, what: str = "logs", window: Window = DAY) -> Coverage:
    by_what: dict[str, list[PullRecord]] = {"alerts": [_not_configured("alerts")]}
    for r in records:
        by_what.setdefault(r.what, []).append(r)
    return next(c for c in of_day(by_what, window) if c.what == what)


def test_a_day_has_one_coverage_for_each_kind_of_question_in_a_fixed_order() -> None:
    assert [(c.what, c.source) for c in of_day({}, DAY)] == [
        ("logs", "loki"),
        ("jobs", "prometheus"),
        ("alerts", "prometheus"),
        ("events", "kubernetes"),
        ("issues", "github"),
    ]


def test_a_day_that_nobody_asked_about_is_neither_complete_nor_incomplete() -> None:
    for c in of_day({}, DAY):
        assert (c.configured, c.complete, c.rows, list(c.gaps), list(c.asked)) == (False, None, 0, [], [])


def test_a_source_that_was_not_configured_counts_for_nothing() -> None:
    got = _of(_not_configured("logs"))
    assert (got.configured, got.complete, got.rows, list(got.gaps), list(got.asked)) == (False, None, 0, [], [DAY])


@pytest.mark.parametrize(("what", "complete"), [("logs", False), ("jobs", False), ("issues", False), ("events", None)])
def test_what_was_left_out_of_a_pull_is_incomplete_but_for_events(what: str, *, complete: bool | None) -> None:
    got = _of(what=what)
    assert got.complete is complete
    assert list(got.gaps) == ([] if what == "events" else [DAY])
    assert (got.proof.get("error") is None) == (what == "events")


def test_hours_of_logs_add_up_to_a_day() -> None:
    told = [{"counted": i + 1, "steps": {"a": [i]}, "at_start": 1} for i in range(24)]
    hours = [_record("logs", w, rows=i, proof=told[i]) for i, w in enumerate(DAY.cells(3600 * NS))]
    got = _of(*hours)
    assert (got.configured, got.complete, got.rows, list(got.gaps)) == (True, True, 276, [])
    assert got.proof == {"counted": 276 + 24, "windows": 24}
    assert list(got.asked) == [DAY]


def test_an_hour_that_is_missing_or_short_is_a_gap() -> None:
    hours = [_record("logs", w) for w in DAY.cells(3600 * NS)]
    hours[9] = _record("logs", hours[9].window, span("09:10", "09:11"))
    got = _of(*hours[:20], *hours[21:])
    assert (got.complete, list(got.gaps)) == (False, [span("09:10", "09:11"), span("20:00", "21:00")])


def test_a_part_of_a_day_leaves_the_rest_a_gap() -> None:
    got = _of(_record("jobs", span("10:00", "12:00")), what="jobs")
    assert (got.complete, list(got.gaps)) == (False, [span("00:00", "10:00"), span("12:00", "24:00")])


def test_the_window_may_be_a_part_of_what_was_asked() -> None:
    records = [_record("jobs", DAY, span("10:00", "11:00"))]
    assert _of(*records, what="jobs", window=span("08:00", "09:00")).complete is True
    assert list(_of(*records, what="jobs", window=span("10:30", "12:00")).gaps) == [span("10:30", "11:00")]


def test_of_logs_a_later_answer_stands_whichever_way_it_goes() -> None:
    short = _record("logs", DAY, span("09:00", "09:01"), asked_at=1)
    assert _of(_record(asked_at=2), short).complete is True
    worse = _of(_record("logs", span("09:00", "10:00"), span("09:30", "09:31"), asked_at=2), _record(asked_at=1))
    assert list(worse.gaps) == [span("09:30", "09:31")]


@pytest.mark.parametrize("what", ["jobs", "alerts", "events", "issues"])
def test_what_was_once_known_whole_of_all_others_stays_known(what: str) -> None:
    """The server may have forgotten by now, the lake has not."""
    whole, empty = _record(what, asked_at=1), _record(what, DAY, DAY, asked_at=2)
    assert _of(whole, empty, what=what).complete is True


def test_a_source_that_stands_in_for_another_takes_nothing_away() -> None:
    loki = _record("logs", span("00:00", "12:00"), asked_at=1)
    dump = _record("logs", DAY, span("00:00", "18:00"), asked_at=2, source="kubernetes")
    got = _of(loki, dump)
    assert (got.source, list(got.gaps)) == ("kubernetes", [span("12:00", "18:00")])


def test_a_source_that_failed_is_incomplete_with_its_error() -> None:
    failed = _record("jobs", DAY, DAY, rows=0, proof={"error": "connection refused", "fix": "start it"})
    got = _of(failed, what="jobs")
    assert (got.configured, got.complete, list(got.gaps)) == (True, False, [DAY])
    assert got.proof["error"] == "connection refused"


def test_a_configured_source_outweighs_a_record_that_it_was_not() -> None:
    got = _of(_not_configured("jobs"), _record("jobs", span("00:00", "12:00"), asked_at=1), what="jobs")
    assert (got.configured, list(got.gaps)) == (True, [span("12:00", "24:00")])


def test_lines_that_still_move_are_not_yet_whole() -> None:
    hours = [_record("logs", w) for w in DAY.cells(3600 * NS)]
    hours[23] = _record("logs", hours[23].window, provisional=True, asked_at=ns("00:05", 1))
    assert list(_of(*hours).gaps) == [span("23:00", "24:00")]


@pytest.mark.parametrize("what", ["jobs", "issues", "alerts"])
def test_of_a_day_that_is_not_over_what_is_to_come_is_a_gap(what: str) -> None:
    today = _record(what, provisional=True, asked_at=ns("15:00"))
    assert list(_of(today, what=what).gaps) == [span("15:00", "24:00")]
    assert list(_of(today, _record(what, span("15:00", "24:00"), asked_at=ns("01:00", 1)), what=what).gaps) == []


def test_events_pulled_every_hour_are_complete_and_otherwise_nobody_can_tell() -> None:
    def pulled(hours: Sequence[int]) -> Coverage:
        """Each pull asks for two hours and sees the last one of them."""
        records = []
        for h in hours:
            now = ns("00:00") + h * 3600 * NS
            asked = Window(now - 2 * 3600 * NS, now)
            records.append(_record("events", asked, Window(asked.start, now - 3600 * NS), asked_at=now))
        return _of(*records, what="events")

    whole = pulled(range(25))
    assert (whole.complete, list(whole.gaps)) == (True, [])
    holed = pulled([h for h in range(25) if h != 9])
    assert (holed.configured, holed.complete, list(holed.gaps)) == (True, None, [span("08:00", "09:00")])


def test_a_source_that_cannot_tell_is_not_called_complete() -> None:
    assert _of(_record("jobs", complete=None), what="jobs").complete is None


def test_proofs_add_up_their_counts_and_keep_the_ends() -> None:
    first = {"scrapes": 10, "first": 5, "last": 9, "version": "2.42", "found": {"a": 1, "b": "x"}, "asked": [0, 1]}
    second = {"scrapes": 7, "first": 7, "last": 30, "version": "3.1", "found": {"a": 2}, "interval_s": None, "ok": True}
    records = [_record("jobs", w, proof=p) for w, p in zip(DAY.cells(43_200 * NS), (first, second), strict=True)]
    assert _of(*records, what="jobs").proof == {
        "scrapes": 17,
        "first": 5,
        "last": 30,
        "version": "3.1",
        "found": {"a": 3, "b": "x"},
        "asked": [0, 1],
        "ok": True,
        "windows": 2,
    }


def test_an_answer_that_a_later_one_covers_is_not_counted_again() -> None:
    got = _of(_record("jobs", asked_at=1, rows=5), _record("jobs", asked_at=2, rows=7), what="jobs")
    assert (got.rows, got.proof["windows"]) == (7, 1)


windows = st.tuples(st.integers(0, 23), st.integers(1, 24)).map(
    lambda t: Window(DAY.start + t[0] * 3600 * NS, min(DAY.end, DAY.start + (t[0] + t[1]) * 3600 * NS))
)


@given(st.lists(windows, max_size=6), st.sampled_from(["logs", "jobs"]))
def test_gaps_are_exactly_what_no_answer_covers(asked: list[Window], what: str) -> None:
    got = _of(*(_record(what, w, asked_at=i) for i, w in enumerate(asked)), what=what)
    assert list(got.gaps) == subtract(DAY, asked)
    assert got.complete == (not got.gaps)


@given(st.permutations(range(5)))
def test_the_order_in_which_records_are_read_changes_nothing(order: list[int]) -> None:
    hours = [span("00:00", "10:00"), span("08:00", "16:00"), span("12:00", "24:00"), span("09:00", "09:30"), DAY]
    made = [_record("logs", w, w, asked_at=i) if i % 2 else _record("logs", w, asked_at=i) for i, w in enumerate(hours)]
    assert _of(*(made[i] for i in order)) == _of(*made)
