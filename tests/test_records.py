"""What was asked is recorded beside the data: by question, by run, by day; and the lake's format and key."""

from __future__ import annotations

import datetime as dt
import errno
import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import LakeError
from pipeline.lake.records import FORMAT, Records
from pipeline.lake.store import META, Store
from pipeline.model import DAY_NS, NS, PullRecord, Window
from tests.tables import DATE, DAY, span

_STAMP = f"{META}/lake.json"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "lake"))


@pytest.fixture
def records(store: Store) -> Records:
    return Records(store)


def record(window: Window, asked_at: int = 1, source: str = "loki", what: str = "logs") -> PullRecord:
    proof = {"counted": [[1, 2]], "version": "3.5"}
    return PullRecord(what, source, window, True, 3, (), False, asked_at, "abc", proof)


def _record_with(**damaged: object) -> bytes:
    return json.dumps({**record(Window(1, 2)).to_json(), **damaged}).encode()


def test_a_new_lake_is_stamped_once_and_passes(records: Records, store: Store) -> None:
    records.check_format()
    records.stamp("aislot 1.0")
    records.stamp("aislot 2.0")
    records.check_format()
    assert json.loads(store.read(_STAMP) or b"") == {"format": FORMAT, "written_by": "aislot 1.0"}


@pytest.mark.parametrize("found", [FORMAT + 1, "2.0", None])
def test_a_lake_of_a_newer_version_is_refused_and_that_is_said(records: Records, store: Store, found: object) -> None:
    store.write(_STAMP, json.dumps({"format": found, "written_by": "aislot 9.9"}).encode())
    with pytest.raises(LakeError, match=r"was written by a newer version \(aislot 9.9\)") as told:
        records.check_format()
    assert (told.value.exit_code, told.value.kept) == (5, "nothing was changed")
    assert store.uri in told.value.what


def test_a_record_comes_back_as_it_was_kept(records: Records) -> None:
    kept = replace(
        record(span("09:00", "10:00")), complete=False, gaps=(span("09:10", "09:11"),), provisional=True, asked_at=7
    )
    records.put(kept)
    assert records.of("logs", DAY) == [kept]


@pytest.mark.parametrize("complete", [True, False, None])
def test_complete_incomplete_and_unknown_are_told_apart(records: Records, *, complete: bool | None) -> None:
    records.put(replace(record(DAY), complete=complete))
    assert [r.complete for r in records.of("logs", DAY)] == [complete]


def test_the_same_question_again_replaces_its_record(records: Records, store: Store) -> None:
    records.put(record(DAY, asked_at=1))
    records.put(record(DAY, asked_at=2))
    assert [r.asked_at for r in records.of("logs", DAY)] == [2]
    assert len(store.names(f"{META}/pulls")) == 1


def test_a_question_about_more_takes_the_place_of_those_about_its_parts(records: Records) -> None:
    records.put(record(span("09:00", "10:00"), 1))
    records.put(record(span("10:00", "11:00"), 2))
    records.put(record(span("12:00", "13:00"), 3))
    records.put(record(span("09:00", "11:00"), 4))
    assert [r.asked_at for r in records.of("logs", DAY)] == [3, 4]


def test_what_hourly_pulls_knew_whole_stays_known_when_the_day_is_asked_about(records: Records) -> None:
    for n, hour in enumerate(("09:00", "10:00", "12:00")):
        records.put(record(span(hour, f"{int(hour[:2]) + 1}:00"), n + 1, "kubernetes", "events"))
    gaps = (span("00:00", "23:00"),)
    kept = records.put(replace(record(DAY, 9, "kubernetes", "events"), complete=False, gaps=gaps))
    assert records.of("events", DAY) == [kept]
    assert list(kept.gaps) == [span("00:00", "09:00"), span("11:00", "12:00"), span("13:00", "23:00")]
    assert kept.complete is False
    whole = records.put(replace(record(DAY, 10, "kubernetes", "events"), complete=True))
    assert records.put(replace(whole, asked_at=11, complete=False, gaps=(DAY,))).complete is True
    # of logs the later answer stands, and what was not over when it was asked about was not known
    assert records.put(replace(record(DAY, 12), complete=True)).complete
    assert list(records.put(replace(record(DAY, 13), complete=False, gaps=(DAY,))).gaps) == [DAY]
    early = replace(record(DAY, DAY.start + 1, "prometheus", "jobs"), provisional=True, complete=True)
    records.put(early)
    later = records.put(replace(early, asked_at=DAY.end, provisional=False, complete=False, gaps=(DAY,)))
    assert list(later.gaps) == [Window(DAY.start + 1, DAY.end)]


def test_overlapping_and_smaller_questions_are_kept_beside_the_older(records: Records) -> None:
    for asked, window in enumerate([span("09:00", "11:00"), span("10:00", "12:00"), span("09:30", "09:31")], 1):
        records.put(record(window, asked))
    assert [r.asked_at for r in records.of("logs", DAY)] == [1, 2, 3]


