"""What events and log lines tell about attempts that scrapes did not see to their end."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import schemas
from pipeline.model import NS
from pipeline.rules import Phrase
from pipeline.signals.intervals import uncertainty

FAILED_REASONS = (
    "BackoffLimitExceeded",
    "DeadlineExceeded",
    "PodFailurePolicy",
    "FailedIndexes",
    "MaxFailedIndexesExceeded",
)
ONE_SECOND = pd.Timedelta(seconds=1)  # creation times are cut to the second
LATE_LINE = pd.Timedelta(seconds=60)  # a line about an attempt comes at most a minute after its end (contract)
_CREATED, _COMPLETED = "SuccessfulCreate", "Completed"
_AT_ONCE = pd.Timedelta(0)
_SOON = pd.Timedelta(seconds=5)  # the controller makes the pod, and tells the end, within seconds
_POD_TO_JOB = pd.Timedelta(seconds=2)  # the Job ends so long after its pod at most (contract, Attempts)
_LONGEST_TALK = pd.Timedelta(hours=6)  # lines older than this before a failure are about another life of that name

_Row = dict[str, Any]


def last_known(row: Mapping[str, Any]) -> Any:
    """Return until when an attempt is known to have been there: its end, else when it was last seen."""
    known = [t for c in ("ended_at", "last_seen_at", "created_at") if isinstance(t := row.get(c), pd.Timestamp)]
    return known[0]


def by_pods(attempts: pd.DataFrame, pods: pd.DataFrame) -> pd.DataFrame:
    """Date the failures that only a scrape showed by the completion of their last pod.

    A pod is of the job whose uid it names, else of the attempt of its job's name that was there as it ended.
    """
    if attempts.empty or pods.empty:
        return attempts
    rows: list[_Row] = schemas.rows_of(attempts)
    by_uid: dict[Any, list[Any]] = {uid: list(of["completed_at"]) for uid, of in pods.groupby("job_uid")}
    by_name = {key: list(of["completed_at"]) for key, of in pods.groupby(["namespace", "job_name"])}
    for row in rows:
        if row["outcome"] != "failed" or row["outcome_source"] != "sample":
            continue
        seen, alive = row["ended_at"], row["ended_at"] - pd.Timedelta(seconds=row["end_uncertainty_s"])
        own = by_uid.get(row.get("uid")) or by_name.get((row["namespace"], row["job_name"]), [])
        near = [t for t in own if max(row["created_at"], alive - _POD_TO_JOB) <= t <= seen]
        if near:
            row |= {"outcome_source": "pod", "ended_at": max(near), "end_uncertainty_s": _POD_TO_JOB.total_seconds()}
    return pd.DataFrame(rows)


def by_events(attempts: pd.DataFrame, events: pd.DataFrame) -> pd.DataFrame:
    """Settle outcomes by the Job controller's events: exact, by the job's uid; one that only events show gets a row."""
    told = events[(events["object_kind"] == "Job") & events["reason"].isin([*FAILED_REASONS, _CREATED, _COMPLETED])]
    if told.empty:
        return attempts
    rows: list[_Row] = schemas.rows_of(attempts)
    uid_of = {r["uid"]: r for r in rows if isinstance(r.get("uid"), str)}
    names = _by_name(rows, "namespace", "job_name")
    for group in _by_uid(told):
        first = group[0]
        uid = first["object_uid"] if isinstance(first["object_uid"], str) else None
        same_name = names.setdefault((first["namespace"], first["object_name"]), [])
        row = uid_of.get(uid) or _attempt_of_events(same_name, group, uid)
        if row is None:
            row = {"namespace": first["namespace"], "job_name": first["object_name"], "created_at": first["ts"]}
            row |= {"source": "events", "outcome": "running", "outcome_source": None}
            rows.append(row)
            same_name.append(row)
            same_name.sort(key=_creation)
        row["uid"] = uid or row.get("uid")
        _tell(row, group)
    return pd.DataFrame(rows)


def _by_uid(told: pd.DataFrame) -> Iterable[list[_Row]]:
    """Return the events of each job in time order.

    One without a uid (some agents drop it) is of the life that its name has then: from the event that begins it, or the
    first after an end, to the one that tells its end. One that another agent tells with its uid is there once.
    """
    groups: dict[Any, list[_Row]] = {}
    alive: dict[Any, Any] = {}  # by name: the group that an event without a uid belongs to
    for n, e in enumerate(schemas.rows_of(_each_once(told))):
        name, began = (e["namespace"], e["object_name"]), e["reason"] == _CREATED
        key = e["object_uid"] if isinstance(e["object_uid"], str) else alive.get(name)
        if not isinstance(e["object_uid"], str) and (key is None or (began and _began(groups[key]))):
            key = n
        groups.setdefault(key, []).append(e)
        alive[name] = key if began else None
    return groups.values()


def _began(group: Sequence[_Row]) -> bool:
    return any(e["reason"] == _CREATED for e in group)


def _each_once(told: pd.DataFrame) -> pd.DataFrame:
    """Return events in time order, of those that differ in their uids alone one: that with the job's, if any has."""
    same = ["ts", "namespace", "object_name", "reason"]
    in_order = told.sort_values([*same, "object_uid"], kind="stable")
    known = in_order.groupby(same, dropna=False)["object_uid"].transform("count") > 0
    return in_order[in_order["object_uid"].notna() | (~known & ~in_order.duplicated(same))]


