"""The HTTP door: what is asked again and what is not, for how long, and that credentials stay where they belong."""

from __future__ import annotations

import base64
import gzip
import pickle
import ssl
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import SourceError, StoppedError, TooLarge, Transient
from pipeline.sources.http import Door, Endpoint, Policy, Reply, TooSlow
from tests.faults import HANGS_UP, RESETS, STALLS, Asked, Say, Sleeps, serving

GOOD = Say({"fine": True})
PASSWORD = "p4ss-wörd-of-длинный"
TOKEN = "tok-0123456789abcdef"


def door(url: str, policy: Policy | None = None, name: str = "loki", **endpoint: Any) -> tuple[Door, Sleeps]:
    sleeps = Sleeps()
    return Door(name, Endpoint(url, **endpoint), policy or Policy(timeout_s=5.0), sleeps), sleeps


def read(reply: Reply) -> Any:
    return reply.json()


def fails(asking: Door, path: str = "/x", **more: Any) -> SourceError:
    with pytest.raises(SourceError) as caught:
        asking.get(path, check=read, **more)
    return caught.value


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(Say("busy", 503), id="503"),
        pytest.param(Say(b"", 502), id="502 without a word"),
        pytest.param(Say("slow down", 429), id="429"),
        pytest.param(Say("request cancelled", 499), id="499"),
        pytest.param(Say("try later", 408), id="408"),
        pytest.param(Say("bad gateway for a moment", 522), id="a gateway's own 5xx"),
        pytest.param(Say("gateway time-out", 504), id="504"),
        pytest.param(Say({"fine": True}, cut_at=5), id="cut body"),
        pytest.param(Say({"fine": True}, cut_at=5, chunked=True), id="cut chunked body"),
        pytest.param(Say('{"fine": tr'), id="truncated JSON"),
        pytest.param(Say(""), id="empty body"),
        pytest.param(Say("<html><title>Maintenance</title></html>"), id="a page"),
        pytest.param(Say(gzip.compress(b'{"fine": true}')[:18], headers={"Content-Encoding": "gzip"}), id="cut gzip"),
        pytest.param(Say(b"not gzip at all", headers={"Content-Encoding": "gzip"}), id="garbage as gzip"),
        pytest.param(Say(raw=b"\0\1\2 garbage\r\n\r\n", then="close"), id="no HTTP"),
        pytest.param(Say(raw=b"HTTP/1.1 200 OK\r\nContent-Le", then="close"), id="cut header"),
        pytest.param(HANGS_UP, id="closed without an answer"),
        pytest.param(RESETS, id="reset"),
    ],
)
def test_trouble_that_may_pass_is_asked_again_and_counted(trouble: Say) -> None:
    with serving([trouble, GOOD]) as server:
        asking, sleeps = door(server.url)
        assert asking.get("/x", check=read) == {"fine": True}
    assert len(server.asked) == 2
    assert len(sleeps) == 1
    assert sum(asking.retries.values()) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 413, 422, 501])
def test_a_refusal_is_never_asked_again(status: int) -> None:
    with serving([Say("no", status)]) as server:
        asking, sleeps = door(server.url)
        error = fails(asking)
    assert len(server.asked) == 1
    assert not sleeps
    assert f"HTTP {status}: no" in error.what
    assert error.fix


@pytest.mark.parametrize(("name", "setting"), [("loki", "loki.url"), ("github", "github.api_url")])
def test_tries_are_bounded_and_back_off_with_jitter(name: str, setting: str) -> None:
    with serving([Say("busy", 503)]) as server:
        asking, sleeps = door(server.url, name=name)
        error = fails(asking)
    assert len(server.asked) == 6
    assert all(0.5 * 2**n / 2 <= s <= 0.5 * 2**n for n, s in enumerate(sleeps))
    assert f"{name} at {server.url}: HTTP 503: busy (tried 6 times)" in error.what
    assert setting in error.fix


def test_back_off_stops_growing() -> None:
    with serving([Say("busy", 503)]) as server:
        asking, sleeps = door(server.url, Policy(tries=12, timeout_s=5.0))
        fails(asking)
    assert max(sleeps) <= 30.0


