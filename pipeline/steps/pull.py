"""Sources -> lake. Each source stands alone: one that fails leaves a record of that and lets the others go on."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import AislotError, SourceError, UsageError, worst
from pipeline.lake.records import Records
from pipeline.model import PullRecord, Window, day_of, instant_text, merge, subtract
from pipeline.settings import Settings
from pipeline.steps.context import Context, seconds_text, shown

_NAMED = 3
WHAT = ("jobs", "alerts", "events", "issues", "logs")
SOURCE_OF = {"logs": "loki", "jobs": "prometheus", "alerts": "prometheus", "events": "kubernetes", "issues": "github"}


@dataclass(frozen=True)
class Pulled:
    """What one question came to, for people and for the exit code."""

    what: str
    source: str
    complete: bool | None
    rows: int
    said: str
    error: AislotError | None = None

    @property
    def exit_code(self) -> int:
        """Return the exit code that this question alone would give."""
        if self.error is not None:
            return self.error.exit_code
        return 4 if self.complete is False else 0


def pull(ctx: Context, window: Window, what: Collection[str] = WHAT) -> list[Pulled]:
    """Pull a window from every source that is configured; the lake's lock is held by the caller.

    Raises UsageError for a word that names no table's source, LakeError, StoppedError.
    """
    unknown = sorted(set(what) - set(WHAT))
    if unknown:
        raise UsageError(f"{unknown[0]!r} cannot be pulled", f"name any of {', '.join(sorted(WHAT))}")
    ctx.records.stamp(ctx.written_by)
    ctx.say(f"{instant_text(window.start)} to {instant_text(window.end)}, lake {ctx.store.uri}")
    results = []
    asked = [w for w in WHAT if w in what]
    if ctx.remaining_s is not None:
        asked.sort(key=lambda word: _turn(ctx.records, word, window))
    for word in asked:
        ctx.check_time()
        began, retries = time.monotonic(), Counter(ctx.retries)
        result = _one(ctx, word, window)
        sign = "✕" if result.error else "!" if result.complete is False else "✓" if result.complete else "-"
        again = ctx.retries - retries
        retried = f"; {again.total()} asked again: {shown(again)}" if again else ""
        ctx.say(f"{sign} {word:<7} {result.said}  {seconds_text(time.monotonic() - began)}{retried}")
        results.append(result)
    if not any_source(ctx):
        ctx.say("! no source is configured: set loki.url, prometheus.url, kubernetes.dump or github.repository")
    return results


def any_source(ctx: Context) -> bool:
    """Tell whether there is any source at all that may be asked."""
    return any(configured(ctx, word) for word in WHAT)


def _turn(records: Records, what: str, window: Window) -> tuple[int, bool]:
    """Order by when the whole window was last asked about, logs first: where time is short each run gets further."""
    found = records.of(what, window)
    whole = not subtract(window, [r.window for r in found])
    return max((r.asked_at for r in found), default=0) if whole else 0, what != "logs"


def exit_code(results: Iterable[Pulled]) -> int:
    """Return the exit code of several pulls: the worst."""
    return worst(*(r.exit_code for r in results))


def _one(ctx: Context, what: str, window: Window) -> Pulled:
    sources = configured(ctx, what)
    if not sources:
        _not_configured(ctx.records, what, window, ctx.now)
        return Pulled(what, SOURCE_OF[what], None, 0, "not configured")
    records: list[PullRecord] = []
    failure: SourceError | None = None
    for source, ask in sources:
        try:
            records += ask(ctx, window)
        except SourceError as e:
            e.what = ctx.redactor().text(e.what)[0]  # a server's own words, which are kept and shown
            _failed(ctx.records, what, source, window, ctx.now, e)
            failure = e
    source = sources[0][0]
    if failure is not None:
        return Pulled(what, source, False, sum(r.rows for r in records), failure.what, failure)
    complete = None if any(r.complete is None for r in records) else all(r.complete for r in records)
    return Pulled(what, source, complete, sum(r.rows for r in records), _summary(ctx, what, records))


Ask = Callable[[Context, Window], Sequence[PullRecord]]


def configured(ctx: Context, what: str) -> list[tuple[str, Ask]]:
    """List who answers: kubectl stands in for Loki and Prometheus; its events and comments count beside all others.

    Events are one question, whoever tells them: what is known of them is kept under one name.
    """
    settings = ctx.settings
    dump = settings.kubernetes.dump
    kube = bool(dump or settings.kubernetes.live)
    servers: dict[str, tuple[str, tuple[str, Ask]]] = {
        "logs": (settings.loki.url, ("loki", _logs)),
        "jobs": (settings.prometheus.url, ("prometheus", _prometheus("jobs"))),
        "alerts": _alerts_of(settings),
        "issues": (settings.github.repository, ("github", _issues)),
    }
    address, asked = servers.get(what, ("", None))
    if what == "events":
        return [("kubernetes", _events)] if kube or (settings.loki.url and settings.loki.events) else []
    stand_in = kube and what in {"logs", "jobs"}
    chosen = [asked] if address and asked else [("kubernetes", _kubectl(what))] if stand_in else []
    saved = what == "issues" and dump and any(Path(dump).glob("comments*.json"))
    return chosen + ([("github", _kubectl("comments"))] if saved else [])


def _alerts_of(settings: Settings) -> tuple[str, tuple[str, Ask]]:
    """Return who tells what fired: Alertmanager beside Prometheus is one question with it."""
    source = "prometheus" if settings.prometheus.url or not settings.alertmanager.url else "alertmanager"
    ask = _alertmanager if settings.alertmanager.url else _prometheus("alerts")
    return settings.prometheus.url or settings.alertmanager.url, (source, ask)


# Each source is loaded when it is asked: a pull of logs, the most frequent one, needs no pandas.


def _prometheus(what: str) -> Ask:
    def ask(ctx: Context, window: Window) -> Sequence[PullRecord]:
        from pipeline.steps import pull_prometheus

        return pull_prometheus.jobs(ctx, window) if what == "jobs" else pull_prometheus.alerts(ctx, window)

    return ask


def _alertmanager(ctx: Context, window: Window) -> Sequence[PullRecord]:
    from pipeline.steps import pull_alertmanager

    return pull_alertmanager.alerts(ctx, window)


def _kubectl(what: str) -> Ask:
    def ask(ctx: Context, window: Window) -> Sequence[PullRecord]:
        from pipeline.steps import pull_dump as kubectl

        asks = {"logs": kubectl.logs, "jobs": kubectl.jobs, "comments": kubectl.comments}
        return asks[what](ctx, window)

    return ask


def _events(ctx: Context, window: Window) -> Sequence[PullRecord]:
    from pipeline.steps import pull_events

    return pull_events.events(ctx, window)


def _issues(ctx: Context, window: Window) -> Sequence[PullRecord]:
    from pipeline.steps import pull_github

    return pull_github.issues(ctx, window)


def _logs(ctx: Context, window: Window) -> list[PullRecord]:
    from pipeline.steps import pull_logs

    records, again = [], 0
    for result in pull_logs.pull_logs(ctx, window):
        records.append(result.record)
        again += result.read_again
        ctx.say(f"… logs    {len(records)} h, {sum(r.rows for r in records):,} lines, {again} h read")
    return records


def _summary(ctx: Context, what: str, records: Sequence[PullRecord]) -> str:
    rows = sum(r.rows for r in records)
    sampled = any(r.source == "prometheus" for r in records)
    jobs = "samples" if sampled else "jobs"
    unit = {"logs": "lines", "jobs": jobs, "alerts": "intervals", "events": "events", "issues": "links"}[what]
    text = f"{rows:>9,} {unit}"
    if what == "logs" and any("counted" in r.proof for r in records):
        counted = sum(r.proof.get("counted", 0) for r in records)
        text += f"   {sum(r.proof.get('reconciled', 0) for r in records):,} of {counted:,} counted by Loki"
        text += "".join(_recounted(ctx, records))
    if what == "events":
        text += _shipped(records)
    if what == "alerts" and any("listed" in r.proof for r in records):
        listed, suppressed = (records[-1].proof[key] for key in ("listed", "suppressed"))
        text += f"   {listed} listed by Alertmanager now" + (
            f", {suppressed} silenced or inhibited" if suppressed else ""
        )
    if what == "jobs":
        scrapes = Counter[str]()
        for r in records:
            scrapes.update({k: int(r.proof[k]) for k in ("scrapes", "expected") if r.proof.get(k) is not None})
        text += f"   {scrapes['scrapes']:,} of {scrapes['expected']:,} scrapes" if scrapes else ""
        queue = [r.proof["queue"] for r in records if "queue" in r.proof]
        text += f"; {sum(queue):,} samples of the queue" if any(queue) else ""
        text += "; no sample of the queue: check prometheus.queue_query" if queue and not any(queue) else ""
    return text + missing("; incomplete: ", [g for r in records if r.complete is not None for g in r.gaps])


def _shipped(records: Sequence[PullRecord]) -> str:
    """Say what the lines were that an agent shipped to Loki, where one does."""
    of = {key: sum(r.proof.get(key, 0) for r in records) for key in ("lines", "counted", "others", "elsewhere")}
    if not any("counted" in r.proof for r in records):
        return ""
    text = f"   {of['lines']:,} lines of {of['counted']:,} counted by Loki"
    text += f"; {of['others']:,} are no events" if of["others"] else ""
    return text + (f"; {of['elsewhere']:,} of other namespaces" if of["elsewhere"] else "")


def missing(lead: str, gaps: Sequence[Window]) -> str:
    """Say how much is missing, and where the first parts of that are; nothing where nothing is."""
    found = merge(gaps)
    if not found:
        return ""
    named = ", ".join(f"{instant_text(g.start)[:19]}Z to {instant_text(g.end)[:19]}Z" for g in found[:_NAMED])
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return f"{lead}{seconds_text(sum(g.seconds for g in found))} missing: {named}{more}"


def _recounted(ctx: Context, records: Sequence[PullRecord]) -> Iterator[str]:
    """Say what a recount of hours that were known has shown."""
    days = sorted({day_of(r.window.start) for r in records})
    facts = [f for d in days if (f := ctx.records.recount("logs", d)) and f["at"] == instant_text(ctx.now)]
    late, gone = (sum(int(f[key]) for f in facts) for key in ("late", "gone"))
    yield f"; {late:,} late, read" if late else ""
    yield f"; {gone:,} no longer on the server" if gone else ""
    silent = any(r.proof.get("silent") for r in records) and not any(r.rows for r in records)
    yield "; no line of a whole day: check loki.selectors" if silent else ""


def _not_configured(records: Records, what: str, window: Window, now: int) -> None:
    """Say that nobody was asked, where nothing else is known: today's settings must not hide yesterday's pull."""
    for _, part in window.days():
        if not records.of(what, part):
            proof = {"configured": False}
            records.put(PullRecord(what, SOURCE_OF[what], part, None, asked_at=now, proof=proof))


def _failed(records: Records, what: str, source: str, window: Window, now: int, error: SourceError) -> None:
    """Keep that a source failed, for the parts that no earlier pull knows wholly: what one did know stays known."""
    settled = [r for r in records.of(what, window) if r.complete is not None and not r.provisional]
    whole = [part for r in settled for part in subtract(r.window, r.gaps)]
    for part in subtract(window, whole):
        for _, piece in part.days():
            proof = {"error": error.what, "fix": error.fix}
            records.put(PullRecord(what, source, piece, False, 0, (piece,), asked_at=now, proof=proof))
