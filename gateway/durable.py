"""The disk: how much of it may be used, and files that are there after a power cut as they were written or before."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_SPARE_BYTES = 32 * 2**20
_SPARE_PART = 4
"""Of a small disk, one part in so many."""


def room(directory: Path) -> int:
    """The octets that images may still use on the disk of `directory`; below 0: it is nearly full. 32 MiB, or a quarter
    of a small disk, are spared for the database, its outbox, logs and upgrades. Raises OSError."""
    disk = os.statvfs(directory)
    spare = min(_SPARE_BYTES, disk.f_blocks * disk.f_frsize // _SPARE_PART)
    return disk.f_bavail * disk.f_frsize - spare


def sync_directory(directory: Path) -> None:
    """Make durable which names stand in a directory: new ones, renamed and removed ones (fsync(2)). Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(directory: Path) -> None:
    """With those above it; what is there stays as it is. A new one is there for good: what is made durable in it later
    would go with its name (fsync(2)). Raises OSError."""
    if directory.is_dir():
        return
    make_directory(directory.parent)
    directory.mkdir(mode=0o750, exist_ok=True)
    sync_directory(directory.parent)


def replace_durably(path: Path, content: bytes, *, keeps_room: bool = False) -> None:
    """`content` under `path`, through `*.new` beside it: after a power cut it is the old content or the new, whole, and
    the new once this has returned (rename(2), fsync(2)). Raises OSError: the old stands.

    `keeps_room`: `*.new` stays, so that the next content of that length finds room on a full disk.
    """
    new = path.with_name(path.name + ".new")
    try:
        # Not cut first: somebody else would take the room that the old octets have.
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666), "wb") as file:
            file.write(content)
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError:
        if not keeps_room:
            new.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)
    if keeps_room:
        with suppress(OSError):
            new.write_bytes(content)
