"""Failures of simulated days against their successes: what a world's incidents share, and lines that no success has."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline import schemas
from pipeline.lake.store import Store
from pipeline.loglines import to_logs
from pipeline.model import Entry, Window
from pipeline.redact import Redactor
from pipeline.settings import Settings
from pipeline.settings.sections import Compare
from pipeline.signals import failures, incidents, levels, templates
from pipeline.steps.compare import Compared, compare
from pipeline.steps.compute import log_lines
from pipeline.steps.context import Context
from pipeline.steps.told import Told
from tests.report_data import WATCH
from tests.small_lake import RULES
from tests.world.world import World

DATE = dt.date(2026, 2, 26)
SEEDS = (7, 11, 23, 42)


@dataclass(frozen=True)
class Site:
    """A world's lines in a lake, its true attempts, and what failed."""

    world: World
    ctx: Context
    attempts: pd.DataFrame
    lines: pd.DataFrame
    failures: pd.DataFrame
    incidents: pd.DataFrame

    @classmethod
    def make(cls, folder: Path, world: World, more: Iterable[Entry] = (), **settings: Any) -> Site:
        ctx = Context(Settings(compare=Compare(**settings)), RULES, Store(str(folder)), world.now, print)
        entries = [Entry(x.at, x.text, dict(x.labels), dict(x.metadata)) for x in world.lines]
        redactor = Redactor(RULES.redaction, b"a key of the tests")
        rows, _ = to_logs([*entries, *more], ctx.settings.loki.labels, redactor, RULES.signatures)
        ctx.tables.replace("logs", world.window, rows)
        attempts = schemas.tidy("attempts", world.truth.attempts.reindex(columns=schemas.TABLES["attempts"].columns))
        lines = log_lines(ctx, world.day, attempts)
        found = failures.failures(attempts, lines, world.day, RULES.signatures, RULES.phrases, RULES.golden_kinds())
        none = schemas.empty_frame("alerts"), schemas.empty_frame("issue_runs")
        cases = incidents.incidents(found, attempts, *none, RULES.alerts, 1800.0, 300.0, WATCH)
        return cls(world, ctx, attempts, lines, found, cases)

    def compared(self) -> Compared:
        return compare(
            self.ctx, Told(self.ctx), self.world.day, self.attempts, self.lines, self.failures, self.incidents
        )

    def largest(self, failure_class: str) -> str:
        cases = self.incidents[self.incidents["class"] == failure_class]
        return str(cases.sort_values("failures")["incident_id"].iloc[-1])


@pytest.fixture(scope="module", params=SEEDS)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site.make(tmp_path_factory.mktemp("lake"), World.make(seed=request.param, hostile=request.param == 7))


@pytest.fixture(scope="module")
def compared(site: Site) -> Compared:
    return site.compared()


def first(shares: pd.DataFrame, scope: str) -> dict[str, Any]:
    return schemas.rows_of(shares[shares["scope"] == scope])[0]


def test_an_incident_like_issue_205_shares_the_flag_in_its_ref(site: Site, compared: Compared) -> None:
    found = first(compared.shares, site.largest("build-ref"))
    assert [found[c] for c in ("kind", "attribute", "match", "value")] == ["codegen-check", "ref", "starts with", "-b"]
    broken = site.attempts["uid"].isin({a.uid for a in site.world.platform.attempts if a.cause == "build-ref"})
    assert found["failed"] == found["failed_of"] == broken.sum()
    checks = site.attempts[(site.attempts["kind"] == "codegen-check") & (site.attempts["outcome"] == "succeeded")]
    inside = checks["ended_at"].dt.date == DATE
    assert (found["succeeded"], found["succeeded_of"] + found["succeeded_unknown"]) == (0, inside.sum())
    assert found["q_value"] < 1e-4


def test_an_incident_of_the_cache_shares_that_it_was_on(site: Site, compared: Compared) -> None:
    of_case = compared.shares[compared.shares["scope"] == site.largest("cache")]
    cache = schemas.rows_of(of_case[(of_case["attribute"] == "cache") & (of_case["value"] == "true")])[0]
    assert cache["q_value"] < 0.05
    assert cache["failed"] / cache["failed_of"] > cache["succeeded"] / cache["succeeded_of"]


