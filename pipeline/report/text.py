r"""How numbers, instants and other people's text are written: the same in both forms and in every language.

`visible` shows control and bidirectional characters as `\x1b`, `\u202e`. `md_code` and `md_text` are the only two ways
in which text gets into Markdown.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from pipeline.model import NS, Window, instant_of, instant_text

NBSP = "\u00a0"
MIN_PERCENT, MIN_P95 = 5, 20  # below so many a percentage, or a p95, would only look exact
MOST = 300  # characters that are shown of a line
_LAST_OF_PLANES = "".join(f"\\U{p:04x}fffe\\U{p:04x}ffff" for p in range(1, 17))
# what controls, hides or reorders text, and what is no character at all; the line feed apart
_HIDDEN = (
    r"\x00-\x09\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    r"\u2060-\u206f\u3164\ud800-\udfff\ufdd0-\ufdef\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff\U000e0000-\U000e0fff"
)
_UNSEEN = re.compile(f"[{_HIDDEN}{_LAST_OF_PLANES}]")
_ODD = re.compile(f"[\n{_HIDDEN}{_LAST_OF_PLANES}]")
_LATIN, _BASIC = 0x100, 0x10000
_TICKS = re.compile(r"`+")
_MARKUP = re.compile(r"([\\`*_\[\]<>|~&])")
ESCAPED = re.compile(r"\\([\\`*_\[\]<>|~&])")  # what `md_text` and `md_code` write in place of group 1
# what GitHub would make a link or a notification of, wherever it stands outside code
_LIVE = re.compile(
    r"\S*@[\w./-]*|[\w./-]*#\d+|(?:[\w.]*-)?\b[0-9a-f]{40}\b|(?i:\bGH-\d+|\b(?:(?:https?|ftp)://|www\.)\S+)"
)


def visible(text: Any, most: int | None = MOST) -> str:
    r"""Show control and bidirectional characters as `\x1b`, `\u202e`; one line of at most `most` characters."""
    raw = str(text)
    if (most is None or len(raw) <= most) and not _ODD.search(raw):
        return raw
    line = raw if most is None else raw[: most + 1]
    pieces = [_shown(c) for c in line.replace("\r\n", "\n")]
    if most is None or sum(map(len, pieces)) <= most:
        return "".join(pieces)
    while sum(map(len, pieces)) >= most:
        pieces.pop()
    return "".join(pieces) + "…"


def harmless(text: str) -> str:
    """Show control and bidirectional characters of a longer text, whose lines and length stay."""
    return _UNSEEN.sub(lambda m: _shown(m[0]), text)


def _shown(c: str) -> str:
    if c in "\n\t":
        return " ⏎ " if c == "\n" else " "
    if not _UNSEEN.match(c):
        return c
    at = ord(c)
    return f"\\x{at:02x}" if at < _LATIN else f"\\u{at:04x}" if at < _BASIC else f"\\U{at:08x}"


def md_code(text: Any) -> str:
    """Put text into a Markdown code span that it cannot leave, also inside a table."""
    body = visible(text).replace("|", "\\|")
    fence = "`" * (max((len(r) for r in _TICKS.findall(body)), default=0) + 1)
    pad = " " if body[:1] in {"`", " ", ""} or body[-1:] in {"`", " "} else ""
    return f"{fence}{pad}{body}{pad}{fence}"


def md_fence(lines: Sequence[Any]) -> str:
    """Put lines into a Markdown fence that they cannot leave."""
    body = [visible(line) for line in lines]
    longest = max((len(r) for line in body for r in _TICKS.findall(line)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([f"{fence}text", *body, fence])


def md_text(text: Any) -> str:
    """Write our own words in Markdown: nothing in them is markup, and what would link or notify stands in code."""
    out, at = [], 0
    words = visible(text, None)
    for m in _LIVE.finditer(words):
        out += [_MARKUP.sub(r"\\\1", words[at : m.start()]), md_code(m[0])]
        at = m.end()
    return "".join([*out, _MARKUP.sub(r"\\\1", words[at:])])


def unknown(value: Any) -> bool:
    """Tell whether a value is not known."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def count(value: Any) -> str | None:
    """Write a number with thousands, None for unknown; only a median of counts has a half."""
    if unknown(value):
        return None
    return f"{value:,.1f}" if float(value) % 1 else f"{int(value):,}"


