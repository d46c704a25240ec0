"""Broadcast delivery through the whole gateway: a bus takes an image at once, and whatever goes wrong on the way, every
meter ends with the right image or none, and no meter is told what was meant for others.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from simulation.test_simulation import check_answered_once
from support.desk import memory_directory
from support.promises import check_promises, check_telling
from support.world import SYSTEM_TITLE, SimMeter, World

from gateway.model import (
    Authentication,
    BitmapOrder,
    BroadcastFraming,
    ImageTransferStatus,
    MeterKeys,
    Profile,
    Security,
)
from gateway.simulator import NONE, Faults, MeterSpec, Mishap, Noise, Then, What, several
from gateway.wire.hdlc import Address, FrameReader, FrameType
from gateway.wire.image_transfer import initiate_data
from gateway.wire.security import Sealed

KEYS = MeterKeys(bytes(range(16)), bytes(range(0xD0, 0xE0)), broadcast_key=bytes(range(0xB0, 0xC0)))
SPEC = MeterSpec(
    address=Address(1, 17), authentication=Authentication.HLS_GMAC, security=Security.BOTH, keys=KEYS,
    client_title=SYSTEM_TITLE, block_size=128, max_info=2030, max_pdu=2048, broadcast_client=102,
    broadcast_max_info=200,
)  # fmt: skip
PLAIN = replace(SPEC, authentication=Authentication.NONE, security=Security.NONE, keys=MeterKeys())
PROFILE = Profile(
    reconnect_after_s=20, activate_timeout_s=300, after_initiate_s=1, broadcast=True, broadcast_max_info=200
)
BLOCKS = 32
IMAGE_SIZE = BLOCKS * 128 - 28


def bus(
    count: int, spec: MeterSpec = SPEC, *, faults: dict[int, Faults] | None = None, profile: Profile = PROFILE
) -> list[SimMeter]:
    """Meters MTR0, MTR1, ... on one line."""
    own = faults or {}
    return [
        SimMeter(meter, own.get(number, NONE), profile, id=f"MTR{number}")
        for number, meter in enumerate(several(spec, count))
    ]


@pytest.fixture
def disk():
    with memory_directory() as base:
        yield lambda name="0": _made(base / name)


def _made(path):
    path.mkdir()
    return path


def run(world: World, targets: Iterable[str] | None = None, delivery: str = "auto", **order: Any) -> str:
    changes = {"targets": list(targets)} if targets is not None else {}
    cmd_id = world.submit(delivery=delivery, **changes, **order)
    world.run_until_told()
    return cmd_id


def check(world: World, targets: Iterable[str] | None = None) -> None:
    """The promises of every update, and those of broadcast; all `targets` are updated."""
    targets = list(targets if targets is not None else world.meters)
    strangers = world.meters.keys() - set(targets)
    for meter_id in targets:
        assert world.job(meter_id)["state"] == "updated", (meter_id, world.job(meter_id)["message"])
    if not strangers:
        check_promises(world)
    check_telling(world)
    for meter_id in strangers:
        check_untouched(world, meter_id)


def check_untouched(world: World, meter_id: str) -> None:
    """A meter that was not meant has heard nothing that it would have stored."""
    history = world.meters[meter_id].history
    assert [event for event in history.events if event.what is What.BROADCAST and event.number] == []
    assert history.count(What.BLOCK) == 0
    assert history.initiates == history.verifies == history.activations == 0


def delivery(world: World, meter_id: str) -> str:
    return str(world.job(meter_id)["delivery"])


def datetime_of(year: int) -> datetime:
    return datetime(year, 1, 1, tzinfo=UTC)


def frames_heard(world: World) -> int:
    return max(meter.history.count(What.BROADCAST) for meter in world.meters.values())


# -- it works -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "profile"),
    [
        (SPEC, PROFILE),
        (PLAIN, PROFILE),
        (
            replace(SPEC, broadcast_framing=BroadcastFraming.GENERAL_GLO),
            replace(PROFILE, broadcast_framing=BroadcastFraming.GENERAL_GLO),
        ),
        (replace(SPEC, address=Address(1, 17, 4)), PROFILE),
        (replace(SPEC, address=Address(1, 0x1000)), PROFILE),
        (replace(SPEC, security=Security.AUTHENTICATION), PROFILE),
    ],
    ids=["glo", "plain", "general-glo", "4 octets", "4 octets needed", "authenticated associations"],
)
def test_a_bus_takes_each_block_once(disk, spec, profile):
    world = World(disk(), bus(4, spec, profile=profile), image_size=IMAGE_SIZE)
    cmd_id = run(world, delivery="broadcast")
    check(world)
    check_answered_once(world, cmd_id)
    for meter_id, meter in world.meters.items():
        assert delivery(world, meter_id) == "broadcast"
        assert meter.history.blocks.total() == BLOCKS
        assert meter.history.count(What.BROADCAST) == BLOCKS
        job = world.job(meter_id)
        assert (job["blocks_sent"], job["blocks_broadcast"], job["blocks_resent"]) == (BLOCKS, BLOCKS, 0)
        assert job["bytes_sent"] == IMAGE_SIZE
        assert IMAGE_SIZE / 960 < job["transfer_s"] < 60, "9600 baud, and gaps between frames"


def test_32_meters_of_one_bus_lose_some_and_are_mended(disk):
    lossy = {number: Faults(broadcasts_missed=0.02) for number in range(32)}
    world = World(disk(), bus(32, faults=lossy), image_size=256 * 128)
    run(world)
    check(world)
    mended = [name for name in world.meters if "by unicast" in delivery(world, name)]
    assert mended
    assert all(delivery(world, name).startswith("broadcast") for name in world.meters)
    for name in mended:
        job = world.job(name)
        assert job["blocks_sent"] > job["blocks_broadcast"] >= 256
        assert job["blocks_sent"] - 256 == job["blocks_resent"]


def test_heavy_losses_are_sent_to_the_bus_again(disk):
    lossy = {number: Faults(broadcasts_missed=0.3) for number in range(6)}
    world = World(disk(), bus(6, faults=lossy), image_size=256 * 128)
    run(world)
    check(world)
    assert frames_heard(world) > 256
    for name, meter in world.meters.items():
        alone = world.job(name)["blocks_sent"] - world.job(name)["blocks_broadcast"]
        assert alone < 256 * 0.3, "more than a round would have been mended by unicast"
        assert meter.history.initiates == 1


def test_a_round_longer_than_the_inactivity_time_out_ends_no_association(disk):
    """Each link is polled now and then, and the bitmap is read in the association that the meter was initiated in."""
    world = World(disk(), bus(3), image_size=200 * 128, baud=2400)
    run(world)
    check(world)
    for meter in world.meters.values():
        events = list(meter.history.events)
        verified = next(number for number, event in enumerate(events) if event.what is What.VERIFY)
        heard_s = [event.at_s for event in events if event.what is What.BROADCAST]
        assert heard_s[-1] - heard_s[0] > meter.spec.inactivity_s
        assert [event.what for event in events[:verified]].count(What.ASSOCIATED) == 2, (
            "the public client, and ours"
        )


def test_two_orders_of_one_image_on_two_ports_are_two_groups(disk):
    other = [replace(sim, id=f"OTHER{n}", port="bus2") for n, sim in enumerate(bus(3))]
    world = World(disk(), [*bus(3), *other], image_size=IMAGE_SIZE)
    run(world)
    check(world)
    assert {delivery(world, name) for name in world.meters} == {"broadcast"}


def test_different_lengths_of_address_and_keys_gather_apart(disk):
    other_keys = replace(KEYS, broadcast_key=bytes(range(0x50, 0x60)))
    specs = [
        *several(SPEC, 2),
        *several(replace(SPEC, address=Address(1, 40, 4), logical_device_name="SIM40"), 2),
        *several(replace(SPEC, address=Address(1, 60), keys=other_keys, logical_device_name="SIM60"), 3),
    ]
    sims = [SimMeter(spec, NONE, PROFILE, id=f"MTR{number}") for number, spec in enumerate(specs)]
    world = World(disk(), sims, image_size=IMAGE_SIZE)
    run(world)
    check(world)
    assert {delivery(world, name) for name in world.meters} == {"broadcast"}
    assert all(meter.history.blocks.total() == BLOCKS for meter in world.meters.values())


# -- who cannot -----------------------------------------------------------------------------------------------


def test_a_deaf_meter_costs_the_pilot_and_is_served_alone(disk):
    world = World(disk(), bus(4, faults={2: Faults(broadcasts_missed=1.0)}), image_size=IMAGE_SIZE)
    run(world)
    check(world)
    assert delivery(world, "MTR2") == "unicast: it took none of the 4 blocks of the pilot"
    assert world.job("MTR2")["blocks_broadcast"] == 4
    assert [delivery(world, name) for name in ("MTR0", "MTR1", "MTR3")] == ["broadcast"] * 3


def test_where_all_are_deaf_the_pilot_is_all_that_is_lost(disk):
    everyone = {number: Faults(broadcasts_missed=1.0) for number in range(3)}
    world = World(disk(), bus(3, faults=everyone), image_size=IMAGE_SIZE)
    run(world)
    check(world)
    assert all(world.job(name)["blocks_broadcast"] == 4 for name in world.meters)


def unable(spec: MeterSpec = SPEC, profile: Profile = PROFILE) -> list[SimMeter]:
    """Two that can, and one that cannot."""
    one = replace(spec, address=Address(1, 90), logical_device_name="SIM90")
    return [*bus(2), SimMeter(one, NONE, profile, id="MTR9")]


@pytest.mark.parametrize(
    ("sims", "why"),
    [
        (unable(profile=replace(PROFILE, broadcast=False)), "broadcast is not set in its profile"),
        (unable(profile=replace(PROFILE, bitmap=BitmapOrder.IGNORE)), "bitmap"),
        (unable(profile=replace(PROFILE, in_order_only=True)), "in_order_only"),
        (unable(replace(SPEC, keys=replace(KEYS, broadcast_key=b""))), "no broadcast_key"),
        (unable(profile=replace(PROFILE, broadcast_max_info=128)), "128 octets, and at most 84 fit"),
    ],
    ids=["profile", "bitmap", "in order", "key", "size"],
)
def test_auto_serves_alone_who_cannot_and_says_why(disk, sims, why):
    world = World(disk(), sims, image_size=IMAGE_SIZE)
    run(world)
    check(world)
    assert delivery(world, "MTR9").startswith("unicast: ")
    assert why in delivery(world, "MTR9")
    assert [delivery(world, f"MTR{number}") for number in range(2)] == ["broadcast"] * 2


def test_an_order_by_broadcast_is_refused_for_meters_that_can_never_take_it(disk):
    world = World(disk(), unable(profile=replace(PROFILE, broadcast=False)), image_size=IMAGE_SIZE)
    cmd_id = world.submit(delivery="broadcast")
    world.run(lambda: bool(world.replies(cmd_id)))
    (reply,) = world.replies(cmd_id)
    assert (reply["status"], reply["code"]) == ("rejected", "E_SCHEMA")
    assert "MTR9 (broadcast is not set in its profile)" in reply["message"]
    assert "MTR0" not in reply["message"]


def test_one_meter_alone_does_not_wait_for_company(disk):
    world = World(disk(), bus(1), image_size=IMAGE_SIZE)
    run(world)
    check(world)
    assert delivery(world, "MTR0") == "unicast: no other meter of this order takes broadcast on this port"


def test_an_order_by_unicast_never_broadcasts(disk):
    world = World(disk(), bus(3), image_size=IMAGE_SIZE)
    run(world, delivery="unicast")
    check(world)
    assert frames_heard(world) == 0
    assert {delivery(world, name) for name in world.meters} == {"unicast"}


# -- others on the line ---------------------------------------------------------------------------------------


def with_stranger(faults: Faults = NONE, **site: Any) -> list[SimMeter]:
    """Three meters that are to be updated, and a fourth that is not."""
    *group, stranger = bus(4, faults={3: faults})
    return [*group, replace(stranger, **site)]


GROUP = ["MTR0", "MTR1", "MTR2"]


@pytest.mark.parametrize("status", ImageTransferStatus)
def test_no_block_is_broadcast_while_a_stranger_would_store_it(disk, status):
    world = World(disk(), with_stranger(Faults(left_by_others=status)), image_size=IMAGE_SIZE)
    run(world, GROUP)
    check(world, GROUP)
    if status is ImageTransferStatus.INITIATED:
        assert frames_heard(world) == 0
        assert {delivery(world, name) for name in GROUP} == {
            "unicast: MTR3, which is on the line and not of the group, is initiated and would store its blocks"
        }
    else:
        assert {delivery(world, name) for name in GROUP} == {"broadcast"}


SILENT = Mishap(What.LINK, 1, Then.FALL_SILENT, for_s=1e9)


@pytest.mark.parametrize(
    ("sims", "why"),
    [
        (with_stranger(Faults(mishaps=(SILENT,))), "does not answer"),
        (with_stranger(keys=MeterKeys(bytes(16), bytes(16))), "cannot be read"),
        (with_stranger(profile=replace(PROFILE, image_object="0-9:44.0.0.255")), "cannot be read"),
    ],
    ids=["silent", "wrong keys", "no such object"],
)
def test_a_stranger_that_cannot_be_read_sends_all_to_unicast(disk, sims, why):
    world = World(disk(), sims, image_size=IMAGE_SIZE)
    run(world, GROUP)
    check(world, GROUP)
    assert frames_heard(world) == 0
    assert all(why in delivery(world, name) for name in GROUP)
    assert all("MTR3" in delivery(world, name) for name in GROUP)


def test_a_parked_stranger_is_left_alone_and_sends_all_to_unicast(disk):
    world = World(disk(), with_stranger(), image_size=IMAGE_SIZE)
    from gateway.errors import Code

    world.store.park("MTR3", KEYS, code=Code.T_SECURITY, message="it refused us")
    run(world, GROUP)
    check(world, GROUP)
    assert frames_heard(world) == 0
    assert world.meters["MTR3"].history.count(What.LINK) == 0


def test_a_stranger_of_another_order_with_another_image_stops_it_too(disk):
    """Its own transfer was begun before: it is initiated, for something else."""
    world = World(disk(), with_stranger(), image_size=IMAGE_SIZE)
    other = replace_image(world, b"another image" * 300)
    world.submit("other", image=other, targets=["MTR3"], expect_version="")
    world.run(lambda: world.meters["MTR3"].history.count(What.BLOCK) > 2)
    run(world, GROUP)
    world.run_until_told("other")
    heard = [event for event in world.meters["MTR3"].history.events if event.what is What.BROADCAST]
    assert [event for event in heard if event.number] == []
    assert world.job("MTR3", "other")["state"] == "updated"
    for name in GROUP:
        assert world.meters[name].image.active_sha256 == world.sha256


@pytest.mark.parametrize("priority", [5, 9])
def test_another_image_is_not_begun_while_a_group_is_at_work(disk, priority):
    """Not even for an order that has the line before it."""
    world = World(disk(), with_stranger(), image_size=64 * 128)
    world.submit(delivery="auto", targets=GROUP)
    world.run(lambda: world.meters["MTR0"].history.count(What.BROADCAST) > 10)
    other = replace_image(world, b"another image" * 300)
    world.submit("other", image=other, targets=["MTR3"], expect_version="", priority=priority)
    world.run_until_told("other")
    heard = [event for event in world.meters["MTR3"].history.events if event.what is What.BROADCAST]
    assert len(heard) == 64
    assert [event for event in heard if event.number] == []
    assert world.job("MTR3", "other")["state"] == "updated"
    world.run_until_told()
    assert {delivery(world, name) for name in GROUP} == {"broadcast"}


def test_a_lent_line_is_asked_again_whether_it_is_safe(disk):
    """Whoever had the line meanwhile may have begun something in a meter that was at rest."""
    world = World(disk(), with_stranger(), image_size=64 * 128)
    world.submit(delivery="auto", targets=GROUP)
    world.run(lambda: frames_heard(world) >= 20)
    cmd_id = world.command("port.hold", {"port": "bus1", "for": "5min"})
    world.run(lambda: world.replies(cmd_id)[-1:] != [] and world.replies(cmd_id)[-1]["status"] == "done")
    heard = frames_heard(world)
    stranger = world.meters["MTR3"].image
    stranger.invoke(1, initiate_data(b"of the other tool", 64 * 128), world.now_s)
    world.run_until_told()
    assert frames_heard(world) == heard
    assert stranger.image == bytes(64 * 128)
    for name in GROUP:
        assert world.job(name)["state"] == "updated"
        assert "MTR3" in delivery(world, name)


def replace_image(world: World, image: bytes) -> dict[str, Any]:
    """Have another image stored beside the world's own; how an order names it."""
    import hashlib

    sha256 = hashlib.sha256(image).hexdigest()
    world.images.add([image], expect_sha256=sha256, expect_size=len(image))
    return {"sha256": sha256}


