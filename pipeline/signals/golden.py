"""The golden signals: counts per window and kind from attempts and lines; ratios are made last.

Definitions: contract, Golden. Traffic counts attempts by their start, outcomes by their end; durations are of successes.
Coverage comes as `gaps`: holes by name (`jobs`, `logs`); a name that is left out was not configured, so nothing of it
is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline import schemas
from pipeline.model import DAY_NS, NS, Window, merge
from pipeline.signals.alerts import Expected
from pipeline.signals.intervals import Flags, Floats, Instants, most_alive, nanoseconds, wilson

WINDOWS = {"15m": 900 * NS, "1h": 3600 * NS}
SIGNATURES = {
    "manifest_unknown_lines": "manifest-unknown",
    "cache_retrieval_lines": "cache-retrieval",
    "build_ref_lines": "build-ref",
}
ALL = "all"
_JOB_COLUMNS = ["started", "finished", "failed", "failure_ratio", "duration_p50_s", "duration_p95_s", "duration_max_s"]
_JOB_COLUMNS += ["backlog_max", "pending_max"]
_FLAGS = ["complete", "lines_complete", "queue_complete"]
_UNTIMED = ("events", "logs")  # sources that do not tell when an attempt started
_FOREVER = np.iinfo(np.int64).max


def golden_signals(
    attempts: pd.DataFrame,
    lines: pd.DataFrame,
    day: Window,
    gaps: Mapping[str, Sequence[Window]],
    kinds: Sequence[str],
    queue: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Return `golden` of a day: a row for every 15 min and 1 h window and every kind, and `all` of them together.

    `attempts` are all that touch the day; `lines` have `ts`, `signatures`, `kind` (of their job). Where a hole of the
    jobs or of the logs overlaps a window, its job columns, or its line counts, are null. `queue` are `queue_samples`,
    None where nobody asked: `queue_max` is the most of a window, of all kinds together, null without a sample.
    """
    parts = [_windowed(attempts, lines, day, name, gaps, kinds, queue) for name in WINDOWS]
    return schemas.tidy("golden", pd.concat(parts, ignore_index=True))


def day_totals(
    attempts: pd.DataFrame,
    lines: pd.DataFrame,
    day: Window,
    gaps: Mapping[str, Sequence[Window]],
    kinds: Sequence[str],
    queue: pd.DataFrame | None = None,
) -> dict[str, dict[str, Any]]:
    """Return the day's sums for `build+mirror`, `all` and every kind, as the report's headline shows them.

    They count every attempt seen; `complete` and `lines_complete` tell whether that is all (false: a lower bound); line
    counts are null without logs. `failure_low_ratio` to `failure_high_ratio` is the 95 % Wilson interval. `queue_max` of
    `all` is there where somebody asked, `queue_complete` tells whether every 15 min have a sample.
    """
    grid = np.array([[day.start, day.end]], np.int64)
    groups = {"build+mirror": [k for k in ("build", "mirror") if k in kinds], ALL: list(kinds)} | {
        k: [k] for k in kinds
    }
    out: dict[str, dict[str, Any]] = {}
    for name, members in groups.items():
        of_group = lines if name == ALL else lines[lines["kind"].isin(members)]
        mine = attempts[attempts["kind"].isin(members)]
        row = {c: _plain(v[0]) for c, v in _counts(mine, of_group, grid).items()}
        if "logs" not in gaps:
            row |= dict.fromkeys(SIGNATURES)
        row["succeeded"] = row["finished"] - row["failed"]
        row["durations"] = int(_of_window(mine[mine["outcome"] == "succeeded"], day)["duration_s"].notna().sum())
        row["failure_ratio"] = row["failed"] / row["finished"] if row["finished"] else None
        between = wilson(row["failed"], row["finished"]) or (None, None)
        row |= {"failure_low_ratio": between[0], "failure_high_ratio": between[1]}
        out[name] = row | {"complete": _whole(gaps, "jobs"), "lines_complete": _whole(gaps, "logs")}
    if queue is not None:
        whole = bool(np.isfinite(_most(queue, _grid(day, "15m"))).all())
        out[ALL] |= {"queue_max": _plain(_most(queue, grid)[0]), "queue_complete": whole}
    return out


