"""Section 2: what to do, at most three lines, each with what, how and the document that tells more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.report.data import ReportData, coverage_of, records, severity_of
from pipeline.report.figures import budget
from pipeline.report.rich import Rich, Span, advice, code, joined, link, say
from pipeline.report.sections.common import alert, capital, doc, hidden, issues, source_name, titles
from pipeline.report.sections.failed import Group, days_known, groups, last_before, no_issue
from pipeline.report.text import instant, minute, number, percent, when

MOST = 3
# what is still broken, what hides the verdict, what would have told nobody; then what may come back, and policy
_OPEN, _HOLE, _MISSED, _NOVEL, _GONE, _BUDGET, _OVER, _OTHER, _TICKET = range(9)


@dataclass(frozen=True)
class Todo:
    """One line: the lowest rank comes first, of one rank what hit most."""

    rank: int
    what: Rich
    how: Rich
    doc: Span | None = None
    hit: int = 0


def todo(data: ReportData) -> list[dict[str, Any]]:
    """Return what to do, the most urgent first."""
    made = [*_incidents(data), *_holes(data), *_missed(data), *_gone(data), *_budget(data), *_others(data)]
    first = sorted(made, key=lambda t: (t.rank, -t.hit))[:MOST]
    return [{"what": t.what, "how": t.how, "doc": t.doc} for t in first]


def _incidents(data: ReportData) -> Iterator[Todo]:
    by_id = {s.id: s for s in data.signatures}
    too_long = {r.get("incident_id") for r in data.reasons if r["rule"] == "incident-too-long"}
    for i in records(data.incidents):
        first = next((by_id[s] for s in i["signatures"] if s in by_id), None)
        action = advice(first.advice(data.words.lang)) if first else say("")
        facts: dict[str, object] = {
            "what": capital(titles(data, i["signatures"], i["class"])),
            "start": _minute(data, i["started_at"]),
        }
        facts |= {"failures": data.words.counted(i["failures"], "failed attempt"), "span": _span(data, i)}
        facts["hit"] = data.words.hit(i["failures"], len(i["runs"]))
        facts["issue"] = (
            say(data.words("todo_issues"), issues=issues(data.words, i["issues"]))
            if i["issues"]
            else _no_issue(data, i)
        )
        to = doc(data, first.runbook) if first else None
        end = instant(i["ended_at"])
        if end is None or end > data.window.end:
            yield Todo(_OPEN, say(data.words("todo_open"), **facts), action, to, int(i["failures"]))
            continue
        back = last_before(data, i["class"], i["signatures"])
        template, rank = data.words("todo_plain"), _OVER
        if back is not None:
            template, rank = data.words("todo_back"), _NOVEL
            facts["days"] = data.words.counted(back, "day")
        elif days_known(data) == len(data.history) > 0:
            template = data.words("todo_new")
            rank = _OVER if i["issues"] else _NOVEL
        rank = _NOVEL if i["incident_id"] in too_long else rank
        how = say(data.words("todo_recovered"), action=action, at=when(end, data.window))
        yield Todo(rank, say(template, **facts), how, to, int(i["failures"]))


def _no_issue(data: ReportData, i: Mapping[str, Any]) -> Rich:
    known = coverage_of(data, "issues").complete and i["runs"]
    return say(data.words("todo_no_issue")) if known else say("")


def _span(data: ReportData, i: Mapping[str, Any]) -> str:
    """Return from its first to its last failure."""
    start, end = instant(i["started_at"]) or 0, instant(i["ended_at"]) or data.window.end
    mine = [
        at
        for c, t in zip(data.failures["class"], data.failures["failed_at"], strict=True)
        if c == i["class"] and (at := instant(t)) is not None and start <= at < end
    ]
    first, last = _minute(data, start), _minute(data, max(mine, default=start))
    return first if first == last else f"{first}–{last}"


def _minute(data: ReportData, at: Any) -> str:
    return minute(at, data.window) or ""


def _holes(data: ReportData) -> Iterator[Todo]:
    """Return what hides the verdict; sources with the same holes are one line."""
    for r in data.reasons:
        if r["rule"] == "no-source":
            keys = joined([code(k) for k in ("loki.url", "prometheus.url", "kubernetes.dump")], ", ")
            yield Todo(_HOLE, say(data.words("todo_source")), say(data.words("todo_source_how"), keys=keys))
    for what, same in hidden(data):
        failed = [r for r in same if r.get("error")]
        said = [
            say(
                data.words("todo_error"), source=source_name(data.words, r["what"], r["source"]), error=code(r["error"])
            )
            for r in failed
        ]
        how = say(data.words("todo_hole_how"), error=joined(said, ""), command=code(f"aislot daily --date {data.date}"))
        yield Todo(_HOLE, say(data.words("todo_hole"), what=what), how)


def _missed(data: ReportData) -> Iterator[Todo]:
    missed: dict[str, dict[str, Any]] = {}
    for r in records(data.alert_audit):
        if r["verdict"] == "missed" and r["silenced"] is None:
            missed.setdefault(r["alert"], r)
    for kind, rank in (("page", _MISSED), ("ticket", _TICKET)):
        names = [n for n in missed if severity_of(data, n) == kind]
        if not names:
            continue
        facts: dict[str, object] = {"severity": kind, "n": len(names)}
        facts["at"] = when(missed[names[0]]["expected_start"], data.window)
        facts["what"] = _about(data, names[0])
        facts["alert"] = joined([code(n) for n in names], ", ")
        many = len(names) > 1
        what = say(data.words("todo_missed_many") if many else data.words("todo_missed"), **facts)
        yield Todo(
            rank,
            what,
            say(data.words("todo_missed_how_many") if many else data.words("todo_missed_how"), **facts),
            _runbook(data, names[0]),
        )


def _about(data: ReportData, name: str) -> Rich:
    """Name what an alert counts: its signatures, else the alert."""
    ids = next((e["signatures"] for e in data.expected if e["alert"] == name), ())
    return say(capital(titles(data, ids, ""))) if ids else Rich([alert(data, name)])


def _runbook(data: ReportData, name: str) -> Span | None:
    return doc(data, next((str(e.get("runbook", "")) for e in data.expected if e["alert"] == name), ""))


def _gone(data: ReportData) -> Iterator[Todo]:
    mine = data.attempts[data.attempts["kind"].isin([k for k in data.totals if k in set(data.attempts["kind"])])]
    gone = int((mine["outcome"] == "vanished").sum())
    if gone and coverage_of(data, "jobs").complete is False:
        yield Todo(
            _GONE, say(data.words("todo_gone"), n=data.words.counted(gone, "attempt")), say(data.words("todo_gone_how"))
        )


def _budget(data: ReportData) -> Iterator[Todo]:
    promised = {o.name: o for o in data.objectives}
    for r in records(data.slo):
        left = budget(r)
        if left is None or r["policy"] in {None, "ok"}:
            continue
        facts = {"left": number(abs(left.left)), "policy": data.words.of("policies").get(r["policy"], r["policy"])}
        facts |= {"failed": data.words.counted(left.failed, "failure"), "allowed": number(left.allowed)}
        facts |= {
            "window": data.words.of("window_words").get(r["window"], r["window"]),
            "spent": percent(r["budget_spent_ratio"]),
        }
        template = data.words("todo_budget") if left.left < 0 else data.words("todo_budget_left")
        to = promised.get(r["slo"])
        yield Todo(
            _BUDGET,
            say(template, **facts),
            say(data.words("todo_budget_how"), **facts),
            doc(data, to.runbook) if to else None,
        )


def _others(data: ReportData) -> Iterator[Todo]:
    """Return the failures that no incident is made of."""
    rest: Sequence[Group] = [g for g in groups(data) if not g.signatures]
    rows = [r for g in rest for r in g.rows]
    if rows:
        numbers = sorted({n for g in rest for n in g.issues})
        tied = (
            say(data.words("todo_issues"), issues=issues(data.words, numbers))
            if numbers
            else say(data.words("todo_no_issue") if no_issue(data, rows) else "")
        )
        what = say(data.words("todo_other"), failures=data.words.counted(len(rows), "failed attempt"), issue=tied)
        yield Todo(
            _OTHER, what, say(data.words("todo_other_how"), link=link(data.words.of("heads")["failed"], "#failed"))
        )
    for g in groups(data):
        if g.signatures and g.failure_class == "other":
            first = next((s for s in data.signatures if s.id in g.signatures), None)
            what = say(
                data.words("todo_other_known"),
                what=capital(titles(data, g.signatures, "")),
                hit=data.words.hit(len(g.rows), g.runs),
            )
            yield Todo(
                _OTHER,
                what,
                advice(first.advice(data.words.lang)) if first else say(""),
                doc(data, first.runbook) if first else None,
            )
