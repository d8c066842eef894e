"""What became of an issue's incidents: key times with what tells each, and a timeline.

An instant that nothing tells is unknown, and why is said: `none` (its source is whole and has nothing), `gap` (its source
has a hole), `off` (it was not configured), `open` (not over yet), `watched` (over, and not proven for good yet).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline import schemas
from pipeline.cases import Case, Entry, Moment
from pipeline.model import NS, Window
from pipeline.rules import AlertRule
from pipeline.signals.alerts import Expected
from pipeline.signals.shared import incident_of

_ROLLOUT = ("Deployment", "ScalingReplicaSet")  # what Kubernetes says of a rollout, several times of each
_TOGETHER_NS = 300 * NS  # events of one rollout lie no further apart
_FAILED = 2  # the first and the last failure have rows of their own


@dataclass(frozen=True)
class Evidence:
    """The tables that a story is told from, of its window and a little around it.

    `lines` have signatures, `job` and `app`. `known` tells of each kind of source "" (whole), `gap` or `off`.
    """

    window: Window
    incidents: pd.DataFrame
    failures: pd.DataFrame
    attempts: pd.DataFrame
    lines: pd.DataFrame
    alerts: pd.DataFrame
    alert_audit: pd.DataFrame
    issue_runs: pd.DataFrame
    events: pd.DataFrame
    expected: Sequence[Expected]
    known: Mapping[str, str]
    issue: int
    tolerance_s: float


def cases(e: Evidence) -> list[Case]:
    """Return the incidents in time order, each with its key times."""
    whose = incident_of(e.failures, e.incidents)
    rows = schemas.rows_of(e.incidents.sort_values(["started_at", "incident_id"]))
    return [_case(e, row, e.failures[whose == row["incident_id"]].sort_values("failed_at")) for row in rows]


def _case(e: Evidence, row: Mapping[str, Any], failed: pd.DataFrame) -> Case:
    failures = schemas.rows_of(failed)
    first = _first_error(e, row, failures)
    times = {
        "first_error": first,
        "threshold_crossed": _threshold(e, row),
        "alert_firing": _alert(e, row),
        "first_mention": _mention(e, row),
        "mitigation": _mitigation(e, row),
        "last_error": _last_error(e, row, failures),
        "first_success": _success(row),
        "stable_since": _stable(row),
    }
    return Case(row, failures, times, _page(e, row), _detected(times))


def _first_error(e: Evidence, row: Mapping[str, Any], failures: Sequence[Mapping[str, Any]]) -> Moment:
    told = [f for f in failures if _ns(f["first_line_at"]) is not None]
    if told:
        at = min(_sure(f["first_line_at"]) for f in told)
        return Moment(at, "line", _app_at(e, row, at), str(told[0]["failure_id"]))
    first = failures[0] if failures else {}
    return Moment(_ns(row["started_at"]), "attempt", str(first.get("job_name") or ""), str(first.get("failure_id", "")))


def _last_error(e: Evidence, row: Mapping[str, Any], failures: Sequence[Mapping[str, Any]]) -> Moment:
    told = [f for f in failures if _ns(f["last_line_at"]) is not None]
    lines = max((_sure(f["last_line_at"]) for f in told), default=-1)
    last = failures[-1] if failures else {}
    ended = _ns(last.get("failed_at"))
    if lines >= 0 and (ended is None or lines >= ended):
        return Moment(lines, "line", _app_at(e, row, lines))
    return Moment(ended, "attempt", str(last.get("job_name") or ""), str(last.get("failure_id", "")))


def _app_at(e: Evidence, row: Mapping[str, Any], at: int) -> str:
    """Return which app wrote a line of the incident's signatures at an instant."""
    there = e.lines[e.lines["ts"] == pd.Timestamp(at, tz="UTC")]
    mine = [str(a) for a, s in zip(there["app"], there["signatures"], strict=True) if set(s) & set(row["signatures"])]
    return mine[0] if mine else ""


def _about(e: Evidence, row: Mapping[str, Any]) -> list[AlertRule]:
    return [x.rule for x in e.expected if row["class"] in x.rule.classes]


def _span(e: Evidence, row: Mapping[str, Any]) -> tuple[int, int]:
    """Return from when to when something belongs to an incident: from a little before it until its end."""
    end = _ns(row["ended_at"])
    return _sure(row["started_at"]) - round(e.tolerance_s * NS), e.window.end if end is None else end


