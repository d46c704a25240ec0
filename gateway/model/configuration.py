"""The configuration: lines, the meters on them, their keys, windows, and the settings of the gateway."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, time
from enum import StrEnum
from pathlib import Path

from gateway.model.profile import Profile


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
    retention_s: float = 90 * 86400.0
    """So long after its end a campaign is kept, and shown to head-ends."""


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
class TrustedKey:
    """A public key whose signatures count."""

    name: str
    """Of its file, for people."""
    spki: bytes = field(repr=False)
    """Its SubjectPublicKeyInfo in DER: equal for equal keys."""


@dataclass(frozen=True, slots=True)
class CommandSettings:
    mqtt_verbs: tuple[str, ...] = (
        "ping", "info.get", "port.*", "meter.list", "meter.read", "meter.probe", "image.*", "campaign.*",
        "window.list", "event.list",
    )  # fmt: skip
    signed_verbs: tuple[str, ...] = ()
    """Verbs, or patterns of them, that over MQTT must carry signatures."""
    trusted_keys: tuple[TrustedKey, ...] = ()
    threshold: int = 1
    """So many different trusted keys must have signed."""


class Trust(StrEnum):
    SIGNED = "signed"
    DIGEST = "digest"


@dataclass(frozen=True, slots=True)
class FirmwareSettings:
    trust: Trust = Trust.SIGNED
    trusted_keys: tuple[TrustedKey, ...] = ()
    trusted_root: bytes = field(default=b"", repr=False)
    """Certificates in PEM: a CMS signature counts if its signer's certificate leads to one of them."""
    threshold: int = 1
    """So many different keys must have signed a manifest."""
    allow_hosts: tuple[str, ...] = ()
    """Empty: loopback only."""
    allow_plaintext: bool = False
    quota_bytes: int = 512 * 2**20
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    proxy: str = ""
    """Through which every server but one of this machine is reached, "http://host:port"; empty: directly."""


@dataclass(frozen=True, slots=True)
class PageSettings:
    """Where the local status page listens."""

    host: str
    """An IP address of this machine, or 0.0.0.0 or :: for all of them."""
    port: int


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
    page: PageSettings | None = None
    """None: nothing listens."""
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    stored: frozenset[str] = frozenset()
    """Ids of those `meters` that were put by command and are kept in the state."""
    left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Others of that kind, which do not fit the rest: by their ids, with what is wrong."""
