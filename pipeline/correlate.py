"""Ties lines to jobs, jobs to runs and runs to issues, each link with how it is known; what is ambiguous stays null."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from pipeline import schemas
from pipeline.model import NS, Window
from pipeline.rules import JobKind, kind_of, normal_run_id, run_token
from pipeline.schemas import plain

_POD_SUFFIX = re.compile(r"-[a-z0-9]{5}$")
_POD_OF_RUN = re.compile(r"-[0-9a-f]{8}-[0-9a-f]{3}-[a-z0-9]{5}$")
_HEAD = re.compile(r"([a-z0-9-]*)(?:\(\?:([a-z0-9-]+(?:\|[a-z0-9-]+)*)\)(?![?*{]))?")
_GROUP = re.compile(r"\([^()]*\)|\[[^\]]*\]")
_RUN = re.compile(r"(?<![0-9a-fA-F-])[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}(?![0-9a-fA-F-])")
_WORD_START = r"(?:(?<![a-z0-9-])|(?<=\\[nrt]))"  # also after a line break that JSON spells `\n`
_CUT = 62  # names are cut at 63 characters, and a `-` left at the end goes too
_MARKER, _LABEL, _FIELD, _TEXT = range(4)
_FOUND_BY = {"marker": _MARKER, "label": _LABEL, "text": _TEXT}
_ONE_SECOND = pd.Timedelta(seconds=1)
_MINUTE_NS, _HOUR_NS = 60 * NS, 3600 * NS
_LATE_LINE = pd.Timedelta(seconds=60)
_POD_LATER = pd.Timedelta(seconds=5)  # the controller makes a job's pod, and says so, within seconds


Spans = Mapping[str, tuple[int, int]]  # runs, each with the first and the last instant (ns) at which it is spoken of


def job_hint(kinds: Sequence[JobKind]) -> str:
    """Return an RE2 pattern that finds every word which may be a job's name."""
    heads = sorted({h for k in kinds for h in _heads(k.pattern)})
    return f"(?:{'|'.join(heads)})[a-z0-9-]*"


def _heads(pattern: str) -> list[str]:
    """Return how the names of a kind begin: the pattern's literal start, with a group of plain words right after it."""
    flat, nested = pattern, ""
    while flat != nested:
        flat, nested = _GROUP.sub("", flat), flat
    if "|" in flat:
        return [""]  # alternatives that need not begin alike
    found = _HEAD.match(pattern)
    plain, words = (found[1], found[2]) if found else ("", None)
    if words:
        return [plain + w for w in words.split("|")]
    return [plain[:-1] if pattern[len(plain) : len(plain) + 1] in {"?", "*", "{"} else plain]


def job_of_line(lines: pd.DataFrame, known: Collection[str], kinds: Sequence[JobKind]) -> pd.Series:
    """Return the job each row of `logs` is about: its field, else its stream's label, else the one its text names.

    `known` are names of attempts that exist; a pod's name counts as its job's. Missing where a line names none or two.
    """
    names = set(known)
    hint = re.compile(_WORD_START + job_hint(kinds))

    def named(text: str) -> str | None:
        found = {j for word in hint.findall(text) if (j := _job_of_word(word.rstrip("-"), names, kinds))}
        return found.pop() if len(found) == 1 else None

    own = lines["job_name"].astype(object).where(lines["job_name"].notna(), None)
    blank = own.isna()
    texts = lines.loc[blank, "line"].astype(object)
    # a line's own field wins over its text, and most lines name no job at all
    jobs = own.where(~blank, texts.map(lambda t: named(t) if isinstance(t, str) else None).reindex(lines.index))
    return jobs.astype("str")


def _job_of_word(word: str, names: Collection[str], kinds: Sequence[JobKind]) -> str | None:
    bare = _POD_SUFFIX.sub("", word)
    if word in names or bare in names:
        return word if word in names else bare
    if _POD_OF_RUN.search(word) and kind_of(bare, kinds):
        return bare  # a pattern that is as free as an image's name would take the pod's suffix for a token
    return next((w for w in (word, bare) if kind_of(w, kinds)), None)


