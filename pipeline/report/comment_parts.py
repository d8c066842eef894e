"""The parts of a comment that a daily report and a postmortem share, from their `summary.json`.

A table is `heads`, `right` (which columns are numbers) and `rows` of sentences (`Rich`), whose parts know what is code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.model import NS, Window, day_of
from pipeline.report.rich import Rich, Span, advice, code, joined, link, say
from pipeline.report.rich import address as web
from pipeline.report.text import duration, instant, md_fence, signed_time, visible, when
from pipeline.report.words import Words

_MOST_ROWS = 20  # attempts and alerts that are listed
_MOST_EVENTS = 25  # rows of a timeline
_MOST_EXCERPTS, _MOST_BLOCKS, _MOST_LINES = 6, 3, 6
_MOST_CHARACTERS = 1000  # of a sentence of our own
_MS = 10**6
_ABOUT = ("kind", "lines", "signature", "alert", "severity", "object", "runs")  # what a row of a timeline may name
_PLAIN = {"kind", "lines", "severity", "runs"}
_NAMED = {"replay": "{of}", "alert": "{of}"}  # the summary does not tell their severity


@dataclass(frozen=True)
class Told:
    """A report's summary, and how its values are said; times without a date are of the window's first day."""

    summary: Mapping[str, Any]
    words: Words
    window: Window

    def text(self, key: str) -> str:
        """Return a text of the comment's own."""
        return self.words.of("comment")[key]

    def rows(self, key: str) -> list[Mapping[str, Any]]:
        """Return a list of the summary; what is not there, or unknown, has no rows."""
        return list(self.summary.get(key) or ())

    def unknown(self, why: str | None = None) -> Rich:
        """Say that something is not known, and why where that is told."""
        known = self.words.of("labels")["unknown"]
        return Rich([Span(f"{known}: {visible(why)}" if why else known, "unknown")])

    def said(self, value: object) -> Rich:
        """Say a value in words, or that it is not known."""
        return self.unknown() if value is None else say("{value}", value=value)

    def words_of(self, text: object) -> Rich:
        """Return a sentence of our own as `rich.marked` wrote it, of bounded length, or that it is not known."""
        return self.unknown() if text is None else advice(visible(text, _MOST_CHARACTERS))

    def name(self, value: object) -> Rich:
        """Show what logs, jobs or settings call something: in code, or that it is not known."""
        return self.unknown() if value is None else Rich([code(value)])

    def at(self, value: object) -> Rich:
        """Write an instant, or that it is not known."""
        return self.said(when(value, Window.of_day(day_of(self.window.start))))

    @property
    def whole(self) -> bool:
        """Whether the jobs have no hole."""
        return (self.summary.get("data") or {}).get("prometheus", {}).get("complete") is not False


def table(heads: Sequence[str], right: Iterable[int], rows: Sequence[Sequence[Rich]]) -> dict[str, Any]:
    """Return a table; `right` names the columns of numbers and times."""
    sides = set(right)
    return {"heads": list(heads), "right": [n in sides for n in range(len(heads))], "rows": rows, "more": None}


def todo(told: Told) -> list[dict[str, Any]]:
    """Return what to do: `what`, `how`, and the document that tells more."""
    if told.summary.get("todo") is None:
        return [{"what": None, "how": told.unknown(), "doc": None}]
    return [_todo(told, entry) for entry in told.rows("todo")]


def _todo(told: Told, entry: Any) -> dict[str, Any]:
    if isinstance(entry, str):
        return {"what": None, "how": told.words_of(entry), "doc": None}
    doc = entry.get("doc")
    to = web(doc["url"]) if doc else None
    what, how = told.words_of(entry["what"]), told.words_of(entry["how"])
    return {"what": what, "how": how, "doc": link(doc["name"], to) if to else None}


def logs(told: Told) -> dict[str, Any] | None:
    """Return what the logs say: excerpts of a postmortem, of a day the first line of each combination of signatures."""
    told_of = told.rows("excerpts")
    same = _same(told_of)
    found = [_excerpt(told, es) for es in same[:_MOST_EXCERPTS]] or _examples(told)
    if not found:
        return None
    counted = ("signature", len(told_of)) if told_of else ("combination of signatures", len(found))
    title = told.text("logs").format(signatures=told.words.counted(counted[1], counted[0]))
    rest = len(same or found) - _MOST_EXCERPTS
    return {"title": title, "excerpts": found[:_MOST_EXCERPTS], "more": _more(told, rest)}


