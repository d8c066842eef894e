"""Settings: defaults < aislot.toml or --config < environment < flags; typed, each with where it comes from."""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import tomllib
import typing
from collections.abc import Mapping
from typing import Any

from pipeline.errors import UsageError
from pipeline.settings.sections import (
    Exclusion,
    GitHub,
    Kubernetes,
    Loki,
    Prometheus,
    Seconds,
    Secret,
    Server,
    Settings,
    parse_duration,
    user_info,
    without_user_info,
)

__all__ = [
    "Exclusion",
    "GitHub",
    "Kubernetes",
    "Loki",
    "Prometheus",
    "Secret",
    "Server",
    "Settings",
    "load",
    "parse_duration",
    "user_info",
    "without_user_info",
]

_COMMA = re.compile(r",(?![^{]*\})")  # none of those inside a selector's or a pattern's braces


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
    fields = [f for f in dataclasses.fields(cls) if f.name != "origins"]
    values: dict[str, Any] = {}
    for key, value in tree.items():
        if key not in hints or key == "origins":
            raise _unknown(key, prefix, [f.name for f in fields], origins)
        try:
            values[key] = _typed(hints[key], value, f"{prefix}{key}", origins)
        except (TypeError, ValueError) as e:
            raise UsageError(f"{prefix}{key}{_from(prefix + key, origins)}: {e}", "correct its value") from e
    missing = [f.name for f in fields if f.name not in values and _required(f)]
    if missing:
        raise ValueError(f"{missing[0]} is missing")
    return cls(**values)


def _required(f: dataclasses.Field[Any]) -> bool:
    return f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING


def _from(key: str, origins: Mapping[str, str]) -> str:
    """Say where a key was set: itself, something below it, or the section it stands in."""
    below = [v for k, v in origins.items() if k == key or k.startswith(f"{key}.")]
    above = [v for k, v in origins.items() if key.startswith(f"{k}.")]
    return f" (from {(below + above)[0]})" if below or above else ""


def _unknown(key: str, prefix: str, known: list[str], origins: Mapping[str, str]) -> UsageError:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
    what = "section" if not prefix else "setting"
    where = _from(prefix + key, origins)
    return UsageError(f"unknown {what} {prefix}{key}{where}", f"did you mean {prefix}{near[0]}?" if near else "")


def _typed(hint: Any, value: Any, key: str, origins: Mapping[str, str]) -> Any:  # noqa: PLR0911 - one line a type
    """Check and convert a value; what may be a secret is not quoted. Raises TypeError, ValueError."""
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise TypeError(f"must be a section, not {_kind(value)}")
        return _build(typing.cast("type[Any]", hint), value, f"{key}.", origins)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and dataclasses.is_dataclass(args[0]):
        return tuple(_sections(typing.cast("type[Any]", args[0]), value, key, origins))
    if origin is tuple:
        return tuple(_text(v) for v in _listed(value))
    if origin is not None:  # Mapping[str, str]
        pairs = json.loads(value) if isinstance(value, str) else value
        if not isinstance(pairs, Mapping):
            raise TypeError(f"must be a section or a JSON object, not {_kind(pairs)}")
        return {str(k): _text(v) for k, v in pairs.items()}
    if hint is Seconds:
        return parse_duration(_text(value))
    if hint is bool:
        return _boolean(value)
    if hint is int:
        return _whole(value)
    return hint(_text(value))


def _sections(cls: type[Any], value: Any, key: str, origins: Mapping[str, str]) -> list[Any]:
    if not isinstance(value, list) or not all(isinstance(v, Mapping) for v in value):
        raise TypeError(f"must be written as [[{key}]]")
    made = []
    for i, section in enumerate(value, 1):
        try:
            made.append(_build(cls, _plain_items(section), f"{key}.", origins))
        except ValueError as e:
            raise ValueError(f"number {i}: {e}") from e
    return made


def _kind(value: Any) -> str:
    kinds = {str: "text", bool: "true or false", int: "a number", float: "a number", list: "a list"}
    return kinds.get(type(value), "a section" if isinstance(value, Mapping) else "a date or time")


def _plain_items(section: Mapping[str, Any]) -> dict[str, Any]:
    """TOML knows instants; these settings are written as text or as such."""
    return {k: v if isinstance(v, str) else v.isoformat() if hasattr(v, "isoformat") else v for k, v in section.items()}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"must be text in quotes, not {_kind(value)}")
    return value


def _listed(value: Any) -> list[Any]:
    if isinstance(value, str):
        as_json = value.lstrip().startswith("[")
        value = json.loads(value) if as_json else [v.strip() for v in _COMMA.split(value) if v.strip()]
    if not isinstance(value, list):
        raise TypeError(f"must be a list, not {_kind(value)}")
    return value


def _boolean(value: Any) -> bool:
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False, "": False}
    if isinstance(value, str) and value.lower() in known:
        return known[value.lower()]
    if not isinstance(value, bool):
        raise TypeError(f"must be true or false, not {value!r}")
    return value


def _whole(value: Any) -> int:
    number = int(value) if isinstance(value, str) and value.strip().isdecimal() else value
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise TypeError(f"must be a whole number of at least 1, not {value!r}")
    return number
