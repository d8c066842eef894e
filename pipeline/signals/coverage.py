"""How well a window is known: holes between scrapes, and what the records of pulls add up to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.model import NS, Coverage, PullRecord, Window, merge, subtract

HOLE_FACTOR = 2.5
_FOR_PULLS = {"steps", "at_start", "at_end"}  # what a later pull compares its counts with
_ORDER = (
    ("logs", "loki"),
    ("jobs", "prometheus"),
    ("alerts", "prometheus"),
    ("events", "kubernetes"),
    ("issues", "github"),
)


def instants(frame: pd.DataFrame, column: str = "ts") -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return a column of instants as sorted nanoseconds."""
    return np.sort(frame[column].dropna().astype("int64").to_numpy())


def usual_interval(at: Sequence[int] | np.ndarray[Any, Any]) -> int | None:
    """Return the usual distance of sorted instants in ns, None for fewer than two.

    The upper quartile: of several instances that are scraped one shortly after the other, the long wait is the interval.
    """
    if len(at) < 2:  # noqa: PLR2004 - a distance has two ends
        return None
    return int(np.quantile(np.diff(np.asarray(at, dtype=np.int64)), 0.75, method="higher"))


def holes(at: Sequence[int] | np.ndarray[Any, Any], window: Window, interval: int | None = None) -> list[Window]:
    """Return the parts of `window` further apart than 2.5 usual intervals (contract, Completeness).

    `at` are sorted instants, also from outside the window, which then tell about its edges. Without any the whole
    window is a hole; `interval` in ns, by default the median distance.
    """
    usual = interval or usual_interval(at)
    if usual is None or not len(at):
        return [window] if window else []
    known = np.asarray(at, dtype=np.int64)
    inside = known[(known >= window.start) & (known < window.end)]
    before, after = known[known < window.start], known[known >= window.end]
    first = [before[-1]] if len(before) else [window.start]
    last = [after[0]] if len(after) else [window.end]
    edges = np.concatenate([first, inside, last])
    wide = np.flatnonzero(np.diff(edges) > HOLE_FACTOR * usual)
    found = (Window(int(edges[i]), int(edges[i + 1])).intersect(window) for i in wide)
    return [w for w in found if w]


def of_jobs(scrapes: pd.DataFrame, window: Window) -> tuple[list[Window], dict[str, Any]]:
    """Return the holes between scrapes of `window` where the target was up, and what that rests on."""
    at = (
        instants(scrapes[scrapes["up"].fillna(value=False).astype(bool)])
        if len(scrapes)
        else np.array([], dtype="int64")
    )
    usual = usual_interval(at)
    inside = at[(at >= window.start) & (at < window.end)]
    proof: dict[str, Any] = {
        "scrapes": len(inside),
        "expected": round(window.length / usual) if usual else None,
        "interval_s": usual / NS if usual else None,
        "first": int(inside[0]) if len(inside) else None,
        "last": int(inside[-1]) if len(inside) else None,
    }
    return holes(at, window, usual), proof


def of_day(records: Mapping[str, Sequence[PullRecord]], window: Window) -> list[Coverage]:
    """Add up the records of each kind of question for a window, in a fixed order.

    A part that nobody asked about is a gap. Where the day was asked about at all, a kind that was not asked about is
    incomplete: `pull` leaves a record of every source that is not configured, which then is neither complete nor not.
    """
    asked = any(records.values())
    return [_of(what, source, records.get(what, ()), window, asked=asked) for what, source in _ORDER]


def _of(what: str, usual_source: str, records: Sequence[PullRecord], window: Window, *, asked: bool) -> Coverage:
    in_order = sorted(records, key=lambda r: (r.asked_at, r.window))
    real = [r for r in in_order if r.proof.get("configured", True)]
    if not real:
        if asked and not records and what != "events":  # nobody promises to pull Kubernetes events
            return Coverage(what, usual_source, True, False, 0, [window], {"error": "not asked about this day"})
        return Coverage(what, usual_source, False, None, 0, (), {}, merge(r.window for r in in_order))
    gaps = subtract(window, whole(what, real))
    latest = _latest(real, window)
    unsure = any(r.complete is None for r in latest)
    # nobody promises to pull Kubernetes events hourly: holes there are said, and no verdict hangs on them
    complete = None if unsure or (what == "events" and gaps) else not gaps
    rows = sum(r.rows for r in latest)
    return Coverage(what, real[-1].source, True, complete, rows, gaps, _proof(latest), merge(r.window for r in real))


def whole(what: str, records: Sequence[PullRecord]) -> list[Window]:
    """Return the parts of which the records, oldest first, say that everything is known.

    What was once known whole of jobs, alerts, events or issues is in the lake and stays known. Of logs the later answer
    of the same source stands: a server may come to count more lines than it had, and what still moves is not whole.
    """
    records = [r for r in records if r.proof.get("configured", True)]
    if what != "logs":
        return [p for r in records for p in r.known]
    known: dict[str, list[Window]] = {}
    for r in records:
        before = [p for w in known.get(r.source, ()) for p in subtract(w, [r.window])]
        known[r.source] = merge([*before, *([] if r.provisional else subtract(r.window, r.gaps))])
    return [w for parts in known.values() for w in parts]


def _latest(records: Sequence[PullRecord], window: Window) -> list[PullRecord]:
    """Return the records that say the last word about some part of the window."""
    out: list[PullRecord] = []
    said: list[Window] = []
    for r in sorted(records, key=lambda r: -r.asked_at):
        part = r.window.intersect(window)
        if part and subtract(part, said):
            out.append(r)
            said = merge([*said, part])
    return sorted(out, key=lambda r: r.window)


def _proof(records: Iterable[PullRecord]) -> dict[str, Any]:
    """Add up counts; of first and last the extremes; of texts the last. What is for the next pull alone is left out."""
    total: dict[str, Any] = {}
    for r in records:
        for key, value in r.proof.items():
            if value is None or key in _FOR_PULLS:
                continue
            if key == "first":
                total[key] = min(total.get(key, value), value)
            elif key == "last":
                total[key] = max(total.get(key, value), value)
            elif isinstance(value, dict):
                below = total.setdefault(key, {})
                for k, v in value.items():
                    below[k] = below.get(k, 0) + v if isinstance(v, int) else v
            elif isinstance(value, int) and not isinstance(value, bool):
                total[key] = total.get(key, 0) + value
            else:
                total[key] = value
    total["windows"] = total.get("windows", 0) + len(list(records))
    return total


def longest_s(gaps: Iterable[Window]) -> float:
    """Return the length of the longest gap in seconds."""
    return max((g.seconds for g in gaps), default=0.0)
