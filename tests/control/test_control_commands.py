"""Commands as head-ends and operators send them: what is answered, what is refused, and that nothing is done twice."""

import json
import uuid
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.desk import (
    BASE,
    CONFIG,
    IMAGE,
    LOCAL,
    MQTT,
    PROBED,
    SHA256,
    URL,
    Desk,
    hold,
    memory_directory,
    order,
    short,
)

from gateway.control.envelope import COMMAND_LIMIT_BYTES
from gateway.control.verbs import VERBS, over_mqtt
from gateway.errors import Code, StoreError
from gateway.model import (
    CampaignState,
    CommandSettings,
    GatewaySettings,
    JobState,
    Reply,
    ReplyStatus,
)
from gateway.store.documents import time_text
from gateway.worker.figures import COUNTED

REJECTED, DONE, ACCEPTED = ReplyStatus.REJECTED, ReplyStatus.DONE, ReplyStatus.ACCEPTED


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path)
    yield desk
    desk.close()


def refused(reply, code, message=""):
    assert (reply.status, reply.code) == (REJECTED, code), reply
    assert message in reply.message, reply.message
    assert reply.data["advice"]


# -- the envelope ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw, message", [
    (b"", "no JSON"),
    (b"{", "no JSON"),
    (b"\xff\xfe{}", "not UTF-8"),
    (b'{"v":1,"v":1}', "twice"),
    (b'{"v":NaN}', "NaN"),
    (b'{"v":1e999}', "too big"),
    (b"7" * 5000, "too long"),
    (b"[" * 40 + b"]" * 40, "nested"),
    (b"[" * 60000, "nested"),
    (b'{"a":"\\ud800"}', "UTF-8"),
    (b"[]", "is not of type 'object'"),
    (b"null", "is not of type 'object'"),
    (b"{}", "found no"),
    (b" " * (COMMAND_LIMIT_BYTES + 1), "at most 65536"),
])  # fmt: skip
def test_octets_that_are_no_command_are_answered_all_the_same(desk, raw, message):
    reply = desk.give(raw, MQTT)
    refused(reply, Code.E_SCHEMA, message)
    assert reply.cmd_id is None
    [(topic, document)] = desk.outbox()
    assert topic == "rsp"
    assert document["code"] == "E_SCHEMA"


@pytest.mark.parametrize("change, message", [
    ({"v": 2}, "v:"),
    ({"v": None}, "found no 'v'"),
    ({"issued": None}, "found no 'issued'"),
    ({"expires": None}, "found no 'expires'"),
    ({"issued": "yesterday"}, "issued:"),
    ({"issued": "2026-02-30T00:00:00Z"}, "issued: day is out of range"),
    ({"issued": "2026-01-01T00:00:00+02:00"}, "issued:"),
    ({"expires": "2026-01-01T00:00:00Z"}, "expires: expected later than `issued`"),
    ({"expires": "2026-01-08T00:00:01Z"}, "at most 7 days"),
    ({"args": []}, "args:"),
    ({"nonsense": 1}, "'nonsense' was unexpected"),
])  # fmt: skip
def test_a_wrong_envelope_is_refused_under_its_own_id(desk, change, message):
    whole = desk.envelope("ping") | change
    envelope = {name: value for name, value in whole.items() if value is not None}
    reply = desk.give(json.dumps(envelope).encode())
    refused(reply, Code.E_SCHEMA, message)
    assert reply.cmd_id == envelope["cmd_id"]


A_UUID = "6f1c1f0e-5f0b-4b8e-9a55-0b8f5b0a8f11"


@pytest.mark.parametrize("cmd_id", [None, 7, "", "fw-1", f"{A_UUID}\n", f"{{{A_UUID}}}"])
def test_an_id_that_is_no_uuid_is_not_given_back(desk, cmd_id):
    reply = desk.send("ping", cmd_id=cmd_id)
    refused(reply, Code.E_SCHEMA, "cmd_id")
    assert reply.cmd_id is None


def test_a_command_lives_from_issued_to_expires(desk):
    week = {"expires": time_text(desk.clock.now() + timedelta(days=7))}
    raw = json.dumps(desk.envelope("ping", **week)).encode()
    again = json.dumps(desk.envelope("ping", **week)).encode()
    assert desk.give(raw).status is DONE
    desk.clock.advance(timedelta(days=7).total_seconds() - 1)
    assert desk.give(again).status is DONE
    desk.clock.advance(1)
    refused(desk.give(raw), Code.E_EXPIRED)


