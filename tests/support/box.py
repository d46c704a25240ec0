"""Surroundings with other file systems than this machine's, for programs that are run in them. As root or not."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest


class Box:
    """A user and mount namespace in which `mounts` (a script for sh) were made. Without right to namespaces: root
    fails, another user skips the test."""

    def __init__(self, mounts: str) -> None:
        command = [
            "unshare",
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-ec",
            f"{mounts}\necho made\nexec sleep inf",
        ]
        self._holder = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "made\n":
            why = self._holder.communicate()[1].strip()
            refused = "unshare failed" in why
            (pytest.skip if refused and Path("/proc/self").stat().st_uid else pytest.fail)(
                f"no file systems of its own: {why}"
            )
        self.within = [
            "nsenter", "--target", str(self._holder.pid), "--user", "--mount", "--preserve-credentials",
        ]  # fmt: skip

    def path(self, inside: Path) -> Path:
        """What is `inside`, seen from outside."""
        return Path(f"/proc/{self._holder.pid}/root{inside}")

    def close(self) -> None:
        self._holder.kill()
        self._holder.communicate()


def tmpfs(directory: Path, size: str = "2m") -> str:
    """Mounts for a Box: an empty file system at `directory`, which is made here."""
    directory.mkdir(exist_ok=True)
    return f"mount -t tmpfs -o size={size} tmpfs '{directory}'\n"


def fill(directory: Path) -> Path:
    """Write until nothing fits any more; the file that takes the room."""
    filler = directory / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return filler
