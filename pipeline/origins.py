"""Where log lines come from: what labels and structured metadata say, and the columns of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.logfields import encodable, issue
from pipeline.model import Pairs, Run
from pipeline.rules import LabelNames
from pipeline.schemas import MAP

Found = Counter[str]
Clean = Callable[[Sequence[str]], dict[int, tuple[str, Found]]]

_POD_FILE = re.compile(r"/var/log/pods/(?P<namespace>[^_/]+)_(?P<pod>[^_/]+)_[^/]+/(?P<container>[^/]+)/")
_ISSUE_LABELS = ("issue", "issue_number", "codex_k8s_dev_issue_number")
_RUN_LABELS = ("run_id", "codex_k8s_dev_run_id")
_REMEMBERED = 50_000
_NO_FOUND: Found = Counter()


class Origin(NamedTuple):
    """Where entries come from and what that says of them, without secrets; `stream` is the one writer's."""

    stream: tuple[Pairs, str | None, str | None]
    labels: Pairs
    metadata: Pairs
    namespace: str | None
    app: str | None
    pod: str | None
    container: str | None
    run_id: str | None
    job_name: str | None
    issue: int | None


class Origins:
    """Tells the origin of runs, and remembers it: streams write again and again, and some metadata is never the same."""

    def __init__(self, names: LabelNames, clean: Clean, count: Callable[[Found], None]) -> None:
        self._names = names
        self._clean = clean
        self._count = count
        self._pairs: dict[Pairs, tuple[Pairs, Found]] = {(): ((), _NO_FOUND)}
        self._known: dict[tuple[Pairs, Pairs], Origin] = {}

    def of(self, runs: Sequence[Run]) -> list[Origin]:
        """Return the origin of each run; what is redacted in one is counted the first time."""
        if len(self._known) > _REMEMBERED:
            self._known.clear()
            self._pairs = {(): ((), _NO_FOUND)}
        keys = [(run.labels, run.metadata) for run in runs]
        fresh = [key for key in dict.fromkeys(keys) if key not in self._known]
        self._clean_pairs([p for p in dict.fromkeys(p for key in fresh for p in key) if p not in self._pairs])
        for key in fresh:
            (labels, one), (metadata, other) = self._pairs[key[0]], self._pairs[key[1]]
            self._count(one)
            self._count(other)
            self._known[key] = origin(labels, metadata, self._names)
        return [self._known[key] for key in keys]

    def _clean_pairs(self, fresh: Sequence[Pairs]) -> None:
        """Redact values; a name such as `token` says what its value is, and is kept."""
        shown = [tuple((encodable(k), encodable(v)) for k, v in pairs) for pairs in fresh]
        changed = self._clean([f"{k}={v}" for pairs in shown for k, v in pairs])
        at = 0
        for before, pairs in zip(fresh, shown, strict=True):
            found: Found = _NO_FOUND
            clean = pairs
            if changed and any(i in changed for i in range(at, at + len(pairs))):
                texts = [changed.get(at + i, (f"{k}={v}", _NO_FOUND)) for i, (k, v) in enumerate(pairs)]
                clean = tuple((k, t.removeprefix(f"{k}=")) for (k, _), (t, _) in zip(pairs, texts, strict=True))
                found = sum((f for _, f in texts), Counter())
            self._pairs[before] = (clean, found)
            at += len(pairs)


def origin(label_pairs: Pairs, metadata_pairs: Pairs, names: LabelNames) -> Origin:
    """Tell where a stream comes from: its labels, else metadata or the path of the log file."""
    labels, metadata = dict(label_pairs), dict(metadata_pairs)
    file = _POD_FILE.search(labels.get("filename", "") or metadata.get("filename", ""))
    parts = file.groupdict() if file else {}
    pod = labels.get(names.pod) or metadata.get(names.pod) or metadata.get("k8s_pod_name") or parts.get("pod")
    container = labels.get(names.container) or metadata.get("k8s_container_name") or parts.get("container")

    def first(*keys: str) -> str | None:
        return next((v for k in keys if (v := labels.get(k) or metadata.get(k))), None)

    return Origin(
        stream=(label_pairs, pod, container),  # some agents keep the pod in metadata: one stream, several writers
        labels=label_pairs,
        metadata=metadata_pairs,
        namespace=labels.get(names.namespace) or metadata.get("k8s_namespace_name") or parts.get("namespace"),
        app=labels.get(names.app) or metadata.get("app_kubernetes_io_name"),
        pod=pod,
        container=container,
        run_id=first(*_RUN_LABELS),
        job_name=first(names.job_name),
        issue=issue(first(*_ISSUE_LABELS)),
    )


def columns(origins: Sequence[Origin], rows: npt.NDArray[np.int64]) -> dict[str, pa.Array]:
    """Return the columns that origins tell; `rows` is how many rows each of them has."""
    which = pa.array(np.repeat(np.arange(len(origins), dtype=np.int32), rows))
    out: dict[str, Any] = {
        c: pa.array([getattr(o, c) for o in origins], pa.int64() if c == "issue" else pa.string()).take(which)
        for c in ("namespace", "app", "pod", "container", "run_id", "job_name", "issue")
    }
    out["labels"] = _maps([o.labels for o in origins], rows)
    out["metadata"] = _maps([o.metadata for o in origins], rows)
    return out


def _maps(pairs: Sequence[Pairs], rows: npt.NDArray[np.int64]) -> pa.Array:
    """Return the maps of runs as a column: keys and values are taken from those of the distinct ones."""
    numbers: dict[int, int] = {}  # by identity: the runs of a stream share one tuple, which `pairs` keeps alive
    sets: list[Pairs] = []
    of_run = []
    for p in pairs:
        number = numbers.setdefault(id(p), len(sets))
        if number == len(sets):
            sets.append(p)
        of_run.append(number)
    flat = [pair for p in sets for pair in p]
    keys, values = pa.array([k for k, _ in flat], pa.string()), pa.array([v for _, v in flat], pa.string())
    lengths = np.array([len(p) for p in sets], np.int64)
    of_row = np.repeat(np.array(of_run, np.int64), rows)
    ends = np.cumsum(lengths[of_row])
    offsets = np.concatenate([[0], ends]).astype(np.int32)
    starts = np.cumsum(lengths) - lengths
    which = np.arange(offsets[-1], dtype=np.int64)
    which += np.repeat(starts[of_row] - offsets[:-1], lengths[of_row])
    taken = pa.array(which)
    return pa.MapArray.from_arrays(pa.array(offsets), keys.take(taken), values.take(taken), type=MAP)