def test_a_silent_member_holds_the_others_for_one_bounded_wait(disk):
    """It was never heard of, so nobody knows what it would do with the blocks: all go by unicast, and soon."""
    world = World(disk(), bus(4, faults={3: Faults(mishaps=(SILENT,))}), image_size=IMAGE_SIZE)
    run(world)
    for name in GROUP:
        assert world.job(name)["state"] == "updated"
        assert "MTR3, which is on the line and not of the group, cannot be read" in delivery(world, name)
    assert world.job("MTR3")["code"] == "T_SILENT"
    assert frames_heard(world) == 0
    check_telling(world)


def test_a_member_that_falls_silent_after_it_was_initiated_does_not_stop_the_others(disk):
    quiet = Mishap(What.INITIATE, 1, Then.FALL_SILENT, for_s=60)
    world = World(disk(), bus(4, faults={3: Faults(mishaps=(quiet,))}), image_size=IMAGE_SIZE)
    run(world)
    check(world)
    assert [delivery(world, name) for name in GROUP] == ["broadcast"] * 3
    assert delivery(world, "MTR3").startswith("unicast")


# -- whatever comes together ----------------------------------------------------------------------------------


def mixed(chance: random.Random) -> tuple[list[SimMeter], list[str]]:
    """A bus of meters of all kinds, and those of them that are to be updated."""
    sims = bus(chance.randint(2, 6))
    for number, sim in enumerate(sims):
        own = chance.choice([
            NONE,
            NONE,
            Faults(broadcasts_missed=chance.choice([0.05, 0.4, 1.0])),
            Faults(frames_missed=0.02),
            Faults(replies_lost=0.03),
            Faults(blocks_lost=0.05),
            Faults(mishaps=(Mishap(What.BLOCK, chance.randint(1, 40), Then.REBOOT),)),
            Faults(
                mishaps=(Mishap(What.BLOCK, chance.randint(1, 40), Then.REBOOT),), transfer_lost_by_reboot=True
            ),
            Faults(mishaps=(Mishap(What.BLOCK, chance.randint(1, 40), Then.FALL_SILENT, for_s=30),)),
        ])  # fmt: skip
        sims[number] = replace(sim, faults=own)
    targets = [sim.id for sim in sims]
    if chance.random() < 0.5:
        status = chance.choice([ImageTransferStatus.INITIATED, *ImageTransferStatus])
        sims[-1] = replace(sims[-1], faults=Faults(left_by_others=status))
        targets.pop()
    return sims, targets


