"""Where log lines come from: what labels and structured metadata say, and the columns of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.logfields import encodable, issue
from pipeline.model import Pairs, Run
from pipeline.rules import LabelNames
from pipeline.schemas import MAP

Found = Counter[str]
Cleaner = Callable[[Sequence[str]], dict[int, tuple[str, Found]]]
_Ints = npt.NDArray[np.int64]

_POD_FILE = re.compile(r"/var/log/pods/(?P<namespace>[^_/]+)_(?P<pod>[^_/]+)_[^/]+/(?P<container>[^/]+)/")
_ISSUE_LABELS = ("issue", "issue_number", "codex_k8s_dev_issue_number")
_RUN_LABELS = ("run_id", "codex_k8s_dev_run_id")
_AGENT_NAMES = ("filename", "k8s_namespace_name", "k8s_pod_name", "k8s_container_name", "app_kubernetes_io_name")
_REMEMBERED = 50_000


class Origin(NamedTuple):
    """What labels and metadata say of entries; `stream` is the one writer's."""

    stream: tuple[Pairs, str | None, str | None]
    namespace: str | None
    app: str | None
    pod: str | None
    container: str | None
    run_id: str | None
    job_name: str | None
    issue: int | None


class Whence(NamedTuple):
    """Where the rows of each run come from, without secrets."""

    origins: list[Origin]
    labels: list[Pairs]
    metadata: list[Pairs]


class _Clean(NamedTuple):
    """Labels or metadata without secrets, what was found in them, and those that say where an entry comes from."""

    pairs: Pairs
    found: Found | None
    telling: Pairs


class Origins:
    """Tells where runs come from, and remembers it: streams write again and again, some metadata is never the same."""

    def __init__(self, names: LabelNames, clean: Cleaner, count: Callable[[Found], None]) -> None:
        self._names = names
        self._clean = clean
        self._count = count
        self._telling = {names.pod, names.job_name, *_AGENT_NAMES, *_ISSUE_LABELS, *_RUN_LABELS}
        self._known: dict[Pairs, _Clean] = {}
        self._origins: dict[int, dict[Pairs, Origin]] = {}  # by the identity of known labels, and what metadata tells
        self._counted: set[tuple[Pairs, Pairs]] = set()

    def of(self, runs: Sequence[Run]) -> Whence:
        """Return where each run comes from; what is redacted in its labels and metadata is counted once."""
        if len(self._known) > _REMEMBERED:
            for remembered in (self._known, self._origins, self._counted):
                remembered.clear()
        known, origins = self._known, []
        self._learn(dict.fromkeys([p for run in runs for p in run[:2] if p not in known]))
        labels, metadata = [known[run.labels] for run in runs], [known[run.metadata] for run in runs]
        for run, own, more in zip(runs, labels, metadata, strict=True):
            of_labels = self._origins.setdefault(id(own), {})
            origin = of_labels.get(more.telling)
            if origin is None:
                origin = of_labels[more.telling] = _origin(own.pairs, more.telling, self._names)
            origins.append(origin)
            if (own.found or more.found) and run[:2] not in self._counted:
                self._counted.add(run[:2])
                self._count((own.found or Counter()) + (more.found or Counter()))
        return Whence(origins, [c.pairs for c in labels], [c.pairs for c in metadata])

    def _learn(self, fresh: Collection[Pairs]) -> None:
        """Redact values; a name such as `token` says what its value is, and is kept."""
        if not fresh:
            return
        shown = list(fresh)
        texts = [f"{k}={v}" for pairs in shown for k, v in pairs]
        if not "".join(texts).isascii():
            shown = [tuple([(encodable(k), encodable(v)) for k, v in pairs]) for pairs in shown]
            texts = [f"{k}={v}" for pairs in shown for k, v in pairs]
        changed = self._clean(texts)
        at = 0
        for key, pairs in zip(fresh, shown, strict=True):
            clean, found = _with(changed, at, pairs) if changed else (pairs, None)
            at += len(pairs)
            self._known[key] = _Clean(clean, found, tuple([p for p in clean if p[0] in self._telling]))


