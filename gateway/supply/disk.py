"""Errors of the disk by their code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gateway.errors import DiskError


@contextmanager
def disk_errors(doing: str) -> Iterator[None]:
    """Raises DiskError, with the errno as detail, where the block raises OSError."""
    try:
        yield
    except OSError as error:
        raise DiskError(f"cannot {doing}: {error.strerror}", detail=f"errno {error.errno}") from error
