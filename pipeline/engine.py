"""Where work runs: an object with the `concurrent.futures.Executor` interface.

Units of work are module-level functions with plain, picklable arguments, so that another engine needs no other code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed
from typing import Any, TypeVar

from pipeline.errors import UsageError

T = TypeVar("T")


def check(kind: str) -> None:
    """Refuse an engine that does not exist, before anything is done. Raises UsageError."""
    if kind != "local":
        raise UsageError(f"engine.kind {kind!r} is not known", "set engine.kind to local")


def start(kind: str, workers: int) -> Executor:
    """Return the engine that the settings ask for; used as a context manager. Raises UsageError."""
    check(kind)
    return ThreadPoolExecutor(max_workers=max(1, workers), thread_name_prefix="aislot")


def each(engine: Executor, work: Callable[..., T], units: Iterable[tuple[Any, ...]]) -> Iterator[T]:
    """Run `work(*unit)` for each unit, yield results as they are done; an error cancels what has not begun."""
    futures = [engine.submit(work, *unit) for unit in units]
    try:
        for future in as_completed(futures):
            yield future.result()
    finally:
        for future in futures:
            future.cancel()
