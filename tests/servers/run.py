"""Run a real Loki or Prometheus for a test: one process on 127.0.0.1, its data below a folder that the caller gives."""

from __future__ import annotations

import contextlib
import gzip
import json
import shutil
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

import requests

from tests.servers import remote_write
from tests.servers.find import SERVERS, find

# ns and text, and structured metadata where there is some
Entry: TypeAlias = tuple[int, str] | tuple[int, str, Mapping[str, str]]
Stream: TypeAlias = tuple[Mapping[str, str], Iterable[Entry]]
Settings: TypeAlias = Mapping[str, Any]

# settings under which Loki reads lines older than some hours from its store alone, as a cluster does: flush first
BY_STORE: Settings = {"ingester": {"query_store_max_look_back_period": "0s"}}
_READY_S = 120.0
_PARTS_S = 10.0
_STOP_S = 60.0
_NOTHING = 'count_over_time({app="nothing"}[1s])'
_PUSH_ENTRIES = 10_000
_PUSH_CHARACTERS = 2_000_000  # Loki hands a push on to its ingester over gRPC, which takes 4 MiB


class NotStartedError(Exception):
    """A server that ended or stayed silent instead of becoming ready; the message has the tail of its log."""


class ServerProcess(ABC):
    """A server process; as a context manager it runs within the block."""

    ready_path: str

    def __init__(self, name: str, folder: Path) -> None:
        self.binary = find(SERVERS[name])
        self.program = self.binary.path
        self.folder = folder
        self.data = folder / "data"
        self.data.mkdir(parents=True, exist_ok=True)
        self.log = folder / "server.log"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @abstractmethod
    def command(self) -> list[str]:
        """Write the configuration and return the command line."""

    def start(self) -> None:
        """Start the process and wait until it is ready."""
        if self._process is not None:
            raise RuntimeError(f"{self.url} runs already")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self.command(), stdout=log, stderr=subprocess.STDOUT, cwd=self.folder)
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Ask the process to end and wait; its data stay."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the process as a crash would; its data stay."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop the process and start it on the same port and data."""
        self.stop()
        self.start()

    def discard(self) -> None:
        """Stop the process and delete its data; the log stays."""
        self.stop()
        shutil.rmtree(self.data, ignore_errors=True)

    def get(self, path: str, **parameters: str | float) -> Any:
        """Return the JSON that the server answers to a GET; any status but success raises."""
        return self._ask("GET", path, params=parameters).json()

    def _ask(self, method: str, path: str, **more: Any) -> requests.Response:
        with requests.Session() as session:
            session.trust_env = False  # a proxy that the environment names has no part in this
            answer = session.request(method, self.url + path, timeout=60, **more)
        if not answer.ok:
            raise requests.HTTPError(f"{answer.status_code} for {method} {path}: {answer.text[:500]}", response=answer)
        return answer

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _READY_S
        while process.poll() is None and time.monotonic() < deadline:
            try:
                self._ask("GET", self.ready_path)
            except OSError:  # of which requests' own are some; a certificate that is not written yet is another
                time.sleep(0.05)
            else:
                return
        state = f"did not become ready in {_READY_S:.0f} s" if process.poll() is None else f"ended: {process.poll()}"
        tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])
        raise NotStartedError(f"{self.program} {state}\n{tail}")

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


class LokiServer(ServerProcess):
    """Loki as one process that takes lines of any age and shows them at once; `settings` go over its configuration."""

    ready_path = "/ready"

    def __init__(self, folder: Path, settings: Settings | None = None) -> None:
        super().__init__("loki", folder)
        self.settings = _merged(_loki_settings(self.data, self.port, free_port()), settings or {})

    def command(self) -> list[str]:
        """Write the configuration and return the command line."""
        file = self.folder / "loki.yaml"
        file.write_text(json.dumps(self.settings, indent=1))  # JSON is YAML
        return [str(self.program), f"-config.file={file}"]

    def start(self) -> None:
        """Start the process and wait until it is ready and its parts have found each other."""
        super().start()
        deadline = time.monotonic() + _PARTS_S
        while time.monotonic() < deadline:
            # the first query waits for the scheduler, and settings with a short timeout cut it off
            with contextlib.suppress(requests.RequestException):
                self._ask("GET", "/loki/api/v1/query", params={"query": _NOTHING}, headers={"X-Scope-OrgID": "nobody"})
                return

    def push(self, streams: Iterable[Stream], tenant: str | None = None) -> int:
        """Push entries, in the order given, and return how many."""
        pushed = 0
        for batch in _batches(streams):
            body = gzip.compress(json.dumps({"streams": _grouped(batch)}).encode(), compresslevel=1)
            headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
            headers |= {"X-Scope-OrgID": tenant} if tenant else {}
            self._ask("POST", "/loki/api/v1/push", data=body, headers=headers)
            pushed += len(batch)
        return pushed

    def flush(self) -> None:
        """Have every chunk written to the store, so that queries no longer find it in memory."""
        deadline = time.monotonic() + _READY_S
        while time.monotonic() < deadline:
            # a call starts writing what is open and drops from memory what an earlier one wrote
            self._ask("POST", "/flush")
            if self._chunks_in_memory() == 0:
                return
            time.sleep(0.05)
        raise TimeoutError(f"Loki still holds {self._chunks_in_memory()} chunks in memory")

    def _chunks_in_memory(self) -> int:
        for line in self._ask("GET", "/metrics").text.splitlines():
            if line.startswith("loki_ingester_memory_chunks "):
                return int(float(line.split()[1]))
        return 0


class PrometheusServer(ServerProcess):
    """Prometheus 2 or 3 that keeps samples of any age; `config` goes over its configuration, `flags` after its own."""

    ready_path = "/-/ready"

    def __init__(
        self, version: Literal["2", "3"], folder: Path, config: Settings | None = None, flags: Sequence[str] = ()
    ) -> None:
        super().__init__(f"prometheus{version}", folder)
        self.version = version
        self.config = _merged(_PROMETHEUS_CONFIG, config or {})
        self.flags = flags

    def command(self) -> list[str]:
        """Write the configuration and return the command line."""
        file = self.folder / "prometheus.yaml"
        file.write_text(json.dumps(self.config, indent=1))  # JSON is YAML
        return [
            str(self.program),
            f"--config.file={file}",
            f"--storage.tsdb.path={self.data}",
            "--storage.tsdb.retention.time=100y",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--web.enable-remote-write-receiver",
            *self.flags,
        ]

    def load_openmetrics(self, path: Path) -> None:
        """Make blocks of an OpenMetrics file: history without stale markers; only while the server does not run."""
        if self._process is not None:
            raise RuntimeError("load_openmetrics writes into the data folder: call it before the server starts")
        command: list[str | Path] = [
            self.binary.companion,
            "tsdb",
            "create-blocks-from",
            "openmetrics",
            path,
            self.data,
        ]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"promtool refused {path}: {done.stdout[-1000:]}")

    def remote_write(self, series: Iterable[remote_write.Series]) -> None:
        """Write series of (labels, [(ms, value)]); the value None is the stale marker."""
        for body in remote_write.bodies(series):
            self._ask("POST", "/api/v1/write", data=body, headers=remote_write.HEADERS)


# what the fixtures of the same names give
LokiWith: TypeAlias = Callable[..., LokiServer]
NewPrometheus: TypeAlias = Callable[..., PrometheusServer]

# what was written later may lie before what was written first
_PROMETHEUS_CONFIG: Settings = {
    "global": {"scrape_interval": "15s", "evaluation_interval": "15s"},
    "scrape_configs": [],
    "storage": {"tsdb": {"out_of_order_time_window": "10y"}},
}


def _loki_settings(data: Path, http: int, grpc: int) -> Settings:
    return {
        "auth_enabled": False,
        "analytics": {"reporting_enabled": False},
        "server": {
            "http_listen_address": "127.0.0.1",
            "http_listen_port": http,
            "grpc_listen_address": "127.0.0.1",
            "grpc_listen_port": grpc,
            "log_level": "warn",
        },
        "common": {
            "instance_addr": "127.0.0.1",
            "path_prefix": str(data),
            "replication_factor": 1,
            "ring": {"instance_addr": "127.0.0.1", "kvstore": {"store": "inmemory"}},
            "storage": {"filesystem": {"chunks_directory": f"{data}/chunks", "rules_directory": f"{data}/rules"}},
        },
        "schema_config": {
            "configs": [
                {
                    "from": "2020-01-01",
                    "store": "tsdb",
                    "object_store": "filesystem",
                    "schema": "v13",
                    "index": {"prefix": "index_", "period": "24h"},
                }
            ]
        },
        # how often its parts look for each other: by default its start takes 10 s
        "frontend": {"scheduler_dns_lookup_period": "200ms"},
        "frontend_worker": {"dns_lookup_duration": "200ms"},
        # -1ns: else one process asks its ingester for the last hours only, and older lines stay unseen until a flush
        "ingester": {"lifecycler": {"min_ready_duration": "0s"}, "query_store_max_look_back_period": "-1ns"},
        "querier": {"query_ingesters_within": "0s"},
        "limits_config": {
            "reject_old_samples": False,
            "ingestion_rate_mb": 200,
            "ingestion_burst_size_mb": 400,
            "per_stream_rate_limit": "200MB",
            "per_stream_rate_limit_burst": "400MB",
            # a fast load would be cut into streams of an extra label: that is for a test to ask for
            "shard_streams": {"enabled": False},
        },
    }


def _merged(under: Settings, over: Settings) -> dict[str, Any]:
    merged = dict(under)
    for name, value in over.items():
        below = merged.get(name)
        merged[name] = _merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def _batches(streams: Iterable[Stream]) -> Iterator[list[tuple[Mapping[str, str], Entry]]]:
    batch: list[tuple[Mapping[str, str], Entry]] = []
    size = 0
    for labels, entries in streams:
        for entry in entries:
            if batch and (len(batch) == _PUSH_ENTRIES or size + len(entry[1]) > _PUSH_CHARACTERS):
                yield batch
                batch, size = [], 0
            batch.append((labels, entry))
            size += len(entry[1])
    if batch:
        yield batch


def _grouped(batch: Iterable[tuple[Mapping[str, str], Entry]]) -> list[dict[str, Any]]:
    streams: dict[str, dict[str, Any]] = {}
    for labels, (ns, text, *metadata) in batch:
        stream = streams.setdefault(json.dumps(labels, sort_keys=True), {"stream": labels, "values": []})
        stream["values"].append([str(ns), text, *metadata])
    return list(streams.values())


def free_port() -> int:
    """Return a port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
