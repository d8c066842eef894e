"""What the SREs know a page by: its deduplication key, and the maintenance that silences it (domain, section 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from pipeline import schemas
from pipeline.model import NS, Window, merge
from pipeline.rules import AlertRule
from pipeline.signals.alerts import lines_of
from pipeline.signals.intervals import Span
from pipeline.signals.slo import MAINTENANCE, Exclusion

PAGE = "page"
_UNKNOWN = "-"


def annotated(
    audit: pd.DataFrame,
    rules: Sequence[AlertRule],
    failures: pd.DataFrame,
    lines: pd.DataFrame,
    entries: Sequence[Exclusion],
) -> pd.DataFrame:
    """Return `alert_audit` with `silenced` and `dedup_key` filled for pages; tickets wake nobody and have neither.

    `silenced` names the maintenance that the whole expected interval lies in (of an unexpected page the actual one): what
    outlasts it should have fired as it ended. `dedup_key` is `namespace/error signature/job kind` of what the condition
    counted as its threshold was reached, several of one by commas, `-` for none; unknown where nothing was expected.
    """
    pages: Mapping[str, AlertRule] = {r.name: r for r in rules if r.severity == PAGE}
    maintenance = [e for e in entries if e.kind == MAINTENANCE]
    counted = {name: _counted(rule, failures, lines) for name, rule in pages.items() if (audit["alert"] == name).any()}
    rows = []
    for row in schemas.rows_of(audit):
        rule = pages.get(row["alert"])
        if rule is not None:
            row |= {"silenced": _silenced(row, maintenance), "dedup_key": _key(rule, row, counted[rule.name])}
        rows.append(row)
    return schemas.tidy("alert_audit", pd.DataFrame(rows)) if rows else audit


def _silenced(row: Mapping[str, Any], maintenance: Sequence[Exclusion]) -> str | None:
    of = "actual" if pd.isna(row["expected_start"]) else "expected"
    start, end = row[f"{of}_start"], row[f"{of}_end"]
    if pd.isna(end) or not silences(maintenance, (start.value, end.value)):
        return None
    return "; ".join(str(e) for e in maintenance if e.window.intersect(Window(start.value, end.value)))


def silences(maintenance: Sequence[Exclusion], span: Span) -> bool:
    """Tell whether the whole of a page lies in maintenance; what still holds does not."""
    start, end = span
    return end is not None and any(w.covers(Window(start, end)) for w in merge(e.window for e in maintenance))


def _counted(rule: AlertRule, failures: pd.DataFrame, lines: pd.DataFrame) -> pd.DataFrame:
    """Return what a rule counts, in time order: `at`, `namespace`, `signatures`, `kind`."""
    if rule.measure == "signature_lines":
        mine = lines_of(rule, lines).rename(columns={"ts": "at"})
    else:
        mine = failures[failures["kind"].isin(rule.kinds)] if rule.kinds else failures
        mine = mine.rename(columns={"failed_at": "at"})
    return mine[["at", "namespace", "signatures", "kind"]].sort_values("at", kind="stable")


def _key(rule: AlertRule, row: Mapping[str, Any], counted: pd.DataFrame) -> str | None:
    if pd.isna(row["expected_start"]):
        return None
    reached = row["expected_start"]
    since = reached - pd.Timedelta(round(rule.window_s * NS), unit="ns")
    counted = counted.iloc[slice(*counted["at"].searchsorted([since, reached], "right"))]
    signatures = {s for found in counted["signatures"] for s in found}
    parts = (set(counted["namespace"].dropna()), signatures & set(rule.signatures or signatures))
    return "/".join(",".join(sorted(p)) or _UNKNOWN for p in (*parts, set(counted["kind"].dropna())))
