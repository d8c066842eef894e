"""Counts -> slices: each fits one answer, those of an app that writes much are its own, together they cover everything.

A slice is asked for even where nothing was counted, so that a count which is too low is met by rows that say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.model import Window
from pipeline.sources.loki.answers import Int64s
from pipeline.sources.loki.client import STEP_NS, narrowed, quoted

_MOST_APART = 8  # apps that are read apart: each holds an answer's worth of rows while an hour is written
REST = ""


@dataclass(frozen=True)
class Group:
    """What is asked for together: the selector that chooses it, its name in proofs, and the apps whose counts add up."""

    name: str
    where: str
    apps: tuple[str, ...]


@dataclass(frozen=True)
class Slice:
    """A part `(start, end]` of the time of one group, on the 10 s grid, and what was counted there step by step."""

    group: Group
    window: Window
    counted: Int64s

    @property
    def expected(self) -> int:
        """How many entries were counted."""
        return int(self.counted.sum())


def room(limit: int) -> int:
    """Return what may be asked for at once: entries at the very start come too and are dropped, but take room."""
    return max(1, limit - max(1, limit // 500))


def groups(counts: Mapping[str, Int64s], selector: str, label: str, limit: int) -> list[Group]:
    """Return the apps that fill answers of their own, and the rest together; with one app alone nothing is split."""
    sums = {app: int(steps.sum()) for app, steps in counts.items()}
    dense = sorted((app for app, n in sums.items() if app and n > limit), key=lambda app: (-sums[app], app))[
        :_MOST_APART
    ]
    if len(sums) < 2 or not dense:  # noqa: PLR2004 - one has nothing to be told from
        return [Group(REST, selector, tuple(sorted(counts)))]
    out = [Group(app, narrowed(selector, f"{label}={quoted(app)}"), (app,)) for app in sorted(dense)]
    others = "".join(f"{label}!={quoted(app)}, " for app in sorted(dense)).removesuffix(", ")
    return [*out, Group(REST, narrowed(selector, others), tuple(sorted(set(counts) - set(dense))))]


def slices(
    counts: Mapping[str, Int64s], found: Sequence[Group], window: Window, wanted: npt.NDArray[np.bool_], limit: int
) -> list[Slice]:
    """Cut the wanted steps of a window into slices, in time order; a step that does not fit an answer stands alone."""
    out = []
    for group in found:
        steps = np.zeros(len(wanted), np.int64)
        for app in group.apps:
            steps += counts[app]
        for first, last in _runs(wanted):
            out += [
                Slice(group, Window(window.start + a * STEP_NS, window.start + b * STEP_NS), steps[a:b])
                for a, b in _cut(steps, first, last, room(limit))
            ]
    return sorted(out, key=lambda s: (s.window.start, s.group.name))


def _cut(steps: Int64s, first: int, last: int, most: int) -> list[tuple[int, int]]:
    """Cut `[first, last)` greedily: as much in each as fits, which is as few parts as there can be."""
    before = np.concatenate([[0], np.cumsum(steps[first:last])])
    out, at = [], 0
    while at < last - first:
        to = int(np.searchsorted(before, before[at] + most, side="right")) - 1
        to = max(at + 1, min(to, last - first))
        out.append((first + at, first + to))
        at = to
    return out


def _runs(wanted: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return where `wanted` holds, as `[first, last)`."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], wanted, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
