"""Lines that come and go, as jobs and operators see it; the whole gateway on virtual time."""

import json
import math

import pytest
from support.desk import memory_directory
from support.world import BASE, SimMeter, World

from gateway.model import PortKind, PortSettings, Profile
from gateway.simulator import Faults, MeterSpec, several
from gateway.simulator.clock import VirtualClock
from gateway.store import Store
from gateway.worker.line_watch import IDLE_LOOK_S, LONGEST_LOOK_S, LOST_LOOK_S, LineWatch

LOST = f"{BASE}/alarm/port-lost.bus1"


@pytest.fixture
def disk():
    with memory_directory() as directory:
        yield directory


def an_adapter(disk, *unplugged, meters=1):
    """Meters on an adapter whose device is there by its name, and gives nothing while it is unplugged."""
    sims = [SimMeter(spec, id=f"MTR{n + 1}", profile=Profile(reconnect_after_s=20))
            for n, spec in enumerate(several(MeterSpec(), meters))]  # fmt: skip
    return World(disk, sims, image_size=32768, line_faults=Faults(unplugged=unplugged), device="/dev/null")


def told(world):
    """What came on the alarm's topic: its messages, and "" where it was taken back."""
    payloads = [message.payload for message in world.broker.heard if message.topic == LOST]
    return [json.loads(payload)["message"] if payload else "" for payload in payloads]


def test_a_transfer_goes_on_within_seconds_of_the_adapters_return(disk):
    """Left to its own back-off the job would have tried next at 310 s."""
    world = an_adapter(disk, (25.0, 250.0))
    world.submit()
    world.run(lambda: world.job().get("state") == "waiting")
    assert world.job()["code"] == "T_PORT"
    blocks = world.meters["MTR1"].history.blocks
    before = blocks.total()
    assert before
    world.run(lambda: blocks.total() > before)
    assert 250.0 < world.now_s < 250.0 + LOST_LOOK_S + 2.0
    world.run_until_told()
    assert world.job()["state"] == "updated"
    assert blocks.total() <= len(blocks) + 1


def test_everybody_who_waits_for_the_line_is_tried_at_once_also_after_a_restart(disk):
    world = an_adapter(disk, (0.0, 250.0), meters=3)
    world.submit()
    ids = ["MTR1", "MTR2", "MTR3"]
    world.run(lambda: all(world.job(meter).get("tries", 0) >= 3 for meter in ids))
    world.shut_down()
    world.run(lambda: all(world.meters[meter].history.blocks.total() for meter in ids[:1]))
    assert world.now_s < 250.0 + 10.0
    world.run_until_told()
    assert {world.job(meter)["state"] for meter in ids} == {"updated"}


def test_the_alarm_stands_at_the_broker_as_long_as_the_line_is_lost(disk):
    world = an_adapter(disk, (25.0, 250.0))
    world.submit()
    world.run(lambda: bool(told(world)))
    assert 25.0 <= world.now_s < 35.0
    assert "unplugged" in told(world)[0]
    world.run_until_told()
    assert told(world)[-1] == ""
    assert told(world).count("") == 1
    assert LOST not in world.broker.retained


def test_a_line_that_nobody_uses_is_missed_all_the_same(disk, tmp_path):
    device = tmp_path / "adapter"
    world = World(disk, [SimMeter(MeterSpec())], device=str(device))
    world.run(lambda: told(world) == [f"{device} is not there"])
    device.touch()
    world.run(lambda: told(world)[-1] == "")


# -- how often it is looked for -------------------------------------------------------------------------------


class Watched:
    def __init__(self, disk):
        self.clock = VirtualClock()
        self.store = Store(disk, gateway_id="", root="", clock=self.clock)
        self.watch = LineWatch(
            PortSettings("bus1", PortKind.RS485, device="/dev/null"), store=self.store, clock=self.clock
        )

    def next_look_s(self):
        """So long the watch waits now, at most."""
        self.watch.missing()
        return self.watch.look_at_s - self.clock.monotonic()


@pytest.fixture
def watched(disk):
    made = Watched(disk)
    yield made
    made.store.close()


def test_a_lost_line_is_looked_for_more_often_than_one_that_is_there(watched):
    assert watched.next_look_s() == IDLE_LOOK_S
    watched.watch.gone("pulled out")
    assert watched.next_look_s() == LOST_LOOK_S
    watched.watch.back()
    assert watched.next_look_s() == IDLE_LOOK_S


def test_a_loose_contact_is_looked_for_half_as_often_each_time(watched):
    seen = []
    for _ in range(8):
        watched.watch.gone("pulled out")
        seen.append(watched.next_look_s())
        watched.watch.back()
        watched.clock.advance(5.0)
    assert seen[:4] == [LOST_LOOK_S, 2 * LOST_LOOK_S, 4 * LOST_LOOK_S, 8 * LOST_LOOK_S]
    assert seen[-1] == LONGEST_LOOK_S
    watched.clock.advance(3600.0)
    watched.watch.gone("pulled out")
    assert watched.next_look_s() == LOST_LOOK_S


def test_behind_a_device_server_only_a_meter_that_is_asked_shows_that_the_line_is_there(disk):
    clock = VirtualClock()
    store = Store(disk, gateway_id="", root="", clock=clock)
    settings = PortSettings("bus1", PortKind.RS485, device="socket://192.0.2.1:4001")
    watch = LineWatch(settings, store=store, clock=clock)
    assert watch.missing() == ""
    assert watch.look_at_s == math.inf
    store.close()
