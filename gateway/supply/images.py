"""The images that are stored here: a directory of files, each named by the SHA-256 of its bytes.

A file gets that name only after its digest was checked and its bytes were synced, so whatever stands there
under a digest is whole, or the disk is damaged; `read` checks again and throws a damaged file away. What was
being written when the power went is removed when the store is opened.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from gateway.errors import DigestError, DiskError, NotFoundError, SizeError
from gateway.model import Image

_DIGEST = re.compile(r"[0-9a-f]{64}")
_INCOMING = ".incoming-"


class ImageStore:
    """Images by digest, within a quota. Threads may share one; two processes may not share a directory."""

    def __init__(self, directory: Path, quota_bytes: int) -> None:
        """Opens or makes `directory`; raises DiskError where that is not possible."""
        self.quota_bytes = quota_bytes
        """May be changed at any time."""
        self._directory = directory
        self._lock = threading.Lock()
        with _disk_errors("open the image store"):
            directory.mkdir(mode=0o750, parents=True, exist_ok=True)
            for leftover in directory.glob(f"{_INCOMING}*"):
                leftover.unlink()

    def add(
        self, chunks: Iterable[bytes], *, expect_sha256: str = "", expect_size: int | None = None
    ) -> Image:
        """Store the bytes of `chunks` and return what they are: durable on return, nothing kept on an error.

        Raises SizeError (another size than `expect_size`, or none at all; as soon as it shows), DigestError
        (not `expect_sha256`), DiskError (quota or disk full, disk damaged), and whatever `chunks` raises.
        """
        with self._lock, _disk_errors("store an image"):
            self._check_room(expect_size or 0)
            descriptor, name = tempfile.mkstemp(prefix=_INCOMING, dir=self._directory)
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                image = self._receive(chunks, file, expect_size)
            _check(image, expect_sha256, expect_size)
            with _disk_errors("store an image"):
                temporary.replace(self._directory / image.sha256)
                _sync_directory(self._directory)
            return image
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()

    def has(self, sha256: str) -> Image | None:
        """The image of that digest, or None. Looks at the name only; `read` checks the bytes."""
        if not _DIGEST.fullmatch(sha256):
            return None
        with _disk_errors("look at an image"):
            path = self._directory / sha256
            return Image(sha256, path.stat().st_size) if path.is_file() else None

    def read(self, sha256: str) -> bytes:
        """The bytes, digest checked again. Raises NotFoundError, DigestError (the file was damaged on disk: it
        is removed, so that the next order gets it afresh), DiskError."""
        path = self._path(sha256)
        with _disk_errors("read an image"):
            content = path.read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if found != sha256:
            with _disk_errors("remove a damaged image"):
                path.unlink(missing_ok=True)
            raise DigestError(
                f"the stored image {sha256} was damaged on disk: its bytes have SHA-256 {found}"
            )
        return content

    def list(self) -> tuple[Image, ...]:
        """All stored images, by digest."""
        with _disk_errors("list the images"):
            return tuple(Image(path.name, path.stat().st_size) for path in self._files())

    def remove(self, sha256: str) -> None:
        """Forget an image. Raises NotFoundError where there is none."""
        with _disk_errors("remove an image"):
            self._path(sha256).unlink()

    def _path(self, sha256: str) -> Path:
        if self.has(sha256) is None:
            raise NotFoundError(f"no image with SHA-256 {sha256!r} is stored here")
        return self._directory / sha256

    def _files(self) -> Iterator[Path]:
        return (path for path in sorted(self._directory.iterdir()) if _DIGEST.fullmatch(path.name))

    def _receive(self, chunks: Iterable[bytes], file: BinaryIO, limit: int | None) -> Image:
        digest = hashlib.sha256()
        size = 0
        for chunk in chunks:
            size += len(chunk)
            if limit is not None and size > limit:
                raise SizeError(f"the image is larger than the {limit} octets that were ordered")
            digest.update(chunk)
            with self._lock, _disk_errors("store an image"):
                self._check_room(len(chunk))
                file.write(chunk)
                file.flush()  # the directory is what tells how much room is used
        with _disk_errors("store an image"):
            os.fsync(file.fileno())
        return Image(digest.hexdigest(), size)

    def _check_room(self, wanted: int) -> None:
        used = 0
        for path in self._directory.iterdir():
            with suppress(FileNotFoundError):  # another image may just get its name
                used += path.stat().st_size
        free = self.quota_bytes - used
        if wanted > free:
            raise DiskError(
                f"no room for an image: {wanted} octets more, but the quota has {max(free, 0)} left"
            )


def _check(image: Image, expect_sha256: str, expect_size: int | None) -> None:
    if image.size == 0:
        raise SizeError("the image is empty")
    if expect_size is not None and image.size != expect_size:
        raise SizeError(f"the image has {image.size} octets, ordered were {expect_size}")
    if expect_sha256 and image.sha256 != expect_sha256:
        raise DigestError(f"the image has SHA-256 {image.sha256}, ordered was {expect_sha256}")


def _sync_directory(directory: Path) -> None:
    """A rename is durable only once its directory is synced (fsync(2))."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _disk_errors(doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DiskError(f"cannot {doing}: {error.strerror}", detail=f"errno {error.errno}") from error
