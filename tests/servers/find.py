"""Where the servers of the tests are: named by the environment, on PATH, or in the user's cache; nothing is made here."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_HERE = Path(__file__).parent
_CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


class MissingError(Exception):
    """A server that could not be had; the message says which and what to do."""


@dataclass(frozen=True)
class Server:
    """A server that the tests use, and where a fitting one is looked for."""

    name: str  # of its tool module beside this file, and in the cache
    says: str
    variable: str  # of the environment, naming a binary
    program: str
    companion: str  # the command-line tool that comes with it
    module: str
    package: str  # of Go, where the linker writes its version
    major: str

    @property
    def folder(self) -> Path:
        """Where its Go module is described: names, versions, hashes."""
        return _HERE / self.name

    @property
    def cached(self) -> Path:
        """Where its binaries are kept: another go.mod or go.sum is another folder."""
        pinned = b"".join((self.folder / name).read_bytes() for name in ("go.mod", "go.sum"))
        return cache() / f"{self.name}-{hashlib.sha256(pinned).hexdigest()[:16]}"


@dataclass(frozen=True)
class Found:
    """A server's binary and what it says its version is."""

    server: Server
    path: Path
    version: str

    @property
    def companion(self) -> Path:
        """The tool that belongs to it: beside it, else on PATH."""
        beside = self.path.parent / self.server.companion
        on_path = shutil.which(self.server.companion)
        if beside.is_file() or on_path is None:
            return beside
        return Path(on_path)


_PROMETHEUS = "github.com/prometheus/prometheus"
_STAMP = "github.com/prometheus/common/version"
SERVERS = {
    server.name: server
    for server in (
        Server(
            *("loki", "Loki 3", "LOKI_BIN", "loki", "logcli"),
            *("github.com/grafana/loki/v3", "github.com/grafana/loki/v3/pkg/util/build", "3"),
        ),
        Server("prometheus3", "Prometheus 3", "PROMETHEUS3_BIN", "prometheus", "promtool", _PROMETHEUS, _STAMP, "3"),
        Server("prometheus2", "Prometheus 2", "PROMETHEUS2_BIN", "prometheus", "promtool", _PROMETHEUS, _STAMP, "2"),
    )
}


def cache() -> Path:
    """Return the folder of the user's cache that holds what was built."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aislot" / "servers"


def find(server: Server) -> Found:
    """Return the server as the environment, PATH or the cache has it; raise MissingError where none does."""
    named = os.environ.get(server.variable)
    if named:
        return _fitting(server, Path(named)) or _refuse(server, named)
    on_path = shutil.which(server.program)
    if on_path and (found := _fitting(server, Path(on_path))):
        return found
    if found := find_cached(server):
        return found
    raise MissingError(f"no {server.says} here: run `make servers`, or set {server.variable} to a {server.program}")


def find_cached(server: Server) -> Found | None:
    """Return the server as the cache has it."""
    return _fitting(server, server.cached / server.program)


def find_chromium() -> Path:
    """Return the browser that the environment or PATH has; raise MissingError where none does."""
    named = os.environ.get("CHROMIUM_BIN")
    found = shutil.which(named) if named else next(filter(None, map(shutil.which, _CHROMIUMS)), None)
    if found:
        return Path(found)
    if named:
        raise MissingError(f"CHROMIUM_BIN is {named}, and that is no program")
    raise MissingError("no Chromium here: run `make servers`, or set CHROMIUM_BIN")


def _fitting(server: Server, path: Path) -> Found | None:
    version = _version(path) if path.is_file() else ""
    return Found(server, path, version) if version.split(".")[0] == server.major else None


def _refuse(server: Server, named: str) -> Found:
    # never another one in silence: who names a binary wants that one tested
    raise MissingError(f"{server.variable} is {named}, and that is no {server.says}")


def _version(path: Path) -> str:
    try:
        told = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=60, check=False)
    except OSError:
        return ""
    match = re.search(r"version (\d+(?:\.\d+)+)", told.stdout + told.stderr)
    return match[1] if match else ""
