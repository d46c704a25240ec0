"""`ports_in_parallel`: how much of each line the daemon uses, sixteen of them at once.

As in `line`, on sixteen ptys, ciphered; the meters of all are in this process. They begin together and have the same
to do, so that nearly all the time all of them are busy.
"""

from __future__ import annotations

import random
import resource
import time
from contextlib import ExitStack

from benchmarks.figure import Figure, noise, platform_of_run, spread
from benchmarks.line import PacedLine
from benchmarks.meters import CIPHERED
from benchmarks.process import Gateway, Line, state_directory
from gateway.simulator import VirtualMeter
from gateway.simulator.medium import BITS_PER_OCTET

TARGET = 0.90
_PORTS = 16
_BAUD = 115200
_BLOCKS = 256


def figure() -> Figure:
    image = random.Random("ports").randbytes(_BLOCKS * CIPHERED.block_size)
    with ExitStack() as stack:
        directory = stack.enter_context(state_directory())
        lines = [
            stack.enter_context(PacedLine(VirtualMeter(CIPHERED, seed=number), baud=_BAUD, blocks=_BLOCKS))
            for number in range(_PORTS)
        ]
        places = [Line(line.address, [CIPHERED], baud=_BAUD) for line in lines]
        gateway = stack.enter_context(Gateway(directory, places))
        sha256 = gateway.store_image(image)
        begin_s, cpu_s, own_s = time.monotonic(), gateway.cpu_s(), _own_cpu_s()
        gateway.order("bench", sha256)
        while not all(line.ended for line in lines):
            gateway.check()
            time.sleep(0.05)
        took_s = time.monotonic() - begin_s
        shares = (gateway.cpu_s() - cpu_s) / took_s, (_own_cpu_s() - own_s) / took_s
        gateway.await_update()
    found = [line.octets * BITS_PER_OCTET / _BAUD / line.took_s for line in lines]
    return Figure(
        "ports_in_parallel",
        min(found),
        "ratio",
        TARGET,
        {
            "compared": f"{_PORTS} ports at {_BAUD} baud, {_BLOCKS} ciphered blocks of {CIPHERED.block_size} octets on"
            " each; least over taken of the line that does worst, from its first block to its last answer",
            "efficiency": spread(found),
            "cpus_of_daemon": shares[0],
            "cpus_of_meters": shares[1],
            "took_s": took_s,
            "noise": noise(),
            **platform_of_run(),
        },
    )


def _own_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
