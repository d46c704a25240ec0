"""`broadcast_speedup`: a whole RS-485 bus in the time of one meter.

The whole gateway of the deterministic simulation (`tests/support/world.py`) puts 256 KiB into 32 meters on one virtual
bus at 9600 baud: from the first octet on the line to the order to the last of them to verify, in multiples of what one
meter alone takes by unicast. What meters that were told to verify take of the line meanwhile (their status,
activation, the look at their new version) is after verification and does not count; it is in the detail. Virtual
time is computed from the octets that are really sent, 10 bits each, and the gaps; the meters answer at once. The same
seed gives the same figure on every machine.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from support.world import SYSTEM_TITLE, SimMeter, World

from benchmarks.figure import Figure, spread
from gateway.model import Authentication, MeterKeys, PortKind, PortSettings, Profile, Security
from gateway.simulator import NONE, Faults, MeterSpec, several
from gateway.wire.hdlc import Address

TARGET = 1.25
TARGET_LOSSY = 1.6
METERS = 32
LOSS = 0.01
RESPONSE_TIMEOUT_S = 0.5
"""Ample for meters that answer at once: whatever a meter does not hear costs it, and the time of the longest answer."""
_DEFAULT_TIMEOUT_S = PortSettings("", PortKind.RS485).response_timeout_s
_BAUD = 9600
_IMAGE_OCTETS = 256 * 1024
_SEEDS, _FEW_SEEDS = range(9), range(5)
_MEMORY = Path("/dev/shm")  # noqa: S108 (a directory with a name of its own is made there)

SPEC = MeterSpec(
    address=Address(1, 17),
    authentication=Authentication.HLS_GMAC,
    security=Security.BOTH,
    keys=MeterKeys(bytes(range(16)), bytes(range(0xD0, 0xE0)), broadcast_key=bytes(range(0xB0, 0xC0))),
    client_title=SYSTEM_TITLE,
    block_size=512,
    max_info=2030,
    max_pdu=2048,
    window=1,
    response_s=0.0,
    verify_s=0.0,
    reboot_s=0.0,
    broadcast_client=102,
    broadcast_max_info=2030,
)
PROFILE = Profile(
    window=1, after_initiate_s=0.0, reconnect_after_s=0.0, broadcast=True, broadcast_gap_s=0.02,
    broadcast_max_info=2030,
)  # fmt: skip


@dataclass(frozen=True)
class _Run:
    """Up to verification; octets both ways."""

    took_s: float
    octets: int
    afterwards_s: float
    """The line was busy meanwhile with meters that had been told to verify."""


class _Watched(World):
    """Knows what the line was used for."""

    afterwards_s = 0.0
    afterwards_octets = 0
    response_timeout_s = RESPONSE_TIMEOUT_S

    def _port(self, name: str) -> PortSettings:
        return replace(super()._port(name), response_timeout_s=self.response_timeout_s)

    def _step(self, actor: Any, due_s: float) -> None:
        line = next(iter(self.lines.values()))
        told = {name for name, meter in self.meters.items() if meter.history.verifies}
        begun_s, octets = max(due_s, line.clock.monotonic()), line.octets_carried
        super()._step(actor, due_s)
        if self._said[-1][2].partition(":")[0] in told:
            self.afterwards_s += line.clock.monotonic() - begun_s
            self.afterwards_octets += line.octets_carried - octets


def figures() -> Iterator[Figure]:
    alone = _measured(1, "unicast")
    detail: dict[str, Any] = {
        "compared": f"{METERS} meters on one virtual bus at {_BAUD} baud, {_IMAGE_OCTETS} octets in ciphered blocks of"
        " 512, 2030/1, HLS-GMAC, zero-delay meters, gaps of 20 ms, response_timeout 0.5 s: everything up to"
        " verification, against one meter by unicast",
        "one_by_unicast_s": alone.took_s,
    }
    quiet = _measured(METERS, "auto")
    unicast = _measured(METERS, "unicast")
    yield Figure(
        "broadcast_speedup",
        quiet.took_s / alone.took_s,
        "x",
        TARGET,
        {
            **detail,
            "took_s": quiet.took_s,
            "octets": quiet.octets,
            "with_what_came_after_s": quiet.took_s + quiet.afterwards_s,
            "all_by_unicast": unicast.took_s / alone.took_s,
        },
    )
    lost, broadcast_lost = Faults(frames_missed=LOSS), Faults(broadcasts_missed=LOSS)
    lossy = _speedups(alone, lost, _SEEDS)
    yield Figure(
        "broadcast_speedup_lossy",
        lossy["p50"],
        "x",
        TARGET_LOSSY,
        {
            **detail,
            "loss": f"{LOSS:.0%} of all frames to a meter, at each meter independently",
            "speedups": lossy,
            "with_the_default_response_timeout": _speedups(
                alone, lost, _FEW_SEEDS, PortSettings("", PortKind.RS485).response_timeout_s
            ),
            "where_only_broadcast_frames_are_lost": _speedups(alone, broadcast_lost, _FEW_SEEDS),
        },
    )


def _speedups(
    alone: _Run, faults: Faults, seeds: range, response_timeout_s: float = RESPONSE_TIMEOUT_S
) -> dict[str, float]:
    runs = [_measured(METERS, "auto", faults, seed, response_timeout_s) for seed in seeds]
    return spread([run.took_s / alone.took_s for run in runs])


def _measured(
    count: int,
    delivery: str,
    faults: Faults = NONE,
    seed: int = 0,
    response_timeout_s: float = RESPONSE_TIMEOUT_S,
) -> _Run:
    sims = [
        SimMeter(spec, faults, PROFILE, id=f"MTR{number}") for number, spec in enumerate(several(SPEC, count))
    ]
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as directory:
        _Watched.response_timeout_s = response_timeout_s
        world = _Watched(Path(directory), sims, image_size=_IMAGE_OCTETS, baud=_BAUD, seed=seed)
        world.submit(delivery=delivery)
        (line,) = world.lines.values()
        world.run(lambda: line.octets_carried > 0)
        first_s = min(meter.history.events[0].at_s for meter in world.meters.values() if meter.history.events)
        world.run(lambda: all(meter.history.verifies for meter in world.meters.values()))
        took_s = line.clock.monotonic() - first_s - world.afterwards_s
        octets = line.octets_carried - world.afterwards_octets
        afterwards_s = world.afterwards_s
        world.run_until_told()
        jobs = [world.job(sim.id) for sim in sims]
        assert all(job["state"] == "updated" for job in jobs), [job["message"] for job in jobs]
        assert {meter.image.active_sha256 for meter in world.meters.values()} == {world.sha256}
        world.store.close()
    return _Run(took_s, octets, afterwards_s)