def medians(history: Sequence[Mapping[str, Mapping[str, Any]] | None]) -> dict[str, dict[str, float]]:
    """Return the median of each number of earlier days' totals, by group and name; days never pulled (None) count not.

    A ratio's is the median of the days' own ratios; a name that no day knows is left out.
    """
    known = [h for h in history if h]
    out: dict[str, dict[str, float]] = {}
    for group in dict.fromkeys(g for h in known for g in h):
        rows = pd.DataFrame([h[group] for h in known if group in h]).drop(columns=_FLAGS, errors="ignore")
        middle = rows.apply(pd.to_numeric).median().dropna()
        out[group] = {str(name): float(value) for name, value in middle.items()}
    return out


def worst_windows(found: Sequence[Expected], day: Window) -> list[dict[str, Any]]:
    """Return for each alert rule the worst value that its own rolling window came to at any event of the day.

    `worst` at `worst_at` (ns), k of n in `worst_of` for a ratio; `intervals` are those that began in the day,
    `reached_at` the first of these, `held_before` since when the threshold already held as the day began (ns or null).
    """
    rows = []
    for e in found:
        began = e.reached_in(day)
        before = [s for s, end in e.intervals if s < day.start and (end is None or end > day.start)]
        rows.append(
            {"alert": e.rule.name, "severity": e.rule.severity, "summary": e.rule.summary, "measure": e.rule.measure}
            | {"kinds": list(e.rule.kinds), "signatures": list(e.rule.signatures), "window_s": e.rule.window_s}
            | {"op": e.rule.op, "threshold": e.rule.threshold, "minimum": e.rule.minimum, "intervals": began}
            | {"reached_at": began[0][0] if began else None, "held_before": before[0] if before else None}
            | {"worst": e.worst, "worst_at": e.worst_at, "worst_of": e.worst_of}
        )
    return rows


def _windowed(
    attempts: pd.DataFrame,
    lines: pd.DataFrame,
    day: Window,
    name: str,
    gaps: Mapping[str, Sequence[Window]],
    kinds: Sequence[str],
    queue: pd.DataFrame | None,
) -> pd.DataFrame:
    grid = _grid(day, name)
    queued = np.full(len(grid), np.nan) if queue is None else _most(queue, grid)
    unknown_jobs, unknown_lines = (_overlapped(grid, gaps.get(what, [day])) for what in ("jobs", "logs"))
    parts = []
    for kind in [ALL, *kinds]:
        members = kinds if kind == ALL else [kind]
        of_kind = lines if kind == ALL else lines[lines["kind"] == kind]
        part = pd.DataFrame(_counts(attempts[attempts["kind"].isin(members)], of_kind, grid))
        part["failure_ratio"] = (part["failed"] / part["finished"]).where(part["finished"] > 0)
        part[_JOB_COLUMNS] = part[_JOB_COLUMNS].mask(pd.Series(unknown_jobs))
        part[list(SIGNATURES)] = part[list(SIGNATURES)].mask(pd.Series(unknown_lines))
        part["window_start"] = pd.to_datetime(grid[:, 0], utc=True)
        part["queue_max"] = queued if kind == ALL else np.nan
        parts.append(part.assign(window=name, kind=kind, complete=~unknown_jobs))
    return pd.concat(parts, ignore_index=True)


def _grid(day: Window, name: str) -> np.ndarray[Any, Any]:
    starts = np.arange(day.start, day.end, WINDOWS[name], dtype=np.int64)
    return np.stack([starts, starts + WINDOWS[name]], axis=1)


def _most(queue: pd.DataFrame, grid: np.ndarray[Any, Any]) -> Floats:
    """Return the highest sample of each window, NaN where there is none."""
    cut = np.searchsorted(grid[:, 0], nanoseconds(queue["ts"]), "right") - 1
    inside = (cut >= 0) & (nanoseconds(queue["ts"]) < grid[-1, 1])
    most: Floats = queue.loc[inside, "value"].groupby(cut[inside]).max().reindex(range(len(grid))).to_numpy(float)
    return most


