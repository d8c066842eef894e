"""Secrets and look-alikes for redaction: made as tests run, from the formats that their issuers publish.

No file of ours holds what looks like a secret: prefixes are put together, the rest is drawn from a seeded generator.
"""

from __future__ import annotations

import base64
import json
import string
from collections.abc import Iterator
from random import Random
from typing import NamedTuple

_ALNUM = string.ascii_letters + string.digits
_WORD = _ALNUM + "_-"
_UPPER = string.ascii_uppercase + string.digits
_B64 = _ALNUM + "+/"
_HEX = "0123456789abcdef"


class Secret(NamedTuple):
    """A text, the kind of secret in it, and what of it must be gone."""

    kind: str
    text: str
    secret: str


class _Draw:
    def __init__(self, seed: int) -> None:
        self._rng = Random(seed)

    def __call__(self, alphabet: str, n: int) -> str:
        drawn = "".join(self._rng.choices(alphabet, k=n - 2))
        return drawn + "A7"[: n - len(drawn)] if alphabet is not _HEX else drawn + "a7"

    def hex(self, n: int) -> str:
        return self(_HEX, n)

    def uuid(self) -> str:
        return "-".join(self.hex(n) for n in (8, 4, 4, 4, 12))

    def base64(self, n: int) -> str:
        return base64.b64encode(self._rng.randbytes(n)).decode()


def tokens(seed: int = 1) -> dict[str, str]:
    """Return one token of every kind that is known by its own form."""
    d = _Draw(seed)
    jwt = ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
        for part in ({"alg": "RS256", "kid": d(_ALNUM, 8)}, {"sub": d.uuid(), "exp": 1790000000})
    )
    return {
        **{f"github gh{c}": f"gh{c}" + "_" + d(_ALNUM, 36) for c in "pousr"},
        "github fine-grained": "github" + "_pat_" + d(_ALNUM, 22) + "_" + d(_ALNUM, 59),
        **{f"gitlab gl{k}": f"gl{k}" + "-" + d(_WORD, 20) for k in ("pat", "dt", "rt", "soat", "ptt", "cbt")},
        "gitlab routable": "glpat" + "-" + d(_WORD, 27) + ".01." + d(_HEX, 9),
        **{f"aws {k}": k + d(_UPPER, 16) for k in ("AKIA", "ASIA")},
        "google key": "AI" + "za" + d(_WORD, 35),
        "google oauth": "ya" + "29." + d(_WORD, 80),
        "google client secret": "GOC" + "SPX-" + d(_WORD, 28),
        **{f"slack xox{c}": f"xox{c}" + "-" + f"{d(string.digits, 12)}-{d(_ALNUM, 24)}" for c in "bpars"},
        "slack app": "xa" + "pp-1-" + f"{d(_UPPER, 11)}-{d(string.digits, 13)}-{d.hex(64)}",
        "npm": "npm" + "_" + d(_ALNUM, 36),
        "pypi": "pypi" + "-AgEIcHlwaS5vcmc" + d(_WORD, 120),
        "docker": "dckr" + "_pat_" + d(_WORD, 27),
        "rubygems": "rubygems" + "_" + d.hex(48),
        "jwt": jwt + "." + d(_WORD, 86),
        "stripe secret": "sk" + "_live_" + d(_ALNUM, 24),
        "stripe restricted": "rk" + "_live_" + d(_ALNUM, 99),
        "telegram": d("123456789", 10).replace("A", "4") + ":AA" + d(_WORD, 33),
        "hugging face": "hf" + "_" + d(_ALNUM, 34),
        "openai": "sk" + "-" + d(_ALNUM, 48),
        "openai project": "sk" + "-proj-" + d(_WORD, 120),
        "anthropic": "sk" + "-ant-api03-" + d(_WORD, 93),
        "digitalocean": "dop" + "_v1_" + d.hex(64),
        "vault service": "hvs" + "." + d(_WORD, 90),
        "vault batch": "hvb" + "." + d(_WORD, 120),
        "terraform": d(_ALNUM, 14) + "." + "atlasv1" + "." + d(_WORD, 67),
        "grafana service account": "glsa" + "_" + d(_ALNUM, 32) + "_" + d.hex(8),
        "grafana cloud": "glc" + "_" + d.base64(90),
        "cloudflare origin": "v1" + ".0-" + d.hex(24) + "-" + d.hex(146),
        "sendgrid": "SG" + "." + d(_WORD, 22) + "." + d(_WORD, 43),
        "twilio": "S" + "K" + d.hex(32),
        "mailgun": "key" + "-" + d.hex(32),
        "pulumi": "pul" + "-" + d.hex(40),
        "age": "AGE" + "-SECRET-KEY-1" + d(_UPPER, 58),
    }


