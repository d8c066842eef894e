"""The lake's tables: names, columns and types as the contract fixes them, and how rows are dated and ordered."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

TS = pa.timestamp("ns", tz="UTC")
STR = pa.string()
F64 = pa.float64()
I64 = pa.int64()
BOOL = pa.bool_()
STRS = pa.list_(pa.string())
INTS = pa.list_(pa.int64())
MAP = pa.map_(pa.string(), pa.string())
# one window of a pair over which an objective's budget burns: at the day's end, and at the day's worst instant
BURN = pa.struct(
    [("pair", STR), ("window", STR), ("failed", I64), ("total", I64), ("burn", F64)]
    + [("worst_failed", I64), ("worst_total", I64), ("worst", F64), ("worst_at", TS)]
)


@dataclass(frozen=True)
class Table:
    """One table of the lake.

    `dated_by`: the columns whose first non-null instant gives the row's UTC date; `order`: what rows are sorted by, so
    that the same rows always make the same file; `key`: what identifies a row; `internal`: kept below `_aislot/`.
    """

    name: str
    schema: pa.Schema
    dated_by: tuple[str, ...]
    order: tuple[str, ...]
    key: tuple[str, ...] = ()
    internal: bool = False

    @property
    def columns(self) -> list[str]:
        """Names of the columns in their order."""
        return list(self.schema.names)


def _table(
    name: str,
    columns: Sequence[tuple[str, Any]],
    order: Sequence[str],
    *,
    dated_by: Sequence[str] = (),
    key: Sequence[str] = (),
    internal: bool = False,
) -> Table:
    return Table(name, pa.schema(list(columns)), tuple(dated_by or [columns[0][0]]), tuple(order), tuple(key), internal)


_ALL = [
    _table(
        "logs",
        [("ts", TS), ("namespace", STR), ("app", STR), ("pod", STR), ("container", STR), ("level", STR), ("msg", STR)]
        + [("run_id", STR), ("job_name", STR), ("issue", I64), ("err", STR), ("signatures", STRS), ("line", STR)]
        + [("format", STR), ("labels", MAP), ("metadata", MAP)],
        order=("ts", "namespace", "app", "pod", "container", "line"),
    ),
    _table(
        "attempts",
        [("created_at", TS), ("namespace", STR), ("job_name", STR), ("kind", STR), ("image", STR), ("attempt", I64)]
        + [("run_id", STR), ("issue", I64), ("linked_by", STR), ("started_at", TS), ("ended_at", TS)]
        + [("end_uncertainty_s", F64), ("duration_s", F64), ("outcome", STR), ("outcome_source", STR), ("reason", STR)]
        + [("source", STR), ("uid", STR), ("last_seen_at", TS)],
        order=("created_at", "namespace", "job_name"),
        key=("namespace", "job_name", "created_at"),
    ),
    _table(
        "alerts",
        [("started_at", TS), ("ended_at", TS), ("alert", STR), ("severity", STR), ("labels", MAP), ("source", STR)],
        order=("started_at", "alert"),
    ),
    _table(
        "events",
        [("ts", TS), ("namespace", STR), ("object_kind", STR), ("object_name", STR), ("object_uid", STR)]
        + [("reason", STR), ("type", STR), ("message", STR), ("count", I64), ("uid", STR)],
        order=("ts", "namespace", "object_kind", "object_name", "reason", "message", "uid"),
    ),
    _table(
        "issue_runs",
        [("ts", TS), ("run_id", STR), ("issue", I64), ("repository", STR), ("job_namespace", STR), ("job_name", STR)]
        + [("phase", STR), ("run_status", STR), ("found_by", STR), ("author_kind", STR), ("comment_url", STR)],
        order=("ts", "issue", "run_id", "found_by", "job_name", "comment_url"),
    ),
    _table(
        "issue_events",
        [("ts", TS), ("issue", I64), ("repository", STR), ("event", STR), ("label", STR), ("url", STR)],
        order=("ts", "issue", "event", "label", "url"),
    ),
    _table(
        "golden",
        [("window_start", TS), ("window", STR), ("kind", STR), ("started", I64), ("finished", I64), ("failed", I64)]
        + [("failure_ratio", F64), ("manifest_unknown_lines", I64), ("cache_retrieval_lines", I64)]
        + [("build_ref_lines", I64), ("duration_p50_s", F64), ("duration_p95_s", F64), ("duration_max_s", F64)]
        + [("backlog_max", I64), ("pending_max", I64), ("queue_max", F64), ("complete", BOOL)],
        order=("window_start", "window", "kind"),
        key=("window_start", "window", "kind"),
    ),
    _table(
        "failures",
        [("failed_at", TS), ("failure_id", STR), ("run_id", STR), ("issue", I64), ("namespace", STR), ("job_name", STR)]
        + [("kind", STR), ("attempt", I64), ("signatures", STRS), ("class", STR), ("linked_by", STR)]
        + [("first_line_at", TS), ("last_line_at", TS), ("lines", I64), ("example", STR), ("recovered_at", TS)]
        + [("recovered_job", STR), ("recovered_attempt", I64)],
        order=("failed_at", "namespace", "job_name", "failure_id"),
        key=("failure_id",),
    ),
    _table(
        "incidents",
        [("started_at", TS), ("incident_id", STR), ("class", STR), ("signatures", STRS), ("ended_at", TS)]
        + [("first_success_at", TS), ("mttr_s", F64), ("failures", I64), ("runs", STRS), ("issues", INTS)]
        + [("detected_by", STR), ("detection_delay_s", F64), ("successes_in_a_row", I64), ("quiet_for_s", F64)]
        + [("recovered_by", STR), ("recovered_by_run", STR), ("state", STR), ("excluded_by", STR)],
        order=("started_at", "incident_id"),
        key=("incident_id",),
    ),
    _table(
        "alert_audit",
        [("expected_start", TS), ("expected_end", TS), ("actual_start", TS), ("actual_end", TS), ("alert", STR)]
        + [("verdict", STR), ("delay_s", F64), ("silenced", STR), ("dedup_key", STR)],
        order=("expected_start", "actual_start", "alert"),
        dated_by=("expected_start", "actual_start"),
    ),
    # dated by the day it was computed for: `day` is that instant
    _table(
        "slo",
        [("day", TS), ("slo", STR), ("window", STR), ("good", I64), ("total", I64), ("ratio", F64)]
        + [("objective_ratio", F64), ("budget_spent_ratio", F64), ("policy", STR), ("failures_left", I64)]
        + [("burn_fast", F64), ("burn_fast_worst", F64), ("burn_fast_worst_at", TS), ("burn_slow", F64)]
        + [("burn_slow_worst", F64), ("burn_slow_worst_at", TS), ("burn", pa.list_(BURN))]
        + [("missing_days", STRS), ("command", STR)],
        order=("day", "slo", "window"),
    ),
    # the same: what failures of a day share, what is new of it, where levels are not as they should be
    _table(
        "shares",
        [("day", TS), ("scope", STR), ("kind", STR), ("attribute", STR), ("match", STR), ("value", STR)]
        + [("failed", I64), ("failed_of", I64), ("failed_unknown", I64), ("succeeded", I64), ("succeeded_of", I64)]
        + [("succeeded_unknown", I64), ("failed_low_ratio", F64), ("failed_high_ratio", F64)]
        + [("succeeded_low_ratio", F64), ("succeeded_high_ratio", F64), ("p_value", F64), ("q_value", F64)]
        + [("rank", I64), ("tests", I64)],
        order=("day", "rank"),
        key=("day", "scope", "kind", "attribute", "match", "value"),
    ),
    _table(
        "ledger",
        [("day", TS), ("what", STR), ("id", STR), ("kind", STR), ("text", STR), ("state", STR), ("lines", I64)]
        + [("failed", I64), ("failed_of", I64), ("succeeded", I64), ("succeeded_of", I64), ("first_at", TS)]
        + [("last_at", TS), ("seen_before_at", TS), ("first_seen_at", TS), ("example", STR)],
        order=("day", "what", "kind", "id"),
        key=("day", "what", "kind", "id"),
    ),
    _table(
        "level_breaches",
        [("day", TS), ("rule", STR), ("about", STR), ("app", STR), ("level", STR), ("lines", I64), ("first_at", TS)]
        + [("last_at", TS), ("example", STR)],
        order=("day", "rule", "about", "app", "level"),
        key=("day", "rule", "about", "app", "level"),
    ),
    # what successful attempts of a day wrote, which later days' failures are held against
    _table(
        "success_templates",
        [("day", TS), ("kind", STR), ("id", STR), ("attempts", I64), ("of", I64)],
        order=("day", "kind", "id"),
        key=("day", "kind", "id"),
        internal=True,
    ),
    # what pull keeps of the jobs' raw evidence, below _aislot/
    _table(
        "job_samples",
        [("ts", TS), ("metric", STR), ("namespace", STR), ("job_name", STR), ("reason", STR), ("value", F64)]
        + [("labels", MAP)],
        order=("ts", "metric", "namespace", "job_name", "reason"),
        key=("ts", "metric", "namespace", "job_name", "reason"),
        internal=True,
    ),
    # when Alertmanager was asked, how many of the catalogue's alerts fired then, and since when the first of them did
    _table("alert_listings", [("ts", TS), ("alerts", I64), ("since", TS)], order=("ts",), key=("ts",), internal=True),
    _table("scrapes", [("ts", TS), ("up", BOOL)], order=("ts",), key=("ts",), internal=True),
    # what the install's own query said of its queue, and which query that was
    _table("queue_samples", [("ts", TS), ("value", F64), ("query", STR)], order=("ts",), key=("ts",), internal=True),
    _table(
        "pod_ends",
        [("completed_at", TS), ("namespace", STR), ("pod", STR), ("job_name", STR), ("job_uid", STR)],
        order=("completed_at", "namespace", "pod"),
        key=("completed_at", "namespace", "pod", "job_name", "job_uid"),
        internal=True,
    ),
    _table(
        "job_snapshots",
        [("snapshot_at", TS), ("namespace", STR), ("job_name", STR), ("uid", STR), ("created_at", TS)]
        + [("started_at", TS), ("completed_at", TS), ("failed_at", TS), ("reason", STR), ("labels", MAP)],
        order=("snapshot_at", "namespace", "job_name", "uid"),
        key=("snapshot_at", "namespace", "job_name", "uid"),
        internal=True,
    ),
]
TABLES: dict[str, Table] = {t.name: t for t in _ALL}
PULLED = ("logs", "alerts", "events", "issue_runs", "issue_events")
DERIVED_OF_DAY = ("golden", "failures", "alert_audit", "slo", "shares", "ledger", "level_breaches")
DERIVED = ("attempts", "incidents", *DERIVED_OF_DAY)


def empty(name: str) -> pa.Table:
    """Return the table without rows."""
    return TABLES[name].schema.empty_table()


def chosen(name: str, columns: Sequence[str] | None = None, coded: Sequence[str] = ()) -> pa.Schema:
    """Return the schema of some of the table's columns, by default of all; of `coded` ones the texts are dictionaries."""
    spec = TABLES[name].schema
    fields = (spec.field(c) for c in columns or spec.names)
    return pa.schema([f.with_type(pa.dictionary(pa.int32(), STR)) if f.name in coded else f for f in fields])


