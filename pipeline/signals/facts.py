"""What is known of attempts beside how they ended: by their own columns, and by what lines tell of them or of their runs."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.rules import Attribute

COLUMNS = ("image", "attempt", "namespace", "hour")
_FIELD, _TEXT, _RUN = range(3)  # how a value was told, the surest first
_MOST = 200  # characters of a value


@dataclass(frozen=True, order=True)
class Told:
    """A value of an attribute: `about` is the attempt's index, or for `_RUN` the run; `at` in ns."""

    attribute: str
    how: int
    at: int
    value: str
    about: int | str


def names(attributes: Sequence[Attribute]) -> list[str]:
    """Return by what attempts are compared, in the order in which equal findings are shown."""
    return [*(a.id for a in attributes), *COLUMNS]


def told(lines: pd.DataFrame, pods: pd.DataFrame, attributes: Sequence[Attribute]) -> list[Told]:
    """Return what lines tell, in no order.

    Both are rows of `logs` with `attempt_index`; `pods` are the first lines of jobs' own pods: only there do labels and
    metadata speak of the job and not of who writes about it.
    """
    return [*_by_fields(lines, attributes), *_by_labels(pods, attributes), *_by_text(lines, attributes)]


def field_hint(attributes: Sequence[Attribute]) -> str | None:
    """Return an RE2 pattern that finds every line whose fields may tell something, None where no field does."""
    fields = sorted({f for a in attributes for f in a.fields})
    return '"(?:' + "|".join(re.escape(f) for f in fields) + ')"' if fields else None


def _by_fields(lines: pd.DataFrame, attributes: Sequence[Attribute]) -> Iterator[Told]:
    hint = field_hint(attributes)
    if hint is None or lines.empty:
        return
    some = lines[(lines["format"] == "json").to_numpy(bool) & _found(lines["line"], hint)]
    for at, text, index, run in _rows(some, "line", "attempt_index", "run_id"):
        try:
            own = orjson.loads(text)
        except orjson.JSONDecodeError:
            continue  # what was redacted, or is no JSON after all
        for a in attributes:
            value = next((v for f in a.fields if (v := _value(own.get(f))) is not None), None)
            if value is None:
                continue
            if index is not None:
                yield Told(a.id, _FIELD, at, value, int(index))
            if a.of_run and run is not None:
                yield Told(a.id, _RUN, at, value, run)


def _by_labels(pods: pd.DataFrame, attributes: Sequence[Attribute]) -> Iterator[Told]:
    some = pods[pods["attempt_index"].notna()]
    for at, metadata, index, labels in _rows(some, "metadata", "attempt_index", "labels"):
        both = {**(labels or {}), **(metadata or {})}
        for a in attributes:
            value = next((v for f in a.fields if (v := _value(both.get(f))) is not None), None)
            if value is not None:
                yield Told(a.id, _FIELD, at, value, int(index))


def _by_text(lines: pd.DataFrame, attributes: Sequence[Attribute]) -> Iterator[Told]:
    """Yield what patterns find; RE2 takes as long as a text is, whoever wrote it."""
    about = lines[lines["attempt_index"].notna()]
    texts = pa.array(
        about["err"].where(about["err"].notna(), about["line"]).astype(object), pa.string(), from_pandas=True
    )
    for a in (a for a in attributes if a.pattern):
        found = pc.struct_field(pc.extract_regex(texts, f"(?s){_named_once(a.pattern)}"), "value").to_pylist()
        hits = np.array([v is not None for v in found], bool)
        values = [v for v in found if v is not None]
        for (at, index), raw in zip(_rows(about[hits], "attempt_index"), values, strict=True):
            value = _value(raw)
            if value is not None:
                yield Told(a.id, _TEXT, at, value, int(index))


def _named_once(pattern: str) -> str:
    """Let groups without a name not capture: Arrow wants each group of a pattern named."""
    return re.sub(r"(?<!\\)\((?!\?)", "(?:", pattern)


def _found(texts: pd.Series, pattern: str) -> Any:
    hits = pc.match_substring_regex(pa.array(texts.astype(object), pa.string(), from_pandas=True), pattern)
    return pc.fill_null(hits, fill_value=False).to_numpy(zero_copy_only=False)


def _rows(lines: pd.DataFrame, *columns: str) -> Iterator[tuple[Any, ...]]:
    """Yield the instant in ns and some columns, unknown as None."""
    at = lines["ts"].astype("int64").tolist()
    values = [[None if v is pd.NA or v != v else v for v in lines[c].astype(object)] for c in columns]  # noqa: PLR0124
    yield from zip(at, *values, strict=True)


def _value(raw: Any) -> str | None:
    if isinstance(raw, bool):
        return str(raw).lower()
    if isinstance(raw, str | int | float):
        return str(raw).strip()[:_MOST] or None
    return None


def values(
    attempts: pd.DataFrame, said: Iterable[Told], heard: Collection[int], attributes: Sequence[Attribute]
) -> pd.DataFrame:
    """Return for each attempt (same index) `kind` and each of `names` as text, missing where it is not known.

    `heard` are the attempts of which any line is known: of the others a missing word tells nothing. `hour` is the UTC hour
    in which it was created.
    """
    first: dict[tuple[str, int], str] = {}
    of_run: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for t in sorted(set(said), key=lambda t: (t.attribute, t.how, t.at, t.value, str(t.about))):
        if isinstance(t.about, str):
            of_run.setdefault((t.attribute, t.about), []).append((t.at, t.value))
        else:
            first.setdefault((t.attribute, t.about), t.value)

    def one(a: Attribute, index: int, run: Any, created: int) -> str | None:
        own = first.get((a.id, index))
        before = of_run.get((a.id, run), []) if isinstance(run, str) else []
        place = bisect_right(before, created, key=lambda b: b[0])
        otherwise = a.otherwise if a.otherwise and index in heard else None
        return own or (before[place - 1][1] if place else otherwise)

    rows = attempts[["kind", "image", "namespace"]].copy()
    rows["attempt"] = attempts["attempt"].astype("string").astype("str")
    rows["hour"] = attempts["created_at"].dt.strftime("%H").astype("str")
    keys = list(zip(attempts.index, attempts["run_id"], attempts["created_at"].astype("int64"), strict=True))
    for a in attributes:
        rows[a.id] = pd.Series([one(a, int(i), run, int(at)) for i, run, at in keys], rows.index, dtype="str")
    return rows[["kind", *names(attributes)]]
