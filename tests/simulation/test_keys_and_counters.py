"""Wrong keys, counters that jump, and meters that are left alone: the whole gateway on virtual time.

Meters lock out, and a counter that repeats breaks the key: so here every refusal that a meter gives is counted.
"""

import os
import random
from dataclasses import replace

import pytest
from support.world import SimMeter, World, ciphered

from gateway.model import Authentication, MeterKeys, Profile, Security
from gateway.simulator import Faults, MeterSpec, What, several
from gateway.store.parking import HIGHEST_SEED

SEEDS = [int(os.environ["SIMULATION_SEED"])] if "SIMULATION_SEED" in os.environ else range(30)
LIMIT = 2**20
RIGHT = ciphered().keys
WRONG = MeterKeys(bytes(range(0x40, 0x50)), RIGHT.authentication_key)
QUICK = Profile(reconnect_after_s=20, activate_timeout_s=300)
UNREADABLE = replace(QUICK, counter_object="0-0:43.1.99.255")
"""The gateway asks for a counter that the meter does not have."""


@pytest.fixture
def disk(tmp_path_factory):
    base = tmp_path_factory.mktemp("state")

    def made(name="0"):
        path = base / str(name)
        path.mkdir()
        return path

    return made


def the_world(directory, spec=None, *, faults=None, profile=QUICK, keys=None, **options):
    sim = SimMeter(spec or ciphered(), faults=faults or Faults(), profile=profile, keys=keys)
    return World(directory, [sim], image_size=3000, **options)


def order(world, campaign_id="c1", **changes):
    world.submit(campaign_id, **changes)
    world.run_until_told(campaign_id)
    return world.job(campaign_id=campaign_id)


def probe(world, *, far_away=False):
    """The last reply to `meter.probe`, by an operator at the gateway or over the broker."""
    if far_away:
        cmd_id = world.command("meter.probe", {"meter": "MTR1"})
        world.run(lambda: any(reply["status"] != "accepted" for reply in world.replies(cmd_id)))
        return world.store.reply_of(cmd_id)
    cmd_id = world.command_at_the_gateway("meter.probe", {"meter": "MTR1"})
    world.run(lambda: world.store.reply_of(cmd_id).status != "accepted")
    return world.store.reply_of(cmd_id)


def refusals(world, meter_id="MTR1"):
    """How often the meter refused us: each may bring it nearer to locking us out."""
    history = world.meters[meter_id].history
    return history.count(What.SECURITY) + history.count(What.REJECTED)


def contacts(world, meter_id="MTR1"):
    return world.meters[meter_id].history.count(What.LINK)


def jump(world, by):
    """Somebody else has used the meter's counters meanwhile."""
    world.meters["MTR1"].counters.client += by


def restart(world, keys):
    world.config = replace(world.config, keys={"MTR1": keys})
    world.cut_power()


def events(world, kind):
    return [event["message"] for event in world.store.events(0, 1000) if event["kind"] == kind]


# -- first contact --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("used", [0, 1, 5000, LIMIT - 1])
def test_a_meter_tells_where_its_counter_stands_before_anything_is_ciphered(disk, used):
    world = the_world(disk(), ciphered(client_counter=used))
    assert order(world)["state"] == "updated"
    assert refusals(world) == 0
    assert world.meters["MTR1"].counters.client >= used + 16


def test_a_counter_that_is_told_to_be_near_its_end_is_left_to_an_operator(disk):
    """A forged 0xFFFFFFF0 would lock the meter for ever."""
    world = the_world(disk(), ciphered(client_counter=LIMIT))
    job = order(world)
    assert (job["state"], job["code"]) == ("failed", "T_SECURITY")
    assert f"names invocation counter {LIMIT}, ours is not known" in job["message"]
    assert refusals(world) == 0
    assert world.store.counter("MTR1") is None
    assert "MTR1" in world.store.all_parked()

    world.command_at_the_gateway("counter.adopt", {"meter": "MTR1", "counter": LIMIT + 1})
    assert order(world, "c2")["state"] == "updated"
    assert refusals(world) == 0


def test_a_counter_that_cannot_be_read_stands_in_keys_toml(disk):
    world = the_world(disk(), ciphered(client_counter=7000), profile=UNREADABLE)
    job = order(world)
    assert (job["state"], job["code"]) == ("failed", "T_SECURITY")
    assert "set initial_counter" in job["message"]
    assert refusals(world) == 0

    restart(world, replace(RIGHT, initial_counter=7001))
    assert events(world, "unparked") == ["its entry in keys.toml has changed"]
    assert order(world, "c2")["state"] == "updated"
    assert refusals(world) == 0


