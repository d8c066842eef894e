"""Where log lines come from: what labels and structured metadata say, and the columns of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.logfields import encodable, issue
from pipeline.model import Pairs, Run
from pipeline.rules import LabelNames
from pipeline.schemas import MAP

Found = Counter[str]
Clean = Callable[[Sequence[str]], dict[int, tuple[str, Found]]]

_Ints = npt.NDArray[np.int32]

_POD_FILE = re.compile(r"/var/log/pods/(?P<namespace>[^_/]+)_(?P<pod>[^_/]+)_[^/]+/(?P<container>[^/]+)/")
_ISSUE_LABELS = ("issue", "issue_number", "codex_k8s_dev_issue_number")
_RUN_LABELS = ("run_id", "codex_k8s_dev_run_id")
_REMEMBERED = 50_000
_NO_FOUND: Found = Counter()


class Spelled(NamedTuple):
    """Labels or metadata without secrets, what was found in them, and all names and all values as a column has them."""

    pairs: Pairs
    found: Found
    texts: tuple[bytes, bytes]
    sizes: tuple[list[int], list[int]]


class Origin(NamedTuple):
    """Where entries come from and what that says of them, without secrets; `stream` is the one writer's."""

    stream: tuple[Pairs, str | None, str | None]
    labels: Spelled
    metadata: Spelled
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
        self._pairs: dict[Pairs, Spelled] = {}
        self._known: dict[tuple[Pairs, Pairs], Origin] = {}

    def of(self, runs: Sequence[Run]) -> list[Origin]:
        """Return the origin of each run; what is redacted in one is counted the first time."""
        if len(self._known) > _REMEMBERED:
            self._known.clear()
            self._pairs.clear()
        keys = [(run.labels, run.metadata) for run in runs]
        known = list(map(self._known.get, keys))
        if fresh := {key: None for key, origin in zip(keys, known, strict=True) if origin is None}:
            self._clean_pairs([p for p in dict.fromkeys(p for key in fresh for p in key) if p not in self._pairs])
            for key in fresh:
                labels, metadata = self._pairs[key[0]], self._pairs[key[1]]
                self._count(labels.found)
                self._count(metadata.found)
                self._known[key] = _origin(labels, metadata, self._names)
        return [origin or self._known[key] for key, origin in zip(keys, known, strict=True)]

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
            self._pairs[before] = _spelled(clean, found)
            at += len(pairs)


def _spelled(pairs: Pairs, found: Found) -> Spelled:
    names, values = [k.encode() for k, _ in pairs], [v.encode() for _, v in pairs]
    return Spelled(
        pairs, found, (b"".join(names), b"".join(values)), ([len(name) for name in names], [len(v) for v in values])
    )


def _origin(label_set: Spelled, metadata_set: Spelled, names: LabelNames) -> Origin:
    """Tell where a stream comes from: its labels, else metadata or the path of the log file."""
    labels, metadata = dict(label_set.pairs), dict(metadata_set.pairs)
    file = _POD_FILE.search(labels.get("filename", "") or metadata.get("filename", ""))
    parts = file.groupdict() if file else {}
    pod = labels.get(names.pod) or metadata.get(names.pod) or metadata.get("k8s_pod_name") or parts.get("pod")
    container = labels.get(names.container) or metadata.get("k8s_container_name") or parts.get("container")

    def first(*keys: str) -> str | None:
        return next((v for k in keys if (v := labels.get(k) or metadata.get(k))), None)

    return Origin(
        stream=(label_set.pairs, pod, container),  # some agents keep the pod in metadata: one stream, several writers
        labels=label_set,
        metadata=metadata_set,
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
    of_row = np.repeat(np.arange(len(origins), dtype=np.int32), rows)
    which = pa.array(of_row)
    told = {
        "namespace": [o.namespace for o in origins],
        "app": [o.app for o in origins],
        "pod": [o.pod for o in origins],
        "container": [o.container for o in origins],
        "run_id": [o.run_id for o in origins],
        "job_name": [o.job_name for o in origins],
    }
    out = {c: _taken(pa.array(values, pa.string()), which) for c, values in told.items()}
    out["issue"] = _taken(pa.array([o.issue for o in origins], pa.int64()), which)
    out["labels"] = _maps([o.labels for o in origins], rows.tolist(), of_row)
    out["metadata"] = _maps([o.metadata for o in origins], rows.tolist(), of_row)
    return out


def _taken(values: pa.Array, which: pa.Array) -> pa.Array:
    return pa.nulls(len(which), values.type) if values.null_count == len(values) else values.take(which)


def _maps(sets: Sequence[Spelled], rows: Sequence[int], of_row: _Ints) -> pa.Array:
    """Return the maps of runs as a column: the rows of a run, which lie together, repeat its names and values."""
    counts = np.array([len(s.pairs) for s in sets], np.int32)
    there = np.arange(max(1, counts.max())) < counts[:, None]  # which places of the longest set each set has
    texts = []
    for side in (0, 1):
        data = b"".join([s.texts[side] * times for s, times in zip(sets, rows, strict=True)])
        offsets = _text_offsets(list(chain.from_iterable([s.sizes[side] for s in sets])), there, of_row)
        texts.append(pa.StringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(data)))
    return pa.MapArray.from_arrays(pa.array(_offsets(counts[of_row])), *texts, type=MAP)


def _text_offsets(sizes: Sequence[int], there: npt.NDArray[np.bool_], of_row: _Ints) -> _Ints:
    """Return where texts end that lie row by row, each row those of its set; `sizes` are those of all sets."""
    lengths = np.zeros(there.shape, np.int32)
    lengths[there] = sizes
    ends = np.cumsum(lengths, axis=1, dtype=np.int32)
    of_rows = _offsets(ends[:, -1][of_row])[:-1, None] + ends.take(of_row, axis=0)
    flat = of_rows.ravel() if there.all() else of_rows[there.take(of_row, axis=0)]
    return np.concatenate([np.zeros(1, np.int32), flat])


def _offsets(lengths: _Ints) -> _Ints:
    out = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, dtype=np.int32, out=out[1:])
    return out
