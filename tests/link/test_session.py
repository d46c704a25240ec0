"""What one association with one meter is worth: who answers, and whether it is all of the answer."""

import random
from collections import deque
from dataclasses import replace

import pytest
from support.world import ciphered

from gateway.errors import AccessError, AssociationError, LinkLostError, SecurityError, SilentError, WireError
from gateway.link.counters import Counters
from gateway.link.port import Port
from gateway.link.session import Session
from gateway.model import Authentication, Framing, Meter, MeterKeys, PortKind, PortSettings, Profile, Security
from gateway.simulator import Faults, MeterSpec, Mishap, Then, VirtualClock, VirtualLine, VirtualMeter, What
from gateway.wire import apdu, axdr, image_transfer
from gateway.wire.association import (
    Aare,
    Aarq,
    Context,
    Diagnostic,
    Mechanism,
    Result,
    decode_aarq,
    encode_aare,
)
from gateway.wire.initiate import InitiateResponse, decode_initiate, encode_initiate
from gateway.wire.security import Protection, gmac_proof
from gateway.wire.wrapper import WrapperReader, encode_wrapper

TITLE = b"MGW\x00\x00\x00\x00\x01"
METER_TITLE = b"SIM\x00\x00\x00\x00\x01"
KEYS = ciphered().keys
NAME = apdu.Attribute(1, apdu.obis("0-0:42.0.0.255"), 2)
FIRMWARE = apdu.Attribute(1, apdu.obis("1-0:0.2.0.255"), 2)
BITMAP = apdu.Attribute(image_transfer.CLASS_ID, image_transfer.DEFAULT_INSTANCE, 3)
INITIATE = apdu.Method(image_transfer.CLASS_ID, image_transfer.DEFAULT_INSTANCE, 1)
LAN = PortSettings("lan", PortKind.TCP, address="sim:4059", framing=Framing.WRAPPER, attempts=2)
BUS = PortSettings("bus", PortKind.RS485, device="sim")


def the_session(port, clock, meter, *, settings=BUS, keys=KEYS, first_counter=100):
    ranges = iter(range(first_counter, 1 << 30, 1024))
    return Session(
        port, settings, meter, keys, system_title=TITLE, counters=Counters(lambda _: next(ranges)),
        clock=clock, random_octets=random.Random("session").randbytes,
    )  # fmt: skip


def with_a_meter(spec=None, *, faults=None, settings=BUS, **changes):
    """A session, and the virtual meter that it is with. `changes`: what the gateway believes of the meter."""
    spec = spec or MeterSpec()
    clock, device = VirtualClock(), VirtualMeter(spec, faults=faults or Faults())
    baud = 1_000_000 if settings is LAN else 9600
    line = VirtualLine([device], clock, framing=settings.framing, baud=baud)
    meter = Meter(
        "MTR1", settings.name, authentication=spec.authentication, security=spec.security, **changes
    )
    return the_session(line, clock, meter, settings=settings, keys=spec.keys), device


# -- who is there ---------------------------------------------------------------------------------------------


class FarEnd(Port):
    """Somebody behind the TCP wrapper who says what `answer` makes of each APDU: a forger has no rules."""

    def __init__(self, clock, answer):
        self.requests = []
        self._clock = clock
        self._answer = answer
        self._reader = WrapperReader()
        self._coming = deque()

    def write(self, octets):
        for source, destination, request in self._reader.feed(octets):
            self.requests.append(request)
            if answer := self._answer(request):
                self._coming.append(encode_wrapper(destination, source, answer))

    def read(self, limit, timeout_s):
        if not self._coming:
            self._clock.advance(timeout_s)
            return b""
        octets = self._coming.popleft()
        if octets[limit:]:
            self._coming.appendleft(octets[limit:])
        return octets[:limit]

    def discard(self):
        self._coming.clear()

    def close(self):
        pass