def _by_name(rows: Iterable[_Row], *keys: str) -> dict[tuple[Any, ...], list[_Row]]:
    names: dict[tuple[Any, ...], list[_Row]] = {}
    for r in sorted(rows, key=_creation):
        names.setdefault(tuple(r[k] for k in keys), []).append(r)
    return names


def _creation(row: Mapping[str, Any]) -> Any:
    return row["created_at"]


def _attempt_of_events(same_name: Sequence[_Row], group: Sequence[_Row], uid: str | None) -> _Row | None:
    """Return the attempt that a job's events are about: the one that was there as its pod was made, else as it ended.

    Of one name there is one job at a time, so what was seen on both sides of an instant was there at it. One whose uid is
    known is another job than that of events with a uid of their own.
    """
    made = next((e["ts"] for e in group if e["reason"] == _CREATED), None)
    if made is not None:
        there = [r for r in same_name if r["created_at"] <= made + ONE_SECOND and made <= _there_until(r)]
        return there[-1] if there and not _another(there[-1], uid) else None
    before = [r for r in same_name if r["created_at"] < group[0]["ts"]]
    row = before[-1] if before else None
    return row if row and not _another(row, uid) and _may_end(row, group[0]) else None


def _another(row: Mapping[str, Any], uid: str | None) -> bool:
    return uid is not None and isinstance(row.get("uid"), str)


def _there_until(row: Mapping[str, Any]) -> Any:
    """Return until when a pod of an attempt may be made: before its end, else soon after its start or as it was last seen.

    Where a retry is a new job (`backoffLimit: 0`) it has one pod; else it has others, while it is there itself.
    """
    if row["outcome"] in {"succeeded", "failed"}:
        return row["ended_at"]
    started = row.get("started_at")
    return max(started + _SOON, last_known(row)) if isinstance(started, pd.Timestamp) else last_known(row) + _SOON


def _may_end(row: Mapping[str, Any], end: Mapping[str, Any]) -> bool:
    """Tell whether an event may be the end of an attempt, by what else is known of that."""
    if row["outcome"] not in {"succeeded", "failed"}:
        return True
    same = (row["outcome"] == "failed") == (end["reason"] in FAILED_REASONS)
    return same and bool(end["ts"] <= row["ended_at"] + _SOON)


def _tell(row: _Row, group: Sequence[_Row]) -> None:
    """Let a job's events say when its attempt began and how it ended, to the second. A success that it showed stands."""
    made = next((e["ts"] for e in group if e["reason"] == _CREATED), None)
    if made is not None and not isinstance(row.get("started_at"), pd.Timestamp):
        row["started_at"] = (
            made  # the controller sets the job's startTime as it makes the pod: 72 of 72 in a real cluster
        )
    seen = row.get("last_seen_at")
    row["last_seen_at"] = max(seen, group[-1]["ts"]) if isinstance(seen, pd.Timestamp) else group[-1]["ts"]
    ends = [e for e in group if e["reason"] != _CREATED]
    if not ends or row["outcome"] == "succeeded" or row.get("outcome_source") in {"condition", "event"}:
        return
    done = next((e for e in ends if e["reason"] == _COMPLETED), None)
    end = done or ends[0]
    row |= {"outcome": "succeeded" if done else "failed", "outcome_source": "event", "ended_at": end["ts"]}
    # the event of a success is written up to a second after the completion that it tells of
    row |= {"end_uncertainty_s": 1.0 if done else 0.0, "reason": None if done else end["reason"]}


def by_lines(attempts: pd.DataFrame, lines: pd.DataFrame, phrases: Sequence[Phrase]) -> pd.DataFrame:
    """Settle by lines that say of a job that it failed what no sample, event or condition told.

    A line's instant is the earliest by which the failure is known, so it also narrows an end that only a scrape gave.
    A line too late for what is known, or after one that announced the retry, is about an attempt that nothing else shows.
    Of a name that several namespaces have, a line written in one of these is about the one there.
    """
    said = _failure_lines(lines, phrases)
    if said.empty:
        return attempts
    rows: list[_Row] = schemas.rows_of(attempts)
    names = _by_name(rows, "job_name")
    spoken = lines.loc[lines["job"].isin(said["job"]), ["job", "ts"]].groupby("job")["ts"].apply(list).to_dict()
    retried: dict[int, pd.Timestamp] = {}
    for at, job, namespace, phrase in said.itertuples(index=False):
        same_name = names.setdefault((job,), [])
        row = alive_at([r for r in same_name if r["namespace"] == namespace] or same_name, at)
        over = _over_by(row, retried) if row else None
        if row is None or (over is not None and at > over):
            row = _from_line(job, namespace, at, over, spoken.get(job, [at]))
            rows.append(row)
            same_name.append(row)
            same_name.sort(key=_creation)
        else:
            _settle(row, at)
        if phrase == "retry":
            retried.setdefault(id(row), at)
    return pd.DataFrame(rows)


