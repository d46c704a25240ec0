"""Virtual meters in real time: on a pty, as a serial port sees them, or on a loopback TCP port.

One thread serves a line. `serve` is the one call that programs need; tests may use the lines themselves:

    with PtyLine([VirtualMeter(spec)]) as line:
        ...  # a gateway whose port has `device = line.address`
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import socket
import termios
import threading
import tty
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from gateway.clock import Clock, SystemClock
from gateway.model import Framing
from gateway.simulator.clock import EPOCH
from gateway.simulator.faults import NONE, Faults
from gateway.simulator.medium import Medium
from gateway.simulator.meter import VirtualMeter

_READ_OCTETS = 65536
_PACE_S = 0.005
"""How often a paced line hands over what has come; a driver's latency."""
_SEND_TIMEOUT_S = 5.0
"""A TCP peer that takes nothing for so long is gone."""
_IDLE_S = 0.2
"""How often an idle line looks around."""
_PULL_TIMEOUT_S = 60.0
"""Far longer than a line needs to look around, on any machine."""


@contextlib.contextmanager
def serve(
    meters: Sequence[VirtualMeter],
    *,
    link_path: Path | None = None,
    tcp_port: int | None = None,
    framing: Framing = Framing.HDLC,
    baud: int = 0,
    faults: Faults = NONE,
    seed: int = 0,
) -> Iterator[PtyLine | TcpLine]:
    """Serve `meters` in real time until the block is left; `address` of what it gives says where.

    On a pty, with a symbolic link at `link_path` if one is given; with `tcp_port` on 127.0.0.1 instead (0: any free
    port), where `framing` may be the wrapper. `baud` 0: as fast as it goes; else octets take their time. `faults`
    concern the line here; those of a meter are its own. OSError where the link or the port cannot be had,
    ValueError where two meters behind the wrapper have one address.
    """
    line: PtyLine | TcpLine
    if tcp_port is None:
        line = PtyLine(meters, link_path=link_path, baud=baud, faults=faults, seed=seed)
    else:
        line = TcpLine(meters, framing=framing, port=tcp_port, baud=baud, faults=faults, seed=seed)
    with line:
        yield line


class _RealLine(ABC):
    """A medium run by a thread between `start` and `stop`. `meters` may be looked at meanwhile."""

    def __init__(
        self,
        meters: Sequence[VirtualMeter],
        *,
        framing: Framing,
        baud: int,
        faults: Faults,
        seed: int,
        clock: Clock | None = None,
    ) -> None:
        self.meters = tuple(meters)
        self._medium = Medium(meters, baud=baud, framing=framing, faults=faults, seed=seed)
        self._clock = clock or SystemClock()
        # Meters count their time of day from EPOCH.
        self._ahead_s = (self._clock.now() - EPOCH).total_seconds() - self._clock.monotonic()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._began_s = 0.0
        self._late_s = 0.0
        """How much later than on a real line the gateway got the last octets of what it was told."""

    @property
    @abstractmethod
    def address(self) -> str:
        """Where a gateway finds the line: a device path, or "host:port"."""

    @abstractmethod
    def _open(self) -> None: ...

    @abstractmethod
    def _close(self) -> None: ...

    @abstractmethod
    def _read(self, timeout_s: float) -> bytes:
        """What the gateway has sent; b"" when it sent nothing within `timeout_s`."""

    @abstractmethod
    def _write(self, octets: bytes) -> None:
        """Hand octets to the gateway. They are lost where nobody reads, as on a serial line."""

    def start(self) -> None:
        """Open the line and serve it. OSError where it cannot be opened."""
        self._open()
        self._began_s = self._now_s()
        self._medium.begin(self._began_s)
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name=f"virtual line {self.address}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the line; the meters stay as they are."""
        if self._thread is not None:
            self._stopping.set()
            self._thread.join()
            self._thread = None
            self._close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        while not self._stopping.is_set():
            octets = self._read(self._pause_s())
            now_s = self._now_s()
            if octets:
                # This thread is never woken to the microsecond. What the gateway got late it answers late, and on a
                # line that would have been so much earlier.
                self._medium.transmit(octets, now_s - self._late_s)
                self._late_s = 0.0
            self._medium.settle(now_s)
            while arrived := self._medium.take(_READ_OCTETS, now_s):
                self._write(arrived)
                if self._medium.octet_s:
                    self._late_s = max(0.0, self._now_s() - self._medium.delivered_s)

    def _pause_s(self) -> float:
        now_s, moments = self._now_s(), [_IDLE_S]
        if (heard_s := self._medium.next_heard_s) is not None:
            moments.append(heard_s - now_s)
        if (coming := self._medium.coming) is not None:
            moments.append(min(max(coming[0] - now_s, _PACE_S), coming[1] - now_s))
        return max(0.0, min(moments))

    def _now_s(self) -> float:
        return self._clock.monotonic() + self._ahead_s


