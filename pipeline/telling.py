"""Which lines of `logs` tell something about jobs and runs; the others need not leave their file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.correlate import job_hint
from pipeline.rules import JobKind, Phrase
from pipeline.scan import Pattern, Rows, Scanner, matches

BY = ("ts", "level", "run_id", "job_name", "issue", "signatures", "line")  # what it takes to tell
OF_POD = ("ts", "app", "pod", "container", "job_name")  # what it takes to know a pod's first lines
_VERSION = 1  # to be raised whenever other lines are chosen: what was chosen before is then chosen anew
_BAD = ("WARN", "ERROR", "FATAL")
_WORDS = Pattern(r"\b(?:error|fatal|panic|failed)\b", any_case=True)
_WORD = Pattern(
    "error|fatal|panic|failed", any_case=True
)  # no boundaries, which cost most: the exact one has the last word
_RUN = r"(?P<run>[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})"
_MINUTE_NS, _HOUR_NS = 60_000_000_000, 3_600_000_000_000
_LATEST = np.iinfo(np.int64).max
Flags = npt.NDArray[np.bool_]


def rules_of(kinds: Sequence[JobKind], phrases: Sequence[Phrase]) -> str:
    """Return a digest of all by which lines are chosen, which no other rules have."""
    said = (_VERSION, BY, OF_POD, _BAD, _WORDS, _RUN, job_hint(kinds), [p.pattern for p in phrases])
    return hashlib.sha256(repr(said).encode()).hexdigest()


class Telling:
    """Chooses the lines that tell something: a signature, a phrase, a bad level, or that a job's or a run's work went wrong.

    Of the others that name a job the first of each minute, job and run stay: they show that it was there, and whose; of
    those that name a run and an issue alone the first of each hour. What is chosen of parts, chosen of once more, is what
    is chosen of the whole. For one thread at a time.
    """

    def __init__(self, kinds: Sequence[JobKind], phrases: Sequence[Phrase]) -> None:
        self._hint = Pattern(job_hint(kinds))
        self._phrases = [Pattern(p.pattern) for p in phrases]
        self._scanner = Scanner([*self._phrases, _WORD])

    def rows(self, logs: pa.Table) -> Rows:
        """Return which rows tell something; `logs` need the columns `BY` alone."""
        if not logs.num_rows:
            return np.empty(0, np.int64)
        columns = {c: _whole(logs[c]) for c in BY}
        line, job = columns["line"], columns["job_name"]
        *spoken, worded = self._scanner.hits(line)
        by_field = _flags(pc.is_valid(job))
        by_text = np.zeros(len(line), bool)
        others = np.flatnonzero(~by_field)
        by_text[others[matches(line.take(pa.array(others)), self._hint)]] = True
        named = by_field | by_text
        of_run = _flags(pc.is_valid(columns["run_id"]))
        tied = of_run & _flags(pc.is_valid(columns["issue"]))
        sure = _flags(pc.greater(pc.list_value_length(columns["signatures"]), 0))
        sure |= _flags(pc.is_in(columns["level"], pa.array(_BAD)))
        for pattern, hits in ((_WORDS, worded[(named | of_run)[worded]]), *zip(self._phrases, spoken, strict=True)):
            sure[hits[matches(line.take(pa.array(hits)), pattern)]] = True
        rest = np.flatnonzero((named | tied) & ~sure)
        return np.sort(np.concatenate([np.flatnonzero(sure), rest[self._firsts(columns, rest, by_text)]]))

    def _firsts(self, columns: dict[str, pa.Array], rest: Rows, by_text: Flags) -> Flags:
        """Tell which rows are the first of their minute, job, run and issue; by text also of how many jobs they name."""
        at = pa.array(rest)
        named, run = columns["job_name"].take(at), columns["run_id"].take(at)
        words = np.zeros(len(rest), np.int64)
        texts = np.flatnonzero(by_text[rest])
        if len(texts):
            lines = columns["line"].take(pa.array(rest[texts]))
            words[texts] = pc.count_substring_regex(lines, self._hint.text).to_numpy()
            first = pc.struct_field(pc.extract_regex(lines, f"(?P<job>{self._hint.text})"), "job")
            named = pc.replace_with_mask(named, pa.array(by_text[rest]), first)
        alone = np.flatnonzero(_flags(pc.is_null(run)))  # a line that names its run by text may be all that ties it
        whose = pc.struct_field(pc.extract_regex(columns["line"].take(pa.array(rest[alone])), _RUN), "run")
        run = pc.replace_with_mask(run, pc.is_null(run), whose)
        ts = columns["ts"].take(at).cast(pa.int64()).to_numpy()
        step = np.where(_flags(pc.is_valid(named)), _MINUTE_NS, _HOUR_NS)
        issue = columns["issue"].take(at)
        return _earliest(ts, _codes(named), _codes(run), _codes(issue), words, pd.factorize(ts // step)[0])


def first_of_pods(logs: pa.Table) -> Rows:
    """Return which rows of jobs are the first that a pod's container wrote; `logs` need the columns `OF_POD` alone.

    What is chosen of parts, chosen of once more, is what is chosen of the whole.
    """
    if not logs.num_rows:
        return np.empty(0, np.int64)
    columns = {c: _whole(logs[c]) for c in OF_POD}
    rows = np.flatnonzero(_flags(pc.is_valid(columns["job_name"])))
    ts, *whose = columns.values()
    return rows[_earliest(ts.cast(pa.int64()).to_numpy()[rows], *(_codes(c)[rows] for c in whose))]


def _earliest(ts: Rows, *by: Rows) -> Flags:
    """Tell which rows are the first of those that are alike by some numbers."""
    group = np.zeros(len(ts), np.int64)
    for of in by:
        group = pd.factorize(group * (of.max(initial=0) + 1) + of)[0]
    least = np.full(len(ts), _LATEST)
    np.minimum.at(least, group, ts)
    return np.asarray(least[group] == ts, bool)


def _codes(values: pa.Array) -> npt.NDArray[np.int64]:
    return np.asarray(values.dictionary_encode(null_encoding="encode").indices, np.int64)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


def _flags(values: pa.Array) -> Flags:
    return np.asarray(pc.fill_null(values, fill_value=False).to_numpy(zero_copy_only=False), bool)
