"""Serial device servers on this machine: a serial device behind RFC 2217 (pyserial's own server) or behind bare TCP."""

from __future__ import annotations

import os
import select
import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

import serial
import serial.rfc2217

_LOOK_EVERY_S = 0.02


class _Device(serial.Serial):
    """A pty has no modem lines: what is raised is noted, what is asked is down."""

    raised: set[str] = set()  # noqa: RUF012 (one device each)
    cts = dsr = ri = cd = property(lambda self: False)

    def _update_dtr_state(self) -> None:
        self.raised = self.raised | {"DTR"} if self._dtr_state else self.raised - {"DTR"}

    def _update_rts_state(self) -> None:
        self.raised = self.raised | {"RTS"} if self._rts_state else self.raised - {"RTS"}


class DeviceServer:
    """Serves `device` on a free port, one connection at a time, in a thread. `url` is the `device` of a gateway's
    port; `accepted` counts connections."""

    def __init__(self, device: str, *, rfc2217: bool) -> None:
        self._device = _Device(device, 9600, timeout=0)
        self._rfc2217 = rfc2217
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._peer: socket.socket | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.accepted = 0
        scheme = "rfc2217" if rfc2217 else "socket"
        self.url = f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}"

    @property
    def raised(self) -> set[str]:
        """The modem lines that are up."""
        return self._device.raised

    @property
    def baud(self) -> int:
        return self._device.baudrate

    def drop(self) -> None:
        """The server restarts: its connection breaks off."""
        if peer := self._peer:
            with suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()
        self._listener.close()
        self._device.close()

    def _run(self) -> None:
        self._listener.settimeout(_LOOK_EVERY_S)
        while not self._stopping.is_set():
            with suppress(TimeoutError):
                self._peer, _ = self._listener.accept()
                self.accepted += 1
                with self._peer, suppress(OSError):
                    self._peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._converse(self._peer)
                self._peer = None

    def _converse(self, peer: socket.socket) -> None:
        manager = serial.rfc2217.PortManager(self._device, _Writer(peer)) if self._rfc2217 else None
        while not self._stopping.is_set():
            ready = select.select([peer, self._device.fileno()], [], [], _LOOK_EVERY_S)[0]
            if self._device.fileno() in ready:
                octets = os.read(self._device.fileno(), 4096)
                peer.sendall(b"".join(manager.escape(octets)) if manager else octets)
            if peer in ready:
                octets = peer.recv(4096)
                if not octets:
                    return
                self._device.write(b"".join(manager.filter(octets)) if manager else octets)


class _Writer:
    """What pyserial's server writes its answers to."""

    def __init__(self, peer: socket.socket) -> None:
        self.write = peer.sendall
