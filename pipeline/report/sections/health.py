"""Section 5: what finished when, incidents and alerts above it on the same time axis, build durations below."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.model import Window, merge
from pipeline.report import charts
from pipeline.report.charts import Frame, Lane, Spread, Stack
from pipeline.report.data import HEADLINE, ReportData, coverage_of, other_kinds, prefix_of, records, severity_of
from pipeline.report.figures import STEP, Quarter, build_hours, builds, quarters
from pipeline.report.rich import Rich, say
from pipeline.report.sections.common import least
from pipeline.report.svg import to_svg
from pipeline.report.text import MIN_P95, between_minutes, count, duration, instant, minute, signed_time
from pipeline.report.words import Words

COLOURS = {"cache": "var(--mark-cache)", "build-ref": "var(--mark-ref)"}
_BAD, _OK = "var(--bad)", "var(--mark-ok)"
_MANY_BUILDS = 400  # so many dots would be a cloud, and a large page
_MIN_BAND = 3  # builds of an hour that make a band
_MOST_LANES = 8  # of incidents, and of alerts
_TALL, _LOW = 96, 36


@dataclass(frozen=True)
class Drawn:
    """Charts in both widths."""

    wide: Sequence[str]
    narrow: Sequence[str]


def drawn(data: ReportData, make: Callable[[Frame], Sequence[tuple[Any, str]]], what: str) -> Drawn:
    """Draw charts (each with its name) wide and narrow, on the day's time axis; `what` tells whose holes are shown."""
    wide, narrow = (
        [to_svg(chart, name) for chart, name in make(frame(data, width, what))]
        for width in (charts.WIDE, charts.NARROW)
    )
    return Drawn(wide, narrow)


def frame(data: ReportData, width: int, what: str) -> Frame:
    """Return the time axis of the day with the incidents and with the holes of one source."""
    source = coverage_of(data, what)
    gaps = merge(source.gaps) if source.configured else [data.window]
    bands = [
        (_span(data, i["started_at"], i["ended_at"]), COLOURS[i["class"]])
        for i in records(data.incidents)
        if i["class"] in COLOURS
    ]
    return Frame(data.window, width, gaps, bands, data.words("gap"))


def section(data: ReportData) -> dict[str, Any]:
    """Return the section: `note`, `legend`, `charts`, and the numbers of the charts."""
    groups = _groups(data)
    t = data.totals["all"]
    finished = data.words("finished") if t["complete"] else data.words("finished_seen")
    counts = {name: quarters(data, kinds) for name, kinds in groups}
    return {
        "note": finished.format(**_seen(data)) if _asked(data) else data.words.of("labels")["unknown"],
        "legend": _keys(data),
        "charts": drawn(data, lambda f: _charts(data, f, counts), "jobs"),
        "heads": [name for name, _ in groups],
        "numbers": _numbers(data, counts),
        "hours": _hours(data),
        "summary": _summary(data),
    }


def _groups(data: ReportData) -> list[tuple[str, Sequence[str]]]:
    """Return the charts of counts: build and mirror together, every other kind for itself."""
    return [(HEADLINE.replace("+", " + "), ("build", "mirror")), *((k, (k,)) for k in other_kinds(data))]


def _charts(data: ReportData, f: Frame, counts: dict[str, list[Quarter]]) -> list[tuple[Any, str]]:
    rows = [*_incident_lanes(data), *_alert_lanes(data, narrow=f.width == charts.NARROW)]
    made: list[tuple[Any, str]] = []
    if rows:
        cases, alerts = (
            data.words.counted(len(data.incidents), "incident"),
            data.words.counted(len(data.alerts), "alert"),
        )
        made.append((charts.lanes(rows, f), data.words("chart_lanes").format(incidents=cases, alerts=alerts)))
    for i, (name, found) in enumerate(counts.items()):
        title = data.words("chart_bars").format(kinds=data.words.of("groups").get(name, name.capitalize()))
        stacks = [Stack(_BAD, [q.failed for q in found]), Stack(_OK, [q.succeeded for q in found])]
        made.append((charts.bars(title, stacks, f, height=_LOW if i else _TALL), _bars_name(data, title, found)))
    return [*made, _durations(data, f)]


def _bars_name(data: ReportData, title: str, found: Sequence[Quarter]) -> str:
    failed = sum(q.failed for q in found)
    worst = max(found, key=lambda q: q.failed)
    most = data.words("chart_most").format(at=minute(worst.start, data.window)) if failed else ""
    finished = failed + sum(q.succeeded for q in found)
    return data.words("chart_label").format(title=title, finished=count(finished), failed=count(failed), most=most)


