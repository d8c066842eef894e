"""Charts as Altair specifications from plain values: the page, notebooks and pictures are made from the same.

Colours are `var(--name)` of the page's palette. Every text is made visible before it gets here into a specification,
because a control character in one aborts the process. Plots of a day share one time axis; a plot is made wide and
narrow, because text in a scaled SVG would be unreadable on a phone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from pipeline.model import NS, Window
from pipeline.report.text import duration, visible

WIDE, NARROW = 928, 358
_LEFT, _RIGHT, _TITLE, _TICKS = 34, 16, 24, 20  # room around a plot
_LETTER, _CAPITAL, _NARROW = 6.1, 7.4, 3.4  # widths of letters at the charts' 11 px
_HOUR_MS, _MINUTE_MS = 3_600_000, 60_000
_LANE, _BAR = 16, 10
_STEPS = (1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500, 1000, 2000, 2500, 5000, 10_000, 20_000, 25_000, 50_000, 100_000)
_ROW_HEIGHT = 15  # two labels of an axis closer than this would touch
# made once: Altair takes milliseconds to make one of a name
_X, _X2, _Y, _Y2, _TEXT = alt.X("x:T"), alt.X2("x2"), alt.Y("y:Q"), alt.Y2("y2"), alt.Text("text:N")
_COLOUR, _STROKE = alt.Color("c:N", scale=None), alt.Stroke("c:N", scale=None)


@dataclass(frozen=True)
class Frame:
    """What plots of one day share: their window, width, holes in the data, and incidents behind them."""

    day: Window
    width: int
    gaps: Sequence[Window] = ()
    bands: Sequence[tuple[Window, str]] = ()  # and a colour
    no_data: str = ""  # what is written into a hole

    @property
    def inner(self) -> int:
        """Width of the plot itself."""
        return self.width - _LEFT - _RIGHT


@dataclass(frozen=True)
class Stack:
    """Counts per 15 min in one colour; stacks of a chart stand on each other in their order."""

    colour: str
    counts: Sequence[int]


@dataclass(frozen=True)
class Lane:
    """One row of bars with a label: each bar a window and a style (solid, dashed, outlined).

    The first lane of a `group` carries its name.
    """

    label: str
    colour: str
    bars: Sequence[tuple[Window, str]]
    group: str = ""


def bars(
    title: str, stacks: Sequence[Stack], frame: Frame, *, height: int, axis: bool = False, strong: bool = True
) -> Any:
    """Draw counts per 15 min, the first stack at the bottom."""
    n = len(stacks[0].counts)
    step = frame.day.length // n
    data, most = [], 0
    for i in range(n):
        low = 0
        x = {
            "x": ms(frame.day.start + i * step) + _MINUTE_MS,
            "x2": ms(frame.day.start + (i + 1) * step) - _MINUTE_MS,
        }
        for s in stacks:
            if s.counts[i]:
                data.append(x | {"y": low, "y2": low + s.counts[i], "c": s.colour})
                low += s.counts[i]
        most = max(most, low)
    ticks = _ticks(most, height)
    shown = rects(data).encode(color=_COLOUR)
    return _plot([*_behind(frame, ticks[-1]), shown], title, frame, height, ticks, axis=axis, strong=strong)


@dataclass(frozen=True)
class Spread:
    """Durations of an hour in minutes: a band from `low` to `high`."""

    start: int
    low: float
    high: float


def durations(
    title: str,
    dots: Sequence[tuple[int, float]],
    spreads: Sequence[Spread],
    frame: Frame,
    *,
    p95: tuple[float, str] | None = None,
    height: int = 84,
) -> Any:
    """Draw a dot a build (ns, minutes) and an hourly band; what lies far above the rest is a triangle with its value."""
    values = sorted(v for _, v in dots) or sorted(s.high for s in spreads)
    cap = _cap(values)
    ticks = _ticks(cap, height)
    top = ticks[-1]
    band = [_hour(s) | {"y": s.low, "y2": min(s.high, top)} for s in spreads]
    inside = [{"x": ms(t), "y": v} for t, v in dots if v <= top]
    over = [{"x": ms(t), "y": top, "text": duration(v * 60), "v": v} for t, v in dots if v > top]
    colour = "var(--mark-latency)"
    layers = [
        *_behind(frame, top),
        rects(band, color=colour, opacity=0.18),
        alt.Chart(inline(band)).mark_rule(aria=False, color=colour, strokeWidth=1.5).encode(x=_X, x2=_X2, y=_Y),
        alt.Chart(inline(inside)).mark_circle(aria=False, color=colour, size=9, opacity=0.8).encode(x=_X, y=_Y),
        *_over(over, frame),
        *(_level(p95, frame, colour) if p95 and p95[0] <= top else []),
    ]
    return _plot(layers, title, frame, height, ticks, axis=True)


def _hour(s: Spread) -> dict[str, int]:
    return {"x": ms(s.start), "x2": ms(s.start) + _HOUR_MS}


def _cap(values: Sequence[float]) -> float:
    """Return up to where an axis goes: one that is far longer than the rest must not flatten all others."""
    if not values:
        return 10.0
    usual = values[max(0, -(-len(values) * 95 // 100) - 1)]
    return values[-1] if values[-1] <= 2 * usual else 1.25 * usual


def _over(data: Sequence[Mapping[str, Any]], frame: Frame) -> list[Any]:
    if not data:
        return []
    triangles = alt.Chart(inline(data)).mark_point(
        aria=False, shape="triangle-up", filled=True, color="var(--mark-latency)", size=36, yOffset=3, opacity=1
    )
    longest = max(data, key=lambda d: float(d["v"]))
    right = longest["x"] < ms(frame.day.start) + (ms(frame.day.end) - ms(frame.day.start)) // 4
    text = written([longest], align="left" if right else "right", dx=7 if right else -7, dy=5)
    return [triangles.encode(x=_X, y=_Y), text]


def _level(p95: tuple[float, str], frame: Frame, colour: str) -> list[Any]:
    value, label = p95
    data = [{"x": ms(frame.day.start), "x2": ms(frame.day.end), "y": value, "text": visible(label)}]
    rule = alt.Chart(inline(data)).mark_rule(aria=False, color=colour, strokeDash=[4, 3]).encode(x=_X, x2=_X2, y=_Y)
    return [rule, written(data, colour="var(--link)", align="left", dx=2, dy=-7)]


def lanes(rows: Sequence[Lane], frame: Frame) -> Any:
    """Draw lanes of bars, each with its label where there is room: after its last bar, before its first, else above."""
    boxes: dict[str, list[dict[str, Any]]] = {}
    texts: dict[str, list[dict[str, Any]]] = {}
    y, group = 0.0, ""
    for lane in rows:
        head = lane.group if lane.group != group else ""
        group = lane.group
        y = _lane(lane, visible(head), frame, y, boxes, texts)
    looks: dict[str, dict[str, Any]] = {
        "after": {"align": "left", "dx": 5},
        "before": {"align": "right", "dx": -5},
        "head": {"align": "left", "dx": 2, "colour": "var(--muted)"},
    }
    layers = [_boxes(style, found) for style, found in boxes.items()]
    layers += [written(found, **looks[place]) for place, found in texts.items()]
    scale = alt.Scale(domain=[0, max(y, 1)], reverse=True, nice=False, zero=False)
    return laid_out(layers, frame, max(y, 1), alt.Y("y:Q", scale=scale, axis=None), top=2, bottom=4)


def _lane(
    lane: Lane,
    head: str,
    frame: Frame,
    y: float,
    boxes: dict[str, list[dict[str, Any]]],
    texts: dict[str, list[dict[str, Any]]],
) -> float:
    """Place one lane at height `y`; returns where the next one goes."""
    day, px = frame.day, frame.day.length / frame.inner
    spans = [(max(w.start, day.start), min(w.end, day.end)) for w, _ in lane.bars]
    spans = [(a, max(b, round(a + 4 * px))) for a, b in spans]
    first, last = min(a for a, _ in spans), max(b for _, b in spans)
    label = _cut(visible(lane.label), frame.width - 8)
    room, kept = round((text_width(label) + 8) * px), round((text_width(head) + 10) * px) if head else 0
    beside = "after" if last + room <= day.end else "before" if first - room - kept >= day.start else ""
    if head and (first - kept < day.start or not beside):
        texts.setdefault("head", []).append({"x": ms(day.start), "y": y + _LANE / 2, "text": head})
        y, head = y + _LANE - 2, ""
    if not beside:
        # the margin left of the plot is free here
        x = max(day.start - round((_LEFT - 4) * px), min(first, day.end - room))
        texts.setdefault("after", []).append({"x": ms(x), "y": y + _LANE / 2, "text": label})
        y += _LANE - 3
    middle = y + _LANE / 2
    if head:
        texts.setdefault("head", []).append({"x": ms(day.start), "y": middle, "text": head})
    if beside:
        texts.setdefault(beside, []).append({"x": ms(last if beside == "after" else first), "y": middle, "text": label})
    for (a, b), (_, style) in zip(spans, lane.bars, strict=True):
        box = {"x": ms(a), "x2": ms(b), "y": middle - _BAR / 2, "y2": middle + _BAR / 2, "c": lane.colour}
        boxes.setdefault(style, []).append(box)
    return y + _LANE


def text_width(text: str) -> float:
    """Return about how many pixels a text of the charts takes."""
    return sum(_CAPITAL if c.isupper() else _NARROW if c in " .,:;|il!()'-" else _LETTER for c in text)


def _cut(text: str, width: float) -> str:
    while text_width(text) > width and len(text) > 1:
        text = text[:-2] + "…"
    return text


def _boxes(style: str, data: Sequence[Mapping[str, Any]]) -> Any:
    if style == "solid":
        return rects(data, cornerRadius=1.5).encode(color=_COLOUR)
    dash = {"strokeDash": [3, 2]} if style == "dashed" else {}
    mark = rects(data, filled=False, strokeWidth=1.4, cornerRadius=2, **dash)
    return mark.encode(stroke=_STROKE)


def _behind(frame: Frame, top: float) -> list[Any]:
    """Return incidents as bands and holes as dashed boxes with words, behind the data."""
    day, layers = frame.day, []
    spans = [(w, c) for b, c in frame.bands if (w := b.intersect(day))]
    if spans:
        data = [{"x": ms(w.start), "x2": ms(w.end), "y": 0, "y2": top, "c": c} for w, c in spans]
        layers.append(rects(data, opacity=0.16).encode(color=_COLOUR))
    holes = [w for g in frame.gaps if (w := g.intersect(day))]
    if holes:
        data = [{"x": ms(w.start), "x2": ms(w.end), "y": 0, "y2": top} for w in holes]
        layers.append(rects(data, color="var(--grey-ground)", stroke="var(--grey)", strokeDash=[3, 3], opacity=1))
        said = visible(frame.no_data)
        wide = [w for w in holes if w.length / day.length * frame.inner > text_width(said) + 4]
        middle = [{"x": (ms(w.start) + ms(w.end)) // 2, "y": top / 2, "text": said} for w in wide]
        layers += [written(middle, align="center", fontWeight="bold")] if middle else []
    return layers


def _plot(
    layers: Sequence[Any],
    title: str,
    frame: Frame,
    height: int,
    ticks: Sequence[int],
    *,
    axis: bool,
    strong: bool = True,
) -> Any:
    """Lay out marks with their axes: counts from 0, time below where `axis` says so."""
    y_axis = alt.Axis(
        values=list(ticks),
        tickCount=len(ticks),
        title=None,
        format="d",
        gridColor="var(--rule)",
        domain=False,
        ticks=False,
        labelPadding=6,
    )
    y = alt.Y("y:Q", scale=alt.Scale(domain=[0, ticks[-1]], nice=False), axis=y_axis)
    head = alt.TitleParams(
        visible(title),
        anchor="start",
        frame="group",
        fontSize=12 if strong else 11.5,
        fontWeight="bold" if strong else "normal",
        color="var(--ink)",
        offset=2,
    )
    return laid_out(
        layers, frame, height, y, top=_TITLE, bottom=_TICKS if axis else 6, axis=_hours(frame, shown=axis)
    ).properties(title=head)


def laid_out(
    layers: Sequence[Any], frame: Frame, height: float, y: alt.Y, *, top: int, bottom: int, axis: alt.Axis | None = None
) -> Any:
    """Join layers on shared scales in a frame of fixed size, so that plots stand exactly under each other."""
    scale = alt.Scale(type="utc", domain=[ms(frame.day.start), ms(frame.day.end)], nice=False)
    bare = rects([]).encode(x=alt.X("x:T", scale=scale, axis=axis), x2=_X2, y=y, y2=_Y2)
    plain: dict[str, Any] = {"view": {"stroke": None}, "font": "inherit", "background": "transparent"}
    axes = {"labelColor": "var(--muted)", "labelFontSize": 11, "titleFontSize": 11}
    return (
        alt.layer(bare, *layers)
        .properties(
            width=frame.inner,
            height=height,
            autosize=alt.AutoSizeParams(type="none"),
            padding={"left": _LEFT, "right": _RIGHT, "top": top, "bottom": bottom},
        )
        .configure(**plain, axis=axes)
    )


def _hours(frame: Frame, *, shown: bool) -> alt.Axis:
    hours = 3 if frame.width > NARROW else 6
    ticks = [ms(frame.day.start) + h * _HOUR_MS for h in range(0, frame.day.length // (3600 * NS) + 1, hours)]
    return alt.Axis(
        values=ticks,
        tickCount=len(ticks),
        format="%H:%M",
        title=None,
        grid=False,
        labels=shown,
        ticks=shown,
        tickSize=4,
        labelFlush=False,
        domainColor="var(--axis)",
        tickColor="var(--axis)",
    )


def rects(data: Sequence[Mapping[str, Any]], **look: Any) -> Any:
    """Draw boxes from `x` to `x2` (ms), `y` to `y2`."""
    return alt.Chart(inline(data)).mark_rect(aria=False, **look).encode(x=_X, x2=_X2, y=_Y, y2=_Y2)


def written(data: Sequence[Mapping[str, Any]], *, colour: str = "var(--ink)", **look: Any) -> Any:
    """Draw words at `x` (ms), `y`."""
    mark = alt.Chart(inline(data)).mark_text(
        aria=False, baseline="middle", fontSize=11, color=colour, clip=False, **look
    )
    return mark.encode(x=_X, y=_Y, text=_TEXT)


def _ticks(most: float, height: int) -> list[int]:
    """Return the values of an axis from 0: round, and no closer than their labels allow."""
    parts = max(1, min(3, height // (2 * _ROW_HEIGHT)))
    step = next((s for s in _STEPS if s * parts >= most), -(-int(most) // parts))
    top = max(1, -(-int(-(-most // 1)) // step)) * step
    return list(range(0, top + 1, step))


def inline(values: Sequence[Mapping[str, Any]]) -> Any:
    """Return the data of a plot."""
    return alt.InlineData(values=tuple(values))  # Altair copies lists deeply, again and again


def ms(at: int) -> int:
    """Return an instant (ns) as charts take it."""
    return at // 1_000_000
