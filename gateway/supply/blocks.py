"""An image that comes as blocks over MQTT: what to ask for next, when to ask again, when to give up. Pure.

Blocks are lost as QoS 0 loses them. What is asked for again, and when, is decided as TCP decides it for octets: by what
was overtaken (RFC 5681), and by a time-out from the round trips that were seen (RFC 6298). How much may be under way
bounds what waits in the broker, and what a broken connection wastes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import takewhile

from gateway.errors import DigestError, FirmwareError, NetError, SizeError
from gateway.supply.block_get import Get, block_count
from gateway.supply.intake import Span
from gateway.supply.source import BlockDigests

BLOCK_BYTES = 16 * 1024
"""As blocks travel, where neither the broker nor a manifest wants smaller ones: small enough to be lost, large enough
that headers weigh nothing."""
LARGEST_DIGEST_BLOCK_BYTES = 2 << 20
"""Pieces wait in memory for the others under their digest; digests of larger blocks are not used."""
SILENCE_S = 120.0
"""Without one useful block for so long, a try is over; whether there is another one is the supplier's affair."""
_SMALLEST_BLOCK_BYTES = 128
_WINDOW_BYTES = 128 * 1024
_SMALLEST_WINDOW = 2
"""Blocks."""
_HELD_DIGESTS = 2
"""Pieces of so many blocks with a digest are held beside those that are under way."""
_BITMAP_OCTETS = 256
"""So far a `get` looks ahead: 2048 blocks, 32 MiB of them."""
_FIRST_TIMEOUT_S = 5.0
_SHORTEST_TIMEOUT_S = 0.3
_LONGEST_TIMEOUT_S = 30.0
"""16 KiB in this time are 546 octets/s; and who begins to serve is asked within it."""
_OVERTAKEN_BY = 3
"""A block is lost when so many that were asked for later have come (RFC 5681, clause 3.2)."""
_BAD_COPIES = 5
"""After so many wrong copies of one block, whoever sends has another file or means no good."""


class _At(IntEnum):
    """Where a block is."""

    MISSING = 0
    ASKED = 1
    HELD = 2
    """In memory, until all others under the same digest have come."""
    HERE = 3


@dataclass(slots=True)
class _Asked:
    at_s: float
    first_at_s: float
    """Another time than `at_s`: it was asked for before, and nobody can tell what its coming answers."""
    passed: int = 0
    """So many blocks that were asked for later have come."""


