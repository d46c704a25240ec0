"""`outbox_drain_per_s`: how fast what waited on disk for the broker goes out when it is back.

Thousands of replies of an outage lie in the Store's outbox; the daemon starts, and a head-end hears them over a
mosquitto on this machine: at QoS 1, each one, in order, none of them twice. Counted is from the first to the last that
was heard.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from support.broker import Mosquitto
from support.desk import memory_directory

from benchmarks.far import Far
from benchmarks.figure import Figure, noise, percentile, platform_of_run, spread
from benchmarks.meters import CIPHERED
from benchmarks.process import Gateway, Line, state_directory
from gateway.clock import SystemClock
from gateway.model import Reply, ReplyStatus
from gateway.store import Store

TARGET_PER_S = 500.0
_MESSAGES = 5000
_ROUNDS = 3
_BASE = "mgw/v1/gw-bench"
_TEXT = "x" * 400
"""An event or a snapshot of a job has about so many octets."""


def figure() -> Figure:
    rates, cpus = zip(*(_measured() for _ in range(_ROUNDS)), strict=True)
    return Figure(
        "outbox_drain_per_s",
        percentile(rates, 50),
        "messages/s",
        TARGET_PER_S,
        {
            "compared": f"{_MESSAGES} messages of {len(_TEXT) + 100} octets from the outbox on disk to a head-end,"
            " QoS 1 through a mosquitto on this machine; all heard, in order, none twice",
            "rates": spread(rates),
            "cpu_us_of_the_daemon_each": percentile(cpus, 50) / _MESSAGES * 1e6,
            "noise": noise(),
            **platform_of_run(),
        },
    )


def _measured() -> tuple[float, float]:
    with state_directory() as directory, Mosquitto(directory / "broker") as broker:
        _fill(directory / "state")
        with (
            Far(broker.url, f"{_BASE}/rsp") as far,
            Gateway(directory, [Line("/dev/ttyNOT0", [CIPHERED])], mqtt=broker.url) as gateway,
        ):
            far.until(lambda: bool(far.heard))
            cpu_s = gateway.cpu_s()
            far.until(lambda: len(far.heard) >= _MESSAGES)
            used_s = gateway.cpu_s() - cpu_s
        numbers = [int(json.loads(one.payload)["cmd_id"]) for one in far.heard]
        if numbers != list(range(_MESSAGES)):
            raise RuntimeError(f"{len(set(numbers))} of {_MESSAGES} were heard, in {len(numbers)} messages")
        return (_MESSAGES - 1) / (far.heard[-1].at_s - far.heard[0].at_s), used_s


def _fill(state_dir: Path) -> None:
    """Written in memory, where thousands of commits take no time, and then brought to the disk."""
    with memory_directory() as memory:
        store = Store(memory / "state", gateway_id="gw-bench", root="mgw/v1", clock=SystemClock())
        for number in range(_MESSAGES):
            store.send_reply(Reply(str(number), ReplyStatus.DONE, message=_TEXT), f"{_BASE}/rsp")
        store.close()
        shutil.copytree(memory / "state", state_dir)
