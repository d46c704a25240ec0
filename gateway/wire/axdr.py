"""A-XDR values as COSEM uses them: the tagged `Data` of the Blue Book and its octets (IEC 61334-6, Green Book
"A-XDR"; tags from the COSEM ASN.1, `Data ::= CHOICE`).

Nesting and the number of values are bounded: no octets can make a decoder recurse, allocate or work without end.
Raises `WireError` and nothing else.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple, cast

from gateway.errors import WireError
from gateway.wire.reader import MAX_ELEMENTS, Reader

MAX_DEPTH = 16
"""Levels of nesting. Standard classes need six at the most (Blue Book)."""


class Tag(IntEnum):
    """The types of `Data` (COSEM ASN.1). Delta types and dont-care are not used by any class we talk to."""

    NULL = 0
    ARRAY = 1
    STRUCTURE = 2
    BOOLEAN = 3
    BIT_STRING = 4
    DOUBLE_LONG = 5
    DOUBLE_LONG_UNSIGNED = 6
    OCTET_STRING = 9
    VISIBLE_STRING = 10
    UTF8_STRING = 12
    BCD = 13
    INTEGER = 15
    LONG = 16
    UNSIGNED = 17
    LONG_UNSIGNED = 18
    COMPACT_ARRAY = 19
    LONG64 = 20
    LONG64_UNSIGNED = 21
    ENUM = 22
    FLOAT32 = 23
    FLOAT64 = 24
    DATE_TIME = 25
    DATE = 26
    TIME = 27


class BitString(NamedTuple):
    """Bits, bit 0 leftmost (the most significant bit of the first octet). The unused bits of the last octet
    are kept as they came: they mean nothing."""

    octets: bytes
    length: int
    """In bits."""


class TypeDescription(NamedTuple):
    """What every element of a compact array is."""

    tag: Tag
    elements: tuple[TypeDescription, ...] = ()
    """The types of a structure's members, or the one type of an array's elements."""
    repeat: int = 0
    """How many elements an array inside a compact array has."""


class CompactArray(NamedTuple):
    """An array whose type is told once, for all elements."""

    description: TypeDescription
    elements: tuple[Data, ...]


Value = None | bool | int | float | bytes | str | BitString | CompactArray | tuple["Data", ...]


@dataclass(frozen=True, slots=True)
class Data:
    """A value with its type. `value` is None for null; bool, int, float; bytes for octet-string, date-time, date
    and time; str for visible-string (one character an octet) and utf8-string; BitString; a tuple of Data for
    array and structure; CompactArray."""

    tag: Tag
    value: Value = None


class DateTime(NamedTuple):
    """The members of a date-time of 12 octets (Blue Book, "Date and time formats"), not interpreted: 0xFF and
    0xFFFF mean "not specified", as does -0x8000 for the deviation."""

    year: int
    month: int
    day: int
    weekday: int
    hour: int
    minute: int
    second: int
    hundredths: int
    deviation_min: int
    clock_status: int

    @classmethod
    def decode(cls, octets: bytes) -> DateTime:
        """Take `octets` apart; WireError if they are not 12."""
        if len(octets) != _DATE_TIME.size:
            raise WireError(f"date-time of {len(octets)} octets, 12 expected")
        return cls(*_DATE_TIME.unpack(octets))


# -- constructors of what a client sends ----------------------------------------------------------------------


def null() -> Data:
    return Data(Tag.NULL)


def boolean(value: bool) -> Data:
    return Data(Tag.BOOLEAN, value)


def true_as_ff() -> Data:
    """TRUE with all bits set: any octet but 0 is TRUE (IEC 61334-6), and some meters take only this one."""
    return Data(Tag.BOOLEAN, 0xFF)


def integer(value: int) -> Data:
    """8 bits, signed."""
    return Data(Tag.INTEGER, value)


def unsigned(value: int) -> Data:
    """8 bits."""
    return Data(Tag.UNSIGNED, value)


def u16(value: int) -> Data:
    """long-unsigned."""
    return Data(Tag.LONG_UNSIGNED, value)


def u32(value: int) -> Data:
    """double-long-unsigned."""
    return Data(Tag.DOUBLE_LONG_UNSIGNED, value)


def enum(value: int) -> Data:
    return Data(Tag.ENUM, value)


def octet_string(value: bytes) -> Data:
    return Data(Tag.OCTET_STRING, value)


def bit_string(octets: bytes, length: int) -> Data:
    """`length` bits, bit 0 leftmost."""
    return Data(Tag.BIT_STRING, BitString(octets, length))


def structure(*members: Data) -> Data:
    return Data(Tag.STRUCTURE, members)


def array(*elements: Data) -> Data:
    return Data(Tag.ARRAY, elements)


def members(data: Data) -> tuple[Data, ...]:
    """The members of a structure, the elements of an array, compact or not; WireError for any other value."""
    if isinstance(data.value, CompactArray):
        return data.value.elements
    if data.tag not in (Tag.ARRAY, Tag.STRUCTURE) or not isinstance(data.value, tuple):
        raise WireError(f"{data.tag.name.lower()}, a structure or an array with its members expected")
    return cast("tuple[Data, ...]", data.value)


# -- octets ---------------------------------------------------------------------------------------------------


def encode(data: Data) -> bytes:
    """The octets of `data`; WireError if the value does not fit its tag."""
    return bytes((data.tag,)) + _encode_contents(data)


def decode(octets: bytes, *, most_elements: int = MAX_ELEMENTS) -> Data:
    """The one value that `octets` are; WireError if they are short, too many or not A-XDR, or hold more values."""
    reader = Reader(octets, most_elements=most_elements)
    data = read(reader)
    reader.finish()
    return data


def decode_at(octets: bytes, start: int) -> tuple[Data, int]:
    """The value that begins at `start`, and where it ends."""
    reader = Reader(octets, start)
    return read(reader), reader.position


def encode_length(length: int) -> bytes:
    """The shortest form: one octet up to 127, then 81 xx, 82 xx xx ... (the same as BER's definite form)."""
    if length < 0x80:
        return bytes((length,))
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((0x80 | len(octets),)) + octets


def decode_length(octets: bytes, start: int) -> tuple[int, int]:
    """A length and where it ends. Forms longer than needed are accepted, the indefinite one is not."""
    reader = Reader(octets, start)
    return reader.length(), reader.position


def read(reader: Reader) -> Data:
    """The tagged value that comes next."""
    reader.spend(1)
    return _read(reader, 0)


# -- private --------------------------------------------------------------------------------------------------

_DATE_TIME = struct.Struct(">HBBBBBBBhB")

_NUMBERS = {
    Tag.DOUBLE_LONG: struct.Struct(">i"),
    Tag.DOUBLE_LONG_UNSIGNED: struct.Struct(">I"),
    Tag.BCD: struct.Struct(">b"),
    Tag.INTEGER: struct.Struct(">b"),
    Tag.LONG: struct.Struct(">h"),
    Tag.UNSIGNED: struct.Struct(">B"),
    Tag.LONG_UNSIGNED: struct.Struct(">H"),
    Tag.LONG64: struct.Struct(">q"),
    Tag.LONG64_UNSIGNED: struct.Struct(">Q"),
    Tag.ENUM: struct.Struct(">B"),
    Tag.FLOAT32: struct.Struct(">f"),
    Tag.FLOAT64: struct.Struct(">d"),
}
_DATES = {Tag.DATE_TIME: 12, Tag.DATE: 5, Tag.TIME: 4}


def _read(reader: Reader, depth: int) -> Data:
    number = reader.u8()
    try:
        tag, contents = _KINDS[number]
    except KeyError:
        raise _no_tag(number) from None
    return Data(tag, contents(reader, depth))


def _read_members(reader: Reader, depth: int) -> tuple[Data, ...]:
    depth = _deeper(depth)
    return tuple([_read(reader, depth) for _ in range(reader.count())])


def _read_bits(reader: Reader, _: int) -> BitString:
    length = reader.length()
    return BitString(reader.take((length + 7) // 8), length)


def _read_utf8(reader: Reader, _: int) -> str:
    try:
        return reader.counted().decode("utf-8")
    except UnicodeDecodeError as error:
        raise WireError(f"utf8-string that is not UTF-8 at octet {error.start}") from None


def _read_compact_array(reader: Reader, depth: int) -> CompactArray:
    depth = _deeper(depth)
    description = _read_description(reader, depth)
    end = reader.length() + reader.position
    elements = []
    while (start := reader.position) < end:
        elements.append(_read_described(reader, description, depth))
        if reader.position == start:
            raise WireError("compact array whose elements take no room")
    if start != end:
        raise WireError(f"compact array whose contents end at {end}, inside an element")
    return CompactArray(description, tuple(elements))


def _read_description(reader: Reader, depth: int) -> TypeDescription:
    reader.spend(1)
    number = reader.u8()
    if number not in _KINDS:
        raise _no_tag(number)
    tag = _KINDS[number].tag
    if tag is Tag.ARRAY:
        repeat = reader.u16()
        return TypeDescription(tag, (_read_description(reader, _deeper(depth)),), repeat)
    if tag is Tag.STRUCTURE:
        depth = _deeper(depth)
        return TypeDescription(tag, tuple([_read_description(reader, depth) for _ in range(reader.count())]))
    return TypeDescription(tag)


def _read_described(reader: Reader, description: TypeDescription, depth: int) -> Data:
    reader.spend(1)
    tag, types, repeat = description
    if tag is Tag.ARRAY:
        return Data(tag, tuple([_read_described(reader, types[0], depth) for _ in range(repeat)]))
    if tag is Tag.STRUCTURE:
        return Data(tag, tuple([_read_described(reader, type_, depth) for type_ in types]))
    return Data(tag, _KINDS[tag].contents(reader, depth))


def _deeper(depth: int) -> int:
    if depth == MAX_DEPTH:
        raise WireError(f"values nested more than {MAX_DEPTH} deep")
    return depth + 1


def _number(layout: struct.Struct) -> Callable[[Reader, int], Value]:
    unpack, size = layout.unpack, layout.size
    return lambda reader, _: unpack(reader.take(size))[0]


def _fixed(size: int) -> Callable[[Reader, int], Value]:
    return lambda reader, _: reader.take(size)


class _Kind(NamedTuple):
    tag: Tag
    contents: Callable[[Reader, int], Value]
    """Reads a value without its tag; the number is the depth it stands at."""


_KINDS: dict[int, _Kind] = {
    kind.tag: kind
    for kind in (
        _Kind(Tag.NULL, lambda _, __: None),
        _Kind(Tag.ARRAY, _read_members),
        _Kind(Tag.STRUCTURE, _read_members),
        _Kind(Tag.BOOLEAN, lambda reader, _: reader.u8() != 0),
        _Kind(Tag.BIT_STRING, _read_bits),
        _Kind(Tag.OCTET_STRING, lambda reader, _: reader.counted()),
        _Kind(Tag.VISIBLE_STRING, lambda reader, _: reader.counted().decode("latin-1")),
        _Kind(Tag.UTF8_STRING, _read_utf8),
        _Kind(Tag.COMPACT_ARRAY, _read_compact_array),
        *[_Kind(tag, _number(layout)) for tag, layout in _NUMBERS.items()],
        *[_Kind(tag, _fixed(size)) for tag, size in _DATES.items()],
    )
}


def _no_tag(number: int) -> WireError:
    return WireError(f"{number:02x} is no tag of a COSEM value")


def _encode_contents(data: Data) -> bytes:
    tag = data.tag
    match data.value:
        case None if tag is Tag.NULL:
            return b""
        case bool(value) if tag is Tag.BOOLEAN:
            return b"\x01" if value else b"\x00"
        case 0xFF if tag is Tag.BOOLEAN:
            return b"\xff"
        case int() | float() as value if tag in _NUMBERS:
            return _pack(tag, value)
        case bytes(value) if tag is Tag.OCTET_STRING:
            return encode_length(len(value)) + value
        case bytes(value) if len(value) == _DATES.get(tag):
            return value
        case str(value) if tag is Tag.VISIBLE_STRING:
            return _encode_text(value, "latin-1")
        case str(value) if tag is Tag.UTF8_STRING:
            return _encode_text(value, "utf-8")
        case BitString(octets, length) if tag is Tag.BIT_STRING and len(octets) == (length + 7) // 8:
            return encode_length(length) + octets
        case CompactArray(description, elements) if tag is Tag.COMPACT_ARRAY:
            contents = b"".join([_encode_described(element, description) for element in elements])
            return _encode_description(description) + encode_length(len(contents)) + contents
        case tuple() if tag in (Tag.ARRAY, Tag.STRUCTURE):
            return encode_length(len(members(data))) + b"".join([encode(member) for member in members(data)])
        case value:
            raise WireError(f"a {type(value).__name__} does not fit {tag.name.lower()}")


def _pack(tag: Tag, value: float) -> bytes:
    try:
        return _NUMBERS[tag].pack(value)
    except (struct.error, OverflowError):
        raise WireError(f"{value} does not fit {tag.name.lower()}") from None


def _encode_text(text: str, encoding: str) -> bytes:
    try:
        octets = text.encode(encoding)
    except UnicodeEncodeError as error:
        raise WireError(f"character {error.start} of a text does not fit {encoding}") from None
    return encode_length(len(octets)) + octets


def _encode_description(description: TypeDescription) -> bytes:
    tag, types, repeat = description
    head = bytes((tag,))
    if tag is Tag.ARRAY:
        head += _pack(Tag.LONG_UNSIGNED, repeat)
    elif tag is Tag.STRUCTURE:
        head += encode_length(len(types))
    return head + b"".join([_encode_description(member) for member in types])


def _encode_described(data: Data, description: TypeDescription) -> bytes:
    tag, types, repeat = description
    if data.tag is not tag:
        raise WireError(f"{data.tag.name.lower()} in a compact array of {tag.name.lower()}")
    if tag not in (Tag.ARRAY, Tag.STRUCTURE):
        return _encode_contents(data)
    if tag is Tag.ARRAY:
        types *= repeat
    if len(members(data)) != len(types):
        raise WireError(f"{len(members(data))} members in a compact array of {len(types)}")
    return b"".join(map(_encode_described, members(data), types))
