"""COSEM objects as the worker reads them: which attribute an item is, and what its value means."""

from __future__ import annotations

import hashlib
from datetime import datetime

from gateway.errors import WireError
from gateway.model import BitmapOrder, Profile
from gateway.transfer import (
    ActivateEntry,
    ArmSchedule,
    BlockSet,
    ClearSchedule,
    Goal,
    Item,
    ScheduleEntry,
    Script,
    SetScript,
)
from gateway.transfer.schedule import wall_of
from gateway.wire import action_schedule, apdu, image_transfer
from gateway.wire.axdr import BitString, CompactArray, Data, DateTime

DATA_CLASS = 1
CLOCK_CLASS = 8
CLOCK_OBJECT = "0-0:1.0.0.255"
DEVICE_NAME_OBJECT = "0-0:42.0.0.255"

LONGEST_TEXT = 128
"""Characters of a name or version that are worth showing and comparing."""

_IMAGE_ATTRIBUTES = {
    Item.BLOCK_SIZE: image_transfer.BLOCK_SIZE,
    Item.BITMAP: image_transfer.BLOCKS_STATUS,
    Item.ENABLED: image_transfer.ENABLED,
    Item.STATUS: image_transfer.STATUS,
    Item.ACTIVATE_INFO: image_transfer.TO_ACTIVATE_INFO,
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
        case Item.CLOCK:
            return apdu.Attribute(CLOCK_CLASS, apdu.obis(CLOCK_OBJECT), 2)
        case Item.SCHEDULE:
            return _schedule(profile, action_schedule.EXECUTION_TIME)
        case Item.SCRIPT:
            return _schedule(profile, action_schedule.EXECUTED_SCRIPT)
        case _:
            return image_transfer.attribute(apdu.obis(profile.image_object), _IMAGE_ATTRIBUTES[item])


def _schedule(profile: Profile, number: int) -> apdu.Attribute:
    return action_schedule.attribute(apdu.obis(profile.activation_schedule), number)


def for_schedule(step: SetScript | ArmSchedule | ClearSchedule, goal: Goal) -> tuple[apdu.Attribute, Data]:
    """What is written to the meter's schedule, and where."""
    profile = goal.profile
    match step:
        case SetScript(script=script):
            wanted = action_schedule.Script(apdu.obis(script.table), script.selector)
            return _schedule(profile, action_schedule.EXECUTED_SCRIPT), action_schedule.script_data(wanted)
        case ArmSchedule():
            assert goal.activate_at is not None
            times: tuple[action_schedule.Execution, ...] = (
                action_schedule.once(wall_of(goal.activate_at, profile.activation_timezone)),
            )
        case ClearSchedule():
            times = ()
    return _schedule(profile, action_schedule.EXECUTION_TIME), action_schedule.execution_data(times)


def as_text(data: Data) -> str:
    """A name or version: text where it is printable ASCII, hex otherwise; padding at its end does not count, and no
    more than LONGEST_TEXT characters do."""
    match data.value:
        case str() as text:
            octets = text.encode()
        case bytes() as octets:
            pass
        case _:
            raise WireError(f"expected a text, the meter sent {data.tag.name}")
    text = octets.rstrip(b"\0 ").decode("ascii", errors="replace")
    shown = text if text and text.isascii() and text.isprintable() else octets.hex()
    return shown[:LONGEST_TEXT]


def as_shown(data: Data) -> str:
    """Any value, so that equal values are equal texts and others are not; of a long one its beginning and its
    digest."""
    text = _shown(data)
    if len(text) <= LONGEST_TEXT:
        return text
    return f"{text[:LONGEST_TEXT]}... (sha256 {hashlib.sha256(text.encode()).hexdigest()[:16]})"


def _shown(data: Data) -> str:
    match data.value:
        case BitString(octets, length):
            return f"{int.from_bytes(octets, 'big'):0{8 * len(octets)}b}"[:length]
        case CompactArray(elements=elements):
            return f"[{', '.join(map(_shown, elements))}]"
        case tuple() as members:
            return f"[{', '.join(map(_shown, members))}]"
        case bytes() as octets:
            text = octets.decode("ascii", errors="replace")
            return text if text and text.isascii() and text.isprintable() else octets.hex()
        case None:
            return "nothing"
        case value:
            return str(value)


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


def as_wall(data: Data) -> datetime | None:
    """Attribute 2 of the clock, without its zone; None where it is not set."""
    if not isinstance(data.value, bytes):
        raise WireError(f"expected a date and time, the meter sent {data.tag.name}")
    told = DateTime.decode(data.value)
    try:
        return datetime(told.year, told.month, told.day, told.hour, told.minute, told.second)  # noqa: DTZ001
    except ValueError:
        return None


def as_schedule(data: Data) -> tuple[ScheduleEntry, ...]:
    """Attribute 4 of class 22: the times that may come."""
    return tuple(
        ScheduleEntry(each.wall, "a time that comes again" if each.wall is None else str(each.wall))
        for each in action_schedule.executions(data)
        if not each.never
    )


def as_script(data: Data) -> Script:
    """Attribute 2 of class 22."""
    script = action_schedule.script(data)
    return Script(apdu.obis_text(script.table), script.selector)
