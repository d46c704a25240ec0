"""What was refused, in the log: enough to find out who sends it, and never enough to fill the disk."""

from __future__ import annotations

import logging
import threading

from gateway.clock import Clock
from gateway.errors import GatewayError

LINES_A_MINUTE = 20

log = logging.getLogger(__name__)


class RejectionLog:
    """One line for each rejected command, at most LINES_A_MINUTE of them in a minute; the rest is counted."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._minute = 0
        self._lines = 0
        self._left_out = 0

    def rejected(self, *, verb: str, cmd_id: str | None, who: str, error: GatewayError) -> None:
        """Note a refusal."""
        with self._lock:
            self._begin_minute(int(self._clock.monotonic() // 60))
            self._lines += 1
            if self._lines > LINES_A_MINUTE:
                self._left_out += 1
                return
        what = f"command {verb or '?'} {cmd_id or 'without an id'} by {who}"
        sentence = f"{error.message}. {error.advice}"
        fields = {"CODE": error.code}
        log.warning("%s: rejected %s: %s", what, error.code, sentence, extra={"fields": fields})

    def _begin_minute(self, minute: int) -> None:
        if minute == self._minute:
            return
        if self._left_out:
            log.warning("%d more commands were rejected in the last minute of them", self._left_out)
        self._minute, self._lines, self._left_out = minute, 0, 0
