"""The Image Transfer procedure as decisions: what the meter shows, what is done next."""

from dataclasses import replace

import pytest

from gateway.errors import Code
from gateway.model import A7Policy, BitmapOrder, ImageTransferStatus, JobState, Profile, TransferRecord
from gateway.transfer import (
    Activate,
    ActivateEntry,
    BlockSet,
    Done,
    Enable,
    Failed,
    Goal,
    Initiate,
    Item,
    MeterView,
    SendBlock,
    Survey,
    Verify,
    Wait,
    after_error,
    next_step,
)
from gateway.transfer.setbacks import MAX_TRIES

S = ImageTransferStatus
PROFILE = Profile(after_initiate_s=5, reconnect_after_s=30, activate_timeout_s=600, verify_timeout_s=1800)
GOAL = Goal(
    sha256="aa" * 32, image_size=1000, identifier=b"FW", profile=PROFILE,
    expect_version="2.0", logical_device_name="ACM1",
)  # fmt: skip
RECORD = TransferRecord(
    sha256=GOAL.sha256, identifier=b"FW", image_size=1000, block_size=100,
    initiate_answered=True, acked=b"\xe0\x00", ceiling=7,
)  # fmt: skip
OURS = (ActivateEntry(1000, b"FW"),)


def seen(**changes):
    """A meter that is known to be the right one, runs 1.0, may be updated and has 100-octet blocks."""
    view = MeterView(
        now_s=1000.0, largest_block=500, device_name="ACM1", version="1.0", block_size=100, enabled=True,
        version_before="1.0",
    )  # fmt: skip
    for name, value in changes.items():
        setattr(view, name, value)
    return view


def blocks(*numbers, total=10):
    result = BlockSet(total)
    for number in numbers:
        result.add(number)
    return result


ALL = tuple(range(10))
RESUMED = {"status": S.INITIATED, "record": RECORD}
VERIFIED = {"status": S.VERIFICATION_SUCCESSFUL, "record": replace(RECORD, verifies=1)}
ACTIVATED = {"record": replace(RECORD, verifies=1, activate_decided=True), "activated_at_s": 900.0}

