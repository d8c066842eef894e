"""What the postmortem evidence says, as plain values: the templates lay it out under the house's eleven headings."""

from __future__ import annotations

from typing import Any

from pipeline.model import NS, instant_text
from pipeline.report.data import coverage_of
from pipeline.report.postmortem import told
from pipeline.report.postmortem.data import CONFIRMED, PostmortemData
from pipeline.report.rich import Rich, Span, code, joined, say
from pipeline.report.sections import failed, shares, sources
from pipeline.report.sections.common import holes, issues, lake_option, source_name
from pipeline.report.text import duration, percent

_WHYS = 5
_MINUTE = 16


def postmortem_view(data: PostmortemData) -> dict[str, Any]:
    """Return what the templates lay out; text of logs and comments is still raw: the templates show it in code."""
    words, base = data.base.words, data.base
    pm = words.of("postmortem")
    rows = failed.attempts(base)
    heads = {
        name: {"n": n, "title": title, "note": ""} for n, (name, title) in enumerate(words.of("evidence").items(), 1)
    }
    heads["timeline"]["note"] = pm["each_with_source"]
    return {
        "lang": words.lang,
        "t": words.of("labels"),
        "pm": pm,
        "issue": data.issue,
        "title": pm["title"].format(issue=data.issue),
        "about": _about(data),
        "state": data.state,
        "word": words.of("proven")[data.state].capitalize(),
        "sentence": told.sentence(data),
        "because": _because(data),
        "heads": heads,
        "tldr": told.summaries(data),
        "impact": _impact(data),
        "classes": [str(c.incident["class"]) for c in data.cases],
        "times": told.times(data),
        "timeline": told.timeline(data),
        "timeline_title": say(pm["timeline_title"], n=len(data.entries), of=len(data.timeline)),
        "excerpts": told.excerpts(data),
        "unheard": [shares.line(base, r) for r in shares.unheard(base)],
        "attempts": rows,
        "attempts_title": say(pm["attempts"], n=len(rows)),
        "similar": told.similar(data),
        "detection": told.detection(data),
        "whys": [pm["why"].format(n=n) for n in range(1, _WHYS + 1)],
        "shared": [shares.shared(base, r) for r in shares.findings(base)[:3]],
        "recovery": told.recovery(data),
        "rollouts": told.rollouts(data),
        "well": told.well(data),
        "badly": told.badly(data),
        "actions": told.actions(data),
        "unseen": _unseen(data),
        "data": sources.section(base),
        "commands": commands(data),
    }


def commands(data: PostmortemData) -> list[str]:
    """Return the commands that make this evidence again, and verify it."""
    lang = "" if data.base.words.lang == "en" else f" --lang {data.base.words.lang}"
    lake = lake_option(data.base)
    span = f" --since {instant_text(data.window.start)} --until {instant_text(data.window.end)}"
    return [
        f"aislot report postmortem --issue {data.issue}{span}{lang}{lake} --bundle",
        f"aislot verify out/postmortem/{data.issue}{lake}",
    ]


def _about(data: PostmortemData) -> Rich:
    start, end = (instant_text(t // NS * NS).replace("T", " ")[:_MINUTE] for t in (data.window.start, data.window.end))
    if start[:10] == end[:10]:
        end = end[11:]
    made = instant_text(data.base.made_at // NS * NS).replace("T", " ")[:_MINUTE]
    pm = data.base.words.of("postmortem")
    return say(pm["about"], start=start, end=end, revision=data.revision, made=made)


def _because(data: PostmortemData) -> Rich:
    words = data.base.words
    pm = words.of("postmortem")
    if not data.cases:
        return say(pm["because_none"])
    if data.state == CONFIRMED:
        return say(pm["because_confirmed"])
    until = (
        None if data.confirmed_at is None else instant_text(data.confirmed_at // NS * NS).replace("T", " ")[:_MINUTE]
    )
    form = "because_open" if until is None else "because_provisional"
    return say(pm[form], until=until, confirmed=Span(words.of("proven")[CONFIRMED], "strong"))


def _impact(data: PostmortemData) -> list[dict[str, Any]]:
    """Return the figures of the impact: `value` (None: unknown) and `label`."""
    words, i = data.base.words, data.impact
    pm = words.of("postmortem")
    hit = words.share(i.runs_hit, i.runs)
    jobs = coverage_of(data.base, "jobs")
    lost = duration(i.lost_s) if i.failed_attempts > i.untimed else None
    used = i.budget_used_ratio
    at_least = words("at_least")
    return [
        _figure(at_least.format(n=hit) if i.unlinked else hit, pm["runs_hit"]),
        _figure(f"{len(i.issues)}", pm["issues_hit"], issues(words, i.issues, 8)),
        _figure(_least(data, i.failed_attempts, sure=jobs.complete is not False), pm["failed_attempts"]),
        _figure(lost and (at_least.format(n=lost) if i.untimed else lost), pm["time_lost"]),
        _figure(f"{i.retries}", pm["retries"]),
        _figure(
            None if used is None else percent(used),
            pm["budget_used"].format(window=words.of("windows").get(i.budget_window, i.budget_window)),
        ),
    ]


def _figure(value: str | None, label: str, what: Rich | None = None) -> dict[str, Any]:
    return {"value": value, "label": label, "what": what}


def _least(data: PostmortemData, n: int, *, sure: bool) -> str:
    return f"{n:,}" if sure else data.base.words("at_least").format(n=f"{n:,}")


def _unseen(data: PostmortemData) -> list[Rich]:
    """Say what could not be seen: holes, sources that were not there, outcomes and runs that nobody told."""
    words, base = data.base.words, data.base
    pm = words.of("postmortem")
    out: list[Rich] = []
    for c in base.coverage:
        name = source_name(words, c.what, c.source) if c.source else words.of("what")[c.what]
        if not c.configured:
            out.append(say(pm["unseen_off"], source=name))
        elif c.gaps:
            out.append(say(pm["unseen_gap"], source=name, gaps=holes(words, list(c.gaps), data.window)))
    ends = sources.unknown_ends(base)
    if ends:
        out.append(say(pm["unseen_ends"], n=sum(ends.values())))
    if data.impact.unlinked:
        out.append(say(pm["unseen_runs"], n=words.counted(data.impact.unlinked, "failed attempt")))
    if data.missing_days:
        out.append(say(pm["unseen_days"], days=joined([code(d) for d in data.missing_days], ", ")))
    return out or [say(pm["unseen_none"])]
