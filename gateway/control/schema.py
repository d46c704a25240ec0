"""The JSON Schemas of commands and of everything that is told, and what is wrong with a document."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from jsonschema import Draft202012Validator

from gateway.strict_json import hold


@cache
def schema(name: str) -> Mapping[str, Any]:
    """`command`, `reply`, `campaign`, `job`, `event` or `alarm`."""
    document: dict[str, Any] = json.loads(
        files("gateway.control").joinpath(f"schemas/{name}.json").read_text("utf-8")
    )
    return document


def check_envelope(document: Any) -> None:
    """Raises SchemaError unless `document` is a command, whatever its verb and arguments."""
    hold(_command(None), document, "")


def check_args(verb: str, args: Any) -> None:
    """Raises SchemaError unless `args` are those of `verb`."""
    hold(_command(verb), args, "args")


@cache
def _command(verb: str | None) -> Draft202012Validator:
    whole = schema("command")
    if verb is None:
        return Draft202012Validator(whole)
    return Draft202012Validator({"$ref": f"#/$defs/{verb}", "$defs": whole["$defs"]})