def _threshold(e: Evidence, row: Mapping[str, Any]) -> Moment:
    found = [(at, rule.name) for at, rule in _reached(e, row) if rule.measure != "recovery"]
    if found:
        at, name = min(found)
        return Moment(at, "replay", name)
    return Moment(None, e.known.get("jobs") or e.known.get("logs") or "none")


def _reached(e: Evidence, row: Mapping[str, Any]) -> list[tuple[int, AlertRule]]:
    """Return when the thresholds about an incident's class were reached while it lasted."""
    start, end = _span(e, row)
    mine = [x for x in e.expected if row["class"] in x.rule.classes]
    return [(at, x.rule) for x in mine for at, _ in x.intervals if start <= at <= end]


def _alert(e: Evidence, row: Mapping[str, Any]) -> Moment:
    found = [(_sure(a["started_at"]), str(a["alert"])) for a in _fired(e, row)]
    if found:
        at, name = min(found)
        return Moment(at, "alert", name)
    return Moment(None, e.known.get("alerts") or "none")


def _fired(e: Evidence, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    start, end = _span(e, row)
    names = {r.name for r in _about(e, row)}
    return [a for a in schemas.rows_of(e.alerts) if a["alert"] in names and start <= _sure(a["started_at"]) <= end]


def _mention(e: Evidence, row: Mapping[str, Any]) -> Moment:
    said = _said(e, row)
    if said:
        return Moment(_sure(said[0]["ts"]), "comment", str(said[0]["comment_url"] or ""))
    return Moment(None, e.known.get("issues") or "none")


def _said(e: Evidence, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the comments by people in the issue that name a run of the incident, from a little before its start on."""
    start, _ = _span(e, row)
    rows = [
        r
        for r in schemas.rows_of(e.issue_runs.sort_values("ts"))
        if r["author_kind"] == "person" and r["issue"] == e.issue and r["run_id"] in row["runs"]
    ]
    by_comment = {r["comment_url"]: r for r in reversed(rows) if _sure(r["ts"]) >= start}
    return sorted(by_comment.values(), key=lambda r: (_sure(r["ts"]), str(r["comment_url"])))


def _rollouts(e: Evidence, row: Mapping[str, Any]) -> list[tuple[int, str]]:
    """Return the rollouts between the start and the end of an incident: when each began and of what."""
    start, end = _sure(row["started_at"]), _span(e, row)[1]
    kind, reason = _ROLLOUT
    rows = e.events[(e.events["object_kind"] == kind) & (e.events["reason"] == reason)].sort_values("ts")
    last: dict[str, int] = {}
    out: list[tuple[int, str]] = []
    for r in schemas.rows_of(rows):
        at, name = _sure(r["ts"]), str(r["object_name"])
        if at - last.get(name, at - 2 * _TOGETHER_NS) > _TOGETHER_NS and start < at <= end:
            out.append((at, name))
        last[name] = at
    return out


def _mitigation(e: Evidence, row: Mapping[str, Any]) -> Moment:
    """Return the last rollout before the recovery: what was changed in it people know."""
    found = _rollouts(e, row)
    if found:
        return Moment(found[-1][0], "rollout", found[-1][1])
    return Moment(None, e.known.get("events") or "none")


def _success(row: Mapping[str, Any]) -> Moment:
    at = _ns(row["ended_at"])
    return Moment(at, "success", str(row["recovered_by"] or "")) if at is not None else Moment(None, "open")


def _stable(row: Mapping[str, Any]) -> Moment:
    if row["state"] == "confirmed":
        return Moment(_ns(row["ended_at"]), "success", str(row["recovered_by"] or ""))
    return Moment(None, "open" if row["state"] == "open" else "watched")


def _page(e: Evidence, row: Mapping[str, Any]) -> str | None:
    """Return `missed` where a page about this class that was due never came, `matched` where all came, `none` if none was."""
    due = [(at, rule.name) for at, rule in _reached(e, row) if rule.severity == "page"]
    if not due:
        return "none"
    audited = _audited(e)
    found = [audited[key] for key in due if key in audited]
    return "missed" if "missed" in found else "matched" if len(found) == len(due) else None


def _audited(e: Evidence) -> dict[tuple[int, str], str]:
    """Return the verdict on each threshold that was reached, as `matched` where a maintenance silenced it."""
    rows = [a for a in schemas.rows_of(e.alert_audit) if _ns(a["expected_start"]) is not None]
    return {
        (_sure(a["expected_start"]), a["alert"]): "matched" if isinstance(a["silenced"], str) else str(a["verdict"])
        for a in rows
    }


def _detected(times: Mapping[str, Moment]) -> Moment:
    """Return what told people first: an alert, or somebody in the issue."""
    known = [m for m in (times["alert_firing"], times["first_mention"]) if m.at is not None]
    return min(known, key=lambda m: m.at or 0) if known else Moment(None, times["alert_firing"].source)


def timeline(e: Evidence, told: Sequence[Case]) -> list[Entry]:
    """Return all that changed, in time order."""
    rows = [entry for case in told for entry in _entries(e, case)]
    return sorted(rows, key=lambda r: (r.at, r.failure_class, r.what, r.of))


def _entries(e: Evidence, case: Case) -> list[Entry]:
    name = str(case.incident["class"])
    out = [*_failed(name, case.failures), *_signatures(e, case)]
    about, audited = {r.name: r for r in _about(e, case.incident)}, _audited(e)
    for at, rule in _reached(e, case.incident):
        what = "threshold_missed" if audited.get((at, rule.name)) == "missed" else "threshold"
        out.append(Entry(at, name, what, _alarm(rule), 1, "replay"))
    out += [
        Entry(_sure(a["started_at"]), name, "fired", _alarm(about[a["alert"]]), 1, "alert")
        for a in _fired(e, case.incident)
    ]
    said = _said(e, case.incident)
    if said:
        out.append(Entry(_sure(said[0]["ts"]), name, "mention", {}, 1, "comment", str(said[0]["comment_url"] or "")))
    if said[1:]:
        out.append(Entry(_sure(said[1]["ts"]), name, "comments", {}, len(said) - 1, "comment"))
    out += [Entry(at, name, "rollout", {"object": of}, 1, "event", of) for at, of in _rollouts(e, case.incident)]
    over = case.times["first_success"]
    if over.at is not None:
        out.append(Entry(over.at, name, "recovered", {"job": over.of}, 1, "attempt", over.of))
    return out


def _alarm(rule: AlertRule) -> dict[str, str]:
    return {"alert": rule.name, "severity": rule.severity}


def _failed(name: str, failures: Sequence[Mapping[str, Any]]) -> list[Entry]:
    if not failures:
        return []
    first, last, between = failures[0], failures[-1], failures[1:-1]
    out = [Entry(_sure(first["failed_at"]), name, "first_failure", _job(first), 1, "attempt", _job(first)["job"])]
    if between:
        runs = {f["run_id"] for f in between if isinstance(f["run_id"], str)}
        about = {"kind": str(between[0]["kind"]), "runs": str(len(runs))}
        out.append(Entry(_sure(between[0]["failed_at"]), name, "failures", about, len(between), "runs"))
    if len(failures) >= _FAILED:
        out.append(Entry(_sure(last["failed_at"]), name, "last_failure", _job(last), 1, "attempt", _job(last)["job"]))
    return out


def _job(f: Mapping[str, Any]) -> dict[str, str]:
    return {"kind": str(f["kind"]), "job": str(f["job_name"]) if isinstance(f["job_name"], str) else ""}


def _signatures(e: Evidence, case: Case) -> list[Entry]:
    """Return the first and the last line of each signature while the incident lasted."""
    start, end = _span(e, case.incident)
    inside = e.lines[(e.lines["ts"] >= _instant(start)) & (e.lines["ts"] <= _instant(end))]
    out = []
    for signature in case.incident["signatures"]:
        mine = inside[[signature in s for s in inside["signatures"]]]
        if mine.empty:
            continue
        ends = (("signature_first", mine.iloc[0]), ("signature_last", mine.iloc[-1]))
        for what, line in ends if len(mine) > 1 else ends[:1]:
            about = {"signature": str(signature), "lines": str(len(mine))}
            app = str(line["app"]) if isinstance(line["app"], str) else ""
            out.append(Entry(line["ts"].value, str(case.incident["class"]), what, about, 1, "line", app))
    return out


def _instant(at: int) -> pd.Timestamp:
    return pd.Timestamp(at, tz="UTC")


def _ns(value: Any) -> int | None:
    return None if value is None or pd.isna(value) else int(value.value)


def _sure(value: Any) -> int:
    return int(value.value)
