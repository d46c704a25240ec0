"""`line_efficiency_*` and `goodput_*`: how much of a line the daemon uses, one meter on it.

The real daemon sends an image to a virtual meter without any delay of its own, in this process, on a pty whose octets
take their time. Between the first octet of the first block and the last octet of the last answer, efficiency is what
the octets that really went take at 10 bits each, over what it took; goodput is what the octets of the image alone take,
over the same. Whatever either process, the kernel and the checkpoints on disk take is lost.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from benchmarks.figure import Figure, noise, percentile, platform_of_run, spread
from benchmarks.meters import CIPHERED, PLAIN
from benchmarks.process import Gateway, Line, state_directory
from gateway.simulator import MeterSpec, PtyLine, VirtualMeter
from gateway.simulator.medium import BITS_PER_OCTET
from gateway.wire.hdlc import Address


@dataclass(frozen=True)
class _Case:
    spec: MeterSpec
    baud: int
    blocks: int
    rounds: int
    against: float
    elsewhere: Sequence[float]
    """What the gurux-dlms client reached here."""


_EFFICIENCY = {
    "9600_plain": _Case(PLAIN, 9600, 32, 1, 0.99, (0.99,)),
    "9600_ciphered": _Case(CIPHERED, 9600, 32, 1, 0.99, (0.99,)),
    "115200_plain": _Case(PLAIN, 115200, 128, 3, 0.98, (0.97, 0.99)),
    "115200_ciphered": _Case(CIPHERED, 115200, 128, 3, 0.97, (0.86, 0.92)),
}


def _of_table(spec: MeterSpec) -> MeterSpec:
    """As in the table of line-limited times: an address of one octet, blocks of 1024."""
    return replace(spec, address=Address(1), block_size=1024)


_GOODPUT = {
    "plain": _Case(_of_table(PLAIN), 115200, 64, 3, 0.935, (0.926,)),
    "ciphered": _Case(_of_table(CIPHERED), 115200, 64, 3, 0.90, (0.789,)),
}


class PacedLine(PtyLine):
    """A pty line that takes the time of the blocks of one transfer, and counts what goes meanwhile."""

    def __init__(self, meter: VirtualMeter, *, baud: int, blocks: int) -> None:
        super().__init__([meter], baud=baud)
        self._history = meter.history
        self._awaited = blocks
        self._began_s = self._ended_s = 0.0
        self.octets = 0

    def _read(self, timeout_s: float) -> bytes:
        octets = super()._read(timeout_s)
        if octets and not self._ended_s:
            if not self._history.blocks:
                self._began_s, self.octets = time.monotonic(), 0
            self.octets += len(octets)
        return octets

    def _write(self, octets: bytes) -> None:
        super()._write(octets)
        if not self._ended_s:
            self.octets += len(octets)
            if self._history.blocks.total() == self._awaited:
                self._ended_s = time.monotonic()

    @property
    def ended(self) -> bool:
        return self._ended_s > 0

    @property
    def took_s(self) -> float:
        """From the first block to the answer to the last."""
        assert self._ended_s, "the transfer has not ended"
        return self._ended_s - self._began_s


def figures() -> Iterator[Figure]:
    for name, case in _EFFICIENCY.items():
        yield _figure(f"line_efficiency_{name}", case, lambda line: line.octets)
    for name, case in _GOODPUT.items():
        image_octets = case.blocks * case.spec.block_size
        yield _figure(f"goodput_{name}", case, lambda _, octets=image_octets: octets)  # type: ignore[misc]


def _figure(name: str, case: _Case, counted: Callable[[PacedLine], int]) -> Figure:
    """The median of the rounds."""
    spec, octet_s = case.spec, BITS_PER_OCTET / case.baud
    lines = [_transferred(case) for _ in range(case.rounds)]
    shares = [counted(line) * octet_s / line.took_s for line in lines]
    idle_us = [(line.took_s - line.octets * octet_s) / case.blocks * 1e6 for line in lines]
    return Figure(
        name,
        percentile(shares, 50),
        "ratio",
        case.against,
        {
            "compared": f"{case.blocks} blocks of {spec.block_size} octets, {spec.max_info}/{spec.window}, at"
            f" {case.baud} baud on a pty that is paced by the meter's process; least over taken",
            "rounds": spread(shares),
            "took_s": percentile([line.took_s for line in lines], 50),
            "idle_us_per_block": percentile(idle_us, 50),
            "seen_elsewhere": {"gurux-dlms client": list(case.elsewhere)},
            "noise": noise(),
            **platform_of_run(),
        },
    )


def _transferred(case: _Case) -> PacedLine:
    spec = case.spec
    image = random.Random(f"line {case.baud}").randbytes(case.blocks * spec.block_size)
    with (
        state_directory() as directory,
        PacedLine(VirtualMeter(spec), baud=case.baud, blocks=case.blocks) as line,
        Gateway(directory, [Line(line.address, [spec], baud=case.baud)]) as gateway,
    ):
        gateway.order("bench", gateway.store_image(image))
        gateway.await_update()
    return line
