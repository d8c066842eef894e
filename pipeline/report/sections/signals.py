"""Section 4: the golden signals, a row each: the day, the day before, the days before it, change, threshold, by 15 min."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.model import NS, merge
from pipeline.report import figures
from pipeline.report.data import ReportData, rule_sources
from pipeline.report.figures import STEP, Figure, Signal
from pipeline.report.rich import Rich, link, say
from pipeline.report.sections.common import capital, holes, shown_share
from pipeline.report.svg import spark
from pipeline.report.text import (
    MIN_PERCENT,
    between_minutes,
    count,
    duration,
    instant,
    minute,
    number,
    percent,
    percents,
    signed,
    when,
)
from pipeline.report.words import Words


def section(data: ReportData) -> dict[str, Any]:
    """Return the section: `note`, heads and `rows`."""
    made = figures.signals(data)
    days = max((s.usual_days for s in made), default=0)
    rows = [_row(data, s, days) for s in made]
    ruled = [s for s in made if s.rule]
    hidden = sum(1 for s in ruled if not _intervals(data, s.rule) and _unjudged(data, s.rule))
    before = data.date - dt.timedelta(days=1)
    return {
        "note": data.words.thresholds(sum(1 for r in rows if r["reached"]), len(ruled), hidden) if ruled else "",
        "heads": {
            "now": data.words.short_day(data.date),
            "before": data.words.short_day(before),
            "usual": data.words.usual(days),
        },
        "rows": rows,
    }


def _row(data: ReportData, s: Signal, days: int) -> dict[str, Any]:
    reached = bool(s.rule and _intervals(data, s.rule))
    ratio = s.rule.get("measure") == "failure_ratio"
    limit = s.rule.get("threshold") if s.rule else None
    colour = "--bad" if reached else "--mark-latency" if s.name == "latency" else "--mark-ok"
    return {
        "id": f"signals-{s.name}",
        "name": _name(data, s),
        "what": _what(data, s),
        "now": _now(data, s),
        "interval": _interval(s.now),
        "before": _earlier(data.words, s, s.before),
        "usual": _usual(data.words, s, days),
        "change": _change(s),
        "threshold": _threshold(data, s.rule) if s.rule else say(data.words("no_threshold")),
        "reached": reached,
        "ruled": bool(s.rule),
        "spark": spark(list(s.by_15m), limit, colour, most=1.0 if ratio else None),
    }


def _name(data: ReportData, s: Signal) -> str:
    if s.name in data.words.of("signals"):
        return data.words.of("signals")[s.name][0]
    if not s.rule:
        return s.name.capitalize()
    titles = {x.id: x.named(data.words.lang) for x in data.signatures}
    named = [titles.get(i, i) for i in s.rule["signatures"]]
    return data.words.of("rule_names").get(s.rule["measure"]) or capital(" or ".join(named)) or str(s.rule["alert"])


def _what(data: ReportData, s: Signal) -> Rich:
    """Say what a row counts, and when it was worst."""
    if s.rule:
        return _condition(data, s.rule)
    if s.name not in data.words.of("signals"):
        return say(data.words("kind_signal"))
    facts: dict[str, object] = {}
    if s.name == "latency":
        form = s.now.form if s.now else "none"
        seen = s.now is not None and not s.now.whole
        facts = {
            "form": data.words.of("forms")[form],
            "n": data.words("of_n").format(n=count(s.now.n)) if s.now else "",
        }
        facts["seen"] = data.words("seen_only") if seen else ""
    if s.name == "queue":
        facts = {"at": _most_at(data, s)}
    if s.name == "backlog":
        facts = {"at": _most_at(data, s), "pending": _pending(data, s)}
    return say(data.words.of("signals")[s.name][1], **facts)


def _condition(data: ReportData, rule: Mapping[str, Any]) -> Rich:
    """Say what a rule counts in which window, and when that was worst."""
    lines = rule["measure"] == "signature_lines"
    apps = [str(a).removeprefix(_common(data, str(a))) for a in rule.get("apps") or ()]
    of = [*apps, *rule["kinds"]] if lines else rule["kinds"]
    window = duration(rule.get("window_s")) or ""
    at = minute(rule["worst_at"], data.window) if rule["worst"] or rule["worst_of"] else None
    what = (
        " ".join([", ".join(of), data.words("lines")]).strip()
        if lines
        else ", ".join(of) or data.words("attempts_of_all")
    )
    return say(data.words("rule"), what=what, window=window, at=data.words("rule_at").format(at=at) if at else "")


def _common(data: ReportData, app: str) -> str:
    """Return what an app's name has in common with the namespace's: `codex-k8s-` need not be said each time."""
    same = [n for n in data.namespaces if n.partition("-")[0] == app.partition("-")[0]]
    head = next((n for n in same), "")
    parts = [a for a, b in zip(app.split("-"), head.split("-"), strict=False) if a == b]
    return "".join(f"{p}-" for p in parts)


def _most_at(data: ReportData, s: Signal) -> str:
    most = max((v for v in s.by_15m if v), default=0)
    if not most or s.now is None or s.now.value != most:
        return ""
    return data.words("most_at").format(at=minute(data.window.start + list(s.by_15m).index(most) * STEP, data.window))


def _pending(data: ReportData, s: Signal) -> str:
    pending = data.totals["all"].get("pending_max")
    return data.words("pending").format(n=count(pending)) if s.now and s.now.whole and pending else ""


def _now(data: ReportData, s: Signal) -> Rich | None:
    """Write today's figure; failures lead to their rows."""
    text = _written(data.words, s.now)
    if text is None or s.now is None:
        return None
    failed = s.now.form in {"share", "ratio"} and s.now.k and len(data.failures)
    share = shown_share(data.words, s.now.k, s.now.n) if s.now.form in {"share", "ratio"} else ""
    if failed and text.startswith(share):
        return say("{k}{rest}", k=link(share, "#failed"), rest=text.removeprefix(share))
    return say("{text}", text=text)