def test_windows_that_differ_by_a_nanosecond_are_two_questions(records: Records) -> None:
    one = span("09:00", "10:00")
    records.put(record(Window(one.start, one.end), 1))
    records.put(record(Window(one.start + 1, one.end + 1), 2))
    assert [r.asked_at for r in records.of("logs", DAY)] == [1, 2]


def test_another_source_or_kind_of_question_is_left_alone(records: Records) -> None:
    records.put(record(span("09:00", "10:00"), 1, "kubernetes"))
    records.put(record(span("09:00", "10:00"), 2, "loki"))
    records.put(record(DAY, 3, "loki", "jobs"))
    assert [r.source for r in records.of("logs", DAY)] == ["kubernetes", "loki"]
    assert [r.asked_at for r in records.of("jobs", DAY)] == [3]


def test_only_records_that_touch_the_window_are_returned_oldest_first(records: Records) -> None:
    next_day = Window(DAY.end, DAY.end + DAY_NS)
    for asked, window in [(5, span("09:00", "10:00")), (2, span("10:00", "11:00")), (3, next_day)]:
        records.put(record(window, asked))
    assert [r.asked_at for r in records.of("logs", span("09:59", "10:00"))] == [5]
    assert [r.asked_at for r in records.of("logs", Window(DAY.start, DAY.end + 1))] == [2, 3, 5]
    assert records.of("logs", span("11:00", "12:00")) == []
    assert records.of("alerts", DAY) == []


def test_a_full_disk_takes_no_older_record_away(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    records.put(record(span("09:00", "10:00"), 1))

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LakeError, match="No space"):
        records.put(record(DAY, 2))
    assert [r.asked_at for r in records.of("logs", DAY)] == [1]


def test_the_days_about_which_anything_was_asked_are_listed(records: Records) -> None:
    assert records.days() == []
    records.put(record(Window(DAY.start - DAY_NS, DAY.start), what="jobs"))
    records.put(record(span("23:00", "24:00")))
    assert records.days() == [DATE - dt.timedelta(days=1), DATE]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"{", "is not JSON"),
        (b"\xff", "is not JSON"),
        (b"[]", "is not a record"),
        (b"{}", "is no record of a pull"),
        (_record_with(proof=None), "is no record of a pull"),
        (_record_with(rows=None), "is no record of a pull"),
        (b'{"what": "logs", "source": "loki", "window": [2, 1]}', "is no record of a pull"),
    ],
)
def test_a_damaged_record_is_named(records: Records, store: Store, data: bytes, said: str) -> None:
    records.put(record(DAY))
    name = store.names(f"{META}/pulls")[0]
    store.write(name, data)
    with pytest.raises(LakeError, match=said) as told:
        records.of("logs", DAY)
    assert name in told.value.what
    assert told.value.fix == "delete that file and pull its day again"


def test_the_last_run_of_each_day_is_kept(records: Records) -> None:
    run = {"verdict": "green", "started_at": "2026-02-27T00:30:00Z"}
    records.put_run({"date": "2026-02-26", "exit_code": 3, **run})
    records.put_run({"date": "2026-02-25", "exit_code": 0, **run})
    records.put_run({"date": "2026-02-26", "exit_code": 0, **run})
    assert [(r["date"], r["exit_code"]) for r in records.runs()] == [("2026-02-25", 0), ("2026-02-26", 0)]


def test_what_later_reports_compare_with_is_kept_by_day(records: Records) -> None:
    assert records.day(DATE) is None
    facts = {"totals": {"build": {"failed": 1, "failure_ratio": None}}, "worst": {"A": 0.25}}
    records.put_day(DATE, facts)
    assert records.day(DATE) == facts
    assert records.day(DATE - dt.timedelta(days=1)) is None


def test_the_key_is_made_once_for_its_owner_alone(records: Records, store: Store) -> None:
    key = records.key()
    assert len(key) >= 32
    assert Records(Store(store.uri)).key() == key
    mode = (Path(store.root) / META / "redaction.key").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


def test_two_lakes_have_two_keys(records: Records, tmp_path: Path) -> None:
    assert records.key() != Records(Store(str(tmp_path / "other"))).key()


def test_an_object_store_keeps_records_and_key_too() -> None:
    records = Records(Store("memory://lake"))
    records.put(record(DAY))
    assert records.of("logs", DAY) == [record(DAY)]
    assert records.key() == records.key()
    fsspec.filesystem("memory").store.clear()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 23), st.integers(1, 24)), max_size=8))
def test_what_was_ever_asked_stays_known(asked: list[tuple[int, int]]) -> None:
    fsspec.filesystem("memory").store.clear()
    records = Records(Store("memory://lake"))
    windows = [Window(DAY.start + start * 3600 * NS, DAY.start + min(24, start + n) * 3600 * NS) for start, n in asked]
    for i, window in enumerate(windows):
        records.put(record(window, i))
    kept = records.of("logs", DAY)
    assert {h for w in windows for h in w.cells(3600 * NS)} == {h for r in kept for h in r.window.cells(3600 * NS)}
    assert [r.asked_at for r in kept] == sorted(r.asked_at for r in kept)
    assert not windows or kept[-1] == record(windows[-1], len(windows) - 1)
