"""Tables by UTC date: `<table>/date=YYYY-MM-DD/<part>.parquet`, each part a grid cell of the day, written as a whole.

A write touches only the cells of its window and only the rows inside it: the same pull again makes the same files.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import re
from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import schemas
from pipeline.errors import LakeError
from pipeline.lake.parts import PartWriter, chosen_rows, parquet_writer, row_groups, rows_of
from pipeline.lake.store import META, Store
from pipeline.model import DAY_NS, NS, Window, day_of

CELL_NS = {"logs": 3600 * NS}  # the others have one part a day
_DAY = re.compile(r"/date=(\d{4}-\d\d-\d\d)/")

Merge = Callable[[pa.Table, pa.Table], pa.Table]


def cell_ns(table: str) -> int:
    """Return the length of the cells that a table is cut into."""
    return CELL_NS.get(table, DAY_NS)


def cell_of(table: str, instant: int) -> Window:
    """Return the cell that an instant lies in."""
    start = instant // cell_ns(table) * cell_ns(table)
    return Window(start, start + cell_ns(table))


def folder_of(table: str) -> str:
    """Return the folder of a table in the lake."""
    return f"{META}/{table}" if schemas.TABLES[table].internal else table


def file_of(table: str, cell: Window) -> str:
    """Return the file that holds a cell of a table."""
    step = cell_ns(table)
    part = f"{(cell.start % DAY_NS) // step:02d}" if step < DAY_NS else "day"
    return f"{folder_of(table)}/date={day_of(cell.start)}/{part}.parquet"


class Tables:
    """Reads and writes the lake's tables."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def read(
        self,
        table: str,
        window: Window,
        columns: Sequence[str] | None = None,
        coded: Sequence[str] = (),
    ) -> pa.Table:
        """Return the rows dated inside `window`, in the table's order; no file means no row. Raises LakeError.

        Texts of `coded` columns stay dictionaries. Where columns are chosen the rows are as the files have them, day by day.
        """
        spec = schemas.TABLES[table]
        wanted = list(dict.fromkeys([*(columns or spec.columns), *spec.dated_by]))
        parts = [self._load(n, table, wanted, coded) for d, w in window.days() for n in self._parts(table, d, w)]
        rows = pa.concat_tables(parts) if parts else schemas.chosen(table, wanted, coded).empty_table()
        rows = rows.filter(_inside(rows, table, window)) if rows.num_rows else rows
        if columns is not None:
            return rows.select(list(columns))
        by_day = cell_ns(table) == DAY_NS and spec.dated_by == spec.order[:1]  # whose files are in order, day by day
        return rows if by_day else schemas.in_order(table, rows)

    def replace(self, table: str, window: Window, rows: pa.Table, merge: Merge | None = None) -> int:
        """Put `rows` in the place of those dated inside `window`; rows outside stay. Returns how many files changed.

        `merge(old, new)` makes the rows of the window from both, where what the lake has must not be lost.
        """
        changed = 0
        for cell in window.cells(cell_ns(table)):
            name = file_of(table, cell)
            new = rows.filter(_inside(rows, table, cell)) if rows.num_rows else rows
            old = self._load(name, table, None)
            if old.num_rows:
                within = _inside(old, table, cell)
                kept = old.filter(pc.invert(within))
                new = merge(old.filter(within), new) if merge else new
                new = pa.concat_tables([kept, new])
            elif not new.num_rows:
                continue  # an empty cell needs no file; `ensure` gives an empty day its one
            changed += self._store.write(name, _parquet(schemas.in_order(table, new)))
        return changed

    def part(self, table: str, cell: Window) -> PartWriter:
        """Return what writes a cell's file anew, row group by row group."""
        return PartWriter(self._store, file_of(table, cell), schemas.TABLES[table].schema)

    def stored(self, table: str, cell: Window) -> Iterator[pa.Table]:
        """Yield what a cell's file holds, a row group at a time, in no order. Raises LakeError."""
        name, spec = file_of(table, cell), schemas.TABLES[table].schema
        with self._store.reading(name) as file, self._readable(name, table):
            for rows in row_groups(file, spec.names) if file else ():
                yield _as_now(rows, table, spec)

    def chosen(
        self,
        table: str,
        cell: Window,
        by: Sequence[str],
        choose: Callable[[pa.Table], pa.Array],
        columns: Sequence[str],
        coded: Sequence[str] = (),
    ) -> pa.Table:
        """Return some `columns` of the rows of a cell that `choose` picks by others. Raises LakeError.

        In the file's order, row group by row group; of other rows nothing but `by` is read. `choose` is given texts of
        `coded` columns as dictionaries.
        """
        name, schema = file_of(table, cell), schemas.chosen(table, columns)
        with self._store.reading(name) as file, self._readable(name, table):
            found = chosen_rows(file, by, choose, columns, coded) if file else ()
            return pa.concat_tables([schema.empty_table(), *(rows.cast(schema) for rows in found)])

    def count(self, table: str, window: Window) -> int:
        """Count the rows dated inside `window`: of whole cells by their files' footers. Raises LakeError."""
        return sum(self._count(table, cell) for cell in window.cells(cell_ns(table)))

    def _count(self, table: str, cell: Window) -> int:
        name = file_of(table, cell)
        if cell != cell_of(table, cell.start):
            ts = self._load(name, table, list(schemas.TABLES[table].dated_by))
            return int(pc.sum(_inside(ts, table, cell)).as_py() or 0) if ts.num_rows else 0
        with self._store.reading(name) as file, self._readable(name, table):
            return rows_of(file) if file else 0

    def ensure(self, table: str, day: dt.date) -> None:
        """Give a day without rows one empty file with the table's columns, so that every reader finds them."""
        if not self._store.names(f"{folder_of(table)}/date={day}", ".parquet"):
            first = next(Window.of_day(day).cells(cell_ns(table)))
            self._store.write(file_of(table, first), _parquet(schemas.empty(table)))

    def days(self, table: str) -> list[dt.date]:
        """List the UTC days that a table has files for."""
        found = (_DAY.search(n) for n in self._store.names(folder_of(table), ".parquet"))
        return sorted({dt.date.fromisoformat(m[1]) for m in found if m})

    def _parts(self, table: str, day: dt.date, window: Window) -> list[str]:
        names = self._store.names(f"{folder_of(table)}/date={day}", ".parquet")
        if cell_ns(table) == DAY_NS:
            return names
        wanted = {file_of(table, c) for c in window.cells(cell_ns(table))}
        return [n for n in names if n in wanted]

    def _load(
        self,
        name: str,
        table: str,
        columns: Sequence[str] | None,
        coded: Sequence[str] = (),
    ) -> pa.Table:
        data = self._store.read(name)
        chosen = schemas.chosen(table, columns, coded)
        if data is None:
            return chosen.empty_table()
        with self._readable(name, table):
            there = set(pq.read_schema(io.BytesIO(data)).names)
            found = pq.read_table(
                io.BytesIO(data),
                columns=[c for c in chosen.names if c in there],
                partitioning=None,
                page_checksum_verification=True,
                read_dictionary=[c for c in coded if c in there],
            )
            return _as_now(found, table, chosen)

    @contextlib.contextmanager
    def _readable(self, name: str, table: str) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, KeyError, ValueError, OSError) as e:
            raise LakeError(
                f"{name} in {self._store.uri} cannot be read as {table}: {e}", "delete that file and pull its day again"
            ) from e


