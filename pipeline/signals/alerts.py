"""Alerts: firing intervals from raw `ALERTS` samples, and the catalogue's conditions replayed over our own data.

Definitions: contract, Alert audit. The replay looks at every event, never at a grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipeline import schemas
from pipeline.model import NS, Window
from pipeline.rules import AlertRule
from pipeline.signals.intervals import holds

_HOLE = 1.5  # evaluation intervals that two samples of one interval may lie apart
_BUILTIN = {"alertname", "alertstate", "__name__"}


@dataclass(frozen=True)
class Expected:
    """When an alert's condition held over our own data: intervals in ns (None: still), and the worst value."""

    rule: AlertRule
    intervals: Sequence[tuple[int, int | None]]
    worst: float | None
    worst_at: int | None
    worst_of: tuple[int, int] | None = None  # k of n, of a ratio


def firing(
    series: Sequence[tuple[Mapping[str, str], Sequence[int]]],
    evaluations: Sequence[int],
    starts: Sequence[int],
    until: int,
    rules: Sequence[AlertRule],
) -> pd.DataFrame:
    """Turn samples of `ALERTS{alertstate="firing"}` (labels, instants in ns) into `alerts`.

    An interval ends one evaluation after its last sample; null where that is not before `until`. Samples more than 1.5
    evaluations apart are two intervals, unless Prometheus itself started in between (`starts`).
    """
    severity = {r.name: r.severity for r in rules}
    step = int(np.median(np.diff(evaluations))) if len(evaluations) > 1 else 60 * NS
    rows = []
    by_labels: dict[tuple[tuple[str, str], ...], list[int]] = {}
    for labels, at in series:
        own = {k: v for k, v in labels.items() if k not in _BUILTIN and k not in {"instance", "replica", "prometheus"}}
        by_labels.setdefault((("alertname", labels["alertname"]), *sorted(own.items())), []).extend(at)
    for key, at in sorted(by_labels.items()):
        name, own = key[0][1], dict(key[1:])
        for first, last in _runs(sorted(set(at)), step, starts):
            end = last + step if last + step < until else None
            rows.append(
                {"started_at": _instant(first), "ended_at": _instant(end), "alert": name, "labels": own}
                | {"severity": own.get("severity") or severity.get(name), "source": "prometheus"}
            )
    return schemas.tidy("alerts", pd.DataFrame(rows)) if rows else schemas.empty_frame("alerts")


