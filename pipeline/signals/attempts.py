"""Attempts: one life of one Kubernetes job, put together from samples, snapshots, events and lines.

Identity is `(namespace, job_name, creation time)`: a retry deletes the job and makes it again under the same name.
Samples of one scrape carry one timestamp, so every other metric is joined to the creation time that its own scrape showed;
an old attempt's `failed` can then never be read under the new one (facts: "ghosts").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from pipeline import schemas
from pipeline.model import NS, Window
from pipeline.rules import JobKind, Phrase, kind_of
from pipeline.signals import coverage
from pipeline.signals.attempts_settle import by_events, by_lines

KEY = ["namespace", "job_name", "created_at"]
TERMINAL = ("succeeded", "failed")
RUN_LABELS = ("label_codex_k8s_dev_run_id", "codex-k8s.dev/run-id")
ISSUE_LABELS = ("label_codex_k8s_dev_issue_number", "codex-k8s.dev/issue-number")
_USUAL_NS = 60 * NS


@dataclass(frozen=True)
class Evidence:
    """What the sources showed: frames of the lake's tables, and the windows in which jobs were asked for.

    `lines` are rows of `logs` with a column `job` (the one job each is about, or missing).
    """

    samples: pd.DataFrame
    scrapes: pd.DataFrame
    snapshots: pd.DataFrame
    events: pd.DataFrame
    lines: pd.DataFrame
    asked: Sequence[Window] = field(default_factory=tuple)


def reconstruct(evidence: Evidence, kinds: Sequence[JobKind], phrases: Sequence[Phrase]) -> pd.DataFrame:
    """Return every attempt that any source shows, as `attempts`; `run_id` and `issue` only from the job's own labels."""
    found = _merged(
        from_samples(evidence.samples, evidence.scrapes, evidence.asked), from_snapshots(evidence.snapshots)
    )
    found = by_events(found, evidence.events)
    found = by_lines(found, evidence.lines, phrases)
    found = _superseded(found)
    return finish(found, kinds)


def from_samples(samples: pd.DataFrame, scrapes: pd.DataFrame, asked: Sequence[Window]) -> pd.DataFrame:
    """Return one row an attempt that scrapes saw. `outcome` is `running` or `vanished` where no end was sampled."""
    if samples.empty:
        return schemas.empty_frame("attempts")
    at_scrape = ["namespace", "job_name", "ts"]
    created = samples.loc[samples["metric"] == "created", [*at_scrape, "value"]].drop_duplicates(at_scrape)
    created = created.assign(created_at=pd.to_datetime(created.pop("value").round().astype("int64") * NS, utc=True))
    rest = samples[samples["metric"] != "created"].merge(created, on=at_scrape)
    lives = created.groupby(KEY)["ts"].agg(first="min", last="max").reset_index()

    def of(metric: str, column: str, how: str, only: pd.Series | None = None) -> pd.Series:
        rows = rest[(rest["metric"] == metric) & (only if only is not None else True)]
        return rows.groupby(KEY)[column].agg(how)

    on = rest["value"] >= 1
    parts = {
        "started": of("start_time", "value", "max"),
        "completed": of("completion_time", "value", "max"),
        "complete_seen": of("complete", "ts", "min", on),
        "failed_seen": of("failed_condition", "ts", "min", on),
        "reason": of("failed_pods", "reason", "first", on & rest["reason"].notna()),
        "labels": of("labels", "labels", "last"),
    }
    rows = lives.join(pd.DataFrame(parts), on=KEY)
    rows["before_failed"] = _last_before(created, rows)
    return pd.DataFrame([_from_scrapes(r) for r in schemas.rows_of(rows)]).pipe(_gone, scrapes, asked)


def _last_before(created: pd.DataFrame, rows: pd.DataFrame) -> pd.Series:
    """Return the last scrape that showed each attempt before the one that showed it failed."""
    seen = created.merge(rows.loc[rows["failed_seen"].notna(), [*KEY, "failed_seen"]], on=KEY)
    before = seen[seen["ts"] < seen["failed_seen"]].groupby(KEY)["ts"].max().rename("before")
    return rows.join(before, on=KEY)["before"]


