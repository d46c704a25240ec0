"""Image Transfer as the meter does it: the whole way, every refusal, and every oddity that is a setting."""

import hashlib
from dataclasses import replace

import pytest
from support.bench import FIRMWARE, Bench, NoAnswerError, an_image

from gateway.model import ImageTransferStatus as Status
from gateway.simulator import (
    A4,
    A7,
    NONE,
    Bitmap,
    Erasing,
    Faults,
    MeterSpec,
    Mishap,
    Then,
    VirtualClock,
    VirtualLine,
    VirtualMeter,
    What,
)
from gateway.wire import apdu as pdu
from gateway.wire import axdr
from gateway.wire import image_transfer as it
from gateway.wire.axdr import BitString

IMAGE = an_image(1000)
SPEC = MeterSpec(block_size=100, verify_s=30.0, reboot_s=25.0)
RESULT = pdu.ActionResult


def a_bench(faults=NONE, spec=SPEC, seed=0):
    meter = VirtualMeter(spec, faults=faults, seed=seed)
    clock = VirtualClock()
    bench = Bench(VirtualLine([meter], clock, faults=faults, seed=seed), spec).connect().associate()
    return bench, meter, clock


def verified(faults=NONE, spec=SPEC):
    bench, meter, clock = a_bench(faults, spec)
    bench.send_all(IMAGE)
    bench.act(it.VERIFY)
    clock.advance(spec.verify_s)
    return bench, meter, clock


def test_an_image_goes_all_the_way_and_the_meter_comes_back_with_its_new_version():
    bench, meter, clock = a_bench()
    assert bench.image(it.ENABLED) is True
    assert bench.image(it.BLOCK_SIZE) == 100
    assert bench.image(it.STATUS) == Status.NOT_INITIATED
    assert bench.initiate(IMAGE, b"given name") == 0
    assert bench.image(it.STATUS) == Status.INITIATED
    for number in range(10):
        assert bench.image(it.FIRST_NOT_TRANSFERRED) == number
        assert bench.block(IMAGE, number) == 0
    assert bench.image(it.FIRST_NOT_TRANSFERRED) == 10
    assert bench.image(it.BLOCKS_STATUS) == BitString(b"\xff\xc0", 10)
    assert bench.act(it.VERIFY) == RESULT.TEMPORARY_FAILURE
    assert bench.image(it.STATUS) == Status.VERIFICATION_INITIATED
    assert bench.act(it.VERIFY) == RESULT.TEMPORARY_FAILURE
    assert bench.block(IMAGE, 0) == RESULT.TEMPORARY_FAILURE
    clock.advance(30)
    assert bench.image(it.STATUS) == Status.VERIFICATION_SUCCESSFUL
    (info,) = it.activate_info(axdr.array(*bench.image(it.TO_ACTIVATE_INFO)))
    assert (info.size, info.identification) == (1000, b"given name")
    assert bench.act(it.ACTIVATE) == RESULT.SUCCESS
    with pytest.raises(NoAnswerError):
        bench.image(it.STATUS)
    clock.advance(25)
    bench.connect().associate()
    assert bench.image(it.STATUS) == Status.ACTIVATION_SUCCESSFUL
    assert bench.get(FIRMWARE) == b"2.0.0"
    history = meter.history
    assert (history.initiates, history.verifies, history.activations) == (1, 2, 1)
    assert history.blocks == dict.fromkeys(range(10), 1)
    assert meter.image.image_sha256 == hashlib.sha256(IMAGE).hexdigest()
    milestones = [event.what for event in history.events if event.what not in (What.GET, What.BLOCK)]
    assert milestones == [
        What.LINK, What.ASSOCIATED, What.INITIATE, What.VERIFY, What.VERIFY, What.VERIFIED, What.ACTIVATE,
        What.REBOOT, What.ACTIVATED, What.LINK, What.ASSOCIATED,
    ]  # fmt: skip


def test_a_second_initiate_erases_everything():
    bench, meter, _ = a_bench()
    bench.send_all(IMAGE)
    assert bench.initiate(IMAGE[:300]) == 0
    assert bench.image(it.BLOCKS_STATUS) == BitString(b"\x00", 3)
    assert meter.image.image == bytes(300)
    assert meter.history.initiates == 2


