"""View -> text: Jinja lays out what the view says. HTML is always escaped, a missing name is an error."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import markupsafe

from pipeline.report.rich import markdown
from pipeline.report.text import NBSP, harmless, md_code, md_fence, visible

_BLANK_LINES = re.compile(r"\n{3,}")


def render_markdown(view: Mapping[str, Any], templates: Path, report: str = "daily") -> str:
    """Return `report.md` of a daily report or a postmortem: text of logs and comments stands only in code."""
    env = _environment(templates, escape=False)
    env.filters["code"] = md_code
    env.filters["fence"] = _fenced
    env.filters["md"] = markdown
    text = env.get_template(f"{report}.md.j2").render(view).replace(NBSP, " ")
    return _BLANK_LINES.sub("\n\n", text).strip() + "\n"


def render_html(view: Mapping[str, Any], templates: Path, report: str = "daily") -> str:
    """Return `report.html`: one file, no script, nothing loaded from elsewhere."""
    env = _environment(templates, escape=True)
    env.filters["svg"] = markupsafe.Markup  # ours: the charts' texts are escaped where they are made
    style = markupsafe.Markup((templates / "style.css").read_text(encoding="utf-8"))  # noqa: S704 - our own file
    return env.get_template(f"{report}.html.j2").render(view, style=style)


def render_summary(summary: Mapping[str, Any]) -> str:
    """Return `summary.json` in plain ASCII, so that no text in it hides; a value that JSON does not know is an error."""
    return json.dumps(summary, indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def _fenced(block: Sequence[Mapping[str, Any]]) -> str:
    """Put lines of a log into a fence that is longer than any run of backticks in them."""
    return md_fence([f"{line['at']} {line['level']} {line['text']}" for line in block])


def _environment(templates: Path, *, escape: bool) -> jinja2.Environment:
    # not select_autoescape: it goes by the name's ending and does not cover .html.j2
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates),
        autoescape=escape,  # noqa: S701 - Markdown has an escaping of its own
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_finally,
    )
    env.filters["shown"] = visible
    env.filters["plain"] = str
    return env


def _finally(value: Any) -> Any:
    """Let no control character through, whichever way a text came: each value that is printed passes here."""
    if isinstance(value, str) and not isinstance(value, markupsafe.Markup):
        return harmless(value)
    return value
