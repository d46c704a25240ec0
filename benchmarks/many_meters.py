"""`many_meters_rss_mib` and `many_meters_step_us`: a thousand meters on sixteen ports in one campaign, simulated.

Memory is that of the whole process, virtual meters and lines included; the broker forgets what it has heard. What it is
to decide whose turn it is: the CPU of each step of a worker beyond that of the exchange which it decided for, and of
the conductor, over the steps of all workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from support.many_meters import measured

from benchmarks.figure import Figure, noise, percentile, platform_of_run

METERS, PORTS = 1000, 16
MEMORY_TARGET_MIB, STEP_TARGET_US = 100.0, 200.0
_IMAGE_OCTETS = 4096


def figures() -> Iterator[Figure]:
    field = measured(METERS, PORTS, image_octets=_IMAGE_OCTETS)
    compared = f"{METERS} meters on {PORTS} ports in one campaign, {_IMAGE_OCTETS} octets each at 9600 baud, simulated"
    yield Figure(
        "many_meters_rss_mib",
        field.process_mib,
        "MiB",
        MEMORY_TARGET_MIB,
        {
            "compared": f"{compared}: the most memory of the whole process, virtual meters and Python included",
            "before_there_was_a_gateway_mib": field.empty_mib,
            **platform_of_run(),
        },
    )
    steps, conductor = field.steps_us, field.conductor_us
    yield Figure(
        "many_meters_step_us",
        (sum(steps) + sum(conductor)) / len(steps),
        "us",
        STEP_TARGET_US,
        {
            "compared": f"{compared}: CPU of deciding whose turn it is, of workers and conductor, for each step of a"
            " worker",
            "worker_us": _told(steps),
            "conductor_us": _told(conductor),
            "virtual_hours": field.virtual_hours,
            "noise": noise(),
            **platform_of_run(),
        },
    )  # fmt: skip


def _told(took_us: Sequence[float]) -> dict[str, float]:
    mean = sum(took_us) / len(took_us)
    return {
        "steps": len(took_us),
        "mean": mean,
        "p50": percentile(took_us, 50),
        "p99": percentile(took_us, 99),
    }
