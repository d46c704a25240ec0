"""What onlookers are told of a transfer's speed."""

from __future__ import annotations

import pytest

from gateway.board import Board
from gateway.model import Job, JobState
from gateway.simulator import VirtualClock
from gateway.worker.block_count import PROGRESS_S, BlockCount


@pytest.mark.parametrize(("after_s", "bytes_per_s", "eta_s"), [(0.0, 0, None), (0.2, 1280, 18)])
def test_a_block_that_has_just_left_tells_no_speed(after_s, bytes_per_s, eta_s):
    board, clock = Board(), VirtualClock()
    job = Job("fw-1", "MTR0001", "rs485-1", JobState.TRANSFERRING, blocks_total=92)
    count = BlockCount(job, board=board, clock=clock)
    count.begin(job.blocks_total)
    clock.advance(PROGRESS_S)
    count.note(0, clock.monotonic(), octets=256, broadcast=True)
    clock.advance(after_s)
    count.tell(job, clock.monotonic(), done=0, block_size=256)
    (told,) = board.values("progress").values()
    assert (told["bytes_per_s"], told["eta_s"]) == (bytes_per_s, eta_s)
