"""The one HTTP door: credentials, bounded retries with jitter, and errors decoded once, where the bytes arrive.

Which answers are worth another try: no connection, a cut body, 408, 429 and 5xx. Never another 4xx: a refused question stays
refused. The caller's `check` sees the parsed reply and may raise `Transient` to ask again.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import requests
import urllib3

from pipeline.errors import SourceError, Transient

T = TypeVar("T")
_TRANSIENT_STATUS = {408, 425, 429, 499, 500, 502, 503, 504}
_SHOWN = 300


@dataclass(frozen=True)
class Endpoint:
    """Where a server is and how it wants to be asked; its repr shows no secret."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    auth: tuple[str, str] | None = field(default=None, repr=False)
    ca_file: str = ""
    client_cert_file: str = ""

    def shown(self) -> str:
        """Return the address without user info, for messages."""
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))


@dataclass(frozen=True)
class Policy:
    """How long and how often to try; `remaining_s` tells what is left of the command's time."""

    tries: int = 6
    timeout_s: float = 120.0
    connect_timeout_s: float = 10.0
    backoff_s: float = 0.5
    backoff_max_s: float = 30.0
    remaining_s: Callable[[], float] | None = None


@dataclass(frozen=True)
class Reply:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Parse the whole body; a body that is not JSON (cut, a proxy's page) is worth another try."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as e:
            raise Transient(f"the answer is not whole JSON ({len(self.body)} bytes): {e}") from e

    def text(self) -> str:
        """Return the start of the body as one line, for messages."""
        return " ".join(self.body[: 4 * _SHOWN].decode("utf-8", "replace").split())[:_SHOWN]


class Door:
    """Asks one server; thread-safe. `retries` counts the further tries by cause."""

    def __init__(
        self, name: str, endpoint: Endpoint, policy: Policy | None = None, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.name = name
        self.endpoint = endpoint
        self.policy = policy or Policy()
        self.retries: Counter[str] = Counter()
        self._sleep = sleep
        self._local = threading.local()
        self._counting = threading.Lock()

    def get(
        self,
        path: str,
        params: Mapping[str, str] | None = None,
        *,
        check: Callable[[Reply], T],
        headers: Mapping[str, str] | None = None,
        raw_status: Collection[int] = (),
    ) -> T:
        """Ask with GET; `check` turns the reply into a value. Raises SourceError."""
        return self._ask("GET", path, {"params": dict(params or {})}, check, headers, raw_status)

    def post(
        self,
        path: str,
        form: Mapping[str, str],
        *,
        check: Callable[[Reply], T],
        headers: Mapping[str, str] | None = None,
        raw_status: Collection[int] = (),
    ) -> T:
        """Ask with a POSTed form, for questions too long for an address. Raises SourceError."""
        return self._ask("POST", path, {"data": dict(form)}, check, headers, raw_status)

    def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any],
        check: Callable[[Reply], T],
        headers: Mapping[str, str] | None,
        raw_status: Collection[int],
    ) -> T:
        for attempt in range(1, self.policy.tries + 1):
            try:
                return check(self._once(method, path, body, headers or {}, raw_status))
            except Transient as e:
                wait = self._wait(attempt, e.retry_after_s)
                if attempt == self.policy.tries or not self._time_for(wait):
                    raise SourceError(
                        f"{self.name} at {self.endpoint.shown()}: {e.what} (tried {attempt} times)",
                        e.fix or f"start {self.name} or correct {self.name}.url; the next run goes on from here",
                    ) from e
                with self._counting:
                    self.retries[e.what.split(":")[0][:60]] += 1
                self._sleep(wait)
        raise AssertionError("a policy has at least one try")

    def _wait(self, attempt: int, asked: float | None) -> float:
        """Full jitter (so that many workers do not come back at once), but never before the server asked for."""
        backoff = min(self.policy.backoff_max_s, self.policy.backoff_s * 2.0 ** (attempt - 1))
        return max(asked or 0.0, backoff * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, no secret

    def _time_for(self, wait: float) -> bool:
        return self.policy.remaining_s is None or wait < self.policy.remaining_s()

    def _once(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any],
        headers: Mapping[str, str],
        raw_status: Collection[int],
    ) -> Reply:
        url = path if path.startswith(("http://", "https://")) else self.endpoint.url.rstrip("/") + path
        timeout = self.policy.timeout_s
        if self.policy.remaining_s is not None:
            timeout = max(0.1, min(timeout, self.policy.remaining_s()))
        try:
            r = self._session().request(
                method,
                url,
                headers={**self.endpoint.headers, **headers},
                timeout=(min(timeout, self.policy.connect_timeout_s), timeout),
                **body,
            )
        except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as e:
            raise Transient(_cause(e)) from e
        except requests.exceptions.ChunkedEncodingError as e:
            raise Transient("the answer was cut off") from e
        except (requests.RequestException, ValueError, OSError) as e:
            raise SourceError(
                f"{self.name}: {self.endpoint.shown()} cannot be asked: {type(e).__name__}",
                f"correct {self.name}.url, ca_file and client_cert_file",
            ) from e
        return self._decode(Reply(r.status_code, r.headers, r.content), raw_status)

    def _decode(self, reply: Reply, raw_status: Collection[int]) -> Reply:
        if reply.status in raw_status or reply.status // 100 == 2:  # noqa: PLR2004 - HTTP's success class
            return reply
        said = f"HTTP {reply.status}: {reply.text()}" if reply.body else f"HTTP {reply.status}"
        if reply.status in _TRANSIENT_STATUS:
            raise Transient(said, retry_after_s=_retry_after(reply.headers))
        where = f"{self.name} at {self.endpoint.shown()}"
        if reply.status in {401, 403}:
            raise SourceError(f"{where} refused us: {said}", f"check the credentials and the tenant of [{self.name}]")
        raise SourceError(f"{where}: {said}", f"check {self.name}.url: it must be the server's own address")

    def _session(self) -> requests.Session:
        """One session a thread: requests does not promise that a shared one is safe."""
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = requests.Session()
            session.auth = self.endpoint.auth
            session.verify = self.endpoint.ca_file or True
            session.cert = self.endpoint.client_cert_file or None
            # .netrc and proxies named by accident must not send our credentials elsewhere
            session.trust_env = False
            self._local.session = session
        return session


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Read the seconds form only: dates need a clock, and no server here sends them."""
    text = headers.get("Retry-After", "").strip()
    return float(text) if text.isdigit() else None


def _cause(e: Exception) -> str:
    """Say in words why there was no answer; never with the address, which may hold credentials."""
    text = repr(e)
    for needle, words in (
        ("Connection refused", "connection refused"),
        ("Name or service not known", "no such host"),
        ("Temporary failure in name resolution", "no such host"),
        ("Failed to resolve", "no such host"),
        ("SSL", "TLS failed: check ca_file and the address"),
        ("imed out", "no answer in time"),
        ("IncompleteRead", "the answer was cut off"),
        ("RemoteDisconnected", "the connection was closed without an answer"),
        ("reset by peer", "the connection was reset"),
    ):
        if needle in text:
            return words
    return type(e).__name__
