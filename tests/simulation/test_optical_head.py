"""Whole updates through an optical head, by the whole gateway on virtual time."""

import pytest
from support.desk import memory_directory
from support.world import SimMeter, World, ciphered

from gateway.model import Profile
from gateway.simulator import Faults, Head, MeterSpec, Mishap, Then, What

QUICK = Profile(reconnect_after_s=20, activate_timeout_s=300)

HEADS = {
    "mode E as it should be": Head(),
    "confirms, and takes its time": Head(confirms=True, reaction_s=1.5),
    "echoes": Head(echoes=1.0, confirms=True),
    "echoes half of everything": Head(echoes=0.5),
    "is stuck in a readout": Head(readout_octets=30_000, reading_out_at=300),
    "offers 1200 baud": Head(baud=1200),
    "begins a readout where it is not acknowledged": Head(readout_octets=1000, reaction_s=1.2),
}


def updated(head, *, spec=None, faults=None, profile=QUICK, address="", image_size=4096):
    """A world in which an update through `head` was ordered and has ended well."""
    sim = SimMeter(
        spec or ciphered(window=1),
        faults=faults or Faults(),
        profile=profile,
        port="probe",
        device_address=address,
    )
    with memory_directory() as directory:
        world = World(directory, [sim], image_size=image_size, heads={"probe": head})
        world.submit()
        world.run_until_told()
        assert world.job()["state"] == "updated", world.sentences
        meter = world.meters["MTR1"]
        assert (meter.version, meter.image.image_sha256) == ("2.0.0", world.sha256)
        assert meter.history.initiates == meter.history.activations == 1
        assert meter.history.count(What.SECURITY) == 0
        return world


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS.keys())
def test_a_meter_is_updated(head):
    updated(head)


def test_a_meter_of_several_is_updated_by_its_device_address():
    updated(Head(device_address="10001234"), address="0010001234")


@pytest.mark.parametrize("then", [Then.FALL_SILENT, Then.REBOOT, Then.LOSE_REPLY])
def test_a_broken_association_is_followed_by_another_sign_on_and_the_transfer_goes_on(then):
    mishap = Mishap(What.BLOCK, 9, then, for_s=20.0)
    world = updated(Head(), spec=MeterSpec(inactivity_s=60.0), faults=Faults(mishaps=(mishap,)))
    blocks = world.meters["MTR1"].history.blocks
    assert set(blocks) == set(range(16)) and blocks.total() <= 17


def test_a_slow_meter_needs_its_delay():
    """The row of docs/profiles.md: without the delay each association costs a time-out."""
    slow = Head(deaf_after_ack_s=1.2)
    began = updated(slow).now_s
    patient = Profile(reconnect_after_s=20, activate_timeout_s=300, optical_delay_after_ack_s=1.3)
    assert updated(slow, profile=patient).now_s < began


@pytest.mark.parametrize("spec", [MeterSpec(), ciphered()], ids=["plain", "ciphered"])
def test_a_meter_without_hdlc_is_named_and_not_taken_for_one_that_refuses_its_keys(spec):
    with memory_directory() as directory:
        world = World(directory, [SimMeter(spec, port="probe")], heads={"probe": Head(hdlc=False)})
        world.submit()
        world.run_until_told()
        assert (world.job()["state"], world.job()["code"]) == ("failed", "T_ASSOCIATION")
        assert "does not offer HDLC by mode E" in world.job()["message"]
        assert world.store.parked("MTR1") is None


def test_the_other_ports_are_served_while_a_head_is_silent():
    wrong = SimMeter(MeterSpec(), port="probe", device_address="4711")
    right = SimMeter(MeterSpec(), id="MTR2", port="bus1")
    with memory_directory() as directory:
        world = World(directory, [wrong, right], heads={"probe": Head(device_address="12")})
        world.submit()
        world.run_until_told()
        assert (world.job()["code"], world.job("MTR2")["state"]) == ("T_SILENT", "updated")
        assert "does not sign on at 300 baud (mode E): no answer" in world.job()["message"]
