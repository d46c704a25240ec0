"""Who takes blocks by broadcast, who is better served alone, and when a group of meters has had enough of it.

Broadcast only fills the meters' bitmaps. Everything before it (survey, initiate, the wait for the erase) and after it
(repair, verification, activation) is each meter's own procedure. These are its decisions, without a line or a clock;
`gateway.worker.broadcast` carries them out.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from gateway.model import (
    BitmapOrder,
    Framing,
    ImageTransferStatus,
    Meter,
    MeterKeys,
    PortKind,
    PortSettings,
    Security,
)

PILOT_BLOCKS = 4
"""The first round of a group shows who takes broadcast at all: nobody has published how image blocks by UI frames
work out on RS-485, and a meter may ignore them without a word."""
MAX_ROUNDS = 3
"""After the pilot. Losses of a half, which no usable line has, leave an eighth after three."""

_UNICAST_OVERHEAD_OCTETS = 92
"""Around a ciphered block with two octets of address: frame 12, LLC 3, request 22, security 19; answer 36."""
_BROADCAST_OVERHEAD_OCTETS = 56
_LOOK_OVERHEAD_OCTETS = 150
"""Reading a bitmap over an open association: ciphered request and answer, and what polling it may take."""


def unable_to_hear_all(meter: Meter, keys: MeterKeys, port: PortSettings) -> str:
    """Why this meter can never take broadcast as it is configured; empty: it can."""
    profile = meter.profile
    ciphers = meter.security is not Security.NONE
    reasons = (
        (port.kind is not PortKind.RS485 or port.framing is not Framing.HDLC, "its port is no RS-485 bus"),
        (not profile.broadcast, "broadcast is not set in its profile"),
        (profile.bitmap is BitmapOrder.IGNORE, 'its profile has bitmap = "ignore"'),
        (profile.in_order_only, "its profile has in_order_only"),
        (ciphers and not keys.broadcast_key, "it ciphers, and keys.toml has no broadcast_key for it"),
        (
            ciphers and not keys.authentication_key,
            "it ciphers, and keys.toml has no authentication_key for it",
        ),
    )
    return next((reason for holds, reason in reasons if holds), "")


def does_not_fit(meter: Meter, block_size: int, largest: int) -> str:
    """Why blocks of `block_size` octets cannot be broadcast to a meter where at most `largest` fit one frame; empty:
    they can."""
    if block_size <= largest:
        return ""
    limit = f"broadcast_max_info = {meter.profile.broadcast_max_info}"
    return f"a block has {block_size} octets, and at most {largest} fit one frame of {limit}"


def unsafe(status: ImageTransferStatus) -> bool:
    """A meter on the line with attribute 6 = `status`, and not of the group, would store the group's blocks."""
    return status is ImageTransferStatus.INITIATED


@dataclass(frozen=True, slots=True)
class Costs:
    """What the line is taken for, in seconds."""

    alone_s: float
    """One block to one meter, and its answer."""
    shared_s: float
    """One block to all meters, and the gap after it."""
    look_s: float
    """Reading one meter's bitmap once more."""


def line_costs(*, block_size: int, total: int, octet_s: float, gap_s: float) -> Costs:
    """The costs of an image of `total` blocks, from octets alone: how long the meters think nobody knows before."""
    return Costs(
        alone_s=(block_size + _UNICAST_OVERHEAD_OCTETS) * octet_s,
        shared_s=(block_size + _BROADCAST_OVERHEAD_OCTETS) * octet_s + gap_s,
        look_s=(total / 8 + _LOOK_OVERHEAD_OCTETS) * octet_s,
    )


def repair_alone(missing: int, *, total: int, members: int, costs: Costs) -> bool:
    """A member of `members` that misses `missing` of `total` blocks is served sooner by unicast, right now.

    By unicast it costs its missing blocks. By broadcast it costs one more look and its share of another round: where
    all miss about as many as it, at different places, a round has at most `members` times that, and at most `total`.
    """
    if members < 2:
        return True
    share = min(total / members, missing)
    return missing * costs.alone_s <= share * costs.shared_s + costs.look_s


def round_of(missing: Sequence[int], *, pilot: bool) -> list[int]:
    """The blocks of the next round, of those that at least one member misses."""
    return list(missing[:PILOT_BLOCKS] if pilot else missing)


def paid_off(gained: Collection[int], *, sent: int, costs: Costs) -> bool:
    """A round of `sent` blocks brought its members, who gained so many each, more than unicast would have in the same
    time; if not, another one will hardly do."""
    by_unicast_s = sum(gained) * costs.alone_s
    return by_unicast_s > sent * costs.shared_s + len(gained) * costs.look_s
