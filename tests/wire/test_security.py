"""Ciphering: every golden APDU with a key is opened and sealed back to the same octets; nothing is believed that a tag
does not cover; HLS proofs hold in both directions."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.notation import initiate_fields, sealed_fields, service_fields
from support.vectors import vector as vector_of
from support.vectors import vectors

from gateway.errors import SecurityError, WireError
from gateway.wire import apdu, association, security
from gateway.wire.initiate import decode_initiate
from gateway.wire.security import Protection, Sealed, SecurityControl

EK = bytes(range(16))
AK = bytes(range(0xD0, 0xE0))
DEDICATED = bytes.fromhex("00112233445566778899aabbccddeeff")
CLIENT = b"MMM\x00\x00\x00\x00\x01"
METER = b"MMM\x00\x00\xbc\x61\x4e"
REQUEST = bytes.fromhex("c001c1001200002c0000ff0600")
ANSWER = bytes.fromhex("c401c1001606")
INITIATE = bytes.fromhex("01000000065f1f0400007e1f04b0")
SECRETS = (EK.hex(), AK.hex(), DEDICATED.hex())

CIPHERED = [
    v
    for v in vectors(kind="apdu")
    if str(v.fields.get("apdu_kind")).startswith(("glo-", "ded-", "general-glo"))
]
VALID = [v for v in CIPHERED if v.valid and v.fields["suite"] == 0]
WITH_CIPHERED_INITIATE = [
    v for v in vectors(kind="apdu", valid=True) if "ui_security_control" in v.fields and "ek" in v.keys
]


def protection_of(vector, contents):
    """What the sender of the vector used: it is sealed and opened with the same."""
    sealed = Sealed.parse(contents)
    key = bytes.fromhex(vector.keys["ek"])
    title = bytes.fromhex(vector.keys["system_title"])
    protection = Protection(
        encryption_key=bytes(16) if sealed.dedicated else key,
        authentication_key=bytes.fromhex(vector.keys["ak"]),
        own_title=title,
        authenticated=sealed.control.authenticated,
        encrypted=sealed.control.encrypted,
        dedicated_key=key if sealed.dedicated else None,
        general=sealed.plain_tag is None,
        broadcast=sealed.control.broadcast,
    )
    protection.peer_title = title
    return protection


def pair(*, authenticated=True, encrypted=True, dedicated_key=None, general=False):
    """A client and a meter that know each other."""
    common = {
        "encryption_key": EK,
        "authentication_key": AK,
        "dedicated_key": dedicated_key,
        "general": general,
    }
    policy = {"authenticated": authenticated, "encrypted": encrypted}
    client = Protection(own_title=CLIENT, **common, **policy)
    meter = Protection(own_title=METER, **common, **policy)
    client.peer_title, meter.peer_title = METER, CLIENT
    return client, meter


# -- the golden vectors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", VALID, ids=str)
def test_a_ciphered_apdu_is_taken_apart_opened_and_sealed_back(vector):
    expected = dict(vector.fields)
    plaintext, plaintext_kind = expected.pop("plaintext", None), expected.pop("plaintext_kind", None)
    iv = expected.pop("iv", None)
    assert sealed_fields(vector.octets) == expected
    if not vector.keys:
        assert plaintext is None  # published without a key
        return
    protection = protection_of(vector, vector.octets)
    opened = protection.open(vector.octets)
    assert opened.hex() == plaintext
    fields = (
        initiate_fields(decode_initiate(opened)) if opened[0] < 0x0F else service_fields(apdu.decode(opened))
    )
    assert fields["apdu_kind"] == plaintext_kind
    counter = Sealed.parse(vector.octets).counter
    assert (protection.peer_title + counter.to_bytes(4, "big")).hex() == iv
    assert protection_of(vector, vector.octets).seal(opened, counter) == vector.octets


@pytest.mark.parametrize("vector", WITH_CIPHERED_INITIATE, ids=str)
def test_the_initiate_inside_an_association_is_opened_and_sealed_back(vector):
    contents = bytes.fromhex(vector.fields["user_information"])
    opened = protection_of(vector, contents).open(contents)
    assert opened.hex() == vector.fields["plaintext"]
    assert initiate_fields(decode_initiate(opened))["apdu_kind"] == vector.fields["plaintext_kind"]
    assert protection_of(vector, contents).seal(opened, Sealed.parse(contents).counter) == contents


@pytest.mark.parametrize("vector", [v for v in CIPHERED if not v.valid], ids=str)
def test_a_changed_message_is_refused_as_a_matter_of_security(vector):
    protection = protection_of(vector_of("sec-gb-get-authenc"), vector_of("sec-gb-get-authenc").octets)
    with pytest.raises(SecurityError):
        protection.open(vector.octets)


PROOFS = [vector for vector in vectors(kind="raw") if vector.id.startswith("sec-gmac")]


@pytest.mark.parametrize("vector", PROOFS, ids=str)
def test_a_proof_is_made_and_checked(vector):
    made_with = {
        "encryption_key": bytes.fromhex(vector.keys["ek"]),
        "authentication_key": bytes.fromhex(vector.keys["ak"]),
        "title": bytes.fromhex(vector.keys["system_title"]),
        "challenge": bytes.fromhex(vector.fields["challenge"]),
    }
    counter = int.from_bytes(vector.octets[1:5], "big")
    if vector.valid:
        assert vector.octets[5:].hex() == vector.fields["tag"]
        assert security.gmac_proof(counter=counter, **made_with) == vector.octets
        assert security.check_gmac_proof(vector.octets, **made_with) == counter
    else:
        with pytest.raises(SecurityError):
            security.check_gmac_proof(vector.octets, **made_with)


def test_the_whole_hls_of_a_captured_session_holds():
    """A Kaifa-type meter with the book's keys proves itself for the challenge of the AARQ before it."""
    challenge = association.decode_aarq(vector_of("sec-kfm-aarq").octets).authentication_value
    answer = vector_of("sec-kfm-act-resp")
    response = apdu.decode(protection_of(answer, answer.octets).open(answer.octets))
    counter = security.check_gmac_proof(
        response.data.value,
        authentication_key=AK,
        encryption_key=EK,
        title=bytes.fromhex(answer.keys["system_title"]),
        challenge=challenge,
    )
    assert counter == Sealed.parse(answer.octets).counter - 1  # each message has a counter of its own


