"""A gateway as a process of its own, watched from outside: its configuration, its CPU, its memory, its orders."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from gateway.cli.client import Client
from gateway.model import Framing, Security
from gateway.simulator import MeterSpec

SYSTEM_TITLE = b"MGW\x00\x00\x00\x00\x01"
OLD, NEW = "1.0.0", "2.0.0"
CLOSED_WINDOW = "later"
_READY = b"ready: "
_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 10.0
_UPDATE_TIMEOUT_S = 120.0
_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Line:
    """One port of the gateway and the meters on it; `place` is a device or host:port."""

    place: str
    specs: Sequence[MeterSpec]
    framing: Framing = Framing.HDLC
    tcp: bool = False
    baud: int = 115200


@contextmanager
def state_directory() -> Iterator[Path]:
    """For configuration and state, on the disk that the checkout is on: SQLite's syncs are part of the work."""
    build = _ROOT / "build"
    build.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=build) as directory:
        yield Path(directory)


@dataclass(frozen=True)
class Counted:
    """How a counter runs Python: its command and environment, and how many times slower that may be."""

    command: Sequence[str]
    environment: Mapping[str, str]
    slower: float


class Gateway:
    """`python -m gateway run` with these lines, until the block is left; ready when it is entered.

    `mqtt` is the URL of a broker. `python`: another one, with other libraries. `watched`: a file for the moments of its
    writes to serial lines, see `dead_time`. `counted`: as a counter runs it, see `instructions`.
    """

    def __init__(
        self,
        directory: Path,
        lines: Sequence[Line],
        *,
        mqtt: str = "",
        python: Path | None = None,
        watched: Path | None = None,
        counted: Counted | None = None,
    ) -> None:
        self._python = python or Path(sys.executable)
        self._counted = counted
        self._slower = counted.slower if counted else 1.0
        self._socket = directory / "run" / "control.sock"
        self._module = ["benchmarks.watched", str(watched)] if watched else ["gateway"]
        self.config = write_configuration(directory, lines, self._socket, mqtt)
        self._log = directory / "log"
        self.start_to_ready_s = 0.0

    def __enter__(self) -> Self:
        begin = time.perf_counter()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command(self._module), cwd=_ROOT, stdout=log, stderr=log, env=self._environment()
            )
        while _READY not in self._log.read_bytes():
            late = time.perf_counter() - begin > _START_TIMEOUT_S * self._slower
            if late or self._process.poll() is not None:
                self._process.kill()
                raise RuntimeError(f"the gateway did not start:\n{self._log.read_text()}")
            time.sleep(0.001)
        self.start_to_ready_s = time.perf_counter() - begin
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(_STOP_TIMEOUT_S * self._slower)

    def start_only(self) -> None:
        """In place of the block: run it until it is ready, where it ends at once."""
        with self._log.open("wb") as log:
            done = subprocess.run(
                self._command(["benchmarks.until_ready"]),
                cwd=_ROOT, stdout=log, stderr=log, env=self._environment(), check=False,
                timeout=_START_TIMEOUT_S * self._slower,
            )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"the gateway did not start:\n{self._log.read_text()}")

    def cpu_s(self) -> float:
        """CPU of all its threads so far, user and system."""
        # The clock of another process, as clock_getcpuclockid(3) names it on Linux: exact, where /proc counts ticks.
        return time.clock_gettime(~self._process.pid << 3 | 2)

    def rss_mib(self) -> float:
        """What of it is in memory, libraries that others share included."""
        return self._status_mib("VmRSS:")

    def peak_rss_mib(self) -> float:
        """The most of it that was ever in memory."""
        return self._status_mib("VmHWM:")

    def logged_bytes(self) -> int:
        """What it has logged so far."""
        return self._log.stat().st_size

    def disk_write_bytes(self) -> int:
        """What it has made the kernel write to disks so far (proc(5))."""
        counts = Path(f"/proc/{self._process.pid}/io").read_text()
        return int(counts.partition("\nwrite_bytes:")[2].split()[0])

    def store_image(self, image: bytes) -> str:
        """Hand over an image; its digest."""
        with tempfile.TemporaryFile() as file, Client(self._socket) as client:
            file.write(image)
            file.seek(0)
            return str(client.ask("image.add", file=file.fileno())["data"]["sha256"])

    def order(self, campaign_id: str, sha256: str) -> None:
        """An update of every meter with a stored image."""
        args = {
            "campaign_id": campaign_id,
            "image": {"sha256": sha256},
            "identifier": "FW",
            "expect_version": NEW,
            "targets": "all",
        }
        with Client(self._socket) as client:
            client.ask("campaign.submit", args)

    def set_closed_window(self) -> None:
        """One that is closed for hours: what an order in it needs is fetched, and nothing else is done for it."""
        later = f"{datetime.now(UTC) + timedelta(hours=12):%H:%M}"
        window = {"window": CLOSED_WINDOW, "start": later, "duration": "1h", "timezone": "UTC"}
        with Client(self._socket) as client:
            client.ask("window.set", window)

    def _status_mib(self, name: str) -> float:
        """Of proc(5)."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition(name)[2].split()[0]) / 1024

    def _command(self, module: Sequence[str]) -> list[str]:
        python = [*self._counted.command] if self._counted else [str(self._python)]
        return [*python, "-m", *module, "run", "--config", str(self.config)]

    def _environment(self) -> dict[str, str]:
        return {**os.environ, **(self._counted.environment if self._counted else {})}

    def await_update(self, within_s: float = _UPDATE_TIMEOUT_S) -> None:
        """Until every meter of the order was updated; RuntimeError where that does not come about."""
        deadline_s = time.monotonic() + within_s
        while "succeeded" not in self.check():
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"no update:\n{self._log.read_text()}")
            time.sleep(0.05)

    def check(self) -> str:
        """What it has said so far; RuntimeError where it has ended, or something has failed."""
        said = self._log.read_text()
        if self._process.poll() is not None or "failed" in said:
            raise RuntimeError(f"no update:\n{said}")
        return said


def write_configuration(
    directory: Path, lines: Sequence[Line], socket: Path, mqtt: str, *, gateway_id: str = "gw-bench"
) -> Path:
    """gateway.toml and keys.toml in `directory`; the path of the former."""
    gateway: dict[str, Any] = {
        "id": gateway_id,
        "system_title": SYSTEM_TITLE.hex(),
        "state_dir": str(directory / "state"),
        "control_socket": str(socket),
        "require_synced_clock": False,
    }
    tables = [_table("[gateway]", gateway), _table("[firmware]", {"trust": "digest"})]
    if mqtt:
        tables.append(_table("[mqtt]", {"url": mqtt}))
    quick = {"after_initiate": "0s", "reconnect_after": "500ms", "activate_timeout": "1min"}
    tables.append(_table("[profiles.bench]", quick))
    secrets, count = [], 0
    for number, line in enumerate(lines):
        port = {"name": f"port-{number}", **_place(line)}
        tables.append(_table("[[ports]]", port))
        for spec in line.specs:
            count += 1
            tables.append(
                _table("[[meters]]", _meter(f"MTR{count:04d}", f"port-{number}", spec, line.framing))
            )
            if spec.security is not Security.NONE:
                keys = {
                    "encryption_key": spec.keys.encryption_key.hex(),
                    "authentication_key": spec.keys.authentication_key.hex(),
                }
                secrets.append(_table(f"[meters.MTR{count:04d}]", keys))
    path = directory / "gateway.toml"
    path.write_text("\n".join(tables), "utf-8")
    with open(directory / "keys.toml", "w", encoding="utf-8", opener=_private) as file:
        file.write("\n".join(secrets))
    return path


def _place(line: Line) -> dict[str, Any]:
    if line.tcp:
        return {"kind": "tcp", "address": line.place, "framing": line.framing}
    return {"kind": "rs485", "device": line.place, "baud": line.baud}


def _meter(meter_id: str, port: str, spec: MeterSpec, framing: Framing) -> dict[str, Any]:
    return {
        "id": meter_id,
        "port": port,
        **(
            {"physical_address": spec.address.lower} if spec.address.lower and framing is Framing.HDLC else {}
        ),
        **({"address_bytes": 1} if spec.address.lower is None else {}),
        "logical_address": spec.address.upper,
        "client": spec.client,
        "authentication": spec.authentication,
        "security": spec.security,
        "logical_device_name": spec.logical_device_name,
        "profile": "bench",
    }


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _table(head: str, values: Mapping[str, Any]) -> str:
    """JSON's texts, numbers and booleans are TOML's as well."""
    return "\n".join([head, *(f"{key} = {json.dumps(value)}" for key, value in values.items()), ""])
