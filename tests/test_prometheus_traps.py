"""The twelve likeliest silent errors of job history from Prometheus, on real servers of both versions.

Each test is named after its trap. It shows first what a plain client gets, then that our tables hold the truth.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import requests

from pipeline import catalog, schemas
from pipeline.lake.store import Store
from pipeline.model import DAY_NS, NS, Window
from pipeline.settings import Settings
from pipeline.settings.sections import Address
from pipeline.sources import prometheus
from pipeline.steps.compute import Day, compute
from pipeline.steps.context import Context
from pipeline.steps.pull import pull
from tests.conftest import had
from tests.servers.run import NewPrometheus, PrometheusServer
from tests.world import World
from tests.world.lake import put_lines
from tests.world.metrics import Sample
from tests.world.options import NAMESPACE
from tests.world.platform import GOLDEN
from tests.world.truth import instant

pytestmark = pytest.mark.live

SMALL: Mapping[str, Any] = {"scrape_s": 60, "runs": 12, "before_h": 2.0, "after_h": 2.0, "gaps": (), "idle_s": 3600}
WORLD = World.make(**SMALL)
DATE, DAY = WORLD.options.date, WORLD.day
# other worlds lie on days of their own, so that one server holds them all
OTHER: Mapping[str, Any] = {**SMALL, "runs": 4, "before_h": 0.5, "after_h": 0.5}
TWICE = World.make(**OTHER, date=DATE + timedelta(days=4), replicas=2, restart="09:31:07")
EXPORTED = World.make(**OTHER, date=DATE + timedelta(days=8), honor_labels=False)
EMPTY = Window.of_day(DATE + timedelta(days=12))
ODD = Window.of_day(DATE + timedelta(days=16))
JOB = "codex-k8s-kaniko-worker-3f2a9c1e-7b4"


@dataclass(frozen=True)
class Asked:
    """A server that holds the worlds, and a lake with one world's day of it."""

    server: PrometheusServer
    ctx: Context
    day: Day

    def naive(self, query: str, at: int = DAY.end) -> list[dict[str, Any]]:
        """Return what an instant query gives."""
        result: list[dict[str, Any]] = self.server.get("/api/v1/query", query=query, time=at / NS)["data"]["result"]
        return result

    def number(self, query: str, at: int = DAY.end) -> float:
        """Return the one number that an instant query gives."""
        (row,) = self.naive(query, at)
        return float(row["value"][1])

    @cached_property
    def attempts(self) -> list[dict[str, Any]]:
        """The attempts that were created in the day."""
        return schemas.rows_of(table(self.ctx, "attempts", self.day.window))


def lake(folder: Path, server: PrometheusServer, now: int) -> Context:
    settings = Settings()
    settings = replace(settings, prometheus=replace(settings.prometheus, url=Address(server.url)))
    return Context(settings, catalog.load(), Store(str(folder)), now, lambda _: None)


def table(ctx: Context, name: str, window: Window) -> pd.DataFrame:
    return schemas.to_frame(ctx.tables.read(name, window))


def done(folder: Path, server: PrometheusServer, day: Window) -> Asked:
    """Pull and compute a day an hour after it."""
    ctx = lake(folder, server, day.end + 3600 * NS)
    pull(ctx, day, ["jobs"])
    return Asked(server, ctx, compute(ctx, pd.Timestamp(day.start, unit="ns").date()))


def truth(world: World, *, scraped: bool = True) -> list[dict[str, Any]]:
    """Return what was created in a world's day, and seen by a scrape unless said otherwise."""
    every = world.truth.attempts
    inside = (every["created_at"] >= instant(world.day.start)) & (every["created_at"] < instant(world.day.end))
    return schemas.rows_of(every[inside & ((every["scrapes"] > 0) | (not scraped))])


def ends(world: World) -> list[dict[str, Any]]:
    """Return what of that ended in the day, as a scrape showed."""
    return [r for r in truth(world) if r["end_scraped"] and r["ended_at"] < instant(world.day.end)]


def keys(rows: Iterable[Mapping[str, Any]]) -> list[tuple[str, Any]]:
    return sorted((r["job_name"], r["created_at"]) for r in rows)