@pytest.mark.parametrize(
    "size, block_size", [(1, 100), (100, 100), (101, 100), (799, 100), (800, 100), (801, 100)]
)
def test_every_size_has_its_blocks_and_its_bits(size, block_size):
    image = an_image(size)
    bench, meter, _ = a_bench(spec=replace(SPEC, block_size=block_size))
    bench.send_all(image)
    count = -(-size // block_size)
    assert bench.image(it.BLOCKS_STATUS).length == count
    assert bench.image(it.FIRST_NOT_TRANSFERRED) == count
    assert meter.image.image == image


@pytest.mark.parametrize("number, data, result", [
    (it.INITIATE, it.initiate_data(b"fw", 0), RESULT.OTHER_REASON),
    (it.INITIATE, it.initiate_data(b"fw", 17 * 2**20), RESULT.OTHER_REASON),
    (it.INITIATE, it.block_data(0, b"block"), RESULT.TYPE_UNMATCHED),
    (it.INITIATE, axdr.integer(0), RESULT.TYPE_UNMATCHED),
    (it.BLOCK_TRANSFER, it.block_data(0, IMAGE[:100]), RESULT.OTHER_REASON),
    (it.VERIFY, axdr.integer(0), RESULT.OTHER_REASON),
    (it.VERIFY, axdr.integer(1), RESULT.TYPE_UNMATCHED),
    (it.ACTIVATE, axdr.integer(0), RESULT.OTHER_REASON),
    (5, axdr.integer(0), RESULT.OBJECT_UNDEFINED),
])  # fmt: skip
def test_what_makes_no_sense_before_initiate_is_refused(number, data, result):
    bench, meter, _ = a_bench()
    assert bench.act(number, data) == result
    assert meter.history.count(What.REFUSED) == 1
    assert meter.image.status is Status.NOT_INITIATED


@pytest.mark.parametrize("number, block, result", [
    (10, IMAGE[:100], RESULT.OTHER_REASON),
    (0, IMAGE[:99], RESULT.HARDWARE_FAULT),
    (0, IMAGE[:101], RESULT.HARDWARE_FAULT),
    (9, IMAGE[900:] + b"\x00", RESULT.HARDWARE_FAULT),
])  # fmt: skip
def test_blocks_of_another_number_or_length_are_refused(number, block, result):
    bench, meter, _ = a_bench()
    bench.initiate(IMAGE)
    assert bench.act(it.BLOCK_TRANSFER, it.block_data(number, block)) == result
    assert not meter.history.blocks


def test_the_same_block_twice_does_no_harm():
    bench, meter, _ = a_bench()
    bench.initiate(IMAGE)
    assert [bench.block(IMAGE, 3), bench.block(IMAGE, 3)] == [0, 0]
    assert meter.history.blocks == {3: 2}
    assert bench.missing(IMAGE) == [0, 1, 2, 4, 5, 6, 7, 8, 9]


def test_transfer_must_be_enabled_and_can_be():
    bench, _, _ = a_bench(spec=replace(SPEC, transfer_enabled=False))
    assert bench.image(it.ENABLED) is False
    assert bench.initiate(IMAGE) == RESULT.READ_WRITE_DENIED
    enabled = it.attribute(it.DEFAULT_INSTANCE, it.ENABLED)
    wrong = pdu.SetRequest(bench.invoke, enabled, axdr.integer(1))
    assert bench.ask(wrong).result == pdu.DataAccessResult.TYPE_UNMATCHED
    assert bench.ask(pdu.SetRequest(bench.invoke, enabled, axdr.boolean(True))).result == 0
    assert bench.image(it.ENABLED) is True
    assert bench.initiate(IMAGE) == 0
    status = pdu.SetRequest(bench.invoke, it.attribute(it.DEFAULT_INSTANCE, it.STATUS), axdr.enum(3))
    assert bench.ask(status).result == pdu.DataAccessResult.READ_WRITE_DENIED


def test_a_meter_that_wants_the_vendors_identifier_takes_no_other():
    bench, _, _ = a_bench(spec=replace(SPEC, image_identifier=b"ACM-X3"))
    assert bench.initiate(IMAGE, b"fw") == RESULT.OTHER_REASON
    assert bench.initiate(IMAGE, b"ACM-X3") == 0


# -- verification ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("digest, status", [
    ("", Status.VERIFICATION_SUCCESSFUL),
    (hashlib.sha256(IMAGE).hexdigest(), Status.VERIFICATION_SUCCESSFUL),
    (hashlib.sha256(b"the vendor's image").hexdigest(), Status.VERIFICATION_FAILED),
])  # fmt: skip
def test_verification_looks_at_the_stored_octets(digest, status):
    bench, meter, _ = verified(spec=replace(SPEC, image_sha256=digest))
    assert bench.image(it.STATUS) == status
    if status is Status.VERIFICATION_FAILED:
        assert bench.image(it.TO_ACTIVATE_INFO) == ()
        assert bench.act(it.ACTIVATE) == RESULT.OTHER_REASON
        assert meter.version == "1.0.0"


