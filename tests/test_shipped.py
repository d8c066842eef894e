"""Events as agents ship them to Loki: the same rows whatever the shape, and lines that are no events are told apart."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import schemas
from pipeline.model import NS, Entry, Window
from pipeline.sources import kubectl, shipped
from pipeline.sources.loki import whole
from tests import shipping
from tests.fake_loki import MINUTE, START, FakeLoki, entry
from tests.test_kubectl import at, event

UIDS = ("object_uid", "uid")
FAILED = event(
    reason="BackoffLimitExceeded",
    type="Warning",
    count=2,
    message='Job "a" has reached\nits limit',
    lastTimestamp=at("09:14:58"),
)


def row(e: Entry, label: str = "namespace") -> dict[str, Any]:
    """Return the one event that a line is, as the table holds it."""
    made = shipped.event_of(e, label)
    assert made is not None
    (found,) = shipped.table([made]).to_pylist()
    return dict(found)


def without_uids(found: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in found.items() if k not in UIDS}


@pytest.mark.parametrize("shape", shipping.SHAPES)
def test_every_shape_makes_the_row_that_kubectl_makes(shape: str) -> None:
    (listed,) = kubectl.events([FAILED]).to_pylist()
    found = row(shipping.shipped(FAILED, shape, delay_ns=3 * NS))
    assert without_uids(found) == without_uids(listed)
    same = shape not in shipping.WITHOUT_UID
    assert [found[c] for c in UIDS] == ([listed[c] for c in UIDS] if same else [None, None])


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd"), max_size=30)


@settings(deadline=None)
@given(texts, st.integers(1, 1000), st.sampled_from(sorted(shipping.SHAPES)))
def test_whatever_the_message_holds_it_comes_back(message: str, count: int, shape: str) -> None:
    told = FAILED | {"message": message, "count": count}
    found = row(shipping.shipped(told, shape))
    assert (found["message"] or "", found["count"]) == (message, count)
    assert (found["object_name"], found["reason"]) == (FAILED["involvedObject"]["name"], "BackoffLimitExceeded")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "plain text",
        "{",
        "[1, 2]",
        '{"msg": "reconciled", "name": "a"}',
        '{"name": 7, "kind": "Job", "msg": "a number for a name"}',
        'level=info msg="watching events for namespace" namespace=prod',
        "name=a kind=Job reason=Completed",  # Alloy always writes a message
        '{"involvedObject": {"kind": "Job", "name": "a"}, "count": -1}',
        '{"involvedObject": {"kind": "Job"}, "lastTimestamp": "yesterday"}',
        '{"involvedObject": {"kind": "Job"}, "metadata": "none"}',
        '{"involvedObject": "a job"}',
        "name=a kind=Job count=many msg=x",
    ],
)
def test_a_line_that_is_no_event_is_none(line: str) -> None:
    assert shipped.event_of(Entry(START, line, {"namespace": "prod"}, {}), "namespace") is None


keys = st.sampled_from(["involvedObject", "event", "metadata", "name", "kind", "msg", "count", "source"])
values = st.recursive(
    st.none() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.text(max_size=60) | values.map(json.dumps))
def test_no_line_at_all_makes_anything_but_a_row_or_nothing(line: str) -> None:
    made = shipped.event_of(Entry(START, line, {}, {}), "namespace")
    assert shipped.table([made] if made else []).num_rows == (made is not None)


def test_an_event_without_an_instant_of_its_own_has_that_of_its_line() -> None:
    told = json.dumps({"involvedObject": {"kind": "Job", "name": "a", "namespace": "prod"}, "reason": "Completed"})
    assert row(Entry(START + 7, told, {}, {}))["ts"].value == START + 7


def test_where_the_namespace_has_another_label_that_counts_first() -> None:
    line = shipping.shipped(FAILED, "alloy")
    renamed = line._replace(labels={"k8s_namespace": "prod", "namespace": "monitoring"})
    assert row(renamed, "k8s_namespace")["namespace"] == "prod"
    assert row(line, "k8s_namespace")["namespace"] == "prod"


@pytest.mark.parametrize(
    ("namespaces", "inside"), [(["prod"], ["prod"]), (["codex-.*", "dev"], ["codex-1", "dev"]), (["pro"], [])]
)
def test_only_events_of_our_namespaces_are_kept(namespaces: list[str], inside: list[str]) -> None:
    made = [
        dict.fromkeys(schemas.TABLES["events"].columns) | {"namespace": n} for n in ("prod", "codex-1", "dev", None)
    ]
    assert [e["namespace"] for e in shipped.within(made, namespaces)] == inside


def test_a_window_is_read_whole_with_both_its_ends_and_what_came_short_is_told() -> None:
    held = [entry(t, f"{t}") for t in (-1, 0, 5, MINUTE, MINUTE + 1)]
    window = Window(START, START + MINUTE)
    found = whole.read(FakeLoki(held).loki(), window, 1)
    assert sorted(e.ts - START for e in found.entries) == [0, 5, MINUTE]
    assert (found.counted, found.short) == (3, [])
    short = whole.read(FakeLoki(held, hidden=frozenset({START + 5}), most_series=0).loki(), window, 1)
    assert (short.counted, short.short) == (3, [Window(START, START + 10 * NS)])
    nothing = whole.read(FakeLoki().loki(), window, 1)
    assert (nothing.entries, nothing.counted, nothing.short) == ([], 0, [])
