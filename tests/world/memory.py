"""A Prometheus in memory: it holds series, and answers the questions of queries/ as the real one does.

It understands the PromQL that the pipeline writes and no more: any other question fails the test that asked it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tests.faults import Answers, Form
from tests.world.metrics import Sample

_SELECTED = re.compile(
    r"(?P<name>\w*)(?:\{(?P<matchers>(?:\"(?:[^\"\\]|\\.)*\"|[^\"}])*)\})?\[(?P<n>\d+)(?P<unit>ms|s)\]"
)
_MATCHER = re.compile(r'(?P<label>\w+)\s*(?P<how>=~|=)\s*(?P<text>"(?:[^"\\]|\\.)*")')
_GROUPED = re.compile(r"group by \((?P<by>[\w, ]+)\) \(")


class _Held(NamedTuple):
    labels: Mapping[str, str]
    at: npt.NDArray[np.int64]
    values: Sequence[float]


class MemoryPrometheus:
    """Series of (labels with `__name__`, samples of (ms, value)); stale markers are dropped, no range shows them."""

    def __init__(self, series: Iterable[tuple[Mapping[str, str], Iterable[Sample]]], *, left_open: bool = True) -> None:
        self.left_open = left_open
        self._named: dict[str, list[_Held]] = {}
        for labels, samples in series:
            there = [(t, v) for t, v in samples if v is not None]
            held = _Held(labels, np.array([t for t, _ in there], np.int64), [v for _, v in there])
            self._named.setdefault(labels["__name__"], []).append(held)

    def door(self) -> Answers:
        """Return a door to it."""
        return Answers(self.answer, "prometheus")

    def answer(self, path: str, form: Form) -> Any:
        """Answer a question."""
        if path == "/api/v1/status/buildinfo":
            return {"status": "success", "data": {"version": "3.0.0" if self.left_open else "2.42.0"}}
        assert path == "/api/v1/query"
        seconds, ms = form["time"].split(".")
        query, at = form["query"], int(seconds) * 1000 + int(ms)
        selected = [list(self._chosen(m, at)) for m in _SELECTED.finditer(query)]
        assert selected, query
        found = [s for of in selected for s in of]
        if "sum(count_over_time(" in query:
            return _vector([({}, sum(len(s.at) for s in found))] if found or "vector(0)" in query else [], at)
        if grouped := _GROUPED.search(query):
            names = grouped["by"].split(", ")
            groups = {tuple((n, s.labels[n]) for n in names if n in s.labels): 1 for s in found}
            of = [(dict(labels), 1) for labels in groups]
            return _vector([({}, len(of))] if query.startswith("count(") and of else of, at)
        if "last_over_time(" in query:
            last = [(s.labels, s.values[-1]) for s in found]
            return _vector([({}, len(last))] if query.startswith("count(") and last else last, at)
        assert _SELECTED.fullmatch(query), query
        result = [
            {"metric": s.labels, "values": [[t / 1000, str(v)] for t, v in zip(s.at.tolist(), s.values, strict=True)]}
            for s in found
        ]
        return {"status": "success", "data": {"resultType": "matrix", "result": result}}

    def _chosen(self, selector: re.Match[str], at: int) -> Iterator[_Held]:
        """Yield what a range selector chooses: closed at its start up to 2.x, left-open from 3.0 on."""
        matchers = [
            (m["label"], re.compile(json.loads(m["text"]) if m["how"] == "=~" else re.escape(json.loads(m["text"]))))
            for m in _MATCHER.finditer(selector["matchers"] or "")
        ]
        if selector["name"]:
            matchers.append(("__name__", re.compile(re.escape(selector["name"]))))
        first = at - int(selector["n"]) * (1000 if selector["unit"] == "s" else 1)
        names = next(wanted for label, wanted in matchers if label == "__name__") if _by_name(matchers) else None
        for name, series in self._named.items():
            if names and not names.fullmatch(name):
                continue
            for s in series:
                if all(wanted.fullmatch(s.labels.get(label, "")) for label, wanted in matchers):
                    low = int(np.searchsorted(s.at, first, "right" if self.left_open else "left"))
                    high = int(np.searchsorted(s.at, at, "right"))
                    if low < high:
                        yield _Held(s.labels, s.at[low:high], s.values[low:high])


def _by_name(matchers: Sequence[tuple[str, re.Pattern[str]]]) -> bool:
    return any(label == "__name__" for label, _ in matchers)


def _vector(rows: Sequence[tuple[Mapping[str, str], float]], at: int) -> dict[str, Any]:
    result = [{"metric": labels, "value": [at / 1000, str(v)]} for labels, v in rows]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}
