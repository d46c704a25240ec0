"""`meter.read`: attributes of any object of a meter, as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gateway.errors import AccessError, AuthError, LongAnswerError, NotFoundError, SchemaError, WireError
from gateway.link.session import Session
from gateway.model import Meter
from gateway.transfer import Item
from gateway.wire import apdu, axdr
from gateway.wire.axdr import BitString, Data, DateTime, Tag
from gateway.wire.cosem import DataAccessResult
from gateway.wire.hidden import is_secret
from gateway.worker import objects

READ_LIMIT_OCTETS = 64 * 1024
"""Longer values are not read: the line would be theirs for minutes, and the reply more than brokers take."""

_DEFAULTS = (Item.DEVICE_NAME, Item.VERSION, Item.CLOCK)
_OBJECT_LIST = apdu.Attribute(15, apdu.obis("0-0:40.0.0.255"), 2)
"""All that a client may see: class, version, logical name and access rights of each object (Blue Book)."""
_LIST_LIMIT_OCTETS = 256 * 1024
_NO_SUCH_OBJECT = {
    DataAccessResult.OBJECT_UNDEFINED,
    DataAccessResult.OBJECT_CLASS_INCONSISTENT,
    DataAccessResult.OBJECT_UNAVAILABLE,
}
_NOT_SPECIFIED = 0xFF
_NO_YEAR = 0xFFFF
_NO_DEVIATION = -0x8000


def read(session: Session, meter: Meter, args: Mapping[str, Any]) -> dict[str, Any]:
    """{"meter": ..., "values": [...]}: what `args` name with `object`, `attribute` and perhaps `class`; without an
    object who the meter is, its firmware version and its clock, of which what it refuses to tell stands as an error.

    Where the class is not named, that which such objects usually have is tried, then the one that the meter's list of
    objects has. Raises NotFoundError (the meter shows us no such object), AccessError (it refuses), AuthError (the
    value is a secret), SchemaError (more than `READ_LIMIT_OCTETS`), and what a lost conversation raises."""
    if "object" in args:
        attribute = apdu.Attribute(args["class"], apdu.obis(args["object"]), args["attribute"])
        values = [_read_one(session, attribute, sure=args["sure"])]
    else:
        named = [(item, objects.attribute_of(item, meter.profile, "")) for item in _DEFAULTS]
        values = [entry for item, attribute in named if (entry := _read_default(session, item, attribute))]
    return {"meter": meter.id, "values": values}


def _read_default(session: Session, item: Item, attribute: apdu.Attribute) -> dict[str, Any] | None:
    """None: a clock that the meter does not have."""
    entry = {"name": item.value.replace(" ", "_"), **_named(attribute)}
    try:
        return {**entry, **_value(session, attribute)}
    except AccessError as error:
        if item is Item.CLOCK and error.result in _NO_SUCH_OBJECT:
            return None
        return {**entry, "error": error.message}


def _read_one(session: Session, attribute: apdu.Attribute, *, sure: bool) -> dict[str, Any]:
    try:
        return {**_named(attribute), **_value(session, attribute)}
    except AccessError as error:
        if error.result not in _NO_SUCH_OBJECT:
            raise
        listed = None if sure else _class_of(session, attribute.instance)
        if listed is None or listed == attribute.class_id:
            text = f"{attribute.class_id}/{apdu.obis_text(attribute.instance)}:{attribute.attribute}"
            found = f"the meter has no {text} for this client: {error.message}"
            raise NotFoundError(found, detail=error.detail) from None
    return _read_one(session, attribute._replace(class_id=listed), sure=True)


def _class_of(session: Session, instance: bytes) -> int | None:
    """What the meter's list of objects says; None where it does not say."""
    try:
        listed = axdr.members(session.get(_OBJECT_LIST, most_octets=_LIST_LIMIT_OCTETS))
        for members in map(axdr.members, listed):
            match [member.value for member in members[:3]]:
                case [int(class_id), _, bytes(name)] if name == instance:
                    return class_id
    except AccessError:
        return None
    except WireError:
        if session.alive:
            return None  # an answer, and no list of objects
        raise
    return None


