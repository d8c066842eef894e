"""What people see while a command runs: one line a step on stderr, colour and a moving line only on a terminal."""

from __future__ import annotations

import re
from typing import TextIO

from pipeline.errors import AislotError

QUIET, NORMAL, VERBOSE = -1, 0, 1
_COLOURS = {"✓": "32", "✕": "31", "!": "33"}
_VERDICTS = {"red": ("✕", "31"), "amber": ("!", "33"), "green": ("✓", "32"), "grey": ("?", "90")}
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
_MEANING = {
    1: "a bug",
    2: "the command or the settings",
    3: "a source could not be reached, refused us, or is not what it should be",
    4: "done as far as it went, but not complete",
    5: "the lake cannot be read or written, or that day was never pulled",
    6: "publishing was refused",
}


class Terminal:
    """Writes to one stream; texts of servers and logs are shown, never obeyed."""

    def __init__(self, stream: TextIO, level: int = NORMAL, *, colour: bool = False) -> None:
        self._stream = stream
        self._level = level
        self._moving = colour and stream.isatty()
        self._colour = colour and stream.isatty()
        self._open = False

    def say(self, text: str) -> None:
        """Tell a step; one that begins with `…` is progress: a moving line on a terminal, else only when verbose."""
        if self._level <= QUIET:
            return
        progress = text.startswith("…")
        if progress and not self._moving and self._level < VERBOSE:
            return
        self._clear()
        self._stream.write(self._painted(shown(text)) + ("" if progress and self._moving else "\n"))
        self._open = progress and self._moving
        self._stream.flush()

    def verdict(self, verdict: str, sentence: str, todo: tuple[str, ...]) -> None:
        """Tell what a report says: the verdict, then what to do."""
        if self._level <= QUIET:
            return
        self._clear()
        sign, colour = _VERDICTS[verdict]
        self._stream.write(f"\n{self._paint(f'{sign} {verdict.upper()}', colour)}  {shown(sentence)}\n")
        for i, what in enumerate(todo, 1):
            self._stream.write(f"   {i}   {shown(what)}\n")

    def error(self, error: AislotError) -> None:
        """Tell what happened, what is kept, what to do and how the command ends."""
        self._clear()
        self._stream.write(f"{self._paint('error:', '31')} {shown(error.what)}\n")
        code = f"{error.exit_code}, {_MEANING[error.exit_code]}"
        for name, text in (("what is kept", error.kept), ("what to do", error.fix), ("exit code", code)):
            if text:
                self._stream.write(f"  {name:<14}{shown(text)}\n")
        self._stream.flush()

    def _clear(self) -> None:
        if self._open:
            self._stream.write("\r\x1b[2K")
            self._open = False

    def _painted(self, text: str) -> str:
        colour = _COLOURS.get(text[:1])
        return self._paint(text[0], colour) + text[1:] if colour else text

    def _paint(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colour else text


def shown(text: str) -> str:
    r"""Show what would steer a terminal as `\x1b`."""
    return _CONTROL.sub(lambda m: f"\\x{ord(m[0]):02x}" if ord(m[0]) < 256 else f"\\u{ord(m[0]):04x}", text)  # noqa: PLR2004
