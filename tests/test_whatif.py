"""Another threshold or window of an alert: how much earlier, how many firings more; its own changes nothing."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import catalog, open_lake, schemas
from pipeline.errors import UsageError
from pipeline.model import DAY_NS
from pipeline.signals.alerts import expected
from pipeline.signals.slo import MAINTENANCE, Exclusion
from pipeline.signals.whatif import WhatIf, what_if
from pipeline.steps.compute import compute
from tests.lives import JOB, Life, said
from tests.small_lake import MANIFEST, SIGNED, lake, pulled
from tests.tables import DATE, DAY, at, attempt, attempts, line, lines, span, table

NO_CASE = schemas.empty_frame("incidents")
BEFORE = DATE - dt.timedelta(days=1)
TWO_DAYS = DAY.widen(DAY_NS, 0)
RULES = {r.name: r for r in catalog.load().alerts}
BURST, MANIFEST_RULE = "AI_SLOT_BUILD_FAILURE_BURST", "AI_SLOT_BUILD_MANIFEST_UNKNOWN_PERSISTENT"


def _case(started: str, ended: str | None, name: str = "cache") -> dict[str, Any]:
    row = {"started_at": at(started), "ended_at": ended and at(ended), "class": name, "incident_id": f"i-{started}"}
    return row | {"failures": 1, "runs": [], "issues": [], "signatures": []}


def _failed(*when: str) -> list[dict[str, Any]]:
    return [attempt("08:00", t, "failed") for t in when]


def _what_if(other: dict[str, Any], ran: Any, cases: Any, told: Any = (), name: str = BURST) -> WhatIf:
    rule = RULES[name]
    tables = attempts(*ran), lines(*told), table("incidents", *cases)
    return what_if(rule, replace(rule, **other), *tables, DAY, 300.0)


def test_a_lower_threshold_is_reached_earlier_and_fires_more_often() -> None:
    ran = _failed("09:00", "09:01", "09:12", "15:00", "15:05")
    found = _what_if({"threshold": 2}, ran, [_case("09:00", "09:30"), _case("15:00", None)])
    assert (found.firings, found.would_fire) == (1, 2)
    first, second = schemas.rows_of(found.incidents)
    assert (first["reached_at"], first["would_reach_at"], first["earlier_s"]) == (at("09:12"), at("09:01"), 660)
    assert (pd.isna(second["reached_at"]), second["would_reach_at"]) == (True, at("15:05"))
    assert pd.isna(second["earlier_s"])
    assert str(found) == "threshold 2 in place of 3: median 11.0 min earlier, 1 page more in 1 day"


def test_days_that_nobody_pulled_are_named_and_what_began_on_them_is_not_counted() -> None:
    rule = RULES[BURST]
    ran = attempts(*_failed("09:00", "09:01", "09:12"))
    known = what_if(rule, replace(rule, threshold=2), ran, lines(), NO_CASE, TWO_DAYS, 300.0, [BEFORE])
    assert (known.firings, known.would_fire) == (1, 1)
    assert str(known).endswith("as many pages in 1 day; not wholly known: 2026-02-25")
    other = replace(rule, threshold=4)
    nothing = what_if(rule, other, ran, lines(), NO_CASE, DAY, 300.0, [DATE])
    assert (nothing.firings, nothing.would_fire) == (None, None)
    assert "how many pages more is unknown; not wholly known: 2026-02-26" in str(nothing)
    assert "as many pages in 2 days" in str(what_if(rule, rule, ran, lines(), NO_CASE, TWO_DAYS, 300.0))


def test_a_page_within_maintenance_wakes_nobody() -> None:
    rule = RULES[BURST]
    during = Exclusion(MAINTENANCE, span("08:30", "12:00"), "anna")
    tables = attempts(*_failed("09:00", "09:01", "09:12", "15:00", "15:01")), lines(), NO_CASE
    found = what_if(rule, replace(rule, threshold=2), *tables, DAY, 300.0, (), [during])
    assert (found.firings, found.would_fire) == (0, 1)
    ticket = replace(rule, severity="ticket")
    assert what_if(ticket, replace(ticket, threshold=2), *tables, DAY, 300.0, (), [during]).would_fire == 2


def test_a_higher_threshold_and_a_shorter_window_are_reached_later_or_never() -> None:
    ran, cases = _failed("09:00", "09:01", "09:02", "09:05"), [_case("09:00", "09:30")]
    assert _what_if({"threshold": 4}, ran, cases).incidents["earlier_s"].tolist() == [-180]
    shorter = _what_if({"window_s": 60.0}, ran, cases)
    assert (shorter.firings, shorter.would_fire) == (1, 0)
    assert shorter.incidents["would_reach_at"].isna().all()
    assert str(shorter).startswith("window in s 60 in place of 900: no incident to compare, 1 page less in 1 day")


def test_only_incidents_that_the_alert_is_about_and_that_began_in_the_window_are_compared() -> None:
    before = _case("09:00", None) | {"started_at": at("23:00", -1)}
    found = _what_if({"threshold": 2}, _failed("09:00"), [_case("09:00", None, "build-ref"), before])
    assert found.incidents.empty
    assert found.incidents["reached_at"].dtype == "datetime64[ns, UTC]"


def test_lines_are_replayed_too() -> None:
    told = [line("09:00", "manifest-unknown"), line("09:04", "manifest-unknown")]
    found = _what_if({"threshold": 1}, [], [_case("09:00", "09:30")], told, MANIFEST_RULE)
    assert found.incidents["earlier_s"].tolist() == [240]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 200), max_size=10), st.integers(1, 5))
def test_at_its_own_threshold_it_is_the_replay_and_a_lower_one_never_fires_later(minutes: list[int], n: int) -> None:
    ends = [at("09:00") + pd.Timedelta(minutes=m) for m in minutes]
    ran = [attempt(at("08:00"), t, "failed") for t in ends]
    cases = [_case("09:00", None)]
    own = _what_if({}, ran, cases)
    (replayed,) = expected([RULES[BURST]], attempts(*ran), lines(), table("incidents", *cases), DAY)
    assert own.firings == own.would_fire == len(replayed.reached_in(DAY))
    pd.testing.assert_series_equal(own.incidents["reached_at"], own.incidents["would_reach_at"], check_names=False)
    assert (own.incidents["earlier_s"].dropna() == 0).all()
    lower = _what_if({"threshold": min(n, 3)}, ran, cases).incidents
    assert (lower["earlier_s"].dropna() >= 0).all()
    assert lower["would_reach_at"].notna().sum() >= lower["reached_at"].notna().sum()


def test_a_lake_answers_in_python(tmp_path: Path) -> None:
    lives = [Life(f"09:0{n}:00", f"09:0{n}:40", "failed", job=f"{JOB[:-1]}{n}") for n in (0, 2, 5)]
    told = [said(f"09:0{n}:41", MANIFEST, f"{JOB[:-1]}{n}") | SIGNED for n in (0, 2, 5)]
    compute(pulled(lake(tmp_path), lives, told), DATE)
    held = open_lake(str(tmp_path))
    found = held.what_if(BURST, DATE, threshold=2)
    assert (found.firings, found.would_fire, len(found.incidents)) == (1, 1, 1)
    assert 0 < found.incidents["earlier_s"].iloc[0] <= 480
    assert held.what_if(MANIFEST_RULE, DATE, window="1m").would_fire == 0
    assert found.unknown == ()
    alone = held.what_if(BURST, BEFORE, DATE, threshold=2)
    assert (alone.would_fire, alone.unknown) == (1, (BEFORE,))
    own = tmp_path / "aislot.toml"
    release = ["[[maintenance]]", 'start = "2026-02-26T08:00:00Z"', 'end = "2026-02-26T11:00:00Z"']
    own.write_text("\n".join([*release, 'who = "anna"', 'why = "release"']))
    assert open_lake(str(tmp_path), str(own)).what_if(BURST, DATE, threshold=2).would_fire == 0
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        open_lake(str(tmp_path), str(tmp_path / "none.toml")).what_if(BURST, DATE)
    assert held.what_if(BURST, DATE, threshold=2, window="2d").unknown == (DATE,)  # nobody knows the day before
    odd = ({"threshold": float("nan")}, {"threshold": -1}, {"window": "0s"}, {"window": "x"})
    for more in odd:
        with pytest.raises(UsageError, match=r"above 0|is not a duration"):
            held.what_if(BURST, DATE, **more)
    with pytest.raises(UsageError, match="no alert is called 'BURST'"):
        held.what_if("BURST", DATE)
