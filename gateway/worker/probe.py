"""`meter.probe`: all seven attributes of a meter's Image Transfer object, as a person wants to see them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.errors import AccessError, WireError
from gateway.link.session import Session
from gateway.model import Meter
from gateway.transfer import Item
from gateway.wire import apdu, image_transfer
from gateway.wire.axdr import BitString, Data
from gateway.worker import objects


def probe(session: Session, meter: Meter) -> dict[str, Any]:
    """Name, version and attributes 1 to 7 of the meter's class 18 object. What it refuses to tell stands as
    {"error": ...}; only a lost conversation raises MeterError."""
    image_object = apdu.obis(meter.profile.image_object)
    name = objects.attribute_of(Item.DEVICE_NAME, meter.profile, "")
    version = objects.attribute_of(Item.VERSION, meter.profile, "")
    result: dict[str, Any] = {
        "meter": meter.id,
        "logical_device_name": _read(session, name, objects.as_text),
        "firmware_version": _read(session, version, objects.as_text),
        "image_object": meter.profile.image_object,
    }
    for number, (key, meaning) in _ATTRIBUTES.items():
        attribute = image_transfer.attribute(image_object, number)
        result[key] = _read(session, attribute, meaning)
    return result


def _read(session: Session, attribute: apdu.Attribute, meaning: Callable[[Data], Any]) -> Any:
    try:
        data = session.get(attribute)
    except AccessError as error:
        return {"error": error.message}
    try:
        return meaning(data)
    except WireError as error:
        # The conversation is whole; it is the value that nobody expected.
        return {"error": error.message}


def _logical_name(data: Data) -> str:
    match data.value:
        case bytes() as octets if len(octets) == 6:
            return apdu.obis_text(octets)
        case _:
            raise WireError(f"expected a logical name, the meter sent {data.tag.name}")


def _bitmap(data: Data) -> dict[str, int | str]:
    if not isinstance(data.value, BitString):
        raise WireError(f"expected a bit-string, the meter sent {data.tag.name}")
    octets, length = data.value.octets, data.value.length
    blocks = image_transfer.blocks_from_bits(data.value, length)
    return {"blocks": length, "transferred": int.from_bytes(blocks, "big").bit_count(), "bits": octets.hex()}


def _status(data: Data) -> dict[str, int | str]:
    status = image_transfer.status(data)
    return {"value": int(status), "name": status.name.lower()}


def _activate_info(data: Data) -> list[dict[str, int | str]]:
    return [
        {
            "image_size": info.size,
            "identification": info.identification.hex(),
            "signature": info.signature.hex(),
        }
        for info in image_transfer.activate_info(data)
    ]


_ATTRIBUTES: dict[int, tuple[str, Callable[[Data], Any]]] = {
    image_transfer.LOGICAL_NAME: ("logical_name", _logical_name),
    image_transfer.BLOCK_SIZE: ("image_block_size", objects.as_number),
    image_transfer.BLOCKS_STATUS: ("image_transferred_blocks_status", _bitmap),
    image_transfer.FIRST_NOT_TRANSFERRED: ("image_first_not_transferred_block_number", objects.as_number),
    image_transfer.ENABLED: ("image_transfer_enabled", objects.as_boolean),
    image_transfer.STATUS: ("image_transfer_status", _status),
    image_transfer.TO_ACTIVATE_INFO: ("image_to_activate_info", _activate_info),
}
