"""Log entries -> rows of `logs`: what kind of line it is, its own fields, its signatures, and nothing that is a secret."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import schemas
from pipeline.model import Entry
from pipeline.rules import LabelNames, Signature

_LEVELS = {"DEBUG", "INFO", "WARN", "ERROR", "FATAL", "TRACE", "PANIC"}
_LEVEL_WORDS = {"WARNING": "WARN", "ERR": "ERROR", "CRITICAL": "FATAL", "DBG": "DEBUG"}
_BETWEEN_LEVELS = re.compile(r"(DEBUG|INFO|WARN|ERROR)[+-]\d{1,3}", re.ASCII)  # slog's ERROR+4
_LOGRUS = re.compile(r"(INFO|WARN|ERROR|ERRO|DEBUG|DEBU|FATAL|FATA|TRACE|TRAC)\[\d{1,9}\]")
_LOGRUS_SHORT = {"ERRO": "ERROR", "DEBU": "DEBUG", "FATA": "FATAL", "TRAC": "TRACE"}
_PAIR = re.compile(r'([A-Za-z_][\w.\-/]{0,80})=(?:"((?:[^"\\]|\\.)*+)"|((?!")\S*+))(?:\s++|$)')
_PANIC_START = re.compile(r"(?:panic|fatal error): |goroutine \d+ \[")
_PANIC_LINE = re.compile(
    r"\t?panic: |goroutine \d+ \[|\t/|\s{0,8}[\w./*()\[\]\-]+\(.*\)$|created by |exit status \d|\[signal |"
    r"\.\.\.[a-z ]{0,20}\d+ frames elided\.\.\.|\s*$"
)
_POD_FILE = re.compile(r"/var/log/pods/(?P<namespace>[^_/]+)_(?P<pod>[^_/]+)_[^/]+/(?P<container>[^/]+)/")
_ISSUE = re.compile(r"[1-9][0-9]{0,9}")
_ISSUE_KEYS = ("issue", "issue_number")
_ISSUE_LABELS = ("issue", "issue_number", "codex_k8s_dev_issue_number")
_RUN_LABELS = ("run_id", "codex_k8s_dev_run_id")
Pairs = tuple[tuple[str, str], ...]


class Redacts(Protocol):
    """What takes secrets out of text."""

    def text(self, text: str) -> tuple[str, Counter[str]]:
        """Return the text without secrets, and how many of which rule."""

    def many(self, texts: Sequence[str | None]) -> tuple[list[str | None], Counter[str]]:
        """Redact many texts; nulls stay."""

    def across(self, texts: Sequence[str]) -> dict[int, tuple[str, str]]:
        """Return what becomes of texts of one stream inside a secret that spreads over them: position -> rule, text."""

    def unescaped(self, text: str) -> str:
        """Write out what JSON may spell as escapes."""


class Origin(NamedTuple):
    """Where entries come from and what that says of them, without secrets; `stream` is the one writer's."""

    stream: tuple[Pairs, str | None, str | None]
    labels: Pairs
    metadata: Pairs
    namespace: str | None
    app: str | None
    pod: str | None
    container: str | None
    run_id: str | None
    job_name: str | None
    issue: int | None


def to_logs(
    entries: Sequence[Entry], names: LabelNames, redactor: Redacts, signatures: Sequence[Signature]
) -> tuple[pa.Table, Counter[str]]:
    """Turn entries into rows of `logs`, sorted; and counts: `not_parsed`, `redactions`, `redacted:<rule>`.

    `run_id`, `job_name` and `issue` are the line's own fields, else its stream's labels; nothing is inferred.
    """
    counts: Counter[str] = Counter()
    ordered = sorted(entries, key=lambda e: e.ts)
    origins, of_entry = _origins(ordered, names, redactor, counts)
    streams = [origins[n].stream for n in of_entry]
    formats, fields = _read(ordered, streams)
    counts["not_parsed"] = formats.count("broken")
    own: dict[str, list[Any]] = {
        "msg": [_text(f.get("msg")) for f in fields],
        "err": [_text(f.get("err")) for f in fields],
        "run_id": [_name(f.get("run_id")) for f in fields],
        "job_name": [_name(f.get("job_name")) for f in fields],
        "line": [_encodable(e.line) for e in ordered],
    }
    _redact(own, streams, redactor, counts)
    whence = pa.table(
        {c: pa.array([getattr(o, c) for o in origins], _type(c)) for c in Origin._fields if c != "stream"}
    ).take(pa.array(of_entry, pa.int64()))
    columns = {c: whence[c] for c in whence.column_names} | {c: pa.array(v, _type(c)) for c, v in own.items()}
    for c in ("run_id", "job_name"):
        columns[c] = pc.coalesce(columns[c], whence[c])
    columns["issue"] = pc.coalesce(pa.array([_own_issue(f) for f in fields], pa.int64()), whence["issue"])
    columns["ts"] = pa.array([e.ts for e in ordered], _type("ts"))
    columns["level"] = pa.array([_level(f.get("level")) for f in fields], pa.string())
    columns["format"] = pa.array(formats, pa.string())
    columns["signatures"] = pa.array(_signatures(own["line"], redactor, signatures), _type("signatures"))
    table = pa.table(columns).select(schemas.TABLES["logs"].columns)
    return schemas.in_order("logs", table), counts