def attempt_of_line(lines: pd.DataFrame, attempts: pd.DataFrame) -> pd.Series:
    """Return for each line with a `job` the index (in `attempts`) of the attempt it is about, missing where there is none.

    From the attempt's creation until a second after the next of that name is created, and at most a minute after its end
    (contract, Failures). Creation times are cut to the second, unless a line itself tells the creation: a line that
    announces the retry is about the one before. An event shows a job some seconds after its creation. Of a name that
    several namespaces have, a line written in one of these is about the one there.
    """
    out = pd.Series(pd.NA, index=lines.index, dtype="Int64")
    about = lines.dropna(subset=["job"])
    columns = ["job_name", "namespace", "created_at", "ended_at", "source"]
    lives = attempts[columns].reset_index(names="i").dropna(subset=["created_at"])
    if about.empty or lives.empty:
        return out
    lives = lives.sort_values("created_at")
    first = ~lives.duplicated(["namespace", "job_name"])
    exact = first | (lives["source"] == "logs")
    lives["from"] = lives["created_at"].where(exact, lives["created_at"] + _ONE_SECOND)
    lives["from"] = lives["from"].mask(first & (lives["source"] == "events"), lives["created_at"] - _POD_LATER)
    ordered = about[["ts", "job", "namespace"]].reset_index(names="line").sort_values("ts")
    there = lives[["job_name", "namespace"]].drop_duplicates()
    there = there[there["job_name"].duplicated(keep=False)].dropna()
    places = set(zip(there["job_name"], there["namespace"], strict=True))
    ordered["place"], lives["place"] = ordered["job"], lives["job_name"]
    if places:
        whose = zip(plain(ordered["job"]), plain(ordered["namespace"]), strict=True)
        ordered["place"] = [f"{job}\0{n}" if (job, n) in places else job for job, n in whose]
        apart = lives[[p in places for p in zip(plain(lives["job_name"]), plain(lives["namespace"]), strict=True)]]
        apart = apart.assign(place=apart["job_name"] + "\0" + apart["namespace"])
        lives = pd.concat([lives, apart])
    lives = lives.sort_values("from")
    met = pd.merge_asof(ordered, lives, left_on="ts", right_on="from", by="place")
    met = met[met["i"].notna() & (met["ended_at"].isna() | (met["ts"] <= met["ended_at"] + _LATE_LINE))]
    out.loc[met["line"]] = met["i"].astype("Int64").to_numpy()
    return out


@dataclass(frozen=True)
class _Runs:
    """The runs that any source named, and the tokens that names of jobs carry of them."""

    known: Collection[str]
    kinds: Sequence[JobKind]
    tokens: Mapping[tuple[str, str], Collection[str]]

    @classmethod
    def of(cls, known: Collection[str], kinds: Sequence[JobKind]) -> _Runs:
        tokens: dict[tuple[str, str], set[str]] = {}
        for kind in (k for k in kinds if k.token_length):
            for run in known:
                tokens.setdefault((kind.kind, run_token(run, kind.token_length)), set()).add(run)
        return cls(known, kinds, tokens)

    def that_fit(self, name: str) -> Collection[str]:
        """Return the known runs that a job's name fits. A greedy image may hide the token, so the name's end decides."""
        found = kind_of(name, self.kinds)
        if found is None:
            return ()
        kind, parts = found
        whole = parts.get("run")
        if whole:
            cut = len(name) >= _CUT
            return {r for r in self.known if (n := normal_run_id(r)) == whole or (cut and n.startswith(whole))}
        if not kind.token_length or not parts.get("token"):
            return ()
        ends = [name[i + 1 :] for i, c in enumerate(name) if c == "-"]
        return {r for e in ends for r in self.tokens.get((kind.kind, e), ())}


def link_runs(
    attempts: pd.DataFrame,
    lines: pd.DataFrame,
    issue_runs: pd.DataFrame,
    kinds: Sequence[JobKind],
    runs: Collection[str] = (),
    spoken: Spans | None = None,
    holes: Sequence[Window] = (),
) -> pd.DataFrame:
    """Return attempts with `run_id`, `issue`, `linked_by`; a name that fits two runs stays without one.

    In the order of certainty: a line's own fields that name both, the job's label, the token in the job's name when it
    fits exactly one of the known runs, the marker of an issue's comment, a line's or a comment's text. A comment only
    tells which of the runs that the name fits it is: where a name carries nothing of a run, only a line that names both
    leads to it. Last, the one run of which lines spoke as the attempt was created, if none of the others that the name
    fits can have been there: lines spoke of each, of none within an hour, in which the logs have no hole.

    `lines` are rows of `logs` with `job`, `runs` all that any source named, `spoken` from when to when all of the lines
    name each, `holes` of the logs.
    """
    rows = attempts.copy()
    runs = {*runs, *(spoken or {})}
    told_of = {*runs, *lines["run_id"].dropna(), *issue_runs["run_id"].dropna(), *rows["run_id"].dropna()}
    known = told_of | _named_whole(plain(rows["job_name"]), kinds, told_of)
    fitting = _Runs.of(known, kinds)
    both = lines.assign(i=attempt_of_line(lines, rows)).dropna(subset=["i"])
    in_field = both["job_name"].notna() & (both["job_name"] == both["job"])
    by_field = _only(both[in_field].dropna(subset=["run_id"]), "i")
    told = [_told(r, t, known) for r, t in zip(plain(both["run_id"]), plain(both["line"]), strict=True)]
    by_text = _only(both.assign(run_id=pd.Series(told, both.index, dtype="str")), "i")
    by_comment = {how: _only(issue_runs[issue_runs["found_by"] == how], "job_name") for how in ("marker", "text")}
    links = []
    whose = (plain(rows[c]) for c in ("job_name", "run_id", "created_at"))
    for i, name, label, created in zip(rows.index, *whose, strict=True):
        fits = fitting.that_fit(name)
        marked, written = (r if (r := by_comment[how].get(name)) in fits else None for how in ("marker", "text"))
        options = (
            (by_field.get(i), "field"),
            (label if isinstance(label, str) else None, "label"),
            (next(iter(fits)) if len(fits) == 1 else None, "job_token"),
            (marked, "issue_marker"),
            (by_text.get(i) or written, "text"),
            (_there(fits, spoken or {}, created.value, holes), "job_token"),
        )
        links.append(next(((r, h) for r, h in options if r), (None, None)))
    rows["run_id"] = [r for r, _ in links]
    rows["linked_by"] = [h for _, h in links]
    issues = _issues(issue_runs, lines)
    rows["issue"] = [
        own if pd.notna(own) and issues.get(r, _NO_ISSUE)[0] >= _LABEL else issues.get(r, _NO_ISSUE)[1]
        for r, own in zip(plain(rows["run_id"]), plain(rows["issue"]), strict=True)
    ]
    return schemas.tidy("attempts", rows)


