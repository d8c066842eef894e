"""Holds requests and answers against GitHub's OpenAPI description, and makes the least answer that it allows."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema

# what GitHub's documentation says of every operation, whether it is described there or not
_ALWAYS = {"301", "302", "304", "307", "401", "403", "404", "410", "429", "500", "502", "503"}
_DESCRIBED: Mapping[str, Any] = json.loads((Path(__file__).parent / "github.json").read_text(encoding="utf-8"))


class UndescribedError(AssertionError):
    """A request or an answer that GitHub's description does not allow."""


def check_request(method: str, path: str, query: Mapping[str, str], body: bytes) -> str:
    """Return the operation that a request is, with what it sends held against it. Raises UndescribedError."""
    name = _operation(method, path)
    operation = _DESCRIBED["operations"][name]
    for key, value in query.items():
        if key not in operation["query"]:
            raise UndescribedError(f"{name} has no parameter {key}")
        number = operation["query"][key]["type"] == "integer"
        _held(int(value) if number else value, operation["query"][key], f"{name}?{key}")
    if operation["body"] is None:
        if body:
            raise UndescribedError(f"{name} takes no body")
    else:
        _held(json.loads(body), operation["body"], name)
    return name


def check_answer(name: str, status: int, body: Any) -> None:
    """Hold an answer against its operation. Raises UndescribedError."""
    answers = _DESCRIBED["operations"][name]["answers"]
    if str(status) not in answers and str(status) not in _ALWAYS:
        raise UndescribedError(f"{name} never answers {status}")
    schema = answers.get(str(status))
    if schema is not None:
        _held(body, schema, f"{name} {status}")
    elif body is not None:
        _held(body, {"$ref": "#/schemas/basic-error"}, f"{name} {status}")


def least(schema: str) -> Any:
    """Return the least value of a schema that is named."""
    return _least({"$ref": f"#/schemas/{schema}"})


@cache
def _patterns() -> Mapping[str, re.Pattern[str]]:
    names = sorted(_DESCRIBED["operations"], key=lambda n: n.count("{"))  # what is named outright before a place for it
    return {n: re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(n))) for n in names}


def _operation(method: str, path: str) -> str:
    for name, pattern in _patterns().items():
        if pattern.fullmatch(f"{method} {path}"):
            return name
    raise UndescribedError(f"{method} {path} is not described")


@cache
def _validator(schema: str) -> jsonschema.Draft7Validator:
    return jsonschema.Draft7Validator({**json.loads(schema), "schemas": _DESCRIBED["schemas"]})


def _held(value: Any, schema: Any, where: str) -> None:
    try:
        _validator(json.dumps(schema)).validate(value)
    except jsonschema.ValidationError as e:
        raise UndescribedError(f"{where}: {e.message[:300]} at {list(e.absolute_path)}") from e


def _least(schema: Any) -> Any:
    if "$ref" in schema:
        return _least(_DESCRIBED["schemas"][schema["$ref"].rpartition("/")[2]])
    for key in ("oneOf", "anyOf"):
        if key in schema:
            return None if {"type": "null"} in schema[key] else _least(schema[key][0])
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "object")
    if kind == "object":
        return {k: _least(schema["properties"][k]) for k in schema.get("required", ())}
    return {"string": "", "integer": 0, "number": 0, "boolean": False, "array": []}[kind]
