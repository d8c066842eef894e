"""Cuts out of GitHub's OpenAPI description what publishing asks, and turns it into JSON Schema.

`npm pack @octokit/openapi`, unpack, then
`python -m tests.openapi.extract package/generated/api.github.com.json > tests/openapi/github.json`.
Descriptions, examples and formats are left out; `nullable` becomes a type.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

ISSUE = "/repos/{owner}/{repo}/issues/{issue_number}"
COMMENT = "/repos/{owner}/{repo}/issues/comments/{comment_id}"
ASKED = {
    "/user": ["get"],
    "/repos/{owner}/{repo}": ["get"],
    ISSUE: ["get"],
    f"{ISSUE}/comments": ["get", "post"],
    COMMENT: ["get", "patch", "delete"],
}
_KEPT = {
    *("type", "properties", "required", "items", "enum", "oneOf", "anyOf", "allOf", "$ref", "additionalProperties"),
    *("minimum", "maximum", "minItems", "maxItems", "maxLength", "minLength", "pattern"),
}


def main(path: Path) -> None:
    """Print the extract."""
    whole = json.loads(path.read_text(encoding="utf-8"))
    operations = {
        f"{method.upper()} {name}": _operation(whole, whole["paths"][name][method])
        for name, methods in ASKED.items()
        for method in methods
    }
    schemas: dict[str, Any] = {}
    _collect(whole, operations, schemas)
    source = f"npm @octokit/openapi {whole['info']['version']}, generated/{path.name}, MIT licence"
    print(json.dumps({"source": source, "operations": operations, "schemas": schemas}, separators=(",", ":")))  # noqa: T201


def _operation(whole: Any, found: Any) -> dict[str, Any]:
    parameters = [_followed(whole, p) for p in found.get("parameters", [])]
    return {
        "query": {p["name"]: _schema(p["schema"]) for p in parameters if p["in"] == "query"},
        "body": _content(whole, found.get("requestBody", {})),
        "answers": {status: _content(whole, answer) for status, answer in found["responses"].items()},
    }


def _content(whole: Any, part: Any) -> Any:
    """Return the schema of a JSON body; None where there is none."""
    content = _followed(whole, part).get("content", {}).get("application/json")
    return content and _schema(content["schema"])


def _followed(whole: Any, part: Any) -> Any:
    while "$ref" in part:
        *_, group, name = part["$ref"].split("/")
        part = whole["components"][group][name]
    return part


def _schema(found: Any) -> Any:
    if not isinstance(found, dict):
        return found
    out: dict[str, Any] = {}
    for key in _KEPT & set(found):
        value = found[key]
        if key == "properties":
            out[key] = {k: _schema(v) for k, v in sorted(value.items())}
        elif key in {"oneOf", "anyOf", "allOf"}:
            out[key] = [_schema(v) for v in value]
        elif key in {"items", "additionalProperties"}:
            out[key] = _schema(value)
        else:
            out[key] = re.sub("^#/components/", "#/", value) if key == "$ref" else value
    out = dict(sorted(out.items()))
    return {"anyOf": [out, {"type": "null"}]} if found.get("nullable") else out


def _collect(whole: Any, part: Any, schemas: dict[str, Any]) -> None:
    """Add what a part refers to, and what that refers to."""
    if isinstance(part, list):
        for p in part:
            _collect(whole, p, schemas)
    elif isinstance(part, dict):
        name = str(part.get("$ref", "")).removeprefix("#/schemas/")
        if "$ref" in part and isinstance(part["$ref"], str) and name not in schemas:
            schemas[name] = _schema(whole["components"]["schemas"][name])
            _collect(whole, schemas[name], schemas)
        for p in part.values():
            _collect(whole, p, schemas)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
