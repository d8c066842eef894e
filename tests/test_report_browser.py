"""The page in a real browser: nothing runs, nothing is asked for, and it fits a phone, a desk and paper."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files as files_of
from pathlib import Path

import pytest

from tests.browser import Browser, browser
from tests.postmortem_data import files as postmortem
from tests.report_data import DAYS, files
from tests.report_page import saved
from tests.test_postmortem_hostile import files as hostile_postmortem
from tests.test_report_hostile import files as hostile_files

_HIDDEN_BY_CSS = "getComputedStyle(document.querySelector('{}')).display"
_A4_PAGES = 2
PAGES = [*DAYS, "hostile", "postmortem-en", "postmortem-ru", "postmortem-hostile"]


@pytest.fixture(scope="module")
def chrome(chromium: Path) -> Iterator[Browser]:
    with browser(chromium) as b:
        yield b


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write every day's page, and the one full of hostile text."""
    texts = {day: files(day)["report.html"] for day in DAYS}
    texts["hostile"] = hostile_files()["report.html"]
    texts |= {f"postmortem-{lang}": postmortem(lang)["report.html"] for lang in ("en", "ru")}
    texts["postmortem-hostile"] = hostile_postmortem()["report.html"]
    return {day: saved(tmp_path_factory.mktemp(day), text) for day, text in texts.items()}


@pytest.mark.parametrize("day", PAGES)
def test_nothing_runs_and_nothing_is_asked_for(chrome: Browser, pages: dict[str, Path], day: str) -> None:
    with chrome.page(pages[day]) as page:
        assert page.requests() == [pages[day].as_uri()]
        assert page.complaints() == []
        assert re.fullmatch(r"(RED|AMBER|GREEN|GREY) 2026-02-26 · .+|.+ issue #205", page.value("document.title"))
        assert page.value("document.scripts.length") == 0
        assert page.value("document.compatMode") == "CSS1Compat"


@pytest.mark.parametrize("width", [390, 768, 1200])
@pytest.mark.parametrize("day", PAGES)
def test_nothing_lies_beside_the_window(chrome: Browser, pages: dict[str, Path], day: str, width: int) -> None:
    with chrome.page(pages[day], width=width) as page:
        page.value("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert page.value("document.documentElement.scrollWidth") <= width


def test_a_phone_gets_the_narrow_form_of_each_chart(chrome: Browser, pages: dict[str, Path]) -> None:
    with chrome.page(pages["red"], width=390) as page:
        shown = [page.value(_HIDDEN_BY_CSS.format(x)) for x in (".wide", ".narrow")]
        smallest = page.value(
            "Math.min(...[...document.querySelectorAll('.narrow svg text')].map(t => t.getBoundingClientRect().height))"
        )
    assert shown == ["none", "block"]
    assert smallest >= 11


def test_the_first_screen_holds_the_verdict_to_the_signals(chrome: Browser, pages: dict[str, Path]) -> None:
    with chrome.page(pages["red"], width=1200, height=900) as page:
        assert page.value("document.getElementById('health').getBoundingClientRect().top") < 900
    with chrome.page(pages["red"], width=390, height=844) as page:
        assert page.value("document.getElementById('data').getBoundingClientRect().top") < 844


def test_dark_and_light_are_two_palettes(chrome: Browser, pages: dict[str, Path]) -> None:
    grounds = []
    for dark in (False, True):
        with chrome.page(pages["red"], dark=dark) as page:
            grounds.append(page.value("getComputedStyle(document.body).backgroundColor"))
            bar = "document.querySelector('.wide svg path[fill=\"var(--bad)\"]')"
            grounds.append(page.value(f"getComputedStyle({bar}).fill"))
    assert grounds == ["rgb(255, 255, 255)", "rgb(180, 35, 24)", "rgb(15, 20, 25)", "rgb(255, 138, 125)"]


@pytest.mark.parametrize("day", DAYS)
def test_print_takes_two_pages_at_most(chrome: Browser, pages: dict[str, Path], day: str, tmp_path: Path) -> None:
    with chrome.page(pages[day]) as page:
        page.print_to(tmp_path / "print.pdf")
    printed = (tmp_path / "print.pdf").read_bytes()
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= _A4_PAGES


def test_a_link_opens_the_fold_that_its_row_is_in(chrome: Browser, pages: dict[str, Path]) -> None:
    with chrome.page(pages["red"]) as page:
        last = page.value("[...document.querySelectorAll('details .attempts tr[id]')].pop().id")
        page.value(f"location.hash = '{last}'")
        assert page.value(f"document.getElementById('{last}').checkVisibility()")


@pytest.mark.parametrize(("width", "dark"), [(1200, False), (1200, True), (390, False)])
@pytest.mark.parametrize("name", ["red", "grey", "postmortem-en", "postmortem-ru"])
def test_axe_finds_no_violation(chrome: Browser, pages: dict[str, Path], name: str, width: int, dark: bool) -> None:
    axe = (files_of("axe_core_python") / "axe.min.js").read_text(encoding="utf-8")
    with chrome.page(pages[name], width=width, dark=dark) as page:
        page.value("document.querySelectorAll('details').forEach(d => d.open = true)")
        page.value(f"{axe};0")
        page.value("axe.run().then(r => { window.found = r.violations.map(v => v.id + ' ' + v.nodes[0].html) }); 0")
        found = None
        while found is None:
            found = page.value("window.found || null")
        assert found == []
