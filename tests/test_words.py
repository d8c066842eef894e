"""The words of the reports: both languages say the same things, and neither says them in the other's words."""

from __future__ import annotations

import dataclasses
import functools
import re
import string
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from pipeline import catalog
from pipeline.errors import UsageError
from pipeline.report import words as vocabulary
from pipeline.report.render import render_markdown
from pipeline.report.view import daily_view
from pipeline.steps.vocabulary import words
from tests.postmortem_data import files as postmortem
from tests.report_data import DAYS

# names of things, which no language translates: of products, units, formats, the house's own terms
NAMES = set(
    re.findall(
        r"\S+",
        """
AI UTC SLO MTTR CI Loki Prometheus kubectl Kubernetes GitHub Alertmanager aislot ALERTS WARN ERROR INFO Codegen build mirror
codegen check control plane worker cache ref other issue issues page ticket loki selectors date manifest unknown retrieval
prometheus git n k p95 p50 s min h pt b TL DR superseded vanished Kaniko kaniko
""",
    )
)


def flat(texts: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in texts.items():
        if isinstance(value, dict):
            yield from flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def places(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_both_languages_have_the_same_keys_and_fill_the_same_places() -> None:
    english, russian = (dict(flat(words(lang).texts)) for lang in vocabulary.LANGS)
    assert set(english) == set(russian)
    for key, text in english.items():
        if key.startswith("nouns."):
            assert len(russian[key]) == 3, key
            assert len(text) == 2, key
        elif isinstance(text, list):
            assert [places(t) for t in text] == [places(t) for t in russian[key]], key
        else:
            assert places(text) == places(russian[key]), key


@pytest.mark.parametrize(
    ("n", "russian"),
    [
        (0, "0 запусков"),
        (1, "1 запуск"),
        (2, "2 запуска"),
        (4, "4 запуска"),
        (5, "5 запусков"),
        (11, "11 запусков"),
        (12, "12 запусков"),
        (21, "21 запуск"),
        (22, "22 запуска"),
        (111, "111 запусков"),
        (1001, "1,001 запуск"),
    ],
)
def test_a_noun_takes_the_form_that_goes_with_its_number(n: int, russian: str) -> None:
    assert words("ru").counted(n, "run") == russian
    assert words("en").counted(n, "run") == f"{n:,} run{'' if n == 1 else 's'}"


def test_a_language_without_words_is_refused() -> None:
    with pytest.raises(UsageError, match=r"report\.lang 'de' is not known"):
        words("de")


def said(markdown: str) -> str:
    """Return what is not code, and of links their text alone."""
    text = re.sub(r"^(`{3,})[^\n]*\n.*?^\1\s*$", "", markdown, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", text)
    return re.sub(r"\]\(<[^>]*>\)|<[^>]*>|https?://\S+", "", text)


def _daily(day: str, lang: str) -> str:
    view = daily_view(dataclasses.replace(DAYS[day](), words=words(lang)))
    return render_markdown(view, catalog.data_dir("reports"))


PAGES: dict[str, Callable[[str], str]] = {
    **{day: functools.partial(_daily, day) for day in DAYS},
    "postmortem": lambda lang: postmortem(lang)["report.md"],
}


@pytest.mark.parametrize("page", PAGES)
def test_no_english_is_left_in_the_russian_page(page: str) -> None:
    found = set(re.findall(r"(?<![A-Za-z0-9])[A-Za-z][A-Za-z0-9]*", said(PAGES[page]("ru")))) - NAMES
    assert not {w for w in found if not re.fullmatch(r"[A-Z]{2,}|[0-9a-f]{6,}|T|Z", w)}


@pytest.mark.parametrize("page", PAGES)
def test_numbers_times_and_identifiers_are_written_alike(page: str) -> None:
    english, russian = PAGES[page]("en"), PAGES[page]("ru").replace(" --lang ru", "")
    for pattern in (r"\d{2}:\d{2}:\d{2}", r"\d+(?:\.\d+)? %", r"(?<!`)`[^`\n]+`(?!`)", r"\d+ min(?: \d+ s)?"):
        assert sorted(re.findall(pattern, english)) == sorted(re.findall(pattern, russian)), pattern
    heads = [re.findall(r"^#+ ", t, re.MULTILINE) for t in (english, russian)]
    assert heads[0] == heads[1]
