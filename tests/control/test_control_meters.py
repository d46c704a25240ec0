"""Meters that come and go by command, as whoever orders it sees them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from support.desk import CONFIG, LOCAL, MQTT, Desk, Fuse, PowerCut, hold, open_fused, order, short

from gateway.config import with_stored
from gateway.control.schema import schema
from gateway.errors import Code
from gateway.model import (
    BitmapOrder,
    CommandSettings,
    Framing,
    GatewaySettings,
    JobState,
    MeterKeys,
    Profile,
    ReplyStatus,
)
from gateway.store import meters as stored_meters
from gateway.store.commands import METER_CHANGES, meter_changed

REJECTED, DONE, ACCEPTED = ReplyStatus.REJECTED, ReplyStatus.DONE, ReplyStatus.ACCEPTED
WITH_KEYS = replace(
    CONFIG,
    gateway=GatewaySettings(id=CONFIG.gateway.id, system_title=bytes(8)),
    ports=(CONFIG.ports[0], replace(CONFIG.ports[1], framing=Framing.WRAPPER)),
    profiles={"acme-x3": Profile("acme-x3")},
    keys={"MTR7": MeterKeys(bytes(16), bytes(16))},
)
NEW = {"meter": "MTR7", "port": "rs485-1", "physical_address": 23}


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path, config=WITH_KEYS)
    yield desk
    desk.close()


def serve(desk):
    """What whoever owns the configuration does: all of it is in force, then who asked is told."""
    desk.controller.use(with_stored(desk.config, desk.store.stored_meters()))
    while errand := desk.store.take_errand(""):
        assert errand.verb in METER_CHANGES
        desk.controller.use(with_stored(desk.config, desk.store.stored_meters()))
        desk.store.finish_errand(errand, meter_changed(errand.meter_id))


def served(desk, verb, args, **options):
    """The last reply."""
    first = desk.send(verb, args, **options)
    assert first.status is ACCEPTED, first
    serve(desk)
    return desk.store.reply_of(first.cmd_id)


def listed(desk):
    return {meter["meter"]: meter for meter in desk.send("meter.list").data["meters"]}


def refused(reply, code, words=""):
    assert (reply.status, reply.code) == (REJECTED, code), reply
    assert words in reply.message, reply.message
    hold("reply", {"v": 1, "cmd_id": reply.cmd_id, "status": "rejected", "code": code, "message": reply.message,
                   "retryable": reply.retryable, "data": dict(reply.data)})  # fmt: skip


# -- coming and going -----------------------------------------------------------------------------------------


def test_a_meter_comes_is_served_and_goes(desk):
    assert served(desk, "meter.put", NEW).data == {"meter": "MTR7"}
    meters = listed(desk)
    assert meters["MTR7"]["physical_address"] == 23
    assert {name: meter["origin"] for name, meter in meters.items()} == {
        "MTR1": "configuration", "MTR2": "configuration", "MTR3": "configuration", "MTR7": "state",
    }  # fmt: skip
    assert desk.send("meter.probe", {"meter": "MTR7"}).status is ACCEPTED
    desk.store.finish_errand(desk.store.take_errand("rs485-1"), meter_changed("MTR7"))
    assert served(desk, "meter.delete", {"meter": "MTR7"}).status is DONE
    assert "MTR7" not in listed(desk)
    refused(desk.send("meter.probe", {"meter": "MTR7"}), Code.E_NOT_FOUND, "MTR7")


def test_the_audit_says_who_put_what(desk):
    served(desk, "meter.put", NEW)
    served(desk, "meter.delete", {"meter": "MTR7"})
    put, deleted = [event for event in desk.store.events(0, 100) if event["kind"] == "meter"]
    assert put["message"] == "put: port rs485-1, physical_address 23"
    assert deleted["message"] == "deleted"
    assert {event["who"] for event in (put, deleted)} == {LOCAL.who}
    assert {event["port"] for event in (put, deleted)} == {"rs485-1"}
    for event in (put, deleted):
        hold("event", event)


def test_another_description_takes_the_place_of_the_one_before(desk):
    served(desk, "meter.put", {**NEW, "client": 2})
    served(desk, "meter.put", {"meter": "MTR7", "port": "lan", "logical_address": 9})
    meter = listed(desk)["MTR7"]
    assert (meter["port"], meter["logical_address"], meter["client"]) == ("lan", 9, 1)


def test_what_changes_nothing_is_done_at_once_even_while_there_is_work(desk):
    served(desk, "meter.put", NEW)
    desk.send("meter.probe", {"meter": "MTR7"})
    assert desk.send("meter.put", {**NEW, "client": 1}).status is DONE
    assert desk.store.take_errand("") is None


def test_until_its_line_is_served_a_changed_meter_is_promised_to_nobody(desk):
    served(desk, "meter.put", NEW)
    assert desk.send("meter.put", {**NEW, "physical_address": 24}).status is ACCEPTED
    refused(desk.send("meter.probe", {"meter": "MTR7"}), Code.E_NOT_FOUND)
    refused(desk.send("meter.put", {**NEW, "physical_address": 25}), Code.E_BUSY, "under way")
    refused(desk.send("meter.delete", {"meter": "MTR7"}), Code.E_BUSY, "under way")
    refused(
        desk.send("meter.put", {"meter": "MTR8", "port": "rs485-1", "physical_address": 24}),
        Code.E_SCHEMA,
        "MTR7",
    )
    serve(desk)
    assert listed(desk)["MTR7"]["physical_address"] == 24


def test_a_reload_that_was_under_way_promises_a_changed_meter_to_nobody_either(desk):
    served(desk, "meter.put", NEW)
    read_before = with_stored(desk.config, desk.store.stored_meters())
    assert desk.send("meter.put", {**NEW, "physical_address": 24}).status is ACCEPTED
    desk.controller.use(read_before)
    refused(desk.send("meter.probe", {"meter": "MTR7"}), Code.E_NOT_FOUND)


def test_what_was_accepted_is_brought_into_force_however_late_its_turn_comes(desk):
    first = desk.send("meter.put", NEW)
    desk.clock.advance(8 * 86400)
    desk.store.purge_expired()
    serve(desk)
    assert desk.store.reply_of(first.cmd_id).status is DONE
    assert "MTR7" in listed(desk)


def test_the_same_command_is_done_once(desk):
    again = {"cmd_id": "6463d5dc-c344-4839-97d3-5ae6d5c82a1e"}
    raw = json.dumps(desk.envelope("meter.put", NEW, **again)).encode()
    first = desk.give(raw)
    serve(desk)
    assert [first.status, desk.give(raw).status] == [ACCEPTED, DONE]
    assert len([event for event in desk.store.events(0, 100) if event["kind"] == "meter"]) == 1


# -- what is refused ------------------------------------------------------------------------------------------

BAD = {
    "no port": ({"meter": "MTR7"}, Code.E_SCHEMA, "port"),
    "a port that is not there": ({**NEW, "port": "bus9"}, Code.E_SCHEMA, 'port: found "bus9", expected the name'),
    "a profile that is not there": ({**NEW, "profile": "x9"}, Code.E_SCHEMA, 'profile: found "x9"'),
    "no id": ({**NEW, "meter": "../7"}, Code.E_SCHEMA, "meter"),
    "an address that is reserved": ({**NEW, "physical_address": 127}, Code.E_SCHEMA, "physical_address: found 127"),
    "an address as text": ({**NEW, "physical_address": "23"}, Code.E_SCHEMA, "physical_address"),
    "the address of a configured meter": ({**NEW, "physical_address": 17}, Code.E_SCHEMA, "than that of meter MTR1"),
    "an HDLC address behind the wrapper": ({**NEW, "port": "lan"}, Code.E_SCHEMA, 'its port has framing = "wrapper"'),
    "what is not supported yet": ({**NEW, "authentication": "hls-ecdsa"}, Code.E_SCHEMA, "not supported yet"),
    "a suite that is not supported yet": ({**NEW, "suite": 1}, Code.E_SCHEMA, "not supported yet"),
    "keys in the command": ({**NEW, "encryption_key": "00" * 16}, Code.E_SCHEMA, "encryption_key"),
    "a password that keys.toml does not have": (
        {**NEW, "authentication": "lls"}, Code.E_SCHEMA, "keys.toml: meters.MTR7.password: found nothing"
    ),
    "ciphering without keys": (
        {**NEW, "meter": "MTR8", "security": "both", "authentication": "hls-gmac"},
        Code.E_SCHEMA, "keys.toml: meters.MTR8.encryption_key: found nothing",
    ),
    "a dedicated key without ciphering": ({**NEW, "dedicated_key": True}, Code.E_SCHEMA, "dedicated_key"),
    "a meter of the configuration": ({**NEW, "meter": "MTR1"}, Code.E_STATE, "MTR1 stands in the configuration"),
}  # fmt: skip


@pytest.mark.parametrize(("args", "code", "words"), BAD.values(), ids=BAD)
def test_a_meter_that_cannot_be_is_refused_by_name_and_nothing_is_stored(desk, args, code, words):
    refused(desk.send("meter.put", args), code, words)
    assert not desk.store.stored_meters()
    assert "00" * 16 not in json.dumps(desk.store.events(0, 100))


def test_every_mistake_is_named_at_once(desk):
    reply = desk.send("meter.put", {**NEW, "port": "bus9", "client": 900, "profile": "x9"})
    for words in ('port: found "bus9"', "client: found 900", 'profile: found "x9"'):
        assert words in reply.message


def test_keys_that_are_there_make_a_ciphering_meter_welcome(desk):
    assert served(desk, "meter.put", {**NEW, "security": "both", "authentication": "hls-gmac"}).status is DONE


@pytest.mark.parametrize(
    ("meter", "code", "words"),
    [("MTR1", Code.E_STATE, "stands in the configuration"), ("MTR9", Code.E_NOT_FOUND, "no meter MTR9")],
)
def test_what_did_not_come_by_command_does_not_go_by_one(desk, meter, code, words):
    refused(desk.send("meter.delete", {"meter": meter}), code, words)


def test_a_meter_with_an_open_job_stays_as_it_is(desk):
    served(desk, "meter.put", NEW)
    desk.send("campaign.submit", order(targets=["MTR7"]))
    refused(desk.send("meter.put", {**NEW, "client": 3}), Code.E_STATE, "open campaign fw-1")
    refused(desk.send("meter.delete", {"meter": "MTR7"}), Code.E_STATE, "open campaign fw-1")
    desk.send("campaign.cancel", {"campaign_id": "fw-1"})
    assert served(desk, "meter.delete", {"meter": "MTR7"}).status is DONE


def test_a_meter_that_somebody_waits_to_read_stays_as_it_is(desk):
    served(desk, "meter.put", NEW)
    desk.send("meter.read", {"meter": "MTR7"})
    refused(desk.send("meter.delete", {"meter": "MTR7"}), Code.E_STATE, "a meter.read waits for meter MTR7")


def test_a_line_is_not_left_while_one_of_its_meters_cannot_be_resumed(desk):
    whole = replace(desk.config.meters[0], profile=Profile(bitmap=BitmapOrder.IGNORE))
    desk.config = replace(desk.config, meters=(whole, *desk.config.meters[1:]))
    desk.controller.use(desk.config)
    desk.send("campaign.submit", order(targets=["MTR1"]))
    job = desk.store.job("fw-1", "MTR1")
    desk.store.save_job(replace(job, state=JobState.TRANSFERRING))
    refused(desk.send("meter.put", NEW), Code.E_BUSY, "one unbroken association on port rs485-1")
    assert served(desk, "meter.put", {"meter": "MTR7", "port": "lan", "logical_address": 9}).status is DONE


def test_there_is_an_end_to_them(desk, monkeypatch):
    monkeypatch.setattr(stored_meters, "STORED_METERS_LIMIT", 1)
    served(desk, "meter.put", NEW)
    refused(desk.send("meter.put", {**NEW, "meter": "MTR8", "physical_address": 24}), Code.E_BUSY, "1 meters")
    assert served(desk, "meter.put", {**NEW, "client": 4}).status is DONE


# -- who may ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["meter.put", "meter.delete"])
def test_over_mqtt_only_where_an_operator_has_allowed_it(desk, verb):
    refused(desk.send(verb, NEW if verb == "meter.put" else {"meter": "MTR7"}, origin=MQTT), Code.E_AUTH)


def test_where_it_is_allowed_both_replies_go_to_the_broker(desk):
    desk.config = replace(desk.config, commands=CommandSettings(mqtt_verbs=("meter.*",)))
    desk.controller.use(desk.config)
    served(desk, "meter.put", NEW, origin=MQTT)
    replies = [
        json.loads(row.payload) for row in desk.store.outbox_batch(0, 100) if short(row.topic) == "rsp"
    ]
    assert [reply["status"] for reply in replies] == ["accepted", "done"]


# -- what does not fit any more --------------------------------------------------------------------------------


def test_one_that_does_not_fit_any_more_is_shown_and_can_be_deleted(desk):
    served(desk, "meter.put", NEW)
    desk.config = replace(desk.config, ports=desk.config.ports[1:], meters=desk.config.meters[2:])
    serve(desk)
    reply = desk.send("meter.list")
    assert "MTR7" not in {meter["meter"] for meter in reply.data["meters"]}
    [left_out] = reply.data["left_out"]
    assert left_out["meter"] == "MTR7"
    assert 'port: found "rs485-1"' in left_out["why"][0]
    assert served(desk, "meter.delete", {"meter": "MTR7"}).status is DONE
    assert not desk.send("meter.list").data["left_out"]


def test_one_that_stands_in_the_configuration_meanwhile_is_forgotten_and_that_meter_stays(desk):
    served(desk, "meter.put", NEW)
    own = replace(desk.config.meters[0], id="MTR7", physical_address=31)
    desk.config = replace(desk.config, meters=(*desk.config.meters, own))
    serve(desk)
    assert "MTR7" in {one["meter"] for one in desk.send("meter.list").data["left_out"]}
    assert desk.send("meter.delete", {"meter": "MTR7"}).status is ACCEPTED
    assert listed(desk)["MTR7"]["origin"] == "configuration", "its line is not touched meanwhile"
    serve(desk)
    assert not desk.send("meter.list").data["left_out"]
    refused(desk.send("meter.delete", {"meter": "MTR7"}), Code.E_STATE, "stands in the configuration")


# -- power ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("verb", ["meter.put", "meter.delete"])
def test_power_that_goes_at_a_commit_leaves_a_meter_wholly_there_or_not(tmp_path, verb, after):
    for blows_at in range(1, 20):
        place = tmp_path / f"{blows_at}"
        place.mkdir()
        desk = Desk(place, config=WITH_KEYS)
        if verb == "meter.delete":
            served(desk, "meter.put", NEW)
        raw = json.dumps(desk.envelope(verb, NEW if verb == "meter.put" else {"meter": "MTR7"})).encode()
        desk.close()
        fuse = Fuse(blows_at, after)
        desk = Desk(place, config=WITH_KEYS, store=None)
        desk.close()
        fused = open_fused(place, desk.clock, fuse, desk.board)
        desk = Desk(place, config=WITH_KEYS, clock=desk.clock, board=desk.board, store=fused)
        serve(desk)
        accepted = False
        try:
            accepted = desk.give(raw).status is ACCEPTED
            serve(desk)
        except PowerCut:
            pass
        whole = fuse.commits < fuse.blows_at
        desk.close()
        desk = Desk(place, config=WITH_KEYS, clock=desk.clock)
        desk.store.fail_running_errands()
        serve(desk)
        there = "MTR7" in listed(desk)
        known = desk.give(raw)
        serve(desk)
        if accepted:
            assert there is (verb == "meter.put"), "what was answered is so"
            assert known.status is DONE
        assert ("MTR7" in listed(desk)) is (verb == "meter.put"), "asked again, it is done, and once"
        assert not desk.store.take_errand("")
        events = [event for event in desk.store.events(0, 100) if event["kind"] == "meter"]
        assert len(events) == (1 if verb == "meter.put" else 2)
        desk.close()
        if whole:
            break
    else:
        raise AssertionError("there is no end to its commits")


def test_the_schema_of_the_audit_knows_the_kind():
    assert "meter" in schema("event")["properties"]["kind"]["enum"]
