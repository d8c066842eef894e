"""Other programs' JSON -> the lake's tables: what no table can hold is mended or refused here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from pipeline import schemas
from pipeline.model import instant_of

_LATEST = 2**63 - 1  # the last instant that 64 bits of nanoseconds hold, in the year 2262


def table(name: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return rows (every column by its name) as the table `name`, in its order; text of any kind can be written."""
    spec = schemas.TABLES[name].schema
    columns = {f.name: pa.array([_fitting(r[f.name], f.type) for r in rows], f.type) for f in spec}
    return schemas.in_order(name, pa.table(columns, spec))


def instant(text: Any) -> int:
    """Parse RFC 3339. Raises ValueError for what is no text, no instant, or none that a table holds."""
    at = instant_of(text) if isinstance(text, str) else -1
    if not 0 <= at <= _LATEST:
        raise ValueError(f"{str(text)[:40]!r} is no instant of 1970 to 2262")
    return at


def _fitting(value: Any, kind: pa.DataType) -> Any:
    """JSON can hold half of a surrogate pair, which is no text, and a number where a text should be."""
    if value is not None and pa.types.is_string(kind):
        return str(value).encode("utf-8", "replace").decode()
    if value is not None and pa.types.is_map(kind):
        return [(_fitting(k, kind.key_type), _fitting(v, kind.item_type)) for k, v in value]
    return value
