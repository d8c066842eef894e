"""What the pipeline made of a world's day, held against what really happened there: counts of right, unknown and wrong.

`python -m tests.world.held [SEED]` prints the table of truth against ours for each crippled world, as Markdown.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from pipeline import schemas
from pipeline.model import Window
from pipeline.steps.compute import Day, compute
from tests.world.lake import ALL, Site, pull_day, pull_source, site
from tests.world.memory import MemoryPrometheus
from tests.world.platform import GOLDEN
from tests.world.truth import instant
from tests.world.world import World

ENDED = ("succeeded", "failed")
UNKNOWN = ("running", "superseded", "vanished")


@dataclass(frozen=True)
class Crippled:
    """What is wrong with a world: options that differ from the whole one's, and the sources that the install has."""

    options: Mapping[str, Any] = field(default_factory=dict)
    sources: Sequence[str] = ALL

    def has(self, *sources: str) -> bool:
        """Tell whether the install has any of these."""
        return not {*self.sources}.isdisjoint(sources)


WHOLE: Mapping[str, Any] = {"gaps": ()}
QUIET: Mapping[str, Any] = {"idle_s": 600}  # fewer lines that say nothing, for speed
WORLDS: Mapping[str, Crippled] = {
    "whole": Crippled(),
    "scrape 15 s": Crippled({"scrape_s": 15}),
    "scrape 60 s": Crippled({"scrape_s": 60}),
    "gaps": Crippled({"gaps": (("09:20", "09:50"), ("20:10", "20:16"))}),
    "restart": Crippled({"restart": "09:31:07"}),
    "two replicas": Crippled({"replicas": 2, "restart": "15:30"}),
    "exported_ labels": Crippled({"honor_labels": False}),
    "no job labels": Crippled({"job_labels": False}),
    "no logs of pods": Crippled({"pod_logs": False}),
    "no logs": Crippled(sources=("prometheus", "events", "comments")),
    "no events": Crippled(sources=("prometheus", "logs", "comments")),
    "no comments": Crippled(sources=("prometheus", "logs", "events")),
    "no Prometheus": Crippled(sources=("logs", "events", "comments")),
    "Prometheus alone": Crippled(sources=("prometheus",)),
    "Prometheus alone, gaps, 60 s": Crippled({"scrape_s": 60, "gaps": (("09:20", "09:50"),)}, ("prometheus",)),
    "logs alone": Crippled(sources=("logs",)),
    "kubectl alone": Crippled(sources=("snapshots", "events", "comments")),
    "snapshots alone": Crippled(sources=("snapshots",)),
    "Prometheus and comments, no job labels": Crippled({"job_labels": False}, ("prometheus", "comments")),
}
# those of the same options after each other, as Holder makes them soonest
ALIKE = sorted(WORLDS, key=lambda name: str(WORLDS[name].options))
_DEAR = ("prometheus", "logs")  # what is worth to be pulled once for several installs


class Late(NamedTuple):
    """How far an end of ours lies from the true one, how far off it may by its own word, and who told it."""

    off_s: float
    within_s: float
    source: str
    outcome: str


