"""Traps 8 to 11, 14 and 15 of Loki: what its settings, its store, its caches and its limits hide, cut off or double.

Every test shows first what a plain client gets from a Loki with the settings that provoke the trap.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
import requests

from tests.command import environment
from tests.faults import Asked
from tests.proxy import Proxy, between, is_lines
from tests.servers.run import BY_STORE, LokiServer, LokiWith
from tests.traps import APART, DAY, END, HOUR, MINUTE, MS, SECOND, START, Client, Line, Pulled, Puller, app, push, trace

pytestmark = pytest.mark.command

HIDING = {"auth_enabled": True, "limits_config": {"max_query_lookback": "1h"}}
# what a cluster has by default, and the one process of the tests has not
AS_A_CLUSTER = {"querier": {"query_ingesters_within": "3h"}, "ingester": {"query_store_max_look_back_period": "0s"}}
_EMBEDDED = {"cache": {"embedded_cache": {"enabled": True, "max_size_mb": 100}}}
CACHED = {
    "query_range": {
        "cache_results": True,
        "cache_instant_metric_results": True,
        "cache_series_results": True,
        "cache_index_stats_results": True,
        "results_cache": _EMBEDDED,
    }
}
NO_CACHE = {"Cache-Control": "no-cache"}
# answers of a megabyte are too large for the frontend, and those of 4 MiB for the ingester; nobody tries five times
LARGE = {
    "frontend_worker": {"query_frontend_grpc_client": {"max_recv_msg_size": 1_000_000}},
    "query_range": {"max_retries": 1},
}
IMPATIENT = {"server": {"http_server_write_timeout": "1s"}, "limits_config": {"query_timeout": "2s"}}
HURRIED = {"limits_config": {"query_timeout": "20ms"}}
RESHARDING = {
    "limits_config": {"shard_streams": {"enabled": True, "desired_rate": "1KB"}},
    "distributor": {"rate_store": {"stream_rate_update_interval": "200ms"}},
}
# a list of streams alone is asked in 16 parts
CROWDED = {
    "query_scheduler": {"max_outstanding_requests_per_tenant": 16},
    "querier": {"max_concurrent": 1},
    "limits_config": {"max_entries_limit_per_query": 100},
}
SMALL = {"limits_config": {"max_entries_limit_per_query": 200}}

# the command, which the kernel kills as it publishes its n-th file
KILLED = """
import os, signal, sys
left = [int(sys.argv.pop(1))]
def killed(rename):
    def call(*names, **more):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(*names, **more)
    return call
