"""`fuzz_inputs`: so many octets from outside were answered as they must be (`make endurance`).

Every decoder of `gateway.wire` in turn gets arbitrary and mutated octets (`tests/support/fuzz.py`). Counted is an
input that was answered by a value or a WireError within 10 ms; what was not stands in the detail. What took longer than
anything before is repeated: what only the first time took was taken by somebody else on the machine.
"""

from __future__ import annotations

import gc
import time
from pathlib import Path
from typing import Any

from support.fuzz import Target, targets

from benchmarks.figure import Figure, noise, platform_of_run, tell

TARGET = 1_000_000
WITHIN_MS = 10.0
_INPUTS = 1_200_000
_WARM_SHARE = 0.1
"""By then every cache is as full as it gets."""
_REPEATS = 5
_SHOWN = 5
_CHUNK = 1000


def figure() -> Figure:
    runs = [_Run(target) for target in targets()]
    rounds = -(-_INPUTS // (_CHUNK * len(runs)))
    warm_kib = 0
    begin = time.perf_counter()
    for number in range(rounds):
        for run in runs:
            run.go_on()
        if number == int(rounds * _WARM_SHARE):
            gc.collect()
            warm_kib = _rss_kib()
            tell(f"fuzz_inputs: about {(time.perf_counter() - begin) / _WARM_SHARE:.0f} s")
    gc.collect()
    growth_kib = _rss_kib() - warm_kib
    wrong = [octets for run in runs for octets in run.wrong]
    return Figure(
        "fuzz_inputs",
        sum(run.answered for run in runs),
        "inputs",
        TARGET,
        {
            "compared": "arbitrary and mutated frames, APDUs, BER and A-XDR, each answered by a value or a WireError"
            f" (a wrong tag or proof: SecurityError) within {WITHIN_MS:.0f} ms",
            "tried": sum(run.tried for run in runs),
            "understood": sum(run.understood for run in runs),
            "wrong_or_late": len(wrong),
            "first_of_them": wrong[:_SHOWN],
            "slowest_us": {run.target.name: run.slowest_us for run in runs},
            "memory_growth_kib": growth_kib,
            "memory_kib": warm_kib,
            "seconds": time.perf_counter() - begin,
            "noise": noise(),
            **platform_of_run(),
        },
    )


class _Run:
    """One decoder and what it answered so far."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.tried = self.answered = self.understood = 0
        self.slowest_us = 0.0
        self.wrong: list[dict[str, Any]] = []
        self._inputs = target.inputs("endurance")

    def go_on(self) -> None:
        for _ in range(_CHUNK):
            self._try(next(self._inputs))

    def _try(self, octets: bytes) -> None:
        self.tried += 1
        try:
            took_us, understood = self._timed(octets)
            if took_us > self.slowest_us:
                took_us = min(took_us, *(self._timed(octets)[0] for _ in range(_REPEATS)))
        except Exception as error:  # noqa: BLE001 (whatever it is, it is what we look for)
            self._complain(octets, f"{type(error).__name__}: {error}")
            return
        self.slowest_us = max(self.slowest_us, took_us)
        self.understood += understood
        if took_us > WITHIN_MS * 1e3:
            self._complain(octets, f"{took_us / 1e3:.1f} ms")
        else:
            self.answered += 1

    def _timed(self, octets: bytes) -> tuple[float, bool]:
        begin = time.perf_counter_ns()
        understood = self.target.answers(octets)
        return (time.perf_counter_ns() - begin) / 1e3, understood

    def _complain(self, octets: bytes, why: str) -> None:
        shown = octets.hex() if len(octets) <= 256 else f"{octets[:64].hex()}... ({len(octets)} octets)"
        self.wrong.append({"decoder": self.target.name, "why": why, "octets": shown})


def _rss_kib() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])
