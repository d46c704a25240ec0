"""Whether the serial adapters are there: known before a campaign needs them."""

from __future__ import annotations

import logging
import os

from gateway.board import Board, port_actor
from gateway.clock import Clock
from gateway.errors import Code
from gateway.model import Config, PortKind
from gateway.store.documents import time_text

LOST_ALARM = ("alarm", "port_lost")
"""On the Board while an adapter is missing: message, ports, at."""

log = logging.getLogger(__name__)


class Devices:
    """Tells each adapter that is missing once, and that it is back."""

    def __init__(self, board: Board, clock: Clock) -> None:
        self._board = board
        self._clock = clock
        self._missing: dict[str, str] = {}
        """Device by port."""

    def look(self, config: Config) -> None:
        """Compare what is there with what the configuration names."""
        missing = {
            port.name: port.device
            for port in config.ports
            if port.kind is not PortKind.TCP and "://" not in port.device and not os.path.exists(port.device)  # noqa: PTH110 (Path.exists raises where one may not look)
        }
        if missing == self._missing:
            return
        named = {port.name for port in config.ports}
        for port, device in missing.items() - self._missing.items():
            _tell(logging.WARNING, port, f"{device} is not there")
        for port in (self._missing.keys() & named) - missing.keys():
            _tell(logging.INFO, port, f"{self._missing[port]} is there again")
            self._board.ring(port_actor(port))
        self._missing = missing
        if not missing:
            self._board.drop(LOST_ALARM)
            return
        message = ", ".join(f"{port}: {device} is not there" for port, device in missing.items())
        at = time_text(self._clock.now())
        self._board.post(LOST_ALARM, {"message": message, "ports": list(missing), "at": at})


def _tell(level: int, port: str, what: str) -> None:
    log.log(level, "port %s: %s", port, what, extra={"fields": {"PORT": port, "CODE": Code.T_PORT}})
