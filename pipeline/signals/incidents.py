"""Incidents: failures of one class that follow each other, until the kind of job that breaks succeeds again.

Definitions: contract, Incidents.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline import schemas
from pipeline.model import NS, Window, merge
from pipeline.rules import BUILD_REF, CACHE, AlertRule

BREAKS = {CACHE: "build", BUILD_REF: "codegen-check"}


@dataclass(frozen=True)
class Watch:
    """For how long an incident is watched after its end, and of which time failures and attempts are wholly known."""

    length_s: float
    whole: Sequence[Window] = ()

    def known_from(self, instant: int) -> int:
        """Return until when everything from an instant on is known; the instant itself where nothing is."""
        return next((w.end for w in merge(self.whole) if instant in w), instant)


def incidents(
    failures: pd.DataFrame,
    attempts: pd.DataFrame,
    alerts: pd.DataFrame,
    issue_runs: pd.DataFrame,
    rules: Sequence[AlertRule],
    quiet_s: float,
    tolerance_s: float,
    watch: Watch,
) -> pd.DataFrame:
    """Return `incidents` of all `failures` given, which must reach further back than the longest incident.

    `attempts` and `failures` beyond a day's end may still extend or end what began in it. `watch` tells what of the time
    after an incident is known: the proof that it is over. `excluded_by` is left unknown: objectives fill it.
    """
    rows = []
    for name, kind in BREAKS.items():
        of_class = failures[failures["class"] == name].sort_values(["failed_at", "failure_id"], ignore_index=True)
        group = (of_class["failed_at"].diff() > pd.Timedelta(seconds=quiet_s)).cumsum()
        ended = _ended(attempts, kind)
        done = ended[ended["outcome"] == "succeeded"]
        for _, members in of_class.groupby(group):
            row = _incident(name, members, done["ended_at"])
            fired = _fired(row, alerts, rules, tolerance_s)
            rows.append(row | _detected(row, fired, issue_runs, tolerance_s))
            rows[-1] |= _proof(row, members["failed_at"].iloc[-1], of_class["failed_at"], ended, watch)
    return schemas.tidy("incidents", pd.DataFrame(rows)) if rows else schemas.empty_frame("incidents")


def _ended(attempts: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Return the attempts of a kind that succeeded or failed, in the order of their ends."""
    ended = attempts[(attempts["kind"] == kind) & attempts["outcome"].isin(["succeeded", "failed"])]
    return ended[ended["ended_at"].notna()].sort_values(["ended_at", "job_name", "created_at"], ignore_index=True)


def _incident(name: str, members: pd.DataFrame, done: pd.Series) -> dict[str, Any]:
    first, last = members["failed_at"].iloc[0], members["failed_at"].iloc[-1]
    after_first, after_last = done[done > first], done[done > last]
    ended = after_last.iloc[0] if len(after_last) else None
    return {
        "incident_id": "i-" + hashlib.sha256(str(members["failure_id"].iloc[0]).encode()).hexdigest()[:10],
        "class": name,
        "signatures": sorted({s for found in members["signatures"] for s in found}),
        "started_at": first,
        "ended_at": ended,
        "first_success_at": after_first.iloc[0] if len(after_first) else None,
        "mttr_s": (ended - first).total_seconds() if ended is not None else None,
        "failures": len(members),
        "runs": sorted(members["run_id"].dropna().unique().tolist()),
        "issues": sorted(int(i) for i in members["issue"].dropna().unique()),
    }


def _proof(
    row: dict[str, Any], last: pd.Timestamp, failed: pd.Series, ended: pd.DataFrame, watch: Watch
) -> dict[str, Any]:
    """Tell by what success an incident ended and what is known since its last failure, until the watch is over.

    `successes_in_a_row`: of the kind that the class breaks, up to the first that failed, of whatever; `quiet_for_s`:
    without a failure of the class. Confirmed is what was watched whole, and quiet.
    """
    end = row["ended_at"]
    known = watch.known_from(last.value)
    over = None if end is None else end.value + round(watch.length_s * NS)
    until = known if over is None else min(known, over)
    again = failed[failed > last].min()
    quiet = until if pd.isna(again) else min(until, again.value)
    out: dict[str, Any] = dict.fromkeys(["successes_in_a_row", "quiet_for_s", "recovered_by", "recovered_by_run"])
    if until > last.value:
        since = ended[(ended["ended_at"] > last) & (ended["ended_at"] <= pd.Timestamp(until, tz="UTC"))]
        out["successes_in_a_row"] = int((since["outcome"] == "succeeded").cumprod().sum())
        out["quiet_for_s"] = (quiet - last.value) / NS
    if end is not None:
        by = ended[(ended["ended_at"] == end) & (ended["outcome"] == "succeeded")].iloc[0]
        out |= {"recovered_by": by["job_name"], "recovered_by_run": by["run_id"]}
    watched = over is not None and quiet >= over
    return out | {"state": "open" if end is None else "confirmed" if watched else "provisional", "excluded_by": None}


def _fired(
    row: dict[str, Any], alerts: pd.DataFrame, rules: Sequence[AlertRule], tolerance_s: float
) -> list[tuple[pd.Timestamp, str]]:
    """Return when alerts about this class began to fire, from a little before the incident until its end."""
    names = {r.name for r in rules if row["class"] in r.classes}
    early, late = row["started_at"] - pd.Timedelta(seconds=tolerance_s), row["ended_at"]
    about = alerts[alerts["alert"].isin(names) & (alerts["started_at"] >= early)]
    about = about if late is None else about[about["started_at"] <= late]
    return list(zip(about["started_at"], about["alert"], strict=True))


def _detected(
    row: dict[str, Any], fired: list[tuple[pd.Timestamp, str]], issue_runs: pd.DataFrame, tolerance_s: float
) -> dict[str, Any]:
    early, late = row["started_at"] - pd.Timedelta(seconds=tolerance_s), row["ended_at"]
    said = issue_runs[(issue_runs["author_kind"] == "person") & issue_runs["run_id"].isin(row["runs"])]
    said = said[(said["ts"] >= early) & ((said["ts"] <= late) if late is not None else True)]
    # an alert that fired at the same instant as a person wrote is named first
    first = min([*((t, 0, a) for t, a in fired), *((t, 1, "issue") for t in said["ts"])], default=None)
    if first is None:
        return {"detected_by": None, "detection_delay_s": None}
    return {"detected_by": first[2], "detection_delay_s": max(0.0, (first[0] - row["started_at"]).total_seconds())}
