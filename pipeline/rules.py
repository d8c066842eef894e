"""The domain's rules as values: what queries/*.toml says, once it has been read and checked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from pipeline.model import seconds_of

CACHE, BUILD_REF, OTHER = "cache", "build-ref", "other"
_NAMES = 1 << 15  # of a day's jobs, each of which is asked about many times


@dataclass(frozen=True, slots=True)
class Signature:
    """A named log pattern with a meaning: `all_of` patterns must each be found in a line (case-insensitive).

    `title_ru` and `first_action_ru` are what the Russian report says; without them it says what the other does.
    """

    id: str
    failure_class: str
    all_of: Sequence[str]
    first_action: str
    runbook: str
    title: str = ""
    title_ru: str = ""
    first_action_ru: str = ""

    def named(self, lang: str) -> str:
        """Return what a report in a language calls it."""
        return (self.title_ru if lang == "ru" else "") or self.title or self.id

    def advice(self, lang: str) -> str:
        """Return what a report in a language says to do first."""
        return (self.first_action_ru if lang == "ru" else "") or self.first_action

    def matches(self, text: str) -> bool:
        """Tell whether every pattern is found in `text`."""
        return all(re.search(p, text, re.IGNORECASE | re.ASCII) for p in self.all_of)


@dataclass(frozen=True, slots=True)
class JobKind:
    """How jobs of one kind are named and for how long they stay after they finished.

    `pattern` is a whole-name regular expression; groups `image` and `token` where the name holds them (`token` a
    prefix of the normalised run id of at most `token_length` characters), `run` where it holds the whole of it.
    `golden`: whether it counts in the golden signals; `apps` are its `app.kubernetes.io/name` labels.
    """

    kind: str
    pattern: str
    ttl_s: float
    golden: bool
    token_length: int = 0
    apps: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class AlertRule:
    """One alert of the SREs' catalogue.

    `measure` names what is counted (`failed_attempts`, `signature_lines`, `failure_ratio`, `recovery`); `kinds`,
    `signatures`, `apps` narrow it; the condition is `measure` over `window_s` compared by `op` (`>=` or `>`) with
    `threshold`; `minimum` finished ones make a ratio count; `classes` are the failure classes it is about.
    """

    name: str
    severity: str  # page | ticket
    measure: str
    window_s: float
    op: str
    threshold: float
    kinds: Sequence[str] = ()
    signatures: Sequence[str] = ()
    apps: Sequence[str] = ()
    minimum: int = 0
    classes: Sequence[str] = ()
    runbook: str = ""
    summary: str = ""

    def reached(self, value: float) -> bool:
        """Tell whether the condition holds for a measured value."""
        return value >= self.threshold if self.op == ">=" else value > self.threshold


@dataclass(frozen=True, slots=True)
class Objective:
    """One service level objective: `target` of `good/total` over `window_s`; `limit_s` for recovery."""

    name: str
    window: str  # as shown, "7d"
    window_s: float
    target: float
    kinds: Sequence[str] = ()
    limit_s: float | None = None
    freeze_at: float | None = None  # share of the budget spent within freeze_within_s that freezes risky changes
    freeze_within_s: float | None = None
    stabilise_at: float | None = None
    burn_fast: Sequence[str] = ()  # two windows, short and long: what burns over both of them burns
    burn_slow: Sequence[str] = ()
    burn_minimum: int = 0  # finished attempts from which a burn rate is judged
    runbook: str = ""

    def __post_init__(self) -> None:
        for pair in (self.burn_fast, self.burn_slow):
            if len(pair) not in {0, 2} or any(seconds_of(w) <= 0 for w in pair):
                raise ValueError("burn_fast and burn_slow are two windows each, a short and a long one")


@dataclass(frozen=True, slots=True)
class RedactionRule:
    """One kind of secret: `pattern` finds it; its group `secret`, else the whole match, is replaced.

    `hint` is a cheap, loose RE2 pattern without anchors that is found wherever `pattern` would be: the prefilter.
    `multiline_start` and `multiline_end` bound a secret that spreads over several entries of a stream.
    """

    id: str
    pattern: str
    hint: str
    multiline_start: str = ""
    multiline_end: str = ""


@dataclass(frozen=True, slots=True)
class Phrase:
    """A log phrase with a meaning (`retry`, `recovery`, `job_failed`, `run_failed`); groups `job`, `run` where named."""

    id: str
    pattern: str


@dataclass(frozen=True, slots=True)
class Attribute:
    """Something that lines tell about an attempt, by which failures are compared with successes.

    Read from `fields` of JSON lines about the job and from labels and metadata of its own pods, else by `pattern` (group
    `value`) from its lines' text, else, where it is `of_run`, from fields of its run's last line before it. `starts`: also
    compared by how it begins. `otherwise`: what it is where the attempt's lines are known and none tells.
    """

    id: str
    fields: Sequence[str] = ()
    pattern: str = ""
    of_run: bool = False
    starts: bool = False
    otherwise: str = ""

    def __post_init__(self) -> None:
        if not self.fields and not self.pattern:
            raise ValueError("it needs fields or a pattern")
        if self.pattern and "(?P<value>" not in self.pattern:
            raise ValueError("its pattern needs a group (?P<value>…)")


@dataclass(frozen=True, slots=True)
class LabelNames:
    """What an install calls the stream labels."""

    namespace: str = "namespace"
    app: str = "app"
    pod: str = "pod"
    container: str = "container"
    job_name: str = "job_name"


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Everything that queries/ and the user's own files say."""

    queries: Mapping[str, str]  # id -> text with ${placeholders}
    signatures: Sequence[Signature]
    job_kinds: Sequence[JobKind]
    alerts: Sequence[AlertRule]
    objectives: Sequence[Objective]
    redaction: Sequence[RedactionRule]
    phrases: Sequence[Phrase] = ()
    attributes: Sequence[Attribute] = ()
    version: str = ""  # hash of all texts

    def golden_kinds(self) -> list[str]:
        """Return the kinds that count in the golden signals."""
        return [k.kind for k in self.job_kinds if k.golden]


def run_token(run_id: str, length: int = 12) -> str:
    """Return what a job name carries of a run id (domain section 1): normalised, cut to 12, then to `length`."""
    return normal_run_id(run_id)[: min(12, length)].rstrip("-")


@lru_cache(maxsize=_NAMES)
def normal_run_id(run_id: str) -> str:
    """Return a run id as names of run jobs carry it: lower case, other characters as single `-`."""
    return re.sub(r"-{2,}", "-", re.sub(r"[^a-z0-9]", "-", run_id.lower())).strip("-")


def kind_of(job_name: str, kinds: Sequence[JobKind]) -> tuple[JobKind, Mapping[str, str | None]] | None:
    """Return the kind whose pattern is the whole of a job's name, with the name's parts; None where none fits."""
    for kind in kinds:
        parts = _parts(kind.pattern, job_name)
        if parts is not None:
            return kind, parts
    return None


@lru_cache(maxsize=_NAMES)
def _parts(pattern: str, name: str) -> Mapping[str, str | None] | None:
    found = re.fullmatch(pattern, name)
    return MappingProxyType(found.groupdict()) if found else None
