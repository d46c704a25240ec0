"""The control socket: commands of this machine, one JSON line each, answered by one or two lines.

Who may use it is a matter of its file's mode and group; who did is asked of the kernel (SO_PEERCRED, unix(7)).
A file comes along as a descriptor (SCM_RIGHTS) with the first octet of its line. One thread, no waiting for a
client: whoever does not read, sends too much or does not end a line is dropped, and whoever is silent gives way to
somebody new where all places are taken. No client costs more memory than UNREAD_LIMIT_BYTES and two lines.
"""

from __future__ import annotations

import array
import grp
import logging
import os
import select
import selectors
import socket
import struct
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import inf
from pathlib import Path

from gateway.board import CONTROL, Board
from gateway.clock import Clock
from gateway.control.commands import Controller, Origin, OriginKind
from gateway.control.envelope import COMMAND_LIMIT_BYTES
from gateway.errors import BusyError, GatewayError, StoreError
from gateway.model import Reply, ReplyStatus, StepReport
from gateway.store import Store
from gateway.store.commands import failed
from gateway.store.documents import encoded, reply_document

log = logging.getLogger(__name__)

GROUP = "meter-gateway"
CLIENTS_LIMIT = 16
UNREAD_LIMIT_BYTES = 4 * 2**20
"""Replies that a client has not read yet; `campaign.get` of thousands of meters must fit."""
AWAITED_LIMIT = 16
"""Reads that one client may wait for."""

_LINE_TIMEOUT_S = 30.0
"""A line that was begun has ended by then: it is written by a program, and goes no further than this machine."""
_SILENT_S = 60.0
"""Who has asked nothing for so long, and waits for nothing, gives way to somebody new where all places are taken."""
_TELL_AGAIN_S = 3600.0
_IDLE_S = 0.5
_AWAITING_S = 0.05
"""How often the Store is asked for the end of a read; select(2) cannot hear the bell."""
_READ_BYTES = 64 * 1024
_LINE = b"\n"
_DESCRIPTORS_LIMIT = 4
_CREDENTIALS = struct.Struct("3i")
"""struct ucred: pid, uid, gid (unix(7))."""