def _around(kind: str, token: str) -> Iterator[Secret]:
    """Put a token where logs have them."""
    yield Secret(kind, f"login with {token} failed", token)
    yield Secret(kind, f'{{"level":"WARN","err":"remote said:\\n{token}\\nbye"}}', token)
    yield Secret(
        kind, f"curl https://example.org/v1?x=%20{token}" if kind[:6] in {"github", "gitlab"} else token, token
    )


def _named(d: _Draw) -> Iterator[Secret]:
    """Yield secrets that a key, a header or a command names."""
    for key in ("GIT_TOKEN", "DB_PASSWORD", "CLIENT_SECRET", "API_KEY", "api-key", "PGPASSWORD", "X-Vault-Token"):
        s = d(_ALNUM, 24)
        yield Secret("key=value", f"env: {key}={s} HOME=/root", s)
    for key, s in (
        ("db_password", d(_ALNUM, 16)),
        ("token", d.uuid()),
        ("clientSecret", d(_WORD, 30)),
        ("apiKey", d.hex(32)),
    ):
        yield Secret("json", json.dumps({"level": "INFO", key: s, "run_id": "r"}), s)
        yield Secret("json in json", json.dumps({"err": "got " + json.dumps({key: s})}), s)
        yield Secret("json thrice", json.dumps({"err": json.dumps({"body": json.dumps({key: s, "a": 1})})}), s)
    for s in ('pa"ss,wo rd}7', "a\\b\\\\c9", "пароль 5", "x&y;z=4", "2024!Summer", "12345678", "1234-5678"):
        yield Secret("json odd", json.dumps({"password": s, "next": "kept"}, ensure_ascii=False), json.dumps(s)[1:-1])
    for text in (
        "password: {}",
        "  password: '{}'",
        'passphrase: "{}"',
        "token := {}",
        "--registry-token={}",
        "secret => {}",
    ):
        s = d(_ALNUM, 18)
        yield Secret("key: value", text.format(s), s)
    s = "correct horse battery 9"
    yield Secret("quoted value", f'level=info password="{s}" msg=x', s)
    yield Secret("quoted value", f"set passphrase='{s}' now", s)
    for text in ("aws_secret_access_key = {}", '"SecretAccessKey": "{}"', "AWS_SECRET_ACCESS_KEY={}"):
        s = d(_B64, 40)
        yield Secret("aws secret access key", text.format(s), s)
    s = d(_ALNUM, 20)
    for text in ("docker login -u ci -p {} registry:5000", "kaniko --registry-password {} --force", "x --token '{}'"):
        yield Secret("command", text.format(s), s)
    yield Secret("curl user", f"+ curl -sf -u ci:{s} https://example.org", s)
    yield Secret("netrc", f"machine github.com login ci password {s}", s)
    for key in ("CLOUDFLARE_API_KEY", "X-Auth-Key", "HEROKU_API_KEY"):
        s = d.hex(37) if "H" not in key[:1] else d.uuid()
        yield Secret("cloud key by name", f"{key}: {s}", s)


