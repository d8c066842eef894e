"""Charts: one Altair specification each, turned into SVG by vl-convert; no script, colours from the page's palette.

A control character in any text aborts the process, so every text is made visible first. Each chart is made wide and
narrow, because text in a scaled SVG would be unreadable on a phone.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import vl_convert as vlc

from pipeline.model import NS, Window
from pipeline.report.text import clock, visible

WIDE, NARROW = 928, 358
_LEFT = 34
_HOUR_MS = 3_600_000
_NUMBER = re.compile(r"-?\d+\.\d{2,}")


@dataclass(frozen=True)
class Band:
    """Something that lasted: an incident, an alert, a hole; drawn solid, dashed or outlined."""

    start: int
    end: int
    label: str
    colour: str
    style: str = "solid"  # solid | dashed | outlined


def bars(
    title: str,
    rows: Sequence[Mapping[str, Any]],
    day: Window,
    bands: Sequence[Band],
    gaps: Sequence[Window],
    *,
    height: int,
    width: int,
    label: str,
) -> str:
    """Draw attempts finished per 15 min, failed at the bottom; `rows` have `start`, `failed`, `succeeded` (null: unknown)."""
    data = []
    for r in rows:
        low = 0
        for outcome, colour in (("failed", "var(--bad)"), ("succeeded", "var(--mark-ok)")):
            n = r[outcome] or 0
            if n:
                data.append(
                    {
                        "x": _ms(r["start"]) + 40_000,
                        "x2": _ms(r["start"]) + 860_000,
                        "y": low,
                        "y2": low + n,
                        "c": colour,
                    }
                )
                low += n
    most = max([d["y2"] for d in data], default=0)
    mark = alt.Chart(_data(data)).mark_rect(aria=False)
    shown = mark.encode(x=_time(day, width), x2="x2:Q", y=_up(most), y2="y2:Q", color=alt.Color("c:N", scale=None))
    return _svg(_layers([*_bands(bands), *_gaps(gaps, most or 1), shown], title, width, height), label)


def durations(
    title: str,
    builds: Sequence[Mapping[str, Any]],
    day: Window,
    bands: Sequence[Band],
    gaps: Sequence[Window],
    p95_s: float | None,
    *,
    width: int,
    label: str,
) -> str:
    """Draw a dot a build (`at` ns, `minutes`), and by the hour a band from median to maximum."""
    lengths = sorted(float(b["minutes"]) for b in builds)
    cap = max([2.0, *lengths[: max(1, round(len(lengths) * 0.99))]]) * 1.15 if lengths else 10.0
    hours: dict[int, list[float]] = {}
    for b in builds:
        hours.setdefault(b["at"] // (3600 * NS), []).append(b["minutes"])
    band = [
        {"x": h * _HOUR_MS, "x2": (h + 1) * _HOUR_MS, "y": _median(v), "y2": min(cap, max(v))}
        for h, v in hours.items()
        if len(v) > 2
    ]
    dots = [{"x": _ms(b["at"]), "y": min(b["minutes"], cap), "over": b["minutes"] > cap} for b in builds]
    x, y = _time(day, width), _up(cap)
    layers = [
        *_bands(bands),
        *_gaps(gaps, cap),
        alt.Chart(_data(band))
        .mark_rect(aria=False, color="var(--mark-latency)", opacity=0.18)
        .encode(x=x, x2="x2:Q", y=y, y2="y2:Q"),
        alt.Chart(_data(band))
        .mark_rule(aria=False, color="var(--mark-latency)", strokeWidth=1.5)
        .encode(x=x, x2="x2:Q", y=y),
        alt.Chart(_data([d for d in dots if not d["over"]]))
        .mark_circle(aria=False, color="var(--mark-latency)", size=9, opacity=0.8)
        .encode(x=x, y=y),
        alt.Chart(_data([d for d in dots if d["over"]]))
        .mark_point(aria=False, shape="triangle-up", filled=True, color="var(--mark-latency)", size=30)
        .encode(x=x, y=y),
    ]
    if p95_s is not None:
        line = [{"x": _ms(day.start), "y": p95_s / 60}]
        layers.append(
            alt.Chart(_data(line)).mark_rule(aria=False, color="var(--mark-latency)", strokeDash=[4, 3]).encode(y=y)
        )
    return _svg(_layers(layers, title, width, 84), label)


def lanes(bands: Sequence[Band], day: Window, *, width: int, label: str) -> str:
    """Draw incidents and alerts as one lane each, the label at the bar's end."""
    data: list[dict[str, Any]] = []
    texts: list[dict[str, Any]] = []
    for i, b in enumerate(bands):
        start, end = max(b.start, day.start), min(b.end, day.end)
        outline = b.style != "solid"
        data.append(
            {
                "x": _ms(start),
                "x2": max(_ms(end), _ms(start) + 300_000),
                "row": i,
                "row2": i + 0.62,
                "fill": "transparent" if outline else b.colour,
                "stroke": b.colour,
                "dash": [3, 2] if b.style == "dashed" else [1, 0],
            }
        )
        late = start > day.start + day.length * 6 // 10
        texts.append(
            {
                "x": _ms(start) - 200_000 if late else max(_ms(end), _ms(start) + 300_000) + 200_000,
                "row": i + 0.34,
                "text": visible(b.label),
                "late": late,
            }
        )
    scale = alt.Scale(domain=[0, max(1, len(bands))], reverse=True, nice=False)
    y = alt.Y("row:Q", scale=scale, axis=None)
    x = alt.X("x:Q", scale=_domain(day), axis=None)
    boxes = [
        alt.Chart(_data([d]))
        .mark_rect(aria=False, strokeDash=list(d["dash"]))
        .encode(
            x=x,
            x2="x2:Q",
            y=y,
            y2="row2:Q",
            color=alt.Fill("fill:N", scale=None),
            stroke=alt.Stroke("stroke:N", scale=None),
        )
        for d in data
    ]
    words = [
        alt.Chart(_data([t for t in texts if t["late"] == late]))
        .mark_text(aria=False, align="right" if late else "left", baseline="middle", color="var(--ink)", fontSize=11)
        .encode(x=x, y=y, text="text:N")
        for late in (False, True)
    ]
    chart = alt.layer(*boxes, *words).properties(
        width=width - _LEFT - 14, height=16 * max(1, len(bands)), view=alt.ViewConfig(stroke=None)
    )
    return _svg(chart, label, left=_LEFT - 6)


