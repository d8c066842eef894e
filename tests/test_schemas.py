"""The lake's tables as pandas and back: every column, type and order of rows as the contract fixes them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import schemas
from tests.tables import at, ns

CONTRACT = {
    "logs": "ts namespace app pod container level msg run_id job_name issue err signatures line format labels metadata",
    "attempts": "namespace job_name kind image attempt run_id issue created_at started_at ended_at end_uncertainty_s "
    "duration_s outcome outcome_source reason source linked_by",
    "alerts": "alert severity labels started_at ended_at source",
    "events": "ts namespace object_kind object_name reason type message count",
    "issue_runs": "run_id issue repository job_namespace job_name phase run_status found_by author_kind comment_url ts",
    "issue_events": "ts issue repository event label url",
    "golden": "window_start window kind started finished failed failure_ratio manifest_unknown_lines "
    "cache_retrieval_lines build_ref_lines duration_p50_s duration_p95_s duration_max_s backlog_max pending_max complete",
    "failures": "failure_id failed_at run_id issue namespace job_name kind attempt signatures class linked_by "
    "first_line_at last_line_at lines recovered_at",
    "incidents": "incident_id class signatures started_at ended_at first_success_at mttr_s failures runs issues "
    "detected_by detection_delay_s",
    "alert_audit": "alert expected_start expected_end actual_start actual_end verdict delay_s",
    "slo": "slo window good total ratio objective_ratio budget_spent_ratio policy",
    # beyond the contract
    "shares": "day scope kind attribute match value failed failed_of succeeded succeeded_of p_value q_value rank",
    "ledger": "day what id kind text state lines failed failed_of succeeded succeeded_of first_at last_at first_seen_at",
    "level_breaches": "day rule about app level lines first_at last_at example",
}
DTYPES = {
    schemas.TS: "datetime64[ns, UTC]",
    schemas.STR: "str",
    schemas.F64: "float64",
    schemas.I64: "Int64",
    schemas.BOOL: "boolean",
    schemas.STRS: "object",
    schemas.INTS: "object",
    schemas.MAP: "object",
    pa.list_(schemas.BURN): "object",
}
_TEXT = st.text(st.characters(codec="utf-8"), max_size=5)
_INT = st.integers(-(2**63), 2**63 - 1)
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    schemas.TS: st.integers(0, 2**62),
    schemas.STR: _TEXT,
    schemas.F64: st.floats(allow_nan=False),
    schemas.I64: _INT,
    schemas.BOOL: st.booleans(),
    schemas.STRS: st.lists(_TEXT, max_size=3),
    schemas.INTS: st.lists(_INT, max_size=3),
    schemas.MAP: st.dictionaries(_TEXT, _TEXT, max_size=3).map(lambda d: sorted(d.items())),
}
VALUES[pa.list_(schemas.BURN)] = st.lists(
    st.fixed_dictionaries({f.name: st.none() | VALUES[f.type] for f in schemas.BURN}), max_size=2
)


@st.composite
def tables(draw: st.DrawFn, name: str) -> pa.Table:
    """Draw a table with unknown values anywhere."""
    count = draw(st.integers(0, 3))
    schema = schemas.TABLES[name].schema
    columns = [draw(st.lists(st.none() | VALUES[f.type], min_size=count, max_size=count)) for f in schema]
    return pa.Table.from_arrays([pa.array(v, f.type) for v, f in zip(columns, schema, strict=True)], schema=schema)


@pytest.mark.parametrize("name", CONTRACT)
def test_a_table_has_the_contracts_columns(name: str) -> None:
    assert set(CONTRACT[name].split()) <= set(schemas.TABLES[name].columns)
    assert not schemas.TABLES[name].internal


def test_every_public_table_is_the_contracts_and_is_pulled_or_derived() -> None:
    public = [n for n, t in schemas.TABLES.items() if not t.internal]
    assert sorted(public) == sorted(CONTRACT) == sorted([*schemas.PULLED, *schemas.DERIVED])


@pytest.mark.parametrize("name", list(schemas.TABLES))
def test_what_a_table_is_dated_ordered_and_known_by_are_columns_of_it(name: str) -> None:
    spec = schemas.TABLES[name]
    assert {*spec.dated_by, *spec.order, *spec.key} <= set(spec.columns)
    assert all(spec.schema.field(c).type == schemas.TS for c in spec.dated_by)
    assert not any(pa.types.is_nested(spec.schema.field(c).type) for c in spec.order)


@pytest.mark.parametrize("name", list(schemas.TABLES))
def test_suffixes_tell_the_unit(name: str) -> None:
    for f in schemas.TABLES[name].schema:
        if f.name.endswith(("_s", "_ratio")):
            assert f.type == schemas.F64
        if f.name == "ts" or f.name.endswith("_at"):
            assert f.type == schemas.TS


@pytest.mark.parametrize("name", list(schemas.TABLES))
def test_an_empty_frame_has_the_dtypes_of_a_full_one(name: str) -> None:
    frame = schemas.empty_frame(name)
    expected = {f.name: DTYPES[f.type] for f in schemas.TABLES[name].schema}
    assert {c: str(t) for c, t in frame.dtypes.items()} == expected
    row = pa.Table.from_pylist([{}], schema=schemas.TABLES[name].schema)
    assert {c: str(t) for c, t in schemas.to_frame(row).dtypes.items()} == expected
    assert schemas.from_frame(name, frame).equals(schemas.empty(name))
    assert schemas.tidy(name, frame).equals(frame)


@pytest.mark.parametrize("name", list(schemas.TABLES))
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_a_table_comes_back_from_pandas_as_it_was(name: str, data: st.DataObject) -> None:
    table = schemas.in_order(name, data.draw(tables(name)))
    frame = schemas.to_frame(table)
    assert {c: str(t) for c, t in frame.dtypes.items()} == {f.name: DTYPES[f.type] for f in schemas.TABLES[name].schema}
    assert schemas.from_frame(name, frame).equals(table)


@pytest.mark.parametrize("name", ["logs", "alerts", "alert_audit", "incidents"])
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_rows_have_one_order_however_they_come(name: str, data: st.DataObject) -> None:
    table = data.draw(tables(name))
    twice = pa.concat_tables([table, table])
    mixed = twice.take(pa.array(data.draw(st.permutations(range(twice.num_rows))), pa.int64()))
    assert schemas.in_order(name, mixed).equals(schemas.in_order(name, twice))
    assert schemas.in_order(name, table).num_rows == table.num_rows


def test_lists_maps_and_unknowns_are_what_people_expect() -> None:
    row = {"ts": at("09:00"), "signatures": ["a"], "labels": [("b", "2"), ("a", "1")], "issue": 205}
    frame = schemas.to_frame(pa.Table.from_pylist([row, {"ts": at("10:00")}], schema=schemas.TABLES["logs"].schema))
    known, unknown = schemas.rows_of(frame)
    assert (known["signatures"], known["labels"], known["issue"]) == (["a"], {"b": "2", "a": "1"}, 205)
    assert known["ts"].value == ns("09:00")
    assert (unknown["issue"], unknown["signatures"], unknown["labels"]) == (None, None, None)
    assert frame["issue"].isna().tolist() == [False, True]
    assert pd.isna(unknown["line"])


def test_frames_as_computations_leave_them_are_taken() -> None:
    frame = pd.DataFrame(
        {
            "started_at": pd.Series([at("09:00"), at("08:00")]).astype("datetime64[us, UTC]"),
            "incident_id": ["b", "a"],
            "class": pd.Series(["cache", None], dtype=object),
            "signatures": [np.array(["x"]), None],
            "ended_at": pd.Series([None, None], dtype=object),
            "first_success_at": [pd.NaT, at("09:00")],
            "mttr_s": [1, 2],
            "failures": [1.0, np.nan],
            "runs": [["r"], float("nan")],
            "issues": [[205], pd.NA],
            "detected_by": [None, "issue"],
            "detection_delay_s": [None, 0.5],
            "more": ["left", "out"],
        }
    )
    proof = ("successes_in_a_row", "quiet_for_s", "recovered_by", "recovered_by_run", "state", "excluded_by")
    frame = frame.assign(**dict.fromkeys(proof))
    early, late = schemas.rows_of(schemas.tidy("incidents", frame))
    assert (early["incident_id"], late["incident_id"]) == ("a", "b")
    assert (late["signatures"], late["runs"], late["issues"], late["failures"]) == (["x"], ["r"], [205], 1)
    assert (early["signatures"], early["runs"], early["issues"], early["failures"]) == (None, None, None, None)
    assert (late["started_at"], early["first_success_at"], late["mttr_s"]) == (at("09:00"), at("09:00"), 1.0)


def test_a_frame_without_a_column_is_an_error() -> None:
    with pytest.raises(KeyError, match="policy"):
        schemas.from_frame("slo", schemas.empty_frame("slo").drop(columns="policy"))


def test_a_table_is_a_value() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        schemas.TABLES["logs"].name = "x"  # type: ignore[misc]
