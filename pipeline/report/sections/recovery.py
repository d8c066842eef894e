"""Section 8: runs that failed more than once, each with its attempts on one time axis until it recovered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline.model import NS, Window
from pipeline.report.charts import NARROW, WIDE, Frame
from pipeline.report.data import ReportData, coverage_of, records
from pipeline.report.rich import Rich, say
from pipeline.report.sections.common import issues
from pipeline.report.spans import Bar, spans
from pipeline.report.svg import to_svg
from pipeline.report.text import count, duration, instant, visible, when

_TWICE, _SHOWN, _LANES = 2, 20, 24
_RUN = 8
_AROUND_NS, _AFTER_NS = 120 * NS, 60 * NS


@dataclass(frozen=True)
class Run:
    """A run that failed more than once: its failures in time order, its attempts, when the last of it recovered."""

    id: str
    failures: Sequence[Mapping[str, Any]]
    attempts: Sequence[Mapping[str, Any]]

    @property
    def recovered(self) -> int | None:
        """The end of the last success that mended a failure of it; None while one is not mended."""
        ends = [instant(f["recovered_at"]) for f in self.failures]
        return None if any(e is None for e in ends) else max(e for e in ends if e is not None)


def runs(data: ReportData) -> list[Run]:
    """Return the runs that failed more than once, those that failed most first."""
    by_run: dict[str, list[Mapping[str, Any]]] = {}
    for f in records(data.failures):
        if f["run_id"]:
            by_run.setdefault(f["run_id"], []).append(f)
    often = {r: fs for r, fs in by_run.items() if len(fs) >= _TWICE}
    mine = data.attempts[data.attempts["run_id"].isin(list(often))].sort_values("created_at")
    ran = {run: records(rows) for run, rows in mine.groupby("run_id")}
    made = [Run(r, fs, ran.get(r, [])) for r, fs in often.items()]
    return sorted(made, key=lambda r: (-len(r.failures), str(r.failures[0]["failed_at"]), r.id))


def section(data: ReportData) -> dict[str, Any]:
    """Return the section: `note`, `nothing`, `rows`, the `charts` of the run that failed most, and what is left out."""
    found, words = runs(data), data.words
    worst = found[0] if found and found[0].attempts else None
    return {
        "note": words.counted(len(found), "run") if found else "",
        "nothing": None if found else _nothing(data),
        "rows": [_row(data, r) for r in found[:_SHOWN]],
        "not_recovered": words("not_recovered"),
        "numbers": words.of("recovery")["numbers"],
        "more": words.more(len(found) - _SHOWN).strip(),
        "charts": _charts(data, worst) if worst else {"wide": [], "narrow": []},
        "attempts": [_attempt(data, a) for a in worst.attempts[:_LANES]] if worst else [],
        "title": say(words.of("recovery")["worst"], run=visible(worst.id[:_RUN])) if worst else None,
    }


def _row(data: ReportData, r: Run) -> dict[str, Any]:
    first, over = instant(r.failures[0]["failed_at"]) or 0, r.recovered
    numbers = sorted({int(f["issue"]) for f in r.failures if f["issue"] is not None})
    return {
        "run": r.id[:_RUN],
        "issue": issues(data.words, numbers, 2) if numbers else None,
        "kinds": ", ".join(sorted({str(f["kind"]) for f in r.failures})),
        "failed": f"{len(r.failures):,}",
        "first": when(first, data.window),
        "last": when(r.failures[-1]["failed_at"], data.window),
        "recovered": None if over is None else duration((over - first) / NS),
    }


def _nothing(data: ReportData) -> Rich:
    whole = bool(data.totals["all"]["complete"]) and coverage_of(data, "logs").complete is not False
    return say(data.words.of("recovery")["nothing" if whole else "nothing_seen"])


def _charts(data: ReportData, r: Run) -> dict[str, list[str]]:
    form = data.words.of("recovery")
    rows = [(a, *_ends(data, a)) for a in r.attempts[:_LANES]]
    window = Window(min(a for _, a, _ in rows) - _AROUND_NS, max(b for _, _, b in rows) + _AROUND_NS)
    lines = data.lines[data.lines["signatures"].map(len) > 0]
    bars = [
        Bar(str(a["job_name"]), _label(data, a), [(start, end, _colour(a))], _told(lines, a)) for a, start, end in rows
    ]
    name = form["chart"].format(run=r.id[:_RUN], n=len(bars))
    return {
        key: [to_svg(spans(bars, Frame(window, width)), name)] for key, width in (("wide", WIDE), ("narrow", NARROW))
    }


def _attempt(data: ReportData, a: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "job": a["job_name"],
        "attempt": count(a["attempt"]),
        "began": when(a["started_at"] or a["created_at"], data.window),
        "ended": when(a["ended_at"], data.window),
        "outcome": data.words.of("recovery")[_colour(a)],
    }


def _ends(data: ReportData, a: Mapping[str, Any]) -> tuple[int, int]:
    start = instant(a["started_at"]) or instant(a["created_at"]) or data.window.start
    end = instant(a["ended_at"]) or instant(a["last_seen_at"]) or start
    return start, max(end, start + NS)


def _colour(a: Mapping[str, Any]) -> str:
    return a["outcome"] if a["outcome"] in {"failed", "succeeded"} else "unknown"


def _label(data: ReportData, a: Mapping[str, Any]) -> str:
    form = data.words.of("recovery")
    return form["attempt"].format(n=a["attempt"], outcome=form[_colour(a)])


def _told(lines: pd.DataFrame, a: Mapping[str, Any]) -> list[int]:
    """Return when lines with a signature were written about an attempt: those of the minute after its end at its end."""
    start, end = instant(a["created_at"]) or 0, instant(a["ended_at"]) or instant(a["last_seen_at"]) or 0
    mine = lines[lines["job"] == a["job_name"]]["ts"]
    return sorted({min(t.value, end) for t in mine if start <= t.value <= end + _AFTER_NS})
