"""A faulty network between the command and both servers: the lake is the same, what was retried is said, time is kept to."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pipeline.model import Window
from tests.faults import Asked, Say
from tests.proxy import LOUD, Proxy, between, hours_read, is_lines, question
from tests.troubled import DATE, DAY, HOUR_NS, PULLED, Servers, Site, hours, servers

pytestmark = [pytest.mark.live, pytest.mark.command]
WHAT = ("logs", "jobs", "alerts")
TWO_HOURS = ("--since", f"{DATE}T09:00:00Z", "--until", f"{DATE}T11:00:00Z")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with servers(tmp_path_factory.mktemp("servers")) as found:
        yield found


@pytest.fixture(scope="module")
def calm(both: Servers, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Pull the day over a network without faults."""
    site = Site.make(tmp_path_factory.mktemp("calm"), both.loki.url, both.prometheus.url)
    done = site.pull(*WHAT)
    assert done.returncode == 0, done.stderr
    assert site.rows().num_rows > 9000
    return site


def differing(site: Site, calm: Site, window: Window = DAY, tables: Sequence[str] = PULLED) -> list[str]:
    """Name the tables that are not the same rows in all columns, with how many there are and should be."""
    pairs = [(t, site.rows(t, window), calm.rows(t, window)) for t in tables]
    return [f"{t}: {a.num_rows} rows, not the {b.num_rows}" for t, a, b in pairs if not a.equals(b)]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])  # the day of `daily` below is a third
def test_with_three_requests_in_ten_faulty_the_lake_is_the_same(
    seed: int, both: Servers, calm: Site, tmp_path: Path
) -> None:
    with between(Proxy(both.loki.url, seed)) as loki, between(Proxy(both.prometheus.url, seed)) as prometheus:
        site = Site.make(tmp_path, loki.url, prometheus.url)
        done = site.pull(*WHAT)
    met = loki.met + prometheus.met
    assert differing(site, calm) == []
    assert done.returncode == 0, done.stderr
    assert all(r.complete for what in WHAT for r in site.records(what))
    assert len(met) > 10, met
    # of who the server is a page will do for an answer
    loud = sum(kind in LOUD and "query" in asked.form for p in (loki, prometheus) for asked, kind in p.asked)
    assert sum(map(int, re.findall(r"(\d+) asked again: ", done.stderr))) >= loud
    assert "HTTP 503" in done.stderr
    assert "HTTP 429" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["504", "silence", "missing", "empty"])  # what a door that tries again does not mend
def test_each_fault_twice_in_a_row_changes_nothing(kind: str, both: Servers, calm: Site, tmp_path: Path) -> None:
    with (
        between(Proxy(both.loki.url, 3, rate=0.5, kinds=[kind])) as loki,
        between(Proxy(both.prometheus.url, 4, rate=0.5, kinds=[kind])) as prometheus,
    ):
        site = Site.make(tmp_path, loki.url, prometheus.url)
        short = {"AISLOT_PROMETHEUS__LOOKBACK": "30m"}
        if kind == "silence":
            short |= {"AISLOT_LOKI__TIMEOUT": "2s", "AISLOT_PROMETHEUS__TIMEOUT": "2s"}
        done = site.run("-v", "pull", "logs", "jobs", *TWO_HOURS, env=short)
    assert loki.met[kind]
    assert prometheus.met[kind]
    window = type(DAY)(DAY.start + 9 * HOUR_NS, DAY.start + 11 * HOUR_NS)
    assert done.returncode == 0, done.stderr
    assert differing(site, calm, window, ("logs", "job_samples", "scrapes")) == []


@pytest.mark.slow
def test_a_whole_day_of_daily_over_a_faulty_network_ends_as_over_a_good_one(
    both: Servers, calm: Site, tmp_path: Path
) -> None:
    calm_report = calm.run("daily", "--date", str(DATE))
    with between(Proxy(both.loki.url, 11)) as loki, between(Proxy(both.prometheus.url, 11)) as prometheus:
        site = Site.make(tmp_path, loki.url, prometheus.url)
        done = site.run("-v", "daily", "--date", str(DATE))
    assert done.returncode == calm_report.returncode, done.stderr
    tables = (*PULLED, "attempts", "golden", "failures", "incidents", "alert_audit", "slo")
    assert differing(site, calm, tables=tables) == []


@pytest.mark.parametrize(("status", "says"), [(400, "bad question"), (422, "bad question")])
def test_a_refused_question_is_asked_once(status: int, says: str, both: Servers, tmp_path: Path) -> None:
    def refuse(asked: Asked, _: int) -> Say | None:
        return Say(says, status) if "query" in asked.form else None

    with (
        between(Proxy(both.loki.url, rate=0, hook=refuse)) as loki,
        between(Proxy(both.prometheus.url, rate=0, hook=refuse)) as prometheus,
    ):
        done = Site.make(tmp_path, loki.url, prometheus.url).pull("logs", "jobs")
    assert done.returncode == 3
    assert done.stderr.count(says) >= 2
    refused = Counter(question(a) for p in (loki, prometheus) for a, what in p.asked if what)
    assert len(refused) >= 2
    assert set(refused.values()) == {1}


def test_a_server_that_stays_in_trouble_is_asked_a_bounded_number_of_times(both: Servers, tmp_path: Path) -> None:
    def busy(asked: Asked, _: int) -> Say | None:
        return Say("busy", 503) if "query" in asked.form else None

    with between(Proxy(both.loki.url, rate=0, hook=busy)) as loki:
        done = Site.make(tmp_path, loki.url).pull("logs")
    assert done.returncode == 3
    assert "HTTP 503: busy (tried 6 times)" in done.stderr
    assert "5 asked again: HTTP 503 5" in done.stderr
    assert set(Counter(question(a) for a, what in loki.asked if what).values()) == {6}


@pytest.mark.slow
def test_a_deadline_for_the_whole_command_leaves_what_the_next_run_resumes(
    both: Servers, calm: Site, tmp_path: Path
) -> None:
    def slow(asked: Asked, _: int) -> None:
        time.sleep(0.4 if is_lines(asked) else 0)

    with between(Proxy(both.loki.url, rate=0, hook=slow)) as loki:
        site = Site.make(tmp_path, loki.url, loki_more="workers = 2")
        codes: list[int] = []
        done_hours: set[int] = set()
        while 0 not in codes and len(codes) < 20:
            first = len(loki.asked)
            began = time.monotonic()
            ended = site.pull("logs", options=("--max-runtime", "5s"))
            # the interpreter's own start and end come on top
            assert time.monotonic() - began < 15
            codes.append(ended.returncode)
            assert ended.returncode == 0 or "it goes on from here" in ended.stderr, ended.stderr
            assert done_hours.isdisjoint(hours_read(DAY.start, [a for a, _ in loki.asked[first:]])), codes
            done_hours = {(r.window.start - DAY.start) // HOUR_NS for r in site.records() if r.complete}
    assert codes == [4] * (len(codes) - 1) + [0]
    assert len(codes) > 1
    assert site.rows().equals(calm.rows())
    assert hours(site.rows()) == hours(calm.rows())
