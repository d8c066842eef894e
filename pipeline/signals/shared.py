"""What failures share: values of attributes that are over-represented among them against successes of the same kind.

Association, not cause. Counts are exact, small numbers stay honest: Fisher's exact test, corrected for all values looked at.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import comb
from typing import Any

import pandas as pd

from pipeline import schemas
from pipeline.model import Window
from pipeline.signals.intervals import wilson

DAY, ALL = "day", "all"  # the scope that is no incident, and the kind that is every kind
HOUR = "hour"
IS, STARTS = "is", "starts with"
_FLAG = re.compile(r"--?[A-Za-z0-9][A-Za-z0-9-]*")
_FEWEST = 2  # what one failure alone has is not shared


def fisher(k: int, n: int, s: int, m: int) -> float:
    """Return the chance of at least `k` of `n` having what `k + s` of `n + m` have, were it dealt out blindly.

    Fisher's exact test, one-sided: the upper tail of the hypergeometric distribution (Fisher, The Design of Experiments,
    1935), in whole numbers up to the last division.
    """
    have, lack = k + s, n + m - k - s
    ways = comb(have, k) * comb(lack, n - k)
    tail = ways
    for i in range(k, min(have, n)):
        ways = ways * (have - i) * (n - i) // ((i + 1) * (lack - n + i + 1))
        tail += ways
    return tail / comb(n + m, n)


def corrected(p_values: Sequence[float]) -> list[float]:
    """Return the p-values corrected for their number, in their order (Benjamini and Hochberg, JRSS B 57, 1995)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i], reverse=True)
    out, least = [1.0] * len(p_values), 1.0
    for place, i in enumerate(order):
        least = min(least, p_values[i] * (len(p_values) / (len(p_values) - place)))
        out[i] = least
    return out


@dataclass(frozen=True)
class _Test:
    """One value of one attribute: `k` of `n` failures and `s` of `m` successes have it, of others it is not known."""

    scope: str
    kind: str
    attribute: str
    place: int  # of the attribute among all
    form: int  # of what says the same, the first form stands
    match: str
    value: str
    k: int
    n: int
    s: int
    m: int
    unknown: tuple[int, int]


def shares(
    failed: pd.DataFrame, succeeded: pd.DataFrame, attributes: Sequence[str], starts: Sequence[str], day: Window
) -> pd.DataFrame:
    """Return `shares` of a day: a row for each value that failures have more often than successes, the surest first.

    Both frames have a row an attempt: `kind` and the `attributes` as text, missing where not known, which takes no part on
    either side; `failed` also `incident_id`. Values of attributes in `starts` are also tested by how they begin: a flag
    such as `-b`, else the first part of a path. Each incident and the day as a whole are compared kind by kind; whether one
    kind fails more than others is asked of all kinds together. Of equal findings that of the attribute named first leads.
    """
    tests = [t for scope, rows in _scopes(failed) for t in _of_scope(scope, rows, succeeded, attributes, starts)]
    p_values = [fisher(t.k, t.n, t.s, t.m) for t in tests]
    judged = zip(tests, p_values, corrected(p_values), strict=True)
    found = [j for j in judged if j[0].k * j[0].m > j[0].s * j[0].n]
    found.sort(key=lambda j: (j[1], *_shown_before(j[0])))
    at = pd.Timestamp(day.start, tz="UTC")
    rows = [_row(*j) | {"day": at, "rank": i, "tests": len(tests)} for i, j in enumerate(found, 1)]
    return schemas.tidy("shares", pd.DataFrame(rows)) if rows else schemas.empty_frame("shares")


def _shown_before(t: _Test) -> tuple[Any, ...]:
    return t.place, t.form, t.scope == DAY, t.scope, t.kind, t.value


def _row(t: _Test, p_value: float, q_value: float) -> dict[str, Any]:
    low, high = wilson(t.k, t.n) or (None, None)
    low_of_rest, high_of_rest = wilson(t.s, t.m) or (None, None)
    return {
        "scope": t.scope,
        "kind": t.kind,
        "attribute": t.attribute,
        "match": t.match,
        "value": t.value,
        "failed": t.k,
        "failed_of": t.n,
        "failed_unknown": t.unknown[0],
        "succeeded": t.s,
        "succeeded_of": t.m,
        "succeeded_unknown": t.unknown[1],
        "failed_low_ratio": low,
        "failed_high_ratio": high,
        "succeeded_low_ratio": low_of_rest,
        "succeeded_high_ratio": high_of_rest,
        "p_value": p_value,
        "q_value": q_value,
    }


def _scopes(failed: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    yield DAY, failed
    for incident, rows in failed.groupby("incident_id"):
        yield str(incident), rows


def _of_scope(
    scope: str, failed: pd.DataFrame, succeeded: pd.DataFrame, attributes: Sequence[str], starts: Sequence[str]
) -> Iterator[_Test]:
    yield from _of_attribute((scope, ALL, "kind", len(attributes)), failed["kind"], succeeded["kind"], by_start=False)
    for kind, rows in failed.groupby("kind"):
        rest = succeeded[succeeded["kind"] == kind]
        for place, name in enumerate(attributes):
            if name == HOUR and scope != DAY:
                continue  # an incident is a span of time: that its failures share one says nothing
            what = (scope, str(kind), name, place)
            yield from _of_attribute(what, rows[name], rest[name], by_start=name in starts)


def _of_attribute(
    what: tuple[str, str, str, int], failed: pd.Series, succeeded: pd.Series, *, by_start: bool
) -> Iterator[_Test]:
    """Yield the tests of one attribute's values; forms that fit the same attempts are one test."""
    known, rest = failed.dropna(), succeeded.dropna()
    if len(known) < _FEWEST or not len(rest):
        return
    unknown = (len(failed) - len(known), len(succeeded) - len(rest))
    counts = Counter(map(str, schemas.plain(known))), Counter(map(str, schemas.plain(rest)))
    fitting: dict[tuple[int, str, str], set[str]] = {}
    for value in {*counts[0], *counts[1]}:
        for form in _forms(value) if by_start else [(1, IS, value)]:
            fitting.setdefault(form, set()).add(value)
    seen: set[frozenset[str]] = set()
    for form in sorted(fitting):
        values = frozenset(fitting[form])
        k, s = (sum(of[v] for v in values) for of in counts)
        # what one attempt alone has could not be found however it ended
        if values not in seen and k + s >= _FEWEST:
            seen.add(values)
            yield _Test(*what, *form, k, len(known), s, len(rest), unknown)


def _forms(value: str) -> list[tuple[int, str, str]]:
    """Return how a value can be told: by a flag it starts with, as it is, by the first part of a path."""
    flag, (head, slash, rest) = _FLAG.match(value), value.partition("/")
    forms = [(1, IS, value)]
    if flag:
        forms.append((0, STARTS, flag[0]))
    elif slash and head and rest:
        forms.append((2, STARTS, head + slash))
    return forms


def incident_of(failures: pd.DataFrame, incidents: pd.DataFrame) -> pd.Series:
    """Return the incident of each failure: the last of its class that began by then; missing where there is none."""
    out = pd.Series(pd.NA, index=failures.index, dtype="str")
    for name, cases in incidents.groupby("class"):
        began = cases.sort_values("started_at")
        mine = failures[failures["class"] == name]
        place = began["started_at"].searchsorted(mine["failed_at"], "right") - 1
        ids = began["incident_id"].tolist()
        out.loc[mine.index] = [ids[p] if p >= 0 else None for p in place]
    return out
