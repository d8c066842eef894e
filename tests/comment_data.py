"""An invented postmortem's `summary.json`, and how tests make a comment of one."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from functools import cache, partial
from typing import Any

from pipeline import catalog
from pipeline.report.comment import LIMIT, Comment, compose
from pipeline.report.comment_view import comment_view
from pipeline.report.render import render_markdown
from pipeline.report.view import summary
from pipeline.steps.vocabulary import words
from tests.report_data import DAYS

Summary = dict[str, Any]
_RENDER = partial(render_markdown, templates=catalog.data_dir("reports"), report="comment")
_FIRST = (
    "wait kaniko job codex-k8s-kaniko-web-console-3f2a9c1e-7b4: job failed; logs: … MANIFEST_UNKNOWN: manifest unknown"
)
_NO_REF = "fatal: '-b feature/x' is not a commit and a branch '-b feature/x' cannot be created from it"


def comment(of: Mapping[str, Any], limit: int = LIMIT) -> Comment:
    """Make the comment of a summary."""
    said = comment_view(of, words(of.get("lang") or "en"))
    return compose(said.kind, said.key, said.view, _RENDER, limit)


def daily(day: str = "red") -> Summary:
    """Return the summary of one of the invented days, as it is read from its file."""
    return dict(json.loads(json.dumps(summary(DAYS[day]()))))


def postmortem(**more: Any) -> Summary:
    """Return the summary of the invented postmortem, with some of it replaced."""
    return copy.deepcopy(_postmortem()) | more


def _moment(time: str | None, source: str = "attempts", why: str | None = None) -> dict[str, str | None]:
    return {"at": time and f"2026-02-26T{time}Z", "source": source, "why": why}


def _case(name: str, incident: str, times: Mapping[str, str | None], **more: Any) -> Summary:
    moments = {k: _moment(v, why=None if v else "no comment names one of its runs") for k, v in times.items()}
    return {"incident_id": incident, "class": name, "times": moments, "mttr_limit_s": 1800.0} | more


def _shown(time: str, level: str | None, text: str, *, hit: bool = True) -> Summary:
    return {"ts": f"2026-02-26T{time}Z", "level": level, "text": text, "hit": hit}


@cache
def _postmortem() -> Summary:
    day = daily()
    cache_times = {
        "first_error": "09:06:11.6",
        "threshold_crossed": "09:14:03.1",
        "alert_firing": "09:08:30",
        "first_mention": None,
        "mitigation": "09:29:00",
        "last_error": "09:31:09",
        "first_success": "09:33:53",
        "stable_since": "09:33:53",
    }
    ref_times = cache_times | {"first_error": "10:52:06.6", "last_error": "11:58:42", "first_success": "12:05:31"}
    story = [
        ("09:06:12", "cache", "First failure, `build`", 1, "`attempts`"),
        (
            "09:14:03",
            "cache",
            "Threshold of AI_SLOT_BUILD_MANIFEST_UNKNOWN_PERSISTENT reached, nothing fired",
            1,
            "replay",
        ),
        ("09:20:00", None, "First mention in #205", 1, "comment by a person"),
        ("09:31:09", "cache", "Failed attempts, `build`", 14, "`attempts`"),
    ]
    return {
        "report": "postmortem",
        "lang": "en",
        "issue": 205,
        "window": ["2026-02-26T08:36:00Z", "2026-02-26T12:36:00Z"],
        "made_at": "2026-02-26T13:00:00Z",
        "state": "provisional",
        "confirmed_at": "2026-02-27T12:05:31Z",
        "revision": 3,
        "impact": {
            "runs_hit": 11,
            "runs": 33,
            "issues": [205, 211, 214, 216, 218, 219, 221, 222],
            "failed_attempts": 23,
            "build_s": 2640.0,
            "retries": 1,
            "budget_used_ratio": 1.75,
            "budget_window": "7d",
        },
        "key_times": [
            _case(
                "cache", "i-84c76b3ea6", cache_times, detection_delay_s=138.0, mttr_s=1661.0, failed_attempts=14, runs=6
            )
            | {"page": "missed"},
            _case(
                "build-ref",
                "i-71eea9aa66",
                ref_times,
                detection_delay_s=127.0,
                mttr_s=4405.0,
                failed_attempts=9,
                runs=5,
            )
            | {"page": "matched"},
        ],
        "timeline": [
            {"at": f"2026-02-26T{at}Z", "class": c, "what": what, "times": n, "source": source}
            for at, c, what, n, source in story
        ],
        "excerpts": [
            {"signature": "manifest-unknown", "app": "codex-k8s-control-plane", "lines": 28}
            | {"first": "2026-02-26T09:06:12.004Z", "last": "2026-02-26T09:31:09Z"}
            | {
                "shown": [
                    _shown("09:06:11.9", "INFO", "start kaniko job", hit=False),
                    _shown("09:06:12.004", "ERROR", _FIRST),
                    _shown("09:31:09", "ERROR", _FIRST),
                ]
            },
            {"signature": "build-ref", "app": "codex-k8s-codegen-check", "lines": 27}
            | {"first": "2026-02-26T10:52:06.102Z", "last": "2026-02-26T11:58:42Z"}
            | {"shown": [_shown("10:52:06.102", None, _NO_REF)]},
        ],
        "todo": [
            "Load and route AI_SLOT_BUILD_MANIFEST_UNKNOWN_PERSISTENT: its threshold was reached at 09:14:03, nothing fired.",
            {"what": "Keep CODEXK8S_BUILD_REF a git ref without flags.", "how": "It held `-b feature/x`."}
            | {"doc": {"name": "Runbook", "url": "https://example.com/docs/runbook.md"}},
        ],
        **{k: day[k] for k in ("data", "golden", "failures", "incidents", "alert_audit", "slo", "inputs", "versions")},
    }
