"""Whatever an image server does: the ordered bytes are stored, or nothing is, and the error tells whether another
try may help."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path

import pytest
from support import http_server as server_does
from support.fetching import Watching, parts_kept
from support.http_server import Behaviour, ImageServer
from support.patience import PATIENCE_S

from gateway.errors import DigestError, DiskError, FirmwareError, HttpError, NetError, PolicyError, SizeError
from gateway.model import FirmwareSettings, Image, Trust
from gateway.supply.answer import BusyServerError
from gateway.supply.fetch import fetch
from gateway.supply.finish import DoubtfulDigestError
from gateway.supply.images import ImageStore
from gateway.supply.source import Wanted, check_url

CONTENT = hashlib.shake_128(b"firmware").digest(200_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
IMAGE = Image(SHA256, len(CONTENT))
LOOPBACK = FirmwareSettings(trust=Trust.DIGEST)


@pytest.fixture
def images(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images", quota_bytes=1_000_000)


def get(
    url: str, images: ImageStore, *, size: int | None = len(CONTENT), settings: FirmwareSettings = LOOPBACK
) -> Image:
    return fetch(Wanted(url, SHA256, size), images, settings=settings, watch=Watching())


@pytest.mark.parametrize("size", [len(CONTENT), None], ids=["size ordered", "size unknown"])
@pytest.mark.parametrize(
    "behaviour",
    [server_does.whole, server_does.chunked, server_does.without_length],
    ids=["with a length", "in chunks", "until it closes"],
)
def test_the_ordered_image_arrives(images: ImageStore, behaviour: Behaviour, size: int | None) -> None:
    with ImageServer(CONTENT, behaviour) as server:
        assert get(server.url, images, size=size) == IMAGE
    assert images.read(SHA256) == CONTENT
    [(_, headers)] = server.requests
    assert headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(
    ("behaviour", "error", "retryable"),
    [
        (server_does.truncated, NetError, True),
        (server_does.truncated_chunks, NetError, True),
        (server_does.truncated_without_length, NetError, True),
        (server_does.one_octet_less, SizeError, False),
        (server_does.one_octet_more, SizeError, False),
        (server_does.one_bit_wrong, DigestError, False),
        (server_does.empty, SizeError, False),
        (server_does.endless, SizeError, False),
        (server_does.gzipped, HttpError, False),
        (server_does.partial, HttpError, False),
        (server_does.no_http, NetError, True),
        (server_does.hang_up, NetError, True),
        (server_does.length_too_long, SizeError, False),
        (server_does.length_too_short, SizeError, False),
        (server_does.status(301), HttpError, False),
        (server_does.status(204), HttpError, False),
        (server_does.status(401), HttpError, False),
        (server_does.status(404), HttpError, False),
        (server_does.status(408), HttpError, True),
        (server_does.status(425), HttpError, True),
        (server_does.status(429), HttpError, True),
        (server_does.status(500), HttpError, True),
        (server_does.status(503), HttpError, True),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_server_that_misbehaves_stores_nothing(
    images: ImageStore, tmp_path: Path, behaviour: Behaviour, error: type[FirmwareError], retryable: bool
) -> None:
    with ImageServer(CONTENT, behaviour) as server, pytest.raises(error) as raised:
        get(server.url, images)
    assert raised.value.retryable is retryable
    assert len(server.requests) == 1
    assert images.list() == ()
    came = sum(parts_kept(tmp_path / "images"))
    assert came == (len(CONTENT) // 2 if "truncated" in getattr(behaviour, "__name__", "") else 0)


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (server_does.truncated, NetError),
        (server_does.truncated_without_length, DoubtfulDigestError),
        (server_does.length_too_short, DigestError),
        (server_does.one_octet_more, DigestError),
        (server_does.empty, SizeError),
        (server_does.endless, DiskError),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_nor_where_no_size_was_ordered(
    images: ImageStore, tmp_path: Path, behaviour: Behaviour, error: type[FirmwareError]
) -> None:
    with ImageServer(CONTENT, behaviour) as server, pytest.raises(error):
        get(server.url, images, size=None)
    assert images.list() == ()


def test_an_endless_body_of_unknown_length_ends_at_a_limit(
    images: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.supply.fetch.UNSAID_LIMIT_BYTES", 500_000)
    with ImageServer(CONTENT, server_does.endless) as server, pytest.raises(SizeError, match="does not say"):
        get(server.url, images, size=None)
    assert server.hung_up.wait(PATIENCE_S)


def test_a_length_that_is_too_long_ends_where_the_octets_do(images: ImageStore) -> None:
    """The order does not say how long it is: the server is asked for the rest, and says that there is none."""
    with ImageServer(CONTENT, server_does.length_too_long) as server:
        with pytest.raises(NetError):
            get(server.url, images, size=None)
        assert get(server.url, images, size=None) == IMAGE


def test_an_endless_body_is_hung_up_on(images: ImageStore) -> None:
    with ImageServer(CONTENT, server_does.endless) as server:
        with pytest.raises(SizeError):
            get(server.url, images)
        assert server.hung_up.wait(PATIENCE_S)


def test_a_busy_server_says_when_to_come_back(images: ImageStore) -> None:
    with (
        ImageServer(CONTENT, server_does.status(503, Retry_After="120")) as server,
        pytest.raises(BusyServerError) as raised,
    ):
        get(server.url, images)
    assert raised.value.retry_after_s == 120


def test_after_a_failure_the_same_order_succeeds(images: ImageStore) -> None:
    with ImageServer(CONTENT, server_does.status(503), server_does.truncated) as server:
        for _ in range(2):
            with pytest.raises(FirmwareError):
                get(server.url, images)
        assert get(server.url, images) == IMAGE


def test_a_fetch_that_is_no_longer_wanted_ends_at_the_next_octets(images: ImageStore, tmp_path: Path) -> None:
    with ImageServer(CONTENT, server_does.endless) as server, pytest.raises(NetError, match="stopped"):
        fetch(Wanted(server.url, SHA256, None), images, settings=LOOPBACK, watch=Watching(stop_after=2))
    assert images.list() == ()


def test_a_server_that_is_not_there_may_come_later(images: ImageStore) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(NetError, match=f"127.0.0.1:{unused.getsockname()[1]} did not deliver") as raised:
            get(f"http://127.0.0.1:{unused.getsockname()[1]}/x", images)
    assert raised.value.retryable


def test_tls_is_not_talked_to_a_server_without_it(images: ImageStore) -> None:
    with ImageServer(CONTENT) as server, pytest.raises(NetError):
        get(server.url.replace("http:", "https:"), images)


def test_a_proxy_of_the_environment_gets_no_say(images: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    with ImageServer(CONTENT) as server:
        assert get(server.url, images) == IMAGE


def test_the_policy_is_asked_before_a_connection_is_made(images: ImageStore) -> None:
    with ImageServer(CONTENT) as server, pytest.raises(PolicyError):
        get(server.url, images, settings=FirmwareSettings(allow_hosts=("fw.example.net",)))
    assert server.requests == []


NAMED = FirmwareSettings(allow_hosts=("FW.example.net", "192.0.2.7"))
PLAINTEXT = FirmwareSettings(allow_hosts=("fw.example.net",), allow_plaintext=True)


@pytest.mark.parametrize(
    ("url", "settings"),
    [
        ("http://127.0.0.1/x", LOOPBACK),
        ("http://127.8.9.1:8080/x", LOOPBACK),
        ("http://localhost:8080/x?y=z", LOOPBACK),
        ("http://[::1]:8080/x", LOOPBACK),
        ("https://localhost/x", LOOPBACK),
        ("https://fw.example.net/x", NAMED),
        ("HTTPS://FW.EXAMPLE.NET:8443/x", NAMED),
        ("https://192.0.2.7/x", NAMED),
        ("http://fw.example.net/x", PLAINTEXT),
    ],
)
def test_allowed_sources(url: str, settings: FirmwareSettings) -> None:
    check_url(url, settings)


@pytest.mark.parametrize(
    ("url", "settings", "says"),
    [
        ("https://fw.example.net/x", LOOPBACK, "loopback only"),
        ("https://127.0.0.1/x", NAMED, "allow_hosts has 192.0.2.7, fw.example.net"),
        ("http://fw.example.net/x", NAMED, "allow_plaintext"),
        ("https://fw.example.net.evil.test/x", NAMED, "evil"),
        ("https://evil.test/fw.example.net", NAMED, "evil"),
        ("https://fw.example.net@evil.test/x", NAMED, "no credentials"),
        ("https://evil.test\\@fw.example.net/x", NAMED, "backslashes"),
        ("https://fw.example.net/x y", NAMED, "spaces"),
        ("https://fw.example.net/\n", NAMED, "controls"),
        ("https://fw.exämple.net/x", NAMED, "plain URL"),
        ("https://fw.example.net:99999/x", NAMED, "not a URL"),
        ("https://[::1/x", NAMED, "not a URL"),
        ("file:///etc/shadow", LOOPBACK, "https://host/path"),
        ("ftp://127.0.0.1/x", LOOPBACK, "https://host/path"),
        ("mqtt:chunks", LOOPBACK, "https://host/path"),
        ("https:///x", LOOPBACK, "https://host/path"),
        ("", LOOPBACK, "https://host/path"),
        ("http://127.0.0.1.nip.test/x", LOOPBACK, "allow_plaintext"),
    ],
)
def test_refused_sources(url: str, settings: FirmwareSettings, says: str) -> None:
    with pytest.raises(PolicyError, match=says.replace("(", r"\(")):
        check_url(url, settings)
