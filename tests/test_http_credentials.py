"""The HTTP door: credentials go to the configured server alone, and into no message."""

from __future__ import annotations

import base64
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import SourceError, StoppedError
from pipeline.sources.http import Endpoint, Policy, Reply
from tests.faults import GOOD, Asked, Say, door_to, fails, read, serving

PASSWORD = "p4ss-wörd-of-длинный"
TOKEN = "tok-0123456789abcdef"


def told(error: BaseException | None) -> str:
    """Return all that a traceback would show of an error."""
    text = ""
    while error is not None:
        text += f"{error!r} {error.__dict__!r}\n"
        error = error.__cause__ or error.__context__
    return text


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
    asking, sleeps = door_to(url, **endpoint)
    error = fails(asking)
    assert not sleeps
    assert "loki.url, ca_file, client_cert_file" in error.fix
    assert TOKEN not in told(error)


@pytest.mark.parametrize("status", [400, 401, 500])
def test_credentials_are_in_no_message_and_no_repr_even_where_the_server_repeats_them(status: int) -> None:
    basic = base64.b64encode(f"me:{PASSWORD}".encode()).decode()

    def echo(asked: Asked) -> Say:
        return Say(f"you sent {asked.headers} {PASSWORD} {TOKEN}", status)

    with serving(echo) as server:
        asking, _ = door_to(
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
        asking, _ = door_to(server.url, auth=("кто", PASSWORD))
        asking.get("/x", check=read)
    sent = server.asked[0].headers["Authorization"].removeprefix("Basic ")
    assert base64.b64decode(sent).decode() == f"кто:{PASSWORD}"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("method", ["get", "post"])
def test_a_redirect_on_the_same_server_is_followed_with_method_question_and_credentials(
    status: int, method: str
) -> None:
    def moved(asked: Asked) -> Say:
        return GOOD if asked.path == "/new" else Say(b"", status, {"Location": "/new"})

    with serving(moved) as server:
        asking, _ = door_to(server.url, headers={"Authorization": f"Bearer {TOKEN}"})
        assert getattr(asking, method)("/old", {"query": "a b"}, check=read) == {"fine": True}
    assert [(a.method, a.path) for a in server.asked] == [(method.upper(), "/old"), (method.upper(), "/new")]
    assert all(a.form == {"query": "a b"} for a in server.asked)
    assert all(a.headers["Authorization"] == f"Bearer {TOKEN}" for a in server.asked)


def test_a_redirect_that_brings_its_own_question_is_followed_as_it_is() -> None:
    def moved(asked: Asked) -> Say:
        return GOOD if asked.path == "/new" else Say(b"", 301, {"Location": "/new?page=2"})

    with serving(moved) as server:
        asking, _ = door_to(server.url)
        asking.get("/old", {"page": "1"}, check=read)
    assert server.asked[1].form == {"page": "2"}


def test_redirects_in_a_circle_end() -> None:
    with serving([Say(b"", 302, {"Location": "/x"})]) as server:
        asking, _ = door_to(server.url)
        assert "circle" in fails(asking).what


def test_credentials_are_not_carried_to_another_server() -> None:
    with serving([GOOD]) as other, serving([Say(b"", 302, {"Location": f"{other.url}/login"})]) as server:
        asking, _ = door_to(server.url, auth=("me", PASSWORD), headers={"X-Api-Key": TOKEN})
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
    asking, _ = door_to(ours, Policy(tries=1, remaining_s=lambda: 0.0))
    # an address that is ours goes on to the clock, which stops it
    with pytest.raises(StoppedError if same else SourceError):
        asking.get(there, check=read)


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
        asking, _ = door_to(server.url)
        asking.get("/x", check=read)
    assert proxy.asked == []
    assert "Authorization" not in server.asked[0].headers


def test_a_proxy_for_https_is_used_as_a_tunnel(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving([Say("no", 502)]) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "localhost")
        asking, _ = door_to("https://api.github.invalid", Policy(tries=1), auth=("me", PASSWORD))
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
        asking, _ = door_to(server.url, ca_file=str(certificate), client_cert_file=str(certificate))
        assert asking.get("/x", check=read) == {"fine": True}


def test_a_certificate_that_is_not_trusted_is_a_setting_to_correct_and_not_asked_again(certificate: Path) -> None:
    with serving([GOOD], tls(certificate)) as server:
        asking, sleeps = door_to(server.url)
        error = fails(asking)
    assert not sleeps
    assert "certificate is not trusted" in error.what
    assert "loki.url or ca_file" in error.fix


def test_https_asked_of_a_server_without_it_says_so() -> None:
    with serving([GOOD]) as server:
        asking, _ = door_to(server.url.replace("http:", "https:"), Policy(tries=1))
        error = fails(asking)
    assert "TLS" in error.what
