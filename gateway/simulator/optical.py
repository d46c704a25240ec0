"""An optical head in front of a virtual meter that signs on by IEC 62056-21 mode E, in virtual time and on a pty.

The meter listens at 300 baud until it is asked, and is strict: parity bits must be right, and the acknowledgement must
come in time, else it begins a readout as mode C meters do. What is sent at another rate than it is heard is garbage.
"""

from __future__ import annotations

import re
import termios
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import NamedTuple

from gateway.clock import Clock
from gateway.model import Framing
from gateway.simulator.clock import VirtualClock
from gateway.simulator.faults import NONE, Dice
from gateway.simulator.line import VirtualLine
from gateway.simulator.link import Sent
from gateway.simulator.medium import BITS_PER_OCTET, Medium
from gateway.simulator.meter import VirtualMeter
from gateway.simulator.pty import PtyLine
from gateway.wire.hdlc import Frame, FrameReader, FrameType
from gateway.wire.mode_e import BAUDS, BREAK, SIGN_ON_BAUD, acknowledgement, with_parity

ACKNOWLEDGE_WITHIN_S = 1.5
"""From the end of the identification to the first octet of the acknowledgement (IEC 62056-21, 6.4.3)."""
_REQUEST = re.compile(rb"/\?([0-9A-Za-z ]{0,32})!\r\n")
_SLACK_OCTETS = 2
"""On a pty nobody knows the moment of a change of rate better than that."""
_LINE_OF_READOUT = with_parity(b"1.8.0(000123.4*kWh)\r\n")
_SPEEDS = {getattr(termios, f"B{baud}"): baud for baud in BAUDS}


@dataclass(frozen=True, slots=True)
class Head:
    """How the meter signs on, and what its head is like."""

    baud: int = 9600
    """The highest rate that the meter offers."""
    hdlc: bool = True
    identification: str = "SIMULATED"
    device_address: str = ""
    """It answers to requests for this address, and to those for whoever is there."""
    reaction_s: float = 0.2
    confirms: bool = False
    """It repeats the acknowledgement at the new rate."""
    deaf_after_ack_s: float = 0.0
    """So long after the change of rate it hears nothing."""
    echoes: float = 0.0
    """The part of what is sent that the head gives back; 1: all of it."""
    readout_octets: int = 0
    """How long a readout is. 0: the meter has none, and listens again when it is not acknowledged."""
    reading_out_at: int = 0
    """It is in a readout at this rate when it is first asked; 0: it is not."""


class _State(Enum):
    LISTENING = auto()
    IDENTIFIED = auto()
    READOUT = auto()
    HDLC = auto()


class _Passage(NamedTuple):
    """Octets on their way, at a rate."""

    start_s: float
    octets: bytes
    baud: int

    @property
    def octet_s(self) -> float:
        return BITS_PER_OCTET / self.baud

    @property
    def end_s(self) -> float:
        return self.start_s + len(self.octets) * self.octet_s


