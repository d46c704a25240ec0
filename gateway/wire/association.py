"""Associations: AARQ, AARE, RLRQ, RLRE (ACSE, ISO/IEC 8650-1 in BER), for logical-name referencing (Green Book
"Application association"). The initiate APDUs that they carry are in `initiate`.

Read liberally where that is safe: elements in any order, lengths in any definite form, elements that we do not know
skipped. Not where it is not: an element twice, octets left over, lengths that lie. Raises `WireError` only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from gateway.errors import WireError
from gateway.wire.cosem import RAW, U8
from gateway.wire.reader import Reader


class Context(IntEnum):
    """Application context; short-name contexts (2 and 4) stay a plain int."""

    LN = 1
    LN_CIPHERED = 3


class Mechanism(IntEnum):
    """Authentication mechanism; a number that is not listed stays a plain int."""

    NONE = 0
    LLS = 1
    HLS_MANUFACTURER = 2
    MD5 = 3
    SHA1 = 4
    GMAC = 5
    SHA256 = 6
    ECDSA = 7


class Result(IntEnum):
    """Result of an AARE; a number that is not listed stays a plain int."""

    ACCEPTED = 0
    REJECTED_PERMANENT = 1
    REJECTED_TRANSIENT = 2


class DiagnosticSource(IntEnum):
    USER = 1
    PROVIDER = 2


class Diagnostic(IntEnum):
    """Diagnostics of the service user; a number that is not listed stays a plain int."""

    NULL = 0
    NO_REASON_GIVEN = 1
    CONTEXT_NAME_NOT_SUPPORTED = 2
    CALLING_TITLE_NOT_RECOGNIZED = 3
    CALLING_INVOCATION_ID_NOT_RECOGNIZED = 4
    CALLING_QUALIFIER_NOT_RECOGNIZED = 5
    CALLING_AE_INVOCATION_ID_NOT_RECOGNIZED = 6
    CALLED_TITLE_NOT_RECOGNIZED = 7
    CALLED_INVOCATION_ID_NOT_RECOGNIZED = 8
    CALLED_QUALIFIER_NOT_RECOGNIZED = 9
    CALLED_AE_INVOCATION_ID_NOT_RECOGNIZED = 10
    MECHANISM_NOT_RECOGNISED = 11
    MECHANISM_REQUIRED = 12
    AUTHENTICATION_FAILURE = 13
    AUTHENTICATION_REQUIRED = 14


@dataclass(frozen=True, slots=True)
class Aarq:
    """The client asks for an association. `initiate` is an encoded initiate request, ciphered or not."""

    context: int
    initiate: bytes
    mechanism: int = Mechanism.NONE
    """NONE: neither mechanism nor requirements are sent."""
    authentication_value: bytes = field(default=b"", repr=False)
    """The LLS password, or the client's challenge of HLS."""
    calling_title: bytes = b""
    """The client's system title; empty: not sent."""


@dataclass(frozen=True, slots=True)
class Aare:
    """The meter's answer. ACCEPTED with AUTHENTICATION_REQUIRED is HLS half way, not yet success."""

    context: int
    result: int
    diagnostic: int
    diagnostic_source: int = DiagnosticSource.USER
    responding_title: bytes = b""
    """The meter's system title; empty: not sent."""
    mechanism: int = Mechanism.NONE
    challenge: bytes = b""
    """The meter's challenge of HLS."""
    initiate: bytes = b""
    """An encoded initiate response or confirmed service error, ciphered or not; empty: none came."""


@dataclass(frozen=True, slots=True)
class Rlrq:
    """The client ends the association."""

    reason: int | None = 0
    initiate: bytes = b""


@dataclass(frozen=True, slots=True)
class Rlre:
    """The meter's answer."""

    reason: int | None = 0
    initiate: bytes = b""


def encode_aarq(aarq: Aarq) -> bytes:
    return _element(0x60, b"".join((
        _element(0xA1, _element(0x06, _CONTEXT_NAME + U8.write(aarq.context))),
        _element(0xA6, _element(0x04, aarq.calling_title)) if aarq.calling_title else b"",
        _authentication(0x8A, 0x8B, 0xAC, aarq.mechanism, aarq.authentication_value),
        _element(0xBE, _element(0x04, aarq.initiate)),
    )))  # fmt: skip


def encode_aare(aare: Aare) -> bytes:
    return _element(0x61, b"".join((
        _element(0xA1, _element(0x06, _CONTEXT_NAME + U8.write(aare.context))),
        _element(0xA2, _integer(aare.result)),
        _element(0xA3, _element(0xA0 + aare.diagnostic_source, _integer(aare.diagnostic))),
        _element(0xA4, _element(0x04, aare.responding_title)) if aare.responding_title else b"",
        _authentication(0x88, 0x89, 0xAA, aare.mechanism, aare.challenge),
        _element(0xBE, _element(0x04, aare.initiate)) if aare.initiate else b"",
    )))  # fmt: skip


def encode_rlrq(rlrq: Rlrq) -> bytes:
    return _element(0x62, _release(rlrq))


def encode_rlre(rlre: Rlre) -> bytes:
    return _element(0x63, _release(rlre))


def decode_aarq(octets: bytes) -> Aarq:
    """WireError if `octets` are no AARQ, or one without application context or initiate request."""
    elements = _elements(octets, 0x60, "AARQ")
    return Aarq(
        context=_read_context(elements),
        initiate=_inner(elements, 0xBE, 0x04),
        mechanism=_read_mechanism(elements, 0x8B),
        authentication_value=_read_authentication_value(elements, 0xAC),
        calling_title=_inner(elements, 0xA6, 0x04) if 0xA6 in elements else b"",
    )


