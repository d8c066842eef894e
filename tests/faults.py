"""A server in this process that answers as a test scripts it, and remembers what it was asked."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, TypeAlias
from urllib.parse import parse_qsl, urlsplit

import pytest

from pipeline.errors import SourceError
from pipeline.sources.http import Door, Endpoint, Policy, Reply

Form: TypeAlias = Mapping[str, str]
_LINGER_NOT = b"\1\0\0\0\0\0\0\0"  # so that closing a connection resets it


@dataclass(frozen=True)
class Asked:
    """One request; `form` holds the parameters of its address or of its posted form, `target` and `body` are as they came."""

    method: str
    path: str
    form: Form
    headers: Mapping[str, str]
    target: str = ""
    body: bytes = b""


@dataclass(frozen=True)
class Say:
    """One answer: a status and a body, which is JSON unless it is text or bytes; or `raw` bytes that need be no HTTP.

    Of the body `cut_at` bytes are sent; `then` says what becomes of the connection. `stall`: silence, until the client
    has had enough.
    """

    body: Any = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    chunked: bool = False
    cut_at: int | None = None
    raw: bytes | None = None
    then: Literal["keep", "close", "reset", "stall"] = "keep"

    def bytes(self) -> bytes:
        """Return the body."""
        if isinstance(self.body, bytes):
            return self.body
        return self.body.encode() if isinstance(self.body, str) else json.dumps(self.body).encode()


GOOD = Say({"fine": True})
HANGS_UP = Say(raw=b"", then="close")
RESETS = Say(raw=b"", then="reset")
STALLS = Say(raw=b"", then="stall")
Script: TypeAlias = Sequence[Say] | Callable[[Asked], Say]


class Faults:
    """What a scripted server does and saw: it plays a list (the last answer for ever) or asks a function for each."""

    def __init__(self, script: Script) -> None:
        self.url = ""
        self.asked: list[Asked] = []
        self.connections = 0
        self.over = threading.Event()
        self._script = script
        self._lock = threading.Lock()

    def answer(self, asked: Asked) -> Say:
        """Remember a question and return its answer."""
        with self._lock:
            self.asked.append(asked)
            number = len(self.asked)
        return self._script(asked) if callable(self._script) else self._script[min(number, len(self._script)) - 1]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, *_: object) -> None:
        """Say nothing of connections that a client gave up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        self.server.faults.connections += 1
        super().setup()

    def _play(self) -> None:
        address = urlsplit(self.path)
        length = int(self.headers.get("Content-Length", "0"))
        body = self.rfile.read(length)
        form = dict(parse_qsl(body.decode() if length else address.query, keep_blank_values=True))
        asked = Asked(self.command, address.path, form, dict(self.headers), self.path, body)
        say = self.server.faults.answer(asked)
        with suppress(ConnectionError):
            self._say(say)
            self._end(say)

    def _say(self, say: Say) -> None:
        if say.raw is not None:
            self.wfile.write(say.raw)
            return
        body = say.bytes()
        sent = body[: say.cut_at]
        self.send_response(say.status)
        for name, value in say.headers.items():
            self.send_header(name, value)
        self.send_header(*(("Transfer-Encoding", "chunked") if say.chunked else ("Content-Length", str(len(body)))))
        self.end_headers()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(sent), sent) if say.chunked else sent)
        if say.chunked and say.cut_at is None:
            self.wfile.write(b"0\r\n\r\n")

    def _end(self, say: Say) -> None:
        self.close_connection = self.close_connection or say.then != "keep" or say.cut_at is not None
        if say.then == "stall":
            self.server.faults.over.wait(60)
        if say.then == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
            self.rfile.close()
            self.connection.close()

    do_GET = do_POST = do_PATCH = do_DELETE = do_CONNECT = _play  # noqa: N815 - the names that http.server calls

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@contextmanager
def serving(script: Script, tls: ssl.SSLContext | None = None) -> Iterator[Faults]:
    """Serve a script within the block."""
    faults = Faults(script)
    with _Server(faults) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        faults.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield faults
        finally:
            faults.over.set()
            server.shutdown()
            thread.join()


class Sleeps(list[float]):
    """In place of sleeping: remembers for how long it would have been."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def door_to(url: str, policy: Policy | None = None, name: str = "loki", **endpoint: Any) -> tuple[Door, Sleeps]:
    """Return a door that does not sleep, and what it would have slept."""
    sleeps = Sleeps()
    return Door(name, Endpoint(url, **endpoint), policy or Policy(timeout_s=5.0), sleeps), sleeps


def read(reply: Reply) -> Any:
    """Check a reply by reading its JSON."""
    return reply.json()


def fails(door: Door, path: str = "/x") -> SourceError:
    """Ask what cannot be had and return the error."""
    with pytest.raises(SourceError) as caught:
        door.get(path, check=read)
    return caught.value


class Answers(Door):
    """A door with no server behind it: a function of path and form gives each answer, as a Reply or as JSON."""

    def __init__(self, answer: Callable[[str, Form], Any], name: str = "loki") -> None:
        self.slept = Sleeps()
        super().__init__(name, Endpoint("http://fake"), Policy(), self.slept)
        self.asked: list[Asked] = []
        self._answer = answer

    def _exchange(self, method: str, url: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> Reply:
        address = urlsplit(url)
        form = dict(parse_qsl(address.query)) | (body.get("data") or body.get("params") or {})
        asked = Asked(method, address.path, form, headers)
        self.asked.append(asked)
        said = self._answer(asked.path, asked.form)
        return said if isinstance(said, Reply) else Reply(200, {}, json.dumps(said).encode())
