"""Slices of time and groups of apps: whatever is counted, together they are everything once, and each fits one answer."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.model import DAY_NS, Window
from pipeline.sources.loki import plan
from pipeline.sources.loki.answers import Int64s
from pipeline.sources.loki.client import STEP_NS
from pipeline.sources.loki.plan import Group, Slice
from tests.fake_logql import parsed
from tests.fake_loki import SELECTOR, START, entry, held

STEPS = 30
WINDOW = Window(START, START + STEPS * STEP_NS)
# what an app may be called, and what would end a string, a selector or an expression if it were not quoted
APPS = st.one_of(
    st.sampled_from(["", "a", "b", 'q"', "\\", "\n", "a|b", "}", "${range}", "\0", "ü", ".*"]), st.text(max_size=3)
)
COUNTS = st.dictionaries(
    APPS,
    st.binary(min_size=STEPS, max_size=STEPS).map(lambda n: (np.frombuffer(n, np.uint8) % 41).astype(np.int64)),
    max_size=12,
)
WANTED = st.lists(st.booleans(), min_size=STEPS, max_size=STEPS).map(lambda w: np.array(w, np.bool_))
LIMITS = st.one_of(st.integers(1, 12), st.integers(1, 2000))


def planned(
    counts: dict[str, Int64s], limit: int, wanted: np.ndarray[tuple[int], np.dtype[np.bool_]] | None = None
) -> tuple[list[Group], list[Slice]]:
    groups = plan.groups(counts, SELECTOR, "app", limit)
    steps = np.ones(STEPS, np.bool_) if wanted is None else wanted
    return groups, plan.slices(counts, groups, WINDOW, steps, limit)


def steps_of(s: Slice) -> range:
    assert (s.window.start - START) % STEP_NS == s.window.length % STEP_NS == 0
    return range((s.window.start - START) // STEP_NS, (s.window.end - START) // STEP_NS)


@settings(max_examples=150, deadline=None)
@given(counts=COUNTS, wanted=WANTED, limit=LIMITS)
def test_the_wanted_steps_of_every_group_are_asked_for_once_with_what_was_counted(
    counts: dict[str, Int64s], wanted: np.ndarray[tuple[int], np.dtype[np.bool_]], limit: int
) -> None:
    groups, slices = planned(counts, limit, wanted)
    asked = Counter((s.group.name, i) for s in slices for i in steps_of(s))
    assert asked == {(g.name, i): 1 for g in groups for i in np.flatnonzero(wanted).tolist()}
    for s in slices:
        assert s.counted.tolist() == [sum(int(counts[app][i]) for app in s.group.apps) for i in steps_of(s)]
        assert s.expected == s.counted.sum()
    assert [s.window.start for s in slices] == sorted(s.window.start for s in slices)


@settings(max_examples=150, deadline=None)
@given(counts=COUNTS, wanted=WANTED, limit=LIMITS)
def test_a_slice_fits_one_answer_unless_it_is_one_step_and_none_could_be_longer(
    counts: dict[str, Int64s], wanted: np.ndarray[tuple[int], np.dtype[np.bool_]], limit: int
) -> None:
    groups, slices = planned(counts, limit, wanted)
    most = plan.room(limit)
    assert all(s.expected <= most or len(s.counted) == 1 for s in slices)
    for group in groups:
        mine = [s for s in slices if s.group is group]
        for one, following in pairwise(mine):
            if one.window.end == following.window.start:
                assert one.expected + following.counted[0] > most


@settings(max_examples=150, deadline=None)
@given(counts=COUNTS, limit=LIMITS, streams=st.lists(st.one_of(st.none(), APPS), max_size=5))
def test_every_stream_is_in_one_group_whatever_its_app_is_called_and_whether_it_was_counted(
    counts: dict[str, Int64s], limit: int, streams: list[str | None]
) -> None:
    groups, _ = planned(counts, limit)
    assert sorted(app for g in groups for app in g.apps) == sorted(counts)
    for app in [*streams, *counts]:
        labels = {"pod": "p"} if app is None else {"app": app}
        inside = [g for g in groups if parsed(g.where).holds(held(entry(0, labels=labels)))]
        assert len(inside) == 1
        if app in counts:
            assert app in inside[0].apps
    other = held(entry(0)._replace(labels={"namespace": "other", "app": "a"}))
    assert not any(parsed(g.where).holds(other) for g in groups)


@settings(max_examples=100, deadline=None)
@given(counts=COUNTS, limit=LIMITS)
def test_apps_that_fill_answers_are_read_apart_but_no_more_than_eight_of_them(
    counts: dict[str, Int64s], limit: int
) -> None:
    groups, _ = planned(counts, limit)
    sums = {app: int(n.sum()) for app, n in counts.items()}
    apart = {app for g in groups[:-1] for app in g.apps}
    assert groups[-1].name == plan.REST
    assert all(g.apps == (g.name,) for g in groups[:-1])
    assert len(apart) <= 8
    assert all(sums[app] > limit for app in apart)
    left = [n for app, n in sums.items() if app and app not in apart and n > limit]
    assert (
        not left
        or (len(sums) > 1 and len(apart) == 8 and max(left) <= min(sums[app] for app in apart))
        or len(sums) == 1
    )


@pytest.mark.parametrize("apps", [["a"], [""], []])
def test_with_one_app_alone_the_selector_is_asked_for_as_it_is(apps: list[str]) -> None:
    groups, _ = planned({app: np.full(STEPS, 9, np.int64) for app in apps}, 5)
    assert groups == [Group("", SELECTOR, tuple(apps))]


def test_apps_are_told_apart_by_matchers_of_their_own() -> None:
    few, many = np.full(STEPS, 1, np.int64), np.full(STEPS, 9, np.int64)
    groups, _ = planned({"": many, "a": few, "b": many, 'c"': many}, 40)
    assert groups == [
        Group("b", '{namespace="prod", app="b"}', ("b",)),
        Group('c"', '{namespace="prod", app="c\\""}', ('c"',)),
        Group("", '{namespace="prod", app!="b", app!="c\\""}', ("", "a")),
    ]


@pytest.mark.parametrize(
    ("limit", "room"), [(1, 1), (2, 1), (3, 2), (499, 498), (500, 499), (1000, 998), (5000, 4990), (50_000, 49_900)]
)
def test_room_is_left_for_what_lies_at_the_very_start(limit: int, room: int) -> None:
    assert plan.room(limit) == room


def test_a_day_without_lines_is_asked_for_all_the_same_and_at_once() -> None:
    day = Window(START // DAY_NS * DAY_NS, START // DAY_NS * DAY_NS + DAY_NS)
    none = np.zeros(8640, np.int64)
    for counts in ({}, {"a": none}, {"a": none, "b": none}):
        groups = plan.groups(counts, SELECTOR, "app", 5000)
        slices = plan.slices(counts, groups, day, np.ones(8640, np.bool_), 5000)
        assert [(s.window, s.expected) for s in slices] == [(day, 0)]


def test_a_step_that_no_answer_holds_stands_alone() -> None:
    steps = np.array([3, 3, 99, 0, 3] + [0] * (STEPS - 5), np.int64)
    _, slices = planned({"a": steps}, 10)
    assert [(steps_of(s).start, steps_of(s).stop) for s in slices] == [(0, 2), (2, 3), (3, 30)]
