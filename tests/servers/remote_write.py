"""Prometheus remote write 1.0 by hand: WriteRequest{timeseries{labels, samples}} in protobuf, compressed by snappy."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

import cramjam

Labels: TypeAlias = Mapping[str, str]
Sample: TypeAlias = tuple[int, float | None]  # ms and value; None is the stale marker
Series: TypeAlias = tuple[Labels, Iterable[Sample]]

HEADERS = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}
# a NaN of its own bits: as a float on its way through Python it might come out as another NaN
_STALE = struct.pack("<Q", 0x7FF0000000000002)
_BATCH = 20_000


def bodies(series: Iterable[Series]) -> Iterator[bytes]:
    """Yield the request bodies that write these series, in order of time over all of them."""
    labels: list[bytes] = []
    samples: list[tuple[int, int, float | None]] = []
    for index, (names, points) in enumerate(series):
        labels.append(b"".join(_field(1, _label(name, names[name])) for name in sorted(names)))
        samples += ((ms, index, value) for ms, value in points)
    # a server refuses what is much older than the newest sample it has, of whatever series
    samples.sort(key=lambda sample: sample[:2])
    for at in range(0, len(samples), _BATCH):
        grouped: dict[int, list[bytes]] = {}
        for ms, index, value in samples[at : at + _BATCH]:
            grouped.setdefault(index, []).append(_field(2, _sample(ms, value)))
        written = b"".join(_field(1, labels[index] + b"".join(group)) for index, group in grouped.items())
        yield bytes(cramjam.snappy.compress_raw(written))


def _label(name: str, value: str) -> bytes:
    return _field(1, name.encode()) + _field(2, value.encode())


def _sample(ms: int, value: float | None) -> bytes:
    return b"\x09" + (_STALE if value is None else struct.pack("<d", value)) + b"\x10" + _varint(ms)


def _field(number: int, payload: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