os.replace, os.rename = killed(os.replace), killed(os.rename)
from pipeline.cli import main
main()
"""


def minute_before(now: int, ago: int) -> int:
    """Return the whole minute some time ago."""
    return (now - ago) // MINUTE * MINUTE


def check_missing(pulled: Pulled, pushed: Counter[Line]) -> None:
    """Assert that what is not there is said to be missing, and the rest is there once."""
    lost = pushed - pulled.lines
    assert lost
    assert pulled.lines == pushed - lost
    assert [line for line in lost if not any(line.ts in gap for gap in pulled.gaps)] == []
    assert pulled.exit_code == 4, pulled.said


def test_trap_08_what_is_older_than_the_lookback_is_said_to_be_missing(loki_with: LokiWith, tmp_path: Path) -> None:
    server, now = loki_with(HIDING), time.time_ns()
    pushed = push(server, "old", [Line(now - n * MINUTE, f"{n} min ago") for n in (150, 90, 30, 20)], "us")
    client = Client(server, "old", "us")
    reply = client.page(now - 3 * HOUR, now - 2 * HOUR)
    assert (reply.status_code, reply.json()["data"]["result"]) == (200, [])
    assert client.count(now - 2 * HOUR, "1h") == 0
    assert client.ask("drilldown-limits").json()["limits"]["max_query_lookback"] == "1h"
    pulled = Puller(tmp_path, server.url, "old", "us").pull(now - 3 * HOUR, minute_before(now, 15 * MINUTE))
    assert [line.text for line in sorted(pulled.lines)] == ["30 min ago", "20 min ago"]
    check_missing(pulled, pushed)


def test_trap_08_a_window_before_the_lookback_is_missing_as_a_whole(loki_with: LokiWith, tmp_path: Path) -> None:
    server, now = loki_with(HIDING), time.time_ns()
    pushed = push(server, "older", [Line(now - 2 * HOUR, "hidden")], "us")
    start, end = minute_before(now, 3 * HOUR), minute_before(now, 90 * MINUTE)
    pulled = Puller(tmp_path, server.url, "older", "us").pull(start, end)
    check_missing(pulled, pushed)
    assert sum(gap.length for gap in pulled.gaps) == end - start


@pytest.mark.slow
def test_trap_08_the_lookback_moves_on_while_a_pull_waits(loki_with: LokiWith, tmp_path: Path) -> None:
    server, now = loki_with(HIDING), time.time_ns()
    # as the command begins most of these can be seen, as its first count is answered none
    passing = [Line(now - HOUR + n * SECOND // 4, f"{n}") for n in range(36)]
    pushed = push(server, "edge", [*passing, Line(now - 30 * MINUTE, "30 min ago")], "us")
    waited: list[int] = []

    def waits(asked: Asked, number: int) -> None:
        if not waited and asked.form.get("query", "").startswith("sum"):
            waited.append(number)
            time.sleep(9)

    with between(Proxy(server.url, rate=0, hook=waits)) as proxy:
        pulled = Puller(tmp_path, proxy.url, "edge", "us").pull(now - 2 * HOUR, minute_before(now, 15 * MINUTE))
    assert waited
    check_missing(pulled, pushed)


def test_trap_08_another_tenant_is_an_empty_success(loki_with: LokiWith, tmp_path: Path) -> None:
    """Nothing tells a tenant that does not exist from one that wrote nothing: no question about it fails."""
    server, now = loki_with(HIDING), time.time_ns()
    pushed = push(server, "ours", [Line(now - 20 * MINUTE, "ours")], "us")
    assert Client(server, "ours", "them").lines(now - HOUR, now) == []
    start, end = minute_before(now, 30 * MINUTE), minute_before(now, 15 * MINUTE)
    pulled = Puller(tmp_path, server.url, "ours", "them").pull(start, end)
    assert (pulled.exit_code, pulled.lines, pulled.proof("counted")) == (0, Counter(), 0)
    assert Puller(tmp_path, server.url, "ours").pull(start, end).exit_code == 3  # no tenant at all is refused
    # what was recorded of another tenant is no proof for ours
    Puller(tmp_path, server.url, "ours", "us").pull(start, end).check_all(pushed)


def test_trap_09_a_line_that_comes_two_hours_late_is_found(loki_with: LokiWith, tmp_path: Path) -> None:
    server, now = loki_with(AS_A_CLUSTER), time.time_ns()
    pushed = push(server, "late", [Line(now - 2 * HOUR - MINUTE, "in time")])
    server.flush()
    puller = Puller(tmp_path, server.url, "late")
    start, end = minute_before(now, 3 * HOUR), minute_before(now, HOUR)
    puller.pull(start, end).check_all(pushed)  # who marks this window as done never looks again
    pushed += push(server, "late", [Line(now - 2 * HOUR, "two hours late")])
    pulled = puller.pull(start, end)
    pulled.check_all(pushed)
    assert pulled.proof("late") == 1


def test_trap_09_a_line_six_days_late_is_there_for_nobody_until_it_is_stored(
    loki_with: LokiWith, tmp_path: Path
) -> None:
    server, now = loki_with(AS_A_CLUSTER), time.time_ns()
    puller, client = Puller(tmp_path, server.url, "very-late"), Client(server, "very-late")
    start, end = minute_before(now, 6 * DAY + HOUR), minute_before(now, 6 * DAY - HOUR)
    pushed = push(server, "very-late", [Line(now - 6 * DAY, "six days late")])
    assert (client.lines(start, end), client.lines(start, now), client.count(end, "2h")) == ([], [], 0)
    puller.pull(start, end).check_all({})
    server.flush()
    assert len(client.lines(start, end)) == 1
    pulled = puller.pull(start, end)
    pulled.check_all(pushed)
    assert pulled.proof("late") == 1


def test_trap_10_an_answer_from_the_cache_hides_a_late_line(loki_with: LokiWith, tmp_path: Path) -> None:
    """On 3.7.8 `Cache-Control: no-cache` helps with instant queries alone: what is split by time forgets it."""
    server = loki_with(CACHED)
    puller, plain = Puller(tmp_path, server.url, "cached"), Client(server, "cached")
    filtered = Client(server, "cached", more=' |= "late"')
    pushed = push(server, "cached", [Line(START + n * MINUTE, f"line {n}") for n in range(5)])
    puller.pull().check_all(pushed)
    half = START + HOUR // 2
    assert (filtered.lines(half, END), plain.counts(half, END), plain.count(END, "30m")) == ([], 0, 0)
    pushed += push(server, "cached", [Line(half + MINUTE, "late", app("another"))])
    assert [filtered.lines(half, END, headers=headers) for headers in (None, NO_CACHE)] == [[], []]
    assert [plain.counts(half, END, headers) for headers in (None, NO_CACHE)] == [0, 0]
    assert [plain.count(END, "30m", headers) for headers in (None, NO_CACHE)] == [0, 1]
    puller.pull().check_all(pushed)


def heavy(lines: int = 60) -> list[Line]:
    """Make lines of 100 kB."""
    return [Line(START + n * SECOND, f"{n} {'x' * 100_000}") for n in range(lines)]


def test_trap_11_metadata_kept_apart_makes_a_success_of_an_error(loki_with: LokiWith, tmp_path: Path) -> None:
    server = loki_with(LARGE)
    pushed = push(server, "swallowed", heavy())
    client = Client(server, "swallowed")
    assert client.page(START, END).status_code == 500
    reply = client.page(START, END, headers=APART)
    assert (reply.status_code, reply.json()["data"]["result"]) == (200, [])
    assert client.count(END, "1h") == 59  # without the one at START
    Puller(tmp_path, server.url, "swallowed").pull().check_all(pushed)


class Broken:
    """Three stored chunks of a Loki that reads its store as a cluster does; the second one's file is gone."""

    def __init__(self, server: LokiServer) -> None:
        self.server = server
        self.pushed: Counter[Line] = Counter()
        for k in range(3):
            lines = [Line(START + k * 20 * MINUTE + n * SECOND, f"line {n} of chunk {k}") for n in range(100)]
            self.pushed += push(server, "broken", lines)
            server.flush()
        files = [path for path in (server.data / "chunks/fake").rglob("*") if path.is_file()]
        self._file = sorted(files, key=lambda path: path.stat().st_mtime)[1]
        self._bytes = self._file.read_bytes()
        self._file.unlink()
        # what was just written is in the cache of chunks
        server.kill()
        server.start()

    def mend(self) -> None:
        """Put the chunk back."""
        self._file.write_bytes(self._bytes)


