"""Section 8: what failures have more often than successes of the same kind, and lines that no success has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.report.data import ReportData, coverage_of, records
from pipeline.report.rich import Rich, Span, code, say
from pipeline.report.sections.common import shown_share
from pipeline.report.text import count, minute, number, when
from pipeline.report.words import Words

SURE = 0.05  # the corrected chance from which on a finding is shown
_ROWS, _LINES = 6, 10  # that are shown
_LEAST = 0.001  # a smaller chance is not told apart
_STATES = {"new": 0, "returning": 1, "known": 2}


def section(data: ReportData) -> dict[str, Any]:
    """Return the section: `note`, `nothing` (a sentence where nothing is shared), `rows`, `lines` and what they say."""
    found, written = findings(data), unheard(data)
    return {
        "note": data.words.counted(len(found), "finding") if found else "",
        "about": say(data.words("shares_about"), tests=count(found[0]["tests"])) if found else None,
        "nothing": None if found else _nothing(data),
        "rows": [shared(data, r) for r in found[:_ROWS]],
        "more": _more(len(found) - _ROWS, "shares", data),
        "lines_title": say(
            data.words("lines_ageless") if _ageless(written) else data.words("lines_title"), n=count(len(written))
        ),
        "lines_nothing": None if written or not len(data.failures) else _no_line(data),
        "lines": [line(data, r) for r in written[:_LINES]],
        "lines_more": _more(len(written) - _LINES, "ledger", data),
    }


def findings(data: ReportData) -> list[Mapping[str, Any]]:
    """Return what is sure enough, of incidents first and the surest first; an incident's is not said of the day once more.

    That failures have an error is what failing is, so its word comes last.
    """
    sure = [r for r in records(data.shares) if r["q_value"] <= SURE]
    of_incidents = {_what(r) for r in sure if r["scope"] in _incidents(data)}
    told = [r for r in sure if r["scope"] in _incidents(data) or _what(r) not in of_incidents]
    return sorted(told, key=lambda r: (r["scope"] not in _incidents(data), r["attribute"] == "error"))


def _what(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[c] for c in ("kind", "attribute", "match", "value"))


def _incidents(data: ReportData) -> dict[str, Mapping[str, Any]]:
    return {r["incident_id"]: r for r in records(data.incidents)}


def unheard(data: ReportData) -> list[Mapping[str, Any]]:
    """Return the lines that no success has: new ones first, then returning ones, and those of most failures first."""
    rows = [r for r in records(data.ledger) if r["what"] == "template" and r["succeeded"] == 0]
    latest = sorted(rows, key=lambda r: (str(r["last_at"]), r["id"]), reverse=True)
    return sorted(latest, key=lambda r: (_STATES.get(r["state"], len(_STATES)), -r["failed"]))


def _ageless(written: list[Mapping[str, Any]]) -> bool:
    """Tell whether nobody knows which are new, as the lake has no earlier day."""
    return bool(written) and all(r["state"] is None for r in written)


def shared(data: ReportData, r: Mapping[str, Any]) -> dict[str, Any]:
    """Write a finding."""
    name = data.words.of("attributes").get(r["attribute"], r["attribute"])
    case = _incidents(data).get(r["scope"])
    among = data.words("among_day") if case is None else data.words("among_incident")
    facts = {} if case is None else {"class": case["class"], "at": minute(case["started_at"], data.window)}
    return {
        "id": f"share-{r['rank']}",
        "what": say(
            "{name} {match} {value}", name=name, match=data.words.of("matches")[r["match"]], value=code(r["value"])
        ),
        "kind": data.words("every_kind") if r["kind"] == "all" else r["kind"],
        "among": say(among, **facts),
        "failed": _of(data.words, r["failed"], r["failed_of"], r["failed_unknown"]),
        "succeeded": _of(data.words, r["succeeded"], r["succeeded_of"], r["succeeded_unknown"]),
        "chance": data.words("chance_under").format(p=_LEAST) if r["q_value"] < _LEAST else number(r["q_value"], 3),
    }


def _of(words: Words, k: int, n: int, not_known: int) -> str:
    return shown_share(words, k, n) + (words("shares_unknown").format(n=count(not_known)) if not_known else "")


def line(data: ReportData, r: Mapping[str, Any]) -> dict[str, Any]:
    """Write a template that only failed attempts have."""
    return {
        "id": f"{r['id']}@{r['kind']}",
        "state": data.words.of("ages").get(r["state"]),
        "kind": r["kind"],
        "text": r["text"],
        "failed": shown_share(data.words, r["failed"], r["failed_of"]),
        "lines": count(r["lines"]),
        "first": when(r["first_at"], data.window),
        "last": when(r["last_at"], data.window),
    }


def _nothing(data: ReportData) -> Rich:
    if not coverage_of(data, "jobs").configured and not len(data.failures):
        return say("{why}", why=Span(data.words("none_seen_off"), "strong"))
    return say(data.words("shares_none") if len(data.failures) else data.words("shares_no_failure"))


def _no_line(data: ReportData) -> Rich:
    if not coverage_of(data, "logs").configured:
        return say("{why}", why=Span(data.words("stream_unknown"), "strong"))
    return say(data.words("lines_none"))


def _more(n: int, table: str, data: ReportData) -> Rich | None:
    return say(data.words("rows_more"), n=count(n), table=code(table), date=str(data.date)) if n > 0 else None
