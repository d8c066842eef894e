"""When pods ended, from kube-state-metrics: the nearest that Prometheus comes to the end of a Job that failed.

A pod's completion never changes once it is there, so the last sample of each series says all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from pipeline.model import NS
from pipeline.sources import rows
from pipeline.sources.prometheus import Series

_JOB_LABELS = ("label_batch_kubernetes_io_job_name", "label_job_name")
_UID_LABELS = ("label_batch_kubernetes_io_controller_uid", "label_controller_uid")
_LATEST_S = 2**63 / NS  # what a table can hold, and no NaN
_Pod = tuple[str, str]


def pod_ends(found: Iterable[Series], namespaces: Sequence[str]) -> pa.Table:
    """Turn series of `kube_pod_completion_time`, `kube_pod_owner`, `kube_pod_labels` into `pod_ends`.

    A pod's job is its owner, else what its labels name; a pod of which neither tells a job, nor the uid of one, is none
    of a job's.
    """
    whole = re.compile("|".join(f"(?:{n})" for n in namespaces))
    ended: dict[_Pod, tuple[Mapping[str, str], float]] = {}
    jobs: dict[_Pod, str] = {}
    owners: dict[_Pod, str] = {}
    uids: dict[_Pod, str] = {}
    for s in found:
        pod = (_own(s.labels, "namespace"), _own(s.labels, "uid") or _own(s.labels, "pod"))
        if not whole.fullmatch(pod[0]) or not len(s.at):
            continue
        name = s.labels.get("__name__", "")
        if name == "kube_pod_completion_time":
            ended[pod] = (s.labels, float(s.values[-1]))
        elif name == "kube_pod_owner" and s.labels.get("owner_kind") == "Job":
            owners[pod] = s.labels.get("owner_name", "")
        elif name == "kube_pod_labels":
            jobs[pod] = next((v for k in _JOB_LABELS if (v := s.labels.get(k))), "")
            uids[pod] = next((v for k in _UID_LABELS if (v := s.labels.get(k))), "")
    out: list[dict[str, Any]] = []
    for pod, (labels, seconds) in sorted(ended.items()):
        job, uid = owners.get(pod) or jobs.get(pod), uids.get(pod)
        if (job or uid) and 0 <= seconds < _LATEST_S:
            out.append(
                {"completed_at": round(seconds) * NS, "namespace": pod[0], "pod": _own(labels, "pod")}
                | {"job_name": job or None, "job_uid": uid or None}
            )
    return rows.table("pod_ends", out)


def _own(labels: Mapping[str, str], name: str) -> str:
    """Return a label as kube-state-metrics wrote it, also where the target's own label of that name pushed it aside."""
    return labels.get(f"exported_{name}") or labels.get(name, "")
