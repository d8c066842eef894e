"""The golden signals: counts per window and kind from attempts and lines; ratios are made last.

Definitions: contract, Golden. Traffic counts attempts by their start, outcomes by their end; durations are of successes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline import schemas
from pipeline.model import DAY_NS, NS, Window, merge
from pipeline.signals.intervals import most_alive

WINDOWS = {"15m": 900 * NS, "1h": 3600 * NS}
SIGNATURES = {
    "manifest_unknown_lines": "manifest-unknown",
    "cache_retrieval_lines": "cache-retrieval",
    "build_ref_lines": "build-ref",
}
ALL = "all"
_JOB_COLUMNS = ["started", "finished", "failed", "failure_ratio", "duration_p50_s", "duration_p95_s", "duration_max_s"]
_JOB_COLUMNS += ["backlog_max", "pending_max"]
_FOREVER = np.iinfo(np.int64).max


def golden_signals(
    attempts: pd.DataFrame,
    lines: pd.DataFrame,
    day: Window,
    gaps: Mapping[str, Sequence[Window]],
    kinds: Sequence[str],
) -> pd.DataFrame:
    """Return `golden` of a day: a row for every 15 min and 1 h window and every kind, and `all` of them together.

    `attempts` are all that touch the day; `lines` have `ts`, `signatures`, `kind` (of their job). `gaps` of `jobs` and
    `logs`: where a hole overlaps a window its job columns, or its line counts, are null.
    """
    parts = [_windowed(attempts, lines, day, name, gaps, kinds) for name in WINDOWS]
    return schemas.tidy("golden", pd.concat(parts, ignore_index=True))


def day_totals(
    attempts: pd.DataFrame,
    lines: pd.DataFrame,
    day: Window,
    gaps: Mapping[str, Sequence[Window]],
    kinds: Sequence[str],
) -> dict[str, dict[str, Any]]:
    """Return the day's sums for `build+mirror`, `all` and every kind, as the report's headline shows them.

    They count every attempt seen; `complete` tells whether that is all (false: a lower bound).
    """
    grid = np.array([[day.start, day.end]], np.int64)
    groups = {"build+mirror": [k for k in ("build", "mirror") if k in kinds], ALL: list(kinds)} | {
        k: [k] for k in kinds
    }
    out: dict[str, dict[str, Any]] = {}
    for name, members in groups.items():
        of_group = lines if name == ALL else lines[lines["kind"].isin(members)]
        row = {c: v[0] for c, v in _counts(attempts[attempts["kind"].isin(members)], of_group, grid).items()}
        row["failure_ratio"] = row["failed"] / row["finished"] if row["finished"] else None
        row["complete"] = not gaps.get("jobs")
        row["lines_complete"] = not gaps.get("logs")
        done = _succeeded(attempts[attempts["kind"].isin(members)], day)
        row["succeeded"] = len(done)
        row["durations"] = int(done["duration_s"].notna().sum())
        out[name] = {k: _plain(v) for k, v in row.items()}
    return out


def _windowed(
    attempts: pd.DataFrame,
    lines: pd.DataFrame,
    day: Window,
    name: str,
    gaps: Mapping[str, Sequence[Window]],
    kinds: Sequence[str],
) -> pd.DataFrame:
    step = WINDOWS[name]
    starts = np.arange(day.start, day.end, step, dtype=np.int64)
    grid = np.stack([starts, starts + step], axis=1)
    unknown_jobs, unknown_lines = _overlapped(grid, gaps.get("jobs", ())), _overlapped(grid, gaps.get("logs", ()))
    parts = []
    for kind in [ALL, *kinds]:
        members = kinds if kind == ALL else [kind]
        of_kind = lines if kind == ALL else lines[lines["kind"] == kind]
        part = pd.DataFrame(_counts(attempts[attempts["kind"].isin(members)], of_kind, grid))
        part["failure_ratio"] = (part["failed"] / part["finished"]).where(part["finished"] > 0)
        part[_JOB_COLUMNS] = part[_JOB_COLUMNS].mask(pd.Series(unknown_jobs))
        part[list(SIGNATURES)] = part[list(SIGNATURES)].mask(pd.Series(unknown_lines))
        part["window_start"] = pd.to_datetime(starts, utc=True)
        parts.append(part.assign(window=name, kind=kind, complete=~unknown_jobs))
    return pd.concat(parts, ignore_index=True)


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
    created = _ns(attempts["created_at"])
    finished = _ns(attempts["ended_at"].fillna(_last_known(attempts)), _FOREVER)
    begun = _ns(attempts["started_at"].fillna(attempts["ended_at"]).fillna(_last_known(attempts)), _FOREVER)
    out["backlog_max"] = most_alive(created, np.maximum(finished, created), grid)
    out["pending_max"] = most_alive(created, np.maximum(begun, created), grid)
    return out


def _last_known(attempts: pd.DataFrame) -> pd.Series:
    """Return until when an attempt without an end counts as unfinished: for ever when running, else as long as seen."""
    return attempts["last_seen_at"].where(attempts["outcome"] != "running")


def _durations(done: pd.DataFrame, edges: np.ndarray[Any, Any]) -> dict[str, Any]:
    cut = np.searchsorted(edges, _ns(done["ended_at"]), "right") - 1
    known = (cut >= 0) & (cut < len(edges) - 1)
    by = done.loc[known, "duration_s"].groupby(cut[known])
    every = range(len(edges) - 1)
    return {
        "duration_p50_s": by.quantile(0.5).reindex(every).to_numpy(),
        "duration_p95_s": by.quantile(0.95).reindex(every).to_numpy(),
        "duration_max_s": by.max().reindex(every).to_numpy(),
    }


def _succeeded(attempts: pd.DataFrame, day: Window) -> pd.DataFrame:
    at = _ns(attempts["ended_at"], -1)
    return attempts[(attempts["outcome"] == "succeeded") & (at >= day.start) & (at < day.end)]


def _per_window(instants: pd.Series, edges: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    at = np.sort(_ns(instants.dropna()))
    return np.diff(np.searchsorted(at, edges, "left"))


def _ns(instants: pd.Series, missing: int = 0) -> np.ndarray[Any, np.dtype[np.int64]]:
    at = pd.to_datetime(instants, utc=True)
    return np.where(at.isna(), missing, at.astype("int64")).astype(np.int64)


def _overlapped(grid: np.ndarray[Any, Any], gaps: Sequence[Window]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    out = np.zeros(len(grid), bool)
    for g in merge(gaps):
        out |= (grid[:, 0] < g.end) & (grid[:, 1] > g.start)
    return out


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and np.isnan(value) else value


def touching(attempts: pd.DataFrame, day: Window) -> pd.DataFrame:
    """Return the attempts that were alive, began or ended in a day."""
    first = _ns(attempts["created_at"])
    last = _ns(attempts["ended_at"].fillna(_last_known(attempts)), _FOREVER)
    return attempts[(first < day.end) & (last >= day.start)]


def previous_days(day: Window, n: int) -> list[Window]:
    """Return the n days before a day, the latest first."""
    return [Window(day.start - i * DAY_NS, day.end - i * DAY_NS) for i in range(1, n + 1)]
