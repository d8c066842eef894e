"""What the platform's components write about what happens: the control-plane, the workers, and the services beside them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from pipeline.model import NS
from tests.world.lines import Line, Pairs, service, slog
from tests.world.options import CONTROL_PLANE, NAMESPACE, WORKER, Options, seconds
from tests.world.platform import (
    BUILD_REF,
    CACHE_OFF,
    DEADLINE,
    LAYER_LOST,
    MIRROR_LOST,
    STALE_CACHE,
    WORKER_PODS,
    Attempt,
    Platform,
    Run,
    Step,
)

_WAITED = {"build": "kaniko", "mirror": "image mirror", "codegen-check": "codegen-check"}
_CUT = 16 * 1024  # a container runtime writes longer lines in parts


def error_text(attempt: Attempt) -> str:
    """Return the last words of a failed job."""
    digest = attempt.uid.replace("-", "")
    registry = f"https://registry.{NAMESPACE}.svc:5000/v2/codex-k8s"
    lost = f"MANIFEST_UNKNOWN: manifest unknown; map[Tag:{digest[:16]}]"
    if attempt.cause in {STALE_CACHE, LAYER_LOST}:
        if attempt.cause == STALE_CACHE and digest[0] in "0123":
            return "error building image: error while retrieving image from cache: unexpected EOF"
        place = "cache/manifests" if attempt.cause == STALE_CACHE else "manifests"
        url = f"{registry}/{attempt.image}/{place}/{digest[:16]}"
        return f"error building image: error while retrieving image from cache: GET {url}: {lost}"
    if attempt.cause == MIRROR_LOST:
        return f"Error: copying image: GET {registry}/mirror/{attempt.image}/manifests/latest: {lost}"
    if attempt.cause == BUILD_REF:
        return f"git checkout --detach -b feature/x: {git_error(attempt)}"
    return _PLAIN_ERRORS[attempt.kind]


def git_error(attempt: Attempt) -> str:
    """Return what git says to a build ref that holds a flag: it depends on the version in the image."""
    if attempt.uid[0] in "01234567":
        return "fatal: '-b feature/x' is not a commit and a branch 'feature/x' cannot be created from it"
    return "error: unknown switch `b'"


_PLAIN_ERRORS = {
    "build": "error building image: error building stage: failed to execute command: waiting for process to exit: "
    "exit status 1",
    "mirror": "Error: copying image: Get https://hub.example.org/v2/: net/http: TLS handshake timeout",
    "codegen-check": "generated code differs: services/api/gen/runs.pb.go; run make generate",
    "run": "agent exited with status 1",
}


@dataclass
class ControlPlane:
    """The control-plane: makes jobs, waits for them, tries again what a stale cache broke. A rollout makes a new pod.

    Builds use the cache unless it was switched off, or broke the attempt before.
    """

    options: Options
    rng: Random
    pod: str = "7d9c6b5f4-x2x9k"
    cached: bool = True
    without_cache: set[str] = field(default_factory=set)

    def lines(self, steps: tuple[Step, ...]) -> Iterator[Line]:
        """Yield its lines about the steps, in their order."""
        cut = next((s for s in steps if s.what == "job_failed" and _cause(s) == LAYER_LOST), None)
        for step in steps:
            line = self.about(step, long=step is cut)
            if step.what == "rollout":
                yield from self.rollout(step)
            elif line:
                yield from _cut(line) if step is cut else [line]

    def about(self, step: Step, *, long: bool = False) -> Line | None:
        """Return the line about one step, None where it has nothing to say."""
        if step.attempt:
            return self.about_job(step, step.attempt, long=long)
        if step.what != "preparing" or step.run is None:
            return None
        ref = "-b feature/x" if step.at in self.options.span(self.options.build_ref) else "main"
        fields = {"run_id": step.run.run_id, "slot_no": step.run.slot, "namespace": NAMESPACE, "build_ref": ref}
        return self.write(step.at, "INFO", "prepare runtime", None, **fields, project_id="p-7")

    def about_job(self, step: Step, job: Attempt, *, long: bool) -> Line | None:
        """Return the line about a job; older code paths name it without its run."""
        run = step.run if step.run and (step.run.names_both or job.kind == "run") else None
        fields = {"run_id": run.run_id if run else None, "job_name": job.job_name, "namespace": NAMESPACE}
        fields["stage"] = job.kind
        if step.what == "job_created":
            cache = self.cached and job.job_name not in self.without_cache if job.kind == "build" else None
            return self.write(step.at, "INFO", "job created", job, **fields, image=job.image, cache_enabled=cache)
        if step.what == "job_done":
            took = round(((job.stopped_at or step.at) - job.made_at) / NS, 3)
            return self.write(step.at, "INFO", "job completed", job, **fields, took_s=took)
        if step.what == "retried":
            self.without_cache.add(job.job_name)
            msg = f"kaniko job {job.job_name} failed due stale kaniko cache, retrying without cache"
            return self.write(step.at, "INFO", msg, job, **fields, err=f"logs: {error_text(job)}")
        return self.failed(step.at, job, fields, long=long) if step.what == "job_failed" else None

    def failed(self, at: int, job: Attempt, fields: dict[str, Any], *, long: bool) -> Line:
        """Return the line about a job that failed for good."""
        if job.kind == "run":
            return self.write(at, "WARN", "agent job ended", job, **fields, err=error_text(job))
        said = error_text(job) if job.cause != DEADLINE else "DeadlineExceeded: Job was active longer than its deadline"
        count = 330 if long else 0
        before = "".join(f"INFO[{i:04d}] Unpacking rootfs as cmd COPY . . requires it.\n" for i in range(count))
        err = f"wait {_WAITED[job.kind]} job {job.job_name}: job failed; logs: {said}\n{before}"
        return self.write(at, "ERROR", f"{job.kind} failed", job, **fields, err=err.rstrip("\n"))

    def rollout(self, step: Step) -> Iterator[Line]:
        """Yield the last line of the old pod and the first of the new one, two of which bear one instant."""
        yield self.write(step.at, "INFO", "shutting down", None, reason="SIGTERM")
        self.cached = self.cached and step.note != CACHE_OFF
        self.pod = f"{self.rng.getrandbits(36):09x}-{self.rng.getrandbits(20):05x}"
        later = step.at + seconds(6)
        yield self.write(later, "INFO", "starting control-plane", None, change=step.note)
        yield self.write(later, "INFO", "configuration loaded", None, change=step.note)

    def write(self, at: int, level: str, msg: str, job: Attempt | None, **fields: Any) -> Line:
        """Write one line; what names a job tells about it."""
        text = slog(at, level, msg, **fields)
        name, uid = (job.job_name, job.uid) if job else (None, None)
        return Line(at + self.rng.randrange(20_000, 400_000), text, service(CONTROL_PLANE, self.pod), (), name, uid)


def _cause(step: Step) -> str:
    return step.attempt.cause if step.attempt else ""


def _cut(line: Line) -> Iterator[Line]:
    """Cut a line as a container runtime does: the first part begins as JSON and is none, the second is plain text."""
    yield replace(line, text=line.text[:_CUT])
    yield replace(line, at=line.at + 1, text=line.text[_CUT:], job=None, uid=None)


@dataclass
class Worker:
    """The workers: claim runs, hand them to the control-plane, and queue again what failed before its agent started."""

    rng: Random

    def lines(self, steps: tuple[Step, ...]) -> Iterator[Line]:
        """Yield the workers' lines about the steps, in their order."""
        for step in (s for s in steps if s.run):
            if line := self.about(step, step.run):
                yield line

    def about(self, step: Step, run: Run | None) -> Line | None:
        """Return the line about one step, None where a worker has nothing to say."""
        if run is None:
            return None
        if step.what in {"queued", "claimed", "requeued", "agent_started"}:
            issue = run.issue if step.what == "queued" else None
            return self.write(step, run, "INFO", _WORKER_SAYS[step.what], issue_number=issue, source="scheduler")
        if step.what == "run_failed":
            return self.run_failed(step, run)
        job = step.attempt
        if step.what == "job_done" and job and job.kind == "run":
            return self.write(step, run, "INFO", "run completed", job_name=job.job_name)
        return None

    def run_failed(self, step: Step, run: Run) -> Line:
        """Return the line about a run that failed before its agent started; its error names the job, if it was one."""
        job = step.attempt
        if job is None:
            err = "prepare runtime: resolve project: services.yaml: yaml: line 41: did not find expected key"
        else:
            said = "DeadlineExceeded" if job.cause == DEADLINE else error_text(job)
            err = f"prepare runtime: wait {_WAITED[job.kind]} job {job.job_name}: job failed; logs: {said}"
        line = self.write(step, run, "ERROR", "run failed before agent start: build failed", err=err)
        return replace(line, job=job.job_name, uid=job.uid) if job else line

    def write(self, step: Step, run: Run, level: str, msg: str, **fields: Any) -> Line:
        """Write one line about a run; its trace is structured metadata."""
        at = step.at + self.rng.randrange(1_000_000, 9_000_000)
        known = {"run_id": run.run_id, "worker_id": run.worker, "lease_owner": f"{run.worker}/{run.slot}"}
        job = step.attempt if "job_name" in fields else None
        text = slog(at, level, msg, **known, slot_no=run.slot, **fields)
        labels = service(WORKER, run.worker.removeprefix(f"{WORKER}-"))
        trace = (("node", f"node-{run.slot % 3}"), ("trace_id", f"{self.rng.getrandbits(64):016x}"))
        name, uid = (job.job_name, job.uid) if job else (None, None)
        return Line(at + self.rng.randrange(20_000, 400_000), text, labels, trace, name, uid)


