"""COSEM objects as the worker reads them: which attribute an item is, and what its value means."""

from __future__ import annotations

from gateway.errors import WireError
from gateway.model import BitmapOrder, Profile
from gateway.transfer import ActivateEntry, BlockSet, Item
from gateway.wire import apdu, image_transfer
from gateway.wire.axdr import BitString, Data

DATA_CLASS = 1
DEVICE_NAME_OBJECT = "0-0:42.0.0.255"

_IMAGE_ATTRIBUTES = {
    Item.BLOCK_SIZE: 2,
    Item.BITMAP: 3,
    Item.ENABLED: 5,
    Item.STATUS: 6,
    Item.ACTIVATE_INFO: 7,
}


def attribute_of(item: Item, profile: Profile, firmware_object: str) -> apdu.Attribute:
    """Where `item` stands in a meter of this profile."""
    match item:
        case Item.DEVICE_NAME:
            return apdu.Attribute(DATA_CLASS, apdu.obis(DEVICE_NAME_OBJECT), 2)
        case Item.MATCH:
            assert profile.match is not None, "asked for only where the profile has one"
            return apdu.Attribute(DATA_CLASS, apdu.obis(profile.match.object), 2)
        case Item.VERSION:
            return apdu.Attribute(DATA_CLASS, apdu.obis(firmware_object or profile.firmware_object), 2)
        case _:
            image_object = apdu.obis(profile.image_object)
            return apdu.Attribute(image_transfer.CLASS_ID, image_object, _IMAGE_ATTRIBUTES[item])


def as_text(data: Data) -> str:
    """A name or version: text where it is printable ASCII, hex otherwise."""
    match data.value:
        case str() as text:
            return text
        case bytes() as octets:
            if octets and all(0x20 <= octet < 0x7F for octet in octets):
                return octets.decode("ascii")
            return octets.hex()
        case _:
            raise WireError(f"expected a text, the meter sent {data.tag.name}")


def as_number(data: Data) -> int:
    """A block size or number."""
    if isinstance(data.value, int) and not isinstance(data.value, bool) and data.value >= 0:
        return data.value
    raise WireError(f"expected an unsigned number, the meter sent {data.tag.name}")


def as_boolean(data: Data) -> bool:
    if isinstance(data.value, bool):
        return data.value
    raise WireError(f"expected a boolean, the meter sent {data.tag.name}")


def as_bitmap(data: Data, total: int, order: BitmapOrder) -> BlockSet:
    """Attribute 3 of class 18; blocks that the meter's bit-string does not reach count as missing."""
    if not isinstance(data.value, BitString):
        raise WireError(f"expected a bit-string, the meter sent {data.tag.name}")
    return BlockSet(
        total, image_transfer.blocks_from_bits(data.value, total, lsb_first=order is BitmapOrder.LSB)
    )


def as_activate_info(data: Data) -> tuple[ActivateEntry, ...]:
    """Attribute 7 of class 18."""
    return tuple(ActivateEntry(info.size, info.identification) for info in image_transfer.activate_info(data))
