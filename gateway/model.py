"""The nouns of meter-gateway: frozen, typed, without behaviour.

Port (a line), Meter (an address on it), Image, Campaign (an order), Job (one meter of a campaign) and the
records that make a transfer survive a power cut. Units stand last in names; times of day are aware and in UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Any

from gateway.errors import Code

# -- configuration --------------------------------------------------------------------------------------------


class PortKind(StrEnum):
    RS485 = "rs485"
    OPTICAL = "optical"
    TCP = "tcp"


class Parity(StrEnum):
    NONE = "none"
    EVEN = "even"
    ODD = "odd"


class Framing(StrEnum):
    HDLC = "hdlc"
    WRAPPER = "wrapper"


class Authentication(StrEnum):
    NONE = "none"
    LLS = "lls"
    HLS_GMAC = "hls-gmac"


class Security(StrEnum):
    """How every APDU of an association is protected (context 3), or not at all (context 1)."""

    NONE = "none"
    AUTHENTICATION = "authentication"
    ENCRYPTION = "encryption"
    BOTH = "both"


class A7Policy(StrEnum):
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
class PortSettings:
    """A line of this gateway. `device` for serial kinds: a path, or "rfc2217://host:port" or "socket://host:port";
    `address` ("host:port") for TCP."""

    name: str
    kind: PortKind
    device: str = ""
    address: str = ""
    framing: Framing = Framing.HDLC
    baud: int = 9600
    """With mode E the most that may be agreed."""
    parity: Parity = Parity.NONE
    mode_e: bool = False
    """Meters are signed on to by IEC 62056-21 mode E before HDLC begins."""
    response_timeout_s: float = 2.0
    attempts: int = 3


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


@dataclass(frozen=True, slots=True)
class Meter:
    """An address on a port and how to talk to what answers there."""

    id: str
    port: str
    physical_address: int = 1
    logical_address: int = 1
    address_bytes: int = 0
    """1, 2 or 4; 0: what the addresses need."""
    device_address: str = ""
    """What mode E calls it by, where several share an optical port; empty: whoever is there."""
    client: int = 1
    authentication: Authentication = Authentication.NONE
    security: Security = Security.NONE
    dedicated_key: bool = False
    logical_device_name: str = ""
    profile: Profile = field(default_factory=Profile)


@dataclass(frozen=True, slots=True)
class MeterKeys:
    """Secrets of one meter; never shown (invariant 13)."""

    encryption_key: bytes = field(default=b"", repr=False)
    authentication_key: bytes = field(default=b"", repr=False)
    password: bytes = field(default=b"", repr=False)
    initial_counter: int | None = None
    broadcast_key: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    id: str = ""
    system_title: bytes = b""
    state_dir: Path = Path("/var/lib/meter-gateway")
    control_socket: Path = Path("/run/meter-gateway/control.sock")
    timezone: str = ""
    require_synced_clock: bool = True


@dataclass(frozen=True, slots=True)
class MqttSettings:
    url: str
    root: str = "mgw/v1"
    username: str = ""
    password: str = field(default="", repr=False)
    keepalive_s: float = 60.0
    session_expiry_s: float = 7 * 86400.0
    outbox_limit_bytes: int = 64 * 2**20
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None


@dataclass(frozen=True, slots=True)
class CommandSettings:
    mqtt_verbs: tuple[str, ...] = (
        "ping", "info.get", "port.*", "meter.list", "meter.read", "meter.probe", "image.*", "campaign.*",
        "window.list",
    )  # fmt: skip


class Trust(StrEnum):
    SIGNED = "signed"
    DIGEST = "digest"


@dataclass(frozen=True, slots=True)
class FirmwareSettings:
    trust: Trust = Trust.SIGNED
    allow_hosts: tuple[str, ...] = ()
    """Empty: loopback only."""
    allow_plaintext: bool = False
    quota_bytes: int = 512 * 2**20


@dataclass(frozen=True, slots=True)
class Window:
    """Hours in which meters may be worked on. `days` are those on which it opens, 0 is Monday; `start` is local time in
    `timezone`, an IANA name."""

    name: str
    days: frozenset[int]
    start: time
    duration_s: float
    timezone: str
    cutoff_s: float = 0.0
    """No meter is started later than this before the end."""
    drain_s: float = 120.0
    """Transfers stop at a block boundary this long before the end."""
    exceptions: frozenset[date] = frozenset()
    """Local days on which it does not open."""
    valid_from: date | None = None
    valid_until: date | None = None
    """The first and the last local day on which it may open."""


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration; keys are apart from everything that is ever shown."""

    gateway: GatewaySettings
    mqtt: MqttSettings | None
    commands: CommandSettings
    firmware: FirmwareSettings
    ports: tuple[PortSettings, ...]
    meters: tuple[Meter, ...]
    keys: Mapping[str, MeterKeys] = field(default_factory=dict, repr=False)
    windows: Mapping[str, Window] = field(default_factory=dict)


