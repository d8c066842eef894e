"""The parts of the postmortem evidence: sentences and rows from the cases, the timeline and the excerpts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.cases import TIMES, Case, Entry, Moment
from pipeline.model import NS, Window, instant_text
from pipeline.report.charts import NARROW, WIDE, Frame
from pipeline.report.data import plain, severity_of
from pipeline.report.postmortem.chart import Bar
from pipeline.report.postmortem.chart import detection as drawn
from pipeline.report.postmortem.data import PostmortemData
from pipeline.report.rich import Rich, Span, address, advice, code, joined, link, say
from pipeline.report.sections.common import alert
from pipeline.report.svg import to_svg
from pipeline.report.text import clock, duration, instant, visible, when

_SIMILAR = 5


def sentence(data: PostmortemData) -> Rich:
    """Return what happened in one sentence."""
    words = data.base.words
    pm = words.of("postmortem")
    n = len(data.cases)
    if not n:
        return say(pm["sentence_none"], failures=words.counted(len(data.base.failures), "failed attempt"))
    still = sum(1 for c in data.cases if c.times["first_success"].at is None)
    parts = [
        say(pm["part_over"], **{"class": c.incident["class"], "mttr": duration(c.incident["mttr_s"])})
        if c.times["first_success"].at is not None
        else say(pm["part_open"], **{"class": c.incident["class"]})
        for c in data.cases
    ]
    limit = say(pm["limit"], limit=duration(data.mttr_limit_s)) if data.mttr_limit_s is not None else say("")
    return say(
        "{incidents}: {parts}{limit}.",
        incidents=words.incidents(n, still, whole=True),
        parts=joined(parts, ", "),
        limit=limit,
    )


def summaries(data: PostmortemData) -> list[Rich]:
    """Return a sentence for each incident: what failed, how often, when, by which signatures, and whether it is over."""
    words = data.base.words
    pm = words.of("postmortem")
    out = []
    for c in data.cases:
        first, last = (_at(data, c.times[k].at) for k in ("first_error", "last_error"))
        over = c.times["first_success"]
        facts: dict[str, object] = {
            "class": Span(str(c.incident["class"]), "strong"),
            "failures": words.hit(len(c.failures), len(c.incident["runs"])),
            "first": first,
            "last": last,
            "signatures": joined([code(s) for s in c.incident["signatures"]], ", "),
            "date": instant_text(int(c.incident["started_at"].value))[:10],
        }
        end = (
            say(pm["ended"], at=_at(data, over.at), mttr=duration(c.incident["mttr_s"]))
            if over.at is not None
            else say(pm["not_ended"])
        )
        out.append(say(pm["summary"], end=end, **facts))
    if data.issue_failures:
        out.append(say(pm["others"], failures=words.counted(data.issue_failures, "failed attempt")))
    return out


def _at(data: PostmortemData, at: int | None) -> str | None:
    return when(at, data.window)


def times(data: PostmortemData) -> list[dict[str, Any]]:
    """Return the key times: `name`, and of each incident `at` (None: unknown) and `source` (or why it is unknown)."""
    names = data.base.words.of("moments")
    return [{"name": names[k], "cells": [_moment(data, c, k) for c in data.cases]} for k in TIMES]


def _moment(data: PostmortemData, case: Case, key: str) -> dict[str, Any]:
    m, words = case.times[key], data.base.words
    if m.at is None:
        why = words.of("unknown_because")
        until = when(data.confirmed_at, data.window)
        return {"at": None, "source": say(why.get(f"{key}/{m.source}", why[m.source]), until=until)}
    return {"at": _linked(data, m, str(_at(data, m.at))), "source": told_by(data, m.source, m.of)}


def _linked(data: PostmortemData, m: Moment, text: str) -> Span:
    """Return an instant that leads to its row, where the page has it."""
    here = set(data.base.failures["failure_id"]) if m.id else set()
    return link(text, f"#{m.id}") if m.id in here else Span(text)


def told_by(data: PostmortemData, source: str, of: str) -> Rich:
    """Say what tells an instant."""
    forms = data.base.words.of("told_by")
    if source == "comment":
        to = address(of)
        return Rich([link(forms["comment"], to) if to else Span(forms["comment"])])
    if source in {"replay", "alert"} and of:
        severity = severity_of(data.base, of)
        return say(forms[source], of=alert(data.base, of), severity=severity or "–")
    return say(forms[source], of=code(of)) if of else Rich([Span(forms.get(f"{source}_unnamed", forms["unnamed"]))])


def timeline(data: PostmortemData) -> list[dict[str, Any]]:
    """Return the rows of the timeline that are shown."""
    return [_entry(data, e) for e in data.entries]


def _entry(data: PostmortemData, e: Entry) -> dict[str, Any]:
    forms = data.base.words.of("entries")
    facts: dict[str, object] = {k: code(v) for k, v in e.about.items()}
    facts |= {k: e.about[k] for k in ("kind", "severity", "runs", "lines") if k in e.about}
    facts["issue"] = Span(f"#{data.issue}", "issue")
    if "alert" in e.about:
        facts["alert"] = alert(data.base, e.about["alert"])
    source = (
        say(data.base.words.of("told_by")["runs"], runs=e.about["runs"])
        if e.source == "runs"
        else told_by(data, e.source, e.of)
    )
    return {
        "at": when(e.at, data.window),
        "class": e.failure_class,
        "what": say(forms[e.what], **facts),
        "good": e.what == "recovered",
        "times": f"×{e.times:,}",
        "source": source,
    }


def excerpts(data: PostmortemData) -> list[dict[str, Any]]:
    """Return the log excerpts: `about`, and blocks of lines with `at`, `level`, `text`, `hit`."""
    words = data.base.words
    return [
        {
            "class": e.failure_class,
            "about": say(
                words.of("postmortem")["excerpt"],
                signature=code(e.signature),
                app=code(e.app or "–"),
                lines=words.counted(e.lines, "line"),
                first=clock(e.first),
                last=clock(e.last),
            ),
            "blocks": [
                [{"at": _stamp(x.ts), "level": x.level, "text": visible(x.text), "hit": x.hit} for x in block]
                for block in e.shown
            ],
        }
        for e in data.excerpts
    ]


def _stamp(at: int) -> str:
    return f"{instant_text(at // NS * NS)[11:19]}.{at % NS // 1_000_000:03d}"


def similar(data: PostmortemData) -> list[Rich]:
    """Return earlier incidents of the same classes, the latest first."""
    form, n = data.base.words.of("postmortem"), len(data.similar)
    out = []
    for i in data.similar[:_SIMILAR]:
        over = (
            form["similar_over"].format(mttr=duration(i["mttr_s"])) if i["mttr_s"] is not None else form["similar_open"]
        )
        facts = {"class": i["class"], "at": str(i["started_at"])[:16].replace("T", " "), "over": over}
        out.append(say(form["similar_one"], **facts))
    return [*out, *([say("{more}", more=data.base.words.more(n - _SIMILAR).strip())] if n > _SIMILAR else [])]


def detection(data: PostmortemData) -> dict[str, Any]:
    """Return the chart in both forms, its legend, and the measures of each incident."""
    words = data.base.words
    pm = words.of("postmortem")
    bars = [_bar(data, c) for c in data.cases]
    name = "; ".join(f"{b.name}: {b.label}" for b in bars)
    made = {
        form: [to_svg(drawn(bars, Frame(data.window, width)), pm["chart"].format(bars=name))] if bars else []
        for form, width in (("wide", WIDE), ("narrow", NARROW))
    }
    return {"charts": made, "legend": list(words.of("phases").items()), "measures": _measures(data)}


def _bar(data: PostmortemData, c: Case) -> Bar:
    start = int(c.incident["started_at"].value)
    end = c.times["first_success"].at or data.window.end
    seen, fixed = c.detected.at, c.times["mitigation"].at
    seen_at = end if seen is None else min(max(seen, start), end)
    fixed_at = end if fixed is None else min(max(fixed, seen_at), end)
    parts = [(start, seen_at, "unseen"), (seen_at, fixed_at, "seen"), (fixed_at, end, "mitigated")]
    limit = None if data.mttr_limit_s is None else start + round(data.mttr_limit_s * NS)
    pm = data.base.words.of("postmortem")
    mttr = c.incident["mttr_s"]
    label = duration(mttr) if c.times["first_success"].at is not None else pm["not_ended"]
    failed = [instant(f["failed_at"]) or 0 for f in c.failures]
    inside = limit if limit is not None and limit in Window(data.window.start, data.window.end) else None
    return Bar(str(c.incident["class"]), str(label), parts, failed, inside)


def _measures(data: PostmortemData) -> list[dict[str, Any]]:
    """Return detection delay, MTTR against its limit, and whether the page that was due came."""
    pm = data.base.words.of("postmortem")
    limit = data.mttr_limit_s
    mttr = [
        {
            "text": duration(plain(c.incident["mttr_s"])),
            "bad": limit is not None
            and c.times["first_success"].at is not None
            and float(c.incident["mttr_s"]) > limit,
            "good": limit is not None
            and c.times["first_success"].at is not None
            and float(c.incident["mttr_s"]) <= limit,
        }
        for c in data.cases
    ]
    delays = [
        {"text": duration(plain(c.incident["detection_delay_s"])), "bad": False, "good": False} for c in data.cases
    ]
    pages = [
        {
            "text": None if c.page is None else pm[f"page_{c.page}"],
            "bad": c.page == "missed",
            "good": c.page == "matched",
        }
        for c in data.cases
    ]
    return [
        {"name": pm["delay"], "cells": delays, "limit": pm["no_limit"]},
        {"name": pm["mttr"], "cells": mttr, "limit": duration(limit) or pm["no_limit"]},
        {"name": pm["page_due"], "cells": pages, "limit": "–"},
    ]


def recovery(data: PostmortemData) -> list[dict[str, Any]]:
    """Return what proves of each incident that it is over."""
    words = data.base.words
    out = []
    for c in data.cases:
        i: Mapping[str, Any] = plain(dict(c.incident))
        out.append(
            {
                "class": i["class"],
                "first": _at(data, c.times["first_success"].at),
                "by": i["recovered_by"],
                "row": None if i["successes_in_a_row"] is None else f"{i['successes_in_a_row']:,}",
                "quiet": duration(i["quiet_for_s"]),
                "state": words.of("proven")[i["state"]],
                "sure": i["state"] != "open",
                "excluded": i["excluded_by"] is not None,
            }
        )
    return out


def rollouts(data: PostmortemData) -> Rich:
    """Say which rollouts were seen while incidents lasted."""
    pm = data.base.words.of("postmortem")
    found = [e for e in data.timeline if e.what == "rollout"]
    if not found:
        return say(pm["rollouts_none"])
    seen = [say("{at} {of}", at=when(e.at, data.window), of=code(e.of)) for e in found]
    return say(pm["rollouts"], seen=joined(seen, ", "))


def well(data: PostmortemData) -> Rich:
    """Say what in the data went well: alerts that came, how soon, and recoveries within the limit."""
    pm, words = data.base.words.of("postmortem"), data.base.words
    came = [m for c in data.cases if (m := c.times["alert_firing"]).at is not None]
    if not came:
        unsure = any(c.times["alert_firing"].source != "none" for c in data.cases)
        return say(pm["well_unknown"] if unsure else pm["well_none"])
    slowest = max(
        max(0.0, ((m.at or 0) - int(c.incident["started_at"].value)) / NS)
        for c in data.cases
        if (m := c.times["alert_firing"]).at is not None
    )
    return say(pm["well"], n=words.counted(len(came), "incident"), within=duration(slowest))


def badly(data: PostmortemData) -> Rich:
    """Say what in the data went badly: pages that never came, recoveries over the limit."""
    pm, words = data.base.words.of("postmortem"), data.base.words
    missed = sum(1 for e in data.timeline if e.what == "threshold_missed")
    limit = data.mttr_limit_s
    long = [
        c
        for c in data.cases
        if limit is not None and c.times["first_success"].at is not None and float(c.incident["mttr_s"]) > limit
    ]
    parts = [
        *([say(pm["badly_missed"], n=words.counted(missed, "alert"))] if missed else []),
        *([say(pm["badly_long"], n=words.counted(len(long), "incident"), limit=duration(limit))] if long else []),
    ]
    return say(pm["badly_seen"], what=joined(parts, "; ") if parts else say(pm["badly_none"]))


def actions(data: PostmortemData) -> list[Rich]:
    """Propose what a rule can: alerts to load, the first action of each signature."""
    pm, lang = data.base.words.of("postmortem"), data.base.words.lang
    missed = dict.fromkeys(e.about["alert"] for e in data.timeline if e.what == "threshold_missed")
    out = [say(pm["load"], alert=code(name)) for name in missed]
    found = {s for c in data.cases for s in c.incident["signatures"]}
    advised = dict.fromkeys(s.advice(lang) for s in data.base.signatures if s.id in found)
    return [*out, *(advice(text) for text in advised)]
