"""Killed a hundred times in a row, or two at once on one lake: the rows of an undisturbed run, and no broken file ever."""

from __future__ import annotations

import contextlib
import fcntl
import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Protocol

import duckdb
import pyarrow.parquet as pq
import pytest

from tests.command import environment
from tests.faults import Asked
from tests.proxy import Proxy, between
from tests.troubled import DATE, DAY, KEY, PULLED, Servers, Site, hours, servers
from tests.world.options import NAMESPACE

pytestmark = [pytest.mark.live, pytest.mark.command]
DERIVED = ("attempts", "golden", "failures", "incidents", "alert_audit", "slo")
WHAT = ("logs", "jobs", "alerts")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Give the world's servers, with some 20,000 lines more, so that hours are more than one answer."""
    with servers(tmp_path_factory.mktemp("servers")) as found:
        busy = {"namespace": NAMESPACE, "app": "codex-k8s-busy"}
        found.loki.push([(busy, [(DAY.start + n * 4 * 10**9, f"level=info msg=busy n={n}") for n in range(21_600)])])
        yield found


@pytest.fixture(scope="module")
def calm(both: Servers, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Do the day undisturbed."""
    site = Site.make(tmp_path_factory.mktemp("calm"), both.loki.url, both.prometheus.url)
    done = site.run("daily", "--date", str(DATE))
    assert done.returncode in {0, 4}, done.stderr
    assert site.rows().num_rows > 30_000
    return site


@dataclass
class Reader(threading.Thread):
    """Reads a lake all the time, as other programs do; keeps what it could not read, and whether rows were there twice."""

    lake: Path
    most: Mapping[int, int]
    reads: int = 0
    broken: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        while not self.over.wait(0.02):
            for look in (self._parquet, self._duckdb, self._records):
                try:
                    look()
                except FileNotFoundError:
                    pass  # listed, and replaced or taken away before it was opened
                except Exception as e:  # noqa: BLE001 - whatever a reader meets is what this is about
                    self.broken.append(f"{type(e).__name__}: {e}")
            self.reads += 1

    def _parquet(self) -> None:
        for path in self.lake.glob("logs/date=*/*.parquet"):
            pq.read_table(path, page_checksum_verification=True, partitioning=None)

    def _duckdb(self) -> None:
        if not any(self.lake.glob("logs/date=*/*.parquet")):
            return
        text = (
            "select hour(ts at time zone 'UTC'), count(*) from read_parquet(?, hive_partitioning = true) group by all"
        )
        with duckdb.connect() as db:
            found = db.execute(text, [f"{self.lake}/logs/*/*.parquet"]).fetchall()
        self.broken += [f"{n} rows at {hour}h" for hour, n in found if n > self.most[hour]]

    def _records(self) -> None:
        for path in self.lake.glob("_aislot/**/*.json"):
            if "unfinished" not in path.parts:
                json.loads(path.read_bytes())


class Process(Protocol):
    """What is killed."""

    def kill(self) -> None: ...


def _command(arguments: Sequence[str], folder: str, env: Mapping[str, str]) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    sys.argv = ["aislot", *arguments]
    from pipeline.cli import main  # noqa: PLC0415 - the settings of this process come first

    main()


@dataclass
class Killer:
    """Starts the command and kills it: some by the clock, some a moment after a request of theirs."""

    site: Site
    proxies: Sequence[Proxy]
    rng: Random
    told: Counter[str] = field(default_factory=Counter)
    wanted: int = -1
    seen: int = 0
    reached: threading.Event = field(default_factory=threading.Event)

    def hook(self, _asked: Asked, _number: int) -> None:
        """Count the requests of the process that runs now."""
        self.seen += 1
        if self.seen == self.wanted:
            self.reached.set()

    def starting(self, *arguments: str) -> None:
        """Kill a new process within its first second, most of which is its start."""
        self._begin(-1)
        command = [sys.executable, "-m", "pipeline", *arguments]
        child = subprocess.Popen(
            command, cwd=self.site.folder, env=environment(KEY), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(self.rng.uniform(0, 1.0))
        child.kill()
        self._ended(child.wait() == 0)

    def working(self, most: int, moment: float, *arguments: str) -> None:
        """Kill a process that need not start, a moment after one of its first requests."""
        self._begin(self.rng.randint(0, most))
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["pipeline.cli", "pipeline.steps.daily", "pipeline.steps.pull_logs"])
        child = context.Process(target=_command, args=(arguments, str(self.site.folder), environment(KEY)))
        child.start()
        until = time.monotonic() + 15
        while self.wanted and not self.reached.wait(0.005) and child.is_alive() and time.monotonic() < until:
            pass
        child.join(self.rng.uniform(0, moment))
        child.kill()
        child.join()
        self._ended(child.exitcode == 0)
        child.close()

    def _begin(self, wanted: int) -> None:
        self.wanted, self.seen = wanted, 0
        self.reached.clear()

    def _ended(self, done: bool) -> None:
        left = (self.site.lake / "_aislot/unfinished").glob("*")
        where = "done" if done else "before any request" if not self.seen else "at work"
        self.told[where] += 1
        self.told["within a write"] += not done and any(left)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_100_times_in_a_row_the_lake_is_that_of_an_undisturbed_run(
    both: Servers, calm: Site, tmp_path: Path
) -> None:
    with (
        between(Proxy(both.loki.url, rate=0)) as loki,
        between(Proxy(both.prometheus.url, rate=0)) as prometheus,
    ):
        site = Site.make(tmp_path, loki.url, prometheus.url)
        killer = Killer(site, (loki, prometheus), Random(5))
        loki.hook = prometheus.hook = killer.hook
        reader = Reader(site.lake, hours(calm.rows()))
        reader.start()
        for n in range(100):
            # the day goes on as it is killed, so that there is always something that was never read
            until = ("--since", f"{DATE}T00:00:00Z", "--until", f"{DATE}T{n * 24 // 100:02}:59:00Z")
            if n % 4 == 3:
                killer.starting("pull", *WHAT, *until)
            elif n % 8 == 6:
                killer.working(30, 1.5, "daily", "--date", str(DATE))
            else:
                killer.working(8, 0.3, "pull", "logs", *until)
        done = site.run("daily", "--date", str(DATE))
        reader.over.set()
        reader.join()
    assert done.returncode in {0, 4}, done.stderr
    assert reader.broken == []
    assert reader.reads > 50
    assert killer.told["before any request"] >= 5, killer.told
    assert killer.told["at work"] >= 50, killer.told
    assert [t for t in (*PULLED, *DERIVED) if not site.rows(t).equals(calm.rows(t))] == [], killer.told
    assert all(r.complete for what in WHAT for r in site.records(what))
    assert list((site.lake / "_aislot/unfinished").iterdir()) == []


@contextlib.contextmanager
def started(site: Site, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "pipeline", *arguments]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=site.folder, env=environment(KEY), **pipes) as child:
        yield child


def test_two_at_once_on_one_lake_take_turns_and_say_so(both: Servers, calm: Site, tmp_path: Path) -> None:
    site = Site.make(tmp_path, both.loki.url, both.prometheus.url)
    arguments = ("pull", *WHAT, "--date", str(DATE))
    with started(site, *arguments) as one, started(site, *arguments) as other:
        said = [child.communicate(timeout=120)[1] for child in (one, other)]
    assert [one.returncode, other.returncode] == [0, 0], said
    waited = [text for text in said if "the lake is in use by aislot on" in text and "waiting" in text]
    assert len(waited) == 1, said
    assert [t for t in PULLED if not site.rows(t).equals(calm.rows(t))] == []
    assert list((site.lake / "_aislot/unfinished").iterdir()) == []


def test_who_only_reads_a_lake_need_not_wait(calm: Site) -> None:
    with (calm.lake / "_aislot/lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = calm.run("report", "daily", "--date", str(DATE), "--out", "elsewhere")
    assert done.returncode in {0, 4}, done.stderr
    assert "waiting" not in done.stderr
