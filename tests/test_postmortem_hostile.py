"""The evidence quotes logs, comments and events at length: all of it is shown, none of it obeyed."""

from __future__ import annotations

import dataclasses
import re
from functools import cache

import pytest

from pipeline.cases import Entry
from pipeline.report.postmortem.data import Excerpt, PostmortemData, Shown
from pipeline.report.text import visible
from tests.postmortem_data import ISSUE, rendered, told
from tests.report_data import DOCS
from tests.report_page import HIDDEN, read_markdown, read_page, texts_in_code, words_outside_code
from tests.test_report_hostile import MARK, TEXTS, hostile

COMMENTS = "https://github.com/codex-k8s/"


@cache
def evidence() -> PostmortemData:
    """Return the evidence on the hostile day, with excerpts, rollouts and apps that are hostile too."""
    day = hostile()
    cases = day.incidents.assign(recovered_by=[TEXTS[i] for i in range(len(day.incidents))])
    made = told(dataclasses.replace(day, incidents=cases))
    return dataclasses.replace(
        made,
        excerpts=[_quoted(e, i) for i, e in enumerate(made.excerpts)],
        timeline=[_said(e, i) for i, e in enumerate(made.timeline)],
    )


def _quoted(e: Excerpt, n: int) -> Excerpt:
    lines = [Shown(e.first + i, TEXTS[n], text, i % 2 == 0) for i, text in enumerate(TEXTS[n * 8 : n * 8 + 12])]
    return dataclasses.replace(e, app=TEXTS[n + 1], shown=[lines])


def _said(e: Entry, n: int) -> Entry:
    if e.source == "comment":
        return dataclasses.replace(e, of=f"javascript:alert(1)//{MARK}")
    about = {k: TEXTS[n % len(TEXTS)] if k in {"job", "object", "signature"} else v for k, v in e.about.items()}
    return dataclasses.replace(e, of=e.of and TEXTS[(n + 3) % len(TEXTS)], about=about)


@cache
def files() -> dict[str, str]:
    return rendered(evidence())


def test_the_page_shows_hostile_text_and_obeys_none() -> None:
    page = read_page(files()["report.html"])
    assert not {e.tag for e in page.elements} & {"script", "img", "iframe", "object", "link", "base", "form"}
    assert len(page.all("h1")) == 1
    for e in page.elements:
        assert not any(name.startswith("on") for name in e.attributes), e
        assert not any(MARK in v for k, v in e.attributes.items() if k not in {"aria-label", "href"}), e
    links = [e.attributes["href"] for e in page.all("a")]
    assert all(x.startswith(("#", DOCS + "/", COMMENTS)) for x in links)


def test_markdown_shows_hostile_text_only_in_code() -> None:
    tokens = read_markdown(files()["report.md"])
    outside = list(words_outside_code(tokens))
    assert [w for w in outside if MARK in w] == []
    assert [w for w in outside if re.search(r"@|https?:|www\.|\b[0-9a-f]{40}\b", w)] == []
    html = {t.content.strip() for t in tokens if t.type in {"html_block", "html_inline"}}
    assert all(re.fullmatch(r"</?details>|<details><summary>[^<]*</summary>|</?summary>", h) for h in html), html
    assert sum(1 for t in tokens if t.type == "heading_open") == 12
    assert [t for t in tokens if t.type == "heading_open" and t.tag not in {"h1", "h2"}] == []
    links = [str(t.attrs["href"]) for t in tokens if t.type == "link_open"]
    assert all(x.startswith((DOCS + "/", COMMENTS)) for x in links)
    fences = "\n".join(t.content for t in tokens if t.type == "fence")
    assert visible(TEXTS[0]) in fences
    assert list(texts_in_code(tokens))
    issues = {ISSUE} | {int(i) for i in evidence().base.failures["issue"].dropna()}
    assert {int(n) for w in outside for n in re.findall(r"#(\d+)", w)} <= issues


@pytest.mark.parametrize("name", ["report.md", "report.html", "summary.json"])
def test_nothing_hides(name: str) -> None:
    text = files()[name]
    assert not HIDDEN.search(text)
    text.encode("utf-8")


def test_huge_lines_do_not_make_a_huge_page() -> None:
    assert len(files()["report.html"]) < 400_000
