"""Loki -> `logs`: an hour at a time, each with its own file and record, so that a killed pull goes on where it was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline import catalog, engine, loglines
from pipeline.lake.records import Records
from pipeline.lake.store import Store
from pipeline.lake.tables import Tables, cell_ns
from pipeline.model import DAY_NS, Entry, PullRecord, Window
from pipeline.redact import Redactor
from pipeline.rules import LabelNames, Signature
from pipeline.sources.loki import STEP_NS, Cell, Loki, read_cell
from pipeline.steps.context import Context, ns

_IDENTITY = ("ts", "labels", "metadata")


@dataclass(frozen=True)
class LogWork:
    """What a unit of work needs, all of it plain values."""

    lokis: Sequence[Loki]
    store: Store
    redactor: Redactor
    names: LabelNames
    signatures: Sequence[Signature]
    now: int
    settled_before: int
    fingerprint: str
    version: str


@dataclass(frozen=True)
class CellResult:
    """What one hour came to."""

    record: PullRecord
    read_again: bool


def work_of(ctx: Context) -> LogWork:
    """Gather what the units need. Raises SourceError where Loki cannot be asked."""
    settings = ctx.settings.loki
    door = ctx.loki()
    queries = ctx.catalogue.queries
    lokis = []
    for text in settings.selectors:
        selector = catalog.Raw(text)
        count = catalog.render(queries["count_lines"], selector=selector, range=catalog.Raw("${range}"))
        lokis.append(Loki(door, catalog.render(queries["fetch_lines"], selector=selector), count))
    return LogWork(
        lokis,
        ctx.store,
        ctx.redactor(),
        settings.labels,
        ctx.catalogue.signatures,
        ctx.now,
        ctx.now - ns(settings.settle),
        # another signature or redaction rule makes other rows of the same lines: they are read again
        catalog.fingerprint(door.endpoint.shown(), settings.tenant, *settings.selectors, *_rules(ctx)),
        lokis[0].version(),
    )


def _rules(ctx: Context) -> list[str]:
    return [repr(r) for r in (*ctx.catalogue.signatures, *ctx.catalogue.redaction)]


def pull_logs(ctx: Context, window: Window) -> Iterator[CellResult]:
    """Pull a window (widened to whole minutes), an hour a unit; hours whose counts have not changed are not read."""
    work = work_of(ctx)
    window = Window(window.start // STEP_NS * STEP_NS, -(-window.end // STEP_NS) * STEP_NS)
    with engine.start(ctx.settings.engine.kind, ctx.settings.loki.workers) as workers:
        for day in window.cells(DAY_NS):
            counts = [loki.counts(day) for loki in work.lokis]
            units = [
                (
                    work,
                    cell,
                    [c[(cell.start - day.start) // STEP_NS : (cell.end - day.start) // STEP_NS] for c in counts],
                )
                for cell in day.cells(cell_ns("logs"))
            ]
            for result in engine.each(workers, pull_cell, units):
                ctx.check_time()
                yield result


def pull_cell(work: LogWork, window: Window, counted: Sequence[Sequence[int]]) -> CellResult:
    """Bring one hour of the lake up to what the server counts, and record how it is known.

    An hour that is settled and whose every minute the server counts as it did is not read again; where the server has
    fewer lines than it had (retention), the lake keeps them and the record says so.
    """
    records = Records(work.store)
    known = [r for r in records.of("logs", window) if r.window == window and r.fingerprint == work.fingerprint]
    before = known[-1] if known else None
    # the record speaks of the rows it was written with: where the lake has lost some, they are read again
    whole = before is not None and _rows(work, window) >= before.rows
    if before and whole and not before.provisional and before.complete and not _grew(before, counted):
        record = _again(before, counted, work.now)
        records.put(record)
        return CellResult(record, read_again=False)
    cells = [read_cell(loki, window, c) for loki, c in zip(work.lokis, counted, strict=True)]
    table, found = loglines.to_logs(_once(cells), work.names, work.redactor, work.signatures)
    Tables(work.store).replace("logs", window, table, merge=keep_all)
    record = _record(work, window, cells, found, table)
    records.put(record)
    return CellResult(record, read_again=True)


def _rows(work: LogWork, window: Window) -> int:
    return int(Tables(work.store).read("logs", window, ["ts"]).num_rows)


def keep_all(old: pa.Table, new: pa.Table) -> pa.Table:
    """Merge what the lake has with what the server gave now, losing neither.

    Rows of one instant, stream and metadata are replaced as a group by the server's, unless the server has fewer.
    Grouped so, because a new redaction rule or signature changes the text of a row that is the same entry.
    """
    fresh, kept = _groups(new), _groups(old)
    take_old = [i for k, rows in kept.items() if len(rows) > len(fresh.get(k, ())) for i in rows]
    take_new = [i for k, rows in fresh.items() if len(rows) >= len(kept.get(k, ())) for i in rows]
    return pa.concat_tables([old.take(pa.array(take_old, pa.int64())), new.take(pa.array(take_new, pa.int64()))])


def _groups(rows: pa.Table) -> dict[Any, list[int]]:
    groups: dict[Any, list[int]] = {}
    columns = (rows["ts"].cast(pa.int64()).to_pylist(), rows["labels"].to_pylist(), rows["metadata"].to_pylist())
    for i, (ts, labels, metadata) in enumerate(zip(*columns, strict=True)):
        groups.setdefault((ts, tuple(labels or ()), tuple(metadata or ())), []).append(i)
    return groups


def _grew(before: PullRecord, counted: Sequence[Sequence[int]]) -> bool:
    """Tell whether any minute has more lines than when it was read."""
    was = before.proof["counted"]
    return len(was) != len(counted) or any(
        len(a) != len(b) or any(now > then for now, then in zip(b, a, strict=True))
        for a, b in zip(was, counted, strict=True)
    )


def _again(before: PullRecord, counted: Sequence[Sequence[int]], now: int) -> PullRecord:
    """Record that the hour was counted again and still stands."""
    gone = sum(map(sum, before.proof["counted"])) - sum(map(sum, counted))
    proof = {**before.proof, "gone_from_server": gone} if gone else dict(before.proof)
    data = before.to_json() | {"asked_at": now, "proof": proof}
    return PullRecord.from_json(data)


def _once(cells: Sequence[Cell]) -> list[Entry]:
    """Join the entries of several selectors; a stream that two of them choose is one."""
    if len(cells) == 1:
        return list(cells[0].entries)
    seen: dict[Any, Entry] = {}
    for e in (e for c in cells for e in c.entries):
        seen.setdefault((e.ts, e.line, tuple(sorted(e.labels.items())), tuple(sorted(e.metadata.items()))), e)
    return sorted(seen.values(), key=lambda e: e.ts)


def _record(work: LogWork, window: Window, cells: Sequence[Cell], found: Counter[str], table: pa.Table) -> PullRecord:
    short = sorted({i for c in cells for i in c.short})
    gaps = [Window(window.start + i * STEP_NS, window.start + (i + 1) * STEP_NS) for i in short]
    ends = table["ts"].cast(pa.int64()).to_pylist() if table.num_rows else []
    proof = {
        "method": "count by minute, fetch, reconcile",
        "counted": [list(c.counted) for c in cells],
        "reconciled": sum(sum(c.counted) for c in cells) - sum(c.counted[i] for c in cells for i in c.short),
        "short": {
            str(i): [sum(c.rows[i] for c in cells), sum(c.counted[i] for c in cells)] for i in short
        },  # minute: rows that came, rows counted
        "explained": sum(c.explained for c in cells),
        "requests": sum(c.requests for c in cells),
        "recounted": sum(c.recounted for c in cells),
        "causes": dict(sum((Counter(c.causes) for c in cells), Counter())),
        "found": dict(found),
        "first": min(ends, default=None),
        "last": max(ends, default=None),
        "version": work.version,
    }
    return PullRecord(
        "logs",
        "loki",
        window,
        complete=not short,
        rows=table.num_rows,
        gaps=gaps,
        provisional=window.end > work.settled_before,
        asked_at=work.now,
        fingerprint=work.fingerprint,
        proof=proof,
    )
