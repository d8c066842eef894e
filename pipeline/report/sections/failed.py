"""Section 6: what failed, by signature and then attempt by attempt."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline.model import NS, merge
from pipeline.report.data import ReportData, coverage_of, records
from pipeline.report.rich import Rich, Span, advice, code, joined, link, say
from pipeline.report.sections.common import doc, holes, issues, least
from pipeline.report.text import clock, count, duration, instant, number, visible, when
from pipeline.report.words import Words

SHOWN, LISTED = 20, 500  # failed attempts that stand open, and that are on the page at all
_RUN = 8  # characters of a run id that tell runs of a day apart


@dataclass(frozen=True)
class Group:
    """Failures of one class and the same signatures."""

    failure_class: str
    signatures: tuple[str, ...]
    rows: Sequence[Mapping[str, Any]]

    @property
    def runs(self) -> int:
        """How many runs are known to be hit."""
        return len({r["run_id"] for r in self.rows if r["run_id"]})

    @property
    def unlinked(self) -> int:
        """How many of its failures belong to a run that is not known."""
        return sum(1 for r in self.rows if not r["run_id"])

    @property
    def issues(self) -> list[int]:
        """The issues they hit."""
        return sorted({int(r["issue"]) for r in self.rows if r["issue"] is not None})


def groups(data: ReportData) -> list[Group]:
    """Return what failed by class and signatures, the largest first."""
    found: dict[tuple[str, tuple[str, ...]], list[Mapping[str, Any]]] = {}
    for r in records(data.failures):
        found.setdefault((r["class"], tuple(r["signatures"])), []).append(r)
    made = [Group(*key, rows) for key, rows in found.items()]
    return sorted(made, key=lambda g: (-len(g.rows), g.failure_class, g.signatures))


def last_before(data: ReportData, failure_class: str, signatures: Sequence[str]) -> int | None:
    """Return how many days ago a failure of that class had one of these signatures, None where none is known."""
    if data.earlier is None or not signatures:
        return None
    same = [
        instant(t)
        for c, s, t in zip(data.earlier["class"], data.earlier["signatures"], data.earlier["failed_at"], strict=True)
        if c == failure_class and not set(s).isdisjoint(signatures)
    ]
    latest = max((t for t in same if t is not None and t < data.window.start), default=None)
    return None if latest is None else (data.date - dt.date.fromisoformat(str(pd.Timestamp(latest).date()))).days


def days_known(data: ReportData) -> int:
    """Return for how many days in a row before this one the lake knows what failed."""
    if data.earlier is None:
        return 0
    return next((i for i, h in enumerate(data.history) if not h["totals"]), len(data.history))


def novelty(data: ReportData, failure_class: str, signatures: Sequence[str]) -> str:
    """Say whether signatures are new or returning, as far back as the lake knows; nothing where it does not."""
    back = last_before(data, failure_class, signatures)
    if back is not None:
        return data.words("returning").format(days=data.words.counted(back, "day"))
    known = days_known(data)
    if not signatures or not known:
        return ""
    return (
        data.words("new")
        if known == len(data.history)
        else data.words("new_since").format(days=data.words.counted(known, "day"))
    )


def section(data: ReportData) -> dict[str, Any]:
    """Return the section: `note`, `nothing` (a sentence where nothing failed), `kinds`, `attempts`."""
    rows = attempts(data)
    return {
        "note": _note(data),
        "nothing": None if rows else _nothing(data),
        "kinds": [_kind(data, g) for g in groups(data)],
        "attempts": rows[:SHOWN],
        "rest": rows[SHOWN:LISTED],
        "title": say(data.words("attempts"), shown=min(SHOWN, len(rows)), n=count(len(rows))),
        "rest_title": say(data.words("attempts_rest"), n=count(len(rows) - SHOWN)),
        "cut": _cut(data, len(rows) - LISTED),
        "printed": data.words("attempts_printed"),
    }


def _note(data: ReportData) -> str:
    found = groups(data)
    named = [g for g in found if g.signatures]
    rows = [r for g in found for r in g.rows]
    runs = {r["run_id"] for r in rows if r["run_id"]}
    return (
        data.words.what_failed(len(named), len(runs) or None, unsure=any(not r["run_id"] for r in rows)) if rows else ""
    )


def _nothing(data: ReportData) -> Rich:
    t, jobs = data.totals["all"], coverage_of(data, "jobs")
    if t["complete"]:
        return say(
            data.words("nothing") if t["finished"] else data.words("nothing_finished"), finished=count(t["finished"])
        )
    if not jobs.configured:
        return say(
            "{seen}{why}",
            seen="" if not t["finished"] else _seen(data.words, t) + " ",
            why=Span(data.words("none_seen_off"), "strong"),
        )
    gap = data.words("none_seen_gap").format(span=holes(data.words, merge(jobs.gaps), data.window))
    return say("{seen} {gap}", seen=_seen(data.words, t), gap=Span(gap, "strong"))


def _seen(words: Words, totals: Mapping[str, Any]) -> str:
    return words("none_seen").format(finished=count(totals["finished"]))


def _cut(data: ReportData, n: int) -> Rich | None:
    if n <= 0:
        return None
    return say(data.words("attempts_cut"), n=count(n), table=code("failures"), date=str(data.date))


def _kind(data: ReportData, g: Group) -> dict[str, Any]:
    by_id = {s.id: s for s in data.signatures}
    first = next((by_id[s] for s in g.signatures if s in by_id), None)
    at = [r["failed_at"] for r in g.rows]
    return {
        "class": g.failure_class,
        "name": joined([Span(visible(s), "name") for s in g.signatures], ", ")
        or Rich([Span(f"{data.words('no_signature')} ({g.failure_class})")]),
        "state": _state(data, g),
        "attempts": link(count(len(g.rows)) or "", f"#{g.rows[0]['failure_id']}"),
        "runs": _at_least(data.words, g.runs, unsure=bool(g.unlinked)),
        "first": when(min(at, key=_instant), data.window),
        "last": when(max(at, key=_instant), data.window),
        "issues": issues(data.words, g.issues, 6) if g.issues else no_issue(data, g.rows),
        "action": advice(first.advice(data.words.lang)) if first else say(data.words("no_action")),
        "doc": _doc(data, first.runbook) if first else None,
        "example": next((r["example"] for r in g.rows if r["example"]), None),
    }


def _doc(data: ReportData, path: str) -> Span | None:
    """Return the link to a runbook; where documents have no address its file's name, which fits a column."""
    to = doc(data, path, data.words.of("labels")["runbook"])
    return to if to is None or to.kind == "link" else code(path.rpartition("/")[2])


