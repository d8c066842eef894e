"""What the contract demands of the page and the Markdown, whatever the day."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from pipeline.report.text import NBSP
from tests.report_data import DAYS, DOCS, files, grey, red, rendered
from tests.report_page import HIDDEN, Page, read_markdown, read_page, words_outside_code
from tests.tables import ns

ROOT = Path(__file__).resolve().parent.parent
_CSP = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_OURS = re.compile(r"</?(?:details|summary)>")


@cache
def page(day: str) -> Page:
    return read_page(files(day)["report.html"])


@pytest.mark.parametrize("day", DAYS)
def test_the_page_runs_nothing_and_loads_nothing(day: str) -> None:
    p = page(day)
    assert not {e.tag for e in p.elements} & {"script", "iframe", "object", "embed", "form", "base", "link", "img"}
    assert [(e.tag, a) for e in p.elements for a in e.attributes if a.startswith("on")] == []
    assert [e.attributes for e in p.elements if {"src", "srcset", "action", "xlink:href"} & set(e.attributes)] == []
    assert {e.attributes["content"] for e in p.all("meta") if "http-equiv" in e.attributes} == {_CSP}
    style = p.all("style")[0].text + "".join(e.attributes.get("style", "") for e in p.elements)
    assert "@import" not in style
    assert "url(" not in style


@pytest.mark.parametrize("day", DAYS)
def test_the_page_can_be_read_by_everybody(day: str) -> None:
    p = page(day)
    assert p.all("html")[0].attributes["lang"] == "en"
    assert len(p.all("h1")) == 1
    assert [e.text for e in p.all("th") if "scope" not in e.attributes] == []
    assert len(p.charts()) >= 3
    assert [e for e in p.charts() if e.attributes.get("role") != "img" or not e.attributes.get("aria-label")] == []
    heads = [e.attributes["id"] for e in p.all("h2")]
    assert [e.attributes["aria-labelledby"] for e in p.all("section")[1:]] == heads


@pytest.mark.parametrize("day", DAYS)
def test_every_link_of_the_page_leads_somewhere(day: str) -> None:
    p = page(day)
    ids = Counter(e.attributes["id"] for e in p.elements if "id" in e.attributes)
    assert [i for i, n in ids.items() if n > 1] == []
    links = [e.attributes["href"] for e in p.all("a")]
    assert [x for x in links if x.startswith("#") and x[1:] not in ids] == []
    assert [x for x in links if not x.startswith(("#", DOCS + "/"))] == []
    used = re.findall(r"url\(#([^)]+)\)", files(day)["report.html"])
    assert set(used) <= set(ids)


@pytest.mark.parametrize("day", DAYS)
def test_every_chart_is_followed_by_its_numbers(day: str) -> None:
    html = files(day)["report.html"]
    for drawn in re.finditer(r'<div class="wide"><svg', html):
        after = html.index('<div class="narrow">', drawn.start())
        following = re.sub(r"<svg.*?</svg>", "", html[after:], flags=re.DOTALL)
        assert re.match(r'<div class="narrow"></div>\s*<details>.*?<table', following, re.DOTALL)


@pytest.mark.parametrize("day", DAYS)
def test_markdown_holds_only_markup_of_ours(day: str) -> None:
    text = files(day)["report.md"]
    tokens = read_markdown(text)
    assert [t.tag for t in tokens if t.type == "heading_open"].count("h1") == 1
    assert [t for t in tokens if t.type == "image"] == []
    assert [t.content for t in tokens if t.type.startswith("html_") and _OURS.sub("", t.content).startswith("<")] == []
    links = [str(t.attrs["href"]) for t in tokens if t.type == "link_open"]
    assert [x for x in links if not x.startswith(DOCS + "/")] == []
    issues = {int(i) for i in DAYS[day]().failures["issue"].dropna()}
    mentioned = {int(n) for words in words_outside_code(tokens) for n in re.findall(r"#(\d+)", words)}
    assert mentioned <= issues


@pytest.mark.parametrize("day", DAYS)
def test_nothing_hides_in_either_form(day: str) -> None:
    assert [f for f, text in files(day).items() if HIDDEN.search(text)] == []


@pytest.mark.parametrize("day", DAYS)
def test_both_forms_say_the_same(day: str) -> None:
    md, p = files(day)["report.md"], page(day)
    heads = [e.text for e in p.all("h2")]
    assert re.findall(r"^## \d+ (.+)$", md, re.MULTILINE) == heads
    sentence = next(e.text for e in p.all("p") if e.attributes.get("class") == "sentence").replace(NBSP, " ")
    assert f"**{p.all('p')[1].text}** {sentence}" in md.replace("\\", "").replace("`", "")
    cells = Counter(e.text.replace(NBSP, " ").strip() for e in p.all("td"))
    bare = re.sub(r"[\\`*]", "", md)
    times = [c for c in cells if re.fullmatch(r"\d\d:\d\d:\d\d|\d[\d,]*|[\d,]+ of [\d,]+.*", c)]
    assert [c for c in times if c not in bare] == []


@pytest.mark.parametrize("day", DAYS)
def test_every_figure_is_in_the_summary(day: str) -> None:
    s, data = json.loads(files(day)["summary.json"]), DAYS[day]()
    assert s["verdict"] == data.verdict
    assert {k: v["failed"] for k, v in s["golden"].items()} == {k: v["failed"] for k, v in data.totals.items()}
    assert sum(w["build+mirror"]["failed"] for w in s["by_15m"]) == s["golden"]["build+mirror"]["failed"]
    assert sum(w["codegen-check"]["succeeded"] for w in s["by_15m"]) == s["golden"]["codegen-check"]["succeeded"]
    assert sum(h["n"] for h in s["build_hours"]) == s["golden"]["build"]["durations"]
    assert all(sum(x["by_15m"]) == x["lines"] for x in s["stream"])
    assert len(s["failures"]) == len(data.failures)
    assert {x["signal"] for x in s["signals"]} >= {"traffic", "errors", "codegen-check", "latency", "backlog"}


def test_a_source_without_a_hole_longer_than_overlooked_is_complete() -> None:
    strict, lenient = grey(), dataclasses.replace(grey(), max_gap_s=4 * 3600.0)
    said = [json.loads(rendered(d)["summary.json"])["data"]["prometheus"] for d in (strict, lenient)]
    assert [s["complete"] for s in said] == [False, True]
    assert [len(s["gaps"]) for s in said] == [1, 1]


def test_when_a_report_is_made_changes_one_line_of_each_file() -> None:
    early, late = rendered(red()), rendered(dataclasses.replace(red(), made_at=ns("09:41:07", 3)))
    for name, text in early.items():
        pairs = zip(text.splitlines(), late[name].splitlines(), strict=True)
        assert sum(1 for a, b in pairs if a != b) == 1, name


def test_equal_data_makes_equal_files_in_every_time_zone() -> None:
    code = "import hashlib; from tests.report_data import red, rendered\n"
    code += "print(hashlib.sha256(''.join(rendered(red()).values()).encode()).hexdigest())"
    elsewhere = os.environ | {"TZ": "Asia/Kathmandu", "PYTHONHASHSEED": "7", "LC_ALL": "C"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=elsewhere, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == hashlib.sha256("".join(files("red").values()).encode()).hexdigest()
