"""What service APDUs speak of, and how each of it stands in octets: attributes and methods, the invoke-id, results,
blocks (Green Book "COSEM APDUs"; the COSEM ASN.1).

The second half are `Part`s, the pieces that the grammar of `gateway.wire.apdu` is put together from.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from enum import IntEnum
from typing import Any, NamedTuple

from gateway.errors import WireError
from gateway.wire import axdr
from gateway.wire.axdr import Data, encode_length
from gateway.wire.reader import Reader

_OBIS = re.compile(r"(\d{1,3})-(\d{1,3}):(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})", re.ASCII)


def obis(text: str) -> bytes:
    """The 6 octets of a logical name as people write it: "0-0:44.0.0.255". WireError if it is not one."""
    found = _OBIS.fullmatch(text)
    values = [int(group) for group in found.groups()] if found else []
    if not values or max(values) > 255:
        raise WireError(f"{text!r} is no logical name, A-B:C.D.E.F with numbers up to 255 expected")
    return bytes(values)


def obis_text(instance: bytes) -> str:
    """The logical name of 6 octets as people write it."""
    a, b, c, d, e, f = instance
    return f"{a}-{b}:{c}.{d}.{e}.{f}"


class Attribute(NamedTuple):
    """An attribute of an object: class_id, logical name of 6 octets (`instance`), attribute_id."""

    class_id: int
    instance: bytes
    attribute: int


class Method(NamedTuple):
    """A method of an object: class_id, logical name of 6 octets (`instance`), method_id."""

    class_id: int
    instance: bytes
    method: int


class Access(NamedTuple):
    """Selective access: which part of an attribute is meant."""

    selector: int
    parameters: Data


class Selection(NamedTuple):
    """An attribute in a list, with the part that is meant."""

    attribute: Attribute
    access: Access | None = None


class Invoke(NamedTuple):
    """The octet invoke-id-and-priority: the id in bits 0 to 3, service class in bit 6, priority in bit 7."""

    id: int = 1
    confirmed: bool = True
    """Cleared: nobody answers (broadcast)."""
    high_priority: bool = True


class DataAccessResult(IntEnum):
    """Results of GET and SET; a number that is not listed stays a plain int."""

    SUCCESS = 0
    HARDWARE_FAULT = 1
    TEMPORARY_FAILURE = 2
    READ_WRITE_DENIED = 3
    OBJECT_UNDEFINED = 4
    OBJECT_CLASS_INCONSISTENT = 9
    OBJECT_UNAVAILABLE = 11
    TYPE_UNMATCHED = 12
    SCOPE_OF_ACCESS_VIOLATED = 13
    DATA_BLOCK_UNAVAILABLE = 14
    LONG_GET_ABORTED = 15
    NO_LONG_GET_IN_PROGRESS = 16
    LONG_SET_ABORTED = 17
    NO_LONG_SET_IN_PROGRESS = 18
    DATA_BLOCK_NUMBER_INVALID = 19
    OTHER_REASON = 250


class ActionResult(IntEnum):
    """Results of ACTION; a number that is not listed stays a plain int."""

    SUCCESS = 0
    HARDWARE_FAULT = 1
    TEMPORARY_FAILURE = 2
    READ_WRITE_DENIED = 3
    OBJECT_UNDEFINED = 4
    OBJECT_CLASS_INCONSISTENT = 9
    OBJECT_UNAVAILABLE = 11
    TYPE_UNMATCHED = 12
    SCOPE_OF_ACCESS_VIOLATED = 13
    DATA_BLOCK_UNAVAILABLE = 14
    LONG_ACTION_ABORTED = 15
    NO_LONG_ACTION_IN_PROGRESS = 16
    OTHER_REASON = 250


class ExceptionState(IntEnum):
    """First octet of an exception-response; a number that is not listed stays a plain int."""

    SERVICE_NOT_ALLOWED = 1
    SERVICE_UNKNOWN = 2


class ExceptionService(IntEnum):
    """Second octet of an exception-response; a number that is not listed stays a plain int."""

    OPERATION_NOT_POSSIBLE = 1
    SERVICE_NOT_SUPPORTED = 2
    OTHER_REASON = 3
    PDU_TOO_LONG = 4
    DECIPHERING_ERROR = 5
    INVOCATION_COUNTER_ERROR = 6


class ActionOutcome(NamedTuple):
    """What one method of a list gave."""

    result: int
    data: Data | None = None
    data_result: int | None = None


# -- parts of an APDU -----------------------------------------------------------------------------------------


class Part(NamedTuple):
    """A piece of an APDU that holds one or more fields of its dataclass."""

    write: Callable[..., bytes]
    """Field values -> octets."""
    read: Callable[[Reader], Any]
    """-> the field's value, or a tuple of them where the part holds more than one field."""


def number(octets: int) -> Part:
    """An unsigned number of that many octets."""

    def write(value: int) -> bytes:
        if not 0 <= value < 1 << 8 * octets:
            raise WireError(f"{value} does not fit {octets} octets")
        return value.to_bytes(octets, "big")

    return Part(write, lambda reader: int.from_bytes(reader.take(octets), "big"))


def result(names: type[IntEnum]) -> Part:
    """One octet: a member of `names`, or a plain int that has no name there."""
    known: dict[int, int] = {int(member): member for member in names}

    def read(reader: Reader) -> int:
        value = reader.u8()
        return known.get(value, value)

    return Part(number(1).write, read)


def list_of(part: Part) -> Part:
    """A number of elements, then each of them."""

    def write(values: tuple[Any, ...]) -> bytes:
        return encode_length(len(values)) + b"".join([part.write(value) for value in values])

    return Part(write, lambda reader: tuple([part.read(reader) for _ in range(reader.count())]))


