"""The settings' sections as values: what can be set, its defaults, and what no repr or listing shows."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NewType
from urllib.parse import unquote, urlsplit, urlunsplit

from pipeline.model import instant_of, seconds_of
from pipeline.rules import LabelNames

Seconds = NewType("Seconds", float)
_SHOWN_USER_INFO = re.compile(r"(?<=://)\S*@")


class Secret(str):
    """A text that no repr shows."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'" if self else "''"


class Address(str):
    """An address whose repr shows no user info."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(_SHOWN_USER_INFO.sub("", self))


_NO_SECRET = Secret("")
_NO_ADDRESS = Address("")


@dataclass(frozen=True)
class Server:
    """How one HTTP server is reached; an empty `url` means that the source is not configured.

    User info of the address is taken out of it as `username` and `password`, where these are not given themselves.
    """

    url: Address = _NO_ADDRESS
    tenant: str = ""
    username: str = ""
    password: Secret = _NO_SECRET
    password_file: str = ""
    bearer_token: Secret = _NO_SECRET
    bearer_token_file: str = ""
    ca_file: str = ""
    client_cert_file: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout: Seconds = Seconds(120.0)

    def __post_init__(self) -> None:
        if self.timeout <= 0:
            raise ValueError("timeout must be longer than nothing")
        url, found = _split(self.url, "url")
        object.__setattr__(self, "url", url)
        if found and not self.username:
            object.__setattr__(self, "username", found[0])
            if not (self.password or self.password_file):
                object.__setattr__(self, "password", Secret(found[1]))


# a selector and nothing behind it: what filters lines loses lines, silently
_MATCHER = r"""\s*[A-Za-z_][A-Za-z0-9_]*\s*(?:=~|!~|!=|=)\s*(?:"(?:[^"\\]|\\.)*"|`[^`]*`)\s*"""
_SELECTOR = re.compile(rf"\s*\{{{_MATCHER}(?:,{_MATCHER})*,?\s*\}}\s*")


@dataclass(frozen=True)
class Loki(Server):
    """Where the logs come from; `daily` counts the days of `audit` before its own again, in search of late lines.

    `events` chooses the streams of an agent that ships Kubernetes events; empty: none does.
    """

    selectors: tuple[str, ...] = ('{namespace="codex-k8s-prod"}',)
    events: str = ""
    workers: int = 4
    settle: Seconds = Seconds(900.0)
    audit: Seconds = Seconds(7 * 86400.0)
    labels: LabelNames = field(default_factory=LabelNames)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.selectors:
            raise ValueError("selectors must name at least one stream")
        for selector in (*self.selectors, *([self.events] if self.events else [])):
            if not _SELECTOR.fullmatch(selector):
                raise ValueError(
                    f'selectors choose streams, {{name="value"}} and nothing behind the brace (every line is kept): '
                    f"{selector!r} is none"
                )