def test_an_incomplete_image_is_never_good():
    bench, meter, clock = a_bench()
    bench.initiate(IMAGE)
    bench.block(IMAGE, 0)
    assert bench.act(it.ACTIVATE) == RESULT.OTHER_REASON
    bench.act(it.VERIFY)
    clock.advance(30)
    assert bench.image(it.STATUS) == Status.VERIFICATION_FAILED
    assert meter.version == "1.0.0"


@pytest.mark.parametrize("result, verify_s, answer", [
    (None, 30.0, RESULT.TEMPORARY_FAILURE),
    (None, 0.0, RESULT.SUCCESS),
    (0, 30.0, RESULT.SUCCESS),
    (250, 0.0, RESULT.OTHER_REASON),
    (250, 30.0, RESULT.OTHER_REASON),
])  # fmt: skip
def test_the_answer_to_verify_is_one_thing_and_the_status_another(result, verify_s, answer):
    bench, _, clock = a_bench(Faults(verify_result=result), replace(SPEC, verify_s=verify_s))
    bench.send_all(IMAGE)
    assert bench.act(it.VERIFY) == answer
    clock.advance(verify_s)
    assert bench.image(it.STATUS) == Status.VERIFICATION_SUCCESSFUL


@pytest.mark.parametrize("a7, found", [
    (A7.EMPTY, ()),
    (A7.DENIED, pdu.DataAccessResult.READ_WRITE_DENIED),
])  # fmt: skip
def test_some_meters_tell_nothing_of_what_they_would_activate(a7, found):
    bench, _, _ = verified(Faults(a7=a7))
    assert bench.image(it.TO_ACTIVATE_INFO) == found


def test_some_meters_would_activate_another_image():
    bench, _, _ = verified(Faults(a7=A7.ANOTHER_IMAGE))
    (info,) = it.activate_info(axdr.array(*bench.image(it.TO_ACTIVATE_INFO)))
    assert info.identification != b"fw"


# -- activation -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("faults, answer, status, version", [
    (Faults(), 0, Status.ACTIVATION_SUCCESSFUL, b"2.0.0"),
    (Faults(activate_result=2), 2, Status.ACTIVATION_SUCCESSFUL, b"2.0.0"),
    (Faults(status_after_activation=Status.NOT_INITIATED), 0, Status.NOT_INITIATED, b"2.0.0"),
    (Faults(activation_fails=True), 0, Status.ACTIVATION_FAILED, b"1.0.0"),
])  # fmt: skip
def test_what_a_meter_says_after_activation_is_a_setting(faults, answer, status, version):
    bench, _, clock = verified(faults)
    assert bench.act(it.ACTIVATE) == answer
    clock.advance(SPEC.reboot_s)
    bench.connect().associate()
    assert bench.image(it.STATUS) == status
    assert bench.get(FIRMWARE) == version


def test_activating_an_unverified_image_verifies_it_first():
    bench, meter, clock = a_bench()
    bench.send_all(IMAGE)
    assert bench.act(it.ACTIVATE) == RESULT.SUCCESS
    clock.advance(SPEC.reboot_s)
    meter.settle(clock.monotonic())
    assert meter.version == "2.0.0"