def empty_frame(name: str) -> pd.DataFrame:
    """Return the table without rows as pandas, with the dtypes that a read from the lake gives."""
    return to_frame(empty(name))


def to_frame(table: pa.Table) -> pd.DataFrame:
    """Turn a lake table into pandas: nullable integers and booleans, lists, maps as dicts, NaT or NA for unknown.

    Strings are pandas' `str` dtype (missing: NaN), integers `Int64`, booleans `boolean`, instants `datetime64[ns,
    UTC]`; lists become Python lists (not numpy arrays), maps `dict`, so that frames compare and print as people expect.
    """
    import pandas as pd  # noqa: PLC0415 - schemas serve the extraction path too, which does without pandas

    dtypes: dict[Any, Any] = {I64: pd.Int64Dtype(), BOOL: pd.BooleanDtype(), STR: pd.StringDtype(na_value=float("nan"))}
    nested = [f for f in table.schema if pa.types.is_nested(f.type)]
    frame: pd.DataFrame = table.drop_columns([f.name for f in nested]).to_pandas(types_mapper=dtypes.get)
    for f in nested:
        column = table[f.name]
        if pa.types.is_map(f.type):
            values: Any = [None if v is None else dict(v) for v in column.to_pylist()]
        else:
            values = _lists(column)
        frame[f.name] = pd.Series(values, frame.index, dtype=object)
    return frame.reindex(columns=table.schema.names)


