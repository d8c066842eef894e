"""The lake's files: whole reads, all-or-nothing writes, one writer at a time, and errors that say what to do."""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import select
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from pipeline.errors import LakeError
from pipeline.lake.store import META, Store

_HOLD = """
import sys
import time
from pipeline.lake.store import Store
with Store(sys.argv[1]).lock(0, print):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(params=["directory", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Give an empty lake in a directory, and one in an object store."""
    if request.param == "directory":
        yield Store(str(tmp_path / "lake"))
        return
    yield Store("memory://lake")
    fsspec.filesystem("memory").store.clear()


@pytest.fixture
def local(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "lake"))


@contextlib.contextmanager
def holder(uri: str) -> Iterator[subprocess.Popen[str]]:
    """Run another process that holds the lake until its input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, uri], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], 30)[0]
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def failing(code: int) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise OSError(code, os.strerror(code))

    return fail


def everything(root: str) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in Path(root).rglob("*") if p.is_file()}


def test_what_was_written_is_read_whole_and_what_was_not_is_none(store: Store) -> None:
    assert store.read("logs/a.parquet") is None
    assert store.write("logs/a.parquet", b"one") is True
    assert store.write("logs/a.parquet", b"another") is True
    assert store.read("logs/a.parquet") == b"another"


def test_removing_takes_a_file_away_and_minds_no_missing_one(store: Store) -> None:
    store.write("a", b"x")
    store.remove("a")
    store.remove("a")
    assert store.read("a") is None


def test_the_same_bytes_are_not_written_again(local: Store) -> None:
    local.write("a", b"x")
    path = Path(local.root) / "a"
    os.utime(path, ns=(1, 1))
    assert local.write("a", b"x") is False
    assert path.stat().st_mtime_ns == 1


def test_names_are_sorted_and_leave_out_what_readers_skip(store: Store) -> None:
    for name in ("t/b.parquet", "t/date=1/a.parquet", "t/.hidden.parquet", "t/_folder/x.parquet", "t/.d/x.parquet"):
        store.write(name, b"x")
    store.write("t/date=1/a.json", b"x")
    store.write(f"{META}/pulls/x.parquet", b"x")
    assert store.names("t", ".parquet") == ["t/b.parquet", "t/date=1/a.parquet"]
    assert store.names("t") == ["t/b.parquet", "t/date=1/a.json", "t/date=1/a.parquet"]
    assert store.names("") == store.names("t")
    assert store.names(f"{META}/pulls") == [f"{META}/pulls/x.parquet"]
    assert store.names("nowhere") == []


def test_names_below_the_root_of_an_object_store_are_relative_too() -> None:
    store = Store("memory://")
    store.write("t/a", b"x")
    assert store.names("t") == ["t/a"]
    fsspec.filesystem("memory").store.clear()


@pytest.mark.parametrize("uri", ["lake", "./lake/", "file://{}/lake"])
def test_a_directory_is_named_in_any_usual_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store(uri.format(tmp_path))
    store.write("a", b"x")
    assert store.local
    assert (tmp_path / "lake" / "a").read_bytes() == b"x"


def test_a_store_can_be_handed_to_another_process(local: Store) -> None:
    local.write("a", b"x")
    assert pickle.loads(pickle.dumps(local)).read("a") == b"x"  # noqa: S301 - our own bytes


@pytest.mark.parametrize("uri", ["nosuch://x", "s3://bucket/x"])
def test_an_address_that_nothing_serves_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(LakeError, match="cannot be opened") as told:
        Store(uri)
    assert uri in told.value.what
    assert told.value.fix


def test_no_message_shows_user_info_of_the_address() -> None:
    with pytest.raises(LakeError) as told:
        Store("nosuch://me:hunter2@host/x")
    assert "nosuch://host/x" in told.value.what
    assert "hunter2" not in str(told.value)


def test_a_crash_before_the_rename_leaves_the_old_file_and_no_junk(
    local: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.write("logs/a", b"old")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as m:
        m.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            local.write("logs/a", b"new")
    assert local.names("") == ["logs/a"]
    assert local.read("logs/a") == b"old"
    assert local.names(f"{META}/unfinished") == []


def test_what_a_killed_run_left_unfinished_goes_when_the_next_one_holds_the_lake(local: Store) -> None:
    left = f"{META}/unfinished"
    local.write(f"{left}/1f2e", b"half of a file")
    with local.lock(0, print):
        assert local.names(left) == []


def test_a_file_that_is_written_in_pieces_is_there_whole_or_not_at_all(store: Store) -> None:
    store.write("logs/a", b"old")
    with pytest.raises(TypeError), store.writing("logs/a") as file:
        file.writelines([b"half", None])  # type: ignore[list-item]
    assert store.read("logs/a") == b"old"
    with store.writing("logs/a") as file:
        file.write(b"new ")
        assert store.read("logs/a") == b"old"
        file.write(b"and whole")
    assert store.read("logs/a") == b"new and whole"
    assert store.names(f"{META}/unfinished") == []


def test_a_file_that_is_written_as_it_was_is_not_touched(local: Store) -> None:
    local.write("logs/a", b"same")
    before = Path(local.root, "logs/a").stat()
    with local.writing("logs/a") as file:
        file.write(b"same")
    after = Path(local.root, "logs/a").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_file_is_read_in_pieces_and_none_is_none(store: Store) -> None:
    store.write("logs/a", b"some bytes")
    with store.reading("logs/a") as file:
        assert file is not None
        assert (file.read(4), file.read()) == (b"some", b" bytes")
    with store.reading("logs/b") as nothing:
        assert nothing is None


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_says_what_to_do_and_changes_nothing(
    local: Store, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    local.write("logs/a", b"old")
    before = everything(local.root)
    monkeypatch.setattr(os, "fsync", failing(code))
    with pytest.raises(LakeError, match=os.strerror(code)) as told:
        local.write("logs/a", b"new")
    assert everything(local.root) == before
    assert (told.value.exit_code, told.value.fix) == (5, "free some space")
    assert "logs/a" in told.value.what
    assert "is kept" in told.value.kept


def test_a_file_that_grows_past_what_the_system_allows_is_not_left_half_written(local: Store) -> None:
    code = (
        "import resource, signal, sys\nfrom pipeline.lake.store import Store\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nresource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "Store(sys.argv[1]).write('a', b'x' * 2000)"
    )
    done = subprocess.run([sys.executable, "-c", code, local.root], capture_output=True, text=True, check=False)
    assert "LakeError: cannot write a" in done.stderr
    assert everything(local.root) == {}


@pytest.mark.parametrize(
    ("doing", "act"),
    [
        ("read", lambda s: s.read("logs/a")),
        ("read", lambda s: s.write("logs/a", b"x")),
        ("list", lambda s: s.names("logs")),
        ("delete", lambda s: s.remove("logs/a")),
    ],
)
def test_a_file_in_the_place_of_a_folder_is_an_error_of_the_lake(
    local: Store, doing: str, act: Callable[[Store], object]
) -> None:
    local.write("logs", b"a file")
    with pytest.raises(LakeError, match=f"cannot {doing} logs") as told:
        act(local)
    assert local.uri in told.value.what
    assert told.value.fix == "check lake.uri and its permissions"
    assert local.read("logs") == b"a file"


def test_a_read_only_directory_is_an_error_of_the_lake(local: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "mkdir", failing(errno.EROFS))
    with pytest.raises(LakeError, match=r"cannot write a in .*Read-only"):
        local.write("a", b"x")
    with pytest.raises(LakeError, match="cannot lock"), local.lock(0, print):
        pass


def test_a_folder_that_cannot_be_listed_is_not_taken_for_an_empty_one(
    local: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.write("logs/date=1/a", b"x")
    scan = os.scandir

    def refused(path: str) -> Any:
        if str(path).endswith("date=1"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(LakeError, match=r"cannot list logs .*Permission denied"):
        local.names("logs")


def test_any_failure_of_an_object_stores_client_is_an_error_of_the_lake(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoCredentialsError(Exception):
        pass

    def refused(*_: object, **__: object) -> bytes:
        raise NoCredentialsError("no credentials")

    store = Store("memory://lake")
    monkeypatch.setattr(type(store._fs), "cat_file", refused)  # noqa: SLF001 - the client's own failure
    with pytest.raises(LakeError, match="cannot read a in memory://lake: no credentials"):
        store.read("a")


def test_a_bug_is_not_called_an_error_of_the_lake(local: Store) -> None:
    with pytest.raises(TypeError):
        local.write("a", "text")  # type: ignore[arg-type]


def test_a_private_file_is_readable_by_its_owner_alone(local: Store) -> None:
    local.write("key", b"x", private=True)
    local.write("data", b"x")
    assert stat.S_IMODE((Path(local.root) / "key").stat().st_mode) == 0o600
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((Path(local.root) / "data").stat().st_mode) == 0o666 & ~umask


def test_an_object_store_needs_no_lock() -> None:
    store = Store("memory://lake")
    with store.lock(0, print), store.lock(0, print):
        assert store.names("") == []


def test_a_lake_in_use_names_who_holds_it(local: Store) -> None:
    said: list[str] = []
    with holder(local.uri) as other:
        with pytest.raises(LakeError, match=f"in use by aislot on .*, process {other.pid}") as told:
            local.lock(0, said.append).__enter__()
        assert (told.value.exit_code, said) == (5, [])


def test_a_second_process_waits_says_so_once_and_goes_on(local: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    slept: list[float] = []
    with holder(local.uri) as other:

        def ended(seconds: float) -> None:
            slept.append(seconds)
            if len(slept) == 3:
                other.communicate("")

        monkeypatch.setattr(time, "sleep", ended)
        with local.lock(600, said.append):
            assert len(slept) == 3
    assert said == [f"the lake is in use by {said[0].split('by ')[1].split(';')[0]}; waiting"]
    assert f"process {other.pid}" in said[0]


def test_waiting_ends_with_an_error_of_the_lake(local: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    with holder(local.uri), pytest.raises(LakeError, match="in use"):
        local.lock(1, lambda _: None).__enter__()
    assert sum(slept) == pytest.approx(1)


def test_a_killed_holder_leaves_no_lock(local: Store) -> None:
    with holder(local.uri) as other:
        other.send_signal(signal.SIGKILL)
        other.wait()
        with local.lock(0, print):
            assert local.write("a", b"x")


def test_the_lock_is_given_back_after_an_error_in_its_body(local: Store) -> None:
    with pytest.raises(ZeroDivisionError), local.lock(0, print):
        _ = 1 / 0
    with local.lock(0, print):
        pass


def test_an_error_of_the_body_is_not_called_one_of_the_lock(local: Store) -> None:
    with pytest.raises(ConnectionResetError), local.lock(0, print):
        raise ConnectionResetError


def test_a_full_disk_while_locking_is_an_error_of_the_lake(local: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as m:
        m.setattr(os, "pwrite", failing(errno.ENOSPC))
        with pytest.raises(LakeError, match="cannot lock") as told, local.lock(0, print):
            pass
        assert told.value.fix == "free some space"
    with local.lock(0, print):
        pass
