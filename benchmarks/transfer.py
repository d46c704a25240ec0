"""`transfer_cpu_s`: what one whole update costs the gateway's CPU, beyond what it uses while it does nothing.

All threads of the daemon, user and system, from the order to the meter's new version: association, survey, 256 KiB
in ciphered blocks over the TCP wrapper, verification, activation, confirmation, the Store's commits, and what the
head-end is told over MQTT. The image is stored before; the meter is in this process.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from pathlib import Path

from support.broker import Mosquitto

from benchmarks.figure import Figure, noise, percentile, spread
from benchmarks.meters import BLOCK_OCTETS, CIPHERED
from benchmarks.process import Gateway, Line, state_directory
from gateway.model import Framing
from gateway.simulator import TcpLine, VirtualMeter

TARGET_S = 0.15
_IMAGE_OCTETS = 256 * 1024
_IDLE_S = 3.0
_ROUNDS = 5


def figure(pythons: Mapping[str, Path]) -> Figure:
    """With the libraries of each of these; the value is that of the first."""
    sets = {name: _measured_rounds(python) for name, python in pythons.items()}
    name, first = next(iter(sets.items()))
    return Figure(
        "transfer_cpu_s",
        first["p50"],
        "s",
        TARGET_S,
        {
            "compared": f"{_IMAGE_OCTETS} octets in ciphered blocks of {BLOCK_OCTETS} over the TCP wrapper, from order"
            " to confirmed version, all threads, less the idle daemon over the same time; broker connected",
            "value_of": name,
            "libraries": sets,
            "seen_elsewhere_s": {"gurux-dlms client": 1.6},
            "noise": noise(),
        },
    )


def _measured_rounds(python: Path) -> dict[str, float]:
    transfers, idles = [], []
    for number in range(_ROUNDS):
        with state_directory() as directory:
            transfer_s, idle_cpu_per_s = _measured(directory, number, python)
        transfers.append(transfer_s)
        idles.append(idle_cpu_per_s)
    return {**spread(transfers), "idle_cpu_per_s": percentile(idles, 50)}


def _measured(directory: Path, number: int, python: Path) -> tuple[float, float]:
    image = random.Random(f"transfer {number}").randbytes(_IMAGE_OCTETS)
    line = TcpLine([VirtualMeter(CIPHERED)], framing=Framing.WRAPPER)
    with Mosquitto(directory) as broker, line:
        lines = [Line(line.address, [CIPHERED], Framing.WRAPPER, tcp=True)]
        with Gateway(directory, lines, mqtt=broker.url, python=python) as gateway:
            sha256 = gateway.store_image(image)
            idle_cpu_per_s = _idle(gateway)
            begin, cpu_s = time.monotonic(), gateway.cpu_s()
            gateway.order("bench", sha256)
            gateway.await_update()
            return gateway.cpu_s() - cpu_s - idle_cpu_per_s * (time.monotonic() - begin), idle_cpu_per_s


def _idle(gateway: Gateway) -> float:
    """CPU per second of the daemon while nothing is ordered, once it has settled."""
    time.sleep(1.0)
    begin, cpu_s = time.monotonic(), gateway.cpu_s()
    time.sleep(_IDLE_S)
    return (gateway.cpu_s() - cpu_s) / (time.monotonic() - begin)
