"""`aislot pull logs` beside logcli on one real Loki, in alternating runs: wall time, client CPU and memory as ratios."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from pipeline.lake.store import Store
from pipeline.lake.tables import Tables
from pipeline.model import Window
from tests.bench.lines import DATE, streams
from tests.bench.timing import MEASURES, Run, median, timed
from tests.command import environment
from tests.servers.run import LokiServer


def logcli(server: LokiServer, folder: Path) -> Run:
    """Download the day as logcli does it best: four workers, the largest pages, raw lines to disk."""
    parts = folder / "logcli"
    shutil.rmtree(parts, ignore_errors=True)
    parts.mkdir()
    day = ["--from", f"{DATE}T00:00:00Z", "--to", f"{DATE}T23:59:59.999999999Z"]
    fast = ["--parallel-max-workers=4", "--batch=5000", f"--part-path-prefix={parts}/part"]
    query = ["query", *day, *fast, "--forward", "--quiet", "--output=raw", '{namespace="codex-k8s-prod"}']
    return timed([str(server.binary.companion), f"--addr={server.url}", *query], folder, environment())


def aislot(server: LokiServer, folder: Path, lake: str) -> Run:
    """Pull the day into a lake."""
    env = environment({"AISLOT_LOKI__URL": server.url, "AISLOT_LAKE__URI": lake})
    return timed([sys.executable, "-m", "pipeline", "--debug", "pull", "logs", "--date", str(DATE)], folder, env)


def main() -> None:
    """Load a Loki, run both in turn, print each run and the ratios of the medians."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--alone", action="store_true", help="without logcli: memory and time of many more lines")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aislot-bench-") as name, LokiServer(Path(name) / "loki") as server:
        folder = Path(name)
        began = time.monotonic()
        server.push(streams(asked.lines))
        server.flush()
        print(f"loaded {asked.lines:,} lines in {time.monotonic() - began:.0f} s", flush=True)
        theirs, ours, again = [], [], []
        for i in range(asked.runs):
            theirs += [] if asked.alone else [logcli(server, folder)]
            lake = folder / f"lake{i}"
            ours.append(aislot(server, folder, str(lake)))
            again.append(aislot(server, folder, str(lake)))
            rows = Tables(Store(str(lake))).read("logs", Window.of_day(DATE), ["ts"]).num_rows
            if rows != asked.lines:
                raise SystemExit(f"{rows:,} rows in the lake, {asked.lines:,} lines were pushed")
            shutil.rmtree(lake)
            for who, runs in (("logcli", theirs), ("aislot", ours), ("again ", again)):
                for run in runs[-1:]:
                    print(f"{who}  {run}", flush=True)
    if asked.alone:
        return
    for what in MEASURES:
        middle = [median(runs, what) for runs in (theirs, ours, again)]
        print(
            f"{what:<7} aislot / logcli {middle[1] / middle[0]:.2f}   second pull / first {middle[2] / middle[1]:.2f}"
        )


if __name__ == "__main__":
    main()
