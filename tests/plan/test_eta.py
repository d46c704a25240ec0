"""When a campaign will have ended: lines side by side, nights one after the other, canaries that soak."""

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model import ActivateWhen, Campaign, Delivery, Job, JobState, PausedWhy, Window
from gateway.plan.eta import SETTLE_S, reckon, steady

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
SETTLE = timedelta(seconds=SETTLE_S)
HOUR = timedelta(hours=1)
NIGHT = Window("night", frozenset(range(7)), time(22), 5 * 3600.0, "UTC", drain_s=0.0)
DAWN = Window("dawn", frozenset(range(7)), time(4), 3600.0, "UTC", drain_s=0.0)
WINDOWS = {"night": NIGHT, "dawn": DAWN}
PACES = {"bus1": 100.0, "bus2": 200.0}
"""Of an image of 360,000 octets: an hour on bus1, half of it on bus2."""


def order(**changes):
    campaign = Campaign("c1", "0" * 64, b"FW", (), NOON, image_size=360_000)
    return replace(campaign, **changes)


def job(number=0, port="bus1", **changes):
    return Job("c1", f"MTR{number}", port, place=number, **changes)


def end(campaign, jobs, *, now=NOON, ahead_s=None, paces=PACES):
    return reckon(campaign, jobs, paces=paces, ahead_s=ahead_s or {}, windows=WINDOWS, now=now).end


def night(day, hours):
    return datetime(2026, 11, day, 22, tzinfo=UTC) + timedelta(hours=hours)


@pytest.mark.parametrize(
    ("campaign", "jobs", "expected"),
    [
        (order(), [job()], NOON + HOUR),
        (order(), [job(blocks_done=75, blocks_total=100)], NOON + HOUR / 4),
        (order(), [job(0), job(1)], NOON + 2 * HOUR),
        (order(), [job(0), job(1, "bus2")], NOON + HOUR),
        (order(delivery=Delivery.BROADCAST), [job(0), job(1), job(2)], NOON + HOUR),
        (order(), [job(0, delivery="broadcast, round 1"), job(1, delivery="broadcast, round 1")], NOON + HOUR),
        (order(), [job(state=JobState.VERIFYING, blocks_done=9, blocks_total=9)], NOON),
        (order(wave=1), [job(0, "bus1"), job(1, "bus2")], NOON + HOUR * 1.5 + SETTLE),
        (order(canary=1, canary_soak_s=86400), [job(0), job(1)], NOON + 26 * HOUR + SETTLE),
        (order(window="night"), [job()], night(23, 1)),
        (order(window="night"), [job(number) for number in range(6)], night(24, 1)),
        (order(activate_when=ActivateWhen.AT, activate_at=NOON + 9 * HOUR), [job()], NOON + 9 * HOUR),
        (order(activate_when=ActivateWhen.MANUAL), [job()], NOON + HOUR),
    ],
    ids=[
        "one meter", "a quarter is left", "one after the other on a line", "two lines side by side", "by broadcast",
        "a broadcast that is under way", "all blocks are there", "waves wait for each other", "canaries soak",
        "the window opens at night", "the sixth has the next night", "not before its time", "approved at once",
    ],
)  # fmt: skip
def test_a_campaign_ends_when_its_last_line_is_through(campaign, jobs, expected):
    assert end(campaign, jobs) == expected + SETTLE


def test_activation_has_the_next_opening_of_its_own_window():
    at_dawn = order(window="night", activate_when=ActivateWhen.WINDOW, activate_window="dawn")
    assert end(at_dawn, [job()]) == datetime(2026, 11, 24, 4, tzinfo=UTC) + SETTLE


def test_an_activation_that_does_not_fit_has_the_next_opening():
    late = datetime(2026, 11, 24, 2, 59, tzinfo=UTC)
    verified = job(state=JobState.AWAITING_ACTIVATION, blocks_done=9, blocks_total=9)
    assert end(order(window="night"), [verified], now=late) == night(24, 0) + SETTLE


def test_whoever_has_the_line_first_is_waited_for():
    assert end(order(), [job()], ahead_s={"bus1": 1800.0, "bus2": 9999.0}) == NOON + 1.5 * HOUR + SETTLE


def test_canaries_that_have_ended_soak_from_their_end():
    canary = job(0, state=JobState.UPDATED, finished_at=NOON - HOUR)
    soaking = order(canary=1, canary_soak_s=2 * 3600, paused=PausedWhy.SOAK)
    assert end(soaking, [canary, job(1)]) == NOON + 2 * HOUR + SETTLE


@pytest.mark.parametrize(
    ("campaign", "paces"),
    [
        (order(image_size=None), PACES),
        (order(dry_run=True), PACES),
        (order(), {}),
        (order(paused=PausedWhy.OPERATOR), PACES),
        (order(paused=PausedWhy.FAILURES), PACES),
        (order(paused=PausedWhy.CLOCK), PACES),
        (order(window="gone"), PACES),
        (order(image_size=2**29), {"bus1": 1e-9}),
    ],
)
def test_what_nobody_knows_is_not_made_up(campaign, paces):
    assert end(campaign, [job()], paces=paces) is None


def test_a_meter_that_gives_no_sign_ends_nobody_knows_when():
    silent = job(0, state=JobState.UNCERTAIN, blocks_done=9, blocks_total=9)
    assert end(order(), [silent]) is None
    assert end(order(), [silent, job(1)]) == NOON + HOUR + SETTLE


@pytest.mark.parametrize(
    ("before", "fresh", "told"),
    [
        (None, NOON + HOUR, NOON + HOUR),
        (NOON + HOUR, None, None),
        (NOON + HOUR, NOON + HOUR + timedelta(minutes=9), NOON + HOUR),
        (NOON + HOUR, NOON + 2 * HOUR, NOON + 2 * HOUR),
        (NOON + 100 * HOUR, NOON + 105 * HOUR, NOON + 100 * HOUR),
        (NOON - HOUR / 60, NOON + HOUR / 60, NOON + HOUR / 60),
    ],
)
def test_small_changes_are_not_told_anew(before, fresh, told):
    assert steady(before, fresh, NOON) == told


@given(
    jobs=st.lists(st.tuples(st.sampled_from(["bus1", "bus2"]), st.integers(0, 10)), min_size=1, max_size=8),
    window=st.sampled_from(["", "night"]),
    wave=st.integers(0, 4),
    less=st.integers(0, 7),
)
def test_less_work_never_ends_later(jobs, window, wave, less):
    campaign = order(window=window, wave=wave)
    many = [job(n, port, blocks_done=done, blocks_total=10) for n, (port, done) in enumerate(jobs)]
    number = less % len(many)
    fewer = [*many]
    fewer[number] = replace(many[number], blocks_done=10)
    assert NOON <= end(campaign, fewer) <= end(campaign, many)
