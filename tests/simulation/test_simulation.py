"""The whole gateway in one thread on virtual time: what it promises holds whatever breaks, and when.

A failing case prints its seed and what happened last; `SIMULATION_SEED=n pytest tests/simulation -k seed` runs that one
alone.
"""

import os
import random
from dataclasses import dataclass, replace

import pytest
from support.desk import memory_directory
from support.promises import check_promises
from support.world import SimMeter, World, ciphered

from gateway.model import BitmapOrder, Profile, Security
from gateway.simulator import Bitmap, Faults, MeterSpec, Mishap, Noise, Then, What, several

SEEDS = [int(os.environ["SIMULATION_SEED"])] if "SIMULATION_SEED" in os.environ else range(120)
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


# -- anything, at any time ------------------------------------------------------------------------------------


@dataclass
class Scenario:
    """A world, what is asked of it and when (seconds), and the meters that must come out of it updated."""

    world: World
    asked: list[tuple[float, str, dict[str, str]]]
    survivable: set[str]
    order_may_be_lost: bool
    """Activate is ordered once: where its octets, or the power after the decision, may be lost, a meter may stay on its
    old firmware, and is told so."""

    def play(self):
        """Order, and do what is asked until everybody knows how it ended; the ids of the commands."""
        world = self.world
        ids = [("campaign.submit", world.submit())]
        for at_s, verb, args in self.asked:
            world.run(lambda at_s=at_s: world.now_s >= at_s)
            if verb == "stop":
                world.shut_down()
            else:
                ids.append((verb, world.command(verb, args)))
        world.run_until_told(limit_s=72 * 3600.0)
        world.run(lambda: all(_answered(verb, world.replies(cmd_id)) for verb, cmd_id in ids))
        return ids


def _answered(verb, replies):
    last = replies[-1]["status"] if replies else ""
    return last in {"done", "failed", "rejected"}


def scenario(seed, directory):
    """Lines with meters of all kinds, and some of everything that can go wrong."""
    chance = random.Random(f"{seed} scenario")
    level = chance.choice([0.0, 0.0, 0.005, 0.02])
    noise = Noise(lost=level, damaged=level, octet_lost=level, doubled=level, delayed=level, delay_s=2.0)
    cuts = frozenset(chance.randint(1, 80) for _ in range(chance.choice([0, 0, 1, 3, 6])))
    asked = _asked(chance)
    stirred = bool(level or cuts or any(verb == "stop" for _, verb, _ in asked))
    meters = [_meter(chance, number) for number in range(1, chance.randint(1, 4) + 1)]
    world = World(
        directory, meters, seed=seed, line_faults=Faults(to_meter=noise, to_gateway=noise),
        broker_loses=chance.choice([0.0, 0.02, 0.1]), power_fails_at=cuts, image_size=chance.choice([3000, 8192]),
        wrapper_ports=frozenset(sim.port for sim in meters if sim.port.startswith("lan")),
    )  # fmt: skip
    if chance.random() < 0.3:
        world.broker.away_until_s = chance.uniform(0, 300)
    cancelled = any(verb == "campaign.cancel" for _, verb, _ in asked)
    survivable = set() if cancelled else {sim.id for sim in meters if _is_survivable(sim, stirred=stirred)}
    asked = [(at_s, verb, args | _whom(chance, verb, meters)) for at_s, verb, args in asked]
    return Scenario(world, asked, survivable, order_may_be_lost=bool(level or cuts))


