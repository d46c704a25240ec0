"""Who may be our broker, and as whom we come: TLS, names and passwords with a real mosquitto."""

from __future__ import annotations

import logging
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.broker import Mosquitto, password_file
from support.certificates import LOOPBACK, Authority, with_passphrase
from support.head_end import HeadEnd
from support.patience import PATIENCE_S, eventually
from support.shim import WILL, Ours
from support.uplinked import BASE, Gateway, order

from gateway.uplink import tls
from gateway.uplink.broker import Acknowledged, Lost, Message
from gateway.uplink.uplink import STATUS

UNANSWERED = "the broker ended the connection unanswered ({}): "
SECRET = "correct horse battery staple"


class Files(NamedTuple):
    """Everything that a configuration could name, right and wrong."""

    ca: Path
    other_ca: Path
    ours: tuple[Path, Path]
    expired: tuple[Path, Path]
    early: tuple[Path, Path]
    strangers: tuple[Path, Path]
    locked: Path


class Place(NamedTuple):
    """A broker that asks for a certificate of the same authority as its own."""

    broker: Mosquitto
    files: Files

    @property
    def url(self) -> str:
        return with_tls(self.broker)


def with_tls(broker: Mosquitto, host: str = LOOPBACK) -> str:
    return f"mqtts://{host}:{broker.port}"


def serving(certificate: tuple[Path, Path], *more: str) -> str:
    return "\n".join([f"certfile {certificate[0]}", f"keyfile {certificate[1]}", *more])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("tls")
    authority, stranger = Authority(directory / "ours"), Authority(directory / "strange")
    ours = authority.sign("gw-001")
    files = Files(
        ca=authority.file,
        other_ca=stranger.file,
        ours=ours,
        expired=authority.sign("gw-001", age_days=3),
        early=authority.sign("gw-001", age_days=-1),
        strangers=stranger.sign("gw-001"),
        locked=with_passphrase(ours[1], SECRET.encode()),
    )
    mutual = serving(authority.sign(LOOPBACK), f"cafile {authority.file}", "require_certificate true")
    with Mosquitto(directory / "broker", settings=mutual) as broker:
        yield Place(broker, files)


def identity(certificate: tuple[Path, Path]) -> dict[str, Path]:
    return {"cert_file": certificate[0], "key_file": certificate[1]}


def reason_of_refusal(url: str, **settings: Any) -> str:
    """Why a connection with these settings does not come about."""
    ours = Ours(url, **settings)
    ours.broker.connect(WILL)
    reason = ours.wait(Lost).reason
    ours.broker.drop()
    return reason


def test_each_knows_the_other_by_certificate(place: Place) -> None:
    ours = Ours(place.url, ca_file=place.files.ca, **identity(place.files.ours))
    ours.connect("cmd/+")
    ours.broker.publish(Message("up/1", b"1"))
    assert ours.wait(Acknowledged).reason < 0x80
    ours.broker.disconnect()


WRONG_BROKER: dict[str, tuple[dict[str, Any], str]] = {
    "an authority that we do not know": ({"ca_file": "other_ca"}, "certificate does not hold: "),
    "no authority that this machine trusts": ({}, "certificate does not hold: "),
    "our key does not fit our certificate": (
        {"ca_file": "ca", "cert_file": "ours.0", "key_file": "strangers.1"}, "KEY_VALUES_MISMATCH",
    ),
    "our key wants a passphrase": ({"ca_file": "ca", "cert_file": "ours.0", "key_file": "locked"}, "SSL"),
}  # fmt: skip


@pytest.mark.parametrize(("named", "why"), WRONG_BROKER.values(), ids=WRONG_BROKER.keys())
def test_nothing_is_said_to_a_broker_that_is_not_ours(place: Place, named: dict[str, str], why: str) -> None:
    settings = {}
    for key, name in named.items():
        field, _, index = name.partition(".")
        value = getattr(place.files, field)
        settings[key] = value[int(index)] if index else value
    before = place.broker.log().count("Received CONNECT")
    reason = reason_of_refusal(place.url, **settings)
    assert reason.startswith(f"cannot connect to {LOOPBACK} port {place.broker.port}: ")
    assert why in reason
    assert SECRET not in reason
    assert place.broker.log().count("Received CONNECT") == before


def test_a_file_that_is_gone_is_a_loss_like_others(place: Place, tmp_path: Path) -> None:
    assert "No such file" in reason_of_refusal(place.url, ca_file=tmp_path / "gone.pem")


@pytest.mark.parametrize("name", [None, "expired", "early", "strangers"])
def test_a_broker_that_does_not_believe_us_lets_us_go_unanswered(place: Place, name: str | None) -> None:
    """It says why after our handshake is over (TLS 1.3), if the network still carries it."""
    own = identity(getattr(place.files, name)) if name else {}
    reason = reason_of_refusal(place.url, ca_file=place.files.ca, **own)
    assert (
        reason.startswith(UNANSWERED.format("does it accept our certificate?")) or "cannot connect" in reason
    )


