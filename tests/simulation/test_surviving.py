"""What happens to a campaign in its nights when the machine around it fails: the disk, the clock, the database, the
card, the whole gateway. The transfer takes two nights; what was promised holds in each story."""

import json
import shutil
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from simulation.test_windows import (
    DAY_S,
    do,
    in_hours,
    several_meters,
    submit,
    told_states,
    window,
    worked_at,
)
from support.desk import memory_directory
from support.old_state import as_version_1, version_of
from support.promises import check_promises, check_telling
from support.world import BASE, SYSTEM_TITLE, SimMeter, World, ciphered

from gateway.model import CampaignState, Machine
from gateway.simulator import MeterSpec, What
from gateway.store.binding import COUNTER_STEP
from gateway.store.counters import key_name
from gateway.store.export import exported, imported

SPEC = ciphered(block_size=512)
OPENS_S, LASTS_S = 120.0, 180.0
LATE_S = 15.0
"""So long an answer about the hours may be old, and the block on the line takes."""
LIMIT_S = 40 * DAY_S
ENDS = {"succeeded", "partial", "failed", "cancelled", "expired"}


@pytest.fixture
def disk():
    with memory_directory() as base:
        yield base


def nights(disk, meters=None, **changes):
    """A world that has an order for its nights, at work in the first one."""
    hours = window(opens_after=timedelta(seconds=OPENS_S), lasts=timedelta(seconds=LASTS_S), drain_s=15.0)
    settings = {"image_size": 20480, "baud": 1200, "windows": {"night": hours}, **changes}
    (disk / "state").mkdir()
    world = World(disk / "state", meters or [SimMeter(SPEC)], **settings)
    submit(world, window="night")
    world.run(lambda: world.meters["MTR1"].history.blocks.total() >= 5, limit_s=LIMIT_S)
    return world


def until(world, moment_s):
    world.run(lambda: world.now_s >= moment_s, limit_s=LIMIT_S)


def sleep(world, seconds):
    """Nothing happens for so long: nights are short, and days would take the most of these tests."""
    world._now_s += seconds
    for clock in world._clocks.values():
        clock.advance_to(world._now_s)


def come_to(world, there, campaign_id="c1"):
    """Night after night, until it is so."""
    for _ in range(6):
        world.run(lambda: there() or waits(world, campaign_id), limit_s=LIMIT_S)
        if there():
            return
        opens_at = datetime.fromisoformat(world.campaign(campaign_id)["opens_at"])
        sleep(world, max(0.0, (opens_at - world._clocks["bus1"].now()).total_seconds() - 10))
        until(world, world.now_s + 30)
    raise AssertionError(f"not in six nights: {world.sentences[-5:]}")


def to_the_end(world, campaign_id="c1"):
    come_to(world, lambda: ended(world, campaign_id), campaign_id)
    world.run_until_told(campaign_id, limit_s=LIMIT_S)


def ended(world, campaign_id):
    return world.campaign(campaign_id).get("state") in ENDS


def waits(world, campaign_id):
    paused = world.campaign(campaign_id).get("paused") == "window"
    return paused and not world.store.outbox_batch(0, 1) and world.campaign(campaign_id)["opens_at"]


def ends_well(world, meter_id="MTR1", *, resent=1):
    """It is updated, once and by resuming; nothing was done outside its hours."""
    to_the_end(world)
    assert world.job(meter_id)["state"] == "updated", world.job(meter_id)
    history = world.meters[meter_id].history
    assert history.initiates == history.activations == 1
    assert history.count(What.SECURITY) == 0, "no counter came twice"
    assert history.blocks.total() <= world.job(meter_id)["blocks_total"] + resent
    for at_s in worked_at(world, meter_id):
        assert in_hours(at_s, opens_s=OPENS_S, lasts_s=LASTS_S + LATE_S), at_s


# -- the disk -------------------------------------------------------------------------------------------------


class Full:
    """In place of numbers of commits: those during which a condition holds."""

    def __init__(self, condition):
        self._condition = condition

    def __contains__(self, commit):
        return self._condition()


