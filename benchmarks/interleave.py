"""`interleave_gain`: whether the line works for others while a meter works by itself.

Eight meters of one bus each take 60 s to verify and 60 s to restart. The whole gateway of the deterministic simulation
on virtual time: how long it takes from the first meter's beginning to the last one's new version, over the least: what
the octets take that each of them needs when it is alone, and one verification and one restart.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from support.world import SimMeter, World, ciphered

from benchmarks.figure import Figure
from gateway.model import Profile
from gateway.simulator import MeterSpec, several
from gateway.simulator.medium import BITS_PER_OCTET

TARGET = 1.05
_METERS = 8
_WORK_S = 60.0
_IMAGE_OCTETS = 64 * 1024
_BAUD = 115200
_PROFILE = Profile(after_initiate_s=0.0, reconnect_after_s=_WORK_S, activate_timeout_s=300.0)
"""Set as for meters that are known to restart for so long."""
_MEMORY = Path("/dev/shm")  # noqa: S108 (a directory with a name of its own is made there)


def figure() -> Figure:
    spec = MeterSpec(
        block_size=512, max_info=2030, max_pdu=2030, response_s=0.0, verify_s=_WORK_S, reboot_s=_WORK_S
    )
    default = replace(_PROFILE, reconnect_after_s=Profile().reconnect_after_s)
    plain = _gain(spec, _PROFILE)
    secret = ciphered(**{name: getattr(spec, name) for name in ("block_size", "max_info", "max_pdu")})
    secret = replace(secret, response_s=0.0, verify_s=_WORK_S, reboot_s=_WORK_S)
    return Figure(
        "interleave_gain",
        plain["ratio"],
        "ratio",
        TARGET,
        {
            "compared": f"{_METERS} meters, {_WORK_S:.0f} s to verify and to restart each, {_IMAGE_OCTETS} octets at"
            f" {_BAUD} baud, virtual time; total over the line times of each alone and one verification and restart",
            "plain": plain,
            "ciphered": _gain(secret, _PROFILE),
            "reconnect_after_left_at_its_default": _gain(spec, default),
        },
    )


def _gain(spec: MeterSpec, profile: Profile) -> dict[str, float]:
    specs = several(spec, _METERS)
    total_s, _ = _played(specs, profile)
    _, line_s = _played(specs[:1], profile)
    least_s = _METERS * line_s + 2 * _WORK_S
    return {"ratio": total_s / least_s, "total_s": total_s, "line_s_of_each": line_s, "least_s": least_s}


def _played(specs: list[MeterSpec], profile: Profile) -> tuple[float, float]:
    """How long it took, and how long the octets that went take."""
    meters = [SimMeter(spec, id=f"MTR{number}", profile=profile) for number, spec in enumerate(specs)]
    base = _MEMORY if _MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(dir=base) as directory:
        world = World(Path(directory), meters, image_size=_IMAGE_OCTETS, baud=_BAUD)
        world.submit()
        world.run_until_told()
        jobs = [world.job(meter.id) for meter in meters]
        world.store.close()
    if any(job["state"] != "updated" for job in jobs):
        raise RuntimeError("not all were updated")
    moments = [datetime.fromisoformat(job[name]) for job in jobs for name in ("started_at", "finished_at")]
    (line,) = world.lines.values()
    return (max(moments) - min(moments)).total_seconds(), line.octets_carried * BITS_PER_OCTET / _BAUD
