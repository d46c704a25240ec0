"""`log_bytes_per_job`, `log_bytes_per_day_idle`, `idle_disk_writes_per_hour`: what years cost a journal and an SD card.

A job is counted on virtual time, with the whole gateway of the deterministic simulation: one of thirty that nothing
disturbs, and the one of a meter that falls silent after every block, which is the longest way to an end that there is.
Idle is the daemon as a process with 100 meters on four lines and a broker that is there, from when it has settled; what
it writes to disk is what the kernel counted for it (write_bytes of proc(5)), in pages of 4 KiB.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from support.broker import Mosquitto
from support.log_lines import log_lines
from support.world import SimMeter, World

from benchmarks.figure import Figure, platform_of_run
from benchmarks.meters import CIPHERED
from benchmarks.process import Gateway, Line, state_directory
from gateway.simulator import NONE, Faults, MeterSpec, Mishap, Then, What, several
from gateway.store.telling import LINES_OF_A_JOB

_METERS = 30
_JOB_TARGET_OCTETS = 1500.0
_DAY_TARGET_OCTETS = float(2**20)
_PAGE_OCTETS = 4096
_LINES, _METERS_ON_EACH = 4, 25
_SETTLE_S = 15.0
_IDLE_S = 90.0
"""Nothing that an idle daemon does comes more seldom but once an hour, which is in the detail."""
_HOUR_S, _DAY_S = 3600.0, 86400.0


def figures() -> Iterator[Figure]:
    yield _job()
    yield from _idle()


def _job() -> Figure:
    lines, octets = _campaign(_METERS, NONE)
    silent = tuple(Mishap(What.BLOCK, number, Then.FALL_SILENT, 60.0) for number in range(1, 200))
    worst_lines, worst_octets = _campaign(1, Faults(mishaps=silent))
    return Figure(
        "log_bytes_per_job",
        octets / _METERS,
        "bytes",
        _JOB_TARGET_OCTETS,
        {
            "compared": f"messages of a campaign of {_METERS} meters, its own lines shared among them; the journal adds"
            " its fields",
            "lines_per_job": lines / _METERS,
            "worst_meter": {
                "lines": worst_lines,
                "bytes": worst_octets,
                "its_own_at_most": LINES_OF_A_JOB + 2,
            },
            **platform_of_run(),
        },
    )


def _campaign(count: int, faults: Faults) -> tuple[int, int]:
    """Lines and octets of a campaign of so many meters, from its order to its end."""
    specs = several(MeterSpec(), count)
    meters = [SimMeter(spec, faults, id=f"MTR{number:04d}") for number, spec in enumerate(specs, start=1)]
    with tempfile.TemporaryDirectory() as directory, log_lines() as log:
        world = World(Path(directory), meters, image_size=16384)
        log.lines.clear()
        world.submit()
        world.run_until_told(limit_s=30 * _DAY_S)
        world.store.close()
        return len(log.lines), log.octets()


def _idle() -> Iterator[Figure]:
    lines = [Line(f"/dev/ttyNOT{number}", several(CIPHERED, _METERS_ON_EACH)) for number in range(_LINES)]
    with (
        state_directory() as directory,
        Mosquitto(directory) as broker,
        Gateway(directory, lines, mqtt=broker.url) as gateway,
    ):
        time.sleep(_SETTLE_S)
        begin_s, logged, written = time.monotonic(), gateway.logged_bytes(), gateway.disk_write_bytes()
        time.sleep(_IDLE_S)
        took_s = time.monotonic() - begin_s
        logged_more, written_more = gateway.logged_bytes() - logged, gateway.disk_write_bytes() - written
    common = {"meters": _LINES * _METERS_ON_EACH, "ports": _LINES, "measured_s": took_s, **platform_of_run()}
    extrapolated = (
        f"{took_s:.0f} s of an idle daemon, broker connected, from {_SETTLE_S:.0f} s after its start"
    )
    yield Figure(
        "log_bytes_per_day_idle",
        logged_more * _DAY_S / took_s,
        "bytes",
        _DAY_TARGET_OCTETS,
        {"compared": f"extrapolated from {extrapolated}", "to_settle_bytes": logged, **common},
    )
    yield Figure(
        "idle_disk_writes_per_hour",
        written_more / _PAGE_OCTETS * _HOUR_S / took_s,
        "pages of 4 KiB",
        None,
        {
            "compared": f"write_bytes of proc(5), log included, extrapolated from {extrapolated}; the hourly"
            " purge writes only where something has expired",
            "to_settle_bytes": written,
            **common,
        },
    )
