"""Time, as everything in this project takes it: from a `Clock` that it was given (invariant 10).

Time of day is for windows and for what people read; monotonic time is for time-outs.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import Protocol

EARLIEST = datetime(2026, 1, 1, tzinfo=UTC)
"""A clock that shows an earlier day is wrong, this program did not exist: a Pi without RTC wakes up in 1970. Moved on
with releases."""


class Clock(Protocol):
    """A source of time that can also wait."""

    def now(self) -> datetime:
        """Time of day, aware, in UTC."""

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""

    def wait(self, bell: threading.Event, timeout_s: float) -> bool:
        """Wait until `bell` is set, at most `timeout_s`; True if it was."""

    def sleep(self, delay_s: float) -> None:
        """Let `delay_s` pass."""


class SystemClock:
    """The clock of the machine."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def wait(self, bell: threading.Event, timeout_s: float) -> bool:
        return bell.wait(max(0.0, timeout_s))

    def sleep(self, delay_s: float) -> None:
        time.sleep(max(0.0, delay_s))
