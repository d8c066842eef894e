"""The Python API for notebooks: a lake's tables as tidy DataFrames, one method a table."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import catalog, schemas, settings
from pipeline.errors import LakeError, UsageError
from pipeline.lake.records import Records
from pipeline.lake.store import Store
from pipeline.lake.tables import Tables
from pipeline.model import Window, seconds_of
from pipeline.settings import Settings
from pipeline.signals.golden import golden_signals
from pipeline.signals.whatif import WhatIf
from pipeline.steps.context import Context
from pipeline.steps.whatif import alert_what_if

__all__ = ["Lake", "golden_signals", "open_lake"]

Date = str | dt.date


class Lake:
    """A lake to read. Each table method takes a UTC day, or a first and a last day, and gives the contract's columns.

    Instants are UTC, durations float seconds in `…_s`, ratios 0..1 in `…_ratio`; unknown is NA, NaN or NaT, never 0. Where
    the lake has none of the days asked for they raise LakeError.
    """

    def __init__(self, uri: str, config: str | None = None) -> None:
        self._store = Store(uri)
        self._config = config
        Records(self._store).check_format()
        self._tables = Tables(self._store)

    def __repr__(self) -> str:
        days = self.days()
        held = f"{len(days)} days, {days[0]} to {days[-1]}" if days else "no day yet"
        return f"Lake({self._store.uri!r}: {held})"

    def days(self) -> list[dt.date]:
        """List the UTC days that were computed."""
        return self._tables.days("golden")

    @property
    def latest(self) -> dt.date:
        """The newest day that was computed. Raises LakeError on an empty lake."""
        days = self.days()
        if not days:
            raise LakeError(f"the lake {self._store.uri} holds no computed day", "run: aislot daily, or aislot demo")
        return days[-1]

    def attempts(self, date: Date, last: Date | None = None) -> pd.DataFrame:
        """Return attempts created on a day: one life of one Kubernetes job a row."""
        return self._read("attempts", date, last)

    def golden(self, date: Date, last: Date | None = None, *, window: str = "15m") -> pd.DataFrame:
        """Return the golden signals of a day by windows of `15m` or `1h` and kind."""
        rows = self._read("golden", date, last)
        return rows[rows["window"] == window].reset_index(drop=True)

    def failures(self, date: Date, last: Date | None = None) -> pd.DataFrame:
        """Return the failures of a day, each with class, run, issue and evidence."""
        return self._read("failures", date, last)

    def incidents(self, date: Date, last: Date | None = None) -> pd.DataFrame:
        """Return the incidents that began on a day."""
        return self._read("incidents", date, last)

    def alerts(self, date: Date, last: Date | None = None) -> pd.DataFrame:
        """Return the intervals in which an alert fired that began on a day."""
        return self._read("alerts", date, last)

    def alert_audit(self, date: Date, last: Date | None = None) -> pd.DataFrame:
        """Return expected against actual firings of a day."""
        return self._read("alert_audit", date, last)

    def shares(self, date: Date, last: Date | None = None) -> pd.DataFrame:
        """Return what failures of a day have more often than successes of their kind, the surest first."""
        return self._read("shares", date, last)

    def ledger(self, date: Date, last: Date | None = None) -> pd.DataFrame:
        """Return the signatures of a day and its failed attempts' lines that no success has: new, returning or known."""
        return self._read("ledger", date, last)

    def level_breaches(self, date: Date, last: Date | None = None) -> pd.DataFrame:
        """Return the lines of a day whose level is not as the policy wants, by app and level."""
        return self._read("level_breaches", date, last)

    def slo(self, date: Date, last: Date | None = None) -> pd.DataFrame:
        """Return the objectives as they stood at the end of a day."""
        return self._read("slo", date, last)

    def events(self, date: Date, last: Date | None = None) -> pd.DataFrame:
        """Return the Kubernetes events of a day."""
        return self._read("events", date, last)

    def issue_runs(self, date: Date, last: Date | None = None) -> pd.DataFrame:
        """Return the links between runs and issues that comments of a day made."""
        return self._read("issue_runs", date, last)

    def issue_events(self, date: Date, last: Date | None = None) -> pd.DataFrame:
        """Return what happened to issues on a day."""
        return self._read("issue_events", date, last)

    def logs(
        self,
        date: Date,
        last: Date | None = None,
        *,
        run_id: str | None = None,
        job_name: str | None = None,
        signature: str | None = None,
    ) -> pd.DataFrame:
        """Return log entries of a day, of one run, one job or one signature; chosen before they become pandas."""
        rows = self._tables.read("logs", self._held("logs", date, last))
        for column, value in (("run_id", run_id), ("job_name", job_name)):
            if value is not None:
                rows = rows.filter(pc.equal(rows[column], value))
        if signature is not None:
            rows = rows.filter(pa.array([signature in (s or ()) for s in rows["signatures"].to_pylist()], pa.bool_()))
        return schemas.to_frame(rows)

    def what_if(
        self,
        alert: str,
        date: Date,
        last: Date | None = None,
        *,
        threshold: float | None = None,
        window: str | None = None,
    ) -> WhatIf:
        """Replay an alert of the catalogue with another threshold or window (`30m`) over days of the lake.

        Of the answer `incidents` says how much earlier each would have been noticed, `firings` and `would_fire` count,
        `unknown` names the days of which not all is known. Your own rules and maintenance are those of `open_lake`'s
        settings. Raises UsageError.
        """
        whole = _window(date, last)
        known = self._settings()
        ctx = Context(known, catalog.load(known.catalogue.files), self._store, whole.end, lambda _: None)
        try:
            long = None if window is None else seconds_of(window)
        except ValueError as e:
            raise UsageError(str(e), "write window='30m'") from e
        return alert_what_if(ctx, alert, whole, threshold, long)

    def _settings(self) -> Settings:
        if self._config is None:
            return Settings()
        try:
            return settings.load(Path(self._config).read_text(), self._config, {})
        except OSError as e:
            raise UsageError(f"{self._config} cannot be read: {e.strerror}", "name a settings file") from e

    def _read(self, table: str, date: Date, last: Date | None) -> pd.DataFrame:
        return schemas.to_frame(self._tables.read(table, self._held(table, date, last)))

    def _held(self, table: str, date: Date, last: Date | None) -> Window:
        """Return the window of some days, of which the lake has one at least: of another nobody knows that it had no row."""
        window = _window(date, last)
        if not {d for d, _ in window.days()}.intersection(self._tables.days(table)):
            days = str(date) if last is None else f"{date} to {last}"
            raise LakeError(f"{self._store.uri} has no {table} of {days}", f"run: aislot daily --date {date}")
        return window


def open_lake(uri: str | None = None, config: str | None = None) -> Lake:
    """Open a lake by its address; without one that of `AISLOT_LAKE__URI`, else `lake`. Raises LakeError.

    `config` names a settings file, whose rules and maintenance `what_if` replays.
    """
    return Lake(uri or os.environ.get("AISLOT_LAKE__URI") or "lake", config)


def _window(date: Date, last: Date | None) -> Window:
    first, end = _day(date), _day(last if last is not None else date)
    if end < first:
        raise UsageError(f"{end} lies before {first}", "give the first day first")
    return Window(Window.of_day(first).start, Window.of_day(end).end)


def _day(date: Date) -> dt.date:
    try:
        return date if isinstance(date, dt.date) else dt.date.fromisoformat(date)
    except ValueError as e:
        raise UsageError(f"{date!r} is no day", "write it as 2026-02-26") from e
