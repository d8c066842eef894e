"""kubectl: recorded output in a folder, or the command itself; both give the same tables."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline import schemas
from pipeline.errors import SourceError
from pipeline.model import NS, Entry, Window, instant_of
from pipeline.rules import JobKind, kind_of

_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)) ?(.*)", re.DOTALL)
_OWN_TIME = re.compile(r'"time" ?: ?"([^"]{10,40})"')
_POD_SUFFIX = re.compile(r"-[a-z0-9]{5}$")
_KEPT_LABELS = ("codex-k8s.dev/", "app.kubernetes.io/")
_EVENT_LIFE_NS = 3600 * NS  # the API server's default --event-ttl


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

    @property
    def window(self) -> Window | None:
        """From the first to the last line."""
        return Window(self.entries[0].ts, self.entries[-1].ts + 1) if self.entries else None


@dataclass(frozen=True)
class Dump:
    """A folder of kubectl output in the contract's layout."""

    folder: Path

    def snapshots(self) -> list[Snapshot]:
        """Read `jobs*.json`. Raises SourceError for a file that is no JSON."""
        return [snapshot(items) for items in self._lists("jobs*.json", "Job")]

    def events(self) -> list[pa.Table]:
        """Read `events*.json`, a table a file. Raises SourceError."""
        return [events(items) for items in self._lists("events*.json", "Event")]

    def comments(self) -> list[dict[str, Any]]:
        """Read `comments*.json`: GitHub's lists of issue comments. Raises SourceError."""
        return [c for items in self._lists("comments*.json", "") for c in items]

    def logs(self, namespace: str, kinds: Sequence[JobKind]) -> Iterator[Log]:
        """Read `logs/NAME.log`, one at a time. Raises SourceError."""
        for path in sorted((self._existing() / "logs").glob("*.log")):
            yield log(path.stem, self._text(path).splitlines(), namespace, kinds)

    def _lists(self, pattern: str, kind: str) -> Iterator[list[dict[str, Any]]]:
        for path in sorted(self._existing().glob(pattern)):
            yield _items(self._text(path), kind, str(path))

    def _existing(self) -> Path:
        if not self.folder.is_dir():
            raise SourceError(f"there is no dump at {self.folder}", "set kubernetes.dump to a directory")
        return self.folder

    @staticmethod
    def _text(path: Path) -> str:
        try:
            return path.read_bytes().decode("utf-8", "replace")
        except OSError as e:
            raise SourceError(f"{path} cannot be read: {e.strerror}", "correct its permissions") from e


Run = Callable[[Sequence[str]], "subprocess.CompletedProcess[bytes]"]


