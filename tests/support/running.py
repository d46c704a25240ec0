"""A gateway as a process of its own, with virtual meters on a pty that takes no time, for tests of its outside."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway.cli import virtual
from gateway.simulator import NONE, Faults, PtyLine, VirtualMeter

OLD, NEW = "1.0.0", "2.0.0"


class RunningGateway:
    """`python -m gateway run` in a directory. `changes`: what single meters have of their own. `before`: Python that
    runs ahead of it in the same process. `sections` are added to the configuration."""

    def __init__(
        self,
        directory: Path,
        *,
        meters: int = 2,
        sections: Mapping[str, Mapping[str, object]] | None = None,
        faults: Faults = NONE,
        baud: int = 0,
        changes: Mapping[int, Mapping[str, Any]] | None = None,
        before: str = "",
        env: Mapping[str, str] | None = None,
    ) -> None:
        specs = virtual.meters(meters, version=OLD, new_version=NEW, verify_s=0.1, reboot_s=0.2)
        specs = [
            replace(spec, erase_s=0.0, response_s=0.0, **(changes or {}).get(number, {}))
            for number, spec in enumerate(specs)
        ]
        self.meters = [VirtualMeter(spec, faults=faults) for spec in specs]
        self.line = PtyLine(self.meters, baud=baud)
        self.directory = directory
        self.log = directory / "log"
        self.socket = directory / "run" / "control.sock"
        self.line.start()
        self.config = virtual.write_configuration(
            directory, self.line.address, 9600, specs, self._sections(sections or {})
        )
        text = (
            self.config.read_text()
            .replace('"1s"', '"0s"')
            .replace('"5s"', '"300ms"')
            .replace('"1min"', '"1s"')
        )
        self.config.write_text(text)
        self._before = before
        self._env = env
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> RunningGateway:
        """Start it and wait until its socket is there."""
        script = f"{self._before}\nfrom gateway.cli import main\nraise SystemExit(main())"
        command = [sys.executable, "-c", script, "run", "--config", str(self.config)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=self._env)
        self.wait_for("ready: ")
        return self

    def wait_for(self, words: str, timeout_s: float = 60.0) -> None:
        """Until the log has `words`."""
        deadline = time.monotonic() + timeout_s
        while words not in self.said():
            assert time.monotonic() < deadline, f"{words!r} does not stand in the log:\n{self.said()}"
            time.sleep(0.02)

    def said(self) -> str:
        return self.log.read_text()

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout_s: float = 20.0) -> int:
        """Its exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(timeout_s)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.line.stop()

    def _sections(self, more: Mapping[str, Mapping[str, object]]) -> dict[str, dict[str, object]]:
        gateway: dict[str, object] = {
            "system_title": virtual.SYSTEM_TITLE.hex(),
            "state_dir": str(self.directory / "state"),
            "control_socket": str(self.socket),
            "require_synced_clock": False,
        }
        sections: dict[str, dict[str, object]] = {"gateway": gateway, "firmware": {"trust": "digest"}}
        for name, values in more.items():
            sections[name] = {**sections.get(name, {}), **values}
        return sections
