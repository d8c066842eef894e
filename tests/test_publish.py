"""Publishing: one comment of ours on an issue, whatever else stands there, and nothing that may not be written."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pipeline import settings
from pipeline.errors import RefusedError, SourceError, UsageError
from pipeline.steps.context import open_context
from pipeline.steps.publish import Published, made, publish
from tests.comment_data import comment, daily, postmortem
from tests.faults import HANGS_UP, Asked, Say
from tests.github_server import REPOSITORY, Hub

MOVED = {"message": "Moved", "url": "", "documentation_url": ""}
TOKEN = "ghp_" + "EXAMPLE" * 5


@dataclass
class Clock:
    """A clock that only sleeping moves; `slept` is for how long."""

    now: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@dataclass
class Site:
    """A folder with a report, and a GitHub to publish it on."""

    hub: Hub
    folder: Path
    clock: Clock
    url: str
    said: list[str] = field(default_factory=list)
    repository: str = REPOSITORY
    login: str = ""

    def publish(
        self,
        report: Mapping[str, Any] | None = None,
        *,
        dry_run: bool = False,
        allow_public: bool = False,
        issue: int = 205,
    ) -> Published:
        self.put(report or postmortem())
        flags = {"github.repository": self.repository, "github.api_url": self.url, "github.login": self.login}
        env = {"AISLOT_GITHUB__TOKEN": TOKEN}
        config = settings.load(None, "", env, {**flags, "lake.uri": str(self.folder / "lake")})
        ctx = open_context(config, 0, self.said.append)
        return publish(
            ctx,
            issue,
            self.folder,
            dry_run=dry_run,
            allow_public=allow_public,
            clock=self.clock,
            sleep=self.clock.sleep,
        )

    def put(self, report: Mapping[str, Any]) -> None:
        (self.folder / "summary.json").write_text(json.dumps(report), encoding="utf-8")

    def refused(self, **how: Any) -> RefusedError:
        with pytest.raises(RefusedError) as caught:
            self.publish(**how)
        assert caught.value.exit_code == 6
        assert caught.value.fix
        assert TOKEN not in f"{caught.value} {caught.value.fix}"
        return caught.value


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Give the clock, by which the door to GitHub sleeps too."""
    made_ = Clock()
    monkeypatch.setattr("pipeline.sources.http.Door.__init__.__defaults__", (None, made_.sleep, None))
    return made_


@pytest.fixture
def site(tmp_path: Path, clock: Clock) -> Iterator[Site]:
    with serving(Hub(), tmp_path, clock) as there:
        yield there


@contextmanager
def serving(hub: Hub, folder: Path, clock: Clock) -> Iterator[Site]:
    with hub.serving() as url:
        yield Site(hub, folder, clock, url)


def test_a_comment_is_created_once_updated_when_it_differs_and_not_written_again(site: Site) -> None:
    first = site.publish()
    assert first.action == "created"
    assert first.url == f"https://github.com/{REPOSITORY}/issues/205#issuecomment-1"
    assert site.hub.bodies == [comment(postmortem()).body]
    assert first.size == len(site.hub.bodies[0].encode())
    assert site.publish().action == "unchanged"
    assert site.publish(postmortem(made_at="2026-02-28T00:00:00Z")).action == "unchanged"
    assert site.hub.writes == ["POST"]
    later = site.publish(postmortem(revision=4))
    assert (later.action, later.url) == ("updated", first.url)
    assert site.hub.writes == ["POST", "PATCH"]
    assert site.hub.bodies == [comment(postmortem(revision=4)).body]


def test_each_kind_and_key_has_a_comment_of_its_own(site: Site) -> None:
    assert [site.publish(r).action for r in (postmortem(), daily(), postmortem(issue=206))] == ["created"] * 3
    assert [site.publish(r).action for r in (postmortem(), daily(), postmortem(issue=206))] == ["unchanged"] * 3
    assert len(site.hub.bodies) == 3


def test_what_others_wrote_is_never_touched(site: Site) -> None:
    body = comment(postmortem(revision=2)).body
    kept = [
        site.hub.add(body, "octocat"),  # pasted: the marker alone does not make it ours
        site.hub.add("no marker", site.hub.login),
        site.hub.add(f"> {body}", site.hub.login),
        site.hub.add("x\n" + body, site.hub.login),
        site.hub.add(comment(daily()).body),
    ]
    before = json.dumps(kept)
    assert site.publish().action == "created"
    assert site.publish(postmortem(revision=4)).action == "updated"
    assert json.dumps([site.hub.comments[c["id"]] for c in kept]) == before
    assert set(site.hub.writes) == {"POST", "PATCH"}


