"""A simulated platform with known truth: everything that Loki, Prometheus, kubectl and GitHub would have said of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from pipeline.model import NS, Window, instant_text
from tests.world import github, kube, metrics
from tests.world.arrivals import Arrivals
from tests.world.jobpods import job_pods
from tests.world.lines import Line
from tests.world.loglines import control_plane_pods, services
from tests.world.oddities import Secrets, oddities
from tests.world.options import CONTROL_PLANE, NAMESPACE, REPOSITORY, Options
from tests.world.platform import Platform, simulate
from tests.world.truth import Truth

Entry = tuple[int, str, Mapping[str, str]]
Stream = tuple[Mapping[str, str], Sequence[Entry]]
Series = tuple[Mapping[str, str], Sequence[metrics.Sample]]


class Loki(Protocol):
    """What takes streams."""

    def push(self, streams: Any) -> Any:
        """Store entries."""


class Prometheus(Protocol):
    """What takes series."""

    def remote_write(self, series: Any) -> Any:
        """Store samples."""


class World:
    """One world. The same options make the same world, to the byte."""

    def __init__(self, options: Options) -> None:
        self.options = options

    @classmethod
    def make(cls, seed: int = 7, date: dt.date = dt.date(2026, 2, 26), scrape_s: int = 30, **options: Any) -> World:
        """Make a world; what else can be chosen is in `Options`."""
        return cls(Options(seed=seed, date=date, scrape_s=scrape_s, **options))

    @property
    def day(self) -> Window:
        """The UTC day that it is about."""
        return self.options.day

    @property
    def window(self) -> Window:
        """The whole time that it holds."""
        return self.options.window

    @property
    def now(self) -> int:
        """An instant in ns at which everything of it has long arrived."""
        return self.window.end + 3600 * NS

    @cached_property
    def platform(self) -> Platform:
        """What the platform did."""
        return simulate(self.options, Arrivals(self.options).runs())

    @cached_property
    def lines(self) -> list[Line]:
        """Every log line, in time order."""
        made = services(self.options, self.platform)
        pods = control_plane_pods([x for x in made if x.app == CONTROL_PLANE], self.window.start)
        if self.options.pod_logs:
            made += job_pods(self.options, self.platform)
        made += oddities(self.options, self.platform, self._secrets, pods)
        inside = [x for x in made if x.at in self.window]
        return sorted(inside, key=lambda x: x.at)  # what was written at one instant stays in its order

    @cached_property
    def firings(self) -> list[metrics.Firing]:
        """The alerts that fired."""
        return metrics.firings(self.options)

    @cached_property
    def truth(self) -> Truth:
        """What a pipeline should find."""
        return Truth(self)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every secret that its logs hold."""
        return self._secrets.all()

    @cached_property
    def _secrets(self) -> Secrets:
        return Secrets.make(self.options.seed)

    @property
    def maintenance(self) -> dict[str, str]:
        """The maintenance window, as `[[maintenance]]` of the settings wants it."""
        span = self.options.span(self.options.maintenance)
        told = {"start": instant_text(span.start), "end": instant_text(span.end)}
        return told | {"who": "sre-anna", "why": "release 1.42.0"}

    def streams(self) -> list[Stream]:
        """Return what Loki holds: labels, and entries of (ns, line, structured metadata) in time order."""
        out: dict[Any, list[Entry]] = {}
        for x in self.lines:
            out.setdefault(x.labels, []).append((x.at, x.text, dict(x.metadata)))
        return [(dict(labels), entries) for labels, entries in out.items()]

    def series(self) -> Iterator[Series]:
        """Yield what Prometheus holds: labels with `__name__`, and samples of (ms, value); None is the stale marker."""
        for labels, samples in metrics.series(self.options, self.platform, self.firings):
            yield dict(labels), samples

    def comments(self) -> list[dict[str, Any]]:
        """Return GitHub's list of issue comments."""
        return github.comments(self.options, self.platform)

    def dump(self, folder: Path, every_s: float = 240, *, pods: bool | None = None) -> Path:
        """Write kubectl's output in the contract's layout: jobs, events, logs, comments; `every_s` between snapshots."""
        pods = self.options.pod_logs if pods is None else pods
        kube.write_dump(folder, self.options, self.platform, self.lines, self.comments(), every_s, pods=pods)
        return folder

    def push_loki(self, server: Loki) -> None:
        """Load every line into a Loki."""
        server.push(self.streams())

    def push_prometheus(self, server: Prometheus) -> None:
        """Load every sample into a Prometheus."""
        server.remote_write(self.series())


__all__ = ["NAMESPACE", "REPOSITORY", "Line", "Options", "World"]
