"""Images make room for others: what no open campaign needs goes, the least recently used first, and nothing else."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.box import Box, tmpfs

from gateway.errors import BusyError, DiskError, NotFoundError, StateError
from gateway.supply.images import PART_KEPT, ImageStore

SIZE = 10_000
A, B, C, D = (letter * SIZE for letter in (b"a", b"b", b"c", b"d"))
NOW = datetime(2026, 11, 22, tzinfo=UTC)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Shelf:
    """An image store with room for three, and what its campaigns need."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.needed: set[str] = set()
        self.images = ImageStore(directory, quota_bytes=3 * SIZE + 5000, needed=lambda: self.needed)

    def add(self, *contents: bytes) -> None:
        for age, content in enumerate(contents):
            self.images.add([content])
            self.use(content, NOW - timedelta(hours=len(contents) - age))

    def use(self, content: bytes, at: datetime) -> None:
        for path in self.directory.glob(f"{digest(content)}*"):
            os.utime(path, (at.timestamp(), at.timestamp()))

    def here(self) -> str:
        """Which there are, in the order of their letters."""
        names = {digest(content): content[:1].decode() for content in (A, B, C, D)}
        return "".join(sorted(names[one.sha256] for one in self.images.holdings()))


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "images")


def test_the_least_recently_used_image_makes_room(shelf: Shelf) -> None:
    shelf.add(A, B, C)
    shelf.images.add([D])
    assert shelf.here() == "bcd"


def test_an_image_that_was_ordered_again_is_not_the_least_recently_used(shelf: Shelf) -> None:
    shelf.add(A, B, C)
    shelf.images.check(digest(A))
    shelf.images.add([D])
    assert shelf.here() == "acd"


def test_what_an_open_campaign_needs_stays_however_old_it_is(shelf: Shelf) -> None:
    shelf.add(A, B, C)
    shelf.needed = {digest(A), digest(B)}
    shelf.images.add([D])
    assert shelf.here() == "abd"


def test_nothing_goes_where_it_would_not_be_enough(shelf: Shelf) -> None:
    shelf.add(A, B, C)
    shelf.needed = {digest(A), digest(B)}
    with pytest.raises(DiskError, match="the quota has 15000 for it"):
        shelf.images.intake("0" * 64, 2 * SIZE)
    assert shelf.here() == "abc"


def test_as_many_go_as_it_takes_and_no_more(shelf: Shelf) -> None:
    shelf.add(A, B, C)
    shelf.images.intake("0" * 64, 2 * SIZE).discard()
    assert shelf.here() == "c"


def test_a_smaller_quota_holds_from_the_next_image_on(shelf: Shelf) -> None:
    shelf.add(A, B, C)
    shelf.images.quota_bytes = SIZE
    assert shelf.here() == "abc"
    shelf.images.add([D])
    assert shelf.here() == "d"


def test_a_part_that_nobody_needs_makes_room_and_one_that_is_needed_does_not(shelf: Shelf) -> None:
    for content in (A, B):
        with shelf.images.intake(digest(content), SIZE) as intake:
            intake.write(0, content[:-1])
    shelf.add(C)
    for hours, content in enumerate((A, B)):
        shelf.use(content, NOW - timedelta(hours=9 - hours))
    shelf.needed = {digest(A)}
    shelf.images.add([D])
    assert shelf.here() == "acd"
    with shelf.images.intake(digest(A), SIZE) as intake:
        assert intake.spans == ((0, SIZE - 1),)


def test_what_is_being_received_does_not_make_room_for_another(shelf: Shelf) -> None:
    with shelf.images.intake(digest(A), SIZE) as intake:
        intake.write(0, A)
        shelf.add(B, C, D)
        assert "a" in shelf.here()
        intake.finish()


def test_old_parts_go_and_old_images_and_needed_parts_stay(shelf: Shelf) -> None:
    shelf.add(A)
    for content in (B, C, D):
        with shelf.images.intake(digest(content), SIZE) as intake:
            intake.write(0, content[:1])
    shelf.use(A, NOW - 9 * PART_KEPT)
    shelf.use(B, NOW - PART_KEPT - timedelta(minutes=1))
    shelf.use(C, NOW - PART_KEPT + timedelta(minutes=1))
    shelf.use(D, NOW - PART_KEPT - timedelta(minutes=1))
    shelf.needed = {digest(D)}
    shelf.images.forget_old_parts(NOW)
    assert shelf.here() == "acd"


def test_an_image_is_removed_unless_somebody_needs_it(shelf: Shelf) -> None:
    shelf.add(A, B)
    shelf.needed = {digest(A)}
    with pytest.raises(StateError, match="an open campaign needs"):
        shelf.images.remove(digest(A))
    shelf.images.remove(digest(B))
    with pytest.raises(NotFoundError):
        shelf.images.remove(digest(B))
    with shelf.images.intake(digest(C), SIZE) as intake:
        intake.write(0, C[:1])
        with pytest.raises(BusyError):
            shelf.images.remove(digest(C))
    shelf.images.remove(digest(C))
    assert shelf.here() == "a"
    assert [path.name for path in shelf.directory.iterdir()] == [digest(A)]


def test_holdings_tell_how_much_of_an_image_is_here(shelf: Shelf) -> None:
    shelf.add(A)
    with shelf.images.intake(digest(B), SIZE) as intake:
        intake.write(100, B[:1000])
        intake.write(5000, B[:1000])
    with shelf.images.intake(digest(C), None) as intake:
        intake.write(0, C)
    told = {one.sha256: (one.size, one.here, one.complete) for one in shelf.images.holdings()}
    assert told == {
        digest(A): (SIZE, SIZE, True),
        digest(B): (SIZE, 2000, False),
        digest(C): (None, SIZE, False),
    }
    assert [image.sha256 for image in shelf.images.list()] == [digest(A)]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for 768 KiB of images."""
    there = Box(tmpfs(tmp_path / "disk", "1m"))
    yield there.path(tmp_path / "disk")
    there.close()


def test_images_leave_free_what_the_rest_of_the_disk_needs(disk: Path) -> None:
    images = ImageStore(disk / "images", quota_bytes=2**30)
    images.add([A])
    with pytest.raises(DiskError, match="beside what it has to spare the disk has 7"):
        images.intake("0" * 64, 2**20)
    assert images.check(digest(A)), "it would not have been enough"

    images.intake("0" * 64, 3 * 2**18 - 4096).discard()
    assert images.holdings() == ()


def test_nor_does_an_image_of_unknown_size_take_it(disk: Path) -> None:
    images = ImageStore(disk / "images", quota_bytes=2**30)
    chunk = bytes(64 * 1024)
    with pytest.raises(DiskError, match="to spare"):
        images.add(chunk for _ in range(100))
    assert images.holdings() == ()
    room = os.statvfs(disk)
    assert room.f_bavail * room.f_frsize >= 2**18
