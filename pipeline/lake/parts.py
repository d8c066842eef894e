"""One Parquet file, written as a stream of row groups, so that memory does not grow with it."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.lake.store import Store

_ROWS = 30_000  # of a row group
_BYTES = 16 << 20  # of lines of a megabyte a row group holds fewer
_PLAIN = {
    "ts",
    "line",
    "err",
    "msg",
    "message",
    "example",
}  # hardly ever twice the same: a dictionary costs and gives nothing
_UNSORTED = {"line", "err", "msg"}  # whose least and greatest value nobody asks for


class PartWriter:
    """Writes one file: nothing is seen of it until `close`, nothing is left of it after `abort`."""

    def __init__(self, store: Store, name: str, schema: pa.Schema) -> None:
        self._store = store
        self._name = name
        self._schema = schema
        self._waiting: list[pa.Table] = []
        self._rows = self._bytes = 0
        self._undo = contextlib.ExitStack()
        self._sink: _Hashed | None = None
        self._writer: pq.ParquetWriter | None = None

    def add(self, rows: pa.Table) -> None:
        """Take rows of the table's schema; they may come in any order. Raises LakeError."""
        self._waiting.append(rows)
        self._rows += rows.num_rows
        self._bytes += rows.nbytes
        if self._rows >= _ROWS or self._bytes >= _BYTES:
            self._flush()

    def close(self) -> str:
        """Publish the file, which has the table's columns even without rows; returns its digest. Raises LakeError."""
        self._flush()
        with self._store.told("write", self._name):
            self._opened().close()
        self._writer = None
        self._undo.close()
        assert self._sink is not None  # noqa: S101 - what was opened has one
        return self._sink.digest.hexdigest()

    def abort(self) -> None:
        """Leave what was there; after `close` there is nothing to leave."""
        if self._writer is not None:  # else its own end would write to a file that is gone
            with contextlib.suppress(OSError, ValueError, pa.ArrowException):
                self._writer.close()
            self._writer = None
        with contextlib.suppress(_Aborted), self._undo:
            raise _Aborted

    def _flush(self) -> None:
        rows = pa.concat_tables(self._waiting) if self._waiting else self._schema.empty_table()
        self._waiting, self._rows, self._bytes = [], 0, 0
        with self._store.told("write", self._name):
            self._opened().write_table(rows, row_group_size=_ROWS)

    def _opened(self) -> pq.ParquetWriter:
        if self._writer is None:
            self._sink = _Hashed(self._undo.enter_context(self._store.writing(self._name)))
            self._writer = parquet_writer(self._sink, self._schema)
        return self._writer


class _Hashed(io.RawIOBase):
    """Passes on what is written, and knows the digest of it all."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file
        self.digest = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.digest.update(data)
        return self._file.write(data)


class _Aborted(Exception):  # noqa: N818 - what `abort` tells the file that is being written
    pass


def parquet_writer(sink: IO[bytes] | io.RawIOBase, schema: pa.Schema) -> pq.ParquetWriter:
    """Return what writes a table of the lake."""
    nested = {f.name for f in schema if pa.types.is_nested(f.type)}
    return pq.ParquetWriter(
        sink,
        schema,
        compression="zstd",
        compression_level=1,
        write_page_checksum=True,  # a flipped bit is an error, not another number
        use_dictionary=[c for c in schema.names if c not in _PLAIN],
        write_statistics=[c for c in schema.names if c not in nested | _UNSORTED],
    )


def row_groups(file: IO[bytes], columns: list[str]) -> Iterator[pa.Table]:
    """Yield a file's rows, a row group at a time."""
    with pq.ParquetFile(file, page_checksum_verification=True, pre_buffer=False) as parquet:
        for i in range(parquet.num_row_groups):
            yield parquet.read_row_group(i, columns=columns)


def chosen_rows(
    file: IO[bytes],
    by: Sequence[str],
    choose: Callable[[pa.Table], pa.Array],
    columns: Sequence[str],
    coded: Sequence[str] = (),
) -> Iterator[pa.Table]:
    """Yield of each row group the rows that `choose` picks by some columns; others are read only where it picks any.

    Texts of `coded` columns come as dictionaries, which takes a fraction of the time where few are met again and again.
    """
    more = [c for c in columns if c not in by]
    with pq.ParquetFile(file, page_checksum_verification=True, pre_buffer=False, read_dictionary=coded) as parquet:
        for i in range(parquet.num_row_groups):
            seen = parquet.read_row_group(i, columns=list(by))
            rows = choose(seen)
            if len(rows):
                some = seen.take(rows)
                rest = parquet.read_row_group(i, columns=more).take(rows) if more else some
                yield pa.table({c: (some if c in by else rest)[c] for c in columns})


def rows_of(file: IO[bytes]) -> int:
    """Return how many rows a file has, by its footer."""
    with pq.ParquetFile(file) as parquet:
        metadata: Any = parquet.metadata
        return int(metadata.num_rows)
