"""Signing on at an optical port, octet by octet."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.vectors import vector, vectors

from gateway.wire import mode_e
from gateway.wire.mode_e import Identification, IdentificationReader, agreed_baud, confirming

IDENTIFICATIONS = [v for v in vectors(kind="optical", valid=True) if v.fields["message"] == "identification"]
REQUESTS = [v for v in vectors(kind="optical", valid=True) if v.fields["message"] == "request"]
ACKNOWLEDGEMENTS = [
    v for v in vectors(kind="optical", valid=True)
    if v.fields["message"] == "ack" and (v.fields["protocol"], v.fields["mode"]) == ("2", "2")
]  # fmt: skip
READOUTS = [vector("opt-ack-051"), vector("opt-ack-052")]
A_METER = b"/LGZ5\\2ZMD310\r\n"


def read(octets):
    return IdentificationReader().feed(octets)


def seven_bits(octets):
    return bytes(octet & 0x7F for octet in octets)


@pytest.mark.parametrize("v", IDENTIFICATIONS, ids=str)
def test_an_identification_is_understood(v):
    found = read(v.octets)
    fields = v.fields
    assert (found.manufacturer, found.baud, found.hdlc, found.text) == (
        fields["manufacturer"], fields["baud"], fields["hdlc_capable"], fields["identification"],
    )  # fmt: skip


@pytest.mark.parametrize("v", IDENTIFICATIONS, ids=str)
def test_parity_bits_are_cut_off(v):
    assert read(mode_e.with_parity(v.octets)) == read(v.octets)


@pytest.mark.parametrize("v", vectors(kind="optical", valid=False), ids=str)
def test_what_is_no_identification_is_waited_past(v):
    reader = IdentificationReader()
    assert reader.feed(v.octets) is None
    assert reader.feed(A_METER) == Identification("LGZ", 9600, True, "ZMD310")


@pytest.mark.parametrize("v", REQUESTS, ids=str)
def test_a_request_is_written_as_others_write_it(v):
    assert seven_bits(mode_e.request(v.fields.get("address", ""))) == v.octets


def test_the_parity_bits_are_those_that_a_line_of_7_bits_has():
    captured = vector("opt-7e1-request")
    assert mode_e.request() == captured.octets
    assert seven_bits(captured.octets).hex() == captured.fields["stripped"]


@pytest.mark.parametrize("v", ACKNOWLEDGEMENTS, ids=str)
def test_an_acknowledgement_is_written_as_others_write_it(v):
    assert seven_bits(mode_e.acknowledgement(v.fields["baud"])) == v.octets


@pytest.mark.parametrize("v", READOUTS, ids=str)
def test_a_readout_is_never_asked_for(v):
    assert v.octets not in {seven_bits(mode_e.acknowledgement(baud)) for baud in mode_e.BAUDS}


def test_the_break_is_the_one_of_the_standard():
    assert seven_bits(mode_e.BREAK) == bytes.fromhex("0142300371")


@pytest.mark.parametrize(
    ("offered", "most", "agreed"),
    [
        (9600, 9600, 9600),
        (19200, 9600, 9600),
        (4800, 115200, 4800),
        (300, 9600, 300),
        (115200, 57600, 57600),
    ],
)
def test_the_lower_of_both_rates_is_agreed(offered, most, agreed):
    assert agreed_baud(offered, most) == agreed


def test_a_rate_that_is_none_offers_no_hdlc():
    """Mode B meters name their rate by letters, and have no HDLC."""
    assert read(b"/ABCA\\2X\r\n") == Identification("ABC", 0, False, "X")


@pytest.mark.parametrize(
    "before",
    [
        mode_e.request(),
        mode_e.request("12345678"),
        mode_e.request("12345678")[:5],
        b"\x00\xff\x80~~",
        b"/ABC5\\2 cut of",
        b"/" + b"x" * 100,
        b"1.8.0(000123.4*kWh)\r\n!\r\n",
    ],
)
def test_an_identification_is_found_behind_anything(before):
    assert read(before + mode_e.with_parity(A_METER)) == read(A_METER)


@given(before=st.binary(max_size=60), chunks=st.lists(st.integers(1, 12), max_size=40))
def test_any_chunking_finds_the_same(before, chunks):
    octets = before + A_METER
    reader, found, start = IdentificationReader(), None, 0
    for size in [*chunks, len(octets)]:
        found = found or reader.feed(octets[start : start + size])
        start += size
    assert found == read(octets)
    assert found is not None


@given(st.binary(max_size=400))
def test_arbitrary_octets_are_waited_past(octets):
    found = read(octets)
    assert found is None or found.baud in {0, *mode_e.BAUDS}


def test_a_readout_holds_no_memory():
    reader = IdentificationReader()
    assert reader.feed(b"/" + b"1.8.0(000123.4*kWh)" * 1000) is None
    assert reader.heard == 19_001
    assert len(reader._line) < 100


ACK = mode_e.acknowledgement(9600)


@pytest.mark.parametrize("heard", [ACK[:1], ACK[:5], seven_bits(ACK[:3]), b"\x00\xf8" + ACK[:4]])
def test_a_confirmation_that_has_begun_is_heard_out(heard):
    assert confirming(heard, ACK)


@pytest.mark.parametrize("heard", [b"", ACK, b"\x00" + ACK, mode_e.acknowledgement(4800), b"\x15"])
def test_none_is_waited_for_that_has_not_begun_or_has_ended(heard):
    assert not confirming(heard, ACK)


@given(st.binary(max_size=40))
def test_after_an_acknowledgement_anything_may_be_heard(heard):
    confirming(heard, ACK)
