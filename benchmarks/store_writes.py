"""`store_writes`, `store_write_bytes`: what the state of one long transfer costs an SD card (`make endurance`).

The real daemon, with a broker, sends 256 KiB to a ciphered meter on a pty that takes the time of 9600 baud: about five
and a half minutes. Counted by strace is all that it writes to files of its state directory, and every sync of them,
from the order, with the image stored before, until it has ended after the meter's new version: SQLite's log and the
checkpoint at the end are among it. The index of SQLite's log is memory that the kernel writes out as it likes: it is in
what the kernel says of all that the process wrote (proc(5)), which is in the detail. Where there is no strace, or where
it may not look, the values are null.
"""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from support.broker import Mosquitto

from benchmarks.figure import Figure, platform_of_run
from benchmarks.meters import BLOCK_OCTETS, CIPHERED
from benchmarks.process import Counted, Gateway, Line, state_directory
from gateway.simulator import PtyLine, VirtualMeter

BYTES_TARGET = 2.0 * 2**20
SYNCS_TARGET_EVERY_S, SYNCS_TARGET_MORE = 10.0, 25
_IMAGE_OCTETS = 256 * 1024
_BAUD = 9600
_LONGEST_S = 1800.0
_SLOWER = 5.0
_SETTLE_S = 3.0
_WRITES = ("write", "pwrite64", "writev", "pwritev", "pwritev2", "fallocate", "ftruncate")
_SYNCS = ("fsync", "fdatasync", "sync", "syncfs", "msync", "sync_file_range")
_CALL = re.compile(r"(?P<thread>\d+) +(?P<name>\w+)\((?:(?P<fd>\d+)<(?P<path>[^>]*)>)?(?P<rest>.*)")
_RESUMED = re.compile(r"(?P<thread>\d+) +<\.\.\. \w+ resumed>.*= (?P<result>\d+)")


def figures() -> Iterator[Figure]:
    if why := _why_not():
        yield Figure("store_writes", None, "fsyncs", None, {"skipped": why})
        yield Figure("store_write_bytes", None, "bytes", BYTES_TARGET, {"skipped": why})
        return
    with state_directory() as directory:
        took_s, written_bytes, calls = _transferred(directory)
    written, synced = Counter[str](), Counter[str]()
    for name, path, result in calls:
        if name in _WRITES:
            written[path] += result
        else:
            synced[path] += 1
    detail = {
        "compared": f"{_IMAGE_OCTETS} octets in ciphered blocks of {BLOCK_OCTETS} at {_BAUD} baud, from order to"
        " confirmed version, broker connected; target of syncs: one every"
        f" {SYNCS_TARGET_EVERY_S:.0f} s and {SYNCS_TARGET_MORE} more",
        "took_s": took_s,
        "write_bytes_of_proc": written_bytes,
        **platform_of_run(),
    }
    most = took_s // SYNCS_TARGET_EVERY_S + SYNCS_TARGET_MORE
    yield Figure("store_writes", synced.total(), "fsyncs", most, {**detail, "by_file": dict(synced)})
    yield Figure(
        "store_write_bytes", written.total(), "bytes", BYTES_TARGET, {**detail, "by_file": dict(written)}
    )


def _why_not() -> str:
    """Why it cannot be counted here; empty: it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    tried = subprocess.run(
        ["strace", "-D", "-o", "/dev/null", "true"],  # noqa: S607 (found on PATH as a user has set it)
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return f"strace may not look: {tried.stderr.strip()}" if tried.returncode or tried.stderr else ""


def _transferred(directory: Path) -> tuple[float, int, list[tuple[str, str, int]]]:
    """How long it took, what the kernel wrote for the process, and the calls that concern its state."""
    image = random.Random("store writes").randbytes(_IMAGE_OCTETS)
    trace = directory / "trace"
    # The tracer is a grandchild (-D), so that what is started is the daemon itself.
    command = [
        "strace",
        "-D",
        "-f",
        "-y",
        "-qq",
        "-s",
        "0",
        "-e",
        "signal=none",
        "-e",
        _traced(),
        "-o",
        str(trace),
    ]
    with (
        Mosquitto(directory / "broker") as broker,
        PtyLine([VirtualMeter(CIPHERED)], baud=_BAUD) as line,
        Gateway(
            directory,
            [Line(line.address, [CIPHERED], baud=_BAUD)],
            mqtt=broker.url,
            counted=Counted([*command, sys.executable], {}, _SLOWER),
        ) as gateway,
    ):
        sha256 = gateway.store_image(image)
        time.sleep(_SETTLE_S)
        seen, written, begin_s = _size(trace), gateway.disk_write_bytes(), time.monotonic()
        gateway.order("bench", sha256)
        gateway.await_update(_LONGEST_S)
        took_s = time.monotonic() - begin_s
        time.sleep(_SETTLE_S)
        written = gateway.disk_write_bytes() - written
    return took_s, written, list(_calls(trace.read_text()[seen:].splitlines(), directory / "state"))


def _traced() -> str:
    return f"trace={','.join([*_WRITES, *_SYNCS])}"


def _size(file: Path) -> int:
    """Where its last whole line ends."""
    return file.read_text().rfind("\n") + 1


def _calls(lines: Sequence[str], state: Path) -> Iterator[tuple[str, str, int]]:
    """Calls that concern files of the state: name, file, result. A call of one thread may be told in two lines."""
    begun: dict[str, Any] = {}
    for line in lines:
        if resumed := _RESUMED.match(line):
            call, result = begun.pop(resumed["thread"], None), resumed["result"]
        elif (call := _CALL.match(line)) and call["rest"].endswith("<unfinished ...>"):
            begun[call["thread"]] = call
            continue
        else:
            result = line.rpartition("= ")[2]
        if call and result.isdigit() and (call["path"] is None or call["path"].startswith(str(state))):
            yield call["name"], Path(call["path"] or call["name"]).name, int(result)
