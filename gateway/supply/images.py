"""The images that are stored here: a directory of files, each named by the SHA-256 of its bytes.

A file gets that name only after its digest was checked and its bytes were synced, so whatever stands there
under a digest is whole, or the disk is damaged; `read` and `check` look again and throw a damaged file away. What is
on its way in is kept across restarts and power cuts (`gateway.supply.intake`).

Room for an image is made before its first octet: within the quota, and so that the rest of the disk keeps what it
needs (`gateway.durable.room`). What no open campaign needs goes first, the least recently used before others.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import secrets
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from gateway.durable import make_directory, room
from gateway.errors import BusyError, DigestError, DiskError, NotFoundError, StateError
from gateway.model import Image
from gateway.supply.disk import disk_errors
from gateway.supply.intake import PART, SIDECAR, Intake, forget, read_sidecar
from gateway.supply.room import Holding, beyond, to_remove

log = logging.getLogger(__name__)

PART_KEPT = timedelta(days=7)
"""So long a part of an image is kept that no open campaign needs."""

HOLDINGS_LIMIT = 64
"""Images and parts: many more than campaigns want at a time. Whoever may order could else bring thousands of a few
octets each, which no quota of octets notices."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_FILE = re.compile(r"([0-9a-f]{64})(\.[a-z]+)?")
"""An image, or what lies beside it."""
_INCOMING = ".incoming-"
_READ_BYTES = 256 * 1024