_WORKER_SAYS = {
    "queued": "run queued",
    "claimed": "run claimed",
    "requeued": "run requeued after failed runtime",
    "agent_started": "agent started",
}


def idle(options: Options, rng: Random, pods: dict[int, Pairs]) -> Iterator[Line]:
    """Yield what services write when nothing happens; `pods` tells the control-plane's stream by its first instant."""
    gateway = service("codex-k8s-api-gateway", "5b8d9f6c7-qw4rt")
    window, pace = options.window, seconds(options.idle_s)
    for n, at in enumerate(range(window.start + pace // 7, window.end, pace)):
        stream = pods[max(t for t in pods if t <= at)]
        yield Line(at, slog(at, "DEBUG", "reconcile tick", queue=n % 4, runs=n % 7), stream)
        for i, pod in enumerate(WORKER_PODS):
            # both workers wake by the same timer: once in twenty times at the same nanosecond, with the same words
            late = at if n % 20 == 0 else at + rng.randrange(NS)
            who = None if n % 20 == 0 else f"{WORKER}-{pod}"
            text = slog(at, "INFO", "no run to claim", worker_id=who, source="scheduler")
            yield Line(late, text, service(WORKER, pod), (("node", f"node-{i}"),))
        said = f'level=info msg="request served" path=/api/v1/runs status=200 bytes={rng.randrange(200, 9000)}'
        yield Line(at + rng.randrange(NS), f"{said} took={rng.random() * 40:.3f}ms", gateway)


def cache_complaints(options: Options, rng: Random, pods: dict[int, Pairs]) -> Iterator[Line]:
    """Yield cache errors that name no job and no run: warnings of the registry probe, and one at a level it must not have."""
    span = options.span(options.cache)
    for n, at in enumerate(range(span.start + seconds(130), span.end, seconds(410))):
        level = "INFO" if n == 1 else "WARN"
        stream = pods[max(t for t in pods if t <= at)]
        err = f"registry returned MANIFEST_UNKNOWN for cache/{rng.getrandbits(48):012x}"
        yield Line(at, slog(at, level, "cache probe failed", source="registry-probe", err=err), stream)


def control_plane_pods(lines: list[Line], start: int) -> dict[int, Pairs]:
    """Return the control-plane's stream by the instant from which its pod is the one."""
    out: dict[int, Pairs] = {}
    for line in lines:
        if line.labels not in out.values():
            out[line.at if out else start] = line.labels
    return out


def services(options: Options, platform: Platform) -> list[Line]:
    """Return every line of the long-lived components."""
    rng = Random(f"{options.seed}:services")
    control = list(ControlPlane(options, rng).lines(platform.steps))
    pods = control_plane_pods(control, options.window.start)
    worker = list(Worker(rng).lines(platform.steps))
    return [*control, *worker, *idle(options, rng, pods), *cache_complaints(options, rng, pods)]
