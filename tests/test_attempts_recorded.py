"""Attempts against a real cluster's recording: what each source shows of 101 attempts, and nothing that did not happen."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipeline import catalog, schemas
from pipeline.lake.tables import union
from pipeline.model import NS, Window
from pipeline.signals import scraped
from pipeline.signals.attempts import Evidence, reconstruct, upsert
from pipeline.sources import kubectl, pods, prometheus, shipped
from pipeline.sources.prometheus import Series
from tests import recorded, shipping
from tests.tables import lines

RULES = catalog.load()
NAMESPACES = ["codex-k8s-prod"]
TRUTH = pd.DataFrame(recorded.load("truth.json")["attempts"])
_ASKED = re.search(r"kube_job_\(([^)]*)\)", RULES.queries["job_samples"])
METRICS = {f"kube_job_{n}" for n in (_ASKED[1].split("|") if _ASKED else ())}
EXPOSED = re.compile(r'^kube_job_(\w+)\{namespace="([^"]*)",job_name="([^"]*)"\} (\S+)$', re.MULTILINE)


def series(wanted: Callable[[Mapping[str, str]], bool]) -> Iterator[Series]:
    """Give the recorded answer's series as the pipeline's own client gives them."""
    for s in recorded.load("samples.json")["data"]["result"]:
        if wanted(s["metric"]):
            at = np.rint(np.array([t for t, _ in s["values"]]) * 1000).astype(np.int64)
            yield Series(s["metric"], at, np.array([v for _, v in s["values"]], np.float64))


SAMPLES = prometheus.job_samples(series(lambda m: m["__name__"] in METRICS), NAMESPACES)
SCRAPES = prometheus.scrapes(series(lambda m: m["__name__"] == "up"))
EVENTS = kubectl.events(recorded.load("events.json")["items"])
SNAPSHOTS = pa.concat_tables(
    [kubectl.snapshot(recorded.load(f"jobs-{n}.json")["items"], now=2**62).rows for n in (1, 2, 3, 4)],
)
NO_SNAPSHOTS, NO_EVENTS, NO_PODS = (schemas.empty(t) for t in ("job_snapshots", "events", "pod_ends"))
_AT = SCRAPES["ts"].cast(pa.int64()).to_pylist()
ASKED = Window(_AT[0], _AT[-1] + 1)


def attempts(*sources: str, until: int = ASKED.end) -> pd.DataFrame:
    """Put attempts together from some of the sources, as they stood at an instant."""
    return _attempts(sources, until).copy()


@functools.cache
def _attempts(sources: tuple[str, ...], until: int) -> pd.DataFrame:
    return put_together(
        SAMPLES if "scrapes" in sources else schemas.empty("job_samples"),
        SCRAPES if "scrapes" in sources else schemas.empty("scrapes"),
        SNAPSHOTS if "snapshots" in sources else NO_SNAPSHOTS,
        EVENTS if "events" in sources else NO_EVENTS,
        until,
    )


def put_together(
    samples: pa.Table = SAMPLES,
    scrapes: pa.Table = SCRAPES,
    snapshots: pa.Table = NO_SNAPSHOTS,
    events: pa.Table = NO_EVENTS,
    until: int = ASKED.end,
    ended: pa.Table = NO_PODS,
) -> pd.DataFrame:
    def before(table: pa.Table, column: str) -> pa.Table:
        return table.filter(pc.less(table[column].cast(pa.int64()), until))

    def known(table: pa.Table, column: str = "ts") -> pd.DataFrame:
        return schemas.to_frame(before(table, column))

    evidence = Evidence(
        before(samples, "ts"),
        known(scrapes),
        known(snapshots, "snapshot_at"),
        known(events),
        lines(),
        (Window(ASKED.start, until),),
        known(ended, "completed_at"),
    )
    return reconstruct(evidence, RULES.job_kinds, RULES.phrases)


def truth(outcomes: Collection[str] = ("succeeded", "failed", "superseded")) -> dict[tuple[str, pd.Timestamp], Any]:
    """Return what was done to each job, by name and creation."""
    rows = schemas.rows_of(TRUTH[TRUTH["outcome"].isin(outcomes)])
    return {(r["job_name"], pd.Timestamp(r["created"])): r for r in rows}


def keyed(found: pd.DataFrame) -> dict[tuple[str, pd.Timestamp], dict[str, Any]]:
    rows = {(r["job_name"], r["created_at"]): r for r in schemas.rows_of(found)}
    assert len(rows) == len(found)
    return rows


def counts(found: pd.DataFrame) -> dict[str, int]:
    return {str(k): int(v) for k, v in found["outcome"].value_counts().items()}


def shipped_as(*shapes: str) -> pa.Table:
    """Return the recorded events as agents of these shapes ship them, each event by one or by all of them in turn."""
    entries = [shipping.shipped(e, s) for e in recorded.load("events.json")["items"] for s in shapes]
    return shipped.table(e for entry in entries if (e := shipped.event_of(entry, "namespace")))


@pytest.mark.parametrize("shapes", [["alloy"], ["alloy-json"], ["exporter"], ["alloy", "exporter"], [*shipping.SHAPES]])
@pytest.mark.parametrize("snapshots", [NO_SNAPSHOTS, SNAPSHOTS])
def test_with_shipped_events_every_failure_is_known_too_even_without_uids(
    shapes: list[str], snapshots: pa.Table
) -> None:
    found, known = keyed(put_together(events=shipped_as(*shapes), snapshots=snapshots)), truth()
    assert found.keys() == known.keys()
    failed = {k: r for k, r in found.items() if r["outcome"] == "failed"}
    assert {k: r["ended_at"] for k, r in failed.items()} == {
        k: r["ended_at"]
        for k, r in keyed(attempts("scrapes", "events", "snapshots")).items()
        if r["outcome"] == "failed"
    }
    assert len(failed) == 24
    assert {r["end_uncertainty_s"] for r in failed.values()} == {0}


@pytest.mark.parametrize("sources", [("scrapes", "events"), ("scrapes", "events", "snapshots")])
def test_with_events_every_attempt_and_every_failure_is_known_to_the_second(sources: tuple[str, ...]) -> None:
    found, known = keyed(attempts(*sources)), truth()
    assert found.keys() == known.keys()
    assert {k: r["outcome"] for k, r in found.items()} == {k: r["outcome"] for k, r in known.items()}
    for key, was in known.items():
        got = found[key]
        if was["outcome"] != "superseded":
            assert (got["ended_at"], got["end_uncertainty_s"]) == (pd.Timestamp(was["ended"]), 0)
            assert (got["reason"] if was["outcome"] == "failed" else "") == was["reason"]
        assert pd.isna(got["started_at"]) or got["started_at"] == pd.Timestamp(was["started"])
    assert sum(r["outcome"] == "failed" for r in found.values()) == 24


def test_scrapes_alone_see_all_but_one_attempt_and_say_openly_whose_end_they_missed() -> None:
    found, known = keyed(attempts("scrapes")), truth()
    assert len(found) == 100
    assert found.keys() < known.keys()
    assert counts(attempts("scrapes")) == {"succeeded": 76, "failed": 13, "superseded": 11}
    for key, got in found.items():
        assert got["outcome"] in {known[key]["outcome"], "superseded"}
    assert {k for k, r in found.items() if r["outcome"] == "succeeded"} == truth({"succeeded"}).keys()


def test_scrapes_date_a_success_exactly_and_a_failure_within_what_they_say() -> None:
    known = truth()
    for key, got in keyed(attempts("scrapes")).items():
        if pd.notna(got["ended_at"]):
            late = (got["ended_at"] - pd.Timestamp(known[key]["ended"])).total_seconds()
            assert 0 <= late <= got["end_uncertainty_s"] < 16  # between scrapes, from the whole second of the first on
            assert late == 0 or got["outcome"] == "failed"


@pytest.mark.parametrize(
    ("told", "snapshots", "dated"),
    [
        (("completion_time", "owner"), NO_SNAPSHOTS, 12),
        (("completion_time", "owner", "labels"), NO_SNAPSHOTS, 12),
        (("completion_time", "labels"), SNAPSHOTS, 11),  # by the jobs' uids, of which snapshots tell these
    ],
)
def test_a_pods_completion_dates_a_failure_within_two_seconds(
    told: Sequence[str], snapshots: pa.Table, dated: int
) -> None:
    ended = pods.pod_ends(series(lambda m: m["__name__"] in {f"kube_pod_{t}" for t in told}), NAMESPACES)
    found = put_together(snapshots=_without_ends(snapshots), ended=ended)
    assert counts(found) == counts(attempts("scrapes"))
    by_pod, known = found[found["outcome_source"] == "pod"], truth()
    assert len(by_pod) == dated  # the thirteenth ran out of time, and its pod was taken away
    assert set(by_pod["outcome"]) == {"failed"}
    for key, got in keyed(by_pod).items():
        late = (pd.Timestamp(known[key]["ended"]) - got["ended_at"]).total_seconds()
        assert 0 <= late <= got["end_uncertainty_s"] == 2


def _without_ends(snapshots: pa.Table) -> pa.Table:
    """Return what snapshots tell of the jobs' uids alone."""
    for column in ("completed_at", "failed_at"):
        nothing = pa.nulls(snapshots.num_rows, schemas.TS)
        snapshots = snapshots.set_column(snapshots.schema.get_field_index(column), column, nothing)
    return snapshots


