"""Deciphering for whoever watches a line: no policy and no counters, since nothing is done with what is found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gateway.errors import MeterError
from gateway.model import MeterKeys
from gateway.wire import association
from gateway.wire.hdlc import Address
from gateway.wire.initiate import InitiateRequest, decode_initiate
from gateway.wire.security import Protection, Sealed


@dataclass(frozen=True, slots=True)
class Deciphering:
    """What deciphering needs."""

    own_title: bytes
    keys: Mapping[Address, MeterKeys] = field(repr=False)
    """By the address of the meter."""

    def candidates(self, server: Address | None, octets: bytes) -> list[MeterKeys]:
        """The keys that a ciphered APDU may be under: those of the meter, or the broadcast keys of whoever is there."""
        try:
            broadcast = Sealed.parse(octets).control.broadcast
        except MeterError:
            return []
        if broadcast:
            groups = dict.fromkeys(
                (keys.broadcast_key, keys.authentication_key)
                for keys in self.keys.values()
                if keys.broadcast_key
            )
            return [MeterKeys(key, authentication_key) for key, authentication_key in groups]
        keys = self.keys.get(server) if server else None
        return [keys] if keys else []


def title_in(apdu: bytes) -> bytes:
    """The system title in an answer to an association."""
    if apdu[:1] != b"\x61":
        return b""
    try:
        return association.decode_aare(apdu).responding_title
    except MeterError:
        return b""


def initiate_in(apdu: bytes) -> bytes:
    """The initiate APDU inside an ACSE APDU."""
    decode = _ACSE.get(apdu[:1])
    try:
        return decode(apdu).initiate if decode else b""
    except MeterError:
        return b""


_ACSE: dict[
    bytes, Callable[[bytes], association.Aarq | association.Aare | association.Rlrq | association.Rlre]
] = {
    b"\x60": association.decode_aarq,
    b"\x61": association.decode_aare,
    b"\x62": association.decode_rlrq,
    b"\x63": association.decode_rlre,
}


def dedicated_key_in(plain: bytes) -> bytes:
    try:
        request = decode_initiate(plain)
    except MeterError:
        return b""
    return request.dedicated_key if isinstance(request, InitiateRequest) else b""


def opened(octets: bytes, keys: MeterKeys, title: bytes, dedicated_key: bytes) -> bytes:
    """What is inside. Raises MeterError. Each is opened by itself, since on a line the same may be heard twice."""
    sealed = Sealed.parse(octets)
    protection = Protection(
        encryption_key=keys.encryption_key,
        authentication_key=keys.authentication_key,
        own_title=bytes(8),
        authenticated=sealed.control.authenticated,
        encrypted=sealed.control.encrypted,
        dedicated_key=dedicated_key or None,
        broadcast=sealed.control.broadcast,
    )
    protection.peer_title = sealed.title or title
    return protection.open(octets)
