"""Pages: by what they are one and the same, and which of them a maintenance silences."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from pipeline import catalog, schemas
from pipeline.signals.pages import annotated
from pipeline.signals.slo import Exclusion
from tests.tables import at, line, lines, span, table

RULES = catalog.load().alerts
BURST, MANIFEST = "AI_SLOT_BUILD_FAILURE_BURST", "AI_SLOT_BUILD_MANIFEST_UNKNOWN_PERSISTENT"
RATE = "AI_SLOT_BUILD_FAILURE_RATE_ELEVATED"
RELEASE = Exclusion("maintenance", span("02:00", "03:00"), "anna", "release")
AFTER = Exclusion("maintenance", span("03:00", "03:30"), "bob")


def _row(alert: str, *times: str | None) -> dict[str, Any]:
    columns = ("expected_start", "expected_end", "actual_start", "actual_end")
    verdict = "missed" if times[0] else "unexpected"
    return {"alert": alert, "verdict": verdict} | {
        c: t and at(t) for c, t in zip(columns, (*times, None, None)[:4], strict=True)
    }


def _one(row: dict[str, Any], failed: Any = (), told: Any = (), entries: Any = (RELEASE, AFTER)) -> dict[str, Any]:
    found = annotated(table("alert_audit", row), RULES, table("failures", *failed), lines(*told), entries)
    (got,) = schemas.rows_of(found)
    assert got["verdict"] == row["verdict"]
    return {c: None if pd.isna(got[c]) else got[c] for c in ("silenced", "dedup_key")}


@pytest.mark.parametrize(
    ("row", "by"),
    [
        (_row(BURST, "02:00", "03:00"), "anna"),
        (_row(BURST, "01:59:59", "02:10"), None),
        (_row(BURST, "03:10", "03:31"), None),  # what outlasts it should have fired as it ended
        (_row(BURST, "02:50", None), None),
        (_row(BURST, "02:50", "03:10"), "anna, release; maintenance"),  # two that follow each other are one
        (_row(BURST, None, None, "02:10", "02:20"), "anna"),
        (_row(RATE, "02:10", "02:20"), None),  # a ticket wakes nobody
    ],
)
def test_a_page_that_lies_in_a_maintenance_is_silenced_by_it(row: dict[str, Any], by: str | None) -> None:
    got = _one(row)["silenced"]
    assert (got is None) == (by is None)
    assert by is None or by in got


def test_an_outage_silences_nothing() -> None:
    outage = Exclusion("outage", span("02:00", "03:00"), confirmed_by="them")
    assert _one(_row(BURST, "02:10", "02:20"), entries=[outage])["silenced"] is None


def test_the_key_is_namespace_signature_and_kind_of_what_was_counted() -> None:
    of: dict[str, Any] = {"namespace": "codex-k8s-prod", "signatures": ["manifest-unknown"], "kind": "build"}
    failed = [of | {"failed_at": at(t)} for t in ("09:00", "09:05:01")]
    failed += [of | {"failed_at": at("09:20"), "kind": "mirror", "signatures": [], "namespace": "slot"}]
    assert _one(_row(BURST, "09:20", "09:30"), failed)["dedup_key"] == (
        "codex-k8s-prod,slot/manifest-unknown/build,mirror"
    )
    assert _one(_row(BURST, "09:20", "09:30"), failed[2:])["dedup_key"] == "slot/-/mirror"
    assert _one(_row(BURST, None, None, "09:20", "09:30"), failed)["dedup_key"] is None
    assert _one(_row(RATE, "09:20", "09:30"), failed)["dedup_key"] is None


def test_the_key_of_a_page_about_lines_has_its_rules_signature_alone() -> None:
    told = [line("09:00", "manifest-unknown", "cache-retrieval", kind="build"), line("08:44", "manifest-unknown")]
    assert _one(_row(MANIFEST, "09:00", "09:10"), told=told)["dedup_key"] == "codex-k8s-prod/manifest-unknown/build"


def test_without_rows_the_table_keeps_its_shape() -> None:
    found = annotated(table("alert_audit"), RULES, table("failures"), lines(), [])
    assert (found.dtypes == schemas.empty_frame("alert_audit").dtypes).all()
