"""The level policy: cache and build-ref errors are logged at WARN or ERROR, planned retries and recoveries at INFO.

Listed is what breaks it (domain, section 2): too quiet, an error below WARN that is no recovery; too loud, a retry or a
recovery at WARN or above. A line whose level is not known breaks nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import schemas
from pipeline.model import Window
from pipeline.rules import BUILD_REF, CACHE, Phrase, Signature
from pipeline.signals.intervals import Flags

TOO_QUIET, TOO_LOUD = "too-quiet", "too-loud"
_LOW, _HIGH = ("TRACE", "DEBUG", "INFO"), ("WARN", "ERROR", "FATAL")
_MENDED, _BROKEN = ("retry", "recovery"), ("job_failed", "run_failed")
_SHOWN = 300
_KEYS = ["rule", "about", "app", "level"]


def breaches(
    lines: pd.DataFrame, signatures: Sequence[Signature], phrases: Sequence[Phrase], day: Window
) -> pd.DataFrame:
    """Return `level_breaches` of a day: a row for each rule, signature or phrase, app and level; the first line quoted."""
    errors = [s.id for s in signatures if s.failure_class in {CACHE, BUILD_REF}]
    error = [next((e for e in errors if e in found), None) for found in lines["signatures"]]
    low, high = (lines["level"].isin(levels).to_numpy(bool) for levels in (_LOW, _HIGH))
    quiet = low & np.array([e is not None for e in error], bool)
    mended = _phrase(lines["line"], quiet | high, phrases, _MENDED)
    is_mended = np.array([m is not None for m in mended], bool)
    broken = _phrase(lines["line"], high & is_mended, phrases, _BROKEN)
    quiet &= ~is_mended
    loud = high & is_mended & np.array([b is None for b in broken], bool)
    rows = lines[["ts", "app", "level", "line"]]
    found = pd.concat(
        [
            rows[mask].assign(rule=rule, about=[a for a, m in zip(about, mask, strict=True) if m])
            for rule, mask, about in ((TOO_QUIET, quiet, error), (TOO_LOUD, loud, mended))
        ]
    )
    if found.empty:
        return schemas.empty_frame("level_breaches")
    in_order = found.sort_values(["ts", "line"], kind="stable")
    out = in_order.groupby(_KEYS, as_index=False, dropna=False).agg(
        lines=("ts", "size"), first_at=("ts", "min"), last_at=("ts", "max"), example=("line", "first")
    )
    at = pd.Timestamp(day.start, tz="UTC")
    return schemas.tidy("level_breaches", out.assign(day=at, example=out["example"].str.slice(0, _SHOWN)))


def _phrase(lines: pd.Series, asked: Flags, phrases: Sequence[Phrase], ids: Sequence[str]) -> list[str | None]:
    """Return for each line that is asked about the first of some phrases that it has, None for the others."""
    texts = pa.array(lines[asked].astype(object), pa.string(), from_pandas=True)
    rows = np.flatnonzero(asked)
    out: list[Any] = [None] * len(lines)
    for p in (p for i in ids for p in phrases if p.id == i):
        for n in pc.indices_nonzero(
            pc.fill_null(pc.match_substring_regex(texts, p.pattern), fill_value=False)
        ).to_pylist():
            out[rows[n]] = out[rows[n]] or p.id
    return out
