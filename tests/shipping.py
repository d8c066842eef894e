"""What agents write to Loki of the events that the API server tells: the shapes of Alloy and of those that ship objects."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.model import Entry, instant_of

_ALLOY = "loki.source.kubernetes_events"


def fields(e: Mapping[str, Any]) -> dict[str, Any]:
    """Return what Alloy makes of an Event, in its order (event_controller.go)."""
    about = e["involvedObject"]
    found = {"name": about["name"], "kind": about.get("kind"), "objectAPIversion": about.get("apiVersion")}
    found |= {"objectRV": about.get("resourceVersion"), "eventRV": e["metadata"].get("resourceVersion")}
    found |= {"sourcecomponent": (e.get("source") or {}).get("component"), "reason": e.get("reason")}
    found |= {"type": e.get("type"), "count": e.get("count")}
    return {k: v for k, v in found.items() if v} | {"msg": e.get("message", "")}


def logfmt(e: Mapping[str, Any]) -> str:
    """Write an Event as Alloy does by default: only the message is quoted, and a space stands behind each pair."""
    return "".join(f"{k}={json.dumps(v) if k == 'msg' else v} " for k, v in fields(e).items())


def alloy_json(e: Mapping[str, Any]) -> str:
    """Write an Event as Alloy does with `log_format = "json"`: Go sorts the keys."""
    return json.dumps(fields(e), sort_keys=True, separators=(",", ":"))


SHAPES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "alloy": logfmt,
    "alloy-json": alloy_json,
    "exporter": lambda e: json.dumps({**e, "clusterName": ""}),
    "eventrouter": lambda e: json.dumps({"verb": "ADDED", "event": e, "old_event": None}),
    "k8sobjects": lambda e: json.dumps({"object": e, "type": "ADDED"}),
}
WITHOUT_UID = ("alloy", "alloy-json")


def shipped(e: Mapping[str, Any], shape: str, delay_ns: int = 0) -> Entry:
    """Return the entry that an agent sends of an Event; Alloy's has the Event's own instant."""
    ts = instant_of(e.get("lastTimestamp") or e["eventTime"]) + (0 if shape in WITHOUT_UID else delay_ns)
    labels = {"job": _ALLOY if shape in WITHOUT_UID else shape, "instance": "agent-0"}
    if shape in WITHOUT_UID:
        labels["namespace"] = e["involvedObject"]["namespace"]
    return Entry(ts, SHAPES[shape](e), labels, {})
