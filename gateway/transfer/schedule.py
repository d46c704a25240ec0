"""Activation by the meter's own schedule (class 22): the meter is given the time, shows that it has it, and runs the
image by itself; this gateway looks what became of it, as after an activation that it ordered.

That a time is to be written is durable before it leaves (`TransferRecord.scheduled_at`), and from then on the meter may
have it, until reading its schedule back shows that it has not. So a transfer never ends, and nothing in the meter is
changed, before a schedule that is not wanted any more was cleared and read back. From LEAD_S before the time the meter
is left to itself: nobody could say any more who was first.

A schedule has no zone: it goes by what the meter's clock shows. That is known from the profile and compared with the
clock itself before anything is sent.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from gateway.errors import ADVICE, Code
from gateway.model import ClockPolicy, ImageTransferStatus, JobState
from gateway.transfer.steps import (
    ArmSchedule,
    CheckHealth,
    ClearSchedule,
    Done,
    Failed,
    Goal,
    Item,
    LeaveToMeter,
    MeterView,
    Script,
    SetScript,
    Step,
    Survey,
    Wait,
    same_image,
)

LEAD_S = 180.0
"""More than the clocks may differ, and an exchange takes."""
CLOCK_TOLERANCE_S = 120.0
LOOK_AGAIN_S = 3600.0
"""The longest wait for the time: this gateway's clock may be set meanwhile."""
NO_CLOCK_S = 60.0
LONGEST_PAUSE_S = 300.0


# -- times ----------------------------------------------------------------------------------------------------


def wall_of(moment: datetime, zone: str) -> datetime:
    """What clocks in `zone` show then, without their zone."""
    return moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)


def comes_twice(moment: datetime, zone: str) -> bool:
    """Whether clocks in `zone` show that time twice, as they do once a year."""
    wall = wall_of(moment, zone)
    first, second = (wall.replace(tzinfo=ZoneInfo(zone), fold=fold) for fold in (0, 1))
    return first.utcoffset() != second.utcoffset()


def clock_off_s(wall: datetime | None, now: datetime, zone: str) -> float:
    """By how much a clock is ahead that shows `wall` at `now`; infinite where it shows no time."""
    return float("inf") if wall is None else (wall - wall_of(now, zone)).total_seconds()


