"""The numbers of the report before they are written: the page and `summary.json` are made from the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from pipeline.model import NS, Coverage, Window
from pipeline.report.data import HEADLINE, ReportData, coverage_of, other_kinds, rule_sources
from pipeline.report.text import MIN_P95, MIN_PERCENT, instant, unknown

STEP, HOUR = 900 * NS, 3600 * NS
_Totals = Mapping[str, Any]


@dataclass(frozen=True)
class Figure:
    """One number of one day: a `count`, a `share` (k of n), a rule's `ratio`, a `p95`, a `p50`, a `spread` (low to high).

    Nothing that it could be made of: `none`. `whole` is False where it counts only what was seen: a lower bound.
    """

    form: str
    value: float | None = None
    k: int | None = None
    n: int | None = None
    low: float | None = None
    high: float | None = None
    whole: bool = True


@dataclass(frozen=True)
class Signal:
    """One row of the golden signals; `change` is `now` against `before` in `unit`, None where that cannot be told."""

    name: str
    now: Figure | None
    before: Figure | None
    usual: Figure | None
    usual_days: int
    change: float | None
    unit: str
    by_15m: Sequence[float | None]
    rule: Mapping[str, Any] = field(default_factory=dict)


def signals(data: ReportData) -> list[Signal]:
    """Return the golden signals: traffic, errors, each alert's condition, latency, saturation."""
    out = [
        _signal(data, "traffic", HEADLINE, "started", _count, "%"),
        _signal(data, "errors", HEADLINE, "failed", _share, "pt"),
    ]
    out += [_signal(data, kind, kind, "failed", _share, "pt") for kind in other_kinds(data)]
    out += [_rule_signal(data, e) for e in data.expected if e["measure"] != "recovery"]
    out.append(_signal(data, "latency", "build", "duration_max_s", _latency, "%"))
    out.append(_signal(data, "backlog", "all", "backlog_max", _count, ""))
    return [*out, *([_queue_signal(data)] if "queue_max" in data.totals["all"] else [])]


def _queue_signal(data: ReportData) -> Signal:
    """Return the runtime's own queue, of a day on which it was asked for."""
    of_days = [(h["totals"] or {}).get("all", {}) for h in data.history]
    now, *past = [
        None if unknown(t.get("queue_max")) else Figure("count", t["queue_max"], whole=bool(t["queue_complete"]))
        for t in (data.totals["all"], *of_days)
    ]
    rows = data.golden[(data.golden["window"] == "15m") & (data.golden["kind"] == "all")]
    return _row("queue", now, past, "", [None if unknown(v) else float(v) for v in rows["queue_max"]])


def _signal(data: ReportData, name: str, group: str, column: str, make: Any, unit: str) -> Signal:
    asked = coverage_of(data, "jobs").configured
    now = make(data.totals.get(group), column, asked=asked)
    past = [make((h["totals"] or {}).get(group), column, asked=False) for h in data.history]
    kinds = {HEADLINE: ("build", "mirror")}.get(group, (group,))
    return _row(name, now, past, unit, by_quarter(data, column, kinds))


def _row(
    name: str,
    now: Figure | None,
    past: Sequence[Figure | None],
    unit: str,
    by_15m: Sequence[float | None],
    rule: Mapping[str, Any] | None = None,
) -> Signal:
    before = past[0] if past else None
    usual, days = _middle(past, now)
    return Signal(name, now, before, usual, days, _change(now, before, unit), unit, by_15m, rule or {})


def _count(totals: _Totals | None, column: str, *, asked: bool) -> Figure | None:
    if not totals or unknown(totals.get(column)):
        return None
    whole = bool(totals["complete"])
    if not whole and not asked and not totals[column]:
        return None  # nobody was asked, so nothing seen is not a zero
    return Figure("count", totals[column], whole=whole)


def _share(totals: _Totals | None, column: str, *, asked: bool) -> Figure | None:
    if not totals or unknown(totals.get("finished")):
        return None
    whole, n = bool(totals["complete"]), totals["finished"]
    if not whole and not asked and not n:
        return None
    k = totals[column]
    low, high = totals.get("failure_low_ratio"), totals.get("failure_high_ratio")
    return Figure("share", k / n if n else None, k, n, low, high, whole=whole)


def _latency(totals: _Totals | None, column: str, *, asked: bool) -> Figure | None:
    n = (totals or {}).get("durations")
    if not totals or unknown(n) or (not n and not totals["complete"] and not asked):
        return None
    whole = bool(totals["complete"])
    if not n:
        return Figure("none", n=0, whole=whole)
    if n >= MIN_P95:
        return Figure("p95", totals["duration_p95_s"], n=n, whole=whole)
    return Figure("spread", n=n, low=totals["duration_p50_s"], high=totals[column], whole=whole)


