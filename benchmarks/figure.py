"""One figure, as `make bench` prints it, and how restless the machine was while it was taken."""

from __future__ import annotations

import json
import math
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, TypeVar

T = TypeVar("T")

_SPIN_ROUNDS = 20_000
_SPINS = 60


@dataclass(frozen=True)
class Figure:
    """`value` stands against `against`, the target; None: it is only told. A value of None could not be measured here,
    and the detail says why."""

    name: str
    value: float | None
    unit: str
    against: float | None
    detail: Mapping[str, Any] = field(default_factory=dict)

    def line(self) -> str:
        document = {
            "name": self.name,
            "value": None if self.value is None else _short(self.value),
            "unit": self.unit,
            "against": None if self.against is None else _short(self.against),
            "detail": {key: _shortened(value) for key, value in self.detail.items()},
        }
        return json.dumps(document)


def percentile(samples: Sequence[float], percent: float) -> float:
    """The smallest sample that `percent` of them do not exceed."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def spread(samples: Sequence[float]) -> dict[str, float]:
    """A handful of samples, for the detail of a figure that is their median."""
    return {
        "samples": len(samples),
        "lowest": min(samples),
        "p50": percentile(samples, 50),
        "highest": max(samples),
    }


def of_debian(sets: Mapping[str, T]) -> Mapping[str, T]:
    """Of what was measured with several sets of libraries, what counts: those that users have; else whatever there
    is."""
    return {name: found for name, found in sets.items() if name.startswith("debian")} or sets


def noise() -> dict[str, Any]:
    """How restless this machine is: the same loop of Python again and again, by the clock on the wall. What p99
    takes longer than p50 was taken by others."""
    spins = [_spin_us() for _ in range(_SPINS)]
    return {
        "spin_us_p50": percentile(spins, 50),
        "spin_p99_over_p50": percentile(spins, 99) / percentile(spins, 50),
        "load_1min": os.getloadavg()[0],
        "cpus": os.cpu_count(),
    }


def platform_of_run() -> dict[str, str]:
    """What the figure was taken with."""
    return {
        "python": platform.python_version(),
        "cryptography": version("cryptography"),
        "machine": platform.machine(),
    }


def tell(text: str) -> None:
    """For the person who waits; stdout is for figures alone."""
    print(text, file=sys.stderr, flush=True)


def _spin_us() -> float:
    begin = time.perf_counter_ns()
    total = 0
    for number in range(_SPIN_ROUNDS):
        total += number
    return (time.perf_counter_ns() - begin) / 1e3


def _shortened(value: Any) -> Any:
    if isinstance(value, float):
        return _short(value)
    if isinstance(value, Mapping):
        return {key: _shortened(inner) for key, inner in value.items()}
    return value


def _short(value: float) -> float:
    """Four digits that mean something."""
    return value if isinstance(value, int) else float(f"{value:.4g}")
