"""The whole gateway in one thread on virtual time: what it promises holds whatever breaks, and when.

One thing at a time; everything at once is test_seeds.py.
"""

from dataclasses import replace

import pytest
from support.desk import memory_directory
from support.promises import check_promises
from support.world import SimMeter, World, ciphered

from gateway.model import Profile
from gateway.simulator import Faults, MeterSpec, Mishap, Noise, Then, What, several

PLAIN = MeterSpec(window=3)


def check_answered_once(world, cmd_id, last="done"):
    statuses = [reply["status"] for reply in world.replies(cmd_id)]
    assert statuses == ["accepted", last]


@pytest.fixture
def disk():
    with memory_directory() as base:
        yield lambda name="0": _made(base / name)


def _made(path):
    path.mkdir()
    return path


@pytest.mark.parametrize(
    "spec", [PLAIN, ciphered(), ciphered(general=False, window=7)], ids=["plain", "gmac", "window 7"]
)
def test_one_order_updates_one_meter(disk, spec):
    world = World(disk(), [SimMeter(spec)], image_size=20000)
    cmd_id = world.submit()
    world.run_until_told()
    check_promises(world)
    check_answered_once(world, cmd_id)
    assert world.job()["state"] == "updated"
    assert world.job()["version_before"] == "1.0.0"
    assert world.job()["version_after"] == "2.0.0"
    assert world.meters["MTR1"].history.blocks.total() == world.job()["blocks_total"], (
        "a block was sent twice"
    )


