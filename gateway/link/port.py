"""Lines: where octets leave the gateway and come in.

A `Port` is exclusive: one worker owns it. Every read and write has a deadline; a line that is gone raises
`PortError`, silence is an empty read.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import os
import select
import socket
import termios
from typing import Protocol

import serial

from gateway.errors import LinkLostError, PortError
from gateway.link.rfc2217 import Rfc2217Port, notice_death
from gateway.link.tuning import tune
from gateway.model import Parity, PortKind, PortSettings
from gateway.wire.mode_e import SIGN_ON_BAUD

WRITE_TIMEOUT_S = 30.0
"""Longer than 2 KiB take at 300 baud would be a line that no longer drains."""
CONNECT_TIMEOUT_S = 10.0
RAW_SERVER = "socket://"

_TIOCGEXCL = 0x80045440
"""Linux, <asm-generic/ioctls.h>; the termios module has it from Python 3.13 on."""

_PARITY = {Parity.NONE: serial.PARITY_NONE, Parity.EVEN: serial.PARITY_EVEN, Parity.ODD: serial.PARITY_ODD}


class Port(Protocol):
    """One line, as sessions use it. The simulator's virtual lines have the same shape."""

    def write(self, octets: bytes) -> None:
        """Hand over all octets. Raises PortError."""

    def read(self, limit: int, timeout_s: float) -> bytes:
        """What is there, at most `limit` octets, as soon as there is one; b"" after `timeout_s`.
        Raises PortError when the line is gone, LinkLostError when the other end closed the connection."""

    def discard(self) -> None:
        """Throw away what came in unasked."""

    def set_baud(self, baud: int) -> int:
        """Go on at another rate at once; the rate until now. What was written and has not left yet is spoilt: the
        caller knows how long that takes. Raises PortError, also where there is no rate to set."""

    def close(self) -> None:
        """Give the line back. Never raises."""


def open_port(settings: PortSettings) -> Port:
    """The line that `settings` describe, exclusively. Raises PortError saying why it cannot be had. What stands behind
    "socket://" is a connection like any other: its server has the line, and the rate of it."""
    if settings.kind is PortKind.TCP:
        return TcpPort(settings.address)
    if settings.device.startswith(RAW_SERVER):
        return TcpPort(settings.device.removeprefix(RAW_SERVER))
    baud = SIGN_ON_BAUD if settings.mode_e else settings.baud
    if settings.device.startswith("rfc2217://"):
        return Rfc2217Port(settings, baud)
    return SerialPort(settings, baud)


class SerialPort:
    """A serial device. Opened by pyserial; read by select and os.read, which costs least per answer."""

    def __init__(self, settings: PortSettings, baud: int) -> None:
        self._name = settings.device
        try:
            self._serial = serial.Serial(
                settings.device,
                baud,
                parity=_PARITY[settings.parity],
                timeout=0,
                write_timeout=WRITE_TIMEOUT_S,
                exclusive=True,
            )
        except (serial.SerialException, OSError, ValueError) as error:
            raise PortError(f"cannot open {settings.device}: {_why(error)}", detail=_errno(error)) from None
        self._fd: int = self._serial.fileno()
        if _is_exclusive(self._fd):
            self._serial.close()
            raise PortError(f"cannot open {settings.device}: another program holds it")
        # pyserial's `exclusive` is an advisory lock only; this one also stops programs that take no lock.
        with contextlib.suppress(OSError):
            fcntl.ioctl(self._fd, termios.TIOCEXCL)
        tune(self._serial, settings)

    def write(self, octets: bytes) -> None:
        try:
            rest = octets[self._taken_at_once(octets) :]
            if rest:
                self._serial.write(rest)
        except (serial.SerialException, OSError) as error:
            raise PortError(f"cannot write to {self._name}: {error}", detail=_errno(error)) from None

    def _taken_at_once(self, octets: bytes) -> int:
        """How many octets the driver takes without waiting: usually all, and then nobody has to wait for room."""
        try:
            return os.write(self._fd, octets)
        except BlockingIOError:
            return 0

    def read(self, limit: int, timeout_s: float) -> bytes:
        try:
            if not select.select((self._fd,), (), (), timeout_s)[0]:
                return b""
            octets = os.read(self._fd, limit)
        except (OSError, ValueError) as error:
            raise PortError(f"cannot read from {self._name}: {error}", detail=_errno(error)) from None
        if not octets:
            # A descriptor that is readable and gives nothing: the adapter was pulled out.
            raise PortError(f"{self._name} is gone")
        return octets

    def discard(self) -> None:
        while self.read(65536, 0.0):
            pass

    def set_baud(self, baud: int) -> int:
        before = int(self._serial.baudrate)
        try:
            self._serial.baudrate = baud
        except (serial.SerialException, OSError, ValueError, termios.error) as error:
            raise PortError(
                f"{self._name} does not take {baud} baud: {error}", detail=_errno(error)
            ) from None
        return before

    def close(self) -> None:
        if not self._serial.is_open:
            return
        with contextlib.suppress(OSError):
            # The kernel takes it back with the last close only, and others may have the device open.
            fcntl.ioctl(self._fd, termios.TIOCNXCL)
        with contextlib.suppress(serial.SerialException, OSError):
            self._serial.close()


