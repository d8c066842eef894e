"""An issue's incidents as a postmortem tells them: key times with what tells each, a timeline, what they cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

TIMES = (
    "first_error",
    "threshold_crossed",
    "alert_firing",
    "first_mention",
    "mitigation",
    "last_error",
    "first_success",
    "stable_since",
)


@dataclass(frozen=True, slots=True)
class Moment:
    """An instant (ns) and what tells it: `source` (line, attempt, replay, alert, comment, rollout, success) and its name.

    Without an instant `source` is why it is unknown.
    """

    at: int | None
    source: str
    of: str = ""
    id: str = ""


@dataclass(frozen=True)
class Case:
    """One incident: its row, its failures in time order, its key times, what told people first.

    `page`: whether a page about it that was due came: `matched`, `missed`, `none` due; None where nobody can tell.
    """

    incident: Mapping[str, Any]
    failures: Sequence[Mapping[str, Any]]
    times: Mapping[str, Moment]
    page: str | None
    detected: Moment


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a timeline: `what` happened `times` times from `at` (ns) on, to what `about` names, told by `source`."""

    at: int
    failure_class: str
    what: str
    about: Mapping[str, str]
    times: int
    source: str
    of: str = ""


@dataclass(frozen=True)
class Impact:
    """What incidents cost. `unlinked`: failures whose run is not known, which makes `runs_hit` a lower bound.

    `runs` had an attempt in the window; `lost_s` is how long failed attempts ran, of those of which that is known
    (`untimed`: the others); `retries` came after a failure under the same name; `budget_used_ratio` is the share of the
    objective's budget of `budget_window` that these failures used.
    """

    runs_hit: int
    unlinked: int
    runs: int
    issues: Sequence[int]
    failed_attempts: int
    lost_s: float
    untimed: int
    retries: int
    budget_used_ratio: float | None
    budget_window: str
