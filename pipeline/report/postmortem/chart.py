"""How long incidents were unseen, seen and unmitigated, and mitigated: a bar each on one time axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from pipeline.model import NS
from pipeline.report.charts import NARROW, WIDE, Frame, inline, laid_out, ms, rects, written
from pipeline.report.text import visible

_ROW, _BAR = 30, 16
_HEAD = 13  # above a bar, for its name
_STEPS_MIN = (5, 10, 15, 30, 60, 120, 180, 360, 720, 1440)
_MINUTE_NS = 60 * NS
_TICKS = {WIDE: 8, NARROW: 4}
COLOURS = {"unseen": "var(--bad)", "seen": "var(--mark-ok)", "mitigated": "var(--mark-latency)"}


@dataclass(frozen=True)
class Bar:
    """One incident: `parts` (start and end in ns, a key of `COLOURS`), its failures, its objective's end, what is said."""

    name: str
    label: str
    parts: Sequence[tuple[int, int, str]]
    failed: Sequence[int]
    limit: int | None


def detection(bars: Sequence[Bar], frame: Frame) -> Any:
    """Draw the bars, white ticks where attempts failed, a black one where the objective's time was over."""
    boxes, ticks, limits, names = [], [], [], []
    for i, bar in enumerate(bars):
        top = i * (_ROW + 4) + _HEAD
        span = {"y": top, "y2": top + _BAR}
        boxes += [span | {"x": ms(a), "x2": ms(b), "c": COLOURS[key]} for a, b, key in bar.parts if b > a]
        ticks += [span | {"x": ms(at)} for at in bar.failed]
        limits += [{"x": ms(bar.limit), "y": top - 3, "y2": top + _BAR + 3}] if bar.limit is not None else []
        at = ms(bar.parts[0][0])
        names.append({"x": at, "y": top - 6, "text": visible(f"{bar.name}: {bar.label}")})
    height = len(bars) * (_ROW + 4) + 2
    rule = {"x": alt.X("x:T"), "y": alt.Y("y:Q"), "y2": alt.Y2("y2")}
    layers = [
        rects(boxes).encode(color=alt.Color("c:N", scale=None)),
        alt.Chart(inline(ticks)).mark_rule(aria=False, color="var(--paper)", strokeWidth=1.2).encode(**rule),
        alt.Chart(inline(limits)).mark_rule(aria=False, color="var(--ink)", strokeWidth=2).encode(**rule),
        written(names, align="left", dx=0),
    ]
    scale = alt.Scale(domain=[0, height], reverse=True, nice=False, zero=False)
    y = alt.Y("y:Q", scale=scale, axis=None)
    return laid_out(layers, frame, height, y, top=4, bottom=20, axis=_axis(frame))


def _axis(frame: Frame) -> alt.Axis:
    day, most = frame.day, _TICKS[WIDE if frame.width > NARROW else NARROW]
    step = next((s for s in _STEPS_MIN if day.length // (s * _MINUTE_NS) <= most), _STEPS_MIN[-1]) * _MINUTE_NS
    values = [ms(t) for t in range(-(-day.start // step) * step, day.end, step)]
    return alt.Axis(
        values=values,
        tickCount=len(values),
        format="%H:%M",
        title=None,
        grid=False,
        tickSize=4,
        labelFlush=False,
        domainColor="var(--axis)",
        tickColor="var(--axis)",
    )