def test_a_command_from_the_future_is_refused_beyond_what_clocks_differ(desk):
    def issued_in(minutes):
        issued = desk.clock.now() + timedelta(minutes=minutes)
        return {"issued": time_text(issued), "expires": time_text(issued + timedelta(hours=1))}

    assert desk.send("ping", **issued_in(4)).status is DONE
    refused(desk.send("ping", **issued_in(6)), Code.E_SCHEMA, "future")


# -- verbs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_over_mqtt_the_verb_stands_in_the_topic(desk, verb):
    reply = desk.send(None, {"surprise": 1}, origin=MQTT, topic_verb=verb)
    allowed = over_mqtt(verb, CONFIG)
    refused(reply, Code.E_SCHEMA if allowed else Code.E_AUTH, "args" if allowed else verb)
    reply = desk.send("ping", origin=MQTT, topic_verb=verb)
    assert reply.status is DONE if verb == "ping" else reply.code is Code.E_SCHEMA


@pytest.mark.parametrize("verb", ["reboot", "campaign", "campaign.submit.now", "ping "])
def test_an_unknown_verb_is_named(desk, verb):
    refused(desk.send(verb), Code.E_VERB, verb)


@pytest.mark.parametrize("verb", ["", "+", "x" * 5000, "a/b", "\x00", "Ping"])
def test_what_cannot_be_a_verb_is_refused(desk, verb):
    refused(desk.send(None, origin=MQTT, topic_verb=verb or "#"), Code.E_VERB)


def test_every_verb_of_the_contract_is_there():
    contract = (
        "ping info.get port.list port.scan port.hold port.release meter.list meter.put meter.delete meter.read "
        "meter.probe image.fetch image.list image.delete campaign.submit campaign.get campaign.list campaign.pause "
        "campaign.resume campaign.cancel campaign.approve campaign.retry window.list window.set event.list "
        "agent.reload image.add counter.adopt"
    )
    beside_it = {"port.trace"}  # over the control socket only
    assert VERBS.keys() == set(contract.split()) | beside_it


def test_only_verbs_that_are_let_in_come_over_mqtt(tmp_path):
    config = replace(CONFIG, commands=CommandSettings(mqtt_verbs=("ping", "campaign.*")))
    desk = Desk(tmp_path, config)
    assert desk.send("ping", origin=MQTT).status is DONE
    refused(desk.send("meter.list", origin=MQTT), Code.E_AUTH, "meter.list")
    assert desk.send("meter.list").status is DONE
    assert desk.controller.info()["mqtt_verbs"] == [
        "ping", "campaign.submit", "campaign.get", "campaign.list", "campaign.cancel", "campaign.pause",
        "campaign.resume", "campaign.approve", "campaign.retry",
    ]  # fmt: skip
    desk.close()


def test_a_retained_command_is_never_done(desk):
    reply = desk.send("campaign.submit", order(), origin=replace(MQTT, retained=True))
    refused(reply, Code.E_SCHEMA, "retain")
    assert desk.store.campaigns() == []


# -- the clock ------------------------------------------------------------------------------------------------


def test_while_the_clock_is_not_trusted_only_reads_come_over_mqtt(desk):
    desk.clock_says = "unsynced"
    refused(desk.send("campaign.submit", order(), origin=MQTT), Code.E_CLOCK)
    refused(desk.send("campaign.cancel", {"campaign_id": "fw-1"}, origin=MQTT), Code.E_CLOCK)
    far = desk.clock.now() + timedelta(days=3650)  # a machine without RTC woke up in the past
    ten_years_on = {"issued": time_text(far), "expires": time_text(far + timedelta(hours=1))}
    assert desk.send("ping", origin=MQTT, **ten_years_on).status is DONE
    assert desk.send("meter.probe", {"meter": "MTR1"}, origin=MQTT, **ten_years_on).status is ACCEPTED
    assert desk.send("campaign.submit", order()).status is ACCEPTED, "the operator at the machine may"


def test_where_no_synchronisation_is_required_the_clock_is_trusted(tmp_path):
    gateway = GatewaySettings(id="gw-1", require_synced_clock=False)
    desk = Desk(tmp_path, replace(CONFIG, gateway=gateway), clock_says="unchecked")
    assert desk.send("campaign.submit", order(), origin=MQTT).status is ACCEPTED
    raw = json.dumps(desk.envelope("ping")).encode()
    desk.clock.advance(3600)
    refused(desk.give(raw, MQTT), Code.E_EXPIRED)
    desk.close()