def test_no_line_of_the_ledger_is_a_successs(site: Site, compared: Compared) -> None:
    ended = {a.uid: a for a in site.world.platform.attempts if a.kind in RULES.golden_kinds()}
    fine = [
        (ended[x.uid].kind, x.text)
        for x in site.world.lines
        if x.uid in ended and ended[x.uid].outcome == "succeeded" and x.at in site.world.day
    ]
    ids = dict(zip(set(fine), templates.masked([t for _, t in set(fine)]).to_pylist(), strict=True))
    of_successes = {(kind, templates.template_id(text)) for (kind, _), text in ids.items()}
    rows = compared.ledger[compared.ledger["what"] == "template"]
    assert not {*zip(rows["kind"], rows["id"], strict=True)} & of_successes
    assert (rows["succeeded"] == 0).all()
    assert rows["text"].str.contains("MANIFEST_UNKNOWN").any()
    assert rows["text"].str.contains("checkout --detach -b feature/x").any()


def test_the_one_complaint_that_is_too_quiet_is_listed(site: Site) -> None:
    in_day = site.lines[site.lines["ts"] < pd.Timestamp(site.world.day.end, tz="UTC")]
    found = schemas.rows_of(levels.breaches(in_day, RULES.signatures, RULES.phrases, site.world.day))
    assert [(r["rule"], r["about"], r["level"], r["lines"]) for r in found] == [
        ("too-quiet", "manifest-unknown", "INFO", 1)
    ]


def same(one: Compared, other: Compared) -> None:
    for name in ("shares", "ledger", "success_templates"):
        pd.testing.assert_frame_equal(getattr(one, name), getattr(other, name))


def test_an_unrelated_stream_changes_nothing(tmp_path: Path) -> None:
    world = World.make(seed=11, hostile=False)
    labels = {"app": "unrelated", "namespace": "codex-k8s-prod", "pod": "unrelated-1"}
    lines = [Entry(world.day.start + n * 60 * 10**9, f"fatal: tick {n} ref=x", labels, {}) for n in range(1440)]
    same(Site.make(tmp_path / "one", world).compared(), Site.make(tmp_path / "two", world, lines).compared())


def test_lines_of_few_attempts_are_read_and_the_others_are_not_known(tmp_path: Path) -> None:
    site = Site.make(tmp_path, World.make(seed=11, hostile=False), attempts=4)
    compared = site.compared()
    assert compared.success_templates["of"].max() == 4
    assert compared.ledger["failed_of"].where(compared.ledger["what"] == "template").max() == 4
    said = compared.shares[compared.shares["attribute"].isin([a.id for a in RULES.attributes])]
    assert (said["succeeded_unknown"] > 0).all()
    same(compared, site.compared())


def test_what_a_day_has_is_new_then_known_then_back_and_never_known_by_itself(tmp_path: Path) -> None:
    site = Site.make(tmp_path, World.make(seed=11, hostile=False))
    tables, day = site.ctx.tables, site.world.day
    made = site.compared().ledger
    assert made["state"].isna().all()

    def put(frame: pd.DataFrame, days: int) -> None:
        back = pd.Timedelta(days=days)
        moved = frame.assign(
            day=frame["day"] - back, last_at=frame["last_at"] - back, first_seen_at=frame["first_at"] - back
        )
        tables.replace(
            "ledger", Window(day.start - back.value, day.end - back.value), schemas.from_frame("ledger", moved)
        )

    tables.replace("ledger", day, schemas.from_frame("ledger", made))
    tables.ensure("ledger", DATE - dt.timedelta(days=1))
    assert set(site.compared().ledger["state"]) == {"new"}
    put(made.iloc[:3], 8)
    put(made.iloc[3:], 2)
    again = site.compared().ledger
    assert again["state"].tolist() == ["returning"] * 3 + ["known"] * (len(made) - 3)
    assert (again["first_at"] - again["first_seen_at"]).unique().tolist() == [
        pd.Timedelta(days=8),
        pd.Timedelta(days=2),
    ]


def test_failures_are_held_against_the_successes_of_the_days_before(tmp_path: Path) -> None:
    site = Site.make(tmp_path, World.make(seed=11, hostile=False))
    made = site.compared()
    templated = made.ledger[made.ledger["what"] == "template"]
    gone = templated.iloc[0]
    before = site.world.day.start - 86_400 * 10**9
    row = {"day": pd.Timestamp(before, tz="UTC"), "kind": gone["kind"], "id": gone["id"], "attempts": 1, "of": 9}
    rows = schemas.from_frame("success_templates", schemas.tidy("success_templates", pd.DataFrame([row])))
    site.ctx.tables.replace("success_templates", Window(before, site.world.day.start), rows)
    again = site.compared().ledger
    assert gone["id"] not in set(again["id"])
    others = again[(again["kind"] == gone["kind"]) & (again["what"] == "template")]
    assert set(others["succeeded_of"]) == {gone["succeeded_of"] + 9}