def _value(session: Session, attribute: apdu.Attribute) -> dict[str, Any]:
    class_id, instance, number = attribute
    if is_secret(attribute):
        raise AuthError(f"attribute {number} of class {class_id} holds a secret, which is never read")
    try:
        data = session.get(attribute, most_octets=READ_LIMIT_OCTETS)
    except LongAnswerError:
        raise SchemaError(
            f"{apdu.obis_text(instance)}:{number} is longer than {READ_LIMIT_OCTETS} octets, "
            "which is the most that is read"
        ) from None
    return {"type": data.tag.name.lower().replace("_", "-"), "value": as_json(data)}


def _named(attribute: apdu.Attribute) -> dict[str, Any]:
    class_id, instance, number = attribute
    return {"object": apdu.obis_text(instance), "class": class_id, "attribute": number}


# -- values ---------------------------------------------------------------------------------------------------


def as_json(data: Data) -> Any:
    """A value as JSON has it: arrays and structures as lists; octets as {"hex": ...}, with "text" where they are
    printable ASCII and "time" where they are a date-time; bits as {"bits": "0110"}; a float that is no number as
    text."""
    match data.value:
        case BitString(octets, length):
            return {"bits": f"{int.from_bytes(octets, 'big'):0{8 * len(octets)}b}"[:length]}
        case axdr.CompactArray(elements=elements):
            return [as_json(element) for element in elements]
        case tuple() as members:
            return [as_json(member) for member in members]
        case bytes() as octets:
            return _octets_as_json(data.tag, octets)
        case float(number) if not math.isfinite(number):
            return str(number)
        case value:
            return value


def _octets_as_json(tag: Tag, octets: bytes) -> dict[str, str]:
    shown = {"hex": octets.hex()}
    if tag is Tag.DATE:
        return {**shown, "time": _date(int.from_bytes(octets[:2], "big"), octets[2], octets[3])}
    if tag is Tag.TIME:
        return {**shown, "time": _time(*octets[:3])}
    if len(octets) == 12 and (moment := _moment(DateTime.decode(octets))):
        return {**shown, "time": moment}
    text = octets.rstrip(b"\0").decode("latin-1")
    if tag is Tag.OCTET_STRING and text and text.isascii() and text.isprintable():
        return {**shown, "text": text}
    return shown


def _moment(told: DateTime) -> str:
    """A date-time as people write it, with * for what is not specified, and its zone where it is told; empty for
    octets that are none (Blue Book, "Date and time formats")."""
    deviation = told.deviation_min
    if not all(value in allowed for value, allowed in zip(told, _ALLOWED, strict=False)):
        return ""
    if deviation != _NO_DEVIATION and not -720 <= deviation <= 840:
        return ""
    text = f"{_date(told.year, told.month, told.day)} {_time(told.hour, told.minute, told.second)}"
    if deviation == _NO_DEVIATION:
        return text
    # It leads from local time to UTC: -120 where ISO 8601 writes +02:00.
    return f"{text}{'-' if deviation > 0 else '+'}{abs(deviation) // 60:02}:{abs(deviation) % 60:02}"


_ALLOWED = (
    {_NO_YEAR, *range(1, 10000)},
    {*range(1, 13), 0xFD, 0xFE, _NOT_SPECIFIED},
    {*range(1, 32), 0xFD, 0xFE, _NOT_SPECIFIED},
    {*range(1, 8), _NOT_SPECIFIED},
    {*range(24), _NOT_SPECIFIED},
    {*range(60), _NOT_SPECIFIED},
    {*range(60), _NOT_SPECIFIED},
    {*range(100), _NOT_SPECIFIED},
)
"""Of a date-time from the year to the hundredths."""
_SPECIAL_MONTH = {0xFD: "DST-end", 0xFE: "DST-begin"}
_SPECIAL_DAY = {0xFD: "2nd-last", 0xFE: "last"}


def _date(year: int, month: int, day: int) -> str:
    return "-".join((
        "*" if year == _NO_YEAR else f"{year:04}",
        _SPECIAL_MONTH.get(month) or _part(month),
        _SPECIAL_DAY.get(day) or _part(day),
    ))  # fmt: skip


def _time(hour: int, minute: int, second: int) -> str:
    return ":".join(map(_part, (hour, minute, second)))


def _part(value: int) -> str:
    return "*" if value == _NOT_SPECIFIED else f"{value:02}"