# -- the same command again -----------------------------------------------------------------------------------


def test_the_same_command_again_is_answered_from_what_is_stored(desk):
    raw = json.dumps(desk.envelope("campaign.submit", order())).encode()
    first = desk.give(raw, MQTT)
    assert first.status is ACCEPTED
    told = desk.outbox()
    again = desk.give(raw, MQTT)
    assert again == first
    assert desk.outbox() == [*told, ("rsp", next(document for topic, document in told if topic == "rsp"))]
    assert len(desk.store.campaigns()) == 1
    spaced = json.dumps(json.loads(raw), indent=2, sort_keys=True).encode()
    assert desk.give(spaced, MQTT) == first, "white space and order do not make another command"


def test_a_repetition_is_answered_where_the_repetition_wants_it(desk):
    raw = json.dumps(desk.envelope("ping")).encode()
    desk.give(raw, MQTT)
    other = replace(MQTT, reply_topic=f"{BASE}/rsp/desk-2", correlation=b"again")
    desk.give(raw, other)
    rows = desk.store.outbox_batch(0, 10)
    assert [(short(row.topic), row.correlation) for row in rows] == [
        ("rsp", b"\x01\x02"),
        ("rsp/desk-2", b"again"),
    ]
    assert rows[0].payload == rows[1].payload


def test_another_body_under_the_same_id_is_a_conflict(desk):
    cmd_id = str(uuid.uuid4())
    assert desk.send("campaign.submit", order(), cmd_id=cmd_id).status is ACCEPTED
    other = desk.send("campaign.submit", order("fw-2", targets=["MTR3"]), cmd_id=cmd_id)
    refused(other, Code.E_CONFLICT)
    assert other.cmd_id == cmd_id
    refused(desk.send("ping", cmd_id=cmd_id, origin=MQTT), Code.E_CONFLICT)
    assert [one.id for one in desk.store.campaigns()] == ["fw-1"]


def test_a_refusal_is_remembered_too(desk):
    raw = json.dumps(desk.envelope("campaign.cancel", {"campaign_id": "fw-1"})).encode()
    first = desk.give(raw, MQTT)
    refused(first, Code.E_NOT_FOUND)
    desk.send("campaign.submit", order())
    assert desk.give(raw, MQTT) == first
    assert desk.store.campaign_state("fw-1") is CampaignState.ACCEPTED


def test_the_final_reply_takes_the_place_of_the_first(desk):
    raw = json.dumps(desk.envelope("meter.probe", {"meter": "MTR1"})).encode()
    assert desk.give(raw, MQTT).status is ACCEPTED
    errand = desk.store.take_errand("rs485-1")
    desk.store.finish_errand(errand, Reply(errand.cmd_id, DONE, data=PROBED))
    assert desk.give(raw, MQTT).data == PROBED
    assert desk.store.take_errand("rs485-1") is None
    assert [document["status"] for _, document in desk.outbox()] == ["accepted", "done", "done"]


def test_an_answer_survives_the_expiry_of_its_command_for_a_day(desk):
    raw = json.dumps(desk.envelope("campaign.submit", order())).encode()
    first = desk.give(raw, MQTT)
    desk.clock.advance(7200)
    desk.store.purge_expired()
    assert desk.give(raw, MQTT) == first


def test_reads_over_the_socket_cost_the_disk_nothing(desk):
    cmd_id = str(uuid.uuid4())
    for verb in ("ping", "info.get", "port.list", "meter.list", "campaign.list"):
        assert desk.send(verb, cmd_id=cmd_id).status is DONE
    assert desk.store.reply_of(cmd_id) is None


def test_when_the_state_cannot_be_written_the_message_stays_with_the_broker(desk):
    desk.store.close()
    with pytest.raises(StoreError):
        desk.controller.handle(json.dumps(desk.envelope("ping")).encode(), MQTT, "ping")


# -- reads ----------------------------------------------------------------------------------------------------


