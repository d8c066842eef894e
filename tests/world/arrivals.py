"""Which runs come, and when."""

from __future__ import annotations

import uuid
from dataclasses import replace
from random import Random

from pipeline.model import DAY_NS, NS, Window
from tests.world.options import WORKER, Options, seconds
from tests.world.platform import USUAL_S, WORKER_PODS, Run

_MIRRORED = ("node-22", "alpine-git", "kaniko-executor", "postgres-16", "golang-1-24")
_HOURLY = (2, 1, 1, 1, 1, 2, 4, 7, 10, 11, 11, 10, 8, 9, 11, 11, 10, 9, 7, 5, 4, 3, 2, 2)


class Arrivals:
    """Which runs come when: more in working hours, some in every incident, and those with a trouble of their own."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.rng = Random(f"{options.seed}:arrivals")
        self.ids = Random(f"{options.seed}:ids")

    def runs(self) -> list[Run]:
        """Return every run, in time order."""
        made = [self.run(at) for day in self.options.window.days() for at in self.ordinary(day[1])]
        for number, span in ((207, self.options.cache), (205, self.options.build_ref)):
            made += self.of_incident(self.options.span(span), number)
        made += self.special()
        return sorted(made, key=lambda r: r.queued_at)

    def ordinary(self, part: Window) -> list[int]:
        """Return instants of a day, or of a part of one, by the hour's share."""
        total = sum(_HOURLY)
        at: list[int] = []
        for hour in part.cells(3600 * NS):
            share = _HOURLY[hour.start % DAY_NS // (3600 * NS)] / total * hour.length / (3600 * NS)
            expected = self.options.runs * share
            count = int(expected) + (self.rng.random() < expected % 1)
            at += [hour.start + self.rng.randrange(hour.length) for _ in range(count)]
        return at

    def of_incident(self, span: Window, issue: int) -> list[Run]:
        """Return runs every few minutes from an incident's start on; the first is that of its issue, one of issue 211."""
        at, made = span.start + seconds(4), list[Run]()
        while at < span.end - seconds(240):
            number = {0: issue, 2: 211}.get(len(made))
            # codegen-checks come after the builds: runs of that incident find their images built
            built = issue == 205
            run = self.run(at, issue=number) if number else self.run(at)
            made.append(replace(run, images=() if built else run.images, mirrors=() if built else run.mirrors))
            at += seconds(self.rng.uniform(*self.options.incident_run_s))
        return made

    def special(self) -> list[Run]:
        """Return the runs that make a world hard, each with its own trouble."""
        made = [self.run(self.options.at(clock), trouble) for clock, trouble in self.options.troubles]
        shared = next((r.run_id[:12] for r in made if r.trouble == "twin"), "")
        return [self.twin(r, shared) if r.trouble == "twin" else r for r in made]

    def twin(self, run: Run, shared: str) -> Run:
        """Let a run's id begin as another's does, so that their jobs have the same names and no line tells them apart."""
        own = shared + run.run_id[len(shared) :]
        return replace(run, run_id=own, images=("web-console", "worker"), mirrors=(), names_both=False)

    def run(self, at: int, trouble: str = "", issue: int | None = None) -> Run:
        """Make one run; about three of four belong to an issue."""
        rng = self.rng
        images = tuple(rng.sample(sorted(USUAL_S), k=rng.choices((1, 2, 3, 4), self.options.images)[0]))
        mirrors = tuple(rng.sample(_MIRRORED, k=rng.choices((0, 1, 2), (4, 3, 2))[0]))
        own = rng.randrange(180, 240) if rng.random() < 0.74 else None
        return Run(
            run_id=str(uuid.UUID(int=self.ids.getrandbits(128), version=4)),
            queued_at=at,
            issue=issue or own,
            slot=rng.randrange(1, 9),
            worker=f"{WORKER}-{rng.choice(WORKER_PODS)}",
            images=images,
            mirrors=mirrors or ((_MIRRORED[0],) if trouble == "mirror" else ()),
            trouble=trouble,
            names_both=rng.random() < 0.8,
        )
