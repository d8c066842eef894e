"""Alertmanager: what fires as it is asked becomes intervals, joined from listing to listing, beside Prometheus's own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import catalog, schemas
from pipeline.errors import SourceError
from pipeline.model import DAY_NS, Window, instant_of, instant_text
from pipeline.settings import Settings
from pipeline.settings.sections import Address, Alertmanager, Prometheus
from pipeline.signals import listings
from pipeline.sources import alertmanager
from pipeline.steps.compute import compute
from pipeline.steps.context import Context
from pipeline.steps.pull import Pulled, pull
from tests import recorded
from tests.command import aislot
from tests.faults import Answers, Asked, Say, serving
from tests.lives import Life, interval
from tests.servers.run import PrometheusServer
from tests.small_lake import lake, pulled
from tests.tables import DATE, DAY, at, ns, table

BURST = "AI_SLOT_BUILD_FAILURE_BURST"
SEVERITIES = {BURST: "page"}


def firing(
    start: str, end: str = "23:59", name: str = BURST, silenced: Sequence[str] = (), **labels: str
) -> dict[str, Any]:
    """Return an alert as `GET /api/v2/alerts` gives it (`gettableAlert` of Alertmanager's OpenAPI)."""
    return {
        "annotations": {"summary": "build jobs fail in a burst"},
        "endsAt": instant_text(ns(end)),
        "fingerprint": "6b2a1f0c9d8e7f60",
        "receivers": [{"name": "sre"}],
        "startsAt": instant_text(ns(start)),
        "status": {
            "inhibitedBy": [],
            "mutedBy": [],
            "silencedBy": list(silenced),
            "state": "suppressed" if silenced else "active",
        },
        "updatedAt": instant_text(ns(start)),
        "generatorURL": "http://prometheus:9090/graph?g0.expr=x",
        "labels": {"alertname": name, **labels},
    }


def listed(*alerts: Any, now: str = "12:00") -> alertmanager.Listed:
    return alertmanager.listed(Answers(lambda _path, _form: list(alerts), "alertmanager"), SEVERITIES, ns(now))


def test_the_catalogues_alerts_are_listed_silenced_ones_too() -> None:
    door = Answers(lambda _path, _form: [firing("09:10")], "alertmanager")
    alertmanager.listed(door, SEVERITIES, ns("12:00"))
    (asked,) = door.asked
    assert (asked.method, asked.path) == ("GET", "/api/v2/alerts")
    assert asked.form == dict.fromkeys(("active", "silenced", "inhibited", "unprocessed"), "true")
    found = listed(
        firing("09:10", severity="critical", cluster="c1"),
        firing("09:20", silenced=["s1"]),
        firing("09:30", end="11:00"),
        firing("09:00", name="Watchdog"),
    )
    assert found.suppressed == 1
    rows = schemas.rows_of(schemas.to_frame(found.rows))
    shown = [(r["started_at"], r["severity"], r["labels"], r["source"]) for r in rows]
    assert shown == [
        (at("09:10"), "critical", {"cluster": "c1", "severity": "critical"}, "alertmanager"),
        (at("09:20"), "page", {}, "alertmanager"),
        (at("09:30"), "page", {}, "alertmanager"),
    ]
    assert [None if pd.isna(r["ended_at"]) else r["ended_at"] for r in rows] == [None, None, at("11:00")]


def test_what_a_real_one_lists_is_read() -> None:
    said = json.loads(Path(recorded.__file__).with_name("alertmanager.json").read_text("utf-8"))
    severities = {r.name: r.severity for r in catalog.load().alerts}
    door = Answers(lambda _path, _form: said["alerts"], "alertmanager")
    found = alertmanager.listed(door, severities, instant_of(said["now"]))
    assert found.suppressed == 2
    read = schemas.rows_of(schemas.to_frame(found.rows))
    assert [(r["alert"], f"{r['started_at']:%H:%M:%S}", r["severity"], r["labels"].get("cluster")) for r in read] == [
        (BURST, "18:50:57", "page", "a"),
        (BURST, "19:00:57", "page", "b"),
        ("AI_SLOT_BUILD_FAILURE_RATE_ELEVATED", "19:05:57", "ticket", None),
        ("AI_SLOT_BUILD_MANIFEST_UNKNOWN_PERSISTENT", "19:10:57", "page", None),
    ]
    assert {pd.isna(r["ended_at"]) for r in read} == {True}


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"status": "success", "data": []},  # the API before this one
        [1],
        [{"labels": {}}],
        [firing("09:10") | {"startsAt": "yesterday"}],
        [firing("09:10") | {"status": None}],
        [firing("09:10") | {"labels": {"alertname": BURST, "cluster": None}} | {"endsAt": 7}],
    ],
)
def test_what_is_no_list_of_alerts_is_said(answer: Any) -> None:
    door = Answers(lambda _path, _form: answer, "alertmanager")
    with pytest.raises(SourceError, match="no list of alerts") as caught:
        alertmanager.listed(door, SEVERITIES, ns("12:00"))
    assert "alertmanager.url" in caught.value.fix


