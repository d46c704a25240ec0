"""Whoever waits for an image, for tests of the ways to its bytes."""

from __future__ import annotations

import threading
from pathlib import Path


class Watching:
    """Somebody who waits, until `stop_after` has been asked that often, or `enough` is set; what he was told."""

    def __init__(self, stop_after: int | None = None) -> None:
        self._left = stop_after
        self.enough = threading.Event()
        self.told: list[tuple[int, int, int | None]] = []

    def stop(self) -> bool:
        if self._left is not None:
            self._left -= 1
        return self.enough.is_set() or (self._left is not None and self._left < 0)

    def came(self, octets: int, done: int, total: int | None) -> None:
        self.told.append((octets, done, total))


def parts_kept(directory: Path) -> list[int]:
    """The sizes of what is kept of images that are not whole."""
    return [path.stat().st_size for path in directory.glob("*.part")]
