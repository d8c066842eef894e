"""Jobs whose whole lives are known, and what scrapes, snapshots, events and log lines show of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline import catalog, schemas
from pipeline.model import NS, Window
from pipeline.signals.attempts import Evidence, reconstruct
from tests.tables import at, line, lines, table

RULES = catalog.load()
NAMESPACE = "codex-k8s-prod"
JOB = "codex-k8s-kaniko-web-console-3f2a9c1e-7b4"
RETRY = "kaniko job {} failed due stale kaniko cache, retrying without cache"
FAILED = "wait kaniko job {}: job failed; logs: error building image"


@dataclass(frozen=True)
class Life:
    """One life of a job: instants as times of the day; `gone` when it was deleted, `outcome` how it ended if it did."""

    created: str | pd.Timestamp
    ended: str | pd.Timestamp | None = None
    outcome: str = "succeeded"
    gone: str | pd.Timestamp | None = None
    job: str = JOB
    reason: str = "BackoffLimitExceeded"
    uid: str = ""
    labels: tuple[tuple[str, str], ...] = ()

    @property
    def start(self) -> pd.Timestamp:
        """When it was created."""
        return _at(self.created)

    @property
    def end(self) -> pd.Timestamp | None:
        """When it ended."""
        return _at(self.ended) if self.ended is not None else None

    @property
    def until(self) -> pd.Timestamp:
        """When nothing showed it any more; ten minutes after its end unless said otherwise."""
        if self.gone is not None:
            return _at(self.gone)
        return self.end + pd.Timedelta(seconds=600) if self.end is not None else at("24:00", 7)


def _at(when: str | pd.Timestamp) -> pd.Timestamp:
    return at(when) if isinstance(when, str) else when


def every(seconds: int, start: str | pd.Timestamp, end: str | pd.Timestamp) -> list[pd.Timestamp]:
    """Return the instants of scrapes of a half-open interval."""
    return list(pd.date_range(_at(start), _at(end), freq=f"{seconds}s", inclusive="left", unit="ns"))


def samples(lives: Iterable[Life], scraped: Sequence[pd.Timestamp]) -> pd.DataFrame:
    """Return the samples that kube-state-metrics gives of such jobs."""
    rows: list[dict[str, Any]] = []
    for life in lives:
        for t in (t for t in scraped if life.start <= t < life.until):
            over = life.end is not None and life.end <= t
            failed = over and life.outcome == "failed"
            shown: list[tuple[str, float, str | None]] = [("created", _s(life.start), None)]
            shown += [("start_time", _s(life.start), None), ("labels", 1, None)]
            shown += [("completion_time", _s(life.end), None), ("complete", 1, None)] if over and not failed else []
            shown += [("failed_condition", 1, None), ("failed_pods", 1, life.reason)] if failed else []
            shown += [] if failed else [("failed_pods", 0, None)]
            rows += [
                {"ts": t, "metric": m, "namespace": NAMESPACE, "job_name": life.job, "reason": r, "value": float(v)}
                | {"labels": dict(life.labels) if m == "labels" else {}}
                for m, v, r in shown
            ]
    return table("job_samples", *rows)


def _s(when: pd.Timestamp | None) -> int:
    return when.value // NS if when is not None else 0


def scrapes(scraped: Iterable[pd.Timestamp]) -> pd.DataFrame:
    """Return `scrapes` of these instants, all up."""
    return table("scrapes", *({"ts": t, "up": True} for t in scraped))


def snapshots(lives: Iterable[Life], *taken: str) -> pd.DataFrame:
    """Return what `kubectl get jobs` shows of such jobs at these times."""
    rows = []
    for when in map(at, taken):
        for life in (x for x in lives if x.start <= when < x.until):
            over = life.end is not None and life.end <= when
            failed = over and life.outcome == "failed"
            row = {"snapshot_at": when, "namespace": NAMESPACE, "job_name": life.job, "uid": life.uid or life.job}
            row |= {"created_at": life.start, "started_at": life.start, "labels": dict(life.labels)}
            row |= {"failed_at": life.end, "reason": life.reason} if failed else {}
            rows.append(row | ({"completed_at": life.end} if over and not failed else {}))
    return table("job_snapshots", *rows)


def event(
    when: str | pd.Timestamp, reason: str, job: str = JOB, uid: str | None = None, kind: str = "Job"
) -> dict[str, Any]:
    """Return one event about a job."""
    row = {"ts": _at(when), "reason": reason, "object_kind": kind, "object_name": job, "object_uid": uid}
    return row | {
        "namespace": NAMESPACE,
        "type": "Normal",
        "message": reason,
        "count": 1,
        "uid": f"{when}{reason}{job}",
    }


def events(lives: Iterable[Life]) -> pd.DataFrame:
    """Return what the Job controller tells of such jobs."""
    rows = []
    for i, life in enumerate(lives):
        uid = life.uid or f"uid-{i}"
        rows.append(event(life.start, "SuccessfulCreate", life.job, uid))
        if life.end is not None:
            rows.append(event(life.end, life.reason if life.outcome == "failed" else "Completed", life.job, uid))
    return table("events", *rows)


def pod_ends(*when: str, job: str = JOB) -> pd.DataFrame:
    """Return the completions of a job's pods."""
    rows = [
        {"completed_at": at(t), "namespace": NAMESPACE, "pod": f"{job}-{i:05d}", "job_name": job}
        for i, t in enumerate(when)
    ]
    return table("pod_ends", *rows)


