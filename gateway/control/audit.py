"""What was refused, in the log: enough to find out who sends it, and never enough to fill the disk."""

from __future__ import annotations

import logging
import threading

from gateway.clock import Clock
from gateway.errors import GatewayError

LINES_AN_HOUR = 60
"""Some 15 KiB: somebody who sends nonsense for weeks gets less than half a MiB a day."""

log = logging.getLogger(__name__)


class RejectionLog:
    """One line for each rejected command, at most LINES_AN_HOUR of them in an hour; the rest is counted."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._hour = 0
        self._lines = 0
        self._left_out = 0

    def rejected(self, *, verb: str, cmd_id: str | None, who: str, error: GatewayError) -> None:
        """Note a refusal."""
        with self._lock:
            self._begin_hour(int(self._clock.monotonic() // 3600))
            self._lines += 1
            if self._lines > LINES_AN_HOUR:
                self._left_out += 1
                return
        what = f"command {verb or '?'} {cmd_id or 'without an id'} by {who}"
        sentence = f"{error.message}. {error.advice}"
        fields = {"CODE": error.code}
        log.warning("%s: rejected %s: %s", what, error.code, sentence, extra={"fields": fields})

    def _begin_hour(self, hour: int) -> None:
        if hour == self._hour:
            return
        if self._left_out:
            log.warning("%d more commands were rejected in the last hour of them", self._left_out)
        self._hour, self._lines, self._left_out = hour, 0, 0
