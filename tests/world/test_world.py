"""The world is held to itself: it is the same each time, its truth adds up, and everything that makes it hard is in it."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections import Counter
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline import schemas
from pipeline.model import NS, Window
from tests.world import World, demo
from tests.world.oddities import HOSTILE
from tests.world.options import NAMESPACE
from tests.world.platform import GOLDEN, run_token
from tests.world.truth import instant


@pytest.fixture(scope="module")
def world() -> World:
    return World.make()


def fingerprint(world: World) -> str:
    told = [world.streams(), list(world.series()), world.comments(), world.secrets]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def test_the_same_seed_makes_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    one, same, other = (World.make(seed=seed, runs=4, before_h=1, after_h=1) for seed in (7, 7, 8))
    assert fingerprint(one) == fingerprint(same)
    assert fingerprint(one) != fingerprint(other)
    first, second = (w.dump(tmp_path / name) for w, name in ((one, "a"), (same, "b")))
    files = [sorted((p.relative_to(d), p.read_bytes()) for p in d.rglob("*.*")) for d in (first, second)]
    assert files[0] == files[1]


def test_the_truth_has_the_shape_of_the_contract(world: World) -> None:
    for name in ("attempts", "failures", "incidents", "alerts", "alert_audit", "golden"):
        table = getattr(world.truth, name)
        assert len(table)
        assert list(table.columns)[: len(schemas.TABLES[name].columns)] == schemas.TABLES[name].columns


def test_the_truths_counts_add_up(world: World) -> None:
    truth = world.truth
    hours, quarters = (truth.golden[truth.golden["window"] == w] for w in ("1h", "15m"))
    assert (len(hours), len(quarters)) == (24 * 4, 96 * 4)
    counts = ["started", "finished", "failed", "manifest_unknown_lines", "cache_retrieval_lines", "build_ref_lines"]
    by_hour, by_quarter = (g.groupby("kind")[counts].sum() for g in (hours, quarters))
    assert by_hour.equals(by_quarter)
    jobs = ["started", "finished", "failed"]
    assert by_hour.loc[["all"], jobs].sum().tolist() == by_hour.loc[list(GOLDEN), jobs].sum().tolist()
    failures = truth.failures
    of_attempts = failures[failures["kind"] != "run"]
    assert by_hour["failed"].to_dict()["all"] == inside(of_attempts["failed_at"], world.day).sum()
    assert truth.incidents["failures"].sum() == len(failures[failures["class"] != "other"])


def test_the_golden_truth_is_a_count_of_the_attempts(world: World) -> None:
    attempts = world.truth.attempts
    window = Window(world.options.at("09:15"), world.options.at("09:30"))
    for kind in GOLDEN:
        of_kind = attempts[attempts["kind"] == kind]
        ended = of_kind[inside(of_kind["ended_at"], window)]
        rows = world.truth.golden.query("window == '15m' and kind == @kind")
        row = rows[rows["window_start"] == instant(window.start)].iloc[0]
        assert row["started"] == inside(of_kind["started_at"], window).sum()
        assert (row["finished"], row["failed"]) == (len(ended), (ended["outcome"] == "failed").sum())


def test_what_touches_the_day_runs_where_it_ends_later(world: World) -> None:
    of_day = world.truth.of_day(world.options.date)
    running = of_day[of_day["outcome"] == "running"]
    assert len(running)
    assert running["ended_at"].isna().all()
    ends = world.truth.attempts.set_index("uid")["ended_at"]
    assert (ends[running["uid"]] >= instant(world.day.end)).all()


def test_no_stream_holds_an_entry_twice_and_all_are_in_order(world: World) -> None:
    for _, entries in world.streams():
        assert [e[0] for e in entries] == sorted(e[0] for e in entries)
        assert len({(at, line, json.dumps(meta)) for at, line, meta in entries}) == len(entries)


def test_every_series_has_one_sample_an_instant_and_ends_where_nothing_shows_it(world: World) -> None:
    series = list(world.series())
    assert len({tuple(sorted(labels.items())) for labels, _ in series}) == len(series)
    for _, samples in series:
        at = [t for t, _ in samples]
        assert at == sorted(set(at))
        assert samples[0][1] is not None


def inside(instants: pd.Series, window: Window) -> Any:
    return (instants >= instant(window.start)) & (instants < instant(window.end))


def texts(world: World) -> list[str]:
    return [x.text for x in world.lines]


def of_incident(world: World, name: str) -> pd.DataFrame:
    return world.truth.failures[world.truth.failures["class"] == name]


def crossing(world: World, midnight: int) -> bool:
    a = world.truth.attempts
    return bool(
        ((a["started_at"] < instant(midnight)) & (a["ended_at"] > instant(midnight)) & (a["kind"] == "build")).any()
    )


def same_words_at_one_instant(world: World) -> bool:
    said = {(x.at, x.text, x.labels) for x in world.lines}
    return max(Counter((at, text) for at, text, _ in said).values()) > 1


def twins(world: World) -> list[str]:
    named = Counter(run_token(r.run_id) for r in world.platform.runs)
    return [token for token, n in named.items() if n > 1]


def retried(world: World) -> pd.DataFrame:
    stale = world.truth.attempts[world.truth.attempts["cause"] == "stale-cache"]
    return stale[(stale["deleted_at"] - stale["ended_at"]).dt.total_seconds() < 3]


def told_by(world: World, uid: str) -> set[str]:
    return {x.app for x in world.lines if x.uid == uid and x.signatures}


HARD: dict[str, Callable[[World], object]] = {
    "a retry under the same name two seconds after the failure": lambda w: len(retried(w)) > 5,
    "a retried failure that no scrape shows": lambda w: (~retried(w)["end_scraped"]).mean() > 0.8,
    "an attempt that lives between two scrapes": lambda w: (w.truth.attempts["scrapes"] == 0).any(),
    "the line that announces the retry": lambda w: any("retrying without cache" in t for t in texts(w)),
    "an attempt across the first midnight": lambda w: crossing(w, w.day.start),
    "an attempt across the last midnight": lambda w: crossing(w, w.day.end),
    "an attempt that still runs when the world ends": lambda w: (w.truth.attempts["outcome"] == "running").any(),
    "two runs with one token": lambda w: len(twins(w)) == 1,
    "jobs of theirs that nothing ties to either": lambda w: any(
        not links and twins(w)[0] in name
        for links, name in zip(w.truth.attempts["links"], w.truth.attempts["job_name"], strict=True)
    ),
    "a job that was made without a run": lambda w: (
        w.truth.attempts["run_id"].isna() & (w.truth.attempts["kind"] == "build")
    ).any(),
    "a hole between scrapes": lambda w: len(w.truth.scrape_holes) == 1,
    "lines that name no run": lambda w: sum("run_id" not in t for t in texts(w)) > 100,
    "plain text of Kaniko": lambda w: any(t.startswith("INFO[") for t in texts(w)),
    "plain text of git": lambda w: any(t.startswith("HEAD is now at") for t in texts(w)),
    "a panic of several lines": lambda w: any(t.startswith("\t/src/") for t in texts(w)),
    "JSON that was cut": lambda w: any(t.startswith("{") and not t.endswith("}") for t in texts(w)),
    "logfmt": lambda w: any(t.startswith("level=info msg=") for t in texts(w)),
    "secrets of several kinds": lambda w: sum(any(s in t for t in texts(w)) for s in w.secrets) >= 10,
    "a secret behind JSON's escapes": lambda w: any(
        s in json.loads(t).get("note", "") and s not in t for t in texts(w) if '"note"' in t for s in w.secrets
    ),
    "a key over several lines": lambda w: any(t.startswith("-----BEGIN") for t in texts(w)),
    "a build-ref incident that recovers": lambda w: (
        len(of_incident(w, "build-ref")) > 5 and of_incident(w, "build-ref")["recovered_at"].notna().all()
    ),
    "git's two ways to say it": lambda w: all(
        any("checkout --detach" in t and said in t for t in texts(w)) for said in ("unknown switch", "is not a commit")
    ),
    "a cache incident that recovers": lambda w: (
        len(of_incident(w, "cache")) > 10 and of_incident(w, "cache")["recovered_at"].notna().mean() > 0.9
    ),
    "mirrors that fail with the cache": lambda w: (of_incident(w, "cache")["kind"] == "mirror").any(),
    "small incidents of one failure": lambda w: (w.truth.incidents["failures"] == 1).sum() == 3,
    "status comments with markers": lambda w: (
        sum("<!-- codex-k8s:run-status {" in c["body"] for c in w.comments()) > 20
    ),
    "a person who names a run": lambda w: any(
        c["user"]["type"] == "User" and any(r.run_id in c["body"] for r in w.platform.runs) for c in w.comments()
    ),
    "a failure told by pod, control-plane and worker": lambda w: any(
        len(told_by(w, uid)) == 3 for uid in w.truth.attempts.query("cause == 'layer-lost'")["uid"]
    ),
    "failures by deadline": lambda w: (w.truth.attempts["reason"] == "DeadlineExceeded").any(),
    "failures without a signature": lambda w: (w.truth.failures["signatures"].map(len) == 0).sum() >= 4,
    "a run that failed with no job": lambda w: (w.truth.failures["kind"] == "run").sum() == 1,
    "pods of jobs with labels": lambda w: any("job_name" in labels for labels, _ in w.streams()),
    "pods of jobs whose names are metadata": lambda w: any("job_name" in dict(x.metadata) for x in w.lines),
    "mirrors that only a line ties to a run": lambda w: (
        w.truth.attempts.query("kind == 'mirror'")["links"]
        .map(lambda ways: "field" in ways and "job_token" not in ways)
        .any()
    ),
    "mirrors that nothing ties to a run": lambda w: (w.truth.attempts.query("kind == 'mirror'")["links"] == ()).any(),
    "equal lines at one nanosecond in two streams": same_words_at_one_instant,
    "two lines at one nanosecond in one stream": lambda w: max(Counter((x.at, x.labels) for x in w.lines).values()) > 1,
    "hostile text": lambda w: all(h in texts(w) for h in HOSTILE),
    "a cache error at INFO that is no recovery": lambda w: any(
        '"INFO","msg":"cache probe failed"' in t for t in texts(w)
    ),
    "an alert that fired for an incident": lambda w: (w.truth.alert_audit["verdict"] == "matched").sum() == 1,
    "a page that was missed": lambda w: (
        "AI_SLOT_BUILD_FAILURE_BURST" in w.truth.alert_audit.query("verdict == 'missed'")["alert"].tolist()
    ),
    "an alert for no reason": lambda w: (w.truth.alert_audit["verdict"] == "unexpected").sum() == 1,
    "a failure in the maintenance window": lambda w: inside(
        w.truth.failures["failed_at"], w.options.span(w.options.maintenance)
    ).any(),
    "a job that waits before it starts": lambda w: (
        (w.truth.attempts["started_at"] - w.truth.attempts["created_at"]).dt.total_seconds().max() > 40
    ),
}


@pytest.mark.parametrize("name", HARD)
def test_the_default_world_is_hard(world: World, name: str) -> None:
    assert HARD[name](world)


def test_events_lie_at_whole_seconds_and_name_every_failure(world: World, tmp_path: Path) -> None:
    folder = world.dump(tmp_path)
    found = [e for f in folder.glob("events*.json") for e in json.loads(f.read_text())["items"]]
    assert all(len(e["lastTimestamp"]) == len("2026-02-26T00:00:00Z") for e in found)
    told = {e["involvedObject"]["uid"] for e in found if e["reason"] in {"BackoffLimitExceeded", "DeadlineExceeded"}}
    assert told == set(world.truth.attempts.query("outcome == 'failed'")["uid"])


def test_jobs_are_deleted_when_their_time_is_over(world: World) -> None:
    done = world.truth.attempts[world.truth.attempts["outcome"] == "succeeded"]
    stayed = (done["deleted_at"] - done["ended_at"]).dt.total_seconds().groupby(done["kind"]).max()
    assert {k: int(stayed[k]) for k in GOLDEN} == {"build": 600, "mirror": 300, "codegen-check": 3600}


def test_the_default_world_is_of_the_promised_size(world: World) -> None:
    started = world.truth.golden.query("window == '1h'").groupby("kind")["started"].sum()
    assert 150 <= started["build"] + started["mirror"] <= 210
    assert 40 <= started["codegen-check"] <= 70
    assert 8_000 <= len(world.lines) <= 15_000


def test_crippled_worlds_differ_only_in_what_is_seen() -> None:
    whole = World.make()
    blind = World.make(pod_logs=False, scrape_s=60, gaps=(), restart="15:30", replicas=2, honor_labels=False)
    assert blind.platform == whole.platform
    assert not {x.app for x in blind.lines} & {"codex-k8s-kaniko", "codex-k8s-codegen-check"}
    series = list(blind.series())
    labels = [labels for labels, _ in series]
    assert len({x["instance"] for x in labels if x["__name__"] == "kube_job_created"}) == 3
    assert {x["exported_namespace"] for x in labels if x["__name__"] == "kube_job_created"} == {NAMESPACE}
    down = [t for x, samples in series if x["__name__"] == "up" for t, v in samples if v == 0]
    assert len(down) == 1
    assert not blind.truth.scrape_holes


def test_several_days_have_their_own_golden_signals() -> None:
    world = World.make(days=3, runs=8, idle_s=600)
    days = world.truth.golden["window_start"].dt.date.unique()
    assert len(days) == 3
    assert max(days) == world.options.date
    assert world.window.length == (3 * 24 + 6 + 3) * 3600 * NS


def test_no_file_of_the_tests_holds_a_secret(world: World) -> None:
    files = [p for p in Path(__file__).parents[1].rglob("*") if p.suffix in {".py", ".toml", ".json", ".md", ".txt"}]
    written = "\n".join(p.read_text(errors="replace") for p in files)
    assert not [s for w in (world, demo.world()) for s in w.secrets if s in written]


def test_the_demos_dump_is_what_its_generator_makes(tmp_path: Path) -> None:
    made, kept = tmp_path / "dump.zip", resources.files("pipeline").joinpath("_demo/dump.zip")
    demo.main(made)
    with resources.as_file(kept) as path:
        assert path.stat().st_size <= 350_000
        # what compression makes of the same bytes depends on the machine's zlib
        assert unpacked(made) == unpacked(path)


def unpacked(packed: Path) -> list[tuple[str, tuple[int, ...], bytes]]:
    with zipfile.ZipFile(packed) as z:
        return [(i.filename, i.date_time, z.read(i)) for i in z.infolist()]
