"""Failures: failed attempts of the build pipeline's kinds, and runs that failed with no failed attempt seen.

Definitions: contract, Failures. Lines are not failures: one failure is logged by the pod, the control-plane and the worker.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import schemas
from pipeline.model import Window
from pipeline.rules import BUILD_REF, CACHE, OTHER, Phrase, Signature
from pipeline.signals.intervals import nanoseconds

_SHOWN, _LEAD = 300, 100  # characters of an example, and of them before what it is shown for
_BAD = ("WARN", "ERROR", "FATAL")
_WORD = re.compile(r"\b(?:error|fatal|panic|failed)\b", re.IGNORECASE)
_QUOTED = ["ts", "app", "level", "err", "line", "signatures"]
_RECOVERY = ["recovered_at", "recovered_job", "recovered_attempt"]
_NOT_A_JOB = dict.fromkeys(["namespace", "job_name", "attempt", *_RECOVERY])
_Line = Mapping[str, Any]


def failures(
    attempts: pd.DataFrame,
    lines: pd.DataFrame,
    day: Window,
    signatures: Sequence[Signature],
    phrases: Sequence[Phrase],
    kinds: Sequence[str],
    issues: Mapping[str, int] | None = None,
) -> pd.DataFrame:
    """Return `failures` that happened in `day`.

    `lines` are rows of `logs` with `job` and `attempt_index` (which of `attempts`' index a line is about); `issues` are
    the runs' issues. Attempts reach as far beyond the day as successes are looked for, lines as far before it as a
    failed run is first spoken of.
    """
    failed = attempts[(attempts["outcome"] == "failed") & attempts["kind"].isin(kinds)]
    of_day = failed[_within(failed["ended_at"], day)]
    about = _by_attempt(lines[lines["attempt_index"].isin(of_day.index)])
    successes = _Successes(attempts)
    rows = []
    for i, a in zip(of_day.index, schemas.rows_of(of_day), strict=True):
        rows.append(
            {c: a[c] for c in ("run_id", "issue", "namespace", "job_name", "kind", "attempt", "linked_by")}
            | _told(about.get(i, []), signatures)
            | {"failure_id": _id(a["namespace"], a["job_name"], a["created_at"].value)}
            | {"failed_at": a["ended_at"]}
            | successes.after(a)
        )
    rows += _failed_runs(failed, lines, day, signatures, phrases, issues or {})
    return schemas.tidy("failures", pd.DataFrame(rows)) if rows else schemas.empty_frame("failures")


class _Successes:
    """The ends of successful attempts, by job and by run and kind."""

    def __init__(self, attempts: pd.DataFrame) -> None:
        done = attempts[attempts["outcome"] == "succeeded"].sort_values(["ended_at", "namespace", "job_name"])
        self.ended = nanoseconds(done["ended_at"])
        self.told = [schemas.plain(done[c]) for c in ("ended_at", "job_name", "attempt")]
        self.by_job = done.groupby(["namespace", "job_name"]).indices
        self.by_run = done.groupby(["run_id", "kind"]).indices

    def after(self, failed: Mapping[str, Any]) -> dict[str, Any]:
        """Return the first later success of the same job name, else of the same run and kind: its end, job and attempt."""
        same_job = self.by_job.get((failed["namespace"], failed["job_name"]))
        same_run = self.by_run.get((failed["run_id"], failed["kind"]))
        for rows in (r for r in (same_job, same_run) if r is not None):
            first = np.searchsorted(self.ended[rows], failed["ended_at"].value, "right")
            if first < len(rows):
                return dict(zip(_RECOVERY, (column[rows[first]] for column in self.told), strict=True))
        return dict.fromkeys(_RECOVERY)


def _by_attempt(lines: pd.DataFrame) -> dict[Any, list[_Line]]:
    out: dict[Any, list[_Line]] = {}
    for row in schemas.rows_of(lines[["attempt_index", *_QUOTED]]):
        out.setdefault(row["attempt_index"], []).append(row)
    return out


def _told(lines: Sequence[_Line], signatures: Sequence[Signature]) -> dict[str, Any]:
    """Return what lines tell about one failure: its signatures and class, and the lines themselves."""
    classes = {s.id: s.failure_class if s.failure_class in {CACHE, BUILD_REF} else OTHER for s in signatures}
    told = _telling(lines)
    found = [s for of_line in told for s in of_line["signatures"]]
    named = [c for s in found if (c := classes.get(s, OTHER)) != OTHER]
    return {
        "signatures": sorted(set(found)),
        "class": named[0] if named else OTHER,
        "first_line_at": told[0]["ts"] if told else pd.NaT,
        "last_line_at": told[-1]["ts"] if told else pd.NaT,
        "lines": len(told),
        "example": _example(told, [s for s in signatures if s.id in found]),
    }


def _telling(lines: Sequence[_Line]) -> list[_Line]:
    """Return the lines that tell of a failure in time order: with a signature, else of a bad level, else with the word."""
    chosen = [x for x in lines if x["signatures"]] or [x for x in lines if x["level"] in _BAD]
    chosen = chosen or [x for x in lines if _WORD.search(str(x["line"]))]
    return sorted(chosen, key=lambda x: (x["ts"], str(x["line"]), str(x["app"])))


def _example(told: Sequence[_Line], signatures: Sequence[Signature]) -> str | None:
    """Return what a reader would quote: of the first error text, else the first line, the part that says it."""
    patterns = [re.compile(p, re.IGNORECASE | re.ASCII) for s in signatures for p in s.all_of]
    for column in ("err", "line"):
        for text in (x[column] for x in told):
            if isinstance(text, str) and text.strip():
                return _quoted(text, [*patterns, _WORD])
    return None


def _quoted(text: str, patterns: Sequence[re.Pattern[str]]) -> str:
    """Return one line of a text, of at most 300 characters, with the first pattern that is found in it."""
    hit = next((m for p in patterns if (m := p.search(text))), None)
    at = hit.start() if hit else len(text) - len(text.lstrip())
    start = text.rfind("\n", 0, at) + 1
    line = text[start:].partition("\n")[0].rstrip()
    if len(line) <= _SHOWN:
        return line.strip()
    skipped = max(0, min(at - start - _LEAD, len(line) - _SHOWN))
    head, tail = "…" if skipped else "", "…" if len(line) - skipped > _SHOWN else ""
    return head + line[skipped + len(head) : skipped + _SHOWN - len(tail)] + tail


@dataclass(frozen=True)
class _Said:
    """A line that says of a run that it failed before its agent started."""

    run: str
    how: str
    row: Mapping[str, Any]


def _failed_runs(
    failed: pd.DataFrame,
    lines: pd.DataFrame,
    day: Window,
    signatures: Sequence[Signature],
    phrases: Sequence[Phrase],
    issues: Mapping[str, int],
) -> list[dict[str, Any]]:
    """Return a row for each run that a line says failed before its agent started and that has no failed attempt.

    Comments say so too, but not when: the platform rewrites one comment per run.
    """
    said: dict[str, list[_Said]] = {}
    for s in _run_lines(lines, phrases):
        said.setdefault(s.run, []).append(s)
    known, jobs = set(failed["run_id"].dropna()), set(failed["job_name"])
    rows = []
    for run, mentions in said.items():
        first = mentions[0]
        if run in known or any(s.row["job"] in jobs for s in mentions) or first.row["ts"].value not in day:
            continue
        own = lines[(lines["run_id"] == run).to_numpy(bool) | lines.index.isin([s.row["index"] for s in mentions])]
        rows.append(
            _NOT_A_JOB
            | _told(schemas.rows_of(own[_QUOTED]), signatures)
            | {"failure_id": _id("run", run), "failed_at": first.row["ts"], "run_id": run, "kind": "run"}
            | {"issue": issues.get(run, first.row["issue"]), "linked_by": first.how}
        )
    return rows


def _run_lines(lines: pd.DataFrame, phrases: Sequence[Phrase]) -> list[_Said]:
    """Return the lines with the phrase `run_failed` and a run, in time order; the line's own field is the surest."""
    out = []
    for pattern in (re.compile(p.pattern) for p in phrases if p.id == "run_failed"):
        may = pc.match_substring_regex(pa.array(lines["line"], pa.string(), from_pandas=True), pattern.pattern)
        chosen = lines[pc.fill_null(may, fill_value=False).to_numpy(zero_copy_only=False)].reset_index(names="index")
        for row in schemas.rows_of(chosen):
            hit = pattern.search(row["line"])
            if hit is None:
                continue
            if isinstance(row["run_id"], str):
                out.append(_Said(row["run_id"], "field", row))
            elif run := hit.groupdict().get("run"):
                out.append(_Said(run, "text", row))
    return sorted(out, key=lambda s: (s.row["ts"], s.how, s.row["line"]))


def _within(instants: pd.Series, day: Window) -> Any:
    at = nanoseconds(instants, -1)
    return (at >= day.start) & (at < day.end)


def _id(*parts: object) -> str:
    return "f-" + hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:10]