def test_nothing_is_activated_twice():
    bench, meter, clock = verified()
    bench.act(it.ACTIVATE)
    clock.advance(SPEC.reboot_s)
    bench.connect().associate()
    assert bench.act(it.ACTIVATE) == RESULT.OTHER_REASON
    assert meter.history.count(What.REBOOT) == 1


# -- oddities of the bitmap -----------------------------------------------------------------------------------


@pytest.mark.parametrize("faults, blocks, bits", [
    (Faults(), (), BitString(b"\x00\x00", 10)),
    (Faults(), (0, 2, 9), BitString(b"\xa0\x40", 10)),
    (Faults(bitmap=Bitmap.PADDED), (0, 2, 9), BitString(b"\xa0\x40", 16)),
    (Faults(bitmap=Bitmap.GROWING), (), BitString(b"", 0)),
    (Faults(bitmap=Bitmap.GROWING), (0, 2), BitString(b"\xa0", 3)),
    (Faults(bitmap_lsb_first=True), (0, 2, 9), BitString(b"\x05\x02", 10)),
    (Faults(bitmap_missing_bits=3), (0, 2, 9), BitString(b"\xa0", 7)),
    (Faults(bitmap_missing_bits=99), (0, 2, 9), BitString(b"", 0)),
])  # fmt: skip
def test_the_form_of_the_bitmap_is_a_setting(faults, blocks, bits):
    bench, _, _ = a_bench(faults)
    bench.initiate(IMAGE)
    for number in blocks:
        bench.block(IMAGE, number)
    assert bench.image(it.BLOCKS_STATUS) == bits


@pytest.mark.parametrize("a4, first", [
    (A4.FIRST_MISSING, 1), (A4.HIGHEST_PLUS_ONE, 3), (A4.STUCK, 0), (A4.COMPLETE, 10),
])  # fmt: skip
def test_what_attribute_4_tells_of_a_gap_is_a_setting(a4, first):
    bench, _, _ = a_bench(Faults(a4=a4))
    bench.initiate(IMAGE)
    bench.block(IMAGE, 0)
    bench.block(IMAGE, 2)
    assert bench.image(it.FIRST_NOT_TRANSFERRED) == first


def test_a_padded_last_block_is_wanted_by_some_and_the_padding_is_not_stored():
    bench, meter, _ = a_bench(Faults(padded_last_block=True))
    image = IMAGE[:950]
    bench.initiate(image)
    for number in range(9):
        bench.block(image, number)
    assert bench.block(image, 9) == RESULT.HARDWARE_FAULT
    assert bench.act(it.BLOCK_TRANSFER, it.block_data(9, image[900:] + bytes(50))) == 0
    assert meter.image.image == image and meter.image.complete


# -- mishaps --------------------------------------------------------------------------------------------------


def test_named_blocks_are_acknowledged_and_lost_once():
    bench, meter, _ = a_bench(Faults(blocks_lost_once=frozenset({2, 7})))
    bench.initiate(IMAGE)
    assert [bench.block(IMAGE, number) for number in range(10)] == [0] * 10
    assert bench.missing(IMAGE) == [2, 7]
    bench.block(IMAGE, 2)
    bench.block(IMAGE, 7)
    assert meter.image.image == IMAGE


def test_a_few_percent_of_blocks_are_lost_and_the_same_ones_for_the_same_seed():
    def lost(seed):
        image = an_image(40_000)
        bench, meter, _ = a_bench(Faults(blocks_lost=0.05), seed=seed)
        bench.initiate(image)
        for number in range(400):
            bench.block(image, number)
        missing = bench.missing(image)
        bench.send_all(image)
        assert meter.image.image == image
        return missing

    assert 5 < len(lost(1)) < 40
    assert lost(1) == lost(1) != lost(2)


@pytest.mark.parametrize("drops, result", [(False, RESULT.OTHER_REASON), (True, RESULT.SUCCESS)])
def test_blocks_without_initiate_are_refused_or_dropped(drops, result):
    bench, meter, _ = a_bench(Faults(drops_uninitiated_blocks=drops))
    assert bench.block(IMAGE, 0) == result
    assert not meter.image.complete


