"""Brokers that do what they should not: a real one behind a door that does it in its place. Nothing is lost, nothing is
done twice, and nothing of ours grows."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.broker import Mosquitto
from support.door import Door, hang_up, packets
from support.head_end import HeadEnd
from support.patience import eventually
from support.shim import Ours
from support.uplinked import BASE, Gateway, command, in_order_of_first_appearance, order

from gateway.model import Reply, ReplyStatus
from gateway.uplink import uplink as uplink_module
from gateway.uplink.broker import Connected, Message
from gateway.uplink.uplink import REFUSED_ALARM

RSP, STATE = f"{BASE}/rsp", f"{BASE}/state"
PUBACK = 4
OLDER = "0123456789abcdef"
"""A session of the gateway, long ago."""
WINDOW = 16


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as broker:
        yield broker


@pytest.fixture
def head_end(mosquitto: Mosquitto) -> Iterator[HeadEnd]:
    with HeadEnd(mosquitto.port, f"{BASE}/#") as head_end:
        yield head_end


@contextlib.contextmanager
def gateway_at(url: str, tmp_path: Path) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path / "state", url)
    gateway.start()
    gateway.wait_until_it_hears()
    yield gateway
    gateway.stop()
    assert gateway.bug is None


class Brittle(Door):
    """Cuts a connection in the middle of a packet, whichever way it goes, so many times."""

    def __init__(self, behind: int, cuts: int) -> None:
        super().__init__(behind)
        self._chance = random.Random("brittle")
        self.cuts_left = cuts

    def down(self, broker: socket.socket, client: socket.socket) -> None:
        self._carry(broker, client)

    def up(self, client: socket.socket, broker: socket.socket) -> None:
        self._carry(client, broker)

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        left = self._chance.randrange(500, 6000)
        with contextlib.suppress(OSError):
            while octets := source.recv(4096):
                if self.cuts_left > 0 and len(octets) >= left:
                    self.cuts_left -= 1
                    target.sendall(octets[:left])
                    break
                left -= len(octets)
                target.sendall(octets)
        hang_up(source, target)


def test_connections_that_break_at_random_under_load_cost_nothing_but_repetitions(
    tmp_path: Path, mosquitto: Mosquitto, head_end: HeadEnd
) -> None:
    cuts = 12
    with Brittle(mosquitto.port, cuts) as door, gateway_at(door.url, tmp_path) as gateway:
        sent = []
        for start in range(1, 401, 20):
            gateway.tell(*range(start, start + 20))
            sent += [order(head_end, "ping"), order(head_end, "info.get")]
        eventually(lambda: gateway.store.outbox_bytes() == 0)
        heard = head_end.wait_for(RSP, 400 + len(sent))
        by_id: dict[str, list[object]] = {}
        for one in heard:
            by_id.setdefault(one.document["cmd_id"], []).append(one.document)
        assert by_id.keys() == {*sent, *map(str, range(1, 401))}
        # A repetition says the same: `ping` tells the time, and was done once.
        assert all(document == documents[0] for documents in by_id.values() for document in documents)
        assert len(heard) <= len(by_id) + (cuts - door.cuts_left) * WINDOW
        numbers = [one for one in heard if one.document["cmd_id"].isdecimal()]
        assert in_order_of_first_appearance(numbers) == list(range(1, 401))
        assert door.cuts_left < cuts


class Stuttering(Door):
    """Every PUBACK comes twice, and one for a publication that never was."""

    def down(self, broker: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            for kind, packet in packets(broker):
                client.sendall(packet)
                if kind == PUBACK:
                    client.sendall(packet + b"\x40\x02\xea\x60")
        hang_up(broker, client)


def test_acknowledgements_that_come_twice_or_for_nothing_are_none(
    tmp_path: Path, mosquitto: Mosquitto, head_end: HeadEnd
) -> None:
    with Stuttering(mosquitto.port) as door, gateway_at(door.url, tmp_path) as gateway:
        gateway.tell(*range(1, 201))
        heard = head_end.wait_for(RSP, 200)
        assert [int(one.document["cmd_id"]) for one in heard] == list(range(1, 201))
        eventually(lambda: gateway.store.outbox_bytes() == 0)
        assert mosquitto.log().count("as mgw-gw") == 1  # the connection stands


class Slow(Door):
    """Reads a little of what gateways send, and now and then."""

    def up(self, client: socket.socket, broker: socket.socket) -> None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        with contextlib.suppress(OSError):
            while octets := client.recv(8192):
                broker.sendall(octets)
                time.sleep(0.01)
        hang_up(client, broker)


def test_a_broker_that_reads_slowly_gets_everything_and_fills_no_memory(
    tmp_path: Path, mosquitto: Mosquitto, head_end: HeadEnd
) -> None:
    with Slow(mosquitto.port) as door, gateway_at(door.url, tmp_path) as gateway:
        for number in range(60):
            gateway.store.send_reply(Reply(str(number), ReplyStatus.DONE, message="x" * 8000), RSP)
        waiting = []

        def everything_came() -> bool:
            client = gateway.broker._client
            waiting.append(len(client._out_packet) if client else 0)
            return len(head_end.heard(RSP)) >= 60

        eventually(everything_came)
        assert [int(one.document["cmd_id"]) for one in head_end.heard(RSP)] == list(range(60))
        # A window of publications, and what little is no publication: pings, acknowledgements of commands.
        assert max(waiting) <= 2 * WINDOW
        assert head_end.wait_for_reply(order(head_end, "ping"), b"").document["status"] == "done"


def test_a_broker_that_comes_back_without_its_sessions_is_subscribed_to_again(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    """The command that waited there is gone with them: its head-end repeats it until it is answered."""
    with gateway_at(mosquitto.url, tmp_path) as gateway:
        gateway.stop()
        lost = command()
        with HeadEnd(mosquitto.port, RSP, client_id="before") as head_end:
            order(head_end, "ping", lost)
        mosquitto.stop()
        (mosquitto.directory / "mosquitto.db").unlink()
        mosquitto.start()
        gateway.begin_again()
        with HeadEnd(mosquitto.port, RSP) as head_end:
            for _ in range(3):
                order(head_end, "ping", lost)
            first, *again = [one.document for one in head_end.wait_for(RSP, 3)]
            assert (first["cmd_id"], first["status"]) == (lost["cmd_id"], "done")
            assert again == [first, first]
            gateway.tell(*range(1, 31))
            heard = head_end.wait_for(RSP, 33)[3:]
            assert [int(one.document["cmd_id"]) for one in heard] == list(range(1, 31))


def test_a_broker_restarted_empty_under_a_gateway_that_goes_on_hears_commands_again(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    with gateway_at(mosquitto.url, tmp_path) as gateway:
        mosquitto.kill()
        (mosquitto.directory / "mosquitto.db").unlink(missing_ok=True)
        gateway.tell(*range(1, 51))
        mosquitto.start()
        with HeadEnd(mosquitto.port, f"{BASE}/#") as head_end:
            eventually(lambda: any(one.document["online"] for one in head_end.heard(STATE)))
            eventually(lambda: gateway.store.outbox_bytes() == 0)
            eventually(lambda: gateway.uplink._subscribed)
            reply = head_end.wait_for_reply(order(head_end, "ping"), b"").document
            assert reply["status"] == "done"
            assert len(head_end.heard(f"{BASE}/info")) >= 1


def test_a_subscription_that_the_broker_refuses_is_an_alarm_until_it_is_granted(
    tmp_path: Path, mosquitto: Mosquitto, head_end: HeadEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mosquitto grants every one; a door refuses in its place, with MQTT 5's reason."""
    monkeypatch.setattr(uplink_module, "_REFUSED_RETRY_S", 0.5)

    class Denying(Door):
        denies = True

        def down(self, broker: socket.socket, client: socket.socket) -> None:
            with contextlib.suppress(OSError):
                for kind, packet in packets(broker):
                    client.sendall(packet[:-1] + b"\x87" if kind == 9 and self.denies else packet)
            hang_up(broker, client)

    with Denying(mosquitto.port) as door:
        gateway = Gateway(tmp_path / "state", door.url)
        gateway.start()
        eventually(lambda: REFUSED_ALARM in gateway.board.values("alarm"))
        alarm = gateway.board.values("alarm")[REFUSED_ALARM]
        assert (alarm["topic"], alarm["reason"]) == (f"{BASE}/cmd/+", 0x87)
        gateway.tell(1)
        head_end.wait_for(RSP)  # what it has to say goes on
        door.denies = False
        eventually(lambda: REFUSED_ALARM not in gateway.board.values("alarm"))
        assert head_end.wait_for_reply(order(head_end, "ping"), b"").document["status"] == "done"
        gateway.stop()


def test_a_will_that_comes_late_is_known_by_its_session(
    tmp_path: Path, mosquitto: Mosquitto, head_end: HeadEnd
) -> None:
    """As from a cluster of brokers. mosquitto itself publishes none after the new connection is online."""
    older = {"v": 1, "online": False, "session": OLDER, "ts": "2026-11-01T00:00:00.000Z", "clock": "synced"}
    will = json.dumps(older).encode()
    unnoticed = Ours(mosquitto.url, client_id="mgw-gw")
    unnoticed.broker.connect(Message(STATE, will, retain=True))
    unnoticed.wait(Connected)
    with gateway_at(mosquitto.url, tmp_path):
        head_end.wait_for_reply(order(head_end, "ping"), b"")
        online = head_end.heard(STATE)[-1].document
        assert online["online"]

        head_end.publish(STATE, will, retain=True)
        eventually(lambda: head_end.heard(STATE)[-1].document["online"] is False)
        late = head_end.heard(STATE)[-1].document
        assert late["session"] != online["session"]  # hence not the end of what is online
        assert head_end.wait_for_reply(order(head_end, "ping"), b"").document["status"] == "done"
    unnoticed.broker.drop()
