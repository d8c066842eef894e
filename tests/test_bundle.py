"""A bundle stands alone: it is verified without its lake, equal reports make equal bytes, and what was changed is found."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pipeline.errors import UsageError
from pipeline.settings import load
from pipeline.steps import bundle
from pipeline.steps.context import open_context
from pipeline.steps.verify import verify
from tests.command import aislot

DAY = "2026-02-26"
SECRET = "s3cr3t-of-this-install"
Parts = dict[str, bytes]


@pytest.fixture(scope="module")
def bundles(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the bundles of the demo's day and of an issue, and take their lake away."""
    folder = tmp_path_factory.mktemp("bundles")
    shutil.copytree(demo / "lake", folder / "lake")
    env = {"AISLOT_GITHUB__TOKEN": SECRET, "AISLOT_LOKI__URL": f"http://anna:{SECRET}@127.0.0.1:9"}
    for report in (("daily", "--date", DAY), ("postmortem", "--issue", "205", "--lang", "ru")):
        done = aislot("report", *report, "--bundle", cwd=folder, env=env)
        assert done.returncode == 0, done.stderr
        assert "evidence.zip" in done.stderr
    shutil.move(folder / "lake", folder / "gone")
    return folder


BUNDLES = [f"out/daily/{DAY}/evidence.zip", "out/postmortem/205/evidence.zip"]


