"""Attempts as scrapes of kube-state-metrics showed them: millions of samples, reduced in arrays to a row an attempt.

Samples of one scrape carry one timestamp, so every other metric is joined to the creation time that its own scrape showed;
an old attempt's `failed` can then never be read under the new one (facts: "ghosts").
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import schemas
from pipeline.model import NS, Window
from pipeline.signals import coverage
from pipeline.signals.intervals import Instants, uncertainty

CODED = ("metric", "namespace", "job_name", "reason")  # columns of which few values are met again and again
READ = ("ts", *CODED, "value", "labels")
_USUAL_NS = 60 * NS
_INSTANTS, _LAST_S = ("created", "start_time", "completion_time"), 2**33  # in s since 1970: the year 2242
_NONE, _NEVER = np.iinfo(np.int64).min, np.iinfo(np.int64).max
Codes = npt.NDArray[np.int64]


def from_samples(samples: pa.Table, scrapes: pd.DataFrame, asked: Sequence[Window]) -> pd.DataFrame:
    """Return one row an attempt that scrapes saw, by namespace, name and creation.

    `samples` are rows of `job_samples` in any order, whose texts may be dictionaries. `outcome` is `running` or
    `vanished` where no end was sampled, `labels` a dict.
    """
    seen = _Seen(samples)
    if not len(seen.created):
        return schemas.empty_frame("attempts").assign(labels=None)
    completed = seen.most("completion_time")
    end_seen = np.where((at := seen.first("complete")) == _NONE, seen.first("failed_condition"), at)
    succeeded = (completed != _NONE) | (at != _NONE)
    ended = succeeded | (end_seen != _NONE)
    started = seen.most("start_time")
    alive = seen.last_before(end_seen)
    for earlier in (started, seen.created):
        alive = np.where(alive == _NONE, earlier, alive)
    reach = uncertainty(end_seen, alive) / NS
    exact = completed != _NONE
    rows = pd.DataFrame(
        {
            "namespace": seen.names("namespace"),
            "job_name": seen.names("job_name"),
            "created_at": pd.to_datetime(seen.created, utc=True),
            "source": "prometheus",
            "last_seen_at": pd.to_datetime(seen.last, utc=True),
            "started_at": _instants(started),
            "labels": seen.labels(),
            "outcome": np.select([succeeded, ended], ["succeeded", "failed"], "running"),
            "outcome_source": pd.Series("sample", range(len(ended)), dtype="str").where(ended),
            "ended_at": _instants(np.where(exact, completed, end_seen)),
            "end_uncertainty_s": np.where(exact, 0.0, np.where(ended, reach, np.nan)),
            "reason": seen.reasons().where(ended & ~succeeded),
        }
    )
    rows = rows.sort_values(["namespace", "job_name", "created_at"], ignore_index=True)
    return _gone(rows, scrapes, asked)


def _instants(at: Instants) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(pd.to_datetime(np.where(at == _NONE, pd.NaT.value, at), utc=True)).as_unit("ns")


class _Seen:
    """The attempts of all samples, numbered, and of each what its scrapes showed; `_NONE` where nothing."""

    def __init__(self, samples: pa.Table) -> None:
        self._samples = samples
        self._codes = {c: _coded(samples[c]) for c in CODED}
        self._values = samples["value"].to_numpy()
        self._job = self._codes["job_name"][0] * (len(self._codes["namespace"][1]) + 1) + self._codes["namespace"][0]
        at, self._instants = _ranked(samples["ts"].cast(pa.int64()).to_numpy())
        self._shown = self._job * len(self._instants) + at  # a job in a scrape
        rows = self._of("created")
        rows = rows[np.lexsort((self._values[rows], self._shown[rows]))]
        rows = rows[np.append(np.diff(self._shown[rows]) > 0, True)[: len(rows)]]  # of two at one scrape the later one
        made, creations = _ranked(np.round(self._values[rows]).astype(np.int64))
        self._cells = self._shown[rows]
        self._attempt, lives = _ranked(self._job[rows] * max(1, len(creations)) + made)
        self._seen_at = self._at(rows)
        self.created: Instants = creations[lives % max(1, len(creations))] * NS if len(lives) else lives
        self._example = np.zeros(len(lives), np.int64)  # a row of each attempt
        self._example[self._attempt] = rows
        self.last: Instants = self._most(self._attempt, self._seen_at)

    def names(self, column: str) -> pd.Series:
        """Return a text of each attempt."""
        codes, names = self._codes[column]
        return pd.Series(names.take(pa.array(codes[self._example])).to_pandas(), dtype="str")

    def most(self, metric: str) -> Instants:
        """Return the latest instant that a metric gave of each attempt."""
        attempt, rows = self._joined(self._of(metric))
        return self._most(attempt, np.round(self._values[rows]).astype(np.int64) * NS)

    def first(self, metric: str) -> Instants:
        """Return when a metric was first 1."""
        attempt, rows = self._joined(self._of(metric, on=True))
        out = np.full(len(self.created), _NEVER, np.int64)
        np.minimum.at(out, attempt, self._at(rows))
        return np.where(out == _NEVER, _NONE, out)

    def last_before(self, instants: Instants) -> Instants:
        """Return the last scrape that showed each attempt before an instant of it."""
        before = self._seen_at < instants[self._attempt]
        return self._most(self._attempt[before], self._seen_at[before])

    def reasons(self) -> pd.Series:
        """Return the first reason that was given of each attempt."""
        codes, names = self._codes["reason"]
        attempt, rows = self._joined(self._of("failed_pods", on=True))
        given = codes[rows] >= 0
        attempt, rows = attempt[given], rows[given]
        order = np.lexsort((_places(names)[codes[rows]], self._values[rows], self._at(rows)))[::-1]
        out = np.full(len(self.created), -1, np.int64)
        out[attempt[order]] = codes[rows[order]]
        return pd.Series(names.take(pa.array(out, mask=out < 0)).to_pandas(), dtype="str")

    def labels(self) -> list[dict[str, str]]:
        """Return the labels that the last scrape with any showed of each attempt."""
        attempt, rows = self._joined(self._of("labels"))
        at = self._at(rows)
        last = at == self._most(attempt, at)[attempt]
        shown = self._samples["labels"].take(pa.array(rows[last])).to_pylist()
        out: list[dict[str, str]] = [{} for _ in self.created]
        for i, own in sorted(zip(attempt[last].tolist(), (sorted(x or ()) for x in shown), strict=True)):
            out[i] = dict(own)
        return out

    def _of(self, metric: str, *, on: bool = False) -> Codes:
        codes, names = self._codes["metric"]
        wanted = names.index(metric).as_py() if metric in names.to_pylist() else None
        mine = codes == wanted if wanted is not None else np.zeros(len(codes), bool)
        if metric in _INSTANTS:  # of anything else no instant can be made
            mine &= (self._values > 0) & (self._values < _LAST_S)
        return np.flatnonzero(mine & (self._values >= 1) if on else mine)

    def _joined(self, rows: Codes) -> tuple[Codes, Codes]:
        """Return of samples those whose own scrape showed a creation, with the attempts that they are of."""
        place = np.minimum(np.searchsorted(self._cells, self._shown[rows]), max(0, len(self._cells) - 1))
        known = self._cells[place] == self._shown[rows] if len(self._cells) else np.zeros(len(rows), bool)
        return self._attempt[place[known]], rows[known]

    def _at(self, rows: Codes) -> Instants:
        return np.asarray(self._instants[self._shown[rows] % max(1, len(self._instants))], np.int64)

    def _most(self, attempt: Codes, values: Instants) -> Instants:
        out = np.full(len(self.created), _NONE, np.int64)
        np.maximum.at(out, attempt, values)
        return out


def _coded(column: pa.ChunkedArray) -> tuple[Codes, pa.Array]:
    """Return a column of texts as numbers into the distinct ones; -1: none."""
    coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    whole = pa.concat_arrays(coded.unify_dictionaries().chunks) if len(coded) else pa.array([], coded.type)
    return pc.fill_null(whole.indices, -1).to_numpy().astype(np.int64), whole.dictionary


def _ranked(values: Instants) -> tuple[Codes, Instants]:
    """Return numbers as their places among the distinct ones, and these in order."""
    places, distinct = pd.factorize(values, sort=True)
    return places.astype(np.int64), np.asarray(distinct, np.int64)


def _places(names: pa.Array) -> Codes:
    """Return where each of some texts comes in their order."""
    places = np.empty(len(names), np.int64)
    places[pc.sort_indices(names).to_numpy()] = np.arange(len(names))
    return places


def _gone(rows: pd.DataFrame, scrapes: pd.DataFrame, asked: Sequence[Window]) -> pd.DataFrame:
    """Tell `vanished` (a later scrape of the same asked window no longer shows it) from `running`."""
    up = (
        coverage.instants(scrapes[scrapes["up"].fillna(value=False).astype(bool)])
        if len(scrapes)
        else np.array([], int)
    )
    late = (coverage.usual_interval(up) or _USUAL_NS) * 3 // 2

    def gone(last: pd.Timestamp) -> bool:
        end = next((w.end for w in asked if last.value in w), last.value)
        following = up[np.searchsorted(up, last.value + late, "right") :]
        return bool(len(following) and following[0] < end)

    open_ended = rows["outcome"] == "running"
    rows.loc[open_ended, "outcome"] = [
        "vanished" if gone(t) else "running" for t in rows.loc[open_ended, "last_seen_at"]
    ]
    return rows
