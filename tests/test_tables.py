"""Tables by UTC date: a write touches its window alone, the same rows make the same files, every reader reads them."""

from __future__ import annotations

import datetime as dt
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import fsspec
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import schemas
from pipeline.errors import LakeError
from pipeline.lake.store import Store
from pipeline.lake.tables import Tables, cell_ns, in_window, union
from pipeline.model import DAY_NS, NS, Window
from tests.tables import DATE, DAY, at, ns, span

HOUR_NS = 3600 * NS
PUBLIC = [n for n, t in schemas.TABLES.items() if not t.internal]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "lake"))


@pytest.fixture
def tables(store: Store) -> Tables:
    return Tables(store)


def rows(name: str, *values: dict[str, Any]) -> pa.Table:
    """Return rows of a table, unknown where nothing is said."""
    schema = schemas.TABLES[name].schema
    return pa.Table.from_pylist([dict.fromkeys(schema.names) | v for v in values], schema=schema)


def logs(*lines: tuple[str, str]) -> pa.Table:
    return rows("logs", *({"ts": at(clock), "line": line} for clock, line in lines))


def sample(name: str) -> pa.Table:
    """Return a row that has a value of every type the table knows, and one that has none but its instant."""
    spec = schemas.TABLES[name]
    values: dict[Any, Any] = {schemas.TS: pd.Timestamp(ns("09:00") + 123_456_789, tz="UTC"), schemas.STR: "x"}
    values |= {schemas.I64: 7, schemas.F64: 0.5, schemas.BOOL: True, schemas.STRS: ["a", "b"], schemas.INTS: [205]}
    values[schemas.MAP] = [("app", "x"), ("pod", "y")]
    values[pa.list_(schemas.BURN)] = [{f.name: values[f.type] for f in schemas.BURN}]
    full = {f.name: values[f.type] for f in spec.schema}
    return rows(name, full, {spec.dated_by[0]: at("10:00")})


def said(table: pa.Table) -> list[str]:
    return [str(v) for v in table["line"].to_pylist()]


def contents(store: Store) -> dict[str, bytes | None]:
    return {n: store.read(n) for n in store.names("")}


def test_rows_lie_under_the_utc_date_of_their_first_instant(tables: Tables, store: Store) -> None:
    both = Window(DAY.start, DAY.end + DAY_NS)
    tables.replace("logs", both, rows("logs", *({"ts": at(c)} for c in ("00:00", "23:59:59.999999999", "24:00"))))
    tables.replace("slo", DAY, rows("slo", {"day": at("00:00")}))
    assert store.names("") == [
        "logs/date=2026-02-26/00.parquet",
        "logs/date=2026-02-26/23.parquet",
        "logs/date=2026-02-27/00.parquet",
        "slo/date=2026-02-26/day.parquet",
    ]


def test_an_unexpected_firing_is_dated_by_its_own_start(tables: Tables) -> None:
    expected = {"expected_start": at("09:00"), "actual_start": at("24:00"), "alert": "matched"}
    unexpected = {"actual_start": at("10:00"), "alert": "unexpected"}
    tables.replace("alert_audit", DAY, rows("alert_audit", expected, unexpected))
    assert tables.read("alert_audit", DAY)["alert"].to_pylist() == ["matched", "unexpected"]
    assert tables.read("alert_audit", span("10:00", "10:01"), ["alert"]).to_pylist() == [{"alert": "unexpected"}]


def test_internal_tables_lie_where_readers_do_not_look(tables: Tables, store: Store) -> None:
    tables.replace("scrapes", DAY, rows("scrapes", {"ts": at("09:00"), "up": True}))
    assert store.names("") == []
    assert store.names("_aislot/scrapes") == ["_aislot/scrapes/date=2026-02-26/day.parquet"]
    assert tables.days("scrapes") == [DATE]


