"""A line whose use shows that its worker lives."""

from __future__ import annotations

from collections.abc import Callable

from gateway.link.port import Port


class LivingPort(Port):
    """Whatever is written to it shows life. A step of a worker has many exchanges, and each of them ends in time
    whatever the meter does (`conversation.EXCHANGE_LIMIT_S`): that bound is worth watching, that of all together is
    not."""

    def __init__(self, port: Port, show_life: Callable[[], None]) -> None:
        self._port = port
        self._show_life = show_life

    def write(self, octets: bytes) -> None:
        self._show_life()
        self._port.write(octets)

    def read(self, limit: int, timeout_s: float) -> bytes:
        return self._port.read(limit, timeout_s)

    def discard(self) -> None:
        self._port.discard()

    def set_baud(self, baud: int) -> int:
        return self._port.set_baud(baud)

    def close(self) -> None:
        self._port.close()