def _runs(at: Sequence[int], step: int, starts: Sequence[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for t in at:
        joined = runs and (t - runs[-1][1] <= _HOLE * step or any(runs[-1][1] < s < t for s in starts))
        if joined:
            runs[-1] = (runs[-1][0], t)
        else:
            runs.append((t, t))
    return runs


def join_intervals(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Join what the lake has with a newer pull: intervals of one alert and labels that overlap or touch are one."""
    rows: list[dict[str, Any]] = []
    both = pd.concat([old.assign(newer=0), new.assign(newer=1)], ignore_index=True)
    both["key"] = [
        repr((a, sorted((own or {}).items()))) for a, own in zip(both["alert"], both["labels"], strict=True)
    ]
    for _, group in both.groupby("key", sort=False):
        for r in schemas.rows_of(group.sort_values(["started_at", "newer"])):
            last = rows[-1] if rows and rows[-1]["key"] == r["key"] else None
            if last is None or (pd.notna(last["ended_at"]) and r["started_at"] > last["ended_at"]):
                rows.append(r)
            elif r["newer"] >= last["newer"]:
                last |= {"ended_at": r["ended_at"], "newer": r["newer"]}
            elif pd.notna(last["ended_at"]) and pd.notna(r["ended_at"]):
                last["ended_at"] = max(last["ended_at"], r["ended_at"])
    return schemas.tidy("alerts", pd.DataFrame(rows)) if rows else schemas.empty_frame("alerts")


def expected(
    rules: Sequence[AlertRule],
    attempts: pd.DataFrame,
    lines: pd.DataFrame,
    incidents: pd.DataFrame,
    window: Window,
) -> list[Expected]:
    """Replay every rule over what happened up to the window's end; `lines` have `ts`, `app`, `kind`, `signatures`."""
    out = []
    for rule in rules:
        at, value, of = _measure(rule, attempts, lines, incidents, window.end)
        reached = np.array([rule.reached(v) for v in value], bool)
        intervals = [(a, b if b is not None and b <= window.end else None) for a, b in holds(at, reached)]
        inside = (at >= window.start) & (at < window.end)
        worst = int(np.argmax(np.where(inside, value, -np.inf))) if inside.any() else None
        touching = [(a, b) for a, b in intervals if a < window.end and (b is None or b > window.start)]
        out.append(
            Expected(
                rule,
                touching,
                float(value[worst]) if worst is not None else None,
                int(at[worst]) if worst is not None else None,
                of[worst] if of and worst is not None else None,
            )
        )
    return out


_Measured = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], list[tuple[int, int]]]


def _measure(
    rule: AlertRule, attempts: pd.DataFrame, lines: pd.DataFrame, incidents: pd.DataFrame, until: int
) -> _Measured:
    """Return a rule's value at every instant at which it can change."""
    if rule.measure == "recovery":
        return _recovery(rule, incidents, until)
    of_kind = attempts[attempts["kind"].isin(rule.kinds)] if rule.kinds else attempts
    ended = of_kind[of_kind["outcome"].isin(["succeeded", "failed"])].dropna(subset=["ended_at"])
    failed = _ns(ended.loc[ended["outcome"] == "failed", "ended_at"])
    window = round(rule.window_s * NS)
    if rule.measure == "failure_ratio":
        finished = _ns(ended["ended_at"])
        at = _changes(finished, window, until)
        bad, total = _in_window(failed, at, window), _in_window(finished, at, window)
        ratio = np.where(total >= max(1, rule.minimum), bad / np.maximum(total, 1), 0.0)
        return at, ratio, list(zip(bad.tolist(), total.tolist(), strict=True))
    counted = failed if rule.measure == "failed_attempts" else _ns(_lines_of(rule, lines)["ts"])
    at = _changes(counted, window, until)
    return at, _in_window(counted, at, window).astype(float), []


def _lines_of(rule: AlertRule, lines: pd.DataFrame) -> pd.DataFrame:
    chosen = lines[[bool(set(rule.signatures) & set(s)) for s in lines["signatures"]]] if len(lines) else lines
    chosen = chosen[chosen["app"].isin(rule.apps)] if rule.apps else chosen
    return chosen[chosen["kind"].isin(rule.kinds)] if rule.kinds else chosen


def _recovery(rule: AlertRule, incidents: pd.DataFrame, until: int) -> _Measured:
    """From the instant an incident is as old as the threshold until `window` after its end; its value is its age."""
    at: list[tuple[int, float]] = []
    for start, end in zip(incidents["started_at"], incidents["ended_at"], strict=True):
        risk = start.value + round(rule.threshold * NS)
        stop = end.value if pd.notna(end) else None
        if risk < until and (stop is None or stop > risk):
            at.append((risk, ((stop or until) - start.value) / NS))
            if stop is not None and stop + round(rule.window_s * NS) < until:
                at.append((stop + round(rule.window_s * NS), 0.0))
    at.sort()
    return np.array([t for t, _ in at], np.int64), np.array([v for _, v in at], float), []


def _changes(counted: np.ndarray[Any, Any], window: int, until: int) -> np.ndarray[Any, Any]:
    """Return the instants at which a rolling count changes: each event, and when it leaves the window."""
    at = np.unique(np.concatenate([counted, counted + window]))
    return at[at <= until]


def _in_window(counted: np.ndarray[Any, Any], at: np.ndarray[Any, Any], window: int) -> np.ndarray[Any, Any]:
    """Count events in `(t - window, t]`."""
    known = np.sort(counted)
    return np.searchsorted(known, at, "right") - np.searchsorted(known, at - window, "right")


def audit(found: Sequence[Expected], actual: pd.DataFrame, day: Window, tolerance_s: float) -> pd.DataFrame:
    """Hold what should have fired against what did: `alert_audit` of intervals that begin in `day`."""
    tolerance = round(tolerance_s * NS)
    rows: list[dict[str, Any]] = []
    for e in found:
        fired = actual[actual["alert"] == e.rule.name]
        spans = [
            (a.value, b.value if pd.notna(b) else None)
            for a, b in zip(fired["started_at"], fired["ended_at"], strict=True)
        ]
        met: set[int] = set()
        for start, end in _joined(e.intervals, tolerance):
            hits = [i for i, s in enumerate(spans) if _overlap((start, end), s, tolerance)]
            met.update(hits)
            if start in day:
                rows.append(_row(e.rule.name, (start, end), [spans[i] for i in hits]))
        rows += [_row(e.rule.name, None, [s]) for i, s in enumerate(spans) if i not in met and s[0] in day]
    return schemas.tidy("alert_audit", pd.DataFrame(rows)) if rows else schemas.empty_frame("alert_audit")


_Span = tuple[int, int | None]


def _joined(spans: Sequence[_Span], tolerance: int) -> list[_Span]:
    """Join intervals less than the tolerance apart."""
    out: list[_Span] = []
    for start, end in sorted(spans, key=lambda s: s[0]):
        last = out[-1] if out else None
        if last and (last[1] is None or start - last[1] < tolerance):
            out[-1] = (last[0], None if last[1] is None or end is None else max(last[1], end))
        else:
            out.append((start, end))
    return out


def _overlap(a: _Span, b: _Span, tolerance: int) -> bool:
    return (b[1] is None or a[0] < b[1] + tolerance) and (a[1] is None or b[0] < a[1] + tolerance)


def _row(name: str, should: _Span | None, did: Sequence[_Span]) -> dict[str, Any]:
    actual_start = min((s for s, _ in did), default=None)
    open_ended = any(e is None for _, e in did)
    return {
        "alert": name,
        "expected_start": _instant(should[0]) if should else pd.NaT,
        "expected_end": _instant(should[1]) if should else pd.NaT,
        "actual_start": _instant(actual_start),
        "actual_end": pd.NaT if open_ended or not did else _instant(max(e for _, e in did if e is not None)),
        "verdict": "unexpected" if should is None else "matched" if did else "missed",
        "delay_s": (actual_start - should[0]) / NS if should and actual_start is not None else None,
    }


def _instant(at: int | None) -> Any:
    return pd.Timestamp(at, tz="UTC") if at is not None else pd.NaT


def _ns(instants: pd.Series) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.sort(pd.to_datetime(instants, utc=True).astype("int64").to_numpy())
