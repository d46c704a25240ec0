"""What tests/support/contract.py says of messages that are not by the contract, and that it sees them all pass."""

import random

import pytest
from support import contract
from support.desk import MQTT, Desk, order
from support.sim_broker import SimBroker

from gateway.simulator import VirtualClock
from gateway.uplink.broker import Message

DIGEST = "0" * 64
STATE = b'{"v":1,"online":true,"session":"00000000000000aa","ts":"2026-11-22T07:49:00.000Z","clock":"synced"}'
REPLY = b'{"v":1,"cmd_id":null,"status":"done","code":null,"message":"","retryable":false,"data":{}}'


@pytest.fixture
def broken():
    """What was noted, which is not to fail this test."""
    yield contract.broken
    contract.broken.clear()


@pytest.mark.parametrize("topic, payload, options, complaint", [
    ("state", STATE, {"retain": True}, ""),
    ("state", STATE.replace(b"true", b"yes"), {"retain": True}, "Expecting value"),
    ("state", STATE.replace(b'"v":1', b'"v":1,"colour":"red"'), {"retain": True}, "colour"),
    ("state", STATE, {}, "retain False"),
    ("state", STATE, {"retain": True, "qos": 0}, "QoS 0"),
    ("states", STATE, {"retain": True}, "no such topic"),
    ("campaign/fw 1", b"", {"retain": True}, "no such topic"),
    ("campaign/fw-1", b"", {"retain": True}, ""),
    ("state", b"", {"retain": True}, "Expecting value"),
    (f"image/{DIGEST}/block/07", b"x", {"qos": 0}, "no such topic"),
    (f"image/{DIGEST}/block/7", b"x", {"qos": 0}, ""),
    (f"image/{DIGEST}/get", b'{"size":1,"block":1,"from":0,"bitmap":"gA==","credit":8}', {}, ""),
    (f"image/{DIGEST}/get", b'{"size":0,"block":1,"from":0,"bitmap":"gA==","credit":8}', {}, "minimum"),
    ("rsp/desk/7", REPLY, {}, ""),
])  # fmt: skip
def test_a_message_that_is_not_by_the_contract_is_noted(broken, topic, payload, options, complaint):
    contract.hold_message(topic, payload, **options)
    assert bool(broken) == bool(complaint)
    assert complaint in "".join(broken)


def test_a_reply_is_held_by_the_verb_that_it_answers(broken, tmp_path):
    reply = (
        b'{"v":1,"cmd_id":"x","status":"done","code":null,"message":"","retryable":false,"data":{"ts":"now"}}'
    )
    contract.hold_message("rsp", reply)
    assert not broken
    contract.hold_message("rsp", reply, verb="ping")
    assert "'now' does not match" in broken[0]


def test_what_is_ordered_and_told_passes_by(broken, tmp_path):
    desk = Desk(tmp_path)
    before = contract.held
    desk.send("campaign.submit", order(), origin=MQTT)
    assert contract.held - before == len(desk.outbox()) == 5, (
        "reply, event, snapshots of the campaign and its jobs"
    )
    broker = SimBroker(VirtualClock(), random.Random(0))
    broker.connect(will=Message("mgw/v1/gw-1/state", b"gone", retain=True))
    broker.publish(Message("mgw/v1/gw-1/nowhere", b"{}"))
    desk.close()
    assert len(broken) == 2
