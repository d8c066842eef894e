"""What the report says of a day: right numbers, honest small ones, and nothing unknown shown as zero."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import pytest

from pipeline.model import Coverage, Window
from pipeline.report import charts
from pipeline.report.charts import Frame, Lane, Spread, Stack
from pipeline.report.sections import failed, health, promises, shares, signals, sources, stream, todo, verdict
from pipeline.report.svg import spark, to_svg
from pipeline.report.text import NBSP
from pipeline.report.view import ReportData, daily_view, summary
from tests.report_data import amber, complete, day, empty, green, grey, objectives, past, red
from tests.report_jobs import bad_jobs, job, lines_of, numbered, quiet_jobs
from tests.report_page import read_page
from tests.tables import DAY, at, ns, span, table

ROWS = {"logs": 100, "jobs": 100, "alerts": 0, "events": 10, "issues": 3}


def plain(text: object) -> str:
    return str(text).replace(NBSP, " ")


def row(data: ReportData, name: str) -> dict[str, Any]:
    found = signals.section(data)["rows"]
    return next({k: v if v is None else plain(v) for k, v in r.items()} for r in found if r["name"] == name)


def small(jobs: Sequence[dict[str, Any]], **more: Any) -> ReportData:
    """Return a day of a few attempts with everything known."""
    frame = numbered(jobs)
    return day(frame, lines_of(frame), complete(ROWS), table("alerts"), objectives(990, 1000, (1, 1)), **more)


def build_ref(end: str, outcome: str = "failed", run: int = 1) -> dict[str, Any]:
    return job("codegen-check", (ns(end) - DAY.start) / 1e9 - 20, 20, outcome, run=run, issue=205)


def test_the_sentence_names_what_people_ask_first() -> None:
    assert plain(verdict.sentence(red())) == (
        "139 of 155 builds and mirrors ok (89.7 %, 95 % CI 83.9–93.5), codegen-check 33 of 42 · 2 incidents, both "
        "recovered · 7-day SLO 98.1 % < 99 %, budget 190 % spent · data complete"
    )
    assert plain(verdict.because(red())["text"]) == (
        "3 page thresholds were reached, the first at 09:14:03; "
        "the build-ref incident took 1 h 13 min to recover, over 30 min."
    )


def test_a_hole_is_said_before_what_was_seen() -> None:
    said = plain(verdict.sentence(grey()))
    assert said.startswith(
        "The data does not allow a verdict: no job data and alert data from 10:14:12 to 12:51:12 "
        "(2 h 37 min, 10.9 % of the day). Of what was seen, 126 of 126"
    )
    assert "no incident seen" in said
    assert "verdict.max_gap" in verdict.because(grey())["text"]


def test_red_stays_red_and_says_that_data_is_missing() -> None:
    coverage = complete(ROWS, {"logs": [span("20:00", "20:05")]})
    frame = numbered(bad_jobs())
    data = day(frame, lines_of(frame), coverage, table("alerts"), objectives(990, 1000, (1, 1)))
    assert data.verdict == "red"
    assert plain(verdict.sentence(data)).endswith("data incomplete: Loki logs")


def test_a_source_that_did_not_answer_is_named_with_its_error() -> None:
    down = Coverage("logs", "loki", True, False, 0, [DAY], {"error": "loki at http://loki:3100: connection refused"})
    frame = numbered(quiet_jobs(3))
    known = [down if c.what == "logs" else c for c in complete(ROWS)]
    data = day(frame, lines_of(frame), known, table("alerts"), objectives(990, 1000, (1, 1)))
    shown = sources.section(data)["rows"][0]
    assert (shown["rows"], shown["first"], shown["gaps"]) == (None, None, "1: the whole day")
    assert "connection refused" in todo.todo(data)[0]["how"]
    assert plain(todo.todo(data)[0]["what"]) == "Find the cause: no log lines of this day."
    assert row(data, "MANIFEST_UNKNOWN")["threshold"] == "≥ 2, not known the whole day"


def test_an_overlooked_hole_leaves_the_day_green_and_is_still_said() -> None:
    coverage = complete(ROWS, {"jobs": [span("10:00", "10:00:40")]})
    frame = numbered(quiet_jobs(3))
    data = day(frame, lines_of(frame), coverage, table("alerts"), objectives(1000, 1000, (0, 0)))
    lenient = dataclasses.replace(data, verdict="green", reasons=[], max_gap_s=60.0)
    said = "data complete, holes of at most 40 s being overlooked (verdict.max_gap)"
    assert plain(verdict.sentence(lenient)).endswith(said)
    assert "5 of 5 configured sources are complete, holes of at most 40 s" in plain(verdict.because(lenient)["text"])


def test_nothing_unknown_is_shown_as_zero() -> None:
    for r in signals.section(empty())["rows"]:
        assert (r["now"], r["before"], r["usual"], r["change"]) == (None, None, None, None)
    assert health.section(empty())["note"] == "not known"
    assert [words for _, words in health.section(empty())["legend"]][:2] == ["failed", "succeeded"]
    assert plain(failed.section(empty())["nothing"]) == "Not known: no source of jobs was configured."
    assert sources.section(empty())["note"] == "no source configured"
    assert "None" not in json.dumps(summary(empty()))


def test_a_day_with_a_hole_shows_lower_bounds() -> None:
    assert row(grey(), "Traffic")["now"] == "at least 130"
    assert row(grey(), "Errors")["now"] == "0 of 126 seen · 0 %"
    assert row(grey(), "Failure burst")["now"] == "0 seen"
    assert row(grey(), "Failure burst")["threshold"] == "≥ 3, not known 10:14–13:06"
    assert row(grey(), "MANIFEST_UNKNOWN")["now"] == "0"
    assert [row(grey(), n)["change"] for n in ("Traffic", "Errors", "Latency")] == [None] * 3
    assert plain(failed.section(grey())["nothing"]) == (
        "None seen: 0 of 156 finished attempts. Not known for 10:14:12–12:51:12."
    )


def test_an_earlier_day_with_a_hole_is_a_lower_bound_too_and_no_part_of_the_median() -> None:
    history = past()
    totals = {k: dict(v) | {"complete": False, "failed": 0} for k, v in history[0]["totals"].items()}
    history[0] = history[0] | {"totals": totals}
    data = dataclasses.replace(green(), history=history)
    assert row(data, "Traffic")["before"] == "at least 194"
    assert row(data, "Traffic")["change"] is None
    assert row(data, "Failure burst")["before"] is None
    assert row(data, "Traffic")["usual"] == "180.5 (6 d)"
    assert row(data, "MANIFEST_UNKNOWN")["usual"] == "0"


def test_few_make_no_percentage_and_no_p95() -> None:
    assert row(amber(), "Errors")["now"] == "1 of 4"
    assert row(amber(), "Errors")["interval"] is None
    assert row(amber(), "Errors")["change"] == "–"
    assert row(amber(), "Failure rate")["threshold"] == "> 5 %, too few to judge"
    assert row(amber(), "Latency")["now"] == "4 min 44 s to 5 min 18 s"
    assert row(amber(), "Latency")["before"] == "p95 7 min 21 s"
    assert "%" not in verdict.sentence(amber())


@pytest.mark.parametrize(
    ("builds", "form"), [(19, "median to maximum of builds, n = 19"), (20, "p95 of builds, n = 20")]
)
def test_a_p95_begins_with_twenty_builds(builds: int, form: str) -> None:
    data = small([job("build", 30_000 + 60 * n, 200 + n, run=n) for n in range(builds)])
    assert row(data, "Latency")["what"] == form


def test_percentages_begin_with_five() -> None:
    four, five = (small([job("mirror", 30_000 + 60 * n, 20) for n in range(k)]) for k in (4, 5))
    assert row(four, "Errors")["now"] == "0 of 4"
    assert row(five, "Errors")["now"] == "0 of 5 · 0 %"


def test_weeks_of_few_builds_compare_medians() -> None:
    history = past()
    for h in history:
        h["totals"]["build"] |= {"durations": 7}
    data = small([job("build", 30_000, 200, run=1)], history=history)
    assert row(data, "Latency")["usual"] == "median 3 min 46 s"


def test_a_threshold_tells_when_it_was_first_reached() -> None:
    assert row(red(), "Failure burst")["threshold"] == "▲ ≥ 3, 09:14:31"
    assert row(red(), "Failure rate")["now"] == "14 of 19 · 73.7 %"
    held = [{**e, "intervals": [(ns("23:50", -1), ns("00:10"))]} for e in green().expected]
    assert (
        row(dataclasses.replace(green(), expected=held), "Failure burst")["threshold"]
        == "▲ ≥ 3, since 2026-02-25 23:50:00"
    )


def test_what_to_do_is_at_most_three_things_the_worst_first() -> None:
    what = [plain(t["what"]) for t in todo.todo(red())]
    assert what == [
        "MANIFEST_UNKNOWN reached its page threshold at 09:14:03 and nothing fired.",
        "Invalid build ref returned after 6 days: 9 failed attempts of 5 runs, 10:52–11:58, #205, #219, #221, #222.",
        "Error budget is overspent by 11.8 failures: stabilisation work only.",
    ]
    assert todo.todo(green()) == []


def test_an_incident_that_is_not_over_comes_first() -> None:
    data = small([build_ref("10:00"), build_ref("10:05")])
    assert plain(verdict.sentence(data)).split(" · ")[1] == "1 incident, not recovered"
    first = todo.todo(data)[0]
    assert plain(first["what"]) == "Invalid build ref: 2 failed attempts of 1 run since 10:00, not recovered, #205."
    assert first["doc"].text == "Runbook"
    assert [k["state"] for k in failed.section(data)["kinds"]] == ["new, ongoing"]


def test_an_incident_that_ended_the_next_day_was_not_over_by_the_days_end() -> None:
    later = build_ref("23:59") | {
        "created_at": at("00:10", 1),
        "started_at": at("00:10", 1),
        "ended_at": at("00:11", 1),
    }
    data = small([build_ref("23:50"), later | {"outcome": "succeeded"}])
    assert "1 incident, not recovered" in verdict.sentence(data)
    assert "not recovered" in todo.todo(data)[0]["what"]


def test_alerts_that_were_missed_are_one_line_a_severity() -> None:
    data = dataclasses.replace(red(), alerts=table("alerts"))
    missed = data.alert_audit.assign(verdict="missed", actual_start=None, actual_end=None, delay_s=None)
    what = [plain(t["what"]) for t in todo.todo(dataclasses.replace(data, alert_audit=missed))]
    assert what[0] == "3 alerts should have sent a page and never fired, the first at 09:14:03."


def test_new_and_returning_are_only_said_as_far_as_the_lake_knows() -> None:
    jobs = [build_ref("10:00"), build_ref("10:05", "succeeded")]
    assert failed.section(small(jobs))["kinds"][0]["state"] == "new, resolved 10:05:00"
    young = small(jobs, history=past(2))
    assert failed.section(young)["kinds"][0]["state"] == "not seen in the 2 days before, resolved 10:05:00"
    assert failed.section(small(jobs, earlier=None))["kinds"][0]["state"] == "resolved 10:05:00"


def test_failures_without_a_run_make_the_number_of_runs_a_lower_bound() -> None:
    mirror = job("mirror", 40_000, 30, "failed")
    data = small([mirror, job("mirror", 41_000, 30, "failed"), build_ref("10:00")])
    kinds = {plain(k["name"]): k for k in failed.section(data)["kinds"]}
    assert kinds["none (other)"]["runs"] is None
    assert kinds["none (other)"]["issues"] is None
    assert kinds["build-ref"]["runs"] == "1"
    assert failed.section(data)["note"] == "1 combination of signatures, at least 1 run"


def test_a_run_without_an_issue_is_told_from_one_whose_issue_is_not_known() -> None:
    jobs = [build_ref("10:00") | {"issue": None}]
    assert plain(failed.section(small(jobs))["kinds"][0]["issues"]) == "none yet"
    frame = numbered(jobs)
    known = [c for c in complete(ROWS) if c.what != "issues"]
    data = day(frame, lines_of(frame), known, table("alerts"), objectives(990, 1000, (1, 1)))
    assert failed.section(data)["kinds"][0]["issues"] is None


def test_objectives_say_what_is_left_in_failures() -> None:
    first, second = promises.objectives(red())["rows"]
    assert (plain(first["ratio"]), first["left"], first["bound"]) == ("98.1 %", "−11.8", True)
    assert (plain(second["name"]), second["ratio"]) == ("recovery within 30 min", "2 of 3")
    young = promises.objectives(amber())["rows"][0]
    assert (young["ratio"], young["unknown"]) == (None, "not known: not every day was pulled")
    assert plain(promises.objectives(grey())["seen"]) == "Counted from what was seen: of 1 day the job data has holes."


def test_alerts_are_held_against_reality() -> None:
    rows = {plain(r["alert"].text): r for r in promises.audit(red())["rows"] if r["verdict"] != "unexpected"}
    assert rows["BUILD_MANIFEST_UNKNOWN_PERSISTENT"]["delay"] == "never fired"
    assert plain(rows["BUILD_FAILURE_BURST"]["delay"]) == "1 min 59 s late"
    assert rows["BUILD_MTTR_SLO_RISK"]["until"] == "2026-02-27 12:05:31"
    assert plain(promises.audit(amber())["nothing"]) == "Not known: no source of alert history was configured."
    assert plain(promises.audit(grey())["nothing"]) == "Nothing should have fired, nothing was seen to fire."
    assert plain(promises.audit(green())["nothing"]) == "Nothing should have fired and nothing fired."


def test_what_should_have_fired_is_said_also_without_alert_history() -> None:
    quiet = [
        c if c.what != "alerts" else Coverage("alerts", "prometheus", False, None, 0, (), {}) for c in complete(ROWS)
    ]
    frame = numbered(bad_jobs())
    data = day(frame, lines_of(frame), quiet, table("alerts"), objectives(990, 1000, (1, 1)))
    assert "Should have fired: BUILD_FAILURE_BURST at 09:14:31" in promises.audit(data)["nothing"]
    assert [t for t in todo.todo(data) if "nothing fired" in t["what"]] == []


def test_numbers_of_a_dump_are_said_to_be() -> None:
    assert "come from a kubectl dump" in sources.section(amber())["notes"]
    assert "dump" not in sources.section(green())["notes"]


def test_a_line_with_two_signatures_is_one_line() -> None:
    shown = {plain(r["name"]): r["lines"] for r in stream.section(red())["rows"]}
    assert shown == {"manifest-unknown": "42", "cache-retrieval": "42", "build-ref": "27", "other WARN and ERROR": "35"}
    assert stream.section(red())["note"] == "104 lines"


def shared(**more: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "day": at("00:00"),
        "scope": "day",
        "kind": "build",
        "attribute": "node",
        "match": "is",
        "value": "node-1",
    }
    row |= {"failed": 3, "failed_of": 4, "failed_unknown": 0, "succeeded": 1, "succeeded_of": 9, "succeeded_unknown": 0}
    return row | {"p_value": 0.0123, "q_value": 0.0321, "rank": 1, "tests": 1234} | more


def test_what_an_incident_shares_comes_first_and_is_not_said_of_its_day_too() -> None:
    case = red().incidents["incident_id"].iloc[0]
    other: dict[str, Any] = {"value": "node-2", "rank": 2, "failed_unknown": 5, "q_value": 0.0000001}
    rows = [shared(rank=1), shared(**other), shared(scope=case, rank=3), shared(value="node-3", q_value=0.051, rank=4)]
    found = shares.section(dataclasses.replace(red(), shares=table("shares", *rows)))
    assert [(plain(r["what"]), plain(r["among"])) for r in found["rows"]] == [
        ("node is node-1", "cache incident of 09:06"),
        ("node is node-2", "the day"),
    ]
    assert [(r["failed"], r["succeeded"], r["chance"]) for r in found["rows"]] == [
        ("3 of 4", "1 of 9", "0.032"),
        ("3 of 4, 5 not known", "1 of 9", "under 0.001"),
    ]
    assert "all 1,234 values" in plain(found["about"])
    assert found["note"] == "2 findings"


def test_that_failures_have_an_error_comes_last() -> None:
    rows = [shared(attribute="error", value="fatal", rank=1), shared(q_value=0.04, rank=2)]
    found = shares.section(dataclasses.replace(red(), shares=table("shares", *rows)))
    assert [plain(r["what"]) for r in found["rows"]] == ["node is node-1", "first word of the error is fatal"]


def test_where_nothing_is_shared_it_is_said_why() -> None:
    none: dict[str, Any] = {"shares": table("shares"), "ledger": table("ledger")}
    for data, said in (
        (dataclasses.replace(red(), **none), "The failed attempts share nothing"),
        (green(), "Nothing to compare: no failed attempt was seen."),
        (empty(), "Not known: no source of jobs was configured."),
    ):
        found = shares.section(data)
        assert plain(found["nothing"]).startswith(said)
        assert (found["rows"], found["note"], found["more"]) == ([], "", None)


def test_lines_that_no_success_has_are_the_new_ones_first_and_the_rest_is_counted() -> None:
    base: dict[str, Any] = {
        "day": at("00:00"),
        "what": "template",
        "kind": "build",
        "lines": 3,
        "failed": 2,
        "failed_of": 4,
    }
    base |= {"succeeded": 0, "succeeded_of": 9, "first_at": at("09:00")}
    told = [("a", "known", "12:00"), ("b", "new", "10:00"), ("c", "returning", "11:00"), ("d", "new", "11:00")]
    told += [(f"e{i}", "known", "08:00") for i in range(8)]
    rows = [base | {"id": t, "text": t, "state": s, "last_at": at(w)} for t, s, w in told]
    unsure = base | {"id": "u", "text": "u", "state": "new", "last_at": at("13:00"), "succeeded": None}
    signature = base | {"id": "s", "what": "signature", "state": "new", "last_at": at("13:00")}
    found = shares.section(dataclasses.replace(red(), ledger=table("ledger", *rows, unsure, signature)))
    assert [r["text"] for r in found["lines"]][:4] == ["d", "b", "c", "a"]
    assert (len(found["lines"]), found["lines"][0]["failed"]) == (10, "2 of 4")
    assert plain(found["lines_more"]) == "2 more are in the lake's table ledger, date=2026-02-26."


def test_breaches_of_the_level_policy_are_listed_and_their_absence_is_said() -> None:
    found = stream.section(red())
    assert [(plain(b["what"]), b["lines"], b["first"]) for b in found["breaches"]] == [
        ("error below WARN", "1", "09:15:00")
    ]
    assert plain(stream.section(green())["breaches_nothing"]).startswith("No breach of the level policy: ")
    assert stream.section(empty())["breaches_nothing"] is None


def test_windows_that_nobody_knows_are_one_row() -> None:
    rows = health.section(grey())["numbers"]
    assert [r["at"] for r in rows if set(r["cells"]) == {None}] == ["10:00–12:45"]
    assert [r["cells"] for r in rows if r["at"] == "12:45"] == [["at least 1", None, "at least 1", None]]


def test_the_view_and_the_summary_have_plain_values() -> None:
    view = daily_view(red())
    assert json.loads(json.dumps({"sentence": view["sentence"], "todo": [t["what"] for t in view["todo"]]}))
    assert json.loads(json.dumps(summary(red()), allow_nan=False))["report"] == "daily"


FRAME = Frame(DAY, charts.WIDE)


def texts(svg: str) -> list[str]:
    return [plain(e.text) for e in read_page(svg).all("text")]


def test_a_chart_is_named_and_as_wide_as_it_was_asked_for() -> None:
    for width in (charts.WIDE, charts.NARROW):
        counts = [Stack("var(--bad)", [5, *[0] * 95]), Stack("var(--mark-ok)", [1] * 96)]
        svg = to_svg(charts.bars("Title", counts, Frame(DAY, width), height=96, axis=True), 'A "name" & more')
        root = read_page(svg).all("svg")[0].attributes
        assert (root["width"], root["role"], root["aria-label"]) == (str(width), "img", 'A "name" & more')
        assert texts(svg)[-1] == "Title"
        assert texts(svg)[-5:-1] == ["0", "2", "4", "6"]


def test_an_axis_is_round_and_covers_what_it_shows() -> None:
    for most in (0, 1, 3, 7, 11, 31, 130, 4_999, 1_000_000):
        svg = to_svg(charts.bars("x", [Stack("var(--bad)", [most, *[0] * 95])], FRAME, height=96), "x")
        ticks = [int(t) for t in texts(svg)[:-1]]
        assert ticks[0] == 0
        assert ticks[-1] >= most
        assert len(ticks) <= 5


def test_a_build_that_took_far_longer_does_not_flatten_the_others() -> None:
    dots = [(ns("10:00") + n * 60_000_000_000, 4.0 + n % 3) for n in range(40)]
    svg = to_svg(charts.durations("x", [*dots, (ns("16:00"), 31.2)], [Spread(ns("10:00"), 5, 6)], FRAME), "x")
    assert "31 min 12 s" in texts(svg)
    assert [t for t in texts(svg) if t.isdigit()] == ["0", "5", "10"]


def test_many_builds_are_a_band_and_no_cloud() -> None:
    frame = numbered([job("build", 20_000 + 90 * n, 200 + n % 60, run=n) for n in range(500)])
    data = day(frame, lines_of(frame), complete(ROWS), table("alerts"), objectives(990, 1000, (1, 1)))
    drawn = health.section(data)["charts"].wide[-1]
    assert "median to p95" in drawn
    assert len(drawn) < 10_000


def test_labels_of_lanes_stand_where_there_is_room() -> None:
    early = Lane("an early one", "var(--bad)", [(span("00:10", "00:30"), "solid")], "incidents")
    late = Lane("a late one", "var(--bad)", [(span("23:00", "23:50"), "dashed")], "alerts")
    whole = Lane("all day long", "var(--fired)", [(DAY, "solid")], "alerts")
    svg = to_svg(charts.lanes([early, late, whole], FRAME), "x")
    anchors = {e.text: e.attributes["text-anchor"] for e in read_page(svg).all("text")}
    assert anchors == {
        "an early one": "start",
        "a late one": "end",
        "all day long": "start",
        "incidents": "start",
        "alerts": "start",
    }


def test_a_few_lanes_are_drawn_and_the_rest_is_counted() -> None:
    many = table(
        "alerts",
        *(
            {"alert": f"AI_SLOT_{n:02}", "severity": "page", "started_at": at(f"{n:02}:00"), "labels": {}}
            | {"ended_at": at(f"{n:02}:20"), "source": "prometheus"}
            for n in range(20)
        ),
    )
    drawn = health.section(dataclasses.replace(green(), alerts=many))["charts"].wide[0]
    assert "and 13 more" in texts(drawn)


def test_control_characters_do_not_abort_the_charts() -> None:
    nasty = "\x00\x1b[31m\ufffe\u202e<&>"
    lane = Lane(nasty, "var(--bad)", [(span("10:00", "11:00"), "solid")], nasty)
    for svg in (
        to_svg(charts.lanes([lane], FRAME), nasty),
        to_svg(
            charts.bars(nasty, [Stack("var(--bad)", [1] * 96)], Frame(DAY, 928, [DAY], no_data=nasty), height=28), nasty
        ),
        to_svg(charts.durations(nasty, [(ns("10:00"), 1.0)] * 30, [], FRAME, p95=(1.0, nasty)), nasty),
    ):
        assert r"\x00\x1b[31m\ufffe\u202e<&>" in [*texts(svg), read_page(svg).all("svg")[0].attributes["aria-label"]]


def test_a_sparkline_tells_zero_from_not_known() -> None:
    drawn = spark([0.0, 2.0, None, None, 1.0], 1.5, "--bad")
    assert drawn.count('class="gap"') == 1
    assert 'class="limit"' in drawn
    assert "aria-hidden" in drawn
    assert 'style="fill' not in spark([0.0] * 96, None, "--bad")
    assert spark([None] * 96, None, "--bad").count('class="gap"') == 1


def test_incidents_of_the_day_before_begin_at_the_days_edge() -> None:
    data = red()
    cases = data.incidents.assign(started_at=[at("22:00", -1)] * len(data.incidents))
    shown = health.frame(dataclasses.replace(data, incidents=cases), charts.WIDE, "jobs")
    assert [b.intersect(DAY) for b, _ in shown.bands] == [
        Window(DAY.start, at("09:33:53").value),
        Window(DAY.start, at("12:05:31").value),
    ]