def test_snapshots_alone_know_what_stood_in_them() -> None:
    found, known = keyed(attempts("snapshots")), truth()
    shown = {(j["metadata"]["name"], pd.Timestamp(j["metadata"]["creationTimestamp"])) for j in _shown_jobs()}
    assert found.keys() == shown < known.keys()
    for key, got in found.items():
        if got["outcome"] in {"succeeded", "failed"}:
            assert got["outcome"] == known[key]["outcome"]
            assert got["ended_at"] == pd.Timestamp(known[key]["ended"])
            assert (got["outcome_source"], got["end_uncertainty_s"]) == ("condition", 0)
    assert counts(attempts("snapshots")) == {"succeeded": 53, "failed": 9, "vanished": 9, "running": 1}


def _shown_jobs() -> list[dict[str, Any]]:
    return [j for n in (1, 2, 3, 4) for j in recorded.load(f"jobs-{n}.json")["items"]]


def test_events_alone_name_every_attempt_and_every_outcome() -> None:
    found = attempts("events").sort_values(["job_name", "created_at"])
    known = TRUTH.sort_values(["job_name", "created"])
    assert found["job_name"].tolist() == known["job_name"].tolist()
    assert found["outcome"].tolist() == known["outcome"].tolist()
    late = found["created_at"].to_numpy() - pd.to_datetime(known["created"]).dt.as_unit("ns").to_numpy()
    assert set(late / np.timedelta64(1, "s")) <= {0.0, 1.0}
    for got, was in zip(schemas.rows_of(found), schemas.rows_of(known), strict=True):
        if was["outcome"] == "failed":
            assert (got["ended_at"], got["end_uncertainty_s"]) == (pd.Timestamp(was["ended"]), 0)
        elif was["outcome"] == "succeeded":
            assert 0 <= (got["ended_at"] - pd.Timestamp(was["ended"])).total_seconds() <= got["end_uncertainty_s"]


