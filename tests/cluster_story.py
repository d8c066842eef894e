"""Two minutes of a build platform on a real control plane, and what the API server itself told of each job, by uid."""

from __future__ import annotations

import datetime as dt
import random
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from tests.servers.cluster import ApiServer, Json

LASTS_S = 120
_SETTLES_S = 15  # two scrapes and more after the last that was done, with nothing but the controllers at work
_RETRY_S = 2  # after which the platform makes a job again that it saw fail
_PULLING_S = 1  # of an image, before a pod runs
_TTL_S = {"kaniko": 30, "mirror": 15, "codegen-check": 180}  # the platform's, twenty times quicker
_APPS = {"kaniko": "codex-k8s-kaniko", "mirror": "codex-k8s-image-mirror", "codegen-check": "codex-k8s-codegen-check"}
_IMAGES = ("api-gateway", "control-plane", "worker", "agent-runner", "web-console")
_POLICY_EXIT = 42  # of a container, upon which the pod failure policy fails the job
_ENDLESS = 10.0 * LASTS_S


@dataclass(frozen=True)
class Plan:
    """A job that the platform makes `at` s into the story, and what becomes of it.

    Its container runs for `runs_s` and ends with `exit_code`; `taken_s` after its creation it is deleted. Where it fails
    it is made again under its name, to run and to end as the first of `retries` says.
    """

    name: str
    at: float
    runs_s: float
    exit_code: int = 0
    retries: tuple[tuple[float, int], ...] = ()
    taken_s: float | None = None
    deadline_s: int | None = None
    policy: bool = False

    @property
    def job(self) -> Json:
        """The Job as the platform sends it."""
        kind = next(k for k in _TTL_S if k in self.name)
        pod = {"restartPolicy": "Never", "containers": [{"name": "main", "image": "registry/image:main"}]}
        labels = {"app.kubernetes.io/name": _APPS[kind]}
        spec: Json = {"backoffLimit": 0, "ttlSecondsAfterFinished": _TTL_S[kind]}
        spec |= {"template": {"metadata": {"labels": labels}, "spec": pod}}
        if self.deadline_s is not None:
            spec["activeDeadlineSeconds"] = self.deadline_s
        if self.policy:
            exits = {"operator": "In", "values": [_POLICY_EXIT]}
            spec["podFailurePolicy"] = {"rules": [{"action": "FailJob", "onExitCodes": exits}]}
        return {"metadata": {"name": self.name, "labels": labels}, "spec": spec}

    def retry(self, at: float) -> Plan:
        """Return the job that follows upon this one's failure."""
        (runs_s, exit_code), *later = self.retries
        return replace(self, at=at, runs_s=runs_s, exit_code=exit_code, retries=tuple(later))


def plans(seed: int) -> list[Plan]:
    """Return what the platform is to do: a steady stream of jobs, and among them every kind of trouble."""
    rng = random.Random(seed)

    def token() -> str:
        return str(uuid.UUID(int=rng.getrandbits(128)))[:12]

    def build() -> str:
        return f"codex-k8s-kaniko-{rng.choice(_IMAGES)}-{token()}"

    def mirror() -> str:
        return f"codex-k8s-mirror-{rng.choice(_IMAGES)}-{rng.getrandbits(32):08x}"

    def check() -> str:
        return f"codex-k8s-codegen-check-{token()}"

    steady = [
        Plan(name(), 2 + 8 * i + rng.uniform(0, 6), rng.uniform(1, longest))
        for i in range(12)
        for name, longest in ((build, 15), (mirror, 6), (check, 9))
    ]
    # a stale cache: some fail before any scrape has come by
    stale = [
        Plan(build(), at, runs_s, 1, retries=((rng.uniform(2, 8), 0),))
        for at, runs_s in ((5, 6), (20, 0), (36, 0), (48, 3), (57, 4), (70, 0), (90, 8))
    ]
    trouble = [
        Plan(build(), 30, 2, 1, retries=((3, 1), (4, 0))),
        Plan(build(), 12, 7, 1),
        Plan(mirror(), 42, 2, 1),
        Plan(check(), 64, 3, 128),
        Plan(build(), 34, 5, _POLICY_EXIT, policy=True),
        Plan(build(), 15, _ENDLESS, deadline_s=10),
        Plan(build(), 75, _ENDLESS, deadline_s=8),
        Plan(build(), 25, _ENDLESS, taken_s=20),
        Plan(build(), 80, _ENDLESS, taken_s=12),
        Plan(build(), 95, _ENDLESS),
        # older codegen-checks carry no token: the next one takes away the one that still runs
        Plan("codex-k8s-codegen-check", 44, _ENDLESS),
        Plan("codex-k8s-codegen-check", 56, 5),
    ]
    return [*steady, *stale, *trouble]


@dataclass(frozen=True)
class Life:
    """One job by the last that the API server told of it; `gone_at` is when its deletion was heard of."""

    uid: str
    job_name: str
    created_at: pd.Timestamp
    started_at: pd.Timestamp | None
    ended_at: pd.Timestamp | None
    outcome: str
    reason: str | None
    gone_at: pd.Timestamp | None