def test_the_gateway_says_what_it_is(desk):
    info = desk.send("info.get").data
    now = info.pop("now")
    assert now == {"clock": None, "uplink": None, "alarms": {}, "outbox_bytes": 0, "certificates": None}, (
        "nobody has said anything yet"
    )
    assert info == desk.controller.info(), "the same at any time: it is retained"
    assert (info["gateway"], info["version"], info["ports"], info["meters"]) == (
        "gw-1",
        "0.1.0",
        ["rs485-1", "lan"],
        3,
    )
    assert set(info["verbs"]) == set(VERBS)
    assert "image.add" not in info["mqtt_verbs"]


FIGURES = {**dict.fromkeys(COUNTED, 3), "last_heard": None}


def test_ports_and_meters_are_listed_with_what_goes_on(desk):
    desk.board.post(("port", "lan"), {"figures": FIGURES})
    desk.send("campaign.submit", order())
    first, second = desk.send("port.list").data["ports"]
    assert (first["port"], first["device"], first["meters"]) == ("rs485-1", "/dev/ttyUSB0", 2)
    assert (second["address"], second["figures"]) == ("192.0.2.10:4059", FIGURES)
    meters = desk.send("meter.list").data["meters"]
    assert [
        (one["meter"], one["port"], one["profile"], one["campaign_id"], one["state"]) for one in meters
    ] == [
        ("MTR1", "rs485-1", "default", "fw-1", "queued"),
        ("MTR2", "rs485-1", "acme-x3", "fw-1", "queued"),
        ("MTR3", "lan", "acme-x3", None, None),
    ]


def test_a_campaign_is_shown_with_the_progress_of_its_meters(desk):
    desk.send("campaign.submit", order())
    desk.board.post(
        ("progress", "fw-1", "MTR2"),
        {"state": "transferring", "blocks_done": 40, "blocks_total": 100, "bytes_per_s": 812, "eta_s": 60},
    )
    data = desk.send("campaign.get", {"campaign_id": "fw-1"}).data
    hold("campaign", data["campaign"])
    still, moving = data["jobs"]
    hold("job", still)
    assert (still["meter"], still["blocks_done"]) == ("MTR1", 0)
    shown = {name: moving[name] for name in ("blocks_done", "blocks_total", "rate_bps", "eta_s")}
    assert shown == {"blocks_done": 40, "blocks_total": 100, "rate_bps": 812, "eta_s": 60}
    assert data["campaign"]["counts"] == {"queued": 2}


def test_campaigns_are_listed_newest_last_within_a_limit(desk):
    for number, meter in enumerate(["MTR1", "MTR2", "MTR3"]):
        desk.send("campaign.submit", order(f"fw-{number}", targets=[meter]))
    listed = desk.send("campaign.list", {"limit": 2}).data["campaigns"]
    assert [one["campaign_id"] for one in listed] == ["fw-1", "fw-2"]
    assert len(desk.send("campaign.list").data["campaigns"]) == 3
    refused(desk.send("campaign.list", {"limit": 0}), Code.E_SCHEMA)
    refused(desk.send("campaign.list", {"limit": True}), Code.E_SCHEMA)


def test_a_probe_is_an_errand_for_the_port_of_the_meter(desk):
    reply = desk.send("meter.probe", {"meter": "MTR3"})
    assert reply.status is ACCEPTED
    assert desk.board.bell("port:lan").is_set()
    assert desk.store.take_errand("rs485-1") is None
    errand = desk.store.take_errand("lan")
    assert (errand.meter_id, errand.verb, errand.cmd_id) == ("MTR3", "meter.probe", reply.cmd_id)
    refused(desk.send("meter.probe", {"meter": "MTR9"}), Code.E_NOT_FOUND, "MTR9")
    for _ in range(40):
        last = desk.send("meter.probe", {"meter": "MTR3"}, origin=MQTT)
    refused(last, Code.E_BUSY, "lan")


# -- campaign.submit ------------------------------------------------------------------------------------------