def _same(excerpts: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Put together the signatures that the same lines have."""
    by_lines: list[list[Mapping[str, Any]]] = []
    for e in excerpts:
        mine = next((es for es in by_lines if all(es[0].get(k) == e.get(k) for k in ("lines", "app", "shown"))), None)
        if mine is None:
            by_lines.append([e])
        else:
            mine.append(e)
    return by_lines


def _excerpt(told: Told, same: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    e = same[0]
    lines = e.get("lines")
    names = joined([told.name(x.get("signature")) for x in same], ", ")
    facts = {"signature": names, "app": told.name(e.get("app"))}
    facts |= {"lines": told.unknown() if lines is None else say(told.words.counted(lines, "line"))}
    facts |= {"first": told.at(e.get("first")), "last": told.at(e.get("last"))}
    blocks = list(e.get("shown") or ())[:_MOST_BLOCKS]
    fences = [md_fence([_line(told, s) for s in block[:_MOST_LINES]]) for block in blocks]
    return {"about": say(told.text("excerpt"), **facts), "fences": fences}


def _line(told: Told, s: Mapping[str, Any]) -> str:
    at = instant(s.get("ts"))
    exact = "" if at is None else f"{told.at(at)}.{at % NS // _MS:03d}"
    return " ".join(p for p in (exact, s.get("level"), s.get("text")) if p)


def _examples(told: Told) -> list[dict[str, Any]]:
    by_signatures: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for f in told.rows("failures"):
        if f.get("example"):
            by_signatures.setdefault(tuple(f.get("signatures") or ()), []).append(f)
    out = []
    for ids, rows in by_signatures.items():
        names = joined([code(i) for i in ids], ", ") if ids else say(told.words("signatures_none"))
        failures = told.words.counted(len(rows), "failed attempt")
        first = min(rows, key=lambda f: instant(f.get("first_line_at")) or 0)
        line = {"ts": first.get("first_line_at"), "text": first["example"]}
        about = say(told.text("example"), signatures=names, failures=failures)
        out.append({"about": about, "fences": [md_fence([_line(told, line)])]})
    return out


def attempts(told: Told) -> dict[str, Any] | None:
    """Return the failed attempts: the first of them, and how many more there are."""
    failures = told.rows("failures")
    if not failures:
        return None
    t = told.words.of("labels")
    heads = [t["ended"], t["kind"], t["job"], t["attempt"], t["run"], t["issue"], t["class"], t["recovered"]]
    n = f"{len(failures):,}"
    title = told.text("attempts").format(n=n if told.whole else told.words("at_least").format(n=n))
    made = table(heads, [0, 3, 7], [_attempt(told, f) for f in failures[:_MOST_ROWS]])
    return {"title": title, "table": made, "more": _more(told, len(failures) - _MOST_ROWS)}


def _attempt(told: Told, f: Mapping[str, Any]) -> list[Rich]:
    failed, back = instant(f.get("failed_at")), instant(f.get("recovered_at"))
    waited = None if failed is None or back is None else duration((back - failed) / NS)
    none = say(told.words("no_attempt")) if f.get("attempt") is None else told.unknown()
    return [
        told.at(failed),
        told.name(f.get("kind")),
        none if f.get("job_name") is None else told.name(f["job_name"]),
        say("–") if f.get("attempt") is None else told.said(f["attempt"]),
        told.name(f.get("run_id")),
        told.unknown() if f.get("issue") is None else Rich([code(f"#{f['issue']}")]),
        told.name(f.get("class")),
        say(told.words("not_recovered")) if back is None else told.said(waited),
    ]


def timeline(told: Told) -> dict[str, Any] | None:
    """Return what happened when; the full one is in the report's summary."""
    rows = told.rows("timeline")
    if not rows:
        return None
    t, pm = told.words.of("labels"), told.words.of("postmortem")
    shown = [_entry(told, e) for e in rows if e.get("shown")][:_MOST_EVENTS]
    title = told.text("timeline").format(rows=told.words.counted(len(rows), "row"))
    made = table(["UTC", t["class"], pm["what"], pm["times"], t["source"]], [0, 3], shown)
    return {"title": title, "table": made, "more": _more(told, len(rows) - len(shown))}


def _entry(told: Told, e: Mapping[str, Any]) -> list[Rich]:
    about: Mapping[str, Any] = e.get("about") or {}
    facts: dict[str, object] = dict.fromkeys(_ABOUT, "–")
    facts |= {k: v if k in _PLAIN else code(v) for k, v in about.items()}
    facts["issue"] = code(f"#{told.summary['issue']}")
    form = told.words.of("entries").get(str(e.get("what")))
    runs = told.words.of("told_by")["runs"]
    return [
        told.at(e.get("at")),
        told.name(e.get("class")),
        told.unknown() if form is None else say(form, **facts),
        told.said(None if e.get("times") is None else f"{e['times']:,}"),
        say(runs, runs=about.get("runs")) if e.get("source") == "runs" else told_by(told, e.get("source"), e.get("of")),
    ]


def told_by(told: Told, source: str | None, of: str | None) -> Rich:
    """Say what tells an instant; a comment of a person is not linked: its address came from there."""
    forms = told.words.of("told_by")
    if source is None:
        return told.unknown()
    if source == "comment":
        return say(forms["comment"])
    if of is None:
        return say(forms.get(f"{source}_unnamed", forms["unnamed"]))
    return say(_NAMED.get(source) or forms.get(source, "{of}"), of=code(of))


def alerts(told: Told) -> dict[str, Any] | None:
    """Return the alerts that should have fired, against those that did."""
    rows = told.rows("alert_audit")
    if not rows:
        return None
    t, w = told.words.of("labels"), told.words
    said = ["silenced" if r.get("silenced") else r.get("verdict") for r in rows]
    kinds = [w.of("counts")[k].format(n=said.count(k)) for k in w.of("counts") if k in said]
    made = [_alert(told, r, s) for r, s in zip(rows, said, strict=True)][:_MOST_ROWS]
    heads = [t["alert"], t["should"], t["fired"], t["outcome"], t["delay"]]
    title = told.text("alerts").format(counts=", ".join(kinds))
    return {"title": title, "table": table(heads, [1, 2, 4], made), "more": _more(told, len(rows) - _MOST_ROWS)}


def _alert(told: Told, r: Mapping[str, Any], said: str | None) -> list[Rich]:
    w, delay = told.words, r.get("delay_s")
    no, never = say(w("no")), say(w("never_fired"))
    return [
        told.name(r.get("alert")),
        no if r.get("expected_start") is None else told.at(r["expected_start"]),
        never if r.get("actual_start") is None else told.at(r["actual_start"]),
        told.unknown() if said is None else say(w.of("verdicts").get(said, said)),
        say("–") if delay is None else say(signed_time(delay, w("late"), w("early"), w("at_once"))),
    ]


def sources(told: Told) -> dict[str, Any] | None:
    """Return how whole each source is."""
    data = told.summary.get("data") or {}
    if not data:
        return None
    t, c, made = told.words.of("labels"), told.words.of("comment"), []
    for name, s in data.items():
        gaps = [f"{told.at(a)}–{told.at(b)}" for a, b in (s.get("gaps") or ())[:3]]
        holes = joined([*gaps, *([f"+{len(s['gaps']) - 3}"] if len(s.get("gaps") or ()) > len(gaps) else [])], "; ")
        whole = {True: say(c["whole"]), False: say(c["broken"])}.get(s.get("complete"), told.unknown())
        if s.get("configured") is False:
            whole = say(told.words("not_configured"))
        rows = (
            say("–") if s.get("configured") is False else told.said(None if s.get("rows") is None else f"{s['rows']:,}")
        )
        made.append([told.name(name), whole, rows, holes or say(t["none"])])
    heads = [t["source"], c["complete"], t["rows"], t["gaps"]]
    return {"title": told.words.of("heads")["data"], "table": table(heads, [2], made), "more": None}


def end(told: Told, command: str) -> Rich:
    """Say what the figures rest on, and how they are made again."""
    known = told.summary.get("data") is not None
    data = [s for s in (told.summary.get("data") or {}).values() if s.get("configured") is not False]
    judged = [s["complete"] for s in data if s.get("complete") is not None]
    complete = told.words.sources(judged.count(True), len(judged), len(data) - len(judged))
    whole = say(complete[:1].upper() + complete[1:]) if known else told.unknown()
    by = (told.summary.get("versions") or {}).get("aislot")
    return say(told.text("end"), sources=whole, by=told.name(by), command=code(command))


def _more(told: Told, n: int) -> str | None:
    return told.text("more").format(n=f"{n:,}") if n > 0 else None
