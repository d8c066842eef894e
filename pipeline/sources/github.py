"""GitHub: the issues' comments, page by page, and the links between runs and issues that they hold.

No ETags: each day asks for its own `since`, so that no address is asked twice but by a repeated pull, whose one or two
pages cost less than keeping every earlier answer would.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.errors import SourceError
from pipeline.sources import rows
from pipeline.sources.http import Door, NotDone, Reply
from pipeline.sources.wire import retry_after_s, server_time

MARKER = "<!-- codex-k8s:run-status "
OUR_MARKER = "<!-- aislot:"
_OWN_LOGIN_OF_ACTIONS = "github-actions[bot]"
# bounded, and within one line: a comment is 64 KiB of whatever its author likes
_MARKER_LINE = re.compile(rf" {{0,3}}{MARKER}(.*)-->[ \t\r]*")
_ANY_MARKER = re.compile(rf"{MARKER}([^<\n]{{0,4000}}?)-->")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_BULLET = r"^[ \t>]*(?:[-*][ \t]*)?[*_]{0,3}"
_RUN_LINE = re.compile(_BULLET + r"Run ID:?[*_]{0,3}:?[ \t]*`([A-Za-z0-9_.-]{8,80})`", re.MULTILINE)
_JOB_LINE = re.compile(_BULLET + r"Job:?[*_]{0,3}:?[ \t]*`([a-z0-9-]{1,63})/([a-z0-9.-]{1,253})`", re.MULTILINE)
_UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.IGNORECASE)
_PLAIN = re.compile(r"[A-Za-z0-9_.:/-]{1,253}")
_PLACE = re.compile(r"(?:/repos)?/([^/]+/[^/]+)/(?:issues|pull)/(\d{1,10})(?:$|[#?/])")
_NEXT = re.compile(r'<([^<>]+)>\s*;[^,<]*\brel="?next\b')
_LARGEST_ISSUE = 10**10
_MOST_PAGES = 3000  # of a hundred comments each
_A_WHILE_S = 60.0  # what GitHub asks for where it does not say how long


@dataclass(frozen=True)
class Comments:
    """Every page of an answer; the number of pages is its proof."""

    found: list[dict[str, Any]]
    pages: int


@dataclass(frozen=True)
class GitHub:
    """The issues of one repository."""

    door: Door
    repository: str

    def comments(self, since: str) -> Comments:
        """Return all issue comments changed since an instant (RFC 3339), every page. Raises SourceError.

        In the order of their creation: in the order of change, one that is edited while we read moves to the end and
        pulls another over the edge of a page that we have read already.
        """
        path = f"/repos/{self.repository}/issues/comments"
        params: Mapping[str, str] | None = {"since": since, "sort": "created", "direction": "asc", "per_page": "100"}
        found: dict[str, dict[str, Any]] = {}
        read: set[str] = set()
        while path and path not in read and len(read) < _MOST_PAGES:
            read.add(path)
            items, path = self.door.get(path, params, check=_page, raw_status={401, 403, 404, 410, 429})
            found.update({str(c.get("id")): c for c in items})  # a comment may come on two pages
            params = None
        if path in read:
            raise SourceError("GitHub's pages lead back to one of them", "check github.api_url")
        if path:
            raise SourceError(f"GitHub's pages do not end: {_MOST_PAGES} were read", "check github.api_url")
        return Comments(list(found.values()), len(read))

    def login(self) -> str:
        """Return who we are there; a token that may not ask is GitHub Actions'. Raises SourceError."""

        def check(reply: Reply) -> str:
            if reply.status != 200:  # noqa: PLR2004 - HTTP's OK
                check_limit(reply)
                return _OWN_LOGIN_OF_ACTIONS
            answer = reply.json()
            if not isinstance(answer, dict) or not isinstance(answer.get("login"), str):
                raise not_github()
            return str(answer["login"])

        return self.door.get("/user", check=check, raw_status={401, 403, 429})


def _page(reply: Reply) -> tuple[list[dict[str, Any]], str]:
    _refused(reply)
    items = reply.json()
    if not isinstance(items, list):
        raise not_github()
    return [i for i in items if isinstance(i, dict)], next_page(reply)


def next_page(reply: Reply) -> str:
    """Return the address of the page that follows, empty after the last."""
    following = _NEXT.search(reply.headers.get("Link", ""))
    return following[1] if following else ""


def check_limit(reply: Reply) -> None:
    """Tell a used-up rate limit, which passes, from a refusal, which does not. Raises Transient."""
    if reply.status not in {403, 429}:
        return
    wait = retry_after_s(reply.headers)
    used_up = reply.headers.get("X-RateLimit-Remaining") == "0"
    if reply.status == 429 or wait is not None or used_up or "rate limit" in reply.text().lower():  # noqa: PLR2004 - HTTP's Too Many Requests
        wait = _until_reset(reply.headers) if wait is None and used_up else wait
        raise NotDone(
            "GitHub's rate limit is used up",
            "wait; with AISLOT_GITHUB__TOKEN or github.token_file GitHub allows far more",
            retry_after_s=_A_WHILE_S if wait is None else wait,
        )


def _refused(reply: Reply) -> None:
    if reply.status == 200:  # noqa: PLR2004 - HTTP's OK
        return
    check_limit(reply)
    if reply.status == 404:  # noqa: PLR2004 - HTTP's Not Found, which GitHub also says to those it does not trust
        raise SourceError(
            "GitHub knows no such repository, or the token may not see it",
            "check github.repository and set AISLOT_GITHUB__TOKEN or github.token_file",
        )
    raise SourceError(
        f"GitHub refused us: HTTP {reply.status}: {reply.text()}", "correct AISLOT_GITHUB__TOKEN or github.token_file"
    )


