"""Health checks: what a profile wants to be the same before and after an update. The whole gateway on virtual time."""

import csv
import io

import pytest
from support.desk import memory_directory
from support.world import BASE, SimMeter, World

from gateway.cli import report
from gateway.cli.watch import job_sentence
from gateway.model import ObjectAttribute, Profile
from gateway.simulator import Faults, MeterSpec, Mishap, Then, What, several

RELAY = ObjectAttribute(1, "0-0:96.3.10.255", 2, "1/0-0:96.3.10.255:2")
TARIFF = ObjectAttribute(1, "0-0:96.14.0.255", 2, "0-0:96.14.0.255:2")
ABSENT = ObjectAttribute(1, "0-0:96.99.9.255", 2, "0-0:96.99.9.255:2")
SAYS = (("0-0:96.3.10.255", "connected"), ("0-0:96.14.0.255", "T1"))
HEALTHY = MeterSpec(texts=SAYS)
OPENED_ITS_RELAY = MeterSpec(texts=SAYS, new_texts=(("0-0:96.3.10.255", "disconnected"),))


@pytest.fixture
def disk():
    with memory_directory() as base:
        yield base


def profile(*checks, **changes):
    return Profile(reconnect_after_s=20, activate_timeout_s=300, health_checks=checks, **changes)


def meters(*specs, **of_profile):
    """On one line, all of a profile that looks at relay and tariff."""
    named = zip(several(MeterSpec(), len(specs)), specs, strict=True)
    return [
        SimMeter(
            MeterSpec(
                address=place.address, logical_device_name=place.logical_device_name, texts=spec.texts,
                new_texts=spec.new_texts,
            ),
            id=f"MTR{number}", profile=profile(RELAY, TARIFF, **of_profile),
        )
        for number, (place, spec) in enumerate(named, 1)
    ]  # fmt: skip


def checks(world, meter_id="MTR1"):
    return [(each["object"], each["before"], each["after"]) for each in world.job(meter_id)["health"]]


def test_a_meter_that_is_as_it_was_is_updated_and_its_values_are_told(disk):
    world = World(disk, meters(HEALTHY))
    world.submit()
    world.run_until_told()
    assert world.job()["state"] == "updated"
    assert world.job()["message"] == "the meter reports 2.0.0"
    assert checks(world) == [(RELAY.text, "connected", "connected"), (TARIFF.text, "T1", "T1")]


def test_a_difference_is_told_in_the_job_and_in_the_event_and_the_meter_counts_as_updated(disk):
    world = World(disk, meters(OPENED_ITS_RELAY))
    world.submit()
    world.run_until_told()
    told = f"the meter reports 2.0.0; {RELAY.text} was connected, is disconnected"
    assert (world.job()["state"], world.job()["code"], world.job()["message"]) == ("updated", None, told)
    events = world.broker.documents(f"{BASE}/event")
    assert [event["message"] for event in events if event["state"] == "updated"] == [told]


def test_a_difference_stands_in_the_report_and_beside_the_meter(disk):
    world = World(disk, meters(OPENED_ITS_RELAY))
    world.submit()
    world.run_until_told()
    found = report.report_document(world.campaign(), [world.job()])
    difference = f"{RELAY.text} connected -> disconnected"
    (row,) = csv.DictReader(io.StringIO(report.csv_text([found])))
    assert row["health"] == difference
    assert f"MTR1: the meter reports 2.0.0; {RELAY.text} was connected" in report._page(found)
    assert job_sentence(world.job()) == f"updated, 1.0.0 -> 2.0.0, {difference}"


def test_where_a_difference_is_a_failure_the_canary_keeps_the_others_from_it(disk):
    world = World(disk, meters(OPENED_ITS_RELAY, HEALTHY, health_failure=True))
    world.submit(canary=1)
    world.run(lambda: world.campaign().get("paused") == "failures")
    assert (world.job()["state"], world.job()["code"]) == ("failed", "T_HEALTH")
    assert world.job()["version_after"] == "2.0.0"
    assert world.meters["MTR2"].history.initiates == 0


def test_a_failed_health_check_is_made_again_when_an_operator_says_so_and_nothing_is_sent_twice(disk):
    world = World(disk, meters(OPENED_ITS_RELAY, HEALTHY, health_failure=True))
    world.submit(canary=1, max_failures=0)
    world.run(lambda: world.campaign().get("paused") == "failures")
    world.meters["MTR1"]._objects._new_texts.clear()  # somebody closed it
    reply = world.ask_at_the_gateway("campaign.retry", {"campaign_id": "c1"})
    assert reply.status == "done", reply
    world.run_until_told()
    assert world.campaign()["state"] == "succeeded"
    assert checks(world)[0] == (RELAY.text, "connected", "connected")
    assert world.meters["MTR1"].history.activations == 1
    assert world.meters["MTR1"].history.initiates == 1


def test_after_a_failed_health_check_another_order_begins_afresh(disk):
    world = World(disk, meters(OPENED_ITS_RELAY, health_failure=True))
    world.submit()
    world.run_until_told()
    world.submit("c2", expect_version="3.0.0")
    world.run(lambda: world.meters["MTR1"].history.initiates == 2)


def test_what_a_meter_refuses_to_tell_is_compared_as_well(disk):
    world = World(disk, [SimMeter(HEALTHY, profile=profile(ABSENT, TARIFF, health_failure=True))])
    world.submit()
    world.run_until_told()
    refused = "refused (data-access-result 4)"
    assert world.job()["state"] == "updated"
    assert checks(world)[0] == (ABSENT.text, refused, refused)


def test_a_dry_run_reads_them_too(disk):
    world = World(disk, meters(HEALTHY))
    world.submit(dry_run=True)
    world.run_until_told()
    assert checks(world) == [(RELAY.text, "connected", None), (TARIFF.text, "T1", None)]


def test_the_values_before_are_those_of_before_whatever_breaks_in_between(disk):
    """The meter reboots in the middle of its transfer; the power of the gateway fails at every eighth commit."""
    falls = Faults(mishaps=(Mishap(What.BLOCK, 9, Then.REBOOT),))
    sims = meters(OPENED_ITS_RELAY)
    sims[0].faults = falls
    world = World(disk, sims, power_fails_at=frozenset(range(8, 200, 8)))
    world.submit()
    world.run_until_told()
    assert world.power.cuts > 2
    assert world.job()["state"] == "updated"
    assert checks(world) == [(RELAY.text, "connected", "disconnected"), (TARIFF.text, "T1", "T1")]


@pytest.mark.parametrize("after", [1, 2])
def test_power_fails_while_the_values_after_are_read(disk, after):
    world = World(disk, meters(OPENED_ITS_RELAY))
    world.submit()
    world.run(lambda: world.meters["MTR1"].version == "2.0.0" and world.job().get("state") == "confirming")
    world.run(lambda: sum("read" in line for line in world.sentences[-after:]) == after)
    world.cut_power()
    world.run_until_told()
    assert checks(world)[0] == (RELAY.text, "connected", "disconnected")
    assert world.meters["MTR1"].history.activations == 1
