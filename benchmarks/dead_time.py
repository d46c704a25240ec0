"""`dead_time_us`: how long the line is idle because of us.

From the last octet of an answer being available on a pty to the next request being written: the real daemon, with its
other threads and its checkpoints on disk, sends an image in ciphered blocks to a virtual meter in this process. Both
ends are taken too generously: from before the meter writes its answer to after the daemon has written its request.
"""

from __future__ import annotations

import random
import time
from array import array
from bisect import bisect_left

from benchmarks.figure import Figure, noise, percentile, platform_of_run, spread
from benchmarks.meters import BLOCK_OCTETS, CIPHERED
from benchmarks.process import Gateway, Line, state_directory
from gateway.simulator import PtyLine, VirtualMeter

TARGET_US, TARGET_P99_US = 250.0, 1000.0
_BLOCKS = 2048
_ROUNDS = 5


class _WatchedLine(PtyLine):
    """A pty line that notes when each answer to a block goes out."""

    def __init__(self, meter: VirtualMeter) -> None:
        super().__init__([meter])
        self.answered_at = array("q")
        self._blocks = 0

    def _write(self, octets: bytes) -> None:
        now = time.monotonic_ns()
        super()._write(octets)
        blocks = self.meters[0].history.blocks.total()
        if self._blocks < blocks < _BLOCKS:
            self.answered_at.append(now)
        self._blocks = blocks


def figure() -> Figure:
    """The median round: in each some thousand answers, so that a p99 is more than the worst moment of the machine."""
    rounds = [_dead_us(number) for number in range(_ROUNDS)]
    p50s_us, p99s_us = ([percentile(round_us, percent) for round_us in rounds] for percent in (50, 99))
    return Figure(
        "dead_time_us",
        percentile(p50s_us, 50),
        "us",
        TARGET_US,
        {
            "compared": "answer on the pty to next request written; daemon and meter are two processes, ciphered blocks"
            f" of {BLOCK_OCTETS} octets; target p50 {TARGET_US:.0f}, p99 {TARGET_P99_US:.0f}",
            "p99_us": percentile(p99s_us, 50),
            "p99_against_us": TARGET_P99_US,
            "p50s_us": spread(p50s_us),
            "p99s_us": spread(p99s_us),
            "answers": sum(map(len, rounds)),
            "lowest_us": min(map(min, rounds)),
            "highest_us": max(map(max, rounds)),
            "seen_elsewhere_us": {"gurux-dlms plain": [180, 330], "gurux-dlms ciphered": [1000, 1800]},
            "noise": noise(),
            **platform_of_run(),
        },
    )


def _dead_us(number: int) -> list[float]:
    """The dead time after each block of one transfer."""
    image = random.Random(f"dead time {number}").randbytes(_BLOCKS * BLOCK_OCTETS)
    with state_directory() as directory, _WatchedLine(VirtualMeter(CIPHERED)) as line:
        moments = directory / "moments"
        with Gateway(directory, [Line(line.address, [CIPHERED])], watched=moments) as gateway:
            gateway.order("bench", gateway.store_image(image))
            gateway.await_update()
        writes = array("q", moments.read_bytes())
    begun_at, written_at = writes[::2], writes[1::2]
    dead_us = []
    for answered in line.answered_at:
        # A request may be answered before its writer knows that it was written, but not before it began to write.
        following = bisect_left(begun_at, answered)
        dead_us.append((written_at[following] - answered) / 1e3)
    return dead_us
