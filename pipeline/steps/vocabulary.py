"""The words of a report, read from the files beside its templates."""

from __future__ import annotations

from functools import lru_cache

from pipeline import catalog
from pipeline.errors import UsageError
from pipeline.report.words import LANGS, Words, parse


@lru_cache
def words(lang: str) -> Words:
    """Return a language's words. Raises UsageError for a language that has none."""
    if lang not in LANGS:
        raise UsageError(f"report.lang {lang!r} is not known", f"choose from {', '.join(LANGS)}")
    return parse((catalog.data_dir("reports") / "words" / f"{lang}.toml").read_text(encoding="utf-8"))
