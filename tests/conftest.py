"""Fixtures that hand real servers and a browser to tests: what is not there is never built, but loudly missed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, TypeVar

import hypothesis
import pytest

from tests.command import aislot
from tests.servers.find import MissingError, find_chromium
from tests.servers.run import LokiServer, LokiWith, NewPrometheus, PrometheusServer, Settings

# where a change is judged the same examples are tried each time; a developer's runs go on looking for others
hypothesis.settings.register_profile("ci", derandomize=True)
if os.environ.get("CI") == "true":
    hypothesis.settings.load_profile("ci")

_LIVE = {"loki_server", "loki_with", "new_loki", "prometheus_server", "new_prometheus", "cluster_story"}
_SKIPPED = "not run: "
_Had = TypeVar("_Had")


@pytest.fixture(scope="session")
def loki_with(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LokiWith]:
    """Give a Loki of these settings; who asks for the same settings shares it for the session."""
    servers: dict[str, LokiServer] = {}
    with ExitStack() as stack:

        def give(settings: Settings | None = None) -> LokiServer:
            key = json.dumps(settings or {}, sort_keys=True)
            if key not in servers:
                server = had(lambda: LokiServer(tmp_path_factory.mktemp("loki"), settings))
                stack.callback(server.discard)
                server.start()
                servers[key] = server
            return servers[key]

        yield give


@pytest.fixture(scope="session")
def loki_server(loki_with: LokiWith) -> LokiServer:
    """Give the session's Loki of no special settings."""
    return loki_with()


@pytest.fixture
def new_loki(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LokiWith]:
    """Start a Loki for this test alone, which may kill it."""
    with ExitStack() as stack:

        def give(settings: Settings | None = None) -> LokiServer:
            server = had(lambda: LokiServer(tmp_path_factory.mktemp("loki"), settings))
            stack.callback(server.discard)
            server.start()
            return server

        yield give


@pytest.fixture(scope="session", params=["2", "3"])
def prometheus_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PrometheusServer]:
    """Give the session's Prometheus, once of each version."""
    server = had(lambda: PrometheusServer(request.param, tmp_path_factory.mktemp(f"prometheus{request.param}")))
    try:
        server.start()
        yield server
    finally:
        server.discard()


@pytest.fixture
def new_prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NewPrometheus]:
    """Start a Prometheus for this test alone."""
    with ExitStack() as stack:

        def give(
            version: Literal["2", "3"],
            config: Settings | None = None,
            flags: Sequence[str] = (),
            openmetrics: Path | None = None,
        ) -> PrometheusServer:
            folder = tmp_path_factory.mktemp(f"prometheus{version}")
            server = had(lambda: PrometheusServer(version, folder, config, flags))
            stack.callback(server.discard)
            if openmetrics:
                server.load_openmetrics(openmetrics)
            server.start()
            return server

        yield give


@pytest.fixture(scope="session")
def chromium() -> Path:
    """Give the path of a Chromium."""
    return had(find_chromium)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make once what `aislot demo` leaves."""
    folder = tmp_path_factory.mktemp("demo")
    done = aislot("demo", "--dir", "here", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str((folder / "here/out/daily/2026-02-26/report.html").resolve())
    return folder / "here"


@pytest.fixture
def site(demo: Path, tmp_path: Path) -> Path:
    """Make a folder of its own with the demo's dump and an aislot.toml."""
    shutil.copytree(demo / "dump", tmp_path / "dump")
    (tmp_path / "aislot.toml").write_text('[kubernetes]\ndump = "dump"\n', encoding="utf-8")
    return tmp_path


@pytest.hookimpl(tryfirst=True)  # before -m selects by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses a server `live` and what uses the browser `browser`."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if fixtures & _LIVE:
            item.add_marker(pytest.mark.live)
        if "chromium" in fixtures:
            item.add_marker(pytest.mark.browser)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one loud line which tests did not run for want of a server."""
    reasons = [str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", [])]
    missed = [reason.partition(_SKIPPED)[2] for reason in reasons if _SKIPPED in reason]
    if missed:
        line = f"{len(missed)} TESTS DID NOT RUN: {'; '.join(sorted(set(missed)))}"
        terminalreporter.write_line(line, red=True, bold=True)


def had(make: Callable[[], _Had]) -> _Had:
    try:
        return make()
    except MissingError as error:
        reason = str(error)
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(f"{_SKIPPED}{reason}")