# -- orders and what became of them ---------------------------------------------------------------------------


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


class ActivateWhen(StrEnum):
    """When a meter that has verified its image may be ordered to run it."""

    IMMEDIATELY = "immediately"
    """As soon as it has; inside the window of the transfer, where there is one."""
    WINDOW = "window"
    """In a window of its own."""
    AT = "at"
    """From a time on."""
    MANUAL = "manual"
    """After `campaign.approve`; inside the window of the transfer, where there is one."""


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


TERMINAL_CAMPAIGN = frozenset({
    CampaignState.SUCCEEDED, CampaignState.PARTIAL, CampaignState.FAILED, CampaignState.CANCELLED,
    CampaignState.EXPIRED,
})  # fmt: skip
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
    state: CampaignState = CampaignState.ACCEPTED
    code: Code | None = None
    message: str = ""
    rev: int = 1
    fetch_tries: int = 0
    fetch_next_try_at: datetime | None = None
    finished_at: datetime | None = None


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
    activate_decided: bool = False
    """Activate was decided; it is never sent again."""


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
    record: TransferRecord | None = None
    rev: int = 0


@dataclass(frozen=True, slots=True)
class Image:
    """Bytes that are stored here and whose digest was checked."""

    sha256: str
    size: int


# -- commands and replies -------------------------------------------------------------------------------------


class ReplyStatus(StrEnum):
    ACCEPTED = "accepted"
    DONE = "done"
    REJECTED = "rejected"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Command:
    """A checked command envelope with what is needed to answer it later."""

    cmd_id: str
    verb: str
    args: Mapping[str, Any]
    issued: datetime
    expires: datetime
    body_sha256: str
    """Over verb and envelope as received: tells a repetition from a conflict."""
    who: str
    """Who asked: "mqtt", or "uid 1000 (pid 4711)"."""
    uid: int | None = None
    """Of the process that asked over the control socket, as the kernel says it; None: nobody here."""
    reply_topic: str = ""
    """Absolute MQTT topic for the replies; empty: asked over the control socket."""
    correlation: bytes = b""


@dataclass(frozen=True, slots=True)
class Reply:
    cmd_id: str | None
    status: ReplyStatus
    code: Code | None = None
    message: str = ""
    retryable: bool = False
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Errand:
    """What somebody waits for: a read, done by the worker of the port before the next block, or the gateway's own
    (`port` is "")."""

    cmd_id: str
    verb: str
    port: str
    meter_id: str
    args: Mapping[str, Any]
    who: str = ""
    """Who asked, as in `Command`."""
    local: bool = False
    """Asked at this machine and not over the broker: it may try a meter that is parked."""


@dataclass(frozen=True, slots=True)
class Parked:
    """A meter that is left alone since it refused us, or we it: nothing that needs its keys is begun by itself."""

    meter_id: str
    code: Code
    message: str
    parked_at: datetime


@dataclass(frozen=True, slots=True)
class Hold:
    """A line that is lent to another tool."""

    port: str
    until: datetime
    who: str
    """Who asked for it, as in `Command`."""


class AlarmKind(StrEnum):
    CLOCK = "clock"
    """Nobody keeps the clock right."""
    DISK = "disk"
    """The disk with the state is nearly full."""
    PORT_LOST = "port-lost"
    """A line cannot be had: no device, held by another program, gone."""
    PORT_SHARED = "port-shared"
    """Another master talks on a line."""
    OUTBOX = "outbox"
    """So much waits for the broker that new campaigns are refused."""
    STORE = "store"
    """The database was broken and had to be made anew."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that an operator should look at, from when it is found until it is over."""

    code: str
    """The kind; of a port, kind and port: "port-lost.rs485-1"."""
    kind: AlarmKind
    port: str
    """Empty: it is about the whole gateway."""
    message: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Tuning:
    """What a meter takes, where that is less than its profile allows, or later than its line's time-out."""

    meter_id: str
    max_info: int
    window: int
    snrm_parameters: bool
    wait_s: float
    under: str
    """The limits that it was learned under; under others it does not hold."""
    since: datetime
    why: str


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """A message that must reach the broker, in order of `id`."""

    id: int
    topic: str
    """Absolute."""
    payload: bytes
    retain: bool
    correlation: bytes = b""


@dataclass(frozen=True, slots=True)
class StepReport:
    """What an actor did, as a sentence, and when it wants to be called again: at a monotonic time (seconds),
    or None: when its bell rings."""

    sentence: str
    wake_at: float | None