@pytest.mark.parametrize("seed", range(60))
def test_a_bus_of_all_kinds(disk, seed):
    chance = random.Random(f"{seed} bus")
    sims, targets = mixed(chance)
    noise = Noise(lost=chance.choice([0.0, 0.01]), damaged=chance.choice([0.0, 0.01]))
    world = World(
        disk(), sims, image_size=IMAGE_SIZE, seed=seed, line_faults=Faults(to_meter=noise, to_gateway=noise),
        power_fails_at=frozenset(chance.sample(range(5, 200), chance.randint(0, 3))),
    )  # fmt: skip
    run(world, targets)
    check_telling(world)
    for name in world.meters.keys() - set(targets):
        check_untouched(world, name)
    initiated = ImageTransferStatus.INITIATED
    if any(sim.faults.left_by_others is initiated for sim in sims):
        assert frames_heard(world) == 0
    for name in targets:
        meter, job = world.meters[name], world.job(name)
        # A cut between the decision to activate and its octets, and a meter that lost its image too often.
        assert job["state"] == "updated" or job["code"] in {"T_ACTIVATE", "T_INCOMPLETE"}, (
            name,
            job["message"],
        )
        assert meter.history.activations <= 1
        assert meter.history.count(What.SECURITY) == 0
        if meter.history.activations:
            assert meter.image.active_sha256 == world.sha256


