"""Settings: defaults < aislot.toml or --config < environment < flags; typed, each with where it comes from."""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NewType
from urllib.parse import unquote, urlsplit, urlunsplit

from pipeline.errors import UsageError
from pipeline.rules import LabelNames

Seconds = NewType("Seconds", float)
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])")


class Secret(str):
    """A text that no repr shows."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'" if self else "''"


_NO_SECRET = Secret("")


@dataclass(frozen=True)
class Server:
    """How one HTTP server is reached; an empty `url` means that the source is not configured."""

    url: str = ""
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


@dataclass(frozen=True)
class Loki(Server):
    """Where the logs come from."""

    selectors: tuple[str, ...] = ('{namespace="codex-k8s-prod"}',)
    workers: int = 4
    settle: Seconds = Seconds(900.0)
    labels: LabelNames = field(default_factory=LabelNames)


@dataclass(frozen=True)
class Prometheus(Server):
    """Where job history and alerts come from; `lookback` is how far before a day its jobs are searched for."""

    lookback: Seconds = Seconds(6 * 3600.0)
    backlog_query: str = ""


@dataclass(frozen=True)
class Kubernetes:
    """Where build jobs run, and kubectl's output where Prometheus or Loki is missing."""

    namespaces: tuple[str, ...] = ("codex-k8s-prod",)
    dump: str = ""
    live: bool = False
    context: str = ""
    deployments: tuple[str, ...] = ("codex-k8s-control-plane", "codex-k8s-worker")


@dataclass(frozen=True)
class GitHub:
    """Where the issues are."""

    repository: str = ""
    api_url: str = "https://api.github.com"
    token: Secret = _NO_SECRET
    token_file: str = ""
    login: str = ""
    ca_file: str = ""


@dataclass(frozen=True)
class Lake:
    """Where the tables are kept."""

    uri: str = "lake"
    endpoint: str = ""
    region: str = ""


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
    docs_url: str = ""


@dataclass(frozen=True)
class Engine:
    """Where work runs."""

    kind: str = "local"


@dataclass(frozen=True)
class CatalogueFiles:
    """The user's own rules."""

    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Exclusion:
    """A maintenance window or a confirmed outage of an external registry: left out of the objectives, and counted."""

    start: str
    end: str
    who: str = ""
    why: str = ""
    confirmed_by: str = ""


@dataclass(frozen=True)
class Settings:
    """Everything that can be set; see README.md for what each key means."""

    loki: Loki = field(default_factory=Loki)
    prometheus: Prometheus = field(default_factory=Prometheus)
    kubernetes: Kubernetes = field(default_factory=Kubernetes)
    github: GitHub = field(default_factory=GitHub)
    lake: Lake = field(default_factory=Lake)
    redaction: Redaction = field(default_factory=Redaction)
    incident: Incident = field(default_factory=Incident)
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


def parse_duration(text: str) -> Seconds:
    """Parse `90s`, `30m`, `1h30m`, `7d`. Raises ValueError."""
    parts = _DURATION.findall(text)
    if not parts or "".join(n + u for n, u in parts) != text:
        raise ValueError(f"{text!r} is not a duration: write 90s, 30m, 1h30m or 7d")
    return Seconds(sum(float(n) * _UNITS[u] for n, u in parts))


def load(
    text: str | None, where: str, environment: Mapping[str, str], flags: Mapping[str, Any] | None = None
) -> Settings:
    """Make settings from a TOML text (None: no file; `where` names it), the environment and `{"lake.uri": …}` flags.

    Raises UsageError that names the key, its place and the nearest known one.
    """
    origins: dict[str, str] = {}
    tree: dict[str, Any] = {}
    for source, layer in ((where, _from_toml(text, where)), *_from_environment(environment)):
        _overlay(tree, layer, "", source, origins)
    for key, value in (flags or {}).items():
        if value is not None:
            _overlay(tree, _nested(key.split("."), value), "", "flag", origins)
    settings = typing.cast("Settings", _build(Settings, tree, "", origins))
    return dataclasses.replace(settings, origins=origins)


def _from_toml(text: str | None, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text or "")
    except tomllib.TOMLDecodeError as e:
        raise UsageError(f"{where} is not TOML: {e}", "correct that line") from e


