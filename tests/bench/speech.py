"""What a benchmark's platform writes: services that have little to say, jobs' pods, and who says that a job failed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from random import Random
from typing import NamedTuple

from pipeline.model import NS, Pairs, Window, instant_text
from tests.bench.platform import BUILD_REF, CACHE, MIRROR, Job

NAMESPACE = "codex-k8s-prod"
_APPS = {"build": "codex-k8s-kaniko", "mirror": "codex-k8s-image-mirror", "codegen-check": "codex-k8s-codegen-check"}
_WAITED = {"build": "kaniko", "mirror": "image mirror", "codegen-check": "codegen-check"}
# of all lines: those of the pods, of who waits for the jobs and of who holds the runs; the rest is of services
SHARES = {"pod": 0.25, "poll": 0.15, "heartbeat": 0.15}
_SERVICES = ("gateway", "gateway", "tick", "idle")
_REGISTRY = f"https://registry.{NAMESPACE}.svc:5000/v2/codex-k8s"
_POD = {
    "build": (
        "INFO[{n:04d}] Taking snapshot of files for step {n} of image {image}, {n} files hashed in {n}ms",
        "INFO[{n:04d}] Unpacking rootfs as cmd COPY services/{image}/go.mod services/{image}/go.sum ./ requires it.",
        "INFO[{n:04d}] RUN CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o /out/{image} ./services/{image}/cmd",
    ),
    "mirror": ("2026/02/26 existing blob: sha256:{n:064x}",),
    "codegen-check": ("+ protoc --go_out=. --go-grpc_out=. proto/codexk8s/v1/part_{n}.proto",),
}


class Said(NamedTuple):
    """A line and its stream: labels and structured metadata."""

    at: int
    text: str
    labels: Pairs
    metadata: Pairs


def quiet(texts: Sequence[str], at: Sequence[int], what: str, whose: Sequence[Job]) -> Iterator[Said]:
    """Yield lines of one sort at these instants, which `texts` has as RFC 3339, each about a job that is alive then."""
    for n, (text, t, job) in enumerate(zip(texts, at, whose, strict=True)):
        if what == "pod":
            forms = _POD[job.kind]
            yield Said(t, forms[n % len(forms)].format(n=t // NS % 10_000, image=job.image), pod(job), ())
        elif what == "poll":
            named = f'"run_id":"{job.run}","job_name":"{job.name}",' if job.field else f'"job_name":"{job.name}",'
            more = f'"slot_no":"{n % 12}","source":"services/control-plane/internal/runtime/wait.go:118"'
            msg = "job is still running, asking again in two seconds"
            yield Said(t, _json(text, "INFO", msg, f'{named}"stage":"{job.kind}",{more}'), _CONTROL_PLANE, ())
        else:
            worker = n % 2
            more = f'"worker_id":"worker-{worker}","lease_owner":"worker-{worker}/{n % 12}","slot_no":"{n % 12}"'
            more += ',"source":"services/worker/internal/lease/keep.go:77"'
            msg = "lease of the run kept for another thirty seconds"
            yield Said(t, _json(text, "INFO", msg, f'"run_id":"{job.run}",{more}'), *_WORKERS[worker])


def services(texts: Sequence[str], at: Sequence[int]) -> Iterator[Said]:
    """Yield lines that are about no job and no run."""
    for n, (text, t) in enumerate(zip(texts, at, strict=True)):
        what = _SERVICES[n % len(_SERVICES)]
        if what == "gateway":
            said = f'time={text}Z level=info msg="request served" method=GET path=/api/v1/runs/{t % 99_991} status=200'
            client = f"client=10.42.{n % 7}.{n % 251} agent=codex-console/2.14"
            yield Said(t, f"{said} bytes={t % 9973} took={t % 40}.{t % 997:03d}ms {client}", _GATEWAY, ())
        elif what == "tick":
            more = f'"queue":{n % 4},"runs":{n % 7},"source":"services/control-plane/internal/reconcile/loop.go:52"'
            yield Said(
                t, _json(text, "DEBUG", "reconcile tick, nothing to change in any slot", more), _CONTROL_PLANE, ()
            )
        else:
            more = f'"worker_id":"worker-{n % 2}","waited_ms":{t % 5000},"source":"scheduler"'
            yield Said(t, _json(text, "INFO", "no run to claim, asking again in two seconds", more), *_WORKERS[n % 2])


def about(jobs: Sequence[Job], window: Window, seed: int) -> Iterator[Said]:
    """Yield what is said as jobs are made and end, once by each who says it: lines of a window, in no order."""
    rng = Random(seed)
    return (line for job in jobs for line in _of_life(rng, job) if line.at in window)


def _of_life(rng: Random, job: Job) -> Iterator[Said]:
    yield _control(job, job.made + rng.randrange(NS // 10), "INFO", "job created", image=job.image or None, named=True)
    if not job.cause:
        yield _control(job, job.stopped + rng.randrange(2 * NS), "INFO", "job completed", named=True)
        return
    words = error_text(job)
    yield Said(job.stopped - NS // 7, words, pod(job), ())
    if job.retried is not None:
        msg = f"kaniko job {job.name} failed due stale kaniko cache, retrying without cache"
        yield _control(job, job.retried, "INFO", msg, err=f"logs: {words}")
        return
    waited = f"wait {_WAITED[job.kind]} job {job.name}: job failed; logs: {words}"
    at = job.stopped + rng.randrange(NS // 5, 2 * NS)
    yield _control(job, at, "ERROR", f"{job.kind} failed", err=waited)
    worker = rng.randrange(2)
    fields = {"run_id": job.run, "worker_id": f"worker-{worker}", "issue_number": job.issue}
    msg = "run failed before agent start: build failed"
    text = _slog(at + NS // 50, "ERROR", msg, **fields, err=f"prepare runtime: {waited}")
    yield Said(at + NS // 40, text, *_WORKERS[worker])


def error_text(job: Job) -> str:
    """Return a failed job's last words."""
    digest = f"{job.made % 2**64:016x}"
    lost = f"MANIFEST_UNKNOWN: manifest unknown; map[Tag:{digest}]"
    if job.cause == CACHE:
        return (
            "error building image: error while retrieving image from cache: "
            f"GET {_REGISTRY}/{job.image}/cache/manifests/{digest}: {lost}"
        )
    if job.cause == MIRROR:
        return f"Error: copying image: GET {_REGISTRY}/mirror/{job.image}/manifests/latest: {lost}"
    if job.cause == BUILD_REF:
        return (
            "git checkout --detach -b feature/x: fatal: '-b feature/x' is not a commit and a branch cannot be created"
        )
    return "error: failed to execute command: waiting for process to exit: exit status 1"


