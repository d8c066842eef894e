"""Failures: failed attempts of the build pipeline's kinds, and runs that failed with no failed attempt seen.

Definitions: contract, Failures. Lines are not failures: one failure is logged by the pod, the control-plane and the worker.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

import pandas as pd

from pipeline import schemas
from pipeline.model import Window
from pipeline.rules import OTHER, Phrase, Signature

_SHOWN = 300
_BAD = ("WARN", "ERROR", "FATAL")


def failures(
    attempts: pd.DataFrame,
    lines: pd.DataFrame,
    day: Window,
    signatures: Sequence[Signature],
    phrases: Sequence[Phrase],
    kinds: Sequence[str],
) -> pd.DataFrame:
    """Return `failures` that happened in `day`.

    `attempts` are indexed as `lines["attempt_index"]` says which attempt a line is about; `lines` also have `job`. They
    must reach as far beyond the day as successes are looked for.
    """
    classes = {s.id: s.failure_class for s in signatures}
    failed = attempts[(attempts["outcome"] == "failed") & attempts["kind"].isin(kinds)]
    failed = failed[_within(failed["ended_at"], day)]
    about: dict[Any, pd.DataFrame] = dict(iter(lines.dropna(subset=["attempt_index"]).groupby("attempt_index")))
    none = lines.iloc[:0]
    rows = []
    for i, a in failed.iterrows():
        told = _telling(about.get(i, none))
        rows.append(
            {c: a[c] for c in ("run_id", "issue", "namespace", "job_name", "kind", "attempt", "linked_by")}
            | _from_lines(told, classes)
            | {
                "failure_id": _id(a["namespace"], a["job_name"], a["created_at"].value),
                "failed_at": a["ended_at"],
                "recovered_at": _recovered(a, attempts),
            }
        )
    rows += _runs(attempts, lines, day, classes, phrases)
    return schemas.tidy("failures", pd.DataFrame(rows)) if rows else schemas.empty_frame("failures")


def _telling(lines: pd.DataFrame) -> pd.DataFrame:
    """Return the lines that tell about a failure: those with a signature, else those of a bad level, in time order."""
    with_signature = lines[[bool(len(s)) for s in lines["signatures"]]] if len(lines) else lines
    chosen = with_signature if len(with_signature) else lines[lines["level"].isin(_BAD)]
    return chosen.sort_values("ts", kind="stable")


def _from_lines(told: pd.DataFrame, classes: dict[str, str]) -> dict[str, Any]:
    ids = sorted({s for found in told["signatures"] for s in found})
    first = next((s for found in told["signatures"] for s in found), None)
    return {
        "signatures": ids,
        "class": classes.get(first, OTHER) if first else OTHER,
        "first_line_at": told["ts"].min() if len(told) else pd.NaT,
        "last_line_at": told["ts"].max() if len(told) else pd.NaT,
        "lines": len(told),
        "example": _example(told),
    }


def _example(told: pd.DataFrame) -> str | None:
    """Return the line that a reader would quote first: its error text if it has one, cut to 300 characters."""
    for column in ("err", "line"):
        texts = [t for t in told[column] if isinstance(t, str) and t.strip()]
        if texts:
            text = texts[0].strip()
            return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
    return None


def _recovered(failed: pd.Series, attempts: pd.DataFrame) -> pd.Timestamp | None:
    """Return the end of the first later success of the same job name, else of the same run and kind."""
    later = attempts[(attempts["outcome"] == "succeeded") & (attempts["ended_at"] > failed["ended_at"])]
    same = later[(later["job_name"] == failed["job_name"]) & (later["namespace"] == failed["namespace"])]
    if same.empty and isinstance(failed["run_id"], str):
        same = later[(later["run_id"] == failed["run_id"]) & (later["kind"] == failed["kind"])]
    return same["ended_at"].min() if len(same) else None


def _runs(
    attempts: pd.DataFrame, lines: pd.DataFrame, day: Window, classes: dict[str, str], phrases: Sequence[Phrase]
) -> list[dict[str, Any]]:
    """Return a row for each run that a line says failed before its agent started and that has no failed attempt."""
    patterns = [re.compile(p.pattern) for p in phrases if p.id == "run_failed"]
    if lines.empty or not patterns:
        return []
    said = lines[lines["run_id"].notna() & _within(lines["ts"], day)]
    said = said[[any(p.search(t) for p in patterns) for t in said["line"].astype(str)]]
    has_failed = set(attempts.loc[attempts["outcome"].isin(["failed", "superseded"]), "run_id"].dropna())
    rows = []
    for run, group in said.groupby("run_id"):
        if run in has_failed:
            continue
        told = _telling(lines[lines["run_id"] == run])
        first = group.sort_values("ts").iloc[0]
        blank = dict.fromkeys(["job_name", "attempt", "recovered_at"])
        rows.append(
            blank
            | _from_lines(told, classes)
            | {"failure_id": _id("run", str(run)), "failed_at": first["ts"], "run_id": run, "kind": "run"}
            | {"namespace": first["namespace"], "issue": first["issue"], "linked_by": "field"}
        )
    return rows


def _within(instants: pd.Series, day: Window) -> pd.Series:
    at = pd.to_datetime(instants, utc=True)
    return (at >= pd.Timestamp(day.start, tz="UTC")) & (at < pd.Timestamp(day.end, tz="UTC"))


def _id(*parts: object) -> str:
    return "f-" + hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:10]