def test_of_the_keys_file_and_the_store_the_higher_counter_holds(disk):
    world = the_world(disk(), profile=UNREADABLE, keys=replace(RIGHT, initial_counter=100))
    assert order(world)["state"] == "updated"
    used = world.meters["MTR1"].counters.client
    assert 100 <= used < 1000

    restart(world, replace(RIGHT, initial_counter=50))  # what was first contact once
    probe(world)
    assert used < world.meters["MTR1"].counters.client < 10_000

    restart(world, replace(RIGHT, initial_counter=50_000))  # an operator's decision
    probe(world)
    assert 50_000 <= world.meters["MTR1"].counters.client < 51_000
    assert refusals(world) == 0
    assert len(events(world, "counter")) == 2


def test_a_number_beyond_sense_in_keys_toml_is_not_taken_over(disk):
    world = the_world(disk(), profile=UNREADABLE, keys=replace(RIGHT, initial_counter=2**32 - 1))
    job = order(world)
    assert (job["state"], job["code"]) == ("failed", "T_SECURITY")
    assert f"at most {HIGHEST_SEED}" in job["message"]
    assert world.store.counter("MTR1") is None
    assert world.store.all_parked() == {}, "the meter has nothing to do with it"


def test_counters_that_are_used_up_are_no_failure_of_the_meter(disk):
    world = the_world(disk(), profile=UNREADABLE, keys=replace(RIGHT, initial_counter=HIGHEST_SEED))
    for campaign_id in ("c1", "c2"):
        job = order(world, campaign_id)
        assert (job["state"], job["code"]) == ("failed", "T_SECURITY")
        assert "needs a new key" in job["message"]
    assert world.store.all_parked() == {}


# -- a counter that jumps -------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", [1, 300, 5000, LIMIT - 5000])
def test_a_counter_that_jumps_in_mid_transfer_costs_one_refusal(disk, by):
    world = the_world(disk())
    world.submit()
    world.run(lambda: world.meters["MTR1"].history.blocks.total() >= 5)
    jump(world, by)
    world.run(lambda: world.job().get("state") == "waiting")
    assert world.job()["code"] is None, "nobody has to do anything about it"
    assert "the gateway goes on at that" in world.job()["message"]
    world.run_until_told()
    assert world.job()["state"] == "updated"
    assert refusals(world) == 1
    assert world.meters["MTR1"].history.initiates == 1


@pytest.mark.parametrize("silent", [False, True], ids=["told", "silent"])
def test_a_counter_that_jumped_between_two_orders_costs_one_refusal_and_no_time(disk, silent):
    """Whether the meter says so, or stays silent and has to be asked."""
    world = the_world(disk(), faults=Faults(silent_refusals=silent))
    order(world)
    jump(world, 40_000)
    assert order(world, "c2")["state"] == "skipped"
    assert refusals(world) == 1
    assert not [event for event in world.store.events(0, 1000) if event["state"] == "waiting"]
    assert len(events(world, "counter")) == 2


@pytest.mark.parametrize("silent", [False, True], ids=["told", "silent"])
def test_over_a_restart_a_jump_is_seen_before_anything_is_sent(disk, silent):
    """The same holds for a card that was put back to an earlier day: what it has is lower than what was used."""
    world = the_world(disk(), faults=Faults(silent_refusals=silent))
    order(world)
    jump(world, 40_000)
    world.cut_power()
    assert order(world, "c2")["state"] == "skipped"
    assert refusals(world) == 0


@pytest.mark.parametrize("silent", [False, True], ids=["told", "silent"])
def test_a_jump_that_is_too_far_is_left_to_an_operator_who_sees_both_numbers(disk, silent):
    world = the_world(disk(), faults=Faults(silent_refusals=silent))
    order(world)
    ours = world.meters["MTR1"].counters.client + 1
    jump(world, 3 * LIMIT)
    theirs = world.meters["MTR1"].counters.client + (not silent)
    job = order(world, "c2")
    assert (job["state"], job["code"]) == ("failed", "T_SECURITY")
    assert f"names invocation counter {theirs}, ours is {ours}" in job["message"]
    assert "counter adopt MTR1" in job["message"]
    assert refusals(world) == 1

    before = contacts(world)
    assert order(world, "c3")["code"] == "T_SECURITY"
    assert contacts(world) == before, "left alone"
    cmd_id = world.command_at_the_gateway("counter.adopt", {"meter": "MTR1", "counter": theirs + 1})
    assert world.store.reply_of(cmd_id).data["counter"] == theirs + 1
    assert order(world, "c4")["state"] == "skipped"
    assert refusals(world) == 1