def _from_scrapes(r: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {k: r[k] for k in KEY} | {"source": "prometheus", "last_seen_at": r["last"]}
    row["started_at"] = _instant(r["started"])
    row["labels"] = r["labels"] if isinstance(r["labels"], dict) else {}
    if pd.notna(r["completed"]) or pd.notna(r["complete_seen"]):
        exact = pd.notna(r["completed"])
        row |= {"outcome": "succeeded", "outcome_source": "sample", "end_uncertainty_s": 0.0 if exact else None}
        row["ended_at"] = _instant(r["completed"]) if exact else r["complete_seen"]
    elif pd.notna(r["failed_seen"]):
        alive = r["before_failed"] if pd.notna(r["before_failed"]) else row["started_at"] or r["created_at"]
        unsure = max(0.0, (r["failed_seen"] - alive).total_seconds())
        row |= {"outcome": "failed", "outcome_source": "sample", "ended_at": r["failed_seen"]}
        row |= {"end_uncertainty_s": unsure, "reason": r["reason"] if isinstance(r["reason"], str) else None}
    else:
        row |= {"outcome": "running", "outcome_source": None}
    return row


def _instant(seconds: float) -> pd.Timestamp | None:
    return pd.Timestamp(round(seconds) * NS, tz="UTC") if pd.notna(seconds) else None


def _gone(rows: pd.DataFrame, scrapes: pd.DataFrame, asked: Sequence[Window]) -> pd.DataFrame:
    """Tell `vanished` (a later scrape of the same asked window no longer shows it) from `running`."""
    up = (
        coverage.instants(scrapes[scrapes["up"].fillna(value=False).astype(bool)])
        if len(scrapes)
        else np.array([], int)
    )
    late = (coverage.usual_interval(up) or _USUAL_NS) * 3 // 2

    def gone(last: pd.Timestamp) -> bool:
        end = next((w.end for w in asked if last.value in w), last.value)
        following = up[np.searchsorted(up, last.value + late, "right") :]
        return bool(len(following) and following[0] < end)

    open_ended = rows["outcome"] == "running"
    rows.loc[open_ended, "outcome"] = [
        "vanished" if gone(t) else "running" for t in rows.loc[open_ended, "last_seen_at"]
    ]
    return rows


def from_snapshots(snapshots: pd.DataFrame) -> pd.DataFrame:
    """Return one row an attempt that `kubectl get jobs` showed; ends are the Job's conditions, to the second."""
    if snapshots.empty:
        return schemas.empty_frame("attempts")
    taken = sorted(snapshots["snapshot_at"].dropna().unique())
    rows = []
    for (namespace, name, created), group in snapshots.sort_values("snapshot_at").groupby(KEY, dropna=False):
        last = group.iloc[-1]
        row: dict[str, Any] = {"namespace": namespace, "job_name": name, "created_at": created, "source": "kubectl"}
        row |= {"uid": last["uid"], "started_at": last["started_at"], "last_seen_at": last["snapshot_at"]}
        row |= {"labels": last["labels"] or {}, "outcome": "running", "outcome_source": None}
        for outcome, column in (("succeeded", "completed_at"), ("failed", "failed_at")):
            if pd.notna(last[column]):
                row |= {"outcome": outcome, "outcome_source": "condition", "ended_at": last[column]}
                row |= {"end_uncertainty_s": 0.0, "reason": last["reason"]}
        if row["outcome"] == "running" and taken[-1] > last["snapshot_at"]:
            row["outcome"] = "vanished"
        rows.append(row)
    return pd.DataFrame(rows)


def _merged(scraped: pd.DataFrame, listed: pd.DataFrame) -> pd.DataFrame:
    """Join what scrapes and snapshots say about the same attempts; conditions are exact, so they win."""
    both = [f for f in (listed, scraped) if len(f)]
    if not both:
        return pd.DataFrame(columns=[*schemas.TABLES["attempts"].columns, "labels"])
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for r in (r for f in both for r in schemas.rows_of(f)):
        known = rows.setdefault(tuple(r[k] for k in KEY), r)
        if known is not r:
            rows[tuple(r[k] for k in KEY)] = better(known, r)
    return pd.DataFrame(list(rows.values()))


_RANK = {"condition": 5, "event": 5, "pod": 4, "line": 2, "sample": 3}


def better(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    """Join two descriptions of one attempt: an end beats none, the more exact end beats the other; blanks are filled."""
    first, second = (a, b) if _weight(a) >= _weight(b) else (b, a)
    filled = {k: v for k, v in second.items() if _blank(first.get(k)) and (k not in _END or not _ended(first))}
    seen = [x["last_seen_at"] for x in (a, b) if not _blank(x.get("last_seen_at"))]
    return {**first, **filled, "last_seen_at": max(seen, default=None)}


_END = ("ended_at", "end_uncertainty_s", "outcome_source", "reason", "duration_s")


def _ended(row: dict[str, Any]) -> bool:
    return row.get("outcome") in TERMINAL


def _weight(row: dict[str, Any]) -> tuple[bool, int, int]:
    source = row.get("outcome_source")
    rank = _RANK.get(source, 0) if isinstance(source, str) else 0
    return _ended(row), rank, {"superseded": 2, "vanished": 1}.get(row.get("outcome") or "", 0)


def _blank(value: Any) -> bool:
    return value is None or (not isinstance(value, dict | list) and bool(pd.isna(value)))


def _superseded(rows: pd.DataFrame) -> pd.DataFrame:
    """Say of attempts without an end that a later one of the same name replaced them."""
    if rows.empty:
        return rows
    rows = rows.sort_values(["namespace", "job_name", "created_at"]).reset_index(drop=True)
    replaced = rows["created_at"].groupby([rows["namespace"], rows["job_name"]]).shift(-1).notna()
    rows.loc[replaced & rows["outcome"].isin(["running", "vanished"]), "outcome"] = "superseded"
    return rows


def finish(rows: pd.DataFrame, kinds: Sequence[JobKind]) -> pd.DataFrame:
    """Fill what the names and the job's own labels say, number the attempts of each name, and give `attempts`' shape."""
    if rows.empty:
        return schemas.empty_frame("attempts")
    rows = rows.sort_values(["namespace", "job_name", "created_at"]).reset_index(drop=True)
    named = {n: kind_of(n, kinds) for n in rows["job_name"].unique()}
    rows["kind"] = [k[0].kind if (k := named[n]) else None for n in rows["job_name"]]
    rows["image"] = [k[1].get("image") if (k := named[n]) else None for n in rows["job_name"]]
    rows["attempt"] = rows.groupby(["namespace", "job_name"]).cumcount() + 1
    labels = rows["labels"] if "labels" in rows else pd.Series([{}] * len(rows))
    rows["run_id"] = [_label(own, RUN_LABELS) for own in labels]
    rows["issue"] = [_number(_label(own, ISSUE_LABELS)) for own in labels]
    rows["linked_by"] = ["label" if r else None for r in rows["run_id"]]
    ended = rows["outcome"].isin(TERMINAL)
    start, end = (pd.to_datetime(rows[c], utc=True) if c in rows else pd.NaT for c in ("started_at", "ended_at"))
    rows["duration_s"] = (end - start).dt.total_seconds().where(ended)  # type: ignore[operator]
    for column in schemas.TABLES["attempts"].columns:
        if column not in rows:
            rows[column] = None
    return schemas.tidy("attempts", rows)


def _label(labels: Any, names: Sequence[str]) -> str | None:
    return next((labels[n] for n in names if labels.get(n)), None) if isinstance(labels, dict) else None


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


def upsert(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Join what the lake has with what was put together now, by key: an end is never lost, nor is a link.

    Where both have an end, the new one stands unless the old is more exact; attempts of a name are numbered again.
    """
    if old.empty or new.empty:
        return schemas.tidy("attempts", new if old.empty else old)
    rows = {tuple(r[k] for k in KEY): r for r in schemas.rows_of(old)}
    for r in schemas.rows_of(new):
        key = tuple(r[k] for k in KEY)
        was = rows.get(key)
        rows[key] = r if was is None or _weight(r) == _weight(was) else better(was, r)
        if was is not None and _blank(rows[key]["run_id"]):
            rows[key] |= {c: was[c] for c in ("run_id", "issue", "linked_by")}
    joined = pd.DataFrame(list(rows.values())).sort_values(["namespace", "job_name", "created_at"])
    joined["attempt"] = joined.groupby(["namespace", "job_name"]).cumcount() + 1
    return schemas.tidy("attempts", _superseded(joined))
