"""HDLC frames as DLMS/COSEM uses them, frame format type 3 of ISO/IEC 13239 (IEC 62056-46):

    7E | format 2 | destination 1, 2, 4 | source 1, 2, 4 | control 1 | [HCS 2 | information] | FCS 2 | 7E

Both ends use this module: `gateway.wire.hdlc_client` is the primary station on top of it, the simulator has the
secondary one. A frame is read by its length field, in bulk; there is no octet stuffing, so 7E may stand inside.
"""

from __future__ import annotations

from binascii import crc_hqx
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

from gateway.errors import WireError

SMALLEST_INFO = 32
LARGEST_INFO = 2030
"""The octets of information that may be negotiated (IEC 62056-46, 6.4.4.4.3.2)."""
LARGEST_WINDOW = 7

_FLAG = 0x7E
_FLAG_OCTET = b"\x7e"
_FORMAT_TYPE = 0xA0
_SEGMENTED_BIT = 0x08
_LARGEST_LENGTH = 0x7FF
_LONGEST_HEADER = 13
"""Format 2, addresses 4 and 4, control 1, header check 2."""


# -- addresses ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Address:
    """A station address (IEC 62056-46): `upper` is the logical device or the client, `lower` the
    physical device; None in an address of one octet.

    `octets` is the length on the line, 0: what the values need. It never counts in a comparison: some meters
    answer with 4 octets where 2 would do.
    """

    upper: int
    lower: int | None = None
    octets: int = field(default=0, compare=False)

    def __str__(self) -> str:
        """As "upper/lower", or "upper" alone."""
        return str(self.upper) if self.lower is None else f"{self.upper}/{self.lower}"

    def encode(self) -> bytes:
        """The octets on the line. WireError where the values do not fit the length."""
        return _encode_address(self.upper, self.lower, self.octets)

    @classmethod
    def decode(cls, octets: bytes) -> Address:
        """The address in exactly these octets. WireError where they are not one address of 1, 2 or 4 octets."""
        address = _decode_address(bytes(octets))
        if address is None:
            raise WireError(f"HDLC address {octets.hex()}: expected 1, 2 or 4 octets, the last one odd")
        return address


@lru_cache(maxsize=512)
def _encode_address(upper: int, lower: int | None, octets: int) -> bytes:
    if not octets:
        octets = 1 if lower is None else 2 if max(upper, lower) < 0x80 else 4
    match octets:
        case 1 if lower is None and 0 <= upper < 0x80:
            return bytes((upper << 1 | 1,))
        case 2 if lower is not None and 0 <= upper < 0x80 and 0 <= lower < 0x80:
            return bytes((upper << 1, lower << 1 | 1))
        case 4 if lower is not None and 0 <= upper < 0x4000 and 0 <= lower < 0x4000:
            return bytes((upper >> 7 << 1, (upper & 0x7F) << 1, lower >> 7 << 1, (lower & 0x7F) << 1 | 1))
    raise WireError(f"HDLC address {upper}/{lower} does not fit {octets} octets")


@lru_cache(maxsize=512)
def _decode_address(octets: bytes) -> Address | None:
    if not octets or not octets[-1] & 1 or any(octet & 1 for octet in octets[:-1]):
        return None
    groups = [octet >> 1 for octet in octets]
    match groups:
        case [upper]:
            return Address(upper, None, 1)
        case [upper, lower]:
            return Address(upper, lower, 2)
        case [upper_high, upper_low, lower_high, lower_low]:
            return Address(upper_high << 7 | upper_low, lower_high << 7 | lower_low, 4)
    return None


# -- frames ---------------------------------------------------------------------------------------------------


class FrameType(Enum):
    """The frames of the normal response mode; the value is the control octet without P/F and numbers
    (IEC 62056-46). There is no REJ."""

    I = 0x00  # noqa: E741
    RR = 0x01
    RNR = 0x05
    SNRM = 0x83
    DISC = 0x43
    UA = 0x63
    DM = 0x0F
    FRMR = 0x87
    UI = 0x03


