"""`python -m benchmarks [FIGURES] [--with SET=PYTHON]...`: what `make bench` and `make endurance` call.

FIGURES are modules of this package, `all` by default: everything but the long ones. `--with debian12=PATH` measures
what depends on the versions of libraries also with that Python's. Exit status 1: something could not be measured.

What is timed is measured first, one after the other with the machine to itself. What no neighbour disturbs comes last,
side by side in processes of its own: octets, instructions, and times of virtual time.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
# The simulated world, the broker and the octets that nobody means well with are the tests' own.
sys.path.insert(0, str(_ROOT / "tests"))

from benchmarks import (  # noqa: E402 (the path comes first)
    block,
    broadcast,
    dead_time,
    fetch,
    fuzz,
    idle,
    instructions,
    interleave,
    kill9,
    line,
    log_volume,
    many_meters,
    mqtt_images,
    package,
    ports,
    power_cuts,
    resume,
    seeds,
    simulation,
    store_writes,
    transfer,
)
from benchmarks.figure import Figure, tell  # noqa: E402

_NEWEST = "newest"
_LONG = ("fuzz", "kill9", "power_cuts", "store_writes", "resume", "many_meters", "seeds")
_UNDISTURBED = ("interleave", "broadcast", "log_volume", "instructions")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    figures: dict[str, Callable[[dict[str, Path]], Iterator[Figure]]] = {
        "block": lambda pythons: iter([block.figure(pythons)]),
        "dead_time": lambda _: iter([dead_time.figure()]),
        "transfer": lambda pythons: iter([transfer.figure(pythons)]),
        "line": lambda _: line.figures(),
        "ports": lambda _: iter([ports.figure()]),
        "interleave": lambda _: iter([interleave.figure()]),
        "broadcast": lambda _: broadcast.figures(),
        "fetch": lambda _: fetch.figures(),
        "mqtt_images": lambda _: mqtt_images.figures(),
        "idle": lambda _: idle.figures(),
        "log_volume": lambda _: log_volume.figures(),
        "simulation": lambda _: iter([simulation.figure()]),
        "instructions": lambda _: instructions.figures(),
        "package": lambda _: package.figures(),
        "fuzz": lambda _: iter([fuzz.figure()]),
        "resume": lambda _: iter([resume.figure()]),
        "many_meters": lambda _: many_meters.figures(),
        "seeds": lambda _: iter([seeds.figure()]),
        "kill9": lambda _: iter([kill9.figure()]),
        "power_cuts": lambda _: iter([power_cuts.figure()]),
        "store_writes": lambda _: store_writes.figures(),
    }
    parser.add_argument("figures", nargs="*", choices=["all", *figures], default="all")
    parser.add_argument("--with", dest="sets", action="append", default=[], metavar="SET=PYTHON")
    options = parser.parse_args()
    wanted = [options.figures] if isinstance(options.figures, str) else options.figures
    if "all" in wanted:
        wanted = [name for name in figures if name not in _LONG]
    pythons = {_NEWEST: Path(sys.executable)}
    pythons |= {name: Path(python) for name, _, python in (entry.partition("=") for entry in options.sets)}
    together = [name for name in wanted if name in _UNDISTURBED]
    if len(together) < 2:
        together = []
    status = 0
    for name in wanted:
        if name in together:
            continue
        tell(f"measuring {name} ...")
        try:
            for figure in figures[name](pythons):
                print(figure.line(), flush=True)
        except Exception:  # noqa: BLE001 (one that cannot be measured hides no other)
            traceback.print_exc()
            status = 1
    return _side_by_side(together) or status


def _side_by_side(names: Sequence[str]) -> int:
    """Each as if it alone were wanted; the worst exit status."""
    running = [subprocess.Popen([sys.executable, "-m", "benchmarks", name], cwd=_ROOT) for name in names]
    return max((process.wait() for process in running), default=0)


if __name__ == "__main__":
    raise SystemExit(main())