def _as_now(rows: pa.Table, table: str, schema: pa.Schema) -> pa.Table:
    """Return rows with the columns of today: one that a later version added is null. Raises KeyError for any other."""
    spec = schemas.TABLES[table]
    old = {*spec.dated_by, *spec.order, *spec.key}
    for f in schema:
        if f.name not in rows.column_names and f.name not in old:
            rows = rows.append_column(f, pa.nulls(rows.num_rows, f.type))
    return rows.select(schema.names).cast(schema)


def _instants(rows: pa.Table, table: str) -> pa.ChunkedArray:
    return pc.coalesce(*(rows[c] for c in schemas.TABLES[table].dated_by)).cast(pa.int64())


def _inside(rows: pa.Table, table: str, window: Window) -> pa.ChunkedArray:
    at = _instants(rows, table)
    return pc.and_(pc.greater_equal(at, window.start), pc.less(at, window.end))


def _parquet(rows: pa.Table) -> bytes:
    sink = io.BytesIO()
    with parquet_writer(sink, rows.schema) as writer:
        writer.write_table(rows.combine_chunks(), row_group_size=50_000)
    return sink.getvalue()


def union(key: Sequence[str]) -> Merge:
    """Return a merge that keeps every row either side has, the new one where both have the key."""

    def merged(old: pa.Table, new: pa.Table) -> pa.Table:
        both = pa.concat_tables([new, old])
        first = both.select(list(key)).append_column("i", pa.array(range(both.num_rows), pa.int64()))
        keep = first.group_by(list(key)).aggregate([("i", "min")])["i_min"]
        return both.take(keep.sort())

    return merged


def in_window(rows: pa.Table, table: str, window: Window) -> pa.Table:
    """Return the rows dated inside a window."""
    return rows.filter(_inside(rows, table, window)) if rows.num_rows else rows
