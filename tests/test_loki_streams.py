"""Labels and metadata told apart by subtraction: the truth wherever it is the only reading, else a question to Loki."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import SourceError
from pipeline.model import Entry, Pairs, Window
from pipeline.sources.loki.client import STEP_NS
from pipeline.sources.loki.streams import Origin, Streams, Unclear, pairs
from tests.fake_loki import RANGE, SERIES, START, FakeLoki, each, entry, held, identity, read_window, streams_of
from tests.faults import Form

WINDOW = Window(START, START + 6 * STEP_NS)
FLAG = "X-Loki-Response-Encoding-Flags"


class Lists:
    """Answers `/series` with what it holds, and counts how often it was asked."""

    def __init__(self, *streams: Mapping[str, str]) -> None:
        self.streams = list(streams)
        self.asked = 0

    def __call__(self) -> Iterable[Mapping[str, str]]:
        self.asked += 1
        return list(self.streams)


def read(listed: Iterable[Mapping[str, str]], merged: Mapping[str, str]) -> Origin | str:
    """Return what a merged set is, or the name of a label that would tell."""
    try:
        return Streams(lambda: listed).origin(merged)
    except Unclear as e:
        return e.name


A, AX, B = {"app": "a"}, {"app": "a", "x": "1"}, {"app": "b"}


@pytest.mark.parametrize(
    ("listed", "merged", "origin"),
    [
        pytest.param([A], A, (A, {}), id="no metadata"),
        pytest.param([A], {**A, "x": "1"}, (A, {"x": "1"}), id="what is no label is metadata"),
        pytest.param([A], {**A, "app_extracted": "z"}, (A, {"app_extracted": "z"}), id="named like a label"),
        pytest.param([AX], AX, (AX, {}), id="a label is none"),
        pytest.param([A, AX], {**A, "x": "2"}, (A, {"x": "2"}), id="another value is no other stream"),
        pytest.param([A, AX], {**A, "y": "2"}, (A, {"y": "2"}), id="no other name"),
        pytest.param([A, AX], A, (A, {}), id="too few labels for the other"),
        pytest.param([A, AX], AX, {"x"}, id="a stream, or another with metadata"),
        pytest.param([{"x": "1"}, A], AX, {"app", "x"}, id="two streams that share no label"),
        pytest.param([AX, {"app": "a", "y": "1"}], {**AX, "y": "1"}, {"x", "y"}, id="two streams that overlap"),
        pytest.param([A, {"app": "a", "y": "1"}, {**AX, "y": "1"}], {**AX, "y": "1"}, {"x", "y"}, id="three streams"),
        pytest.param([A], B, {""}, id="no stream that is listed"),
        pytest.param([], A, {""}, id="nothing is listed"),
        pytest.param([{}], A, ({}, A), id="a stream without labels"),
    ],
)
def test_a_merged_set_is_read_where_one_stream_fits(
    listed: list[Mapping[str, str]],
    merged: Mapping[str, str],
    origin: tuple[Mapping[str, str], Mapping[str, str]] | set[str],
) -> None:
    found = read(listed, merged)
    assert found in origin if isinstance(origin, set) else found == Origin(pairs(origin[0]), pairs(origin[1]))


NAMES, VALUES = st.sampled_from("abcd"), st.sampled_from("12")
SETS = st.dictionaries(NAMES, VALUES, max_size=4)


@settings(max_examples=300, deadline=None)
@given(listed=st.lists(st.dictionaries(NAMES, VALUES, min_size=1, max_size=3), min_size=1, max_size=5), metadata=SETS)
def test_what_is_told_is_the_truth_and_what_could_be_two_is_not_told(
    listed: list[dict[str, str]], metadata: dict[str, str]
) -> None:
    for labels in listed:
        e = held(Entry(0, "", labels, metadata))
        truth = Origin(pairs(labels), pairs(e.entry.metadata))
        fitting = {pairs(s) for s in listed if s.items() <= e.merged.items()}
        found = read(listed, e.merged)
        if len(fitting) == 1:
            assert found == truth
        else:  # a label that some of them have and others have not
            assert {found in dict(s) for s in fitting} == {True, False}


def test_streams_are_listed_once_for_all_and_again_for_one_that_is_new() -> None:
    lists = Lists(A)
    streams = Streams(lists)
    for n in range(5):
        streams.origin({**A, "trace": str(n)})
    assert lists.asked == 1
    lists.streams.append(B)
    assert streams.origin(B) == Origin(pairs(B), ())
    assert lists.asked == 2
    with pytest.raises(Unclear):
        streams.origin({"app": "c"})
    assert lists.asked == 3


def test_what_is_known_of_merged_sets_does_not_grow_for_ever() -> None:
    streams = Streams(Lists(A))
    for n in range(50_500):
        assert streams.origin({**A, "trace": str(n)}).metadata == (("trace", str(n)),)
    listed = streams._listed  # noqa: SLF001 - memory is what is tested
    assert listed is not None
    assert len(listed.origins) <= 50_000


def test_a_list_that_cannot_be_had_is_an_error_and_no_metadata() -> None:
    def fails() -> Iterable[Mapping[str, str]]:
        raise SourceError("no")

    with pytest.raises(SourceError, match="no"):
        Streams(fails).origin(A)


def test_a_stream_that_two_selectors_choose_is_the_first_ones() -> None:
    first = Streams(Lists(A, B))
    second = Streams(Lists(B, AX), [first])
    third = Streams(Lists(A, B, AX, {"app": "c"}), [first, second])
    chosen = [A, B, AX, {"app": "c"}]
    ours = [
        [s.is_ours(pairs(labels)) for labels in chosen if pairs(labels) in s.listed()] for s in (first, second, third)
    ]
    assert ours == [[True, True], [False, True], [False, False, False, True]]


def test_a_stream_that_begins_between_two_lists_is_still_the_first_ones() -> None:
    mine, others = Lists(A), Lists(A)
    first = Streams(others)
    assert first.listed() == {pairs(A)}
    second = Streams(mine, [first])
    for lists in (mine, others):
        lists.streams.append(B)
    assert not second.is_ours(pairs(B))
    assert second.is_ours(pairs({"app": "c"}))
    asked = mine.asked + others.asked
    for _ in range(9):  # a stream that no list has is not looked for again and again
        assert second.is_ours(pairs({"app": "c"}))
    assert mine.asked + others.asked == asked


STREAMS = st.fixed_dictionaries({"app": st.sampled_from("ab"), "env": st.sampled_from("xy")})
ENTRIES = st.builds(entry, st.integers(1, WINDOW.length), st.sampled_from("xy"), STREAMS, SETS)
SELECTORS = [
    '{namespace="prod"}', '{namespace="prod", app="a"}', '{namespace=~"prod|x", env!="x"}', '{app=~"a|b", env=~".+"}',
]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    entries=st.lists(ENTRIES, max_size=12, unique_by=identity),
    selectors=st.lists(st.sampled_from(SELECTORS), min_size=2, max_size=3, unique=True),
    limit=st.integers(1, 9),
)
def test_selectors_that_overlap_give_each_entry_once_and_each_reconciles(
    entries: list[Entry], selectors: list[str], limit: int
) -> None:
    server = FakeLoki(entries)
    known: list[Streams] = []
    found: list[Entry] = []
    for selector in selectors:
        loki = server.loki(limit, selector)
        whole = read_window(loki, WINDOW, others=tuple(known))
        known.append(streams_of(loki, WINDOW, tuple(known)))
        assert whole.short == {}
        found += whole.entries
    chosen: set[Pairs] = set().union(*(s.listed() for s in known))
    assert each(found) == each(e for e in entries if pairs(e.labels) in chosen)


AMBIGUOUS = [
    entry(5, "label", {"app": "a", "x": "1"}),
    entry(5, "metadata", {"app": "a"}, {"x": "1"}),
    entry(6, "same", {"app": "a", "x": "1"}),
    entry(6, "same", {"app": "a"}, {"x": "1"}),
    entry(7, "plain", {"app": "a"}),
]


def test_a_set_that_can_be_read_in_two_ways_is_asked_for_by_the_label_that_tells_and_no_other_is() -> None:
    server = FakeLoki(AMBIGUOUS)
    whole = read_window(server.loki(), WINDOW)
    assert (each(whole.entries), whole.short) == (each(AMBIGUOUS), {})
    asked = [a.form["query"] for a in server.door.asked if a.path == RANGE and "limit" in a.form]
    assert asked == ['{namespace="prod"}', '{namespace="prod", x=""}', '{namespace="prod", x!=""}']

    clear = FakeLoki(AMBIGUOUS[1:2] + AMBIGUOUS[4:])
    whole = read_window(clear.loki(), WINDOW)
    assert each(whole.entries) == each(AMBIGUOUS[1:2] + AMBIGUOUS[4:])
    assert clear.fetched == [(START, WINDOW.end + 1)]
    assert not any(FLAG in a.headers for a in clear.door.asked)


def test_streams_that_have_a_label_are_listed_apart_from_those_that_have_not() -> None:
    lists = Lists(A, AX, B, {"app": "b", "x": ""})
    streams = Streams(lists)
    assert streams.having("x", has=True).listed() == {pairs(AX)}
    assert streams.having("x", has=False).having("app", has=True).listed() == {
        pairs(s) for s in (A, B, lists.streams[3])
    }
    assert streams.having("x", has=False).origin(AX) == Origin(pairs(A), (("x", "1"),))
    assert streams.having("x", has=True).apart(AX) == pairs(AX)
    with pytest.raises(Unclear):
        streams.apart(AX)


NESTED = st.dictionaries(st.sampled_from("xyz"), VALUES, max_size=3)


@settings(max_examples=100, deadline=None)
@given(
    entries=st.lists(
        st.builds(
            lambda at, labels, more: entry(at, "same", {"app": "a"} | labels, more), st.integers(5, 7), NESTED, NESTED
        ),
        max_size=12,
        unique_by=lambda e: identity(held(e).entry),
    ),
    limit=st.integers(2, 9),
)
def test_however_streams_and_metadata_are_nested_each_entry_comes_as_it_is(entries: list[Entry], limit: int) -> None:
    server = FakeLoki(entries, limit)
    whole = read_window(server.loki(limit), WINDOW, limit)
    assert (each(whole.entries), whole.short) == (each(entries), {})


def test_a_stream_that_begins_while_we_read_is_not_taken_for_metadata() -> None:
    late = entry(4 * STEP_NS + 6, "later", {"app": "a", "pod": "p"})
    entries = [entry(5, "first"), entry(4 * STEP_NS + 5, "second")]

    def begins(path: str, form: Form) -> None:
        if int(form.get("limit", 0)) and len(server.fetched) == 1 and late not in entries:
            assert [a.path for a in server.door.asked].count(SERIES) == 2
            entries.append(late)

    server = FakeLoki(entries, before=begins)
    whole = read_window(server.loki(limit=2), WINDOW)
    assert late in entries
    assert (each(whole.entries), whole.short) == (each(entries), {})


def test_lists_are_asked_for_anew_each_time_because_loki_caches_them() -> None:
    server = FakeLoki([entry(5)])
    loki = server.loki()
    assert loki.series(WINDOW, 7) == [{"app": "a", "namespace": "prod"}]
    assert server.door.asked[0].form == {
        "match[]": '{namespace="prod", __aislot__!="7"}',
        "start": str(START),
        "end": str(WINDOW.end),
    }
