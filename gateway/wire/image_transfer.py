"""Image Transfer, class_id 18 version 0, seen from the client: the octets of its seven attributes and four methods
(Blue Book "Image transfer"; usually the object 0-0:44.0.0.255).

The procedure is not here: `gateway.transfer` decides what is next. `BlockRequest` and `acknowledged` are what every
block of every image goes through; they are made to be cheap.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.errors import WireError
from gateway.model import ImageTransferStatus
from gateway.wire import apdu, axdr
from gateway.wire.apdu import ActionRequest, Attribute, Invoke, Method, obis
from gateway.wire.axdr import BitString, Data, Tag, encode_length
from gateway.wire.security import Protection

CLASS_ID = 18
DEFAULT_INSTANCE = obis("0-0:44.0.0.255")

LOGICAL_NAME = 1
BLOCK_SIZE = 2
BLOCKS_STATUS = 3
FIRST_NOT_TRANSFERRED = 4
ENABLED = 5
STATUS = 6
TO_ACTIVATE_INFO = 7

INITIATE = 1
BLOCK_TRANSFER = 2
VERIFY = 3
ACTIVATE = 4


def attribute(instance: bytes, number: int) -> Attribute:
    """Attribute `number` (LOGICAL_NAME to TO_ACTIVATE_INFO) of the object `instance`."""
    return Attribute(CLASS_ID, instance, number)


def method(instance: bytes, number: int) -> Method:
    """Method `number` (INITIATE to ACTIVATE) of the object `instance`."""
    return Method(CLASS_ID, instance, number)


# -- what goes to the meter -----------------------------------------------------------------------------------


def initiate_data(identifier: bytes, size: int) -> Data:
    """Parameters of INITIATE: what the image is called, and how many octets it has."""
    return axdr.structure(axdr.octet_string(identifier), axdr.u32(size))


def block_data(number: int, block: bytes) -> Data:
    """Parameters of BLOCK_TRANSFER: block `number` counts from 0."""
    return axdr.structure(axdr.u32(number), axdr.octet_string(block))


def no_data() -> Data:
    """Parameters of VERIFY and ACTIVATE: integer(0)."""
    return axdr.integer(0)


class BlockRequest:
    """BLOCK_TRANSFER requests to one object: the same octets as the general encoder makes, prepared but for
    invoke-id, number and block."""

    __slots__ = ("_heads", "_length", "_length_octets")

    def __init__(
        self, instance: bytes = DEFAULT_INSTANCE, *, confirmed: bool = True, high_priority: bool = True
    ) -> None:
        ids = [Invoke(number, confirmed, high_priority) for number in range(16)]
        self._heads = [_block_head(instance, invoke) for invoke in ids]
        self._length = -1
        self._length_octets = b""

    def encode(self, invoke_id: int, number: int, block: bytes) -> bytes:
        """The plain APDU. WireError if the number does not fit 32 bits."""
        length = len(block)
        if length != self._length:
            self._length, self._length_octets = length, encode_length(length)
        try:
            number_octets = number.to_bytes(4, "big")
        except OverflowError:
            raise WireError(f"block number {number}, 32 bits expected") from None
        return b"".join((self._heads[invoke_id], number_octets, b"\x09", self._length_octets, block))


def request_length(block: int, protection: Protection | None = None) -> int:
    """Octets of the BLOCK_TRANSFER request for a block of so many octets, ciphered by `protection`."""
    plain = _HEAD_LENGTH + 4 + 1 + len(encode_length(block)) + block
    return plain if protection is None else protection.sealed_length(plain)


def answer_length(protection: Protection | None = None) -> int:
    """Octets of the answer to it."""
    return _ANSWER_LENGTH if protection is None else protection.sealed_length(_ANSWER_LENGTH)


def largest_block(max_pdu: int, protection: Protection | None = None) -> int:
    """How many octets a block may have so that its request, ciphered by `protection`, fits `max_pdu` octets; 0 if not
    even one fits. A `max_pdu` of 0 means that the meter sets no limit."""
    if max_pdu == 0:
        return _NO_LIMIT
    size = max(0, max_pdu - (request_length(max_pdu, protection) - max_pdu))
    # Smaller blocks have shorter length fields: there may be room for a few octets more.
    while request_length(size + 1, protection) <= max_pdu:
        size += 1
    return size


# -- what the meter says --------------------------------------------------------------------------------------


def acknowledged(octets: bytes) -> bool:
    """A plain ACTION.response says success. It may return nothing, or null-data as some meters do; whatever else it
    is, `apdu.decode` tells. The caller compares the invoke-id, the low four bits of octet 2."""
    return octets[3:] in _SUCCESS and octets[:2] == b"\xc7\x01"


def status(data: Data) -> ImageTransferStatus:
    """Attribute STATUS; WireError if it is none of the eight."""
    if data.tag is not Tag.ENUM or not isinstance(data.value, int) or data.value not in _STATUSES:
        raise WireError(f"image transfer status is {_shown(data)}, enum 0 to 7 expected")
    return ImageTransferStatus(data.value)


def blocks_from_bits(bits: BitString, count: int, *, lsb_first: bool = False) -> bytes:
    """Which of `count` blocks the meter has: exactly ceil(count / 8) octets, block 0 the most significant bit of the
    first one, 1 = transferred. Bits that the meter does not send count as not transferred, those beyond `count` mean
    nothing. `lsb_first`: the meter fills its octets from the other end."""
    known = min(bits.length, count)
    octets = bits.octets[: (known + 7) // 8]
    if lsb_first:
        octets = octets.translate(_REVERSED)
    if unused := -known % 8:
        octets = octets[:-1] + bytes((octets[-1] >> unused << unused,))
    return octets.ljust((count + 7) // 8, b"\x00")


@dataclass(frozen=True, slots=True)
class ActivateInfo:
    """One image that ACTIVATE would activate."""

    size: int
    identification: bytes
    signature: bytes


def activate_info(data: Data) -> tuple[ActivateInfo, ...]:
    """Attribute TO_ACTIVATE_INFO, empty before verification; WireError if it has another shape."""
    if data.tag is Tag.NULL:
        return ()
    if data.tag not in (Tag.ARRAY, Tag.COMPACT_ARRAY):
        raise WireError(f"image_to_activate_info is {_shown(data)}, an array expected")
    return tuple([_activate_element(element) for element in axdr.members(data)])


# -- private --------------------------------------------------------------------------------------------------

_NO_LIMIT = 0xFFFF_FFFF
_SUCCESS = (b"\x00\x00", b"\x00\x01\x00\x00")
_STATUSES = frozenset(int(member) for member in ImageTransferStatus)
_REVERSED = bytes(int(f"{octet:08b}"[::-1], 2) for octet in range(256))
_TRAILER = axdr.encode(block_data(0, b""))[2 + 1 :]


def _block_head(instance: bytes, invoke: Invoke) -> bytes:
    """A request up to where the block number begins: the part that is the same for every block."""
    whole = apdu.encode(ActionRequest(invoke, method(instance, BLOCK_TRANSFER), block_data(0, b"")))
    return whole[: -len(_TRAILER)]


def _activate_element(element: Data) -> ActivateInfo:
    match element:
        case Data(Tag.STRUCTURE, (Data(Tag.DOUBLE_LONG_UNSIGNED, int(size)),
                                  Data(Tag.OCTET_STRING, bytes(identification)),
                                  Data(Tag.OCTET_STRING, bytes(signature)))):  # fmt: skip
            return ActivateInfo(size, identification, signature)
    raise WireError(
        f"element of image_to_activate_info is {_shown(element)}, size, identification, signature expected"
    )


def _shown(data: Data) -> str:
    name = data.tag.name.lower().replace("_", "-")
    return f"{name} {data.value}" if isinstance(data.value, int) else name


_ANSWER_LENGTH = 3 + len(_SUCCESS[0])
_HEAD_LENGTH = len(_block_head(DEFAULT_INSTANCE, Invoke()))
