"""Log lines of an agent that ships Kubernetes events -> rows of `events`.

Read are Alloy's `loki.source.kubernetes_events` (logfmt or JSON: the object's name and kind, no uid; its namespace is a
label, its instant the entry's own), and the whole Event as JSON (kubernetes-event-exporter, Fluent Bit), also wrapped
(eventrouter: `event`, OpenTelemetry's k8sobjects: `object`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from pipeline import logfields
from pipeline.model import Entry, instant_text
from pipeline.sources import kubectl, rows

_WRAPPED = ("event", "object")
_ABOUT = ("involvedObject", "regarding")
_ALLOY_LABEL = "namespace"


def event_of(entry: Entry, namespace_label: str) -> dict[str, Any] | None:
    """Return the event that a line is as a row of `events`, None where it is none."""
    fields = logfields.fields(entry.line)
    try:
        return None if fields is None else _row(fields, entry, namespace_label)
    except kubectl.UNREADABLE:
        return None


def _row(fields: Mapping[str, Any], entry: Entry, namespace_label: str) -> dict[str, Any] | None:
    for e in (fields, *(fields[k] for k in _WRAPPED if isinstance(fields.get(k), Mapping))):
        if any(isinstance(e.get(k), Mapping) for k in _ABOUT):
            made = {"creationTimestamp": instant_text(entry.ts)} | (e.get("metadata") or {})
            return kubectl.event_row({**e, "metadata": made})
    return _alloy(fields, entry, namespace_label)


def _alloy(fields: Mapping[str, Any], entry: Entry, namespace_label: str) -> dict[str, Any] | None:
    """Read what Alloy writes: it always names an object and has a message, the rest where it is not empty."""
    kind, reason = fields.get("kind") or None, fields.get("reason") or None
    if not (isinstance(fields.get("name"), str) and fields["name"] and "msg" in fields and (kind or reason)):
        return None
    return kubectl.event_row(
        {
            "involvedObject": {
                "kind": kind,
                "name": fields["name"],
                "namespace": entry.labels.get(namespace_label) or entry.labels.get(_ALLOY_LABEL),
            },
            "lastTimestamp": instant_text(entry.ts),
            "metadata": {},
            "reason": reason,
            "type": fields.get("type") or None,
            "message": fields["msg"],
            "count": fields.get("count"),
        }
    )


def table(found: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Return such rows as `events`."""
    return rows.table("events", list(found))


def within(found: Iterable[dict[str, Any]], namespaces: Sequence[str]) -> list[dict[str, Any]]:
    """Return the events of these namespaces: names or whole-name patterns."""
    whole = re.compile("|".join(f"(?:{n})" for n in namespaces))
    return [e for e in found if isinstance(e["namespace"], str) and whole.fullmatch(e["namespace"])]