def hand_made() -> Iterator[tuple[Mapping[str, str], list[Sample]]]:
    """Yield a job that failed for a reason that kube-state-metrics does not list, and a target that was down all day."""
    at = [t // 10**6 for t in range(ODD.start, ODD.end, 60 * NS)]
    own = {"instance": "k:8080", "job": "kube-state-metrics"}
    yield {"__name__": "up"} | own, [(t, 1.0) for t in at]
    begun, ended = ODD.start // NS + 36_000, ODD.start // NS + 36_300
    shown = [t for t in at if begun * 1000 <= t < (ended + 600) * 1000]
    over = [t for t in shown if t >= ended * 1000]
    named = {"namespace": NAMESPACE, "job_name": JOB} | own
    yield named | {"__name__": "kube_job_info"}, [(t, 1.0) for t in shown]
    yield named | {"__name__": "kube_job_created"}, [(t, float(begun)) for t in shown]
    yield named | {"__name__": "kube_job_status_start_time"}, [(t, float(begun)) for t in shown]
    yield named | {"__name__": "kube_job_status_failed"}, [(t, 2.0 * (t in over)) for t in shown]
    for condition in ("true", "false", "unknown"):
        labels = named | {"__name__": "kube_job_failed", "condition": condition}
        yield labels, [(t, float(condition == "true")) for t in over]
    down = [t // 10**6 for t in range(EMPTY.start, EMPTY.end, 60 * NS)]
    yield {"__name__": "up"} | own, [(t, 0.0) for t in down]


@pytest.fixture(scope="module", params=["2", "3"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    """Start a Prometheus that holds every world."""
    with had(lambda: PrometheusServer(request.param, tmp_path_factory.mktemp("prometheus"))) as running:
        for world in (WORLD, TWICE, EXPORTED):
            world.push_prometheus(running)
        running.remote_write(hand_made())
        yield running


@pytest.fixture(scope="module")
def asked(server: PrometheusServer, tmp_path_factory: pytest.TempPathFactory) -> Asked:
    """Pull and compute the world's day."""
    return done(tmp_path_factory.mktemp("lake"), server, DAY)


@pytest.fixture(scope="module")
def odd(server: PrometheusServer, tmp_path_factory: pytest.TempPathFactory) -> Asked:
    """Pull and compute the day of the job that was made by hand."""
    return done(tmp_path_factory.mktemp("odd"), server, ODD)


def test_trap_1_a_name_is_not_an_attempt(asked: Asked) -> None:
    names = asked.number(
        f'count(group by (job_name) (last_over_time(kube_job_created{{namespace="{NAMESPACE}"}}[1d])))'
    )
    assert len({r["job_name"] for r in truth(WORLD)}) <= names < len(truth(WORLD))
    assert keys(asked.attempts) == keys(truth(WORLD))
    took = {(r["job_name"], r["created_at"]): r["duration_s"] for r in truth(WORLD)}
    succeeded = [r for r in asked.attempts if r["outcome"] == "succeeded"]
    assert {r["duration_s"] - took[r["job_name"], r["created_at"]] for r in succeeded} == {0}


def test_trap_2_failures_that_were_retried_are_lost(asked: Asked, tmp_path: Path) -> None:
    retried = [r for r in truth(WORLD) if r["outcome"] == "failed" and not r["end_scraped"]]
    assert retried
    shown = {(r["job_name"], r["created_at"]): r["outcome"] for r in asked.attempts}
    assert {shown[r["job_name"], r["created_at"]] for r in retried} == {"superseded"}
    assert sum(o == "superseded" for o in shown.values()) == len(retried)
    # the control-plane's words settle them, and those that no scrape saw at all
    shutil.copytree(asked.ctx.store.root, tmp_path / "lake")
    ctx = replace(asked.ctx, store=Store(str(tmp_path / "lake")))
    put_lines(ctx, WORLD, [DAY])
    compute(ctx, DATE)
    found = table(ctx, "attempts", DAY)
    failed = [r for r in truth(WORLD, scraped=False) if r["outcome"] == "failed" and r["ended_at"] < instant(DAY.end)]
    known = [r for r in failed if r["end_scraped"] or r["told_by_line"]]
    assert (found["outcome"] == "superseded").sum() == 0
    assert (found["outcome"] == "failed").sum() == len(known) > sum(o == "failed" for o in shown.values())
    said = sum("retrying without cache" in x.text for x in WORLD.lines if x.at in DAY)
    assert (found["outcome_source"] == "line").sum() >= said


def test_trap_3_what_only_counters_have_is_no_count_of_failures(asked: Asked) -> None:
    failed = [r for r in truth(WORLD) if r["outcome"] == "failed" and r["end_scraped"]]
    for function in ("increase", "changes"):
        assert asked.number(f"sum({function}(kube_job_status_failed[1d]))") < len(failed) / 2
    assert [r["outcome"] for r in asked.attempts].count("failed") == len(failed) >= 3
    asks = [q for q in catalog.load().queries.values() if "kube_job_" in q]
    assert asks
    assert not any(re.search(r"\b(i?rate|increase|changes|i?delta|deriv)\s*\(", q) for q in asks)


def test_trap_4_what_is_alive_is_not_what_started(asked: Asked) -> None:
    query = f'count(count_over_time(kube_job_info{{namespace="{NAMESPACE}"}}[15m]))'
    ends = {"start": (DAY.start + 900 * NS) / NS, "end": DAY.end / NS}
    result = asked.server.get("/api/v1/query_range", query=query, step=900, **ends)["data"]["result"]
    alive = sum(float(v) for _, v in result[0]["values"])
    begun = [r for r in truth(WORLD) if r["kind"] in GOLDEN]
    assert alive > 1.5 * len(truth(WORLD))
    ours = asked.day.golden.query("window == '15m' and kind == 'all'")
    assert ours["started"].sum() == sum(r["started_at"] < instant(DAY.end) for r in begun)


def test_trap_5_ghosts(asked: Asked, new_prometheus: NewPrometheus, tmp_path: Path) -> None:
    file = tmp_path / "world.om"
    file.write_text(openmetrics(WORLD), encoding="utf-8")
    filled = new_prometheus(asked.server.version, openmetrics=file)
    # without stale markers a deleted job is shown for five minutes more, also beside the one that took its place
    before, after = (
        Asked(s, asked.ctx, asked.day).number(f'sum(count_over_time(kube_job_info{{namespace="{NAMESPACE}"}}[1d:1m]))')
        for s in (asked.server, filled)
    )
    assert after > before * 1.05
    again = done(tmp_path / "lake", filled, DAY)
    pd.testing.assert_frame_equal(table(again.ctx, "attempts", DAY), table(asked.ctx, "attempts", DAY))
    samples = table(again.ctx, "job_samples", DAY)
    over = samples[samples["metric"].isin(["complete", "failed_condition"]) & (samples["value"] == 1)]
    of_one = over.groupby(["namespace", "job_name", "ts"])["metric"].nunique()
    assert (of_one == 1).all()
    assert samples["ts"].isin(table(again.ctx, "scrapes", DAY)["ts"]).all()


def openmetrics(world: World) -> str:
    """Write a world's series as OpenMetrics, which knows no stale markers."""
    families: dict[str, list[str]] = {}
    for labels, samples in world.series():
        named = ",".join(f'{k}="{v}"' for k, v in labels.items() if k != "__name__")
        said = (f"{labels['__name__']}{{{named}}} {v} {t / 1000:.3f}" for t, v in samples if v is not None)
        families.setdefault(labels["__name__"], []).extend(said)
    lines = [line for name, of in families.items() for line in (f"# TYPE {name} gauge", *of)]
    return "\n".join([*lines, "# EOF", ""])


def test_trap_6_a_step_too_coarse_and_the_limit_that_invites_it(asked: Asked) -> None:
    ends: dict[str, str | float] = {"query": "kube_job_created", "start": DAY.start / NS, "end": DAY.end / NS}
    with pytest.raises(requests.HTTPError, match="11,000"):
        asked.server.get("/api/v1/query_range", step=7, **ends)
    coarse = asked.server.get("/api/v1/query_range", step=900, **ends)["data"]["result"]
    lives = {(s["metric"]["job_name"], v) for s in coarse for _, v in s["values"]}
    assert len(lives) < len(truth(WORLD))
    assert keys(asked.attempts) == keys(truth(WORLD))
    (record,) = asked.ctx.records.of("jobs", DAY)
    assert (record.proof["interval_s"], record.proof["scrapes"]) == (60, 1440)


def test_trap_7_a_second_kube_state_metrics_and_one_that_restarted(server: PrometheusServer, tmp_path: Path) -> None:
    found = done(tmp_path, server, TWICE.day)
    noon = TWICE.options.at("09:25") + 30 * NS
    info = f'kube_job_info{{namespace="{NAMESPACE}"}}'
    assert found.number(f"count({info})", noon) == 2 * found.number(f"count(group by (job_name) ({info}))", noon)
    assert keys(found.attempts) == keys(truth(TWICE))
    assert found.day.coverage[1].complete is True
    samples = table(found.ctx, "job_samples", TWICE.day)
    assert not samples.duplicated(["metric", "namespace", "job_name", "reason", "ts"]).any()
    ended = {(r["job_name"], r["created_at"]): r["outcome"] for r in ends(TWICE)}
    ours = {(r["job_name"], r["created_at"]): r["outcome"] for r in found.attempts}
    assert {k: ours[k] for k in ended} == ended


def test_trap_8_the_namespace_is_that_of_kube_state_metrics(server: PrometheusServer, tmp_path: Path) -> None:
    found = done(tmp_path, server, EXPORTED.day)
    assert found.naive(f'last_over_time(kube_job_info{{namespace="{NAMESPACE}"}}[1d])', EXPORTED.day.end) == []
    assert found.naive("last_over_time(kube_job_info[1d])", EXPORTED.day.end)
    assert keys(found.attempts) == keys(truth(EXPORTED))
    assert {r["namespace"] for r in found.attempts} == {NAMESPACE}


def test_trap_9_the_edges_of_windows(asked: Asked) -> None:
    edge = (DAY.start // NS + 3.412) * NS  # scrapes lie on it
    hours = [asked.number("sum(count_over_time(up[1h]))", int(edge + n * 3600 * NS)) for n in range(1, 24)]
    whole = asked.number("sum(count_over_time(up[23h]))", int(edge + 23 * 3600 * NS))
    assert sum(hours) - whole == (22 if asked.server.version == "2" else 0)  # what two closed hours share counts twice
    expected = sum(t * 10**6 in DAY for t in range(int(edge) // 10**6, DAY.end // 10**6, 60_000))
    at = table(asked.ctx, "scrapes", DAY)["ts"]
    assert (len(at), at.nunique()) == (expected, expected)


@pytest.mark.parametrize("hours", [1, 7, 24])
def test_trap_9_the_attempts_are_the_same_whatever_the_size_of_requests(
    asked: Asked, hours: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert prometheus.SLICE_NS == 6 * 3600 * NS
    monkeypatch.setattr(prometheus, "SLICE_NS", hours * 3600 * NS)
    again = done(tmp_path, asked.server, DAY)
    for name in ("job_samples", "scrapes", "attempts", "golden"):
        assert again.ctx.tables.read(name, DAY).equals(asked.ctx.tables.read(name, DAY))


def test_trap_10_three_series_a_failure_and_reasons_that_are_not_listed(asked: Asked, odd: Asked) -> None:
    failed = {(r["job_name"], r["created_at"]): r["reason"] for r in truth(WORLD) if r["outcome"] == "failed"}
    shown = [r for r in asked.attempts if r["outcome"] == "failed"]
    assert asked.number("count(last_over_time(kube_job_failed[1d]))") >= 3 * len({r["job_name"] for r in shown})
    assert {(r["job_name"], r["created_at"]): r["reason"] for r in shown}.items() <= failed.items()
    assert {r["reason"] for r in shown} == {"BackoffLimitExceeded", "DeadlineExceeded"}
    ((name, outcome, reason),) = [(r["job_name"], r["outcome"], r["reason"]) for r in odd.attempts]
    assert (name, outcome) == (JOB, "failed")
    assert pd.isna(reason)
    assert odd.day.totals["build"]["failed"] == 1  # of two pods


def test_trap_11_nothing_is_not_no_failures(server: PrometheusServer, odd: Asked, tmp_path: Path) -> None:
    found = done(tmp_path / "down", server, EMPTY)
    assert found.naive('count(kube_job_failed{condition="true"} == 1)', EMPTY.end) == []
    never = done(tmp_path / "never", server, Window(EMPTY.start + 2 * DAY_NS, EMPTY.end + 2 * DAY_NS))
    for got in (found, never):
        jobs = next(c for c in got.day.coverage if c.what == "jobs")
        assert (jobs.complete, list(jobs.gaps)) == (False, [got.day.window])
        assert got.day.golden[["started", "finished", "failed"]].isna().all(axis=None)
        assert not got.day.golden["complete"].any()
        assert got.day.totals["all"]["complete"] is False
        assert got.day.verdict.verdict == "grey"
    assert odd.day.golden["complete"].all()  # the target was scraped all day, and showed one job


def test_trap_12_a_failure_has_no_completion_time(asked: Asked) -> None:
    failed = [r for r in ends(WORLD) if r["outcome"] == "failed"]
    names = {r["job_name"] for r in failed} - {r["job_name"] for r in truth(WORLD) if r["outcome"] == "succeeded"}
    query = f'last_over_time(kube_job_status_completion_time{{job_name=~"{"|".join(names)}"}}[1d])'
    assert names
    assert asked.naive(query) == []
    known = {(r["job_name"], r["created_at"]): r for r in truth(WORLD)}
    ours = [r for r in asked.attempts if r["outcome"] == "failed"]
    assert len(ours) == len(failed)
    for r in ours:
        off = (r["ended_at"] - known[r["job_name"], r["created_at"]]["ended_at"]).total_seconds()
        assert 0 <= off <= r["end_uncertainty_s"] <= 61
    succeeded = [r for r in ends(WORLD) if r["outcome"] == "succeeded"]
    longest = {k: max(r["duration_s"] for r in succeeded if r["kind"] == k) for k in GOLDEN}
    hours = asked.day.golden.query("window == '1h'").groupby("kind")["duration_max_s"].max()
    assert {k: hours[k] for k in GOLDEN} == longest  # of those that succeeded, and said to be
    created = table(asked.ctx, "job_samples", DAY).query("metric == 'created'")
    seen = created.groupby(["job_name", "value"], as_index=False)["ts"].min()
    first = [t.value / NS - v for t, v in zip(seen["ts"], seen["value"], strict=True) if v * NS > DAY.start]
    assert all(0 <= s <= 65 for s in first)


def _tables(ctx: Context, days: Iterable[Window]) -> list[pd.DataFrame]:
    return [table(ctx, name, day) for day in days for name in ("attempts", "golden", "failures")]


def test_the_next_day_settles_what_ran_at_midnight_and_nothing_that_is_pulled_again_takes_an_end_back(
    server: PrometheusServer, tmp_path: Path
) -> None:
    over = [r for r in truth(WORLD) if r["ended_at"] >= instant(DAY.end) + pd.Timedelta(minutes=3)]  # three scrapes
    assert {r["kind"] for r in over} & {*GOLDEN}

    def outcomes(ctx: Context) -> dict[tuple[str, Any], str]:
        rows = {(r["job_name"], r["created_at"]): r["outcome"] for r in schemas.rows_of(table(ctx, "attempts", DAY))}
        return {k: rows[k] for k in keys(over)}

    first = done(tmp_path / "lake", server, DAY)
    assert set(outcomes(first.ctx).values()) == {"running"}
    following = Window(DAY.end, DAY.end + DAY_NS)
    ctx = replace(first.ctx, now=following.end + 3600 * NS)
    pull(ctx, following, ["jobs"])
    made = compute(ctx, DATE + timedelta(days=1))
    assert [d.date for d in made.restated] == [DATE]
    settled = outcomes(ctx)
    assert settled == {(r["job_name"], r["created_at"]): r["outcome"] for r in over}
    whole = _tables(ctx, [DAY, following])
    pull(ctx, Window(DAY.end - 1800 * NS, DAY.end - 900 * NS), ["jobs"])
    compute(ctx, DATE)
    assert outcomes(ctx) == settled
    other = replace(ctx, store=Store(str(tmp_path / "other")))
    for n in (1, -1, 0):  # whatever days are in the lake before it
        pull(other, Window(DAY.start + n * DAY_NS, DAY.end + n * DAY_NS), ["jobs"])
        compute(other, DATE + timedelta(days=n))
    for found in (_tables(ctx, [DAY, following]), _tables(other, [DAY, following])):
        for one, also in zip(found, whole, strict=True):
            pd.testing.assert_frame_equal(one, also)
