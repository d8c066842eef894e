"""Ties lines to jobs, jobs to runs and runs to issues, each link with how it is known; what is ambiguous stays null."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import pandas as pd

from pipeline import schemas
from pipeline.rules import JobKind, kind_of, normal_run_id, run_token

_POD_SUFFIX = re.compile(r"-[a-z0-9]{5}$")
_HEAD = re.compile(r"[a-z0-9-]+")
_FOUND_BY = {"marker": 0, "label": 1, "text": 2}
_ONE_SECOND = pd.Timedelta(seconds=1)
_LATE_LINE = pd.Timedelta(seconds=60)


def job_hint(kinds: Sequence[JobKind]) -> str:
    """Return an RE2 pattern that finds every word which may be a job's name."""
    heads = sorted({m[0] for k in kinds if (m := _HEAD.match(k.pattern))})
    return f"(?:{'|'.join(heads)})[a-z0-9-]*"


def job_of_line(lines: pd.DataFrame, known: Collection[str], kinds: Sequence[JobKind]) -> pd.Series:
    """Return the job each row of `logs` is about: its field, else its stream's label, else the one its text names.

    `known` are names of attempts that exist; a pod's name counts as its job's. Missing where a line names none or two.
    """
    names = set(known)
    hint = re.compile(job_hint(kinds))

    def named(text: str) -> str | None:
        found = {j for word in hint.findall(text) if (j := _job_of_word(word.rstrip("-"), names, kinds))}
        return found.pop() if len(found) == 1 else None

    own = lines["job_name"].astype(object).where(lines["job_name"].notna(), None)
    blank = own.isna()
    texts = lines.loc[blank, "line"].astype(object)
    # a line's own field wins over its text, and most lines name no job at all
    return own.where(~blank, texts.map(lambda t: named(t) if isinstance(t, str) else None).reindex(lines.index))


def _job_of_word(word: str, names: Collection[str], kinds: Sequence[JobKind]) -> str | None:
    if word in names:
        return word
    job = _POD_SUFFIX.sub("", word)
    if job in names:
        return job
    return word if kind_of(word, kinds) else None


def attempt_of_line(lines: pd.DataFrame, attempts: pd.DataFrame) -> pd.Series:
    """Return for each line with a `job` the index (in `attempts`) of the attempt it is about, missing where there is none.

    From the attempt's creation until a second after the next of that name is created, and at most a minute after its end
    (contract, Failures). Creation times are cut to the second: a line that announces the retry is about the one before.
    """
    out = pd.Series(pd.NA, index=lines.index, dtype="Int64")
    about = lines.dropna(subset=["job"])
    if about.empty or attempts.empty:
        return out
    lives = attempts[["job_name", "created_at", "ended_at"]].reset_index(names="i").sort_values("created_at")
    first = lives.groupby("job_name").cumcount() == 0
    lives["from"] = lives["created_at"].where(first, lives["created_at"] + _ONE_SECOND)
    ordered = about[["ts", "job"]].reset_index(names="line").sort_values("ts")
    met = pd.merge_asof(
        ordered, lives.sort_values("from"), left_on="ts", right_on="from", left_by="job", right_by="job_name"
    )
    met = met[met["i"].notna() & (met["ended_at"].isna() | (met["ts"] <= met["ended_at"] + _LATE_LINE))]
    out.loc[met["line"]] = met["i"].astype("Int64").to_numpy()
    return out


