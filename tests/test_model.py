"""Windows cut, join and subtract without losing or doubling an instant; texts of instants come back to the nanosecond."""

from __future__ import annotations

import datetime as dt
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.model import (
    DAY_NS,
    NS,
    PullRecord,
    Window,
    day_of,
    instant_of,
    instant_text,
    merge,
    seconds_of,
    subtract,
)

_EDGES = st.tuples(st.integers(-30, 30), st.integers(-30, 30))
WINDOWS = _EDGES.map(lambda e: Window(min(e), max(e)))
MANY = st.lists(WINDOWS, max_size=6)
INSTANTS = st.integers(-(2**63) + 1, 2**63 - 1)


def points(*windows: Window) -> set[int]:
    return {at for w in windows for at in range(w.start, w.end)}


@given(MANY)
def test_merging_holds_the_same_instants_in_as_few_sorted_windows(windows: list[Window]) -> None:
    merged = merge(windows)
    assert points(*merged) == points(*windows)
    assert all(merged)
    assert all(a.end < b.start for a, b in itertools.pairwise(merged))
    assert merge(merged) == merged


@given(WINDOWS, MANY)
def test_what_is_covered_and_what_is_left_partition_the_window(window: Window, covered: list[Window]) -> None:
    left = subtract(window, covered)
    assert points(*left) == points(window) - points(*covered)
    assert merge(left) == left


@given(WINDOWS, st.integers(1, 12))
def test_cells_partition_a_window_along_the_grid(window: Window, step: int) -> None:
    cells = list(window.cells(step))
    assert sum(c.length for c in cells) == window.length
    assert merge(cells) == merge([window])
    assert all(a.end == b.start and b.start % step == 0 for a, b in itertools.pairwise(cells))
    assert all(0 < c.length <= step for c in cells)


@given(st.integers(-(10**18), 10**18), st.integers(0, 20 * DAY_NS))
def test_days_partition_a_window_at_midnights(start: int, length: int) -> None:
    window = Window(start, start + length)
    days = list(window.days())
    assert merge(w for _, w in days) == merge([window])
    assert all(Window.of_day(d).covers(w) for d, w in days)
    assert len({d for d, _ in days}) == len(days)


@given(WINDOWS, WINDOWS)
def test_what_two_windows_share_is_in_both(one: Window, other: Window) -> None:
    shared = one.intersect(other)
    assert (points(shared) if shared else set()) == points(one) & points(other)
    assert shared == other.intersect(one)
    assert one.covers(other) == (one.start <= other.start and other.end <= one.end)


def test_a_window_is_half_open_and_never_ends_before_it_starts() -> None:
    window = Window(10, 20)
    assert [at in window for at in (9, 10, 19, 20)] == [False, True, True, False]
    assert bool(window)
    assert not Window(10, 10)
    assert (window.length, Window(0, NS // 2).seconds) == (10, 0.5)
    assert window.widen(1, 2) == Window(9, 22)
    with pytest.raises(ValueError, match="must not end before it starts"):
        Window(2, 1)


def test_a_window_is_written_as_its_two_instants() -> None:
    assert str(Window(0, NS + 1)) == "1970-01-01T00:00:00Z..1970-01-01T00:00:01.000000001Z"


@given(st.dates(dt.date(1678, 1, 1), dt.date(2262, 4, 10)))
def test_a_day_holds_its_own_instants(day: dt.date) -> None:
    window = Window.of_day(day)
    assert (day_of(window.start), day_of(window.end - 1)) == (day, day)
    assert day_of(window.end) == day + dt.timedelta(days=1)


@given(INSTANTS)
def test_the_text_of_an_instant_comes_back_to_the_nanosecond(instant: int) -> None:
    assert instant_of(instant_text(instant)) == instant


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2026-02-26", "2026-02-26T00:00:00Z"),
        ("2026-02-26T09:00", "2026-02-26T09:00:00Z"),
        ("2026-02-26 09:00:00", "2026-02-26T09:00:00Z"),
        ("2026-02-26T12:00:00+03:00", "2026-02-26T09:00:00Z"),
        ("2026-02-26T08:30:00.5-00:30", "2026-02-26T09:00:00.5Z"),
        (" 2026-02-26T09:00:00.000000001Z\n", "2026-02-26T09:00:00.000000001Z"),
        ("2026-02-26T09:00:00.1234567899", "2026-02-26T09:00:00.123456789Z"),
    ],
)
def test_an_instant_is_read_in_any_usual_form(text: str, same: str) -> None:
    assert instant_text(instant_of(text)) == same


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-02-30", "2026-02-26T25:00", "09:00", "9999-01-01", "0001-01-01T00:00:00+14:00"]
)
def test_what_is_no_instant_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        instant_of(text)


@given(st.text(max_size=40))
def test_any_text_is_an_instant_or_a_value_error(text: str) -> None:
    try:
        assert isinstance(instant_of(text), int)
    except ValueError:
        return


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90.0),
        ("30m", 1800.0),
        ("1h30m", 5400.0),
        ("7d", 604800.0),
        ("0s", 0.0),
        ("250ms", 0.25),
        ("1.5h", 5400.0),
    ],
)
def test_a_duration_is_read_as_people_write_it(text: str, seconds: float) -> None:
    assert seconds_of(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "30", "m", "-5m", "1h 30m", "5 m", "1y", "30mm", "1hx", "٣s"])
def test_what_is_no_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="write 90s, 30m, 1h30m or 7d"):
        seconds_of(text)


def test_a_duration_from_which_no_instant_can_be_made_is_refused() -> None:
    assert seconds_of("3653d") == 3653 * 86400
    with pytest.raises(ValueError, match="longer than ten years"):
        seconds_of("99999999d")


@given(WINDOWS, MANY, st.sampled_from([True, False, None]), st.booleans())
def test_a_pull_record_survives_json(window: Window, gaps: list[Window], complete: bool | None, moving: bool) -> None:
    record = PullRecord("logs", "loki", window, complete, 3, tuple(gaps), moving, 7, "abc", {"counted": [[1]]})
    assert PullRecord.from_json(json.loads(json.dumps(record.to_json()))) == record
