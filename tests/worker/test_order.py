"""Who has the line next: as a rule, and as the meters of a bus see it."""

from dataclasses import replace
from itertools import groupby, pairwise

import pytest
from support.desk import memory_directory
from support.world import SimMeter, World

from gateway.model import JobState, Profile
from gateway.simulator import Faults, MeterSpec, What, several
from gateway.worker.order import PATIENCE_S, Claim, claim, new

QUICK = Profile(reconnect_after_s=20, activate_timeout_s=300, after_initiate_s=1)
SILENT = Faults(ignores_snrm_parameters=True)


@pytest.fixture
def disk():
    with memory_directory() as directory:
        yield directory


def of(state: JobState, *, priority: int = 5, in_hand: bool = False, since_s: float = 100.0) -> Claim:
    return claim(state, priority=priority, in_hand=in_hand, since_s=since_s, now_s=110.0)


BEFORE = [
    ("a higher priority, whatever else", of(JobState.TRANSFERRING, priority=6), of(JobState.VERIFYING)),
    ("a meter that may have verified, before blocks", of(JobState.VERIFYING), of(JobState.TRANSFERRING, in_hand=True)),
    (
        "the transfer in hand, before one that waits longer",
        of(JobState.TRANSFERRING, in_hand=True), of(JobState.TRANSFERRING, since_s=50.0),
    ),
    ("who waits longer", of(JobState.INITIATING, since_s=99.0), of(JobState.TRANSFERRING, since_s=100.0)),
    ("one that was begun, before a new one", of(JobState.TRANSFERRING), new(5)),
    ("a new one of a higher priority, before one that was begun", new(6), of(JobState.TRANSFERRING, in_hand=True)),
    ("a new one, before another try", new(5), of(JobState.WAITING)),
    ("any other, before another try of a higher priority", new(0), of(JobState.WAITING, priority=9)),
    ("any other, before a meter that restarts", new(5), of(JobState.CONFIRMING)),
    (
        "another try that has waited long enough, like any other",
        of(JobState.WAITING, since_s=110.0 - PATIENCE_S[JobState.WAITING]), new(5),
    ),
    ("a try that was begun goes on", of(JobState.WAITING, in_hand=True), new(5)),
]  # fmt: skip


@pytest.mark.parametrize(("first", "second"), [case[1:] for case in BEFORE], ids=[case[0] for case in BEFORE])
def test_who_comes_first(first, second):
    assert first < second


# -- on a bus -------------------------------------------------------------------------------------------------


def bus(disk, count, *, silent=0, spec=None, profile=QUICK, **options):
    """Meters on one line; every other one is silent, from the first on, until there are as many as shall be."""
    meters = [
        SimMeter(
            one, id=f"MTR{number:02}", profile=profile,
            faults=SILENT if number % 2 and number < 2 * silent else Faults(),
        )
        for number, one in enumerate(several(spec or MeterSpec(), count), start=1)
    ]  # fmt: skip
    return World(disk, meters, **{"image_size": 8192, "baud": 115200} | options)


def happened(world, what):
    """The meters in the order in which it happened to them, and when."""
    events = [
        (event.at_s, meter_id)
        for meter_id, meter in world.meters.items()
        for event in meter.history.events
        if event.what is what
    ]
    return sorted(events)


def in_turns(world, what):
    """The same, without times and repetitions."""
    return [meter_id for meter_id, _ in groupby(meter_id for _, meter_id in happened(world, what))]


def at(world, what):
    """When it happened last to each meter."""
    return {meter_id: at_s for at_s, meter_id in happened(world, what)}


def test_one_transfer_is_finished_before_the_next_goes_on(disk):
    world = bus(disk, 4, image_size=65536)
    world.submit()
    world.run_until_told()
    assert in_turns(world, What.BLOCK) == ["MTR01", "MTR02", "MTR03", "MTR04"]


def test_a_meter_is_activated_as_soon_as_it_has_verified_whoever_transfers(disk):
    world = bus(disk, 3, image_size=65536, spec=MeterSpec(verify_s=3.0))
    world.submit()
    world.run_until_told()
    verified, activated = at(world, What.VERIFIED), at(world, What.ACTIVATE)
    assert activated["MTR01"] < verified["MTR01"] + 2.5, "it is looked at every second"
    assert activated["MTR01"] < at(world, What.BLOCK)["MTR02"], "in mid-transfer"


