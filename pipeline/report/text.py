"""How numbers, instants and other people's text are written; the same in both forms and in every language."""

from __future__ import annotations

import math
import re
from typing import Any

from pipeline.model import NS, instant_of, instant_text

NBSP = "\u00a0"
_CONTROL = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff0-\uffff\ud800-\udfff]"
)
_MOST = 300
MIN_PERCENT, MIN_P95 = 5, 20


def visible(text: Any) -> str:
    r"""Show control and bidirectional characters as `\x1b`, `\u202e`; one line of at most 300 characters."""
    line = str(text).replace("\r\n", "\n").replace("\n", " ⏎ ").replace("\t", " ")
    cut = line if len(line) <= _MOST else line[: _MOST - 1] + "…"
    return _CONTROL.sub(lambda m: f"\\x{ord(m[0]):02x}" if ord(m[0]) < 256 else f"\\u{ord(m[0]):04x}", cut)  # noqa: PLR2004


def code(text: Any) -> str:
    """Put text into a Markdown code span that it cannot leave, also inside a table."""
    body = visible(text).replace("|", "\\|")
    fence = "`" * (max((len(r) for r in re.findall(r"`+", body)), default=0) + 1)
    pad = " " if body[:1] in {"`", " ", ""} or body[-1:] in {"`", " "} else ""
    return f"{fence}{pad}{body}{pad}{fence}"


_MARKUP = re.compile(r"([\\`*_\[\]<>|~])")


def plain(text: Any) -> str:
    """Write our own words in Markdown: nothing in them is markup, mentions nobody and links nothing but `#N` of ours."""
    return _MARKUP.sub(r"\\\1", visible(text)).replace("@", "@&#8203;")


def count(value: Any) -> str | None:
    """Write a whole number with thousands, None for unknown."""
    return None if unknown(value) else f"{int(value):,}"


def unknown(value: Any) -> bool:
    """Tell whether a value is not known."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def duration(seconds: Any) -> str | None:
    """Write seconds as `7 min 14 s`, `1 h 13 min`, None for unknown."""
    if unknown(seconds):
        return None
    whole = round(float(seconds))
    hours, minutes, secs = whole // 3600, whole % 3600 // 60, whole % 60
    if hours:
        return f"{hours}{NBSP}h {minutes:02d}{NBSP}min"
    return f"{minutes}{NBSP}min {secs:02d}{NBSP}s" if minutes else f"{secs}{NBSP}s"


def percent(ratio: float, digits: int = 1) -> str:
    """Write a ratio as a percentage."""
    return f"{ratio * 100:.{digits}f}{NBSP}%"


def share(k: Any, n: Any) -> str | None:
    """Write `16 of 164 · 9.8 % [6.1-15.3]`; no percentage under n = 5, where it would only look exact."""
    if unknown(k) or unknown(n):
        return None
    text = f"{int(k):,} of {int(n):,}"
    interval = wilson(int(k), int(n))
    if int(n) < MIN_PERCENT or interval is None:
        return text
    return f"{text} · {percent(k / n)} [{interval[0] * 100:.1f}–{interval[1] * 100:.1f}]"


def wilson(k: int, n: int, z: float = 1.959963984540054) -> tuple[float, float] | None:
    """Return the 95 % Wilson score interval (Wilson 1927), None for n = 0."""
    if not n:
        return None
    p, zz = k / n, z * z
    middle, half = p + zz / (2 * n), z * math.sqrt(p * (1 - p) / n + zz / (4 * n * n))
    return max(0.0, (middle - half) / (1 + zz / n)), min(1.0, (middle + half) / (1 + zz / n))


def clock(value: Any) -> str | None:
    """Write an instant (ns, RFC 3339 or a Timestamp) as `09:06:12`, None for unknown."""
    at = instant(value)
    return None if at is None else instant_text(at // NS * NS)[11:19]


def minute(value: Any) -> str | None:
    """Write an instant as `09:06`."""
    text = clock(value)
    return text and text[:5]


def instant(value: Any) -> int | None:
    """Return an instant in ns, whatever it is given as."""
    if value is None or value != value:  # noqa: PLR0124 - NaT and NaN differ from themselves
        return None
    if isinstance(value, str):
        return instant_of(value)
    return int(getattr(value, "value", value))


def signed(value: float | None, unit: str = "") -> str | None:
    """Write a change with its sign, a true minus among them."""
    if value is None:
        return None
    text = f"{abs(value):,.1f}".removesuffix(".0")
    sign = "+" if value > 0 else "−" if value < 0 else ""
    return f"{sign}{text}{NBSP + unit if unit else ''}"