class Frame(NamedTuple):
    """One whole frame whose checks were right, or that is to be sent."""

    destination: Address
    source: Address
    type: FrameType
    poll_final: bool
    send_seq: int = 0
    """N(S), of I frames only."""
    receive_seq: int = 0
    """N(R), of I, RR and RNR."""
    info: bytes = b""
    segmented: bool = False

    def encode(self) -> bytes:
        """The octets on the line with both flags. WireError where the frame would be longer than 2047 octets."""
        return encode_frame(
            self.destination.encode() + self.source.encode(),
            control_octet(self.type, self.poll_final, self.send_seq, self.receive_seq),
            self.info,
            segmented=self.segmented,
        )


@dataclass(frozen=True, slots=True)
class Damaged:
    """Octets that were to be a frame and are none. Where the header check was right and the frame check wrong,
    addresses, type, N(R) and P/F may still be used, nothing else (IEC 62056-46); else they are None."""

    reason: str
    header: Frame | None = None
    """What the sound header says, without information."""


def control_octet(type_: FrameType, poll_final: bool, send_seq: int = 0, receive_seq: int = 0) -> int:
    """The control octet (IEC 62056-46)."""
    if type_ is FrameType.I:
        return information_octet(poll_final, send_seq, receive_seq)
    octet: int = type_.value | poll_final << 4
    if type_ is FrameType.RR or type_ is FrameType.RNR:
        return octet | (receive_seq & 7) << 5
    return octet


def information_octet(poll_final: bool, send_seq: int, receive_seq: int) -> int:
    """The control octet of an I frame."""
    return (receive_seq & 7) << 5 | poll_final << 4 | (send_seq & 7) << 1


def describe_frmr(info: bytes) -> str:
    """What a FRMR says of the frame it rejects, for people: control octet, V(S), V(R), and the reasons w (control
    octet unknown), x (information not allowed), y (too long), z (N(R) wrong) (ISO/IEC 13239). Never branch
    on it: meters fill it in as they like."""
    if len(info) != 3:
        return f"FRMR {info.hex()}"
    reasons = "".join(name for bit, name in enumerate("wxyz") if info[2] >> bit & 1)
    return f"rejected control {info[0]:02x}, V(S)={info[1] >> 1 & 7}, V(R)={info[1] >> 5}, reasons {reasons or 'none'}"


def encode_frame(addresses: bytes, control: int, info: bytes = b"", *, segmented: bool = False) -> bytes:
    """A frame from its already encoded parts: `addresses` is destination and source in a row.

    WireError where it would be longer than the length field can say.
    """
    length = len(addresses) + (len(info) + 7 if info else 5)
    if length > _LARGEST_LENGTH:
        raise WireError(f"HDLC frame of {length} octets: the length field ends at {_LARGEST_LENGTH}")
    opening = _opening(length, segmented, addresses, control)
    if not info:
        return opening + _FLAG_OCTET
    # After any octets and their right check the register holds the residue: the frame check goes on from there.
    frame_check = _check_octets(crc_hqx(info.translate(_REVERSED), _RESIDUE))
    return b"".join((opening, info, frame_check, _FLAG_OCTET))


@lru_cache(maxsize=1024)
def _opening(length: int, segmented: bool, addresses: bytes, control: int) -> bytes:
    """Flag, header and its check. A transfer writes the same few again and again."""
    format_octet = _FORMAT_TYPE | (_SEGMENTED_BIT if segmented else 0) | length >> 8
    header = b"".join((bytes((format_octet, length & 0xFF)), addresses, bytes((control,))))
    return b"".join((_FLAG_OCTET, header, _check_octets(crc_hqx(header.translate(_REVERSED), 0xFFFF))))


# FCS-16 (RFC 1662, appendix C) takes each octet from its least significant bit, crc_hqx from the most significant one
# with the same polynomial: reverse the octets before, reverse and invert the result. All loops are then in C.
_REVERSED = bytes(int(f"{octet:08b}"[::-1], 2) for octet in range(256))
_RESIDUE = 0x1D0F
"""What crc_hqx holds after octets and their right check."""


def _check_octets(register: int) -> bytes:
    return (register ^ 0xFFFF).to_bytes(2, "big").translate(_REVERSED)


