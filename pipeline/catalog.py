"""Reads queries/: every LogQL and PromQL text and the domain's rules, each rule held to its own examples."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import re
import tomllib
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import UsageError
from pipeline.model import seconds_of
from pipeline.rules import (
    BUILD_REF,
    CACHE,
    OTHER,
    AlertRule,
    Attribute,
    Catalogue,
    JobKind,
    Objective,
    Phrase,
    RedactionRule,
    Signature,
)

_PLACEHOLDER = re.compile(r"\$\{([a-z_]+)\}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
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
    escaped = _CONTROL.sub(_escaped, text.replace("\\", "\\\\").replace('"', '\\"'))
    return f'"{escaped}"'


def _escaped(control: re.Match[str]) -> str:
    return f"\\u{ord(control[0]):04x}"


def fingerprint(*texts: str) -> str:
    """Return a short hash that tells whether the same question was asked."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]


def load(files: Sequence[str] = (), *, check_own: bool = False) -> Catalogue:
    """Read the built-in rules and then the user's own files, which add to them or replace by id. Raises UsageError.

    The patterns and examples of the built-in ones are checked where they are changed, in our tests (`check_own`): that
    takes half a second, and every command begins with this.
    """
    folder = data_dir("queries")
    queries = {p.stem: _text(p) for p in sorted(folder.iterdir()) if p.suffix in {".logql", ".promql"}}
    sources = [*sorted(folder.glob("*.toml")), *(Path(f) for f in files)]
    rules: dict[str, dict[str, Any]] = {name: {} for name in _FORMS}
    places: dict[tuple[str, str], str] = {}
    for path in sources:
        for name, place, made in _rules_of(path, checked=check_own or path.parent != folder):
            key = getattr(made, _FORMS[name].key)
            if places.get((name, key), "").startswith(f"{path}: "):
                raise UsageError(f"{place}: {_FORMS[name].key} {key!r} is there twice", "give it another")
            rules[name][key], places[name, key] = made, place
    _check_names(rules, places)
    texts = [*queries.values(), *(_text(p) for p in sources)]
    return Catalogue(
        queries=queries,
        signatures=tuple(rules["signature"].values()),
        job_kinds=tuple(rules["job_kind"].values()),
        alerts=tuple(rules["alert"].values()),
        objectives=tuple(rules["objective"].values()),
        redaction=tuple(rules["redaction"].values()),
        phrases=tuple(rules["phrase"].values()),
        attributes=tuple(rules["attribute"].values()),
        version=fingerprint(*texts),
    )


def _rules_of(path: Path, *, checked: bool) -> list[tuple[str, str, Any]]:
    try:
        tree = tomllib.loads(_text(path))
    except tomllib.TOMLDecodeError as e:
        raise UsageError(f"{path} is not TOML: {e}", "correct that line") from e
    made = []
    for name, entries in tree.items():
        if name not in _FORMS:
            raise UsageError(f"{path}: unknown table [[{name}]]", f"did you mean [[{_nearest(name, _FORMS)}]]?")
        for i, entry in enumerate(entries if isinstance(entries, list) else [entries], 1):
            place = f"{path}: [[{name}]] number {i}"
            try:
                made.append((name, place, _made(_FORMS[name], entry, checked=checked)))
            except (TypeError, ValueError) as e:
                raise UsageError(f"{place}: {e}", "correct it") from e
    return made


def _made(form: _Form, entry: Any, *, checked: bool) -> Any:
    """Make one rule and, if `checked`, hold its patterns to its examples. Raises TypeError, ValueError."""
    if not isinstance(entry, Mapping):
        raise TypeError("it must be a table")
    hints, fields = typing.get_type_hints(form.cls), dataclasses.fields(form.cls)
    renamed = {form.renamed.get(f.name, f.name): f for f in fields}  # by the file's own names
    said = {k: v for k, v in entry.items() if k not in {"examples", "counter_examples"}}
    for key in said:
        if key not in renamed:
            raise ValueError(f"unknown key {key!r}; did you mean {_nearest(key, renamed)!r}?")
    for key, f in renamed.items():
        if f.default is dataclasses.MISSING and said.get(key, []) == []:
            raise ValueError(f"key {key!r} is missing")
    values = {renamed[k].name: _value(k, v, hints[renamed[k].name], renamed[k].name) for k, v in said.items()}
    if form.cls is Objective:
        values["window"] = _value("window", entry["window"], str, "window")  # as it is shown
    for key, allowed in form.choices.items():
        _check_choice(key, values.get(form.field(key), ()), allowed)
    rule = form.cls(**values)
    if checked:
        _check(form, rule, values, entry)
    return rule


def _check(form: _Form, rule: Any, values: Mapping[str, Any], entry: Mapping[str, Any]) -> None:
    for key in _PATTERNS & values.keys():
        _check_pattern(key, values[key])
    for key in form.re2:
        _check_re2(key, values.get(key, ()))
    for key in form.scanned:
        _check_scanned(key, values.get(key, ()))
    if isinstance(rule, RedactionRule) and bool(rule.multiline_start) != bool(rule.multiline_end):
        raise ValueError("multiline_start and multiline_end go together")
    _check_examples(form, rule, entry)


