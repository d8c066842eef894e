"""Events that an agent shipped to a real Loki, through the command: they date attempts, and prove nothing complete."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline import schemas
from pipeline.lake.records import Records
from pipeline.lake.store import Store
from pipeline.lake.tables import Tables
from pipeline.model import NS, PullRecord, Window, instant_text
from tests import shipping
from tests.command import aislot, digests
from tests.fake_loki import START
from tests.servers.run import LokiServer
from tests.tables import DATE, DAY
from tests.test_kubectl import BUILD, event

pytestmark = pytest.mark.command
NAMESPACE = "codex-k8s-prod"


def told(second: float, reason: str, uid: str) -> dict[str, Any]:
    """Return an event of a build job, so long after 9."""
    stamp = instant_text(START + round(second * NS))
    about = {"kind": "Job", "namespace": NAMESPACE, "name": BUILD, "uid": uid, "apiVersion": "batch/v1"}
    meta = {"uid": f"{uid}-{reason}", "namespace": NAMESPACE, "creationTimestamp": stamp, "resourceVersion": "7"}
    kind = "Warning" if reason == "BackoffLimitExceeded" else "Normal"
    return event(metadata=meta, involvedObject=about, reason=reason, type=kind, message=reason, lastTimestamp=stamp)


LIVES = [
    told(0, "SuccessfulCreate", "u1"),
    told(298, "BackoffLimitExceeded", "u1"),
    told(300, "SuccessfulCreate", "u2"),
    told(900, "Completed", "u2"),
]


def ship(server: LokiServer, site: str, shape: str, *events: Mapping[str, Any], also: str = "") -> None:
    """Push events as an agent of this shape does, under a label of their own."""
    entries = [shipping.shipped(e, shape, delay_ns=2 * NS) for e in events]
    server.push([({**e.labels, "site": site}, [(e.ts, e.line)]) for e in entries])
    if also:
        server.push([({"job": "agent", "site": site}, [(START, also)])])


def pull(folder: Path, url: str, site: str, *what: str, code: int = 0, kubernetes: str = "") -> str:
    """Pull a day's events into the folder's lake, and say what the command said."""
    (folder / "aislot.toml").write_text(
        f'[loki]\nurl = "{url}"\nevents = \'{{site="{site}"}}\'\n[kubernetes]\n{kubernetes}', encoding="utf-8"
    )
    done = aislot("pull", *(what or ("events",)), "--date", str(DATE), cwd=folder)
    assert done.returncode == code, done.stderr
    return done.stderr


def table(folder: Path, name: str) -> pd.DataFrame:
    return schemas.to_frame(Tables(Store(str(folder / "lake"))).read(name, DAY))


def record(folder: Path) -> PullRecord:
    (found,) = Records(Store(str(folder / "lake"))).of("events", DAY)
    return found


@pytest.mark.parametrize("shape", shipping.SHAPES)
def test_events_of_every_shape_date_the_attempts(loki_server: LokiServer, tmp_path: Path, shape: str) -> None:
    ship(loki_server, f"shape-{shape}", shape, *LIVES, also="started to watch")
    said = pull(tmp_path, loki_server.url, f"shape-{shape}")
    assert "4 events   5 lines of 5 counted by Loki; 1 are no events" in said
    kept = record(tmp_path)
    assert (kept.source, kept.complete, kept.rows, kept.gaps) == ("kubernetes", None, 4, (DAY,))
    before = digests(tmp_path / "lake")
    pull(tmp_path, loki_server.url, f"shape-{shape}")
    assert digests(tmp_path / "lake") == before
    assert aislot("compute", "--date", str(DATE), cwd=tmp_path).returncode in {0, 4}
    attempts = table(tmp_path, "attempts")
    assert attempts["outcome"].tolist() == ["failed", "succeeded"]
    assert [t.value for t in attempts["ended_at"]] == [START + 298 * NS, START + 900 * NS]
    assert set(attempts["outcome_source"]) == {"event"}
    shown = json.loads(aislot("status", "--json", cwd=tmp_path).stdout)
    assert "5 lines of 5 counted by Loki" in json.dumps(shown)


def test_two_agents_and_kubectl_tell_of_each_attempt_once(loki_server: LokiServer, tmp_path: Path) -> None:
    ship(loki_server, "three", "alloy", *LIVES)
    ship(loki_server, "three", "alloy-json", *LIVES)
    ship(loki_server, "three", "exporter", *LIVES[1:3])
    (tmp_path / "dump").mkdir()
    (tmp_path / "dump" / "events.json").write_text(json.dumps({"items": LIVES[:1]}))
    pull(tmp_path, loki_server.url, "three", kubernetes='dump = "dump"')
    kept = record(tmp_path)
    hour = Window(START - 3600 * NS, START + 1)  # before the newest of the list
    assert kept.complete is None
    assert list(kept.gaps) == [Window(DAY.start, hour.start), Window(hour.end, DAY.end)]
    assert aislot("compute", "--date", str(DATE), cwd=tmp_path).returncode in {0, 4}
    assert table(tmp_path, "attempts")["uid"].tolist()[0] == "u1"
    assert table(tmp_path, "attempts")["outcome"].tolist() == ["failed", "succeeded"]


def test_where_nothing_was_shipped_nothing_is_claimed(loki_server: LokiServer, tmp_path: Path) -> None:
    ship(loki_server, "elsewhere", "alloy", *LIVES)
    pull(tmp_path, loki_server.url, "nobody")
    assert (record(tmp_path).complete, record(tmp_path).rows) == (None, 0)
    said = pull(tmp_path, loki_server.url, "elsewhere", kubernetes='namespaces = ["other"]')
    assert "0 events   4 lines of 4 counted by Loki; 4 of other namespaces" in said


def test_a_loki_that_is_away_is_said_and_what_kubectl_told_is_kept(tmp_path: Path) -> None:
    (tmp_path / "dump").mkdir()
    (tmp_path / "dump" / "events.json").write_text(json.dumps({"items": LIVES}))
    said = pull(tmp_path, "http://no-such-host.invalid", "x", code=3, kubernetes='dump = "dump"')
    assert "loki at http://no-such-host.invalid: no such host" in said
    assert len(table(tmp_path, "events")) == len(LIVES)
