"""The lake's files behind one fsspec object: whole reads, atomic writes, one lock. Nothing else opens a lake path.

A directory: write below `_aislot/unfinished`, sync, rename. An object store: one PUT, which is atomic by itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import posixpath
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import fsspec

from pipeline.errors import LakeError

META = "_aislot"
_TMP = f"{META}/unfinished"
_NO_SPACE = 28


class Store:
    """Files under one root, by relative names with `/`."""

    def __init__(self, uri: str, options: Mapping[str, Any] | None = None) -> None:
        """Open the root. Raises LakeError for an address that no file system serves."""
        self.uri = uri
        try:
            self._fs, root = fsspec.core.url_to_fs(uri, **dict(options or {}))
        except (ImportError, ValueError, OSError) as e:
            raise LakeError(f"the lake {uri} cannot be opened: {e}", "set lake.uri to a directory") from e
        self.root = root.rstrip("/")
        protocols = self._fs.protocol if isinstance(self._fs.protocol, tuple) else (self._fs.protocol,)
        self.local = "file" in protocols

    def read(self, name: str) -> bytes | None:
        """Return a file's bytes, None where there is none."""
        with self._told("read", name):
            try:
                return bytes(self._fs.cat_file(self._path(name)))
            except FileNotFoundError:
                return None

    def write(self, name: str, data: bytes) -> bool:
        """Put `data` in place of the file, all or nothing; False where the file already held just that."""
        if self.read(name) == data:
            return False
        with self._told("write", name):
            if self.local:
                self._rename_into_place(name, data)
            else:
                self._fs.pipe_file(self._path(name), data)
        return True

    def remove(self, name: str) -> None:
        """Delete a file if it is there."""
        with self._told("delete", name), contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._path(name))

    def names(self, folder: str, ending: str = "") -> list[str]:
        """List the files anywhere below a folder, sorted; hidden ones and those below `_` folders of it left out."""
        with self._told("list", folder):
            self._fs.invalidate_cache()
            try:
                found = self._fs.find(self._path(folder))
            except FileNotFoundError:
                return []
        names = [posixpath.relpath(p, self.root) for p in found]
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
        with self._told("lock", META):
            self._fs.makedirs(self._path(_TMP), exist_ok=True)
            handle = self._fs.open(self._path(f"{META}/lock"), "a+b")
        with handle:
            self._acquire(handle, wait_s, say)
            with self._told("clean", _TMP):
                for left in self._fs.find(self._path(_TMP)):  # what a killed run left; nobody else writes now
                    self._fs.rm_file(left)
            yield

    def _acquire(self, handle: Any, wait_s: float, say: Callable[[str], None]) -> None:
        waited = 0.0
        while True:
            try:
                fcntl.flock(handle.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                handle.seek(0)
                holder = handle.read().decode("utf-8", "replace").strip() or "another aislot"
                if waited >= wait_s:
                    raise LakeError(f"the lake {self.uri} is in use by {holder}", "wait until it has ended") from None
                if not waited:
                    say(f"the lake is in use by {holder}; waiting")
                time.sleep(0.2)
                waited += 0.2
            else:
                handle.truncate(0)
                handle.write(f"aislot on {socket.gethostname()}, process {os.getpid()}".encode())
                handle.flush()
                return

    def _rename_into_place(self, name: str, data: bytes) -> None:
        temporary = self._path(f"{_TMP}/{secrets.token_hex(8)}")
        self._fs.makedirs(self._path(_TMP), exist_ok=True)
        self._fs.makedirs(posixpath.dirname(self._path(name)), exist_ok=True)
        try:
            with self._fs.open(temporary, "wb") as f:
                f.write(data)
                f.flush()
                os.fsync(f.fileno())
            self._fs.mv(temporary, self._path(name))
        except OSError:
            with contextlib.suppress(OSError):
                self._fs.rm_file(temporary)
            raise

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}" if name else self.root

    @contextlib.contextmanager
    def _told(self, doing: str, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as e:
            why = e.strerror or str(e)
            fix = "free some space" if e.errno == _NO_SPACE else "check lake.uri and its permissions"
            kept = "what was written before is whole and is kept; the next run goes on from there"
            raise LakeError(f"cannot {doing} {name or 'the lake'} in {self.uri}: {why}", fix, kept) from e
