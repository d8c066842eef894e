"""What an hour's lines tell, kept beside them: never anything but what its file tells by today's rules."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.lake.store import Store
from pipeline.lake.tables import Tables, cell_of, file_of
from pipeline.loglines import to_logs
from pipeline.model import Entry
from pipeline.redact import Redactor
from pipeline.rules import Catalogue
from pipeline.settings import Settings
from pipeline.steps import told
from pipeline.steps.compute import compute, derive
from pipeline.steps.context import Context
from pipeline.steps.told import Hour, Listener, Told
from pipeline.telling import rules_of
from tests.lives import FAILED, Life, said
from tests.small_lake import RULES, lake, pulled
from tests.tables import DATE, at, line
from tests.world.world import World

WORLD = World.make(seed=7)
HOUR = cell_of("logs", WORLD.lines[len(WORLD.lines) // 2].at)
KEPT = f"_aislot/told_lines/{file_of('logs', HOUR)[5:-8]}.extract"


def logs() -> pa.Table:
    """Return a world's hour, and two lines that a phrase alone, and the name of a kind of job alone, makes tell something."""
    entries = [Entry(x.at, x.text, dict(x.labels), dict(x.metadata)) for x in WORLD.lines if x.at in HOUR]
    alone = "run failed before agent start", "waiting for codex-k8s-mirror-node-22-5be0c1d4"
    entries += [Entry(HOUR.start + 7 * i, text, {"app": "unrelated"}, {}) for i, text in enumerate(alone)]
    redactor = Redactor(RULES.redaction, b"a key of the tests")
    return to_logs(entries, Settings().loki.labels, redactor, RULES.signatures)[0]


LOGS = logs()


def context(folder: Path | str, rules: Catalogue = RULES) -> Context:
    return Context(Settings(), rules, Store(str(folder)), HOUR.end, print)


def written(ctx: Context, rows: pa.Table = LOGS, piece: int = 500) -> Context:
    """Write the hour as a pull does: piece by piece, and what it tells beside it."""
    part, listener = ctx.tables.part("logs", HOUR), Listener(ctx.store, ctx.catalogue, HOUR)
    for i in range(0, rows.num_rows, piece):
        part.add(rows.slice(i, piece))
        listener.add(rows.slice(i, piece))
    listener.close(part.close())
    return ctx


def heard(ctx: Context, *, keep: bool = False) -> Hour:
    of = Told(ctx, keep=keep)
    return Hour(of.lines(HOUR), of.pods(HOUR), of.runs(HOUR))


def by_reading(ctx: Context) -> Hour:
    """Return what the hour's file tells, where nothing was kept of it."""
    bare = context(f"memory://bare-{id(ctx)}", ctx.catalogue)
    data = ctx.store.read(file_of("logs", HOUR))
    assert data
    bare.store.write(file_of("logs", HOUR), data)
    return heard(bare)


def test_there_is_something_to_hear() -> None:
    assert LOGS.num_rows > 400
    hour = heard(written(context("memory://something")))
    assert 10 < hour.lines.num_rows < LOGS.num_rows
    assert hour.runs
    pods = [(r["job_name"], r["pod"], r["container"]) for r in LOGS.to_pylist() if r["job_name"]]
    assert hour.pods.num_rows == len(set(pods)) > 1


@pytest.mark.parametrize("piece", [1, 70, 1000])
def test_what_a_pull_keeps_is_what_its_file_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    monkeypatch.setattr(told, "_AT_ONCE", 90)
    ctx = written(context(tmp_path), LOGS, piece)
    expected = by_reading(ctx)
    monkeypatch.setattr(Tables, "chosen", None)
    assert heard(ctx) == expected


