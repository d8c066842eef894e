"""A report against its lake: every number counted again, every page rendered again, nothing taken on trust."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline import schemas
from pipeline.errors import UsageError
from pipeline.report.data import plain
from pipeline.steps import bundle
from pipeline.steps.again import again, context
from pipeline.steps.compute import Day
from pipeline.steps.context import Context
from pipeline.steps.report import FILES

_MOST = 1000  # differences that are named
_LINES = 20  # of a page
_SHOWN, _BEFORE = 200, 40  # characters of a line, and of them before it differs
_EXACT = 1e-9  # floats are added up in the same order, by whichever release of a library


@dataclass(frozen=True)
class Difference:
    """One thing that is not as it was counted: in which file, by which key, what stands there and what was counted."""

    file: str
    key: str
    reported: Any
    counted: Any


def verify(target: Path, lake: str | None, say: Callable[[str], None]) -> list[Difference]:
    """Count the numbers of a report's folder or of a bundle again. Raises UsageError where there is no report, LakeError."""
    if not target.is_file():
        return _folder(target, lake, say)
    with tempfile.TemporaryDirectory(prefix="aislot-") as scratch:
        inside = Path(scratch)
        wrong = [Difference(*w) for w in bundle.unpack(target, inside)]
        return (wrong + _folder(inside, lake or str(inside / bundle.LAKE), say, whole=True))[:_MOST]


def _folder(folder: Path, lake: str | None, say: Callable[[str], None], *, whole: bool = False) -> list[Difference]:
    """Count a folder's report again; `whole`: each of its files must be there."""
    missing = [Difference(name, "", "missing", None) for name in FILES.values() if not (folder / name).exists()]
    path = folder / FILES["json"]
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        if whole:
            return missing
        raise UsageError(f"{folder} holds no report: {FILES['json']} cannot be read", "name a report's folder") from e
    reported = _parsed(text)
    if isinstance(reported, Difference):
        return [reported]
    try:
        return [*(missing if whole else []), *_verified(folder, reported, lake, say)]
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as e:
        return [Difference(FILES["json"], str(e) or type(e).__name__, "missing, or not as reports write it", None)]


def _parsed(text: str) -> Mapping[str, Any] | Difference:
    try:
        value = json.loads(text)
    except ValueError as e:
        return Difference(FILES["json"], "", f"not JSON: {e}", None)
    return value if isinstance(value, dict) else Difference(FILES["json"], "", "not a summary", None)


def _verified(
    folder: Path, reported: Mapping[str, Any], lake: str | None, say: Callable[[str], None]
) -> list[Difference]:
    with tempfile.TemporaryDirectory(prefix="aislot-") as scratch:
        ctx = context(reported, lake, Path(scratch), say)
        made_again = again(ctx, reported)
        tables = _tables(ctx, made_again.day) if made_again.day else []
    out = list(_walk(FILES["json"], "", reported, json.loads(json.dumps(made_again.figures))))
    for name, made in made_again.pages.items():
        there = folder / FILES[name]
        if there.exists():
            out += _compared(FILES[name], there.read_text(encoding="utf-8", errors="replace"), made)
    return [*out, *tables][:_MOST]


def _walk(file: str, key: str, reported: Any, counted: Any) -> Iterator[Difference]:
    if isinstance(reported, Mapping) and isinstance(counted, Mapping):
        for k in [*reported, *(k for k in counted if k not in reported)]:
            yield from _walk(file, f"{key}.{k}" if key else str(k), reported.get(k), counted.get(k))
    elif isinstance(reported, list) and isinstance(counted, list):
        for i in range(max(len(reported), len(counted))):
            of = [x[i] if i < len(x) else None for x in (reported, counted)]
            yield from _walk(file, f"{key}[{i}]", *of)
    elif not _equal(reported, counted):
        yield Difference(file, key, reported, counted)


def _equal(a: Any, b: Any) -> bool:
    if (
        isinstance(a, float | int)
        and isinstance(b, float | int)
        and not isinstance(a, bool)
        and not isinstance(b, bool)
    ):
        return math.isclose(a, b, rel_tol=_EXACT)
    return type(a) is type(b) and bool(a == b)


def _compared(file: str, there: str, made: str) -> list[Difference]:
    """Return the lines in which a page differs from what its numbers make."""
    if there == made:
        return []
    was, now = there.splitlines(), made.splitlines()
    pairs = [((was[i : i + 1] or [""])[0], (now[i : i + 1] or [""])[0]) for i in range(max(len(was), len(now)))]
    out = [Difference(file, f"line {i + 1}", *_where_they_part(a, b)) for i, (a, b) in enumerate(pairs) if a != b]
    return out[:_LINES] or [Difference(file, "line ends", len(there), len(made))]


def _where_they_part(a: str, b: str) -> tuple[str, str]:
    """Return of two lines that part in which they differ: those of a page can be very long."""
    first = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    start = max(0, first - _BEFORE)
    return a[start : start + _SHOWN], b[start : start + _SHOWN]


def _tables(ctx: Context, day: Day) -> list[Difference]:
    """Return where the lake's own tables of a day are not what is counted from its attempts, lines and alerts."""
    out: list[Difference] = []
    for name in schemas.DERIVED_OF_DAY:
        there = schemas.in_order(name, ctx.tables.read(name, day.window))
        made = schemas.from_frame(name, getattr(day, name))
        if not there.equals(made):
            out += _rows(name, there, made)
    return out


def _rows(name: str, there: pa.Table, made: pa.Table) -> list[Difference]:
    was, now = ([json.loads(json.dumps(plain(r), default=str)) for r in t.to_pylist()] for t in (there, made))
    found: list[Difference] = []
    for i in range(max(len(was), len(now))):
        of = [x[i] if i < len(x) else None for x in (was, now)]
        found += _walk(f"table {name}", f"row {i + 1}", *of)
    return found
