"""The comment on an issue: what it says, how it is kept small, and that text of logs in it is shown and never obeyed."""

from __future__ import annotations

import difflib
import itertools
import os
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cmarkgfm
import pytest
from cmarkgfm.cmark import Options
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import RefusedError
from pipeline.report.comment import LEAST_USEFUL_FIRST, LIMIT, is_of, is_untouched
from pipeline.report.text import visible
from tests.comment_data import Summary, comment, daily, postmortem
from tests.report_page import HIDDEN, read_markdown, texts_in_code, words_outside_code
from tests.test_report_hostile import MARK, TEXTS
from tests.world.oddities import HOSTILE

GOLDEN = Path(__file__).parent / "golden" / "comment"
ALLOWED = {
    *("h2", "h3", "p", "blockquote", "strong", "em", "code", "pre", "sub", "details", "summary", "a"),
    *("table", "thead", "tbody", "tr", "th", "td", "ol", "ul", "li"),
}
LIVE = re.compile(r"@[\w-]|#\d|(?i:\bGH-\d)|\b[0-9a-f]{40}\b|(?i:\b(?:https?|ftp)://|\bwww\.)")
REPORTS: dict[str, Callable[[], Summary]] = {
    "daily-red": lambda: daily("red"),
    "daily-green": lambda: daily("green"),
    "daily-grey": lambda: daily("grey"),
    "postmortem": postmortem,
    "postmortem-ru": lambda: postmortem(lang="ru"),
}


class Shown(HTMLParser):
    """What GitHub's own parser makes of a comment: its tags, its links, and what stands outside code."""

    def __init__(self, body: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.outside: list[str] = []
        self.open: list[str] = []
        self.at_end: list[str] = []
        self.feed(cmarkgfm.github_flavored_markdown_to_html(body, Options.CMARK_OPT_UNSAFE))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "sub":
            self.at_end = list(self.open)
        self.open.append(tag)
        self.links += [str(v) for k, v in attrs if k in {"href", "src"}]
        assert not [k for k, _ in attrs if k not in {"href", "open", "align", "lang"}]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"code", "pre"} & set(self.open):
            self.outside.append(data)


