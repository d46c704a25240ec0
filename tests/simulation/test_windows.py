"""Campaigns that wait: for their window, for an operator, for their turn. The whole gateway on virtual time."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from support.desk import memory_directory
from support.world import BASE, SimMeter, World, ciphered

from gateway.model import ImageTransferStatus, Window
from gateway.simulator import Faults, MeterSpec, VirtualClock, What

EPOCH = VirtualClock().now()
PLAIN = MeterSpec(window=3)
DAY_S = 86400.0
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
TRANSFER = {What.INITIATE, What.BLOCK, What.VERIFY}
WORK = TRANSFER | {What.ACTIVATE}


class Nights(World):
    """Days in which mostly nothing happens go by in few steps."""

    def __init__(self, *args, **changes):
        super().__init__(*args, **changes)
        self.leaps_s = 60.0


@pytest.fixture
def disk():
    with memory_directory() as base:
        yield base


def window(name="night", *, opens_after=HOUR, lasts=5 * MINUTE, **changes):
    """A window of every day that opens so long after the beginning of the world."""
    fields = {"cutoff_s": 0.0, "drain_s": 0.0, **changes}
    start = (EPOCH + opens_after).time()
    return Window(name, frozenset(range(7)), start, lasts.total_seconds(), "UTC", **fields)


def several_meters(count, spec=PLAIN, **changes):
    return [
        SimMeter(
            replace(spec, address=replace(spec.address, lower=17 + number), logical_device_name=f"SIM{number}"),
            id=f"MTR{number + 1}", **changes,
        )
        for number in range(count)
    ]  # fmt: skip


def worked_at(world, meter_id="MTR1", kinds=WORK):
    """When something was done to a meter, in seconds since the beginning of the world."""
    return [event.at_s for event in world.meters[meter_id].history.events if event.what in kinds]


def in_hours(at_s, *, opens_s, lasts_s):
    return opens_s <= at_s % DAY_S <= opens_s + lasts_s


def told_states(world, campaign_id="c1"):
    found = []
    for snapshot in world.broker.documents(f"{BASE}/campaign/{campaign_id}"):
        told = f"{snapshot['state']} ({snapshot['paused']})" if snapshot["paused"] else snapshot["state"]
        if found[-1:] != [told]:
            found.append(told)
    return found


def submit(world, **changes):
    """An order, as soon as it has been answered."""
    cmd_id = world.submit(**changes)
    world.run(lambda: bool(world.replies(cmd_id)))
    (reply,) = world.replies(cmd_id)[:1]
    assert reply["status"] == "accepted", reply
    return cmd_id


def do(world, verb, **args):
    reply = world.ask_at_the_gateway(verb, args)
    assert reply.status == "done", reply
    return reply


# -- windows --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [PLAIN, ciphered()], ids=["plain", "gmac"])
def test_a_transfer_stops_where_its_window_ends_and_goes_on_the_next_night_at_the_very_block(disk, spec):
    night = window(drain_s=30.0)
    world = Nights(disk, [SimMeter(spec)], image_size=65536, baud=1200, windows={"night": night})
    submit(world, window="night")
    world.run_until_told(limit_s=10 * DAY_S)
    assert world.job()["state"] == "updated"
    for at_s in worked_at(world, kinds=TRANSFER):
        assert in_hours(at_s, opens_s=3600, lasts_s=300 - 30 + 5)  # the block on the line ends
    history = world.meters["MTR1"].history
    assert history.initiates == 1
    assert max(history.blocks.values()) == 1, "no block went twice"
    states = told_states(world)
    assert states.count("paused (window)") >= 2
    assert states[-1] == "succeeded"


def test_a_job_that_a_restart_finds_outside_its_window_says_that_it_waits(disk):
    world = Nights(disk, [SimMeter(PLAIN)], image_size=65536, baud=1200, windows={"night": window()})
    submit(world, window="night")
    world.run(lambda: world.now_s > 3600 + 300 - 15)
    assert world.job()["state"] == "transferring"
    while world.now_s < 3600 + 300:
        world.cut_power()  # for three seconds each
    world.run(lambda: world.now_s > 3600 + 300 + 60)
    assert world.campaign()["paused"] == "window"
    assert world.job()["state"] == "waiting"
    assert "window" in world.job()["message"]
    world.run_until_told(limit_s=10 * DAY_S)
    assert world.job()["state"] == "updated"
    assert world.meters["MTR1"].history.initiates == 1


def test_a_paused_campaign_says_when_its_window_opens(disk):
    world = Nights(disk, [SimMeter(PLAIN)], windows={"night": window(opens_after=6 * HOUR)})
    submit(world, window="night")
    world.run(lambda: world.campaign().get("paused") == "window")
    assert datetime.fromisoformat(world.campaign()["opens_at"]) == EPOCH + 6 * HOUR
    (shown,) = world.ask_at_the_gateway("window.list", {}).data["windows"]
    assert (shown["window"], shown["open"], shown["opens_at"]) == ("night", False, "2026-01-01T06:00:00.000Z")
    assert not world.meters["MTR1"].history.events, "the meter was left alone"


def test_a_meter_that_verifies_for_ever_ends_though_every_window_is_shorter_than_its_time(disk):
    profile = replace(SimMeter(PLAIN).profile, verify_timeout_s=400.0)
    meter = SimMeter(replace(PLAIN, verify_s=100 * DAY_S), profile=profile)
    world = Nights(disk, [meter], image_size=1024, windows={"night": window()})
    submit(world, window="night")
    world.run_until_told(limit_s=10 * DAY_S)
    assert world.job()["code"] == "T_VERIFY"
    assert DAY_S < world.now_s < 2 * DAY_S, "the second night, for it was looked at 5 minutes in each"


def test_after_the_cutoff_no_meter_is_begun_and_those_that_were_go_on(disk):
    night = window(lasts=10 * MINUTE, cutoff_s=595.0)  # five seconds in which to begin
    world = Nights(disk, several_meters(3), image_size=16384, baud=1200, windows={"night": night})
    submit(world, window="night")
    world.run_until_told(limit_s=10 * DAY_S)
    firsts = [min(worked_at(world, f"MTR{number}")) for number in (1, 2, 3)]
    for at_s in firsts:
        assert in_hours(at_s, opens_s=3600, lasts_s=15)
    assert {world.job(f"MTR{number}")["state"] for number in (1, 2, 3)} == {"updated"}
    assert max(firsts) > DAY_S, "not all of them in the first night"


def test_no_activation_that_would_not_be_over_in_time(disk):
    """The meter needs 20 s and the gateway a minute to see what became of it: the next night, then."""
    # It is verified some 76 s after the window opened.
    night = window(lasts=100 * timedelta(seconds=1))
    world = Nights(disk, [SimMeter(replace(PLAIN, verify_s=30.0))], baud=9600, windows={"night": night})
    submit(world, window="night")
    world.run_until_told(limit_s=10 * DAY_S)
    assert world.job()["state"] == "updated"
    (activated,) = worked_at(world, kinds={What.ACTIVATE})
    assert in_hours(activated, opens_s=3600, lasts_s=100 - 80)
    assert activated > DAY_S


def by_night_and_at_dawn(world, meter_id):
    """The image came in the one window, and was activated in the other."""
    transfer, activation = worked_at(world, meter_id, TRANSFER), worked_at(world, meter_id, {What.ACTIVATE})
    assert all(in_hours(at_s, opens_s=3600, lasts_s=3600) for at_s in transfer)
    assert [in_hours(at_s, opens_s=5 * 3600, lasts_s=3600) for at_s in activation] == [True]


def test_it_is_activated_in_a_window_of_its_own(disk):
    windows = {"night": window(lasts=HOUR), "dawn": window("dawn", opens_after=5 * HOUR, lasts=HOUR)}
    world = Nights(disk, several_meters(2), windows=windows)
    submit(world, window="night", activation={"when": "window", "window": "dawn"})
    world.run_until_told(limit_s=3 * DAY_S)
    for meter_id in ("MTR1", "MTR2"):
        assert world.job(meter_id)["state"] == "updated"
        assert all(
            in_hours(at_s, opens_s=3600, lasts_s=3600) for at_s in worked_at(world, meter_id, TRANSFER)
        )
        assert all(
            in_hours(at_s, opens_s=5 * 3600, lasts_s=3600)
            for at_s in worked_at(world, meter_id, {What.ACTIVATE})
        )


def test_a_meter_that_forgot_its_image_is_not_written_to_in_the_window_of_activation(disk):
    windows = {"night": window(lasts=HOUR), "dawn": window("dawn", opens_after=5 * HOUR, lasts=HOUR)}
    world = Nights(disk, [SimMeter(PLAIN)], windows=windows)
    submit(world, window="night", activation={"when": "window", "window": "dawn"})
    world.run(lambda: world.job().get("state") == "awaiting_activation")
    world.meters["MTR1"].image.status = ImageTransferStatus.NOT_INITIATED
    world.run_until_told(limit_s=5 * DAY_S)
    assert world.job()["state"] == "updated"
    assert all(in_hours(at_s, opens_s=3600, lasts_s=3600) for at_s in worked_at(world, kinds=TRANSFER))
    assert all(
        in_hours(at_s, opens_s=5 * 3600, lasts_s=3600) for at_s in worked_at(world, kinds={What.ACTIVATE})
    )


def test_no_window_opens_on_a_clock_that_is_not_trusted(disk):
    world = Nights(disk, [SimMeter(PLAIN)], windows={"night": window(opens_after=HOUR, lasts=20 * HOUR)})
    submit(world, window="night")
    world.clock_state = "unsynced"
    world.run(lambda: world.now_s > 2 * 3600)
    assert world.campaign()["paused"] == "clock"
    assert not worked_at(world)
    world.clock_state = "synced"
    world.run_until_told()
    assert world.job()["state"] == "updated"


# -- operators ------------------------------------------------------------------------------------------------


def test_a_campaign_is_paused_at_a_block_and_resumed_there(disk):
    world = Nights(disk, [SimMeter(PLAIN)], image_size=32768)
    submit(world)
    world.run(lambda: world.meters["MTR1"].history.blocks.total() > 50)
    do(world, "campaign.pause", campaign_id="c1")
    world.run(lambda: world.now_s > 7200)
    assert world.campaign()["paused"] == "operator"
    assert world.job()["state"] == "waiting"
    assert max(worked_at(world)) < 3600
    do(world, "campaign.resume", campaign_id="c1")
    world.run_until_told()
    assert world.job()["state"] == "updated"
    assert world.meters["MTR1"].history.initiates == 1
    assert max(world.meters["MTR1"].history.blocks.values()) == 1


def test_nothing_is_activated_before_it_is_approved(disk):
    world = Nights(disk, several_meters(2))
    submit(world, activation={"when": "manual"})
    world.run(lambda: world.campaign().get("paused") == "approval")
    world.run(lambda: world.now_s > 5 * 3600)
    assert [world.meters[name].history.activations for name in ("MTR1", "MTR2")] == [0, 0]
    assert world.job()["state"] == "awaiting_activation"
    do(world, "campaign.approve", campaign_id="c1")
    world.run_until_told()
    assert world.campaign()["state"] == "succeeded"


def test_an_activation_waits_for_its_time(disk):
    world = Nights(disk, [SimMeter(PLAIN)])
    submit(world, activation={"when": "at", "at": "2026-01-01T04:00:00Z"})
    world.run_until_told()
    (activated,) = worked_at(world, kinds={What.ACTIVATE})
    assert 4 * 3600 <= activated < 4 * 3600 + 90


def test_nothing_is_activated_at_a_time_that_a_lost_clock_tells(disk):
    world = World(disk, [SimMeter(PLAIN)], image_size=16384)
    submit(world, activation={"when": "at", "at": "2026-01-01T00:00:10Z"})
    world.run(lambda: world.now_s > 12)
    world.run(lambda: world.job().get("state") == "transferring")
    world.clock_state = "unsynced"
    world.run(lambda: world.now_s > 1800)
    assert not worked_at(world, kinds={What.ACTIVATE})
    world.clock_state = "synced"
    world.run_until_told()
    assert world.job()["state"] == "updated"


def test_an_activation_waits_for_its_time_and_for_no_other_line(disk):
    """The campaign goes on all the while, since a line that is out has a meter of it."""
    here, there = several_meters(2)
    out = Faults(unplugged=((0.0, 5400.0),))
    world = Nights(disk, [here, replace(there, port="bus2")], line_faults={"bus2": out})
    submit(world, activation={"when": "at", "at": "2026-01-01T01:00:00Z"})
    world.run(lambda: world.job("MTR1").get("state") == "awaiting_activation")
    world.cut_power()
    world.run(lambda: world.now_s > 5000)
    assert world.campaign()["state"] == "running"
    (activated,) = worked_at(world, "MTR1", {What.ACTIVATE})
    assert 3600 <= activated < 3600 + 90
    links = worked_at(world, "MTR1", {What.LINK})
    assert not [at_s for at_s in links if 200 < at_s < 3600], "it is left alone while it waits"


def test_an_order_whose_time_is_over_expires_and_takes_back_what_has_not_begun(disk):
    world = Nights(disk, several_meters(2), baud=600, windows={"night": window()})
    cmd_id = submit(world, window="night", not_after="2026-01-01T01:01:00Z")
    world.run_until_told()
    assert world.campaign()["state"] == "expired"
    assert world.campaign()["code"] == "W_EXPIRED"
    assert {world.job(name)["state"] for name in ("MTR1", "MTR2")} == {"cancelled"}
    assert world.replies(cmd_id)[-1]["code"] == "W_EXPIRED"


@pytest.mark.parametrize(
    ("order", "state"),
    [({"activation": {"when": "manual"}}, "awaiting_activation"), ({}, "transferring")],
    ids=["verified", "in the middle"],
)
def test_a_meter_in_hand_when_the_time_is_over_says_why_it_was_cancelled(disk, order, state):
    world = Nights(disk, [SimMeter(PLAIN)], image_size=65536)
    submit(
        world,
        not_after="2026-01-01T00:01:00Z" if state == "transferring" else "2026-01-01T02:00:00Z",
        **order,
    )
    world.run(lambda: world.job().get("state") == state)
    world.run_until_told()
    job = world.job()
    assert (job["state"], job["code"]) == ("cancelled", "W_EXPIRED")
    assert job["message"].startswith("its time was over at 2026-01-01T0")
    assert world.meters["MTR1"].history.activations == 0


# -- canaries, waves, failures --------------------------------------------------------------------------------


def test_the_canary_soaks_before_the_others_follow_in_waves(disk):
    world = Nights(disk, several_meters(5))
    submit(world, canary=1, canary_soak="6h", wave=2)
    world.run_until_told()
    assert world.campaign()["state"] == "succeeded"
    canary_over = max(worked_at(world, "MTR1"))
    begins = {f"MTR{number}": min(worked_at(world, f"MTR{number}")) for number in range(2, 6)}
    assert min(begins.values()) > canary_over + 6 * 3600
    first_wave_over = max(max(worked_at(world, name)) for name in ("MTR2", "MTR3"))
    assert min(begins["MTR4"], begins["MTR5"]) > first_wave_over
    assert "paused (soak)" in told_states(world)


def refusing(sim):
    """A meter that takes no image."""
    return replace(sim, spec=replace(sim.spec, transfer_enabled=False))


def test_a_failed_canary_keeps_the_others_from_harm_until_an_operator_says_so(disk):
    first, *others = several_meters(3)
    world = Nights(disk, [refusing(first), *others])
    submit(world, canary=1)
    world.run(lambda: world.campaign().get("paused") == "failures")
    world.run(lambda: world.now_s > 24 * 3600)
    assert not worked_at(world, "MTR2")
    do(world, "campaign.resume", campaign_id="c1")
    world.run_until_told()
    assert [world.job(f"MTR{number}")["state"] for number in (1, 2, 3)] == ["failed", "updated", "updated"]


def test_too_many_failures_pause_and_the_failed_can_be_tried_again(disk):
    meters = several_meters(4)
    world = Nights(disk, [refusing(meters[0]), refusing(meters[1]), *meters[2:]])
    submit(world, wave=2, max_failures=1)
    world.run(lambda: world.campaign().get("paused") == "failures")
    assert world.campaign()["message"] == "2 meters failed, max_failures is 1"
    for name in ("MTR1", "MTR2"):
        world.meters[name].image.enabled = True
    do(world, "campaign.retry", campaign_id="c1")
    world.run_until_told()
    assert world.campaign()["state"] == "succeeded"


BAD = {
    "resume what is not paused": ("campaign.resume", {}, "E_STATE", "not paused"),
    "approve what wants none": ("campaign.approve", {}, "E_STATE", "wants no approval"),
    "retry where nobody failed": ("campaign.retry", {}, "E_STATE", "no meter has failed"),
    "pause what nobody knows": ("campaign.pause", {"campaign_id": "x"}, "E_NOT_FOUND", "no campaign x"),
}


@pytest.mark.parametrize(("verb", "args", "code", "message"), BAD.values(), ids=BAD)
def test_orders_that_make_no_sense(disk, verb, args, code, message):
    world = Nights(disk, [SimMeter(PLAIN)], windows={"night": window()})
    submit(world)
    world.run(lambda: world.campaign().get("state") == "running")
    reply = world.ask_at_the_gateway(verb, {"campaign_id": "c1"} | args)
    assert (reply.status, reply.code) == ("rejected", code)
    assert message in reply.message


def test_what_has_ended_is_not_resumed(disk):
    world = Nights(disk, [SimMeter(PLAIN)])
    submit(world)
    world.run_until_told()
    for verb in ("campaign.pause", "campaign.resume", "campaign.approve", "campaign.retry"):
        reply = world.ask_at_the_gateway(verb, {"campaign_id": "c1"})
        assert (reply.status, reply.code) == ("rejected", "E_STATE")


def test_a_window_is_set_at_the_gateway_and_survives_a_restart(disk):
    world = Nights(disk, [SimMeter(PLAIN)])
    do(world, "window.set", window="late", start="02:00", duration="30min", timezone="UTC")
    world.shut_down()
    submit(world, window="late")
    world.run_until_told()
    assert all(2 * 3600 <= at_s <= 2.5 * 3600 for at_s in worked_at(world))
    reply = world.ask_at_the_gateway("window.set", {"window": "late", "start": "26:00", "duration": "30min"})
    assert (reply.code, reply.message) == (
        "E_SCHEMA", 'args: late.start: found "26:00", expected a time of day such as "22:00"'
    )  # fmt: skip


def test_power_cuts_at_any_commit_change_nothing_of_it(disk):
    """A canary, a night, a pause: whatever commit the power fails at, it comes to the same end."""
    for number in range(1, 120, 40):
        directory = disk / str(number)
        directory.mkdir()
        world = Nights(
            directory, several_meters(2), baud=2400, seed=number, power_fails_at=frozenset({number, number + 3}),
            windows={"night": window(lasts=2 * MINUTE)},
        )  # fmt: skip
        world.submit(window="night", canary=1)
        world.run_until_told(limit_s=10 * DAY_S)
        assert world.campaign()["state"] == "succeeded", number
        for name in ("MTR1", "MTR2"):
            history = world.meters[name].history
            assert history.activations == 1
            assert all(
                in_hours(at_s, opens_s=3600, lasts_s=125)
                for at_s in worked_at(world, name, {What.BLOCK, What.ACTIVATE})
            )


# -- when it will have ended ----------------------------------------------------------------------------------


def test_a_campaign_says_when_it_will_have_ended_and_holds_to_it(disk):
    night = window(drain_s=30.0)
    world = Nights(disk, several_meters(2), image_size=65536, baud=2400, windows={"night": night})
    submit(world, window="night")
    world.run(lambda: world.campaign().get("eta") is not None, limit_s=DAY_S)
    first = datetime.fromisoformat(world.campaign()["eta"])
    told = len(world.broker.documents(f"{BASE}/campaign/c1"))
    world.run_until_told(limit_s=10 * DAY_S)
    ended = datetime.fromisoformat(world.campaign()["finished_at"])
    assert ended - EPOCH > timedelta(days=1), "one night was not enough"
    assert abs(first - ended) < 10 * MINUTE
    assert world.campaign()["eta"] is None
    assert len(world.broker.documents(f"{BASE}/campaign/c1")) - told < 20, "small changes are kept"


def test_an_order_that_cannot_end_in_time_says_so_early(disk):
    world = Nights(disk, several_meters(3), image_size=65536, baud=1200)
    submit(world, not_after="2026-01-01T00:30:00Z")  # each wants ten minutes and more
    world.run(lambda: world.campaign().get("late") is True)
    assert world.meters["MTR1"].history.activations == 0, "long before"
    (event,) = [told for told in world.broker.documents(f"{BASE}/event") if told["kind"] == "late"]
    assert (event["campaign_id"], event["code"]) == ("c1", "W_EXPIRED")
    assert "after its not_after" in event["message"]
    world.run_until_told()
    assert world.campaign()["state"] == "expired"
    assert world.campaign()["late"] is False


def test_a_line_that_was_measured_tells_the_end_of_the_next_order_at_once(disk):
    world = Nights(disk, [SimMeter(PLAIN)], windows={"night": window(opens_after=6 * HOUR)})
    submit(world)
    world.run_until_told()
    submit(world, campaign_id="c2", window="night")
    world.run(lambda: world.campaign("c2").get("eta") is not None)
    end = datetime.fromisoformat(world.campaign("c2")["eta"])
    assert EPOCH + 6 * HOUR < end < EPOCH + 7 * HOUR


def test_openings_that_touch_are_one(disk):
    """A window of all hours does not drain at midnight."""
    midday = EPOCH + 12 * HOUR
    always = window(opens_after=12.5 * HOUR, lasts=24 * HOUR, drain_s=1800.0)
    world = Nights(
        disk, [SimMeter(PLAIN)], image_size=65536, baud=600, windows={"always": always}, start=midday
    )
    submit(world, window="always")
    world.run_until_told(limit_s=3 * DAY_S)
    assert world.job()["state"] == "updated"
    assert not [state for state in told_states(world) if state.startswith("paused")]
