"""One row of the table of quirks: what a meter is like, how the gateway is set for it, and what comes of it."""

from __future__ import annotations

import hashlib
import os
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from support.world import SimMeter, World

from gateway.errors import ADVICE, Code
from gateway.model import Profile
from gateway.simulator import NONE, Faults, MeterSpec, What

HEAD = b"ACM-X3"
IMAGE = bytes((len(HEAD),)) + HEAD + random.Random("quirks").randbytes(1943)
"""1950 octets: 20 blocks of the meter below, the last one half as long. Its head tells its identifier."""
METER = MeterSpec(block_size=100)
"""An honest one: it verifies what it has against the digest of the vendor's image."""


class Did(NamedTuple):
    """What the meter saw the gateway do."""

    initiates: int
    resent: int
    """Blocks that were sent again within one initiated transfer."""
    verifies: int
    activates: int


ALL = Did(1, 0, 1, 1)
"""The whole procedure, and nothing twice."""
NOTHING = Did(0, 0, 0, 0)
UP_TO_BLOCKS = Did(1, 0, 0, 0)
UP_TO_VERIFY = Did(1, 0, 1, 0)


@dataclass(frozen=True)
class Row:
    """`meter`, `faults`: the meter's behaviour. `profile`, `order`, `site`: what the gateway was told (fields of
    Profile, of the order and of SimMeter, where they are not the defaults). The rest is what must come of it."""

    story: str
    faults: Faults = NONE
    meter: Mapping[str, Any] = field(default_factory=dict)
    profile: Mapping[str, Any] = field(default_factory=dict)
    order: Mapping[str, Any] = field(default_factory=dict)
    site: Mapping[str, Any] = field(default_factory=dict)
    image: bytes = IMAGE
    ends: str = "updated"
    """`updated`, or the code of a failure."""
    did: Did = ALL
    says: str = ""
    """Stands in the message that the head-end gets."""
    tries: int = 1
    """How often work with the meter was begun, pauses of failed attempts in between."""
    also: Callable[[World], bool] = lambda _: True


@contextmanager
def memory_disk() -> Iterator[Path]:
    """A directory on a memory file system where there is one: SQLite syncs a lot."""
    memory = "/dev/shm"  # noqa: S108 - a directory of our own in it
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as directory:
        yield Path(directory)


def made(row: Row, directory: Path) -> World:
    """The world of a row; nothing was ordered yet."""
    spec = replace(METER, **{"image_sha256": hashlib.sha256(row.image).hexdigest()} | dict(row.meter))
    sim = SimMeter(spec, faults=row.faults, profile=Profile(**row.profile), **row.site)
    return World(directory, [sim], image=row.image)


def play(row: Row, directory: Path) -> World:
    """The world in which the order has come to its end."""
    world = made(row, directory)
    world.submit(**row.order)
    world.run_until_told()
    return world


def check(row: Row, world: World) -> None:
    """What every row promises, and what this one does."""
    meter, job = world.meters["MTR1"], world.job()
    history = meter.history
    check_harmless(row, world)
    assert row.says in job["message"], job["message"]
    assert (job["code"] or job["state"]) == row.ends, job
    resent = job["blocks_resent"]
    assert Did(history.initiates, resent, history.verifies, history.activations) == row.did, job
    assert row.also(world), job
    assert len(pauses(world)) + 1 == row.tries, pauses(world)
    if row.ends == "updated":
        assert meter.version == job["version_after"] == "2.0.0"
    else:
        assert job["state"] == "failed"
        assert job["advice"] == ADVICE[Code(row.ends)]


def check_harmless(row: Row, world: World) -> None:
    """Whatever a meter is like and whatever it says: it never runs another image than the one that was ordered, and
    nobody tells it twice to activate."""
    meter = world.meters["MTR1"]
    assert meter.image.active_sha256 in ("", world.sha256), "the meter runs a wrong image"
    assert meter.history.activations <= 1, "activated twice"
    assert meter.history.initiates <= Profile(**row.profile).max_initiates, "flash was worn"


def pauses(world: World) -> list[str]:
    """Failed attempts after which the gateway came back later."""
    return [sentence for sentence in world.sentences if "; next try in " in sentence]


def states(world: World) -> list[str]:
    """The states that the job went through, as the head-end was told."""
    found: list[str] = []
    for event in world.broker.documents("mgw/v1/gw-sim/event"):
        if event["meter"] == "MTR1" and found[-1:] != [event["state"]]:
            found.append(event["state"])
    return found


def seen(world: World, what: What) -> int:
    """How often the meter saw something."""
    return world.meters["MTR1"].history.count(what)