def _counts(attempts: pd.DataFrame, lines: pd.DataFrame, grid: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Count attempts and lines per window; windows are adjacent and sorted."""
    edges = np.append(grid[:, 0], grid[-1, 1])
    ended = attempts[attempts["outcome"].isin(["succeeded", "failed"])]
    out: dict[str, Any] = {
        "started": _per_window(attempts["started_at"], edges),
        "finished": _per_window(ended["ended_at"], edges),
        "failed": _per_window(ended.loc[ended["outcome"] == "failed", "ended_at"], edges),
    }
    for column, signature in SIGNATURES.items():
        out[column] = _per_window(lines.loc[[signature in s for s in lines["signatures"]], "ts"], edges)
    out |= _durations(ended[ended["outcome"] == "succeeded"], edges)
    created = nanoseconds(attempts["created_at"])
    ended_at = _end_or_last(attempts, int(grid[0, 0]))
    untimed = attempts["started_at"].isna() & attempts["source"].isin(_UNTIMED)
    begun = nanoseconds(attempts["started_at"].where(~untimed, attempts["created_at"]), _FOREVER)
    out["backlog_max"] = most_alive(created, np.maximum(ended_at, created), grid)
    out["pending_max"] = most_alive(created, np.maximum(np.minimum(begun, ended_at), created), grid)
    return out


def _end_or_last(attempts: pd.DataFrame, start: int) -> Instants:
    """Return until when each attempt counts as unfinished, in ns: its end, without one as long as it was seen.

    One that was seen running in the window that begins at `start` runs on; one last seen before it is gone unseen.
    """
    last = nanoseconds(attempts["last_seen_at"], 0)
    last[(attempts["outcome"] == "running").to_numpy(bool) & (last >= start)] = _FOREVER
    return np.where(attempts["ended_at"].isna(), last, nanoseconds(attempts["ended_at"]))


def _durations(done: pd.DataFrame, edges: np.ndarray[Any, Any]) -> dict[str, Any]:
    cut = np.searchsorted(edges, nanoseconds(done["ended_at"]), "right") - 1
    known = (cut >= 0) & (cut < len(edges) - 1)
    by = done.loc[known, "duration_s"].groupby(cut[known])
    every = range(len(edges) - 1)
    return {
        "duration_p50_s": by.quantile(0.5).reindex(every).to_numpy(),
        "duration_p95_s": by.quantile(0.95).reindex(every).to_numpy(),
        "duration_max_s": by.max().reindex(every).to_numpy(),
    }


def _of_window(attempts: pd.DataFrame, window: Window) -> pd.DataFrame:
    at = nanoseconds(attempts["ended_at"], -1)
    return attempts[(at >= window.start) & (at < window.end)]


def _per_window(instants: pd.Series, edges: np.ndarray[Any, Any]) -> Instants:
    at = np.sort(nanoseconds(instants.dropna()))
    return np.diff(np.searchsorted(at, edges, "left"))


def _overlapped(grid: np.ndarray[Any, Any], gaps: Sequence[Window]) -> Flags:
    out = np.zeros(len(grid), bool)
    for g in merge(gaps):
        out |= (grid[:, 0] < g.end) & (grid[:, 1] > g.start)
    return out


def _whole(gaps: Mapping[str, Sequence[Window]], what: str) -> bool:
    return what in gaps and not gaps[what]


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and np.isnan(value) else value


def touching(attempts: pd.DataFrame, day: Window) -> pd.DataFrame:
    """Return the attempts that were alive, began or ended in a day."""
    return attempts[(nanoseconds(attempts["created_at"]) < day.end) & (_end_or_last(attempts, day.start) >= day.start)]


def previous_days(day: Window, n: int) -> list[Window]:
    """Return the n days before a day, the latest first."""
    return [Window(day.start - i * DAY_NS, day.end - i * DAY_NS) for i in range(1, n + 1)]
