"""`summary.json` -> what the comment on an issue says, as plain values: the template lays it out.

Everything comes from the summary, so that a report can be published from its folder alone. What logs, jobs and settings
call things is in code; sentences of our own come as `rich.marked` wrote them, with such names between backticks.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import UsageError
from pipeline.model import Window, instant_of
from pipeline.report import comment_parts as parts
from pipeline.report.comment_parts import Told, table
from pipeline.report.rich import Rich, Span, code, joined, say
from pipeline.report.text import MIN_PERCENT, duration, percent, percents
from pipeline.report.words import Words

_ALERTS = {"red": "CAUTION", "amber": "WARNING", "green": "TIP", "grey": "NOTE"}
_MOST_INCIDENTS = 6  # columns, or rows, of incidents


@dataclass(frozen=True)
class Said:
    """What a comment is of (`kind` and `key`), and all that it says."""

    kind: str
    key: str
    view: Mapping[str, Any]


def comment_view(summary: Mapping[str, Any], words: Words) -> Said:
    """Return what is said of a report. Raises UsageError where the summary is of no report."""
    kind = summary.get("report")
    try:
        if kind == "daily":
            day = dt.date.fromisoformat(summary["date"])
            told, key, made = Told(summary, words, Window.of_day(day)), str(day), _daily
        elif kind == "postmortem":
            start, end = (instant_of(t) for t in summary["window"])
            told, key, made = Told(summary, words, Window(start, end)), str(int(summary["issue"])), _postmortem
        else:
            raise UsageError(f"summary.json is of {kind!r}", "publish a daily report or a postmortem")
    except (KeyError, TypeError, ValueError) as e:
        raise UsageError(f"summary.json does not say what it is a report of: {e}", "make the report again") from e
    return Said(str(kind), key, made(told))


def _common(told: Told, command: str) -> dict[str, Any]:
    return {
        "lang": told.words.lang,
        "c": told.words.of("comment"),
        "todo_title": told.words.of("heads")["todo"],
        "todo": parts.todo(told),
        "logs": parts.logs(told),
        "attempts": parts.attempts(told),
        "timeline": parts.timeline(told),
        "alerts": parts.alerts(told),
        "sources": parts.sources(told),
        "people": None,
        "end": parts.end(told, command),
    }


def _lang(told: Told) -> str:
    return "" if told.words.lang == "en" else f" --lang {told.words.lang}"


def _daily(told: Told) -> dict[str, Any]:
    summary, words = told.summary, told.words
    verdict = summary.get("verdict")
    word = words.of("states").get(str(verdict), words.of("labels")["unknown"])
    return _common(told, f"aislot report daily --date {summary['date']}{_lang(told)}") | {
        "title": told.text("daily").format(date=summary["date"]),
        "alert": _ALERTS.get(str(verdict), "NOTE"),
        "lead": word.upper(),
        "sentence": told.words_of(summary.get("sentence")),
        "impact": None,
        "facts": [t for t in (_golden(told), _incidents(told)) if t],
    }


def _golden(told: Told) -> dict[str, Any] | None:
    golden: Mapping[str, Mapping[str, Any]] = told.summary.get("golden") or {}
    t, c, words = told.words.of("labels"), told.words.of("comment"), told.words
    rows = []
    for kind, g in golden.items():
        if kind in {"all", "build", "mirror"}:
            continue  # shown together as build+mirror, as the SREs' document does
        finished, failed = g.get("finished"), g.get("failed")
        form = "{n}" if g.get("complete") else words("at_least")
        share = None if finished is None or failed is None else form.format(n=words.share(failed, finished))
        started = g.get("started")
        rows.append(
            [
                Rich([code(kind.replace("+", " + "))]),
                told.said(None if started is None else form.format(n=f"{started:,}")),
                told.said(share),
                _ratio(told, g),
                told.said(duration(g.get("duration_p50_s"))),
            ]
        )
    heads = [t["kind"], c["started"], c["failed_of"], c["ratio"], c["duration"]]
    return table(heads, range(1, 5), rows) if rows else None


def _ratio(told: Told, g: Mapping[str, Any]) -> Rich:
    """Write a failure ratio with its interval; none of so few that it would only look exact."""
    ratio, low, high = (g.get(f"failure_{k}ratio") for k in ("", "low_", "high_"))
    if (g.get("finished") or 0) < MIN_PERCENT:
        return say("–")
    return (
        told.unknown()
        if ratio is None or low is None or high is None
        else say(f"{percent(ratio)} [{percents(low, high)}]")
    )


def _incidents(told: Told) -> dict[str, Any] | None:
    t, c, words = told.words.of("labels"), told.words.of("comment"), told.words
    found = told.rows("incidents")
    rows = [
        [
            told.name(i.get("class")),
            told.at(i.get("started_at")),
            say(words("not_recovered")) if i.get("ended_at") is None else told.at(i["ended_at"]),
            say("–") if i.get("ended_at") is None else told.said(duration(i.get("mttr_s"))),
            _in_runs(told, i.get("failures"), None if i.get("runs") is None else len(i["runs"])),
            say(c["not_detected"]) if i.get("detected_by") is None else told.name(i["detected_by"]),
            told.said(duration(i.get("detection_delay_s"))) if i.get("detected_by") else say("–"),
        ]
        for i in found[:_MOST_INCIDENTS]
    ]
    heads = [t["incident"], t["began"], c["recovered"], "MTTR", c["attempts_runs"], c["detected_by"], t["delay"]]
    return _cut(told, table(heads, [1, 2, 3, 4, 6], rows), len(found)) if rows else None


def _cut(told: Told, made: dict[str, Any], of: int) -> dict[str, Any]:
    rest = of - _MOST_INCIDENTS
    return made | {"more": told.text("more").format(n=f"{rest:,}") if rest > 0 else None}


def _in_runs(told: Told, attempts: object, runs: object) -> Rich:
    return say(told.text("in_runs"), n=told.said(attempts), runs=told.said(runs))


def _postmortem(told: Told) -> dict[str, Any]:
    summary, words = told.summary, told.words
    start, end = summary["window"]
    confirmed = summary.get("state") == "confirmed"
    command = f"aislot report postmortem --issue {summary['issue']} --since {start} --until {end}{_lang(told)}"
    state = words.of("proven")["confirmed" if confirmed else "provisional"].capitalize()
    people = {"title": told.text("people"), "heads": list(words.list("people_cells"))}
    return _common(told, command) | {
        "title": told.text("postmortem").format(issue=summary["issue"]),
        "alert": "TIP" if confirmed else "IMPORTANT",
        "lead": say(told.text("state"), state=state, revision=told.said(summary.get("revision"))),
        "sentence": _recovered(told, confirmed=confirmed),
        "impact": _impact(told),
        "facts": [t for t in (_key_times(told),) if t],
        "people": people,
    }


def _recovered(told: Told, *, confirmed: bool) -> Rich:
    """Say whether the incidents are over, and until when that is watched."""
    cases = told.rows("incidents")
    still = sum(1 for i in cases if i.get("ended_at") is None)
    over = told.words.incidents(len(cases), still, whole=told.whole)
    known = told.summary.get("incidents") is not None
    parts_ = [say("{over}.", over=over[:1].upper() + over[1:] if known else told.unknown())]
    until = told.summary.get("confirmed_at")
    if until is not None:
        parts_.append(say(told.text("watched" if confirmed else "watch"), until=str(until)[:16].replace("T", " ")))
    return joined(parts_, " ")


def _impact(told: Told) -> Rich:
    impact: Mapping[str, Any] = told.summary.get("impact") or {}
    words = told.words
    issues, hit, runs = impact.get("issues"), impact.get("runs_hit"), impact.get("runs")
    used, over = impact.get("budget_used_ratio"), impact.get("budget_window")
    shared = None if hit is None or runs is None else f"{words.share(hit, runs)} {words.noun(runs, 'run of')}"
    figures: dict[str, str | None] = {
        "runs": _least(told, shared, sure=not impact.get("unlinked")),
        "issues": None if issues is None else words.counted(len(issues), "issue"),
        "attempts": _number(told, impact.get("failed_attempts"), "attempt"),
        "time": _least(told, duration(impact.get("build_s")), sure=not impact.get("untimed")),
        "retries": _number(told, impact.get("retries"), "retry"),
        "budget": None if used is None else percent(used),
    }
    window = told.unknown() if over is None else words.of("windows").get(over, over)
    said = [say(told.text(f"impact_{name}"), n=_strong(told, value), window=window) for name, value in figures.items()]
    return say("{said}.", said=joined(said, ", "))


def _least(told: Told, text: str | None, *, sure: bool) -> str | None:
    return text if text is None or sure else told.words("at_least").format(n=text)


def _number(told: Told, n: int | None, noun: str) -> str | None:
    return None if n is None else told.words.counted(n, noun)


def _strong(told: Told, text: str | None) -> Rich:
    return told.unknown() if text is None else Rich([Span(text, "strong")])


def _key_times(told: Told) -> dict[str, Any] | None:
    """Return the incidents side by side: their key times, how long each took, and what it hit."""
    found = told.rows("key_times")
    cases = found[:_MOST_INCIDENTS]
    if not cases:
        return None
    names, pm = told.words.of("moments"), told.words.of("postmortem")
    rows = [[say(text), *(_moment(told, case, n) for case in cases)] for n, text in names.items()]
    limit = next((c["mttr_limit_s"] for c in cases if c.get("mttr_limit_s") is not None), None)
    mttr = say("MTTR") if limit is None else say(told.text("mttr_limit"), limit=duration(limit))
    more: Sequence[tuple[Rich, Callable[[Mapping[str, Any]], Rich]]] = [
        (say(told.text("detection")), lambda case: told.said(duration(case.get("detection_delay_s")))),
        (Rich([Span(str(mttr), "strong")]), lambda case: _mttr(told, case)),
        (say(pm["page_due"]), lambda case: _page(told, case)),
        (say(told.text("attempts_runs")), lambda case: _in_runs(told, case.get("failed_attempts"), case.get("runs"))),
    ]
    rows += [[name, *(cell(case) for case in cases)] for name, cell in more]
    heads = [pm["key_time"], *(str(case.get("class") or told.unknown()) for case in cases)]
    return _cut(told, table(heads, range(1, len(heads)), rows), len(found))


def _moment(told: Told, case: Mapping[str, Any], name: str) -> Rich:
    """Write an instant, or why it is unknown."""
    moment = (case.get("times") or {}).get(name) or {}
    if moment.get("at") is not None:
        return told.at(moment["at"])
    forms, why = told.words.of("unknown_because"), str(moment.get("why"))
    form = forms.get(f"{name}/{why}") or forms.get(why)
    return told.unknown(form and form.format(until=told.at(told.summary.get("confirmed_at"))))


def _mttr(told: Told, case: Mapping[str, Any]) -> Rich:
    took, limit = case.get("mttr_s"), case.get("mttr_limit_s")
    if took is None:
        return told.unknown()
    if limit is None:
        return told.said(duration(took))
    text = duration(took)
    return say("✓ {took}", took=text) if took <= limit else say("✕ {took}", took=Span(str(text), "strong"))


def _page(told: Told, case: Mapping[str, Any]) -> Rich:
    pm = told.words.of("postmortem")
    signs = {"matched": f"✓ {pm['page_matched']}", "missed": f"✕ {pm['page_missed']}", None: pm["page_none"]}
    return say(signs[case["page"]]) if "page" in case and case["page"] in signs else told.unknown()