def _lists(column: pa.ChunkedArray) -> list[Any]:
    """Return a column of lists as Python's; most are empty."""
    out: list[Any] = [[] for _ in range(len(column))]
    for i in pc.indices_nonzero(
        pc.fill_null(pc.not_equal(pc.list_value_length(column), 0), fill_value=True)
    ).to_pylist():
        out[i] = column[i].as_py()
    return out


def from_frame(name: str, frame: pd.DataFrame) -> pa.Table:
    """Turn a frame into the table `name`: exactly its columns, types and order. Raises KeyError for a missing column."""
    import pandas as pd  # noqa: PLC0415 - as above

    spec = TABLES[name]
    arrays = []
    for f in spec.schema:
        series = frame[f.name]
        if pa.types.is_nested(f.type):
            values = [None if v is None or v is pd.NA or isinstance(v, float) else v for v in series.tolist()]
            if pa.types.is_map(f.type):
                values = [None if v is None else sorted(dict(v).items()) for v in values]
            arrays.append(pa.array(values, f.type))
        else:
            arrays.append(pa.array(series, f.type, from_pandas=True))
    return in_order(name, pa.Table.from_arrays(arrays, schema=spec.schema))


def in_order(name: str, table: pa.Table) -> pa.Table:
    """Sort rows by the table's order, nulls last, then by all they hold: the same rows make the same file."""
    if table.num_rows < 2:  # noqa: PLR2004
        return table
    order = TABLES[name].order
    table = table.sort_by([(c, "ascending") for c in order])
    ties = _as_before(table[order[0]])
    for c in order[1:]:
        if not pc.any(ties).as_py():
            return table
        ties = pc.and_(ties, _as_before(table[c]))
    # maps and lists cannot be sorted by Arrow, and rows that differ in them alone are few
    places, at = list(range(table.num_rows)), 0
    for tied, run in groupby([False, *ties.to_pylist()]):
        length = len(list(run))
        if tied:
            places[at - 1 : at + length] = _by_content(table.slice(at - 1, length + 1), at - 1)
        at += length
    return table.take(pa.array(places, pa.int64()))


