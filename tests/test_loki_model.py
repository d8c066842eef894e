"""Whatever lines a Loki holds, wherever they lie and whatever its limits: each comes once, or the record says short."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.model import NS, Entry, Window
from tests import fake_loki
from tests.fake_loki import MINUTE, START, FakeLoki, Whole, entry, read_window


def identity(e: Entry) -> tuple[object, ...]:
    """Return what makes an entry the one it is; metadata named like a label has another name by then."""
    return fake_loki.identity(fake_loki.held(e).entry)


WINDOW = Window(START, START + MINUTE)
STEP = 10 * NS

# where windows, steps, milliseconds and halves of them begin and end, and the nanoseconds beside those
EDGES = st.sampled_from([0, 1, STEP // 2, 10**6, STEP, 3 * STEP, MINUTE])
OFFSETS = st.one_of(st.builds(int.__add__, EDGES, st.integers(-2, 2)), st.integers(-STEP, MINUTE + STEP))
ENTRIES = st.builds(
    entry,
    OFFSETS,
    st.sampled_from(["x", "y"]),
    st.sampled_from([{"app": "a"}, {"app": "b"}, {"app": "b", "pod": "p"}]),
    st.sampled_from([{}, {"trace": "1"}, {"trace": "2"}, {"pod": "p"}]),
)
HELD = st.lists(ENTRIES, max_size=14, unique_by=identity)
LIMITS = st.integers(2, 12)  # of one entry nothing can be learned that tells others apart


def read(server: FakeLoki, limit: int) -> Whole:
    return read_window(server.loki(min(limit, server.server_limit)), WINDOW, server.server_limit, edge=True)


def wanted(held: list[Entry]) -> Counter[tuple[object, ...]]:
    """Count what lies in the window, and at its end, which its last step counts."""
    return Counter(identity(e) for e in held if WINDOW.start <= e.ts <= WINDOW.end)


def got(whole: Whole) -> Counter[tuple[object, ...]]:
    return Counter(fake_loki.identity(e) for e in whole.entries)


def missing(whole: Whole) -> int:
    """Return how many entries the steps that are recorded as short are short of."""
    return sum(counted - rows for rows, counted in whole.short.values())


@settings(max_examples=150, deadline=None)
@given(held=HELD, limit=LIMITS, server_limit=LIMITS)
def test_every_entry_comes_once_whatever_the_limits(held: list[Entry], limit: int, server_limit: int) -> None:
    whole = read(FakeLoki(held, server_limit), limit)
    assert got(whole) == wanted(held)
    assert whole.short == {}


@settings(max_examples=100, deadline=None)
@given(held=HELD, limit=LIMITS, server_limit=LIMITS, loses=st.booleans(), repeats=st.integers(1, 3))
def test_what_is_recorded_complete_is_complete_whatever_the_server_does(
    held: list[Entry], limit: int, server_limit: int, loses: bool, repeats: int
) -> None:
    whole = read(FakeLoki(held, server_limit, repeats, loses_at_start=loses), limit)
    there, have = wanted(held), got(whole)
    assert have <= there  # nothing invented, nothing twice
    assert have == there or missing(whole) > 0


@settings(max_examples=60, deadline=None)
@given(held=HELD, limit=LIMITS)
def test_a_count_that_takes_metadata_for_nothing_loses_nothing(held: list[Entry], limit: int) -> None:
    whole = read(FakeLoki(held, counts_lines=True), limit)
    assert got(whole) <= wanted(held)
    lines = {fake_loki.identity(e)[:3] for e in whole.entries}
    assert lines == {identity(e)[:3] for e in held if WINDOW.start <= e.ts <= WINDOW.end}


@settings(max_examples=60, deadline=None)
@given(held=HELD, limit=LIMITS)
def test_the_counts_are_those_of_the_steps_and_requests_are_bounded(held: list[Entry], limit: int) -> None:
    whole = read(FakeLoki(held), limit)
    assert whole.counted == sum(wanted(held).values())
    # halving a step down to one nanosecond takes 34 steps, and a step may be read twice, of two kinds of streams
    assert whole.tally.requests + whole.tally.recounted <= 400 * (len(held) + 1)
