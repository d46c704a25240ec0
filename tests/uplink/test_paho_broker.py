"""The shim over paho against a real mosquitto: what is promised of acknowledgement, sessions, limits and losses."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.broker import Mosquitto
from support.head_end import HeadEnd
from support.patience import PATIENCE_S
from support.shim import WILL, Ours

from gateway.uplink.broker import Acknowledged, Connected, Delivery, Lost, Message


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as broker:
        yield broker


@pytest.fixture
def ours(mosquitto: Mosquitto) -> Iterator[Ours]:
    ours = Ours(mosquitto.url)
    yield ours
    ours.broker.drop()


# -- commands come once they are durable, and only then are they acknowledged ---------------------------------


def test_what_came_carries_its_properties(ours: Ours, mosquitto: Mosquitto) -> None:
    ours.connect("cmd/+")
    with HeadEnd(mosquitto.port, "rsp") as head_end:
        head_end.publish("cmd/ping", b"\x00\xff", response_topic="rsp/7", correlation=b"\x01\x02")
        ours.wait_until(lambda: bool(ours.delivered))
    assert ours.delivered == [Delivery("cmd/ping", b"\x00\xff", False, "rsp/7", b"\x01\x02")]


def test_what_is_published_carries_its_properties(ours: Ours, mosquitto: Mosquitto) -> None:
    ours.connect()
    with HeadEnd(mosquitto.port, "rsp") as head_end:
        mid = ours.broker.publish(Message("rsp", b"{}", correlation=b"\x01\x02"))
        assert ours.wait(Acknowledged).mid == mid
        [heard] = head_end.wait_for("rsp")
    assert heard.correlation == b"\x01\x02"


def test_the_acknowledgement_waits_until_the_delivery_was_dealt_with(
    ours: Ours, mosquitto: Mosquitto
) -> None:
    ours.connect("cmd/+")
    acknowledged_before = []

    def deliver(delivery: Delivery) -> None:
        time.sleep(0.2)  # time enough for an acknowledgement that did not wait
        acknowledged_before.append("Received PUBACK from mgw-test" in mosquitto.log())

    ours.deliver = deliver
    with HeadEnd(mosquitto.port, "rsp") as head_end:
        head_end.publish("cmd/ping", b"{}")
        ours.wait_until(lambda: bool(acknowledged_before))
        ours.wait_until(lambda: "Received PUBACK from mgw-test" in mosquitto.log())
    assert acknowledged_before == [False]


@pytest.mark.parametrize("error", [OSError("disk"), KeyError("bug")], ids=repr)
def test_a_delivery_that_could_not_be_dealt_with_comes_again(
    ours: Ours, mosquitto: Mosquitto, error: Exception
) -> None:
    def deliver(delivery: Delivery) -> None:
        raise error

    ours.connect("cmd/+")
    with HeadEnd(mosquitto.port, "rsp") as head_end:
        head_end.publish("cmd/ping", b"1")
        ours.deliver = deliver
        with pytest.raises(type(error)) as raised:
            ours.poll_for(PATIENCE_S)
        assert raised.value is error
        assert isinstance(ours.broker.poll(0, deliver)[-1], Lost)

        ours.deliver = ours.delivered.append
        ours.connect()
        ours.wait_until(lambda: bool(ours.delivered))
        ours.poll_for(0.3)
    assert [delivery.payload for delivery in ours.delivered] == [b"1"]


def test_what_came_while_we_were_away_comes_when_we_return(ours: Ours, mosquitto: Mosquitto) -> None:
    ours.connect("cmd/+")
    ours.broker.disconnect()
    with HeadEnd(mosquitto.port, "rsp") as head_end:
        head_end.publish("cmd/ping", b"1")
        head_end.publish("cmd/ping", b"2")
    mosquitto.stop()
    mosquitto.start()
    ours.connect()
    ours.wait_until(lambda: len(ours.delivered) == 2)
    assert [delivery.payload for delivery in ours.delivered] == [b"1", b"2"]


def test_retained_is_told_from_live_whenever_it_was_published(ours: Ours, mosquitto: Mosquitto) -> None:
    with HeadEnd(mosquitto.port, "rsp") as head_end:
        head_end.publish("cmd/old", b"", retain=False)
        head_end.publish("cmd/old", b"old", retain=True)
        ours.connect("cmd/+")
        head_end.publish("cmd/new", b"new", retain=True)
        head_end.publish("cmd/live", b"live")
        ours.wait_until(lambda: len(ours.delivered) == 3)
        assert [(delivery.payload, delivery.retain) for delivery in ours.delivered] == [
            (b"old", True), (b"new", True), (b"live", False),
        ]  # fmt: skip

        # What is not acknowledged yet would come again.
        ours.wait_until(lambda: mosquitto.log().count("Received PUBACK from mgw-test") == 3)
        ours.connect("cmd/+")  # the session knows the subscription: what is retained does not come each time
        ours.poll_for(0.5)
        assert len(ours.delivered) == 3


# -- what the broker says is heard ----------------------------------------------------------------------------


def test_a_refused_publication_is_no_success(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "broker", acl="topic readwrite allowed/#") as mosquitto:
        ours = Ours(mosquitto.url)
        ours.connect()
        refused = ours.broker.publish(Message("forbidden", b"1"))
        assert ours.wait(Acknowledged) == Acknowledged(refused, 0x87)
        allowed = ours.broker.publish(Message("allowed/x", b"1"))
        acknowledged = ours.wait(Acknowledged)
        assert acknowledged.mid == allowed
        assert acknowledged.reason < 0x80
        ours.broker.drop()


def test_a_refused_connection_says_why(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "broker", settings="allow_anonymous false") as mosquitto:
        ours = Ours(mosquitto.url, username="gw", password="wrong")
        ours.broker.connect(WILL)
        reason = ours.wait(Lost).reason
        assert "not authorized" in reason.lower()
        assert "does it know this user name, password, certificate?" in reason
        ours.broker.drop()


def test_the_limits_of_the_broker_are_read(tmp_path: Path) -> None:
    limits = "max_packet_size 20000\nmax_inflight_messages 3\nmax_keepalive 30"
    with Mosquitto(tmp_path / "broker", settings=limits) as mosquitto:
        ours = Ours(mosquitto.url, keepalive_s=600)
        connected = ours.connect()
        assert connected == Connected(max_packet_size=20000, receive_maximum=3)
        assert ours.broker._client._keepalive == 30
        ours.broker.drop()


def test_the_size_of_a_packet_is_never_guessed_too_low(ours: Ours, tmp_path: Path) -> None:
    limit = 1000
    with Mosquitto(tmp_path / "small", settings=f"max_packet_size {limit}") as mosquitto:
        small = Ours(mosquitto.url)
        small.connect()
        message = Message("t", b"", correlation=b"c" * 256)
        fits = Message("t", b"x" * (limit - message.packet_size), correlation=message.correlation)
        assert fits.packet_size == limit
        small.broker.publish(fits)
        assert small.wait(Acknowledged).reason < 0x80
        small.broker.drop()


def test_a_small_packet_does_not_wait_for_what_went_before_it(ours: Ours) -> None:
    ours.connect()
    assert ours.broker._client.socket().getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# -- the end of a connection ----------------------------------------------------------------------------------


def test_the_will_is_published_unless_we_said_goodbye(ours: Ours, mosquitto: Mosquitto) -> None:
    with HeadEnd(mosquitto.port, "up/#") as head_end:
        ours.connect()
        ours.broker.disconnect()
        ours.connect()
        ours.broker.drop()
        [heard] = head_end.wait_for("up/state")
        assert (heard.payload, heard.retain) == (b"gone", True)


def test_nothing_unacknowledged_is_sent_again_behind_our_back(ours: Ours, mosquitto: Mosquitto) -> None:
    with HeadEnd(mosquitto.port, "up/#") as head_end:
        ours.connect()
        ours.broker.publish(Message("up/1", b"1"))
        ours.connect()
        ours.broker.publish(Message("up/2", b"2"))
        head_end.wait_for("up/2")
        ours.poll_for(0.3)
        assert len(head_end.heard("up/1")) <= 1


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_broker_that_goes_is_noticed_once_and_found_again(
    ours: Ours, mosquitto: Mosquitto, end: str
) -> None:
    ours.connect()
    getattr(mosquitto, end)()
    ours.wait(Lost)
    ours.poll_for(0.2)
    assert ours.events == []
    ours.broker.connect(WILL)
    assert "cannot connect to 127.0.0.1" in ours.wait(Lost).reason
    mosquitto.start()
    ours.connect()


def test_a_name_that_leads_nowhere_is_a_loss_like_others() -> None:
    ours = Ours(f"mqtt://{'x' * 70}.invalid")
    ours.broker.connect(WILL)
    assert "cannot connect" in ours.wait(Lost).reason


CONNACK = b"\x20\x03\x00\x00\x00"
RUBBISH = {
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "an empty CONNACK": b"\x20\x00",
    "a CONNACK with a length that has no end": b"\x20\xff\xff\xff\xff\xff",
    "a CONNACK with an unknown property": b"\x20\x05\x00\x00\x02\x7f\x00",
    "a CONNACK with an unknown reason": b"\x20\x03\x00\xee\x00",
    "a PUBLISH that ends early": CONNACK + b"\x32\x04\x00\x09ab",
    "a PUBLISH with a topic that is no UTF-8, then nothing": CONNACK + b"\x32\x06\x00\x01\xff\x00\x01\x00",
    "a SUBACK without reasons": CONNACK + b"\x90\x03\x00\x01\x00",
    "a PUBACK with an unknown reason": CONNACK + b"\x40\x03\x00\x01\xee",
    "a CONNACK, and then it closes": CONNACK,
}


@pytest.mark.parametrize("octets", RUBBISH.values(), ids=RUBBISH.keys())
def test_a_broker_that_sends_rubbish_is_lost_and_breaks_nothing(octets: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(octets)
                time.sleep(0.1)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        ours = Ours(f"mqtt://127.0.0.1:{server.getsockname()[1]}")
        ours.broker.connect(WILL)
        ours.wait(Lost)
        assert ours.delivered == []
        thread.join()


def test_a_broker_that_sends_a_packet_without_end_fills_no_memory() -> None:
    """We told it what we take; whoever owns it may not care."""
    header = b"\x30\xff\xff\xff\x7f\x00\x03cmd"  # 256 MiB
    sent = [0]
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            # What waits here counts as sent, and by itself it grows with the machine.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
            with connection, contextlib.suppress(OSError):
                connection.recv(1000)
                connection.sendall(CONNACK + header)
                while sent[0] < 200 << 20:
                    sent[0] += connection.send(bytes(1 << 16))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        ours = Ours(f"mqtt://127.0.0.1:{server.getsockname()[1]}")
        ours.broker.connect(WILL)
        assert "larger packet" in ours.wait(Lost).reason
        thread.join(PATIENCE_S)
    # 100 times our buffer, which Linux doubles, and what waits on both sides: 25.4 MiB.
    assert sent[0] < 32 << 20
    assert ours.delivered == []
