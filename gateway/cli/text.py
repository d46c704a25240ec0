"""How things are shown to a person: tables in plain columns, sizes and durations, nothing that moves the cursor."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click

from gateway.words import counts, duration
from gateway.words import printable as safe

__all__ = ["counts", "differences", "duration", "safe", "say_json", "table"]


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


def differences(health: Sequence[Mapping[str, str | None]]) -> str:
    """Of the health checks of a meter, those that changed: `0-0:96.3.10.255:2 1 -> 0`."""
    return "; ".join(
        f"{check['object']} {check['before']} -> {check['after']}"
        for check in health
        if check["after"] not in (None, check["before"])
    )
