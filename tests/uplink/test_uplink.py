"""The uplink with a real mosquitto, the real Store and the real control: what a head-end may rely on."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.broker import Mosquitto
from support.head_end import HeadEnd
from support.patience import eventually
from support.uplinked import BASE, Gateway, Handle, command, in_order_of_first_appearance, order

from gateway.errors import StoreError
from gateway.model import PortKind, PortSettings, Reply, ReplyStatus
from gateway.uplink import uplink as uplink_module
from gateway.uplink.uplink import REFUSED_ALARM, STATUS


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as broker:
        yield broker


@pytest.fixture
def gateway(tmp_path: Path, mosquitto: Mosquitto) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path / "state", mosquitto.url)
    gateway.start()
    gateway.wait_until_it_hears()
    yield gateway
    gateway.stop()


@pytest.fixture
def head_end(mosquitto: Mosquitto) -> Iterator[HeadEnd]:
    with HeadEnd(mosquitto.port, f"{BASE}/#") as head_end:
        yield head_end


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HeadEnd]:
    """A head-end whose gateway is left in peace, for tests that only ask."""
    directory = tmp_path_factory.mktemp("desk")
    with Mosquitto(directory / "broker") as mosquitto, HeadEnd(mosquitto.port, f"{BASE}/#") as head_end:
        gateway = Gateway(directory / "state", mosquitto.url)
        gateway.start()
        gateway.wait_until_it_hears()
        yield head_end
        gateway.stop()


# -- commands -------------------------------------------------------------------------------------------------


def test_a_command_is_answered_where_it_asked_with_what_it_gave(desk: HeadEnd) -> None:
    cmd_id = order(desk, "ping", response_topic=f"{BASE}/rsp/desk-7", correlation=b"\x00order 7")
    reply = desk.wait_for_reply(cmd_id, b"\x00order 7")
    assert reply.topic == f"{BASE}/rsp/desk-7"
    assert reply.document["status"] == "done"
    assert not reply.retain


@pytest.mark.parametrize(
    ("wished", "where"),
    [
        ("", f"{BASE}/rsp"),
        (f"{BASE}/rsp", f"{BASE}/rsp"),
        (f"{BASE}/rsp/a/b", f"{BASE}/rsp/a/b"),
        (f"{BASE}/state", f"{BASE}/rsp"),
        (f"{BASE}/rspx", f"{BASE}/rsp"),
        ("mgw/v1/another/rsp", f"{BASE}/rsp"),
        (f"{BASE}/rsp/{'x' * 1000}", f"{BASE}/rsp"),
    ],
    ids=lambda topic: topic[:24],
)
def test_no_command_makes_the_gateway_publish_elsewhere(desk: HeadEnd, wished: str, where: str) -> None:
    reply = desk.wait_for_reply(order(desk, "ping", response_topic=wished), b"")
    assert (reply.topic, reply.document["status"]) == (where, "done")


@pytest.mark.parametrize(("octets", "comes_back"), [(256, True), (257, False)])
def test_correlation_data_has_a_limit(desk: HeadEnd, octets: int, comes_back: bool) -> None:
    given = b"x" * octets
    desk.wait_for_reply(order(desk, "ping", correlation=given), given if comes_back else b"")


def test_a_command_sent_while_the_gateway_is_away_is_done_when_it_returns(
    gateway: Gateway, head_end: HeadEnd, mosquitto: Mosquitto
) -> None:
    head_end.wait_for(f"{BASE}/info")
    gateway.stop()
    cmd_id = order(head_end, "ping")
    mosquitto.stop()
    mosquitto.start()
    gateway.begin_again()
    [reply] = head_end.wait_for(f"{BASE}/rsp")
    assert (reply.document["cmd_id"], reply.document["status"]) == (cmd_id, "done")


def test_a_retained_command_is_rejected_and_taking_it_back_is_no_command(
    gateway: Gateway, head_end: HeadEnd
) -> None:
    cmd_id = order(head_end, "ping", retain=True)
    [reply] = head_end.wait_for(f"{BASE}/rsp")
    assert (reply.document["status"], reply.document["code"]) == ("rejected", "E_SCHEMA")
    assert reply.document["cmd_id"] == cmd_id

    head_end.publish(f"{BASE}/cmd/ping", b"", retain=True)
    order(head_end, "ping")
    replies = head_end.wait_for(f"{BASE}/rsp", 2)
    assert [heard.document["status"] for heard in replies] == ["rejected", "done"]


def test_a_command_retained_long_ago_is_rejected_once(
    gateway: Gateway, head_end: HeadEnd, mosquitto: Mosquitto
) -> None:
    head_end.wait_for(f"{BASE}/info")
    gateway.stop()
    mosquitto.stop()
    (
        mosquitto.directory / "mosquitto.db"
    ).unlink()  # the session is gone: a new subscription finds what is retained
    mosquitto.start()
    order(head_end, "ping", retain=True)
    gateway.begin_again()
    [reply] = head_end.wait_for(f"{BASE}/rsp")
    assert reply.document["code"] == "E_SCHEMA"

    gateway.stop()
    gateway.begin_again()
    order(head_end, "info.get")
    replies = head_end.wait_for(f"{BASE}/rsp", 2)
    assert [heard.document["status"] for heard in replies] == ["rejected", "done"]


@pytest.mark.parametrize(
    ("payload", "cmd_id"),
    [
        (b"", None),
        (b"{", None),
        (b"\xff\xfe", None),
        (b"[]", None),
        (b'{"v":1}', None),
        (b"[" * 60_000, None),
        (b" " * 65_537, None),
        (b"x" * 900_000, None),
        (b'{"cmd_id":"7e7f3d3c-8a3c-4b0e-9d57-1c6a0f5f3a11","cmd_id":1}', None),
        (b'{"cmd_id":"7e7f3d3c-8a3c-4b0e-9d57-1c6a0f5f3a11"}', "7e7f3d3c-8a3c-4b0e-9d57-1c6a0f5f3a11"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_what_is_no_command_is_rejected_with_whatever_id_could_be_read(
    desk: HeadEnd, payload: bytes, cmd_id: str | None
) -> None:
    asked = uuid.uuid4().bytes
    desk.publish(f"{BASE}/cmd/ping", payload, correlation=asked)
    reply = desk.wait_for_reply(cmd_id, asked).document
    assert (reply["status"], reply["code"]) == ("rejected", "E_SCHEMA")


@pytest.mark.parametrize("verb", ["no-such-verb", "image.add", "PING", "p\u00efng", "$x"])
def test_a_verb_that_is_not_for_mqtt_is_rejected(desk: HeadEnd, verb: str) -> None:
    reply = desk.wait_for_reply(order(desk, verb), b"")
    assert reply.document["status"] == "rejected"


def test_a_command_is_in_the_store_before_it_is_acknowledged(
    gateway: Gateway, head_end: HeadEnd, mosquitto: Mosquitto
) -> None:
    document = command()
    seen: list[tuple[bool, bool]] = []

    def look_before_and_after(handle: Handle, *given: Any) -> Reply:
        reply = handle(*given)
        time.sleep(0.2)  # time enough for an acknowledgement that did not wait
        seen.append((gateway.store.reply_of(document["cmd_id"]) is not None, acknowledged()))
        return reply

    def acknowledged() -> bool:
        return "Received PUBACK from mgw-gw" in mosquitto.log()

    gateway.around_handle = look_before_and_after
    order(head_end, "ping", document)
    head_end.wait_for(f"{BASE}/rsp")
    assert seen == [(True, False)]
    eventually(acknowledged)


def raise_before(error: Exception) -> Callable[..., Reply]:
    def around(handle: Handle, *given: Any) -> Reply:
        raise error

    return around


def raise_after(error: Exception) -> Callable[..., Reply]:
    def around(handle: Handle, *given: Any) -> Reply:
        handle(*given)
        raise error

    return around


def undisturbed(handle: Handle, *given: Any) -> Reply:
    return handle(*given)


@pytest.mark.parametrize("crash", [raise_before, raise_after])
def test_a_crash_while_a_command_is_taken_neither_loses_nor_repeats_it(
    gateway: Gateway, head_end: HeadEnd, crash: Callable[[Exception], Callable[..., Reply]]
) -> None:
    head_end.wait_for(f"{BASE}/info")
    gateway.around_handle = crash(RuntimeError("a bug"))
    cmd_id = order(head_end, "ping")
    assert str(gateway.ended_by_a_bug()) == "a bug"
    gateway.crash()

    gateway.around_handle = undisturbed
    gateway.begin_again()
    head_end.wait_for(f"{BASE}/rsp")
    order(head_end, "info.get")
    eventually(lambda: "verbs" in head_end.heard(f"{BASE}/rsp")[-1].document["data"])
    *replies, _ = [heard.document for heard in head_end.heard(f"{BASE}/rsp")]
    assert {reply["cmd_id"] for reply in replies} == {cmd_id}
    assert all(
        reply == replies[0] for reply in replies
    )  # `ping` tells the time: done once, answered the same again


@pytest.mark.parametrize("failure", [raise_before, raise_after])
def test_while_the_disk_fails_commands_wait_at_the_broker(
    gateway: Gateway, head_end: HeadEnd, failure: Callable[[Exception], Callable[..., Reply]]
) -> None:
    head_end.wait_for(f"{BASE}/info")
    gateway.around_handle = failure(StoreError("no space left on device"))
    cmd_id = order(head_end, "ping")
    eventually(
        lambda: any("no space" in value["reason"] for value in gateway.board.values("uplink").values())
    )
    gateway.around_handle = undisturbed
    reply = head_end.wait_for(f"{BASE}/rsp")[-1]
    assert (reply.document["cmd_id"], reply.document["status"]) == (cmd_id, "done")
    assert gateway.bug is None


# -- outbox ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("restart", ["the broker in order", "the gateway in order", "the gateway by a crash"])
def test_every_message_arrives_in_order_over_restarts(
    gateway: Gateway, head_end: HeadEnd, mosquitto: Mosquitto, restart: str
) -> None:
    topic = f"{BASE}/rsp"
    gateway.tell(*range(1, 301))
    head_end.wait_for(topic, 40)
    if restart == "the broker in order":
        mosquitto.stop()
        gateway.tell(*range(301, 401))
        mosquitto.start()
    else:
        gateway.stop() if restart == "the gateway in order" else gateway.crash()
        gateway.begin_again()
        gateway.tell(*range(301, 401))
    eventually(lambda: gateway.store.outbox_bytes() == 0)
    eventually(lambda: len(in_order_of_first_appearance(head_end.heard(topic))) == 400)

    assert in_order_of_first_appearance(head_end.heard(topic)) == list(range(1, 401))
    assert len(head_end.heard(topic)) <= 400 + 16  # only what was under way can have come twice


def test_nothing_comes_twice_while_nothing_breaks(gateway: Gateway, head_end: HeadEnd) -> None:
    gateway.tell(*range(1, 201))
    eventually(lambda: gateway.store.outbox_bytes() == 0)
    head_end.wait_for(f"{BASE}/rsp", 200)
    order(head_end, "ping")
    heard = head_end.wait_for(f"{BASE}/rsp", 201)
    assert [one.document["cmd_id"] for one in heard[:200]] == [str(number) for number in range(1, 201)]
    assert len(heard) == 201


def test_a_broker_that_takes_one_at_a_time_gets_one_at_a_time(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "broker", settings="max_inflight_messages 1") as mosquitto:
        gateway = Gateway(tmp_path / "state", mosquitto.url)
        gateway.start()
        with HeadEnd(mosquitto.port, f"{BASE}/#") as head_end:
            gateway.tell(*range(1, 31))
            head_end.wait_for(f"{BASE}/rsp", 30)
        assert mosquitto.log().count("Received CONNECT") <= mosquitto.log().count("as mgw-gw") + 1
        assert mosquitto.log().count("as mgw-gw") == 1  # never thrown out
        gateway.stop()


def test_a_reply_too_large_for_the_broker_is_told_in_short(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "broker", settings="max_packet_size 2000") as mosquitto:
        gateway = Gateway(tmp_path / "state", mosquitto.url)
        gateway.tell(1)
        gateway.store.send_reply(Reply("2", ReplyStatus.DONE, message="x" * 3000), f"{BASE}/rsp")
        gateway.tell(3)
        with HeadEnd(mosquitto.port, f"{BASE}/#") as head_end:
            gateway.start()
            heard = head_end.wait_for(f"{BASE}/rsp", 3)
            eventually(lambda: not gateway.store.outbox_batch(0, 9))
        told = {one.document["cmd_id"]: one.document for one in heard}
        assert list(told) == ["1", "3", "2"]
        assert (told["2"]["status"], told["2"]["code"]) == ("failed", "E_STATE")
        assert "the broker takes packets of 2000" in told["2"]["message"]
        gateway.stop()


def test_what_the_broker_denies_stays_with_an_alarm_until_it_allows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uplink_module, "_REFUSED_RETRY_S", 0.5)
    narrow = f"topic read #\ntopic write {BASE}/state\ntopic write {BASE}/info\ntopic write {BASE}/rsp/open\n"
    with Mosquitto(tmp_path / "broker", acl=narrow) as mosquitto:
        gateway = Gateway(tmp_path / "state", mosquitto.url)
        gateway.tell(1, 2)
        gateway.store.send_reply(Reply("3", ReplyStatus.DONE), f"{BASE}/rsp/open")
        with HeadEnd(mosquitto.port, f"{BASE}/#") as head_end:
            gateway.start()
            head_end.wait_for(f"{BASE}/rsp/open")  # others go on
            eventually(lambda: REFUSED_ALARM in gateway.board.values("alarm"))
            alarm = gateway.board.values("alarm")[REFUSED_ALARM]
            assert (alarm["topic"], alarm["reason"]) == (f"{BASE}/rsp", 0x87)
            eventually(lambda: len(gateway.store.outbox_batch(0, 9)) == 2)
            assert head_end.heard(f"{BASE}/rsp") == []

            mosquitto.set_acl(f"{narrow}topic write {BASE}/rsp\n")
            heard = head_end.wait_for(f"{BASE}/rsp", 2)
            # Whichever is tried again first after the rules have changed.
            assert set(in_order_of_first_appearance(heard)) == {1, 2}
            eventually(lambda: gateway.store.outbox_bytes() == 0)
            eventually(lambda: REFUSED_ALARM not in gateway.board.values("alarm"))
        gateway.stop()


# -- state ----------------------------------------------------------------------------------------------------


def test_state_tells_who_is_online_and_a_will_names_its_session(
    gateway: Gateway, head_end: HeadEnd, mosquitto: Mosquitto
) -> None:
    topic = f"{BASE}/state"
    [first] = [heard.document for heard in head_end.wait_for(topic)]
    assert (first["v"], first["online"], first["clock"]) == (1, True, "synced")

    gateway.crash()
    will = head_end.wait_for(topic, 2)[1]
    assert (will.document["online"], will.document["session"]) == (False, first["session"])
    assert will.retain

    gateway.begin_again()
    again = head_end.wait_for(topic, 3)[2].document
    assert again["online"]
    assert again["session"] != first["session"]

    gateway.stop()
    goodbye = head_end.wait_for(topic, 4)[3].document
    assert (goodbye["online"], goodbye["session"]) == (False, again["session"])

    gateway.begin_again()
    head_end.wait_for(topic, 5)
    with HeadEnd(mosquitto.port, topic, client_id="latecomer") as latecomer:
        [retained] = latecomer.wait_for(topic)
        assert (retained.retain, retained.document["online"]) == (True, True)
    assert len(head_end.heard(topic)) == 5  # a goodbye is not followed by the Will


def test_info_says_what_the_gateway_is(gateway: Gateway, head_end: HeadEnd) -> None:
    [info] = head_end.wait_for(f"{BASE}/info")
    assert info.retain
    assert info.document["gateway"] == "gw"
    assert info.document["version"] == "1.2.3"


def test_info_is_told_again_when_the_configuration_has_changed(
    gateway: Gateway, head_end: HeadEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uplink_module, "_STATE_LOOK_S", 0.1)
    head_end.wait_for(f"{BASE}/info")
    gateway.controller.use(replace(gateway.config, ports=(PortSettings("lan", PortKind.TCP, address="a:1"),)))
    infos = head_end.wait_for(f"{BASE}/info", 2)
    assert [info.document["ports"] for info in infos] == [[], ["lan"]]


def test_a_change_of_the_clock_is_told(
    gateway: Gateway, head_end: HeadEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uplink_module, "_STATE_LOOK_S", 0.1)
    head_end.wait_for(f"{BASE}/state")
    gateway.stop()
    gateway.begin_again()
    head_end.wait_for(f"{BASE}/state", 3)
    gateway.clock_state = "unsynced"
    state = head_end.wait_for(f"{BASE}/state", 4)[3].document
    assert (state["online"], state["clock"]) == (True, "unsynced")


def test_progress_of_the_board_goes_out_and_may_be_lost(gateway: Gateway, head_end: HeadEnd) -> None:
    head_end.wait_for(f"{BASE}/info")
    value = {"state": "transferring", "blocks_done": 7, "blocks_total": 512, "bytes_per_s": 800, "eta_s": 60}
    gateway.board.post(("progress", "fw-1", "MTR1"), value)
    [heard] = head_end.wait_for(f"{BASE}/progress/fw-1/MTR1")
    assert heard.document.items() >= {"v": 1, "campaign_id": "fw-1", "meter": "MTR1", **value}.items()
    assert not heard.retain


def test_without_a_broker_the_uplink_shows_life_and_connects_when_there_is_one(tmp_path: Path) -> None:
    mosquitto = Mosquitto(tmp_path / "broker")
    gateway = Gateway(tmp_path / "state", mosquitto.url)
    gateway.start()
    eventually(lambda: bool(gateway.board.lives()))
    eventually(
        lambda: any("cannot connect" in value["reason"] for value in gateway.board.values("uplink").values())
    )
    with mosquitto:
        eventually(lambda: gateway.board.values("uplink")[STATUS]["online"])
        gateway.stop()