@pytest.mark.parametrize(
    ("headers", "least"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Date": "Thu, 26 Feb 2026 09:00:00 GMT", "Retry-After": "Thu, 26 Feb 2026 09:00:42 GMT"}, 42.0),
        ({"Date": "Thu, 26 Feb 2026 09:00:00 GMT", "Retry-After": "Thu, 26 Feb 2026 08:00:00 GMT"}, 0.25),
        ({"Date": "a while ago", "Retry-After": "Thu, 26 Feb 2026 09:00:42 GMT"}, 0.25),
        ({"Retry-After": "²"}, 0.25),
        ({"Retry-After": "-5"}, 0.25),
        ({"Retry-After": "soon"}, 0.25),
        ({"Retry-After": "Thu, 99 Feb 99999999 09:00:42 GMT"}, 0.25),
    ],
)
def test_retry_after_is_kept_to_in_seconds_and_as_a_date_by_the_servers_own_clock(
    headers: dict[str, str], least: float
) -> None:
    # http.server writes a Date of its own, so the whole answer is written here
    head = "".join(f"{k}: {v}\r\n" for k, v in headers.items()).encode()
    busy = Say(raw=b"HTTP/1.1 429 Slow Down\r\nContent-Length: 0\r\n" + head + b"\r\n", then="close")
    with serving([busy, GOOD]) as server:
        asking, sleeps = door(server.url)
        asking.get("/x", check=read)
    assert least <= sleeps[0] <= max(0.5, least)


def test_a_server_that_wants_to_be_left_alone_for_an_hour_is_left_to_the_next_run() -> None:
    with serving([Say("busy", 503, {"Retry-After": "3600"})]) as server:
        asking, sleeps = door(server.url)
        error = fails(asking)
    assert len(server.asked) == 1
    assert not sleeps
    assert "3600 s" in error.what


def test_a_late_answer_is_asked_for_twice_and_then_the_question_is_called_too_slow() -> None:
    with serving([STALLS]) as server:
        asking, _ = door(server.url, Policy(timeout_s=0.1))
        error = fails(asking)
    assert len(server.asked) == 2
    assert isinstance(error, TooSlow)
    assert "no answer in time" in error.what


def test_an_answer_that_is_cut_every_time_may_be_too_large_a_question() -> None:
    with serving([Say({"fine": True}, cut_at=3)]) as server:
        asking, _ = door(server.url)
        assert isinstance(fails(asking), TooSlow)


def test_an_answer_larger_than_memory_should_hold_is_too_large() -> None:
    with serving([Say(b"x" * 5000)]) as server:
        asking, _ = door(server.url, Policy(largest=4096))
        assert isinstance(fails(asking), TooLarge)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://no-such-host.invalid:3100"])
def test_a_server_that_is_not_there_is_said_with_address_cause_and_setting(url: str) -> None:
    asking, sleeps = door(url, Policy(tries=2))
    error = fails(asking)
    assert len(sleeps) == 1
    assert f"loki at {url}: " in error.what
    assert "connection refused" in error.what or "no such host" in error.what
    assert "start loki or correct loki.url" in error.fix


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("http://", {}),
        ("http://127.0.0.1:port", {}),
        ("https://127.0.0.1:1", {"ca_file": "/nowhere/ca.pem"}),
        ("https://127.0.0.1:1", {"client_cert_file": "/nowhere/cert.pem"}),
        ("http://127.0.0.1:1", {"headers": {"Authorization": f"Bearer {TOKEN}\nX: y"}}),
        ("http://127.0.0.1:1", {"headers": {"X-Key": f"ключ {TOKEN}"}}),
    ],
)
def test_what_cannot_even_be_asked_is_a_setting_to_correct(url: str, endpoint: dict[str, Any]) -> None:
    asking, sleeps = door(url, **endpoint)
    error = fails(asking)
    assert not sleeps
    assert "loki.url, ca_file, client_cert_file" in error.fix
    assert TOKEN not in told(error)


def told(error: BaseException | None) -> str:
    """Return all that a traceback would show of an error."""
    text = ""
    while error is not None:
        text += f"{error!r} {error.__dict__!r}\n"
        error = error.__cause__ or error.__context__
    return text


@pytest.mark.parametrize("status", [400, 401, 500])
def test_credentials_are_in_no_message_and_no_repr_even_where_the_server_repeats_them(status: int) -> None:
    basic = base64.b64encode(f"me:{PASSWORD}".encode()).decode()

    def echo(asked: Asked) -> Say:
        return Say(f"you sent {asked.headers} {PASSWORD} {TOKEN}", status)

    with serving(echo) as server:
        asking, _ = door(
            server.url.replace("//", f"//me:{PASSWORD}@"), Policy(tries=2, timeout_s=5.0), headers={"X-Api-Key": TOKEN}
        )
        shown = told(fails(asking)) + repr((asking.endpoint, asking.policy, asking.retries, Reply(200, {}, b"x")))
    assert "you sent" in shown
    assert [s for s in (PASSWORD, TOKEN, basic) if s in shown] == []


def test_user_info_in_the_address_is_credentials_which_explicit_ones_outweigh() -> None:
    assert Endpoint("http://me:p%40ss@host:3100/loki").auth == ("me", "p@ss")
    assert Endpoint("http://me:p%40ss@host:3100/loki").url == "http://host:3100/loki"
    assert Endpoint("http://me:pass@host", auth=("you", "other")).auth == ("you", "other")
    assert Endpoint("http://me:pass@host", {"authorization": "Bearer x"}).auth is None
    assert "pass" not in repr(Endpoint("http://me:pass@host"))


