"""Loki's answers: what is no whole answer is asked again, what is a refusal is not, and neither is taken for lines."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.errors import SourceError
from pipeline.model import Window
from pipeline.sources.http import Reply
from tests.fake_loki import MINUTE, SELECTOR, START, FakeLoki, Whole, entry, lines, read_window, success
from tests.faults import Form

HOUR = Window(START, START + 60 * MINUTE)
FETCH, COUNT = "/loki/api/v1/query_range", "/loki/api/v1/query"


def read(server: FakeLoki) -> Whole:
    return read_window(server.loki(), HOUR)


def is_fetch(form: Form) -> bool:
    return form.get("query") == SELECTOR


def fails(server: FakeLoki) -> SourceError:
    with pytest.raises(SourceError) as caught:
        read(server)
    return caught.value


WRONG = [
    pytest.param(success("vector", []), "the answer is no streams", id="another result type"),
    pytest.param({"status": "error", "data": None}, "the answer is none of Loki", id="an error with 200"),
    pytest.param({"fine": True}, "the answer is none of Loki", id="another API"),
    pytest.param([], "the answer is none of Loki", id="a list"),
    pytest.param(success("streams", [{"values": [["now", "x"]]}]), "the answer is no", id="malformed stream"),
    pytest.param(success("streams", [{"stream": {}, "values": [["now"]]}]), "the answer is no", id="malformed value"),
    pytest.param(Reply(200, {}, b"<html><body>Sign in</body></html>"), "a web page came", id="a login page"),
    pytest.param(Reply(200, {}, b""), "came instead of JSON: nothing", id="nothing"),
    pytest.param(lines([], warnings=["some ingesters did not answer"]), "some ingesters did not", id="warnings"),
    pytest.param(Reply(500, {}, b"storage is down"), "HTTP 500: storage is down", id="500"),
]


@pytest.mark.parametrize(("answer", "words"), WRONG)
def test_what_is_no_whole_answer_is_asked_again_and_then_refused(answer: Any, words: str) -> None:
    def wrong(path: str, form: Form) -> Any:
        return answer if is_fetch(form) else None

    error = fails(FakeLoki([entry(5)], before=wrong))
    assert words in error.what
    assert "tried 6 times" in error.what
    assert error.fix


@pytest.mark.parametrize("answer", [p.values[0] for p in WRONG])
def test_an_answer_that_comes_right_after_all_is_taken(answer: Any) -> None:
    first = [answer]

    def wrong(path: str, form: Form) -> Any:
        return first.pop() if is_fetch(form) and first else None

    assert len(read(FakeLoki([entry(5)], before=wrong)).entries) == 1


@pytest.mark.parametrize("path", [FETCH, COUNT])
def test_warnings_on_a_count_are_no_proof(path: str) -> None:
    def warns(asked: str, form: Form) -> Any:
        kind = "vector" if asked == COUNT else "matrix"
        return success(kind, [], warnings=["partial"]) if asked == path and not is_fetch(form) else None

    loki = FakeLoki([entry(5)], before=warns).loki()
    with pytest.raises(SourceError, match=r"may not be whole: .*partial"):
        loki.count(HOUR) if path == COUNT else loki.counts(HOUR)


@pytest.mark.parametrize(
    "text", [b"parse error at line 1, col 2: syntax error", b"stream selector is missing matchers"]
)
def test_a_selector_that_loki_refuses_is_a_setting_to_correct_and_not_asked_again(text: bytes) -> None:
    server = FakeLoki(before=lambda _p, _f: Reply(400, {}, text))
    with pytest.raises(SourceError, match=text.decode()) as caught:
        server.loki().counts(HOUR)
    assert caught.value.fix == "check loki.selectors"
    assert len(server.door.asked) == 1


@pytest.mark.parametrize(
    ("reply", "version"),
    [
        ({"version": "3.7.8"}, "3.7.8"),
        ({}, ""),
        ([], ""),
        (Reply(404, {}, b'{"version": "no"}'), ""),
        (Reply(403, {}, b"no"), ""),
        (Reply(200, {}, b"<html>"), ""),
    ],
)
def test_a_version_is_told_where_there_is_one(reply: Any, version: str) -> None:
    assert FakeLoki(before=lambda _p, _f: reply).loki().version() == version


@pytest.mark.parametrize(
    ("reply", "entries", "shown_s"),
    [
        ({"limits": {"max_entries_limit_per_query": 200, "max_query_lookback": "1d12h"}}, 200, 129_600.0),
        ({"limits": {"max_entries_limit_per_query": 0, "retention_period": "1y"}}, 0, 31_536_000.0),
        ({"limits": {"max_entries_limit_per_query": 7, "max_query_lookback": "0s", "retention_period": "0s"}}, 7, None),
        (
            {"limits": {"max_entries_limit_per_query": 7, "retention_period": "20y", "max_query_lookback": "30d"}},
            7,
            2592e3,
        ),
        ({"limits": {"max_entries_limit_per_query": 7, "retention_period": "100y"}}, 7, None),
        ({"limits": {"max_entries_limit_per_query": 7, "max_query_lookback": "soon"}}, 7, None),
        ({"limits": {"max_query_lookback": "30d"}}, None, None),
        ({}, None, None),
        ([], None, None),
        (Reply(401, {}, b"no org id"), None, None),
        (Reply(200, {}, b"<html>"), None, None),
    ],
)
def test_limits_are_told_where_they_are(reply: Any, entries: int | None, shown_s: float | None) -> None:
    limits = FakeLoki(before=lambda _p, _f: reply).loki().limits()
    assert (limits.entries, limits.shown_s) == (entries, shown_s)


def chunks(looked_for: Any, found: Any, stored: Any) -> Any:
    """Return what Loki's statistics say of its cache of chunks."""
    told = {"entriesRequested": looked_for, "entriesFound": found, "entriesStored": stored}
    return {"cache": {"chunk": told}}


