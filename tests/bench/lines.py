"""A day of log lines for a benchmark: JSON of about 340 bytes, three services and 200 job pods, a fifth plain text."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping
from random import Random

from pipeline.model import DAY_NS, Window, instant_text

DATE = dt.date(2026, 2, 26)
_PODS = 200
_CACHE = "error while retrieving image from cache: MANIFEST_UNKNOWN: manifest unknown"
Entry = tuple[int, str, Mapping[str, str]]


def streams(count: int, seed: int = 1) -> Iterator[tuple[Mapping[str, str], list[Entry]]]:
    """Yield batches of `count` entries spread evenly over the day, in time order."""
    rng, start = Random(seed), Window.of_day(DATE).start
    step = DAY_NS // count
    runs = [
        f"{rng.getrandbits(32):08x}-{rng.getrandbits(16):04x}-4c1d-9a60-{rng.getrandbits(48):012x}" for _ in range(500)
    ]
    held: dict[tuple[tuple[str, str], ...], list[Entry]] = {}
    for i in range(count):
        at = start + i * step + rng.randrange(step)
        labels, line = _line(rng, i, at, runs)
        held.setdefault(tuple(sorted(labels.items())), []).append((at, line, {}))
        if i % 10_000 == 9_999:
            yield from ((dict(k), v) for k, v in held.items())
            held = {}
    yield from ((dict(k), v) for k, v in held.items())


def _line(rng: Random, i: int, at: int, runs: list[str]) -> tuple[dict[str, str], str]:
    run = rng.choice(runs)
    labels = {"namespace": "codex-k8s-prod"}
    if rng.random() < 0.2:
        pod = i % _PODS
        labels |= {"app": "codex-k8s-kaniko", "pod": f"codex-k8s-kaniko-worker-{pod:03d}", "container": "kaniko"}
        return labels, f"INFO[{i % 9999:04d}] Taking snapshot of files for step {i} of image worker {run} {'=' * 60}"
    app = ("codex-k8s-control-plane", "codex-k8s-worker", "codex-k8s-api-gateway")[i % 3]
    labels |= {"app": app, "pod": f"{app}-7f9c", "container": app.removeprefix("codex-k8s-")}
    fields = {"time": instant_text(at), "level": "INFO", "msg": "job is still running, asking again in two seconds"}
    fields |= {"run_id": run, "job_name": f"codex-k8s-kaniko-worker-{run[:12]}", "namespace": "codex-k8s-prod"}
    fields |= {"worker_id": f"worker-{i % 7}", "stage": "build", "source": "services/worker/internal/build.go:118"}
    if i % 1000 == 0:
        fields |= {"level": "ERROR", "err": f"wait kaniko job {fields['job_name']}: job failed; logs: {_CACHE}"}
    return labels, json.dumps(fields | {"slot_no": str(i % 12), "attempt_of": "three, see the lease of this run"})
