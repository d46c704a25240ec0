"""Times for a meter's own schedule, and what may be done while it may have one: the pure part."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Code
from gateway.model import ImageTransferStatus, JobState, Profile, TransferRecord
from gateway.transfer import (
    ArmSchedule,
    ClearSchedule,
    Done,
    Failed,
    Goal,
    LeaveToMeter,
    MeterView,
    ScheduleEntry,
    Script,
    Survey,
    Wait,
    after_error,
    next_step,
)
from gateway.transfer.schedule import LEAD_S, clock_off_s, comes_twice, take_schedule, wall_of

AT = datetime(2026, 11, 23, 2, tzinfo=UTC)
PROFILE = Profile(activation_schedule="0-0:15.0.2.255", activation_timezone="Europe/Helsinki")
GOAL = Goal("00" * 32, 1000, b"FW", PROFILE, "2.0.0", activate_at=AT)
RECORD = TransferRecord("00" * 32, b"FW", 1000, 100, verifies=1)
OURS = ScheduleEntry(wall_of(AT, "Europe/Helsinki"), "ours")
ZONES = st.sampled_from(["UTC", "Europe/Helsinki", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kolkata"])
MOMENTS = st.datetimes(
    datetime.fromisoformat("2020-01-01"), datetime.fromisoformat("2037-12-31"), timezones=st.just(UTC)
)


@given(MOMENTS, ZONES)
def test_what_a_clock_shows_once_is_that_moment(moment, zone):
    wall = wall_of(moment, zone)
    if not comes_twice(moment, zone):
        assert wall.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC) == moment


@given(MOMENTS, ZONES, st.integers(-86400, 86400))
def test_a_clock_is_off_by_what_it_is_ahead(moment, zone, ahead_s):
    shown = wall_of(moment, zone) + timedelta(seconds=ahead_s)
    assert clock_off_s(shown, moment, zone) == ahead_s


def verified(**changes):
    """A meter that has verified the image, all of it seen in this association, an hour before its time."""
    view = MeterView(
        now_s=1000.0, version="1.0.0", version_before="1.0.0", status=ImageTransferStatus.VERIFICATION_SUCCESSFUL,
        activate_info=(), record=RECORD, verified_at_s=900.0, clock_off_s=0.0, schedule=(),
        script=Script("0-0:10.0.107.255", 1), now=AT - timedelta(hours=1),
    )  # fmt: skip
    for name, value in changes.items():
        setattr(view, name, value)
    return view


def scheduled(**changes):
    return verified(record=replace(RECORD, scheduled_at=AT), **changes)


def test_a_verified_meter_is_armed_then_read_then_left_alone():
    assert isinstance(next_step(GOAL, verified()), ArmSchedule)
    written = scheduled(schedule=None)
    assert isinstance(next_step(GOAL, written), Survey)
    written.schedule = (OURS,)
    assert take_schedule(GOAL, written)
    waits = next_step(GOAL, written)
    assert isinstance(waits, Wait)
    assert waits.state is JobState.AWAITING_ACTIVATION


@pytest.mark.parametrize(("left_s", "leaves"), [(LEAD_S + 1, False), (LEAD_S, True), (-7200.0, True)])
def test_from_its_lead_on_the_meter_is_left_to_itself(left_s, leaves):
    view = scheduled(armed=True, now=AT - timedelta(seconds=left_s))
    step = next_step(GOAL, view)
    assert isinstance(step, LeaveToMeter) is leaves
    if isinstance(step, LeaveToMeter):
        assert step.left_s == left_s


def test_what_may_be_armed_is_cleared_before_a_job_ends():
    taken_back = scheduled(schedule=None, withdrawn=True)
    assert isinstance(next_step(GOAL, taken_back), Survey)
    taken_back.schedule = (OURS,)
    assert isinstance(next_step(GOAL, taken_back), ClearSchedule)
    taken_back.schedule, taken_back.record = (), RECORD
    assert next_step(GOAL, taken_back) == Done(JobState.CANCELLED, "")


@given(st.integers(1, 100_000), st.sampled_from([Code.T_SILENT, Code.T_PORT, Code.T_ASSOCIATION]))
def test_no_number_of_failures_ends_a_job_whose_meter_may_run_its_image(tries, code):
    step = after_error(
        GOAL, scheduled(), code=code, message="x", retryable=code is Code.T_SILENT, tries=tries
    )
    assert isinstance(step, Wait)
    assert step.delay_s <= 300


def test_keys_that_are_refused_are_not_tried_again_and_what_may_happen_is_told():
    step = after_error(GOAL, scheduled(), code=Code.T_SECURITY, message="wrong tag", retryable=False, tries=1)
    assert isinstance(step, Failed)
    assert step.code is Code.T_UNKNOWN
    assert "may run the image by itself at 2026-11-23 02:00:00 UTC" in step.message


def test_a_time_of_an_earlier_order_is_cleared_before_this_one_goes_on():
    earlier = verified(record=replace(RECORD, scheduled_at=AT + timedelta(days=1)), schedule=None)
    immediately = replace(GOAL, activate_at=None)
    assert isinstance(next_step(immediately, earlier), Survey)
    earlier.schedule = (replace(OURS, wall=OURS.wall and OURS.wall + timedelta(days=1)),)
    assert isinstance(next_step(immediately, earlier), ClearSchedule)


def test_the_same_time_with_another_image_is_of_an_earlier_order_too():
    """Two campaigns for three at night, of which the first ended without a word from its meter."""
    other = replace(RECORD, sha256="11" * 32, identifier=b"OLD", scheduled_at=AT)
    earlier = verified(record=other, schedule=(OURS,))
    assert take_schedule(GOAL, earlier)
    assert not earlier.armed
    assert isinstance(next_step(GOAL, earlier), ClearSchedule)
    earlier.now = AT - timedelta(seconds=LEAD_S)
    assert not isinstance(next_step(GOAL, earlier), LeaveToMeter)
