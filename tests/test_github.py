"""GitHub's client: every page of the comments, what is waited for, and what is a refusal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from pipeline.errors import SourceError
from pipeline.sources import github
from pipeline.sources.github import GitHub
from pipeline.sources.http import Reply
from tests.faults import Answers, Asked, Form, Say, door_to, serving

REPOSITORY = "codex-k8s/codex-k8s"
SINCE = "2026-02-26T00:00:00Z"
NEXT = "http://fake/repositories/7/issues/comments?page={}"
NOON = {"Date": "Thu, 26 Feb 2026 12:00:00 GMT"}  # 1772107200 seconds after the epoch


def server(answer: Any) -> tuple[GitHub, Answers]:
    door = Answers(answer, "github")
    return GitHub(door, REPOSITORY), door


def refused(reply: Reply) -> tuple[SourceError, Answers]:
    asking, door = server(lambda _p, _f: reply)
    with pytest.raises(SourceError) as caught:
        asking.comments(SINCE)
    return caught.value, door


def test_every_page_is_read_in_an_order_that_edits_do_not_change() -> None:
    def pages(_: str, form: Form) -> Any:
        page = int(form.get("page", 1))
        link = f'<http://fake/first>; rel="first", <{NEXT.format(page + 1)}>; rel="next"' if page < 3 else ""
        return Reply(200, {"Link": link}, json.dumps([{"id": page}, {"id": page + 1}]).encode())

    asking, door = server(pages)
    found = asking.comments(SINCE)
    assert [c["id"] for c in found.found] == [1, 2, 3, 4]
    assert found.pages == 3
    assert door.asked[0].path == f"/repos/{REPOSITORY}/issues/comments"
    assert door.asked[0].form == {
        "since": SINCE,
        "sort": "created",
        "direction": "asc",
        "per_page": "100",
    }
    assert door.asked[1].path == "/repositories/7/issues/comments"


def test_pages_that_lead_in_a_circle_end() -> None:
    error, door = refused(Reply(200, {"Link": f'<{NEXT.format(2)}>; rel="next"'}, b"[]"))
    assert "lead back" in error.what
    assert len(door.asked) == 2


def test_a_next_page_on_another_server_is_not_asked() -> None:
    error, door = refused(Reply(200, {"Link": '<http://evil/comments?page=2>; rel="next"'}, b"[]"))
    assert "another server" in error.what
    assert "github.api_url" in error.fix
    assert len(door.asked) == 1


def test_pages_without_an_end_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(github, "_MOST_PAGES", 5)

    def endless(path: str, form: Mapping[str, str]) -> Reply:
        following = int(form.get("page", "1")) + 1
        return Reply(200, {"Link": f'<http://fake{path}?page={following}>; rel="next"'}, b"[]")

    asking, door = server(endless)
    with pytest.raises(SourceError, match="pages do not end: 5 were read") as caught:
        asking.comments(SINCE)
    assert "github.api_url" in caught.value.fix
    assert len(door.asked) == 5


def test_a_renamed_repository_is_found_where_it_moved() -> None:
    def moved(asked: Asked) -> Say:
        if asked.path.startswith("/repos/"):
            return Say({"message": "Moved Permanently"}, 301, {"Location": "/repositories/7/issues/comments"})
        return Say([{"id": 1}])

    with serving(moved) as there:
        door, _ = door_to(there.url, name="github", headers={"Authorization": "Bearer t"})
        found = GitHub(door, "old/name").comments(SINCE)
    assert len(found.found) == 1
    assert [a.form["since"] for a in there.asked] == [SINCE] * 2
    assert there.asked[1].headers["Authorization"] == "Bearer t"


@pytest.mark.parametrize(
    ("status", "headers", "body", "wait"),
    [
        (403, {"Retry-After": "17"}, b"", 17.0),
        (429, {"Retry-After": "Thu, 26 Feb 2026 12:00:30 GMT", **NOON}, b"", 30.0),
        (403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1772107242", **NOON}, b"", 42.0),
        (429, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1772107242", **NOON}, b"", 42.0),
        (403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "soon", **NOON}, b"", 60.0),
        (403, {"X-RateLimit-Remaining": "0"}, b"", 60.0),
        (429, {}, b"", 60.0),
        (403, {"X-RateLimit-Remaining": "12"}, b"You have exceeded a secondary rate limit.", 60.0),
    ],
)
def test_a_used_up_rate_limit_is_waited_for(status: int, headers: Mapping[str, str], body: bytes, wait: float) -> None:
    replies = [Reply(200, {}, b"[]"), Reply(status, headers, body)]
    asking, door = server(lambda _p, _f: replies.pop())
    assert asking.comments(SINCE).found == []
    assert door.slept == [wait]


def test_a_rate_limit_that_is_renewed_much_later_is_left_to_the_next_run() -> None:
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1772109000", **NOON}
    error, door = refused(Reply(403, headers, b""))
    assert "1800 s" in error.what
    assert "AISLOT_GITHUB__TOKEN" in error.fix
    assert len(door.asked) == 1


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(401, {}, b'{"message": "Bad credentials"}'), "Bad credentials"),
        (
            Reply(403, {"X-RateLimit-Remaining": "50"}, b"Resource not accessible by personal access token"),
            "accessible",
        ),
        (Reply(404, {}, b'{"message": "Not Found"}'), "knows no such repository"),
        (Reply(410, {}, b'{"message": "Issues are disabled for this repo"}'), "disabled"),
        (Reply(200, {}, b'{"comments": []}'), "not GitHub's API"),
    ],
)
def test_a_refusal_is_said_with_what_to_do_and_not_asked_again(reply: Reply, words: str) -> None:
    error, door = refused(reply)
    assert words in error.what
    assert "github." in error.fix
    assert len(door.asked) == 1


@pytest.mark.parametrize(
    ("reply", "login"),
    [
        (Reply(200, {}, b'{"login": "aislot-bot"}'), "aislot-bot"),
        (Reply(403, {}, b"Resource not accessible by integration"), "github-actions[bot]"),
        (Reply(401, {}, b"Requires authentication"), "github-actions[bot]"),
    ],
)
def test_our_login_is_asked_for_and_where_a_token_may_not_ask_it_is_that_of_actions(reply: Reply, login: str) -> None:
    assert server(lambda _p, _f: reply)[0].login() == login


def test_a_server_without_logins_is_not_github() -> None:
    with pytest.raises(SourceError, match="not GitHub's API"):
        server(lambda _p, _f: ["x"])[0].login()