def test_erasing_flash_keeps_a_meter_busy():
    spec = replace(SPEC, erase_s=8.0)
    bench, _, clock = a_bench(Faults(erasing=Erasing.TEMPORARY_FAILURE), spec)
    assert bench.initiate(IMAGE) == 0
    assert bench.block(IMAGE, 0) == RESULT.TEMPORARY_FAILURE
    assert bench.image(it.STATUS) == Status.INITIATED
    clock.advance(8)
    assert bench.block(IMAGE, 0) == 0


def test_erasing_flash_makes_a_meter_deaf():
    spec = replace(SPEC, erase_s=8.0)
    bench, _, clock = a_bench(Faults(erasing=Erasing.SILENT), spec)
    assert bench.initiate(IMAGE) == 0
    with pytest.raises(NoAnswerError):
        bench.block(IMAGE, 0)
    clock.advance(8)
    bench.connect().associate()
    assert bench.block(IMAGE, 0) == 0


def test_erasing_flash_delays_the_answer():
    spec = replace(SPEC, erase_s=8.0)
    bench, meter, clock = a_bench(Faults(erasing=Erasing.LATE_REPLY), spec)
    bench.patience = 10
    began_s = clock.monotonic()
    assert bench.initiate(IMAGE) == 0
    assert 8.0 <= clock.monotonic() - began_s < 9.0
    assert meter.history.initiates == 1


def test_a_lost_reply_is_repeated_when_the_meter_is_asked():
    bench, meter, _ = a_bench(Faults(mishaps=(Mishap(What.INITIATE, 1, Then.LOSE_REPLY),)))
    assert bench.initiate(IMAGE) == 0
    assert meter.history.initiates == 1


def test_a_lost_reply_is_lost_where_the_meter_ignores_polls():
    faults = Faults(mishaps=(Mishap(What.BLOCK, 3, Then.LOSE_REPLY),), ignores_poll=True)
    bench, meter, _ = a_bench(faults)
    bench.initiate(IMAGE)
    bench.block(IMAGE, 0)
    bench.block(IMAGE, 1)
    with pytest.raises(NoAnswerError):
        bench.block(IMAGE, 2)
    bench.connect().associate()
    assert bench.missing(IMAGE) == [3, 4, 5, 6, 7, 8, 9]
    assert meter.history.blocks[2] == 1


@pytest.mark.parametrize("forgets", [False, True])
def test_a_reboot_in_mid_transfer(forgets):
    faults = Faults(mishaps=(Mishap(What.BLOCK, 4, Then.REBOOT),), transfer_lost_by_reboot=forgets)
    bench, meter, clock = a_bench(faults)
    bench.initiate(IMAGE)
    assert [bench.block(IMAGE, number) for number in range(3)] == [0, 0, 0]
    with pytest.raises(NoAnswerError):
        bench.block(IMAGE, 3)
    clock.advance(SPEC.reboot_s)
    bench.connect().associate()
    assert bench.image(it.STATUS) == (Status.NOT_INITIATED if forgets else Status.INITIATED)
    assert bench.missing(IMAGE) == (list(range(10)) if forgets else [4, 5, 6, 7, 8, 9])
    assert meter.history.count(What.REBOOT) == 1


def test_a_reboot_during_verification_leaves_it_undone():
    bench, meter, clock = a_bench()
    bench.send_all(IMAGE)
    bench.act(it.VERIFY)
    meter.reboot(clock.monotonic())
    clock.advance(60)
    bench.connect().associate()
    assert bench.image(it.STATUS) == Status.INITIATED
    assert meter.history.count(What.VERIFIED) == 0


def test_silence_for_a_time():
    bench, _, clock = a_bench(Faults(mishaps=(Mishap(What.ASSOCIATED, 2, Then.FALL_SILENT, 40.0),)))
    with pytest.raises(NoAnswerError):
        bench.associate()
    clock.advance(30)
    with pytest.raises(NoAnswerError):
        bench.connect()
    clock.advance(10)
    bench.connect().associate()


def test_replies_that_are_lost_at_random_cost_time_and_nothing_else():
    bench, meter, clock = a_bench(Faults(replies_lost=0.3))
    bench.patience = 20
    bench.send_all(IMAGE)
    assert meter.history.blocks == dict.fromkeys(range(10), 1)
    assert clock.monotonic() > 3.0
