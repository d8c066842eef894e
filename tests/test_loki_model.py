"""Whatever lines a Loki holds, wherever they lie and whatever its limits: each comes once, or the record says short."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.model import Entry, Window
from pipeline.sources.loki import Cell, read_cell
from tests.fake_loki import MINUTE, START, FakeLoki, entry, identity

MINUTES = 3
DAY = Window(START, START + 2 * MINUTES * MINUTE)
CELLS = list(DAY.cells(MINUTES * MINUTE))

# where windows, minutes, milliseconds and halves of them begin and end, and the nanoseconds beside those
EDGES = st.sampled_from([0, 1, MINUTE // 2, 10**6, MINUTE, MINUTES * MINUTE, 2 * MINUTES * MINUTE])
OFFSETS = st.one_of(st.builds(int.__add__, EDGES, st.integers(-2, 2)), st.integers(-MINUTE, DAY.length + MINUTE))
ENTRIES = st.builds(
    entry,
    OFFSETS,
    st.sampled_from(["x", "y"]),
    st.sampled_from([{"app": "a"}, {"app": "b"}, {"app": "b", "pod": "p"}]),
    st.sampled_from([{}, {"trace": "1"}, {"trace": "2"}]),
)
HELD = st.lists(ENTRIES, max_size=14, unique_by=identity)
LIMITS = st.integers(1, 12)


def read(server: FakeLoki, limit: int) -> list[Cell]:
    loki, _ = server.loki(limit)
    return [read_cell(loki, cell, loki.counts(cell)) for cell in CELLS]


def wanted(held: list[Entry]) -> Counter[tuple[object, ...]]:
    return Counter(identity(e) for e in held if e.ts in DAY)


def got(cells: list[Cell]) -> Counter[tuple[object, ...]]:
    return Counter(identity(e) for c in cells for e in c.entries)


def busiest(held: list[Entry]) -> int:
    """Return the most entries at one instant."""
    return max(Counter(e.ts for e in held).values(), default=0)


@settings(max_examples=150, deadline=None)
@given(held=HELD, limit=LIMITS, server_limit=LIMITS)
def test_every_entry_comes_once_when_no_instant_holds_more_than_one_answer_may(
    held: list[Entry], limit: int, server_limit: int
) -> None:
    cells = read(FakeLoki(held, server_limit), limit)
    if busiest(held) <= min(limit, server_limit):
        assert got(cells) == wanted(held)
        assert [c.short for c in cells] == [[], []]


@settings(max_examples=100, deadline=None)
@given(
    held=HELD, limit=LIMITS, server_limit=LIMITS, loses=st.booleans(), merges=st.booleans(), repeats=st.integers(1, 3)
)
def test_what_is_recorded_complete_is_complete_whatever_the_server_does(
    held: list[Entry], limit: int, server_limit: int, loses: bool, merges: bool, repeats: int
) -> None:
    cells = read(FakeLoki(held, server_limit, repeats, loses, merges), limit)
    there, have = wanted(held), got(cells)
    assert have <= there  # nothing invented, nothing twice
    for cell in cells:
        assert list(cell.entries) == sorted(cell.entries, key=lambda e: e.ts)
        assert all(e.ts in cell.window for e in cell.entries)
        missing = Counter(identity(e) for e in held if e.ts in cell.window) - have
        # a merged count cannot tell that one of two equal lines is missing
        assert not missing or cell.short or merges


@settings(max_examples=100, deadline=None)
@given(held=HELD, limit=st.integers(6, 12))
def test_an_entry_that_the_server_loses_at_a_start_is_read_from_before_it(held: list[Entry], limit: int) -> None:
    cells = read(FakeLoki(held, loses_at_start=True), limit)
    if busiest(held) < limit // 2:
        assert got(cells) == wanted(held)
        assert [c.short for c in cells] == [[], []]


@settings(max_examples=60, deadline=None)
@given(held=HELD, limit=LIMITS)
def test_the_counts_are_those_of_the_minutes_and_requests_are_bounded(held: list[Entry], limit: int) -> None:
    server = FakeLoki(held)
    for cell in read(server, limit):
        minutes = [Window(cell.window.start + i * MINUTE, cell.window.start + (i + 1) * MINUTE) for i in range(MINUTES)]
        assert cell.counted == [sum(1 for e in held if m.start < e.ts <= m.end) for m in minutes]
    # halving a minute down to one nanosecond takes 36 steps, and a minute may be read twice
    assert len(server.fetched) <= 2 * 3 * 36 * (len(held) + 1)
