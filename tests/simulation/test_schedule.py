"""Meters that activate by their own schedule: armed, read back, taken back. The whole gateway on virtual time."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from support.desk import memory_directory
from support.world import BASE, SimMeter, World, ciphered

from gateway.model import ClockPolicy, Profile, Window
from gateway.simulator import Faults, MeterSpec, Mishap, Then, VirtualClock, What
from gateway.wire.action_schedule import Execution, once

wall = datetime.fromisoformat

EPOCH = VirtualClock().now()
AT = "2026-01-01T00:20:00Z"
AT_S = 1200.0
LEAD_S = 180.0
PLAIN = MeterSpec()
PROFILE = Profile(
    reconnect_after_s=20,
    activate_timeout_s=300,
    activation_schedule="0-0:15.0.2.255",
    activation_timezone="UTC",
)
NO_TIME = Execution(0xFFFF, *[0xFF] * 7)


@pytest.fixture
def disk():
    with memory_directory() as base:
        yield base


def the_world(disk, spec=PLAIN, faults=None, *, profile=PROFILE, **options):
    return World(disk, [SimMeter(spec, faults=faults or Faults(), profile=profile)], **options)


def submit(world, at=AT, **changes):
    return world.submit(activation={"when": "meter", "at": at}, **changes)


def armed(world):
    return (
        world.job().get("state") == "awaiting_activation"
        and "by itself at" in world.job()["message"]
        and bool(world.meters["MTR1"].schedule.executions)
    )


def history(world):
    return world.meters["MTR1"].history


def run_until_armed(world):
    world.run(lambda: armed(world), limit_s=AT_S)


def activated_at(world):
    return [event.at_s for event in history(world).events if event.what is What.ACTIVATE]


def ended(world):
    world.run_until_told(limit_s=world.now_s + 3 * 3600.0)
    return world.job()["state"], world.job()["code"]


# -- as it should be ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [PLAIN, ciphered()], ids=["plain", "gmac"])
def test_the_meter_is_given_its_time_and_runs_the_image_by_itself(disk, spec):
    world = the_world(disk, spec)
    submit(world)
    run_until_armed(world)
    assert world.now_s < 600
    assert world.campaign()["state"] == "running"
    assert world.job()["message"] == "the meter runs the image by itself at 2026-01-01 00:20:00 UTC"
    assert ended(world) == ("updated", None)
    assert activated_at(world) == [AT_S], "once, and by its own clock"
    assert world.job()["activated_at"] == "2026-01-01T00:20:00.000Z"
    assert history(world).count(What.SCHEDULED) == 1
    states = [each["state"] for each in world.broker.documents(f"{BASE}/event") if each["kind"] == "job"]
    assert states[-4:] == ["awaiting_activation", "activating", "confirming", "updated"]


def test_nobody_asks_the_meter_anything_while_it_waits_for_its_time(disk):
    world = the_world(disk)
    submit(world)
    run_until_armed(world)
    quiet_from_s = world.now_s + 30
    ended(world)
    between = [each for each in history(world).events if quiet_from_s < each.at_s < AT_S]
    assert not between


@pytest.mark.parametrize(
    ("zone", "begins", "shows"),
    [
        ("Europe/Helsinki", "2026-01-01T00:00Z", "2026-01-01T02:20"),
        ("Asia/Kolkata", "2026-01-01T00:00Z", "2026-01-01T05:50"),
        # Between the order and the time the clocks are put forward.
        ("Europe/Berlin", "2026-03-29T00:50Z", "2026-03-29T03:10"),
    ],
)
def test_the_time_is_written_as_the_clock_of_the_meter_will_show_it(disk, zone, begins, shows):
    start = datetime.fromisoformat(begins)
    world = the_world(
        disk, replace(PLAIN, timezone=zone), Faults(clock_off_s=(start - EPOCH).total_seconds()),
        profile=replace(PROFILE, activation_timezone=zone), start=start,
    )  # fmt: skip
    submit(world, f"{start + timedelta(seconds=AT_S):%Y-%m-%dT%H:%M:%SZ}")
    run_until_armed(world)
    assert [each.wall for each in world.meters["MTR1"].schedule.executions] == [wall(shows)]
    assert ended(world) == ("updated", None)
    assert activated_at(world) == [AT_S]


def test_the_script_is_set_where_the_schedule_runs_another(disk):
    world = the_world(
        disk, replace(PLAIN, activation_selector=0), profile=replace(PROFILE, activation_selector=0)
    )
    submit(world)
    assert ended(world) == ("updated", None)


@pytest.mark.parametrize(
    "left", [NO_TIME, once(wall("2025-06-01T02:00"))], ids=["no time", "a time that has passed"]
)
def test_a_schedule_that_is_not_armed_any_more_is_used(disk, left):
    world = the_world(disk, replace(PLAIN, armed=(left,)))
    submit(world)
    assert ended(world) == ("updated", None)


def test_the_outcome_is_looked_for_whatever_the_hour(disk):
    """The window of the transfer has closed long before the time."""
    night = Window("night", frozenset(range(7)), EPOCH.time(), 600.0, "UTC", drain_s=0.0)
    world = the_world(disk, windows={"night": night})
    submit(world, window="night")
    assert ended(world) == ("updated", None)
    assert AT_S < world.now_s < AT_S + 120


# -- what stands in the way -----------------------------------------------------------------------------------

HOPELESS = {
    "somebody armed it before": (
        replace(PLAIN, armed=(once(wall("2026-03-01T02:00")),)), Faults(), PROFILE,
        "T_FOREIGN", "a schedule is armed in the meter already: 2026-03-01 02:00:00",
    ),
    "it is armed again and again": (
        replace(PLAIN, armed=(NO_TIME._replace(hour=3, minute=0, second=0),)), Faults(), PROFILE,
        "T_FOREIGN", "a time that comes again",
    ),
    "its clock is wrong": (
        PLAIN, Faults(clock_off_s=-400.0), PROFILE, "T_ACTIVATE", "s behind the time in UTC: set it",
    ),
    "its clock shows another zone": (
        replace(PLAIN, timezone="Europe/Helsinki"), Faults(), PROFILE, "T_ACTIVATE",
        "say in the profile what zone it shows",
    ),
    "it has no such schedule": (
        PLAIN, Faults(), replace(PROFILE, activation_schedule="0-0:15.0.9.255"), "T_ACTIVATE", "activation_schedule",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("spec", "faults", "profile", "code", "message"), HOPELESS.values(), ids=HOPELESS)
def test_it_is_refused_before_anything_is_sent(disk, spec, faults, profile, code, message):  # noqa: PLR0917
    world = the_world(disk, spec, faults, profile=profile)
    submit(world)
    assert ended(world) == ("failed", code)
    assert message in world.job()["message"]
    assert history(world).initiates == 0
    assert history(world).count(What.SCHEDULED) == 0


REFUSING = {
    "the time": (Faults(schedule_refused=3), PLAIN, "the meter refuses a time in its schedule"),
    "the script": (
        Faults(script_denied=True), replace(PLAIN, armed_selector=7),
        "runs script 7 of 0-0:10.0.107.255, not 1 of 0-0:10.0.107.255 (activation_selector, activation_script)",
    ),
    "the minutes": (
        Faults(schedule_drops_minutes=True), PLAIN, "shows 2026-01-01 00:00:00, written was 2026-01-01 00:20:00",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("faults", "spec", "message"), REFUSING.values(), ids=REFUSING)
def test_a_meter_that_refuses_is_left_with_nothing_armed_and_its_old_firmware(disk, faults, spec, message):
    world = the_world(disk, spec, faults)
    submit(world)
    assert ended(world) == ("failed", "T_ACTIVATE")
    assert message in world.job()["message"]
    assert world.meters["MTR1"].schedule.executions == ()
    world.meters["MTR1"].settle(10 * AT_S)
    assert history(world).activations == 0


def test_a_wrong_clock_is_borne_where_the_profile_says_so(disk):
    world = the_world(
        disk, faults=Faults(clock_off_s=-200.0), profile=replace(PROFILE, activation_clock=ClockPolicy.SKIP)
    )
    submit(world)
    assert ended(world) == ("updated", None)
    assert activated_at(world) == [AT_S + 200]


def test_a_meter_that_does_not_run_it_has_failed_after_its_time(disk):
    world = the_world(disk, faults=Faults(activation_ignored=True))
    submit(world)
    assert ended(world) == ("failed", "T_ACTIVATE")
    assert world.now_s > AT_S + 300
    assert world.meters["MTR1"].schedule.executions == ()


def test_a_meter_that_verified_too_late_is_not_activated_at_another_time(disk):
    world = the_world(disk, replace(PLAIN, verify_s=1200.0))
    submit(world, "2026-01-01T00:11:00Z")
    assert ended(world) == ("failed", "W_EXPIRED")
    assert history(world).activations == 0
    assert history(world).count(What.SCHEDULED) == 0


@pytest.mark.parametrize("take_over", [False, True])
def test_a_schedule_of_somebody_else_is_only_written_over_where_the_order_says_so(disk, take_over):
    world = the_world(disk, replace(PLAIN, armed=(once(wall("2026-03-01T02:00")),)))
    submit(world, take_over=take_over)
    assert ended(world)[0] == ("updated" if take_over else "failed")


def test_a_dry_run_finds_what_stands_in_the_way_and_writes_nothing(disk):
    world = the_world(disk, faults=Faults(clock_off_s=900.0))
    submit(world, dry_run=True)
    assert ended(world) == ("failed", "T_ACTIVATE")
    assert history(world).count(What.SCHEDULED) == 0


def test_no_time_is_given_by_a_clock_that_is_not_trusted(disk):
    world = the_world(disk)
    world.clock_state = "unsynced"
    cmd_id = submit(world)
    world.run(lambda: bool(world.replies(cmd_id)))
    assert world.replies(cmd_id)[0]["code"] == "E_CLOCK"
    world.clock_state = "synced"
    submit(world)
    world.run(lambda: world.job().get("state") == "transferring")
    world.clock_state = "unsynced"
    world.run(lambda: world.campaign().get("paused") == "clock")
    assert history(world).count(What.SCHEDULED) == 0
    world.clock_state = "synced"
    assert ended(world) == ("updated", None)


BAD_ORDERS = {
    "without a time": ({"when": "meter"}, "found no 'at'"),
    "too soon": ({"when": "meter", "at": "2026-01-01T00:05:00Z"}, "less than 10 min ahead"),
    "beyond what its zone can say": ({"when": "meter", "at": "9999-12-31T23:59:59Z"}, "no such time"),
    "with a window": ({"when": "meter", "at": AT, "window": "night"}, 'expected none for when = "meter"'),
}


@pytest.mark.parametrize(("activation", "message"), BAD_ORDERS.values(), ids=BAD_ORDERS)
def test_orders_that_make_no_sense(disk, activation, message):
    world = the_world(disk)
    cmd_id = world.submit(activation=activation)
    world.run(lambda: bool(world.replies(cmd_id)))
    (reply,) = world.replies(cmd_id)
    assert (reply["status"], reply["code"]) == ("rejected", "E_SCHEMA")
    assert message in reply["message"]


def test_a_time_that_the_clock_shows_twice_is_refused(disk):
    world = the_world(disk, profile=replace(PROFILE, activation_timezone="Europe/Berlin"))
    cmd_id = submit(world, "2026-10-25T00:30:00Z")
    world.run(lambda: bool(world.replies(cmd_id)))
    assert "found a time that clocks in Europe/Berlin show twice" in world.replies(cmd_id)[0]["message"]


def test_a_window_that_opens_too_late_for_the_time_is_refused(disk):
    """No meter could be given it: it would have to be told night after night of each of them."""
    evening = Window("evening", frozenset(range(7)), wall("2026-01-01T00:19").time(), 3600.0, "UTC")
    world = the_world(disk, windows={"evening": evening})
    cmd_id = submit(world, window="evening")
    world.run(lambda: bool(world.replies(cmd_id)))
    (reply,) = world.replies(cmd_id)
    assert (reply["status"], reply["code"]) == ("rejected", "W_NONE")
    assert "evening opens at 2026-01-01 00:19 UTC, too late for activation.at" in reply["message"]


def test_a_meter_without_a_schedule_is_refused_at_once(disk):
    world = the_world(disk, profile=replace(PROFILE, activation_schedule=""))
    cmd_id = submit(world)
    world.run(lambda: bool(world.replies(cmd_id)))
    assert "found MTR1, whose profile has no activation_schedule" in world.replies(cmd_id)[0]["message"]


# -- taken back -----------------------------------------------------------------------------------------------


def cancel(world):
    reply = world.ask_at_the_gateway("campaign.cancel", {"campaign_id": "c1"})
    return reply.status, reply.code


def test_cancel_clears_the_schedule_and_reads_it_back(disk):
    world = the_world(disk)
    submit(world)
    run_until_armed(world)
    assert cancel(world) == ("done", None)
    assert ended(world) == ("cancelled", None)
    assert world.now_s < 300
    assert world.meters["MTR1"].schedule.executions == ()
    world.meters["MTR1"].settle(10 * AT_S)
    assert history(world).activations == 0


def test_a_cancelled_order_ends_only_when_the_meter_has_shown_that_nothing_is_armed(disk):
    """It is silent for a quarter of an hour; the gateway restarts meanwhile."""
    silent = Faults(mishaps=(Mishap(What.SCHEDULED, 1, Then.FALL_SILENT, 900.0),))
    world = the_world(disk, faults=silent)
    submit(world, "2026-01-01T00:40:00Z")
    world.run(lambda: history(world).count(What.SCHEDULED) == 1 and world.job()["state"] == "waiting")
    assert cancel(world) == ("done", None)
    world.run(lambda: world.now_s > 400)
    assert world.campaign()["state"] == "cancelling"
    world.cut_power()
    world.run(lambda: world.now_s > 700)
    assert world.job()["state"] == "waiting"
    assert ended(world) == ("cancelled", None)
    assert world.now_s < 1600
    assert world.meters["MTR1"].schedule.executions == ()


def test_an_armed_meter_that_stays_silent_is_told_as_it_is(disk):
    """Nobody can clear it, and nobody can say what it did."""
    silent = Mishap(What.SCHEDULED, 1, Then.FALL_SILENT, 1e9)
    world = the_world(disk, faults=Faults(mishaps=(silent,), activation_ignored=True))
    submit(world)
    world.run(lambda: history(world).count(What.SCHEDULED) == 1)
    assert cancel(world) == ("done", None)
    world.run(lambda: world.job()["state"] == "uncertain", limit_s=2 * AT_S)
    assert world.now_s > AT_S + 300


def test_a_cancel_when_the_time_has_come_is_refused_and_the_outcome_is_told(disk):
    world = the_world(disk)
    submit(world)
    world.run(lambda: world.job().get("state") in {"activating", "confirming"})
    assert AT_S - LEAD_S <= world.now_s < AT_S
    assert cancel(world) == ("rejected", "E_STATE")
    assert ended(world) == ("updated", None)


def test_a_meter_that_refuses_to_be_cleared_runs_the_image_and_that_is_told(disk):
    world = the_world(disk, faults=Faults(clearing_refused=12))
    submit(world)
    run_until_armed(world)
    assert cancel(world) == ("done", None)
    world.run(lambda: "refuses to have that taken back" in world.job()["message"])
    assert ended(world) == ("updated", None)
    assert world.campaign()["state"] == "succeeded"


def test_a_pause_takes_nothing_out_of_the_meter(disk):
    world = the_world(disk)
    submit(world)
    run_until_armed(world)
    assert world.ask_at_the_gateway("campaign.pause", {"campaign_id": "c1"}).status == "done"
    assert ended(world) == ("updated", None)


def test_a_paused_campaign_arms_nothing(disk):
    world = the_world(disk, replace(PLAIN, verify_s=300.0))
    submit(world, "2026-01-01T00:40:00Z")
    world.run(lambda: world.job().get("state") == "verifying")
    assert world.ask_at_the_gateway("campaign.pause", {"campaign_id": "c1"}).status == "done"
    world.run(lambda: world.now_s > 600)
    assert history(world).count(What.SCHEDULED) == 0
    assert world.ask_at_the_gateway("campaign.resume", {"campaign_id": "c1"}).status == "done"
    assert ended(world) == ("updated", None)


# -- what breaks in between -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def armed_at_commit():
    """How many commits there were when the time had just been written."""
    with memory_directory() as base:
        world = the_world(base)
        submit(world)
        world.run(lambda: history(world).count(What.SCHEDULED) == 1)
        return world.power.commits


@pytest.mark.parametrize("nth", range(-3, 6))
@pytest.mark.parametrize("then_at_once_again", [False, True])
def test_the_power_fails_around_the_writing_of_the_schedule(disk, armed_at_commit, nth, then_at_once_again):
    """After a commit; or after that and, when the gateway is back, before the next one. Activated once all the same."""
    first = armed_at_commit + nth
    cuts = {first, first + 1} if then_at_once_again else {first}
    world = the_world(disk, power_fails_at=frozenset(cuts))
    submit(world)
    assert ended(world) == ("updated", None)
    assert world.power.cuts == len(cuts)
    assert activated_at(world) == [AT_S]
    assert history(world).initiates == 1
    assert max(history(world).blocks.values()) == 1


@pytest.mark.parametrize("nth", range(1, 5))
def test_the_power_fails_while_an_armed_meter_is_taken_back(disk, nth):
    world = the_world(disk)
    submit(world)
    run_until_armed(world)
    assert cancel(world) == ("done", None)
    world.power.fails_at = frozenset({world.power.commits + nth, world.power.commits + nth + 1})
    assert ended(world) == ("cancelled", None)
    assert world.power.cuts
    assert world.meters["MTR1"].schedule.executions == ()
    world.meters["MTR1"].settle(10 * AT_S)
    assert history(world).activations == 0


@pytest.mark.parametrize("then", [Then.LOSE_REPLY, Then.FALL_SILENT, Then.REBOOT])
def test_the_answer_to_the_time_is_lost(disk, then):
    world = the_world(disk, faults=Faults(mishaps=(Mishap(What.SCHEDULED, 1, then, 300.0),)))
    submit(world)
    assert ended(world) == ("updated", None)
    assert activated_at(world) == [AT_S]
    assert history(world).count(What.SCHEDULED) == 1, "read back, not written again"


@pytest.mark.parametrize("seconds", [60.0, 6 * 3600.0])
def test_the_gateway_is_off_when_the_time_comes(disk, seconds):
    world = the_world(disk)
    submit(world)
    run_until_armed(world)
    world.run(lambda: world.now_s > AT_S - 400)
    world.shut_down()
    for clock in world._clocks.values():
        clock.advance(400 + seconds)
    world._now_s += 400 + seconds
    assert ended(world) == ("updated", None)
    assert activated_at(world) == [AT_S]
    assert world.job()["activated_at"] == "2026-01-01T00:20:00.000Z"


def test_a_meter_that_lost_its_image_while_the_gateway_was_off_is_cleared_and_sent_it_again(disk):
    world = the_world(disk)
    submit(world)
    run_until_armed(world)
    world.cut_power()
    world.meters["MTR1"].image._forget(world.meters["MTR1"].image.status.NOT_INITIATED)
    assert ended(world) == ("updated", None)
    assert history(world).initiates == 2
    assert history(world).count(What.SCHEDULED) == 3, "armed, cleared, armed"
    assert activated_at(world) == [AT_S]


def test_a_schedule_that_somebody_changed_is_cleared_and_nothing_is_activated(disk):
    world = the_world(disk)
    submit(world)
    run_until_armed(world)
    world.cut_power()
    world.meters["MTR1"].schedule.executions = (once(wall("2026-01-01T00:15")),)
    assert ended(world) == ("failed", "T_ACTIVATE")
    assert "shows 2026-01-01 00:15:00, written was 2026-01-01 00:20:00" in world.job()["message"]
    assert world.meters["MTR1"].schedule.executions == ()
    assert history(world).activations == 0


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_schedule_that_is_out_of_reach_since_the_configuration_was_changed_is_told(disk, cancelled):
    world = the_world(disk)
    submit(world)
    run_until_armed(world)
    world._sims[0].profile = replace(PROFILE, activation_schedule="", activation_timezone="")
    world.config = world._make_config()
    world.cut_power()
    if cancelled:
        assert cancel(world) == ("done", None)
    assert ended(world) == ("failed", "T_UNKNOWN")
    told = "the meter may run the image by itself at 2026-01-01 00:20:00 UTC"
    assert world.job()["message"].startswith(told)


def test_a_schedule_of_an_earlier_order_is_cleared_before_another_image_is_begun(disk):
    """The first order was given up as unknown by a configuration that no longer had the meter."""
    world = the_world(disk)
    submit(world)
    run_until_armed(world)
    world.store.end_orphans([])
    world.run_until_told()
    assert (world.job()["state"], world.job()["code"]) == ("failed", "T_UNKNOWN")
    world.submit("c2")
    world.run_until_told("c2")
    assert world.job(campaign_id="c2")["state"] == "updated"
    assert world.meters["MTR1"].schedule.executions == ()
    assert activated_at(world) == pytest.approx([activated_at(world)[0]])
    assert activated_at(world)[0] < AT_S


def test_another_image_for_the_very_time_that_an_earlier_order_left_armed(disk):
    """What is armed then is the image of before: it is cleared, and the meter never runs it."""
    world = the_world(disk)
    submit(world)
    run_until_armed(world)
    world.store.end_orphans([])
    world.run_until_told()
    submit(world, campaign_id="c2", identifier="FW-B")
    world.run_until_told("c2", limit_s=AT_S + 600)
    assert world.job(campaign_id="c2")["state"] == "updated"
    assert history(world).count(What.INITIATE) == 2
    assert activated_at(world) == [AT_S]


def test_the_clock_of_the_gateway_jumps_over_the_time(disk):
    """Set six hours ahead while the meter waits: the gateway finds the old version, and the meter must not run the new
    one later."""
    world = the_world(disk)
    submit(world)
    run_until_armed(world)
    for clock in world._clocks.values():
        clock._start += timedelta(hours=6)
    assert ended(world) == ("failed", "T_ACTIVATE")
    assert datetime.fromisoformat(world.job()["activated_at"]) == datetime(2026, 1, 1, 0, 20, tzinfo=UTC)
    world.meters["MTR1"].settle(10 * AT_S)
    assert history(world).activations == 0
