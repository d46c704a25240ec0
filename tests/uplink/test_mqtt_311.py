"""A broker that speaks MQTT 3.1.1 only: what a head-end may rely on there, and what not."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.broker import Mosquitto
from support.head_end import HeadEnd
from support.one_version import MQTT_5, MQTT_311, NEW_REFUSAL, OLD_REFUSAL, OneVersion
from support.patience import eventually
from support.shim import WILL, Ours
from support.uplinked import BASE, Gateway, command, in_order_of_first_appearance, order

from gateway.model import Reply, ReplyStatus
from gateway.uplink.broker import Acknowledged, Lost, Message, Subscribed


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as broker:
        yield broker


@pytest.fixture
def old(mosquitto: Mosquitto) -> Iterator[OneVersion]:
    with OneVersion(mosquitto.port) as old:
        yield old


@pytest.fixture
def ours(old: OneVersion) -> Iterator[Ours]:
    """Connected over MQTT 3.1.1."""
    ours = Ours(old.url)
    ours.broker.connect(WILL)
    ours.wait(Lost)
    ours.connect()
    yield ours
    ours.broker.drop()


@pytest.fixture
def gateway(tmp_path: Path, old: OneVersion) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path / "state", old.url)
    gateway.start()
    gateway.wait_until_it_hears()
    yield gateway
    gateway.stop()


@pytest.fixture
def head_end(mosquitto: Mosquitto) -> Iterator[HeadEnd]:
    with HeadEnd(mosquitto.port, f"{BASE}/#") as head_end:
        yield head_end


# -- which version --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("refusal", [OLD_REFUSAL, NEW_REFUSAL])
def test_a_broker_that_refuses_mqtt_5_is_asked_for_3_1_1_and_not_again_for_5(
    mosquitto: Mosquitto, refusal: bytes
) -> None:
    with OneVersion(mosquitto.port, refusal=refusal) as old:
        ours = Ours(old.url)
        ours.broker.connect(WILL)
        assert ours.wait(Lost).reason == "the broker does not speak MQTT 5: MQTT 3.1.1 from now on"
        for _ in range(3):
            ours.connect()
        ours.broker.drop()
        assert old.asked == [MQTT_5, MQTT_311, MQTT_311, MQTT_311]


def test_a_broker_that_learns_mqtt_5_and_forgets_3_1_1_is_found_too(ours: Ours, old: OneVersion) -> None:
    old.speaks = MQTT_5
    ours.broker.connect(WILL)
    assert "MQTT 5 from now on" in ours.wait(Lost).reason
    ours.connect()
    assert old.asked[-2:] == [MQTT_311, MQTT_5]


def test_a_broker_that_speaks_neither_is_asked_for_both_in_turn(mosquitto: Mosquitto) -> None:
    with OneVersion(mosquitto.port, speaks=3) as older:
        ours = Ours(older.url)
        for _ in range(4):
            ours.broker.connect(WILL)
            assert "does not speak" in ours.wait(Lost).reason
        assert older.asked == [MQTT_5, MQTT_311, MQTT_5, MQTT_311]


def test_a_refusal_for_another_reason_changes_no_version(tmp_path: Path) -> None:
    with (
        Mosquitto(tmp_path / "strict", settings="allow_anonymous false") as strict,
        OneVersion(strict.port) as old,
    ):
        ours = Ours(old.url, username="gw", password="wrong")
        ours.broker.connect(WILL)
        ours.wait(Lost)
        for _ in range(2):
            ours.broker.connect(WILL)
            assert "not authori" in ours.wait(Lost).reason.lower()
        assert old.asked == [MQTT_5, MQTT_311, MQTT_311]


def test_the_change_of_version_is_one_line_of_the_log(
    tmp_path: Path, old: OneVersion, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    gateway = Gateway(tmp_path / "state", old.url)
    gateway.start()
    for connections in (2, 3, 4):
        eventually(lambda count=connections: caplog.text.count("uplink online") == count - 1)
        old.break_connections()
    gateway.stop()
    assert caplog.text.count("MQTT 3.1.1 from now on") == 1


# -- commands -------------------------------------------------------------------------------------------------


def test_a_command_is_answered_on_the_usual_topic_whatever_it_wished(
    gateway: Gateway, head_end: HeadEnd
) -> None:
    cmd_id = order(head_end, "ping", response_topic=f"{BASE}/rsp/desk-7", correlation=b"order 7")
    reply = head_end.wait_for_reply(cmd_id, b"")
    assert (reply.topic, reply.document["status"]) == (f"{BASE}/rsp", "done")


def test_what_came_while_we_were_away_comes_when_we_return(
    gateway: Gateway, old: OneVersion, head_end: HeadEnd, mosquitto: Mosquitto
) -> None:
    gateway.stop()
    cmd_id = order(head_end, "ping")
    mosquitto.stop()
    mosquitto.start()
    gateway.begin_again()
    assert head_end.wait_for_reply(cmd_id, b"").document["status"] == "done"


def test_a_command_retained_before_we_came_is_refused_once_and_not_at_each_connection(
    tmp_path: Path, old: OneVersion, head_end: HeadEnd
) -> None:
    cmd_id = order(head_end, "ping", retain=True)
    gateway = Gateway(tmp_path / "state", old.url)
    gateway.start()
    gateway.wait_until_it_hears()
    reply = head_end.wait_for_reply(cmd_id, b"").document
    assert (reply["status"], reply["code"]) == ("rejected", "E_SCHEMA")
    eventually(lambda: gateway.store.outbox_bytes() == 0)  # else it would be told again

    for states in (2, 3):  # each connection says that it is online
        old.break_connections()
        head_end.wait_for(f"{BASE}/state", 2 * states - 1)
    head_end.wait_for_reply(order(head_end, "info.get"), b"")
    assert len(head_end.heard(f"{BASE}/rsp")) == 2
    gateway.stop()


def test_a_command_retained_while_we_listened_is_done_once(
    gateway: Gateway, old: OneVersion, head_end: HeadEnd
) -> None:
    """It cannot be told from a live one; its id protects."""
    document = command()
    for _ in range(2):
        order(head_end, "ping", document, retain=True)
    first, second = (heard.document for heard in head_end.wait_for(f"{BASE}/rsp", 2))
    assert first == second  # `ping` tells the time
    assert first["status"] == "done"


# -- outbox and state -----------------------------------------------------------------------------------------


def test_every_message_arrives_in_order_over_broken_connections(
    gateway: Gateway, old: OneVersion, head_end: HeadEnd
) -> None:
    topic = f"{BASE}/rsp"
    for start in range(1, 401, 100):
        gateway.tell(*range(start, start + 100))
        head_end.wait_for(topic, start + 20)
        old.break_connections()
    eventually(lambda: gateway.store.outbox_bytes() == 0)
    eventually(lambda: len(in_order_of_first_appearance(head_end.heard(topic))) == 400)
    assert in_order_of_first_appearance(head_end.heard(topic)) == list(range(1, 401))
    assert len(head_end.heard(topic)) <= 400 + 4 * 16  # only what was under way can have come twice


def test_a_reply_to_a_command_that_came_over_mqtt_5_goes_out_without_its_properties(
    gateway: Gateway, head_end: HeadEnd
) -> None:
    gateway.store.send_reply(Reply("7", ReplyStatus.DONE), f"{BASE}/rsp/desk", correlation=b"order 7")
    [heard] = head_end.wait_for(f"{BASE}/rsp/desk")
    assert (heard.document["cmd_id"], heard.correlation) == ("7", b"")
    eventually(lambda: gateway.store.outbox_bytes() == 0)


def test_state_goodbye_and_will(gateway: Gateway, head_end: HeadEnd) -> None:
    topic = f"{BASE}/state"
    [first] = [heard.document for heard in head_end.wait_for(topic)]
    assert first["online"]
    gateway.crash()
    will = head_end.wait_for(topic, 2)[1]
    assert (will.document["online"], will.document["session"]) == (False, first["session"])
    gateway.begin_again()
    gateway.stop()
    goodbye = json.loads(head_end.wait_for(topic, 4)[3].payload)
    assert not goodbye["online"]
    assert goodbye["session"] != first["session"]
    gateway.begin_again()


# -- what 3.1.1 cannot say ------------------------------------------------------------------------------------


def test_a_publication_that_is_denied_looks_like_any_other(tmp_path: Path) -> None:
    """MQTT 3.1.1, clause 3.3.5: the server has no way to tell; only the broker's own log knows."""
    with (
        Mosquitto(tmp_path / "strict", acl="topic readwrite allowed/#") as strict,
        OneVersion(strict.port) as old,
    ):
        ours = Ours(old.url)
        ours.broker.connect(WILL)
        ours.wait(Lost)
        ours.connect()
        denied = ours.broker.publish(Message("forbidden", b"1"))
        assert ours.wait(Acknowledged) == Acknowledged(denied, 0)
        ours.broker.drop()


def test_a_subscription_that_is_denied_is_told() -> None:
    """MQTT 3.1.1, clause 3.9.3. (mosquitto grants every subscription and then delivers nothing.)"""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with server.accept()[0] as connection:
                connection.recv(1000)
                connection.sendall(OLD_REFUSAL)
            with server.accept()[0] as connection:
                connection.recv(1000)
                connection.sendall(b"\x20\x02\x00\x00")
                packet_id = connection.recv(1000)[2:4]
                connection.sendall(b"\x90\x03" + packet_id + b"\x80")
                connection.recv(1000)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        ours = Ours(f"mqtt://127.0.0.1:{server.getsockname()[1]}")
        ours.broker.connect(WILL)
        ours.wait(Lost)
        ours.connect()
        ours.broker.subscribe("cmd/+")
        assert ours.wait(Subscribed).reason == 0x80
        ours.broker.drop()
        thread.join()
