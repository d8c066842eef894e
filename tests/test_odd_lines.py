"""Odd lines through a real Loki: each is kept as it came and marked in `format`, whatever it holds; none is fatal."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cramjam
import pytest
import requests

from tests.servers.remote_write import _field, _varint
from tests.servers.run import LokiServer, LokiWith
from tests.troubled import DAY, HOUR_NS, Site
from tests.world.options import NAMESPACE

pytestmark = [pytest.mark.live, pytest.mark.command]
MB = 1 << 20
_START = DAY.start + 9 * HOUR_NS
_LIMITS = {
    "limits_config": {
        "max_line_size": "2MB",
        "max_global_streams_per_user": 20_000,
        "max_label_names_per_series": 40,
        "max_entries_limit_per_query": 1000,
    },
    "server": {"grpc_server_max_recv_msg_size": 1 << 26, "grpc_server_max_send_msg_size": 1 << 26},
}


def nested(depth: int) -> str:
    """Return JSON that is an object in an object, `depth` of them."""
    return '{"a":' * depth + "1" + "}" * depth


# what is kept as it is, and what it is marked as
ODD: Mapping[str, tuple[str, str]] = {
    "one MB of text": ("x" * MB, "text"),
    "one MB of JSON": (json.dumps({"level": "INFO", "msg": "m" * MB}), "json"),
    "one MB that begins as JSON": ('{"msg":"' + "y" * MB, "broken"),
    "empty": ("", "text"),
    "spaces": ("   ", "text"),
    # deeper than the parser goes: whether it is JSON nobody knows
    "JSON nested 1,000 deep": (nested(1000), "broken"),
    "JSON nested 100,000 deep": (nested(100_000), "broken"),
    "an array nested 1,000 deep": ('{"a":' + "[" * 1000 + "]" * 1000 + "}", "broken"),
    "JSON nested 500 deep": (nested(500), "json"),
    "JSON nested and never closed": ('{"a":' * 5000, "broken"),
    "duplicate keys": ('{"msg":"first","msg":"last","level":"INFO","level":"ERROR"}', "json"),
    "numbers beyond 64 bits": ('{"issue":99999999999999999999,"n":-1e999,"msg":18446744073709551616}', "json"),
    "a number of 10,000 digits": ('{"msg":"m","n":' + "9" * 10_000 + "}", "json"),
    "NUL in JSON": ('{"msg":"a\\u0000b","run_id":"\\u0000"}', "json"),
    "raw NUL": ("before\0after", "text"),
    "raw NUL in JSON": ('{"msg":"a\0b"}', "broken"),
    "a lone surrogate": ('{"msg":"\\ud800"}', "json"),
    "control characters": ("\x1b[31mred\x1b[0m\x07\x7f\u2028\u202e", "text"),
    "newlines inside": ("one\ntwo\r\nthree", "text"),
    "JSON that is no object": ("[1,2,3]", "text"),
    "truncated JSON": ('{"level":"INFO","msg":"cut', "broken"),
    "JSON and more": ('{"msg":"a"} trailing', "broken"),
    "logfmt": ("level=info msg=started n=1", "logfmt"),
    "NaN": ('{"msg":NaN}', "json"),
    "keys of another type": ('{"msg":{"a":1},"level":7,"err":[1],"run_id":{},"issue":"x"}', "json"),
}


@pytest.fixture(scope="module")
def loki(loki_with: LokiWith) -> LokiServer:
    return loki_with(_LIMITS)


def pulled(loki: LokiServer, folder: Path, case: str) -> Site:
    """Pull the hour of one case and return its lake."""
    site = Site.make(folder, loki.url, loki_more=f'selectors = [\'{{namespace="{NAMESPACE}", case="{case}"}}\']')
    done = site.run("pull", "logs", "--since", "2026-02-26T09:00:00Z", "--until", "2026-02-26T10:00:00Z")
    assert done.returncode == 0, done.stderr
    return site


def labels(case: str, **more: str) -> dict[str, str]:
    return {"namespace": NAMESPACE, "case": case, "app": "odd"} | more


def rows(site: Site, *columns: str) -> list[tuple[Any, ...]]:
    table = site.rows()
    return list(zip(*(table[c].to_pylist() for c in columns), strict=True))


def test_each_odd_line_is_kept_and_marked(loki: LokiServer, tmp_path: Path) -> None:
    # an instant and a stream of its own each, so that it is known which is which
    loki.push((labels("odd", name=name), [(_START + n, text)]) for n, (name, (text, _)) in enumerate(ODD.items()))
    found = {
        dict(own)["name"]: (line, kind)
        for own, line, kind in rows(pulled(loki, tmp_path, "odd"), "labels", "line", "format")
    }
    assert sorted(found) == sorted(ODD)
    assert [name for name, (line, _) in ODD.items() if found[name][0] != line] == []
    assert {n: k for n, (_, k) in found.items()} == {n: k for n, (_, k) in ODD.items()}


def test_what_odd_lines_say_of_themselves_is_read_or_null(loki: LokiServer, tmp_path: Path) -> None:
    named = ["duplicate keys", "numbers beyond 64 bits", "a number of 10,000 digits", "keys of another type"]
    loki.push((labels("said", name=n), [(_START + i, ODD[n][0])]) for i, n in enumerate(named))
    found = rows(pulled(loki, tmp_path, "said"), "level", "msg", "issue", "run_id")
    assert found[0] == ("ERROR", "last", None, None)
    assert found[1] == (None, "18446744073709551616", None, None)
    assert found[2] == (None, "m", None, None)
    assert found[3] == (None, '{"a": 1}', None, None)


def test_bytes_that_are_no_text_are_kept_with_a_mark_in_their_place(loki: LokiServer, tmp_path: Path) -> None:
    held = [
        (b"plain \xff\xfe bytes", "plain \ufffd\ufffd bytes"),
        (b'{"msg":"caf\xe9"}', '{"msg":"caf\ufffd"}'),
        (b"\xc3", "\ufffd"),
        (b"level=info msg=\x80\x80", "level=info msg=\ufffd\ufffd"),
        ("whole: é 漢 \U0001f600".encode(), "whole: é 漢 \U0001f600"),
    ]
    push_bytes(loki, labels("bytes"), [(_START + n, raw) for n, (raw, _) in enumerate(held)])
    found = rows(pulled(loki, tmp_path, "bytes"), "line", "format")
    assert [line for line, _ in found] == [text for _, text in held]
    assert [kind for _, kind in found] == ["broken"] * 4 + ["text"]


def test_time_that_goes_backwards_inside_a_stream_costs_no_line(loki: LokiServer, tmp_path: Path) -> None:
    # each push by itself goes backwards too, and each instant holds two lines that differ and one that does not
    back = [(_START + (3000 - n) * 10**9, f"line {n}") for n in range(3000)]
    for part in range(0, 3000, 500):
        loki.push([(labels("back"), [(t, f"{text} {way}") for t, text in back[part : part + 500] for way in "ab"])])
    found = rows(pulled(loki, tmp_path, "back"), "ts", "line")
    assert len(found) == 6000
    assert found == sorted(found)
    assert Counter((t.value, line) for t, line in found) == Counter((t, f"{x} {w}") for t, x in back for w in "ab")


@pytest.mark.parametrize("label", ["app", "shard"])
def test_5000_streams_are_read_whole(loki: LokiServer, tmp_path: Path, label: str) -> None:
    # more apps than Loki counts apart
    streams = [
        (
            labels(f"many-{label}") | {label: f"s{n:04}"},
            [(_START + n * 10**8, f"{n} a"), (_START + 30 * 60 * 10**9 + n, f"{n} b")],
        )
        for n in range(5000)
    ]
    loki.push(streams)
    found = rows(pulled(loki, tmp_path, f"many-{label}"), "labels", "line")
    assert Counter((dict(own)[label], line) for own, line in found) == Counter(
        (own[label], text) for own, entries in streams for _, text in entries
    )


def test_a_stream_of_many_labels_and_odd_values_keeps_them(loki: LokiServer, tmp_path: Path) -> None:
    odd = {
        f"l{n}": value
        for n, value in enumerate(["", "a b", '"quoted"', "\\d+", "ünïcode", "new\nline", "{}", "=~", "`"] * 3)
    }
    loki.push([(labels("labels", **odd), [(_START, "one", {"trace_id": "t", "empty": "", "odd": '"\n'})])])
    ((own, line),) = rows(pulled(loki, tmp_path, "labels"), "labels", "line")
    # Loki itself drops labels without a value
    expected = {k: v for k, v in labels("labels", **odd).items() if v}
    assert {k: v for k, v in own if k != "service_name"} == expected
    assert line == "one"


def push_bytes(loki: LokiServer, stream: Mapping[str, str], entries: Sequence[tuple[int, bytes]]) -> None:
    """Push lines as the agents do, in protobuf: of a push in JSON Loki would make text before it stores it."""
    named = ", ".join(f"{k}={json.dumps(v)}" for k, v in sorted(stream.items()))
    made = b"".join(_field(2, _field(1, _instant(t)) + _field(2, raw)) for t, raw in entries)
    body = bytes(cramjam.snappy.compress_raw(_field(1, _field(1, b"{%s}" % named.encode()) + made)))
    with requests.Session() as session:
        session.trust_env = False
        headers = {"Content-Type": "application/x-protobuf"}
        answer = session.post(f"{loki.url}/loki/api/v1/push", data=body, headers=headers, timeout=30)
    assert answer.status_code == 204, answer.text


def _instant(ns: int) -> bytes:
    seconds, rest = divmod(ns, 10**9)
    return b"\x08" + _varint(seconds) + (b"\x10" + _varint(rest) if rest else b"")
