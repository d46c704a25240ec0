"""Octets that nobody means well with, for every decoder that octets from outside reach.

A `Target` is one decoder with octets that it understands. Its inputs are the golden vectors and what is made of them:
cut, spliced, with lengths and octets that lie, deeply nested, in frames whose checks are right again; and some that are
nothing at all. The same seed gives the same inputs. `tests/wire/test_fuzz_short.py` tries some of them in each test
run, `make endurance` more than a million.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from support.vectors import all_vectors

from gateway.errors import SecurityError, WireError
from gateway.link.conversation import READ_LIMIT
from gateway.wire import apdu, association, axdr, image_transfer
from gateway.wire.hdlc import Address, FrameReader, Parameters, encode_frame
from gateway.wire.hdlc_client import HdlcClient
from gateway.wire.initiate import decode_initiate
from gateway.wire.mode_e import IdentificationReader
from gateway.wire.security import Protection, Sealed, check_gmac_proof, gmac_proof
from gateway.wire.wrapper import WrapperClient, WrapperReader

_LONG_APDU = 64 * 1024
"""The longest that a link hands up."""

_EK, _AK, _TITLE = bytes(range(16)), bytes(range(0xD0, 0xE0)), b"SIM\x00\x00\x00\x00\x01"
_METER, _CLIENT = Address(1, 17), 1
_TO_CLIENT = Address(_CLIENT).encode() + _METER.encode()


@dataclass(frozen=True)
class Target:
    """`decode` answers octets with a value, or with one of `refusals`; anything else is a defect."""

    name: str
    decode: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    refusals: tuple[type[Exception], ...] = (WireError,)
    longest: int = _LONG_APDU
    """Octets that reach the decoder at once, at most."""

    def inputs(self, seed: object) -> Iterator[bytes]:
        """Without an end; the same for the same seed."""
        chance = random.Random(f"{seed} {self.name}")
        yield from self.seeds
        while True:
            yield _input(self.seeds, chance, self.longest)

    def answers(self, octets: bytes) -> bool:
        """Decode; whether it was a value. Raises what is no answer."""
        try:
            self.decode(octets)
        except self.refusals:
            return False
        return True


def targets() -> tuple[Target, ...]:
    """Every decoder of `gateway.wire`."""
    apdus = _vectors("apdu")
    data = _vectors("axdr-data")
    frames = tuple(octets for kind in ("hdlc-frame", "hdlc-stream", "raw") for octets in _vectors(kind))
    frames += tuple(_framed(octets) for octets in apdus if len(octets) < 2000)
    wrapped = _vectors("wrapper")
    sealed = tuple(octets for octets in apdus if octets[:1] > b"\xc7" or octets[0] in (0x21, 0x28))
    return (
        Target("hdlc frames", lambda octets: FrameReader().feed(octets), frames, (), READ_LIMIT),
        Target("hdlc client", _client_hears, frames, longest=READ_LIMIT),
        Target("hdlc address", Address.decode, _vectors("hdlc-address")),
        Target("hdlc parameters", Parameters.decode, _vectors("hdlc-parameters")),
        Target(
            "mode e identification",
            lambda octets: IdentificationReader().feed(octets),
            _vectors("optical"),
            refusals=(),
        ),
        Target("wrapper messages", lambda octets: WrapperReader().feed(octets), wrapped, longest=READ_LIMIT),
        Target("wrapper client", _wrapper_hears, wrapped, longest=READ_LIMIT),
        Target("apdu", apdu.decode, apdus),
        Target("aarq", association.decode_aarq, _beginning(apdus, 0x60)),
        Target("aare", association.decode_aare, _beginning(apdus, 0x61)),
        Target("rlrq", association.decode_rlrq, _beginning(apdus, 0x62)),
        Target("rlre", association.decode_rlre, _beginning(apdus, 0x63)),
        Target("initiate", decode_initiate, _beginning(apdus, 0x01, 0x08, 0x0E)),
        Target("a-xdr", axdr.decode, data),
        Target("a-xdr at a place", lambda octets: axdr.decode_at(octets, 1), data),
        Target("date-time", axdr.DateTime.decode, (bytes(12),)),
        Target("class 18 status", lambda octets: image_transfer.status(axdr.decode(octets)), data),
        Target(
            "class 18 activate info", lambda octets: image_transfer.activate_info(axdr.decode(octets)), data
        ),
        Target("ciphered apdu", Sealed.parse, sealed),
        Target("deciphering", _protection().open, (*sealed, *_sealed()), (WireError, SecurityError)),
        Target("hls proof", _proof, (_right_proof(),), (SecurityError,)),
    )


# -- decoders with a state ------------------------------------------------------------------------------------


def _client_hears(octets: bytes) -> object:
    """A link that is up and waits for an answer. Where it is lost, that is an answer too (LinkLostError)."""
    client = HdlcClient(_METER, _CLIENT)
    client.connect()
    client.receive(encode_frame(_TO_CLIENT, 0x73, Parameters().encode()))
    client.send(b"\xc0\x01\xc1")
    return client.receive(octets), client.timed_out(), client.receive(octets[:512])


def _wrapper_hears(octets: bytes) -> object:
    client = WrapperClient(_CLIENT, 1)
    client.connect()
    return client.receive(octets)


def _protection() -> Protection:
    protection = Protection(
        encryption_key=_EK, authentication_key=_AK, own_title=b"MGW\x00\x00\x00\x00\x01", authenticated=True,
        encrypted=True, dedicated_key=_AK,
    )  # fmt: skip
    protection.peer_title = _TITLE
    return protection


def _proof(octets: bytes) -> int:
    return check_gmac_proof(
        octets, authentication_key=_AK, encryption_key=_EK, title=_TITLE, challenge=bytes(16)
    )


def _right_proof() -> bytes:
    return gmac_proof(
        authentication_key=_AK, encryption_key=_EK, title=_TITLE, counter=1, challenge=bytes(16)
    )


# -- what they understand -------------------------------------------------------------------------------------


def _vectors(kind: str) -> tuple[bytes, ...]:
    return tuple(vector.octets for vector in all_vectors() if vector.kind == kind)


def _beginning(octets: tuple[bytes, ...], *tags: int) -> tuple[bytes, ...]:
    return tuple(one for one in octets if one and one[0] in tags)


def _framed(octets: bytes) -> bytes:
    """An answer to `_client_hears`, in one frame."""
    return encode_frame(_TO_CLIENT, 0x30, b"\xe6\xe7\x00" + octets)


def _sealed() -> Iterator[bytes]:
    meter = Protection(
        encryption_key=_EK, authentication_key=_AK, own_title=_TITLE, authenticated=True, encrypted=True
    )
    for counter, plain in enumerate(
        (b"\xc7\x01\xc1\x00\x00", b"\xc4\x01\xc1\x00\x16\x01", b"\x08" + bytes(9))
    ):
        yield meter.seal(plain, counter)


# -- what is made of it ---------------------------------------------------------------------------------------

_LIES = (0x00, 0x01, 0x7E, 0x7F, 0x80, 0x81, 0x82, 0x83, 0x84, 0xFE, 0xFF)
_NESTS = (b"\x01\x01", b"\x02\x01", b"\x01\x02", b"\x13\x02\x01", b"\xa1\x80", b"\x7e\xa0\x07", b"\x00")


def _input(seeds: tuple[bytes, ...], chance: random.Random, longest: int) -> bytes:
    draw = chance.random()
    if draw < 0.1:
        return chance.randbytes(chance.randrange(64))
    if draw < 0.101:
        return (chance.choice(seeds) + chance.choice(_NESTS) * longest)[:longest]
    octets = bytearray(chance.choice(seeds))
    for _ in range(chance.choice((1, 1, 2, 5))):
        _mutate(octets, seeds, chance)
    if octets[:1] == b"\x7e" and chance.random() < 0.7:
        return _checked_again(octets)
    return bytes(octets)


def _mutate(octets: bytearray, seeds: tuple[bytes, ...], chance: random.Random) -> None:
    at = chance.randrange(len(octets) + 1)
    match chance.randrange(8):
        case 0 if at < len(octets):
            octets[at] ^= 1 << chance.randrange(8)
        case 1 if at < len(octets):
            octets[at] = chance.choice(_LIES)
        case 2:
            del octets[at:]
        case 3:
            del octets[at : at + chance.randrange(1, 5)]
        case 4:
            octets[at:at] = chance.randbytes(chance.randrange(1, 5))
        case 5:
            octets[at:at] = octets[: chance.randrange(len(octets) + 1)]
        case 6:
            other = chance.choice(seeds)
            octets[at:] = other[chance.randrange(len(other) + 1) :]
        case _:
            octets[at:at] = chance.choice(_NESTS) * chance.randrange(1, 40)
    del octets[4096:]


def _checked_again(octets: bytearray) -> bytes:
    """What stands between the flags as the information of a sound frame: mutations then reach what reads it."""
    control = octets[5] if len(octets) > 5 else 0x13
    return encode_frame(_TO_CLIENT, control, bytes(octets[9:-3][:2030]))
