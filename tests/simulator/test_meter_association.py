"""Who may come in, and how every message is protected from then on."""

import contextlib
import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.bench import (
    CLOCK,
    COUNTER,
    DEDICATED_KEY,
    FIRMWARE,
    LDN,
    REPLY_TO_HLS,
    Bench,
    NoAnswerError,
    an_image,
)

from gateway.model import Authentication, HlsCounter, MeterKeys, Security
from gateway.simulator import NONE, Faults, MeterSpec, VirtualClock, VirtualLine, VirtualMeter, What
from gateway.wire import apdu as pdu
from gateway.wire import axdr
from gateway.wire import image_transfer as it
from gateway.wire.association import Context, Diagnostic, Mechanism, Result, Rlrq, decode_rlre, encode_rlrq
from gateway.wire.initiate import Conformance, InitiateRequest, encode_initiate

KEYS = MeterKeys(bytes(range(16)), bytes(range(0xD0, 0xE0)), b"correct horse")
LLS = MeterSpec(authentication=Authentication.LLS, keys=KEYS)
GMAC = MeterSpec(authentication=Authentication.HLS_GMAC, keys=KEYS)
BOTH = replace(GMAC, security=Security.BOTH)
NOT_POSSIBLE, NOT_SUPPORTED, OTHER, TOO_LONG, DECIPHERING = (
    bytes((0xD8, 1, service)) for service in range(1, 6)
)


def a_bench(spec=BOTH, faults=NONE, **changes):
    meter = VirtualMeter(spec, faults=faults)
    bench = Bench(VirtualLine([meter], VirtualClock()), spec, **changes).connect()
    return bench, meter


def expected_counter(answer):
    exception = pdu.decode(answer)
    assert (exception.state, exception.service) == (1, 6), exception
    return exception.counter


@pytest.mark.parametrize("authentication, security, general, dedicated", [
    row for row in itertools.product(Authentication, Security, (False, True), (False, True))
    if row[1] is not Security.NONE or row[2:] == (False, False)
])  # fmt: skip
def test_every_way_in_leads_to_the_same_objects(authentication, security, general, dedicated):
    spec = replace(BOTH, authentication=authentication, security=security, general=general)
    bench, meter = a_bench(spec, dedicated=dedicated)
    bench.associate()
    assert bench.get(LDN) == b"SIM0000000000001"
    assert bench.get(FIRMWARE) == b"1.0.0"
    image = an_image(600)
    bench.send_all(image)
    assert meter.image.image == image
    assert meter.history.count(What.ASSOCIATED) == 1


@pytest.mark.parametrize("spec, changes, diagnostic", [
    (LLS, {"authentication_value": b"wrong"}, Diagnostic.AUTHENTICATION_FAILURE),
    (LLS, {"authentication_value": b""}, Diagnostic.AUTHENTICATION_FAILURE),
    (LLS, {"mechanism": Mechanism.NONE}, Diagnostic.MECHANISM_REQUIRED),
    (LLS, {"mechanism": Mechanism.GMAC}, Diagnostic.MECHANISM_NOT_RECOGNISED),
    (LLS, {"context": Context.LN_CIPHERED}, Diagnostic.CONTEXT_NAME_NOT_SUPPORTED),
    (LLS, {"initiate": b"\x01\x00"}, Diagnostic.NO_REASON_GIVEN),
    (GMAC, {"calling_title": b""}, Diagnostic.CALLING_TITLE_NOT_RECOGNIZED),
    (GMAC, {"authentication_value": b"short"}, Diagnostic.AUTHENTICATION_FAILURE),
    (replace(GMAC, client_title=b"OTHER  1"), {}, Diagnostic.CALLING_TITLE_NOT_RECOGNIZED),
    (BOTH, {"context": Context.LN}, Diagnostic.CONTEXT_NAME_NOT_SUPPORTED),
    (BOTH, {"initiate": encode_initiate(InitiateRequest(Conformance.GET, 500))}, Diagnostic.AUTHENTICATION_FAILURE),
    (LLS, {"initiate": encode_initiate(InitiateRequest(Conformance.GET, 500, DEDICATED_KEY))},
     Diagnostic.NO_REASON_GIVEN),
])  # fmt: skip
def test_whoever_is_not_right_in_everything_is_rejected(spec, changes, diagnostic):
    bench, meter = a_bench(spec)
    aare = bench.aarq(**changes)
    assert (aare.result, aare.diagnostic) == (Result.REJECTED_PERMANENT, diagnostic)
    assert bench.raw(pdu.encode(pdu.GetRequest(pdu.Invoke(), LDN))) == NOT_POSSIBLE
    assert meter.history.count(What.REJECTED) == 1


