"""A cursor over octets that came from outside. Every decoder of this room reads through it, so that no octets can make
one read past their end, allocate what a length only promises, or work without end."""

from __future__ import annotations

from gateway.errors import WireError

MAX_ELEMENTS = 2048
"""List elements and values in one message that nobody asked to be wide, counted over all levels: no octets keep a
decoder busy for 10 ms (measured on a PC)."""


class Reader:
    """A cursor over octets from outside. Every method raises WireError when there are too few of them."""

    __slots__ = ("_end", "_left", "_most", "_octets", "position")

    def __init__(self, octets: bytes, start: int = 0, *, most_elements: int = MAX_ELEMENTS) -> None:
        self._octets = octets
        self._end = len(octets)
        self._left = self._most = most_elements
        self.position = start

    def take(self, count: int) -> bytes:
        """The next `count` octets."""
        start = self.position
        end = start + count
        if end > self._end:
            raise WireError(f"{self._end - start} octets left at {start}, {count} expected")
        self.position = end
        return self._octets[start:end]

    def u8(self) -> int:
        position = self.position
        if position >= self._end:
            raise WireError(f"no octets left at {position}, 1 expected")
        self.position = position + 1
        return self._octets[position]

    def u16(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def flag(self) -> bool:
        """The octet before something optional: 00 absent, 01 present."""
        value = self.u8()
        if value > 1:
            raise WireError(f"{value:02x} at {self.position - 1}, 00 (absent) or 01 (present) expected")
        return value == 1

    def length(self) -> int:
        """A length in one of the definite forms."""
        first = self.u8()
        if first < 0x80:
            return first
        if not 0x81 <= first <= 0x84:
            raise WireError(f"length {first:02x} at {self.position - 1}, 00 to 7f or 81 to 84 expected")
        return int.from_bytes(self.take(first - 0x80), "big")

    def counted(self) -> bytes:
        """Octets after their length."""
        return self.take(self.length())

    def count(self) -> int:
        """The number of elements that follow, each of at least one octet."""
        count = self.length()
        if count > self._end - self.position:
            raise WireError(f"{count} elements in {self._end - self.position} octets at {self.position}")
        self.spend(count)
        return count

    def spend(self, elements: int) -> None:
        """Count `elements` that are about to be made; WireError when they are too many for one message."""
        self._left -= elements
        if self._left < 0:
            raise WireError(f"more than {self._most} elements in one message")

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(self._end - self.position)

    def more(self) -> bool:
        """Something is left."""
        return self.position < self._end

    def finish(self) -> None:
        """WireError if anything is left."""
        if self.position != self._end:
            raise WireError(f"{self._end - self.position} octets too many after {self.position}")
