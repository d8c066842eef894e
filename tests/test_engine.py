"""Where work runs: units by name, results as they are done, and an error that stops what has not begun."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future

import pytest

from pipeline import engine
from pipeline.errors import UsageError


class ByHand(Executor):
    """An engine that ends the units whose outcome a test gives, and begins no other."""

    def __init__(self, outcomes: Mapping[int, object]) -> None:
        self.outcomes = outcomes
        self.futures: list[Future[object]] = []

    def submit(self, *_: object, **__: object) -> Future[object]:  # type: ignore[override]
        outcome, future = self.outcomes.get(len(self.futures)), Future[object]()
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        elif outcome is not None:
            future.set_result(outcome)
        self.futures.append(future)
        return future


def test_each_unit_is_worked_on_once_with_its_own_arguments() -> None:
    with engine.start("local", 3) as workers:
        assert sorted(engine.each(workers, pow, [(n, 2) for n in range(20)])) == [n * n for n in range(20)]


def test_no_unit_is_no_result() -> None:
    with engine.start("local", 1) as workers:
        assert list(engine.each(workers, pow, [])) == []


def test_results_come_as_they_are_done() -> None:
    late = threading.Event()

    def work(*, last: bool) -> bool:
        if last:
            assert late.wait(10)
        return last

    with engine.start("local", 2) as workers:
        results = engine.each(workers, lambda last: work(last=last), [(True,), (False,)])
        assert next(results) is False
        late.set()
        assert next(results) is True


@pytest.mark.parametrize("workers", [-1, 0, 1])
def test_there_is_always_one_worker(workers: int) -> None:
    with engine.start("local", workers) as pool:
        assert list(engine.each(pool, abs, [(-1,)])) == [1]


def test_an_error_reaches_the_caller_and_cancels_what_has_not_begun() -> None:
    workers = ByHand({1: ZeroDivisionError()})
    with pytest.raises(ZeroDivisionError):
        next(engine.each(workers, abs, [(1,), (2,), (3,)]))
    assert [f.cancelled() for f in workers.futures] == [True, False, True]


def test_a_caller_that_stops_early_cancels_the_rest() -> None:
    workers = ByHand({0: 1})
    for result in engine.each(workers, abs, [(1,), (2,)]):
        assert result == 1
        break
    gc.collect()
    assert workers.futures[1].cancelled()


@pytest.mark.parametrize("act", [engine.check, lambda kind: engine.start(kind, 1)], ids=["check", "start"])
def test_an_engine_that_does_not_exist_is_refused_before_anything_is_done(act: Callable[[str], object]) -> None:
    with pytest.raises(UsageError, match=r"engine\.kind 'spark' is not known") as told:
        act("spark")
    assert "local" in told.value.fix
