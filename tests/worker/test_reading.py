"""`meter.read`: any attribute of a meter, for whoever wants to know what it says."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.desk import memory_directory
from support.world import SimMeter, World, ciphered

from gateway.model import BitmapOrder, Profile
from gateway.simulator import What
from gateway.simulator.clock import EPOCH
from gateway.wire import axdr
from gateway.wire.apdu import Attribute, obis
from gateway.wire.axdr import CompactArray, Data, Tag, TypeDescription
from gateway.worker.reading import READ_LIMIT_OCTETS, as_json

SCALER = axdr.structure(Data(Tag.INTEGER, -1), axdr.enum(30))
LONG = axdr.array(*(axdr.structure(axdr.u32(number), axdr.octet_string(b"row")) for number in range(900)))
TOO_LONG = axdr.octet_string(bytes(READ_LIMIT_OCTETS + 1))
METER = ciphered(
    logical_device_name="ACM0000000000001",
    timezone="Europe/Helsinki",
    values=(
        (Attribute(3, obis("1-0:1.8.0.255"), 2), axdr.u32(4_711)),
        (Attribute(3, obis("1-0:1.8.0.255"), 3), SCALER),
        (Attribute(4, obis("1-0:1.8.0.101"), 2), axdr.u32(4_000)),
        (Attribute(7, obis("1-0:99.1.0.255"), 2), LONG),
        (Attribute(7, obis("1-0:99.2.0.255"), 2), TOO_LONG),
        (Attribute(15, obis("0-0:40.0.1.255"), 7), axdr.octet_string(b"the secret")),
        (Attribute(15, obis("1-1:94.3.1.255"), 7), axdr.octet_string(b"the secret")),
    ),
)


@pytest.fixture
def disk():
    with memory_directory() as directory:
        yield directory


@pytest.fixture
def world(disk):
    return World(disk, [SimMeter(METER)], image_size=16384)


def ask(world, *, over_mqtt=True, **args):
    """The last reply to a reading."""
    send = world.command if over_mqtt else world.command_at_the_gateway
    cmd_id = send("meter.read", {"meter": "MTR1", **args})
    world.run(lambda: (reply := world.store.reply_of(cmd_id)) is not None and reply.status != "accepted")
    reply = world.store.reply_of(cmd_id)
    json.dumps(dict(reply.data), allow_nan=False)
    return reply


def read(world, object_, **args):
    """What came of reading one attribute."""
    reply = ask(world, object=object_, **args)
    assert reply.status == "done", reply
    assert reply.data["meter"] == "MTR1"
    [value] = reply.data["values"]
    return value


# -- what a meter says ----------------------------------------------------------------------------------------


def test_without_an_object_a_meter_says_who_it_is_what_it_runs_and_what_its_clock_shows(world):
    reply = ask(world)
    values = {value["name"]: value["value"] for value in reply.data["values"]}
    assert values["logical_device_name"]["text"] == "ACM0000000000001"
    assert values["firmware_version"]["text"] == "1.0.0"
    shown = datetime.fromisoformat(values["clock"]["time"])
    assert values["clock"]["time"].endswith("+02:00")
    assert abs(EPOCH + timedelta(seconds=world.now_s) - shown) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("object_", "args", "found"),
    [
        pytest.param("1-0:1.8.0.255", {}, (3, "double-long-unsigned", 4711), id="a register"),
        pytest.param("1-0:1.8.0.255", {"attribute": 3}, (3, "structure", [-1, 30]), id="scaler and unit"),
        pytest.param("1-0:1.8.0.101", {}, (4, "double-long-unsigned", 4000), id="a class that it lists"),
        pytest.param("1-0:1.8.0.255", {"attribute": 1}, (3, "octet-string", {"hex": "0100010800ff"}), id="a name"),
        pytest.param(
            "1-0:0.2.0.255", {"class": 1}, (1, "octet-string", {"hex": "312e302e30", "text": "1.0.0"}), id="a text",
        ),
    ],
)  # fmt: skip
def test_an_attribute_is_read_with_the_class_that_its_object_has(world, object_, args, found):
    class_id, type_, value = found
    assert read(world, object_, **args) == {
        "object": object_, "class": class_id, "attribute": args.get("attribute", 2), "type": type_, "value": value,
    }  # fmt: skip


def test_a_wide_answer_comes_in_several_blocks(world):
    rows = read(world, "1-0:99.1.0.255", over_mqtt=False)["value"]
    assert len(axdr.encode(LONG)) > 5 * METER.max_pdu
    assert [row[0] for row in rows] == list(range(900))
    assert rows[0][1] == {"hex": "726f77", "text": "row"}


# -- what cannot be read --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        pytest.param({"object": "1-0:2.8.0.255"}, "E_NOT_FOUND", "result 4, object-undefined", id="no such object"),
        pytest.param(
            {"object": "1-0:1.8.0.255", "class": 1}, "E_NOT_FOUND", "result 9, object-class-inconsistent",
            id="another class, by name",
        ),
        pytest.param(
            {"object": "1-0:1.8.0.255", "attribute": 9}, "E_NOT_FOUND", "3/1-0:1.8.0.255:9", id="no such attribute"
        ),
        pytest.param({"object": "1-0:99.2.0.255"}, "E_SCHEMA", "longer than 65536 octets", id="too long"),
        pytest.param({"object": "0-0:40.0.1.255", "attribute": 7}, "E_AUTH", "a secret", id="a password"),
        pytest.param(
            {"object": "0-0:40.0.1.255", "attribute": 7, "class": 1}, "E_AUTH", "a secret", id="a password in disguise"
        ),
        pytest.param(
            {"object": "1-1:94.3.1.255", "attribute": 7}, "E_AUTH", "class 15 holds a secret", id="as the meter lists"
        ),
        pytest.param({"attribute": 3}, "E_SCHEMA", "args.object", id="an attribute of nothing"),
        pytest.param({"object": "1-0:1.8.0"}, "E_SCHEMA", "object", id="no logical name"),
        pytest.param({"object": "1-0:1.8.0.255", "attribute": 0}, "E_SCHEMA", "attribute", id="all attributes"),
        pytest.param({"meter": "MTR9"}, "E_NOT_FOUND", "MTR9", id="a meter that nobody knows"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_said_by_name(world, args, code, words):
    reply = ask(world, **args)
    assert reply.status in ("failed", "rejected")
    assert reply.code == code
    assert words in reply.message
    assert "the secret" not in json.dumps(dict(reply.data)) + reply.message
    assert ask(world).status == "done", "and the meter is asked again"
    assert not world.store.all_parked()


def test_a_meter_that_keeps_its_version_to_its_client_is_not_left_alone_for_that(disk):
    world = World(disk, [SimMeter(replace(METER, firmware_object="1-1:0.2.0.255"))])
    reply = ask(world)
    version = next(value for value in reply.data["values"] if value["name"] == "firmware_version")
    assert version["error"] == "GET refused with result 4, object-undefined"


def test_a_parked_meter_is_read_for_whoever_stands_beside_the_gateway(world):
    world.store.park("MTR1", METER.keys, code="T_SECURITY", message="a wrong tag")
    refused = ask(world)
    assert refused.code == "T_SECURITY"
    assert "left alone since" in refused.message
    assert ask(world, over_mqtt=False).status == "done"
    assert world.store.parked("MTR1") is None


def test_a_meter_in_one_unbroken_association_is_not_disturbed(disk):
    """Its bitmap says nothing: an association that a reading might end would cost the whole transfer."""
    profile = Profile(bitmap=BitmapOrder.IGNORE, reconnect_after_s=20, activate_timeout_s=300)
    world = World(disk, [SimMeter(METER, profile=profile)], image_size=65536)
    world.submit()
    world.run(lambda: world.meters["MTR1"].history.blocks.total() > 3)
    assert ask(world).code == "E_BUSY"
    world.run_until_told()
    assert world.job()["state"] == "updated"
    assert world.meters["MTR1"].history.initiates == 1


def test_a_reading_in_mid_transfer_costs_the_transfer_nothing(world):
    world.submit()
    history = world.meters["MTR1"].history
    world.run(lambda: history.blocks.total() > 3)
    before = history.count(What.ASSOCIATED)
    assert read(world, "1-0:1.8.0.255")["value"] == 4711
    assert history.count(What.ASSOCIATED) == before
    world.run_until_told()
    assert world.job()["state"] == "updated"


# -- values as JSON -------------------------------------------------------------------------------------------

CLOCK = bytes.fromhex("07ea0b16ff0b1e0000ff8880")

VALUES = {
    "nothing": (axdr.null(), None),
    "a boolean": (axdr.boolean(True), True),
    "bits": (axdr.bit_string(b"\xa0", 3), {"bits": "101"}),
    "octets": (axdr.octet_string(b"\x00\x07"), {"hex": "0007"}),
    "text, padded": (axdr.octet_string(b"X3\0\0"), {"hex": "58330000", "text": "X3"}),
    "no text": (axdr.octet_string(b"\x1b[2J"), {"hex": "1b5b324a"}),
    "empty octets": (axdr.octet_string(b""), {"hex": ""}),
    "a clock": (axdr.octet_string(CLOCK), {"hex": CLOCK.hex(), "time": "2026-11-22 11:30:00+02:00"}),
    "a clock without zone": (
        axdr.octet_string(CLOCK[:9] + b"\x80\x00\xff"),
        {"hex": (CLOCK[:9] + b"\x80\x00\xff").hex(), "time": "2026-11-22 11:30:00"},
    ),
    "every day at six": (
        Data(Tag.DATE_TIME, bytes.fromhex("ffffffffff060000ff8000ff")),
        {"hex": "ffffffffff060000ff8000ff", "time": "*-*-* 06:00:00"},
    ),
    "the last of March": (Data(Tag.DATE, bytes.fromhex("ffff03feff")), {"hex": "ffff03feff", "time": "*-03-last"}),
    "a time": (Data(Tag.TIME, bytes.fromhex("173b00ff")), {"hex": "173b00ff", "time": "23:59:00"}),
    "twelve letters": (axdr.octet_string(b"ACM000000001"), {"hex": b"ACM000000001".hex(), "text": "ACM000000001"}),
    "a visible string": (Data(Tag.VISIBLE_STRING, "acm"), "acm"),
    "no number": (Data(Tag.FLOAT32, math.nan), "nan"),
    "a structure in an array": (axdr.array(SCALER, SCALER), [[-1, 30], [-1, 30]]),
    "a compact array": (
        Data(Tag.COMPACT_ARRAY, CompactArray(TypeDescription(Tag.ENUM), (axdr.enum(1), axdr.enum(2)))), [1, 2],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("data", "value"), VALUES.values(), ids=VALUES)
def test_values_are_json_that_a_person_can_read(data, value):
    assert as_json(data) == value


@given(st.binary(max_size=200))
def test_whatever_a_meter_says_is_json(octets):
    for tag, wanted in ((Tag.OCTET_STRING, octets), (Tag.DATE_TIME, octets[:12].ljust(12, b"\xff"))):
        shown = as_json(Data(tag, wanted))
        assert bytes.fromhex(json.loads(json.dumps(shown, allow_nan=False))["hex"]) == wanted
