"""Log entries -> rows of `logs`: the kind of each line, its own fields, its signatures, and no secret anywhere."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pyarrow as pa
import pytest

from pipeline import catalog, loglines
from pipeline.model import Entry
from pipeline.redact import Redactor
from pipeline.rules import LabelNames
from tests import corpus

RULES = catalog.load()
REDACTOR = Redactor(RULES.redaction, b"one key")
STREAM = {"namespace": "codex-k8s-prod", "app": "codex-k8s-worker", "pod": "w-1", "container": "worker"}
OTHER = STREAM | {"pod": "w-2"}
T0 = 1_772_064_000_000_000_000
TOKEN = corpus.tokens()["github ghp"]


def _table(*entries: Entry, names: LabelNames | None = None) -> tuple[pa.Table, Counter[str]]:
    return loglines.to_logs(entries, names or LabelNames(), REDACTOR, RULES.signatures)


def _rows(*lines: str | tuple[str, dict[str, str]]) -> list[dict[str, Any]]:
    """Return the rows of lines a millisecond apart, of STREAM or of labels of their own."""
    pairs = [(line, STREAM) if isinstance(line, str) else line for line in lines]
    table, _ = _table(*(Entry(T0 + i * 1_000_000, line, labels, {}) for i, (line, labels) in enumerate(pairs)))
    return [dict(row) for row in table.drop_columns("ts").to_pylist()]


def _row(line: str, labels: dict[str, str] | None = None, metadata: dict[str, str] | None = None) -> dict[str, Any]:
    table, _ = _table(Entry(T0, line, STREAM if labels is None else labels, metadata or {}))
    (row,) = table.drop_columns("ts").to_pylist()
    return dict(row)


def _formats(*lines: str | tuple[str, dict[str, str]]) -> list[str]:
    return [r["format"] for r in _rows(*lines)]


# Formats


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ('{"level":"INFO","msg":"x"}', "json"),
        ('  {"a":1}  ', "json"),
        ("{}", "json"),
        ('{"a":1', "broken"),
        ('{"level":"INFO","msg":"cut in the mid', "broken"),
        ('{"a":1} trailing', "broken"),
        ('{"a":1}{"b":2}', "broken"),
        ("{{ 7 * 7 }}", "broken"),
        ("{", "broken"),
        ('{"a":"tab\there"}', "broken"),
        ("bytes that are \ufffd no text", "broken"),
        ('{"msg":"caf\ufffd"}', "broken"),
        ('["an","array"]', "text"),
        ('"a string"', "text"),
        ("level=info msg=done", "logfmt"),
        ('time=2026-02-26T10:00:00Z level=warn msg="two words" n=7', "logfmt"),
        ('msg="a \\"b\\" c" k=', "logfmt"),
        ("a=1", "text"),
        ("a=1 b=2 and words", "text"),
        ("words a=1 b=2", "text"),
        ('a=1 b="never closed', "text"),
        ("INFO[0003] Retrieving image manifest golang:1.24", "text"),
        ("fatal: not a git repository", "text"),
        ("nul \x00 and \x1b[31m", "text"),
        ("", "text"),
        ("   ", "text"),
        ("panic: runtime error: index out of range", "panic"),
        ("fatal error: all goroutines are asleep - deadlock!", "panic"),
        ("goroutine 87 [running]:", "panic"),
        ("do not panic: it is well", "text"),
    ],
)
def test_each_line_has_the_format_that_it_shows(line: str, wanted: str) -> None:
    row = _row(line)
    assert (row["format"], row["line"]) == (wanted, line)


def test_broken_lines_are_counted_as_not_parsed() -> None:
    entries = [Entry(T0, line, STREAM, {}) for line in ('{"cut', "\ufffd", "text", "{}")]
    assert _table(*entries)[1] == {"not_parsed": 2}


PANIC = [
    "panic: runtime error: invalid memory address or nil pointer dereference [recovered]",
    "\tpanic: again",
    "[signal SIGSEGV: segmentation violation code=0x1 addr=0x18 pc=0x8f1a2c]",
    "",
    "goroutine 87 [running]:",
    "github.com/codex-k8s/worker/lease.(*Keeper[...]).Renew(0x0, {0xc00011a000, 0x24})",
    "\t/src/services/worker/internal/lease/keeper.go:118 +0x1d",
    "...additional 12 frames elided...",
    "main.main()",
    "\t/src/main.go:7 +0x1",
    "created by github.com/codex-k8s/worker/lease.(*Keeper).Run in goroutine 1",
    "\t/src/services/worker/internal/lease/keeper.go:64 +0x9c",
    "exit status 2",
]


def test_a_panics_trace_goes_on_until_a_line_that_is_none_of_it() -> None:
    after = ["starting again now", "main.main()", ""]
    assert _formats("main.main()", *PANIC, *after) == ["text"] + ["panic"] * len(PANIC) + ["text"] * 3


def test_a_json_line_ends_a_panic() -> None:
    assert _formats(*PANIC, '{"msg":"up"}', "", "main.main()") == ["panic"] * len(PANIC) + ["json", "text", "text"]


def test_panics_of_streams_that_interleave_are_told_apart() -> None:
    mixed = [pair for line in PANIC for pair in ((line, STREAM), (f"step of {line[:3]}", OTHER))]
    assert _formats(*mixed) == ["panic", "text"] * len(PANIC)


def test_pods_that_only_metadata_tells_apart_are_streams_of_their_own() -> None:
    one = {"app": "codex-k8s-codegen-check"}
    entries = [
        Entry(T0 + i, line, one, {"pod": f"p-{i % 2}"}) for i, line in enumerate([PANIC[0], "", PANIC[3], "x y"])
    ]
    assert _table(*entries)[0]["format"].to_pylist() == ["panic", "text", "panic", "text"]


# Fields


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        *((w, "WARN") for w in ("WARN", "warn", "Warning", "WARNING", " warn ", "WARN+2")),
        *((w, "ERROR") for w in ("ERROR", "error", "err", "ERROR+4", "error-1")),
        *((w, "INFO") for w in ("INFO", "info", "INFO+1")),
        *((w, "DEBUG") for w in ("DEBUG", "debug", "DEBUG-4", "dbg")),
        *((w, "FATAL") for w in ("fatal", "CRITICAL")),
        *((w, None) for w in ("", "loud", 30, None, True, ["INFO"], {"a": 1}, "ERROR+", "ERROR+x", "INFO4")),
    ],
)
def test_a_level_is_one_of_few_words(written: object, wanted: str | None) -> None:
    assert _row(json.dumps({"level": written}))["level"] == wanted


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("INFO[0003] Taking snapshot", "INFO"),
        ("WARN[0003] x", "WARN"),
        ("ERRO[0003] x", "ERROR"),
        ("FATA[12] x", "FATAL"),
        ("DEBU[12] x", "DEBUG"),
        ("level=warning msg=x", "WARN"),
        ("ERROR: not kaniko's", None),
        ("INFO[x] y", None),
        ("error building image: x", None),
    ],
)
def test_plain_text_has_a_level_only_where_logrus_wrote_it(line: str, wanted: str | None) -> None:
    assert _row(line)["level"] == wanted


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"issue": 205}, 205),
        ({"issue": "205"}, 205),
        ({"issue": 7.0}, 7),
        ({"issue_number": 12}, 12),
        ({"issue": None, "issue_number": 12}, 12),
        ({"issue": "x", "issue_number": "12"}, 12),
        *(({"issue": v}, None) for v in (7.5, -3, 0, True, "#205", " 205", "205x", "1٣", "", None, [1], {"n": 1})),
        *(({"issue": v}, None) for v in (10**10, 10**30, "9" * 11, 1e300)),
        ({}, None),
    ],
)
def test_an_issue_is_a_whole_number_or_none(fields: dict[str, Any], wanted: int | None) -> None:
    assert _row(json.dumps(fields))["issue"] == wanted


@pytest.mark.parametrize(
    ("value", "msg", "run_id"),
    [
        ("text", "text", "text"),
        ("", None, None),
        (None, None, None),
        (7, "7", "7"),
        (2**70, str(2**70), str(2**70)),
        (True, "true", None),
        ({"a": [1, "é"]}, '{"a": [1, "é"]}', None),
        (["x"], '["x"]', None),
        ("lone \ud800 half", "lone ? half", "lone ? half"),
        ("nul \x00", "nul \x00", "nul \x00"),
    ],
)
def test_values_of_a_wrong_type_are_shown_as_text_and_name_nothing(
    value: Any, msg: str | None, run_id: str | None
) -> None:
    row = _row(json.dumps({"msg": value, "err": value, "run_id": value, "job_name": value}))
    assert (row["msg"], row["err"], row["run_id"], row["job_name"]) == (msg, msg, run_id, run_id)


def test_of_keys_that_are_there_twice_the_last_counts() -> None:
    row = _row('{"msg":"a","run_id":"r1","msg":"b","run_id":"r2"}')
    assert (row["msg"], row["run_id"]) == ("b", "r2")
    assert _row("msg=a level=info msg=b")["msg"] == "b"


def test_numbers_that_are_too_long_for_python_are_json_all_the_same() -> None:
    row = _row('{"n":' + "9" * 6000 + ',"f":1e999,"msg":"kept","issue":205}')
    assert (row["format"], row["msg"], row["issue"]) == ("json", "kept", 205)


@pytest.mark.parametrize("depth", [100, 900, 960, 980, 990, 1000, 5000, 100_000])
@pytest.mark.parametrize("key", ["msg", "other"])
def test_deep_nesting_is_survived_and_hides_no_secret(depth: int, key: str) -> None:
    row = _row(f'{{"{key}":' + '{"a":' * depth + f'"{TOKEN}"' + "}" * depth + "}")
    assert row["format"] in {"json", "broken"}
    assert TOKEN not in json.dumps(row)
    assert row["format"] == "broken" or depth < 1000


def test_logfmt_values_are_unquoted() -> None:
    row = _row(r'level=info msg="say \"hi\" \u0041 \\ then" err="bad \q" run_id=r1 job_name="" issue=205')
    assert (row["msg"], row["err"], row["run_id"], row["job_name"], row["issue"]) == (
        'say "hi" A \\ then', "bad \\q", "r1", None, 205,
    )  # fmt: skip


MB = 1_000_000


@pytest.mark.parametrize(
    "line",
    [
        *(c * MB for c in ("a", " ", "{", "\\", "panic: (")),
        *("a=b " + c * MB for c in ("a", "", 'c="\\', "c=d ")),
        '{"msg":"' + "x" * MB + '"}',
    ],
    ids=lambda v: v[:8],
)
def test_a_line_of_a_megabyte_is_kept_whole(line: str) -> None:
    assert _row(line)["line"] == line


# Where a line comes from


def test_the_streams_labels_say_where_a_line_comes_from() -> None:
    row = _row("x")
    assert {k: row[k] for k in STREAM} == STREAM
    assert (row["labels"], row["metadata"]) == (sorted(STREAM.items()), [])


def test_an_install_may_call_its_labels_otherwise() -> None:
    names = LabelNames("k8s_ns", "app_name", "pod_name", "ctr", "batch_job")
    labels = {"k8s_ns": "n", "app_name": "a", "pod_name": "p", "ctr": "c", "batch_job": "j", "namespace": "no"}
    (row,) = _table(Entry(T0, "x", labels, {}), names=names)[0].to_pylist()
    assert [row[c] for c in ("namespace", "app", "pod", "container", "job_name")] == ["n", "a", "p", "c", "j"]


def test_metadata_and_the_log_files_path_say_what_labels_do_not() -> None:
    path = "/var/log/pods/ns_pod-1_uid/main/0.log"
    told = [_row("x", {"filename": path}), _row("x", {"a": "b"}, {"filename": path})]
    told += [_row("x", {}, {"k8s_namespace_name": "ns", "k8s_pod_name": "pod-1", "k8s_container_name": "main"})]
    assert {(r["namespace"], r["pod"], r["container"], r["app"]) for r in told} == {("ns", "pod-1", "main", None)}
    assert _row("x", STREAM, {"pod": "other", "k8s_pod_name": "other"})["pod"] == "w-1"
    assert _row("x", {}, {"pod": "p", "job_name": "j", "app_kubernetes_io_name": "a"})["pod"] == "p"


def test_the_lines_own_field_counts_before_its_streams_label() -> None:
    labels = {"job_name": "job-l", "run_id": "run-l", "issue": "7"}
    own = _row('{"run_id":"run-o","job_name":"job-o","issue":8}', labels)
    assert (own["run_id"], own["job_name"], own["issue"]) == ("run-o", "job-o", 8)
    for line in ('{"run_id":null,"job_name":"","issue":"no"}', "text", '{"run_id":["x"]}'):
        row = _row(line, labels)
        assert (row["run_id"], row["job_name"], row["issue"]) == ("run-l", "job-l", 7)
    kubernetes = _row("x", {}, {"codex_k8s_dev_run_id": "r", "codex_k8s_dev_issue_number": "205"})
    assert (kubernetes["run_id"], kubernetes["issue"]) == ("r", 205)


def test_nothing_is_inferred_from_text() -> None:
    row = _row('{"msg":"run_id=r1 job codex-k8s-kaniko-worker-3f2a9c1e-7b4 issue #205","err":"run r1"}', {"app": "x"})
    assert (row["run_id"], row["job_name"], row["issue"], row["level"]) == (None, None, None, None)


# Signatures

CACHE = "error while retrieving image from cache: GET https://r/v2/x: MANIFEST_UNKNOWN: manifest unknown"


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        (CACHE, ["cache-retrieval", "manifest-unknown"]),
        (CACHE.upper(), ["cache-retrieval", "manifest-unknown"]),
        (json.dumps({"err": CACHE}), ["cache-retrieval", "manifest-unknown"]),
        ('{"err":"' + "".join(f"\\u{ord(c):04x}" for c in CACHE) + '"}', ["cache-retrieval", "manifest-unknown"]),
        (json.dumps({"err": json.dumps({"e": CACHE})}), ["cache-retrieval", "manifest-unknown"]),
        ('{"cut":"' + CACHE, ["cache-retrieval", "manifest-unknown"]),
        ("manifest_unknown", ["manifest-unknown"]),
        ("manifest unknown", []),
        ("git checkout --detach -b x: error: unknown switch `b'", ["build-ref"]),
        ("git checkout --detach -b x: fatal: '-b x' Is Not A Commit", ["build-ref"]),
        (json.dumps({"err": "+ git checkout --detach -b x\nerror: unknown switch `b'"}), ["build-ref"]),
        (r'{"err":"checkout --detach \u0060x\u0060: unknown\u0020switch"}', ["build-ref"]),
        ("git checkout --detach 4f2a", []),
        ("fatal: 'x' is not a commit", []),
        ("error: unknown switch `b'", []),
        (f"checkout --detach unknown switch {CACHE}", ["build-ref", "cache-retrieval", "manifest-unknown"]),
        ("", []),
    ],
)
def test_signatures_are_found_in_any_case_and_behind_escapes(line: str, wanted: list[str]) -> None:
    assert _row(line)["signatures"] == wanted
