"""Small mathematics of counts over time: Wilson intervals, rolling counts at every event, step functions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Instants = np.ndarray[Any, np.dtype[np.int64]]


def wilson(k: int, n: int, z: float = 1.959963984540054) -> tuple[float, float] | None:
    """Return the 95 % Wilson score interval of k of n (Wilson, JASA 22, 1927), None for n = 0."""
    if n == 0:
        return None
    p = k / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, min(p, middle - half)), min(1.0, max(p, middle + half))


def rolling(at: Instants, window: int) -> Instants:
    """Return for each of the sorted instants how many lie in `(t - window, t]`, itself and its equals included."""
    return np.searchsorted(at, at, "right") - np.searchsorted(at, at - window, "right")


def holds(at: Instants, good: np.ndarray[Any, np.dtype[np.bool_]]) -> list[tuple[int, int | None]]:
    """Turn a condition known at sorted instants (true from each until the next) into intervals; None: still true."""
    out: list[tuple[int, int | None]] = []
    start: int | None = None
    for t, ok in zip(at.tolist(), good.tolist(), strict=True):
        if ok and start is None:
            start = t
        elif not ok and start is not None:
            if t > start:
                out.append((start, t))
            start = None
    if start is not None:
        out.append((start, None))
    return out


def most_alive(start: Instants, end: Instants, windows: np.ndarray[Any, np.dtype[np.int64]]) -> Instants:
    """Return the most intervals `[start, end)` that are open at one instant of each window (rows of from, to).

    A step function: what is open at the window's start, and what begins inside it.
    """
    starts, ends = np.sort(start), np.sort(end)
    changes = np.concatenate([start, end])
    steps = np.concatenate([np.ones(len(start), np.int64), -np.ones(len(end), np.int64)])
    order = np.lexsort((steps, changes))  # at one instant ends count before starts: half-open
    level, when = np.cumsum(steps[order]), changes[order]
    out = np.empty(len(windows), np.int64)
    for i, (a, b) in enumerate(windows):
        at_start = np.searchsorted(starts, a, "right") - np.searchsorted(ends, a, "right")
        inside = level[np.searchsorted(when, a, "right") : np.searchsorted(when, b, "left")]
        out[i] = max(int(at_start), int(inside.max()) if len(inside) else 0)
    return out