SCENARIOS = [
    # -- who is there, and may it be updated?
    ("the name is read first", seen(device_name=None), Survey(Item.DEVICE_NAME, JobState.PRECHECK)),
    ("another meter answers", seen(device_name="ACM9"), Code.T_IDENTITY),
    ("then the version", seen(version=None), Survey(Item.VERSION, JobState.PRECHECK)),
    ("it runs the version already", seen(version="2.0"), JobState.SKIPPED),
    ("then its status", seen(), Survey(Item.STATUS, JobState.PRECHECK)),
    ("is it enabled?", seen(status=S.NOT_INITIATED, enabled=None), Survey(Item.ENABLED, JobState.PRECHECK)),
    ("it is not", seen(status=S.NOT_INITIATED, enabled=False), Code.T_DISABLED),
    (
        "how large are its blocks?",
        seen(status=S.NOT_INITIATED, block_size=None),
        Survey(Item.BLOCK_SIZE, JobState.PRECHECK),
    ),
    ("it says 0", seen(status=S.NOT_INITIATED, block_size=0), Code.T_BLOCK),
    ("a block does not fit its PDU", seen(status=S.NOT_INITIATED, largest_block=99), Code.T_BLOCK),
    # -- initiate: only where nothing of somebody else is destroyed
    ("all is well", seen(status=S.NOT_INITIATED), Initiate),
    ("an update before this one succeeded", seen(status=S.ACTIVATION_SUCCESSFUL), Initiate),
    ("an image of somebody failed", seen(status=S.VERIFICATION_FAILED), Initiate),
    ("somebody initiated it", seen(status=S.INITIATED), Code.T_FOREIGN),
    ("somebody verifies", seen(status=S.VERIFICATION_INITIATED), Code.T_FOREIGN),
    ("somebody verified", seen(status=S.VERIFICATION_SUCCESSFUL), Code.T_FOREIGN),
    ("somebody activates", seen(status=S.ACTIVATION_INITIATED), Code.T_FOREIGN),
    # -- resuming: record and meter must agree
    ("the meter's bitmap is asked", seen(**RESUMED), Survey(Item.BITMAP)),
    ("they agree", seen(**RESUMED, blocks=blocks(0, 1, 2)), SendBlock(3)),
    ("the gap first", seen(**RESUMED, blocks=blocks(0, 2)), SendBlock(1)),
    ("its blocks have another size now", seen(**RESUMED | {"block_size": 50}), Initiate),
    ("the link now takes only small blocks", seen(**RESUMED | {"largest_block": 50}), Code.T_BLOCK),
    ("it lost what it acknowledged", seen(**RESUMED, blocks=blocks(), conflict="lost 3"), Initiate),
    (
        "that happened once too often",
        seen(status=S.INITIATED, record=replace(RECORD, initiates=2), conflict="lost"),
        Code.T_INCOMPLETE,
    ),
    (
        "it was initiated by somebody when our initiate got lost",
        seen(status=S.INITIATED, record=replace(RECORD, initiate_answered=False, initiated_over=1)),
        Survey(Item.BITMAP),
    ),
    (
        "our initiate got lost and nothing else happened",
        seen(
            status=S.ACTIVATION_SUCCESSFUL, record=replace(RECORD, initiate_answered=False, initiated_over=6)
        ),
        Initiate,
    ),
    ("it restarted and forgot the image", seen(status=S.NOT_INITIATED, record=RECORD), Initiate),
    (
        "our last transfer was of another image: is it still that?",
        seen(status=S.INITIATED, record=replace(RECORD, sha256="bb" * 32)),
        Survey(Item.BITMAP),
    ),
    (
        "it is",
        seen(status=S.INITIATED, record=replace(RECORD, sha256="bb" * 32), blocks=blocks(0, 1, 2)),
        Initiate,
    ),
    (
        "it is not",
        seen(
            status=S.INITIATED, record=replace(RECORD, sha256="bb" * 32), blocks=blocks(9), conflict="block 9"
        ),
        Code.T_FOREIGN,
    ),
    (
        "our last image was another, and it is verified",
        seen(**VERIFIED | {"record": replace(RECORD, sha256="bb" * 32, verifies=1)}, activate_info=OURS),
        Initiate,
    ),
    (
        "our last image was another, and a third one is verified",
        seen(
            **VERIFIED | {"record": replace(RECORD, sha256="bb" * 32, verifies=1)},
            activate_info=(ActivateEntry(5, b"X"),),
        ),
        Code.T_FOREIGN,
    ),
    ("it is verified, but not by us", seen(status=S.VERIFICATION_SUCCESSFUL, record=RECORD), Code.T_FOREIGN),
    # -- erasing
    ("it prepares its memory", seen(**RESUMED, initiated_at_s=998.0, blocks=blocks()), Wait),
    ("it is ready", seen(**RESUMED, initiated_at_s=990.0, blocks=blocks()), SendBlock(0)),
    (
        "it said temporary-failure",
        seen(status=S.NOT_INITIATED, record=RECORD, initiate_busy=True, initiated_at_s=990.0),
        Wait,
    ),
    (
        "and never gets ready",
        seen(status=S.NOT_INITIATED, record=RECORD, initiate_busy=True, initiated_at_s=900.0),
        Initiate,
    ),
    # -- completeness is what the bitmap says
    ("all were acknowledged", seen(**RESUMED, blocks=blocks(*ALL)), Survey(Item.BITMAP, JobState.COMPLETING)),
    ("the bitmap agrees", seen(**RESUMED, blocks=blocks(*ALL), swept=True), Verify),
    ("it shows a hole", seen(**RESUMED, blocks=blocks(*ALL[1:]), swept=True), SendBlock(0)),
    (
        "which never closes",
        seen(**RESUMED, blocks=blocks(*ALL[1:]), swept=True, idle_rounds=3),
        Code.T_INCOMPLETE,
    ),
    # -- verification is what the status says
    (
        "it verifies",
        seen(status=S.VERIFICATION_INITIATED, record=replace(RECORD, verifies=1), verified_at_s=990.0),
        Wait,
    ),
    (
        "for too long",
        seen(status=S.VERIFICATION_INITIATED, record=replace(RECORD, verifies=1), verified_at_s=-900.0),
        Code.T_VERIFY,
    ),
    (
        "it found a fault",
        seen(status=S.VERIFICATION_FAILED, record=replace(RECORD, verifies=1)),
        Code.T_VERIFY,
    ),
    (
        "it answered, and thinks still",
        seen(
            status=S.INITIATED, record=replace(RECORD, verifies=1), verify_answered=True, verified_at_s=990.0
        ),
        Wait,
    ),
    (
        "it answered, and nothing came of it",
        seen(
            status=S.INITIATED,
            record=replace(RECORD, verifies=1),
            verify_answered=True,
            verified_at_s=930.0,
            verify_refused=True,
        ),
        Code.T_VERIFY,
    ),
    (
        "the order to verify got lost",
        seen(status=S.INITIATED, record=replace(RECORD, verifies=1), blocks=blocks(*ALL), swept=True),
        Verify,
    ),
    (
        "it gets lost every time",
        seen(status=S.INITIATED, record=replace(RECORD, verifies=3), blocks=blocks(*ALL), swept=True),
        Code.T_VERIFY,
    ),
    # -- is it our image?
    ("what would it activate?", seen(**VERIFIED), Survey(Item.ACTIVATE_INFO)),
    ("ours", seen(**VERIFIED, activate_info=OURS), Activate),
    (
        "ours, and another with it",
        seen(**VERIFIED, activate_info=(ActivateEntry(5, b"X"), *OURS)),
        Code.T_IDENTIFIER,
    ),
    ("it has none to tell", seen(**VERIFIED, activate_info=()), Activate),
    ("another", seen(**VERIFIED, activate_info=(ActivateEntry(1000, b"XX"),)), Code.T_IDENTIFIER),
    (
        "ours, of another size",
        seen(**VERIFIED, activate_info=(ActivateEntry(999, b"FW"),)),
        Code.T_IDENTIFIER,
    ),
    (
        "who is it? asked again",
        seen(**VERIFIED | {"device_name": None}, activate_info=OURS),
        Survey(Item.DEVICE_NAME),
    ),
    (
        "the meter was exchanged meanwhile",
        seen(**VERIFIED | {"device_name": "ACM9"}, activate_info=OURS),
        Code.T_IDENTITY,
    ),
    # -- after activation there is only looking
    ("it restarts", seen(**ACTIVATED | {"activated_at_s": 990.0}), Wait),
    ("is it back?", seen(**ACTIVATED, version=None), Survey(Item.VERSION, JobState.CONFIRMING)),
    ("it is, and says so", seen(**ACTIVATED | {"version": "2.0"}), JobState.UPDATED),
    ("not yet", seen(**ACTIVATED, status=S.ACTIVATION_INITIATED), Wait),
    ("it gave up", seen(**ACTIVATED, status=S.ACTIVATION_FAILED), Code.T_ACTIVATE),
    (
        "it never did",
        seen(**ACTIVATED | {"activated_at_s": 300.0}, status=S.VERIFICATION_SUCCESSFUL),
        Code.T_ACTIVATE,
    ),
    (
        "it runs a third version",
        seen(**ACTIVATED | {"activated_at_s": 300.0, "version": "3.0"}, status=S.ACTIVATION_SUCCESSFUL),
        Code.T_VERSION,
    ),
]