# -- whatever breaks ------------------------------------------------------------------------------------------


def test_power_fails_at_every_commit_in_turn(disk):
    size = 16 * 128
    lossy = {1: Faults(broadcasts_missed=0.3)}
    whole = World(disk("whole"), bus(3, faults=lossy), image_size=size)
    run(whole)
    assert frames_heard(whole)
    unconfirmed = 0
    for number in range(1, whole.power.commits):
        world = World(
            disk(str(number)), bus(3, faults=lossy), image_size=size, power_fails_at=frozenset({number}),
        )  # fmt: skip
        run(world)
        check_promises(world)
        ends = [world.job(name) for name in world.meters]
        unconfirmed += sum(job["state"] != "updated" for job in ends)
        assert {job["code"] for job in ends} <= {None, "T_ACTIVATE"}
        assert all(meter.history.initiates == 1 for meter in world.meters.values())
    assert unconfirmed <= 3, "only a cut between the decision to activate and its octets"


def test_the_line_is_cut_in_the_middle_of_a_round(disk):
    size = 12 * 128
    whole = World(disk("whole"), bus(3), image_size=size)
    (line,) = whole.lines.values()
    whole.submit(delivery="auto")
    whole.run(lambda: frames_heard(whole) > 0)
    first = line.octets_carried
    whole.run(lambda: any(meter.history.verifies for meter in whole.meters.values()))
    for octet in range(first, line.octets_carried, 29):
        world = World(disk(str(octet)), bus(3), image_size=size, line_faults=Faults(cuts_at_octet=(octet,)))
        run(world)
        check(world)


