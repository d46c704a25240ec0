"""What somebody who watches a line is told: every frame in words, no secret in any of them, whatever octets come."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.vectors import all_vectors, vector, vectors

from gateway.model import MeterKeys
from gateway.wire import apdu, association, axdr, image_transfer, mode_e
from gateway.wire.apdu import Attribute, GetRequest, GetResponse, Invoke, Method, obis
from gateway.wire.deciphering import Deciphering
from gateway.wire.describe import NOT_SHOWN, describe
from gateway.wire.hdlc import Address, Frame, FrameType, Parameters
from gateway.wire.hidden import asks_for_secret, hidden_from
from gateway.wire.initiate import Conformance, InitiateRequest, InitiateResponse, encode_initiate
from gateway.wire.security import Protection
from gateway.wire.trace import HIDDEN, SILENCE_S, Direction, Kind, LineTrace
from gateway.wire.wrapper import encode_wrapper

OUT, IN = Direction.TO_METER, Direction.FROM_METER
METER, US = Address(1, 17), Address(16)
LLC = {OUT: b"\xe6\xe6\x00", IN: b"\xe6\xe7\x00"}
PASSWORD = b"Zq7#vKx9!pL2"
TITLE, METER_TITLE = b"MGW\x00\x00\x00\x00\x01", b"SIM\x00\x00\x00\x00\x01"
KEYS = MeterKeys(bytes(range(16)), bytes(range(0xD0, 0xE0)))
DEDICATED = bytes(range(0x50, 0x60))
SECRET = Attribute(15, obis("0-0:40.0.0.255"), 7)
NAME = Attribute(1, obis("0-0:42.0.0.255"), 2)
CONFORMANCE = Conformance.GET | Conformance.ACTION


def frame(way, info, number=0, *, segmented=False, type_=FrameType.I):
    destination, source = (METER, US) if way is OUT else (US, METER)
    return Frame(destination, source, type_, True, number, 0, info, segmented).encode()


def said(line, *pieces):
    """Feed (direction, octets) a millisecond apart; all that is told, to the last of it."""
    told = []
    for number, (way, octets) in enumerate(pieces):
        told += line.feed(way, octets, number / 1000)
    return told + line.settle(len(pieces) + SILENCE_S)


def apdus(line, *pieces):
    return said(line, *((way, frame(way, LLC[way] + octets)) for way, octets in pieces))


def lls_request(initiate=None):
    plain = encode_initiate(InitiateRequest(CONFORMANCE, 500))
    mechanism = association.Mechanism.LLS
    return association.encode_aarq(association.Aarq(1, initiate or plain, mechanism, PASSWORD))


def protection(*, encrypted=True, dedicated=None, title=TITLE):
    return Protection(
        encryption_key=KEYS.encryption_key, authentication_key=KEYS.authentication_key, own_title=title,
        authenticated=True, encrypted=encrypted, dedicated_key=dedicated,
    )  # fmt: skip


# -- words ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("octets, words", [
    ("c001c1001200002c0000ff0600", "get-request class 18 0-0:44.0.0.255 attribute 6 (image transfer status), invoke 1"),
    ("c401c1001606", "get-response, invoke 1: 6"),
    ("c401c10104", "get-response, invoke 1: refused: object-undefined (4)"),
    ("c701c10000", "action-response, invoke 1: success"),
    ("c701c10300", "action-response, invoke 1: read-write-denied (3)"),
    ("d8010600004b36", "exception-response: service-not-allowed (1), invocation-counter-error (6), expects IC 19254"),
    ("0e060006", "confirmed-service-error: service 6, error 0.6"),
    ("6200", "RLRQ"),
    ("c4", "1 octets that are not understood: c4 begins no service APDU"),
    ("", "0 octets that are not understood: an empty APDU"),
])  # fmt: skip
def test_an_apdu_in_words(octets, words):
    assert describe(bytes.fromhex(octets)) == words


def test_an_image_block_is_told_by_its_number_and_length():
    method = image_transfer.method(image_transfer.DEFAULT_INSTANCE, image_transfer.BLOCK_TRANSFER)
    data = image_transfer.block_data(4711, bytes(512))
    told = describe(apdu.encode(apdu.ActionRequest(Invoke(3), method, data)))
    assert told.endswith("method 2 (image block transfer), invoke 3: block 4711, 512 octets")


def test_a_ciphered_apdu_is_told_by_its_header():
    sealed = protection().seal(bytes.fromhex("c301c1001200002c0000ff0301000f00"), 4711)
    assert describe(sealed) == f"glo-action-request, {len(sealed)} octets, IC 4711"


def test_every_apdu_that_anybody_recorded_has_words():
    # Short names, and the oddities that decoders refuse (tests/vectors/README.md), are shown as octets alone.
    refused = {"acse-aare-sn", "acse-init-req-legacy", "acse-neg-golden"}
    for one in vectors(kind="apdu", valid=True):
        told = describe(one.octets)
        assert told.isprintable()
        assert ("not understood" in told) <= (one.id in refused), (one.id, told)


def test_every_frame_that_anybody_recorded_is_told_with_its_type():
    for one in vectors(kind="hdlc-frame", valid=True):
        (told,) = said(LineTrace(), (IN, one.octets))
        assert (told.kind, told.wrong) == (Kind.HDLC, ""), one.id
        assert told.frame["type"] == one.fields["type"], one.id


# -- any octets -----------------------------------------------------------------------------------------------

_SEEDS = [one.octets for one in all_vectors()]
_OCTETS = st.one_of(st.binary(max_size=300), st.sampled_from(_SEEDS))


@st.composite
def mutated(draw):
    """A vector with some octets changed, cut, or put behind another."""
    octets = bytearray(draw(st.sampled_from(_SEEDS)) + draw(st.sampled_from([b"", *_SEEDS])))
    for _ in range(draw(st.integers(0, 4))):
        if octets:
            octets[draw(st.integers(0, len(octets) - 1))] = draw(st.integers(0, 255))
    return bytes(octets[: draw(st.integers(0, len(octets)))])


@given(st.one_of(_OCTETS, mutated()), st.booleans(), st.booleans())
def test_words_are_found_for_any_octets(octets, hide, whole):
    assert describe(octets, hide=hide).isprintable()
    assert asks_for_secret(octets, hide) in (True, False)
    start = hidden_from(octets, whole=whole, asked=hide)
    assert start is None or start >= 0


@given(
    st.lists(st.tuples(st.sampled_from(Direction), st.one_of(_OCTETS, mutated())), max_size=12),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_a_line_with_any_octets_is_told_whole(pieces, wrapper, mode_e_port, decipher):
    deciphering = Deciphering(TITLE, {METER: KEYS}) if decipher else None
    line = LineTrace(wrapper=wrapper, mode_e=mode_e_port, deciphering=deciphering)
    told = said(line, *pieces)
    told += line.note("lost", 1e6, anew=True)
    for way in Direction:
        sent = b"".join(octets for direction, octets in pieces if direction is way)
        heard = sum(len(one.octets) for one in told if one.direction is way)
        # A flag between two frames belongs to both of them.
        assert len(sent) <= heard <= len(sent) + sent.count(b"\x7e")
    assert all(one.octets.count(HIDDEN) >= one.hidden for one in told)


@given(st.data())
def test_how_the_octets_come_in_pieces_changes_nothing(data):
    stream = b"".join(frame(IN, LLC[IN] + bytes(size)) for size in (5, 200, 40)) + b"\x7e\xa0\x07noise"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    whole = said(LineTrace(), (IN, stream))
    pieces = said(LineTrace(), *((IN, chunk) for chunk in chunks))
    assert [(one.octets, one.kind, one.apdu) for one in pieces if one.kind is Kind.HDLC] == [
        (one.octets, one.kind, one.apdu) for one in whole if one.kind is Kind.HDLC
    ]
    assert sum(len(one.octets) for one in pieces) == sum(len(one.octets) for one in whole) == len(stream)


def test_acse_inside_acse_inside_acse_has_an_end():
    octets = b"\x60\x00"
    for _ in range(500):
        octets = association.encode_aarq(association.Aarq(1, octets))
    assert "no initiate" in describe(octets)


# -- frames ---------------------------------------------------------------------------------------------------


def test_frames_are_told_with_addresses_numbers_and_what_was_negotiated():
    snrm = Frame(METER, US, FrameType.SNRM, True, info=Parameters(2030, 2030, 7, 7).encode()).encode()
    ready = Frame(US, METER, FrameType.RR, True, receive_seq=3).encode()
    first, second = said(LineTrace(), (OUT, snrm), (IN, ready))
    assert first.frame == {
        "type": "SNRM", "destination": "1/17", "source": "16", "poll_final": True, "segmented": False,
        "octets": len(Parameters(2030, 2030, 7, 7).encode()),
    }  # fmt: skip
    assert first.words == "information 2030 out, 2030 in, window 7 out, 7 in"
    assert (first.server, second.server) == (METER, METER)
    assert (second.frame["type"], second.frame["receive_seq"]) == ("RR", 3)


def test_a_frame_that_was_damaged_is_told_with_what_its_header_still_says():
    octets = bytearray(frame(IN, LLC[IN] + bytes(20)))
    octets[-8] ^= 0x10
    (told,) = said(LineTrace(), (IN, bytes(octets)))
    assert (told.wrong, told.frame["source"], told.octets) == ("frame check wrong", "1/17", bytes(octets))


def test_noise_is_told_as_octets_and_the_frame_behind_it_as_a_frame():
    noise, ready = said(LineTrace(), (IN, b"\x00\xff\x13" + frame(IN, b"", type_=FrameType.DM)))
    assert (noise.kind, noise.octets) == (Kind.NOISE, b"\x00\xff\x13")
    assert ready.frame["type"] == "DM"


def test_half_a_frame_is_told_when_the_line_falls_silent():
    line = LineTrace()
    half = frame(IN, LLC[IN] + bytes(100))[:50]
    assert line.feed(IN, half, 1.0) == []
    assert line.settle(1.0 + SILENCE_S / 2) == []
    (told,) = line.settle(1.0 + SILENCE_S)
    assert (told.kind, told.octets, told.wrong, told.at_s) == (Kind.NOISE, half, "broken off", 1.0)


def test_an_apdu_in_segments_is_told_with_the_last_of_them_also_where_some_are_sent_again():
    whole = LLC[OUT] + apdu.encode(GetRequest(Invoke(5), NAME))
    parts = [whole[:6], whole[6:12], whole[12:]]
    frames = [(OUT, frame(OUT, part, number, segmented=number < 2)) for number, part in enumerate(parts)]
    told = said(LineTrace(), frames[0], frames[1], frames[1], frames[2])
    assert [one.words for one in told] == ["", "", "sent again", ""]
    assert [one.apdu for one in told][:3] == ["", "", ""]
    assert told[3].apdu == describe(whole[3:])


def test_what_a_line_gives_back_is_told_as_our_own():
    ours = frame(OUT, LLC[OUT] + lls_request())
    sent, back = said(LineTrace(), (OUT, ours), (IN, ours))
    assert back.words == "our own, given back"
    assert back.octets == sent.octets != ours


def test_the_wrapper_is_told_by_its_ports():
    octets = encode_wrapper(16, 1, apdu.encode(GetRequest(Invoke(1), NAME)))
    (told,) = said(LineTrace(wrapper=True), (OUT, octets[:5]), (OUT, octets[5:]))
    assert (told.kind, told.server) == (Kind.WRAPPER, Address(1))
    assert told.frame == {"source": 16, "destination": 1, "octets": len(octets) - 8}
    assert told.apdu.startswith("get-request")


def test_a_sign_on_is_told_in_its_characters():
    identification = mode_e.with_parity(b"/ACM5\\2X3-1\r\n")
    told = said(
        LineTrace(mode_e=True),
        (OUT, mode_e.request("17")), (IN, identification[:4]), (IN, identification[4:]),
        (OUT, mode_e.acknowledgement(9600)), (OUT, mode_e.BREAK),
    )  # fmt: skip
    assert [one.kind for one in told] == [Kind.MODE_E] * 4
    assert [one.words for one in told] == [
        r"/?17!\r\n", r"/ACM5\\2X3-1\r\n (manufacturer ACM, up to 9600 baud, HDLC)",
        r"\x06252\r\n (acknowledged: HDLC at 9600 baud)", r"\x01B0\x03q (break)",
    ]  # fmt: skip


# -- secrets --------------------------------------------------------------------------------------------------


def shown(told):
    """All that anybody can see of it."""
    return b"\n".join(one.octets + repr(one).encode() for one in told)


def test_a_password_is_in_no_octets_and_no_words():
    told = apdus(LineTrace(), (OUT, lls_request()))
    assert PASSWORD not in shown(told)
    assert f"mechanism lls (1), password {NOT_SHOWN}" in told[0].apdu
    assert told[0].hidden >= len(PASSWORD)


@pytest.mark.parametrize("size", [8, 20, 32, 50])
def test_nor_where_the_request_comes_in_segments(size):
    info = LLC[OUT] + lls_request()
    parts = [info[at : at + size] for at in range(0, len(info), size)]
    last = len(parts) - 1
    told = said(
        LineTrace(), *((OUT, frame(OUT, part, n & 7, segmented=n < last)) for n, part in enumerate(parts))
    )
    octets = b"".join(one.octets[11 if one.hidden == 0 else 0 :] for one in told)
    assert not any(PASSWORD[at : at + 4] in octets for at in range(len(PASSWORD) - 3))
    assert PASSWORD not in shown(told)
    assert NOT_SHOWN in told[-1].apdu


@pytest.mark.parametrize("cut", [40, 60, 70])
def test_nor_in_a_piece_that_the_line_gives_back(cut):
    ours = frame(OUT, LLC[OUT] + lls_request())
    at = ours.index(PASSWORD)
    broken = bytearray(ours)
    broken[at - 20] ^= 0xFF
    for echo in (ours[:cut], ours[at - 3 :], bytes(broken), PASSWORD):
        told = said(LineTrace(), (OUT, ours), (IN, echo))
        assert not any(PASSWORD[n : n + 4] in shown(told) for n in range(len(PASSWORD) - 3)), echo


def test_nor_where_only_the_end_of_the_request_was_seen():
    info = LLC[OUT] + lls_request()
    told = said(LineTrace(), (OUT, frame(OUT, info[40:], 1)))
    assert told[0].hidden == len(info) - 40
    assert told[0].apdu == f"the end of an APDU, {len(info) - 40} octets of it seen"


def test_a_secret_that_is_read_or_written_is_not_shown_and_the_next_value_is():
    value = axdr.octet_string(PASSWORD)
    told = apdus(
        LineTrace(),
        (OUT, apdu.encode(GetRequest(Invoke(1), SECRET))), (IN, apdu.encode(GetResponse(Invoke(1), value))),
        (OUT, apdu.encode(apdu.SetRequest(Invoke(2), SECRET, value))), (IN, bytes.fromhex("c501c200")),
        (OUT, apdu.encode(apdu.ActionRequest(Invoke(3), Method(64, obis("0-0:43.0.0.255"), 2), value))),
        (IN, bytes.fromhex("c701c30000")),
        (OUT, apdu.encode(GetRequest(Invoke(4), NAME))),
        (IN, apdu.encode(GetResponse(Invoke(4), axdr.octet_string(b"ACM0000000000001")))),
    )  # fmt: skip
    assert PASSWORD not in shown(told)
    assert told[1].apdu == f"get-response, invoke 1: {NOT_SHOWN}"
    assert told[2].apdu.endswith(f"attribute 7, invoke 2: {NOT_SHOWN}")
    assert told[7].apdu == "get-response, invoke 4: 'ACM0000000000001'"
    assert told[7].hidden == 0


def test_a_damaged_answer_to_what_asks_for_a_secret_is_not_shown():
    answer = bytearray(frame(IN, LLC[IN] + apdu.encode(GetResponse(Invoke(1), axdr.octet_string(PASSWORD)))))
    answer[-3] ^= 1
    request = frame(OUT, LLC[OUT] + apdu.encode(GetRequest(Invoke(1), SECRET)))
    told = said(LineTrace(), (OUT, request), (IN, bytes(answer)))
    assert told[1].wrong == "frame check wrong"
    assert PASSWORD not in shown(told)


@pytest.mark.parametrize("encrypted", [True, False], ids=["encrypted", "authenticated only"])
@pytest.mark.parametrize("decipher", [True, False], ids=["deciphered", "not"])
def test_a_dedicated_key_is_used_and_never_shown(encrypted, decipher):
    ours, theirs = protection(encrypted=encrypted, dedicated=DEDICATED), protection(
        encrypted=encrypted, dedicated=DEDICATED, title=METER_TITLE
    )  # fmt: skip
    plain = encode_initiate(InitiateRequest(CONFORMANCE, 500, DEDICATED))
    response = encode_initiate(InitiateResponse(CONFORMANCE, 500))
    aarq = association.Aarq(3, ours.seal(plain, 7), association.Mechanism.LLS, PASSWORD, TITLE)
    aare = association.Aare(3, 0, 0, responding_title=METER_TITLE, initiate=theirs.seal(response, 1))
    told = apdus(
        LineTrace(deciphering=Deciphering(TITLE, {METER: KEYS}) if decipher else None),
        (OUT, association.encode_aarq(aarq)), (IN, association.encode_aare(aare)),
        (OUT, ours.seal(apdu.encode(GetRequest(Invoke(1), NAME)), 8)),
        (IN, theirs.seal(apdu.encode(GetResponse(Invoke(1), axdr.octet_string(b"ACM1"))), 2)),
        (OUT, ours.seal(apdu.encode(GetRequest(Invoke(2), SECRET)), 9)),
        (IN, theirs.seal(apdu.encode(GetResponse(Invoke(2), axdr.octet_string(PASSWORD))), 3)),
    )  # fmt: skip
    for secret in (DEDICATED, PASSWORD, KEYS.encryption_key, KEYS.authentication_key):
        assert secret not in shown(told)
        assert secret.hex() not in "".join(one.apdu + one.deciphered + one.words for one in told)
    if decipher:
        assert f"dedicated key {NOT_SHOWN}" in told[0].deciphered
        assert told[3].deciphered == "get-response, invoke 1: 'ACM1'"
        assert told[5].deciphered == f"get-response, invoke 2: {NOT_SHOWN}"
    else:
        assert not any(one.deciphered for one in told)
    assert told[2].apdu.startswith("ded-get-request")


def test_what_cannot_be_deciphered_says_why():
    stranger = Protection(
        encryption_key=bytes(16),
        authentication_key=bytes(16),
        own_title=TITLE,
        authenticated=True,
        encrypted=True,
    )
    request = stranger.seal(apdu.encode(GetRequest(Invoke(1), NAME)), 1)
    answer = protection(title=METER_TITLE).seal(apdu.encode(GetResponse(Invoke(1), axdr.null())), 1)
    told = apdus(LineTrace(deciphering=Deciphering(TITLE, {METER: KEYS})), (OUT, request), (IN, answer))
    assert told[0].deciphered.startswith("cannot be deciphered: wrong tag")
    assert told[1].deciphered == "cannot be deciphered: the peer's system title is not known"
    (told,) = apdus(LineTrace(deciphering=Deciphering(TITLE, {})), (OUT, request))
    assert told.deciphered == "cannot be deciphered: no keys of this meter are known"


def test_a_block_for_the_whole_bus_is_deciphered_under_the_broadcast_key():
    group = MeterKeys(bytes(16), bytes(16), broadcast_key=bytes(range(0x70, 0x80)))
    whole_bus = Protection(
        encryption_key=group.broadcast_key, authentication_key=group.authentication_key, own_title=TITLE,
        authenticated=True, encrypted=True, broadcast=True,
    )  # fmt: skip
    method = image_transfer.method(image_transfer.DEFAULT_INSTANCE, image_transfer.BLOCK_TRANSFER)
    request = apdu.ActionRequest(Invoke(1, confirmed=False), method, image_transfer.block_data(7, bytes(64)))
    info = LLC[OUT] + whole_bus.seal(apdu.encode(request), 1)
    everybody = Frame(Address(0x3FFF, 0x3FFF), US, FrameType.UI, False, info=info).encode()
    keys = {METER: KEYS, Address(1, 18): group}
    (told,) = said(LineTrace(deciphering=Deciphering(TITLE, keys)), (OUT, everybody))
    assert told.apdu.endswith("broadcast key")
    assert told.deciphered.endswith("unconfirmed: block 7, 64 octets")


def test_a_password_of_a_readout_is_not_shown():
    command = mode_e.with_parity(b"\x01P1\x02(12345678)\x03a")
    (told,) = said(LineTrace(mode_e=True), (OUT, command))
    assert (told.octets, told.words) == (bytes([HIDDEN]) * len(command), "a password command")


def test_the_key_transfer_of_the_vectors_is_hidden():
    octets = vector("sec-key-transfer").octets
    (told,) = apdus(LineTrace(), (OUT, octets))
    assert octets[-10:] not in told.octets
    assert told.apdu.endswith(NOT_SHOWN)
