"""The servers themselves: what a test pushes into them is what they answer, and each is found where it should be."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.servers import build, find
from tests.servers.run import BY_STORE, LokiServer, LokiWith, NewPrometheus, PrometheusServer

_DAY_S = 86_400


def _long_ago_s() -> int:
    """Return an instant three days ago, on a whole minute."""
    now = int(time.time())
    return (now - 3 * _DAY_S) // 60 * 60


def _entries(server: LokiServer, query: str, start_ns: int) -> list[tuple[int, str, str]]:
    answer = server.get("/loki/api/v1/query_range", query=query, start=start_ns, end=start_ns + 10**9, limit=100)
    return sorted(
        (int(ns) - start_ns, text, stream["stream"].get("trace_id", ""))
        for stream in answer["data"]["result"]
        for ns, text in stream["values"]
    )


def _samples(server: PrometheusServer, selector: str, at_s: float) -> dict[str, list[tuple[float, str]]]:
    answer = server.get("/api/v1/query", query=selector, time=at_s)
    return {
        series["metric"].get("job_name", ""): [(when, value) for when, value in series["values"]]
        for series in answer["data"]["result"]
    }


def test_loki_shows_lines_of_another_day_at_once_with_their_metadata(loki_server: LokiServer) -> None:
    start = _long_ago_s() * 10**9
    entries = [(start, "one", {"trace_id": "a"}), (start + 1, "two", {"trace_id": "b"}), (start + 1, "two", {})]

    assert loki_server.push([({"app": "smoke"}, entries)]) == 3

    assert _entries(loki_server, '{app="smoke"}', start) == [(0, "one", "a"), (1, "two", ""), (1, "two", "b")]


def test_loki_takes_a_push_of_more_than_one_request_and_keeps_it_through_flush_and_kill(new_loki: LokiWith) -> None:
    server = new_loki()
    start = _long_ago_s() * 10**9
    streams = [({"app": app}, [(start + 1000 * i, f"{app} {i}") for i in range(8_000)]) for app in ("left", "right")]

    assert server.push(streams) == 16_000
    server.flush()
    server.push([({"app": "late"}, [(start, "in the log of what is not flushed")])])
    server.kill()
    server.start()

    counted = server.get(
        "/loki/api/v1/query", query='sum by (app) (count_over_time({app=~".+"}[1m]))', time=start + 10**9
    )
    assert {row["metric"]["app"]: row["value"][1] for row in counted["data"]["result"]} == {
        "left": "8000",
        "right": "8000",
        "late": "1",
    }


def test_loki_by_store_shows_lines_of_another_day_after_a_flush(loki_with: LokiWith) -> None:
    server = loki_with(BY_STORE)
    start = _long_ago_s() * 10**9
    server.push([({"app": "stored"}, [(start, "one"), (start + 1, "two")])])

    assert _entries(server, '{app="stored"}', start) == []
    server.flush()
    assert [text for _, text, _ in _entries(server, '{app="stored"}', start)] == ["one", "two"]


def test_loki_settings_are_shared_by_who_asks_for_the_same(loki_with: LokiWith, loki_server: LokiServer) -> None:
    assert loki_with({}) is loki_server
    server = loki_with({"limits_config": {"max_entries_limit_per_query": 200}})
    assert loki_with({"limits_config": {"max_entries_limit_per_query": 200}}) is server
    assert server is not loki_server
    assert server.settings["limits_config"]["reject_old_samples"] is False


def test_prometheus_gives_back_samples_and_no_stale_marker(prometheus_server: PrometheusServer) -> None:
    start = _long_ago_s()
    alive = [((start + 15 * i) * 1000, float(i)) for i in range(5)]
    gone = [((start + 15) * 1000 + 7, 1.0), ((start + 30) * 1000 + 7, None)]

    prometheus_server.remote_write(
        [
            ({"__name__": "smoke", "job_name": "alive"}, alive),
            ({"__name__": "smoke", "job_name": "gone"}, gone),
        ]
    )

    found = _samples(prometheus_server, "smoke[61s]", start + 60)
    assert found["alive"] == [(start + 15 * i, str(i)) for i in range(5)]
    assert found["gone"] == [(start + 15.007, "1")]
    # without the marker it would be seen for another five minutes
    instant = prometheus_server.get("/api/v1/query", query="smoke", time=start + 60)
    assert [series["metric"]["job_name"] for series in instant["data"]["result"]] == ["alive"]


def test_prometheus_2_closes_a_range_at_its_start_and_3_leaves_it_open(prometheus_server: PrometheusServer) -> None:
    start = _long_ago_s()
    prometheus_server.remote_write([({"__name__": "edge"}, [((start + 15 * i) * 1000, 1.0) for i in range(5)])])

    points = _samples(prometheus_server, "edge[30s]", start + 60)[""]

    expected = [start + 30, start + 45, start + 60] if prometheus_server.version == "2" else [start + 45, start + 60]
    assert [when for when, _ in points] == expected
    told = prometheus_server.get("/api/v1/status/buildinfo")["data"]["version"]
    assert told.startswith(f"{prometheus_server.version}.")


@pytest.mark.slow
@pytest.mark.parametrize("version", ["2", "3"])
@pytest.mark.parametrize("days", [1, 10])
def test_prometheus_takes_a_day_of_history_of_any_age(new_prometheus: NewPrometheus, version: Any, days: int) -> None:
    server = new_prometheus(version)
    end = _long_ago_s() + (3 - days) * _DAY_S
    times = range(end - _DAY_S + 15, end, 30)  # off the edges, which the versions see differently
    server.remote_write(
        ({"__name__": "day", "job_name": f"job-{i}"}, [(1000 * when + i, float(i)) for when in times])
        for i in range(104)
    )

    found: dict[str, set[float]] = {}
    for at in range(end - 18 * 3600, end + 1, 6 * 3600):
        for job, points in _samples(server, "day[6h]", at).items():
            found.setdefault(job, set()).update(when for when, _ in points)

    assert {job: len(whens) for job, whens in found.items()} == {f"job-{i}": len(times) for i in range(104)}
    server.restart()
    assert len(_samples(server, "day[6h]", end)) == 104


@pytest.mark.parametrize("version", ["2", "3"])
def test_prometheus_serves_history_of_an_openmetrics_file(
    new_prometheus: NewPrometheus, tmp_path: Path, version: Any
) -> None:
    start = _long_ago_s()
    file = tmp_path / "history.txt"
    samples = "".join(f'backfilled{{job_name="a"}} {i} {start + 15 * i}\n' for i in range(5))
    file.write_text(f"# TYPE backfilled gauge\n{samples}# EOF\n")

    server = new_prometheus(version, openmetrics=file)

    assert _samples(server, "backfilled[61s]", start + 60) == {"a": [(start + 15 * i, str(i)) for i in range(5)]}
    with pytest.raises(RuntimeError, match="before the server starts"):
        server.load_openmetrics(file)


def test_chromium_takes_a_screenshot(chromium: Path, tmp_path: Path) -> None:
    page, picture = tmp_path / "page.html", tmp_path / "page.png"
    page.write_text("<meta charset=utf-8><h1>Größe → ✓</h1>")
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--screenshot={picture}", page.as_uri()]
    subprocess.run([str(chromium), *options], check=True, capture_output=True, timeout=60)
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a machine with nothing on it: no servers, an empty cache."""
    for server in find.SERVERS.values():
        monkeypatch.delenv(server.variable, raising=False)
    monkeypatch.delenv("CHROMIUM_BIN", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


def _program(path: Path, says: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def test_a_server_is_looked_for_in_the_environment_then_on_path_then_in_the_cache(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = find.SERVERS["prometheus3"]
    with pytest.raises(find.MissingError, match="make servers"):
        find.find(server)

    cached = _program(server.cached / "prometheus", "prometheus, version 3.16.0 (branch: )")
    assert find.find(server).path == cached

    on_path = _program(machine / "bin" / "prometheus", "prometheus, version 3.5.0 (branch: HEAD)")
    assert find.find(server) == find.Found(server, on_path, "3.5.0")

    named = _program(machine / "own" / "prometheus", "prometheus, version 3.99.1 (branch: HEAD)")
    monkeypatch.setenv("PROMETHEUS3_BIN", str(named))
    assert find.find(server).path == named


def test_a_server_of_another_version_on_path_is_passed_over(machine: Path) -> None:
    _program(machine / "bin" / "prometheus", "prometheus, version 2.42.0+ds (branch: debian)")
    _program(machine / "bin" / "loki", "Loki: a gene linkage program, version 2.4")

    assert find.find(find.SERVERS["prometheus2"]).version == "2.42.0"
    for name in ("prometheus3", "loki"):
        with pytest.raises(find.MissingError, match="make servers"):
            find.find(find.SERVERS[name])


def test_a_named_server_of_another_version_is_refused_rather_than_replaced(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = find.SERVERS["prometheus3"]
    _program(server.cached / "prometheus", "prometheus, version 3.16.0 (branch: )")
    monkeypatch.setenv("PROMETHEUS3_BIN", str(_program(machine / "old", "prometheus, version 2.42.0 (branch: )")))

    with pytest.raises(find.MissingError, match="no Prometheus 3"):
        build.find_or_build(server)


def test_the_companion_is_the_one_beside_its_server(machine: Path) -> None:
    server = find.SERVERS["loki"]
    found = find.Found(server, _program(machine / "own" / "loki", "loki, version 3.7.8"), "3.7.8")
    on_path = _program(machine / "bin" / "logcli", "logcli")

    assert found.companion == on_path
    assert found.companion != _program(machine / "own" / "logcli", "logcli")
    assert found.companion == machine / "own" / "logcli"


@pytest.mark.parametrize(
    ("name", "says", "version"),
    [
        ("loki", "loki, version 3.7.8 (branch: , revision: )", "3.7.8"),
        ("prometheus2", "prometheus, version 2.42.0+ds (branch: debian/sid)", "2.42.0"),
        ("etcd", "etcd Version: 3.6.6", "3.6.6"),
        ("etcd", "etcd Version: 3.4.23", "3.4.23"),
        ("kubernetes", "Kubernetes v1.36.3", "1.36.3"),
        ("kube-state-metrics", "kube-state-metrics, version 2.19.1 (branch: , revision: unknown)", "2.19.1"),
        ("kube-state-metrics", "kube-state-metrics, version v2.19.1 (branch: , revision: unknown)", "2.19.1"),
    ],
)
def test_each_servers_way_to_tell_its_version_is_read(machine: Path, name: str, says: str, version: str) -> None:
    server = find.SERVERS[name]
    path = _program(machine / "bin" / server.program, says)
    assert find.find(server) == find.Found(server, path, version)


def test_kubernetes_is_two_programs_of_one_module(machine: Path) -> None:
    server = find.SERVERS["kubernetes"]
    _program(server.cached / "kube-apiserver", "Kubernetes v1.36.3")
    beside = _program(server.cached / "kube-controller-manager", "Kubernetes v1.36.3")
    assert find.find(server).companion == beside


def test_who_misses_a_server_of_the_control_plane_is_told_which_target_gets_it(machine: Path) -> None:
    with pytest.raises(find.MissingError, match="run `make cluster`, or set ETCD_BIN to its etcd"):
        find.find(find.SERVERS["etcd"])


@pytest.mark.parametrize("target", ["servers", "cluster"])
def test_the_build_says_where_each_server_is_and_ends_with_1_where_one_is_not_to_be_had(
    machine: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    wanted = [server for server in find.SERVERS.values() if server.target == target]
    first, *others = wanted
    for server in others:
        _program(server.cached / server.program, f"{server.program}, version {server.major}.1.2")
    monkeypatch.setenv("CHROMIUM_BIN", str(_program(machine / "own" / "chrome", "Chromium 156")))
    monkeypatch.setenv(first.variable, str(machine / "nowhere"))
    assert build.main(target) == 1
    missing, *served = capsys.readouterr().out.splitlines()
    assert missing.startswith(f"NOT TO BE HAD: {first.says}: {first.variable} is ")
    expected = [f"{s.says}: {s.major}.1.2 at {s.cached / s.program}" for s in others]
    if target == "servers":
        expected.append(f"Chromium: Chromium 156 at {machine / 'own' / 'chrome'}")
    assert served == expected

    monkeypatch.delenv(first.variable)
    _program(first.cached / first.program, f"{first.program}, version {first.major}.1.2")
    assert build.main(target) == 0


def test_a_browser_that_is_not_to_be_had_is_missing_with_the_servers_alone(
    machine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for server in find.SERVERS.values():
        _program(server.cached / server.program, f"{server.program}, version {server.major}.1.2")
    assert build.main("servers") == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("NOT TO BE HAD: Chromium: ")
    assert build.main("cluster") == 0


def test_a_build_writes_into_the_cache_whole(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server = find.SERVERS["prometheus2"]
    go = '#!/bin/sh\n[ "$1" = version ] && echo go version go1.99.0 linux/amd64 && exit\n'
    go += 'while [ "$1" != -o ]; do shift; done; /bin/mkdir -p "${2%/*}"\n'
    go += 'printf \'#!/bin/sh\\necho prometheus, version 2.42.0\' > "$2"; /bin/chmod +x "$2"\n'
    _program(machine / "bin" / "go", "").write_text(go)

    found = build.find_or_build(server)

    assert found == find.Found(server, server.cached / "prometheus", "2.42.0")
    assert found.companion == server.cached / "promtool"
    assert found.companion.is_file()
    assert "building prometheus 2.42.0 and promtool" in capsys.readouterr().out
    assert sorted(path.name for path in find.cache().iterdir()) == ["lock", server.cached.name]


def test_a_failed_build_says_why_and_leaves_nothing(machine: Path) -> None:
    server = find.SERVERS["loki"]
    go = '#!/bin/sh\n[ "$1" = version ] && echo go version go1.99.0 linux/amd64 && exit\n'
    _program(machine / "bin" / "go", "").write_text(go + "echo go: no such host; exit 3\n")

    with pytest.raises(find.MissingError, match="ended with 3: go: no such host"):
        build.find_or_build(server)
    assert [path.name for path in find.cache().iterdir()] == ["lock"]
