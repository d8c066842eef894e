"""A part of a table written as a stream: the same rows as at once, all or nothing, read back row group by row group."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import schemas
from pipeline.errors import LakeError
from pipeline.lake import parts
from pipeline.lake.store import META, Store
from pipeline.lake.tables import Tables, cell_of
from pipeline.model import NS, Window

START = 1_772_096_400 * NS
HOUR = cell_of("logs", START)
NAME = "logs/date=2026-02-26/09.parquet"


@pytest.fixture(params=["directory", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(str(tmp_path / "lake") if request.param == "directory" else f"memory://{tmp_path.name}")


def lines(*offsets: int, text: str = "line") -> pa.Table:
    spec = schemas.TABLES["logs"].schema
    columns: dict[str, Any] = {f.name: pa.nulls(len(offsets), f.type) for f in spec}
    columns["ts"] = pa.array([START + o for o in offsets], pa.int64()).cast(spec.field("ts").type)
    columns["line"] = pa.array([f"{text} {o}" for o in offsets], pa.string())
    return pa.table(columns, spec)


def written(tables: Tables, *batches: pa.Table) -> None:
    part = tables.part("logs", HOUR)
    for rows in batches:
        part.add(rows)
    part.close()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.integers(0, 3599 * NS), max_size=5), max_size=6), st.integers(1, 7))
def test_rows_added_in_any_pieces_are_the_rows_put_there_at_once(pieces: list[list[int]], group: int) -> None:
    streamed, at_once = Tables(Store("memory://streamed")), Tables(Store("memory://at-once"))
    with pytest.MonkeyPatch.context() as m:
        m.setattr(parts, "_ROWS", group)
        written(streamed, *(lines(*p) for p in pieces))
    at_once.replace("logs", HOUR, lines(*(o for p in pieces for o in p)))
    assert streamed.read("logs", HOUR).equals(at_once.read("logs", HOUR))
    assert streamed.count("logs", HOUR) == sum(map(len, pieces))
    assert sum(t.num_rows for t in streamed.stored("logs", HOUR)) == sum(map(len, pieces))
    at_once.replace("logs", HOUR, lines())


def test_a_part_that_is_given_up_leaves_what_was_there(store: Store) -> None:
    tables = Tables(store)
    written(tables, lines(1, 2))
    before = store.read(NAME)
    part = tables.part("logs", HOUR)
    part.add(lines(*range(40_000)))
    part.abort()
    assert store.read(NAME) == before
    assert store.names(f"{META}/unfinished") == []


def test_giving_up_a_part_that_is_closed_changes_nothing(store: Store) -> None:
    part = Tables(store).part("logs", HOUR)
    part.add(lines(1))
    part.close()
    part.abort()
    assert Tables(store).count("logs", HOUR) == 1


def test_a_part_without_rows_has_the_columns(store: Store) -> None:
    written(Tables(store))
    assert Tables(store).read("logs", HOUR).schema.equals(schemas.TABLES["logs"].schema)
    assert Tables(store).count("logs", HOUR) == 0


def test_what_is_there_can_be_read_while_its_successor_is_written(store: Store) -> None:
    tables = Tables(store)
    written(tables, lines(1, 2, 3))
    part = tables.part("logs", HOUR)
    for old in tables.stored("logs", HOUR):
        part.add(old)
        part.add(lines(4))
        assert tables.count("logs", HOUR) == 3
    part.close()
    assert tables.read("logs", HOUR)["line"].to_pylist() == ["line 1", "line 2", "line 3", "line 4"]


def test_long_lines_make_row_groups_of_fewer(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    part = Tables(store).part("logs", HOUR)
    for n in range(40):
        part.add(lines(n, text="x" * 1_000_000))
    part.close()
    assert pq.ParquetFile(tmp_path / NAME).num_row_groups > 1


def test_rows_are_counted_inside_a_window_that_cuts_a_cell(store: Store) -> None:
    tables = Tables(store)
    written(tables, lines(0, 5 * NS, 600 * NS))
    assert tables.count("logs", Window(START, START + 600 * NS)) == 2
    assert tables.count("logs", Window(START - 3600 * NS, START + 7200 * NS)) == 3
    assert tables.count("logs", Window(START + 3600 * NS, START + 7200 * NS)) == 0


@pytest.mark.parametrize("damage", [b"not Parquet at all", b"PAR1PAR1", b""])
def test_a_broken_file_is_named(store: Store, damage: bytes) -> None:
    store.write(NAME, damage)
    for ask in (lambda t: list(t.stored("logs", HOUR)), lambda t: t.count("logs", HOUR)):
        with pytest.raises(LakeError, match=NAME):
            ask(Tables(store))


def test_a_disk_that_fills_up_in_the_middle_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    tables = Tables(store)
    written(tables, lines(1))
    before = store.read(NAME)

    class Full:
        def __init__(self, *_: object, **__: object) -> None:
            pass

        def close(self) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        def write_table(self, *_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    part = tables.part("logs", HOUR)
    with pytest.MonkeyPatch.context() as m:
        m.setattr(pq, "ParquetWriter", Full)
        with pytest.raises(LakeError, match="No space left") as told:
            part.add(lines(*range(40_000)))
    part.abort()
    assert told.value.fix == "free some space"
    assert store.read(NAME) == before
    assert store.names(f"{META}/unfinished") == []
