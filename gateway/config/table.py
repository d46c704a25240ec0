"""A table of the configuration that is read key by key, and that remembers every mistake.

Each value knows the file it came from, because `conf.d` merges several into one tree. Reading never stops at a
mistake: it notes it, goes on with the default, and `Mistakes` holds them all at the end.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from gateway.config.values import Kind

T = TypeVar("T")

_CREDENTIALS = re.compile(r"\A([A-Za-z0-9+.-]*://)?.*@", re.DOTALL)
"""What stands before the host in a URL, with its scheme or without."""


@dataclass(frozen=True, slots=True)
class Node:
    """A value and the file that gave it; tables and lists hold Nodes."""

    value: Any
    file: Path

    def plain(self) -> Any:
        """The value as TOML gave it."""
        match self.value:
            case dict():
                return {key: node.plain() for key, node in self.value.items()}
            case list():
                return [node.plain() for node in self.value]
            case _:
                return self.value


def annotate(value: Any, file: Path) -> Node:
    """A parsed TOML value as a tree of Nodes."""
    match value:
        case dict():
            return Node({key: annotate(inner, file) for key, inner in value.items()}, file)
        case list():
            return Node([annotate(inner, file) for inner in value], file)
        case _:
            return Node(value, file)


def merge(first: Node, second: Node) -> Node:
    """Tables merge, lists append, of anything else the later file's value holds."""
    match first.value, second.value:
        case dict() as old, dict() as new:
            both = {key: merge(old[key], node) if key in old else node for key, node in new.items()}
            return Node({**old, **both}, first.file)
        case list() as old, list() as new:
            return Node(old + new, second.file)
        case _:
            return second


@dataclass(slots=True)
class Mistakes:
    """All that is wrong, one line each, in the order it was found."""

    lines: list[str] = field(default_factory=list)

    def add(self, file: Path, path: str, found: str, expected: str) -> None:
        place = f"{file}: {path}" if path else str(file)
        self.lines.append(f"{place}: found {found}, expected {expected}")


class Table:
    """One table being read. `secret` tables never show a value in a mistake (invariant 13)."""

    def __init__(self, node: Node, path: str, mistakes: Mistakes, *, secret: bool = False) -> None:
        self.file = node.file
        self.path = path
        self._mistakes = mistakes
        self._secret = secret
        self._known: set[str] = set()
        self._noted: set[str] = set()
        self._nodes: dict[str, Node] = {}
        if isinstance(node.value, dict):
            self._nodes = node.value
        else:
            self._note(node, "", "a table")

    def __contains__(self, key: str) -> bool:
        return key in self._nodes

    def read(self, key: str, kind: Kind[T], default: T, about: str = "", *, required: bool = False) -> T:
        """The value of `key`; `default` where it is missing or, after noting the mistake, wrong. `about` says what it
        is for, to whom reads the manual (docs/tools/configuration.py)."""
        self._known.add(key)
        node = self._nodes.get(key)
        if node is None:
            if required:
                self.wrong(key, kind.expected)
            return default
        plain = node.plain()
        if kind.later(plain):
            self._note(node, key, kind.expected, ", which is not supported yet")
            return default
        try:
            return kind.read(plain)
        except ValueError:
            self._note(node, key, kind.expected)
            return default

    def later(self, **defaults: Any) -> None:
        """Keys of the published contract that are not supported yet: only their default value is taken."""
        for key, default in defaults.items():
            self._known.add(key)
            node = self._nodes.get(key)
            if node is not None and not _same(node.plain(), default):
                expected = "no such key" if default is None else f"{_shown(default)} or no such key"
                self._note(node, key, expected, ", which is not supported yet")

    def refuse(self, why: str, *keys: str) -> None:
        """Keys that mean nothing here."""
        self._known.update(keys)
        for key in keys:
            if key in self._nodes:
                self.wrong(key, f"no such key, for {why}")

    def wrong(self, key: str, expected: str) -> None:
        """Note that the value of `key`, or its absence, does not fit the rest; once for each key."""
        self._note(self._nodes.get(key), key, expected)

    def noted(self, key: str) -> bool:
        """Whether a mistake of `key` is noted already."""
        return key in self._noted

    def table(self, key: str) -> Table:
        """The table of that name, empty where there is none."""
        self._known.add(key)
        return self._inner(self._nodes.get(key, Node({}, self.file)), self._below(key))

    def named(self, kind: Kind[str]) -> dict[str, Table]:
        """Every entry of a table of tables, by its name, which must be of that kind."""
        tables = {}
        for key, node in self._nodes.items():
            self._known.add(key)
            tables[key] = self._inner(node, self._below(key))
            try:
                kind.read(key)
            except ValueError:
                self.misnamed(key, kind.expected)
        return tables

    def misnamed(self, key: str, expected: str) -> None:
        """Note that the name of an entry is wrong, whatever it holds."""
        self._mistakes.add(self._nodes[key].file, self._below(key), f"the name {_shown(key)}", expected)

    def tables(self, key: str) -> list[Table]:
        """Every entry of a list of tables (`[[key]]`)."""
        self._known.add(key)
        node = self._nodes.get(key, Node([], self.file))
        if not isinstance(node.value, list):
            self._note(node, key, f"a list of tables, [[{key}]]")
            return []
        return [self._inner(entry, f"{self._below(key)}[{i}]") for i, entry in enumerate(node.value)]

    def finish(self) -> None:
        """Note every key that nobody asked for."""
        import difflib

        for key, node in self._nodes.items():
            if key in self._known:
                continue
            near = difflib.get_close_matches(key, self._known, n=1)
            expected = near[0] if near else "one of " + ", ".join(sorted(self._known))
            self._mistakes.add(node.file, self._below(key), "an unknown key", expected)

    def _inner(self, node: Node, path: str) -> Table:
        return Table(node, path, self._mistakes, secret=self._secret)

    def _below(self, key: str) -> str:
        shown = key if key.isprintable() and key and not set(key) & set(' ."') else json.dumps(key)
        return f"{self.path}.{shown}" if self.path else shown

    def _note(self, node: Node | None, key: str, expected: str, remark: str = "") -> None:
        if key in self._noted:
            return
        self._noted.add(key)
        path = self._below(key) if key else self.path
        if node is None:
            self._mistakes.add(self.file, path, "nothing", expected)
            return
        show = _hidden if self._secret else _shown
        self._mistakes.add(node.file, path, show(node.plain()) + remark, expected)


def _same(value: Any, other: Any) -> bool:
    return type(value) is type(other) and value == other


def _shown(value: Any) -> str:
    """As found, but for what may be a password: mistakes go into the journal."""
    match value:
        case bool() | str():
            text = json.dumps(_CREDENTIALS.sub(r"\1...@", value) if isinstance(value, str) else value)
            return text if len(text) <= 80 else text[:77] + '..."'
        case dict():
            return "a table"
        case list():
            return "[" + ", ".join(_shown(entry) for entry in value[:7]) + (", ...]" if value[7:] else "]")
        case _:
            return str(value)


def _hidden(value: Any) -> str:
    match value:
        case str():
            return f"a text of {len(value)} characters"
        case dict():
            return "a table"
        case list():
            return "a list"
        case _:
            return f"a value of type {type(value).__name__}"
