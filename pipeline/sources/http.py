"""The one HTTP door: credentials, bounded retries with jitter, and errors decoded once, where the bytes arrive.

Which answers are worth another try: no connection, a cut body, 408, 425, 429, 499 and 5xx. Never another 4xx: a refused
question stays refused. The caller's `check` sees the whole reply and may raise `Transient` to ask again.

Credentials go to the configured server alone: a redirect or an address that leads elsewhere is refused, `.netrc` is never
read. Of the environment's proxies only one for https is used: it passes a tunnel on and sees no credentials.
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
import random
import re
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from http.client import BadStatusLine, RemoteDisconnected  # noqa: TID251 - what the door's own libraries raise
from typing import Any, TypeVar
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

import orjson
import requests
import requests.auth
import requests.utils
import urllib3

from pipeline.errors import SourceError, StoppedError, TooLarge, Transient
from pipeline.sources.wire import origin, retry_after_s, server_time

T = TypeVar("T")
_TRANSIENT_4XX = {408, 425, 429, 499}
_NEVER_BETTER_5XX = {501, 505}  # not implemented, HTTP version not supported
_MOVED = {301, 302, 307, 308}
_MOST_MOVES = 5
_SHOWN = 300
_PIECE = 1 << 20
_TAG = re.compile(r"<[^<>]{0,1000}>")
_WRITE_S = 1.0  # seconds at least between two tries of a write
_LEAST_SECRET = 6  # characters: what is shorter would blot out ordinary words


class TooSlow(TooLarge):
    """No whole answer came in time: the same question about a smaller window may do."""


class _Cut(Transient):
    """The answer did not come whole; where that lasts, the question may be too large for this server."""


class NotDone(Transient):
    """The server was not reached, or turned us away unheard: even what must not be done twice may be asked again."""


class UnsureError(SourceError):
    """No answer came to a write that must not be done twice: whether it was done has to be looked up."""


class Late(_Cut):
    """No answer came in time, to us or to a gateway before the server: fewer tries, then a smaller question."""


_KINDS: Mapping[int, type[Transient]] = {429: NotDone, 504: Late}
# what failed, looked for in this order among an error and its causes; without words, the system's own
_FAILURES: tuple[tuple[tuple[type[BaseException], ...], type[Transient], str], ...] = (
    ((socket.gaierror,), NotDone, "no such host"),
    ((urllib3.exceptions.NewConnectionError,), NotDone, ""),
    ((urllib3.exceptions.ConnectTimeoutError,), NotDone, "no connection in time"),
    ((TimeoutError, urllib3.exceptions.TimeoutError), Late, "no answer in time"),
    ((RemoteDisconnected,), _Cut, "the connection was closed without an answer"),
    ((BadStatusLine,), Transient, "what answers does not speak HTTP"),
    ((urllib3.exceptions.ProtocolError, urllib3.exceptions.DecodeError), _Cut, "the answer was cut off"),
    ((ssl.SSLError,), Transient, "no TLS connection comes about (http or https?)"),
    ((requests.ConnectionError,), Transient, ""),
)


@dataclass(frozen=True)
class Endpoint:
    """Where a server is and how it wants to be asked; its repr shows no secret.

    User info in the address is taken out of it and used as credentials where no others are given.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    auth: tuple[str, str] | None = field(default=None, repr=False)
    ca_file: str = ""
    client_cert_file: str = ""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if "@" not in parts.netloc:
            return
        object.__setattr__(self, "url", urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])))
        if self.auth is None and "authorization" not in {h.lower() for h in self.headers}:
            object.__setattr__(self, "auth", (unquote(parts.username or ""), unquote(parts.password or "")))

    def shown(self) -> str:
        """Return the address for messages, without a query, which may hold a token."""
        return urlunsplit(urlsplit(self.url)._replace(query="", fragment=""))

    def secrets(self) -> list[str]:
        """Return what no message may show, should a server repeat it; the longest first."""
        words = [w for value in self.headers.values() for w in value.split() if len(w) >= _LEAST_SECRET]
        if self.auth:
            words += [self.auth[1], base64.b64encode(":".join(self.auth).encode()).decode()]
        return sorted({w for w in words if w}, key=len, reverse=True)


