"""`python -m benchmarks.watched FILE run ...`: the command `meter-gateway`, and when it wrote to serial lines.

Each write leaves two moments (monotonic, ns): when it was ordered, and when the octets were out. They go to FILE when
the process ends.
"""

from __future__ import annotations

import sys
import time
from array import array
from pathlib import Path

from gateway.cli import main
from gateway.link.port import SerialPort

_moments = array("q")
_write = SerialPort.write


def _watched(self: SerialPort, octets: bytes) -> None:
    begin = time.monotonic_ns()
    _write(self, octets)
    _moments.extend((begin, time.monotonic_ns()))


if __name__ == "__main__":
    SerialPort.write = _watched  # type: ignore[method-assign]
    try:
        status = main(sys.argv[2:])
    finally:
        Path(sys.argv[1]).write_bytes(_moments.tobytes())
    raise SystemExit(status)