class TcpPort:
    """A TCP connection to one meter or to a line of meters behind a converter; made at the first write and
    again after the other end has closed it."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._address = (host.strip("[]"), int(port))
        self._socket: socket.socket | None = None

    def write(self, octets: bytes) -> None:
        if self._socket is None:
            self._socket = self._connect()
        try:
            self._socket.sendall(octets)
        except OSError as error:
            self.close()
            raise LinkLostError(f"connection to {self._text()} lost: {error}", detail=_errno(error)) from None

    def read(self, limit: int, timeout_s: float) -> bytes:
        if self._socket is None:
            raise LinkLostError(f"there is no connection to {self._text()}")
        try:
            if not select.select((self._socket,), (), (), timeout_s)[0]:
                return b""
            octets = self._socket.recv(limit)
        except OSError as error:
            self.close()
            raise LinkLostError(f"connection to {self._text()} lost: {error}", detail=_errno(error)) from None
        if not octets:
            self.close()
            raise LinkLostError(f"{self._text()} closed the connection")
        return octets

    def discard(self) -> None:
        with contextlib.suppress(LinkLostError):
            while self.read(65536, 0.0):
                pass

    def set_baud(self, baud: int) -> int:
        raise PortError(f"the rate behind {self._text()} cannot be set from here")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connect(self) -> socket.socket:
        try:
            connection = socket.create_connection(self._address, CONNECT_TIMEOUT_S)
        except (OSError, UnicodeError) as error:
            raise PortError(f"cannot connect to {self._text()}: {error}", detail=_errno(error)) from None
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(WRITE_TIMEOUT_S)
        notice_death(connection)
        return connection

    def _text(self) -> str:
        return f"{self._address[0]}:{self._address[1]}"


def _is_exclusive(descriptor: int) -> bool:
    """Somebody has taken the device for himself. The kernel keeps out everybody but root, who has to ask."""
    taken = array.array("i", [0])
    with contextlib.suppress(OSError):
        fcntl.ioctl(descriptor, _TIOCGEXCL, taken)
    return bool(taken[0])


def _why(error: Exception) -> str:
    """Pyserial's own words name the device once more, or twice."""
    number = getattr(error, "errno", None)
    cause = error.__context__
    if isinstance(cause, termios.error) and cause.args[0] == errno.ENOTTY:
        # A file, a pipe or /dev/null: it can be opened, and has no rate.
        return "it is no serial device"
    if number in (errno.EAGAIN, errno.EBUSY):
        return "another program holds it"
    return os.strerror(number) if number else str(error)


def _errno(error: Exception) -> str:
    number = getattr(error, "errno", None)
    return f"errno {number}" if number else ""
