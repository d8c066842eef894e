"""What GitHub's list of issue comments holds: the platform's status comment of each run, and what people wrote."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pipeline.model import instant_text
from tests.world.options import NAMESPACE, REPOSITORY, Options, seconds, whole
from tests.world.platform import Platform, Run

_SITE, _API = "https://github.com", "https://api.github.com"
BOT, PERSON = "codex-k8s[bot]", "sre-anna"


def comments(options: Options, platform: Platform) -> list[dict[str, Any]]:
    """Return all comments, oldest first, as GitHub's REST API lists them."""
    told = [_status(run) for run in platform.runs if run.issue]
    told += _people(options, platform.runs)
    told.sort(key=lambda c: (c[0], c[2]))
    return [_comment(n, *c) for n, c in enumerate(told, 3_900_000_001)]


Told = tuple[int, int, int, str, str]  # created, updated, issue, who, text


def _status(run: Run) -> Told:
    """Return the one comment that the platform keeps about a run, as it reads in the end."""
    phase = "finished" if run.ended_at else "started" if run.ready_at else "preparing_runtime"
    said: dict[str, Any] = {"run_id": run.run_id, "phase": phase, "repository_full_name": REPOSITORY}
    said["issue_number"] = run.issue
    if run.ready_at:
        said |= {"job_name": run.job_name, "job_namespace": NAMESPACE}
    said |= {"namespace": NAMESPACE, "trigger_kind": "issue_label"}
    said |= {"run_status": run.status} if run.ended_at else {}
    russian = (run.issue or 0) % 2
    body = ["### Запуск агента" if russian else "### Agent run", "", f"- Run ID: `{run.run_id}`"]
    if run.ready_at:
        body.append(f"- Job: `{NAMESPACE}/{run.job_name}`")
    body += [f"- {'Статус' if russian else 'Status'}: {phase}", ""]
    body.append(f"<!-- codex-k8s:run-status {json.dumps(said, separators=(',', ':'))} -->")
    created = run.queued_at + seconds(2)
    return created, max(created, run.ended_at or run.ready_at or created), run.issue or 0, BOT, "\n".join(body)


def _people(options: Options, runs: Sequence[Run]) -> list[Told]:
    """Return what an SRE wrote: of the cache incident before any alert did, of the other one after."""
    cache = next((r for r in runs if r.issue == 207 and r.queued_at in options.span(options.cache)), None)
    ref = next((r for r in runs if r.issue == 205 and r.queued_at in options.span(options.build_ref)), None)
    out: list[Told] = []

    def write(at: int, issue: int, text: str) -> None:
        out.append((at, at, issue, PERSON, text))

    if cache:
        start = options.span(options.cache).start
        write(start + seconds(1090), 207, f"Run {cache.run_id} не собирается второй раз подряд, смотрю на registry.")
        write(start + seconds(4000), 207, "Кэш выключен, сборки пошли. Спасибо!")
    if ref:
        start = options.span(options.build_ref).start
        write(
            start + seconds(660), 205, f"`{ref.run_id}` fails on checkout: CODEXK8S_BUILD_REF holds a flag, fixing it."
        )
    return out


def _comment(number: int, created: int, updated: int, issue: int, who: str, body: str) -> dict[str, Any]:
    page = f"{_SITE}/{REPOSITORY}/issues/{issue}"
    return {
        "id": number,
        "html_url": f"{page}#issuecomment-{number}",
        "issue_url": f"{_API}/repos/{REPOSITORY}/issues/{issue}",
        "user": {"login": who, "type": "Bot" if who == BOT else "User"},
        "created_at": instant_text(whole(created)),
        "updated_at": instant_text(whole(updated)),
        "body": body,
    }
