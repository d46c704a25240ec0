"""What threads tell each other besides the Store: latest values that may be lost, and bells.

The Store holds every fact that must survive. The Board holds what is only worth seeing while it is fresh:
progress of a transfer, signs of life, the figures of a port, what goes over a line while somebody watches it. A bell
says "look at the Store again", never what to do.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from itertools import islice
from typing import Any, NamedTuple

UPLINK = "uplink"
SUPPLIER = "supplier"
CONTROL = "control"
CONDUCTOR = "conductor"
PAGE = "page"


def port_actor(port_name: str) -> str:
    """The actor name of the worker of one port, as used for bells and signs of life."""
    return f"port:{port_name}"


class Recorded(NamedTuple):
    """What a line carried, or what became of it."""

    at_s: float
    """Time of day, seconds since 1970."""
    outward: bool
    octets: bytes = b""
    note: str = ""
    """In place of octets."""
    anew: bool = False
    """The line was opened or lost: nothing that was under way goes on."""


class Recording:
    """What went over one line lately, for whoever watches it. Nothing is kept while nobody does, and never more than
    `LIMIT_OCTETS` in `LIMIT_ENTRIES`: the oldest is lost first. Thread-safe; the line never waits for who watches."""

    LIMIT_OCTETS = 1 << 20
    LIMIT_ENTRIES = 8192

    def __init__(self) -> None:
        self.wanted = False
        """Somebody watches: looked at before each write and after each read, at no cost."""
        self._lock = threading.Lock()
        self._entries: deque[Recorded] = deque()
        self._octets = 0
        self._next = 0

    def add(self, entry: Recorded) -> None:
        """Keep it; make room where it takes any."""
        with self._lock:
            self._entries.append(entry)
            self._octets += len(entry.octets)
            self._next += 1
            while len(self._entries) > self.LIMIT_ENTRIES or self._octets > self.LIMIT_OCTETS:
                self._octets -= len(self._entries.popleft().octets)

    def after(self, place: int, entries: int, octets: int) -> tuple[list[Recorded], int, int]:
        """From `place` on, at most so many entries, and not many more octets; where it goes on; and how many entries
        were lost before them."""
        with self._lock:
            first = self._next - len(self._entries)
            start = max(place, first)
            found: list[Recorded] = []
            for entry in islice(self._entries, start - first, start - first + entries):
                found.append(entry)
                octets -= len(entry.octets)
                if octets <= 0:
                    break
            return found, start + len(found), start - min(place, start)

    def begin(self) -> int:
        """Somebody watches from now on: the place to begin at."""
        with self._lock:
            self.wanted = True
            return self._next

    def end(self) -> None:
        """Nobody watches any more."""
        with self._lock:
            self.wanted = False
            self._entries.clear()
            self._octets = 0


class Board:
    """Thread-safe latest values, each replaced by the next of the same key. Bounded by the number of keys:
    actors, ports and jobs that are under way."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[tuple[str, ...], Mapping[str, Any]] = {}
        self._lives: dict[str, float] = {}
        self._bells: dict[str, threading.Event] = {}
        self._recordings: dict[str, Recording] = {}

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

    def recording(self, port_name: str) -> Recording:
        """The recording of a line, made on first use."""
        with self._lock:
            return self._recordings.setdefault(port_name, Recording())
