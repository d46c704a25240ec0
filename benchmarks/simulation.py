"""`sim_exchanges_per_s`: how much of the field a second of simulation is worth.

The whole gateway of the deterministic simulation (`tests/support/world.py`: worker, Store, supplier, uplink, broker,
line and meter in one thread on virtual time) updates one meter; counted is each request that a meter was sent. Its disk
is in memory, so nothing waits, and a second is one of CPU: on a machine that does nothing else the clock on the wall
says the same. The slower the line, the more often the other actors have their turn between two exchanges.
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
_BAUD, _SLOW_BAUD = 115200, 9600
_ROUNDS = 5
_MEMORY = Path("/dev/shm")  # noqa: S108 (a directory with a name of its own is made there)


def figure() -> Figure:
    plain = _measured(MeterSpec(), _BAUD)
    return Figure(
        "sim_exchanges_per_s",
        plain["p50"],
        "1/s",
        TARGET,
        {
            "compared": f"requests to one virtual meter at {_BAUD} baud, an image of {_IMAGE_OCTETS} octets in plain"
            " blocks of 256, the whole gateway around it, for each second of CPU",
            "plain_per_s": plain,
            "ciphered_per_s": _measured(ciphered(), _BAUD),
            f"plain_at_{_SLOW_BAUD}_baud_per_s": _measured(MeterSpec(), _SLOW_BAUD),
            "noise": noise(),
            **platform_of_run(),
        },
    )


def _measured(spec: MeterSpec, baud: int) -> dict[str, float]:
    rounds = [_exchanges_per_s(spec, baud) for _ in range(_ROUNDS)]
    by_cpu, by_wall = zip(*rounds, strict=True)
    return {**spread(by_cpu), "by_the_clock": percentile(by_wall, 50)}


def _exchanges_per_s(spec: MeterSpec, baud: int) -> tuple[float, float]:
    """For each second of CPU, and of the clock."""
    base = _MEMORY if _MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(dir=base) as directory:
        world = World(Path(directory), [SimMeter(spec)], image_size=_IMAGE_OCTETS, baud=baud)
        meter, (line,) = world.meters["MTR1"], world.lines.values()
        world.submit()
        begin, cpu_s = time.perf_counter(), time.process_time()
        world.run(lambda: meter.history.activations > 0)
        took_s, cpu_s = time.perf_counter() - begin, time.process_time() - cpu_s
        exchanges = line.writes
        world.run_until_told()
        assert world.job()["state"] == "updated"
        world.store.close()
    return exchanges / cpu_s, exchanges / took_s
