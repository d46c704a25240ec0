"""A gateway as a process of its own, with virtual meters on a pty that takes no time, for tests of its outside."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from support.patience import PATIENCE_S, eventually

from gateway.cli import virtual
from gateway.simulator import NONE, Faults, Head, OpticalPty, PtyLine, VirtualMeter

OLD, NEW = "1.0.0", "2.0.0"
_READY = "ready: "


class RunningGateway:
    """`python -m gateway run` in a directory. `changes`: what single meters have of their own. `before`: Python that
    runs ahead of it in the same process. `sections` are added to the configuration.
    `head`: what stands before the one meter, which signs on by mode E.
    `adapter`: where the line is found, as udev's names by id are, for it may be unplugged.
    `within`: a command that runs another one, as its last words, in surroundings of their own."""

    def __init__(
        self,
        directory: Path,
        *,
        meters: int = 2,
        sections: Mapping[str, Mapping[str, object]] | None = None,
        faults: Faults = NONE,
        baud: int = 0,
        response_timeout: str = "10s",
        changes: Mapping[int, Mapping[str, Any]] | None = None,
        before: str = "",
        env: Mapping[str, str] | None = None,
        within: Sequence[str] = (),
        head: Head | None = None,
        adapter: Path | None = None,
    ) -> None:
        specs = virtual.meters(meters, version=OLD, new_version=NEW, verify_s=0.1, reboot_s=0.2)
        specs = [
            replace(spec, erase_s=0.0, response_s=0.0, **(changes or {}).get(number, {}))
            for number, spec in enumerate(specs)
        ]
        self.meters = [VirtualMeter(spec, faults=faults) for spec in specs]
        self.line = (
            PtyLine(self.meters, baud=baud, link_path=adapter)
            if head is None
            else OpticalPty(self.meters, head)
        )
        self.directory = directory
        self.log = directory / "log"
        self.socket = directory / "run" / "control.sock"
        self.line.start()
        self.config = virtual.write_configuration(
            directory, self.line.address, 9600, specs, self._sections(sections or {})
        )
        # No wait that these meters do not need; and patience with them, who share a busy machine with the gateway.
        text = (
            self.config.read_text()
            .replace('"1s"', '"0s"')
            .replace('"5s"', '"300ms"')
            .replace("baud = 9600", f'baud = 9600\nresponse_timeout = "{response_timeout}"')
        )
        if head is not None:
            text = text.replace('kind = "rs485"', 'kind = "optical"')
        self.config.write_text(text)
        self._before = before
        self._env = env
        self._within = within
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> RunningGateway:
        """Start it, the first time or once more, and wait until its socket is there."""
        starts = self.said().count(_READY) if self.log.exists() else 0
        self.launch()
        eventually(lambda: self.said().count(_READY) > starts, lambda: f"it is not ready:\n{self.said()}")
        return self

    def launch(self) -> subprocess.Popen[bytes]:
        """Start it, whatever comes of it."""
        script = f"{self._before}\nfrom gateway.cli import main\nraise SystemExit(main())"
        command = [*self._within, sys.executable, "-c", script, "run", "--config", str(self.config)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=self._env)
        return self.process

    def wait_for(self, words: str) -> None:
        """Until the log has `words`."""
        eventually(
            lambda: words in self.said(), lambda: f"{words!r} does not stand in the log:\n{self.said()}"
        )

    def said(self) -> str:
        return self.log.read_text()

    def hurry(self) -> None:
        """The line takes next to no time any more, for what is left when a test has seen enough."""
        self.line._medium.octet_s = 1e-5

    def let_pass(self, *, hours: float) -> None:
        """So much time for the meters alone."""
        self.line._ahead_s += hours * 3600.0

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Its exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Until it has ended; its exit status."""
        assert self.process is not None
        return self.process.wait(PATIENCE_S)

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


def free_port() -> int:
    """A TCP port of this machine that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