def test_replacing_a_window_leaves_the_rows_outside(tables: Tables) -> None:
    tables.replace("logs", DAY, logs(("09:00", "a"), ("09:30", "b"), ("10:00", "c"), ("11:00", "d")))
    tables.replace("logs", span("09:30", "11:00"), logs(("09:45", "B"), ("08:00", "outside"), ("12:00", "outside")))
    assert said(tables.read("logs", DAY)) == ["a", "B", "d"]


def test_only_the_cells_of_the_window_are_touched(tables: Tables, store: Store) -> None:
    tables.replace("logs", DAY, logs(("09:00", "a"), ("10:00", "b"), ("11:00", "c")))
    paths = {n: Path(store.root) / n for n in store.names("logs")}
    for path in paths.values():
        os.utime(path, ns=(1, 1))
    assert tables.replace("logs", span("10:00", "11:00"), logs(("10:00", "B"))) == 1
    changed = [n for n, path in paths.items() if path.stat().st_mtime_ns != 1]
    assert changed == ["logs/date=2026-02-26/10.parquet"]


def test_a_window_without_rows_empties_what_was_there_and_makes_no_file(tables: Tables, store: Store) -> None:
    assert tables.replace("logs", DAY, schemas.empty("logs")) == 0
    assert store.names("") == []
    tables.replace("logs", DAY, logs(("09:00", "a")))
    assert tables.replace("logs", span("09:00", "09:01"), schemas.empty("logs")) == 1
    assert tables.read("logs", DAY).num_rows == 0
    assert tables.replace("logs", DAY, logs(("09:00", "a"))) == 1


def test_the_same_rows_again_change_no_byte_whatever_their_order(tables: Tables, store: Store) -> None:
    given = [("09:00", "a"), ("09:00", "b"), ("09:30", "c"), ("10:00", "d")]
    assert tables.replace("logs", DAY, logs(*given)) == 2
    before = contents(store)
    assert tables.replace("logs", DAY, logs(*reversed(given))) == 0
    assert contents(store) == before


def test_rows_that_differ_in_labels_alone_have_one_order_too(tables: Tables, store: Store) -> None:
    given = [
        {"ts": at("09:00"), "line": line, "labels": [("stream", s)], "signatures": signatures}
        for line in ("a", "b")
        for s in ("x", "y", "z")
        for signatures in (["cache"], [], None)
    ]
    tables.replace("logs", DAY, rows("logs", *given))
    before = contents(store)
    random.Random(1).shuffle(given)
    assert tables.replace("logs", DAY, rows("logs", *given)) == 0
    assert contents(store) == before
    assert tables.read("logs", DAY).num_rows == len(given)


def test_a_merge_makes_the_rows_of_the_window_from_old_and_new(tables: Tables) -> None:
    tables.replace("logs", DAY, logs(("09:00", "old"), ("09:30", "outside")))
    seen: list[tuple[list[str], list[str]]] = []

    def merge(old: pa.Table, new: pa.Table) -> pa.Table:
        seen.append((said(old), said(new)))
        return pa.concat_tables([old, new])

    tables.replace("logs", span("09:00", "09:10"), logs(("09:01", "new")), merge=merge)
    assert seen == [(["old"], ["new"])]
    assert said(tables.read("logs", DAY)) == ["old", "new", "outside"]


def test_a_union_keeps_every_row_and_of_one_key_the_new() -> None:
    old = logs(("09:00", "kept"), ("09:01", "old"))
    new = logs(("09:01", "new"), ("09:02", "added"))
    assert sorted(said(union(["ts"])(old, new))) == ["added", "kept", "new"]
    assert said(union(["ts"])(old, schemas.empty("logs"))) == ["kept", "old"]
    assert said(union(["ts"])(schemas.empty("logs"), new)) == ["new", "added"]


def test_a_union_takes_unknown_for_a_value_of_its_own() -> None:
    known, unknown = {"ts": at("09:00"), "pod": "a"}, {"ts": at("09:00")}
    found = union(["ts", "pod"])(rows("logs", known, unknown), rows("logs", unknown))
    assert sorted(found["pod"].to_pylist(), key=str) == [None, "a"]


