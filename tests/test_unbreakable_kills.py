"""Killed a hundred times in a row, or two at once on one lake: the rows of an undisturbed run, and no broken file ever."""

from __future__ import annotations

import contextlib
import fcntl
import json
import multiprocessing
import os
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Self

import duckdb
import pyarrow.parquet as pq
import pytest

from pipeline import schemas
from tests.command import environment
from tests.faults import Asked
from tests.proxy import Proxy, between
from tests.troubled import DATE, DAY, KEY, PULLED, Servers, Site, hours, servers
from tests.world.options import NAMESPACE

pytestmark = [pytest.mark.live, pytest.mark.command]
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


class Reader:
    """Reads a lake all the time, in a process of its own, as other programs do."""

    def __init__(self, lake: Path, most: Mapping[int, int]) -> None:
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_read, args=(str(lake), dict(most), there), daemon=True)
        self._process.start()

    def stop(self) -> tuple[int, list[str]]:
        """Return how often it read everything, and what it met that no reader should."""
        self._here.send(None)
        reads, broken = self._here.recv()
        self._process.join()
        return int(reads), list(broken)


def _read(lake: str, most: Mapping[int, int], over: Any) -> None:
    reads, broken = 0, []
    while not over.poll(0.2):
        for look in (_parquet, _duckdb, _records):
            try:
                broken += look(Path(lake), most)
            except FileNotFoundError:
                pass  # listed, and replaced or taken away before it was opened
            except Exception as e:  # noqa: BLE001 - whatever a reader meets is what this is about
                broken.append(f"{type(e).__name__}: {e}")
        reads += 1
    over.send((reads, broken))


def _parquet(lake: Path, most: Mapping[int, int]) -> list[str]:
    for path in lake.glob("logs/date=*/*.parquet"):
        pq.read_table(path, page_checksum_verification=True, partitioning=None)
    return []


def _duckdb(lake: Path, most: Mapping[int, int]) -> list[str]:
    if not any(lake.glob("logs/date=*/*.parquet")):
        return []
    text = "select hour(ts at time zone 'UTC'), count(*) from read_parquet(?, hive_partitioning = true) group by all"
    with duckdb.connect(config={"threads": 1}) as db:
        found = db.execute(text, [f"{lake}/logs/*/*.parquet"]).fetchall()
    return [f"{n} rows at {hour} h" for hour, n in found if n > most[hour]]


def _records(lake: Path, most: Mapping[int, int]) -> list[str]:
    for path in lake.glob("_aislot/**/*.json"):
        json.loads(path.read_bytes())
    return []


# A process that has loaded the command starts others that need not: a hundred starts of an interpreter are minutes.
_NURSERY = """
import json, os, sys
from pipeline.cli import main
import pipeline.steps.daily, pipeline.steps.pull_logs, pipeline.steps.pull_prometheus
for line in sys.stdin:
    child = os.fork()
    if not child:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        sys.argv = ["aislot", *json.loads(line)]
        main()
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@dataclass
class Killer:
    """Starts the command and kills it: by the clock, a moment after one of its requests, or in the middle of a write."""

    site: Site
    rng: Random
    told: Counter[str] = field(default_factory=Counter)
    requests: int = 0

    def __enter__(self) -> Self:
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.nursery = subprocess.Popen(
            [sys.executable, "-c", _NURSERY], cwd=self.site.folder, env=environment(KEY), **pipes
        )
        return self

    def __exit__(self, *_: object) -> None:
        with self.nursery:
            self.nursery.kill()

    def hook(self, _asked: Asked, _number: int) -> None:
        """Count the requests of the process that runs now."""
        self.requests += 1

    def starting(self, *arguments: str) -> None:
        """Kill a process of its own within its first second, most of which is its start."""
        self.requests = 0
        command = [sys.executable, "-m", "pipeline", *arguments]
        nothing: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(command, cwd=self.site.folder, env=environment(KEY), **nothing) as child:
            time.sleep(self.rng.uniform(0, 1))
            child.kill()
        self._ended("starting", child.returncode)

    def asking(self, *arguments: str) -> None:
        """Kill what is loaded already a moment after one of its first requests."""
        wanted, moment = self.rng.randint(1, 8), self.rng.uniform(0, 0.2)
        self._run("asking", arguments, lambda: self.requests >= wanted, moment)

    def writing(self, most: int, *arguments: str) -> None:
        """Kill what is loaded already while one of the first files that it writes is not whole yet."""
        folder = self.site.lake / "_aislot/unfinished"
        before = self._unfinished(folder)
        seen: set[str] = set()
        wanted = self.rng.randint(1, most)

        def written() -> bool:
            found = self._unfinished(folder) - before
            seen.update(found)
            return bool(found) and len(seen) >= wanted

        self._run("writing", arguments, written, 0)

    def _run(self, how: str, arguments: Sequence[str], due: Callable[[], bool], moment: float) -> None:
        self.requests = 0
        assert self.nursery.stdin
        assert self.nursery.stdout
        self.nursery.stdin.write(json.dumps(arguments) + "\n")
        self.nursery.stdin.flush()
        child = int(self.nursery.stdout.readline())
        ended = select.poll()
        ended.register(self.nursery.stdout, select.POLLIN)
        late = time.monotonic() + self.rng.uniform(2, 6)
        while not due() and not ended.poll(1) and time.monotonic() < late:
            pass
        ended.poll(moment * 1000)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        self._ended(how, int(self.nursery.stdout.readline()))

    def _unfinished(self, folder: Path) -> set[str]:
        return {p.name for p in folder.iterdir()} if folder.exists() else set()

    def _ended(self, how: str, code: int) -> None:
        self.told[f"{how}: {'killed' if code < 0 else f'ended with {code}'}"] += 1
        self.told["left a file unfinished"] += bool(self._unfinished(self.site.lake / "_aislot/unfinished"))


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
        reader = Reader(site.lake, hours(calm.rows()))
        daily = ("daily", "--date", str(DATE))
        with Killer(site, Random(5)) as killer:
            loki.hook = prometheus.hook = killer.hook
            for n in range(100):
                # the day goes on while we kill, so that there is always something that was never read
                until = ("--since", f"{DATE}T00:00:00Z", "--until", f"{DATE}T{n * 24 // 100:02}:59:00Z")
                if n % 5 == 4:
                    killer.starting("pull", *WHAT, *until)
                elif n % 5 == 3:
                    killer.writing(20, *daily)
                elif n % 2:
                    killer.asking("pull", "logs", *until)
                else:
                    killer.writing(3, "pull", "logs", *until)
        done = site.run(*daily)
        reads, broken = reader.stop()
    assert done.returncode in {0, 4}, done.stderr
    assert broken == []
    assert reads > 50
    assert sum(n for how, n in killer.told.items() if "killed" in how) >= 60, killer.told
    assert killer.told["left a file unfinished"] >= 5, killer.told
    assert [t for t in (*PULLED, *schemas.DERIVED) if not site.rows(t).equals(calm.rows(t))] == [], killer.told
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


def test_who_waits_for_a_lake_waits_no_longer_than_the_command_may_take(calm: Site) -> None:
    with (calm.lake / "_aislot/lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with started(calm, "pull", "logs", "--date", str(DATE), "--max-runtime", "2s") as waits:
            _, said = waits.communicate(timeout=120)  # without that it waits ten minutes
    assert waits.returncode == 5, said
    assert "in use by" in said
