"""A campaign of many meters on many ports, and what it costs to decide whose turn it is."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

from support.desk import memory_directory
from support.world import SimMeter, World

from gateway.conductor import Conductor
from gateway.model import Profile
from gateway.simulator import MeterSpec, several
from gateway.wire.hdlc import Address
from gateway.worker.worker import Worker


@dataclass(frozen=True)
class Field:
    """What so many meters cost."""

    empty_mib: float
    """What the process had before there was a gateway in it."""
    process_mib: float
    """The most that it had."""
    steps_us: Sequence[float]
    """Of each step of a worker, its exchange left out."""
    conductor_us: Sequence[float]
    virtual_hours: float


def measured(meters: int, ports: int, *, image_octets: int) -> Field:
    """One campaign of so many meters, to its end."""
    empty_mib = most_mib = _rss_mib()
    steps, exchanges, conductor = _Timed(), _Timed(), _Timed()
    with ExitStack() as stack:
        directory = stack.enter_context(memory_directory())
        for timed, cls, name in (
            (steps, Worker, "step"), (exchanges, Worker, "_advance"), (conductor, Conductor, "step"),
        ):  # fmt: skip
            stack.enter_context(mock.patch.object(cls, name, timed.around(getattr(cls, name))))
        world = World(directory, _field(meters, ports), image_size=image_octets)
        world.leaps_s = 60.0

        def ended() -> bool:
            nonlocal most_mib
            if len(world.broker.heard) > 1000:
                most_mib = max(most_mib, _rss_mib())
                world.broker.heard.clear()
            return not world.broker.waiting and not world.store.open_campaigns()

        world.submit()
        world.run(ended)
        counts = world.store.job_counts("c1")
        hours = world.now_s / 3600
        world.store.close()
    if {str(state): count for state, count in counts.items()} != {"updated": meters}:
        raise RuntimeError(f"not all were updated: {counts}")
    own_us = steps.less(exchanges)
    return Field(empty_mib, max(most_mib, _rss_mib()), own_us, conductor.took_us, hours)


def _field(meters: int, ports: int) -> list[SimMeter]:
    spec = MeterSpec(address=Address(1, 16, 4))
    profile = Profile(reconnect_after_s=20, after_initiate_s=0.0)
    return [
        SimMeter(replace(own), id=f"MTR{number}", port=f"bus{number % ports}", profile=profile)
        for number, own in enumerate(several(spec, meters))
    ]


class _Timed:
    """CPU of calls of one function, in their order; in arrays, since the memory of the process is measured too."""

    def __init__(self) -> None:
        self.took_us = array("d")
        self.begun = array("q")

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **named: Any) -> Any:
            begin = time.thread_time_ns()
            try:
                return function(*args, **named)
            finally:
                self.begun.append(begin)
                self.took_us.append((time.thread_time_ns() - begin) / 1e3)

        return timed

    def less(self, inner: _Timed) -> array[float]:
        """Without what they spent in calls of `inner`, at most one in each."""
        left = iter(zip(inner.begun, inner.took_us, strict=True))
        following = next(left, None)
        found = array("d")
        for begun, took_us in zip(self.begun, self.took_us, strict=True):
            if following is not None and begun <= following[0] <= begun + took_us * 1e3:
                found.append(took_us - following[1])
                following = next(left, None)
            else:
                found.append(took_us)
        return found


def _rss_mib() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024
