"""`cli_start_ms`: `meter-gateway status` beside a running daemon, from exec to exit."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.figure import Figure, noise, percentile, platform_of_run, spread
from benchmarks.meters import CIPHERED
from benchmarks.process import Gateway, Line, state_directory
from gateway.simulator import several

TARGET_MS = 250.0
_LINES, _METERS_ON_EACH = 4, 25
_RUNS = 30
_COMMAND = Path(sys.executable).with_name("meter-gateway")


def figure() -> Figure:
    """The median; beside it what Python alone takes, and Python with click, in turn with it: what disturbs one of them
    disturbs all."""
    lines = [Line(f"/dev/ttyNOT{number}", several(CIPHERED, _METERS_ON_EACH)) for number in range(_LINES)]
    with state_directory() as directory, Gateway(directory, lines) as gateway:
        compared = {
            "status": (str(_COMMAND), "status", "--config", str(gateway.config)),
            "python -c pass": (sys.executable, "-c", "pass"),
            "python -c 'import click'": (sys.executable, "-c", "import click"),
        }
        taken: dict[str, list[float]] = {name: [] for name in compared}
        for _ in range(_RUNS):
            for name, command in compared.items():
                taken[name].append(_run_ms(command))
    status, *others = compared
    return Figure(
        "cli_start_ms",
        percentile(taken[status], 50),
        "ms",
        TARGET_MS,
        {
            "compared": "wall time from exec to exit, output into a pipe",
            "status_ms": spread(taken[status]),
            **{name: spread(taken[name]) for name in others},
            "meters": _LINES * _METERS_ON_EACH,
            "ports": _LINES,
            "noise": noise(),
            **platform_of_run(),
        },
    )


def _run_ms(command: Sequence[str]) -> float:
    begin = time.perf_counter()
    subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return (time.perf_counter() - begin) * 1e3
