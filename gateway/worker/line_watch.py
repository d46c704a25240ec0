"""Is the line there? Known before a meter needs it, and soon after it is back.

A line that is lost is looked for every second by its path, which costs next to nothing, and opened as soon as it can
be: the back-off of jobs is for lines that nobody can look for. One that is there and idle is looked at now and then, so
that an operator hears of a missing adapter before a campaign does.
"""

from __future__ import annotations

import math
import os

from gateway.clock import Clock
from gateway.model import AlarmKind, PortSettings
from gateway.store import Store

IDLE_LOOK_S = 10.0
LOST_LOOK_S = 1.0
LONGEST_LOOK_S = 60.0
SETTLED_S = 60.0
"""A line that is lost again sooner has a loose contact: each time it is looked for half as often, or its coming and
going would fill the outbox with alarms."""


class LineWatch:
    """Of one port. It raises and ends the alarm `port-lost`; whoever uses the line says what he met."""

    def __init__(self, settings: PortSettings, *, store: Store, clock: Clock) -> None:
        self._settings = settings
        self._store = store
        self._clock = clock
        self._by_path = settings.device.startswith("/")
        self.lost = store.alarmed(AlarmKind.PORT_LOST, settings.name)
        """Nobody can talk on it, as far as is known."""
        self._told = False
        """This process has found it so."""
        self.look_at_s = clock.monotonic() if self._by_path else math.inf
        """When to look next; never where only a meter that is asked can show that it is there."""
        self._look_s = LOST_LOOK_S
        self._back_at_s = -math.inf

    def missing(self) -> str:
        """Why the line cannot be had, as far as a look at its path shows; nothing: it may be there."""
        self._look_in(self._look_s if self.lost else IDLE_LOOK_S)
        return f"{self._settings.device} is not there" if self._absent() else ""

    def gone(self, why: str) -> None:
        """The line could not be had, or was lost."""
        now_s = self._clock.monotonic()
        if self.lost and self._told and self._absent():
            return  # in whatever words that shows
        if not self.lost:
            loose = now_s - self._back_at_s < SETTLED_S
            self._look_s = min(self._look_s * 2, LONGEST_LOOK_S) if loose else LOST_LOOK_S
            self._look_in(self._look_s)
        self.lost = self._told = True
        self._store.raise_alarm(AlarmKind.PORT_LOST, why, port=self._settings.name)

    def back(self) -> None:
        """The line was opened, or something came over it."""
        if self.lost:
            self._back_at_s = self._clock.monotonic()
        self.lost = False
        self._store.end_alarm(AlarmKind.PORT_LOST, port=self._settings.name)

    def _look_in(self, delay_s: float) -> None:
        if self._by_path:
            self.look_at_s = self._clock.monotonic() + delay_s

    def _absent(self) -> bool:
        # Path.exists raises where one may not look.
        return self._by_path and not os.path.exists(self._settings.device)  # noqa: PTH110
