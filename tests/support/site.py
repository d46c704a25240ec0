"""A status page on a socket of this machine, stepped by the test, and those who visit it."""

from __future__ import annotations

import socket

from support.desk import Desk
from support.patience import eventually

from gateway.model import PageSettings
from gateway.page import StatusPage


class Site:
    """The page of a desk, and those who visit it."""

    def __init__(self, desk: Desk, host: str = "127.0.0.1") -> None:
        self.desk = desk
        self.page = StatusPage(
            PageSettings(host, 0),
            ask=desk.controller.look,
            store=desk.store,
            board=desk.board,
            clock=desk.clock,
        )
        self.host = host
        self.step()
        self.visitors: list[socket.socket] = []

    @property
    def port(self) -> int:
        """The kernel chose it: no other test has it."""
        return int(self.page._server._listener.getsockname()[1])

    def step(self) -> str:
        return self.page.step(0.0).sentence

    def connect(self, sent: bytes = b"") -> socket.socket:
        visitor = socket.create_connection((self.host, self.port))
        visitor.setblocking(False)
        self.visitors.append(visitor)
        visitor.sendall(sent)
        return visitor

    def hear(self, visitor: socket.socket) -> bytes:
        """All that a visitor is told until he is hung up on."""
        heard = bytearray()

        def ended() -> bool:
            self.step()
            try:
                came = visitor.recv(1 << 20)
            except BlockingIOError:
                return False
            except ConnectionResetError:
                return True
            heard.extend(came)
            return not came

        eventually(ended, lambda: bytes(heard))
        return bytes(heard)

    def get(self, target: str = "/", *, method: str = "GET", host: str = "localhost") -> Told:
        request = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"
        return Told(self.hear(self.connect(request.encode())))

    def later(self, seconds: float) -> None:
        """That much later; another look is due."""
        self.desk.clock.advance(seconds)
        self.step()

    def close(self) -> None:
        for visitor in self.visitors:
            visitor.close()
        self.page.close()


class Told:
    """An answer, in its parts."""

    def __init__(self, octets: bytes) -> None:
        head, _, self.body = octets.partition(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").split("\r\n")
        self.status = int(line.split()[1]) if line else 0
        self.headers = dict(field.split(": ", 1) for field in fields)

    @property
    def text(self) -> str:
        return self.body.decode()
