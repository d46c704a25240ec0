"""Virtual time: it passes only when somebody spends it."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class VirtualClock:
    """A `gateway.clock.Clock` that stands still between calls: waiting and the traffic of a virtual line move it."""

    def __init__(self, start: datetime = EPOCH) -> None:
        self._start = start
        self._passed_s = 0.0

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._passed_s)

    def monotonic(self) -> float:
        return self._passed_s

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass; a negative number lets none pass."""
        if seconds > 0.0:
            self._passed_s += seconds

    def advance_to(self, monotonic_s: float) -> None:
        """Let time pass until `monotonic_s`, if that is not past already."""
        if monotonic_s <= self._passed_s:
            return
        self._passed_s = monotonic_s

    def wait(self, bell: threading.Event, timeout_s: float) -> bool:
        """Nobody rings while time stands still: a bell that is not set yet costs all of `timeout_s`."""
        if not bell.is_set():
            self.advance(timeout_s)
        return bell.is_set()

    def sleep(self, delay_s: float) -> None:
        self.advance(delay_s)