@pytest.mark.parametrize(("story", "view", "expected"), SCENARIOS, ids=[story for story, _, _ in SCENARIOS])
@pytest.mark.parametrize("enable_transfer", [False, True])
def test_a_dry_run_reads_or_ends_whatever_the_meter_shows(story, view, expected, enable_transfer):
    profile = replace(PROFILE, enable_transfer=enable_transfer)
    step = next_step(replace(GOAL, dry_run=True, profile=profile), view)
    assert isinstance(step, Survey | Done | Failed), step
    if isinstance(step, Done):
        assert step.state is not JobState.UPDATED or view.record.activate_decided


@pytest.mark.parametrize(("story", "view", "expected"), SCENARIOS, ids=[story for story, _, _ in SCENARIOS])
def test_what_the_meter_shows_decides(story, view, expected):
    step = next_step(GOAL, view)
    match expected:
        case Code():
            assert isinstance(step, Failed), step
            assert step.code is expected, step
        case JobState():
            assert isinstance(step, Done), step
            assert step.state is expected
        case type():
            assert isinstance(step, expected), step
        case _:
            assert step == expected


def test_a_meter_that_was_busy_with_erasing_is_ready_once_it_says_initiated():
    view = seen(record=RECORD, initiate_busy=True, initiated_at_s=960.0, blocks=blocks())
    view.take_status(S.NOT_INITIATED)
    assert isinstance(next_step(GOAL, view), Wait)
    view.take_status(S.INITIATED)
    assert next_step(GOAL, view) == SendBlock(0)
    view.record, view.verified_at_s = replace(RECORD, verifies=1), 990.0
    view.take_status(S.VERIFICATION_INITIATED)
    assert next_step(GOAL, view).state is JobState.VERIFYING


