"""The last look at a text that is about to leave: every secret is found, wherever Markdown would hide it; nothing else is."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from pipeline import catalog
from pipeline.redact import Redactor
from pipeline.report.text import ESCAPED, harmless, md_code, md_text, visible
from tests import corpus

REDACTOR = Redactor(catalog.load().redaction, b"one key")
SECRETS, LOOKALIKES = corpus.secrets(), corpus.lookalikes()
FORMS: dict[str, Callable[[str], str]] = {
    "as it is": harmless,
    "in a row of code": lambda t: f"| {md_code(t)} |" if len(t) < 250 and "\n" not in t else harmless(t),
    "in words": lambda text: md_text(text) if "\n" not in text else harmless(text),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_secret_of_the_corpus_is_found_in_every_form(form: str) -> None:
    texts = {s.kind + str(n): FORMS[form](s.text) for n, s in enumerate(SECRETS)}
    assert [k for k, text in texts.items() if REDACTOR.first(text, ESCAPED) is None] == []


@pytest.mark.parametrize("form", FORMS)
def test_nothing_else_is(form: str) -> None:
    found = {t: REDACTOR.first(FORMS[form](t), ESCAPED) for t in LOOKALIKES}
    assert {t: f for t, f in found.items() if f} == {}


@pytest.mark.parametrize("form", FORMS)
def test_what_was_redacted_is_not_found_again(form: str) -> None:
    clean = {s.kind: FORMS[form](REDACTOR.text(s.text)[0]) for s in SECRETS}
    assert {k: f for k, t in clean.items() if (f := REDACTOR.first(t, ESCAPED))} == {}


def test_a_placeholder_that_a_shortened_line_cuts_is_none() -> None:
    token = next(s for s in SECRETS if "[REDACTED:" in REDACTOR.text(s.text)[0] and "\n" not in s.text)
    clean = "password=" + REDACTOR.text(f"password={token.secret}")[0].partition("=")[2]
    start = clean.index("[REDACTED:")
    for end in range(start + 1, clean.index("]") + 1):
        line = visible("x" * (299 - end) + " " + clean + " " * 100)
        assert line.endswith("…")
        assert REDACTOR.first(line, ESCAPED) is None, line


def test_a_made_up_placeholder_hides_nothing() -> None:
    secret = "gh" + "p_" + "EXAMPLE" + "a1B2" * 7 + "x"
    for text in (f"[REDACTED:{secret}:0000]", f"[REDACTED:github-token:{secret}…", f"{secret}[…"):
        assert REDACTOR.first(text, ESCAPED) is not None


@pytest.mark.parametrize("before", ["", "é ", "\\_\\_ a \\| ", "\\\\u0041 ", "line\nline\n"])
def test_its_place_is_that_in_the_text_as_it_leaves(before: str) -> None:
    secret = "gh" + "p_" + "EXAMPLE" + "a1B2" * 7 + "x"
    for shown in (secret, secret.replace("_", "\\_")):
        text = f"{before}{shown} after"
        assert REDACTOR.first(text, ESCAPED) == ("github-token", text.index(shown))


def test_a_key_over_several_lines_is_found() -> None:
    words = "PRIVATE" + " KEY"
    body = "\n".join("EXAMPLE" + "a1B2" * 14 for _ in range(3))
    found = REDACTOR.first(f"x\n-----BEGIN {words}-----\n{body}\n-----END {words}-----\n", ESCAPED)
    assert found is not None
    assert re.search("key|pem", found[0])