def _middle(past: Sequence[Figure | None], now: Figure | None) -> tuple[Figure | None, int]:
    """Return the median of the earlier days that are whole and of today's form, and how many these are."""
    forms = {f.form for f in (now, *past) if f}
    form = next((f for f in ("share", "p95", "ratio") if f in forms), "count")
    if forms and forms <= {"spread", "none"}:  # too few builds on every day for a p95: the middle of their medians
        lows = [f.low for f in past if f and f.whole and f.low is not None]
        return (Figure("p50", float(np.median(lows))), len(lows)) if lows else (None, 0)
    known = [f for f in past if f and f.whole and f.form == form and f.value is not None]
    if not known:
        return None, 0
    ordered = sorted(known, key=lambda f: (f.value or 0.0, f.n or 0))
    if form == "share":
        return ordered[(len(ordered) - 1) // 2], len(ordered)  # the day in the middle: its k of n are real
    return Figure(form, float(np.median([f.value or 0.0 for f in ordered]))), len(ordered)


def _change(now: Figure | None, before: Figure | None, unit: str) -> float | None:
    if not now or not before or not (now.whole and before.whole) or now.form != before.form:
        return None
    if now.value is None or before.value is None or now.form in {"none", "spread"}:
        return None
    if now.form == "share" and min(now.n or 0, before.n or 0) < MIN_PERCENT:
        return None
    if unit == "pt":
        return round((now.value - before.value) * 100, 1)
    if unit == "%":
        return float(round((now.value / before.value - 1) * 100)) if before.value else None
    return now.value - before.value


def _rule_signal(data: ReportData, e: Mapping[str, Any]) -> Signal:
    """Return an alert's condition: its worst value at any instant of the day."""
    source, ratio = rule_sources(data, e), e["measure"] == "failure_ratio"
    whole, now = source.configured and not source.gaps, None
    if source.configured or e["worst"]:
        k, n = e["worst_of"] or (0, 0)
        now = Figure("ratio", e["worst"], k, n, whole=whole) if ratio else Figure("count", e["worst"], whole=whole)
    flag = "lines_complete" if source.what == "logs" else "complete"
    past = [_past_rule(h, str(e["alert"]), flag, "ratio" if ratio else "count") for h in data.history]
    return _row(str(e["alert"]), now, past, "pt" if ratio else "", rule_by_quarter(data, e), e)


def _past_rule(h: Mapping[str, Any], alert: str, flag: str, form: str) -> Figure | None:
    if not h["totals"] or alert not in h["worst"]:
        return None
    value, whole = h["worst"][alert], bool(h["totals"]["all"].get(flag))
    if value is None:
        return Figure("none", whole=whole)
    return Figure(form, value, whole=whole) if whole or value else None


def by_quarter(data: ReportData, column: str, kinds: Sequence[str]) -> list[float | None]:
    """Return a column of `golden` per 15 min, summed over kinds; None where any of them is not known."""
    rows = data.golden[(data.golden["window"] == "15m") & data.golden["kind"].isin(list(kinds))]
    known = rows[rows["complete"].astype(bool)]
    sums = known.groupby("window_start")[column].agg(["sum", "max"])
    whole = known.groupby("window_start").size() == len(kinds)
    by = sums["max" if column.endswith(("_s", "_max")) else "sum"][whole]
    starts = [pd.Timestamp(t, tz="UTC") for t in range(data.window.start, data.window.end, STEP)]
    return [None if t not in by.index else _known(by[t]) for t in starts]


def _known(value: Any) -> float:
    return 0.0 if pd.isna(value) else float(value)  # a window in which nothing ended has no duration: no bar


def rule_by_quarter(data: ReportData, e: Mapping[str, Any]) -> list[float | None]:
    """Return what a rule counts, per 15 min; None where its source has a hole or was not configured."""
    source = rule_sources(data, e)
    if e["measure"] == "signature_lines":
        values: list[float] = [float(n) for n in per_quarter(rule_lines(data, e)["ts"], data.window)]
    else:
        counts = quarters(data, e["kinds"] or list(data.attempts["kind"].unique()))
        ratio = e["measure"] == "failure_ratio"
        values = [q.failed / max(1, q.failed + q.succeeded) if ratio else float(q.failed) for q in counts]
    return [v if k else None for v, k in zip(values, quarters_known(source, data.window), strict=True)]


def rule_lines(data: ReportData, e: Mapping[str, Any]) -> pd.DataFrame:
    """Return the lines that a rule counts."""
    lines = data.lines
    chosen = lines[np.array([not set(e["signatures"]).isdisjoint(s) for s in lines["signatures"]], bool)]
    chosen = chosen[chosen["app"].isin(list(e["apps"]))] if e.get("apps") else chosen
    return chosen[chosen["kind"].isin(list(e["kinds"]))] if e["kinds"] else chosen


@dataclass(frozen=True)
class Quarter:
    """What finished in 15 min; `whole` is False where a hole overlaps: then it is a lower bound."""

    start: int
    succeeded: int
    failed: int
    whole: bool


def quarters(data: ReportData, kinds: Sequence[str]) -> list[Quarter]:
    """Return the attempts of some kinds that finished, per 15 min of their end."""
    mine = data.attempts[data.attempts["kind"].isin(list(kinds))]
    good, bad = (per_quarter(mine.loc[mine["outcome"] == o, "ended_at"], data.window) for o in ("succeeded", "failed"))
    whole = quarters_known(coverage_of(data, "jobs"), data.window)
    starts = range(data.window.start, data.window.end, STEP)
    return [Quarter(t, g, b, w) for t, g, b, w in zip(starts, good, bad, whole, strict=True)]


def per_quarter(instants: pd.Series, day: Window) -> list[int]:
    """Count instants per 15 min of a day."""
    at = np.array([instant(t) for t in instants.dropna()], np.int64)
    edges = np.arange(day.start, day.end + 1, STEP, dtype=np.int64)
    return [int(n) for n in np.diff(np.searchsorted(np.sort(at), edges, "left"))]


def quarters_known(source: Coverage, day: Window) -> list[bool]:
    """Tell for each 15 min of a day whether no hole of a source overlaps it."""
    cells = [Window(t, t + STEP) for t in range(day.start, day.end, STEP)]
    return [source.configured and not any(g.intersect(c) for g in source.gaps) for c in cells]


@dataclass(frozen=True)
class Budget:
    """What an objective's window allows: failures in all, `allowed` of them, and how many are `left`."""

    failed: int
    allowed: float
    left: float


def budget(row: Mapping[str, Any]) -> Budget | None:
    """Return an objective's budget in failures, None where it has none or is not known."""
    if unknown(row["budget_spent_ratio"]) or unknown(row["total"]):
        return None
    failed = int(row["total"] - row["good"])
    allowed = round(row["total"] * (1 - row["objective_ratio"]), 6)
    return Budget(failed, allowed, round(allowed - failed, 6))


def builds(data: ReportData) -> list[tuple[int, float]]:
    """Return the end (ns) and duration (s) of each build of the day that succeeded."""
    a = data.attempts
    done = a[(a["kind"] == "build") & (a["outcome"] == "succeeded") & a["duration_s"].notna() & a["ended_at"].notna()]
    pairs = zip(done["ended_at"], done["duration_s"], strict=True)
    return sorted((t.value, float(s)) for t, s in pairs if t.value in data.window)


def build_hours(data: ReportData) -> dict[int, list[float]]:
    """Return the durations (s) of the builds that succeeded, by the hour (ns) of their end."""
    hours: dict[int, list[float]] = {}
    for at, seconds in builds(data):
        hours.setdefault(at // HOUR * HOUR, []).append(seconds)
    return hours


@dataclass(frozen=True)
class Stream:
    """The lines of one signature (`id` None: bad lines with none) in a day: how many, first, last, per 15 min."""

    id: str | None
    lines: int
    first: int | None
    last: int | None
    by_15m: Sequence[int]
    failure_class: str = "other"


def streams(data: ReportData) -> list[Stream]:
    """Return the error stream: every signature of the catalogue, then WARN and ERROR lines without one."""
    found = list(data.lines["signatures"])
    rows = [_stream(data, s.id, np.array([s.id in signed for signed in found], bool)) for s in data.signatures]
    return [*rows, _stream(data, None, _bare(data))]


def stream_lines(data: ReportData) -> int:
    """Count the lines of the error stream, each once: a line may have several signatures."""
    ids = {s.id for s in data.signatures}
    signed = np.array([not ids.isdisjoint(found) for found in data.lines["signatures"]], bool)
    return int((signed | _bare(data)).sum())


def _bare(data: ReportData) -> np.ndarray[Any, np.dtype[np.bool_]]:
    bad = data.lines["level"].isin(["WARN", "ERROR", "FATAL"])
    return np.array([b and not found for b, found in zip(bad, data.lines["signatures"], strict=True)], bool)


def _stream(data: ReportData, name: str | None, chosen: np.ndarray[Any, np.dtype[np.bool_]]) -> Stream:
    at = data.lines["ts"][chosen].dropna()
    classes = {s.id: s.failure_class for s in data.signatures}
    ends = (instant(at.min()), instant(at.max())) if len(at) else (None, None)
    return Stream(name, len(at), *ends, per_quarter(at, data.window), classes.get(name or "", "other"))
