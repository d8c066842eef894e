"""Evidence that outlives the logs: one zip with a report, the slice of the lake that it rests on, and how it was made.

The slice is what making the report again reads: whole files, but of `logs` only the lines that tell something, and none of
the raw samples. Equal reports make equal bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import catalog, schemas
from pipeline.errors import UsageError
from pipeline.lake.records import Records
from pipeline.lake.store import META, Store
from pipeline.lake.tables import CELL_NS, Tables
from pipeline.model import DAY_NS, Window, instant_of
from pipeline.report.data import ReportData
from pipeline.report.text import harmless
from pipeline.steps import files
from pipeline.steps.again import Again, again
from pipeline.steps.compare import compared
from pipeline.steps.context import Context
from pipeline.steps.report import FILES
from pipeline.telling import BY, OF_POD, Telling, first_of_pods

NAME, LAKE = "evidence.zip", "lake"
MOST_BYTES = 25_000_000  # GitHub takes no larger attachment
_MANIFEST, _FORMAT = "manifest.json", 1
_UNPACKED = 2_000_000_000  # bytes: more is no evidence of ours
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest time that a zip knows: equal reports make equal bytes
_AROUND_DAYS = 10  # so far from a report's days it is looked which days were computed
_RAW = {"job_samples": "raw samples of jobs, from which attempts are made"}
_NEVER = (f"{META}/redaction.key", f"{META}/told_lines/", f"{META}/lock")
_FOR_PULLS = ("steps", "at_start", "at_end")  # of a record: what only a later pull compares
_LOGS = 100  # failures whose lines stand in files of their own
_HIGHEST = 9


class _Recording(Store):
    """A store that notes which files were asked for."""

    def __init__(self, store: Store) -> None:
        self.__dict__.update(store.__dict__)
        self.asked: set[str] = set()

    def read(self, name: str) -> bytes | None:
        self.asked.add(name)
        return super().read(name)

    @contextlib.contextmanager
    def reading(self, name: str) -> Iterator[IO[bytes] | None]:
        self.asked.add(name)
        with super().reading(name) as file:
            yield file


def write(ctx: Context, folder: Path) -> Path:
    """Put the evidence for the report in a folder beside it. Raises UsageError, LakeError."""
    reported = json.loads((folder / FILES["json"]).read_text(encoding="utf-8"))
    store = _Recording(ctx.store)
    seen = replace(ctx, store=store, now=instant_of(reported["made_at"]))
    made = again(seen, reported)
    with tempfile.TemporaryDirectory(prefix="aislot-") as scratch:
        left_out = _slice(ctx, reported, made, store.asked, Store(scratch))
        parts: dict[str, bytes] = {
            f"{LAKE}/{p.relative_to(scratch).as_posix()}": p.read_bytes()
            for p in sorted(Path(scratch).rglob("*"))
            if p.is_file() and not p.relative_to(scratch).as_posix().startswith(f"{META}/unfinished")
        }
    parts |= {name: (folder / name).read_bytes() for name in FILES.values()}
    parts |= {f"excerpts/{name}.log": text.encode() for name, text in _excerpts(made.data)}
    parts |= {f"queries/{p.name}": p.read_bytes() for p in sorted(catalog.data_dir("queries").iterdir()) if p.is_file()}
    parts["settings.json"] = _json({k: v for k, v, _ in ctx.settings.flat()})
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(parts.items())}
    head = {
        "format": _FORMAT,
        "report": reported["report"],
        "versions": reported["versions"],
        "made_at": reported["made_at"],
    }
    parts[_MANIFEST] = _json(head | {"left_out": left_out, "files": hashes})
    whole = _zipped(parts)
    with files.told(ctx.settings.report.out):
        files.put({folder / NAME: whole})
    if len(whole) > MOST_BYTES:
        ctx.say(f"! {NAME} has {len(whole) / 1e6:.0f} MB, more than the 25 MB that GitHub takes")
    return folder / NAME


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=True, default=str).encode() + b"\n"


def _zipped(parts: Mapping[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED, compresslevel=_HIGHEST) as zipped:
        for name, data in sorted(parts.items()):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            zipped.writestr(entry, data)
    return sink.getvalue()


def _slice(ctx: Context, reported: Mapping[str, Any], made: Again, asked: set[str], to: Store) -> list[dict[str, Any]]:
    """Copy what was asked for; returns what is left out and why."""
    window = made.data.window
    hours = sorted(n for n in asked if n.startswith("logs/"))
    raw = sorted(n for n in asked if any(n.startswith(f"{META}/{t}/") for t in _RAW))
    for name in sorted(asked - set(hours) - set(raw)):
        data = None if name.startswith(_NEVER) else ctx.store.read(name)
        if data is not None:
            to.write(name, _without_counts(data) if name.startswith(f"{META}/pulls/logs/") else data)
    for name in [*_days(ctx.store, window), *_derived(ctx.store, window)]:
        to.write(name, ctx.store.read(name) or b"")
    for name in hours:
        _lines(ctx, reported, made, _hour(name), to)
    counts = {t: ctx.tables.count(t, window) - Tables(to).count(t, window) for t in ("logs", *_RAW)}
    Records(to).put_left_out({t: {str(window): n} for t, n in counts.items() if n})
    why = {"logs": "lines that tell nothing about jobs or runs"} | _RAW
    return [{"table": t, "rows": n, "what": why[t]} for t, n in counts.items() if n]


def _without_counts(record: bytes) -> bytes:
    """Return the record of a pull without what only a later pull needs, which is most of it."""
    value = json.loads(record)
    value["proof"] = {k: v for k, v in value["proof"].items() if k not in _FOR_PULLS}
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def _days(store: Store, window: Window) -> Iterator[str]:
    """Yield the files that tell which days were computed: those around a window, the first and the newest."""
    names = store.names("golden", ".parquet")
    near = window.widen(_AROUND_DAYS * DAY_NS, _AROUND_DAYS * DAY_NS)
    dates = {str(d) for d, _ in near.days()}
    yield from (n for n in names if n in {names[0], names[-1]} or any(f"date={d}/" in n for d in dates))


def _derived(store: Store, window: Window) -> Iterator[str]:
    """Yield the files of the derived tables of a window's days: they are held to what is counted again."""
    for table in schemas.DERIVED:
        for date, _ in window.days():
            yield from store.names(f"{table}/date={date}", ".parquet")