@pytest.mark.slow
def test_trap_11_a_chunk_that_cannot_be_read_is_no_error_to_loki(new_loki: LokiWith, tmp_path: Path) -> None:
    """On 3.7.8 lines and counts agree without it, with any header; only the statistics of an answer tell."""
    broken = Broken(new_loki(BY_STORE))
    client = Client(broken.server, "broken")
    for headers in (None, APART):
        assert len(client.lines(START, END, headers=headers)) == 200
        chunks = client.page(START, END, headers=headers).json()["data"]["stats"]["cache"]["chunk"]
        assert chunks["entriesFound"] + chunks["entriesStored"] < chunks["entriesRequested"] == 3
    assert client.count(END - 1, "1h") == client.counts(START - 10 * SECOND, END) == 200
    check_missing(Puller(tmp_path, broken.server.url, "broken").pull(), broken.pushed)


@pytest.mark.slow
def test_trap_11_what_could_not_be_read_is_found_when_it_is_there_again(new_loki: LokiWith, tmp_path: Path) -> None:
    broken = Broken(new_loki(BY_STORE))
    puller = Puller(tmp_path, broken.server.url, "broken")
    pulled = puller.pull()
    assert len(pulled.lines) == 200
    broken.mend()
    puller.pull().check_all(broken.pushed)


@pytest.mark.slow
def test_trap_11_an_answer_that_is_cut_off_is_asked_for_in_halves(loki_with: LokiWith, tmp_path: Path) -> None:
    server = loki_with(IMPATIENT)
    pushed = push(server, "cut", [Line(START + n * 100 * MS, f"{n} {'x' * 1200}") for n in range(4000)])
    server.flush()
    with pytest.raises(requests.ConnectionError):
        Client(server, "cut").page(START, END)
    Puller(tmp_path, server.url, "cut").pull().check_all(pushed)


def test_trap_11_a_query_timeout_is_loud(loki_with: LokiWith, tmp_path: Path) -> None:
    """On 3.7.8 a query_timeout is a 504 with metadata kept apart too, or the whole answer where it came in time."""
    server = loki_with(HURRIED)
    lines = [Line(START + n * 70 * MS, f"{n} {'x' * 300}", app(f"{n % 4}"), trace(n)) for n in range(10_000)]
    pushed = push(server, "hurried", lines)
    client = Client(server, "hurried")
    assert {client.page(START, END, headers=headers).status_code for headers in (None, APART)} == {504}
    pulled = Puller(tmp_path, server.url, "hurried").pull()
    if pulled.exit_code == 0:
        pulled.check_all(pushed)
    else:
        assert pulled.exit_code in {3, 4}
        assert "query_timeout" in pulled.said


def test_trap_14_a_batch_that_is_stored_twice_comes_once(loki_with: LokiWith, tmp_path: Path) -> None:
    """The merge without comparison could not be provoked: on 3.7.8 every answer had each line once."""
    server = loki_with(BY_STORE)
    lines = [Line(START + n * SECOND, f"line {n}", app(f"{n % 3}")) for n in range(1, 1001)]
    for _ in range(3):
        pushed = push(server, "thrice", lines)
        server.flush()
    client = Client(server, "thrice")
    assert (len(client.lines(START, END)), client.count(END, "1h")) == (1000, 1000)
    Puller(tmp_path, server.url, "thrice").pull().check_all(pushed)