@pytest.mark.parametrize("name", REPORTS)
def test_a_comment_is_as_it_was(name: str) -> None:
    path, text = GOLDEN / f"{name}.md", comment(REPORTS[name]()).body
    if os.environ.get("AISLOT_UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    lines = difflib.unified_diff(before.splitlines(), text.splitlines(), str(path), "now", lineterm="", n=1)
    assert before == text, "set AISLOT_UPDATE_GOLDEN=1 to accept:\n" + "\n".join(lines)


def test_the_first_line_says_what_the_comment_is_of_and_whether_it_was_changed() -> None:
    made = comment(postmortem())
    assert (made.kind, made.key) == ("postmortem", "205")
    assert re.fullmatch(r"<!-- aislot:postmortem 205 [0-9a-f]{16} -->", made.body.splitlines()[0])
    assert is_of(made.body, "postmortem", "205")
    assert not is_of(made.body, "postmortem", "20")
    assert not is_of(made.body, "daily", "205")
    assert not is_of(f"x {made.body}", "postmortem", "205")
    assert is_untouched(made.body)
    assert is_untouched(made.body.replace("\n", "\r\n").strip())
    assert not is_untouched(made.body.replace("11 of 21", "12 of 21"))
    assert not is_untouched("<!-- aislot:postmortem 205 -->\n\nx")
    assert comment(daily()).body.startswith("<!-- aislot:daily 2026-02-26 ")


def test_what_makes_no_other_figures_makes_no_other_comment() -> None:
    assert comment(postmortem(made_at="2026-03-01T00:00:00Z")) == comment(postmortem())


def test_unknown_is_said_and_never_zero() -> None:
    nothing: Summary = dict.fromkeys(postmortem())
    nothing |= {k: postmortem()[k] for k in ("report", "lang", "issue", "window")}
    impact = dict.fromkeys(postmortem()["impact"])
    case = {"class": "cache", "times": {}} | dict.fromkeys(
        ["mttr_s", "failed_attempts", "runs", "page", "detection_delay_s"]
    )
    body = comment(nothing | {"impact": impact, "key_times": [case], "failures": [{}], "alert_audit": [{}]}).body
    assert body.count("*not known*") >= 20
    assert not re.search(r"(?<![\w.:#-])0(?![\w.:-])", body.partition("\n")[2])
    assert not re.search(r"None|No incident|No source|Nothing needs", body)


@pytest.mark.parametrize(
    ("why", "said"),
    [
        ("none", "*not known: no comment by a person names one of its runs*"),
        ("off", "*not known: its source is not configured*"),
        ("watched", "*not known: not proven yet: watched until 2026-02-27 12:05:31*"),
        (None, "*not known*"),
    ],
)
def test_why_something_is_unknown_stands_beside_it(why: str | None, said: str) -> None:
    report = postmortem()
    report["key_times"][0]["times"]["first_mention"] = {"at": None, "why": why}
    assert f"| first mention in the issue | {said} | 11:02:15 |" in comment(report).body


def test_a_figure_of_which_not_all_is_known_is_a_lower_bound() -> None:
    impact = postmortem()["impact"] | {"unlinked": 2, "untimed": 1}
    body = comment(postmortem(impact=impact)).body
    assert "**at least 11 of 21 runs** hit" in body
    assert "**at least 44 min 08 s** of build time" in body


def test_a_recovery_that_took_longer_than_its_limit_is_marked() -> None:
    row = next(line for line in comment(postmortem()).body.splitlines() if "MTTR" in line)
    assert row == "| **MTTR, limit 30 min** | ✓ 27 min 41 s | ✕ **1 h 13 min** |"


def test_signatures_of_the_same_lines_share_an_excerpt() -> None:
    body = comment(postmortem()).body
    assert "\n`cache-retrieval`, `manifest-unknown`, 42 lines from 09:06:11 to 09:31:08 UTC, in" in body
    assert "What the logs say: 3 signatures" in body
    assert body.count("09:06:11.600 wait kaniko job") == 1


def test_a_confirmed_postmortem_says_so() -> None:
    body = comment(postmortem(state="confirmed")).body
    assert "> [!TIP]\n> **Confirmed, revision 3.**" in body
    assert "watch ended 2026-02-27 12:05 UTC" in body


def test_both_languages_have_the_same_numbers_and_structure() -> None:
    english, russian = (comment(postmortem(lang=lang)).body for lang in ("en", "ru"))
    for pattern in (r"\d{2}:\d{2}:\d{2}", r"\d+(?:\.\d+)? %", r"^#+ |^\||^<details|^```", r"#\d+"):
        assert re.findall(pattern, english, re.MULTILINE) == re.findall(pattern, russian, re.MULTILINE), pattern


def test_the_russian_comment_has_no_english_sentence() -> None:
    outside = " ".join(words_outside_code(read_markdown(comment(postmortem("ru")).body)))
    terms = "UTC MTTR SLO ALERTS IMPORTANT issue min h s b cache build ref page ticket codegen check control plane git"
    known = set(terms.split())
    assert set(re.findall(r"[A-Za-z]+", outside)) <= known


def huge() -> Summary:
    """Return a postmortem whose every part is as large as it gets."""
    report = postmortem()
    line = {"ts": "2026-02-26T09:06:12Z", "level": "ERROR", "text": "ы`" * 5000, "hit": True}
    excerpt = report["excerpts"][0] | {"shown": [[line] * 50] * 50}
    report["excerpts"] = [excerpt | {"signature": f"s-{n}", "lines": n} for n in range(40)]
    report["timeline"] = [e | {"of": "ы" * 500, "shown": True} for e in report["timeline"]] * 50
    report["failures"] = [f | {"job_name": "j" * 250} for f in report["failures"]] * 200
    report["key_times"] *= 50
    return report


HUGE = huge()


@pytest.mark.parametrize("report", [postmortem(), HUGE, daily()], ids=["usual", "huge", "daily"])
def test_a_comment_is_small_enough_and_says_what_it_left_out(report: Summary) -> None:
    made = comment(report)
    assert made.size == len(made.body.encode()) <= LIMIT < 65_536
    assert is_whole(made.body, made.dropped)


@settings(max_examples=20, deadline=None)
@given(limit=st.integers(0, 75_000))
def test_whatever_the_limit_whole_parts_go_from_the_least_useful_on(limit: int) -> None:
    try:
        made = comment(HUGE, limit)
    except RefusedError as e:
        assert e.exit_code == 6  # noqa: PT017 - either is right, by the limit
        assert limit < 10_000
        return
    assert made.size <= limit
    assert made.dropped == LEAST_USEFUL_FIRST[: len(made.dropped)]
    assert is_whole(made.body, made.dropped)


def is_whole(body: str, dropped: tuple[str, ...]) -> bool:
    """Tell that nothing in a comment is cut, and that what it leaves out is said."""
    shown = Shown(body)  # which finds every tag closed
    assert shown.at_end == ["p"]
    assert body.count("<details") == body.count("</details>")
    assert bool(dropped) == ("Left out here for its size" in body)
    return is_untouched(body)


def test_a_comment_that_cannot_be_small_enough_is_refused() -> None:
    with pytest.raises(RefusedError, match="too large in its smallest form") as caught:
        comment(postmortem(), 500)
    assert caught.value.exit_code == 6


def hostile(texts: Iterator[str]) -> Summary:
    """Return a postmortem in which a text stands wherever logs, jobs and settings write."""
    report = postmortem()
    for f in report["failures"]:
        f |= {k: next(texts) for k in ("job_name", "example", "run_id", "namespace", "kind", "class")}
        f["signatures"] = [next(texts)]
    for e in report["excerpts"]:
        e |= {"signature": next(texts), "app": next(texts)}
        for s in itertools.chain(*e["shown"]):
            s |= {"text": next(texts), "level": next(texts)}
    for a in report["alert_audit"]:
        a["alert"] = next(texts)
    for e in report["timeline"]:
        e |= {
            "class": next(texts),
            "of": next(texts),
            "about": {k: next(texts) for k in _NAMES & set(e["about"])} | _COUNTS,
        }
    report["versions"] = {"aislot": next(texts)}
    report["data"] = {next(texts): s for s in report["data"].values()}
    return report


def forever(texts: list[str]) -> Iterator[str]:
    while True:
        yield from texts


_NAMES = {"signature", "alert", "object"}  # of what a row of the timeline names these come from logs and jobs
_COUNTS = {"kind": "build", "lines": 3, "runs": 2, "severity": "page"}
PLANTED = [*TEXTS, *(MARK + t for t in HOSTILE)]


@pytest.mark.parametrize("examples", [False, True], ids=["excerpts", "examples"])
def test_hostile_text_is_shown_in_code_and_obeyed_nowhere(examples: bool) -> None:
    report = hostile(forever(PLANTED))
    report |= {"excerpts": []} if examples else {}
    body = comment(report).body
    harmless(body)
    outside = list(words_outside_code(read_markdown(body)))
    assert [w for w in outside if MARK in w] == []
    seen = {t.strip().replace("\\|", "|") for t in texts_in_code(read_markdown(body))}
    jobs = {visible(f["job_name"]).strip().replace("\\|", "|") for f in report["failures"][:20]}
    assert jobs <= seen


def test_our_own_words_are_harmless_whatever_stands_in_them() -> None:
    texts = forever(PLANTED)
    report = postmortem(todo=[next(texts) for _ in PLANTED])
    report["timeline"] = [e | {"what": next(texts), "source": next(texts)} for e in report["timeline"] * 2]
    report["timeline"] += [e | {"about": dict.fromkeys(e["about"], next(texts))} for e in postmortem()["timeline"]]
    for case in report["key_times"]:
        case["class"] = next(texts)
        for moment in case["times"].values():
            moment |= {"at": None, "why": next(texts)}
    harmless(comment(report, 10**8).body)
    day = daily() | {"sentence": " ".join(HOSTILE), "todo": [{"what": t, "how": t, "doc": None} for t in PLANTED]}
    harmless(comment(day, 10**8).body)


def harmless(body: str) -> None:
    """Hold a comment against what GitHub's own parser makes of it."""
    shown = Shown(body)
    assert shown.tags <= ALLOWED
    assert all(x.startswith("https://example.com/") for x in shown.links)
    live = [t for t in shown.outside if LIVE.search(t)]
    assert live == []
    assert not HIDDEN.search(body)
    assert [t for t in body.splitlines()[1:] if t.startswith("<!--")] == []


PIECES = st.sampled_from(
    [*"`~|<>@#*_[]()\\\n\r\t -!&;:/\"'={}0aZ\x1b\u202e", *PLANTED, "```", "-->", "</details>", "GH-1"]
)


@settings(max_examples=40, deadline=None)
@given(st.lists(PIECES, min_size=1, max_size=12).map("".join))
def test_invented_text_is_as_harmless(text: str) -> None:
    body = comment(hostile(forever([text]))).body
    harmless(body)
    code = texts_in_code(read_markdown(body))
    assert any(visible(text).strip().replace("\\|", "|") in t.replace("\\|", "|") for t in code)


def test_a_document_is_linked_only_to_the_web() -> None:
    doc = {"name": "Runbook", "url": "javascript:alert(1)"}
    report: dict[str, Any] = postmortem(todo=[{"what": "x", "how": "y", "doc": doc}])
    assert Shown(comment(report).body).links == []
