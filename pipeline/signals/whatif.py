"""What another threshold or window of an alert would have meant: how much earlier for each incident, how many firings."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipeline import schemas
from pipeline.model import NS, Window
from pipeline.rules import AlertRule
from pipeline.signals.alerts import expected
from pipeline.signals.intervals import Span
from pipeline.signals.pages import PAGE, silences
from pipeline.signals.slo import Exclusion

_COLUMNS = ["incident_id", "class", "started_at", "reached_at", "would_reach_at", "earlier_s"]


@dataclass(frozen=True)
class WhatIf:
    """A rule held against another of its kind over one window: how often each would have fired, and incident by incident.

    Both count what begins on days that are known; `unknown` are the others. A page within maintenance wakes nobody and is
    not counted. `incidents` has `incident_id, class, started_at, reached_at` (by the rule as it is), `would_reach_at` (by
    the other) and `earlier_s` (below 0: later; unknown where one of them never reaches its threshold).
    """

    rule: AlertRule
    other: AlertRule
    window: Window
    firings: int | None
    would_fire: int | None
    incidents: pd.DataFrame
    unknown: Sequence[dt.date] = ()

    def __str__(self) -> str:
        changed = [
            f"{name} {getattr(self.other, of):g} in place of {getattr(self.rule, of):g}"
            for name, of in (("threshold", "threshold"), ("window in s", "window_s"))
            if getattr(self.other, of) != getattr(self.rule, of)
        ]
        middle = self.incidents["earlier_s"].median()
        sooner = "no incident to compare" if pd.isna(middle) else _sooner(middle)
        said = f"{', '.join(changed) or 'as it is'}: {sooner}, {self._more()}"
        return f"{said}; not wholly known: {', '.join(map(str, self.unknown))}" if self.unknown else said

    def _more(self) -> str:
        if self.firings is None or self.would_fire is None:
            return f"how many {self.rule.severity}s more is unknown"
        more = self.would_fire - self.firings
        what = self.rule.severity if abs(more) == 1 else f"{self.rule.severity}s"
        days = sum(1 for _ in self.window.days()) - len(self.unknown)
        how_many = f"{abs(more)} {what} {'more' if more > 0 else 'less'}" if more else f"as many {what}"
        return f"{how_many} in {days} {'day' if days == 1 else 'days'}"


def what_if(
    rule: AlertRule,
    other: AlertRule,
    attempts: pd.DataFrame,
    lines: pd.DataFrame,
    incidents: pd.DataFrame,
    window: Window,
    tolerance_s: float,
    unknown: Sequence[dt.date] = (),
    maintenance: Sequence[Exclusion] = (),
) -> WhatIf:
    """Replay a rule and another over what happened in a window; firings are those that begin in it, on known days.

    What detects an incident is reached between its start less the tolerance and its end, as by the contract. Attempts
    and lines must reach so far before the window as either rule looks back.
    """
    now, then = expected([rule, other], attempts, lines, incidents, window)
    about = incidents[incidents["class"].isin(rule.classes)] if rule.classes else incidents
    about = about[np.array([t.value in window for t in about["started_at"]], bool)].sort_values(
        ["started_at", "incident_id"]
    )
    rows = []
    for i in schemas.rows_of(about):
        late = None if pd.isna(i["ended_at"]) else i["ended_at"].value
        held = (i["started_at"].value - round(tolerance_s * NS), late)
        first, would = _reached(now.intervals, held), _reached(then.intervals, held)
        earlier = None if first is None or would is None else (first - would) / NS
        row: dict[str, Any] = {c: i[c] for c in _COLUMNS[:3]}
        rows.append(row | {"reached_at": _instant(first), "would_reach_at": _instant(would), "earlier_s": earlier})
    known = [w for d, w in window.days() if d not in unknown]
    silent = maintenance if rule.severity == PAGE else ()
    firings, would = (
        sum(not silences(silent, span) for w in known for span in e.reached_in(w)) if known else None
        for e in (now, then)
    )
    return WhatIf(rule, other, window, firings, would, _table(rows), tuple(unknown))


def _sooner(seconds: float) -> str:
    minutes = seconds / 60
    return f"median {abs(minutes):.1f} min {'later' if minutes < 0 else 'earlier'}"


def _reached(intervals: Sequence[Span], held: Span) -> int | None:
    """Return when a condition was first reached within an incident."""
    return next((a for a, _ in intervals if a >= held[0] and (held[1] is None or a <= held[1])), None)


def _table(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=_COLUMNS)
    instants = {c: pd.to_datetime(frame[c], utc=True).dt.as_unit("ns") for c in _COLUMNS if c.endswith("_at")}
    return frame.assign(**instants, earlier_s=frame["earlier_s"].astype("float64"))


def _instant(at: int | None) -> Any:
    return pd.NaT if at is None else pd.Timestamp(at, tz="UTC")
