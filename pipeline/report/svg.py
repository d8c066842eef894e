"""An Altair specification as inline SVG: no script, a name for screen readers, ids of its own; and sparklines."""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Sequence
from typing import Any

import vl_convert as vlc

from pipeline.report.text import visible

SPARK_WIDTH, SPARK_HEIGHT = 144, 20
_TAG = re.compile(r"<[a-zA-Z/][^>]*>")
_NUMBER = re.compile(r"-?\d+\.\d+")
# what a page does not need: names of Vega's own for parts, fonts (the page's), attributes that say the default
_NOISE = re.compile(
    r' (?:class|aria-[a-z]+|role|xmlns(?::xlink)?|version|font-family|pointer-events|stroke-miterlimit)="[^"]*"'
    r'| (?:opacity|stroke-width)="1"| transform="translate\(0,0\)"'
)
_IDS = re.compile(r'(id="|url\(#|href="#)(?=clip|gradient)')
_NOTHING = re.compile(
    r'<g(?: transform="[^"]*")?>\s*</g>|<g/>|<path d="(?:M0,0h[\d.]+v[\d.]+h-?[\d.]+Z)?"(?: display="none")?/>'
)
_ALIKE = re.compile(r'<path d="([^"]*)"( fill="[^"]*")/>(?:<path d="[^"]*"\2/>)+')
_SHAPE = re.compile(r'd="([^"]*)"')


def to_svg(chart: Any, name: str) -> str:
    """Turn a chart into SVG with `name` as its accessible name: Vega's own titles and descriptions are none."""
    svg: str = vlc.vegalite_to_svg(chart.to_dict(validate=False))
    prefix = "c" + hashlib.sha256(f"{name}\0{svg}".encode()).hexdigest()[:8] + "-"
    svg = _TAG.sub(lambda m: _tag(m[0], prefix), svg)
    while _NOTHING.search(svg):
        svg = _NOTHING.sub("", svg)
    svg = _ALIKE.sub(lambda m: f'<path d="{"".join(_SHAPE.findall(m[0]))}"{m[2]}/>', svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(visible(name, None), quote=True)}" ', 1)


def _tag(tag: str, prefix: str) -> str:
    """Shorten a tag: what a page does not need goes, tenths of a pixel are enough; texts between tags stay as they are."""
    shorter = _NUMBER.sub(lambda m: _tenths(m[0]), _NOISE.sub("", tag))
    return _IDS.sub(lambda m: m[1] + prefix, shorter)


def _tenths(text: str) -> str:
    rounded = f"{float(text):.1f}".removesuffix(".0")
    return "0" if rounded == "-0" else rounded


def spark(values: Sequence[float | None], threshold: float | None, colour: str, most: float | None = None) -> str:
    """Draw windows of a day as small bars, unknown ones as a dashed box, a threshold dashed.

    Decoration beside its numbers, so hidden from readers, and so small that no chart library is needed.
    """
    top = most or max([*(v for v in values if v is not None), (threshold or 0) * 1.25, 1e-9])
    base, room = SPARK_HEIGHT - 1, SPARK_HEIGHT - 2
    step = SPARK_WIDTH / max(1, len(values))
    bars, boxes, since = [], [], None
    for i, v in enumerate([*values, 0.0]):
        x = i * step
        if v is None:
            since = x if since is None else since
            continue
        if since is not None:
            boxes.append(f'<path class="gap" d="M{_short(since)} 1.5H{_short(x)}V{base - 0.5}H{_short(since)}z"/>')
            since = None
        if v > 0:
            h = max(1.0, min(1.0, v / top) * room)
            bars.append(f"M{_short(x)} {_short(base - h)}h{_short(max(1.0, step - 0.3))}v{_short(h)}H{_short(x)}z")
    parts = [f'<path class="axis" d="M0 {base + 0.5}H{SPARK_WIDTH}"/>', *boxes]
    parts += [f'<path style="fill:var({colour})" d="{"".join(bars)}"/>'] if bars else []
    if threshold is not None:
        y = _short(max(0.5, base - min(1.0, threshold / top) * room))
        parts.append(f'<path class="limit" d="M0 {y}H{SPARK_WIDTH}"/>')
    size = f'viewBox="0 0 {SPARK_WIDTH} {SPARK_HEIGHT}" width="{SPARK_WIDTH}" height="{SPARK_HEIGHT}"'
    return f'<svg class="spark" {size} aria-hidden="true">{"".join(parts)}</svg>'


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
