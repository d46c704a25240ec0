"""Watching a line: who may, what is told, what it costs the line, and that it ends."""

import os

import pytest
from support.desk import CONFIG, MQTT, Desk
from support.world import ciphered

from gateway.board import Recorded, Recording
from gateway.control import Origin, OriginKind
from gateway.control.tracing import UNASKED_S, WATCHES_LIMIT
from gateway.model import MeterKeys, ReplyStatus
from gateway.wire import apdu
from gateway.wire.hdlc import Address, Frame, FrameType
from gateway.wire.security import Protection

METER, US = Address(1, 17), Address(16)
READY = Frame(US, METER, FrameType.RR, True).encode()
TITLE = b"MGW\x00\x00\x00\x00\x01"
KEYS: MeterKeys = ciphered().keys
ROOT = Origin(OriginKind.LOCAL, "uid 0 (pid 1)", 0)
OURSELVES = Origin(OriginKind.LOCAL, "uid of the gateway", os.geteuid())
SOMEBODY = Origin(OriginKind.LOCAL, "uid 65533 (pid 7)", 65533)


@pytest.fixture
def desk(tmp_path):
    gateway = CONFIG.gateway.__class__(id=CONFIG.gateway.id, system_title=TITLE)
    config = CONFIG.__class__(
        gateway, CONFIG.mqtt, CONFIG.commands, CONFIG.firmware, CONFIG.ports, CONFIG.meters, {"MTR1": KEYS}
    )
    desk = Desk(tmp_path, config)
    yield desk
    desk.close()


def begin(desk, origin=SOMEBODY, **args):
    reply = desk.send("port.trace", {"port": "rs485-1", **args}, origin=origin)
    return reply.data["watch"]


def go_on(desk, watch, origin=SOMEBODY):
    return desk.send("port.trace", {"port": "rs485-1", "watch": watch}, origin=origin)


def carry(desk, octets, *, outward=False):
    desk.board.recording("rs485-1").add(Recorded(desk.clock.now().timestamp(), outward, octets))


def test_a_watcher_is_told_what_goes_over_the_line_from_then_on(desk):
    watch = begin(desk)
    assert go_on(desk, watch).data["frames"] == []
    carry(desk, READY[:4])
    carry(desk, READY[4:])
    (frame,) = go_on(desk, watch).data["frames"]
    assert (frame["kind"], frame["meter"], frame["direction"]) == ("hdlc", "MTR1", "from_meter")
    assert frame["octets"] == READY.hex()
    assert frame["at"].endswith("Z")
    assert go_on(desk, watch).data == {"watch": watch, "frames": [], "lost": 0, "more": False}


def test_two_watch_the_same_line_each_at_their_own_pace(desk):
    first, second = begin(desk), begin(desk, origin=ROOT)
    carry(desk, READY)
    assert len(go_on(desk, first).data["frames"]) == 1
    carry(desk, READY)
    assert len(go_on(desk, first).data["frames"]) == 1
    assert len(go_on(desk, second, ROOT).data["frames"]) == 2


def test_nothing_is_kept_while_nobody_watches(desk):
    recording = desk.board.recording("rs485-1")
    assert not recording.wanted
    watch = begin(desk)
    assert recording.wanted
    desk.clock.advance(UNASKED_S + 1)
    desk.controller.tidy()
    assert not recording.wanted
    reply = go_on(desk, watch)
    assert (reply.status, reply.code) == (ReplyStatus.REJECTED, "E_NOT_FOUND")


def test_who_asks_often_enough_is_not_forgotten(desk):
    watch = begin(desk)
    for _ in range(5):
        desk.clock.advance(UNASKED_S * 0.9)
        desk.controller.tidy()
        assert go_on(desk, watch).status is ReplyStatus.DONE


def test_a_slow_watcher_is_told_what_was_lost_and_the_recording_stays_small(desk):
    watch = begin(desk)
    for _ in range(3 * Recording.LIMIT_ENTRIES):
        carry(desk, READY)
    data = go_on(desk, watch).data
    assert data["lost"] == 2 * Recording.LIMIT_ENTRIES
    assert data["frames"][0]["words"].startswith(f"{data['lost']} pieces were lost")
    seen = len(data["frames"]) - 1
    while data["more"]:
        data = go_on(desk, watch).data
        seen += len(data["frames"])
    assert seen == Recording.LIMIT_ENTRIES


