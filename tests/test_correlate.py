"""Links between lines, jobs, runs and issues: each with how it is known; what fits two stays without one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import catalog, schemas
from pipeline.correlate import ambiguous, attempt_of_line, issue_of_run, job_hint, job_of_line, link_runs
from pipeline.rules import JobKind, Phrase
from pipeline.telling import Telling
from tests.tables import at, attempt, attempts, line, lines, span, table

RULES = catalog.load()
KINDS = RULES.job_kinds
RUN = "3f2a9c1e-7b41-4c1d-9a60-52e1c07d8b14"
TWIN = "3f2a9c1e-7b49-4aaa-8bbb-0123456789ab"  # shares its first twelve characters with RUN
STRANGER = "d23f0824-1281-4c1d-9a60-52e1c07d8b14"
BUILD = "codex-k8s-kaniko-web-console-3f2a9c1e-7b4"
CHECK = "codex-k8s-codegen-check-3f2a9c1e-7b4"
MIRROR = "codex-k8s-mirror-node-22-5be0c1d4"
AGENT = f"codex-k8s-run-{RUN}"


def _line(**more: Any) -> dict[str, Any]:
    return line("09:05", **more)


def _told(*rows: dict[str, Any]) -> pd.DataFrame:
    """Return lines with the job that each is about."""
    told = lines(*rows)
    return told.assign(job=job_of_line(told, [BUILD, CHECK, MIRROR, AGENT], KINDS))


def _comment(
    run: str, job: str | None, found_by: str = "marker", issue: int = 205, when: str = "08:00"
) -> dict[str, Any]:
    return {
        "ts": at(when),
        "run_id": run,
        "issue": issue,
        "job_name": job,
        "found_by": found_by,
        "author_kind": "person",
    }


def _spoken(first: str, last: str) -> tuple[int, int]:
    return at(first).value, at(last).value


def _linked(
    name: str, *said: dict[str, Any], comments: tuple[dict[str, Any], ...] = (), runs: tuple[str, ...] = (), **more: Any
) -> dict[str, Any]:
    ran = attempts(attempt("09:00", "09:10", job_name=name, **more))
    known = dict.fromkeys(runs, _spoken("09:00", "09:10"))
    (row,) = schemas.rows_of(link_runs(ran, _told(*said), table("issue_runs", *comments), KINDS, (), known))
    return row


def _link(*args: Any, **more: Any) -> tuple[str | None, str | None]:
    row = _linked(*args, **more)
    return tuple(row[c] if isinstance(row[c], str) else None for c in ("run_id", "linked_by"))  # type: ignore[return-value]


# which job a line is about


@pytest.mark.parametrize(
    ("text", "job"),
    [
        (f"wait kaniko job {BUILD}: job failed", BUILD),
        (f'{{"err":"logs:\\n{BUILD} failed"}}', BUILD),
        (f"{BUILD} and again {BUILD}.", BUILD),
        (f"pod {BUILD}-x7k2p of {BUILD}", BUILD),
        (f"Created pod: {MIRROR}-bcdfg", MIRROR),
        ("pod codex-k8s-kaniko-worker-d23f0824-128-x7k2p started", "codex-k8s-kaniko-worker-d23f0824-128"),
        ("job codex-k8s-codegen-check started", "codex-k8s-codegen-check"),
        (f"{BUILD} waits for {MIRROR}", None),
        (f"my-{BUILD} is no job of ours", None),
        ("namespace codex-k8s-prod, deployment codex-k8s-control-plane", None),
        ("codex-k8s-kaniko-", None),
        ("nothing", None),
    ],
)
def test_a_line_is_about_the_one_job_that_its_text_names(text: str, job: str | None) -> None:
    (got,) = job_of_line(lines(_line(line=text)), [BUILD, MIRROR], KINDS).tolist()
    assert got == job or (job is None and pd.isna(got))


def test_a_field_or_label_wins_over_the_text() -> None:
    told = lines(_line(line=f"{BUILD} waits for {MIRROR}", job_name=MIRROR), _line(line=MIRROR, job_name="unheard-of"))
    assert sorted(job_of_line(told, [BUILD], KINDS)) == [MIRROR, "unheard-of"]


def test_lines_without_a_job_and_no_lines_at_all_have_none() -> None:
    assert job_of_line(lines(), [], KINDS).tolist() == []
    got = job_of_line(lines(_line(line="a")), [], KINDS)
    assert got.isna().all()
    assert got.dtype == lines()["job"].dtype


@pytest.mark.parametrize(
    ("pattern", "finds"),
    [
        ("ci-(?:lint|test)-[a-z]+", ["ci-lint-a", "ci-test-b"]),
        ("ci-x?[a-z]+", ["ci-xa", "ci-a"]),
        ("(?:a|b)?c-[a-z]+", ["ac-x", "c-x"]),
        ("left-[a-z]+|right-[a-z]+", ["left-a", "right-a"]),
        ("ci-(?P<token>[0-9a-f]{4}|none)", ["ci-12ab", "ci-none"]),
    ],
)
def test_the_hint_finds_every_name_of_a_users_own_kind(pattern: str, finds: list[str]) -> None:
    mine = JobKind("mine", pattern, 600, golden=False)
    hint = re.compile(job_hint([mine]))
    for name in finds:
        assert re.fullmatch(pattern, name)
        assert name in hint.findall(f"the job {name} runs")


def test_the_hint_passes_over_names_of_the_platforms_own_services() -> None:
    assert not re.search(
        job_hint(KINDS), "codex-k8s-prod codex-k8s-control-plane codex-k8s-worker codex-k8s.dev/run-id"
    )


@given(st.sampled_from([k.pattern for k in KINDS]), st.data())
@settings(max_examples=40, deadline=None)
def test_whatever_a_kind_matches_the_hint_finds(pattern: str, data: st.DataObject) -> None:
    name = data.draw(st.from_regex(pattern, fullmatch=True))
    assert re.match(job_hint(KINDS), name)


# which attempt a line is about


def test_a_line_is_about_the_attempt_that_was_there() -> None:
    ran = attempts(
        attempt("09:00", "09:10", "failed"),
        attempt("09:10:02", None, "running"),
        attempt("09:00", "09:05", job_name=MIRROR, kind="mirror"),
    )
    when = {"08:59": None, "09:00": 0, "09:10:03": 2, "23:00": 2}
    told = lines(*(line(t, job=BUILD) for t in when))
    assert attempt_of_line(told, ran).tolist() == [pd.NA if i is None else i for i in when.values()]
    assert attempt_of_line(lines(line("09:06", job=MIRROR)), ran).tolist() == [1]
    assert attempt_of_line(lines(line("09:06:01", job=MIRROR)), ran).isna().all()
    assert attempt_of_line(lines(line("09:05")), ran).isna().all()
    assert attempt_of_line(told, attempts()).isna().all()


def test_a_line_may_come_some_seconds_before_the_event_that_first_shows_its_job() -> None:
    ran = attempts(attempt("09:10:01", "09:15", source="events"), attempt("09:15:04", "09:20", source="events"))
    told = lines(*(line(t, job=BUILD) for t in ("09:09:55.9", "09:10:00.2", "09:15:03.8", "09:15:05.1")))
    assert attempt_of_line(told, ran).tolist() == [pd.NA, 0, 0, 1]


def test_an_attempt_that_only_lines_know_begins_with_its_first_line() -> None:
    ran = attempts(
        attempt("09:00", "09:10", "failed"), attempt(None, "09:12", "failed", created="09:12", source="logs")
    )
    assert attempt_of_line(lines(line("09:12", job=BUILD), line("09:12:00.5", job=BUILD)), ran).tolist() == [1, 1]


# which run an attempt is of


def test_each_way_to_a_run_is_taken_in_the_order_of_its_certainty() -> None:
    field = _line(run_id="by-field", job_name=BUILD)
    text = _line(run_id="by-text", line=f"job {BUILD}")
    marker = _comment(RUN, BUILD)
    assert _link(BUILD, field, text, comments=(marker,), runs=(RUN,), run_id="by-label") == ("by-field", "field")
    assert _link(BUILD, text, comments=(marker,), runs=(RUN,), run_id="by-label") == ("by-label", "label")
    assert _link(BUILD, text, comments=(marker,), runs=(RUN,)) == (RUN, "job_token")
    assert _link(BUILD, text, comments=(marker,), runs=(RUN, TWIN)) == (RUN, "issue_marker")
    assert _link(BUILD, text, runs=(RUN, TWIN)) == ("by-text", "text")
    assert _link(BUILD, comments=(_comment(TWIN, BUILD, "text"),), runs=(RUN, TWIN)) == (TWIN, "text")
    assert _link(BUILD, runs=(RUN, TWIN)) == (None, None)
    assert _link(BUILD, runs=(STRANGER,)) == (None, None)


def test_a_prefix_that_fits_two_runs_is_ambiguous_and_counted() -> None:
    ran = attempts(
        attempt("09:00", "09:10"),
        attempt("09:00", "09:10", job_name=CHECK, kind="codegen-check"),
        attempt("09:00", "09:10", job_name=BUILD.replace("web-console", "worker"), run_id=RUN, linked_by="field"),
        attempt("09:00", "09:10", job_name=MIRROR, kind="mirror"),
    )
    assert ambiguous(ran, [RUN, TWIN], KINDS) == 2
    assert ambiguous(ran, [RUN], KINDS) == 0
    assert ambiguous(ran, [TWIN], KINDS) == 2  # a run that only an attempt names is known too
    assert ambiguous(attempts(), [RUN, TWIN], KINDS) == 0


@pytest.mark.parametrize(
    ("run", "name"),
    [
        (RUN, "codex-k8s-kaniko-api-gateway-3f2a9c1e-7b4"),
        (RUN, CHECK),  # twenty characters may stand there; twelve do
        ("3F2A9C1E-7B41-4C1D-9A60-52E1C07D8B14", BUILD),
        ("run_2026.02.26", "codex-k8s-kaniko-worker-run-2026-02"),
        ("a1b2c3d4e5f--x", "codex-k8s-kaniko-worker-a1b2c3d4e5f"),
        (RUN, AGENT),
    ],
)
def test_a_name_carries_its_runs_token_in_its_normal_form(run: str, name: str) -> None:
    assert _link(name, runs=(run, STRANGER)) == (run, "job_token")


@pytest.mark.parametrize(
    "name",
    [
        "codex-k8s-kaniko-worker-3f2a9c1e-7b",  # a part of the token
        "codex-k8s-codegen-check-3f2a9c1e-7b41-4c1d",  # more than the token
        "codex-k8s-codegen-check",
        "codex-k8s-run-3f2a9c1e",  # not cut, so it is another run's whole id
        "codex-k8s-migrate-3f2a9c1e-7b4",
        "unheard-of-3f2a9c1e-7b4",
    ],
)
def test_a_name_that_only_resembles_a_run_leads_to_none(name: str) -> None:
    assert _link(name, runs=(RUN,)) == (None, None)


def test_a_name_cut_at_its_longest_carries_as_much_of_the_run_as_fits() -> None:
    run = "a-long-run-id-of-some-other-install-0123456789-0123456789"
    cut = f"codex-k8s-run-{run}"[:63]
    assert _link(cut, runs=(run, RUN)) == (run, "job_token")
    assert _link(cut, runs=(run, run + "-b")) == (None, None)


def test_a_token_that_two_short_ids_fit_is_not_guessed() -> None:
    assert _link("codex-k8s-kaniko-worker-a-b", runs=("a-b", "b")) == (None, None)


@pytest.mark.parametrize(
    ("mine", "other", "linked"),
    [
        (("08:50", "09:30"), ("14:00", "14:20"), RUN),
        (("08:50", "09:30"), ("10:00:01", "10:20"), RUN),
        (("09:00:59", "09:30"), ("10:00:01", "10:20"), RUN),
        (("09:01:01", "09:30"), ("14:00", "14:20"), None),  # nobody spoke of it as the job was made
        (("08:50", "09:30"), ("09:59", "10:20"), None),  # the other may have been queued already
        (("08:50", "09:30"), ("07:30", "08:01"), None),
        (("08:50", "09:30"), None, None),  # nobody knows when the other was
    ],
)
def test_of_two_runs_that_a_name_fits_the_one_that_was_there_made_it(
    mine: tuple[str, str], other: tuple[str, str] | None, linked: str | None
) -> None:
    ran = attempts(attempt("09:00", "09:10", job_name=BUILD))
    spans = {RUN: _spoken(*mine)} | ({TWIN: _spoken(*other)} if other else {})
    told = _told() if other else _told(_line(run_id=TWIN))
    (row,) = schemas.rows_of(link_runs(ran, told, table("issue_runs"), KINDS, (), spans))
    assert pd.isna(row["run_id"]) if linked is None else (row["run_id"], row["linked_by"]) == (linked, "job_token")


def test_what_may_have_been_said_in_a_hole_of_the_logs_links_nothing() -> None:
    ran = attempts(attempt("09:00", "09:10", job_name=BUILD))
    spans = {RUN: _spoken("08:50", "09:30"), TWIN: _spoken("14:00", "14:20")}
    for hole, linked in (
        (span("10:00:00", "10:30"), RUN),
        (span("09:59:59", "10:30"), None),
        (span("07:00", "08:01"), None),
    ):
        (got,) = link_runs(ran, _told(), table("issue_runs"), KINDS, (), spans, [hole])["run_id"]
        assert got == linked or (linked is None and pd.isna(got))


def test_comments_do_not_tell_when_runs_were_there() -> None:
    ran = attempts(attempt("09:00", "09:10", job_name=BUILD))
    links = table("issue_runs", _comment(TWIN, None, when="14:00"))
    linked = link_runs(ran, _told(), links, KINDS, (), {RUN: _spoken("08:50", "09:30")})
    assert linked["run_id"].isna().all()


def test_an_agents_job_names_its_run_whole_so_that_a_token_may_be_of_that_one_too() -> None:
    twin = attempt("09:20", "09:50", kind="run", job_name=f"codex-k8s-run-{TWIN}")
    links = table("issue_runs", {"run_id": RUN, "issue": 205, "found_by": "marker", "ts": at("09:00")})
    alone, both = (
        link_runs(attempts(attempt("09:00", "09:10"), *more), lines(), links, KINDS) for more in ((), (twin,))
    )
    assert alone["run_id"].tolist() == [RUN]
    assert both.set_index("kind")["run_id"].fillna("").to_dict() == {"build": "", "run": TWIN}
    assert ambiguous(both, [RUN], KINDS) == 1


def test_the_name_of_a_mirror_never_leads_to_a_run_but_a_line_that_names_both_does() -> None:
    run = "5be0c1d4-aaaa-4c1d-9a60-52e1c07d8b14"
    assert _link(MIRROR, runs=(run,)) == (None, None)
    assert _link(MIRROR, comments=(_comment(RUN, MIRROR), _comment(RUN, MIRROR, "text"))) == (None, None)
    assert _link(MIRROR, _line(run_id=RUN, job_name=MIRROR)) == (RUN, "field")
    assert _link(MIRROR, _line(run_id=RUN, line=f"mirror job {MIRROR} done")) == (RUN, "text")
    assert _link(MIRROR, _line(line=f"mirror {MIRROR} for run {RUN}"), runs=(RUN,)) == (RUN, "text")
    assert _link(MIRROR, _line(line=f"mirror {MIRROR} for run {RUN}"), runs=()) == (None, None)
    assert _link(MIRROR, _line(line=f"{MIRROR} for {RUN} after {TWIN}"), runs=(RUN, TWIN)) == (None, None)


def test_of_a_name_that_two_namespaces_have_a_line_is_about_the_job_of_its_own() -> None:
    ran = attempts(
        attempt("09:00", "09:20", job_name=BUILD, namespace="issue-7"),
        attempt("09:05", "09:30", job_name=BUILD, namespace="codex-k8s-prod"),
        attempt("09:40", None, job_name=BUILD, namespace="codex-k8s-prod"),
    )
    told = _told(
        *(line("09:10", job_name=BUILD, namespace=n) for n in ("issue-7", "codex-k8s-prod", "elsewhere")),
        line("09:02", job_name=BUILD, namespace="codex-k8s-prod"),
        line("09:21", job_name=BUILD, namespace="issue-7"),
        line("09:50", job_name=BUILD, namespace="issue-7"),
    )
    found = attempt_of_line(told, ran)
    where = {(t.strftime("%H:%M"), n): i for t, n, i in zip(told["ts"], told["namespace"], found, strict=True)}
    assert {k: i for k, i in where.items() if pd.notna(i)} == {
        ("09:10", "issue-7"): 0,
        ("09:10", "codex-k8s-prod"): 1,
        ("09:10", "elsewhere"): 1,  # none is there: the one that was made last
        ("09:21", "issue-7"): 0,
    }


def test_lines_that_name_two_runs_of_one_attempt_tell_neither() -> None:
    told = (_line(run_id="a", job_name=BUILD), line("09:06", run_id="b", job_name=BUILD))
    assert _link(BUILD, *told, runs=(RUN,)) == (RUN, "job_token")
    assert _link(BUILD, *told) == (None, None)


def test_a_line_of_another_attempt_of_that_name_tells_nothing() -> None:
    ran = attempts(attempt("09:00", "09:10", "failed"), attempt("09:30", "09:40"))
    told = _told(line("09:05", run_id="a", job_name=BUILD), line("09:35", run_id="b", job_name=BUILD))
    got = link_runs(ran, told, table("issue_runs"), KINDS)
    assert got["run_id"].tolist() == ["a", "b"]


def test_a_marker_whose_run_does_not_fit_the_name_is_not_believed() -> None:
    assert _link(BUILD, comments=(_comment(STRANGER, BUILD),)) == (None, None)
    assert _link("codex-k8s-codegen-check", comments=(_comment(RUN, "codex-k8s-codegen-check"),)) == (None, None)


def test_linking_adds_nothing_and_takes_no_label_away() -> None:
    got = _linked(AGENT, run_id=RUN, issue=7, linked_by="label", kind="run")
    assert (got["run_id"], got["issue"], got["linked_by"], got["outcome"]) == (RUN, 7, "label", "succeeded")
    assert link_runs(attempts(), _told(), table("issue_runs"), KINDS).empty


# which issue a run is of


def test_a_run_in_several_issues_is_of_its_markers_before_labels_before_lines_before_text() -> None:
    told = lines(_line(run_id=RUN, issue=3))
    ways = [
        _comment(RUN, None, "marker", 1, "12:00"),
        _comment(RUN, None, "label", 2, "11:00"),
        _comment(RUN, None, "text", 4, "10:00"),
    ]
    assert issue_of_run(table("issue_runs", *ways), told) == {RUN: 1}
    assert issue_of_run(table("issue_runs", *ways[1:]), told) == {RUN: 2}
    assert issue_of_run(table("issue_runs", *ways[2:]), told) == {RUN: 3}
    assert issue_of_run(table("issue_runs", *ways[2:]), lines()) == {RUN: 4}
    assert issue_of_run(table("issue_runs"), lines()) == {}


def test_of_two_comments_of_a_kind_the_earlier_tells_the_issue() -> None:
    said = (_comment(RUN, None, issue=7, when="09:00"), _comment(RUN, None, issue=205, when="08:00"))
    assert issue_of_run(table("issue_runs", *said), lines()) == {RUN: 205}


def test_lines_that_give_a_run_two_issues_tell_none() -> None:
    assert issue_of_run(table("issue_runs"), lines(_line(run_id=RUN, issue=1), _line(run_id=RUN, issue=2))) == {}


@pytest.mark.parametrize(("found_by", "issue"), [("marker", 1), ("label", 7), ("text", 7)])
def test_a_jobs_own_label_gives_way_to_a_marker_alone(found_by: str, issue: int) -> None:
    got = _linked(AGENT, comments=(_comment(RUN, None, found_by, 1),), run_id=RUN, issue=7, linked_by="label")
    assert got["issue"] == issue


# which lines are looked at


def _telling(logs: pa.Table, phrases: Sequence[Phrase] = RULES.phrases) -> pa.Table:
    return logs.take(pa.array(Telling(KINDS, phrases).rows(logs)))


def test_of_lines_that_tell_nothing_one_a_minute_job_and_run_is_kept() -> None:
    quiet = {"level": "INFO", "job_name": BUILD}
    told = [
        line("09:00:01", **quiet, line="INFO[0001] unpacking"),
        line("09:00:02", **quiet, line="INFO[0002] unpacking"),
        line("09:01:00", **quiet, line="INFO[0060] unpacking"),
        line("09:01:01", **quiet, line="INFO[0061] taking snapshot failed"),
        line("09:02:00", level="INFO", run_id=RUN, line=f"waiting for {BUILD}"),
        line("09:02:01", level="INFO", run_id=RUN, line=f"waiting for {BUILD}"),
        line("09:02:02", level="INFO", run_id=TWIN, line=f"waiting for {BUILD}"),
        line("09:02:03", level="INFO", line=f"waiting for {BUILD} and {MIRROR}"),
        line("09:03:00", level="INFO", line="request served by codex-k8s-control-plane"),
        line("09:03:01", level="INFO", line="nothing failed", run_id=RUN),
        line("09:04:00", level="WARN", line="slow"),
        line("09:05:00", "manifest-unknown", level="INFO", line="MANIFEST_UNKNOWN"),
        line("09:06:00", level="INFO", line="run failed before agent start"),
        line("09:07:00", level="INFO", job_name=BUILD, line=f"{BUILD} belongs to {RUN}"),
        line("09:07:01", level="INFO", job_name=BUILD, line=f"{BUILD} belongs to {TWIN}"),
        line("09:08:00", level="INFO", run_id=RUN, issue=205, line="accepted"),
        line("09:09:00", level="INFO", run_id=RUN, issue=205, line="accepted"),
    ]
    logs = schemas.from_frame("logs", lines(*told).reindex(columns=schemas.TABLES["logs"].columns))
    kept = _telling(logs)
    assert [t.strftime("%M:%S") for t in kept["ts"].to_pylist()] == [
        "00:01", "01:00", "01:01", "02:00", "02:02", "02:03", "03:01", "04:00", "05:00", "06:00",
        "07:00", "07:01", "08:00",
    ]  # fmt: skip
    assert _telling(logs.slice(0, 0)).num_rows == 0
    assert _telling(logs, ()).num_rows == 12


@given(
    said=st.lists(
        st.tuples(
            st.integers(0, 200),
            st.sampled_from([BUILD, None]),
            st.sampled_from([RUN, TWIN, None]),
            st.sampled_from(["ok", f"see {BUILD}", f"{BUILD} or {MIRROR}", "job failed", f"error of {CHECK}"]),
        )
    ),
    cut=st.integers(0, 10),
)
@settings(max_examples=30, deadline=None)
def test_lines_are_chosen_alike_in_any_order_and_in_parts(
    said: list[tuple[int, str | None, str | None, str]], cut: int
) -> None:
    told = [
        line(at("09:00") + pd.Timedelta(seconds=s), level="INFO", job_name=j, run_id=r, line=text)
        for s, j, r, text in said
    ]
    logs = schemas.from_frame("logs", lines(*told).reindex(columns=schemas.TABLES["logs"].columns))
    whole = _telling(logs)
    backwards = _telling(logs.take(pa.array(range(len(logs) - 1, -1, -1), pa.int64())))
    assert schemas.in_order("logs", backwards).equals(whole)
    parts = [_telling(logs.slice(0, cut)), _telling(logs.slice(cut))]
    assert _telling(pa.concat_tables(parts).combine_chunks()).equals(whole)


@given(st.lists(st.tuples(st.integers(0, 200), st.sampled_from([BUILD, MIRROR, None]), st.sampled_from([RUN, None]))))
@settings(max_examples=10, deadline=None)
def test_what_is_left_out_changes_no_link(said: list[tuple[int, str | None, str | None]]) -> None:
    ran = attempts(attempt("09:00", "09:02", job_name=BUILD), attempt("09:01", "09:03", job_name=MIRROR, kind="mirror"))
    rows = [
        line(at("09:00") + pd.Timedelta(seconds=s), level="INFO", job_name=j, run_id=r, line=f"{s} {j or ''}")
        for s, j, r in said
    ]
    told = _told(*rows)
    logs = schemas.from_frame("logs", told.reindex(columns=schemas.TABLES["logs"].columns))
    kept = schemas.to_frame(_telling(logs))
    fewer = kept.assign(job=job_of_line(kept, [BUILD, MIRROR], KINDS))
    none = table("issue_runs")
    linked, whole = (link_runs(ran, t, none, KINDS, [RUN]) for t in (fewer, told))
    pd.testing.assert_frame_equal(linked, whole)


def test_a_kind_without_a_token_is_linked_by_lines_only() -> None:
    mine = [*KINDS, replace(KINDS[0], kind="lint", pattern="lint-(?P<token>[a-z0-9-]+)", token_length=0)]
    ran = attempts(attempt("09:00", "09:10", job_name="lint-3f2a9c1e-7b4", kind="build"))
    assert link_runs(ran, _told(), table("issue_runs"), mine, [RUN])["run_id"].isna().all()
