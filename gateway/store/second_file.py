"""Numbers that may never go back, in a file beside the database: what it says holds where the database is lost, and the
other way round (invariant 7). Replaced as a whole, synced, and checked when it is read.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path

from gateway.durable import replace_durably
from gateway.errors import StoreError

log = logging.getLogger(__name__)


class SecondFile:
    """`{"v": 1, NAME: {...}, "sha256": ...}` in `NAME.json`: numbers by their names."""

    def __init__(self, directory: Path, name: str) -> None:
        self._path = directory / f"{name}.json"
        self._name = name

    def read(self) -> dict[str, int] | None:
        """What it says, or None: it is not there, or damaged (then kept as `*.broken`). Raises StoreError."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._trouble("read", error) from error
        try:
            document = json.loads(content)
            numbers = {str(name): int(value) for name, value in document[self._name].items()}
            if document["v"] == 1 and document["sha256"] == _digest(numbers):
                return numbers
        except (ValueError, KeyError, TypeError, AttributeError):
            pass
        log.error("%s is damaged and was set aside; the %s of the database hold", self._path, self._name)
        self._path.replace(self._path.with_name(self._path.name + ".broken"))
        return None

    def write(self, numbers: Mapping[str, int]) -> None:
        """Durable before return. Raises StoreError: the old ones stand."""
        document = {"v": 1, self._name: dict(numbers), "sha256": _digest(numbers)}
        try:
            replace_durably(self._path, json.dumps(document).encode(), keeps_room=True)
        except OSError as error:
            raise self._trouble("written", error) from error

    def _trouble(self, done: str, error: OSError) -> StoreError:
        return StoreError(f"{self._path} cannot be {done}: {error.strerror}", detail=f"errno {error.errno}")


def _digest(numbers: Mapping[str, int]) -> str:
    return hashlib.sha256(json.dumps(dict(numbers), sort_keys=True).encode()).hexdigest()
