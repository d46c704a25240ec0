"""The worker of a line, as its meters and those who gave the orders see it: which meter when, what is durable when it
stops, and what it makes of doubt. The whole gateway on virtual time."""

from dataclasses import replace

import pytest
from support.desk import memory_directory
from support.world import SimMeter, World, ciphered

from gateway.model import BitmapOrder, ImageTransferStatus, Profile
from gateway.simulator import Bitmap, Faults, MeterSpec, Mishap, Then, What, several
from gateway.transfer import BlockSet

QUICK = Profile(reconnect_after_s=20, activate_timeout_s=300)


@pytest.fixture
def disk():
    with memory_directory() as directory:
        yield directory


def the_world(disk, *, spec=None, faults=None, profile=QUICK, **options):
    sim = SimMeter(spec or MeterSpec(), faults=faults or Faults(), profile=profile)
    return World(disk, [sim], **{"image_size": 32768} | options)


def two(disk, *, first=None, second=None, **options):
    """Two meters on one line; `first` and `second` are what they have of their own."""
    one, other = several(MeterSpec(), 2)
    return World(
        disk, [SimMeter(one, id="MTR1", **first or {}), SimMeter(other, id="MTR2", **second or {})],
        **{"image_size": 16384} | options,
    )  # fmt: skip


def sent(world, meter_id="MTR1"):
    return world.meters[meter_id].history.blocks.total()


def seen(world, what, meter_id="MTR1"):
    return world.meters[meter_id].history.count(what)


def linked(world, meter_id="MTR1"):
    """The meter believes that the gateway is there."""
    return any(link.connected for link in world.meters[meter_id]._links.values())


def events(world, text):
    return [event for event in world.store.events(0, 1000) if text in event["message"]]


def pauses(world):
    """Failed attempts after which the gateway came back later."""
    return [sentence for sentence in world.sentences if "; next try in " in sentence]


def probe(world, meter_id="MTR1"):
    """The last reply to an operator's probe."""
    cmd_id = world.command_at_the_gateway("meter.probe", {"meter": meter_id})
    world.run(lambda: world.store.reply_of(cmd_id).status != "accepted")
    return world.store.reply_of(cmd_id)


# -- what is durable ------------------------------------------------------------------------------------------


def test_a_meter_that_lost_what_it_acknowledged_is_begun_anew_after_a_power_cut(disk):
    """Only the checkpoint knows that block 3 was acknowledged: a bitmap without it is no continuation of ours
    (invariant 3)."""
    world = the_world(disk, faults=Faults(blocks_lost_once=frozenset({3}), transfers_with_losses=1))
    world.submit()
    world.run(lambda: sent(world) == 60)
    world.cut_power()
    world.run_until_told()
    assert world.job()["state"] == "updated"
    assert len(events(world, "no longer has 1 blocks that it acknowledged")) == 1
    assert world.meters["MTR1"].history.initiates == 2


def test_acknowledged_blocks_are_durable_about_every_ten_seconds(disk):
    world = the_world(disk, image_size=65536)
    world.submit()
    found = []
    for _ in range(8):
        last_s = world.now_s
        world.run(lambda last_s=last_s: world.now_s >= last_s + 10)
        record = world.store.job("c1", "MTR1").record
        found.append((sent(world), BlockSet(256, record.acked).count))
    (before, _), *later = found
    assert before > 0
    for (last, _), (now, acked) in zip(found, later, strict=False):
        assert last - (now - last) <= acked <= now, found


def test_a_meter_that_shows_more_than_was_ever_allowed_is_begun_anew_after_a_power_cut(disk):
    """The ceiling is little above what was sent: a block beyond it was sent by somebody else (invariant 3)."""
    world = the_world(disk, faults=Faults(bitmap_adds=frozenset({100})), image_size=65536)
    world.submit()
    world.run(lambda: sent(world) == 20)
    assert 20 <= world.store.job("c1", "MTR1").record.ceiling < 100
    world.cut_power()
    world.run(lambda: events(world, "the meter has block 100, sent were at most"))
    assert world.meters["MTR1"].history.initiates == 2


def test_no_block_is_sent_above_the_ceiling_that_is_durable(disk):
    world = the_world(disk, image_size=16384)
    world.submit()
    last = 16384 // world.meters["MTR1"].spec.block_size - 1
    ceilings = set()

    def looked_at():
        highest = max(world.meters["MTR1"].history.blocks, default=-1)
        job = world.store.job("c1", "MTR1")
        if job is not None and job.record is not None:
            ceilings.add(job.record.ceiling)
            assert highest <= job.record.ceiling
        return highest == last

    world.run(looked_at)
    assert len(ceilings - {-1}) > 1, "it rose step by step"
    assert max(ceilings) == last