def test_a_day_without_rows_gets_one_empty_file_with_its_columns(tables: Tables, store: Store) -> None:
    for name in PUBLIC:
        tables.ensure(name, DATE)
        tables.ensure(name, DATE)
        assert tables.days(name) == [DATE]
        assert tables.read(name, DAY).equals(schemas.empty(name))
    assert len(store.names("")) == len(PUBLIC)


def test_a_day_with_rows_needs_no_empty_file(tables: Tables, store: Store) -> None:
    tables.replace("logs", DAY, logs(("09:00", "a")))
    tables.ensure("logs", DATE)
    assert store.names("logs") == ["logs/date=2026-02-26/09.parquet"]


def test_chosen_columns_are_read_in_the_order_asked(tables: Tables) -> None:
    tables.replace("logs", DAY, logs(("10:00", "b"), ("09:00", "a")))
    found = tables.read("logs", DAY, ["line", "pod"])
    assert found.column_names == ["line", "pod"]
    assert said(found) == ["a", "b"]
    assert tables.read("logs", span("12:00", "13:00"), ["line"]).column_names == ["line"]


def test_rows_that_are_not_chosen_stay_in_their_file(tables: Tables) -> None:
    tables.replace("logs", DAY, logs(("00:30", "a"), ("01:30", "b"), ("01:40", "a")))
    seen: list[pa.Table] = []

    def choose(rows: pa.Table) -> pa.Array:
        seen.append(rows)
        return pc.indices_nonzero(pc.equal(rows["line"], "a"))

    found = tables.chosen("logs", span("01:00", "02:00"), ["line"], choose, ["ts", "line"])
    assert found.column_names == ["ts", "line"]
    assert found["ts"].cast(pa.int64()).to_pylist() == [ns("01:40")]
    assert [rows.column_names for rows in seen] == [["line"]]
    assert tables.chosen("logs", span("05:00", "06:00"), ["line"], choose, ["ts"]).column_names == ["ts"]


def test_rows_are_chosen_by_texts_that_are_given_as_dictionaries(tables: Tables) -> None:
    tables.replace("logs", DAY, logs(("01:30", "b"), ("01:40", "a"), ("01:50", "b")))

    def choose(rows: pa.Table) -> pa.Array:
        assert pa.types.is_dictionary(rows.schema.field("line").type)
        return pa.array([1, 2])

    found = tables.chosen("logs", span("01:00", "02:00"), ["line"], choose, ["ts", "line"], coded=["line"])
    assert found.schema == schemas.chosen("logs", ["ts", "line"])
    assert said(found) == ["a", "b"]


def test_texts_that_are_met_again_and_again_can_stay_coded(tables: Tables) -> None:
    tables.replace("logs", DAY, logs(("00:30", "a"), ("01:30", "b"), ("01:40", "a")))
    found = tables.read("logs", DAY, ["ts", "line"], coded=["line"])
    assert pa.types.is_dictionary(found.schema.field("line").type)
    assert said(found) == ["a", "b", "a"]
    assert tables.read("logs", span("12:00", "13:00"), ["line"], coded=["line"]).schema == found.select(["line"]).schema


def test_rows_dated_inside_a_window_are_chosen_half_open() -> None:
    found = in_window(logs(("09:00", "start"), ("09:59", "in"), ("10:00", "end")), "logs", span("09:00", "10:00"))
    assert said(found) == ["start", "in"]
    assert in_window(schemas.empty("logs"), "logs", DAY).num_rows == 0


def test_a_file_that_is_no_parquet_is_named_with_what_to_do(tables: Tables, store: Store) -> None:
    tables.replace("logs", DAY, logs(("09:00", "a")))
    store.write("logs/date=2026-02-26/09.parquet", b"PAR1 not at all")
    for act in (
        lambda: tables.read("logs", DAY),
        lambda: tables.read("logs", DAY, ["line"]),
        lambda: tables.replace("logs", DAY, logs(("09:00", "a"))),
    ):
        with pytest.raises(LakeError, match="cannot be read as logs") as told:
            act()
        assert "logs/date=2026-02-26/09.parquet" in told.value.what
        assert (told.value.exit_code, told.value.fix) == (5, "delete that file and pull its day again")