class Forger:
    """Accepts every AARQ and every proof, and makes what `proof` makes to pass for the meter. `security`: how it
    protects what it says, with the encryption keys of the meter."""

    def __init__(self, proof, *, challenge=b"challenge of his", security=Security.NONE, title=METER_TITLE):
        self._proof = proof
        self._challenge = challenge
        self._title = title
        self._protection = None
        if security is not Security.NONE:
            self._protection = Protection(
                encryption_key=KEYS.encryption_key, authentication_key=KEYS.authentication_key,
                own_title=title, authenticated=True, encrypted=True,
            )  # fmt: skip
        self._counter = 0
        self.associated = Aarq(context=Context.LN, initiate=b"")

    def __call__(self, octets):
        if octets[0] == 0x60:
            return self._accept(decode_aarq(octets))
        if self._protection is not None:
            octets = self._protection.open(octets)
        request = apdu.decode(octets)
        returned = self._proof(self.associated.authentication_value, request.data.value)
        answer = apdu.encode(
            apdu.ActionResponse(request.invoke, 0, None if returned is None else axdr.octet_string(returned))
        )
        return self._sealed(answer)

    def _accept(self, aarq):
        self.associated = aarq
        initiate, protection = aarq.initiate, self._protection
        if protection is not None:
            protection.peer_title = aarq.calling_title
            initiate = protection.open(initiate)
        offered = decode_initiate(initiate)
        response = encode_initiate(InitiateResponse(offered.conformance, 1024))
        return encode_aare(
            Aare(
                aarq.context, Result.ACCEPTED, Diagnostic.AUTHENTICATION_REQUIRED, responding_title=self._title,
                mechanism=Mechanism.GMAC, challenge=self._challenge or aarq.authentication_value,
                initiate=self._sealed(response),
            )
        )  # fmt: skip

    def _sealed(self, octets):
        self._counter += 1
        return octets if self._protection is None else self._protection.seal(octets, self._counter)


def forged(forger, security):
    clock = VirtualClock()
    far_end = FarEnd(clock, forger)
    meter = Meter("MTR1", "lan", authentication=Authentication.HLS_GMAC, security=security)
    return the_session(far_end, clock, meter, settings=LAN), far_end


def _proof(challenge, *, keys=KEYS, title=METER_TITLE):
    return gmac_proof(
        encryption_key=keys.encryption_key, authentication_key=keys.authentication_key,
        title=title, counter=7, challenge=challenge,
    )  # fmt: skip


OTHER_KEYS = MeterKeys(bytes(16), bytes(16))
WRONG_PROOFS = {
    "made with other keys": lambda challenge, ours: _proof(challenge, keys=OTHER_KEYS),
    "our own, sent back": lambda challenge, ours: ours,
    "of another challenge": lambda challenge, ours: _proof(b"of yesterday"),
    "of another meter": lambda challenge, ours: _proof(challenge, title=b"SIM\x00\x00\x00\x00\x02"),
    "too short": lambda challenge, ours: _proof(challenge)[:-1],
    "empty": lambda challenge, ours: b"",
    "none": lambda challenge, ours: None,
}


@pytest.mark.parametrize("proof", WRONG_PROOFS.values(), ids=WRONG_PROOFS)
@pytest.mark.parametrize("security", [Security.NONE, Security.BOTH], ids=["plain", "ciphered"])
def test_whoever_accepts_our_proof_and_cannot_prove_himself_is_not_the_meter(proof, security):
    session, far_end = forged(Forger(proof, security=security), security)
    with pytest.raises(SecurityError, match="proof"):
        session.open()
    assert not session.alive
    assert len(far_end.requests) == 2, "an AARQ, our proof, and not a word more"


@pytest.mark.parametrize("security", [Security.NONE, Security.BOTH], ids=["plain", "ciphered"])
def test_whoever_proves_himself_is_the_meter(security):
    """What makes the test above one of the proof and of nothing else."""
    session, _ = forged(Forger(lambda challenge, ours: _proof(challenge), security=security), security)
    session.open()
    assert session.alive


def test_our_own_challenge_is_not_answered():
    """It would make us compute the proof that we are about to ask for."""
    session, far_end = forged(Forger(lambda challenge, ours: ours, challenge=b""), Security.NONE)
    with pytest.raises(SecurityError, match="our own"):
        session.open()
    assert len(far_end.requests) == 1


@pytest.mark.parametrize("settings", [BUS, LAN], ids=["hdlc", "wrapper"])
@pytest.mark.parametrize("dedicated_key", [False, True], ids=["global key", "dedicated key"])
def test_a_genuine_meter_is_asked_and_left(settings, dedicated_key):
    session, device = with_a_meter(ciphered(), settings=settings, dedicated_key=dedicated_key)
    session.open()
    assert session.get(NAME).value == device.spec.logical_device_name.encode()
    assert session.get(FIRMWARE).value == b"1.0.0"
    session.close()
    assert not session.alive
    assert device.history.count(What.ASSOCIATED) == 1
    assert device.history.count(What.SECURITY) == 0


def test_each_counter_is_used_once_over_two_associations():
    session, device = with_a_meter(ciphered())
    for _ in range(2):
        session.open()
        session.get(NAME)
        session.close()
    assert device.history.count(What.SECURITY) == 0


# -- the link -------------------------------------------------------------------------------------------------


def test_a_meter_that_refuses_an_snrm_with_parameters_gets_an_empty_one():
    session, device = with_a_meter(faults=Faults(refuses_snrm_parameters=True))
    session.open()
    assert session.get(NAME).value == b"SIM0000000000001"
    assert device.history.count(What.LINK) == 1