def _write_invoke(invoke: Invoke) -> bytes:
    if not 0 <= invoke.id <= 15:
        raise WireError(f"invoke-id {invoke.id}, 0 to 15 expected")
    return bytes((invoke.id | invoke.confirmed << 6 | invoke.high_priority << 7,))


_INVOKES = tuple(Invoke(octet & 0x0F, bool(octet & 0x40), bool(octet & 0x80)) for octet in range(256))


_MEMBER = struct.Struct(">H6sB")


def _write_member(member: Attribute | Method) -> bytes:
    class_id, instance, index = member
    if len(instance) != 6:
        raise WireError(f"logical name of {len(instance)} octets, 6 expected")
    # Integer8 in the grammar: the negative numbers of manufacturers are 128 to 255 here.
    return U16.write(class_id) + instance + U8.write(index)


def _write_access(access: Access | None) -> bytes:
    if access is None:
        return b"\x00"
    return b"\x01" + U8.write(access.selector) + axdr.encode(access.parameters)


def _read_access(reader: Reader) -> Access | None:
    return Access(reader.u8(), axdr.read(reader)) if reader.flag() else None


def _write_selection(selection: Selection) -> bytes:
    return _write_member(selection.attribute) + _write_access(selection.access)


def _write_optional_data(data: Data | None) -> bytes:
    return b"\x00" if data is None else b"\x01" + axdr.encode(data)


def _write_data_or_result(value: Data | int) -> bytes:
    return b"\x00" + axdr.encode(value) if isinstance(value, Data) else b"\x01" + U8.write(value)


def _read_data_or_result(reader: Reader) -> Data | int:
    if reader.flag():
        return DATA_ACCESS_RESULT.read(reader)  # type: ignore[no-any-return]
    return axdr.read(reader)


def _write_raw_or_result(raw: bytes, failure: int | None) -> bytes:
    return b"\x00" + RAW.write(raw) if failure is None else b"\x01" + U8.write(failure)


def _read_raw_or_result(reader: Reader) -> tuple[bytes, int | None]:
    if reader.flag():
        return b"", DATA_ACCESS_RESULT.read(reader)
    return reader.counted(), None


def _write_return(data: Data | None, failure: int | None) -> bytes:
    value = data if failure is None else failure
    return b"\x00" if value is None else b"\x01" + _write_data_or_result(value)


def _read_return(reader: Reader) -> tuple[Data | None, int | None]:
    if not reader.flag():
        return None, None
    value = _read_data_or_result(reader)
    return (value, None) if isinstance(value, Data) else (None, value)


def _write_service_error(service: int, counter: int | None) -> bytes:
    return U8.write(service) + (b"" if counter is None else U32.write(counter))


def _read_service_error(reader: Reader) -> tuple[int, int | None]:
    """Only an invocation-counter-error carries a counter, and not every meter adds it."""
    service = _SERVICE_ERROR.read(reader)
    counted = service == ExceptionService.INVOCATION_COUNTER_ERROR and reader.more()
    return service, reader.u32() if counted else None


def _read_date_time(reader: Reader) -> bytes:
    octets = reader.counted()
    if len(octets) not in (0, 12):
        raise WireError(f"date-time of {len(octets)} octets, none or 12 expected")
    return octets


def _write_block_control(last: bool, streaming: bool, window: int) -> bytes:
    if not 0 <= window <= 63:
        raise WireError(f"window of {window} blocks, 0 to 63 expected")
    return bytes((last << 7 | streaming << 6 | window,))


def _read_block_control(reader: Reader) -> tuple[bool, bool, int]:
    octet = reader.u8()
    return bool(octet & 0x80), bool(octet & 0x40), octet & 0x3F


_SERVICE_ERROR = result(ExceptionService)

U8 = number(1)
U16 = number(2)
U32 = number(4)
FLAG = Part(lambda value: b"\x01" if value else b"\x00", lambda reader: reader.u8() != 0)
RAW = Part(lambda raw: encode_length(len(raw)) + raw, Reader.counted)
DATE_TIME = Part(RAW.write, _read_date_time)
DATA = Part(axdr.encode, axdr.read)
OPTIONAL_DATA = Part(_write_optional_data, lambda reader: axdr.read(reader) if reader.flag() else None)
DATA_ACCESS_RESULT = result(DataAccessResult)
ACTION_RESULT = result(ActionResult)
STATE_ERROR = result(ExceptionState)
INVOKE = Part(_write_invoke, lambda reader: _INVOKES[reader.u8()])
ATTRIBUTE = Part(_write_member, lambda reader: Attribute(*_MEMBER.unpack(reader.take(9))))
METHOD = Part(_write_member, lambda reader: Method(*_MEMBER.unpack(reader.take(9))))
ACCESS = Part(_write_access, _read_access)
SELECTION = Part(_write_selection, lambda reader: Selection(ATTRIBUTE.read(reader), _read_access(reader)))
DATA_OR_RESULT = Part(_write_data_or_result, _read_data_or_result)
RAW_OR_RESULT = Part(_write_raw_or_result, _read_raw_or_result)
RETURN_PARAMETERS = Part(_write_return, _read_return)
OUTCOME = Part(
    lambda outcome: U8.write(outcome.result) + _write_return(outcome.data, outcome.data_result),
    lambda reader: ActionOutcome(ACTION_RESULT.read(reader), *_read_return(reader)),
)
SERVICE_ERROR = Part(_write_service_error, _read_service_error)
BLOCK_CONTROL = Part(_write_block_control, _read_block_control)