def test_an_order_is_accepted_with_its_jobs_and_told(desk):
    reply = desk.send("campaign.submit", order(take_over=True, firmware_object="1-1:0.2.0.255"), origin=MQTT)
    assert reply.status is ACCEPTED
    assert reply.data == {"campaign_id": "fw-1", "state": "accepted", "meters": 2}
    campaign = desk.store.campaign("fw-1")
    assert (campaign.sha256, campaign.url, campaign.image_size) == (SHA256, URL, len(IMAGE))
    assert (campaign.identifier, campaign.expect_version) == (b"X3-4.1.7", "4.1.7")
    assert (campaign.take_over, campaign.firmware_object) == (True, "1-1:0.2.0.255")
    assert [(job.meter_id, job.port) for job in desk.store.jobs("fw-1")] == [
        ("MTR1", "rs485-1"),
        ("MTR2", "rs485-1"),
    ]
    topics = [topic for topic, _ in desk.outbox()]
    assert topics == ["rsp", "event", "campaign/fw-1/job/MTR1", "campaign/fw-1/job/MTR2", "campaign/fw-1"]
    event = dict(desk.outbox())["event"]
    assert (event["kind"], event["state"], event["who"]) == ("campaign", "accepted", "mqtt")


@pytest.mark.parametrize("targets, meters", [
    (["MTR3", "MTR1"], ["MTR3", "MTR1"]),
    ({"port": "lan"}, ["MTR3"]),
    ({"profile": "acme-x3"}, ["MTR2", "MTR3"]),
    ("all", ["MTR1", "MTR2", "MTR3"]),
])  # fmt: skip
def test_targets_are_named_in_four_ways(desk, targets, meters):
    desk.send("campaign.submit", order(targets=targets))
    assert list(desk.store.campaign("fw-1").meters) == meters


@pytest.mark.parametrize("text, octets", [
    ("X3-4.1.7", b"X3-4.1.7"),
    ("hex:00ff7E", b"\x00\xff\x7e"),
    ("hexen", b"hexen"),
    ("Zähler", "Zähler".encode()),
])  # fmt: skip
def test_an_identifier_is_text_or_hex(desk, text, octets):
    desk.send("campaign.submit", order(identifier=text))
    assert desk.store.campaign("fw-1").identifier == octets


IMAGE_ARG = {"sha256": SHA256, "url": URL}


