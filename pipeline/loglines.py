"""Log entries -> rows of `logs`: what kind of line it is, its own fields, its signatures, and nothing that is a secret."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import schemas
from pipeline.model import Entry
from pipeline.rules import LabelNames, Signature

_LEVELS = {"DEBUG", "INFO", "WARN", "ERROR", "FATAL", "TRACE", "PANIC"}
_LEVEL_WORDS = {"WARNING": "WARN", "ERR": "ERROR", "CRITICAL": "FATAL", "DBG": "DEBUG"}
_LOGRUS = re.compile(r"(INFO|WARN|ERROR|ERRO|DEBUG|DEBU|FATAL|FATA|TRACE|TRAC)\[\d{1,9}\]")
_LOGRUS_SHORT = {"ERRO": "ERROR", "DEBU": "DEBUG", "FATA": "FATAL", "TRAC": "TRACE"}
_LOGFMT = re.compile(r'([A-Za-z_][\w.\-/]{0,80})=(?:"((?:[^"\\]|\\.){0,20000})"|(\S{0,20000}))(?:\s+|$)')
_PANIC_START = re.compile(r"(?:panic|fatal error): |goroutine \d+ \[")
_PANIC_LINE = re.compile(
    r"(?:panic|fatal error): |goroutine \d+ \[|\t/|\s*[\w./*()\-]+\(.*\)$|created by |exit status \d|\[signal |$"
)
_ESCAPED_ASCII = r"\\u00[2-7][0-9a-fA-F]"
_POD_FILE = re.compile(r"/var/log/pods/(?P<namespace>[^_/]+)_(?P<pod>[^_/]+)_[^/]+/(?P<container>[^/]+)/")
_ISSUE_KEYS = ("issue", "issue_number")
_ISSUE_LABELS = ("issue", "issue_number", "codex_k8s_dev_issue_number")
_RUN_LABELS = ("run_id", "codex_k8s_dev_run_id")


class Redacts(Protocol):
    """What takes secrets out of text."""

    def text(self, text: str) -> tuple[str, Counter[str]]:
        """Return the text without secrets, and how many of which rule."""

    def candidates(self, texts: pa.Array) -> list[int]:
        """Return the positions of texts that may hold a secret."""

    def across(self, texts: Sequence[str]) -> dict[int, tuple[str, str]]:
        """Return what becomes of texts of one stream inside a secret that spreads over them: position -> rule, text."""


def to_logs(
    entries: Sequence[Entry], names: LabelNames, redactor: Redacts, signatures: Sequence[Signature]
) -> tuple[pa.Table, Counter[str]]:
    """Turn entries into rows of `logs`, sorted; and counts: `not_parsed`, `redactions`, `redacted:<rule>`.

    `run_id`, `job_name` and `issue` are the line's own fields, else its stream's labels; nothing is inferred.
    """
    counts: Counter[str] = Counter()
    ordered = sorted(entries, key=lambda e: e.ts)
    formats = _formats(ordered)
    fields = [_fields(e.line, f) for e, f in zip(ordered, formats, strict=True)]
    formats = [f if own is not None else "broken" for f, own in zip(formats, fields, strict=True)]
    counts["not_parsed"] = formats.count("broken")
    columns = _columns(ordered, formats, [own or {} for own in fields], names)
    _redact(columns, ordered, redactor, counts)
    columns["signatures"] = _signatures(columns["line"], signatures)
    table = pa.table({c: pa.array(v, schemas.TABLES["logs"].schema.field(c).type) for c, v in columns.items()})
    return schemas.in_order("logs", table.select(schemas.TABLES["logs"].columns)), counts


def _formats(entries: Sequence[Entry]) -> list[str]:
    """Tell each line's format; a panic's trace goes on in its stream until a line that is none of it."""
    out: list[str] = []
    in_panic: set[tuple[tuple[str, str], ...]] = set()
    for e in entries:
        line = e.line
        if line.lstrip()[:1] == "{":
            out.append("json")
            continue
        if "\ufffd" in line:
            out.append("broken")
            continue
        stream = tuple(sorted(e.labels.items()))
        if _PANIC_START.match(line) or (stream in in_panic and _PANIC_LINE.match(line)):
            in_panic.add(stream)
            out.append("panic")
            continue
        in_panic.discard(stream)
        found = _LOGFMT.match(line)
        out.append("logfmt" if found and len(_LOGFMT.findall(line)) > 1 and _is_logfmt(line) else "text")
    return out


def _is_logfmt(line: str) -> bool:
    """Tell whether nothing of the line lies outside its pairs."""
    return not _LOGFMT.sub("", line).strip()


def _fields(line: str, kind: str) -> Mapping[str, Any] | None:
    """Return a line's own fields; None where it begins as JSON and is none."""
    if kind == "json":
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None
    if kind == "broken":
        return None
    if kind == "logfmt":
        return {k: (q.replace('\\"', '"') if q else v) for k, q, v in _LOGFMT.findall(line)}
    found = _LOGRUS.match(line)
    return {"level": _LOGRUS_SHORT.get(found[1], found[1])} if found else {}


