"""Rows taken out of a table's files, beside which they are kept: good while the file and the rules are what they were.

An extract is a line with its proof, a line of JSON, and Parquet files. The proof is a digest of the rest, of the file that
it was made of and of the rules that it was made by: one that is stale, damaged or cut off is as good as none.
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
    """Some rows of a cell by what they were chosen for, and what else was learnt from all of them, as JSON has it."""

    rows: Mapping[str, pa.Table]
    facts: Mapping[str, Any]


class Extracts:
    """Some columns of some rows of a table, cell by cell: of each choice its `columns`."""

    def __init__(self, store: Store, table: str, name: str, columns: Mapping[str, Sequence[str]]) -> None:
        self._store = store
        self._table = table
        self._name = name
        self._schemas = {choice: schemas.chosen(table, names) for choice, names in columns.items()}

    def content(self, cell: Window) -> str | None:
        """Return the digest of what the cell's file holds now, None where there is none. Raises LakeError."""
        return self._store.digest(file_of(self._table, cell))

    def read(self, cell: Window, content: str, rules: str) -> Extract | None:
        """Return what was taken out of this very content by these very rules, None where there is none. Raises LakeError."""
        proof, _, rest = (self._store.read(self._file(cell)) or b"").partition(b"\n")
        if proof != _proof(content, rules, rest):
            return None
        head, _, body = rest.partition(b"\n")
        said, at, rows = json.loads(head), 0, {}
        for choice, schema in self._schemas.items():
            part = body[at : at + said["sizes"][choice]]
            rows[choice] = pq.read_table(io.BytesIO(part)).cast(schema)
            at += len(part)
        return Extract(rows, said["facts"])

    def write(self, cell: Window, content: str, rules: str, extract: Extract) -> None:
        """Keep what was taken out of a content by rules. Raises LakeError."""
        parts = {choice: _parquet(extract.rows[choice], schema) for choice, schema in self._schemas.items()}
        said = {"facts": extract.facts, "sizes": {choice: len(part) for choice, part in parts.items()}}
        head = json.dumps(said, sort_keys=True, separators=(",", ":")).encode()
        rest = b"".join([head, b"\n", *parts.values()])
        self._store.write(self._file(cell), _proof(content, rules, rest) + b"\n" + rest)

    def _file(self, cell: Window) -> str:
        of = file_of(self._table, cell).removeprefix(f"{self._table}/").removesuffix(".parquet")
        return f"{META}/{self._name}/{of}.extract"


def _parquet(rows: pa.Table, schema: pa.Schema) -> bytes:
    sink = io.BytesIO()
    with parquet_writer(sink, schema) as writer:
        writer.write_table(rows)
    return sink.getvalue()


def _proof(content: str, rules: str, rest: bytes) -> bytes:
    return hashlib.sha256(b"\n".join([content.encode(), rules.encode(), rest])).hexdigest().encode()
