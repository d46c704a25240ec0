"""The xDLMS initiate APDUs that open an association, in A-XDR: what a client proposes and a meter agrees to (Green Book
"Application association"; COSEM ASN.1 for the conformance block). They go inside the APDUs of `association`.

Raises `WireError` only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntFlag

from gateway.errors import WireError
from gateway.wire import apdu
from gateway.wire.apdu import ConfirmedServiceError
from gateway.wire.cosem import RAW, U8, U16, number
from gateway.wire.reader import Reader

DLMS_VERSION = 6
VAA_LOGICAL_NAME = 0x0007
"""What an initiate response says instead of a base address when logical names are used."""


def _bit(number: int) -> int:
    """Bit 0 is the most significant of 24."""
    return 1 << 23 - number


class Conformance(IntFlag):
    """Services that one side proposes or both agreed on (COSEM ASN.1)."""

    RESERVED_ZERO = _bit(0)
    GENERAL_PROTECTION = _bit(1)
    GENERAL_BLOCK_TRANSFER = _bit(2)
    READ = _bit(3)
    WRITE = _bit(4)
    UNCONFIRMED_WRITE = _bit(5)
    DELTA_VALUE_ENCODING = _bit(6)
    RESERVED_SEVEN = _bit(7)
    ATTRIBUTE0_WITH_SET = _bit(8)
    PRIORITY = _bit(9)
    ATTRIBUTE0_WITH_GET = _bit(10)
    BLOCK_TRANSFER_WITH_GET = _bit(11)
    BLOCK_TRANSFER_WITH_SET = _bit(12)
    BLOCK_TRANSFER_WITH_ACTION = _bit(13)
    MULTIPLE_REFERENCES = _bit(14)
    INFORMATION_REPORT = _bit(15)
    DATA_NOTIFICATION = _bit(16)
    ACCESS = _bit(17)
    PARAMETERIZED_ACCESS = _bit(18)
    GET = _bit(19)
    SET = _bit(20)
    SELECTIVE_ACCESS = _bit(21)
    EVENT_NOTIFICATION = _bit(22)
    ACTION = _bit(23)


@dataclass(frozen=True, slots=True)
class InitiateRequest:
    """What the client proposes. With a dedicated key in it, it goes ciphered only."""

    conformance: Conformance
    max_pdu: int
    """The longest APDU that the client takes, octets; 0: no limit."""
    dedicated_key: bytes = field(default=b"", repr=False)
    response_allowed: bool = True
    quality_of_service: int | None = None
    version: int = DLMS_VERSION


@dataclass(frozen=True, slots=True)
class InitiateResponse:
    """What was agreed."""

    conformance: Conformance
    max_pdu: int
    """The longest APDU that the meter takes, octets, ciphering included; 0: no limit."""
    quality_of_service: int | None = None
    version: int = DLMS_VERSION
    vaa_name: int = VAA_LOGICAL_NAME


Initiate = InitiateRequest | InitiateResponse | ConfirmedServiceError


def encode_initiate(initiate: Initiate) -> bytes:
    """The plain octets."""
    match initiate:
        case ConfirmedServiceError():
            return apdu.encode(initiate)
        case InitiateRequest():
            return b"".join(
                (
                    b"\x01",
                    b"\x01" + RAW.write(initiate.dedicated_key) if initiate.dedicated_key else b"\x00",
                    b"\x00" if initiate.response_allowed else b"\x01\x00",
                    _optional_octet(initiate.quality_of_service),
                    _negotiable(initiate),
                )
            )
        case InitiateResponse():
            return b"".join(
                (
                    b"\x08",
                    _optional_octet(initiate.quality_of_service),
                    _negotiable(initiate),
                    U16.write(initiate.vaa_name),
                )
            )


def decode_initiate(octets: bytes) -> Initiate:
    """The plain initiate request, response or error that `octets` are (deciphered before, where it was ciphered)."""
    reader = Reader(octets)
    tag = reader.u8()
    initiate: Initiate
    if tag == 0x01:
        initiate = _read_request(reader)
    elif tag == 0x08:
        initiate = _read_response(reader)
    elif tag == 0x0E:
        initiate = ConfirmedServiceError(reader.u8(), reader.u8(), reader.u8())
    else:
        raise WireError(f"{tag:02x} begins no initiate APDU")
    reader.finish()
    return initiate


def _read_request(reader: Reader) -> InitiateRequest:
    dedicated_key = reader.counted() if reader.flag() else b""
    response_allowed = reader.u8() != 0 if reader.flag() else True
    quality_of_service = reader.u8() if reader.flag() else None
    version = reader.u8()
    conformance = _read_conformance(reader)
    return InitiateRequest(
        conformance, reader.u16(), dedicated_key, response_allowed, quality_of_service, version
    )


def _read_response(reader: Reader) -> InitiateResponse:
    quality_of_service = reader.u8() if reader.flag() else None
    version = reader.u8()
    conformance = _read_conformance(reader)
    return InitiateResponse(conformance, reader.u16(), quality_of_service, version, reader.u16())


def _read_conformance(reader: Reader) -> Conformance:
    """[APPLICATION 31], whose tag some older meters write in one octet, as the Green Book allows."""
    if reader.u8() != 0x5F:
        raise WireError("no conformance block (5f 1f 04) where one is expected")
    length = reader.u8()
    if length == 0x1F:
        length = reader.u8()
    if length != 4 or reader.u8() != 0:
        raise WireError("conformance is not a bit-string of 24 bits")
    return Conformance(int.from_bytes(reader.take(3), "big"))


def _negotiable(initiate: InitiateRequest | InitiateResponse) -> bytes:
    return b"".join(
        (
            U8.write(initiate.version),
            b"\x5f\x1f\x04\x00",
            number(3).write(initiate.conformance),
            U16.write(initiate.max_pdu),
        )
    )


def _optional_octet(value: int | None) -> bytes:
    return b"\x00" if value is None else b"\x01" + U8.write(value)
