"""Attempts: one life of one Kubernetes job, put together from samples, snapshots, events and lines.

Identity is `(namespace, job_name, creation time)`: a retry deletes the job and makes it again under the same name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import pyarrow as pa

from pipeline import schemas
from pipeline.model import Window
from pipeline.rules import JobKind, Phrase, kind_of
from pipeline.signals.attempts_settle import (
    LATE_LINE,
    ONE_SECOND,
    by_events,
    by_lines,
    by_pods,
    last_known,
)
from pipeline.signals.scraped import from_samples

KEY = ["namespace", "job_name", "created_at"]
TERMINAL = ("succeeded", "failed")
_NUMBER = re.compile(r"[0-9]{1,18}")  # of an issue, as wide as the column
RUN_LABELS = ("label_codex_k8s_dev_run_id", "codex-k8s.dev/run-id")
ISSUE_LABELS = ("label_codex_k8s_dev_issue_number", "codex-k8s.dev/issue-number")
_APPROXIMATE = ("events", "logs")  # sources that do not tell when a job was created


@dataclass(frozen=True)
class Evidence:
    """What the sources showed: frames of the lake's tables, and the windows in which jobs were asked for.

    `samples` alone are as Arrow has them, as there are millions. `lines` are rows of `logs` with a column `job` (the one
    job each is about, or missing).
    """

    samples: pa.Table
    scrapes: pd.DataFrame
    snapshots: pd.DataFrame
    events: pd.DataFrame
    lines: pd.DataFrame
    asked: Sequence[Window] = field(default_factory=tuple)
    pods: pd.DataFrame = field(default_factory=lambda: schemas.empty_frame("pod_ends"))


def reconstruct(evidence: Evidence, kinds: Sequence[JobKind], phrases: Sequence[Phrase]) -> pd.DataFrame:
    """Return every attempt that any source shows, as `attempts`; `run_id` and `issue` only from the job's own labels."""
    found = _merged(
        from_samples(evidence.samples, evidence.scrapes, evidence.asked), from_snapshots(evidence.snapshots)
    )
    found = by_pods(found, evidence.pods)
    found = by_events(found, evidence.events)
    found = by_lines(found, evidence.lines, phrases)
    return finish(found, kinds)


def from_snapshots(snapshots: pd.DataFrame) -> pd.DataFrame:
    """Return one row an attempt that `kubectl get jobs` showed; ends are the Job's conditions, to the second."""
    if snapshots.empty:
        return schemas.empty_frame("attempts")
    newest = snapshots.groupby("namespace")["snapshot_at"].max()  # a snapshot may be of one namespace alone
    rows = []
    in_order = snapshots.sort_values(["snapshot_at", "uid"], kind="stable")
    for (namespace, name, created), group in in_order.groupby(KEY, dropna=False):
        last = group.iloc[-1]
        row: dict[str, Any] = {"namespace": namespace, "job_name": name, "created_at": created, "source": "kubectl"}
        row |= {"uid": last["uid"], "started_at": last["started_at"], "last_seen_at": last["snapshot_at"]}
        row |= {"labels": last["labels"] or {}, "outcome": "running", "outcome_source": None}
        for outcome, column in (("failed", "failed_at"), ("succeeded", "completed_at")):
            if pd.notna(last[column]):
                row |= {"outcome": outcome, "outcome_source": "condition", "ended_at": last[column]}
                row |= {"end_uncertainty_s": 0.0, "reason": last["reason"] if outcome == "failed" else None}
        if row["outcome"] == "running" and newest[str(namespace)] > last["snapshot_at"]:
            row["outcome"] = "vanished"
        rows.append(row)
    return pd.DataFrame(rows)


def _merged(scraped: pd.DataFrame, listed: pd.DataFrame) -> pd.DataFrame:
    """Join what scrapes and snapshots say about the same attempts; conditions are exact, so they win."""
    if listed.empty or scraped.empty:
        return scraped if listed.empty else listed
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for r in (r for f in (listed, scraped) for r in schemas.rows_of(f)):
        known = rows.get(_key(r))
        rows[_key(r)] = better(known, r) if known else r
    return pd.DataFrame(list(rows.values()))


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[k] for k in KEY)


_RANK = {"condition": 5, "event": 5, "pod": 4, "sample": 3, "line": 2}
_END = ("ended_at", "end_uncertainty_s", "outcome_source", "reason", "duration_s")
_LINK = ("run_id", "issue", "linked_by")