class OpticalMedium(Medium):
    """What lies between a gateway and the meter at an optical head. `set_baud` is the gateway's rate."""

    def __init__(self, meter: VirtualMeter, head: Head, *, seed: int = 0) -> None:
        super().__init__([meter], baud=SIGN_ON_BAUD, framing=Framing.HDLC, faults=NONE, seed=seed)
        self._meter = meter
        self._head = head
        self._noise = Dice(seed, "wrong rate")
        self._baud = SIGN_ON_BAUD
        self._going: list[_Passage] = []
        self._coming: list[_Passage] = []
        self._free_s = 0.0
        self._listen()
        self._acknowledge_by_s = self._reads_until_s = 0.0
        self._hears_from_s = self._heard_s = 0.0
        if head.reading_out_at:
            self._read_out(0.0, head.reading_out_at)

    # -- the gateway's side ---------------------------------------------------------------------------------------

    def set_baud(self, baud: int, now_s: float) -> int:
        """The gateway changes its rate: what has not left by now leaves as garbage. Its rate before."""
        before, self._baud = self._baud, baud
        self.octet_s = BITS_PER_OCTET / baud
        if before != baud:
            self._going = [self._cut_by_change(passage, now_s) for passage in self._going]
        return before

    def _cut_by_change(self, passage: _Passage, now_s: float) -> _Passage:
        left = max(0, int((now_s - passage.start_s) / passage.octet_s) + _SLACK_OCTETS)
        return passage._replace(octets=passage.octets[:left] + self._garbage(passage.octets[left:]))

    def transmit(self, octets: bytes, start_s: float) -> float:
        self._free_s = max(start_s, self._free_s)
        passage = _Passage(self._free_s, octets, self._baud)
        self._free_s = passage.end_s
        self._going.append(passage)
        if echo := octets[: round(len(octets) * self._head.echoes)]:
            self._coming.append(passage._replace(octets=echo))
        return passage.end_s

    @property
    def next_heard_s(self) -> float | None:
        moments = [self._going[0].end_s] if self._going else []
        if self._state is _State.IDENTIFIED:
            moments.append(self._acknowledge_by_s)
        return min(moments, default=None)

    @property
    def coming(self) -> tuple[float, float] | None:
        if not self._coming:
            return None
        first = self._coming[0]
        return first.start_s + first.octet_s, first.end_s

    def take(self, limit: int, now_s: float) -> bytes:
        if not self._coming:
            return b""
        first = self._coming[0]
        here = int((now_s - first.start_s) / first.octet_s + 1e-3)
        count = max(0, min(limit, len(first.octets), here))
        octets, rest = first.octets[:count], first.octets[count:]
        if rest:
            start_s = first.start_s + count * first.octet_s
            self._coming[0] = first._replace(start_s=start_s, octets=rest)
        else:
            del self._coming[0]
            self.delivered_s = first.end_s
        return octets if first.baud == self._baud else self._garbage(octets)

    def hang_up(self) -> None:
        self._going.clear()
        self._coming.clear()

    # -- the meter's side -------------------------------------------------------------------------------------

    def settle(self, now_s: float) -> None:
        while self._going and self._going[0].end_s <= now_s:
            passage = self._going.pop(0)
            self._pass_time(passage.start_s)
            self._take_in(passage)
        self._pass_time(now_s)

    def _pass_time(self, now_s: float) -> None:
        self._meter.settle(now_s)
        match self._state:
            case _State.IDENTIFIED if now_s > self._acknowledge_by_s and not self._is_spoken_to(now_s):
                self._read_out(self._acknowledge_by_s, SIGN_ON_BAUD)
            case _State.READOUT if now_s > self._reads_until_s:
                self._listen()
            case _State.HDLC:
                inactivity_s = self._meter.spec.inactivity_s
                if self._meter.down or (inactivity_s and now_s > self._heard_s + inactivity_s):
                    self._listen()

    def _is_spoken_to(self, now_s: float) -> bool:
        """Somebody began in time, and has not ended."""
        return any(passage.start_s <= self._acknowledge_by_s for passage in self._going)

    def _listen(self) -> None:
        self._state = _State.LISTENING
        self._own_baud = SIGN_ON_BAUD
        self._line = b""
        self._frames = FrameReader()

    def _read_out(self, now_s: float, baud: int) -> None:
        self._listen()
        if self._head.readout_octets:
            self._state, self._own_baud = _State.READOUT, baud
            lines = -(-self._head.readout_octets // len(_LINE_OF_READOUT))
            self._reads_until_s = self._say(_LINE_OF_READOUT * lines, now_s)

    def _take_in(self, passage: _Passage) -> None:
        same = passage.baud == self._own_baud
        octets = passage.octets if same else self._garbage(passage.octets)
        match self._state:
            case _State.HDLC:
                self._hear_frames(octets, passage)
            case _State.READOUT:
                if BREAK in octets:
                    self._break_off(passage.end_s)
            case _State.LISTENING | _State.IDENTIFIED:
                # Characters whose parity is wrong were not meant for anybody.
                characters = bytes(octet & 0x7F for octet in octets if not octet.bit_count() & 1)
                self._line = (self._line + characters)[-64:]
                self._answer_line(passage.end_s)

    def _answer_line(self, now_s: float) -> None:
        if asked := _REQUEST.search(self._line):
            self._line = b""
            address = asked[1].decode().lstrip("0")
            if address in ("", self._head.device_address.lstrip("0")) and not self._meter.down:
                self._identify(now_s)
        elif self._state is _State.IDENTIFIED:
            for baud in BAUDS:
                wanted = bytes(octet & 0x7F for octet in acknowledgement(baud))
                if self._line.endswith(wanted) and baud <= self._head.baud:
                    self._begin_hdlc(baud, now_s)
                    return

    def _identify(self, now_s: float) -> None:
        head = self._head
        offer = b"\\2" if head.hdlc else b""
        line = b"/SIM" + BAUDS[head.baud] + offer + head.identification.encode() + b"\r\n"
        end_s = self._say(with_parity(line), now_s + head.reaction_s)
        self._state, self._acknowledge_by_s = _State.IDENTIFIED, end_s + ACKNOWLEDGE_WITHIN_S

    def _begin_hdlc(self, baud: int, now_s: float) -> None:
        self._listen()
        self._state, self._own_baud = _State.HDLC, baud
        self._heard_s, self._hears_from_s = now_s, now_s + self._head.deaf_after_ack_s
        if self._head.confirms:
            self._hears_from_s = self._say(acknowledgement(baud), now_s + self._head.reaction_s)

    def _hear_frames(self, octets: bytes, passage: _Passage) -> None:
        if passage.start_s < self._hears_from_s:
            return
        now_s = passage.end_s
        for event in self._frames.feed(octets):
            if not isinstance(event, Frame) or event.destination != self._meter.spec.address:
                continue
            self._heard_s = now_s
            for sent in self._meter.hear(event, now_s):
                self._send(sent, now_s)
            if event.type is FrameType.DISC:
                self._listen()

    def _send(self, sent: Sent, now_s: float) -> None:
        self._say(sent.octets, now_s + sent.late_s)

    def _say(self, octets: bytes, start_s: float) -> float:
        """When its last octet has left."""
        after_s = self._coming[-1].end_s if self._coming else 0.0
        passage = _Passage(max(start_s, after_s), octets, self._own_baud)
        self._coming.append(passage)
        return passage.end_s

    def _break_off(self, now_s: float) -> None:
        self._coming = [
            passage._replace(
                octets=passage.octets[: max(0, int((now_s - passage.start_s) / passage.octet_s))]
            )
            for passage in self._coming
            if passage.start_s < now_s
        ]
        self._listen()

    def _garbage(self, octets: bytes) -> bytes:
        return self._noise.randbytes(len(octets))


class OpticalLine(VirtualLine):
    """A head on a meter, in virtual time. Whoever opens it finds it at 300 baud."""

    def __init__(self, meter: VirtualMeter, clock: VirtualClock, head: Head, *, seed: int = 0) -> None:
        super().__init__([meter], clock, baud=SIGN_ON_BAUD, seed=seed)
        self._medium: OpticalMedium = OpticalMedium(meter, head, seed=seed)

    def reopen(self) -> OpticalLine:
        super().reopen()
        self._medium.set_baud(SIGN_ON_BAUD, self.clock.monotonic())
        return self

    def set_baud(self, baud: int) -> int:
        self._check()
        return self._medium.set_baud(baud, self.clock.monotonic())


class OpticalPty(PtyLine):
    """A head on a meter, on a pty in real time. A pty carries octets at any speed; the gateway's is read from it."""

    def __init__(
        self,
        meters: Sequence[VirtualMeter],
        head: Head,
        *,
        link_path: Path | None = None,
        seed: int = 0,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(meters, link_path=link_path, baud=SIGN_ON_BAUD, seed=seed)
        self._medium: OpticalMedium = OpticalMedium(meters[0], head, seed=seed)

    def _read(self, timeout_s: float) -> bytes:
        octets = super()._read(timeout_s)
        if self._slave >= 0:
            speed = termios.tcgetattr(self._slave)[4]
            self._medium.set_baud(_SPEEDS.get(speed, SIGN_ON_BAUD), self._now_s())
        return octets
