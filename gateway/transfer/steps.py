"""The goal of a transfer, what is seen of the meter, and the steps that lead from one to the other."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from gateway.errors import Code
from gateway.model import HealthCheck, ImageTransferStatus, JobState, ObjectAttribute, Profile, TransferRecord
from gateway.transfer.blocks import BlockSet


@dataclass(frozen=True, slots=True)
class Goal:
    """One image in one meter."""

    sha256: str
    image_size: int
    identifier: bytes
    profile: Profile
    expect_version: str = ""
    profiles: tuple[str, ...] = ()
    """The image is for meters of these alone; empty: nobody says."""
    from_versions: tuple[str, ...] = ()
    """Globs of the versions that it may replace; empty: any."""
    logical_device_name: str = ""
    take_over: bool = False
    dry_run: bool = False
    """Look, and change nothing."""
    activate_at: datetime | None = None
    """When the meter is to run the image by itself; None: this gateway orders it."""


def same_image(goal: Goal, record: TransferRecord) -> bool:
    """Whether `record` is of the image that the goal is about."""
    return (record.sha256, record.image_size, record.identifier) == (
        goal.sha256, goal.image_size, goal.identifier,
    )  # fmt: skip


class Item(Enum):
    """What can be read of a meter, one exchange each (the bitmap of a big image takes several)."""

    DEVICE_NAME = "logical device name"
    MATCH = "object that the profile matches"
    VERSION = "firmware version"
    BLOCK_SIZE = "image_block_size"
    BITMAP = "image_transferred_blocks_status"
    ENABLED = "image_transfer_enabled"
    STATUS = "image_transfer_status"
    ACTIVATE_INFO = "image_to_activate_info"
    CLOCK = "clock"
    SCHEDULE = "schedule of the image activation"
    SCRIPT = "script of that schedule"


@dataclass(frozen=True, slots=True)
class ActivateEntry:
    """One element of attribute 7."""

    image_size: int
    identification: bytes


@dataclass(frozen=True, slots=True)
class ScheduleEntry:
    """A time in a meter's schedule."""

    wall: datetime | None
    """What its clock shows then; None: it comes again and again."""
    shown: str


@dataclass(frozen=True, slots=True)
class Script:
    """A script of a script table, which is named by its logical name."""

    table: str
    selector: int


@dataclass(slots=True)
class MeterView:
    """What is known of one meter. The worker writes it, the procedure only reads it.

    Everything up to `script_set` is an observation of the present association and is forgotten with it
    (invariant 1: any doubt means survey again). `record` is the durable part. Times are monotonic seconds.
    """

    now_s: float = 0.0
    largest_block: int | None = None
    """Octets of image that fit one APDU of this association; None before there was one."""
    device_name: str | None = None
    match: str | None = None
    """What the meter says where its profile looks (`Profile.match`)."""
    version: str | None = None
    block_size: int | None = None
    enabled: bool | None = None
    enable_tried: bool = False
    """Attribute 5 was set to TRUE, and the meter did not object."""
    status: ImageTransferStatus | None = None
    activate_info: tuple[ActivateEntry, ...] | None = None
    blocks: BlockSet | None = None
    """Blocks that need not be sent: those of the meter's bitmap, and those acknowledged since."""
    verified_here: bool = False
    """Verification was ordered in this very association."""
    swept: bool = False
    """`blocks` is the meter's bitmap, read after the last block was sent."""
    conflict: str = ""
    """Why the meter's bitmap does not continue the record; empty: it does, or was not read."""

    clock_off_s: float | None = None
    """By how much the meter's clock was ahead."""
    schedule: tuple[ScheduleEntry, ...] | None = None
    """Its times but those that never come."""
    script: Script | None = None
    script_set: bool = False
    """It was set, and the meter did not object."""

    activation_waits: str = ""
    """Why activation may not be ordered now; empty: it may."""
    now: datetime | None = None
    """The time of day; None: it is not trusted, or nobody needs it."""
    armed: bool = False
    """The meter has shown, to this process, that it has the image, and its schedule the time of this order."""
    schedule_wrong: str = ""
    """What it showed instead, after it was given that time; empty: it did not."""
    withdrawn: bool = False
    """The order was taken back while that time may stand in the meter."""
    clearing_refused: bool = False

    verify_answered: bool = False
    """The last verify was answered, with whatever result: its status decides, it is not sent again."""
    verify_refused: bool = False
    """The answer was neither success nor temporary-failure, which means that verification runs."""
    initiate_busy: bool = False
    """Initiate was answered with temporary-failure: the meter is erasing."""
    sent: BlockSet | None = None
    """Blocks that may have left for the meter since initiate; None: an earlier process knew."""
    idle_rounds: int = 0
    """Bitmaps read in a row that showed no more blocks than the one before."""
    best_count: int = 0
    record: TransferRecord | None = None
    version_before: str = ""
    health: tuple[HealthCheck, ...] = ()
    """What was read for the health checks, over all associations."""
    initiated_at_s: float | None = None
    verified_at_s: float | None = None
    activated_at_s: float | None = None

    def forget(self) -> None:
        """The association has ended: nothing seen in it counts any longer."""
        self.largest_block = None
        self.device_name = None
        self.match = None
        self.version = None
        self.block_size = None
        self.enabled = None
        self.enable_tried = False
        self.status = None
        self.activate_info = None
        self.blocks = None
        self.swept = self.verified_here = False
        self.clock_off_s = None
        self.schedule = None
        self.script = None
        self.script_set = False
        self.conflict = ""

    def doubt(self) -> None:
        """An exchange went wrong: what the meter did with it is open, and so is everything seen before."""
        self.forget()
        self.verify_answered = False

    def take_status(self, status: ImageTransferStatus) -> None:
        """Attribute 6. Once it says initiated, the meter has erased what it had."""
        self.status = status
        if status is ImageTransferStatus.INITIATED:
            self.initiate_busy = False

    def take_bitmap(self, bitmap: BlockSet) -> None:
        """The meter's own account of its blocks. In a new association it must continue the record (invariant 3);
        after a sweep it says what to send again."""
        if self.blocks is None:
            assert self.record is not None
            self.conflict = _conflict(self.record, bitmap, self.sent)
        elif bitmap.count > self.best_count:
            self.idle_rounds = 0
        else:
            self.idle_rounds += 1
        self.best_count = max(self.best_count, bitmap.count)
        self.blocks = bitmap
        self.swept = True

    def initiated(self, blocks_total: int, *, busy: bool) -> None:
        """The meter answered initiate: with success, or `busy` (temporary-failure)."""
        self.initiate_busy = busy
        self.initiated_at_s = self.now_s
        self.status = None
        self.blocks = BlockSet(blocks_total)
        self.swept = False
        self.conflict = ""
        self.idle_rounds = self.best_count = 0


