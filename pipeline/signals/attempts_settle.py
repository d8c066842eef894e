"""What events and log lines tell about attempts that scrapes did not see to their end."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pandas as pd

from pipeline import schemas
from pipeline.rules import Phrase

FAILED_REASONS = (
    "BackoffLimitExceeded",
    "DeadlineExceeded",
    "PodFailurePolicy",
    "FailedIndexes",
    "MaxFailedIndexesExceeded",
)
_CREATED, _COMPLETED = "SuccessfulCreate", "Completed"
_SAME_CREATION = pd.Timedelta(seconds=5)  # the first pod is made within seconds of the job
_ONE_SECOND = pd.Timedelta(seconds=1)
_LATE_LINE = pd.Timedelta(seconds=60)  # a line about an attempt comes at most a minute after its end (contract)


def by_events(attempts: pd.DataFrame, events: pd.DataFrame) -> pd.DataFrame:
    """Settle outcomes by the Job controller's events: exact, by the job's uid; one that only events show gets a row."""
    told = events[(events["object_kind"] == "Job") & events["reason"].isin([*FAILED_REASONS, _CREATED, _COMPLETED])]
    if told.empty:
        return attempts
    rows: list[dict[str, Any]] = schemas.rows_of(attempts)
    uid_of = {r["uid"]: r for r in rows if isinstance(r.get("uid"), str)}
    names = _by_name(rows)
    uids = told["object_uid"].fillna(told["object_name"] + "@" + told["namespace"])
    order = told.groupby(uids)["ts"].min().sort_values()
    groups = dict(iter(told.sort_values("ts").groupby(uids)))
    for uid in order.index:
        group = groups[uid]
        first = group.iloc[0]
        row = uid_of.get(uid) or _attempt_of_event(names.get((first["namespace"], first["object_name"]), []), group)
        if row is None:
            row = {"namespace": first["namespace"], "job_name": first["object_name"], "created_at": first["ts"]}
            row |= {"source": "events", "outcome": "running", "outcome_source": None, "last_seen_at": first["ts"]}
            rows.append(row)
            names.setdefault((first["namespace"], first["object_name"]), []).append(row)
        row["uid"] = uid if isinstance(first["object_uid"], str) else row.get("uid")
        _tell(row, group)
    return pd.DataFrame(rows)


def _by_name(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    names: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for r in sorted(rows, key=lambda r: r["created_at"]):
        names.setdefault((r["namespace"], r["job_name"]), []).append(r)
    return names


def _attempt_of_event(same_name: Sequence[dict[str, Any]], group: pd.DataFrame) -> dict[str, Any] | None:
    """Return the attempt that a uid's events are about: made when its first pod was, else alive at its first event."""
    free = [r for r in same_name if not isinstance(r.get("uid"), str)]
    made = group.loc[group["reason"] == _CREATED, "ts"]
    if len(made):
        near = [r for r in free if abs(r["created_at"] - made.iloc[0]) <= _SAME_CREATION]
        return min(near, key=lambda r: abs(r["created_at"] - made.iloc[0]), default=None)
    at = group["ts"].iloc[0]
    alive = [r for r in free if r["created_at"] <= at + _ONE_SECOND]
    return alive[-1] if alive else None


def _tell(row: dict[str, Any], group: pd.DataFrame) -> None:
    """Let a uid's events say how its attempt ended, and when to the second."""
    ends = group[group["reason"] != _CREATED]
    if ends.empty or row.get("outcome_source") == "condition":
        return
    end = ends.iloc[-1]
    failed = end["reason"] in FAILED_REASONS
    if not failed and row["outcome"] == "succeeded" and row.get("end_uncertainty_s") == 0:
        return  # the job's own completion time is the end; its event is written up to a second later
    row |= {"outcome": "failed" if failed else "succeeded", "outcome_source": "event", "ended_at": end["ts"]}
    row |= {"end_uncertainty_s": 0.0, "reason": end["reason"] if failed else None}


