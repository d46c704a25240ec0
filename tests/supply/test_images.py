"""The image store keeps only bytes that are what was ordered, and survives a power cut at any moment."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.patience import PATIENCE_S

from gateway.errors import DigestError, DiskError, GatewayError, NetError, NotFoundError, SizeError
from gateway.model import Image
from gateway.supply.images import HOLDINGS_LIMIT, ImageStore

CONTENT = bytes(range(256)) * 300
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "images"


@pytest.fixture
def images(directory: Path) -> ImageStore:
    return ImageStore(directory, quota_bytes=1_000_000)


def in_pieces(content: bytes, size: int = 4096) -> Iterator[bytes]:
    return (content[start : start + size] for start in range(0, len(content), size))


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_an_image_comes_back_as_it_was_added_even_after_a_restart(
    images: ImageStore, directory: Path
) -> None:
    added = images.add(in_pieces(CONTENT), expect_sha256=SHA256, expect_size=len(CONTENT))

    assert added == Image(SHA256, len(CONTENT))
    reopened = ImageStore(directory, quota_bytes=1_000_000)
    assert reopened.has(SHA256) == added
    assert reopened.list() == (added,)
    assert reopened.read(SHA256) == CONTENT


def test_an_image_of_unknown_digest_is_named_by_what_came(images: ImageStore) -> None:
    assert images.add([CONTENT]).sha256 == SHA256


def test_the_same_image_added_twice_is_stored_once(images: ImageStore, directory: Path) -> None:
    images.add([CONTENT])
    images.add([CONTENT])
    assert names(directory) == [SHA256]


@pytest.mark.parametrize(
    ("content", "expect", "error"),
    [
        (CONTENT[:-1], {"expect_size": len(CONTENT)}, SizeError),
        (CONTENT + b"x", {"expect_size": len(CONTENT)}, SizeError),
        (b"", {}, SizeError),
        (CONTENT[::-1], {"expect_size": len(CONTENT), "expect_sha256": SHA256}, DigestError),
        (CONTENT, {"expect_sha256": SHA256.upper()}, DigestError),
        (CONTENT * 20, {}, DiskError),
    ],
    ids=["short", "long", "empty", "other bytes", "digest in capitals", "above the quota"],
)
def test_what_was_not_ordered_is_refused_and_leaves_nothing(
    images: ImageStore, directory: Path, content: bytes, expect: dict[str, object], error: type[GatewayError]
) -> None:
    with pytest.raises(error):
        images.add(in_pieces(content), **expect)  # type: ignore[arg-type]
    assert names(directory) == []


def test_an_endless_body_is_cut_off_at_the_ordered_size(images: ImageStore) -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1000
            yield bytes(1000)

    with pytest.raises(SizeError):
        images.add(endless(), expect_size=5000)
    assert taken == 6000


def test_an_ordered_size_above_the_free_quota_is_refused_before_the_first_byte(images: ImageStore) -> None:
    untouched = iter(lambda: pytest.fail("the source was read"), b"")
    with pytest.raises(DiskError, match="1000001 octets"):
        images.add(untouched, expect_size=1_000_001)


@pytest.mark.parametrize("size", [None, len(CONTENT)], ids=["size unknown", "size known"])
def test_a_quota_without_room_for_one_image_is_told(directory: Path, size: int | None) -> None:
    images = ImageStore(directory, quota_bytes=len(CONTENT) - 1)
    with pytest.raises(DiskError, match="the quota has 76799 for it"):
        images.add([CONTENT], expect_size=size)
    assert names(directory) == []


def test_a_crowd_of_tiny_images_and_parts_is_bounded_whatever_the_quota_says(directory: Path) -> None:
    """The quota counts octets; files cost the disk more than that, and each look at them costs time."""
    needed = {hashlib.sha256(b"0").hexdigest()}
    images = ImageStore(directory, quota_bytes=1_000_000, needed=lambda: needed)
    for number in range(HOLDINGS_LIMIT + 20):
        content = str(number).encode()
        if number % 2:
            with images.intake(hashlib.sha256(content).hexdigest(), 100) as intake:
                intake.write(0, content)
        else:
            images.add([content])
    kept = {one.sha256 for one in images.holdings()}
    assert len(kept) == HOLDINGS_LIMIT
    assert needed < kept
    assert hashlib.sha256(str(HOLDINGS_LIMIT + 19).encode()).hexdigest() in kept


def test_two_that_come_at_once_do_not_overrun_the_quota_together(directory: Path) -> None:
    wanted = [hashlib.sha256(fill * 100_000).hexdigest() for fill in (b"a", b"b")]
    images = ImageStore(directory, quota_bytes=150_000, needed=lambda: wanted)
    both_half_way = threading.Barrier(2)
    outcomes: list[object] = []

    def feed(fill: bytes) -> Iterator[bytes]:
        yield fill * 50_000
        both_half_way.wait(PATIENCE_S)
        yield fill * 50_000

    def add(fill: bytes) -> None:
        try:
            outcomes.append(images.add(feed(fill)))
        except DiskError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=add, args=(fill,)) for fill in (b"a", b"b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    stored = [outcome for outcome in outcomes if isinstance(outcome, Image)]
    assert len(outcomes) == 2
    assert len(stored) <= 1
    assert sum(path.stat().st_size for path in directory.iterdir()) <= 150_000


def test_a_source_that_fails_half_way_leaves_nothing_and_its_error_is_kept(
    images: ImageStore, directory: Path
) -> None:
    def broken() -> Iterator[bytes]:
        yield CONTENT[:1000]
        raise NetError("the connection was lost")

    with pytest.raises(NetError, match="connection was lost"):
        images.add(broken(), expect_size=len(CONTENT))
    assert names(directory) == []


def test_what_a_power_cut_left_half_written_is_gone_after_the_next_start(directory: Path) -> None:
    images = ImageStore(directory, quota_bytes=1_000_000)
    child = os.fork()
    if child == 0:  # the gateway that loses power in the middle of an image

        def cut() -> Iterator[bytes]:
            yield CONTENT
            os._exit(0)

        images.add(cut())
    os.waitpid(child, 0)
    assert len(names(directory)) == 1

    reopened = ImageStore(directory, quota_bytes=1_000_000)
    assert names(directory) == []
    assert reopened.list() == ()


def test_a_file_damaged_on_disk_is_never_handed_out_and_can_be_had_again(
    images: ImageStore, directory: Path
) -> None:
    images.add([CONTENT])
    (directory / SHA256).write_bytes(CONTENT[:-1] + b"\x55")

    with pytest.raises(DigestError, match="damaged"):
        images.read(SHA256)
    assert images.has(SHA256) is None
    images.add([CONTENT], expect_sha256=SHA256)
    assert images.read(SHA256) == CONTENT


@pytest.mark.parametrize("name", ["../../etc/passwd", "", SHA256.upper(), SHA256 + "\n", "0" * 64])
def test_a_name_that_is_no_stored_digest_is_not_found(images: ImageStore, directory: Path, name: str) -> None:
    (directory / "README").write_text("not an image")
    assert images.has(name) is None
    with pytest.raises(NotFoundError):
        images.read(name)
    with pytest.raises(NotFoundError):
        images.remove(name)
    assert images.list() == ()


def test_a_place_that_is_no_directory_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="cannot open the image store"):
        ImageStore(tmp_path / "file", quota_bytes=1)


def test_a_full_disk_is_a_disk_error_and_leaves_nothing(
    images: ImageStore, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fdatasync", no_space)
    with pytest.raises(DiskError, match="No space left") as raised:
        images.add([CONTENT])
    assert raised.value.detail == "errno 28"
    assert names(directory) == []


@settings(max_examples=50)
@given(pieces=st.lists(st.binary(max_size=300), max_size=12))
def test_any_chunking_stores_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]
) -> None:
    images = ImageStore(tmp_path_factory.mktemp("images"), quota_bytes=10_000)
    content = b"".join(pieces)
    if not content:
        with pytest.raises(SizeError):
            images.add(pieces)
        return
    image = images.add(pieces, expect_sha256=hashlib.sha256(content).hexdigest(), expect_size=len(content))
    assert images.read(image.sha256) == content
