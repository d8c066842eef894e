"""The LogQL that the client writes, read and carried out on entries; any other question fails the test that asked it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from pipeline.model import NS, Entry

Labels: TypeAlias = dict[str, str]


class Held(NamedTuple):
    """An entry as Loki shows it, with all its labels and metadata together as a pipeline sees them."""

    entry: Entry
    merged: Labels


class Condition(NamedTuple):
    """A condition on a label, which is "" where it is not there; regular expressions hold for all of it."""

    name: str
    how: str
    value: str

    def holds(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.name, "")
        if self.how in {"=", "!="}:
            return (value == self.value) == (self.how == "=")
        return (re.fullmatch(f"(?s:{python(self.value)})", value) is not None) == (self.how == "=~")


class Stage(NamedTuple):
    """A part of a pipeline: a condition on the line, on labels and metadata, or labels made of the entry."""

    line: tuple[str, str] | None = None
    test: Condition | None = None
    made: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Question:
    """What was asked: which streams and lines, and where they are counted in which `width`, whether `summed`, `by` what."""

    matchers: tuple[Condition, ...]
    stages: tuple[Stage, ...] = ()
    width: int = 0
    summed: bool = False
    by: str | None = None

    def holds(self, h: Held) -> bool:
        """Tell whether an entry is asked for."""
        if not all(m.holds(h.entry.labels) for m in self.matchers):
            return False
        labels = dict(h.merged)
        return all(self._passes(s, h, labels) for s in self.stages)

    def seen(self, h: Held) -> Labels:
        """Return the labels that an entry has behind the pipeline."""
        labels = dict(h.merged)
        for s in self.stages:
            self._passes(s, h, labels)
        return labels

    @staticmethod
    def _passes(s: Stage, h: Held, labels: Labels) -> bool:
        values = {"{{__timestamp__ | unixEpochNanos}}": str(h.entry.ts), "{{__line__}}": h.entry.line}
        labels.update({name: values[template] for name, template in s.made})
        if s.line:
            return (re.search(python(s.line[1]), h.entry.line) is not None) == (s.line[0] == "|~")
        return s.test is None or s.test.holds(labels)


@lru_cache(4096)
def python(pattern: str) -> str:
    """Return a regular expression of Go as one of Python."""
    return re.sub(r"\\x\{([0-9a-f]+)\}", lambda m: re.escape(chr(int(m[1], 16))), pattern)


@lru_cache(4096)
def parsed(text: str) -> Question:
    """Read LogQL."""
    tokens = _Tokens(text)
    question = tokens.metric() if tokens.next in {"sum", "count_over_time"} else tokens.logs()
    assert tokens.next == "", text
    return question


class _Tokens:
    """Reads one question word by word."""

    _WORD = re.compile(
        r'\s*("(?:[^"\\\n\0]|\\.)*"|`[^`]*`|[A-Za-z_]\w*|[0-9]+(?:ms|s)|=~|!~|!=|\|~|[{}()\[\],=|])', re.ASCII
    )
    _ESCAPED: Mapping[str, str] = {"\\": "\\", '"': '"'}
    _UNIT: Mapping[str, int] = {"ms": 10**6, "s": NS}

    def __init__(self, text: str) -> None:
        self._text = text.strip()
        self._words = self._split()
        self.next = next(self._words, "")

    def _split(self) -> Iterator[str]:
        at = 0
        while at < len(self._text):
            found = self._WORD.match(self._text, at)
            assert found, self._text[at:]
            at = found.end()
            yield found[1]

    def take(self, *wanted: str) -> str:
        """Return the next word, which must be one of those, if any are given."""
        word = self.next
        assert not wanted or word in wanted, f"{word!r}, not {wanted}, in {self._text}"
        self.next = next(self._words, "")
        return word

    def string(self) -> str:
        word = self.take()
        assert word[0] in '"`', word
        if word[0] == "`":
            return word[1:-1]
        return re.sub(r"\\u(.{4})|\\(.)", lambda m: chr(int(m[1], 16)) if m[1] else self._ESCAPED[m[2]], word[1:-1])

    def name(self) -> str:
        word = self.take()
        assert re.fullmatch(r"[A-Za-z_]\w*", word, re.ASCII), word
        return word

    def test(self) -> Condition:
        return Condition(self.name(), self.take("=", "!=", "=~", "!~"), self.string())

    def logs(self) -> Question:
        self.take("{")
        matchers = [self.test()]
        while self.take(",", "}") == ",":
            matchers.append(self.test())
        # Loki wants one matcher that no stream without that label fits
        assert any(not m.holds({}) for m in matchers), self._text
        stages = []
        while self.next in {"|~", "!~", "|"}:
            stages.append(self._stage())
        return Question(tuple(matchers), tuple(stages))

    def _stage(self) -> Stage:
        how = self.take()
        if how != "|":
            return Stage(line=(how, self.string()))
        if self.next != "label_format":
            return Stage(test=self.test())
        made = []
        while self.take("label_format", ",") and (name := self.name()) and self.take("="):
            made.append((name, self.string()))
            if self.next != ",":
                break
        return Stage(made=tuple(made))

    def metric(self) -> Question:
        summed = self.next == "sum" and bool(self.take())
        by = None
        if summed and self.next == "by":
            self.take()
            self.take("(")
            by = self.name()
            self.take(")")
        if summed:
            self.take("(")
        self.take("count_over_time")
        self.take("(")
        logs = self.logs()
        self.take("[")
        digits, unit = re.fullmatch(r"([0-9]+)(ms|s)", self.take()).groups()  # type: ignore[union-attr]
        self.take("]")
        self.take(")")
        if summed:
            self.take(")")
        return Question(logs.matchers, logs.stages, int(digits) * self._UNIT[unit], summed, by)
