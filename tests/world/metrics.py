"""What Prometheus stored: kube-state-metrics as every scrape found it, the scrapes themselves, and alerts.

kube-state-metrics has no memory: a scrape shows each Job that exists just then, as the Job's status is just then. A
series that a scrape no longer shows gets a stale marker there, unless Prometheus itself was away.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from pipeline.model import NS, Window
from tests.world.options import NAMESPACE, Options, seconds
from tests.world.platform import APP, Attempt, Platform

STALE = None  # how tests/servers/remote_write.py wants the stale marker
_MS = 1_000_000
_PHASE_S = 3.412  # scrapes come at their own offset within the interval
_CONDITIONS = ("true", "false", "unknown")
_REASONS = ("BackoffLimitExceeded", "DeadlineExceeded", "Evicted")
_DOWN_S = 45  # for so long a restarted kube-state-metrics does not answer

Labels = tuple[tuple[str, str], ...]
Sample = tuple[int, float | None]


@dataclass(frozen=True)
class Firing:
    """One interval in which an alert fired: from its first evaluation to one evaluation after its last."""

    alert: str
    severity: str
    start: int
    end: int


@dataclass(frozen=True)
class Target:
    """One kube-state-metrics: its address, and the instants (ms) of the scrapes that reached it or did not."""

    instance: str
    scrapes: Sequence[int]
    down: frozenset[int] = frozenset()
    gone: int | None = None  # when Prometheus found that the target is no more

    @cached_property
    def following(self) -> Mapping[int, int]:
        """The scrape after each, but the last."""
        return dict(pairwise(self.scrapes))

    @cached_property
    def interval(self) -> int:
        """The usual distance of two scrapes, in ms."""
        return min((b - a for a, b in pairwise(self.scrapes)), default=0)


def scrape_times(options: Options, phase_s: float = _PHASE_S) -> list[int]:
    """Return the instants in ms at which Prometheus scraped one target."""
    step, window = options.scrape_s * 1000, options.window
    first = window.start // _MS + round(phase_s * 1000)
    away = [options.span(g) for g in options.gaps]
    return [t for t in range(first, window.end // _MS, step) if not any(t * _MS in g for g in away)]


def targets(options: Options) -> list[Target]:
    """Return every kube-state-metrics that there was."""
    out = []
    for i in range(options.replicas):
        times = scrape_times(options, _PHASE_S + i * 7.25)
        address = f"10.42.0.{17 + i}:8080"
        if not options.restart or i:
            out.append(Target(address, times))
            continue
        at = options.at(options.restart) // _MS
        back = at + _DOWN_S * 1000
        before, after = [t for t in times if t < back], [t for t in times if t >= back]
        down = frozenset(t for t in before if t >= at)
        out += [Target(address, before, down, after[0]), Target(f"10.42.0.{71 + i}:8080", after)]
    return out


def series(options: Options, platform: Platform, firings: Sequence[Firing]) -> Iterator[tuple[Labels, list[Sample]]]:
    """Yield every series: labels with `__name__`, and samples of (ms, value) in time order."""
    for target in targets(options):
        yield from _of_target(options, target, platform.attempts)
    yield from _of_prometheus(options)
    yield from _alerts(options, firings)


def _of_target(options: Options, target: Target, attempts: Sequence[Attempt]) -> Iterator[tuple[Labels, list[Sample]]]:
    own = (("instance", target.instance), ("job", "kube-state-metrics"))
    answered = [t for t in target.scrapes if t not in target.down]
    shown: dict[Labels, dict[int, float]] = {}
    for a in attempts:
        states: dict[tuple[bool, bool], dict[Labels, float]] = {}
        for at in during(answered, a.made_at, a.gone_at):
            state = (a.begun_at <= at * _MS, a.stopped_at is not None and a.stopped_at <= at * _MS)
            if state not in states:
                states[state] = exposition(a, at * _MS, job_labels=options.job_labels)
            for labels, value in states[state].items():
                shown.setdefault(labels, {})[at] = value
    build = (("__name__", "kube_state_metrics_build_info"), ("version", "v2.19.1"))
    shown[build] = dict.fromkeys(answered, 1.0)
    for labels, samples in shown.items():
        yield _labelled(labels, own, options), _with_markers(samples, target)
    yield (("__name__", "up"), *own), [(t, float(t not in target.down)) for t in target.scrapes]


def during(scrapes: Sequence[int], start: int, end: int | None) -> Sequence[int]:
    """Return the scrapes (ms, sorted) that lie between two instants in ns, the end open."""
    upto = len(scrapes) if end is None else bisect_left(scrapes, -(-end // _MS))
    return scrapes[bisect_left(scrapes, -(-start // _MS)) : upto]


def exposition(attempt: Attempt, at: int, *, job_labels: bool = True) -> dict[Labels, float]:
    """Return what kube-state-metrics (2.14 and later) says of a job at an instant in ns: series without target labels."""
    begun = attempt.begun_at <= at
    ended = attempt.stopped_at is not None and attempt.stopped_at <= at
    done, failed = ended and attempt.outcome == "succeeded", ended and attempt.outcome == "failed"
    out: dict[Labels, float] = {}

    def say(metric: str, value: float, **labels: str) -> None:
        named = {"__name__": f"kube_job_{metric}", "namespace": NAMESPACE, "job_name": attempt.job_name} | labels
        out[tuple(sorted(named.items()))] = value

    say("info", 1)
    say("created", attempt.created_at // NS)
    say("status_active", begun and not ended)
    say("status_succeeded", done)
    if job_labels:
        say("labels", 1, **_job_labels(attempt))
    if begun:
        say("status_start_time", attempt.started_at // NS)
    if done and attempt.ended_at is not None:
        say("status_completion_time", attempt.ended_at // NS)
    if ended:
        for condition in _CONDITIONS:
            say("failed" if failed else "complete", condition == "true", condition=condition)
    if failed:
        for reason in _REASONS:
            say("status_failed", reason == attempt.reason, reason=reason)
    else:
        say("status_failed", 0)
    return {k: float(v) for k, v in out.items()}


def _job_labels(attempt: Attempt) -> dict[str, str]:
    labels = {"label_app_kubernetes_io_name": APP[attempt.kind]}
    if attempt.image:
        labels["label_app_kubernetes_io_component"] = attempt.image
    if attempt.kind == "run" and attempt.run:
        labels["label_codex_k8s_dev_run_id"] = attempt.run.run_id
        if attempt.run.issue:
            labels["label_codex_k8s_dev_issue_number"] = str(attempt.run.issue)
    return labels


def _labelled(labels: Labels, own: Labels, options: Options) -> Labels:
    """Add a target's labels; where honor_labels is off the job's own namespace steps aside for the target's."""
    named = dict(labels)
    if not options.honor_labels:
        if "namespace" in named:
            named["exported_namespace"] = named["namespace"]
        named["namespace"] = "monitoring"
    return tuple(sorted({**named, **dict(own)}.items()))


