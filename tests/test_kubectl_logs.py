"""Recorded logs: when each line was written, who wrote it, and what a log covers."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import catalog
from pipeline.errors import SourceError
from pipeline.model import Window, instant_of, instant_text
from pipeline.sources import kubectl
from pipeline.sources.kubectl import Dump, Log

KINDS = catalog.load().job_kinds
DEPLOYMENT = "codex-k8s-control-plane"
BUILD = "codex-k8s-kaniko-web-console-3f2a9c1e-7b4"
RUN = "codex-k8s-run-3f2a9c1e-7b41-4c1d-9a60-52e1c07d8b14"


def at(time: str) -> str:
    return f"2026-02-26T{time}Z"


def read(folder: Path, text: str | bytes, name: str = DEPLOYMENT) -> Log:
    (folder / "logs").mkdir(exist_ok=True)
    (folder / "logs" / f"{name}.log").write_bytes(text if isinstance(text, bytes) else text.encode())
    (found,) = Dump(folder).logs("prod", KINDS)
    return found


def lines(found: Log) -> list[tuple[str, str]]:
    return [(instant_text(e.ts)[11:-1], e.line) for e in found.entries]


def test_kubectls_stamps_date_lines_and_are_no_part_of_them(tmp_path: Path) -> None:
    text = (
        f'{at("09:00:00.123456789")} {{"time":"2026-02-26T08:00:00Z","msg":"a"}}\n'
        f"{at('09:00:01')} 2026-02-26T08:00:00Z its own time\n"
        f"{at('09:00:02')} \n"
        f"{at('09:00:03')}\n"
        f"{at('09:00:04')}   indented\n"
        "2026-02-26T12:00:05+03:00 elsewhere\n"
    )
    assert lines(read(tmp_path, text)) == [
        ("09:00:00.123456789", '{"time":"2026-02-26T08:00:00Z","msg":"a"}'),
        ("09:00:01", "2026-02-26T08:00:00Z its own time"),
        ("09:00:02", ""),
        ("09:00:03", ""),
        ("09:00:04", "  indented"),
        ("09:00:05", "elsewhere"),
    ]


def test_without_stamps_a_lines_own_time_serves_and_the_line_stays_whole(tmp_path: Path) -> None:
    text = (
        '{"time":"2026-02-26T09:00:00.5Z","level":"INFO"}\n'
        '{"level": "INFO", "time" : "2026-02-26T12:00:01+03:00"}\n'
        "2026-02-26T09:00:02Z a line that begins with its time\n"
        '{"msg":"no time"}\n'
        '{"msg":"quotes \\"time\\":\\"2100-01-01T00:00:00Z\\"","time":"2026-02-26T09:00:03Z"}\n'
        'not JSON, "time":"2100-01-01T00:00:00Z"\n'
    )
    found = read(tmp_path, text)
    assert [t for t, _ in lines(found)] == ["09:00:00.5", "09:00:01", "09:00:02", "09:00:02", "09:00:03", "09:00:03"]
    assert [line for _, line in lines(found)] == text.splitlines()


def test_a_line_without_a_time_follows_the_one_before_and_the_first_ones_the_first_time(tmp_path: Path) -> None:
    text = 'starting\n{"time":"2026-02-26T09:00:00Z"}\npanic: x\n\ngoroutine 1 [running]:\n{"time":"2026-02-26T09:00:01Z"}\n'
    found = read(tmp_path, text)
    assert [t for t, _ in lines(found)] == ["09:00:00"] * 5 + ["09:00:01"]
    assert [line for _, line in lines(found)] == text.splitlines()
    assert found.unstamped == 0


@pytest.mark.parametrize(
    "text", ["", "\n", "no time\nnor here\n", '{"time":"soon, at noon"}\n', '{"time":"9999-01-01T00:00:00Z"}']
)
def test_a_log_without_any_time_has_no_entries_and_covers_nothing(tmp_path: Path, text: str) -> None:
    found = read(tmp_path, text)
    assert (found.entries, found.window) == ([], None)
    assert found.unstamped == len(text.splitlines())


def test_lines_end_at_line_feeds_and_nowhere_else(tmp_path: Path) -> None:
    odd = "a\u2028b\u2029c\x0bd\x0ce\x1cf\x85g\rh"
    assert lines(read(tmp_path, f"{at('09:00:00')} {odd}\r\n{at('09:00:01')} last")) == [
        ("09:00:00", odd),
        ("09:00:01", "last"),
    ]


def test_bytes_that_are_no_text_are_shown_as_such(tmp_path: Path) -> None:
    assert lines(read(tmp_path, at("09:00:00").encode() + b" \xff\xfe\n")) == [("09:00:00", "\ufffd\ufffd")]


def test_a_log_covers_from_its_first_line_to_its_last_whatever_stands_between(tmp_path: Path) -> None:
    odd = [at("09:00:00"), "2100-01-01T00:00:00Z", "2001-01-01T00:00:00Z", at("09:10:00")]
    found = read(tmp_path, "".join(f"{t} x\n" for t in odd))
    assert found.window == Window(instant_of(odd[0]), instant_of(odd[-1]) + 1)
    assert [e.ts for e in found.entries] == sorted(map(instant_of, odd))


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        (DEPLOYMENT, {"app": DEPLOYMENT}),
        ("codex-k8s-worker", {"app": "codex-k8s-worker"}),
        (f"{DEPLOYMENT}-7d9f8b6c5d-x2x9z", {"app": DEPLOYMENT, "pod": f"{DEPLOYMENT}-7d9f8b6c5d-x2x9z"}),
        ("codex-k8s-worker-bcdfghjkl-x2x9z", {"app": "codex-k8s-worker", "pod": "codex-k8s-worker-bcdfghjkl-x2x9z"}),
        ("my-frontend-cache", {"app": "my-frontend-cache"}),
        (BUILD, {"app": "codex-k8s-kaniko", "job_name": BUILD}),
        (f"{BUILD}-x7k2p", {"app": "codex-k8s-kaniko", "job_name": BUILD, "pod": f"{BUILD}-x7k2p"}),
        ("codex-k8s-codegen-check", {"app": "codex-k8s-codegen-check", "job_name": "codex-k8s-codegen-check"}),
        (
            "codex-k8s-codegen-check-3f2a9c1e-7b4-kpnwv",
            {
                "app": "codex-k8s-codegen-check",
                "job_name": "codex-k8s-codegen-check-3f2a9c1e-7b4",
                "pod": "codex-k8s-codegen-check-3f2a9c1e-7b4-kpnwv",
            },
        ),
        (
            "codex-k8s-mirror-node-22-5be0c1d4",
            {"app": "codex-k8s-image-mirror", "job_name": "codex-k8s-mirror-node-22-5be0c1d4"},
        ),
        (RUN, {"app": "codex-k8s-run", "job_name": RUN}),
        (f"{RUN}-x7k2p", {"app": "codex-k8s-run", "job_name": RUN, "pod": f"{RUN}-x7k2p"}),
        ("codex-k8s-migrate-20260226", {"app": "", "job_name": "codex-k8s-migrate-20260226"}),
    ],
)
def test_a_logs_name_tells_who_wrote_it(tmp_path: Path, name: str, labels: dict[str, str]) -> None:
    (entry,) = read(tmp_path, f"{at('09:00:00')} x\n", name).entries
    assert dict(entry.labels) == {"namespace": "prod"} | labels
    assert entry.metadata == {}


def test_logs_are_read_one_by_one_in_the_order_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    for name in ("b", "a", "c"):
        (tmp_path / "logs" / f"{name}.log").write_text("")
    (tmp_path / "logs" / "README.txt").write_text("")
    assert [found.name for found in Dump(tmp_path).logs("prod", KINDS)] == ["a", "b", "c"]


def test_a_dump_without_logs_has_none_and_a_log_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    assert list(Dump(tmp_path).logs("prod", KINDS)) == []
    (tmp_path / "logs" / "x.log").mkdir(parents=True)
    with pytest.raises(SourceError, match=r"x.log is no file"):
        list(Dump(tmp_path).logs("prod", KINDS))


WORDS = st.sampled_from(
    [at("09:00:00"), at("09:00:01.5"), " ", "x", '{"time":"', '"}', "\u2028", "2026-13-99T99:99:99Z"]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(WORDS, max_size=4).map("".join), max_size=8))
def test_no_line_is_lost_or_made_up(raw: list[str]) -> None:
    found = kubectl.log("x", raw, "prod", KINDS)
    assert len(found.entries) + found.unstamped == len(raw)
    assert all(any(e.line in r for r in raw) for e in found.entries)
    assert (found.window is None) == (not found.entries)
