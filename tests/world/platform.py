"""What the platform did: runs, the jobs of their runtimes, rollouts. Plain values; nothing here knows who watches."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, replace
from random import Random

from pipeline.model import NS, Window
from tests.world.options import Options, seconds, whole

TTL_S = {"build": 600, "mirror": 300, "codegen-check": 3600, "run": 3600}
APP = {
    "build": "codex-k8s-kaniko",
    "mirror": "codex-k8s-image-mirror",
    "codegen-check": "codex-k8s-codegen-check",
    "run": "codex-k8s-run",
}
GOLDEN = ("build", "mirror", "codegen-check")
DEADLINE_S = 1200
WORKER_PODS = ("6c9f7d8b5d-4xkqz", "6c9f7d8b5d-t7m2c")
# images, and how many seconds one usually takes
USUAL_S = {"api-gateway": 118, "control-plane": 152, "worker": 96, "agent-runner": 285, "web-console": 204}

# causes of failures, by what their lines will say
STALE_CACHE, LAYER_LOST, MIRROR_LOST = "stale-cache", "layer-lost", "mirror-lost"  # class cache
BUILD_REF = "build-ref"
NO_SIGNATURE, DEADLINE = "no-signature", "deadline"
CACHE_OFF = "CODEXK8S_KANIKO_CACHE_ENABLED=false"
CACHE_CAUSES = (STALE_CACHE, LAYER_LOST, MIRROR_LOST)


@dataclass(frozen=True)
class Run:
    """One agent run; `trouble` is what befalls it, beside the incidents."""

    run_id: str
    queued_at: int
    issue: int | None
    slot: int
    worker: str
    images: tuple[str, ...]
    mirrors: tuple[str, ...]
    trouble: str = ""
    # whether the control-plane's lines name run and job together; older code paths name the job alone
    names_both: bool = True
    status: str = "running"
    ready_at: int | None = None
    ended_at: int | None = None

    @property
    def job_name(self) -> str:
        """The name of its agent's job."""
        return f"codex-k8s-run-{self.run_id}"[:63]


@dataclass(frozen=True)
class Attempt:
    """One life of one job: instants as they were; Kubernetes tells them cut to the second."""

    uid: str
    kind: str
    image: str | None
    job_name: str
    pod: str
    run: Run | None
    made_at: int
    begun_at: int
    stopped_at: int | None
    outcome: str
    cause: str = ""
    gone_at: int | None = None

    @property
    def created_at(self) -> int:
        """`metadata.creationTimestamp`."""
        return whole(self.made_at)

    @property
    def started_at(self) -> int:
        """`status.startTime`."""
        return whole(self.begun_at)

    @property
    def ended_at(self) -> int | None:
        """`status.completionTime`, or when the condition Failed was set."""
        return None if self.stopped_at is None else whole(self.stopped_at)

    @property
    def reason(self) -> str | None:
        """The reason of the condition Failed."""
        if self.outcome != "failed":
            return None
        return "DeadlineExceeded" if self.cause == DEADLINE else "BackoffLimitExceeded"


@dataclass(frozen=True)
class Step:
    """Something that the platform did and its components may write a line about."""

    at: int
    what: str
    run: Run | None = None
    attempt: Attempt | None = None
    note: str = ""


@dataclass(frozen=True)
class Platform:
    """Everything that happened, in time order."""

    runs: tuple[Run, ...]
    attempts: tuple[Attempt, ...]
    steps: tuple[Step, ...]


def run_token(run_id: str) -> str:
    """Return the part of a run id that names of build jobs carry."""
    return re.sub(r"-+", "-", re.sub(r"[^a-z0-9]", "-", run_id.lower())).strip("-")[:12].rstrip("-")


def simulate(options: Options, runs: list[Run]) -> Platform:
    """Let the runs happen, one after the other; they share nothing but the platform's troubles."""
    simulation = Simulation(options)
    done = [simulation.play(run) for run in runs]
    simulation.rollouts()
    inside = options.window
    attempts = [_unfinished(a, inside.end) for a in _replaced(simulation.attempts)]
    known = {a.uid: a for a in attempts}
    steps = [replace(s, attempt=known[s.attempt.uid]) if s.attempt else s for s in simulation.steps]
    return Platform(
        tuple(_still_running(r, inside.end) for r in done if r.queued_at in inside),
        tuple(a for a in attempts if a.made_at in inside),
        tuple(sorted((s for s in steps if s.at in inside), key=lambda s: s.at)),
    )


