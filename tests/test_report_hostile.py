"""Text of logs and of servers is hostile: through both forms it is shown, and never obeyed."""

from __future__ import annotations

import dataclasses
import re
from functools import cache
from typing import Any

import pandas as pd
import pytest

from pipeline.model import Coverage
from pipeline.report.text import visible
from pipeline.report.view import ReportData
from tests.report_data import DOCS, red, rendered
from tests.report_page import HIDDEN, read_markdown, read_page, texts_in_code, words_outside_code

MARK = "EVIL"  # in each of them, so that it can be found wherever it went
TEXTS = [
    MARK + t
    for t in (
        "<script>document.title='x'</script>",
        "<img src=x onerror=alert(1)>",
        '"><svg onload=alert(1)>',
        "</code></td></table></details><h1>x</h1>",
        "<style>@import url(https://evil.example/x.css)</style>",
        "<!-- x --> <![CDATA[ ]]>",
        "[link](javascript:alert(1)) [ref]: https://evil.example",
        "![picture](https://evil.example/x.png)",
        "https://evil.example/?q=1 www.evil.example",
        "@octocat fixes #1 closes owner/repo#2",
        "0123456789abcdef0123456789abcdef01234567",
        "```\n# heading\n```\n- [ ] task",
        "`` ` ``` ````",
        "`",
        "a|b|c \\| d \\",
        "| --- | --- |",
        "\n\n# heading\n\n> [!CAUTION]\n> quoted",
        "\u202etxt.exe\u2066 \u200b \u2028 \ufeff",
        "\x1b[31m red \x00 \x07 \x9b \x7f",
        "{{ 7 * 7 }} {% raw %} {# x #} ${HOME} {alert} %s",
        "&lt;b&gt; &#x202e; &amp;",
        "x" * 1_000_000,
        "\u202e" * 5_000,
        " leading and trailing ",
        "**bold** _em_ ~~struck~~ $x$ :rocket:",
    )
]


@cache
def hostile() -> ReportData:
    """Return the red day with every text that a log, a server or a settings file wrote put in place of a harmless one."""
    data = red()

    def evil(n: int) -> str:
        return TEXTS[n % len(TEXTS)]

    def mine(n: int) -> str:
        return evil(n).replace(MARK, "MINE")  # what the user's own catalogue says may stand outside code

    count = len(data.failures)
    failures = data.failures.assign(
        job_name=[evil(i) for i in range(count)],
        example=[evil(i + 1) for i in range(count)],
        run_id=[evil(i + 2) for i in range(count)],
        namespace=[evil(i + 3) for i in range(count)],
    )
    names = {e["alert"]: f"{MARK}_{i}_{evil(i)}" for i, e in enumerate(data.expected)}
    error = evil(0) + evil(17) + "\ud800"
    jobs = next(c for c in data.coverage if c.what == "jobs")
    broken = Coverage(jobs.what, jobs.source, True, False, 0, [data.window], {"error": error})
    reason: dict[str, Any] = {
        "rule": "hole",
        "level": "grey",
        "at": None,
        "text": "",
        "what": "jobs",
        "source": "prometheus",
    }
    reason |= {"holes": 1, "longest_s": 86400.0, "error": error}
    return dataclasses.replace(
        data,
        failures=failures,
        shares=data.shares.assign(value=[evil(i) for i in range(len(data.shares))]),
        ledger=data.ledger.assign(text=[evil(i + 3) for i in range(len(data.ledger))]),
        level_breaches=data.level_breaches.assign(app=evil(0), example=evil(17)),
        coverage=[broken if c.what == "jobs" else c for c in data.coverage],
        reasons=[*data.reasons, reason],
        alerts=_renamed(data.alerts, names),
        alert_audit=_renamed(data.alert_audit, names),
        expected=[{**e, "alert": names[e["alert"]], "signatures": [mine(i)]} for i, e in enumerate(data.expected)],
        namespaces=[evil(1), evil(17)],
        inputs={"lake": evil(2), "rows": {"logs": 3}},
        versions={"aislot": evil(3), "queries": evil(4), "loki": evil(9)},
        changed_settings=[f"github.login = {t}" for t in TEXTS],
        signatures=[
            dataclasses.replace(s, title=mine(i), first_action=f"`{mine(i + 6)}` {mine(i + 9)}", runbook=mine(i))
            for i, s in enumerate(data.signatures)
        ],
    )


