"""Templates of lines: what stays the same of them, so that lines which no success has are found, and new told from known.

Masked by RE2 in Arrow, whose time grows with a text's length alone, whoever wrote it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import schemas
from pipeline.model import Window

SIGNATURE, TEMPLATE = "signature", "template"
NEW, RETURNING, KNOWN = "new", "returning", "known"
MOST = 200  # templates of a kind and a day
_READ, _KEPT, _SHOWN = 4000, 600, 300  # characters that are masked, that make a template, that are quoted
_IN_PATH, _IN_WORD = r"[^\s\"'`<>()\[\]{}|;,=/]", r"[\w.@+~-]"
_MASKS = (
    (r"\b\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d:\d\d[\w.:+-]*", "<*>"),  # times
    (rf"(?:{_IN_PATH}*/){{2,}}{_IN_PATH}*[\w*-]", "<path>"),  # addresses, images, files
    # numbers, ids, hashes, tags, names with a run's token
    (rf"{_IN_WORD}*\d{_IN_WORD}*(?:,\d{_IN_WORD}*)*|\b[a-f]{{7,}}\b", "<*>"),
)
_PIECES = ["attempt_index", "text", "lines", "first_at", "last_at", "example"]


def masked(texts: Sequence[str | None] | pa.Array) -> pa.Array:
    """Return texts with all that varies masked: numbers, hex, ids, times, tags as `<*>`, addresses and paths as `<path>`."""
    out = pc.utf8_slice_codeunits(pa.array(texts, pa.string()), 0, _READ)
    for pattern, mask in _MASKS:
        out = pc.replace_substring_regex(out, pattern, mask)
    return pc.utf8_slice_codeunits(pc.utf8_trim_whitespace(out), 0, _KEPT)


def template_id(text: str) -> str:
    """Return what identifies a template, wherever and whenever it is met."""
    return "t-" + hashlib.sha256(text.encode()).hexdigest()[:10]


def of_lines(lines: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each attempt and template: `attempt_index, text, lines, first_at, last_at, example`.

    `lines` are rows of `logs` with `attempt_index`; what a structured line says is its message and its error.
    """
    about = lines[lines["attempt_index"].notna()]
    spoken = about["msg"].where(about["err"].isna(), about["msg"].fillna("") + ": " + about["err"])
    structured = about["format"].isin(["json", "logfmt"]) & spoken.notna()
    raw = spoken.where(structured, about["line"])
    codes, distinct = pd.factorize(raw)  # unknown: -1, the last of the masked
    texts = pd.Series([*masked(schemas.plain(pd.Series(distinct))).to_pylist(), None], dtype="str")
    texts = texts.take(codes).set_axis(about.index)
    rows = about[["attempt_index", "ts"]].assign(text=texts, example=raw.str.slice(0, _SHOWN))
    rows = rows[rows["text"].fillna("") != ""].sort_values(["ts", "example"], kind="stable")
    return _joined(rows.assign(lines=1, first_at=rows["ts"], last_at=rows["ts"])[_PIECES], ["attempt_index", "text"])


def by_kind(pieces: pd.DataFrame, kinds: Mapping[int, str]) -> pd.DataFrame:
    """Return a row for each kind and template of the attempts in `kinds`: `kind, id, text, attempts, lines, …`."""
    mine = _joined(pieces[pieces["attempt_index"].isin(list(kinds))], ["attempt_index", "text"])
    mine = mine.assign(kind=mine["attempt_index"].map(kinds).astype("str"), attempts=1)
    out = _joined(mine, ["kind", "text"], attempts=("attempts", "sum"))
    return out.assign(id=out["text"].map(template_id).astype("str"))


def _joined(pieces: pd.DataFrame, keys: list[str], **more: Any) -> pd.DataFrame:
    """Add up the pieces of one key; of the earliest the example stands."""
    in_order = pieces.sort_values([*keys, "first_at", "example"])
    joined: pd.DataFrame = in_order.groupby(keys).agg(
        lines=("lines", "sum"),
        first_at=("first_at", "min"),
        last_at=("last_at", "max"),
        example=("example", "first"),
        **more,
    )
    return joined.reset_index()