def _durations(data: ReportData, f: Frame) -> tuple[Any, str]:
    found = builds(data)
    many = len(found) > _MANY_BUILDS
    dots = [] if many else [(t, s / 60) for t, s in found]
    title = data.words("chart_duration_many") if many else data.words("chart_duration")
    t = data.totals["build"]
    p95 = t["duration_p95_s"] if t["durations"] >= MIN_P95 else None
    level = None if p95 is None else (p95 / 60, data.words("chart_p95").format(p95=duration(p95)))
    longest = duration(max((s for _, s in found), default=None)) or data.words.of("labels")["none"]
    name = data.words("chart_builds").format(
        title=title, builds=data.words.counted(len(found), "build"), longest=longest
    )
    shown = data.words("chart_duration_short") if f.width == charts.NARROW else title
    return charts.durations(shown, dots, _spreads(data, many=many), f, p95=level), name


def _spreads(data: ReportData, *, many: bool) -> list[Spread]:
    """Return an hourly band from the median to the maximum, of very many builds to the p95."""
    return [
        Spread(
            hour, float(np.median(v)) / 60, (float(np.quantile(v, 0.95)) if many and len(v) >= MIN_P95 else max(v)) / 60
        )
        for hour, v in build_hours(data).items()
        if len(v) >= _MIN_BAND
    ]


def _incident_lanes(data: ReportData) -> list[Lane]:
    rows = []
    for i in records(data.incidents):
        facts = {"class": i["class"], "failures": count(i["failures"]), "mttr": duration(i["mttr_s"])}
        label = (data.words("lane_open") if i["ended_at"] is None else data.words("lane_over")).format(**facts)
        span = _span(data, i["started_at"], i["ended_at"])
        rows.append(
            Lane(label, COLOURS.get(i["class"], "var(--mark-other)"), [(span, "solid")], data.words("lane_incidents"))
        )
    return _cut(data.words, _inside(data, rows))


def _alert_lanes(data: ReportData, *, narrow: bool) -> list[Lane]:
    """Return what should have fired and did not, then what fired: one lane for all intervals of an alert and kind."""
    audited = records(data.alert_audit)
    known = {(r["alert"], r["actual_start"]): r for r in audited if r["actual_start"]}
    rows = []
    for r in audited:
        if r["verdict"] == "missed" and r["silenced"] is None:
            span = _span(data, r["expected_start"], r["expected_end"])
            said = between_minutes(Window(span.start, min(span.end, max(span.start, data.window.end))), data.window)
            label = (data.words("lane_missed_short") if narrow else data.words("lane_missed")).format(
                alert=_short(data, r["alert"]), span=said
            )
            rows.append(Lane(label, _BAD, [(span, "dashed")], data.words("lane_alerts")))
    fired: dict[tuple[str, str], list[tuple[Window, str]]] = {}
    for a in records(data.alerts):
        r = known.get((a["alert"], a["started_at"]), {})
        style = "outlined" if r.get("verdict") == "unexpected" else "solid"
        label = _fired(data, a, r, narrow=narrow)
        fired.setdefault((a["alert"], style), []).append((_span(data, a["started_at"], a["ended_at"]), label))
    for (_, style), found in fired.items():
        label = found[0][1] if len(found) == 1 else data.words("lane_times").format(label=found[0][1], n=len(found))
        rows.append(Lane(label, "var(--fired)", [(span, style) for span, _ in found], data.words("lane_alerts")))
    return _cut(data.words, _inside(data, rows))


def _fired(data: ReportData, a: dict[str, Any], r: dict[str, Any], *, narrow: bool) -> str:
    kind = severity_of(data, a["alert"])
    name = _short(data, a["alert"]) + (f" ({kind})" if kind == "ticket" and not narrow else "")
    if r.get("verdict") == "unexpected":
        return data.words("lane_unexpected").format(alert=name)
    delay = (
        None
        if r.get("delay_s") is None
        else signed_time(r["delay_s"], data.words("late"), data.words("early"), data.words("at_once"))
    )
    still = data.words("lane_still") if a["ended_at"] is None else None
    said = ", ".join(t for t in (delay, still) if t)
    return (
        data.words("lane_late").format(alert=name, delay=said) if said else data.words("lane_fired").format(alert=name)
    )