@pytest.mark.parametrize("change", [lambda t: t.drop_columns(["line"]), lambda t: t.set_column(0, "ts", t["line"])])
def test_a_file_with_other_columns_or_types_is_named(tables: Tables, store: Store, change: Any) -> None:
    path = Path(store.root) / "logs/date=2026-02-26/09.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(change(logs(("09:00", "a"))), path)
    with pytest.raises(LakeError, match=r"09\.parquet .* cannot be read as logs"):
        tables.read("logs", DAY)


def test_a_column_that_a_later_version_added_is_null(tables: Tables, store: Store) -> None:
    row = {"window_start": DAY.start, "window": "1h", "kind": "all", "started": 3, "queue_max": 2.0}
    spec = schemas.TABLES["golden"].schema
    now = pa.table({f.name: pa.array([row.get(f.name)], f.type) for f in spec})
    path = Path(store.root) / "golden/date=2026-02-26/day.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(now.drop_columns(["queue_max"]), path)
    found = tables.read("golden", DAY)
    assert (found["started"].to_pylist(), found["queue_max"].to_pylist()) == ([3], [None])
    assert tables.read("golden", DAY, ["queue_max", "kind"]).to_pylist() == [{"queue_max": None, "kind": "all"}]
    assert [part.schema for part in tables.stored("golden", DAY)] == [spec]
    assert tables.replace("golden", DAY, now, merge=lambda old, _new: old) == 1
    assert pq.read_schema(path).names == spec.names
    pq.write_table(now.drop_columns(["kind"]), path)  # by which rows are told apart
    with pytest.raises(LakeError, match="cannot be read as golden"):
        tables.read("golden", DAY)


