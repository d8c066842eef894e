"""What every step works with: settings, rules, the lake, the clock's reading and the doors to the sources."""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import catalog, engine
from pipeline import settings as config
from pipeline.errors import LakeError, StoppedError, UsageError
from pipeline.lake.records import Records
from pipeline.lake.store import Store
from pipeline.lake.tables import Tables
from pipeline.model import NS, Window, day_of
from pipeline.redact import Redactor
from pipeline.rules import Catalogue

if TYPE_CHECKING:
    from pipeline.sources.http import Door, Endpoint, Policy

_LOCK_WAIT_S = 600.0
Say = Callable[[str], None]
_TENANT = re.compile(r"[\w.!*'()-]+")


@dataclass(frozen=True)
class Context:
    """One command's world. `now` is the instant it began, `remaining_s` what is left of its time, `say` tells people."""

    settings: config.Settings
    catalogue: Catalogue
    store: Store
    now: int
    say: Say
    remaining_s: Callable[[], float] | None = None
    written_by: str = ""
    base: Path = field(default_factory=Path)
    retries: Counter[str] = field(default_factory=Counter)  # by cause, of all doors

    @property
    def tables(self) -> Tables:
        """The lake's tables."""
        return Tables(self.store)

    @property
    def records(self) -> Records:
        """The lake's records."""
        return Records(self.store)

    def redactor(self) -> Redactor:
        """Return the redactor under this install's key, else the lake's own. Raises UsageError."""
        settings = self.settings.redaction
        key = settings.key.encode() or _from_file(settings.key_file, "redaction.key_file").encode()
        return Redactor(self.catalogue.redaction, key or self.records.key())

    def loki(self) -> Door:
        """Return the door to Loki."""
        from pipeline.sources.http import Door

        server = self.settings.loki
        return Door("loki", endpoint(server, "loki"), self._policy(server.timeout), retries=self.retries)

    def prometheus(self) -> Door:
        """Return the door to Prometheus."""
        from pipeline.sources.http import Door

        server = self.settings.prometheus
        where = endpoint(server, "prometheus")
        return Door("prometheus", where, self._policy(server.timeout), retries=self.retries)

    def alertmanager(self) -> Door:
        """Return the door to Alertmanager."""
        from pipeline.sources.http import Door

        server = self.settings.alertmanager
        where = endpoint(server, "alertmanager")
        return Door("alertmanager", where, self._policy(server.timeout), retries=self.retries)

    def github(self) -> Door:
        """Return the door to GitHub."""
        from pipeline.sources.http import Door, Endpoint

        server = self.settings.github
        token = server.token or _from_file(server.token_file, "github.token_file")
        headers = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        where = Endpoint(server.api_url, headers, None, server.ca_file)
        return Door("github", where, self._policy(60.0), retries=self.retries)

    def lock(self) -> AbstractContextManager[None]:
        """Hold the lake for writing, waited for no longer than the command's time allows. Raises LakeError."""
        left = _LOCK_WAIT_S if self.remaining_s is None else max(0.0, self.remaining_s())
        return self.store.lock(min(_LOCK_WAIT_S, left), self.say)

    def check_time(self) -> None:
        """Stop in a resumable state when the command's time is over. Raises StoppedError."""
        if self.remaining_s is not None and self.remaining_s() <= 0:
            raise StoppedError(
                "the time given by --max-runtime is over",
                "run the same command again: it goes on from here",
                "what was pulled so far is in the lake",
            )

    def today(self) -> dt.date:
        """Return the UTC day of `now`."""
        return day_of(self.now)

    def check_day(self, day: dt.date) -> Window:
        """Return a day's window; a day in the future is refused. Raises UsageError."""
        if day > self.today():
            raise UsageError(f"{day} is in the future (today is {self.today()} UTC)", "name a day that has begun")
        return Window.of_day(day)

    def _policy(self, timeout_s: float) -> Policy:
        from pipeline.sources.http import Policy

        return Policy(timeout_s=timeout_s, remaining_s=self.remaining_s)


def open_context(
    settings: config.Settings,
    now: int,
    say: Say,
    remaining_s: Callable[[], float] | None = None,
    written_by: str = "",
) -> Context:
    """Read the rules and open the lake. Raises UsageError, LakeError."""
    engine.check(settings.engine.kind)
    options: dict[str, object] = {}
    if settings.lake.uri.startswith("s3://"):
        client = {k: v for k, v in (("region_name", settings.lake.region),) if v}
        options = {"client_kwargs": client} | (
            {"endpoint_url": settings.lake.endpoint} if settings.lake.endpoint else {}
        )
    store = Store(settings.lake.uri, options)
    if store.local and Path(store.root).exists() and not Path(store.root).is_dir():
        raise LakeError(f"the lake {store.uri} is a file", "set lake.uri to a directory")
    Records(store).check_format()
    return Context(settings, catalog.load(settings.catalogue.files), store, now, say, remaining_s, written_by)


def endpoint(server: config.Server, name: str) -> Endpoint:
    """Turn a server's settings into where and how it is asked. Raises UsageError."""
    from pipeline.sources.http import Endpoint

    headers: dict[str, str] = dict(server.headers)
    if server.tenant:
        if not _TENANT.fullmatch(server.tenant):
            raise UsageError(f"{name}.tenant {server.tenant!r} is no tenant's name", "name one tenant")
        headers["X-Scope-OrgID"] = server.tenant
    token = server.bearer_token or _from_file(server.bearer_token_file, f"{name}.bearer_token_file")
    if token:
        headers["Authorization"] = f"Bearer {token}"
    password = server.password or _from_file(server.password_file, f"{name}.password_file")
    auth = (server.username, password) if server.username else config.user_info(server.url)
    return Endpoint(
        config.without_user_info(server.url), headers, None if token else auth, server.ca_file, server.client_cert_file
    )


def _from_file(path: str, key: str) -> str:
    if not path:
        return ""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as e:
        raise UsageError(
            f"{key} {path} cannot be read: {type(e).__name__}", "correct the path or its permissions"
        ) from e


def seconds_text(seconds: float) -> str:
    """Write a duration as people do: `26 min 03 s`."""
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {secs:02d} s" if minutes else f"{secs} s"


def ns(seconds: float) -> int:
    """Return seconds as nanoseconds."""
    return round(seconds * NS)


def shown(mapping: Mapping[str, object]) -> str:
    """Write counts as `a 3, b 5`."""
    return ", ".join(f"{k} {v}" for k, v in mapping.items())