@dataclass(frozen=True)
class Prometheus(Server):
    """Where job history and alerts come from; `lookback` is how far before a day its jobs are searched for.

    `parameters` go with every query; the defaults are what Thanos (the first three) and VictoriaMetrics need to give every
    replica's raw samples, the newest too, or an error, and Prometheus passes over them. `export`: read raw samples by
    VictoriaMetrics' export. `queue_query` is the PromQL of the runtime's queue, one series, asked for every `queue_step`;
    empty: there is none.
    """

    lookback: Seconds = Seconds(6 * 3600.0)
    parameters: Mapping[str, str] = field(
        default_factory=lambda: {
            "dedup": "false",
            "max_source_resolution": "0s",
            "partial_response": "false",
            "deny_partial_response": "1",
            "latency_offset": "1ms",  # its counts leave out the last 30 s otherwise, its raw samples do not
        }
    )
    export: bool = False
    queue_query: str = ""
    queue_step: Seconds = Seconds(15.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.queue_step < 1:
            raise ValueError("queue_step must be a second at least")


@dataclass(frozen=True)
class Alertmanager(Server):
    """Where to ask what fires now, beside Prometheus's history of alerts or in its place."""


@dataclass(frozen=True)
class Kubernetes:
    """Where build jobs run, and kubectl's output where Prometheus or Loki is missing."""

    namespaces: tuple[str, ...] = ("codex-k8s-prod",)
    dump: str = ""
    live: bool = False
    context: str = ""
    deployments: tuple[str, ...] = ("codex-k8s-control-plane", "codex-k8s-worker")

    def __post_init__(self) -> None:
        if not self.namespaces:
            raise ValueError("namespaces must name at least one")


@dataclass(frozen=True)
class GitHub:
    """Where the issues are; user info of the address is taken out of it as `token`, where none is given."""

    repository: str = ""
    api_url: Address = Address("https://api.github.com")  # noqa: RUF009 - a text
    token: Secret = _NO_SECRET
    token_file: str = ""
    login: str = ""
    ca_file: str = ""

    def __post_init__(self) -> None:
        url, found = _split(self.api_url, "api_url")
        object.__setattr__(self, "api_url", url)
        if found and not (self.token or self.token_file):
            object.__setattr__(self, "token", Secret(found[1] or found[0]))


@dataclass(frozen=True)
class Lake:
    """Where the tables are kept."""

    uri: Address = Address("lake")  # noqa: RUF009 - a text
    endpoint: Address = _NO_ADDRESS
    region: str = ""

    def __post_init__(self) -> None:
        if not self.uri.strip():
            raise ValueError("uri must name a directory, s3://… or gs://…")


@dataclass(frozen=True)
class Redaction:
    """The key under which equal secrets get equal placeholders."""

    key: Secret = _NO_SECRET
    key_file: str = ""


@dataclass(frozen=True)
class Incident:
    """When failures are one incident, and for how long it is watched after its end."""

    quiet: Seconds = Seconds(1800.0)
    watch: Seconds = Seconds(86400.0)


@dataclass(frozen=True)
class Compare:
    """What failures are compared with, and how a template's or a signature's age is judged.

    Lines are read of at most so many failed and so many successful `attempts` of each kind a day, and failures held
    against the successes of `days`; what was not seen for `returning` is back, for `remember` forgotten.
    """

    attempts: int = 50
    days: Seconds = Seconds(7 * 86400.0)
    returning: Seconds = Seconds(7 * 86400.0)
    remember: Seconds = Seconds(90 * 86400.0)


@dataclass(frozen=True)
class Alerts:
    """How far an alert's interval may lie from the expected one and still match it."""

    tolerance: Seconds = Seconds(300.0)


@dataclass(frozen=True)
class Verdict:
    """The longest hole in a source that is overlooked."""

    max_gap: Seconds = Seconds(0.0)


@dataclass(frozen=True)
class Report:
    """Where reports go, and where the house's documents are."""

    out: str = "out"
    lang: str = "en"
    docs_url: Address = _NO_ADDRESS

    def __post_init__(self) -> None:
        if not self.out.strip():
            raise ValueError("out must name a directory")


@dataclass(frozen=True)
class Engine:
    """Where work runs; `address` is that of a scheduler, empty for one on this machine."""

    kind: str = "local"
    address: str = ""


@dataclass(frozen=True)
class CatalogueFiles:
    """The user's own rules."""

    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Exclusion:
    """A maintenance window or a confirmed outage of an external registry: left out of the objectives, and counted."""

    start: str
    end: str
    who: str
    why: str
    confirmed_by: str = ""

    def __post_init__(self) -> None:
        for name in ("who", "why"):
            if not getattr(self, name).strip():
                raise ValueError(f"{name} is missing")
        for text in (self.start, self.end):
            try:
                instant_of(text)
            except ValueError as e:
                raise ValueError(f"{text!r} is no instant: write 2026-02-26T09:00:00Z") from e
        if instant_of(self.end) <= instant_of(self.start):
            raise ValueError(f"it must end after it starts, and {self.end} does not lie after {self.start}")


@dataclass(frozen=True)
class Settings:
    """Everything that can be set; see README.md for what each key means."""

    loki: Loki = field(default_factory=Loki)
    prometheus: Prometheus = field(default_factory=Prometheus)
    alertmanager: Alertmanager = field(default_factory=Alertmanager)
    kubernetes: Kubernetes = field(default_factory=Kubernetes)
    github: GitHub = field(default_factory=GitHub)
    lake: Lake = field(default_factory=Lake)
    redaction: Redaction = field(default_factory=Redaction)
    incident: Incident = field(default_factory=Incident)
    compare: Compare = field(default_factory=Compare)
    alerts: Alerts = field(default_factory=Alerts)
    verdict: Verdict = field(default_factory=Verdict)
    report: Report = field(default_factory=Report)
    engine: Engine = field(default_factory=Engine)
    catalogue: CatalogueFiles = field(default_factory=CatalogueFiles)
    maintenance: tuple[Exclusion, ...] = ()
    outage: tuple[Exclusion, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict, repr=False)

    def flat(self) -> list[tuple[str, Any, str]]:
        """Return (key, value, where from) for every setting, secrets and user info masked, in their order."""
        return [(k, _masked(v), self.origins.get(k, "default")) for k, v in _flatten(self)]

    def stated(self) -> dict[str, Any]:
        """Return what differs from the defaults, as `load` takes it back in its flags; secrets and headers left out."""
        usual = dict(_flatten(type(self)()))
        found = [(k, v) for k, v in _flatten(self) if v != usual[k] and not isinstance(v, Secret | Mapping)]
        return {k: f"{v:f}s" if isinstance(v, float) else _masked(v) for k, v in found}


def parse_duration(text: str) -> Seconds:
    """Parse `90s`, `30m`, `1h30m`, `7d`. Raises ValueError."""
    return Seconds(seconds_of(text))


def _flatten(section: Any, prefix: str = "") -> list[tuple[str, Any]]:
    out: list[tuple[str, Any]] = []
    for f in dataclasses.fields(section):
        value = getattr(section, f.name)
        if f.name == "origins":
            continue
        if dataclasses.is_dataclass(value):
            out += _flatten(value, f"{prefix}{f.name}.")
        else:
            out.append((prefix + f.name, value))
    return out


def _masked(value: Any) -> Any:
    if isinstance(value, Secret):
        return "***" if value else ""
    if isinstance(value, Mapping):
        return dict.fromkeys(value, "***")  # headers may carry credentials
    if isinstance(value, Address):
        return _SHOWN_USER_INFO.sub("", value)
    if isinstance(value, tuple):
        return [dataclasses.asdict(v) if dataclasses.is_dataclass(v) and not isinstance(v, type) else v for v in value]
    return value


def without_user_info(url: str) -> str:
    """Return the address without `user:password@`."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def user_info(url: str) -> tuple[str, str] | None:
    """Return the credentials that an address holds, if it does."""
    parts = urlsplit(url)
    return (unquote(parts.username or ""), unquote(parts.password or "")) if "@" in parts.netloc else None


def _split(url: str, key: str) -> tuple[Address, tuple[str, str] | None]:
    """Part an address from its user info; what may be a password is not quoted. An empty one stays. Raises ValueError."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # no number: a password that holds a slash, say
        sound = "@" not in parts.path
    except ValueError:
        sound = False
    if sound:
        address = Address(without_user_info(url))
        if address and not address.startswith(("http://", "https://")):
            raise ValueError(f"{key} {str(address)!r} is no http(s) address: write http:// or https:// before it")
        return address, user_info(url)
    raise ValueError(f"{key} is no address (characters such as / in a password are written %2F)") from None
