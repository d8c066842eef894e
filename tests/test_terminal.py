"""What people see: one line a step, progress and colour only on a terminal, and nothing that a log says is obeyed."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import AislotError, LakeError, SourceError, StoppedError, UsageError
from pipeline.terminal import NORMAL, QUIET, VERBOSE, Terminal, shown


class Screen(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_step_is_one_line() -> None:
    stream = io.StringIO()
    terminal = Terminal(stream)
    terminal.say("✓ jobs")
    terminal.say("✕ logs")
    assert stream.getvalue() == "✓ jobs\n✕ logs\n"


@pytest.mark.parametrize(
    ("level", "said"), [(QUIET, ""), (NORMAL, "✓ done\n"), (VERBOSE, "… 1 h\n✓ done\n"), (3, "… 1 h\n✓ done\n")]
)
def test_off_a_terminal_progress_is_said_only_when_verbose(level: int, said: str) -> None:
    stream = io.StringIO()
    terminal = Terminal(stream, level, colour=True)
    terminal.say("… 1 h")
    terminal.say("✓ done")
    assert stream.getvalue() == said


def test_on_a_terminal_progress_is_one_moving_line_that_the_next_step_replaces() -> None:
    stream = Screen()
    terminal = Terminal(stream, colour=True)
    terminal.say("… 1 h")
    terminal.say("… 2 h")
    terminal.say("done")
    assert stream.getvalue() == "… 1 h\r\x1b[2K… 2 h\r\x1b[2Kdone\n"


def test_without_colour_a_terminal_has_no_moving_line_either() -> None:
    stream = Screen()
    terminal = Terminal(stream)
    terminal.say("… 1 h")
    terminal.say("✓ done")
    assert stream.getvalue() == "✓ done\n"


@pytest.mark.parametrize(("sign", "colour"), [("✓", "32"), ("✕", "31"), ("!", "33")])
def test_a_sign_is_coloured_on_a_terminal(sign: str, colour: str) -> None:
    stream = Screen()
    Terminal(stream, colour=True).say(f"{sign} jobs")
    assert stream.getvalue() == f"\x1b[{colour}m{sign}\x1b[0m jobs\n"


@pytest.mark.parametrize("verdict", ["red", "amber", "green", "grey"])
def test_a_verdict_is_a_word_beside_its_sign_and_what_to_do_is_numbered(verdict: str) -> None:
    stream = io.StringIO()
    Terminal(stream, colour=True).verdict(verdict, "2 builds failed", ("look", "retry"))
    first, *todo = stream.getvalue().strip().splitlines()
    assert first[2:] == f"{verdict.upper()}  2 builds failed"
    assert todo == ["   1   look", "   2   retry"]


def test_quiet_leaves_only_errors() -> None:
    stream = io.StringIO()
    terminal = Terminal(stream, QUIET)
    terminal.say("✓ done")
    terminal.verdict("red", "x", ())
    assert stream.getvalue() == ""
    terminal.error(UsageError("wrong"))
    assert "error: wrong" in stream.getvalue()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (AislotError("x"), "1, a bug"),
        (UsageError("x"), "2, the command or the settings"),
        (SourceError("x"), "3, a source could not be reached"),
        (StoppedError("x"), "4, done as far as it went"),
        (LakeError("x"), "5, the lake cannot be read or written"),
    ],
)
def test_an_error_says_what_is_kept_what_to_do_and_how_it_ends(error: AislotError, code: str) -> None:
    stream = io.StringIO()
    error.fix, error.kept = "do this", "all of it"
    Terminal(stream).error(error)
    lines = stream.getvalue().splitlines()
    assert lines[:3] == ["error: x", "  what is kept  all of it", "  what to do    do this"]
    assert lines[3].startswith(f"  exit code     {code}")


def test_an_error_leaves_out_what_it_does_not_know() -> None:
    stream = io.StringIO()
    Terminal(stream).error(UsageError("x"))
    assert [line.split()[0] for line in stream.getvalue().splitlines()] == ["error:", "exit"]


def test_an_error_takes_the_place_of_a_moving_line() -> None:
    stream = Screen()
    terminal = Terminal(stream, colour=True)
    terminal.say("… 1 h")
    terminal.error(UsageError("x"))
    assert "… 1 h\r\x1b[2K\x1b[31merror:\x1b[0m x\n" in stream.getvalue()


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("a\x1b[31mb", r"a\x1b[31mb"),
        ("a\u202eb", r"a\u202eb"),
        ("a\nerror: forged", r"a\x0aerror: forged"),
        ("a\rb\x07\x7f\x9b", r"a\x0db\x07\x7f\x9b"),
        ("\u2066\ufeff\u200b\u2028", r"\u2066\ufeff\u200b\u2028"),
        ("Größe — 5 ✓ 日本\tx", "Größe — 5 ✓ 日本\tx"),
    ],
)
def test_what_would_steer_a_terminal_is_shown(text: str, seen: str) -> None:
    assert shown(text) == seen


@given(st.text())
def test_no_text_of_a_server_steers_the_terminal_or_adds_a_line(text: str) -> None:
    stream = io.StringIO()
    terminal = Terminal(stream, VERBOSE, colour=True)
    terminal.say(f"✓ {text}")
    terminal.error(LakeError(text, text, text))
    terminal.verdict("green", text, (text,))
    seen = stream.getvalue()
    assert all(c in "\n\t" or c.isprintable() or ord(c) > 0x9F for c in seen)
    assert seen.count("\n") == 1 + 2 + 2 * bool(text) + 3