def _control_table() -> tuple[tuple[FrameType, bool, int, int] | None, ...]:
    table: list[tuple[FrameType, bool, int, int] | None] = [None] * 256
    for type_ in FrameType:
        for poll_final in (False, True):
            for send_seq in range(8):
                for receive_seq in range(8):
                    octet = control_octet(type_, poll_final, send_seq, receive_seq)
                    table[octet] = table[octet] or (type_, poll_final, send_seq, receive_seq)
    return tuple(table)


_CONTROLS = _control_table()
"""Type, P/F, N(S) and N(R) of each control octet; None: no frame of this mode."""


class FrameReader:
    """Finds the frames in what a line delivers, in pieces of any size.

    It never raises, holds at most one frame's octets, and after anything odd goes on at the next 7E. Two frames may
    share one flag. It believes a length only after the header check, so a damaged length costs no waiting.
    """

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, octets: bytes) -> list[Frame | Damaged]:
        """What is complete now, in order."""
        if self._buffer != _FLAG_OCTET or octets[:1] != _FLAG_OCTET:
            octets = self._buffer + octets
        found: list[Frame | Damaged] = []
        last = len(octets) - 1
        start = octets.find(_FLAG_OCTET)
        while 0 <= start < last:
            taken = take_frame(octets, start)
            if taken is None:
                break
            event, start = taken
            if event is not None:
                found.append(event)
            start = octets.find(_FLAG_OCTET, start)
        self._buffer = octets[start:] if start >= 0 else b""
        return found

    def reset(self) -> None:
        """Forget a frame that has begun: the line was silent since."""
        self._buffer = b""


def take_frame(octets: bytes, start: int) -> tuple[Frame | Damaged | None, int] | None:
    """Read at the flag at `start`: what was found (None: only a flag), and where to look for the next flag, which is
    the closing one of what was a frame, and else what follows `start`. None: more octets are needed. Each decision
    needs a fixed stretch of octets and never looks beyond it, so that any chunking gives the same events."""
    begin = start + 1
    head = octets[begin : begin + _LONGEST_HEADER]
    if not head:
        return None
    if head[0] == _FLAG:
        return None, begin
    header = _read_header(head)
    if header is None:
        return None
    if isinstance(header, Damaged):
        return header, begin
    bare, body_at, length = header
    end = begin + length
    if len(octets) <= end:
        return None
    if octets[end] != _FLAG:
        return Damaged(f"no flag after the {length} octets of the length field", bare), begin
    if body_at == length:
        return bare, end
    body = octets[begin + body_at : end]
    if crc_hqx(body.translate(_REVERSED), _RESIDUE) != _RESIDUE:
        return Damaged("frame check wrong", bare), end
    destination, source, type_, poll_final, send_seq, receive_seq, _, segmented = bare
    return Frame(destination, source, type_, poll_final, send_seq, receive_seq, body[:-2], segmented), end


@lru_cache(maxsize=1024)
def _read_header(head: bytes) -> tuple[Frame, int, int] | Damaged | None:
    """The frame without its information, where the information and the closing flag are, counted from the octet
    after the opening flag. None: more octets are needed. A line hears the same few again and again."""
    if head[0] & 0xF0 != _FORMAT_TYPE:
        return Damaged(f"frame format type {head[0] >> 4:x}, expected a")
    source_at = _address_end(head, 2)
    control_at = source_at and _address_end(head, source_at)
    if not control_at:
        return Damaged("an address of more than 4 octets")
    body_at = control_at + 3
    if len(head) < body_at:
        return None
    length = (head[0] << 8 | head[1]) & _LARGEST_LENGTH
    if length != body_at and length < body_at + 2:
        return Damaged(f"length field {length}, header and checks alone are {body_at}")
    if crc_hqx(head[:body_at].translate(_REVERSED), 0xFFFF) != _RESIDUE:
        return Damaged("header check wrong" if length > body_at else "frame check wrong")
    destination = _decode_address(head[2:source_at])
    source = _decode_address(head[source_at:control_at])
    control = _CONTROLS[head[control_at]]
    if destination is None or source is None or control is None:
        return Damaged(f"addresses or control octet {head[2 : control_at + 1].hex()} mean nothing")
    segmented = bool(head[0] & _SEGMENTED_BIT)
    return Frame(destination, source, *control, segmented=segmented), body_at, length


