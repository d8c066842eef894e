"""What the lake holds: day by day and source by source, how it is known to be complete, and what the last run came to."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import LakeError
from pipeline.model import Coverage, Window, instant_text, merge
from pipeline.report.sections.sources import proof_of
from pipeline.report.text import count
from pipeline.signals import coverage
from pipeline.steps.context import Context, seconds_text
from pipeline.steps.pull import WHAT

_SIGNS = {True: "✓", False: "!", None: "·"}


@dataclass(frozen=True)
class DayStatus:
    """One UTC day of the lake: how each source is known, when its logs were last counted again, its last run."""

    date: dt.date
    sources: tuple[Coverage, ...]
    provisional: bool
    recount: Mapping[str, Any] | None
    restated: bool
    run: Mapping[str, Any] | None

    def to_json(self) -> dict[str, Any]:
        """Return the day as plain JSON."""
        return {
            "date": str(self.date),
            "sources": {c.what: _source(c) for c in self.sources},
            "provisional": self.provisional,
            "recounted": dict(self.recount) if self.recount else None,
            "restated": self.restated,
            "run": dict(self.run) if self.run else None,
        }

    def lines(self) -> Iterator[str]:
        """Write the day for people."""
        run = f"last run ended {self.run['exit_code']}, {self.run['verdict']}" if self.run else "never reported"
        yield f"{self.date}  {run}{'; younger lines still move' if self.provisional else ''}"
        for c in self.sources:
            gaps = merge(c.gaps)
            missing = f"; {seconds_text(sum(g.seconds for g in gaps))} missing" if gaps and c.configured else ""
            rows = count(c.rows) if c.configured else ""
            yield f"  {_SIGNS[c.complete] if c.configured else '–'} {c.what:<7} {rows:>10}  {proof_of(c)}{missing}"
        if self.recount:
            yield f"    counted again {self.recount['at']}: {_again(self.recount)}"
        if self.restated:
            yield "    late lines came: the next daily run makes its tables and its report again"


def status(ctx: Context, days: int) -> list[DayStatus]:
    """Return the last `days` days that were ever asked about, the newest first. Raises LakeError where there are none."""
    known = ctx.records.days()[-days:]
    if not known:
        raise LakeError(f"the lake {ctx.store.uri} is empty", "run: aislot pull")
    runs = {r["date"]: r for r in ctx.records.runs()}
    restated = set(ctx.records.restated())
    found = []
    for date in reversed(known):
        day = Window.of_day(date)
        records = {w: ctx.records.of(w, day) for w in WHAT}
        found.append(
            DayStatus(
                date,
                tuple(coverage.of_day(records, Window(day.start, max(day.start, min(day.end, ctx.now))))),
                any(r.provisional for r in records["logs"]),
                ctx.records.recount("logs", date),
                date in restated,
                runs.get(str(date)),
            )
        )
    return found


def _source(c: Coverage) -> dict[str, Any]:
    gaps = [[instant_text(g.start), instant_text(g.end)] for g in merge(c.gaps)]
    return {
        "source": c.source,
        "configured": c.configured,
        "complete": c.complete,
        "rows": c.rows,
        "gaps": gaps,
        "proof": dict(c.proof),
        "said": str(proof_of(c)) if c.configured else "not configured",
    }


def _again(recount: Mapping[str, Any]) -> str:
    late, gone = int(recount.get("late", 0)), int(recount.get("gone", 0))
    said = [
        f"{count(late)} late lines, read" if late else "",
        f"{count(gone)} lines no longer on the server" if gone else "",
    ]
    return "; ".join(s for s in said if s) or "as before"
