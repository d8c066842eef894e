"""What a real VictoriaMetrics answered to pulls of some series, by both ways of reading it: v1.151.0 and v1.79.5.

`python -m tests.recorded.victoriametrics http://127.0.0.1:8428` writes SERIES into one that is empty (with
`-retentionPeriod=100y`), pulls three hours from it and prints every question with its answer. `victoriametrics.json.xz` holds
what it printed for both versions.
"""

from __future__ import annotations

import datetime as dt
import json
import lzma
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import requests

from pipeline import catalog, schemas
from pipeline.lake.store import Store
from pipeline.model import NS, Window, instant_of
from pipeline.settings import Secret, Settings
from pipeline.settings.sections import Address
from pipeline.sources.http import Door, Endpoint, Policy, Reply
from pipeline.steps.context import Context
from pipeline.steps.pull import pull
from tests.faults import Answers, Form
from tests.servers import remote_write

DATE = dt.date(2026, 2, 26)
DAY = Window.of_day(DATE)
VERSIONS = ("v1.151.0", "v1.79.5")
WAYS = ("matrix", "export")
TABLES = ("job_samples", "scrapes", "alerts", "queue_samples")
QUEUE = "sum(codex_queue_depth)"
_ARCHIVE = Path(__file__).with_name("victoriametrics.json.xz")
_START_MS = instant_of("2026-02-26T09:00:00Z") // 10**6
_OWN = {"instance": "10.42.0.17:8080", "job": "kube-state-metrics"}
_ENDED = "codex-k8s-kaniko-web-console-3f2a9c1e-7b4"
_ALIVE = "codex-k8s-mirror-postgres-0a1b2c3d"


def _of_job(name: str, metric: str, **labels: str) -> dict[str, str]:
    return {"__name__": f"kube_job_{metric}", "namespace": "codex-k8s-prod", "job_name": name, **_OWN, **labels}


def _each(first: int, last: int, value: float, *, marker: bool = False) -> list[remote_write.Sample]:
    """Return a sample each half minute from one number of it to another, and behind them a stale marker."""
    every: list[remote_write.Sample] = [(_START_MS + n * 30_000 + 412, value) for n in range(first, last)]
    return [*every, (_START_MS + last * 30_000 + 412, None)] if marker else every


# one job that fails and is deleted, one that goes on, an alert that fires, a queue, and one series of another namespace
SERIES: list[tuple[dict[str, str], list[remote_write.Sample]]] = [
    ({"__name__": "up", **_OWN}, _each(0, 60, 1.0)),
    ({"__name__": "kube_state_metrics_build_info", **_OWN}, _each(0, 60, 1.0)),
    ({"__name__": "codex_queue_depth", "job": "worker"}, _each(0, 20, 3.0, marker=True)),
    (_of_job(_ENDED, "created"), _each(2, 8, _START_MS / 1000 + 55, marker=True)),
    (_of_job(_ENDED, "status_start_time"), _each(2, 8, _START_MS / 1000 + 56, marker=True)),
    (_of_job(_ENDED, "status_failed"), _each(2, 5, 0.0, marker=True)),
    (_of_job(_ENDED, "status_failed", reason="BackoffLimitExceeded"), _each(5, 8, 1.0, marker=True)),
    (_of_job(_ENDED, "failed", condition="true"), _each(5, 8, 1.0, marker=True)),
    (_of_job(_ENDED, "failed", condition="false"), _each(5, 8, 0.0, marker=True)),
    (_of_job(_ALIVE, "created"), _each(10, 60, _START_MS / 1000 + 300)),
    (_of_job(_ALIVE, "labels", label_app_kubernetes_io_name="codex-k8s-image-mirror"), _each(10, 60, 1.0)),
    ({**_of_job(_ALIVE, "created"), "namespace": "elsewhere"}, _each(10, 60, _START_MS / 1000 + 300)),
    (
        {"__name__": "ALERTS", "alertname": "AI_SLOT_BUILD_FAILURE_BURST", "alertstate": "firing", "severity": "page"},
        _each(20, 30, 1.0, marker=True),
    ),
]


@dataclass(frozen=True)
class Site(Context):
    """A command's context with this door to Prometheus."""

    door: Door | None = None

    def prometheus(self) -> Door:
        """Return the door."""
        assert self.door is not None
        return self.door


def tables(door: Door, way: str, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Pull the day's jobs and alerts from what is behind a door, one of WAYS, and return the rows of TABLES."""
    settings = Settings()
    asked = replace(settings.prometheus, url=Address("http://x"), export=way == "export", queue_query=QUEUE)
    settings = replace(settings, prometheus=asked, redaction=replace(settings.redaction, key=Secret("k")))
    now = instant_of("2026-02-26T12:00:00Z")
    ctx = Site(settings, catalog.load(), Store(str(folder)), now, lambda _: None, door=door)
    hours = Window(DAY.start + 8 * 3600 * NS, DAY.start + 11 * 3600 * NS)
    for result in pull(ctx, hours, ["jobs", "alerts"]):
        if result.error is not None:
            raise result.error
    return {name: schemas.rows_of(schemas.to_frame(ctx.tables.read(name, DAY))) for name in TABLES}


class Recorder(Door):
    """A door that remembers what it was asked and what came of it."""

    def __init__(self, url: str) -> None:
        super().__init__("prometheus", Endpoint(url), Policy(tries=1))
        self.exchanges: list[dict[str, Any]] = []

    def _exchange(self, method: str, url: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> Reply:
        reply = super()._exchange(method, url, body, headers)
        path = url.removeprefix(self.endpoint.url)
        said = {"path": path, "form": body.get("data") or {}, "status": reply.status, "body": reply.body.decode()}
        if said not in self.exchanges:
            self.exchanges.append(said)
        return reply


def answers(version: str, way: str) -> Answers:
    """Return a door behind which one version answers as it did. What was not asked then has no answer."""
    said = {
        _question(x["path"], x["form"]): x for x in json.loads(lzma.decompress(_ARCHIVE.read_bytes()))[version][way]
    }

    def answer(path: str, form: Form) -> Reply:
        found = said[_question(path, form)]
        return Reply(found["status"], {}, found["body"].encode())

    return Answers(answer, "prometheus")


def _question(path: str, form: Mapping[str, str]) -> tuple[str, ...]:
    return (path, *(" ".join(form.get(k, "").split()) for k in ("query", "time", "match[]", "start", "end")))


def main(url: str) -> None:
    """Write the series into an empty VictoriaMetrics, pull them both ways and print what it said."""
    for body in remote_write.bodies(SERIES):
        requests.post(f"{url}/api/v1/write", data=body, headers=remote_write.HEADERS, timeout=60).raise_for_status()
    requests.get(f"{url}/internal/force_flush", timeout=60).raise_for_status()
    said = {}
    for way in WAYS:
        recorder = Recorder(url)
        with tempfile.TemporaryDirectory() as folder:
            tables(recorder, way, Path(folder))
        said[way] = recorder.exchanges
    json.dump(said, sys.stdout, indent=0)


if __name__ == "__main__":
    main(sys.argv[1])