def _address_end(head: bytes, start: int) -> int:
    """Where the address at `start` ends; beyond the head: more octets are needed; 0: it has no end."""
    for end in range(start + 1, start + 5):
        if end > len(head):
            return _LONGEST_HEADER
        if head[end - 1] & 1:
            return end
    return 0


# -- negotiation ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Parameters:
    """What one side proposes or allows: octets of information in a frame, and frames in a row without an
    acknowledgement. "tx" and "rx" are seen from the side that says it (IEC 62056-46, 6.4.4.4.3.2)."""

    max_info_tx: int = 128
    max_info_rx: int = 128
    window_tx: int = 1
    window_rx: int = 1

    def encode(self) -> bytes:
        """The information field of an SNRM or UA: all four parameters. WireError where one is out of bounds."""
        sizes, windows = (self.max_info_tx, self.max_info_rx), (self.window_tx, self.window_rx)
        if min(sizes) < SMALLEST_INFO or max(sizes) > LARGEST_INFO:
            raise WireError(f"information of {sizes} octets: expected {SMALLEST_INFO} to {LARGEST_INFO}")
        if min(windows) < 1 or max(windows) > LARGEST_WINDOW:
            raise WireError(f"windows {windows}: expected 1 to {LARGEST_WINDOW}")
        values = b"".join(
            bytes((number, octets)) + value.to_bytes(octets, "big")
            for number, value, octets in (
                (_MAX_INFO_TX, self.max_info_tx, 1 if self.max_info_tx < 0x100 else 2),
                (_MAX_INFO_RX, self.max_info_rx, 1 if self.max_info_rx < 0x100 else 2),
                (_WINDOW_TX, self.window_tx, 4),
                (_WINDOW_RX, self.window_rx, 4),
            )
        )
        return bytes((_FORMAT_IDENTIFIER, _PARAMETER_GROUP, len(values))) + values

    @classmethod
    def decode(cls, info: bytes) -> Parameters:
        """By id, in any order, of any length; what is absent has its default, an unknown id is skipped.

        WireError where the octets are no parameter group, or a value is 0.
        """
        if not info:
            return cls()
        if (
            info[:2] != bytes((_FORMAT_IDENTIFIER, _PARAMETER_GROUP))
            or len(info) < 3
            or len(info) < 3 + info[2]
        ):
            raise WireError(f"HDLC parameters {info.hex()}: expected 81 80, a length and as many octets")
        values: dict[int, int] = {}
        at, end = 3, 3 + info[2]
        while at < end:
            value_at = at + 2
            next_at = value_at + info[at + 1] if value_at <= end else end + 1
            if next_at > end:
                raise WireError(f"HDLC parameters {info.hex()}: parameter {info[at]} is cut off")
            if next_at > value_at:
                values[info[at]] = int.from_bytes(info[value_at:next_at], "big")
            at = next_at
        parameters = cls(
            values.get(_MAX_INFO_TX, 128),
            values.get(_MAX_INFO_RX, 128),
            values.get(_WINDOW_TX, 1),
            values.get(_WINDOW_RX, 1),
        )
        if 0 in (parameters.max_info_tx, parameters.max_info_rx, parameters.window_tx, parameters.window_rx):
            raise WireError(f"{parameters}: 0 is no size and no window")
        return parameters


def negotiated(ours: Parameters, answer: Parameters) -> Parameters:
    """What holds for us after our proposal and the other side's answer: the smaller of each pair, their transmit
    against our receive (IEC 62056-46, 6.4.4.4.3.2). Symmetric: the meter's side calls it with SNRM and its own."""
    return Parameters(
        max_info_tx=min(ours.max_info_tx, answer.max_info_rx),
        max_info_rx=min(ours.max_info_rx, answer.max_info_tx),
        window_tx=min(ours.window_tx, answer.window_rx),
        window_rx=min(ours.window_rx, answer.window_tx),
    )


_FORMAT_IDENTIFIER = 0x81
_PARAMETER_GROUP = 0x80
_MAX_INFO_TX = 0x05
_MAX_INFO_RX = 0x06
_WINDOW_TX = 0x07
_WINDOW_RX = 0x08
