"""Redaction: every secret of the corpus goes, every look-alike stays, and no text takes long."""

from __future__ import annotations

import json
import pickle
import re
import time

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import catalog
from pipeline.redact import Redactor
from pipeline.rules import RedactionRule
from tests import corpus

RULES = catalog.load().redaction
REDACTOR = Redactor(RULES, b"one key")
SECRETS, LOOKALIKES = corpus.secrets(), corpus.lookalikes()
TOKENS = corpus.tokens()
PLACEHOLDER = re.compile(r"\[REDACTED:[a-z0-9-]+:[0-9a-f]{4}\]")
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def _redacted(text: str) -> str:
    return REDACTOR.text(text)[0]


def _left(secret: corpus.Secret) -> list[str]:
    """Return the pieces of a secret that are still there."""
    clean = PLACEHOLDER.sub(" ", _redacted(secret.text))
    return [piece for piece in [secret.secret, *re.findall(r"[A-Za-z0-9+]{6,}", secret.secret)] if piece in clean]


def test_recall_and_precision_on_the_corpus_are_one() -> None:
    assert len(SECRETS) >= 150
    assert len({s.kind for s in SECRETS}) >= 30
    assert len(LOOKALIKES) >= 150
    missed = [s for s in SECRETS if _left(s)]
    wrong = [t for t in LOOKALIKES if _redacted(t) != t]
    hits = len(SECRETS) - len(missed)
    recall, precision = hits / len(SECRETS), hits / (hits + len(wrong))
    kinds = len({s.kind for s in SECRETS})
    print(f"{len(SECRETS)} secrets of {kinds} kinds, {len(LOOKALIKES)} look-alikes: {recall=:.4f} {precision=:.4f}")  # noqa: T201
    assert (recall, precision) == (1.0, 1.0), (missed, wrong)


@pytest.mark.parametrize("secret", SECRETS, ids=lambda s: s.kind)
def test_a_secret_is_there_before_and_gone_after(secret: corpus.Secret) -> None:
    assert secret.secret in secret.text
    assert _left(secret) == []
    assert REDACTOR.text(secret.text)[1].total() >= 1


@pytest.mark.parametrize("secret", SECRETS, ids=lambda s: s.kind)
def test_redacting_twice_changes_nothing(secret: corpus.Secret) -> None:
    once = _redacted(secret.text)
    assert REDACTOR.text(once) == (once, {})


@pytest.mark.parametrize("secret", SECRETS, ids=lambda s: s.kind)
def test_the_prefilter_finds_whatever_a_rule_finds(secret: corpus.Secret) -> None:
    plain = REDACTOR.unescaped(secret.text)
    for rule in RULES:
        if re.search(rule.pattern, plain, re.ASCII):
            assert re.search(rule.hint, plain, re.ASCII), rule.id
            assert Redactor([rule], b"").candidates(pa.array([plain])) == [0], rule.id


@pytest.mark.parametrize("secret", [s for s in SECRETS if s.text[0] == "{"], ids=lambda s: s.kind)
def test_json_stays_json_with_the_same_keys(secret: corpus.Secret) -> None:
    assert json.loads(_redacted(secret.text)).keys() == json.loads(secret.text).keys()


@pytest.mark.parametrize("text", LOOKALIKES)
def test_a_lookalike_stays_byte_for_byte_in_a_json_string_too(text: str) -> None:
    if '"' not in text:
        line = json.dumps({"level": "INFO", "msg": text, "run_id": "r"})
        assert _redacted(line) == line
    assert REDACTOR.text(text) == (text, {})


@pytest.mark.parametrize("text", [s.text for s in SECRETS[::3]])
def test_the_text_around_a_secret_is_kept(text: str) -> None:
    assert _redacted(f"before it\n{text}\nafter it").startswith("before it\n")
    assert _redacted(f"before it\n{text}\nafter it").endswith("\nafter it")


