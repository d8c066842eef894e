"""kubectl's output, recorded or live -> logs, job snapshots and comments."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline import loglines, schemas
from pipeline.lake.tables import in_window, union
from pipeline.model import DAY_NS, Entry, PullRecord, Window, instant_of, instant_text, merge, subtract
from pipeline.sources import github, kubectl
from pipeline.sources.kubectl import Dump, Live, Log, Snapshot
from pipeline.steps.context import Context
from pipeline.steps.log_cells import keep_all
from pipeline.steps.told import Told

_NAME = re.compile(r"[a-z0-9-]+")
_SAID = (
    "run_id",
    "repository",
    "job_namespace",
    "job_name",
    "phase",
    "run_status",
    "comment_url",
)  # free text in comments


def logs(ctx: Context, window: Window) -> list[PullRecord]:
    """Read what the dump, or the cluster, has of the deployments' logs."""
    names, redactor = ctx.settings.loki.labels, ctx.redactor()
    found = list(_logs(ctx, window))
    entries = [e for log in found for e in log.entries]
    unstamped = sum(log.unstamped for log in found)
    covered = _covered_by_logs(found, ctx.settings.kubernetes.deployments)
    records = []
    for _, part in window.days():
        inside: list[Entry] = [e for e in entries if e.ts in part]
        table, counts = loglines.to_logs(inside, names, redactor, ctx.catalogue.signatures)
        ctx.tables.replace("logs", part, table, merge=keep_all)
        Told(ctx, keep=True).lines(part)
        proof: dict[str, Any] = {"method": method(ctx), "logs": len(found), "found": dict(counts)}
        proof |= ends(table, "ts") | ({"unstamped": unstamped} if unstamped else {})
        records.append(_record(ctx, "logs", part, table.num_rows, subtract(part, covered), proof))
    return records


def jobs(ctx: Context, window: Window) -> list[PullRecord]:
    """Read job snapshots; what they cover of every kind is complete, and events of an hour cover them all."""
    taken, seen = _snapshots(ctx), listed_events(ctx)
    spans = [[*kubectl.job_windows(taken, k), *events_cover(ctx, seen)] for k in _golden(ctx)]
    table = pa.concat_tables([s.rows for s in taken]) if taken else schemas.empty("job_snapshots")
    table = ctx.redactor().table(table, ("labels", "reason"))
    wide = window.widen(DAY_NS, DAY_NS)
    rows = in_window(table, "job_snapshots", wide)
    ctx.tables.replace("job_snapshots", wide, rows, merge=union(schemas.TABLES["job_snapshots"].key))
    records = []
    for _, part in window.days():
        gaps = merge(g for covered in spans for g in subtract(part, covered))
        shown = sum(1 for s in taken if s.at in part)
        proof = {
            "method": method(ctx),
            "snapshots": shown,
            **ends(in_window(rows, "job_snapshots", part), "snapshot_at"),
        }
        jobs_shown = len(set(rows["uid"].to_pylist()))
        records.append(_record(ctx, "jobs", part, jobs_shown, gaps, proof))
    return records


def comments(ctx: Context, window: Window) -> list[PullRecord]:
    """Read GitHub comments that were saved with the dump."""
    found = Dump(Path(ctx.settings.kubernetes.dump)).comments()
    table, counts = github.issue_runs(found, ctx.settings.github.repository, ctx.settings.github.login)
    return keep_links(ctx, window, found, table, dict(counts) | {"method": "dump"})