def _hour(name: str) -> Window:
    date, part = name.removeprefix("logs/date=").removesuffix(".parquet").split("/")
    start = instant_of(f"{date}T{part}:00:00Z")
    return Window(start, start + CELL_NS["logs"])


def _lines(ctx: Context, reported: Mapping[str, Any], made: Again, hour: Window, to: Store) -> None:
    """Write an hour's lines that tell something, each run's first and last, and those that are compared or quoted."""
    telling = Telling(ctx.catalogue.job_kinds, ctx.catalogue.phrases)
    jobs, runs = compared(ctx, made.day.window, made.day.attempts)[1:] if made.day else (pa.array([], pa.string()),) * 2
    quoted = [instant_of(x["ts"]) for e in reported.get("excerpts", ()) for block in e["shown"] for x in block]
    at = pa.array(quoted, pa.int64())

    def choose(logs: pa.Table) -> pa.Array:
        job, run, ts = logs["job_name"], logs["run_id"], logs["ts"].cast(pa.int64())
        own = pc.or_(pc.is_in(job, jobs), pc.and_(pc.is_null(job), pc.is_in(run, runs)))
        more = pc.indices_nonzero(pc.or_(pc.fill_null(own, fill_value=False), pc.is_in(ts, at)))
        parts = [telling.rows(logs), first_of_pods(logs), _ends_of_runs(run, ts), more.to_numpy()]
        return pa.array(np.unique(np.concatenate([np.asarray(p, np.int64) for p in parts])))

    by = tuple(dict.fromkeys([*BY, *OF_POD]))
    rows = ctx.tables.chosen("logs", hour, by, choose, schemas.TABLES["logs"].columns)
    part = Tables(to).part("logs", hour)
    part.add(rows)
    part.close()


def _ends_of_runs(run: pa.ChunkedArray, ts: pa.ChunkedArray) -> Sequence[int]:
    """Return the first and the last row of each run: they tell from when to when it was spoken of."""
    said = pa.table({"run": run, "ts": ts, "i": pa.array(range(len(run)), pa.int64())}).filter(pc.is_valid(run))
    said = said.sort_by([("ts", "ascending"), ("i", "ascending")])
    ends = said.group_by("run", use_threads=False).aggregate([("i", "first"), ("i", "last")])
    return [*ends["i_first"].to_pylist(), *ends["i_last"].to_pylist()]


def _excerpts(data: ReportData) -> Iterator[tuple[str, str]]:
    """Yield of the first failures the lines about them, as people read them."""
    columns = ["failure_id", "job_name", "first_line_at", "last_line_at"]
    for failure_id, job, first, last in data.failures[columns].head(_LOGS).itertuples(index=False):
        lines = data.lines[(data.lines["job"] == job) & (data.lines["ts"] >= first) & (data.lines["ts"] <= last)]
        rows = lines[["ts", "level", "app", "line"]].astype("str").itertuples(index=False)
        yield str(failure_id), "".join(f"{harmless(' '.join(map(str, r))).replace(chr(10), ' ')}\n" for r in rows)


def unpack(bundle: Path, to: Path) -> list[tuple[str, str, Any, Any]]:
    """Unpack a bundle and hold it to its list: returns each file that is not as listed. Raises UsageError for no bundle."""
    try:
        with zipfile.ZipFile(bundle) as zipped:
            return _unpacked(zipped, to)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, NotImplementedError, OSError, RuntimeError) as e:
        raise UsageError(f"{bundle} is no bundle: {e}", "name an evidence.zip") from e


def _unpacked(zipped: zipfile.ZipFile, to: Path) -> list[tuple[str, str, Any, Any]]:
    entries = {i.filename: i for i in zipped.infolist() if not i.is_dir()}
    if sum(i.file_size for i in entries.values()) > _UNPACKED:
        raise zipfile.BadZipFile("it unpacks to more than 2 GB")
    bad = [n for n in entries if _outside(n)]
    if bad:
        raise zipfile.BadZipFile(f"{bad[0]!r} lies outside of it")
    found: dict[str, str] = {}
    for name in entries:
        try:
            data = zipped.read(name)
        except (zipfile.BadZipFile, zlib.error):  # a byte of it was changed
            found[name] = "damaged"
            continue
        path = to / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        found[name] = hashlib.sha256(data).hexdigest()
    listed = _listed(to / _MANIFEST)
    found.pop(_MANIFEST, None)
    names = sorted({*found, *listed})
    return [(n, "sha256", listed.get(n), found.get(n)) for n in names if listed.get(n) != found.get(n)]


def _listed(manifest: Path) -> Mapping[str, Any]:
    try:
        value = json.loads(manifest.read_text(encoding="utf-8"))["files"]
        return value if isinstance(value, dict) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _outside(name: str) -> bool:
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name
