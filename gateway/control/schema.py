"""The JSON Schemas of commands and of everything that is told, and what is wrong with a document."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match

from gateway.errors import SchemaError

_SHOWN = 160
"""Characters of a complaint that are worth sending back; the document itself may be 64 KiB."""


@cache
def schema(name: str) -> Mapping[str, Any]:
    """`command`, `reply`, `campaign`, `job`, `event` or `alarm`."""
    document: dict[str, Any] = json.loads(
        files("gateway.control").joinpath(f"schemas/{name}.json").read_text("utf-8")
    )
    return document


def check_envelope(document: Any) -> None:
    """Raises SchemaError unless `document` is a command, whatever its verb and arguments."""
    _raise_first(_command(None), document, "")


def check_args(verb: str, args: Any) -> None:
    """Raises SchemaError unless `args` are those of `verb`."""
    _raise_first(_command(verb), args, "args")


@cache
def _command(verb: str | None) -> Draft202012Validator:
    whole = schema("command")
    if verb is None:
        return Draft202012Validator(whole)
    return Draft202012Validator({"$ref": f"#/$defs/{verb}", "$defs": whole["$defs"]})


def _raise_first(validator: Draft202012Validator, document: Any, root: str) -> None:
    error = best_match(validator.iter_errors(document))
    if error is None:
        return
    path = ".".join(filter(None, [root, *map(str, error.absolute_path)]))
    message = _in_words(error)
    raise SchemaError(f"{path}: {message}" if path else message)


def _in_words(error: ValidationError) -> str:
    """What was found and what is expected, for somebody who does not read regular expressions."""
    expected = error.schema.get("description") if isinstance(error.schema, dict) else None
    rule: Any = error.validator_value
    found: Any = error.instance
    match error.validator:
        case "required":
            missing = [name for name in rule if name not in found]
            return f"found no {' and no '.join(map(repr, missing))}, expected one"
        case "pattern" if expected:
            return f"found {_shown(found)}, expected {expected[:1].lower()}{expected[1:].rstrip('.')}"
        case "enum":
            return f"found {_shown(found)}, expected one of {', '.join(map(str, rule))}"
        case _:
            return _cut(error.message)


def _shown(value: Any) -> str:
    return _cut(json.dumps(value))


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
