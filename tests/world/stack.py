"""`make stack`: a real Loki and a real Prometheus, loaded with a world, until Ctrl-C.

Both run on 127.0.0.1 and keep their data in a folder that goes with them; the settings to use are printed.
"""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path

from tests.servers.run import LokiServer, PrometheusServer
from tests.world.world import REPOSITORY, World

_ENOUGH = (signal.SIGINT, signal.SIGTERM)


def settings(world: World, loki: str, prometheus: str, dump: Path, lake: Path) -> str:
    """Return an `aislot.toml` for the world's servers; the dump is there for its events and comments."""
    told = "\n".join(f'{k} = "{v}"' for k, v in world.maintenance.items())
    return f"""\
[loki]
url = "{loki}"
[prometheus]
url = "{prometheus}"
[kubernetes]
dump = "{dump}"
[lake]
uri = "{lake}"
[[maintenance]]
{told}
"""


def main() -> None:
    """Start both, load the world, print its settings, and wait to be stopped."""
    world = World.make()
    with tempfile.TemporaryDirectory(prefix="aislot-stack-") as name:
        folder = Path(name)
        with LokiServer(folder / "loki") as loki, PrometheusServer("3", folder / "prometheus") as prometheus:
            world.push_loki(loki)
            world.push_prometheus(prometheus)
            dump = world.dump(folder / "dump")
            file = folder / "aislot.toml"
            file.write_text(settings(world, loki.url, prometheus.url, dump, folder / "lake"))
            sys.stdout.write(f"# {REPOSITORY}, {world.options.date}; {file}\n{file.read_text()}\n")
            sys.stdout.write(
                f"aislot --config {file} daily --date {world.options.date}\n# Ctrl-C stops both servers.\n"
            )
            sys.stdout.flush()
            # only now: the servers would inherit it and not hear that they should end
            signal.pthread_sigmask(signal.SIG_BLOCK, _ENOUGH)
            signal.sigwait(_ENOUGH)


if __name__ == "__main__":
    main()