@pytest.mark.slow
def test_trap_14_a_batch_pushed_again_into_other_shards_is_other_lines(loki_with: LokiWith, tmp_path: Path) -> None:
    server = loki_with(RESHARDING)
    lines = [Line(START + n * SECOND, f"{n} {'x' * 300}") for n in range(200)]
    for _ in range(4):
        pushed = push(server, "reshard", lines)
        time.sleep(1.2)  # the rate of a stream is known after a second
    given = Client(server, "reshard").lines(START, END, headers=APART)
    assert len(given) > len(pushed)
    pulled = Puller(tmp_path, server.url, "reshard").pull()
    pulled.check_all(Counter(set(given)))

    def whole(line: Line) -> Line:
        return line._replace(labels=tuple(pair for pair in line.labels if pair[0] != "__stream_shard__"))

    assert {whole(line) for line in pulled.lines} == set(pushed)


def test_trap_15_an_answer_too_large_is_asked_for_in_parts(loki_with: LokiWith, tmp_path: Path) -> None:
    server = loki_with(LARGE)
    pushed = push(server, "heavy", heavy())
    client = Client(server, "heavy")
    said = {limit: client.page(START, END, limit) for limit in (5000, 20)}
    assert said[5000].status_code == 500
    assert "ResourceExhausted" in said[5000].text
    assert said[20].status_code == 413
    pulled = Puller(tmp_path, server.url, "heavy").pull()
    pulled.check_all(pushed)
    assert pulled.proof("requests") < 4 * len(pushed)


def test_trap_15_too_many_questions_at_once_are_asked_again(loki_with: LokiWith, tmp_path: Path) -> None:
    server = loki_with(CROWDED)
    pushed = push(server, "crowd", [Line(START + n * SECOND, f"{n}", app(f"{n % 3}")) for n in range(3600)])
    said: Counter[int] = Counter()
    asking = [
        threading.Thread(target=lambda: said.update([Client(server, "crowd").page(START, END, 100).status_code]))
        for _ in range(60)
    ]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert said[429]
    Puller(tmp_path, server.url, "crowd", env={"AISLOT_LOKI__WORKERS": "40"}).pull().check_all(pushed)


@pytest.mark.slow
def test_trap_15_a_server_that_dies_in_the_middle_is_waited_for(new_loki: LokiWith, tmp_path: Path) -> None:
    server = new_loki(SMALL)
    pushed = push(server, "dies", [Line(START + n * 10 * SECOND, f"{n}") for n in range(1000)])
    server.flush()
    died: list[int] = []

    def dies(asked: Asked, number: int) -> None:
        if is_lines(asked) and len(died) < 2 and number > 20 * len(died):
            died.append(number)
            server.kill()
            server.start()

    with between(Proxy(server.url, rate=0, hook=dies)) as proxy:
        pulled = Puller(tmp_path, proxy.url, "dies").pull(START, START + 3 * HOUR)
    assert died
    pulled.check_all(pushed)


@pytest.mark.slow
def test_trap_15_killed_as_it_publishes_a_file_it_goes_on_from_there(loki_with: LokiWith, tmp_path: Path) -> None:
    server = loki_with(SMALL)
    pushed = push(server, "killed", [Line(START + n * 10 * SECOND, f"{n}") for n in range(1000)])
    window = (START, START + 3 * HOUR)
    for nth in range(1, 20):
        puller = Puller(tmp_path / f"{nth}", server.url, "killed")
        puller.folder.mkdir()
        command = [sys.executable, "-c", KILLED, str(nth), *puller.arguments(*window)]
        done = subprocess.run(
            command,
            cwd=puller.folder,
            env=environment(puller.environment),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        pulled = puller.pulled(done.returncode, done.stderr)
        assert pulled.lines <= pushed  # what is there is whole, and there once
        puller.pull(*window).check_all(pushed)
        if done.returncode == 0:
            break
        assert done.returncode == -9
    else:
        pytest.fail("it publishes files without end")


def test_trap_15_what_is_known_of_one_selector_is_not_taken_for_another(loki_with: LokiWith, tmp_path: Path) -> None:
    server = loki_with(SMALL)
    one = push(server, "one", [Line(START + n * SECOND, f"one {n}") for n in range(300)])
    two = push(server, "two", [Line(START + n * 2 * SECOND, f"two {n}") for n in range(150)])
    Puller(tmp_path, server.url, "one").pull().check_all(one)
    # the same window into the same lake: what it had stays, though half of it shares its instant with a new line
    pulled = Puller(tmp_path, server.url, "two").pull()
    assert pulled.exit_code == 0, pulled.said
    pulled.check_lines(one + two)
    assert pulled.proof("gone_from_server") == 0  # what another selector chose is not gone
