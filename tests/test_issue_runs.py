"""What comments say of runs: what counts as the platform's word, what as a person's, and what as nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.sources import github
from pipeline.sources.github import issue_runs

REPOSITORY = "codex-k8s/codex-k8s"
RUN, OTHER = "3f2a9c1e-7b41-4c1d-9a60-52e1c07d8b14", "d23f0824-1286-4bb0-8e07-0e3c5a1f9b77"
JOB = "codex-k8s-run-3f2a9c1e-7b41-4c1d-9a60-52e1c07d8b14"


def told(**said: Any) -> str:
    known = {"run_id": RUN, "phase": "finished", "issue_number": 205, "job_name": JOB, "job_namespace": "prod"}
    return json.dumps({k: v for k, v in (known | said).items() if v is not None})


def marker(**said: Any) -> str:
    return f"<!-- codex-k8s:run-status {told(**said)} -->"


def comment(body: Any, *, bot: bool = False, number: int = 1, **more: Any) -> dict[str, Any]:
    page = f"https://github.com/{REPOSITORY}/issues/205"
    return {
        "id": number,
        "html_url": f"{page}#issuecomment-{number}",
        "issue_url": f"https://api.github.com/repos/{REPOSITORY}/issues/205",
        "user": {"login": "codex-k8s[bot]", "type": "Bot"} if bot else {"login": "anna", "type": "User"},
        "created_at": "2026-02-26T09:00:00Z",
        "body": body,
    } | more


def rows(*comments: Mapping[str, Any], repository: str = REPOSITORY, ours: str = "") -> list[dict[str, Any]]:
    return list(issue_runs(comments, repository, ours)[0].to_pylist())


def short(*comments: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    return [(r["run_id"], r["issue"], r["found_by"], r["author_kind"]) for r in rows(*comments)]


@pytest.mark.parametrize("bot", [True, False])
@pytest.mark.parametrize(
    "above",
    [
        f"### Agent run\n\n- Run ID: `{RUN}`\n- Job: `prod/{JOB}`\n- Status: finished",
        f"### Запуск агента\r\n\r\n- Run ID: `{RUN}`\r\n- Job: `prod/{JOB}`\r\n- Статус: finished\r\n",
        f"**Run ID:** `{RUN}`",
        "",
    ],
)
def test_the_platforms_comment_gives_one_row_of_its_marker(above: str, bot: bool) -> None:
    (row,) = rows(comment(f"{above}\n{marker(run_status='failed', correlation_id=OTHER)}\n", bot=bot))
    assert row == {
        "ts": row["ts"],
        "run_id": RUN,
        "issue": 205,
        "repository": REPOSITORY,
        "job_namespace": "prod",
        "job_name": JOB,
        "phase": "finished",
        "run_status": "failed",
        "found_by": "marker",
        "author_kind": "platform",
        "comment_url": f"https://github.com/{REPOSITORY}/issues/205#issuecomment-1",
    }
    assert row["ts"].isoformat() == "2026-02-26T09:00:00+00:00"


QUOTED = [
    pytest.param(f"> {marker()}\n\nwhy did this fail?", id="quoted, with a question"),
    pytest.param(f"> {marker()}", id="quoted, nothing more"),
    pytest.param(f"{marker()}\nwhy did this fail?", id="pasted before a question"),
    pytest.param(f"see {marker()}", id="within a line"),
    pytest.param(f"```\n{marker()}\n```", id="in a fence"),
    pytest.param(f"````md\n```\n{marker()}\n```\n````", id="in a fence in a fence"),
    pytest.param(f"~~~\n{marker()}", id="in a fence that nobody closed"),
    pytest.param(f"    {marker()}", id="indented code"),
    pytest.param(f"`{marker()}`", id="in a code span"),
    pytest.param(marker(issue_number=7), id="pasted from another issue"),
]


@pytest.mark.parametrize("body", QUOTED)
def test_a_marker_that_a_person_quotes_or_pastes_names_its_run_as_text_does(body: str) -> None:
    assert short(comment(body)) == [(RUN, 205, "text", "person")]


@pytest.mark.parametrize("body", QUOTED[:9])
def test_what_a_bot_quotes_is_no_marker_either_but_before_other_lines_it_is(body: str) -> None:
    own = body.startswith("<!--")
    assert short(comment(body, bot=True)) == [(RUN, 205, "marker" if own else "text", "platform")]


def test_a_transferred_issue_is_where_the_bots_comment_stands() -> None:
    assert short(comment(marker(issue_number=7), bot=True)) == [(RUN, 205, "marker", "platform")]


def test_an_escaped_marker_is_text() -> None:
    escaped = marker().replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
    assert short(comment(escaped)) == [(RUN, 205, "text", "person")]


@pytest.mark.parametrize(
    "said",
    [
        "not JSON",
        '{"run_id": "x"',
        "[" * 10_000,
        '["run_id"]',
        "{}",
        '{"run_id": 7}',
        '{"run_id": ""}',
        '{"run_id": "\\ud800"}',
        '{"run_id": "two words"}',
        '{"run_id": "' + "x" * 300 + '"}',
        '{"run_id": "x", "n": ' + "9" * 5000 + "}",
    ],
)
def test_a_marker_that_cannot_be_read_is_counted_and_harms_nothing(said: str) -> None:
    table, counts = issue_runs(
        [comment(f"- Run ID: `{RUN}`\n<!-- codex-k8s:run-status {said} -->", bot=True)], REPOSITORY
    )
    assert [(r["run_id"], r["found_by"], r["author_kind"]) for r in table.to_pylist()] == [(RUN, "text", "platform")]
    assert counts == {"comments": 1, "unreadable": 1}


@pytest.mark.parametrize("value", [7, "", "\ud800", "a b", ["x"], {"x": 1}, "\u202e", "x" * 300])
def test_odd_values_of_a_marker_are_unknown(value: Any) -> None:
    (row,) = rows(comment(marker(job_name=value, run_status=value), bot=True))
    assert (row["run_id"], row["job_name"], row["run_status"]) == (RUN, None, None)


def test_of_two_markers_about_one_run_the_last_is_kept_and_two_runs_are_two_rows() -> None:
    body = "\n".join([marker(phase="created"), marker(phase="finished"), marker(run_id=OTHER)])
    assert [(r["run_id"], r["phase"]) for r in rows(comment(body, bot=True))] == [
        (RUN, "finished"),
        (OTHER, "finished"),
    ]


@pytest.mark.parametrize(
    ("body", "runs"),
    [
        (f"Run {RUN} не собирается второй раз подряд", [RUN]),
        (f"`{RUN}` fails, {OTHER} too", [RUN, OTHER]),
        (f"the pod {JOB}-x7k2p is gone", [RUN]),
        (f"{RUN.upper()} again, {RUN} I mean", [RUN]),
        ("- Run ID: `nightly_2026.02.26`", ["nightly_2026.02.26"]),
        ("> - Run ID: `nightly_2026.02.26`", ["nightly_2026.02.26"]),
        (f"see #205 and {REPOSITORY}#7", []),
        (f"{RUN}0 and 0{RUN}", []),
        ("3f2a9c1e-7b4", []),
        ("", []),
        (None, []),
        (7, []),
    ],
)
def test_runs_are_found_in_what_people_write(body: Any, runs: list[str]) -> None:
    assert short(comment(body)) == [(r, 205, "text", "person") for r in sorted(runs)]


@pytest.mark.parametrize(
    ("body", "job"),
    [
        (f"- Run ID: `{RUN}`\n- Job: `prod/{JOB}`", ("prod", JOB)),
        (f"{RUN}\n* **Job:** `prod/build-1`", ("prod", "build-1")),
        (f"{RUN} {OTHER}\n- Job: `prod/{JOB}`", (None, None)),
        (f"{RUN}\n- Job: `prod/build-1`\n- Job: `prod/build-2`", (None, None)),
        (f"{RUN}\n- Job: `prod/build-1`\n- Job: `prod/build-1`", ("prod", "build-1")),
        (f"{RUN}\n- Job: build-1", (None, None)),
    ],
)
def test_a_job_belongs_to_a_run_where_a_comment_names_one_of_each(body: str, job: tuple[Any, Any]) -> None:
    assert {(r["job_namespace"], r["job_name"]) for r in rows(comment(body))} == {job}


@pytest.mark.parametrize(
    ("more", "issue"),
    [
        ({"issue_url": None}, 205),
        ({"issue_url": "https://ghe.example/api/v3/repos/o/r/issues/31"}, 31),
        ({"issue_url": None, "html_url": f"https://github.com/{REPOSITORY}/pull/12#issuecomment-1"}, 12),
        ({"issue_url": None, "html_url": None}, 205),  # as the marker says
        ({"issue_url": 7, "html_url": ["x"]}, 205),
    ],
)
def test_the_issue_is_where_the_comment_stands(more: Mapping[str, Any], issue: int) -> None:
    assert {r["issue"] for r in rows(comment(marker(issue_number=issue), **more))} == {issue}


@pytest.mark.parametrize(
    "more",
    [
        {"created_at": "yesterday"},
        {"created_at": None},
        {"created_at": 1772096400},
        {"created_at": "9999-01-01T00:00:00Z"},
        {"created_at": "1969-12-31T23:59:59Z"},
        {"issue_url": "x", "html_url": "y", "body": RUN},
        {"issue_url": "x", "html_url": "y", "body": marker(issue_number=10**30)},
        {"issue_url": "x", "html_url": "y", "body": marker(issue_number="205")},
    ],
)
def test_a_comment_without_its_time_or_issue_is_counted(more: Mapping[str, Any]) -> None:
    table, counts = issue_runs([{**comment(marker()), **more}], REPOSITORY)
    assert table.num_rows == 0
    assert counts == {"comments": 1, "unreadable": 1}


def test_a_deleted_account_is_a_person_and_a_repository_is_known_from_its_comments() -> None:
    (row,) = rows(comment(RUN, user=None), repository="")
    assert (row["author_kind"], row["repository"]) == ("person", REPOSITORY)


OURS = f"<!-- aislot:postmortem 205 -->\n{RUN}"


@pytest.mark.parametrize(
    ("body", "login", "ours", "read"),
    [
        (OURS, "aislot-bot", "aislot-bot", False),
        (OURS, "Aislot-Bot", "aislot-bot", False),
        (OURS, "anyone", "", False),
        (OURS, "anyone", "aislot-bot", True),
        (f"> {OURS}", "anna", "aislot-bot", True),
        (f"{RUN}\n<!-- aislot:postmortem 205 -->", "aislot-bot", "aislot-bot", True),
    ],
)
def test_our_own_comments_are_never_read(body: str, login: str, ours: str, read: bool) -> None:
    found = rows(comment(body, user={"login": login, "type": "User"}), ours=ours)
    assert bool(found) == read


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from([marker(), "> ", "```", "\n", " ", RUN, "- Run ID: `", "`", "x", "-->", "\u2028", "\ud800"])
    )
)
def test_no_comment_stops_the_others(parts: list[str]) -> None:
    table, counts = issue_runs([comment("".join(parts)), comment(RUN, number=2)], REPOSITORY)
    assert counts["comments"] == 2
    assert any(r["comment_url"].endswith("-2") for r in table.to_pylist())


@pytest.mark.parametrize(
    "body",
    [
        "\n" * 65_000,
        " " * 65_000,
        "> " * 32_000,
        "- " * 32_000,
        github.MARKER * 2300,
        github.MARKER + "{" + " " * 65_000,
        github.MARKER + "-->" * 20_000 + "x",
        "*" * 65_000,
        "`" * 65_000,
        "0123456789abcdef-" * 3800,
    ],
)
@pytest.mark.timeout(20)
def test_a_large_comment_of_any_shape_takes_no_time(body: str) -> None:
    _, counts = issue_runs([comment(body), comment(body, bot=True)], REPOSITORY)
    assert counts["comments"] == 2