def _over_by(row: _Row, retried: Mapping[int, pd.Timestamp]) -> Any:
    """Return the instant after which no line is about an attempt any more, None while it has no end."""
    ends = [row["ended_at"] + LATE_LINE] if row["outcome"] in {"succeeded", "failed"} else []
    if id(row) in retried:
        ends.append(retried[id(row)] + ONE_SECOND)
    return min(ends, default=None)


def _failure_lines(lines: pd.DataFrame, phrases: Sequence[Phrase]) -> pd.DataFrame:
    """Return (ts, job, namespace, phrase) of every line that says that a job failed, in time order.

    The job is the one that the phrase names, else the one that the line is about.
    """
    found = []
    columns = ["line", "msg", "err"]
    texts = {c: pa.array(schemas.plain(lines[c]), pa.string(), from_pandas=True).dictionary_encode() for c in columns}
    for p in (p for p in phrases if p.id in {"retry", "job_failed"}):
        pattern = re.compile(p.pattern)
        hits = [_found(texts[c], p.pattern) for c in columns]
        some = lines[pc.or_(pc.or_(hits[0], hits[1]), hits[2]).to_numpy(zero_copy_only=False)]
        for r in schemas.rows_of(some[["ts", "job", "namespace", *columns]]):
            hit = next((h for c in columns if isinstance(r[c], str) and (h := pattern.search(r[c]))), None)
            job = (hit.groupdict().get("job") if hit else None) or r["job"]
            if isinstance(job, str):
                found.append((r["ts"], job, r["namespace"], p.id))
    told = pd.DataFrame(found, columns=["ts", "job", "namespace", "phrase"])
    return told.drop_duplicates(["ts", "job", "phrase"]).sort_values(["ts", "job", "phrase"], ignore_index=True)


def _found(texts: pa.DictionaryArray, pattern: str) -> pa.Array:
    """Tell which texts have a pattern; what many lines say is looked at once."""
    return pc.fill_null(pc.match_substring_regex(texts.dictionary, pattern).take(texts.indices), fill_value=False)


def alive_at(same_name: Sequence[_Row], at: pd.Timestamp) -> _Row | None:
    """Return the attempt of which a line at `at` says that it failed.

    Creation times are cut to the second and nothing fails in the second of its creation: a line that announces the retry
    is about the attempt before it. Where lines themselves tell the creation it is exact.
    """
    born = [r for r in same_name if r["created_at"] + (ONE_SECOND if r["source"] != "logs" else _AT_ONCE) <= at]
    return born[-1] if born else None


def uncertain_s(end: pd.Timestamp, alive: pd.Timestamp) -> float:
    """Return how long before `end` (s) an attempt may have ended that was last seen without an end at `alive`."""
    return float(uncertainty(np.array([end.value]), np.array([alive.value]))[0] / NS)


def _settle(row: _Row, at: pd.Timestamp) -> None:
    """Let a line say that an attempt failed: with an end where it had none, with an earlier one than a scrape's.

    A line before the last scrape that showed it without an end is a late one about the attempt before.
    """
    known = row["outcome"] in {"succeeded", "failed"}
    if known and not (row["outcome"] == "failed" and row["outcome_source"] == "sample" and at < row["ended_at"]):
        return
    seen = row["ended_at"] - pd.Timedelta(seconds=row["end_uncertainty_s"]) if known else row.get("last_seen_at")
    if isinstance(seen, pd.Timestamp) and seen > at:
        return
    alive = max(t for t in (seen, row.get("started_at"), row["created_at"]) if isinstance(t, pd.Timestamp) and t <= at)
    row |= {"outcome": "failed", "ended_at": at, "end_uncertainty_s": uncertain_s(at, alive)}
    row["outcome_source"] = row["outcome_source"] if known else "line"


def _from_line(
    job: str, namespace: Any, at: pd.Timestamp, after: pd.Timestamp | None, spoken: Sequence[pd.Timestamp]
) -> _Row:
    """Make an attempt that only lines know: created when the first line of it shows its job, its start unknown.

    Where none shows it before the one that says that it failed, nothing tells how long before that it ended.
    """
    since = at - _LONGEST_TALK
    first = min((t for t in spoken if since <= t <= at and (after is None or t > after)), default=at)
    return {
        "namespace": namespace,
        "job_name": job,
        "created_at": first,
        "source": "logs",
        "last_seen_at": at,
        "outcome": "failed",
        "outcome_source": "line",
        "ended_at": at,
        "end_uncertainty_s": uncertain_s(at, first) if first < at else None,
    }
