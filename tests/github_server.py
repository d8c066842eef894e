"""Stands in for GitHub's REST API: the issue comments of one repository, paged as GitHub pages them.

`github` serves what pulls read, `Hub` what publishing reads and writes, held against GitHub's own description.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.faults import Asked, Faults, Say, serving
from tests.openapi.check import check_answer, check_request, least

REPOSITORY = "codex-k8s/codex-k8s"
MOVED = {"old/name": f"/repos/{REPOSITORY}"}


@dataclass
class Hub:
    """One repository with issues and their comments; every request and every answer is as GitHub describes it.

    `hook` sees each request first, and may answer in our place, or do what others do meanwhile.
    """

    login: str = "aislot-bot"
    private: bool = True
    archived: bool = False
    locked: bool = False
    may_write: bool = True
    may_ask: bool = True  # a token of GitHub Actions may not ask who it is
    prefix: str = ""  # "/api/v3" on GitHub Enterprise
    per_page: int = 100
    issues: set[int] = field(default_factory=lambda: {205})
    comments: dict[int, dict[str, Any]] = field(default_factory=dict)
    hook: Callable[[Asked], Say | None] = lambda _asked: None
    wrong: list[str] = field(default_factory=list)
    faults: Faults | None = None
    _made: int = 0

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Serve within the block and yield the API's address; what GitHub does not describe fails the test."""
        with serving(self) as self.faults:
            yield self.faults.url + self.prefix
        assert self.wrong == []

    @property
    def asked(self) -> list[str]:
        """What was asked, such as `GET /user`."""
        return (
            []
            if self.faults is None
            else [f"{a.method} {a.target.removeprefix(self.prefix)}" for a in self.faults.asked]
        )

    @property
    def writes(self) -> list[str]:
        """The methods of what was asked that writes."""
        return [a.split()[0] for a in self.asked if not a.startswith("GET")]

    @property
    def bodies(self) -> list[str]:
        """What the comments say, oldest first."""
        return [c["body"] for _, c in sorted(self.comments.items())]

    def add(self, body: str, login: str | None = None, issue: int = 205) -> dict[str, Any]:
        """Let someone comment."""
        self._made += 1
        url = f"https://github.com/{REPOSITORY}/issues/{issue}#issuecomment-{self._made}"
        made = least("issue-comment") | {"id": self._made, "html_url": url, "body": body}
        made |= {"user": least("simple-user") | {"login": login or self.login}}
        self.comments[self._made] = made | {"created_at": "2026-02-27T00:00:00Z", "updated_at": "2026-02-27T00:00:00Z"}
        return self.comments[self._made]

    def __call__(self, asked: Asked) -> Say:
        """Answer one request, and remember what is not as GitHub describes it."""
        path = re.sub(r"^/repositories/7(?=/|$)", f"/repos/{REPOSITORY}", asked.path.removeprefix(self.prefix))
        query = {k: v[0] for k, v in parse_qs(urlsplit(asked.target).query).items()}
        try:
            name = check_request(asked.method, path, query, asked.body)
            said = self.hook(asked) or self._answer(asked, path, query)
            if said.raw is None and not isinstance(said.body, str):
                check_answer(name, said.status, json.loads(said.bytes()) if said.bytes() else None)
        except (AssertionError, ValueError) as e:
            self.wrong.append(str(e))
            return Say({"message": "undescribed"}, 500)
        return said

    def _answer(self, asked: Asked, path: str, query: Mapping[str, str]) -> Say:  # noqa: PLR0911 - one a path
        if path == "/user":
            return (
                Say(least("private-user") | {"login": self.login})
                if self.may_ask
                else _no(403, "Resource not accessible")
            )
        repository, _, rest = path.removeprefix("/repos/").partition("/issues")
        if repository in MOVED:
            to = f"{self.prefix}/repositories/7{'/issues' + rest if rest else ''}"
            return Say(_message("Moved Permanently"), 301, {"Location": to})
        if repository != REPOSITORY:
            return _no(404, "Not Found")
        if asked.method != "GET" and not (self.may_write and not self.archived):
            return _no(403, "Resource not accessible by personal access token")
        comment = re.fullmatch(r"/comments/(\d+)", rest)
        if comment:
            return self._comment(asked, int(comment[1]))
        number = re.fullmatch(r"/(\d+)(/comments)?", rest)
        if number is None:
            return Say(self._repository())
        if int(number[1]) not in self.issues:
            return _no(404, "Not Found")
        if number[2] is None:
            return Say(self._issue(int(number[1])))
        return self._new(asked, int(number[1])) if asked.method == "POST" else self._list(asked, int(number[1]), query)

    def _repository(self) -> dict[str, Any]:
        return {**least("full-repository")} | {
            "full_name": REPOSITORY,
            "private": self.private,
            "archived": self.archived,
        }

    def _issue(self, number: int) -> dict[str, Any]:
        url = f"https://api.github.com/repos/{REPOSITORY}/issues/{number}"
        return {**least("issue")} | {"number": number, "url": url, "locked": self.locked}

    def _list(self, asked: Asked, issue: int, query: Mapping[str, str]) -> Say:
        page, size = int(query.get("page", "1")), min(self.per_page, int(query.get("per_page", "30")))
        of = [c for _, c in sorted(self.comments.items()) if f"/issues/{issue}#" in c["html_url"]]
        found = of[(page - 1) * size : page * size]
        tag = f'W/"{hashlib.sha256(json.dumps(found).encode()).hexdigest()}"'
        headers = {"ETag": tag}
        if len(of) > page * size:
            here = f"{self.faults.url if self.faults else ''}{asked.path}?per_page={size}&page={page + 1}"
            headers["Link"] = f'<{here}>; rel="next"'
        return Say(b"", 304, headers) if asked.headers.get("If-None-Match") == tag else Say(found, 200, headers)

    def _new(self, asked: Asked, issue: int) -> Say:
        body = json.loads(asked.body)["body"]
        if not body.strip() or len(body) > 65_536:
            return Say(least("validation-error") | {"message": "Validation Failed"}, 422)
        return _no(403, "Issue is locked") if self.locked else Say(self.add(body, issue=issue), 201)

    def _comment(self, asked: Asked, number: int) -> Say:
        if number not in self.comments:
            return _no(404, "Not Found")
        if asked.method == "DELETE":
            del self.comments[number]
            return Say(b"", 204)
        if asked.method == "PATCH":
            self.comments[number]["body"] = json.loads(asked.body)["body"]
        return Say(self.comments[number])


def _message(text: str) -> dict[str, str]:
    return {"message": text, "url": "", "documentation_url": "https://docs.github.com/rest"}


def _no(status: int, text: str) -> Say:
    return Say(_message(text), status)


@contextmanager
def github(repository: str, comments: Sequence[dict[str, Any]], per_page: int = 10) -> Iterator[str]:
    """Serve the comments, never more than `per_page` at once, and yield the API's address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            if url.path != f"/repos/{repository}/issues/comments":
                self._answer(404, {"message": "Not Found"})
                return
            asked = {k: v[0] for k, v in parse_qs(url.query).items()}
            found = sorted((c for c in comments if c["updated_at"] >= asked["since"]), key=lambda c: c["updated_at"])
            page = int(asked.get("page", "1"))
            more = len(found) > page * per_page
            following = f"{address}{url.path}?since={asked['since']}&per_page={per_page}&page={page + 1}"
            headers = {"Link": f'<{following}>; rel="next"'} if more else {}
            self._answer(200, found[(page - 1) * per_page : page * per_page], headers)

        def _answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's own name
            """Keep the tests' output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield address
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
