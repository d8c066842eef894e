"""From a figure of a daily report to what it rests on: its definition, the queries of its sources, the rows it counts."""

from __future__ import annotations

import datetime as dt
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline import catalog
from pipeline.errors import UsageError
from pipeline.model import Window
from pipeline.report.data import ReportData, records
from pipeline.report.figures import STEP, rule_lines
from pipeline.report.view import daily_view
from pipeline.steps.compute import derive
from pipeline.steps.context import Context
from pipeline.steps.report import report_data

_ATTEMPT = ["created_at", "kind", "namespace", "job_name", "attempt", "run_id", "started_at", "ended_at", "outcome"]
_ATTEMPT += ["outcome_source", "duration_s", "linked_by"]
_LINE = ["ts", "app", "level", "job", "signatures", "line"]
_HEALTH = ("build", "mirror")
_ENDED = ("succeeded", "failed")
_MOST, _WIDE = 50, 160  # rows, and characters of a value, that people are shown


@dataclass(frozen=True)
class Explained:
    """A figure: what it is, how it is counted, the queries that brought its rows, and these by table."""

    id: str
    what: str
    definition: str
    queries: Mapping[str, str]
    tables: Mapping[str, pd.DataFrame]


def explain(ctx: Context, date: dt.date, figure: str) -> Explained:
    """Explain a figure of a day's report by its id. Raises UsageError for an id that the report does not have, LakeError."""
    ctx.check_day(date)
    return explained(ctx, report_data(ctx, derive(ctx, date)), figure)


def explained(ctx: Context, data: ReportData, figure: str) -> Explained:
    """Explain a figure of a day by its id. Raises UsageError for an id that its report does not have."""
    known = ids(data)
    if figure not in known:
        near = [k for k in known if k.startswith(figure.partition("-")[0] + "-")][:5]
        raise UsageError(
            f"the report of {data.date} has no figure {figure!r}",
            f"its ids are in the page, such as {', '.join(near or known[:5])}",
        )
    head = _head(figure)
    queries = {name: ctx.catalogue.queries[name] for name in head["queries"] if name in ctx.catalogue.queries}
    return Explained(figure, head["what"], head["definition"], queries, _tables(ctx, data, figure))


def ids(data: ReportData) -> list[str]:
    """Return the ids of a day's figures, in the order of the page."""
    view = daily_view(data)
    parts = ("data", "signals", "stream", "shares", "objectives", "audit")
    rows = [r["id"] for p in parts for r in view[p].get("rows", ())]
    rows += [r["id"] for r in (*view["failed"]["attempts"], *view["failed"]["rest"])]
    rows += [
        r["id"]
        for name, part in (("breaches", "stream"), ("lines", "shares"), ("incidents", "objectives"))
        for r in view[part].get(name) or ()
    ]
    return rows


def _head(figure: str) -> Mapping[str, Any]:
    heads = tomllib.loads((catalog.data_dir("reports") / "figures.toml").read_text(encoding="utf-8"))
    fitting = [k for k in heads if figure == k or figure.startswith(k)]
    found: Mapping[str, Any] = heads[max(fitting, key=len)]
    return found


def _tables(ctx: Context, data: ReportData, figure: str) -> dict[str, pd.DataFrame]:
    kind, _, name = figure.partition("-")
    tables = {
        "data": _source,
        "signals": _signal,
        "f": _failure,
        "i": _incident,
        "slo": _objective,
        "stream": _stream,
        "breach": _breach,
        "share": _share,
        "t": _template,
        "alert": _alert,
    }
    return tables[kind](ctx, data, figure if kind in {"f", "i", "t"} else name)


def _source(ctx: Context, data: ReportData, what: str) -> dict[str, pd.DataFrame]:
    found = [
        {"source": r.source, "start": r.window.start, "end": r.window.end, "complete": r.complete, "rows": r.rows}
        | {"gaps": [str(g) for g in r.gaps], "asked_at": r.asked_at}
        for r in ctx.records.of(what, data.window)
    ]
    frame = pd.DataFrame(found)
    for c in ("start", "end", "asked_at"):
        if c in frame:
            frame[c] = pd.to_datetime(frame[c], utc=True)
    return {"records of pulls": frame}


def _signal(_ctx: Context, data: ReportData, name: str) -> dict[str, pd.DataFrame]:
    of_day = {"traffic": _traffic, "errors": _errors, "latency": _latency, "backlog": _busiest}
    if name in of_day:
        return {"attempts": of_day[name](data)}
    if name == "queue":
        return {"golden": data.golden[data.golden["queue_max"].notna()]}
    rule = next((e for e in data.expected if e["alert"] == name), None)
    if rule is not None and rule["measure"] == "signature_lines":
        return {"logs": rule_lines(data, rule)[_LINE]}
    kinds = [name] if rule is None else list(rule["kinds"]) or list(data.attempts["kind"].unique())
    return {"attempts": _finished(data.attempts[data.attempts["kind"].isin(kinds)], data.window)}


def _traffic(data: ReportData) -> pd.DataFrame:
    health = data.attempts[data.attempts["kind"].isin(_HEALTH)]
    return health.loc[_inside(health["started_at"], data.window), _ATTEMPT]


def _errors(data: ReportData) -> pd.DataFrame:
    return _finished(data.attempts[data.attempts["kind"].isin(_HEALTH)], data.window)


def _latency(data: ReportData) -> pd.DataFrame:
    done = data.attempts[(data.attempts["kind"] == "build") & (data.attempts["outcome"] == "succeeded")]
    mine = done.loc[_inside(done["ended_at"], data.window), _ATTEMPT]
    return mine.sort_values("duration_s", ascending=False)


