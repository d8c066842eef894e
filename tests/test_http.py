"""The HTTP door: what is asked again and what is not, for how long, and what that says."""

from __future__ import annotations

import gzip
import json
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pipeline.errors import SourceError, StoppedError, TooLarge, Transient
from pipeline.sources.http import Policy, Reply, TooSlow, UnsureError
from tests.faults import GOOD, HANGS_UP, RESETS, STALLS, Say, door_to, fails, read, serving


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(Say("busy", 503), id="503"),
        pytest.param(Say(b"", 502), id="502 without a word"),
        pytest.param(Say("slow down", 429), id="429"),
        pytest.param(Say("request cancelled", 499), id="499"),
        pytest.param(Say("try later", 408), id="408"),
        pytest.param(Say("bad gateway for a moment", 522), id="a gateway's own 5xx"),
        pytest.param(Say("gateway time-out", 504), id="504"),
        pytest.param(Say({"fine": True}, cut_at=5), id="cut body"),
        pytest.param(Say({"fine": True}, cut_at=5, chunked=True), id="cut chunked body"),
        pytest.param(Say('{"fine": tr'), id="truncated JSON"),
        pytest.param(Say(""), id="empty body"),
        pytest.param(Say("<html><title>Maintenance</title></html>"), id="a page"),
        pytest.param(Say(gzip.compress(b'{"fine": true}')[:18], headers={"Content-Encoding": "gzip"}), id="cut gzip"),
        pytest.param(Say(b"not gzip at all", headers={"Content-Encoding": "gzip"}), id="garbage as gzip"),
        pytest.param(Say(raw=b"\0\1\2 garbage\r\n\r\n", then="close"), id="no HTTP"),
        pytest.param(Say(raw=b"HTTP/1.1 200 OK\r\nContent-Le", then="close"), id="cut header"),
        pytest.param(HANGS_UP, id="closed without an answer"),
        pytest.param(RESETS, id="reset"),
    ],
)
def test_trouble_that_may_pass_is_asked_again_and_counted(trouble: Say) -> None:
    with serving([trouble, GOOD]) as server:
        asking, sleeps = door_to(server.url)
        assert asking.get("/x", check=read) == {"fine": True}
    assert len(server.asked) == 2
    assert len(sleeps) == 1
    assert sum(asking.retries.values()) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 413, 422, 501])
def test_a_refusal_is_never_asked_again(status: int) -> None:
    with serving([Say("no", status)]) as server:
        asking, sleeps = door_to(server.url)
        error = fails(asking)
    assert len(server.asked) == 1
    assert not sleeps
    assert f"HTTP {status}: no" in error.what
    assert error.fix


@pytest.mark.parametrize(("name", "setting"), [("loki", "loki.url"), ("github", "github.api_url")])
def test_tries_are_bounded_and_back_off_with_jitter(name: str, setting: str) -> None:
    with serving([Say("busy", 503)]) as server:
        asking, sleeps = door_to(server.url, name=name)
        error = fails(asking)
    assert len(server.asked) == 6
    assert all(0.5 * 2**n / 2 <= s <= 0.5 * 2**n for n, s in enumerate(sleeps))
    assert f"{name} at {server.url}: HTTP 503: busy (tried 6 times)" in error.what
    assert setting in error.fix


def test_back_off_stops_growing() -> None:
    with serving([Say("busy", 503)]) as server:
        asking, sleeps = door_to(server.url, Policy(tries=12, timeout_s=5.0))
        fails(asking)
    assert max(sleeps) <= 30.0


@pytest.mark.parametrize(
    ("headers", "least"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Date": "Thu, 26 Feb 2026 09:00:00 GMT", "Retry-After": "Thu, 26 Feb 2026 09:00:42 GMT"}, 42.0),
        ({"Date": "Thu, 26 Feb 2026 09:00:00 GMT", "Retry-After": "Thu, 26 Feb 2026 08:00:00 GMT"}, 0.25),
        ({"Date": "a while ago", "Retry-After": "Thu, 26 Feb 2026 09:00:42 GMT"}, 0.25),
        ({"Retry-After": "²"}, 0.25),
        ({"Retry-After": "-5"}, 0.25),
        ({"Retry-After": "soon"}, 0.25),
        ({"Retry-After": "Thu, 99 Feb 99999999 09:00:42 GMT"}, 0.25),
    ],
)
def test_retry_after_is_kept_to_in_seconds_and_as_a_date_by_the_servers_own_clock(
    headers: dict[str, str], least: float
) -> None:
    # http.server writes a Date of its own, so the whole answer is written here
    head = "".join(f"{k}: {v}\r\n" for k, v in headers.items()).encode()
    busy = Say(raw=b"HTTP/1.1 429 Slow Down\r\nContent-Length: 0\r\n" + head + b"\r\n", then="close")
    with serving([busy, GOOD]) as server:
        asking, sleeps = door_to(server.url)
        asking.get("/x", check=read)
    assert least <= sleeps[0] <= max(0.5, least)


