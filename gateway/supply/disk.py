"""What every writer of image files does alike: errors of the disk by their code, and names that are durable."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.errors import DiskError


@contextmanager
def disk_errors(doing: str) -> Iterator[None]:
    """Raises DiskError, with the errno as detail, where the block raises OSError."""
    try:
        yield
    except OSError as error:
        raise DiskError(f"cannot {doing}: {error.strerror}", detail=f"errno {error.errno}") from error


def sync_directory(directory: Path) -> None:
    """A new name, a rename and a removal are durable only once their directory is synced (fsync(2))."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_durably(path: Path, content: bytes) -> None:
    """Write `content` under `path`: after a power cut it is the old content or the new, whole. Raises OSError."""
    new = path.with_name(path.name + ".new")
    try:
        with new.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)