def test_a_placeholder_tells_the_rule_and_four_digits_of_an_hmac() -> None:
    token = TOKENS["github ghp"]
    assert re.fullmatch(r"a \[REDACTED:github-token:[0-9a-f]{4}\] b", _redacted(f"a {token} b"))


def test_equal_secrets_have_equal_placeholders_under_one_key_and_others_under_another() -> None:
    token, other = TOKENS["github ghp"], TOKENS["github gho"]
    assert _redacted(f"x {token}") == _redacted(f"x {token}")
    assert _redacted(f"GIT_TOKEN={token}").endswith(_redacted(token))
    assert _redacted(token) != _redacted(other)
    marks = {Redactor(RULES, key).text(token)[0] for key in (b"", b"a", b"b", b"c", b"d")}
    assert len(marks) == 5


def test_what_is_found_is_counted_by_rule() -> None:
    ours = TOKENS["github ghp"]
    assert REDACTOR.text(f"{ours} {ours} PASSWORD={TOKENS['npm']}0x")[1] == {"github-token": 2, "package-token": 1}


def test_many_texts_come_out_as_each_would_and_nulls_stay() -> None:
    texts = [None, "", *LOOKALIKES, *(s.text for s in SECRETS), None]
    clean, found = REDACTOR.many(texts)
    each = [None if t is None else REDACTOR.text(t) for t in texts]
    assert clean == [None if e is None else e[0] for e in each]
    assert found.total() == sum(e[1].total() for e in each if e)
    assert REDACTOR.many([]) == ([], {})


def test_a_redactor_travels_to_other_processes() -> None:
    text = SECRETS[0].text
    assert pickle.loads(pickle.dumps(REDACTOR)).text(text) == REDACTOR.text(text)  # noqa: S301


def test_a_secret_inside_a_forged_placeholder_is_found() -> None:
    token = TOKENS["npm"]
    assert token not in _redacted(f"[REDACTED:{token}:0000]")
    lower = "glpat" + "-" + "a1" * 10
    assert lower not in _redacted(f"[REDACTED:{lower}:0000]")


def test_a_users_rule_without_the_group_or_with_an_empty_match_does_no_harm() -> None:
    rules = [
        RedactionRule("Own_Rule", "(?:x(?P<secret>yy)?z)|q*", "x|q|z|"),
        RedactionRule("whole", "w{3}", "w"),
    ]
    own = Redactor(rules, b"k")
    once, found = own.text("axz bxyyz www")
    assert re.fullmatch(r"a\[REDACTED:Own_Rule:\w{4}\] bx\[REDACTED:Own_Rule:\w{4}\]z \[REDACTED:whole:\w{4}\]", once)
    assert found == {"Own_Rule": 2, "whole": 1}
    assert own.text(once)[0] == once


@pytest.mark.parametrize("kind", TOKENS)
@pytest.mark.parametrize(
    "hide",
    [
        lambda t: f"\\u{ord(t[0]):04x}{t[1:]}",
        lambda t: t[:3] + f"\\u{ord(t[3]):04X}" + t[4:],
        lambda t: "".join(f"\\u{ord(c):04x}" for c in t),
        lambda t: t.replace("/", "\\/"),
        lambda t: f"\\\\u{ord(t[0]):04x}{t[1:]}",
        lambda t: f"x\\t{t}\\n",
        lambda t: f"x\\r\\n{t}",
    ],
    ids=["first", "fourth", "all", "slash", "json in json", "tab", "line"],
)
def test_jsons_escapes_hide_no_token(kind: str, hide: object) -> None:
    assert callable(hide)
    line = f'{{"note":"{hide(TOKENS[kind])}","n":1}}'
    clean, found = REDACTOR.text(line)
    assert found.total() == 1
    assert re.fullmatch(r"(?:x\s+)?\[REDACTED:[a-z-]+:[0-9a-f]{4}\]\s*", json.loads(clean)["note"])
    assert REDACTOR.many([line])[0] == [clean]