def test_a_server_that_wants_to_be_left_alone_for_an_hour_is_left_to_the_next_run() -> None:
    with serving([Say("busy", 503, {"Retry-After": "3600"})]) as server:
        asking, sleeps = door_to(server.url)
        error = fails(asking)
    assert len(server.asked) == 1
    assert not sleeps
    assert "3600 s" in error.what


@pytest.mark.parametrize(
    ("late", "says"), [(STALLS, "no answer in time"), (Say("time-out", 504), "HTTP 504: time-out")]
)
def test_a_late_answer_is_asked_for_three_times_and_then_the_question_is_called_too_slow(late: Say, says: str) -> None:
    with serving([late]) as server:
        asking, _ = door_to(server.url, Policy(timeout_s=0.1))
        error = fails(asking)
    assert len(server.asked) == 3
    assert isinstance(error, TooSlow)
    assert says in error.what


@pytest.mark.parametrize("late", [STALLS, Say("time-out", 504)])
def test_two_late_answers_in_a_row_may_pass(late: Say) -> None:
    with serving([late, late, GOOD]) as server:
        asking, _ = door_to(server.url, Policy(timeout_s=0.1))
        assert asking.get("/x", check=read) == {"fine": True}


def test_an_answer_that_is_cut_every_time_may_be_too_large_a_question() -> None:
    with serving([Say({"fine": True}, cut_at=3)]) as server:
        asking, _ = door_to(server.url)
        assert isinstance(fails(asking), TooSlow)


def test_an_answer_larger_than_memory_should_hold_is_too_large() -> None:
    with serving([Say(b"x" * 5000)]) as server:
        asking, _ = door_to(server.url, Policy(largest=4096))
        assert isinstance(fails(asking), TooLarge)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://no-such-host.invalid:3100"])
def test_a_server_that_is_not_there_is_said_with_address_cause_and_setting(url: str) -> None:
    asking, sleeps = door_to(url, Policy(tries=2))
    error = fails(asking)
    assert len(sleeps) == 1
    assert f"loki at {url}: " in error.what
    assert "connection refused" in error.what or "no such host" in error.what
    assert "start loki or correct loki.url" in error.fix


def test_messages_of_a_server_are_one_line_without_tags_or_control_characters() -> None:
    page = "<html>\n<h1>502 Bad\x1b[31m Gateway</h1>\u202e\n" + "x" * 5000
    text = Reply(502, {}, page.encode()).text()
    assert text.startswith("502 Bad\ufffd[31m Gateway \ufffd xxx")
    assert len(text) == 300


def test_nothing_is_asked_when_the_commands_time_is_over() -> None:
    with serving([GOOD]) as server:
        asking, _ = door_to(server.url, Policy(remaining_s=lambda: 0.0))
        with pytest.raises(StoppedError) as caught:
            asking.get("/x", check=read)
    assert server.asked == []
    assert caught.value.exit_code == 4


def test_a_wait_that_does_not_fit_the_commands_time_is_not_begun() -> None:
    with serving([Say("busy", 503, {"Retry-After": "20"})]) as server:
        asking, sleeps = door_to(server.url, Policy(remaining_s=lambda: 19.0))
        assert "HTTP 503" in fails(asking).what
    assert not sleeps


def test_a_silent_server_cannot_hold_us_beyond_the_commands_time() -> None:
    left = iter([9.0, 0.1, 0.0])
    with serving([STALLS]) as server:
        asking, _ = door_to(server.url, Policy(remaining_s=lambda: next(left)))
        with pytest.raises(StoppedError):
            asking.get("/x", check=read)


@pytest.mark.timeout(5)
def test_a_dribbling_server_cannot_hold_us_beyond_the_commands_time() -> None:
    left = iter([9.0, 9.0, 0.0])
    with serving([Say(b"x" * 100, cut_at=1, then="stall")]) as server:
        asking, _ = door_to(server.url, Policy(remaining_s=lambda: next(left, 0.0)))
        with pytest.raises(StoppedError):
            asking.get("/x", check=read)