class Simulation:
    """Plays runs: mirrors, then builds side by side, then the codegen-check, then the agent; what fails is tried again."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.rng = Random(f"{options.seed}:platform")
        self.attempts: list[Attempt] = []
        self.steps: list[Step] = []
        self.cache = options.span(options.cache)
        self.build_ref = options.span(options.build_ref)

    def play(self, run: Run) -> Run:
        """Let one run happen and return it as it ended."""
        at = run.queued_at
        self.tell(at, "queued", run)
        built: set[str] = set()
        for again in range(5):
            at += self.some(1.2, 4.5)
            self.tell(at, "claimed", run, note=str(again))
            failed, at = self.prepare(run, at, built, again)
            if failed is None and run.trouble != "no-job":
                return self.agent(run, at)
            self.tell(at, "run_failed", run, failed)
            if run.trouble == "no-job":
                break
            at += self.some(560, 790)
            if again < 4:
                self.tell(at, "requeued", run)
        return replace(run, status="failed", ended_at=at)

    def prepare(self, run: Run, at: int, built: set[str], again: int) -> tuple[Attempt | None, int]:
        """Build a run's runtime; returns the attempt that stopped it, if one did, and when it was ready or given up."""
        self.tell(at + self.some(0.1, 0.4), "preparing", run)
        if run.trouble == "no-job":
            return None, at + self.some(2, 3)
        for image in (i for i in run.mirrors if i not in built):
            last = self.mirror(run, image, at + self.some(0.8, 2), again)
            at = (last.stopped_at or at) + self.some(0.5, 2)
            if last.outcome == "failed":
                return last, at
            built.add(image)
        ends: list[int] = []
        losses: list[Attempt] = []
        for i, image in enumerate(i for i in run.images if i not in built):
            last = self.build(run, image, at + i * seconds(3) + self.some(0.5, 2.5))
            if last.outcome == "failed":
                losses.append(last)
            else:
                built.add(image)
                ends.append(last.stopped_at or at)
        if losses:
            first = min(losses, key=lambda a: a.stopped_at or 0)
            return first, (first.stopped_at or at) + self.some(1.6, 3.2)
        check = self.codegen_check(run, max([at, *ends]) + self.some(1, 4))
        at = check.stopped_at or at
        return (check, at + self.some(1.6, 3.2)) if check.outcome == "failed" else (None, at + self.some(0.5, 2))

    def mirror(self, run: Run, image: str, at: int, again: int) -> Attempt:
        """Copy one image from outside; its job's name does not tell whose it is, nor is it used twice."""
        name = f"codex-k8s-mirror-{image}-{self.rng.getrandbits(32):08x}"
        if at in self.cache and self.rng.random() < 0.22:
            return self.job("mirror", image, name, run, at, self.some(3, 9), MIRROR_LOST)
        if run.trouble == "mirror" and not again:
            return self.job("mirror", image, name, run, at, self.some(28, 40), NO_SIGNATURE)
        return self.job("mirror", image, name, run, at, self.some(2.5, 28))

    def build(self, run: Run, image: str, at: int) -> Attempt:
        """Build one image; a stale cache is tried again without the cache, two seconds later and under the same name."""
        whose = None if run.trouble == "no-run-id" else run
        token = run_token(run.run_id if whose else str(uuid.UUID(int=self.rng.getrandbits(128))))
        name = f"codex-k8s-kaniko-{image}-{token}"
        lasts = seconds(USUAL_S[image] * self.rng.triangular(0.68, 1.7, 0.88))
        first_minute = Window(self.cache.start, self.cache.start + 60 * NS)
        stale = at in self.cache and self.rng.random() < (1 if at in first_minute else 0.55)
        stale |= run.trouble == "stale-cache" and image == run.images[0]
        if stale:
            first = self.job("build", image, name, whose, at, self.some(4.2, 21), STALE_CACHE)
            at = (first.stopped_at or at) + self.some(1.9, 2.2)
            self.tell(at - self.some(0.5, 1.2), "retried", run, first)
            if at in self.cache and self.rng.random() < 0.45:
                return self.job("build", image, name, whose, at, self.some(18, 55), LAYER_LOST)
            return self.job("build", image, name, whose, at, lasts)
        if image == run.images[0] and run.trouble in {"build", "build-deadline"}:
            late = run.trouble == "build-deadline"
            lasts = seconds(DEADLINE_S) if late else self.some(60, 150)
            # tried once: when the run is played again, its trouble is over
            if not any(a.job_name == name for a in self.attempts):
                return self.job("build", image, name, whose, at, lasts, DEADLINE if late else NO_SIGNATURE)
        slow = run.trouble == "slow-build" and image == run.images[0]
        return self.job("build", image, name, whose, at, max(lasts, seconds(400)) if slow else lasts)

    def codegen_check(self, run: Run, at: int) -> Attempt:
        """Check out the build ref and compare generated code."""
        name = f"codex-k8s-codegen-check-{run_token(run.run_id)}"
        if at in self.build_ref:
            return self.job("codegen-check", None, name, run, at, self.some(3.4, 11), BUILD_REF)
        if run.trouble == "codegen" and not any(a.job_name == name for a in self.attempts):
            return self.job("codegen-check", None, name, run, at, self.some(20, 60), NO_SIGNATURE)
        return self.job("codegen-check", None, name, run, at, self.some(14, 75))

    def agent(self, run: Run, at: int) -> Run:
        """Start the agent: the run is ready."""
        lasts = self.some(420, 2700)
        failed = self.rng.random() < 0.06
        job = self.job("run", None, run.job_name, run, at, lasts, NO_SIGNATURE if failed else "")
        self.tell(at + self.some(0.2, 0.8), "agent_started", run, job)
        return replace(run, status="failed" if failed else "succeeded", ready_at=at, ended_at=job.stopped_at)

    def job(
        self, kind: str, image: str | None, name: str, run: Run | None, at: int, lasts: int, cause: str = ""
    ) -> Attempt:
        """Make a job and let it live; the control-plane polls every two seconds, so it learns of the end a little late."""
        delay = seconds(48) if run and run.trouble == "slow-start" and kind == "build" else self.some(0.02, 0.3)
        end, outcome = at + delay + lasts, "failed" if cause else "succeeded"
        suffix = "".join(self.rng.choices("bcdfghjklmnpqrstvwxz2456789", k=5))
        made = Attempt(
            str(uuid.UUID(int=self.rng.getrandbits(128), version=4)),
            kind, image, name, f"{name}-{suffix}"[:63], run, at, at + delay, end, outcome, cause,
        )  # fmt: skip
        made = replace(made, gone_at=end + seconds(TTL_S[kind]))
        self.attempts.append(made)
        self.tell(at + self.some(0.02, 0.2), "job_created", run, made)
        if cause != STALE_CACHE:
            noticed = self.some(0.1, 1.4)
            self.tell(end + noticed, "job_failed" if cause else "job_done", run, made)
        return made

    def rollouts(self) -> None:
        """Roll out a release in its window, and the two mitigations just before the troubles end."""
        quiet = self.options.span(self.options.maintenance)
        self.tell(quiet.start + seconds(620), "rollout", note="release 1.42.0")
        self.tell(self.cache.end - seconds(95), "rollout", note=CACHE_OFF)
        self.tell(self.build_ref.end - seconds(80), "rollout", note="CODEXK8S_BUILD_REF=main")

    def tell(self, at: int, what: str, run: Run | None = None, attempt: Attempt | None = None, note: str = "") -> None:
        """Remember a step."""
        self.steps.append(Step(at, what, run, attempt, note))

    def some(self, low: float, high: float) -> int:
        """Return a time between two numbers of seconds, in ns."""
        return seconds(self.rng.uniform(low, high))


def _replaced(attempts: list[Attempt]) -> list[Attempt]:
    """Let each attempt be deleted just before the next of its name is made, however long it would have stayed."""
    out: list[Attempt] = []
    following: dict[str, int] = {}
    for a in sorted(attempts, key=lambda a: (a.made_at, a.job_name), reverse=True):
        then = following.get(a.job_name)
        gone = a.gone_at if then is None else min(a.gone_at or then, then - seconds(0.3))
        out.append(replace(a, gone_at=gone))
        following[a.job_name] = a.made_at
    return out[::-1]


def _unfinished(a: Attempt, end: int) -> Attempt:
    """Take back what happens to an attempt after the world's end."""
    if a.stopped_at is None or a.stopped_at < end:
        return a
    return replace(a, stopped_at=None, outcome="running", cause="", gone_at=None)


def _still_running(run: Run, end: int) -> Run:
    if run.ended_at is None or run.ended_at < end:
        return run
    ready = run.ready_at if run.ready_at is not None and run.ready_at < end else None
    return replace(run, status="running", ready_at=ready, ended_at=None)
