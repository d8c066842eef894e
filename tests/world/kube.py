"""What kubectl printed: Jobs and Events as objects, snapshots as somebody took them, logs with their stamps."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

from pipeline.model import NS, instant_text
from tests.world.lines import Line
from tests.world.options import CONTROL_PLANE, NAMESPACE, WORKER, Options, seconds, whole
from tests.world.platform import APP, TTL_S, Attempt, Platform

_MESSAGES = {
    "BackoffLimitExceeded": "Job has reached the specified backoff limit",
    "DeadlineExceeded": "Job was active longer than specified deadline",
}
_EVENT_LIFE = 3600 * NS


def job_object(attempt: Attempt, at: int) -> dict[str, Any]:
    """Return a Job as `kubectl get jobs -o json` shows it at an instant."""
    labels = {"app.kubernetes.io/name": APP[attempt.kind]}
    if attempt.image:
        labels["app.kubernetes.io/component"] = attempt.image
    if attempt.kind == "run" and attempt.run:
        labels |= {"codex-k8s.dev/run-id": attempt.run.run_id, "codex-k8s.dev/project-id": "p-7"}
        labels |= {"codex-k8s.dev/issue-number": str(attempt.run.issue)} if attempt.run.issue else {}
    meta = {"name": attempt.job_name, "namespace": NAMESPACE, "uid": attempt.uid, "labels": labels}
    meta["creationTimestamp"] = instant_text(attempt.created_at)
    spec = {"backoffLimit": 0, "completions": 1, "parallelism": 1, "ttlSecondsAfterFinished": TTL_S[attempt.kind]}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": spec, "status": _status(attempt, at)}


def _status(attempt: Attempt, at: int) -> dict[str, Any]:
    if attempt.begun_at > at:
        return {}
    status: dict[str, Any] = {"startTime": instant_text(attempt.started_at)}
    if attempt.stopped_at is None or attempt.ended_at is None or attempt.stopped_at > at:
        return status | {"active": 1, "ready": 1}
    ended = instant_text(attempt.ended_at)
    if attempt.outcome == "succeeded":
        said = {"reason": "CompletionsReached", "message": "Reached expected number of succeeded pods"}
        conditions = [_condition(kind, ended, said) for kind in ("SuccessCriteriaMet", "Complete")]
        return status | {"completionTime": ended, "succeeded": 1, "conditions": conditions}
    said = {"reason": attempt.reason or "", "message": _MESSAGES[attempt.reason or ""]}
    return status | {"failed": 1, "conditions": [_condition(kind, ended, said) for kind in ("FailureTarget", "Failed")]}


def _condition(kind: str, at: str, said: dict[str, str]) -> dict[str, str]:
    return {"type": kind, "status": "True", "lastProbeTime": at, "lastTransitionTime": at, **said}


def snapshots(options: Options, platform: Platform, every_s: float) -> Iterator[list[dict[str, Any]]]:
    """Yield the Jobs of each moment, but only of moments that show what none before did: a job, or an end of one."""
    known: set[tuple[str, bool]] = set()
    window = options.window
    for at in range(window.start + seconds(every_s), window.end + 1, seconds(every_s)):
        there = [a for a in platform.attempts if a.made_at <= at and (a.gone_at is None or at < a.gone_at)]
        shown = {(a.uid, a.stopped_at is not None and a.stopped_at <= at) for a in there}
        if not shown <= known:
            known |= shown
            yield [job_object(a, at) for a in sorted(there, key=lambda a: a.job_name)]


def events(options: Options, platform: Platform) -> list[dict[str, Any]]:
    """Return every event of the namespace in time order, each at a whole second: of Jobs, and of rollouts."""
    rng = Random(f"{options.seed}:events")
    out = []
    for a in platform.attempts:
        about = ("Job", a.job_name, a.uid)
        out.append(_event(rng, a.begun_at, about, "SuccessfulCreate", f"Created pod: {a.pod}"))
        if a.stopped_at is not None and a.reason:
            out.append(_event(rng, a.stopped_at, about, a.reason, _MESSAGES[a.reason], "Warning"))
            if a.reason == "DeadlineExceeded":
                out.append(_event(rng, a.stopped_at, about, "SuccessfulDelete", f"Deleted pod: {a.pod}"))
        elif a.stopped_at is not None:
            out.append(_event(rng, a.stopped_at, about, "Completed", "Job completed"))
    for s in (s for s in platform.steps if s.what == "rollout"):
        about = ("Deployment", CONTROL_PLANE, str(uuid.UUID(int=options.seed, version=4)))
        text = f"Scaled up replica set {CONTROL_PLANE}-{rng.getrandbits(36):09x} to 1"
        out.append(_event(rng, s.at, about, "ScalingReplicaSet", text))
    return sorted(out, key=lambda e: (str(e["lastTimestamp"]), str(e["metadata"]["name"])))


def _event(
    rng: Random, at: int, about: tuple[str, str, str], reason: str, message: str, kind: str = "Normal"
) -> dict[str, Any]:
    stamp, (what, name, uid) = instant_text(whole(at)), about
    meta = {"name": f"{name}.{rng.getrandbits(64):016x}", "namespace": NAMESPACE, "creationTimestamp": stamp}
    meta["uid"] = str(uuid.UUID(int=rng.getrandbits(128), version=4))
    return {
        "apiVersion": "v1", "kind": "Event", "metadata": meta,
        "involvedObject": {"kind": what, "namespace": NAMESPACE, "name": name, "uid": uid},
        "reason": reason, "message": message, "type": kind, "count": 1,
        "firstTimestamp": stamp, "lastTimestamp": stamp,
        "source": {"component": "deployment-controller" if what == "Deployment" else "job-controller"},
    }  # fmt: skip


def event_pulls(options: Options, found: Sequence[dict[str, Any]], every_s: float) -> Iterator[list[dict[str, Any]]]:
    """Yield what each pull of events got: those of the hour before it, and one that repeats, so that it is the newest.

    Kubernetes keeps a repeated event as one object whose count and last instant move on.
    """
    stamped = [(str(e["lastTimestamp"]), e) for e in found]
    window, rng = options.window, Random(f"{options.seed}:autoscaler")
    about = ("HorizontalPodAutoscaler", "codex-k8s-api-gateway", str(uuid.UUID(int=options.seed + 1, version=4)))
    words = ("FailedGetResourceMetric", "failed to get cpu utilization: no metrics known for pod", "Warning")
    repeated = _event(rng, window.start, about, *words)
    for n, at in enumerate(range(window.start + seconds(every_s), window.end + 1, seconds(every_s)), 1):
        since, until = instant_text(whole(at - _EVENT_LIFE)), instant_text(whole(at))
        newest = {**repeated, "lastTimestamp": until, "count": n * 4}
        yield [*(e for t, e in stamped if since <= t <= until), newest]


def log_files(lines: Sequence[Line], *, pods: bool) -> dict[str, list[Line]]:
    """Return the lines of each `kubectl logs`: of the two deployments, and where wanted of every job's pod."""
    out: dict[str, list[Line]] = {}
    for line in lines:
        if line.app in {CONTROL_PLANE, WORKER}:
            out.setdefault(line.app, []).append(line)
        elif pods and line.app in APP.values():
            named = dict(line.labels) | dict(line.metadata)
            out.setdefault(named["pod"], []).append(line)
    return out


