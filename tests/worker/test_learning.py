"""Meters that take less than they claim, or more time than the line gives them: found out once, and remembered."""

from dataclasses import replace
from datetime import timedelta

import pytest
from support.desk import memory_directory
from support.world import SimMeter, World

from gateway.model import Profile
from gateway.simulator import Faults, MeterSpec, Mishap, Noise, Then, What
from gateway.wire.tuning import Limits, Request, Slow, gentler, habit, patient

QUICK = Profile(reconnect_after_s=20, activate_timeout_s=300, after_initiate_s=1)
BIG = MeterSpec(max_info=2030, block_size=512, window=1)
MANY = MeterSpec(max_info=128, block_size=512, window=7)
ALL = Limits(2030, 7, True, 2.0)


@pytest.fixture
def disk():
    with memory_directory() as directory:
        yield directory


# -- the rules ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (Request(128, 5), (2030, 1)),
        (Request(560, 3), (2030, 1)),
        (Request(2030, 1), (1024, 1)),
        (Request(1024, 1), (512, 1)),
        (Request(560, 1), (512, 1)),
        (Request(300, 1), (250, 1)),
        (Request(200, 1), (128, 1)),
        (Request(128, 1), None),
    ],
)
def test_frames_one_by_one_then_shorter_ones(request_, expected):
    limits = gentler(ALL, request_)
    assert (limits and (limits.max_info, limits.window)) == expected


def test_every_meter_comes_to_the_least_in_five_steps():
    limits, steps = ALL, 0
    request = Request(2030, 7)
    while (following := gentler(limits, request)) is not None:
        limits, steps = following, steps + 1
        request = Request(min(2030, limits.max_info), limits.window)
    assert (limits.max_info, limits.window, steps) == (128, 1, 5)
    assert not request.demanding


def test_a_habit_is_most_of_the_latest_exchanges():
    lost = [Slow(number, True, 3.0) for number in (1, 4, 5, 6, 7, 8)]
    assert habit(lost, 8) == tuple(lost)
    assert habit(lost, 12) == ()
    assert habit(lost[:4], 8) == ()
    late = [Slow(number, False, 3.0) for number in range(1, 24, 2)]
    assert habit(late, 24) == tuple(late)
    assert habit(late[:9], 24) == ()
    assert habit(lost[:4] + late[:9], 24) == (), "of one kind"


def test_patience_has_an_end():
    assert patient(ALL, [Slow(1, False, 3.0)]).wait_s >= 3.75
    assert patient(ALL, [Slow(1, False, 1.0)]) is None
    assert patient(ALL, [Slow(1, False, 60.0)]) is None


# -- meters ---------------------------------------------------------------------------------------------------


def the_world(disk, spec, faults=None, *, profile=QUICK, **options):
    sim = SimMeter(spec, faults=faults or Faults(), profile=profile)
    return World(disk, [sim], **{"image_size": 16384, "baud": 115200} | options)


def failures(world):
    return [event["message"] for event in world.store.events(0, 1000) if event["state"] == "waiting"]


def learned(world):
    return [event["message"] for event in world.store.events(0, 1000) if event["kind"] == "tuning"]


def updated(world, campaign_id="c1"):
    world.submit(campaign_id)
    world.run_until_told(campaign_id)
    assert world.job(campaign_id=campaign_id)["state"] == "updated", world.job(campaign_id=campaign_id)


CASES = [
    ("loses frames above 256 octets", BIG, Faults(hears_info_octets=256), (250, 1), 2),
    ("loses frames above 128 octets", BIG, Faults(hears_info_octets=128), (128, 1), 3),
    ("wedges on a window", MANY, Faults(wedges_on_window=True), (2030, 1), 2),
    ("hears only the first of a window", MANY, Faults(hears_one_of_window=True), (2030, 1), 0),
]


@pytest.mark.parametrize(
    ("spec", "faults", "limits", "cost"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_a_meter_that_claims_too_much_is_updated_and_remembered(disk, spec, faults, limits, cost):
    world = the_world(disk, spec, faults)
    updated(world)
    tuning = world.store.tuning("MTR1")
    assert (tuning.max_info, tuning.window) == limits
    assert len(failures(world)) == cost, failures(world)
    assert world.meters["MTR1"].history.initiates == 1
    told = world.ask_at_the_gateway("meter.list", {}).data["meters"][0]["tuning"]
    assert (told["max_info"], told["why"]) == (limits[0], learned(world)[-1])


def test_what_was_learned_outlives_a_restart_and_saves_the_failures(disk):
    world = the_world(disk, BIG, Faults(hears_info_octets=256))
    world.submit()
    world.run(lambda: world.meters["MTR1"].history.blocks.total() == 3)
    world.shut_down()
    before = len(failures(world)), len(learned(world))
    world.run_until_told()
    assert world.job()["state"] == "updated"
    assert (len(failures(world)), len(learned(world))) == before


def link_info(world):
    """Octets of information that the meter was last agreed with to hear."""
    return max(link.agreed.max_info_rx for link in world.meters["MTR1"]._links.values())


@pytest.mark.parametrize(
    ("profile", "days", "proposed"),
    [
        (QUICK, 6, 250),
        (QUICK, 8, 2030),
        (replace(QUICK, max_info=1024), 0, 1024),
        (replace(QUICK, window=6), 0, 2030),
    ],
    ids=["for some days", "and not for ever", "not with another length", "not with another window"],
)
def test_what_was_learned_holds_for_a_week_and_under_the_same_limits(disk, profile, days, proposed):
    first = the_world(disk / "first", BIG, Faults(hears_info_octets=256))
    updated(first)
    tuning = first.store.tuning("MTR1")
    world = the_world(disk / "then", BIG, profile=profile)
    world.store.save_tuning(replace(tuning, since=tuning.since - timedelta(days=days)), port="bus1")
    world.submit()
    world.run(lambda: world.meters["MTR1"].history.blocks.total() == 1)
    assert link_info(world) == proposed


def test_an_snrm_with_parameters_is_refused_once(disk):
    world = the_world(disk, MeterSpec(), Faults(refuses_snrm_parameters=True))
    updated(world)
    assert not world.store.tuning("MTR1").snrm_parameters
    assert learned(world) == ["it refuses an SNRM with parameters and takes one without"]


def test_a_meter_that_answers_late_is_given_its_time(disk):
    """3 s for each answer, on a line that polls after 2: until that is known each exchange costs a poll."""
    world = the_world(disk, MeterSpec(response_s=3.0))
    updated(world)
    assert world.store.tuning("MTR1").wait_s > 3.0
    figures = world.ask_at_the_gateway("meter.list", {}).data["meters"][0]["figures"]
    assert figures["polls"] < 0.3 * figures["exchanges"]


def test_noise_now_and_then_teaches_nothing(disk):
    noise = Noise(lost=0.02, damaged=0.02)
    world = the_world(disk, BIG, line_faults=Faults(to_meter=noise, to_gateway=noise))
    updated(world)
    assert learned(world) == []


def test_a_meter_that_goes_away_for_a_while_teaches_nothing(disk):
    away = Faults(mishaps=(Mishap(What.BLOCK, 5, Then.FALL_SILENT, 200.0),))
    world = the_world(disk, BIG, away)
    updated(world)
    assert learned(world) == []
