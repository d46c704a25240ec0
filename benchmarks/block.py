"""`cpu_per_block_us`: CPU of one block of 512 octets, ciphered, request and answer.

Measured is `Session.send_block` on a port in memory whose answers were prepared: a virtual meter gave them in a
rehearsal, and the same session held again gets the same octets. So the meter's CPU does not count, and nothing of the
gateway's link, ciphering and session is left out. Beside it, in turns, the same by hand (`floor`).

As a script it measures with the libraries of the Python that runs it, and prints that as JSON.
"""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.figure import Figure, noise, of_debian, percentile, platform_of_run
from benchmarks.floor import Floor
from gateway.clock import Clock, SystemClock
from gateway.link.counters import Counters
from gateway.link.port import Port
from gateway.link.session import Session
from gateway.model import Authentication, Meter, MeterKeys, PortKind, PortSettings, Security
from gateway.simulator import MeterSpec, VirtualClock, VirtualLine, VirtualMeter
from gateway.wire import image_transfer

BLOCK_OCTETS = 512
FACTOR = 3
"""So many times the floor is the target."""
_BLOCKS = 1500
_CHUNK = 50
_ROUNDS = 6

_TITLE = b"MGW\x00\x00\x00\x00\x01"
_SPEC = MeterSpec(
    authentication=Authentication.HLS_GMAC,
    security=Security.BOTH,
    keys=MeterKeys(bytes(range(16)), bytes(range(0xD0, 0xE0))),
    block_size=BLOCK_OCTETS,
    max_info=2030,
    max_pdu=2030,
)
_IMAGE = random.Random("block").randbytes(BLOCK_OCTETS)


class _Rehearsal(Port):
    """A virtual line that keeps what was said."""

    def __init__(self, line: VirtualLine) -> None:
        self._line = line
        self.written: list[bytes] = []
        self.answers: list[bytes] = []

    def write(self, octets: bytes) -> None:
        self.written.append(octets)
        self._line.write(octets)

    def read(self, limit: int, timeout_s: float) -> bytes:
        octets = self._line.read(limit, timeout_s)
        self.answers.append(octets)
        return octets

    def discard(self) -> None:
        self._line.discard()

    def set_baud(self, baud: int) -> int:
        return self._line.set_baud(baud)

    def close(self) -> None:
        self._line.close()


class _Prepared(Port):
    """Gives one answer after the other, and keeps what was written in exchange."""

    def __init__(self, answers: list[bytes]) -> None:
        self._next = iter(answers).__next__
        self.written: list[bytes] = []

    def write(self, octets: bytes) -> None:
        self.written.append(octets)

    def read(self, limit: int, timeout_s: float) -> bytes:
        return self._next()

    def discard(self) -> None:
        pass

    def set_baud(self, baud: int) -> int:
        return baud

    def close(self) -> None:
        pass


def measured() -> dict[str, Any]:
    """CPU of block and floor with the libraries of this Python, microseconds."""
    rehearsal = _Rehearsal(VirtualLine([VirtualMeter(_SPEC)], VirtualClock()))
    session = _opened(rehearsal, VirtualClock())
    before = len(rehearsal.written)
    for number in range(_BLOCKS):
        assert session.send_block(number, _IMAGE) == 0
    session_us: list[float] = []
    floor_us: list[float] = []
    for _ in range(_ROUNDS):
        port = _Prepared(rehearsal.answers)
        session = _opened(port, SystemClock())
        floor = _floor(rehearsal.written[before])
        frames: list[bytes] = []
        answers = iter(rehearsal.answers[-_BLOCKS:])
        for start in range(0, _BLOCKS, _CHUNK):
            numbers = range(start, start + _CHUNK)
            session_us.append(_timed_us(lambda: _send(session, numbers)))  # noqa: B023 (called at once)
            floor_us.append(_timed_us(lambda: _by_hand(floor, numbers, frames, answers)))  # noqa: B023
        assert port.written == rehearsal.written
        assert frames == rehearsal.written[before:], "the floor does not do the same work"
    block_us, bare_us = percentile(session_us, 50), percentile(floor_us, 50)
    return {
        "block_us": block_us,
        "floor_us": bare_us,
        "times_the_floor": block_us / bare_us,
        "p5_us": percentile(session_us, 5),
        "p95_us": percentile(session_us, 95),
        "floor_p5_us": percentile(floor_us, 5),
        "floor_p95_us": percentile(floor_us, 95),
        "blocks": _BLOCKS * _ROUNDS,
        **platform_of_run(),
    }


