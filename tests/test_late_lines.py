"""Lines that come after their day was pulled: a recount finds them, only they are read, what rests on them is made again."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.lake.records import Records
from pipeline.lake.store import Store
from pipeline.lake.tables import Tables
from pipeline.model import NS, PullRecord, Window, instant_text
from tests.command import aislot, digests
from tests.servers.run import LokiServer

pytestmark = [pytest.mark.live, pytest.mark.command]
DATE = dt.date(2026, 3, 5)
DAY = Window.of_day(DATE)


class Site:
    """A lake and the Loki that it is pulled from."""

    def __init__(self, server: LokiServer, folder: Path, namespace: str) -> None:
        self.server, self.folder = server, folder
        self.stream = {"namespace": namespace, "app": "worker"}
        (folder / "aislot.toml").write_text(
            f'[loki]\nurl = "{server.url}"\nselectors = [\'{{namespace="{namespace}"}}\']\n', encoding="utf-8"
        )
        self.store = Store(str(folder / "lake"))

    def push(self, *lines: tuple[int, str], **labels: str) -> None:
        """Push lines; what comes late needs a stream of its own, for Loki refuses what is an hour behind its stream."""
        self.server.push([({**self.stream, **labels}, [(DAY.start + at, text, {}) for at, text in lines])])

    def run(self, *arguments: str) -> str:
        done = aislot(*arguments, cwd=self.folder)
        assert done.returncode in {0, 4}, done.stderr
        return done.stdout + done.stderr

    def pull(self) -> str:
        return self.run("-v", "pull", "logs", "--date", str(DATE))

    def records(self) -> list[PullRecord]:
        return Records(self.store).of("logs", DAY)

    def lines(self) -> list[str]:
        return list(Tables(self.store).read("logs", DAY)["line"].to_pylist())


@pytest.fixture
def site(loki_server: LokiServer, tmp_path: Path) -> Site:
    return Site(loki_server, tmp_path, f"late-{tmp_path.name[-12:].strip('0').replace('_', '-')}-x")


HOUR = 3600 * NS
SPREAD = [(h * HOUR + n * 37 * NS, f"{h} {n}") for h in range(0, 24, 3) for n in range(40)]


def test_a_pull_that_finds_nothing_new_reads_and_changes_nothing(site: Site) -> None:
    site.push(*SPREAD)
    site.pull()
    before = digests(site.folder / "lake")
    requests = [r.proof["requests"] for r in site.records()]
    assert "0 h read" in site.pull()
    assert digests(site.folder / "lake") == before
    assert [r.proof["requests"] for r in site.records()] == requests


@pytest.mark.parametrize("at", [0, 7 * HOUR, 24 * HOUR - 1])
def test_a_late_line_is_found_and_little_is_read_for_it(site: Site, at: int) -> None:
    site.push(*SPREAD)
    site.pull()
    before = digests(site.folder / "lake")
    site.push((at, "late"), pod="another")
    said = site.pull()
    assert sorted(site.lines()) == sorted([*(text for _, text in SPREAD), "late"])
    assert "24 h, 321 lines" in said
    changed = {k for k, v in digests(site.folder / "lake").items() if before.get(k) != v}
    assert 1 <= len(changed) <= 2
    assert sum(r.proof["late"] for r in site.records()) == 1
    assert all(r.complete and r.proof["counted"] == r.proof["reconciled"] == r.rows for r in site.records())
    recount = Records(site.store).recount("logs", DATE)
    assert recount is not None
    assert recount["late"] == 1


def test_a_late_stream_is_found_and_its_labels_are_right(site: Site) -> None:
    site.push(*SPREAD)
    site.pull()
    site.push((9 * HOUR + 5, "of another pod"), pod="p-1")
    site.pull()
    rows = Tables(site.store).read("logs", DAY, ["line", "pod"]).to_pylist()
    assert {"line": "of another pod", "pod": "p-1"} in rows
    assert [r["pod"] for r in rows].count(None) == len(SPREAD)


def test_what_the_server_no_longer_has_stays_in_the_lake_and_is_said(site: Site, loki_server: LokiServer) -> None:
    site.push(*SPREAD)
    site.pull()
    other = Site(loki_server, site.folder, "nobody-writes-here")
    settings = site.folder / "aislot.toml"
    text = settings.read_text(encoding="utf-8")
    assert other.lines() == site.lines()
    # the same question, of which the server knows nothing any more: as after its retention
    for record in site.records():
        changed = {
            **record.to_json(),
            "proof": {**record.proof, "steps": {**record.proof["steps"], "gone": [2, *[0] * 359]}},
        }
        Records(site.store).put(PullRecord.from_json(changed))
    settings.write_text(text.replace("nobody-writes-here", site.stream["namespace"]), encoding="utf-8")
    site.pull()
    assert len(site.lines()) == len(SPREAD)
    assert sum(r.proof.get("gone_from_server", 0) for r in site.records()) == 2 * 24


def test_the_scheduled_job_counts_earlier_days_again_and_makes_what_changed_again(site: Site) -> None:
    site.push(*SPREAD)
    site.run("daily", "--date", str(DATE))
    report = site.folder / "out" / "daily" / str(DATE) / "summary.json"
    assert json.loads(report.read_text(encoding="utf-8"))["data"]["loki"]["rows"] == len(SPREAD)
    site.push((12 * HOUR + 3, "late: retrieving image from cache: MANIFEST_UNKNOWN: unknown"), pod="another")
    said = site.run("daily", "--date", str(DATE + dt.timedelta(days=1)))
    assert "1 late lines" in said
    assert f"restated {DATE}" in said
    summary = json.loads(report.read_text(encoding="utf-8"))
    assert summary["data"]["loki"]["rows"] == len(SPREAD) + 1
    assert summary["golden"]["all"]["manifest_unknown_lines"] == 1
    assert Records(site.store).restated() == []


def test_status_says_how_each_day_is_known(site: Site) -> None:
    assert aislot("status", cwd=site.folder).returncode == 5
    site.push(*SPREAD)
    site.pull()
    site.push((3 * HOUR + 1, "late"), pod="another")
    site.pull()
    said = site.run("status")
    assert str(DATE) in said
    assert "321 of 321 counted by Loki, every 10 s of every app" in said
    assert "1 late line, read" in said
    assert "– jobs" in said
    (day,) = json.loads(aislot("status", "--json", cwd=site.folder).stdout)["days"]
    logs: dict[str, Any] = day["sources"]["logs"]
    assert (day["date"], logs["complete"], logs["rows"], logs["gaps"]) == (str(DATE), True, 321, [])
    assert logs["proof"]["counted"] == logs["proof"]["reconciled"] == 321
    assert logs["proof"]["version"]


def test_a_step_that_stays_short_is_named_with_what_came(site: Site) -> None:
    site.push(*SPREAD)
    site.pull()
    record = site.records()[3]
    at = instant_text(record.window.start + 10 * NS)
    short = {**record.to_json(), "complete": False, "proof": {**record.proof, "short": {at: [4, 5]}}}
    Records(site.store).put(PullRecord.from_json({**short, "gaps": [[record.window.start, record.window.start + NS]]}))
    assert "in 1 step 4 rows came of 5 counted" in site.run("status")
    site.pull()
    assert all(r.complete for r in site.records())