def test_what_no_pull_kept_is_kept_by_the_first_that_computes_and_by_none_that_only_reads(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    ctx.tables.replace("logs", HOUR, LOGS)
    expected = heard(ctx)
    assert ctx.store.read(KEPT) is None
    assert heard(ctx, keep=True) == expected
    kept = ctx.store.read(KEPT)
    assert kept is not None
    assert heard(ctx, keep=True) == expected
    assert ctx.store.read(KEPT) == kept


def _deleted(ctx: Context) -> Context:
    ctx.store.remove(KEPT)
    return ctx


def _changed(ctx: Context) -> Context:
    ctx.tables.replace("logs", HOUR, LOGS.slice(0, LOGS.num_rows // 2))
    return ctx


def _killed_in_between(ctx: Context) -> Context:
    """Publish another file, and never come to what it tells."""
    part = ctx.tables.part("logs", HOUR)
    part.add(LOGS.slice(LOGS.num_rows // 2))
    part.close()
    return ctx


def _other_kinds(ctx: Context) -> Context:
    kinds = [dataclasses.replace(k, pattern=k.pattern.replace("codex", "other")) for k in RULES.job_kinds]
    return context(ctx.store.root, dataclasses.replace(RULES, job_kinds=kinds))


def _no_phrases(ctx: Context) -> Context:
    return context(ctx.store.root, dataclasses.replace(RULES, phrases=()))


@pytest.mark.parametrize("change", [_deleted, _changed, _killed_in_between, _other_kinds, _no_phrases])
def test_what_does_not_fit_any_more_is_made_anew(tmp_path: Path, change: Callable[[Context], Context]) -> None:
    before = heard(written(context(tmp_path)))
    ctx = change(context(tmp_path))
    expected = by_reading(ctx)
    assert (expected == before) == (change is _deleted)
    assert heard(ctx, keep=True) == expected
    with pytest.MonkeyPatch.context() as m:
        m.setattr(Tables, "chosen", None)
        assert heard(ctx) == expected


def test_other_ways_to_choose_are_other_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = written(context("memory://ways"))
    kept = told.extracts(ctx.store)
    content = kept.content(HOUR)
    assert content
    rules = rules_of(RULES.job_kinds, RULES.phrases)
    assert kept.read(HOUR, content, rules)
    monkeypatch.setattr("pipeline.telling._VERSION", 0)
    assert rules_of(RULES.job_kinds, RULES.phrases) != rules


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Context:
    return written(context(tmp_path_factory.mktemp("damaged")))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 7), st.booleans())
def test_a_damaged_or_cut_off_extract_is_as_good_as_none(damaged: Context, at: int, bit: int, cut: bool) -> None:
    kept, store = told.extracts(damaged.store), damaged.store
    whole, content = store.read(KEPT), kept.content(HOUR)
    assert whole
    assert content
    rules, place = rules_of(RULES.job_kinds, RULES.phrases), at % len(whole)
    flipped = bytes([whole[place] ^ 1 << bit])
    store.write(KEPT, whole[:place] if cut else whole[:place] + flipped + whole[place + 1 :])
    assert kept.read(HOUR, content, rules) is None
    store.write(KEPT, whole)
    assert kept.read(HOUR, content, rules) is not None


def test_a_day_is_computed_alike_whatever_was_kept_of_it(tmp_path: Path) -> None:
    lives = [Life("09:00:30", "09:05:10", "failed", gone="09:30:00", uid="a")]
    lines = [said("09:05:11", FAILED), line("10:00", level="INFO", line="request served")]
    ctx = pulled(lake(tmp_path), lives, lines)
    compute(ctx, DATE)
    first = {n: ctx.store.read(n) for n in ctx.store.names("")}
    kept = ctx.store.names("_aislot/told_lines")
    assert [n.rpartition("/")[2] for n in kept] == ["09.extract", "10.extract"]
    for name, data in zip(kept, (b"", b"no extract\n"), strict=True):
        ctx.store.write(name, data)
    assert derive(ctx, DATE).failures["first_line_at"].tolist() == [at("09:05:11")]
    compute(ctx, DATE)
    assert {n: ctx.store.read(n) for n in ctx.store.names("")} == first