def read_with(stats: list[Any]) -> Whole:
    """Read one line; each answer comes with the next statistics, the last ones again and again."""

    def told(path: str, form: Form) -> Any:
        if not is_fetch(form):
            return None
        answer = lines([entry(5)])
        answer["data"]["stats"] = stats.pop(0) if len(stats) > 1 else stats[0]
        return answer

    return read(FakeLoki([entry(5)], before=told))


@pytest.mark.parametrize(
    "stats",
    [chunks(3, 3, 0), chunks(3, 1, 2), chunks(0, 0, 0), chunks(1, 1, 1), {}, None, chunks("?", 1, 1), {"cache": 7}],
)
def test_chunks_that_were_found_or_fetched_were_read_and_no_word_of_them_is_none(stats: Any) -> None:
    (part,) = (part for _, part in read_with([stats]).parts)
    assert part.unread == 0


def test_chunks_that_stay_unread_are_counted_with_the_part() -> None:
    whole = read_with([chunks(3, 0, 1)])
    assert [part.unread for _, part in whole.parts] == [2]
    assert whole.tally.causes == {"chunks that Loki did not read": 1}


def test_a_chunk_that_is_read_the_second_time_is_no_gap() -> None:
    whole = read_with([chunks(3, 0, 1), chunks(3, 3, 0)])
    assert [part.unread for _, part in whole.parts] == [0]
    assert (len(whole.entries), whole.tally.requests) == (1, 2)


@pytest.mark.parametrize(
    "answer",
    [success("streams", [{"stream": {"app": "a"}, "values": [[f"{START}", text]]}]) for text in (7, None, ["x"], True)]
    + [success("streams", [{"stream": {"app": label}, "values": [[f"{START}", "x"]]}]) for label in (7, None, ["a"])],
)
def test_lines_and_labels_that_are_no_text_make_no_answer(answer: Any) -> None:
    error = fails(FakeLoki([entry(5)], before=lambda _, form: answer if is_fetch(form) else None))
    assert "the answer is no streams of Loki" in error.what


@pytest.mark.parametrize("count", ["1e300", "Inf", "NaN", "-5", "9e18", None, []])
@pytest.mark.parametrize("kind", ["matrix", "vector"])
def test_a_number_that_no_server_can_hold_is_no_count(kind: str, count: Any) -> None:
    sample = {"metric": {}, "values": [[START / 1e9, count]], "value": [START / 1e9, count]}
    loki = FakeLoki(before=lambda _path, _form: success(kind, [sample])).loki()
    with pytest.raises(SourceError, match=f"the answer is no {kind} of Loki"):
        loki.counts(HOUR) if kind == "matrix" else loki.count(HOUR)


def test_labels_of_a_count_that_are_no_text_make_no_answer() -> None:
    sample = {"metric": {"app": ["a"]}, "values": [[START / 1e9, "1"]]}
    loki = FakeLoki(before=lambda _path, _form: success("matrix", [sample])).loki()
    with pytest.raises(SourceError, match="the answer is no matrix of Loki"):
        loki.counts(HOUR)
