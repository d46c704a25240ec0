"""A client of the daemon's control socket: one JSON line up, one or two JSON lines down."""

from __future__ import annotations

import array
import json
import os
import socket
import uuid
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


class Client:
    """One connection to the daemon. Raises NoDaemonError when there is none, or when it goes away."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(_CONNECT_TIMEOUT_S)
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise NoDaemonError(_no_daemon(path, error)) from error
        self._lines = self._socket.makefile("rb")
        self._sign: Callable[[str, Document], Document] = lambda _verb, command: command

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._lines.close()
        self._socket.close()

    def sign_with(self, keys: Sequence[PrivateKey]) -> None:
        """Sign every command from now on, for the gateway that answers here."""
        from gateway.control.signed import sign_command

        gateway = str(self.ask("info.get")["data"]["gateway"])
        self._sign = lambda verb, command: sign_command(gateway, verb, command, keys)

    def ask(self, verb: str, args: Mapping[str, Any] | None = None, *, file: int | None = None) -> Document:
        """The daemon's first answer to a command; `file` is a descriptor that goes along.

        Raises RefusedError where it says rejected or failed.
        """
        return self._reply(self._send(verb, args or {}, file), _REPLY_TIMEOUT_S)

    def await_done(
        self, verb: str, args: Mapping[str, Any], *, timeout_s: float = ERRAND_TIMEOUT_S
    ) -> Document:
        """The final answer to a read, which the daemon first accepts and later does. Raises RefusedError."""
        cmd_id = self._send(verb, args, None)
        reply = self._reply(cmd_id, _REPLY_TIMEOUT_S)
        return self._reply(cmd_id, timeout_s) if reply["status"] == "accepted" else reply

    def _send(self, verb: str, args: Mapping[str, Any], file: int | None) -> str:
        issued = datetime.now(UTC)
        cmd_id = str(uuid.uuid4())
        envelope = {
            "v": 1,
            "cmd_id": cmd_id,
            "verb": verb,
            "issued": time_text(issued),
            "expires": time_text(issued + _EXPIRES_AFTER),
            "args": args,
        }
        line = json.dumps(self._sign(verb, envelope), separators=(",", ":")).encode() + b"\n"
        ancillary = (
            [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file]))] if file is not None else []
        )
        try:
            sent = self._socket.sendmsg([line], ancillary)
            self._socket.sendall(line[sent:])
        except OSError as error:
            raise self._gone(error) from error
        return cmd_id

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
                break
        if reply["status"] in ("rejected", "failed"):
            raise RefusedError(reply)
        return reply

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
