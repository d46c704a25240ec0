"""HTTP for whoever looks, over a listening socket of its own: bounded in connections, octets and time.

One thread, no waiting for a client. A connection carries one request: its head must have come within `REQUEST_S`, its
answer must be taken within `ANSWER_S`. Where all connections are in use, others wait in the kernel's queue. What is
asked for is the caller's to answer.
"""

from __future__ import annotations

import logging
import selectors
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from ipaddress import ip_address

from gateway.clock import Clock
from gateway.model import PageSettings
from gateway.page.http import HEAD_LIMIT_BYTES, Answer, Request, head_of, octets, read_request, refusal

CONNECTIONS_LIMIT = 16
REQUEST_S = 5.0
ANSWER_S = 15.0
"""A page of 100 KiB on the slowest link that is any use."""
_QUEUE = 128
"""Connections that the kernel has ready while all of ours are in use."""
_FAREWELL_S = 2.0
"""So long a client may take to close; hung up on sooner, it may lose what it was sent (RFC 9112, 9.6)."""
_READ_BYTES = 4096
_WRITE_BYTES = 64 * 1024

log = logging.getLogger(__name__)


class Server:
    """Listens from its construction until `close`. Single-threaded: whoever calls `serve` owns it."""

    def __init__(self, settings: PageSettings, answer: Callable[[Request], Answer], clock: Clock) -> None:
        """Raises OSError where it cannot listen there."""
        self._answer = answer
        self._clock = clock
        self._loopback = ip_address(settings.host).is_loopback
        self._connections: dict[socket.socket, _Connection] = {}
        self._bugs: set[str] = set()
        """Told in the log, each once."""
        self._listener = _listen(settings)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._listening = True

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    def serve(self, timeout_s: float) -> float:
        """Serve what is there; waits for something, at most `timeout_s`. So long it was at work, in seconds."""
        deadlines = [one.deadline_s for one in self._connections.values()]
        left_s = min(deadlines, default=float("inf")) - self._clock.monotonic()
        ready = self._selector.select(max(0.0, min(timeout_s, left_s)))
        begin_s = self._clock.monotonic()
        for key, _ in ready:
            if key.fileobj is self._listener:
                self._welcome()
            else:
                self._go_on(self._connections[key.fileobj])  # type: ignore[index]  # only sockets are registered
        now_s = self._clock.monotonic()
        for late in [one for one in self._connections.values() if one.deadline_s <= now_s]:
            self._too_late(late)
        return self._clock.monotonic() - begin_s

    def close(self) -> None:
        """Stop listening and hang up on everybody."""
        for connection in list(self._connections.values()):
            self._drop(connection)
        self._selector.close()
        self._listener.close()

    # -- below ------------------------------------------------------------------------------------------------

    def _welcome(self) -> None:
        with suppress(OSError):  # nobody is there any more, or there is no descriptor left for now
            accepted, _ = self._listener.accept()
            accepted.setblocking(False)
            connection = _Connection(accepted, self._clock.monotonic() + REQUEST_S)
            self._connections[accepted] = connection
            self._selector.register(accepted, selectors.EVENT_READ)
            self._listen_if_room()

    def _go_on(self, connection: _Connection) -> None:
        with self._guarded(connection):
            if connection.unsent is not None:
                self._send(connection)
            elif connection.answered:
                if not connection.socket.recv(_READ_BYTES):
                    self._drop(connection)
            else:
                self._receive(connection)

    def _receive(self, connection: _Connection) -> None:
        came = connection.socket.recv(_READ_BYTES)
        if not came:
            self._drop(connection)
            return
        connection.begun += came
        head = head_of(connection.begun)
        if len(head if head is not None else connection.begun) > HEAD_LIMIT_BYTES:
            self._reply(connection, refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE))
        elif head is not None:
            request = read_request(head, loopback=self._loopback)
            if isinstance(request, Answer):
                self._reply(connection, request)
            else:
                self._reply(connection, self._answer(request), body=request.method != "HEAD")

    def _reply(self, connection: _Connection, answer: Answer, *, body: bool = True) -> None:
        connection.begun.clear()
        connection.answered = True
        connection.unsent = memoryview(octets(answer, self._clock.now(), body=body))
        connection.deadline_s = self._clock.monotonic() + ANSWER_S
        self._selector.modify(connection.socket, selectors.EVENT_WRITE)
        self._send(connection)

    def _send(self, connection: _Connection) -> None:
        unsent = connection.unsent
        if unsent is None:
            return
        with suppress(BlockingIOError):
            unsent = unsent[connection.socket.send(unsent[:_WRITE_BYTES]) :]
        connection.unsent = unsent or None
        if connection.unsent is None:
            connection.socket.shutdown(socket.SHUT_WR)
            connection.deadline_s = self._clock.monotonic() + _FAREWELL_S
            self._selector.modify(connection.socket, selectors.EVENT_READ)

    def _too_late(self, connection: _Connection) -> None:
        """Whoever did not come to the end of his request is told so, where he listens; others are hung up on."""
        if connection.answered:
            self._drop(connection)
            return
        with self._guarded(connection):
            self._reply(connection, refusal(HTTPStatus.REQUEST_TIMEOUT))

    @contextmanager
    def _guarded(self, connection: _Connection) -> Iterator[None]:
        """Whatever goes wrong with one client ends that client only, a bug of ours included: what a stranger asks for
        may not end the work on meters, and nothing that they depend on is touched here (invariant 12)."""
        try:
            yield
        except BlockingIOError:
            return
        except OSError:
            self._drop(connection)
        except Exception as error:
            bug = repr(error)
            if bug not in self._bugs and len(self._bugs) < CONNECTIONS_LIMIT:
                self._bugs.add(bug)
                log.critical("status page: a bug; the gateway goes on without the answer", exc_info=True)
            if connection.answered:
                self._drop(connection)
            else:
                with self._guarded(connection):
                    self._reply(connection, refusal(HTTPStatus.INTERNAL_SERVER_ERROR))

    def _drop(self, connection: _Connection) -> None:
        if self._connections.pop(connection.socket, None) is not None:
            self._selector.unregister(connection.socket)
            connection.socket.close()
            self._listen_if_room()

    def _listen_if_room(self) -> None:
        room = len(self._connections) < CONNECTIONS_LIMIT
        if room and not self._listening:
            self._selector.register(self._listener, selectors.EVENT_READ)
        elif self._listening and not room:
            self._selector.unregister(self._listener)
        self._listening = room


class _Connection:
    """One client: what came of its request, or what it has not taken of its answer."""

    def __init__(self, accepted: socket.socket, deadline_s: float) -> None:
        self.socket = accepted
        self.deadline_s = deadline_s
        """When it is hung up on, monotonic."""
        self.begun = bytearray()
        self.answered = False
        self.unsent: memoryview | None = None


def _listen(settings: PageSettings) -> socket.socket:
    [(family, kind, protocol, _, place), *_] = socket.getaddrinfo(
        settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST | socket.AI_PASSIVE
    )
    listener = socket.socket(family, kind, protocol)
    try:
        # A restart need not wait for the connections of the process before it (socket(7)).
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(place)
        listener.listen(_QUEUE)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener
