"""GitHub: the comments of one issue, read with ETags and written by us, a second apart at the least.

Only comments are ever written: the platform starts agents from labels. A refusal is a RefusedError (nothing was written),
a server that is down or no GitHub a SourceError.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pipeline.errors import AislotError, RefusedError, SourceError
from pipeline.sources.github import check_limit, next_page, not_github
from pipeline.sources.http import Door, Reply, UnsureError

T = TypeVar("T")
_BETWEEN_S = 1.0  # what GitHub asks of those who write
_TRIES = 3
_OK, _UNCHANGED, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _GONE, _INVALID = 200, 304, 401, 403, 404, 410, 422
_REFUSALS = {_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _GONE, _INVALID, 429}
_PLACE = re.compile(r"/repos/([\w.-]+/[\w.-]+)(?:/issues/(\d{1,10}))?$")
_ALLOWED = (
    "set AISLOT_GITHUB__TOKEN or github.token_file to a token that may write comments on this repository's issues "
    "(fine-grained: Issues, read and write; in Actions: permissions: issues: write)"
)


@dataclass(frozen=True)
class Comment:
    """One comment as it stands there."""

    id: int
    login: str
    body: str
    url: str


@dataclass(frozen=True)
class Place:
    """Where an issue's comments stand; `refused` says why nobody may write there, None where one may."""

    repository: str
    issue: int
    public: bool
    refused: RefusedError | None


@dataclass
class Thread:
    """Reads and writes the comments of issues; `clock` (seconds) and `sleep` keep writes apart."""

    door: Door
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    _written_at: float | None = None
    _pages: dict[str, tuple[str, list[Comment], str]] = field(default_factory=dict)

    def place(self, repository: str, issue: int) -> Place:
        """Find an issue, wherever it was moved to. Raises RefusedError, SourceError."""
        home = self._get(
            f"/repos/{repository}", f"GitHub knows no repository {repository}, or the token may not see it"
        )
        found = self._get(f"/repos/{repository}/issues/{issue}", f"{repository} has no issue {issue}")
        place = _PLACE.search(str(found.get("url")))
        if place is None or place[2] is None:
            raise not_github()
        there = home if place[1] == home.get("full_name") else self._get(f"/repos/{place[1]}", f"{place[1]} is hidden")
        return Place(place[1], int(place[2]), there.get("private") is not True, _closed(there, found))

    def comments(self, place: Place) -> list[Comment]:
        """Return an issue's comments, oldest first. Raises RefusedError, SourceError."""
        found: dict[int, Comment] = {}
        path, read = f"/repos/{place.repository}/issues/{place.issue}/comments?per_page=100", set[str]()
        while path and path not in read:
            read.add(path)
            items, path = self._page(path)
            found |= {c.id: c for c in items}
        return sorted(found.values(), key=lambda c: c.id)

    def create(self, place: Place, body: str, ours: Callable[[Comment], bool]) -> Comment:
        """Write a new comment, which `ours` would find. Raises RefusedError, SourceError.

        Where the answer is lost it is looked up whether the comment came to be, before it is written again.
        """
        path = f"/repos/{place.repository}/issues/{place.issue}/comments"
        for left in reversed(range(_TRIES)):
            try:
                return self._write("POST", path, {"body": body}, _one)
            except UnsureError:
                made = [c for c in self.comments(place) if ours(c)]
                if made:
                    return made[0]
                if not left:
                    raise
        raise AssertionError("unreachable: the last try returns or raises")

    def update(self, place: Place, comment: Comment, body: str) -> Comment | None:
        """Write a comment anew; None where it is gone. Raises RefusedError, SourceError."""
        return self._write("PATCH", _path(place, comment), {"body": body}, _one_or_none)

    def delete(self, place: Place, comment: Comment) -> None:
        """Delete a comment; one that is gone already is as good. Raises RefusedError, SourceError."""
        self._write("DELETE", _path(place, comment), None, _nothing)

    def _get(self, path: str, missing: str) -> Mapping[str, Any]:
        def check(reply: Reply) -> Mapping[str, Any]:
            if reply.status == _NOT_FOUND:
                raise RefusedError(missing, f"check --issue and github.repository, and {_ALLOWED}")
            return _object(reply)

        return self.door.get(path, check=check, raw_status=_REFUSALS)

    def _page(self, path: str) -> tuple[list[Comment], str]:
        """Read a page; one that was read before comes again only where it has changed."""
        known = self._pages.get(path)

        def check(reply: Reply) -> tuple[list[Comment], str]:
            if reply.status == _UNCHANGED and known:
                return known[1:]
            _check(reply)
            items = reply.json()
            if not isinstance(items, list):
                raise not_github()
            page = [_comment(i) for i in items], next_page(reply)
            if reply.headers.get("ETag"):
                self._pages[path] = (reply.headers["ETag"], *page)
            return page

        headers = {"If-None-Match": known[0]} if known else {}
        return self.door.get(path, check=check, headers=headers, raw_status={*_REFUSALS, _UNCHANGED})

    def _write(self, method: str, path: str, body: Mapping[str, Any] | None, check: Callable[[Reply], T]) -> T:
        now = self.clock()
        wait = 0.0 if self._written_at is None else self._written_at + _BETWEEN_S - now
        if wait > 0:
            self.sleep(wait)
        try:
            return self.door.write(method, path, body, check=check, raw_status=_REFUSALS)
        finally:
            self._written_at = self.clock()