def _with(changed: Mapping[int, tuple[str, Found]], at: int, pairs: Pairs) -> tuple[Pairs, Found | None]:
    """Return pairs, the first of which is text number `at`, as they are after redaction, and what was found in them."""
    texts = {i: changed[at + i] for i in range(len(pairs)) if at + i in changed}
    if not texts:
        return pairs, None
    clean = tuple((k, texts[i][0].removeprefix(f"{k}=") if i in texts else v) for i, (k, v) in enumerate(pairs))
    return clean, sum((found for _, found in texts.values()), Counter())


def _origin(label_pairs: Pairs, telling: Pairs, names: LabelNames) -> Origin:
    """Tell where a stream comes from: its labels, else metadata or the path of the log file."""
    labels, metadata = dict(label_pairs), dict(telling)
    file = _POD_FILE.search(labels.get("filename", "") or metadata.get("filename", ""))
    parts = file.groupdict() if file else {}
    pod = labels.get(names.pod) or metadata.get(names.pod) or metadata.get("k8s_pod_name") or parts.get("pod")
    container = labels.get(names.container) or metadata.get("k8s_container_name") or parts.get("container")

    def first(*keys: str) -> str | None:
        return next((v for k in keys if (v := labels.get(k) or metadata.get(k))), None)

    return Origin(
        stream=(label_pairs, pod, container),  # some agents keep the pod in metadata: one stream, several writers
        namespace=labels.get(names.namespace) or metadata.get("k8s_namespace_name") or parts.get("namespace"),
        app=labels.get(names.app) or metadata.get("app_kubernetes_io_name"),
        pod=pod,
        container=container,
        run_id=first(*_RUN_LABELS),
        job_name=first(names.job_name),
        issue=issue(first(*_ISSUE_LABELS)),
    )


def columns(whence: Whence, rows: _Ints) -> dict[str, pa.Array]:
    """Return the columns that origins tell; `rows` is how many rows each run has."""
    of_row = np.repeat(np.arange(len(rows)), rows)
    told = dict(zip(Origin._fields, zip(*whence.origins, strict=True), strict=True))
    out = {}
    for name in ("namespace", "app", "pod", "container", "run_id", "job_name", "issue"):
        values = pa.array(told[name], pa.int64() if name == "issue" else pa.string())
        alike = values.null_count == len(values)
        out[name] = pa.nulls(len(of_row), values.type) if alike else values.take(pa.array(of_row))
    return out | {"labels": _maps(whence.labels, of_row), "metadata": _maps(whence.metadata, of_row)}


def _maps(pairs: Sequence[Pairs], of_row: _Ints) -> pa.Array:
    """Return the maps of rows, each that of its run: names and values are taken from those of the distinct maps."""
    distinct = {id(p): p for p in pairs}  # runs of a stream share one tuple, which `pairs` keeps alive
    numbers = {key: n for n, key in enumerate(distinct)}
    of_row = np.array([numbers[id(p)] for p in pairs])[of_row]
    names = pa.array([k for p in distinct.values() for k, _ in p], pa.string())
    values = pa.array([v for p in distinct.values() for _, v in p], pa.string())
    counts = np.array([len(p) for p in distinct.values()])
    offsets = np.zeros(len(of_row) + 1, np.int64)
    np.cumsum(counts[of_row], out=offsets[1:])
    if len(distinct) < len(of_row):
        which = np.arange(offsets[-1])
        which += np.repeat((np.cumsum(counts) - counts)[of_row] - offsets[:-1], counts[of_row])
        names, values = names.take(pa.array(which)), values.take(pa.array(which))
    return pa.MapArray.from_arrays(pa.array(offsets.astype(np.int32)), names, values, type=MAP)
