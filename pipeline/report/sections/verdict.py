"""Section 1: the day in one sentence, and which rule gave the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.model import Coverage
from pipeline.report.data import HEADLINE, ReportData, coverage_of, other_kinds, records
from pipeline.report.rich import Rich, Span, code, joined, say
from pipeline.report.sections.common import alert, hidden, rows_link, shown_share, source_name
from pipeline.report.text import (
    MIN_PERCENT,
    NBSP,
    duration,
    instant,
    percent,
    percent_beside,
    percents,
    when,
)
from pipeline.report.words import Words

_MANY = {"page-threshold", "ticket-threshold"}
_NAMED = 3  # reasons of one rule that are named, the others counted


def sentence(data: ReportData) -> Rich:
    """Return the verdict in words."""
    parts: list[Rich] = []
    seen = "" if data.totals[HEADLINE]["complete"] else data.words("seen")
    if data.verdict == "grey":
        parts.append(say(data.words("no_verdict"), why="; ".join([text for text, _ in hidden(data)] + _off(data))))
        if not any(c.configured for c in data.coverage):
            return parts[0]
    known = [] if parts else [_data(data)]  # what is missing was just said
    facts = joined([*_outcomes(data), _incidents(data), *_availability(data), *known], " · ")
    return joined([*parts, say("{seen}{facts}", seen=seen.capitalize() if parts else seen, facts=facts)], " ")


def because(data: ReportData) -> dict[str, Rich]:
    """Return which rules gave the verdict: a lead and a text."""
    held = _level(data, data.verdict)
    if not held:
        return {"lead": say(data.words("green")), "text": _green(data)}
    kinds = list(dict.fromkeys(str(r["rule"]) for r in held))
    texts = [_said(data, [r for r in held if r["rule"] == k]) for k in kinds]
    why = joined([t for ts in texts for t in ts], "; ")
    if data.verdict == "grey":
        return {"lead": say(data.words("grey")), "text": say(data.words("grey_why"), why=why)}
    lead = say(data.words("by"), verdict=data.words.of("states")[data.verdict], rules=data.words.rules(len(kinds)))
    return {"lead": lead, "text": say("{why}.", why=why)}


def _level(data: ReportData, level: str) -> list[Mapping[str, Any]]:
    return [r for r in data.reasons if r["level"] == level]


def _outcomes(data: ReportData) -> list[Rich]:
    """Return `148 of 164 builds and mirrors ok (…), codegen-check 33 of 42`."""
    t = data.totals[HEADLINE]
    failed = any(data.totals[g]["failed"] for g in data.totals)
    if not t["finished"]:
        unasked = not t["complete"] and not coverage_of(data, "jobs").configured
        first = say(data.words("ok_unknown") if unasked else data.words("ok_none"))
    else:
        n, ok = t["finished"], t["finished"] - t["failed"]
        k = rows_link(shown_share(data.words, ok, n), "#failed" if failed else "#health")
        interval = percents(1 - t["failure_high_ratio"], 1 - t["failure_low_ratio"])
        form = data.words("ok_ratio") if n >= MIN_PERCENT else data.words("ok_of")
        first = say(form, k=k, ratio=percent(ok / n), interval=interval, nbsp=NBSP)
    rest = [_kind(data.words, kind, data.totals[kind]) for kind in other_kinds(data)]
    return [joined([first, *(r for r in rest if r)], ", ")]


def _kind(words: Words, kind: str, t: Mapping[str, Any]) -> Rich:
    """Return `codegen-check 33 of 42`; nothing where nothing is known of that kind."""
    if not t["finished"]:
        return say(words("kind_none") if t["complete"] else "", kind=kind)
    share = shown_share(words, t["finished"] - t["failed"], t["finished"])
    return say(words("kind_of"), kind=kind, k=rows_link(share, "#failed", there=bool(t["failed"])))


def _incidents(data: ReportData) -> Rich:
    ends = [instant(e) for e in data.incidents["ended_at"]]
    still_open = sum(1 for e in ends if e is None or e > data.window.end)
    whole = bool(data.totals["all"]["complete"]) and not coverage_of(data, "logs").gaps
    words = data.words.incidents(len(ends), still_open, whole=whole)
    count, comma, rest = words.partition(", ")
    return say("{n}{rest}", n=rows_link(count, "#failed", there=bool(ends)), rest=comma + rest)


def _availability(data: ReportData) -> list[Rich]:
    """Return `7-day SLO 98.1 % < 99 %, budget 190 % spent` of the first objective that has no limit of time."""
    timed = {o.name for o in data.objectives if o.limit_s is not None} | {"recovery"}
    rows = [r for r in records(data.slo) if r["slo"] not in timed]
    if not rows:
        return []
    r, window = rows[0], data.words.of("windows").get(rows[0]["window"], rows[0]["window"])
    if r["ratio"] is None:
        return [say(data.words("slo_empty") if r["total"] == 0 else data.words("slo_unknown"), window=window)]
    limit = r["objective_ratio"]
    sign = "<" if r["ratio"] < limit else "≥"
    ratios = rows_link(f"{percent_beside(r['ratio'], limit)} {sign} {percent(limit, 3)}", "#objectives")
    if r["budget_spent_ratio"] is None:
        return [say(data.words("slo_bare"), window=window, ratios=ratios)]
    return [say(data.words("slo"), window=window, ratios=ratios, spent=percent(r["budget_spent_ratio"]))]


def _data(data: ReportData) -> Rich:
    missing = [c for c in data.coverage if c.complete is False and _longest(c) > data.max_gap_s]
    if missing:
        names = ", ".join(source_name(data.words, c.what, c.source) for c in missing)
        return say("{data}: {names}", data=data.words("incomplete"), names=names)
    return say("{data}{holes}", data=data.words("complete"), holes=_overlooked(data))


def _overlooked(data: ReportData) -> Rich:
    longest = max((_longest(c) for c in data.coverage if c.complete is False), default=0.0)
    return say(data.words("green_holes"), gap=duration(longest), key=code("verdict.max_gap")) if longest else Rich(())


def _longest(c: Coverage) -> float:
    return max((g.seconds for g in c.gaps), default=0.0)


def _green(data: ReportData) -> Rich:
    configured = [c for c in data.coverage if c.configured and c.complete is not None]
    complete = sum(1 for c in configured if c.complete or (c.complete is False and _longest(c) <= data.max_gap_s))
    return say(data.words("green_why"), complete=complete, configured=len(configured), holes=_overlooked(data))


def _off(data: ReportData) -> list[str]:
    return [data.words.of("reasons")["no-source"] for r in data.reasons if r["rule"] == "no-source"]


def _said(data: ReportData, held: Sequence[Mapping[str, Any]]) -> list[Rich]:
    """Say the reasons of one rule; several thresholds are one sentence."""
    rule = str(held[0]["rule"])
    if rule == "hole":
        return [_holes(data, same) for _, same in hidden(data)]
    if rule == "source-failed":
        form = data.words.of("reasons")["hole-error"]
        return [say(form, source=source_name(data.words, r["what"], r["source"]), error=code(r["error"])) for r in held]
    if rule in _MANY and len(held) > 1:
        return [say(data.words.of("reasons")[f"{rule}s"], n=len(held), at=when(held[0]["at"], data.window))]
    rest = len(held) - _NAMED
    return [_one(data, r) for r in held[:_NAMED]] + ([say("{n}", n=data.words.more(rest).strip())] if rest > 0 else [])


def _one(data: ReportData, r: Mapping[str, Any]) -> Rich:
    facts: dict[str, object] = {k: v for k, v in r.items() if isinstance(v, str | int)}
    facts |= {"at": when(r["at"], data.window), "times": data.words.times(r.get("times", 1))}
    facts |= {
        "alert": alert(data, r.get("alert")),
        "mttr": duration(r.get("mttr_s")),
        "limit": duration(r.get("limit_s")),
    }
    template = data.words.of("reasons").get(str(r["rule"]), "{text}")
    if r["rule"] == "failed-attempt":
        facts["failures"] = Span(data.words.counted(r["failures"], "failed attempt"))
    if r["rule"] in {"objective-missed", "budget-policy"}:
        facts |= _objective(data.words, r)
    return say(template, **facts)


def _holes(data: ReportData, same: Sequence[Mapping[str, Any]]) -> Rich:
    """Say which sources have a hole, and by what it counts."""
    names = data.words.listed([source_name(data.words, r["what"], r["source"]) for r in same])
    failed = [r for r in same if r.get("error")]
    if failed:
        said = [
            say(
                data.words.of("reasons")["hole-error"],
                source=source_name(data.words, r["what"], r["source"]),
                error=code(r["error"]),
            )
            for r in failed
        ]
        return joined(said, "; ")
    over = say(data.words("max_gap"), gap=duration(data.max_gap_s), key=code("verdict.max_gap"))
    facts: dict[str, object] = {"source": names, "length": duration(same[0]["longest_s"]), "over": over}
    facts["holes"] = data.words.counted(same[0]["holes"], "hole")
    form = "hole" if same[0]["holes"] > 1 else "hole-one" if len(same) == 1 else "hole-both"
    return say(data.words.of("reasons")[form], **facts)


def _objective(words: Words, r: Mapping[str, Any]) -> dict[str, object]:
    facts: dict[str, object] = {"slo": words.of("objectives").get(r["slo"], r["slo"])}
    if "ratio" in r:
        limit = r["objective_ratio"]
        facts |= {"ratio": percent_beside(r["ratio"], limit), "objective": percent(limit, 3)}
    if "policy" in r:
        spent = percent(r["budget_spent_ratio"])
        facts |= {"spent": spent, "policy": words.of("policies").get(r["policy"], r["policy"])}
    return facts
