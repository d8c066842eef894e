"""Small mathematics of counts over time: Wilson intervals, rolling counts at every event, step functions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from pipeline.model import NS

Instants = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]
_INSTANT, _NAIVE = pd.DatetimeTZDtype("ns", "UTC"), np.dtype("datetime64[ns]")
Span = tuple[int, int | None]  # half-open, in ns; None: still


def wilson(k: int, n: int, z: float = 1.959963984540054) -> tuple[float, float] | None:
    """Return the 95 % Wilson score interval of k of n (Wilson, JASA 22, 1927), None for n = 0."""
    if n == 0:
        return None
    p = k / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # at k = 0 and k = n an end is the share itself, which rounding may miss by a little
    return max(0.0, min(p, middle - half)), min(1.0, max(p, middle + half))


def nanoseconds(instants: pd.Series, missing: int = 0) -> Instants:
    """Return a column of instants as nanoseconds since the epoch, in its order; `missing` stands for unknown ones."""
    at = instants if instants.dtype == _INSTANT else pd.to_datetime(instants, utc=True).dt.as_unit("ns")
    known = at.to_numpy(_NAIVE).view(np.int64)
    return np.where(known == pd.NaT.value, missing, known)


def in_window(events: Instants, at: Instants, window: int) -> Instants:
    """Count for each instant t of `at` the sorted `events` in `(t - window, t]`."""
    return np.searchsorted(events, at, "right") - np.searchsorted(events, at - window, "right")


def changes(events: Instants, window: int, until: int) -> Instants:
    """Return when a rolling count can change before `until`: as an event happens, and as it leaves the window."""
    at = np.unique(np.concatenate([events, events + window]))
    return at[at < until]


def top(among: Instants, at: Instants, *by: np.ndarray[Any, Any]) -> int | None:
    """Return which of `among` is the largest by the first, then by the next measure, then the earliest."""
    if not len(among):
        return None
    return int(among[np.lexsort((-at[among], *(b[among] for b in reversed(by))))[-1]])


def holds(at: Instants, good: Flags) -> list[Span]:
    """Turn a condition known at sorted, distinct instants (each until the next) into intervals; None: still true."""
    before = np.concatenate([[False], good[:-1]])
    starts, ends = at[good & ~before].tolist(), at[~good & before].tolist()
    return list(zip(starts, [*ends, None][: len(starts)], strict=True))


def union(spans: list[Span]) -> list[Span]:
    """Join intervals that touch or overlap; sorted."""
    out: list[Span] = []
    for start, end in sorted(spans, key=lambda s: s[0]):
        last = out[-1] if out else None
        if last and (last[1] is None or start <= last[1]):
            out[-1] = (last[0], None if last[1] is None or end is None else max(last[1], end))
        else:
            out.append((start, end))
    return out


def most_alive(start: Instants, end: Instants, windows: np.ndarray[Any, np.dtype[np.int64]]) -> Instants:
    """Return the most intervals `[start, end)` that are open at one instant of each window (rows of from, to).

    A step function: what is open at the window's start, and what begins inside it.
    """
    starts, ends = np.sort(start), np.sort(end)
    changed = np.concatenate([start, end])
    steps = np.concatenate([np.ones(len(start), np.int64), -np.ones(len(end), np.int64)])
    order = np.lexsort((steps, changed))  # at one instant ends count before starts: half-open
    level, when = np.cumsum(steps[order]), changed[order]
    out = np.empty(len(windows), np.int64)
    for i, (a, b) in enumerate(windows):
        at_start = np.searchsorted(starts, a, "right") - np.searchsorted(ends, a, "right")
        inside = level[np.searchsorted(when, a, "right") : np.searchsorted(when, b, "left")]
        out[i] = max(int(at_start), int(inside.max()) if len(inside) else 0)
    return out


def uncertainty(ends: Instants, alive: Instants) -> Instants:
    """Return how long before `ends` (ns) attempts may have ended that were last seen without an end at `alive`.

    The API server cuts instants to the second: an end that it dates 07 may lie after a scrape at 07.6.
    """
    return np.asarray(np.maximum(0, ends - alive // NS * NS), np.int64)