class ControlServer:
    """The actor of the control socket. Single-threaded: whoever calls `step()` owns it."""

    def __init__(self, path: Path, controller: Controller, store: Store, board: Board, clock: Clock) -> None:
        """Listens at `path` from now on. Raises GatewayError: a directory that is not ours, another daemon there."""
        self._path = path
        self._controller = controller
        self._store = store
        self._board = board
        self._clock = clock
        self._clients: dict[socket.socket, _Client] = {}
        self._complaints = _Complaints(clock)
        self._selector = selectors.DefaultSelector()
        self._listener = _listen(path)
        self._selector.register(self._listener, selectors.EVENT_READ)

    def step(self, timeout_s: float = _IDLE_S) -> StepReport:
        """Serve what is there; waits for a client, at most `timeout_s`."""
        self._board.beat(CONTROL, self._clock.monotonic())
        awaiting = any(client.awaited for client in self._clients.values())
        served = 0
        for key, events in self._selector.select(min(timeout_s, _AWAITING_S) if awaiting else timeout_s):
            if key.fileobj is self._listener:
                self._welcome()
            elif client := self._clients.get(key.fileobj):  # type: ignore[call-overload]  # only sockets are registered
                served += self._serve(client, events)
        self._tell_ends()
        self._drop_who_ends_no_line()
        self._controller.tidy()
        sentence = f"{len(self._clients)} clients, {served} commands"
        return StepReport(sentence, self._clock.monotonic())

    def close(self) -> None:
        """Stop listening and drop all clients."""
        for client in list(self._clients.values()):
            self._drop(client)
        if self._listener.fileno() >= 0:
            self._selector.unregister(self._listener)
            self._listener.close()
            self._path.unlink(missing_ok=True)
        self._selector.close()

    # -- below ------------------------------------------------------------------------------------------------

    def _welcome(self) -> None:
        with suppress(OSError):  # nobody is there any more, or there is no descriptor left for now
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            if len(self._clients) >= CLIENTS_LIMIT and not self._make_room():
                self._complaints.tell("a client was turned away", f"{CLIENTS_LIMIT} are connected")
                connection.close()
                return
            client = self._clients[connection] = _Client(connection, self._clock.monotonic())
            self._watch(client)

    def _make_room(self) -> bool:
        """Drop who has been silent the longest, if that is long."""
        silent = [client for client in self._clients.values() if not client.awaited]
        client = min(silent, key=lambda client: client.heard_at, default=None)
        if client is None or self._clock.monotonic() - client.heard_at < _SILENT_S:
            return False
        self._complaints.tell("a silent client gave way", client.who)
        self._drop(client)
        return True

    def _drop_who_ends_no_line(self) -> None:
        late = self._clock.monotonic() - _LINE_TIMEOUT_S
        for client in [client for client in self._clients.values() if client.begun_at < late]:
            self._complaints.tell("a client was dropped", f"{client.who} does not end its line")
            self._drop(client)

    def _serve(self, client: _Client, events: int) -> int:
        """Read and answer; returns how many commands there were."""
        served = 0
        with self._guarded(client):
            if events & selectors.EVENT_READ:
                for line, descriptor in client.receive(self._clock.monotonic()):
                    self._answer(client, line, descriptor)
                    served += 1
        return served

    def _answer(self, client: _Client, line: bytes, descriptor: int | None) -> None:
        try:
            if len(client.awaited) >= AWAITED_LIMIT:
                raise BusyError(f"{AWAITED_LIMIT} commands of this connection have not come to their end")
            origin = Origin(OriginKind.LOCAL, client.who, client.uid)
            reply = self._controller.handle(line, origin, descriptor=descriptor)
        except GatewayError as error:
            reply = failed(None, error, ReplyStatus.REJECTED)
        finally:
            if descriptor is not None:
                os.close(descriptor)
        client.send(reply)
        if reply.status is ReplyStatus.ACCEPTED and reply.cmd_id:
            client.awaited.add(reply.cmd_id)

    def _tell_ends(self) -> None:
        """Send the last reply to commands that were accepted before and have come to their end."""
        for client in [client for client in self._clients.values() if client.awaited]:
            with self._guarded(client):
                for cmd_id in tuple(client.awaited):
                    reply = self._store.reply_of(cmd_id)
                    if reply is None or reply.status is not ReplyStatus.ACCEPTED:
                        client.awaited.discard(cmd_id)
                        if reply:
                            client.send(reply)

    @contextmanager
    def _guarded(self, client: _Client) -> Iterator[None]:
        """Whatever goes wrong with one client ends that client only."""
        try:
            yield
            client.flush()
        except (OSError, _TooMuchError) as error:
            self._complaints.tell("a client was dropped", f"{client.who}: {error}")
            self._drop(client)
            return
        if client.at_end and (client.gone() or not (client.unread or client.awaited)):
            self._drop(client)
        else:
            self._watch(client)

    def _watch(self, client: _Client) -> None:
        """Listen for what can happen: the end of a stream would be heard again and again."""
        wanted = (0 if client.at_end else selectors.EVENT_READ) | (
            selectors.EVENT_WRITE if client.unread else 0
        )
        if wanted == client.watched:
            return
        if client.watched:
            self._selector.unregister(client.connection)
        if wanted:
            self._selector.register(client.connection, wanted)
        client.watched = wanted

    def _drop(self, client: _Client) -> None:
        del self._clients[client.connection]
        if client.watched:
            self._selector.unregister(client.connection)
        client.close()