def said(when: str | pd.Timestamp, text: str, job: str = JOB) -> dict[str, Any]:
    """Return a line of the control-plane that says this of a job."""
    return line(when, line=text.format(job), job=job, kind="build")


def put_together(
    sampled: pd.DataFrame | None = None,
    scraped: Sequence[pd.Timestamp] = (),
    listed: pd.DataFrame | None = None,
    told: pd.DataFrame | None = None,
    logged: pd.DataFrame | None = None,
    ended: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Return the attempts that this evidence shows; jobs were asked for from the first scrape to the last."""
    asked = (Window(min(scraped).value, max(scraped).value + 1),) if scraped else ()
    evidence = Evidence(
        schemas.empty("job_samples") if sampled is None else schemas.from_frame("job_samples", sampled),
        scrapes(scraped),
        schemas.empty_frame("job_snapshots") if listed is None else listed,
        schemas.empty_frame("events") if told is None else told,
        lines() if logged is None else logged,
        asked,
        schemas.empty_frame("pod_ends") if ended is None else ended,
    )
    return reconstruct(evidence, RULES.job_kinds, RULES.phrases)


HOUR = every(30, "09:00:10", "10:00")


def scraped(*lives: Life, when: Sequence[pd.Timestamp] = HOUR, **more: Any) -> pd.DataFrame:
    """Return the attempts that scrapes of the hour from 9 show, with whatever else is known."""
    return put_together(samples(lives, when), when, **more)


def rows(found: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as dicts."""
    return schemas.rows_of(found)


def one(found: pd.DataFrame) -> dict[str, Any]:
    """Return the only row of a table."""
    (row,) = rows(found)
    return row


def outcomes(found: pd.DataFrame) -> list[str]:
    """Return how the attempts ended, in the table's order."""
    return found["outcome"].tolist()


def interval(
    start: str | pd.Timestamp, end: str | pd.Timestamp | None, name: str = "AI_SLOT_BUILD_FAILURE_BURST", **labels: str
) -> dict[str, Any]:
    """Return a row of `alerts`."""
    times = [None if t is None else _at(t) for t in (start, end)]
    row = {"alert": name, "severity": "page", "labels": labels, "source": "prometheus"}
    return row | {"started_at": times[0], "ended_at": times[1]}
