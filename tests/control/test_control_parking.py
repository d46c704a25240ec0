"""Meters that are left alone, as the desk sees them: who may try one, who may set a counter, what is listed."""

import json
from dataclasses import replace

import pytest
from support.desk import CONFIG, LOCAL, MQTT, Desk, hold

from gateway.control.schema import schema
from gateway.errors import Code
from gateway.model import CommandSettings, MeterKeys, ReplyStatus
from gateway.store.documents import reply_document
from gateway.store.parking import HIGHEST_SEED

REJECTED, DONE, ACCEPTED = ReplyStatus.REJECTED, ReplyStatus.DONE, ReplyStatus.ACCEPTED


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path)
    yield desk
    desk.close()


def park(desk, meter_id="MTR1"):
    desk.store.park(meter_id, MeterKeys(bytes(16)), code=Code.T_SECURITY, message="the meter refuses us")


def test_the_list_of_meters_says_which_are_left_alone_and_what_to_do(desk):
    park(desk)
    one, two, _ = desk.send("meter.list").data["meters"]
    assert two["parked"] is None
    parked = one["parked"]
    assert (parked["code"], parked["message"]) == ("T_SECURITY", "the meter refuses us")
    assert parked["since"].endswith("Z")
    assert "keys.toml" in parked["advice"]


def test_a_probe_from_far_away_does_not_try_a_parked_meter(desk):
    park(desk)
    reply = desk.send("meter.probe", {"meter": "MTR1"}, origin=MQTT)
    assert (reply.status, reply.code) == (REJECTED, Code.T_SECURITY)
    assert "left alone since" in reply.message
    assert reply.data["advice"]
    assert not reply.retryable
    assert desk.store.take_errand("rs485-1") is None
    assert desk.send("meter.probe", {"meter": "MTR2"}, origin=MQTT).status is ACCEPTED


def test_a_probe_at_the_gateway_may_try_it(desk):
    park(desk)
    assert desk.send("meter.probe", {"meter": "MTR1"}).status is ACCEPTED
    errand = desk.store.take_errand("rs485-1")
    assert (errand.local, errand.who) == (True, LOCAL.who)


def test_a_probe_that_waited_while_the_meter_was_parked_is_known_to_come_from_far_away(desk):
    desk.send("meter.probe", {"meter": "MTR1"}, origin=MQTT)
    park(desk)
    errand = desk.store.take_errand("rs485-1")
    assert (errand.local, errand.who) == (False, "mqtt")


def test_an_operator_adopts_a_counter_once(desk):
    park(desk)
    raw = json.dumps(desk.envelope("counter.adopt", {"meter": "MTR1", "counter": 5000})).encode()
    reply = desk.give(raw)
    assert (reply.status, reply.data) == (DONE, {"meter": "MTR1", "counter": 5000, "before": None})
    assert desk.store.counter("MTR1") == 5000
    assert desk.store.parked("MTR1") is None
    said = desk.store.events(0, 10)[-2:]
    assert [(event["kind"], event["who"]) for event in said] == [
        ("counter", LOCAL.who),
        ("unparked", LOCAL.who),
    ]
    for event in said:
        hold("event", event)
    desk.store.reserve_counters("MTR1", 10)
    assert desk.give(raw) == reply, "answered again, and not done again"
    assert desk.store.counter("MTR1") == 5010


@pytest.mark.parametrize("args, code, message", [
    ({"meter": "MTR1", "counter": 99}, Code.E_STATE, "100 here, 99 would lead back"),
    ({"meter": "MTR9", "counter": 200}, Code.E_NOT_FOUND, "MTR9"),
    ({"meter": "MTR1", "counter": HIGHEST_SEED + 1}, Code.E_SCHEMA, str(HIGHEST_SEED)),
    ({"meter": "MTR1", "counter": -1}, Code.E_SCHEMA, "args.counter"),
    ({"meter": "MTR1", "counter": "200"}, Code.E_SCHEMA, "args.counter"),
    ({"meter": "MTR1", "counter": True}, Code.E_SCHEMA, "args.counter"),
    ({"meter": "MTR1"}, Code.E_SCHEMA, "counter"),
])  # fmt: skip
def test_a_counter_that_cannot_be_adopted_changes_nothing(desk, args, code, message):
    desk.store.seed_counter("MTR1", 100)
    park(desk)
    reply = desk.send("counter.adopt", args)
    assert (reply.status, reply.code) == (REJECTED, code), reply_document(reply)
    assert message in reply.message
    assert desk.store.counter("MTR1") == 100
    assert desk.store.parked("MTR1")


def test_nobody_adopts_a_counter_from_far_away_whatever_is_configured(tmp_path):
    open_to_all = replace(CONFIG, commands=CommandSettings(mqtt_verbs=("*",)))
    desk = Desk(tmp_path, config=open_to_all)
    reply = desk.send("counter.adopt", {"meter": "MTR1", "counter": 5000}, origin=MQTT)
    assert (reply.status, reply.code) == (REJECTED, Code.E_AUTH)
    assert desk.store.counter("MTR1") is None
    desk.close()


def test_the_schema_knows_the_highest_counter_of_the_store():
    counter = schema("command")["$defs"]["counter.adopt"]["properties"]["counter"]
    assert counter["maximum"] == HIGHEST_SEED
