"""A pcapng file of what goes over a line, for Wireshark and its tools (draft-ietf-opsawg-pcapng).

No link type is registered for HDLC as DLMS/COSEM uses it, nor for the TCP wrapper without IP around it: those that
sound like it (C_HDLC, SLIP) would be taken apart as something else. LINKTYPE_USER0 is for such cases. Wireshark shows
its octets, takes them apart with a plugin where one is assigned to user DLT 0, and each packet carries what we know of
it as a comment.
"""

from __future__ import annotations

import struct
from datetime import datetime
from typing import BinaryIO

LINKTYPE_USER0 = 147

_SECTION_HEADER, _INTERFACE_DESCRIPTION, _ENHANCED_PACKET = 0x0A0D0D0A, 1, 6
_BYTE_ORDER_MAGIC = 0x1A2B3C4D
_LENGTH_UNKNOWN = -1
_COMMENT = 1
_USER_APPLICATION = 4
_NAME, _DESCRIPTION, _TIME_RESOLUTION = 2, 3, 9
_FLAGS, _DROP_COUNT = 2, 4
_MICROSECONDS = b"\x06"
_INBOUND, _OUTBOUND = 1, 2
_COMMENT_LIMIT = 4000


class PcapngWriter:
    """Writes one section with one interface. All numbers are little-endian, as the first block says."""

    def __init__(self, file: BinaryIO, *, program: str, interface: str, description: str) -> None:
        self._file = file
        header = struct.pack("<IHHq", _BYTE_ORDER_MAGIC, 1, 0, _LENGTH_UNKNOWN)
        self._block(_SECTION_HEADER, header, [(_USER_APPLICATION, program.encode())])
        options = [
            (_NAME, interface.encode()),
            (_DESCRIPTION, description.encode()),
            (_TIME_RESOLUTION, _MICROSECONDS),
        ]
        self._block(_INTERFACE_DESCRIPTION, struct.pack("<HHI", LINKTYPE_USER0, 0, 0), options)

    def packet(
        self, at: datetime, octets: bytes, *, outbound: bool, comment: str = "", lost: int = 0
    ) -> None:
        """One frame; `lost`: how many pieces are missing before it."""
        microseconds = round(at.timestamp() * 1e6)
        head = struct.pack(
            "<IIIII", 0, microseconds >> 32, microseconds & 0xFFFFFFFF, len(octets), len(octets)
        )
        options = [(_FLAGS, struct.pack("<I", _OUTBOUND if outbound else _INBOUND))]
        if lost:
            options.append((_DROP_COUNT, struct.pack("<Q", lost)))
        if comment:
            options.append((_COMMENT, comment[:_COMMENT_LIMIT].encode()))
        self._block(_ENHANCED_PACKET, head + _padded(octets), options)

    def flush(self) -> None:
        self._file.flush()

    def _block(self, kind: int, body: bytes, options: list[tuple[int, bytes]]) -> None:
        for code, value in options:
            body += struct.pack("<HH", code, len(value)) + _padded(value)
        body += bytes(4)  # the end of the options
        length = struct.pack("<I", len(body) + 12)
        self._file.write(struct.pack("<I", kind) + length + body + length)


def _padded(octets: bytes) -> bytes:
    return octets + bytes(-len(octets) % 4)