def test_a_comment_of_ours_that_people_edited_is_theirs(site: Site) -> None:
    site.publish()
    edited = site.hub.comments[1]["body"].replace("Provisional", "Surely")
    site.hub.comments[1]["body"] = edited
    assert site.publish(postmortem(revision=4)).action == "created"
    assert any("edited by hand" in s for s in site.said)
    assert site.publish(postmortem(revision=5)).action == "updated"
    assert site.hub.bodies == [edited, comment(postmortem(revision=5)).body]


def test_line_ends_and_blanks_that_a_server_changes_are_no_edit(site: Site) -> None:
    site.publish()
    site.hub.comments[1]["body"] = site.hub.comments[1]["body"].replace("\n", "\r\n").rstrip()
    assert site.publish().action == "unchanged"
    assert site.publish(postmortem(revision=4)).action == "updated"
    assert len(site.hub.bodies) == 1


def test_a_deleted_account_wrote_nothing_of_ours(site: Site) -> None:
    site.hub.add(comment(postmortem()).body)["user"] = None
    assert site.publish().action == "created"


def test_of_two_of_ours_the_newer_goes(site: Site) -> None:
    for revision in (1, 2, 3):
        site.hub.add(comment(postmortem(revision=revision)).body)
    done = site.publish()
    assert (done.action, done.deleted) == ("updated", 2)
    assert list(site.hub.comments) == [1]
    assert site.hub.bodies == [comment(postmortem()).body]


@pytest.mark.parametrize("theirs", [3, 2])
def test_a_race_of_two_runs_leaves_one_comment_with_what_was_published_last(site: Site, theirs: int) -> None:
    def other(asked: Asked) -> Say | None:
        if asked.method == "POST":
            site.hub.hook = lambda _: None
            site.hub.add(comment(postmortem(revision=theirs)).body)  # between our look and our write
        return None

    site.hub.hook = other
    done = site.publish()
    assert done.deleted == 1
    assert done.action == ("unchanged" if theirs == 3 else "updated")
    assert list(site.hub.comments) == [1]
    assert site.hub.bodies == [comment(postmortem()).body]


def test_a_newer_one_that_the_other_run_has_deleted_already_is_no_error(site: Site) -> None:
    def other(asked: Asked) -> Say | None:
        if asked.method == "DELETE":
            site.hub.comments.pop(2)
        return None

    site.hub.add(comment(postmortem()).body)
    site.hub.add(comment(postmortem()).body)
    site.hub.hook = other
    assert site.publish().deleted == 1
    assert list(site.hub.comments) == [1]


def test_a_comment_that_is_deleted_as_we_write_is_made_anew(site: Site) -> None:
    def other(asked: Asked) -> Say | None:
        if asked.method == "PATCH":
            site.hub.comments.clear()
        return None

    site.hub.add(comment(postmortem(revision=1)).body)
    site.hub.hook = other
    assert site.publish().action == "created"
    assert site.hub.bodies == [comment(postmortem()).body]


@pytest.mark.parametrize("done_first", [True, False])
def test_a_write_whose_answer_is_lost_is_looked_up_before_it_is_written_again(site: Site, *, done_first: bool) -> None:
    lost: list[Asked] = []

    def cut(asked: Asked) -> Say | None:
        if asked.method == "POST" and not lost:
            lost.append(asked)
            if done_first:
                site.hub.add(json.loads(asked.body)["body"])
            return HANGS_UP
        return None

    site.hub.hook = cut
    assert site.publish().action == "created"
    assert len(site.hub.bodies) == 1
    assert site.hub.writes == ["POST"] * (1 if done_first else 2)


def test_a_server_that_is_down_is_exit_3_and_a_post_is_not_repeated_blindly(site: Site) -> None:
    site.hub.hook = lambda a: Say({"message": "oops"}, 502) if a.method == "POST" else None
    with pytest.raises(SourceError) as caught:
        site.publish()
    assert caught.value.exit_code == 3
    looks = [a for a in site.hub.asked if a.startswith(("POST", "GET")) and "/comments" in a]
    assert [a.split()[0] for a in looks[-6:]] == ["POST", "GET"] * 3


def test_writes_are_a_second_apart_also_when_they_are_repeated(site: Site) -> None:
    at: list[float] = []
    busy = [Say({"message": "busy"}, 503)] * 2

    def see(asked: Asked) -> Say | None:
        if asked.method == "GET":
            return None
        at.append(site.clock())
        return busy.pop() if asked.method == "PATCH" and busy else None

    for revision in (1, 2, 3):
        site.hub.add(comment(postmortem(revision=revision)).body)
    site.hub.hook = see
    assert site.publish(postmortem(revision=9)).action == "updated"
    assert site.hub.writes == ["DELETE", "DELETE", "PATCH", "PATCH", "PATCH"]
    assert all(b - a >= 1.0 for a, b in itertools.pairwise(at))


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("status", "headers", "wait"),
    [(403, {"Retry-After": "17"}, 17), (429, {"Retry-After": "5"}, 5), (403, {"X-RateLimit-Remaining": "0"}, 42)],
)
def test_a_rate_limit_is_waited_for(site: Site, method: str, status: int, headers: dict[str, str], wait: int) -> None:
    reset = {"X-RateLimit-Reset": str(int(time.time()) + 42)}
    limited = [Say({"message": "API rate limit exceeded"}, status, headers | reset)]
    site.hub.hook = lambda a: limited.pop() if a.method == method and limited else None
    assert site.publish().action == "created"
    assert any(wait - 5 < s <= wait for s in site.clock.slept)
    assert len(site.hub.bodies) == 1


