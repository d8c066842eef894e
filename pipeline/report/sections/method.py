"""The last section: how this report was made, and how it is made again."""

from __future__ import annotations

from typing import Any

from pipeline.report.data import ReportData
from pipeline.report.rich import Rich, code, joined, say
from pipeline.report.sections.common import lake_option
from pipeline.report.text import count

_OWN = ("aislot", "queries")


def section(data: ReportData) -> dict[str, Any]:
    """Return the section: `short` (one line), `lines`, `command`."""
    command = f"aislot report daily --date {data.date}{lake_option(data)}"
    command += f" --lang {data.words.lang}" if data.words.lang != "en" else ""
    return {
        "note": "",
        "short": say(
            data.words("method_short"),
            aislot=_version(data, "aislot"),
            queries=_version(data, "queries"),
            command=code(command),
        ),
        "lines": _lines(data),
        "command": command,
    }


def _version(data: ReportData, name: str) -> Rich:
    return Rich([code(data.versions[name])]) if data.versions.get(name) else say(data.words.of("labels")["unknown"])


def _lines(data: ReportData) -> list[Rich]:
    servers = [say("{name} {version}", name=n, version=code(v)) for n, v in data.versions.items() if n not in _OWN]
    settings = [code(s) for s in data.changed_settings]
    lake = data.inputs.get("lake")
    asked = {c.what for c in data.coverage if c.configured}
    rows = {what: n for what, n in (data.inputs.get("rows") or {}).items() if what in asked}
    return [
        *([say(data.words("method_lake"), lake=code(lake))] if lake else []),
        *([joined(servers, ", ")] if servers else []),
        say(
            data.words("method_rows"),
            rows=joined([say("{what} {n}", what=code(w), n=count(n)) for w, n in rows.items()], ", "),
        )
        if rows
        else say(""),
        say(data.words("method_settings"), settings=joined(settings, ", "))
        if settings
        else say(data.words("method_no_settings")),
        say(data.words("method_text")),
    ]