def _written(words: Words, f: Figure | None) -> str | None:
    """Write a figure: unknown is None, a lower bound says so."""
    if f is None:
        return None
    return _WRITERS[f.form](words, f)


def _earlier(words: Words, s: Signal, f: Figure | None) -> str | None:
    """Write an earlier day's figure: of k of n no percentage, and its name where that is not today's."""
    text = _written(words, f)
    if f and f.form == "share" and f.n and f.whole:
        return shown_share(words, f.k, f.n)
    if f and f.form in words.of("named") and s.now and s.now.form != f.form:
        return words.of("named")[f.form].format(time=text)
    return text


def _usual(words: Words, s: Signal, days: int) -> str | None:
    """Write the median, and of how many days it is where the others are of more."""
    text = _earlier(words, s, s.usual)
    return text if text is None or s.usual_days == days else words("of_days").format(text=text, days=s.usual_days)


def _count(words: Words, f: Figure) -> str | None:
    if f.whole or f.value is None:
        return count(f.value)
    return words("at_least").format(n=count(f.value)) if f.value else words("zero_seen")


def _share(words: Words, f: Figure) -> str:
    if not f.n:
        return words("none_finished") if f.whole else words("zero_seen")
    text = shown_share(words, f.k, f.n)
    text = text if f.whole else words("share_seen").format(k=text)
    return f"{text} · {percent((f.k or 0) / f.n)}" if f.n >= MIN_PERCENT else text


def _ratio(words: Words, f: Figure) -> str:
    return _share(words, f) if f.n is not None else percent(f.value or 0.0)


def _p95(_words: Words, f: Figure) -> str | None:
    return duration(f.value)


def _spread(words: Words, f: Figure) -> str:
    low, high = duration(f.low), duration(f.high)
    return low or "" if low == high else words("spread").format(low=low, high=high)


def _none(words: Words, f: Figure) -> str | None:
    if f.n is None:
        return words("too_few")
    return words("none_succeeded") if f.whole else None


_WRITERS: dict[str, Callable[[Words, Figure], str | None]] = {
    "count": _count,
    "share": _share,
    "ratio": _ratio,
    "p95": _p95,
    "p50": _p95,
    "spread": _spread,
    "none": _none,
}


def _interval(f: Figure | None) -> str | None:
    if not f or f.form != "share" or f.low is None or f.high is None or (f.n or 0) < MIN_PERCENT:
        return None
    return f"[{percents(f.low, f.high)}]"


def _change(s: Signal) -> str | None:
    if s.change is not None:
        return signed(s.change, s.unit)
    sure = s.now is not None and s.before is not None and s.now.whole and s.before.whole
    return "–" if sure else None


def _intervals(data: ReportData, rule: Mapping[str, Any]) -> list[int]:
    """Return since when a threshold was reached: the starts of what touches the day."""
    day = data.window
    touching = [a for a, b in rule["intervals"] if a < day.end and (b is None or b > day.start)]
    return sorted(touching)


def _unjudged(data: ReportData, rule: Mapping[str, Any]) -> bool:
    source = rule_sources(data, rule)
    return not source.configured or bool(source.gaps)


def _threshold(data: ReportData, rule: Mapping[str, Any]) -> Rich:
    """Write a threshold and when it was first reached; with a hole it is not known for as long as the rule looks back."""
    ratio = rule["measure"] == "failure_ratio"
    sign = {">=": "≥"}.get(rule["op"], rule["op"])
    limit = f"{sign} {percent(rule['threshold'], 3) if ratio else number(rule['threshold'], 3)}"
    starts = _intervals(data, rule)
    if starts:
        new = [t for t in starts if t >= data.window.start]
        template = data.words("reached") if new else data.words("held")
        return say(template, limit=limit, at=when(new[0] if new else starts[0], data.window))
    if not rule_sources(data, rule).configured:
        return say(data.words("not_known"), limit=limit)
    if _unjudged(data, rule):
        return say(data.words("not_known_for"), limit=limit, span=_blind(data, rule))
    judged = not ratio or rule["worst"] is not None or not rule["worst_of"]
    return say(data.words("not_reached") if judged else data.words("not_judged"), limit=limit)


def _blind(data: ReportData, rule: Mapping[str, Any]) -> str:
    reach = round(float(rule.get("window_s") or 0) * NS)
    wide = [w.widen(0, reach).intersect(data.window) for w in rule_sources(data, rule).gaps]
    return holes(data.words, merge(w for w in wide if w), data.window, 1, between_minutes)


def raw(data: ReportData, s: Signal) -> dict[str, Any]:
    """Return a signal's figures unrounded, for `summary.json`."""
    rule = s.rule
    starts = _intervals(data, rule) if rule else []
    return {
        "signal": s.name,
        "now": _plain(s.now),
        "before": _plain(s.before),
        "median": _plain(s.usual),
        "median_days": s.usual_days,
        "change": s.change,
        "change_unit": s.unit,
        "threshold": rule.get("threshold") if rule else None,
        "reached_at": starts[0] if starts else None,
        "worst_at": instant(rule.get("worst_at")) if rule else None,
    }


def _plain(f: Figure | None) -> dict[str, Any] | None:
    if f is None:
        return None
    fields = {"value": f.value, "k": f.k, "n": f.n, "low": f.low, "high": f.high}
    return {"form": f.form} | {k: v for k, v in fields.items() if v is not None} | {"complete": f.whole}