def test_long_octets_fill_the_recording_as_well(desk):
    begin(desk)
    recording = desk.board.recording("rs485-1")
    for _ in range(200):
        carry(desk, bytes(16384))
    kept, _, _ = recording.after(0, 1000, 1 << 30)
    assert sum(len(entry.octets) for entry in kept) <= Recording.LIMIT_OCTETS


def test_only_a_few_watch_at_once(desk):
    for _ in range(WATCHES_LIMIT):
        begin(desk)
    reply = desk.send("port.trace", {"port": "lan"}, origin=SOMEBODY)
    assert (reply.code, reply.retryable) == ("E_BUSY", True)
    desk.clock.advance(UNASKED_S + 1)
    assert desk.send("port.trace", {"port": "lan"}, origin=SOMEBODY).status is ReplyStatus.DONE


def test_who_leaves_makes_room_at_once(desk):
    for _ in range(2 * WATCHES_LIMIT):
        watch = begin(desk)
        reply = desk.send("port.trace", {"port": "rs485-1", "watch": watch, "end": True}, origin=SOMEBODY)
        assert reply.status is ReplyStatus.DONE
        assert not desk.board.recording("rs485-1").wanted
        assert go_on(desk, watch).code == "E_NOT_FOUND"


def test_a_line_that_is_not_there_and_a_watch_of_somebody_else(desk):
    assert desk.send("port.trace", {"port": "nowhere"}, origin=SOMEBODY).code == "E_NOT_FOUND"
    watch = begin(desk, origin=ROOT)
    assert go_on(desk, watch, SOMEBODY).code == "E_NOT_FOUND"


def test_nobody_watches_over_mqtt(desk):
    assert desk.send("port.trace", {"port": "rs485-1"}, origin=MQTT).code == "E_AUTH"


# -- deciphered -----------------------------------------------------------------------------------------------


def a_ciphered_request():
    protection = Protection(
        encryption_key=KEYS.encryption_key, authentication_key=KEYS.authentication_key, own_title=TITLE,
        authenticated=True, encrypted=True,
    )  # fmt: skip
    plain = apdu.encode(apdu.GetRequest(apdu.Invoke(1), apdu.Attribute(1, apdu.obis("0-0:42.0.0.255"), 2)))
    return Frame(METER, US, FrameType.I, True, info=b"\xe6\xe6\x00" + protection.seal(plain, 4711)).encode()


@pytest.mark.parametrize("origin", [ROOT, OURSELVES], ids=["root", "the gateway's user"])
def test_root_and_the_gateways_user_see_it_deciphered_and_the_audit_says_who(desk, origin):
    watch = begin(desk, origin, decipher=True)
    carry(desk, a_ciphered_request(), outward=True)
    (frame,) = go_on(desk, watch, origin).data["frames"]
    assert frame["apdu"].endswith("IC 4711")
    assert frame["deciphered"] == "get-request class 1 0-0:42.0.0.255 attribute 2 (value), invoke 1"
    (event,) = [event for event in desk.store.events() if event["kind"] == "trace"]
    assert (event["who"], event["port"], event["message"]) == (origin.who, "rs485-1", "watched deciphered")
    assert ("event", event) in desk.outbox()


def test_anybody_else_is_refused_with_advice_and_sees_it_ciphered_without(desk):
    reply = desk.send("port.trace", {"port": "rs485-1", "decipher": True}, origin=SOMEBODY)
    assert (reply.status, reply.code) == (ReplyStatus.REJECTED, "E_AUTH")
    assert "use sudo" in reply.message
    assert not desk.board.recording("rs485-1").wanted
    watch = begin(desk)
    carry(desk, a_ciphered_request(), outward=True)
    (frame,) = go_on(desk, watch).data["frames"]
    assert "deciphered" not in frame
    assert [event for event in desk.store.events() if event["kind"] == "trace"] == []