def _type(column: str) -> pa.DataType:
    return schemas.TABLES["logs"].schema.field(column).type


def _origins(
    entries: Sequence[Entry], names: LabelNames, redactor: Redacts, counts: Counter[str]
) -> tuple[list[Origin], list[int]]:
    """Return each distinct origin, and which of them each entry has: streams repeat theirs."""
    numbers: dict[tuple[Pairs, Pairs], int] = {}
    sorted_already: dict[int, Pairs] = {}  # by identity: the entries of a stream share one mapping, and keep it alive
    of_entry = []
    for e in entries:
        labels = sorted_already.get(id(e.labels))
        if labels is None:
            labels = sorted_already[id(e.labels)] = tuple(sorted(e.labels.items()))
        metadata = tuple(sorted(e.metadata.items())) if e.metadata else ()
        of_entry.append(numbers.setdefault((labels, metadata), len(numbers)))
    clean = [(_clean(labels, redactor, counts), _clean(metadata, redactor, counts)) for labels, metadata in numbers]
    return [_origin(labels, metadata, names) for labels, metadata in clean], of_entry


def _clean(pairs: Pairs, redactor: Redacts, counts: Counter[str]) -> Pairs:
    """Redact values; a name such as `token` says what its value is, and is kept."""
    out = []
    for name, value in pairs:
        key = _encodable(name)
        text, found = redactor.text(f"{key}={_encodable(value)}")
        _count(counts, found)
        out.append((key, text.removeprefix(f"{key}=")))
    return tuple(out)


def _origin(label_pairs: Pairs, metadata_pairs: Pairs, names: LabelNames) -> Origin:
    """Tell where a stream comes from: its labels, else metadata or the path of the log file."""
    labels, metadata = dict(label_pairs), dict(metadata_pairs)
    file = _POD_FILE.search(labels.get("filename", "") or metadata.get("filename", ""))
    parts = file.groupdict() if file else {}
    pod = labels.get(names.pod) or metadata.get(names.pod) or metadata.get("k8s_pod_name") or parts.get("pod")
    container = labels.get(names.container) or metadata.get("k8s_container_name") or parts.get("container")

    def first(*keys: str) -> str | None:
        return next((v for k in keys if (v := labels.get(k) or metadata.get(k))), None)

    return Origin(
        stream=(label_pairs, pod, container),  # some agents keep the pod in metadata: one stream, several writers
        labels=label_pairs,
        metadata=metadata_pairs,
        namespace=labels.get(names.namespace) or metadata.get("k8s_namespace_name") or parts.get("namespace"),
        app=labels.get(names.app) or metadata.get("app_kubernetes_io_name"),
        pod=pod,
        container=container,
        run_id=first(*_RUN_LABELS),
        job_name=first(names.job_name),
        issue=_issue(first(*_ISSUE_LABELS)),
    )


def _read(entries: Sequence[Entry], streams: Sequence[Any]) -> tuple[list[str], list[Mapping[str, Any]]]:
    """Tell each line's format and own fields; a panic's trace goes on in its stream until a line that is none of it."""
    formats, fields = [], []
    panicking: set[Any] = set()
    for e, stream in zip(entries, streams, strict=True):
        kind, own = _parsed(e.line, panicking=stream in panicking)
        if kind == "panic":
            panicking.add(stream)
        else:
            panicking.discard(stream)
        formats.append(kind)
        fields.append(own)
    return formats, fields


def _parsed(line: str, *, panicking: bool) -> tuple[str, Mapping[str, Any]]:
    whole = "\ufffd" not in line  # which stands for bytes that are no text
    if line.lstrip()[:1] == "{":
        own = _json(line)
        return ("json" if whole and own is not None else "broken"), own or {}
    if not whole:
        return "broken", {}
    if _PANIC_START.match(line) or (panicking and _PANIC_LINE.match(line)):
        return "panic", {}
    if pairs := _logfmt(line):
        return "logfmt", pairs
    found = _LOGRUS.match(line)
    return "text", {"level": _LOGRUS_SHORT.get(found[1], found[1])} if found else {}