def test_a_caller_sees_the_statuses_that_it_asked_for_and_may_ask_again() -> None:
    def check(reply: Reply) -> str:
        if reply.status == 404:
            raise Transient("not yet")
        return reply.text()

    with serving([Say("no", 404), Say("yes")]) as server:
        asking, sleeps = door_to(server.url)
        assert asking.get("/x", check=check, raw_status={404}) == "yes"
    assert asking.retries == {"not yet": 1}
    assert len(sleeps) == 1


def test_one_connection_serves_many_questions_of_a_thread_and_none_is_shared() -> None:
    with serving([GOOD]) as server, ThreadPoolExecutor(4) as threads:
        asking, _ = door_to(server.url)
        together = threading.Barrier(4)

        def work(_: int) -> list[Any]:
            together.wait()
            return [asking.get("/x", check=read) for _ in range(25)]

        assert [a for each in threads.map(work, range(4)) for a in each] == [{"fine": True}] * 100
        assert server.connections == 4


def test_retries_are_counted_over_all_threads() -> None:
    with serving([Say("busy", 503)]) as server, ThreadPoolExecutor(4) as threads:
        asking, _ = door_to(server.url)
        list(threads.map(lambda _: fails(asking), range(8)))
    assert asking.retries == {"HTTP 503": 8 * 5}


def test_a_door_goes_to_another_process_without_its_connections_and_clock() -> None:
    with serving([GOOD]) as server:
        asking, _ = door_to(server.url, Policy(remaining_s=lambda: 9.0), auth=("me", "pass"))
        asking.get("/x", check=read)
        there = pickle.loads(pickle.dumps(asking))  # noqa: S301 - our own bytes
        assert there.get("/x", check=read) == {"fine": True}
    assert there.policy.remaining_s is None
    assert server.asked[0].headers["Authorization"] == server.asked[1].headers["Authorization"]


def test_the_scripted_server_itself_says_what_it_was_told() -> None:
    with serving([Say({"a": 1}, 201, {"X": "y"}, chunked=True)]) as server:
        asking, _ = door_to(server.url)
        assert asking.post("/p", {"q": "1"}, check=lambda r: (r.status, r.headers["X"], r.json())) == (
            201,
            "y",
            {"a": 1},
        )
    assert (server.asked[0].method, server.asked[0].path, server.asked[0].form) == ("POST", "/p", {"q": "1"})


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_a_write_that_may_be_repeated_is_tried_again_a_second_later(method: str) -> None:
    with serving([Say("busy", 503), Say("slow", 429, {"Retry-After": "7"}), GOOD]) as server:
        door, slept = door_to(server.url, name="github")
        body = {"body": "x"} if method == "PATCH" else None
        assert door.write(method, "/x", body, check=read) == {"fine": True}
    assert [a.method for a in server.asked] == [method] * 3
    assert all(json.loads(a.body) == {"body": "x"} for a in server.asked if body)
    assert slept[0] >= 1.0
    assert slept[1] == 7.0


@pytest.mark.parametrize("lost", [Say("oops", 500), Say("slow", 504), HANGS_UP, RESETS, Say({"a": 1}, cut_at=3)])
def test_a_post_that_may_have_been_carried_out_is_not_repeated(lost: Say) -> None:
    with serving([lost, GOOD]) as server:
        door, slept = door_to(server.url, name="github", headers={"Authorization": "Bearer secret-token"})
        with pytest.raises(UnsureError) as caught:
            door.write("POST", "/x", {"body": "x"}, check=read)
    assert caught.value.exit_code == 3
    assert "secret-token" not in str(caught.value)
    assert len(server.asked) == 1
    assert slept == []


def test_a_post_that_was_turned_away_is_repeated() -> None:
    with serving([Say("slow down", 429), GOOD]) as server:
        door, slept = door_to(server.url, name="github")
        assert door.write("POST", "/x", {"body": "x"}, check=read) == {"fine": True}
    assert slept[0] >= 1.0


def test_a_post_that_reached_nobody_is_repeated() -> None:
    door, slept = door_to("http://127.0.0.1:1", name="github")
    with pytest.raises(SourceError) as caught:
        door.write("POST", "/x", {"body": "x"}, check=read)
    assert not isinstance(caught.value, UnsureError)
    assert len(slept) == door.policy.tries - 1
