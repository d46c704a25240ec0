"""How long a broker is waited for, and when one that was lost is tried again: the same for every connection to one."""

from __future__ import annotations

from random import Random

from gateway.clock import Clock

CONNECT_TIMEOUT_S = 15.0
ACKNOWLEDGE_TIMEOUT_S = 60.0
"""A broker that answers pings but acknowledges nothing is as good as none."""
_LONGEST_S = 60.0
_STABLE_S = 60.0
"""A connection that held this long starts the back-off afresh; one that is thrown out at once does not."""


class BackOff:
    """Full jitter: a thousand gateways do not come back to a restarted broker in the same second."""

    def __init__(self, clock: Clock, random: Random | None = None) -> None:
        self._clock = clock
        self._random = random or Random()  # noqa: S311  # spreads reconnects, keeps no secret
        self._failures = 0
        self.next_try_at = clock.monotonic()
        """Monotonic seconds."""

    def failed(self, held_s: float = 0.0) -> None:
        """There is no connection, or none any more that held for so long."""
        if held_s >= _STABLE_S:
            self._failures = 0
        delay_s = self._random.uniform(0, min(2.0 ** min(self._failures, 10), _LONGEST_S))
        self._failures += 1
        self.next_try_at = self._clock.monotonic() + delay_s
