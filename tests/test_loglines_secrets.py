"""Log entries -> rows of `logs`: no column keeps a secret, and what is none comes through as it was."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import catalog, loglines, schemas
from pipeline.model import Entry
from pipeline.redact import Redactor
from pipeline.rules import LabelNames
from tests import corpus

RULES = catalog.load()
REDACTOR = Redactor(RULES.redaction, b"one key")
STREAM = {"app": "codex-k8s-worker", "pod": "w-1"}
OTHER = STREAM | {"pod": "w-2"}
T0 = 1_772_064_000_000_000_000
TOKEN = corpus.tokens()["github ghp"]
quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def _table(*entries: Entry) -> tuple[pa.Table, Counter[str]]:
    return loglines.to_logs(entries, LabelNames(), REDACTOR, RULES.signatures)


def _rows(*pairs: tuple[str, dict[str, str]]) -> list[dict[str, Any]]:
    """Return the rows of lines a millisecond apart."""
    table, _ = _table(*(Entry(T0 + i * 1_000_000, line, labels, {}) for i, (line, labels) in enumerate(pairs)))
    return [dict(row) for row in table.drop_columns("ts").to_pylist()]


def _row(line: str, labels: dict[str, str] | None = None, metadata: dict[str, str] | None = None) -> dict[str, Any]:
    table, _ = _table(Entry(T0, line, labels or STREAM, metadata or {}))
    (row,) = table.drop_columns("ts").to_pylist()
    return dict(row)


@pytest.mark.parametrize("secret", corpus.secrets()[::2], ids=lambda s: s.kind)
def test_no_column_keeps_a_secret(secret: corpus.Secret) -> None:
    text = secret.text
    entries = [
        Entry(T0, text, STREAM, {}),
        Entry(
            T0 + 1, json.dumps({"msg": text, "err": text, "run_id": text, "job_name": text, "other": text}), STREAM, {}
        ),
        Entry(T0 + 2, f"level=info msg={json.dumps(text)} err={json.dumps(text)}", STREAM, {}),
        Entry(
            T0 + 3, "x", {"pod": text, "job_name": text, "run_id": text, "app": text}, {"container": text, "z": text}
        ),
    ]
    table, counts = _table(*entries)
    shown = json.dumps(table.drop_columns("ts").to_pylist(), ensure_ascii=False)
    kept = (secret.secret, json.dumps(secret.secret)[1:-1], json.dumps(json.dumps(secret.secret))[3:-3])
    assert not any(k in shown for k in kept)
    assert table.num_rows == len(entries)
    assert counts["redactions"] >= 4


def test_a_secret_is_counted_once_for_its_line_and_once_for_a_stream_that_has_it() -> None:
    line = json.dumps({"msg": f"a {TOKEN}", "err": "y"})
    labelled = {"app": TOKEN}
    _, counts = _table(Entry(T0, line, STREAM, {}), *(Entry(T0 + i, "x", labelled, {}) for i in range(1, 4)))
    assert counts == {"not_parsed": 0, "redactions": 2, "redacted:github-token": 2}


def test_a_label_whose_name_tells_that_it_is_secret_is_redacted() -> None:
    labels = dict(_row("x", {"app": "a", "registry_token": "hunter2hunter2"}, {"password": "correct9horse"})["labels"])
    assert labels["registry_token"].startswith("[REDACTED:named-secret:")
    assert labels["app"] == "a"


def test_one_secret_has_one_placeholder_in_every_column() -> None:
    hidden = TOKEN.replace("g", "\\u0067", 1)
    rows = _rows((f"x {TOKEN}", STREAM), (f'{{"msg":"{hidden}","err":"{TOKEN}"}}', STREAM), ("x", {"app": TOKEN}))
    mark = rows[0]["line"].removeprefix("x ")
    assert [rows[1]["msg"], rows[1]["err"], rows[2]["app"]] == [mark] * 3
    assert json.loads(rows[1]["line"]) == {"msg": mark, "err": mark}


KEY = corpus.pem(3)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda t: t,
        lambda t: f"INFO[0003] {t}",
        lambda t: json.dumps({"level": "INFO", "msg": t}),
        lambda t: json.dumps({"msg": t, "n": 1}).replace("/", "\\/"),
        lambda t: json.dumps({"out": t}),
        lambda t: f'level=info msg="{t}"',
    ],
    ids=["text", "kaniko", "json", "json with slashes", "another field", "logfmt"],
)
def test_a_key_over_several_entries_of_a_stream_is_redacted(wrap: Any) -> None:
    lines = [wrap(t) for t in KEY]
    mixed = [pair for line in lines for pair in ((line, STREAM), (f"step {len(line)} is done", OTHER))]
    rows = _rows(("before it", STREAM), *mixed, ("after it", STREAM))
    shown = json.dumps(rows).replace("\\/", "/")
    assert not any(body in shown for body in KEY[1:-1])
    others = [r["line"] for r in rows if ("pod", "w-2") in r["labels"]]
    assert others == [f"step {len(line)} is done" for line in lines]
    assert (rows[0]["line"], rows[1]["line"], rows[-1]["line"]) == ("before it", lines[0], "after it")
    assert [r["format"] for r in rows[1:-1:2]] == [_row(line)["format"] for line in lines]
    for r in rows:
        assert r["format"] != "json" or json.loads(r["line"])


def test_entries_of_a_key_are_counted() -> None:
    entries = [Entry(T0 + i, line, STREAM, {}) for i, line in enumerate(KEY)]
    _, counts = _table(*entries)
    assert counts["redacted:private-key"] == counts["redactions"] == len(KEY) - 2


def test_keys_of_pods_that_only_metadata_tells_apart_do_not_mix() -> None:
    one, other = {"app": "check"}, "between the lines: 7"
    entries = [Entry(T0 + 2 * i, line, one, {"pod": "a"}) for i, line in enumerate(KEY)]
    entries += [Entry(T0 + 2 * i + 1, other, one, {"pod": "b"}) for i in range(len(KEY))]
    lines = _table(*entries)[0]["line"].to_pylist()
    assert lines.count(other) == len(KEY)
    assert not set(KEY[1:-1]) & set(lines)


# Whatever entries there are

SPICE = st.sampled_from([
    '{"level":"INFO","msg":"x","n":', '{"a":"\\u003c \\/ \\t"}', "a=1 b=", "panic: ", "\t/x.go:1", "\x00", "\ufffd",
    "\\u0061",    "\u202e", "é", "{", "}", '"', "\\", "INFO[0003] ", "\r", "\n", "\u2028", "\x1b[31m",
])  # fmt: skip
LINES = st.lists(st.one_of(SPICE, st.text(st.characters(exclude_categories=["Cs"]), max_size=12)), max_size=5).map(
    "".join
)
NAMES = st.dictionaries(
    st.sampled_from(["app", "pod", "namespace", "filename", "issue"]), st.sampled_from("abc7"), max_size=3
)
ENTRIES = st.lists(st.builds(Entry, st.integers(T0, T0 + 5), LINES, NAMES, NAMES), max_size=8)


def _harmless(entries: Sequence[Entry]) -> bool:
    texts = [t for e in entries for t in (e.line, *(f"{k}={v}" for k, v in [*e.labels.items(), *e.metadata.items()]))]
    return not any(REDACTOR.text(t)[1] for t in texts)


@quick
@given(ENTRIES)
def test_entries_without_secrets_come_through_byte_for_byte_and_in_order(entries: list[Entry]) -> None:
    table, counts = _table(*entries)
    assert table.schema.equals(schemas.TABLES["logs"].schema)
    assert table.num_rows == len(entries)
    if _harmless(entries):
        wanted = Counter(
            (e.ts, e.line, tuple(sorted(e.labels.items())), tuple(sorted(e.metadata.items()))) for e in entries
        )
        rows = [
            table["ts"].cast(pa.int64()).to_pylist(),
            *(table[c].to_pylist() for c in ("line", "labels", "metadata")),
        ]
        assert Counter((ts, line, tuple(a), tuple(b)) for ts, line, a, b in zip(*rows, strict=True)) == wanted
        assert counts["redactions"] == 0
    assert table.equals(schemas.in_order("logs", table))
    assert counts["not_parsed"] == table["format"].to_pylist().count("broken")


@quick
@given(ENTRIES, st.integers(0, 7))
def test_the_rows_do_not_depend_on_how_entries_of_different_instants_come_in(entries: list[Entry], by: int) -> None:
    apart = [e._replace(ts=T0 + i) for i, e in enumerate(entries)]
    turned = apart[by:] + apart[:by]
    assert _table(*turned)[0].equals(_table(*apart)[0])


TRACE = ["panic: no run", "", "goroutine 1 [running]:", "main.main()", "\t/src/main.go:12 +0x1d", "exit status 2"]
ONE = [[json.dumps({"msg": "\n".join(KEY)})], [json.dumps({"level": "INFO", "msg": "x"})], ["plain"]]
# a key that has no beginning is known by its end alone, which the block must hold
WRITTEN = st.lists(st.sampled_from([KEY, KEY[:3], TRACE, TRACE[2:], *ONE]), max_size=5).map(
    lambda parts: [line for part in parts for line in part]
)


@quick
@given(WRITTEN, WRITTEN, st.randoms(use_true_random=False), st.integers(1, 7))
def test_what_spreads_over_lines_does_not_depend_on_where_a_block_ends(
    ours: list[str], others: list[str], rng: Random, most: int
) -> None:
    streams = [STREAM] * len(ours) + [OTHER] * len(others)
    rng.shuffle(streams)
    left = {"w-1": iter(ours), "w-2": iter(others)}
    entries = [Entry(T0 + i, next(left[labels["pod"]]), labels, {}) for i, labels in enumerate(streams)]
    whole, counts = _table(*entries)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loglines, "_BLOCK", most)
        cut, counts_cut = _table(*entries)
    assert cut.equals(whole)
    assert +counts_cut == +counts


@quick
@given(LINES, LINES, st.sampled_from(list(corpus.tokens().values())))
def test_a_token_is_in_no_column_whatever_is_around_it(before: str, after: str, token: str) -> None:
    row = _row(json.dumps({"msg": f"{before} {token} {after}", "x": {"err": [f"{before}\n{token}\n{after}"]}}))
    assert token not in json.dumps(row, ensure_ascii=False)


def test_half_a_surrogate_pair_anywhere_is_survived() -> None:
    row = _row("a \ud800 b", {"app": "\udc00", "pod\ud800": "x"}, {"k": "\ud800"})
    assert (row["line"], row["app"], row["metadata"]) == ("a ? b", "?", [("k", "?")])


def test_no_entries_make_an_empty_table() -> None:
    table, counts = _table()
    assert table.equals(schemas.empty("logs"))
    assert counts == {"not_parsed": 0}
