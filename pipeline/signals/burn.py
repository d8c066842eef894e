"""Burn rates: how fast an error budget goes, over two windows at once (SRE Workbook, chapter 5), exact at every event."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipeline.model import DAY_NS, NS, Window, day_of, seconds_of
from pipeline.rules import Objective
from pipeline.signals.intervals import Floats, Instants, changes, in_window, nanoseconds, top

PAIRS = ("fast", "slow")


def whole(window: Window, pulled: Collection[dt.date]) -> bool:
    """Tell whether every day that a window touches was pulled."""
    return all(day_of(t) in pulled for t in range(window.start // DAY_NS * DAY_NS, window.end, DAY_NS))


def burn_rates(
    rule: Objective, budget: float, ended: pd.DataFrame, day: Window, pulled: Collection[dt.date]
) -> dict[str, Any]:
    """Return the columns `burn…` of `slo`; `ended` are the attempts that count, `budget` the share that may fail.

    At an instant t a window holds what ended in (t - window, t]; a pair burns at the lesser of its two rates. The day's
    end is its last nanosecond; the worst is of every instant of the day, whatever it looks back on. A rate is unknown
    below the objective's minimum of finished attempts, and where a day that it looks back on was not pulled.
    """
    out: dict[str, Any] = {"burn": []}
    for pair in PAIRS:
        windows: Mapping[str, int] = {w: round(seconds_of(w) * NS) for w in getattr(rule, f"burn_{pair}")}
        facts = [f"burn_{pair}", f"burn_{pair}_worst", f"burn_{pair}_worst_at"]
        out |= dict.fromkeys(facts)
        if not windows or not budget:
            continue
        at = _instants(ended, windows, day)
        rates = [_rates(ended, at, length, budget, rule.burn_minimum) for length in windows.values()]
        both = _Rates(np.minimum(*(r.value for r in rates)), *(np.minimum(*pick) for pick in _counts(rates)))
        known = [
            (whole(Window(day.end - n, day.end), pulled), whole(Window(day.start - n, day.end), pulled))
            for n in windows.values()
        ]
        last, worst = _last(both), _worst(both, at)
        out |= {facts[0]: last["burn"]} if all(end for end, _ in known) else {}
        out |= {facts[1]: worst["worst"], facts[2]: worst["worst_at"]} if all(of_day for _, of_day in known) else {}
        for window, found, (end, of_day) in zip(windows, rates, known, strict=True):
            row: dict[str, Any] = {"pair": pair, "window": window} | dict.fromkeys(_last(found) | _worst(found, at))
            out["burn"].append(row | (_last(found) if end else {}) | (_worst(found, at) if of_day else {}))
    return out


@dataclass(frozen=True)
class _Rates:
    """A burn rate at each instant (NaN: too few to judge), and the k of n behind it."""

    value: Floats
    failed: Instants
    total: Instants


def _counts(rates: list[_Rates]) -> list[list[Instants]]:
    return [[r.failed for r in rates], [r.total for r in rates]]


def _instants(ended: pd.DataFrame, windows: Mapping[str, int], day: Window) -> Instants:
    """Return the instants of a day at which a rate can change: its first, every event's and what leaves, its last."""
    finished = np.unique(nanoseconds(ended["ended_at"]))
    every = np.concatenate([[day.start, day.end - 1], *(changes(finished, n, day.end) for n in windows.values())])
    return np.unique(every[(every >= day.start) & (every < day.end)]).astype(np.int64)


def _rates(ended: pd.DataFrame, at: Instants, length: int, budget: float, minimum: int) -> _Rates:
    finished = np.sort(nanoseconds(ended["ended_at"]))
    failed = np.sort(nanoseconds(ended.loc[ended["outcome"] == "failed", "ended_at"]))
    k, n = in_window(failed, at, length), in_window(finished, at, length)
    return _Rates(np.where(n >= max(1, minimum), k / (np.maximum(n, 1) * budget), np.nan), k, n)


def _last(rates: _Rates) -> dict[str, Any]:
    value = float(rates.value[-1])
    return {
        "failed": int(rates.failed[-1]),
        "total": int(rates.total[-1]),
        "burn": None if np.isnan(value) else value,
    }


def _worst(rates: _Rates, at: Instants) -> dict[str, Any]:
    """Return the highest rate, of equal ones that of the most attempts, then the earliest; unknown where none is judged."""
    found = top(np.flatnonzero(~np.isnan(rates.value)), at, rates.value, rates.total)
    if found is None:
        return dict.fromkeys(["worst_failed", "worst_total", "worst", "worst_at"])
    instant = pd.Timestamp(int(at[found]), tz="UTC")
    counts = {"worst_failed": int(rates.failed[found]), "worst_total": int(rates.total[found])}
    return counts | {"worst": float(rates.value[found]), "worst_at": instant}
