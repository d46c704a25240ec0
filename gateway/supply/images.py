"""The images that are stored here: a directory of files, each named by the SHA-256 of its bytes.

A file gets that name only after its digest was checked and its bytes were synced, so whatever stands there
under a digest is whole, or the disk is damaged; `read` and `check` look again and throw a damaged file away. What is
on its way in is kept across restarts and power cuts (`gateway.supply.intake`).
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from gateway.errors import BusyError, DigestError, DiskError, NotFoundError
from gateway.model import Image
from gateway.supply.disk import disk_errors
from gateway.supply.intake import PART, SIDECAR, Intake, forget, read_sidecar

_DIGEST = re.compile(r"[0-9a-f]{64}")
_INCOMING = ".incoming-"
_READ_BYTES = 256 * 1024


class ImageStore:
    """Images by digest, within a quota. Threads may share one; two processes may not share a directory."""

    def __init__(self, directory: Path, quota_bytes: int) -> None:
        """Opens or makes `directory`; raises DiskError where that is not possible."""
        self.quota_bytes = quota_bytes
        """May be changed at any time."""
        self._directory = directory
        self._lock = threading.Lock()
        self._promised: dict[Path, int] = {}
        """Room that the intakes under way may use, by their part."""
        with disk_errors("open the image store"):
            directory.mkdir(mode=0o750, parents=True, exist_ok=True)
            self._clean()

    def intake(self, sha256: str, size: int | None) -> Intake:
        """Receive that image from any source, going on with what is here of it; `size` as it was ordered.

        Raises BusyError (somebody else receives it at this moment), DiskError (quota or disk full, disk damaged).
        """
        return self._intake(self._directory / f"{sha256}{PART}", sha256, size, keeps=True)

    def add(
        self, chunks: Iterable[bytes], *, expect_sha256: str = "", expect_size: int | None = None
    ) -> Image:
        """Store the bytes of `chunks` and return what they are: durable on return, nothing kept on an error.

        Raises SizeError (another size than `expect_size`, or none at all; as soon as it shows), DigestError
        (not `expect_sha256`), DiskError (quota or disk full, disk damaged), and whatever `chunks` raises.
        """
        with disk_errors("store an image"):
            descriptor, name = tempfile.mkstemp(prefix=_INCOMING, suffix=PART, dir=self._directory)
            os.close(descriptor)
        with self._intake(Path(name), expect_sha256, expect_size, keeps=False) as intake:
            place = 0
            for chunk in chunks:
                intake.write(place, chunk)
                place += len(chunk)
            return intake.finish()

    def has(self, sha256: str) -> Image | None:
        """The image of that digest, or None. Looks at the name only; `read` and `check` look at the bytes."""
        if not _DIGEST.fullmatch(sha256):
            return None
        with disk_errors("look at an image"):
            path = self._directory / sha256
            return Image(sha256, path.stat().st_size) if path.is_file() else None

    def read(self, sha256: str) -> bytes:
        """The bytes, digest checked again. Raises NotFoundError, DigestError (the file was damaged on disk: it
        is removed, so that the next order gets it afresh), DiskError."""
        return b"".join(self._pieces(sha256))

    def check(self, sha256: str) -> Image:
        """What `read` says, without its bytes in memory: the image, or the errors of `read`."""
        return Image(sha256, sum(len(piece) for piece in self._pieces(sha256)))

    def list(self) -> tuple[Image, ...]:
        """All stored images, by digest."""
        with disk_errors("list the images"):
            return tuple(Image(path.name, path.stat().st_size) for path in self._files())

    def remove(self, sha256: str) -> None:
        """Forget an image. Raises NotFoundError where there is none."""
        with disk_errors("remove an image"):
            self._path(sha256).unlink()

    # -- below ------------------------------------------------------------------------------------------------

    def _clean(self) -> None:
        """Remove what a power cut left and nobody can go on with."""
        for path in list(self._directory.iterdir()):
            if path.name.startswith(_INCOMING) or path.suffix == ".new":
                path.unlink()
            elif path.suffix in {PART, SIDECAR}:
                part = path.with_suffix(PART)
                if path.exists() and (path.with_suffix("").exists() or read_sidecar(part) is None):
                    forget(part)

    def _intake(self, part: Path, sha256: str, size: int | None, *, keeps: bool) -> Intake:
        with self._lock:
            if part in self._promised:
                raise BusyError(f"the image {sha256} is being received by somebody else at this moment")
            self._promised[part] = 0
        try:
            return Intake(
                part,
                sha256=sha256,
                size=size,
                keeps=keeps,
                reserve=lambda octets: self._reserve(part, octets),
                closed=lambda: self._closed(part),
            )
        except BaseException:
            self._closed(part)
            raise

    def _reserve(self, part: Path, wanted: int) -> None:
        with self._lock, disk_errors("store an image"):
            used = sum(size for path, size in self._sizes().items() if path != part)
            if used + wanted > self.quota_bytes:
                left = max(self.quota_bytes - used, 0)
                raise DiskError(f"no room for an image of {wanted} octets or more: the quota has {left} left")
            self._promised[part] = max(self._promised[part], wanted)

    def _closed(self, part: Path) -> None:
        with self._lock:
            del self._promised[part]

    def _sizes(self) -> dict[Path, int]:
        """The room that each file uses, or may use before its intake ends."""
        sizes = dict(self._promised)
        for path in self._directory.iterdir():
            with suppress(FileNotFoundError):  # another image may just get its name
                sizes[path] = max(sizes.get(path, 0), path.stat().st_size)
        return sizes

    def _path(self, sha256: str) -> Path:
        if self.has(sha256) is None:
            raise NotFoundError(f"no image with SHA-256 {sha256!r} is stored here")
        return self._directory / sha256

    def _files(self) -> Iterator[Path]:
        return (path for path in sorted(self._directory.iterdir()) if _DIGEST.fullmatch(path.name))

    def _pieces(self, sha256: str) -> Iterator[bytes]:
        """The bytes of an image; raises DigestError in place of its end."""
        path = self._path(sha256)
        digest = hashlib.sha256()
        with disk_errors("read an image"), path.open("rb") as file:
            while piece := file.read(_READ_BYTES):
                digest.update(piece)
                yield piece
        if digest.hexdigest() != sha256:
            with disk_errors("remove a damaged image"):
                path.unlink(missing_ok=True)
            raise DigestError(
                f"the stored image {sha256} was damaged on disk: its bytes have SHA-256 {digest.hexdigest()}"
            )
