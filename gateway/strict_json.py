"""JSON from outside (RFC 8259), strictly: UTF-8, no name twice, no NaN, nothing deep; and held against its JSON Schema.

Two parsers that read two things out of one text are how a signature gets around a check; here there is one reading,
or SchemaError and never another exception. Pure.
"""

from __future__ import annotations

import json
from math import isfinite
from typing import TYPE_CHECKING, Any, NoReturn

from gateway.errors import SchemaError

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import ValidationError

_DEPTH_LIMIT = 16
_LITERAL_LIMIT = 40
"""Characters of a number; a longer one is nobody's size or count."""
_MAY_BE_SECRET = frozenset({"url"})
"""The query of a pre-signed URL is a password: what stands there is not repeated."""
_SHOWN = 160
"""Characters of a complaint that are worth sending back; the document itself may be 64 KiB."""


def read_json(raw: bytes, what: str, *, limit_bytes: int) -> Any:
    """The JSON value in `raw`, at most `limit_bytes` octets; `what` names it in complaints, as in "command". Raises
    SchemaError."""
    if len(raw) > limit_bytes:
        raise SchemaError(f"a {what} has at most {limit_bytes} octets, this one {len(raw)}")
    try:
        document = json.loads(
            raw.decode(),
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_float=_float,
            parse_int=_int,
        )
        _check_depth(document, _DEPTH_LIMIT)
        json.dumps(document, ensure_ascii=False).encode()  # half a surrogate pair cannot be stored or sent
    except RecursionError:
        raise SchemaError(f"the {what} is nested deeper than {_DEPTH_LIMIT} levels") from None
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        raise SchemaError(f"the {what} is not UTF-8: {error.reason}") from None
    except ValueError as error:
        raise SchemaError(f"the {what} is no JSON document: {error}") from None
    return document


def hold(validator: Draft202012Validator, document: Any, root: str) -> None:
    """Raises SchemaError, in words and with the path from `root`, unless `document` is by the schema."""
    from jsonschema.exceptions import best_match

    error = best_match(validator.iter_errors(document))
    if error is None:
        return
    path = ".".join(filter(None, [root, *map(str, error.absolute_path)]))
    secret = error.validator != "required" and bool(
        _MAY_BE_SECRET.intersection(map(str, error.absolute_path))
    )
    message = f"found what does not fit, expected {_rule(error)}" if secret else _in_words(error)
    raise SchemaError(f"{path}: {message}" if path else message)


def _rule(error: ValidationError) -> str:
    return f"{error.validator} {_shown(error.validator_value)}"


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


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return names


def _constant(literal: str) -> NoReturn:
    raise ValueError(f"{literal} is no JSON value")


def _float(literal: str) -> float:
    if len(literal) > _LITERAL_LIMIT or not isfinite(value := float(literal)):
        raise ValueError("a number is too long or too big")
    return value


def _int(literal: str) -> int:
    if len(literal) > _LITERAL_LIMIT:
        raise ValueError("a number is too long")
    return int(literal)


def _check_depth(value: Any, left: int) -> None:
    if isinstance(value, dict | list):
        if not left:
            raise ValueError(f"nested deeper than {_DEPTH_LIMIT} levels")
        for inner in value.values() if isinstance(value, dict) else value:
            _check_depth(inner, left - 1)