def test_attempts_of_one_name_are_numbered_as_they_were_created() -> None:
    found, known = attempts("scrapes", "events"), TRUTH.sort_values("created")
    expected = known.groupby("job_name").cumcount() + 1
    numbers = {
        (n, pd.Timestamp(c)): int(i) for n, c, i in zip(known["job_name"], known["created"], expected, strict=True)
    }
    assert {k: r["attempt"] for k, r in keyed(found).items()} == numbers


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_what_kube_state_metrics_exposed_is_what_is_found(n: int) -> None:
    exposed: dict[str, dict[str, float]] = {}
    for metric, _, job, value in EXPOSED.findall(recorded.text(f"metrics-{n}.txt")):
        exposed.setdefault(job, {})[metric] = float(value)
    found = keyed(attempts("scrapes"))
    assert len(exposed) > 10
    for job, was in exposed.items():
        got = found[job, pd.Timestamp(was["created"], unit="s", tz="UTC")]
        assert got["started_at"] == pd.Timestamp(was["status_start_time"], unit="s", tz="UTC")
        if "status_completion_time" in was:
            assert got["ended_at"] == pd.Timestamp(was["status_completion_time"], unit="s", tz="UTC")


def test_every_second_scrape_sees_less_and_nothing_wrong() -> None:
    kept = set(_AT[::2])
    fewer = [t.filter(pa.array([a in kept for a in t["ts"].cast(pa.int64()).to_pylist()])) for t in (SAMPLES, SCRAPES)]
    found, known = keyed(put_together(fewer[0], fewer[1])), truth()
    assert found.keys() <= known.keys()
    assert len(found) >= 95
    for key, got in found.items():
        assert got["outcome"] in {known[key]["outcome"], "superseded", "vanished"}
        if got["outcome"] == "succeeded":
            assert got["ended_at"] == pd.Timestamp(known[key]["ended"])


@pytest.mark.parametrize("seconds", [60, 137])
def test_pulls_cut_in_any_way_give_the_same_attempts(seconds: int) -> None:
    samples = schemas.empty("job_samples")
    merge = union(schemas.TABLES["job_samples"].key)
    at = SAMPLES["ts"].cast(pa.int64()).to_numpy()
    for cell in reversed(list(ASKED.cells(seconds * NS))):
        part = SAMPLES.filter(pa.array((at >= cell.start - 15 * NS) & (at <= cell.end)))  # neighbours share an edge
        samples = merge(samples, part)
    pd.testing.assert_frame_equal(put_together(samples), attempts("scrapes"))


def test_samples_tell_the_same_in_any_order_and_coded() -> None:
    shuffled = SAMPLES.take(pa.array(np.random.default_rng(5).permutation(len(SAMPLES))))
    coded = shuffled.cast(schemas.chosen("job_samples", coded=scraped.CODED))
    chunks = pa.concat_tables([coded.slice(0, 1000), coded.slice(1000)])
    for samples in (shuffled, chunks):
        pd.testing.assert_frame_equal(put_together(samples), attempts("scrapes"))


@pytest.mark.parametrize("sources", [("scrapes",), ("scrapes", "events", "snapshots")])
def test_what_earlier_runs_wrote_changes_nothing_once_all_is_known(sources: tuple[str, ...]) -> None:
    lake = schemas.empty_frame("attempts")
    for cell in ASKED.cells(139 * NS):
        lake = upsert(lake, attempts(*sources, until=cell.end))
    pd.testing.assert_frame_equal(lake, upsert(schemas.empty_frame("attempts"), attempts(*sources)))


def test_a_run_that_sees_less_takes_no_end_away() -> None:
    whole = attempts("scrapes", "events")
    lake = upsert(whole, attempts("scrapes", until=ASKED.start + 240 * NS))
    ends = ["job_name", "created_at", "outcome", "ended_at", "end_uncertainty_s", "outcome_source"]
    pd.testing.assert_frame_equal(lake[ends], whole[ends])