@pytest.mark.parametrize("seed", range(6))
def test_a_noisy_line(disk, seed):
    noise = Noise(lost=0.03, damaged=0.03, octet_lost=0.01)
    world = World(
        disk(), bus(4), image_size=IMAGE_SIZE, seed=seed, line_faults=Faults(to_meter=noise, to_gateway=noise)
    )
    run(world)
    check_promises(world)
    assert all(world.job(name)["state"] == "updated" for name in world.meters)
    assert frames_heard(world)


@pytest.mark.parametrize("forgets", [False, True])
@pytest.mark.parametrize("block", [2, 4, 20])
def test_a_member_restarts_in_the_middle(disk, forgets, block):
    restart = Faults(mishaps=(Mishap(What.BLOCK, block, Then.REBOOT),), transfer_lost_by_reboot=forgets)
    world = World(disk(), bus(3, faults={1: restart}), image_size=IMAGE_SIZE)
    run(world)
    check(world)
    assert world.meters["MTR1"].history.initiates == (2 if forgets else 1)
    assert [delivery(world, name) for name in ("MTR0", "MTR2")] == ["broadcast"] * 2


@pytest.mark.parametrize("heard", [1, 3, 5, 20, 32])
def test_a_cancel_in_the_middle_stops_all_of_them(disk, heard):
    world = World(disk(), bus(3), image_size=IMAGE_SIZE)
    world.submit(delivery="auto")
    world.run(lambda: frames_heard(world) >= heard)
    world.command("campaign.cancel", {"campaign_id": "c1"})
    world.run_until_told()
    check_promises(world)
    assert {world.job(name)["state"] for name in world.meters} == {"cancelled"}
    after = frames_heard(world)
    assert after <= heard + 8, "it waits until the uplink has heard of it, not for a round"
    # The next order goes on where this one stopped.
    cmd_id = world.submit("c2", delivery="auto")
    world.run_until_told("c2")
    check_answered_once(world, cmd_id)
    assert all(meter.history.initiates == 1 for meter in world.meters.values())
    assert all(meter.image.active_sha256 == world.sha256 for meter in world.meters.values())


