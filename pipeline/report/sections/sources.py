"""Section 3: what the day's data is, how it is known to be complete, and what is not known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.model import Coverage, merge
from pipeline.report import english as en
from pipeline.report import labels
from pipeline.report.data import HEADLINE, ReportData, coverage_of
from pipeline.report.rich import Rich, Span, code, joined, say
from pipeline.report.sections.common import holes, source_name
from pipeline.report.text import clock, count, percent

_SIGNS = {True: ("✓", "ok"), False: ("?", "bad"), None: ("·", "off")}
_UNKNOWN_ENDS = ("running", "superseded", "vanished")


def section(data: ReportData) -> dict[str, Any]:
    """Return the section: `note`, `rows` (a source each) and `notes`."""
    configured = [c for c in data.coverage if c.configured]
    judged = [c.complete for c in configured if c.complete is not None]
    return {
        "note": en.sources(sum(judged), len(judged), len(configured) - len(judged)),
        "rows": [_row(data, c) for c in data.coverage],
        "notes": joined(_notes(data), " · "),
    }


def unknown_ends(data: ReportData) -> dict[str, int]:
    """Count the attempts of the pipeline's kinds whose outcome no source told."""
    kinds = [k for k in data.totals if k not in {HEADLINE, "all"}]
    found = data.attempts.loc[data.attempts["kind"].isin(kinds), "outcome"].value_counts()
    return {o: int(found[o]) for o in _UNKNOWN_ENDS if o in found.index}


def _row(data: ReportData, c: Coverage) -> dict[str, Any]:
    name = source_name(c.what, c.source)
    if not c.configured:
        blank = dict.fromkeys(("rows", "first", "last", "gaps"), "")
        return blank | {"name": name, "sign": "–", "state": "off", "bad": False, "proof": say(en.NOT_CONFIGURED)}
    sign, state = _SIGNS[c.complete]
    gaps = merge(c.gaps)
    unit = en.UNITS.get((c.what, c.source), "row")
    silent = c.proof.get("error") and not c.rows  # it did not answer, so nothing is known of how many there are
    return {
        "name": name,
        "rows": None if silent else en.counted(c.rows, unit) if c.rows or c.complete is not False else en.ZERO_SEEN,
        "first": clock(c.proof.get("first")) or (None if silent else labels.T["none"]),
        "last": clock(c.proof.get("last")) or (None if silent else labels.T["none"]),
        "gaps": _gaps(data, c) if gaps else "0",
        "sign": sign,
        "state": state,
        "bad": c.complete is False,
        "proof": proof_of(c),
    }


def _gaps(data: ReportData, c: Coverage) -> str:
    gaps = merge(c.gaps)
    return f"{len(gaps)}: {holes(gaps, data.window)}"


def proof_of(c: Coverage) -> Rich:
    """Say how a source's data is known to be complete, or what is wrong with it."""
    if not c.configured:
        return say(en.NOT_CONFIGURED)
    if c.proof.get("error"):
        said: Rich = Rich([code(c.proof["error"])])
    else:
        said = _PROOFS.get((c.what, c.source), _bare)(c)
    if c.complete is not False:
        return said
    return say("{incomplete} {said}", incomplete=Span(en.PROOF_INCOMPLETE, "strong"), said=said)


def _loki(c: Coverage) -> Rich:
    counts = {k: count(c.proof.get(k, 0)) for k in ("reconciled", "counted")}
    said = [say(en.PROOF_LOKI, **counts)]
    if c.proof.get("short"):
        rows, wanted = (sum(int(pair[i]) for pair in c.proof["short"].values()) for i in (0, 1))
        steps = en.counted(len(c.proof["short"]), "step")
        said.append(say(en.PROOF_SHORT, steps=steps, rows=count(rows), counted=count(wanted)))
    if c.proof.get("silent") and not c.rows:
        said.append(say(en.PROOF_SILENT))
    if c.proof.get("gone_from_server"):
        said.append(say(en.PROOF_GONE, lines=en.counted(int(c.proof["gone_from_server"]), "line")))
    if c.proof.get("unread"):
        said.append(say(en.PROOF_UNREAD, chunks=en.counted(int(c.proof["unread"]), "chunk")))
    if c.proof.get("explained"):
        said.append(say(en.PROOF_EXPLAINED, n=count(c.proof["explained"])))
    if c.proof.get("hidden_s"):
        said.append(say(en.PROOF_HIDDEN))
    return joined(said, "; ")


def _prometheus_jobs(c: Coverage) -> Rich:
    seen, expected = int(c.proof.get("scrapes") or 0), c.proof.get("expected")
    if not seen:
        return say(en.PROOF_NO_SCRAPE)
    text = say(
        en.PROOF_WITHOUT_HOLE if c.complete else en.PROOF_SCRAPES, scrapes=count(seen), expected=count(expected) or "?"
    )
    share = f" ({percent(seen / expected)})" if c.complete is False and expected else ""
    return say("{text}{share}", text=text, share=share)


