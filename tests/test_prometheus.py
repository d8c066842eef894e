"""Prometheus' client: raw samples, each once however they are sliced, and what becomes of them."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import SourceError, TooLarge
from pipeline.model import NS, Window
from pipeline.sources import prometheus
from pipeline.sources.http import Reply, TooSlow
from pipeline.sources.prometheus import SLICE_NS, Prometheus, Question
from tests.faults import Answers, Form

START_MS = 1_772_096_400_000  # 2026-02-26T09:00:00Z
START = START_MS * 10**6
HOUR = Window(START, START + 3600 * NS)
QUERY = Question("kube_job_created[${range}]", "sum(count_over_time(kube_job_created[${range}]))")
JOB = "codex-k8s-kaniko-web-console-3f2a9c1e-7b4"
Samples = Sequence[tuple[int, str]]  # ms after START, value as JSON has it
Labels = Mapping[str, str]


@dataclass
class FakePrometheus:
    """Holds series and answers instant queries with a range selector, closed (2.x) or open (3.x) at the start."""

    series: Sequence[tuple[Labels, Samples]]
    left_open: bool = False
    max_samples: int = 10**9
    before: Callable[[Form], Any] = lambda _: None
    asked: list[Form] = field(default_factory=list)
    counted: list[Form] = field(default_factory=list)

    def client(self) -> Prometheus:
        return Prometheus(Answers(self.answer, "prometheus"))

    def answer(self, path: str, form: Form) -> Any:
        assert path == "/api/v1/query"
        counts = form["query"].startswith("sum(count_over_time(")
        (self.counted if counts else self.asked).append(form)
        said = self.before(form)
        if said is not None:
            return said
        width = int(re.findall(r"\[(\d+)ms\]", form["query"])[0])
        seconds, ms = form["time"].split(".")
        last = int(seconds) * 1000 + int(ms)
        first = last - width + self.left_open
        found = [
            (labels, [(START_MS + t, v) for t, v in s if first <= START_MS + t <= last]) for labels, s in self.series
        ]
        if counts:
            n = sum(len(s) for _, s in found)
            return success([{"metric": {}, "value": [last / 1000, f"{n}"]}] if n else [], "vector")
        if sum(len(s) for _, s in found) > self.max_samples:
            error = "query processing would load too many samples into memory in query execution"
            return failure(422, "execution", error)
        return success([{"metric": dict(labels), "values": [[t / 1000, v] for t, v in s]} for labels, s in found if s])


def success(result: Sequence[Any], kind: str = "matrix", **more: Any) -> dict[str, Any]:
    return {"status": "success", "data": {"resultType": kind, "result": result}, **more}


def failure(status: int, kind: str, error: str) -> Reply:
    return Reply(status, {}, json.dumps({"status": "error", "errorType": kind, "error": error}).encode())


def job(metric: str = "kube_job_created", **labels: str) -> Labels:
    return {"__name__": metric, "namespace": "codex-k8s-prod", "job_name": JOB} | labels


def read(server: FakePrometheus, window: Window = HOUR) -> list[tuple[int, float]]:
    found = server.client().series(QUERY, window)
    return [(int(t) - START_MS, float(v)) for s in found for t, v in zip(s.at, s.values, strict=True)]


def fails(before: Callable[[Form], Any]) -> SourceError:
    with pytest.raises(SourceError) as caught:
        read(FakePrometheus([], before=before))
    return caught.value


EDGES = st.sampled_from([0, 3_600_000, SLICE_NS // 10**6 * 2])
INSTANTS = st.one_of(st.builds(int.__add__, EDGES, st.integers(-3, 3)), st.integers(-(10**6), 10**8))


@settings(max_examples=150, deadline=None)
@given(
    at=st.lists(INSTANTS, max_size=20, unique=True),
    left_open=st.booleans(),
    cuts=st.lists(st.one_of(EDGES, INSTANTS), min_size=2, max_size=5, unique=True),
    max_samples=st.integers(1, 20),
)
def test_each_sample_comes_once_however_the_window_is_cut_on_either_version(
    at: list[int], left_open: bool, cuts: list[int], max_samples: int
) -> None:
    cuts.sort()
    server = FakePrometheus([(job(), [(t, "1") for t in sorted(at)])], left_open, max_samples)
    parts = [Window(START + a * 10**6, START + b * 10**6) for a, b in pairwise(cuts)]
    try:
        got = [t for part in parts for t, _ in read(server, part)]
    except TooLarge:
        assert any(sum(t <= u <= t + 60_001 for u in at) > max_samples for t in at)  # in one minute
        return
    assert sorted(got) == sorted(t for t in at if cuts[0] <= t < cuts[-1])


@settings(max_examples=100, deadline=None)
@given(at=st.lists(INSTANTS, max_size=20, unique=True), shift=st.integers(-(10**6) - 1, 10**6 + 1))
def test_a_window_that_lies_between_milliseconds_holds_what_lies_in_it(at: list[int], shift: int) -> None:
    window = Window(HOUR.start + shift, HOUR.end + shift)
    got = [t for t, _ in read(FakePrometheus([(job(), [(t, "1") for t in sorted(at)])]), window)]
    assert sorted(got) == sorted(t for t in at if (START_MS + t) * 10**6 in window)


def test_a_slice_is_asked_by_its_last_millisecond_and_one_more_before_its_first() -> None:
    server = FakePrometheus([])
    read(server)
    assert server.asked == [{"query": "kube_job_created[3600000ms]", "time": "1772099999.999", "timeout": "115s"}]


def test_between_two_milliseconds_there_is_nothing_to_ask_for() -> None:
    server = FakePrometheus([(job(), [(0, "1"), (1, "1")])])
    assert read(server, Window(START + 1, START + 10**6)) == []
    assert server.asked == []


def test_a_long_window_is_cut_on_the_grid_of_slices() -> None:
    server = FakePrometheus([])
    read(server, Window(START, START + 4 * SLICE_NS))
    assert [f["query"] for f in server.asked] == [
        f"kube_job_created[{hours * 3_600_000}ms]" for hours in (3, 6, 6, 6, 3)
    ]


@pytest.mark.parametrize("ms", [0, 1, 7, 123, 999])
def test_instants_are_whole_milliseconds_though_json_has_them_as_floats(ms: int) -> None:
    assert read(FakePrometheus([(job(), [(ms, "1")])])) == [(ms, 1.0)]
    table = prometheus.job_samples(
        FakePrometheus([(job(), [(ms, "1")])]).client().series(QUERY, HOUR), ["codex-k8s-prod"]
    )
    assert table["ts"].cast("int64").to_pylist() == [START + ms * 10**6]


def test_too_many_samples_are_asked_for_in_halves() -> None:
    samples = [(n * 15_000, "1") for n in range(240)]
    server = FakePrometheus([(job(), samples)], max_samples=50)
    assert [t for t, _ in read(server)] == [t for t, _ in samples]
    assert len(server.asked) == 15


def test_too_many_samples_in_a_minute_are_refused() -> None:
    server = FakePrometheus([(job(), [(n, "1") for n in range(100)])], max_samples=50)
    with pytest.raises(TooLarge, match="too many samples"):
        read(server)


def test_a_query_that_times_out_is_halved_a_few_times_and_then_the_servers_trouble() -> None:
    asked: list[Form] = []

    def slow(form: Form) -> Any:
        asked.append(form)
        return failure(503, "timeout", "query timed out in expression evaluation")

    with pytest.raises(TooSlow, match="timed out"):
        read(FakePrometheus([], before=slow), Window(START - START % SLICE_NS, START - START % SLICE_NS + SLICE_NS))
    assert len(asked) == 4


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(503, {}, b"Service Unavailable"), "HTTP 503: Service Unavailable"),
        (failure(503, "canceled", "query was canceled"), "query was canceled"),
        (Reply(200, {}, b'{"status": "success", "data": {"res'), "not whole"),
        (Reply(200, {}, b"<html>Sign in</html>"), "a web page came instead of JSON: Sign in"),
        (success([], "vector"), "the answer is no matrix"),
        (success([{"metric": {}, "values": [["now", "1"]]}]), "the answer is no matrix of Prometheus"),
        (success([{"values": []}]), "the answer is no matrix of Prometheus"),
        ({"fine": True}, "the answer is no matrix of Prometheus"),
        ([], "the answer is no matrix of Prometheus"),
        (success([], warnings=["store down: partial response"]), "may not be whole: store down"),
    ],
)
def test_what_may_pass_is_asked_again_and_then_refused(reply: Any, words: str) -> None:
    error = fails(lambda _: reply)
    assert words in error.what
    assert "tried 6 times" in error.what
    assert error.fix
    once = [reply]
    assert read(FakePrometheus([(job(), [(0, "1")])], before=lambda _: once.pop() if once else None)) == [(0, 1.0)]


def test_a_server_that_is_starting_may_say_for_how_long() -> None:
    error = fails(lambda _: Reply(503, {"Retry-After": "900"}, b"Service Unavailable"))
    assert "left alone for 900 s" in error.what


@pytest.mark.parametrize(
    "reply",
    [
        failure(400, "bad_data", "1:3: parse error"),
        failure(422, "execution", "vector cannot contain metrics with the same labelset"),
        Reply(400, {}, b"<html>400 Bad Request</html>"),
        Reply(422, {}, b"[]"),
        {"status": "error", "errorType": "bad_data", "error": "1:3: parse error"},
    ],
)
def test_a_refused_query_is_not_asked_again(reply: Any) -> None:
    asked: list[Form] = []

    def refuse(form: Form) -> Any:
        asked.append(form)
        return reply

    error = fails(refuse)
    assert "Prometheus refused the query" in error.what
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("labels", "metric", "reason"),
    [
        (job("kube_job_created"), "created", None),
        (job("kube_job_status_start_time"), "start_time", None),
        (job("kube_job_status_completion_time"), "completion_time", None),
        (job("kube_job_complete", condition="true"), "complete", None),
        (job("kube_job_failed", condition="true"), "failed_condition", None),
        (job("kube_job_status_failed", reason="BackoffLimitExceeded"), "failed_pods", "BackoffLimitExceeded"),
        (job("kube_job_status_failed"), "failed_pods", None),
        (job("kube_job_labels", label_codex_k8s_dev_run_id="r"), "labels", None),
    ],
)
def test_a_metric_of_kube_state_metrics_has_one_name_and_keeps_its_reason(
    labels: Labels, metric: str, reason: str | None
) -> None:
    (row,) = samples([(labels, [(0, "1")])])
    assert (row["metric"], row["reason"], row["job_name"], row["namespace"]) == (metric, reason, JOB, "codex-k8s-prod")
    assert dict(row["labels"]) == ({"label_codex_k8s_dev_run_id": "r"} if metric == "labels" else {})


def samples(series: Sequence[tuple[Labels, Samples]], namespaces: Sequence[str] = ("codex-k8s-prod",)) -> list[Any]:
    found = FakePrometheus(series).client().series(QUERY, HOUR)
    return list(prometheus.job_samples(found, namespaces).to_pylist())


def test_instances_and_replicas_become_one() -> None:
    replicas = [{"instance": i, "replica": r, "pod": f"ksm-{i}"} for i in ("a:8080", "b:8080") for r in ("0", "1")]
    rows = samples([(job(**more), [(0, "1772096400"), (30_000, "1772096400")]) for more in replicas])
    assert [r["value"] for r in rows] == [1772096400.0] * 2


def test_a_sample_of_each_slice_and_reason_is_a_row_of_its_own() -> None:
    failed = [(job("kube_job_status_failed", reason=r), [(0, "0"), (30_000, "1")]) for r in ("A", "B")]
    assert len(samples(failed)) == 4


@pytest.mark.parametrize(
    ("labels", "namespace", "name"),
    [
        ({"namespace": "monitoring", "exported_namespace": "codex-k8s-prod", "job_name": JOB}, "codex-k8s-prod", JOB),
        ({"namespace": "codex-k8s-prod", "job": "ksm", "exported_job": JOB}, "codex-k8s-prod", JOB),
        ({"namespace": "codex-k8s-prod", "job_name": "ksm", "exported_job_name": JOB}, "codex-k8s-prod", JOB),
        ({"namespace": "codex-issue-1", "job_name": JOB}, "codex-issue-1", JOB),
    ],
)
def test_what_the_job_is_called_wins_over_what_the_target_is_called(labels: Labels, namespace: str, name: str) -> None:
    named = {"__name__": "kube_job_created", **labels}
    (row,) = samples([(named, [(0, "1")])], ["codex-k8s-prod", "codex-issue-.*"])
    assert (row["namespace"], row["job_name"]) == (namespace, name)


@pytest.mark.parametrize("namespace", ["codex-k8s-prod-2", "x-codex-k8s-prod", "codex-k8s", ""])
def test_a_namespace_is_asked_for_by_its_whole_name(namespace: str) -> None:
    assert samples([(job(namespace=namespace), [(0, "1")])]) == []


def test_a_series_that_names_no_job_is_no_job_history() -> None:
    with pytest.raises(SourceError, match="kube_job_created of Prometheus names no job"):
        samples([({"__name__": "kube_job_created", "namespace": "codex-k8s-prod"}, [(0, "1")])])


def test_no_series_make_an_empty_table_with_its_columns() -> None:
    assert samples([]) == []
    assert prometheus.scrapes(iter([])).num_rows == 0
    assert prometheus.instants(iter([])) == []
    assert prometheus.values(iter([])) == []


def test_what_is_no_number_is_no_sample_and_what_is_infinite_no_value() -> None:
    series = [(job(), [(0, "NaN"), (1, "+Inf"), (2, "-Inf"), (3, "1.5e3"), (4, "1500")])]
    server = FakePrometheus(series)
    assert read(server) == [(1, math.inf), (2, -math.inf), (3, 1500.0), (4, 1500.0)]
    assert len(server.asked) == 1  # Prometheus counts them all
    assert prometheus.values(FakePrometheus(series).client().series(QUERY, HOUR)) == [1500.0]


def test_a_native_histogram_among_the_series_has_no_samples() -> None:
    answer = success(
        [{"metric": {"__name__": "h"}, "histograms": [[1, {}]]}, {"metric": job(), "values": [[START_MS / 1000, "1"]]}]
    )
    two = success([{"metric": {}, "value": [0, "2"]}], "vector")
    server = FakePrometheus([], before=lambda form: two if form["query"].startswith("sum") else answer)
    assert read(server) == [(0, 1.0)]
    assert len(server.asked) == 1  # both samples are accounted for


@pytest.mark.parametrize("lies", [1, 2])
@pytest.mark.parametrize("about", ["samples", "their number"])
def test_an_answer_that_lacks_samples_is_asked_again(lies: int, about: str) -> None:
    left = [lies]

    def lacks(form: Form) -> Any:
        if left[0] and form["query"].startswith("sum") == (about == "their number"):
            left[0] -= 1
            return success([], "vector" if about == "their number" else "matrix")
        return None

    assert read(FakePrometheus([(job(), [(0, "1"), (5, "1")])], before=lacks)) == [(0, 1.0), (5, 1.0)]


def test_samples_that_stay_away_are_an_error_with_both_numbers() -> None:
    series = [(job(), [(0, "1"), (5, "1")])]
    half = success([{"metric": job(), "values": [[START_MS / 1000, "1"]]}])
    server = FakePrometheus(series, before=lambda form: None if form["query"].startswith("sum") else half)
    with pytest.raises(SourceError, match="gives 1 of the 2 that it counts"):
        read(server)


def test_a_scrape_was_up_where_any_instance_was() -> None:
    series = [({"instance": "a"}, [(0, "1"), (30_000, "0"), (60_000, "0")]), ({"instance": "b"}, [(30_000, "1")])]
    table = prometheus.scrapes(FakePrometheus(series).client().series(QUERY, HOUR))
    assert [(t - START) // 10**6 for t in table["ts"].cast("int64").to_pylist()] == [0, 30_000, 60_000]
    assert table["up"].to_pylist() == [True, True, False]


def test_instants_of_several_series_are_sorted_and_each_once() -> None:
    series = [({"rule": "a"}, [(0, "1"), (30_000, "2")]), ({"rule": "b"}, [(30_000, "3"), (15_000, "4")])]
    found = prometheus.instants(FakePrometheus(series).client().series(QUERY, HOUR))
    assert found == [START, START + 15 * NS, START + 30 * NS]


def test_an_instant_query_gives_label_sets_at_a_whole_millisecond() -> None:
    answer = success([{"metric": {"job": "ksm"}, "value": [1, "1"]}], "vector")
    server = FakePrometheus([], before=lambda _: answer)
    assert server.client().instant(Question("group by (job) (up)", "count(group by (job) (up))"), HOUR.end - 1) == [
        {"job": "ksm"}
    ]
    assert server.asked[0]["time"] == "1772099999.999"


@pytest.mark.parametrize(
    ("reply", "version"),
    [
        ({"status": "success", "data": {"version": "3.14.0"}}, "3.14.0"),
        ({"status": "success", "data": []}, ""),
        ([], ""),
        (Reply(404, {}, b"404 page not found"), ""),
        (Reply(200, {}, b"<html>"), ""),
    ],
)
def test_a_version_is_told_where_there_is_one(reply: Any, version: str) -> None:
    assert Prometheus(Answers(lambda _p, _f: reply, "prometheus")).version() == version


def test_the_same_series_is_counted_once_a_slice() -> None:
    series = [(job(), [(n * 3_600_000, "1") for n in range(12)])]
    found = FakePrometheus(series).client().series(QUERY, Window(START, START + 2 * SLICE_NS))
    assert Counter(len(s.at) for s in found) == {3: 2, 6: 1}


def exported(body: str, counted: int) -> tuple[Prometheus, list[tuple[str, Form]]]:
    """Return the client of a VictoriaMetrics that exports this, and what it is asked."""
    asked: list[tuple[str, Form]] = []

    def answer(path: str, form: Form) -> Any:
        asked.append((path, form))
        if path == "/api/v1/export":
            return Reply(200, {}, body.encode())
        return success([{"metric": {}, "value": [0, str(counted)]}], "vector")

    return Prometheus(Answers(answer, "prometheus"), {"nocache": "1"}, export=True), asked


def test_victoriametrics_gives_raw_samples_by_its_own_export() -> None:
    lines = [
        {"metric": job(), "values": [1, None, 3], "timestamps": [START_MS, START_MS + 1, START_MS + 2]},
        {"metric": job("kube_job_failed"), "values": [1], "timestamps": [START_MS + 3_600_000]},
    ]
    client, asked = exported("\n".join(map(json.dumps, lines)) + "\n", 3)
    found = list(client.series(QUERY, HOUR))
    assert [(s.labels["__name__"], s.at.tolist(), s.values.tolist()) for s in found] == [
        ("kube_job_created", [START_MS, START_MS + 2], [1, 3]),
        ("kube_job_failed", [], []),  # one at the very end is of the next window
    ]
    ends = {"start": f"{START_MS // 1000}.000", "end": f"{START_MS // 1000 + 3599}.999"}
    assert asked[0] == ("/api/v1/export", {"match[]": "kube_job_created", "nocache": "1", **ends})
    assert asked[1][1]["query"].startswith("sum(count_over_time(")


@pytest.mark.parametrize(
    "body",
    [
        '{"metric": {}',
        '{"values": [1], "timestamps": [1]}',
        '{"metric": {}, "values": [1], "timestamps": []}',
        "[]",
    ],
)
def test_what_is_no_export_is_refused(body: str) -> None:
    client, _ = exported(body, 1)
    with pytest.raises(SourceError, match="no export of VictoriaMetrics"):
        list(client.series(QUERY, HOUR))


def test_parameters_go_with_every_query() -> None:
    asked: list[Form] = []

    def answer(_: str, form: Form) -> Any:
        asked.append(form)
        return success([], "vector" if form["query"].startswith("sum") else "matrix")

    client = Prometheus(Answers(answer, "prometheus"), {"dedup": "false"})
    assert list(client.series(QUERY, HOUR)) == []
    assert [form["dedup"] for form in asked] == ["false", "false"]


def test_a_queue_is_one_series_of_numbers() -> None:
    def made(*series: tuple[Labels, Samples]) -> list[tuple[int, float, str]]:
        found = prometheus.queue_samples(FakePrometheus(series).client().series(QUERY, HOUR), "q1")
        return [(r["ts"].value - START, r["value"], r["query"]) for r in found.to_pylist()]

    assert made() == []
    samples = [(0, "3"), (15_000, "NaN"), (30_000, "+Inf"), (45_000, "4.5")]
    assert made(({}, samples)) == [(0, 3.0, "q1"), (45 * NS, 4.5, "q1")]
    with pytest.raises(SourceError, match="several series") as caught:
        made(({"pod": "a"}, [(0, "1")]), ({"pod": "b"}, [(0, "1")]))
    assert "sum(" in caught.value.fix
