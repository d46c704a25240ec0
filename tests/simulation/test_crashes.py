"""A bug of the program at one meter ends the process each time it comes there, and not the gateway's work for ever."""

from contextlib import suppress
from dataclasses import replace

import pytest
from simulation.test_broadcast import bus
from support.desk import memory_directory
from support.world import SimMeter, World

from gateway.simulator import MeterSpec
from gateway.wire import hdlc
from gateway.worker.crashes import counted

LIMIT = 30


@pytest.fixture
def disk():
    with memory_directory() as base:
        yield base


class BugError(Exception):
    """Of nobody's tree."""


class Driver:
    """A line whose driver has a bug: it fails at what is sent when `fails_at` says so of the frame."""

    def __init__(self, line, fails_at):
        self.line = line
        self.fails_at = fails_at

    def reopen(self):
        self.line.reopen()
        return self

    def write(self, data):
        frame, _ = hdlc.take_frame(data, 0)
        if self.fails_at(frame):
            raise BugError
        self.line.write(data)

    def __getattr__(self, name):
        return getattr(self.line, name)


def neighbours(count):
    spec = MeterSpec(window=3)
    return [
        SimMeter(
            replace(spec, address=replace(spec.address, lower=17 + number), logical_device_name=f"SIM{number}"),
            id=f"MTR{number + 1}",
        )
        for number in range(count)
    ]  # fmt: skip


def crash_on(world, done):
    """As systemd does: started again after each end, until `done`; how often."""
    for crashes in range(LIMIT):
        with suppress(BugError):
            world.run(done)
            return crashes
        world.cut_power()
    raise AssertionError(f"{LIMIT} crashes and no end")


def ended(world):
    return world.campaign().get("state") in (
        "succeeded",
        "partial",
        "failed",
    ) and not world.store.outbox_batch(0, 1)


def poisoned(disk, count=3, since="initiates"):
    """The driver fails at frames to MTR2, once that has begun its transfer (or came further)."""
    world = World(disk, neighbours(count), image_size=4096)
    history = world.meters["MTR2"].history
    world.lines["bus1"] = Driver(
        world.lines["bus1"], lambda frame: getattr(history, since) and frame.destination.lower == 18
    )
    return world


def test_a_job_that_crashes_the_gateway_is_given_up_and_its_neighbours_are_served(disk):
    world = poisoned(disk)
    world.submit()
    assert crash_on(world, lambda: ended(world)) == 3
    assert [world.job(f"MTR{number}")["state"] for number in (1, 2, 3)] == ["updated", "failed", "updated"]
    given_up = world.job("MTR2")
    assert given_up["code"] == "T_CRASH"
    assert "failed 3 times at work on MTR2" in given_up["message"]
    assert "report it" in given_up["advice"]
    assert world.campaign()["state"] == "partial"
    assert world.store.job("c1", "MTR1").crashes == world.store.job("c1", "MTR3").crashes == 0
    crashes = [event for event in world.store.events(0, 1000) if event["kind"] == "crash"]
    assert [event["message"] for event in crashes] == [
        f"BugError at work on it, {n} so far" for n in (1, 2, 3)
    ]
    assert {event["meter"] for event in crashes} == {"MTR2"}


def test_the_failure_counts_as_one_where_failures_pause_the_campaign(disk):
    world = poisoned(disk)
    world.submit(max_failures=0, wave=2)
    crash_on(world, lambda: world.campaign().get("paused") == "failures")
    assert world.job("MTR3")["state"] == "queued"


def test_an_operator_may_try_it_again_when_the_bug_is_mended(disk):
    world = poisoned(disk)
    world.submit(max_failures=0, wave=2)
    crash_on(world, lambda: world.campaign().get("paused") == "failures")
    world.lines["bus1"] = world.lines["bus1"].line
    world.shut_down()
    for verb in ("campaign.retry", "campaign.resume"):
        assert world.ask_at_the_gateway(verb, {"campaign_id": "c1"}).status == "done"
    world.run_until_told()
    assert {world.job(f"MTR{number}")["state"] for number in (1, 2, 3)} == {"updated"}


def test_power_cuts_and_kills_count_for_nothing(disk):
    world = World(disk, neighbours(1), image_size=4096)
    world.submit()
    meter = world.meters["MTR1"]
    for blocks in range(1, 11):
        world.run(lambda: meter.history.blocks.total() >= blocks)  # noqa: B023 (used before the next turn)
        world.cut_power()
    world.run_until_told()
    assert world.job()["state"] == "updated"
    assert world.store.job("c1", "MTR1").crashes == 0


def test_a_crash_after_the_order_to_activate_says_that_nobody_knows(disk):
    world = poisoned(disk, 2, since="activations")
    world.submit()
    crash_on(world, lambda: ended(world))
    assert (world.job("MTR2")["state"], world.job("MTR2")["code"]) == ("failed", "T_UNKNOWN")
    assert world.meters["MTR2"].history.activations == 1


def test_a_bug_in_leaving_a_meter_is_that_meters_own(disk):
    """It is left when the line is somebody else's, in the middle of another's work."""
    world = World(disk, neighbours(3), image_size=4096)
    world.lines["bus1"] = Driver(
        world.lines["bus1"],
        lambda frame: frame.type is hdlc.FrameType.DISC and frame.destination.lower == 18,
    )
    world.submit()
    assert 1 <= crash_on(world, lambda: ended(world)) <= 3
    assert {world.store.job("c1", f"MTR{number}").crashes for number in (1, 3)} == {0}
    assert {world.job(f"MTR{number}")["state"] for number in (1, 3)} == {"updated"}


def test_a_state_that_cannot_count_it_hides_no_bug(disk):
    world = World(disk, neighbours(1))
    world.store.close()
    with pytest.raises(BugError), counted(world.store, "MTR1"):
        raise BugError


def test_after_a_crash_in_a_broadcast_each_meter_is_served_alone(disk):
    world = World(disk, bus(3), image_size=4096)
    world.lines["bus1"] = Driver(world.lines["bus1"], lambda frame: frame.type is hdlc.FrameType.UI)
    world.submit(delivery="broadcast")
    assert crash_on(world, lambda: ended(world)) == 1
    assert world.campaign()["state"] == "succeeded"
    for meter_id in world.meters:
        assert world.job(meter_id)["delivery"] == "unicast: this program failed at work on it before"
        assert world.meters[meter_id].history.initiates == 1
