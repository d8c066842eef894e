"""Small mathematics: against known values, and against the slowest thing that could be right."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.signals.intervals import (
    Span,
    changes,
    holds,
    in_window,
    most_alive,
    nanoseconds,
    union,
    wilson,
)

small = st.integers(0, 60)
instants = st.lists(small, max_size=20)


def _array(values: list[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(values, np.int64)


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [
        (148, 164, 0.847, 0.939),
        (16, 164, 0.061, 0.153),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (1, 1, 0.2065, 1.0),
    ],
)
def test_wilson_gives_the_published_interval(k: int, n: int, low: float, high: float) -> None:
    assert wilson(k, n) == pytest.approx((low, high), abs=5e-4)


def test_nothing_counted_has_no_interval() -> None:
    assert wilson(0, 0) is None


@given(st.integers(1, 10_000), st.data())
def test_wilson_stays_in_bounds_around_the_share(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    low, high = wilson(k, n) or (1.0, 0.0)
    assert 0 <= low <= k / n <= high <= 1


@given(st.integers(1, 1000), st.data())
def test_wilson_is_the_same_seen_from_the_other_side(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    low, high = wilson(k, n) or (1.0, 0.0)
    assert wilson(n - k, n) == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_instants_are_nanoseconds_whatever_their_resolution(unit: Any) -> None:
    column = pd.Series([pd.Timestamp("2026-02-26T09:14:00Z"), pd.NaT]).dt.as_unit(unit)
    assert nanoseconds(column, -1).tolist() == [1_772_097_240_000_000_000, -1]


@given(instants, instants, st.integers(1, 15))
def test_a_rolling_count_is_of_what_lies_in_the_window_up_to_and_with_its_end(
    events: list[int], when: list[int], window: int
) -> None:
    counted = in_window(_array(sorted(events)), _array(when), window)
    assert counted.tolist() == [sum(t - window < e <= t for e in events) for t in when]


@given(instants, st.integers(1, 15), small)
def test_a_rolling_count_changes_only_where_it_is_looked_at(events: list[int], window: int, until: int) -> None:
    looked = set(changes(_array(events), window, until).tolist())
    counts = in_window(_array(sorted(events)), np.arange(-1, until), window)
    assert {int(t) for t in np.flatnonzero(np.diff(counts))} <= looked
    assert all(t < until for t in looked)


@given(st.lists(small, unique=True, max_size=20).map(sorted), st.data())
def test_a_condition_holds_from_where_it_comes_true_until_it_no_longer_is(when: list[int], data: st.DataObject) -> None:
    good = data.draw(st.lists(st.booleans(), min_size=len(when), max_size=len(when)))
    found = holds(_array(when), np.array(good, bool))

    def naive(t: int) -> bool:
        known = [g for w, g in zip(when, good, strict=True) if w <= t]
        return bool(known) and known[-1]

    assert [any(a <= t and (b is None or t < b) for a, b in found) for t in range(70)] == [naive(t) for t in range(70)]
    assert all(b is not None and b < c for (_, b), (c, _) in itertools.pairwise(found))


@given(st.lists(st.tuples(small, st.none() | st.integers(1, 20)), max_size=10))
def test_a_union_covers_the_same_instants_by_intervals_apart(parts: list[tuple[int, int | None]]) -> None:
    spans: list[Span] = [(a, None if n is None else a + n) for a, n in parts]

    def covered(of: list[Span]) -> list[bool]:
        return [any(a <= t and (b is None or t < b) for a, b in of) for t in range(90)]

    joined = union(spans)
    assert covered(joined) == covered(spans)
    assert all(b is not None and b < c for (_, b), (c, _) in itertools.pairwise(joined))


@given(st.lists(st.tuples(small, st.integers(0, 20)), max_size=15), st.integers(1, 20))
def test_the_most_open_at_once_is_what_looking_at_every_instant_finds(lives: list[tuple[int, int]], step: int) -> None:
    start, end = _array([a for a, _ in lives]), _array([a + n for a, n in lives])
    edges = list(range(0, 81, step))
    windows = np.array(list(itertools.pairwise(edges)), np.int64)
    naive = [max(sum(a <= t < a + n for a, n in lives) for t in range(a, b)) for a, b in windows.tolist()]
    assert most_alive(start, end, windows).tolist() == naive
