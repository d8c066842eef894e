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
from pipeline.settings import Secret, Settings
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
_KEY = Secret("one for all lakes, so that what one has can be laid into another")
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


def site(world: World, folder: Path, sources: Collection[str] = ALL, server: MemoryPrometheus | None = None) -> Site:
    """Open the lake of an install that has these sources: of `ALL`, and `snapshots` in place of prometheus.

    The world's Prometheus is made from its series where no other `server` is given.
    """
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
        redaction=replace(settings.redaction, key=_KEY),
    )
    if server is None:
        server = MemoryPrometheus(world.series() if "prometheus" in sources else ())
    return Site(settings, a_day_long(), Store(str(folder / "lake")), world.now, _silent, server=server)


def _silent(_: str) -> None:
    """Say nothing."""


def pull_day(
    ctx: Site, world: World, date: dt.date, sources: Collection[str] = ALL, there: Collection[str] = ()
) -> Site:
    """Pull a day some minutes after its end; what the install has not is recorded as not configured.

    What the sources of `there` tell lies in the lake already.
    """
    asked = _asked(sources)
    ctx = _pulled(ctx, world, date, [what for what in asked if what not in _asked(there)])
    for what in _ASKS.keys() - {*asked}:
        proof = {"configured": False}
        day = Window.of_day(date)
        ctx.records.put(PullRecord(what, SOURCE_OF[what], day, complete=None, asked_at=ctx.now, proof=proof))
    return ctx


def pull_source(ctx: Site, world: World, date: dt.date, source: str) -> Site:
    """Pull of a day what one source tells, and record nothing of the others."""
    return _pulled(ctx, world, date, _asked([source]))


def _asked(sources: Collection[str]) -> list[str]:
    """Return what an install of these sources asks for; events and snapshots stand in for a Prometheus."""
    asked = [what for what, source in _ASKS.items() if source in sources]
    stand_in = "prometheus" not in sources and not {"events", "snapshots"}.isdisjoint(sources)
    return [*asked, "jobs"] if stand_in else asked


def _pulled(ctx: Site, world: World, date: dt.date, asked: Collection[str]) -> Site:
    """Pull of a day what is asked for, as `pull` of the command is told it."""
    day = Window.of_day(date)
    ctx = replace(ctx, now=max(day.end + _SETTLED_NS, ctx.now if ctx.now < day.end else 0))
    pull(ctx, day, [what for what in asked if what != "logs"])
    if "logs" in asked:
        put_lines(ctx, world, [day])
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
