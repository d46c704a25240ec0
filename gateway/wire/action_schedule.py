"""Single action schedule, class_id 22 version 0 (Blue Book "Single action schedule"; that of the image activation is
usually 0-0:15.0.2.255): a script that a meter runs by itself, at times on its own clock.

Times have no zone: they are what the meter's clock shows. The octets of `execution_time` are an array of structures of
time (4 octets) and date (5 octets), in which FF, or FFFF for the year, means "not specified".
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from gateway.errors import WireError
from gateway.wire import axdr
from gateway.wire.axdr import Data, Tag
from gateway.wire.cosem import Attribute

CLASS_ID = 22

EXECUTED_SCRIPT = 2
EXECUTION_TIME = 4

_ANY = 0xFF
_ANY_YEAR = 0xFFFF


class Script(NamedTuple):
    """What is run: a script of a script table (class 9)."""

    table: bytes
    """Logical name of 6 octets."""
    selector: int


class Execution(NamedTuple):
    """When it is run, as it stands in the octets."""

    year: int
    month: int
    day: int
    weekday: int
    """1 is Monday."""
    hour: int
    minute: int
    second: int
    hundredths: int

    @property
    def never(self) -> bool:
        """Nothing is specified: some meters show so that none is armed."""
        return self.year == _ANY_YEAR and {*self[1:3], *self[4:6]} == {_ANY}

    @property
    def wall(self) -> datetime | None:
        """The one moment on the meter's clock; None where it comes again and again, or cannot be."""
        second = 0 if self.second == _ANY else self.second
        try:
            return datetime(self.year, self.month, self.day, self.hour, self.minute, second)  # noqa: DTZ001
        except ValueError:
            return None


def attribute(instance: bytes, number: int) -> Attribute:
    """Attribute `number` (EXECUTED_SCRIPT, EXECUTION_TIME) of the object `instance`."""
    return Attribute(CLASS_ID, instance, number)


def once(wall: datetime) -> Execution:
    """At this moment on the meter's clock, and never again. The weekday is named, since types 2 and 4 of the class
    allow nothing unspecified in the date."""
    return Execution(
        wall.year, wall.month, wall.day, wall.isoweekday(), wall.hour, wall.minute, wall.second, 0
    )


def execution_data(executions: tuple[Execution, ...]) -> Data:
    """Attribute EXECUTION_TIME; without any, nothing is armed."""
    return axdr.array(
        *(
            axdr.structure(
                axdr.octet_string(bytes((e.hour, e.minute, e.second, e.hundredths))),
                axdr.octet_string(e.year.to_bytes(2, "big") + bytes((e.month, e.day, e.weekday))),
            )
            for e in executions
        )
    )


def executions(data: Data) -> tuple[Execution, ...]:
    """What EXECUTION_TIME says; WireError if it has another shape."""
    if data.tag is Tag.NULL:
        return ()
    if data.tag not in (Tag.ARRAY, Tag.COMPACT_ARRAY):
        raise WireError(f"execution_time is {data.tag.name.lower()}, an array expected")
    return tuple([_execution(element) for element in axdr.members(data)])


def _execution(element: Data) -> Execution:
    match [member.value for member in axdr.members(element)]:
        case [bytes() as time, bytes() as date] if (len(time), len(date)) == (4, 5):
            return Execution(int.from_bytes(date[:2], "big"), *date[2:], *time)
    raise WireError("an element of execution_time is no time of 4 and date of 5 octets")


def script_data(script: Script) -> Data:
    """Attribute EXECUTED_SCRIPT."""
    return axdr.structure(axdr.octet_string(script.table), axdr.u16(script.selector))


def script(data: Data) -> Script:
    """What EXECUTED_SCRIPT says; WireError if it has another shape."""
    match [member.value for member in axdr.members(data)]:
        case [bytes() as table, int() as selector] if len(table) == 6:
            return Script(table, selector)
    raise WireError("executed_script is no logical name of 6 octets and selector")