def _with_markers(samples: Mapping[int, float], target: Target) -> list[Sample]:
    """Mark a series stale at the first scrape that does not show it, or when its target is gone.

    Prometheus remembers what the last scrape showed only while it runs: after an outage of its own nothing is marked.
    """
    out: list[Sample] = []
    for at, value in samples.items():
        out.append((at, value))
        then = target.following.get(at, target.gone)
        if then is not None and then not in samples and then - at <= 2 * target.interval:
            out.append((then, STALE))
    return out


def _of_prometheus(options: Options) -> Iterator[tuple[Labels, list[Sample]]]:
    """Yield what Prometheus tells of itself: its scrapes, the evaluations of the rules, and when it started."""
    own = (("instance", "localhost:9090"), ("job", "prometheus"))
    times = scrape_times(options, 1.087)
    step = options.scrape_s * 1000
    starts = sorted({options.window.start // NS - 86_400, *(options.span(g).end // NS for g in options.gaps)})
    group = (("rule_group", "/etc/prometheus/rules/ai-slot.yaml;ai-slot-build-pipeline"),)
    yield (("__name__", "up"), *own), [(t, 1.0) for t in times]
    evaluated: list[Sample] = [(t, evaluations_before(t, step) / 1000) for t in times]
    yield (("__name__", "prometheus_rule_group_last_evaluation_timestamp_seconds"), *own, *group), evaluated
    began: list[Sample] = [(t, float(max(s for s in starts if s * 1000 <= t))) for t in times]
    yield (("__name__", "process_start_time_seconds"), *own), began


def evaluations_before(at: int, step: int) -> int:
    """Return the last evaluation of the rules at or before an instant, both in ms; they come every `step` ms."""
    return (at - 250) // step * step + 250


def _alerts(options: Options, firings: Sequence[Firing]) -> Iterator[tuple[Labels, list[Sample]]]:
    step = options.scrape_s * 1000
    for f in firings:
        named = {"__name__": "ALERTS", "alertname": f.alert, "alertstate": "firing", "severity": f.severity}
        named |= {"namespace": NAMESPACE}
        times = range(f.start // _MS, f.end // _MS, step)
        samples: list[Sample] = [(t, 1.0) for t in times]
        yield tuple(sorted(named.items())), [*samples, (f.end // _MS, STALE)]


def firings(options: Options) -> list[Firing]:
    """Return what fired: the build-ref alert for its incident, nothing for the cache, and one alert for no reason."""
    return [
        _firing(options, "AI_SLOT_CODEGEN_CHECK_BUILD_REF_INVALID", _after(options.span(options.build_ref), 100, 840)),
        _firing(options, "AI_SLOT_BUILD_FAILURE_BURST", Window(options.at("17:12"), options.at("17:18"))),
    ]


def _after(span: Window, start_s: float, end_s: float) -> Window:
    return Window(span.start + seconds(start_s), span.end + seconds(end_s))


def _firing(options: Options, alert: str, about: Window) -> Firing:
    """Let an alert fire from an evaluation to an evaluation."""
    step = options.scrape_s * 1000
    start, end = (evaluations_before(t // _MS, step) * _MS for t in (about.start, about.end))
    return Firing(alert, "page", start, end)


def scraped(options: Options) -> list[int]:
    """Return every instant in ms at which a scrape of some kube-state-metrics was answered."""
    return sorted({t for x in targets(options) for t in x.scrapes if t not in x.down})
