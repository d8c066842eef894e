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
        yield Secret(
            "json odd",
            json.dumps({"password": s, "next": "kept"}, ensure_ascii=False),
            json.dumps(s, ensure_ascii=False)[1:-1],
        )
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
    for i, of in enumerate(("RSA ", "EC ", "OPENSSH ", "ENCRYPTED ", "")):
        lines = pem(i, of)
        for body in (lines[1], lines[-2]):
            yield Secret("pem", "\n".join(lines), body)
            yield Secret(
                "pem in json", json.dumps({"private_key": "\n".join(lines) + "\n", "private_key_id": "7"}), body
            )
            yield Secret("pem in json", json.dumps({"err": json.dumps({"key": "\n".join(lines)})}), body)
    first, *rest, last = pem(9)
    headers = ["Proc-Type: 4,ENCRYPTED", "DEK-Info: AES-256-CBC,00A1", ""]
    yield Secret("pem with headers", "\n".join([first, *headers, *rest, last]), rest[0])
    yield Secret("pem cut short", "\n".join([first, *rest[:3]])[:-9], rest[1])
    yield Secret("pem cut in json", f'{{"err":"{first}\\n{rest[0]}"}}', rest[0])


def secrets() -> list[Secret]:
    """Return the corpus of secrets."""
    d = _Draw(7)
    of_form = [s for kind, token in tokens().items() for s in _around(kind, token)]
    return [*of_form, *_named(d), *_placed(d), *_keys()]


_WORDS = r"""
max_tokens=4096
{"token":null,"password":"","secret":false,"api_key":"***"}
{"password": "", "next": "kept"}
password: ""
password=''
password=
token=***
token: ***
password: ********
token=xxxxx
token=<redacted>
token=[hidden]
token=$TOKEN
token=${TOKEN}
token="$GIT_TOKEN" make
export TOKEN=$(cat /var/run/secrets/kubernetes.io/serviceaccount/token)
token: /var/run/secrets/kubernetes.io/serviceaccount/token
token_file=/var/run/secrets/tokens/loki
--token-file /var/run/secrets/token
--password-stdin
docker login -u ci --password-stdin registry:5000
the --token flag is deprecated, use --token-file
--token $GIT_TOKEN
--secret id=npmrc,src=/root/.npmrc
RUN --mount=type=secret,id=npm npm ci
secretName: registry-credentials
"secretName":"registry-credentials"
imagePullSecrets: [{name: registry-credentials}]
secret "registry-credentials" not found
secret: registry-credentials not found
secrets is forbidden: User "system:serviceaccount:codex-k8s-prod:worker" cannot list resource "secrets"
MountVolume.SetUp failed for volume "certs": secret "tls" not found
tokenizer=fast
tokenizer: "bert-base-uncased"
{"tokenizer":"cl100k_base","max_tokens":4096}
token_type=bearer expires_in=3600
token_count=17
parse token: unexpected end of input
read password: permission denied
get secret: not found
refresh token: context deadline exceeded
invalid token: Unauthorized
SyntaxError: Unexpected token: "}"
unexpected token: 'else'
lexer: expected token: identifier, got EOF
{"msg":"token=","run_id":"3f2a9c1e"}
{"msg":"password: ","level":"INFO"}
{"a":"my token="}
["token=", "b"]
{"kind":"token","value":"abc"}
{"type":"secret","name":"registry-credentials"}
{"hasToken":true,"password_set":false}
Token:<nil>
Token:0xc00011a000
&{Name:x Token:<nil> Password:}
secret={name:x}
type Token struct { ID string }
password_min_length=12
reset your password at the console
passwords do not match
access_key_id is not set
primary_key=id foreign_key=run_id
cache_key=web-console-1a2b3c4d5e6f
sort_key: created_at
the bearer of news
Basic usage
Basic Authentication failed
Bearer authentication required
WWW-Authenticate: Bearer realm="https://auth.docker.io/token",service="registry.docker.io"
www-authenticate: Basic realm="registry"
Bearer error="invalid_token"
Bearer authorization_uri=x
authorization: denied
--authorization-mode=Node,RBAC
Authorization: <redacted>
Authorization: Bearer ***
Authorization: Bearer $TOKEN
cookies are fine
no cookie: not set
cookie=none
https://github.com/codex-k8s/codex-k8s.git
https://example.org:8443/path?x=1#frag
http://h:80?to=a@b.c
https://ci:***@github.com/o/r
https://x-access-token:***@github.com/o/r.git
https://x-access-token:${GIT_TOKEN}@github.com/o/r.git
https://x-access-token:$GIT_TOKEN@github.com/o/r.git
https://ci:xxxxx@github.com/o/r
https://user@host/
git@github.com:codex-k8s/codex-k8s.git
mailto:sre@example.org
Author: A. Person <a.person+tag@example.org>
see http://x/y, mail me@example.com
registry:5000/codex-k8s/web-console@sha256:0
failed to fetch oauth token: unexpected status from GET request to https://auth.docker.io/token?scope=x%3Apull: 401
error fetching token: https://auth.docker.io/token?service=registry.docker.io
{"token_url":"https://auth.example.org/token","token":"https://auth.example.org/t"}
@octocat fixes #1
xoxo-hugs-and-kisses
ghp_short gho_ github_pat_
glpat-short
npm_config_cache=/root/.npm
npm_lifecycle_event=build npm_package_json=/src/package.json
pypi-mirror.example.org
hf_hub_download(repo)
sk-learn is scikit-learn
disk-usage-of-node risk-assessment-of-the-release
hvs.example.com
SG.png
key-value store
v1.0-rc1
AKIA1234
AIzashort
eyJhbGciOi
AccountKey=;
-----BEGIN CERTIFICATE-----
want -----BEGIN PRIVATE KEY----- at the start of the file
tls: found a certificate rather than a PRIVATE KEY
config?sig=short
dp.pt.x
	/src/services/worker/internal/token/keeper.go:118 +0x1d
github.com/codex-k8s/token.(*Source).Token(0xc00011a000, {0xc00011a000, 0x24})
INFO[0003] Retrieving image manifest golang:1.24
INFO[0007] ARG TOKEN
HEAD is now at 4f2a9c1 token: rotate weekly
[REDACTED:github-token:3f9a]
password=[REDACTED:named-secret:00ff]
curl -sf -u $USER:$PASS https://example.org
docker run -u 1000:1000 image
machine learning password policy
client-key-data: DATA+OMITTED
client-key-data: REDACTED
{"auth":true,"author":"somebody else"}
{"auth":"required-by-policy"}
""".strip("\n").split("\n")