def better(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    """Join two descriptions of one attempt: an end beats none, the more exact end the other, else `a`; blanks are filled.

    Nothing contradicts a success that the job itself showed.
    """
    first, second = (a, b) if _weight(a) >= _weight(b) else (b, a)
    kept = (*_LINK, *(_END if _ended(first) else ()))
    filled = {k: v for k, v in second.items() if k not in kept and _blank(first.get(k))}
    seen = [x["last_seen_at"] for x in (a, b) if not _blank(x.get("last_seen_at"))]
    link = next((x for x in (a, b) if not _blank(x.get("run_id"))), a)
    return {**first, **filled, **{k: link.get(k) for k in _LINK}, "last_seen_at": max(seen, default=None)}


def _ended(row: dict[str, Any]) -> bool:
    return row.get("outcome") in TERMINAL


def _weight(row: dict[str, Any]) -> tuple[bool, bool, int, int]:
    source, outcome = row.get("outcome_source"), row.get("outcome") or ""
    rank = _RANK.get(source, 0) if isinstance(source, str) else 0
    shown = outcome == "succeeded" and source in {"condition", "sample"}
    if outcome == "failed" and source in {"sample", "line"}:
        return True, shown, rank, -row["ended_at"].value  # the earliest by which it is known to have failed
    return _ended(row), shown, rank, {"superseded": 2, "vanished": 1}.get(outcome, 0)


def _blank(value: Any) -> bool:
    return value is None or (not isinstance(value, dict | list) and bool(pd.isna(value)))


def finish(rows: pd.DataFrame, kinds: Sequence[JobKind]) -> pd.DataFrame:
    """Fill what the names and the job's own labels say, number the attempts of each name, and give `attempts`' shape."""
    if rows.empty:
        return schemas.empty_frame("attempts")
    names = schemas.plain(rows["job_name"])
    named = {n: kind_of(n, kinds) for n in set(names)}
    missing = [c for c in (*schemas.TABLES["attempts"].columns, "labels") if c not in rows]
    rows = rows.assign(**dict.fromkeys(missing))
    rows["kind"] = [k[0].kind if (k := named[n]) else None for n in names]
    rows["image"] = [k[1].get("image") if (k := named[n]) else None for n in names]
    rows["run_id"] = [_label(own, RUN_LABELS) for own in rows["labels"]]
    rows["issue"] = [_number(_label(own, ISSUE_LABELS)) for own in rows["labels"]]
    rows["linked_by"] = ["label" if r else None for r in rows["run_id"]]
    return _in_order(rows)


def _in_order(rows: pd.DataFrame) -> pd.DataFrame:
    """Sort by name, number the attempts of each, say which a later one replaced before they ended, and how long each took."""
    rows = rows.sort_values(["namespace", "job_name", "created_at"], ignore_index=True)
    same_name = rows.groupby(["namespace", "job_name"])
    rows["attempt"] = same_name.cumcount() + 1
    replaced = same_name["created_at"].shift(-1).notna() & rows["outcome"].isin(["running", "vanished"])
    rows["outcome"] = rows["outcome"].mask(replaced, "superseded")
    start, end = (pd.to_datetime(rows[c], utc=True) for c in ("started_at", "ended_at"))
    took = (end - start).dt.total_seconds()
    rows["duration_s"] = took.where(took >= 0)  # an end before the start is no duration
    return schemas.tidy("attempts", rows)


def _label(labels: Any, names: Sequence[str]) -> str | None:
    return next((labels[n] for n in names if labels.get(n)), None) if isinstance(labels, dict) else None


def _number(text: str | None) -> int | None:
    return int(text) if text and _NUMBER.fullmatch(text) else None


def upsert(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Join what the lake has with what was put together now, by key: an end is never lost, nor is a link.

    Where both have an end, the new one stands unless the old is more exact. A link by the name's token is the exception:
    the new one knows every run that the old knew, so without a link the name fits two by now. An attempt that only
    events or lines had shown goes where its life turns out to be one whose creation is known better.
    """
    rows = {_key(r): r for r in schemas.rows_of(old)}
    fresh: dict[tuple[str, str], list[dict[str, Any]]] = {}
    found = {_key(r): r for r in schemas.rows_of(new)}
    for key, r in found.items():
        fresh.setdefault(key[:2], []).append(r)
        was = rows.get(key)
        if was and was["linked_by"] == "job_token":
            was = was | dict.fromkeys(_LINK)
        rows[key] = better(r, was) if was else r
    known_better = [
        key
        for key, r in rows.items()
        if key not in found and r["source"] in _APPROXIMATE and any(_one_life(r, n) for n in fresh.get(key[:2], ()))
    ]
    for key in known_better:
        del rows[key]
    joined = pd.DataFrame(list(rows.values())) if rows else schemas.empty_frame("attempts")
    return _in_order(joined) if len(joined) else joined


def _one_life(guess: dict[str, Any], known: dict[str, Any]) -> bool:
    """Tell whether an attempt whose creation is only guessed is one that is known: the same uid, else lives that overlap.

    Attempts of one name follow each other. Creation times are cut to the second, lines come up to a minute late.
    """
    uids = guess["uid"], known["uid"]
    if all(isinstance(u, str) for u in uids):
        return bool(uids[0] == uids[1])
    begun_before = known["created_at"] + ONE_SECOND <= last_known(guess)
    return bool(begun_before and guess["created_at"] <= last_known(known) + LATE_LINE)
