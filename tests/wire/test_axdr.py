"""COSEM values: every golden value is understood and written back, and no octets can do harm."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.effort import calls_of
from support.notation import data_text, same_value
from support.vectors import vectors

from gateway.errors import WireError
from gateway.wire import axdr
from gateway.wire.axdr import (
    MAX_DEPTH,
    BitString,
    CompactArray,
    Data,
    DateTime,
    Tag,
    TypeDescription,
)
from gateway.wire.reader import MAX_ELEMENTS


@pytest.mark.parametrize("vector", vectors(kind="axdr-data", valid=True), ids=str)
def test_a_value_is_understood_and_written_back(vector):
    data = axdr.decode(vector.octets)
    expected = dict(vector.fields)
    found = {"value": data_text(data)}
    if "year" in expected:
        moment = DateTime.decode(data.value)
        found |= moment._asdict() | {"clock_status": f"{moment.clock_status:02x}"}
    assert found == expected
    # One vector has a length in a longer form than needed, which is to be accepted.
    shortest = vector.octets.replace(b"\x09\x82\x00\x05", b"\x09\x05")
    assert axdr.encode(data) == shortest


@pytest.mark.parametrize("vector", vectors(kind="axdr-data", valid=False), ids=str)
def test_octets_that_are_no_value_are_refused(vector):
    with pytest.raises(WireError):
        axdr.decode(vector.octets)


@pytest.mark.parametrize("data, octets", [
    (axdr.null(), "00"),
    (axdr.boolean(True), "0301"),
    (axdr.true_as_ff(), "03ff"),
    (axdr.integer(-1), "0fff"),
    (axdr.unsigned(255), "11ff"),
    (axdr.u16(258), "120102"),
    (axdr.u32(65536), "0600010000"),
    (axdr.enum(6), "1606"),
    (axdr.octet_string(b"\x01\x02"), "09020102"),
    (axdr.bit_string(b"\xa0", 3), "0403a0"),
    (axdr.structure(axdr.u32(1), axdr.array()), "020206000000010100"),
])  # fmt: skip
def test_what_a_client_sends_has_a_short_name(data, octets):
    assert axdr.encode(data).hex() == octets


# -- lengths --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length, octets", [
    (0, "00"), (127, "7f"), (128, "8180"), (255, "81ff"), (256, "820100"), (65535, "82ffff"), (65536, "83010000"),
])  # fmt: skip
def test_lengths_take_their_shortest_form(length, octets):
    assert axdr.encode_length(length).hex() == octets
    assert axdr.decode_length(bytes.fromhex(octets), 0) == (length, len(octets) // 2)
    contents = bytes(length)
    assert axdr.decode(axdr.encode(axdr.octet_string(contents))).value == contents


@pytest.mark.parametrize("octets", ["80", "85ffffffffff", "ff", "81", "8201"])
def test_a_length_without_meaning_is_refused(octets):
    with pytest.raises(WireError):
        axdr.decode_length(bytes.fromhex(octets), 0)


def test_a_value_in_the_midst_of_octets_tells_where_it_ends():
    assert axdr.decode_at(bytes.fromhex("ffff120102ee"), 2) == (axdr.u16(258), 5)


# -- what does not fit ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [
    Data(Tag.UNSIGNED, 256),
    Data(Tag.UNSIGNED, -1),
    Data(Tag.UNSIGNED, 1.5),
    Data(Tag.INTEGER, 128),
    Data(Tag.FLOAT32, 1e300),
    Data(Tag.OCTET_STRING, "text"),
    Data(Tag.BOOLEAN, 1),
    Data(Tag.NULL, 0),
    Data(Tag.DATE, bytes(4)),
    Data(Tag.VISIBLE_STRING, "€"),
    Data(Tag.BIT_STRING, BitString(b"\x00\x00", 8)),
    Data(Tag.ARRAY, None),
    Data(Tag.COMPACT_ARRAY, CompactArray(TypeDescription(Tag.ARRAY, (TypeDescription(Tag.ENUM),), 65536), ())),
    Data(Tag.COMPACT_ARRAY, CompactArray(TypeDescription(Tag.UNSIGNED), (axdr.u16(1),))),
    Data(Tag.COMPACT_ARRAY, CompactArray(TypeDescription(Tag.STRUCTURE), (axdr.structure(axdr.null()),))),
])  # fmt: skip
def test_a_value_that_does_not_fit_its_type_is_not_sent(data):
    with pytest.raises(WireError):
        axdr.encode(data)


@pytest.mark.parametrize("octets", [
    "", "07", "ff", "11 00 ff", "0c 02 c328",
    "02 02 13 12 03 0100ff 11 01",  # a compact array that ends inside an element, with room for it behind
    "13 00 01 00", "13 01 0000 11 01 ff", "13 02 00 01 00", "13 01 ffff 00 01 00", "13 07 01 00", "13 11 00 00",
])  # fmt: skip
def test_what_is_no_value_is_refused(octets):
    with pytest.raises(WireError):
        axdr.decode(bytes.fromhex(octets))


def test_a_date_time_has_twelve_octets():
    with pytest.raises(WireError, match="12 expected"):
        DateTime.decode(bytes(11))


def test_only_structures_and_arrays_have_members():
    assert axdr.members(axdr.array(axdr.u16(1))) == (axdr.u16(1),)
    assert axdr.members(axdr.decode(bytes.fromhex("1312040100ffff"))) == (axdr.u16(256), axdr.u16(65535))
    with pytest.raises(WireError):
        axdr.members(axdr.octet_string(b"ab"))


# -- bounds ---------------------------------------------------------------------------------------------------


def test_nesting_has_an_end():
    nested = axdr.null()
    for _ in range(MAX_DEPTH):
        nested = axdr.structure(nested)
    assert axdr.decode(axdr.encode(nested)) == nested
    with pytest.raises(WireError, match="deep"):
        axdr.decode(axdr.encode(axdr.structure(nested)))
    with pytest.raises(WireError, match="deep"):
        axdr.decode(b"\x02\x01" * 20000)
    with pytest.raises(WireError, match="deep"):
        axdr.decode(b"\x13" + b"\x01\x00\x01" * 20000)


def test_the_number_of_values_has_an_end():
    many = axdr.array(*[axdr.null()] * (MAX_ELEMENTS - 1))
    assert axdr.decode(axdr.encode(many)) == many
    with pytest.raises(WireError, match="elements"):
        axdr.decode(axdr.encode(axdr.array(*[axdr.null()] * MAX_ELEMENTS)))


@pytest.mark.parametrize("octets", [
    axdr.encode(axdr.array(*[axdr.null()] * (MAX_ELEMENTS - 1))),
    axdr.encode(axdr.array(*[axdr.array()] * (MAX_ELEMENTS - 1))),
    axdr.encode(axdr.array(*[axdr.bit_string(b"", 0)] * (MAX_ELEMENTS - 1))),
    axdr.encode(axdr.array(*[axdr.structure(*[axdr.u32(7)] * 15)] * (MAX_ELEMENTS // 16 - 1))),
    b"\x13\x11\x82\x07\xf0" + bytes(0x07F0),
    b"\x13\x01\xff\xff\x01\xff\xff\x01\xff\xff\x00\x01\x00",
    b"\x13\x01\xff\xff\x11\x82\xff\xff" + bytes(0xFFFF),
    b"\x13\x02\x82\x03\x00" + b"\x02\x00" * 0x300,
    b"\x01\x82\xff\xff" + bytes(0xFFFF),
    b"\x02\x02" * 32768,
], ids=lambda octets: f"{octets[:6].hex()}-{len(octets)}")  # fmt: skip
def test_no_octets_keep_a_decoder_busy(octets):
    """10 ms is the limit; what is counted is calls, which do not depend on the machine. 25,000 take 3 ms on a PC."""

    def decode():
        with suppress(WireError):
            axdr.decode(octets)

    assert calls_of(decode) < 30_000


# -- anything -------------------------------------------------------------------------------------------------

INTEGERS = {
    Tag.DOUBLE_LONG: (-(2**31), 2**31 - 1),
    Tag.DOUBLE_LONG_UNSIGNED: (0, 2**32 - 1),
    Tag.BCD: (-128, 127),
    Tag.INTEGER: (-128, 127),
    Tag.LONG: (-(2**15), 2**15 - 1),
    Tag.UNSIGNED: (0, 255),
    Tag.LONG_UNSIGNED: (0, 65535),
    Tag.LONG64: (-(2**63), 2**63 - 1),
    Tag.LONG64_UNSIGNED: (0, 2**64 - 1),
    Tag.ENUM: (0, 255),
}
LATIN = st.characters(max_codepoint=255)
SIMPLE = st.one_of(
    st.just(Data(Tag.NULL)),
    *[st.builds(Data, st.just(tag), st.integers(low, high)) for tag, (low, high) in INTEGERS.items()],
    st.builds(Data, st.just(Tag.BOOLEAN), st.booleans()),
    st.builds(Data, st.just(Tag.FLOAT32), st.floats(width=32)),
    st.builds(Data, st.just(Tag.FLOAT64), st.floats()),
    st.builds(Data, st.just(Tag.OCTET_STRING), st.binary(max_size=300)),
    st.builds(Data, st.just(Tag.VISIBLE_STRING), st.text(LATIN)),
    st.builds(Data, st.just(Tag.UTF8_STRING), st.text(st.characters(exclude_categories=["Cs"]))),
    st.builds(Data, st.just(Tag.DATE_TIME), st.binary(min_size=12, max_size=12)),
    st.builds(Data, st.just(Tag.DATE), st.binary(min_size=5, max_size=5)),
    st.builds(Data, st.just(Tag.TIME), st.binary(min_size=4, max_size=4)),
    st.builds(lambda octets: axdr.bit_string(octets, 8 * len(octets)), st.binary(max_size=40)),
)
DATA = st.recursive(
    SIMPLE,
    lambda inner: st.builds(Data, st.sampled_from([Tag.ARRAY, Tag.STRUCTURE]), st.lists(inner).map(tuple)),
    max_leaves=30,
)
COMPACT = st.lists(st.builds(axdr.structure, st.builds(axdr.u16, st.integers(0, 65535)),
                             st.builds(axdr.octet_string, st.binary(max_size=9)))).map(
    lambda elements: Data(Tag.COMPACT_ARRAY, CompactArray(
        TypeDescription(Tag.STRUCTURE, (TypeDescription(Tag.LONG_UNSIGNED), TypeDescription(Tag.OCTET_STRING))),
        tuple(elements),
    ))
)  # fmt: skip


@given(DATA | COMPACT)
def test_every_value_comes_back_as_it_went(data):
    assert same_value(axdr.decode(axdr.encode(data)), data)


@given(st.binary(max_size=400))
@settings(max_examples=500)
def test_arbitrary_octets_are_a_value_or_refused(octets):
    try:
        data = axdr.decode(octets)
    except WireError:
        return
    assert same_value(axdr.decode(axdr.encode(data)), data)


@given(DATA, st.data())
def test_damaged_values_are_a_value_or_refused(data, draw):
    octets = bytearray(axdr.encode(data))
    position = draw.draw(st.integers(0, len(octets) - 1))
    octets[position] ^= draw.draw(st.integers(1, 255))
    with suppress(WireError):
        axdr.decode(bytes(octets))
