"""A set of block numbers, as compact as the meter's own bitmap."""

from __future__ import annotations

from collections.abc import Iterable


class BlockSet:
    """Blocks 0 to `total` - 1 that somebody has. Block 0 is the most significant bit of the first octet, as in
    attribute 3 of class 18 (Blue Book)."""

    __slots__ = ("_bits", "_cursor", "count", "total")

    def __init__(self, total: int, octets: bytes = b"") -> None:
        """`octets`: a bitmap; bits it does not have, and bits beyond `total`, count as not set."""
        size = (total + 7) // 8
        self.total = total
        self._bits = bytearray(octets[:size].ljust(size, b"\0"))
        if total % 8:
            self._bits[-1] &= 0xFF << (8 - total % 8) & 0xFF
        self.count = int.from_bytes(self._bits, "big").bit_count()
        self._cursor = 0

    def __contains__(self, block: int) -> bool:
        return bool(self._bits[block >> 3] & (0x80 >> (block & 7)))

    def __bytes__(self) -> bytes:
        return bytes(self._bits)

    def add(self, block: int) -> None:
        """Note that `block` is there."""
        mask = 0x80 >> (block & 7)
        if not self._bits[block >> 3] & mask:
            self._bits[block >> 3] |= mask
            self.count += 1

    def first_missing(self) -> int | None:
        """The lowest block that is not there; None when all are."""
        if self.count == self.total:
            return None
        # Blocks are only ever added, so nothing below the cursor can be missing again.
        octet = self._cursor
        while self._bits[octet] == 0xFF:
            octet += 1
        self._cursor = octet
        free = ~self._bits[octet] & 0xFF
        return octet * 8 + 8 - free.bit_length()

    def highest(self) -> int:
        """The highest block that is there; -1 when none is."""
        value = int.from_bytes(self._bits, "big")
        if not value:
            return -1
        lowest_bit = (value & -value).bit_length() - 1
        return len(self._bits) * 8 - 1 - lowest_bit

    def lacks(self, other: BlockSet) -> int:
        """How many blocks `other` has and this set has not."""
        mine = int.from_bytes(self._bits, "big")
        theirs = int.from_bytes(other._bits, "big")
        return (theirs & ~mine).bit_count()


def missing_somewhere(sets: Iterable[BlockSet]) -> list[int]:
    """The blocks that at least one of these sets of equal size has not, in rising order."""
    everywhere, total = -1, 0
    for blocks in sets:
        everywhere &= int.from_bytes(bytes(blocks), "big")
        total = blocks.total
    width = (total + 7) // 8 * 8
    return [block for block in range(total) if not everywhere >> (width - 1 - block) & 1]
