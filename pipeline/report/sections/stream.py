"""Section 7: the control-plane's error stream, signature lines per 15 min; lines are not failures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.model import merge
from pipeline.report import charts
from pipeline.report.charts import Frame, Stack
from pipeline.report.data import ReportData, coverage_of, records
from pipeline.report.figures import STEP, Stream, quarters_known, stream_lines, streams
from pipeline.report.rich import Rich, Span, code, say
from pipeline.report.sections.common import holes, least
from pipeline.report.sections.health import COLOURS, drawn
from pipeline.report.text import clock, count, minute, when
from pipeline.report.words import Words

_HEIGHT, _MOST = 28, 6  # pixels of a row; rows that are drawn, the others are numbers


def section(data: ReportData) -> dict[str, Any]:
    """Return the section: `note`, `nothing` (a sentence where there is no line), `charts`, `rows`, `breaches`."""
    logs = coverage_of(data, "logs")
    found = streams(data)
    lines = stream_lines(data)
    shown = [s for s in found if s.lines]
    signed = any(s.id for s in shown)
    if not logs.configured and not lines:
        return {
            "note": "",
            "nothing": say("{why}", why=Span(data.words("stream_unknown"), "strong")),
            "gap": None,
            "rows": [],
        } | _breaches(data)
    gap = say(data.words("stream_seen"), span=holes(data.words, merge(logs.gaps), data.window)) if logs.gaps else None
    out: dict[str, Any] = {
        "note": data.words.counted(lines, "line"),
        "gap": gap,
        "rows": [_row(data, s) for s in found],
    }
    out |= _breaches(data)
    if not signed:
        out["nothing"] = say(
            data.words("stream_none_seen") if logs.gaps else data.words("stream_none"),
            other=data.words.counted(lines, "line"),
        )
        return out
    return out | {
        "nothing": None,
        "about": data.words("stream_note"),
        "heads": [_name(data.words, s) for s in shown],
        "numbers": _numbers(data, shown),
        "charts": drawn(data, lambda f: _charts(data, f, shown[:_MOST]), "logs"),
        "summary": say(data.words("stream_numbers"), lines=data.words.counted(lines, "line")),
    }


def _breaches(data: ReportData) -> dict[str, Any]:
    """Return where levels are not as the policy wants, and the sentence where nothing is known or nothing broke it."""
    rows, logs = records(data.level_breaches), coverage_of(data, "logs")
    none = data.words("breaches_none_seen") if logs.gaps else data.words("breaches_none")
    return {
        "breaches": [_breach(data, r) | {"id": f"breach-{n}"} for n, r in enumerate(rows, 1)],
        "breaches_title": say(data.words("breaches"), lines=data.words.counted(sum(r["lines"] for r in rows), "line")),
        "breaches_nothing": say(none) if logs.configured and not rows else None,
    }


def _breach(data: ReportData, r: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "what": say(data.words.of("breach_rules")[r["rule"]], about=r["about"]),
        "about": code(r["about"]),
        "app": r["app"],
        "level": r["level"],
        "lines": count(r["lines"]),
        "first": when(r["first_at"], data.window),
        "last": when(r["last_at"], data.window),
        "example": r["example"],
    }


def _charts(data: ReportData, f: Frame, shown: list[Stream]) -> list[tuple[Any, str]]:
    made = []
    for s in shown:
        colour = COLOURS.get(s.failure_class, "var(--grey)") if s.id else "var(--grey)"
        name = _said(data, s)
        made.append(
            (charts.bars(name, [Stack(colour, s.by_15m)], f, height=_HEIGHT, axis=s is shown[-1], strong=False), name)
        )
    return made


def _said(data: ReportData, s: Stream) -> str:
    facts = {"name": s.id or data.words("stream_other"), "lines": data.words.counted(s.lines, "line")}
    return data.words("chart_stream").format(first=when(s.first, data.window), last=when(s.last, data.window), **facts)


def _row(data: ReportData, s: Stream) -> dict[str, Any]:
    whole = coverage_of(data, "logs").complete is not False
    n = least(data.words, s.lines, whole=whole)
    none = data.words.of("labels")["none"] if whole else None
    return {
        "id": f"stream-{s.id or 'other'}",
        "name": _name(data.words, s),
        "class": s.failure_class if s.id else "other",
        "lines": n,
        "first": clock(s.first) or none,
        "last": clock(s.last) or none,
        "busiest": _busiest(data, s),
    }


def _name(words: Words, s: Stream) -> Rich:
    return Rich([code(s.id)]) if s.id else say(words("stream_other"))


def _numbers(data: ReportData, shown: list[Stream]) -> list[dict[str, Any]]:
    """Return the windows in which a line came, a row each."""
    rows = []
    known = quarters_known(coverage_of(data, "logs"), data.window)
    for i, whole in enumerate(known):
        counts = [s.by_15m[i] for s in shown]
        if any(counts):
            cells = [least(data.words, n, whole=whole) if n or whole else None for n in counts]
            rows.append({"at": minute(data.window.start + i * STEP, data.window), "cells": cells})
    return rows


def _busiest(data: ReportData, s: Stream) -> str:
    if not s.lines:
        return "–"
    most = max(s.by_15m)
    start = data.window.start + list(s.by_15m).index(most) * (data.window.length // len(s.by_15m))
    return data.words("busiest").format(n=count(most), at=(clock(start) or "")[:5])