def test_a_rate_limit_on_asking_who_we_are_is_no_answer(site: Site) -> None:
    limited = [Say({"message": "API rate limit exceeded"}, 403, {"Retry-After": "9"})]
    site.publish()
    site.hub.hook = lambda a: limited.pop() if a.path == "/user" and limited else None
    assert site.publish().action == "unchanged"
    assert 9.0 in site.clock.slept


def test_a_token_of_actions_that_may_not_ask_who_it_is_finds_its_own(site: Site) -> None:
    site.hub.login, site.hub.may_ask = "github-actions[bot]", False
    assert [site.publish().action for _ in range(2)] == ["created", "unchanged"]


def test_an_app_that_may_not_ask_finds_its_own_by_what_it_is_answered(site: Site) -> None:
    site.hub.login, site.hub.may_ask = "our-app[bot]", False
    assert site.publish().action == "created"
    assert site.publish().action == "unchanged"  # the second one was written, seen and taken away again
    assert len(site.hub.bodies) == 1
    assert any("github.login = 'our-app[bot]'" in s for s in site.said)
    site.login = "Our-App[bot]"
    assert site.publish().action == "unchanged"
    assert site.hub.writes == ["POST", "POST", "DELETE"]


def test_every_page_is_read_and_a_page_that_did_not_change_is_not_sent_again(site: Site) -> None:
    site.hub.per_page = 2
    for n in range(5):
        site.hub.add(f"comment {n}", "octocat")
    assert site.publish().action == "created"
    assert site.hub.faults is not None
    tags = [a.headers.get("If-None-Match") for a in site.hub.faults.asked if a.path.endswith("/205/comments")]
    assert sum(t is not None for t in tags) >= 3
    site.hub.add("more", "octocat")
    assert site.publish().action == "unchanged"
    assert site.hub.writes == ["POST"]


def test_a_repository_that_was_renamed_is_followed(site: Site) -> None:
    site.repository = "old/name"
    assert [site.publish().action for _ in range(2)] == ["created", "unchanged"]


@pytest.mark.parametrize("status", [301, 307])
def test_a_write_that_is_sent_on_is_written_there(site: Site, status: int) -> None:
    here = f"/repos/{REPOSITORY}/issues"
    site.publish(postmortem(revision=1))

    def moved(asked: Asked) -> Say | None:
        if asked.method != "PATCH" or not asked.path.startswith("/repos/"):
            return None
        return Say(MOVED, status, {"Location": asked.path.replace(here, "/repositories/7/issues")})

    site.hub.hook = moved
    assert site.publish().action == "updated"
    assert site.hub.bodies == [comment(postmortem()).body]


def test_credentials_are_not_carried_to_another_server(site: Site) -> None:
    site.hub.hook = lambda _: Say(MOVED, 301, {"Location": "http://evil.example/repos/a/b"})
    with pytest.raises(SourceError, match="another server") as caught:
        site.publish()
    assert TOKEN not in str(caught.value)
    assert len(site.hub.asked) == 1


def test_github_enterprise_is_asked_below_its_path(tmp_path: Path, clock: Clock) -> None:
    with serving(Hub(prefix="/api/v3", per_page=1), tmp_path, clock) as site:
        site.hub.add("hello", "octocat")
        assert [site.publish().action for _ in range(2)] == ["created", "unchanged"]
        assert site.hub.faults is not None
        assert all(a.path.startswith("/api/v3/") for a in site.hub.faults.asked)


@pytest.mark.parametrize(
    ("change", "words", "fix"),
    [
        ({"may_write": False}, "lets us read, not write", "issues: write"),
        ({"archived": True}, "is archived", "unarchive"),
        ({"locked": True}, "is locked", "unlock"),
        ({"issues": {7}}, "has no issue 205", "--issue"),
        ({"private": False}, "is public", "--allow-public"),
    ],
)
def test_what_may_not_be_written_is_refused_with_what_to_do(
    site: Site, change: dict[str, Any], words: str, fix: str
) -> None:
    for name, value in change.items():
        setattr(site.hub, name, value)
    error = site.refused()
    assert words in error.what
    assert fix in error.fix
    assert site.hub.bodies == []
    assert site.hub.writes == (["POST"] if "may_write" in change else [])


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "does not take the token"),
        (403, "read, not write"),
        (404, "read, not write"),
        (410, "deleted"),
        (422, "does not take"),
    ],
)
def test_a_refused_write_is_exit_6_and_not_repeated(site: Site, status: int, words: str) -> None:
    body = {"message": "no", "documentation_url": "https://docs.github.com"}
    site.hub.hook = lambda a: Say(body, status) if a.method == "POST" else None
    assert words in site.refused().what
    assert site.hub.writes == ["POST"]