def _value(key: str, value: Any, hint: Any, name: str) -> Any:
    """Check a value's type and convert it. Raises TypeError, ValueError."""
    if name.endswith("_s") and isinstance(value, str):
        return seconds_of(value)
    if hint is str or hint is bool:
        wanted, right = {str: "text", bool: "true or false"}[hint], isinstance(value, hint)
    elif hint is int:
        wanted, right = "a whole number", isinstance(value, int) and not isinstance(value, bool)
    elif typing.get_origin(hint) is Sequence:
        wanted = "a list of texts"
        right = isinstance(value, list) and all(isinstance(v, str) for v in value)
    else:
        wanted = "a duration such as 30m" if name.endswith("_s") else "a number"
        right = isinstance(value, int | float) and not isinstance(value, bool)
    if not right:
        raise TypeError(f"{key} must be {wanted}, not {value!r}")
    return tuple(value) if isinstance(value, list) else value


def _check_choice(key: str, found: str | Sequence[str], allowed: Iterable[str]) -> None:
    for value in [found] if isinstance(found, str) else found:
        if value not in allowed:
            raise ValueError(f"unknown {key} {value!r}; did you mean {_nearest(value, allowed)!r}?")


def _check_pattern(key: str, pattern: str) -> None:
    try:
        re.compile(pattern, re.ASCII)
    except re.error as e:
        raise ValueError(f"{key} {pattern!r} is no pattern: {e}") from e


def _check_re2(key: str, patterns: str | Sequence[str]) -> None:
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        _check_pattern(key, pattern)  # both must take it; this message is the better one
        try:
            pc.match_substring_regex(pa.array([""]), pattern)
        except pa.ArrowInvalid as e:
            raise ValueError(f"{key} {pattern!r} is no RE2 pattern, which has no look-around: {e}") from e


def _check_scanned(key: str, patterns: str | Sequence[str]) -> None:
    from pipeline.scan import refusal  # noqa: PLC0415 - only a user's own files need the scanner here

    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        if reason := refusal(pattern):
            raise ValueError(f"{key} {pattern!r} cannot be looked for: {reason}")


def _check_examples(form: _Form, rule: Any, entry: Mapping[str, Any]) -> None:
    for key, matches in (("examples", True), ("counter_examples", False)):
        examples = entry.get(key, [])
        if not isinstance(examples, list):
            raise TypeError(f"{key} must be a list, not {examples!r}")
        for example in examples:
            if form.holds and form.holds(rule, expanded(example)) != matches:
                wrong = "example does not match" if matches else "counter-example matches"
                raise ValueError(f"its own {wrong}: {example!r}")


def _check_names(rules: Mapping[str, Mapping[str, Any]], places: Mapping[tuple[str, str], str]) -> None:
    """Hold what alerts and objectives are about to the kinds and signatures that there are."""
    for name in ("alert", "objective"):
        for key, rule in rules[name].items():
            try:
                _check_choice("kind", rule.kinds, rules["job_kind"])
                _check_choice("signature", getattr(rule, "signatures", ()), rules["signature"])
            except ValueError as e:
                raise UsageError(f"{places[name, key]}: {e}", "correct it") from e


def _nearest(word: str, known: Iterable[str]) -> str:
    return difflib.get_close_matches(word, [*known], n=1, cutoff=0.0)[0]


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


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise UsageError(f"{path} cannot be read: {type(e).__name__}", "correct catalogue.files") from e


@dataclasses.dataclass(frozen=True)
class _Form:
    """How one kind of table is read: the names that files use, what identifies it, what its values may be."""

    cls: type[Any]
    key: str
    holds: Callable[[Any, Any], bool] | None = None
    renamed: Mapping[str, str] = dataclasses.field(default_factory=dict)  # our name -> the file's
    choices: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    re2: Sequence[str] = ()
    scanned: Sequence[str] = ()  # what is looked for in every line

    def field(self, key: str) -> str:
        """Return our name of a file's key."""
        return next((ours for ours, theirs in self.renamed.items() if theirs == key), key)


_CLASSES = (CACHE, BUILD_REF, OTHER)
_PATTERNS = {"pattern", "multiline_start", "multiline_end"}
_MEASURES = ("failed_attempts", "signature_lines", "failure_ratio", "recovery")
_FORMS: dict[str, _Form] = {
    "signature": _Form(
        Signature,
        "id",
        lambda r, x: r.matches(x),
        {"failure_class": "class"},
        {"class": _CLASSES},
        re2=("all_of",),
        scanned=("all_of",),
    ),
    "job_kind": _Form(
        JobKind, "kind", lambda r, x: re.fullmatch(r.pattern, x) is not None, {"ttl_s": "ttl"}, re2=("pattern",)
    ),
    "alert": _Form(
        AlertRule,
        "name",
        lambda r, x: r.reached(x),
        {"window_s": "window"},
        {"severity": ("page", "ticket"), "measure": _MEASURES, "op": (">=", ">"), "classes": _CLASSES},
    ),
    "objective": _Form(
        Objective, "name", renamed={"window_s": "window", "limit_s": "limit", "freeze_within_s": "freeze_within"}
    ),
    "redaction": _Form(
        RedactionRule, "id", _found, re2=("hint",), scanned=("hint", "multiline_start", "multiline_end")
    ),
    "phrase": _Form(
        Phrase,
        "id",
        lambda r, x: re.search(r.pattern, x) is not None,
        choices={"id": ("retry", "recovery", "job_failed", "run_failed")},
        re2=("pattern",),
        scanned=("pattern",),
    ),
    "attribute": _Form(Attribute, "id", lambda r, x: re.search(r.pattern, x, re.ASCII) is not None, re2=("pattern",)),
}
