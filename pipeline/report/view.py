"""What the daily report says, as plain values: the templates lay it out, `summary.json` holds its figures unrounded."""

from __future__ import annotations

from typing import Any

from pipeline.model import NS, instant_text
from pipeline.report.data import ReportData
from pipeline.report.rich import code, joined, say
from pipeline.report.sections import (
    failed,
    health,
    method,
    promises,
    recovery,
    restated,
    shares,
    signals,
    slow,
    sources,
    stream,
    todo,
    verdict,
)
from pipeline.report.summary import summary

__all__ = ["ReportData", "daily_view", "summary"]


def daily_view(data: ReportData) -> dict[str, Any]:
    """Return what the templates lay out: words, sentences (`Rich`), numbers as people read them, and charts as SVG.

    Text of logs and comments is still raw: the templates show it in code.
    """
    parts = {
        "todo": {"rows": todo.todo(data)},
        "data": sources.section(data),
        "signals": signals.section(data),
        "health": health.section(data),
        "failed": failed.section(data),
        "stream": stream.section(data),
        "recovery": recovery.section(data),
        "shares": shares.section(data),
        "objectives": promises.objectives(data),
        "audit": promises.audit(data),
        "slow": slow.section(data),
        "restated": restated.section(data),
        "method": method.section(data),
    }
    things = len(parts["todo"]["rows"])
    parts["todo"]["note"] = data.words.counted(things, "thing") if things else ""
    heads = {
        name: {"n": n, "title": data.words.of("heads")[name], "note": parts[name]["note"]}
        for n, name in enumerate(data.words.of("heads"), 2)
    }
    return {
        "lang": data.words.lang,
        "t": data.words.of("labels"),
        "title": data.words("title"),
        "about": _about(data),
        "date": str(data.date),
        "verdict": data.verdict,
        "word": data.words.of("states")[data.verdict].upper(),
        "sentence": verdict.sentence(data),
        "because": verdict.because(data),
        "heads": heads,
        "todo": parts["todo"]["rows"],
        **{name: part for name, part in parts.items() if name != "todo"},
    }


def _about(data: ReportData) -> Any:
    return say(
        data.words("about"),
        weekday=data.words.list("weekdays")[data.date.weekday()],
        date=str(data.date),
        namespaces=joined([code(n) for n in data.namespaces], ", "),
        made=instant_text(data.made_at // NS * NS).replace("T", " ")[:16],
        revision=say(data.words("revision"), n=data.revision) if data.revision > 1 else "",
    )