# -- both sides of an association -----------------------------------------------------------------------------

POLICIES = [(True, True), (True, False), (False, True)]


@pytest.mark.parametrize("general", [False, True])
@pytest.mark.parametrize("dedicated_key", [None, DEDICATED], ids=["global", "dedicated"])
@pytest.mark.parametrize("authenticated, encrypted", POLICIES)
def test_client_and_meter_understand_each_other(authenticated, encrypted, dedicated_key, general):
    client, meter = pair(
        authenticated=authenticated, encrypted=encrypted, dedicated_key=dedicated_key, general=general
    )
    for counter, plain in enumerate([REQUEST, ANSWER, REQUEST + bytes(700)]):
        sealed = client.seal(plain, counter)
        assert meter.open(sealed) == plain
        assert client.open(meter.seal(plain, counter)) == plain
        assert len(sealed) == client.sealed_length(len(plain))
        assert (plain in sealed) is not encrypted


def test_an_initiate_never_goes_under_the_dedicated_key_that_it_carries():
    client, meter = pair(dedicated_key=DEDICATED, general=True)
    sealed = client.seal(INITIATE, 1)
    assert sealed[0] == 0x21
    assert meter.open(sealed) == INITIATE


def test_the_caller_may_choose_the_global_key_although_there_is_a_dedicated_one():
    client, meter = pair(dedicated_key=DEDICATED)
    assert client.seal(REQUEST, 1, dedicated=False)[0] == 0xC8
    assert client.seal(REQUEST, 1)[0] == 0xD0
    assert meter.open(client.seal(REQUEST, 1, dedicated=False)) == REQUEST
    assert meter.open(client.seal(REQUEST, 1)) == REQUEST  # each key has counters of its own


def test_without_a_title_in_the_message_the_one_of_the_association_counts():
    client, meter = pair(general=True)
    sealed = client.seal(REQUEST, 1)
    assert sealed[1:10] == b"\x08" + CLIENT
    assert meter.open(sealed[:1] + b"\x00" + sealed[10:]) == REQUEST


def test_answers_that_refuse_come_plain():
    client, _ = pair()
    for plain in ("d80105", "d8010600004b36", "0e060006"):
        assert client.open(bytes.fromhex(plain)).hex() == plain


# -- what is refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "plain", [REQUEST, ANSWER, INITIATE, bytes.fromhex("c701c10000"), bytes.fromhex("0f00")]
)
def test_a_plain_answer_is_refused_in_a_ciphered_association(plain):
    client, _ = pair()
    with pytest.raises(SecurityError, match="plain"):
        client.open(plain)


@pytest.mark.parametrize("authenticated, encrypted", POLICIES)
def test_less_protection_than_agreed_is_refused(authenticated, encrypted):
    _, weaker = pair(authenticated=authenticated, encrypted=encrypted)
    client, _ = pair()
    sealed = weaker.seal(ANSWER, 1)
    if authenticated and encrypted:
        assert client.open(sealed) == ANSWER
    else:
        with pytest.raises(SecurityError, match="less"):
            client.open(sealed)


