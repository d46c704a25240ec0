"""Every key that the configuration may have, as the sections declare it where they read it.

Nothing is kept beside them: a configuration with one of everything is read, and what is asked for is noted. For the
manual (docs/tools/configuration.py), and for whoever must know which keys are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from gateway.config.sections import build
from gateway.config.table import Mistakes, Node, Table, annotate
from gateway.config.values import Kind

T = TypeVar("T")

SETTINGS: Mapping[str, Any] = {
    "ports": [
        {"name": "rs485", "kind": "rs485"},
        {"name": "optical", "kind": "optical"},
        {"name": "wrapper", "kind": "tcp"},
    ],
    "meters": [{"port": "rs485"}, {"port": "optical"}, {"port": "wrapper"}],
    "profiles": {"NAME": {"match": {}}},
    "windows": {"NAME": {}},
}
"""One of everything that asks for other keys than its neighbours."""
KEYS: Mapping[str, Any] = {"meters": {"ID": {}}}


@dataclass(slots=True)
class Declared:
    """A key, in all that it was asked for as. What is true of some lines only is given by their kind (of meters: by
    their line, "rs485", "optical" or "wrapper"); "" where there are no kinds."""

    table: str
    """`gateway`, `ports`, `profiles.NAME.match`; of keys.toml `keys.toml meters.ID`."""
    key: str
    about: str
    kinds: dict[str, Kind[Any]] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)
    required: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    """Where it means nothing."""


def declared() -> tuple[Declared, ...]:
    """Every key, in the order in which it is read."""
    found: dict[tuple[str, str], Declared] = {}
    mistakes = Mistakes()
    nowhere = Path()
    settings = _Noting(annotate(SETTINGS, nowhere), "", mistakes, into=found)
    secrets = _Noting(annotate(KEYS, nowhere), "", mistakes, into=found, under="keys.toml ")
    build(settings, secrets, mistakes)
    return tuple(found.values())


class _Noting(Table):
    """A table that notes what it is asked for. The whole has every section."""

    def __init__(
        self,
        node: Node,
        path: str,
        mistakes: Mistakes,
        *,
        into: dict[tuple[str, str], Declared],
        under: str = "",
        secret: bool = False,
    ) -> None:
        super().__init__(node, path, mistakes, secret=secret)
        self._into = into
        self._under = under
        name, bracket, _ = path.partition("[")
        self._name = under + name
        own = node.value if isinstance(node.value, dict) else {}
        line = own.get("port") or own.get("kind") if bracket else None
        self._line = str(line.value) if line else ""

    def __contains__(self, key: str) -> bool:
        return self.path == "" or super().__contains__(key)

    def read(self, key: str, kind: Kind[T], default: T, about: str = "", *, required: bool = False) -> T:
        noted = self._noted_key(key, about)
        noted.kinds[self._line] = kind
        noted.defaults[self._line] = default
        if required:
            noted.required.add(self._line)
        return super().read(key, kind, default, about, required=required)

    def refuse(self, why: str, *keys: str) -> None:
        for key in keys:
            self._noted_key(key, "").refused.add(self._line)
        super().refuse(why, *keys)

    def _noted_key(self, key: str, about: str) -> Declared:
        noted = self._into.setdefault((self._name, key), Declared(self._name, key, about))
        noted.about = noted.about or about
        return noted

    def _inner(self, node: Node, path: str) -> Table:
        return _Noting(node, path, self._mistakes, into=self._into, under=self._under)
