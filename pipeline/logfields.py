"""Log lines -> what kind of line each is, and its own fields as it wrote them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from itertools import compress
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

JSON, BROKEN, TEXT, LOGFMT, PANIC = range(5)
FORMATS = ("json", "broken", "text", "logfmt", "panic")
NAMED = ("msg", "err", "run_id", "job_name")
ISSUE_KEYS = ("issue", "issue_number")
MAY_PANIC = "panic: |fatal error: |goroutine "
MAY_NAME_ISSUE = "issue"
NO_TEXT = "\ufffd"  # which stands for bytes that are no text

LEVELS = (None, "DEBUG", "INFO", "WARN", "ERROR", "FATAL", "TRACE", "PANIC")
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
_ISSUE = re.compile(r"[1-9][0-9]{0,9}")
_LAST_ASCII = 0x7F
_MANY_LEVELS = 1000


_Bytes = npt.NDArray[np.uint8]
_Offsets = npt.NDArray[np.int32]
_Rows = npt.NDArray[np.int64]


class Own(msgspec.Struct, gc=False):
    """The fields that a line may have; of another type they are not read by this, but by `_json`."""

    level: str | int | None = None
    msg: str | None = None
    err: str | None = None
    run_id: str | None = None
    job_name: str | None = None
    issue: int | str | None = None
    issue_number: int | str | None = None


class Read(NamedTuple):
    """What lines say: of each its kind and fields; `odd` are those with fields that they do not spell out."""

    kinds: npt.NDArray[np.int8]
    own: list[Own]
    odd: list[int]


_own = msgspec.json.Decoder(Own).decode
_NOTHING = Own()
_LOGRUS_SAYS = {w: Own(level=_LOGRUS_SHORT.get(w, w)) for w in (*LEVELS[1:], *_LOGRUS_SHORT)}


def read(lines: Sequence[str], texts: pa.Array, marred: list[int]) -> Read:
    """Tell of each line (`texts` are the same as Arrow has them) what it is; `marred` ones hold NO_TEXT.

    A panic's lines are plain text to it: what went before them makes them a panic's.
    """
    offsets = np.frombuffer(texts.buffers()[1], np.int32)[: len(lines) + 1]
    data = np.frombuffer(texts.buffers()[2] or b"", np.uint8)
    braced = _braced(lines, data, offsets)
    kinds = np.where(braced, JSON, TEXT).astype(np.int8)
    own = np.full(len(lines), _NOTHING, object)
    objects = np.flatnonzero(braced)
    read, broken, odd = _objects(list(compress(lines, braced.tobytes())))
    kinds[objects[broken]] = BROKEN
    own[objects] = np.fromiter(read, object, len(read))
    for i in _unlike_logrus(data, offsets, np.flatnonzero(~braced), own).tolist():
        kinds[i], own[i] = _plain(lines[i])
    if marred:
        kinds[marred] = BROKEN
        own[[i for i in marred if not braced[i]]] = _NOTHING
    return Read(kinds, own.tolist(), objects[odd].tolist())


def _objects(lines: Sequence[str]) -> tuple[list[Own], list[int], list[int]]:
    """Return the fields of each line, which lines are no object after all, and which have fields that need a look."""
    own: list[Own] = []
    broken: list[int] = []
    odd: list[int] = []
    left = iter(lines)
    while len(own) < len(lines):
        try:
            own.extend(map(_own, left))  # what was read before an error is kept
        except (msgspec.MsgspecError, RecursionError):
            fields = _json(lines[len(own)])
            (broken if fields is None else odd).append(len(own))
            own.append(_made(fields or {}))
    return own, broken, odd


def _braced(lines: Sequence[str], data: _Bytes, offsets: _Offsets) -> npt.NDArray[np.bool_]:
    """Tell which lines begin like an object, after spaces."""
    first = np.zeros(len(lines), np.uint8)
    some = offsets[1:] > offsets[:-1]
    first[some] = data[offsets[:-1][some]]
    out: npt.NDArray[np.bool_] = first == ord("{")
    for i in np.flatnonzero(some & ((first <= ord(" ")) | (first > _LAST_ASCII))).tolist():
        out[i] = lines[i].lstrip()[:1] == "{"
    return out


def _unlike_logrus(data: _Bytes, offsets: _Offsets, rows: _Rows, own: npt.NDArray[np.object_]) -> _Rows:
    """Tell the fields of rows that begin as most of logrus's do, `INFO[0003]`, and return the other rows."""
    width = len("INFO[0003]")
    long = rows[offsets[1:][rows] - offsets[:-1][rows] >= width]
    heads = data[offsets[:-1][long][:, None] + np.arange(width)]
    digits = heads[:, 5:9]
    alike = (heads[:, 4] == ord("[")) & (heads[:, 9] == ord("]"))
    alike &= ((digits >= ord("0")) & (digits <= ord("9"))).all(axis=1)
    words, which = np.unique(heads[alike, :4].copy().view("S4").ravel(), return_inverse=True)
    says = [_LOGRUS_SAYS.get(word.decode("latin-1")) for word in words.tolist()]
    known = np.array([say is not None for say in says], np.bool_)[which]
    told = long[alike][known]
    own[told] = np.array(says, object)[which[known]]
    return np.setdiff1d(rows, told, assume_unique=True)


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