def _columns(
    entries: Sequence[Entry], formats: list[str], fields: Sequence[Mapping[str, Any]], names: LabelNames
) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {c: [] for c in schemas.TABLES["logs"].columns if c != "signatures"}
    add = {c: values.append for c, values in columns.items()}
    for e, kind, own in zip(entries, formats, fields, strict=True):
        where = _where(e, names)
        add["ts"](e.ts)
        add["namespace"](where["namespace"])
        add["app"](where["app"])
        add["pod"](where["pod"])
        add["container"](where["container"])
        add["level"](_level(own.get("level")))
        add["msg"](_text(own.get("msg")))
        add["run_id"](_text(own.get("run_id")) or _first(e, _RUN_LABELS))
        add["job_name"](_text(own.get("job_name")) or _first(e, (names.job_name,)))
        add["issue"](_issue(own, e))
        add["err"](_text(own.get("err")))
        add["line"](_encodable(e.line))
        add["format"](kind)
        add["labels"](sorted(e.labels.items()))
        add["metadata"](sorted(e.metadata.items()))
    return columns


def _where(e: Entry, names: LabelNames) -> dict[str, str | None]:
    """Tell where a stream comes from: its labels, else metadata or the path of the log file."""
    file = _POD_FILE.search(e.labels.get("filename", "") or e.metadata.get("filename", ""))
    parts = file.groupdict() if file else {}
    return {
        "namespace": e.labels.get(names.namespace) or e.metadata.get("k8s_namespace_name") or parts.get("namespace"),
        "app": e.labels.get(names.app) or e.metadata.get("app_kubernetes_io_name"),
        "pod": e.labels.get(names.pod)
        or e.metadata.get(names.pod)
        or e.metadata.get("k8s_pod_name")
        or parts.get("pod"),
        "container": e.labels.get(names.container) or e.metadata.get("k8s_container_name") or parts.get("container"),
    }


def _redact(columns: dict[str, list[Any]], entries: Sequence[Entry], redactor: Redacts, counts: Counter[str]) -> None:
    """Redact every text column in place; secrets that span entries of a stream, and those that JSON's escapes hide."""
    hidden: set[int] = set()
    for name in ("msg", "err", "run_id", "job_name"):
        for i in redactor.candidates(pa.array(columns[name], pa.string())):
            clean, found = redactor.text(columns[name][i])
            if found:
                columns[name][i] = clean
                hidden.add(i)
    lines = columns["line"]
    is_json = [f == "json" for f in columns["format"]]
    escaped = pc.match_substring_regex(pa.array(lines, pa.string()), _ESCAPED_ASCII)
    hidden.update(pc.indices_nonzero(escaped).to_pylist())
    inside = _many_line_secrets(lines, entries, redactor, counts)
    for i in sorted({*redactor.candidates(pa.array(lines, pa.string())), *hidden} - inside):
        lines[i], found = _rewritten(lines[i], redactor) if i in hidden and is_json[i] else redactor.text(lines[i])
        _count(counts, found)
    for name in ("labels", "metadata"):
        _redact_pairs(columns[name], redactor, counts)


