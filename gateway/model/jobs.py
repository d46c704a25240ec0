"""What becomes of an order in one meter, and the records that make it survive a power cut."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum

from gateway.errors import Code


class JobState(StrEnum):
    QUEUED = "queued"
    WAITING = "waiting"
    PRECHECK = "precheck"
    INITIATING = "initiating"
    TRANSFERRING = "transferring"
    COMPLETING = "completing"
    VERIFYING = "verifying"
    AWAITING_ACTIVATION = "awaiting_activation"
    ACTIVATING = "activating"
    CONFIRMING = "confirming"
    UNCERTAIN = "uncertain"
    UPDATED = "updated"
    SKIPPED = "skipped"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL_JOB = frozenset({JobState.UPDATED, JobState.SKIPPED, JobState.FAILED, JobState.CANCELLED})


class ImageTransferStatus(IntEnum):
    """Attribute 6 of class 18 (Blue Book, Image Transfer)."""

    NOT_INITIATED = 0
    INITIATED = 1
    VERIFICATION_INITIATED = 2
    VERIFICATION_SUCCESSFUL = 3
    VERIFICATION_FAILED = 4
    ACTIVATION_INITIATED = 5
    ACTIVATION_SUCCESSFUL = 6
    ACTIVATION_FAILED = 7


@dataclass(frozen=True, slots=True)
class TransferRecord:
    """What is durable about one image in one meter: it is written before the bytes it speaks of leave
    (invariants 2 and 3)."""

    sha256: str
    identifier: bytes
    image_size: int
    block_size: int
    initiates: int = 1
    """How often initiate was decided in this campaign; flash wears."""
    initiated_over: int = 0
    """a6 as it was seen just before the last initiate."""
    initiate_answered: bool = False
    """The meter acknowledged the last initiate."""
    acked: bytes = b""
    """Blocks acknowledged up to the last checkpoint; block 0 is the most significant bit of the first octet."""
    ceiling: int = -1
    """The highest block that may have been sent before the next checkpoint."""
    verifies: int = 0
    """How often verify was decided."""
    verify_waited_s: float = 0.0
    """So long its result had been waited for when the job was set aside: windows may be shorter than time-outs."""
    activate_decided: bool = False
    """Activate was decided; it is never sent again."""
    scheduled_at: datetime | None = None
    """The meter may have this time in its own schedule; None: it was not given one, or showed that it has none."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What a dry run saw of a meter; None: it was not asked, or did not say."""

    reachable: bool
    """It was associated with."""
    version: str | None = None
    status: str | None = None
    """Attribute 6 of its Image Transfer object, by name."""
    enabled: bool | None = None
    """Attribute 5."""
    block_size: int | None = None
    """Attribute 2."""
    largest_block: int | None = None
    """Octets of image that fit its largest APDU."""
    blocks_left: int | None = None
    """So many it would be sent."""
    estimate_s: float | None = None
    """So long they would take on the line, with as long a pause before each answer as it made in the dry run."""


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """What a meter said of itself before and after an update, as text; None: not read yet."""

    object: str
    """As the profile names it."""
    before: str | None = None
    after: str | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """How a job stands, as far as the plan of its campaign wants to know it."""

    meter_id: str
    state: JobState
    finished_at: datetime | None = None
    in_its_meters_hands: bool = False
    """Its activation was ordered, or its meter may have the time of it: only looking is left, whatever the hour."""


@dataclass(frozen=True, slots=True)
class Job:
    """One meter of a campaign."""

    campaign_id: str
    meter_id: str
    port: str
    place: int = 0
    """In the order of its campaign, from 0."""
    state: JobState = JobState.QUEUED
    code: Code | None = None
    message: str = ""
    detail: str = ""
    tries: int = 0
    """Failed attempts in a row since the last progress."""
    line_tries: int = 0
    """How many of them failed for want of the line, which is no fault of the meter."""
    crashes: int = 0
    """How often a bug of this program ended it at work on this job."""
    next_try_at: datetime | None = None
    blocks_done: int = 0
    blocks_total: int = 0
    blocks_sent: int = 0
    blocks_resent: int = 0
    blocks_broadcast: int = 0
    """Of those sent, how many went to others with the same frame."""
    bytes_sent: int = 0
    """Octets of blocks sent, those sent again included."""
    transfer_s: float = 0.0
    """So long the line was at work on these blocks, their acknowledgements included."""
    delivery: str = ""
    """How it is served: "unicast" or "broadcast", and why or how far; empty until blocks go."""
    version_before: str = ""
    version_after: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    activated_at: datetime | None = None
    transfer_enabled: bool = False
    """This gateway set attribute 5 to TRUE, and puts it back at the end."""
    findings: Findings | None = None
    """Of a dry run, when it has ended."""
    health: tuple[HealthCheck, ...] = ()
    record: TransferRecord | None = None
    rev: int = 0
