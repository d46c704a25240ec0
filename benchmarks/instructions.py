"""`start_instructions` and `block_instructions`: what a start and a block cost, counted and not timed.

Instructions in user space, of all threads of the daemon, the interpreter and its libraries included. A count does not
depend on how fast or how busy a machine is, so it says something of a machine that is not here.

Two counters: callgrind counts on this machine; QEMU's user emulation, with `count_instructions.c` in it, counts
those of another processor in a tree that has its Debian and the package installed (`make test-package-arm64`).
"""

from __future__ import annotations

import os
import platform
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figure import Figure
from benchmarks.meters import BLOCK_OCTETS, CIPHERED
from benchmarks.process import Counted, Gateway, Line, state_directory
from gateway.model import Framing
from gateway.simulator import TcpLine, VirtualMeter, several

_LINES, _METERS_ON_EACH = 4, 25
_BLOCKS = (64, 576)
"""Two transfers; what the longer one takes more is the blocks' alone."""
_SLOWER = 12.0
_ROOT = Path(__file__).resolve().parent.parent


class UncountedError(Exception):
    """There is no counter here; the message says what is missing."""


@dataclass(frozen=True)
class Counter:
    """`counted` runs Python; once that has ended, `read` gives the number."""

    name: str
    machine: str
    counted: Counted
    read: Callable[[], int]


def figures() -> Iterator[Figure]:
    """Of this machine's kind."""
    try:
        with tempfile.TemporaryDirectory() as directory:
            yield from figures_by(_callgrind(Path(directory)))
    except UncountedError as error:
        for name in ("start_instructions", "block_instructions"):
            yield Figure(name, None, "instructions", None, {"not_measured": str(error)})


def figures_by(counter: Counter) -> Iterator[Figure]:
    common = {"counter": counter.name, "machine": counter.machine, "python": _compiled(counter)}
    yield Figure(
        "start_instructions",
        _start(counter),
        "instructions",
        None,
        {
            "compared": "process begun to READY=1, with a new state directory; the gateway's modules are compiled",
            "meters": _LINES * _METERS_ON_EACH,
            "ports": _LINES,
            **common,
        },
    )
    few, many = (_transfer(counter, blocks) for blocks in _BLOCKS)
    fewer, more = _BLOCKS
    yield Figure(
        "block_instructions",
        (many - few) / (more - fewer),
        "instructions",
        None,
        {
            "compared": f"updates of {fewer} and {more} ciphered blocks of {BLOCK_OCTETS} octets over the TCP wrapper,"
            " their difference for each block: request, answer, and its share of the checkpoints; no broker",
            "instructions": {str(fewer): few, str(more): many},
            **common,
        },
    )


@contextmanager
def emulated(tree: Path) -> Iterator[Counter]:
    """The counter of arm64 instructions, of the package that is installed in `tree`. Raises UncountedError."""
    qemu, compiler = _tool("qemu-aarch64", "qemu-user"), _tool("cc", "gcc libc6-dev")
    with tempfile.TemporaryDirectory() as directory:
        plugin, count = Path(directory) / "count.so", Path(directory) / "count"
        python = next((tree / "usr/bin").glob("python3.??"))
        _build(compiler, plugin)
        command = [qemu, "-L", str(tree), "-plugin", f"{plugin},count={count}", str(python)]
        tried = subprocess.run([*command, "-I", "-c", ""], stderr=subprocess.PIPE, text=True, check=False)
        if tried.returncode or not count.exists():
            raise UncountedError(f"{qemu} takes no plugin (Debian 12's does): {tried.stderr.strip()[-300:]}")
        environment = {
            # The installed package, and of the checkout only what ends it when it is ready.
            "PYTHONSAFEPATH": "1",
            "PYTHONPATH": f"/usr/share/meter-gateway:{_ROOT}",
            # No AES instructions: a Raspberry Pi up to the 4 has none.
            "OPENSSL_armcap": "1",
        }
        version = subprocess.run([qemu, "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout
        yield Counter(
            f"QEMU user emulation: {version.splitlines()[0]}",
            "aarch64, without AES instructions",
            Counted(command, environment, _SLOWER),
            lambda: _taken(count, int.from_bytes(count.read_bytes(), sys.byteorder)),
        )


# -- counters -------------------------------------------------------------------------------------------------


def _callgrind(directory: Path) -> Counter:
    """Raises UncountedError."""
    valgrind = _tool("valgrind", "valgrind")
    log = directory / "log"
    tool = [valgrind, "--tool=callgrind", "--callgrind-out-file=/dev/null", f"--log-file={log}"]
    version = subprocess.run([valgrind, "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout
    return Counter(
        f"callgrind of {version.strip()}",
        platform.machine(),
        Counted([*tool, sys.executable], {}, _SLOWER),
        lambda: _taken(log, _refs(log.read_text())),
    )


def _refs(log: str) -> int:
    found = re.search(r"I +refs: +([\d,]+)", log)
    if found is None:
        raise UncountedError(f"callgrind does not count here: {log[-300:].strip()}")
    return int(found[1].replace(",", ""))


def _taken(file: Path, count: int) -> int:
    """A count is read once: the next one begins at nothing."""
    file.unlink()
    return count


def _tool(name: str, packages: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise UncountedError(f"{name} is not here: apt-get install {packages}")
    return path


def _build(compiler: str, plugin: Path) -> None:
    source = Path(__file__).with_name("count_instructions.c")
    command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(plugin), str(source)]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise UncountedError(f"the plugin cannot be compiled here: {done.stderr.strip()[-300:]}")


# -- what is counted ------------------------------------------------------------------------------------------


def _start(counter: Counter) -> int:
    lines = [Line(f"/dev/ttyNOT{number}", several(CIPHERED, _METERS_ON_EACH)) for number in range(_LINES)]
    with state_directory() as directory:
        Gateway(directory, lines, counted=counter.counted).start_only()
    return counter.read()


def _transfer(counter: Counter, blocks: int) -> int:
    """From the start of the daemon to its end, with one update in between."""
    image = random.Random("instructions").randbytes(blocks * BLOCK_OCTETS)
    with (
        state_directory() as directory,
        TcpLine([VirtualMeter(CIPHERED)], framing=Framing.WRAPPER) as line,
    ):
        lines = [Line(line.address, [CIPHERED], Framing.WRAPPER, tcp=True)]
        with Gateway(directory, lines, counted=counter.counted) as gateway:
            gateway.order("bench", gateway.store_image(image))
            gateway.await_update()
    return counter.read()


def _compiled(counter: Counter) -> str:
    """Its Python's version, after that has compiled the gateway as dpkg does with an installed package: that is no
    part of a start."""
    modules = [str(_ROOT / "gateway"), str(_ROOT / "benchmarks")]
    script = "import compileall, platform, sys; print(platform.python_version())\n"
    script += f"for place in {modules}: compileall.compile_dir(place, quiet=1)"
    done = subprocess.run(
        [*counter.counted.command, "-c", script],
        env={**os.environ, **counter.counted.environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    counter.read()
    return done.stdout.strip()
