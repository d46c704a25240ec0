"""How things are shown to a person: tables in plain columns, sizes and durations, nothing that moves the cursor."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click


def safe(value: object) -> str:
    """Text from outside with its control characters escaped (invariant 13)."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(value))


def table(rows: Sequence[Sequence[object]], *, head: Sequence[str] = (), indent: str = "") -> str:
    """Columns of equal width, left-aligned; empty for no rows."""
    if not rows:
        return ""
    lines = [[safe(cell) for cell in row] for row in ([head] if head else []) + list(rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        indent + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def say_json(document: Mapping[str, Any]) -> None:
    """One JSON document on one line."""
    click.echo(json.dumps(document, ensure_ascii=False))


def duration(seconds: float) -> str:
    """`45 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`; what is 0 is left out."""
    whole = max(0, round(seconds))
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if whole < 60:
        return f"{whole} s"
    if hours == 0:
        parts = ((minutes, "min"), (whole % 60, "s"))
    elif days == 0:
        parts = ((hours, "h"), (minutes % 60, "min"))
    else:
        parts = ((days, "d"), (hours % 24, "h"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number)


def counts(of: Mapping[str, int]) -> str:
    """`2 updated, 1 failed`."""
    return ", ".join(f"{count} {safe(name)}" for name, count in of.items() if count) or "none"


def differences(health: Sequence[Mapping[str, str | None]]) -> str:
    """Of the health checks of a meter, those that changed: `0-0:96.3.10.255:2 1 -> 0`."""
    return "; ".join(
        f"{check['object']} {check['before']} -> {check['after']}"
        for check in health
        if check["after"] not in (None, check["before"])
    )
