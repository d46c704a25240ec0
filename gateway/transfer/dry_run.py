"""A dry run: the procedure up to where it would change something in the meter, and what was seen on the way."""

from __future__ import annotations

from typing import assert_never

from gateway.model import Findings, JobState
from gateway.transfer.steps import (
    Activate,
    ArmSchedule,
    CheckHealth,
    ClearSchedule,
    Done,
    Enable,
    Failed,
    Goal,
    Initiate,
    LeaveToMeter,
    MeterView,
    SendBlock,
    SetScript,
    Step,
    Survey,
    Verify,
    Wait,
)


def rehearsed(goal: Goal, step: Step) -> Survey | CheckHealth | Done | Failed:
    """What a dry run does instead of `step`: it reads on, or ends. Nothing else ever leaves for the meter."""
    match step:
        case Survey() | CheckHealth() | Done() | Failed():
            return step
        case Initiate(block_size=size):
            would = f"would begin, with {_blocks(goal, size)} blocks of {size} octets"
        case SendBlock(number=number):
            would = f"would go on with block {number}, which it is missing"
        case Enable():
            would = "would be enabled"
        case Verify():
            would = "has all blocks, and would verify them"
        case Activate() | ArmSchedule() | SetScript():
            would = "has verified the image, and would run it"
        case ClearSchedule():
            would = "has a schedule of an earlier order, which would be cleared"
        case Wait(why=why):
            would = f"would be waited for: {why}"
        case LeaveToMeter():
            would = "is about to run the image by itself"
        case _:
            assert_never(step)
    return Done(JobState.SKIPPED, f"dry run: {would}")


def found(goal: Goal, seen: MeterView, block_s: float | None) -> Findings:
    """What was seen of the meter. `block_s`: how long one block of the size that it will be sent takes; None: nobody
    knows."""
    size = block_size(goal, seen)
    left = None
    if seen.blocks is not None:
        left = seen.blocks.total - seen.blocks.count
    elif size:
        left = _blocks(goal, size)
    return Findings(
        reachable=seen.largest_block is not None,
        version=seen.version,
        status=None if seen.status is None else seen.status.name.lower(),
        enabled=seen.enabled,
        block_size=seen.block_size,
        largest_block=seen.largest_block,
        blocks_left=left,
        estimate_s=None if left is None or block_s is None else round(left * block_s, 1),
    )


def block_size(goal: Goal, seen: MeterView) -> int:
    """Octets of the blocks that it would be sent; 0: not known."""
    return goal.profile.block_size or seen.block_size or 0


def _blocks(goal: Goal, size: int) -> int:
    return -(-goal.image_size // size)