def test_more_protection_than_agreed_is_welcome():
    client, _ = pair(encrypted=False)
    _, meter = pair()
    assert client.open(meter.seal(ANSWER, 1)) == ANSWER


@pytest.mark.parametrize("octet", [0x31, 0x32, 0x70, 0xB0])
def test_another_suite_key_set_or_compression_is_refused(octet):
    client, meter = pair()
    sealed = bytearray(meter.seal(ANSWER, 1))
    sealed[2] = octet
    with pytest.raises(SecurityError, match=f"{octet:02x}"):
        client.open(bytes(sealed))


@pytest.mark.parametrize("vector", [v for v in CIPHERED if v.valid and v.fields["suite"] != 0], ids=str)
def test_a_message_of_suite_2_is_refused(vector):
    client, _ = pair()
    with pytest.raises(SecurityError, match="32"):
        client.open(vector.octets)


def test_a_replayed_answer_is_refused():
    client, meter = pair()
    first, second = meter.seal(ANSWER, 7), meter.seal(ANSWER, 8)
    assert client.open(first) == ANSWER
    with pytest.raises(SecurityError, match="replay"):
        client.open(first)
    assert client.open(second) == ANSWER
    with pytest.raises(SecurityError, match="replay"):
        client.open(first)


def test_a_counter_is_believed_only_after_its_tag():
    client, meter = pair()
    forged = bytearray(meter.seal(ANSWER, 1))
    forged[3:7] = b"\xff\xff\xff\xf0"
    with pytest.raises(SecurityError, match="tag"):
        client.open(bytes(forged))
    assert client.open(meter.seal(ANSWER, 2)) == ANSWER


def test_our_own_message_sent_back_is_refused():
    client, _ = pair()
    with pytest.raises(SecurityError, match="tag"):
        client.open(client.seal(REQUEST, 1))


def test_a_stranger_s_title_is_refused():
    client, meter = pair(general=True)
    client.peer_title = b"MMM\x00\x00\x00\x00\x09"
    with pytest.raises(SecurityError, match="system title"):
        client.open(meter.seal(ANSWER, 1))


def test_nothing_is_opened_before_the_peer_s_title_is_known():
    client, meter = pair()
    client.peer_title = b""
    with pytest.raises(SecurityError, match="not known"):
        client.open(meter.seal(ANSWER, 1))


def test_a_dedicated_message_needs_a_dedicated_key():
    client, _ = pair()
    _, meter = pair(dedicated_key=DEDICATED)
    with pytest.raises(SecurityError, match="dedicated"):
        client.open(meter.seal(ANSWER, 1))
    with pytest.raises(SecurityError, match="dedicated"):
        client.seal(REQUEST, 1, dedicated=True)


def test_a_wrong_key_shows_even_without_a_tag():
    _, meter = pair(authenticated=False)
    wrong = Protection(
        encryption_key=AK, authentication_key=b"", own_title=CLIENT, authenticated=False, encrypted=True
    )
    wrong.peer_title = METER
    with pytest.raises(SecurityError, match="wrong key"):
        wrong.open(meter.seal(ANSWER, 1))
    _, authenticating = pair()
    with pytest.raises(SecurityError, match="no authentication key"):
        wrong.open(authenticating.seal(ANSWER, 1))


def test_contents_that_are_not_what_their_tag_promises_are_refused():
    """No authentication tag covers the octet in front: an action response made a get response must still show."""
    client, meter = pair()
    sealed = meter.seal(bytes.fromhex("c701c10000"), 1)
    with pytest.raises(WireError, match="c7 inside APDU cc"):
        client.open(b"\xcc" + sealed[1:])
    assert client.open(sealed).hex() == "c701c10000"


@pytest.mark.parametrize("octets", [
    "", "cc", "cc05", "cc043000000001", "cc0530000000", "cc053000000001", "cc1030000000010000000000000000000000",
    "db07112233445566770530000000010000", "ff", "dd00", "cc8000",
])  # fmt: skip
def test_what_is_no_ciphered_apdu_is_refused(octets):
    client, _ = pair()
    with pytest.raises(WireError):
        client.open(bytes.fromhex(octets))


@pytest.mark.parametrize("counter", [-1, 2**32])
def test_a_key_whose_counters_are_used_up_seals_nothing(counter):
    client, _ = pair()
    with pytest.raises(SecurityError, match="used up"):
        client.seal(REQUEST, counter)
    with pytest.raises(SecurityError, match="used up"):
        security.gmac_proof(
            authentication_key=AK, encryption_key=EK, title=CLIENT, counter=counter, challenge=bytes(8)
        )