def _control(job: Job, at: int, level: str, msg: str, *, named: bool = False, **fields: str | None) -> Said:
    """Return a line of the control-plane; on older paths of its code only the text names the job."""
    own = {"run_id": job.run if job.field else None, "job_name": job.name if job.field or named else None}
    return Said(at, _slog(at, level, msg, **own, namespace=NAMESPACE, stage=job.kind, **fields), _CONTROL_PLANE, ())


def _slog(at: int, level: str, msg: str, **fields: object) -> str:
    known = {k: v for k, v in fields.items() if v is not None}
    return json.dumps({"time": instant_text(at), "level": level, "msg": msg} | known, separators=(",", ":"))


def _json(time: str, level: str, msg: str, more: str) -> str:
    return f'{{"time":"{time}Z","level":"{level}","msg":"{msg}",{more},"namespace":"{NAMESPACE}"}}'


def pod(job: Job) -> Pairs:
    """Return the stream of a job's pod."""
    name = f"{job.name}-{job.made % 36**4 + 36**4:x}"[: len(job.name) + 6]
    return (
        ("app", _APPS[job.kind]), ("container", "main"), ("job_name", job.name), ("namespace", NAMESPACE), ("pod", name)
    )  # fmt: skip


def _service(app: str, pod: str) -> Pairs:
    name = f"codex-k8s-{app}"
    return (("app", name), ("container", app), ("namespace", NAMESPACE), ("pod", f"{name}-{pod}"))


_CONTROL_PLANE = _service("control-plane", "7d9c6b5f4-x2x9k")
_GATEWAY = _service("api-gateway", "5b8d9f6c7-qw4rt")
_WORKERS = [(_service("worker", f"6f9d-{p}"), (("node", f"node-{n}"),)) for n, p in enumerate(("k2v7p", "m8s4c"))]