@dataclass
class Story:
    """What the platform and the kubelet do, and what the API server tells of it."""

    api: ApiServer
    due: list[Plan]
    _lives: dict[str, Life] = field(default_factory=dict)  # this and what follows by uid
    _plans: dict[str, Plan] = field(default_factory=dict)
    _taken: dict[str, tuple[float, str]] = field(default_factory=dict)
    _pods: dict[str, float] = field(default_factory=dict)  # when each was first seen

    def play(self, moments: Mapping[float, Callable[[], object]]) -> None:
        """Play the whole story, and call what is to happen at its moments (s)."""
        waiting = dict(moments)
        version = self.api.jobs()["metadata"]["resourceVersion"]
        start = time.monotonic()
        while (now := time.monotonic() - start) < LASTS_S + _SETTLES_S:
            for at in sorted(at for at in waiting if at <= now):
                waiting.pop(at)()
            if now < LASTS_S:
                self._play_platform(now)
                self._play_kubelet(now)
            for what, job in self.api.watch_jobs(version, 1):
                version = job["metadata"]["resourceVersion"]
                self._listen(job, time.monotonic() - start, gone=what == "DELETED")

    def lives(self) -> list[Life]:
        """Return every life; one that was deleted before its end is `superseded` where a later one has its name."""
        last = {life.job_name: life.uid for life in self._lives.values()}  # in the order in which they were created
        cut = {False: "superseded", True: "vanished"}
        return [
            replace(x, outcome=cut[last[x.job_name] == x.uid]) if x.outcome == "running" and x.gone_at else x
            for x in self._lives.values()
        ]

    def _play_platform(self, now: float) -> None:
        for uid, (_, name) in [(u, t) for u, t in self._taken.items() if t[0] <= now]:
            del self._taken[uid]
            self.api.delete_job(name)
        there = {x.job_name for x in self._lives.values() if x.gone_at is None}
        for plan in [p for p in self.due if p.at <= now]:
            if plan.name in there:
                self.api.delete_job(plan.name)
            uid = self.api.create_job(plan.job)["metadata"]["uid"]
            self._plans[uid] = plan
            if plan.taken_s is not None:
                self._taken[uid] = now + plan.taken_s, plan.name
        self.due = [p for p in self.due if p.at > now]

    def _play_kubelet(self, now: float) -> None:
        for pod in self.api.pods()["items"]:
            name, phase = pod["metadata"]["name"], pod["status"]["phase"]
            plan = self._plans[pod["metadata"]["ownerReferences"][0]["uid"]]
            ran_s = now - self._pods.setdefault(name, now) - _PULLING_S
            if ran_s >= plan.runs_s and phase in {"Pending", "Running"}:
                self.api.set_pod_status(name, _ended(pod, plan.exit_code))
            elif ran_s >= 0 and phase == "Pending":
                self.api.set_pod_status(name, _running())

    def _listen(self, job: Json, now: float, *, gone: bool) -> None:
        life = _life(job, gone_at=_now() if gone else None)
        before = self._lives.get(life.uid)
        self._lives[life.uid] = life
        plan = self._plans[life.uid]
        if plan.retries and life.outcome == "failed" and before and before.outcome == "running":
            self.due.append(plan.retry(now + _RETRY_S))


def outcomes(lives: Sequence[Life]) -> Counter[str]:
    """Count lives by how they ended."""
    return Counter(life.outcome for life in lives)


def retried(lives: Sequence[Life]) -> Iterator[Life]:
    """Give the lives that failed and after which another one had their name."""
    last = {life.job_name: life.uid for life in lives}
    return (life for life in lives if life.outcome == "failed" and last[life.job_name] != life.uid)


def _life(job: Json, gone_at: pd.Timestamp | None) -> Life:
    meta, status = job["metadata"], job.get("status", {})
    met = {c["type"]: c for c in status.get("conditions", []) if c["status"] == "True"}
    failed = met.get("Failed", {})
    return Life(
        uid=meta["uid"],
        job_name=meta["name"],
        created_at=pd.Timestamp(meta["creationTimestamp"]),
        started_at=_instant(status.get("startTime")),
        ended_at=_instant(failed["lastTransitionTime"] if failed else status.get("completionTime")),
        outcome="failed" if failed else "succeeded" if "Complete" in met else "running",
        reason=failed.get("reason"),
        gone_at=gone_at,
    )


def _instant(text: str | None) -> pd.Timestamp | None:
    return pd.Timestamp(text) if text else None


def _now() -> pd.Timestamp:
    return pd.Timestamp(dt.datetime.now(dt.UTC))


def _text(when: pd.Timestamp) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


def _running() -> Json:
    began = _text(_now())
    return {"phase": "Running", "startTime": began, "containerStatuses": [_container(running={"startedAt": began})]}


def _ended(pod: Json, exit_code: int) -> Json:
    """Return the status of a pod whose container has ended; one that never ran began in that second."""
    now = _text(_now())
    began = pod["status"].get("startTime", now)
    how = {
        "exitCode": exit_code,
        "reason": "Error" if exit_code else "Completed",
        "startedAt": began,
        "finishedAt": now,
    }
    phase = "Failed" if exit_code else "Succeeded"
    return {"phase": phase, "startTime": began, "containerStatuses": [_container(terminated=how)]}


def _container(**state: Json) -> Json:
    own: Json = {"name": "main", "image": "registry/image:main", "imageID": "", "restartCount": 0}
    return own | {"ready": "running" in state, "state": state}
