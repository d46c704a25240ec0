"""A disk that something else fills to its last page at any moment of an intake: the code says so, what was good is
kept, and with room again the next attempt ends well. A real file system, really full."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.box import Box, fill, tmpfs

from gateway.errors import Code, DiskError
from gateway.model import Image
from gateway.supply.images import ImageStore

PAGE_BYTES = 4096
CONTENT = hashlib.shake_128(b"an image for a disk that fills up").digest(10 * PAGE_BYTES + 7)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PIECE_BYTES = 3000
CALLS = ("pwrite", "fdatasync", "fsync", "replace", "open", "unlink")


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("full") / "disk"
    there = Box(tmpfs(directory, "512k"))
    yield there.path(directory)
    there.close()


class Filler:
    """Fills the disk right before one of the calls that the image store makes to the system."""

    def __init__(self, disk: Path, moment: int, pages_left: int) -> None:
        self.disk = disk
        self.moment = moment
        self.pages_left = pages_left
        self.calls = 0

    def watch(self, system: pytest.MonkeyPatch) -> None:
        for name in CALLS:
            system.setattr(os, name, self.before(getattr(os, name)))

    def before(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **named: Any) -> Any:
            self.calls += 1
            if self.calls == self.moment:
                self.fill()
            return call(*args, **named)

        return called

    def fill(self) -> None:
        self.moment = 0
        filler = fill(self.disk)
        os.truncate(filler, filler.stat().st_size // PAGE_BYTES * PAGE_BYTES - self.pages_left * PAGE_BYTES)


def receive(images: ImageStore, synced: list[tuple[int, int]]) -> Image:
    """What is missing, in pieces; `synced` hears what became durable."""
    with images.intake(SHA256, len(CONTENT)) as intake:
        place = intake.spans[0][1] if intake.spans else 0
        while place < len(CONTENT):
            piece = CONTENT[place : place + PIECE_BYTES]
            intake.write(place, piece)
            place += len(piece)
            if place // PIECE_BYTES % 4 == 0:
                intake.sync()
                synced[:] = intake.spans
        return intake.finish()


def error_of(act: Callable[[], object]) -> DiskError | None:
    try:
        act()
    except DiskError as error:
        return error
    return None


def told(error: DiskError | None) -> str:
    """What the attempt ended with: "stored", "no room" before anything was written, or the errno of the system."""
    if error is None:
        return "stored"
    assert error.code is Code.F_DISK
    assert error.retryable
    return error.detail or "no room"


def attempt(disk: Path, filler: Filler, monkeypatch: pytest.MonkeyPatch) -> str:
    """One intake on a disk that fills up at that moment, and the next one when there is room again."""
    directory = disk / "images"
    synced: list[tuple[int, int]] = []
    images = ImageStore(directory, quota_bytes=2**20)
    with monkeypatch.context() as system:
        filler.watch(system)
        outcome = told(error_of(lambda: receive(images, synced)))
    (disk / "filler").unlink(missing_ok=True)
    images = ImageStore(directory, quota_bytes=2**20)
    assert (outcome == "stored") <= (images.has(SHA256) is not None)
    if images.has(SHA256) is None:
        with images.intake(SHA256, len(CONTENT)) as intake:
            assert not synced or intake.spans[0][1] >= synced[0][1]
        assert receive(images, []) == Image(SHA256, len(CONTENT))
    assert images.read(SHA256) == CONTENT
    assert [path.name for path in directory.iterdir()] == [SHA256]
    images.remove(SHA256)
    return outcome


def test_a_disk_that_fills_up_at_any_moment_costs_no_more_than_that_attempt(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = Filler(disk, 0, 0)
    assert attempt(disk, never, monkeypatch) == "stored"
    outcomes = {
        attempt(disk, Filler(disk, moment, pages_left), monkeypatch)
        for moment in range(1, never.calls + 1)
        for pages_left in range(3)
    }
    assert outcomes == {"stored", "no room", f"errno {errno.ENOSPC}"}


def test_a_file_that_is_handed_over_is_stored_whole_or_not_at_all(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = ImageStore(disk / "images", quota_bytes=2**20)
    outcomes = set()
    for moment in range(1, 12):
        with monkeypatch.context() as system:
            Filler(disk, moment, 1).watch(system)
            error = error_of(lambda: images.add([CONTENT[:20_000], CONTENT[20_000:]], expect_sha256=SHA256))
        outcomes.add(told(error))
        assert [image.sha256 for image in images.list()] == ([] if error else [SHA256])
        (disk / "filler").unlink(missing_ok=True)
        if error is None:
            images.remove(SHA256)
        assert images.holdings() == ()
    assert len(outcomes) > 1
