"""How tests read what the report wrote: a page's elements and texts, and Markdown's blocks as a Markdown reader has them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

# what neither form may hold: control characters but the line feed, and marks that reorder text
HIDDEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufffe\uffff]")
_VOID = {"meta", "link", "br", "img", "hr", "input", "base", "source", "col", "embed"}


@dataclass
class Element:
    """One element: its tag, attributes, the tags around it, and its own text."""

    tag: str
    attributes: dict[str, str]
    around: tuple[str, ...]
    hidden: bool
    text: str = ""


@dataclass
class Page(HTMLParser):
    """A page's elements in their order."""

    elements: list[Element] = field(default_factory=list)
    _open: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {k: v or "" for k, v in attrs}
        hidden = given.get("aria-hidden") == "true" or any(e.hidden for e in self._open)
        element = Element(tag, given, tuple(e.tag for e in self._open), hidden)
        self.elements.append(element)
        if tag not in _VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        if tag not in {"p", "li", "tr", "td", "th"}:
            assert self._open[-1].tag == tag, f"</{tag}> closes <{self._open[-1].tag}>"
        while self._open and self._open.pop().tag != tag:
            pass

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    def all(self, tag: str) -> list[Element]:
        """Return the elements of a tag."""
        return [e for e in self.elements if e.tag == tag]

    def charts(self) -> list[Element]:
        """Return the drawings that readers of the page are told of."""
        return [e for e in self.all("svg") if "svg" not in e.around and not e.hidden]


def read_page(text: str) -> Page:
    """Parse a page; what is not closed in order is an error."""
    page = Page()
    page.feed(text)
    page.close()
    return page


def read_markdown(text: str) -> list[Token]:
    """Parse Markdown with tables and raw HTML, as GitHub does; inline parts follow their block."""
    reader = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    out = []
    for block in reader.parse(text):
        out += [block, *(block.children or [])]
    return out


def words_outside_code(tokens: list[Token]) -> Iterator[str]:
    """Return what Markdown shows outside code."""
    return (t.content for t in tokens if t.type == "text")


def texts_in_code(tokens: list[Token]) -> list[str]:
    """Return what Markdown shows in code."""
    return [t.content for t in tokens if t.type in {"code_inline", "fence", "code_block"}]


def saved(folder: Path, text: str) -> Path:
    """Write a page for the browser."""
    path = folder / "report.html"
    path.write_text(text, encoding="utf-8")
    return path
