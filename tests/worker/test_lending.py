"""A line that is lent to another tool for a time, as its meters, its jobs and operators see it; on virtual time."""

from datetime import datetime

import pytest
from support.desk import memory_directory
from support.world import SimMeter, World

from gateway.model import BitmapOrder, Profile
from gateway.simulator import MeterSpec

QUICK = Profile(reconnect_after_s=20, activate_timeout_s=300)


@pytest.fixture
def disk():
    with memory_directory() as directory:
        yield directory


def the_world(disk, profile=QUICK, **options):
    return World(disk, [SimMeter(MeterSpec(), profile=profile)], **{"image_size": 32768} | options)


def under_way(world):
    """Run until some blocks are in the meter."""
    world.submit()
    world.run(lambda: world.meters["MTR1"].history.blocks.total() >= 20)


def lend(world, duration="10min"):
    """The reply that says that the line is free."""
    cmd_id = world.command("port.hold", {"port": "bus1", "for": duration})
    world.run(lambda: [reply["status"] for reply in world.replies(cmd_id)][-1:] not in ([], ["accepted"]))
    return world.replies(cmd_id)[-1]


def port(world):
    return world.ask_at_the_gateway("port.list", {}).data["ports"][0]


def linked(world):
    """The meter believes that the gateway is there."""
    return any(link.connected for link in world.meters["MTR1"]._links.values())


def test_a_lent_line_is_left_in_order_and_nothing_is_said_on_it_until_its_time_is_over(disk):
    world = the_world(disk)
    under_way(world)
    reply = lend(world)
    assert (reply["status"], reply["data"]["port"]) == ("done", "bus1")
    lent_at_s, writes = world.now_s, world.lines["bus1"].writes
    assert not linked(world), "the meter would answer the other tool with a link that is ours"
    assert port(world)["held"] == {"until": reply["data"]["until"], "who": "mqtt"}
    world.run(lambda: world.job()["state"] == "waiting")
    job = world.job()
    assert (job["code"], job["tries"]) == (None, 0)
    assert job["message"] == f"port bus1 is lent until {reply['data']['until']}"
    world.run(lambda: world.now_s >= lent_at_s + 595)
    assert world.lines["bus1"].writes == writes
    world.run(lambda: world.lines["bus1"].writes > writes)
    assert 598 <= world.now_s - lent_at_s < 605
    world.run_until_told()
    assert world.job()["state"] == "updated"
    history = world.meters["MTR1"].history
    assert history.initiates == 1
    assert history.blocks.total() <= len(history.blocks) + 1
    assert port(world)["held"] is None


def test_it_comes_back_at_once_when_it_is_given_back(disk):
    world = the_world(disk)
    under_way(world)
    lend(world, "24h")
    at_s = world.now_s
    assert world.ask_at_the_gateway("port.release", {"port": "bus1"}).data["until"]
    assert world.ask_at_the_gateway("port.release", {"port": "bus1"}).data["until"] is None
    world.run_until_told()
    assert world.now_s - at_s < 300
    assert world.job()["state"] == "updated"
    messages = [event["message"] for event in world.store.events(0, 1000) if event["kind"] == "hold"]
    assert [message[:10] for message in messages] == ["lent until", "given back"]


def test_a_restart_takes_it_out_of_nobodys_hands(disk):
    world = the_world(disk)
    under_way(world)
    lend(world)
    lent_at_s = world.now_s
    world.cut_power()
    writes = world.lines["bus1"].writes
    world.run(lambda: world.now_s >= lent_at_s + 590)
    assert world.lines["bus1"].writes == writes
    world.run_until_told()
    assert world.job()["state"] == "updated"


def test_reads_are_refused_meanwhile_and_say_until_when(disk):
    world = the_world(disk)
    until = lend(world)["data"]["until"]
    cmd_id = world.command("meter.probe", {"meter": "MTR1"})
    world.run(lambda: len(world.replies(cmd_id)) == 2)
    reply = world.replies(cmd_id)[-1]
    assert (reply["status"], reply["code"], reply["retryable"]) == ("failed", "E_BUSY", True)
    assert reply["message"] == f"port bus1 is lent until {until}"


def test_a_read_that_waited_for_the_restart_is_refused_as_well(disk):
    """It is in the Store before the worker has looked for the first time."""
    world = the_world(disk)
    lend(world)
    world.shut_down()
    writes = world.lines["bus1"].writes
    cmd_id = world.command_at_the_gateway("meter.probe", {"meter": "MTR1"})
    world.run(lambda: world.store.reply_of(cmd_id).status != "accepted")
    assert world.store.reply_of(cmd_id).code == "E_BUSY"
    assert world.lines["bus1"].writes == writes


def test_it_can_be_lent_for_longer_and_an_order_waits_in_the_queue(disk):
    world = the_world(disk)
    first = lend(world, "1min")["data"]["until"]
    second = lend(world, "1h")["data"]["until"]
    assert datetime.fromisoformat(second) > datetime.fromisoformat(first)
    world.submit()
    world.run(lambda: world.now_s >= 3500)
    assert world.job()["state"] == "queued"
    world.run_until_told()
    assert world.job()["state"] == "updated"


def test_an_association_that_may_not_break_is_not_broken_for_it(disk):
    world = the_world(disk, Profile(bitmap=BitmapOrder.IGNORE, reconnect_after_s=20))
    under_way(world)
    reply = lend(world)
    assert (reply["status"], reply["code"]) == ("failed", "E_BUSY")
    assert "unbroken association" in reply["message"]
    world.run_until_told()
    assert world.job()["state"] == "updated"


def test_whoever_activates_is_looked_at_again_when_the_line_is_back(disk):
    world = the_world(disk)
    world.submit()
    world.run(lambda: world.job().get("state") == "confirming")
    lend(world, "1h")
    assert world.job()["state"] == "confirming"
    world.run_until_told()
    assert world.job()["state"] == "updated"
    assert world.meters["MTR1"].history.activations == 1


@pytest.mark.parametrize("args, code", [
    ({"port": "bus1", "for": "0s"}, "E_SCHEMA"),
    ({"port": "bus1", "for": "25h"}, "E_SCHEMA"),
    ({"port": "bus1", "for": "ten minutes"}, "E_SCHEMA"),
    ({"port": "bus1"}, "E_SCHEMA"),
    ({"port": "bus9", "for": "1min"}, "E_NOT_FOUND"),
])  # fmt: skip
def test_what_cannot_be_lent(disk, args, code):
    world = the_world(disk)
    assert world.ask_at_the_gateway("port.hold", args).code == code
