"""A gateway as commands ask it, and the one of this machine: over the daemon's control socket, one JSON line up, one or
two JSON lines down."""

from __future__ import annotations

import array
import json
import os
import socket
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from gateway.errors import ADVICE, Code, GatewayError

if TYPE_CHECKING:
    from gateway.signing import PrivateKey

Document = dict[str, Any]

_CONNECT_TIMEOUT_S = 5.0
_REPLY_TIMEOUT_S = 30.0
ERRAND_TIMEOUT_S = 600.0
"""A read waits behind the exchange that is under way, and a line of 300 baud takes minutes for a big bitmap."""
_REPLY_LIMIT_BYTES = 64 * 2**20
_EXPIRES_AFTER = timedelta(hours=1)


class NoDaemonError(GatewayError):
    """No daemon answers at the control socket."""


class RefusedError(GatewayError):
    """The daemon rejected a command, or the operation failed; `reply` is what it said."""

    def __init__(self, reply: Mapping[str, Any]) -> None:
        super().__init__(
            str(reply.get("message", "")), detail=str((reply.get("data") or {}).get("detail", ""))
        )
        self.reply = reply

    @property
    def reason(self) -> str:
        """The stable code, as the daemon gave it."""
        return str(self.reply.get("code") or "")

    @property
    def advice(self) -> str:
        return ADVICE[Code(self.reason)] if self.reason in Code.__members__ else ""


class OrderQueuedError(Exception):
    """No failure: the order waits at the broker for a gateway that is offline, as was wished."""

    def __init__(self, gateway: str, verb: str, for_s: float) -> None:
        super().__init__(f"gateway {gateway} is offline: {verb} waits for it at the broker")
        self.document = {"gateway": gateway, "status": "queued", "verb": verb, "for_s": for_s}


class GatewayClient(ABC):
    """A way to one gateway. Raises NoDaemonError when there is none, or when it is lost."""

    def __init__(self) -> None:
        self._sign: Callable[[str, Document], Document] = lambda _verb, command: command

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None: ...

    def sign_with(self, keys: Sequence[PrivateKey]) -> None:
        """Sign every command from now on, for the gateway that answers here."""
        from gateway.control.signed import sign_command

        gateway = self._gateway_id()
        self._sign = lambda verb, command: sign_command(gateway, verb, command, keys)

    def ask(self, verb: str, args: Mapping[str, Any] | None = None, *, file: int | None = None) -> Document:
        """The gateway's first answer to a command; `file` is a descriptor that goes along.

        Raises RefusedError where it says rejected or failed.
        """
        return self._reply(self._send(verb, args or {}, file), _REPLY_TIMEOUT_S)

    def await_done(
        self, verb: str, args: Mapping[str, Any], *, timeout_s: float = ERRAND_TIMEOUT_S
    ) -> Document:
        """The final answer to a read, which the gateway first accepts and later does. Raises RefusedError."""
        cmd_id = self._send(verb, args, None)
        reply = self._reply(cmd_id, _REPLY_TIMEOUT_S)
        return self._reply(cmd_id, timeout_s) if reply["status"] == "accepted" else reply

    def look(self, verb: str, args: Mapping[str, Any]) -> Document:
        """What a read answers, for somebody who looks again and again. Raises RefusedError."""
        data: Document = self.ask(verb, args)["data"]
        return data

    @abstractmethod
    def tell(self, say: Callable[[str], object]) -> None:
        """Where news of a connection that is waited for go; by themselves they go to stderr."""

    @abstractmethod
    def _gateway_id(self) -> str: ...

    @abstractmethod
    def _send(self, verb: str, args: Mapping[str, Any], file: int | None) -> str:
        """Give a command; its cmd_id."""

    @abstractmethod
    def _reply(self, cmd_id: str, timeout_s: float) -> Document:
        """The next reply to it. Raises RefusedError."""


def envelope(verb: str, args: Mapping[str, Any], expires_after: timedelta) -> Document:
    """A new command, from now on."""
    issued = datetime.now(UTC)
    return {
        "v": 1,
        "cmd_id": str(uuid.uuid4()),
        "verb": verb,
        "issued": time_text(issued),
        "expires": time_text(issued + expires_after),
        "args": args,
    }


def unless_refused(reply: Document) -> Document:
    """Raises RefusedError."""
    if reply["status"] in ("rejected", "failed"):
        raise RefusedError(reply)
    return reply


class Client(GatewayClient):
    """One connection to the daemon of this machine."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(_CONNECT_TIMEOUT_S)
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise NoDaemonError(_no_daemon(path, error)) from error
        self._lines = self._socket.makefile("rb")

    def close(self) -> None:
        self._lines.close()
        self._socket.close()

    def tell(self, say: Callable[[str], object]) -> None:
        """There are none: a daemon is there, or it is not."""

    def _gateway_id(self) -> str:
        return str(self.ask("info.get")["data"]["gateway"])

    def _send(self, verb: str, args: Mapping[str, Any], file: int | None) -> str:
        command = envelope(verb, args, _EXPIRES_AFTER)
        line = json.dumps(self._sign(verb, command), separators=(",", ":")).encode() + b"\n"
        ancillary = (
            [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file]))] if file is not None else []
        )
        try:
            sent = self._socket.sendmsg([line], ancillary)
            self._socket.sendall(line[sent:])
        except OSError as error:
            raise self._gone(error) from error
        return str(command["cmd_id"])

    def _reply(self, cmd_id: str, timeout_s: float) -> Document:
        """The next reply to this command; one without an id is to a command that could not be read."""
        self._socket.settimeout(timeout_s)
        while True:
            try:
                line = self._lines.readline(_REPLY_LIMIT_BYTES)
            except OSError as error:
                raise self._gone(error) from error
            if not line.endswith(b"\n"):
                raise self._gone(None)
            reply: Document = json.loads(line)
            if reply["cmd_id"] in (cmd_id, None):
                return unless_refused(reply)

    def _gone(self, error: OSError | None) -> NoDaemonError:
        why = "did not answer in time" if isinstance(error, TimeoutError) else "closed the connection"
        return NoDaemonError(f"the daemon at {self._path} {why}; look at its log and at `status`")


def _no_daemon(path: Path, error: OSError) -> str:
    match error:
        case FileNotFoundError():
            hint = "there is no such socket: start the daemon (systemctl start meter-gateway), or name its --config"
        case ConnectionRefusedError():
            hint = "nobody listens there: start the daemon (systemctl start meter-gateway)"
        case PermissionError():
            hint = "you may not use it: become root or a member of the group meter-gateway"
        case _:
            hint = error.strerror or os.strerror(error.errno or 0)
    return f"no daemon was reached at {path}: {hint}"


def time_text(moment: datetime) -> str:
    """An instant as envelopes have it."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