class PtyLine(_RealLine):
    """Meters on a pty in raw mode. It stays the same device while gateways come and go, until it is unplugged."""

    def __init__(
        self,
        meters: Sequence[VirtualMeter],
        *,
        link_path: Path | None = None,
        baud: int = 0,
        faults: Faults = NONE,
        seed: int = 0,
    ) -> None:
        super().__init__(meters, framing=Framing.HDLC, baud=baud, faults=faults, seed=seed)
        self._link_path = link_path
        self._master = self._slave = -1
        self._device = ""
        self._unplugged = faults.unplugged
        self._pulled = False
        self._looked = threading.Event()

    @property
    def address(self) -> str:
        return str(self._link_path or self._device)

    def unplug(self) -> None:
        """Pull the adapter out: the link vanishes, and who has the device open finds it gone."""
        self._pull(out=True)

    def plug(self) -> None:
        """Put it back: the link comes back, and leads to another device."""
        self._pull(out=False)

    def _pull(self, *, out: bool) -> None:
        self._pulled = out
        self._looked.clear()
        if self._thread is None or not self._looked.wait(_PULL_TIMEOUT_S):
            raise RuntimeError("the line is not served")

    def _look(self, now_s: float) -> None:
        """Unplug or plug, in the thread that serves the line."""
        at_s = now_s - self._began_s
        out = self._pulled or any(from_s <= at_s < to_s for from_s, to_s in self._unplugged)
        if out and self._master >= 0:
            self._close()
            self._medium.hang_up()
        elif not out and self._master < 0:
            self._open()
        self._looked.set()

    def _open(self) -> None:
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self._device = os.ttyname(self._slave)
        if self._link_path is not None:
            try:
                # Only ever a link: one that a simulation which was killed has left.
                if self._link_path.is_symlink():
                    self._link_path.unlink()
                self._link_path.symlink_to(self._device)
            except OSError:
                self._close()
                raise

    def _close(self) -> None:
        if self._master < 0:
            return
        os.close(self._master)
        os.close(self._slave)
        self._master = self._slave = -1
        link = self._link_path
        if link is not None and link.is_symlink() and str(link.readlink()) == self._device:
            link.unlink()

    def _read(self, timeout_s: float) -> bytes:
        self._look(self._now_s())
        if self._master < 0:
            self._stopping.wait(_IDLE_S)
            return b""
        ready = select.select((self._master,), (), (), timeout_s)[0]
        # The last close of a serial device ends its exclusive use. We hold the pty open, so this close never comes,
        # and a gateway that was killed could not come back.
        fcntl.ioctl(self._slave, termios.TIOCNXCL)
        return os.read(self._master, _READ_OCTETS) if ready else b""

    def _write(self, octets: bytes) -> None:
        if self._master < 0:
            return
        with contextlib.suppress(BlockingIOError):
            os.write(self._master, octets)


class TcpLine(_RealLine):
    """Meters behind a loopback TCP port: by the wrapper, or on a line behind a converter (HDLC).

    One connection at a time, the newest. With the wrapper it is closed while a meter is down.
    """

    def __init__(
        self,
        meters: Sequence[VirtualMeter],
        *,
        framing: Framing = Framing.WRAPPER,
        port: int = 0,
        baud: int = 0,
        faults: Faults = NONE,
        seed: int = 0,
    ) -> None:
        super().__init__(meters, framing=framing, baud=baud, faults=faults, seed=seed)
        self._port = port
        self._listener: socket.socket | None = None
        self._peer: socket.socket | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    def _open(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self._port = self._listener.getsockname()[1]

    def _close(self) -> None:
        self._hang_up()
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _read(self, timeout_s: float) -> bytes:
        listener = self._listener
        if listener is None:
            return b""
        if self._medium.closed:
            for meter in self.meters:
                meter.settle(self._now_s())
        if self._medium.closed and self._medium.coming is None:
            self._hang_up()
        ready = select.select([listener, *filter(None, [self._peer])], (), (), timeout_s)[0]
        if listener in ready:
            self._hang_up()
            self._peer = listener.accept()[0]
            self._peer.settimeout(_SEND_TIMEOUT_S)
            self._peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return b""
        if self._peer is None or self._peer not in ready:
            return b""
        with contextlib.suppress(OSError):
            if octets := self._peer.recv(_READ_OCTETS):
                return octets
        self._hang_up()
        return b""

    def _write(self, octets: bytes) -> None:
        if self._peer is None:
            return
        try:
            self._peer.sendall(octets)
        except OSError:
            self._hang_up()

    def _hang_up(self) -> None:
        if self._peer is not None:
            self._peer.close()
            self._peer = None
            self._medium.hang_up()
