"""Section 12: what took long against its own kind, what never finished, and what waited longest to start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from pipeline.report.data import ReportData, records
from pipeline.report.rich import Rich, say
from pipeline.report.text import count, duration, number, when

_SHOWN = 5  # of each
_LEAST = 5  # attempts of a kind from which their median tells anything
_ENDLESS = ("running", "vanished", "superseded")


def section(data: ReportData) -> dict[str, Any]:
    """Return the section: `note`, `nothing` (a sentence where there is no row), `rows`."""
    found = [*_slow(data), *_endless(data), *_waiting(data)]
    return {"note": "", "nothing": None if found else _nothing(data), "rows": [_row(data, r) for r in found]}


def slowest(data: ReportData) -> list[dict[str, Any]]:
    """Return the attempts of the day that took longest against the median of their kind: with `times` and `median_s`."""
    a = _mine(data)
    start, end = (pd.Timestamp(t, tz="UTC") for t in (data.window.start, data.window.end))
    done = a[(a["outcome"] == "succeeded") & a["duration_s"].notna() & (a["ended_at"] >= start) & (a["ended_at"] < end)]
    of_kind = done.groupby("kind")["duration_s"]
    median, n = of_kind.transform("median"), of_kind.transform("size")
    told = done.assign(median_s=median, times=done["duration_s"] / median)[(n >= _LEAST) & (median > 0)]
    return records(told.sort_values(["times", "job_name"], ascending=[False, True]).head(_SHOWN))


def _mine(data: ReportData) -> pd.DataFrame:
    return data.attempts[data.attempts["kind"].isin([k for k in data.totals if k != "all"])]


def _slow(data: ReportData) -> list[dict[str, Any]]:
    form = data.words.of("slow")["slow"]
    rows = slowest(data)
    return [
        r | {"state": form.format(times=number(r["times"])), "for": r["duration_s"], "usual": r["median_s"]}
        for r in rows
    ]


def _endless(data: ReportData) -> list[dict[str, Any]]:
    """Return the attempts whose end nobody saw, those that were seen longest first."""
    a = _mine(data)
    left = a[a["outcome"].isin(_ENDLESS)]
    for_s = (left["last_seen_at"] - left["created_at"]).dt.total_seconds()
    seen = left.assign(for_s=for_s).sort_values("for_s", ascending=False).head(_SHOWN)
    rows = [r | {"for": r["for_s"], "usual": None} for r in records(seen)]
    return [r | {"state": data.words.of("slow")[r["outcome"]]} for r in rows]


def _waiting(data: ReportData) -> list[dict[str, Any]]:
    """Return the attempts that waited longest between their creation and their start."""
    a = _mine(data)
    waited = (a["started_at"] - a["created_at"]).dt.total_seconds()
    longest = a.assign(for_s=waited)[waited > 1].sort_values("for_s", ascending=False).head(1)
    rows = [r | {"for": r["for_s"], "usual": waited.median()} for r in records(longest)]
    return [r | {"state": data.words.of("slow")["waited"]} for r in rows]


def _row(data: ReportData, r: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "state": r["state"],
        "kind": r["kind"],
        "job": r["job_name"],
        "attempt": count(r["attempt"]),
        "created": when(r["created_at"], data.window),
        "for": duration(r["for"]),
        "usual": duration(r["usual"]),
    }


def _nothing(data: ReportData) -> Rich:
    whole = bool(data.totals["all"]["complete"])
    return say(data.words.of("slow")["nothing" if whole else "nothing_seen"])
