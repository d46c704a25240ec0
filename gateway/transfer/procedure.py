"""`next_step`: the Image Transfer procedure (Blue Book, class 18, "Image transfer" procedure; invariants 1 to 6 of
ARCHITECTURE.md), decided afresh before each exchange from what is seen of the meter and what is durable.

The order is: who is there and what does it run, may it be updated, what does its status say, initiate, blocks,
repair by bitmap, verify, is it our image, activate, wait out the reboot, confirm by version. Resuming is no
special case: it is what happens when the record and the meter agree.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from gateway.errors import Code
from gateway.model import A7Policy, BitmapOrder, ImageTransferStatus, JobState, Match, TransferRecord
from gateway.transfer import schedule
from gateway.transfer.dry_run import rehearsed
from gateway.transfer.health import check_after, check_before, updated
from gateway.transfer.steps import (
    Activate,
    ActivateEntry,
    Done,
    Enable,
    Failed,
    Goal,
    Initiate,
    Item,
    MeterView,
    SendBlock,
    Step,
    Survey,
    Verify,
    Wait,
    same_image,
)

SHORTEST_WAIT_S = 0.05
"""What is left of a wait may be too little for a float to add to the time: that would wait for ever."""
ERASE_TIMEOUT_S = 90.0
"""Flash erase: 5 s is common, up to 60 s was seen in the field."""
ERASE_POLL_S = 5.0
REFUSED_VERIFY_TIMEOUT_S = 60.0
"""How long the status may still turn after verify was answered with an error (some meters do, and are fine)."""
AWAIT_ACTIVATION_S = 60.0
CONFIRM_POLL_S = 10.0
MAX_IDLE_ROUNDS = 3
MAX_VERIFIES = 3


_S = ImageTransferStatus
_AT_REST = frozenset(
    {_S.NOT_INITIATED, _S.VERIFICATION_FAILED, _S.ACTIVATION_SUCCESSFUL, _S.ACTIVATION_FAILED}
)
"""In these nothing is under way that an initiate would destroy."""


def next_step(goal: Goal, seen: MeterView) -> Step:
    """The one thing to do now. Pure; called before every exchange."""
    step = schedule.cleared_first(goal, seen, _next_step(goal, seen))
    return rehearsed(goal, step) if goal.dry_run else step


def _next_step(goal: Goal, seen: MeterView) -> Step:
    record = seen.record
    if record is not None and record.activate_decided:
        return _confirm(goal, seen)
    return (
        schedule.follow(goal, seen)
        or _identify(goal, seen)
        or schedule.withdraw(goal, seen)
        or _compare_version(goal, seen)
        or schedule.too_late(goal, seen)
        or check_before(goal, seen, _until_initiated(seen))
        or _await_erase(goal, seen)
        or _follow_status(goal, seen)
    )


# -- before anything is touched -------------------------------------------------------------------------------


def _identify(goal: Goal, seen: MeterView) -> Step | None:
    """Invariant 5. Name and model are read again in each association and after verification, so before initiate
    and before activate. An image with a manifest goes into the models that it names alone, whatever was configured
    since it was ordered."""
    if goal.profiles and goal.profile.name not in goal.profiles:
        expected = ", ".join(goal.profiles)
        return Failed(
            Code.F_POLICY, f"the manifest is for profiles {expected}, the meter has {goal.profile.name}"
        )
    if goal.logical_device_name and seen.device_name is None:
        return Survey(Item.DEVICE_NAME, _until_initiated(seen))
    if goal.logical_device_name and seen.device_name != goal.logical_device_name:
        found, expected = seen.device_name, goal.logical_device_name
        return Failed(Code.T_IDENTITY, f"the meter calls itself {found!r}, configured is {expected!r}")
    return _match_model(goal, seen, goal.profile.match) if goal.profile.match else None


def _match_model(goal: Goal, seen: MeterView, match: Match) -> Step | None:
    if seen.match is None:
        return Survey(Item.MATCH, _until_initiated(seen))
    if not fnmatchcase(seen.match, match.pattern):
        found = f"{match.object} of the meter is {seen.match!r}"
        return Failed(Code.T_IDENTITY, f"{found}, profile {goal.profile.name} wants {match.pattern!r}")
    return None


def _compare_version(goal: Goal, seen: MeterView) -> Step | None:
    if seen.version is None:
        return Survey(Item.VERSION, _until_initiated(seen))
    if goal.expect_version and seen.version == goal.expect_version:
        return Done(JobState.SKIPPED, f"the meter already runs {seen.version}")
    if goal.from_versions and not any(fnmatchcase(seen.version, known) for known in goal.from_versions):
        expected = ", ".join(goal.from_versions)
        return Failed(
            Code.F_POLICY, f"the meter runs {seen.version!r}, the manifest is for those with {expected}"
        )
    return None


def _follow_status(goal: Goal, seen: MeterView) -> Step:
    if seen.status is None:
        return Survey(Item.STATUS, _until_initiated(seen))
    record = seen.record
    if record is None:
        return _begin(goal, seen)
    if not same_image(goal, record):
        return _over_our_last(goal, seen, record)
    match seen.status:
        case _S.INITIATED if record.verifies and seen.verify_answered:
            return _await_verification(goal, seen)
        case _S.INITIATED:
            return _resume(goal, seen, record) or _send(goal, seen)
        case _S.VERIFICATION_INITIATED:
            return _await_verification(goal, seen)
        case _S.VERIFICATION_SUCCESSFUL if record.verifies:
            return _activate(goal, seen)
        case _S.VERIFICATION_FAILED if record.verifies and record.initiates:
            return Failed(Code.T_VERIFY, "the meter found the image wrong (status: verification failed)")
        case status if status in _AT_REST:
            return _initiate(goal, seen, f"the meter has no image of ours (status {status.value})")
        case status if not record.initiate_answered and record.initiated_over == status:
            return _initiate(goal, seen, "the last initiate did not reach the meter")
        case status:
            return _foreign_or(goal, seen, f"status {status.value} which this gateway did not cause")


def _begin(goal: Goal, seen: MeterView) -> Step:
    """No record of ours: the first initiate of this campaign in this meter."""
    assert seen.status is not None
    if seen.status in _AT_REST:
        return _initiate(goal, seen, "first")
    return _foreign_or(goal, seen, f"status {seen.status.value} without a transfer of this gateway")


def _over_our_last(goal: Goal, seen: MeterView, record: TransferRecord) -> Step:
    """The record is of another image. What the meter holds may be erased if it is that one; else somebody was here
    since."""
    ours = "the last transfer of this gateway here was of another image"
    match seen.status:
        case status if status in _AT_REST:
            return _initiate(goal, seen, ours)
        case _S.INITIATED if goal.profile.bitmap is BitmapOrder.IGNORE:
            return _initiate(goal, seen, ours)
        case _S.INITIATED if seen.blocks is None:
            return Survey(Item.BITMAP)
        case _S.INITIATED if not seen.conflict:
            return _initiate(goal, seen, ours)
        case _S.VERIFICATION_SUCCESSFUL if record.verifies and seen.activate_info is None:
            return Survey(Item.ACTIVATE_INFO)
        case _S.VERIFICATION_SUCCESSFUL if record.verifies and _names(seen, record):
            return _initiate(goal, seen, ours)
        case status:
            assert status is not None
            return _foreign_or(
                goal, seen, f"status {status.value} and not the image that this gateway sent last"
            )


def _names(seen: MeterView, record: TransferRecord) -> bool:
    return seen.activate_info == (ActivateEntry(record.image_size, record.identifier),)


def _foreign_or(goal: Goal, seen: MeterView, found: str) -> Step:
    if goal.take_over and seen.status is not _S.ACTIVATION_INITIATED:
        return _initiate(goal, seen, f"taken over: {found}")
    return Failed(Code.T_FOREIGN, f"the meter has {found}")


def _initiate(goal: Goal, seen: MeterView, why: str) -> Step:
    """Initiate erases (invariant 3), so everything that can be known before is asked before."""
    record = seen.record
    if record is not None and record.initiates >= goal.profile.max_initiates:
        spent = f"{record.initiates} initiates are spent (max_initiates)"
        return Failed(Code.T_INCOMPLETE, f"the transfer would have to begin anew, {spent}: {why}")
    if not goal.identifier:
        return Failed(Code.T_IDENTIFIER, f"the image has no identifier at its {goal.profile.identifier}")
    if goal.activate_at is not None and (
        obstacle := schedule.not_possible(goal, seen, _until_initiated(seen))
    ):
        return obstacle
    if seen.enabled is None:
        return Survey(Item.ENABLED, _until_initiated(seen))
    may_enable = goal.profile.enable_transfer and not seen.enable_tried
    if not seen.enabled and may_enable and not goal.dry_run:
        return Enable(_until_initiated(seen))
    if not seen.enabled and seen.enable_tried:
        return Failed(
            Code.T_DISABLED, "image_transfer_enabled was set to TRUE, and the meter leaves it FALSE"
        )
    if not seen.enabled and not may_enable:
        remedy = "where the meter lets a client set it, enable_transfer in the profile does so"
        return Failed(Code.T_DISABLED, f"image_transfer_enabled is FALSE: {remedy}")
    if seen.block_size is None:
        return Survey(Item.BLOCK_SIZE, _until_initiated(seen))
    block_size = goal.profile.block_size or seen.block_size
    if block_size == 0:
        return Failed(Code.T_BLOCK, "the meter's image_block_size is 0 and the profile gives none")
    if seen.largest_block is not None and block_size > seen.largest_block:
        return _too_large(block_size, seen.largest_block)
    return Initiate(block_size, why)


def _await_erase(goal: Goal, seen: MeterView) -> Step | None:
    """After initiate the meter is left alone; then its status says when it is ready, if it was too busy to say."""
    if seen.initiated_at_s is None:
        return None
    since_s = seen.now_s - seen.initiated_at_s
    if since_s < goal.profile.after_initiate_s:
        left_s = max(goal.profile.after_initiate_s - since_s, SHORTEST_WAIT_S)
        return Wait(left_s, "the meter prepares its memory", JobState.INITIATING)
    if not seen.initiate_busy or seen.status is None:
        return None
    if since_s > ERASE_TIMEOUT_S:
        return _initiate(goal, seen, f"not ready {ERASE_TIMEOUT_S:.0f} s after initiate")
    return Wait(ERASE_POLL_S, "the meter erases its memory", JobState.INITIATING)


# -- blocks ---------------------------------------------------------------------------------------------------


def _resume(goal: Goal, seen: MeterView, record: TransferRecord) -> Step | None:
    """What must be settled before blocks are sent. In a new association: do the meter's bitmap and our record
    agree? If not, the only way on is to begin anew."""
    if seen.conflict:
        return _initiate(goal, seen, seen.conflict)
    if seen.blocks is not None:
        return None
    if goal.profile.bitmap is BitmapOrder.IGNORE:
        return _initiate(goal, seen, "the association broke, and this model's bitmap cannot be trusted")
    unknown = record.initiated_over == _S.INITIATED and not record.initiate_answered
    if unknown and goal.profile.a7 is A7Policy.SKIP:
        # Elsewhere the bitmap must be as empty as ours, and before activation a7 must name our image.
        return _initiate(goal, seen, "it is not known whose image the meter was initiated for")
    if seen.block_size is None:
        return Survey(Item.BLOCK_SIZE)
    if (goal.profile.block_size or seen.block_size) != record.block_size:
        return _initiate(goal, seen, f"blocks had {record.block_size} octets, now {seen.block_size}")
    if seen.largest_block is not None and record.block_size > seen.largest_block:
        return _too_large(record.block_size, seen.largest_block)
    return Survey(Item.BITMAP)


def _send(goal: Goal, seen: MeterView) -> Step:
    assert seen.blocks is not None
    missing = seen.blocks.first_missing()
    if missing is not None:
        if seen.idle_rounds >= MAX_IDLE_ROUNDS:
            left = f"{seen.blocks.total - seen.blocks.count} of {seen.blocks.total} blocks"
            remedy = "if that is always so, see bitmap in the profile"
            return Failed(Code.T_INCOMPLETE, f"{left} stay missing in its bitmap, sent repeatedly: {remedy}")
        if goal.profile.in_order_only and seen.blocks.highest() > missing:
            return _initiate(
                goal, seen, f"block {missing} is missing, and this model only takes blocks in order"
            )
        return SendBlock(missing)
    if goal.profile.bitmap is not BitmapOrder.IGNORE and not seen.swept:
        return Survey(Item.BITMAP, JobState.COMPLETING)
    return _verify(seen)


# -- verification ---------------------------------------------------------------------------------------------


def _verify(seen: MeterView) -> Step:
    assert seen.record is not None
    if seen.record.verifies >= MAX_VERIFIES:
        return Failed(Code.T_VERIFY, f"verification was ordered {MAX_VERIFIES} times and never began")
    return Verify()


def _await_verification(goal: Goal, seen: MeterView) -> Step:
    """Only the status decides. Polled often at first, at least every 30 s later: more often than the
    inactivity time-out of the link (120 s, IEC 62056-46)."""
    record = seen.record
    if record is None or not record.verifies:
        return _foreign_or(goal, seen, "a verification that this gateway did not order")
    assert seen.verified_at_s is not None, "set with the order to verify, and when a record is loaded"
    since_s = seen.now_s - seen.verified_at_s
    if seen.status is _S.INITIATED and seen.verify_refused and since_s > REFUSED_VERIFY_TIMEOUT_S:
        return Failed(
            Code.T_VERIFY, f"verification was refused {since_s:.0f} s ago and has not begun (status 1)"
        )
    if since_s > goal.profile.verify_timeout_s and seen.status is _S.INITIATED and not seen.verified_here:
        # It may have restarted while nobody looked, and forgotten the order; by now it is not at work on it.
        return _resume(goal, seen, record) or _send(goal, seen)
    if since_s > goal.profile.verify_timeout_s:
        found = f"no result of the verification after {since_s:.0f} s"
        return Failed(Code.T_VERIFY, f"{found}: if the model needs longer, verify_timeout in the profile")
    return Wait(min(30.0, max(1.0, since_s / 10)), "the meter verifies the image", JobState.VERIFYING)


def may_verify_still(goal: Goal, seen: MeterView) -> bool:
    """Verification was ordered, and some meters hear nothing until it has ended."""
    if seen.record is None or not seen.record.verifies or seen.verified_at_s is None:
        return False
    return seen.now_s - seen.verified_at_s <= goal.profile.verify_timeout_s


def _activate(goal: Goal, seen: MeterView) -> Step:
    """Invariant 6: verified by the meter itself, by a7 the image that was sent and no other, and in its time."""
    if goal.profile.a7 is A7Policy.SKIP:
        return _activate_in_time(goal, seen)
    if seen.activate_info is None:
        return Survey(Item.ACTIVATE_INFO)
    ours = ActivateEntry(goal.image_size, goal.identifier)
    if any(entry != ours for entry in seen.activate_info):
        named = "; ".join(_shown(entry) for entry in seen.activate_info)
        return Failed(Code.T_IDENTIFIER, f"the meter would activate {named}; sent was {_shown(ours)}")
    return _activate_in_time(goal, seen)


def _activate_in_time(goal: Goal, seen: MeterView) -> Step:
    if goal.activate_at is not None:
        return schedule.arm(goal, seen, AWAIT_ACTIVATION_S)
    if seen.activation_waits:
        return Wait(AWAIT_ACTIVATION_S, seen.activation_waits, JobState.AWAITING_ACTIVATION)
    return Activate()


def _shown(entry: ActivateEntry) -> str:
    return f"{entry.image_size} octets, {entry.identification.hex()}"


# -- after activation was decided: look, never send it again ---------------------------------------------------


def _confirm(goal: Goal, seen: MeterView) -> Step:
    since_s = since_activation(seen)
    if since_s < goal.profile.reconnect_after_s:
        left_s = max(goal.profile.reconnect_after_s - since_s, SHORTEST_WAIT_S)
        why = "the meter restarts" if since_s >= 0 else "the meter runs the image by itself"
        return Wait(left_s, why, JobState.CONFIRMING)
    wrong = _identify(goal, seen)
    if wrong is not None:
        return wrong
    if seen.version is None:
        return Survey(Item.VERSION, JobState.CONFIRMING)
    changed = seen.version != seen.version_before
    if (seen.version == goal.expect_version) if goal.expect_version else changed:
        return check_after(goal, seen) or updated(goal, seen)
    if seen.status is None:
        return Survey(Item.STATUS, JobState.CONFIRMING)
    found = f"the meter reports version {seen.version!r} and status {seen.status.value}"
    if seen.status is _S.ACTIVATION_FAILED:
        return schedule.cleared_at_last(goal, seen) or Failed(Code.T_ACTIVATE, found)
    if since_s > activation_timeout_s(goal, seen):
        expected = repr(goal.expect_version) if goal.expect_version else "another than before"
        found = f"{found}, expected was {expected}"
        if changed:
            return Failed(Code.T_VERSION, found)
        remedy = "if the model needs longer, activate_timeout in the profile"
        if not goal.expect_version:
            remedy = f"the image has the version that ran before, or {remedy}"
        return schedule.cleared_at_last(goal, seen) or Failed(Code.T_ACTIVATE, f"{found}: {remedy}")
    return Wait(CONFIRM_POLL_S, f"{found}, not yet the new one", JobState.CONFIRMING)


def _too_large(block_size: int, largest_block: int) -> Failed:
    limit = f"at most {largest_block} octets fit the meter's PDU"
    return Failed(Code.T_BLOCK, f"a block has {block_size} octets, {limit}")


def activation_timeout_s(goal: Goal, seen: MeterView) -> float:
    """A meter that goes by its own clock may be late."""
    own_clock = seen.record is not None and seen.record.scheduled_at is not None
    return goal.profile.activate_timeout_s + (schedule.CLOCK_TOLERANCE_S if own_clock else 0.0)


def since_activation(seen: MeterView) -> float:
    assert seen.activated_at_s is not None, "set with the decision, and when a record is loaded"
    return seen.now_s - seen.activated_at_s


def _until_initiated(seen: MeterView) -> JobState | None:
    return JobState.PRECHECK if seen.record is None else None
