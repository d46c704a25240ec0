"""How things are shown to a person: tables that fit a terminal, sizes and durations, nothing that moves the cursor.

Where the output is no terminal nothing is ever cut or wrapped: a program may read it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TextIO

import click

from gateway.words import counts, duration
from gateway.words import printable as safe

__all__ = [
    "Coloured", "colour_fits", "counts", "cursor_moves", "cut", "differences", "duration", "folded", "padded", "remark",
    "safe", "say_json", "table", "terminal_size", "unicode_fits", "width", "wrapped",
]  # fmt: skip

_GAP = "  "
_LEAST_COLUMNS = 12
"""Of a column that gives way: narrower ones are no longer read, and each row becomes a paragraph."""
_LEAST_COLUMNS_CUT = 6
_COERCED = ("C.UTF-8", "C.utf8", "UTF-8")
"""What Python itself makes of the locale C (PEP 538): it says nothing of the terminal."""


class Coloured(NamedTuple):
    """A text that means good (green), soon (yellow) or hands (red) on a terminal that has colours."""

    text: str
    colour: str

    def __str__(self) -> str:
        return self.text


# -- the terminal ---------------------------------------------------------------------------------------------


def terminal_size() -> os.terminal_size | None:
    """Columns and lines of the terminal that stdout is, 80 and 24 where it does not say; None: it is none."""
    try:
        size = os.get_terminal_size(sys.stdout.fileno()) if sys.stdout.isatty() else None
    except (OSError, ValueError):
        return None
    return size and os.terminal_size((size.columns or 80, size.lines or 24))


def cursor_moves(stream: TextIO | None = None) -> bool:
    """Whether this stream, or stdout, is a terminal on which something can be drawn again in its place."""
    return (stream or sys.stdout).isatty() and os.environ.get("TERM", "") not in ("", "dumb")


def colour_fits() -> bool:
    """Whether stdout takes colours, and its user wants them (https://no-color.org)."""
    return cursor_moves() and not os.environ.get("NO_COLOR")


def unicode_fits() -> bool:
    """Whether the locale and stdout take more than ASCII."""
    names = os.environ
    coerced = names.get("LC_CTYPE", "") in _COERCED
    locale = names.get("LC_ALL") or (not coerced and names.get("LC_CTYPE")) or names.get("LANG") or ""
    return "utf" in locale.lower() and _is_utf8()


def _is_utf8() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


# -- pieces of text -------------------------------------------------------------------------------------------


def width(text: str) -> int:
    """The cells that it takes on a terminal: two for a Chinese character, none for an accent that is put on top."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def cut(text: str, columns: int) -> str:
    """Its beginning, with a mark where something is left out."""
    if width(text) <= columns:
        return text
    mark = "…" if unicode_fits() else "."
    return _beginning(text, max(0, columns - 1)) + mark[:columns]


def padded(text: str, columns: int) -> str:
    return text + " " * (columns - width(text))


def wrapped(text: str, columns: int) -> list[str]:
    """In lines of at most so many columns, at spaces where there are any."""
    lines = [""]
    for piece in text.split(" "):
        word = piece
        joined = f"{lines[-1]} {word}" if lines[-1] else word
        if width(joined) <= columns:
            lines[-1] = joined
            continue
        if lines[-1]:
            lines.append("")
        while width(word) > columns:
            lines[-1] = _beginning(word, columns) or word[0]
            word = word[len(lines[-1]) :]
            lines.append("")
        lines[-1] = word
    return lines


def folded(text: str, indent: str = "") -> list[str]:
    """The lines of a sentence from outside: as many as it takes on a terminal, one elsewhere, none for no text."""
    size = terminal_size()
    words = safe(text)
    if not words:
        return []
    return [indent + line for line in (wrapped(words, size.columns - len(indent)) if size else [words])]


def _beginning(text: str, columns: int) -> str:
    end = min(len(text), columns)
    while width(text[:end]) > columns:
        end -= 1
    while end < len(text) and width(text[: end + 1]) <= columns:
        end += 1
    return text[:end]


# -- tables ---------------------------------------------------------------------------------------------------


def table(
    rows: Sequence[Sequence[object]], *, head: Sequence[str] = (), indent: str = "", one_line: bool = False
) -> str:
    """Columns of equal width, left-aligned; empty for no rows. On a terminal no line is longer than its columns: the
    widest give way, and are wrapped, or cut for `one_line`; where too many columns are left each row is a paragraph."""
    if not rows:
        return ""
    cells = [[safe(cell) for cell in row] for row in ([head] if head else []) + list(rows)]
    widths = [max(map(width, column)) for column in zip(*cells, strict=True)]
    if size := terminal_size():
        room = size.columns - len(indent) - len(_GAP) * (len(widths) - 1)
        fitted = _fitted(widths, room, _LEAST_COLUMNS_CUT if one_line else _LEAST_COLUMNS)
        if fitted is None:
            return "\n".join(_paragraphs(head, cells[1:] if head else cells, size.columns, indent))
        widths = fitted
    colours = [
        [getattr(cell, "colour", None) for cell in row] for row in ([head] if head else []) + list(rows)
    ]
    return "\n".join(
        indent + line
        for row, painted in zip(cells, colours, strict=True)
        for line in _lines(row, painted, widths, one_line=one_line)
    )


def _fitted(widths: list[int], room: int, least: int) -> list[int] | None:
    """The widths with the widest cut down to what there is room for; None where that is not enough."""
    if sum(min(each, least) for each in widths) > room:
        return None
    most = max(widths)
    while sum(min(each, most) for each in widths) > room:
        most -= 1
    return [min(each, most) for each in widths]


def _lines(
    row: Sequence[str], colours: Sequence[str | None], widths: Sequence[int], *, one_line: bool
) -> Iterator[str]:
    """The lines of one row, as many as its longest cell takes."""
    split = [
        [cut(cell, columns)] if one_line else wrapped(cell, columns)
        for cell, columns in zip(row, widths, strict=True)
    ]
    for number in range(max(map(len, split))):
        parts = [cell[number] if number < len(cell) else "" for cell in split]
        last = max((place for place, part in enumerate(parts) if part), default=0)
        yield _GAP.join(
            _painted(part if place == last else padded(part, columns), colour)
            for place, (part, colour, columns) in enumerate(zip(parts, colours, widths, strict=True))
            if place <= last
        )


def _painted(text: str, colour: str | None) -> str:
    return click.style(text, fg=colour) if colour and text.strip() else text


def _paragraphs(
    head: Sequence[str], rows: Sequence[Sequence[str]], columns: int, indent: str
) -> Iterator[str]:
    """The first cell of each row, and beneath it the others with their names."""
    names = [f"{name} " if name else "" for name in head] or [""] * len(rows[0])
    for first, *others in rows:
        yield from (indent + line for line in wrapped(first, columns - len(indent)))
        line = ""
        for fact in (f"{name}{cell}" for name, cell in zip(names[1:], others, strict=True) if cell):
            joined = f"{line}{_GAP}{fact}" if line else fact
            if width(joined) + len(indent) + 2 > columns and line:
                yield f"{indent}  {line}"
                joined = fact
            *whole, line = wrapped(joined, columns - len(indent) - 2)
            yield from (f"{indent}  {each}" for each in whole)
        if line:
            yield f"{indent}  {line}"


def remark(text: str) -> None:
    """On stderr, as complaints are."""
    click.echo(f"meter-gateway: {safe(text)}", err=True)


def say_json(document: Mapping[str, Any]) -> None:
    """One JSON document on one line."""
    click.echo(json.dumps(document, ensure_ascii=not _is_utf8()))


def differences(health: Sequence[Mapping[str, str | None]]) -> str:
    """Of the health checks of a meter, those that changed: `0-0:96.3.10.255:2 1 -> 0`."""
    return "; ".join(
        f"{check['object']} {check['before']} -> {check['after']}"
        for check in health
        if check["after"] not in (None, check["before"])
    )
