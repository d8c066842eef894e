"""Attempts and log lines of invented days: what a day does of itself, two incidents, and the lines they leave."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pandas as pd

from pipeline.model import NS
from pipeline.rules import run_token
from tests.tables import DAY, attempt, attempts, line, lines, ns

IMAGES = ("web-console", "api-gateway", "control-plane", "worker", "agent-runner")
Row = dict[str, Any]


def run_id(n: int) -> str:
    """Return the n-th run's id."""
    h = hashlib.sha256(f"run {n}".encode()).hexdigest()
    return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-9{h[17:20]}-{h[20:32]}"


def between(n: int, low: float, high: float) -> float:
    """Return the n-th of numbers that are spread over an interval, the same on every machine."""
    return low + (high - low) * (n * 0.6180339887 % 1)


def when(seconds: float) -> pd.Timestamp:
    """Return an instant of the day by its seconds."""
    return pd.Timestamp(DAY.start + round(seconds) * NS, tz="UTC")


def job(
    kind: str, start_s: float, length_s: float, outcome: str = "succeeded", run: int | None = None, **more: Any
) -> Row:
    """Return an attempt of a kind that began at a second of the day."""
    image = more.pop("image", IMAGES[int(start_s) % 5])
    own = run_id(run) if run is not None else None
    token = run_token(own) if own else hashlib.sha256(str(start_s).encode()).hexdigest()[:12]
    names = {
        "build": f"codex-k8s-kaniko-{image}-{token}",
        "mirror": f"codex-k8s-mirror-node-22-{hashlib.sha256(f'm{start_s}'.encode()).hexdigest()[:8]}",
        "codegen-check": f"codex-k8s-codegen-check-{token}",
    }
    facts = {"image": image if kind == "build" else None, "run_id": own, "issue": more.pop("issue", None)}
    facts |= {"job_name": names[kind], "linked_by": "job_token" if own else None, "end_uncertainty_s": 0.0}
    return attempt(
        when(start_s), when(start_s + length_s), outcome, kind, **(facts | {"outcome_source": "event"} | more)
    )


def quiet_jobs(runs: int, first: int = 0, mirrors: int = 12, hours: tuple[float, float] = (0.6, 23.2)) -> Iterator[Row]:
    """Return what a day does of itself: runs that build some images and check them, most of them in office hours."""
    for n in range(runs):
        spread = between(n, 0, 1)
        centre = hours[0] + (hours[1] - hours[0]) * (0.5 + (spread - 0.5) * (0.35 + 0.65 * abs(2 * spread - 1)))
        start = centre * 3600
        for i in range(2 + n % 4):
            length = between(7 * n + i, 130, 420) * (1.15 if i == 3 else 1)
            yield job("build", start + 40 * i, length, run=first + n, image=IMAGES[(n + i) % 5], issue=201 + n % 23)
        yield job("codegen-check", start + 15, between(n, 18, 31), run=first + n, issue=201 + n % 23)
    for n in range(mirrors):
        yield job("mirror", between(3 * n + 1, hours[0], hours[1]) * 3600, between(n, 25, 90))


def bad_jobs() -> Iterator[Row]:
    """Return the red day's two incidents and two mirrors that failed."""
    cache = [(0, 205), (1, 211), (2, 214), (3, 216), (4, 218), (5, 205)]
    ends = "09:06:12 09:14:03 09:14:31 09:16:20 09:17:48 09:19:05 09:19:52 09:21:10 09:22:37 09:24:02 09:25:44 09:27:30"
    for n, end in enumerate([*ends.split(), "09:29:15", "09:31:08"]):
        run, issue = cache[0] if n == 2 else cache[n % 6]
        stop = (ns(end) - DAY.start) / NS
        length = between(n, 118, 246)
        yield job("build", stop - length, length, "failed", 900 + run, image=IMAGES[run % 5], issue=issue)
    for n, (run, issue) in enumerate(cache):
        stop = (ns("09:33:53") - DAY.start) / NS + 83 * n
        yield job("build", stop - 231, 231, run=900 + run, image=IMAGES[run % 5], issue=issue)
    refs = [(6, 205), (7, 219), (8, 221), (9, 222), (10, 205)]
    ends = "10:52:07 10:58:19 11:06:33 11:14:48 11:20:26 11:31:02 11:40:15 11:52:44 11:58:40"
    for n, end in enumerate(ends.split()):
        run, issue = refs[n % 5]
        yield job("codegen-check", (ns(end) - DAY.start) / NS - 22, 22, "failed", 900 + run, issue=issue)
    for n, (run, issue) in enumerate(refs):
        yield job("codegen-check", (ns("12:05:31") - DAY.start) / NS + 41 * n - 25, 25, run=900 + run, issue=issue)
    for end in ("17:40:51", "17:41:33"):
        yield job("mirror", (ns(end) - DAY.start) / NS - 30, 30, "failed", end_uncertainty_s=15.0)
    yield job("build", 57_600, 1872, run=950, image="web-console", issue=230)


def numbered(rows: Iterable[Row]) -> pd.DataFrame:
    """Return `attempts`, numbered by name."""
    seen: dict[str, int] = {}
    out = []
    for r in sorted(rows, key=lambda r: (r["created_at"], r["job_name"])):
        seen[r["job_name"]] = seen.get(r["job_name"], 0) + 1
        out.append(r | {"attempt": seen[r["job_name"]]})
    return attempts(*out)


_SAID = {
    "build": ("manifest-unknown", "cache-retrieval"),
    "codegen-check": ("build-ref",),
    "mirror": (),
}
_TEXT = {
    "build": "wait kaniko job {job}: job failed; logs: … error building image: error while retrieving image from cache: "
    "GET http://registry:5000/v2/web-console/cache/manifests/9c41…: MANIFEST_UNKNOWN: manifest unknown",
    "codegen-check": "fatal: '-b feature/x' is not a commit and a branch '-b feature/x' cannot be created from it",
    "mirror": "mirror job {job} failed: dial tcp 10.96.14.7:5000: i/o timeout",
}


def lines_of(frame: pd.DataFrame, extra: Sequence[Row] = ()) -> pd.DataFrame:
    """Return the lines that failures leave: by the job's pod, the control-plane and the worker."""
    rows: list[Row] = []
    for i, a in frame[frame["outcome"] == "failed"].iterrows():
        text = _TEXT[a["kind"]].format(job=a["job_name"])
        facts = {"job": a["job_name"], "job_name": a["job_name"], "kind": a["kind"], "attempt_index": i}
        facts |= {"run_id": a["run_id"], "line": text, "err": text}
        for seconds, app, level in (
            (-0.4, a["job_name"], None),
            (0.1, "codex-k8s-control-plane", "ERROR"),
            (0.3, "codex-k8s-worker", "WARN"),
        ):
            end = a["ended_at"] + pd.Timedelta(seconds=seconds)
            rows.append(line(end, *_SAID[a["kind"]], **(facts | {"app": app, "level": level})))
    return lines(*rows, *extra)


def grumbles(n: int) -> list[Row]:
    """Return bad lines that mean nothing."""
    text = "slot lease renewal took longer than expected"
    return [line(when(between(i, 18_000, 77_000)), level="WARN", app="codex-k8s-worker", line=text) for i in range(n)]