def test_a_wrong_encryption_key_a_wrong_authentication_key_and_a_wrong_title_are_authentication_failures():
    for changes in ({"encryption_key": bytes(16)}, {"authentication_key": bytes(16)}):
        bench, _ = a_bench(**changes)
        assert bench.aarq().diagnostic == Diagnostic.AUTHENTICATION_FAILURE
    bench, _ = a_bench()
    assert bench.aarq(calling_title=b"OTHER  1").diagnostic == Diagnostic.AUTHENTICATION_FAILURE


def test_a_client_that_nobody_knows_is_rejected():
    bench, _ = a_bench(MeterSpec(), client=77)
    assert bench.aarq().result == Result.REJECTED_PERMANENT


def test_the_public_client_reads_what_is_public_and_nothing_else():
    bench, _ = a_bench(replace(BOTH, client_counter=4711, public_version=False), client=16)
    bench.associate()
    assert bench.get(LDN) == b"SIM0000000000001"
    assert bench.get(COUNTER) == 4711
    assert len(bench.get(CLOCK)) == 12
    denied = pdu.DataAccessResult.READ_WRITE_DENIED
    assert bench.get(FIRMWARE) == denied
    assert bench.image(it.STATUS) == denied
    assert bench.initiate(b"image") == denied
    enable = pdu.SetRequest(bench.invoke, it.attribute(it.DEFAULT_INSTANCE, 5), axdr.boolean(True))
    assert bench.ask(enable).result == denied


def test_nothing_is_served_before_the_client_has_proved_itself():
    bench, meter = a_bench(GMAC)
    aare = bench.aarq()
    assert bench.raw(pdu.encode(pdu.GetRequest(pdu.Invoke(), LDN))) == NOT_POSSIBLE
    assert meter.history.count(What.ASSOCIATED) == 0
    assert bench.reply_to_hls(aare).result == 0
    assert bench.get(LDN)


@pytest.mark.parametrize("spec", [GMAC, BOTH], ids=["context 1", "context 3"])
def test_a_wrong_proof_ends_the_attempt(spec):
    bench, meter = a_bench(spec)
    aare = bench.aarq()
    answer = bench.reply_to_hls(replace(aare, challenge=b"another challenge"))
    assert answer.result == pdu.ActionResult.READ_WRITE_DENIED
    assert bench.raw(pdu.encode(pdu.GetRequest(pdu.Invoke(), LDN))) == NOT_POSSIBLE
    assert meter.history.count(What.SECURITY) == 1


def test_every_association_has_a_challenge_of_its_own():
    bench, _ = a_bench(GMAC)
    assert len({bench.aarq().challenge for _ in range(20)}) == 20


# -- counters -------------------------------------------------------------------------------------------------


def test_counters_only_rise_over_associations_and_reboots():
    bench, meter = a_bench(replace(BOTH, client_counter=1000), counter=999)
    assert expected_counter(bench.raw(bench.encoded_aarq())) == 1001
    bench.associate()
    highest = bench.counter
    meter.reboot(bench.port.clock.monotonic())
    bench.port.clock.advance(60)
    bench.connect()
    bench.counter = highest - 1
    assert expected_counter(bench.raw(bench.encoded_aarq())) == highest + 1
    bench.associate()


@pytest.mark.parametrize("dedicated", [False, True])
def test_a_counter_that_was_used_is_refused_with_the_expected_one(dedicated):
    bench, meter = a_bench(dedicated=dedicated)
    bench.associate()
    sealed = bench.protection.seal(pdu.encode(pdu.GetRequest(bench.invoke, LDN)), bench.next_counter())
    bench.protection.open(bench.raw(sealed))
    assert expected_counter(bench.raw(sealed)) == bench.counter + 1
    assert bench.get(LDN), "the association goes on"
    assert meter.history.count(What.SECURITY) == 1


