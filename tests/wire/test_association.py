"""Associations: every golden AARQ, AARE, RLRQ and RLRE is understood to its last field and written back; oddities of
real meters are taken as they are meant."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.notation import acse_fields, initiate_fields, without_empty_titles
from support.vectors import vector as vector_of
from support.vectors import vectors

from gateway.errors import WireError
from gateway.wire import association
from gateway.wire.apdu import ConfirmedServiceError
from gateway.wire.association import (
    Aare,
    Aarq,
    Context,
    Diagnostic,
    DiagnosticSource,
    Mechanism,
    Result,
    Rlre,
    Rlrq,
)
from gateway.wire.initiate import (
    Conformance,
    InitiateRequest,
    InitiateResponse,
    decode_initiate,
    encode_initiate,
)

CODECS = {
    "AARQ": (association.decode_aarq, association.encode_aarq),
    "AARE": (association.decode_aare, association.encode_aare),
    "RLRQ": (association.decode_rlrq, association.encode_rlrq),
    "RLRE": (association.decode_rlre, association.encode_rlre),
}
# What is inside the ciphered initiate APDU: test_security.py opens it.
CIPHERED_FIELDS = {"plaintext", "plaintext_kind"}
PROPOSAL = Conformance.GET | Conformance.SET | Conformance.ACTION | Conformance.BLOCK_TRANSFER_WITH_GET
INITIATE = bytes.fromhex("01000000065f1f0400007e1f04b0")


def of_kind(*kinds):
    return [vector for vector in vectors(kind="apdu", valid=True) if vector.fields["apdu_kind"] in kinds]


@pytest.mark.parametrize("vector", of_kind(*CODECS), ids=str)
def test_an_association_is_understood_to_its_last_field_and_written_back(vector):
    kind = vector.fields["apdu_kind"]
    decode, encode = CODECS[kind]
    found = decode(vector.octets)
    expected = {name: value for name, value in vector.fields.items() if name not in CIPHERED_FIELDS}
    assert acse_fields(kind, found) == without_empty_titles(expected)
    if vector.id == "acse-aarq-empty-title":  # an empty title says the same as none, which is what we write
        assert encode(found) == b"\x60\x36" + vector.octets[2:].replace(bytes.fromhex("a6020400"), b"")
    else:
        assert encode(found) == vector.octets


@pytest.mark.parametrize("vector", of_kind("initiateRequest", "initiateResponse"), ids=str)
def test_an_initiate_is_understood_to_its_last_field_and_written_back(vector):
    found = decode_initiate(vector.octets)
    assert initiate_fields(found) == vector.fields
    assert encode_initiate(found) == vector.octets


@pytest.mark.parametrize("vector", vectors(file="association", kind="apdu", valid=False), ids=str)
def test_what_is_no_association_is_refused(vector):
    def decode(octets):
        match octets[0]:
            case 0x60:
                decode_initiate(association.decode_aarq(octets).initiate)
            case 0x61:
                association.decode_aare(octets)
            case _:
                decode_initiate(octets)

    with pytest.raises(WireError):
        decode(vector.octets)


def test_the_association_inside_a_captured_frame_is_understood():
    shown = [vector.fields for vector in vectors(file="hdlc") if vector.fields.get("apdu_kind") in CODECS]
    assert shown
    for fields in shown:
        decode, encode = CODECS[fields["apdu_kind"]]
        assert encode(decode(bytes.fromhex(fields["apdu"]))).hex() == fields["apdu"]


# -- what a session sees --------------------------------------------------------------------------------------


def test_half_way_through_hls_is_neither_success_nor_failure():
    aare = association.decode_aare(vector_of("acse-aare-gmac-plain").octets)
    assert (aare.result, aare.diagnostic) == (Result.ACCEPTED, Diagnostic.AUTHENTICATION_REQUIRED)
    assert (aare.mechanism, aare.challenge) == (Mechanism.GMAC, b"P6wRJ21F")
    agreed = decode_initiate(aare.initiate)
    assert Conformance.ACTION in agreed.conformance
    assert Conformance.BLOCK_TRANSFER_WITH_ACTION not in agreed.conformance
    assert agreed.max_pdu == 500


def test_a_wrong_password_is_told_from_other_rejections():
    wrong = association.decode_aare(vector_of("acse-aare-diag-13").octets)
    assert wrong == Aare(Context.LN, Result.REJECTED_PERMANENT, Diagnostic.AUTHENTICATION_FAILURE)
    provider = association.decode_aare(vector_of("acse-aare-provider").octets)
    assert (provider.diagnostic_source, provider.diagnostic) == (DiagnosticSource.PROVIDER, 2)


def test_secrets_do_not_show():
    shown = repr(Aarq(Context.LN, INITIATE, Mechanism.LLS, b"12345678"))
    assert "12345678" not in shown
    assert "sixteen octets!!" not in repr(InitiateRequest(PROPOSAL, 1024, b"sixteen octets!!"))


# -- oddities of real meters ----------------------------------------------------------------------------------


INITIATE_RESPONSE = "0800065f1f040000501f01f40007"


@pytest.mark.parametrize("oddity, contents", [
    ("lengths in their long form",
     "a1 810a 06 8107 60857405080101 a2 03 02 01 00 a3 820005 a1 03 02 01 00 be 10 04 0e"),
    ("mechanism number with its top bit set",
     "a1 09 06 07 60857405080101 a2 03 02 01 00 a3 05 a1 03 02 01 00 89 07 60857405080285 be 10 04 0e"),
    ("an element that we do not know",
     "a1 09 06 07 60857405080101 a2 03 02 01 00 a3 05 a1 03 02 01 00 bf 02 0102 be 10 04 0e"),
    ("elements in another order", "a3 05 a1 03 02 01 00 a2 03 02 01 00 a1 09 06 07 60857405080101 be 10 04 0e"),
    ("a result in two octets", "a1 09 06 07 60857405080101 a2 04 02 02 0000 a3 05 a1 03 02 01 00 be 10 04 0e"),
])  # fmt: skip
def test_what_a_meter_writes_otherwise_is_taken_as_it_is_meant(oddity, contents):
    octets = bytes.fromhex(contents + INITIATE_RESPONSE)
    mechanism = Mechanism.GMAC if "mechanism" in oddity else Mechanism.NONE
    expected = Aare(
        Context.LN,
        Result.ACCEPTED,
        Diagnostic.NULL,
        mechanism=mechanism,
        initiate=bytes.fromhex(INITIATE_RESPONSE),
    )
    for length in (bytes((len(octets),)), bytes((0x81, len(octets))), bytes((0x82, 0, len(octets)))):
        assert association.decode_aare(b"\x61" + length + octets) == expected


def test_the_conformance_tag_may_have_one_octet():
    """Green Book: [APPLICATION 31] "encoded on one byte is accepted" for older meters."""
    found = decode_initiate(bytes.fromhex("0800065f040000501f01f40007"))
    assert found == InitiateResponse(Conformance(0x00501F), 500)


CONTEXT, ACCEPTED, NO_DIAGNOSTIC = "a109060760857405080101", "a203020100", "a305a103020100"


@pytest.mark.parametrize("octets, why", [
    ("", "1 expected"),
    ("60 00", "begins no AARE"),
    ("61 80", "length 80"),
    ("61 05 a203020100", "diagnostic is missing"),
    (f"61 15 {ACCEPTED} {NO_DIAGNOSTIC} a109060760857405", "octets left"),
    (f"61 0c {ACCEPTED} {NO_DIAGNOSTIC}", "a1 is missing"),
    (f"61 12 {CONTEXT} {NO_DIAGNOSTIC}", "a2 is missing"),
    (f"61 17 {CONTEXT} {ACCEPTED} a305a403020101", "diagnostic is a403020101"),
    (f"61 17 {CONTEXT} {ACCEPTED} a305a103040101", "element 04 where 02"),
    (f"61 16 {CONTEXT} {ACCEPTED} a304a1020200", "integer of 0 octets"),
    (f"61 18 {CONTEXT} {ACCEPTED} a306a10302010000", "too many"),
    (f"61 17 a109060760857405090101 {ACCEPTED} {NO_DIAGNOSTIC}", "60857405090101 is none"),
    (f"61 16 a1080606608574050801 {ACCEPTED} {NO_DIAGNOSTIC}", "608574050801 is none"),
    (f"61 1c {CONTEXT} {ACCEPTED} {ACCEPTED} {NO_DIAGNOSTIC}", "a2 twice"),
    (f"61 17 {CONTEXT} {ACCEPTED} {NO_DIAGNOSTIC} 00", "too many"),
    (f"61 1c {CONTEXT} {ACCEPTED} {NO_DIAGNOSTIC} 8903608574", "mechanism 608574 is none"),
])  # fmt: skip
def test_what_is_no_aare_is_refused(octets, why):
    with pytest.raises(WireError, match=why):
        association.decode_aare(bytes.fromhex(octets))


@pytest.mark.parametrize("octets", [
    "", "02", "0801", "01000000065e1f0400007e1f04b0", "01000000065f1f0401007e1f04b0", "01000000065f1f0400007e1f04b000",
    "010200000006", "0e0106", "08000000",
])  # fmt: skip
def test_what_is_no_initiate_is_refused(octets):
    with pytest.raises(WireError):
        decode_initiate(bytes.fromhex(octets))


@pytest.mark.parametrize("encode, message", [
    (encode_initiate, InitiateRequest(PROPOSAL, 65536)),
    (association.encode_aarq, Aarq(256, INITIATE)),
    (association.encode_aare, Aare(Context.LN, Result.ACCEPTED, -1)),
])  # fmt: skip
def test_what_does_not_fit_is_not_sent(encode, message):
    with pytest.raises(WireError):
        encode(message)


# -- anything -------------------------------------------------------------------------------------------------

TITLES = st.just(b"") | st.binary(min_size=8, max_size=8)
OCTETS = st.binary(min_size=1, max_size=200)
U8, U16 = st.integers(0, 255), st.integers(0, 65535)
CONFORMANCES = st.integers(0, 2**24 - 1).map(Conformance)
MECHANISMS = st.tuples(st.integers(1, 127), OCTETS) | st.just((0, b""))


@given(st.one_of(
    st.builds(InitiateRequest, CONFORMANCES, U16, st.binary(max_size=40), st.booleans(), st.none() | U8, U8),
    st.builds(InitiateResponse, CONFORMANCES, U16, st.none() | U8, U8, U16),
    st.builds(ConfirmedServiceError, U8, U8, U8),
))  # fmt: skip
def test_every_initiate_comes_back_as_it_went(initiate):
    assert decode_initiate(encode_initiate(initiate)) == initiate


@given(U8, OCTETS, MECHANISMS, TITLES)
def test_every_aarq_comes_back_as_it_went(context, initiate, mechanism, title):
    aarq = Aarq(context, initiate, *mechanism, title)
    assert association.decode_aarq(association.encode_aarq(aarq)) == aarq


AARES = st.builds(
    lambda mechanism, *fields: Aare(*fields[:5], *mechanism, fields[5]),
    MECHANISMS, U8, U8, U8, st.sampled_from(DiagnosticSource), TITLES, st.just(b"") | OCTETS,
)  # fmt: skip


@given(AARES)
def test_every_aare_comes_back_as_it_went(aare):
    assert association.decode_aare(association.encode_aare(aare)) == aare


@given(st.none() | U8, st.just(b"") | OCTETS)
def test_every_release_comes_back_as_it_went(reason, initiate):
    assert association.decode_rlrq(association.encode_rlrq(Rlrq(reason, initiate))) == Rlrq(reason, initiate)
    assert association.decode_rlre(association.encode_rlre(Rlre(reason, initiate))) == Rlre(reason, initiate)


DECODERS = {
    0x60: association.decode_aarq, 0x61: association.decode_aare, 0x62: association.decode_rlrq,
    0x63: association.decode_rlre, 0x01: decode_initiate, 0x08: decode_initiate,
}  # fmt: skip
GENUINE = [vector.octets for vector in of_kind(*CODECS, "initiateRequest", "initiateResponse")]


@given(st.sampled_from(sorted(DECODERS)), st.binary(max_size=200))
@settings(max_examples=300)
def test_arbitrary_octets_are_refused_and_nothing_else(tag, octets):
    for whole in (bytes((tag,)) + octets, bytes((tag, len(octets) & 0x7F)) + octets):
        with suppress(WireError):
            DECODERS[tag](whole)


@given(st.sampled_from(GENUINE), st.data())
@settings(max_examples=300)
def test_damaged_associations_are_understood_or_refused(genuine, draw):
    octets = bytearray(genuine)
    octets[draw.draw(st.integers(1, len(octets) - 1))] ^= draw.draw(st.integers(1, 255))
    cut = draw.draw(st.integers(1, len(octets)))
    with suppress(WireError):
        DECODERS[octets[0]](bytes(octets[:cut]))
