"""The scheduled job: pull, compute and report a day, and before it the days that were missed."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import DONE, INCOMPLETE, SOURCE, TROUBLE, AislotError, SourceError, worst
from pipeline.model import DAY_NS, Window, instant_text
from pipeline.signals.verdict import LEVELS, with_failed_sources
from pipeline.steps import pull as pulling
from pipeline.steps.compute import Day, compute
from pipeline.steps.context import Context, ns
from pipeline.steps.pull_logs import pull_logs
from pipeline.steps.report import FORMATS, Report, check_wishes, folder_of, write_daily

CATCH_UP = 7
_ENDED = {DONE, INCOMPLETE, TROUBLE}  # exit codes after which a day is not missed


@dataclass(frozen=True)
class DayRun:
    """What one day of the scheduled job came to."""

    report: Report
    pulled: Sequence[pulling.Pulled]
    exit_code: int

    @property
    def errors(self) -> list[AislotError]:
        """What went wrong with the sources."""
        return [p.error for p in self.pulled if p.error is not None]


def days_to_do(ctx: Context, date: dt.date | None, catch_up: int | None) -> list[dt.date]:
    """List the days of this run, oldest first: those missed since the last complete one, and `date` (default: yesterday).

    On a lake without any run only `date`, unless `catch_up` is given. Raises UsageError for a day in the future.
    """
    day = date or ctx.today() - dt.timedelta(days=1)
    ctx.check_day(day)
    ended = {dt.date.fromisoformat(r["date"]): int(r["exit_code"]) in _ENDED for r in ctx.records.runs()}
    before = [day - dt.timedelta(days=n) for n in range(catch_up if catch_up is not None else CATCH_UP, 0, -1)]
    if not ended:
        return [*(before if catch_up else []), day]
    complete = [d for d, whole in ended.items() if whole and d < day]
    since = max(complete) if complete else min(ended) - dt.timedelta(days=1)
    return [*(d for d in before if d > since), day]


def daily(
    ctx: Context,
    days: Sequence[dt.date],
    formats: Collection[str] = FORMATS,
    fail_on: str | None = None,
) -> list[DayRun]:
    """Do each day; a source that fails makes its day grey and lets the others go on. The caller holds the lake's lock.

    Raises UsageError, LakeError, StoppedError.
    """
    check_wishes(ctx, formats)
    _audit(ctx, days[0])
    for date in _restated(ctx, days[0]):
        made = compute(ctx, date)
        if folder_of(ctx, date).is_dir():
            write_daily(ctx, made, formats)
        ctx.say(f"✓ restated {date}: made again after late lines")
    return [_day(ctx, d, formats, fail_on) for d in days]


def _audit(ctx: Context, first: dt.date) -> None:
    """Count the settled days before the first one again and read what came late; a source that fails is named later."""
    settings = ctx.settings.loki
    if not settings.url or settings.audit <= 0:
        return
    day = Window.of_day(first)
    before = Window(day.start - ns(settings.audit) // DAY_NS * DAY_NS, day.start)
    try:
        found = list(pull_logs(ctx, before, known_only=True))
    except SourceError as e:
        ctx.say(f"! audit   earlier days could not be counted again: {e.what}")
        return
    late = sum(r.late for r in found)
    if found:
        gone = sum(r.record.proof["gone_from_server"] for r in found)
        fewer = f", {gone:,} lines no longer on the server" if gone else ""
        ctx.say(f"✓ audit   {len(found)} hours before {first} counted again, {late:,} late lines{fewer}")


def _restated(ctx: Context, first: dt.date) -> list[dt.date]:
    """List the computed days before the first one that late lines changed, and those after them, whose sums hold theirs."""
    marked = [d for d in ctx.records.restated() if d < first]
    return [d for d in ctx.tables.days("golden") if marked and min(marked) <= d < first]


def exit_code(runs: Sequence[DayRun]) -> int:
    """Return the exit code of the whole run."""
    return worst(*(r.exit_code for r in runs))


def fails(verdict: str, fail_on: str | None) -> bool:
    """Tell whether a verdict is as bad as the one that was asked to fail on, or worse."""
    return fail_on is not None and LEVELS.index(verdict) <= LEVELS.index(fail_on)


def _day(ctx: Context, date: dt.date, formats: Collection[str], fail_on: str | None) -> DayRun:
    ctx.say(f"{date} 00:00–24:00 UTC, lake {ctx.store.uri}")
    day = Window.of_day(date)
    pulled = pulling.pull(ctx, Window(day.start, min(day.end, ctx.now)))
    ctx.check_time()
    made = compute(ctx, date)
    failed = [(p.what, p.source, p.error.what) for p in pulled if p.error is not None]
    made = dataclasses.replace(made, verdict=with_failed_sources(made.verdict, failed))
    total = made.totals["all"]
    ctx.say(
        f"✓ compute {total['finished']} finished attempts, {total['failed']} failed, {len(made.incidents)} incidents"
    )
    report = write_daily(ctx, made, formats)
    ctx.say(f"✓ report  {', '.join(p.name for p in report.files)} in {report.folder}")
    for earlier in (d for d in made.restated if folder_of(ctx, d.date).is_dir()):
        again = write_daily(ctx, earlier, formats)
        ctx.say(f"✓ restated {earlier.date}: its report was made again in {again.folder}")
    over = day.end <= ctx.now
    code = worst(
        SOURCE if any(p.error for p in pulled) else DONE,
        DONE if made.complete and over and not _nobody_asked(made) else INCOMPLETE,
        TROUBLE if fails(report.verdict, fail_on) else DONE,
    )
    ctx.records.put_run(_run(ctx, date, report, pulled, code))
    return DayRun(report, pulled, code)


def _nobody_asked(made: Day) -> bool:
    """Tell whether neither jobs nor logs were configured: such a day says nothing, and a scheduler must notice."""
    return any(r["rule"] == "no-source" for r in made.verdict.reasons)


def _run(ctx: Context, date: dt.date, report: Report, pulled: Sequence[pulling.Pulled], code: int) -> Mapping[str, Any]:
    return {
        "date": str(date),
        "exit_code": code,
        "verdict": report.verdict,
        "started_at": instant_text(ctx.now),
        "sources": {p.what: p.error.what if p.error else p.said.strip() for p in pulled},
    }
