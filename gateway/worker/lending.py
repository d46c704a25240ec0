"""The line is lent to another tool for a time: nobody here touches it until that is over, or it is given back.

By time of day over restarts, since nothing else survives one; by monotonic time within a process, so that a clock that
is set takes the line out of nobody's hands, and keeps it from nobody for ever.
"""

from __future__ import annotations

from datetime import timedelta

from gateway.clock import Clock
from gateway.errors import BusyError
from gateway.model import Errand, Hold
from gateway.store import Store
from gateway.store.documents import time_text

LONGEST_S = 86400.0


class Lending:
    """Of one port."""

    def __init__(self, port: str, *, store: Store, clock: Clock) -> None:
        self._port = port
        self._store = store
        self._clock = clock
        self._hold: Hold | None = None
        self.until_s: float | None = None
        """When the line comes back, monotonic; None: it is not lent."""
        self.look()

    def look(self) -> None:
        """What the Store says: it may have been given back, or lent by an earlier process."""
        hold = self._store.hold(self._port)
        if hold is None:
            self.until_s = None
        elif hold != self._hold:
            left_s = (hold.until - self._clock.now()).total_seconds()
            self.until_s = self._clock.monotonic() + min(max(0.0, left_s), LONGEST_S)
        self._hold = hold

    def lend(self, errand: Errand) -> Hold:
        """From now on, for as long as `errand` says."""
        hold = Hold(self._port, self._clock.now() + timedelta(seconds=errand.args["for_s"]), errand.who)
        self._store.begin_hold(hold)
        self.look()
        return hold

    def sentence(self) -> str:
        assert self._hold is not None
        return f"port {self._port} is lent until {time_text(self._hold.until)}"

    def refuse(self) -> None:
        """Raises BusyError while the line is lent."""
        if self._hold is not None:
            raise BusyError(self.sentence())

    def end(self) -> None:
        """The time is over."""
        self._store.end_hold(self._port, "its time is over")
        self._hold = self.until_s = None
