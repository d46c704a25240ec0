"""`sim_exchanges_per_s`: how much of the field a second of simulation is worth.

The whole gateway of the deterministic simulation (`tests/support/world.py`: worker, Store, supplier, uplink, broker,
line and meter in one thread on virtual time) updates one meter; counted is each request that a meter was sent, and
the time is that of the clock on the wall. Its disk is in memory, as for all who simulate a lot.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from support.world import SimMeter, World, ciphered

from benchmarks.figure import Figure, noise, percentile, platform_of_run, spread
from gateway.simulator import MeterSpec

TARGET = 10_000.0
_IMAGE_OCTETS = 1024 * 1024
_ROUNDS = 5
_MEMORY = Path("/dev/shm")  # noqa: S108 (a directory with a name of its own is made there)


def figure() -> Figure:
    plain = [_exchanges_per_s(MeterSpec()) for _ in range(_ROUNDS)]
    sealed = [_exchanges_per_s(ciphered()) for _ in range(_ROUNDS)]
    return Figure(
        "sim_exchanges_per_s",
        percentile(plain, 50),
        "1/s",
        TARGET,
        {
            "compared": f"requests to one virtual meter, an image of {_IMAGE_OCTETS} octets in plain blocks of 256, the"
            " whole gateway around it",
            "plain_per_s": spread(plain),
            "ciphered_per_s": spread(sealed),
            "noise": noise(),
            **platform_of_run(),
        },
    )


def _exchanges_per_s(spec: MeterSpec) -> float:
    base = _MEMORY if _MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(dir=base) as directory:
        world = World(Path(directory), [SimMeter(spec)], image_size=_IMAGE_OCTETS)
        meter, (line,) = world.meters["MTR1"], world.lines.values()
        world.submit()
        begin = time.perf_counter()
        world.run(lambda: meter.history.activations > 0)
        took_s = time.perf_counter() - begin
        exchanges = line.writes
        world.run_until_told()
        assert world.job()["state"] == "updated"
        world.store.close()
    return exchanges / took_s
