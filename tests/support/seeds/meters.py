"""Meters drawn by chance: of every row of the table of quirks, and honest ones of all kinds that lines serve."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from simulation.test_optical_head import HEADS
from simulation.test_quirks import ROWS
from support.quirks import HEAD, METER, Row
from support.world import SYSTEM_TITLE, SimMeter, ciphered

from gateway.model import MeterKeys, ObjectAttribute, Profile
from gateway.simulator import NONE, Faults, Head, MeterSpec, Mishap, Then, What

ROWS_FOR_ALL = [row for row in ROWS if row.image[1 : 1 + len(HEAD)] == HEAD]
"""A row with an image of its own cannot stand beside others."""
NAME_OBJECT = "0-0:42.0.0.255"
QUICK: Mapping[str, Any] = {
    "reconnect_after_s": 20.0, "activate_timeout_s": 300.0,
    "activation_schedule": "0-0:15.0.2.255", "activation_timezone": "UTC",
}  # fmt: skip
"""The meters of it may be told to activate by themselves."""
RELAY = ObjectAttribute(1, "0-0:96.3.10.255", 2, "0-0:96.3.10.255:2")
BROADCAST: Mapping[str, Any] = {
    **QUICK,
    "after_initiate_s": 1.0,
    "broadcast": True,
    "broadcast_max_info": 200,
}
KEYS = MeterKeys(bytes(range(16)), bytes(range(0xD0, 0xE0)), broadcast_key=bytes(range(0xB0, 0xC0)))


@dataclass(frozen=True, slots=True)
class Drawn:
    """A meter, and what comes of it where nothing else goes wrong."""

    sim: SimMeter
    ends: str = "updated"
    """`updated`, or the code of a failure."""
    order: Mapping[str, Any] = field(default_factory=dict)
    """What its order has to say for that."""
    sturdy: bool = False
    """Honest and without faults of its own: whatever its line does, it is updated in the end."""
    story: str = "honest"
    falls_ill: bool = False
    """Its health checks differ after the update, which counts as a failure."""


def drawn_meter(chance: random.Random, number: int, port: str, image: bytes) -> Drawn:
    """The meter of that number, at a port of any kind: "bus...", "lan..." or "probe...". On a bus named "bus-all..." it
    takes broadcasts."""
    if port.startswith("bus-all"):
        made = _broadcast(chance)
    elif chance.random() < 0.5:
        made = _honest(chance)
    else:
        made = _of_row(chance.choice(ROWS_FOR_ALL), image)
    return replace(made, sim=_placed(made.sim, number, port))


def drawn_head(chance: random.Random) -> Head:
    return chance.choice([head for head in HEADS.values() if not head.readout_octets])


def _placed(sim: SimMeter, number: int, port: str) -> SimMeter:
    """At an address, with a name and a title of its own; who was to be exchanged or misnamed still is."""
    spec = sim.spec
    title = int.from_bytes(spec.system_title, "big") + number
    return replace(
        sim, id=f"MTR{number}", port=port,
        spec=replace(
            spec, logical_device_name=f"SIM{number:013}", system_title=title.to_bytes(8, "big"),
            address=replace(spec.address, lower=16 + number),
        ),
    )  # fmt: skip


def _of_row(row: Row, image: bytes) -> Drawn:
    told = {"image_sha256": hashlib.sha256(image).hexdigest()} | dict(row.meter)
    spec = replace(METER, **told)
    faults = row.faults
    if NAME_OBJECT in faults.exchanged:
        faults = replace(faults, exchanged={NAME_OBJECT: "SIM9999999999999"})
    sim = SimMeter(spec, faults, Profile(**row.profile), **row.site)
    return Drawn(sim, row.ends, row.order, story=row.story)


def _broadcast(chance: random.Random) -> Drawn:
    spec = replace(
        ciphered(), keys=KEYS, client_title=SYSTEM_TITLE, block_size=128, max_info=2030, max_pdu=2048,
        broadcast_client=102, broadcast_max_info=200,
    )  # fmt: skip
    missed = chance.choice([0.0, 0.0, 0.02, 0.3])
    faults = Faults(broadcasts_missed=missed)
    return Drawn(
        SimMeter(spec, faults, Profile(**BROADCAST)), sturdy=True, story=f"broadcast, misses {missed}"
    )


def _honest(chance: random.Random) -> Drawn:
    window, info = chance.choice([(1, 512), (3, 512), (4, 128), (7, 128)])
    shape: dict[str, Any] = {
        "window": window, "max_info": info, "block_size": chance.choice([100, 128, 256]),
        "verify_s": chance.choice([0.0, 2.0, 40.0]), "reboot_s": chance.choice([5.0, 20.0, 90.0]),
        "erase_s": chance.choice([0.0, 0.0, 4.0]),
    }  # fmt: skip
    secret = chance.random() < 0.5
    spec = ciphered(**shape) if secret else MeterSpec(**shape)
    mishaps = tuple(_mishap(chance) for _ in range(chance.choice([0, 0, 0, 1, 2])))
    lossy = chance.choice([0.0, 0.0, 0.0, 0.03])
    forgets = chance.random() < 0.1
    faults = NONE
    if mishaps or lossy or forgets:
        faults = Faults(
            mishaps=mishaps, replies_lost=chance.choice([0.0, 0.02]), blocks_lost=lossy,
            transfer_lost_by_reboot=forgets, exchanged={NAME_OBJECT: "SIM9999999999999"},
        )  # fmt: skip
    sim = SimMeter(spec, faults, Profile(**QUICK), dedicated_key=secret and chance.random() < 0.3)
    plain = Drawn(sim, ends="updated" if faults is NONE else "", sturdy=faults is NONE)
    return _with_health(chance, plain) if chance.random() < 0.3 else plain


def _with_health(chance: random.Random, plain: Drawn) -> Drawn:
    """A meter whose relay is looked at before and after; one in three is not what it was."""
    changes, counts = chance.random() < 0.3, chance.random() < 0.5
    after = ((RELAY.object, "disconnected"),) if changes else ()
    spec = replace(plain.sim.spec, texts=((RELAY.object, "connected"),), new_texts=after)
    profile = replace(plain.sim.profile, health_checks=(RELAY,), health_failure=counts)
    fails = changes and counts
    return replace(
        plain, sim=replace(plain.sim, spec=spec, profile=profile), story="looked at before and after",
        ends="T_HEALTH" if fails and plain.ends else plain.ends, falls_ill=fails,
    )  # fmt: skip


def _mishap(chance: random.Random) -> Mishap:
    what = chance.choice([What.INITIATE, What.BLOCK, What.BLOCK, What.VERIFY, What.ACTIVATE])
    then = chance.choice([Then.LOSE_REPLY, Then.FALL_SILENT, Then.REBOOT, Then.EXCHANGE, Then.FALSIFY_REPLY])
    nth = chance.choice([1, 5, 17]) if what is What.BLOCK else 1
    return Mishap(what, nth, then, chance.choice([5.0, 90.0, 1200.0]))