class ImageStore:
    """Images by digest, within a quota. Threads may share one; two processes may not share a directory."""

    def __init__(
        self, directory: Path, quota_bytes: int, *, needed: Callable[[], Collection[str]] = frozenset
    ) -> None:
        """Opens or makes `directory`; raises DiskError where that is not possible. `needed`: the digests of open
        campaigns."""
        self.quota_bytes = quota_bytes
        """May be changed at any time."""
        self._directory = directory
        self._needed = needed
        self._lock = threading.Lock()
        self._promised: dict[Path, int] = {}
        """Room that the intakes under way may use, by their part."""
        with disk_errors("open the image store"):
            make_directory(directory)
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
        part = self._directory / f"{_INCOMING}{secrets.token_hex(8)}{PART}"
        with self._intake(part, expect_sha256, expect_size, keeps=False) as intake:
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
        """What `read` says, without its bytes in memory: the image, or the errors of `read`. It counts as used now."""
        image = Image(sha256, sum(len(piece) for piece in self._pieces(sha256)))
        with suppress(OSError):
            os.utime(self._directory / sha256)
        return image

    def list(self) -> tuple[Image, ...]:
        """All stored images, by digest."""
        return tuple(Image(one.sha256, one.here) for one in self.holdings() if one.complete)

    def holdings(self) -> tuple[Holding, ...]:
        """All that is here, images and parts of images, by digest."""
        with self._lock:
            return self._holdings()

    def remove(self, sha256: str) -> None:
        """Forget an image, or the part of it that is here. Raises NotFoundError, StateError (an open campaign needs
        it), BusyError (it is being received)."""
        with self._lock:
            found = next((one for one in self._holdings() if one.sha256 == sha256), None)
            if found is None:
                raise NotFoundError(f"no image with SHA-256 {sha256!r} is stored here")
            if self._directory / f"{sha256}{PART}" in self._promised:
                raise BusyError(f"the image {sha256} is being received at this moment")
            if found.needed:
                raise StateError(f"an open campaign needs the image {sha256}")
            self._remove(sha256)

    def forget_old_parts(self, now: datetime) -> None:
        """Remove parts of images that nobody came back for. Only by a clock that is right."""
        with self._lock:
            for one in self._holdings():
                if (
                    not (one.complete or one.needed)
                    and now.timestamp() - one.used_at > PART_KEPT.total_seconds()
                ):
                    self._remove(one.sha256)
                    log.info("the part of image %s was removed: nobody came back for the rest", one.sha256)

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
            self._thin_out(beside=sha256)
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

    def _thin_out(self, *, beside: str) -> None:
        """Leave a place for one more."""
        with self._lock, disk_errors("store an image"):
            others = [one for one in self._holdings() if one.sha256 != beside]
            for one in beyond(others, HOLDINGS_LIMIT - 1):
                self._remove(one.sha256)
                log.info("image %s was removed: others came, and no open campaign needs it", one.sha256)

    def _reserve(self, part: Path, wanted: int) -> None:
        """Promise a part so many octets, and make room for them. Raises DiskError where there is none."""
        with self._lock, disk_errors("store an image"):
            promised = self._promised | {part: max(self._promised[part], wanted)}
            sizes, to_come = self._sizes(promised)
            over_quota = sum(sizes.values()) - self.quota_bytes
            over_disk = to_come - room(self._directory)
            if over_quota > 0 or over_disk > 0:
                self._make_room(wanted, over_quota, over_disk)
            self._promised = promised

    def _make_room(self, wanted: int, over_quota: int, over_disk: int) -> None:
        holdings = self._holdings()
        chosen = to_remove(holdings, max(over_quota, over_disk))
        if chosen is None:
            left = wanted - max(over_quota, over_disk) + sum(one.octets for one in holdings if not one.needed)
            limit = "the quota has" if over_quota >= over_disk else "beside what it has to spare the disk has"
            raise DiskError(f"no room for an image of {wanted} octets or more: {limit} {max(left, 0)} for it")
        for one in chosen:
            self._remove(one.sha256)
            log.info("image %s was removed: room is wanted, and no open campaign needs it", one.sha256)

    def _closed(self, part: Path) -> None:
        with self._lock:
            del self._promised[part]

    def _sizes(self, promised: dict[Path, int]) -> tuple[dict[Path, int], int]:
        """The octets of each file, at least those promised to it; and how many of them the disk has yet to give."""
        sizes, to_come = dict(promised), sum(promised.values())
        for path, status in self._files():
            sizes[path] = max(sizes.get(path, 0), status.st_size)
            to_come -= min(promised.get(path, 0), status.st_blocks * 512)
        return sizes, to_come

    def _holdings(self) -> tuple[Holding, ...]:
        with disk_errors("list the images"):
            files: dict[str, dict[str, os.stat_result]] = {}
            for path, status in self._files():
                if found := _FILE.fullmatch(path.name):
                    files.setdefault(found[1], {})[found[2] or ""] = status
            needed = self._needed() if files else ()
            return tuple(
                self._holding(sha256, beside, needed=sha256 in needed)
                for sha256, beside in sorted(files.items())
                if "" in beside or PART in beside
            )

    def _holding(self, sha256: str, files: dict[str, os.stat_result], *, needed: bool) -> Holding:
        part = self._directory / f"{sha256}{PART}"
        size, here = None, 0
        if complete := "" in files:
            size = here = files[""].st_size
        elif kept := read_sidecar(part):
            size, here = kept.size, kept.octets
        return Holding(
            sha256,
            size,
            here,
            complete=complete,
            octets=max(sum(status.st_size for status in files.values()), self._promised.get(part, 0)),
            used_at=max(status.st_mtime for status in files.values()),
            needed=needed or part in self._promised,
        )

    def _remove(self, sha256: str) -> None:
        with disk_errors("remove an image"):
            forget(self._directory / f"{sha256}{PART}")
            for path in self._directory.glob(f"{sha256}*"):
                path.unlink(missing_ok=True)

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in self._directory.iterdir():
            with suppress(FileNotFoundError):  # another image may just get its name
                yield path, path.stat()

    def _path(self, sha256: str) -> Path:
        if self.has(sha256) is None:
            raise NotFoundError(f"no image with SHA-256 {sha256!r} is stored here")
        return self._directory / sha256

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
