"""One log entry of the world: what was written, where it came from, and the one job that it is about."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pipeline.model import instant_text
from tests.world.options import NAMESPACE
from tests.world.platform import APP, Attempt

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Line:
    """An entry of a stream; `uid` is the attempt that it tells about, `job` what a reader can tell of that."""

    at: int
    text: str
    labels: Pairs
    metadata: Pairs = ()
    job: str | None = None
    uid: str | None = None

    @property
    def app(self) -> str:
        """Who wrote it."""
        return dict(self.labels)["app"]

    @property
    def signatures(self) -> tuple[str, ...]:
        """The named patterns that it holds, found in the plainest way."""
        text = self.text.lower()
        found = {
            "manifest-unknown": "manifest_unknown" in text,
            "cache-retrieval": "retrieving image from cache" in text,
            "build-ref": "checkout --detach" in text and ("unknown switch" in text or "is not a commit" in text),
        }
        return tuple(name for name, there in found.items() if there)


def service(app: str, pod: str) -> Pairs:
    """Return the stream of a deployment's pod."""
    return (
        ("app", app), ("container", app.removeprefix("codex-k8s-")), ("namespace", NAMESPACE), ("pod", f"{app}-{pod}"),
    )  # fmt: skip


def job_pod(attempt: Attempt, container: str = "main") -> tuple[Pairs, Pairs]:
    """Return the stream of a job's pod, and its structured metadata: some agents keep pod, job and node there."""
    labels = (("app", APP[attempt.kind]), ("container", container), ("namespace", NAMESPACE))
    node = f"node-{int(attempt.uid[-2:], 16) % 3}"
    named = (("job_name", attempt.job_name), ("node_name", node), ("pod", attempt.pod))
    return (labels, named) if attempt.kind == "codegen-check" else (tuple(sorted(labels + named)), ())


def slog(at: int, level: str, msg: str, **fields: Any) -> str:
    """Write a line as Go's slog does; fields without a value are left out."""
    known = {k: v for k, v in fields.items() if v is not None}
    return json.dumps({"time": instant_text(at), "level": level, "msg": msg} | known, separators=(",", ":"))
