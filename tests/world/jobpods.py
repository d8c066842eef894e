"""What the pods of jobs print: plain text of git, Kaniko, crane and shell scripts."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from pipeline.model import NS, instant_text
from tests.world.lines import Line, job_pod
from tests.world.loglines import error_text, git_error
from tests.world.options import NAMESPACE, Options, seconds
from tests.world.platform import BUILD_REF, DEADLINE, STALE_CACHE, Attempt, Platform

_KANIKO = (
    (0.0, "Retrieving image manifest golang:1.24-alpine"),
    (0.01, "Returning cached image manifest"),
    (0.02, "Built cross stage deps: map[0:[/out/app]]"),
    (0.03, "Executing 0 build triggers"),
    (0.05, "Checking for cached layer registry.codex-k8s-prod.svc:5000/codex-k8s/{image}/cache:{tag}..."),
    (0.07, "Unpacking rootfs as cmd COPY go.mod go.sum ./ requires it."),
    (0.12, "COPY go.mod go.sum ./"),
    (0.13, "Taking snapshot of files..."),
    (0.18, "RUN go mod download"),
    (0.34, "Taking snapshot of full filesystem..."),
    (0.41, "COPY . ."),
    (0.45, "RUN CGO_ENABLED=0 go build -o /out/app ./cmd/{image}"),
    (0.78, "Taking snapshot of full filesystem..."),
    (0.86, "Pushing layer registry.codex-k8s-prod.svc:5000/codex-k8s/{image}/cache:{tag} to cache now"),
    (0.93, "Pushing image to registry.codex-k8s-prod.svc:5000/codex-k8s/{image}:{tag}"),
    (0.99, "Pushed registry.codex-k8s-prod.svc:5000/codex-k8s/{image}@sha256:{digest}"),
)


def job_pods(options: Options, platform: Platform) -> list[Line]:
    """Return what every pod of a build, mirror and codegen-check printed."""
    rng = Random(f"{options.seed}:job-pods")
    writers = {"build": _kaniko, "mirror": _mirror, "codegen-check": _codegen_check}
    lines = [
        Line(at, text, *job_pod(a, container), a.job_name, a.uid)
        for a in platform.attempts
        if a.kind in writers
        for at, container, text in writers[a.kind](a, _end(options, a), rng)
    ]
    return [line for line in lines if line.at in options.window]


def _end(options: Options, attempt: Attempt) -> int:
    return attempt.stopped_at or options.window.end


def _kaniko(attempt: Attempt, end: int, rng: Random) -> Iterator[tuple[int, str, str]]:
    start = attempt.begun_at + seconds(rng.uniform(0.8, 1.4))
    digest = f"{rng.getrandbits(256):064x}"
    yield attempt.begun_at + seconds(0.4), "clone", "Cloning into '/workspace'..."
    # a failed build stops somewhere on its way: a stale cache at its first layer
    reach = {STALE_CACHE: 0.06, DEADLINE: 0.5}.get(attempt.cause, 0.46 if attempt.cause else 1.0)
    lasts = (end - start) / reach
    for share, text in _KANIKO:
        if share <= reach:
            at = start + round(share * lasts * 0.97)
            words = text.format(image=attempt.image, tag=digest[:16], digest=digest)
            yield at, "main", f"INFO[{(at - start) // NS:04d}] {words}"
    # one that ran into its deadline was killed: it has no last words
    if attempt.cause and attempt.cause != DEADLINE:
        yield end - seconds(0.15), "main", error_text(attempt)


def _mirror(attempt: Attempt, end: int, rng: Random) -> Iterator[tuple[int, str, str]]:
    start = attempt.begun_at + seconds(0.6)

    def stamped(at: int, text: str) -> tuple[int, str, str]:
        return at, "main", f"{instant_text(at)[:19].replace('-', '/').replace('T', ' ')} {text}"

    target = f"registry.{NAMESPACE}.svc:5000/codex-k8s/mirror/{attempt.image}"
    yield stamped(start, f"Copying from hub.example.org/library/{attempt.image} to {target}")
    if attempt.cause:
        yield end - seconds(0.1), "main", error_text(attempt)
        return
    for i in range(rng.randrange(2, 6)):
        at = start + (end - start) * (i + 1) // 7
        yield stamped(at, f"{'existing' if i % 2 else 'pushed'} blob: sha256:{rng.getrandbits(256):064x}")
    yield stamped(end - seconds(0.1), f"{target}: digest: sha256:{rng.getrandbits(256):064x} size: 1571")


def _codegen_check(attempt: Attempt, end: int, rng: Random) -> Iterator[tuple[int, str, str]]:
    start = attempt.begun_at + seconds(0.7)
    wrong = attempt.cause == BUILD_REF
    ref = "-b feature/x" if wrong else f"{rng.getrandbits(160):040x}"
    for i, text in enumerate(("+ git fetch --tags origin", "From https://github.com/codex-k8s/codex-k8s")):
        yield start + i * seconds(0.4), "main", text
    checked = min(start + seconds(1.6), end - seconds(0.3))
    yield checked, "main", f"+ git checkout --detach {ref}"
    if wrong:
        yield checked + seconds(0.05), "main", git_error(attempt)
        yield end - seconds(0.1), "main", f"codegen-check: {error_text(attempt)}"
        return
    yield checked + seconds(0.1), "main", f"HEAD is now at {ref[:7]} Update generated code"
    yield checked + seconds(0.2), "main", "+ make generate"
    yield end - seconds(0.2), "main", error_text(attempt) if attempt.cause else "generated code is up to date"