def of_successes(pieces: pd.DataFrame, kinds: Mapping[int, str], day: Window) -> pd.DataFrame:
    """Return `success_templates` of a day: of the successes whose lines were read, how many have each template."""
    found = by_kind(pieces, kinds)
    of = pd.Series(kinds, dtype="str").value_counts()
    rows = found.assign(day=pd.Timestamp(day.start, tz="UTC"), of=found["kind"].map(of))
    return schemas.tidy("success_templates", rows)


def of_failures(pieces: pd.DataFrame, kinds: Mapping[int, str], successes: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each template of failed attempts that no success has, as `ledger` has them but for its past.

    `successes` are rows of `success_templates` of the days that they are held against. Of each kind the `MOST` of which
    most attempts have lines, so that one job that writes anything it likes does not fill the ledger.
    """
    found = by_kind(pieces, kinds)
    of = pd.Series(kinds, dtype="str").value_counts()
    met = successes.groupby(["kind", "id"], as_index=False).agg(succeeded=("attempts", "sum"))
    read = successes.groupby(["day", "kind"])["of"].max().groupby("kind").sum()
    rows = found.merge(met, on=["kind", "id"], how="left").rename(columns={"attempts": "failed"})
    against = rows["kind"].map(read).astype("Int64")
    # of a kind none of whose successes was read, nobody knows what successes write
    rows["succeeded"] = rows["succeeded"].astype("Int64").fillna(0).where(against.notna())
    rows = rows.assign(what=TEMPLATE, failed_of=rows["kind"].map(of), succeeded_of=against)
    rows = rows[rows["succeeded"].fillna(0) == 0]
    return rows.sort_values(["failed", "id"], ascending=[False, True]).groupby("kind").head(MOST)


def of_signatures(lines: pd.DataFrame, failures: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each signature that lines of a day have, as `ledger` has them but for its past."""
    signed = lines[["ts", "signatures", "line"]].explode("signatures").dropna(subset=["signatures"])
    signed = signed.sort_values(["ts", "line"], kind="stable").rename(columns={"signatures": "id"})
    rows = signed.groupby("id", as_index=False).agg(
        lines=("ts", "size"), first_at=("ts", "min"), last_at=("ts", "max"), example=("line", "first")
    )
    failed = failures["signatures"].explode().value_counts()
    rows["failed"] = rows["id"].map(failed).astype("Int64").fillna(0)
    unknown = {"kind": None, "text": None, "succeeded": None, "succeeded_of": None}
    example = rows["example"].str.slice(0, _SHOWN)
    return rows.assign(what=SIGNATURE, failed_of=len(failures), example=example, **unknown)


def ledger(found: Sequence[pd.DataFrame], before: pd.DataFrame | None, day: Window, returning_s: float) -> pd.DataFrame:
    """Return `ledger` of a day: what was found in it, with when it was seen before.

    `before` are rows of `ledger` of earlier days and of no other, so that a day is never known by itself; None: there is
    no earlier day, and nobody knows what is new. `returning`: not seen for so long.
    """
    rows = pd.concat([schemas.empty_frame("ledger"), *(f for f in found if len(f))], ignore_index=True)
    keys = ["what", "kind", "id"]
    earlier = schemas.empty_frame("ledger") if before is None else before
    past = earlier.assign(kind=earlier["kind"].fillna("")).groupby(keys, as_index=False)
    seen = past.agg(seen_before_at=("last_at", "max"), first_known=("first_seen_at", "min"))
    rows = rows.drop(columns=["seen_before_at", "first_seen_at"]).assign(key=rows["kind"].fillna(""))
    rows = rows.merge(seen, left_on=["what", "key", "id"], right_on=keys, how="left", suffixes=("", "_"))
    rows["first_seen_at"] = rows["first_known"].fillna(rows["first_at"])
    away = rows["first_at"] - rows["seen_before_at"] >= pd.Timedelta(seconds=returning_s)
    state = pd.Series(KNOWN, rows.index).where(~away, RETURNING).where(rows["seen_before_at"].notna(), NEW)
    rows["state"] = None if before is None else state
    return schemas.tidy("ledger", rows.assign(day=pd.Timestamp(day.start, tz="UTC")))
