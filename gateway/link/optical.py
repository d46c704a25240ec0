"""Signing on at an optical port: from 300 baud, where every meter begins, to the rate that is agreed (mode E of
IEC 62056-21; `gateway.wire.mode_e` has the octets).

What a meter may be at when it is wanted, and what is done about it, each once for each sign-on:

- waiting, as it should: it answers within its reaction time;
- in a link of an earlier association that broke, at the rate agreed then: it hears nothing at 300 baud. It is told DISC
  at that rate; where that is of no use, it comes back by its inactivity time-out, and this job by its next try;
- in a readout, at 300 baud or at the highest rate: it is told to break off, and given a minute to end it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gateway.clock import Clock
from gateway.errors import NoHdlcError, SilentError, WireError
from gateway.link.port import Port
from gateway.model import Meter, PortSettings
from gateway.wire import mode_e
from gateway.wire.client import Client
from gateway.wire.mode_e import SIGN_ON_BAUD, Identification, IdentificationReader, agreed_baud

BITS_PER_OCTET = 10
REACTION_S = 1.5
"""The longest before an answer, and between two characters of it (IEC 62056-21, 6.4.3)."""
ANSWER_LIMIT_S = 10.0
"""Who still talks after so long does not identify himself: an identification takes less than two seconds."""
DISCONNECT_S = 1.0
"""So long a meter may take to answer DISC, beyond the time on the line."""
READOUT_LIMIT_S = 60.0
"""So long a readout may go on that is not broken off."""
CONFIRMATION_LIMIT_S = 1.0
"""So long a confirmation that has begun may take to its end."""
TURN_S = 0.3
"""A meter that left its link needs this before it hears a request (its reaction time is 200 ms at least)."""


class SignOn:
    """Brings one meter from wherever it stands into HDLC. Raises PortError, SilentError, WireError where something
    answers and is no meter, and NoHdlcError."""

    def __init__(self, port: Port, settings: PortSettings, meter: Meter, clock: Clock) -> None:
        self._port = port
        self._settings = settings
        self._meter = meter
        self._clock = clock

    def sign_on(self, links: Sequence[Client]) -> int:
        """The rate that was agreed, at which the line stands then. `links`: one for each client of ours that may have
        left a link with the meter."""
        stood_at = self._port.set_baud(SIGN_ON_BAUD)
        if stood_at != SIGN_ON_BAUD:
            self._disconnect(links, stood_at)
        found = self._identify(links)
        if not found.hdlc:
            raise NoHdlcError(
                f"meter {self._meter.id} signs on as {found.manufacturer} {found.text!r} and does not offer HDLC by "
                "mode E"
            )
        baud = agreed_baud(found.baud, self._settings.baud)
        self._change_over(baud)
        return baud

    # -- who is there -----------------------------------------------------------------------------------------

    def _identify(self, links: Sequence[Client]) -> Identification:
        broken_off = disconnected = False
        heard = 0
        for _ in range(max(2, self._settings.attempts)):
            reader = IdentificationReader()
            found, talking = self._ask(reader)
            if found is not None:
                return found
            heard += reader.heard
            if talking and not broken_off:
                broken_off = True
                self._break_off()
            elif not disconnected:
                disconnected = True
                self._disconnect(links, self._settings.baud)
        who = f"meter {self._meter.id} does not sign on at {SIGN_ON_BAUD} baud (mode E)"
        if heard:
            raise WireError(f"{who}: {heard} octets, and no identification among them")
        raise SilentError(f"{who}: no answer")

    def _ask(self, reader: IdentificationReader) -> tuple[Identification | None, bool]:
        """What the meter answers to a request; with none, whether somebody was still talking at the end."""
        octets = mode_e.request(self._meter.device_address)
        self._port.discard()
        self._port.write(octets)
        end_s = self._clock.monotonic() + ANSWER_LIMIT_S
        for heard in self._hear(_line_s(octets, SIGN_ON_BAUD) + REACTION_S, ANSWER_LIMIT_S):
            if found := reader.feed(heard):
                return found, False
        return None, self._clock.monotonic() >= end_s

    # -- what it may be at instead ----------------------------------------------------------------------------

    def _disconnect(self, links: Sequence[Client], baud: int) -> None:
        """End a link that may stand at `baud`, whoever of ours began it; the line is at 300 baud then."""
        self._port.set_baud(baud)
        for link in links:
            octets = link.disconnect()
            self._port.discard()
            self._port.write(octets)
            limit_s = _line_s(octets, baud) + DISCONNECT_S
            for heard in self._hear(limit_s, limit_s):
                link.receive(heard)
                if link.disconnected:
                    break
            if link.disconnected:
                break
        self._port.set_baud(SIGN_ON_BAUD)
        self._clock.sleep(TURN_S)

    def _break_off(self) -> None:
        """End a readout at 300 baud, or at our highest rate; else wait for its end."""
        for baud in dict.fromkeys((SIGN_ON_BAUD, self._settings.baud)):
            self._port.set_baud(baud)
            self._port.write(mode_e.BREAK)
            self._clock.sleep(_line_s(mode_e.BREAK, baud))
            self._port.set_baud(SIGN_ON_BAUD)
            if self._falls_silent(2 * REACTION_S):
                return
        self._falls_silent(READOUT_LIMIT_S)

    def _falls_silent(self, limit_s: float) -> bool:
        end_s = self._clock.monotonic() + limit_s
        for _ in self._hear(REACTION_S, limit_s):
            pass
        return self._clock.monotonic() < end_s

    # -- the rate ---------------------------------------------------------------------------------------------

    def _change_over(self, baud: int) -> None:
        """Acknowledge, change the rate when that has left the line, and let the meter do the same."""
        profile = self._meter.profile
        octets = mode_e.acknowledgement(baud)
        self._clock.sleep(profile.optical_delay_before_ack_s)
        left_s = self._clock.monotonic() + _line_s(octets, SIGN_ON_BAUD)
        self._port.write(octets)
        # A driver calls drained what is still in its adapter, and an adapter that hangs is never drained: the time on
        # the line is certain.
        self._clock.sleep(left_s - self._clock.monotonic())
        self._port.discard()  # the echo of a head
        self._port.set_baud(baud)
        end_s = self._clock.monotonic() + profile.optical_delay_after_ack_s
        limit_s = end_s + CONFIRMATION_LIMIT_S
        heard = b""
        while (now_s := self._clock.monotonic()) < end_s or (
            now_s < limit_s and mode_e.confirming(heard, octets)
        ):
            until_s = end_s if now_s < end_s else limit_s
            heard = (heard + self._port.read(len(octets), until_s - now_s))[-64:]
        self._port.discard()

    def _hear(self, silence_s: float, limit_s: float) -> Iterator[bytes]:
        """What comes in, until nothing does for `silence_s` or `limit_s` have passed."""
        end_s = self._clock.monotonic() + limit_s
        while (left_s := end_s - self._clock.monotonic()) > 0:
            heard = self._port.read(256, min(silence_s, left_s))
            if not heard:
                return
            yield heard


def _line_s(octets: bytes, baud: int) -> float:
    return len(octets) * BITS_PER_OCTET / baud