def test_an_urgent_order_has_the_line_at_once_and_the_other_goes_on_after_it(disk):
    world = bus(disk, 3, image_size=65536)
    world.submit("c1", targets=["MTR01", "MTR02"])
    world.run(lambda: world.meters["MTR01"].history.blocks.total() == 50)
    ordered_s = world.now_s
    world.submit("c2", targets=["MTR03"], priority=9)
    world.run(lambda: world.meters["MTR03"].history.blocks.total() == 10)
    assert world.now_s < ordered_s + 5
    world.run_until_told("c2")
    world.run_until_told("c1")
    # The urgent one prepares its memory for a second, and the line is not idle meanwhile.
    assert in_turns(world, What.BLOCK) == ["MTR01", "MTR03", "MTR01", "MTR02"]
    assert {meter.history.initiates for meter in world.meters.values()} == {1}
    assert world.campaign("c2")["priority"] == 9
    assert world.campaign("c1")["priority"] == 5


def test_of_what_waits_the_order_with_the_higher_priority_is_begun_first(disk):
    world = bus(disk, 3, image_size=16384)
    world.submit("c1", targets=["MTR01"])
    world.submit("c2", targets=["MTR02"], priority=0)
    world.submit("c3", targets=["MTR03"], priority=4)
    for campaign_id in ("c1", "c2", "c3"):
        world.run_until_told(campaign_id)
    assert in_turns(world, What.INITIATE) == ["MTR01", "MTR03", "MTR02"]


def test_silent_meters_cost_the_others_their_time_outs_and_no_more(disk):
    """Ten of thirty never answer. Each try of theirs takes three attempts of 2 s, and nobody's transfer waits for more
    than the first of them as long as the line has other work: later ones come a quarter of an hour apart."""
    good = [f"MTR{number:02}" for number in range(1, 31) if number % 2 == 0 or number > 20]
    alone = bus(disk / "alone", 30, silent=10, image_size=65536, baud=9600)
    alone.submit(targets=good)
    alone.run_until_told()
    alone_s = alone.now_s
    world = bus(disk / "all", 30, silent=10, image_size=65536, baud=9600)
    world.submit()
    world.run(lambda: all(world.job(meter_id).get("state") == "updated" for meter_id in good))
    took_s = world.now_s
    tries = 1 + took_s // PATIENCE_S[JobState.WAITING]
    one_wait_s = 3 * (2.0 + 2 * 64 * 10 / 9600)
    assert took_s <= 1.05 * alone_s + 10 * tries * one_wait_s
    world.run_until_told()
    assert {world.job(meter_id)["code"] for meter_id in world.meters if meter_id not in good} == {"T_SILENT"}


def test_a_transfer_is_never_held_up_by_more_than_the_time_outs_of_one_silent_meter(disk):
    """Between two blocks of one meter lies at most what others need at once; a silent meter's try is one of these."""
    world = bus(disk, 6, silent=3, image_size=65536, baud=9600)
    world.submit()
    world.run(
        lambda: all(world.job(meter_id).get("state") == "updated" for meter_id in ("MTR02", "MTR04", "MTR06"))
    )
    for meter_id in ("MTR02", "MTR04", "MTR06"):
        moments = [at_s for at_s, whose in happened(world, What.BLOCK) if whose == meter_id]
        assert max(later - earlier for earlier, later in pairwise(moments)) < 8.0


def test_a_meter_that_restarts_for_long_is_asked_when_the_line_is_free(disk):
    """With reconnect_after too short for it each look is a time-out; nobody's blocks wait for those."""
    spec = MeterSpec(reboot_s=200.0)
    profile = replace(QUICK, reconnect_after_s=5, activate_timeout_s=600)
    world = bus(disk, 4, spec=spec, profile=profile, image_size=65536, baud=38400)
    world.submit()
    world.run_until_told()
    blocks = [at_s for at_s, _ in happened(world, What.BLOCK)]
    assert max(later - earlier for earlier, later in pairwise(blocks)) < 5.0
    assert {world.job(meter_id)["state"] for meter_id in world.meters} == {"updated"}
