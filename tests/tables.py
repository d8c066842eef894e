"""Small lake tables written by hand: one row a call, instants as times of 2026-02-26 UTC, the rest unknown."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from pipeline import schemas
from pipeline.model import DAY_NS, Window

DATE = dt.date(2026, 2, 26)
DAY = Window.of_day(DATE)
KINDS = ("build", "mirror", "codegen-check")
WHOLE: Mapping[str, Sequence[Window]] = {"jobs": (), "logs": (), "alerts": ()}
_JOBS = {
    "build": "codex-k8s-kaniko-web-console-3f2a9c1e-7b4",
    "mirror": "codex-k8s-mirror-node-22-5be0c1d4",
    "codegen-check": "codex-k8s-codegen-check-3f2a9c1e-7b4",
    "run": "codex-k8s-run-3f2a9c1e-7b41-4c1d-9a60-52e1c07d8b14",
}
_LINE_COLUMNS = [
    "ts",
    "namespace",
    "app",
    "level",
    "msg",
    "run_id",
    "job_name",
    "issue",
    "err",
    "signatures",
    "line",
    "format",
]


def ns(clock: str, days: int = 0) -> int:
    """Return `HH:MM[:SS[.fraction]]` of the day, or of one so many days later, in ns; `24:00` is its end."""
    hours, minutes, *rest = clock.split(":")
    seconds = round(float(rest[0]) * 1e9) if rest else 0
    return DAY.start + days * DAY_NS + (int(hours) * 3600 + int(minutes) * 60) * 1_000_000_000 + seconds


def at(clock: str, days: int = 0) -> pd.Timestamp:
    """Return the same instant as pandas has it."""
    return pd.Timestamp(ns(clock, days), tz="UTC")


def span(start: str, end: str) -> Window:
    """Return a window of the day."""
    return Window(ns(start), ns(end))


def table(name: str, *rows: Mapping[str, Any]) -> pd.DataFrame:
    """Return a lake table of these rows; columns that a row leaves out are unknown."""
    if not rows:
        return schemas.empty_frame(name)
    return schemas.tidy(name, _frame(rows, schemas.TABLES[name].columns))


def attempt(
    started: str | pd.Timestamp | None,
    ended: str | pd.Timestamp | None,
    outcome: str = "succeeded",
    kind: str = "build",
    created: str | pd.Timestamp | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Return a row of `attempts`, created as it started unless said otherwise."""
    begun, done = _instant(started), _instant(ended)
    row = {"namespace": "codex-k8s-prod", "job_name": _JOBS[kind], "kind": kind, "attempt": 1, "source": "prometheus"}
    row |= {"created_at": _instant(created) or begun, "started_at": begun, "ended_at": done, "outcome": outcome}
    row |= {"duration_s": (done - begun).total_seconds() if begun and done else None, "last_seen_at": done or begun}
    return row | more


def attempts(*rows: Mapping[str, Any]) -> pd.DataFrame:
    """Return `attempts` of such rows."""
    return table("attempts", *rows)


def line(when: str | pd.Timestamp, *signatures: str, **more: Any) -> dict[str, Any]:
    """Return a row of log lines with what correlation adds: `job`, `kind` and `attempt_index`."""
    row = {"ts": _instant(when), "app": "codex-k8s-control-plane", "level": "ERROR", "namespace": "codex-k8s-prod"}
    return row | {"line": "a line", "signatures": list(signatures)} | more


def lines(*rows: Mapping[str, Any]) -> pd.DataFrame:
    """Return log lines of such rows."""
    logs = _frame(rows, [*schemas.TABLES["logs"].columns, "job", "kind", "attempt_index"])
    frame = (
        schemas.to_frame(schemas.from_frame("logs", logs.sort_values("ts"))) if rows else schemas.empty_frame("logs")
    )
    added = logs.sort_values(["ts", *schemas.TABLES["logs"].order[1:]]).reset_index(drop=True)
    found = frame[_LINE_COLUMNS].assign(job=added["job"].astype("str"), kind=added["kind"].astype("str"))
    return found.assign(attempt_index=added["attempt_index"].astype("Int64"))


def _frame(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """Return rows as a frame; a misspelt column is an error of the test."""
    assert not {k for r in rows for k in r} - set(columns)
    return pd.DataFrame([{c: r.get(c) for c in columns} for r in rows], columns=list(columns))


def _instant(when: str | pd.Timestamp | None) -> pd.Timestamp | None:
    return at(when) if isinstance(when, str) else when