@pytest.mark.parametrize("insists, outer_first, accepted", [
    (None, False, True),
    (None, True, True),
    (HlsCounter.INNER_FIRST, False, True),
    (HlsCounter.INNER_FIRST, True, False),
    (HlsCounter.OUTER_FIRST, True, True),
    (HlsCounter.OUTER_FIRST, False, False),
])  # fmt: skip
def test_some_meters_insist_on_an_order_of_proof_and_apdu(insists, outer_first, accepted):
    bench, _ = a_bench(replace(BOTH, hls_counter=insists))
    answer = bench.reply_to_hls(bench.aarq(), outer_first=outer_first)
    assert isinstance(answer, pdu.ActionResponse if accepted else pdu.ExceptionResponse)


def test_a_proof_that_shares_the_counter_of_its_apdu_is_refused():
    bench, _ = a_bench()
    aare = bench.aarq()
    shared = bench.counter + 1
    bench.next_counter = lambda: shared
    assert bench.reply_to_hls(aare).service == pdu.ExceptionService.INVOCATION_COUNTER_ERROR


# -- protection -----------------------------------------------------------------------------------------------


def test_every_flipped_bit_of_a_protected_request_is_noticed():
    bench, meter = a_bench()
    bench.associate()
    for position in range(2, 30):
        sealed = bytearray(
            bench.protection.seal(pdu.encode(pdu.GetRequest(bench.invoke, LDN)), bench.next_counter())
        )
        sealed[position] ^= 1
        answer = pdu.decode(bench.raw(bytes(sealed)))
        assert isinstance(answer, pdu.ExceptionResponse), position
    assert meter.history.count(What.SECURITY) == 28
    assert bench.get(LDN)


def test_plain_and_weaker_and_otherwise_wrapped_requests_are_refused():
    bench, _ = a_bench()
    bench.associate()
    plain = pdu.encode(pdu.GetRequest(bench.invoke, LDN))
    assert bench.raw(plain) == DECIPHERING
    for security, general in (
        (Security.AUTHENTICATION, False),
        (Security.ENCRYPTION, False),
        (Security.BOTH, True),
    ):
        other, _ = a_bench(replace(BOTH, security=security, general=general))
        other.aarq()
        assert bench.raw(other.protection.seal(plain, bench.next_counter())) == DECIPHERING


def test_some_meters_say_nothing_to_a_security_failure():
    bench, _ = a_bench(faults=Faults(silent_refusals=True))
    bench.associate()
    with pytest.raises(NoAnswerError):
        bench.raw(pdu.encode(pdu.GetRequest(bench.invoke, LDN)))
    assert bench.get(LDN)


def test_a_meter_without_dedicated_keys_rejects_one():
    bench, _ = a_bench(replace(BOTH, dedicated_keys=False), dedicated=True)
    assert bench.aarq().result == Result.REJECTED_PERMANENT


# -- services -------------------------------------------------------------------------------------------------


def test_an_answer_longer_than_the_clients_pdu_comes_in_blocks():
    for base in (MeterSpec(), BOTH):
        spec = replace(base, block_size=16, logical_device_name="N" * 120 + "1")
        bench, _ = a_bench(spec, max_pdu=64)
        bench.associate()
        assert bench.get(LDN) == spec.logical_device_name.encode()
        assert bench.blocks_read > 1
        image = an_image(16 * 1000)
        bench.send_all(image)
        assert bench.missing(image) == []
        assert bench.blocks_read > 2


def test_no_answer_is_longer_than_the_clients_pdu():
    spec = replace(BOTH, logical_device_name="N" * 900 + "1")
    for size in (40, 100, 255, 256, 300):
        bench, _ = a_bench(spec, max_pdu=size)
        bench.associate()
        lengths = []
        answers = bench.raw

        def measured(apdu, answers=answers, lengths=lengths):
            answer = answers(apdu)
            lengths.append(len(answer))
            return answer

        bench.raw = measured
        assert bench.get(LDN) == spec.logical_device_name.encode()
        assert size - 16 <= max(lengths) <= size


