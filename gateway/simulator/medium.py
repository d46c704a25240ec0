"""What lies between a gateway and some meters: octets take their time, noise hits them, every meter hears them.

`Medium` is the common half of all virtual lines. It knows times only as numbers it is given: the in-process line
runs it on virtual time, ptys and TCP ports on real time.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gateway.errors import LinkLostError
from gateway.model import Framing
from gateway.simulator.faults import Faults, Noise, dice
from gateway.simulator.link import Sent
from gateway.simulator.meter import VirtualMeter
from gateway.wire.hdlc import Address, Frame, FrameReader
from gateway.wire.wrapper import WrapperReader, encode_wrapper

BITS_PER_OCTET = 10
"""Start bit, 8 data bits, stop bit."""
INTER_OCTET_S = 0.5
"""After so long a silence a frame that has begun is forgotten (IEC 62056-46: 20 ms to 6 s)."""
_BUFFERED_OCTETS = 1 << 20
"""What nobody reads is lost beyond this, as it is in the buffer of a serial driver."""


class Burst(NamedTuple):
    """Octets on their way without a gap: the first one begins at `start_s`, the last one is there at `end_s`."""

    start_s: float
    end_s: float
    octets: bytes


class Medium:
    """Meters that share a line (HDLC), or that sit behind one TCP port (wrapper). Not thread-safe.

    `baud` 0: octets take no time. The addresses of the meters must differ: ValueError.
    """

    def __init__(
        self,
        meters: Sequence[VirtualMeter],
        *,
        baud: int,
        framing: Framing,
        faults: Faults,
        seed: int,
    ) -> None:
        self.octet_s = BITS_PER_OCTET / baud if baud else 0.0
        self._to_meter, self._to_us = faults.to_meter, faults.to_gateway
        self._quiet_out, self._quiet_in = faults.to_meter.silent, faults.to_gateway.silent
        self._noise_out = dice(seed, "noise to meters")
        self._noise_in = dice(seed, "noise to gateway")
        self._meters = _HdlcMeters(meters) if framing is Framing.HDLC else _WrapperMeters(meters)
        self._to_meters: deque[Burst] = deque()
        self._to_gateway: deque[Burst] = deque()
        self._buffered = 0
        self._out_free_s = 0.0
        self._in_free_s = 0.0

    @property
    def closed(self) -> bool:
        """The other end of a TCP connection is gone: its meter is down, or heard nonsense."""
        return self._meters.closed

    def hang_up(self) -> None:
        """The connection or the line is gone, and all that was on its way."""
        self._to_meters.clear()
        self._to_gateway.clear()
        self._buffered = 0
        self._meters.hang_up()

    def transmit(self, octets: bytes, start_s: float) -> float:
        """The gateway begins to send; when it has ended. What meters hear they hear in `settle`."""
        start_s = max(start_s, self._out_free_s)
        end_s = self._out_free_s = start_s + len(octets) * self.octet_s
        if self._quiet_out:
            self._to_meters.append(Burst(start_s, end_s, octets))
            return end_s
        for frame in _frames(octets):
            for late_s, piece in _disturbed(frame, self._to_meter, self._noise_out):
                last_s = self._to_meters[-1].start_s if self._to_meters else 0.0
                self._to_meters.append(self._burst(max(start_s + late_s, last_s), piece))
            start_s += len(frame) * self.octet_s
        return end_s

    @property
    def next_heard_s(self) -> float | None:
        """When the meters will have heard the next burst."""
        return self._to_meters[0].end_s if self._to_meters else None

    def settle(self, now_s: float) -> None:
        """Let the meters hear, and answer, all that reaches them by now."""
        while self._to_meters and self._to_meters[0].end_s <= now_s:
            burst = self._to_meters.popleft()
            for sent in self._meters.hear(burst):
                self._answer(sent, burst.end_s)

    def _answer(self, sent: Sent, now_s: float) -> None:
        pieces: Iterator[tuple[float, bytes]] | tuple[tuple[float, bytes]] = ((0.0, sent.octets),)
        if not self._quiet_in:
            pieces = _disturbed(sent.octets, self._to_us, self._noise_in)
        for late_s, octets in pieces:
            burst = self._burst(max(now_s + sent.late_s + late_s, self._in_free_s), octets)
            self._in_free_s = burst.end_s
            if octets and self._buffered < _BUFFERED_OCTETS:
                self._to_gateway.append(burst)
                self._buffered += len(octets)

    @property
    def coming(self) -> tuple[float, float] | None:
        """When the first octet of what comes next will be there, and when all of that burst."""
        if not self._to_gateway:
            return None
        burst = self._to_gateway[0]
        return burst.start_s + self.octet_s, burst.end_s

    def take(self, limit: int, now_s: float) -> bytes:
        """What has reached the gateway by now, of one burst at most."""
        if not self._to_gateway:
            return b""
        burst = self._to_gateway[0]
        count = min(limit, len(burst.octets))
        if self.octet_s and now_s < burst.end_s:
            # The margin keeps an octet whose time was computed as a sum from missing its own moment.
            count = min(count, int((now_s - burst.start_s) / self.octet_s + 1e-3))
        if count <= 0:
            return b""
        self._buffered -= count
        if count == len(burst.octets):
            self._to_gateway.popleft()
        else:
            self._to_gateway[0] = self._burst(burst.start_s + count * self.octet_s, burst.octets[count:])
        return burst.octets[:count]

    def _burst(self, start_s: float, octets: bytes) -> Burst:
        return Burst(start_s, start_s + len(octets) * self.octet_s, octets)


class _HdlcMeters:
    """Meters on a line. All hear the same octets, hence the same frames; only the addressed one answers."""

    closed = False

    def __init__(self, meters: Sequence[VirtualMeter]) -> None:
        self._meters: dict[Address, VirtualMeter] = {meter.spec.address: meter for meter in meters}
        if len(self._meters) < len(meters):
            raise ValueError("two virtual meters have the same HDLC address")
        self._reader = FrameReader()
        self._heard_s = 0.0

    def hear(self, burst: Burst) -> list[Sent]:
        if burst.start_s > self._heard_s + INTER_OCTET_S:
            self._reader.reset()
        self._heard_s = burst.end_s
        sent = []
        for event in self._reader.feed(burst.octets):
            # A damaged frame is no frame: the client has to ask again.
            if isinstance(event, Frame) and (meter := self._meters.get(event.destination)):
                sent += meter.hear(event, burst.end_s)
        return sent

    def hang_up(self) -> None:
        """A cut line tells the meters nothing; what they had begun to hear ends by its silence."""
        self._reader.reset()


class _WrapperMeters:
    """Meters behind one TCP port, told apart by their wPort (IEC 62056-47)."""

    def __init__(self, meters: Sequence[VirtualMeter]) -> None:
        self._meters = {meter.spec.address.upper: meter for meter in meters}
        if len(self._meters) < len(meters):
            raise ValueError("two virtual meters have the same wPort")
        self._reader = WrapperReader()
        self._nonsense = False

    @property
    def closed(self) -> bool:
        return self._nonsense or any(meter.down for meter in self._meters.values())

    def hear(self, burst: Burst) -> list[Sent]:
        sent: list[Sent] = []
        try:
            messages = self._reader.feed(burst.octets)
        except LinkLostError:
            self._nonsense = True
            return sent
        for source, destination, apdu in messages:
            if meter := self._meters.get(destination):
                sent += [
                    Sent(late_s, encode_wrapper(destination, source, answer))
                    for late_s, answer in meter.hear_wrapped(source, apdu, burst.end_s)
                ]
        return sent

    def hang_up(self) -> None:
        self._reader.reset()
        self._nonsense = False
        for meter in self._meters.values():
            meter.hang_up()


# -- noise ----------------------------------------------------------------------------------------------------


def _frames(octets: bytes) -> Iterator[bytes]:
    """The HDLC frames that a write holds in a row, each with its flags; whatever is none stays in one piece."""
    start = 0
    while octets[start : start + 1] == b"\x7e" and len(octets) > start + 2:
        end = start + ((octets[start + 1] << 8 | octets[start + 2]) & 0x7FF) + 2
        if octets[end - 1 : end] != b"\x7e":
            break
        yield octets[start:end]
        start = end
    if start < len(octets):
        yield octets[start:]


def _disturbed(frame: bytes, noise: Noise, chance: random.Random) -> Iterator[tuple[float, bytes]]:
    """What is left of a frame, and how late it comes. As many throws of the dice for each frame whatever they
    show, so that one probability more leaves the rest of a scenario as it was."""
    throws = [chance.random() for _ in range(6)]
    where, bit, late_s = chance.randrange(len(frame)), chance.randrange(8), chance.random() * noise.delay_s
    if throws[0] < noise.lost:
        return
    octets = bytearray(frame)
    if throws[1] < noise.damaged:
        octets[where] ^= 1 << bit
    if throws[2] < noise.octet_lost:
        del octets[where]
    if throws[3] < noise.octet_doubled:
        octets[where:where] = octets[where : where + 1]
    yield (late_s if throws[4] < noise.delayed else 0.0), bytes(octets)
    if throws[5] < noise.doubled:
        yield 0.0, bytes(octets)
