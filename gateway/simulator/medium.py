"""What lies between a gateway and some meters: octets take their time, noise hits them, every meter hears them.

`Medium` is the common half of all virtual lines. It knows times only as numbers it is given: the in-process line
runs it on virtual time, ptys and TCP ports on real time.

A line with HDLC is one pair of wires: whoever talks while somebody else does spoils both (a `baud` of 0, where octets
take no time, and TCP know no collisions).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence

from gateway.errors import LinkLostError
from gateway.model import Framing
from gateway.simulator.broadcast import for_all
from gateway.simulator.faults import Dice, Echo, Faults, Talk
from gateway.simulator.link import Sent
from gateway.simulator.meter import VirtualMeter
from gateway.simulator.noise import MOMENT_S, Burst, Disturbance, both, frames_of, garbled, overlap
from gateway.wire.hdlc import Address, Frame, FrameReader
from gateway.wire.wrapper import WrapperReader, encode_wrapper

BITS_PER_OCTET = 10
"""Start bit, 8 data bits, stop bit."""
INTER_OCTET_S = 0.5
"""After so long a silence a frame that has begun is forgotten (IEC 62056-46: 20 ms to 6 s)."""
_BUFFERED_OCTETS = 1 << 20
"""What nobody reads is lost beyond this, as it is in the buffer of a serial driver."""
_TALK_OCTETS = 64
"""Garbage is made in stretches of so many."""
_TALK_OCTET_S = BITS_PER_OCTET / 9600
"""The pace of somebody who talks unasked, on a line where octets take no time."""
_MISSED_S = 5.0
"""What somebody said unasked longer ago than this, while nobody looked at the line, was never said."""


class Speaker:
    """A meter at a line: what it says it says in a row."""

    __slots__ = ("free_s", "meter")

    def __init__(self, meter: VirtualMeter) -> None:
        self.meter = meter
        self.free_s = 0.0
        """When it has said all that it began."""


class Medium:
    """Meters that share a line (HDLC), or that sit behind one TCP port (wrapper). Not thread-safe.

    `baud` 0: octets take no time. Behind a TCP port the addresses of the meters must differ: ValueError.
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
        self.delivered_s = -math.inf
        """When the last burst that the gateway has taken whole was there."""
        self._out, self._in = (
            Disturbance(faults.to_meter, seed, "noise to meters"),
            Disturbance(faults.to_gateway, seed, "noise to gateway"),
        )
        self._turnaround_s = faults.turnaround_s
        self._echo, self._echo_chance = faults.echo, Dice(seed, "echo")
        self._shared = framing is Framing.HDLC
        self._talkers = [
            _Talker(talk, self.octet_s or _TALK_OCTET_S, Dice(seed, f"talk {number}"))
            for number, talk in enumerate(faults.talks if self._shared else ())
        ]
        self._straight = self._out.quiet and not (
            self._talkers or self._turnaround_s or self._echo is not Echo.NONE
        )
        """A frame of the gateway goes to the meters as it is, unless one of them talks."""
        self._meters = _HdlcMeters(meters) if self._shared else _WrapperMeters(meters)
        self._to_meters: deque[Burst] = deque()
        self._to_gateway: deque[Burst] = deque()
        self._buffered = 0
        self._out_free_s = 0.0

    @property
    def closed(self) -> bool:
        """The other end of a TCP connection is gone: its meter is down, or heard nonsense."""
        return self._meters.closed

    def begin(self, now_s: float) -> None:
        """The line begins now: times of faults count from here. Without this call: from 0."""
        for talker in self._talkers:
            talker.begin(now_s)

    def hang_up(self) -> None:
        """The connection or the line is gone, and all that was on its way."""
        self._to_meters.clear()
        self._to_gateway.clear()
        self._buffered = 0
        self._meters.hang_up()

    # -- to the meters ----------------------------------------------------------------------------------------

    def transmit(self, octets: bytes, start_s: float) -> float:
        """The gateway begins to send; when it has ended. What meters hear they hear in `settle`."""
        start_s = max(start_s, self._out_free_s)
        if self._turnaround_s:
            start_s = max(start_s, self.delivered_s + self._turnaround_s)
        end_s = self._out_free_s = start_s + len(octets) * self.octet_s
        burst = Burst(start_s, end_s, octets)
        if self._straight and not self._to_gateway:
            self._to_meters.append(burst)
        elif octets:
            self._transmit_disturbed(burst)
        return end_s

    def _transmit_disturbed(self, burst: Burst) -> None:
        self._talk_until(burst.end_s)
        if self._shared and self.octet_s:
            burst = self._collided(burst, self._to_gateway)
        if self._out.quiet:
            self._to_meters.append(burst)
        else:
            self._disturb(burst)
        if self._echo is not Echo.NONE:
            self._hear(self._burst(burst.start_s, _echoed(burst.octets, self._echo, self._echo_chance)))

    def _disturb(self, burst: Burst) -> None:
        start_s = burst.start_s
        for frame in frames_of(burst.octets):
            for late_s, piece in self._out.of(frame):
                if not piece:
                    continue
                last_s = self._to_meters[-1].start_s if self._to_meters else 0.0
                self._to_meters.append(self._burst(max(start_s + late_s, last_s), piece))
            start_s += len(frame) * self.octet_s

    @property
    def next_heard_s(self) -> float | None:
        """When the meters will have heard the next burst."""
        return self._to_meters[0].end_s if self._to_meters else None

    def settle(self, now_s: float) -> None:
        """Let the meters hear, and answer, all that reaches them by now."""
        while self._to_meters and self._to_meters[0].end_s <= now_s:
            burst = self._to_meters.popleft()
            for speaker, said in self._meters.hear(burst):
                for sent in said:
                    self._answer(speaker, sent, burst.end_s)
        if self._talkers:
            self._talk_until(now_s)

    # -- to the gateway ---------------------------------------------------------------------------------------

    def _answer(self, speaker: Speaker, sent: Sent, now_s: float) -> None:
        now_s += sent.late_s + self._turnaround_s
        for late_s, octets in self._in.of(sent.octets) if not self._in.quiet else ((0.0, sent.octets),):
            start_s = max(now_s + late_s, speaker.free_s)
            count = len(octets)
            burst = Burst(start_s, start_s + count * self.octet_s, octets)
            speaker.free_s = burst.end_s
            if not octets or self._buffered > _BUFFERED_OCTETS:
                continue
            if self._to_gateway or self._to_meters:
                self._arrive(burst)
            else:
                self._to_gateway.append(burst)
                self._buffered += count

    def _arrive(self, burst: Burst) -> None:
        """Something is under way already: the burst comes in its turn, or collides."""
        if self._shared and self.octet_s:
            burst = self._collided(burst, self._to_meters)
        self._hear(burst)

    def _hear(self, burst: Burst) -> None:
        """The gateway will hear it, as one with what else is said at the same time."""
        arriving = self._to_gateway
        if self._shared and self.octet_s:
            while touched := next((other for other in arriving if overlap(other, burst)), None):
                arriving.remove(touched)
                self._buffered -= len(touched.octets)
                burst = both(touched, burst)
        arriving.insert(bisect_right(arriving, burst.start_s, key=_start), burst)
        self._buffered += len(burst.octets)

    def _collided(self, burst: Burst, others: deque[Burst]) -> Burst:
        """What is left of `burst`, and of those of `others`, going the other way, that are said meanwhile."""
        whole = burst
        for place in range(len(others)):
            if overlap(other := others[place], whole):
                others[place] = garbled(other, whole)
                burst = garbled(burst, other)
        return burst

    @property
    def coming(self) -> tuple[float, float] | None:
        """When the first octet of what comes next will be there, and when all of that burst."""
        if self._talkers:
            self._talk_first()
        if not self._to_gateway:
            return None
        burst = self._to_gateway[0]
        return burst.start_s + self.octet_s, burst.end_s

    def take(self, limit: int, now_s: float) -> bytes:
        """What has reached the gateway by now, of one burst at most."""
        if not self._to_gateway:
            return b""
        burst = self._to_gateway[0]
        if burst.start_s > now_s:
            return b""
        said = len(burst.octets)
        count = min(limit, said)
        if self.octet_s and now_s < burst.end_s:
            # The margin keeps an octet whose time was computed as a sum from missing its own moment.
            count = min(count, int((now_s - burst.start_s) / self.octet_s + 1e-3))
        if count <= 0:
            return b""
        self._buffered -= count
        if count == said:
            self._to_gateway.popleft()
            self.delivered_s = burst.end_s
        else:
            self._to_gateway[0] = self._burst(burst.start_s + count * self.octet_s, burst.octets[count:])
        return burst.octets[:count]

    def _burst(self, start_s: float, octets: bytes) -> Burst:
        return Burst(start_s, start_s + len(octets) * self.octet_s, octets)

    # -- who talks unasked ------------------------------------------------------------------------------------

    def _talk_until(self, now_s: float) -> None:
        for talker in self._talkers:
            talker.miss(now_s - _MISSED_S)
            while talker.next_s <= now_s:
                self._arrive(self._burst(*talker.say()))

    def _talk_first(self) -> None:
        """Say what begins before the end of what comes next, so that it can collide with it."""
        for talker in self._talkers:
            while talker.next_s + MOMENT_S < (self._to_gateway[0].end_s if self._to_gateway else math.inf):
                self._arrive(self._burst(*talker.say()))


