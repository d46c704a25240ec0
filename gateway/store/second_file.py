"""Numbers that may never go back, in a file beside the database: what it says holds where the database is lost, and the
other way round (invariant 7). Replaced as a whole, synced, and checked when it is read.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path

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
        """Durable before return (rename(2), fsync(2)). Raises StoreError: the old ones stand."""
        document = {"v": 1, self._name: dict(numbers), "sha256": _digest(numbers)}
        temporary = self._path.with_name(self._path.name + ".new")
        try:
            with temporary.open("wb") as file:
                file.write(json.dumps(document).encode())
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
            sync_directory(self._path.parent)
        except OSError as error:
            raise self._trouble("written", error) from error

    def _trouble(self, done: str, error: OSError) -> StoreError:
        return StoreError(f"{self._path} cannot be {done}: {error.strerror}", detail=f"errno {error.errno}")


def sync_directory(path: Path) -> None:
    """Make durable which names stand in a directory (fsync(2)). Raises OSError."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _digest(numbers: Mapping[str, int]) -> str:
    return hashlib.sha256(json.dumps(dict(numbers), sort_keys=True).encode()).hexdigest()
