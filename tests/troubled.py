"""A day on real servers for tests that trouble the way to them, the process or the disk; and what its lake came to."""

from __future__ import annotations

import datetime as dt
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from pipeline.lake.records import Records
from pipeline.lake.store import Store
from pipeline.lake.tables import Tables
from pipeline.model import PullRecord, Window
from tests.command import aislot
from tests.conftest import had
from tests.servers.run import LokiServer, PrometheusServer
from tests.world.options import NAMESPACE
from tests.world.world import World

DATE = dt.date(2026, 2, 26)
DAY = Window.of_day(DATE)
KEY = {"AISLOT_REDACTION__KEY": "a key of the tests"}
PULLED = ("logs", "alerts", "job_samples", "scrapes")
HOUR_NS = 3600 * 10**9
# an answer holds few lines, so that a day takes many
LOKI = {"limits_config": {"max_entries_limit_per_query": 700}}


@dataclass(frozen=True)
class Servers:
    """A Loki and a Prometheus that hold one world."""

    loki: LokiServer
    prometheus: PrometheusServer


@contextmanager
def servers(folder: Path) -> Iterator[Servers]:
    """Start both and load them with the world, and with streams whose labels are a part of another's."""
    world = World.make(gaps=())  # a day that can be complete
    with (
        had(lambda: LokiServer(folder / "loki", LOKI)) as loki,
        had(lambda: PrometheusServer("3", folder / "prometheus")) as prometheus,
    ):
        world.push_loki(loki)
        loki.push(_alike())
        world.push_prometheus(prometheus)
        yield Servers(loki, prometheus)


def _alike() -> Iterator[tuple[dict[str, str], list[tuple[int, str, dict[str, str]]]]]:
    """Yield a stream with a pod among its labels, and one that has another pod as metadata."""
    labels = {"namespace": NAMESPACE, "app": "codex-k8s-alike"}
    at = [DAY.start + n * HOUR_NS // 2 + 1 for n in range(48)]
    yield labels | {"pod": "p"}, [(t, f"label {t}", {}) for t in at]
    yield labels, [(t, f"metadata {t}", {"pod": "q"}) for t in at]


@dataclass(frozen=True)
class Site:
    """A folder with settings for two servers; `lake` is where the command writes."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, loki: str = "", prometheus: str = "", more: str = "", loki_more: str = "") -> Site:
        """Write the settings; a server without an address is not configured."""
        folder.mkdir(parents=True, exist_ok=True)
        text = f'[loki]\nurl = "{loki}"\ntimeout = "5s"\n{loki_more}\n' if loki else ""
        text += f'[prometheus]\nurl = "{prometheus}"\ntimeout = "5s"\n' if prometheus else ""
        (folder / "aislot.toml").write_text(text + more, encoding="utf-8")
        return cls(folder)

    @property
    def lake(self) -> Path:
        """Where the lake is."""
        return self.folder / "lake"

    def run(self, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run the command to its end."""
        return aislot(*arguments, cwd=self.folder, env=KEY | dict(env or {}))

    def pull(self, *what: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """Pull the day."""
        return self.run("-v", "pull", *what, "--date", str(DATE), *options)

    def rows(self, table: str = "logs", window: Window = DAY) -> pa.Table:
        """Return a table's rows, sorted, with all columns."""
        return Tables(Store(str(self.lake))).read(table, window)

    def records(self, what: str = "logs", window: Window = DAY) -> list[PullRecord]:
        """Return what is recorded of one question."""
        return Records(Store(str(self.lake))).of(what, window)


def hours(of: pa.Table) -> dict[int, int]:
    """Count rows by hour since the day began."""
    counted = ((of["ts"].cast(pa.int64()).to_numpy() - DAY.start) // HOUR_NS).tolist()
    return {h: counted.count(h) for h in sorted(set(counted))}
