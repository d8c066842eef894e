"""A real cluster decides: what the command makes of two minutes of it, against the API server's own story of each job."""

from __future__ import annotations

import functools
import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytest

from pipeline import schemas
from pipeline.lake.store import Store
from pipeline.lake.tables import Tables
from pipeline.model import Window
from tests.cluster_story import LASTS_S, Life, Story, outcomes, plans, retried
from tests.command import aislot
from tests.conftest import had
from tests.servers.cluster import NAMESPACE, Cluster
from tests.servers.run import PrometheusServer

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
VERSIONS: tuple[Literal["2", "3"], ...] = ("2", "3")
SCRAPE_S = 5
_MARGIN = pd.Timedelta(seconds=2)  # what the API server tells in whole seconds, and what is heard of a second later
_NO_TIME = pd.Timedelta(0)
_TERMINAL = {"succeeded", "failed"}


@dataclass(frozen=True)
class Told:
    """What happened, and where each source tells of it; `scrapes` are those that showed jobs, by version."""

    folder: Path
    start: pd.Timestamp
    lives: Sequence[Life]
    urls: Mapping[str, str]
    scrapes: Mapping[str, Sequence[pd.Timestamp]]

    @property
    def until(self) -> pd.Timestamp:
        """When the platform made its last job, and up to when is asked."""
        return self.start + pd.Timedelta(seconds=LASTS_S)

    @property
    def dump(self) -> Path:
        """What `kubectl` would have shown, in the contract's layout."""
        return self.folder / "dump"

    @property
    def events(self) -> Path:
        """A dump of the events alone."""
        return self.folder / "events"

    @functools.cached_property
    def failed_at(self) -> dict[str, pd.Timestamp]:
        """When the Job controller told in an event that a job failed, by uid."""
        reasons = {life.uid: life.reason for life in self.lives if life.outcome == "failed"}
        told = json.loads((self.events / "events.json").read_text())["items"]
        about = [(e["involvedObject"]["uid"], e["reason"], pd.Timestamp(e["lastTimestamp"])) for e in told]
        return {uid: at for uid, reason, at in about if reasons.get(uid) == reason}

    def attempts(self, name: str, **settings: dict[str, Any]) -> list[dict[str, Any]]:
        """Pull and compute as a user would, in a folder of its own, and return the rows of `attempts`."""
        folder = self.folder / name
        folder.mkdir()
        tables = {"kubernetes": {"namespaces": [NAMESPACE]}} | settings
        lines = [f"[{t}]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in of.items()) for t, of in tables.items()]
        (folder / "aislot.toml").write_text("".join(lines))
        window = ("--since", self.start.isoformat(), "--until", self.until.isoformat())
        pulled = aislot("pull", "jobs", "events", *window, cwd=folder)
        assert pulled.returncode in {0, 4}, pulled.stderr  # 4: kube-state-metrics was away too long for its scrapes
        for day in sorted({self.start.date(), self.until.date()}):
            computed = aislot("compute", "--date", str(day), cwd=folder)
            assert computed.returncode == 4, computed.stderr  # the day is not over
        whole = Window(self.start.floor("D").value, self.until.ceil("D").value)
        return schemas.rows_of(schemas.to_frame(Tables(Store(str(folder / "lake"))).read("attempts", whole)))

    def shown(self, version: str, start: pd.Timestamp, end: pd.Timestamp | None) -> bool:
        """Tell whether a scrape that was asked for fell surely between two instants."""
        last = self.until if end is None else min(self.until, end - _MARGIN)
        return any(start + _MARGIN <= t <= last for t in self.scrapes[version])


@pytest.fixture(scope="module")
def cluster_story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """Play the story on a control plane that both Prometheus versions scrape, and keep what `kubectl` would have shown."""
    folder = tmp_path_factory.mktemp("cluster")
    for name in ("dump", "events"):
        (folder / name).mkdir()
    with ExitStack() as stack:
        cluster = stack.enter_context(had(lambda: Cluster(folder)))
        config = cluster.metrics.scraped_each(SCRAPE_S)
        servers = [stack.enter_context(_prometheus(v, folder, config)) for v in VERSIONS]

        def keep(name: str, items: dict[str, Any]) -> None:
            (folder / "dump" / f"{name}.json").write_text(json.dumps(items))

        start = pd.Timestamp.now("UTC")
        story = Story(cluster.api, plans(seed=6))
        story.play(
            {
                40: lambda: keep("jobs-1", cluster.api.jobs()),
                55: cluster.metrics.stop,
                61: cluster.metrics.start,
                85: lambda: keep("jobs-2", cluster.api.jobs()),
            }
        )
        keep("jobs-3", cluster.api.jobs())
        keep("events", cluster.api.events())
        scrapes: dict[str, Sequence[pd.Timestamp]] = {s.version: _scrapes(s) for s in servers}
        shutil.copy(folder / "dump" / "events.json", folder / "events")
        yield Told(folder, start, story.lives(), {s.version: s.url for s in servers}, scrapes)


def _prometheus(version: Literal["2", "3"], folder: Path, config: Mapping[str, Any]) -> PrometheusServer:
    return had(lambda: PrometheusServer(version, folder / f"prometheus{version}", config))


def _scrapes(server: PrometheusServer) -> list[pd.Timestamp]:
    found = server.get("/api/v1/query", query="kube_job_created[10m]")["data"]["result"]
    return sorted({pd.Timestamp(float(t), unit="s", tz="UTC") for series in found for t, _ in series["values"]})


def _keyed(lives: Sequence[Life]) -> dict[tuple[str, pd.Timestamp], Life]:
    found = {(life.job_name, life.created_at): life for life in lives}
    assert len(found) == len(lives)
    return found


def _right_about_its_end(got: dict[str, Any], life: Life, failed_at: Mapping[str, pd.Timestamp]) -> None:
    """Hold what is said of an attempt's end against the truth, which lies within what is said of it.

    Of a failure the API server tells twice: in the Job's condition and, once that is written, in an event. They differ by
    a second where one begins between them, and each is to be given as it was told.
    """
    if got["outcome"] not in _TERMINAL:
        assert pd.isna(got["ended_at"])
        return
    by_event = got["outcome"] == "failed" and got["outcome_source"] == "event"
    ended_at = failed_at[life.uid] if by_event else life.ended_at
    assert ended_at is not None
    assert abs((got["ended_at"] - ended_at).total_seconds()) <= got["end_uncertainty_s"], (got, life)
    # a scrape shows a reason only where kube-state-metrics has it on its list
    assert pd.isna(got["reason"]) or got["reason"] == life.reason, (got, life)


def test_the_story_holds_every_kind_of_end(cluster_story: Told) -> None:
    lives = cluster_story.lives
    assert {life.reason for life in lives} == {None, "BackoffLimitExceeded", "DeadlineExceeded", "PodFailurePolicy"}
    found = outcomes(lives)
    assert found.keys() == {"succeeded", "failed", "running", "superseded", "vanished"}
    assert found["succeeded"] >= 35
    assert len(list(retried(lives))) == 9
    assert (found["failed"], found["superseded"], found["vanished"]) == (15, 1, 2)
    assert any(life.gone_at for life in lives if life.outcome == "succeeded")  # time to live is over within the story


def test_an_event_names_every_failure_and_is_written_soon_after_its_condition(
    cluster_story: Told, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = [life for life in cluster_story.lives if life.outcome == "failed"]
    ended = {life.uid: life.ended_at for life in failed if life.ended_at is not None}
    assert len(ended) == len(failed)
    assert cluster_story.failed_at.keys() == ended.keys()
    late = [at - ended[uid] for uid, at in cluster_story.failed_at.items()]
    assert all(_NO_TIME <= t <= _MARGIN for t in late)
    with capsys.disabled():
        sys.stdout.write(f"\n{sum(t > _NO_TIME for t in late)} of {len(late)} events a second after their condition\n")


@pytest.mark.parametrize("version", VERSIONS)
def test_with_events_every_outcome_is_right_and_every_end_to_the_second(cluster_story: Told, version: str) -> None:
    prometheus = {"url": cluster_story.urls[version]}
    kubernetes = {"namespaces": [NAMESPACE], "dump": str(cluster_story.events)}
    found = cluster_story.attempts(f"events{version}", prometheus=prometheus, kubernetes=kubernetes)
    known = {life.uid: life for life in cluster_story.lives}
    assert {r["uid"] for r in found} == known.keys()
    assert len(found) == len(known)
    assert {r["uid"]: r["outcome"] for r in found} == {life.uid: life.outcome for life in known.values()}
    for got in found:
        life = known[got["uid"]]
        _right_about_its_end(got, life, cluster_story.failed_at)
        if got["source"] == "prometheus":
            assert got["created_at"] == life.created_at
        if got["outcome"] == "failed":
            assert (got["end_uncertainty_s"], got["reason"]) == (0, life.reason)
        elif got["outcome"] == "succeeded":
            assert got["end_uncertainty_s"] <= 1  # an event tells of a success up to a second late


@pytest.mark.parametrize("version", VERSIONS)
def test_without_events_nothing_is_wrong_and_what_a_scrape_saw_is_known(
    cluster_story: Told, version: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = cluster_story.attempts(f"alone{version}", prometheus={"url": cluster_story.urls[version]})
    known, by_key = _keyed(cluster_story.lives), {(r["job_name"], r["created_at"]): r for r in found}
    assert len(by_key) == len(found)
    assert by_key.keys() <= known.keys()
    for key, got in by_key.items():
        assert got["outcome"] in {known[key].outcome, "superseded", "vanished", "running"}, (got, known[key])
        _right_about_its_end(got, known[key], cluster_story.failed_at)
    for key, life in known.items():
        if cluster_story.shown(version, life.created_at, life.gone_at):
            assert key in by_key, life
        if life.ended_at is not None and cluster_story.shown(version, life.ended_at, life.gone_at):
            assert by_key[key]["outcome"] == life.outcome, (by_key[key], life)
    seen = Counter(r["outcome"] for r in found)
    failed = outcomes(cluster_story.lives)["failed"]
    with capsys.disabled():
        said = f"{len(found)} of {len(known)} attempts, {seen['failed']} of {failed} failures"
        sys.stdout.write(f"\nPrometheus {version} alone, each {SCRAPE_S} s: {said}\n")
    assert seen["failed"] >= failed - len(list(retried(cluster_story.lives)))


def test_a_dump_of_kubectl_knows_every_end(cluster_story: Told) -> None:
    kubernetes = {"namespaces": [NAMESPACE], "dump": str(cluster_story.dump)}
    found = cluster_story.attempts("kubectl", kubernetes=kubernetes)
    known = {life.uid: life for life in cluster_story.lives}
    assert {r["uid"] for r in found} == known.keys()
    assert len(found) == len(known)
    for got in found:
        life = known[got["uid"]]
        _right_about_its_end(got, life, cluster_story.failed_at)
        if life.outcome in _TERMINAL:
            assert got["outcome"] == life.outcome, (got, life)
            assert got["end_uncertainty_s"] <= (got["outcome"] == "succeeded")
        else:
            assert got["outcome"] not in _TERMINAL, (got, life)
