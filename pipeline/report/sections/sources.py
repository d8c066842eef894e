"""Section 3: what the day's data is, how it is known to be complete, and what is not known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.model import Coverage, merge
from pipeline.report.data import HEADLINE, ReportData, coverage_of
from pipeline.report.rich import Rich, Span, code, joined, say
from pipeline.report.sections.common import holes, source_name
from pipeline.report.text import clock, count, percent
from pipeline.report.words import Words

_SIGNS = {True: ("✓", "ok"), False: ("?", "bad"), None: ("·", "off")}
_UNKNOWN_ENDS = ("running", "superseded", "vanished")


def section(data: ReportData) -> dict[str, Any]:
    """Return the section: `note`, `rows` (a source each) and `notes`."""
    configured = [c for c in data.coverage if c.configured]
    judged = [c.complete for c in configured if c.complete is not None]
    return {
        "note": data.words.sources(sum(judged), len(judged), len(configured) - len(judged)),
        "rows": [_row(data, c) for c in data.coverage],
        "notes": joined(_notes(data), " · "),
    }


def unknown_ends(data: ReportData) -> dict[str, int]:
    """Count the attempts of the pipeline's kinds whose outcome no source told."""
    kinds = [k for k in data.totals if k not in {HEADLINE, "all"}]
    found = data.attempts.loc[data.attempts["kind"].isin(kinds), "outcome"].value_counts()
    return {o: int(found[o]) for o in _UNKNOWN_ENDS if o in found.index}


def _row(data: ReportData, c: Coverage) -> dict[str, Any]:
    name = source_name(data.words, c.what, c.source)
    if not c.configured:
        blank = dict.fromkeys(("rows", "first", "last", "gaps"), "")
        return blank | {
            "id": f"data-{c.what}",
            "name": name,
            "sign": "–",
            "state": "off",
            "bad": False,
            "proof": say(data.words("not_configured")),
        }
    sign, state = _SIGNS[c.complete]
    gaps = merge(c.gaps)
    unit = data.words.of("units").get(f"{c.what}/{c.source}", "row")
    silent = c.proof.get("error") and not c.rows  # it did not answer, so nothing is known of how many there are
    return {
        "id": f"data-{c.what}",
        "name": name,
        "rows": None
        if silent
        else data.words.counted(c.rows, unit)
        if c.rows or c.complete is not False
        else data.words("zero_seen"),
        "first": clock(c.proof.get("first")) or (None if silent else data.words.of("labels")["none"]),
        "last": clock(c.proof.get("last")) or (None if silent else data.words.of("labels")["none"]),
        "gaps": _gaps(data, c) if gaps else "0",
        "sign": sign,
        "state": state,
        "bad": c.complete is False,
        "proof": proof_of(data.words, c),
    }


def _gaps(data: ReportData, c: Coverage) -> str:
    gaps = merge(c.gaps)
    return f"{len(gaps)}: {holes(data.words, gaps, data.window)}"


def proof_of(words: Words, c: Coverage) -> Rich:
    """Say how a source's data is known to be complete, or what is wrong with it."""
    if not c.configured:
        return say(words("not_configured"))
    if c.proof.get("error"):
        said: Rich = Rich([code(c.proof["error"])])
    else:
        said = _PROOFS.get((c.what, c.source), _bare)(words, c)
    if c.complete is not False:
        return said
    return say("{incomplete} {said}", incomplete=Span(words("proof_incomplete"), "strong"), said=said)


def _loki(words: Words, c: Coverage) -> Rich:
    counts = {k: count(c.proof.get(k, 0)) for k in ("reconciled", "counted")}
    said = [say(words("proof_loki"), **counts)]
    if c.proof.get("short"):
        rows, wanted = (sum(int(pair[i]) for pair in c.proof["short"].values()) for i in (0, 1))
        steps = words.counted(len(c.proof["short"]), "step")
        said.append(say(words("proof_short"), steps=steps, rows=count(rows), counted=count(wanted)))
    if c.proof.get("silent") and not c.rows:
        said.append(say(words("proof_silent")))
    if c.proof.get("gone_from_server"):
        said.append(say(words("proof_gone"), lines=words.counted(int(c.proof["gone_from_server"]), "line")))
    if c.proof.get("unread"):
        said.append(say(words("proof_unread"), chunks=words.counted(int(c.proof["unread"]), "chunk")))
    if c.proof.get("explained"):
        said.append(say(words("proof_explained"), n=count(c.proof["explained"])))
    if c.proof.get("hidden_s"):
        said.append(say(words("proof_hidden")))
    return joined(said, "; ")


