"""kubectl itself: what it is asked, and what becomes of its answers and complaints."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from pipeline.errors import SourceError
from pipeline.model import instant_of, instant_text
from pipeline.sources.kubectl import Live

NOW = instant_of("2026-02-26T12:00:00Z")

ENDED = "2026-02-26T09:02:00Z"
NAMED = {"name": "j", "namespace": "prod", "creationTimestamp": "2026-02-26T09:00:00Z"}
JOB = {
    "metadata": NAMED,
    "status": {"conditions": [{"type": "Complete", "status": "True", "lastTransitionTime": ENDED}]},
}
EVENT = {"metadata": NAMED, "involvedObject": {"kind": "Job", "name": "j"}, "lastTimestamp": ENDED}

FAKE = """#!/bin/sh
echo "$*" >> "$0.asked"
case "$*" in
*"get namespaces"*) cat <<'END'
{"items": [{"metadata": {"name": "prod"}}, {"metadata": {"name": "codex-issue-7"}}, {"metadata": {"name": "kube-system"}}]}
END
;;
*"get jobs -n prod"*) cat "$0.jobs" ;;
*"get events -n prod"*) cat "$0.events" ;;
*"get "*) echo '{"items": []}' ;;
*"logs deploy/codex-k8s-worker"*) printf '2026-02-26T09:00:00.5Z {"msg":"a\\342\\200\\250b"}\\n2026-02-26T09:00:01Z x\\n' ;;
*) echo 'Error from server (Forbidden): pods is forbidden' >&2; echo 'for you' >&2; exit 1 ;;
esac
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a kubectl on PATH that knows one job and one event, and notes what it is asked."""
    program = tmp_path / "kubectl"
    program.write_text(FAKE)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    Path(f"{program}.jobs").write_text(json.dumps({"items": [JOB]}))
    Path(f"{program}.events").write_text(json.dumps({"items": [EVENT]}))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return program


def asked(program: Path) -> list[str]:
    return Path(f"{program}.asked").read_text().splitlines()


def test_the_cluster_is_asked_in_its_context_for_the_namespaces_that_match(fake: Path) -> None:
    live = Live(["prod", "codex-issue-.*"], NOW, "blue")
    (taken,) = live.snapshots()
    (seen,) = live.events()
    assert (instant_text(taken.at), taken.rows.num_rows, seen.num_rows) == ("2026-02-26T12:00:00Z", 1, 1)
    ask = ["get namespaces -o json", "get jobs -n prod -o json", "get jobs -n codex-issue-7 -o json"]
    again = ["get namespaces -o json", "get events -n prod -o json", "get events -n codex-issue-7 -o json"]
    assert asked(fake) == [f"--context blue {a}" for a in ask + again]


def test_plain_namespaces_are_not_looked_up(fake: Path) -> None:
    Live(["prod"], NOW).snapshots()
    assert asked(fake) == ["get jobs -n prod -o json"]


def test_the_logs_of_a_deployment_are_asked_for_with_stamps_since_an_instant(fake: Path) -> None:
    (found,) = Live(["prod"], NOW).logs(["codex-k8s-worker"], [], "2026-02-26T08:00:00Z")
    assert asked(fake) == ["logs deploy/codex-k8s-worker -n prod --timestamps --since-time=2026-02-26T08:00:00Z"]
    assert [(instant_text(e.ts), e.line) for e in found.entries] == [
        ("2026-02-26T09:00:00.5Z", '{"msg":"a\u2028b"}'),
        ("2026-02-26T09:00:01Z", "x"),
    ]


def test_what_kubectl_complains_of_is_said_in_one_line(fake: Path) -> None:
    with pytest.raises(SourceError) as caught:
        list(Live(["prod"], NOW).logs(["secret"], [], "2026-02-26T08:00:00Z"))
    assert caught.value.what == (
        "kubectl logs deploy/secret failed: Error from server (Forbidden): pods is forbidden for you"
    )
    assert "kubernetes.context" in caught.value.fix


def test_a_kubectl_that_answers_no_json_is_said(fake: Path) -> None:
    Path(f"{fake}.jobs").write_text("No resources found")
    with pytest.raises(SourceError, match="what kubectl answered is not JSON"):
        Live(["prod"], NOW).snapshots()


def test_namespaces_that_no_pattern_matches_are_a_setting_to_correct(fake: Path) -> None:
    with pytest.raises(SourceError, match=r"no namespace matches nothing-\.\*") as caught:
        Live(["nothing-.*"], NOW).events()
    assert caught.value.fix == "correct kubernetes.namespaces"


def test_a_kubectl_that_is_missing_or_no_program_is_said(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(fake.parent))
    fake.chmod(0o644)
    with pytest.raises(SourceError, match="kubectl cannot be run: Permission denied"):
        Live(["prod"], NOW).snapshots()
    fake.unlink()
    with pytest.raises(SourceError, match="kubectl is not on PATH") as caught:
        Live(["prod"], NOW).snapshots()
    assert "kubernetes.live" in caught.value.fix
