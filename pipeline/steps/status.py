"""What the lake holds: day by day and source by source, how it is known to be complete, and what the last run came to."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pipeline.errors import LakeError
from pipeline.model import Coverage, Window, instant_text, merge
from pipeline.report.sections.sources import proof_of
from pipeline.report.text import count
from pipeline.signals import coverage
from pipeline.steps.context import Context
from pipeline.steps.pull import WHAT, configured, missing
from pipeline.steps.vocabulary import words

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
            rows = count(c.rows) if c.configured else ""
            sign, proof = _SIGNS[c.complete] if c.configured else "–", proof_of(words("en"), c)
            yield f"  {sign} {c.what:<7} {rows:>10}  {proof}{_where(c)}"
        if self.recount:
            yield f"    counted again {self.recount['at'][:19]}Z: {_again(self.recount)}"
        if self.restated:
            yield "    late lines came: the next daily run makes its tables and its report again"


def status(ctx: Context, days: int) -> list[DayStatus]:
    """Return the last `days` days that were ever asked about, the newest first. Raises LakeError where there are none."""
    known = ctx.records.days()[-days:]
    if not known:
        raise LakeError(f"the lake {ctx.store.uri} is empty", "run: aislot pull")
    told = {what for what in WHAT if configured(ctx, what)}
    runs = {r["date"]: r for r in ctx.records.runs()}
    restated = set(ctx.records.restated())
    found = []
    for date in reversed(known):
        day = Window.of_day(date)
        records = {w: ctx.records.of(w, day) for w in WHAT}
        known_until = Window(day.start, max(day.start, min(day.end, ctx.now)))
        of_day = coverage.of_day(records, known_until)
        found.append(
            DayStatus(
                date,
                tuple(c if records[c.what] or c.what in told else _not_configured(c) for c in of_day),
                any(r.provisional for r in records["logs"]),
                ctx.records.recount("logs", date),
                date in restated,
                runs.get(str(date)),
            )
        )
    return found


def _not_configured(c: Coverage) -> Coverage:
    """Return a source of which nobody was asked and nobody will be."""
    return replace(c, configured=False, complete=None, gaps=())


def _source(c: Coverage) -> dict[str, Any]:
    gaps = [[instant_text(g.start), instant_text(g.end)] for g in merge(c.gaps)]
    return {
        "source": c.source,
        "configured": c.configured,
        "complete": c.complete,
        "rows": c.rows,
        "gaps": gaps,
        "proof": dict(c.proof),
        "said": str(proof_of(words("en"), c)) if c.configured else "not configured",
    }


def _where(c: Coverage) -> str:
    return missing("; ", c.gaps) if c.configured else ""


def _again(recount: Mapping[str, Any]) -> str:
    late, gone = int(recount.get("late", 0)), int(recount.get("gone", 0))
    said = [
        f"{words('en').counted(late, 'late line')}, read" if late else "",
        f"{words('en').counted(gone, 'line')} no longer on the server" if gone else "",
    ]
    return "; ".join(s for s in said if s) or "as before"
