"""The runtime's own queue from a real Prometheus 2 and 3, through the command, into `golden` and the report."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from pipeline import schemas
from pipeline.lake.store import Store
from pipeline.lake.tables import Tables
from tests.command import aislot, digests
from tests.servers.run import PrometheusServer
from tests.tables import DATE, DAY, at

pytestmark = pytest.mark.command
DAY_MS = DAY.start // 10**6


def depth(minute: int) -> float:
    return float(minute * 7 % 31)


def push(server: PrometheusServer, site: str) -> None:
    """Write two parts of a queue every minute of the day, but of the hour from 5, and scrapes of kube-state-metrics."""
    times = [m for m in range(24 * 60) if m // 60 != 5]
    # an end that is told: else the server looks back five minutes
    parts = [(m, depth(m)) for m in times] + [(5 * 60, None)]
    for part in ("a", "b"):
        samples = [
            (DAY_MS + m * 60_000, v if v is None or part == "b" else v + 1)
            for m, v in sorted(parts, key=lambda p: p[0])
        ]
        server.remote_write([({"__name__": "queue_depth", "part": part, "site": site}, samples)])
    for name in ("up", "kube_state_metrics_build_info"):
        labels = {"__name__": name, "job": "ksm", "instance": "ksm"}
        server.remote_write([(labels, [(DAY_MS + m * 60_000, 1.0) for m in range(-60, 24 * 60 + 60)])])


def configure(folder: Path, server: PrometheusServer, query: str) -> None:
    (folder / "aislot.toml").write_text(
        f"[prometheus]\nurl = \"{server.url}\"\nqueue_query = '''{query}'''\nqueue_step = \"60s\"\n", encoding="utf-8"
    )


def test_the_queue_comes_into_golden_and_the_report(prometheus_server: PrometheusServer, tmp_path: Path) -> None:
    site = f"queue{prometheus_server.version}"
    push(prometheus_server, site)
    configure(tmp_path, prometheus_server, f'sum(queue_depth{{site="{site}"}})  # both parts')
    pulled = aislot("pull", "jobs", "--date", str(DATE), cwd=tmp_path)
    assert pulled.returncode == 0, pulled.stderr
    assert f"; {23 * 60:,} samples of the queue" in pulled.stderr
    before = digests(tmp_path / "lake", "_aislot/queue_samples/date=*/*.parquet")
    assert len(before) == 1
    again = ("--since", f"{DATE}T00:00:00Z", "--until", f"{DATE}T07:13:00Z")  # cut otherwise, the same samples
    assert aislot("pull", "jobs", *again, cwd=tmp_path).returncode == 0
    assert digests(tmp_path / "lake", "_aislot/queue_samples/date=*/*.parquet") == before
    assert aislot("compute", "--date", str(DATE), cwd=tmp_path).returncode in {0, 4}
    golden = schemas.to_frame(Tables(Store(str(tmp_path / "lake"))).read("golden", DAY))
    rows = golden[(golden["kind"] == "all") & (golden["window"] == "15m")].set_index("window_start")["queue_max"]
    for start, value in zip(rows.index, rows, strict=True):
        first = (start - at("00:00")) // pd.Timedelta(minutes=1)
        expected = None if first // 60 == 5 else max(2 * depth(m) + 1 for m in range(first, first + 15))
        assert (None if pd.isna(value) else value) == expected, start
    aislot("report", "daily", "--date", str(DATE), cwd=tmp_path)
    folder = tmp_path / "out/daily" / str(DATE)
    summary = json.loads((folder / "summary.json").read_text("utf-8"))
    assert (summary["golden"]["all"]["queue_max"], summary["golden"]["all"]["queue_complete"]) == (61.0, False)
    row = next(line for line in (folder / "report.md").read_text("utf-8").splitlines() if "Queue" in line)
    assert "at least 61" in row


@pytest.mark.parametrize(
    ("query", "words"),
    [("queue_depth{site=~'.+'}", "several series"), ("sum(", "parse error"), ("scalar(up)", "instant vector")],
)
def test_a_query_that_does_not_do_is_said_and_the_jobs_are_kept(
    prometheus_server: PrometheusServer, tmp_path: Path, query: str, words: str
) -> None:
    push(prometheus_server, "wrong")
    configure(tmp_path, prometheus_server, query)
    pulled = aislot("pull", "jobs", "--date", str(DATE), cwd=tmp_path)
    assert pulled.returncode == 3
    assert words in pulled.stderr
    assert "prometheus.queue_query" in pulled.stderr
    assert len(Tables(Store(str(tmp_path / "lake"))).read("scrapes", DAY)) == 24 * 60


def test_a_queue_without_a_sample_is_unknown(prometheus_server: PrometheusServer, tmp_path: Path) -> None:
    push(prometheus_server, "none")
    configure(tmp_path, prometheus_server, "sum(no_such_metric)")
    pulled = aislot("pull", "jobs", "--date", str(DATE), cwd=tmp_path)
    assert "no sample of the queue: check prometheus.queue_query" in pulled.stderr
    assert aislot("compute", "--date", str(DATE), cwd=tmp_path).returncode in {0, 4}
    golden = schemas.to_frame(Tables(Store(str(tmp_path / "lake"))).read("golden", DAY))
    assert golden["queue_max"].isna().all()
