"""What must not matter: how a day is cut into pulls, in which order anything comes, and what else a server holds."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest

from pipeline import schemas
from pipeline.model import NS, Window
from pipeline.steps.compute import compute
from pipeline.steps.pull import pull
from tests.world import World
from tests.world.held import QUIET
from tests.world.lake import Site, pull_day, put_lines, site
from tests.world.lines import Line, slog
from tests.world.memory import MemoryPrometheus
from tests.world.options import NAMESPACE

SOURCES = ("prometheus", "logs", "comments")  # without events, so that everything rests on scrapes and lines
TABLES = ("attempts", "golden", "failures", "incidents", "alert_audit", "slo", "shares", "level_breaches", "alerts")


@pytest.fixture(scope="module")
def world() -> World:
    return World.make(scrape_s=60, runs=12, before_h=2.0, after_h=1.0, **QUIET)


def made(ctx: Site, world: World) -> dict[str, pd.DataFrame]:
    compute(ctx, world.options.date)
    return {name: schemas.to_frame(ctx.tables.read(name, world.day)) for name in TABLES}


@pytest.fixture(scope="module")
def plain(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    """Return the day's tables of one pull of all of it."""
    found = made(
        pull_day(site(world, tmp_path_factory.mktemp("plain"), SOURCES), world, world.options.date, SOURCES), world
    )
    assert all(len(table) for table in found.values())
    return found


def _in_parts(world: World, ctx: Site) -> Site:
    """Pull the day in parts of odd lengths, the last first, and some of it twice."""
    ctx = replace(ctx, now=world.day.end + 1200 * NS)
    edges = [world.day.start + round(h * 3600 * NS) for h in (0, 0.75, 7, 9.3, 9.4, 16, 24)]
    parts = [Window(a, b) for a, b in pairwise(edges)]
    for part in [*reversed(parts), parts[2]]:
        pull(ctx, part, ["jobs", "alerts", "issues"])
    put_lines(ctx, world, list(world.day.cells(3600 * NS))[::-1])
    return ctx


def _shuffled(world: World, ctx: Site) -> Site:
    rng = random.Random(5)
    series, streams = list(world.series()), sorted({x.labels for x in world.lines})
    rng.shuffle(series)
    rng.shuffle(streams)
    other = World(world.options)
    # what one stream wrote at one instant has an order that means something, all else has none
    other.__dict__["lines"] = sorted(world.lines, key=lambda x: streams.index(x.labels))
    return pull_day(replace(ctx, server=MemoryPrometheus(series)), other, world.options.date, SOURCES)


def _beside_others(world: World, ctx: Site) -> Site:
    """Let the servers hold another namespace's jobs, other targets and streams that tell nothing."""
    elsewhere = [
        ({**labels, "namespace": "elsewhere"}, samples)
        for labels, samples in world.series()
        if labels.get("namespace") == NAMESPACE and labels["__name__"].startswith("kube_job")
    ]
    exporter = [({"__name__": "up", "job": "node", "instance": "n:9100"}, _every(world.day, 10))]
    stream = (("app", "billing"), ("namespace", NAMESPACE), ("pod", "billing-0"))
    told = [
        Line(t, slog(t, "INFO", "invoice sent", invoice=i), stream)
        for i, t in enumerate(range(world.day.start, world.day.end, 7 * NS))
    ]
    other = World(world.options)
    other.__dict__["lines"] = sorted([*world.lines, *told], key=lambda x: x.at)
    server = MemoryPrometheus([*elsewhere, *exporter, *world.series()], left_open=False)
    return pull_day(replace(ctx, server=server), other, world.options.date, SOURCES)


def _every(window: Window, seconds: int) -> Iterable[tuple[int, float]]:
    return [(t // 10**6, 1.0) for t in range(window.start, window.end, seconds * NS)]


def _asked_again_once_it_was_lost(world: World, ctx: Site) -> Site:
    """Pull the day again from a server that has kept its afternoon alone, and from one that was set up anew."""
    ctx = pull_day(ctx, world, world.options.date, SOURCES)
    noon = (world.day.start + world.day.length // 2) // 10**6
    kept = [(labels, [s for s in samples if s[0] >= noon]) for labels, samples in world.series()]
    for server in (MemoryPrometheus(kept), MemoryPrometheus(())):
        pull(replace(ctx, server=server, now=ctx.now + world.day.length), world.day, ["jobs", "alerts"])
    return ctx


@pytest.mark.parametrize(
    "how",
    [
        _in_parts,
        *(pytest.param(f, marks=pytest.mark.slow) for f in (_shuffled, _beside_others, _asked_again_once_it_was_lost)),
    ],
)
def test_the_tables_are_the_same(
    how: Callable[[World, Site], Site], world: World, plain: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    found = made(how(world, site(world, tmp_path, SOURCES)), world)
    for name, table in plain.items():
        pd.testing.assert_frame_equal(found[name], table, obj=name)
