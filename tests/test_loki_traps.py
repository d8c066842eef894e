"""Traps 1 to 7, 12 and 13 of Loki: paging, instants and identity lose lines silently; the pull has each line once.

Every test shows first that this Loki has the trap, by what a usual client makes of the same lines.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command import aislot
from tests.servers.run import LokiServer, LokiWith
from tests.traps import (
    APART,
    END,
    HOUR,
    MINUTE,
    MS,
    SECOND,
    START,
    Client,
    Line,
    Puller,
    app,
    paged,
    push,
    text_and_time,
    trace,
)

pytestmark = pytest.mark.command

LIMIT = 200
SMALL = {"limits_config": {"max_entries_limit_per_query": LIMIT}}
# shards as small as can be, asked one after the other: they then answer in the same order each time
SHARDED = {
    "limits_config": {
        "tsdb_max_bytes_per_shard": "10KB",
        "tsdb_max_query_parallelism": 1,
        "max_query_parallelism": 1,
        "max_entries_limit_per_query": 500,
    }
}
PAGE = 500
STEADY = 1000


def uneven(*, late: bool) -> list[Line]:
    """Make a stream that writes on and on, one that stops at once and, if `late`, one that writes three lines later.

    Loki forgets to fill a page from the first stream where the second one's shard has answered before.
    """
    lines = [Line(START + n * SECOND, f"early {n}", app("early"), trace(n)) for n in range(3)]
    if late:
        lines += [Line(START + HOUR // 2 + n * SECOND, f"late {n}", app("late"), trace(n)) for n in range(3)]
    return lines + [
        Line(START + n * SECOND + 7, f"steady {n} {'x' * 50}", app("steady"), trace(n)) for n in range(STEADY)
    ]


def with_trap(server: LokiServer, name: str, naive: Callable[[Client], list[Line]], *, late: bool) -> Client:
    """Push the same under many namespaces and return one of which a naive client loses lines.

    In which order shards answer follows from hashes of the labels.
    """
    clients = [Client(server, f"{name}-{n}") for n in range(24)]
    for client in clients:
        push(server, client.namespace, uneven(late=late))
    server.flush()  # what is in memory is never sharded
    losing = (client for client in clients if len(set(naive(client))) < len(uneven(late=late)))
    found = next(losing, None)
    assert found, "none of the namespaces lost a line: does this Loki have #24663?"
    return found


def careful(client: Client) -> list[Line]:
    """Page with the whole identity of a line and without a belief in short pages."""
    return paged(lambda start: client.lines(start, END, PAGE, APART), PAGE)


def test_trap_01_a_page_of_a_sharded_query_has_holes(loki_with: LokiWith, tmp_path: Path) -> None:
    server = loki_with(SHARDED)
    client = with_trap(server, "holes", careful, late=True)
    pushed = push(server, client.namespace, uneven(late=True))
    page = client.lines(START, END, PAGE, APART)
    older = [line for line in pushed if line.ts < page[-1].ts]
    assert len(page) < len(older) == STEADY + 5  # newer lines are there, older ones are not
    assert set(careful(client)) < set(pushed)
    assert client.count(END - 1, "1h") == len(pushed)
    Puller(tmp_path, server.url, client.namespace).pull().check_all(pushed)


@pytest.mark.slow
def test_trap_01_of_200_000_lines_too(loki_with: LokiWith, tmp_path: Path) -> None:
    server = loki_with(SHARDED)
    client = with_trap(server, "many", careful, late=True)
    more = [
        Line(START + n * 70 * MS + a, f"line {n} of {a} {'abcdefgh' * 8}", app(f"a{a}"), trace(n % 1000))
        for a in range(4)
        for n in range(50_000)
    ]
    pushed = push(server, client.namespace, [*uneven(late=True), *more])
    server.flush()
    Puller(tmp_path, server.url, client.namespace).pull().check_all(pushed)


def test_trap_02_a_page_that_is_not_full_is_not_the_last(loki_with: LokiWith, tmp_path: Path) -> None:
    server = loki_with(SHARDED)

    def stops(client: Client) -> list[Line]:
        return paged(lambda start: client.lines(start, END, PAGE, APART), PAGE, after=1, short_is_last=True)

    client = with_trap(server, "short", stops, late=False)
    pushed = push(server, client.namespace, uneven(late=False))
    assert len(stops(client)) < PAGE
    # who goes on has all of them, since here no two lines share an instant
    assert set(paged(lambda start: client.lines(start, END, PAGE, APART), PAGE, after=1)) == set(pushed)
    Puller(tmp_path, server.url, client.namespace).pull().check_all(pushed)


def test_trap_03_a_page_that_begins_after_the_last_instant_loses_its_other_lines(
    loki_with: LokiWith, tmp_path: Path
) -> None:
    server = loki_with(SMALL)
    pushed = push(server, "after", [Line(START + n // 3 * SECOND, f"line {n}") for n in range(900)])
    client = Client(server, "after")
    found = paged(lambda start: client.lines(start, END, LIMIT), LIMIT, after=1, short_is_last=True)
    assert set(pushed) - set(found)
    Puller(tmp_path, server.url, "after").pull().check_all(pushed)


def test_trap_04_lines_of_two_streams_may_be_alike(loki_with: LokiWith, tmp_path: Path) -> None:
    server = loki_with(SMALL)
    both = [Line(START + n * SECOND, "the same", app(name)) for n in range(301) for name in ("a", "b")]
    pushed = push(server, "alike", [Line(START - 1, "one more, so that a page ends between two"), *both])
    pushed = Counter(line for line in pushed if line.ts >= START)
    client = Client(server, "alike")
    odd = LIMIT - 1
    found = paged(lambda start: client.lines(start, END, odd), odd, identity=text_and_time)
    assert 0 < len(set(pushed) - set(found)) < 10
    Puller(tmp_path, server.url, "alike").pull().check_all(pushed)


BUSY = {
    "texts": [Line(START + SECOND, f"line {n}") for n in range(LIMIT + 1)],
    "streams": [Line(START + SECOND, "the same", app(f"{n}")) for n in range(LIMIT + 1)],
    "metadata": [Line(START + SECOND, "the same", (), trace(n)) for n in range(LIMIT + 1)],
    "all-three": [Line(START + SECOND, f"line {n % 7}", app(f"{n % 11}"), trace(n % 13)) for n in range(3 * LIMIT)],
}


@pytest.mark.parametrize("what", BUSY)
def test_trap_05_a_nanosecond_may_hold_more_lines_than_an_answer(
    loki_with: LokiWith, tmp_path: Path, what: str
) -> None:
    server = loki_with(SMALL)
    pushed = push(server, f"instant-{what}", [*BUSY[what], Line(START + 2 * SECOND, "after them")])
    client = Client(server, f"instant-{what}")
    for identity in (text_and_time, lambda line: line):
        found = paged(lambda start: client.lines(start, END, LIMIT), LIMIT, identity=identity)
        assert len(found) <= LIMIT  # and no word that there are more
    Puller(tmp_path, server.url, f"instant-{what}").pull().check_all(pushed)


@pytest.mark.slow
def test_trap_05_a_nanosecond_with_12_000_lines_of_one_stream(loki_server: LokiServer, tmp_path: Path) -> None:
    lines = [Line(START + SECOND, f"{n} {'y' * (n % 7)}") for n in range(12_000)]
    pushed = push(loki_server, "busiest", [*lines, Line(START + 2 * SECOND, "after them")])
    client = Client(loki_server, "busiest")
    assert len(paged(lambda start: client.lines(start, END), 5000)) == 5000
    Puller(tmp_path, loki_server.url, "busiest").pull().check_all(pushed)


@pytest.mark.slow
def test_trap_05_lines_that_are_hard_to_tell_apart_come_or_are_told_by_number(
    loki_with: LokiWith, tmp_path: Path
) -> None:
    """Each line begins with all of the one before: all of them come, or the record says exactly how many do not."""
    server = loki_with(SMALL)
    lines = [Line(START + SECOND, "x" * n) for n in range(1, 701)]
    pushed = push(server, "prefixes", [*lines, Line(START + 2 * SECOND, "after them")])
    pulled = Puller(tmp_path, server.url, "prefixes").pull()
    if pulled.exit_code == 0:
        pulled.check_all(pushed)
    assert pulled.lines <= pushed
    assert pulled.missing == len(pushed) - len(pulled.lines)
    lost = pushed - pulled.lines
    assert all(any(line.ts in gap for gap in pulled.gaps) for line in lost)
    assert pulled.exit_code == (4 if lost else 0), pulled.said


def test_trap_06_a_range_ends_before_its_end_and_a_count_does_not(loki_server: LokiServer, tmp_path: Path) -> None:
    s, e = START, START + MINUTE
    at = {"before": s - 1, "first": s, "last": e - 1, "next": e}
    pushed = push(loki_server, "edges-6", [Line(ts, name) for name, ts in at.items()])
    client = Client(loki_server, "edges-6")
    own = Counter(line for line in pushed if line.text in {"first", "last"})
    following = Counter(line for line in pushed if line.text == "next")
    for stored in (False, True):
        if stored:
            loki_server.flush()
        assert [line.text for line in client.lines(s, e)] == ["first", "last"]
        assert (client.count(e - 1, "1m"), client.count(e, "1m")) == (2, 2)  # the second one has "last" and "next"
        # windows that are taken to end with their last instant overlap; and of what is stored, Loki hides a line
        # that lies at the very start of a question and is the last of its chunk
        inclusive = [line.text for start in (s, e) for line in client.lines(start, start + MINUTE + 1)]
        assert inclusive == ["first", "last", "next", *([] if stored else ["next"])]
        puller = Puller(tmp_path / f"{stored}", loki_server.url, "edges-6")
        puller.folder.mkdir()
        puller.pull(s, e).check_all(own)
        puller.pull(e, e + MINUTE).check_all(own + following)


def test_trap_07_instants_in_milliseconds_or_as_floats_miss_lines(loki_server: LokiServer, tmp_path: Path) -> None:
    at = START + 123_456_789
    pushed = push(loki_server, "instants", [Line(at, "one"), Line(at + 1, "two")])
    client = Client(loki_server, "instants")
    assert client.lines(at // MS, (at + HOUR) // MS) == []  # 13 digits are nanoseconds of 1970
    assert client.lines(f"{at / SECOND}", f"{(at + 2) / SECOND}") == []  # floats are rounded to milliseconds
    assert int(at / SECOND * SECOND) != at
    assert len(client.lines(at, at + 2)) == 2
    Puller(tmp_path, loki_server.url, "instants").pull().check_all(pushed)


def test_trap_12_a_pipeline_makes_one_line_of_two_or_drops_them(loki_server: LokiServer, tmp_path: Path) -> None:
    texts = ['{"level":"error","id":1}', '{"level":"error","id":2}', "\x1b[31mred\x1b[0m", "red", "error: plain"]
    pushed = push(loki_server, "pipeline", [Line(START + 1, text) for text in texts])
    seen = {
        more: len(Client(loki_server, "pipeline", more=more).lines(START, END))
        for more in ("", " | line_format `x`", " | decolorize", ' | json | level="error"')
    }
    assert list(seen.values()) == [5, 2, 4, 2]  # of the first kind, one of each level that Loki detects
    Puller(tmp_path, loki_server.url, "pipeline").pull().check_all(pushed)


@pytest.mark.parametrize("more", [" | line_format `x`", " | decolorize", ' |= "error"', ' | json | level="error"'])
def test_trap_12_a_selector_with_a_pipeline_is_refused(tmp_path: Path, more: str) -> None:
    env = {"AISLOT_LOKI__URL": "http://127.0.0.1:9", "AISLOT_LOKI__SELECTORS": json.dumps([f'{{app="a"}}{more}'])}
    done = aislot("pull", "logs", cwd=tmp_path, env=env)
    assert done.returncode == 2, done.stderr
    assert "selectors choose streams" in done.stderr


def test_trap_13_lines_that_differ_in_metadata_alone_are_two(loki_server: LokiServer, tmp_path: Path) -> None:
    first = push(loki_server, "metadata-13", [Line(START + 1, "the same", (), trace(1))])
    loki_server.flush()
    pushed = first + push(loki_server, "metadata-13", [Line(START + 1, "the same", (), trace(2))])
    client = Client(loki_server, "metadata-13")
    for n in range(2):
        assert client.count(END, "1h") == 1  # a count takes them for one
        assert len(client.lines(START, END)) == 2
        assert len({text_and_time(line) for line in client.lines(START, END)}) == 1
        puller = Puller(tmp_path / f"{n}", loki_server.url, "metadata-13")
        puller.folder.mkdir()
        puller.pull().check_all(pushed)
        loki_server.flush()