def _until_reset(headers: Mapping[str, str]) -> float | None:
    """Return the seconds until the limit is renewed, by GitHub's own clock."""
    reset, now = headers.get("X-RateLimit-Reset", ""), server_time(headers)
    return max(0.0, float(reset) - now) if now is not None and re.fullmatch(r"[0-9]{1,12}", reset) else None


def not_github() -> SourceError:
    """Return what is said of a server that answers otherwise than GitHub."""
    return SourceError("what answers is not GitHub's API", "check github.api_url")


def issue_runs(comments: Iterable[Mapping[str, Any]], repository: str, ours: str = "") -> tuple[pa.Table, Counter[str]]:
    """Turn comments into rows of `issue_runs`: markers first, then text; and count markers that cannot be read.

    Anyone can write a marker. It is the platform's when a bot wrote it, or when it is the last line of the comment (as
    the platform writes it) and names the issue it stands in; never in a quotation or a code block. Elsewhere it is what
    a person pasted, and names its run as text does. Comments of ours (marker and author) are never read.
    """
    found: list[dict[str, Any]] = []
    counts: Counter[str] = Counter()
    for c in comments:
        counts["comments"] += 1
        body, user = str(c.get("body") or ""), c.get("user")
        user = user if isinstance(user, Mapping) else {}  # a deleted account is null
        if _is_ours(body, str(user.get("login")), ours):
            counts["ours"] += 1
            continue
        by_bot = user.get("type") == "Bot"
        markers = [_parsed(m) for m in _markers(body, by_bot=by_bot)]
        said = [m for m in markers if m is not None]
        counts["unreadable"] += len(markers) - len(said)
        try:
            base = _base(c, repository, said)
        except ValueError:
            counts["unreadable"] += 1
            continue
        pasted = not by_bot and any(m.get("issue_number") not in (None, base["issue"]) for m in said)
        base["author_kind"] = "platform" if by_bot or (markers and not pasted) else "person"
        marked = {} if pasted else {str(m["run_id"]): base | _marked(m) for m in said}
        found += [*marked.values(), *_from_text(body, base, {r.lower() for r in marked})]
    return rows.table("issue_runs", found), counts


def _is_ours(body: str, login: str, ours: str) -> bool:
    return OUR_MARKER in body.split("\n", 1)[0] and (not ours or login.lower() == ours.lower())


def _markers(body: str, *, by_bot: bool) -> Iterator[str]:
    """Find what the comment's author wrote as markers, each a line of its own; a person's only as the last line."""
    lines = [line for line in _lines(body) if line.strip()]
    for line in lines if by_bot else lines[-1:]:
        found = _MARKER_LINE.fullmatch(line)
        if found:
            yield found[1]


def _lines(body: str) -> Iterator[str]:
    """Yield the lines of a comment; in place of each line of fenced code a backtick, which is a line and says nothing."""
    fence = ""
    for line in body.split("\n"):
        mark = _FENCE.match(line)
        yield "`" if fence or mark else line
        if mark and (not fence or mark[1].startswith(fence)):
            fence = "" if fence else mark[1]


def _parsed(text: str) -> Mapping[str, Any] | None:
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) and _said(said, "run_id") else None


def _base(c: Mapping[str, Any], repository: str, said: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what all rows of a comment share. Raises ValueError where it does not tell its issue or its time."""
    urls = [u for u in (c.get("issue_url"), c.get("html_url")) if isinstance(u, str)]
    place = next((p for p in map(_PLACE.search, urls) if p), None)
    number = int(place[2]) if place else next((m.get("issue_number") for m in said), None)
    if not isinstance(number, int) or not 0 < number <= _LARGEST_ISSUE:
        raise ValueError("no issue")
    return {
        "ts": rows.instant(c.get("created_at")),
        "issue": number,
        "repository": repository or (place[1] if place else None),
        "comment_url": c.get("html_url"),
    }


def _marked(said: Mapping[str, Any]) -> dict[str, Any]:
    columns = ("run_id", "job_namespace", "job_name", "phase", "run_status")
    return {c: _said(said, c) for c in columns} | {"found_by": "marker"}


def _from_text(body: str, base: Mapping[str, Any], known: set[str]) -> list[dict[str, Any]]:
    """Find runs in a comment's text. A marker in it names its run alone: its other ids are no runs."""
    text = _ANY_MARKER.sub("", body)
    pasted = [str(m["run_id"]) for m in map(_parsed, _ANY_MARKER.findall(body)) if m]
    named = [*pasted, *_RUN_LINE.findall(text), *_UUID.findall(text)]
    runs = dict.fromkeys(n.lower() if _UUID.fullmatch(n) else n for n in named)
    jobs = set(_JOB_LINE.findall(text))
    # a comment with several runs, or several jobs, does not say which belongs to which
    namespace, name = jobs.pop() if len(runs) == len(jobs) == 1 else (None, None)
    nothing = {"phase": None, "run_status": None, "found_by": "text"}
    return [
        {**base, **nothing, "run_id": run, "job_namespace": namespace, "job_name": name}
        for run in runs
        if run.lower() not in known
    ]


def _said(said: Mapping[str, Any], key: str) -> str | None:
    """Return a plain value of a marker; anything else in its place is nobody's id."""
    value = said.get(key)
    return value if isinstance(value, str) and _PLAIN.fullmatch(value) else None
