"""Alertmanager: what fires now. It keeps no history, so that is all it can be asked (API v2, GET /alerts)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.errors import Transient
from pipeline.sources import rows
from pipeline.sources.http import Door, Reply

SOURCE = "alertmanager"
_EVERYTHING = dict.fromkeys(("active", "silenced", "inhibited", "unprocessed"), "true")


@dataclass(frozen=True)
class Listed:
    """The alerts of some names that fire at an instant, as rows of `alerts`; `suppressed`: silenced or inhibited ones."""

    rows: pa.Table
    suppressed: int


def listed(door: Door, severities: Mapping[str, str], now: int) -> Listed:
    """Ask for the alerts of these names, each with the severity that it has unless it says itself. Raises SourceError."""
    return door.get("/api/v2/alerts", _EVERYTHING, check=lambda reply: _listed(reply, severities, now))


def _listed(reply: Reply, severities: Mapping[str, str], now: int) -> Listed:
    answer = reply.json()
    no_alerts = Transient("the answer is no list of alerts", "check alertmanager.url: Alertmanager's own address")
    if not isinstance(answer, list):
        raise no_alerts
    try:
        ours = [a for a in answer if a["labels"]["alertname"] in severities]
        suppressed = sum(a["status"]["state"] == "suppressed" for a in ours)
        return Listed(rows.table("alerts", [_row(a, severities, now) for a in ours]), suppressed)
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise no_alerts from e


def _row(a: Mapping[str, Any], severities: Mapping[str, str], now: int) -> dict[str, Any]:
    """Read an alert. Of one that fires `endsAt` is when it would be taken for over if nobody said so again."""
    labels = {k: v for k, v in a["labels"].items() if k != "alertname"}
    name, ended = a["labels"]["alertname"], rows.instant(a["endsAt"])
    return {
        "started_at": rows.instant(a["startsAt"]),
        "ended_at": ended if ended <= now else None,
        "alert": name,
        "severity": labels.get("severity") or severities[name],
        "labels": sorted(labels.items()),
        "source": SOURCE,
    }