def _json(line: str) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except RecursionError:
        return None
    except ValueError:
        try:
            value = json.loads(line, parse_int=str)  # numbers of thousands of digits are JSON; Python refuses them
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) else None


def _logfmt(line: str) -> dict[str, str] | None:
    """Return the pairs of a line that is nothing else, and has two at least."""
    pairs, at, n = {}, 0, 0
    while found := _PAIR.match(line, at):
        key, quoted, plain = found.groups()
        pairs[key] = plain if quoted is None else _unquoted(quoted)
        at, n = found.end(), n + 1
    return pairs if n > 1 and at == len(line) else None


def _unquoted(text: str) -> str:
    try:
        return str(json.loads(f'"{text}"')) if "\\" in text else text
    except ValueError:
        return text.replace('\\"', '"')


def _redact(columns: dict[str, list[Any]], streams: Sequence[Any], redactor: Redacts, counts: Counter[str]) -> None:
    """Redact the columns in place. Only what is found in `line` counts, the others repeat it."""
    _many_line_secrets(columns["line"], columns["msg"], streams, redactor, counts)
    for name, texts in columns.items():
        columns[name], found = redactor.many(texts)
        if name == "line":
            _count(counts, found)


def _many_line_secrets(
    lines: list[str], msgs: list[str | None], streams: Sequence[Any], redactor: Redacts, counts: Counter[str]
) -> None:
    """Redact secrets that spread over entries of one stream, whether lines of their own or the `msg` of lines."""
    if not pc.any(pc.match_substring(pa.array(lines, pa.string()), "PRIVATE KEY")).as_py():
        return
    members: dict[Any, list[int]] = {}
    for i, stream in enumerate(streams):
        members.setdefault(stream, []).append(i)
    for of_stream in members.values():
        for at, (rule, text) in redactor.across([msgs[i] or lines[i] for i in of_stream]).items():
            i = of_stream[at]
            lines[i] = _with([lines[i], redactor.unescaped(lines[i])], msgs[i], text)
            _count(counts, Counter({rule: 1}))
            if msgs[i]:
                msgs[i] = text


def _with(spellings: Sequence[str], msg: str | None, clean: str) -> str:
    """Put a clean message into its line, however the line spells it."""
    return next((s.replace(msg, clean) for s in spellings if msg and msg in s), clean)


def _count(counts: Counter[str], found: Counter[str]) -> None:
    for rule, n in found.items():
        counts["redactions"] += n
        counts[f"redacted:{rule}"] += n


def _signatures(lines: Sequence[str], redactor: Redacts, signatures: Sequence[Signature]) -> list[tuple[str, ...]]:
    texts = pa.array([redactor.unescaped(line) if "\\" in line else line for line in lines], pa.string())
    out: list[tuple[str, ...]] = [()] * len(lines)
    for s in sorted(signatures, key=lambda s: s.id):
        hits = None
        for pattern in s.all_of:
            found = pc.match_substring_regex(texts, f"(?i){pattern}")
            hits = found if hits is None else pc.and_(hits, found)
        for i in pc.indices_nonzero(hits).to_pylist() if hits is not None else ():
            out[i] = (*out[i], s.id)
    return out


def _level(value: Any) -> str | None:
    if not isinstance(value, str):
        return None
    word = value.strip().upper()
    between = _BETWEEN_LEVELS.fullmatch(word)
    word = between[1] if between else _LEVEL_WORDS.get(word, word)
    return word if word in _LEVELS else None


def _text(value: Any) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, str):
        return _encodable(value)
    try:
        return _encodable(json.dumps(value, ensure_ascii=False))
    except RecursionError:  # it was read a few frames higher
        return None


def _name(value: Any) -> str | None:
    """Return what may be a name: of a list or an object nothing is made."""
    return _text(value) if isinstance(value, str | int) and not isinstance(value, bool) else None


def _encodable(text: str) -> str:
    """Replace lone surrogates, which JSON can spell and UTF-8 cannot."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _own_issue(own: Mapping[str, Any]) -> int | None:
    return next((n for k in _ISSUE_KEYS if (n := _issue(own.get(k)))), None)


def _issue(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # to JSON 7.0 and 7 are the same number
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    return int(text) if _ISSUE.fullmatch(text) else None