def _short(data: ReportData, name: str) -> str:
    return name.removeprefix(prefix_of(data))


def _span(data: ReportData, start: Any, end: Any) -> Window:
    """Return an interval; one without an end goes on to the day's."""
    since = instant(start) or 0
    until = instant(end)
    return Window(since, max(since, data.window.end if until is None else until))


def _inside(data: ReportData, rows: Sequence[Lane]) -> list[Lane]:
    """Keep what of each lane lies in the day; an interval of no length still shows."""
    day, out = data.window, []
    for lane in rows:
        bars = [(b, s) for w, s in lane.bars if (b := Window(w.start, max(w.end, w.start + 1)).intersect(day))]
        out += [Lane(lane.label, lane.colour, bars, lane.group)] if bars else []
    return out


def _cut(words: Words, rows: list[Lane]) -> list[Lane]:
    """Keep a few lanes; the others share the last one."""
    if len(rows) <= _MOST_LANES:
        return rows
    rest = rows[_MOST_LANES - 1 :]
    together = [bar for lane in rest for bar in lane.bars]
    return [
        *rows[: _MOST_LANES - 1],
        Lane(words("lane_more").format(n=len(rest)), "var(--grey)", together, rest[0].group),
    ]


def _keys(data: ReportData) -> list[tuple[str, str]]:
    """Return the legend: a shape's name and its words, only of what is drawn."""
    verdicts = set(data.alert_audit["verdict"])
    missed = (data.alert_audit["verdict"] == "missed") & data.alert_audit["silenced"].isna()
    classes = set(data.incidents["class"])
    jobs = coverage_of(data, "jobs")
    there = {
        "failed": True,
        "ok": True,
        "cache": "cache" in classes,
        "build-ref": "build-ref" in classes,
        "fired": bool(len(data.alerts)),
        "missed": bool(missed.any()),
        "unexpected": "unexpected" in verdicts,
        "gap": bool(jobs.gaps) or not jobs.configured,
        "duration": True,
    }
    counts = _seen(data) if _asked(data) else {}
    return [
        (key, f"{data.words.of('keys')[key]} {counts.get(key, '')}".strip()) for key, shown in there.items() if shown
    ]


def _asked(data: ReportData) -> bool:
    """Tell whether anything is known of jobs: what nobody asked for is not zero."""
    return bool(coverage_of(data, "jobs").configured or data.totals["all"]["finished"])


def _seen(data: ReportData) -> dict[str, str]:
    t = data.totals["all"]
    values = {"finished": t["finished"], "failed": t["failed"], "ok": t["finished"] - t["failed"]}
    return {k: least(data.words, n, whole=t["complete"]) for k, n in values.items()}


def _numbers(data: ReportData, counts: dict[str, list[Quarter]]) -> list[dict[str, Any]]:
    """Return the windows in which something finished, a row each; of those in a row that nobody knows only one."""
    rows: list[dict[str, Any]] = []
    blind: dict[str, Any] | None = None
    for qs in zip(*counts.values(), strict=True):
        cells = [_cell(data.words, n, whole=q.whole) for q in qs for n in (q.succeeded, q.failed)]
        start = qs[0].start
        if not any(c is None for c in cells) and not any(q.succeeded or q.failed for q in qs):
            blind = None
        elif blind is not None and all(c is None for c in cells):
            blind["end"] = start + STEP
        else:
            rows.append({"start": start, "end": start + STEP, "cells": cells})
            blind = rows[-1] if all(c is None for c in cells) else None
    return [{"at": _from(data, r["start"], r["end"]), "cells": r["cells"]} for r in rows]


def _from(data: ReportData, start: int, end: int) -> str:
    if end == start + STEP:
        return minute(start, data.window) or ""
    return between_minutes(Window(start, end), data.window)


def _cell(words: Words, n: int, *, whole: bool) -> str | None:
    return least(words, n, whole=whole) if n or whole else None


def _hours(data: ReportData) -> list[dict[str, Any]]:
    return [
        {
            "at": minute(hour, data.window),
            "n": count(len(v)),
            "median": duration(float(np.median(v))),
            "p95": duration(float(np.quantile(v, 0.95))) if len(v) >= MIN_P95 else "–",
            "max": duration(max(v)),
        }
        for hour, v in build_hours(data).items()
    ]


def _summary(data: ReportData) -> Rich:
    windows = data.window.length // STEP
    return say(data.words("numbers"), windows=data.words.counted(windows, "window"))
