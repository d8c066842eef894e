"""Sentences whose parts know what they are: words, code, an issue, a link; each form writes them in its own way.

A sentence is made from a template of `{names}` and values, so that another language can put them in another order.
"""

from __future__ import annotations

import re
import string
import urllib.parse
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from pipeline.report.text import md_code, md_text, visible

_NAMES = re.compile(r"`([^`]+)`|\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+(?:=[\w.-]*\w)?")
_MARKS = {"strong": "**{}**", "unknown": "*{}*"}
_WEB = ("https://", "http://")
_ADDRESS = ":/?=&%#~+,@-._"  # what stands in one as it is
_FORMATTER = string.Formatter()


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a sentence: `text`, `code`, `strong`, `issue`, `unknown`, or a `link` to `target` (anchor or address).

    A `name` is one that users give, such as a signature's: words on the page, code in Markdown.
    """

    text: str
    kind: str = "text"
    target: str = ""


class Rich(str):
    """A sentence: as a string plain words, with its parts in `spans`."""

    __slots__ = ("spans",)
    spans: tuple[Span, ...]

    def __new__(cls, spans: Iterable[Span]) -> Self:
        """Join parts."""
        parts = tuple(s for s in spans if s.text)
        made = super().__new__(cls, "".join(s.text for s in parts))
        made.spans = parts
        return made


def code(text: object) -> Span:
    """Return text that a log, a comment or a settings file wrote, to be shown in code."""
    return Span(visible(text), "code")


def issue(number: int) -> Span:
    """Return the mention of an issue of the report."""
    return Span(f"#{number}", "issue")


def link(text: str, target: str) -> Span:
    """Return a link to an anchor of the page (`#failed`) or to an address of our own settings."""
    return Span(text, "link", target)


def say(template: str, **values: object) -> Rich:
    """Fill a template; values are words unless they are parts already."""
    spans: list[Span] = []
    for words, name, _, _ in _FORMATTER.parse(template):
        spans.append(Span(words))
        if name is not None:
            value = values[name]
            if isinstance(value, Rich):
                spans += value.spans
            else:
                spans.append(value if isinstance(value, Span) else Span(visible(value, None)))
    return Rich(spans)


def joined(parts: Iterable[str | Span], by: str) -> Rich:
    """Join sentences or parts by words between them."""
    out: list[Span] = []
    for p in parts:
        out += [Span(by)] if out else []
        out += p.spans if isinstance(p, Rich) else [p if isinstance(p, Span) else Span(visible(p, None))]
    return Rich(out)


def advice(text: str) -> Rich:
    """Read a sentence of the catalogue: names in capitals, and what stands between backticks, are code."""
    out, at = [], 0
    for m in _NAMES.finditer(text):
        out += [Span(visible(text[at : m.start()], None)), code(m[1] or m[0])]
        at = m.end()
    return Rich([*out, Span(visible(text[at:], None))])


def marked(text: Rich) -> str:
    """Write a sentence as `advice` reads it: what is code between backticks, everything else as plain words."""
    ticked = (f"`{s.text.replace('`', chr(39))}`" if s.kind in {"code", "name"} else s.text for s in text.spans)
    return "".join(ticked)


def document(base: str, path: str, name: str) -> Span | None:
    """Return the link to one of the house's documents: without a base address its path, None without a path."""
    if not path:
        return None
    to = address(f"{base.rstrip('/')}/{path}")
    return link(name, to) if to else code(path)


def address(url: str) -> str | None:
    """Return a web address as a link may carry it; None for what is none."""
    return urllib.parse.quote(url, safe=_ADDRESS) if url.startswith(_WEB) else None


def markdown(text: str | Span) -> str:
    """Write a sentence, or a part of one, in Markdown."""
    if isinstance(text, Span):
        return _markdown(text)
    return "".join(_markdown(s) for s in text.spans) if isinstance(text, Rich) else md_text(text)


def _markdown(s: Span) -> str:
    if s.kind in {"code", "name"}:
        return md_code(s.text)
    if s.kind == "issue":
        return s.text
    if s.kind in _MARKS:
        return _MARKS[s.kind].format(md_text(s.text))
    if s.kind == "link" and not s.target.startswith("#"):
        return f"[{md_text(s.text)}](<{s.target}>)"
    return md_text(s.text)
