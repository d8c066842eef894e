"""Burn rates: over two windows at once, at every event, with k of n, and unknown where what they look back on is."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import catalog
from pipeline.errors import UsageError
from pipeline.rules import Objective
from pipeline.signals.burn import burn_rates
from tests.tables import DATE, DAY, at, attempt, attempts

RULE = next(o for o in catalog.load().objectives if o.name == "build_availability")
KNOWN = {DATE, DATE - dt.timedelta(days=1)}
MINUTES = {"15m": 15, "6h": 360, "1h": 60, "24h": 1440}


def _end(minute: int, outcome: str = "succeeded") -> dict[str, Any]:
    """Return an attempt that ended so many minutes after midnight, or before it."""
    done = at("00:00") + pd.Timedelta(minutes=minute)
    return attempt(done - pd.Timedelta(minutes=1), done, outcome)


def _burn(*ran: dict[str, Any], rule: Objective = RULE, pulled: set[dt.date] | None = None) -> dict[str, Any]:
    found = burn_rates(rule, 0.01, attempts(*ran), DAY, KNOWN if pulled is None else pulled)
    return found | {w["window"]: w for w in found["burn"]}


def test_a_rate_is_the_share_that_failed_over_the_share_that_may() -> None:
    found = _burn(*(_end(1439) for _ in range(97)), *(_end(1439, "failed") for _ in range(3)))
    assert (found["15m"]["failed"], found["15m"]["total"], found["15m"]["burn"]) == (3, 100, 3.0)
    assert (found["burn_fast"], found["burn_slow"]) == (3.0, 3.0)
    assert found["burn_fast_worst_at"] == at("23:59")


def test_a_pair_burns_as_its_slower_window_does() -> None:
    found = _burn(*(_end(1200 + n) for n in range(95)), *(_end(1435, "failed") for _ in range(5)))
    assert (found["15m"]["burn"], found["6h"]["burn"], found["burn_fast"]) == (100.0, 5.0, 5.0)


def test_what_ended_as_the_day_did_belongs_to_the_next() -> None:
    found = _burn(*(_end(1430) for _ in range(5)), _end(1440, "failed"))
    assert (found["15m"]["failed"], found["15m"]["total"]) == (0, 5)


def test_fewer_than_the_minimum_judge_nothing_but_are_shown() -> None:
    found = _burn(*(_end(1430, "failed") for _ in range(4)))
    assert (found["15m"]["failed"], found["15m"]["total"], found["15m"]["burn"]) == (4, 4, None)
    assert found["burn_fast"] is None
    assert found["15m"]["worst"] is None
    assert _burn(*(_end(1430, "failed") for _ in range(4)), rule=replace(RULE, burn_minimum=4))["burn_fast"] == 100.0


def test_what_looks_back_on_a_day_that_was_not_pulled_is_unknown() -> None:
    ran = [_end(1430) for _ in range(5)]
    young, nothing = _burn(*ran, pulled={DATE}), _burn(*ran, pulled=set())
    assert (young["24h"]["burn"], young["burn_slow"]) == (0.0, 0.0)
    assert (young["15m"]["worst"], young["burn_fast_worst"], young["burn_fast_worst_at"]) == (None, None, None)
    assert all(nothing[w][c] is None for w in MINUTES for c in ("failed", "total", "burn", "worst"))
    assert nothing["burn_fast"] is None


def test_an_objective_without_a_budget_or_windows_has_no_rates() -> None:
    ran = attempts(_end(1430))
    assert burn_rates(RULE, 0.0, ran, DAY, KNOWN)["burn"] == []
    assert burn_rates(replace(RULE, burn_fast=(), burn_slow=()), 0.01, ran, DAY, KNOWN)["burn"] == []


@pytest.mark.parametrize("windows", ['["15m"]', '["15m", "6h", "1d"]', '["15m", "soon"]'])
def test_a_pair_is_two_windows(windows: str, tmp_path: Any) -> None:
    file = tmp_path / "ours.toml"
    file.write_text(f'[[objective]]\nname = "x"\nwindow = "7d"\ntarget = 0.9\nburn_fast = {windows}\n')
    with pytest.raises(UsageError):
        catalog.load([str(file)])


some = st.lists(st.tuples(st.integers(-1500, 1439), st.sampled_from(["succeeded", "failed"])), max_size=14)


@settings(max_examples=25, deadline=None)
@given(some, st.integers(1, 5), st.randoms())
def test_rates_are_what_every_minute_of_the_day_shows_whatever_the_order(
    ended: list[tuple[int, str]], minimum: int, chance: Any
) -> None:
    rule = replace(RULE, burn_minimum=minimum)

    def rate(window: str, minute: int) -> float | None:
        """Return the rate of what ended in the window up to and with a minute."""
        inside = [o for m, o in ended if minute - MINUTES[window] < m <= minute]
        return 100 * inside.count("failed") / len(inside) if len(inside) >= minimum else None

    ran = [_end(m, o) for m, o in ended]
    found = _burn(*ran, rule=rule)
    for window in MINUTES:
        every = [r for m in range(1440) if (r := rate(window, m)) is not None]
        assert found[window]["worst"] == (pytest.approx(max(every)) if every else None)
        assert found[window]["burn"] == (None if rate(window, 1439) is None else pytest.approx(rate(window, 1439)))
    for pair, (short, long) in (("fast", ("15m", "6h")), ("slow", ("1h", "24h"))):
        both = [(rate(short, m), rate(long, m)) for m in range(1440)]
        known = [min(a, b) for a, b in both if a is not None and b is not None]
        assert found[f"burn_{pair}_worst"] == (pytest.approx(max(known)) if known else None)
    chance.shuffle(ran)
    assert _burn(*ran, rule=rule) == found