def _path(place: Place, comment: Comment) -> str:
    return f"/repos/{place.repository}/issues/comments/{comment.id}"


def _closed(repository: Mapping[str, Any], issue: Mapping[str, Any]) -> RefusedError | None:
    """Say why a place takes no comment, where its own description tells."""
    if repository.get("archived") is True:
        return RefusedError(f"{repository.get('full_name')} is archived: nothing can be written there", "unarchive it")
    if issue.get("locked") is True:
        return RefusedError(
            f"issue {issue.get('number')} is locked", "unlock its conversation, or publish on another issue"
        )
    return None


def _one(reply: Reply) -> Comment:
    return _comment(_object(reply))


def _one_or_none(reply: Reply) -> Comment | None:
    return None if reply.status == _NOT_FOUND else _one(reply)


def _nothing(reply: Reply) -> None:
    if reply.status != _NOT_FOUND:
        _check(reply)


def _object(reply: Reply) -> Mapping[str, Any]:
    _check(reply)
    found = reply.json()
    if not isinstance(found, dict):
        raise not_github()
    return found


def _comment(item: Any) -> Comment:
    if not isinstance(item, dict) or type(item.get("id")) is not int:
        raise not_github()
    user = item.get("user")  # null once the account is deleted
    login = str(user.get("login")) if isinstance(user, dict) else ""
    return Comment(item["id"], login, str(item.get("body") or ""), str(item.get("html_url") or ""))


def _check(reply: Reply) -> None:
    """Let an answer pass that is none of a refusal. Raises RefusedError, Transient."""
    check_limit(reply)
    if reply.status in _REFUSALS:
        raise _refusal(reply)


def _refusal(reply: Reply) -> AislotError:
    said = f"HTTP {reply.status}: {reply.text()}"
    if reply.status == _UNAUTHORIZED:
        return RefusedError(f"GitHub does not take the token, or there is none: {said}", _ALLOWED)
    if reply.status == _GONE:
        return RefusedError(f"the issue was deleted, or issues are disabled: {said}", "publish on another issue")
    if reply.status == _INVALID:
        return RefusedError(f"GitHub does not take the comment: {said}", "see it with --dry-run")
    if reply.status in {_FORBIDDEN, _NOT_FOUND}:
        return RefusedError(f"GitHub lets us read, not write: {said}", _ALLOWED)
    return SourceError(f"GitHub: {said}", "check github.api_url")