def by_lines(attempts: pd.DataFrame, lines: pd.DataFrame, phrases: Sequence[Phrase]) -> pd.DataFrame:
    """Settle by lines that say of a job that it failed what no sample, event or condition told.

    A line's instant is the earliest by which the failure is known, so it also narrows an end that only a scrape gave.
    """
    said = _failure_lines(lines, phrases)
    if said.empty:
        return attempts
    rows: list[dict[str, Any]] = schemas.rows_of(attempts)
    names: dict[str, list[dict[str, Any]]] = {}
    for r in sorted(rows, key=lambda r: r["created_at"]):
        names.setdefault(r["job_name"], []).append(r)
    first_shown = lines.dropna(subset=["job"]).groupby("job")["ts"].apply(list).to_dict() if len(lines) else {}
    for at, job, namespace in said.itertuples(index=False):
        row = alive_at(names.get(job, []), at)
        if row is None or (row["outcome"] == "succeeded" and at > row["ended_at"] + _LATE_LINE):
            after = row["ended_at"] if row is not None else None
            row = _from_line(job, namespace, at, after, first_shown.get(job, [at]))
            rows.append(row)
            names[job] = sorted([*names.get(job, []), row], key=lambda r: r["created_at"])
        else:
            _settle(row, at)
    return pd.DataFrame(rows)


def _failure_lines(lines: pd.DataFrame, phrases: Sequence[Phrase]) -> pd.DataFrame:
    """Return (ts, job, namespace) of every line that says that the job it names failed, in time order."""
    if lines.empty:
        return pd.DataFrame(columns=["ts", "job", "namespace"])
    found = []
    for p in (p for p in phrases if p.id in {"retry", "job_failed"}):
        pattern = re.compile(p.pattern)
        for ts, line, msg, err, namespace in lines[["ts", "line", "msg", "err", "namespace"]].itertuples(index=False):
            for text in (line, msg, err):
                hit = pattern.search(text) if isinstance(text, str) else None
                if hit:
                    found.append((ts, hit["job"], namespace))
                    break
    told = pd.DataFrame(found, columns=["ts", "job", "namespace"])
    return told.drop_duplicates().sort_values(["ts", "job"]).reset_index(drop=True)


def alive_at(same_name: Sequence[dict[str, Any]], at: pd.Timestamp) -> dict[str, Any] | None:
    """Return the attempt that a line at `at` is about.

    Creation times are cut to the second and a line that announces the retry is about the attempt before it, so an
    attempt's lines begin a second after its creation unless it is the first of its name.
    """
    born = [r for r in same_name if r["created_at"] + _ONE_SECOND <= at]
    if born:
        return born[-1]
    return same_name[0] if same_name and same_name[0]["created_at"] <= at else None


def _settle(row: dict[str, Any], at: pd.Timestamp) -> None:
    known = row["outcome"] in {"succeeded", "failed"}
    if known and not (row["outcome"] == "failed" and row["outcome_source"] == "sample" and at < row["ended_at"]):
        return
    seen = row.get("last_seen_at") if not known else None
    start = row.get("started_at")
    alive = next((t for t in (seen, start) if isinstance(t, pd.Timestamp) and t <= at), row["created_at"])
    if known:
        alive = max(alive, row["ended_at"] - pd.Timedelta(seconds=row["end_uncertainty_s"] or 0.0))
        alive = min(alive, at)
    row |= {"outcome": "failed", "ended_at": at, "end_uncertainty_s": (at - alive).total_seconds()}
    row["outcome_source"] = row["outcome_source"] if known else "line"


def _from_line(
    job: str, namespace: Any, at: pd.Timestamp, after: pd.Timestamp | None, shown: Sequence[pd.Timestamp]
) -> dict[str, Any]:
    """Make an attempt that only lines know: created when the first line of it shows its job, its start unknown."""
    first = min((t for t in shown if t <= at and (after is None or t > after + _LATE_LINE)), default=at)
    return {
        "namespace": namespace,
        "job_name": job,
        "created_at": first,
        "source": "logs",
        "last_seen_at": at,
        "outcome": "failed",
        "outcome_source": "line",
        "ended_at": at,
        "end_uncertainty_s": (at - first).total_seconds(),
    }
