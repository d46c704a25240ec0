"""One image on its way in, from whatever source, in any order of its bytes.

Beside the bytes (`{sha256}.part`) lies what is known of them (`{sha256}.json`): the spans that are durable, and a note
of the source. It is written after the bytes were synced and never before, so what it says is true after a power cut at
any moment; bytes that it does not name are fetched again. The image gets its name only when the digest is right.
"""

from __future__ import annotations

import hashlib
import json
import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Self

from gateway.durable import replace_durably, sync_directory
from gateway.errors import DigestError, DiskError, SizeError
from gateway.model import Image
from gateway.supply.disk import disk_errors

Span = tuple[int, int]
"""From octet, to octet (not included)."""

PART = ".part"
SIDECAR = ".json"

_READ_BYTES = 256 * 1024
_NOTE_LIMIT_BYTES = 4096
_OPEN = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Kept:
    """What a sidecar says of the bytes beside it, all of it durable."""

    size: int | None
    spans: tuple[Span, ...]
    note: Mapping[str, str]

    @property
    def end(self) -> int:
        """So many octets the image has at least."""
        return self.spans[-1][1] if self.spans else 0

    @property
    def octets(self) -> int:
        """So many are here."""
        return sum(end - start for start, end in self.spans)


class Intake:
    """Made by `ImageStore.intake`; a context manager, owned by one thread.

    Leaving it keeps what came, durably, for the next intake of that digest, unless `finish` or `discard` was called.
    """

    def __init__(
        self,
        part: Path,
        *,
        sha256: str,
        size: int | None,
        keeps: bool,
        reserve: Callable[[int], None],
        closed: Callable[[], None],
    ) -> None:
        """`sha256` "": of unknown digest. `keeps`: what came without a `finish` is for a later intake.
        `reserve(octets)` is asked for room for the whole image and raises DiskError; `closed()` is told at the end."""
        self.sha256 = sha256
        self._ordered_size = size
        self.size = size
        """The octets that are expected; None where nobody has said."""
        self.note: dict[str, str] = {}
        """Of the source, for whoever resumes (an ETag, say): at most 4 KiB as JSON, no secrets, saved by `sync`."""
        self._part = part
        self._sidecar = part.with_suffix(SIDECAR)
        self._keeps = keeps
        self._reserve = reserve
        self._closed = closed
        self._spans: list[Span] = []
        self._saved: tuple[list[Span], dict[str, str]] = ([], {})
        """What the sidecar says; its spans survive a failed sync."""
        self._hash = hashlib.sha256()
        self._hashed = 0
        """So many octets from the beginning went into `_hash`."""
        self._reserve(size or 0)
        with disk_errors("receive an image"):
            self._resume()
            self._descriptor = os.open(part, _OPEN, 0o640)

    @property
    def spans(self) -> tuple[Span, ...]:
        """What is here and need not come again, in order, none touching another. What was not synced is lost by a
        power cut."""
        return tuple(self._spans)

    def expect(self, size: int) -> None:
        """The source says how many octets the image has. Raises SizeError (empty, or not what was ordered),
        DiskError (no room)."""
        if size <= 0:
            raise SizeError("the image is empty")
        if self.size not in (None, size):
            raise SizeError(f"the image has {size} octets, ordered were {self.size}")
        if self._spans and self._spans[-1][1] > size:
            raise SizeError(f"the image has {size} octets, but {self._spans[-1][1]} were here before")
        self._reserve(size)
        self.size = size

    def write(self, offset: int, data: bytes) -> None:
        """Keep `data` as the octets from `offset` on. Raises SizeError (beyond the size), DiskError (no room, disk
        damaged: what was written of it before is kept)."""
        end = offset + len(data)
        if self.size is not None and end > self.size:
            raise SizeError(f"the image is larger than the {self.size} octets that were ordered")
        self._reserve(self.size or end)
        if offset < self._hashed:
            self._hash, self._hashed = hashlib.sha256(), 0
        rest = memoryview(data)
        with disk_errors("store an image"):
            while rest:
                written = os.pwrite(self._descriptor, rest, end - len(rest))
                add_span(self._spans, end - len(rest), end - len(rest) + written)
                rest = rest[written:]
        if offset == self._hashed:
            self._hash.update(data)
            self._hashed = end

    def sync(self) -> None:
        """Make what came so far durable, then say so. Raises DiskError: then only what was durable before counts."""
        state = (list(self._spans), dict(self.note))
        if not self._keeps or state == self._saved:
            return
        note = state[1] if len(json.dumps(state[1])) <= _NOTE_LIMIT_BYTES else {}
        document = {"v": 1, "size": self.size, "spans": state[0], "note": note}
        self._sync_bytes()
        with disk_errors("store an image"):
            replace_durably(self._sidecar, json.dumps(document).encode())
        self._saved = state

    def finish(self) -> Image:
        """The image, durable under its name. Raises SizeError (octets are missing: what came is kept), DigestError
        (nobody knows which octets are wrong: nothing is kept), DiskError."""
        size = self._spans[0][1] if self._spans else 0
        if size == 0 and not self.size:
            raise SizeError("the image is empty")
        if self._spans != [(0, self.size or size)]:
            came = sum(end - start for start, end in self._spans)
            raise SizeError(f"{came} octets of the image came, expected were {self.size or 'all before'}")
        found = self._digest(size)
        if self.sha256 and found != self.sha256:
            self.discard()
            raise DigestError(f"the image has SHA-256 {found}, ordered was {self.sha256}")
        self._sync_bytes()
        directory = self._part.parent
        with disk_errors("store an image"):
            self._part.replace(directory / found)
            sync_directory(directory)
            self._sidecar.unlink(missing_ok=True)
        self.close()
        return Image(found, size)

    def begin_anew(self) -> None:
        """Forget what came, and what the source said of it; go on from nothing. Raises DiskError."""
        with disk_errors("begin an image anew"):
            forget(self._part)
            self._spans, self.note, self._saved = [], {}, ([], {})
            self._hash, self._hashed = hashlib.sha256(), 0
            # The old one only when there is a new one: its number may be somebody else's at once.
            descriptor = os.open(self._part, _OPEN, 0o640)
            os.close(self._descriptor)
            self._descriptor = descriptor
        self.size = self._ordered_size

    def discard(self) -> None:
        """Forget what came; nothing of it is found by a later intake. Raises DiskError."""
        try:
            with disk_errors("remove a part of an image"):
                forget(self._part)
        finally:
            self.close()

    def close(self) -> None:
        """End without another word: what was synced is kept. Safe to call twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            self._closed()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor < 0:
            return
        if not (self._keeps and self._spans):
            self.discard()
            return
        try:
            self.sync()
        except DiskError:
            if error is None:
                raise
        finally:
            self.close()

    # -- below ------------------------------------------------------------------------------------------------

    def _resume(self) -> None:
        """Go on with what is durable; begin anew where it cannot be of this image."""
        kept = read_sidecar(self._part)
        if kept is None or kept.end > (self.size or kept.end):
            forget(self._part)
            return
        self._spans, self.note = list(kept.spans), dict(kept.note)
        self._saved = (list(kept.spans), dict(kept.note))

    def _sync_bytes(self) -> None:
        try:
            with disk_errors("store an image"):
                os.fdatasync(self._descriptor)
        except DiskError:
            # The pages that could not be written may be marked as clean: a later sync would say nothing of them.
            self._spans = list(self._saved[0])
            raise

    def _digest(self, size: int) -> str:
        """SHA-256 of the first `size` octets: of what came in order it is known already."""
        digest, place = self._hash.copy(), self._hashed
        with disk_errors("read an image"):
            while place < size:
                piece = os.pread(self._descriptor, min(_READ_BYTES, size - place), place)
                if not piece:
                    break
                digest.update(piece)
                place += len(piece)
        return digest.hexdigest()


def read_sidecar(part: Path) -> Kept | None:
    """What is durable of `part`; None where nothing is known of it. Raises OSError."""
    try:
        document = json.loads(part.with_suffix(SIDECAR).read_bytes())
        size, spans, note = (
            document["size"],
            [(start, end) for start, end in document["spans"]],
            document["note"],
        )
        there = part.stat().st_size
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    places = [place for span in spans for place in span]
    sound = (
        (size is None or type(size) is int)
        and all(type(place) is int for place in places)
        and all(before < after for before, after in pairwise([-1, *places]))
        and (not places or places[-1] <= there)
        and isinstance(note, dict)
        and all(isinstance(text, str) for text in note.values())
    )
    return Kept(size, tuple(spans), note) if sound else None


def forget(part: Path) -> None:
    """Remove a part and what is known of it, in the order that leaves no sidecar with bytes of another part. Raises
    OSError."""
    sidecar = part.with_suffix(SIDECAR)
    if sidecar.exists():
        sidecar.unlink()
        sync_directory(part.parent)
    part.unlink(missing_ok=True)


def add_span(spans: list[Span], start: int, end: int) -> None:
    """Put [start, end) into `spans`, which stay in order, none touching another."""
    first = bisect_left(spans, start, key=lambda span: span[1])
    after = bisect_right(spans, end, key=lambda span: span[0])
    if first < after:
        start, end = min(start, spans[first][0]), max(end, spans[after - 1][1])
    spans[first:after] = [(start, end)]
