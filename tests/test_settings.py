"""Settings: weakest first, every key of the contract, mistakes named with their place, secrets shown nowhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UsageError
from pipeline.settings import GitHub, Loki, Secret, Server, Settings, load, parse_duration, user_info, without_user_info

FILE = "aislot.toml"
CONTRACT = """
[loki]
url = "http://loki:3100"
selectors = ['{namespace="codex-k8s-prod"}']
tenant = ""
username = ""
password = ""
password_file = ""
bearer_token = ""
bearer_token_file = ""
ca_file = ""
client_cert_file = ""
headers = {}
workers = 4
settle = "15m"
[loki.labels]
namespace = "namespace"
app = "app"
pod = "pod"
container = "container"
job_name = "job_name"
[prometheus]
url = "http://prometheus:9090"
username = ""
password = ""
password_file = ""
bearer_token = ""
bearer_token_file = ""
ca_file = ""
client_cert_file = ""
headers = {}
[kubernetes]
namespaces = ["codex-k8s-prod"]
dump = ""
live = false
context = ""
[github]
repository = "owner/name"
api_url = "https://api.github.com"
token_file = ""
login = ""
[lake]
uri = "lake"
endpoint = ""
region = ""
[redaction]
key_file = ""
[incident]
quiet = "30m"
watch = "24h"
[alerts]
tolerance = "5m"
[verdict]
max_gap = "0s"
[report]
out = "out"
lang = "en"
[engine]
kind = "local"
address = ""
[catalogue]
files = []
[[maintenance]]
start = "2026-02-26T09:00:00Z"
end = "2026-02-26T10:00:00Z"
who = "sre"
why = "upgrade"
[[outage]]
start = "2026-02-26T09:00:00Z"
end = "2026-02-26T10:00:00Z"
who = "sre"
why = "the registry was away"
confirmed_by = "the registry's status page"
"""


def refused(
    text: str = "", environment: Mapping[str, str] | None = None, flags: Mapping[str, Any] | None = None
) -> str:
    """Return what a user is told, in one text."""
    with pytest.raises(UsageError) as told:
        load(text, FILE, environment or {}, flags)
    assert told.value.exit_code == 2
    return f"{told.value.what} | {told.value.fix}"


def test_without_anything_the_defaults_are_those_of_the_install() -> None:
    settings = load(None, FILE, {})
    assert settings == Settings()
    assert {where for _, _, where in settings.flat()} == {"default"}


def test_the_contracts_block_is_accepted_and_names_the_defaults() -> None:
    settings = load(CONTRACT, FILE, {})
    named = {"loki.url", "prometheus.url", "github.repository", "maintenance", "outage"}
    default = {k: v for k, v, _ in Settings().flat()}
    assert {k for k, v, _ in settings.flat() if v != default[k]} == named
    assert settings.outage[0].confirmed_by == "the registry's status page"


def test_the_stronger_layer_wins_and_is_named() -> None:
    text = '[lake]\nuri = "file"\n[report]\nout = "file"\nlang = "file"\n'
    environment = {"AISLOT_REPORT__OUT": "env", "AISLOT_LAKE__URI": "env"}
    settings = load(text, FILE, environment, {"lake.uri": "flag", "report.lang": None})
    assert (settings.lake.uri, settings.report.out, settings.report.lang) == ("flag", "env", "file")
    where = {k: w for k, _, w in settings.flat()}
    assert [where[k] for k in ("lake.uri", "report.out", "report.lang", "engine.kind")] == [
        "flag",
        "AISLOT_REPORT__OUT",
        FILE,
        "default",
    ]


def test_a_section_may_be_set_in_parts_by_several_layers() -> None:
    settings = load('[loki.labels]\napp = "a"\n', FILE, {"AISLOT_LOKI__LABELS__POD": "p", "AISLOT_LOKI__TENANT": "t"})
    assert (settings.loki.labels.app, settings.loki.labels.pod, settings.loki.labels.container) == (
        "a",
        "p",
        "container",
    )
    assert settings.loki.tenant == "t"


@pytest.mark.parametrize("name", ["AISLOT_LAKE", "AISLOT_", "AISLOT", "XAISLOT_LAKE__URI", "aislot_lake__uri", "HOME"])
def test_variables_that_are_not_ours_are_left_alone(name: str) -> None:
    assert load(None, FILE, {name: "x"}) == Settings()


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("a", ("a",)),
        ("a, b,,", ("a", "b")),
        ('["a", "b,c"]', ("a", "b,c")),
        ("", ()),
        ('{app="x",pod="y"}, {app="z"}', ('{app="x",pod="y"}', '{app="z"}')),
        ("codex-[a-z]{1,3},b", ("codex-[a-z]{1,3}", "b")),
    ],
)
def test_lists_in_the_environment_are_commas_or_json(written: str, read: tuple[str, ...]) -> None:
    assert load(None, FILE, {"AISLOT_CATALOGUE__FILES": written}).catalogue.files == read


@pytest.mark.parametrize(
    ("written", "read"), [("true", True), ("1", True), ("YES", True), ("false", False), ("0", False), ("", False)]
)
def test_booleans_in_the_environment(written: str, *, read: bool) -> None:
    assert load(None, FILE, {"AISLOT_KUBERNETES__LIVE": written}).kubernetes.live is read


def test_numbers_durations_and_mappings_in_the_environment() -> None:
    environment = {"AISLOT_LOKI__WORKERS": "8", "AISLOT_LOKI__SETTLE": "1h30m", "AISLOT_LOKI__HEADERS": '{"X-A": "b"}'}
    loki = load(None, FILE, environment).loki
    assert (loki.workers, loki.settle, loki.headers) == (8, 5400.0, {"X-A": "b"})


@pytest.mark.parametrize("written", ["90s", "30m", "1h30m", "7d"])
def test_durations_are_those_of_the_contract(written: str) -> None:
    assert load(f'[incident]\nquiet = "{written}"', FILE, {}).incident.quiet == parse_duration(written)


def test_the_token_of_github_is_taken_unless_ours_is_given() -> None:
    text = '[github]\ntoken = "of-the-file"'
    assert load(text, FILE, {"GITHUB_TOKEN": "theirs"}).github.token == "theirs"
    assert load(text, FILE, {"GITHUB_TOKEN": "theirs", "AISLOT_GITHUB__TOKEN": "ours"}).github.token == "ours"
    assert load(text, FILE, {"GITHUB_TOKEN": ""}).github.token == "of-the-file"


@pytest.mark.parametrize(
    ("text", "environment", "said"),
    [
        ("[lok]\nurl = 1", {}, "unknown section lok (from aislot.toml) | did you mean loki?"),
        ("lake_uri = 1", {}, "unknown section lake_uri (from aislot.toml) | did you mean lake?"),
        ("[loki]\nselector = 1", {}, "unknown setting loki.selector (from aislot.toml) | did you mean loki.selectors?"),
        (
            "[loki.labels]\njob = 1",
            {},
            "setting loki.labels.job (from aislot.toml) | did you mean loki.labels.job_name?",
        ),
        ("", {"AISLOT_LOKI__URI": "x"}, "setting loki.uri (from AISLOT_LOKI__URI) | did you mean loki.url?"),
        ("", {"AISLOT_LAKES__URI": "x"}, "section lakes (from AISLOT_LAKES__URI) | did you mean lake?"),
        ("[[outage]]\nbegin = 1", {}, "unknown setting outage.begin (from aislot.toml)"),
        ("[origins]\nx = 1", {}, "unknown section origins (from aislot.toml)"),
    ],
)
def test_an_unknown_name_is_told_with_its_place_and_the_nearest(
    text: str, environment: dict[str, str], said: str
) -> None:
    assert said in refused(text, environment)


def test_an_unknown_flag_is_told_too() -> None:
    assert "unknown setting lake.url (from flag) | did you mean lake.uri?" in refused(flags={"lake.url": "x"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[loki]\nurl = 3100", "loki.url (from aislot.toml): must be text in quotes, not a number"),
        ("[loki]\nworkers = 0", "loki.workers (from aislot.toml): must be a whole number of at least 1, not 0"),
        ("[loki]\nworkers = 1.5", "must be a whole number of at least 1, not 1.5"),
        ("[loki]\nworkers = true", "must be a whole number of at least 1, not True"),
        ("[loki]\nselectors = 3", "loki.selectors (from aislot.toml): must be a list, not a number"),
        ("[loki]\nselectors = [3]", "must be text in quotes, not a number"),
        ("[loki]\nselectors = []", "loki (from aislot.toml): selectors must name at least one stream"),
        ("[kubernetes]\nnamespaces = []", "kubernetes (from aislot.toml): namespaces must name at least one"),
        ("[loki]\ntimeout = '0s'", "loki (from aislot.toml): timeout must be longer than nothing"),
        ("[loki]\nsettle = 900", "loki.settle (from aislot.toml): must be text in quotes"),
        ("[loki]\nsettle = 'soon'", "'soon' is not a duration: write 90s, 30m, 1h30m or 7d"),
        ("[loki]\nheaders = ['a']", "must be a section or a JSON object, not a list"),
        ("[kubernetes]\nlive = 'maybe'", "kubernetes.live (from aislot.toml): must be true or false, not 'maybe'"),
        ("loki = 'http://loki'", "loki (from aislot.toml): must be a section, not text"),
        ("[lake.uri]\nx = 'y'", "lake.uri (from aislot.toml): must be text in quotes, not a section"),
        ("maintenance = 'x'", "maintenance (from aislot.toml): must be written as [[maintenance]]"),
    ],
)
def test_a_value_of_the_wrong_type_is_told_with_its_place(text: str, said: str) -> None:
    assert said in refused(text)


@pytest.mark.parametrize(
    ("variable", "value"),
    [("LOKI__WORKERS", "many"), ("LOKI__HEADERS", "{"), ("CATALOGUE__FILES", "[a"), ("LOKI__SETTLE", "1")],
)
def test_a_bad_value_in_the_environment_names_its_variable(variable: str, value: str) -> None:
    assert f"(from AISLOT_{variable}): " in refused(environment={f"AISLOT_{variable}": value})


def test_a_syntax_error_names_file_and_line() -> None:
    said = refused('[loki]\nurl = "http://loki:3100"\nworkers = = 4\n')
    assert "aislot.toml is not TOML" in said
    assert "line 3" in said


_SAID = 'who = "sre"\nwhy = "release"\n'
_EXCLUSION = '[[{}]]\nstart = "2026-02-26T09:00:00Z"\nend = "2026-02-26T10:00:00Z"\n'


@pytest.mark.parametrize("section", ["maintenance", "outage"])
@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('start = "2026-02-26T09:00Z"\nend = "2026-02-26T08:00Z"', "it must end after it starts"),
        ('start = "2026-02-26T09:00Z"\nend = "2026-02-26T09:00Z"', "it must end after it starts"),
        ('start = "yesterday"\nend = "2026-02-26T09:00Z"', "'yesterday' is no instant: write 2026-02-26T09:00:00Z"),
        ('start = "2026-02-26T09:00Z"\nend = ""', "'' is no instant"),
        ("start = 09:00:00\nend = 10:00:00", "'09:00:00' is no instant"),
        ('start = "2026-02-26T09:00Z"', "end is missing"),
        ("", "start is missing"),
        ("start = 1\nend = 2", "must be text in quotes"),
    ],
)
def test_a_window_left_out_is_checked_when_it_is_read(section: str, lines: str, said: str) -> None:
    told = refused(f"{_EXCLUSION.format(section)}{_SAID}[[{section}]]\n{_SAID}{lines}\n")
    assert f"{section}" in told
    assert "(from aislot.toml)" in told
    assert said in told
    assert "number 2" in told or f"{section}.start" in told


@pytest.mark.parametrize("section", ["maintenance", "outage"])
@pytest.mark.parametrize(
    ("lines", "said"),
    [("", "who is missing"), ('who = "sre"', "why is missing"), ('who = "sre"\nwhy = " "', "why is missing")],
)
def test_nothing_is_left_out_without_somebody_and_a_reason(section: str, lines: str, said: str) -> None:
    assert f"{section} (from aislot.toml): number 1: {said}" in refused(f"{_EXCLUSION.format(section)}{lines}\n")


def test_instants_of_toml_are_instants() -> None:
    text = "[[outage]]\nstart = 2026-02-26T12:00:00+03:00\nend = 2026-02-27\n" + _SAID
    outage = load(text, FILE, {}).outage[0]
    assert (outage.start, outage.end) == ("2026-02-26T12:00:00+03:00", "2026-02-27")


SECRET = "hunter2-hunter2"
_SECRETS = {
    "AISLOT_LOKI__PASSWORD": SECRET,
    "AISLOT_LOKI__BEARER_TOKEN": SECRET,
    "AISLOT_LOKI__HEADERS": f'{{"Authorization": "{SECRET}"}}',
    "AISLOT_LOKI__URL": f"https://me:{SECRET}@loki/x",
    "AISLOT_PROMETHEUS__URL": f"http://me:{SECRET}@prometheus:9090",
    "AISLOT_ALERTMANAGER__URL": f"http://me:{SECRET}@alertmanager:9093",
    "AISLOT_GITHUB__TOKEN": SECRET,
    "AISLOT_GITHUB__API_URL": f"https://{SECRET}@ghe/api/v3",
    "AISLOT_REDACTION__KEY": SECRET,
    "AISLOT_LAKE__URI": f"s3://me:{SECRET}@bucket/lake",
    "AISLOT_LAKE__ENDPOINT": f"https://me:{SECRET}@minio:9000",
    "AISLOT_REPORT__DOCS_URL": f"https://me:{SECRET}@docs",
}


@pytest.mark.parametrize("name", _SECRETS)
def test_a_secret_is_in_no_repr_no_text_and_no_listing(name: str) -> None:
    settings = load(None, FILE, {name: _SECRETS[name]})
    assert SECRET not in repr(settings)
    assert SECRET not in str(settings)
    assert SECRET not in repr(settings.flat())
    assert settings != Settings()


@pytest.mark.parametrize(
    "text",
    [
        "[loki]\npassword = 1234567",
        "[github]\ntoken = [1234567]",
        "[github.token]\nx = 1234567",
        "github = '1234567'",
        "[loki]\nheaders = '1234567'",
        "[loki]\nheaders = {Authorization = 1234567}",
        "[redaction]\nkey = 1234567",
        "[loki]\nurl = 'http://me:12/34567@loki'",
        "[loki]\nurl = 'http://me:1234567@[loki'",
    ],
)
def test_a_mistake_in_a_secret_does_not_show_it(text: str) -> None:
    assert "34567" not in refused(text)


def test_a_secret_that_is_set_is_shown_as_set() -> None:
    flat = {k: v for k, v, _ in load(None, FILE, {"AISLOT_LOKI__PASSWORD": "x"}).flat()}
    assert (flat["loki.password"], flat["loki.bearer_token"]) == ("***", "")
    assert (repr(Secret("x")), repr(Secret(""))) == ("'***'", "''")


def test_user_info_of_an_address_is_taken_as_credentials() -> None:
    loki = load(None, FILE, {"AISLOT_LOKI__URL": "https://me:p%40ss@loki:3100/x?y=1"}).loki
    assert (loki.url, loki.username, loki.password) == ("https://loki:3100/x?y=1", "me", "p@ss")


@pytest.mark.parametrize(
    ("explicit", "credentials"),
    [
        ({}, ("me", "theirs", "")),
        ({"password": "mine"}, ("me", "mine", "")),
        ({"password_file": "f"}, ("me", "", "f")),
        ({"username": "other"}, ("other", "", "")),
        ({"username": "other", "password": "mine"}, ("other", "mine", "")),
    ],
)
def test_explicit_credentials_win_over_those_of_the_address(
    explicit: dict[str, str], credentials: tuple[str, str, str]
) -> None:
    environment = {f"AISLOT_LOKI__{k.upper()}": v for k, v in explicit.items()}
    loki = load('[loki]\nurl = "http://me:theirs@loki"', FILE, environment).loki
    assert (loki.username, loki.password, loki.password_file) == credentials
    assert loki.url == "http://loki"


@pytest.mark.parametrize("url", ["https://me:token@ghe/api/v3", "https://token@ghe/api/v3"])
def test_user_info_of_githubs_address_is_taken_as_token(url: str) -> None:
    github = load(f'[github]\napi_url = "{url}"', FILE, {}).github
    assert (github.api_url, github.token) == ("https://ghe/api/v3", "token")
    assert load(f'[github]\napi_url = "{url}"', FILE, {"GITHUB_TOKEN": "given"}).github.token == "given"


def test_sections_made_by_hand_keep_the_same_rules() -> None:
    made = dataclasses.replace(Server(), url="http://me:pw@host")  # type: ignore[arg-type]
    assert (made.url, made.username, made.password) == ("http://host", "me", "pw")
    with pytest.raises(ValueError, match="selectors"):
        Loki(selectors=())
    with pytest.raises(ValueError, match="selectors choose streams"):
        Loki(events='{job="events"} |= "Job"')
    assert GitHub().token == ""


_TEXT = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=9)


@given(_TEXT, _TEXT)
def test_user_info_comes_apart_from_its_address(user: str, password: str) -> None:
    url = f"https://{user}:{password}@host:1/path?q=a@b"
    assert without_user_info(url) == "https://host:1/path?q=a@b"
    assert user_info(url) == (user, password)
    assert user_info(without_user_info(url)) is None


_NAMED = st.dictionaries(st.sampled_from(["LAKE__URI", "REPORT__OUT"]), st.text().filter(str.strip))
_FREE = st.dictionaries(st.sampled_from(["LOKI__TENANT", "ENGINE__ADDRESS"]), st.text())


@given(st.builds(lambda a, b: a | b, _NAMED, _FREE))
def test_any_text_of_the_environment_is_taken_as_it_is(given: dict[str, str]) -> None:
    settings = load(None, FILE, {f"AISLOT_{k}": v for k, v in given.items()})
    for key, value in given.items():
        section, name = key.lower().split("__")
        assert getattr(getattr(settings, section), name) == value
