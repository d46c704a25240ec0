"""The associations that stand on one line, and the line itself.

On an HDLC bus each meter has a link of its own (IEC 62056-46), and the links with several stand side by side: a meter
that is at work by itself is asked how far it is without a new association, and others have the line meanwhile. An
optical head or a connection with the wrapper has one at a time.

To keep an association is an economy and never a promise: whatever becomes of it costs a new one (invariant 1).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from gateway.clock import Clock
from gateway.errors import MeterError, PortError
from gateway.link.echo import EchoFilter
from gateway.link.life import LivingPort
from gateway.link.port import Port
from gateway.link.session import Session
from gateway.model import Framing, Meter, PortKind, PortSettings
from gateway.worker.contact import Contact

MOST_TOGETHER = 32
"""As many loads as a segment of RS-485 carries without a repeater (TIA-485)."""
LONGEST_REST_S = 60.0
"""An association that was not used for so long is begun anew: well below the inactivity time-out of a meter's link
(120 s by default, IEC 62056-46), and this gateway can be busy elsewhere for a while."""
LEAVING_LIMIT_S = 10.0
"""So long the gateway takes leave of its meters; the others find out by their inactivity time-out."""


@dataclass(slots=True)
class _Standing:
    session: Session
    used_at_s: float


class Sessions:
    """Of one port. `forget(meter_id)` is called whenever an association has ended that was not known to be lost,
    `show_life` whenever something is written; a meter is left within `at_work_on(meter_id)`."""

    def __init__(
        self,
        settings: PortSettings,
        *,
        contact: Contact,
        clock: Clock,
        open_port: Callable[[PortSettings], Port],
        forget: Callable[[str], None],
        show_life: Callable[[], None],
        at_work_on: Callable[[str], AbstractContextManager[None]],
    ) -> None:
        bus = settings.framing is Framing.HDLC and settings.kind is not PortKind.OPTICAL
        self._most = MOST_TOGETHER if bus else 1
        self._settings = settings
        self._contact = contact
        self._clock = clock
        self._open_port = open_port
        self._forget = forget
        self._show_life = show_life
        self._at_work_on = at_work_on
        self._port: Port | None = None
        self._standing: dict[str, _Standing] = {}

    def of(self, meter_id: str, *, longest_rest_s: float = LONGEST_REST_S) -> Session | None:
        """The association with this meter, where one stands that can be relied on."""
        standing = self._standing.get(meter_id)
        if standing is None:
            return None
        if standing.session.alive and self._clock.monotonic() - standing.used_at_s < longest_rest_s:
            return standing.session
        del self._standing[meter_id]
        self._forget(meter_id)
        return None

    def rested_s(self, meter_id: str, now_s: float) -> float:
        """For how long the association with this meter had not been used at `now_s`; 0: there is none."""
        standing = self._standing.get(meter_id)
        return max(0.0, now_s - standing.used_at_s) if standing else 0.0

    def used(self, meter_id: str, at_s: float) -> None:
        """The meter has answered in its association."""
        if standing := self._standing.get(meter_id):
            standing.used_at_s = at_s

    def associate(self, meter: Meter) -> Session:
        """A new association; what does not fit beside it is left. Raises what `Contact.associate` does, and PortError
        where the line cannot be had."""
        self._standing.pop(meter.id, None)  # SNRM begins anew, whatever was before
        while len(self._standing) >= self._most:
            self.leave(min(self._standing, key=lambda meter_id: self._standing[meter_id].used_at_s))
        session = self._contact.associate(self.port(), meter)
        self._standing[meter.id] = _Standing(session, self._clock.monotonic())
        return session

    def port(self) -> Port:
        """The line, open. Raises PortError."""
        if self._port is None:
            port = LivingPort(self._open_port(self._settings), self._show_life)
            tcp = self._settings.kind is PortKind.TCP
            self._port = port if tcp else EchoFilter(port, self._settings.name, self._clock)
        return self._port

    def leave(self, meter_id: str) -> None:
        """Take leave of a meter, where there is an association with it."""
        standing = self._standing.pop(meter_id, None)
        if standing is None:
            return
        if standing.session.alive:
            with self._at_work_on(meter_id):
                standing.session.close()
        self._forget(meter_id)

    def leave_all_but(self, wanted: Callable[[str], bool]) -> None:
        """Take leave of every meter that is not `wanted`."""
        give_up_s = self._clock.monotonic() + LEAVING_LIMIT_S
        for meter_id in [meter_id for meter_id in self._standing if not wanted(meter_id)]:
            if self._clock.monotonic() > give_up_s:
                self._standing[meter_id].session.alive = False
            self.leave(meter_id)

    def lose(self, meter_id: str, error: MeterError) -> None:
        """After an error the association counts for nothing, and a connection or a line that failed neither."""
        self._standing.pop(meter_id, None)
        if isinstance(error, PortError) or self._settings.kind is PortKind.TCP:
            self.close_port()

    def close(self) -> None:
        """Leave the meters, and give the line back."""
        self.leave_all_but(lambda _: False)
        self.close_port()

    def close_port(self) -> None:
        """Give the line back as it is: whoever was associated over it is associated no longer."""
        lost, self._standing = list(self._standing), {}
        for meter_id in lost:
            self._forget(meter_id)
        if self._port is not None:
            self._port.close()
            self._port = None