def test_a_broker_of_another_name_is_not_ours(place: Place) -> None:
    url = with_tls(place.broker, "localhost")
    reason = reason_of_refusal(url, ca_file=place.files.ca, **identity(place.files.ours))
    assert "not valid for 'localhost'" in reason


def test_a_broker_whose_certificate_has_expired_is_not_ours(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    with Mosquitto(tmp_path / "broker", settings=serving(authority.sign(LOOPBACK, age_days=3))) as broker:
        assert "certificate has expired" in reason_of_refusal(with_tls(broker), ca_file=authority.file)


def test_a_renewed_certificate_counts_from_the_next_connection_on(place: Place, tmp_path: Path) -> None:
    certificate = shutil.copy(place.files.expired[0], tmp_path), shutil.copy(place.files.expired[1], tmp_path)
    ours = Ours(place.url, ca_file=place.files.ca, **identity((Path(certificate[0]), Path(certificate[1]))))
    ours.broker.connect(WILL)
    ours.wait(Lost)
    for renewed, file in zip(place.files.ours, certificate, strict=True):
        shutil.copy(renewed, file)
    ours.connect()
    ours.broker.drop()


def test_tls_and_no_tls_do_not_understand_each_other_and_say_so(place: Place, tmp_path: Path) -> None:
    assert reason_of_refusal(place.broker.url).startswith(UNANSWERED.format("does it want TLS?"))
    with Mosquitto(tmp_path / "plain") as plain:
        assert reason_of_refusal(with_tls(plain), ca_file=place.files.ca).startswith("cannot connect")


def test_a_handshake_that_is_never_answered_ends_long_before_the_keep_alive(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "HANDSHAKE_TIMEOUT_S", 0.3)
    with socket.create_server((LOOPBACK, 0)) as silent:
        url = f"mqtts://{LOOPBACK}:{silent.getsockname()[1]}"
        began = time.monotonic()
        reason = reason_of_refusal(url, ca_file=place.files.ca, keepalive_s=600)
        assert time.monotonic() - began < PATIENCE_S  # and not 600 s
    assert "timed out" in reason


# -- user name and password -----------------------------------------------------------------------------------


def users(directory: Path, user: str, password: str) -> str:
    """Settings of a broker that takes one user."""
    file = password_file(directory, user, password)
    return f"allow_anonymous false\npassword_file {file}"


def test_a_user_is_known_by_the_password(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "broker", settings=users(tmp_path, "gw-001", SECRET)) as broker:
        ours = Ours(broker.url, username="gw-001", password=SECRET)
        ours.connect()
        ours.broker.drop()
        for settings in (
            {"username": "gw-001", "password": "wrong"},
            {"username": "gw-002", "password": SECRET},
            {"username": "gw-001"},
            {},
        ):
            assert "not authorized" in reason_of_refusal(broker.url, **settings).lower()


def test_a_wrong_password_is_told_and_found_right_without_a_restart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The broker's users are mended, and the gateway comes in; its password is nowhere to be read."""
    caplog.set_level(logging.DEBUG)
    (tmp_path / "broker").mkdir()
    before = users(tmp_path, "gw-001", "an older password")
    with Mosquitto(tmp_path / "broker", settings=before) as broker:
        gateway = Gateway(tmp_path / "state", broker.url, username="gw-001", password=SECRET)
        gateway.start()
        eventually(
            lambda: "ot authorized" in gateway.board.values("uplink").get(STATUS, {}).get("reason", "")
        )
        broker.stop()
        users(tmp_path, "gw-001", SECRET)
        broker.start()
        gateway.wait_until_it_hears()
        gateway.stop()
        told = f"{caplog.text} {gateway.board.values('uplink')} {gateway._mqtt!r}"
    assert "not authorized" in caplog.text.lower()
    assert "uplink online" in caplog.text
    assert SECRET not in told
    assert not any(SECRET.encode() in file.read_bytes() for file in (tmp_path / "state").glob("**/*.*"))


def test_commands_and_replies_go_over_mutual_tls(tmp_path: Path) -> None:
    """The whole uplink, while its head-end uses a listener of its own."""
    authority = Authority(tmp_path / "ca")
    with Mosquitto(tmp_path / "any") as free:
        port = free.port
    mutual = serving(authority.sign(LOOPBACK), f"cafile {authority.file}", "require_certificate true")
    both = f"listener {port} {LOOPBACK}\n{mutual}"
    with Mosquitto(tmp_path / "broker", settings=both) as broker:
        own = identity(authority.sign("gw-001"))
        url = f"mqtts://{LOOPBACK}:{port}"
        gateway = Gateway(tmp_path / "state", url, ca_file=authority.file, **own)
        gateway.start()
        gateway.wait_until_it_hears()
        with HeadEnd(broker.port, f"{BASE}/#") as head_end:
            assert head_end.wait_for_reply(order(head_end, "ping"), b"").document["status"] == "done"
        gateway.stop()
