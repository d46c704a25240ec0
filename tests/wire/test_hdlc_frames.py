"""HDLC frames: what real meters sent, and what a line does to them."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.vectors import Vector, vector, vectors

from gateway.errors import WireError
from gateway.wire.hdlc import (
    Address,
    Damaged,
    Frame,
    FrameReader,
    FrameType,
    control_octet,
    describe_frmr,
    encode_frame,
)

LOST_AN_OCTET = "hdlc-neg-missing-fcs-octet"


def read(octets: bytes) -> list[Frame | Damaged]:
    return FrameReader().feed(octets)


def whole(octets: bytes) -> Frame:
    (frame,) = read(octets)
    assert isinstance(frame, Frame)
    return frame


# -- golden vectors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("found", vectors(kind="hdlc-frame", valid=True), ids=str)
def test_a_frame_of_the_field_is_read_and_written_again_to_the_same_octets(found: Vector):
    frame, fields = whole(found.octets), found.fields
    assert frame.encode() == found.octets

    for address, name in ((frame.destination, "dest"), (frame.source, "src")):
        assert address.encode().hex() == fields[f"{name}_address"]
        assert (address.octets, address.upper) == (fields[f"{name}_octets"], fields[f"{name}_upper"])
        assert address.lower == fields.get(f"{name}_lower")
    assert (frame.type.name, frame.poll_final, frame.segmented) == (
        fields["type"],
        fields["pf"],
        fields["segmented"],
    )
    control = control_octet(frame.type, frame.poll_final, frame.send_seq, frame.receive_seq)
    assert control == int(fields["control"], 16)
    assert (frame.send_seq, frame.receive_seq) == (fields.get("ns", 0), fields.get("nr", 0))
    assert len(found.octets) - 2 == fields["frame_length"]
    assert len(frame.info) == fields["info_length"]
    assert found.octets[-3:-1].hex() == fields["fcs"]
    if "hcs" in fields:
        end_of_header = 3 + fields["dest_octets"] + fields["src_octets"] + 1
        assert found.octets[end_of_header : end_of_header + 2].hex() == fields["hcs"]
    if "info" in fields:
        assert (
            frame.info.hex() == fields["info"] == fields.get("llc", "") + fields.get("apdu", fields["info"])
        )


def test_two_frames_may_share_one_flag():
    shared = vector("hdlc-stream-shared-flag")
    frames = [frame for frame in read(shared.octets) if isinstance(frame, Frame)]
    assert [frame.type.name for frame in frames] == [shared.fields["f0_type"], shared.fields["f1_type"]]
    assert [frame.segmented for frame in frames] == [
        shared.fields["f0_segmented"],
        shared.fields["f1_segmented"],
    ]
    assert [len(frame.encode()) - 2 for frame in frames] == [
        shared.fields["f0_length"],
        shared.fields["f1_length"],
    ]
    assert b"".join(frame.info for frame in frames).hex() == shared.fields["joined_info"]


@pytest.mark.parametrize(
    ("vector_id", "reason", "header_counts"),
    [
        ("hdlc-ui-zmf100", "frame check wrong", True),
        (LOST_AN_OCTET, None, False),
        ("hdlc-neg-fcs", "frame check wrong", False),
        ("hdlc-neg-hcs", "header check wrong", False),
        ("hdlc-neg-format", "frame format type 1, expected a", False),
    ],
)
def test_a_damaged_frame_is_reported_or_awaited_and_the_next_one_is_read(vector_id, reason, header_counts):
    negative, good = vector(vector_id), vector("hdlc-ua-noparams").octets
    assert not negative.valid
    reader = FrameReader()
    first = reader.feed(negative.octets)
    if reason is None:
        assert first == []
    else:
        assert isinstance(first[0], Damaged)
        assert first[0].reason == reason
        assert (first[0].header is not None) is header_counts
    assert reader.feed(good)[-1] == whole(good)


def test_every_negative_frame_vector_is_in_the_table_above():
    negatives = {found.id for found in vectors(file="hdlc", valid=False)}
    assert negatives == {
        "hdlc-ui-zmf100",
        LOST_AN_OCTET,
        "hdlc-neg-fcs",
        "hdlc-neg-hcs",
        "hdlc-neg-format",
    }


@pytest.mark.parametrize("found", vectors(kind="hdlc-address"), ids=str)
def test_addresses_of_one_two_and_four_octets(found: Vector):
    address = Address.decode(found.octets)
    assert (address.octets, address.upper) == (found.fields["octets"], found.fields["upper"])
    assert address.lower == found.fields.get("lower")
    assert address.encode() == found.octets
    # Without a wish for a length the values decide, and come to the same.
    assert Address(address.upper, address.lower).encode() == found.octets


def test_a_frmr_tells_people_what_was_rejected():
    found = vector("hdlc-frmr-tpc")
    assert describe_frmr(whole(found.octets).info) == (
        f"rejected control {found.fields['rejected_control']}, V(S)={found.fields['frmr_vs']}, "
        f"V(R)={found.fields['frmr_vr']}, reasons {found.fields['frmr_wxyz'].lower()}"
    )
    assert describe_frmr(b"\x01") == "FRMR 01"


# -- addresses ------------------------------------------------------------------------------------------------


def test_an_address_is_the_same_whatever_its_length_on_the_line():
    short, long = Address(1, 17, octets=2), Address(1, 17, octets=4)
    assert short == long
    assert (short.encode(), long.encode()) == (b"\x02\x23", b"\x00\x02\x00\x23")
    assert Address.decode(long.encode()) == short
    assert Address(1, 18) != short
    assert Address(1) != Address(1, 0)


@pytest.mark.parametrize(
    "address",
    [
        Address(128),
        Address(-1),
        Address(1, octets=2),
        Address(1, 128, octets=2),
        Address(1, 17, octets=1),
        Address(1, 17, octets=3),
        Address(1, 0x4000),
        Address(0x4000, 1),
    ],
    ids=repr,
)
def test_an_address_that_does_not_fit_is_refused(address: Address):
    with pytest.raises(WireError, match="HDLC address"):
        address.encode()


@pytest.mark.parametrize("octets", ["", "02", "0222", "0321", "020223", "0002002222", "000200020023"])
def test_octets_that_are_no_address_are_refused(octets: str):
    with pytest.raises(WireError, match="HDLC address"):
        Address.decode(bytes.fromhex(octets))


# -- what a line does -----------------------------------------------------------------------------------------

GOOD = vector("hdlc-i-zmg405").octets
LOST = vector(LOST_AN_OCTET).octets


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(b"\x00\xff\x55" + GOOD, id="noise before"),
        pytest.param(b"\x7e" * 9 + GOOD, id="idle flags before"),
        pytest.param(b"\x7e\x55\xaa" + GOOD, id="noise behind a flag"),
        pytest.param(GOOD[:10] + GOOD, id="a frame that broke off in its header"),
        pytest.param(LOST + GOOD, id="a frame that lost an octet, two flags between"),
        pytest.param(LOST[:-1] + GOOD, id="a frame that lost an octet, one flag between"),
        pytest.param(LOST[:20] + LOST[24:] + GOOD, id="a frame that lost five octets"),
        pytest.param(GOOD[:-1] + b"\x00" + GOOD, id="a damaged closing flag"),
        pytest.param(b"\x7e\xa7\xff" + GOOD[3:] + GOOD, id="a damaged length field"),
        pytest.param(b"\x7e\xa0\x06\x03\x21\x93\x00\x7e" + GOOD, id="a length below the smallest frame"),
        pytest.param(b"\x7e\xa0\x20\x02\x02\x02\x02\x02\x02\x02" + GOOD, id="an address without an end"),
    ],
)
def test_after_anything_odd_the_next_frame_is_read(octets: bytes):
    assert read(octets)[-1] == whole(GOOD)


def test_what_stands_inside_a_damaged_frame_is_not_taken_for_a_frame():
    carrier = bytearray(
        Frame(Address(16), Address(1, 17), FrameType.I, True, info=b"..." + GOOD + b"...").encode()
    )
    carrier[-4] ^= 0x10
    inside, after = read(bytes(carrier) + GOOD)
    assert isinstance(inside, Damaged)
    assert after == whole(GOOD)


def test_a_frame_that_lost_its_end_is_forgotten_when_the_line_was_silent():
    reader = FrameReader()
    assert reader.feed(GOOD[:-30]) == []
    reader.reset()
    assert reader.feed(vector("hdlc-ua-noparams").octets) == [whole(vector("hdlc-ua-noparams").octets)]


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(b"\xa0\x08\x03\x02\x01\x21\x93", id="address of three octets"),
        pytest.param(b"\xa0\x07\x03\x21\xff", id="control octet FF"),
    ],
)
def test_a_sound_frame_that_means_nothing_is_damaged_not_an_error(header: bytes):
    # Encoded anew, so that length and check are right.
    event = read(encode_frame(header[2:-1], header[-1]))[0]
    assert isinstance(event, Damaged)
    assert event.header is None


def test_the_reader_keeps_no_more_than_one_frame_of_an_endless_babble():
    reader = FrameReader()
    opening = Frame(Address(16), Address(1), FrameType.I, True, info=b"\0" * 2030).encode()[:-2]
    for babble in (b"\x55" * 5000, opening, b"\x7e\xa7\xff" * 3000, b"\x7e\xa0" + b"\0" * 5000):
        for at in range(0, len(babble), 700):
            reader.feed(babble[at : at + 700])
            assert len(reader._buffer) < 2100


def test_a_frame_longer_than_its_length_field_can_say_is_refused():
    with pytest.raises(WireError, match="2047"):
        Frame(Address(16), Address(1, 17, 4), FrameType.I, True, info=b"\0" * 2040).encode()


# -- everything -----------------------------------------------------------------------------------------------

ADDRESSES = st.one_of(
    st.builds(Address, st.integers(0, 0x7F)),
    st.builds(Address, st.integers(0, 0x7F), st.integers(0, 0x7F), st.sampled_from([0, 2, 4])),
    st.builds(Address, st.integers(0, 0x3FFF), st.integers(0, 0x3FFF), st.just(4)),
)


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    type_ = draw(st.sampled_from(FrameType))
    return Frame(
        draw(ADDRESSES),
        draw(ADDRESSES),
        type_,
        draw(st.booleans()),
        draw(st.integers(0, 7)) if type_ is FrameType.I else 0,
        draw(st.integers(0, 7)) if type_ in (FrameType.I, FrameType.RR, FrameType.RNR) else 0,
        draw(
            st.one_of(st.binary(max_size=40), st.just(b"\x7e" * 60), st.binary(min_size=2029, max_size=2030))
        ),
        draw(st.booleans()),
    )


@given(frames())
def test_what_is_written_is_read_again(frame: Frame):
    assert whole(frame.encode()) == frame


STREAMS = st.lists(
    st.one_of(
        frames().map(Frame.encode),
        frames().map(lambda frame: frame.encode()[1:]),
        st.tuples(frames().map(Frame.encode), st.integers(0, 60), st.integers(0, 255)).map(
            lambda it: it[0][: it[1]] + bytes((it[2],)) + it[0][it[1] + 1 :]
        ),
        st.binary(max_size=30),
        st.just(b"\x7e\xa0"),
    ),
    max_size=6,
).map(b"".join)


@given(STREAMS, st.lists(st.integers(1, 50), min_size=1))
@example(LOST + GOOD, [1])
def test_any_chunking_gives_the_same_events(stream: bytes, sizes: list[int]):
    reader, events, at, turn = FrameReader(), [], 0, 0
    while at < len(stream):
        size = sizes[turn % len(sizes)]
        events += reader.feed(stream[at : at + size])
        at, turn = at + size, turn + 1
    assert events == read(stream)


@given(st.one_of(st.binary(max_size=300), STREAMS))
def test_arbitrary_octets_never_raise(octets: bytes):
    reader = FrameReader()
    for event in reader.feed(octets):
        assert isinstance(event, Frame | Damaged)
    assert len(reader._buffer) < 2100


@given(frames(), st.integers(1, 2**16 - 1), st.integers(0, 10**6))
def test_a_burst_of_up_to_sixteen_bits_is_never_taken_for_a_frame(frame: Frame, burst: int, place: int):
    octets = frame.encode()
    first_bit = 8 + place % (len(octets) * 8 - 32)
    damaged = int.from_bytes(octets, "big") ^ burst << first_bit
    events = read(damaged.to_bytes(len(octets), "big"))
    assert frame not in events
