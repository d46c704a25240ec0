"""Several associations on one line: which are kept, which are left, and that losing one costs no more than another."""

from dataclasses import replace

import pytest
from support.desk import memory_directory
from support.world import SimMeter, World, ciphered

from gateway.clock import Clock
from gateway.errors import SilentError
from gateway.link.counters import Counters
from gateway.link.session import Session
from gateway.model import Meter, MeterKeys, PortKind, PortSettings, Profile
from gateway.simulator import Faults, MeterSpec, VirtualClock, VirtualLine, VirtualMeter, What, several
from gateway.wire import apdu
from gateway.worker.sessions import MOST_TOGETHER

QUICK = Profile(reconnect_after_s=20, activate_timeout_s=300)
SLOW_TO_ERASE = replace(QUICK, after_initiate_s=15)
NAME = apdu.Attribute(1, apdu.obis("0-0:42.0.0.255"), 2)


@pytest.fixture
def disk():
    with memory_directory() as directory:
        yield directory


def bus(disk, count, *, spec=None, profile=QUICK, faults=None, **options):
    """Meters on one line that differ in nothing but their addresses and names."""
    specs = several(spec or MeterSpec(), count)
    meters = [
        SimMeter(one, id=f"MTR{number}", profile=profile, faults=faults or Faults())
        for number, one in enumerate(specs, start=1)
    ]
    return World(disk, meters, **{"image_size": 8192, "baud": 115200} | options)


def seen(world, what):
    return {meter_id: meter.history.count(what) for meter_id, meter in world.meters.items()}


def associations(world):
    """How many were opened by the client that updates, and not by the public one that reads counters."""
    return {
        meter_id: sum(
            event.what is What.ASSOCIATED and event.number == meter.spec.client
            for event in meter.history.events
        )
        for meter_id, meter in world.meters.items()
    }


def linked(world):
    return {
        meter_id
        for meter_id, meter in world.meters.items()
        if any(link.connected for link in meter._links.values())
    }


def associated(world, meter_id):
    """The meter believes that an association stands, whatever carries it."""
    return any(
        association._state.name == "OPEN" for association in world.meters[meter_id]._associations.values()
    )


def failures(world):
    return [event["message"] for event in world.store.events(0, 1000) if event["state"] == "waiting"]


def states(world):
    return {world.job(meter_id)["state"] for meter_id in world.meters}


@pytest.mark.parametrize("spec", [MeterSpec(), ciphered()], ids=["plain", "gmac"])
def test_meters_that_prepare_their_memory_keep_their_associations(disk, spec):
    world = bus(disk, 4, spec=spec, profile=SLOW_TO_ERASE)
    world.submit()
    world.run(lambda: min(seen(world, What.INITIATE).values()) == 1)
    assert linked(world) == set(world.meters)
    world.run(lambda: min(seen(world, What.VERIFY).values()) == 1)
    assert set(associations(world).values()) == {1}, "from the first look to verification"
    world.run_until_told()
    assert states(world) == {"updated"}
    assert not linked(world)


def test_a_meter_that_ends_its_link_meanwhile_costs_a_new_association_and_no_try(disk):
    world = bus(disk, 3, spec=MeterSpec(inactivity_s=5.0), profile=SLOW_TO_ERASE)
    world.submit()
    world.run(lambda: min(seen(world, What.VERIFY).values()) == 1)
    assert set(associations(world).values()) == {2}
    world.run_until_told()
    assert states(world) == {"updated"}
    assert failures(world) == []
    assert set(seen(world, What.INITIATE).values()) == {1}


def test_an_association_that_nobody_used_for_long_is_begun_anew(disk):
    """The first transfer keeps the others waiting for longer than their links live."""
    world = bus(disk, 2, profile=replace(QUICK, after_initiate_s=2), image_size=131072, baud=9600)
    world.submit()
    world.run(lambda: seen(world, What.INITIATE)["MTR2"] == 1)
    world.run(lambda: min(seen(world, What.VERIFY).values()) == 1)
    assert max(associations(world).values()) == 2
    world.run_until_told()
    assert states(world) == {"updated"}
    assert failures(world) == []