def test_power_fails_at_every_commit_in_turn(disk):
    whole = World(disk("whole"), [SimMeter(ciphered())])
    whole.submit()
    whole.run_until_told()
    not_updated = []
    for number in range(1, 2 * whole.power.commits):
        # The first cut comes after its commit, the second before: so every commit is seen from both sides.
        fails_at = frozenset({(number + 1) // 2} if number % 2 else {1, (number + 2) // 2})
        world = World(disk(str(number)), [SimMeter(ciphered())], power_fails_at=fails_at)
        cmd_id = world.submit()
        world.run_until_told()
        check_promises(world)
        if world.job()["state"] != "updated":
            not_updated.append(world.job()["code"])
            check_answered_once(world, cmd_id, "failed")
        else:
            check_answered_once(world, cmd_id)
    # Only a cut between the decision to activate and its octets leaves a meter that nobody may activate again.
    assert set(not_updated) <= {"T_ACTIVATE"}
    assert len(not_updated) <= 1


def test_a_power_cut_costs_at_most_the_block_on_the_line(disk):
    """Invariant 3: what the meter has is not sent again."""
    for cut in range(12, 20):
        world = World(disk(str(cut)), [SimMeter(PLAIN)], image_size=65536, power_fails_at=frozenset({cut}))
        world.submit()
        world.run_until_told()
        assert world.job()["state"] == "updated"
        assert world.meters["MTR1"].history.initiates == 1
        assert world.meters["MTR1"].history.blocks.total() <= world.job()["blocks_total"] + 1


@pytest.mark.parametrize("cut", range(40, 12000, 397))
def test_the_line_is_cut_at_any_octet(disk, cut):
    faults = Faults(cuts_at_octet=(cut,))
    world = World(disk(), [SimMeter(ciphered())], line_faults=faults)
    world.submit()
    world.run_until_told()
    check_promises(world)
    assert world.job()["state"] == "updated", world.job()


MISHAPS = [
    ("the answer to initiate is lost", Mishap(What.INITIATE, 1, Then.LOSE_REPLY)),
    ("it restarts after initiate", Mishap(What.INITIATE, 1, Then.REBOOT)),
    ("it is silent for two minutes after a block", Mishap(What.BLOCK, 7, Then.FALL_SILENT, 120.0)),
    ("it restarts in mid-transfer", Mishap(What.BLOCK, 20, Then.REBOOT)),
    ("the answer to verify is lost", Mishap(What.VERIFY, 1, Then.FALL_SILENT, 15.0)),
    ("it restarts while it verifies", Mishap(What.VERIFY, 1, Then.REBOOT)),
    ("the answer to activate is lost", Mishap(What.ACTIVATE, 1, Then.FALL_SILENT, 15.0)),
    ("it takes two minutes to come back", Mishap(What.ACTIVATE, 1, Then.FALL_SILENT, 120.0)),
]  # fmt: skip


@pytest.mark.parametrize("mishap", [mishap for _, mishap in MISHAPS], ids=[story for story, _ in MISHAPS])
@pytest.mark.parametrize("spec", [PLAIN, ciphered()], ids=["plain", "gmac"])
def test_a_meter_with_a_mishap_is_updated_all_the_same(disk, spec, mishap):
    world = World(disk(), [SimMeter(spec, faults=Faults(mishaps=(mishap,)))])
    world.submit()
    world.run_until_told()
    check_promises(world)
    assert world.job()["state"] == "updated", world.job()


def test_a_meter_that_forgets_its_transfer_over_a_restart_is_begun_anew_once(disk):
    faults = Faults(mishaps=(Mishap(What.BLOCK, 20, Then.REBOOT),), transfer_lost_by_reboot=True)
    world = World(disk(), [SimMeter(PLAIN, faults=faults)])
    world.submit()
    world.run_until_told()
    assert world.job()["state"] == "updated"
    assert world.meters["MTR1"].history.initiates == 2


def test_blocks_that_are_acknowledged_and_lost_are_found_in_the_bitmap(disk):
    lossy = Faults(blocks_lost_once=frozenset({0, 3, 4, 17, 31}))
    world = World(disk(), [SimMeter(PLAIN, faults=lossy)])
    world.submit()
    world.run_until_told()
    check_promises(world)
    assert world.job()["state"] == "updated"
    assert world.job()["blocks_resent"] == 5


def test_a_noisy_line_delivers_the_right_image(disk):
    noise = Noise(
        lost=0.03, damaged=0.03, octet_lost=0.02, octet_doubled=0.02, doubled=0.02, delayed=0.1, delay_s=1.0
    )
    not_updated = []
    for seed in range(10):
        world = World(
            disk(str(seed)), [SimMeter(ciphered(window=7, max_info=128))], seed=seed,
            line_faults=Faults(to_meter=noise, to_gateway=noise), image_size=16384,
        )  # fmt: skip
        world.submit()
        world.run_until_told()
        check_promises(world)
        if world.job()["state"] != "updated":
            not_updated.append((seed, world.job()["code"], world.meters["MTR1"].history.activations))
    # Activate is ordered once: a line that swallows each attempt at it leaves the meter with its old firmware.
    assert [(code, activations) for _, code, activations in not_updated] in ([], [("T_ACTIVATE", 0)]), (
        not_updated
    )


def test_meters_on_one_line_are_served_while_others_restart(disk):
    meters = [
        SimMeter(spec, id=f"MTR{number}", profile=Profile(reconnect_after_s=60))
        for number, spec in enumerate(several(MeterSpec(reboot_s=60.0), 4), start=1)
    ]
    world = World(disk(), meters)
    cmd_id = world.submit()
    world.run_until_told()
    check_promises(world)
    check_answered_once(world, cmd_id)
    alone = World(disk("alone"), meters[:1])
    alone.submit()
    alone.run_until_told()
    assert world.now_s < 4 * alone.now_s - 120, "the line was idle while a meter restarted"


def test_a_cancelled_order_leaves_the_meter_as_it_was(disk):
    world = World(disk(), [SimMeter(PLAIN)], image_size=65536)
    submitted = world.submit()
    world.run(lambda: world.meters["MTR1"].history.blocks.total() >= 50)
    cancelled = world.command("campaign.cancel", {"campaign_id": "c1"})
    world.run_until_told()
    check_promises(world)
    assert world.job()["state"] == "cancelled"
    assert world.campaign()["state"] == "cancelled"
    assert world.meters["MTR1"].history.activations == 0
    assert [reply["status"] for reply in world.replies(cancelled)] == ["done"]
    check_answered_once(world, submitted, "failed")


def test_the_next_order_goes_on_where_a_cancelled_one_stopped(disk):
    world = World(disk(), [SimMeter(PLAIN)], image_size=65536)
    world.submit()
    world.run(lambda: world.meters["MTR1"].history.blocks.total() >= 50)
    world.command("campaign.cancel", {"campaign_id": "c1"})
    world.run_until_told()
    world.submit("c2")
    world.run_until_told("c2")
    assert world.job(campaign_id="c2")["state"] == "updated"
    assert world.meters["MTR1"].history.initiates == 1
    assert world.meters["MTR1"].history.blocks.total() <= 257


def test_a_repeated_command_is_answered_again_and_done_once(disk):
    world = World(disk(), [SimMeter(PLAIN)])
    args = {
        "campaign_id": "c1", "image": {"sha256": world.sha256, "url": "http://127.0.0.1/fw.bin"},
        "identifier": "FW", "expect_version": "2.0.0", "targets": ["MTR1"],
    }  # fmt: skip
    first = world.command("campaign.submit", args)
    world.broker.order(*_same_again(world))
    world.run_until_told()
    check_answered_once(world, first)
    assert world.meters["MTR1"].history.initiates == 1


def _same_again(world):
    import json

    delivery = world.broker._commands[0]
    return delivery.topic, json.loads(delivery.payload)


def test_a_meter_that_runs_the_version_already_is_skipped(disk):
    world = World(disk(), [SimMeter(replace(PLAIN, version="2.0.0"))])
    world.submit()
    world.run_until_told()
    assert world.job()["state"] == "skipped"
    assert world.campaign()["state"] == "succeeded"
    assert world.meters["MTR1"].history.initiates == 0


def test_a_meter_that_never_comes_back_is_told_as_unknown_after_a_day(disk):
    gone = Faults(mishaps=(Mishap(What.ACTIVATE, 1, Then.FALL_SILENT, 1e9),))
    world = World(disk(), [SimMeter(PLAIN, faults=gone)])
    world.submit()
    world.leaps_s = 60.0
    world.run(lambda: world.job().get("state") == "uncertain")
    world.run_until_told()
    assert world.job()["state"] == "failed"
    assert world.job()["code"] == "T_UNKNOWN"
    assert world.now_s > 24 * 3600


def test_a_probe_is_answered_while_a_transfer_runs(disk):
    world = World(disk(), [SimMeter(PLAIN)], image_size=65536)
    world.submit()
    world.run(lambda: world.meters["MTR1"].history.blocks.total() >= 20)
    probe = world.command("meter.probe", {"meter": "MTR1"})
    world.run_until_told()
    accepted, done = world.replies(probe)
    assert (accepted["status"], done["status"]) == ("accepted", "done")
    assert done["data"]["image_transfer_status"] == {"value": 1, "name": "initiated"}
    assert done["data"]["firmware_version"] == "1.0.0"
    assert world.job()["state"] == "updated"


@pytest.mark.parametrize(
    ("verb", "args"), [("meter.probe", {"meter": "MTR1"}), ("port.scan", {"port": "bus1", "to": 20})]
)
def test_what_the_disk_had_no_room_for_is_answered_when_there_is_some(disk, verb, args):
    for number in range(1, 9):
        world = World(disk(str(number)), [SimMeter(PLAIN)], disk_full_at=frozenset({number, number + 1}))
        cmd_id = world.command(verb, args)
        world.run(lambda world=world, cmd_id=cmd_id: _answered(world.replies(cmd_id)), limit_s=600.0)
        assert [reply["status"] for reply in world.replies(cmd_id)] == ["accepted", "done"]


def _answered(replies):
    return bool(replies) and replies[-1]["status"] in {"done", "failed", "rejected"}
