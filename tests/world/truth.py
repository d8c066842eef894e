"""What really happened, as tables of the contract's shape, counted in the plainest way from the world's own values.

Nothing here asks the pipeline's stages: only its schemas, for the columns. Columns that say how something is known
(`source`, `outcome_source`, `linked_by`, ids) are empty; beside the contract's columns stand those that tell what can
be known at all: which attempts a scrape, an event or a line shows, and what leads to their runs.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pipeline import schemas
from pipeline.model import NS, Window
from tests.world import metrics, replay
from tests.world.options import CONTROL_PLANE, NAMESPACE, WORKER
from tests.world.platform import BUILD_REF, CACHE_CAUSES, GOLDEN, Attempt, run_token
from tests.world.replay import Held

if TYPE_CHECKING:
    from tests.world.lines import Line
    from tests.world.world import World

WINDOWS = {"15m": 900 * NS, "1h": 3600 * NS}
_COLUMNS = {
    "manifest_unknown_lines": "manifest-unknown",
    "cache_retrieval_lines": "cache-retrieval",
    "build_ref_lines": "build-ref",
}
_BREAKS = {"cache": "build", "build-ref": "codegen-check"}


def instant(at: int | None) -> Any:
    """Return ns as the lake has it."""
    return pd.NaT if at is None else pd.Timestamp(at, tz="UTC")


def failure_class(attempt: Attempt) -> str:
    """Return what an attempt's failure is of."""
    return "cache" if attempt.cause in CACHE_CAUSES else "build-ref" if attempt.cause == BUILD_REF else "other"


