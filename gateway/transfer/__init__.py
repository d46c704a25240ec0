"""What next? The whole Image Transfer procedure (Blue Book, class 18) as pure decisions.

`steps.py` has the goal, what is seen of the meter, and the steps; `procedure.py` decides; `setbacks.py` says what an
error or a refusal means; `blocks.py` counts; `broadcast.py` says who takes blocks together with others; `health.py`
compares before and after; `schedule.py` lets the meter activate by itself; `dry_run.py` stops before any change.
Nothing here talks to a meter, reads a clock or writes to a disk: the worker does, and shows the result.
"""

from gateway.transfer.blocks import BlockSet
from gateway.transfer.dry_run import block_size, found
from gateway.transfer.identifier import identifier_of
from gateway.transfer.procedure import next_step
from gateway.transfer.setbacks import after_error, block_refused, refused
from gateway.transfer.steps import (
    Activate,
    ActivateEntry,
    ArmSchedule,
    CheckHealth,
    ClearSchedule,
    Done,
    Enable,
    Failed,
    Goal,
    Initiate,
    Item,
    LeaveToMeter,
    MeterView,
    ScheduleEntry,
    Script,
    SendBlock,
    SetScript,
    Step,
    Survey,
    Verify,
    Wait,
)

__all__ = [
    "Activate",
    "ActivateEntry",
    "ArmSchedule",
    "BlockSet",
    "CheckHealth",
    "ClearSchedule",
    "Done",
    "Enable",
    "Failed",
    "Goal",
    "Initiate",
    "Item",
    "LeaveToMeter",
    "MeterView",
    "ScheduleEntry",
    "Script",
    "SendBlock",
    "SetScript",
    "Step",
    "Survey",
    "Verify",
    "Wait",
    "after_error",
    "block_refused",
    "block_size",
    "found",
    "identifier_of",
    "next_step",
    "refused",
]
