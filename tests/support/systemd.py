"""What stands in for systemd towards a daemon: somebody who listens at NOTIFY_SOCKET."""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
from pathlib import Path

from support.patience import PATIENCE_S

FAKE_SYSTEMD = """
import os, socket
def notify(state):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(state.encode(), os.environ["NOTIFY_SOCKET"])
"""


class Systemd:
    """What listens at NOTIFY_SOCKET, with a module `systemd` for the daemon: the distribution's needs a compiler."""

    def __init__(self, directory: Path) -> None:
        (directory / "lib/systemd").mkdir(parents=True)
        (directory / "lib/systemd/__init__.py").touch()
        (directory / "lib/systemd/daemon.py").write_text(FAKE_SYSTEMD)
        self.env = {
            **os.environ,
            "NOTIFY_SOCKET": str(directory / "notify"),
            "PYTHONPATH": str(directory / "lib"),
            "WATCHDOG_USEC": "300000",
        }
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(directory / "notify"))
        self._told: queue.SimpleQueue[str] = queue.SimpleQueue()
        # As systemd does: a sender never waits for it.
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while told := self._socket.recv(4096).decode():
            self._told.put(told)

    def hear(self, timeout_s: float = PATIENCE_S) -> str:
        """What it is told next; "" when it is told nothing."""
        try:
            return self._told.get(timeout=timeout_s)
        except queue.Empty:
            return ""

    def hear_of(self, words: str) -> str:
        """The next message that has these words; those before it are gone."""
        deadline = time.monotonic() + PATIENCE_S
        while words not in (told := self.hear()):
            assert time.monotonic() < deadline, f"systemd heard nothing of {words!r}"
        return told

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"", self.env["NOTIFY_SOCKET"])
        self._thread.join()
        self._socket.close()
