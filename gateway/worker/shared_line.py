"""Does another master talk on this line? Listened for before we talk, and seen in what comes between.

RS-485 has one master. Where there is a second one (a reader that was forgotten, a vendor's tool on a lent line), both
collide, and meters get frames that neither sent. So the line is listened to before a conversation that follows a pause;
if somebody else is heard, until he is quiet, for a bounded time. What fails while he is heard is his doing: the job
waits for the line and not for its meter.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection

from gateway.clock import Clock
from gateway.errors import LineSharedError, LinkLostError, MeterError, SilentError
from gateway.link.conversation import READ_LIMIT
from gateway.link.port import Port
from gateway.model import AlarmKind, PortKind, PortSettings
from gateway.store import Store
from gateway.wire.hdlc import Frame, FrameReader
from gateway.wire.masters import of_another_master, worded

PAUSE_S = 1.0
"""Nobody else begins in shorter pauses of ours, if he listens at all."""
FIRST_S = 0.3
"""So long a line is listened to that was opened just now; later the driver has kept what came in."""
QUIET_S = 0.5
"""A pause of his in which one of our exchanges may fit. A slow meter of his may take longer to answer: then both
collide, and ask again."""
LIMIT_S = 15.0
"""So long he is waited for in one step; then others look after their own affairs, and the job comes back."""
CALM_S = 600.0
"""After so long without a sign of him the alarm ends."""


class SharedLine:
    """Of one port. `clients`: who this gateway is on it."""

    def __init__(
        self, settings: PortSettings, *, clients: Collection[int], store: Store, clock: Clock
    ) -> None:
        self._name = settings.name
        self._is_bus = settings.kind is PortKind.RS485
        self._clients = clients
        self._store = store
        self._clock = clock
        self._reader = FrameReader()
        self._port: Port | None = None
        self.listen_at_s = 0.0 if self._is_bus else math.inf
        """From then on `listen` is called for before we talk, and where the line was opened anew; it may be always."""
        self.calm_at_s = math.inf
        """When the alarm ends if nothing more is heard, for which `calm` is called; never: there is none."""
        if store.alarmed(AlarmKind.PORT_SHARED, settings.name):
            self.calm_at_s = clock.monotonic() + CALM_S

    def calm(self) -> None:
        """End the alarm: its time has come."""
        self.calm_at_s = math.inf
        self._store.end_alarm(AlarmKind.PORT_SHARED, port=self._name)

    def used(self, at_s: float) -> None:
        """An exchange has ended."""
        if self._is_bus:
            self.listen_at_s = at_s + PAUSE_S

    def listen(self, port: Port) -> None:
        """Before we talk. Raises LineSharedError where somebody else talks and does not stop, and PortError. Where a
        device server has no connection with us, or has just ended it, there is nothing to hear: what we write makes
        one."""
        with contextlib.suppress(LinkLostError):
            self._listen(port)

    def _listen(self, port: Port) -> None:
        opened, self._port = port is not self._port, port
        now_s = self._clock.monotonic()
        if not self._is_bus or (not opened and now_s < self.listen_at_s):
            return
        other = self._hear(port, FIRST_S if opened else 0.0)
        if other is None:
            return
        give_up_s = now_s + LIMIT_S
        quiet_s = now_s
        while (now_s := self._clock.monotonic()) < give_up_s:
            octets = port.read(READ_LIMIT, min(QUIET_S, give_up_s - now_s))
            if not octets and self._clock.monotonic() - quiet_s >= QUIET_S:
                return
            if octets:
                quiet_s = self._clock.monotonic()
                self._judge(octets)
        raise LineSharedError(f"another master talks on the line without a pause: {other}")

    def blame(self, error: MeterError, others: int) -> MeterError:
        """What an exchange came to in which `others` frames of another master were heard: silence is no fault of the
        meter then."""
        if not others:
            return error
        self._note(f"{others} frames to meters that are not ours")
        if not isinstance(error, SilentError):
            return error
        return LineSharedError(f"another master talks on the line: {error.message}", detail=error.detail)

    def _hear(self, port: Port, listen_s: float) -> str | None:
        """Of whom, in words, something came in unasked, or comes within `listen_s`."""
        self._reader.reset()
        found = None
        end_s = self._clock.monotonic() + listen_s
        while octets := port.read(READ_LIMIT, max(0.0, end_s - self._clock.monotonic())):
            words = self._judge(octets)
            found = found or words
            if self._clock.monotonic() > end_s + LIMIT_S:
                break  # it is not for us to hear all of it
        return found

    def _judge(self, octets: bytes) -> str | None:
        found = None
        for event in self._reader.feed(octets):
            if isinstance(event, Frame) and of_another_master(event, self._clients):
                found = found or worded(event)
        if found:
            self._note(found)
        return found

    def _note(self, words: str) -> None:
        """Raise the alarm with what was heard first; it stays so until it ends."""
        if self.calm_at_s == math.inf:
            self._store.raise_alarm(
                AlarmKind.PORT_SHARED, f"another master talks on the line: {words}", port=self._name
            )
        self.calm_at_s = self._clock.monotonic() + CALM_S
