"""What a real cluster without nodes said in nine minutes: the judge of how attempts are put together.

`cluster.tar.xz` holds, as they were printed: `samples.json` (Prometheus's raw answer, a scrape every 15 s, of
kube-state-metrics 2.19 in front of Kubernetes 1.36), `events.json` and `jobs-N.json` (`kubectl get -o json`; four
snapshots), `metrics-N.txt` (what kube-state-metrics exposed at the same moments) and `truth.json` (what was really done to
each job, by uid: 101 attempts under 89 names, 24 of them failed, 11 of those retried two seconds later).

`alertmanager.json` is what a real Alertmanager 0.28.1 answered at `now` to `GET /api/v2/alerts` with everything asked for:
two of the catalogue's alerts that fire, one silenced, one inhibited, and the watchdog. One that was over it lists no more.
`victoriametrics.py` tells of its own recording.
"""

from __future__ import annotations

import functools
import json
import tarfile
from pathlib import Path
from typing import Any

_ARCHIVE = Path(__file__).with_name("cluster.tar.xz")


@functools.cache
def text(name: str) -> str:
    """Return one file of the recording."""
    with tarfile.open(_ARCHIVE) as archive:
        found = archive.extractfile(name)
        assert found is not None
        return found.read().decode()


def load(name: str) -> Any:
    """Return one JSON file of the recording."""
    return json.loads(text(name))
