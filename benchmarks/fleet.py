"""`fleet`: two hundred gateways and one mosquitto on this machine take one campaign and bring it to its end.

Each gateway is the whole daemon in a process of its own, with its state on disk and one meter behind TCP in the same
process; the processes are forked from one that has imported the program, since starting Python two hundred times is not
what is measured. The image comes over the broker from one `image serve`. Counted is from the first order published
until the end of the last campaign was heard; every gateway must have accepted it and updated its meter.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from support.broker import Mosquitto

from benchmarks.far import Far
from benchmarks.figure import Figure, noise, platform_of_run, tell
from benchmarks.meters import PLAIN
from benchmarks.mqtt_images import served
from benchmarks.process import NEW, Line, state_directory, write_configuration
from gateway.daemon import process
from gateway.model import Framing
from gateway.simulator import TcpLine, VirtualMeter

_GATEWAYS = 200
_IMAGE_OCTETS = 8192
_WITHIN_S = 400.0
_CAMPAIGN = "fw-1"
_ROOT = "mgw/v1"


def figure() -> Figure:
    names = [f"gw-{number:03d}" for number in range(1, _GATEWAYS + 1)]
    with (
        state_directory() as directory,
        Mosquitto(directory / "broker", settings="set_tcp_nodelay true") as broker,
        Far(broker.url, *(f"{_ROOT}/+/{topic}" for topic in ("state", "rsp", "campaign/+"))) as far,
    ):
        file = directory / "image"
        file.write_bytes(os.urandom(_IMAGE_OCTETS))
        begin_s = time.perf_counter()
        with _running(directory, names, broker.url) as pids, served(file, broker.url) as offer:
            far.until(lambda: len({one.topic for one in far.heard}) >= _GATEWAYS, _WITHIN_S)
            online_s = time.perf_counter() - begin_s
            tell(f"fleet: {_GATEWAYS} are online after {online_s:.0f} s")
            cpu_s, all_cpu_s = broker.cpu_s(), _cpu_s(pids)
            far.heard.clear()
            args = {
                "campaign_id": _CAMPAIGN, "identifier": "FW", "expect_version": NEW, "targets": "all",
                "image": {"sha256": offer["sha256"], "size": offer["size"], "url": "mqtt:"},
            }  # fmt: skip
            ends = _Ends(far)
            begin_s = time.perf_counter()
            for name in names:
                far.order(f"{_ROOT}/{name}/cmd/campaign.submit", args, str(uuid.uuid4()))
            far.until(lambda: ends.look() >= _GATEWAYS, _WITHIN_S)
            took_s = time.perf_counter() - begin_s
            cpu_s, all_cpu_s = broker.cpu_s() - cpu_s, _cpu_s(pids) - all_cpu_s
            memory_mib = sum(_pss_mib(pid) for pid in pids)
    if ends.accepted != _GATEWAYS or ends.states != {"succeeded": _GATEWAYS}:
        raise RuntimeError(f"{ends.accepted} accepted, {ends.states}")
    return Figure(
        "fleet",
        took_s,
        "s",
        None,
        {
            "compared": f"{_GATEWAYS} daemons, a process each, and one mosquitto on this machine: one campaign given"
            f" to each, until the end of all was heard; {_IMAGE_OCTETS} octets by image serve, one meter each",
            "gateways": _GATEWAYS,
            "accepted": ends.accepted,
            "all_accepted_after_s": ends.last_accepted_s - begin_s,
            "ends": dict(ends.states),
            "messages_heard": len(far.heard),
            "broker_cpu_s": cpu_s,
            "gateways_cpu_s": all_cpu_s,
            "gateways_memory_mib": memory_mib,
            "all_online_after_s": online_s,
            "noise": noise(),
            **platform_of_run(),
        },
    )


class _Ends:
    """Who accepted, and how it ended for each."""

    def __init__(self, far: Far) -> None:
        self.accepted = 0
        self.last_accepted_s = 0.0
        self.states: Counter[str] = Counter()
        self._far = far
        self._place = 0

    def look(self) -> int:
        """How many have come to the end."""
        for one in self._far.heard[self._place :]:
            told = json.loads(one.payload)
            if told.get("status") == "rejected":
                raise RuntimeError(f"{one.topic}: {told}")
            if told.get("status") == "accepted":
                self.accepted += 1
                self.last_accepted_s = one.at_s
            if one.topic.endswith(f"/campaign/{_CAMPAIGN}") and told["finished_at"]:
                self.states[told["state"]] += 1
        self._place = len(self._far.heard)
        return self.states.total()


@contextmanager
def _running(directory: Path, names: list[str], url: str) -> Iterator[list[int]]:
    """Their processes, until the block is left."""
    pids = []
    try:
        for name in names:
            pid = os.fork()
            if not pid:
                _be(directory / name, name, url)
            pids.append(pid)
        yield pids
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        for pid in pids:
            os.waitpid(pid, 0)


def _be(directory: Path, name: str, url: str) -> NoReturn:
    """A gateway, to the end of this process."""
    status = 1
    try:
        directory.mkdir()
        log = os.open(directory / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for number in (1, 2):
            os.dup2(log, number)
        spec = replace(PLAIN, logical_device_name=f"SIM{name}")
        with TcpLine([VirtualMeter(spec)], framing=Framing.WRAPPER) as line:
            lines = [Line(line.address, [spec], Framing.WRAPPER, tcp=True)]
            socket = directory / "run" / "control.sock"
            status = process.run(write_configuration(directory, lines, socket, url, gateway_id=name))
    finally:
        sys.stdout.flush()
        os._exit(status)


def _cpu_s(pids: list[int]) -> float:
    """What all of them have used so far, user and system."""
    return sum(time.clock_gettime(~pid << 3 | 2) for pid in pids)


def _pss_mib(pid: int) -> float:
    """Its share of memory (proc(5), smaps_rollup)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(lines.partition("\nPss:")[2].split()[0]) / 1024
