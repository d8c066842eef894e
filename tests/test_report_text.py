"""How numbers, times and other people's text are written."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.report import text
from pipeline.report.rich import Rich, Span, advice, code, document, issue, joined, link, markdown, say
from pipeline.report.text import NBSP, md_code, md_text, visible
from tests.report_page import HIDDEN, read_markdown, texts_in_code
from tests.tables import DAY, at, ns, span

# what people who want to do harm would put into a log, and what happens to be in one
_PIECES = [
    "`",
    "``",
    "|",
    "\\",
    "<",
    "&lt;",
    "*",
    "_",
    "[",
    "](",
    "#1",
    "@x",
    "\n",
    "\r",
    "\x1b[31m",
    "\u202e",
    " ",
    "a",
]
NASTY = st.lists(st.sampled_from(_PIECES) | st.text(max_size=3), max_size=12).map("".join)


def test_control_and_bidirectional_characters_are_shown() -> None:
    assert visible("\x1b[31mred\x00\u202e\u2066txt\ufeff\ufffe\x9b") == (
        r"\x1b[31mred\x00\u202e\u2066txt\ufeff\ufffe\x9b"
    )
    assert visible("a\tb\r\nc\nd") == "a b ⏎ c ⏎ d"
    assert visible("\ud800 \U000e0041") == r"\ud800 \U000e0041"
    assert visible("Ошибка: файл не найден, naïve 日本 🎉") == "Ошибка: файл не найден, naïve 日本 🎉"


def test_a_line_is_cut_at_300_characters() -> None:
    assert visible("x" * 300) == "x" * 300
    assert visible("x" * 1_000_000) == "x" * 299 + "…"
    assert len(visible("\u202e" * 1_000_000)) <= 300
    assert visible("\x1b" * 1_000_000).endswith(r"\x1b…")


@given(NASTY)
def test_what_is_visible_stays_as_it_is(raw: str) -> None:
    shown = visible(raw)
    assert visible(shown) == shown
    assert not HIDDEN.search(shown)
    assert "\n" not in shown


@given(NASTY)
def test_text_does_not_leave_its_code_span_in_a_table(raw: str) -> None:
    tokens = read_markdown(f"| a | b | c |\n|---|---|---|\n| x | {md_code(raw)} | y |\n")
    cells = [t.content for t in tokens if t.type == "inline"]
    assert (cells[0], cells[3], cells[5], len(cells)) == ("a", "x", "y", 6)
    shown = texts_in_code(tokens)
    assert len(shown) == 1
    assert shown[0].strip() == visible(raw).strip()


@given(NASTY)
def test_our_own_words_are_never_markup(raw: str) -> None:
    tokens = read_markdown(f"| x {md_text(raw)} x |\n|---|\n")
    assert {t.type for t in tokens if t.type not in {"text", "code_inline", "inline", "softbreak"}} <= {
        *(f"{part}_{end}" for part in ("table", "thead", "tbody", "tr", "th") for end in ("open", "close"))
    }
    outside = "".join(t.content for t in tokens if t.type == "text")
    assert not re.search(r"@|#\d", outside)


@pytest.mark.parametrize(
    ("words", "written"),
    [
        ("see #205.", "see `#205`."),
        ("thanks @octocat", "thanks `@octocat`"),
        ("fixes owner/repo#1", "fixes `owner/repo#1`"),
        ("at https://x.example/y now", "at `https://x.example/y` now"),
        ("commit 0123456789abcdef0123456789abcdef01234567", "commit `0123456789abcdef0123456789abcdef01234567`"),
        ("a < b & c > d", "a \\< b \\& c \\> d"),
    ],
)
def test_what_would_link_or_notify_stands_in_code(words: str, written: str) -> None:
    assert md_text(words) == written


@pytest.mark.parametrize(
    ("ratio", "written"),
    [(0.9024, "90.2 %"), (1.0, "100 %"), (0.0, "0 %"), (0.9999, "> 99.9 %"), (0.0001, "< 0.1 %"), (1.9, "190 %")],
)
def test_only_a_whole_ratio_is_100_percent(ratio: float, written: str) -> None:
    assert text.percent(ratio).replace(NBSP, " ") == written


def test_a_ratio_is_told_from_its_limit() -> None:
    assert text.percent_beside(0.9896, 0.99) == f"98.96{NBSP}%"
    assert text.percent_beside(0.981, 0.99) == f"98.1{NBSP}%"
    assert text.percent_beside(0.99, 0.99) == f"99{NBSP}%"


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0.4, "0 s"), (22, "22 s"), (60, "1 min"), (434, "7 min 14 s"), (3600, "1 h"), (4404, "1 h 13 min")],
)
def test_durations(seconds: float, written: str) -> None:
    assert (text.duration(seconds) or "").replace(NBSP, " ") == written


def test_numbers() -> None:
    assert text.count(48213) == "48,213"
    assert text.count(9.5) == "9.5"
    assert text.signed(-15, "%") == f"−15{NBSP}%"
    assert text.signed(0.0) == "0"
    assert text.percents(0.061, 0.153) == "6.1–15.3"
    assert [f(None) for f in (text.count, text.duration, text.clock, text.signed)] == [None] * 4
    assert text.count(float("nan")) is None


def test_instants_of_other_days_carry_their_date() -> None:
    assert text.when(at("09:06:12.9"), DAY) == "09:06:12"
    assert text.when(ns("00:00", 1), DAY) == "24:00:00"
    assert text.when(at("12:05:31", 1), DAY) == "2026-02-27 12:05:31"
    assert text.minute("2026-02-26T09:06:12Z", DAY) == "09:06"
    assert text.between(span("10:14:12", "12:51:12"), DAY) == "10:14:12–12:51:12"


def test_a_delay_has_a_direction() -> None:
    words = ("{time} late", "{time} early", "at once")
    assert [text.signed_time(s, *words) for s in (22.4, -22, 0.2)] == [f"22{NBSP}s late", f"22{NBSP}s early", "at once"]


def test_a_sentence_keeps_its_parts() -> None:
    said = say("{alert} hit {issues}.", alert=code("A_B"), issues=joined([issue(205), issue(211)], ", "))
    assert isinstance(said, str)
    assert said == "A_B hit #205, #211."
    assert [s.kind for s in said.spans] == ["code", "text", "issue", "text", "issue", "text"]
    assert markdown(said) == "`A_B` hit #205, #211."
    assert markdown(Rich([Span("x", "unknown"), Span(" y", "strong")])) == "*x*** y**"
    assert markdown(link("14", "#failed")) == "14"


def test_advice_of_the_catalogue_shows_names_in_code() -> None:
    said = advice("Set CODEXK8S_KANIKO_CACHE_ENABLED=false, keep `--flag` out, see issue #205.")
    assert [s.text for s in said.spans if s.kind == "code"] == ["CODEXK8S_KANIKO_CACHE_ENABLED=false", "--flag"]
    assert markdown(said).endswith("see issue `#205`.")


def test_documents_are_links_where_their_address_is_known() -> None:
    here = document("https://example.com/docs/", "ops/a b.md", "Runbook")
    assert here == Span("Runbook", "link", "https://example.com/docs/ops/a%20b.md")
    assert document("", "ops/a.md", "Runbook") == Span("ops/a.md", "code")
    assert document("javascript:alert(1)", "ops/a.md", "Runbook") == Span("ops/a.md", "code")
    assert document("https://example.com", "", "Runbook") is None
