"""A platform's job history for a benchmark: runs that build, mirror and check, retries under one name, two incidents."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random

from pipeline.model import DAY_NS, NS, Window

IMAGES = ("api-gateway", "control-plane", "worker", "agent-runner", "web-console")
TTL_S = {"build": 600, "mirror": 300, "codegen-check": 3600}
CACHE, MIRROR, BUILD_REF, OTHER = "cache", "mirror", "build-ref", "other"
BEFORE_NS = 7 * 3600 * NS  # jobs of this long before the first day are in its look-back
_AFTER_NS = 600 * NS
_PER_RUN = 3.6  # attempts, about
_USUAL_S = {"build": 170.0, "mirror": 35.0, "codegen-check": 80.0}
# share of attempts that fail outside of incidents, and in those of their class
_FAILS = {"build": 0.04, "mirror": 0.05, "codegen-check": 0.06}
_STALE = 0.03
_INCIDENTS = ((CACHE, 9.1, 9.95), (BUILD_REF, 13.7, 14.3))  # hours of each day
_IN_INCIDENT = 0.75


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt: instants in ns. `cause` is why it failed, empty for a success; `gone` when its job was deleted.

    `retried`: made again at once under its name, as the line of this instant says. `field`: lines name run and job.
    """

    name: str
    kind: str
    image: str
    run: str
    issue: int | None
    made: int
    begun: int
    stopped: int
    gone: int
    cause: str
    retried: int | None
    field: bool


def jobs(days: Window, a_day: int, seed: int = 1) -> list[Job]:
    """Return about `a_day` attempts a day, also of the hours before the days and of minutes after; by creation."""
    rng = Random(seed)
    span = days.widen(BEFORE_NS, _AFTER_NS)
    out: list[Job] = []
    runs = round(a_day * span.length / DAY_NS / _PER_RUN)
    for n in range(runs):
        at = span.start + int((n + rng.random()) / runs * span.length)
        out += _run(rng, at, span)
    out.sort(key=lambda j: (j.made, j.name))
    following: dict[str, int] = {}
    for i, job in reversed(list(enumerate(out))):  # one that is made again is deleted first
        out[i] = replace(job, gone=min(job.gone, following.get(job.name, job.gone)))
        following[job.name] = job.made
    return out


def _run(rng: Random, at: int, span: Window) -> Iterator[Job]:
    """Yield the attempts of one run: mirrors, builds one after the other, a check; a failed run may be queued again."""
    run = f"{rng.getrandbits(32):08x}-{rng.getrandbits(16):04x}-4c1d-9a60-{rng.getrandbits(48):012x}"
    issue = rng.randrange(1, 4000) if rng.random() < 0.8 else None
    field = rng.random() < 0.7
    todo = [("mirror", rng.choice(("node-22", "golang-1-24", "kaniko-executor")))] if rng.random() < 0.6 else []
    todo += [("build", image) for image in rng.sample(IMAGES, rng.choice((1, 2, 2, 3)))]
    todo += [("codegen-check", "")] if rng.random() < 0.9 else []
    for kind, image in todo:
        name = _name(rng, kind, image, run[:12])
        for _ in range(2):
            lives = list(_lives(rng, Job(name, kind, image, run, issue, at, at, at, at, "", None, field)))
            yield from (j for j in lives if j.made in span)
            last = lives[-1]
            at = last.stopped + int(rng.uniform(0.5, 4) * NS)
            if not last.cause:
                break
            if rng.random() < 0.5:
                return
            at += int(rng.uniform(120, 240) * NS)


def _name(rng: Random, kind: str, image: str, token: str) -> str:
    if kind == "mirror":
        return f"codex-k8s-mirror-{image}-{rng.getrandbits(32):08x}"
    token = token.rstrip("-")
    return f"codex-k8s-kaniko-{image}-{token}" if kind == "build" else f"codex-k8s-codegen-check-{token}"


def _lives(rng: Random, job: Job) -> Iterator[Job]:
    """Yield one attempt, and the second where a stale cache broke the first: its job is made again within seconds."""
    cause, stale = _cause(rng, job)
    first = _life(rng, job, cause, short=stale)
    if not stale:
        yield first
        return
    retried = first.stopped + int(rng.uniform(0.2, 2.0) * NS)
    again = retried + int(rng.uniform(0.3, 1.5) * NS)
    yield replace(first, retried=retried, gone=again)
    worse = _in_incident(CACHE, job.made) and rng.random() < 0.3
    yield _life(rng, replace(job, made=again), CACHE if worse or rng.random() < 0.1 else "", short=worse)


def _life(rng: Random, job: Job, cause: str, *, short: bool) -> Job:
    begun = job.made + int(rng.uniform(0.1, 1.2) * NS)
    lasts = _USUAL_S[job.kind] * math.exp(rng.gauss(0, 0.5))
    if short:
        lasts = rng.uniform(4, 60)
    elif cause:
        lasts *= rng.uniform(0.2, 0.9)
    stopped = begun + int(lasts * NS)
    return replace(job, begun=begun, stopped=stopped, gone=stopped + TTL_S[job.kind] * NS, cause=cause)


def _cause(rng: Random, job: Job) -> tuple[str, bool]:
    """Draw why an attempt fails (empty: it does not), and whether it was a stale cache, which is tried again at once."""
    if job.kind == "build" and rng.random() < (_IN_INCIDENT if _in_incident(CACHE, job.made) else _STALE):
        return CACHE, True
    if job.kind == "codegen-check" and _in_incident(BUILD_REF, job.made) and rng.random() < _IN_INCIDENT:
        return BUILD_REF, False
    if rng.random() < _FAILS[job.kind]:
        return (MIRROR if job.kind == "mirror" and rng.random() < 0.5 else OTHER), False
    return "", False


def _in_incident(cause: str, at: int) -> bool:
    hour = at % DAY_NS / (3600 * NS)
    return any(c == cause and start <= hour < end for c, start, end in _INCIDENTS)