@pytest.mark.parametrize("name", BUNDLES)
def test_a_bundle_is_verified_without_lake_settings_or_network(bundles: Path, name: str, tmp_path: Path) -> None:
    (tmp_path / "aislot.toml").write_text("not toml at all", encoding="utf-8")
    done = aislot("verify", str(bundles / name), "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout) == {"equal": True, "differences": []}


@pytest.mark.parametrize("name", BUNDLES)
def test_a_bundle_holds_what_its_report_rests_on_and_no_secret(bundles: Path, name: str) -> None:
    parts = unzipped(bundles / name)
    assert {"report.md", "report.html", "summary.json", "manifest.json", "settings.json"} <= set(parts)
    assert f"lake/attempts/date={DAY}/day.parquet" in parts
    assert "queries/signatures.toml" in parts
    assert any(n.startswith("excerpts/f-") for n in parts)
    assert not any("redaction.key" in n or "told_lines" in n for n in parts)
    assert not any(SECRET.encode() in data for data in parts.values())
    manifest = json.loads(parts["manifest.json"])
    assert manifest["files"] == {n: hashlib.sha256(d).hexdigest() for n, d in parts.items() if n != "manifest.json"}
    (logs,) = [x for x in manifest["left_out"] if x["table"] == "logs"]
    assert logs["rows"] > 0
    assert (bundles / name).stat().st_size < bundle.MOST_BYTES


def test_equal_reports_make_equal_bytes(bundles: Path, tmp_path: Path) -> None:
    shutil.copytree(bundles, tmp_path / "here")
    shutil.move(tmp_path / "here/gone", tmp_path / "here/lake")
    ctx = open_context(load(None, "", {}, {"lake.uri": str(tmp_path / "here/lake")}), 0, print)
    folder = (tmp_path / "here" / BUNDLES[1]).parent
    first, second = (bundle.write(ctx, folder).read_bytes() for _ in range(2))
    assert first == second
    infos = zipfile.ZipFile(io.BytesIO(first)).infolist()
    assert [i.filename for i in infos] == sorted(i.filename for i in infos)


def unzipped(path: Path) -> Parts:
    with zipfile.ZipFile(path) as z:
        return {n: z.read(n) for n in z.namelist()}


def zipped(parts: Parts, to: Path) -> Path:
    """Write a bundle whose list fits its parts: only counting again finds what was changed."""
    manifest = json.loads(parts["manifest.json"])
    manifest["files"] = {n: hashlib.sha256(d).hexdigest() for n, d in parts.items() if n != "manifest.json"}
    with zipfile.ZipFile(to, "w") as z:
        for n, data in (parts | {"manifest.json": json.dumps(manifest).encode()}).items():
            z.writestr(n, data)
    return to


def _number(parts: Parts) -> None:
    found = json.loads(parts["summary.json"])
    found["golden"]["all"]["failed"] += 1
    parts["summary.json"] = json.dumps(found).encode()


def _page(parts: Parts) -> None:
    parts["report.md"] = parts["report.md"].replace(b"13:59", b"13:58", 1)


def _attempt(parts: Parts) -> None:
    name = f"lake/attempts/date={DAY}/day.parquet"
    table = pq.read_table(io.BytesIO(parts[name]), partitioning=None)
    parts[name] = _parquet(table.slice(0, table.num_rows - 5))


def _line(parts: Parts) -> None:
    for name in (n for n in parts if n.startswith("lake/logs/")):
        table = pq.read_table(io.BytesIO(parts[name]), partitioning=None)
        signed = pc.greater(pc.list_value_length(table["signatures"]), 0)
        parts[name] = _parquet(table.filter(pc.invert(signed)))


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


@pytest.mark.parametrize("name", BUNDLES)
@pytest.mark.parametrize(
    ("tamper", "file"),
    [(_number, "summary.json"), (_page, "report.md"), (_attempt, "summary.json"), (_line, "summary.json")],
)
def test_what_was_changed_is_found_though_the_list_was_changed_with_it(
    bundles: Path, name: str, tamper: Callable[[Parts], None], file: str, tmp_path: Path
) -> None:
    parts = unzipped(bundles / name)
    tamper(parts)
    found = verify(zipped(parts, tmp_path / "evidence.zip"), None, print)
    assert file in {d.file for d in found}


def _with(path: Path, parts: Parts) -> Path:
    with zipfile.ZipFile(path, "w") as z:
        for n, data in parts.items():
            z.writestr(n, data)
    return path


@pytest.mark.parametrize("file", ["queries/signatures.toml", "report.html", "summary.json", "settings.json"])
def test_a_file_that_was_changed_or_taken_away_or_added_is_found(bundles: Path, file: str, tmp_path: Path) -> None:
    parts = unzipped(bundles / BUNDLES[1])
    changed = _with(tmp_path / "changed.zip", parts | {file: parts[file] + b" "})
    assert (file, "sha256") in {(d.file, d.key) for d in verify(changed, None, print)}
    gone = _with(tmp_path / "gone.zip", {n: d for n, d in parts.items() if n != file})
    assert file in {d.file for d in verify(gone, None, print)}
    more = _with(tmp_path / "more.zip", parts | {"more.txt": b"x"})
    assert [(d.file, d.reported) for d in verify(more, None, print)] == [("more.txt", None)]


def test_a_byte_that_was_flipped_is_found(bundles: Path, tmp_path: Path) -> None:
    data = bytearray((bundles / BUNDLES[1]).read_bytes())
    with zipfile.ZipFile(bundles / BUNDLES[1]) as z:
        at = z.getinfo("report.html").header_offset
    data[at + 200] ^= 0xFF
    path = tmp_path / "evidence.zip"
    path.write_bytes(data)
    done = aislot("verify", str(path), cwd=tmp_path)
    assert done.returncode == 10
    assert "report.html" in done.stdout


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "c:evil", "a\\evil"])
def test_nothing_is_unpacked_outside(bundles: Path, name: str, tmp_path: Path) -> None:
    path = _with(tmp_path / "evidence.zip", unzipped(bundles / BUNDLES[1]) | {name: b"x"})
    with pytest.raises(UsageError, match="lies outside"):
        verify(path, None, print)
    assert [p.name for p in tmp_path.iterdir()] == ["evidence.zip"]


@pytest.mark.parametrize("data", [b"", b"PK", b"no zip", b"PK\x05\x06" + b"\0" * 18])
def test_what_is_no_bundle_is_refused_or_lacks_everything(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "evidence.zip"
    path.write_bytes(data)
    done = aislot("verify", str(path), cwd=tmp_path)
    assert done.returncode in {2, 10}
    assert "Traceback" not in done.stderr


def test_a_bundle_wants_all_three_files(bundles: Path, tmp_path: Path) -> None:
    done = aislot(
        "report", "daily", "--date", DAY, "--lake", str(bundles / "gone"), "--format", "md", "--bundle", cwd=tmp_path
    )
    assert done.returncode == 2
