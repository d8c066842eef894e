"""Every figure of a day's page has an id, and every id leads to a definition and to rows."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pipeline.errors import UsageError
from pipeline.report.data import ReportData
from pipeline.settings import load
from pipeline.steps.compute import derive
from pipeline.steps.context import Context, open_context
from pipeline.steps.explain import as_json, explained, ids
from pipeline.steps.report import report_data
from tests.command import aislot
from tests.report_page import read_page
from tests.tables import DATE


@pytest.fixture(scope="module")
def told(demo: Path) -> tuple[Context, ReportData]:
    ctx = open_context(load(None, "", {}, {"lake.uri": str(demo / "lake")}), 2 * 10**18, print)
    return ctx, report_data(ctx, derive(ctx, DATE))


def test_every_id_is_an_anchor_of_the_page_and_stands_there_once(demo: Path, told: tuple[Context, ReportData]) -> None:
    page = read_page((demo / f"out/daily/{DATE}/report.html").read_text("utf-8"))
    anchors = [e.attributes["id"] for e in page.elements if "id" in e.attributes]
    assert len(anchors) == len(set(anchors))
    assert set(ids(told[1])) <= set(anchors)
    # what is a row of a table of figures has an id; tables of numbers below a chart repeat what the chart shows
    rows = [e for e in page.all("tr") if "id" in e.attributes]
    assert {e.attributes["id"] for e in rows} == set(ids(told[1]))


def test_every_id_leads_to_a_definition_and_to_rows(told: tuple[Context, ReportData]) -> None:
    ctx, data = told
    for figure in ids(data):
        found = explained(ctx, data, figure)
        assert found.what, figure
        assert found.definition.endswith("."), figure
        assert found.queries or figure.startswith("signals-queue"), figure
        assert json.dumps(as_json(found)), figure


@pytest.mark.parametrize(
    ("figure", "table", "counted"),
    [
        ("signals-traffic", "attempts", lambda d: d.totals["build+mirror"]["started"]),
        ("signals-errors", "attempts", lambda d: d.totals["build+mirror"]["finished"]),
        ("signals-codegen-check", "attempts", lambda d: d.totals["codegen-check"]["finished"]),
        ("signals-latency", "attempts", lambda d: d.totals["build"]["durations"]),
        ("signals-backlog", "attempts", lambda d: d.totals["all"]["backlog_max"]),
        ("stream-manifest-unknown", "logs", lambda d: d.totals["all"]["manifest_unknown_lines"]),
        ("stream-build-ref", "logs", lambda d: d.totals["all"]["build_ref_lines"]),
    ],
)
def test_the_rows_are_as_many_as_the_figure_says(
    told: tuple[Context, ReportData], figure: str, table: str, counted: object
) -> None:
    ctx, data = told
    rows = explained(ctx, data, figure).tables[table]
    assert callable(counted)
    n = counted(data)
    assert n > 0
    assert len(rows) == n if figure != "signals-backlog" else len(rows) >= n


def test_an_incident_leads_to_its_failures(told: tuple[Context, ReportData]) -> None:
    ctx, data = told
    for i in data.incidents.to_dict("records"):
        assert len(explained(ctx, data, str(i["incident_id"])).tables["failures"]) == i["failures"]


def test_a_failure_leads_to_the_lines_of_its_attempt(told: tuple[Context, ReportData]) -> None:
    ctx, data = told
    f = data.failures[data.failures["lines"] > 0].iloc[0]
    found = explained(ctx, data, str(f["failure_id"])).tables
    assert len(found["failures"]) == 1
    assert len(found["attempts"]) == 1
    assert set(found["logs"]["job"].dropna()) <= {f["job_name"]}
    assert len(found["logs"]) > 0


def test_an_id_that_there_is_not_names_some_that_there_are(told: tuple[Context, ReportData]) -> None:
    with pytest.raises(UsageError, match=re.escape("no figure 'f-nothing'")) as e:
        explained(*told, "f-nothing")
    assert "f-" in str(e.value.fix)


def test_the_command_says_it_to_people_and_to_programs(demo: Path, told: tuple[Context, ReportData]) -> None:
    one = ["explain", "signals-errors", "--date", str(DATE), "--lake", "lake"]
    said = aislot(*one, cwd=demo)
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith("signals-errors: ")
    assert "kube_job_" in said.stdout
    found = json.loads(aislot(*one, "--json", cwd=demo).stdout)
    assert len(found["tables"]["attempts"]) == told[1].totals["build+mirror"]["finished"]
    assert aislot("explain", "x", "--date", str(DATE), "--lake", "lake", cwd=demo).returncode == 2
