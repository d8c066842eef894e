"""What incidents cost, in people's units: runs, issues, attempts, time and budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from pipeline import schemas
from pipeline.cases import Impact
from pipeline.model import Window
from pipeline.rules import Objective


def impact(
    failures: pd.DataFrame, attempts: pd.DataFrame, window: Window, promised: pd.DataFrame, rule: Objective
) -> Impact:
    """Return what failures cost; `attempts` reach over the window, `promised` are rows of `slo`, the newest last."""
    failed = schemas.rows_of(failures)
    keys = {(f["namespace"], f["job_name"], f["attempt"]) for f in failed}
    ran = schemas.rows_of(attempts)
    mine = [a for a in ran if (a["namespace"], a["job_name"], a["attempt"]) in keys]
    lost = [float(a["duration_s"]) for a in mine if a["duration_s"] == a["duration_s"] and a["duration_s"] is not None]
    again = {(n, j, int(k) + 1) for n, j, k in keys if isinstance(j, str) and k is not pd.NA and k is not None}
    inside = [a for a in ran if isinstance(a["run_id"], str) and _within(a, window)]
    runs = {f["run_id"] for f in failed if isinstance(f["run_id"], str)}
    return Impact(
        runs_hit=len(runs),
        unlinked=sum(1 for f in failed if not isinstance(f["run_id"], str)),
        runs=len({a["run_id"] for a in inside} | runs),
        issues=sorted({int(f["issue"]) for f in failed if f["issue"] is not pd.NA and f["issue"] is not None}),
        failed_attempts=len(failed),
        lost_s=sum(lost),
        untimed=len(failed) - len(lost),
        retries=sum(1 for a in ran if (a["namespace"], a["job_name"], a["attempt"]) in again),
        budget_used_ratio=_budget(failed, promised, rule),
        budget_window=rule.window,
    )


def _within(attempt: Mapping[str, Any], window: Window) -> bool:
    start = _ns(attempt["created_at"])
    end = _ns(attempt["ended_at"])
    return start is not None and start < window.end and (end is None or end > window.start)


def _budget(failed: Sequence[Mapping[str, Any]], promised: pd.DataFrame, rule: Objective) -> float | None:
    """Return failures that count for the objective over those that its window allows; None while that is unknown."""
    rows = promised[(promised["slo"] == rule.name) & promised["ratio"].notna()]
    if rows.empty or rule.target >= 1:
        return None
    allowed = float(rows["total"].iloc[-1]) * (1 - rule.target)
    return sum(1 for f in failed if f["kind"] in rule.kinds) / allowed if allowed else None


def _ns(value: Any) -> int | None:
    return None if value is None or pd.isna(value) else int(value.value)