def test_a_flipped_bit_is_never_another_value(tables: Tables, store: Store) -> None:
    whole = logs(*((f"09:{m:02d}", f"line {m * m}") for m in range(60)))
    tables.replace("logs", DAY, whole)
    name = "logs/date=2026-02-26/09.parquet"
    data = store.read(name) or b""
    footer = int.from_bytes(data[-8:-4], "little") + 8
    for place in range(4, len(data) - footer, 37):
        store.write(name, data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        try:
            assert tables.read("logs", DAY).equals(whole)
        except LakeError:
            continue


def test_a_file_that_goes_away_while_it_is_read_counts_as_no_rows(
    tables: Tables, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables.replace("logs", DAY, logs(("09:00", "a")))
    monkeypatch.setattr(store, "read", lambda _: None)
    assert tables.read("logs", DAY).num_rows == 0


@pytest.mark.parametrize("name", list(schemas.TABLES))
def test_every_table_comes_back_as_it_was_written_to_the_nanosecond(tables: Tables, name: str) -> None:
    written = schemas.in_order(name, sample(name))
    tables.replace(name, DAY, written)
    found = tables.read(name, DAY)
    assert found.schema.equals(schemas.TABLES[name].schema)
    assert found.equals(written)


@pytest.mark.parametrize("name", PUBLIC)
def test_pandas_polars_and_duckdb_read_a_table_by_its_folder(tables: Tables, store: Store, name: str) -> None:
    tables.replace(name, DAY, sample(name))
    tables.ensure(name, DATE + dt.timedelta(days=1))
    folder, columns = f"{store.root}/{name}", schemas.TABLES[name].columns
    instant, first = schemas.TABLES[name].dated_by[0], ns("09:00") + 123_456_789

    frame = pd.read_parquet(folder)
    assert list(frame.columns) == [*columns, "date"]
    assert sorted(t.value for t in frame[instant]) == [first, ns("10:00")]
    assert str(frame[instant].dtype) == "datetime64[ns, UTC]"

    lazy = pl.scan_parquet(f"{folder}/**/*.parquet", hive_partitioning=True)
    types = lazy.collect_schema()
    assert {str(types[f.name]) for f in schemas.TABLES[name].schema if f.type == schemas.TS} == {
        "Datetime(time_unit='ns', time_zone='UTC')"
    }
    assert all(types[f.name] == pl.List(pl.String) for f in schemas.TABLES[name].schema if f.type == schemas.STRS)
    assert sorted(lazy.collect()[instant].dt.epoch("ns").to_list()) == [first, ns("10:00")]

    with duckdb.connect() as db:
        found = db.sql(f"select * from read_parquet('{folder}/**/*.parquet', hive_partitioning = true)")
        kinds = {str(c): str(t) for c, t in zip(found.columns, found.types, strict=True)}
        assert list(kinds) == [*columns, "date"]
        assert kinds["date"] == "DATE"
        assert {kinds[f.name] for f in schemas.TABLES[name].schema if f.type == schemas.MAP} <= {
            "MAP(VARCHAR, VARCHAR)"
        }
        assert {kinds[f.name] for f in schemas.TABLES[name].schema if f.type == schemas.STRS} <= {"VARCHAR[]"}
        assert kinds[instant] == "TIMESTAMPTZ_NS"
        by_date = db.sql("select date::varchar, count(*) from found group by all order by all").fetchall()
        assert by_date == [("2026-02-26", 2)]


def test_an_object_store_holds_the_same_tables(store: Store) -> None:
    memory = Store("memory://lake")
    for kept in (store, memory):
        Tables(kept).replace("logs", DAY, logs(("09:00", "a"), ("10:00", "b")))
        Tables(kept).ensure("alerts", DATE)
    assert contents(memory) == contents(store)
    assert Tables(memory).read("logs", DAY).equals(Tables(store).read("logs", DAY))
    fsspec.filesystem("memory").store.clear()


def test_cells_are_hours_for_logs_and_days_for_all_else() -> None:
    assert {n: cell_ns(n) for n in schemas.TABLES if cell_ns(n) != DAY_NS} == {"logs": HOUR_NS}


QUARTER_NS = HOUR_NS // 4
_START = DAY.end - 2 * HOUR_NS  # four hours around a midnight
_SPANS = st.tuples(st.integers(0, 15), st.integers(1, 16)).map(lambda p: (p[0], min(16, p[0] + p[1])))
_WRITES = st.tuples(_SPANS, st.lists(st.tuples(st.integers(0, 15), st.sampled_from("abc")), max_size=6))


@pytest.mark.parametrize("name", ["logs", "events"])
@settings(max_examples=20, deadline=None)
@given(writes=st.lists(_WRITES, max_size=5))
def test_any_sequence_of_writes_leaves_the_rows_that_a_dict_would(
    name: str, writes: Sequence[tuple[tuple[int, int], list[tuple[int, str]]]]
) -> None:
    fsspec.filesystem("memory").store.clear()
    tables, model = Tables(Store("memory://lake")), dict[int, list[str]]()
    text = {"logs": "line", "events": "message"}[name]
    for (first, end), found in writes:
        window = Window(_START + first * QUARTER_NS, _START + end * QUARTER_NS)
        stamped = [(pd.Timestamp(_START + at * QUARTER_NS, tz="UTC"), word) for at, word in found]
        new = rows(name, *({"ts": t, text: word} for t, word in stamped))
        tables.replace(name, window, new)
        assert tables.replace(name, window, new) == 0
        for quarter in range(first, end):
            model[quarter] = sorted(word for at, word in found if at == quarter)
    everything = tables.read(name, Window(_START, _START + 16 * QUARTER_NS))
    got = zip(everything["ts"].cast(pa.int64()).to_pylist(), everything[text].to_pylist(), strict=True)
    assert [((t - _START) // QUARTER_NS, w) for t, w in got] == [(q, w) for q in sorted(model) for w in model[q]]