class _Talker:
    """Somebody who talks as `Talk` says."""

    def __init__(self, talk: Talk, octet_s: float, chance: Dice) -> None:
        self._talk = talk
        self._octet_s = octet_s
        self._chance = chance
        self.begin(0.0)

    def begin(self, now_s: float) -> None:
        self.next_s = now_s + self._talk.from_s
        """When he says more; for ever away: never."""
        self._spell_end_s = self.next_s + self._talk.for_s

    def say(self) -> tuple[float, bytes]:
        """When he begins, and what he says in a row."""
        start_s, octets = self.next_s, self._talk.octets or self._chance.randbytes(_TALK_OCTETS)
        self._go_on(start_s + len(octets) * self._octet_s)
        return start_s, octets

    def miss(self, until_s: float) -> None:
        """Nobody was there to hear what he has said by now."""
        while self.next_s < until_s:
            self._go_on(max(self.next_s + self._octet_s, min(until_s, self._spell_end_s)))

    def _go_on(self, at_s: float) -> None:
        self.next_s = at_s
        if self._talk.octets or at_s >= self._spell_end_s:
            self.next_s += self._talk.pause_s
            self._spell_end_s = self.next_s + self._talk.for_s


def _echoed(octets: bytes, echo: Echo, chance: Dice) -> bytes:
    """What comes back of octets that were sent."""
    match echo:
        case Echo.HALF:
            return octets[: (len(octets) + 1) // 2]
        case Echo.DAMAGED:
            damaged = bytearray(octets)
            damaged[chance.randrange(len(octets))] ^= 1 << chance.randrange(8)
            return bytes(damaged)
        case _:
            return octets


def _start(burst: Burst) -> float:
    return burst.start_s


class _HdlcMeters:
    """Meters on a line. All hear the same octets, hence the same frames; only the addressed one answers, or all that
    have its address."""

    closed = False

    def __init__(self, meters: Sequence[VirtualMeter]) -> None:
        self._speakers: dict[Address, list[Speaker]] = {}
        for meter in meters:
            self._speakers.setdefault(meter.spec.address, []).append(Speaker(meter))
        self._reader = FrameReader()
        self._heard_s = 0.0

    def hear(self, burst: Burst) -> list[tuple[Speaker, list[Sent]]]:
        if burst.start_s > self._heard_s + INTER_OCTET_S:
            self._reader.reset()
        self._heard_s = burst.end_s
        answers: list[tuple[Speaker, list[Sent]]] = []
        for event in self._reader.feed(burst.octets):
            # A damaged frame is no frame: the client has to ask again.
            if not isinstance(event, Frame):
                continue
            if addressed := self._speakers.get(event.destination):
                answers += [(speaker, speaker.meter.hear(event, burst.end_s)) for speaker in addressed]
            elif for_all(event.destination):
                for speaker in (speaker for speakers in self._speakers.values() for speaker in speakers):
                    speaker.meter.hear_all(event, burst.end_s)
        return answers

    def hang_up(self) -> None:
        """A cut line tells the meters nothing; what they had begun to hear ends by its silence."""
        self._reader.reset()


class _WrapperMeters:
    """Meters behind one TCP port, told apart by their wPort (IEC 62056-47)."""

    def __init__(self, meters: Sequence[VirtualMeter]) -> None:
        self._meters = {meter.spec.address.upper: meter for meter in meters}
        self._connection = Speaker(meters[0])
        """All that they say goes over one connection, in a row."""
        if len(self._meters) < len(meters):
            raise ValueError("two virtual meters have the same wPort")
        self._reader = WrapperReader()
        self._nonsense = False

    @property
    def closed(self) -> bool:
        return self._nonsense or any(meter.down for meter in self._meters.values())

    def hear(self, burst: Burst) -> list[tuple[Speaker, list[Sent]]]:
        sent: list[Sent] = []
        try:
            messages = self._reader.feed(burst.octets)
        except LinkLostError:
            self._nonsense = True
            return []
        for source, destination, apdu in messages:
            if meter := self._meters.get(destination):
                sent += [
                    Sent(late_s, encode_wrapper(destination, source, answer))
                    for late_s, answer in meter.hear_wrapped(source, apdu, burst.end_s)
                ]
        return [(self._connection, sent)]

    def hang_up(self) -> None:
        self._reader.reset()
        self._nonsense = False
        for meter in self._meters.values():
            meter.hang_up()
