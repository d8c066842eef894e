"""What was asked and what it came to, beside the data: a question's record, each run's, and the lake's own format."""

from __future__ import annotations

import datetime as dt
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pipeline.errors import LakeError
from pipeline.lake.store import META, Store
from pipeline.model import PullRecord, Window, day_of, merge, subtract

FORMAT = 1
_PULLS = f"{META}/pulls"
_LEFT_OUT = f"{META}/left_out.json"
_RECORD = re.compile(r"/date=(?P<day>[\d-]{10})/(?P<source>\w+)-(?P<start>\d{14})-(?P<end>\d{14})\.json$")
_DAY = re.compile(r"/date=(\d{4}-\d\d-\d\d)/")


class Records:
    """Reads and writes the records; one JSON file a question, named by source, what and window."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def check_format(self) -> None:
        """Refuse a lake that a newer version wrote. Raises LakeError."""
        found = self._json(f"{META}/lake.json") or {}
        if found.get("format", FORMAT) not in range(FORMAT + 1):
            by = found.get("written_by") or "aislot"
            raise LakeError(
                f"the lake {self._store.uri} was written by a newer version ({by}): "
                f"its format is {found['format']}, this aislot knows formats up to {FORMAT}",
                "install that version of aislot, or point lake.uri elsewhere",
                "nothing was changed",
            )

    def stamp(self, written_by: str) -> None:
        """Write the lake's format if it has none yet."""
        if self._store.read(f"{META}/lake.json") is None:
            self._put(f"{META}/lake.json", {"format": FORMAT, "written_by": written_by})

    def put(self, record: PullRecord) -> PullRecord:
        """Keep a question's record; those of the same question about parts of its window are thereby said again.

        A record lies within one UTC day. The new one is written first: a full disk takes no older one away. Returns what
        is kept: of all but logs, what was once known whole is in the lake and stays known, whatever a server has lost.
        """
        name = self._name(record)
        there = [(n, *_named(n)) for n in self._store.names(self._folder(record), ".json")]
        said_again = [n for n, source, window in there if source == record.source and record.window.covers(window)]
        if record.what != "logs":
            record = _with(record, [self._read(n) for n in said_again])
        self._put(name, record.to_json())
        for other in said_again:
            if other != name:
                self._store.remove(other)
        return record

    def of(self, what: str, window: Window) -> list[PullRecord]:
        """Return the records of one kind of question whose windows touch `window`, oldest question first."""
        names = (n for d, _ in window.days() for n in self._store.names(f"{_PULLS}/{what}/date={d}", ".json"))
        found = [self._read(n) for n in names if _named(n)[1].intersect(window)]
        return sorted(found, key=lambda r: (r.asked_at, r.window))

    def days(self) -> list[dt.date]:
        """List the UTC days about which anything was ever asked."""
        found = (_DAY.search(n) for n in self._store.names(_PULLS, ".json"))
        return sorted({dt.date.fromisoformat(m[1]) for m in found if m})

    def put_left_out(self, counts: Mapping[str, Mapping[str, int]]) -> None:
        """Keep how many rows of each table a slice of a lake lacks, by window."""
        self._put(_LEFT_OUT, counts)

    def left_out(self, table: str, window: Window) -> int:
        """Return how many rows of a window a slice of a lake lacks; none of a lake that is whole."""
        return int(((self._json(_LEFT_OUT) or {}).get(table) or {}).get(str(window), 0))

    def put_run(self, run: Mapping[str, Any]) -> None:
        """Keep the record of a run of the scheduled job: `date`, `exit_code`, `verdict`, `started_at`, `ended_at`."""
        self._put(f"{META}/runs/date={run['date']}.json", dict(run))

    def runs(self) -> list[dict[str, Any]]:
        """Return the last run's record of each day, by date."""
        names = self._store.names(f"{META}/runs", ".json")
        return [r for n in names if (r := self._json(n)) is not None]

    def put_day(self, date: dt.date, facts: Mapping[str, Any]) -> None:
        """Keep what later reports compare with: a computed day's `totals` and the `worst` value of each alert's rule."""
        self._put(f"{META}/days/date={date}.json", dict(facts))

    def day(self, date: dt.date) -> dict[str, Any] | None:
        """Return what `put_day` kept of a day, None where it was never computed."""
        return self._json(f"{META}/days/date={date}.json")

    def put_recount(self, what: str, date: dt.date, facts: Mapping[str, Any]) -> None:
        """Keep when a day was last counted again on the server (`at`) and what that showed (`late`, `gone`)."""
        self._put(f"{META}/recounts/{what}/date={date}.json", facts)

    def recount(self, what: str, date: dt.date) -> dict[str, Any] | None:
        """Return what `put_recount` kept of a day."""
        return self._json(f"{META}/recounts/{what}/date={date}.json")

    def put_restated(self, date: dt.date, facts: Mapping[str, Any]) -> None:
        """Mark a day whose data changed after its tables were computed, until `clear_restated`."""
        self._put(f"{META}/restated/date={date}.json", facts)

    def clear_restated(self, date: dt.date) -> None:
        """Take the mark away: the day was computed again."""
        self._store.remove(f"{META}/restated/date={date}.json")

    def restated(self) -> list[dt.date]:
        """List the days that are marked."""
        found = (_DAY.search(n) for n in self._store.names(f"{META}/restated", ".json"))
        return sorted(dt.date.fromisoformat(m[1]) for m in found if m)

    def key(self) -> bytes:
        """Return the lake's redaction key, made once and never shown."""
        name = f"{META}/redaction.key"
        found = self._store.read(name)
        if not found:
            found = secrets.token_hex(32).encode()
            self._store.write(name, found, private=True)
        return found

    def _name(self, record: PullRecord) -> str:
        day = day_of(record.window.start)
        origin = Window.of_day(day).start
        ends = [f"{at - origin:014d}" for at in (record.window.start, record.window.end)]
        return f"{self._folder(record)}/{record.source}-{ends[0]}-{ends[1]}.json"

    @staticmethod
    def _folder(record: PullRecord) -> str:
        return f"{_PULLS}/{record.what}/date={day_of(record.window.start)}"

    def _read(self, name: str) -> PullRecord:
        data = self._json(name)
        try:
            if data is not None:
                return PullRecord.from_json(data)
        except (KeyError, TypeError, ValueError) as e:
            raise LakeError(f"{name} is no record of a pull: {e}", "delete that file and pull its day again") from e
        raise LakeError(f"{name} went away while it was read", "run the command again")

    def _put(self, name: str, value: Mapping[str, Any]) -> None:
        self._store.write(name, json.dumps(value, sort_keys=True, separators=(",", ":")).encode() + b"\n")

    def _json(self, name: str) -> dict[str, Any] | None:
        data = self._store.read(name)
        if data is None:
            return None
        try:
            value = json.loads(data)
        except ValueError as e:
            raise LakeError(
                f"{name} in {self._store.uri} is not JSON", "delete that file and pull its day again"
            ) from e
        if not isinstance(value, dict):
            raise LakeError(f"{name} in {self._store.uri} is not a record", "delete that file and pull its day again")
        return value


def _with(record: PullRecord, before: Sequence[PullRecord]) -> PullRecord:
    """Return a record with only those gaps that no earlier one knew whole."""
    known = [p for r in before if r.proof.get("configured", True) for p in r.known]
    gaps = tuple(merge(p for g in record.gaps for p in subtract(g, known)))
    if not record.gaps or gaps == tuple(merge(record.gaps)):
        return record
    return replace(record, gaps=gaps, complete=None if record.complete is None else not gaps)


def _named(name: str) -> tuple[str, Window]:
    """Return the source and the window that a record's name holds. Raises LakeError."""
    found = _RECORD.search(name)
    if not found:
        raise LakeError(f"{name} is no record of a pull", "delete that file and pull its day again")
    origin = Window.of_day(dt.date.fromisoformat(found["day"])).start
    return found["source"], Window(origin + int(found["start"]), origin + int(found["end"]))