def _redact_pairs(pairs: list[list[tuple[str, str]]], redactor: Redacts, counts: Counter[str]) -> None:
    """Redact label values; streams repeat them, so each distinct set is looked at once."""
    known: dict[tuple[tuple[str, str], ...], list[tuple[str, str]]] = {}
    for i, row in enumerate(pairs):
        key = tuple(row)
        if key not in known:
            clean = []
            for k, v in row:
                text, found = redactor.text(v)
                _count(counts, found)
                clean.append((k, text))
            known[key] = clean
        pairs[i] = known[key]


def _many_line_secrets(lines: list[str], entries: Sequence[Entry], redactor: Redacts, counts: Counter[str]) -> set[int]:
    """Redact secrets that spread over entries of one stream; returns the entries inside."""
    if not pc.any(pc.match_substring(pa.array(lines, pa.string()), "PRIVATE KEY")).as_py():
        return set()
    streams: dict[tuple[tuple[str, str], ...], list[int]] = {}
    for i, e in enumerate(entries):
        streams.setdefault(tuple(sorted(e.labels.items())), []).append(i)
    inside: set[int] = set()
    for members in streams.values():
        for at, (rule, text) in redactor.across([lines[i] for i in members]).items():
            lines[members[at]] = text
            inside.add(members[at])
            _count(counts, Counter({rule: 1}))
    return inside


def _rewritten(line: str, redactor: Redacts) -> tuple[str, Counter[str]]:
    """Redact a JSON line by its values, where escapes may hide a secret; one that hides none keeps its text."""
    try:
        value, found = _walk(json.loads(line), redactor)
    except RecursionError:
        return "[REDACTED:too-deep:0000]", Counter({"too-deep": 1})
    clean, plain = redactor.text(line)
    if found.total() <= plain.total():
        return clean, plain
    return redactor.text(json.dumps(value, ensure_ascii=False, separators=(",", ":")))[0], found


def _walk(value: Any, redactor: Redacts) -> tuple[Any, Counter[str]]:
    found: Counter[str] = Counter()
    if isinstance(value, str):
        return redactor.text(_encodable(value))
    if isinstance(value, dict):
        made = {}
        for k, v in value.items():
            made[k], some = _walk(v, redactor)
            found += some
        return made, found
    if isinstance(value, list):
        items = [_walk(v, redactor) for v in value]
        return [v for v, _ in items], sum((f for _, f in items), found)
    return value, found


def _count(counts: Counter[str], found: Counter[str]) -> None:
    for rule, n in found.items():
        counts["redactions"] += n
        counts[f"redacted:{rule}"] += n


def _signatures(lines: Sequence[str], signatures: Sequence[Signature]) -> list[list[str]]:
    texts = pa.array(lines, pa.string())
    out: list[list[str]] = [[] for _ in lines]
    for s in sorted(signatures, key=lambda s: s.id):
        hits = None
        for pattern in s.all_of:
            found = pc.match_substring_regex(texts, f"(?i){pattern}")
            hits = found if hits is None else pc.and_(hits, found)
        for i in pc.indices_nonzero(hits).to_pylist() if hits is not None else ():
            out[i].append(s.id)
    return out


def _level(value: Any) -> str | None:
    if not isinstance(value, str):
        return None
    word = value.strip().upper()
    word = _LEVEL_WORDS.get(word, word)
    return word if word in _LEVELS or re.fullmatch(r"(?:DEBUG|INFO|WARN|ERROR)[+-]\d{1,3}", word) else None


def _text(value: Any) -> str | None:
    if value is None or value == "":
        return None
    return _encodable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _encodable(text: str) -> str:
    """Replace lone surrogates, which JSON can spell and UTF-8 cannot."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _first(e: Entry, keys: Sequence[str]) -> str | None:
    return next((v for k in keys if (v := e.labels.get(k) or e.metadata.get(k))), None)


def _issue(own: Mapping[str, Any], e: Entry) -> int | None:
    for value in [own.get(k) for k in _ISSUE_KEYS] + [_first(e, _ISSUE_LABELS)]:
        text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
        if re.fullmatch(r"[1-9]\d{0,9}", text):
            return int(text)
    return None