@pytest.mark.parametrize("full_for_s", [40.0, 300.0], ids=["for some blocks", "to the end of the night"])
def test_a_disk_that_is_full_for_a_while_costs_its_time(disk, full_for_s):
    world = nights(disk)
    since_s = world.now_s
    world.power.disk_full_at = Full(lambda: world.now_s < since_s + full_for_s)
    until(world, since_s + full_for_s)
    ends_well(world, resent=2)
    check_telling(world)


@pytest.mark.parametrize("what", [What.VERIFY, What.ACTIVATE])
def test_a_disk_that_is_full_when_it_is_to_be_activated_lets_nothing_happen_twice(disk, what):
    world = nights(disk, image_size=8192)
    history = world.meters["MTR1"].history
    come_to(world, lambda: history.count(what) == 1)
    since_s = world.now_s
    world.power.disk_full_at = Full(lambda: world.now_s < since_s + 120)
    until(world, since_s + 120)
    ends_well(world)
    assert history.verifies == 1


def test_a_cancel_is_not_forgotten_when_the_disk_is_full_as_it_comes(disk):
    world = World(disk, [SimMeter(SPEC)], image_size=20480, baud=1200)
    world.submit()
    history = world.meters["MTR1"].history
    world.run(lambda: history.blocks.total() >= 5, limit_s=LIMIT_S)
    world.command("campaign.cancel", {"campaign_id": "c1"})
    world.run(lambda: world.store.campaign("c1").state is CampaignState.CANCELLING, limit_s=LIMIT_S)
    since_s, sent = world.now_s, history.blocks.total()
    world.power.disk_full_at = Full(lambda: world.now_s < since_s + 30)
    world.run_until_told(limit_s=LIMIT_S)
    assert world.escaped, "the line's worker could not write what it was told"
    assert world.job()["state"] == "cancelled"
    assert history.blocks.total() <= sent + 1
    assert history.verifies == 0


# -- the clock ------------------------------------------------------------------------------------------------


def test_a_clock_that_is_lost_in_mid_transfer_stops_it_at_a_block_until_it_is_back(disk):
    world = nights(disk)
    lost_s = world.now_s
    world.clock_state = "unsynced"
    world.run(lambda: world.campaign()["paused"] == "clock", limit_s=LIMIT_S)
    until(world, lost_s + 90)
    assert max(worked_at(world)) < lost_s + LATE_S
    world.clock_state = "synced"
    ends_well(world)
    assert told_states(world).count("paused (clock)") == 1


def test_a_clock_that_is_lost_while_it_waits_opens_no_night(disk):
    world = nights(disk)
    world.run(lambda: world.campaign()["paused"] == "window", limit_s=LIMIT_S)
    world.clock_state = "unsynced"
    sleep(world, DAY_S - world.now_s + OPENS_S)
    until(world, world.now_s + LASTS_S)
    assert max(worked_at(world)) < DAY_S
    world.clock_state = "synced"
    ends_well(world)


def test_without_a_clock_after_a_power_cut_an_activation_is_looked_after_and_none_is_ordered(disk):
    """A Pi without RTC: it wakes in the morning of its time, trusted by nobody."""
    world = nights(disk, several_meters(2, SPEC), image_size=4096, baud=9600)
    come_to(world, lambda: world.meters["MTR1"].history.activations == 1)
    verified_then = world.meters["MTR2"].history.verifies
    world.clock_state = "unsynced"
    world.cut_power()
    world.run(lambda: world.job("MTR1")["state"] == "updated", limit_s=LIMIT_S)
    until(world, world.now_s + 600)
    assert world.meters["MTR2"].history.activations == 0
    assert world.meters["MTR2"].history.verifies == verified_then
    world.clock_state = "synced"
    for meter_id in ("MTR1", "MTR2"):
        ends_well(world, meter_id)


