"""One nanosecond with more entries than an answer holds: whatever tells them apart, each comes, or it is said."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import SourceError, TooLarge
from pipeline.model import Block, Entry, Window
from pipeline.sources.http import Reply, TooSlow
from pipeline.sources.loki import busy
from pipeline.sources.loki.answers import Answer
from pipeline.sources.loki.busy import Chosen
from pipeline.sources.loki.reading import Reader, Tally
from tests.fake_logql import parsed
from tests.fake_loki import INSTANT, RANGE, SELECTOR, START, FakeLoki, each, entry, held, identity, streams_of
from tests.faults import Form

AT = 7_000_000_001
NO_SERIES = 0  # of a server that shows nothing line by line: splits alone can help


def read(server: FakeLoki, limit: int) -> tuple[Answer, Tally]:
    """Read the instant as the reader does that has met it."""
    loki = server.loki()
    reader = Reader(loki, streams_of(loki, Window(START, START + 2 * AT)), limit, limit)
    answer = reader._instant(START + AT, SELECTOR)  # noqa: SLF001 - whole windows are for the other tests
    assert reader.tally.causes.pop("a busy nanosecond") > 0
    reader.tally.causes.pop("metadata that could be labels", None)
    return answer, reader.tally


def at(text: str = "x", labels: dict[str, str] | None = None, metadata: dict[str, str] | None = None) -> Entry:
    return entry(AT, text, labels, metadata)


def is_split(entries: Iterable[Entry], limit: int = 100, **server: Any) -> None:
    """Read entries by splits alone, and find each."""
    there = list(entries)
    answer, tally = read(FakeLoki(there, limit, most_series=NO_SERIES, **server), limit)
    assert each(answer.block.entries()) == each(there)
    assert tally.causes == {}
    # a part that no answer holds costs two counts and two answers, and even splits leave few of those
    assert tally.requests + tally.recounted < 24 * (len(there) / limit + 1)


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([at(f"line {n}") for n in range(1000)], id="texts"),
        pytest.param([at("x" * n) for n in range(1000)], id="lengths"),
        pytest.param([at("x" * 5000 + f"{n}") for n in range(300)], id="texts that differ far from their start"),
        pytest.param([at("x" * 5000 + "y" * n) for n in range(300)], id="lengths of long texts"),
        pytest.param(
            [at(f"{n:03} " + "a" * 3000 + f" {n % 7}") for n in range(300)], id="texts that differ soon and late"
        ),
        pytest.param([at(chr(n)) for n in range(0xD800 - 1000, 0xD800)], id="as many letters as lines"),
        pytest.param([at(chr(n)) for n in range(400)], id="control characters and what has a meaning in a pattern"),
        pytest.param([at(f'"\\{n}`\n]^-' + "$" * (n % 3)) for n in range(400)], id="what would end a string"),
        pytest.param([at(f"\N{GRINNING FACE}{n}") for n in range(400)], id="characters of four bytes"),
        pytest.param([at(labels={"app": f"{n}"}) for n in range(1000)], id="streams"),
        pytest.param([at(labels={"app": f"a-b|{n}.*"}) for n in range(400)], id="odd values of labels"),
        pytest.param([at(labels={"app": "a", f"l{n}": "v"}) for n in range(106)], id="names of labels"),
        pytest.param([at(metadata={"trace_id": f"{n * 7919:032x}"}) for n in range(1000)], id="trace ids"),
        pytest.param([at(metadata={"k": "v" * 400 + f"{n}"}) for n in range(600)], id="long metadata"),
        pytest.param([at(metadata={"app": f"{n}"}) for n in range(400)], id="metadata named like a label"),
        pytest.param([at(metadata={f"k{n}": "v"}) for n in range(106)], id="names of metadata"),
        pytest.param([at(metadata={"k": chr(n)}) for n in range(1, 400)], id="odd metadata"),
        pytest.param(
            [at(f"{n % 10}", {"app": f"{n // 10 % 10}"}, {"t": f"{n // 100}"}) for n in range(1000)], id="all three"
        ),
    ],
)
def test_whatever_tells_entries_apart_splits_them(entries: list[Entry]) -> None:
    is_split(entries)


def test_more_trace_ids_than_a_query_could_name_are_split() -> None:
    is_split([at(metadata={"trace_id": f"{n * 7919:032x}"}) for n in range(6000)], 2500)


@pytest.mark.parametrize("limit", [2, 3, 10])
def test_merged_counts_hide_none_where_an_answer_is_full(limit: int) -> None:
    entries = [at(metadata={"t": f"{n}"}) for n in range(30)]
    server = FakeLoki(entries, limit, counts_lines=True, most_series=NO_SERIES)
    assert each(read(server, limit)[0].block.entries()) == each(entries)


TEXTS = st.one_of(
    st.sampled_from(["", "x", "xx", "x\n", "X"]),
    st.text(max_size=3),
    st.integers(0, 9).map(lambda n: "p" * 1200 + f"{n}"),
)
NAMES = st.sampled_from(["app", "pod", "trace"])
VALUES = st.one_of(st.sampled_from(["a", "b", "ab", "b\n"]), st.text(min_size=1, max_size=2))
ENTRIES = st.builds(
    at,
    TEXTS,
    st.dictionaries(NAMES, VALUES, max_size=2).map(lambda labels: {"app": "a"} | labels),
    st.dictionaries(NAMES, VALUES, max_size=2),
)
HELD = st.lists(ENTRIES, max_size=30, unique_by=lambda e: identity(held(e).entry))
BESIDE = st.lists(st.builds(lambda e, by: e._replace(ts=e.ts + by), ENTRIES, st.sampled_from([-1, 1])), max_size=12)


@settings(max_examples=200, deadline=None)
@given(there=HELD, beside=BESIDE, limit=st.integers(2, 9), merges=st.booleans())
def test_entries_come_each_once_by_splits_alone_whatever_lies_beside_them(
    there: list[Entry], beside: list[Entry], limit: int, merges: bool
) -> None:
    server = FakeLoki([*there, *beside], limit, counts_lines=merges, most_series=NO_SERIES)
    answer, tally = read(server, limit)
    assert each(answer.block.entries()) == each(there)
    assert tally.requests + tally.recounted <= 60 * (len(there) + 1)


@settings(max_examples=200, deadline=None)
@given(
    there=HELD,
    beside=BESIDE,
    limit=st.integers(1, 9),
    loses=st.booleans(),
    series=st.sampled_from([NO_SERIES, 500]),
    repeats=st.integers(1, 3),
    largest=st.integers(1, 5000),
)
def test_what_is_not_whole_is_fewer_than_counted_whatever_the_server_does(
    there: list[Entry], beside: list[Entry], limit: int, loses: bool, series: int, repeats: int, largest: int
) -> None:
    server = FakeLoki(
        [*there, *beside], limit, loses_at_start=loses, most_series=series, repeats=repeats, largest=largest
    )
    answer, tally = read(server, limit)
    got, wanted = each(answer.block.entries()), each(there)
    assert got <= wanted
    assert got == wanted or len(answer.block) + len(answer.doubles) < repeats * len(wanted)
    assert tally.requests + tally.recounted <= 100 * (len(there) + 1)
    # from one entry nothing can be learned of how others differ
    if series and limit > 1 and largest > sum(len(e.line) for e in (*there, *beside)):
        assert got == wanted


@settings(max_examples=100, deadline=None)
@given(sample=HELD, others=HELD, where=st.sampled_from([SELECTOR, '{namespace="prod", app=~".+"}']))
def test_the_two_sides_of_a_split_hold_everything_once(sample: list[Entry], others: list[Entry], where: str) -> None:
    block = Block.of(held(e).entry for e in sample)
    parts = []
    for sides in busy._splits(Chosen(where, ' |~ "x?"'), block):  # noqa: SLF001 - what all the rest stands on
        yes, no = ([parsed(str(side)).holds(held(e)) for e in (*sample, *others)] for side in sides)
        assert all(a != b for a, b in zip(yes, no, strict=True))
        parts.append(any(yes[: len(sample)]) and any(no[: len(sample)]))
    assert any(parts) == (len(sample) > 1)


def test_entries_that_no_split_tells_apart_are_read_line_by_line_as_a_metric_query_shows_them() -> None:
    entries = [at(f"{n}", metadata={"t": f"{n}"}) for n in range(40)]
    answer, tally = read(FakeLoki(entries, 1), 1)
    assert each(answer.block.entries()) == each(entries)
    assert tally.causes == {"what only a metric query shows": 1}


def test_what_cannot_be_had_at_all_is_said() -> None:
    answer, tally = read(FakeLoki([at(f"{n}") for n in range(4)], 1, most_series=NO_SERIES), 1)
    assert len(answer.block) == 1
    assert tally.causes["lines that nothing tells apart"] == 1


def test_an_instant_at_which_the_server_loses_what_lies_at_the_start_is_asked_for_from_before_it() -> None:
    is_split([at(f"{n}") for n in range(1000)], loses_at_start=True)


def test_lines_too_large_to_come_together_come_in_smaller_parts() -> None:
    entries = [at(f"{n}" + "x" * 100) for n in range(40)]
    answer, tally = read(FakeLoki(entries, largest=250, most_series=NO_SERIES), 5000)
    assert each(answer.block.entries()) == each(entries)
    assert tally.causes == {}  # with metadata apart Loki says nothing of it


def test_a_line_too_large_for_any_answer_is_missing_and_the_count_says_so() -> None:
    answer, tally = read(FakeLoki([at("x" * 300)], largest=250), 5000)
    assert len(answer.block) == 0
    assert tally.causes["lines that nothing tells apart"] == 1


@pytest.mark.parametrize(
    ("reply", "kind", "entries"),
    [
        pytest.param(
            Reply(504, {}, b"request timed out, decrease the duration of the request"),
            TooSlow,
            3,
            id="a server that is always too slow",
        ),
        pytest.param(
            Reply(413, {}, b"larger than the max"), TooLarge, 0, id="one that refuses an answer without lines"
        ),
        pytest.param(
            Reply(400, {}, b"limit > max_entries_limit_per_query (1 > 5000)"),
            TooLarge,
            3,
            id="one that refuses every limit",
        ),
        pytest.param(Reply(400, {}, b"parse error"), SourceError, 3, id="one that does not understand"),
    ],
)
def test_a_server_that_refuses_everything_is_soon_left_alone(reply: Reply, kind: type[Exception], entries: int) -> None:
    def refuses(path: str, form: Form) -> Any:
        return reply if path == RANGE else None

    server = FakeLoki([at(f"{n}") for n in range(entries)], before=refuses)
    with pytest.raises(kind):
        read(server, 5000)
    assert len(server.door.asked) < 10


def test_nothing_is_asked_for_at_other_instants_than_that_one() -> None:
    server = FakeLoki([at(f"{n}") for n in range(300)], 100)
    read(server, 100)
    assert {(a, b) for a, b in server.fetched} <= {(START + AT - by, START + AT + 1) for by in (0, 1)}
    counts = [a.form for a in server.door.asked if a.path == INSTANT]
    assert {f["time"] for f in counts} == {str(START + AT)}
    assert all(f'aislot_at="{START + AT}" [1ms]' in f["query"] for f in counts)
