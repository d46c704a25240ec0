"""Whatever state a power cut leaves of the image store, at any moment and with any torn last write: an image is whole
or not there, what an intake says of its octets is true, what was synced is kept, and the next attempt ends well."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support.desk import memory_directory
from support.disk import KINDS, Cut, Disk
from support.disk_watch import recorded

from gateway.model import Image
from gateway.supply.images import ImageStore
from gateway.supply.intake import PART, Intake

CONTENT = hashlib.shake_128(b"the image that was ordered").digest(6000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
WRONG = hashlib.shake_128(b"what the server had before").digest(6000)
OTHER = hashlib.shake_128(b"an image from a file").digest(2500)
OTHER_SHA256 = hashlib.sha256(OTHER).hexdigest()


@pytest.fixture
def base() -> Iterator[Path]:
    with memory_directory() as directory:
        yield directory


def opened(directory: Path) -> ImageStore:
    return ImageStore(directory, quota_bytes=100_000)


@dataclass
class Story:
    """What was done, and from which moment on what may be relied upon."""

    disk: Disk
    images: ImageStore
    etag: str = '"old"'
    source: bytes = WRONG
    kept: list[tuple[int, str, set[int]]] = field(default_factory=list)
    """Moment, ETag and octets of each sync."""
    forgotten: list[int] = field(default_factory=list)
    """The moments in which a part began to go."""
    stored: dict[str, int] = field(default_factory=dict)
    """Images, and the moment in which each was said to be stored."""
    removed: list[int] = field(default_factory=list)

    def receive(self, *places: tuple[int, int]) -> None:
        with self.images.intake(SHA256, len(CONTENT)) as intake:
            for start, end in places:
                intake.write(start, self.source[start:end])
                intake.note["etag"] = self.etag
                intake.sync()
                self.kept.append((self.disk.now, self.etag, octets(intake)))

    def change_source(self) -> None:
        self.forgotten.append(self.disk.now)
        self.images.intake(SHA256, None).discard()
        self.etag, self.source = '"new"', CONTENT

    def finish(self) -> None:
        with self.images.intake(SHA256, len(CONTENT)) as intake:
            for start in range(0, len(CONTENT), 2000):
                intake.write(start, CONTENT[start : start + 2000])
            self.forgotten.append(self.disk.now)
            intake.finish()
            self.stored[SHA256] = self.disk.now

    def add(self) -> None:
        self.images.add([OTHER[:1000], OTHER[1000:]], expect_sha256=OTHER_SHA256)
        self.stored[OTHER_SHA256] = self.disk.now

    def remove(self) -> None:
        self.removed.append(self.disk.now)
        self.images.remove(OTHER_SHA256)


def octets(intake: Intake) -> set[int]:
    return {octet for start, end in intake.spans for octet in range(start, end)}


def test_every_state_that_a_power_cut_can_leave_is_one_to_go_on_from(base: Path) -> None:
    directory = base / "images"
    directory.mkdir()
    with recorded(directory) as disk:
        story = Story(disk, opened(directory))
        story.receive((0, 1500), (4000, 5000))
        story.change_source()
        story.receive((0, 700), (700, 3000))
        story.add()
        story.images = opened(directory)
        story.receive((3000, 5500))
        story.finish()
        story.remove()
    assert disk.now > 40
    for after in range(disk.now + 1):
        for number, (data, names) in enumerate(KINDS):
            cut = Cut(after, data, names, seed=after * len(KINDS) + number)
            disk.leave(cut, base / "left")
            check(story, cut, base / "left")
            shutil.rmtree(base / "left")


def check(story: Story, cut: Cut, directory: Path) -> None:
    images = opened(directory)
    for image in images.list():
        assert images.read(image.sha256) in {CONTENT, OTHER}, cut
    for sha256, moment in story.stored.items():
        gone = sha256 == OTHER_SHA256 and story.removed[0] < cut.after
        assert cut.after < moment or gone or images.has(sha256), cut
    if images.has(SHA256) is None:
        go_on(story, cut, images, directory)
    assert images.read(SHA256) == CONTENT, cut


def go_on(story: Story, cut: Cut, images: ImageStore, directory: Path) -> None:
    with images.intake(SHA256, len(CONTENT)) as intake:
        here = octets(intake)
        source = WRONG if intake.note.get("etag") == '"old"' else CONTENT
        part = (directory / f"{SHA256}{PART}").read_bytes()
        for start, end in intake.spans:
            assert part[start:end] == source[start:end], cut
        past = [kept for kept in story.kept if kept[0] <= cut.after]
        if past and not any(past[-1][0] <= moment < cut.after for moment in story.forgotten):
            assert here >= past[-1][2], cut
        if source is WRONG and here:
            intake.discard()
    with images.intake(SHA256, len(CONTENT)) as intake:
        for octet_range in missing(intake):
            intake.write(octet_range.start, CONTENT[octet_range.start : octet_range.stop])
        assert intake.finish() == Image(SHA256, len(CONTENT)), cut
    names = {path.name for path in directory.iterdir()}
    assert names <= {SHA256, OTHER_SHA256}, cut


def missing(intake: Intake) -> Iterator[range]:
    """What has to come yet."""
    place = 0
    for start, end in (*intake.spans, (len(CONTENT), len(CONTENT))):
        if place < start:
            yield range(place, start)
        place = end
