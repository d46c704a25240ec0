"""A line on virtual time, in process: hours of line time in a second, and the same again from the same seed."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gateway.errors import LinkLostError, PortError
from gateway.link.port import Port
from gateway.model import Framing
from gateway.simulator.clock import VirtualClock
from gateway.simulator.faults import NONE, Faults
from gateway.simulator.medium import Medium
from gateway.simulator.meter import VirtualMeter


class VirtualLine(Port):
    """A port to virtual meters. Writing and reading move `clock`, by what the octets take at
    `baud` and what the meters take to answer; nothing else in here passes time.

    With `Framing.WRAPPER` it is a TCP connection: made by the next write after it was lost, lost when its meter
    goes down, and impossible (PortError) until that is back.

    After a cut (`Faults.cuts_at_octet`), once it is unplugged and after `close` everything raises PortError until
    `reopen`.
    """

    def __init__(
        self,
        meters: Sequence[VirtualMeter],
        clock: VirtualClock,
        *,
        baud: int = 9600,
        framing: Framing = Framing.HDLC,
        faults: Faults = NONE,
        seed: int = 0,
    ) -> None:
        if baud <= 0:
            raise ValueError(f"a line of {baud} baud; expected above 0")
        self.meters = tuple(meters)
        self.clock = clock
        self.octets_carried = 0
        """Both ways, over its whole life."""
        self.writes = 0
        self._medium = Medium(meters, baud=baud, framing=framing, faults=faults, seed=seed)
        self._chunk = faults.read_chunk_octets or _NO_LIMIT
        self._cuts = list(faults.cuts_at_octet)
        self._until_cut = self._cuts.pop(0) if self._cuts else _NO_LIMIT
        self._unplugged = faults.unplugged
        self._trouble = ""
        self._connected = framing is Framing.HDLC
        self._can_hang_up = framing is Framing.WRAPPER

    def reopen(self) -> VirtualLine:
        """The line again, after a cut or a `close`, as whoever opens the port anew gets it. PortError while it is
        unplugged."""
        if self.clock.monotonic() < self._plugged_in_s():
            raise PortError("there is no virtual line: it is unplugged")
        if self._until_cut == 0:
            self._until_cut = self._cuts.pop(0) if self._cuts else _NO_LIMIT
        self._trouble = ""
        return self

    # -- Port -------------------------------------------------------------------------------------------------

    def write(self, octets: bytes) -> None:
        self._check()
        if self._can_hang_up:
            self._connect()
        self.writes += 1
        now_s = self.clock.monotonic()
        if self._unplugged:
            left_s = self._unplugged_next_s() - now_s
            octets = octets[: math.ceil(min(left_s / self._medium.octet_s, len(octets)))]
        octets = self._carried(octets)
        end_s = self._medium.transmit(octets, now_s)
        self.clock.advance_to(end_s)
        self._medium.settle(end_s)
        if self._unplugged or self._until_cut == 0:
            self._check()

    def read(self, limit: int, timeout_s: float) -> bytes:
        """The whole of what comes in a row, as a driver hands it over to a reader that is not woken for each
        octet; what has come by the deadline where the rest comes later."""
        self._check()
        deadline_s = self.clock.monotonic() + timeout_s
        if self._unplugged:
            deadline_s = min(deadline_s, self._unplugged_next_s())
        medium, limit = self._medium, min(limit, self._chunk)
        coming = self._next(deadline_s)
        if coming is None:
            self._hang_up_if_closed()
            self.clock.advance_to(deadline_s)
            return b""
        first_s, end_s = coming
        enough_s = first_s + (limit - 1) * medium.octet_s
        self.clock.advance_to(min(end_s, enough_s, deadline_s))
        return self._carried(medium.take(limit, self.clock.monotonic()))

    def discard(self) -> None:
        self._check()
        now_s = self.clock.monotonic()
        self._medium.settle(now_s)
        while self._medium.take(_NO_LIMIT, now_s):
            pass

    def set_baud(self, baud: int) -> int:
        raise PortError("this virtual line has one rate")

    def close(self) -> None:
        self._lose("the virtual line is closed")

    # -- inside -----------------------------------------------------------------------------------------------

    def _next(self, deadline_s: float) -> tuple[float, float] | None:
        """When the next burst begins and ends to be here, if it begins by the deadline."""
        medium = self._medium
        while True:
            coming, heard_s = medium.coming, medium.next_heard_s
            if heard_s is not None and heard_s <= deadline_s and (coming is None or heard_s <= coming[1]):
                self.clock.advance_to(heard_s)
                medium.settle(heard_s)
            else:
                return coming if coming is not None and coming[0] <= deadline_s else None

    def _carried(self, octets: bytes) -> bytes:
        """Those octets that get through before the next cut."""
        octets = octets[: self._until_cut]
        carried = len(octets)
        self._until_cut -= carried
        self.octets_carried += carried
        return octets

    def _plugged_in_s(self) -> float:
        """Until when the adapter is out of its socket; not out: a time that has passed."""
        now_s = self.clock.monotonic()
        return max((to_s for from_s, to_s in self._unplugged if from_s <= now_s), default=now_s)

    def _unplugged_next_s(self) -> float:
        now_s = self.clock.monotonic()
        return min((from_s for from_s, _ in self._unplugged if from_s > now_s), default=math.inf)

    def _check(self) -> None:
        if self._unplugged and not self._trouble and self.clock.monotonic() < self._plugged_in_s():
            self._lose("the virtual line was unplugged")
        if self._until_cut == 0 and not self._trouble:
            self._lose(f"the virtual line was cut after {self.octets_carried} octets")
        if self._trouble:
            raise PortError(self._trouble)

    def _lose(self, trouble: str) -> None:
        self._trouble = trouble
        self._medium.hang_up()
        self._connected = not self._can_hang_up

    def _connect(self) -> None:
        now_s = self.clock.monotonic()
        for meter in self.meters:
            meter.settle(now_s)
        self._hang_up_if_closed()
        if self._medium.closed:
            raise PortError("cannot connect to the virtual meter: it is down")
        self._connected = True

    def _hang_up_if_closed(self) -> None:
        if self._connected and self._medium.closed:
            self._connected = False
            self._medium.hang_up()
            raise LinkLostError("the virtual meter closed the connection")


_NO_LIMIT = 1 << 62
