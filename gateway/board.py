"""What threads tell each other besides the Store: latest values that may be lost, and bells.

The Store holds every fact that must survive. The Board holds what is only worth seeing while it is fresh:
progress of a transfer, signs of life, the figures of a port. A bell says "look at the Store again", never what
to do.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

UPLINK = "uplink"
SUPPLIER = "supplier"
CONTROL = "control"


def port_actor(port_name: str) -> str:
    """The actor name of the worker of one port, as used for bells and signs of life."""
    return f"port:{port_name}"


class Board:
    """Thread-safe latest values, each replaced by the next of the same key. Bounded by the number of keys:
    actors, ports and jobs that are under way."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[tuple[str, ...], Mapping[str, Any]] = {}
        self._lives: dict[str, float] = {}
        self._bells: dict[str, threading.Event] = {}

    def post(self, key: tuple[str, ...], value: Mapping[str, Any]) -> None:
        """Replace the value of `key`, e.g. ("progress", campaign_id, meter_id)."""
        with self._lock:
            self._values[key] = value

    def drop(self, key: tuple[str, ...]) -> None:
        """Forget `key`."""
        with self._lock:
            self._values.pop(key, None)

    def values(self, kind: str) -> dict[tuple[str, ...], Mapping[str, Any]]:
        """All present values whose key begins with `kind`."""
        with self._lock:
            return {key: value for key, value in self._values.items() if key[0] == kind}

    def beat(self, actor: str, monotonic_s: float) -> None:
        """A sign of life of `actor`."""
        with self._lock:
            self._lives[actor] = monotonic_s

    def lives(self) -> dict[str, float]:
        """The last sign of life of each actor, monotonic seconds."""
        with self._lock:
            return dict(self._lives)

    def bell(self, actor: str) -> threading.Event:
        """The bell of `actor`, made on first use."""
        with self._lock:
            return self._bells.setdefault(actor, threading.Event())

    def ring(self, actor: str) -> None:
        """Wake `actor`: something in the Store concerns it."""
        self.bell(actor).set()