@pytest.mark.parametrize("change, code, message", [
    ({"campaign_id": None}, Code.E_SCHEMA, "campaign_id"),
    ({"campaign_id": "fw/1"}, Code.E_SCHEMA, "args.campaign_id"),
    ({"campaign_id": "fw-1\n"}, Code.E_SCHEMA, "args.campaign_id"),
    ({"campaign_id": "-fw"}, Code.E_SCHEMA, "args.campaign_id"),
    ({"campaign_id": "f" * 65}, Code.E_SCHEMA, "args.campaign_id"),
    ({"identifier": None}, Code.E_SCHEMA, "identifier"),
    ({"identifier": ""}, Code.E_SCHEMA, "args.identifier"),
    ({"identifier": "hex:"}, Code.E_SCHEMA, "args.identifier"),
    ({"identifier": "hex:0"}, Code.E_SCHEMA, "args.identifier"),
    ({"identifier": "hex:xy"}, Code.E_SCHEMA, "args.identifier"),
    ({"image": None}, Code.E_SCHEMA, "image"),
    ({"image": {"url": URL}}, Code.E_SCHEMA, "sha256"),
    ({"image": {"sha256": SHA256.upper(), "url": URL}}, Code.E_SCHEMA, "args.image.sha256"),
    ({"image": {**IMAGE_ARG, "size": 0}}, Code.E_SCHEMA, "args.image.size"),
    ({"image": {**IMAGE_ARG, "size": 2**32}}, Code.E_SCHEMA, "args.image.size"),
    ({"image": {**IMAGE_ARG, "size": 2**31}}, Code.F_POLICY, "quota"),
    ({"image": {**IMAGE_ARG, "manifest": {"payload": ""}}}, Code.E_SCHEMA, "args.image.manifest: found no"),
    ({"image": {"sha256": SHA256, "url": "mqtt:"}}, Code.E_SCHEMA, "size: found nothing, expected the octets"),
    ({"image": {"sha256": SHA256, "url": "mqtt:", "size": 2**31}}, Code.F_POLICY, "quota"),
    ({"image": {"sha256": SHA256, "url": "mqtt:firmware", "size": 10}}, Code.F_POLICY, "or mqtt:"),
    ({"image": {"sha256": SHA256, "url": "file:///etc/passwd"}}, Code.F_POLICY, ""),
    ({"image": {"sha256": SHA256, "url": "http://192.0.2.1/x"}}, Code.F_POLICY, ""),
    ({"image": {"sha256": SHA256, "url": "https://other.example/x"}}, Code.F_POLICY, "other.example"),
    ({"image": {"sha256": SHA256}}, Code.E_NOT_FOUND, SHA256),
    ({"targets": []}, Code.E_SCHEMA, "args.targets"),
    ({"targets": ["MTR1", "MTR1"]}, Code.E_SCHEMA, "args.targets"),
    ({"targets": "MTR1"}, Code.E_SCHEMA, "args.targets"),
    ({"targets": {"port": "lan", "profile": "x"}}, Code.E_SCHEMA, "args.targets"),
    ({"targets": ["MTR1", "MTR8", "MTR9"]}, Code.E_NOT_FOUND, "MTR8, MTR9"),
    ({"targets": {"port": "nowhere"}}, Code.E_NOT_FOUND, "nowhere"),
    ({"targets": {"profile": "none"}}, Code.E_NOT_FOUND, "none"),
    ({"firmware_object": "1-0:0.2.0"}, Code.E_SCHEMA, "args.firmware_object"),
    ({"firmware_object": "1-0:0.2.0.256"}, Code.E_SCHEMA, "args.firmware_object"),
    ({"take_over": "yes"}, Code.E_SCHEMA, "args.take_over"),
    ({"window": "night"}, Code.W_NONE, "no window night; known: there is none"),
    ({"activation": {"when": "window", "window": "dawn"}}, Code.W_NONE, "no window dawn"),
    ({"activation": {"when": "immediately", "window": "night"}}, Code.E_SCHEMA, "args.activation.window: found one"),
    ({"activation": {"when": "window"}}, Code.E_SCHEMA, "args.activation: found no 'window'"),
    ({"activation": {"when": "at"}}, Code.E_SCHEMA, "args.activation: found no 'at'"),
    ({"activation": {"when": "at", "at": "2099-02-30T00:00:00Z"}}, Code.E_SCHEMA, "no such time"),
    ({"activation": {"when": "meter"}}, Code.E_SCHEMA, "args.activation: found no 'at'"),
    ({"delivery": "broadcast"}, Code.E_SCHEMA, "args.delivery: found meters that can take no broadcast"),
    ({"canary": -1}, Code.E_SCHEMA, "args.canary"),
    ({"canary_soak": "24h"}, Code.E_SCHEMA, "args.canary_soak: found one without canary"),
    ({"canary": 1, "canary_soak": "91d"}, Code.E_SCHEMA, "at most 90d"),
    ({"priority": 10}, Code.E_SCHEMA, "args.priority: "),
    ({"priority": -1}, Code.E_SCHEMA, "args.priority: "),
    ({"not_after": "2020-12-31T00:00:00Z"}, Code.E_SCHEMA, "args.not_after: found a time that has passed"),
    ({"nonsense": 1}, Code.E_SCHEMA, "nonsense"),
])  # fmt: skip
def test_an_order_that_cannot_be_done_is_refused_at_once(desk, change, code, message):
    refused(desk.send("campaign.submit", order(**change)), code, message)
    assert desk.store.campaigns() == []


@pytest.mark.parametrize("url", [
    f"https://fw.example.net/x?token=hidden{'x' * 2048}", ["https://fw.example.net/x?token=hidden"],
    "https://fw.example.net/x y?token=hidden", "https://u:hid/hidden@fw.example.net/x", "ftp://h/x?token=hidden",
    "https://[::1/x?token=hidden", "https://other.example/x?token=hidden#hidden",
])  # fmt: skip
def test_no_refusal_repeats_the_password_in_a_url(desk, url, caplog):
    reply = desk.send("campaign.submit", order(image={**IMAGE_ARG, "url": url}))
    assert reply.code in (Code.E_SCHEMA, Code.F_POLICY)
    assert reply.message and "hidden" not in reply.message + caplog.text


def test_an_image_may_come_over_the_broker_where_there_is_one(desk, tmp_path):
    change = {"image": {"sha256": SHA256, "url": "mqtt:", "size": 10}}
    assert desk.send("campaign.submit", order(**change)).status is ACCEPTED
    assert desk.store.campaign("fw-1").url == "mqtt:"

    local = Desk(tmp_path / "local", replace(CONFIG, mqtt=None))
    refused(local.send("campaign.submit", order(**change)), Code.E_SCHEMA, "no broker")
    local.close()


