"""Invocation counters, as a session takes them (invariant 7)."""

from __future__ import annotations

from collections.abc import Callable

from gateway.errors import CounterSpentError

RESERVE = 1024
"""Counters taken at once; each reservation is a durable write."""
LAST = 0xFFFF_FFFF - (1 << 20)
"""Beyond this the key must be changed; the rest is kept for an operator who has to get in to do so."""


class Counters:
    """Invocation counters of one meter: each is handed out once, ever. `reserve(n)` makes a range durable and
    returns its first number (invariant 7)."""

    def __init__(self, reserve: Callable[[int], int]) -> None:
        self._reserve = reserve
        self._next = self._end = 0

    @property
    def last(self) -> int:
        """The counter that was handed out last; -1: none was."""
        return self._next - 1

    @property
    def end(self) -> int:
        """The end of what is reserved. Where the Store goes on at another number, somebody has raised it."""
        return self._end

    def next(self) -> int:
        """A counter that was never used with this meter. Raises CounterSpentError when they run out."""
        if self._next == self._end:
            self._next = self._reserve(RESERVE)
            self._end = self._next + RESERVE
        if self._next > LAST:
            raise CounterSpentError(
                f"invocation counter {self._next} is near its end: the meter needs a new key"
            )
        self._next += 1
        return self._next - 1
