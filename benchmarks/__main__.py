"""`python -m benchmarks [FIGURES] [--with SET=PYTHON]...`: what `make bench` and `make endurance` call.

FIGURES are modules of this package, `all` by default: everything but the long ones. `--with debian12=PATH` measures
what depends on the versions of libraries also with that Python's.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parent.parent
# The simulated world, the broker and the octets that nobody means well with are the tests' own.
sys.path.insert(0, str(_ROOT / "tests"))

from benchmarks import block, dead_time, fuzz, idle, package, simulation, transfer  # noqa: E402 (the path comes first)
from benchmarks.figure import Figure, tell  # noqa: E402

_NEWEST = "newest"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    figures: dict[str, Callable[[dict[str, Path]], Iterator[Figure]]] = {
        "block": _block,
        "dead_time": lambda _: iter([dead_time.figure()]),
        "transfer": lambda _: iter([transfer.figure()]),
        "idle": lambda _: idle.figures(),
        "simulation": lambda _: iter([simulation.figure()]),
        "package": lambda _: package.figures(),
        "fuzz": lambda _: iter([fuzz.figure()]),
    }
    parser.add_argument("figures", nargs="*", choices=["all", *figures], default="all")
    parser.add_argument("--with", dest="sets", action="append", default=[], metavar="SET=PYTHON")
    options = parser.parse_args()
    wanted = [options.figures] if isinstance(options.figures, str) else options.figures
    if "all" in wanted:
        wanted = [name for name in figures if name != "fuzz"]
    sets = {name: Path(python) for name, _, python in (entry.partition("=") for entry in options.sets)}
    for name in wanted:
        tell(f"measuring {name} ...")
        for figure in figures[name](sets):
            print(figure.line(), flush=True)
    return 0


def _block(sets: dict[str, Path]) -> Iterator[Figure]:
    pythons = {_NEWEST: Path(sys.executable), **sets}
    yield block.figure({name: _measured(python) for name, python in pythons.items()})


def _measured(python: Path) -> dict[str, Any]:
    """What `benchmarks.block` measures in a process of that Python."""
    command = [str(python), "-m", "benchmarks.block"]
    done = subprocess.run(command, cwd=_ROOT, stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    raise SystemExit(main())