def test_arguments_of_later_are_taken_where_they_change_nothing(desk):
    harmless = {
        "activation": {"when": "immediately"}, "delivery": "unicast", "canary": 0, "wave": 0, "priority": 5,
        "dry_run": False,
    }  # fmt: skip
    assert desk.send("campaign.submit", order(**harmless)).status is ACCEPTED


def test_an_image_that_is_stored_is_named_by_its_digest_alone(desk):
    desk.images.add([IMAGE])
    assert desk.send("campaign.submit", order(image={"sha256": SHA256})).data["state"] == "ready"
    campaign = desk.store.campaign("fw-1")
    assert (campaign.state, campaign.image_size) == (CampaignState.READY, len(IMAGE))
    assert desk.store.next_fetch(desk.clock.now()) is None
    wrong = order("fw-2", image={"sha256": SHA256, "size": len(IMAGE) + 1}, targets=["MTR3"])
    refused(desk.send("campaign.submit", wrong), Code.F_SIZE)


def test_a_stored_image_is_looked_at_again_before_each_campaign(desk):
    desk.images.add([IMAGE])
    stored = desk.state_dir / "images" / SHA256
    stored.write_bytes(IMAGE[:-1] + b"\x55")
    reply = desk.send("campaign.submit", order(image={"sha256": SHA256}))
    refused(reply, Code.F_DIGEST, "damaged on disk")
    assert desk.store.campaign("fw-1") is None
    stored.write_bytes(IMAGE[:-1] + b"\x55")
    assert desk.send("campaign.submit", order()).data["state"] == "accepted"
    assert desk.store.next_fetch(desk.clock.now()).id == "fw-1", "it is fetched again"


def test_a_meter_that_is_busy_elsewhere_and_an_id_that_was_used_are_refused(desk):
    desk.send("campaign.submit", order())
    refused(desk.send("campaign.submit", order("fw-2", targets="all"), origin=MQTT), Code.E_STATE, "fw-1")
    refused(desk.send("campaign.submit", order(targets=["MTR3"]), origin=MQTT), Code.E_CONFLICT, "fw-1")


def test_with_a_full_outbox_orders_and_reads_wait_but_a_cancel_does_not(tmp_path):
    desk = Desk(tmp_path, outbox_limit_bytes=10_000)
    desk.send("campaign.submit", order())
    while not desk.store.outbox_full():
        desk.send("ping", origin=MQTT)
    refused(desk.send("campaign.submit", order("fw-2", targets=["MTR3"]), origin=MQTT), Code.E_BUSY)
    refused(desk.send("ping", origin=MQTT), Code.E_BUSY)
    assert desk.send("ping").status is DONE
    assert desk.send("campaign.cancel", {"campaign_id": "fw-1"}, origin=MQTT).status is DONE
    desk.close()


# -- campaign.cancel ------------------------------------------------------------------------------------------


def test_a_cancel_is_done_once_and_answered(desk):
    desk.send("campaign.submit", order())
    raw = json.dumps(desk.envelope("campaign.cancel", {"campaign_id": "fw-1"})).encode()
    first = desk.give(raw, MQTT)
    assert (first.status, first.data) == (DONE, {"campaign_id": "fw-1", "state": "cancelled"})
    assert desk.give(raw, MQTT) == first
    refused(desk.send("campaign.cancel", {"campaign_id": "fw-1"}, origin=MQTT), Code.E_STATE, "cancelled")
    states = {topic: document["state"] for topic, document in desk.outbox() if topic.startswith("campaign/")}
    assert set(states.values()) == {"cancelled"}


def test_from_activating_on_a_cancel_is_refused(desk):
    desk.images.add([IMAGE])
    desk.send("campaign.submit", order(targets=["MTR1"]))
    desk.store.save_job(replace(desk.store.job("fw-1", "MTR1"), state=JobState.ACTIVATING))
    refused(desk.send("campaign.cancel", {"campaign_id": "fw-1"}), Code.E_STATE, "activating")


# -- image.add ------------------------------------------------------------------------------------------------


def test_a_file_is_handed_over_as_a_descriptor(desk, tmp_path):
    path = tmp_path / "x3.bin"
    path.write_bytes(IMAGE)
    with path.open("rb") as file:
        file.seek(100)  # wherever the client has read to
        reply = desk.send("image.add", {"sha256": SHA256, "size": len(IMAGE)}, descriptor=file.fileno())
        assert file.tell() == 100
    assert (reply.status, reply.data) == (DONE, {"sha256": SHA256, "size": len(IMAGE), "manifest": None})
    assert desk.images.read(SHA256) == IMAGE


