"""Against a real Prometheus 2 and 3: raw samples, each once, whatever their ranges do at the edges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import pytest

from pipeline import catalog
from pipeline.errors import SourceError, TooLarge
from pipeline.model import NS, Window
from pipeline.settings import Settings
from pipeline.sources import pods, prometheus
from pipeline.sources.http import Door, Endpoint
from pipeline.sources.prometheus import Prometheus, Question
from tests.servers.remote_write import Sample
from tests.servers.run import NewPrometheus, PrometheusServer

START_MS = 1_772_096_400_000  # 2026-02-26T09:00:00Z
START = START_MS * 10**6
HOUR = Window(START, START + 3600 * NS)
QUERIES = catalog.load().queries
RANGE = catalog.Raw("${range}")


def question(namespace: str) -> Question:
    """Return what is asked about the jobs of a namespace."""
    values = {"range": RANGE, "namespace_label": catalog.Raw("namespace"), "namespaces": namespace}
    text, counted = (catalog.render(QUERIES[f"job_samples{more}"], **values) for more in ("", "_counted"))
    return Question(text, counted)


def client(server: PrometheusServer) -> Prometheus:
    return Prometheus(Door("prometheus", Endpoint(server.url)), Settings().prometheus.parameters)


def write(server: PrometheusServer, namespace: str, samples: Sequence[Sample], **labels: str) -> None:
    """Write one series of a namespace of its own; instants in ms after START."""
    named = {"__name__": "kube_job_created", "namespace": namespace, "job_name": "j"} | labels
    server.remote_write([(named, [(START_MS + ms, value) for ms, value in samples])])


def read(server: PrometheusServer, namespace: str, *windows: Window) -> Counter[tuple[int, float]]:
    found = (s for w in windows for s in client(server).series(question(namespace), w))
    return Counter((int(t) - START_MS, float(v)) for s in found for t, v in zip(s.at, s.values, strict=True))


@pytest.mark.parametrize("cut_s", [30, 45, 600, 3600])
def test_each_sample_comes_once_however_the_window_is_cut(prometheus_server: PrometheusServer, cut_s: int) -> None:
    namespace = f"cut-{cut_s}"
    samples = [(t * 30_000, float(t)) for t in range(-4, 125)]
    write(prometheus_server, namespace, samples)
    edges = [START + n * cut_s * NS for n in range(3600 // cut_s + 1)]
    found = read(prometheus_server, namespace, *(Window(a, b) for a, b in pairwise(edges)))
    assert found == Counter((t, v) for t, v in samples if 0 <= t < 3_600_000)


def test_every_millisecond_of_a_second_is_the_one_that_was_written(prometheus_server: PrometheusServer) -> None:
    samples = [(ms, float(ms)) for ms in range(1000)]
    write(prometheus_server, "ms", samples)
    assert read(prometheus_server, "ms", Window(START, START + NS)) == Counter(samples)
    for ms in (0, 1, 3, 57, 123, 999):
        at = START + ms * 10**6
        assert read(prometheus_server, "ms", Window(at, at + 10**6)) == Counter([(ms, float(ms))])


def test_a_stale_marker_is_no_sample_and_odd_values_are(prometheus_server: PrometheusServer) -> None:
    odd = [(0, 1.0), (15_000, float("inf")), (30_000, float("-inf")), (45_000, None), (60_000, 2.0)]
    write(prometheus_server, "odd", odd)
    found = read(prometheus_server, "odd", HOUR)
    assert found == Counter((t, v) for t, v in odd if v is not None)


def test_instances_that_show_the_same_job_become_one_and_reasons_stay_apart(
    prometheus_server: PrometheusServer,
) -> None:
    for instance in ("a", "b"):
        write(prometheus_server, "twins", [(0, 5.0), (30_000, 5.0)], instance=instance)
        for reason in ("DeadlineExceeded", "BackoffLimitExceeded"):
            more = {"__name__": "kube_job_status_failed", "instance": instance, "reason": reason}
            write(prometheus_server, "twins", [(30_000, 1.0)], **more)
    write(prometheus_server, "twins", [(30_000, 1.0)], __name__="kube_job_failed", condition="true")
    found = client(prometheus_server).series(question("twins"), HOUR)
    rows: list[dict[str, Any]] = prometheus.job_samples(found, ["twins"]).to_pylist()
    assert [(r["metric"], r["reason"], r["value"]) for r in rows] == [
        ("created", None, 5.0),
        ("created", None, 5.0),
        ("failed_condition", None, 1.0),
        ("failed_pods", "BackoffLimitExceeded", 1.0),
        ("failed_pods", "DeadlineExceeded", 1.0),
    ]


def test_an_instant_query_gives_the_label_sets_of_a_target(prometheus_server: PrometheusServer) -> None:
    write(prometheus_server, "target", [(0, 1.0)], __name__="kube_job_info", job="ksm", exported_namespace="prod")
    query = 'group by (job, exported_namespace) (last_over_time(kube_job_info{namespace="target"}[3600s]))'
    assert client(prometheus_server).instant(Question(query, f"count({query})"), HOUR.end - 1) == [
        {"job": "ksm", "exported_namespace": "prod"}
    ]


@pytest.mark.parametrize("exported", ["", "exported_"])
def test_pods_are_joined_to_their_jobs_by_owner_and_label(prometheus_server: PrometheusServer, exported: str) -> None:
    namespace = f"{exported}pods"
    ended = START_MS // 1000 + 57
    for pod, instance in (("a", "one"), ("a", "two"), ("b", "one"), ("c", "one")):
        own = {f"{exported}namespace": namespace, f"{exported}pod": pod, "uid": f"uid-{pod}", "instance": instance}
        own |= {"namespace": "monitoring", "pod": "kube-state-metrics-0"} if exported else {}
        shown: dict[str, tuple[int, dict[str, str]]] = {"kube_pod_completion_time": (ended, {})}
        shown |= {"kube_pod_owner": (1, {"owner_kind": "Job", "owner_name": "job-a"})} if pod == "a" else {}
        shown |= {"kube_pod_labels": (1, {"label_batch_kubernetes_io_controller_uid": "u"})} if pod == "b" else {}
        for name, (value, more) in shown.items():
            samples = [(t, float(value)) for t in range(60_000, 660_000, 30_000)]
            labels = {"namespace": namespace} | own | more | {"__name__": name}
            prometheus_server.remote_write([(labels, [(START_MS + t, v) for t, v in samples])])
    values = {"range": RANGE, "namespace_label": catalog.Raw(f"{exported}namespace"), "namespaces": namespace}
    text = catalog.render(QUERIES["pod_ends"], **values)
    counted = catalog.render(QUERIES["series_counted"], series=catalog.Raw(text))
    found = list(client(prometheus_server).last(Question(text, counted), HOUR))
    assert all(len(s.at) == 1 for s in found)
    rows = pods.pod_ends(found, [namespace]).to_pylist()
    assert [(r["pod"], r["job_name"], r["job_uid"], r["completed_at"].value // NS) for r in rows] == [
        ("a", "job-a", None, ended),
        ("b", None, "u", ended),
    ]


def test_a_query_that_is_none_is_refused_in_the_servers_own_words(prometheus_server: PrometheusServer) -> None:
    with pytest.raises(SourceError, match="parse error"):
        list(client(prometheus_server).series(Question("up{[${range}]", "up"), HOUR))


def test_the_version_is_told(prometheus_server: PrometheusServer) -> None:
    assert client(prometheus_server).version().startswith(f"{prometheus_server.version}.")


@pytest.mark.parametrize("version", ["2", "3"])
def test_more_samples_than_the_server_will_load_come_in_halves(
    new_prometheus: NewPrometheus, version: Literal["2", "3"]
) -> None:
    server = new_prometheus(version, flags=["--query.max-samples=50"])
    samples = [(t * 15_000, float(t)) for t in range(240)]
    write(server, "many", samples)
    assert read(server, "many", HOUR) == Counter(samples)
    write(server, "crowd", [(t, float(t)) for t in range(100)])
    with pytest.raises(TooLarge, match="too many samples"):
        read(server, "crowd", HOUR)
