"""Loki -> `logs`. Each hour has its own file and record, so that a pull that was stopped or killed goes on where it was."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline import catalog, engine, loglines
from pipeline.lake.tables import cell_ns
from pipeline.model import DAY_NS, NS, Window, merge
from pipeline.sources.loki.client import STEP_NS, Loki, Texts, narrowed
from pipeline.steps.context import Context
from pipeline.steps.log_counts import Hour
from pipeline.steps.log_days import CellResult, DayOfLogs, LogSource

_GRID_NS = 60 * NS


def clients(ctx: Context, selectors: Sequence[str]) -> list[Loki]:
    """Return what asks Loki about each of these selectors. Raises UsageError."""
    door, queries = ctx.loki(), ctx.catalogue.queries
    blank = {name: catalog.Raw(f"${{{name}}}") for name in ("selector", "range", "label", "at")}

    def text(query: str, *names: str) -> str:
        return catalog.render(queries[query], **{n: blank[n] for n in names})

    texts = Texts(
        fetch=text("fetch_lines", "selector"),
        count=text("count_lines", "selector", "range"),
        count_by_app=text("count_by_app", "selector", "range", "label"),
        count_instant=text("count_instant", "selector", "at"),
        lines_counted=text("lines_counted", "selector", "range", "at"),
    )
    # always true, and another text in each run: Loki keeps empty answers, and heeds `no-cache` only for counts of an instant
    new = f'__aislot__!="{ctx.now}"'
    return [Loki(door, texts, narrowed(s.strip(), new), ctx.settings.loki.labels.app) for s in selectors]


def source_of(ctx: Context) -> LogSource:
    """Gather what is asked of Loki. Raises SourceError where it cannot be."""
    settings = ctx.settings.loki
    lokis = clients(ctx, settings.selectors)
    limits = lokis[0].limits()
    rules = [repr(r) for r in (*ctx.catalogue.signatures, *ctx.catalogue.redaction, settings.labels)]
    # another signature, redaction rule or label makes other rows of the same lines: they are read again
    fingerprint = catalog.fingerprint(lokis[0].door.endpoint.shown(), settings.tenant, *settings.selectors, *rules)
    return LogSource(lokis, limits, limits.version or lokis[0].version(), fingerprint)


def pull_logs(ctx: Context, window: Window, *, known_only: bool = False) -> Iterator[CellResult]:
    """Pull a window, widened to whole minutes; hours whose counts have not changed are not read again.

    `known_only`: hours that were never pulled, or under other rules, are left alone. Raises SourceError, LakeError,
    StoppedError.
    """
    source = source_of(ctx)
    window = Window(window.start // _GRID_NS * _GRID_NS, -(-window.end // _GRID_NS) * _GRID_NS)
    rows = loglines.LogRows(ctx.settings.loki.labels, ctx.redactor(), ctx.catalogue.signatures)
    with engine.start(ctx.settings.engine.kind, ctx.settings.loki.workers) as workers:
        for day in window.cells(DAY_NS):
            hours = [_known(ctx, source, w) for w in day.cells(cell_ns("logs"))]
            if known_only:
                hours = [h for h in hours if h.before]
            for part in merge(h.window for h in hours):
                yield from DayOfLogs(
                    ctx, source, part, [h for h in hours if part.covers(h.window)], workers, rows
                ).pull()


def _known(ctx: Context, source: LogSource, window: Window) -> Hour:
    """Return an hour with the last record that can be compared with: of the same window, streams and rules."""
    records = [r for r in ctx.records.of("logs", window) if r.window == window and r.fingerprint == source.fingerprint]
    usable = [r for r in records if _comparable(r.proof, window.length // STEP_NS)]
    return Hour(window, usable[-1] if usable else None)


def _comparable(proof: Mapping[str, Any], length: int) -> bool:
    """Tell whether a record has all that a later pull compares with; one that is damaged is as none."""
    keys = ("counted", "at_start", "at_end", "explained", "others", "gone_from_server", "late")
    numbers = [proof.get(key) for key in keys]
    steps, found = proof.get("steps"), proof.get("found")
    if not isinstance(steps, dict) or not isinstance(found, dict):
        return False
    counts = [n if isinstance(n, list) and len(n) == length else [None] for n in steps.values()]
    return all(isinstance(n, int) for n in [*numbers, *found.values(), *itertools.chain(*counts)])
