"""VictoriaMetrics in place of Prometheus: what real ones answered, read by both ways; and what their documents say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import SourceError, TooLarge
from pipeline.model import NS, Window
from pipeline.settings import Prometheus as Configured
from pipeline.settings import Settings
from pipeline.settings.sections import Address
from pipeline.sources.http import Reply
from pipeline.sources.prometheus import Prometheus, Question
from tests.faults import Answers, Asked, Form, Say, serving
from tests.recorded.victoriametrics import DAY, SERIES, VERSIONS, WAYS, answers, tables
from tests.small_lake import lake
from tests.tables import at

QUESTION = Question("up[${range}]", "sum(count_over_time(up[${range}]))")
MS = 10**6


@pytest.fixture(params=[(version, way) for version in VERSIONS for way in WAYS], ids=" by ".join)
def pulled(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, list[dict[str, Any]]]:
    version, way = request.param
    return tables(answers(version, way), way, tmp_path)


def test_raw_samples_are_those_that_were_written_without_stale_markers(pulled: dict[str, list[dict[str, Any]]]) -> None:
    ours = [(r["metric"], r["job_name"], r["ts"].value // MS, r["value"]) for r in pulled["job_samples"]]
    names = {"status_start_time": "start_time", "failed": "failed_condition", "status_failed": "failed_pods"}
    written = []
    for labels, samples in SERIES:
        metric = labels["__name__"].removeprefix("kube_job_")
        if labels.get("namespace") == "codex-k8s-prod" and labels.get("condition") in {None, "true"}:
            written += [
                (names.get(metric, metric), labels["job_name"], ms, value) for ms, value in samples if value is not None
            ]
    assert sorted(ours) == sorted(written)
    assert len(pulled["scrapes"]) == 60
    assert all(r["up"] for r in pulled["scrapes"])


def test_an_alert_ends_one_evaluation_after_its_last_sample(pulled: dict[str, list[dict[str, Any]]]) -> None:
    (alert,) = pulled["alerts"]
    assert (alert["alert"], alert["severity"]) == ("AI_SLOT_BUILD_FAILURE_BURST", "page")
    ends = [(alert[c].value - at("09:00").value) / MS for c in ("started_at", "ended_at")]
    assert ends == [600_412, 900_412]


def test_a_query_is_sampled_on_the_grid_of_its_step(pulled: dict[str, list[dict[str, Any]]]) -> None:
    seconds = [(r["ts"] - at("09:00")).total_seconds() for r in pulled["queue_samples"]]
    assert seconds == [15.0 * n for n in range(1, 41)]
    assert {r["value"] for r in pulled["queue_samples"]} == {3.0}


@pytest.mark.parametrize("way", WAYS)
def test_every_question_asks_for_the_whole_answer_and_the_newest_samples(way: str, tmp_path: Path) -> None:
    door = answers(VERSIONS[0], way)
    tables(door, way, tmp_path)
    forms = [asked.form for asked in door.asked if asked.form]
    assert {asked.path for asked in door.asked if asked.form} == {
        "/api/v1/query",
        *(["/api/v1/export"] if way == "export" else []),
    }
    assert {f["deny_partial_response"] for f in forms} == {"1"}
    assert {f["latency_offset"] for f in forms} == {"1ms"}


def answering(body: Any) -> Prometheus:
    def answer(_path: str, _form: Form) -> Any:
        return body

    return Prometheus(Answers(answer, "prometheus"), Settings().prometheus.parameters)


def test_a_partial_answer_is_none() -> None:
    # vmselect, while a vmstorage is away and nobody denied that
    partial = {"status": "success", "isPartial": True, "data": {"resultType": "matrix", "result": []}}
    with pytest.raises(SourceError, match="its answer is not whole"):
        list(answering(partial).series(QUESTION, DAY))


LIMIT = (
    "cannot select more than -search.maxSamplesPerQuery=1000000000 samples; possible solutions: increase the -search."
)
FETCH = f'cannot fetch data for "accountID=0, projectID=0, filters=[{{__name__=~"{"x" * 300}"}}]": {LIMIT}'


def refused(status: int, error: str, kind: str = "") -> Reply:
    body = json.dumps({"status": "error", "errorType": kind, "error": error}) if kind else error
    return Reply(status, {}, body.encode())


@pytest.mark.parametrize(
    ("reply", "export"),
    [
        (refused(422, LIMIT, "422"), False),
        (refused(422, f"error when exporting data for query={FETCH}", "422"), False),
        (refused(400, f"error when exporting data on the time range (start=1, end=2): {FETCH}"), True),
        # Mimir's and Thanos's words
        (refused(422, "the query exceeded the maximum number of chunks (limit: 2000000 chunks)", "execution"), False),
        (refused(422, "the query time range exceeds the limit (query length: 6h, limit: 1h)", "bad_data"), False),
        (refused(422, "expanded matching posting: exceeded series limit: limit 100 violated", "execution"), False),
    ],
)
def test_what_is_too_large_for_a_server_is_asked_in_smaller_parts(reply: Reply, export: bool) -> None:
    door = Answers(lambda _path, _form: reply, "prometheus")
    with pytest.raises(TooLarge):
        list(Prometheus(door, export=export).series(QUESTION, DAY))
    assert len(door.asked) > 1  # down to a minute


def test_a_question_that_a_server_cannot_read_is_asked_once() -> None:
    # what v1.151.0 said
    door = Answers(lambda _path, _form: refused(400, "cannot parse matches[]=sum(: singleExpr: unexpected token"), "p")
    with pytest.raises(SourceError, match="cannot parse"):
        list(Prometheus(door, export=True).series(QUESTION, DAY))
    assert len(door.asked) == 1


@pytest.mark.parametrize(("base", "tenant"), [("/prometheus", "team-a"), ("/select/0/prometheus/", ""), ("", "1")])
def test_the_path_of_an_address_leads_and_the_tenant_goes_along(base: str, tenant: str, tmp_path: Path) -> None:
    def answer(asked: Asked) -> Say:
        counted = asked.form.get("query", "").startswith("sum(")
        data: dict[str, Any] = {"resultType": "vector" if counted else "matrix", "result": []}
        return Say(b"" if asked.path.endswith("/export") else {"status": "success", "data": data})

    with serving(answer) as server:
        made = Settings(prometheus=Configured(Address(f"{server.url}{base}"), tenant=tenant))
        ctx = replace(lake(tmp_path), settings=made)
        for export in (False, True):
            client = Prometheus(ctx.prometheus(), made.prometheus.parameters, export=export)
            assert list(client.series(QUESTION, Window(DAY.start, DAY.start + 3600 * NS))) == []
    paths = [f"{base.rstrip('/')}/api/v1/{name}" for name in ("query", "query", "export", "query")]
    assert [asked.path for asked in server.asked] == paths
    assert {asked.headers.get("X-Scope-OrgID", "") for asked in server.asked} == {tenant}
    assert {asked.form["partial_response"] for asked in server.asked} == {"false"}