def fields(line: str) -> dict[str, Any] | None:
    """Return the fields of a line that is one JSON object or logfmt and nothing else, None for any other."""
    return _json(line) if line.lstrip()[:1] == "{" else _logfmt(line)


def _plain(line: str) -> tuple[int, Own]:
    if found := _LOGRUS.match(line):
        return TEXT, _LOGRUS_SAYS[found[1]]
    pairs = _logfmt(line)
    return (LOGFMT, _made(pairs)) if pairs else (TEXT, _NOTHING)


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


def _made(fields: Mapping[str, Any]) -> Own:
    level = fields.get("level")
    return Own(
        level if isinstance(level, str) else None,
        _text(fields.get("msg")),
        _text(fields.get("err")),
        _name(fields.get("run_id")),
        _name(fields.get("job_name")),
        next((n for k in ISSUE_KEYS if (n := issue(fields.get(k)))), None),
    )


def _text(value: Any) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, str):
        return encodable(value)
    try:
        return encodable(json.dumps(value, ensure_ascii=False))
    except RecursionError:  # it was read a few frames higher
        return None


def _name(value: Any) -> str | None:
    """Return what may be a name: of a list or an object nothing is made."""
    return _text(value) if isinstance(value, str | int) and not isinstance(value, bool) else None


def encodable(text: str) -> str:
    """Replace lone surrogates, which JSON can spell and UTF-8 cannot."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def panics(lines: Sequence[str], kinds: Sequence[int], *, panicking: bool) -> tuple[list[int], bool]:
    """Return which lines of one writer, in time order, are a panic's, and whether its trace may go on after them."""
    out = []
    for i, (line, kind) in enumerate(zip(lines, kinds, strict=True)):
        plain = kind not in {JSON, BROKEN}
        panicking = plain and bool(_PANIC_START.match(line) or (panicking and _PANIC_LINE.match(line)))
        if panicking:
            out.append(i)
    return out, panicking


def forget(read: Read, row: int) -> None:
    """Take a line for a panic's, which has no fields."""
    read.kinds[row], read.own[row] = PANIC, _NOTHING


class _Levels(dict[Any, int]):
    """The level that each spelling means, as a place in LEVELS: there are few."""

    def __missing__(self, value: Any) -> int:
        if len(self) > _MANY_LEVELS:
            self.clear()
        self[value] = found = LEVELS.index(_level(value))
        return found


_LEVEL_OF = _Levels()


def levels(own: Sequence[Own]) -> pa.Array:
    """Return the column `level`."""
    which = bytes(map(_LEVEL_OF.__getitem__, [o.level for o in own]))
    return pa.array(LEVELS, pa.string()).take(pa.array(np.frombuffer(which, np.uint8)))


def _level(value: Any) -> str | None:
    if not isinstance(value, str):
        return None
    word = value.strip().upper()
    between = _BETWEEN_LEVELS.fullmatch(word)
    word = between[1] if between else _LEVEL_WORDS.get(word, word)
    return word if word in LEVELS else None


def issues(own: Sequence[Own], rows: Sequence[int]) -> pa.Array | None:
    """Return the issue that each line names, None where none does; no line but `rows` may."""
    named = {i: n for i in rows if (n := issue(own[i].issue) or issue(own[i].issue_number))}
    return pa.array([named.get(i) for i in range(len(own))], pa.int64()) if named else None


def issue(value: Any) -> int | None:
    """Return a whole number that may be an issue's."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # to JSON 7.0 and 7 are the same number
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    return int(text) if _ISSUE.fullmatch(text) else None
