"""Meters that take blocks together: what they have in common, how far they are, and what seals their frames."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime

from gateway.clock import EARLIEST, Clock
from gateway.errors import GatewayError
from gateway.link.counters import Counters
from gateway.model import BroadcastFraming, MeterKeys, Security
from gateway.store import Store
from gateway.store.counters import key_name
from gateway.transfer import BlockSet
from gateway.wire import apdu, broadcast
from gateway.wire.hdlc import Address
from gateway.worker.transfer_run import TransferRun

COUNTER_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
"""Never moved on: counters would go back."""
COUNTERS_PER_S = 8
"""How fast the first counter of a broadcast key grows with the time of day: faster than a bus at 9600 baud takes
frames, and slow enough for 17 years in 32 bits."""

RunKey = tuple[str, str]


@dataclass(frozen=True)
class GroupKey:
    """What the meters have in common that one frame can serve."""

    campaign_id: str
    sha256: str
    image_object: str
    block_size: int
    pad_last_block: bool
    upper: int
    address_octets: int
    client: int
    framing: BroadcastFraming
    broadcast_key: bytes = field(repr=False)
    """Empty: in the plain."""
    authentication_key: bytes = field(repr=False)


@dataclass
class Group:
    """Meters that take blocks together."""

    key: GroupKey
    total: int
    """Blocks of the image."""
    priority: int
    since_s: float
    gap_s: float = 0.0
    ordered_at: datetime = EARLIEST
    joined: dict[RunKey, BlockSet] = field(default_factory=dict)
    """Who waits for the next round, or is in it, and what its bitmap showed."""
    looked_at: dict[RunKey, BlockSet] = field(default_factory=dict)
    """Whose bitmap is to be read after a round, and what it showed before."""
    strangers: list[str] | None = None
    """Meters whose status is still to be read before the first round; None: it has not begun."""
    sender: broadcast.BlockBroadcast | None = None
    counters: Counters | None = None
    rounds: int = 0
    """Begun, with the pilot."""
    to_send: deque[int] = field(default_factory=deque)
    sent: list[int] = field(default_factory=list)
    """In the present round."""
    gained: list[int] = field(default_factory=list)
    """By each member in the last round."""
    members: int = 0
    """In the last round."""
    quiet: set[RunKey] = field(default_factory=set)
    """Whose link did not answer in this round: it is not polled again."""
    broken: bool = False
    """The line failed in the last round, which therefore shows nothing."""
    over: str = ""
    """Why there is no further round, where that is known already."""
    gap_until_s: float = 0.0

    @property
    def at_work(self) -> bool:
        """The line was found to be safe for it, or is being looked at."""
        return self.strangers is not None


def key_of(run: TransferRun, block_size: int, keys: MeterKeys) -> GroupKey:
    """Of the group that `run` belongs to; `keys` are its meter's."""
    meter, profile = run.meter, run.meter.profile
    lower = None if meter.address_bytes == 1 else meter.physical_address
    octets = len(Address(meter.logical_address, lower, meter.address_bytes).encode())
    ciphers = meter.security is not Security.NONE
    return GroupKey(
        campaign_id=run.job.campaign_id,
        sha256=run.sha256,
        image_object=profile.image_object,
        block_size=block_size,
        pad_last_block=profile.pad_last_block,
        upper=0 if octets == 1 else meter.logical_address,
        address_octets=octets,
        client=profile.broadcast_client,
        framing=profile.broadcast_framing,
        broadcast_key=keys.broadcast_key if ciphers else b"",
        authentication_key=keys.authentication_key if ciphers else b"",
    )


def same_blocks(group: Group, run: TransferRun, block_size: int) -> bool:
    """Whatever of the group's blocks this run's meter hears is what it would be sent anyhow."""
    key = group.key
    ours = (key.sha256, key.block_size, key.pad_last_block)
    return (run.sha256, block_size, run.meter.profile.pad_last_block) == ours


class BroadcastKeys:
    """What seals the frames of the groups of one port."""

    def __init__(self, port: str, *, system_title: bytes, store: Store, clock: Clock) -> None:
        self._port = port
        self._title = system_title
        self._store = store
        self._clock = clock
        self._seeded: set[str] = set()
        """Keys whose counter was compared with the time of day in this process."""
        self._known: dict[str, Counters] = {}
        """One for each key: a meter hears several groups, and discards a counter below the last one it heard."""

    def make_sender(self, group: Group) -> str:
        """How the group's frames are made; why they cannot be, where they cannot."""
        key, sealed_by = group.key, None
        if key.broadcast_key:
            try:
                group.counters = self._counters(group)
            except GatewayError as error:
                return error.message
            if group.counters is None:
                return "no counter of the broadcast key is known, and the clock was never set"
            sealed_by = broadcast.protection(
                broadcast_key=key.broadcast_key,
                authentication_key=key.authentication_key,
                own_title=self._title,
                general=key.framing is BroadcastFraming.GENERAL_GLO,
            )
        stations = broadcast.all_stations(key.upper, key.address_octets)
        group.sender = broadcast.BlockBroadcast(
            stations, key.client, instance=apdu.obis(key.image_object), sealed_by=sealed_by
        )
        return ""

    def _counters(self, group: Group) -> Counters | None:
        """Of the broadcast key, which no meter tells. In each process it begins at the eighths of a second since 2026
        where that is above what is stored: a state that was lost, or is an old copy, leads back to no counter that was
        used, as long as fewer than COUNTERS_PER_S frames a second were sent since the key was first used. None: neither
        is known."""
        name = key_name(group.key.broadcast_key, self._title)
        if name not in self._seeded:
            now = self._clock.now()
            if now >= group.ordered_at:
                first = int((now - COUNTER_EPOCH).total_seconds() * COUNTERS_PER_S)
                self._store.seed_broadcast_counter(name, first, port=self._port)
                self._seeded.add(name)
        if name not in self._known and self._store.counter(name) is not None:
            self._known[name] = Counters(lambda count: self._store.reserve_counters(name, count))
        return self._known.get(name)
