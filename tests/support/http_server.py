"""A real HTTP server for tests that serves images, and misbehaves where it is told to."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


class Exchange(BaseHTTPRequestHandler):
    """One request; what a misbehaviour writes with. HTTP/1.1, so that a body's length matters."""

    protocol_version = "HTTP/1.1"
    server: ImageServer

    def do_GET(self) -> None:
        self.server.requests.append((self.path, dict(self.headers)))
        self.close_connection = True
        behaviour = self.server.behaviours.pop(0) if self.server.behaviours else whole
        try:
            behaviour(self, self.server.content)
        except (BrokenPipeError, ConnectionResetError):
            self.server.hung_up.set()

    def begin(self, status: int = 200, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


Behaviour = Callable[[Exchange, bytes], None]


class ImageServer(ThreadingHTTPServer):
    """Serves `content` at any path on loopback. Each request takes the next of `behaviours`; then all is well."""

    daemon_threads = True

    def __init__(self, content: bytes, *behaviours: Behaviour) -> None:
        super().__init__(("127.0.0.1", 0), Exchange)
        self.content = content
        self.behaviours = list(behaviours)
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.hung_up = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/firmware.bin"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


def whole(exchange: Exchange, content: bytes) -> None:
    exchange.begin(Content_Length=len(content))
    exchange.wfile.write(content)


def chunked(exchange: Exchange, content: bytes) -> None:
    exchange.begin(Transfer_Encoding="chunked")
    for start in range(0, len(content), 1000):
        piece = content[start : start + 1000]
        exchange.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
    exchange.wfile.write(b"0\r\n\r\n")


def without_length(exchange: Exchange, content: bytes) -> None:
    exchange.begin()
    exchange.wfile.write(content)


def truncated(exchange: Exchange, content: bytes) -> None:
    exchange.begin(Content_Length=len(content))
    exchange.wfile.write(content[: len(content) // 2])


def truncated_chunks(exchange: Exchange, content: bytes) -> None:
    exchange.begin(Transfer_Encoding="chunked")
    half = content[: len(content) // 2]
    exchange.wfile.write(b"%x\r\n%b\r\n" % (len(half), half))


def truncated_without_length(exchange: Exchange, content: bytes) -> None:
    without_length(exchange, content[: len(content) // 2])


def one_octet_less(exchange: Exchange, content: bytes) -> None:
    whole(exchange, content[:-1])


def one_octet_more(exchange: Exchange, content: bytes) -> None:
    whole(exchange, content + b"\0")


def one_bit_wrong(exchange: Exchange, content: bytes) -> None:
    middle = len(content) // 2
    whole(exchange, content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])


def empty(exchange: Exchange, content: bytes) -> None:
    whole(exchange, b"")


def endless(exchange: Exchange, content: bytes) -> None:
    exchange.begin()
    while True:
        exchange.wfile.write(content)


def gzipped(exchange: Exchange, content: bytes) -> None:
    packed = gzip.compress(content)
    exchange.begin(Content_Encoding="gzip", Content_Length=len(packed))
    exchange.wfile.write(packed)


def partial(exchange: Exchange, content: bytes) -> None:
    exchange.begin(
        206, Content_Length=len(content), Content_Range=f"bytes 0-{len(content) - 1}/{len(content)}"
    )
    exchange.wfile.write(content)


def no_http(exchange: Exchange, content: bytes) -> None:
    exchange.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n")


def hang_up(exchange: Exchange, content: bytes) -> None:
    """Say nothing and close."""


def status(code: int, **headers: object) -> Behaviour:
    def behaviour(exchange: Exchange, content: bytes) -> None:
        exchange.begin(code, Content_Length=0, **headers)

    return behaviour