def _placed(d: _Draw) -> Iterator[Secret]:
    """Yield secrets that their place gives away: headers, URLs, files."""
    for scheme in ("Bearer", "bearer", "Basic", "basic"):
        s = d.base64(33) if scheme.lower() == "basic" else d(_WORD, 43)
        yield Secret(scheme.lower(), f"> Authorization: {scheme} {s}", s)
        yield Secret(scheme.lower(), json.dumps({"header": f"authorization: {scheme} {s}", "n": 1}), s)
    s = d(_ALNUM, 40)
    yield Secret("authorization", f"Authorization: Token {s}", s)
    yield Secret("authorization", json.dumps({"Authorization": [s]}), s)
    yield Secret("authorization", json.dumps({"err": f"headers:\nBearer\t{s}"}), s)
    for url in (
        "https://x-access-token:{}@github.com/o/r.git",
        "https://ci:{}@host:8443/x?y=z",
        "postgres://u:{}@db/x",
    ):
        s = d(_ALNUM, 40)
        yield Secret("url user info", f"fatal: unable to access '{url.format(s)}': timed out", s)
        yield Secret("url user info", json.dumps({"err": f"clone {url.format(s)}"}).replace("/", "\\/"), s)
    yield Secret("url user info", f"https://{s}@github.com/o/r", s)
    yield Secret("url user info", f"https://{s}:x-oauth-basic@github.com/o/r", s)
    yield Secret("url user info", "redis://:p@ss@cache:6379/0", "p@ss")
    yield Secret("url user info", "amqp://svc:it's#1@mq:5672/v", "it's#1")
    path = f"T{d(_UPPER, 8)}/B{d(_UPPER, 8)}/{d(_ALNUM, 24)}"
    yield Secret("slack webhook", f"POST https://hooks.slack.com/services/{path} 200", path)
    yield Secret(
        "slack webhook", json.dumps({"url": f"https://hooks.slack.com/services/{path}"}).replace("/", "\\/"), path[-24:]
    )
    path = f"{d('123456789', 18)}/{d(_WORD, 68)}"
    yield Secret("discord webhook", f"https://discord.com/api/webhooks/{path}", path)
    s = d.base64(64)
    yield Secret("azure account key", f"AccountName=x;AccountKey={s};EndpointSuffix=core.windows.net", s)
    s = d(_ALNUM, 43)
    yield Secret("azure sas", f"https://x.blob.core.windows.net/c?sv=2024-01-01&sig={s}%3D&se=1", s)
    yield Secret("azure sas", json.dumps({"u": f"https://x/c?sv=1&sig={s}%3D"}).replace("&", "\\u0026"), s)
    s = d.hex(64)
    yield Secret("aws presigned", f"https://b.s3.amazonaws.com/k?X-Amz-Date=1&X-Amz-Signature={s}", s)
    s = d(_ALNUM, 32)
    yield Secret("cookie", f"Cookie: theme=dark; session={s}; lang=en", s)
    yield Secret("cookie", f"set-cookie: sid={s}; Path=/; HttpOnly", s)
    yield Secret("cookie", json.dumps({"Cookie": [f"sid={s}"], "n": 1}), s)
    s = d.base64(300)
    for key in ("client-key-data", "client-certificate-data"):
        yield Secret("kubeconfig", f"    {key}: {s}", s)
        yield Secret("kubeconfig", json.dumps({"user": {key: s}}), s)
    s = base64.b64encode(f"ci:{d(_ALNUM, 18)}".encode()).decode()
    auths = json.dumps({"auths": {"registry:5000": {"auth": s}}})
    yield Secret("docker config", auths, s)
    yield Secret("docker config", json.dumps({"err": f"config {auths}"}), s)


def pem(seed: int = 1, kind: str = "RSA ", lines: int = 12) -> list[str]:
    """Return the lines of a private key."""
    d = _Draw(seed)
    words = "PRIVATE" + " KEY"
    return [
        f"-----BEGIN {kind}{words}-----",
        *(d(_B64, 64) for _ in range(lines)),
        d(_B64, 21) + "=",
        f"-----END {kind}{words}-----",
    ]


def _keys() -> Iterator[Secret]:
    for i, kind in enumerate(("RSA ", "EC ", "OPENSSH ", "ENCRYPTED ", "")):
        lines = pem(i, kind)
        for body in (lines[1], lines[-2]):
            yield Secret("pem", "\n".join(lines), body)
            yield Secret(
                "pem in json", json.dumps({"private_key": "\n".join(lines) + "\n", "private_key_id": "7"}), body
            )
            yield Secret("pem in json", json.dumps({"err": json.dumps({"key": "\n".join(lines)})}), body)
    first, *body, last = pem(9)
    headers = ["Proc-Type: 4,ENCRYPTED", "DEK-Info: AES-256-CBC,00A1", ""]
    yield Secret("pem with headers", "\n".join([first, *headers, *body, last]), body[0])
    yield Secret("pem cut short", "\n".join([first, *body[:3]])[:-9], body[1])
    yield Secret("pem cut in json", f'{{"err":"{first}\\n{body[0]}"}}', body[0])


def secrets() -> list[Secret]:
    """Return the corpus of secrets."""
    d = _Draw(7)
    of_form = [s for kind, token in tokens().items() for s in _around(kind, token)]
    return [*of_form, *_named(d), *_placed(d), *_keys()]