def test_a_probe_is_answered_between_two_blocks(disk):
    world = World(disk(), bus(3), image_size=IMAGE_SIZE)
    world.submit(delivery="auto")
    world.run(lambda: frames_heard(world) >= 10)
    cmd_id = world.command("meter.probe", {"meter": "MTR1"})
    world.run(lambda: len(world.replies(cmd_id)) > 1)
    assert frames_heard(world) < 16
    assert world.replies(cmd_id)[-1]["status"] == "done"
    world.run_until_told()
    check(world)
    assert {delivery(world, name) for name in world.meters} == {"broadcast"}


def test_the_counter_of_the_broadcast_key_begins_at_the_time_of_day(disk):
    world = World(disk(), bus(3), image_size=IMAGE_SIZE, start=datetime_of(2027))
    run(world)
    used = world.meters["MTR0"].counters.broadcast
    eighths = 8 * (world.now - datetime_of(2026)).total_seconds()
    assert eighths - 8 * 3600 < used < eighths
    events = [event for event in world.broker.documents("mgw/v1/gw-sim/event") if event["kind"] == "counter"]
    assert sum("broadcast key" in event["message"] for event in events) == 1


def test_a_lost_state_leads_to_no_counter_that_was_used(disk):
    """Nobody can ask a meter for it, and a meter discards in silence what it has seen."""
    before = World(disk("before"), bus(3), image_size=IMAGE_SIZE)
    run(before)
    later = World(disk("after"), bus(3), image_size=IMAGE_SIZE, start=before.now)
    for name, meter in later.meters.items():
        meter.counters.broadcast = before.meters[name].counters.broadcast
    run(later)
    check(later)
    assert {delivery(later, name) for name in later.meters} == {"broadcast"}