def test_a_password_of_any_letters_is_sent() -> None:
    with serving([GOOD]) as server:
        asking, _ = door(server.url, auth=("кто", PASSWORD))
        asking.get("/x", check=read)
    sent = server.asked[0].headers["Authorization"].removeprefix("Basic ")
    assert base64.b64decode(sent).decode() == f"кто:{PASSWORD}"


def test_messages_of_a_server_are_one_line_without_tags_or_control_characters() -> None:
    page = "<html>\n<h1>502 Bad\x1b[31m Gateway</h1>\u202e\n" + "x" * 5000
    text = Reply(502, {}, page.encode()).text()
    assert text.startswith("502 Bad\ufffd[31m Gateway \ufffd xxx")
    assert len(text) == 300


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("method", ["get", "post"])
def test_a_redirect_on_the_same_server_is_followed_with_method_question_and_credentials(
    status: int, method: str
) -> None:
    def moved(asked: Asked) -> Say:
        return GOOD if asked.path == "/new" else Say(b"", status, {"Location": "/new"})

    with serving(moved) as server:
        asking, _ = door(server.url, headers={"Authorization": f"Bearer {TOKEN}"})
        assert getattr(asking, method)("/old", {"query": "a b"}, check=read) == {"fine": True}
    assert [(a.method, a.path) for a in server.asked] == [(method.upper(), "/old"), (method.upper(), "/new")]
    assert all(a.form == {"query": "a b"} for a in server.asked)
    assert all(a.headers["Authorization"] == f"Bearer {TOKEN}" for a in server.asked)


def test_a_redirect_that_brings_its_own_question_is_followed_as_it_is() -> None:
    def moved(asked: Asked) -> Say:
        return GOOD if asked.path == "/new" else Say(b"", 301, {"Location": "/new?page=2"})

    with serving(moved) as server:
        asking, _ = door(server.url)
        asking.get("/old", {"page": "1"}, check=read)
    assert server.asked[1].form == {"page": "2"}


def test_redirects_in_a_circle_end() -> None:
    with serving([Say(b"", 302, {"Location": "/x"})]) as server:
        asking, _ = door(server.url)
        assert "circle" in fails(asking).what


def test_credentials_are_not_carried_to_another_server() -> None:
    with serving([GOOD]) as other, serving([Say(b"", 302, {"Location": f"{other.url}/login"})]) as server:
        asking, _ = door(server.url, auth=("me", PASSWORD), headers={"X-Api-Key": TOKEN})
        error = fails(asking)
        assert "sends us on to another server" in error.what
        assert "loki.url" in error.fix
        assert "another server" in fails(asking, f"{other.url}/next?page=2").what
    assert other.asked == []


@pytest.mark.parametrize(
    ("ours", "there", "same"),
    [
        ("http://host:3100/loki", "http://HOST:3100/x", True),
        ("http://host", "http://host:80/x", True),
        ("http://host", "https://host/x", True),
        ("http://host:3100", "https://host:3100/x", True),
        ("https://host", "http://host/x", False),
        ("https://host", "https://host.evil/x", False),
        ("https://host", "https://host:444/x", False),
        ("https://host", "https://host@evil/x", False),
        ("http://host", "http://host:99999999/x", False),
    ],
)
def test_the_same_server_is_the_same_host_and_port_and_never_less_safe(ours: str, there: str, same: bool) -> None:
    asking, _ = door(ours, Policy(tries=1, remaining_s=lambda: 0.0))
    # an address that is ours goes on to the clock, which stops it
    with pytest.raises(StoppedError if same else SourceError):
        asking.get(there, check=read)


def test_nothing_is_asked_when_the_commands_time_is_over() -> None:
    with serving([GOOD]) as server:
        asking, _ = door(server.url, Policy(remaining_s=lambda: 0.0))
        with pytest.raises(StoppedError) as caught:
            asking.get("/x", check=read)
    assert server.asked == []
    assert caught.value.exit_code == 4


def test_a_wait_that_does_not_fit_the_commands_time_is_not_begun() -> None:
    with serving([Say("busy", 503, {"Retry-After": "20"})]) as server:
        asking, sleeps = door(server.url, Policy(remaining_s=lambda: 19.0))
        assert "HTTP 503" in fails(asking).what
    assert not sleeps


def test_a_silent_server_cannot_hold_us_beyond_the_commands_time() -> None:
    left = iter([9.0, 0.1, 0.0])
    with serving([STALLS]) as server:
        asking, _ = door(server.url, Policy(remaining_s=lambda: next(left)))
        with pytest.raises(StoppedError):
            asking.get("/x", check=read)