def joined(*spans: Spans) -> Spans:
    """Return from when to when each run was spoken of, by all that is said."""
    out: dict[str, tuple[int, int]] = {}
    for run, (first, last) in (item for some in spans for item in some.items()):
        known = out.get(run, (first, last))
        out[run] = min(known[0], first), max(known[1], last)
    return out


def _there(fits: Collection[str], spoken: Spans, created: int, holes: Sequence[Window]) -> str | None:
    """Return the one of several runs that was there at an instant, while none of the others can have been."""
    if len(fits) < 2 or any(r not in spoken for r in fits):  # noqa: PLR2004 - one that fits alone needs no proof
        return None

    def near(run: str, around: int) -> bool:
        first, last = spoken[run]
        return first - around <= created <= last + around

    seen = Window(created - _HOUR_NS, created + _HOUR_NS)
    if any(h.intersect(seen) for h in holes):
        return None
    there = [r for r in fits if near(r, _HOUR_NS)]
    return there[0] if len(there) == 1 and near(there[0], _MINUTE_NS) else None


def _named_whole(names: Iterable[str], kinds: Sequence[JobKind], known: Collection[str]) -> set[str]:
    """Return the runs whose whole id is in a job's name and that nothing else told of: their tokens may be another's."""
    normal = {normal_run_id(r) for r in known}
    parts = (found[1].get("run") for n in names if (found := kind_of(n, kinds)))
    return {r for r in parts if r and r not in normal and _RUN.fullmatch(r)}


_NO_ISSUE: tuple[int, int | None] = (_TEXT + 1, None)


def ambiguous(attempts: pd.DataFrame, runs: Collection[str], kinds: Sequence[JobKind]) -> int:
    """Count the attempts without a run whose names fit more than one of the known runs."""
    fitting = _Runs.of({*runs, *attempts["run_id"].dropna()}, kinds)
    names = attempts.loc[attempts["run_id"].isna(), "job_name"]
    return sum(len(fitting.that_fit(n)) > 1 for n in plain(names))


def _told(field: object, text: object, known: Collection[str]) -> str | None:
    """Return the run of a line: its field, else the one known run that its text names."""
    if isinstance(field, str) or not isinstance(text, str):
        return field if isinstance(field, str) else None
    found = {r for r in _RUN.findall(text) if r in known}
    return found.pop() if len(found) == 1 else None


def _only(rows: pd.DataFrame, by: str) -> dict[object, str]:
    """Return the run of each key that names exactly one."""
    runs = rows.groupby(by)["run_id"].agg(["nunique", "first"])
    return runs.loc[runs["nunique"] == 1, "first"].to_dict()


def issue_of_run(issue_runs: pd.DataFrame, lines: pd.DataFrame) -> dict[str, int]:
    """Return the issue of each run: by a marker before a label before a line's own field before text; the earliest."""
    return {run: issue for run, (_, issue) in _issues(issue_runs, lines).items()}


def _issues(issue_runs: pd.DataFrame, lines: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """Return how each run's issue is known, and the issue. Lines of one run that name two issues tell none."""
    own = lines.dropna(subset=["run_id", "issue"]).groupby("run_id")["issue"].agg(["nunique", "first"])
    fields = [(str(r), _FIELD, int(i)) for r, i in own.loc[own["nunique"] == 1, "first"].items()]
    in_order = issue_runs.dropna(subset=["run_id", "issue"]).sort_values(["ts", "issue"])
    links = [
        (str(r), _FOUND_BY[h], int(i))
        for r, h, i in zip(in_order["run_id"], in_order["found_by"], in_order["issue"], strict=True)
    ]
    issues: dict[str, tuple[int, int]] = {}
    for run, rank, issue in sorted([*links, *fields], key=lambda link: link[1]):
        issues.setdefault(run, (rank, issue))
    return issues
