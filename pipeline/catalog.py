"""Reads queries/: every LogQL and PromQL text and the domain's rules, each rule held to its own examples."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError
from pipeline.rules import AlertRule, Catalogue, JobKind, Objective, Phrase, RedactionRule, Signature

_PLACEHOLDER = re.compile(r"\$\{([a-z_]+)\}")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_FILLER = "Z7kQ2mXw9RtB4nVc6LpD1sGh8JfY3aEu5To0iNyKr"
_EXAMPLE = re.compile(r"\{\{([aduh])(\d+)\}\}")


class Raw(str):
    """A text that goes into a query as it is: a selector or a duration from the settings, never from a log."""

    __slots__ = ()


def data_dir(name: str) -> Path:
    """Return the folder `queries` or `reports`: the checkout's for an editable install, else the wheel's own copy."""
    package = Path(__file__).resolve().parent
    packed = package / "_data" / name
    return packed if packed.is_dir() else package.parent / name


def render(text: str, **values: str) -> str:
    """Fill a query's `${name}` placeholders, without its comments; plain text is quoted. Raises UsageError."""
    body = "\n".join(line for line in text.splitlines() if not line.startswith("#")).strip()
    wanted = set(_PLACEHOLDER.findall(body))
    if wanted != set(values):
        raise UsageError(
            f"a query wants {sorted(wanted)} and was given {sorted(values)}", "correct that file of queries/"
        )
    return _PLACEHOLDER.sub(lambda m: values[m[1]] if isinstance(values[m[1]], Raw) else quoted(values[m[1]]), body)


def quoted(text: str) -> str:
    """Write a text as a LogQL or PromQL string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def fingerprint(*texts: str) -> str:
    """Return a short hash that tells whether the same question was asked."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]


def load(files: Sequence[str] = ()) -> Catalogue:
    """Read the built-in rules and then the user's own files, which add to them or replace by id. Raises UsageError."""
    folder = data_dir("queries")
    queries = {p.stem: _text(p) for p in sorted(folder.iterdir()) if p.suffix in {".logql", ".promql"}}
    sources = [*sorted(folder.glob("*.toml")), *(Path(f) for f in files)]
    rules: dict[str, dict[str, Any]] = {name: {} for name in _FORMS}
    for path in sources:
        for name, made in _rules_of(path):
            rules[name][made.id if hasattr(made, "id") else made.kind if name == "job_kind" else made.name] = made
    texts = [*queries.values(), *(_text(p) for p in sources)]
    return Catalogue(
        queries=queries,
        signatures=tuple(rules["signature"].values()),
        job_kinds=tuple(rules["job_kind"].values()),
        alerts=tuple(rules["alert"].values()),
        objectives=tuple(rules["objective"].values()),
        redaction=tuple(rules["redaction"].values()),
        phrases=tuple(rules["phrase"].values()),
        version=fingerprint(*texts),
    )


def _rules_of(path: Path) -> list[tuple[str, Any]]:
    try:
        tree = tomllib.loads(_text(path))
    except tomllib.TOMLDecodeError as e:
        raise UsageError(f"{path} is not TOML: {e}", "correct that line") from e
    made = []
    for name, entries in tree.items():
        if name not in _FORMS:
            raise _unknown(path, name, list(_FORMS))
        for i, entry in enumerate(entries if isinstance(entries, list) else [entries], 1):
            try:
                made.append((name, _made(name, entry)))
            except (TypeError, ValueError, KeyError, re.error) as e:
                raise UsageError(f"{path}: [[{name}]] number {i}: {e}", "correct it") from e
    return made


def _made(name: str, entry: Mapping[str, Any]) -> Any:
    """Make one rule and hold it to its examples. Raises ValueError."""
    cls, renamed, holds = _FORMS[name]
    known = [f.name for f in dataclasses.fields(cls)]
    values: dict[str, Any] = {}
    for key, value in entry.items():
        if key in {"examples", "counter_examples"}:
            continue
        field = renamed.get(key, key)
        if field not in known:
            near = difflib.get_close_matches(key, [*known, *renamed], n=1, cutoff=0.0)[0]
            raise ValueError(f"unknown key {key!r}; did you mean {near!r}?")
        values[field] = _seconds(value) if field.endswith("_s") else tuple(value) if isinstance(value, list) else value
    if name == "objective":
        values["window"] = entry["window"]
    rule = cls(**values)
    if holds is not None:
        for example in entry.get("examples", ()):
            if not holds(rule, expanded(example)):
                raise ValueError(f"its own example does not match: {example!r}")
        for example in entry.get("counter_examples", ()):
            if holds(rule, expanded(example)):
                raise ValueError(f"its own counter-example matches: {example!r}")
    return rule


def expanded(example: Any) -> Any:
    """Write out the random-looking parts of an example, so that no file of ours holds what looks like a secret."""
    if not isinstance(example, str):
        return example

    def fill(m: re.Match[str]) -> str:
        text = (_FILLER * (int(m[2]) // len(_FILLER) + 1))[: int(m[2])]
        turned = {"a": text, "u": text.upper(), "d": "".join(str(ord(c) % 10) for c in text)}
        return turned.get(m[1]) or "".join("0123456789abcdef"[ord(c) % 16] for c in text)

    return _EXAMPLE.sub(fill, example)


def _found(rule: RedactionRule, text: str) -> bool:
    hinted = re.search(rule.hint, text, re.ASCII) is not None
    found = re.search(rule.pattern, text, re.ASCII) is not None
    if found and not hinted:
        raise ValueError(f"the pattern finds {text!r} and the hint does not")
    return found


def _seconds(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    found = re.fullmatch(r"(\d+)([smhd])", str(value))
    if not found:
        raise ValueError(f"{value!r} is not a duration: write 90s, 30m, 1h or 7d")
    return float(found[1]) * _UNITS[found[2]]


def _unknown(path: Path, key: str, known: list[str]) -> UsageError:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
    return UsageError(f"{path}: unknown table [[{key}]]", f"did you mean [[{near[0]}]]?" if near else "")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise UsageError(f"{path} cannot be read: {type(e).__name__}", "correct catalogue.files") from e


_Holds = Callable[[Any, Any], bool] | None
_FORMS: dict[str, tuple[type[Any], dict[str, str], _Holds]] = {
    "signature": (Signature, {"class": "failure_class"}, lambda r, x: r.matches(x)),
    "job_kind": (JobKind, {"ttl": "ttl_s"}, lambda r, x: re.fullmatch(r.pattern, x) is not None),
    "alert": (AlertRule, {"window": "window_s"}, lambda r, x: r.reached(x)),
    "objective": (Objective, {"window": "window_s", "limit": "limit_s", "freeze_within": "freeze_within_s"}, None),
    "redaction": (RedactionRule, {}, _found),
    "phrase": (Phrase, {}, lambda r, x: re.search(r.pattern, x) is not None),
}
