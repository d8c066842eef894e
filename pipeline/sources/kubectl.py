"""kubectl: recorded output in a folder, or the command itself; both give the same tables."""

from __future__ import annotations

import codecs
import json
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.errors import SourceError
from pipeline.model import NS, Entry, Window
from pipeline.rules import JobKind, kind_of
from pipeline.sources import rows

_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d))(?: (.*))?", re.DOTALL)
_OWN_TIME = re.compile(r'\s*\{.*?"time" ?: ?"([^"]{10,40})"')
_POD_OF_JOB = re.compile(r"-[a-z0-9]{5}$")
# a ReplicaSet's hash has no vowels, or at least one digit: `control-plane` is no pod of `control`
_POD_OF_DEPLOYMENT = re.compile(r"-(?:[b-df-hj-np-tv-z]{8,10}|(?=[a-z]*[0-9])[a-z0-9]{8,10})-[a-z0-9]{5}$")
_KEPT_LABELS = ("codex-k8s.dev/", "app.kubernetes.io/")
_ANSWER = "what kubectl answered"
_AGAIN = "record it again"
UNREADABLE = (KeyError, TypeError, ValueError, OverflowError, AttributeError)
_LARGEST_COUNT = 2**31
_EVENT_LIFE_NS = 3600 * NS  # the API server's default --event-ttl
_ASTRAY_NS = 3600 * NS  # so far another machine's clock may be ahead of ours


@dataclass(frozen=True)
class Snapshot:
    """The jobs of one `kubectl get jobs`, taken at the newest instant in it."""

    at: int
    rows: pa.Table


@dataclass(frozen=True)
class Log:
    """One log: who wrote it, its entries, and lines without any instant of their own."""

    name: str
    entries: Sequence[Entry]
    unstamped: int
    window: Window | None  # from the first line to the last, as they stand: one odd instant between them covers nothing


