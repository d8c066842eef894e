"""The words of a report in one language: `reports/words/LANG.toml` holds every label, sentence and noun of it.

Numbers, times and identifiers are written alike in every language; here is what changes with a number.
"""

from __future__ import annotations

import datetime as dt
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_TEENS = range(11, 15)


def _english(n: int) -> int:
    return 0 if n == 1 else 1


def _russian(n: int) -> int:
    """Return which form a noun has: 1 запуск, 2 запуска, 5 запусков, 21 запуск (CLDR's one, few, many)."""
    last, teen = n % 10, n % 100 in _TEENS
    return 2 if teen or last in {0, 5, 6, 7, 8, 9} else 0 if last == 1 else 1


_FORMS: Mapping[str, Callable[[int], int]] = {"en": _english, "ru": _russian}
LANGS = tuple(_FORMS)


@dataclass(frozen=True)
class Words:
    """A language's texts: templates of `{names}` by key, and groups of them; called with a key it gives the text."""

    lang: str
    texts: Mapping[str, Any]

    def __call__(self, key: str) -> str:
        """Return a text."""
        return str(self.texts[key])

    def of(self, group: str) -> Mapping[str, str]:
        """Return the texts of a group."""
        found: Mapping[str, str] = self.texts[group]
        return found

    def list(self, key: str) -> Sequence[str]:
        """Return texts that stand in an order, such as months."""
        found: Sequence[str] = self.texts[key]
        return found

    def noun(self, n: int, noun: str) -> str:
        """Return the form of a noun, named in English and in the singular, that goes with a number."""
        return str(self.texts["nouns"][noun][_FORMS[self.lang](abs(n))])

    def counted(self, n: int, noun: str) -> str:
        """Write a number with its noun."""
        return f"{n:,} {self.noun(n, noun)}"

    def short_day(self, date: dt.date) -> str:
        """Write a day as a column's head."""
        return f"{date.day} {self.list('months')[date.month - 1]}"

    def rules(self, n: int) -> str:
        """Write by how many rules."""
        few = self.list("few_rules")
        return few[n - 1] if 0 < n <= len(few) else self("many_rules").format(n=n)

    def times(self, n: int) -> str:
        """Write how often, where that is more than once."""
        return "" if n == 1 else f", {self.counted(n, 'time')}"

    def more(self, n: int) -> str:
        """Write that others follow which are not named here."""
        return self("more").format(n=f"{n:,}") if n > 0 else ""

    def share(self, k: int, n: int) -> str:
        """Write k of n."""
        return self("share").format(k=f"{k:,}", n=f"{n:,}")

    def hit(self, failures: int, runs: int) -> str:
        """Say how many attempts failed, and of how many runs where that is known."""
        text = self.counted(failures, "failed attempt")
        return self("hit").format(failures=text, runs=self.counted(runs, "run hit")) if runs else text

    def listed(self, words: Sequence[str]) -> str:
        """Write `a, b and c`."""
        *head, last = words or [""]
        return self("listed").format(head=", ".join(head), last=last) if head else last

    def incidents(self, n: int, still_open: int, *, whole: bool) -> str:
        """Say how many incidents, and whether they are over."""
        if not n:
            return self("incidents_none" if whole else "incidents_none_seen")
        words = self.counted(n, "incident")
        if still_open:
            return self("incidents_open_one" if n == 1 else "incidents_open").format(n=words, open=still_open)
        over = self.list("incidents_over")
        return over[min(n, len(over)) - 1].format(n=words)

    def sources(self, complete: int, judged: int, unsure: int) -> str:
        """Say how many sources are complete, of those that can tell."""
        if not judged + unsure:
            return self("sources_none")
        text = self("sources_complete").format(complete=complete, judged=judged)
        return text + (self("sources_unsure").format(n=unsure) if unsure else "")

    def usual(self, days: int) -> str:
        """Write the head of the column of medians of so many days before."""
        return self("usual").format(n=days or 7)

    def thresholds(self, reached: int, of: int, hidden: int) -> str:
        """Say how many thresholds were reached."""
        if reached:
            return self("thresholds_reached").format(n=self.counted(reached, "threshold"))
        form, n = ("thresholds_hidden", hidden) if hidden else ("thresholds_held", 0)
        return self(form).format(n=n, of=self.counted(of, "threshold of"))

    def what_failed(self, signatures: int, runs: int | None, *, unsure: bool) -> str:
        """Say by how many combinations of signatures how many runs failed."""
        by = self.counted(signatures, "combination of signatures") if signatures else self("signatures_none")
        if runs is None:
            return by
        form = "failed_runs_at_least" if unsure else "failed_runs"
        return self(form).format(by=by, runs=self.counted(runs, "run"))


def parse(text: str) -> Words:
    """Read a language's words from its file's text."""
    texts = tomllib.loads(text)
    return Words(str(texts["lang"]), texts)