class Truth:
    """Tables of a world, made when they are asked for."""

    def __init__(self, world: World, quiet_s: float = 1800, tolerance_s: float = 300) -> None:
        self._world = world
        self._quiet, self._tolerance = round(quiet_s * NS), round(tolerance_s * NS)

    @cached_property
    def attempts(self) -> pd.DataFrame:
        """Every attempt: `attempts`, and `cause`, `deleted_at`, `scrapes`, `end_scraped`, `told_by_line`, `links`.

        `scrapes` counts those that showed it, `end_scraped`: one showed its end; every start and end has its event.
        `told_by_line`: a line says that it failed; `links` are the ways by which its run can be known for certain.
        """
        of_name: Counter[str] = Counter()
        rows, more = [], []
        scrapes = metrics.scraped(self._world.options)
        for a in self._world.platform.attempts:
            of_name[a.job_name] += 1
            seen = metrics.during(scrapes, a.made_at, a.gone_at)
            rows.append(_attempt_row(a, of_name[a.job_name]))
            more.append(
                {"uid": a.uid, "cause": a.cause, "deleted_at": instant(a.gone_at), "scrapes": len(seen)}
                | {"end_scraped": a.stopped_at is not None and len(metrics.during(seen, a.stopped_at, None)) > 0}
                | {"told_by_line": any(_says_failed(x, a) for x in self._about.get(a.uid, ()))}
                | {"links": self._links(a)}
            )
        known: pd.DataFrame = schemas.tidy("attempts", _frame("attempts", rows))
        return known.merge(pd.DataFrame(more), on="uid")

    def of_day(self, date: dt.date) -> pd.DataFrame:
        """Return the attempts of the golden kinds that touch a day; what ends later is `running` there."""
        day, every = Window.of_day(date), self.attempts
        ended = every["ended_at"].fillna(instant(self._world.window.end))
        inside: pd.DataFrame = every[(every["created_at"] < instant(day.end)) & (ended >= instant(day.start))]
        inside = inside[inside["kind"].isin(GOLDEN)].reset_index(drop=True)
        later = inside["ended_at"].isna() | (inside["ended_at"] >= instant(day.end))
        inside.loc[later, "outcome"] = "running"
        inside.loc[later, "ended_at"] = pd.NaT
        inside.loc[later, ["duration_s", "reason"]] = None
        return inside

    @cached_property
    def failures(self) -> pd.DataFrame:
        """Every failure of the golden kinds, and each run that failed with no job of it; lines are those with a signature."""
        rows = []
        for r in schemas.rows_of(self.attempts):
            if r["outcome"] == "failed" and r["kind"] in GOLDEN:
                signed = [x for x in self._about.get(r["uid"], ()) if x.signatures]
                same = ("run_id", "issue", "namespace", "job_name", "kind", "attempt")
                rows.append(
                    {c: r[c] for c in same}
                    | {"failed_at": r["ended_at"], "class": failure_class(self._by_uid[r["uid"]])}
                    | {"signatures": sorted({s for x in signed for s in x.signatures}), "lines": len(signed) or None}
                    | {"first_line_at": instant(signed[0].at if signed else None)}
                    | {"last_line_at": instant(signed[-1].at if signed else None)}
                    | {"recovered_at": self._recovered(r)}
                )
        rows += [self._failed_run(x) for x in self._world.lines if _fails_without_job(x)]
        return schemas.tidy("failures", _frame("failures", rows))

    @cached_property
    def incidents(self) -> pd.DataFrame:
        """Failures of one class that follow each other, until the kind of job that breaks succeeds."""
        rows = []
        for name, kind in _BREAKS.items():
            done = sorted(
                a.ended_at
                for a in self._world.platform.attempts
                if a.kind == kind and a.outcome == "succeeded" and a.ended_at
            )
            of_class = [r for r in schemas.rows_of(self.failures) if r["class"] == name]
            for members in _groups(of_class, self._quiet):
                first, last = members[0]["failed_at"].value, members[-1]["failed_at"].value
                ended = next((d for d in done if d > last), None)
                rows.append(
                    {"started_at": instant(first), "class": name, "failures": len(members), "ended_at": instant(ended)}
                    | {"first_success_at": instant(next((d for d in done if d > first), None))}
                    | {"mttr_s": None if ended is None else (ended - first) / NS}
                    | {"signatures": sorted({s for m in members for s in m["signatures"]})}
                    | {"runs": sorted({m["run_id"] for m in members if isinstance(m["run_id"], str)})}
                    | {"issues": sorted({int(m["issue"]) for m in members if pd.notna(m["issue"])})}
                    | self._detected(name, first, ended, {m["run_id"] for m in members})
                )
        return schemas.tidy("incidents", _frame("incidents", rows))

    @cached_property
    def alerts(self) -> pd.DataFrame:
        """What fired."""
        rows = [
            {"alert": f.alert, "severity": f.severity, "started_at": instant(f.start), "ended_at": instant(f.end)}
            | {"labels": {"namespace": NAMESPACE, "severity": f.severity}, "source": "prometheus"}
            for f in self._world.firings
        ]
        return schemas.tidy("alerts", _frame("alerts", rows))

    @cached_property
    def alert_audit(self) -> pd.DataFrame:
        """What should have fired over the whole world, held against what did."""
        actual = [Held(f.alert, f.start, f.end) for f in self._world.firings]
        rows = replay.audit(self.expected(), actual, self._tolerance)
        instants = ("expected_start", "expected_end", "actual_start", "actual_end")
        rows = [r | {c: instant(r[c]) for c in instants} for r in rows]
        return schemas.tidy("alert_audit", _frame("alert_audit", rows))

    def expected(self) -> list[Held]:
        """Return when each alert's condition held."""
        ended = [a for a in self._world.platform.attempts if a.ended_at is not None]
        failed = [a for a in ended if a.outcome == "failed"]
        lines = [x for x in self._world.lines if x.signatures]
        unknown = [x.at for x in lines if x.app == CONTROL_PLANE and "manifest-unknown" in x.signatures]
        refs = [x.at for x in lines if "build-ref" in x.signatures and x.job and "codegen-check" in x.job]
        spans = [
            (r["started_at"].value, None if pd.isna(r["ended_at"]) else r["ended_at"].value)
            for r in schemas.rows_of(self.incidents)
        ]
        return [
            *replay.counted(replay.BURST, _ends(failed, "build", "mirror"), replay.QUARTER, 3),
            *replay.counted(replay.PERSISTENT, unknown, replay.QUARTER, 2),
            *replay.counted(replay.REF_INVALID, refs, replay.QUARTER, 2),
            *replay.rated(_ends(ended, "build"), _ends(failed, "build")),
            *replay.slow_recoveries(spans),
        ]

    @cached_property
    def golden(self) -> pd.DataFrame:
        """The golden signals of every full day. Counts are true even where `complete` says that nobody can know them."""
        rows = []
        for day in self._world.options.full_days:
            attempts = [a for a in self._world.platform.attempts if a.kind in GOLDEN and _touches(a, day)]
            lines = [x for x in self._world.lines if x.signatures and x.at in day]
            for name, step in WINDOWS.items():
                for w in (Window(t, t + step) for t in range(day.start, day.end, step)):
                    rows += [{"window": name, **self._counts(w, k, attempts, lines)} for k in ("all", *GOLDEN)]
        return schemas.tidy("golden", _frame("golden", rows))

    @cached_property
    def issue_of_run(self) -> dict[str, int]:
        """The issue of each run that has one."""
        return {r.run_id: r.issue for r in self._world.platform.runs if r.issue}

    @cached_property
    def scrape_holes(self) -> list[Window]:
        """Distances between scrapes of more than 2.5 intervals."""
        at, limit = metrics.scraped(self._world.options), 2500 * self._world.options.scrape_s
        return [Window(a * 10**6, b * 10**6) for a, b in itertools.pairwise(at) if b - a > limit]

    @cached_property
    def _by_uid(self) -> dict[str, Attempt]:
        return {a.uid: a for a in self._world.platform.attempts}

    @cached_property
    def _about(self) -> dict[str, list[Line]]:
        out: dict[str, list[Line]] = {}
        for line in self._world.lines:
            if line.uid:
                out.setdefault(line.uid, []).append(line)
        return out

    @cached_property
    def _tokens(self) -> Counter[str]:
        return Counter(run_token(r.run_id) for r in self._world.platform.runs)

    def _links(self, a: Attempt) -> tuple[str, ...]:
        if a.run is None:
            return ()
        named = [x for x in self._about.get(a.uid, ()) if f'"run_id":"{a.run.run_id}"' in x.text]
        ways = {
            "field": any('"job_name":"' in x.text for x in named),
            "label": a.kind == "run" and self._world.options.job_labels,
            "job_token": a.kind not in {"mirror", "run"} and self._tokens[run_token(a.run.run_id)] == 1,
            "text": bool(named),
        }
        return tuple(way for way, there in ways.items() if there)

    def _recovered(self, failed: dict[str, Any]) -> Any:
        done = [a for a in self._world.platform.attempts if a.outcome == "succeeded"]
        same_job = [a for a in done if a.job_name == failed["job_name"]]
        same_run = [a for a in done if a.run and a.run.run_id == failed["run_id"] and a.kind == failed["kind"]]
        for of in (same_job, same_run):
            later = [a.ended_at for a in of if a.ended_at is not None and a.ended_at > failed["ended_at"].value]
            if later:
                return instant(min(later))
        return pd.NaT

    def _failed_run(self, line: Line) -> dict[str, Any]:
        run = next(r for r in self._world.platform.runs if r.run_id in line.text)
        row: dict[str, Any] = {"failed_at": instant(line.at), "run_id": run.run_id, "issue": run.issue, "kind": "run"}
        return row | {"class": "other", "signatures": [], "first_line_at": instant(line.at)}

    def _detected(self, name: str, start: int, end: int | None, runs: set[str]) -> dict[str, Any]:
        """Return the first alert about a class, or the first comment of a person that names one of the runs."""
        until = self._world.window.end if end is None else end
        told = [(f.start, 0, f.alert) for f in self._world.firings if f.alert in replay.ABOUT[name]]
        wrote = [c for c in self._world.comments() if c["user"]["type"] == "User"]
        named = [c["created_at"] for c in wrote if any(r in c["body"] for r in runs)]
        told += [(pd.Timestamp(at).value, 1, "issue") for at in named]
        first = min((t for t in told if start - self._tolerance <= t[0] <= until), default=None)
        if first is None:
            return {"detected_by": None, "detection_delay_s": None}
        return {"detected_by": first[2], "detection_delay_s": max(0.0, (first[0] - start) / NS)}

    def _counts(self, window: Window, kind: str, attempts: Sequence[Attempt], lines: Sequence[Line]) -> dict[str, Any]:
        attempts = [a for a in attempts if kind in {"all", a.kind}]
        ended = [a for a in attempts if a.ended_at is not None and a.ended_at in window]
        failed = sum(a.outcome == "failed" for a in ended)
        took = [(a.ended_at - a.started_at) / NS for a in ended if a.outcome == "succeeded" and a.ended_at is not None]
        lines = [x for x in lines if x.at in window and (kind == "all" or self._kind_of(x) == kind)]
        row: dict[str, Any] = {"window_start": instant(window.start), "kind": kind, "finished": len(ended)}
        row |= {"started": sum(a.started_at in window for a in attempts), "failed": failed}
        row |= {"failure_ratio": failed / len(ended) if ended else None}
        row |= {column: sum(s in x.signatures for x in lines) for column, s in _COLUMNS.items()}
        row |= {f"duration_p{p}_s": float(np.percentile(took, p)) if took else None for p in (50, 95)}
        row |= {"duration_max_s": max(took, default=None)}
        row["backlog_max"] = _most([(a.created_at, a.ended_at) for a in attempts], window)
        row["pending_max"] = _most([(a.created_at, a.started_at) for a in attempts], window)
        row["complete"] = not any(h.intersect(window) for h in self.scrape_holes)
        return row

    def _kind_of(self, line: Line) -> str | None:
        return self._by_uid[line.uid].kind if line.uid else None