@pytest.mark.parametrize(
    ("escaped", "plain"),
    [
        (r"\u0067\u0068\u0070", "ghp"),
        (r"https:\/\/a", "https://a"),
        (r"\u0022 \u005c \\u0022", r"\" \\ \""),
        (r"a\u000ab\u000dc\u0000d\te", r"a\nb\nc d e"),
        (r"C:\\temp \\\\x \u00e9 \ud83d\ude00 \n \u12", r"C:\\temp \\\\x \u00e9 \ud83d\ude00 \n \u12"),
    ],
)
def test_escapes_are_written_out_so_that_json_stays_json(escaped: str, plain: str) -> None:
    assert REDACTOR.unescaped(escaped) == plain
    json.loads(f'"{plain}"' if "\\u12" not in plain else '""')


def test_escapes_of_a_line_without_a_secret_stay_as_they_are() -> None:
    line = r'{"msg":"a \u003c b \/ c \u0026 \t d","k":"\u0022"}'
    assert REDACTOR.text(line) == (line, {})
    assert REDACTOR.many([line]) == ([line], {})


# Keys that spread over texts

KEY = corpus.pem(3)


def _across(texts: list[str]) -> list[str]:
    out = list(texts)
    for i, (rule, text) in REDACTOR.across(texts).items():
        assert rule == "private-key"
        out[i] = text
    return out


def test_a_key_over_several_texts_is_redacted_between_its_ends() -> None:
    before, after = "INFO[0003] Taking snapshot", "HEAD is now at 4f2a9c1"
    got = _across([before, *KEY, after])
    assert [got[0], got[1], got[-2], got[-1]] == [before, KEY[0], KEY[-1], after]
    assert all(PLACEHOLDER.fullmatch(t) for t in got[2:-2])


def test_what_another_writer_says_among_a_keys_lines_stays() -> None:
    words = ["fatal: not a git repository", "", "INFO[0004] RUN make all", "sha256: unknown to us"]
    mixed = [KEY[0], words[0], KEY[1], words[1], words[2], *KEY[2:5], words[3], *KEY[5:]]
    got = _across(mixed)
    assert [t for t in got if not PLACEHOLDER.search(t)] == [KEY[0], *words, KEY[-1]]


@pytest.mark.parametrize("prefix", ["INFO[0003] ", "  ", "2026-02-26T10:00:00Z stdout F ", '{"k":"'])
def test_a_keys_lines_may_have_a_prefix(prefix: str) -> None:
    got = _across([prefix + t for t in KEY])
    assert not any(line in t for t in got for line in KEY[1:-1])
    assert all(t.strip().startswith(prefix.strip()) for t in got)


def test_a_key_whose_beginning_was_not_read_is_redacted_from_its_end_backwards() -> None:
    got = _across(["Cloning into 'x' now", *KEY[4:], "done with it"])
    assert [t for t in got if not PLACEHOLDER.search(t)] == ["Cloning into 'x' now", KEY[-1], "done with it"]


def test_a_key_that_never_ends_does_not_take_the_rest_of_the_stream() -> None:
    said = [f"step {i} of the image was built" for i in range(40)]
    assert _across(["want " + KEY[0], *said]) == ["want " + KEY[0], *said]
    late = "A" * 64
    assert _across([KEY[0], *said, late])[-1] == late


def test_two_keys_and_headers_are_redacted_one_after_the_other() -> None:
    other = corpus.pem(4, "EC ")
    texts = [KEY[0], "Proc-Type: 4,ENCRYPTED", "DEK-Info: AES-256-CBC,00A1", "", *KEY[1:], "between them", *other]
    got = _across(texts)
    assert [t for t in got if not PLACEHOLDER.search(t)] == [KEY[0], "", KEY[-1], "between them", other[0], other[-1]]


def test_the_end_of_one_key_and_the_beginning_of_the_next_may_share_a_text() -> None:
    other = corpus.pem(4, "EC ")
    got = _across([*KEY[:-1], KEY[-1] + "\n" + other[0], *other[1:]])
    assert not any(line in t for t in got for line in [*KEY[1:-1], *other[1:-1]])