@dataclass(frozen=True)
class Policy:
    """How long and how often to try; `remaining_s` tells what is left of the command's time.

    A late answer has cost `timeout_s` already, so it is asked for fewer times, but more than twice: two late ones in a row
    are bad luck, three are a question that is too large. A server that wants to be left alone for
    longer than `longest_wait_s` is left to the next run.
    """

    tries: int = 6
    late_tries: int = 3
    timeout_s: float = 120.0
    connect_timeout_s: float = 10.0
    backoff_s: float = 0.5
    backoff_max_s: float = 30.0
    longest_wait_s: float = 300.0
    largest: int = 256 << 20
    remaining_s: Callable[[], float] | None = None


@dataclass(frozen=True)
class Reply:
    """A whole answer; `secrets` are blotted out where it is quoted."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    secrets: Collection[str] = field(default=(), repr=False)

    def json(self) -> Any:
        """Parse the whole body; a body that is not JSON (cut, a proxy's page) is worth another try."""
        with contextlib.suppress(orjson.JSONDecodeError):
            return orjson.loads(self.body)
        try:
            return json.loads(self.body)  # takes halves of surrogate pairs, which some programs write
        except (ValueError, RecursionError) as e:
            if self.body.lstrip()[:1] in {b"{", b"["}:
                raise _Cut(f"the answer is not whole ({len(self.body)} bytes)") from e
            kind = "a web page" if self.body.lstrip()[:1] == b"<" else "something else"
            raise Transient(f"{kind} came instead of JSON: {self.text() or 'nothing'}") from e

    def text(self) -> str:
        """Return the start of the body as one line for messages: no tags, no control characters, no secrets."""
        text = _TAG.sub(" ", self.body[: 8 * _SHOWN].decode("utf-8", "replace"))
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return "".join(c if c.isprintable() else "\ufffd" for c in " ".join(text.split()))[:_SHOWN]


class Door:
    """Asks one server; thread-safe. `retries` counts the further tries by cause, with those of who shares the counter."""

    def __init__(
        self,
        name: str,
        endpoint: Endpoint,
        policy: Policy | None = None,
        sleep: Callable[[float], None] = time.sleep,
        retries: Counter[str] | None = None,
    ) -> None:
        self.name = name
        self.endpoint = endpoint
        self.policy = policy or Policy()
        self.retries: Counter[str] = Counter() if retries is None else retries
        self.server_s = 0.0  # what the server's clock showed at its last answer, seconds since the epoch
        self._setting = f"{name}.{'api_url' if name == 'github' else 'url'}"
        self._sleep = sleep
        self._local = threading.local()
        self._counting = threading.Lock()

    def __reduce__(self) -> tuple[type[Door], tuple[str, Endpoint, Policy]]:
        """Let another process ask too; connections and the command's clock stay here."""
        return Door, (self.name, self.endpoint, replace(self.policy, remaining_s=None))

    def get(
        self,
        path: str,
        params: Mapping[str, str] | None = None,
        *,
        check: Callable[[Reply], T],
        headers: Mapping[str, str] | None = None,
        raw_status: Collection[int] = (),
    ) -> T:
        """Ask with GET; `check` turns the reply into a value. Raises SourceError, StoppedError."""
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
        """Ask with a POSTed form, for questions too long for an address. Raises SourceError, StoppedError."""
        return self._ask("POST", path, {"data": dict(form)}, check, headers, raw_status)

    def write(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        check: Callable[[Reply], T],
        raw_status: Collection[int] = (),
    ) -> T:
        """Write JSON with POST, PATCH or DELETE; a POST is sent again only where it was surely not carried out.

        Raises SourceError, StoppedError; UnsureError where a POST may or may not have been carried out.
        """
        return self._ask(method, path, {} if body is None else {"json": dict(body)}, check, None, raw_status, _WRITE_S)

    def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any],
        check: Callable[[Reply], T],
        headers: Mapping[str, str] | None,
        raw_status: Collection[int],
        write_s: float = 0.0,
    ) -> T:
        """Ask until there is an answer; `write_s`: it is a write, and so many seconds lie between two of them."""
        attempt = 0
        while True:
            attempt += 1
            try:
                return check(self._once(method, path, body, headers or {}, raw_status))
            except Transient as e:
                if write_s and method == "POST" and not isinstance(e, NotDone):
                    gave_up = self._gave_up(e, attempt)
                    raise UnsureError(gave_up.what, gave_up.fix) from e
                wait = max(write_s, self._wait(attempt, e.retry_after_s))
                tries = self.policy.late_tries if isinstance(e, Late) else self.policy.tries
                if attempt >= tries or wait > self.policy.longest_wait_s or wait >= self._remaining_s():
                    raise self._gave_up(e, attempt) from e
                with self._counting:
                    self.retries[e.what.split(":")[0][:60]] += 1
                self._sleep(wait)

    def _gave_up(self, e: Transient, tries: int) -> SourceError:
        asked = f"; it asks to be left alone for {e.retry_after_s:.0f} s" if e.retry_after_s else ""
        what = f"{self.name} at {self.endpoint.shown()}: {e.what} (tried {tries} times{asked})"
        fix = e.fix or f"start {self.name} or correct {self._setting}; the next run goes on from here"
        return (TooSlow if isinstance(e, _Cut) else SourceError)(what, fix)

    def _wait(self, attempt: int, asked: float | None) -> float:
        """Return a jittered wait (so that many workers do not come back at once), never less than the server asked for."""
        backoff = min(self.policy.backoff_max_s, self.policy.backoff_s * 2.0 ** (attempt - 1))
        return max(asked or 0.0, backoff * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, no secret

    def _remaining_s(self) -> float:
        return math.inf if self.policy.remaining_s is None else self.policy.remaining_s()

    def _check_time(self) -> None:
        if self._remaining_s() <= 0:
            raise StoppedError(
                f"the command's time was over before {self.name} had answered",
                "run the same command again: it goes on from here",
                "what was pulled so far is in the lake",
            )

    def _once(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any],
        headers: Mapping[str, str],
        raw_status: Collection[int],
    ) -> Reply:
        """Ask once, and again wherever the same server says that the thing has moved to."""
        url = path if path.startswith(("http://", "https://")) else self.endpoint.url.rstrip("/") + path
        for _ in range(_MOST_MOVES):
            self._keep_here(url)
            reply = self._exchange(method, url, body, headers)
            moved = reply.headers.get("Location", "") if reply.status in _MOVED else ""
            if not moved:
                return self._decode(reply, raw_status)
            url = urljoin(url, moved)
            if urlsplit(url).query:
                body = {k: v for k, v in body.items() if k != "params"}
        raise SourceError(f"{self.name} at {self.endpoint.shown()} redirects in a circle", f"correct {self._setting}")

    def _keep_here(self, url: str) -> None:
        """Refuse to carry credentials to another server; from http to https on the same host is the same server."""
        ours, there = origin(self.endpoint.url), origin(url)
        if there not in {ours, ("https", ours[1], 443 if ours[2] == 80 else ours[2])}:  # noqa: PLR2004 - default ports
            raise SourceError(
                f"{self.name} at {self.endpoint.shown()} sends us on to another server ({there[0]}://{there[1]})",
                f"if that server is meant, set {self._setting} to it; if it is a login page, correct the credentials",
            )

    def _exchange(self, method: str, url: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> Reply:
        self._check_time()
        timeout = min(self.policy.timeout_s, self._remaining_s())
        try:
            with self._session().request(
                method,
                url,
                headers={**self.endpoint.headers, **headers},
                timeout=(min(timeout, self.policy.connect_timeout_s), timeout),
                stream=True,
                allow_redirects=False,
                **body,
            ) as r:
                reply = Reply(r.status_code, r.headers, self._whole(r), self.endpoint.secrets())
                with self._counting:
                    self.server_s = max(self.server_s, server_time(r.headers) or 0.0)
                return reply
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as e:
            failed = self._unanswered(e)
        self._check_time()  # a wait that the command's own clock cut short is no fault of the server
        raise failed  # outside of `except`: an invalid header's error repeats the header, in tracebacks too

    def _whole(self, r: requests.Response) -> bytes:
        """Read a body as it comes, so that a server which dribbles cannot hold us beyond the command's time."""
        parts, size = [], 0
        raw = r.raw
        by_piece = iter(lambda: raw.read1(_PIECE, decode_content=True), b"")
        for part in raw.read_chunked(decode_content=True) if raw.chunked else by_piece:
            parts.append(part)
            size += len(part)
            if size > self.policy.largest:
                raise TooLarge(
                    f"{self.name} at {self.endpoint.shown()} answers with more than {self.policy.largest} bytes",
                    f"check {self._setting}",
                )
            self._check_time()
        return b"".join(parts)

    def _unanswered(self, e: Exception) -> SourceError:
        """Tell what it means that no whole answer came; never in words that hold the address or a header."""
        causes = list(_causes(e))
        said = next((c.strerror for c in causes if isinstance(c, OSError) and isinstance(c.strerror, str)), "")
        where = f"{self.name} at {self.endpoint.shown()}"
        if any(isinstance(c, ssl.SSLCertVerificationError) for c in causes):
            return SourceError(f"{where}: its certificate is not trusted", f"correct {self._setting} or ca_file")
        for kinds, failure, words in _FAILURES:
            if any(isinstance(c, kinds) for c in causes):
                return failure(words or said.lower() or "no connection")
        return SourceError(
            f"{where} cannot be asked: {said or type(e).__name__}",
            f"correct {self._setting}, ca_file, client_cert_file and the characters of the credentials",
        )

    def _decode(self, reply: Reply, raw_status: Collection[int]) -> Reply:
        if reply.status in raw_status or reply.status // 100 == 2:  # noqa: PLR2004 - HTTP's success class
            return reply
        said = f"HTTP {reply.status}: {reply.text()}" if reply.body else f"HTTP {reply.status}"
        if reply.status in _TRANSIENT_4XX or (reply.status >= 500 and reply.status not in _NEVER_BETTER_5XX):  # noqa: PLR2004 - HTTP's server errors
            raise _KINDS.get(reply.status, Transient)(said, retry_after_s=retry_after_s(reply.headers))
        where = f"{self.name} at {self.endpoint.shown()}"
        if reply.status in {401, 403}:
            raise SourceError(f"{where} refused us: {said}", f"check the credentials and the tenant of [{self.name}]")
        raise SourceError(f"{where}: {said}", f"check {self._setting}: it must be the server's own address")

    def _session(self) -> requests.Session:
        """Return this thread's session: requests does not promise that a shared one is safe."""
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = requests.Session()
            session.trust_env = False
            if self.endpoint.url.startswith("https://"):
                session.proxies.update(requests.utils.get_environ_proxies(self.endpoint.url))
            session.headers["User-Agent"] = "aislot"
            if self.endpoint.auth:
                # as bytes: requests would write text as Latin-1, in which not every password can be written
                session.auth = requests.auth.HTTPBasicAuth(*(part.encode() for part in self.endpoint.auth))
            session.verify = self.endpoint.ca_file or True
            session.cert = self.endpoint.client_cert_file or None
            self._local.session = session
        return session


def _causes(e: BaseException | None) -> Iterator[BaseException]:
    while e is not None:
        yield e
        e = e.__cause__ or e.__context__