def duration(seconds: Any) -> str | None:
    """Write seconds as `7 min 14 s`, `1 h 13 min`, None for unknown."""
    if unknown(seconds):
        return None
    whole = round(float(seconds))
    hours, minutes, secs = whole // 3600, whole % 3600 // 60, whole % 60
    if hours:
        return f"{hours}{NBSP}h" + (f" {minutes:02d}{NBSP}min" if minutes else "")
    if minutes:
        return f"{minutes}{NBSP}min" + (f" {secs:02d}{NBSP}s" if secs else "")
    return f"{secs}{NBSP}s"


def number(value: float, digits: int = 1) -> str:
    """Write a number with at most so many decimals."""
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent(ratio: float, digits: int = 1) -> str:
    """Write a ratio as a percentage; only a whole one is 100 %, only nothing is 0 %."""
    shown = round(ratio * 100, digits)
    step = 10.0**-digits
    if shown <= 0 < ratio:
        return f"<{NBSP}{number(step, digits)}{NBSP}%"
    if ratio < 1 <= shown / 100:
        return f">{NBSP}{number(100 - step, digits)}{NBSP}%"
    return f"{number(shown, digits)}{NBSP}%"


def percent_beside(ratio: float, limit: float) -> str:
    """Write a ratio with as many decimals as it takes to tell it from a limit that it is held against."""
    digits = next((d for d in (1, 2, 3) if round(ratio * 100, d) != round(limit * 100, d)), 1)
    return percent(ratio, digits)


def percents(low: float, high: float) -> str:
    """Write an interval of ratios as `84.7–93.9`."""
    return f"{number(low * 100)}–{number(high * 100)}"


def signed(value: float | None, unit: str = "") -> str | None:
    """Write a change with its sign, a true minus among them."""
    if value is None:
        return None
    text = number(abs(value))
    sign = "" if text == "0" else "+" if value > 0 else "−"
    return f"{sign}{text}{NBSP + unit if unit else ''}"


def instant(value: Any) -> int | None:
    """Return an instant in ns, whatever it is given as."""
    if value is None or value != value:  # noqa: PLR0124 - NaT and NaN differ from themselves
        return None
    if isinstance(value, str):
        return instant_of(value)
    return int(getattr(value, "value", value))


def clock(value: Any) -> str | None:
    """Write an instant (ns, RFC 3339 or a Timestamp) as `09:06:12`, None for unknown."""
    at = instant(value)
    return None if at is None else instant_text(at // NS * NS)[11:19]


def when(value: Any, day: Window) -> str | None:
    """Write an instant as `09:06:12`, with its date where that is not the report's; midnight after it is `24:00:00`."""
    at = instant(value)
    if at is None:
        return None
    if at == day.end:
        return "24:00:00"
    return clock(at) if at in day else f"{instant_text(at)[:10]} {clock(at)}"


def minute(value: Any, day: Window) -> str | None:
    """Write an instant as `09:06`, as `when` does."""
    text = when(value, day)
    return text and text[:-3]


def between(window: Window, day: Window) -> str:
    """Write an interval as `10:14:12–12:51:12`."""
    return f"{when(window.start, day)}–{when(window.end, day)}"


def between_minutes(window: Window, day: Window) -> str:
    """Write an interval as `10:14–12:51`."""
    return f"{minute(window.start, day)}–{minute(window.end, day)}"


def signed_time(seconds: float, late: str, early: str, at_once: str) -> str:
    """Write a delay in words that are given: `1 min 59 s late`."""
    whole = round(seconds)
    return (late if whole > 0 else early).format(time=duration(abs(whole))) if whole else at_once
