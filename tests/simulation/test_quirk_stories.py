"""Quirks of meters that show over more than one order, or when the gateway restarts or the order is cancelled."""

import pytest
from support.quirks import Row, made, memory_disk
from support.world import SimMeter, World

from gateway.model import BitmapOrder, Profile
from gateway.model import ImageTransferStatus as S
from gateway.simulator import Bitmap, Faults, MeterSpec, Mishap, Then, What, several


@pytest.fixture
def disk():
    with memory_disk() as directory:
        yield directory


def test_a_verification_that_never_ends_is_given_up_after_a_restart_of_the_gateway_too(disk):
    row = Row("a6 is 2 for ever", Faults(a6={S.VERIFICATION_SUCCESSFUL: S.VERIFICATION_INITIATED}))
    world = made(row, disk)
    world.submit()
    world.run(lambda: world.job().get("state") == "verifying")
    world.cut_power()
    world.run_until_told()
    assert world.job()["code"] == "T_VERIFY"
    assert world.meters["MTR1"].history.activations == 0


def test_an_image_that_was_found_wrong_is_sent_again_when_it_is_ordered_again(disk):
    """A liar whose bitmap hides what it lost, the first time."""
    losses = Faults(bitmap=Bitmap.ALL_ONES, blocks_lost_once=frozenset({3, 4, 11}), transfers_with_losses=1)
    world = made(Row("loses blocks and hides it", losses), disk)
    world.submit()
    world.run_until_told()
    assert world.job()["code"] == "T_VERIFY"
    world.submit("c2")
    world.run_until_told("c2")
    assert world.job(campaign_id="c2")["state"] == "updated"
    assert world.meters["MTR1"].history.initiates == 2


def test_a_meter_that_was_enabled_is_disabled_when_its_order_is_cancelled_in_a_long_pause(disk):
    enabled = {"enable_transfer": True, "after_initiate_s": 300.0}
    world = made(Row("pauses", meter={"transfer_enabled": False}, profile=enabled), disk)
    world.submit()
    world.run(lambda: world.meters["MTR1"].history.initiates == 1 and world.now_s > 60)
    assert world.meters["MTR1"].image.enabled
    world.command("campaign.cancel", {"campaign_id": "c1"})
    world.run_until_told()
    assert world.job()["state"] == "cancelled"
    world.run(lambda: not world.meters["MTR1"].image.enabled, limit_s=200)


def test_a_cancelled_order_ends_for_meters_that_wait_and_meters_at_work_alike(disk):
    silent = Faults(mishaps=(Mishap(What.BLOCK, 3, Then.FALL_SILENT, 300.0),))
    waits, works = several(MeterSpec(), 2)
    world = World(
        disk, [SimMeter(waits, faults=silent, id="MTR1"), SimMeter(works, id="MTR2")], image_size=65536
    )
    world.submit()
    world.run(
        lambda: (
            world.job("MTR1").get("state") == "waiting" and world.job("MTR2").get("state") == "transferring"
        )
    )
    world.command("campaign.cancel", {"campaign_id": "c1"})
    world.run_until_told()
    assert [world.job(meter)["state"] for meter in ("MTR1", "MTR2")] == ["cancelled", "cancelled"]


def test_a_gateway_that_restarted_does_not_believe_in_blocks_beyond_those_it_may_have_sent(disk):
    world = made(Row("shows block 19 from the beginning", Faults(bitmap_adds=frozenset({19}))), disk)
    world.submit()
    world.run(lambda: world.meters["MTR1"].history.blocks.total() == 2)
    world.cut_power()
    world.run_until_told()
    assert world.job()["state"] == "updated"
    assert world.meters["MTR1"].history.initiates == 2


def test_a_meter_whose_association_may_not_break_keeps_the_line_for_itself(disk):
    unresumable, other = several(MeterSpec(), 2)
    profile = Profile(bitmap=BitmapOrder.IGNORE)
    world = World(
        disk,
        [
            SimMeter(unresumable, faults=Faults(bitmap=Bitmap.EMPTY), id="MTR1", profile=profile),
            SimMeter(other, id="MTR2"),
        ],
    )
    world.submit()
    world.run_until_told()
    assert [world.job(meter)["state"] for meter in ("MTR1", "MTR2")] == ["updated", "updated"]
    assert [world.meters[meter].history.initiates for meter in ("MTR1", "MTR2")] == [1, 1]


def test_an_image_that_was_verified_for_a_cancelled_order_is_activated_for_the_next_one(disk):
    world = made(Row("verifies for ten minutes", meter={"verify_s": 600.0}), disk)
    world.submit()
    world.run(lambda: world.job().get("state") == "verifying" and world.now_s > 100)
    world.command("campaign.cancel", {"campaign_id": "c1"})
    world.run_until_told()
    assert world.job()["state"] == "cancelled"
    world.run(lambda: world.now_s > 700)
    world.submit("c2")
    world.run_until_told("c2")
    assert world.job(campaign_id="c2")["state"] == "updated"
    history = world.meters["MTR1"].history
    assert (history.initiates, history.verifies, history.activations) == (1, 1, 1)
