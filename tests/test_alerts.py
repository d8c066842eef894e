"""Alerts: when they fired, by raw samples, and how a newer pull goes on with what the lake has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import catalog, schemas
from pipeline.model import NS
from pipeline.signals.alerts import firing, join_intervals
from tests.lives import interval
from tests.tables import at, ns, table

BURST = next(r for r in catalog.load().alerts if r.name == "AI_SLOT_BUILD_FAILURE_BURST")


# when they fired

EVALUATED = [ns("09:00") + i * 30 * NS for i in range(240)]  # every 30 s, from 9 to 11


def _every(seconds: int, start: str, end: str) -> list[int]:
    return list(range(ns(start), ns(end), seconds * NS))


def _fired(
    at_: Sequence[int], evaluations: Sequence[int] = EVALUATED, starts: Sequence[int] = (), **labels: str
) -> list[tuple[str, str | None]]:
    """Return the intervals of one series as times."""
    series = [({"__name__": "ALERTS", "alertname": BURST.name, "alertstate": "firing"} | labels, at_)]
    return _times(firing(series, evaluations, starts, ns("11:00"), [BURST]))


def _times(found: pd.DataFrame) -> list[tuple[str, str | None]]:
    def clock(t: pd.Timestamp) -> str | None:
        return None if pd.isna(t) else f"{t:%H:%M:%S}"

    return [(str(clock(a)), clock(b)) for a, b in zip(found["started_at"], found["ended_at"], strict=True)]


def test_an_interval_ends_one_evaluation_after_its_last_sample() -> None:
    assert _fired(_every(30, "09:10", "09:20")) == [("09:10:00", "09:20:00")]
    assert _fired([ns("09:10")]) == [("09:10:00", "09:10:30")]


def test_what_still_fires_at_the_end_has_no_end() -> None:
    assert _fired(_every(30, "10:50", "11:00")) == [("10:50:00", None)]
    assert _fired(_every(30, "10:50", "10:59:30")) == [("10:50:00", "10:59:30")]


def test_samples_more_than_one_and_a_half_evaluations_apart_are_two_intervals() -> None:
    first = _every(30, "09:05", "09:10:30")
    assert _fired([*first, ns("09:10:45")]) == [("09:05:00", "09:11:15")]
    assert _fired([*first, ns("09:10:46")]) == [("09:05:00", "09:10:30"), ("09:10:46", "09:11:16")]
    assert _fired([ns("09:10"), ns("09:12"), ns("09:14")]) == [
        ("09:10:00", "09:10:30"),
        ("09:12:00", "09:12:30"),
        ("09:14:00", "09:14:30"),
    ]


def test_series_of_one_alert_that_differ_in_labels_are_intervals_of_their_own() -> None:
    series: list[tuple[dict[str, str], list[int]]] = [
        ({"alertname": BURST.name, "alertstate": "firing", "namespace": n}, [ns("09:10")]) for n in ("a", "b")
    ]
    found = firing(series, EVALUATED, (), ns("11:00"), [BURST])
    assert found["labels"].tolist() == [{"namespace": "a"}, {"namespace": "b"}]
    assert set(found["alert"]) == {BURST.name}
    assert set(found["source"]) == {"prometheus"}


def test_replicas_and_restarted_servers_are_one_series() -> None:
    series = [
        (
            {"alertname": BURST.name, "replica": r, "prometheus": f"monitoring/{r}", "instance": r}
            | {"prometheus_replica": f"prometheus-k8s-{r}"},
            samples,
        )
        for r, samples in (("a", _every(30, "09:10", "09:15")), ("b", _every(30, "09:14", "09:20")))
    ]
    assert _times(firing(series, EVALUATED, (), ns("11:00"), [BURST])) == [("09:10:00", "09:20:00")]


def test_severity_is_the_samples_own_or_the_catalogues() -> None:
    for labels, severity in (({}, "page"), ({"severity": "critical"}, "critical")):
        series = [({"alertname": BURST.name} | labels, [ns("09:10")])]
        assert firing(series, EVALUATED, (), ns("11:00"), [BURST])["severity"].tolist() == [severity]
    unknown = [({"alertname": "Another"}, [ns("09:10")])]
    assert firing(unknown, EVALUATED, (), ns("11:00"), [BURST])["severity"].isna().all()


def test_no_sample_is_a_table_without_rows() -> None:
    found = firing([], EVALUATED, (), ns("11:00"), [BURST])
    assert found.empty
    assert (found.dtypes == schemas.empty_frame("alerts").dtypes).all()


def test_a_server_scraped_more_often_than_its_rules_are_evaluated_makes_no_holes() -> None:
    scraped = _every(15, "09:00", "11:00")
    assert _fired(_every(60, "09:10", "09:20"), scraped) == [("09:10:00", "09:20:00")]
    assert _fired(_every(60, "09:10", "09:20"), []) == [("09:10:00", "09:20:00")]
    assert _fired([ns("09:10"), ns("10:10")], scraped) == [("09:10:00", "09:10:15"), ("10:10:00", "10:10:15")]


def test_without_any_evaluation_a_sample_stands_for_a_minute() -> None:
    assert _fired([ns("09:10")], []) == [("09:10:00", "09:11:00")]


def _without(start: str, end: str) -> list[int]:
    return [t for t in EVALUATED if not ns(start) <= t < ns(end)]


@pytest.mark.parametrize(
    ("down", "again", "started", "intervals"),
    [
        (("09:20", "09:22"), "09:22", "09:21:30", 1),  # it fired again with the first evaluation
        (("09:20", "09:22"), "09:32", "09:21:30", 1),  # within the grace period
        (("09:20", "09:22"), "09:33", "09:21:30", 2),  # after it
        (("09:20", "09:22"), "09:22", "09:05:00", 2),  # no restart: the alert itself had stopped
        (("09:22", "09:24"), "09:24", "09:23:30", 2),  # it had stopped before the server went
        (("09:20", "10:19"), "10:19", "10:18:30", 1),
        (("09:20", "10:21"), "10:21", "10:20:30", 2),  # away for longer than an hour: nobody can tell
    ],
)
def test_a_hole_that_a_restart_of_prometheus_made_is_none(
    down: tuple[str, str], again: str, started: str, intervals: int
) -> None:
    fired = [*_every(30, "09:10", "09:20"), *_every(30, again, "10:30")]
    assert len(_fired(fired, _without(*down), [ns(started)])) == intervals


def test_the_order_of_samples_and_repeated_ones_change_nothing() -> None:
    samples = [*_every(30, "09:10", "09:20"), *_every(30, "09:30", "09:40")]
    assert _fired([*reversed(samples), *samples]) == _fired(samples)


# what the lake had and what a pull gives


def _joined(old: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]]) -> list[tuple[str, str | None]]:
    return _times(join_intervals(table("alerts", *old), table("alerts", *new)))


@pytest.mark.parametrize(
    ("old", "new", "joined"),
    [
        ([], [], []),
        ([("09:00", "09:10")], [], [("09:00:00", "09:10:00")]),
        ([("09:00", "09:10")], [("09:00", "09:10")], [("09:00:00", "09:10:00")]),
        ([("09:00", None)], [("09:00", "09:30")], [("09:00:00", "09:30:00")]),  # it has ended by now
        ([("09:00", "09:10")], [("09:10", "09:30")], [("09:00:00", "09:30:00")]),
        ([("09:00", "09:10")], [("09:11", "09:30")], [("09:00:00", "09:10:00"), ("09:11:00", "09:30:00")]),
        ([("09:00", "11:00")], [("09:00", None)], [("09:00:00", "11:00:00")]),  # a pull of an earlier window
        ([("09:00", "09:40")], [("09:00", "09:30")], [("09:00:00", "09:30:00")]),  # the newer pull knows better
        ([("08:00", "09:10")], [("09:00", "09:30")], [("08:00:00", "09:30:00")]),  # the look-back cut its start
    ],
)
def test_a_newer_pull_goes_on_with_what_the_lake_has(
    old: list[tuple[str, str | None]], new: list[tuple[str, str | None]], joined: list[tuple[str, str | None]]
) -> None:
    assert _joined([interval(*i) for i in old], [interval(*i) for i in new]) == joined


def test_intervals_of_other_labels_or_alerts_are_never_joined() -> None:
    old = [interval("09:00", "09:30", namespace="a"), interval("09:00", "09:30", "Another")]
    new = [interval("09:10", "09:40", namespace="b"), interval("09:10", "09:40")]
    assert len(_joined(old, new)) == 4


spans_ = st.lists(st.tuples(st.integers(0, 100), st.integers(1, 30)), max_size=6)


@given(spans_, spans_)
@settings(max_examples=25, deadline=None)
def test_joining_covers_what_either_side_covered_and_joining_again_changes_nothing(
    old: list[tuple[int, int]], new: list[tuple[int, int]]
) -> None:
    def frame(parts: list[tuple[int, int]]) -> pd.DataFrame:
        minute = at("09:00")
        made = [interval(minute + pd.Timedelta(minutes=a), minute + pd.Timedelta(minutes=a + n)) for a, n in parts]
        return join_intervals(table("alerts"), table("alerts", *made))

    joined = join_intervals(frame(old), frame(new))
    assert joined["started_at"].is_monotonic_increasing
    starts = {min(a for a, _ in [*old, *new])} if old or new else set()
    assert set(joined["started_at"][:1]) == {at("09:00") + pd.Timedelta(minutes=a) for a in starts}
    pd.testing.assert_frame_equal(join_intervals(joined, frame(new)), joined)
