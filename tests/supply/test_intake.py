"""What came of an image is kept for the next attempt, whatever ended the last one, and nothing else is."""

from __future__ import annotations

import hashlib
import os
import random
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BusyError, DigestError, DiskError, SizeError
from gateway.model import Image
from gateway.supply.images import ImageStore
from gateway.supply.intake import Span, add_span

CONTENT = hashlib.shake_128(b"an image that comes piece by piece").digest(100_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
IMAGE = Image(SHA256, len(CONTENT))
OTHER_SHA256 = hashlib.sha256(b"another").hexdigest()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "images"


@pytest.fixture
def images(directory: Path) -> ImageStore:
    return ImageStore(directory, quota_bytes=1_000_000)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def receive(images: ImageStore, start: int, end: int, *, etag: str = "") -> None:
    with images.intake(SHA256, len(CONTENT)) as intake:
        intake.write(start, CONTENT[start:end])
        if etag:
            intake.note["etag"] = etag


def test_an_image_that_comes_in_order_is_stored(images: ImageStore, directory: Path) -> None:
    with images.intake(SHA256, len(CONTENT)) as intake:
        for place in range(0, len(CONTENT), 4096):
            intake.write(place, CONTENT[place : place + 4096])
            intake.sync()
        assert intake.finish() == IMAGE
    assert names(directory) == [SHA256]
    assert images.read(SHA256) == CONTENT


def test_blocks_may_come_in_any_order_and_more_than_once(images: ImageStore) -> None:
    blocks = [*range(0, len(CONTENT), 1000)] * 2
    random.Random(7).shuffle(blocks)
    with images.intake(SHA256, None) as intake:
        for place in blocks:
            intake.write(place, CONTENT[place : place + 1000])
        assert intake.spans == ((0, len(CONTENT)),)
        assert intake.finish() == IMAGE
    assert images.read(SHA256) == CONTENT


def test_a_later_attempt_goes_on_where_the_last_one_ended_even_after_a_restart(
    images: ImageStore, directory: Path
) -> None:
    receive(images, 0, 30_000, etag='"abc"')
    receive(images, 50_000, 60_000)

    reopened = ImageStore(directory, quota_bytes=1_000_000)
    assert reopened.list() == ()
    with reopened.intake(SHA256, len(CONTENT)) as intake:
        assert intake.spans == ((0, 30_000), (50_000, 60_000))
        assert intake.note == {"etag": '"abc"'}
        intake.write(30_000, CONTENT[30_000:50_000])
        intake.write(60_000, CONTENT[60_000:])
        assert intake.finish() == IMAGE
    assert names(directory) == [SHA256]
    assert reopened.read(SHA256) == CONTENT


def test_what_came_before_a_source_failed_is_kept(images: ImageStore) -> None:
    def broken() -> None:
        with images.intake(SHA256, len(CONTENT)) as intake:
            intake.write(0, CONTENT[:10])
            raise ConnectionError

    with pytest.raises(ConnectionError):
        broken()
    with images.intake(SHA256, len(CONTENT)) as intake:
        assert intake.spans == ((0, 10),)


def test_what_was_not_synced_when_the_process_was_killed_comes_again(
    images: ImageStore, directory: Path
) -> None:
    child = os.fork()
    if child == 0:
        intake = images.intake(SHA256, len(CONTENT))
        intake.write(0, CONTENT[:1000])
        intake.sync()
        intake.write(1000, CONTENT[1000:2000])
        os._exit(0)
    os.waitpid(child, 0)
    with ImageStore(directory, quota_bytes=1_000_000).intake(SHA256, None) as intake:
        assert intake.spans == ((0, 1000),)


def test_a_source_that_changed_its_mind_begins_anew(images: ImageStore, directory: Path) -> None:
    receive(images, 0, 30_000, etag='"old"')
    images.intake(SHA256, len(CONTENT)).discard()
    assert names(directory) == []
    with images.intake(SHA256, len(CONTENT)) as intake:
        assert (intake.spans, intake.note) == ((), {})


def test_octets_that_are_missing_are_told_and_the_others_kept(images: ImageStore) -> None:
    with images.intake(SHA256, len(CONTENT)) as intake:
        intake.write(1, CONTENT[1:])
        with pytest.raises(SizeError, match="99999 octets of the image came, expected were 100000"):
            intake.finish()
    with images.intake(SHA256, None) as intake, pytest.raises(SizeError, match="all before"):
        intake.finish()
    with images.intake(SHA256, None) as intake:
        assert intake.spans == ((1, len(CONTENT)),)


def test_one_wrong_bit_discards_all_since_nobody_knows_which(images: ImageStore, directory: Path) -> None:
    with images.intake(SHA256, len(CONTENT)) as intake:
        intake.write(0, CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))
        with pytest.raises(DigestError):
            intake.finish()
    assert names(directory) == []


def test_octets_that_are_written_over_count_as_they_are_now(images: ImageStore) -> None:
    with images.intake(SHA256, len(CONTENT)) as intake:
        intake.write(0, CONTENT)
        intake.write(500, bytes(10))
        with pytest.raises(DigestError):
            intake.finish()


@pytest.mark.parametrize("size", [len(CONTENT), None], ids=["size ordered", "size unknown"])
def test_an_empty_image_is_none(images: ImageStore, size: int | None) -> None:
    with images.intake(SHA256, size) as intake, pytest.raises(SizeError, match=r"is empty|0 octets"):
        intake.finish()
    with images.intake(SHA256, size) as intake, pytest.raises(SizeError, match="is empty"):
        intake.expect(0)


