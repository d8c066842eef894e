"""A world's days as pulls leave them in a lake, without any server.

Jobs and alerts are pulled from a Prometheus in memory, events, snapshots and comments from kubectl's files, all by the
pipeline's own steps; lines lie in `logs` as a pull of Loki writes them.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline import catalog, loglines
from pipeline.lake.store import Store
from pipeline.model import NS, Entry, PullRecord, Window
from pipeline.rules import Catalogue
from pipeline.settings import Settings
from pipeline.settings.sections import Address
from pipeline.sources.http import Door
from pipeline.steps.context import Context
from pipeline.steps.log_cells import keep_all
from pipeline.steps.pull import SOURCE_OF, pull
from tests.world import kube
from tests.world.memory import MemoryPrometheus
from tests.world.world import World

ALL = ("prometheus", "logs", "events", "comments")
_ASKS = {"jobs": "prometheus", "alerts": "prometheus", "events": "events", "issues": "comments", "logs": "logs"}
_EVERY_S = 3000.0  # between pulls of events, which live an hour
_SETTLED_NS = 1200 * NS  # so long after a day its pull comes


@dataclass(frozen=True)
class Site(Context):
    """A command's context with a Prometheus in memory behind its door."""

    server: MemoryPrometheus = field(default_factory=lambda: MemoryPrometheus(()))

    def prometheus(self) -> Door:
        """Return the door to Prometheus."""
        return self.server.door()


def a_day_long() -> Catalogue:
    """Return the catalogue with objectives over one day, which a world of a day fills."""
    rules = catalog.load()
    return replace(rules, objectives=[replace(o, window="1d", window_s=86400.0) for o in rules.objectives])


def site(world: World, folder: Path, sources: Collection[str] = ALL) -> Site:
    """Open an empty lake of an install that has these sources: of `ALL`, and `snapshots` in place of prometheus."""
    dump = folder / "dump"
    dump.mkdir(parents=True, exist_ok=True)
    if "events" in sources:
        kube.write_events(dump, world.options, world.platform, _EVERY_S)
    if "snapshots" in sources:
        kube.write_snapshots(dump, world.options, world.platform, 240)
    if "comments" in sources:
        (dump / "comments.json").write_text(json.dumps(world.comments()), encoding="utf-8")
    saved = {"events", "snapshots", "comments"} & {*sources}
    settings = Settings()
    settings = replace(
        settings,
        prometheus=replace(settings.prometheus, url=Address("http://memory" if "prometheus" in sources else "")),
        kubernetes=replace(settings.kubernetes, dump=str(dump) if saved else ""),
    )
    server = MemoryPrometheus(world.series() if "prometheus" in sources else ())
    return Site(settings, a_day_long(), Store(str(folder / "lake")), world.now, _silent, server=server)


def _silent(_: str) -> None:
    """Say nothing."""


def pull_day(ctx: Site, world: World, date: dt.date, sources: Collection[str] = ALL) -> Site:
    """Pull a day some minutes after its end; what the install has not is recorded as not configured."""
    day = Window.of_day(date)
    ctx = replace(ctx, now=max(day.end + _SETTLED_NS, ctx.now if ctx.now < day.end else 0))
    asked = [what for what, source in _ASKS.items() if what != "logs" and source in sources]
    if not {"prometheus"} & {*sources} and {"events", "snapshots"} & {*sources}:
        asked.append("jobs")
    pull(ctx, day, asked)
    if "logs" in sources:
        put_lines(ctx, world, [day])
        asked.append("logs")
    for what in _ASKS.keys() - {*asked}:
        proof = {"configured": False}
        ctx.records.put(PullRecord(what, SOURCE_OF[what], day, complete=None, asked_at=ctx.now, proof=proof))
    return ctx


def put_lines(ctx: Context, world: World, windows: Sequence[Window]) -> None:
    """Write the world's lines of these windows, each with its record."""
    labels: dict[Any, dict[str, str]] = {}
    for window in windows:
        entries = [
            Entry(
                x.at,
                x.text,
                labels.setdefault(x.labels, dict(x.labels)),
                labels.setdefault(x.metadata, dict(x.metadata)),
            )
            for x in world.lines
            if x.at in window
        ]
        rows, _ = loglines.to_logs(entries, ctx.settings.loki.labels, ctx.redactor(), ctx.catalogue.signatures)
        ctx.tables.replace("logs", window, rows, merge=keep_all)
        proof = {"counted": len(entries), "reconciled": len(entries)}
        record = PullRecord("logs", "loki", window, complete=True, rows=len(entries), asked_at=ctx.now, proof=proof)
        ctx.records.put(record)
