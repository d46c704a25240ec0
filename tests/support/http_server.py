"""A real HTTP server for tests that serves images, and misbehaves where it is told to."""

from __future__ import annotations

import gzip
import hashlib
import socket
import ssl
import threading
from collections.abc import Callable
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

from support.patience import PATIENCE_S


class Exchange(BaseHTTPRequestHandler):
    """One request; what a misbehaviour writes with. HTTP/1.1, so that a body's length matters."""

    protocol_version = "HTTP/1.1"
    server: ImageServer

    def do_GET(self) -> None:
        self.server.requests.append((self.path, dict(self.headers)))
        self.server.asked.set()
        self.close_connection = True
        behaviour = self.server.behaviours.pop(0) if self.server.behaviours else whole
        try:
            behaviour(self, self.server.content)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            self.server.hung_up.set()

    def body(self, octets: bytes) -> None:
        """Send octets of the image, counted."""
        self.wfile.write(octets)
        self.server.body_octets += len(octets)

    def wait_for_hang_up(self) -> None:
        """Until the other side has had enough."""
        self.connection.settimeout(PATIENCE_S)
        if not self.connection.recv(1):
            self.server.hung_up.set()

    def begin(self, status: int = 200, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


Behaviour = Callable[[Exchange, bytes], None]


@cache
def _etag(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'  # noqa: S324  # as servers do


class ImageServer(ThreadingHTTPServer):
    """Serves `content` at any path on loopback. Each request takes the next of `behaviours`; then all is well. `tls`:
    the context of a server that is talked to by https."""

    daemon_threads = True

    def __init__(self, content: bytes, *behaviours: Behaviour, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Exchange)
        self.content = content
        self.behaviours = list(behaviours)
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.asked = threading.Event()
        """A request came."""
        self.hung_up = threading.Event()
        self.stopped = threading.Event()
        self.body_octets = 0
        """So many octets of bodies were sent in all."""
        self._tls = tls

    @property
    def url(self) -> str:
        scheme = "https" if self._tls else "http"
        return f"{scheme}://127.0.0.1:{self.server_address[1]}/firmware.bin"

    @property
    def etag(self) -> str:
        return _etag(self.content)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the thread of the connection, so that a handshake keeps nobody else waiting."""
        if self._tls is None:
            super().finish_request(request, client_address)
            return
        try:
            with self._tls.wrap_socket(request, server_side=True) as protected:
                super().finish_request(protected, client_address)
        except (ssl.SSLError, ConnectionError):
            self.hung_up.set()

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self.shutdown()
        self.server_close()


def whole(exchange: Exchange, content: bytes) -> None:
    exchange.begin(Content_Length=len(content))
    exchange.body(content)


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


# -- parts ----------------------------------------------------------------------------------------------------


def ranged(exchange: Exchange, content: bytes, *, cut_after: int | None = None) -> None:
    """As good servers do (RFC 9110 clause 14): the part that is asked for, if the file is still the same. `cut_after`:
    so many octets of the body, and then nothing more."""
    start = _start(exchange)
    end, etag = len(content), exchange.server.etag
    if start and exchange.headers.get("If-Range", etag) == etag:
        if start >= end:
            exchange.begin(416, Content_Length=0, Content_Range=f"bytes */{end}")
            return
        exchange.begin(
            206, Content_Length=end - start, Content_Range=f"bytes {start}-{end - 1}/{end}", ETag=etag
        )
    else:
        start = 0
        exchange.begin(Content_Length=end, ETag=etag, Accept_Ranges="bytes")
    exchange.body(content[start:end] if cut_after is None else content[start : start + cut_after])


def cut_after(octets: int) -> Behaviour:
    return lambda exchange, content: ranged(exchange, content, cut_after=octets)


def part_from_elsewhere(exchange: Exchange, content: bytes) -> None:
    """The right number of octets, but of another place."""
    start, end = _start(exchange), len(content)
    exchange.begin(206, Content_Length=end - start, Content_Range=f"bytes 0-{end - start - 1}/{end}")
    exchange.body(content[: end - start])


def part_of_another_version(exchange: Exchange, content: bytes) -> None:
    """Whoever ignores If-Range."""
    start, end = _start(exchange), len(content)
    exchange.begin(
        206, Content_Length=end - start, Content_Range=f"bytes {start}-{end - 1}/{end}", ETag='"other"'
    )
    exchange.body(bytes(end - start))


def part_by_part(octets: int) -> Behaviour:
    """Never more at once."""

    def behaviour(exchange: Exchange, content: bytes) -> None:
        start, total = _start(exchange), len(content)
        end, etag = min(start + octets, total), exchange.server.etag
        if not start:
            ranged(exchange, content, cut_after=octets)
            return
        exchange.begin(
            206, Content_Length=end - start, Content_Range=f"bytes {start}-{end - 1}/{total}", ETag=etag
        )
        exchange.body(content[start:end])

    return behaviour


def whole_to_a_range(exchange: Exchange, content: bytes) -> None:
    """Whoever knows no ranges, but what file it is."""
    exchange.begin(Content_Length=len(content), ETag=exchange.server.etag)
    exchange.body(content)


def refused_range(total: int) -> Behaviour:
    return status(416, Content_Range=f"bytes */{total}")


def _start(exchange: Exchange) -> int:
    return int(exchange.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))


# -- lengths and time -----------------------------------------------------------------------------------------


def length_too_long(exchange: Exchange, content: bytes) -> None:
    exchange.begin(Content_Length=len(content) + 10, ETag=exchange.server.etag)
    exchange.body(content)


def length_too_short(exchange: Exchange, content: bytes) -> None:
    exchange.begin(Content_Length=len(content) - 10, ETag=exchange.server.etag)
    exchange.body(content)


def silent(exchange: Exchange, content: bytes) -> None:
    exchange.wait_for_hang_up()


def silent_after(octets: int) -> Behaviour:
    def behaviour(exchange: Exchange, content: bytes) -> None:
        exchange.begin(Content_Length=len(content), ETag=exchange.server.etag)
        exchange.body(content[:octets])
        exchange.wait_for_hang_up()

    return behaviour


def dripping(exchange: Exchange, content: bytes) -> None:
    exchange.begin(Content_Length=len(content), ETag=exchange.server.etag)
    _drip(exchange, content)


def dripping_head(exchange: Exchange, content: bytes) -> None:
    _drip(exchange, b"HTTP/1.1 200 OK\r\nX-Padding: " + content.hex().encode())


def _drip(exchange: Exchange, octets: bytes) -> None:
    for octet in octets:
        exchange.wfile.write(bytes([octet]))
        if exchange.server.stopped.wait(0.02):
            return


# -- what is no image -----------------------------------------------------------------------------------------


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


def redirect(location: str, code: int = 302) -> Behaviour:
    return status(code, Location=location)


# -- between the gateway and the server -----------------------------------------------------------------------


class Proxy(ThreadingHTTPServer):
    """A proxy on loopback that leads everything to `server`, whatever host is asked for."""

    daemon_threads = True

    def __init__(self, server: ImageServer, *, refuses: int = 0) -> None:
        """`refuses`: the status with which it refuses to connect."""
        super().__init__(("127.0.0.1", 0), _ProxyExchange)
        self.target = server.server_address
        self.refuses = refuses
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _ProxyExchange(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def do_GET(self) -> None:
        """In absolute form (RFC 9112 clause 3.2.2)."""
        self.server.requests.append(f"GET {self.path}")
        self.close_connection = True
        path = urlsplit(self.path).path
        with socket.create_connection(self.server.target) as onward:
            fields = "".join(f"{name}: {text}\r\n" for name, text in self.headers.items())
            onward.sendall(f"GET {path} HTTP/1.1\r\n{fields}\r\n".encode())
            while octets := onward.recv(65536):
                self.wfile.write(octets)

    def do_CONNECT(self) -> None:
        self.server.requests.append(f"CONNECT {self.path}")
        self.close_connection = True
        if self.server.refuses:
            self.send_error(self.server.refuses)
            return
        with socket.create_connection(self.server.target) as onward:
            self.send_response(200)
            self.end_headers()
            back = threading.Thread(target=_pass_on, args=(onward, self.connection), daemon=True)
            back.start()
            _pass_on(self.connection, onward)
            back.join(PATIENCE_S)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    try:
        while octets := source.recv(65536):
            target.sendall(octets)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        """One of them has gone."""