def write_dump(
    folder: Path,
    options: Options,
    platform: Platform,
    lines: Sequence[Line],
    comments: Any,
    every_s: float,
    *,
    pods: bool,
) -> None:
    """Write a dump in the contract's layout; equal worlds write equal bytes."""
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    write_snapshots(folder, options, platform, every_s)
    write_events(folder, options, platform, 3000)
    for name, written in log_files(lines, pods=pods).items():
        text = "".join(f"{_stamp(line.at)} {line.text}\n" for line in written)
        (folder / "logs" / f"{name}.log").write_bytes(text.encode())
    _write(folder / "comments.json", comments)


def write_snapshots(folder: Path, options: Options, platform: Platform, every_s: float) -> None:
    """Write the Jobs as somebody listed them every so often."""
    for n, jobs in enumerate(snapshots(options, platform, every_s), 1):
        _write(folder / f"jobs-{n:03d}.json", {"apiVersion": "v1", "kind": "List", "items": jobs})


def write_events(folder: Path, options: Options, platform: Platform, every_s: float) -> None:
    """Write what pulls of the events got, one every so often."""
    for n, found in enumerate(event_pulls(options, events(options, platform), every_s), 1):
        _write(folder / f"events-{n:02d}.json", {"apiVersion": "v1", "kind": "List", "items": found})


def _write(path: Path, value: Any) -> None:
    path.write_bytes(json.dumps(value, ensure_ascii=False, indent=1).encode() + b"\n")


def _stamp(at: int) -> str:
    """Write an instant as `--timestamps` does: always nine decimals."""
    return f"{instant_text(whole(at))[:-1]}.{at % NS:09d}Z"