class Clocks:
    """The time of day of a world, as somebody sets it; and what it was at any moment of the world's own."""

    def __init__(self, world):
        self._world = world
        self._set = [(0.0, 0.0)]

    def set(self, by):
        self._set.append((self._world.now_s, self._set[-1][1] + by.total_seconds()))
        for clock in self._world._clocks.values():
            clock._start += by

    def time_of_day_s(self, at_s):
        return at_s + next(off_s for since_s, off_s in reversed(self._set) if at_s >= since_s)

    def just_set(self, at_s):
        return any(since_s <= at_s < since_s + LATE_S for since_s, _ in self._set[1:])


def check_hours(world, clocks, meter_id="MTR1"):
    """By what the clock showed; but for those seconds in which nobody can have seen that it was set."""
    for at_s in worked_at(world, meter_id):
        time_s = clocks.time_of_day_s(at_s)
        assert clocks.just_set(at_s) or in_hours(time_s, opens_s=OPENS_S, lasts_s=LASTS_S + LATE_S), at_s


JUMPS = [timedelta(hours=hours) for hours in (-30, -6, 6, 24)]


@pytest.mark.parametrize("by", JUMPS, ids=str)
def test_a_clock_that_jumps_in_mid_transfer(disk, by):
    world = nights(disk)
    clocks = Clocks(world)
    clocks.set(by)
    to_the_end(world)
    assert world.job()["state"] == "updated"
    assert world.meters["MTR1"].history.initiates == world.meters["MTR1"].history.activations == 1
    assert max(world.meters["MTR1"].history.blocks.values()) == 1
    check_hours(world, clocks)
    check_promises(world)


@pytest.mark.parametrize("by", JUMPS, ids=str)
def test_a_clock_that_jumps_while_it_waits_for_its_night(disk, by):
    world = nights(disk)
    clocks = Clocks(world)
    world.run(lambda: world.campaign()["paused"] == "window", limit_s=LIMIT_S)
    clocks.set(by)
    to_the_end(world)
    assert world.job()["state"] == "updated"
    check_hours(world, clocks)
    check_promises(world)


@pytest.mark.parametrize("by", JUMPS, ids=str)
@pytest.mark.parametrize("what", [What.VERIFY, What.ACTIVATE])
def test_a_clock_that_jumps_while_the_meter_works_on_its_own(disk, what, by):
    world = nights(disk, [SimMeter(replace(SPEC, verify_s=20))], image_size=4096)
    clocks = Clocks(world)
    come_to(world, lambda: world.meters["MTR1"].history.count(what) == 1)
    clocks.set(by)
    to_the_end(world)
    assert world.job()["state"] == "updated"
    check_hours(world, clocks)
    check_promises(world)


def test_a_clock_that_jumps_beyond_the_end_of_an_order_and_back_ends_it_once(disk):
    world = nights(disk, several_meters(2, SPEC))
    world.command("campaign.cancel", {"campaign_id": "c1"})
    world.run_until_told(limit_s=LIMIT_S)
    submit(world, campaign_id="c2", window="night", not_after="2026-01-20T00:00:00Z")
    clocks = Clocks(world)
    clocks.set(timedelta(days=30))
    world.run_until_told("c2", limit_s=LIMIT_S)
    assert (world.campaign("c2")["state"], world.campaign("c2")["code"]) == ("expired", "W_EXPIRED")
    clocks.set(timedelta(days=-30))
    sleep(world, DAY_S)
    until(world, world.now_s + LASTS_S)
    assert told_states(world, "c2").count("expired") == 1
    assert all(meter.history.activations == 0 for meter in world.meters.values())


# -- the database, the package, the machine -------------------------------------------------------------------