# from listing to listing


def rows(*found: Mapping[str, Any], source: str = "alertmanager") -> pd.DataFrame:
    return table("alerts", *({**r, "source": source} for r in found))


def times(found: pd.DataFrame) -> list[tuple[Any, Any]]:
    return [(a, None if pd.isna(b) else b) for a, b in zip(found["started_at"], found["ended_at"], strict=True)]


def test_what_is_listed_no_more_ends_where_it_was_listed_last() -> None:
    known = rows(interval("09:00", None), interval("09:10", None, cluster="c"), interval("08:00", "08:30"))
    got = listings.joined(known, rows(interval("09:00", None)), at("10:00"))
    assert times(got) == [(at("09:00"), None), (at("09:10"), at("10:00"))]
    assert times(listings.joined(known, rows(), None)) == [(at("09:00"), at("09:00")), (at("09:10"), at("09:10"))]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(st.integers(0, 3), unique=True), min_size=1, max_size=6))
def test_no_interval_is_longer_than_it_was_listed(seen: list[list[int]]) -> None:
    # alert n starts at 9:0n and is listed, or not, at 10, 11, …
    known, before = rows(), None
    for hour, some in enumerate(seen, 10):
        found = rows(*(interval(f"09:0{n}", None) for n in some))
        changed = listings.joined(known, found, before)
        known = schemas.tidy("alerts", pd.concat([listings.without(known, changed), changed], ignore_index=True))
        before = at(f"{hour}:00")
    assert known["started_at"].is_unique
    for start, end in times(known):
        hours = [h for h, some in enumerate(seen, 10) if start.minute in some]
        assert (end is None) == (hours[-1] == 9 + len(seen))
        assert end is None or end == at(f"{hours[-1]}:00")


def test_what_prometheus_has_too_is_one_firing() -> None:
    sampled = rows(interval("09:00", "09:30"), interval("11:00", None), source="prometheus")
    both = [interval("09:34", "09:40"), interval("09:36", "09:40"), interval("10:50", "10:56"), interval("12:00", None)]
    got = listings.each_once(pd.concat([sampled, rows(*both, interval("09:00", None, "other"))]), 300)
    kept = got[got["source"] == "alertmanager"]
    assert sorted(zip(kept["alert"], kept["started_at"], strict=True)) == [(BURST, at("09:36")), ("other", at("09:00"))]
    assert (got["source"] == "prometheus").sum() == 2
    assert listings.each_once(rows(), 300).empty


# through the pull, from a server


def asking(ctx: Context, url: str, now: str | int, prometheus: str = "") -> tuple[Context, Pulled]:
    """Pull the day's alerts at some time of the day."""
    made = Settings(alertmanager=Alertmanager(Address(url)), prometheus=Prometheus(Address(prometheus)))
    ctx = replace(ctx, settings=made, now=ns(now) if isinstance(now, str) else now)
    (found,) = pull(ctx, DAY, ["alerts"])
    return ctx, found


def kept(ctx: Context) -> pd.DataFrame:
    return schemas.to_frame(ctx.tables.read("alerts", DAY))


def test_alone_it_makes_intervals_and_proves_nothing(tmp_path: Path) -> None:
    lives = [Life(f"09:0{n}:00", f"09:1{n}:00", "failed", job=f"codex-k8s-kaniko-a-{n}a2a9c1e") for n in range(3)]
    ctx = pulled(lake(tmp_path), lives)
    said: list[Any] = [firing("09:13"), firing("09:20", silenced=["s"], cluster="c")]
    with serving(lambda _: Say(said)) as server:
        _, found = asking(ctx, server.url, "10:00")
        assert (found.complete, found.rows, found.exit_code, found.source) == (None, 2, 0, "alertmanager")
        assert "2 listed by Alertmanager now, 1 silenced or inhibited" in found.said
        before = kept(ctx)
        asking(ctx, server.url, "10:00")
        pd.testing.assert_frame_equal(kept(ctx), before)
        del said[1]
        asking(ctx, server.url, "11:00")
    assert times(kept(ctx)) == [(at("09:13"), None), (at("09:20"), at("10:00"))]
    ctx = replace(ctx, now=ns("00:20", 1))
    for r in ctx.records.of("alerts", DAY):
        assert (r.source, r.complete, r.gaps) in {("alertmanager", None, (DAY,)), ("prometheus", True, ())}


def test_one_that_fires_for_months_ends_where_it_was_listed_last(tmp_path: Path) -> None:
    ctx, days = lake(tmp_path), (1, 20, 45, 70)
    said = firing("09:13") | {"endsAt": instant_text(DAY.start + 100 * DAY_NS)}
    with serving([*(Say([said]) for _ in days), Say([])]) as server:
        for day in (*days, 90):
            asking(ctx, server.url, DAY.start + day * DAY_NS)
    assert times(kept(ctx)) == [(at("09:13"), at("00:00", 70))]