def spark(values: Sequence[float | None], threshold: float | None, colour: str) -> str:
    """Draw 96 windows as small bars, unknown ones as a grey box, the threshold dashed; decoration, so hidden from readers."""
    most = max([v for v in values if v is not None], default=0)
    top = max(most, (threshold or 0) * 1.25, 1e-9)
    step = 144 / max(1, len(values))
    out = []
    for i, v in enumerate(values):
        if v is None:
            out.append(f'<rect x="{i * step:.1f}" y="1" width="{step:.1f}" height="18" fill="var(--grey-ground)"/>')
        elif v > 0:
            h = max(1.0, v / top * 18)
            out.append(
                f'<rect x="{i * step:.1f}" y="{19 - h:.1f}" width="{max(1, step - 0.4):.1f}" height="{h:.1f}" fill="{colour}"/>'
            )
    if threshold is not None:
        y = 19 - threshold / top * 18
        out.append(f'<path d="M0 {y:.1f}H144" stroke="var(--bad)" stroke-dasharray="2 2" fill="none"/>')
    return f'<svg class="spark" viewBox="0 0 144 20" width="144" height="20" aria-hidden="true"><path d="M0 19.5H144" stroke="var(--axis)"/>{"".join(out)}</svg>'


def _data(values: Sequence[Mapping[str, Any]]) -> Any:
    return alt.InlineData(values=list(values))