def test_groups_that_take_turns_go_on_with_one_counter(disk):
    """All meters hear all of it, and discard what is behind the last that they heard."""
    lossy = {number: Faults(broadcasts_missed=0.3) for number in range(4)}
    world = World(disk(), bus(4, faults=lossy), image_size=200 * 128)
    world.submit("c1", delivery="broadcast", targets=["MTR0", "MTR1"])
    world.run(lambda: frames_heard(world) >= 60)
    counters = []
    line, write = world.lines["bus1"], world.lines["bus1"].write

    def listening(octets):
        (frame,) = FrameReader().feed(octets)
        if frame.type is FrameType.UI:
            counters.append(Sealed.parse(frame.info[3:]).counter)
        write(octets)

    line.write = listening
    world.submit("c2", delivery="broadcast", targets=["MTR2", "MTR3"], priority=9)
    for campaign_id in ("c1", "c2"):
        world.run_until_told(campaign_id)
    assert len(counters) > 200
    assert counters == sorted(set(counters))


def test_after_a_restart_the_counter_goes_on_whatever_the_clock_says(disk):
    world = World(disk(), bus(3), image_size=IMAGE_SIZE)
    world.submit(delivery="auto")
    world.run(lambda: frames_heard(world) >= 10)
    world.cut_power()
    world.run_until_told()
    check(world)
    heard = [event for event in world.meters["MTR0"].history.events if event.what is What.BROADCAST]
    assert all(event.number for event in heard), "one was refused as a replay"


def test_without_a_plausible_clock_and_a_known_counter_it_goes_by_unicast(disk):
    world = World(disk(), bus(3), image_size=IMAGE_SIZE, start=datetime_of(2001))
    run(world)
    check(world)
    assert frames_heard(world) == 0
    assert {delivery(world, name) for name in world.meters} == {
        "unicast: no counter of the broadcast key is known, and the clock was never set"
    }
