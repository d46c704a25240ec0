"""What was ordered: one image into some meters."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from gateway.errors import Code


class CampaignState(StrEnum):
    ACCEPTED = "accepted"
    FETCHING = "fetching"
    READY = "ready"
    RUNNING = "running"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class PausedWhy(StrEnum):
    """What a paused campaign waits for."""

    WINDOW = "window"
    OPERATOR = "operator"
    CLOCK = "clock"
    APPROVAL = "approval"
    FAILURES = "failures"
    SOAK = "soak"
    SIGNATURE = "signature"
    """Nobody can look at the moment who signed its image."""


class ActivateWhen(StrEnum):
    """When a meter that has verified its image may be ordered to run it."""

    IMMEDIATELY = "immediately"
    """As soon as it has; inside the window of the transfer, where there is one."""
    WINDOW = "window"
    """In a window of its own."""
    AT = "at"
    """From a time on."""
    METER = "meter"
    """By the meter itself, whose schedule is given the time."""
    MANUAL = "manual"
    """After `campaign.approve`; inside the window of the transfer, where there is one."""


TERMINAL_CAMPAIGN = frozenset({
    CampaignState.SUCCEEDED, CampaignState.PARTIAL, CampaignState.FAILED, CampaignState.CANCELLED,
    CampaignState.EXPIRED,
})  # fmt: skip
WAITS_FOR_IMAGE = frozenset({CampaignState.ACCEPTED, CampaignState.FETCHING})
DEFAULT_PRIORITY = 5


class Delivery(StrEnum):
    """How the blocks of an order go to its meters."""

    UNICAST = "unicast"
    BROADCAST = "broadcast"
    """To all of a bus at once, and every meter is configured for that."""
    AUTO = "auto"
    """By broadcast where two or more can take it."""


@dataclass(frozen=True, slots=True)
class Campaign:
    """An order: one image into some meters."""

    id: str
    sha256: str
    identifier: bytes
    """What the image is called towards the meters (class 18, method 1)."""
    meters: tuple[str, ...]
    """The targets, resolved when it was accepted."""
    created_at: datetime
    url: str = ""
    """Empty: the image is stored already."""
    image_size: int | None = None
    manifest: str = ""
    """The digest of its envelope, as the Store keeps it; empty: there is none."""
    signed_by: tuple[str, ...] = ()
    """Whose signatures the manifest carries, where they were looked at."""
    profiles: tuple[str, ...] = ()
    """The manifest's: the image is for no others; empty: there is no manifest."""
    from_versions: tuple[str, ...] = ()
    """The manifest's: globs of the versions that it may replace; empty: any."""
    expect_version: str = ""
    firmware_object: str = ""
    """Empty: the profile's."""
    take_over: bool = False
    dry_run: bool = False
    """Look at the meters, up to where an image would be begun."""
    priority: int = DEFAULT_PRIORITY
    """0 to 9; a higher one has the line first."""
    delivery: Delivery = Delivery.UNICAST
    window: str = ""
    """The window of the transfer; empty: at any time."""
    activate_when: ActivateWhen = ActivateWhen.IMMEDIATELY
    activate_window: str = ""
    activate_at: datetime | None = None
    approved: bool = False
    """An operator has approved the activation."""
    not_after: datetime | None = None
    canary: int = 0
    """So many meters go first."""
    canary_soak_s: float = 0.0
    """So long the last of them has to run its new firmware before others follow."""
    wave: int = 0
    """So many meters go together afterwards; 0: all."""
    max_failures: int | None = None
    """More failed meters than this pause the campaign; None: no number does."""
    failures_accepted: int = 0
    """So many failed meters were known to the operator who resumed it last; they count no more."""
    released: int = 0
    """So many of its jobs, in their order, may be worked on."""
    paused: PausedWhy | None = None
    opens_at: datetime | None = None
    """When a paused campaign goes on by itself, where that is known."""
    eta: datetime | None = None
    """When it is expected to have ended, as fast as its lines are; None: nobody knows."""
    state: CampaignState = CampaignState.ACCEPTED
    code: Code | None = None
    message: str = ""
    rev: int = 1
    fetch_tries: int = 0
    """Attempts to get the image that failed in a row and brought nothing new."""
    fetch_next_try_at: datetime | None = None
    fetch_spent_s: float = 0.0
    """So long all attempts took, and the pauses between them."""
    fetch_octets: int = 0
    """So many came over the network in all attempts."""
    fetch_done: int = 0
    """So many octets of the image were here at the end of the last attempt."""
    finished_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Image:
    """Bytes that are stored here and whose digest was checked."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What somebody says of an image, and may have signed."""

    sha256: str
    size: int
    version: str
    """What a meter reports that runs it."""
    profiles: tuple[str, ...]
    """The meter models that it is for, by the names of their profiles."""
    sequence: int
    """Rises with each release for a profile; a lower one than was accepted before is refused."""
    identifier: bytes = b""
    """What the image is called towards the meters; empty: the order or the profile says."""
    from_versions: tuple[str, ...] = ()
    """Globs of the versions that it may replace; empty: any."""
    rollback: bool = False
    """Meant to go back: its sequence may be lower."""
    not_after: datetime | None = None
    """Not to be ordered or activated from then on."""
    block_bytes: int = 0
    """0: there are no digests of blocks."""
    block_sha256: tuple[str, ...] = ()
    """Of each block of `block_bytes` octets in order, the last one as long as it is."""
