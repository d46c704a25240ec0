"""The arguments of what is ordered about meters, which have passed their schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.config import usual_class
from gateway.errors import AuthError, SchemaError
from gateway.wire.apdu import Attribute, obis
from gateway.wire.hidden import is_secret


def read_args(args: Mapping[str, Any]) -> dict[str, Any]:
    """`meter.read` with everything said: `sure` is whether the class was named. Raises SchemaError, and AuthError for
    what holds a secret: by the class that such objects usually have as well, for there are meters that look at none."""
    if "object" not in args:
        if set(args) - {"meter"}:
            raise SchemaError("args.object: found none, expected one with attribute or class")
        return {}
    name, number, usual = args["object"], args.get("attribute", 2), usual_class(args["object"])
    class_id = args.get("class", usual)
    for one in (class_id, usual):
        if is_secret(Attribute(one, obis(name), number)):
            raise AuthError(f"{name}:{number} (class {one}) holds a secret, which is never read")
    return {"object": name, "attribute": number, "class": class_id, "sure": "class" in args}
