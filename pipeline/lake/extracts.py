"""Rows taken out of a table's files, beside which they are kept: good while the file and the rules are what they were.

An extract is three parts: a line with its proof, a line of JSON, Parquet. The proof is a digest of the rest, of the file
that it was made of and of the rules that it was made by: one that is stale, damaged or cut off is as good as none.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import schemas
from pipeline.lake.parts import parquet_writer
from pipeline.lake.store import META, Store
from pipeline.lake.tables import file_of
from pipeline.model import Window


@dataclass(frozen=True)
class Extract:
    """Some rows of a cell, and what else was learnt from all of them, as JSON has it."""

    rows: pa.Table
    facts: Mapping[str, Any]


class Extracts:
    """Some `columns` of some rows of a table, cell by cell; `name` tells by what they were chosen."""

    def __init__(self, store: Store, table: str, name: str, columns: Sequence[str]) -> None:
        self._store = store
        self._table = table
        self._name = name
        self._schema = schemas.chosen(table, columns)

    def content(self, cell: Window) -> str | None:
        """Return the digest of what the cell's file holds now, None where there is none. Raises LakeError."""
        return self._store.digest(file_of(self._table, cell))

    def read(self, cell: Window, content: str, rules: str) -> Extract | None:
        """Return what was taken out of this very content by these very rules, None where there is none. Raises LakeError."""
        proof, _, rest = (self._store.read(self._file(cell)) or b"").partition(b"\n")
        if proof != _proof(content, rules, rest):
            return None
        facts, _, rows = rest.partition(b"\n")
        return Extract(pq.read_table(io.BytesIO(rows)).cast(self._schema), json.loads(facts))

    def write(self, cell: Window, content: str, rules: str, extract: Extract) -> None:
        """Keep what was taken out of a content by rules. Raises LakeError."""
        rows = io.BytesIO()
        with parquet_writer(rows, self._schema) as writer:
            writer.write_table(extract.rows)
        facts = json.dumps(extract.facts, sort_keys=True, separators=(",", ":")).encode()
        rest = facts + b"\n" + rows.getvalue()
        self._store.write(self._file(cell), _proof(content, rules, rest) + b"\n" + rest)

    def _file(self, cell: Window) -> str:
        of = file_of(self._table, cell).removeprefix(f"{self._table}/").removesuffix(".parquet")
        return f"{META}/{self._name}/{of}.extract"


def _proof(content: str, rules: str, rest: bytes) -> bytes:
    return hashlib.sha256(b"\n".join([content.encode(), rules.encode(), rest])).hexdigest().encode()