@pytest.mark.parametrize("parameters", [True, False], ids=["parameters", "no parameters"])
def test_a_meter_that_hears_no_snrm_with_parameters_needs_its_profile(parameters):
    """Silence may be anything, so nothing is guessed from it."""
    profile = Profile(snrm_parameters=parameters)
    session, device = with_a_meter(faults=Faults(ignores_snrm_parameters=True), profile=profile)
    if parameters:
        with pytest.raises(SilentError):
            session.open()
    else:
        session.open()
    assert session.alive is not parameters
    assert device.history.count(What.ASSOCIATED) == (not parameters)


def test_a_meter_that_lost_the_link_ends_the_session():
    session, device = with_a_meter()
    session.open()
    device._links[1].drop()
    with pytest.raises(LinkLostError):
        session.get(NAME)
    assert not session.alive


def test_a_meter_that_knows_another_gateway_says_that_it_is_our_title():
    session, _ = with_a_meter(replace(ciphered(), client_title=b"MGW\x00\x00\x00\x00\x02"))
    with pytest.raises(AssociationError, match=r"AARE result 1, diagnostic 3, calling-title-not-recognized$"):
        session.open()


def test_a_meter_that_is_left_has_no_link_any_more():
    session, device = with_a_meter()
    session.open()
    assert device._links[1].connected
    session.close()
    assert not device._links[1].connected


def test_an_order_whose_answer_was_lost_is_executed_once():
    """The link asks for the answer again; the request is not repeated (invariant 2)."""
    session, device = with_a_meter(faults=Faults(mishaps=(Mishap(What.INITIATE, 1, Then.LOSE_REPLY),)))
    session.open()
    session.act(INITIATE, image_transfer.initiate_data(b"FW", 4096))
    assert device.history.initiates == 1
    assert session.alive


# -- answers --------------------------------------------------------------------------------------------------


def test_a_refusal_is_an_answer_and_the_session_lives():
    session, _ = with_a_meter()
    session.open()
    with pytest.raises(AccessError) as refused:
        session.get(apdu.Attribute(1, apdu.obis("0-0:96.1.0.255"), 2))
    assert refused.value.result == 4
    assert session.alive
    assert session.get(NAME).value == b"SIM0000000000001"


def test_a_long_answer_comes_in_blocks():
    session, _ = with_a_meter(MeterSpec(block_size=16), settings=LAN)
    session.open()
    session.act(INITIATE, image_transfer.initiate_data(b"FW", 1 << 24))
    assert session.send_block(0, bytes(16)) == 0
    bits = session.get(BITMAP).value
    assert (bits.octets[0], bits.length) == (0x80, 1 << 20)


TEXT = axdr.encode(axdr.octet_string(b"a name that comes in three blocks"))
RAW = (TEXT[:10], TEXT[10:20], TEXT[20:])


def telling(*blocks, result=None, at=0):
    """A session with somebody who answers a GET with blocks of these numbers, the last of them marked so. In place of
    the raw octets of the one at index `at` he gives `result`."""
    coming = deque(enumerate(blocks))

    def answer(octets):
        if octets[0] == 0x60:
            response = encode_initiate(
                InitiateResponse(decode_initiate(decode_aarq(octets).initiate).conformance, 1024)
            )
            return encode_aare(Aare(Context.LN, Result.ACCEPTED, Diagnostic.NULL, initiate=response))
        index, number = coming.popleft()
        refused = result if index == at else None
        raw = b"" if refused is not None else RAW[index]
        return apdu.encode(
            apdu.GetBlockResponse(apdu.decode(octets).invoke, not coming, number, raw, refused)
        )

    clock = VirtualClock()
    far_end = FarEnd(clock, answer)
    session = the_session(far_end, clock, Meter("MTR1", "lan"), settings=LAN)
    session.open()
    return session, far_end


def test_blocks_are_asked_for_by_number_and_joined():
    session, far_end = telling(1, 2, 3)
    assert session.get(NAME).value == b"a name that comes in three blocks"
    asked = [apdu.decode(request).number for request in far_end.requests[2:]]
    assert asked == [1, 2]


@pytest.mark.parametrize(
    "numbers", [(1, 1, 2), (1, 3, 4), (1, 2, 2), (1, 2, 1), (1, 2, 4), (1, 0, 1)], ids=str
)
def test_a_block_out_of_turn_is_no_part_of_the_answer(numbers):
    """A block too many or too few would make another value of it, and nobody would notice."""
    session, _ = telling(*numbers)
    with pytest.raises(WireError, match="expected"):
        session.get(NAME)
    assert not session.alive


def test_a_refusal_in_the_middle_of_a_long_answer_is_a_refusal():
    session, _ = telling(1, 2, 3, result=2, at=1)
    with pytest.raises(AccessError) as refused:
        session.get(NAME)
    assert refused.value.result == 2
    assert session.alive