def _as_before(column: pa.ChunkedArray) -> pa.Array:
    """Tell of each row but the first whether it has the value of the row before."""
    values = column.combine_chunks()
    here, before = values[1:], values[:-1]
    return pc.or_(pc.fill_null(pc.equal(here, before), fill_value=False), pc.and_(here.is_null(), before.is_null()))


def _by_content(rows: pa.Table, first: int) -> list[int]:
    columns = [c.cast(pa.int64()) if pa.types.is_timestamp(c.type) else c for c in rows.columns]
    keys = [repr(values) for values in zip(*(c.to_pylist() for c in columns), strict=True)]
    return [first + i for i in sorted(range(len(keys)), key=keys.__getitem__)]


def tidy(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with exactly the table's columns, dtypes and order of rows."""
    return to_frame(from_frame(name, frame))


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a frame's rows as dicts by column name; values are Python's, NA is None."""
    import pandas as pd  # noqa: PLC0415 - as above

    def own(value: Any) -> Any:
        return None if value is pd.NA else value.item() if isinstance(value, np.generic) else value

    names = [str(c) for c in frame.columns]
    columns = [list(map(own, plain(frame.iloc[:, i]))) for i in range(frame.shape[1])]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def plain(column: pd.Series) -> list[Any]:
    """Return a column's values as a list; a string that Arrow holds costs ten times as much to iterate over."""
    values: list[Any] = column.astype(object).tolist()
    return values