def decode_aare(octets: bytes) -> Aare:
    """WireError if `octets` are no AARE, or one without application context, result or diagnostic."""
    elements = _elements(octets, 0x61, "AARE")
    source, diagnostic = _read_diagnostic(elements)
    result = _read_integer(_inner(elements, 0xA2, 0x02))
    return Aare(
        context=_read_context(elements),
        result=_named(Result, result),
        diagnostic=_named(Diagnostic, diagnostic) if source is DiagnosticSource.USER else diagnostic,
        diagnostic_source=source,
        responding_title=_inner(elements, 0xA4, 0x04) if 0xA4 in elements else b"",
        mechanism=_read_mechanism(elements, 0x89),
        challenge=_read_authentication_value(elements, 0xAA),
        initiate=_inner(elements, 0xBE, 0x04) if 0xBE in elements else b"",
    )


def decode_rlrq(octets: bytes) -> Rlrq:
    return Rlrq(*_read_release(_elements(octets, 0x62, "RLRQ")))


def decode_rlre(octets: bytes) -> Rlre:
    return Rlre(*_read_release(_elements(octets, 0x63, "RLRE")))


# -- private: BER ---------------------------------------------------------------------------------------------

_CONTEXT_NAME = bytes.fromhex("60857405 0801")
"""2.16.756.5.8.1, joint-iso-ccitt country Switzerland, DLMS UA, application context; the last arc is its number."""
_MECHANISM_NAME = bytes.fromhex("60857405 0802")

_Elements = dict[int, bytes]


def _element(tag: int, contents: bytes) -> bytes:
    return U8.write(tag) + RAW.write(contents)


def _integer(value: int) -> bytes:
    return _element(0x02, U8.write(value))


def _authentication(requirements: int, name: int, value: int, mechanism: int, octets: bytes) -> bytes:
    if mechanism == Mechanism.NONE:
        return b""
    return b"".join(
        (
            _element(requirements, b"\x07\x80"),
            _element(name, _MECHANISM_NAME + U8.write(mechanism)),
            _element(value, _element(0x80, octets)),
        )
    )


def _release(release: Rlrq | Rlre) -> bytes:
    reason = b"" if release.reason is None else _element(0x80, U8.write(release.reason))
    return reason + (_element(0xBE, _element(0x04, release.initiate)) if release.initiate else b"")


def _elements(octets: bytes, tag: int, name: str) -> _Elements:
    """The elements of an APDU by their tags."""
    reader = Reader(octets)
    if (found := reader.u8()) != tag:
        raise WireError(f"{found:02x} begins no {name}, {tag:02x} expected")
    contents = Reader(reader.counted())
    reader.finish()
    elements: _Elements = {}
    while contents.more():
        element = contents.u8()
        if element in elements:
            raise WireError(f"element {element:02x} twice in an {name}")
        elements[element] = contents.counted()
    return elements


def _inner(elements: _Elements, tag: int, inner: int) -> bytes:
    """The contents of the one element `inner` inside the element `tag`."""
    if tag not in elements:
        raise WireError(f"element {tag:02x} is missing")
    return _unwrapped(elements[tag], inner)


def _unwrapped(octets: bytes, tag: int) -> bytes:
    """The contents of the one element that `octets` are."""
    reader = Reader(octets)
    if (found := reader.u8()) != tag:
        raise WireError(f"element {found:02x} where {tag:02x} is expected")
    contents = reader.counted()
    reader.finish()
    return contents


def _read_integer(contents: bytes) -> int:
    if not 1 <= len(contents) <= 4:
        raise WireError(f"an integer of {len(contents)} octets, 1 to 4 expected")
    return int.from_bytes(contents, "big")


def _read_context(elements: _Elements) -> int:
    name = _inner(elements, 0xA1, 0x06)
    if len(name) != 7 or name[:6] != _CONTEXT_NAME:
        raise WireError(f"application context {name.hex()} is none of DLMS/COSEM")
    return _named(Context, name[6])


def _read_mechanism(elements: _Elements, tag: int) -> int:
    """Some meters set the top bit of the mechanism's number: 85 for 5."""
    if tag not in elements:
        return Mechanism.NONE
    name = elements[tag]
    if len(name) != 7 or name[:6] != _MECHANISM_NAME:
        raise WireError(f"authentication mechanism {name.hex()} is none of DLMS/COSEM")
    return _named(Mechanism, name[6] & 0x7F)


def _read_authentication_value(elements: _Elements, tag: int) -> bytes:
    return _inner(elements, tag, 0x80) if tag in elements else b""


def _read_diagnostic(elements: _Elements) -> tuple[DiagnosticSource, int]:
    contents = elements.get(0xA3, b"")
    for source in DiagnosticSource:
        if contents[:1] == bytes((0xA0 + source,)):
            return source, _read_integer(_unwrapped(_unwrapped(contents, 0xA0 + source), 0x02))
    raise WireError(f"diagnostic is {contents.hex() or 'missing'}, a1 or a2 expected")


def _read_release(elements: _Elements) -> tuple[int | None, bytes]:
    reason = _read_integer(elements[0x80]) if 0x80 in elements else None
    return reason, _inner(elements, 0xBE, 0x04) if 0xBE in elements else b""


def _named(names: type[IntEnum], value: int) -> int:
    return names(value) if value in {int(member) for member in names} else value
