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
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
# The simulated world, the broker and the octets that nobody means well with are the tests' own.
sys.path.insert(0, str(_ROOT / "tests"))

from benchmarks.figure import Figure, tell  # noqa: E402

_NEWEST = "newest"
_FIGURES = (
    "block", "dead_time", "transfer", "line", "ports", "interleave", "broadcast", "fetch", "mqtt_images",
    "command_latency", "outbox_drain", "fleet", "idle", "cli_start", "log_volume", "simulation", "instructions",
    "package",
)  # fmt: skip
_LONG = ("fuzz", "command_fuzz", "resume", "many_meters", "seeds", "kill9", "power_cuts", "store_writes")
_BY_LIBRARIES = ("block", "transfer")
"""Measured with each set of libraries."""
_BY_ITSELF = "many_meters"
"""Measures the memory of its process, in which nobody else was before."""
_UNDISTURBED = ("interleave", "broadcast", "log_volume", "instructions")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("figures", nargs="*", choices=["all", *_FIGURES, *_LONG], default="all")
    parser.add_argument("--with", dest="sets", action="append", default=[], metavar="SET=PYTHON")
    options = parser.parse_args()
    wanted = [options.figures] if isinstance(options.figures, str) else options.figures
    if "all" in wanted:
        wanted = list(_FIGURES)
    pythons = {_NEWEST: Path(sys.executable)}
    pythons |= {name: Path(python) for name, _, python in (entry.partition("=") for entry in options.sets)}
    together = [name for name in wanted if name in _UNDISTURBED]
    if len(together) < 2:
        together = []
    status = 0
    for name in wanted:
        if name in together:
            continue
        if name == _BY_ITSELF and len(wanted) > 1:
            status = _side_by_side([name]) or status
            continue
        tell(f"measuring {name} ...")
        try:
            for figure in _measured(name, pythons):
                print(figure.line(), flush=True)
        except Exception:  # noqa: BLE001 (one that cannot be measured hides no other)
            traceback.print_exc()
            status = 1
    return _side_by_side(together) or status


def _measured(name: str, pythons: Mapping[str, Path]) -> Iterator[Figure]:
    """By a module that is imported here: the memory that one measures has nothing of the others in it."""
    module = import_module(f"benchmarks.{name}")
    if name in _BY_LIBRARIES:
        yield module.figure(pythons)
    elif hasattr(module, "figures"):
        yield from module.figures()
    else:
        yield module.figure()


def _side_by_side(names: Sequence[str]) -> int:
    """Each as if it alone were wanted; the worst exit status."""
    running = [subprocess.Popen([sys.executable, "-m", "benchmarks", name], cwd=_ROOT) for name in names]
    return max((process.wait() for process in running), default=0)


if __name__ == "__main__":
    raise SystemExit(main())
