"""What the SREs' alerts should have said, counted in the plainest way: look at every instant at which a count can change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.model import NS

BURST, PERSISTENT = "AI_SLOT_BUILD_FAILURE_BURST", "AI_SLOT_BUILD_MANIFEST_UNKNOWN_PERSISTENT"
REF_INVALID = "AI_SLOT_CODEGEN_CHECK_BUILD_REF_INVALID"
RATE, RECOVERY = "AI_SLOT_BUILD_FAILURE_RATE_ELEVATED", "AI_SLOT_BUILD_MTTR_SLO_RISK"
ABOUT = {"cache": {BURST, PERSISTENT, RATE, RECOVERY}, "build-ref": {REF_INVALID, RECOVERY}}
QUARTER, _HOUR, _HALF, _DAY = 900 * NS, 3600 * NS, 1800 * NS, 86_400 * NS


@dataclass(frozen=True)
class Held:
    """An interval in which an alert's condition held, in ns; `end` None: it still does."""

    alert: str
    start: int
    end: int | None


def counted(alert: str, events: Sequence[int], window: int, threshold: int) -> list[Held]:
    """Return when at least `threshold` events lay in the window before."""
    instants = sorted({*events, *(e + window for e in events)})
    return _intervals(alert, instants, lambda t: sum(t - window < e <= t for e in events) >= threshold)


def rated(finished: Sequence[int], failed: Sequence[int]) -> list[Held]:
    """Return when more than 5 % of at least five builds that finished within an hour had failed."""
    instants = sorted({*finished, *(e + _HOUR for e in finished)})

    def high(t: int) -> bool:
        n, k = (sum(t - _HOUR < e <= t for e in of) for of in (finished, failed))
        return n >= 5 and k * 20 > n

    return _intervals(RATE, instants, high)


def slow_recoveries(incidents: Iterable[tuple[int, int | None]]) -> list[Held]:
    """Return when an incident was half an hour old or had been within a day."""
    out: list[Held] = []
    for start, end in sorted(incidents, key=lambda i: i[0]):
        if end is not None and end - start <= _HALF:
            continue
        begin, stop = start + _HALF, None if end is None else end + _DAY
        last = out[-1] if out else None
        if last and (last.end is None or begin <= last.end):
            out[-1] = Held(RECOVERY, last.start, None if stop is None or last.end is None else max(stop, last.end))
        else:
            out.append(Held(RECOVERY, begin, stop))
    return out


def audit(expected: Sequence[Held], actual: Sequence[Held], tolerance: int) -> list[dict[str, Any]]:
    """Hold what should have fired against what did; instants in ns."""
    rows: list[dict[str, Any]] = []
    for e in expected:
        hits = [a for a in actual if a.alert == e.alert and _meet(e, a, tolerance)]
        first = min((h.start for h in hits), default=None)
        ends = [h.end for h in hits if h.end is not None]
        rows.append(
            {"alert": e.alert, "expected_start": e.start, "expected_end": e.end, "actual_start": first}
            | {"actual_end": max(ends, default=None), "verdict": "matched" if hits else "missed"}
            | {"delay_s": None if first is None else (first - e.start) / NS}
        )
    alone = [a for a in actual if not any(a.alert == e.alert and _meet(e, a, tolerance) for e in expected)]
    nothing = {"expected_start": None, "expected_end": None, "verdict": "unexpected", "delay_s": None}
    rows += [{"alert": a.alert, "actual_start": a.start, "actual_end": a.end} | nothing for a in alone]
    return rows


def _intervals(alert: str, instants: Sequence[int], holds: Callable[[int], bool]) -> list[Held]:
    out: list[Held] = []
    for t in instants:
        still = bool(out) and out[-1].end is None
        if holds(t) and not still:
            out.append(Held(alert, t, None))
        elif still and not holds(t):
            out[-1] = Held(alert, out[-1].start, t)
    return out


def _meet(a: Held, b: Held, tolerance: int) -> bool:
    return (b.end is None or a.start < b.end + tolerance) and (a.end is None or b.start < a.end + tolerance)