def test_a_file_that_is_not_what_was_said_is_not_kept(desk, tmp_path):
    path = tmp_path / "x3.bin"
    path.write_bytes(IMAGE)
    with path.open("rb") as file:
        refused(desk.send("image.add", {"sha256": "0" * 64}, descriptor=file.fileno()), Code.F_DIGEST)
        refused(desk.send("image.add", {"size": 5}, descriptor=file.fileno()), Code.F_SIZE)
    with path.open("ab") as file:
        refused(desk.send("image.add", descriptor=file.fileno()), Code.F_DISK, "cannot be read")
    refused(desk.send("image.add"), Code.E_SCHEMA, "descriptor")
    refused(desk.send("image.add", origin=MQTT), Code.E_AUTH)
    assert desk.images.list() == ()


def test_what_is_no_file_is_not_waited_for(desk):
    with Path("/dev/zero").open("rb") as endless:
        refused(desk.send("image.add", descriptor=endless.fileno()), Code.E_SCHEMA, "regular file")


# -- whatever comes -------------------------------------------------------------------------------------------

json_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
ORDER_FIELDS = sorted(
    [*order(), "window", "activation", "delivery", "canary", "dry_run", "take_over", "wave"]
)
FIELDS = ["v", "cmd_id", "verb", "issued", "expires", "args"]


@pytest.fixture(scope="module")
def one_desk():
    """One for all examples: what they do to it must not matter either."""
    with memory_directory() as directory:
        desk = Desk(directory)
        yield desk
        desk.close()


origins = st.sampled_from([LOCAL, MQTT, replace(MQTT, retained=True)])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), origins, st.none() | st.text(max_size=20))
def test_arbitrary_octets_are_refused_and_nothing_else(one_desk, raw, origin, verb):
    assert one_desk.give(raw, origin, verb).status is REJECTED


@settings(max_examples=200, deadline=None)
@given(json_value, origins)
def test_arbitrary_json_is_refused_and_nothing_else(one_desk, document, origin):
    assert one_desk.give(json.dumps(document).encode(), origin, "campaign.submit").status is REJECTED


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(FIELDS), json_value, origins)
def test_a_command_with_one_arbitrary_field_is_answered(one_desk, name, value, origin):
    envelope = one_desk.envelope("campaign.get", {"campaign_id": "none"}) | {name: value}
    assert one_desk.give(json.dumps(envelope).encode(), origin).status is REJECTED


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(ORDER_FIELDS), json_value, origins)
def test_an_order_with_one_arbitrary_field_is_answered(one_desk, name, value, origin):
    args = order("never", image={"sha256": "0" * 64}) | {
        name: value
    }  # an image that is nowhere: always refused
    assert one_desk.send("campaign.submit", args, origin=origin).status is REJECTED


@pytest.mark.parametrize(
    "targets", [list(range(12000)), ["MTR1"] * 6000, [[]] * 15000, {f"k{n}": n for n in range(4000)}]
)
def test_a_big_wrong_command_is_refused_quickly(desk, targets):
    raw = json.dumps(desk.envelope("campaign.submit", order(targets=targets)), separators=(",", ":")).encode()
    assert len(raw) < COMMAND_LIMIT_BYTES
    reply = desk.give(raw)
    refused(reply, Code.E_SCHEMA, "args.targets")
    assert len(reply.message) < 300


# -- what a reader found ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("issued, expires", [
    ("9999-12-30T00:00:00Z", "9999-12-31T00:00:00Z"), ("0001-01-01T00:00:00Z", "9999-12-31T00:00:00Z"),
])  # fmt: skip
def test_the_ends_of_the_calendar_are_refused_like_any_other_time(desk, issued, expires):
    raw = json.dumps(desk.envelope("ping") | {"issued": issued, "expires": expires}).encode()
    reply = desk.controller.handle(raw, MQTT, "ping")
    assert reply.status is ReplyStatus.REJECTED


def test_a_crowd_of_targets_costs_no_more_than_it_is_long(desk):
    targets = ["MTR1", *range(2, 11_000)]
    raw = json.dumps(desk.envelope("campaign.submit", {"targets": targets})).encode()
    reply = desk.controller.handle(raw, MQTT, "campaign.submit")
    assert reply.code is Code.E_SCHEMA
