"""What several sections say in the same way: sources, holes, documents, alerts, runs."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.model import Coverage, Window, merge
from pipeline.report.data import ReportData, coverage_of, prefix_of
from pipeline.report.rich import Rich, Span, code, document, issue, joined, link, say
from pipeline.report.text import between, count, duration, percent
from pipeline.report.words import Words


def source_name(words: Words, what: str, source: str) -> str:
    """Name a source as people do."""
    return words.of("sources").get(f"{what}/{source}") or f"{source} {what}"


def holes(
    words: Words,
    gaps: Sequence[Window],
    day: Window,
    shown: int = 2,
    write: Callable[[Window, Window], str] = between,
) -> str:
    """Write holes as `10:14:12–12:51:12; 20:00:00–20:01:00 and 3 more`."""
    if len(gaps) == 1 and gaps[0].covers(day):
        return words("whole_day")
    return "; ".join(write(g, day) for g in gaps[:shown]) + words.more(len(gaps) - shown)


def no_data(words: Words, c: Coverage, day: Window) -> str:
    """Say what a source's holes hide: `no job data from … to … (2 h 37 min, 10.9 % of the day)`."""
    gaps, what = merge(c.gaps), words.of("what")[c.what]
    total = sum(g.seconds for g in gaps)
    if not gaps or total >= day.seconds:
        return words("no_data_at_all").format(what=what)
    facts = {"what": what, "length": duration(total), "share": percent(total / day.seconds)}
    if len(gaps) > 1:
        return words("no_data_more").format(holes=words.counted(len(gaps), "hole"), **facts)
    start, _, end = between(gaps[0], day).partition("–")
    return words("no_data").format(start=start, end=end, **facts)


def hidden(data: ReportData) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """Return what holes hide, and the reasons that say so; sources with the same holes are named together."""
    found: dict[tuple[Window, ...], list[Mapping[str, Any]]] = {}
    for r in data.reasons:
        if r["rule"] == "hole":
            found.setdefault(tuple(merge(coverage_of(data, r["what"]).gaps)), []).append(r)
    out = []
    for same in found.values():
        first, *others = [data.words.of("what")[r["what"]] for r in same]
        text = no_data(data.words, coverage_of(data, same[0]["what"]), data.window)
        together = data.words.listed([first, *others])
        out.append((text.replace(first, together, 1), same))
    return out


def doc(data: ReportData, path: str, name: str = "") -> Span | None:
    """Return the link to one of the house's documents, named after what it is by its file's name, unless told otherwise."""
    return document(data.docs_url, path, name or _title(data.words, path)) if path else None


def _title(words: Words, path: str) -> str:
    stem = path.rpartition("/")[2].partition(".")[0]
    return next((title for head, title in words.of("documents").items() if stem.startswith(head)), stem)


def alert(data: ReportData, name: object) -> Span:
    """Return an alert's name without what all of them begin with."""
    return code(str(name).removeprefix(prefix_of(data)))


def issues(words: Words, numbers: Sequence[Any], shown: int = 4) -> Rich:
    """Write issues as `#205, #211 and 3 more`."""
    listed = joined([issue(int(n)) for n in numbers[:shown]], ", ")
    return say("{listed}{more}", listed=listed, more=words.more(len(numbers) - shown))


def shown_share(words: Words, k: Any, n: Any) -> str:
    """Write `16 of 164`."""
    return words.share(int(k), int(n))


def least(words: Words, n: int, *, whole: bool) -> str:
    """Write a count; of what was only seen in part it is a lower bound."""
    return count(n) or "" if whole else words("at_least").format(n=count(n)) if n else words("zero_seen")


def rows_link(text: str, target: str, *, there: bool = True) -> Span:
    """Return a number that leads to its rows, where the page has them."""
    return link(text, target) if there else Span(text)


def titles(data: ReportData, ids: Sequence[str], otherwise: str) -> str:
    """Name signatures by their titles."""
    by_id: Mapping[str, str] = {s.id: s.named(data.words.lang) for s in data.signatures}
    return data.words.listed([by_id.get(i, i) for i in ids]) or otherwise


def capital(text: str) -> str:
    """Begin with a capital letter."""
    return text[:1].upper() + text[1:]


def lake_option(data: ReportData) -> str:
    """Return how a command names this report's lake, nothing for the one that a command takes anyway."""
    lake = str(data.inputs.get("lake", "lake"))
    return "" if lake == "lake" else f" --lake {shlex.quote(lake)}"