@pytest.mark.parametrize("plain", [b"", b"\x0f\x00", b"\x60\x00"])
def test_what_has_no_ciphered_form_is_not_sealed(plain):
    client, _ = pair()
    with pytest.raises(WireError):
        client.seal(plain, 1)


@pytest.mark.parametrize("change", [
    {"encryption_key": bytes(32)},
    {"authentication_key": b""},
    {"dedicated_key": bytes(8)},
    {"own_title": b""},
    {"authenticated": False, "encrypted": False},
])  # fmt: skip
def test_keys_and_titles_of_the_wrong_length_are_refused_without_being_shown(change):
    good = {
        "encryption_key": EK,
        "authentication_key": AK,
        "own_title": CLIENT,
        "authenticated": True,
        "encrypted": True,
    }
    with pytest.raises(SecurityError) as refused:
        Protection(**{**good, **change})
    assert not any(secret in str(refused.value) for secret in SECRETS)


def test_no_key_shows():
    client, _ = pair(dedicated_key=DEDICATED)
    shown = f"{client!r} {client}"
    assert not any(key.hex() in shown or repr(key)[2:-1] in shown for key in (EK, AK, DEDICATED))


# -- HLS ------------------------------------------------------------------------------------------------------


def test_a_proof_holds_for_its_title_challenge_and_keys_only():
    made_with = {"authentication_key": AK, "encryption_key": EK, "title": METER, "challenge": b"P6wRJ21F"}
    proof = security.gmac_proof(counter=5, **made_with)
    assert security.check_gmac_proof(proof, **made_with) == 5
    for change in (
        {"title": CLIENT},
        {"challenge": b"P6wRJ21G"},
        {"encryption_key": AK},
        {"authentication_key": EK},
    ):
        with pytest.raises(SecurityError, match="wrong HLS proof"):
            security.check_gmac_proof(proof, **{**made_with, **change})
    for changed in (
        proof[:-1],
        proof + b"\x00",
        b"",
        b"\x30" + proof[1:],
        proof[:-1] + bytes((proof[-1] ^ 1,)),
    ):
        with pytest.raises(SecurityError):
            security.check_gmac_proof(changed, **made_with)


@pytest.mark.parametrize("theirs", [b"P6wRJ21F", b"short", bytes(65)])
def test_a_challenge_that_must_not_be_answered_is_refused(theirs):
    with pytest.raises(SecurityError):
        security.check_challenge(b"P6wRJ21F", theirs)
    security.check_challenge(b"P6wRJ21F", b"another one")


# -- anything -------------------------------------------------------------------------------------------------


@given(st.integers(0, 255))
def test_every_security_control_comes_back_as_it_went(octet):
    assert SecurityControl.from_octet(octet).to_octet() == octet


@given(st.binary(max_size=700), st.integers(0, 2**32 - 1), st.sampled_from(POLICIES), st.booleans())
def test_whatever_is_sealed_opens(contents, counter, policy, general):
    client, meter = pair(authenticated=policy[0], encrypted=policy[1], general=general)
    plain = b"\xc3" + contents
    sealed = client.seal(plain, counter)
    assert meter.open(sealed) == plain
    assert len(sealed) == client.sealed_length(len(plain))


@given(st.sampled_from([0x21, 0x28, 0x41, 0xC8, 0xCC, 0xCF, 0xD4, 0xD7, 0xDB, 0xDC]), st.binary(max_size=80))
@settings(max_examples=300)
def test_arbitrary_octets_open_nothing(tag, octets):
    client, _ = pair(dedicated_key=DEDICATED)
    for whole in (bytes((tag,)) + octets, bytes((tag, len(octets) + 1, 0x30)) + octets, octets):
        if not whole or whole[0] not in (0x0E, 0xD8):
            with pytest.raises((WireError, SecurityError)):
                client.open(whole)


@given(st.data())
@settings(max_examples=300)
def test_no_changed_octet_goes_unnoticed(draw):
    client, meter = pair(general=draw.draw(st.booleans()))
    sealed = bytearray(meter.seal(ANSWER, 77))
    sealed[draw.draw(st.integers(0, len(sealed) - 1))] ^= draw.draw(st.integers(1, 255))
    with suppress(WireError, SecurityError):
        opened = client.open(bytes(sealed))
        # Only what was never ciphered by its tag is left: the plain answers that refuse, and another tag around it.
        assert sealed[0] in (0x0E, 0xD8) or opened == ANSWER