def figure(pythons: Mapping[str, Path]) -> Figure:
    """With the libraries of each of these; the value is that of the Debian that is furthest above its floor."""
    sets = {name: _measured_by(python) for name, python in pythons.items()}
    name, worst = max(of_debian(sets).items(), key=lambda item: item[1]["times_the_floor"])
    return Figure(
        "cpu_per_block_us",
        worst["block_us"],
        "us",
        FACTOR * worst["floor_us"],
        {
            "compared": f"Session.send_block, HDLC, suite 0, {BLOCK_OCTETS} octets, answers prepared, against"
            f" {FACTOR} times the floor (the same octets by hand) taken in turns with it",
            "value_of": name,
            "libraries": sets,
            "seen_elsewhere_us": {"gurux-dlms 1.0.203": 3200, "dlms-cosem 25.1.0": [675, 1500]},
            "noise": noise(),
        },
    )


def _measured_by(python: Path) -> dict[str, Any]:
    """What this module prints as a script of that Python."""
    command = [str(python), "-m", "benchmarks.block"]
    done = subprocess.run(command, cwd=Path(__file__).parent.parent, stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _opened(port: Port, clock: Clock) -> Session:
    """A session as the worker opens it, ready for blocks. The same octets every time."""
    chance = random.Random("session")
    reserved = iter(range(1, 1 << 32, 1024))
    session = Session(
        port,
        PortSettings("bench", PortKind.RS485, baud=115200),
        Meter("MTR1", "bench", authentication=_SPEC.authentication, security=_SPEC.security),
        _SPEC.keys,
        system_title=_TITLE,
        counters=Counters(lambda _: next(reserved)),
        clock=clock,
        random_octets=chance.randbytes,
    )
    session.open()
    initiate = image_transfer.method(image_transfer.DEFAULT_INSTANCE, image_transfer.INITIATE)
    session.act(initiate, image_transfer.initiate_data(b"FW", _BLOCKS * BLOCK_OCTETS))
    return session


def _floor(first: bytes) -> Floor:
    """Beginning where the session begins with blocks: with `first`, whose plain parts tell where that is."""
    control_at = 1 + 2 + 3
    counter_at = control_at + 1 + 2 + 8
    return Floor(
        keys=(_SPEC.keys.encryption_key, _SPEC.keys.authentication_key),
        own_title=_TITLE,
        meter_title=_SPEC.system_title,
        addresses=first[3:control_at],
        counter=int.from_bytes(first[counter_at : counter_at + 4], "big"),
        invoke=3,
        send_seq=first[control_at] >> 1 & 7,
        receive_seq=first[control_at] >> 5,
        block_octets=BLOCK_OCTETS,
    )


def _send(session: Session, numbers: range) -> None:
    for number in numbers:
        if session.send_block(number, _IMAGE):
            raise AssertionError("a block was refused")


def _by_hand(floor: Floor, numbers: range, frames: list[bytes], answers: Iterator[bytes]) -> None:
    for number in numbers:
        frames.append(floor.request(number, _IMAGE))
        if not floor.succeeded(next(answers)):
            raise AssertionError("a block was refused")


def _timed_us(action: Callable[[], None]) -> float:
    """CPU of this thread for one of _CHUNK blocks."""
    begin = time.thread_time_ns()
    action()
    return (time.thread_time_ns() - begin) / 1e3 / _CHUNK


if __name__ == "__main__":
    print(json.dumps(measured()))