def test_a_client_that_did_not_agree_on_blocks_gets_a_reason_and_wrong_block_numbers_end_a_transfer():
    spec = MeterSpec(logical_device_name="N" * 300 + "1")
    bench, _ = a_bench(spec, max_pdu=64, conformance=Conformance.GET)
    bench.associate()
    assert bench.get(LDN) == pdu.DataAccessResult.OTHER_REASON
    assert bench.raw(pdu.encode(pdu.SetRequest(bench.invoke, LDN, axdr.null()))) == NOT_SUPPORTED
    bench, _ = a_bench(spec, max_pdu=64)
    bench.associate()
    nothing = bench.ask(pdu.GetNextRequest(bench.invoke, 1))
    assert nothing.result == pdu.DataAccessResult.NO_LONG_GET_IN_PROGRESS
    assert bench.ask(pdu.GetRequest(bench.invoke, LDN)).number == 1
    wrong = bench.ask(pdu.GetNextRequest(bench.invoke, 7))
    assert wrong.result == pdu.DataAccessResult.DATA_BLOCK_NUMBER_INVALID


def test_what_is_not_there_or_is_something_else_has_its_own_result():
    bench, _ = a_bench(MeterSpec())
    bench.associate()
    results = pdu.DataAccessResult
    assert bench.get(pdu.Attribute(1, pdu.obis("9-9:9.9.9.9"), 2)) == results.OBJECT_UNDEFINED
    assert bench.get(LDN._replace(class_id=3)) == results.OBJECT_CLASS_INCONSISTENT
    assert bench.get(LDN._replace(attribute=3)) == results.OBJECT_UNDEFINED
    assert bench.get(LDN._replace(attribute=1)) == LDN.instance
    assert bench.ask(pdu.SetRequest(bench.invoke, LDN, axdr.null())).result == results.READ_WRITE_DENIED
    assert bench.ask(pdu.ActionRequest(bench.invoke, REPLY_TO_HLS)).result == results.READ_WRITE_DENIED
    selective = pdu.GetRequest(bench.invoke, LDN, pdu.Access(1, axdr.null()))
    assert bench.ask(selective).result == results.OBJECT_UNDEFINED


def test_octets_that_mean_nothing_or_are_too_many_get_an_exception():
    bench, _ = a_bench(replace(MeterSpec(), max_pdu=100))
    bench.associate()
    assert bench.raw(b"\xc0\x01") == OTHER
    assert bench.raw(bytes(101)) == TOO_LONG
    assert bench.raw(b"\x62\x05") == OTHER


@given(st.data())
def test_no_apdu_however_mangled_stops_a_meter(data):
    for spec in (MeterSpec(), LLS, BOTH):
        bench, meter = a_bench(spec)
        aarq = bench.encoded_aarq()
        bench.associate()
        block = pdu.ActionRequest(bench.invoke, it.method(it.DEFAULT_INSTANCE, 2), it.block_data(0, b"block"))
        for octets in (aarq, pdu.encode(block), pdu.encode(pdu.GetRequest(bench.invoke, LDN))):
            mangled = bytearray(octets)
            for position in data.draw(st.lists(st.integers(0, len(octets) - 1), max_size=3)):
                mangled[position] = data.draw(st.integers(0, 255))
            with contextlib.suppress(NoAnswerError):
                bench.raw(bytes(mangled[: data.draw(st.integers(0, len(octets)))]))
        bench.connect().associate()
        assert bench.get(LDN)
        assert meter.image.image == b""


def test_release_ends_the_association_and_a_new_link_knows_none():
    bench, _ = a_bench(MeterSpec())
    bench.associate()
    assert decode_rlre(bench.raw(encode_rlrq(Rlrq()))).reason == 0
    get = pdu.encode(pdu.GetRequest(bench.invoke, LDN))
    assert bench.raw(get) == NOT_POSSIBLE
    bench.associate()
    bench.connect()
    assert bench.raw(get) == NOT_POSSIBLE


def test_an_unconfirmed_request_is_served_without_an_answer():
    bench, meter = a_bench(MeterSpec())
    bench.associate()
    unconfirmed = pdu.Invoke(confirmed=False)
    method = it.method(it.DEFAULT_INSTANCE, it.INITIATE)
    with pytest.raises(NoAnswerError):
        bench.raw(pdu.encode(pdu.ActionRequest(unconfirmed, method, it.initiate_data(b"fw", 1))))
    assert meter.history.initiates == 1


def test_no_secret_shows_in_what_is_printed_of_a_meter():
    shown = repr(BOTH) + repr(VirtualMeter(BOTH))
    assert KEYS.password.decode() not in shown
    assert repr(KEYS.encryption_key) not in shown
