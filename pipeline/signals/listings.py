"""Listings of what fires, as Alertmanager gives them: each goes on with what the one before had, and tells no end itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from pipeline import schemas

_LISTED, _SAMPLED = "alertmanager", "prometheus"


def joined(known: pd.DataFrame, found: pd.DataFrame, before: pd.Timestamp | None) -> pd.DataFrame:
    """Return the rows of `alerts` that a listing makes or changes; `known` are those that the lake has of listings.

    What is listed no more ended at some instant since the listing `before`, in which it was seen last: that is its end,
    so that nothing is said to have fired when nobody saw it.
    """
    rows = {_identity(r): r for r in schemas.rows_of(found)}
    for r in schemas.rows_of(known[known["ended_at"].isna()]):
        if _identity(r) not in rows:
            end = r["started_at"] if before is None else max(before, r["started_at"])
            rows[_identity(r)] = r | {"ended_at": end}
    return schemas.tidy("alerts", pd.DataFrame(list(rows.values()))) if rows else schemas.empty_frame("alerts")


def without(known: pd.DataFrame, changed: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `alerts` but for those that a listing changed."""
    gone = {_identity(r) for r in schemas.rows_of(changed)}
    kept = [r["source"] != _LISTED or _identity(r) not in gone for r in schemas.rows_of(known)]
    return known[kept] if len(known) else known


def _identity(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["alert"], row["started_at"], tuple(sorted((row["labels"] or {}).items()))


def each_once(alerts: pd.DataFrame, tolerance_s: float) -> pd.DataFrame:
    """Return firings without the listed ones that Prometheus has too: of the same alert, not further apart than that."""
    reach = pd.Timedelta(seconds=tolerance_s)
    sampled = alerts[alerts["source"] == _SAMPLED]

    def twice(r: Mapping[str, Any]) -> bool:
        same = sampled[sampled["alert"] == r["alert"]]
        over = same["ended_at"].notna() & (same["ended_at"] + reach < r["started_at"])
        later = (same["started_at"] - reach > r["ended_at"]) if pd.notna(r["ended_at"]) else same["alert"].isna()
        return bool((~over & ~later).any())

    kept = [r["source"] != _LISTED or not twice(r) for r in schemas.rows_of(alerts)]
    return alerts[kept].reset_index(drop=True) if len(alerts) else alerts
