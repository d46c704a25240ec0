"""The documentation as its readers have it: pages, their headings, their blocks of code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "SECURITY.md")),
    *sorted((ROOT / "docs").glob("*.md")),
)
NO_TEST = "<!-- not run by the tests -->"
"""Stands before a block that cannot be tried, and is seen by nobody who reads the page."""


@dataclass(frozen=True)
class Block:
    """A fenced block: where it begins, the language that it names, its text."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(*languages: str) -> Iterator[Block]:
    """The blocks of all pages that name one of these languages, but those that are marked as not tried."""
    for page in PAGES:
        yield from (block for block in _blocks(page) if block.language in languages)


def _blocks(page: Path) -> Iterator[Block]:
    lines = page.read_text("utf-8").splitlines()
    opened: tuple[int, str, str] | None = None
    for number, line in enumerate(lines):
        fence = re.fullmatch(r"( *)```(\w*)", line)
        if fence and opened is None:
            opened = number, fence[1], fence[2]
        elif fence and opened is not None:
            first, indent, language = opened
            text = "".join(line.removeprefix(indent) + "\n" for line in lines[first + 1 : number])
            if lines[first - 1].strip() != NO_TEST:
                yield Block(page.name, first + 1, language, text)
            opened = None


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return re.sub(r"^( *)```.*?^ *```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Where a link into this page can lead: its headings, as GitHub names them, and what it names itself."""
    taken: dict[str, int] = {}
    found = set(re.findall(r'<a (?:id|name)="([^"]+)"', page.read_text("utf-8")))
    for heading in re.findall(r"^#+ +(.+?) *$", prose(page), re.MULTILINE):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        count = taken[name] = taken.get(name, -1) + 1
        found.add(f"{name}-{count}" if count else name)
    return found
