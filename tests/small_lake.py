"""A small lake as pulls leave it, and what a command finds in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from pipeline import catalog, schemas
from pipeline.lake.store import Store
from pipeline.lake.tables import union
from pipeline.model import DAY_NS, NS, PullRecord, Window
from pipeline.settings import Settings
from pipeline.steps.context import Context
from tests.lives import Life, every, samples, scrapes
from tests.tables import DAY, lines, ns, table

RULES = catalog.load()
MIRROR = "codex-k8s-mirror-node-22-5be0c1d4"
RUN = "3f2a9c1e-7b41-4c1d-9a60-52e1c07d8b14"
MANIFEST = "wait kaniko job {}: job failed; logs: error while retrieving image from cache: MANIFEST_UNKNOWN"
SIGNED = {"signatures": ["cache-retrieval", "manifest-unknown"], "run_id": RUN}


def lake(folder: Path | str, now: int | None = None, **more: Any) -> Context:
    """Open a lake as a command at 00:20 of the next day does."""
    return Context(Settings(), RULES, Store(str(folder)), ns("00:20", 1) if now is None else now, print, **more)


def put(ctx: Context, name: str, frame: pd.DataFrame) -> None:
    """Add rows to a table of the lake."""
    rows = schemas.from_frame(name, frame)
    if rows.num_rows:
        first = frame[schemas.TABLES[name].dated_by[0]]
        window = Window(first.min().value // DAY_NS * DAY_NS, first.max().value // DAY_NS * DAY_NS + DAY_NS)
        ctx.tables.replace(
            name, window, rows, merge=union([f.name for f in rows.schema if not pa.types.is_nested(f.type)])
        )


def record(ctx: Context, what: str, window: Window = DAY, *gaps: Window, **more: Any) -> None:
    """Keep a record as a pull of this window does."""
    source = {"logs": "loki", "events": "kubernetes", "issues": "github"}.get(what, "prometheus")
    base: dict[str, Any] = {"source": source, "complete": not gaps, "rows": 1, "asked_at": ctx.now}
    ctx.records.put(PullRecord(**base | {"what": what, "window": window, "gaps": gaps} | more))


def pulled(
    ctx: Context,
    lives: Iterable[Life] = (),
    told: Sequence[dict[str, Any]] = (),
    fired: Sequence[dict[str, Any]] = (),
    day: Window = DAY,
    seen: pd.DataFrame | None = None,
) -> Context:
    """Put into the lake what a pull of a day brings: a scrape every two minutes, up to six minutes after it."""
    asked = Window(day.start - 6 * 3600 * NS, day.end + 360 * NS)
    edges = (pd.Timestamp(t, tz="UTC") for t in (asked.start, asked.end))
    when = every(120, *edges)
    put(ctx, "scrapes", scrapes(when))
    put(ctx, "job_samples", samples(lives, when))
    put(ctx, "logs", lines(*told).reindex(columns=schemas.TABLES["logs"].columns))
    put(ctx, "alerts", table("alerts", *fired))
    put(ctx, "events", table("events") if seen is None else seen)
    record(ctx, "jobs", day, proof={"asked": [asked.start, asked.end]})
    for what in ("logs", "alerts"):
        record(ctx, what, day)
    for what in ("events", "issues"):
        record(ctx, what, day, complete=None, rows=0, proof={"configured": False})
    return ctx


def files(ctx: Context) -> dict[str, bytes]:
    """Return every file of a lake."""
    root = Path(ctx.store.root)
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def rows(ctx: Context, name: str, day: Window = DAY) -> list[dict[str, Any]]:
    """Return what the lake has of a table and a day."""
    return schemas.rows_of(schemas.to_frame(ctx.tables.read(name, day)))


def day(n: int) -> Window:
    """Return the day so many days later."""
    return Window(DAY.start + n * DAY_NS, DAY.end + n * DAY_NS)