def _median(values: Sequence[float]) -> float:
    ordered, n = sorted(values), len(values)
    return (ordered[(n - 1) // 2] + ordered[n // 2]) / 2


def _ms(at: int) -> int:
    return at // 1_000_000


def _domain(day: Window) -> alt.Scale:
    return alt.Scale(type="utc", domain=[_ms(day.start), _ms(day.end)], nice=False)


def _time(day: Window, width: int) -> alt.X:
    hours = 3 if width > NARROW else 6
    ticks = [_ms(day.start) + h * _HOUR_MS for h in range(0, day.length // (3600 * NS) + 1, hours)]
    axis = alt.Axis(
        values=ticks,
        format="%H:%M",
        title=None,
        grid=False,
        labelFlush=True,
        domainColor="var(--axis)",
        tickColor="var(--axis)",
        labelColor="var(--muted)",
    )
    return alt.X("x:T", scale=_domain(day), axis=axis)


def _up(most: float) -> alt.Y:
    axis = alt.Axis(
        title=None,
        tickCount=3,
        format="d",
        gridColor="var(--rule)",
        domain=False,
        ticks=False,
        labelColor="var(--muted)",
        minExtent=_LEFT - 6,
        maxExtent=_LEFT - 6,
    )
    return alt.Y("y:Q", scale=alt.Scale(domain=[0, max(1, most)], nice=True), axis=axis)


def _bands(bands: Sequence[Band]) -> list[Any]:
    data = [{"x": _ms(b.start), "x2": _ms(b.end), "c": b.colour} for b in bands]
    if not data:
        return []
    mark = alt.Chart(_data(data)).mark_rect(aria=False, opacity=0.16)
    return [mark.encode(x=alt.X("x:T"), x2="x2:T", color=alt.Color("c:N", scale=None))]


def _gaps(gaps: Sequence[Window], most: float) -> list[Any]:
    if not gaps:
        return []
    data = [
        {"x": _ms(g.start), "x2": _ms(g.end), "y": 0, "y2": max(1, most), "text": f"no data {clock(g.start)}"}
        for g in gaps
    ]
    box = alt.Chart(_data(data)).mark_rect(
        aria=False, color="var(--grey-ground)", stroke="var(--grey)", strokeDash=[3, 2]
    )
    return [box.encode(x="x:T", x2="x2:T", y="y:Q", y2="y2:Q")]


def _layers(layers: Sequence[Any], title: str, width: int, height: int) -> Any:
    heading = alt.TitleParams(
        visible(title), anchor="start", fontSize=12, fontWeight="bold", color="var(--ink)", offset=6
    )
    return alt.layer(*layers).properties(width=width - _LEFT - 14, height=height, title=heading)


def _svg(chart: Any, label: str, left: int = 0) -> str:
    """Turn a chart into SVG with a name for screen readers and ids of its own."""
    plain: dict[str, Any] = {
        "view": {"stroke": None},
        "font": "inherit",
        "background": "transparent",
        "padding": {"left": left, "right": 8, "top": 2, "bottom": 2},
    }
    spec = chart.configure(**plain).to_dict(validate=False)
    svg = vlc.vegalite_to_svg(spec)
    prefix = f"c{abs(hash_text(label + svg)) % 10**8}-"
    svg = re.sub(r'(id="|url\(#|href="#)(clip|gradient)', rf"\1{prefix}\2", svg)
    svg = _NUMBER.sub(lambda m: f"{float(m[0]):.1f}".removesuffix(".0"), svg)
    svg = re.sub(r' (?:class="marks"|aria-[a-z]+="[^"]*"|role="[^"]*"|xmlns:xlink="[^"]*")', "", svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(visible(label), quote=True)}" ', 1)


def hash_text(text: str) -> int:
    """Return a hash that is the same in every process."""
    value = 0
    for c in text:
        value = (value * 131 + ord(c)) % (2**61 - 1)
    return value
