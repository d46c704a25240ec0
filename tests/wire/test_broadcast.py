"""Blocks for a whole bus: the octets of UI frames, put together a second time by hand and with a cipher of its own."""

from __future__ import annotations

import binascii

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import GCM
from hypothesis import given
from hypothesis import strategies as st

from gateway.model import BroadcastFraming, Meter, Profile, Security
from gateway.wire import broadcast
from gateway.wire.apdu import obis
from gateway.wire.hdlc import Address, Frame, FrameReader, FrameType

TITLE = b"MGW\x00\x00\x00\x00\x01"
KEY, AUTHENTICATION = bytes(range(0xB0, 0xC0)), bytes(range(0xD0, 0xE0))
IMAGE_OBJECT = obis("0-0:44.0.0.255")

# C3 01, invoke-id-and-priority (high priority 80, unconfirmed: 40 is cleared), class 18, 0-0:44.0.0.255, method 2,
# parameters follow, structure of 2, double-long-unsigned, block number 7, octet-string of 4.
PLAIN = bytes.fromhex("c301 81 0012 00002c0000ff 02 01 0202 06 00000007 09 04 aabbccdd")


def x25(octets: bytes) -> bytes:
    """FCS-16 bit by bit, as RFC 1662 (C.1) and IEC 62056-46 describe it."""
    register = 0xFFFF
    for octet in octets:
        register ^= octet
        for _ in range(8):
            register = register >> 1 ^ (0x8408 if register & 1 else 0)
    return (register ^ 0xFFFF).to_bytes(2, "little")


def ui_frame(addresses: bytes, info: bytes) -> bytes:
    """Control 03: UI with P = 0."""
    length = 2 + len(addresses) + 1 + 2 + len(info) + 2
    header = (0xA000 | length).to_bytes(2, "big") + addresses + b"\x03"
    body = header + x25(header) + info
    return b"\x7e" + body + x25(body) + b"\x7e"


def test_the_check_of_this_page_is_that_of_the_standard():
    assert x25(b"123456789") == (0x906E).to_bytes(2, "little")
    assert binascii.hexlify(x25(bytes.fromhex("033f"))) == b"5bec"


@pytest.mark.parametrize(
    ("upper", "octets", "on_the_line"),
    [
        (1, 1, "ff"),  # 7F << 1 | 1
        (1, 2, "02 ff"),  # upper 1, lower 7F
        (0x10, 2, "20 ff"),
        (1, 4, "00 02 fe ff"),  # lower 3FFF in two groups of seven bits
        (0x0123, 4, "04 46 fe ff"),
    ],
)
def test_the_all_station_address_has_the_length_of_the_meters_own(upper, octets, on_the_line):
    assert broadcast.all_stations(upper, octets).encode() == bytes.fromhex(on_the_line)


def test_a_plain_block_for_every_meter_with_two_octets_of_address():
    sender = broadcast.BlockBroadcast(
        broadcast.all_stations(1, 2), 102, instance=IMAGE_OBJECT, sealed_by=None
    )
    source = bytes((102 << 1 | 1,))
    expected = ui_frame(bytes.fromhex("02ff") + source, bytes.fromhex("e6e600") + PLAIN)
    assert sender.frame(7, bytes.fromhex("aabbccdd"), 0) == expected


def sealed_by_hand(plain: bytes, counter: int) -> bytes:
    """Security control 70 (encrypted, authenticated, broadcast key; suite 0), counter, ciphertext, 12 octets of tag."""
    encryptor = Cipher(AES(KEY), GCM(TITLE + counter.to_bytes(4, "big"))).encryptor()
    encryptor.authenticate_additional_data(b"\x70" + AUTHENTICATION)
    text = encryptor.update(plain) + encryptor.finalize()
    return b"\x70" + counter.to_bytes(4, "big") + text + encryptor.tag[:12]


@pytest.mark.parametrize(("general", "head"), [(False, b"\xcb"), (True, b"\xdb\x08" + TITLE)])
def test_a_ciphered_block_is_under_the_broadcast_key_and_bound_to_the_authentication_key(general, head):
    sender = broadcast.BlockBroadcast(
        broadcast.all_stations(1, 4), 102, instance=IMAGE_OBJECT,
        sealed_by=broadcast.protection(
            broadcast_key=KEY, authentication_key=AUTHENTICATION, own_title=TITLE, general=general
        ),
    )  # fmt: skip
    sealed = sealed_by_hand(PLAIN, 217_000_001)
    apdu = head + bytes((len(sealed),)) + sealed
    expected = ui_frame(bytes.fromhex("0002feff cd"), bytes.fromhex("e6e600") + apdu)
    assert sender.frame(7, bytes.fromhex("aabbccdd"), 217_000_001) == expected


def test_the_invoke_id_goes_on_and_no_frame_asks_for_an_answer():
    sender = broadcast.BlockBroadcast(broadcast.all_stations(1, 1), 16, instance=IMAGE_OBJECT, sealed_by=None)
    reader, invokes = FrameReader(), []
    for number in range(17):
        (frame,) = reader.feed(sender.frame(number, b"x", 0))
        assert isinstance(frame, Frame)
        assert (frame.type, frame.poll_final) == (FrameType.UI, False)
        assert frame.destination == Address(0x7F)
        assert not frame.info[5] & 0x40
        invokes.append(frame.info[5] & 0x0F)
    assert invokes == [*range(1, 16), 0, 1]


def meter_with(max_info: int, ciphered: bool, general: bool) -> Meter:
    framing = BroadcastFraming.GENERAL_GLO if general else BroadcastFraming.GLO
    profile = Profile(broadcast_max_info=max_info, broadcast_framing=framing)
    return Meter("m", "bus", security=Security.BOTH if ciphered else Security.NONE, profile=profile)


# The figures of the default broadcast_max_info: 128 octets of information, the default of HDLC.
@pytest.mark.parametrize(
    ("max_info", "ciphered", "general", "octets"),
    [
        (128, False, False, 103),
        (128, True, False, 84),
        (128, True, True, 75),
        (3, False, False, 0),
        (2030, False, False, 2003),
    ],
)
def test_the_largest_block_that_fits(max_info, ciphered, general, octets):
    assert broadcast.largest_block(meter_with(max_info, ciphered, general)) == octets


@given(max_info=st.integers(32, 2030), ciphered=st.booleans(), general=st.booleans())
def test_the_largest_block_fits_and_one_octet_more_does_not(max_info, ciphered, general):
    sealed_by = (
        broadcast.protection(
            broadcast_key=KEY, authentication_key=AUTHENTICATION, own_title=TITLE, general=general
        )
        if ciphered
        else None
    )
    sender = broadcast.BlockBroadcast(
        broadcast.all_stations(1, 2), 102, instance=IMAGE_OBJECT, sealed_by=sealed_by
    )
    largest = broadcast.largest_block(meter_with(max_info, ciphered, general))

    def info(block: int) -> int:
        (frame,) = FrameReader().feed(sender.frame(0, bytes(block), 1))
        assert isinstance(frame, Frame)
        return len(frame.info)

    assert not largest or info(largest) <= max_info
    assert largest + 1 > 2000 or info(largest + 1) > max_info