def no_issue(data: ReportData, rows: Sequence[Mapping[str, Any]]) -> Rich | None:
    """Say that no issue is tied to these failures, None where that is not known."""
    known = coverage_of(data, "issues").complete and all(r["run_id"] for r in rows)
    return say(data.words("no_issue")) if known else None


def _state(data: ReportData, g: Group) -> str:
    ends = [instant(r["recovered_at"]) for r in g.rows]
    missing, n = sum(1 for e in ends if e is None), len(ends)
    case = _incident(data, g)
    if case is not None:
        end = instant(case["ended_at"])
        over = end is not None and end <= data.window.end
        state = data.words("resolved").format(at=when(end, data.window)) if over else data.words("ongoing")
        never = data.words("never").format(k=data.words.share(missing, n)) if missing and over else ""
    else:
        state = data.words("resolved").format(at=when(max(e or 0 for e in ends), data.window)) if not missing else ""
        never = data.words("recovered_of").format(k=data.words.share(n - missing, n)) if missing else ""
    return ", ".join(t for t in (novelty(data, g.failure_class, g.signatures), state, never) if t)


def _incident(data: ReportData, g: Group) -> Mapping[str, Any] | None:
    """Return the incident that the last of a group's failures belongs to."""
    last = max(_instant(r["failed_at"]) for r in g.rows)
    of_class = [i for i in records(data.incidents) if i["class"] == g.failure_class]
    for i in of_class:
        end = instant(i["ended_at"])
        if _instant(i["started_at"]) <= last and (end is None or end >= last):
            return i
    return None


def attempts(data: ReportData) -> list[dict[str, Any]]:
    """Return the failed attempts, a row each, in time order."""
    ran = {(a["namespace"], a["job_name"], a["attempt"]): a for a in records(data.attempts)}
    return [
        _attempt(data.words, f, ran.get((f["namespace"], f["job_name"], f["attempt"]), {}))
        for f in records(data.failures)
    ]


def _attempt(words: Words, f: Mapping[str, Any], a: Mapping[str, Any]) -> dict[str, Any]:
    within = a.get("end_uncertainty_s")
    waited = None if f["recovered_at"] is None else (_instant(f["recovered_at"]) - _instant(f["failed_at"])) / NS
    return {
        "id": f["failure_id"],
        "ended": clock(f["failed_at"]),
        "within": None if within is None else number(within),
        "kind": f["kind"],
        "job": f["job_name"],
        "no_job": words("no_attempt"),
        "attempt": count(f["attempt"]),
        "run": (f["run_id"] or "")[:_RUN] or None,
        "issue": None if f["issue"] is None else issues(words, [f["issue"]]),
        "ran": duration(a.get("duration_s")),
        "class": f["class"],
        "recovered": _recovered(words, f, duration(waited)),
        "not_recovered": words("not_recovered"),
    }


def _recovered(words: Words, f: Mapping[str, Any], waited: str | None) -> str | None:
    """Say how long it took until the job succeeded, and at which attempt where it is the same job's."""
    if waited is None or f["recovered_job"] != f["job_name"]:
        return waited
    return words("by_attempt").format(waited=waited, n=count(f["recovered_attempt"]))


def _instant(value: Any) -> int:
    return instant(value) or 0


def _at_least(words: Words, n: int, *, unsure: bool) -> str | None:
    if not n:
        return None
    return least(words, n, whole=not unsure)
