"""What a line does to octets on their way: noise by the frame and by the bit, and two that talk at once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from gateway.simulator.faults import Dice, Noise

MOMENT_S = 1e-6
"""Times that are sums differ by less where they are meant to be the same; an octet takes ten times as long at least."""


class Burst(NamedTuple):
    """Octets on their way without a gap: the first one begins at `start_s`, the last one is there at `end_s`."""

    start_s: float
    end_s: float
    octets: bytes


class Disturbance:
    """The noise of one direction. The same seed and purpose give the same noise to the same octets."""

    def __init__(self, noise: Noise, seed: int, purpose: str) -> None:
        self.quiet = noise.silent
        self._noise = noise
        self._chance = Dice(seed, purpose)
        self._bits = _Strikes(noise.bit_error_rate, Dice(seed, f"{purpose}, bits"))
        self._losses = _Strikes(noise.octet_loss_rate, Dice(seed, f"{purpose}, octets"))

    def of(self, frame: bytes) -> Iterator[tuple[float, bytes]]:
        """What is left of a frame, in pieces, and how late each comes."""
        pieces = self._by_frame(frame) if self._noise.by_frame else iter(((0.0, frame),))
        if not self._noise.by_rate:
            return pieces
        return ((late_s, self._by_rate(piece)) for late_s, piece in pieces)

    def _by_rate(self, octets: bytes) -> bytes:
        left = bytearray(octets)
        for bit in self._bits.within(8 * len(octets)):
            left[bit >> 3] ^= 1 << (bit & 7)
        for place in reversed(list(self._losses.within(len(octets)))):
            del left[place]
        return bytes(left)

    def _by_frame(self, frame: bytes) -> Iterator[tuple[float, bytes]]:
        """As many throws of the dice for each frame whatever they show, so that one probability more leaves the rest
        of a scenario as it was."""
        noise, chance = self._noise, self._chance
        throws = [chance.random() for _ in range(6)]
        where, bit, late_s = (
            chance.randrange(len(frame)),
            chance.randrange(8),
            chance.random() * noise.delay_s,
        )
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


class _Strikes:
    """Where chance strikes in an endless row of bits or octets, each of which it hits with the same probability: the
    distance from one hit to the next is thrown, so that quiet stretches cost nothing."""

    def __init__(self, rate: float, chance: Dice) -> None:
        self._log_miss = math.log1p(-rate) if rate < 1.0 else -math.inf
        self._chance = chance
        self._left = self._distance() if rate else math.inf

    def within(self, count: int) -> Iterator[int]:
        """The places that are hit among the next `count`."""
        place = self._left
        while place < count:
            yield int(place)
            place += 1 + self._distance()
        self._left = place - count

    def _distance(self) -> float:
        return math.floor(math.log(1.0 - self._chance.random()) / self._log_miss)


def frames_of(octets: bytes) -> Iterator[bytes]:
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


def overlap(one: Burst, other: Burst) -> bool:
    """They talk at once."""
    return one.start_s + MOMENT_S < other.end_s and other.start_s + MOMENT_S < one.end_s


def garbled(burst: Burst, by: Burst) -> Burst:
    """What is left of `burst` where somebody else talks `by` at the same time: a 0 of either wins."""
    octets = bytearray(burst.octets)
    first = _shift(burst, by)
    for place in range(max(0, first), min(len(octets), first + len(by.octets))):
        octets[place] &= by.octets[place - first]
    return burst._replace(octets=bytes(octets))


def both(one: Burst, other: Burst) -> Burst:
    """What is heard of two that overlap, from the first octet of the earlier to the last one of the later."""
    if other.start_s < one.start_s:
        one, other = other, one
    octet_s = (one.end_s - one.start_s) / len(one.octets)
    octets = garbled(one, other).octets + other.octets[len(one.octets) - _shift(one, other) :]
    return Burst(one.start_s, one.start_s + len(octets) * octet_s, octets)


def _shift(burst: Burst, other: Burst) -> int:
    """Which octet of `burst` the first one of `other` falls on."""
    octet_s = (burst.end_s - burst.start_s) / len(burst.octets)
    return round((other.start_s - burst.start_s) / octet_s)
