"""A dry run through the whole gateway: every meter is looked at, and nothing is changed in any."""

from dataclasses import replace

import pytest
from support.desk import memory_directory
from support.world import SimMeter, World, ciphered

from gateway.model import ImageTransferStatus, Profile
from gateway.simulator import Faults, MeterSpec, Noise, What

PLAIN = MeterSpec(window=3)
CHANGES = {What.INITIATE, What.BLOCK, What.VERIFY, What.ACTIVATE}


@pytest.fixture
def disk():
    with memory_directory() as base:
        yield base


def dry_run(world, campaign_id="dry", **order):
    """To its end; the job as the head-end sees it."""
    world.submit(campaign_id, dry_run=True, **order)
    world.run_until_told(campaign_id)
    return world.job(campaign_id=campaign_id)


def untouched(world, meter_id="MTR1"):
    """No method was invoked, and no attribute set."""
    meter = world.meters[meter_id]
    return not [event for event in meter.history.events if event.what in CHANGES] and (
        meter.image.enabled is world.enabled_before[meter_id]
    )


def a_world(disk, *meters, **options):
    world = World(disk, list(meters), **options)
    world.enabled_before = {name: meter.image.enabled for name, meter in world.meters.items()}
    return world


def test_a_meter_is_looked_at_and_left_as_it_was(disk):
    world = a_world(disk, SimMeter(PLAIN), image_size=8000)
    job = dry_run(world)
    assert untouched(world)
    assert (job["state"], world.campaign("dry")["state"]) == ("skipped", "succeeded")
    size = PLAIN.block_size
    blocks = -(-8000 // size)
    assert job["message"] == f"dry run: would begin, with {blocks} blocks of {size} octets"
    found = job["findings"]
    assert (found["reachable"], found["version"], found["status"]) == (True, "1.0.0", "not_initiated")
    assert (found["enabled"], found["block_size"], found["blocks_left"]) == (True, size, blocks)
    assert found["largest_block"] >= size
    assert job["version_before"] == job["version_after"] == "1.0.0"


SPECS = {
    "plain, windows of three": PLAIN,
    "one short frame at a time": replace(PLAIN, window=1, max_info=128, block_size=500),
    "gmac": ciphered(),
    "in no hurry": replace(PLAIN, response_s=0.15),
}


@pytest.mark.parametrize("baud", [2400, 19200])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_it_says_how_long_the_blocks_will_take(disk, spec, baud):
    """Within a twentieth of what they take then."""
    world = a_world(disk, SimMeter(spec), image_size=8000, baud=baud, configured_baud=baud)
    estimate_s = dry_run(world)["findings"]["estimate_s"]
    world.submit("real")
    world.run_until_told("real")
    took_s = world.job(campaign_id="real")["transfer_s"]
    assert world.job(campaign_id="real")["state"] == "updated"
    assert estimate_s == pytest.approx(took_s, rel=0.05)


def test_a_meter_that_would_be_enabled_is_not(disk):
    sim = SimMeter(replace(PLAIN, transfer_enabled=False), profile=Profile(enable_transfer=True))
    world = a_world(disk, sim)
    job = dry_run(world)
    assert untouched(world)
    assert (job["state"], job["findings"]["enabled"]) == ("skipped", False)
    assert job["findings"]["blocks_left"] is not None


def test_what_would_fail_fails_with_its_code_and_its_findings(disk):
    world = a_world(disk, SimMeter(replace(PLAIN, transfer_enabled=False)))
    job = dry_run(world)
    assert untouched(world)
    assert (job["state"], job["code"], job["findings"]["enabled"]) == ("failed", "T_DISABLED", False)


def test_a_meter_that_does_not_answer_was_not_reached(disk):
    world = a_world(disk, SimMeter(PLAIN), line_faults=Faults(to_gateway=Noise(lost=1.0)))
    job = dry_run(world)
    assert (job["state"], job["code"]) == ("failed", "T_SILENT")
    assert job["findings"]["reachable"] is False


def test_it_changes_nothing_for_the_order_that_goes_on_afterwards(disk):
    """An order was cancelled half-way; the dry run finds what is left, and the next order goes on there."""
    world = a_world(disk, SimMeter(PLAIN), image_size=32768)
    world.submit("first")
    history = world.meters["MTR1"].history
    world.run(lambda: history.blocks.total() > 50)
    world.command("campaign.cancel", {"campaign_id": "first"})
    world.run_until_told("first")
    sent = history.blocks.total()
    job = dry_run(world)
    assert job["message"].startswith("dry run: would go on with block ")
    assert job["findings"]["blocks_left"] == job["blocks_total"] - sent
    assert (history.blocks.total(), history.initiates) == (sent, 1)
    assert world.meters["MTR1"].image.status is ImageTransferStatus.INITIATED
    world.submit("second")
    world.run_until_told("second")
    assert world.job(campaign_id="second")["state"] == "updated"
    assert (history.initiates, max(history.blocks.values())) == (1, 1)


def test_power_cuts_change_nothing_of_it(disk):
    for number in range(1, 14):
        directory = disk / str(number)
        directory.mkdir()
        world = a_world(directory, SimMeter(PLAIN), power_fails_at=frozenset({number}), seed=number)
        assert dry_run(world)["state"] == "skipped"
        assert untouched(world)