class Pull:
    """One image on its way: `begin` when there is a connection, then `next_get` and `take` in turn."""

    def __init__(self, size: int, digests: BlockDigests | None = None, *, now_s: float) -> None:
        """Raises SizeError where `digests` are of another image than one of `size` octets."""
        if digests and len(digests.sha256) != block_count(size, digests.block_bytes):
            raise SizeError(
                f"the manifest has {len(digests.sha256)} digests of {digests.block_bytes} octets each"
            )
        self._size = size
        self._digests = digests if digests and digests.block_bytes <= LARGEST_DIGEST_BLOCK_BYTES else None
        self._block = 0
        self._bitmap_octets = 0
        self._states = bytearray()
        self._held: dict[int, bytes] = {}
        self._asked: dict[int, _Asked] = {}
        """In the order in which they are to come."""
        self._first_asked_s: dict[int, float] = {}
        self._bad_copies: dict[int, int] = {}
        self._window = self._widest = _SMALLEST_WINDOW
        self._useful_at_s = self._arrived_at_s = now_s
        self._timeout_s = self._usual_timeout_s = _FIRST_TIMEOUT_S
        self._smoothed_s = self._variation_s = 0.0

    # -- asking -----------------------------------------------------------------------------------------------

    def begin(self, room_octets: int, have: Sequence[Span]) -> None:
        """There is a connection whose packets hold so many octets beside their topic; what was asked for over an
        earlier one does not come any more. `have`: what of the image is stored. Raises NetError where there is too
        little room."""
        if room_octets < 2 * _SMALLEST_BLOCK_BYTES:
            raise NetError(f"packets of this broker have room for {room_octets} octets of an image: too few")
        self._bitmap_octets = min(_BITMAP_OCTETS, (room_octets - _SMALLEST_BLOCK_BYTES) // 2)
        self._forget_asked()
        self._first_asked_s.clear()
        block = self._best_block(room_octets)
        if block != self._block:
            self._cut(block, have)
        self._window = self._widest

    def next_get(self, now_s: float) -> Get | None:
        """What to ask for now, if anything."""
        self._look_for_silence(now_s)
        room = self._window - len(self._asked)
        first = self._states.find(_At.MISSING)
        if 2 * room < self._window or first < 0:
            return None
        ahead = self._states[first : first + 8 * self._bitmap_octets]
        get = Get(self._size, self._block, first, _bits(ahead), room)
        for number in get.granted():
            self._states[number] = _At.ASKED
            self._asked[number] = _Asked(now_s, self._first_asked_s.setdefault(number, now_s))
        return get

    def nothing_missing(self) -> Get:
        """What is told when all is here, so that whoever serves may end."""
        return Get(self._size, self._block, len(self._states), b"", 0)

    def hopeless(self, now_s: float) -> bool:
        """Nothing useful has come for too long."""
        return now_s - self._useful_at_s > SILENCE_S

    @property
    def whole(self) -> bool:
        """Every block is here."""
        return 0 < len(self._states) == self._states.count(_At.HERE)

    # -- taking -----------------------------------------------------------------------------------------------

    def take(self, number: int, content: bytes, now_s: float) -> list[tuple[int, bytes]]:
        """What is to be written now that this block came, as offsets and octets; nothing of a block that has no such
        number, was here before, is wrong, or waits for others.

        Raises SizeError or DigestError where the same block came wrong again and again.
        """
        if not 0 <= number < len(self._states) or self._states[number] >= _At.HELD:
            return []
        self._note_arrival(number, now_s)
        start = number * self._block
        expected = min(self._block, self._size - start)
        if len(content) != expected:
            self._refuse(
                [number], SizeError(f"block {number} has {len(content)} octets, expected {expected}")
            )
            return []
        self._useful_at_s = now_s
        if self._digest_bytes:
            return self._hold(number, content)
        self._states[number] = _At.HERE
        return [(start, content)]

    def _hold(self, number: int, content: bytes) -> list[tuple[int, bytes]]:
        """Keep it until all under its digest have come; then all of them, if they are right."""
        assert self._digests is not None
        self._states[number] = _At.HELD
        self._held[number] = content
        numbers = self._under_one_digest(number)
        if any(self._states[one] != _At.HELD for one in numbers):
            self._bound_held()
            return []
        octets = b"".join(self._held.pop(one) for one in numbers)
        start = numbers[0] * self._block
        if hashlib.sha256(octets).hexdigest() != self._digests.sha256[start // self._digest_bytes]:
            end = start + len(octets)
            self._refuse(
                numbers, DigestError(f"octets {start} to {end} are not those that the manifest names")
            )
            return []
        for one in numbers:
            self._states[one] = _At.HERE
        return [(start, octets)]

    def _bound_held(self) -> None:
        """Nobody knows of pieces whether they are right, and whoever sends chooses which: memory is bounded. What lies
        furthest goes, so that the first block that is not whole can always become whole."""
        if len(self._held) * self._block > _HELD_DIGESTS * self._digest_bytes + _WINDOW_BYTES:
            furthest = max(self._held)
            del self._held[furthest]
            self._states[furthest] = _At.MISSING

    def _refuse(self, numbers: Sequence[int], error: FirmwareError) -> None:
        start = numbers[0] * self._block
        copies = self._bad_copies[start] = self._bad_copies.get(start, 0) + 1
        if copies >= _BAD_COPIES:
            raise error
        for number in numbers:
            self._states[number] = _At.MISSING

    # -- how the image is cut ---------------------------------------------------------------------------------

    def _best_block(self, room_octets: int) -> int:
        """The largest that fits; where blocks have digests, one of which these hold a whole number."""
        if self._digests:
            whole = self._digests.block_bytes
            fewest = block_count(whole, min(room_octets, BLOCK_BYTES))
            for pieces in range(fewest, whole // _SMALLEST_BLOCK_BYTES + 2):
                if whole % pieces == 0:
                    return whole // pieces
        size = BLOCK_BYTES
        while size > room_octets:
            size //= 2
        return size

    @property
    def _digest_bytes(self) -> int:
        """What one digest covers; 0 where none are used."""
        whole = self._digests.block_bytes if self._digests else 0
        return 0 if whole % self._block else whole

    def _under_one_digest(self, number: int) -> range:
        pieces = self._digest_bytes // self._block
        first = number - number % pieces
        return range(first, min(first + pieces, len(self._states)))

    def _cut(self, block: int, have: Sequence[Span]) -> None:
        """Into blocks of another size. What is stored stays, as far as whole blocks of it are."""
        self._held.clear()
        self._bad_copies.clear()
        self._block = block
        self._widest = max(_SMALLEST_WINDOW, _WINDOW_BYTES // block)
        count = block_count(self._size, block)
        self._states = bytearray(count)
        for start, end in have:
            first = block_count(start, block)
            after = count if end >= self._size else end // block
            self._states[first:after] = bytes([_At.HERE]) * max(0, after - first)
        for first in range(0, count, self._digest_bytes // block) if self._digest_bytes else ():
            numbers = self._under_one_digest(first)
            if any(self._states[number] != _At.HERE for number in numbers):
                self._states[numbers.start : numbers.stop] = bytes(len(numbers))

    # -- time -------------------------------------------------------------------------------------------------

    def _note_arrival(self, number: int, now_s: float) -> None:
        """A block came, right or wrong: the way is open, and what it overtook may be lost."""
        self._arrived_at_s = now_s
        self._window = min(self._window + 1, self._widest)
        self._timeout_s = max(self._timeout_s / 2, self._usual_timeout_s)
        asked = self._asked.get(number)
        if asked is None:
            return
        if asked.at_s == asked.first_at_s:
            self._learn(now_s - asked.at_s)
        else:
            self._suspect(now_s - asked.first_at_s)
        for earlier in list(takewhile(lambda other: other != number, self._asked)):
            self._asked[earlier].passed += 1
            if self._asked[earlier].passed >= _OVERTAKEN_BY:
                del self._asked[earlier]
                self._states[earlier] = _At.MISSING
        del self._asked[number]

    def _look_for_silence(self, now_s: float) -> None:
        """What was asked for does not come. Where nothing at all came, less is asked for, and patience grows."""
        if not self._asked:
            return
        asked_at_s = min(asked.at_s for asked in self._asked.values())
        if now_s - max(self._arrived_at_s, asked_at_s) < self._timeout_s:
            return
        if self._arrived_at_s <= asked_at_s:
            self._window = max(_SMALLEST_WINDOW, self._window // 2)
            self._timeout_s = min(2 * self._timeout_s, _LONGEST_TIMEOUT_S)
        self._forget_asked()

    def _forget_asked(self) -> None:
        for number in self._asked:
            self._states[number] = _At.MISSING
        self._asked.clear()

    def _suspect(self, longest_s: float) -> None:
        """A block came that was asked for more than once. RFC 6298, clause 3, learns nothing of it; but where answers
        merely became slow, all of them would be asked for twice, and nothing be learned ever."""
        self._usual_timeout_s = max(self._usual_timeout_s, min(longest_s, 2 * self._usual_timeout_s))
        self._usual_timeout_s = min(self._usual_timeout_s, _LONGEST_TIMEOUT_S)
        self._timeout_s = max(self._timeout_s, self._usual_timeout_s)

    def _learn(self, round_trip_s: float) -> None:
        """RFC 6298, clause 2."""
        if not self._smoothed_s:
            self._smoothed_s, self._variation_s = round_trip_s, round_trip_s / 2
        else:
            self._variation_s += (abs(self._smoothed_s - round_trip_s) - self._variation_s) / 4
            self._smoothed_s += (round_trip_s - self._smoothed_s) / 8
        wanted_s = self._smoothed_s + 4 * self._variation_s
        self._timeout_s = self._usual_timeout_s = min(max(wanted_s, _SHORTEST_TIMEOUT_S), _LONGEST_TIMEOUT_S)


_WANTED = bytes(b"1"[0] if state == _At.MISSING else b"0"[0] for state in range(256))


def _bits(states: bytearray) -> bytes:
    """One bit for each state, the most significant first, set where the block is missing."""
    octets = block_count(len(states), 8)
    bits = int(states.translate(_WANTED), 2) << (8 * octets - len(states))
    return bits.to_bytes(octets, "big").rstrip(b"\0")
