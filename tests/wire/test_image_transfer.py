"""Image Transfer, class 18, as octets: what goes to the meter and what the meter says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.vectors import vector as vector_of
from support.vectors import vectors

from gateway.errors import WireError
from gateway.model import ImageTransferStatus
from gateway.wire import apdu, axdr
from gateway.wire import image_transfer as image
from gateway.wire.apdu import ActionRequest, GetRequest, Invoke, obis
from gateway.wire.axdr import BitString
from gateway.wire.image_transfer import ActivateInfo, BlockRequest
from gateway.wire.security import Protection

KPZ = obis("0-0:44.0.128.255")
IMAGE = vectors(file="image_transfer", kind="apdu", valid=True)
BLOCKS = [v for v in IMAGE if v.fields.get("method_id") == image.BLOCK_TRANSFER]
STATUS_NAMES = {
    "transfer-initiated": ImageTransferStatus.INITIATED,
    "verification-initiated": ImageTransferStatus.VERIFICATION_INITIATED,
    "verification-successful": ImageTransferStatus.VERIFICATION_SUCCESSFUL,
    "activation-initiated": ImageTransferStatus.ACTIVATION_INITIATED,
    "activation-successful": ImageTransferStatus.ACTIVATION_SUCCESSFUL,
    "activation-failed": ImageTransferStatus.ACTIVATION_FAILED,
}


def data_of(vector):
    return apdu.decode(vector.octets).result


# -- to the meter ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", BLOCKS, ids=str)
def test_a_prepared_block_request_is_the_same_as_the_general_one(vector):
    request = apdu.decode(vector.octets)
    number, block = (member.value for member in axdr.members(request.data))
    prepared = BlockRequest(request.method.instance)
    assert prepared.encode(request.invoke.id, number, block) == vector.octets
    assert request.data == image.block_data(number, block)


@given(
    st.integers(0, 15),
    st.booleans(),
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 2**32 - 1), st.binary(max_size=600)), max_size=4),
)
def test_any_block_request_is_the_same_as_the_general_one(invoke_id, confirmed, high_priority, blocks):
    prepared = BlockRequest(KPZ, confirmed=confirmed, high_priority=high_priority)
    invoke = Invoke(invoke_id, confirmed, high_priority)
    for number, block in blocks:
        request = ActionRequest(
            invoke, image.method(KPZ, image.BLOCK_TRANSFER), image.block_data(number, block)
        )
        assert prepared.encode(invoke_id, number, block) == apdu.encode(request)


@pytest.mark.parametrize("number", [-1, 2**32])
def test_a_block_number_has_32_bits(number):
    with pytest.raises(WireError):
        BlockRequest().encode(1, number, b"")


@pytest.mark.parametrize("vector", [v for v in IMAGE if v.fields.get("method_id") == image.INITIATE], ids=str)
def test_initiate_names_the_image_and_its_size(vector):
    request = apdu.decode(vector.octets)
    identifier, size = (member.value for member in axdr.members(request.data))
    again = ActionRequest(
        request.invoke,
        image.method(request.method.instance, image.INITIATE),
        image.initiate_data(identifier, size),
    )
    assert apdu.encode(again) == vector.octets


@pytest.mark.parametrize("vector_id, number", [
    ("img-get-block-size", image.BLOCK_SIZE), ("img-get-status", image.STATUS), ("img-get-enabled", image.ENABLED),
    ("img-get-first-missing", image.FIRST_NOT_TRANSFERRED),
])  # fmt: skip
def test_an_attribute_is_asked_for(vector_id, number):
    instance = KPZ if vector_id == "img-get-status" else image.DEFAULT_INSTANCE
    assert apdu.encode(GetRequest(Invoke(), image.attribute(instance, number))) == vector_of(vector_id).octets


def test_verify_and_activate_carry_integer_0():
    verify = ActionRequest(Invoke(), image.method(image.DEFAULT_INSTANCE, image.VERIFY), image.no_data())
    assert apdu.encode(verify).hex() == "c301c1001200002c0000ff03010f00"


# -- how big a block may be -----------------------------------------------------------------------------------

TITLE = b"MMM\x00\x00\x00\x00\x01"
PROTECTIONS = [
    None,
    *[
        Protection(
            encryption_key=bytes(16),
            authentication_key=bytes(16),
            own_title=TITLE,
            authenticated=authenticated,
            encrypted=encrypted,
            general=general,
        )
        for authenticated, encrypted in ((True, True), (True, False), (False, True))
        for general in (False, True)
    ],
]


@given(st.integers(1, 70000), st.sampled_from(PROTECTIONS))
def test_the_largest_block_just_fits_the_meter_s_pdu(max_pdu, protection):
    def octets_of(block):
        plain = BlockRequest().encode(1, 0, bytes(block))
        return len(plain if protection is None else protection.seal(plain, 1))

    largest = image.largest_block(max_pdu, protection)
    assert octets_of(largest + 1) > max_pdu
    assert largest == 0 or octets_of(largest) <= max_pdu


def test_a_meter_that_sets_no_limit_takes_any_block():
    assert image.largest_block(0) > 2**24


def test_the_broadcast_limit_of_128_octets_leaves_84_ciphered_and_103_plain():
    """The figures of one UI frame: 128 octets of information less 3 of LLC, unciphered and ciphered with both."""
    assert image.largest_block(128 - 3) == 103
    assert image.largest_block(128 - 3, PROTECTIONS[1]) == 84


# -- from the meter -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("octets, success", [
    ("c701c10000", True),
    ("c7014f0000", True),
    ("c701c100010000", True),
    ("c701c10100", False),
    ("c701c10200", False),
    ("c701c1000101fa", False),
    ("c701c10001001100", False),
    ("c501c10000", False),
    ("c702c10000", False),
    ("c701c1000000", False),
    ("c701c100", False),
    ("d80101", False),
    ("", False),
])  # fmt: skip
def test_a_block_is_acknowledged_or_it_is_not(octets, success):
    assert image.acknowledged(bytes.fromhex(octets)) is success


@given(st.binary(max_size=12) | st.binary(max_size=3).map(lambda tail: b"\xc7\x01\xc1\x00" + tail))
def test_what_counts_as_acknowledged_is_a_successful_action_response(octets):
    if image.acknowledged(octets):
        response = apdu.decode(octets)
        assert isinstance(response, apdu.ActionResponse)
        assert response.result == apdu.ActionResult.SUCCESS


@pytest.mark.parametrize("vector", [v for v in IMAGE if "status" in v.fields], ids=str)
def test_the_status_has_a_name(vector):
    assert image.status(data_of(vector)) is STATUS_NAMES[vector.fields["status"]]


@pytest.mark.parametrize("data", [axdr.enum(8), axdr.unsigned(1), axdr.null(), axdr.boolean(True)])
def test_another_status_is_refused(data):
    with pytest.raises(WireError, match="enum 0 to 7 expected"):
        image.status(data)


@pytest.mark.parametrize("vector", [v for v in IMAGE if "bits" in v.fields], ids=str)
def test_the_bitmap_tells_which_blocks_the_meter_has(vector):
    bits, count = data_of(vector).value, vector.fields["bits"]
    blocks = image.blocks_from_bits(bits, count)
    shown = "".join(f"{octet:08b}" for octet in blocks)
    assert len(blocks) == (count + 7) // 8
    assert shown.count("1") == vector.fields["transferred"]
    assert shown[:count].find("0") == vector.fields["first_missing"]


@pytest.mark.parametrize("octets, length, count, lsb_first, blocks", [
    ("e8", 5, 10, False, "e800"),  # a bitmap that grows as blocks come: what is not there is missing
    ("", 0, 9, False, "0000"),
    ("ffff", 16, 9, False, "ff80"),  # padded to whole octets: what is beyond the last block means nothing
    ("ff", 5, 5, False, "f8"),
    ("ffff", 12, 16, False, "fff0"),
    ("17", 8, 8, True, "e8"),  # block 0 in the least significant bit
    ("ff01", 16, 9, True, "ff80"),
    ("ff03", 9, 10, True, "ff80"),
    ("ff", 8, 0, False, ""),
])  # fmt: skip
def test_bitmaps_of_every_shape_are_read(octets, length, count, lsb_first, blocks):
    bits = BitString(bytes.fromhex(octets), length)
    assert image.blocks_from_bits(bits, count, lsb_first=lsb_first).hex() == blocks


@given(st.lists(st.booleans(), max_size=70), st.integers(0, 80), st.booleans())
def test_every_block_is_where_its_number_says(has, count, lsb_first):
    octets = bytearray((len(has) + 7) // 8)
    for number, present in enumerate(has):
        octets[number // 8] |= present << (number % 8 if lsb_first else 7 - number % 8)
    blocks = image.blocks_from_bits(BitString(bytes(octets), len(has)), count, lsb_first=lsb_first)
    assert len(blocks) == (count + 7) // 8
    found = [bool(blocks[number // 8] & 0x80 >> number % 8) for number in range(8 * len(blocks))]
    expected = (has + [False] * 80)[:count]
    assert found == expected + [False] * (-count % 8)


@pytest.mark.parametrize("vector_id, expected", [
    ("img-info-1", [(16380, "f8d322f89954212dd7dec33c2d0f8b54", "f8d322f89954212dd7dec33c2d0f8b54")]),
    ("img-info-two", [(16384, "41424344", "deadbeef"), (256, "45464748", "")]),
    ("img-info-empty", []),
])  # fmt: skip
def test_what_would_be_activated_is_told(vector_id, expected):
    infos = image.activate_info(data_of(vector_of(vector_id)))
    assert infos == tuple(
        ActivateInfo(size, bytes.fromhex(name), bytes.fromhex(sig)) for size, name, sig in expected
    )


def test_a_meter_that_tells_nothing_tells_of_no_image():
    assert image.activate_info(axdr.null()) == ()


@pytest.mark.parametrize("data", [
    axdr.octet_string(b""),
    axdr.structure(),
    axdr.array(axdr.structure(axdr.u32(1), axdr.octet_string(b""))),
    axdr.array(axdr.structure(axdr.u16(1), axdr.octet_string(b""), axdr.octet_string(b""))),
    axdr.array(axdr.u32(1)),
])  # fmt: skip
def test_another_shape_of_what_would_be_activated_is_refused(data):
    with pytest.raises(WireError, match="expected"):
        image.activate_info(data)
