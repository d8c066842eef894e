"""What a daily report rests on, as the steps gather it from the lake; and how such values become plain JSON."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline.model import Coverage, Window, instant_text
from pipeline.report.words import Words
from pipeline.rules import Objective, Signature

HEADLINE = "build+mirror"  # the SREs' monitoring document defines health and traffic over these two kinds
_TOGETHER = {HEADLINE, "all", "build", "mirror"}


@dataclass(frozen=True)
class ReportData:
    """Everything a daily report rests on, from the lake.

    `expected`: one mapping a rule with `alert, severity, summary, threshold, op, measure, kinds, signatures, window_s,
    intervals, worst, worst_at, worst_of` and, where known, `apps, minimum, runbook`; `history`: of the days before,
    latest first, `date`, `totals` (as `totals`, or None: never pulled) and `worst` (alert -> value); `earlier`: the
    failures of those days (None: not looked up); `exclusions`: entries of the settings that touch an objective's window
    with `kind, start, end, who, why, confirmed_by, holds`, and what each left out: `attempts`, `incidents` (ids);
    `restatements`: of earlier days that changed the morning after, `date, at, was, is` (as `totals`), `late` lines.
    """

    date: dt.date
    window: Window
    made_at: int
    attempts: pd.DataFrame
    lines: pd.DataFrame
    golden: pd.DataFrame
    totals: Mapping[str, Mapping[str, Any]]
    history: Sequence[Mapping[str, Any]]
    failures: pd.DataFrame
    incidents: pd.DataFrame
    alerts: pd.DataFrame
    alert_audit: pd.DataFrame
    expected: Sequence[Mapping[str, Any]]
    slo: pd.DataFrame
    shares: pd.DataFrame
    ledger: pd.DataFrame
    level_breaches: pd.DataFrame
    coverage: Sequence[Coverage]
    verdict: str
    reasons: Sequence[Mapping[str, Any]]
    signatures: Sequence[Signature]
    ambiguous: int
    left_out: tuple[int, int]
    namespaces: Sequence[str]
    docs_url: str
    max_gap_s: float
    inputs: Mapping[str, Any]
    versions: Mapping[str, str]
    words: Words
    changed_settings: Sequence[str]
    earlier: pd.DataFrame | None = None
    exclusions: Sequence[Mapping[str, Any]] = ()
    restatements: Sequence[Mapping[str, Any]] = ()
    revision: int = 1
    objectives: Sequence[Objective] = ()


def coverage_of(data: ReportData, what: str) -> Coverage:
    """Return how well one kind of question is answered; one that nobody knows of was not configured."""
    found = (c for c in data.coverage if c.what == what)
    return next(found, Coverage(what, "", False, None, 0, (), {}))


def other_kinds(data: ReportData) -> list[str]:
    """Return the kinds beside build and mirror that count in the golden signals, each with a row of its own."""
    return [g for g in data.totals if g not in _TOGETHER]


def rule_sources(data: ReportData, rule: Mapping[str, Any]) -> Coverage:
    """Return what a rule's condition is counted from."""
    return coverage_of(data, "logs" if rule["measure"] == "signature_lines" else "jobs")


def severity_of(data: ReportData, name: object) -> str:
    """Return whether an alert is a page or a ticket, nothing for one that the catalogue does not know."""
    return next((str(e["severity"]) for e in data.expected if e["alert"] == name), "")


def prefix_of(data: ReportData) -> str:
    """Return what all alerts' names begin with, up to an underscore: it need not be said each time."""
    names = [str(e["alert"]) for e in data.expected]
    if len(names) < 2:  # noqa: PLR2004 - one name alone has nothing in common with others
        return ""
    first, last = min(names), max(names)
    same = next((i for i, c in enumerate(first) if last[i : i + 1] != c), len(first))
    return first[: first.rfind("_", 0, same) + 1]


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a table's rows as JSON knows them."""
    return [plain({str(k): v for k, v in r.items()}) for r in frame.to_dict("records")]


def plain(value: Any) -> Any:
    """Return a value as JSON knows it: instants as RFC 3339, unknown as null."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value):  # noqa: PLR0124
        return None
    if isinstance(value, pd.Timestamp):
        return instant_text(value.value)
    return value.item() if hasattr(value, "item") else value
