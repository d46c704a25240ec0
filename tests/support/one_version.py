"""A broker that speaks one version of MQTT only: a door before a real mosquitto, which speaks them all."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Self

MQTT_311 = 4
MQTT_5 = 5
"""Protocol levels in CONNECT (MQTT 3.1.1 and 5.0, clause 3.1.2.2)."""

OLD_REFUSAL = b"\x20\x02\x00\x01"
"""What a broker says that knows nothing newer than MQTT 3.1.1 (clause 3.2.2.3)."""
NEW_REFUSAL = b"\x20\x03\x00\x84\x00"
"""What one may say that knows MQTT 5 and does not offer it (MQTT 5.0, clause 3.1.2.2)."""


class OneVersion:
    """Lets connections of one protocol level through to the broker at `behind`, and refuses the others."""

    def __init__(self, behind: int, *, speaks: int = MQTT_311, refusal: bytes = OLD_REFUSAL) -> None:
        self.speaks = speaks
        self.asked: list[int] = []
        """The protocol level of every connection."""
        self._behind = behind
        self._refusal = refusal
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = [self._listener]
        self._threads = [threading.Thread(target=self._listen, daemon=True)]

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self._listener.getsockname()[1]}"

    def break_connections(self) -> None:
        """Cut every connection at once, as a failing network does; new ones are taken."""
        for one in self._open[1:]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self.break_connections()
        for thread in self._threads:
            thread.join()
        for one in self._open:
            one.close()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._open.append(client)
                self._begin(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            first = client.recv(4096)
            if not first:
                return
            # CONNECT: fixed header of 2 octets or, beyond 127, 3; then the name "MQTT" and the level.
            level = first[first.index(b"MQTT") + 4]
            self.asked.append(level)
            if level != self.speaks:
                client.sendall(self._refusal)
                client.shutdown(socket.SHUT_RDWR)
                return
            broker = socket.create_connection(("127.0.0.1", self._behind))
            self._open.append(broker)
            broker.sendall(first)
            self._begin(_carry, broker, client)
            _carry(client, broker)

    def _begin(self, work: Callable[..., None], *given: socket.socket) -> None:
        self._threads.append(threading.Thread(target=work, args=given, daemon=True))
        self._threads[-1].start()


def _carry(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while octets := source.recv(65536):
            target.sendall(octets)
    for one in (source, target):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
