"""What a meter model needs: a profile, and the choices in it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class A7Policy(StrEnum):
    CHECK = "check"
    SKIP = "skip"


class ClockPolicy(StrEnum):
    """Whether a meter's clock is compared with ours before its schedule is given a time."""

    CHECK = "check"
    SKIP = "skip"


class BitmapOrder(StrEnum):
    MSB = "msb"
    LSB = "lsb"
    IGNORE = "ignore"


class IdentifierSource(StrEnum):
    """Where the identifier comes from that initiate tells the meter."""

    GIVEN = "given"
    """The order's."""
    HEAD = "head"
    """The head of the file: one octet of length, then the identifier (IDIS style)."""
    MD5 = "md5"
    """The MD5 of the image."""


@dataclass(frozen=True, slots=True)
class Match:
    """What a meter of a profile says of itself: the value of `object` (attribute 2), a glob `pattern`."""

    object: str
    pattern: str


class HlsCounter(StrEnum):
    """Which of the two messages of an HLS reply takes the lower counter: the proof or the APDU around it."""

    INNER_FIRST = "inner-first"
    OUTER_FIRST = "outer-first"


class BroadcastFraming(StrEnum):
    """How ciphered blocks go to a whole bus: glo-action-request, or general-glo-ciphering with the sender's title."""

    GLO = "glo"
    GENERAL_GLO = "general-glo"


@dataclass(frozen=True, slots=True)
class ObjectAttribute:
    """An attribute of a COSEM object: class_id, logical name, attribute_id."""

    class_id: int
    object: str
    number: int
    text: str
    """As it stands in the configuration."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What a meter model needs. Quirks are settings here, never subclasses."""

    name: str = "default"
    match: Match | None = None
    image_object: str = "0-0:44.0.0.255"
    firmware_object: str = "1-0:0.2.0.255"
    counter_object: str = "0-0:43.1.1.255"
    block_size: int = 0
    pad_last_block: bool = False
    enable_transfer: bool = False
    """Set attribute 5 where it is FALSE, and put it back."""
    in_order_only: bool = False
    """The model stores blocks in the order of arrival, whatever their numbers."""
    identifier: IdentifierSource = IdentifierSource.GIVEN
    after_initiate_s: float = 5.0
    a7: A7Policy = A7Policy.CHECK
    bitmap: BitmapOrder = BitmapOrder.MSB
    max_initiates: int = 2
    verify_timeout_s: float = 1800.0
    activate_timeout_s: float = 600.0
    reconnect_after_s: float = 30.0
    snrm_parameters: bool = True
    max_info: int = 2030
    window: int = 7
    hls_counter: HlsCounter = HlsCounter.INNER_FIRST
    optical_delay_before_ack_s: float = 0.15
    optical_delay_after_ack_s: float = 0.2
    broadcast: bool = False
    """May take part in broadcast delivery."""
    broadcast_client: int = 102
    broadcast_framing: BroadcastFraming = BroadcastFraming.GLO
    broadcast_gap_s: float = 0.02
    """The line is left alone so long after each frame of a broadcast."""
    broadcast_max_info: int = 128
    """Octets of information that the model takes in one UI frame."""
    activation_schedule: str = ""
    """The Single action schedule of the image activation; empty: it has none that is to be used."""
    activation_script: str = "0-0:10.0.107.255"
    activation_selector: int = 1
    """What the schedule runs: a script of a table."""
    activation_timezone: str = ""
    """What the meter's clock shows: an IANA name."""
    activation_clock: ClockPolicy = ClockPolicy.CHECK
    health_checks: tuple[ObjectAttribute, ...] = ()
    """What is read before and after an update, and should be the same."""
    health_failure: bool = False
    """A difference makes the job fail; else it is only told."""
