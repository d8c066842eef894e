"""`summary.json` of a postmortem: every figure that people are shown, unrounded."""

from __future__ import annotations

from typing import Any

from pipeline.cases import Entry, Moment
from pipeline.model import NS, instant_text
from pipeline.report.data import plain
from pipeline.report.postmortem import told
from pipeline.report.postmortem.data import Excerpt, PostmortemData
from pipeline.report.rich import marked
from pipeline.report.summary import common


def postmortem_summary(data: PostmortemData) -> dict[str, Any]:
    """Return `summary.json`."""
    i = data.impact
    return {
        "report": "postmortem",
        "lang": data.base.words.lang,
        "issue": data.issue,
        "window": [_text(data.window.start), _text(data.window.end)],
        "by_window": data.by_window,
        "made_at": _text(data.base.made_at // NS * NS),
        "state": data.state,
        "confirmed_at": _text(data.confirmed_at),
        "revision": data.revision,
        "impact": {
            "runs_hit": i.runs_hit,
            "runs": i.runs,
            "unlinked": i.unlinked,
            "issues": list(i.issues),
            "failed_attempts": i.failed_attempts,
            "build_s": i.lost_s if i.failed_attempts > i.untimed else None,
            "untimed": i.untimed,
            "retries": i.retries,
            "budget_used_ratio": i.budget_used_ratio,
            "budget_window": i.budget_window,
        },
        "key_times": [
            {
                "incident_id": c.incident["incident_id"],
                "class": c.incident["class"],
                "times": {k: _moment(m) for k, m in c.times.items()},
                "detection_delay_s": plain(c.incident["detection_delay_s"]),
                "mttr_s": plain(c.incident["mttr_s"]),
                "mttr_limit_s": data.mttr_limit_s,
                "failed_attempts": len(c.failures),
                "runs": len(c.incident["runs"]),
                "page": c.page,
            }
            for c in data.cases
        ],
        "todo": [marked(a) for a in told.actions(data)],
        "timeline": [_entry(e, shown=e in data.entries) for e in data.timeline],
        "excerpts": [_excerpt(e) for e in data.excerpts],
        "similar": [plain(dict(r)) for r in data.similar],
        "issue_failures": data.issue_failures,
        "missing_days": list(data.missing_days),
        **common(data.base),
    }


def _text(at: int | None) -> str | None:
    return None if at is None else instant_text(at)


def _moment(m: Moment) -> dict[str, Any]:
    if m.at is None:
        return {"at": None, "source": None, "of": None, "id": None, "why": m.source}
    return {"at": _text(m.at), "source": m.source, "of": m.of or None, "id": m.id or None, "why": None}


def _entry(e: Entry, *, shown: bool) -> dict[str, Any]:
    what = {"at": _text(e.at), "class": e.failure_class, "what": e.what, "about": dict(e.about), "times": e.times}
    return what | {"source": e.source, "of": e.of or None, "shown": shown}


def _excerpt(e: Excerpt) -> dict[str, Any]:
    head = {"signature": e.signature, "class": e.failure_class, "app": e.app, "lines": e.lines}
    ends = {"first": _text(e.first), "last": _text(e.last)}
    shown = [[{"ts": _text(x.ts), "level": x.level, "text": x.text, "hit": x.hit} for x in block] for block in e.shown]
    return head | ends | {"shown": shown}
