"""Where the servers of the tests are: named by the environment, on PATH, or in the user's cache; nothing is made here."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_HERE = Path(__file__).parent
# after "loki, version", "etcd Version:" or "Kubernetes"
_VERSION = re.compile(r"(?:[Vv]ersion:?|Kubernetes) v?(\d+(?:\.\d+)+)")
_CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


class MissingError(Exception):
    """A server that could not be had; the message says which and what to do."""


@dataclass(frozen=True)
class Server:
    """A server that the tests use, and where a fitting one is looked for."""

    name: str  # of its tool module beside this file, and in the cache
    says: str
    variable: str  # of the environment, naming a binary
    programs: Mapping[str, str]  # the server's own, then what comes with it, each with its package of Go
    module: str
    stamp: str  # what the linker writes its version after; empty where its source knows it
    major: str
    asked: str = "--version"
    target: str = "servers"  # of the Makefile, which gets it

    @property
    def program(self) -> str:
        """The server's own program."""
        return next(iter(self.programs))

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
        """The program that comes with it: beside it, else on PATH."""
        *_, name = self.server.programs
        beside = self.path.parent / name
        on_path = shutil.which(name)
        if beside.is_file() or on_path is None:
            return beside
        return Path(on_path)


_LOKI = "github.com/grafana/loki/v3"
_PROMETHEUS = "github.com/prometheus/prometheus"
_PROMETHEUS_PROGRAMS = {name: f"{_PROMETHEUS}/cmd/{name}" for name in ("prometheus", "promtool")}
_KUBERNETES = "k8s.io/kubernetes"
_ETCD = "go.etcd.io/etcd/server/v3"
_STATE_METRICS = "k8s.io/kube-state-metrics/v2"
_STAMP = "github.com/prometheus/common/version.Version="
SERVERS = {
    server.name: server
    for server in (
        Server(
            *("loki", "Loki 3", "LOKI_BIN", {name: f"{_LOKI}/cmd/{name}" for name in ("loki", "logcli")}),
            *(_LOKI, f"{_LOKI}/pkg/util/build.Version=", "3"),
        ),
        Server("prometheus3", "Prometheus 3", "PROMETHEUS3_BIN", _PROMETHEUS_PROGRAMS, _PROMETHEUS, _STAMP, "3"),
        Server("prometheus2", "Prometheus 2", "PROMETHEUS2_BIN", _PROMETHEUS_PROGRAMS, _PROMETHEUS, _STAMP, "2"),
        Server("etcd", "etcd 3", "ETCD_BIN", {"etcd": _ETCD}, _ETCD, "", "3", target="cluster"),
        Server(
            *("kubernetes", "Kubernetes 1", "KUBE_APISERVER_BIN"),
            {name: f"{_KUBERNETES}/cmd/{name}" for name in ("kube-apiserver", "kube-controller-manager")},
            *(_KUBERNETES, "k8s.io/component-base/version.gitVersion=v", "1"),
            target="cluster",
        ),
        Server(
            *("kube-state-metrics", "kube-state-metrics 2", "KUBE_STATE_METRICS_BIN"),
            {"kube-state-metrics": _STATE_METRICS},
            *(_STATE_METRICS, _STAMP, "2"),
            asked="version",
            target="cluster",
        ),
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
    raise MissingError(
        f"no {server.says} here: run `make {server.target}`, or set {server.variable} to its {server.program}"
    )


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
    version = _version(path, server.asked) if path.is_file() else ""
    return Found(server, path, version) if version.split(".")[0] == server.major else None


def _refuse(server: Server, named: str) -> Found:
    # never another one in silence: who names a binary wants that one tested
    raise MissingError(f"{server.variable} is {named}, and that is no {server.says}")


def _version(path: Path, asked: str) -> str:
    try:
        told = subprocess.run([path, asked], capture_output=True, text=True, timeout=60, check=False)
    except OSError:
        return ""
    match = _VERSION.search(told.stdout + told.stderr)
    return match[1] if match else ""