def test_after_a_power_cut_a_meter_that_is_only_looked_at_leaves_the_others_their_image(disk):
    """Whoever was activated needs no image any more; whoever waits behind it on the line does."""
    world = two(disk, second={"profile": replace(QUICK, after_initiate_s=120)})
    world.submit()
    world.run(lambda: seen(world, What.ACTIVATE) == 1)
    assert sent(world, "MTR2") == 0
    world.cut_power()
    world.run_until_told()
    assert [world.job(meter)["state"] for meter in ("MTR1", "MTR2")] == ["updated", "updated"]


def test_stopping_in_order_makes_every_acknowledged_block_durable(disk):
    world = the_world(disk)
    world.submit()
    world.run(lambda: sent(world) == 50)
    world.shut_down()
    job = world.store.job("c1", "MTR1")
    assert BlockSet(128, job.record.acked).count == job.blocks_done == 50
    world.run_until_told()
    assert world.job()["state"] == "updated"
    assert sent(world) == 128, "not one block twice"


def test_stopping_in_order_leaves_the_meter(disk):
    world = the_world(disk)
    world.submit()
    world.run(lambda: sent(world) == 20)
    assert linked(world)
    world.shut_down()
    assert not linked(world)


# -- who has the line -----------------------------------------------------------------------------------------


UNBROKEN = {
    "faults": Faults(bitmap=Bitmap.EMPTY),
    "profile": replace(QUICK, bitmap=BitmapOrder.IGNORE, after_initiate_s=25),
}
"""Its bitmap says nothing, so its association must hold from the first block to the last; and it has a pause in which
others would gladly have the line."""


def test_an_association_that_may_not_break_outlasts_a_pause_that_others_could_use(disk):
    world = two(disk, first=UNBROKEN)
    world.submit()
    world.run(lambda: sent(world) > 0)
    assert sent(world, "MTR2") == 0
    assert world.meters["MTR2"].history.initiates == 0
    world.run_until_told()
    assert [world.job(meter)["state"] for meter in ("MTR1", "MTR2")] == ["updated", "updated"]
    assert [world.meters[meter].history.initiates for meter in ("MTR1", "MTR2")] == [1, 1]


def test_a_probe_of_another_meter_does_not_break_it(disk):
    world = two(disk, first=UNBROKEN)
    world.submit()
    world.run(lambda: sent(world) == 20)
    reply = probe(world, "MTR2")
    assert (reply.status, reply.code, reply.retryable) == ("failed", "E_BUSY", True)
    assert "MTR1 is being updated in one unbroken association" in reply.message
    assert probe(world, "MTR1").status == "done", "in the association that there is"
    world.run_until_told()
    assert world.job()["state"] == "updated"
    assert world.meters["MTR1"].history.initiates == 1


def test_any_other_transfer_makes_way_for_a_probe_and_goes_on(disk):
    world = two(disk)
    world.submit()
    world.run(lambda: sent(world) == 20)
    assert probe(world, "MTR2").status == "done"
    world.run_until_told()
    assert world.job()["state"] == "updated"
    assert (world.meters["MTR1"].history.initiates, sent(world)) == (1, 64)


def test_while_one_meter_waits_the_line_serves_the_next(disk):
    world = two(disk, first={"profile": replace(QUICK, after_initiate_s=60)})
    world.submit()
    world.run(lambda: seen(world, What.INITIATE) == 1)
    began_s = world.now_s
    world.run(lambda: sent(world, "MTR2") > 0)
    assert world.now_s < began_s + 30


# -- at rest --------------------------------------------------------------------------------------------------


def test_a_meter_is_left_for_the_length_of_a_long_wait(disk):
    world = the_world(disk, spec=MeterSpec(verify_s=900.0, inactivity_s=0.0), image_size=4096)
    world.submit()
    world.run(lambda: seen(world, What.VERIFY) == 1)
    verified_s, before, at_rest = world.now_s, seen(world, What.ASSOCIATED), []
    world.run(lambda: (at_rest.append(linked(world)), world.now_s > verified_s + 800)[1])
    polls = seen(world, What.ASSOCIATED) - before
    assert 10 <= polls <= 30, "each look at its status is an association of its own"
    assert not all(at_rest)


def test_a_meter_is_not_left_for_a_short_wait(disk):
    world = the_world(disk, profile=replace(QUICK, after_initiate_s=10), image_size=4096)
    world.submit()
    world.run(lambda: seen(world, What.VERIFY) == 1)
    assert seen(world, What.ASSOCIATED) == 1


def test_a_meter_that_was_probed_is_left(disk):
    world = the_world(disk)
    assert probe(world).status == "done"
    probed_s = world.now_s
    world.run(lambda: world.now_s > probed_s + 1)
    assert not linked(world)


def test_a_meter_whose_order_has_ended_is_left(disk):
    world = the_world(disk, spec=MeterSpec(version="2.0.0"))
    world.submit()
    world.run_until_told()
    assert world.job()["state"] == "skipped"
    assert not linked(world)


# -- doubt ----------------------------------------------------------------------------------------------------


