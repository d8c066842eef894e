"""Kubernetes events -> `events`: from kubectl, recorded or live, and from Loki where an agent ships them there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pipeline import schemas
from pipeline.errors import SourceError
from pipeline.lake.tables import in_window, union
from pipeline.model import DAY_NS, NS, PullRecord, Window, merge, subtract
from pipeline.signals import coverage
from pipeline.sources import shipped
from pipeline.sources.loki import whole
from pipeline.steps import pull_logs
from pipeline.steps.context import Context, ns
from pipeline.steps.pull_dump import ends, events_cover, listed_events, method

_KEY = ("uid", "ts", "namespace", "object_name", "reason", "message")
_GRID_NS = 60 * NS
_LIFE_NS = 3600 * NS  # the API server's default --event-ttl: what is shipped is no older


@dataclass(frozen=True)
class _Shipped:
    """What Loki has: events, by day what its lines came to, and where fewer came than it counts."""

    rows: pa.Table = field(default_factory=lambda: schemas.empty("events"))
    counts: dict[int, dict[str, int]] = field(default_factory=dict)
    short: Sequence[Window] = ()


def events(ctx: Context, window: Window) -> list[PullRecord]:
    """Pull Kubernetes events: a kubectl list covers the hour before its newest, what Loki has proves nothing complete.

    Raises SourceError; what kubectl told is then kept.
    """
    settings = ctx.settings
    listed = bool(settings.kubernetes.dump or settings.kubernetes.live)
    seen, found, failure = listed_events(ctx), _Shipped(), None
    if settings.loki.url and settings.loki.events:
        try:
            found = _shipped(ctx, window)
        except SourceError as e:
            failure = e
    table = pa.concat_tables([*seen, found.rows])
    table = ctx.redactor().table(table, ("message", "reason", "type"))
    for _, part in window.widen(_LIFE_NS, 0).days():
        rows = in_window(table, "events", part)
        ctx.tables.replace("events", part, union(_KEY)(rows.slice(0, 0), rows), merge=union(_KEY))
    records = []
    for _, part in window.days() if listed or failure is None else ():
        known = coverage.whole("events", ctx.records.of("events", part))
        gaps = subtract(part, [*events_cover(ctx, seen), *known])
        short = [g for w in found.short if (g := w.intersect(part))]
        rows = in_window(table, "events", part)
        proof: dict[str, Any] = {"method": method(ctx), "lists": len(seen)} if listed else {"method": "Loki"}
        proof |= found.counts.get(part.start // DAY_NS, {}) | ends(rows, "ts")
        records.append(
            PullRecord(
                "events",
                "kubernetes",
                part,
                _complete(gaps, short, proven=not found.counts),
                rows=rows.num_rows,
                gaps=merge([*gaps, *short]),
                provisional=part.end > ctx.now,
                asked_at=ctx.now,
                proof=proof,
            )
        )
        ctx.records.put(records[-1])
    if failure is not None:
        raise failure
    return records


def _complete(gaps: Sequence[Window], short: Sequence[Window], *, proven: bool) -> bool | None:
    """Tell whether a part is complete: where an agent ships events, nobody tells whether it ran all the time."""
    if short or (gaps and proven):
        return False
    return None if gaps else True


def _shipped(ctx: Context, window: Window) -> _Shipped:
    """Read the lines of the agent's streams, and of some time after the window: an event comes later than it is dated."""
    settings = ctx.settings
    (loki,) = pull_logs.clients(ctx, [settings.loki.events])
    until = max(window.end, min(window.end + ns(settings.loki.settle), ctx.now))
    wide = Window(window.start // _GRID_NS * _GRID_NS, -(-until // _GRID_NS) * _GRID_NS)
    found: list[dict[str, Any]] = []
    short: list[Window] = []
    counts = {
        part.start // DAY_NS: dict.fromkeys(("lines", "counted", "others", "elsewhere"), 0) for _, part in window.days()
    }
    for day in wide.cells(DAY_NS):
        ctx.check_time()
        read = whole.read(loki, day, ctx.now)
        made = [e for entry in read.entries if (e := shipped.event_of(entry, settings.loki.labels.namespace))]
        inside = shipped.within(made, settings.kubernetes.namespaces)
        found += inside
        short += read.short
        if (of := counts.get(day.start // DAY_NS)) is not None:
            of |= {"lines": len(read.entries), "counted": read.counted}
            of |= {"others": len(read.entries) - len(made), "elsewhere": len(made) - len(inside)}
    return _Shipped(shipped.table(found), counts, short)
