"""A scan of a line, as whoever asked for it and the jobs of the line see it; the whole gateway on virtual time."""

from dataclasses import replace

import pytest
from support.desk import memory_directory
from support.world import SimMeter, World, ciphered

from gateway.model import Profile
from gateway.simulator import Faults, MeterSpec
from gateway.wire.hdlc import Address

QUICK = Profile(reconnect_after_s=20, activate_timeout_s=300)


@pytest.fixture
def disk():
    with memory_directory() as directory:
        yield directory


def a_meter(number, lower, **changes):
    spec = ciphered(logical_device_name=f"SIM000000000000{number}", address=Address(1, lower), **changes)
    return SimMeter(spec, id=f"MTR{number}", profile=QUICK)


def a_bus(disk, *lowers, **options):
    sims = [a_meter(number + 1, lower) for number, lower in enumerate(lowers)]
    return World(disk, sims, **{"image_size": 16384} | options)


def scan(world, **args):
    return world.command("port.scan", {"port": "bus1"} | args)


def last_reply(world, cmd_id):
    def said():
        return [reply["status"] for reply in world.replies(cmd_id)]

    world.run(lambda: said() not in ([], ["accepted"]))
    return world.replies(cmd_id)[-1]


def test_a_scan_finds_every_meter_with_its_name_and_version_and_no_other(disk):
    world = a_bus(disk, 3, 17, 120)
    reply = last_reply(world, scan(world))
    assert reply["status"] == "done"
    assert reply["data"]["addresses"] == 127
    found = {one["physical_address"]: one for one in reply["data"]["found"]}
    assert list(found) == [3, 17, 120]
    assert found[17] == {
        "logical_address": 1, "physical_address": 17, "address_bytes": None, "meter": "MTR2",
        "logical_device_name": "SIM0000000000002", "firmware_version": "1.0.0", "remark": "",
    }  # fmt: skip


def test_a_silent_address_costs_one_short_wait(disk):
    world = a_bus(disk, 200)
    began_s = world.now_s
    last_reply(world, scan(world, timeout="100ms"))
    per_address_s = (world.now_s - began_s) / 127
    assert 0.1 < per_address_s < 0.3
    writes = world.lines["bus1"].writes
    assert writes == 127, "one frame for each, and no second try"


def test_what_refuses_the_public_client_something_is_found_all_the_same(disk):
    world = World(disk, [a_meter(1, 5, public_version=False)])
    [found] = last_reply(world, scan(world, to=10))["data"]["found"]
    assert found["logical_device_name"] == "SIM0000000000001"
    assert found["firmware_version"] is None
    assert "GET refused with result 3" in found["remark"]


def test_a_meter_that_nobody_has_configured_is_told_from_those_that_are(disk):
    stranger = MeterSpec(logical_device_name="NEW0000000000001", address=Address(2, 300))
    world = World(disk, [replace(a_meter(1, 5), twins=(stranger,))])
    [found] = last_reply(world, scan(world, **{"from": 299, "to": 301, "logical": [1, 2]}))["data"]["found"]
    assert (found["logical_address"], found["physical_address"], found["meter"]) == (2, 300, None)
    assert found["logical_device_name"] == "NEW0000000000001"


def test_jobs_go_on_between_the_addresses_and_nothing_is_sent_twice(disk):
    world = a_bus(disk, 3, 17)
    world.submit(targets=["MTR1", "MTR2"])
    blocks = world.meters["MTR1"].history.blocks
    world.run(lambda: blocks.total() >= 10)
    cmd_id = scan(world)
    world.run(lambda: len(world.replies(cmd_id)) >= 1)
    before = sum(meter.history.blocks.total() for meter in world.meters.values())
    assert [one["meter"] for one in last_reply(world, cmd_id)["data"]["found"]] == ["MTR1", "MTR2"]
    after = sum(meter.history.blocks.total() for meter in world.meters.values())
    assert after - before > 50
    world.run_until_told()
    for number in (1, 2):
        assert world.job(f"MTR{number}")["state"] == "updated"
        history = world.meters[f"MTR{number}"].history
        assert history.initiates == 1
        assert history.blocks.total() <= len(history.blocks) + 1


def test_how_far_it_is_can_be_seen_and_a_second_one_has_to_wait(disk):
    world = a_bus(disk, 3)
    first = scan(world)
    world.run(lambda: (progress(world) or {"done": 0})["done"] >= 20)
    assert progress(world)["total"] == 127
    assert progress(world)["found"] == 1
    second = last_reply(world, scan(world))
    assert (second["code"], second["retryable"]) == ("E_BUSY", True)
    assert last_reply(world, first)["status"] == "done"
    assert progress(world) is None


def progress(world):
    return world.ask_at_the_gateway("port.list", {}).data["ports"][0]["scan"]


def test_a_restart_ends_a_scan_and_says_where_it_was(disk):
    world = a_bus(disk, 3)
    cmd_id = scan(world)
    world.run(lambda: (progress(world) or {"done": 0})["done"] >= 60)
    world.cut_power()
    reply = last_reply(world, cmd_id)
    assert (reply["status"], reply["code"], reply["retryable"]) == ("failed", "E_BUSY", True)
    assert "restarted meanwhile, at address 1/" in reply["message"]


def test_a_line_that_is_lost_or_lent_ends_it_with_the_reason(disk):
    world = a_bus(disk, 3, line_faults=Faults(unplugged=((10.0, 60.0),)))
    assert last_reply(world, scan(world))["code"] == "T_PORT"
    world.run(lambda: world.now_s > 100)
    cmd_id = scan(world)
    world.run(lambda: (progress(world) or {"done": 0})["done"] >= 5)
    world.command("port.hold", {"port": "bus1", "for": "1min"})
    reply = last_reply(world, cmd_id)
    assert (reply["code"], reply["message"][:24]) == ("E_BUSY", "port bus1 is lent until ")


@pytest.mark.parametrize("args, message", [
    ({"from": 9, "to": 3}, "args: found 0 addresses, expected 1 to 4096"),
    ({"to": 16383}, "args: found 16383 addresses, expected 1 to 4096"),
    ({"to": 200, "address_bytes": 2}, "args.address_bytes: 2 octets reach to 127, found 200"),
    ({"timeout": "1min"}, "args.timeout: found '1min', expected a duration from \"50ms\" to \"10s\""),
])  # fmt: skip
def test_what_cannot_be_scanned(disk, args, message):
    reply = a_bus(disk, 3).ask_at_the_gateway("port.scan", {"port": "bus1"} | args)
    assert reply.code == "E_SCHEMA"
    assert reply.message.startswith(message)


def test_a_line_without_hdlc_addresses_cannot_be_scanned(disk):
    world = World(disk, [SimMeter(MeterSpec())], wrapper_ports=frozenset({"bus1"}))
    assert world.ask_at_the_gateway("port.scan", {"port": "bus1"}).code == "E_SCHEMA"
