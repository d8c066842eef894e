"""What must hold of any lives that jobs may lead: scrapes, events and lines against what was really done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.signals.attempts import upsert
from tests.lives import FAILED, JOB, RETRY, Life, events, every, put_together, rows, said, samples, scraped, snapshots
from tests.tables import at, lines

OTHER = "codex-k8s-mirror-node-22-5be0c1d4"


@st.composite
def some_lives(draw: st.DrawFn) -> tuple[list[Life], list[pd.Timestamp]]:
    """Make lives of two names, retried at once or made again later, and the scrapes of an hour and a half with a hole."""
    lives: list[Life] = []
    for name in (JOB, OTHER):
        clock = draw(st.integers(0, 600))
        for _ in range(draw(st.integers(0, 3))):
            ended = clock + draw(st.integers(3, 400))
            outcome = draw(st.sampled_from(["succeeded", "failed", "failed", "deleted"]))
            retried = outcome == "failed" and draw(st.booleans())
            gone = ended + (2 if retried else 0 if outcome == "deleted" else draw(st.integers(2, 600)))
            end = _second(ended) if outcome != "deleted" else None
            lives.append(Life(_second(clock), end, outcome, _second(gone), name, uid=f"u{len(lives)}"))
            clock = gone + draw(st.integers(0, 2) if retried else st.integers(120, 600))
    interval, hole = draw(st.sampled_from([30, 60])), draw(st.integers(0, 5400))
    scraped = every(interval, _second(draw(st.integers(0, 59))), _second(5400))
    return lives, [t for t in scraped if not _second(hole) <= t < _second(hole + 600)]


def _second(n: int) -> pd.Timestamp:
    return at("09:00") + pd.Timedelta(seconds=n)


def _lines_of(lives: Sequence[Life]) -> pd.DataFrame:
    """Return what the control-plane says of each failure, as it sees it within a second and a half, in several lines."""
    told = []
    for life in lives:
        if life.end is not None and life.outcome == "failed":
            retried = life.until == life.end + pd.Timedelta(seconds=2)
            seen = life.end + pd.Timedelta(seconds=1.4)
            told += [said(seen, RETRY, life.job)] if retried else []
            told += [said(seen, FAILED, life.job), said(seen + pd.Timedelta(seconds=0.2), FAILED, life.job)]
    return lines(*told)


def _by_key(found: pd.DataFrame) -> dict[Any, dict[str, Any]]:
    keyed = {(r["job_name"], r["created_at"]): r for r in rows(found)}
    assert len(keyed) == len(found)
    return keyed


few = settings(max_examples=8, deadline=None)


@few
@given(some_lives())
def test_scrapes_find_no_attempt_that_was_not_and_no_end_that_was_another(
    made: tuple[list[Life], list[pd.Timestamp]],
) -> None:
    lives, when = made
    truth = {(x.job, x.start): x for x in lives}
    for key, got in _by_key(scraped(*lives, when=when)).items():
        life = truth[key]
        if got["outcome"] in {"succeeded", "failed"}:
            assert got["outcome"] == life.outcome
            assert life.end is not None
            assert 0 <= (got["ended_at"] - life.end).total_seconds() <= got["end_uncertainty_s"]


@few
@given(some_lives())
def test_with_events_there_is_one_attempt_a_life_with_its_outcome(made: tuple[list[Life], list[pd.Timestamp]]) -> None:
    lives, when = made
    found = scraped(*lives, when=when, told=events(lives)).sort_values("uid")
    assert found["uid"].tolist() == sorted(x.uid for x in lives)
    for got, life in zip(rows(found), sorted(lives, key=lambda x: x.uid), strict=True):
        assert got["created_at"] == life.start
        if life.end is not None:
            assert (got["outcome"], got["ended_at"]) == (life.outcome, life.end)
        else:
            assert got["outcome"] in {"running", "superseded", "vanished"}


@few
@given(some_lives())
def test_with_lines_every_failure_is_found_once(made: tuple[list[Life], list[pd.Timestamp]]) -> None:
    lives, when = made
    found = scraped(*lives, when=when, logged=_lines_of(lives))
    failed = sorted((x.job, x.end) for x in lives if x.outcome == "failed" and x.end is not None)
    got = sorted(
        (r["job_name"], r["ended_at"], r["end_uncertainty_s"]) for r in rows(found[found["outcome"] == "failed"])
    )
    assert [j for j, _ in failed] == [j for j, _, _ in got]
    for (_, end), (_, said_at, unsure) in zip(failed, got, strict=True):
        assert 0 <= (said_at - end).total_seconds() <= (1.4 if pd.isna(unsure) else unsure)


@few
@given(some_lives(), st.integers(0, 99))
def test_the_order_of_evidence_changes_nothing(made: tuple[list[Life], list[pd.Timestamp]], seed: int) -> None:
    lives, when = made
    frames = [samples(lives, when), snapshots(lives, "09:20", "10:00"), events(lives), _lines_of(lives)]
    mixed = [f.sample(frac=1, random_state=seed).reset_index(drop=True) for f in frames]
    plain = put_together(frames[0], when, *frames[1:])
    pd.testing.assert_frame_equal(put_together(mixed[0], when, *mixed[1:]), plain)


@few
@given(some_lives(), st.integers(600, 4800))
def test_what_was_written_with_less_known_changes_nothing_once_all_is_known(
    made: tuple[list[Life], list[pd.Timestamp]], cut: int
) -> None:
    lives, when = made
    frames = [samples(lives, when), events(lives), _lines_of(lives)]
    early = [f[f["ts"] < _second(cut)].reset_index(drop=True) for f in frames]
    before = put_together(early[0], [t for t in when if t < _second(cut)], None, *early[1:])
    whole = put_together(frames[0], when, None, *frames[1:])
    pd.testing.assert_frame_equal(upsert(before, whole), whole)
    pd.testing.assert_frame_equal(upsert(whole, whole), whole)
    for got in rows(upsert(whole, before)):
        assert got["outcome"] == _by_key(whole)[got["job_name"], got["created_at"]]["outcome"]