@dataclass
class Held:
    """One world's day: its truth and what came of it."""

    world: World
    crippled: Crippled
    ctx: Site
    day: Day

    @property
    def window(self) -> Window:
        """The UTC day."""
        return self.world.day

    def table(self, name: str) -> pd.DataFrame:
        """Return a table of the lake, of the day."""
        return schemas.to_frame(self.ctx.tables.read(name, self.window))

    @cached_property
    def truth(self) -> list[dict[str, Any]]:
        """The attempts that were created in the day, in order."""
        every = self.world.truth.attempts
        return schemas.rows_of(every[inside(every["created_at"], self.window)])

    @cached_property
    def pairs(self) -> list[tuple[dict[str, Any], dict[str, Any] | None]]:
        """Each row of `attempts` that was created in the day with the true attempt that it is about, None for no such."""
        by_name: dict[str, list[dict[str, Any]]] = {}
        for t in schemas.rows_of(self.world.truth.attempts):
            by_name.setdefault(t["job_name"], []).append(t)
        return [(r, _meant(r, by_name.get(r["job_name"], ()))) for r in schemas.rows_of(self.table("attempts"))]

    @cached_property
    def known(self) -> dict[str, dict[str, Any]]:
        """Our row of each true attempt that has one, by uid; two rows of one attempt are an error."""
        uids = Counter(t["uid"] for _, t in self.pairs if t)
        assert max(uids.values(), default=1) == 1, [u for u, n in uids.items() if n > 1]
        return {t["uid"]: r for r, t in self.pairs if t}

    def told(self, t: Mapping[str, Any]) -> str | None:
        """Return the best source that can tell how an attempt ended by the day's end, None where nothing does."""
        if pd.isna(t["ended_at"]) or t["ended_at"] >= instant(self.window.end):
            return None
        ways = {
            "condition": self.crippled.has("snapshots") and t["uid"] in self.listed,
            "event": self.crippled.has("events"),
            "sample": self.crippled.has("prometheus") and t["end_scraped"],
            "line": self.crippled.has("logs") and t["told_by_line"],
        }
        return next((way for way, there in ways.items() if there), None)

    def seen(self, t: Mapping[str, Any]) -> bool:
        """Tell whether any source shows an attempt."""
        scraped = self.crippled.has("prometheus") and t["scrapes"] > 0
        return bool(scraped or self.crippled.has("events") or self.told(t) or t["uid"] in self.shown)

    @cached_property
    def shown(self) -> set[str]:
        """The uids of jobs that a snapshot shows."""
        return {*self._snapshots["uid"].dropna()}

    @cached_property
    def listed(self) -> set[str]:
        """The uids of jobs whose end a snapshot shows."""
        ended = self._snapshots[["completed_at", "failed_at"]].notna().any(axis=1)
        return {*self._snapshots.loc[ended, "uid"].dropna()}

    @cached_property
    def _snapshots(self) -> pd.DataFrame:
        return schemas.to_frame(self.ctx.tables.read("job_snapshots", self.window.widen(0, 86_400 * 10**9)))

    def late(self) -> list[Late]:
        """Return of every end that ours and the truth have how far ours lies off, where ours says how far it may."""
        return [
            Late(
                (r["ended_at"] - t["ended_at"]).total_seconds(),
                r["end_uncertainty_s"],
                r["outcome_source"],
                r["outcome"],
            )
            for r, t in self.pairs
            if t and r["outcome"] in ENDED and pd.notna(t["ended_at"]) and pd.notna(r["end_uncertainty_s"])
        ]

    def outcomes(self) -> Counter[str]:
        """Count the attempts that began and ended in the day: right, unknown, wrong, not seen."""
        out: Counter[str] = Counter()
        for t in (t for t in self.truth if t["ended_at"] < instant(self.window.end)):
            r = self.known.get(t["uid"])
            ours = r["outcome"] if r else "not seen"
            out["right" if ours == t["outcome"] else "wrong" if ours in ENDED else ours] += 1
        return out

    def golden(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return ours and the true `golden`, by window and kind."""
        key = ["window_start", "window", "kind"]
        ours = self.table("golden").set_index(key)
        return ours, self.world.truth.golden.set_index(key).reindex(ours.index)

    def links(self) -> Counter[str]:
        """Count the links to runs that are right, null though there is a run, and wrong."""
        out: Counter[str] = Counter(right=0, null=0, wrong=0)
        for r, t in self.pairs:
            if t and t["kind"] in GOLDEN:
                ours, true = (x if isinstance(x, str) else None for x in (r["run_id"], t["run_id"]))
                out["right" if ours == true else "null" if ours is None else "wrong"] += true is not None or bool(ours)
        return out

    def incidents(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return the incidents that began in the day: the truth's and ours."""
        true = self.world.truth.incidents
        return schemas.rows_of(true[inside(true["started_at"], self.window)]), schemas.rows_of(self.table("incidents"))

    def audit(self) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
        """Return (alert, verdict, when expected) of the day: the truth's and ours."""
        true = self.world.truth.alert_audit
        first = true["expected_start"].fillna(true["actual_start"])
        columns = ["alert", "verdict", "expected_start"]
        frames = true[inside(first, self.window)], self.table("alert_audit")
        mine, ours = (sorted(_plain(f[columns]), key=str) for f in frames)
        return mine, ours

    def availability(self) -> tuple[tuple[int, int], tuple[int, int] | None]:
        """Return good and total of the day's builds and codegen-checks: the truth's and ours, None where that is unknown."""
        every = self.world.truth.attempts
        ended = every[every["kind"].isin(["build", "codegen-check"]) & inside(every["ended_at"], self.window)]
        row = self.table("slo").set_index("slo").loc["build_availability"]
        ours: tuple[int, int] | None = None if pd.isna(row["total"]) else (int(row["good"]), int(row["total"]))
        return (int((ended["outcome"] == "succeeded").sum()), len(ended)), ours


def _meant(r: Mapping[str, Any], same_name: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the true attempt of a name that a row is about: the same creation, else the one that was there."""
    if r["source"] in {"prometheus", "kubectl"}:
        return next((t for t in same_name if t["created_at"] == r["created_at"]), None)
    # what events or lines show first is there within its life
    there = [t for t in same_name if t["created_at"] <= r["created_at"]]
    return there[-1] if there and not there[-1]["deleted_at"] < r["created_at"] else None


def _plain(frame: pd.DataFrame) -> list[tuple[Any, ...]]:
    return [tuple(None if pd.isna(v) else v for v in row) for row in frame.itertuples(index=False)]


def inside(instants: pd.Series, window: Window) -> Any:
    """Tell which instants lie in a window."""
    return (instants >= instant(window.start)) & (instants < instant(window.end))


class Holder:
    """Pulls and computes crippled worlds. What worlds of the same options share is made once, if they follow each other.

    That is the world itself, and what a source which costs time gave of it: pulled into a lake of its own, and laid from
    there into the lake of each install that has this source.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._world: World | None = None
        self._pulled: dict[str, Path] = {}
        self._made = 0

    def hold(self, crippled: Crippled, seed: int = 7, **options: Any) -> Held:
        """Pull and compute the day of a crippled world."""
        world = World.make(seed=seed, **{**WHOLE, **options, **crippled.options})
        if self._world is None or self._world.options != world.options:
            self._world, self._pulled = world, {}
        world, date, folder = self._world, world.options.date, self._new()
        shared = [source for source in _DEAR if source in crippled.sources]
        for source in shared:
            shutil.copytree(self._lake_of(source, world), folder / "lake", dirs_exist_ok=True)
        # its Prometheus has told all that it will
        ctx = site(world, folder, crippled.sources, MemoryPrometheus(()))
        ctx = pull_day(ctx, world, date, crippled.sources, shared)
        return Held(world, crippled, ctx, compute(ctx, date))

    def _lake_of(self, source: str, world: World) -> Path:
        if source not in self._pulled:
            self._pulled[source] = self._new()
            pull_source(site(world, self._pulled[source], [source]), world, world.options.date, source)
        return self._pulled[source] / "lake"

    def _new(self) -> Path:
        self._made += 1
        return self._folder / str(self._made)


def markdown(found: Mapping[str, Held]) -> str:
    """Return the table of truth against ours: of each world every measure, the truth's number first."""
    rows = [{"world": name, **_measures(held)} for name, held in found.items()]
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([str(v) for v in row.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def _measures(held: Held) -> dict[str, str]:
    today = {t["uid"] for t in held.truth}
    outcomes, links, late = held.outcomes(), held.links(), held.late()
    failed = [t for t in held.truth if t["outcome"] == "failed" and t["ended_at"] < instant(held.window.end)]
    ours = [r for t in failed if (r := held.known.get(t["uid"])) and r["outcome"] == "failed"]
    by_source = Counter(r["outcome_source"] for r in ours)
    unknown = ", ".join(f"{outcomes[k]} {k}" for k in (*UNKNOWN, "not seen") if outcomes[k])
    outside = sum(abs(x.off_s) > x.within_s + 1e-6 for x in late)
    worst = max((abs(x.off_s) for x in late), default=0.0)
    return {
        "attempts: truth / seen": f"{len(held.truth)} / {len(held.known.keys() & today)}",
        "outcomes: right, unknown, wrong": f"{outcomes['right']}, {unknown or '0 unknown'}, {outcomes['wrong']} wrong",
        "failures: truth / ours (by)": f"{len(failed)} / {len(ours)} ({_listed(by_source) or 'none'})",
        "worst end off, outside its word": f"{worst:.1f} s, {outside}",
        "run links: right, null, wrong": f"{links['right']}, {links['null']}, {links['wrong']}",
        "golden: complete windows; of those wrong": _golden_said(held),
        "incidents: truth / ours; worst start, MTTR off": _incidents_said(held),
        "availability: truth / ours": " / ".join(
            "null" if x is None else f"{x[0]} of {x[1]}" for x in held.availability()
        ),
        "alert audit: truth / ours right, wrong": _audit_said(held),
    }


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{k} {n}" for k, n in sorted(counts.items()) if n)


def _golden_said(held: Held) -> str:
    ours, true = held.golden()
    whole = ours["complete"].astype(bool)
    columns = ("started", "finished", "failed", "backlog_max", "pending_max")
    wrong = {c: int((ours.loc[whole, c] != true.loc[whole, c]).sum()) for c in columns}
    lines = "lines null" if ours["build_ref_lines"].isna().all() else "lines right"
    return f"{int(whole.sum())} of {len(ours)}; {_listed(wrong) or 'none'}; {lines}"


def _incidents_said(held: Held) -> str:
    true, ours = held.incidents()
    if not ours:
        return f"{len(true)} / unknown" if not held.crippled.has("logs") else f"{len(true)} / 0"
    off = max(abs((b["started_at"] - a["started_at"]).total_seconds()) for a, b in zip(true, ours, strict=True))
    known = [abs(b["mttr_s"] - a["mttr_s"]) for a, b in zip(true, ours, strict=True) if pd.notna(b["mttr_s"])]
    return f"{len(true)} / {len(ours)}; {off:.1f} s, {f'{max(known):.1f} s' if known else 'null'}"


def _audit_said(held: Held) -> str:
    true, ours = held.audit()
    if not held.crippled.has("prometheus"):
        return f"{len(true)} / unknown"
    near = sum(any(o[:2] == t[:2] and _near(o[2], t[2]) for t in true) for o in ours)
    return f"{len(true)} / {near}, {len(ours) - near}"


def _near(a: Any, b: Any) -> bool:
    return (a is None) == (b is None) and (a is None or abs((a - b).total_seconds()) <= 60)


def main(seed: str = "7") -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory(prefix="aislot-held-") as folder:
        holder = Holder(Path(folder))
        found = {name: holder.hold(WORLDS[name], int(seed), **QUIET) for name in ALIKE}
        sys.stdout.write(markdown({name: found[name] for name in WORLDS}))


if __name__ == "__main__":
    main(*sys.argv[1:])
