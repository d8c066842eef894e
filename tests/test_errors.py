"""Exit codes as the contract orders them, and errors that travel whole."""

from __future__ import annotations

import itertools
import pickle

import pytest

from pipeline import errors
from pipeline.errors import (
    AislotError,
    LakeError,
    RefusedError,
    SourceError,
    StoppedError,
    TooLarge,
    Transient,
    UsageError,
    worst,
)

ORDER = (1, 2, 5, 3, 6, 10, 4, 0)  # the contract's
CODES = {
    UsageError: 2,
    SourceError: 3,
    Transient: 3,
    TooLarge: 3,
    RefusedError: 6,
    LakeError: 5,
    StoppedError: 4,
    AislotError: 1,
}


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(ORDER, 2)))
def test_of_two_codes_the_contracts_first_wins(first: int, second: int) -> None:
    assert worst(first, second) == worst(second, first) == first


@pytest.mark.parametrize("signal", [130, 143])
@pytest.mark.parametrize("code", ORDER)
def test_a_signal_of_the_user_wins_over_all(signal: int, code: int) -> None:
    assert worst(code, signal) == worst(signal, code) == signal


def test_nothing_to_say_is_done() -> None:
    assert worst() == 0
    assert worst(0, 0) == 0
    assert worst(*ORDER) == 1


@pytest.mark.parametrize(("kind", "code"), list(CODES.items()))
def test_each_error_has_its_exit_code_and_stands_in_the_tree(kind: type[AislotError], code: int) -> None:
    assert kind("x").exit_code == code
    assert kind.__name__ in (errors.__doc__ or "")


def test_an_error_says_what_happened_what_to_do_and_what_is_kept() -> None:
    error = LakeError("what", "fix", "kept")
    assert (str(error), error.what, error.fix, error.kept) == ("what", "what", "fix", "kept")
    assert (UsageError("what").fix, UsageError("what").kept) == ("", "")


@pytest.mark.parametrize(
    "error",
    [LakeError("what", "fix", "kept"), Transient("what", retry_after_s=2.5), TooLarge("what", "fix", limit=5000)],
    ids=lambda e: type(e).__name__,
)
def test_an_error_comes_whole_from_another_process(error: AislotError) -> None:
    came = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(came) is type(error)
    assert vars(came) == vars(error)
    assert str(came) == str(error)
