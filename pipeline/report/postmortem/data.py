"""What the evidence for a postmortem rests on, as the steps gather it from the lake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.cases import Case, Entry, Impact
from pipeline.model import Window
from pipeline.report.data import ReportData

PROVISIONAL, CONFIRMED = "provisional", "confirmed"
MOST = 25  # rows of the timeline that are shown
# what makes room first where a timeline has more rows: what can be read off the excerpts, then what repeats
_LEAST_USE = ("signature_last", "signature_first", "comments", "rollout", "fired", "threshold")


@dataclass(frozen=True, slots=True)
class Shown:
    """One line of an excerpt; `hit`: it has the signature, the others stand around it."""

    ts: int
    level: str
    text: str
    hit: bool


@dataclass(frozen=True)
class Excerpt:
    """The lines of one signature in the window: how many, when, and the first and last with a line before and after."""

    signature: str
    failure_class: str
    app: str
    lines: int
    first: int
    last: int
    shown: Sequence[Sequence[Shown]]


@dataclass(frozen=True)
class PostmortemData:
    """Everything the evidence rests on. `base` is the window as a daily report sees a day.

    `issue_failures`: how many failures are the issue's own and belong to no incident; `confirmed_at` (ns): when the watch
    over every recovery ends; `similar`: earlier incidents of the same classes, latest first; `missing_days`: days of the
    window that were never computed; `by_window`: the window was given, not found by the issue's incidents.
    """

    base: ReportData
    issue: int
    cases: Sequence[Case]
    timeline: Sequence[Entry]
    impact: Impact
    excerpts: Sequence[Excerpt]
    similar: Sequence[Mapping[str, Any]]
    issue_failures: int
    confirmed_at: int | None
    revision: int
    mttr_limit_s: float | None
    missing_days: Sequence[str]
    by_window: bool = False

    @property
    def window(self) -> Window:
        """The window."""
        return self.base.window

    @property
    def state(self) -> str:
        """Confirmed once every incident is over and its watch went by in quiet."""
        sure = all(c.incident["state"] == CONFIRMED for c in self.cases)
        return CONFIRMED if self.cases and sure else PROVISIONAL

    @property
    def entries(self) -> list[Entry]:
        """The rows of the timeline that are shown."""
        rows = list(self.timeline)
        for what in _LEAST_USE:
            for row in reversed([r for r in rows if r.what == what]):
                if len(rows) <= MOST:
                    return rows
                rows.remove(row)
        return rows[:MOST]
