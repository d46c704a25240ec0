"""GET, SET, ACTION and what else a meter says: every golden APDU is understood to its last field and written back."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.effort import calls_of
from support.notation import KINDS, service_fields
from support.vectors import vectors

from gateway.errors import WireError
from gateway.wire import apdu, axdr
from gateway.wire.apdu import (
    Access,
    ActionOutcome,
    ActionResult,
    Attribute,
    DataAccessResult,
    Invoke,
    Method,
    Selection,
    obis,
)

INITIATES = {"initiateRequest", "initiateResponse"}
# What only the story of an image needs besides the APDU: test_image_transfer.py.
IMAGE_FIELDS = {"status", "bits", "transferred", "first_missing"}
SERVICES = [
    vector
    for vector in vectors(kind="apdu", valid=True)
    if vector.fields["apdu_kind"] in set(KINDS.values()) - INITIATES
]


@pytest.mark.parametrize("vector", SERVICES, ids=str)
def test_an_apdu_is_understood_to_its_last_field_and_written_back(vector):
    found = apdu.decode(vector.octets)
    assert service_fields(found) == {
        name: value for name, value in vector.fields.items() if name not in IMAGE_FIELDS
    }
    assert apdu.encode(found) == vector.octets


@pytest.mark.parametrize(
    "vector",
    [v for v in vectors(kind="apdu", valid=False) if v.file in ("services", "image_transfer")],
    ids=str,
)
def test_octets_that_are_no_apdu_are_refused(vector):
    with pytest.raises(WireError):
        apdu.decode(vector.octets)


SHOWN_IN_FRAMES = [
    vector
    for vector in vectors()
    if vector.file == "hdlc" or vector.kind == "wrapper"
    if "apdu" in vector.fields
]


@pytest.mark.parametrize("vector", SHOWN_IN_FRAMES, ids=lambda vector: f"apdu of {vector.id}")
def test_the_apdu_inside_a_captured_frame_is_understood_or_refused_as_it_deserves(vector):
    octets = bytes.fromhex(vector.fields["apdu"])
    kind = vector.fields.get("apdu_kind")
    if kind is None:  # a stray LLC header, or a date-time that is none: `apdu_problem` says
        with pytest.raises(WireError):
            apdu.decode(octets)
    elif kind not in ("AARQ", "AARE"):
        assert service_fields(apdu.decode(octets))["apdu_kind"] == kind


# -- what the vectors do not show -----------------------------------------------------------------------------

INVOKE = Invoke(5, confirmed=True, high_priority=False)
OBJECT = Attribute(18, obis("0-0:44.0.0.255"), 2)
METHOD = Method(18, obis("0-0:44.0.0.255"), 2)


@pytest.mark.parametrize("message, octets", [
    (apdu.GetNextRequest(INVOKE, 7), "c0 02 45 00000007"),
    (apdu.GetBlockResponse(INVOKE, last=False, number=1, raw=b"\xaa"), "c4 02 45 00 00000001 00 01aa"),
    (apdu.GetBlockResponse(INVOKE, last=True, number=2, result=DataAccessResult.LONG_GET_ABORTED),
     "c4 02 45 01 00000002 01 0f"),
    (apdu.GetListResponse(INVOKE, (axdr.u16(1), DataAccessResult.READ_WRITE_DENIED)), "c4 03 45 02 00 120001 01 03"),
    (apdu.SetRequest(INVOKE, OBJECT, axdr.null(), Access(2, axdr.null())), "c1 01 45 0012 00002c0000ff 02 01 02 00 00"),
    (apdu.SetListFirstBlockRequest(INVOKE, (Selection(OBJECT),), last=False, number=1, raw=b"\x01"),
     "c1 05 45 01 0012 00002c0000ff 02 00 00 00000001 0101"),
    (apdu.SetBlockResponse(INVOKE, 3), "c5 02 45 00000003"),
    (apdu.SetListLastBlockResponse(INVOKE, (DataAccessResult.SUCCESS,), 3), "c5 04 45 01 00 00000003"),
    (apdu.ActionNextPblockRequest(INVOKE, 3), "c3 02 45 00000003"),
    (apdu.ActionFirstPblockRequest(INVOKE, METHOD, last=False, number=1, raw=b"\x02\x02"),
     "c3 04 45 0012 00002c0000ff 02 00 00000001 020202"),
    (apdu.ActionListFirstPblockRequest(INVOKE, (METHOD,), last=False, number=1, raw=b"\x01"),
     "c3 05 45 01 0012 00002c0000ff 02 00 00000001 0101"),
    (apdu.ActionResponse(INVOKE, ActionResult.OTHER_REASON, None, DataAccessResult.OTHER_REASON),
     "c7 01 45 fa 01 01 fa"),
    (apdu.ActionListResponse(INVOKE, (ActionOutcome(ActionResult.SUCCESS, axdr.null()),)), "c7 03 45 01 00 01 00 00"),
    (apdu.ActionNextPblockResponse(INVOKE, 3), "c7 04 45 00000003"),
    (apdu.ExceptionResponse(1, 6), "d8 01 06"),
])  # fmt: skip
def test_forms_without_a_vector_follow_the_grammar(message, octets):
    assert apdu.encode(message) == bytes.fromhex(octets)
    assert apdu.decode(bytes.fromhex(octets)) == message


def test_numbers_that_no_book_lists_stay_numbers():
    assert apdu.decode(bytes.fromhex("c401c10177")) == apdu.GetResponse(Invoke(), 0x77)
    assert apdu.decode(bytes.fromhex("c701c17700")) == apdu.ActionResponse(Invoke(), 0x77)
    assert apdu.decode(bytes.fromhex("d80909")) == apdu.ExceptionResponse(9, 9)


def test_a_logical_name_is_written_as_people_write_it():
    assert obis("0-0:44.0.128.255") == bytes((0, 0, 44, 0, 128, 255))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0.0.44.0.0.255",
        "0-0:44.0.0.256",
        "0-0:44.0.0",
        "0-0:44.0.0.255 ",
        "\N{ARABIC-INDIC DIGIT ZERO}-0:1.1.1.1",
    ],
)
def test_what_is_no_logical_name_is_refused(text):
    with pytest.raises(WireError):
        obis(text)


@pytest.mark.parametrize("message", [
    apdu.GetRequest(Invoke(16), OBJECT),
    apdu.GetRequest(INVOKE, Attribute(18, b"\x00", 2)),
    apdu.GetRequest(INVOKE, Attribute(65536, OBJECT.instance, 2)),
    apdu.GetNextRequest(INVOKE, 2**32),
    apdu.GetNextRequest(INVOKE, -1),
    apdu.GeneralBlockTransfer(last=True, streaming=False, window=64, number=1, acknowledged=0, raw=b""),
    apdu.SetRequest(INVOKE, OBJECT, axdr.u16(65536)),
])  # fmt: skip
def test_what_does_not_fit_is_not_sent(message):
    with pytest.raises(WireError):
        apdu.encode(message)


@pytest.mark.parametrize("octets", [
    "", "c0", "c007", "ff", "60", "0f 00000000 0b 0000000000000000000000 00", "c401c102", "c701c10002",
    "c501c10000", "c503c1" + "00", "c505c1 84ffffffff 00", "c505c1 83100000" + "00" * 100,
])  # fmt: skip
def test_what_is_no_apdu_is_refused(octets):
    with pytest.raises(WireError):
        apdu.decode(bytes.fromhex(octets))


def test_a_list_has_an_end():
    with pytest.raises(WireError, match="elements"):
        apdu.decode(bytes.fromhex("c505c1 82ffff") + bytes(0xFFFF))


@pytest.mark.parametrize("start, element, count, end", [
    ("c003c1", "00010000010000ff0200", 2048, ""),
    ("c003c1", "00010000010000ff02010100", 1024, ""),
    ("c303c1", "00010000010000ff02", 2048, "00"),
    ("c703c1", "00010000", 1024, ""),
    ("c703c1", "000101fa", 2048, ""),
    ("c504c1", "03", 2048, "00000000"),
])  # fmt: skip
def test_the_longest_list_keeps_no_decoder_busy(start, element, count, end):
    """10 ms is the limit, counted in calls; 30,000 take 3 ms on a PC."""
    octets = (
        bytes.fromhex(start) + axdr.encode_length(count) + bytes.fromhex(element) * count + bytes.fromhex(end)
    )
    assert calls_of(lambda: apdu.decode(octets)) < 40_000


# -- anything -------------------------------------------------------------------------------------------------

INVOKES = st.builds(Invoke, st.integers(0, 15), st.booleans(), st.booleans())
NAMES = st.binary(min_size=6, max_size=6)
U8, U16, U32 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32))
ATTRIBUTES = st.builds(Attribute, U16, NAMES, U8)
METHODS = st.builds(Method, U16, NAMES, U8)
VALUES = (
    st.builds(axdr.octet_string, st.binary(max_size=300)) | st.builds(axdr.u32, U32) | st.just(axdr.null())
)
ACCESSES = st.none() | st.builds(Access, U8, VALUES)
SELECTIONS = st.lists(st.builds(Selection, ATTRIBUTES, ACCESSES)).map(tuple)
RAW = st.binary(max_size=300)
OUTCOMES = st.lists(st.builds(ActionOutcome, U8, st.none() | VALUES, st.none())).map(tuple)
BLOCK = (st.booleans(), U32, RAW)
MESSAGES = st.one_of(
    st.builds(apdu.GetRequest, INVOKES, ATTRIBUTES, ACCESSES),
    st.builds(apdu.GetNextRequest, INVOKES, U32),
    st.builds(apdu.GetListRequest, INVOKES, SELECTIONS),
    st.builds(apdu.GetResponse, INVOKES, VALUES | U8),
    st.builds(apdu.GetBlockResponse, INVOKES, *BLOCK, st.none()),
    st.builds(apdu.GetListResponse, INVOKES, st.lists(VALUES | U8).map(tuple)),
    st.builds(apdu.SetRequest, INVOKES, ATTRIBUTES, VALUES, ACCESSES),
    st.builds(apdu.SetFirstBlockRequest, INVOKES, ATTRIBUTES, *BLOCK, ACCESSES),
    st.builds(apdu.SetListFirstBlockRequest, INVOKES, SELECTIONS, *BLOCK),
    st.builds(apdu.SetListRequest, INVOKES, SELECTIONS, st.lists(VALUES).map(tuple)),
    st.builds(apdu.SetListLastBlockResponse, INVOKES, st.lists(U8).map(tuple), U32),
    st.builds(apdu.ActionRequest, INVOKES, METHODS, st.none() | VALUES),
    st.builds(apdu.ActionListRequest, INVOKES, st.lists(METHODS).map(tuple), st.lists(VALUES).map(tuple)),
    st.builds(apdu.ActionFirstPblockRequest, INVOKES, METHODS, *BLOCK),
    st.builds(apdu.ActionResponse, INVOKES, U8, VALUES, st.none()),
    st.builds(apdu.ActionListResponse, INVOKES, OUTCOMES),
    st.builds(apdu.DataNotification, U32, st.just(b"") | st.binary(min_size=12, max_size=12), VALUES),
    st.builds(apdu.GeneralBlockTransfer, st.booleans(), st.booleans(), st.integers(0, 63), U16, U16, RAW),
    st.builds(apdu.ExceptionResponse, U8, st.just(6), U32),
    st.builds(apdu.ConfirmedServiceError, U8, U8, U8),
)


@given(MESSAGES)
def test_every_message_comes_back_as_it_went(message):
    assert apdu.decode(apdu.encode(message)) == message


@given(st.sampled_from([bytes.fromhex(f"c{tag}0{form}c1") for tag in "013457" for form in range(8)]
                       + [b"", b"\xd8", b"\x0e", b"\x0f", b"\xe0"]), st.binary(max_size=300))  # fmt: skip
@settings(max_examples=500)
def test_arbitrary_octets_are_an_apdu_or_refused(start, octets):
    try:
        message = apdu.decode(start + octets)
    except WireError:
        return
    assert apdu.decode(apdu.encode(message)) == message
