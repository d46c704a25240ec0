"""One GET, read on a thread of its own, so that whoever waits for it can leave at any moment: neither a silent server
nor a name that nobody resolves keeps him.

The thread holds nothing but its connection. Who leaves shuts that down, and the thread ends with it; one that waits for
a name server ends when that does.
"""

from __future__ import annotations

import os
import queue
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

from gateway.errors import NetError, PolicyError
from gateway.supply.answer import Head
from gateway.supply.source import Watch

LOOK_EVERY_S = 0.2
"""How often it is looked whether the image is wanted still."""
_PIECES_AHEAD = 8
_MARGIN_S = 30.0
"""Whoever waits is to lose patience first, and to say what he waited for."""
_THREAD = "fetch"
_THREADS_LIMIT = 4
"""So many may wait for name servers that do not answer; then no other is begun."""
_RESET = struct.pack("ii", 1, 0)
"""Linger for no time: the connection is reset when it is closed (socket(7))."""
_NOT_YET_VALID = 9
"""X509_V_ERR_CERT_NOT_YET_VALID of OpenSSL: the clock of a gateway without one of its own may not be set yet."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a server is waited for."""

    connect_s: float = 10.0
    """For each of its addresses."""
    head_s: float = 60.0
    """From the first try to connect to the end of its header fields."""
    silence_s: float = 30.0
    """For the next octets; a slow line is fine, a dead one is not."""
    drip_s: float = 60.0
    """In so long a time of waiting at least `drip_octets` have to come."""
    drip_octets: int = 8192
    """Slower than that, no image of a few MiB comes within a day."""


class TlsError(NetError):
    """One side does not believe the other: no other try helps."""

    retryable = False


@dataclass(frozen=True, slots=True)
class Access:
    """How servers are reached: `tls` for https://, `proxy` "http://host:port" or empty."""

    tls: ssl.SSLContext | None
    proxy: str = ""


class Download:
    """A context manager: entered, the request is on its way. `head` comes first, then `pieces`; both raise NetError
    (stopped, not reached, silent, dripping, ended early), TlsError, PolicyError (no URL)."""

    def __init__(
        self, url: str, fields: Mapping[str, str], access: Access, watch: Watch, patience: Patience
    ) -> None:
        self._url = url
        self._fields = fields
        self._access = access
        self._watch = watch
        self._patience = patience
        self._host = urlsplit(url).netloc
        self._queue: queue.Queue[Head | bytes | Exception | None] = queue.Queue(_PIECES_AHEAD)
        self._ended = False
        self._left = threading.Event()
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        """Our own handle of the connection: to shut it down, whatever the other one is used for."""

    def __enter__(self) -> Self:
        waiting = sum(thread.name == _THREAD for thread in threading.enumerate())
        if waiting >= _THREADS_LIMIT:
            raise NetError(f"{self._host}: earlier requests still wait for a name server")
        # A daemon thread: a name server must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=_THREAD, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        with self._lock:
            if self._socket is not None:
                with suppress(OSError):  # the server was quicker
                    if not self._ended:
                        # A server whose octets nobody took is to notice now, not when its probes are given up.
                        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    self._socket.shutdown(socket.SHUT_RDWR)
                self._socket.close()
                self._socket = None
        self._thread.join(LOOK_EVERY_S)

    def head(self) -> Head:
        """Status and fields."""
        item = self._next(self._patience.head_s, "did not answer")
        assert isinstance(item, Head), "it is put first"
        return item

    def pieces(self) -> Iterator[bytes]:
        """The octets of the body as they come, never decoded."""
        waited_s, octets = 0.0, 0
        while True:
            begin_s = time.monotonic()
            piece = self._next(self._patience.silence_s, "sent nothing more")
            waited_s += time.monotonic() - begin_s
            if piece is None:
                self._ended = True
                return
            assert isinstance(piece, bytes), "the head was taken before"
            octets += len(piece)
            if octets >= self._patience.drip_octets:
                waited_s, octets = 0.0, 0
            elif waited_s > self._patience.drip_s:
                raise NetError(f"{self._host} sent {octets} octets in {waited_s:.0f} s: too slow")
            yield piece

    # -- the side of whoever waits ----------------------------------------------------------------------------

    def _next(self, patience_s: float, else_: str) -> Head | bytes | None:
        deadline_s = time.monotonic() + patience_s
        while True:
            if self._watch.stop():
                raise NetError("the fetch was stopped before its end")
            try:
                item = self._queue.get(timeout=LOOK_EVERY_S)
            except queue.Empty:
                if time.monotonic() > deadline_s:
                    raise NetError(f"{self._host} {else_} for {patience_s:g} s") from None
                continue
            if isinstance(item, Exception):
                raise self._in_our_words(item)
            return item

    def _in_our_words(self, error: Exception) -> Exception:
        import httpx

        if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol):
            return PolicyError(f"{self._host}: this is not a URL that images come from")
        if not isinstance(error, httpx.TransportError):
            return error
        tls = _tls_cause(error)
        if isinstance(tls, ssl.SSLCertVerificationError):
            words = f"{self._host} is not believed: {tls.verify_message}"
            return NetError(words) if tls.verify_code == _NOT_YET_VALID else TlsError(words)
        if tls is not None and "ALERT" in (tls.reason or ""):
            return TlsError(f"{self._host} does not believe this gateway: {tls.reason}")
        if isinstance(error, httpx.RemoteProtocolError) and "location header" in str(error):
            return PolicyError(f"{self._host} redirects to what is not a URL")
        return NetError(f"{self._host} did not deliver the image: {str(error) or type(error).__name__}")

    # -- the side of the thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._read()
            self._put(None)
        except Exception as error:  # noqa: BLE001  # whoever waits knows which of them are bugs
            self._put(error)

    def _read(self) -> None:
        import httpx  # 120 ms

        assert self._access.tls or urlsplit(self._url).scheme == "http", "nobody is believed unchecked"
        timeout = httpx.Timeout(self._patience.silence_s + _MARGIN_S, connect=self._patience.connect_s)
        # No proxy, .netrc or the like of the environment gets a say in where firmware comes from.
        transport = httpx.HTTPTransport(
            verify=self._access.tls or False,
            trust_env=False,
            proxy=httpx.Proxy(self._access.proxy) if self._access.proxy else None,
        )
        with (
            httpx.Client(transport=transport, timeout=timeout, trust_env=False) as client,
            client.stream(
                "GET", self._url, headers=dict(self._fields), extensions={"trace": self._trace}
            ) as response,
        ):
            fields = {name.lower(): text for name, text in response.headers.items()}
            self._put(Head(response.status_code, fields))
            for piece in response.iter_raw():
                self._put(piece)
                if self._left.is_set():
                    return

    def _trace(self, name: str, info: Mapping[str, Any]) -> None:
        """What httpx tells of a request: here its connection, as soon as there is one."""
        if name != "connection.connect_tcp.complete":
            return
        connected = info["return_value"].get_extra_info("socket")
        with self._lock:
            if self._left.is_set():
                connected.shutdown(socket.SHUT_RDWR)
            else:
                self._socket = socket.socket(fileno=os.dup(connected.fileno()))

    def _put(self, item: Head | bytes | Exception | None) -> None:
        while not self._left.is_set():
            with suppress(queue.Full):
                self._queue.put(item, timeout=LOOK_EVERY_S)
                return


def _tls_cause(error: BaseException) -> ssl.SSLError | None:
    """The error of TLS beneath one of httpx, whose versions hang it up in different places."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, ssl.SSLError):
        seen = seen.__cause__ or seen.__context__
    return seen
