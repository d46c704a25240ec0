"""The one place where a line is listened in on: around the port itself, below echoes and links.

While nobody watches, a call passes through and one flag is looked at; nothing is kept, and no time is taken.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from gateway.board import Board, Recorded, Recording
from gateway.clock import Clock
from gateway.errors import LinkLostError, PortError
from gateway.link.port import Port
from gateway.model import PortSettings

_READ_OCTETS = 4096


def tapped(
    open_port: Callable[[PortSettings], Port], board: Board, clock: Clock
) -> Callable[[PortSettings], Port]:
    """Like `open_port`, and whoever watches a port sees what goes over it (`Board.recording`)."""

    def opened(settings: PortSettings) -> Port:
        recording = board.recording(settings.name)
        try:
            port = open_port(settings)
        except PortError as error:
            _note(recording, clock, error.message)
            raise
        _note(recording, clock, f"{settings.device or settings.address} is opened")
        return Tap(port, recording, clock)

    return opened


class Tap(Port):
    """A line, and what goes over it on a `Recording` while that is wanted."""

    def __init__(self, port: Port, recording: Recording, clock: Clock) -> None:
        self._port = port
        self._recording = recording
        self._clock = clock

    def write(self, octets: bytes) -> None:
        if self._recording.wanted:
            self._add(octets, outward=True)
        try:
            self._port.write(octets)
        except PortError as error:
            self._lost(error)
            raise

    def read(self, limit: int, timeout_s: float) -> bytes:
        try:
            octets = self._port.read(limit, timeout_s)
        except (PortError, LinkLostError) as error:
            self._lost(error)
            raise
        if octets and self._recording.wanted:
            self._add(octets, outward=False)
        return octets

    def discard(self) -> None:
        """What is thrown away is worth seeing: it came late, or from somebody else."""
        if self._recording.wanted:
            with contextlib.suppress(LinkLostError):
                while octets := self._port.read(_READ_OCTETS, 0.0):
                    self._add(octets, outward=False)
        self._port.discard()

    def set_baud(self, baud: int) -> int:
        before = self._port.set_baud(baud)
        if before != baud:
            _note(self._recording, self._clock, f"{baud} baud", anew=False)
        return before

    def close(self) -> None:
        _note(self._recording, self._clock, "closed")
        self._port.close()

    def _add(self, octets: bytes, *, outward: bool) -> None:
        self._recording.add(Recorded(self._clock.now().timestamp(), outward, octets))

    def _lost(self, error: PortError | LinkLostError) -> None:
        _note(self._recording, self._clock, error.message)


def _note(recording: Recording, clock: Clock, words: str, *, anew: bool = True) -> None:
    if recording.wanted:
        recording.add(Recorded(clock.now().timestamp(), True, note=words, anew=anew))
