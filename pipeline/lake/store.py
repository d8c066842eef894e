"""The lake's files behind one fsspec object: whole reads, atomic writes, one lock. Nothing else opens a lake path.

A directory: write below `_aislot/unfinished`, sync, rename. An object store: one PUT, which is atomic by itself.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import filecmp
import hashlib
import io
import os
import posixpath
import re
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import fsspec

from pipeline.errors import LakeError

META = "_aislot"
_TMP = f"{META}/unfinished"
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_RETRY_S = 0.2
_USER_INFO = re.compile(r"(?<=://)[^/]*@")


class Store:
    """Files under one root, by relative names with `/`."""

    def __init__(self, uri: str, options: Mapping[str, Any] | None = None) -> None:
        """Open the root. Raises LakeError for an address that no file system serves."""
        self.uri = _USER_INFO.sub("", uri)  # as messages show it
        try:
            self._fs, root = fsspec.core.url_to_fs(uri, **dict(options or {}))
        except (ImportError, ValueError, OSError) as e:
            raise LakeError(f"the lake {self.uri} cannot be opened: {e}", "set lake.uri to a directory") from e
        self.root = root.rstrip("/")
        protocols = self._fs.protocol if isinstance(self._fs.protocol, tuple) else (self._fs.protocol,)
        self.local = "file" in protocols
        # a client of an object store has errors of its own: no credentials, no such endpoint
        self._failures: type[Exception] = OSError if self.local else Exception

    def read(self, name: str) -> bytes | None:
        """Return a file's bytes, None where there is none."""
        with self.told("read", name):
            try:
                return bytes(self._fs.cat_file(self._path(name)))
            except FileNotFoundError:
                return None

    def write(self, name: str, data: bytes, *, private: bool = False) -> bool:
        """Put `data` in place of the file, all or nothing; False where the file already held just that.

        In a directory nobody else can read a `private` file; in an object store its policy decides.
        """
        if self.read(name) == data:
            return False
        with self.told("write", name):
            if self.local:
                self._rename_into_place(name, data, 0o600 if private else 0o666)
            else:
                self._fs.pipe_file(self._path(name), data)
        return True

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """Give a file to write to, which takes the place of `name` when the block ends; an error leaves what was there.

        Where the file already held just that, nothing changes. Raises LakeError.
        """
        if self.local:
            with self.told("write", name), self._renamed_into_place(name) as file:
                yield file
            return
        whole = io.BytesIO()  # an object is put at once, which is all that makes it atomic
        yield whole
        with self.told("write", name):
            self._fs.pipe_file(self._path(name), whole.getvalue())

    @contextlib.contextmanager
    def reading(self, name: str) -> Iterator[IO[bytes] | None]:
        """Give a file to read from, piece by piece; None where there is none. Raises LakeError."""
        with self.told("read", name), contextlib.ExitStack() as files:
            try:
                file = files.enter_context(self._fs.open(self._path(name), "rb"))
            except FileNotFoundError:
                file = None
            yield file

    def digest(self, name: str) -> str | None:
        """Return the SHA-256 of a file, None where there is none. Raises LakeError."""
        with self.reading(name) as file:
            return hashlib.file_digest(file, "sha256").hexdigest() if file else None  # type: ignore[arg-type]

    def remove(self, name: str) -> None:
        """Delete a file if it is there."""
        with self.told("delete", name), contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._path(name))

    def names(self, folder: str, ending: str = "") -> list[str]:
        """List the files anywhere below a folder, sorted; hidden ones and those below `_` folders of it left out."""
        with self.told("list", folder):
            found = _walk(self._path(folder)) if self.local else self._find(self._path(folder))
        names = [posixpath.relpath(p, self.root or "/") for p in found]
        below = len(folder.split("/")) if folder else 0
        seen = (n for n in names if n.endswith(ending))
        return sorted(n for n in seen if not any(p.startswith((".", "_")) for p in n.split("/")[below:]))

    @contextlib.contextmanager
    def lock(self, wait_s: float, say: Callable[[str], None]) -> Iterator[None]:
        """Hold the lake for writing; another holder is waited for, then named. Raises LakeError.

        A directory's lock is the kernel's, so a killed holder leaves none behind.
        """
        if not self.local:
            yield
            return
        with self.told("lock", META):
            Path(self._path(_TMP)).mkdir(parents=True, exist_ok=True)
            handle = os.open(self._path(f"{META}/lock"), os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._acquire(handle, wait_s, say)
            with self.told("clean", _TMP):
                for left in _walk(self._path(_TMP)):  # what a killed run left; nobody else writes now
                    Path(left).unlink()
            yield
        finally:
            os.close(handle)

    def _acquire(self, handle: int, wait_s: float, say: Callable[[str], None]) -> None:
        waited = 0.0
        while not self._taken(handle):
            holder = os.pread(handle, 1000, 0).decode("utf-8", "replace").strip() or "another aislot"
            if waited >= wait_s:
                raise LakeError(f"the lake {self.uri} is in use by {holder}", "wait until it has ended")
            if not waited:
                say(f"the lake is in use by {holder}; waiting")
            time.sleep(_RETRY_S)
            waited += _RETRY_S

    def _taken(self, handle: int) -> bool:
        with self.told("lock", META):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"aislot on {socket.gethostname()}, process {os.getpid()}".encode(), 0)
            return True

    def _rename_into_place(self, name: str, data: bytes, mode: int) -> None:
        with self._renamed_into_place(name, mode) as file:
            file.write(data)

    @contextlib.contextmanager
    def _renamed_into_place(self, name: str, mode: int = 0o666) -> Iterator[IO[bytes]]:
        path, temporary = Path(self._path(name)), Path(self._path(f"{_TMP}/{secrets.token_hex(8)}"))
        for folder in (temporary.parent, path.parent):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as f:
                yield f
                f.flush()
                os.fsync(f.fileno())
            if path.exists() and filecmp.cmp(temporary, path, shallow=False):
                temporary.unlink()
            else:
                temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise

    def _find(self, path: str) -> list[str]:
        self._fs.invalidate_cache()
        try:
            return list(self._fs.find(path))
        except FileNotFoundError:
            return []

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}" if name else self.root

    @contextlib.contextmanager
    def told(self, doing: str, name: str) -> Iterator[None]:
        """Say in a LakeError what a file system's error means."""
        try:
            yield
        except LakeError:
            raise
        except self._failures as e:
            why = getattr(e, "strerror", None) or str(e) or type(e).__name__
            full = isinstance(e, OSError) and e.errno in _NO_SPACE
            fix = "free some space" if full else "check lake.uri and its permissions"
            kept = "what was written before is whole and is kept; the next run goes on from there"
            raise LakeError(f"cannot {doing} {name or 'the lake'} in {self.uri}: {why}", fix, kept) from e


def _walk(folder: str) -> list[str]:
    """List the files below a directory; one that cannot be read is an error, lest it be taken for an empty one."""

    def failed(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error

    return [f"{at}/{name}" for at, _, names in os.walk(folder, onerror=failed) for name in names]