def _meter(chance, number):
    """Meter 1 to 4, on one of two buses or at a TCP port of its own."""
    spec = chance.choice([PLAIN, ciphered(), ciphered(window=4, max_info=128)])
    spec = several(spec, number)[number - 1]
    whats = [What.INITIATE, What.BLOCK, What.VERIFY, What.ACTIVATE]
    thens = [Then.LOSE_REPLY, Then.FALL_SILENT, Then.REBOOT, Then.EXCHANGE]
    mishaps = tuple(
        Mishap(
            chance.choice(whats), chance.choice([1, 1, 5, 17]), chance.choice(thens), chance.choice([5.0, 90.0])
        )
        for _ in range(chance.choice([0, 0, 1, 2]))
    )  # fmt: skip
    ignored = chance.random() < 0.15
    faults = Faults(
        mishaps=mishaps, blocks_lost=chance.choice([0.0, 0.0, 0.03]), replies_lost=chance.choice([0.0, 0.02]),
        transfer_lost_by_reboot=chance.random() < 0.2, bitmap=Bitmap.EMPTY if ignored else Bitmap.FULL,
    )  # fmt: skip
    profile = Profile(
        reconnect_after_s=20, activate_timeout_s=300,
        bitmap=BitmapOrder.IGNORE if ignored else BitmapOrder.MSB,
    )  # fmt: skip
    port = f"lan{number}" if chance.random() < 0.25 else f"bus{chance.randint(1, 2)}"
    return SimMeter(
        spec, faults=faults, profile=profile, id=f"MTR{number}", port=port,
        dedicated_key=spec.security is not Security.NONE and chance.random() < 0.3,
    )  # fmt: skip


def _asked(chance):
    asked = [(chance.uniform(1, 120), "meter.probe") for _ in range(chance.choice([0, 0, 1, 3]))]
    if chance.random() < 0.15:
        asked.append((chance.uniform(1, 120), "campaign.cancel"))
    if chance.random() < 0.15:
        asked.append((chance.uniform(1, 120), "stop"))
    return [(at_s, verb, {}) for at_s, verb in sorted(asked)]


def _whom(chance, verb, meters):
    match verb:
        case "meter.probe":
            return {"meter": chance.choice(meters).id}
        case "campaign.cancel":
            return {"campaign_id": "c1"}
        case _:
            return {}


def _is_survivable(sim, *, stirred):
    """Whether a meter must end updated. What may break its association stirs a transfer, and most transfers go on
    after it. Not so by design where

    - the bitmap is ignored (one unbroken association): nothing may stir it, and no block may be lost;
    - blocks are acknowledged and lost: the bitmap shows it at the end, but in a new association it is a meter that lost
      what it acknowledged, and is begun anew once only;
    - each restart of the meter loses the transfer: it is begun anew once only.
    """
    faults = sim.faults
    over_tcp = sim.port.startswith("lan")
    stirred = stirred or bool(faults.mishaps) or (over_tcp and faults.replies_lost > 0)
    restarts = sum(mishap.then is Then.REBOOT for mishap in faults.mishaps)
    if sim.profile.bitmap is BitmapOrder.IGNORE:
        return not (stirred or faults.blocks_lost)
    if faults.transfer_lost_by_reboot and restarts > 1:
        return False
    return not (faults.blocks_lost and stirred)


@pytest.mark.parametrize("seed", SEEDS)
def test_promises_hold_for_every_seed(disk, seed):
    """Safety for all, and liveness for the meters whose faults can be survived."""
    scene = scenario(seed, disk())
    world = scene.world
    try:
        for verb, cmd_id in scene.play():
            check_replies(world, verb, cmd_id)
        check_promises(world)
        for meter_id in scene.survivable:
            job, history = world.job(meter_id), world.meters[meter_id].history
            lost_order = job["code"] == "T_ACTIVATE" and history.activations == 0
            assert job["state"] == "updated" or (scene.order_may_be_lost and lost_order), job
    except BaseException:
        print(
            f"SIMULATION_SEED={seed}\n"
            + "\n".join(s for s in world.sentences if not s.endswith("online"))[-6000:]
        )
        raise


def check_replies(world, verb, cmd_id):
    """Every command is answered once, and what it takes time to do is accepted first."""
    statuses = [reply["status"] for reply in world.replies(cmd_id)]
    match verb:
        case "campaign.cancel":
            assert statuses in (["done"], ["rejected"])
        case _:
            assert statuses in (["accepted", "done"], ["accepted", "failed"])
