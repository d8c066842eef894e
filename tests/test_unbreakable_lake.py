"""A full disk, a read-only lake, a server that restarts, a token that expires: said clearly, and the next run goes on."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import requests

from tests.command import environment
from tests.faults import Asked, Say
from tests.proxy import Proxy, between, hours_read, is_lines
from tests.servers.run import LokiServer, PrometheusServer
from tests.troubled import DATE, DAY, HOUR_NS, KEY, PULLED, Servers, Site, servers

pytestmark = [pytest.mark.live, pytest.mark.command]
TOKEN = "example-token-of-the-tests"


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with servers(tmp_path_factory.mktemp("servers")) as found:
        yield found


@pytest.fixture(scope="module")
def calm(both: Servers, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Pull the day undisturbed."""
    site = Site.make(tmp_path_factory.mktemp("calm"), both.loki.url, both.prometheus.url)
    done = site.pull("logs", "jobs", "alerts")
    assert done.returncode == 0, done.stderr
    return site


def whole(lake: Path) -> int:
    """Read every data file of a lake and return how many there are: half a file would not be read."""
    files = list(lake.glob("**/date=*/*.parquet"))
    for path in files:
        pq.read_table(path, page_checksum_verification=True, partitioning=None)
    return len(files)


def with_mounts(script: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a shell script that may mount what only it sees. Skips where this machine does not allow that."""
    unshare = shutil.which("unshare")
    if not unshare:
        pytest.skip("there is no unshare here, so that no file system of a test's own can be mounted")
    probe = [unshare, "-rm", "mount", "-t", "tmpfs", "tmpfs", str(cwd)]
    tried = subprocess.run(probe, capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no file system of a test's own can be mounted here: {tried.stderr.strip()}")
    env = environment(KEY) | {"AISLOT": f"{sys.executable} -m pipeline"}
    command = [unshare, "-rm", "sh", "-euc", script, "sh", *arguments]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.parametrize("size", ["400k", "16k"])
def test_on_a_full_disk_what_was_written_stays_and_the_next_run_goes_on(
    size: str, both: Servers, calm: Site, tmp_path: Path
) -> None:
    site = Site.make(tmp_path, both.loki.url, both.prometheus.url)
    site.lake.mkdir()
    script = """
        pull="$AISLOT pull logs jobs alerts --date $1"
        mount -t tmpfs -o size="$2" tmpfs lake
        code=0; $pull || code=$?
        echo "first: $code"
        cp -r lake full
        code=0; $pull || code=$?
        echo "again: $code"
        mount -o remount,size=100m lake
        code=0; $pull || code=$?
        echo "last: $code"
        cp -r lake kept
    """
    done = with_mounts(script, str(DATE), size, cwd=tmp_path)
    assert done.stdout.split("\n")[:3] == ["first: 5", "again: 5", "last: 0"], done.stderr
    assert done.stderr.count("No space left on device") == 2
    assert "free some space" in done.stderr
    assert "is whole and is kept" in done.stderr
    whole(tmp_path / "full")
    kept = Site(tmp_path / "kept-site")
    kept.folder.mkdir()
    (tmp_path / "kept").rename(kept.lake)
    assert [t for t in PULLED if not kept.rows(t).equals(calm.rows(t))] == []
    assert list((kept.lake / "_aislot/unfinished").iterdir()) == []


def test_a_file_that_may_not_grow_so_large_is_said_and_leaves_nothing_half(both: Servers, tmp_path: Path) -> None:
    def limited(largest: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pipeline", "pull", "logs", "--date", str(DATE)],
            cwd=tmp_path,
            env=environment(KEY) | {"PYTHONDONTWRITEBYTECODE": "1"},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest)),
            capture_output=True,
            text=True,
            check=False,
        )

    site = Site.make(tmp_path, both.loki.url)
    done = limited(2000)
    assert done.returncode == 5, done.stderr
    assert "File too large" in done.stderr
    assert whole(site.lake) == 0
    assert not any((site.lake / "_aislot/unfinished").iterdir())
    assert limited(1 << 30).returncode == 0


READ_ONLY = """
    mount --bind lake lake
    mount -o remount,bind,ro lake
    code=0; $AISLOT pull logs --date "$1" || code=$?
    echo "pull: $code"
    code=0; $AISLOT daily --date "$1" || code=$?
    echo "daily: $code"
    code=0; $AISLOT report daily --date "$1" --out elsewhere || code=$?
    echo "report: $code"
"""


def test_a_read_only_lake_is_said_and_can_be_reported_from(both: Servers, tmp_path: Path) -> None:
    site = Site.make(tmp_path, both.loki.url, both.prometheus.url)
    made = site.run("daily", "--date", str(DATE))
    assert made.returncode in {0, 4}, made.stderr
    before = {p: p.stat().st_mtime_ns for p in site.lake.rglob("*")}
    done = with_mounts(READ_ONLY, str(DATE), cwd=tmp_path)
    said = [line for line in done.stdout.splitlines() if ": " in line and not line.startswith("/")]
    assert said == ["pull: 5", "daily: 5", f"report: {made.returncode}"], done.stderr
    assert "Read-only file system" in done.stderr
    assert "permissions" in done.stderr
    assert {p: p.stat().st_mtime_ns for p in site.lake.rglob("*")} == before


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_a_lake_without_permission_is_said(both: Servers, tmp_path: Path) -> None:
    site = Site.make(tmp_path, both.loki.url)
    site.lake.mkdir(mode=0o555)
    done = site.pull("logs")
    assert done.returncode == 5
    assert "Permission denied" in done.stderr


def once(at: int, what: Callable[[], None]) -> Callable[[Asked, int], None]:
    """Return a hook that does something at the `at`-th request that asks for lines or samples; others go on meanwhile."""
    seen = iter(range(1, 1 << 30))
    lock = threading.Lock()

    def hook(asked: Asked, _: int) -> None:
        if not is_lines(asked) and not asked.path.startswith("/api/v1/query"):
            return
        with lock:
            due = next(seen) == at
        if due:
            what()

    return hook


def crashes(server: LokiServer | PrometheusServer) -> Callable[[], None]:
    """Return what ends a server as want of memory does, and starts it again."""

    def crash() -> None:
        server.kill()
        server.start()

    return crash


def test_servers_that_crash_and_come_back_in_the_middle_cost_no_row(both: Servers, calm: Site, tmp_path: Path) -> None:
    with (
        between(Proxy(both.loki.url, rate=0, hook=once(4, crashes(both.loki)))) as loki,
        between(Proxy(both.prometheus.url, rate=0, hook=once(3, crashes(both.prometheus)))) as prometheus,
    ):
        site = Site.make(tmp_path, loki.url, prometheus.url)
        done = site.pull("logs", "jobs", "alerts")
    assert done.returncode == 0, done.stderr
    assert loki.met["upstream is away"]
    assert [t for t in PULLED if not site.rows(t).equals(calm.rows(t))] == []


@pytest.mark.slow
def test_a_server_that_takes_its_time_to_restart_is_said_and_the_next_run_goes_on(
    both: Servers, calm: Site, tmp_path: Path
) -> None:
    # Loki lets go of its queriers first: what is asked meanwhile gets no answer for half a minute
    with between(Proxy(both.loki.url, rate=0, hook=once(12, both.loki.restart))) as loki:
        site = Site.make(tmp_path, loki.url, loki_more="workers = 1")
        done = site.pull("logs")
        assert done.returncode in {0, 3}, done.stderr
        assert done.returncode == 0 or f"loki at {loki.url}" in done.stderr
        read = {(r.window.start - DAY.start) // HOUR_NS for r in site.records() if r.complete}
        assert read
        wait_until_back(both.loki)
        first = len(loki.asked)
        assert site.pull("logs").returncode == 0
        assert read.isdisjoint(hours_read(DAY.start, [a for a, _ in loki.asked[first:]]))
    assert site.rows().equals(calm.rows())


def wait_until_back(server: LokiServer) -> None:
    """Wait for a restart that another thread sees to."""
    for _ in range(900):
        try:
            server.get("/loki/api/v1/labels")
        except requests.RequestException:
            time.sleep(0.1)
        else:
            return
    pytest.fail(f"{server.url} did not come back")


def expired(after: int) -> Callable[[Asked, int], Say | None]:
    """Return a hook that refuses everything from a request on, in words that hold the token."""

    def hook(asked: Asked, number: int) -> Say | None:
        assert asked.headers["Authorization"] == f"Bearer {TOKEN}"
        return Say(f"token {TOKEN} has expired", 401) if number >= after else None

    return hook


@pytest.mark.parametrize("command", ["pull", "daily"])
def test_a_token_that_expires_in_the_middle_is_said_and_what_was_read_is_not_read_again(
    command: str, both: Servers, calm: Site, tmp_path: Path
) -> None:
    env = {"AISLOT_LOKI__BEARER_TOKEN": TOKEN}
    arguments = ("-v", command, *(["logs"] if command == "pull" else []), "--date", str(DATE))
    with between(Proxy(both.loki.url, rate=0)) as loki:
        Site.make(tmp_path / "undisturbed", loki.url, loki_more="workers = 1").run(*arguments, env=env)
        most = len(loki.asked)
    with between(Proxy(both.loki.url, rate=0, hook=expired(most * 3 // 4))) as loki:
        site = Site.make(tmp_path, loki.url, loki_more="workers = 1")
        done = site.run(*arguments, env=env)
        assert done.returncode == 3, done.stderr
        assert "HTTP 401" in done.stderr
        assert "check the credentials and the tenant of [loki]" in done.stderr
        assert TOKEN not in done.stderr + done.stdout
        assert TOKEN not in files(site.folder)
        read = {(r.window.start - DAY.start) // HOUR_NS for r in site.records() if r.complete}
        assert 0 < len(read) < 24
        refused = len(loki.asked)
        loki.hook = lambda _asked, _number: None
        healed = site.run(*arguments, env=env)
        assert healed.returncode in {0, 4}, healed.stderr
        assert read.isdisjoint(hours_read(DAY.start, [a for a, _ in loki.asked[refused:]]))
    assert site.rows().equals(calm.rows())
    if command == "daily":
        summary = json.loads((site.folder / "out/daily" / str(DATE) / "summary.json").read_text("utf-8"))
        assert summary["data"]["loki"]["complete"] is True


def files(folder: Path) -> str:
    """Return all text of a folder."""
    return " ".join(
        p.read_text("utf-8", "replace") for p in folder.rglob("*") if p.is_file() and p.suffix != ".parquet"
    )