def keep_links(
    ctx: Context, window: Window, comments: Collection[Mapping[str, Any]], table: pa.Table, proof: dict[str, Any]
) -> list[PullRecord]:
    """Write links to `issue_runs`, each under the day of its comment, in place of what that comment said before."""
    table = ctx.redactor().table(table, _SAID)
    read = {url for c in comments if isinstance(url := c.get("html_url"), str)}

    def newer(old: pa.Table, new: pa.Table) -> pa.Table:
        keep = [i for i, url in enumerate(old["comment_url"].to_pylist()) if url not in read]
        return pa.concat_tables([old.take(pa.array(keep, pa.int64())), new])

    created = {instant_of(str(c["created_at"])) for c in comments if _is_instant(c.get("created_at"))}
    for day in sorted({t // DAY_NS for t in (*created, *table["ts"].cast(pa.int64()).to_pylist())}):
        part = Window(day * DAY_NS, (day + 1) * DAY_NS)
        ctx.tables.replace("issue_runs", part, in_window(table, "issue_runs", part), merge=newer)
    records = []
    for _, part in window.days():
        rows = in_window(table, "issue_runs", part)
        records.append(_record(ctx, "issues", part, rows.num_rows, [], proof | ends(rows, "ts"), source="github"))
    return records


def _is_instant(value: Any) -> bool:
    try:
        return bool(instant_of(str(value)))
    except ValueError:
        return False


def _snapshots(ctx: Context) -> list[Snapshot]:
    settings = ctx.settings.kubernetes
    taken = Dump(Path(settings.dump)).snapshots(ctx.now) if settings.dump else []
    return taken + (_live(ctx).snapshots() if settings.live else [])


def listed_events(ctx: Context) -> list[pa.Table]:
    """Return the lists of events that the dump holds and the cluster has now. Raises SourceError."""
    settings = ctx.settings.kubernetes
    seen = Dump(Path(settings.dump)).events() if settings.dump else []
    return seen + (_live(ctx).events() if settings.live else [])


def events_cover(ctx: Context, seen: Sequence[pa.Table]) -> list[Window]:
    """Return what events are known completely: an hour before the newest of a saved list, and before now of a live one."""
    live = [kubectl.events_known_at(ctx.now)] if ctx.settings.kubernetes.live else []
    return [*kubectl.event_windows(seen, ctx.now), *live]


def _live(ctx: Context) -> Live:
    return Live(ctx.settings.kubernetes.namespaces, ctx.now, ctx.settings.kubernetes.context)


def _logs(ctx: Context, window: Window) -> Iterator[Log]:
    settings, kinds = ctx.settings.kubernetes, ctx.catalogue.job_kinds
    if settings.dump:
        # a log does not say where it was written: the first namespace that is a name and not a pattern
        namespace = next((n for n in settings.namespaces if _NAME.fullmatch(n)), "")
        yield from Dump(Path(settings.dump)).logs(namespace, kinds)
    if settings.live:
        yield from _live(ctx).logs(settings.deployments, kinds, instant_text(window.start))


def _covered_by_logs(found: Iterable[Log], deployments: Sequence[str]) -> list[Window]:
    """Return where every deployment has a log: each from its first to its last line."""
    known = {log.name: log.window for log in found}
    windows = [w for name in deployments if (w := known.get(name))]
    if not windows or len(windows) < len(deployments):  # an absent or empty log of one hides what it wrote
        return []
    start, end = max(w.start for w in windows), min(w.end for w in windows)
    return [Window(start, end)] if start < end else []


def _golden(ctx: Context) -> list[Any]:
    return [k for k in ctx.catalogue.job_kinds if k.golden]


def method(ctx: Context) -> str:
    """Say how kubectl's output came."""
    return "kubectl" if ctx.settings.kubernetes.live else "kubectl dump"


def ends(table: pa.Table, column: str) -> dict[str, int]:
    """Return the first and the last instant of a column (ns), as proofs hold them."""
    at = [t for t in table[column].cast(pa.int64()).to_pylist() if t is not None]
    return {"first": min(at), "last": max(at)} if at else {}


def _record(
    ctx: Context,
    what: str,
    part: Window,
    rows: int,
    gaps: list[Window],
    proof: dict[str, Any],
    source: str = "kubernetes",
) -> PullRecord:
    shown = {k: v for k, v in proof.items() if not isinstance(v, Counter)}
    record = PullRecord(
        what, source, part, not gaps, rows, tuple(gaps), provisional=part.end > ctx.now, asked_at=ctx.now, proof=shown
    )
    return ctx.records.put(record)