class _Complaints:
    """What is wrong with clients, each kind once an hour: one that comes again and again fills no log."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told: dict[str, float] = {}
        self._left_out: Counter[str] = Counter()

    def tell(self, kind: str, why: str) -> None:
        now = self._clock.monotonic()
        if now - self._told.get(kind, -_TELL_AGAIN_S) < _TELL_AGAIN_S:
            self._left_out[kind] += 1
            return
        self._told[kind] = now
        more = (
            f" (and {left_out} more since it was last told)"
            if (left_out := self._left_out.pop(kind, 0))
            else ""
        )
        log.warning("%s: %s%s", kind, why, more)


class _TooMuchError(Exception):
    """More than one client may ask of us; it is dropped."""


class _Client:
    """One connection: what came and is no line yet, and what it has not read yet."""

    def __init__(self, connection: socket.socket, now_s: float) -> None:
        self.connection = connection
        self.heard_at = now_s
        """When it came, or its last line did."""
        self.begun_at = inf
        """Since when a line has begun that has not ended."""
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, self.uid, _gid = _CREDENTIALS.unpack(credentials)
        self.who = f"uid {self.uid} (pid {pid})"
        self.unread = bytearray()
        self.awaited: set[str] = set()
        """Commands whose last reply is still to come."""
        self.at_end = False
        """The client sends nothing more; it may still read."""
        self.watched = 0
        self._begun = bytearray()
        self._descriptors: deque[int] = deque()

    def receive(self, now_s: float) -> Iterator[tuple[bytes, int | None]]:
        """The lines that are complete, each with the file that came along; the descriptor is the caller's to
        close. Raises _TooMuchError for a line that is too long."""
        try:
            octets, ancillary, flags, _ = self.connection.recvmsg(
                _READ_BYTES, socket.CMSG_SPACE(_DESCRIPTORS_LIMIT * array.array("i").itemsize)
            )
        except BlockingIOError:
            return
        self._keep(ancillary)
        if flags & socket.MSG_CTRUNC or len(self._descriptors) > _DESCRIPTORS_LIMIT:
            raise _TooMuchError("more files than lines came")
        self.at_end = not octets
        self._begun += octets or (_LINE if self._begun else b"")
        *lines, rest = self._begun.split(_LINE)
        self._begun = bytearray(rest)
        if lines:
            self.heard_at = now_s
        if not rest:
            self.begun_at = inf
        elif lines or self.begun_at == inf:
            self.begun_at = now_s
        for line in lines:
            yield bytes(line), self._descriptors.popleft() if self._descriptors else None
        # Somewhat more than allowed, so that a long line is refused with a reply before one hangs up.
        if len(self._begun) > COMMAND_LIMIT_BYTES + _READ_BYTES:
            raise _TooMuchError(f"a line of more than {COMMAND_LIMIT_BYTES} octets")

    def send(self, reply: Reply) -> None:
        """Queue a reply. Raises _TooMuchError where the client does not read what it asked for."""
        self.unread += encoded(reply_document(reply)) + _LINE
        if len(self.unread) > UNREAD_LIMIT_BYTES:
            raise _TooMuchError(f"{len(self.unread)} octets are not read")

    def gone(self) -> bool:
        """Whether nobody is there to read any more either: poll(2) tells that from the end of what is sent."""
        poller = select.poll()
        poller.register(self.connection, 0)
        return any(events & select.POLLHUP for _, events in poller.poll(0))

    def flush(self) -> None:
        """Send what fits now."""
        if self.unread:
            with suppress(BlockingIOError):
                sent = self.connection.send(self.unread)
                del self.unread[:sent]

    def close(self) -> None:
        self.connection.close()
        while self._descriptors:
            os.close(self._descriptors.popleft())

    def _keep(self, ancillary: list[tuple[int, int, bytes]]) -> None:
        for level, kind, octets in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                numbers = array.array("i")
                numbers.frombytes(octets[: len(octets) - len(octets) % numbers.itemsize])
                self._descriptors.extend(numbers)


def _listen(path: Path) -> socket.socket:
    """A listening socket: directory 0750, socket 0660, group `meter-gateway` where there is one."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        if _answers(path):
            raise StoreError(f"another daemon listens at {path}")
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        path.chmod(0o660)
        with suppress(KeyError, PermissionError):
            os.chown(path, -1, grp.getgrnam(GROUP).gr_gid)
        listener.listen(CLIENTS_LIMIT)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise StoreError(
            f"cannot listen at {path}: {error.strerror or error}", detail=f"errno {error.errno}"
        ) from error
    except GatewayError:
        listener.close()
        raise
    return listener


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True