def _conflict(record: TransferRecord, bitmap: BlockSet, sent: BlockSet | None) -> str:
    lost = bitmap.lacks(BlockSet(bitmap.total, record.acked))
    if lost:
        return f"the meter no longer has {lost} blocks that it acknowledged"
    if bitmap.highest() > record.ceiling:
        return f"the meter has block {bitmap.highest()}, sent were at most {record.ceiling}"
    if sent is not None and (never := sent.lacks(bitmap)):
        return f"the meter has {never} blocks that were never sent"
    return ""


@dataclass(frozen=True, slots=True)
class Survey:
    """Read one item. `state` is what the job is in meanwhile; None: what it was."""

    item: Item
    state: JobState | None = None


@dataclass(frozen=True, slots=True)
class CheckHealth:
    """Read what should be the same before and after the update."""

    attribute: ObjectAttribute
    state: JobState | None = None


@dataclass(frozen=True, slots=True)
class Enable:
    """Set attribute 5 to TRUE; it is put back when the job ends."""

    state: JobState | None = None


@dataclass(frozen=True, slots=True)
class Initiate:
    """Method 1: the meter erases what it has and expects the image in blocks of `block_size` octets."""

    block_size: int
    why: str
    state: JobState = JobState.INITIATING


@dataclass(frozen=True, slots=True)
class SendBlock:
    """Method 2."""

    number: int
    state: JobState = JobState.TRANSFERRING


@dataclass(frozen=True, slots=True)
class Verify:
    """Method 3."""

    state: JobState = JobState.VERIFYING


@dataclass(frozen=True, slots=True)
class Activate:
    """Method 4, once."""

    state: JobState = JobState.ACTIVATING


@dataclass(frozen=True, slots=True)
class SetScript:
    """Let the meter's schedule run this script."""

    script: Script
    state: JobState = JobState.AWAITING_ACTIVATION


@dataclass(frozen=True, slots=True)
class ArmSchedule:
    """Give the meter's schedule the time of the order."""

    state: JobState = JobState.AWAITING_ACTIVATION


@dataclass(frozen=True, slots=True)
class ClearSchedule:
    """Take every time out of the meter's schedule."""

    state: JobState | None = None


@dataclass(frozen=True, slots=True)
class LeaveToMeter:
    """Its time is near: what becomes of it is looked for as after Activate. No exchange."""

    left_s: float
    """Until the time; negative: it has passed."""
    state: JobState = JobState.ACTIVATING


@dataclass(frozen=True, slots=True)
class Wait:
    """Leave the meter alone for `delay_s`, then look at its status again."""

    delay_s: float
    why: str
    state: JobState | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """The end: updated or skipped, as the meter itself reported."""

    state: JobState
    message: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The end, with the code that tells why."""

    code: Code
    message: str
    state: JobState = JobState.FAILED


Step = (
    Survey
    | CheckHealth
    | Enable
    | Initiate
    | SendBlock
    | Verify
    | Activate
    | SetScript
    | ArmSchedule
    | ClearSchedule
    | LeaveToMeter
    | Wait
    | Done
    | Failed
)
