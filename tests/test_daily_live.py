"""The main job on real servers: a world's day through `aislot daily`, held to what the world knows to be true."""

from __future__ import annotations

import datetime as dt
import io
import json
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import catalog, schemas
from pipeline.lake.store import Store
from pipeline.lake.tables import Tables
from pipeline.redact import Redactor
from pipeline.signals.golden import SIGNATURES
from tests.command import aislot, digests, environment
from tests.conftest import had
from tests.github_server import github
from tests.servers.run import LokiWith, PrometheusServer
from tests.world.world import REPOSITORY, World

DATE = dt.date(2026, 2, 26)
KEY = "a key of the tests"
GOLDEN = ["build", "mirror", "codegen-check"]


@dataclass(frozen=True)
class Site:
    """A world on real servers, and what the command made of its day."""

    world: World
    folder: Path
    done: subprocess.CompletedProcess[str]

    @property
    def lake(self) -> Path:
        return self.folder / "lake"

    @property
    def report(self) -> Path:
        return self.folder / "out/daily" / str(DATE)

    def table(self, name: str, columns: list[str] | None = None) -> pd.DataFrame:
        return schemas.to_frame(Tables(Store(str(self.lake))).read(name, self.world.day, columns))

    def run(self, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return aislot(*arguments, cwd=self.folder, env={"AISLOT_REDACTION__KEY": KEY} | (env or {}))


@pytest.fixture(scope="module")
def world() -> World:
    return World.make()


@pytest.fixture(scope="module", params=["2", "3"])
def site(
    request: pytest.FixtureRequest, world: World, loki_with: LokiWith, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Load a Loki of its own and a Prometheus of each version with the world, and do its day."""
    loki = loki_with({"limits_config": {"max_entries_limit_per_query": 1000}})
    if request.param == "2":
        world.push_loki(loki)
    folder = tmp_path_factory.mktemp("site")
    with (
        had(lambda: PrometheusServer(request.param, tmp_path_factory.mktemp("prometheus"))) as prometheus,
        github(REPOSITORY, world.comments()) as api,
    ):
        world.push_prometheus(prometheus)
        world.dump(folder / "dump")
        for what in (*(folder / "dump").glob("jobs*.json"), *(folder / "dump").glob("comments*.json")):
            what.unlink()
        shutil.rmtree(folder / "dump/logs")
        (folder / "aislot.toml").write_text(
            f'[loki]\nurl = "{loki.url}"\n[prometheus]\nurl = "{prometheus.url}"\n'
            f'[github]\nrepository = "{REPOSITORY}"\napi_url = "{api}"\nlogin = "aislot-bot"\n'
            '[kubernetes]\ndump = "dump"\n',
            encoding="utf-8",
        )
        env = {"AISLOT_REDACTION__KEY": KEY}
        done = aislot("daily", "--date", str(DATE), cwd=folder, env=env)
        yield Site(world, folder, done)


def test_the_day_is_done_and_its_hole_is_said(site: Site) -> None:
    # the world's Prometheus was away for six minutes, so the day is not complete
    assert site.done.returncode == 4, site.done.stderr
    summary = json.loads((site.report / "summary.json").read_text("utf-8"))
    assert summary["verdict"] == "red"
    assert summary["data"]["loki"]["complete"] is True
    assert summary["data"]["github"]["complete"] is True
    assert summary["data"]["prometheus"]["complete"] is False
    holes = [[pd.Timestamp(t).value for t in g] for g in summary["data"]["prometheus"]["parts"]["jobs"]["gaps"]]
    assert holes == [[h.start, h.end] for h in site.world.truth.scrape_holes if h.intersect(site.world.day)]


def own_labels(labels: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """Leave out what Loki adds by itself."""
    return tuple(sorted((k, v) for k, v in labels.items() if k not in {"service_name", "detected_level"}))


def unescaped(line: str) -> str:
    """Write out what JSON may hide from a pattern."""
    try:
        return " ".join(map(str, json.loads(line).values()))
    except (ValueError, AttributeError):
        return line


def in_key(line: str, site: Site) -> bool:
    """Tell whether a line is inside a key that spreads over several of them."""
    return any(s in line for s in site.world.secrets) or "PRIVATE KEY" in line


def test_every_pushed_line_is_there_once(site: Site) -> None:
    redactor = Redactor(catalog.load().redaction, KEY.encode())
    lines = site.table("logs", ["ts", "labels", "metadata", "line"])
    found = Counter(
        (t.value, own_labels(own), own_labels(more), line) for t, own, more, line in lines.itertuples(index=False)
    )
    pushed: Counter[Any] = Counter()
    for labels, entries in site.world.streams():
        for ts, line, metadata in entries:
            if ts in site.world.day:
                pushed[ts, tuple(sorted(labels.items())), tuple(sorted(metadata.items())), line] += 1
    secret = [k for k in pushed if redactor.text(k[3])[1] or redactor.text(unescaped(k[3]))[1] or in_key(k[3], site)]
    assert sum(found.values()) == sum(pushed.values())
    held = {k for k in pushed if k not in set(secret)}
    assert {k: n for k, n in pushed.items() if k in held} == {k: n for k, n in found.items() if k in held}
    # what held a secret is there too, under its own instant and stream
    assert Counter(k[:3] for k in found.elements()) == Counter(k[:3] for k in pushed.elements())


def test_every_attempt_that_any_source_saw_is_there_with_its_outcome(site: Site) -> None:
    found, truth = site.table("attempts"), site.world.truth.attempts
    day = truth[
        (truth["created_at"] >= pd.Timestamp(site.world.day.start, tz="UTC"))
        & (truth["created_at"] < pd.Timestamp(site.world.day.end, tz="UTC"))
    ]
    key = ["namespace", "job_name", "attempt"]
    both = day.merge(found, on=key, how="outer", suffixes=("", "_found"), indicator=True)
    assert both[both["_merge"] != "both"][key].to_numpy().tolist() == []
    # of an attempt that no scrape saw, the first event that shows it is up to a second after its creation
    late_by = (both["created_at_found"] - both["created_at"]).dt.total_seconds()
    assert late_by[both["scrapes"] > 0].eq(0).all()
    assert late_by[both["scrapes"] == 0].between(0, 1).all()
    # an end after the day's last scrapes that were read is not known yet
    late = both["ended_at"] >= pd.Timestamp(site.world.day.end, tz="UTC")
    wrong = both[(both["outcome"] != both["outcome_found"]) & ~late]
    assert wrong[["job_name", "outcome", "outcome_found"]].to_numpy().tolist() == []
    failed = both[(both["outcome"] == "failed") & ~late]
    off = (failed["ended_at"] - failed["ended_at_found"]).abs().dt.total_seconds()
    assert (off <= failed["end_uncertainty_s_found"] + 1e-6).all()


def test_the_golden_table_equals_the_truth_wherever_it_can_be_known(site: Site) -> None:
    key = ["window_start", "window", "kind"]
    found = site.table("golden").set_index(key).sort_index()
    truth = site.world.truth.golden
    truth = truth[truth["window_start"].isin(site.table("golden")["window_start"])].set_index(key).sort_index()
    assert len(found) == 480
    assert found["complete"].astype(bool).tolist() == truth["complete"].astype(bool).tolist()
    whole = truth["complete"].astype(bool)
    for column in ("started", "finished", "failed", "failure_ratio", "backlog_max", "pending_max"):
        pd.testing.assert_series_equal(found.loc[whole, column], truth.loc[whole, column], check_dtype=False)
    for column in ("duration_p50_s", "duration_p95_s", "duration_max_s"):
        pd.testing.assert_series_equal(
            found.loc[whole, column], truth.loc[whole, column], check_dtype=False, atol=1.001
        )
    for column in SIGNATURES:  # logs have no hole
        pd.testing.assert_series_equal(found[column], truth[column], check_dtype=False)
    assert found.loc[~whole, "started"].isna().all()


def test_every_failure_is_linked_to_its_run_and_issue_and_of_twins_to_the_one_that_was_there(site: Site) -> None:
    found = site.table("failures")
    truth = site.world.truth.failures
    truth = truth[truth["failed_at"].dt.date == DATE]
    assert len(found) == len(truth)
    key = ["job_name", "attempt", "failed_at"]
    both = truth.merge(found, on=["job_name", "run_id", "attempt", "kind"], how="left", suffixes=("", "_found"))
    attempts = site.world.truth.attempts
    knowable = {(r["job_name"], r["attempt"]): r["links"] for r in schemas.rows_of(attempts)}
    for r in schemas.rows_of(both):
        if isinstance(r["job_name"], str) and not knowable[r["job_name"], r["attempt"]]:
            continue
        assert pd.notna(r["failed_at_found"]), r
        assert (r["issue"], r["class"]) == (r["issue_found"], r["class_found"]) or pd.isna(r["issue"]), r
    unlinked = found[found["run_id"].isna()]
    assert not any(knowable.get((r["job_name"], r["attempt"])) for r in schemas.rows_of(unlinked)), key
    summary = json.loads((site.report / "summary.json").read_text("utf-8"))
    assert summary["ambiguous_links"] == 0
    ran = attempts[attempts["run_id"].str[:12].isin(_twins(site)) & (attempts["created_at"].dt.date == DATE)]
    mine = {(r["job_name"], r["attempt"]): r["run_id"] for r in schemas.rows_of(site.table("attempts"))}
    assert len(set(ran["run_id"])) == 2
    assert all(mine[r["job_name"], r["attempt"]] == r["run_id"] for r in schemas.rows_of(ran))


def _twins(site: Site) -> set[str]:
    """Return the tokens that two runs share."""
    runs = site.world.truth.attempts["run_id"].dropna().drop_duplicates()
    shared = runs.str[:12].value_counts()
    return set(shared[shared == 2].index)


def test_the_incidents_are_the_worlds(site: Site) -> None:
    columns = ["class", "started_at", "ended_at", "failures", "signatures", "issues"]
    found = site.table("incidents")[columns].to_numpy().tolist()
    truth = site.world.truth.incidents
    assert found == truth[truth["started_at"].dt.date == DATE].sort_values("started_at")[columns].to_numpy().tolist()


def extracted(data: bytes) -> Iterator[str]:
    """Yield what an extract of `logs` holds: a line with its proof, one of JSON, and Parquet files."""
    _, head, body = data.split(b"\n", 2)
    yield head.decode()
    at = 0
    for size in json.loads(head)["sizes"].values():
        yield json.dumps(pq.read_table(io.BytesIO(body[at : at + size])).to_pylist(), default=str)
        at += size
    assert at == len(body)


def test_no_secret_is_anywhere(site: Site) -> None:
    assert len(site.world.secrets) >= 5
    texts = [site.done.stdout, site.done.stderr]
    for path in site.lake.rglob("*"):
        if path.suffix == ".parquet":
            texts.append(json.dumps(pq.ParquetFile(path).read().to_pylist(), default=str))
        elif path.suffix == ".extract":
            texts += extracted(path.read_bytes())
        elif path.is_file():
            texts.append(path.read_text("utf-8"))
    texts += [p.read_text("utf-8") for p in site.report.iterdir()]
    parts = {piece for s in site.world.secrets for piece in (s, json.dumps(s)[1:-1])}
    assert [s[:6] for s in parts if any(s in t for t in texts)] == []
    assert sum("[REDACTED:" in t for t in texts) >= 1


def test_the_same_command_again_changes_no_data_file(site: Site) -> None:
    before = digests(site.lake)
    done = site.run("daily", "--date", str(DATE))
    assert done.returncode == 4, done.stderr
    assert digests(site.lake) == before


def test_the_proof_of_the_logs_counts_what_loki_counts(site: Site) -> None:
    summary = json.loads((site.report / "summary.json").read_text("utf-8"))
    proof = summary["data"]["loki"]["parts"]["logs"]["proof"]
    assert proof["reconciled"] == proof["counted"] == summary["data"]["loki"]["rows"]


@pytest.mark.parametrize("hours", [(0, 9), (9, 17), (17, 24)])
def test_a_day_pulled_in_parts_has_the_same_lines(site: Site, tmp_path: Path, hours: tuple[int, int]) -> None:
    start = site.world.day.start + hours[0] * 3600 * 10**9
    end = site.world.day.start + hours[1] * 3600 * 10**9
    since, until = (pd.Timestamp(t, tz="UTC").isoformat() for t in (start, end))
    done = site.run("pull", "logs", "--since", since, "--until", until, "--lake", str(tmp_path / "lake"))
    assert done.returncode == 0, done.stderr
    mine, whole = Store(str(tmp_path / "lake")), Store(str(site.lake))
    window = type(site.world.day)(start, end)
    assert Tables(mine).read("logs", window).equals(Tables(whole).read("logs", window))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("site", ["2"], indirect=True)  # which version Prometheus is changes nothing of a kill
def test_killed_at_any_point_and_run_again_the_lake_is_the_same(site: Site, tmp_path: Path) -> None:
    rng = random.Random(5)
    arguments = [sys.executable, "-m", "pipeline", "daily", "--date", str(DATE), "--lake", str(tmp_path / "lake")]
    env = environment({"AISLOT_REDACTION__KEY": KEY, "AISLOT_REPORT__OUT": str(tmp_path / "out")})
    for _ in range(12):
        child = subprocess.Popen(
            arguments, cwd=site.folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(rng.uniform(0.5, 8))
        child.kill()
        child.wait()
        for path in (tmp_path / "lake").glob("*/date=*/*.parquet"):
            pq.ParquetFile(path).read()  # a reader never meets half a file
    done = subprocess.run(arguments, cwd=site.folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 4, done.stderr
    # in which order an hour's rows lie in its file follows from when they were read
    ours, theirs = (
        {name: digest for name, digest in digests(lake).items() if not name.startswith("logs/")}
        for lake in (tmp_path / "lake", site.lake)
    )
    assert ours == theirs
    day = site.world.day
    rows = [Tables(Store(str(lake))).read("logs", day) for lake in (tmp_path / "lake", site.lake)]
    assert rows[0].equals(rows[1])
    assert [p.name for p in (tmp_path / "lake/_aislot/unfinished").iterdir()] == []


def test_loki_away_makes_the_day_grey_or_red_and_the_next_run_heals_it(site: Site, tmp_path: Path) -> None:
    lake = ["--lake", str(tmp_path / "lake"), "--out", str(tmp_path / "out")]
    broken = site.run(
        "daily", "--date", str(DATE), *lake, "--max-runtime", "60s", env={"AISLOT_LOKI__URL": "http://127.0.0.1:9"}
    )
    assert broken.returncode == 3, broken.stderr
    summary = json.loads((tmp_path / "out/daily" / str(DATE) / "summary.json").read_text("utf-8"))
    assert summary["data"]["loki"]["complete"] is False
    assert summary["golden"]["all"]["manifest_unknown_lines"] in {None, 0}
    healed = site.run("daily", "--date", str(DATE), *lake)
    assert healed.returncode == 4, healed.stderr
    rows = [pa.table(Tables(Store(str(f))).read("logs", site.world.day)) for f in (tmp_path / "lake", site.lake)]
    assert rows[0].equals(rows[1])