def test_a_database_that_broke_is_begun_anew_and_no_counter_comes_twice(disk):
    world = nights(disk)
    name = key_name(SPEC.keys.encryption_key, SYSTEM_TITLE)
    before = world.store._counters[name]
    world.store.close()
    path = disk / "state/store.db"
    path.write_bytes(b"\0" * 4096 + path.read_bytes()[4096:])
    world.cut_power()
    assert world.store.set_aside is not None
    assert world.store._counters[name] >= before
    world.run(lambda: world.broker.snapshot(f"{BASE}/alarm/store"), limit_s=LIMIT_S)

    cmd_id = world.submit(campaign_id="c2", window="night")
    world.run(lambda: bool(world.replies(cmd_id)), limit_s=LIMIT_S)
    to_the_end(world, "c2")
    assert (world.job(campaign_id="c2")["state"], world.job(campaign_id="c2")["code"]) == (
        "failed",
        "T_FOREIGN",
    )
    submit(world, campaign_id="c3", window="night", take_over=True)
    to_the_end(world, "c3")
    history = world.meters["MTR1"].history
    assert world.job(campaign_id="c3")["state"] == "updated"
    assert (history.activations, history.count(What.SECURITY)) == (1, 0)
    for at_s in worked_at(world):
        assert in_hours(at_s, opens_s=OPENS_S, lasts_s=LASTS_S + LATE_S)


def test_an_upgrade_in_mid_campaign_goes_on_at_the_very_block(disk):
    world = nights(disk)
    world.store.close()
    as_version_1(disk / "state")
    world.cut_power()
    assert version_of(disk / "state/store.db") > version_of(disk / "state/store.db.v1") == 1
    ends_well(world)
    check_promises(world)


def replaced(world, disk, *, image=True):
    """Another gateway in its place, from what was exported while it ran."""
    document = json.loads(json.dumps(exported(disk / "state")))
    (disk / "new").mkdir()
    if image:
        shutil.copytree(disk / "state/images", disk / "new/images")
    done = imported(
        document, disk / "new", bring=lambda wanted: wanted if image else frozenset(), now=world.now
    )
    assert bool(done.missing) is not image
    world._directory = disk / "new"
    world.machine = Machine(board=("board 2",))
    world.cut_power()


@pytest.mark.parametrize("image", [True, False], ids=["with its image", "without its image"])
@pytest.mark.parametrize("late", [False, True], ids=["at once", "when the old one went on for some time"])
def test_a_gateway_is_replaced_from_its_export_in_mid_campaign(disk, image, late):
    world = nights(disk)
    document = exported(disk / "state")
    name = key_name(SPEC.keys.encryption_key, SYSTEM_TITLE)
    before = world.store._counters[name]
    if late:
        until(world, world.now_s + 40)
    replaced(world, disk, image=image)
    assert document["counters"][name] == before
    assert world.store._counters[name] >= before + COUNTER_STEP
    assert "board 2" in world.store._meta("machine")
    ends_well(world, resent=2)
    check_promises(world)
    epochs = [event["epoch"] for event in world.broker.documents(f"{BASE}/event")]
    assert len(dict.fromkeys(epochs)) == 2


def test_an_export_that_is_older_than_what_the_gateway_did_does_nothing_twice(disk):
    """It was updated since; the next gateway looks at the meter before it does anything."""
    world = nights(disk)
    document = json.loads(json.dumps(exported(disk / "state")))
    ends_well(world)
    (disk / "new").mkdir()
    shutil.copytree(disk / "state/images", disk / "new/images")
    imported(document, disk / "new", bring=lambda wanted: wanted, now=world.now)
    world._directory = disk / "new"
    world.cut_power()
    sleep(world, DAY_S / 2)
    world.run(lambda: world.store.campaign("c1").opens_at is not None, limit_s=LIMIT_S)
    sleep(world, (world.store.campaign("c1").opens_at - world._clocks["bus1"].now()).total_seconds())
    world.run(lambda: world.store.campaign("c1").finished_at is not None, limit_s=LIMIT_S)
    history = world.meters["MTR1"].history
    assert world.store.job("c1", "MTR1").state == "skipped"
    assert (history.initiates, history.activations, history.count(What.SECURITY)) == (1, 1, 0)