def test_a_dribbling_server_cannot_hold_us_beyond_the_commands_time() -> None:
    left = iter([9.0, 9.0, 0.0])
    with serving([Say(b"x" * 100, cut_at=1, then="stall")]) as server:
        asking, _ = door(server.url, Policy(remaining_s=lambda: next(left, 0.0)))
        with pytest.raises(StoppedError):
            asking.get("/x", check=read)


def test_a_caller_sees_the_statuses_that_it_asked_for_and_may_ask_again() -> None:
    def check(reply: Reply) -> str:
        if reply.status == 404:
            raise Transient("not yet")
        return reply.text()

    with serving([Say("no", 404), Say("yes")]) as server:
        asking, sleeps = door(server.url)
        assert asking.get("/x", check=check, raw_status={404}) == "yes"
    assert asking.retries == {"not yet": 1}
    assert len(sleeps) == 1


def test_one_connection_serves_many_questions_of_a_thread_and_none_is_shared() -> None:
    with serving([GOOD]) as server, ThreadPoolExecutor(4) as threads:
        asking, _ = door(server.url)
        together = threading.Barrier(4)

        def work(_: int) -> list[Any]:
            together.wait()
            return [asking.get("/x", check=read) for _ in range(25)]

        assert [a for each in threads.map(work, range(4)) for a in each] == [{"fine": True}] * 100
        assert server.connections == 4


def test_retries_are_counted_over_all_threads() -> None:
    with serving([Say("busy", 503)]) as server, ThreadPoolExecutor(4) as threads:
        asking, _ = door(server.url)
        list(threads.map(lambda _: fails(asking), range(8)))
    assert asking.retries == {"HTTP 503": 8 * 5}


def test_a_door_goes_to_another_process_without_its_connections_and_clock() -> None:
    with serving([GOOD]) as server:
        asking, _ = door(server.url, Policy(remaining_s=lambda: 9.0), auth=("me", PASSWORD))
        asking.get("/x", check=read)
        there = pickle.loads(pickle.dumps(asking))  # noqa: S301 - our own bytes
        assert there.get("/x", check=read) == {"fine": True}
    assert there.policy.remaining_s is None
    assert server.asked[0].headers["Authorization"] == server.asked[1].headers["Authorization"]


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_netrc_and_a_proxy_that_would_see_credentials_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login someone password else\n")
    with serving([GOOD]) as server, serving([Say("proxy", 500)]) as proxy:
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
        monkeypatch.setenv(variable, proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        asking, _ = door(server.url)
        asking.get("/x", check=read)
    assert proxy.asked == []
    assert "Authorization" not in server.asked[0].headers


def test_a_proxy_for_https_is_used_as_a_tunnel(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving([Say("no", 502)]) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "localhost")
        asking, _ = door("https://api.github.invalid", Policy(tries=1), auth=("me", PASSWORD))
        fails(asking)
    assert [(a.method, "Authorization" in a.headers) for a in proxy.asked] == [("CONNECT", False)]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a certificate for 127.0.0.1, with its key in one file."""
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -nodes -days 2 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -subj /CN=127.0.0.1"
    more = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run([*command.split(), *more], cwd=folder, check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_text((folder / "cert.pem").read_text() + (folder / "key.pem").read_text())
    return both


def tls(certificate: Path) -> ssl.SSLContext:
    """Return a server's side that wants to see the client's certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.load_verify_locations(certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def test_ca_file_and_client_certificate_are_shown_to_a_server_that_wants_them(certificate: Path) -> None:
    with serving([GOOD], tls(certificate)) as server:
        asking, _ = door(server.url, ca_file=str(certificate), client_cert_file=str(certificate))
        assert asking.get("/x", check=read) == {"fine": True}


def test_a_certificate_that_is_not_trusted_is_a_setting_to_correct_and_not_asked_again(certificate: Path) -> None:
    with serving([GOOD], tls(certificate)) as server:
        asking, sleeps = door(server.url)
        error = fails(asking)
    assert not sleeps
    assert "certificate is not trusted" in error.what
    assert "loki.url or ca_file" in error.fix


def test_https_asked_of_a_server_without_it_says_so() -> None:
    with serving([GOOD]) as server:
        asking, _ = door(server.url.replace("http:", "https:"), Policy(tries=1))
        error = fails(asking)
    assert "TLS" in error.what


def test_the_scripted_server_itself_says_what_it_was_told() -> None:
    with serving([Say({"a": 1}, 201, {"X": "y"}, chunked=True)]) as server:
        asking, _ = door(server.url)
        assert asking.post("/p", {"q": "1"}, check=lambda r: (r.status, r.headers["X"], r.json())) == (
            201,
            "y",
            {"a": 1},
        )
    assert (server.asked[0].method, server.asked[0].path, server.asked[0].form) == ("POST", "/p", {"q": "1"})