# Whatever text there is

SHAPED = st.one_of(
    st.sampled_from([s.text for s in SECRETS]),
    st.sampled_from(list(TOKENS.values())),
    st.sampled_from(LOOKALIKES),
    st.sampled_from(
        ["token=", "password: ", '"', "'", "\\", "=", ":", " ", "\n", "://", "@", "{", "}", ",", "\\n", "\\u00"]
    ),
    st.text(max_size=8),
)


@quick
@given(st.lists(SHAPED, max_size=6).map("".join))
def test_redacting_any_text_twice_changes_nothing(text: str) -> None:
    once = _redacted(text)
    assert _redacted(once) == once


@quick
@given(st.sampled_from(list(TOKENS.values())), st.text(max_size=20), st.text(max_size=20))
def test_a_token_between_any_words_is_found(token: str, before: str, after: str) -> None:
    assert token not in _redacted(f"{before} {token} {after}")


@quick
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=200))
def test_random_text_holds_no_secret(text: str) -> None:
    if not re.search(r"[=:@]", text):
        assert REDACTOR.text(text) == (text, {})


@pytest.mark.parametrize("rule", [r for r in RULES if not re.search(r"\(\?[x(]|\(\?<!", r.pattern)], ids=lambda r: r.id)
def test_a_hint_is_found_in_anything_its_pattern_matches(rule: RedactionRule) -> None:
    narrow = re.sub(r"\{(\d+),\d{2,}\}", r"{\1,}", rule.pattern)  # long repeats would be most of what is drawn

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.from_regex(re.compile(narrow, re.ASCII)))
    def holds(text: str) -> None:
        text = text.encode("utf-8", "replace").decode()
        if re.search(rule.pattern, text, re.ASCII):
            assert Redactor([rule], b"").candidates(pa.array([text])) == [0]
            assert re.search(rule.hint, text, re.ASCII)

    holds()


def test_texts_of_one_instant_are_redacted_in_whatever_order_they_came() -> None:
    for order in (KEY, KEY[::-1], [*KEY[2:], *KEY[:2]], [*KEY[1:-1], KEY[-1], KEY[0]]):
        texts = ["it begins", *order, "step done"]
        out = REDACTOR.across(texts, {}, [7] * len(texts))
        shown = [out.get(i, ("", text))[1] for i, text in enumerate(texts)]
        assert not any(body in text for body in KEY[1:-1] for text in shown)
        assert (shown[0], shown[-1]) == ("it begins", "step done")


def test_what_lies_beside_a_whole_key_at_its_instant_stays() -> None:
    texts = ["\n".join(KEY), "a" * 40]
    assert REDACTOR.across(texts, {}, [7, 7]) == {}


# No text takes long

MB = 1_000_000
REPEATED = [
    *("a", "0", '"', "'", " ", "\\", '\\"', "/", "\\/", "=", "-", "--", "@", "{", "\n", "a.", "a-", "A="),
    *("token=", 'token="', "token='", '"token":"', "password ", "token: a", "cookie:a=", "bearer a", "authorization: "),
    *("eyJ", "eyJaaaaaaaa-", "eyJaaaaaaaa.", "://", "://a:", "https://a:b", "a:b@", "login ", "curl ", "curl -u a"),
    *("machine a login ", "--a-", "sk-", "SG.aaaaaaaaaaaaaaaa.", "x.atlasv1.", "0Q~", "1:AA", "\\u0061", "\\t"),
    *("-----BEGIN ", "-----BEGIN PRIVATE" + " KEY-----\n", "[REDACTED:jwt:"),
]


@pytest.mark.parametrize("unit", REPEATED, ids=repr)
def test_a_hostile_megabyte_takes_no_time(unit: str) -> None:
    text = (unit * (MB // len(unit) + 1))[:MB]
    began = time.process_time()
    REDACTOR.many([text])
    REDACTOR.across([text, text])
    took = time.process_time() - began
    print(f"{unit!r}: {took:.2f} s")  # noqa: T201
    assert took < 20