def _prometheus_jobs(words: Words, c: Coverage) -> Rich:
    seen, expected = int(c.proof.get("scrapes") or 0), c.proof.get("expected")
    if not seen:
        return say(words("proof_no_scrape"))
    text = say(
        words("proof_without_hole") if c.complete else words("proof_scrapes"),
        scrapes=count(seen),
        expected=count(expected) or "?",
    )
    share = f" ({percent(seen / expected)})" if c.complete is False and expected else ""
    return say("{text}{share}", text=text, share=share)


def _prometheus_alerts(words: Words, c: Coverage) -> Rich:
    method = str(c.proof.get("method", "rule evaluations"))
    facts = {
        "evaluations": count(c.proof.get("evaluations", 0)),
        "method": words.of("methods").get(method, method),
    }
    if c.proof.get("samples") or c.rows:
        return say(words("proof_fired"), **facts)
    quiet = words("proof_seen") if c.complete is False else words("proof_quiet")
    return say(words("proof_no_rules") if method == "server scrapes" else quiet, **facts)


def _listed(words: Words, c: Coverage) -> Rich:
    return say(words("proof_listed"), listed=count(c.proof.get("listed", 0)))


def _events(words: Words, c: Coverage) -> Rich:
    said, but = [], words("proof_unjudged")
    if "lists" in c.proof:
        said.append(
            say(
                words("proof_events"), lists=words.counted(int(c.proof["lists"]), "list"), method=_said_method(words, c)
            )
        )
    if "counted" in c.proof:
        facts = {key: count(c.proof.get(key, 0)) for key in ("lines", "counted", "others", "elsewhere")}
        said.append(say(words("proof_shipped"), **facts))
        but = words("proof_unproven")
    return say("{said}{but}", said=joined(said, "; "), but=but if c.complete is None else "")


def _comments(words: Words, c: Coverage) -> Rich:
    comments = words.counted(int(c.proof.get("comments", 0)), "comment")
    if not c.proof.get("pages"):
        return say(words("proof_saved"), comments=comments)
    return say(words("proof_comments"), comments=comments, pages=words.counted(int(c.proof["pages"]), "page"))


def _kubectl_logs(words: Words, c: Coverage) -> Rich:
    return say(
        words("proof_logs"), logs=words.counted(int(c.proof.get("logs", 0)), "log"), method=_said_method(words, c)
    )


def _kubectl_jobs(words: Words, c: Coverage) -> Rich:
    shown = words.counted(int(c.proof.get("snapshots", 0)), "snapshot")
    return say(words("proof_jobs"), snapshots=shown, method=_said_method(words, c))


def _bare(words: Words, c: Coverage) -> Rich:
    return say("{method}", method=_said_method(words, c))


def _said_method(words: Words, c: Coverage) -> str:
    return words.of("methods").get(_method(c), _method(c))


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
    counts: list[tuple[str, Any]] = [(data.words("note_parsed"), _seen(data.words, logs, found, "not_parsed"))]
    counts.append((data.words("note_redacted"), _seen(data.words, logs, found, "redactions")))
    notes = [_note(data.words, template, n) for template, n in counts]
    if logs.proof.get("late"):
        notes.append(say(data.words("note_late"), n=count(logs.proof["late"])))
    if logs.proof.get("unstamped"):
        notes.append(say(data.words("note_unstamped"), n=count(logs.proof["unstamped"])))
    unread = coverage_of(data, "issues").proof.get("unreadable")
    notes += [say(data.words("note_unreadable"), n=count(unread))] if unread else []
    notes.append(_ends(data))
    notes += [say(data.words("note_ambiguous"), n=count(data.ambiguous))] if data.ambiguous else []
    return [*notes, *_dump(data)]


def _note(words: Words, template: str, n: str | None) -> Rich:
    return say(template, n=Span(words.of("labels")["unknown"], "unknown") if n is None else n)


def _seen(words: Words, logs: Coverage, found: Mapping[str, Any], key: str) -> str | None:
    """Return a count over the lines: of lines that nobody asked for nothing is known, of some only what was seen."""
    n = int(found.get(key, 0))
    if not logs.configured or (logs.complete is False and not n):
        return None
    return count(n) if logs.complete is not False else words("at_least").format(n=count(n))


def _ends(data: ReportData) -> Rich:
    ends = unknown_ends(data)
    if ends:
        return say(data.words("note_ends"), ends=", ".join(f"{n:,} {outcome}" for outcome, n in ends.items()))
    if data.totals["all"]["complete"]:
        return say(data.words("note_ends_none"))
    return say(data.words("note_ends"), ends=Span(data.words.of("labels")["unknown"], "unknown"))


def _dump(data: ReportData) -> list[Rich]:
    """Say which numbers come from a dump."""
    what = [
        source_name(data.words, c.what, c.source)
        for c in data.coverage
        if _method(c) == "kubectl dump" and c.configured
    ]
    return [say(data.words("note_dump"), what=", ".join(what))] if what else []
