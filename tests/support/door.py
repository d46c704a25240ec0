"""A door before a real broker: connections pass through it, and can be cut."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Self


class Door:
    """Lets connections through to the broker at `behind`. What a subclass does with them is in `admits` and `down`."""

    def __init__(self, behind: int) -> None:
        self._behind = behind
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = [self._listener]
        self._threads = [threading.Thread(target=self._listen, daemon=True)]

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self._listener.getsockname()[1]}"

    def admits(self, client: socket.socket, first: bytes) -> bool:
        """Whether a connection that begins with these octets goes on."""
        return True

    def down(self, broker: socket.socket, client: socket.socket) -> None:
        """Carry what the broker sends, until either end is closed."""
        carry(broker, client)

    def up(self, client: socket.socket, broker: socket.socket) -> None:
        """Carry what the client sends, until either end is closed."""
        carry(client, broker)

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
            if not first or not self.admits(client, first):
                client.shutdown(socket.SHUT_RDWR)
                return
            broker = socket.create_connection(("127.0.0.1", self._behind))
            self._open.append(broker)
            broker.sendall(first)
            self._begin(self.down, broker, client)
            self.up(client, broker)

    def _begin(self, work: Callable[..., None], *given: socket.socket) -> None:
        self._threads.append(threading.Thread(target=work, args=given, daemon=True))
        self._threads[-1].start()


def carry(source: socket.socket, target: socket.socket) -> None:
    """Until either end is closed; then close both ways."""
    with contextlib.suppress(OSError):
        while octets := source.recv(65536):
            target.sendall(octets)
    hang_up(source, target)


def hang_up(*sockets: socket.socket) -> None:
    for one in sockets:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


def packets(source: socket.socket) -> Iterator[tuple[int, bytes]]:
    """MQTT 5.0, clause 2.1."""
    waiting = b""
    while octets := source.recv(65536):
        waiting += octets
        while len(waiting) >= 2:
            try:
                start = header_length(waiting)
            except IndexError:
                break
            length = sum((octet & 0x7F) << (7 * place) for place, octet in enumerate(waiting[1:start]))
            if len(waiting) < start + length:
                break
            packet, waiting = waiting[: start + length], waiting[start + length :]
            yield packet[0] >> 4, packet


def header_length(packet: bytes) -> int:
    """Octets before the variable header: one, and those of the length."""
    end = 1
    while packet[end] & 0x80:
        end += 1
    return end + 1
