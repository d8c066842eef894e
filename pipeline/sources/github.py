"""GitHub: the issues' comments, page by page, and the links between runs and issues that they hold."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline import schemas
from pipeline.errors import SourceError, Transient
from pipeline.model import instant_of
from pipeline.sources.http import Door, Reply

MARKER = "<!-- codex-k8s:run-status "
OUR_MARKER = "<!-- aislot:"
_MARKER = re.compile(r"<!-- codex-k8s:run-status (\{.{0,20000}?\})\s*-->", re.DOTALL)
_RUN_LINE = re.compile(r"^\s*[-*]?\s*Run ID:\s*`([A-Za-z0-9_.-]{8,80})`", re.MULTILINE)
_JOB_LINE = re.compile(r"^\s*[-*]?\s*Job:\s*`([a-z0-9-]{1,63})/([a-z0-9.-]{1,253})`", re.MULTILINE)
_UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")
_ISSUE = re.compile(r"/issues/(\d{1,10})(?:$|[#?/])")
_NEXT = re.compile(r'<([^>]+)>;\s*rel="next"')
_MOST_PAGES = 10_000


@dataclass(frozen=True)
class Comments:
    """Every page of an answer; `pages` and `etag` are its proof."""

    found: list[dict[str, Any]]
    pages: int


@dataclass(frozen=True)
class GitHub:
    """The issues of one repository."""

    door: Door
    repository: str

    def comments(self, since: str) -> Comments:
        """Return all issue comments changed since an instant (RFC 3339), every page. Raises SourceError."""
        path: str = f"/repos/{self.repository}/issues/comments"
        params: Mapping[str, str] | None = {"since": since, "sort": "updated", "direction": "asc", "per_page": "100"}
        found: dict[Any, dict[str, Any]] = {}
        for page in range(1, _MOST_PAGES):
            items, following = self.door.get(path, params, check=_page, raw_status={403, 404, 429})
            found.update({c.get("id"): c for c in items})  # a comment changed while we read may come twice
            if not following:
                return Comments(list(found.values()), page)
            if not following.startswith(self.door.endpoint.url.rstrip("/") + "/"):
                raise SourceError("GitHub's next page lies on another server", "check github.api_url")
            path, params = following, None
        raise SourceError("GitHub's pages do not end", "check github.api_url")

    def login(self) -> str:
        """Return who we are there; a token that may not ask is GitHub Actions'. Raises SourceError."""

        def check(reply: Reply) -> str:
            return str(reply.json()["login"]) if reply.status == 200 else "github-actions[bot]"  # noqa: PLR2004

        return self.door.get("/user", check=check, raw_status={401, 403})


def _page(reply: Reply) -> tuple[list[dict[str, Any]], str]:
    if reply.status in {403, 429}:
        wait = reply.headers.get("Retry-After", "")
        if reply.headers.get("X-RateLimit-Remaining") == "0" or wait:
            raise Transient(
                "the rate limit of GitHub is used up", retry_after_s=float(wait) if wait.isdigit() else 60.0
            )
        raise SourceError(f"GitHub refused us: {reply.text()}", "set AISLOT_GITHUB__TOKEN or github.token_file")
    if reply.status == 404:  # noqa: PLR2004 - HTTP's Not Found, which GitHub also says to those it does not trust
        raise SourceError(
            "GitHub knows no such repository, or the token may not see it",
            "check github.repository and set AISLOT_GITHUB__TOKEN or github.token_file",
        )
    items = reply.json()
    if not isinstance(items, list):
        raise SourceError("what answers is not GitHub's API", "check github.api_url")
    following = _NEXT.search(reply.headers.get("Link", ""))
    return [i for i in items if isinstance(i, dict)], following[1] if following else ""


def issue_runs(comments: Iterable[Mapping[str, Any]], repository: str, ours: str = "") -> tuple[pa.Table, Counter[str]]:
    """Turn comments into rows of `issue_runs`: markers first, then text; and count markers that cannot be read.

    A comment with a marker, or by a bot, is the platform's. Comments of ours (marker and author) are never read.
    """
    rows: list[dict[str, Any]] = []
    counts: Counter[str] = Counter()
    for c in comments:
        body, issue, user = str(c.get("body") or ""), _ISSUE.search(str(c.get("issue_url") or "")), c.get("user") or {}
        counts["comments"] += 1
        if issue is None or (OUR_MARKER in body.split("\n", 1)[0] and (not ours or user.get("login") == ours)):
            continue
        try:
            base = {"ts": instant_of(str(c["created_at"])), "issue": int(issue[1]), "repository": repository}
        except (KeyError, ValueError):
            counts["unreadable"] += 1
            continue
        by_platform = MARKER in body or user.get("type") == "Bot"
        base |= {"author_kind": "platform" if by_platform else "person", "comment_url": c.get("html_url")}
        marked = _from_markers(body, base, counts)
        rows += marked + _from_text(body, base, {r["run_id"] for r in marked})
    return _table(rows), counts


def _from_markers(body: str, base: Mapping[str, Any], counts: Counter[str]) -> list[dict[str, Any]]:
    rows = []
    for found in _MARKER.finditer(body):
        try:
            said = json.loads(found[1])
        except (ValueError, RecursionError):
            counts["unreadable"] += 1
            continue
        run = said.get("run_id") if isinstance(said, dict) else None
        if not isinstance(run, str) or not run:
            counts["unreadable"] += 1
            continue
        number = said.get("issue_number")
        rows.append(
            {
                **base,
                "issue": number if isinstance(number, int) and number > 0 else base["issue"],
                "repository": _said(said, "repository_full_name") or base["repository"],
                "run_id": run,
                "job_namespace": _said(said, "job_namespace"),
                "job_name": _said(said, "job_name"),
                "phase": _said(said, "phase"),
                "run_status": _said(said, "run_status"),
                "found_by": "marker",
            }
        )
    return rows


def _from_text(body: str, base: Mapping[str, Any], known: set[str]) -> list[dict[str, Any]]:
    text = _MARKER.sub("", body)
    named = _RUN_LINE.findall(text)
    runs = dict.fromkeys([*named, *_UUID.findall(text)])
    job = _JOB_LINE.search(text)
    nothing = {"phase": None, "run_status": None, "found_by": "text"}
    return [
        {
            **base,
            **nothing,
            "run_id": run,
            # a comment with several runs does not say whose the job is
            "job_namespace": job[1] if job and len(runs) == 1 else None,
            "job_name": job[2] if job and len(runs) == 1 else None,
        }
        for run in runs
        if run not in known
    ]


def _said(said: Mapping[str, Any], key: str) -> str | None:
    value = said.get(key)
    return value if isinstance(value, str) and value else None


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    spec = schemas.TABLES["issue_runs"].schema
    table = pa.table({f.name: pa.array([r[f.name] for r in rows], f.type) for f in spec}, spec)
    return schemas.in_order("issue_runs", table)