def test_a_meter_that_stays_disabled_is_enabled_once():
    goal = replace(GOAL, profile=replace(PROFILE, enable_transfer=True))
    disabled = seen(status=S.NOT_INITIATED, enabled=False)
    assert isinstance(next_step(goal, disabled), Enable)
    disabled.enable_tried = True
    step = next_step(goal, disabled)
    assert isinstance(step, Failed)
    assert step.code is Code.T_DISABLED


def test_take_over_begins_anew_where_somebody_left_a_transfer():
    goal = replace(GOAL, take_over=True)
    assert isinstance(next_step(goal, seen(status=S.INITIATED)), Initiate)
    assert isinstance(next_step(goal, seen(status=S.VERIFICATION_SUCCESSFUL)), Initiate)


def test_take_over_never_disturbs_an_activation():
    step = next_step(replace(GOAL, take_over=True), seen(status=S.ACTIVATION_INITIATED))
    assert isinstance(step, Failed)


def test_without_an_expected_version_any_other_one_confirms():
    goal = replace(GOAL, expect_version="")
    assert isinstance(next_step(goal, seen(**ACTIVATED | {"version": "1.1"})), Done)
    assert isinstance(next_step(goal, seen(**ACTIVATED, status=S.ACTIVATION_INITIATED)), Wait)


def test_a_model_that_denies_a7_is_activated_without_it():
    goal = replace(GOAL, profile=replace(PROFILE, a7=A7Policy.SKIP))
    assert isinstance(next_step(goal, seen(**VERIFIED)), Activate)


def test_a_model_with_a_useless_bitmap_is_never_resumed():
    goal = replace(GOAL, profile=replace(PROFILE, bitmap=BitmapOrder.IGNORE))
    assert isinstance(next_step(goal, seen(**RESUMED)), Initiate)
    unbroken = seen(**RESUMED, blocks=blocks(*ALL))
    assert isinstance(next_step(goal, unbroken), Verify)


def test_the_profile_may_set_the_block_size():
    goal = replace(GOAL, profile=replace(PROFILE, block_size=64))
    step = next_step(goal, seen(status=S.NOT_INITIATED))
    assert isinstance(step, Initiate)
    assert step.block_size == 64


BITMAPS = [
    ("the meter has what it acknowledged", (0, 1, 2), ""),
    ("and one more, whose answer was lost", (0, 1, 2, 3), ""),
    ("up to the ceiling anything may have been sent", (0, 1, 2, 7), ""),
    ("beyond it, somebody else sent it", (0, 1, 2, 8), "block 8"),
    ("it lost a block", (0, 2, 3), "no longer has 1"),
    ("it lost them all", (), "no longer has 3"),
]


