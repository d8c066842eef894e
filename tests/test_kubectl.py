"""kubectl's objects in a dump: what snapshots and events say, what they cover, and what is no dump."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import catalog
from pipeline.errors import SourceError
from pipeline.model import NS, Window, instant_of, instant_text
from pipeline.sources import kubectl
from pipeline.sources.kubectl import Dump

KINDS = {k.kind: k for k in catalog.load().job_kinds}
BUILD = "codex-k8s-kaniko-web-console-3f2a9c1e-7b4"


LATER = instant_of("2026-02-27T00:00:00Z")


def at(time: str) -> str:
    return f"2026-02-26T{time}Z"


def condition(kind: str, time: str | None, status: str = "True", **more: Any) -> dict[str, Any]:
    return {"type": kind, "status": status, "lastTransitionTime": time and at(time), **more}


def job(created: str = "09:00:00", status: Mapping[str, Any] | None = None, **meta: Any) -> dict[str, Any]:
    named = {"name": BUILD, "namespace": "prod", "uid": "u1", "creationTimestamp": at(created)}
    return {"kind": "Job", "metadata": named | meta, "status": dict(status or {})}


def event(**more: Any) -> dict[str, Any]:
    about = {"kind": "Job", "namespace": "prod", "name": BUILD, "uid": "u1"}
    meta = {"uid": "e1", "namespace": "prod", "creationTimestamp": at("09:00:00")}
    return {"kind": "Event", "metadata": meta, "involvedObject": about, "reason": "Completed", "type": "Normal"} | more


def row(made: Mapping[str, Any]) -> dict[str, Any]:
    (found,) = kubectl.snapshot([made], now=LATER).rows.to_pylist()
    return dict(found)


def times(found: Mapping[str, Any], *columns: str) -> list[str | None]:
    return [None if found[c] is None else found[c].strftime("%H:%M:%S") for c in columns]


DONE = {
    "startTime": at("09:00:01"),
    "completionTime": at("09:02:00"),
    "conditions": [condition("SuccessCriteriaMet", "09:02:00"), condition("Complete", "09:02:00")],
}
FAILED = {
    "startTime": at("09:00:01"),
    "conditions": [
        condition("FailureTarget", "09:01:58", reason="BackoffLimitExceeded"),
        condition("Failed", "09:02:00", reason="BackoffLimitExceeded"),
    ],
}


@pytest.mark.parametrize(
    ("status", "started", "completed", "failed", "reason"),
    [
        (DONE, "09:00:01", "09:02:00", None, None),
        (DONE | {"completionTime": None}, "09:00:01", "09:02:00", None, None),
        (FAILED, "09:00:01", None, "09:02:00", "BackoffLimitExceeded"),
        ({"startTime": at("09:00:01"), "active": 1}, "09:00:01", None, None, None),
        ({"conditions": None}, None, None, None, None),
        ({"conditions": [condition("Failed", "09:02:00", "False")]}, None, None, None, None),
        ({"conditions": [condition("Suspended", "09:00:00")]}, None, None, None, None),
        ({}, None, None, None, None),
    ],
)
def test_a_jobs_state_is_what_its_conditions_say(
    status: Mapping[str, Any], started: str | None, completed: str | None, failed: str | None, reason: str | None
) -> None:
    found = row(job(status=status))
    assert times(found, "created_at", "started_at", "completed_at", "failed_at") == [
        "09:00:00",
        started,
        completed,
        failed,
    ]
    assert found["reason"] == reason


def test_of_a_jobs_labels_those_of_the_platform_are_kept() -> None:
    labels = {"codex-k8s.dev/run-id": "r", "app.kubernetes.io/name": "\ud83d", "job-name": "x", "controller-uid": "y"}
    assert dict(row(job(labels=labels))["labels"]) == {"codex-k8s.dev/run-id": "r", "app.kubernetes.io/name": "?"}


@pytest.mark.parametrize(
    ("jobs", "taken"),
    [
        ([job("09:00:00"), job("09:03:00", uid="u2")], "09:03:00"),
        ([job(status=DONE)], "09:02:00"),
        ([job(status=FAILED)], "09:02:00"),
        ([job(status={"conditions": [condition("FailureTarget", "09:01:58")]})], "09:01:58"),
        ([job(status={"startTime": at("09:00:05")}), job(status=DONE, uid="u2")], "09:02:00"),
    ],
)
def test_a_snapshot_is_taken_at_the_newest_instant_in_it(jobs: Sequence[Any], taken: str) -> None:
    found = kubectl.snapshot(jobs, now=LATER)
    assert instant_text(found.at) == at(taken)
    assert {t.strftime("%H:%M:%S") for t in found.rows["snapshot_at"].to_pylist()} == {taken}


def test_an_instant_that_is_yet_to_come_dates_neither_a_snapshot_nor_a_list_of_events() -> None:
    astray = job(name="b", uid="u2", creationTimestamp="2100-01-01T00:00:00Z")
    found = kubectl.snapshot([job("09:00:00"), astray], now=LATER)
    assert instant_text(found.at) == at("09:00:00")
    assert found.rows.num_rows == 2
    told = kubectl.events([event(lastTimestamp=at("09:30:00")), event(lastTimestamp="2100-01-01T00:00:00Z")])
    end = instant_of(at("09:30:00"))
    assert kubectl.event_windows([told], LATER) == [Window(end - 3600 * NS, end + 1)]
    assert kubectl.event_windows([told.slice(1)], LATER) == []


def test_a_snapshot_shows_each_kind_for_its_time_to_live_before_it_and_an_empty_one_nothing() -> None:
    taken = [kubectl.snapshot([job("09:00:00")], now=LATER), kubectl.snapshot([], now=LATER)]
    end = instant_of(at("09:00:00"))
    assert kubectl.job_windows(taken, KINDS["build"]) == [Window(end - 600 * NS, end + 1)]
    assert kubectl.job_windows(taken, KINDS["mirror"]) == [Window(end - 300 * NS, end + 1)]
    assert kubectl.job_windows(taken, KINDS["codegen-check"]) == [Window(end - 3600 * NS, end + 1)]


def test_events_show_the_hour_before_the_newest_of_their_list() -> None:
    lists = [[event(), event(lastTimestamp=at("09:30:00"))], [], [event(lastTimestamp=at("12:00:00"))]]
    ends = [instant_of(at(t)) for t in ("09:30:00", "12:00:00")]
    found = kubectl.event_windows((kubectl.events(e) for e in lists), LATER)
    assert found == [Window(end - 3600 * NS, end + 1) for end in ends]


V1 = {"firstTimestamp": at("09:01:00"), "lastTimestamp": at("09:02:00"), "count": 3, "message": "m"}
NEW = {
    "involvedObject": None,
    "regarding": event()["involvedObject"],
    "note": "m",
    "eventTime": "2026-02-26T09:01:00.123456Z",
}
OLD_AS_NEW = {
    "deprecatedFirstTimestamp": at("09:01:00"),
    "deprecatedLastTimestamp": at("09:02:00"),
    "deprecatedCount": 3,
}
SERIES = {"series": {"count": 5, "lastObservedTime": "2026-02-26T09:03:00.000001Z"}}


@pytest.mark.parametrize(
    ("fields", "seen", "count"),
    [
        (V1 | {"eventTime": None, "series": None}, "09:02:00", 3),
        (V1 | {"lastTimestamp": None}, "09:01:00", 3),
        (NEW, "09:01:00.123456", 1),
        (NEW | SERIES, "09:03:00.000001", 5),
        (NEW | OLD_AS_NEW | {"eventTime": None}, "09:02:00", 3),
        (NEW | {"lastTimestamp": None, "firstTimestamp": None, "count": 0}, "09:01:00.123456", 1),
        ({"message": "m"}, "09:00:00", 1),
    ],
)
def test_an_event_of_either_api_is_dated_by_when_it_was_last_seen(fields: Any, seen: str, count: int) -> None:
    (found,) = kubectl.events([event(**fields)]).to_pylist()
    assert instant_text(found["ts"].value) == at(seen)
    assert (found["count"], found["message"]) == (count, "m")
    assert (found["namespace"], found["object_kind"], found["object_name"], found["object_uid"], found["uid"]) == (
        "prod",
        "Job",
        BUILD,
        "u1",
        "e1",
    )


def test_an_event_about_nothing_keeps_the_namespace_it_stands_in() -> None:
    (found,) = kubectl.events([event(involvedObject={"kind": "Node", "name": "n1"})]).to_pylist()
    assert (found["namespace"], found["object_kind"]) == ("prod", "Node")


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"metadata": None},
        {"metadata": {"name": "x", "namespace": "prod"}},
        {"metadata": {"name": "x", "creationTimestamp": at("09:00:00")}},
        job(creationTimestamp="yesterday"),
        job(creationTimestamp="9999-01-01T00:00:00Z"),
        job(creationTimestamp=7),
        job(status={"conditions": [condition("Failed", None)]}),
        job(status={"conditions": ["Failed"]}),
        job(status={"startTime": "soon"}),
        job(labels=["x"]),
    ],
)
def test_an_object_that_is_no_job_is_named_with_its_file(tmp_path: Path, broken: Any) -> None:
    (tmp_path / "jobs-2.json").write_text(json.dumps([broken]))
    with pytest.raises(SourceError) as caught:
        Dump(tmp_path).snapshots(LATER)
    assert "jobs-2.json holds a job that cannot be read" in caught.value.what
    assert caught.value.fix


@pytest.mark.parametrize(
    "broken",
    [
        {},
        event(metadata={}),
        event(lastTimestamp="soon"),
        event(involvedObject=[1]),
        event(count=10**30),
        event(count=math.inf),
        event(count=-1),
        event(count="many"),
        event(series=7),
    ],
)
def test_an_object_that_is_no_event_is_named_with_its_file(tmp_path: Path, broken: Any) -> None:
    (tmp_path / "events.json").write_text(json.dumps({"items": [broken]}))
    with pytest.raises(SourceError, match=r"events.json holds an event that cannot be read") as caught:
        Dump(tmp_path).events()
    assert caught.value.fix


def test_text_that_is_none_is_mended_and_text_of_another_type_is_written() -> None:
    (found,) = kubectl.events([event(message="half \ud83d", reason=7)]).to_pylist()
    assert (found["message"], found["reason"]) == ("half ?", "7")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ([job(), job(name="b")], [BUILD, "b"]),
        ({"kind": "List", "items": [job()]}, [BUILD]),
        ({"kind": "JobList", "items": [{k: v for k, v in job().items() if k != "kind"}]}, [BUILD]),
        ({"items": [job(), {"kind": "Pod"}, {"kind": "Event"}]}, [BUILD]),
        ({"kind": "JobList", "items": None}, []),
        ({"items": []}, []),
        ([], []),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_dump_is_a_list_or_any_object_with_items_of_which_jobs_are_taken(
    tmp_path: Path, text: Any, names: list[str], encoding: str
) -> None:
    (tmp_path / "jobs.json").write_text(json.dumps(text), encoding=encoding)
    (found,) = Dump(tmp_path).snapshots(LATER)
    assert sorted(found.rows["job_name"].to_pylist()) == sorted(names)


def test_every_snapshot_of_a_dump_is_one_of_its_own_in_the_order_of_their_names(tmp_path: Path) -> None:
    for n, created in enumerate(["09:00:00", "09:10:00", "09:20:00"]):
        (tmp_path / f"jobs-{n}.json").write_text(json.dumps([job(created)]))
    (tmp_path / "notes.json").write_text("not ours")
    assert [instant_text(s.at)[11:19] for s in Dump(tmp_path).snapshots(LATER)] == ["09:00:00", "09:10:00", "09:20:00"]
    assert Dump(tmp_path).events() == Dump(tmp_path).comments() == []


def test_comments_of_several_files_are_one_list(tmp_path: Path) -> None:
    (tmp_path / "comments.json").write_text('[{"id": 1}]')
    (tmp_path / "comments-2.json").write_text('{"items": [{"id": 2}]}')
    assert [c["id"] for c in Dump(tmp_path).comments()] == [2, 1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("\n", "is empty"),
        ("apiVersion: v1\nkind: List\n", "is not JSON"),
        ("NAME   COMPLETIONS   DURATION\n", "is not JSON"),
        ('{"items": [', "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('"text"', "is neither a list nor an object with items"),
        ("{}", "is neither a list nor an object with items"),
        ('{"items": {"kind": "Job"}}', "is neither a list nor an object with items"),
        ("[1, 2]", "is neither a list nor an object with items"),
    ],
)
@pytest.mark.parametrize("name", ["jobs-1.json", "events.json", "comments.json"])
def test_a_file_that_is_none_is_named_with_what_to_do(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    dump = Dump(tmp_path)
    with pytest.raises(SourceError) as caught:
        _ = (dump.snapshots(LATER), dump.events(), dump.comments())
    assert name in caught.value.what
    assert words in caught.value.what
    assert "-o json" in caught.value.fix


def test_a_file_that_cannot_be_read_and_a_dump_that_is_not_there_are_said(tmp_path: Path) -> None:
    (tmp_path / "jobs.json").mkdir()
    with pytest.raises(SourceError, match=r"jobs.json is no file"):
        Dump(tmp_path).snapshots(LATER)
    with pytest.raises(SourceError, match=r"there is no dump at .*nowhere") as caught:
        Dump(tmp_path / "nowhere").snapshots(LATER)
    assert "kubernetes.dump" in caught.value.fix


@pytest.mark.timeout(20)
def test_a_pipe_or_a_device_among_the_files_is_said_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "jobs.json")
    with pytest.raises(SourceError, match=r"jobs.json is no file"):
        Dump(tmp_path).snapshots(LATER)
    (tmp_path / "events.json").symlink_to("/dev/zero")
    with pytest.raises(SourceError, match=r"events.json is no file"):
        Dump(tmp_path).events()


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.just(at("09:00:00"))),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["metadata", "status", "conditions", "name", "namespace", "creationTimestamp", "series"]),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(["metadata", "status", "involvedObject", "count", "message"]), JSON, max_size=4))
def test_no_json_at_all_makes_anything_but_rows_or_a_sentence(made: dict[str, Any]) -> None:
    for reader in (partial(kubectl.snapshot, now=LATER), kubectl.events):
        said = "it can"
        try:
            reader([made])
        except SourceError as e:
            said = e.what
        assert said == "it can" or "cannot be read" in said
