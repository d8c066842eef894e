"""Recovery and burn rates of whole simulated days, held against what the world's own values count in the plainest way."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from pipeline import catalog, schemas
from pipeline.model import NS, Window
from pipeline.signals.burn import burn_rates
from pipeline.signals.incidents import BREAKS, Watch, incidents
from tests.tables import table
from tests.world import World

RULES = catalog.load()
AVAILABILITY = next(o for o in RULES.objectives if o.name == "build_availability")
LENGTHS = {"15m": 900, "6h": 21600, "1h": 3600, "24h": 86400}


@pytest.mark.parametrize("seed", [1, 7, 23])
@pytest.mark.parametrize("watch_s", [600.0, 7200.0])
def test_recovery_is_proven_as_the_world_went_on(seed: int, watch_s: float) -> None:
    world = World.make(seed=seed)
    truth = world.truth
    failed = truth.failures.assign(failure_id=[f"f-{n}" for n in range(len(truth.failures))])
    nobody = table("alerts"), table("issue_runs")
    whole = Watch(watch_s, [world.window])
    every = truth.attempts[schemas.TABLES["attempts"].columns]
    found = schemas.rows_of(incidents(failed, every, *nobody, RULES.alerts, 1800.0, 300.0, whole))
    assert [r["started_at"] for r in found] == truth.incidents["started_at"].tolist()
    assert {r["class"] for r in found} == {"cache", "build-ref"}
    for got in found:
        mine = sorted(t.value for t, c in zip(failed["failed_at"], failed["class"], strict=True) if c == got["class"])
        group = [t for t in mine if t >= got["started_at"].value][: got["failures"]]
        assert _proof(world, got, group[-1], mine, watch_s) == {
            c: None if pd.isna(got[c]) else got[c] for c in ("successes_in_a_row", "quiet_for_s", "state")
        }


def _proof(world: World, got: dict[str, Any], last: int, of_class: list[int], watch_s: float) -> dict[str, Any]:
    end = None if pd.isna(got["ended_at"]) else got["ended_at"].value
    until = world.window.end if end is None else min(world.window.end, end + round(watch_s * NS))
    ended = sorted(
        (a.ended_at, a.outcome)
        for a in world.platform.attempts
        if a.kind == BREAKS[got["class"]] and a.ended_at is not None and last < a.ended_at <= until
    )
    row = 0
    for _, outcome in ended:
        if outcome != "succeeded":
            break
        row += 1
    again = min((t for t in of_class if t > last), default=until)
    over = end is not None and min(again, until) == end + round(watch_s * NS)
    state = "open" if end is None else "confirmed" if over else "provisional"
    return {"successes_in_a_row": row, "quiet_for_s": (min(again, until) - last) / NS, "state": state}


@pytest.mark.parametrize("seed", [1, 7, 23])
def test_burn_rates_are_the_worlds(seed: int) -> None:
    world = World.make(seed=seed, days=2)
    counted = [a for a in world.platform.attempts if a.kind in AVAILABILITY.kinds and a.ended_at is not None]
    ends = sorted((a.ended_at, a.outcome == "failed") for a in counted if a.ended_at is not None)
    every = world.truth.attempts
    ended = every[every["kind"].isin(AVAILABILITY.kinds) & every["outcome"].isin(["succeeded", "failed"])]
    pulled = {d for d, _ in Window(world.day.start - world.day.length, world.day.end).days()}
    found = burn_rates(AVAILABILITY, 0.01, ended, world.day, pulled)

    def counts(t: int, length: int) -> tuple[int, int]:
        inside = [bad for at, bad in ends if t - length < at <= t]
        return sum(inside), len(inside)

    for got in found["burn"]:
        length = LENGTHS[got["window"]] * NS
        assert (got["failed"], got["total"]) == counts(world.day.end - 1, length)
        at = [world.day.start, *(t + more for t, _ in ends for more in (0, length) if t + more in world.day)]
        rates = [100 * k / n for k, n in (counts(t, length) for t in at) if n >= AVAILABILITY.burn_minimum]
        assert got["worst"] == pytest.approx(max(rates))
        assert (got["worst_failed"], got["worst_total"]) == counts(got["worst_at"].value, length)