def test_what_it_lists_is_matched_and_what_it_does_not_is_not_missed(tmp_path: Path) -> None:
    lives = [Life(f"09:0{n}:00", f"09:1{n}:00", "failed", job=f"codex-k8s-kaniko-a-{n}a2a9c1e") for n in range(3)]
    for alerts, verdicts in (([firing("09:13")], ["matched"]), ([], [])):
        ctx = pulled(lake(tmp_path / str(len(alerts))), lives)
        for name in ctx.store.names("_aislot/pulls/alerts", ".json"):
            ctx.store.remove(name)  # nobody asked a Prometheus
        with serving(lambda _, alerts=alerts: Say(alerts)) as server:  # type: ignore[misc]
            asking(ctx, server.url, "10:00")
        made = compute(ctx, DATE)
        assert made.alert_audit.loc[made.alert_audit["alert"] == BURST, "verdict"].tolist() == verdicts
        (coverage,) = [c for c in made.coverage if c.what == "alerts"]
        assert (coverage.source, coverage.complete) == ("alertmanager", None)
        assert [r for r in made.verdict.reasons if r.get("what") == "alerts"] == []


def test_beside_prometheus_it_adds_and_takes_nothing(prometheus_server: PrometheusServer, tmp_path: Path) -> None:
    group = f"alertmanager{prometheus_server.version}"
    evaluations = [(t, 1.0) for t in range(DAY.start // 10**6 - 60_000, DAY.end // 10**6 + 60_000, 30_000)]
    start = ns("09:13") // 10**6
    labels = {"alertname": BURST, "alertstate": "firing", "cluster": group}
    prometheus_server.remote_write(
        [
            ({"__name__": "prometheus_rule_group_last_evaluation_timestamp_seconds", "rule_group": group}, evaluations),
            ({"__name__": "ALERTS", **labels}, [(start + t, 1.0) for t in range(0, 600_000, 30_000)]),
        ]
    )
    ctx = lake(tmp_path)
    listing = [firing("09:13", cluster=group), firing("15:00", name="AI_SLOT_BUILD_MTTR_SLO_RISK")]
    with serving(lambda _: Say(listing)) as server:
        for _ in range(2):
            ctx, found = asking(ctx, server.url, DAY.end + 3600 * 10**9, prometheus_server.url)
            assert (found.complete, found.exit_code) == (True, 0)
    mine = kept(ctx)[[(own or {}).get("cluster") in {group, None} for own in kept(ctx)["labels"]]]
    assert sorted(zip(mine["source"], mine["started_at"], strict=True)) == [
        ("alertmanager", at("09:13")),
        ("alertmanager", at("15:00")),
        ("prometheus", at("09:13")),
    ]
    ours = listings.each_once(mine, 300)
    assert sorted(zip(ours["source"], ours["started_at"], strict=True)) == [
        ("alertmanager", at("15:00")),
        ("prometheus", at("09:13")),
    ]
    (kept_record,) = ctx.records.of("alerts", DAY)
    assert (kept_record.source, kept_record.complete, kept_record.proof["listed"]) == ("prometheus", True, 2)


def test_one_that_is_away_is_said_as_every_source_is(tmp_path: Path) -> None:
    (tmp_path / "aislot.toml").write_text(
        '[alertmanager]\nurl = "http://me:hidden-word@no-such-host.invalid"\n', "utf-8"
    )
    done = aislot("pull", "alerts", "--date", str(DATE), cwd=tmp_path)
    assert done.returncode == 3
    assert "alertmanager at http://no-such-host.invalid: no such host" in done.stderr
    assert "start alertmanager or correct alertmanager.url" in done.stderr
    assert "hidden-word" not in done.stderr


@pytest.mark.parametrize(("status", "words"), [(401, "[alertmanager]"), (404, "alertmanager.url"), (500, "HTTP 500")])
def test_a_refusal_is_said_and_credentials_are_sent(tmp_path: Path, status: int, words: str) -> None:
    heads: list[Mapping[str, str]] = []

    def refuse(asked: Asked) -> Say:
        heads.append(asked.headers)
        return Say("no", status)

    with serving(refuse) as server:
        made = Alertmanager(Address(server.url), tenant="team", bearer_token="tok-0123456789")  # type: ignore[arg-type]
        ctx = replace(lake(tmp_path), settings=Settings(alertmanager=made))
        door = ctx.alertmanager()
        door = type(door)(door.name, door.endpoint, replace(door.policy, tries=1))
        with pytest.raises(SourceError) as caught:
            alertmanager.listed(door, SEVERITIES, ns("12:00"))
    assert words in caught.value.what + caught.value.fix
    assert (heads[0]["Authorization"], heads[0]["X-Scope-OrgID"]) == ("Bearer tok-0123456789", "team")


def test_a_window_elsewhere_keeps_what_fires_now_in_its_own_day(tmp_path: Path) -> None:
    ctx = lake(tmp_path)
    with serving([Say([firing("09:13")])]) as server:
        made = Settings(alertmanager=Alertmanager(Address(server.url)))
        before = Window(DAY.start - DAY_NS, DAY.start)
        pull(replace(ctx, settings=made, now=ns("10:00")), before, ["alerts"])
    assert times(kept(ctx)) == [(at("09:13"), None)]