def _prometheus_alerts(c: Coverage) -> Rich:
    method = str(c.proof.get("method", "rule evaluations"))
    facts = {"evaluations": count(c.proof.get("evaluations", 0)), "method": en.METHODS.get(method, method)}
    if c.proof.get("samples") or c.rows:
        return say(en.PROOF_FIRED, **facts)
    quiet = en.PROOF_SEEN if c.complete is False else en.PROOF_QUIET
    return say(en.PROOF_NO_RULES if method == "server scrapes" else quiet, **facts)


def _listed(c: Coverage) -> Rich:
    return say(en.PROOF_LISTED, listed=count(c.proof.get("listed", 0)))


def _events(c: Coverage) -> Rich:
    said, but = [], en.PROOF_UNJUDGED
    if "lists" in c.proof:
        said.append(say(en.PROOF_EVENTS, lists=en.counted(int(c.proof["lists"]), "list"), method=_method(c)))
    if "counted" in c.proof:
        facts = {key: count(c.proof.get(key, 0)) for key in ("lines", "counted", "others", "elsewhere")}
        said.append(say(en.PROOF_SHIPPED, **facts))
        but = en.PROOF_UNPROVEN
    return say("{said}{but}", said=joined(said, "; "), but=but if c.complete is None else "")


def _comments(c: Coverage) -> Rich:
    comments = en.counted(int(c.proof.get("comments", 0)), "comment")
    if not c.proof.get("pages"):
        return say(en.PROOF_SAVED, comments=comments)
    return say(en.PROOF_COMMENTS, comments=comments, pages=en.counted(int(c.proof["pages"]), "page"))


def _kubectl_logs(c: Coverage) -> Rich:
    return say(en.PROOF_LOGS, logs=en.counted(int(c.proof.get("logs", 0)), "log"), method=_method(c))


def _kubectl_jobs(c: Coverage) -> Rich:
    shown = en.counted(int(c.proof.get("snapshots", 0)), "snapshot")
    return say(en.PROOF_JOBS, snapshots=shown, method=_method(c))


def _bare(c: Coverage) -> Rich:
    return say("{method}", method=_method(c))


def _method(c: Coverage) -> str:
    return str(c.proof.get("method", "kubectl"))


_PROOFS = {
    ("logs", "loki"): _loki,
    ("logs", "kubernetes"): _kubectl_logs,
    ("jobs", "prometheus"): _prometheus_jobs,
    ("jobs", "kubernetes"): _kubectl_jobs,
    ("alerts", "prometheus"): _prometheus_alerts,
    ("alerts", "alertmanager"): _listed,
    ("events", "kubernetes"): _events,
    ("issues", "github"): _comments,
}


def _notes(data: ReportData) -> list[Rich]:
    logs = coverage_of(data, "logs")
    found = logs.proof.get("found") or {}
    counts: list[tuple[str, Any]] = [(en.NOTE_PARSED, _seen(logs, found, "not_parsed"))]
    counts.append((en.NOTE_REDACTED, _seen(logs, found, "redactions")))
    notes = [_note(template, n) for template, n in counts]
    if logs.proof.get("late"):
        notes.append(say(en.NOTE_LATE, n=count(logs.proof["late"])))
    if logs.proof.get("unstamped"):
        notes.append(say(en.NOTE_UNSTAMPED, n=count(logs.proof["unstamped"])))
    unread = coverage_of(data, "issues").proof.get("unreadable")
    notes += [say(en.NOTE_UNREADABLE, n=count(unread))] if unread else []
    notes.append(_ends(data))
    notes += [say(en.NOTE_AMBIGUOUS, n=count(data.ambiguous))] if data.ambiguous else []
    return [*notes, *_dump(data)]


def _note(template: str, n: str | None) -> Rich:
    return say(template, n=Span(labels.T["unknown"], "unknown") if n is None else n)


def _seen(logs: Coverage, found: Mapping[str, Any], key: str) -> str | None:
    """Return a count over the lines: of lines that nobody asked for nothing is known, of some only what was seen."""
    n = int(found.get(key, 0))
    if not logs.configured or (logs.complete is False and not n):
        return None
    return count(n) if logs.complete is not False else en.AT_LEAST.format(n=count(n))


def _ends(data: ReportData) -> Rich:
    ends = unknown_ends(data)
    if ends:
        return say(en.NOTE_ENDS, ends=", ".join(f"{n:,} {outcome}" for outcome, n in ends.items()))
    if data.totals["all"]["complete"]:
        return say(en.NOTE_ENDS_NONE)
    return say(en.NOTE_ENDS, ends=Span(labels.T["unknown"], "unknown"))


def _dump(data: ReportData) -> list[Rich]:
    """Say which numbers come from a dump."""
    what = [source_name(c.what, c.source) for c in data.coverage if _method(c) == "kubectl dump" and c.configured]
    return [say(en.NOTE_DUMP, what=", ".join(what))] if what else []