def _shown(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


# -- what may be armed ----------------------------------------------------------------------------------------


def may_be_armed(goal: Goal, seen: MeterView) -> bool:
    """The time of this order may stand in the meter's schedule, for this order's image, and the meter is not left to
    it yet."""
    record = seen.record
    if record is None or record.activate_decided or record.scheduled_at is None:
        return False
    return record.scheduled_at == goal.activate_at and same_image(goal, record)


def take_schedule(goal: Goal, seen: MeterView) -> bool:
    """The meter's schedule was read. Whether anything is armed in it. The time of this order there is good only where
    the meter has the image as well."""
    armed = _armed(goal, seen)
    ours = _ours(goal) in [entry.wall for entry in seen.schedule or ()]
    has_image = seen.status is ImageTransferStatus.VERIFICATION_SUCCESSFUL
    seen.armed = may_be_armed(goal, seen) and ours and has_image
    if armed and may_be_armed(goal, seen) and not ours:
        seen.schedule_wrong = f"the meter's schedule shows {', '.join(armed)}, written was {_ours(goal)}"
    return bool(armed)


def _ours(goal: Goal) -> datetime | None:
    return goal.activate_at and wall_of(goal.activate_at, goal.profile.activation_timezone)


def _armed(goal: Goal, seen: MeterView) -> list[str]:
    """Times that are still to come, or may be, in words."""
    over = None
    if seen.now is not None:
        over = wall_of(seen.now, goal.profile.activation_timezone) - timedelta(seconds=CLOCK_TOLERANCE_S)
    return [
        entry.shown
        for entry in seen.schedule or ()
        if entry.wall is None or over is None or entry.wall >= over
    ]


# -- the way to it --------------------------------------------------------------------------------------------


def too_late(goal: Goal, seen: MeterView) -> Failed | None:
    """A time that comes before the meter could be given it."""
    left_s = _left_s(goal, seen)
    if goal.activate_at is None or left_s is None or left_s > LEAD_S or may_be_armed(goal, seen):
        return None
    return Failed(Code.W_EXPIRED, f"the meter was to run the image by itself at {_shown(goal.activate_at)}")


def not_possible(goal: Goal, seen: MeterView, state: JobState | None = None) -> Survey | Failed | None:
    """Why the meter cannot be given the time, or what has to be read to know; None: it can."""
    profile = goal.profile
    if not _has_schedule(goal):
        return _schedule_gone(goal, seen)
    if profile.activation_clock is ClockPolicy.CHECK and seen.now is not None:
        if seen.clock_off_s is None:
            return Survey(Item.CLOCK, state)
        if abs(seen.clock_off_s) > CLOCK_TOLERANCE_S:
            return Failed(Code.T_ACTIVATE, _wrong_clock(seen.clock_off_s, profile.activation_timezone))
    if seen.schedule is None:
        return Survey(Item.SCHEDULE, state)
    if seen.schedule_wrong:
        return Failed(Code.T_ACTIVATE, seen.schedule_wrong)
    armed = _armed(goal, seen)
    if armed and not may_be_armed(goal, seen) and not goal.take_over:
        return Failed(Code.T_FOREIGN, f"a schedule is armed in the meter already: {', '.join(armed)}")
    return None


def _schedule_gone(goal: Goal, seen: MeterView) -> Failed:
    """The configuration was changed since the order was accepted."""
    gone = "its profile has no activation_schedule any more"
    if not may_be_armed(goal, seen) or goal.activate_at is None:
        return Failed(Code.T_ACTIVATE, gone)
    return Failed(
        Code.T_UNKNOWN, f"the meter may run the image by itself at {_shown(goal.activate_at)}: {gone}"
    )


def arm(goal: Goal, seen: MeterView, wait_s: float) -> Step:
    """The image is verified and the right one: what leads to the meter having its time."""
    if seen.activation_waits or seen.now is None:
        why = seen.activation_waits or "the clock is not trusted"
        return Wait(wait_s, why, JobState.AWAITING_ACTIVATION)
    if obstacle := not_possible(goal, seen):
        return obstacle
    wanted = Script(goal.profile.activation_script, goal.profile.activation_selector)
    if seen.script is None:
        return Survey(Item.SCRIPT)
    if seen.script == wanted:
        return ArmSchedule()
    if not seen.script_set:
        return SetScript(wanted)
    return Failed(Code.T_ACTIVATE, f"{script_differs(seen, wanted)}, and stays so after it was set")


def script_differs(seen: MeterView, wanted: Script) -> str:
    found = (
        "another script" if seen.script is None else f"script {seen.script.selector} of {seen.script.table}"
    )
    return (
        f"the meter's schedule runs {found}, not {wanted.selector} of {wanted.table}"
        " (activation_selector, activation_script)"
    )


def _wrong_clock(off_s: float, zone: str) -> str:
    if off_s == float("inf"):
        return "the meter's clock shows no time"
    way = "ahead of" if off_s > 0 else "behind"
    return (
        f"the meter's clock is {abs(off_s):.0f} s {way} the time in {zone}: set it, or say in the profile what zone it"
        " shows (activation_timezone)"
    )


def _left_s(goal: Goal, seen: MeterView) -> float | None:
    if goal.activate_at is None or seen.now is None:
        return None
    return (goal.activate_at - seen.now).total_seconds()


# -- while it may be armed ------------------------------------------------------------------------------------


def follow(goal: Goal, seen: MeterView) -> LeaveToMeter | Wait | None:
    """What comes before everything else then. None: the meter has to be looked at."""
    if not may_be_armed(goal, seen):
        return None
    assert goal.activate_at is not None
    left_s = _left_s(goal, seen)
    if left_s is not None and left_s <= LEAD_S:
        return LeaveToMeter(left_s)
    if not seen.armed or (seen.withdrawn and not seen.clearing_refused):
        return None
    wait_s = NO_CLOCK_S if left_s is None else min(left_s - LEAD_S, LOOK_AGAIN_S)
    return Wait(wait_s, what_is_armed(goal, seen), JobState.AWAITING_ACTIVATION)


def what_is_armed(goal: Goal, seen: MeterView) -> str:
    """Of a meter that has the time of this order, in words."""
    assert goal.activate_at is not None
    told = f"the meter runs the image by itself at {_shown(goal.activate_at)}"
    return f"{told} and refuses to have that taken back" if seen.clearing_refused else told


def withdraw(goal: Goal, seen: MeterView) -> Step | None:
    """The order was taken back: its schedule is cleared and read back, and then it is cancelled."""
    if not seen.withdrawn or seen.clearing_refused:
        return None
    if not _has_schedule(goal):
        return _schedule_gone(goal, seen)
    return _clear(seen) or Done(JobState.CANCELLED, "")


def cleared_first(goal: Goal, seen: MeterView, step: Step) -> Step:
    """`step`, once no schedule of ours contradicts it: one of this order is cleared before it ends or the meter is
    changed, one of an earlier order before anything else of this one is done."""
    record = seen.record
    if record is None or record.scheduled_at is None or record.activate_decided or not _has_schedule(goal):
        return step
    match step:
        case Survey() | CheckHealth() | ArmSchedule() | ClearSchedule() | Failed(code=Code.T_IDENTITY):
            return step
        case Wait() | LeaveToMeter() | SetScript() if may_be_armed(goal, seen):
            return step
        case _:
            pass
    if first := _clear(seen):
        return first
    if isinstance(step, Done | Failed):
        return step
    return Failed(
        Code.T_ACTIVATE,
        f"a schedule is armed for {_shown(record.scheduled_at)}, and the meter refuses to clear it",
    )


def _has_schedule(goal: Goal) -> bool:
    return bool(goal.profile.activation_schedule)


def _clear(seen: MeterView) -> Survey | ClearSchedule | None:
    """None: there is nothing to clear, or the meter refuses."""
    if seen.record is None or seen.record.scheduled_at is None or seen.clearing_refused:
        return None
    return Survey(Item.SCHEDULE) if seen.schedule is None else ClearSchedule()


def cleared_at_last(goal: Goal, seen: MeterView) -> Survey | ClearSchedule | None:
    """What comes before it is said that the meter did not run its image: so that it does not later, should this
    gateway's clock have been wrong."""
    if goal.activate_at is None or seen.clearing_refused or not _has_schedule(goal):
        return None
    if seen.schedule is None:
        return Survey(Item.SCHEDULE, JobState.CONFIRMING)
    return ClearSchedule() if seen.schedule else None


def after_error(seen: MeterView, *, code: Code, message: str, refused: bool, pause_s: float) -> Wait | Failed:
    """While it may be armed only the time ends the trying, or keys that the meter `refused`."""
    assert seen.record is not None
    assert seen.record.scheduled_at is not None
    if refused:
        at = _shown(seen.record.scheduled_at)
        return Failed(
            Code.T_UNKNOWN,
            f"the meter may run the image by itself at {at}, then {code}: {message} ({ADVICE[code]})",
        )
    return Wait(pause_s, f"{message}; next try in {pause_s:.0f} s", JobState.WAITING)