def test_a_repository_that_is_not_there_is_refused(site: Site) -> None:
    site.repository = "no/body"
    assert "knows no repository no/body" in site.refused().what


def test_a_public_repository_needs_to_be_allowed(site: Site) -> None:
    site.hub.private = False
    site.refused()
    assert site.publish(allow_public=True).action == "created"


def test_a_repository_that_does_not_say_whether_it_is_public_counts_as_public(site: Site) -> None:
    whole = site.hub(Asked("GET", f"/repos/{REPOSITORY}", {}, {}, f"/repos/{REPOSITORY}")).body
    said = {k: v for k, v in whole.items() if k != "private"}
    site.hub.hook = lambda a: Say(json.dumps(said)) if a.path == f"/repos/{REPOSITORY}" else None
    assert "is public" in site.refused().what


def test_a_dry_run_shows_the_difference_and_writes_nothing(site: Site) -> None:
    site.hub.may_write = False
    done = site.publish(dry_run=True)
    assert (done.action, done.url) == ("would create", None)
    assert done.diff.startswith("--- issue 205\n+++ this report\n")
    assert "\n+## Postmortem evidence, issue 205\n" in done.diff
    site.hub.add(comment(postmortem(revision=2)).body)
    done = site.publish(dry_run=True)
    assert done.action == "would update"
    assert "\n-> **Provisional, revision 2.**" in done.diff
    assert "\n+> **Provisional, revision 3.**" in done.diff
    assert site.publish(postmortem(revision=2), dry_run=True).action == "unchanged"
    assert site.publish(postmortem(revision=2), dry_run=True).diff == ""
    assert site.hub.writes == []


@pytest.mark.parametrize("change", ["archived", "locked", "private"])
def test_a_dry_run_says_what_would_refuse_the_comment(site: Site, change: str) -> None:
    setattr(site.hub, change, change != "private")
    done = site.publish(dry_run=True)
    assert done.diff
    assert done.refused is not None
    assert done.refused.exit_code == 6
    assert site.hub.writes == []


def test_a_secret_in_the_comment_is_refused_before_anything_is_asked(site: Site) -> None:
    secret = "gh" + "p_" + "EXAMPLE" + "a1B2" * 7 + "x"
    report = postmortem()
    report["excerpts"][0]["shown"][0][0]["text"] = f"clone with {secret}"
    for dry_run in (False, True):
        error = site.refused(report=report, dry_run=dry_run)
        assert secret not in f"{error} {error.fix}"
        assert "rule github-token" in error.what
    assert site.hub.asked == []
    offset = int(error.what.partition("byte ")[2].partition(";")[0])
    assert comment(report).body.encode()[offset:].startswith(secret.encode())


def test_a_server_that_keeps_another_text_gets_it_taken_away_again(site: Site) -> None:
    def other(asked: Asked) -> Say | None:
        return Say(site.hub.add("something else"), 201) if asked.method == "POST" else None

    site.hub.hook = other
    with pytest.raises(SourceError, match="keeps another text"):
        site.publish()
    assert site.hub.bodies == []


@pytest.mark.parametrize(
    ("report", "words"),
    [
        ("{", "is no JSON"),
        ("[]", "of no report"),
        ('{"report": "weekly"}', "weekly"),
        ('{"report": "postmortem", "issue": 205}', "does not say"),
        ('{"report": "daily", "date": "yesterday"}', "does not say"),
        ('{"report": "daily", "lang": "de", "date": "2026-02-26"}', "'de' is not known"),
    ],
)
def test_a_folder_without_a_report_is_a_usage_error(tmp_path: Path, report: str, words: str) -> None:
    with pytest.raises(UsageError, match="there is no report"):
        made(tmp_path)
    (tmp_path / "summary.json").write_text(report, encoding="utf-8")
    with pytest.raises(UsageError, match=words):
        made(tmp_path)


def test_a_repository_has_to_be_set(site: Site) -> None:
    site.repository = ""
    with pytest.raises(UsageError, match=r"github\.repository"):
        site.publish()


def test_the_labels_of_an_issue_are_never_asked_nor_written(site: Site) -> None:
    site.publish()
    site.publish(postmortem(revision=4))
    assert not [a for a in site.hub.asked if "label" in a]