def _inside(instants: pd.Series, window: Window) -> pd.Series:
    return (instants >= pd.Timestamp(window.start, tz="UTC")) & (instants < pd.Timestamp(window.end, tz="UTC"))


def _finished(attempts: pd.DataFrame, window: Window) -> pd.DataFrame:
    """Return the attempts that ended in a window, those that failed first."""
    ended = attempts[attempts["outcome"].isin(_ENDED) & _inside(attempts["ended_at"], window)]
    return ended[_ATTEMPT].sort_values(["outcome", "ended_at"])


def _busiest(data: ReportData) -> pd.DataFrame:
    rows = data.golden[(data.golden["window"] == "15m") & (data.golden["kind"] == "all")]
    known = rows[rows["backlog_max"].notna()]
    if known.empty:
        return data.attempts.loc[[], _ATTEMPT]
    start = known.sort_values(["backlog_max", "window_start"], ascending=[False, True])["window_start"].iloc[0]
    a, kinds = data.attempts, [k for k in data.totals if k != "all"]
    over = a["ended_at"].fillna(a["last_seen_at"])
    alive = (a["created_at"] < start + pd.Timedelta(STEP, "ns")) & ~(over <= start) & a["kind"].isin(kinds)
    at_once: pd.DataFrame = a.loc[alive, _ATTEMPT]
    return at_once


def _failure(_ctx: Context, data: ReportData, figure: str) -> dict[str, pd.DataFrame]:
    rows = data.failures[data.failures["failure_id"] == figure]
    f = rows.iloc[0]
    a = data.attempts
    mine = a[(a["namespace"] == f["namespace"]) & (a["job_name"] == f["job_name"]) & (a["attempt"] == f["attempt"])]
    lines = data.lines[data.lines["attempt_index"].isin(mine.index)]
    if mine.empty:
        lines = data.lines[data.lines["run_id"] == f["run_id"]]
    return {"failures": rows, "attempts": mine[_ATTEMPT], "logs": lines[_LINE]}


def _incident(_ctx: Context, data: ReportData, figure: str) -> dict[str, pd.DataFrame]:
    rows = data.incidents[data.incidents["incident_id"] == figure]
    i = rows.iloc[0]
    f = data.failures[data.failures["class"] == i["class"]]
    end = i["ended_at"] if pd.notna(i["ended_at"]) else pd.Timestamp(data.window.end, tz="UTC")
    return {"incidents": rows, "failures": f[(f["failed_at"] >= i["started_at"]) & (f["failed_at"] <= end)]}


def _objective(_ctx: Context, data: ReportData, name: str) -> dict[str, pd.DataFrame]:
    rows = data.slo[data.slo["slo"] == name]
    rule = next((o for o in data.objectives if o.name == name), None)
    if rule is None or rule.limit_s is not None:
        return {"slo": rows, "incidents": data.incidents}
    of_day = data.attempts[data.attempts["kind"].isin(list(rule.kinds))]
    return {"slo": rows, "attempts of the day": _finished(of_day, data.window)}


def _stream(_ctx: Context, data: ReportData, name: str) -> dict[str, pd.DataFrame]:
    lines = data.lines
    if name == "other":
        bare = lines["signatures"].map(len) == 0
        return {"logs": lines.loc[bare & lines["level"].isin(["WARN", "ERROR", "FATAL"]), _LINE]}
    return {"logs": lines.loc[[name in s for s in lines["signatures"]], _LINE]}


def _breach(_ctx: Context, data: ReportData, name: str) -> dict[str, pd.DataFrame]:
    return {"level_breaches": data.level_breaches.iloc[[int(name) - 1]]}


def _share(_ctx: Context, data: ReportData, name: str) -> dict[str, pd.DataFrame]:
    return {"shares": data.shares[data.shares["rank"] == int(name)]}


def _template(_ctx: Context, data: ReportData, figure: str) -> dict[str, pd.DataFrame]:
    template, _, kind = figure.rpartition("@")
    rows = data.ledger[(data.ledger["id"] == template) & (data.ledger["kind"] == kind)]
    return {"ledger": rows}


def _alert(_ctx: Context, data: ReportData, name: str) -> dict[str, pd.DataFrame]:
    row = data.alert_audit.iloc[[int(name) - 1]]
    alert = row["alert"].iloc[0]
    counted = (
        _signal(_ctx, data, str(alert))
        if any(e["alert"] == alert and e["measure"] != "recovery" for e in data.expected)
        else {}
    )
    return {"alert_audit": row, "alerts": data.alerts[data.alerts["alert"] == alert], **counted}


def as_json(found: Explained) -> dict[str, Any]:
    """Return an explanation as plain JSON."""
    return {
        "id": found.id,
        "what": found.what,
        "definition": found.definition,
        "queries": dict(found.queries),
        "tables": {name: records(frame) for name, frame in found.tables.items()},
    }


def lines(found: Explained) -> Iterator[str]:
    """Write an explanation for people; of many rows the first."""
    yield f"{found.id}: {found.what}"
    yield f"  {found.definition}"
    for name, query in found.queries.items():
        yield f"query {name}"
        yield from (f"  {line}" for line in query.strip().splitlines())
    for name, frame in found.tables.items():
        yield f"{name}: {len(frame):,} row{'' if len(frame) == 1 else 's'}" + (
            f", the first {_MOST}" if len(frame) > _MOST else ""
        )
        for row in records(frame.head(_MOST)):
            yield "  " + "  ".join(f"{k}={_short(v)}" for k, v in row.items() if v is not None)


def _short(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= _WIDE else f"{text[: _WIDE - 1]}…"
