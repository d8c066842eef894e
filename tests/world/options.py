"""What a world is made of: every choice that a test may make, with the default world's answers."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from pipeline.model import DAY_NS, NS, Window

NAMESPACE = "codex-k8s-prod"
REPOSITORY = "codex-k8s/codex-k8s"
CONTROL_PLANE, WORKER = "codex-k8s-control-plane", "codex-k8s-worker"

Span = tuple[str, str]
# twins share the first twelve characters of their ids
TROUBLES: tuple[Span, ...] = (
    ("-00:03:20", "slow-build"),
    ("02:24", "build"),
    ("04:40", "build-deadline"),
    ("05:31", "stale-cache"),
    ("07:35", "no-run-id"),
    ("11:18", "twin"),
    ("12:05", "build"),
    ("15:12", "codegen"),
    ("16:03", "twin"),
    ("18:10", "no-job"),
    ("18:44", "slow-start"),
    ("19:21", "mirror"),
    ("20:11:30", "stale-cache"),
    ("21:50", "stale-cache"),
    ("23:57:10", "slow-build"),
    ("26:56", "slow-build"),
)


@dataclass(frozen=True)
class Options:
    """Everything that a world depends on. Clocks are UTC times of `date`: past `24:00` of the next day, `-` before it.

    `days` ends with `date`, which alone has the incidents; `gaps` are outages of Prometheus, `restart` one of
    kube-state-metrics, `replicas` how many of those there are; `idle_s` is the pace of lines that say nothing; `images`
    how often a run builds one to four of them; `incident_run_s` how far runs of an incident lie apart; `troubles` are
    runs of their own, by clock and what befalls them.
    """

    seed: int = 7
    date: dt.date = dt.date(2026, 2, 26)
    scrape_s: int = 30
    days: int = 1
    runs: int = 31
    before_h: float = 6
    after_h: float = 3
    cache: Span = ("09:06", "09:57")
    build_ref: Span = ("13:41", "14:16")
    maintenance: Span = ("02:00", "03:00")
    gaps: tuple[Span, ...] = (("20:10", "20:16"),)
    restart: str = ""
    replicas: int = 1
    honor_labels: bool = True
    job_labels: bool = True
    pod_logs: bool = True
    hostile: bool = True
    idle_s: float = 60
    images: tuple[int, int, int, int] = (1, 4, 5, 2)
    incident_run_s: tuple[float, float] = (430, 640)
    troubles: tuple[Span, ...] = TROUBLES

    @property
    def day(self) -> Window:
        """The UTC day that the world is about."""
        return Window.of_day(self.date)

    @property
    def window(self) -> Window:
        """The whole time that is simulated."""
        start = self.day.start - (self.days - 1) * DAY_NS
        return Window(start - seconds(self.before_h * 3600), self.day.end + seconds(self.after_h * 3600))

    @property
    def full_days(self) -> list[Window]:
        """The UTC days that the world holds from midnight to midnight."""
        return [w for _, w in self.window.days() if w.length == DAY_NS]

    def at(self, clock: str) -> int:
        """Return `HH:MM[:SS]` of the day in ns, with a minus so long before it."""
        hours, minutes, *rest = (int(p) for p in clock.removeprefix("-").split(":"))
        away = (hours * 3600 + minutes * 60 + sum(rest)) * NS
        return self.day.start + (-away if clock.startswith("-") else away)

    def span(self, clocks: Span) -> Window:
        """Return two clocks of the day as a window."""
        return Window(self.at(clocks[0]), self.at(clocks[1]))


def seconds(value: float) -> int:
    """Return seconds as nanoseconds."""
    return round(value * NS)


def whole(at: int) -> int:
    """Cut an instant to the second, as Kubernetes writes it."""
    return at // NS * NS
