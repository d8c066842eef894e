"""Against a real Loki: what was pushed comes back, each entry once, wherever windows begin and end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from pipeline.errors import SourceError
from pipeline.model import NS, Entry, Window
from pipeline.sources.http import Door, Endpoint
from pipeline.sources.loki.client import Loki
from tests.fake_loki import MINUTE, START, Whole, entry, identity, read_window, texts
from tests.servers.run import LokiServer, LokiWith

HOUR = Window(START, START + 60 * MINUTE)
SMALL = {"limits_config": {"max_entries_limit_per_query": 200}}
TIGHT = {"server": {"grpc_server_max_send_msg_size": 100_000}}


def client(server: LokiServer, namespace: str) -> Loki:
    return Loki(Door("loki", Endpoint(server.url)), texts(), f'{{namespace="{namespace}"}}')


def push(server: LokiServer, namespace: str, entries: Iterable[Entry]) -> list[Entry]:
    """Push entries under a namespace of their own and return them as they should come back."""
    held = [e._replace(labels={**e.labels, "namespace": namespace, "service_name": "s"}) for e in entries]
    streams: dict[tuple[tuple[str, str], ...], list[Any]] = {}
    for e in sorted(held, key=lambda e: e.ts):
        streams.setdefault(tuple(sorted(e.labels.items())), []).append((e.ts, e.line, dict(e.metadata)))
    server.push([(dict(labels), values) for labels, values in streams.items()])
    return held


def read(loki: Loki, window: Window, cell: int, largest: int = 5000) -> list[Whole]:
    """Read a window cell by cell, each with the instant at which it begins and without that at which it ends."""
    cells = [(part, read_window(loki, part, largest, edge=True)) for part in window.cells(cell)]
    return [replace(whole, entries=[e for e in whole.entries if e.ts in part]) for part, whole in cells]


def each(entries: Iterable[Entry]) -> Counter[tuple[Any, ...]]:
    """Count entries by identity; Loki itself adds a level to the metadata."""
    return Counter(
        identity(e._replace(metadata={k: v for k, v in e.metadata.items() if k != "detected_level"})) for e in entries
    )


def test_every_entry_comes_once_wherever_windows_begin_and_end(loki_server: LokiServer) -> None:
    edges = [0, 10 * MINUTE, 20 * MINUTE, 30 * MINUTE]
    offsets = [edge + beside for edge in edges for beside in (-1_000_000, -1, 0, 1, MINUTE)]
    held = push(loki_server, "edges", [entry(o, f"line {i}") for i, o in enumerate(offsets) for _ in range(2)])
    inside = [e for e in held if START <= e.ts < START + 30 * MINUTE]
    loki = client(loki_server, "edges")
    for _ in range(2):
        cells = read(loki, Window(START, START + 30 * MINUTE), 10 * MINUTE)
        assert each(e for c in cells for e in c.entries) == each({identity(e): e for e in inside}.values())
        assert [c.short for c in cells] == [{}, {}, {}]
        loki_server.flush()


def test_lines_that_lie_on_every_edge_come_once_from_the_store_too(loki_server: LokiServer) -> None:
    # 86.4 ms apart, so that lines lie exactly on the edges of windows, and some are the last of their chunk
    held = push(
        loki_server, "dense", [entry(n * 86_400_000, f"{n} " + "x" * 300, {"app": f"{n % 3}"}) for n in range(40_000)]
    )
    loki = client(loki_server, "dense")
    for _ in range(2):
        cells = read(loki, HOUR, 6 * MINUTE)
        assert each(e for c in cells for e in c.entries) == each(e for e in held if e.ts in HOUR)
        assert [c.short for c in cells] == [{}] * 10
        loki_server.flush()


def test_structured_metadata_is_kept_apart_from_labels(loki_server: LokiServer) -> None:
    push(loki_server, "metadata", [entry(5, "one", {"app": "a"}, {"trace_id": "t1", "app": "not the label"})])
    (cell,) = read(client(loki_server, "metadata"), Window(START, START + MINUTE), MINUTE)
    (found,) = cell.entries
    assert dict(found.labels) == {"app": "a", "namespace": "metadata", "service_name": "s"}
    assert found.metadata["trace_id"] == "t1"
    assert "not the label" in found.metadata.values()


@pytest.mark.parametrize(
    ("namespace", "entries"),
    [
        ("streams", [entry(5, "same", {"app": "a"}), entry(5, "same", {"app": "b"})]),
        ("traces", [entry(5, "same", metadata={"trace_id": t}) for t in ("1", "2", "3")]),
        ("texts", [entry(5, f"line {n}") for n in range(10)]),
    ],
)
def test_entries_that_differ_in_one_thing_alone_are_all_there(
    loki_server: LokiServer, namespace: str, entries: list[Entry]
) -> None:
    held = push(loki_server, namespace, entries)
    for _ in range(2):
        (cell,) = read(client(loki_server, namespace), Window(START, START + MINUTE), MINUTE)
        assert each(cell.entries) == each(held)
        assert cell.short == {}
        loki_server.flush()


def test_what_a_retrying_agent_pushes_twice_is_there_once(loki_server: LokiServer) -> None:
    held = push(loki_server, "twice", [entry(n * 10**9, f"line {n}") for n in range(100)])
    loki_server.flush()
    push(loki_server, "twice", [entry(n * 10**9, f"line {n}") for n in range(100)])
    (cell,) = read(client(loki_server, "twice"), Window(START, START + 2 * MINUTE), 2 * MINUTE)
    assert each(cell.entries) == each(held)
    assert cell.short == {}


def test_metadata_that_could_be_labels_is_told_apart_by_loki_itself(loki_server: LokiServer) -> None:
    # {app} with metadata pod=p looks like the stream {app, pod}, where labels and metadata come merged
    held = push(
        loki_server,
        "alike",
        [
            *(entry(n, f"line {n}", {"app": "a"}, {"pod": "p"}) for n in range(5)),
            *(entry(n, f"line {n}", {"app": "a", "pod": "p"}) for n in range(5)),
        ],
    )
    (cell,) = read(client(loki_server, "alike"), Window(START, START + MINUTE), MINUTE)
    assert each(cell.entries) == each(held)
    assert cell.short == {}


def test_metadata_of_its_own_on_every_line_is_kept(loki_server: LokiServer) -> None:
    held = push(
        loki_server, "own", [entry(n * NS, "same", {"app": "a"}, {"trace_id": f"{n:08x}"}) for n in range(1500)]
    )
    (cell,) = read(client(loki_server, "own"), HOUR, 60 * MINUTE)
    assert each(cell.entries) == each(held)
    assert cell.short == {}


def test_a_small_limit_of_the_server_is_learned_and_every_line_comes(loki_with: LokiWith) -> None:
    server = loki_with(SMALL)
    held = push(server, "limit", [entry(n * 700_000_000, f"line {n}") for n in range(3000)])
    cells = read(client(server, "limit"), HOUR, 60 * MINUTE)
    assert each(e for c in cells for e in c.entries) == each(held)
    assert [c.short for c in cells] == [{}]
    assert cells[0].tally.causes["a limit above the server's"] >= 1
    assert client(server, "limit").limits().entries == client(server, "limit").largest() == 200


@pytest.mark.parametrize(
    ("namespace", "busy"),
    [
        ("texts", [entry(10 * MINUTE, f"line {n} of one stream") for n in range(700)]),
        ("apps", [entry(10 * MINUTE, "same", {"app": f"{n}"}) for n in range(300)]),
        ("traces", [entry(10 * MINUTE, "same", metadata={"trace_id": f"{n}"}) for n in range(300)]),
    ],
)
def test_more_lines_at_one_nanosecond_than_an_answer_holds_come_whole(
    loki_with: LokiWith, namespace: str, busy: list[Entry]
) -> None:
    server = loki_with(SMALL)
    others = push(server, f"busy-{namespace}", [entry(n * MINUTE + 2, "other") for n in range(60)])
    held = push(server, f"busy-{namespace}", busy)
    (cell,) = read(client(server, f"busy-{namespace}"), HOUR, 60 * MINUTE, largest=200)
    assert each(cell.entries) == each([*held, *others])
    assert cell.short == {}


def test_an_entry_on_the_edge_of_the_servers_own_split_comes_too(loki_server: LokiServer) -> None:
    # exactly at a whole hour, and the last of its chunk: no log query ever gives it
    held = push(loki_server, "split", [entry(-NS, "before", {"app": "a"}), entry(0, "on the hour", {"app": "a"})])
    loki_server.flush()
    held += push(loki_server, "split", [entry(NS, "after", {"app": "b"})])
    cell = read_window(client(loki_server, "split"), Window(START - MINUTE, START + MINUTE))
    assert each(cell.entries) == each(held)
    assert cell.short == {}


def test_a_window_without_lines_is_complete_and_empty(loki_server: LokiServer) -> None:
    (cell,) = read(client(loki_server, "nobody"), HOUR, 60 * MINUTE)
    assert (cell.entries, cell.short, cell.counted) == ([], {}, 0)


def test_a_selector_that_is_none_is_refused_in_lokis_own_words(loki_server: LokiServer) -> None:
    loki = client(loki_server, "x")
    wrong = replace(loki, selector="{namespace=")
    with pytest.raises(SourceError, match="parse error") as caught:
        wrong.counts(HOUR)
    assert caught.value.fix == "check loki.selectors"


def test_the_version_is_told(loki_server: LokiServer) -> None:
    assert client(loki_server, "x").version()


def test_answers_larger_than_the_servers_own_messages_come_in_halves(loki_with: LokiWith) -> None:
    server = loki_with(TIGHT)
    held = push(server, "large", [entry(n * 10**9, f"line {n} " + "x" * 2000) for n in range(600)])
    (cell,) = read(client(server, "large"), HOUR, 60 * MINUTE)
    assert each(cell.entries) == each(held)
    assert cell.short == {}
    assert cell.tally.causes