def _attempt_row(a: Attempt, number: int) -> dict[str, Any]:
    took = (a.ended_at - a.started_at) / NS if a.ended_at is not None else None
    return {
        "created_at": instant(a.created_at), "namespace": NAMESPACE, "job_name": a.job_name, "kind": a.kind,
        "image": a.image, "attempt": number, "run_id": a.run.run_id if a.run else None,
        "issue": a.run.issue if a.run else None, "started_at": instant(a.started_at), "ended_at": instant(a.ended_at),
        "end_uncertainty_s": 0.0 if took is not None else None, "duration_s": took, "outcome": a.outcome,
        "reason": a.reason, "uid": a.uid,
    }  # fmt: skip


def _touches(a: Attempt, day: Window) -> bool:
    return a.created_at < day.end and (a.ended_at is None or a.ended_at >= day.start)


def _says_failed(line: Line, a: Attempt) -> bool:
    return f"{a.job_name} failed due stale" in line.text or f"job {a.job_name}: job failed" in line.text


def _fails_without_job(line: Line) -> bool:
    return line.app == WORKER and "run failed before agent start" in line.text and line.job is None


def _groups(rows: Sequence[dict[str, Any]], quiet: int) -> list[list[dict[str, Any]]]:
    out: list[list[dict[str, Any]]] = []
    for r in sorted(rows, key=lambda r: r["failed_at"]):
        if out and r["failed_at"].value - out[-1][-1]["failed_at"].value <= quiet:
            out[-1].append(r)
        else:
            out.append([r])
    return out


def _ends(attempts: Sequence[Attempt], *kinds: str) -> list[int]:
    return [a.ended_at for a in attempts if a.kind in kinds and a.ended_at is not None]


def _most(lives: Sequence[tuple[int, int | None]], window: Window) -> int:
    """Return the most lives `[start, end)` that overlap at one instant of a window."""
    inside = [(a, b) for a, b in lives if a < window.end and (b is None or b > window.start)]
    looks = [window.start, *(a for a, _ in inside if a in window)]
    return max(sum(a <= t and (b is None or t < b) for a, b in inside) for t in looks)


def _frame(name: str, rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    columns = schemas.TABLES[name].columns
    return pd.DataFrame([{c: r.get(c) for c in columns} for r in rows], columns=columns)