def _renamed(frame: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
    return frame.assign(alert=[names[a] for a in frame["alert"]])


@cache
def files() -> dict[str, str]:
    return rendered(hostile())


def test_the_page_shows_hostile_text_and_obeys_none() -> None:
    page = read_page(files()["report.html"])
    assert not {e.tag for e in page.elements} & {"script", "img", "iframe", "object", "link", "base", "form"}
    assert len(page.all("h1")) == 1
    assert len(page.all("style")) == 1
    for e in page.elements:
        assert not any(name.startswith("on") for name in e.attributes), e
        values = [v for k, v in e.attributes.items() if k not in {"aria-label", "href", "id"}]
        assert not any(MARK in v for v in values), e
        assert re.fullmatch(r"[\w.@-]+", e.attributes.get("id", "x")), e
    links = [e.attributes["href"] for e in page.all("a")]
    assert all(x.startswith(("#", DOCS + "/")) for x in links)
    shown = {e.text for e in page.all("code")}
    assert {visible(t) for t in hostile().failures["job_name"]} <= shown
    assert {visible(t) for t in hostile().failures["example"].head(1)} <= shown


def test_markdown_shows_hostile_text_only_in_code() -> None:
    tokens = read_markdown(files()["report.md"])
    outside = list(words_outside_code(tokens))
    assert [w for w in outside if MARK in w] == []
    assert [w for w in outside if re.search(r"@|https?:|www\.|\b[0-9a-f]{40}\b", w)] == []
    assert [t.type for t in tokens if t.type in {"image", "s_open"}] == []
    html = {t.content.strip() for t in tokens if t.type in {"html_block", "html_inline"}}
    assert all(re.fullmatch(r"</?details>|<details><summary>[^<]*</summary>|</?summary>", h) for h in html), html
    assert [t for t in tokens if t.type == "heading_open" and t.tag not in {"h1", "h2"}] == []
    assert sum(1 for t in tokens if t.type == "heading_open") == 14
    links = [str(t.attrs["href"]) for t in tokens if t.type == "link_open"]
    assert all(x.startswith(DOCS + "/") for x in links)
    seen = {t.strip() for t in texts_in_code(tokens)}
    assert {visible(t).strip() for t in hostile().failures["job_name"]} <= seen


def test_issues_named_by_hostile_text_are_not_mentioned() -> None:
    issues = {int(i) for i in hostile().failures["issue"].dropna()}
    tokens = read_markdown(files()["report.md"])
    assert {int(n) for w in words_outside_code(tokens) for n in re.findall(r"#(\d+)", w)} <= issues


@pytest.mark.parametrize("name", ["report.md", "report.html", "summary.json"])
def test_nothing_hides(name: str) -> None:
    text = files()[name]
    assert not HIDDEN.search(text)
    text.encode("utf-8")


def test_a_huge_line_does_not_make_a_huge_report() -> None:
    assert len(files()["report.html"]) < 400_000
    assert len(files()["report.md"]) < 120_000


def test_templates_in_a_log_are_text() -> None:
    assert "{{ 7 * 7 }}" in files()["report.html"]
    assert "{{ 7 * 7 }}" in files()["report.md"]


def test_very_many_failures_are_listed_in_part_and_counted_in_whole() -> None:
    data = red()
    many = pd.concat([data.failures] * 200, ignore_index=True)
    many["failure_id"] = [f"f-{i:010x}" for i in range(len(many))]
    totals = {k: dict(v) | {"failed": v["failed"] * 200} for k, v in data.totals.items()}
    out = rendered(dataclasses.replace(data, failures=many, totals=totals))
    assert "Failed attempts, 20 of 5,000" in out["report.html"]
    assert out["report.html"].count('<tr id="f-') == 500
    assert "4,500 more are in the lake" in out["report.html"]
    assert len(out["report.html"]) < 700_000
