"""`summary.json`: every figure that people are shown, unrounded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from pipeline.model import NS, Coverage, Window, instant_text, merge
from pipeline.report import figures
from pipeline.report.data import ReportData, other_kinds, plain, records
from pipeline.report.figures import Signal, Stream, budget, build_hours, quarters, stream_lines, streams
from pipeline.report.rich import marked
from pipeline.report.sections import recovery, signals, slow, todo, verdict
from pipeline.report.sections.sources import unknown_ends

_MOVING = ("made_at", "revision")  # what two renderings of the same figures may differ in
_SOURCES = ("loki", "prometheus", "kubernetes", "github")


def summary(data: ReportData) -> dict[str, Any]:
    """Return `summary.json` of a day."""
    return {
        "report": "daily",
        "lang": data.words.lang,
        "date": str(data.date),
        "made_at": instant_text(data.made_at // NS * NS),
        "revision": data.revision,
        "verdict": data.verdict,
        "sentence": marked(verdict.sentence(data)),
        "todo": [_todo(t) for t in todo.todo(data)],
        "reasons": [plain(dict(r)) for r in data.reasons],
        **common(data),
        "signals": [_signal(data, s) for s in figures.signals(data)],
        "thresholds": [_rule(e) for e in data.expected],
        "history": [plain(dict(h) | {"date": str(h["date"])}) for h in data.history],
        "by_15m": _by_15m(data),
        "build_hours": _build_hours(data),
        "stream_lines": stream_lines(data),
        "stream": [_stream(s) for s in streams(data)],
        "level_breaches": records(data.level_breaches),
        "runs_failed_often": [
            {"run_id": r.id, "failures": [f["failure_id"] for f in r.failures]} for r in recovery.runs(data)
        ],
        "slowest": slow.slowest(data),
        "restatements": [plain(dict(r)) for r in data.restatements],
        "left_out": {
            "attempts": data.left_out[0],
            "incidents": data.left_out[1],
            "entries": [plain(dict(x)) for x in data.exclusions],
        },
    }


def figures_of(made: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a summary says something new when it changes: its revision rises then."""
    return {k: v for k, v in made.items() if k not in _MOVING}


def common(data: ReportData) -> dict[str, Any]:
    """Return the parts that every report has, from `data` on."""
    return {
        "data": {
            n: _joined([c for c in data.coverage if c.source == n], data.max_gap_s)
            for n in dict.fromkeys([*_SOURCES, *(c.source for c in data.coverage)])
        },
        "golden": {k: plain(dict(v)) for k, v in data.totals.items()},
        "failures": records(data.failures),
        "incidents": records(data.incidents),
        "alert_audit": records(data.alert_audit),
        "shares": records(data.shares),
        "ledger": records(data.ledger),
        "slo": {str(r["slo"]): _objective(r) for r in records(data.slo)},
        "ambiguous_links": data.ambiguous,
        "unknown_outcomes": unknown_ends(data),
        "inputs": plain(dict(data.inputs)),
        "versions": dict(data.versions),
        "settings": list(data.changed_settings),
    }


def _todo(t: Mapping[str, Any]) -> dict[str, Any]:
    """Return a line of what to do: names that are code between backticks, and the document where it has an address."""
    doc = t["doc"]
    to = {"name": doc.text, "url": doc.target} if doc is not None and doc.kind == "link" else None
    return {"what": marked(t["what"]), "how": marked(t["how"]), "doc": to}


def _joined(known: Sequence[Coverage], max_gap_s: float) -> dict[str, Any]:
    """Join what was asked of one source: complete when no configured part has a hole longer than overlooked."""
    parts = {c.what: _source(c, max_gap_s) for c in known}
    sure = [p["complete"] for p in parts.values() if p["complete"] is not None]
    return {
        "configured": any(c.configured for c in known),
        "complete": all(sure) if sure else None,
        "rows": sum(p["rows"] for p in parts.values()),
        "gaps": _spans(merge(g for c in known if c.configured for g in c.gaps)),
        "proof": {k: p["proof"] for k, p in parts.items()},
        "parts": parts,
    }


def _source(c: Coverage, max_gap_s: float) -> dict[str, Any]:
    longest = max((g.seconds for g in c.gaps), default=0.0)
    return {
        "configured": c.configured,
        "complete": longest <= max_gap_s if c.complete is False else c.complete,
        "rows": c.rows,
        "gaps": _spans(merge(c.gaps)),
        "proof": plain(dict(c.proof)),
    }


def _spans(gaps: Sequence[Window]) -> list[list[str]]:
    return [[instant_text(g.start), instant_text(g.end)] for g in gaps]


def _rule(e: Mapping[str, Any]) -> dict[str, Any]:
    """Return a rule's facts, its instants as text."""
    spans = [[instant_text(a), None if b is None else instant_text(b)] for a, b in e["intervals"]]
    worst_at = None if e["worst_at"] is None else instant_text(e["worst_at"])
    return plain(dict(e) | {"intervals": spans, "worst_at": worst_at})  # type: ignore[no-any-return]


def _signal(data: ReportData, s: Signal) -> dict[str, Any]:
    raw = signals.raw(data, s)
    return raw | {k: None if raw[k] is None else instant_text(raw[k]) for k in ("reached_at", "worst_at")}


def _by_15m(data: ReportData) -> list[dict[str, Any]]:
    """Return what finished per 15 min; `complete` false makes a number a lower bound."""
    groups = {"build+mirror": ("build", "mirror")} | {k: (k,) for k in other_kinds(data)}
    counts = {name: quarters(data, kinds) for name, kinds in groups.items()}
    rows = []
    for found in zip(*counts.values(), strict=True):
        cells = {n: {"succeeded": q.succeeded, "failed": q.failed} for n, q in zip(counts, found, strict=True)}
        rows.append({"start": instant_text(found[0].start), "complete": found[0].whole} | cells)
    return rows


def _build_hours(data: ReportData) -> list[dict[str, Any]]:
    return [
        {"start": instant_text(h), "n": len(v), "p50_s": float(np.median(v)), "p95_s": float(np.quantile(v, 0.95))}
        | {"max_s": max(v)}
        for h, v in build_hours(data).items()
    ]


def _stream(s: Stream) -> dict[str, Any]:
    texts = {k: None if v is None else instant_text(v) for k, v in (("first", s.first), ("last", s.last))}
    return {"signature": s.id, "lines": s.lines} | texts | {"by_15m": list(s.by_15m)}


def _objective(r: Mapping[str, Any]) -> dict[str, Any]:
    left = budget(r)
    return dict(r) | {"budget": None if left is None else asdict(left)}