def _from_environment(environment: Mapping[str, str]) -> list[tuple[str, dict[str, Any]]]:
    layers = []
    if environment.get("GITHUB_TOKEN"):
        layers.append(("GITHUB_TOKEN", {"github": {"token": environment["GITHUB_TOKEN"]}}))
    for name in sorted(environment):
        if name.startswith("AISLOT_") and "__" in name:
            path = [p.lower() for p in name.removeprefix("AISLOT_").split("__")]
            layers.append((name, _nested(path, environment[name])))
    return layers


def _nested(path: list[str], value: Any) -> dict[str, Any]:
    for part in reversed(path):
        value = {part: value}
    return typing.cast("dict[str, Any]", value)


def _overlay(tree: dict[str, Any], layer: Mapping[str, Any], prefix: str, source: str, origins: dict[str, str]) -> None:
    for key, value in layer.items():
        if isinstance(value, Mapping):
            below = tree.setdefault(key, {})
            if isinstance(below, dict):
                _overlay(below, value, f"{prefix}{key}.", source, origins)
                continue
        tree[key] = value
        origins[prefix + key] = source


def _build(cls: type[Any], tree: Mapping[str, Any], prefix: str, origins: Mapping[str, str]) -> Any:
    hints = typing.get_type_hints(cls)
    known = [f.name for f in dataclasses.fields(cls) if f.name != "origins"]
    values: dict[str, Any] = {}
    for key, value in tree.items():
        if key not in known:
            raise _unknown(key, prefix, known, origins)
        where = origins.get(prefix + key, "")
        try:
            values[key] = _typed(hints[key], value, f"{prefix}{key}", origins)
        except (TypeError, ValueError) as e:
            raise UsageError(f"{prefix}{key} (from {where or 'settings'}): {e}", "correct its value") from e
    try:
        return cls(**values)
    except TypeError as e:
        raise UsageError(f"[[{prefix.rstrip('.')}]] needs start and end: {e}", "add what is missing") from e


def _unknown(key: str, prefix: str, known: list[str], origins: Mapping[str, str]) -> UsageError:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
    below = [v for k, v in origins.items() if k == prefix + key or k.startswith(f"{prefix}{key}.")]
    where = f" (from {below[0]})" if below else ""
    what = "section" if not prefix else "setting"
    return UsageError(f"unknown {what} {prefix}{key}{where}", f"did you mean {prefix}{near[0]}?" if near else "")


def _typed(hint: Any, value: Any, key: str, origins: Mapping[str, str]) -> Any:  # noqa: PLR0911 - one line a type
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise TypeError(f"must be a section, not {value!r}")
        return _build(typing.cast("type[Any]", hint), value, f"{key}.", origins)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and dataclasses.is_dataclass(args[0]):
        if not isinstance(value, list) or not all(isinstance(v, Mapping) for v in value):
            raise TypeError("must be written as [[sections]]")
        return tuple(_build(typing.cast("type[Any]", args[0]), _plain_items(v), f"{key}.", origins) for v in value)
    if origin is tuple:
        return tuple(_text(v) for v in _listed(value))
    if origin is not None:  # Mapping[str, str]
        pairs = json.loads(value) if isinstance(value, str) else value
        return {str(k): _text(v) for k, v in dict(pairs).items()}
    if hint is Seconds:
        return parse_duration(_text(value))
    if hint is bool:
        return _boolean(value)
    if hint is int:
        return _whole(value)
    return Secret(_text(value)) if hint is Secret else _text(value)


def _plain_items(section: Mapping[str, Any]) -> dict[str, Any]:
    """TOML knows instants; these settings are written as text or as such."""
    return {k: v if isinstance(v, str) else v.isoformat() if hasattr(v, "isoformat") else v for k, v in section.items()}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"must be text in quotes, not {value!r}")
    return value


def _listed(value: Any) -> list[Any]:
    if isinstance(value, str):
        value = (
            json.loads(value) if value.lstrip().startswith("[") else [v.strip() for v in value.split(",") if v.strip()]
        )
    if not isinstance(value, list):
        raise TypeError(f"must be a list, not {value!r}")
    return value


def _boolean(value: Any) -> bool:
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False, "": False}
    if isinstance(value, str) and value.lower() in known:
        return known[value.lower()]
    if not isinstance(value, bool):
        raise TypeError(f"must be true or false, not {value!r}")
    return value


def _whole(value: Any) -> int:
    number = int(value) if isinstance(value, str) else value
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise TypeError(f"must be a whole number of at least 1, not {value!r}")
    return number


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
    if isinstance(value, str) and "@" in value and "://" in value:
        return without_user_info(value)
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
    return (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