def test_no_more_associations_stand_than_a_bus_has_loads(disk):
    world = bus(disk, MOST_TOGETHER + 4, profile=SLOW_TO_ERASE, image_size=512)
    most = 0

    def all_initiated():
        nonlocal most
        most = max(most, len(linked(world)))
        return min(seen(world, What.INITIATE).values()) == 1

    world.submit()
    world.run(all_initiated)
    assert most == MOST_TOGETHER
    world.run_until_told()
    assert states(world) == {"updated"}


def test_a_connection_with_the_wrapper_has_one_association_at_a_time(disk):
    one, other = several(MeterSpec(), 2)
    other = replace(other, address=replace(other.address, upper=2))
    meters = [
        SimMeter(spec, id=f"MTR{number}", port="lan", profile=replace(QUICK, after_initiate_s=2))
        for number, spec in enumerate([one, other], start=1)
    ]
    world = World(disk, meters, image_size=4096, wrapper_ports=frozenset({"lan"}))
    together = []

    def told():
        together.append([meter_id for meter_id in world.meters if associated(world, meter_id)])
        return world.campaign().get("state") == "succeeded"

    world.submit()
    world.run(told)
    assert {len(standing) for standing in together} == {0, 1}
    assert {meter_id for standing in together for meter_id in standing} == set(world.meters)


def test_a_probe_in_between_is_left_at_once_and_the_transfer_goes_on(disk):
    world = bus(disk, 2)
    world.submit(targets=["MTR1"])
    world.run(lambda: seen(world, What.BLOCK)["MTR1"] == 10)
    cmd_id = world.command_at_the_gateway("meter.probe", {"meter": "MTR2"})
    world.run(lambda: world.store.reply_of(cmd_id).status == "done")
    assert linked(world) == {"MTR1"}
    world.run(lambda: seen(world, What.VERIFY)["MTR1"] == 1)
    assert associations(world)["MTR1"] == 1, "the probe did not break it"


def test_a_line_that_is_lost_takes_every_association_with_it(disk):
    whole = bus(disk / "whole", 3, profile=SLOW_TO_ERASE)
    whole.submit()
    whole.run(lambda: min(seen(whole, What.INITIATE).values()) == 1)
    cut = Faults(cuts_at_octet=(whole.lines["bus1"].octets_carried + 500,))
    world = bus(disk / "cut", 3, profile=SLOW_TO_ERASE, line_faults=cut)
    world.submit()
    world.run_until_told()
    assert states(world) == {"updated"}
    assert set(seen(world, What.INITIATE).values()) == {1}


# -- late frames ----------------------------------------------------------------------------------------------


def on(line: VirtualLine, clock: Clock, spec: MeterSpec) -> Session:
    """An open association; a meter on this line has one attempt to answer in time."""
    meter = Meter(
        "M", "bus", physical_address=spec.address.lower or 0, logical_address=spec.address.upper,
        profile=Profile(max_info=128),
    )  # fmt: skip
    session = Session(
        line, PortSettings("bus", PortKind.RS485, baud=9600, attempts=1), meter, MeterKeys(),
        system_title=b"", counters=Counters(lambda _: 0), clock=clock, random_octets=bytes,
    )  # fmt: skip
    session.open()
    return session


def test_the_late_answer_of_one_meter_is_no_answer_of_another():
    """It comes while the other is asked the same, in an association of the same kind: only the source address tells."""
    clock = VirtualClock()
    meters = [VirtualMeter(spec) for spec in several(MeterSpec(), 2)]
    line = VirtualLine(meters, clock)
    late, prompt = (on(line, clock, meter.spec) for meter in meters)
    meters[0].spec = replace(meters[0].spec, response_s=2.5)
    meters[1].spec = replace(meters[1].spec, response_s=1.0)
    with pytest.raises(SilentError):
        late.get(NAME)
    assert prompt.get(NAME).value == meters[1].spec.logical_device_name.encode()
    assert line.read(4096, 10.0) == b"", "the late answer came first"