def test_a_failed_probe_puts_what_was_seen_of_the_meter_in_doubt(disk):
    """It restarts while it verifies, and nobody but the probe notices: the answer to verify counts no longer."""
    world = the_world(disk, spec=MeterSpec(verify_s=600.0, reboot_s=5.0), image_size=4096)
    world.submit()
    world.run(lambda: seen(world, What.VERIFY) == 1)
    ordered_s = world.now_s
    world.run(lambda: world.now_s > ordered_s + 200)
    gets = seen(world, What.GET)
    world.run(lambda: seen(world, What.GET) > gets)
    meter = world.meters["MTR1"]
    meter.reboot(world.now_s)
    assert meter.image.status is ImageTransferStatus.INITIATED
    reply = probe(world)
    assert (reply.status, reply.code) == ("failed", "T_SILENT")
    # Not only when verify_timeout has passed.
    world.run(lambda: meter.history.verifies == 2, limit_s=world.now_s + 120)
    world.run_until_told()
    assert world.job()["state"] == "updated"
    assert meter.history.initiates == 1


def test_a_line_that_fails_under_a_probe_costs_the_transfer_nothing(disk):
    """The line is given back and opened anew by whoever needs it next; no attempt of the job is counted."""
    whole = the_world(disk / "whole")
    whole.submit()
    whole.run(lambda: sent(whole) == 30)
    world = the_world(
        disk / "cut", line_faults=Faults(cuts_at_octet=(whole.lines["bus1"].octets_carried + 200,))
    )
    world.submit()
    world.run(lambda: sent(world) == 30)
    associated = seen(world, What.ASSOCIATED)
    reply = probe(world)
    assert (reply.status, reply.code, reply.retryable) == ("failed", "T_PORT", True)
    world.run_until_told()
    assert world.job()["state"] == "updated"
    assert pauses(world) == []
    assert events(world, "T_PORT") == []
    assert seen(world, What.ASSOCIATED) > associated
    assert sent(world) == 128, "not one block twice"


# -- tries ----------------------------------------------------------------------------------------------------


def test_a_meter_that_gets_on_is_never_given_up(disk):
    """Silent for a minute after every eighth block: more failures than an order may have in a row, and progress
    between them."""
    silences = tuple(Mishap(What.BLOCK, nth, Then.FALL_SILENT, 60.0) for nth in range(8, 80, 8))
    world = the_world(disk, faults=Faults(mishaps=silences), image_size=20480)
    world.submit()
    world.run_until_told()
    assert world.job()["state"] == "updated", world.job()
    assert len(pauses(world)) >= len(silences) == 9


def test_a_meter_that_does_not_get_on_is_given_up_after_six_tries(disk):
    deaf = Faults(mishaps=(Mishap(What.BLOCK, 8, Then.FALL_SILENT, 1e6),))
    world = the_world(disk, faults=deaf)
    world.submit()
    world.run_until_told()
    assert (world.job()["state"], world.job()["code"]) == ("failed", "T_SILENT")
    assert len(pauses(world)) == 5


# -- who it is, once more -------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [MeterSpec(), ciphered()], ids=["plain", "gmac"])
def test_another_meter_that_answers_after_activation_is_not_taken_for_the_updated_one(disk, spec):
    """It reports the new version, and is not the one that was updated (invariant 5)."""
    exchanged = Faults(
        mishaps=(Mishap(What.ACTIVATE, 1, Then.EXCHANGE),), exchanged={"0-0:42.0.0.255": "SIM0000000000002"}
    )
    world = the_world(disk, spec=spec, faults=exchanged, image_size=4096)
    world.submit()
    world.run_until_told()
    assert world.meters["MTR1"].version == "2.0.0"
    assert (world.job()["state"], world.job()["code"]) == ("failed", "T_IDENTITY")
    assert "SIM0000000000002" in world.job()["message"]


def test_a_job_that_cannot_begin_leaves_the_others_their_time(disk):
    """After a restart one meter's next try lies ahead, and the other's image is gone."""
    world = two(disk, first={"faults": Faults(ignores_snrm_parameters=True)})
    world.submit("c1", targets=["MTR1"])
    world.run(lambda: world.job("MTR1").get("tries") == 4)
    world.submit("c2", targets=["MTR2"])
    world.run(lambda: sent(world, "MTR2") == 3)
    for image in (disk / "images").iterdir():
        image.unlink()
    world.shut_down()
    for campaign_id, meter_id in (("c2", "MTR2"), ("c1", "MTR1")):
        world.run_until_told(campaign_id)
        assert world.job(meter_id, campaign_id)["state"] == "failed"


# -- errors that leave a step ---------------------------------------------------------------------------------


def test_a_disk_that_is_full_for_a_time_delays_and_breaks_nothing(disk):
    world = the_world(disk, image_size=8192, disk_full_at=frozenset({9, 14}))
    world.submit()
    world.run_until_told()
    assert world.escaped
    assert {error.code for error in world.escaped} == {"F_DISK"}
    assert world.job()["state"] == "updated"
    assert world.meters["MTR1"].history.activations == 1