def link_runs(
    attempts: pd.DataFrame,
    lines: pd.DataFrame,
    issue_runs: pd.DataFrame,
    kinds: Sequence[JobKind],
    runs: Collection[str] = (),
) -> pd.DataFrame:
    """Return attempts with `run_id`, `issue`, `linked_by`; a name that fits two runs stays without one.

    In the order of certainty: a line's own fields that name both, the job's label, the token in the job's name when it
    fits exactly one of the known runs, the marker of an issue's comment, a line's or a comment's text. `lines` are rows
    of `logs` with `job`; `runs` are all run ids that any source named.
    """
    rows = attempts.copy()
    known = {*runs, *lines["run_id"].dropna(), *issue_runs["run_id"].dropna(), *rows["run_id"].dropna()}
    where = attempt_of_line(lines, rows)
    both = lines.assign(i=where).dropna(subset=["run_id", "i"])
    in_field = both["job_name"].notna() & (both["job_name"] == both["job"])
    by_field, by_text = _only(both[in_field], "i"), _only(both, "i")
    tokens = _tokens(known, kinds)
    marked = issue_runs[issue_runs["job_name"].notna()]
    by_marker = _only(marked[marked["found_by"] == "marker"].rename(columns={"job_name": "j"}), "j")
    by_comment = _only(marked[marked["found_by"] == "text"].rename(columns={"job_name": "j"}), "j")
    links = []
    for i, name, label in zip(rows.index, rows["job_name"], rows["run_id"], strict=True):
        candidates = _candidates(name, tokens, known, kinds)
        token = next(iter(candidates)) if len(candidates) == 1 else None
        options = (
            (by_field.get(i), "field"),
            (label if isinstance(label, str) else None, "label"),
            (token, "job_token"),
            (by_marker.get(name), "issue_marker"),
            (by_text.get(i) or by_comment.get(name), "text"),
        )
        run, how = next(((r, h) for r, h in options if r), (None, None))
        links.append((run, how))
    rows["run_id"] = [r for r, _ in links]
    rows["linked_by"] = [h for _, h in links]
    issues = issue_of_run(issue_runs, lines)
    rows["issue"] = [issues.get(r, own) for r, own in zip(rows["run_id"], rows["issue"], strict=True)]
    return schemas.tidy("attempts", rows)


def ambiguous(attempts: pd.DataFrame, runs: Collection[str], kinds: Sequence[JobKind]) -> int:
    """Count the attempts without a run whose names fit more than one of the known runs."""
    known = {*runs, *attempts["run_id"].dropna()}
    tokens = _tokens(known, kinds)
    names = attempts.loc[attempts["run_id"].isna(), "job_name"]
    return sum(len(_candidates(n, tokens, known, kinds)) > 1 for n in names)


def _only(rows: pd.DataFrame, by: str) -> dict[object, str]:
    """Return the run of each key that names exactly one."""
    runs = rows.groupby(by)["run_id"].agg(["nunique", "first"])
    return runs.loc[runs["nunique"] == 1, "first"].to_dict()


def _tokens(known: Collection[str], kinds: Sequence[JobKind]) -> dict[tuple[str, str], set[str]]:
    tokens: dict[tuple[str, str], set[str]] = {}
    for kind in (k for k in kinds if k.token_length):
        for run in known:
            tokens.setdefault((kind.kind, run_token(run, kind.token_length)), set()).add(run)
    return tokens


def _candidates(
    name: str, tokens: dict[tuple[str, str], set[str]], known: Collection[str], kinds: Sequence[JobKind]
) -> set[str]:
    """Return the known runs that a job's name fits. A greedy image may hide the token, so the name's end decides."""
    found = kind_of(name, kinds)
    if found is None:
        return set()
    kind, parts = found
    if parts.get("run"):
        return {r for r in known if normal_run_id(r).startswith(str(parts["run"]))}
    if not kind.token_length or not parts.get("token"):
        return set()
    ends = [name[i + 1 :] for i, c in enumerate(name) if c == "-"]
    longest = next((t for e in ends if (t := tokens.get((kind.kind, e)))), None)
    return longest or set()


def issue_of_run(issue_runs: pd.DataFrame, lines: pd.DataFrame) -> dict[str, int]:
    """Return the issue of each run: a marker before a label before text, the earliest comment; else the line's own field."""
    own = lines.dropna(subset=["run_id", "issue"]).groupby("run_id")["issue"].agg(["nunique", "first"])
    certain = own.loc[own["nunique"] == 1, "first"]
    issues = {str(r): int(i) for r, i in certain.items()}
    ranked = issue_runs.assign(rank=issue_runs["found_by"].map(_FOUND_BY)).sort_values(["rank", "ts"])
    return issues | {str(r): int(i) for r, i in ranked.groupby("run_id")["issue"].first().items()}
