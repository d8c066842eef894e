"""The scanner: what an exact engine finds in each text, one pass over all texts finds too."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import catalog
from pipeline.redact import Redactor
from pipeline.scan import Pattern, Scanner, as_re2, by_place, refusal
from tests import corpus

RULES = catalog.load()
REDACTOR = Redactor(RULES.redaction, b"")
HINTS = [*REDACTOR.hints, *REDACTOR.bounds, REDACTOR.may_hide]
SIGNED = [p for s in RULES.signatures for p in s.all_of]
BUILT_IN = [*(Pattern(p) for p in HINTS), *(Pattern(as_re2(p), any_case=True) for p in SIGNED)]
ANCHORED = Pattern("^never in any text$")  # makes a scanner join texts by line ends
WHOLE, JOINED = Scanner(BUILT_IN), Scanner([*BUILT_IN, ANCHORED])
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

PIECES = st.one_of(
    st.sampled_from([s.text for s in corpus.secrets()]),
    st.sampled_from(list(corpus.tokens().values())),
    st.sampled_from(corpus.lookalikes()),
    st.sampled_from([e.upper() for e in SIGNED]),
    st.sampled_from(["", " ", "\n", "\x0b", "\x00", "é", "\u212a", "\u017f", "\\u0067", "\\/", "unknown switch", "x"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
)
TEXTS = st.lists(st.lists(PIECES, max_size=3).map("".join), max_size=12)


def found(scanner: Scanner, texts: Sequence[str]) -> list[list[int]]:
    return [rows.tolist() for rows in scanner.hits(pa.array(texts, pa.string()))]


def one(pattern: str, *texts: str, any_case: bool = False) -> list[int]:
    return found(Scanner([Pattern(pattern, any_case)]), texts)[0]


def by_re2(pattern: str, texts: Sequence[str]) -> list[int]:
    return list(pc.indices_nonzero(pc.match_substring_regex(pa.array(texts, pa.string()), pattern)).to_pylist())


def each(texts: Sequence[str]) -> list[list[int]]:
    """Return what the exact engines find of the built-in patterns, text by text."""
    hinted = [[i for i, text in enumerate(texts) if re.search(p, text, re.ASCII)] for p in HINTS]
    return [*hinted, *(by_re2(f"(?i){p}", texts) for p in SIGNED)]


@quick
@given(TEXTS)
def test_of_built_in_patterns_it_finds_what_is_in_each_text(texts: list[str]) -> None:
    assert found(JOINED, texts) == [*each(texts), []]
    for rows, wanted in zip(found(WHOLE, texts), each(texts), strict=True):
        assert set(rows) >= set(wanted)


def test_of_the_corpus_nothing_is_missed() -> None:
    texts = [s.text for s in corpus.secrets()]
    for rows, wanted in zip(found(WHOLE, texts), each(texts), strict=True):
        assert set(rows) >= set(wanted)
    assert found(JOINED, texts) == [*each(texts), []]


USERS = [
    "^INFO", "done$", "^$", "^x$", r"\bstep\b", r"\Bstep", r"^\s*$", "(?:^|,)a", "a(?:$|,)", r"caf. au", "[^b]c", r"a\Sd",
    r"a\sd", r"[^\s,]d", r"[\S]d", "größe", "straße", "(?s)a.b", "(?i)É", "^ERROR.*", ".+", "x*", "x|", r"\b", "[^^]x",
    r"\^x", r"[$]", r"\\bx", "\x00", "a{2,3}$", r"^(?P<level>INFO|WARN)\b", r"\d+$", r"\w\.$", "[]x]", "[^]x]", "(?m)^b",
]  # fmt: skip
SNIPPETS = [
    "INFO", "done", "x", "step", "a", "b", "c", "d", ",", " ", ".", "é", "É", "café au", "GRÖSSE", "Größe", "STRAẞE", "\x0b",
    "\t", "ERROR: it", "\\", "^", "$", "7", "\x00", "]", "xx", "aa", "WARN",
]  # fmt: skip


@pytest.mark.parametrize("pattern", USERS)
@pytest.mark.parametrize("any_case", [False, True])
def test_a_users_pattern_is_found_in_the_texts_that_it_is_in(pattern: str, any_case: bool) -> None:
    exact = f"(?i){pattern}" if any_case else pattern
    scanner = Scanner([Pattern(as_re2(pattern), any_case)])

    @quick
    @given(st.lists(st.lists(st.sampled_from(SNIPPETS), max_size=4).map("".join), max_size=8), st.booleans())
    def holds(texts: list[str], broken: bool) -> None:
        texts = [text + "\n" + text[::-1] if broken else text for text in texts]
        (rows,) = found(scanner, texts)
        assert set(rows) >= set(by_re2(exact, texts))

    holds()


@pytest.mark.parametrize(
    ("pattern", "texts", "rows"),
    [
        (
            "ab",
            ["ab", "xab", "abx", "a", "b", "ab"],
            [0, 1, 2, 3 + 1, 5],
        ),  # what lies across two texts may be found too
        ("^ab", ["ab", "xab", "abx", "", "a", "b"], [0, 2]),
        (r"\d+$", ["", "", "", "INFOINFOINFO7", ""], [3]),  # one byte before the end of all
        (r"\d+$", ["INFOINFOINFOINFO7"], [0]),
        ("^$", ["x"], []),
        ("ab$", ["ab", "xab", "abx", "", "a", "b"], [0, 1]),
        ("^$", ["", "a", "", "", "b", ""], [0, 2, 3, 5]),
        (r"\ba", ["a", "a", "ba", "b a"], [0, 1, 3]),
        ("a$", ["a", "b", "", "a"], [0, 3]),
        ("^b", ["a", "b", "", "a", "b"], [1, 4]),
        ("x", ["", "", "x", ""], [2]),
        ("x", ["x"], [0]),
        ("é", ["e", "é", "aé", "éa", ""], [1, 2, 3]),
        ("a.b", ["aéb", "a\U0001f600b", "ab"], [0, 1]),
        ("x*", ["", "a"], [0, 1]),
        (r"\Aa", ["b", "a"], [1]),
        ("a", [], []),
        ("^a", [], []),
        ("^a", ["", ""], []),
        ("a", ["", ""], []),
    ],
)
def test_the_first_and_the_last_of_a_text_are_its_own(pattern: str, texts: list[str], rows: list[int]) -> None:
    assert one(pattern, *texts) == rows


def test_a_part_of_an_array_is_looked_through_alone() -> None:
    texts = pa.array(["x", "y", "xy", "", "x"], pa.string())
    for pattern, wanted in (("x", [1]), ("^x", [1]), ("y$", [0, 1]), ("^$", [2])):
        assert Scanner([Pattern(pattern)]).hits(texts.slice(1, 3))[0].tolist() == wanted
    assert Scanner([Pattern("x")]).hits(pa.array([], pa.string()))[0].tolist() == []


def test_what_need_be_found_but_once_is_found_once() -> None:
    assert found(Scanner([Pattern("a", once=True), Pattern("b")]), ["b", "ab", "a", "b"]) == [[1], [0, 1, 3]]


@pytest.mark.parametrize("pattern", ["o", "(?i)O", "[^x]", "o{1,9}$"])
def test_a_pattern_that_is_found_everywhere_is_looked_for_text_by_text(pattern: str) -> None:
    scanner = Scanner([Pattern(pattern), Pattern("rare"), Pattern("p", any_case=True)])
    texts = ["o" * 40_000, "x", "rare o", "", "P"] * 3
    wanted = [by_re2(pattern, texts), by_re2("rare", texts), by_re2("(?i)p", texts)]
    for _ in range(2):
        assert found(scanner, texts) == wanted
    assert found(scanner, ["x", "P"]) == [by_re2(pattern, ["x", "P"]), [], [1]]


def test_where_re2_cannot_look_for_it_every_text_may_have_it() -> None:
    scanner = Scanner([Pattern("(?:ab?){1,2000}"), Pattern("z")])
    assert found(scanner, ["a" * 40_000, "y", "z"]) == [[0, 1, 2], [2]]


def test_scanners_of_equal_patterns_are_independent() -> None:
    first, other = Scanner([Pattern("o")]), Scanner([Pattern("o")])
    assert found(first, ["o" * 40_000, "x"]) == found(other, ["o", "x"]) == [[0]]


@pytest.mark.parametrize("pattern", ["^a", "a$", r"\ba", r"a\B", r"\\\ba", "(?x) a", "[$]|^", "[^]a]|$", r"\\$"])
def test_a_pattern_about_a_place_is_known(pattern: str) -> None:
    assert by_place(pattern)


@pytest.mark.parametrize("pattern", [r"\^a", r"\$", "[^a]", "[$]", "[a^]", r"\\b", "[]^]", r"[\]^]", "(?i)a"])
def test_a_pattern_about_no_place_is_known(pattern: str) -> None:
    assert not by_place(pattern)


def test_no_hint_of_ours_is_about_a_place() -> None:
    assert not [p for p in HINTS if by_place(p)]


@pytest.mark.parametrize(
    ("pattern", "text"),
    [(r"a\Sb", "a\x0bb"), (r"a[^\s]b", "a\x0bb"), (r"a[\S]b", "a\x0bb"), (r"a[^\S]b", "a b"), (r"a\sb", "a\tb")],
)
def test_spaces_are_those_of_re2(pattern: str, text: str) -> None:
    assert by_re2(pattern, [text]) == one(as_re2(pattern), text) == [0]


@pytest.mark.parametrize("pattern", [r"\\s", r"\\S", r"[^\S]", r"[a\\s]", r"\[\\s", "a"])
def test_what_is_no_space_stays(pattern: str) -> None:
    assert as_re2(pattern) == pattern


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        (r"\Aa", r"\A is about the whole of a text: use ^ or $"),
        (r"a\z", r"\z is about the whole of a text: use ^ or $"),
        (r"\\\Z", r"\Z is about the whole of a text: use ^ or $"),
        ("(?i-m:a)", "(?i-m is about the whole of a text: use ^ or $"),
        ("(?=a)b", "Zero-width assertions are not supported."),
        (r"(a)\1", "Back-references are unsupported."),
        ("a.{1,900}b.{1,900}c", "Pattern is too large."),
        *((p, None) for p in (r"\\A", "x*", "^a", "(?i)a", "(?-i:a)", *HINTS, *SIGNED)),
    ],
)
def test_what_cannot_be_looked_for_is_refused(pattern: str, said: str | None) -> None:
    assert refusal(pattern) == said
