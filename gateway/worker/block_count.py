"""How many blocks of one job have gone to its meter, how fast, and what onlookers are told of it."""

from __future__ import annotations

from gateway.board import Board
from gateway.clock import Clock
from gateway.model import Job
from gateway.transfer import BlockSet

PROGRESS_S = 0.5
_RATE_AFTER_S = 0.1
"""Before, what a block takes is not to be told from what it waits."""


class BlockCount:
    """Goes on where `job` stood."""

    def __init__(self, job: Job, *, board: Board, clock: Clock) -> None:
        self._key = ("progress", job.campaign_id, job.meter_id)
        self._board = board
        self._clock = clock
        self._sent = job.blocks_sent
        self._resent = job.blocks_resent
        self._broadcast = job.blocks_broadcast
        self._bytes_sent = job.bytes_sent
        self._transfer_s = job.transfer_s
        self._round_since: float | None = None
        """When the first block of a broadcast that goes on left for it."""
        self._before = BlockSet(0)
        """What was sent since initiate."""
        self._rate_blocks = 0
        self._rate_since = self._told_at = clock.monotonic()

    def begin(self, total: int, sent: bytes = b"") -> None:
        """The meter was initiated for `total` blocks; `sent`: a bitmap of what it was sent since."""
        self._before = BlockSet(total, sent)

    def note(
        self, number: int, now_s: float, *, octets: int, took_s: float = 0.0, broadcast: bool = False
    ) -> None:
        """A block of so many octets went to the meter, which took the line so long; to others with it: `broadcast`,
        whose time is counted by the round."""
        if not self._rate_blocks:
            self._rate_since = now_s
        self._rate_blocks += 1
        self._sent += 1
        self._broadcast += broadcast
        self._bytes_sent += octets
        self._transfer_s += took_s
        if broadcast and self._round_since is None:
            self._round_since = now_s
        self._resent += number in self._before
        self._before.add(number)

    def end_round(self) -> None:
        """No block of this broadcast goes any more until the meter was looked at."""
        if self._round_since is not None:
            self._transfer_s += self._clock.monotonic() - self._round_since
            self._round_since = None

    def within(self, seconds: float) -> int:
        """How many blocks go in that time, as it went so far; 0: nobody knows."""
        elapsed_s = self._clock.monotonic() - self._rate_since
        return int(self._rate_blocks / elapsed_s * seconds) if self._rate_blocks and elapsed_s > 0 else 0

    def fields(self) -> dict[str, int | float]:
        """Of the job."""
        return {
            "blocks_sent": self._sent,
            "blocks_resent": self._resent,
            "blocks_broadcast": self._broadcast,
            "bytes_sent": self._bytes_sent,
            "transfer_s": self._transfer_s,
        }

    def tell(self, job: Job, now_s: float, *, done: int, block_size: int) -> None:
        """Post the progress of `job`, where the last one is PROGRESS_S old."""
        if now_s - self._told_at < PROGRESS_S:
            return
        now_s = self._told_at = self._clock.monotonic()
        elapsed_s = now_s - self._rate_since
        per_s = self._rate_blocks / elapsed_s if elapsed_s >= _RATE_AFTER_S else 0.0
        value = {
            "state": str(job.state),
            "blocks_done": done,
            "blocks_total": job.blocks_total,
            "bytes_per_s": round(per_s * block_size),
            "eta_s": round((job.blocks_total - done) / per_s) if per_s else None,
        }
        self._board.post(self._key, value)
