"""A serial line behind a device server that speaks RFC 2217, through pyserial: `device = "rfc2217://host:port"`."""

from __future__ import annotations

import contextlib
import queue
import socket
import time
from collections import deque

import serial

from gateway.errors import PortError
from gateway.model import Parity, PortSettings

DEAD_AFTER_MS = 20_000
KEPT_OCTETS = 64 * 1024
"""Of what comes while nobody reads, the latest are kept, as a driver does with some kilobytes."""
_SLICE_S = 0.02
"""pyserial sends all settings over the network again when its time-out is changed: so it stays, and a longer wait is
made of several."""
_PARITY = {Parity.NONE: serial.PARITY_NONE, Parity.EVEN: serial.PARITY_EVEN, Parity.ODD: serial.PARITY_ODD}


def notice_death(connection: socket.socket) -> None:
    """A device server that lost its power says nothing: without this, writing to it fails after a quarter of an hour
    only (tcp(7))."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_AFTER_MS)


class _Latest(queue.Queue[bytes | None]):
    """Forgets what is oldest. pyserial's own queue, an octet each entry, keeps whatever others say on a line while this
    gateway has nothing to say there."""

    def _init(self, maxsize: int) -> None:
        self.queue = deque(maxlen=KEPT_OCTETS)


class Rfc2217Port:
    """A `Port` to a serial line elsewhere. The connection is made when it is opened; one that is lost is PortError, and
    whoever opens the port again has a new one. Rate and parity are set over the network, DTR and RTS are raised."""

    def __init__(self, settings: PortSettings, baud: int) -> None:
        """Raises PortError saying why it cannot be had."""
        self._name = settings.device
        try:
            self._serial = serial.serial_for_url(
                settings.device, baud, parity=_PARITY[settings.parity], timeout=_SLICE_S
            )
        except (serial.SerialException, OSError, ValueError) as error:
            raise PortError(f"cannot open {settings.device}: {error}") from None
        # pyserial has no public way to these two.
        vars(self._serial)["_read_buffer"] = _Latest()
        with contextlib.suppress(OSError):
            notice_death(vars(self._serial)["_socket"])

    def write(self, octets: bytes) -> None:
        try:
            self._serial.write(octets)
        except (serial.SerialException, OSError) as error:
            raise PortError(f"cannot write to {self._name}: {error}") from None

    def read(self, limit: int, timeout_s: float) -> bytes:
        deadline_s = time.monotonic() + timeout_s
        try:
            while not self._serial.in_waiting:
                if time.monotonic() >= deadline_s:
                    return b""
                if first := self._serial.read(1):
                    rest = self._serial.read(min(limit - 1, self._serial.in_waiting))
                    return bytes(first + rest)
            return bytes(self._serial.read(min(limit, self._serial.in_waiting)))
        except (serial.SerialException, OSError) as error:
            raise PortError(f"cannot read from {self._name}: {error}") from None

    def discard(self) -> None:
        while self.read(65536, 0.0):
            pass

    def set_baud(self, baud: int) -> int:
        before = int(self._serial.baudrate)
        if baud != before:
            try:
                self._serial.baudrate = baud
            except (serial.SerialException, OSError, ValueError) as error:
                raise PortError(f"{self._name} does not take {baud} baud: {error}") from None
        return before

    def close(self) -> None:
        with contextlib.suppress(serial.SerialException, OSError):
            self._serial.close()