def test_jumps_are_believed_until_they_add_up(disk):
    """Each is within the limit, and whoever forges them has time."""
    world = the_world(disk())
    order(world)
    states = []
    for number in range(4):
        jump(world, LIMIT // 3 + 1)
        states.append(order(world, f"d{number}")["state"])
    assert states == ["skipped", "skipped", "failed", "failed"]
    assert world.store.counter("MTR1") < 2 * LIMIT


def test_a_meter_that_never_has_enough_is_asked_twice(disk):
    """It wants the other order of counters, and says so with a higher number each time."""
    from gateway.model import HlsCounter

    world = the_world(disk(), ciphered(hls_counter=HlsCounter.OUTER_FIRST))
    job = order(world)
    assert (job["state"], job["code"]) == ("failed", "T_SECURITY")
    assert "for the second time" in job["message"]
    assert refusals(world) == 2


def test_a_meter_that_takes_a_request_and_is_silent_to_us_alone_is_not_asked_again(disk):
    """Neither does it say where its counter stands, nor that it is the counter."""
    keys = replace(RIGHT, initial_counter=10)
    world = the_world(
        disk(),
        ciphered(client_counter=5000),
        faults=Faults(silent_refusals=True),
        profile=UNREADABLE,
        keys=keys,
    )
    began_s = world.now_s
    job = order(world)
    assert (job["state"], job["code"]) == ("failed", "T_SECURITY")
    assert "does not answer us" in job["message"]
    assert refusals(world) == 1
    assert world.now_s - began_s < 60


def test_a_meter_that_is_not_there_is_silent_and_nothing_else(disk):
    world = the_world(disk(), keys=replace(RIGHT, initial_counter=10))
    world.meters["MTR1"].reboot(0.0)
    world.meters["MTR1"]._down_until_s = 1e9
    job = order(world)
    assert (job["state"], job["code"]) == ("failed", "T_SILENT")
    assert world.store.all_parked() == {}


# -- keys that fail -------------------------------------------------------------------------------------------

LLS = MeterSpec(authentication=Authentication.LLS, keys=MeterKeys(password=b"12345678"))
AUTHENTICATED = replace(ciphered(), security=Security.AUTHENTICATION)
ENCRYPTED = replace(ciphered(), security=Security.ENCRYPTION)
PROOF_ONLY = replace(ciphered(), security=Security.NONE)
KEYS = [
    ("encryption key", ciphered(), WRONG),
    ("authentication key", ciphered(), MeterKeys(RIGHT.encryption_key, bytes(16))),
    ("authentication key, authenticated only", AUTHENTICATED, MeterKeys(RIGHT.encryption_key, bytes(16))),
    ("encryption key, encrypted only", ENCRYPTED, WRONG),
    ("authentication key, HLS in the plain", PROOF_ONLY, MeterKeys(RIGHT.encryption_key, bytes(16))),
    ("password", LLS, MeterKeys(password=b"87654321")),
]  # fmt: skip


@pytest.mark.parametrize("spec, keys", [row[1:] for row in KEYS], ids=[row[0] for row in KEYS])
def test_a_wrong_secret_is_tried_once_and_then_by_nobody_but_an_operator(disk, spec, keys):
    world = the_world(disk(), spec, keys=keys)
    job = order(world)
    assert (job["state"], job["code"]) == ("failed", "T_SECURITY")
    assert refusals(world) == 1

    before = contacts(world)
    world.cut_power()
    assert "left alone since" in order(world, "c2")["message"]
    far = probe(world, far_away=True)
    assert (far.status, far.code) == ("rejected", "T_SECURITY")
    assert "meter-gateway probe MTR1" in far.message
    assert contacts(world) == before

    # Encrypted only, a wrong key shows in whatever the meter makes of the octets.
    unprotected = spec.security is Security.ENCRYPTION
    assert probe(world).code in ({"T_SECURITY", "T_ASSOCIATION"} if unprotected else {"T_SECURITY"})
    assert refusals(world) == 2
    assert len(events(world, "parked")) == 1

    restart(world, spec.keys)
    assert events(world, "unparked") == ["its entry in keys.toml has changed"]
    assert order(world, "c3")["state"] == "updated"
    assert refusals(world) == 2


def test_a_probe_that_succeeds_ends_it(disk):
    """The meter was locked, or had been given other keys for a while; here the configuration is mended instead."""
    world = the_world(disk(), keys=WRONG)
    order(world)
    # The same keys as those that failed, so that the start changes nothing; but now they are the meter's.
    meter = world.meters["MTR1"]
    meter.spec = replace(meter.spec, keys=WRONG)
    meter._associations.clear()
    assert probe(world).status == "done"
    assert events(world, "unparked") == ["a probe succeeded"]
    assert world.store.events(0, 1000)[-1]["who"] == "uid 1000 (pid 1)"
    assert order(world, "c2")["state"] == "updated"


def test_the_other_meters_on_the_line_go_on(disk):
    meters = [
        SimMeter(spec, id=f"MTR{number}", keys=WRONG if number == 2 else None)
        for number, spec in enumerate(several(ciphered(), 3), start=1)
    ]
    world = World(disk(), meters, image_size=3000)
    world.submit()
    world.run_until_told()
    assert [world.job(f"MTR{number}")["state"] for number in (1, 2, 3)] == ["updated", "failed", "updated"]
    assert world.campaign()["state"] == "partial"
    assert [refusals(world, f"MTR{number}") for number in (1, 2, 3)] == [0, 1, 0]


def test_a_probe_that_parks_a_meter_ends_its_transfer_as_well(disk):
    world = the_world(disk())
    world.submit()
    world.run(lambda: world.meters["MTR1"].history.blocks.total() >= 5)
    world.config = replace(world.config, keys={"MTR1": WRONG})
    world.cut_power()
    probe(world)
    world.run_until_told()
    job = world.job()
    assert (job["state"], job["code"]) == ("failed", "T_SECURITY")
    assert refusals(world) == 1


def test_a_power_cut_at_any_commit_costs_at_most_one_more_attempt(disk):
    whole = the_world(disk("whole"), keys=WRONG)
    order(whole)
    for number in range(2, 2 * whole.power.commits):
        fails_at = frozenset({(number + 1) // 2} if number % 2 else {1, (number + 2) // 2})
        world = the_world(disk(number), keys=WRONG, power_fails_at=fails_at)
        assert order(world)["code"] == "T_SECURITY"
        assert refusals(world) <= 2
        assert list(world.store.all_parked()) == ["MTR1"]
        assert len(events(world, "parked")) == 1


# -- anything, at any time ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_a_meter_whose_counter_jumps_is_updated_for_every_seed(disk, seed):
    """While blocks go, power fails and the broker is away; no refusal is without a jump before it."""
    chance = random.Random(f"{seed} jumps")
    world = the_world(
        disk(), ciphered(window=chance.choice([1, 4])), seed=seed,
        faults=Faults(silent_refusals=chance.random() < 0.3, replies_lost=chance.choice([0.0, 0.02])),
        power_fails_at=frozenset(chance.randint(2, 40) for _ in range(chance.choice([0, 1, 3]))),
        broker_loses=chance.choice([0.0, 0.05]),
    )  # fmt: skip
    world.submit()
    jumps = chance.randint(1, 3)
    try:
        for _ in range(jumps):
            blocks = world.meters["MTR1"].history.blocks.total() + chance.randint(0, 4)
            world.run(
                lambda enough=blocks: (
                    world.meters["MTR1"].history.blocks.total() >= enough
                    or world.campaign().get("finished_at") is not None
                )
            )
            jump(world, chance.choice([1, 20, 2000, LIMIT // 4]))
        world.run_until_told()
        history = world.meters["MTR1"].history
        # A cut between the decision to activate and its octets leaves a meter that nobody may activate again.
        assert world.job()["state"] == "updated" or world.job()["code"] == "T_ACTIVATE", world.job()
        assert history.initiates == 1
        assert history.activations <= 1
        assert refusals(world) <= jumps
        assert world.store.all_parked() == {}
    except BaseException:
        print(f"SIMULATION_SEED={seed}\n" + "\n".join(world.sentences)[-4000:])
        raise