def two_kinds():
    ciphered_one, plain_one = several_meters(2, SPEC)
    plain = MeterSpec(
        address=plain_one.spec.address, logical_device_name=plain_one.spec.logical_device_name, block_size=512
    )
    return [ciphered_one, replace(plain_one, spec=plain)]


def test_a_copied_card_ciphers_with_nobody_and_serves_the_others(disk):
    world = nights(disk, two_kinds(), image_size=16384)
    heard = len(world.meters["MTR1"].history.events)
    world.machine = Machine(board=("board 2",))
    world.cut_power()
    world.run(lambda: waits(world, "c1"), limit_s=LIMIT_S)
    sleep(world, DAY_S - world.now_s + OPENS_S)
    world.run(lambda: world.job("MTR2").get("state") == "updated", limit_s=LIMIT_S)
    assert len(world.meters["MTR1"].history.events) == heard, "not a word"
    assert (world.job("MTR1")["state"], world.job("MTR1")["code"]) == ("waiting", "E_MACHINE")
    assert "state adopt" in world.job("MTR1")["advice"]
    alarm = world.broker.snapshot(f"{BASE}/alarm/machine")
    assert "state adopt" in alarm["advice"]
    cmd_id = world.command_at_the_gateway("meter.probe", {"meter": "MTR1"})
    world.run(lambda: world.store.reply_of(cmd_id).status in ("done", "failed"), limit_s=LIMIT_S)
    assert world.store.reply_of(cmd_id).code == "E_MACHINE"
    name = key_name(SPEC.keys.encryption_key, SYSTEM_TITLE)
    before = world.store._counters[name]

    world.store.adopt(world.machine, who="uid 0")
    world.cut_power()
    assert world.store._counters[name] == before + COUNTER_STEP
    ends_well(world)
    check_telling(world)
    assert not world.broker.snapshot(f"{BASE}/alarm/machine")


def test_an_activation_that_was_ordered_is_looked_after_once_the_copy_is_adopted(disk):
    world = nights(disk, image_size=4096)
    come_to(world, lambda: world.meters["MTR1"].history.activations == 1)
    state = world.store.job("c1", "MTR1").state
    world.machine = Machine(board=("board 2",))
    world.cut_power()
    world.run(lambda: world.store.job("c1", "MTR1").code == "E_MACHINE", limit_s=LIMIT_S)
    assert world.store.job("c1", "MTR1").state is state
    world.store.adopt(world.machine, who="uid 0")
    world.cut_power()
    ends_well(world)


# -- the configuration ----------------------------------------------------------------------------------------


def test_a_meter_that_left_the_configuration_ends_and_the_others_have_their_nights(disk):
    world = nights(disk, several_meters(2, SPEC))
    world.config = replace(world.config, meters=world.config.meters[1:])
    world.cut_power()
    world.store.end_orphans({(meter.id, meter.port) for meter in world.config.meters})
    ends_well(world, "MTR2")
    assert (world.job("MTR1")["state"], world.job("MTR1")["code"]) == ("failed", "E_NOT_FOUND")
    assert "no longer configured" in world.job("MTR1")["message"]
    assert world.campaign()["state"] == "partial"


def test_a_window_that_left_the_configuration_keeps_its_campaigns_waiting_until_it_is_back(disk):
    world = nights(disk)
    gone, world.windows = world.windows, {}
    world.cut_power()
    sleep(world, DAY_S - world.now_s + OPENS_S)
    until(world, world.now_s + LASTS_S)
    assert world.campaign()["paused"] == "window"
    assert max(worked_at(world)) < DAY_S
    world.windows = gone
    world.cut_power()
    ends_well(world)


def test_an_operator_can_end_what_waits_for_a_window_that_is_gone(disk):
    world = nights(disk)
    world.windows = {}
    world.cut_power()
    world.run(lambda: world.campaign()["paused"] == "window", limit_s=LIMIT_S)
    do(world, "campaign.cancel", campaign_id="c1")
    world.run_until_told(limit_s=LIMIT_S)
    assert world.campaign()["state"] == "cancelled"
