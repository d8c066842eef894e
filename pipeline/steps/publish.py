"""A report's folder -> one comment on an issue: made from `summary.json`, scanned, and written where it differs."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pipeline import catalog
from pipeline.errors import RefusedError, SourceError, UsageError
from pipeline.redact import Redactor
from pipeline.report.comment import Comment, compose, is_of, is_untouched, same
from pipeline.report.comment_view import comment_view
from pipeline.report.render import render_markdown
from pipeline.report.text import ESCAPED, harmless
from pipeline.sources.github import GitHub
from pipeline.sources.github_comments import Comment as Written
from pipeline.sources.github_comments import Place, Thread
from pipeline.steps.context import Context
from pipeline.steps.vocabulary import words

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Published:
    """What became of a comment. `action`: created, updated, unchanged; of a dry run `would create` or `would update`.

    `deleted`: how many of ours were too many; `refused`: why, after a dry run, the comment could not be written.
    """

    action: str
    url: str | None
    size: int
    dropped: tuple[str, ...]
    deleted: int = 0
    diff: str = ""
    refused: RefusedError | None = None


def publish(
    ctx: Context,
    issue: int,
    folder: Path,
    *,
    dry_run: bool,
    allow_public: bool,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> Published:
    """Create or update the comment of a report on an issue. Raises UsageError, RefusedError, SourceError.

    Nothing leaves before the final text was scanned for secrets, and nothing is written that a dry run would not show.
    """
    repository = ctx.settings.github.repository
    if not _REPOSITORY.fullmatch(repository):
        raise UsageError(f"github.repository {repository!r} names no repository", 'set it to "owner/name"')
    comment = made(folder)
    check_secrets(Redactor(ctx.catalogue.redaction, b""), comment.body)
    door = ctx.github()
    thread = Thread(door, clock, sleep)
    place = thread.place(repository, issue)
    refused = _refused(place, allow_public=allow_public)
    if refused and not dry_run:
        raise refused
    login = ctx.settings.github.login or GitHub(door, repository).login()
    writing = _Writing(ctx.say, thread, place, comment)
    writing.tell_of_edited(login)
    return replace(writing.shown(login), refused=refused) if dry_run else writing.written(login)


def made(folder: Path) -> Comment:
    """Make the comment of a report's folder. Raises UsageError, RefusedError."""
    summary = _summary(folder)
    said = comment_view(summary, words(str(summary.get("lang") or "en")))
    render = partial(render_markdown, templates=catalog.data_dir("reports"), report="comment")
    return compose(said.kind, said.key, said.view, render)


def check_secrets(redactor: Redactor, text: str) -> None:
    """Refuse a text with a secret in it, without showing it. Raises RefusedError."""
    found = redactor.first(text, ESCAPED)
    if found:
        rule, at = found
        offset = len(text[:at].encode())
        raise RefusedError(
            f"the comment holds what looks like a secret: rule {rule}, byte {offset}; nothing was sent",
            "pull and report that time again: what is pulled is redacted; a rule that is wrong can be replaced by your own",
        )


def _summary(folder: Path) -> Mapping[str, Any]:
    path = folder / "summary.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise UsageError(
            f"there is no report in {folder}: {type(e).__name__}",
            "make one with `aislot report postmortem --issue N`, or name its folder with --report",
        ) from e
    except ValueError as e:
        raise UsageError(f"{path} is no JSON", "make the report again") from e
    if not isinstance(found, dict):
        raise UsageError(f"{path} is of no report", "make the report again")
    return found


def _refused(place: Place, *, allow_public: bool) -> RefusedError | None:
    if place.refused:
        return place.refused
    if place.public and not allow_public:
        return RefusedError(
            f"{place.repository} is public: everyone would read job names, run ids and lines of logs",
            "add --allow-public if that is meant",
        )
    return None


@dataclass(frozen=True)
class _Writing:
    """One comment on its way to one place."""

    say: Callable[[str], None]
    thread: Thread
    place: Place
    comment: Comment

    def ours(self, login: str) -> list[Written]:
        """Return our comments of this kind and key, oldest first; one that people edited is theirs."""
        return [c for c in self.thread.comments(self.place) if self._is_ours(c, login) and is_untouched(c.body)]

    def _is_ours(self, c: Written, login: str) -> bool:
        return c.login.lower() == login.lower() and is_of(c.body, self.comment.kind, self.comment.key)

    def tell_of_edited(self, login: str) -> None:
        """Say which comments of ours are left alone."""
        for c in self.thread.comments(self.place):
            if self._is_ours(c, login) and not is_untouched(c.body):
                self.say(f"{c.url} was edited by hand: it is left as it is")

    def shown(self, login: str) -> Published:
        """Return what writing it would change."""
        there = next(iter(self.ours(login)), None)
        before, after = (there.body if there else ""), self.comment.body
        action = "would create" if there is None else "unchanged" if same(before, after) else "would update"
        name = there.url if there else f"issue {self.place.issue}"
        lines = [] if action == "unchanged" else _diff(before, after, name)
        return self._told(action, there, diff="\n".join(map(harmless, lines)))

    def written(self, login: str) -> Published:
        """Write it where it differs; of several of ours the oldest stays."""
        ours = self.ours(login)
        if ours:
            done = self._settled(ours)
            if done:
                return done
        created = self._created(login)
        ours = self.ours(created.login)  # another run may have written at the same time
        if not ours or ours[0].id == created.id:
            self._without(ours[1:])
            return self._told("created", created, deleted=len(ours[1:]))
        return self._settled(ours) or self._told("created", created)

    def _created(self, login: str) -> Written:
        def is_it(c: Written) -> bool:
            return c.login.lower() == login.lower() and same(c.body, self.comment.body)

        made = self.thread.create(self.place, self.comment.body, is_it)
        if not same(made.body, self.comment.body):
            self.thread.delete(self.place, made)  # else each run would take it for edited, and write another
            raise SourceError("GitHub keeps another text than it was sent; it was taken away again", "tell us of it")
        if made.login.lower() != login.lower():
            self.say(f"comments are written as {made.login}: set github.login = {made.login!r}")
        return made

    def _settled(self, ours: Sequence[Written]) -> Published | None:
        """Bring the oldest of ours up to date and delete the others; None where it is gone meanwhile."""
        first, *others = ours
        self._without(others)
        if same(first.body, self.comment.body):
            return self._told("unchanged", first, deleted=len(others))
        now = self.thread.update(self.place, first, self.comment.body)
        return None if now is None else self._told("updated", now, deleted=len(others))

    def _without(self, others: Sequence[Written]) -> None:
        for c in others:
            self.thread.delete(self.place, c)

    def _told(self, action: str, there: Written | None, deleted: int = 0, diff: str = "") -> Published:
        url = there.url if there else None
        return Published(action, url, self.comment.size, self.comment.dropped, deleted, diff)


def _diff(before: str, after: str, name: str) -> list[str]:
    return list(difflib.unified_diff(before.splitlines(), after.splitlines(), name, "this report", lineterm=""))
