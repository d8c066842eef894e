"""Log entries -> rows of `logs`: what kind of line it is, its own fields, its signatures, and nothing that is a secret."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import logfields, origins, schemas
from pipeline.finder import Finder, Found, Redacts
from pipeline.logfields import BROKEN, FORMATS, NAMED, Own, Read
from pipeline.model import Block, Entry, Pairs, Run
from pipeline.origins import Origins, Whence
from pipeline.rules import LabelNames, Signature
from pipeline.scan import Pattern, matches

_SCHEMA = schemas.TABLES["logs"].schema
_BLOCK = 100_000
_WRITERS = 10_000  # whose unfinished traces and keys are remembered
_Stream = tuple[Pairs, str | None, str | None]
_Fields = dict[str, list[str | None]]


def to_logs(
    entries: Sequence[Entry], names: LabelNames, redactor: Redacts, signatures: Sequence[Signature]
) -> tuple[pa.Table, Counter[str]]:
    """Turn entries into rows of `logs`, sorted, and the counts of `LogRows`."""
    made = LogRows(names, redactor, signatures)
    ordered = sorted(entries, key=lambda e: e.ts)
    blocks = [_block(ordered[at : at + _BLOCK]) for at in range(0, len(ordered), _BLOCK)]
    table = pa.concat_tables([schemas.empty("logs"), *(made.rows(b) for b in blocks)])
    return schemas.in_order("logs", table.combine_chunks()), made.counts


def _block(entries: Sequence[Entry]) -> Block:
    """Return entries as columns in the order they have, which tells the order of those of one instant."""
    runs = []
    for _, same in groupby(entries, key=lambda e: (id(e.labels), id(e.metadata))):
        of_run = list(same)
        labels, metadata = (tuple(sorted(pairs.items())) for pairs in (of_run[0].labels, of_run[0].metadata))
        runs.append(Run(labels, metadata, len(of_run)))
    return Block(np.array([e.ts for e in entries], np.int64), [e.line for e in entries], runs)


class LogRows:
    """Turns blocks of log entries into rows of `logs`.

    Blocks of a stream come in time order, so that what spreads over lines (a panic's trace, a private key) goes on from
    one block to the next. `counts`: `not_parsed`, `redactions`, `redacted:<rule>`.
    """

    def __init__(self, names: LabelNames, redactor: Redacts, signatures: Sequence[Signature]) -> None:
        self.counts: Counter[str] = Counter(not_parsed=0)
        self._redactor = redactor
        self._signatures = sorted((s for s in signatures if s.all_of), key=lambda s: s.id)
        self._finder = Finder(redactor, self._signatures)
        self._origins = Origins(names, self._clean, self._count)
        self._panicking: dict[_Stream, None] = {}
        self._unfinished: dict[_Stream, dict[str, int]] = {}

    def rows(self, block: Block) -> pa.Table:
        """Return the rows in the block's own order.

        `run_id`, `job_name` and `issue` are the line's own fields, else its stream's labels; nothing is inferred.
        """
        if not len(block):
            return schemas.empty("logs")
        lines, texts = _texts(block.lines)
        found = self._finder.find(lines, texts)
        writers = _Writers(block, self._origins.of(block.runs))
        read = logfields.read(lines, texts, [i for i in found.no_text() if logfields.NO_TEXT in lines[i]])
        self._panics(read, lines, found, writers)
        self.counts["not_parsed"] += int(np.count_nonzero(read.kinds == BROKEN))
        own = _named(read.own)
        clean = self._redacted(lines, own, self._hidden(lines, own, read.odd, found), found, writers)
        if clean:
            texts = _with(texts, clean)
        columns: dict[str, pa.Array | None] = {c: pa.array(own[c], pa.string()) for c in NAMED}
        columns["issue"] = logfields.issues(read.own, found.issue())
        for c, whence in origins.columns(writers.whence, writers.rows).items():
            said = columns.get(c)
            columns[c] = whence if said is None else _first(said, whence)
        columns["ts"] = pa.array(block.ts).cast(schemas.TS)
        columns["level"] = logfields.levels(read.own)
        columns["line"] = texts
        columns["format"] = pa.array(FORMATS, pa.string()).take(pa.array(read.kinds))
        columns["signatures"] = self._signed(lines, found, clean)
        return pa.Table.from_arrays([columns[c] for c in _SCHEMA.names], schema=_SCHEMA)

    def _count(self, found: Counter[str]) -> None:
        for rule, n in found.items():
            self.counts["redactions"] += n
            self.counts[f"redacted:{rule}"] += n

    def _clean(self, texts: Sequence[str]) -> dict[int, tuple[str, Counter[str]]]:
        """Return what becomes of the texts that hold a secret: position -> text, what was found."""
        hinted = self._finder.find(texts).hinted()
        held = [i for i, numbers in hinted.items() if self._redactor.finds(texts[i], numbers)]
        return {i: self._redactor.text(texts[i]) for i in held}

    def _panics(self, read: Read, lines: Sequence[str], found: Found, writers: _Writers) -> None:
        """Tell a panic's lines: its trace goes on in its stream until a line that is none of it."""
        starts = [i for i in found.panic() if read.kinds[i] > BROKEN]
        if not starts and not self._panicking:
            return
        for stream, rows in writers.members(starts, self._panicking):
            kinds = read.kinds[rows].tolist()
            traced, going_on = logfields.panics([lines[i] for i in rows], kinds, panicking=stream in self._panicking)
            for k in traced:
                logfields.forget(read, rows[k])
            _remember(self._panicking, stream, None, keep=going_on)

    def _hidden(self, lines: Sequence[str], own: _Fields, odd: Sequence[int], found: Found) -> _Hidden:
        """Look through the fields that may hold what their line does not show: escapes, values that are no text."""
        rows: Sequence[int] = odd
        if self._finder.by_place:
            rows = range(len(lines))
        elif found.escaped():
            rows = sorted({*odd, *(i for i, line in enumerate(lines) if "\\" in line)})
        values = [(i, text) for texts in own.values() for i in rows if (text := texts[i])]
        inside = self._finder.find([text for _, text in values])
        hinted = [(values[k][0], numbers) for k, numbers in inside.hinted().items()]
        return _Hidden({values[k][0] for k in inside.bounds()}, hinted)

    def _redacted(
        self, lines: Sequence[str], own: _Fields, hidden: _Hidden, found: Found, writers: _Writers
    ) -> dict[int, str]:
        """Redact the fields in place and return the lines that change. Only what is found in lines counts."""
        clean = self._many_line_secrets(lines, own["msg"], found.bounds() | hidden.bounds, writers)
        hinted = found.hinted()
        for i, numbers in hidden.hinted:
            hinted.setdefault(i, set()).update(numbers)
        spread = set(clean)
        for i in hinted.keys() | spread:
            numbers = hinted.get(i, set())
            line = clean.get(i, lines[i])
            if i in spread or self._redactor.finds(line, numbers):
                clean[i], some = self._redactor.text(line)
                self._count(some)
            for texts in own.values():
                text = texts[i]
                if text and (i in spread or self._redactor.finds(text, numbers)):
                    texts[i] = self._redactor.text(text)[0]
        return {i: line for i, line in clean.items() if line != lines[i]}

    def _many_line_secrets(
        self, lines: Sequence[str], msgs: list[str | None], bounds: Collection[int], writers: _Writers
    ) -> dict[int, str]:
        """Redact secrets that spread over entries of one stream, whether lines of their own or the `msg` of lines."""
        clean: dict[int, str] = {}
        if not bounds and not self._unfinished:
            return clean
        for stream, rows in writers.members(bounds, self._unfinished):
            state = self._unfinished.get(stream, {})
            texts, at = [msgs[i] or lines[i] for i in rows], writers.instants(rows)
            for k, (rule, text) in self._redactor.across(texts, state, at).items():
                i = rows[k]
                clean[i] = _in_place([lines[i], self._redactor.unescaped(lines[i])], msgs[i], text)
                self._count(Counter({rule: 1}))
                if msgs[i]:
                    msgs[i] = text
            _remember(self._unfinished, stream, state, keep=bool(state))
        return clean

    def _signed(self, lines: Sequence[str], found: Found, changed: Mapping[int, str]) -> pa.Array:
        """Return the column `signatures`: those of what is left of lines after redaction."""
        may = [{*hits.tolist(), *changed} for hits in found.signed()]
        rows = sorted(set().union(*may))
        lengths = np.zeros(len(lines) + 1, np.int32)
        has: list[tuple[int, str]] = []
        if rows:
            shown = [changed.get(i, lines[i]) for i in rows]
            left = pa.array([self._redactor.unescaped(t) if "\\" in t else t for t in shown], pa.string())
            for s, hits in zip(self._signatures, may, strict=True):
                if hits:
                    all_found = [matches(left, Pattern(p, any_case=True)) for p in s.all_of]
                    signed = np.array(rows)[np.logical_and.reduce(all_found)]
                    lengths[signed + 1] += 1
                    has += [(i, s.id) for i in signed.tolist()]
        ids = pa.array([signature for _, signature in sorted(has)], pa.string())
        return pa.ListArray.from_arrays(pa.array(np.cumsum(lengths, dtype=np.int32)), ids, type=schemas.STRS)


class _Hidden:
    """What was found in the fields of lines: rows in which a secret over many lines may begin or end, hints of rows."""

    def __init__(self, bounds: set[int], hinted: list[tuple[int, set[int]]]) -> None:
        self.bounds = bounds
        self.hinted = hinted


class _Writers:
    """Whose the rows of a block are."""

    def __init__(self, block: Block, whence: Whence) -> None:
        self.whence = whence
        self.rows = np.array([run.rows for run in block.runs], np.int64)
        self._ends = np.cumsum(self.rows)
        self._ts = block.ts

    def instants(self, rows: Sequence[int]) -> list[int]:
        """Return when rows were written."""
        return [int(t) for t in self._ts[list(rows)]]

    def members(self, rows: Collection[int], streams: Collection[_Stream]) -> Iterator[tuple[_Stream, list[int]]]:
        """Yield the streams that these rows or `streams` are about, each with all its rows in time order."""
        about = np.unique(np.searchsorted(self._ends, sorted(rows), side="right")).tolist()
        wanted = {self.whence.origins[n].stream for n in about} | set(streams)
        runs: dict[_Stream, list[Any]] = {}
        for origin, n, end in zip(self.whence.origins, self.rows.tolist(), self._ends.tolist(), strict=True):
            if origin.stream in wanted:
                runs.setdefault(origin.stream, []).append(np.arange(end - n, end))
        for stream, parts in runs.items():
            of_stream = np.concatenate(parts)
            yield stream, of_stream[np.argsort(self._ts[of_stream], kind="stable")].tolist()


def _texts(lines: list[str]) -> tuple[list[str], pa.Array]:
    """Return lines and the same as Arrow has them."""
    try:
        return lines, pa.array(lines, pa.string())
    except UnicodeEncodeError:
        lines = [logfields.encodable(line) for line in lines]
        return lines, pa.array(lines, pa.string())


def _named(own: Sequence[Own]) -> _Fields:
    """Return the fields that are texts."""
    return {
        "msg": [o.msg or None for o in own],
        "err": [o.err or None for o in own],
        "run_id": [o.run_id or None for o in own],
        "job_name": [o.job_name or None for o in own],
    }


def _first(said: pa.Array, whence: pa.Array) -> pa.Array:
    """Return what lines say, else what is said of where they come from."""
    return said if whence.null_count == len(whence) or not said.null_count else pc.coalesce(said, whence)


def _with(texts: pa.Array, clean: dict[int, str]) -> pa.Array:
    changed = sorted(clean)
    mask = np.zeros(len(texts), np.bool_)
    mask[changed] = True
    return pc.replace_with_mask(texts, pa.array(mask), pa.array([clean[i] for i in changed], pa.string()))


def _in_place(spellings: Sequence[str], msg: str | None, clean: str) -> str:
    """Put a clean message into its line, however the line spells it."""
    return next((s.replace(msg, clean) for s in spellings if msg and msg in s), clean)


def _remember(states: dict[_Stream, Any], stream: _Stream, state: Any, *, keep: bool) -> None:
    """Keep or drop what a stream has not finished; of too many those who were silent longest are forgotten."""
    states.pop(stream, None)
    if keep:
        states[stream] = state
    while len(states) > _WRITERS:
        del states[next(iter(states))]