def lookalikes() -> list[str]:
    """Return texts that hold nothing secret, however random they look."""
    d = _Draw(11)
    image = d.base64(900)
    drawn = [
        *(f"pushed registry:5000/web-console@sha256:{d.hex(64)}" for _ in range(3)),
        *(f"HEAD is now at {d.hex(n)} mend" for n in (7, 12, 40)),
        *(f"{name}={d.uuid()}" for name in ("run_id", "correlation_id", "request-id", "lease_owner", "trace_id")),
        *(json.dumps({"run_id": d.uuid(), "digest": f"sha256:{d.hex(64)}", "etag": d.hex(32)}) for _ in range(3)),
        f"codex-k8s-kaniko-web-console-{d.hex(8)}-{d.hex(3)}",
        f"pod/codex-k8s-run-{d.uuid()} codex-k8s-control-plane-{d.hex(10)}-x7k2p",
        f"task-{d(_ALNUM, 48)} disk-{d(_ALNUM, 40)}",
        f"cache-key-{d.hex(32)} TASK{d.hex(32)}",
        f'<img src="data:image/png;base64,{image}">',
        f"data:image/svg+xml;base64,{d.base64(300)}",
        json.dumps({"image": image, "size": 900}),
        f"integrity sha512-{d.base64(64)}",
        f"go.sum h1:{d.base64(32)}",
        f"-----BEGIN CERTIFICATE-----\n{d(_B64, 64)}\n-----END CERTIFICATE-----",
        f"ssh-ed25519 {d.base64(51)} ci@example.org",
        f"SHA256:{d(_B64, 43)} fingerprint",
        f"AKIA{d(_UPPER, 24)}",
        "=" * 80,
        "A" * 300,
        "0123456789" * 30,
    ]
    return [*_WORDS, *drawn]
