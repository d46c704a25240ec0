"""What it means that an exchange failed or was refused: another try and when, or the end of the job, in words that name
the setting which it may be.
"""

from __future__ import annotations

from gateway.errors import ADVICE, Code
from gateway.model import JobState
from gateway.transfer import schedule
from gateway.transfer.procedure import (
    CONFIRM_POLL_S,
    activation_timeout_s,
    may_verify_still,
    since_activation,
)
from gateway.transfer.steps import Failed, Goal, Item, MeterView, Wait

UNCERTAIN_POLL_S = 900.0
UNCERTAIN_TIMEOUT_S = 24 * 3600.0
MAX_TRIES = 6
MAX_LINE_TRIES = 120
LINE_RETRY_S = 60.0
"""About two hours in all."""
FIRST_RETRY_S = 10.0
LAST_RETRY_S = 300.0

_UNREADABLE = {
    Item.DEVICE_NAME: (Code.T_IDENTITY, "leave logical_device_name out for this meter"),
    Item.MATCH: (Code.T_IDENTITY, "correct `match` in the profile"),
    Item.VERSION: (Code.T_VERSION, "set firmware_object in the profile, or in the order"),
    Item.CLOCK: (Code.T_ACTIVATE, 'activation_clock = "skip" in the profile lets it be'),
    Item.SCHEDULE: (Code.T_ACTIVATE, "correct activation_schedule in the profile"),
    Item.SCRIPT: (Code.T_ACTIVATE, "correct activation_schedule in the profile"),
    Item.ACTIVATE_INFO: (Code.T_IDENTIFIER, 'set a7 = "skip" in the profile of this model'),
}

_NOT_THERE = frozenset({4, 9, 11})
"""object-undefined, object-class-inconsistent, object-unavailable."""
_TEMPORARY_FAILURE = 2


def after_error(
    goal: Goal, seen: MeterView, *, code: Code, message: str, retryable: bool, tries: int
) -> Wait | Failed:
    """What an error of the line or the meter means for the transfer. `tries`: failures in a row, this one
    included, of the line or of the meter. Once activation was decided only time ends the search for the truth."""
    if seen.record is not None and seen.record.activate_decided:
        refused = code is Code.T_SECURITY and not retryable
        return _after_lost_confirmation(goal, seen, code=code, message=message, refused=refused)
    if schedule.may_be_armed(goal, seen):
        refused = code is Code.T_SECURITY and not retryable
        pause_s = _pause_s(tries, LAST_RETRY_S)
        return schedule.after_error(seen, code=code, message=message, refused=refused, pause_s=pause_s)
    if code is Code.T_PORT and retryable:
        return _await_line(message, tries)
    if not retryable or (tries >= MAX_TRIES and not may_verify_still(goal, seen)):
        return Failed(code, message)
    delay_s = _pause_s(tries, LAST_RETRY_S)
    return Wait(delay_s, f"{message}; next try in {delay_s:.0f} s", JobState.WAITING)


def _await_line(message: str, tries: int) -> Wait | Failed:
    """An adapter that was pulled out is put back by somebody: that takes longer than a meter needs to answer."""
    if tries >= MAX_LINE_TRIES:
        return Failed(Code.T_PORT, message)
    delay_s = _pause_s(tries, LINE_RETRY_S)
    return Wait(delay_s, f"{message}; next try in {delay_s:.0f} s", JobState.WAITING)


def _pause_s(tries: int, longest_s: float) -> float:
    return float(min(FIRST_RETRY_S * 2 ** min(tries - 1, 10), longest_s))


def refused(item: Item, result: int) -> Failed:
    """The meter answered the reading of `item` with data-access-result `result`, and not for the moment only."""
    code, remedy = _UNREADABLE.get(item, (Code.T_ASSOCIATION, "check the meter's client and its rights"))
    if item not in _UNREADABLE and result in _NOT_THERE:
        remedy = "set image_object in the profile"
    return Failed(code, f"the meter refuses to tell its {item.value} (data-access-result {result}): {remedy}")


def block_refused(goal: Goal, seen: MeterView, number: int, result: int) -> str:
    """The meter answered block `number` with action-result `result`: in words, with the setting that it may be."""
    assert seen.record is not None
    message = f"the meter refuses block {number} (action-result {result})"
    size = seen.record.block_size
    last = number == (seen.record.image_size - 1) // size
    if result == _TEMPORARY_FAILURE:
        return message
    if last and seen.record.image_size % size:
        form = "was padded" if goal.profile.pad_last_block else "is shorter than the others"
        return f"{message}: it is the last and {form}, see pad_last_block in the profile"
    told = "" if seen.block_size is None else f", image_block_size is {seen.block_size}"
    return f"{message}: blocks have {size} octets{told}, see block_size in the profile"


def _after_lost_confirmation(
    goal: Goal, seen: MeterView, *, code: Code, message: str, refused: bool
) -> Wait | Failed:
    """Silent, or not at its usual association yet: some meters come back at their default one. Keys that it `refused`
    are never tried again, whatever for."""
    since_s = since_activation(seen)
    if refused:
        return Failed(Code.T_UNKNOWN, f"activation was sent, then {code}: {message} ({ADVICE[code]})")
    if since_s > UNCERTAIN_TIMEOUT_S:
        return Failed(
            Code.T_UNKNOWN, f"activation was sent, its outcome could not be read in 24 h: {message}"
        )
    if since_s > activation_timeout_s(goal, seen):
        return Wait(UNCERTAIN_POLL_S, f"outcome not known: {message}", JobState.UNCERTAIN)
    return Wait(CONFIRM_POLL_S, f"the outcome cannot be read yet: {message}", JobState.CONFIRMING)
