"""A command on a pseudo-terminal of its own, and what stands on its screen."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Self

import pyte
from support.patience import PATIENCE_S, eventually


class Terminal:
    """`meter-gateway` with these words, its stdin, stdout and stderr a terminal of so many columns and lines. `env`
    comes on top of an ordinary locale; a name with None is taken away."""

    def __init__(
        self, *words: str, columns: int = 80, lines: int = 24, env: Mapping[str, str | None] | None = None
    ) -> None:
        self._ours, theirs = pty.openpty()
        self._size(columns, lines)
        self._screen = pyte.HistoryScreen(columns, lines, history=10_000, ratio=1.0)
        self._stream = pyte.ByteStream(self._screen)
        self.raw = b""
        """Everything that was written to it."""
        self.frames = 0
        """In how many pieces that came."""
        plain = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "LC_CTYPE")}
        wanted = {**plain, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", **(env or {})}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gateway", *words],
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            env={name: value for name, value in wanted.items() if value is not None},
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 (no threads in the child yet)
        )  # fmt: skip
        os.close(theirs)
        self._lock = threading.Lock()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()
        os.close(self._ours)

    def lines(self) -> list[str]:
        """What can be seen, without what is blank at the end."""
        with self._lock:
            return [line.rstrip() for line in self._screen.display]

    def text(self) -> str:
        return "\n".join(self.lines())

    def everything(self) -> list[str]:
        """With what was scrolled away above it."""
        with self._lock:
            above = [
                "".join(line[column].data for column in range(self._screen.columns)).rstrip()
                for line in self._screen.history.top
            ]
        return above + self.lines()

    def colours(self) -> set[str]:
        """Those that can be seen."""
        with self._lock:
            return {
                cell.fg for row in self._screen.buffer.values() for cell in row.values() if cell.data.strip()
            } - {"default"}

    def wait_for(self, *words: str) -> str:
        """Until all of them can be seen; the text of the screen."""
        eventually(lambda: all(word in self.text() for word in words), lambda: f"{words} in\n{self.text()}")
        return self.text()

    def resize(self, columns: int, lines: int) -> None:
        """As a window manager does: the program's next look at the size sees it."""
        with self._lock:
            self._screen.resize(lines, columns)
            self._size(columns, lines)

    def type(self, octets: bytes) -> None:
        """At the keyboard: b"\\x03" is Ctrl-C."""
        os.write(self._ours, octets)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def status(self) -> int:
        """Its exit status, once it has ended and all of it is on the screen."""
        status = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return status

    def _size(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def _read(self) -> None:
        with suppress(OSError):  # EIO: the last of the other side is closed
            while octets := os.read(self._ours, 65536):
                with self._lock:
                    self.raw += octets
                    self.frames += 1
                    self._stream.feed(octets)