@dataclass(frozen=True)
class Dump:
    """A folder of kubectl output in the contract's layout."""

    folder: Path

    def snapshots(self, now: int) -> list[Snapshot]:
        """Read `jobs*.json`, none of which was taken after `now`, in ns. Raises SourceError for a file that is no JSON."""
        return [snapshot(items, where, now=now) for where, items in self._lists("jobs*.json", "Job")]

    def events(self) -> list[pa.Table]:
        """Read `events*.json`, a table a file. Raises SourceError."""
        return [events(items, where) for where, items in self._lists("events*.json", "Event")]

    def comments(self) -> list[dict[str, Any]]:
        """Read `comments*.json`: GitHub's lists of issue comments. Raises SourceError."""
        return [c for _, items in self._lists("comments*.json", "") for c in items]

    def logs(self, namespace: str, kinds: Sequence[JobKind]) -> Iterator[Log]:
        """Read `logs/NAME.log`, one at a time. Raises SourceError."""
        for path in sorted((self._existing() / "logs").glob("*.log")):
            yield log(path.stem, _lines(self._text(path)), namespace, kinds)

    def _lists(self, pattern: str, kind: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        for path in sorted(self._existing().glob(pattern)):
            yield str(path), _items(self._text(path), kind, str(path))

    def _existing(self) -> Path:
        if not self.folder.is_dir():
            raise SourceError(f"there is no dump at {self.folder}", "set kubernetes.dump to a directory")
        return self.folder

    @staticmethod
    def _text(path: Path) -> str:
        try:
            if not path.is_file():
                raise SourceError(f"{path} is no file", "take it away: a pipe or a device might be read for ever")
            raw = path.read_bytes()
        except OSError as e:
            raise SourceError(f"{path} cannot be read: {e.strerror}", "correct its permissions") from e
        # what PowerShell's `>` writes
        wide = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return raw.decode("utf-16" if wide else "utf-8-sig", "replace")


Run = Callable[[Sequence[str]], "subprocess.CompletedProcess[bytes]"]


def run_kubectl(arguments: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    """Run kubectl and return what it said."""
    return subprocess.run(["kubectl", *arguments], capture_output=True, check=False, timeout=300)  # noqa: S603, S607


@dataclass(frozen=True)
class Live:
    """kubectl itself: what the cluster says at `now`, in ns."""

    namespaces: Sequence[str]
    now: int
    context: str = ""
    run: Run = run_kubectl

    def snapshots(self) -> list[Snapshot]:
        """Ask for the jobs of every namespace. Raises SourceError."""
        found = [
            j
            for n in self._matching()
            for j in _items(self._ask(["get", "jobs", "-n", n, "-o", "json"]), "Job", _ANSWER)
        ]
        return [snapshot(found, _ANSWER, now=self.now, taken_at=self.now)]

    def events(self) -> list[pa.Table]:
        """Ask for the events of every namespace. Raises SourceError."""
        asked = (self._ask(["get", "events", "-n", n, "-o", "json"]) for n in self._matching())
        return [events([e for text in asked for e in _items(text, "Event", _ANSWER)], _ANSWER)]

    def logs(self, deployments: Sequence[str], kinds: Sequence[JobKind], since: str) -> Iterator[Log]:
        """Ask for the deployments' logs since an instant (RFC 3339), in the first namespace. Raises SourceError."""
        namespace = self._matching()[0]
        for name in deployments:
            text = self._ask(["logs", f"deploy/{name}", "-n", namespace, "--timestamps", f"--since-time={since}"])
            yield log(name, _lines(text), namespace, kinds)

    def _matching(self) -> list[str]:
        """Return the namespaces; patterns are looked up in the cluster."""
        if all(re.fullmatch(r"[a-z0-9-]+", n) for n in self.namespaces):
            return list(self.namespaces)
        items = _items(self._ask(["get", "namespaces", "-o", "json"]), "Namespace", _ANSWER)
        known = [str((i.get("metadata") or {}).get("name")) for i in items]
        found = [k for k in known if any(re.fullmatch(n, k) for n in self.namespaces)]
        if not found:
            raise SourceError(f"no namespace matches {', '.join(self.namespaces)}", "correct kubernetes.namespaces")
        return found

    def _ask(self, arguments: list[str]) -> str:
        context = ["--context", self.context] if self.context else []
        try:
            done = self.run([*context, *arguments])
        except FileNotFoundError as e:
            raise SourceError("kubectl is not on PATH", "install kubectl or set kubernetes.live = false") from e
        except subprocess.TimeoutExpired as e:
            raise SourceError("kubectl did not answer in 300 s", "check the cluster and kubernetes.context") from e
        except OSError as e:
            raise SourceError(f"kubectl cannot be run: {e.strerror}", "correct the kubectl on PATH") from e
        if done.returncode:
            said = " ".join(done.stderr.decode("utf-8", "replace").split())[:300]
            raise SourceError(f"kubectl {' '.join(arguments[:2])} failed: {said}", "check kubernetes.context and RBAC")
        return done.stdout.decode("utf-8", "replace")


def _lines(text: str) -> list[str]:
    """Cut at line feeds alone: `splitlines` would cut inside a line that holds other separators."""
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines[:-1] if not lines[-1] else lines


def _items(text: str, kind: str, where: str) -> list[dict[str, Any]]:
    """Read a JSON list or an object with `items`; of a mixed list those of `kind`. Raises SourceError."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as e:
        what = f"is not JSON: {e}" if text.strip() else "is empty"
        raise SourceError(f"{where} {what}", f"{_AGAIN} with -o json") from e
    items = (value["items"] or []) if isinstance(value, dict) and "items" in value else value
    if not isinstance(items, list) or not all(isinstance(i, dict) for i in items):
        raise SourceError(f"{where} is neither a list nor an object with items", f"{_AGAIN} with -o json")
    return [i for i in items if not kind or i.get("kind", kind) == kind]


def snapshot(
    jobs: Iterable[Mapping[str, Any]], where: str = "a list of jobs", *, now: int, taken_at: int = 0
) -> Snapshot:
    """Turn Job objects into rows of `job_snapshots`, taken at the newest instant in them or at `taken_at` (ns) if later.

    An instant after `now` tells nothing of that. Raises SourceError, naming `where`, for an object that is no Job.
    """
    found: list[dict[str, Any]] = []
    newest = taken_at
    for job in jobs:
        try:
            found.append(_job(job))
            newest = max([newest, *(t for t in _instants_of(job, found[-1]) if t <= now + _ASTRAY_NS)])
        except UNREADABLE as e:
            raise SourceError(f"{where} holds a job that cannot be read: {_said(e)}", _AGAIN) from e
    for row in found:
        row["snapshot_at"] = newest
    return Snapshot(newest, rows.table("job_snapshots", found))


def _job(job: Mapping[str, Any]) -> dict[str, Any]:
    meta, status = job["metadata"], job.get("status") or {}
    if not all(isinstance(meta[k], str) for k in ("name", "namespace")):
        raise TypeError("its name or namespace is no text")
    met = {c["type"]: c for c in status.get("conditions") or [] if c.get("status") == "True"}
    failed, complete = met.get("Failed"), met.get("Complete")
    labels = {k: v for k, v in (meta.get("labels") or {}).items() if k.startswith(_KEPT_LABELS)}
    return {
        "namespace": meta["namespace"],
        "job_name": meta["name"],
        "uid": meta.get("uid"),
        "created_at": rows.instant(meta["creationTimestamp"]),
        "started_at": rows.instant(status["startTime"]) if status.get("startTime") else None,
        "completed_at": rows.instant(status.get("completionTime") or complete["lastTransitionTime"])
        if complete
        else None,
        "failed_at": rows.instant(failed["lastTransitionTime"]) if failed else None,
        "reason": failed.get("reason") if failed else None,
        "labels": sorted(labels.items(), key=lambda kv: kv[0]),
    }


def _instants_of(job: Mapping[str, Any], row: Mapping[str, Any]) -> list[int]:
    """Return what tells when a snapshot was taken at the earliest: the job's own instants and its conditions'."""
    conditions = (job.get("status") or {}).get("conditions") or []
    changed = [rows.instant(c["lastTransitionTime"]) for c in conditions if c.get("lastTransitionTime")]
    return [*changed, *(row[c] for c in ("created_at", "started_at", "completed_at") if row[c] is not None)]


def events(found: Iterable[Mapping[str, Any]], where: str = "a list of events") -> pa.Table:
    """Turn Event objects (v1 or events.k8s.io) into rows of `events`, dated by when they were last seen.

    Raises SourceError, naming `where`, for an object that is no Event.
    """
    seen = []
    for e in found:
        try:
            seen.append(event_row(e))
        except UNREADABLE as error:
            raise SourceError(f"{where} holds an event that cannot be read: {_said(error)}", _AGAIN) from error
    return rows.table("events", seen)


def event_row(e: Mapping[str, Any]) -> dict[str, Any]:
    """Read an event. A `deprecated…` field is what events.k8s.io calls the field of v1. Raises what `UNREADABLE` lists."""
    about, series, meta = e.get("involvedObject") or e.get("regarding") or {}, e.get("series") or {}, e["metadata"]
    last = e.get("lastTimestamp") or e.get("deprecatedLastTimestamp") or series.get("lastObservedTime")
    first = e.get("eventTime") or e.get("firstTimestamp") or e.get("deprecatedFirstTimestamp")
    count = int(e.get("count") or e.get("deprecatedCount") or series.get("count") or 1)
    if not 0 < count <= _LARGEST_COUNT:
        raise ValueError(f"{count} is no count of events")
    return {
        "ts": rows.instant(last or first or meta["creationTimestamp"]),
        "namespace": about.get("namespace") or meta.get("namespace"),
        "object_kind": about.get("kind"),
        "object_name": about.get("name"),
        "object_uid": about.get("uid"),
        "reason": e.get("reason"),
        "type": e.get("type"),
        "message": e.get("message") or e.get("note"),
        "count": count,
        "uid": meta.get("uid"),
    }


def _said(e: Exception) -> str:
    return f"{e} is missing" if isinstance(e, KeyError) else str(e)


def log(name: str, lines: Sequence[str], namespace: str, kinds: Sequence[JobKind]) -> Log:
    """Turn a log into entries. A line's instant is kubectl's stamp, else its own `time`.

    A line without either (a panic's trace) was written right after the line before it and takes that one's instant.
    """
    labels = _labels(name, namespace, kinds)
    # kubectl stamps every line or none: in a log without, a line that begins with a time is not to lose it
    stamped = 2 * sum(1 for line in lines if _STAMP.match(line)) > len(lines)
    entries: list[Entry] = []
    waiting: list[str] = []
    at: int | None = None
    for raw in lines:
        stamp, line = _stamped(raw, stamped=stamped)
        at = stamp if stamp is not None else at
        if at is None:
            waiting.append(line)
            continue
        entries += [Entry(at, w, labels, {}) for w in [*waiting, line]]
        waiting.clear()
    ends = [entries[0].ts, entries[-1].ts] if entries else []
    window = Window(min(ends), max(ends) + 1) if ends else None
    return Log(name, sorted(entries, key=lambda e: e.ts), len(waiting), window)


def _stamped(raw: str, *, stamped: bool) -> tuple[int | None, str]:
    found = _STAMP.fullmatch(raw)
    own = found or _OWN_TIME.match(raw)
    try:
        return (rows.instant(own[1]) if own else None), (found[2] or "" if found and stamped else raw)
    except ValueError:
        return None, raw


def _labels(name: str, namespace: str, kinds: Sequence[JobKind]) -> dict[str, str]:
    """Tell from a log's name who wrote it: a job's pod, a job, a deployment's pod, or a deployment.

    A pod first: the pattern of a kind may take the pod's suffix for a part of the job's name.
    """
    for job in dict.fromkeys((_POD_OF_JOB.sub("", name), name)):
        known = kind_of(job, kinds)
        if known and (job == name or known[0].golden or known[0].apps):
            app = known[0].apps[0] if known[0].apps else ""
            return {"namespace": namespace, "app": app, "job_name": job} | ({"pod": name} if job != name else {})
    app = _POD_OF_DEPLOYMENT.sub("", name)
    return {"namespace": namespace, "app": app} | ({"pod": name} if app != name else {})


def event_windows(tables: Iterable[pa.Table], now: int) -> list[Window]:
    """Return what lists of events cover: an hour before the newest of each that is not dated after `now`, in ns."""
    told = [[t for t in table["ts"].cast(pa.int64()).to_pylist() if t <= now + _ASTRAY_NS] for table in tables]
    return [events_known_at(max(instants)) for instants in told if instants]


def events_known_at(instant: int) -> Window:
    """Return what a list of events that was asked for at an instant covers: they live an hour."""
    return Window(instant - _EVENT_LIFE_NS, instant + 1)


def job_windows(snapshots: Iterable[Snapshot], kind: JobKind) -> list[Window]:
    """Return what snapshots show completely of one kind: its time to live before each."""
    return [Window(s.at - round(kind.ttl_s * NS), s.at + 1) for s in snapshots if s.at]
