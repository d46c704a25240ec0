"""What stands until it is over: meters and lines that are left alone, alarms, and what was learned of meters."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from gateway.errors import Code


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


@dataclass(frozen=True, slots=True)
class Machine:
    """Keyed hashes of what tells one machine from another, the strongest kind first; any may be empty."""

    board: tuple[str, ...] = ()
    """Its serial number."""
    interfaces: tuple[str, ...] = ()
    """Addresses of built-in network interfaces."""
    machine_id: tuple[str, ...] = ()
    """machine-id(5), which is copied with a card."""


class AlarmKind(StrEnum):
    CLOCK = "clock"
    """Nobody keeps the clock right."""
    DISK = "disk"
    """The disk with the state is nearly full."""
    PORT_LOST = "port-lost"
    """A line cannot be had: no device, held by another program, gone."""
    PORT_SHARED = "port-shared"
    """Another master talks on a line."""
    CERTIFICATE = "certificate"
    """One that TLS or signatures rest on ends soon, has ended, or does not count yet."""
    OUTBOX = "outbox"
    """So much waits for the broker that new campaigns are refused."""
    STORE = "store"
    """The database was broken and had to be made anew."""
    METERS = "meters"
    """Stored meters do not fit the configuration."""
    MACHINE = "machine"
    """The state belongs to another machine."""
    PAGE = "page"
    """The status page cannot listen where it should."""


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
