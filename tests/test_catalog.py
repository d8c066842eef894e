"""The catalogue: every query is a question that is asked, every rule holds to its examples, a user's mistake is named."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import catalog
from pipeline.errors import UsageError
from pipeline.rules import Catalogue

ROOT = Path(__file__).resolve().parent.parent
QUERIES = sorted(p for p in (ROOT / "queries").iterdir() if p.suffix in {".logql", ".promql"})
RULES = sorted((ROOT / "queries").glob("*.toml"))
BUILT_IN = catalog.load(check_own=True)
PLACEHOLDERS = {
    "alert_samples": {"alerts", "range"},
    "count_by_app": {"label", "selector", "range"},
    "count_instant": {"selector", "at"},
    "count_lines": {"selector", "range"},
    "fetch_lines": {"selector"},
    "lines_counted": {"at", "range", "selector"},
    "job_samples_counted": {"namespace_label", "namespaces", "range"},
    "pod_ends": {"namespace_label", "namespaces", "range"},
    "queue_samples": {"query", "range", "step"},
    "samples_counted": {"samples"},
    "series_counted": {"series"},
    "job_samples": {"namespace_label", "namespaces", "range"},
    "rule_evaluations": {"range"},
    "scrape_targets": {"range"},
    "scrapes": {"jobs", "range"},
    "server_scrapes": {"range"},
    "server_starts": {"range"},
}
SIGNATURE: Mapping[str, Any] = {
    "id": "oom",
    "title": "out of memory",
    "class": "other",
    "all_of": ["OOMKilled"],
    "first_action": "Raise the limit.",
    "runbook": "docs/oom.md",
    "examples": ["container was OOMKilled"],
    "counter_examples": ["boom"],
}
ALERT: Mapping[str, Any] = {
    "name": "OURS",
    "severity": "ticket",
    "measure": "failed_attempts",
    "kinds": ["build"],
    "window": "1h30m",
    "op": ">",
    "threshold": 1,
    "classes": ["cache"],
}
KIND: Mapping[str, Any] = {"kind": "scan", "pattern": "scan-[0-9]+", "ttl": "60s", "golden": False}
OBJECTIVE: Mapping[str, Any] = {"name": "ours", "window": "7d", "target": 0.9, "kinds": ["build"]}
REDACTION: Mapping[str, Any] = {"id": "ours", "pattern": "x(?P<secret>[0-9]{4})", "hint": "x[0-9]"}
WHOLE = {
    "signature": SIGNATURE,
    "alert": ALERT,
    "job_kind": KIND,
    "objective": OBJECTIVE,
    "redaction": REDACTION,
    "phrase": {"id": "retry", "pattern": "again"},
    "attribute": {"id": "branch", "pattern": "on branch (?P<value>[a-z]+)", "examples": ["on branch main"]},
}


def toml(table: str, *entries: Mapping[str, Any]) -> str:
    """Write tables of texts, numbers and lists: TOML writes those as JSON does."""
    return "\n".join(f"[[{table}]]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in e.items()) for e in entries)


def load(folder: Path, *texts: str) -> Catalogue:
    files = []
    for i, text in enumerate(texts):
        files.append(folder / f"ours{i}.toml")
        files[-1].write_text(text, encoding="utf-8")
    return catalog.load([str(f) for f in files])


def refused(folder: Path, text: str) -> str:
    with pytest.raises(UsageError) as told:
        load(folder, text)
    assert told.value.exit_code == 2
    assert str(folder / "ours0.toml") in told.value.what
    assert "failure_class" not in told.value.what  # a file's own names only
    return f"{told.value.what} | {told.value.fix}"


@pytest.mark.parametrize("path", QUERIES, ids=lambda p: p.name)
def test_a_query_says_its_question_first_and_is_asked_by_the_package(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert re.match(r"# [A-Z][^.?]*\?", first)
    code = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "pipeline").rglob("*.py"))
    assert f'"{path.stem}"' in code


def test_every_query_is_listed_and_every_placeholder_declared() -> None:
    found = {p.stem: set(re.findall(r"\$\{([^}]*)\}", p.read_text(encoding="utf-8"))) for p in QUERIES}
    assert found == PLACEHOLDERS
    assert set(BUILT_IN.queries) == set(PLACEHOLDERS)


@pytest.mark.parametrize("name", list(PLACEHOLDERS))
def test_a_query_is_filled_whole_and_without_its_comment(name: str) -> None:
    text = catalog.render(BUILT_IN.queries[name], **dict.fromkeys(PLACEHOLDERS[name], catalog.Raw("x")))
    assert text
    assert "$" not in text
    assert "#" not in text


@pytest.mark.parametrize("values", [{}, {"selector": "x"}, {"selector": "x", "range": "x", "more": "x"}])
def test_a_query_that_is_filled_in_part_is_an_error(values: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="a query wants"):
        catalog.render(BUILT_IN.queries["count_lines"], **values)


def test_plain_text_goes_into_a_query_quoted_and_raw_text_as_it_is() -> None:
    filled = catalog.render("# Why?\n{a=${a}}[${b}]", a='x"}', b=catalog.Raw("5m"))
    assert filled == '{a="x\\"}"}[5m]'


@given(st.text(st.characters(codec="utf-8")))
def test_no_text_gets_out_of_its_quotes(text: str) -> None:
    written = catalog.quoted(text)
    assert re.fullmatch(r'"(?:[^"\\\x00-\x1f\x7f]|\\["\\]|\\u[0-9a-f]{4})*"', written)
    assert json.loads(written) == text  # of these escapes JSON and Go mean the same


@given(st.text(), st.text())
def test_the_fingerprint_tells_texts_apart_and_is_stable(one: str, other: str) -> None:
    assert catalog.fingerprint(one) == catalog.fingerprint(one)
    assert (catalog.fingerprint(one, other) == catalog.fingerprint(other, one)) == (one == other)


@pytest.mark.parametrize("path", RULES, ids=lambda p: p.name)
def test_every_rule_has_an_example_and_a_counter_example(path: Path) -> None:
    for table, entries in tomllib.loads(path.read_text(encoding="utf-8")).items():
        # an attribute that only fields tell has no text to match
        for entry in (e for e in entries if table != "objective" and (table != "attribute" or "pattern" in e)):
            assert entry["examples"], entry
            assert entry["counter_examples"], entry


def test_the_built_in_rules_are_those_of_the_domain() -> None:
    assert [(s.id, s.failure_class) for s in BUILT_IN.signatures] == [
        ("manifest-unknown", "cache"),
        ("cache-retrieval", "cache"),
        ("build-ref", "build-ref"),
    ]
    assert BUILT_IN.golden_kinds() == ["codegen-check", "build", "mirror"]
    assert sorted(p.id for p in BUILT_IN.phrases) == ["job_failed", "recovery", "retry", "run_failed"]
    assert [(a.id, a.starts) for a in BUILT_IN.attributes] == [
        ("ref", True),
        ("cache", False),
        ("node", False),
        ("error", False),
    ]
    assert [(o.name, o.window, o.window_s, o.target) for o in BUILT_IN.objectives] == [
        ("build_availability", "7d", 604800.0, 0.99),
        ("recovery", "7d", 604800.0, 1.0),
    ]
    assert {a.name: (a.severity, a.window_s, a.op, a.threshold) for a in BUILT_IN.alerts} == {
        "AI_SLOT_BUILD_FAILURE_BURST": ("page", 900.0, ">=", 3),
        "AI_SLOT_BUILD_MANIFEST_UNKNOWN_PERSISTENT": ("page", 900.0, ">=", 2),
        "AI_SLOT_CODEGEN_CHECK_BUILD_REF_INVALID": ("page", 900.0, ">=", 2),
        "AI_SLOT_BUILD_FAILURE_RATE_ELEVATED": ("ticket", 3600.0, ">", 0.05),
        "AI_SLOT_BUILD_MTTR_SLO_RISK": ("ticket", 86400.0, ">=", 1800),
    }


@pytest.mark.parametrize("table", list(WHOLE))
def test_a_users_file_adds_every_kind_of_rule(tmp_path: Path, table: str) -> None:
    made = load(tmp_path, toml(table, WHOLE[table]))
    assert made.version != BUILT_IN.version
    assert made.queries == BUILT_IN.queries


def test_a_users_rule_is_added_last_or_takes_the_place_of_its_name(tmp_path: Path) -> None:
    replaced = {**SIGNATURE, "id": "build-ref", "title": "ours"}
    made = load(tmp_path, toml("signature", SIGNATURE, replaced))
    assert [s.id for s in made.signatures] == ["manifest-unknown", "cache-retrieval", "build-ref", "oom"]
    assert [s.title for s in made.signatures][2:] == ["ours", "out of memory"]


def test_of_two_files_the_later_wins(tmp_path: Path) -> None:
    made = load(tmp_path, toml("signature", SIGNATURE), toml("signature", {**SIGNATURE, "title": "later"}))
    assert [s.title for s in made.signatures if s.id == "oom"] == ["later"]


def test_an_alert_may_be_about_a_kind_and_a_signature_of_the_user(tmp_path: Path) -> None:
    alert = {**ALERT, "kinds": ["scan"], "signatures": ["oom"], "measure": "signature_lines"}
    made = load(tmp_path, toml("alert", alert), toml("job_kind", KIND) + toml("signature", SIGNATURE))
    assert (made.alerts[-1].kinds, made.alerts[-1].window_s) == (("scan",), 5400.0)


@pytest.mark.parametrize(
    ("table", "change", "said"),
    [
        ("signature", {"class": "chache"}, "unknown class 'chache'; did you mean 'cache'?"),
        ("signature", {"all_off": ["x"]}, "unknown key 'all_off'; did you mean 'all_of'?"),
        ("signature", {"failure_klass": "x"}, "unknown key 'failure_klass'; did you mean"),
        ("signature", {"all_of": "OOM"}, "all_of must be a list of texts, not 'OOM'"),
        ("signature", {"all_of": []}, "key 'all_of' is missing"),
        ("signature", {"all_of": ["("]}, "all_of '(' is no pattern"),
        ("signature", {"all_of": ["(?<!a)OOM"]}, "is no RE2 pattern, which has no look-around"),
        (
            "signature",
            {"all_of": ["OOM", r"\AOOM"]},
            r"all_of '\\AOOM' cannot be looked for: \A is about the whole of a te",
        ),
        ("signature", {"all_of": [r"(?i)(?-m:^)OOM"]}, "(?-m is about the whole of a text: use ^ or $"),
        ("signature", {"all_of": ["OOM.{1,900}a.{1,900}b"]}, "b' cannot be looked for: Pattern is too large."),
        ("signature", {"examples": ["fine"]}, "its own example does not match: 'fine'"),
        ("signature", {"counter_examples": ["OOMKilled"]}, "its own counter-example matches: 'OOMKilled'"),
        ("signature", {"examples": "OOMKilled"}, "examples must be a list"),
        ("signature", {"examples": [3]}, "expected string"),
        ("signature", {"title": 3}, "title must be text, not 3"),
        ("alert", {"measure": "failed"}, "unknown measure 'failed'; did you mean 'failed_attempts'?"),
        ("alert", {"severity": "paging"}, "unknown severity 'paging'; did you mean 'page'?"),
        ("alert", {"op": "=>"}, "unknown op '=>'; did you mean '>"),
        ("alert", {"kinds": ["biuld"]}, "unknown kind 'biuld'; did you mean 'build'?"),
        ("alert", {"signatures": ["manifest"]}, "unknown signature 'manifest'; did you mean 'manifest-unknown'?"),
        ("alert", {"classes": ["cash"]}, "unknown classes 'cash'; did you mean 'cache'?"),
        ("alert", {"window": "soon"}, "'soon' is not a duration: write 90s, 30m, 1h30m or 7d"),
        ("alert", {"window": True}, "window must be a duration such as 30m, not True"),
        ("alert", {"threshold": "3"}, "threshold must be a number, not '3'"),
        ("alert", {"minimum": 1.5}, "minimum must be a whole number, not 1.5"),
        ("alert", {"examples": [1]}, "its own example does not match: 1"),
        ("job_kind", {"golden": "no"}, "golden must be true or false, not 'no'"),
        ("job_kind", {"pattern": "["}, "is no pattern"),
        ("job_kind", {"examples": ["scan-x"]}, "its own example does not match: 'scan-x'"),
        ("objective", {"kinds": ["scam"]}, "unknown kind 'scam'; did you mean"),
        ("objective", {"limits": "3m"}, "unknown key 'limits'; did you mean 'limit'?"),
        ("objective", {"window": 7}, "window must be text, not 7"),
        ("redaction", {"pattern": "("}, "pattern '(' is no pattern: missing )"),
        ("redaction", {"multiline_end": "("}, "missing )"),
        ("redaction", {"hint": r"\Ax[0-9]"}, r"\A is about the whole of a text: use ^ or $"),
        (
            "redaction",
            {"multiline_start": "(?=x)y", "multiline_end": "z"},
            "multiline_start '(?=x)y' cannot be looked for",
        ),
        ("redaction", {"multiline_start": "x"}, "multiline_start and multiline_end go together"),
        ("redaction", {"hint": "y", "examples": ["x1234"]}, "the pattern finds 'x1234' and the hint does not"),
        ("phrase", {"pattern": r"\Aagain"}, r"pattern '\\Aagain' cannot be looked for: \A is about"),
        ("phrase", {"id": "retries"}, "unknown id 'retries'; did you mean 'retry'?"),
        ("attribute", {"pattern": "main"}, "its pattern needs a group (?P<value>…)"),
        ("attribute", {"pattern": "(?P<value>(?=x)y)"}, "is no RE2 pattern"),
        ("attribute", {"pattern": ""}, "it needs fields or a pattern"),
        ("attribute", {"examples": ["at main"]}, "at main"),
    ],
)
def test_a_mistake_in_a_users_rule_is_named_with_its_place(
    tmp_path: Path, table: str, change: dict[str, Any], said: str
) -> None:
    good = WHOLE[table]
    named = next(k for k in ("id", "kind", "name") if k in good)
    first = {**good, named: "job_failed" if table == "phrase" else "first"}
    told = refused(tmp_path, toml(table, first, {**good, **change}))
    assert f"[[{table}]] number 2: " in told
    assert said in told


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ("signature", "class"),
        ("signature", "all_of"),
        ("alert", "window"),
        ("job_kind", "ttl"),
        ("objective", "window"),
        ("redaction", "hint"),
        ("phrase", "pattern"),
    ],
)
def test_a_missing_key_is_named_as_the_file_would_write_it(tmp_path: Path, table: str, key: str) -> None:
    entry = {k: v for k, v in WHOLE[table].items() if k != key}
    assert f"[[{table}]] number 1: key {key!r} is missing" in refused(tmp_path, toml(table, entry))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[signatur]]\nid = 'x'\n", "unknown table [[signatur]] | did you mean [[signature]]?"),
        ("signature = 3\n", "[[signature]] number 1: it must be a table"),
        ("signature = ['x']\n", "[[signature]] number 1: it must be a table"),
        ("[[signature]\n", "is not TOML"),
        (toml("signature", SIGNATURE, SIGNATURE), "[[signature]] number 2: id 'oom' is there twice"),
    ],
)
def test_a_file_that_is_no_catalogue_is_refused(tmp_path: Path, text: str, said: str) -> None:
    assert said in refused(tmp_path, text)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.toml cannot be read: FileNotFoundError") as told:
        catalog.load([str(tmp_path / "nowhere.toml")])
    assert told.value.fix == "correct catalogue.files"


@pytest.mark.parametrize(
    ("example", "shape"),
    [("{{a5}}", "[A-Za-z0-9]{5}"), ("{{u60}}", "[A-Z0-9]{60}"), ("{{d3}}", "[0-9]{3}"), ("{{h9}}", "[0-9a-f]{9}")],
)
def test_random_looking_parts_of_an_example_are_written_out(example: str, shape: str) -> None:
    written = catalog.expanded(f"a{example}z")
    assert re.fullmatch(f"a{shape}z", written)
    assert catalog.expanded(3) == 3
