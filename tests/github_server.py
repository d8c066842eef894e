"""Stands in for GitHub's REST API: the issue comments of one repository, paged as GitHub pages them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


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
