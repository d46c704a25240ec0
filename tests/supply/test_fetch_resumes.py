"""An image that comes in pieces: what was good is not fetched again, and nothing of another version comes beside it."""

from __future__ import annotations

import hashlib
import itertools
import random
from pathlib import Path

import pytest
from support import http_server as server_does
from support.fetching import Watching, parts_kept
from support.http_server import Behaviour, Exchange, ImageServer

from gateway.errors import DigestError, FirmwareError, HttpError, NetError
from gateway.model import FirmwareSettings, Image, Trust
from gateway.supply.answer import RangeError
from gateway.supply.fetch import fetch
from gateway.supply.finish import DoubtfulDigestError
from gateway.supply.images import ImageStore
from gateway.supply.intake import PART, read_sidecar
from gateway.supply.source import Wanted

CONTENT = hashlib.shake_128(b"firmware").digest(200_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
IMAGE = Image(SHA256, len(CONTENT))
LOOPBACK = FirmwareSettings(trust=Trust.DIGEST)
OTHER = bytes(len(CONTENT))
CUT = server_does.cut_after(50_000)


@pytest.fixture
def images(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images", quota_bytes=1_000_000)


def get(server: ImageServer, images: ImageStore, *, url: str = "", size: int | None = len(CONTENT)) -> Image:
    return fetch(Wanted(url or server.url, SHA256, size), images, settings=LOOPBACK, watch=Watching())


def fail(
    server: ImageServer, images: ImageStore, error: type[FirmwareError], *, size: int | None = len(CONTENT)
) -> None:
    with pytest.raises(error):
        get(server, images, size=size)


def ranges(server: ImageServer) -> list[str | None]:
    return [fields.get("Range") for _, fields in server.requests]


@pytest.mark.parametrize("size", [len(CONTENT), None], ids=["size ordered", "size unknown"])
def test_an_image_that_was_cut_off_goes_on_where_it_was(images: ImageStore, size: int | None) -> None:
    with ImageServer(CONTENT, CUT, CUT, server_does.ranged) as server:
        fail(server, images, NetError, size=size)
        fail(server, images, NetError, size=size)
        assert get(server, images, size=size) == IMAGE
    assert images.read(SHA256) == CONTENT
    assert ranges(server) == [None, "bytes=50000-", "bytes=100000-"]
    assert [fields.get("If-Range") for _, fields in server.requests] == [None, server.etag, server.etag]
    assert server.body_octets == len(CONTENT)


def test_it_goes_on_after_a_restart(images: ImageStore, tmp_path: Path) -> None:
    with ImageServer(CONTENT, CUT, server_does.ranged) as server:
        fail(server, images, NetError)
        assert get(server, ImageStore(tmp_path / "images", quota_bytes=1_000_000)) == IMAGE
    assert server.body_octets == len(CONTENT)


def test_what_came_is_durable_while_more_is_coming(
    images: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a fetch that takes hours no power cut takes more than the last seconds."""
    monkeypatch.setattr("gateway.supply.fetch._SYNC_EVERY_S", 0.0)
    durable: list[int] = []

    class Looking(Watching):
        def came(self, octets: int, done: int, total: int | None) -> None:
            kept = read_sidecar(tmp_path / "images" / f"{SHA256}{PART}")
            durable.append(kept.end if kept else 0)
            super().came(octets, done, total)

    looking = Looking()
    with ImageServer(CONTENT, server_does.ranged) as server:
        fetch(Wanted(server.url, SHA256, None), images, settings=LOOPBACK, watch=looking)
    # Looked at before a piece was synced: what had come until then.
    assert durable == [done - octets for octets, done, _ in looking.told]
    assert durable[-1] > 0


def test_whoever_watches_sees_how_far_it_is(images: ImageStore) -> None:
    watching = Watching()
    with ImageServer(CONTENT, CUT, server_does.ranged) as server:
        fail(server, images, NetError)
        fetch(Wanted(server.url, SHA256, None), images, settings=LOOPBACK, watch=watching)
    assert sum(octets for octets, _, _ in watching.told) == 150_000
    places = [done for _, done, _ in watching.told]
    assert places == sorted(places) and places[0] > 50_000 and places[-1] == 200_000
    assert {total for _, _, total in watching.told} == {200_000}


def test_a_link_that_is_cut_at_random_costs_next_to_nothing(images: ImageStore) -> None:
    chance = random.Random("cuts")
    cuts = [server_does.cut_after(chance.randrange(20_000)) for _ in range(10)]
    with ImageServer(CONTENT, *cuts, server_does.ranged) as server:
        for _ in itertools.takewhile(lambda _: server.behaviours[1:], itertools.count()):
            fail(server, images, NetError)
        assert get(server, images) == IMAGE
    assert server.body_octets <= 1.05 * len(CONTENT)


def test_all_that_was_missing_was_the_end_of_the_answer(images: ImageStore) -> None:
    """It was cut after the last octet: nothing is fetched again."""
    with ImageServer(CONTENT, server_does.length_too_long, server_does.ranged) as server:
        fail(server, images, NetError, size=None)
        assert get(server, images, size=None) == IMAGE
    assert server.body_octets == len(CONTENT)


def test_a_server_may_give_it_part_by_part(images: ImageStore) -> None:
    with ImageServer(CONTENT, *[server_does.part_by_part(60_000)] * 4) as server:
        fail(server, images, NetError)
        assert get(server, images) == IMAGE
    assert ranges(server) == [None, "bytes=60000-", "bytes=120000-", "bytes=180000-"]


def test_a_server_that_gives_it_in_endlessly_many_parts_is_left(images: ImageStore) -> None:
    with ImageServer(CONTENT, *[server_does.part_by_part(10)] * 200) as server:
        fail(server, images, NetError)
        with pytest.raises(NetError, match="more than 100 parts"):
            get(server, images)
    assert len(server.requests) == 101


# -- another version ------------------------------------------------------------------------------------------


def test_a_file_that_changed_meanwhile_is_fetched_from_the_beginning(images: ImageStore) -> None:
    """The ETag changed: the server answers 200, and not an octet of the old file stays."""
    with ImageServer(OTHER, CUT) as server:
        fail(server, images, NetError)
        server.content = CONTENT
        server.behaviours = [server_does.ranged]
        assert get(server, images) == IMAGE
    assert ranges(server) == [None, "bytes=50000-"]
    assert images.read(SHA256) == CONTENT


def test_a_part_of_another_version_is_thrown_away_at_once(images: ImageStore) -> None:
    """A server that ignores If-Range tells by the ETag of the part."""
    with ImageServer(CONTENT, CUT, server_does.part_of_another_version, server_does.ranged) as server:
        fail(server, images, NetError)
        assert get(server, images) == IMAGE
    assert ranges(server) == [None, "bytes=50000-", None]


def test_a_server_that_keeps_its_etag_and_changes_the_file_is_found_out(
    images: ImageStore, tmp_path: Path
) -> None:
    """The digest of what was put together is wrong: nothing is kept, and another attempt is worth it."""

    def other_under_the_same_etag(exchange: Exchange, content: bytes) -> None:
        exchange.begin(
            206, Content_Length=150_000, Content_Range="bytes 50000-199999/200000", ETag=exchange.server.etag
        )
        exchange.body(OTHER[50_000:])

    with ImageServer(CONTENT, CUT, other_under_the_same_etag, server_does.ranged) as server:
        fail(server, images, NetError)
        with pytest.raises(DoubtfulDigestError) as raised:
            get(server, images)
        assert raised.value.retryable
        assert images.list() == () and parts_kept(tmp_path / "images") == []
        assert get(server, images) == IMAGE
    assert ranges(server) == [None, "bytes=50000-", None]


def test_the_wrong_file_in_one_piece_is_the_wrong_file(images: ImageStore) -> None:
    with ImageServer(OTHER, server_does.ranged) as server, pytest.raises(DigestError) as raised:
        get(server, images)
    assert not raised.value.retryable


def test_a_file_that_got_shorter_is_fetched_from_the_beginning(images: ImageStore) -> None:
    with ImageServer(CONTENT + CONTENT, server_does.cut_after(300_000)) as server:
        fail(server, images, NetError, size=None)
        server.content = CONTENT
        server.behaviours = [server_does.refused_range(len(CONTENT)), server_does.ranged]
        assert get(server, images, size=None) == IMAGE
    assert ranges(server) == [None, "bytes=300000-", None]


# -- servers that cannot do parts, or do them wrong -----------------------------------------------------------


@pytest.mark.parametrize(
    "again", [server_does.whole, server_does.whole_to_a_range], ids=["no ETag", "same ETag"]
)
def test_a_server_that_answers_with_the_whole_is_taken_at_its_word(
    images: ImageStore, again: Behaviour
) -> None:
    with ImageServer(CONTENT, CUT, again) as server:
        fail(server, images, NetError)
        assert get(server, images) == IMAGE
    assert ranges(server) == [None, "bytes=50000-"]


def test_the_whole_of_the_same_version_takes_nothing_away_until_it_is_here(images: ImageStore) -> None:
    """It is cut off before the place where we were: what was good is kept."""

    def whole_cut_early(exchange: Exchange, content: bytes) -> None:
        exchange.begin(Content_Length=len(content), ETag=exchange.server.etag)
        exchange.body(content[:10_000])

    with ImageServer(CONTENT, CUT, whole_cut_early, server_does.ranged) as server:
        fail(server, images, NetError)
        fail(server, images, NetError)
        assert get(server, images) == IMAGE
    assert ranges(server) == [None, "bytes=50000-", "bytes=50000-"]


def test_without_a_strong_etag_every_attempt_begins_anew(images: ImageStore) -> None:
    with ImageServer(CONTENT, server_does.truncated) as server:
        fail(server, images, NetError)
        assert get(server, images) == IMAGE
    assert ranges(server) == [None, None]


def test_a_part_from_elsewhere_is_refused_and_the_whole_asked_for_next(
    images: ImageStore, tmp_path: Path
) -> None:
    """What was good is kept, for the whole may be cut off as well."""
    with ImageServer(CONTENT, CUT, server_does.part_from_elsewhere, server_does.ranged) as server:
        fail(server, images, NetError)
        with pytest.raises(RangeError, match="another part") as raised:
            get(server, images)
        assert isinstance(raised.value, HttpError) and raised.value.retryable
        assert parts_kept(tmp_path / "images") == [50_000]
        assert get(server, images) == IMAGE
    assert ranges(server) == [None, "bytes=50000-", None]


def test_octets_of_one_source_are_not_gone_on_with_from_another(images: ImageStore) -> None:
    """An ETag tells versions of one resource apart, not those of two (RFC 9110 clause 8.8)."""
    with ImageServer(CONTENT, CUT) as first, ImageServer(CONTENT, server_does.ranged) as second:
        fail(first, images, NetError)
        assert get(second, images) == IMAGE
    assert ranges(second) == [None]


def test_a_url_that_is_signed_anew_goes_on(images: ImageStore) -> None:
    """The query of a pre-signed URL is another one each time."""
    with ImageServer(CONTENT, CUT, server_does.ranged) as server:
        with pytest.raises(NetError):
            get(server, images, url=f"{server.url}?signature=one")
        assert get(server, images, url=f"{server.url}?signature=two") == IMAGE
    assert ranges(server) == [None, "bytes=50000-"]
    assert [path for path, _ in server.requests] == [
        "/firmware.bin?signature=one",
        "/firmware.bin?signature=two",
    ]


def test_what_is_kept_beside_the_octets_holds_no_query(images: ImageStore, tmp_path: Path) -> None:
    with ImageServer(CONTENT, CUT) as server, pytest.raises(NetError):
        get(server, images, url=f"{server.url}?signature=secret")
    [sidecar] = (tmp_path / "images").glob("*.json")
    assert "secret" not in sidecar.read_text() and "firmware.bin" not in sidecar.read_text()
