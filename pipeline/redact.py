"""Takes secrets out of text before anything is stored, and says how many of which kind.

The placeholder `[REDACTED:<rule>:<4 hex>]` holds an HMAC of the secret under the install's key: equal secrets
correlate, none can be guessed. A loose RE2 pass over all texts at once finds the few candidates; the exact rules run on
those.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections import Counter
from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.rules import RedactionRule

_PLACEHOLDER = re.compile(r"(\[REDACTED:[a-z0-9-]{1,40}:[0-9a-f]{4}\])")


class Redactor:
    """Redacts under one key; picklable."""

    def __init__(self, rules: Sequence[RedactionRule], key: bytes) -> None:
        self._rules = [(r.id, re.compile(r.pattern, re.ASCII), re.compile(r.hint, re.ASCII)) for r in rules]
        self._blocks = [
            (r.id, re.compile(r.multiline_start), re.compile(r.multiline_end)) for r in rules if r.multiline_start
        ]
        self._hint = "|".join(f"(?:{r.hint})" for r in rules)
        self._key = key

    def text(self, text: str) -> tuple[str, Counter[str]]:
        """Return a text without secrets, and how many of each rule were found."""
        found: Counter[str] = Counter()
        for rule, pattern, hint in self._rules:
            if hint.search(text):
                # what was redacted before stays as it is: only the text around placeholders is looked at
                parts = _PLACEHOLDER.split(text)
                parts[::2] = [pattern.sub(self._replace(rule, found), p) for p in parts[::2]]
                text = "".join(parts)
        return text, found

    def candidates(self, texts: pa.Array) -> list[int]:
        """Return the positions of the texts that may hold a secret; nulls never do."""
        hits = pc.match_substring_regex(texts, self._hint)
        return list(pc.indices_nonzero(pc.fill_null(hits, fill_value=False)).to_pylist())

    def many(self, texts: Sequence[str | None]) -> tuple[list[str | None], Counter[str]]:
        """Redact many texts: one cheap pass over all, the rules on candidates only."""
        out, found = list(texts), Counter[str]()
        for i in self.candidates(pa.array(out, pa.string())):
            clean, some = self.text(out[i] or "")
            out[i] = clean
            found += some
        return out, found

    def block_starts(self, text: str) -> str | None:
        """Return the rule whose many-line secret begins in `text` and does not end there."""
        for rule, start, end in self._blocks:
            opened = list(start.finditer(text))
            if opened and not end.search(text, opened[-1].end()):
                return rule
        return None

    def block(self, rule: str, text: str) -> tuple[str, bool]:
        """Redact an entry inside a many-line secret; tells whether the secret ends with it."""
        end = next(e for r, _, e in self._blocks if r == rule)
        closed = end.search(text)
        inside, rest = (text[: closed.start()], text[closed.start() :]) if closed else (text, "")
        return (self._placeholder(rule, inside) if inside else "") + rest, closed is not None

    def _replace(self, rule: str, found: Counter[str]) -> Callable[[re.Match[str]], str]:
        def replaced(m: re.Match[str]) -> str:
            group: str | int = "secret" if "secret" in m.re.groupindex else 0
            found[rule] += 1
            start, end = m.start(group) - m.start(), m.end(group) - m.start()
            return m[0][:start] + self._placeholder(rule, m[group]) + m[0][end:]

        return replaced

    def _placeholder(self, rule: str, secret: str) -> str:
        mark = hmac.new(self._key, secret.encode("utf-8", "replace"), hashlib.sha256).hexdigest()[:4]
        return f"[REDACTED:{rule}:{mark}]"
