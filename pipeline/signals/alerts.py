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
from pipeline.signals.intervals import Floats, Instants, Span, changes, holds, in_window, nanoseconds, top, union

_HOLE = 1.5  # evaluation intervals that two samples of one interval may lie apart
_GRACE_NS = 600 * NS  # a restarted Prometheus may take so long to fire again (rules.alert.for-grace-period)
_DOWN_NS = 3600 * NS  # whether an alert went on firing while its server was away for longer, nobody can tell
_FEW = 2  # distances that say nothing yet of how often rules are evaluated
_RARELY_NS = 300 * NS  # rules evaluated more rarely than Prometheus looks back would flap anyway
_BUILTIN = {"alertname", "alertstate", "__name__"}
_REPLICA = {
    "instance",
    "replica",
    "prometheus",
    "prometheus_replica",
    "__replica__",
}  # who of several evaluated the rule
_WHOLE: Mapping[str, Sequence[Window]] = {"logs": (), "jobs": (), "alerts": ()}


@dataclass(frozen=True)
class Expected:
    """When an alert's condition held over our own data: intervals in ns (None: still), and the window's worst value.

    `worst` is null where nothing could be judged (a ratio of too few); `worst_of` is k of n of a ratio, also of too few.
    """

    rule: AlertRule
    intervals: Sequence[Span]
    worst: float | None = None
    worst_at: int | None = None
    worst_of: tuple[int, int] | None = None

    def reached_in(self, window: Window) -> list[Span]:
        """Return the intervals that began in a window: the instants at which the threshold was reached."""
        return [s for s in self.intervals if s[0] in window]


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
    step = _evaluated_every(series, evaluations)
    rows = []
    by_labels: dict[tuple[tuple[str, str], ...], list[int]] = {}
    for labels, at in series:
        own = {k: v for k, v in labels.items() if k not in _BUILTIN | _REPLICA}
        by_labels.setdefault((("alertname", labels["alertname"]), *sorted(own.items())), []).extend(at)
    for key, at in sorted(by_labels.items()):
        name, own = key[0][1], dict(key[1:])
        for first, last in _runs(sorted(set(at)), step, starts, evaluations):
            end = last + step if last + step < until else None
            rows.append(
                {"started_at": _instant(first), "ended_at": _instant(end), "alert": name, "labels": own}
                | {"severity": own.get("severity") or severity.get(name), "source": "prometheus"}
            )
    return schemas.tidy("alerts", pd.DataFrame(rows)) if rows else schemas.empty_frame("alerts")


def _evaluated_every(series: Sequence[tuple[Mapping[str, str], Sequence[int]]], evaluations: Sequence[int]) -> int:
    """Return the distance of evaluations in ns: at least that of the samples themselves.

    `evaluations` may be scrapes of the server, which can come more often than its rules are evaluated.
    """
    known = np.diff(np.asarray(evaluations, np.int64))
    own = [np.diff(np.unique(np.asarray(at, np.int64))) for _, at in series]
    near = np.concatenate([*own, np.empty(0, np.int64)])
    near = near[near <= _RARELY_NS]
    near = near if len(near) > _FEW else near[:0]
    return max(int(np.median(d)) if len(d) else 0 for d in (known, near)) or 60 * NS


