"""What of an APDU nobody is shown who watches a line: passwords, keys, and values of what holds or changes secrets
(invariant 13). Nothing here raises, whatever the octets are.

It has to be known from the first segment of an APDU, while the rest is still on its way: rather too much is hidden
than too little.
"""

from __future__ import annotations

from gateway.errors import WireError
from gateway.wire import apdu, association
from gateway.wire.reader import Reader

SEALED = {
    0x21: "glo-initiate-request", 0x28: "glo-initiate-response", 0x2E: "glo-confirmed-service-error",
    0x41: "ded-initiate-request", 0x48: "ded-initiate-response", 0x4E: "ded-confirmed-service-error",
    0xC8: "glo-get-request", 0xC9: "glo-set-request", 0xCA: "glo-event-notification-request",
    0xCB: "glo-action-request", 0xCC: "glo-get-response", 0xCD: "glo-set-response", 0xCF: "glo-action-response",
    0xD0: "ded-get-request", 0xD1: "ded-set-request", 0xD2: "ded-event-notification-request",
    0xD3: "ded-action-request", 0xD4: "ded-get-response", 0xD5: "ded-set-response", 0xD7: "ded-action-response",
    0xDB: "general-glo-ciphering", 0xDC: "general-ded-ciphering",
}  # fmt: skip
"""Ciphered APDUs and what they are called (COSEM ASN.1)."""
CHALLENGED = {
    association.Mechanism.MD5, association.Mechanism.SHA1, association.Mechanism.GMAC, association.Mechanism.SHA256,
    association.Mechanism.ECDSA,
}  # fmt: skip
"""Mechanisms whose authentication value is a challenge. With others it is the password, or may be."""

_GENERAL = (0xDB, 0xDC)
_SEALED_REQUESTS = {0x21, 0x41, 0xC8, 0xC9, 0xCB, 0xD0, 0xD1, 0xD3}
_SECRET_ATTRIBUTES = {(15, 0), (15, 7), (44, 0), (44, 5), (45, 0), (45, 3)}
"""Class and attribute: LLS secret, PPP authentication, PIN code (Blue Book); 0 stands for all of an object."""
_SECRET_METHODS = {(15, 2), (64, 2), (64, 3)}
"""Class and method: change of an HLS secret, transfer and agreement of keys (Blue Book)."""
_LISTS = {b"\xc0\x03", b"\xc1\x04", b"\xc1\x05", b"\xc3\x03", b"\xc3\x05"}
_DESCRIPTOR_END = 12
"""In a request: choice 2, invoke id 1, class 2, instance 6, number 1."""


def is_secret(attribute: apdu.Attribute) -> bool:
    """Whether the value of this attribute is a secret."""
    return (attribute.class_id, attribute.attribute) in _SECRET_ATTRIBUTES


def asks_for_secret(octets: bytes, before: bool) -> bool:
    """Whether the answer to this APDU may hold a secret; `before`: whether that of the last request might. Of a
    request of which only the first segment is known, that is enough."""
    if _readable_at(octets) is None:
        return before and octets[0] not in _SEALED_REQUESTS
    octets = _readable(octets)
    match octets[:1], octets[1:2]:
        case (b"\xc0", b"\x02") | (b"\xc1", b"\x03") | (b"\xc3", b"\x02" | b"\x06"):
            return before  # goes on with what was asked
        case (b"\xc0" | b"\xc1" | b"\xc3", _):
            return _names_secret(octets)
        case (b"\xc4" | b"\xc5" | b"\xc7", _):
            return before
    return False


def hidden_from(octets: bytes, *, whole: bool, asked: bool) -> int | None:
    """From which octet on an APDU is not shown; None: all of it is. `whole`: these are all of its octets, else its
    first ones. `asked`: as `asks_for_secret` says of the request that it answers, or that it goes on with."""
    start = _readable_at(octets)
    if start is None:
        return None
    readable = octets[start:]
    match readable[:1]:
        case b"\x60":
            return _hidden_of_aarq(readable, whole)
        case b"\x01":
            return start + 1
        case b"\xc1" | b"\xc3":
            secret = asked if readable[1:2] in (b"\x03", b"\x06") else _names_secret(readable)
            return start + min(_DESCRIPTOR_END, len(readable)) if secret else None
        case b"\xc4" | b"\xc5" | b"\xc7":
            return start + 3 if asked else None
        case b"\xe0":
            return start + 6  # a part of an APDU whose beginning may be elsewhere
    return 1 if octets[:1] and octets[0] in SEALED and start == 0 else None


def _hidden_of_aarq(octets: bytes, whole: bool) -> int | None:
    """A challenge is no secret; a password is, and a dedicated key, which may be authenticated and not encrypted."""
    if not whole:
        return 2
    try:
        request = association.decode_aarq(octets)
    except WireError:
        return 2
    if request.mechanism not in CHALLENGED and request.authentication_value:
        return 2
    if _readable(request.initiate)[:2] == b"\x01\x01":
        return octets.rfind(request.initiate)
    return None


def _readable_at(octets: bytes) -> int | None:
    """Where what needs no key begins: at once, or behind the header of what is authenticated and not encrypted. None:
    it is encrypted."""
    if octets[:1] and octets[0] not in SEALED:
        return 0
    try:
        reader = Reader(octets)
        if reader.u8() in _GENERAL:
            reader.counted()
        reader.length()
        control = reader.u8()
        reader.u32()
    except WireError:
        return 0
    return None if control & 0x20 else reader.position


def _readable(octets: bytes) -> bytes:
    """What needs no key; a tag at its end is left there, where it does not matter for what is asked here but for
    lists, which are then not understood and count as secret."""
    start = _readable_at(octets)
    return b"" if start is None else octets[start:]


def _names_secret(octets: bytes) -> bool:
    """Whether a request names what holds or changes a secret. A list that is not understood may."""
    methods = octets[:1] == b"\xc3"
    secret = _SECRET_METHODS if methods else _SECRET_ATTRIBUTES
    if octets[:2] in _LISTS:
        return _list_names_secret(octets, secret)
    if len(octets) < _DESCRIPTOR_END:
        return True
    return (int.from_bytes(octets[3:5], "big"), octets[11]) in secret


def _list_names_secret(octets: bytes, secret: set[tuple[int, int]]) -> bool:
    try:
        request = apdu.decode(octets)
    except WireError:
        return True
    match request:
        case (
            apdu.GetListRequest(attributes=chosen)
            | apdu.SetListRequest(attributes=chosen)
            | apdu.SetListFirstBlockRequest(attributes=chosen)
        ):
            named = [(one.attribute.class_id, one.attribute.attribute) for one in chosen]
        case apdu.ActionListRequest(methods=methods) | apdu.ActionListFirstPblockRequest(methods=methods):
            named = [(one.class_id, one.method) for one in methods]
        case _:
            return True
    return any(one in secret for one in named)