def run_kubectl(arguments: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    """Run kubectl and return what it said."""
    return subprocess.run(["kubectl", *arguments], capture_output=True, check=False, timeout=300)  # noqa: S603, S607


@dataclass(frozen=True)
class Live:
    """kubectl itself: what the cluster says now."""

    namespaces: Sequence[str]
    context: str = ""
    run: Run = run_kubectl

    def snapshots(self) -> list[Snapshot]:
        """Ask for the jobs of every namespace. Raises SourceError."""
        found = [
            j
            for n in self._matching()
            for j in _items(self._ask(["get", "jobs", "-n", n, "-o", "json"]), "Job", "jobs")
        ]
        return [snapshot(found)]

    def events(self) -> list[pa.Table]:
        """Ask for the events of every namespace. Raises SourceError."""
        asked = (self._ask(["get", "events", "-n", n, "-o", "json"]) for n in self._matching())
        return [events([e for text in asked for e in _items(text, "Event", "events")])]

    def logs(self, deployments: Sequence[str], kinds: Sequence[JobKind], since: str) -> Iterator[Log]:
        """Ask for the deployments' logs since an instant (RFC 3339), in the first namespace. Raises SourceError."""
        namespace = self._matching()[0]
        for name in deployments:
            text = self._ask(["logs", f"deploy/{name}", "-n", namespace, "--timestamps", f"--since-time={since}"])
            yield log(name, text.splitlines(), namespace, kinds)

    def _matching(self) -> list[str]:
        """Return the namespaces; patterns are looked up in the cluster."""
        if all(re.fullmatch(r"[a-z0-9-]+", n) for n in self.namespaces):
            return list(self.namespaces)
        known = [i["metadata"]["name"] for i in _items(self._ask(["get", "namespaces", "-o", "json"]), "Namespace", "")]
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
        if done.returncode:
            said = " ".join(done.stderr.decode("utf-8", "replace").split())[:300]
            raise SourceError(f"kubectl {' '.join(arguments[:2])} failed: {said}", "check kubernetes.context and RBAC")
        return done.stdout.decode("utf-8", "replace")


def _items(text: str, kind: str, where: str) -> list[dict[str, Any]]:
    """Read a JSON list or an object with `items`; of a mixed list those of `kind`. Raises SourceError."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise SourceError(f"{where} is not JSON: {e}", "record it again with -o json") from e
    items = value.get("items") if isinstance(value, dict) else value
    if not isinstance(items, list) or not all(isinstance(i, dict) for i in items):
        raise SourceError(f"{where} is neither a list nor an object with items", "record it again with -o json")
    return [i for i in items if not kind or i.get("kind", kind) == kind]


def snapshot(jobs: Iterable[Mapping[str, Any]]) -> Snapshot:
    """Turn Job objects into rows of `job_snapshots`. Raises SourceError for an object that is no Job."""
    rows: list[dict[str, Any]] = []
    newest = 0
    for job in jobs:
        try:
            rows.append(_job(job))
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            raise SourceError(f"a job of the dump cannot be read: {type(e).__name__} {e}", "record it again") from e
        newest = max([newest, *(r for r in (rows[-1][c] for c in _JOB_INSTANTS) if r)])
    for r in rows:
        r["snapshot_at"] = newest
    return Snapshot(newest, _table("job_snapshots", rows))


_JOB_INSTANTS = ("created_at", "started_at", "completed_at", "failed_at")


def _job(job: Mapping[str, Any]) -> dict[str, Any]:
    meta, status = job["metadata"], job.get("status") or {}
    met = {c["type"]: c for c in status.get("conditions") or [] if c.get("status") == "True"}
    failed, complete = met.get("Failed"), met.get("Complete")
    labels = {k: str(v) for k, v in (meta.get("labels") or {}).items() if k.startswith(_KEPT_LABELS)}
    completed = status.get("completionTime") or (complete or {}).get("lastTransitionTime")
    return {
        "namespace": meta["namespace"],
        "job_name": meta["name"],
        "uid": meta.get("uid"),
        "created_at": instant_of(meta["creationTimestamp"]),
        "started_at": instant_of(status["startTime"]) if status.get("startTime") else None,
        "completed_at": instant_of(completed) if complete and completed else None,
        "failed_at": instant_of(failed["lastTransitionTime"]) if failed else None,
        "reason": failed.get("reason") if failed else None,
        "labels": sorted(labels.items()),
    }


def events(found: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Turn Event objects (v1 or events.k8s.io) into rows of `events`. Raises SourceError."""
    rows = []
    for e in found:
        try:
            about = e.get("involvedObject") or e.get("regarding") or {}
            series = e.get("series") or {}
            stamps = (
                e.get("lastTimestamp"),
                series.get("lastObservedTime"),
                e.get("eventTime"),
                e.get("firstTimestamp"),
            )
            at = next((s for s in stamps if s), None) or e["metadata"]["creationTimestamp"]
            rows.append(
                {
                    "ts": instant_of(at),
                    "namespace": about.get("namespace") or e["metadata"].get("namespace"),
                    "object_kind": about.get("kind"),
                    "object_name": about.get("name"),
                    "object_uid": about.get("uid"),
                    "reason": e.get("reason"),
                    "type": e.get("type"),
                    "message": e.get("message") or e.get("note"),
                    "count": e.get("count") or series.get("count") or 1,
                    "uid": e["metadata"].get("uid"),
                }
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SourceError(f"an event of the dump cannot be read: {error!r}", "record it again") from error
    return _table("events", rows)


def log(name: str, lines: Sequence[str], namespace: str, kinds: Sequence[JobKind]) -> Log:
    """Turn a log into entries. A line's instant is kubectl's stamp, else its own `time`.

    A line without either (a panic's trace) was written right after the line before it and takes that one's instant.
    """
    labels = _labels(name, namespace, kinds)
    entries: list[Entry] = []
    waiting: list[str] = []
    at: int | None = None
    for raw in lines:
        stamp, line = _stamped(raw)
        at = stamp if stamp is not None else at
        if at is None:
            waiting.append(line)
            continue
        entries += [Entry(at, w, labels, {}) for w in waiting]
        waiting.clear()
        entries.append(Entry(at, line, labels, {}))
    return Log(name, sorted(entries, key=lambda e: e.ts), len(waiting))


def _stamped(raw: str) -> tuple[int | None, str]:
    found = _STAMP.match(raw)
    own = None if found else _OWN_TIME.search(raw)
    try:
        if found:
            return instant_of(found[1]), found[2]
        return (instant_of(own[1]) if own else None), raw
    except (ValueError, OverflowError):
        return None, raw


def _labels(name: str, namespace: str, kinds: Sequence[JobKind]) -> dict[str, str]:
    """Tell from a log's name who wrote it: a deployment, or the pod of a job."""
    job = _POD_SUFFIX.sub("", name)
    for candidate in (name, job):
        known = kind_of(candidate, kinds)
        if known and (candidate == name or known[0].kind != "other"):
            app = known[0].apps[0] if known[0].apps else ""
            pod = {"pod": name} if candidate != name else {}
            return {"namespace": namespace, "app": app, "job_name": candidate, **pod}
    return {"namespace": namespace, "app": name}


def event_windows(tables: Iterable[pa.Table]) -> list[Window]:
    """Return what lists of events cover: an hour before the newest of each."""
    newest = [max(t["ts"].cast(pa.int64()).to_pylist()) for t in tables if t.num_rows]
    return [Window(n - _EVENT_LIFE_NS, n + 1) for n in newest]


def job_windows(snapshots: Iterable[Snapshot], kind: JobKind) -> list[Window]:
    """Return what snapshots show completely of one kind: its time to live before each."""
    return [Window(s.at - round(kind.ttl_s * NS), s.at + 1) for s in snapshots if s.at]


def _table(name: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    spec = schemas.TABLES[name].schema
    return schemas.in_order(name, pa.table({f.name: pa.array([r[f.name] for r in rows], f.type) for f in spec}, spec))
