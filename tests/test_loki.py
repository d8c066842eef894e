"""Loki's client: how it asks, what it halves, what it holds against the counts, and what it refuses to believe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

from pipeline.errors import SourceError
from pipeline.model import NS, Entry, Window
from pipeline.sources.http import Reply, TooSlow
from tests.fake_loki import (
    MINUTE,
    RANGE,
    SELECTOR,
    START,
    FakeLoki,
    Whole,
    entry,
    identity,
    lines,
    read_window,
    streams_of,
    success,
)
from tests.faults import Form

HOUR = Window(START, START + 60 * MINUTE)
DAY = Window(START, START + 1440 * MINUTE)
STEP = 10 * NS


def read(server: FakeLoki, window: Window = HOUR, limit: int = 5000) -> Whole:
    return read_window(server.loki(limit), window, server.server_limit, edge=True)


def is_fetch(form: Form) -> bool:
    return "limit" in form


def said(entries: Iterable[Entry]) -> Counter[tuple[Any, ...]]:
    return Counter(identity(e) for e in entries)


def fails(server: FakeLoki) -> SourceError:
    with pytest.raises(SourceError) as caught:
        read(server)
    return caught.value


def test_lines_are_asked_for_by_post_in_nanoseconds_forward_with_a_limit_and_past_every_cache() -> None:
    server = FakeLoki([entry(0)])
    loki = server.loki(limit=700)
    loki.fetch(Window(START, START + MINUTE), streams_of(loki, HOUR))
    asked = next(a for a in server.door.asked if a.path == RANGE)
    assert asked.method == "POST"
    assert asked.form == {
        "query": SELECTOR,
        "start": "1772096400000000000",
        "end": "1772096460000000001",
        "limit": "700",
        "direction": "forward",
    }
    # metadata is told from labels by subtraction: to have Loki do it doubles its work
    assert asked.headers == {"Cache-Control": "no-cache"}


def test_a_day_is_counted_by_app_every_ten_seconds_in_one_call() -> None:
    held = [entry(0), entry(1), entry(STEP), entry(STEP, "y", {"app": "b"}), entry(STEP + 1), entry(DAY.length)]
    server = FakeLoki(held)
    counted = server.loki().counts(DAY)
    assert {app: {i: n for i, n in enumerate(steps.tolist()) if n} for app, steps in counted.items()} == {
        "a": {0: 2, 1: 1, 8639: 1},
        "b": {0: 1},
    }
    (asked,) = server.door.asked
    assert asked.form == {
        "query": f"sum by (app) (count_over_time({SELECTOR}[10s]))",
        "start": "1772096410000000000",
        "end": "1772182800000000000",
        "step": "10s",
    }
    assert asked.headers == {"Cache-Control": "no-cache"}


def test_a_day_that_cannot_be_counted_at_once_is_counted_in_parts() -> None:
    def too_long(path: str, form: Form) -> Any:
        slow = path == RANGE and int(form["end"]) - int(form["start"]) > 200 * MINUTE
        return Reply(504, {}, b"request timed out, decrease the duration of the request") if slow else None

    held = [entry(n * 7 * MINUTE, labels={"app": f"{n % 2}"}) for n in range(1, 200)]
    parts, whole = FakeLoki(held, before=too_long).loki().counts(DAY), FakeLoki(held).loki().counts(DAY)
    assert {app: s.tolist() for app, s in parts.items()} == {app: s.tolist() for app, s in whole.items()}


def test_more_apps_than_loki_counts_apart_are_counted_together() -> None:
    held = [entry(n, labels={"app": f"{n}"}) for n in range(1, 9)]
    counted = FakeLoki(held, most_series=7).loki().counts(DAY)
    assert {app: int(steps.sum()) for app, steps in counted.items()} == {"": 8}


def test_counts_that_never_come_are_given_up_at_an_hour() -> None:
    server = FakeLoki(before=lambda _p, _f: Reply(504, {}, b"request timed out, decrease the duration of the request"))
    with pytest.raises(TooSlow):
        server.loki().counts(DAY)
    assert len(server.door.asked) < 12


def test_steps_are_joined_to_slices_that_fit_one_answer() -> None:
    server = FakeLoki([entry(n * STEP + 5, str(i)) for n in (0, 1, 2, 50, 51) for i in range(4)])
    whole = read_window(server.loki(limit=10), HOUR)
    assert [((a - START) // STEP, (b - START) // STEP) for a, b in server.fetched] == [(0, 2), (2, 51), (51, 360)]
    assert (len(whole.entries), whole.tally.requests, whole.tally.recounted) == (20, 3, 0)


def test_what_was_not_counted_is_asked_for_all_the_same() -> None:
    def counts_nothing(path: str, form: Form) -> Any:
        return success("matrix", []) if path == RANGE and not is_fetch(form) else None

    held = [entry(n * MINUTE) for n in range(50)]
    whole = read(FakeLoki(held, before=counts_nothing))
    assert (said(whole.entries), whole.short) == (said(held), {})


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

    whole = read(FakeLoki(held, before=refuses))
    assert said(whole.entries) == said(held)
    assert whole.short == {}
    assert whole.tally.causes


@pytest.mark.parametrize("given", [0, 3])
def test_an_error_that_hides_behind_an_empty_or_short_answer_is_found(given: int) -> None:
    held = [entry(n * 1_500_000_000, f"line {n}") for n in range(1, 200)]

    def hides(path: str, form: Form) -> Any:
        inside = [e for e in held if int(form.get("start", 0)) <= e.ts < int(form.get("end", 0))]
        return lines(inside[:given]) if is_fetch(form) and len(inside) > 4 else None

    whole = read(FakeLoki(held, before=hides))
    assert said(whole.entries) == said(held)
    assert whole.short == {}


def test_a_server_that_is_always_too_slow_is_given_up_and_not_halved_for_ever() -> None:
    asked: list[str] = []

    def slow(path: str, form: Form) -> Any:
        asked.append(path)
        return Reply(504, {}, b"request timed out, decrease the duration") if is_fetch(form) else None

    error = fails(FakeLoki([entry(n * 10**9) for n in range(3000)], before=slow))
    assert isinstance(error, TooSlow)
    assert "504" in error.what
    assert len(asked) < 80


def test_the_limit_that_the_server_names_is_kept_to_from_then_on() -> None:
    held = [entry(n * 50_000_000, f"line {n}") for n in range(3000)]
    whole = read(FakeLoki(held, server_limit=200))
    assert said(whole.entries) == said(held)
    assert whole.short == {}
    assert whole.tally.requests < 60


def test_a_server_that_refuses_every_limit_is_not_asked_for_ever() -> None:
    def refuses(path: str, form: Form) -> Any:
        text = b"max entries limit per query exceeded, limit > max_entries_limit_per_query (1 > 5000)"
        return Reply(400, {}, text) if is_fetch(form) else None

    assert "limit" in fails(FakeLoki([entry(1)], before=refuses)).what


@pytest.mark.parametrize("loses", [False, True])
def test_an_instant_that_exactly_fills_an_answer_is_whole(loses: bool) -> None:
    held = [entry(5, f"{n}") for n in range(20)] + [entry(4, f"{n}") for n in range(20)]
    whole = read(FakeLoki(held, server_limit=20, loses_at_start=loses), limit=20)
    assert (said(whole.entries), whole.short) == (said(held), {})


def test_lines_equal_but_for_metadata_are_rows_of_their_own_even_where_the_server_counts_one() -> None:
    held = [entry(5, "same", metadata={"trace": t}) for t in ("a", "b", "c")] + [entry(6)]
    whole = read(FakeLoki(held, counts_lines=True))
    assert (said(whole.entries), whole.counted, whole.explained, whole.short) == (said(held), 2, 2, {})


def test_what_the_server_gives_and_counts_twice_is_kept_once_and_explained() -> None:
    held = [entry(0), entry(5), entry(6)]
    whole = read(FakeLoki(held, repeats=3))
    assert said(whole.entries) == said(held)
    assert (whole.short, whole.explained) == ({}, 4)


def test_the_same_stream_in_two_parts_of_an_answer_is_one() -> None:
    def split(path: str, form: Form) -> Any:
        twice = lines([entry(5)])
        twice["data"]["result"] *= 2
        return twice if is_fetch(form) else None

    loki = FakeLoki([entry(5)], before=split).loki()
    answer = loki.fetch(Window(START, START + MINUTE), streams_of(loki, HOUR))
    assert (len(answer.block), answer.given) == (1, 2)


def test_an_empty_answer_where_lines_were_counted_is_asked_again() -> None:
    empty = [lines([])]

    def once(path: str, form: Form) -> Any:
        return empty.pop() if is_fetch(form) and int(form["end"]) > START + MINUTE and empty else None

    whole = read(FakeLoki([entry(5), entry(MINUTE + 5)], before=once))
    assert (len(whole.entries), whole.short) == (2, {})


def test_a_server_that_keeps_lines_back_is_recorded_as_short_with_what_came() -> None:
    held = [entry(5), entry(MINUTE + 5), entry(MINUTE + 6)]
    hidden = FakeLoki(held, hidden=frozenset({START + MINUTE + 5}), most_series=0)
    whole = read(hidden)
    assert (len(whole.entries), whole.short) == (2, {6: (1, 2)})


def test_what_only_a_metric_query_shows_is_there() -> None:
    held = [entry(5), entry(MINUTE + 5, "hidden", metadata={"trace": "1"}), entry(MINUTE + 6)]
    whole = read(FakeLoki(held, hidden=frozenset({START + MINUTE + 5})))
    assert (said(whole.entries), whole.short) == (said(held), {})


def test_lines_that_arrive_while_we_read_are_counted_and_read_again() -> None:
    held = [entry(5)]

    def arrives(path: str, form: Form) -> Any:
        if is_fetch(form) and len(held) == 1:
            held.append(entry(6))

    whole = read_window(FakeLoki(held, before=arrives).loki(), HOUR)
    assert (len(whole.entries), whole.counted, whole.short) == (2, 2, {})


def test_what_lies_outside_the_question_is_not_taken_from_an_answer() -> None:
    def strays(path: str, form: Form) -> Any:
        return lines([entry(-(10**12)), entry(5), entry(10**15)]) if is_fetch(form) else None

    assert said(read_window(FakeLoki([entry(5)], before=strays).loki(), HOUR).entries) == said([entry(5)])
