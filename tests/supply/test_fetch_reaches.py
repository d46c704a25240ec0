"""How image servers are reached: redirects, certificates on both sides, a proxy, and an end to waiting."""

from __future__ import annotations

import hashlib
import ssl
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from support import http_server as server_does
from support.certificates import Authority
from support.fetching import Watching
from support.http_server import Behaviour, ImageServer, Proxy
from support.patience import PATIENCE_S, eventually

from gateway.errors import FirmwareError, HttpError, NetError, PolicyError
from gateway.model import FirmwareSettings, Image, Trust
from gateway.supply.download import Patience, TlsError
from gateway.supply.fetch import fetch
from gateway.supply.images import ImageStore
from gateway.supply.source import Wanted

CONTENT = hashlib.shake_128(b"firmware").digest(200_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
IMAGE = Image(SHA256, len(CONTENT))
LOOPBACK = FirmwareSettings(trust=Trust.DIGEST)
FAR = FirmwareSettings(trust=Trust.DIGEST, allow_hosts=("fw.example.test",), allow_plaintext=True)
QUICK = Patience(head_s=0.5, silence_s=0.5, drip_s=0.2)


@pytest.fixture
def images(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images", quota_bytes=1_000_000)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


def get(
    url: str,
    images: ImageStore,
    *,
    settings: FirmwareSettings = LOOPBACK,
    watch: Watching | None = None,
    patience: Patience = Patience(),  # noqa: B008
) -> Image:
    wanted = Wanted(url, SHA256, len(CONTENT))
    return fetch(wanted, images, settings=settings, watch=watch or Watching(), patience=patience)


# -- redirects ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "location", ["/elsewhere.bin?token=x", "elsewhere.bin?token=x", "{url}/../elsewhere.bin?token=x"]
)
def test_a_redirect_on_the_same_host_is_followed(images: ImageStore, location: str) -> None:
    with ImageServer(CONTENT) as server:
        server.behaviours = [server_does.redirect(location.format(url=server.url))]
        assert get(server.url, images) == IMAGE
    assert [path for path, _ in server.requests] == ["/firmware.bin", "/elsewhere.bin?token=x"]


def test_a_redirect_is_followed_in_the_middle_of_an_image_too(images: ImageStore) -> None:
    cut = server_does.cut_after(50_000)
    with ImageServer(
        CONTENT, server_does.redirect("/a"), cut, server_does.redirect("/b"), server_does.ranged
    ) as server:
        with pytest.raises(NetError):
            get(server.url, images)
        assert get(server.url, images) == IMAGE
    assert server.body_octets == len(CONTENT)


def test_redirects_that_lead_round_and_round_end(images: ImageStore) -> None:
    behaviours = [server_does.redirect("/firmware.bin")] * 20
    with ImageServer(CONTENT, *behaviours) as server, pytest.raises(HttpError, match="more than 5") as raised:
        get(server.url, images)
    assert not raised.value.retryable
    assert len(server.requests) == 6


@pytest.mark.parametrize(
    ("location", "settings"),
    [
        ("http://localhost:{port}/x", LOOPBACK),
        ("http://127.0.0.2:{port}/x", LOOPBACK),
        ("http://fw.example.net/x?token=secret", LOOPBACK),
        ("//fw.example.net/x", LOOPBACK),
        ("file:///etc/shadow", LOOPBACK),
        ("http://u:secret@127.0.0.1:{port}/x", LOOPBACK),
        ("http://[::1/x", LOOPBACK),
        ("http://127.0.0.1:99999/x", LOOPBACK),
    ],
)
def test_a_redirect_to_another_host_is_not_followed(
    images: ImageStore, location: str, settings: FirmwareSettings
) -> None:
    with ImageServer(CONTENT) as server:
        server.behaviours = [server_does.redirect(location.format(port=server.server_address[1]))]
        with pytest.raises(PolicyError) as raised:
            get(server.url, images, settings=settings)
    assert len(server.requests) == 1
    assert not raised.value.retryable
    assert "secret" not in raised.value.message


def test_a_redirect_from_https_to_http_is_not_followed(images: ImageStore, authority: Authority) -> None:
    with (
        ImageServer(CONTENT) as plain,
        protected(authority, server_does.redirect(plain.url)) as server,
        pytest.raises(PolicyError, match="https:// to http://"),
    ):
        get(server.url, images, settings=believing(authority))
    assert plain.requests == []


def test_a_redirect_to_https_is_followed_to_a_server_that_is_believed(
    images: ImageStore, authority: Authority
) -> None:
    with protected(authority) as server, ImageServer(CONTENT, server_does.redirect(server.url)) as plain:
        with pytest.raises(TlsError, match="is not believed"):
            get(plain.url, images)
        assert server.requests == []
        plain.behaviours = [server_does.redirect(server.url)]
        assert get(plain.url, images, settings=believing(authority)) == IMAGE


# -- certificates ---------------------------------------------------------------------------------------------


def protected(
    authority: Authority,
    *behaviours: Behaviour,
    name: str = "127.0.0.1",
    age_days: int = 1,
    wants: Authority | None = None,
    version: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED,
) -> ImageServer:
    """A server with a certificate of that name and age; `wants`: whose certificates it wants of its clients."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = version
    context.load_cert_chain(*authority.sign(name, age_days=age_days))
    if wants:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(wants.file)
    return ImageServer(CONTENT, *behaviours, tls=context)


def believing(authority: Authority) -> FirmwareSettings:
    return FirmwareSettings(trust=Trust.DIGEST, ca_file=authority.file)


def test_a_server_is_believed_that_an_authority_of_ours_has_signed(
    images: ImageStore, authority: Authority
) -> None:
    with protected(authority) as server:
        assert get(server.url, images, settings=believing(authority)) == IMAGE


@pytest.mark.parametrize(
    ("name", "age_days", "says"),
    [("127.0.0.1", 3, "expired"), ("127.0.0.2", 1, "mismatch"), ("fw.example.test", 1, "mismatch")],
)
def test_a_certificate_that_does_not_hold_ends_it_at_once(
    images: ImageStore, authority: Authority, name: str, age_days: int, says: str
) -> None:
    with (
        protected(authority, name=name, age_days=age_days) as server,
        pytest.raises(TlsError, match=says) as raised,
    ):
        get(server.url, images, settings=believing(authority))
    assert not raised.value.retryable
    assert server.requests == []


def test_a_certificate_of_tomorrow_is_tried_again(images: ImageStore, authority: Authority) -> None:
    """A gateway without a clock of its own wakes up in the past."""
    with (
        protected(authority, age_days=-1) as server,
        pytest.raises(NetError, match="not yet valid") as raised,
    ):
        get(server.url, images, settings=believing(authority))
    assert raised.value.retryable


def test_an_authority_that_is_not_ours_is_not_believed(images: ImageStore, authority: Authority) -> None:
    with protected(authority) as server, pytest.raises(TlsError):
        get(server.url, images)


def test_a_server_that_wants_our_certificate_gets_it(
    images: ImageStore, authority: Authority, tmp_path: Path
) -> None:
    ours = Authority(tmp_path / "ours")
    certificate, key = ours.sign("gw-001")
    settings = replace(believing(authority), cert_file=certificate, key_file=key)
    with protected(authority, wants=ours) as server:
        assert get(server.url, images, settings=settings) == IMAGE


@pytest.mark.parametrize(
    ("version", "error"),
    [
        (ssl.TLSVersion.TLSv1_2, TlsError),
        # The refusal comes after the handshake: it may be lost in what the gateway is sending at that moment.
        (ssl.TLSVersion.TLSv1_3, NetError),
    ],
)
def test_without_it_no_image_comes(
    images: ImageStore, authority: Authority, tmp_path: Path, version: ssl.TLSVersion, error: type[NetError]
) -> None:
    server = protected(authority, wants=Authority(tmp_path / "ours"), version=version)
    with server, pytest.raises(error) as raised:
        get(server.url, images, settings=believing(authority))
    assert not isinstance(raised.value, TlsError) or "does not believe this gateway" in raised.value.message
    assert server.requests == []


def test_certificates_that_are_being_renewed_are_there_the_next_time(
    images: ImageStore, authority: Authority, tmp_path: Path
) -> None:
    settings = replace(believing(authority), ca_file=tmp_path / "gone.pem")
    with protected(authority) as server, pytest.raises(NetError, match="cannot be read") as raised:
        get(server.url, images, settings=settings)
    assert raised.value.retryable


# -- a proxy --------------------------------------------------------------------------------------------------


def test_a_proxy_leads_to_the_server(images: ImageStore) -> None:
    with ImageServer(CONTENT) as server, Proxy(server) as proxy:
        assert (
            get("http://fw.example.test/firmware.bin", images, settings=replace(FAR, proxy=proxy.url))
            == IMAGE
        )
    assert proxy.requests == ["GET http://fw.example.test/firmware.bin"]


def test_a_proxy_sees_nothing_of_what_is_fetched_by_https(images: ImageStore, authority: Authority) -> None:
    with protected(authority, name="fw.example.test") as server, Proxy(server) as proxy:
        settings = replace(FAR, proxy=proxy.url, ca_file=authority.file)
        assert get("https://fw.example.test/firmware.bin?token=secret", images, settings=settings) == IMAGE
    assert proxy.requests == ["CONNECT fw.example.test:443"]


def test_a_proxy_that_refuses_is_tried_again(images: ImageStore) -> None:
    with (
        ImageServer(CONTENT) as server,
        Proxy(server, refuses=503) as proxy,
        pytest.raises(NetError) as raised,
    ):
        get("https://fw.example.test/firmware.bin", images, settings=replace(FAR, proxy=proxy.url))
    assert raised.value.retryable
    assert "503" in raised.value.message


def test_this_machine_is_reached_without_it(images: ImageStore) -> None:
    with ImageServer(CONTENT) as server, Proxy(server) as proxy:
        assert get(server.url, images, settings=replace(LOOPBACK, proxy=proxy.url)) == IMAGE
    assert proxy.requests == []


# -- an end to waiting ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "behaviour", [server_does.silent, server_does.silent_after(1000), server_does.dripping_head]
)
def test_a_server_that_is_silent_is_left_as_soon_as_nobody_wants_the_image(
    images: ImageStore, behaviour: Behaviour
) -> None:
    """Nobody waits for the end of a time-out, and the server notices."""
    watching = Watching()
    raised: list[FirmwareError] = []

    def wait() -> None:
        with pytest.raises(NetError, match="stopped") as stopped:
            get(
                server.url,
                images,
                watch=watching,
                patience=Patience(head_s=9999, silence_s=9999, drip_s=9999),
            )
        raised.append(stopped.value)

    with ImageServer(CONTENT, behaviour) as server:
        waiting = threading.Thread(target=wait)
        waiting.start()
        assert server.asked.wait(PATIENCE_S)
        watching.enough.set()
        waiting.join(PATIENCE_S)
        assert raised
        if behaviour is not server_does.dripping_head:
            assert server.hung_up.wait(PATIENCE_S)
    no_thread_is_left()


@pytest.mark.parametrize(
    ("behaviour", "says"),
    [
        (server_does.silent, "did not answer"),
        (server_does.dripping_head, "did not answer"),
        (server_does.silent_after(1000), "sent nothing more"),
        (server_does.dripping, "too slow"),
    ],
)
def test_a_server_that_keeps_us_waiting_is_left(images: ImageStore, behaviour: Behaviour, says: str) -> None:
    with ImageServer(CONTENT, behaviour) as server, pytest.raises(NetError, match=says) as raised:
        get(server.url, images, patience=QUICK)
    assert raised.value.retryable
    no_thread_is_left()


def test_a_name_that_nobody_resolves_keeps_nobody(
    images: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No time-out of ours ends what a name server makes us wait for: the thread that waits is left to itself, and no
    more than a few are."""
    answers, asked = threading.Event(), threading.Semaphore(0)

    def resolve(*_: object, **__: object) -> list[object]:
        asked.release()
        answers.wait(PATIENCE_S)
        raise OSError("no such name")

    monkeypatch.setattr("socket.getaddrinfo", resolve)
    settings = FirmwareSettings(trust=Trust.DIGEST, allow_hosts=("fw.example.test",))
    for _ in range(4):
        watching = Watching()
        leaving = threading.Thread(target=lambda: (asked.acquire(), watching.enough.set()))  # noqa: B023
        leaving.start()
        with pytest.raises(NetError, match="stopped"):
            get("https://fw.example.test/x", images, settings=settings, watch=watching)
        leaving.join(PATIENCE_S)
    with pytest.raises(NetError, match="still wait for a name server") as raised:
        get("https://fw.example.test/x", images, settings=settings)
    assert raised.value.retryable
    answers.set()
    no_thread_is_left()


def test_what_came_before_the_silence_is_kept(images: ImageStore) -> None:
    with ImageServer(CONTENT, server_does.silent_after(100_000), server_does.ranged) as server:
        with pytest.raises(NetError):
            get(server.url, images, patience=QUICK)
        assert get(server.url, images) == IMAGE
        assert server.body_octets == len(CONTENT)


def no_thread_is_left() -> None:
    eventually(lambda: all(thread.name != "fetch" for thread in threading.enumerate()))
