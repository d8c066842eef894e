"""A faulty network: a proxy in this process passes a real server's answers on, three in ten of them spoilt.

The same question is spoilt twice in a row at most. Each fault is drawn from the seed, the question and how often it was
asked, so that threads which come in another order meet the same network. Every fault is one that a client can see, at
once or by what its other answers say. So it is with those that look like success: `missing` takes entries (streams,
samples, counts) out of an answer, `empty` takes all of them; but of two answers that would vouch for each other, counts
and lines of one time, only one lies at a time. Were both to hide the same line, it would be silence to any client.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeAlias

import urllib3

from pipeline.model import NS
from tests.faults import HANGS_UP, RESETS, STALLS, Asked, Say, serving

Hook: TypeAlias = Callable[[Asked, int], Say | None]
_PASSED_ON = {"authorization", "content-type", "x-scope-orgid", "x-loki-response-encoding-flags", "cache-control"}
_SLOW_S = 0.4
_IN_A_ROW = 2
_PAGE = "<html><head><title>502 Bad Gateway</title></head><body><center>nginx</center></body></html>"


def _part(say: Say, rng: Random) -> int:
    return rng.randrange(max(1, len(say.bytes())))


def _short(say: Say, rng: Random, **more: Any) -> Say:
    """Promise the whole body and send a part of it."""
    return Say(say.body, cut_at=_part(say, rng), **more)


LOUD: Mapping[str, Callable[[Say, Random], Say]] = {
    "429": lambda _, __: Say("slow down", 429),
    "429 with Retry-After": lambda _, __: Say("slow down", 429, {"Retry-After": "1"}),
    "500": lambda _, __: Say("internal error", 500),
    "502": lambda _, __: Say(_PAGE, 502),
    "503": lambda _, __: Say("busy", 503),
    "504": lambda _, __: Say(_PAGE.replace("502 Bad Gateway", "504 Gateway Time-out"), 504),
    "cut body": _short,
    "cut chunked body": lambda say, rng: _short(say, rng, chunked=True),
    "reset": lambda _, __: RESETS,
    "reset within the body": lambda say, rng: _short(say, rng, then="reset"),
    "closed": lambda _, __: HANGS_UP,
    "no HTTP": lambda _, rng: Say(raw=rng.randbytes(200), then="close"),
    "garbage": lambda _, rng: Say(rng.randbytes(2000)),
    "a page": lambda _, __: Say(_PAGE),
    "truncated JSON": lambda say, rng: Say(say.bytes()[: _part(say, rng)]),
    "silence": lambda _, __: STALLS,
}
SILENT = ("missing", "empty")
KINDS = (*LOUD, *SILENT, "slow")


@dataclass
class Proxy:
    """What passes on and spoils; `met` counts the faults by kind, `asked` is every question with what became of it.

    `kinds` are the faults to choose from, `rate` how often. `hook` sees each question and its number first: it may
    answer in the server's place, wait, or set something off.
    """

    upstream: str
    seed: int = 0
    rate: float = 0.3
    kinds: Collection[str] = KINDS
    hook: Hook = lambda _asked, _number: None
    met: Counter[str] = field(default_factory=Counter)
    asked: list[tuple[Asked, str]] = field(default_factory=list)
    url: str = ""
    _times: Counter[str] = field(default_factory=Counter, repr=False)
    _in_a_row: Counter[str] = field(default_factory=Counter, repr=False)
    _lies: dict[str, tuple[str, int, int]] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _pool: urllib3.PoolManager = field(
        default_factory=lambda: urllib3.PoolManager(maxsize=16, retries=False, timeout=60), repr=False
    )

    def __call__(self, asked: Asked) -> Say:
        """Answer one question."""
        with self._lock:
            number = len(self.asked)
            self.asked.append((asked, ""))
        said = self.hook(asked, number)
        if said is not None:
            return self._noted(number, said, f"hook {said.status}")
        say = self._upstream(asked)
        if say is RESETS:
            return self._noted(number, say, "upstream is away")
        with self._lock:
            say, kind = self._spoilt(asked, say)
        if kind == "slow":
            time.sleep(_SLOW_S)
        return self._noted(number, say, kind)

    def close(self) -> None:
        """Let go of the server, which would wait for us before it stops."""
        self._pool.clear()

    def _noted(self, number: int, say: Say, kind: str) -> Say:
        with self._lock:
            self.asked[number] = (self.asked[number][0], kind)
            if kind:
                self.met[kind] += 1
        return say

    def _upstream(self, asked: Asked) -> Say:
        headers = {k: v for k, v in asked.headers.items() if k.lower() in _PASSED_ON}
        try:
            reply = self._pool.request(asked.method, self.upstream + asked.target, body=asked.body, headers=headers)
        except urllib3.exceptions.HTTPError:
            return RESETS
        kept = {k: v for k, v in reply.headers.items() if k.lower() in {"content-type", "retry-after"}}
        return Say(reply.data, reply.status, kept)

    def _spoilt(self, asked: Asked, say: Say) -> tuple[Say, str]:
        key = question(asked)
        self._times[key] += 1
        rng = Random(f"{self.seed}:{self._times[key]}:{key}")
        self._lies.pop(key, None)
        if self._in_a_row[key] >= _IN_A_ROW or rng.random() >= self.rate:
            self._in_a_row[key] = 0
            return say, ""
        self._in_a_row[key] += 1
        kind = rng.choice(tuple(self.kinds))
        lie = self._lie(asked, say, kind, rng, key) if kind in SILENT else None
        if lie is not None:
            return lie, kind
        if kind == "slow":
            return say, kind
        loud = [k for k in self.kinds if k in LOUD]
        kind = kind if kind in LOUD else rng.choice(loud) if loud else ""
        return (LOUD[kind](say, rng) if kind else say), kind

    def _lie(self, asked: Asked, say: Say, kind: str, rng: Random, key: str) -> Say | None:
        """Hide entries of an answer; None where there are none, or where what vouches for them hides them already."""
        side, start, end = told_about(asked)
        if side and any(other != side and a < end and start < b for other, a, b in self._lies.values()):
            return None
        body = without(say, rng, everything=kind == "empty") if say.status == 200 else None
        if body is None:
            return None
        if side:
            self._lies[key] = (side, start, end)
        return Say(body, say.status, say.headers)


def question(asked: Asked) -> str:
    """Return what makes a question the same one: method, path and body; but what makes each its own does not count."""
    own = "" if asked.path.endswith("/series") else f"{asked.target} {asked.body.decode('latin-1')}"
    return f"{asked.method} {asked.path} {own}"


def told_about(asked: Asked) -> tuple[str, int, int]:
    """Return which of counts and lines a question asks for, and of what time (ns; without a range, all): else nothing."""
    query = asked.form.get("query")
    side = "" if query is None else "counts" if "count" in query else "lines"
    if asked.form.get("start", "").isdigit():
        return side, int(asked.form["start"]), int(asked.form["end"])
    return side, -(1 << 63), 1 << 63


def is_lines(asked: Asked) -> bool:
    """Tell whether a question asks Loki for lines."""
    return asked.path.endswith("/query_range") and told_about(asked)[0] == "lines"


def hours_read(day: int, asked: Iterable[Asked]) -> set[int]:
    """Return inside of which hours of a day lines were asked for; a look at the minute before an hour does not count."""
    spans = [told_about(a)[1:] for a in asked if is_lines(a)]
    spans = [(start, end) for start, end in spans if end - start > 60 * NS or -(end - day) % (3600 * NS) > NS]
    inside = [(start - day + NS, end - day - NS) for start, end in spans if end - start > 2 * NS and start >= day - NS]
    return {h for start, end in inside for h in range(start // (3600 * NS), end // (3600 * NS) + 1)}


def without(say: Say, rng: Random, *, everything: bool) -> bytes | None:
    """Return a JSON answer without some of its entries, or without any; None where it holds none."""
    try:
        answer = json.loads(say.bytes())
        data = answer["data"]
        result = data["result"] if isinstance(data, dict) else data
    except (ValueError, KeyError, TypeError):
        return None
    if not isinstance(result, list) or not result:
        return None
    kept = [] if everything else [part for entry in result for part in _thinned(entry, rng)]
    if kept == result:
        kept = result[1:]
    if isinstance(data, dict):
        data["result"] = kept
    else:
        answer["data"] = kept
    return json.dumps(answer).encode()


def _thinned(entry: Any, rng: Random) -> Sequence[Any]:
    """Drop one entry in ten, or one value in ten of those that have several."""
    if isinstance(entry, dict) and "values" in entry:
        values = [v for v in entry["values"] if rng.random() > 0.1]
        return [{**entry, "values": values}] if values else []
    return [entry] if rng.random() > 0.1 else []


@contextmanager
def between(proxy: Proxy) -> Iterator[Proxy]:
    """Serve a proxy within the block; its `url` is where to ask."""
    with serving(proxy) as faults:
        proxy.url = faults.url
        try:
            yield proxy
        finally:
            proxy.close()
