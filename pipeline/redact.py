"""Takes secrets out of text before anything is stored, and says how many of which kind.

The placeholder `[REDACTED:<rule>:<4 hex>]` holds an HMAC of the secret under the install's key: equal secrets
correlate, none can be guessed. A loose pass over all texts at once finds the few candidates; the exact rules run on
those. Who reads texts by the million makes that pass, over `hints`, with patterns of its own.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, MutableMapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.rules import RedactionRule

_SURE = 16  # characters from which a text of base64 is taken for a part of a key that is near
# what a part of a key looks like that spreads over several texts: a word of its own, a header, or a long run in a text
_BODY = re.compile(
    r"^[ \t\r]*[A-Za-z0-9+/=]{4,}[ \t\r]*$|^(?:Proc-Type|DEK-Info|Version|Comment|Hash): .*|"
    r"[A-Za-z0-9+/]{32,}={0,2}|(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{2,}={1,2}(?=[\s\"\\]|$)",
    re.MULTILINE,
)
_MAY_HIDE = r"\\(?:u00|/|t)"
_ESCAPE = re.compile(r"(?<!\\)(?:\\t|\\+(?:u00([0-7][0-9a-fA-F])|/))")
_STRANGERS = 10  # other texts among a key's: two writers share a stream; after more, the key was never finished


class Redactor:
    """Redacts under one key; picklable."""

    def __init__(self, rules: Sequence[RedactionRule], key: bytes) -> None:
        self._rules = [(r.id, re.compile(r.pattern, re.ASCII), re.compile(r.hint, re.ASCII)) for r in rules]
        self._blocks = [
            (r.id, re.compile(r.multiline_start, re.ASCII), re.compile(r.multiline_end, re.ASCII))
            for r in rules
            if r.multiline_start
        ]
        self.may_hide = _MAY_HIDE
        self.hints = [r.hint for r in rules]
        self.bounds = [bound.pattern for _, *bounds in self._blocks for bound in bounds]
        self._hint = "|".join(f"(?:{r.hint})" for r in rules)
        # only what we write ourselves: a log that writes `[REDACTED:<a token>:0000]` must not get a token past the rules
        self._own = re.compile(rf"(\[REDACTED:(?:{'|'.join(re.escape(r.id) for r in rules)}):[0-9a-f]{{4}}\])")
        self._key = key

    def text(self, text: str) -> tuple[str, Counter[str]]:
        """Return a text without secrets, and how many of each rule were found; escapes that hide one are written out."""
        if "\\" in text:
            clean, found = self._redacted(self.unescaped(text))
            if found:
                return clean, found
        return self._redacted(text)

    @staticmethod
    def unescaped(text: str) -> str:
        """Write out what JSON may spell as escapes, in strings inside strings too; JSON stays JSON of the same meaning.

        Of a control character a space is left, which rules look for between words; of a line's end its short escape.
        """
        return _ESCAPE.sub(_written, text)

    def _redacted(self, text: str) -> tuple[str, Counter[str]]:
        """Look until nothing is found: what one rule took away may have hidden where another secret ends."""
        found: Counter[str] = Counter()
        some = True
        while some:
            text, more = self._once(text)
            some = bool(more)
            found += more
        return text, found

    def _once(self, text: str) -> tuple[str, Counter[str]]:
        found: Counter[str] = Counter()
        for rule, pattern, hint in self._rules:
            if hint.search(text):
                # what was redacted before stays as it is: only the text around placeholders is looked at
                parts = self._own.split(text)
                parts[::2] = [pattern.sub(self._replace(rule, found), p) for p in parts[::2]]
                text = "".join(parts)
        return text, found

    def first(self, text: str, markup: re.Pattern[str]) -> tuple[str, int] | None:
        """Return rule and position of the first secret in a text that is about to leave; None where there is none.

        The text is looked at as it is read: `markup` finds what its form puts before a character (its group 1), and
        backticks are blanks. Placeholders are passed over, also those that a shortened line cuts off with `…`.
        """
        bare, at = _spelt(text, range(len(text)), markup, lambda m: m[1])
        shape = bare.replace("`", " "), at
        found = [
            (at[start], rule)
            for shown, at in (shape, _spelt(*shape, _ESCAPE, _written))
            for rule, start in self._found(shown)
        ]
        lines = text.splitlines(keepends=True)
        found += [(sum(map(len, lines[:i])), rule) for i, (rule, _) in self.across(lines).items()]
        first = min(found, default=None)
        return first and (first[1], first[0])

    def _found(self, text: str) -> Iterator[tuple[str, int]]:
        """Yield rule and position of every secret outside of placeholders."""
        ids = [rule for rule, _, _ in self._rules]
        cut = {f"[REDACTED:{rule}:"[:n] for rule in ids for n in range(1, len(f"[REDACTED:{rule}:") + 1)}
        begun = "|".join(re.escape(c) for c in sorted(cut, key=len, reverse=True))
        names = "|".join(map(re.escape, ids))
        ours = re.compile(rf"(\\?\[REDACTED:(?:{names}):[0-9a-f]{{4}}\\?\]|(?:{begun})[0-9a-f]{{0,4}}…)")
        at = 0
        for n, part in enumerate(ours.split(text)):
            if n % 2 == 0:
                for rule, pattern, hint in self._rules:
                    if hint.search(part):
                        yield from ((rule, at + m.start(g)) for m in pattern.finditer(part) if m[g := _secret(m)])
            at += len(part)

    def finds(self, text: str, hinted: Collection[int]) -> bool:
        """Tell whether `text()` may change a text in which only the hints of these numbers are found: cheaper than it."""
        if "[REDACTED:" in text:
            return True  # a rule may begin or end where a placeholder does
        shown = {text, self.unescaped(text)} if "\\" in text else {text}
        return any(self._rules[n][1].search(t) for t in shown for n in hinted)

    def candidates(self, texts: pa.Array) -> list[int]:
        """Return the positions of the texts that may hold a secret; nulls never do."""
        return _hits(texts, self._hint)

    def many(self, texts: Sequence[str | None]) -> tuple[list[str | None], Counter[str]]:
        """Redact many texts: one cheap pass over all, the rules on candidates only; nulls stay."""
        out, found = list(texts), Counter[str]()
        array = pa.array(out, pa.string())
        hiding = _hits(array, self.may_hide)
        plain = pa.array([self.unescaped(out[i] or "") for i in hiding], pa.string())
        for i in sorted({*self.candidates(array), *(hiding[k] for k in self.candidates(plain))}):
            out[i], some = self.text(out[i] or "")
            found += some
        return out, found

    def table(self, table: pa.Table, columns: Sequence[str]) -> pa.Table:
        """Redact columns of text, and of maps the values; each distinct map is looked at once."""
        for name in columns:
            values, kind = table[name].to_pylist(), table.schema.field(name).type
            if pa.types.is_map(kind):
                distinct = {tuple(v) for v in values if v}
                maps = {v: [(k, self.text(t)[0]) for k, t in v] for v in distinct}
                clean: list[Any] = [v and maps[tuple(v)] for v in values]
            else:
                clean, _ = self.many(values)
            table = table.set_column(
                table.schema.get_field_index(name), table.schema.field(name), pa.array(clean, kind)
            )
        return table

    @property
    def spread(self) -> list[str]:
        """The rules of what spreads over lines."""
        return [rule for rule, _, _ in self._blocks]

    def across(
        self,
        texts: Sequence[str],
        unfinished: MutableMapping[str, int] | None = None,
        at: Sequence[int] | None = None,
    ) -> dict[int, tuple[str, str]]:
        """Redact secrets that spread over the texts of one stream: position -> rule and what that text becomes.

        The text in which a secret begins is `text`'s business. One that began before these texts ends in them too.
        `unfinished` is what the texts before these have left, and then these: for the next ones of the stream. `at` are the
        instants of the texts: those of one instant may have come in any order.
        """
        out: dict[int, tuple[str, str]] = {}
        state = unfinished if unfinished is not None else {}
        for rule, start, end in self._blocks:
            left = state.pop(rule, 0)
            marks: set[int] = set()
            for i, text in enumerate(texts):
                opened = [m.end() for m in start.finditer(text)]
                ended = end.search(text, opened[-1] if opened else 0)
                if at and bool(opened) != bool(ended):
                    marks.add(at[i])
                if opened:
                    left = 0 if ended else _STRANGERS
                elif left or ended:
                    body = text[: ended.start()] if ended else text
                    clean = self._without_body(rule, body)
                    if clean != body:
                        out[i] = (rule, clean + text[len(body) :])
                    if ended and not left:
                        out |= self._before(rule, texts, i)
                    left = 0 if ended else left - (clean == body)
            if at and marks:
                out |= self._beside(
                    rule, texts, [i for i, instant in enumerate(at) if instant in marks and i not in out]
                )
            if left:
                state[rule] = left
        return out

    def _before(self, rule: str, texts: Sequence[str], end: int) -> dict[int, tuple[str, str]]:
        out = {}
        for i in range(end - 1, -1, -1):
            clean = self._without_body(rule, texts[i])
            if clean == texts[i]:
                break
            out[i] = (rule, clean)
        return out

    def _beside(self, rule: str, texts: Sequence[str], some: Sequence[int]) -> dict[int, tuple[str, str]]:
        """Redact bodies among texts of which it is not known whether they lie inside: a short word is none."""
        long = (i for i in some if len(texts[i].strip()) >= _SURE or texts[i].rstrip().endswith("="))
        clean = ((i, self._without_body(rule, texts[i])) for i in long)
        return {i: (rule, text) for i, text in clean if text != texts[i]}

    def _without_body(self, rule: str, text: str) -> str:
        return _BODY.sub(lambda m: self._placeholder(rule, m[0]), text)

    def _replace(self, rule: str, found: Counter[str]) -> Callable[[re.Match[str]], str]:
        def replaced(m: re.Match[str]) -> str:
            group = _secret(m)
            if not m[group]:
                return m[0]
            found[rule] += 1
            start, end = m.start(group) - m.start(), m.end(group) - m.start()
            return m[0][:start] + self._placeholder(rule, m[group]) + m[0][end:]

        return replaced

    def _placeholder(self, rule: str, secret: str) -> str:
        mark = hmac.new(self._key, secret.encode("utf-8", "replace"), hashlib.sha256).hexdigest()[:4]
        return f"[REDACTED:{rule}:{mark}]"


def _hits(texts: pa.Array, pattern: str) -> list[int]:
    hits = pc.match_substring_regex(texts, pattern)
    return list(pc.indices_nonzero(pc.fill_null(hits, fill_value=False)).to_pylist())


def _secret(m: re.Match[str]) -> str | int:
    """Return which group of a match is the secret."""
    return "secret" if m.re.groupindex.get("secret") and m["secret"] is not None else 0


def _spelt(
    text: str, at: Sequence[int], pattern: re.Pattern[str], write: Callable[[re.Match[str]], str]
) -> tuple[str, list[int]]:
    """Write out what a pattern finds; with the text come the positions that its characters had."""
    pieces: list[str] = []
    origins: list[int] = []
    end = 0
    for m in pattern.finditer(text):
        new = write(m)
        pieces += [text[end : m.start()], new]
        origins += [*at[end : m.start()], *[at[m.start()]] * len(new)]
        end = m.end()
    return "".join([*pieces, text[end:]]), [*origins, *at[end:]]


def _written(escape: re.Match[str]) -> str:
    if escape[0] == r"\t":
        return " "
    char = chr(int(escape[1], 16)) if escape[1] else "/"
    if char in "\r\n":
        return r"\n"
    return "\\" + char if char in '"\\' else max(char, " ")