@pytest.mark.parametrize(("story", "has", "conflict"), BITMAPS, ids=[story for story, _, _ in BITMAPS])
def test_a_bitmap_continues_the_record_or_does_not(story, has, conflict):
    view = seen(**RESUMED)
    view.take_bitmap(blocks(*has))
    assert conflict in view.conflict
    assert bool(view.conflict) == bool(conflict)


def test_a_meter_that_shows_what_was_never_sent_is_not_believed():
    view = seen(**RESUMED, sent=blocks(0, 1, 2, 3))
    view.take_bitmap(blocks(0, 1, 2, 3))
    assert not view.conflict
    view.forget()
    view.take_bitmap(blocks(0, 1, 2, 5))
    assert "never sent" in view.conflict


def test_an_order_after_one_whose_image_was_wrong_begins_anew_once():
    left = replace(RECORD, verifies=1, initiates=0)
    failed = {"status": S.VERIFICATION_FAILED, "verified_at_s": 900.0}
    assert isinstance(next_step(GOAL, seen(**failed, record=left)), Initiate)
    step = next_step(GOAL, seen(**failed, record=replace(left, initiates=1)))
    assert isinstance(step, Failed)
    assert step.code is Code.T_VERIFY


def test_repair_goes_on_as_long_as_each_round_brings_a_block():
    view = seen(**RESUMED, blocks=blocks())
    for count in range(1, 10):
        view.take_bitmap(blocks(*range(count)))
        assert next_step(GOAL, view) == SendBlock(count)
    for _ in range(3):
        view.take_bitmap(blocks(*range(9)))
    step = next_step(GOAL, view)
    assert isinstance(step, Failed)
    assert step.code is Code.T_INCOMPLETE


VERIFIES = {"record": replace(RECORD, verifies=1), "verified_at_s": 100.0}
ERRORS = [
    ("silence is tried again", {}, (Code.T_SILENT, True, 1), Wait),
    ("but not for ever", {}, (Code.T_SILENT, True, MAX_TRIES), Code.T_SILENT),
    ("a wrong key never", {}, (Code.T_SECURITY, False, 1), Code.T_SECURITY),
    ("a meter may be silent while it verifies", VERIFIES, (Code.T_SILENT, True, MAX_TRIES), Wait),
    (
        "but not for ever",
        VERIFIES | {"verified_at_s": -900.0},
        (Code.T_SILENT, True, MAX_TRIES),
        Code.T_SILENT,
    ),
    ("silence after activation is normal", ACTIVATED, (Code.T_SILENT, True, 50), Wait),
    (
        "after a day nobody knows",
        ACTIVATED | {"activated_at_s": -90000.0},
        (Code.T_SILENT, True, 50),
        Code.T_UNKNOWN,
    ),
    ("a refused key after activation: nobody knows", ACTIVATED, (Code.T_SECURITY, False, 1), Code.T_UNKNOWN),
    ("a counter that was raised is tried", ACTIVATED, (Code.T_SECURITY, True, 1), Wait),
    (
        "a refused association after activation may be too early",
        ACTIVATED,
        (Code.T_ASSOCIATION, False, 1),
        Wait,
    ),
]


@pytest.mark.parametrize(("story", "view", "error", "expected"), ERRORS, ids=[error[0] for error in ERRORS])
def test_errors_are_repeated_later_or_end_the_job(story, view, error, expected):
    code, retryable, tries = error
    step = after_error(GOAL, seen(**view), code=code, message="x", retryable=retryable, tries=tries)
    if isinstance(expected, Code):
        assert isinstance(step, Failed)
        assert step.code is expected
    else:
        assert isinstance(step, expected)


def test_a_meter_that_stays_away_after_activation_is_uncertain_and_looked_at_rarely():
    step = after_error(
        GOAL, seen(**ACTIVATED | {"activated_at_s": 100.0}),
        code=Code.T_SILENT, message="x", retryable=True, tries=9,
    )  # fmt: skip
    assert isinstance(step, Wait)
    assert step.state is JobState.UNCERTAIN
    assert step.delay_s >= 300