def test_a_source_may_not_give_more_than_was_ordered_or_than_it_said(images: ImageStore) -> None:
    with images.intake(SHA256, 1000) as intake:
        with pytest.raises(SizeError, match="ordered were 1000"):
            intake.expect(1001)
        with pytest.raises(SizeError, match="larger than the 1000"):
            intake.write(999, b"xx")
        assert intake.spans == ()
    with images.intake(SHA256, None) as intake:
        intake.write(0, CONTENT[:500])
        with pytest.raises(SizeError, match="500 were here before"):
            intake.expect(499)
        intake.expect(501)
        with pytest.raises(SizeError, match="larger than the 501"):
            intake.write(500, b"xx")


def test_an_order_of_a_smaller_image_does_not_go_on_with_what_cannot_be_of_it(images: ImageStore) -> None:
    receive(images, 0, 30_000)
    with images.intake(SHA256, 20_000) as intake:
        assert intake.spans == ()


def test_two_cannot_receive_the_same_image_at_once_and_others_can(images: ImageStore) -> None:
    with images.intake(SHA256, None) as intake:
        with pytest.raises(BusyError):
            images.intake(SHA256, None)
        with images.intake(OTHER_SHA256, None) as other:
            other.write(0, b"another")
            other.finish()
        assert images.add([CONTENT]) == IMAGE, "an operator who brings the file does not wait for a slow line"
        intake.write(0, CONTENT)
        intake.finish()
    images.intake(SHA256, None).close()


def test_room_is_kept_for_all_of_an_image_from_its_beginning(images: ImageStore) -> None:
    images.quota_bytes = 150_000
    with images.intake(SHA256, len(CONTENT)) as intake:
        with pytest.raises(DiskError, match="the quota has 50000 for it"):
            images.intake(OTHER_SHA256, 60_000)
        with images.intake(OTHER_SHA256, None) as other:
            other.write(0, bytes(40_000))
            with pytest.raises(DiskError, match="no room"):
                other.expect(60_000)
        intake.write(0, CONTENT)
        intake.finish()


@pytest.mark.parametrize(
    "sidecar",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"v":1,"size":null,"spans":[[0,10]]}',
        b'{"v":1,"size":null,"spans":[[0,10],[10,20]],"note":{}}',
        b'{"v":1,"size":null,"spans":[[10,5]],"note":{}}',
        b'{"v":1,"size":null,"spans":[[-5,5]],"note":{}}',
        b'{"v":1,"size":null,"spans":[[0,true]],"note":{}}',
        b'{"v":1,"size":null,"spans":[[0,31000]],"note":{}}',
        b'{"v":1,"size":"1","spans":[[0,10]],"note":{}}',
        b'{"v":1,"size":null,"spans":[[0,10]],"note":{"etag":1}}',
    ],
)
def test_a_sidecar_that_makes_no_sense_is_as_good_as_none(
    images: ImageStore, directory: Path, sidecar: bytes
) -> None:
    receive(images, 0, 30_000)
    (directory / f"{SHA256}.json").write_bytes(sidecar)
    with images.intake(SHA256, None) as intake:
        assert intake.spans == ()
    (directory / f"{SHA256}.json").write_bytes(sidecar)
    ImageStore(directory, quota_bytes=1_000_000)
    assert names(directory) == []


def test_a_start_removes_what_nobody_can_go_on_with_and_keeps_the_rest(
    images: ImageStore, directory: Path
) -> None:
    receive(images, 0, 30_000)
    images.add([b"another"])
    for name in (f"{OTHER_SHA256}.json", f"{'0' * 64}.part", f"{SHA256}.json.new", ".incoming-x.part"):
        (directory / name).write_bytes(b"{}")
    ImageStore(directory, quota_bytes=1_000_000)
    assert names(directory) == sorted([OTHER_SHA256, f"{SHA256}.json", f"{SHA256}.part"])


def test_what_the_disk_refused_to_sync_is_not_believed(
    images: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with images.intake(SHA256, len(CONTENT)) as intake:
        intake.write(0, CONTENT[:1000])
        intake.sync()
        intake.write(1000, CONTENT[1000:])
        with monkeypatch.context() as disk:

            def fails(descriptor: int) -> None:
                raise OSError(5, "Input/output error")

            disk.setattr(os, "fdatasync", fails)
            with pytest.raises(DiskError, match="Input/output error"):
                intake.sync()
        assert intake.spans == ((0, 1000),)
        with pytest.raises(SizeError):
            intake.finish()


def test_a_note_of_any_length_does_not_keep_a_part_from_being_saved(images: ImageStore) -> None:
    receive(images, 0, 10, etag="x" * 5000)
    with images.intake(SHA256, None) as intake:
        assert (intake.spans, intake.note) == (((0, 10),), {})


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 12)), max_size=40))
def test_spans_are_the_octets_that_came(pieces: list[tuple[int, int]]) -> None:
    spans: list[Span] = []
    came: set[int] = set()
    for start, length in pieces:
        add_span(spans, start, start + length)
        came |= {*range(start, start + length)}
    assert [octet for start, end in spans for octet in range(start, end)] == sorted(came)
    assert all(before[1] < after[0] for before, after in pairwise(spans))


def test_an_intake_that_cannot_begin_anew_closes_no_file_of_anybody_else(
    images: ImageStore, directory: Path
) -> None:
    with images.intake(SHA256, len(CONTENT)) as intake:
        intake.write(0, CONTENT[:1000])
        directory.rename(directory.with_name("gone"))
        with pytest.raises(DiskError):
            intake.begin_anew()
        others = [os.open(os.devnull, os.O_RDONLY) for _ in range(8)]
    for descriptor in others:
        os.close(descriptor)
