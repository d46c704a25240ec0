"""`start_to_ready_s` and `rss_mib`: the daemon that has nothing to do, with 100 meters on four lines and a broker."""

from __future__ import annotations

import time
from collections.abc import Iterator

from support.broker import Mosquitto

from benchmarks.figure import Figure, noise, percentile, platform_of_run, spread
from benchmarks.meters import CIPHERED
from benchmarks.process import Gateway, Line, state_directory
from gateway.simulator import several

START_TARGET_S = 1.2
RSS_TARGET_MIB = 64.0
_LINES, _METERS_ON_EACH = 4, 25
_ROUNDS = 7
_SETTLE_S = 3.0


def figures() -> Iterator[Figure]:
    lines = [Line(f"/dev/ttyNOT{number}", several(CIPHERED, _METERS_ON_EACH)) for number in range(_LINES)]
    starts, rss_mib = [], 0.0
    for number in range(_ROUNDS):
        with (
            state_directory() as directory,
            Mosquitto(directory) as broker,
            Gateway(directory, lines, mqtt=broker.url) as gateway,
        ):
            starts.append(gateway.start_to_ready_s)
            if number == 0:
                time.sleep(_SETTLE_S)
                rss_mib = gateway.rss_mib()
    common = {
        "meters": _LINES * _METERS_ON_EACH,
        "ports": _LINES,
        "noise": noise(),
        **platform_of_run(),
    }
    compared = "process begun to ready told, with a new state directory"
    yield Figure(
        "start_to_ready_s",
        percentile(starts, 50),
        "s",
        START_TARGET_S,
        {"compared": compared, "starts_s": spread(starts), **common},
    )
    yield Figure(
        "rss_mib",
        rss_mib,
        "MiB",
        RSS_TARGET_MIB,
        {
            "compared": f"VmRSS, shared libraries included, {_SETTLE_S:.0f} s after ready, broker connected",
            **common,
        },
    )
