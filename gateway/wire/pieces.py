"""A line cut into frames and what is none, for `gateway.wire.trace`: unlike the readers of links, nothing is dropped.

Nothing here raises, and at most one frame or message is held.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gateway.wire.hdlc import Damaged, Frame, take_frame

WRAPPER_HEADER = 8

_FLAG = b"\x7e"
_JUNK_LIMIT = 1024
"""So many octets without a frame are told at once."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Octets in a row."""

    octets: bytes
    found: Frame | tuple[int, int] | None = None
    """A frame, the ports of a wrapper message, or None: no frame."""
    wrong: str = ""


class HdlcPieces:
    """Cuts one direction of a line into frames and what is none; two frames may share one flag."""

    def __init__(self) -> None:
        self._octets = b""
        self._shared = 0
        """The first of them was the closing flag of a frame already."""

    def feed(self, octets: bytes) -> Iterator[Piece]:
        octets = self._octets + octets
        told, start, wrong = self._shared, 0, ""
        while (start := octets.find(_FLAG, start)) >= 0:
            taken = take_frame(octets, start)
            if taken is None:
                break
            found, end = taken
            frame = found.header if isinstance(found, Damaged) else found
            if isinstance(found, Damaged) and not wrong:
                wrong = found.reason
            if frame is None or end == start + 1:
                start = end
                continue
            if told < start:
                yield Piece(octets[told:start])
            yield Piece(octets[start : end + 1], frame, found.reason if isinstance(found, Damaged) else "")
            told, start, wrong = end + 1, end, ""
        else:
            start = len(octets)
        if told < start and (start < len(octets) or octets.endswith(b"\n") or start - told >= _JUNK_LIMIT):
            yield Piece(octets[told:start], wrong=wrong)
            told = start
        keep = min(told, start)
        self._octets, self._shared = octets[keep:], told - keep

    def turn(self) -> Iterator[Piece]:
        """The other side speaks: who has begun a frame does not go on with it."""
        return self.end()

    def silence(self) -> Iterator[Piece]:
        return self.end()

    def end(self) -> Iterator[Piece]:
        rest, self._octets, self._shared = self._octets[self._shared :], b"", 0
        if rest:
            wrong = "broken off" if _FLAG in rest else ""
            yield Piece(rest, wrong=wrong)


class WrapperPieces:
    """Cuts one direction of a connection into messages. After a wrong header there is nothing to go by."""

    def __init__(self) -> None:
        self._octets = b""

    def feed(self, octets: bytes) -> Iterator[Piece]:
        octets = self._octets + octets
        while len(octets) >= WRAPPER_HEADER:
            version, source, destination, length = (
                int.from_bytes(octets[at : at + 2], "big") for at in range(0, WRAPPER_HEADER, 2)
            )
            if version != 1:
                yield Piece(octets, wrong=f"wrapper version {version}, expected 1")
                octets = b""
                break
            end = WRAPPER_HEADER + length
            if len(octets) < end:
                break
            yield Piece(octets[:end], (source, destination))
            octets = octets[end:]
        self._octets = octets

    def turn(self) -> Iterator[Piece]:
        """Both sides may speak at once."""
        return iter(())

    def silence(self) -> Iterator[Piece]:
        return iter(())

    def end(self) -> Iterator[Piece]:
        rest, self._octets = self._octets, b""
        if rest:
            yield Piece(rest, wrong="broken off")
