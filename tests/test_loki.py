"""Loki's client: how it asks, what it halves, what it holds against the counts, and what it refuses to believe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from pipeline.errors import SourceError
from pipeline.model import Entry, Window
from pipeline.sources.http import Reply, TooSlow
from pipeline.sources.loki import Cell, read_cell
from tests.fake_loki import MINUTE, SELECTOR, START, FakeLoki, entry, identity, lines, success
from tests.faults import Form

HOUR = Window(START, START + 60 * MINUTE)
DAY = Window(START, START + 1440 * MINUTE)
FETCH, COUNT = "/loki/api/v1/query_range", "/loki/api/v1/query"


def read(server: FakeLoki, window: Window = HOUR, limit: int = 5000) -> Cell:
    loki, _ = server.loki(limit)
    return read_cell(loki, window, loki.counts(window))


def is_fetch(form: Form) -> bool:
    return form["query"] == SELECTOR


def said(entries: Sequence[Entry]) -> list[tuple[Any, ...]]:
    return [identity(e) for e in entries]


def fails(server: FakeLoki) -> SourceError:
    with pytest.raises(SourceError) as caught:
        read(server)
    return caught.value


def test_lines_are_asked_for_by_post_in_nanoseconds_forward_with_a_limit_and_past_every_cache() -> None:
    loki, door = FakeLoki([entry(0)]).loki(limit=700)
    loki.fetch(Window(START, START + MINUTE))
    assert (door.asked[0].method, door.asked[0].path) == ("POST", FETCH)
    assert door.asked[0].form == {
        "query": SELECTOR,
        "start": "1772096400000000000",
        "end": "1772096460000000001",
        "limit": "700",
        "direction": "forward",
    }
    assert door.asked[0].headers["Cache-Control"] == "no-cache"
    assert door.asked[0].headers["X-Loki-Response-Encoding-Flags"] == "categorize-labels"


def test_a_day_is_counted_minute_by_minute_in_one_call() -> None:
    held = [entry(0), entry(1), entry(MINUTE), entry(MINUTE, "y"), entry(MINUTE + 1), entry(DAY.length)]
    loki, door = FakeLoki(held).loki()
    counted = loki.counts(DAY)
    assert len(counted) == 1440
    assert {i: n for i, n in enumerate(counted) if n} == {0: 3, 1: 1, 1439: 1}
    (asked,) = door.asked
    assert asked.form == {
        "query": f"sum(count_over_time({SELECTOR}[60s]))",
        "start": "1772096460000000000",
        "end": "1772182800000000000",
        "step": "60s",
    }
    assert asked.headers == {"Cache-Control": "no-cache"}


def test_a_day_that_cannot_be_counted_at_once_is_counted_in_parts() -> None:
    def too_long(path: str, form: Form) -> Any:
        slow = int(form["end"]) - int(form["start"]) > 200 * MINUTE
        return Reply(504, {}, b"request timed out, decrease the duration of the request") if slow else None

    held = [entry(n * 7 * MINUTE) for n in range(1, 200)]
    loki, _ = FakeLoki(held, before=too_long).loki()
    assert loki.counts(DAY) == FakeLoki(held).loki()[0].counts(DAY)


def test_counts_that_never_come_are_given_up_at_an_hour() -> None:
    loki, door = FakeLoki(before=lambda _p, _f: Reply(504, {}, b"request timed out")).loki()
    with pytest.raises(TooSlow):
        loki.counts(DAY)
    assert len(door.asked) == 6


@pytest.mark.parametrize(
    ("offset", "inside"),
    [(-1, False), (0, True), (1, True), (HOUR.length - 1, True), (HOUR.length, False), (HOUR.length + 1, False)],
)
def test_a_cell_holds_its_start_and_not_its_end(offset: int, inside: bool) -> None:
    cell = read(FakeLoki([entry(offset)], loses_at_start=True))
    assert [e.ts - START for e in cell.entries] == [offset] * inside
    assert cell.short == []


def test_two_cells_that_meet_on_an_entry_hold_it_once_and_each_reconciles() -> None:
    half = 30 * MINUTE
    held = [entry(half - 1), entry(half), entry(half, "y"), entry(half + 1)]
    server = FakeLoki(held, loses_at_start=True)
    cells = [read(server, Window(START, START + half)), read(server, Window(START + half, HOUR.end))]
    assert [len(c.entries) for c in cells] == [1, 3]
    assert [c.short for c in cells] == [[], []]
    assert [sum(c.rows) for c in cells] == [sum(c.counted) for c in cells] == [3, 1]


def test_minutes_are_joined_to_slices_that_fit_one_answer_and_empty_ones_are_not_asked() -> None:
    server = FakeLoki([entry(n * MINUTE + 5, str(i)) for n in (0, 1, 2, 50, 51) for i in range(4)])
    cell = read(server, limit=10)
    assert [((a - START) // MINUTE, (b - START) // MINUTE) for a, b in server.fetched] == [(0, 2), (2, 51), (51, 60)]
    assert cell.requests == 3
    assert len(cell.entries) == 20


def test_what_would_fill_an_answer_is_not_asked_for_at_once() -> None:
    server = FakeLoki([entry(n * 10**9) for n in range(1, 11)])
    assert read(server, limit=10).causes == {}


@pytest.mark.parametrize(
    "reply",
    [
        Reply(413, {}, b"response larger than the max message size (9 vs 4)"),
        Reply(
            500,
            {},
            b"rpc error: code = ResourceExhausted desc = (grpc: received message larger than max (9 vs 4194304))",
        ),
        Reply(504, {}, b"request timed out, decrease the duration of the request or add more label matchers"),
        Reply(504, {}, b"<html><h1>504 Gateway Time-out</h1></html>"),
        Reply(400, {}, b"the query would read too many bytes (query: 9 GB, limit: 1 GB)"),
        Reply(400, {}, b"the query time range exceeds the limit (query length: 1h, limit: 1m)"),
        Reply(400, {}, b"query too large to execute on a single querier"),
        Reply(200, {}, b'{"status": "success", "data": {"resultType": "streams", "result": [{"stream'),
    ],
)
def test_what_is_too_large_for_the_server_comes_in_halves(reply: Reply) -> None:
    held = [entry(n * 1_000_000_007, f"line {n}") for n in range(50)]

    def refuses(path: str, form: Form) -> Any:
        large = sum(int(form["start"]) <= e.ts < int(form["end"]) for e in held) > 4 if is_fetch(form) else False
        return reply if large else None

    cell = read(FakeLoki(held, before=refuses))
    assert said(cell.entries) == said(held)
    assert cell.short == []
    assert cell.causes


@pytest.mark.parametrize("given", [0, 3])
def test_an_error_that_hides_behind_an_empty_or_short_answer_is_found_by_halves(given: int) -> None:
    held = [entry(n * 1_500_000_000, f"line {n}") for n in range(1, 200)]

    def hides(path: str, form: Form) -> Any:
        inside = [e for e in held if int(form.get("start", 0)) <= e.ts < int(form.get("end", 0))]
        return lines(inside[:given]) if is_fetch(form) and len(inside) > 10 else None

    cell = read(FakeLoki(held, before=hides))
    assert said(cell.entries) == said(held)
    assert cell.short == []
    assert cell.causes["a short answer"] > 0


def test_a_server_that_is_always_too_slow_is_given_up_and_not_halved_for_ever() -> None:
    asked: list[str] = []

    def slow(path: str, form: Form) -> Any:
        asked.append(path)
        return Reply(504, {}, b"request timed out, decrease the duration") if is_fetch(form) else None

    error = fails(FakeLoki([entry(n * 10**9) for n in range(3000)], before=slow))
    assert isinstance(error, TooSlow)
    assert "504" in error.what
    assert len(asked) < 50


def test_one_instant_too_large_for_any_answer_is_short_and_the_rest_is_there() -> None:
    large = [entry(5_000, f"{n}") for n in range(3)]
    small = [entry(10**9 * n) for n in range(1, 9)]

    def refuses(path: str, form: Form) -> Any:
        hit = is_fetch(form) and int(form["start"]) <= large[0].ts < int(form["end"])
        return Reply(500, {}, b"grpc: trying to send message larger than max (5 vs 4)") if hit else None

    cell = read(FakeLoki(large + small, before=refuses))
    assert said(cell.entries) == said(small)
    assert cell.short == [0]


def test_the_limit_that_the_server_names_is_kept_to_from_then_on() -> None:
    held = [entry(n * 50_000_000, f"line {n}") for n in range(3000)]
    server = FakeLoki(held, server_limit=200)
    cell = read(server)
    assert said(cell.entries) == said(held)
    assert cell.short == []
    assert cell.causes["a limit above the server's"] == 1
    assert cell.requests < 50


def test_a_server_that_refuses_every_limit_is_not_asked_for_ever() -> None:
    def refuses(path: str, form: Form) -> Any:
        text = b"max entries limit per query exceeded, limit > max_entries_limit_per_query (1 > 5000)"
        return Reply(400, {}, text) if is_fetch(form) else None

    server = FakeLoki([entry(1)], before=refuses)
    assert "limit" in fails(server).what


@pytest.mark.parametrize("labels", [None, "one each"])
def test_more_lines_at_one_nanosecond_than_an_answer_holds_are_recorded_as_short(labels: str | None) -> None:
    busy = [entry(10 * MINUTE + 1, f"{n}", {"app": f"{n}"} if labels else None) for n in range(30)]
    others = [entry(n * MINUTE + 2) for n in range(60)]
    server = FakeLoki(busy + others, server_limit=20)
    cell = read(server)
    assert cell.short == [10]
    assert (cell.rows[10], cell.counted[10]) == (21, 31)
    assert cell.causes["busy nanosecond"] > 0
    assert {identity(e) for e in others} <= {identity(e) for e in cell.entries}
    assert len(server.fetched) < 250


@pytest.mark.parametrize("loses", [False, True])
def test_an_instant_that_exactly_fills_an_answer_is_whole(loses: bool) -> None:
    held = [entry(5, f"{n}") for n in range(20)] + [entry(4, f"{n}") for n in range(20)]
    cell = read(FakeLoki(held, server_limit=20, loses_at_start=loses))
    assert len(cell.entries) == 40
    assert cell.short == []


def test_lines_equal_but_for_metadata_are_rows_of_their_own_even_where_the_server_counts_one() -> None:
    held = [entry(5, "same", metadata={"trace": t}) for t in ("a", "b", "c")] + [entry(6)]
    cell = read(FakeLoki(held, counts_lines=True))
    assert len(cell.entries) == 4
    assert (cell.rows[0], cell.counted[0], cell.explained, cell.short) == (4, 2, 2, [])


def test_what_the_server_gives_and_counts_twice_is_kept_once_and_explained() -> None:
    held = [entry(0), entry(5), entry(6)]
    cell = read(FakeLoki(held, repeats=3))
    assert said(cell.entries) == said(held)
    assert (cell.rows[0], cell.counted[0], cell.short) == (2, 6, [])
    assert cell.explained == 6


def test_repeats_that_are_read_again_explain_no_more_than_they_did() -> None:
    held = [entry(n) for n in (5, 6, 7)]

    def keeps_one_back(path: str, form: Form) -> Any:
        return lines(e for e in held[:2] for _ in range(2)) if is_fetch(form) else None

    assert read(FakeLoki(held, repeats=2, before=keeps_one_back)).short == [0]


def test_an_answer_full_of_repeats_is_full() -> None:
    held = [entry(n, f"{n}") for n in range(1, 8)]

    def counts_once(path: str, form: Form) -> Any:
        return None if is_fetch(form) else FakeLoki(held).answer(path, form)

    cell = read(FakeLoki(held, repeats=3, before=counts_once), limit=9)
    assert said(cell.entries) == said(held)


def test_the_same_stream_in_two_parts_of_an_answer_is_one() -> None:
    split = lines([entry(5)])
    split["data"]["result"] *= 2
    loki, _ = FakeLoki(before=lambda _p, _f: split).loki()
    answer = loki.fetch(Window(START, START + MINUTE))
    assert (len(answer.entries), len(answer.doubles)) == (1, 1)


def test_equal_text_at_one_instant_in_two_streams_is_two_lines_with_labels_and_metadata_apart() -> None:
    held = [entry(5, labels={"app": "a"}, metadata={"trace": "1"}), entry(5, labels={"app": "b"})]
    cell = read(FakeLoki(held))
    assert [(dict(e.labels), dict(e.metadata)) for e in cell.entries] == [
        ({"app": "a"}, {"trace": "1"}),
        ({"app": "b"}, {}),
    ]


def test_an_answer_without_the_categories_still_gives_lines() -> None:
    plain = success("streams", [{"stream": {"app": "a"}, "values": [[str(START + 5), "x"]]}])
    loki, _ = FakeLoki(before=lambda _p, _f: plain).loki()
    assert loki.fetch(Window(START, START + MINUTE)).entries == [entry(5)]


def test_an_empty_answer_where_lines_were_counted_is_asked_again() -> None:
    empty = [lines([])]

    def once(path: str, form: Form) -> Any:
        return empty.pop() if is_fetch(form) and empty else None

    cell = read(FakeLoki([entry(5), entry(MINUTE + 5)], before=once))
    assert (len(cell.entries), cell.short) == (2, [])
    assert cell.recounted == 3  # both minutes, and the edge


def test_a_server_that_keeps_lines_back_is_recorded_as_short_with_what_came() -> None:
    held = [entry(5), entry(MINUTE + 5), entry(MINUTE + 6)]

    def holey(path: str, form: Form) -> Any:
        return lines(e for e in held if e.ts != START + MINUTE + 5) if is_fetch(form) else None

    cell = read(FakeLoki(held, before=holey))
    assert cell.short == [1]
    assert list(zip(cell.rows[:2], cell.counted[:2], strict=True)) == [(1, 1), (1, 2)]
    assert len(cell.entries) == 2


def test_a_line_lost_at_the_very_start_of_a_cell_is_recorded_in_its_first_minute() -> None:
    def never(path: str, form: Form) -> Any:
        return lines([]) if is_fetch(form) else None

    assert read(FakeLoki([entry(0)], before=never)).short == [0]


def test_lines_that_arrive_while_we_read_are_counted_and_read_again() -> None:
    held = [entry(5)]

    def arrives(path: str, form: Form) -> Any:
        if is_fetch(form) and len(held) == 1:
            held.append(entry(6))

    cell = read(FakeLoki(held, before=arrives))
    assert (len(cell.entries), cell.counted[0], cell.rows[0], cell.short) == (2, 2, 2, [])


def test_what_lies_outside_the_question_is_not_taken_from_an_answer() -> None:
    stray = lines([entry(-(10**12)), entry(5), entry(10**15)])

    def strays(path: str, form: Form) -> Any:
        return stray if is_fetch(form) else None

    assert said(read(FakeLoki([entry(5)], before=strays)).entries) == said([entry(5)])