def _runs(at: Sequence[int], step: int, starts: Sequence[int], evaluations: Sequence[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for t in at:
        last = runs[-1][1] if runs else None
        if last is not None and (t - last <= _HOLE * step or _restarted(last, t, step, starts, evaluations)):
            runs[-1] = (runs[-1][0], t)
        else:
            runs.append((t, t))
    return runs


def _restarted(last: int, following: int, step: int, starts: Sequence[int], evaluations: Sequence[int]) -> bool:
    """Tell whether the hole between two samples is one that a restart of Prometheus made.

    It fired until its server went, and again within the grace period after the first evaluation of the new one.
    """
    known = np.asarray(evaluations, np.int64)
    for s in (s for s in starts if last < s < following):
        before, after = known[known < s], known[known >= s]
        again = int(after[0]) if len(after) else s
        fired_till_then = not len(before) or before[-1] - last <= _HOLE * step
        if fired_till_then and again - last <= _DOWN_NS and following - again <= _GRACE_NS + _HOLE * step:
            return True
    return False


def join_intervals(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Join what the lake has with a newer pull: intervals of one alert and labels that overlap or touch are one.

    The newer end stands, except that a pull of an earlier window never takes back an end that lies after it.
    """
    rows: list[dict[str, Any]] = []
    both = pd.concat([old.assign(newer=0), new.assign(newer=1)], ignore_index=True)
    both["key"] = [repr((a, sorted((own or {}).items()))) for a, own in zip(both["alert"], both["labels"], strict=True)]
    for _, group in both.groupby("key", sort=False):
        for r in schemas.rows_of(group.sort_values(["started_at", "newer"])):
            last = rows[-1] if rows and rows[-1]["key"] == r["key"] else None
            if last is None or (pd.notna(last["ended_at"]) and r["started_at"] > last["ended_at"]):
                rows.append(r)
            else:
                last |= {"ended_at": _end_of(last, r), "newer": max(last["newer"], r["newer"])}
    return schemas.tidy("alerts", pd.DataFrame(rows)) if rows else schemas.empty_frame("alerts")


def _end_of(a: dict[str, Any], b: dict[str, Any]) -> Any:
    """Return the end of two overlapping intervals: a known one, the newer pull's, of one pull the later."""
    known = [r for r in (a, b) if pd.notna(r["ended_at"])]
    newest = max((r["newer"] for r in known), default=0)
    return max((r["ended_at"] for r in known if r["newer"] == newest), default=pd.NaT)


def expected(
    rules: Sequence[AlertRule],
    attempts: pd.DataFrame,
    lines: pd.DataFrame,
    incidents: pd.DataFrame,
    window: Window,
    until: int | None = None,
) -> list[Expected]:
    """Replay every rule over what happened; `lines` have `ts`, `app`, `kind`, `signatures`.

    What is given is whole up to `until` (ns, default: the window's end): what still holds then has no end. Worst values
    are of instants in the window, whatever they look back on.
    """
    known = window.end if until is None else until
    return [
        _recovery(r, incidents, window, known)
        if r.measure == "recovery"
        else _counted(r, _measure(r, attempts, lines, known), window)
        for r in rules
    ]


@dataclass(frozen=True)
class _Measured:
    """A rule's value at every instant at which it can change; NaN: too few to judge; `k` of `n` for a ratio."""

    when: Instants
    value: Floats
    k: Instants | None = None
    n: Instants | None = None


def _counted(rule: AlertRule, of: _Measured, window: Window) -> Expected:
    intervals = holds(of.when, np.array([rule.reached(v) for v in of.value], bool))
    inside = np.flatnonzero((of.when >= window.start) & (of.when < window.end))
    if of.k is None or of.n is None:
        worst = top(inside, of.when, of.value)
        if worst is None:
            return Expected(rule, intervals, 0.0)  # a count of nothing is 0 at any instant
        return Expected(rule, intervals, float(of.value[worst]), int(of.when[worst]))
    judged = inside[~np.isnan(of.value[inside])]
    worst = top(judged if len(judged) else inside[of.n[inside] > 0], of.when, of.k / np.maximum(of.n, 1), of.n)
    if worst is None:
        return Expected(rule, intervals)
    value = float(of.value[worst]) if len(judged) else None
    return Expected(rule, intervals, value, int(of.when[worst]), (int(of.k[worst]), int(of.n[worst])))


def _measure(rule: AlertRule, attempts: pd.DataFrame, lines: pd.DataFrame, until: int) -> _Measured:
    window = round(rule.window_s * NS)
    if rule.measure == "signature_lines":
        return _count(lines_of(rule, lines)["ts"], window, until)
    ended = attempts[attempts["outcome"].isin(["succeeded", "failed"]) & attempts["ended_at"].notna()]
    ended = ended[ended["kind"].isin(rule.kinds)] if rule.kinds else ended
    failed = ended.loc[ended["outcome"] == "failed", "ended_at"]
    if rule.measure == "failed_attempts":
        return _count(failed, window, until)
    finished = np.sort(nanoseconds(ended["ended_at"]))
    at = changes(finished, window, until)
    k, n = in_window(np.sort(nanoseconds(failed)), at, window), in_window(finished, at, window)
    return _Measured(at, np.where(n >= max(1, rule.minimum), k / np.maximum(n, 1), np.nan), k, n)


def _count(instants: pd.Series, window: int, until: int) -> _Measured:
    events = np.sort(nanoseconds(instants))
    at = changes(events, window, until)
    return _Measured(at, in_window(events, at, window).astype(float))


def lines_of(rule: AlertRule, lines: pd.DataFrame) -> pd.DataFrame:
    """Return the lines that a rule counts."""
    chosen = lines[np.array([not set(rule.signatures).isdisjoint(s) for s in lines["signatures"]], bool)]
    chosen = chosen[chosen["app"].isin(rule.apps)] if rule.apps else chosen
    return chosen[chosen["kind"].isin(rule.kinds)] if rule.kinds else chosen


def _recovery(rule: AlertRule, incidents: pd.DataFrame, window: Window, until: int) -> Expected:
    """From the instant an incident is as old as the threshold until the rule's window after its end."""
    limit, tail = round(rule.threshold * NS), round(rule.window_s * NS)
    spans: list[Span] = []
    ages: list[tuple[float, int]] = []
    for start, end in zip(incidents["started_at"], incidents["ended_at"], strict=True):
        risk, stop = start.value + limit, end.value if pd.notna(end) else None
        if risk < until and (stop is None or stop > risk):
            spans.append((risk, None if stop is None else stop + tail))
            if risk in window:
                ages.append((((until if stop is None else stop) - start.value) / NS, -risk))
    worst = max(ages, default=None)
    return Expected(rule, union(spans), *((worst[0], -worst[1]) if worst else (None, None)))


def audit(
    found: Sequence[Expected],
    actual: pd.DataFrame,
    day: Window,
    tolerance_s: float,
    gaps: Mapping[str, Sequence[Window]] = _WHOLE,
) -> pd.DataFrame:
    """Hold what should have fired against what did: `alert_audit` of intervals that begin in `day`.

    `gaps` of `logs`, `jobs` and `alerts`, a name left out where that was not configured: what lies in a hole of the
    alerts is not called missed, nor unexpected what looks back on a hole of ours. `silenced` and `dedup_key` are left
    unknown: `pages` fills them.
    """
    tolerance = round(tolerance_s * NS)
    rows: list[dict[str, Any]] = []
    for e in found:
        fired = actual[actual["alert"] == e.rule.name]
        spans: list[Span] = [
            (a.value, b.value if pd.notna(b) else None)
            for a, b in zip(fired["started_at"], fired["ended_at"], strict=True)
        ]
        for span in e.reached_in(day):
            hits = [s for s in spans if _overlap(span, s, tolerance)]
            if hits or not _hidden(span, day, gaps.get("alerts"), tolerance):
                rows.append(_row(e.rule.name, span, hits))
        ours = gaps.get("logs" if e.rule.measure == "signature_lines" else "jobs")
        back = tolerance + round(e.rule.window_s * NS)
        alone = [s for s in spans if s[0] in day and not any(_overlap(i, s, tolerance) for i in e.intervals)]
        rows += [_row(e.rule.name, None, [s]) for s in alone if not _hidden(s, day, ours, back)]
    return schemas.tidy("alert_audit", pd.DataFrame(rows)) if rows else schemas.empty_frame("alert_audit")


def _overlap(a: Span, b: Span, tolerance: int) -> bool:
    """Tell whether two intervals share an instant or lie less than the tolerance apart."""
    return (b[1] is None or a[0] < b[1] + tolerance) and (a[1] is None or b[0] < a[1] + tolerance)


def _hidden(span: Span, day: Window, gaps: Sequence[Window] | None, reach: int) -> bool:
    """Tell whether an interval, so much wider, lies in part in a hole; without a source everything is one."""
    seen = Window(span[0], day.end if span[1] is None else span[1]).widen(reach, reach)
    return gaps is None or any(g.intersect(seen) for g in gaps)


def _row(name: str, should: Span | None, did: Sequence[Span]) -> dict[str, Any]:
    actual_start = min((s for s, _ in did), default=None)
    ends = [e for _, e in did]
    return {
        "alert": name,
        "expected_start": _instant(should[0]) if should else pd.NaT,
        "expected_end": _instant(should[1]) if should else pd.NaT,
        "actual_start": _instant(actual_start),
        "actual_end": pd.NaT if None in ends else _instant(max((e for e in ends if e is not None), default=None)),
        "verdict": "unexpected" if should is None else "matched" if did else "missed",
        "delay_s": (actual_start - should[0]) / NS if should and actual_start is not None else None,
        "silenced": None,
        "dedup_key": None,
    }


def _instant(at: int | None) -> Any:
    return pd.Timestamp(at, tz="UTC") if at is not None else pd.NaT
