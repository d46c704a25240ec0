"""The arguments of what is ordered about lines, which have passed their schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.config.values import duration
from gateway.errors import SchemaError

MOST_ADDRESSES = 4096
"""Of one scan: more than half an hour of nothing else on the line."""


def seconds(args: Mapping[str, Any], name: str, shortest: str, longest: str, default: str = "") -> float:
    """A duration within its limits. Raises SchemaError."""
    found, kind = args.get(name, default), duration(shortest, longest)
    try:
        return kind.read(found)
    except ValueError:
        raise SchemaError(f"args.{name}: found {found!r}, expected {kind.expected}") from None


def scan_args(args: Mapping[str, Any]) -> dict[str, Any]:
    """`port.scan` with everything said. Raises SchemaError."""
    octets = args.get("address_bytes", 0)
    whole = {
        "from": args.get("from", 1),
        "to": args.get("to", 127),
        "logical": args.get("logical", [1]),
        "address_bytes": octets,
        "timeout_s": seconds(args, "timeout", "50ms", "10s", "500ms"),
    }
    count = (whole["to"] - whole["from"] + 1) * (1 if octets == 1 else len(whole["logical"]))
    if not 0 < count <= MOST_ADDRESSES:
        raise SchemaError(f"args: found {max(count, 0)} addresses, expected 1 to {MOST_ADDRESSES}")
    highest = whole["to"] if octets == 1 else max(whole["to"], *whole["logical"])
    if octets in (1, 2) and highest > 127:
        raise SchemaError(f"args.address_bytes: {octets} octets reach to 127, found {highest}")
    return whole
